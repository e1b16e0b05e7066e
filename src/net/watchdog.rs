//! One sweep over all connections of a server or client, a few times per limit: keeps the coarse
//! clock that connections stamp themselves with, and ends those that ran out of time. So a
//! connection has no timer of its own, and stamping costs no clock call.

use super::{
    connection::{Connection, ConnectionId, End},
    unsent::{Holder, Unsent},
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// How long a connection may do nothing, or too little.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeLimits {
    /// Without a byte read or written.
    pub idle: Option<Duration>,
    /// From the first byte of a frame to its last, and from the accept to the first frame.
    pub frame: Duration,
    /// Without a byte written while more answers wait than a connection may have.
    pub slow_reader: Duration,
}

/// Milliseconds since the watchdog began, as of its last sweep. Starts at 1: 0 means "never".
#[derive(Debug)]
pub(super) struct CoarseClock(AtomicU64);

impl CoarseClock {
    /// The time of the last sweep.
    pub(super) fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// When something last happened on a connection, in milliseconds of the coarse clock.
#[derive(Debug)]
pub(super) struct Activity {
    moved_at: AtomicU64,
    reads: AtomicU64,
    /// Since when a frame is awaited or incomplete; 0: none is.
    frame_since: AtomicU64,
    /// Since when the peer has taken nothing of what waits for it; 0: it takes it.
    blocked_since: AtomicU64,
}

impl Activity {
    /// A connection opened at `now`: its first frame is awaited from here on.
    pub(super) fn new(now: u64) -> Self {
        Self {
            moved_at: now.into(),
            reads: 0.into(),
            frame_since: now.into(),
            blocked_since: 0.into(),
        }
    }

    /// Bytes were read.
    pub(super) fn read(&self, now: u64) {
        self.moved_at.store(now, Ordering::Relaxed);
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// How often bytes were read: tells whether a peer was heard of between two moments.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Bytes were written.
    pub(super) fn wrote(&self, now: u64) {
        self.moved_at.store(now, Ordering::Relaxed);
        self.blocked_since.store(0, Ordering::Relaxed);
    }

    /// The socket takes no more for the time being.
    pub(super) fn write_blocked(&self, now: u64) {
        if self.blocked_since.load(Ordering::Relaxed) == 0 {
            self.blocked_since.store(now, Ordering::Relaxed);
        }
    }

    /// The reader waits for the rest of a frame.
    pub(super) fn frame_begun(&self, now: u64) {
        if self.frame_since.load(Ordering::Relaxed) == 0 {
            self.frame_since.store(now, Ordering::Relaxed);
        }
    }

    /// No frame is half read.
    pub(super) fn frame_ended(&self) {
        self.frame_since.store(0, Ordering::Relaxed);
    }
}

/// Which limit a connection has run out of, if any. Pure.
fn overdue(activity: &Activity, fullness: Fullness, now: u64, limits: &TimeLimits) -> Option<End> {
    let longer = |since: &AtomicU64, limit: Duration| {
        let since = since.load(Ordering::Relaxed);
        since != 0 && u128::from(now.saturating_sub(since)) >= limit.as_millis()
    };
    if fullness == Fullness::Over && longer(&activity.blocked_since, limits.slow_reader) {
        return Some(End::PeerDoesNotRead);
    }
    if longer(&activity.frame_since, limits.frame) {
        return Some(End::FrameUnfinished);
    }
    let idle = limits.idle?;
    // A peer that keeps asking but takes no answer for as long is as good as idle.
    let idle = longer(&activity.moved_at, idle) || longer(&activity.blocked_since, idle);
    idle.then_some(End::Idle)
}

/// Whether a connection's unsent answers exceed their limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fullness {
    /// There is room.
    Within,
    /// Reading has stopped until some are written.
    Over,
}

/// The connections of one server or client, and the sweep over them.
#[derive(Debug)]
pub(super) struct Watchdog {
    clock: Arc<CoarseClock>,
    limits: TimeLimits,
    unsent: Arc<Unsent>,
    connections: Mutex<HashMap<ConnectionId, Arc<Connection>>>,
}

impl Watchdog {
    pub(super) fn new(limits: TimeLimits, unsent: Arc<Unsent>) -> Arc<Self> {
        let clock = Arc::new(CoarseClock(AtomicU64::new(1)));
        Arc::new(Self { clock, limits, unsent, connections: Mutex::default() })
    }

    /// What the unsent answers of its connections hold.
    pub(super) fn unsent(&self) -> &Arc<Unsent> {
        &self.unsent
    }

    /// The clock that its connections stamp themselves with.
    pub(super) fn clock(&self) -> &Arc<CoarseClock> {
        &self.clock
    }

    /// Watches a connection until it is removed.
    pub(super) fn add(&self, connection: Arc<Connection>) {
        self.connections.lock().insert(connection.id(), connection);
    }

    /// Forgets a connection that has ended.
    pub(super) fn remove(&self, id: ConnectionId) {
        self.connections.lock().remove(&id);
    }

    /// Ends a connection, unless it has ended already.
    pub(super) fn end(&self, id: ConnectionId, why: End) {
        if let Some(connection) = self.connections.lock().get(&id) {
            connection.end_with(why);
        }
    }

