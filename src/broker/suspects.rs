//! Connections in which requests may lie that are older than they seem: this member was cut off, or
//! stood still, and their clients have gone on through others meanwhile
//! ([`crate::raft::Group::watch_breaks`]).
//!
//! Producers' are closed (`sending_away`): a stock producer sends again at once, elsewhere. Those
//! of clients that only consume stay, since some stock consumers wait 30 s for the answer of a pull
//! whose connection is gone; for a minute no committed offset goes back by them, and a send over
//! one closes it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::broker::members::Members;
use crate::net::{Connection, ConnectionId};

/// How long after a break what was sent before it may come: TCP tries again less and less often.
const LATE: Duration = Duration::from_secs(60);

/// Which connections are suspect.
#[derive(Debug, Default)]
pub struct Suspects {
    /// Those up to this one; 0: none.
    last: AtomicU64,
    until: Mutex<Option<Instant>>,
}

impl Suspects {
    /// There was a break until `now`: whoever is connected is suspect.
    pub fn note_break(&self, now: Instant) {
        *self.until.lock() = now.checked_add(LATE);
        self.last.store(ConnectionId::last_drawn().0, Ordering::Release);
    }

    /// Whether one of it is.
    pub fn has(&self, connection: &Connection, now: Instant) -> bool {
        self.has_id(connection.id(), now)
    }

    fn has_id(&self, id: ConnectionId, now: Instant) -> bool {
        id.0 <= self.last.load(Ordering::Acquire)
            && self.until.lock().is_some_and(|until| now < until)
    }
}

/// Every Java client registers this group, whether or not it sends.
const INNER_PRODUCER: &str = "CLIENT_INNER_PRODUCER";

/// Connections of clients that send.
pub fn senders(producers: &Members) -> BTreeSet<ConnectionId> {
    let sends = producers.iter().filter(|(group, _)| *group != INNER_PRODUCER);
    sends.flat_map(|(_, clients)| clients.keys().copied()).collect()
}

/// Connections of clients that consume and do not send.
pub fn only_consume(producers: &Members, consumers: &Members) -> BTreeSet<ConnectionId> {
    let sends = senders(producers);
    let consume = consumers.iter().flat_map(|(_, clients)| clients.keys().copied());
    consume.filter(|id| !sends.contains(id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::members::Client;
    use crate::protocol::codes::LanguageCode;

    #[test]
    fn clients_that_also_send_are_not_taken_for_consumers() {
        let (mut producers, mut consumers) = (Members::default(), Members::default());
        let enter = |members: &mut Members, group, id| {
            let client = Client {
                id: "c".to_owned(),
                peer: ([127, 0, 0, 1], 5).into(),
                language: LanguageCode::JAVA,
                version: 513,
                seen: crate::clock::now(),
                seen_ms: 0,
            };
            members.enter(group, ConnectionId(id), client).unwrap();
        };
        (1..=2).for_each(|id| enter(&mut consumers, "g", id));
        (1..=3).for_each(|id| enter(&mut producers, INNER_PRODUCER, id));
        [2, 4].into_iter().for_each(|id| enter(&mut producers, "p", id));
        assert_eq!(only_consume(&producers, &consumers), BTreeSet::from([ConnectionId(1)]));
    }

    #[test]
    fn who_was_connected_before_a_break_is_suspect_for_a_minute() {
        let (suspects, now) = (Suspects::default(), crate::clock::now());
        let old = ConnectionId::last_drawn();
        assert!(!suspects.has_id(old, now), "there was no break");
        suspects.note_break(now);
        assert!(suspects.has_id(old, now));
        assert!(!suspects.has_id(ConnectionId(u64::MAX), now), "made after it");
        assert!(!suspects.has_id(old, now + LATE));
    }
}
