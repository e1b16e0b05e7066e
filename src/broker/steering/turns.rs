//! Who has had its turn lately.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Most that are kept in mind: 24 bytes each. Whoever comes beyond has no turn.
const MAX: usize = 100_000;

/// Gives each of many a turn, at intervals. No clock: pure.
#[derive(Debug)]
pub(super) struct Turns {
    every: Duration,
    last: HashMap<u64, Instant>,
    /// When those were forgotten who have not come for long.
    forgot: Option<Instant>,
}

/// What becomes of somebody who has never been here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// It has its turn at once.
    Comes,
    /// It has waited for nothing yet.
    Waits,
}

impl Turns {
    pub(super) fn new(every: Duration) -> Self {
        Self { every, last: HashMap::new(), forgot: None }
    }

    /// Whether it is the turn of `who`, which it has had then.
    pub(super) fn has_come(&mut self, who: u64, first: First, now: Instant) -> bool {
        if let Some(last) = self.last.get_mut(&who) {
            let come = now.saturating_duration_since(*last) >= self.every;
            if come {
                *last = now;
            }
            return come;
        }
        self.make_room(now);
        if self.last.len() >= MAX {
            return false;
        }
        self.last.insert(who, now);
        first == First::Comes
    }

    /// Forgets those whose turn has come twice while they were not here.
    fn make_room(&mut self, now: Instant) {
        let since = |at: Instant| now.saturating_duration_since(at);
        let long = 2 * self.every;
        if self.forgot.is_none_or(|at| since(at) >= self.every) {
            self.last.retain(|_, last| since(*last) < long);
            self.forgot = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(60);

    #[test]
    fn turns_come_at_intervals_and_the_first_at_once_or_not() {
        for (first, at_once) in [(First::Comes, true), (First::Waits, false)] {
            let (mut turns, start) = (Turns::new(EVERY), crate::clock::now());
            let at = |s| start + Duration::from_secs(s);
            let mut asks = |who, s| turns.has_come(who, first, at(s));
            assert_eq!(asks(1, 0), at_once, "{first:?}");
            assert!(!asks(1, 59), "{first:?}");
            assert_eq!(asks(2, 59), at_once, "{first:?}");
            assert!(asks(1, 60) && !asks(1, 61) && asks(1, 120), "{first:?}");
        }
    }

    #[test]
    fn who_has_gone_is_forgotten_and_there_is_a_limit() {
        let (mut turns, start) = (Turns::new(EVERY), crate::clock::now());
        let at = |s| start + Duration::from_secs(s);
        for who in 0..MAX as u64 {
            assert!(turns.has_come(who, First::Comes, at(0)));
        }
        let more = MAX as u64;
        assert!(!turns.has_come(more, First::Comes, at(0)), "it is held instead");
        assert!(turns.has_come(0, First::Comes, at(60)));
        assert!(turns.has_come(more, First::Comes, at(120)));
        assert_eq!(turns.last.len(), 2);
    }
}
