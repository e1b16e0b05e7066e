//! Counters, gauges and histograms: relaxed atomics, cheap enough for every message. No number
//! here decides anything, so none needs to be exact in relation to another.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Something that is counted.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Something that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Changes it.
    pub fn add(&self, change: i64) {
        self.0.fetch_add(change, Relaxed);
    }

    /// Replaces it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// How many buckets a [`Histogram`] has, the last one without upper bound.
pub const BUCKETS: usize = 23;
/// The first bucket ends at 2⁴ = 16 µs; each further one at twice the former, up to 33.6 s.
const FIRST_BITS: u32 = 4;

/// How long things take: buckets that double from 16 µs to 33.6 s.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramValues {
    /// Observations per bucket, not cumulative.
    pub buckets: [u64; BUCKETS],
    /// All durations together, microseconds.
    pub sum_us: u64,
}

impl HistogramValues {
    /// From counts of durations below 2ⁱ µs (and not below half of that), as the store keeps them.
    pub fn of_powers(counts: &[u64], sum_us: u64) -> Self {
        let mut buckets = [0; BUCKETS];
        for (power, count) in counts.iter().enumerate() {
            buckets[power.saturating_sub(FIRST_BITS as usize).min(BUCKETS - 1)] += count;
        }
        Self { buckets, sum_us }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(us)].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }

    /// What has been counted.
    pub fn values(&self) -> HistogramValues {
        let buckets = std::array::from_fn(|at| self.buckets[at].load(Relaxed));
        HistogramValues { buckets, sum_us: self.sum_us.load(Relaxed) }
    }
}

/// The bucket of a duration: the first whose upper bound is not below it.
fn bucket_of(us: u64) -> usize {
    let bits = u64::BITS - us.saturating_sub(1).leading_zeros();
    (bits.saturating_sub(FIRST_BITS) as usize).min(BUCKETS - 1)
}

/// Upper bound of a bucket in microseconds; `None`: it has none.
pub fn bucket_end_us(bucket: usize) -> Option<u64> {
    (bucket + 1 < BUCKETS).then(|| 1 << (FIRST_BITS as usize + bucket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_that_reaches_it() {
        for us in (0..200).chain([1 << 20, (1 << 20) + 1, 1 << 25, (1 << 25) + 1, u64::MAX]) {
            let bucket = bucket_of(us);
            assert!(bucket_end_us(bucket).is_none_or(|end| us <= end), "{us} in {bucket}");
            if let Some(before) = bucket.checked_sub(1).and_then(bucket_end_us) {
                assert!(us > before, "{us} in {bucket}");
            }
        }
        assert_eq!(bucket_end_us(BUCKETS - 2), Some(33_554_432));
    }

    #[test]
    fn counts_by_powers_of_two_fit_in() {
        let mut counts = [0; 32];
        for us in [3_u32, 15, 17, 30_000_000, u32::MAX] {
            counts[(u32::BITS - us.leading_zeros()) as usize % 32] += 1;
        }
        let values = HistogramValues::of_powers(&counts, 7);
        let histogram = Histogram::default();
        for us in [3, 15, 17, 30_000_000, 1] {
            histogram.observe(Duration::from_micros(us));
        }
        assert_eq!(values.buckets, histogram.values().buckets);
        assert_eq!(values.sum_us, 7);
    }

    #[test]
    fn a_histogram_adds_up() {
        let histogram = Histogram::default();
        for us in [3, 16, 17, 40_000_000] {
            histogram.observe(Duration::from_micros(us));
        }
        let values = histogram.values();
        assert_eq!((values.buckets[0], values.buckets[1], values.buckets[BUCKETS - 1]), (2, 1, 1));
        assert_eq!(values.sum_us, 40_000_036);
    }
}
