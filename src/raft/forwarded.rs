//! What other members pass on to this one while it leads.
//!
//! Whoever passes something on reads in the log what became of it, and after the loss of a stream
//! or a leader takes for lost what was not there before its barrier ([`crate::raft::forward`]). So
//! two things are kept here:
//!
//! - once something is taken from one stream of a life, nothing is from its earlier ones;
//! - what was passed on to the leader of one term is appended in that term or never
//!   ([`Proposer::pass`]).
//!
//! And nothing is appended after its client has given up: what comes says until when, by the clock
//! that is told over each stream.
//!
//! A leader that passes leadership on takes nothing: its streams end, and others keep what they
//! have for its successor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::ids::Term;
use crate::raft::ProposeError;
use crate::raft::command::Command;
use crate::raft::commit_news::Eager;
use crate::raft::duplicates::Duplicates;
use crate::raft::filling::PassedOn;
use crate::raft::forward::Desk;
use crate::raft::forward_wire::{self, Asked};
use crate::raft::proposal::Proposal;
use crate::raft::proposer::Proposer;
use crate::raft::role::Role;
use crate::raft::room::Room;
use crate::raft::version::{Active, GroupVersion};
use crate::raft::wire::proto;
use crate::raft::wire_codec::tell_damage;

/// Refusals that may wait for the connection: beyond it the stream ends, and nothing is lost by it.
const REFUSALS: usize = 1024;
/// How often the clock is told: two clocks may differ by a thousandth meanwhile.
const TELL_CLOCK: Duration = Duration::from_secs(10);
/// How long a member that was just elected may take to be ready for what is passed on to it.
const READY: Duration = Duration::from_secs(1);

/// Takes what is passed on.
pub(super) struct Forwarded {
    proposer: Proposer,
    /// Where this member keeps what it is asked while it passes leadership on.
    desk: Desk,
    active: Active,
    role: watch::Receiver<Role>,
    room: Arc<Room>,
    eager: Eager,
    streams: Mutex<Streams>,
    /// What was stored, and who passed it on.
    duplicates: Duplicates,
    /// From when on the clock counts that others are told.
    started: Instant,
}

/// The last stream of each life in one term.
#[derive(Default)]
struct Streams {
    term: Term,
    last: BTreeMap<u64, u64>,
}

/// Lives of other members in one term: one for each of their starts.
const LIVES_MAX: usize = 4096;

impl Streams {
    /// Whether something may be taken from the stream `stream` of `life`, for the leader of `term`.
    fn enter(&mut self, term: Term, life: u64, stream: u64) -> bool {
        if term > self.term {
            *self = Self { term, last: BTreeMap::new() };
        }
        let last = self.last.get(&life).copied();
        let is_known = last.is_some() || self.last.len() < LIVES_MAX;
        let may = term == self.term && is_known && last.is_none_or(|last| last <= stream);
        if may {
            self.last.insert(life, stream);
        }
        may
    }
}

type Requests<S> = Result<S, Status>;

impl Forwarded {
    /// Proposes to `proposer` what has `room`, while this member leads, its `desk` holds nothing
    /// for a successor, and all members read entries that say who proposed what (`active`); `eager`
    /// hears whom to tell at once what is committed.
    pub(super) fn new(
        (proposer, desk, active): (Proposer, Desk, Active),
        role: watch::Receiver<Role>,
        room: Arc<Room>,
        (eager, duplicates): (Eager, Duplicates),
    ) -> Arc<Self> {
        let (streams, started) = (Mutex::default(), Instant::now());
        Arc::new(Self { proposer, desk, active, role, room, eager, streams, duplicates, started })
    }

