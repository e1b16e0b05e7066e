//! Keeps a peer that misbehaves in a loop from filling the log. Pure.

use std::{collections::HashMap, net::IpAddr};

/// Peers remembered at a time; beyond that, new ones are not logged.
const PEERS_MAX: usize = 1024;
/// Between two log lines about the same peer, usually.
pub const LOG_INTERVAL_MS: u64 = 60_000;

/// At most one line per peer and interval.
#[derive(Debug)]
pub struct LogLimit {
    interval_ms: u64,
    peers: HashMap<IpAddr, Said>,
}

#[derive(Debug)]
struct Said {
    at_ms: u64,
    unsaid: u64,
}

impl LogLimit {
    /// No line yet; in future one each `interval_ms`.
    pub fn new(interval_ms: u64) -> Self {
        Self { interval_ms, peers: HashMap::new() }
    }

    /// Whether to log now what `peer` did, and how often it did so unlogged since the last line.
    pub fn allow(&mut self, peer: IpAddr, now_ms: u64) -> Option<u64> {
        let interval = self.interval_ms;
        let recent = |said: &Said| now_ms.saturating_sub(said.at_ms) < interval;
        if let Some(said) = self.peers.get_mut(&peer) {
            if recent(said) {
                said.unsaid += 1;
                return None;
            }
            let unsaid = std::mem::take(&mut said.unsaid);
            said.at_ms = now_ms;
            return Some(unsaid);
        }
        if self.peers.len() >= PEERS_MAX {
            self.peers.retain(|_, said| recent(said));
        }
        if self.peers.len() >= PEERS_MAX {
            return None;
        }
        self.peers.insert(peer, Said { at_ms: now_ms, unsaid: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn peer(n: u32) -> IpAddr {
        Ipv4Addr::from(n).into()
    }

    #[test]
    fn a_peer_gets_one_line_per_interval_with_what_was_left_out() {
        let mut limit = LogLimit::new(1000);
        let rows = [
            (1, 5, Some(0)),
            (1, 6, None),
            (2, 6, Some(0)),
            (1, 1004, None),
            (1, 1005, Some(2)),
            (1, 2005, Some(0)),
        ];
        for row in rows {
            assert_eq!(limit.allow(peer(row.0), row.1), row.2, "{row:?}");
        }
    }

    #[test]
    fn many_peers_cost_bounded_memory_and_are_forgotten_in_time() {
        let mut limit = LogLimit::new(1000);
        let lines = (0..10_000).filter(|&n| limit.allow(peer(n), 1).is_some()).count();
        assert_eq!(lines, PEERS_MAX);
        assert_eq!(limit.peers.len(), PEERS_MAX);
        assert_eq!(limit.allow(peer(20_000), 1001), Some(0));
        assert_eq!(limit.peers.len(), 1);
    }
}
