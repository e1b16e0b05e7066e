//! Calls to other members: tonic behind openraft's network traits.
//!
//! Three connections per peer, so that a vote or a heartbeat never waits behind bulk data: `Log`
//! (the append stream), `Control` (heartbeats, votes, transfers, state), `Snapshot`. A connection
//! is made by the first call after a loss, and the name is resolved again each time. Who the peers
//! are, and where, says the [`Directory`].

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
    RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use crate::ids::{EntryIndex, PhysicalOffset, StoreId};
use crate::raft::catch_up::CatchUps;
use crate::raft::chronicle::Chronicle;
use crate::raft::commit_news::{CommitNews, Eager};
use crate::raft::dial::{Dial, Links};
use crate::raft::directory::Directory;
use crate::raft::doubt::Doubt;
use crate::raft::introduction::{Introduction, of_stranger};
use crate::raft::lineage::Belonging;
use crate::raft::membership::{self, Member};
use crate::raft::offers::Offers;
use crate::raft::pacing::{Paced, Pacer};
use crate::raft::peers::Peers;
use crate::raft::room::Room;
use crate::raft::type_config::{StoredMembership, TypeConfig};
use crate::raft::version::Active;
use crate::raft::wire::proto::peer_client::PeerClient;
use crate::raft::wire::{self, proto};
use crate::raft::wire_codec::tell_damage;
use crate::store::EntryId;
use crate::store::entry::crc32c;

/// Largest message between members, bytes: two full entries and their framing.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// HTTP/2 windows that let a batch of entries through without waiting for an update.
pub(super) const WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Largest HTTP/2 frame.
pub(super) const FRAME_BYTES: u32 = 1024 * 1024;
const SNAPSHOT_CHUNK_BYTES: usize = 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// A silent peer is given up after twice this: a cut link closes nothing by itself.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
const RETRY_PAUSE: Duration = Duration::from_millis(50);

type CallError = RPCError<TypeConfig>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    Log,
    Control,
    Snapshot,
}

/// Connections to all peers. Cloning shares them.
#[derive(Clone)]
pub(super) struct Network {
    own: Arc<Introduction>,
    belonging: Belonging,
    active: Active,
    directory: Arc<Directory>,
    links: Arc<dyn Links>,
    channels: Arc<Mutex<BTreeMap<(String, Purpose), Called>>>,
}

/// A connection, and where to.
struct Called {
    address: String,
    channel: Channel,
}

impl Network {
    /// Calls as `own`, of a group that writes `active`. Nothing is connected until the first call.
    pub(super) fn new(
        (own, belonging): (Introduction, Belonging),
        active: Active,
        peers: Peers,
        links: Arc<dyn Links>,
    ) -> Self {
        let directory = Arc::new(Directory::new(&own.member, peers));
        Self { own: Arc::new(own), belonging, active, directory, links, channels: Arc::default() }
    }

    /// Which lineage of its group it is of.
    pub(super) fn belonging(&self) -> &Belonging {
        &self.belonging
    }

    /// The version that its group writes.
    pub(super) fn active(&self) -> &Active {
        &self.active
    }

    /// Names of the other members: as the newest membership has it that is known here, else as
    /// configured.
    pub(super) fn others(&self) -> Vec<String> {
        self.directory.others()
    }

    /// Of those the ones that vote.
    pub(super) fn other_voters(&self) -> Vec<String> {
        self.directory.other_voters()
    }

    /// Whether a store votes.
    pub(super) fn votes(&self, store: u64) -> bool {
        self.directory.votes(store)
    }

    /// Also of those that are only configured.
    pub(super) fn all_others(&self) -> BTreeSet<String> {
        self.directory.all_others()
    }

    /// From now on these are the members, as this one's log has it. Others are called no more.
    pub(super) fn learn(&self, membership: &StoredMembership) {
        self.directory.learn(*membership.log_id(), membership.membership());
        let others = self.all_others();
        self.channels.lock().retain(|(name, _), _| others.contains(name));
    }

