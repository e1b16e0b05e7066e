//! The sync thread: many wait, one sync serves them all.
//!
//! Who asks while a sync runs is served by the next one, together with everyone else who came in
//! the meantime. So the rate of syncs adapts to the disk, and there is no timer in the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::error::Error;
use super::files::Files;
use super::threads::{Turn, Worker};
use crate::clock;

/// Called once, when what was appended before is as durable as the options say, or cannot become so.
pub type SyncDone = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// When an append counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On disk: survives a power loss (`SYNC_FLUSH`, and the default of a group).
    Synced,
    /// In the page cache: survives the end of the process (`ASYNC_FLUSH`).
    PageCache,
}

/// With [`Durability::PageCache`], how long written data stays off the disk at most
/// (`flushIntervalCommitLog`; 500 ms as in Java).
pub const BACKGROUND_SYNC_MS: u64 = 500;

/// Requests that may wait. Whoever appends faster than that must wait for the disk.
const WAITING_MAX: usize = 16 * 1024;

/// Counts of syncs, for metrics.
#[derive(Debug, Default)]
pub struct SyncCounters {
    begun: AtomicU64,
    count: AtomicU64,
    total_us: AtomicU64,
    max_us: AtomicU64,
    peak_us: AtomicU64,
    buckets: [AtomicU64; SYNC_BUCKETS],
}

/// Buckets of [`SyncStats::buckets`].
pub const SYNC_BUCKETS: usize = 24;

/// A snapshot of [`SyncCounters`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncStats {
    /// Syncs of files that were begun.
    pub begun: u64,
    /// Those that ended, well.
    pub count: u64,
    /// Their time together, µs.
    pub total_us: u64,
    /// The longest one, µs.
    pub max_us: u64,
    /// How many took less than 2^i µs but not less than half of that; the last one counts the rest.
    pub buckets: [u64; SYNC_BUCKETS],
}

