//! How long sends took, from request to answer, in the steps that Java's tools print.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::telemetry::instruments::Histogram;

/// Upper bounds of the steps in ms, exclusive, and how tools name them. The last has no bound.
pub const BUCKETS: [(u64, &str); 13] = [
    (1, "<=0ms"),
    (10, "0~10ms"),
    (50, "10~50ms"),
    (100, "50~100ms"),
    (200, "100~200ms"),
    (500, "200~500ms"),
    (1000, "500ms~1s"),
    (2000, "1~2s"),
    (3000, "2~3s"),
    (4000, "3~4s"),
    (5000, "4~5s"),
    (10_000, "5~10s"),
    (u64::MAX, "10s~"),
];

/// Counts of sends by duration, and the longest.
#[derive(Debug, Default)]
pub struct PutTimes {
    counts: [AtomicU64; BUCKETS.len()],
    longest_ms: AtomicU64,
    /// The same, finer.
    pub histogram: Histogram,
}

/// [`PutTimes`] at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutTimesSnapshot {
    /// Sends in each of [`BUCKETS`].
    pub counts: [u64; BUCKETS.len()],
    /// The longest, ms.
    pub longest_ms: u64,
}

impl PutTimes {
    /// Counts one send.
    pub fn add(&self, took: Duration) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let step = BUCKETS.iter().position(|(bound, _)| ms < *bound).unwrap_or(BUCKETS.len() - 1);
        self.counts[step].fetch_add(1, Ordering::Relaxed);
        self.histogram.observe(took);
        if ms > self.longest_ms.load(Ordering::Relaxed) {
            self.longest_ms.fetch_max(ms, Ordering::Relaxed);
        }
    }

    /// What was counted so far.
    pub fn snapshot(&self) -> PutTimesSnapshot {
        PutTimesSnapshot {
            counts: std::array::from_fn(|i| self.counts[i].load(Ordering::Relaxed)),
            longest_ms: self.longest_ms.load(Ordering::Relaxed),
        }
    }
}

impl PutTimesSnapshot {
    /// `[<=0ms]:7 [0~10ms]:2 … `, as RocketMQ prints it.
    pub fn text(&self) -> String {
        let steps = BUCKETS.iter().zip(self.counts);
        steps.map(|((_, name), count)| format!("[{name}]:{count} ")).collect()
    }

    /// An upper bound, in ms, of what a share of all sends took: 0.99 for the 99th percentile.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn share_within_ms(&self, share: f64) -> u64 {
        let wanted = (self.counts.iter().sum::<u64>() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for ((bound, _), count) in BUCKETS.iter().zip(self.counts) {
            seen += count;
            if seen >= wanted {
                return self.longest_ms.min(bound - 1);
            }
        }
        self.longest_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_are_counted_in_the_steps_of_java() {
        let times = PutTimes::default();
        for ms in [0, 0, 5, 9, 10, 499, 700, 20_000] {
            times.add(Duration::from_millis(ms));
        }
        let snapshot = times.snapshot();
        assert_eq!(
            snapshot.text(),
            "[<=0ms]:2 [0~10ms]:2 [10~50ms]:1 [50~100ms]:0 [100~200ms]:0 [200~500ms]:1 \
             [500ms~1s]:1 [1~2s]:0 [2~3s]:0 [3~4s]:0 [4~5s]:0 [5~10s]:0 [10s~]:1 "
        );
        assert_eq!(snapshot.longest_ms, 20_000);
        assert_eq!(snapshot.share_within_ms(0.5), 9);
        assert_eq!(snapshot.share_within_ms(0.999), 20_000);
    }
}