    /// Asks a member who it is and how far; `callee` unknown. Another member's answer is none: an
    /// address may be outdated, and whoever counts answers must not count anybody twice.
    pub(super) async fn state(
        &self,
        name: &str,
        limit: Duration,
    ) -> Result<proto::StateResponse, Status> {
        let channel = self.channel(name, &self.address(name), Purpose::Control)?;
        self.state_by(channel, name, limit).await
    }

    /// Asks who is at an address, and may be no member yet; it has to be `name`.
    pub(super) async fn state_at(
        &self,
        (name, address): (&str, &str),
        limit: Duration,
    ) -> Result<proto::StateResponse, Status> {
        let channel = self.dial(address)?;
        self.state_by(channel, name, limit).await
    }

    async fn state_by(
        &self,
        channel: Channel,
        name: &str,
        limit: Duration,
    ) -> Result<proto::StateResponse, Status> {
        let request = self.to_whichever(proto::StateRequest {}, limit);
        let answer = within(limit, PeerClient::new(channel).state(request)).await?;
        if answer.member != name {
            let text = format!("{} answers there", answer.member);
            return Err(of_stranger(Status::failed_precondition(text)));
        }
        Ok(answer)
    }

    /// Takes over what a member said of who belongs to the group.
    pub(super) fn hear(&self, answer: &proto::StateResponse) {
        answer.recorded.iter().for_each(|recorded| self.directory.hear(recorded));
    }

    /// Asks a member for the entries that follow `previous`.
    pub(super) async fn entries_after(
        &self,
        name: &str,
        previous: Option<EntryId>,
        limit: Duration,
    ) -> Result<proto::RepairResponse, Status> {
        let address = self.address(name);
        let channel = self.channel(name, &address, Purpose::Snapshot)?;
        let previous = previous.map(|id| proto::LogId { term: id.term.0, index: id.index.0 });
        let request = self.to_whichever(proto::RepairRequest { previous }, limit);
        let mut client = PeerClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        within(limit, client.repair(request)).await
    }

    /// Asks a member for the hash of a stretch of the log; `None` if it has not checked that.
    pub(super) async fn stretch_hash(
        &self,
        name: &str,
        start: PhysicalOffset,
        limit: Duration,
    ) -> Result<Option<u64>, Status> {
        let of = proto::hashes_request::Of::Stretch(start.0);
        Ok(self.hashes(name, of, limit).await?.first().copied())
    }

    /// Asks a member for the hashes of entries: as many of `from..to` as it has, the first ones.
    pub(super) async fn entry_hashes(
        &self,
        name: &str,
        (from, to): (EntryIndex, EntryIndex),
        limit: Duration,
    ) -> Result<Vec<u64>, Status> {
        let range = proto::EntryRange { from: from.0, to: to.0 };
        self.hashes(name, proto::hashes_request::Of::Entries(range), limit).await
    }

    async fn hashes(
        &self,
        name: &str,
        of: proto::hashes_request::Of,
        limit: Duration,
    ) -> Result<Vec<u64>, Status> {
        let address = self.address(name);
        let channel = self.channel(name, &address, Purpose::Control)?;
        let request = self.to_whichever(proto::HashesRequest { of: Some(of) }, limit);
        Ok(within(limit, PeerClient::new(channel).hashes(request)).await?.hashes)
    }

    /// Asks a member who consumes there in each of these groups.
    pub(super) async fn consumers(
        &self,
        name: &str,
        groups: Vec<String>,
        limit: Duration,
    ) -> Result<proto::ConsumersResponse, Status> {
        let channel = self.channel(name, &self.address(name), Purpose::Control)?;
        let request = self.to_whichever(proto::ConsumersRequest { groups }, limit);
        within(limit, PeerClient::new(channel).consumers(request)).await
    }

