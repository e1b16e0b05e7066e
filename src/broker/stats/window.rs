//! Rates over the last minutes and hours, from samples of counters that only grow.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A counter at a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// What was counted: messages, or bytes.
    pub sum: u64,
    /// How often something was added.
    pub calls: u64,
}

/// What happened between the first and the last sample of a window.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Growth {
    /// Added in that time.
    pub sum: u64,
    /// Added per second.
    pub per_second: f64,
    /// Added per call.
    pub per_call: f64,
}

/// The newest samples of one counter, taken at a fixed distance.
#[derive(Debug)]
pub struct Window {
    samples: VecDeque<(Instant, Count)>,
    every: Duration,
    keep: usize,
}

impl Window {
    /// A window of `keep` samples, one every `every`.
    pub fn new(keep: usize, every: Duration) -> Self {
        Self { samples: VecDeque::new(), every, keep }
    }

    /// Takes a sample if it is time for one. Counters start at zero: what they hold at the first
    /// sample has come since the one that would have been before it.
    pub fn sample(&mut self, now: Instant, count: Count) {
        if self.samples.is_empty()
            && let Some(before) = now.checked_sub(self.every)
        {
            self.samples.push_back((before, Count::default()));
        }
        let due = match self.samples.back() {
            None => true,
            Some((last, _)) => now.saturating_duration_since(*last) >= self.every,
        };
        if due {
            if self.samples.len() == self.keep {
                self.samples.pop_front();
            }
            self.samples.push_back((now, count));
        }
    }

    /// Growth over the samples there are; zero with fewer than two.
    pub fn growth(&self) -> Growth {
        match (self.samples.front(), self.samples.back()) {
            (Some((from, first)), Some((to, last))) if to > from => growth(
                to.saturating_duration_since(*from),
                last.sum.saturating_sub(first.sum),
                last.calls.saturating_sub(first.calls),
            ),
            _ => Growth::default(),
        }
    }

    /// The sum at `before`, by the newest sample that is not younger; zero before the first.
    pub fn sum_at(&self, before: Instant) -> u64 {
        let sample = self.samples.iter().rev().find(|(at, _)| *at <= before);
        sample.map_or(0, |(_, count)| count.sum)
    }

    /// Growth over the last `within`; zero until there are samples that old.
    pub fn growth_within(&self, within: Duration) -> Growth {
        let Some((to, last)) = self.samples.back() else { return Growth::default() };
        let first =
            self.samples.iter().rev().find(|(at, _)| to.saturating_duration_since(*at) >= within);
        first.map_or_else(Growth::default, |(from, first)| {
            growth(
                to.saturating_duration_since(*from),
                last.sum.saturating_sub(first.sum),
                last.calls.saturating_sub(first.calls),
            )
        })
    }
}

#[allow(clippy::cast_precision_loss)] // rates are shown to people
fn growth(over: Duration, sum: u64, calls: u64) -> Growth {
    let seconds = over.as_secs_f64();
    Growth {
        sum,
        per_second: if seconds > 0.0 { sum as f64 / seconds } else { 0.0 },
        per_call: if calls > 0 { sum as f64 / calls as f64 } else { 0.0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(sum: u64) -> Count {
        Count { sum, calls: sum / 2 }
    }

    #[test]
    fn rates_come_from_the_oldest_sample_in_the_window() {
        let start = crate::clock::now();
        let at = |s| start + Duration::from_secs(s);
        let mut window = Window::new(7, Duration::from_secs(10));
        assert_eq!(window.growth(), Growth::default());
        for s in 0..=100 {
            window.sample(at(s), count(s * 6));
        }
        let growth = window.growth(); // 40 s to 100 s
        assert_eq!((growth.sum, growth.per_second, growth.per_call), (360, 6.0, 2.0));
        assert_eq!(window.growth_within(Duration::from_secs(20)).sum, 120);
        assert_eq!([39, 40, 49, 50].map(|s| window.sum_at(at(s))), [0, 240, 240, 300]);
        assert_eq!(window.growth_within(Duration::from_secs(600)), Growth::default());
    }
}
