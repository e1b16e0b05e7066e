//! Words everyone uses: positions, offsets, names. Integers that mean different things are
//! different types.

use std::fmt;

/// Byte position in a broker group's CommitLog. Equal on every member once committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PhysicalOffset(pub u64);

/// Messages from the start of one (topic, queueId). Not bytes and not a Raft index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct QueueOffset(pub u64);

/// Where what one send stored lies: message behind message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredSend {
    /// The first message.
    pub first: PhysicalOffset,
    /// How many there are.
    pub messages: u32,
}

/// Raft term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Term(pub u64);

impl Term {
    /// By how much a group that a survivor starts anew is ahead of all that its store knows. Name
    /// servers go by it: should the old group's members come back, what they register is half of
    /// that behind, until they have held as many elections.
    pub const AHEAD_WHEN_STARTED_ANEW: u64 = 1000;
}

/// Index of one log entry. The first entry of a group has index 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryIndex(pub u64);

impl EntryIndex {
    /// That of the entry behind it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Identity of one store, drawn at random when the store is created, and with it the identity of
/// the member in Raft. A member that lost its disk has forgotten its votes and entries: it comes
/// back under another id, so nobody counts what the former one knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StoreId(pub u64);

/// Broker id as registered with name servers: 0 is the leader, the others 1, 2, … by their place
/// in the peer list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BrokerId(pub u64);

/// The broker id of whoever takes writes.
pub const LEADER_BROKER_ID: BrokerId = BrokerId(0);

macro_rules! plain_display {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
plain_display!(PhysicalOffset, QueueOffset, Term, EntryIndex, BrokerId);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
