//! Connections in which requests may lie that are older than they seem: this member was cut off, or
//! stood still, and their clients have gone on through others meanwhile ([`crate::raft::Group::watch_breaks`]).
//!
//! Producers' are closed: a stock producer sends again at once, elsewhere. Consumers' stay, since
//! some stock consumers wait 30 s for the answer of a pull whose connection is gone; for a minute
//! no committed offset goes back by them, and a send over one closes it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

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

#[cfg(test)]
mod tests {
    use super::*;

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
