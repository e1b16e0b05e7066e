//! What a member waits for that cannot serve: of which kind, for who gives advice, and in words.

/// What a member waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaits {
    /// The other members, to start the group.
    Start,
    /// A leader, which takes its new store in by itself.
    Leader,
    /// An operator: the group does not know it.
    Operator,
    /// A majority.
    Majority,
    /// What tells whether it lacks what it vouched for (`raft::doubt`).
    Doubt,
    /// Nothing: it was removed.
    Removed,
}

impl Awaits {
    /// Explained in words.
    pub(super) fn because(self, why: String) -> Awaited {
        Awaited { what: self, why }
    }

    /// Whether it is over once the group has this member's store.
    pub(super) fn is_of_outsider(self) -> bool {
        match self {
            Self::Start | Self::Leader | Self::Operator => true,
            Self::Majority | Self::Doubt | Self::Removed => false,
        }
    }
}

/// What a member waits for, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    /// Of which kind it is.
    pub what: Awaits,
    /// For people.
    pub why: String,
}
