//! What the log tells of this member's part in its group: who leads, and that nobody does. Pure:
//! what is said follows from the role and from how long no leader was heard.
//!
//! ```text
//!  follows ──► an election ──► leads the group ──► leads no more
//!     ▲  │ silence                follows
//!     └──┴► hears its leader no more ──► there is no leader, again and again
//! ```

use std::time::Duration;

use crate::ids::Term;
use crate::raft::role::Role;

/// A group without a leader for this long is told, and again …
const LEADERLESS: Duration = Duration::from_secs(5);
/// … each time that this has passed since.
const LEADERLESS_AGAIN: Duration = Duration::from_secs(60);

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// This member leads.
    Leads { term: Term },
    /// It did.
    LeadsNoMore { former: Term, term: Term, leader: Option<String> },
    /// Another one leads, and is heard.
    Follows { term: Term, leader: String },
    /// There is a new term, and nobody has won it yet.
    Election { former: String, term: Term },
    /// The leader is silent for longer than elections need to begin.
    HearsNoMore { leader: String, silence: Duration },
    /// Nobody is elected: there is no majority.
    NoLeader { term: Term, silence: Duration },
}

/// Remembers what was said, so that it is said once.
#[derive(Debug)]
pub(super) struct Voice {
    /// A leader that is silent for so long is told.
    patience: Duration,
    role: Role,
    /// Whom this member was last said to follow, until something else is said.
    follows: Option<String>,
    /// When [`Line::NoLeader`] was said, as the silence then.
    leaderless: Option<Duration>,
}

impl Voice {
    /// Nothing was said; a leader may be silent for `patience`.
    pub(super) fn new(patience: Duration) -> Self {
        let role = Role::Follower { term: Term(0), leader: None };
        Self { patience, role, follows: None, leaderless: None }
    }

    /// What there is to say about the role as it is now, if anything.
    pub(super) fn say(&mut self, role: &Role, silence: Duration) -> Option<Line> {
        let before = std::mem::replace(&mut self.role, role.clone());
        let line = match (&before, role) {
            (Role::Leader { term: former }, Role::Leader { term }) if former == term => None,
            (_, Role::Leader { term }) => Some(Line::Leads { term: *term }),
            (Role::Leader { term: former }, Role::Follower { term, leader }) => {
                Some(Line::LeadsNoMore { former: *former, term: *term, leader: leader.clone() })
            }
            (_, Role::Follower { term, leader: Some(leader) }) => {
                self.of_a_leader(&before, *term, leader, silence)
            }
            (Role::Follower { .. }, Role::Follower { term, leader: None }) => {
                self.follows.take().map(|former| Line::Election { former, term: *term })
            }
        };
        let line = line.or_else(|| self.of_no_leader(role, silence));
        match &line {
            Some(Line::NoLeader { silence, .. }) => self.leaderless = Some(*silence),
            Some(_) => self.leaderless = None,
            None => {}
        }
        self.follows = match &line {
            Some(Line::Follows { leader, .. } | Line::LeadsNoMore { leader: Some(leader), .. }) => {
                Some(leader.clone())
            }
            Some(_) => None,
            None => self.follows.take(),
        };
        line
    }

    fn of_a_leader(
        &self,
        before: &Role,
        term: Term,
        leader: &str,
        silence: Duration,
    ) -> Option<Line> {
        let heard = silence < self.patience;
        match &self.follows {
            Some(follows) if !heard => Some(Line::HearsNoMore { leader: follows.clone(), silence }),
            Some(follows) if follows == leader && before.term() == term => None,
            _ if heard => Some(Line::Follows { term, leader: leader.to_owned() }),
            _ => None,
        }
    }

    fn of_no_leader(&self, role: &Role, silence: Duration) -> Option<Line> {
        let due = self.leaderless.map_or(LEADERLESS, |said| said + LEADERLESS_AGAIN);
        let (Role::Follower { term, .. }, true) = (role, silence >= due) else { return None };
        // Before its first term a group has not been started; whom it waits for is told elsewhere.
        (*term > Term(0)).then_some(Line::NoLeader { term: *term, silence })
    }
}

