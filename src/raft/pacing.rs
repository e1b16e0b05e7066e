//! How fast entries go to a member that has to get far more of them than it lacks for a moment: it
//! gets what clients can do without, of this member's disk and network, and no more.
//!
//! After each request with entries a stream rests until the limit has made up for it. Only the
//! next request waits, and it is not even read from the log before: what was sent is on its way,
//! and heartbeats, votes and snapshots have streams of their own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use openraft::raft::AppendEntriesRequest;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use crate::ids::PhysicalOffset;
use crate::raft::type_config::{LogEntry, TypeConfig};

/// A timer that fires late may be made up for by this part of a second at the limit.
const CREDIT: u64 = 20;
/// Longest rest before the limit is looked at again: it may have been changed.
const REST_MAX: Duration = Duration::from_secs(1);
/// Shortest one: timers know nothing finer.
const REST_MIN: Duration = Duration::from_millis(1);

/// What was sent to one member and is not made up for yet. Pure: `now` is an argument.
#[derive(Debug)]
pub(super) struct Pacer {
    /// Bytes; below zero: a late timer's credit.
    owed: i64,
    at: Instant,
}

impl Pacer {
    /// Nothing was sent.
    pub(super) fn new(now: Instant) -> Self {
        Self { owed: 0, at: now }
    }

    /// So many bytes went.
    pub(super) fn sent(&mut self, bytes: u64) {
        self.owed = self.owed.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// How long to rest now at `limit` bytes per second, then to ask again; `None`: not at all.
    /// Without a limit, what was sent is forgotten.
    pub(super) fn rest(&mut self, limit: Option<u64>, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(std::mem::replace(&mut self.at, now));
        let Some(limit) = limit.map(|limit| limit.max(1)) else {
            self.owed = 0;
            return None;
        };
        let paid = u128::from(limit) * passed.as_micros() / 1_000_000;
        let credit = i64::try_from(limit / CREDIT).unwrap_or(i64::MAX);
        let owed = self.owed.saturating_sub(i64::try_from(paid).unwrap_or(i64::MAX));
        self.owed = owed.max(-credit);
        let owed = u128::from(u64::try_from(self.owed).ok().filter(|owed| *owed > 0)?);
        let us = u64::try_from(owed * 1_000_000 / u128::from(limit)).unwrap_or(u64::MAX);
        Some(Duration::from_micros(us).clamp(REST_MIN, REST_MAX))
    }
}

/// Requests of one append stream, with rests between them as `limit` wants it, in bytes per second:
/// it is asked where the entries end that went last.
pub(super) struct Paced<S, L> {
    requests: S,
    limit: L,
    pacer: Arc<Mutex<Pacer>>,
    /// Where those entries end, as long as there may be something to make up for.
    sent_up_to: Option<PhysicalOffset>,
    due: Pin<Box<Sleep>>,
}

impl<S, L> Paced<S, L> {
    /// What one stream leaves in `pacer`, the next one to the same member makes up for.
    pub(super) fn new(requests: S, limit: L, pacer: Arc<Mutex<Pacer>>) -> Self {
        let due = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { requests, limit, pacer, sent_up_to: None, due }
    }
}

impl<S, L> Stream for Paced<S, L>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
    L: Fn(PhysicalOffset) -> Option<u64> + Unpin,
{
    type Item = AppendEntriesRequest<TypeConfig>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        while let Some(end) = this.sent_up_to {
            let (limit, now) = ((this.limit)(end), Instant::now());
            let rest = this.pacer.lock().rest(limit, now);
            let Some(rest) = rest else {
                this.sent_up_to = None;
                break;
            };
            this.due.as_mut().reset(now + rest);
            ready!(this.due.as_mut().poll(context));
        }
        let request = ready!(this.requests.poll_next_unpin(context));
        if let Some((bytes, end)) = request.as_ref().and_then(|r| entries_of(&r.entries)) {
            this.pacer.lock().sent(bytes);
            this.sent_up_to = Some(end);
        }
        Poll::Ready(request)
    }
}

/// Bytes of entries that follow each other in the log, and where they end.
fn entries_of(entries: &[LogEntry]) -> Option<(u64, PhysicalOffset)> {
    let first = entries.first()?.stored.as_ref()?.header();
    let end = entries.last()?.stored.as_ref()?.header().end();
    Some((end.0.saturating_sub(first.position.0), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn a_rest_makes_up_for_what_was_sent_at_the_limit_of_that_moment() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut pacer = Pacer::new(start);
        // Bytes that go before, when it is asked in ms, the limit, what to rest in ms.
        let rows = [
            (0, 0, Some(MIB), None),
            (MIB / 2, 0, Some(MIB), Some(500)),
            (0, 250, Some(MIB), Some(250)),
            (0, 250, Some(2 * MIB), Some(125)),
            (0, 375, Some(2 * MIB), None),
            (64 * MIB, 375, Some(MIB), Some(1_000)),
            (0, 1_375, Some(MIB), Some(1_000)),
            (0, 1_375, None, None),
            (0, 1_375, Some(MIB), None),
            (1, 60_000, Some(MIB), None),
        ];
        for (n, (bytes, at, limit, want)) in rows.into_iter().enumerate() {
            pacer.sent(bytes);
            assert_eq!(pacer.rest(limit, start + ms(at)), want.map(ms), "row {n}");
        }
        pacer.sent(u64::MAX);
        assert_eq!(pacer.rest(Some(0), start + ms(60_000)), Some(REST_MAX), "never a panic");
    }

    #[test]
    fn nothing_goes_faster_than_the_limit_however_pieces_and_timers_fall() {
        for (piece, late) in [(2 * MIB, 0), (MIB / 3, 3), (4096, 7), (3 * MIB, 40)] {
            let (start, limit) = (Instant::now(), 16 * MIB);
            let (mut now, mut pacer, mut sent) = (start, Pacer::new(start), 0);
            while now.duration_since(start) < Duration::from_secs(10) {
                match pacer.rest(Some(limit), now) {
                    Some(rest) => now += rest + Duration::from_millis(late),
                    None => {
                        pacer.sent(piece);
                        sent += piece;
                    }
                }
            }
            let most = limit * 10 + limit / CREDIT + piece + limit / 10;
            assert!(sent <= most, "{piece} {late}: {sent} of {most}");
            assert!(sent >= limit * 8, "{piece} {late}: {sent}");
        }
    }
}
