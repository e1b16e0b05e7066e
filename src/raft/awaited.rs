//! What a member waits for that cannot serve: of which kind, for who gives advice, and in words.

use crate::raft::ProposeError;

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

/// Why what waited was not passed on: to `leader`, or to nobody. A member that its group goes on
/// without knows nothing of the group's leader.
pub(super) fn unled(leader: Option<String>, waits_for: Option<Awaited>) -> ProposeError {
    use Awaits::{Doubt, Majority, Start};
    match waits_for {
        Some(Awaited { what: Start | Majority | Doubt, why }) if leader.is_none() => {
            let why = why.strip_prefix("no leader, ").map_or_else(|| why.clone(), str::to_owned);
            ProposeError::NoLeader { why }
        }
        Some(_) | None => ProposeError::NotLeader { leader },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_who_leads_or_who_is_missing() {
        let missing = || Some(Awaits::Majority.because("no leader, a majority is missing".into()));
        let leader = |name: &str| Some(name.to_owned());
        let said = |error: ProposeError| error.to_string();
        let outsider = Some(Awaits::Leader.because("the group goes on with n1".into()));
        let rows = [
            (None, outsider, "this member is not the leader; last known leader: none"),
            (None, None, "this member is not the leader; last known leader: none"),
            (leader("n1"), missing(), "this member is not the leader; last known leader: n1"),
            (
                None,
                missing(),
                "this broker's group has no leader at the moment: a majority is missing",
            ),
        ];
        for (leader, waits_for, want) in rows {
            assert_eq!(said(unled(leader, waits_for)), want);
        }
    }
}