    /// Connections watched.
    pub(super) fn len(&self) -> usize {
        self.connections.lock().len()
    }

    /// Calls `f` for every connection. `f` must not block.
    pub(super) fn for_each(&self, f: impl FnMut(&Arc<Connection>)) {
        self.connections.lock().values().for_each(f);
    }

    /// Moves the clock on and ends the connections that ran out of time.
    ///
    /// A late sweep means that this process did not run (stopped, starved, suspended): what its
    /// peers sent meanwhile is still unread, so that time is not held against them.
    fn sweep(&self, since_last: Duration) {
        let passed = since_last.min(self.period() * 2).as_millis();
        let now = self.clock.now_ms() + u64::try_from(passed).unwrap_or_default();
        self.clock.0.store(now, Ordering::Relaxed);
        self.for_each(|connection| {
            let (activity, fullness) = connection.vital_signs();
            if let Some(end) = overdue(activity, fullness, now, &self.limits) {
                connection.end_with(end);
            }
        });
    }

    /// Ends connections until unsent answers hold no more than they may.
    fn relieve(&self) {
        if !self.unsent.is_crowded() {
            return;
        }
        let mut holders = Vec::new();
        self.for_each(|connection| {
            let blocked_since = connection.activity().blocked_since.load(Ordering::Relaxed);
            let bytes = connection.outbox().memory();
            // One that has ended gives back what it holds when its task runs next.
            if !connection.is_closed() {
                holders.push(Holder { connection: connection.id(), bytes, blocked_since });
            }
        });
        for connection in self.unsent.to_end(holders) {
            self.end(connection, End::LeavesTooMuch);
        }
    }

    /// Between two sweeps: a quarter of the shortest limit, so that none is overrun by more.
    fn period(&self) -> Duration {
        let limits = &self.limits;
        let shortest = limits.frame.min(limits.slow_reader);
        let shortest = limits.idle.map_or(shortest, |idle| idle.min(shortest));
        (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(1))
    }

    /// Sweeps until nobody else holds the watchdog.
    pub(super) async fn run(this: Weak<Self>) {
        let start = this.upgrade().map(|w| (w.period(), Arc::clone(&w.unsent)));
        let Some((period, unsent)) = start else { return };
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = ticks.tick().await;
        loop {
            // Both are cancel-safe: a tick that was missed comes at once.
            let is_tick = tokio::select! {
                _ = ticks.tick() => true,
                () = unsent.crowded() => false,
            };
            let Some(watchdog) = this.upgrade() else { return };
            if is_tick {
                watchdog.sweep(last.elapsed());
                last = tokio::time::Instant::now();
            }
            watchdog.relieve();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> TimeLimits {
        TimeLimits {
            idle: Some(Duration::from_secs(120)),
            frame: Duration::from_secs(30),
            slow_reader: Duration::from_secs(15),
        }
    }

    #[test]
    fn each_limit_ends_what_it_is_for() {
        // moved at, frame since, blocked since, fullness, now → end
        let rows = [
            (1, 0, 0, Fullness::Within, 119_000, None),
            (1, 0, 0, Fullness::Within, 120_001, Some("idle")),
            (100_000, 0, 0, Fullness::Within, 120_001, None),
            (1, 1, 0, Fullness::Within, 30_000, None),
            (30_000, 1, 0, Fullness::Within, 30_001, Some("frame")),
            (1, 0, 1, Fullness::Within, 15_001, None),
            (15_000, 0, 1, Fullness::Over, 15_001, Some("reader")),
            (120_000, 0, 1, Fullness::Within, 120_001, Some("idle")),
            (1, 0, 0, Fullness::Over, 15_001, None),
            (5, 5, 5, Fullness::Over, 1, None), // a clock that stands still ends nothing
        ];
        for row in rows {
            let (moved, frame, blocked, fullness, now, want) = row;
            let activity = Activity::new(moved);
            activity.frame_since.store(frame, Ordering::Relaxed);
            activity.blocked_since.store(blocked, Ordering::Relaxed);
            let end = overdue(&activity, fullness, now, &limits());
            let got = end.map(|end| match end {
                End::Idle => "idle",
                End::FrameUnfinished => "frame",
                End::PeerDoesNotRead => "reader",
                other => panic!("{other:?}"),
            });
            assert_eq!(got, want, "{row:?}");
        }
    }

    #[test]
    fn without_an_idle_limit_silence_is_allowed() {
        let limits = TimeLimits { idle: None, ..limits() };
        let activity = Activity::new(1);
        activity.frame_ended();
        assert!(overdue(&activity, Fullness::Within, u64::MAX, &limits).is_none());
    }

    #[test]
    fn a_write_lifts_the_block_and_a_second_block_starts_anew() {
        let activity = Activity::new(1);
        activity.write_blocked(5);
        activity.write_blocked(9);
        assert_eq!(activity.blocked_since.load(Ordering::Relaxed), 5);
        activity.wrote(10);
        activity.write_blocked(11);
        assert_eq!(activity.blocked_since.load(Ordering::Relaxed), 11);
    }
}
