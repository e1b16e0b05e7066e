//! What this member answers to its peers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest};
use openraft::storage::{Snapshot, SnapshotMeta};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::clock;
use crate::ids::{EntryIndex, PhysicalOffset};
use crate::raft::applied::AppliedState;
use crate::raft::checkpointer::{StoreParts, aside};
use crate::raft::chronicle::{Cause, Chronicle};
use crate::raft::consumers::{Consumers, GROUPS_MAX};
use crate::raft::doubt::Doubt;
use crate::raft::forwarded::Forwarded;
use crate::raft::heard::Heard;
use crate::raft::incoming::Introduced;
use crate::raft::introduction::{Introduction, Refusal, Told, of_stranger};
use crate::raft::lineage::{Belonging, Said};
use crate::raft::membership;
use crate::raft::offers::Offers;
use crate::raft::role::Role;
use crate::raft::room::Room;
use crate::raft::scrub::{self, Checked};
#[cfg(test)]
use crate::raft::simulation::planted::{Bug, is_planted};
use crate::raft::snapshot;
use crate::raft::state_machine::StateMachine;
use crate::raft::succession::LeaderStream;
use crate::raft::type_config::{Ballot, RaftLogId, StoredMembership, TypeConfig, entry_id};
use crate::raft::version::Reads;
use crate::raft::wire::proto::peer_server::Peer;
use crate::raft::wire::{self, proto};
use crate::raft::wire_codec::{DAMAGED, tell_damage};
use crate::store::entry::crc32c;
use crate::store::{self, CommitLog, EntryId, Files, StoredEntry};

/// Largest snapshot taken from a peer, bytes. Tables, not messages: a million groups fit.
const SNAPSHOT_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// A snapshot whose next piece does not come for so long is given up, or nobody else could send one.
const CHUNK_PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of entries sent for a repair at once; one entry is sent whatever it has.
const REPAIR_BYTES: u64 = 4 * 1024 * 1024;

/// The peer service of one group.
pub(super) struct PeerService {
    raft: Raft<TypeConfig, StateMachine>,
    role: watch::Receiver<Role>,
    own: Arc<Introduction>,
    belonging: Belonging,
    files: Arc<dyn Files>,
    log: CommitLog,
    applied: AppliedState,
    checked: Checked,
    doubt: Doubt,
    room: Arc<Room>,
    offers: Offers,
    heard: Arc<Heard>,
    gone: Arc<Notify>,
    chronicle: Chronicle,
    forwarded: Arc<Forwarded>,
    consumers: Consumers,
    /// An operator had this member hand leadership over.
    yields: Arc<AtomicBool>,
    /// Refusals that were told lately.
    told: Mutex<Told>,
    /// Held while a snapshot comes in: one at a time, for each may be large.
    turn: tokio::sync::Mutex<()>,
}

impl PeerService {
    /// Answers as `own`. `core` takes part in the group, and says what this member is and whether it
    /// handed leadership over on request; `stored` is how far it is, and what its scrub found whole;
    /// `fitness` whether it may vote, whether entries fit, and whether it offers to serve readers;
    /// `news` hear that there is a leader, or an election, that a leader's stream has ended, and why
    /// one hands over; `forwarded` takes what others pass on, and `consumers` are connected here.
    pub(super) fn new(
        (own, belonging): (Introduction, Belonging),
        core: (Raft<TypeConfig, StateMachine>, watch::Receiver<Role>, Arc<AtomicBool>),
        stored: (&StoreParts, AppliedState, Checked),
        fitness: (Doubt, Arc<Room>, Offers),
        news: (Arc<Heard>, Arc<Notify>, Chronicle),
        (forwarded, consumers): (Arc<Forwarded>, Consumers),
    ) -> Self {
        let ((raft, role, yields), own) = (core, Arc::new(own));
        let (parts, applied, checked) = stored;
        let (files, log) = (Arc::clone(&parts.files), parts.log.clone());
        let ((doubt, room, offers), (heard, gone, chronicle)) = (fitness, news);
        let (told, turn) = (Mutex::default(), tokio::sync::Mutex::default());
        Self {
            raft,
            role,
            own,
            belonging,
            files,
            log,
            applied,
            checked,
            doubt,
            room,
            yields,
            offers,
            heard,
            gone,
            chronicle,
            forwarded,
            consumers,
            told,
            turn,
        }
    }

