//! Connections whose sends come to this member although another one leads: their clients know an old
//! route, or come by the ingress slot.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::net::ConnectionId;

/// A stock client asks for routes this often: who sends here later does it on purpose.
const LATELY: Duration = Duration::from_secs(30);
/// Connections that are known by name; more are not counted.
const KNOWN_MAX: usize = 16 * 1024;

/// Who took a detour lately. A member that leads never asks it.
#[derive(Debug, Default)]
pub struct Detours(Mutex<BTreeMap<ConnectionId, Instant>>);

impl Detours {
    /// A send of this connection is passed on at `now`.
    pub fn note(&self, connection: ConnectionId, now: Instant) {
        let mut last = self.0.lock();
        if last.len() >= KNOWN_MAX && !last.contains_key(&connection) {
            last.retain(|_, at| now.saturating_duration_since(*at) < LATELY);
        }
        if last.len() < KNOWN_MAX || last.contains_key(&connection) {
            last.insert(connection, now);
        }
    }

    /// It is closed.
    pub fn forget(&self, connection: ConnectionId) {
        self.0.lock().remove(&connection);
    }

    /// Connections of which something was passed on within the 30 s before `now`.
    pub fn lately(&self, now: Instant) -> u64 {
        let mut last = self.0.lock();
        last.retain(|_, at| now.saturating_duration_since(*at) < LATELY);
        last.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_connection_counts_once_and_for_half_a_minute() {
        let (detours, start) = (Detours::default(), clock::now());
        let at = |s| start + Duration::from_secs(s);
        for (connection, s) in [(1, 0), (1, 1), (2, 5), (3, 20)] {
            detours.note(ConnectionId(connection), at(s));
        }
        detours.forget(ConnectionId(3));
        for (s, want) in [(6, 2), (30, 2), (31, 1), (35, 0)] {
            assert_eq!(detours.lately(at(s)), want, "after {s} s");
        }
    }

    #[test]
    fn the_table_is_bounded() {
        let (detours, start) = (Detours::default(), clock::now());
        let most = KNOWN_MAX as u64;
        for connection in 0..most + 10 {
            detours.note(ConnectionId(connection), start);
        }
        assert_eq!(detours.lately(start), most);
        detours.note(ConnectionId(most), start + LATELY);
        assert_eq!(detours.lately(start + LATELY), 1, "the old ones made room");
    }
}
