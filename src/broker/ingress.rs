//! Whether this member is told to name servers as one that takes writes, whoever leads: producers
//! whose leader is gone then retry here, and what they send is passed on. Pure.
//!
//! Consumers ask any address of a topic's route who else is in their group. A member that does not
//! know all of them yet asks the others ([`super::acquaintance`]), so it may be in routes from its
//! start on; not so beside a member of a build that cannot be asked.

use std::time::{Duration, Instant};

use crate::raft::{Role, Roster};

use super::steering::LAG_MAX;

/// How long a member that has followed nobody since, or lacks much, still takes writes: an election
/// takes less, and those who retry during one are who this is for. Beyond it there is nobody to pass
/// them on to, or answers, which this member reads in the log, come too late.
const UNSOUND_MAX: Duration = Duration::from_secs(3);

/// Whether writes may be sent to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ingress {
    /// It stores them, or passes them on.
    Open,
    /// There is nobody to pass them on to, or no answer in time.
    Closed,
}

/// What this member knows of its group's leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lead {
    /// It is this one.
    Own,
    /// Another one that it kept up with, or this one, was it so long ago.
    Known(Duration),
    /// It is another one, but what it stores is long in coming here, by which answers come: this
    /// member's disk is slow, or it hears nobody.
    Unfit,
    /// There was none since the start, or this member has lacked much since then.
    Unknown,
}

/// What consumers hear from this member of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lists {
    /// Who is there: as this member, or others that it asks, know.
    Whole,
    /// It knows only some, and nobody can be asked.
    Short,
}

/// Whether to take writes, in a group of so many members. A leader's address is in routes in any
/// case.
pub fn ingress(members: usize, lead: Lead, lists: Lists) -> Ingress {
    let open = match lead {
        Lead::Own => true,
        Lead::Known(ago) => ago <= UNSOUND_MAX && lists == Lists::Whole,
        Lead::Unfit | Lead::Unknown => false,
    };
    if members > 1 && open { Ingress::Open } else { Ingress::Closed }
}

/// What this member knows at some moment.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Its part in the group.
    pub role: &'a Role,
    /// Who belongs to the group.
    pub roster: &'a Roster,
    /// Committed entries that it has not applied.
    pub lag: u64,
    /// Whether its disk is slow, or it hears nobody.
    pub is_unfit: bool,
    /// What it tells consumers.
    pub lists: Lists,
}

/// Keeps in mind when there was a leader that it kept up with.
#[derive(Debug, Default)]
pub struct IngressWatch {
    sound_at: Option<Instant>,
}

impl IngressWatch {
    /// Whether to take writes at `now`.
    pub fn look(&mut self, seen: &Seen<'_>, now: Instant) -> Ingress {
        let keeps_up = match seen.role {
            Role::Leader { .. } => true,
            Role::Follower { leader: Some(_), .. } => seen.lag <= LAG_MAX,
            Role::Follower { leader: None, .. } => false,
        };
        if keeps_up {
            self.sound_at = Some(now);
        }
        let lead = match (seen.role, self.sound_at) {
            (Role::Leader { .. }, _) => Lead::Own,
            (Role::Follower { .. }, _) if seen.is_unfit => Lead::Unfit,
            (Role::Follower { .. }, Some(at)) => Lead::Known(now.saturating_duration_since(at)),
            (Role::Follower { .. }, None) => Lead::Unknown,
        };
        ingress(seen.roster.members.len(), lead, seen.lists)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock,
        ids::{BrokerId, Term},
    };

    #[test]
    fn a_leader_and_a_follower_that_knows_one_take_writes() {
        let (s, ms) = (Duration::from_secs, Duration::from_millis);
        let rows = [
            // members, lead, open
            (3, Lead::Own, true),
            (1, Lead::Own, false),
            (3, Lead::Known(s(0)), true),
            (3, Lead::Known(s(3)), true),
            (3, Lead::Known(ms(3_001)), false),
            (1, Lead::Known(s(0)), false),
            (3, Lead::Unknown, false),
            (3, Lead::Unfit, false),
            (2, Lead::Known(s(0)), true),
        ];
        for (members, lead, open) in rows {
            let want = if open { Ingress::Open } else { Ingress::Closed };
            assert_eq!(ingress(members, lead, Lists::Whole), want, "{members} {lead:?}");
            let stays = if lead == Lead::Own { want } else { Ingress::Closed };
            assert_eq!(ingress(members, lead, Lists::Short), stays, "{members} {lead:?}");
        }
    }

    #[test]
    fn an_election_is_sat_out_a_lost_majority_is_told_and_so_is_who_lacks_much() {
        let term = Term(3);
        let leads = Role::Leader { term };
        let follows = Role::Follower { term, leader: Some("n1".to_owned()) };
        let nobody = Role::Follower { term, leader: None };
        let (start, mut watch) = (clock::now(), IngressWatch::default());
        let members = (1..=3).map(|n| (format!("n{n}"), BrokerId(n))).collect();
        let roster = Roster { members, own: None };
        let rows = [
            // ms since the start, role, lag, open
            (0, &nobody, 0, false),
            (50, &follows, LAG_MAX + 1, false), // it was away for long
            (4_000, &follows, LAG_MAX + 1, false),
            (4_100, &follows, LAG_MAX, true),
            (4_300, &nobody, 0, true),
            (7_100, &nobody, 0, true),
            (7_300, &nobody, 0, false),
            (8_000, &leads, 0, true),
            (9_000, &follows, LAG_MAX + 1, true), // a busy moment
            (11_000, &follows, LAG_MAX + 1, true),
            (11_001, &follows, LAG_MAX + 1, false),
            (12_000, &follows, 0, true),
            (15_000, &nobody, 0, true),
            (15_001, &nobody, 0, false),
            (20_000, &leads, 0, true),
            (22_000, &nobody, 0, true),
        ];
        for (ms, role, lag, open) in rows {
            let want = if open { Ingress::Open } else { Ingress::Closed };
            let at = start + Duration::from_millis(ms);
            let (is_unfit, lists) = (false, Lists::Whole);
            let mut seen = Seen { role, roster: &roster, lag, is_unfit, lists };
            assert_eq!(watch.look(&seen, at), want, "{ms}");
            seen.is_unfit = true;
            let stays = if role.is_leader() { want } else { Ingress::Closed };
            assert_eq!(watch.look(&seen, at), stays, "unfit at {ms}");
        }
    }
}