    /// Takes what `requests` brings from the member `from`; the answers are refusals, and end with
    /// the stream.
    pub(super) fn serve(
        self: Arc<Self>,
        from: String,
        requests: impl Stream<Item = Requests<proto::ProposeRequest>> + Send + Unpin + 'static,
    ) -> impl Stream<Item = Result<proto::ProposeResponse, Status>> + Send + 'static {
        let (refusals, answers) = mpsc::channel(REFUSALS);
        tokio::spawn(async move {
            let status = self.take(&from, requests, &refusals).await;
            tracing::debug!(from, %status, "takes nothing more over this stream");
            // Who passed on may be gone.
            let _ = refusals.try_send(Err(status));
        });
        ReceiverStream::new(answers)
    }

    async fn take(
        &self,
        from: &str,
        mut requests: impl Stream<Item = Requests<proto::ProposeRequest>> + Send + Unpin,
        refusals: &mpsc::Sender<Result<proto::ProposeResponse, Status>>,
    ) -> Status {
        let (over, mut stays) = (CancellationToken::new(), None);
        let mut tell_clock = tokio::time::interval(TELL_CLOCK); // now, and then
        loop {
            let mut request = tokio::select! {
                biased;
                () = over.cancelled() => return Status::unavailable("this member does not lead"),
                () = refusals.closed() => return Status::cancelled("nobody hears refusals"),
                _ = tell_clock.tick() => {
                    let clock_ms = u64::try_from(self.started.elapsed().as_millis()).ok();
                    let told = proto::ProposeResponse { clock_ms, ..Default::default() };
                    if refusals.try_send(Ok(told)).is_err() {
                        return Status::cancelled("nobody hears refusals");
                    }
                    continue;
                }
                request = requests.next() => match request {
                    Some(Ok(request)) => request,
                    Some(Err(status)) => {
                        tell_damage(from, &status);
                        return status;
                    }
                    None => return Status::cancelled("the stream has ended"),
                },
            };
            let term = Term(request.term);
            if let Err(status) = self.ready(term).await {
                return status;
            }
            let (life, stream) = (request.life, request.stream);
            if !request.unanswered.is_empty() {
                // Their retries come behind this, if they come this way.
                self.duplicates.unanswered(forward_wire::take_unanswered(&mut request));
            }
            let asked = match forward_wire::to_asked(request) {
                Ok(asked) => asked,
                Err(error) => {
                    tracing::warn!(from, %error, "a peer passed on a damaged request");
                    return Status::invalid_argument(error.to_string());
                }
            };
            // As long as this is locked nothing is taken from another stream.
            let mut streams = self.streams.lock();
            if !streams.enter(term, life, stream) {
                return Status::failed_precondition(
                    "a later stream has taken the place of this one",
                );
            }
            self.eager.waits(from);
            stays.get_or_insert_with(|| self.duplicates.passers().came(life, from));
            asked.into_iter().for_each(|asked| self.propose(asked, term, refusals, &over));
        }
    }

    /// Waits until this member leads `term`, if it was elected in it, and may take something.
    async fn ready(&self, term: Term) -> Result<(), Status> {
        let mut role = self.role.clone();
        let leads = role.wait_for(|role| role.is_leader() || role.term() > term);
        let role = match tokio::time::timeout(READY, leads).await {
            Ok(Ok(role)) => role.clone(),
            Ok(Err(_)) | Err(_) => return Err(Status::unavailable("this member does not lead")),
        };
        if role != (Role::Leader { term }) {
            return Err(Status::failed_precondition(format!("this member does not lead {term}")));
        }
        if !self.active.has(GroupVersion::PASSES_ON) {
            return Err(Status::unavailable("not all members are known to read what is passed on"));
        }
        if self.desk.is_holding() {
            return Err(Status::unavailable("this member passes leadership on"));
        }
        Ok(())
    }

    fn propose(
        &self,
        asked: Asked,
        term: Term,
        refusals: &mpsc::Sender<Result<proto::ProposeResponse, Status>>,
        over: &CancellationToken,
    ) {
        let Asked { origin, until_ms, messages, commands } = asked;
        let (refusals, over) = (refusals.clone(), over.clone());
        let is_commit = |command: &Command| matches!(command, Command::CommitOffsets(_));
        let commits = commands.iter().any(is_commit).then(|| self.duplicates.passers().commits());
        let done = move |result: Result<_, ProposeError>| {
            drop(commits);
            let Err(error) = result else { return };
            let is_refusal = !error.is_in_doubt();
            match forward_wire::refused(origin.number, error) {
                Some(refused) => {
                    let refused = vec![refused];
                    let response = proto::ProposeResponse { refused, clock_ms: None };
                    if refusals.try_send(Ok(response)).is_err() {
                        over.cancel();
                    }
                }
                None if is_refusal => over.cancel(),
                None => {}
            }
        };
        let messages: SmallVec<_> = messages;
        let proposal = Proposal { messages, commands, done: Box::new(done) };
        match self.room.refusal(&proposal, self.proposer.waiting_bytes()) {
            Some(why) => (proposal.done)(Err(ProposeError::DiskFull { why })),
            None => {
                let until = self.started.checked_add(Duration::from_millis(until_ms));
                self.proposer.pass(proposal, PassedOn { origin, term, until });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_stream_of_a_life_ends_the_earlier_ones() {
        let mut streams = Streams::default();
        let rows = [
            (1, 7, 1, true),
            (1, 7, 1, true),
            (1, 8, 1, true),
            (1, 7, 2, true),
            (1, 7, 1, false),
            (1, 8, 1, true),
            (2, 7, 1, true),
            (1, 7, 3, false),
            (2, 7, 1, true),
        ];
        for (n, (term, life, stream, may)) in rows.into_iter().enumerate() {
            assert_eq!(streams.enter(Term(term), life, stream), may, "row {n}");
        }
        assert!((0..LIVES_MAX as u64).all(|life| streams.enter(Term(3), life, 1)));
        assert!(!streams.enter(Term(3), u64::MAX, 1), "bounded");
        assert!(streams.enter(Term(3), 5, 2));
    }
}