    /// Passes on to a member what clients asked this one to propose; what it refuses comes back.
    pub(super) async fn propose(
        &self,
        name: &str,
        requests: impl Stream<Item = proto::ProposeRequest> + Send + 'static,
    ) -> Result<Streaming<proto::ProposeResponse>, Status> {
        let address = self.address(name);
        // Of a follower nothing else goes that way.
        let channel = self.channel(name, &address, Purpose::Log)?;
        let mut request = Request::new(requests);
        self.introduce(&mut request);
        let mut client = PeerClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(client.propose(request).await?.into_inner())
    }

    /// A call to a member, whichever store it has.
    fn to_whichever<T>(&self, message: T, limit: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(limit);
        self.introduce(&mut request);
        request
    }

    fn introduce<T>(&self, request: &mut Request<T>) {
        let (active, said) = (self.active.get(), self.belonging.said());
        self.own.to(StoreId(0)).put(active, said, request.metadata_mut());
    }

    /// Whether a call to a member is refused: its machine is there, and nobody listens.
    pub(super) async fn is_refused(&self, name: &str) -> bool {
        let address = self.address(name);
        let call = tokio::time::timeout(CONNECT_TIMEOUT, self.links.connect(address)).await;
        matches!(call, Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// The configured address of a member, or the one that the group recorded.
    pub(super) fn address(&self, name: &str) -> String {
        self.directory.address(name, None)
    }

    fn channel(&self, name: &str, address: &str, purpose: Purpose) -> Result<Channel, Status> {
        let mut channels = self.channels.lock();
        let key = (name.to_owned(), purpose);
        if let Some(called) = channels.get(&key).filter(|called| called.address == address) {
            return Ok(called.channel.clone());
        }
        let channel = self.dial(address)?;
        channels.insert(key, Called { address: address.to_owned(), channel: channel.clone() });
        Ok(channel)
    }

    fn dial(&self, address: &str) -> Result<Channel, Status> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| Status::invalid_argument(format!("address {address}: {error}")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        let dial = Dial { address: address.to_owned(), links: Arc::clone(&self.links) };
        Ok(endpoint.connect_with_connector_lazy(dial))
    }
}

/// Whether a call may have failed because its connection was lost, perhaps long ago: another one
/// tells how things are now.
pub(super) fn is_of_a_lost_connection(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal)
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(Status::deadline_exceeded(format!("no answer within {limit:?}"))),
    }
}

/// Makes openraft's connections, which hear of others' room, doubts and offers.
pub(super) struct Connecting {
    network: Network,
    room: Arc<Room>,
    doubt: Doubt,
    offers: Offers,
    /// Who waits for news.
    eager: Eager,
    /// Hears of elections that this member begins, and says why leadership is handed over.
    chronicle: Chronicle,
    /// Says how fast learners get the log.
    catch_ups: CatchUps,
}

impl Connecting {
    /// Calls by `network`; what is heard goes to the others.
    pub(super) fn new(
        network: &Network,
        room: &Arc<Room>,
        doubt: &Doubt,
        offers: &Offers,
        (eager, chronicle): (&Eager, &Chronicle),
        catch_ups: &CatchUps,
    ) -> Self {
        let (network, room, doubt) = (network.clone(), Arc::clone(room), doubt.clone());
        let (offers, eager, chronicle) = (offers.clone(), eager.clone(), chronicle.clone());
        let catch_ups = catch_ups.clone();
        Self { network, room, doubt, offers, eager, chronicle, catch_ups }
    }

