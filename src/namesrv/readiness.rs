//! When the name server may say that something does not exist. Pure.
//!
//! Right after a start it knows nothing, and "no route" would be believed for 30 s. Brokers keep a
//! connection and try again every half second, so it waits a little longer from the first of them.

use std::time::{Duration, Instant};

/// How long to wait for brokers after a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From the first registration on: time for the other brokers to report.
    pub after_first: Duration,
    /// From the start on, whoever has reported by then.
    pub after_start: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { after_first: Duration::from_millis(700), after_start: Duration::from_secs(3) }
    }
}

/// Knows since when the name server runs and when the first broker reported.
#[derive(Debug, Clone)]
pub struct Readiness {
    patience: Patience,
    started: Instant,
    first_report: Option<Instant>,
}

impl Readiness {
    /// A name server that started at `started`.
    pub fn new(patience: Patience, started: Instant) -> Self {
        Self { patience, started, first_report: None }
    }

    /// A broker registered at `now`.
    pub fn reported(&mut self, now: Instant) {
        self.first_report.get_or_insert(now);
    }

    /// The moment from which on everything is answered as known.
    pub fn ready_at(&self) -> Instant {
        let latest = self.started + self.patience.after_start;
        self.first_report.map_or(latest, |first| latest.min(first + self.patience.after_first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn ready_soon_after_the_first_report_or_three_seconds_after_the_start() {
        let start = clock::now();
        let ms = |ms| start + Duration::from_millis(ms);
        // (reports at, ready at), in ms after the start
        let rows: &[(&[u64], u64)] = &[
            (&[], 3_000),
            (&[0], 700),
            (&[200, 900], 900),
            (&[1_999], 2_699),
            (&[2_500], 3_000),
            (&[9_000], 3_000),
        ];
        for (reports, ready) in rows {
            let mut readiness = Readiness::new(Patience::default(), start);
            reports.iter().for_each(|at| readiness.reported(ms(*at)));
            assert_eq!(readiness.ready_at(), ms(*ready), "{reports:?}");
        }
    }
}
