//! A disk that takes seconds for a sync. A majority without it is enough, so its member goes on
//! and nobody waits for it. But it should not lead: what its clients wait for is on two disks then,
//! and what it has to promise as a candidate waits for the slow one.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A sync that takes this long makes its disk a slow one …
const SLOW: Duration = Duration::from_secs(1);
/// … for so long after it. Each time that it was hardly fast again: for twice as long, so that no
/// preference has leadership come and go …
const REST: Duration = Duration::from_secs(60);
/// … up to this.
const REST_MAX: Duration = Duration::from_secs(3600);

/// The longest sync is that of the last so long …
const MEMORY: Duration = Duration::from_secs(60);
/// … and a little more.
const SLOT: Duration = Duration::from_secs(5);

/// Syncs of the log: how many were begun, and ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Syncs {
    pub(super) begun: u64,
    pub(super) ended: u64,
    /// The longest that has ended since the last look: one that the thread which looks waited for
    /// is never seen under way.
    pub(super) longest: Option<Duration>,
}

/// What is known of this member's disk.
#[derive(Debug)]
pub(super) struct Pace {
    /// The sync that was under way at the last look, and when it was seen first.
    under_way: Option<(u64, Instant)>,
    slow: Option<Slow>,
    rest: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Slow {
    /// The longest sync.
    took: Duration,
    /// When the last slow one was seen.
    at: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { under_way: None, slow: None, rest: REST }
    }

    /// How long its slowest sync took, while the disk counts as slow. Called several times a second.
    pub(super) fn look(&mut self, syncs: Syncs, now: Instant) -> Option<Duration> {
        self.under_way = match self.under_way {
            Some((number, since)) if number == syncs.begun => Some((number, since)),
            Some(_) | None => Some((syncs.begun, now)),
        }
        .filter(|_| syncs.begun > syncs.ended);
        let under_way = self.under_way.map(|(_, since)| now.duration_since(since));
        let took = under_way.max(syncs.longest).unwrap_or_default();
        if took >= SLOW {
            self.slow = Some(match self.slow {
                Some(slow) if now.duration_since(slow.at) < self.rest => {
                    Slow { took: slow.took.max(took), at: now }
                }
                Some(_) => {
                    self.rest = (self.rest * 2).min(REST_MAX);
                    Slow { took, at: now }
                }
                None => Slow { took, at: now },
            });
        }
        let slow = self.slow?;
        let since = now.duration_since(slow.at);
        if since >= 2 * self.rest {
            *self = Self { under_way: self.under_way, ..Self::new() };
        }
        (since < self.rest).then_some(slow.took)
    }

    /// How long the sync takes by now that is under way.
    pub(super) fn under_way(&self, now: Instant) -> Option<Duration> {
        self.under_way.map(|(_, since)| now.saturating_duration_since(since))
    }

    /// For how long the disk still counts as slow, if no sync is slow any more.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.rest.checked_sub(now.saturating_duration_since(self.slow?.at))?;
        Some(left).filter(|left| !left.is_zero())
    }
}

/// The longest of the last minute.
#[derive(Debug, Default)]
pub(super) struct Longest(VecDeque<(Instant, Duration)>);

impl Longest {
    /// Something took so long.
    pub(super) fn note(&mut self, took: Duration, now: Instant) {
        self.forget(now);
        match self.0.back_mut() {
            Some((since, longest)) if now.saturating_duration_since(*since) < SLOT => {
                *longest = took.max(*longest);
            }
            Some(_) | None => self.0.push_back((now, took)),
        }
    }

    /// What took longest; `None`: there was nothing.
    pub(super) fn get(&mut self, now: Instant) -> Option<Duration> {
        self.forget(now);
        self.0.iter().map(|(_, took)| *took).max()
    }

