//! Decides where consumers read, from what this member knows of itself and of the others. Pure.

use std::time::{Duration, Instant};

use super::Here;
use crate::ids::{BrokerId, LEADER_BROKER_ID};
use crate::raft::{PeerStatus, Role, Roster};

/// Entries that a follower may lack: at any load it is a fraction of a second.
pub const LAG_MAX: u64 = 1000;
/// How long a follower that lags, or knows no leader, is taken for one that keeps up: an election
/// takes less, and so does a moment in which the machine has other things to do.
const UNSOUND_MAX: Duration = Duration::from_secs(3);

/// What consumers are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
    /// This id, which leads back here or to the leader.
    Stay(BrokerId),
    /// The same, but now and then to ask the leader.
    StayAndAsk(BrokerId),
    /// Who has read all that is here asks the leader; others stay.
    Unsure(BrokerId),
    /// One of these.
    Spread(Vec<BrokerId>),
}

impl Course {
    /// Where a consumer reads next, when consumers are spread by `spread`.
    pub(super) fn suggestion(&self, spread: u64, here: Here) -> BrokerId {
        match self {
            Self::Stay(id) | Self::StayAndAsk(id) => *id,
            Self::Unsure(own) => match here {
                Here::Something => *own,
                Here::Nothing => LEADER_BROKER_ID,
            },
            Self::Spread(ids) => {
                let at = spread.checked_rem(ids.len() as u64).unwrap_or(0);
                let id = usize::try_from(at).ok().and_then(|at| ids.get(at));
                id.copied().unwrap_or(LEADER_BROKER_ID)
            }
        }
    }

    /// Whether who has read all that is here reads elsewhere.
    pub(super) fn leads_away(&self) -> bool {
        matches!(self, Self::Spread(_) | Self::Unsure(_))
    }

    /// What this becomes when the member stops: a leader knows who else serves, a follower knows
    /// that the leader does.
    pub(super) fn of_who_stops(&self) -> Self {
        match self {
            Self::Spread(_) | Self::Stay(LEADER_BROKER_ID) => self.clone(),
            Self::Stay(_) | Self::StayAndAsk(_) | Self::Unsure(_) => {
                Self::Spread(vec![LEADER_BROKER_ID])
            }
        }
    }
}

/// What this member knows at some moment.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Its part in the group.
    pub role: &'a Role,
    /// Who belongs to the group, and under which ids.
    pub roster: &'a Roster,
    /// Committed entries that it has not applied.
    pub lag: u64,
    /// The others, if it leads.
    pub peers: &'a [PeerStatus],
    /// Whether its disk is slow: then it falls behind.
    pub is_slow: bool,
    /// Whether it hears nobody: nothing new comes here.
    pub is_cut_off: bool,
    /// `readFromFollowers`.
    pub is_on: bool,
    /// Whether a name server has it under the id of a follower.
    pub is_registered: bool,
}

/// Keeps in mind since when things are as they are.
#[derive(Debug)]
pub struct Watch {
    routes_known_after: Duration,
    registered_since: Option<Instant>,
    sound_at: Option<Instant>,
    /// The leader, and since when.
    leader: Option<(Leader, Instant)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Leader {
    Other(String),
    /// Whether consumers knew this member as a follower when it became that.
    Own {
        was_known: bool,
    },
}

impl Watch {
    /// Clients know after `routes_known_after` who is in routes.
    pub fn new(routes_known_after: Duration) -> Self {
        let (registered_since, sound_at, leader) = (None, None, None);
        Self { routes_known_after, registered_since, sound_at, leader }
    }

