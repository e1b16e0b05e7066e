//! openraft's type choices, and the conversions between its ids and ours.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use openraft::entry::RaftEntry;
use openraft::impls::{BoxedErrorSource, InlineBatch, TokioRuntime, Vote, leader_id_std};
use openraft::raft::responder::Responder;
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, LogId, OptionalSend};
use tokio::sync::Notify;

use crate::ids::{EntryIndex, StoreId, Term};
use crate::protocol::message::{Draft, RecordError};
use crate::raft::command::{Command, Outcome};
use crate::raft::digest::Digest;
use crate::raft::membership::{self, Member};
use crate::raft::proposal::Place;
use crate::store::entry::{EntryId, HEADER_BYTES, Header, Kind};
use crate::store::{ReceivedEntry, StoredEntry};

pub(super) type LeaderId = leader_id_std::LeaderId<u64, u64>;
pub(super) type CommittedLeaderId = <LeaderId as RaftLeaderId>::Committed;
pub(super) type RaftLogId = LogId<CommittedLeaderId>;
pub(super) type Ballot = Vote<LeaderId>;
pub(super) type Payload = EntryPayload<Arc<Batch>, u64, Member>;
pub(super) type Membership = openraft::Membership<u64, Member>;
pub(super) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;

/// The types of a group's Raft. Written by hand: `declare_raft_types!` cannot set the generic
/// responder.
#[derive(Debug, Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd)]
pub(super) struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Arc<Batch>;
    type R = Applied;
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Ballot;
    type Payload = Payload;
    type Entry = LogEntry;
    type Responder<T>
        = Answer<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type AsyncRuntime = TokioRuntime;
    type ErrorSource = BoxedErrorSource;
}

/// The content of one proposed data entry: everything that waited while the last one was appended.
#[derive(Default)]
pub(super) struct Batch {
    /// Messages, in log order.
    pub messages: Vec<Draft>,
    /// Commands, applied after the messages.
    pub commands: Vec<Command>,
    /// It is appended in this term or never.
    pub term: Option<Term>,
    /// It is appended by then or never.
    pub until: Option<tokio::time::Instant>,
    /// Told when it has its place in the log, or will have none.
    pub placed: Notify,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages, {} commands", self.messages.len(), self.commands.len())
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying an entry tells the proposer. Empty where nobody waits for it.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Of the entry's messages, ms.
    pub store_timestamp: i64,
    /// One per message.
    pub places: Vec<Place>,
    /// One per command.
    pub outcomes: Vec<Outcome>,
}

/// An entry that is in this member's log, or came from the leader.
#[derive(Clone)]
pub(super) enum Stored {
    /// What apply needs of it: it is in the log.
    Digested(Digest),
    /// Header and body in a segment.
    Mapped(StoredEntry),
    /// Header and body in a network buffer.
    Received(ReceivedEntry),
}

impl Stored {
    /// The entry's header.
    pub(super) fn header(&self) -> &Header {
        match self {
            Self::Digested(digest) => &digest.header,
            Self::Mapped(entry) => &entry.header,
            Self::Received(entry) => entry.header(),
        }
    }

    /// The whole entry; nothing where only its digest is here.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Digested(_) => &[],
            Self::Mapped(entry) => &entry.bytes,
            Self::Received(entry) => entry.bytes(),
        }
    }

    /// What apply needs.
    pub(super) fn digest(&self) -> Result<Cow<'_, Digest>, RecordError> {
        match self {
            Self::Digested(digest) => Ok(Cow::Borrowed(digest)),
            Self::Mapped(_) | Self::Received(_) => {
                Digest::of(self.header(), self.bytes()).map(Cow::Owned)
            }
        }
    }
}

/// openraft's view of an entry. `stored` is missing only on the leader until it is appended.
pub(super) struct LogEntry {
    /// Term and index.
    pub log_id: RaftLogId,
    /// What the entry says to Raft; of data, only that it is data.
    pub payload: Payload,
    /// The bytes.
    pub stored: Option<Stored>,
}

impl LogEntry {
    /// The entry whose bytes are `stored`.
    pub(super) fn from_stored(stored: Stored) -> Result<Self, membership::Damaged> {
        let header = *stored.header();
        let payload = match header.kind {
            Kind::Blank => EntryPayload::Blank,
            Kind::Data => EntryPayload::Normal(Arc::default()),
            Kind::Membership => {
                let end = HEADER_BYTES + header.body_bytes as usize;
                let body = stored.bytes().get(HEADER_BYTES..end).unwrap_or_default();
                EntryPayload::Membership(membership::decode(body)?)
            }
        };
        let log_id = log_id(header.id());
        Ok(Self { log_id, payload, stored: Some(stored) })
    }
}

impl fmt::Debug for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.log_id, self.payload)
    }
}

impl fmt::Display for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl RaftEntry for LogEntry {
    type CommittedLeaderId = CommittedLeaderId;
    type Payload = Payload;

    fn new(log_id: RaftLogId, payload: Payload) -> Self {
        Self { log_id, payload, stored: None }
    }

    fn log_id_parts(&self) -> (&CommittedLeaderId, u64) {
        (&self.log_id.leader_id, self.log_id.index)
    }

    fn set_log_id(&mut self, log_id: RaftLogId) {
        self.log_id = log_id;
    }

    fn get_membership(&self) -> Option<Membership> {
        match &self.payload {
            EntryPayload::Membership(membership) => Some(membership.clone()),
            EntryPayload::Blank | EntryPayload::Normal(_) => None,
        }
    }
}

/// Answers by calling a closure where the entry is applied: no channel, no task to wake.
pub(super) struct Answer<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Answer<T> {
    /// Calls `answer` with the result.
    pub(super) fn new(answer: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(answer))
    }
}

impl<T: OptionalSend + 'static> Responder<TypeConfig, T> for Answer<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

/// openraft's id of an entry.
pub(super) fn log_id(id: EntryId) -> RaftLogId {
    LogId::new(CommittedLeaderId::new(id.term.0), id.index.0)
}

/// Our id of an entry.
pub(super) fn entry_id(id: &RaftLogId) -> EntryId {
    EntryId { index: EntryIndex(id.index), term: Term(id.leader_id.term) }
}

/// A vote for `candidate`.
pub(super) fn ballot(term: Term, candidate: StoreId, committed: bool) -> Ballot {
    if committed {
        Vote::new_committed(term.0, candidate.0)
    } else {
        Vote::new(term.0, candidate.0)
    }
}