    fn forget(&mut self, now: Instant) {
        let is_old = |(since, _): &(Instant, Duration)| {
            now.saturating_duration_since(*since) >= MEMORY + SLOT
        };
        while self.0.front().is_some_and(is_old) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syncs(begun: u64, ended: u64) -> Syncs {
        Syncs { begun, ended, longest: None }
    }

    #[test]
    fn a_sync_that_nobody_saw_under_way_makes_a_disk_slow_when_it_has_ended() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        for (took, want) in [(999, None), (1_000, Some(1_000)), (1_700, Some(1_700))] {
            let mut pace = Pace::new();
            let ended = Syncs { longest: Some(ms(took)), ..syncs(2, 2) };
            assert_eq!(pace.look(syncs(0, 0), start), None);
            assert_eq!(pace.look(ended, start + ms(took)), want.map(ms));
            assert_eq!(pace.look(syncs(2, 2), start + ms(30_000)), want.map(ms), "for a minute");
        }
    }

    #[test]
    fn a_disk_is_slow_while_one_sync_takes_a_second_and_for_a_minute_after_it() {
        let (start, mut pace) = (Instant::now(), Pace::new());
        let ms = Duration::from_millis;
        let rows = [
            (0, syncs(0, 0), None),
            (200, syncs(1, 0), None),
            (1_100, syncs(1, 0), None),
            (1_200, syncs(1, 0), Some(1_000)),
            (3_200, syncs(1, 0), Some(3_000)),
            (3_400, syncs(1, 1), Some(3_000)),
            (63_100, syncs(9_000, 9_000), Some(3_000)),
            (63_200, syncs(9_000, 9_000), None),
        ];
        for (at, syncs, want) in rows {
            assert_eq!(pace.look(syncs, start + ms(at)), want.map(ms), "at {at} ms");
        }
    }

    #[test]
    fn a_slow_disk_says_how_long_it_stays_one() {
        let (start, mut pace) = (Instant::now(), Pace::new());
        let at = |s| start + Duration::from_secs(s);
        pace.look(syncs(1, 0), at(0));
        assert_eq!((pace.under_way(at(1)), pace.left(at(1))), (Some(SLOW), None));
        pace.look(syncs(1, 0), at(4));
        assert_eq!(pace.left(at(4)), Some(REST));
        pace.look(syncs(1, 1), at(14));
        assert_eq!((pace.under_way(at(14)), pace.left(at(14))), (None, Some(REST - 10 * SLOW)));
        assert_eq!((pace.left(at(64)), pace.left(at(1_000))), (None, None));
    }

    #[test]
    fn the_longest_of_a_minute_is_remembered_for_a_minute() {
        let (start, mut longest) = (Instant::now(), Longest::default());
        let (at, ms) = (|s| start + Duration::from_secs(s), Duration::from_millis);
        assert_eq!(longest.get(at(0)), None);
        for (second, took, want) in
            [(0, 5, 5), (1, 900, 900), (2, 7, 900), (59, 30, 900), (64, 8, 900), (65, 8, 30)]
        {
            longest.note(ms(took), at(second));
            assert_eq!(longest.get(at(second)), Some(ms(want)), "at {second} s");
        }
        assert_eq!(longest.get(at(200)), None);
        (0..10_000).for_each(|n| longest.note(ms(n), at(200 + n)));
        assert!(longest.0.len() <= 14, "{}", longest.0.len());
    }

    #[test]
    fn many_syncs_one_after_the_other_are_not_one_slow_one() {
        let (start, mut pace) = (Instant::now(), Pace::new());
        for n in 0..100 {
            let now = start + Duration::from_millis(200 * n);
            assert_eq!(pace.look(syncs(n + 1, n), now), None, "{n}");
        }
    }

    #[test]
    fn a_disk_that_is_slow_again_and_again_rests_for_longer_each_time() {
        let (mut now, mut pace) = (Instant::now(), Pace::new());
        let mut rests = Vec::new();
        for n in 1..9 {
            pace.look(syncs(n, n - 1), now);
            now += SLOW;
            assert_eq!(pace.look(syncs(n, n - 1), now), Some(SLOW));
            let slow_since = now;
            while pace.look(syncs(n, n), now).is_some() {
                now += Duration::from_secs(1);
            }
            rests.push(now.duration_since(slow_since).as_secs());
        }
        assert_eq!(rests, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
        now += 2 * REST_MAX;
        assert_eq!(pace.look(syncs(9, 9), now), None);
        pace.look(syncs(10, 9), now);
        pace.look(syncs(10, 9), now + SLOW);
        assert!(pace.look(syncs(10, 10), now + SLOW + REST).is_none(), "it was well for long");
    }
}