    /// What consumers are told from now on, and whether this member offers to serve more of them.
    pub fn look(&mut self, seen: &Seen<'_>, now: Instant) -> (Course, bool) {
        if seen.roster.members.len() < 2 || !seen.is_on {
            return (Course::Stay(LEADER_BROKER_ID), false);
        }
        if seen.roster.own.is_none() && !seen.role.is_leader() {
            // It leaves, or is no member yet: nobody is to stay.
            return (Course::Spread(vec![LEADER_BROKER_ID]), false);
        }
        let own = seen.roster.own.unwrap_or(LEADER_BROKER_ID);
        let is_known = self.is_known(now);
        let leads_since = self.note_leader(seen.role, is_known, now);
        self.registered_since = seen.is_registered.then(|| self.registered_since.unwrap_or(now));
        match seen.role {
            Role::Leader { .. } => {
                self.sound_at = None;
                (self.of_leader(seen, leads_since, now), false)
            }
            Role::Follower { .. } if seen.is_cut_off => {
                self.sound_at = None;
                (self.of_who_is_cut_off(seen), false)
            }
            Role::Follower { leader, .. } => {
                let is_sound = leader.is_some() && seen.lag <= LAG_MAX && !seen.is_slow;
                if is_sound {
                    self.sound_at = Some(now);
                }
                (self.of_follower(own, leads_since, now), is_sound && self.is_known(now))
            }
        }
    }

    /// Whether consumers have this member in their routes, as a follower.
    fn is_known(&self, now: Instant) -> bool {
        self.registered_since.is_some_and(|at| self.is_long_ago(at, now))
    }

    fn is_long_ago(&self, at: Instant, now: Instant) -> bool {
        now.saturating_duration_since(at) >= self.routes_known_after
    }

    /// Since when the leader is the one that it is, if there is one.
    fn note_leader(&mut self, role: &Role, is_known: bool, now: Instant) -> Option<Instant> {
        let leader = match role {
            Role::Leader { .. } => match &self.leader {
                Some((Leader::Own { was_known }, _)) => Leader::Own { was_known: *was_known },
                Some((Leader::Other(_), _)) | None => Leader::Own { was_known: is_known },
            },
            Role::Follower { leader: Some(name), .. } => Leader::Other(name.clone()),
            Role::Follower { leader: None, .. } => return None,
        };
        let since = match &self.leader {
            Some((same, since)) if *same == leader => *since,
            Some(_) | None => now,
        };
        self.leader = Some((leader, since));
        Some(since)
    }

    fn of_leader(&self, seen: &Seen<'_>, since: Option<Instant>, now: Instant) -> Course {
        let serves = |name: &String| {
            let peer = seen.peers.iter().find(|peer| peer.name == *name);
            peer.is_some_and(|peer| peer.serves_readers && peer.behind <= LAG_MAX)
        };
        let serving = seen.roster.members.iter().filter(|(name, _)| serves(name));
        let ids: Vec<BrokerId> = serving.map(|(_, id)| *id).collect();
        if !ids.is_empty() {
            return Course::Spread(ids);
        }
        let was_known = matches!(self.leader, Some((Leader::Own { was_known: true }, _)));
        let is_new = since.is_none_or(|since| !self.is_long_ago(since, now));
        let own = seen.roster.own.filter(|_| was_known && is_new);
        Course::Stay(own.unwrap_or(LEADER_BROKER_ID))
    }

    /// Others serve. Where it led, clients that have not asked for routes since take this member for
    /// the leader, and know the others by their ids.
    fn of_who_is_cut_off(&self, seen: &Seen<'_>) -> Course {
        let led = matches!(self.leader, Some((Leader::Own { .. }, _)));
        let others = seen.roster.members.iter().map(|(_, id)| *id);
        let others: Vec<BrokerId> =
            others.filter(|id| led && Some(*id) != seen.roster.own).collect();
        Course::Spread(if others.is_empty() { vec![LEADER_BROKER_ID] } else { others })
    }

    fn of_follower(&self, own: BrokerId, leader_since: Option<Instant>, now: Instant) -> Course {
        let unsound = self.sound_at.map(|at| now.saturating_duration_since(at));
        if unsound.is_none_or(|since| since > UNSOUND_MAX) {
            return Course::Unsure(own);
        }
        // Consumers may know another member, a dead one, as the leader.
        match leader_since {
            Some(since) if self.is_long_ago(since, now) => Course::StayAndAsk(own),
            Some(_) | None => Course::Stay(own),
        }
    }
}

#[cfg(test)]
mod tests;
