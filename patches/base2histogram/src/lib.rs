//! What openraft needs of the crate `base2histogram`: counts of values in buckets whose width grows
//! with the value, and their percentiles.
//!
//! The crate of that name makes lookup tables of all its sixteen precisions at first use: 25 MiB
//! that a process then owns, ten times what a broker needs besides. Here a bucket is computed.
//!
//! ```text
//! value   0 1 2 3 │ 4 5 6 7 │ 8 10 12 14 │ 16 20 24 28 │ …  below 4 exact, then four to a power of two
//! bucket  0 1 2 3 │ 4 5 6 7 │ 8  9 10 11 │ 12 13 14 15 │ …
//! ```

use std::{fmt, marker::PhantomData};

/// Bits of a value that tell buckets of one power of two apart.
const FINE_BITS: u32 = 2;
const PER_POWER: usize = 1 << FINE_BITS;
const BUCKETS: usize = (u64::BITS - FINE_BITS + 1) as usize * PER_POWER;

/// Counts of values. `T` is there for openraft's type signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    /// Grown to the largest bucket that was counted in.
    counts: Vec<u64>,
    of: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// Without a value.
    pub const fn new() -> Self {
        Self { counts: Vec::new(), of: PhantomData }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value `n` times.
    pub fn record_n(&mut self, value: u64, n: u64) {
        let bucket = bucket_of(value);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] = self.counts[bucket].saturating_add(n);
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The smallest value of the bucket below or in which `share` (0 to 1) of the values lie; 0 if
    /// there are none.
    pub fn percentile(&self, share: f64) -> u64 {
        let wanted = ((self.total() as f64 * share).ceil() as u64).max(1);
        let mut below = 0_u64;
        for (bucket, count) in self.counts.iter().enumerate() {
            below = below.saturating_add(*count);
            if below >= wanted {
                return first_of(bucket);
            }
        }
        0
    }

    /// The percentiles that openraft shows.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

fn bucket_of(value: u64) -> usize {
    let Some(power) = value.checked_ilog2().filter(|power| *power >= FINE_BITS) else {
        return value as usize;
    };
    let fine = (value >> (power - FINE_BITS)) as usize & (PER_POWER - 1);
    (power - FINE_BITS + 1) as usize * PER_POWER + fine
}

fn first_of(bucket: usize) -> u64 {
    debug_assert!(bucket < BUCKETS, "no value has this bucket");
    match (bucket / PER_POWER).checked_sub(1) {
        None => bucket as u64,
        Some(shift) => ((PER_POWER + bucket % PER_POWER) as u64) << shift,
    }
}

/// Percentiles of a [`Histogram`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PercentileStats {
    /// Values counted.
    pub samples: u64,
    /// 0.1 % are not larger.
    pub p0_1: u64,
    /// 1 % are not larger.
    pub p1: u64,
    /// 5 % are not larger.
    pub p5: u64,
    /// 10 % are not larger.
    pub p10: u64,
    /// Half are not larger.
    pub p50: u64,
    /// 90 % are not larger.
    pub p90: u64,
    /// 99 % are not larger.
    pub p99: u64,
    /// 99.9 % are not larger.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p50, p90, p99, p99_9, .. } = self;
        write!(f, "{samples} values, p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p99_9}")
    }
}

/// Named histograms, a line each.
#[derive(Debug, Default)]
pub struct AsciiChart(Vec<(String, Histogram)>);

impl AsciiChart {
    /// Without a histogram.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more.
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.0.push((name.into(), histogram));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.0 {
            writeln!(f, "{name}: {}", histogram.percentile_stats())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_starts_where_the_one_before_it_ends() {
        for bucket in 0..BUCKETS {
            let first = first_of(bucket);
            assert_eq!(bucket_of(first), bucket);
            if let Some(before) = first.checked_sub(1) {
                assert_eq!(bucket_of(before), bucket - 1);
            }
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_at_most_a_quarter_below_the_value() {
        let mut histogram = Histogram::<()>::new();
        (1..=1000).for_each(|value| histogram.record(value));
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p50, stats.p99, stats.p99_9), (1000, 448, 896, 896));
        assert_eq!(Histogram::<()>::new().percentile(0.5), 0);
    }
}
