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
    /// Time since a leader was heard.
    pub silence: Duration,
    /// Why this member takes no part any more, if so.
    pub ended: Option<String>,
}

/// A leader that no quorum has answered for this long takes no writes: it may have been replaced.
/// Nothing relies on it for safety; it makes a cut-off leader refuse instead of keeping clients
/// waiting. Long enough that a busy machine's scheduling does not trip it.
pub(super) const QUORUM_SILENCE: Duration = Duration::from_secs(1);

/// A leader that was not heard for this long is nobody's: without a majority there are no elections,
/// and consensus would name it for ever. Longer than any election takes, shorter than requests wait
/// (2.5 s), so that these are told the reason.
pub(super) const LEADER_FORGOTTEN: Duration = Duration::from_secs(2);

/// The role. Pure.
pub(super) fn role_of(seen: &Seen) -> Role {
    let answered = seen.alone || seen.quorum_age.is_some_and(|age| age < QUORUM_SILENCE);
    if seen.elected && seen.applied_term == seen.term && answered {
        return Role::Leader { term: seen.term };
    }
    let is_heard = seen.silence < LEADER_FORGOTTEN;
    let leader = seen.leader.clone().filter(|_| !seen.elected && is_heard);
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
        let (heard, forgotten) = (Duration::from_millis(1_999), LEADER_FORGOTTEN);
        let rows = [
            ("leads", true, 3, soon, false, None, heard, &leader),
            ("own first entry not applied", true, 2, soon, false, None, heard, &nobody),
            ("cut off", true, 3, late, false, None, heard, &nobody),
            ("never answered", true, 3, None, false, None, heard, &nobody),
            ("alone", true, 3, None, true, None, heard, &leader),
            ("follows", false, 3, None, false, Some("n1"), heard, &other),
            ("hears nobody", false, 3, None, false, Some("n1"), forgotten, &nobody),
            ("leads, and heard nobody else", true, 3, soon, false, None, forgotten, &leader),
            ("no leader known", false, 3, None, false, None, heard, &nobody),
        ];
        for (what, elected, applied, quorum_age, alone, leader, silence, want) in rows {
            let seen = Seen {
                term: Term(3),
                elected,
                applied_term: Term(applied),
                quorum_age,
                alone,
                leader: leader.map(str::to_owned),
                silence,
                ended: None,
            };
            assert_eq!(&role_of(&seen), want, "{what}");
        }
    }
}
