//! Keeps what happens in a loop from filling the log. Pure but for its lock.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Subjects remembered at a time; beyond that, nothing is logged about new ones.
const SUBJECTS_MAX: usize = 1024;

/// At most one line about the same subject in an interval. A subject is who does it (a peer's
/// address), what it is done to (a file), or `()` where there is only one.
#[derive(Debug)]
pub struct LogLimit<S = ()> {
    interval: Duration,
    said: Mutex<HashMap<S, Said>>,
}

#[derive(Debug)]
struct Said {
    at: Instant,
    unsaid: u64,
}

impl<S: Eq + Hash> LogLimit<S> {
    /// No line yet; in future one each `interval`.
    pub fn new(interval: Duration) -> Self {
        Self { interval, said: Mutex::default() }
    }

    /// One line a minute.
    pub fn minutely() -> Self {
        Self::new(Duration::from_secs(60))
    }

    /// Whether to log something about `subject` at `now`, and how often it was left out since the
    /// last line.
    pub fn allow(&self, subject: S, now: Instant) -> Option<u64> {
        let recent = |said: &Said| now.saturating_duration_since(said.at) < self.interval;
        let mut subjects = self.said.lock();
        if let Some(said) = subjects.get_mut(&subject) {
            if recent(said) {
                said.unsaid += 1;
                return None;
            }
            let unsaid = std::mem::take(&mut said.unsaid);
            said.at = now;
            return Some(unsaid);
        }
        if subjects.len() >= SUBJECTS_MAX {
            subjects.retain(|_, said| recent(said));
        }
        if subjects.len() >= SUBJECTS_MAX {
            return None;
        }
        subjects.insert(subject, Said { at: now, unsaid: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(1000);

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[test]
    fn a_subject_gets_one_line_per_interval_with_what_was_left_out() {
        let (limit, start) = (LogLimit::new(INTERVAL), now());
        let rows = [
            (1, 5, Some(0)),
            (1, 6, None),
            (2, 6, Some(0)),
            (1, 1004, None),
            (1, 1005, Some(2)),
            (1, 2005, Some(0)),
        ];
        for row in rows {
            let at = start + Duration::from_millis(row.1);
            assert_eq!(limit.allow(row.0, at), row.2, "{row:?}");
        }
    }

    #[test]
    fn many_subjects_cost_bounded_memory_and_are_forgotten_in_time() {
        let (limit, start) = (LogLimit::new(INTERVAL), now());
        let lines = (0..10_000).filter(|&n| limit.allow(n, start).is_some()).count();
        assert_eq!(lines, SUBJECTS_MAX);
        assert_eq!(limit.said.lock().len(), SUBJECTS_MAX);
        assert_eq!(limit.allow(20_000, start + INTERVAL), Some(0));
        assert_eq!(limit.said.lock().len(), 1);
    }
}