    /// The caller of a call that tells this member something: a store without entries joins the
    /// caller's lineage by it.
    fn check<T>(&self, request: &Request<T>) -> Result<Introduction, Status> {
        let (caller, said) = self.introduced(request)?;
        self.belonging.follow(&caller.member, said).map_err(fatal)?;
        Ok(caller)
    }

    /// Reads what nobody may have read for long on a thread: the disk takes its time for it.
    async fn read_aside<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let no_thread = || Err(Status::unavailable("it has no thread to read the log"));
        aside(&*self.files, read).await.unwrap_or_else(no_thread)
    }

    /// The caller of a call that only asks.
    fn introduced<T>(&self, request: &Request<T>) -> Result<(Introduction, Said), Status> {
        let Some(introduced) = request.extensions().get::<Introduced>() else {
            return Err(Status::internal("a call that came by no connection"));
        };
        let (active, said) = (self.applied.active().get(), self.belonging.said());
        let caller = self.own.check(active, said, request.metadata());
        caller.inspect(|_| introduced.note()).map_err(|refusal| {
            if let Refusal::OtherStore { caller, .. } = &refusal {
                self.heard.note_former(caller);
            }
            match &refusal {
                // Peers ask several times a second.
                Refusal::Differs { .. }
                | Refusal::Newer { .. }
                | Refusal::Older { .. }
                | Refusal::OtherLineage { .. }
                    if self.told.lock().is_news(&refusal, clock::now()) =>
                {
                    tracing::warn!(%refusal, "refused a peer");
                }
                Refusal::Differs { .. }
                | Refusal::Newer { .. }
                | Refusal::Older { .. }
                | Refusal::OtherLineage { .. }
                | Refusal::OtherStore { .. }
                | Refusal::Damaged { .. }
                | Refusal::NotIntroduced(_) => {
                    tracing::debug!(%refusal, "refused a call");
                }
            }
            let code = match refusal {
                Refusal::Damaged { .. } => DAMAGED,
                Refusal::Differs { .. }
                | Refusal::Newer { .. }
                | Refusal::Older { .. }
                | Refusal::OtherLineage { .. }
                | Refusal::OtherStore { .. }
                | Refusal::NotIntroduced(_) => Code::FailedPrecondition,
            };
            let status = Status::new(code, refusal.to_string());
            match refusal {
                Refusal::Differs { what: "brokerClusterName" | "dLegerGroup", .. }
                | Refusal::OtherLineage { .. } => of_stranger(status),
                _ => status,
            }
        })
    }
}

fn fatal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

fn in_doubt() -> Status {
    Status::failed_precondition("this member may have forgotten entries and does not vote yet")
}

