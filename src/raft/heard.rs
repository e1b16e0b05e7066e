//! What this member knows of the life of its leader: the pacemaker goes by it, the log tells of
//! it, and others are told when a leader was found dead. And when it voted last: whoever won that
//! election may not have been heard yet.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::ids::Term;

/// Heartbeat intervals that an election gets from those who voted in it: the shortest election
/// timeout.
const ELECTION: u32 = 3;

/// When this member last knew of a living leader: another one, or itself; and whether it found a
/// leader dead since.
#[derive(Debug)]
pub(super) struct Heard {
    start: Instant,
    election: Duration,
    last_ms: AtomicU64,
    /// 0: never.
    voted_ms: AtomicU64,
    /// 0: none, terms count from 1.
    dead_in: AtomicU64,
    /// Who called first for a store that this member had before.
    former: OnceLock<String>,
}

impl Heard {
    /// Nothing was heard before `now`.
    pub(super) fn new(now: Instant, heartbeat: Duration) -> Self {
        let (last_ms, voted_ms, dead_in, former) = Default::default();
        Self { start: now, election: ELECTION * heartbeat, last_ms, voted_ms, dead_in, former }
    }

    /// This member gave its vote, to itself or to another.
    pub(super) fn voted(&self, now: Instant) {
        self.voted_ms.fetch_max(self.since_start(now).max(1), Ordering::Relaxed);
    }

    /// Whether the election in which this member voted last may be going on, or be won by somebody
    /// who was not heard yet. As long, it takes no part in another one that can wait.
    pub(super) fn is_electing(&self, now: Instant) -> bool {
        let voted = self.voted_ms.load(Ordering::Relaxed);
        let since = Duration::from_millis(self.since_start(now).saturating_sub(voted));
        voted > 0 && since < self.election
    }

    /// There is a leader at `now`.
    pub(super) fn note(&self, now: Instant) {
        self.last_ms.fetch_max(self.since_start(now).max(1), Ordering::Relaxed);
        self.dead_in.store(0, Ordering::Release);
    }

    /// `caller` called for a store that this member does not have: its group has one of that name.
    pub(super) fn note_former(&self, caller: &str) {
        self.former.get_or_init(|| caller.to_owned());
    }

    /// Who did, if anybody has.
    pub(super) fn former(&self) -> Option<&str> {
        self.former.get().map(String::as_str)
    }

    /// The leader of `term` was found dead.
    pub(super) fn found_dead(&self, term: Term) {
        self.dead_in.store(term.0, Ordering::Release);
    }

    /// The term whose leader this member found dead, if no leader was heard since.
    pub(super) fn dead_in(&self) -> Option<Term> {
        Some(self.dead_in.load(Ordering::Acquire)).filter(|term| *term > 0).map(Term)
    }

    /// When there was one last; `None` if there never was.
    pub(super) fn last(&self) -> Option<Instant> {
        let last = self.last_ms.load(Ordering::Relaxed);
        (last > 0).then(|| self.start + Duration::from_millis(last))
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
        let heard = Heard::new(start, Duration::from_millis(100));
        assert_eq!(heard.silence(at(300)), Duration::from_millis(300));
        heard.note(at(400));
        heard.note(at(350)); // another thread, a little late
        assert_eq!(heard.silence(at(450)), Duration::from_millis(50));
        assert_eq!(heard.silence(at(390)), Duration::ZERO);
    }

    #[test]
    fn an_election_gets_three_heartbeats_from_the_last_vote() {
        let start = crate::clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let heard = Heard::new(start, Duration::from_millis(100));
        assert!(!heard.is_electing(at(0)), "who starts has not voted");
        heard.voted(at(0));
        heard.voted(at(50));
        assert!(heard.is_electing(at(349)));
        assert!(!heard.is_electing(at(350)));
    }

    #[test]
    fn a_leader_that_is_heard_again_was_not_dead() {
        let heard = Heard::new(crate::clock::now(), Duration::from_millis(100));
        assert_eq!(heard.dead_in(), None);
        heard.found_dead(Term(4));
        assert_eq!(heard.dead_in(), Some(Term(4)));
        heard.note(crate::clock::now());
        assert_eq!(heard.dead_in(), None, "else it would be a witness as long as the term lasts");
    }
}
