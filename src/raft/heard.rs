//! What this member knows of the life of its leader: the pacemaker goes by it, the log tells of
//! it, and others are told when a leader was found dead.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::ids::Term;

/// When this member last knew of a living leader: another one, or itself; and whether it found a
/// leader dead since.
#[derive(Debug)]
pub(super) struct Heard {
    start: Instant,
    last_ms: AtomicU64,
    /// 0: none, terms count from 1.
    dead_in: AtomicU64,
}

impl Heard {
    /// Nothing was heard before `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { start: now, last_ms: AtomicU64::new(0), dead_in: AtomicU64::new(0) }
    }

    /// There is a leader at `now`.
    pub(super) fn note(&self, now: Instant) {
        self.last_ms.fetch_max(self.since_start(now).max(1), Ordering::Relaxed);
        self.dead_in.store(0, Ordering::Release);
    }

    /// The leader of `term` was found dead.
    pub(super) fn found_dead(&self, term: Term) {
        self.dead_in.store(term.0, Ordering::Release);
    }

    /// The term whose leader this member found dead, if no leader was heard since.
    pub(super) fn dead_in(&self) -> Option<Term> {
        Some(self.dead_in.load(Ordering::Acquire)).filter(|term| *term > 0).map(Term)
    }

    /// How long ago there was one; `None` if there never was.
    pub(super) fn silence_if_any(&self, now: Instant) -> Option<Duration> {
        (self.last_ms.load(Ordering::Relaxed) > 0).then(|| self.silence(now))
    }

    /// How long there has been none that this member knows of.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        let last = self.last_ms.load(Ordering::Relaxed);
        Duration::from_millis(self.since_start(now).saturating_sub(last))
    }

    fn since_start(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_counted_from_the_last_sign() {
        let start = crate::clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let heard = Heard::new(start);
        assert_eq!(heard.silence(at(300)), Duration::from_millis(300));
        heard.note(at(400));
        heard.note(at(350)); // another thread, a little late
        assert_eq!(heard.silence(at(450)), Duration::from_millis(50));
        assert_eq!(heard.silence(at(390)), Duration::ZERO);
    }

    #[test]
    fn a_leader_that_is_heard_again_was_not_dead() {
        let heard = Heard::new(crate::clock::now());
        assert_eq!(heard.dead_in(), None);
        heard.found_dead(Term(4));
        assert_eq!(heard.dead_in(), Some(Term(4)));
        heard.note(crate::clock::now());
        assert_eq!(heard.dead_in(), None, "else it would be a witness as long as the term lasts");
    }
}
