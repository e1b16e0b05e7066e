//! What this member is to clients, decided from what consensus reports.

use std::time::Duration;

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

    /// Name of the member that takes writes, if known; `own` is this one's.
    pub fn leader<'a>(&'a self, own: &'a str) -> Option<&'a str> {
        match self {
            Self::Leader { .. } => Some(own),
            Self::Follower { leader, .. } => leader.as_deref(),
        }
    }

    /// The term, whichever role.
    pub fn term(&self) -> Term {
        match self {
            Self::Leader { term } | Self::Follower { term, .. } => *term,
        }
    }
}

/// What consensus reports at some moment.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Current term.
    pub term: Term,
    /// Whether this member was elected in it.
    pub elected: bool,
    /// Term of the last applied entry.
    pub applied_term: Term,
    /// Time since a quorum last answered this leader; `None`: never, or it is alone.
    pub quorum_age: Option<Duration>,
    /// Whether this member is the only voter.
    pub alone: bool,
    /// Name of the leader of the term, when it is another member.
    pub leader: Option<String>,
    /// Why this member takes no part any more, if so.
    pub ended: Option<String>,
}

/// A leader that no quorum has answered for this long takes no writes: it may have been replaced.
/// Nothing relies on it for safety; it makes a cut-off leader refuse instead of keeping clients
/// waiting. Long enough that a busy machine's scheduling does not trip it.
pub(super) const QUORUM_SILENCE: Duration = Duration::from_secs(1);

/// The role. Pure.
pub(super) fn role_of(seen: &Seen) -> Role {
    let answered = seen.alone || seen.quorum_age.is_some_and(|age| age < QUORUM_SILENCE);
    if seen.elected && seen.applied_term == seen.term && answered {
        return Role::Leader { term: seen.term };
    }
    let leader = if seen.elected { None } else { seen.leader.clone() };
    Role::Follower { term: seen.term, leader }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_elected_member_that_applied_its_term_and_has_a_quorum_leads() {
        let leader = Role::Leader { term: Term(3) };
        let nobody = Role::Follower { term: Term(3), leader: None };
        let other = Role::Follower { term: Term(3), leader: Some("n1".to_owned()) };
        let soon = Some(Duration::from_millis(40));
        let late = Some(QUORUM_SILENCE);
        let rows = [
            ("leads", true, 3, soon, false, None, &leader),
            ("own first entry not applied", true, 2, soon, false, None, &nobody),
            ("cut off", true, 3, late, false, None, &nobody),
            ("never answered", true, 3, None, false, None, &nobody),
            ("alone", true, 3, None, true, None, &leader),
            ("follows", false, 3, None, false, Some("n1"), &other),
            ("no leader known", false, 3, None, false, None, &nobody),
        ];
        for (what, elected, applied, quorum_age, alone, leader, want) in rows {
            let seen = Seen {
                term: Term(3),
                elected,
                applied_term: Term(applied),
                quorum_age,
                alone,
                leader: leader.map(str::to_owned),
                ended: None,
            };
            assert_eq!(&role_of(&seen), want, "{what}");
        }
    }
}
