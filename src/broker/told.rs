//! What goes on for as long as clients like is told in the log once a minute.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Time between two lines about the same.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// When something was last told.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Option<Instant>>);

impl Told {
    /// Whether it is to be told at `now`, which counts as told then.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let mut told = self.0.lock();
        let is_due = told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_AGAIN);
        if is_due {
            *told = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_a_minute() {
        let (told, start) = (Told::default(), crate::clock::now());
        for (second, want) in [(0, true), (1, false), (59, false), (60, true), (61, false)] {
            assert_eq!(told.is_due(start + Duration::from_secs(second)), want, "{second}");
        }
    }
}