impl Line {
    /// Writes it, as of `member` in a group of `members`.
    pub(super) fn log(&self, member: &str, members: &str) {
        match self {
            Self::Leads { term } => tracing::info!(member, term = term.0, "leads the group"),
            Self::LeadsNoMore { former, term, leader } => {
                let leader = leader.as_deref().unwrap_or("nobody yet");
                tracing::info!(member, former = former.0, term = term.0, leader, "leads no more");
            }
            Self::Follows { term, leader } => {
                tracing::info!(member, term = term.0, leader, "follows");
            }
            Self::Election { former, term } => {
                tracing::info!(member, term = term.0, former, "an election: nobody leads yet");
            }
            Self::HearsNoMore { leader, silence } => {
                tracing::warn!(member, leader, ?silence, "hears its leader no more");
            }
            Self::NoLeader { term, silence } => tracing::warn!(
                member,
                term = term.0,
                ?silence,
                members,
                "there is no leader: a majority of the members must run and reach each other"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(600);

    fn follower(term: u64, leader: &str) -> Role {
        let leader = (!leader.is_empty()).then(|| leader.to_owned());
        Role::Follower { term: Term(term), leader }
    }

    fn leader(term: u64) -> Role {
        Role::Leader { term: Term(term) }
    }

    /// Says every row in turn: role, silence in ms, and the line in short.
    fn tell(rows: &[(Role, u64, &str)]) {
        let mut voice = Voice::new(PATIENCE);
        for (number, (role, silence, want)) in rows.iter().enumerate() {
            let line = voice.say(role, Duration::from_millis(*silence));
            let got = match line {
                None => String::new(),
                Some(Line::Leads { term }) => format!("leads {term}"),
                Some(Line::LeadsNoMore { former, .. }) => format!("leads no more {former}"),
                Some(Line::Follows { term, leader }) => format!("follows {leader} {term}"),
                Some(Line::Election { former, term }) => format!("election {term} after {former}"),
                Some(Line::HearsNoMore { leader, .. }) => format!("silent {leader}"),
                Some(Line::NoLeader { term, silence }) => {
                    format!("nobody {term} for {}", silence.as_secs())
                }
            };
            assert_eq!(got, *want, "row {number}");
        }
    }

    #[test]
    fn a_failover_is_an_election_and_its_outcome() {
        let winner = [
            (follower(0, ""), 0, ""),
            (follower(1, ""), 10, ""),
            (follower(1, "n0"), 20, "follows n0 1"),
            (follower(1, "n0"), 50, ""),
            (follower(2, ""), 250, "election 2 after n0"),
            (leader(2), 0, "leads 2"),
            (leader(2), 0, ""),
            (follower(3, "n2"), 0, "leads no more 2"),
            (follower(3, "n2"), 50, ""),
            (follower(4, ""), 20, "election 4 after n2"),
            (follower(5, ""), 40, ""),
        ];
        tell(&winner);
        let voter = [
            (follower(1, "n0"), 20, "follows n0 1"),
            (follower(2, "n1"), 0, "follows n1 2"),
            (follower(3, "n1"), 0, "follows n1 3"),
        ];
        tell(&voter);
    }

    #[test]
    fn a_silent_leader_is_told_once_and_so_is_its_return() {
        tell(&[
            (follower(1, "n0"), 20, "follows n0 1"),
            (follower(1, "n0"), 599, ""),
            (follower(1, "n0"), 600, "silent n0"),
            (follower(1, "n0"), 700, ""),
            (follower(1, "n0"), 10, "follows n0 1"),
            (follower(1, "n0"), 20, ""),
        ]);
    }

    #[test]
    fn a_group_without_a_leader_says_so_after_a_while_and_every_minute() {
        tell(&[
            (follower(1, "n0"), 20, "follows n0 1"),
            (follower(1, "n0"), 600, "silent n0"),
            (follower(1, "n0"), 4_999, ""),
            (follower(1, "n0"), 5_000, "nobody 1 for 5"),
            (follower(1, "n0"), 64_999, ""),
            (follower(2, ""), 65_000, "nobody 2 for 65"),
            (follower(2, ""), 66_000, ""),
            (follower(3, "n1"), 0, "follows n1 3"),
            (follower(3, "n1"), 600, "silent n1"),
            (follower(3, "n1"), 5_000, "nobody 3 for 5"),
        ]);
        let restarted_alone =
            [(follower(7, ""), 4_999, ""), (follower(7, ""), 5_000, "nobody 7 for 5")];
        tell(&restarted_alone);
        let cut_off = [
            (leader(2), 0, "leads 2"),
            (follower(2, ""), 0, "leads no more 2"),
            (follower(2, ""), 5_000, "nobody 2 for 5"),
        ];
        tell(&cut_off);
        let not_started = [(follower(0, ""), 60_000, "")];
        tell(&not_started);
    }
}
