//! Whether this member is told to name servers as one that takes writes, whoever leads: producers
//! whose leader is gone then retry here, and what they send is passed on. Pure.

use std::time::{Duration, Instant};

use crate::raft::{Role, Roster};

/// How long a member that has followed nobody since still takes writes: an election takes less, and
/// those who retry during one are who this is for. Beyond it there is nobody to pass them on to.
const LEADERLESS_MAX: Duration = Duration::from_secs(3);
/// How long a member must have run. Consumers ask any address of a topic's route who else is in
/// their group, and share the queues among those. They look for new members each 30 s and send them
/// heartbeats a second later (Java's and Go's clients): before that a member knows only some, and
/// each of these would take queues that others consume.
const CONSUMERS_KNOWN_AFTER: Duration = Duration::from_secs(40);

/// Whether writes may be sent to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ingress {
    /// It stores them, or passes them on.
    Open,
    /// There is nobody to pass them on to, or it must not be in routes yet.
    Closed,
}

/// What this member knows of its group's leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lead {
    /// It is this one.
    Own,
    /// Another one, or this one, was it so long ago.
    Known(Duration),
    /// It is another one, but what it stores is long in coming here, by which answers come: this
    /// member's disk is slow, or it hears nobody.
    Unfit,
    /// There was none since the start.
    Unknown,
}

/// Whether to take writes, in a group of so many members and after running for so long. A leader's
/// address is in routes in any case.
pub fn ingress(members: usize, lead: Lead, up: Duration) -> Ingress {
    let open = match lead {
        Lead::Own => true,
        Lead::Known(ago) => ago <= LEADERLESS_MAX && up >= CONSUMERS_KNOWN_AFTER,
        Lead::Unfit | Lead::Unknown => false,
    };
    if members > 1 && open { Ingress::Open } else { Ingress::Closed }
}

/// Keeps in mind when there was a leader.
#[derive(Debug)]
pub struct IngressWatch {
    started: Instant,
    led_at: Option<Instant>,
}

impl IngressWatch {
    /// Clients could reach this member from `started` on.
    pub fn new(started: Instant) -> Self {
        Self { started, led_at: None }
    }

    /// Whether to take writes at `now`, when role and group are these, and the disk slow or not.
    pub fn look(&mut self, role: &Role, roster: &Roster, is_unfit: bool, now: Instant) -> Ingress {
        if !matches!(role, Role::Follower { leader: None, .. }) {
            self.led_at = Some(now);
        }
        let lead = match (role, self.led_at) {
            (Role::Leader { .. }, _) => Lead::Own,
            (Role::Follower { .. }, _) if is_unfit => Lead::Unfit,
            (Role::Follower { .. }, Some(at)) => Lead::Known(now.duration_since(at)),
            (Role::Follower { .. }, None) => Lead::Unknown,
        };
        ingress(roster.members.len(), lead, now.duration_since(self.started))
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
    fn a_leader_and_a_follower_that_consumers_know_take_writes() {
        let (s, ms) = (Duration::from_secs, Duration::from_millis);
        let rows = [
            // members, lead, up, open
            (3, Lead::Own, s(0), true),
            (3, Lead::Own, s(90), true),
            (1, Lead::Own, s(90), false),
            (3, Lead::Known(s(0)), s(40), true),
            (3, Lead::Known(s(0)), ms(39_999), false),
            (3, Lead::Known(s(3)), s(90), true),
            (3, Lead::Known(ms(3_001)), s(90), false),
            (1, Lead::Known(s(0)), s(90), false),
            (3, Lead::Unknown, s(90), false),
            (3, Lead::Unfit, s(90), false),
            (2, Lead::Known(s(0)), s(90), true),
        ];
        for (members, lead, up, open) in rows {
            let want = if open { Ingress::Open } else { Ingress::Closed };
            assert_eq!(ingress(members, lead, up), want, "{members} {lead:?} {up:?}");
        }
    }

    #[test]
    fn an_election_is_sat_out_and_a_lost_majority_is_told() {
        let term = Term(3);
        let leads = Role::Leader { term };
        let follows = Role::Follower { term, leader: Some("n1".to_owned()) };
        let nobody = Role::Follower { term, leader: None };
        let start = clock::now();
        let mut watch = IngressWatch::new(start);
        let members = (1..=3).map(|n| (format!("n{n}"), BrokerId(n))).collect();
        let roster = Roster { members, own: None };
        let rows = [
            // ms since the start, role, open
            (0, &nobody, false),
            (100, &follows, false),
            (5_000, &leads, true),
            (6_000, &follows, false),
            (40_000, &follows, true),
            (40_200, &nobody, true),
            (43_000, &nobody, true),
            (43_200, &nobody, false),
            (50_000, &follows, true),
            (53_000, &nobody, true),
            (53_001, &nobody, false),
            (60_000, &leads, true),
            (62_000, &nobody, true),
        ];
        for (ms, role, open) in rows {
            let want = if open { Ingress::Open } else { Ingress::Closed };
            let at = start + Duration::from_millis(ms);
            assert_eq!(watch.look(role, &roster, false, at), want, "{ms}");
        }
    }
}
