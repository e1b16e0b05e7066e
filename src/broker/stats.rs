//! What this broker counts for tools: totals with rates (28), and traffic by topic and group (315).
//!
//! Counting is a few relaxed additions; one task takes samples every second.

pub mod latency;
pub mod traffic;
pub mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub use latency::{BUCKETS, PutTimes, PutTimesSnapshot};
pub use traffic::{Growths, Traffic, TrafficTable};
pub use window::Growth;
use window::{Count, Window};

/// Samples kept for totals: ten minutes, one a second.
const SAMPLES: usize = 601;
/// Traffic is sampled at every such second.
const TRAFFIC_EVERY: Duration = Duration::from_secs(10);
/// Windows that tools show rates for.
pub const RATE_WINDOWS: [Duration; 3] =
    [Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(600)];

/// Everything this broker counts.
#[derive(Debug)]
pub struct Stats {
    put: Total,
    put_bytes: AtomicU64,
    put_failed: AtomicU64,
    put_repeated: AtomicU64,
    got: Total,
    got_bytes: AtomicU64,
    found: Total,
    missed: Total,
    /// How long sends took.
    pub put_times: PutTimes,
    /// By topic and group.
    pub traffic: TrafficTable,
    /// Messages of users, that is without system topics: in and out.
    pub users: Days,
    traffic_sampled: Mutex<Option<Instant>>,
}

/// A total and its samples.
#[derive(Debug)]
struct Total {
    sum: AtomicU64,
    window: Mutex<Window>,
}

impl Total {
    fn new() -> Self {
        Self {
            sum: AtomicU64::new(0),
            window: Mutex::new(Window::new(SAMPLES, Duration::from_millis(900))),
        }
    }

    fn add(&self, value: u64) {
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    fn sample(&self, now: Instant) {
        let sum = self.sum();
        self.window.lock().sample(now, Count { sum, calls: sum });
    }

    fn rates(&self) -> [f64; 3] {
        let window = self.window.lock();
        RATE_WINDOWS.map(|within| window.growth_within(within).per_second)
    }
}

/// Totals at a moment, and rates over [`RATE_WINDOWS`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    /// Messages stored.
    pub put: u64,
    /// Bytes of their bodies.
    pub put_bytes: u64,
    /// Sends that stored nothing.
    pub put_failed: u64,
    /// Sends that were answered with what an earlier try stored.
    pub put_repeated: u64,
    /// Messages given to consumers.
    pub got: u64,
    /// Their bytes.
    pub got_bytes: u64,
    /// Pulls that found messages.
    pub found: u64,
    /// Pulls that found none.
    pub missed: u64,
    /// Messages stored per second.
    pub put_rates: [f64; 3],
    /// Messages given to consumers per second.
    pub got_rates: [f64; 3],
    /// Pulls that found messages, per second.
    pub found_rates: [f64; 3],
    /// Pulls that found none, per second.
    pub missed_rates: [f64; 3],
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            put: Total::new(),
            put_bytes: AtomicU64::new(0),
            put_failed: AtomicU64::new(0),
            put_repeated: AtomicU64::new(0),
            got: Total::new(),
            got_bytes: AtomicU64::new(0),
            found: Total::new(),
            missed: Total::new(),
            put_times: PutTimes::default(),
            traffic: TrafficTable::default(),
            users: Days::default(),
            traffic_sampled: Mutex::new(None),
        }
    }
}

impl Stats {
    /// Messages stored in the last `within`, or since the start.
    pub fn stored_within(&self, within: Duration, now: Instant) -> u64 {
        let before = now.checked_sub(within);
        let before = before.map_or(0, |before| self.put.window.lock().sum_at(before));
        self.put.sum() - before
    }

    /// Counts stored messages of one send.
    pub fn stored(&self, topic: &Arc<str>, system: bool, messages: u64, bytes: u64) {
        self.put.add(messages);
        self.put_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.traffic.put(topic, messages, bytes);
        if !system {
            self.users.put.fetch_add(messages, Ordering::Relaxed);
        }
    }