    fn connection(&self, target: u64, member: &Member, purpose: Purpose) -> Connection {
        let network = &self.network;
        let address = network.directory.address(&member.name, Some(&member.address));
        Connection {
            introduction: network.own.to(StoreId(target)),
            belonging: network.belonging.clone(),
            active: network.active.clone(),
            peer: Arc::from(member.name.as_str()),
            channel: network.channel(&member.name, &address, purpose),
            control: network.channel(&member.name, &address, Purpose::Control),
            purpose,
            room: Arc::clone(&self.room),
            doubt: self.doubt.clone(),
            offers: self.offers.clone(),
            eager: self.eager.clone(),
            chronicle: self.chronicle.clone(),
            catch_ups: self.catch_ups.clone(),
            pacer: Arc::new(Mutex::new(Pacer::new(Instant::now()))),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Connecting {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, member: &Member) -> Connection {
        self.connection(target, member, Purpose::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, member: &Member) -> Connection {
        self.connection(target, member, Purpose::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, member: &Member) -> Connection {
        self.connection(target, member, Purpose::Snapshot)
    }
}

/// One purpose's connection to one peer.
pub(super) struct Connection {
    introduction: Introduction,
    belonging: Belonging,
    active: Active,
    /// Its name.
    peer: Arc<str>,
    channel: Result<Channel, Status>,
    control: Result<Channel, Status>,
    purpose: Purpose,
    room: Arc<Room>,
    doubt: Doubt,
    offers: Offers,
    eager: Eager,
    chronicle: Chronicle,
    catch_ups: CatchUps,
    pacer: Arc<Mutex<Pacer>>,
}

impl Connection {
    fn client(&self) -> Result<PeerClient<Channel>, CallError> {
        let channel = self.channel.clone().map_err(call_error)?;
        Ok(PeerClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// openraft votes through the client that it replicates with: votes take the other connection.
    fn control(&self) -> Result<PeerClient<Channel>, CallError> {
        Ok(PeerClient::new(self.control.clone().map_err(call_error)?))
    }

    fn request<T>(&self, message: T, limit: Option<Duration>) -> Request<T> {
        let mut request = Request::new(message);
        let (active, said) = (self.active.get(), self.belonging.said());
        self.introduction.put(active, said, request.metadata_mut());
        if let Some(limit) = limit {
            request.set_timeout(limit);
        }
        request
    }

    fn failed(&self, status: Status) -> CallError {
        tell_damage(&self.peer, &status);
        call_error(status)
    }

    async fn ask_vote(
        &self,
        request: VoteRequest<TypeConfig>,
        pre_vote: bool,
        option: &RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, CallError> {
        let message = wire::vote_request(&request, pre_vote);
        let request = self.request(message, Some(option.hard_ttl()));
        let answer = self.control()?.vote(request).await;
        let answer = answer.map_err(|status| self.failed(status))?;
        wire::to_vote_response(answer.into_inner()).map_err(|error| malformed(&error))
    }
}

#[allow(clippy::needless_pass_by_value)] // the form that `map_err` takes
fn call_error(status: Status) -> CallError {
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::FailedPrecondition | Code::Cancelled => {
            RPCError::Unreachable(Unreachable::new(&status))
        }
        _ => RPCError::Network(NetworkError::new(&status)),
    }
}

fn malformed(error: &wire::Malformed) -> CallError {
    RPCError::Network(NetworkError::from_string(error))
}

fn append_answer(
    peer: &str,
    answer: Result<proto::AppendResponse, Status>,
) -> Result<StreamAppendResult<TypeConfig>, CallError> {
    let answer = answer.inspect_err(|status| tell_damage(peer, status));
    wire::to_append_response(&answer.map_err(call_error)?).map_err(|error| malformed(&error))
}

impl NetStreamAppend<TypeConfig> for Connection {
    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, CallError>>, CallError>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let mut client = self.client()?;
            if self.purpose == Purpose::Control {
                let Some(heartbeat) = input.next().await else {
                    return Err(RPCError::Network(NetworkError::from_string("nothing to send")));
                };
                let message = wire::append_request(heartbeat);
                let request = self.request(message, None);
                let mut answer = client.heartbeat(request).await.map(tonic::Response::into_inner);
                if let Ok(answer) = &mut answer {
                    let no_room = std::mem::take(&mut answer.no_room);
                    self.room.heard(self.introduction.callee, no_room);
                    let slow_disk = std::mem::take(&mut answer.slow_disk);
                    self.room.heard_slow(self.introduction.callee, slow_disk);
                    self.doubt.heard(self.introduction.callee, answer.in_doubt);
                    self.offers.heard(self.introduction.callee, answer.serves_readers);
                }
                let answer = append_answer(&self.peer, answer);
                let only = futures_util::stream::once(std::future::ready(answer));
                return Ok(Box::pin(only) as BoxStream<'s, _>);
            }
            let (catch_ups, store) = (self.catch_ups.clone(), self.introduction.callee);
            let limit = move |end| catch_ups.limit(store, end);
            let paced = Paced::new(input, limit, Arc::clone(&self.pacer));
            let news = CommitNews::new(paced, Arc::clone(&self.peer), self.eager.clone());
            let requests = news.map(wire::append_request);
            let request = self.request(requests, None);
            let answers = client.append(request).await.map_err(call_error)?.into_inner();
            let peer = Arc::clone(&self.peer);
            Ok(Box::pin(answers.map(move |answer| append_answer(&peer, answer)))
                as BoxStream<'s, _>)
        })
    }
}

impl NetVote<TypeConfig> for Connection {
    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, CallError> {
        self.ask_vote(request, false, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, CallError> {
        self.chronicle.asks();
        self.ask_vote(request, true, &option).await
    }
}

impl NetSnapshot<TypeConfig> for Connection {
    type SnapshotData = Bytes;

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, Bytes>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let unreachable = |status: &Status| StreamingError::Unreachable(Unreachable::new(status));
        if snapshot.snapshot.is_empty() {
            // Tried again later: by then there may be one, or another leader.
            let lost = Status::unavailable("this member's snapshot is lost until it purges again");
            return Err(unreachable(&lost));
        }
        let channel = self.channel.clone().map_err(|status| unreachable(&status))?;
        let request = self.request(snapshot_chunks(&vote, &snapshot), None);
        let mut client = PeerClient::new(channel);
        let answer = tokio::select! {
            biased;
            closed = cancel => return Err(closed.into()),
            answer = client.install_snapshot(request) => answer,
        };
        let answer = answer.inspect_err(|status| tell_damage(&self.peer, status));
        let answer = answer.map_err(|status| unreachable(&status))?.into_inner();
        let vote = wire::to_vote(answer.ballot)
            .map_err(|error| StreamingError::Network(NetworkError::from_string(error)))?;
        Ok(SnapshotResponse::new(vote))
    }
}

fn snapshot_chunks(
    vote: &VoteOf<TypeConfig>,
    snapshot: &SnapshotOf<TypeConfig, Bytes>,
) -> impl Stream<Item = proto::SnapshotChunk> + Send + 'static {
    let meta = &snapshot.meta;
    let head = proto::SnapshotHead {
        ballot: Some(wire::vote(vote)),
        last: meta.last_log_id.map(wire::log_id),
        membership_log_id: meta.last_membership.log_id().map(wire::log_id),
        membership: membership::encode(meta.last_membership.membership()).into(),
        bytes: snapshot.snapshot.len() as u64,
        crc: crc32c(&snapshot.snapshot),
    };
    let mut chunks = vec![proto::SnapshotChunk { head: Some(head), data: Bytes::new() }];
    let mut rest = snapshot.snapshot.clone();
    while !rest.is_empty() {
        let data = rest.split_to(rest.len().min(SNAPSHOT_CHUNK_BYTES));
        chunks.push(proto::SnapshotChunk { head: None, data });
    }
    futures_util::stream::iter(chunks)
}

impl NetTransferLeader<TypeConfig> for Connection {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, CallError> {
        let message = proto::TransferRequest {
            from: Some(wire::vote(request.from_leader())),
            to: *request.to_node_id(),
            last: request.last_log_id().copied().map(wire::log_id),
            why: self.chronicle.meant().to_wire(),
        };
        let request = self.request(message, Some(option.hard_ttl()));
        let answer = self.control()?.transfer_leader(request).await;
        let answer = answer.map_err(|status| self.failed(status))?;
        self.doubt.heard(self.introduction.callee, answer.into_inner().in_doubt);
        Ok(Ok(()))
    }
}

impl NetBackoff<TypeConfig> for Connection {
    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(RETRY_PAUSE)))
    }
}