fn malformed(error: &wire::Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Peer for PeerService {
    type AppendStream = Answers<proto::AppendResponse>;
    type ProposeStream = Answers<proto::ProposeResponse>;

    async fn append(
        &self,
        request: Request<Streaming<proto::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let from = self.check(&request)?.member;
        // A request that cannot be read ends the stream: the leader starts a new one.
        let requests = request.into_inner().map(move |message| readable(&from, message));
        let requests = requests.take_while(|request| std::future::ready(request.is_some()));
        let requests = requests.filter_map(std::future::ready);
        // What does not fit waits here, and all behind it: votes and heartbeats come another way.
        let room = Arc::clone(&self.room);
        let requests = requests.then(move |request| {
            let room = Arc::clone(&room);
            async move {
                room.for_entries(&request.entries).await;
                request
            }
        });
        let answers = self.raft.stream_append(Box::pin(requests));
        let heard = Arc::clone(&self.heard);
        let stream = LeaderStream(Arc::clone(&self.gone));
        let answers = answers.map(move |result| match result {
            Ok(result) => {
                let LeaderStream(_) = &stream; // lives as long as these answers
                if result.is_ok() {
                    heard.note(clock::now());
                }
                Ok(wire::append_response(result))
            }
            Err(error) => Err(fatal(error)),
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn heartbeat(
        &self,
        request: Request<proto::AppendRequest>,
    ) -> Result<Response<proto::AppendResponse>, Status> {
        self.check(&request)?;
        let request = wire::to_append_request(request.into_inner()).map_err(|e| malformed(&e))?;
        let previous = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id).or(previous);
        let answer = self.raft.append_entries(request).await.map_err(fatal)?;
        let answer = answer.into_stream_result(previous, last);
        if answer.is_ok() {
            self.heard.note(clock::now());
        }
        let no_room = self.room.shortage().map(|why| why.to_string()).unwrap_or_default();
        let slow_disk = self.room.slowness().map(|why| why.to_string()).unwrap_or_default();
        let in_doubt = !self.doubt.is_over();
        let serves_readers = self.offers.own();
        let answer = proto::AppendResponse {
            no_room,
            in_doubt,
            serves_readers,
            slow_disk,
            ..wire::append_response(answer)
        };
        Ok(Response::new(answer))
    }

    async fn propose(
        &self,
        request: Request<Streaming<proto::ProposeRequest>>,
    ) -> Result<Response<Self::ProposeStream>, Status> {
        let from = self.check(&request)?.member;
        let refusals = Arc::clone(&self.forwarded).serve(from, request.into_inner());
        Ok(Response::new(Box::pin(refusals)))
    }

    async fn vote(
        &self,
        request: Request<proto::VoteRequest>,
    ) -> Result<Response<proto::VoteResponse>, Status> {
        self.check(&request)?;
        let request = request.into_inner();
        let pre_vote = request.pre_vote;
        let request = wire::to_vote_request(request).map_err(|error| malformed(&error))?;
        if !self.doubt.may_vote(request.last_log_id) {
            return Err(in_doubt());
        }
        let answer = if pre_vote {
            let mut answer = self.raft.pre_vote(request).await.map_err(fatal)?;
            // It may have elected a leader that it has not heard yet: a later term deposes that one.
            answer.vote_granted &= !self.heard.is_electing(clock::now());
            answer
        } else {
            let answer = self.raft.vote(request).await.map_err(fatal)?;
            if answer.vote_granted {
                self.heard.voted(clock::now());
            }
            answer
        };
        Ok(Response::new(wire::vote_response(&answer)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<proto::SnapshotChunk>>,
    ) -> Result<Response<proto::SnapshotResponse>, Status> {
        let caller = self.check(&request)?;
        let Ok(_turn) = self.turn.try_lock() else {
            return Err(Status::resource_exhausted("another snapshot is coming in"));
        };
        let mut chunks = request.into_inner();
        let head = head_of(&mut chunks).await?;
        let vote = wire::to_vote(head.ballot).map_err(|error| malformed(&error))?;
        let (own, committed) = {
            let metrics = self.raft.metrics().borrow_watched().clone();
            (metrics.vote, metrics.local_committed)
        };
        if vote < own {
            return Ok(Response::new(proto::SnapshotResponse { ballot: Some(wire::vote(&own)) }));
        }
        let last = head.last.map(wire::to_log_id);
        is_possible(last, &vote, committed)?;
        let snapshot = collect(&head, chunks).await?;
        let state = snapshot::decode(&snapshot)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if state.progress.last != last.as_ref().map(entry_id) {
            return Err(Status::invalid_argument("a snapshot of another entry than its head says"));
        }
        drop(state);
        tracing::info!(
            from = caller.member,
            ?last,
            bytes = snapshot.len(),
            "installing a snapshot"
        );
        let members = membership::decode(&head.membership)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let membership_id = head.membership_log_id.map(wire::to_log_id);
        let last_membership = StoredMembership::new(membership_id, members);
        let meta = SnapshotMeta { last_log_id: last, last_membership };
        let answer = self
            .raft
            .install_full_snapshot(vote, Snapshot { meta, snapshot })
            .await
            .map_err(fatal)?;
        Ok(Response::new(proto::SnapshotResponse { ballot: Some(wire::vote(&answer.vote)) }))
    }

    async fn transfer_leader(
        &self,
        request: Request<proto::TransferRequest>,
    ) -> Result<Response<proto::TransferResponse>, Status> {
        self.check(&request)?;
        let request = request.into_inner();
        let from = wire::to_vote(request.from).map_err(|error| malformed(&error))?;
        if !self.doubt.is_over() {
            return Ok(Response::new(proto::TransferResponse { in_doubt: true }));
        }
        self.chronicle.hands_over(Cause::of_wire(request.why));
        let last = request.last.map(wire::to_log_id);
        let transfer = TransferLeaderRequest::new(from, request.to, last);
        // Refused, it is told of a vote that differs or entries that it lacks: the leader polls.
        let _ = self.raft.handle_transfer_leader(transfer).await.map_err(fatal)?;
        Ok(Response::new(proto::TransferResponse { in_doubt: false }))
    }

    async fn state(
        &self,
        request: Request<proto::StateRequest>,
    ) -> Result<Response<proto::StateResponse>, Status> {
        self.introduced(&request)?;
        let initialized = self.raft.is_initialized().await.map_err(fatal)?;
        let role = self.role.borrow().clone();
        let leader = role.leader(&self.own.member).map(str::to_owned);
        Ok(Response::new(proto::StateResponse {
            member: self.own.member.clone(),
            store_id: self.own.store_id,
            empty: !initialized,
            last: self.log.last().map(|id| proto::LogId { term: id.term.0, index: id.index.0 }),
            term: role.term().0,
            leader: leader.unwrap_or_default(),
            leader_dead_in: self.heard.dead_in().map_or(0, |term| term.0),
            wall_ms: clock::wall_ms(),
            peers: self.own.members.clone(),
            recorded: wire::recorded(&self.applied.progress().membership),
            yields: self.yields.load(Ordering::Relaxed),
            reads_from: Reads::OWN.oldest.0.into(),
            reads_to: Reads::OWN.newest.0.into(),
            serves_readers: self.offers.own(),
        }))
    }

    async fn repair(
        &self,
        request: Request<proto::RepairRequest>,
    ) -> Result<Response<proto::RepairResponse>, Status> {
        let caller = self.check(&request)?;
        let previous = request.into_inner().previous.map(|id| entry_id(&wire::to_log_id(id)));
        let log = self.log.clone();
        let entries = self.read_aside(move || following(&log, previous)).await?;
        tracing::info!(to = caller.member, entries = entries.len(), "sent entries for a repair");
        let committed = self.applied.progress().last;
        Ok(Response::new(wire::repair_response(entries, committed)))
    }

    async fn hashes(
        &self,
        request: Request<proto::HashesRequest>,
    ) -> Result<Response<proto::HashesResponse>, Status> {
        use proto::hashes_request::Of;
        self.check(&request)?;
        let hashes = match request.into_inner().of {
            Some(Of::Stretch(start)) => {
                self.checked.hash_of(PhysicalOffset(start)).into_iter().collect()
            }
            Some(Of::Entries(proto::EntryRange { from, to })) => {
                let applied = self.applied.progress().last.map_or(0, |last| last.index.0 + 1);
                let (from, to) = (EntryIndex(from), EntryIndex(to.min(applied)));
                let log = self.log.clone();
                let hash = move || match scrub::entry_hashes(&log, from, to) {
                    Ok(hashes) => Ok(hashes),
                    Err(store::Error::Purged { .. } | store::Error::Damaged { .. }) => Ok(vec![]),
                    Err(error) => Err(fatal(error)),
                };
                self.read_aside(hash).await?
            }
            None => return Err(Status::invalid_argument("hashes of nothing")),
        };
        Ok(Response::new(proto::HashesResponse { hashes }))
    }

    async fn consumers(
        &self,
        request: Request<proto::ConsumersRequest>,
    ) -> Result<Response<proto::ConsumersResponse>, Status> {
        self.introduced(&request)?;
        let groups = request.into_inner().groups;
        if groups.len() > GROUPS_MAX {
            let text =
                format!("consumers of {} groups asked for, at most {GROUPS_MAX}", groups.len());
            return Err(Status::invalid_argument(text));
        }
        Ok(Response::new(self.consumers.own(&groups)))
    }
}

/// The entries after `previous`, if that is in the log, up to the first that is damaged.
fn following(log: &CommitLog, previous: Option<EntryId>) -> Result<Vec<StoredEntry>, Status> {
    let from = match previous {
        None => EntryIndex(0),
        Some(id) if id.index < log.first_index() && log.purged() != Some(id) => {
            return Err(Status::out_of_range("it has purged it"));
        }
        Some(id) if log.id_of(id.index) != Some(id) => {
            return Err(Status::not_found("it does not have what is before it"));
        }
        Some(id) => id.index.next(),
    };
    match log.whole_entries(from, EntryIndex(u64::MAX), REPAIR_BYTES) {
        Ok(entries) if entries.is_empty() => Err(Status::not_found("it does not have it")),
        Ok(entries) => Ok(entries),
        Err(store::Error::Purged { .. }) => Err(Status::out_of_range("it has purged it")),
        Err(error @ store::Error::Damaged { .. }) => {
            tracing::warn!(%error, "a peer asked for an entry that is damaged here, too");
            Err(Status::data_loss("it is damaged there, too"))
        }
        Err(error) => Err(fatal(error)),
    }
}

fn readable(
    from: &str,
    message: Result<proto::AppendRequest, Status>,
) -> Option<AppendEntriesRequest<TypeConfig>> {
    let message = message.inspect_err(|status| tell_damage(from, status)).ok()?;
    let request = wire::to_append_request(message)
        .inspect_err(|error| tracing::warn!(from, %error, "a peer sent a damaged append"))
        .ok();
    #[cfg(test)]
    if is_planted(Bug::AppliesWhatComes) {
        return request.map(|request| AppendEntriesRequest {
            leader_commit: request.entries.last().map(|e| e.log_id).or(request.leader_commit),
            ..request
        });
    }
    request
}

/// Refuses what no leader of `vote` sends: openraft takes it for granted, and panics.
fn is_possible(
    last: Option<RaftLogId>,
    vote: &Ballot,
    committed: Option<RaftLogId>,
) -> Result<(), Status> {
    let Some(last) = last else {
        return Err(Status::invalid_argument("a snapshot of nothing"));
    };
    if last.leader_id.term > vote.leader_id.term {
        return Err(Status::invalid_argument("a snapshot of a later term than its leader's"));
    }
    if committed.is_some_and(|own| last > own && last.index <= own.index) {
        return Err(Status::invalid_argument("a snapshot that contradicts what is committed"));
    }
    Ok(())
}

async fn next_chunk(
    chunks: &mut Streaming<proto::SnapshotChunk>,
) -> Result<Option<proto::SnapshotChunk>, Status> {
    let chunk = tokio::time::timeout(CHUNK_PATIENCE, chunks.message()).await;
    chunk.map_err(|_| Status::deadline_exceeded("a snapshot does not go on"))?
}

async fn head_of(
    chunks: &mut Streaming<proto::SnapshotChunk>,
) -> Result<proto::SnapshotHead, Status> {
    let head = next_chunk(chunks)
        .await?
        .and_then(|chunk| chunk.head)
        .ok_or_else(|| Status::invalid_argument("a snapshot starts with its head"))?;
    if head.bytes > SNAPSHOT_BYTES_MAX {
        let (bytes, limit) = (head.bytes, SNAPSHOT_BYTES_MAX);
        let text = format!("a snapshot of {bytes} bytes is larger than the limit of {limit}");
        return Err(Status::invalid_argument(text));
    }
    Ok(head)
}

async fn collect(
    head: &proto::SnapshotHead,
    mut chunks: Streaming<proto::SnapshotChunk>,
) -> Result<Bytes, Status> {
    let mut data = BytesMut::new();
    while let Some(chunk) = next_chunk(&mut chunks).await? {
        if (data.len() + chunk.data.len()) as u64 > head.bytes {
            return Err(Status::invalid_argument("a snapshot is longer than its head says"));
        }
        data.extend_from_slice(&chunk.data);
    }
    if data.len() as u64 != head.bytes {
        let text = format!("a snapshot of {} bytes arrived with {}", head.bytes, data.len());
        return Err(Status::invalid_argument(text));
    }
    let found = crc32c(&data);
    if found != head.crc {
        let said = head.crc;
        let text =
            format!("a snapshot's checksum is {found:#010x}, not {said:#010x} as its head says");
        return Err(Status::new(DAMAGED, text));
    }
    Ok(data.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{StoreId, Term};
    use crate::raft::type_config::{ballot, log_id};

    #[test]
    fn a_snapshot_that_no_leader_sends_is_refused() {
        let id = |term, index| log_id(EntryId { term: Term(term), index: EntryIndex(index) });
        let rows = [
            (Some(id(3, 9)), 3, None, true),
            (Some(id(2, 9)), 3, Some(id(2, 5)), true),
            (Some(id(2, 5)), 3, Some(id(2, 5)), true),
            (None, 3, None, false),
            (Some(id(4, 9)), 3, None, false),
            (Some(id(3, 5)), 3, Some(id(2, 5)), false),
        ];
        for (last, term, committed, want) in rows {
            let vote = ballot(Term(term), StoreId(1), true);
            let got = is_possible(last, &vote, committed).is_ok();
            assert_eq!(got, want, "{last:?} {term} {committed:?}");
        }
    }
}