    /// Counts a send that stored nothing.
    pub fn refused(&self) {
        self.put_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a send of what is stored already.
    pub fn repeated(&self) {
        self.put_repeated.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a pull that was answered with messages, for its group as well if that is known.
    pub fn pulled(
        &self,
        topic: &str,
        group: Option<&str>,
        system: bool,
        messages: u64,
        bytes: u64,
    ) {
        self.found.add(1);
        self.got.add(messages);
        self.got_bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(group) = group {
            self.traffic.got(topic, group, messages, bytes);
        }
        if !system {
            self.users.got.fetch_add(messages, Ordering::Relaxed);
        }
    }

    /// Counts a pull that found nothing.
    pub fn pulled_nothing(&self) {
        self.missed.add(1);
    }

    /// Takes the samples that rates are made of. Called about once a second.
    pub fn sample(&self, now: Instant) {
        for total in [&self.put, &self.got, &self.found, &self.missed] {
            total.sample(now);
        }
        let mut sampled = self.traffic_sampled.lock();
        if sampled.is_none_or(|at| now.saturating_duration_since(at) >= TRAFFIC_EVERY) {
            *sampled = Some(now);
            drop(sampled);
            self.traffic.sample(now);
        }
    }

    /// Totals and their rates.
    pub fn totals(&self) -> Totals {
        Totals {
            put: self.put.sum(),
            put_bytes: self.put_bytes.load(Ordering::Relaxed),
            put_failed: self.put_failed.load(Ordering::Relaxed),
            put_repeated: self.put_repeated.load(Ordering::Relaxed),
            got: self.got.sum(),
            got_bytes: self.got_bytes.load(Ordering::Relaxed),
            found: self.found.sum(),
            missed: self.missed.sum(),
            put_rates: self.put.rates(),
            got_rates: self.got.rates(),
            found_rates: self.found.rates(),
            missed_rates: self.missed.rates(),
        }
    }
}

/// Messages of users, as of now and as of the last two midnights.
#[derive(Debug, Default)]
pub struct Days {
    put: AtomicU64,
    got: AtomicU64,
    midnights: Mutex<Midnights>,
}

#[derive(Debug, Default)]
struct Midnights {
    day: Option<i64>,
    today: (u64, u64),
    yesterday: (u64, u64),
}

/// Messages in and out, as of some moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayCounts {
    /// In and out as of the midnight before last.
    pub yesterday_morning: (u64, u64),
    /// In and out as of last midnight.
    pub today_morning: (u64, u64),
    /// In and out as of now.
    pub now: (u64, u64),
}

impl Days {
    /// Notes the number of the local day; when it changes, counts are kept as of midnight.
    pub fn on_day(&self, day: i64) {
        let now = (self.put.load(Ordering::Relaxed), self.got.load(Ordering::Relaxed));
        let mut midnights = self.midnights.lock();
        if midnights.day.is_some_and(|last| last != day) {
            midnights.yesterday = midnights.today;
            midnights.today = now;
        }
        midnights.day = Some(day);
    }

    /// The counts.
    pub fn counts(&self) -> DayCounts {
        let midnights = self.midnights.lock();
        DayCounts {
            yesterday_morning: midnights.yesterday,
            today_morning: midnights.today,
            now: (self.put.load(Ordering::Relaxed), self.got.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_have_rates_once_there_are_samples_that_old() {
        let (stats, start) = (Stats::default(), crate::clock::now());
        let topic: Arc<str> = "T".into();
        for second in 0..=20 {
            stats.sample(start + Duration::from_secs(second));
            stats.stored(&topic, false, 3, 30);
            stats.pulled("T", Some("g"), false, 1, 10);
            stats.pulled("T", None, false, 1, 10);
            stats.pulled_nothing();
        }
        let totals = stats.totals();
        assert_eq!((totals.put, totals.put_bytes, totals.got), (63, 630, 42));
        assert_eq!(totals.put_rates, [3.0, 0.0, 0.0]);
        assert_eq!((totals.got_rates[0], totals.found_rates[0]), (2.0, 2.0));
        assert_eq!(stats.traffic.out_of_topic("T", "g").unwrap().messages.sum(), 21);
        assert_eq!(totals.missed_rates[0], 1.0);
        assert!(stats.traffic.into_topic("T").unwrap().messages.growths().minute.sum > 0);
    }

    #[test]
    fn counts_are_kept_at_midnight() {
        let stats = Stats::default();
        let topic: Arc<str> = "T".into();
        for day in [1, 1, 2, 3] {
            stats.users.on_day(day);
            stats.stored(&topic, false, 1, 1);
            stats.stored(&topic, true, 1, 1);
        }
        let counts = stats.users.counts();
        assert_eq!(counts.yesterday_morning, (2, 0));
        assert_eq!(counts.today_morning, (3, 0));
        assert_eq!(counts.now, (4, 0), "system topics are not counted");
    }
}
