//! What the unsent answers of one server hold in memory, together.
//!
//! Each connection has a limit of its own, at which its requests are not read any more; a thousand
//! connections have a thousand such limits. So what a connection holds beyond [`FREE_BYTES`] is
//! added up here, and when all of them hold more than the limit, the watchdog ends some: those
//! whose peers have taken nothing for longest, and of equals those that hold most. A peer that
//! reads its answers is not among them as long as another does not.
//!
//! Stored records do not count: they lie in the mapped log, not in memory of ours.

use super::{
    connection::ConnectionId,
    counters::{Counters, add, take},
    unfinished::FREE_BYTES,
};
use std::{
    cmp::Reverse,
    sync::{Arc, atomic::Ordering},
};
use tokio::sync::Notify;

/// The unsent answers of one server, and their limit.
#[derive(Debug)]
pub(super) struct Unsent {
    limit: usize,
    /// Has the sum.
    counters: Arc<Counters>,
    crowded: Notify,
}

/// What one connection holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holder {
    pub connection: ConnectionId,
    pub bytes: usize,
    /// Since when its peer has taken nothing, ms of the coarse clock; 0: it takes.
    pub blocked_since: u64,
}

impl Unsent {
    /// No answers yet; they may hold `limit` bytes.
    pub(super) fn new(limit: usize, counters: &Arc<Counters>) -> Arc<Self> {
        Arc::new(Self { limit, counters: Arc::clone(counters), crowded: Notify::new() })
    }

    /// Notes that a connection holds `after` bytes now where it held `before`. Below
    /// [`FREE_BYTES`], where a connection that is read stays, nothing shared is touched.
    pub(super) fn changed(&self, before: usize, after: usize) {
        let sum = &self.counters.unsent_bytes;
        let [was, is] = [before, after].map(|bytes| bytes.saturating_sub(FREE_BYTES));
        if is < was {
            take(sum, was - is);
        } else if is > was {
            let before = add(sum, is - was);
            let after = before + (is - was) as u64;
            // Once when it is crossed, and again while it gets worse.
            let step = (self.limit as u64 / 8).max(1);
            if after > self.limit as u64 && before / step != after / step {
                self.crowded.notify_one();
            }
        }
    }

    /// Waits until there is too much. One waiter: the watchdog.
    pub(super) async fn crowded(&self) {
        self.crowded.notified().await;
    }

    /// Whether all connections together hold too much.
    pub(super) fn is_crowded(&self) -> bool {
        self.counters.unsent_bytes.load(Ordering::Relaxed) > self.limit as u64
    }

    /// Which of `holders` to end, so that the rest is within the limit. Pure.
    pub(super) fn to_end(&self, mut holders: Vec<Holder>) -> Vec<ConnectionId> {
        let counted = |holder: &Holder| holder.bytes.saturating_sub(FREE_BYTES);
        let mut sum: usize = holders.iter().map(counted).sum();
        let since = |holder: &Holder| Some(holder.blocked_since).filter(|since| *since != 0);
        holders.retain(|holder| counted(holder) > 0);
        holders.sort_unstable_by_key(|h| (since(h).unwrap_or(u64::MAX), Reverse(h.bytes)));
        let mut ended = Vec::new();
        for holder in holders {
            if sum <= self.limit {
                break;
            }
            sum -= counted(&holder);
            ended.push(holder.connection);
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const KIB: usize = 1024;

    #[test]
    fn those_that_took_nothing_for_longest_are_ended_first_then_the_largest() {
        let all = Unsent::new(100 * KIB, &Arc::default());
        let holder = |id, kib, blocked_since| Holder {
            connection: ConnectionId(id),
            bytes: FREE_BYTES + kib * KIB,
            blocked_since,
        };
        let small = Holder { connection: ConnectionId(9), bytes: FREE_BYTES, blocked_since: 1 };
        let rows: [(Vec<Holder>, &[u64]); 5] = [
            (vec![holder(1, 50, 5), holder(2, 50, 0)], &[]),
            (vec![holder(1, 60, 0), holder(2, 50, 7)], &[2]),
            (vec![small, holder(1, 60, 7), holder(2, 50, 5)], &[2]),
            (vec![holder(1, 60, 7), holder(2, 90, 7), holder(3, 20, 7)], &[2]),
            (vec![holder(1, 200, 0), holder(2, 10, 4), holder(3, 20, 6)], &[2, 3, 1]),
        ];
        for (holders, want) in rows {
            let want: Vec<_> = want.iter().copied().map(ConnectionId).collect();
            assert_eq!(all.to_end(holders.clone()), want, "{holders:?}");
        }
    }

    #[test]
    fn the_sum_is_exact_and_says_when_it_is_too_much() {
        let all = Unsent::new(100 * KIB, &Arc::default());
        let sum = || all.counters.unsent_bytes.load(Ordering::Relaxed);
        all.changed(0, FREE_BYTES);
        assert_eq!(sum(), 0, "is free");
        all.changed(FREE_BYTES, 60 * KIB + FREE_BYTES);
        all.changed(0, 40 * KIB + FREE_BYTES);
        assert!(!all.is_crowded() && all.crowded().now_or_never().is_none());
        all.changed(40 * KIB + FREE_BYTES, 60 * KIB + FREE_BYTES);
        assert!(all.is_crowded() && all.crowded().now_or_never().is_some());
        all.changed(60 * KIB + FREE_BYTES, 61 * KIB + FREE_BYTES);
        assert!(all.crowded().now_or_never().is_none(), "not for every byte");
        all.changed(61 * KIB + FREE_BYTES, 90 * KIB + FREE_BYTES);
        assert!(all.crowded().now_or_never().is_some(), "it got worse");
        all.changed(90 * KIB + FREE_BYTES, 0);
        all.changed(60 * KIB + FREE_BYTES, FREE_BYTES / 2);
        assert_eq!(sum(), 0);
    }
}
