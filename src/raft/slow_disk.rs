//! A disk that takes seconds for a sync. A majority without it is enough, so its member goes on
//! and nobody waits for it. But it should not lead: what its clients wait for is on two disks then,
//! and what it has to promise as a candidate waits for the slow one.

use std::time::Duration;

use tokio::time::Instant;

/// A sync that takes this long makes its disk a slow one …
const SLOW: Duration = Duration::from_secs(1);
/// … for so long after it. Each time that it was hardly fast again: for twice as long, so that no
/// preference has leadership come and go …
const REST: Duration = Duration::from_secs(60);
/// … up to this.
const REST_MAX: Duration = Duration::from_secs(3600);

/// How many syncs of the log were begun, and ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Syncs {
    pub(super) begun: u64,
    pub(super) ended: u64,
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
        let took = self.under_way.map_or(Duration::ZERO, |(_, since)| now.duration_since(since));
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syncs(begun: u64, ended: u64) -> Syncs {
        Syncs { begun, ended }
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
