//! What this member is to clients, decided from what consensus reports.

use crate::ids::Term;

/// This member's part in the group, as far as clients are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Takes writes: elected, everything before its term applied, and a quorum answers.
    Leader {
        /// The term it leads.
        term: Term,
    },
    /// Takes no writes.
    Follower {
        /// Highest term seen.
        term: Term,
        /// Name of the member that leads it, if known.
        leader: Option<String>,
    },
}

impl Role {
    /// Whether it takes writes.
    pub fn is_leader(&self) -> bool {
        matches!(self, Self::Leader { .. })
    }

    /// The term, whichever role.
    pub fn term(&self) -> Term {
        match self {
            Self::Leader { term } | Self::Follower { term, .. } => *term,
        }
    }
}