impl SyncCounters {
    /// One sync begins.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one sync that has ended.
    pub fn record(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.total_us.fetch_add(us, Ordering::Relaxed);
        self.max_us.fetch_max(us, Ordering::Relaxed);
        self.peak_us.fetch_max(us, Ordering::Relaxed);
        let bucket = (u64::BITS - us.leading_zeros()) as usize;
        self.buckets[bucket.min(SYNC_BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
    }

    /// The longest sync that has ended since the last call; for one caller.
    pub fn take_peak(&self) -> Option<Duration> {
        let us = self.peak_us.swap(0, Ordering::Relaxed);
        (us > 0).then(|| Duration::from_micros(us))
    }

    /// The counts by now.
    pub fn snapshot(&self) -> SyncStats {
        let mut buckets = [0; SYNC_BUCKETS];
        for (to, from) in buckets.iter_mut().zip(&self.buckets) {
            *to = from.load(Ordering::Relaxed);
        }
        SyncStats {
            begun: self.begun.load(Ordering::Relaxed),
            count: self.count.load(Ordering::Relaxed),
            total_us: self.total_us.load(Ordering::Relaxed),
            max_us: self.max_us.load(Ordering::Relaxed),
            buckets,
        }
    }
}

struct Queue {
    waiting: Vec<SyncDone>,
    stop: bool,
}

/// The thread and its inbox. Dropping it serves who waits and ends the thread.
pub(super) struct Syncer {
    queue: Arc<Mutex<Queue>>,
    thread: Arc<dyn Worker>,
}

impl Syncer {
    /// Starts the thread. `sync` makes durable what was written before the call; it is also called
    /// without a request each `background`.
    pub(super) fn start(
        files: &dyn Files,
        sync: impl Fn() -> Result<(), Error> + Send + 'static,
        background: Option<Duration>,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Mutex::new(Queue { waiting: Vec::new(), stop: false }));
        let inbox = Arc::clone(&queue);
        let mut synced = clock::now();
        let turn = move || {
            let (waiting, stop) = {
                let mut queue = inbox.lock();
                (std::mem::take(&mut queue.waiting), queue.stop)
            };
            let wait = background.map(|each| each.saturating_sub(synced.elapsed()));
            match (waiting.is_empty(), stop) {
                (true, true) => return Turn::End,
                (true, false) if wait.is_none_or(|wait| !wait.is_zero()) => {
                    return Turn::Idle(wait);
                }
                (true | false, _) => {}
            }
            let result = sync();
            synced = clock::now();
            Turn::Done(Box::new(move || waiting.into_iter().for_each(|done| done(result.clone()))))
        };
        Ok(Self { queue, thread: files.start_worker("sync", Box::new(turn))? })
    }

    /// Asks for a sync of everything written before.
    pub(super) fn request(&self, done: SyncDone) {
        let mut queue = self.queue.lock();
        while queue.waiting.len() >= WAITING_MAX && !queue.stop {
            drop(queue);
            self.thread.wait_until(&mut || self.queue.lock().waiting.len() < WAITING_MAX);
            queue = self.queue.lock();
        }
        if queue.stop {
            drop(queue);
            return done(Err(Error::Closed));
        }
        queue.waiting.push(done);
        if queue.waiting.len() == 1 {
            self.thread.wake();
        }
    }

    /// Serves who waits and ends the thread.
    pub(super) fn stop(&self) {
        self.queue.lock().stop = true;
        self.thread.join();
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RealFiles;
    use std::sync::mpsc;

    #[test]
    fn requests_during_a_sync_share_the_next_one() {
        let (entered_tx, entered) = mpsc::channel();
        let (go, go_rx) = mpsc::channel();
        let sync = move || {
            entered_tx.send(()).unwrap();
            go_rx.recv().map_err(|_| Error::Closed)
        };
        let syncer = Syncer::start(&RealFiles, sync, None).unwrap();
        let (done_tx, done) = mpsc::channel();
        let ask = |n: usize| {
            let done_tx = done_tx.clone();
            syncer.request(Box::new(move |result| done_tx.send((n, result.is_ok())).unwrap()));
        };
        ask(0);
        entered.recv().unwrap();
        (1..=100).for_each(ask);
        assert!(done.try_recv().is_err(), "nobody is told before the sync ends");
        go.send(()).unwrap();
        assert_eq!(done.recv().unwrap(), (0, true));
        go.send(()).unwrap();
        for n in 1..=100 {
            assert_eq!(done.recv().unwrap(), (n, true));
        }
        assert_eq!(entered.try_iter().count(), 1, "one sync for a hundred");
    }

    #[test]
    fn everyone_who_waits_learns_of_the_failure() {
        let poisoned = || Err(Error::Poisoned { cause: "no medium".into() });
        let syncer = Syncer::start(&RealFiles, poisoned, None).unwrap();
        let (tx, rx) = mpsc::channel();
        for _ in 0..3 {
            let tx = tx.clone();
            syncer.request(Box::new(move |r| tx.send(r.unwrap_err().to_string()).unwrap()));
        }
        syncer.stop();
        assert!(rx.try_iter().all(|text| text.contains("no medium")));
        let (tx, rx) = mpsc::channel();
        syncer.request(Box::new(move |r| tx.send(matches!(r, Err(Error::Closed))).unwrap()));
        assert!(rx.recv().unwrap(), "after the end");
    }

    #[test]
    fn without_requests_it_syncs_in_the_background() {
        let (tx, rx) = mpsc::channel();
        let sync = move || tx.send(()).map_err(|_| Error::Closed);
        let _syncer = Syncer::start(&RealFiles, sync, Some(Duration::from_millis(1))).unwrap();
        rx.recv().unwrap();
        rx.recv().unwrap();
    }

    #[test]
    fn counters_sort_into_powers_of_two() {
        let counters = SyncCounters::default();
        for us in [0, 1, 2, 3, 1000, u64::MAX] {
            counters.record(Duration::from_micros(us));
        }
        assert_eq!(counters.take_peak(), Some(Duration::from_micros(u64::MAX)));
        assert_eq!(counters.take_peak(), None, "it was told");
        let stats = counters.snapshot();
        assert_eq!((stats.count, stats.max_us), (6, u64::MAX));
        let want = [(0, 1), (1, 1), (2, 2), (10, 1), (SYNC_BUCKETS - 1, 1)];
        want.iter().for_each(|(i, n)| assert_eq!(stats.buckets[*i], *n, "bucket {i}"));
    }
}
