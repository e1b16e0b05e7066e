//! Whether this member knows all consumers, or asks other members for those that it lacks
//! ([`crate::raft::Group::consumers_elsewhere`]).
//!
//! Consumers share out queues among those whom any address of their topic's route calls members of
//! the group. They look for new addresses each 30 s, and send heartbeats to each a second later
//! (Java's and Go's clients). So a member knows some of them only, when it has just come into routes
//! or has closed its clients' connections; who then goes by its list takes queues that others
//! consume.
//!
//! ```text
//!  in no route, or connections closed ──► 40 s, in routes and untouched ──► knows all
//!                 ▲        asks the others                          asks nobody │
//!                 └─────────────────────────────────────────────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::broker::members::Members;
use crate::net::ConnectionId;

/// How much of a group this member knows by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knows {
    /// All of it, but for who came or went a moment ago.
    All,
    /// Those of its consumers that have sent a heartbeat so far.
    Some,
}

/// When clients were kept from this member last.
#[derive(Debug)]
pub struct Acquaintance {
    /// How long clients need to find a member and send it a heartbeat.
    heartbeats_within: Duration,
    gap_until: Mutex<Instant>,
    away: Mutex<Away>,
}

/// Consumers whose connections this member closed, and who had no time yet to come back.
#[derive(Debug, Default)]
struct Away {
    /// Those that are not closed yet.
    closing: BTreeSet<ConnectionId>,
    /// Client ids by group.
    ids: BTreeMap<String, BTreeSet<String>>,
}

impl Acquaintance {
    /// Of a member that nobody knows at `now`.
    pub fn new(heartbeats_within: Duration, now: Instant) -> Self {
        Self { heartbeats_within, gap_until: Mutex::new(now), away: Mutex::default() }
    }

    /// Until `now` clients could not know this member, or lost their connections to it.
    pub fn note_gap(&self, now: Instant) {
        let mut until = self.gap_until.lock();
        *until = now.max(*until);
    }

    /// What it knows at `now`.
    pub fn knows(&self, now: Instant) -> Knows {
        knows(*self.gap_until.lock(), self.heartbeats_within, now)
    }

    /// These consumers lose their connections at `now`, and are in their groups still.
    pub fn send_away(
        &self,
        consumers: &Members,
        stays: impl Fn(ConnectionId) -> bool,
        now: Instant,
    ) {
        self.note_gap(now);
        let mut away = self.away.lock();
        for (group, clients) in consumers.iter() {
            for (connection, client) in clients.iter().filter(|(id, _)| !stays(**id)) {
                away.closing.insert(*connection);
                away.ids.entry(group.to_owned()).or_default().insert(client.id.clone());
            }
        }
    }

    /// A connection has closed. Whether this member did that, and its client is in its groups still.
    pub fn was_sent_away(&self, connection: ConnectionId) -> bool {
        self.away.lock().closing.remove(&connection)
    }

    /// A client has left a group.
    pub fn leave(&self, group: &str, client_id: &str) {
        if let Some(ids) = self.away.lock().ids.get_mut(group) {
            ids.remove(client_id);
        }
    }

    /// Consumers of a group that were sent away and may not be back at `now`.
    pub fn away(&self, group: &str, now: Instant) -> BTreeSet<String> {
        let mut away = self.away.lock();
        if self.knows(now) == Knows::All {
            away.ids.clear();
        }
        away.ids.get(group).cloned().unwrap_or_default()
    }
}

fn knows(gap_until: Instant, heartbeats_within: Duration, now: Instant) -> Knows {
    let all = gap_until.checked_add(heartbeats_within).is_some_and(|at| now >= at);
    if all { Knows::All } else { Knows::Some }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_member_knows_all_after_a_round_of_heartbeats_without_a_gap() {
        let (start, within) = (clock::now(), Duration::from_secs(40));
        let acquaintance = Acquaintance::new(within, start);
        let at = |ms| start + Duration::from_millis(ms);
        let rows = [
            // ms since the start, a gap until then, knows
            (0, None, Knows::Some),
            (39_999, None, Knows::Some),
            (40_000, None, Knows::All),
            (41_000, Some(41_000), Knows::Some), // connections were closed
            (50_000, Some(50_000), Knows::Some), // again
            (81_000, None, Knows::Some),
            (90_000, Some(45_000), Knows::All), // told late
            (95_000, Some(99_000), Knows::Some),
        ];
        for (ms, gap, want) in rows {
            gap.into_iter().for_each(|gap| acquaintance.note_gap(at(gap)));
            assert_eq!(acquaintance.knows(at(ms)), want, "{ms}");
        }
    }
}
