//! Members that get what they lack: how fast a learner may, and how far each is.
//!
//! ```text
//!  a request with entries ─► to a learner, and far from the end? ─► a rest (pacing)
//!  each 500 ms: how far each member's log is ─► Course ─► metrics, memberList, the log
//! ```
//!
//! A voter is never held up: the group's safety waits for it. A learner waits for nobody, and its
//! catching up takes disk and network from clients.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{Instant as _, Raft, RaftMetrics};
use parking_lot::Mutex;
use tokio::time::{Instant, Interval};

use crate::ids::{EntryIndex, PhysicalOffset};
use crate::raft::network::Network;
use crate::raft::role::QUORUM_SILENCE;
use crate::raft::state_machine::StateMachine;
use crate::raft::type_config::TypeConfig;
use crate::store::CommitLog;

/// A member that lacks more than this of the log is far, and catches up …
const FAR_BYTES: u64 = 8 * 1024 * 1024;
/// … until it lacks no more than this.
const THERE_BYTES: u64 = 1024 * 1024;
/// Between looks.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// The rate is that of the last so long.
const WINDOW: Duration = Duration::from_secs(5);
/// Who is silent for so long does not catch up any more.
const GONE: Duration = Duration::from_secs(10);
/// The log tells how far a member is each so long.
const BETWEEN_TOLD: Duration = Duration::from_secs(5);

/// How far a member is that catches up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatchUp {
    /// Of the bytes from where it began to the end of the leader's log; below 100, never goes back.
    pub percent: u8,
    /// How fast it gets them, over the last seconds; `None`: it is not known yet.
    pub bytes_per_second: Option<u64>,
    /// How long it takes if all goes on like that; `None`: it is not known, or it gets no nearer.
    pub left: Option<Duration>,
}

impl fmt::Display for CatchUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.percent)?;
        if let Some(rate) = self.bytes_per_second {
            write!(f, ", {} KiB/s", rate / 1024)?;
        }
        self.left.map_or(Ok(()), |left| write!(f, ", {} s left", left.as_secs()))
    }
}

/// Where a member's log ends, and the leader's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    has: u64,
    end: u64,
}

impl Ends {
    fn lacks(self) -> u64 {
        self.end.saturating_sub(self.has)
    }
}

/// What a look finds out.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// It begins to catch up.
    Begins,
    /// It is so far; not told each time.
    Goes(CatchUp),
    /// It has the log, after so long.
    Done(Duration),
}

/// One member's way to the end of the log, if it is on it. Pure.
#[derive(Debug, Default)]
struct Course(Option<Way>);

#[derive(Debug)]
struct Way {
    /// When, and from where.
    began: (Instant, u64),
    heard: Instant,
    told: Instant,
    percent: u8,
    /// The oldest first, of [`WINDOW`] and the one before.
    samples: VecDeque<(Instant, Ends)>,
}

impl Course {
    /// Takes what a look found; `answers` if the member does.
    fn look(&mut self, ends: Ends, answers: bool, now: Instant) -> Option<News> {
        let way = match &mut self.0 {
            // It has lost something again.
            Some(way) if ends.has < way.began.1 => None,
            way => way.as_mut(),
        };
        let Some(way) = way else {
            self.0 = (answers && ends.lacks() > FAR_BYTES).then(|| Way::new(ends, now));
            return self.0.as_ref().map(|_| News::Begins);
        };
        if ends.lacks() <= THERE_BYTES {
            let took = now.duration_since(way.began.0);
            self.0 = None;
            return Some(News::Done(took));
        }
        if answers {
            way.heard = now;
        } else if now.duration_since(way.heard) >= GONE {
            self.0 = None;
            return None;
        }
        way.add(ends, now);
        if now.duration_since(way.told) < BETWEEN_TOLD {
            return None;
        }
        way.told = now;
        Some(News::Goes(way.progress()))
    }

    fn progress(&self) -> Option<CatchUp> {
        self.0.as_ref().map(Way::progress)
    }
}

impl Way {
    fn new(ends: Ends, now: Instant) -> Self {
        let samples = VecDeque::from([(now, ends)]);
        Self { began: (now, ends.has), heard: now, told: now, percent: 0, samples }
    }

    fn add(&mut self, ends: Ends, now: Instant) {
        self.samples.push_back((now, ends));
        while self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.samples.pop_front();
        }
        let from = self.began.1;
        let (done, all) = (ends.has.saturating_sub(from), ends.end.saturating_sub(from));
        let percent = (u128::from(done) * 100).checked_div(u128::from(all)).unwrap_or(0);
        self.percent = self.percent.max(u8::try_from(percent.min(99)).unwrap_or(99));
    }

    fn progress(&self) -> CatchUp {
        let unknown = CatchUp { percent: self.percent, bytes_per_second: None, left: None };
        let (Some((since, first)), Some((at, last))) = (self.samples.front(), self.samples.back())
        else {
            return unknown;
        };
        let us = at.duration_since(*since).as_micros();
        let per_second = |bytes: u64| (u128::from(bytes) * 1_000_000).checked_div(us);
        let rate = per_second(last.has.saturating_sub(first.has));
        // What is written meanwhile has to be got as well.
        let nearer = per_second(first.lacks().saturating_sub(last.lacks())).unwrap_or(0);
        let left = (u128::from(last.lacks()) * 1000).checked_div(nearer);
        CatchUp {
            bytes_per_second: rate.and_then(|rate| u64::try_from(rate).ok()),
            left: left.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis),
            ..unknown
        }
    }
}

/// What a leader knows of a member's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Behind {
    /// Bytes that it lacks.
    pub bytes: u64,
    /// How far it is, if it catches up.
    pub catch_up: Option<CatchUp>,
}

/// Limit and progress of those that catch up. Cloning shares it.
#[derive(Clone)]
pub(super) struct CatchUps(Arc<Shared>);

struct Shared {
    bytes_per_second: AtomicU64,
    log: CommitLog,
    network: Network,
    /// By store; empty on who does not lead.
    behind: Mutex<BTreeMap<u64, Behind>>,
}

impl CatchUps {
    /// A learner that is far gets `bytes_per_second` of `log`.
    pub(super) fn new(bytes_per_second: u64, log: &CommitLog, network: &Network) -> Self {
        let (log, network, behind) = (log.clone(), network.clone(), Mutex::default());
        let bytes_per_second = AtomicU64::new(bytes_per_second);
        Self(Arc::new(Shared { bytes_per_second, log, network, behind }))
    }

    /// From now on it gets so much.
    pub(super) fn set_limit(&self, bytes_per_second: u64) {
        self.0.bytes_per_second.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Bytes per second that a store may get which has everything up to `end`, once that has
    /// arrived; `None`: as much as it takes.
    pub(super) fn limit(&self, store: u64, end: PhysicalOffset) -> Option<u64> {
        let is_far = self.0.log.tail().0.saturating_sub(end.0) > FAR_BYTES;
        let is_held_up = is_far && !self.0.network.votes(store);
        is_held_up.then(|| self.0.bytes_per_second.load(Ordering::Relaxed))
    }

    /// What is known of a store.
    pub(super) fn of(&self, store: u64) -> Option<Behind> {
        self.0.behind.lock().get(&store).copied()
    }

    /// Looks at each of `looks`, as long as it is polled.
    pub(super) async fn watch(self, raft: Raft<TypeConfig, StateMachine>, mut looks: Interval) {
        let mut courses = BTreeMap::new();
        loop {
            looks.tick().await;
            if raft.is_leader() {
                let metrics = raft.metrics().borrow_watched().clone();
                let behind = self.look(&metrics, &mut courses, Instant::now());
                *self.0.behind.lock() = behind;
            } else if !courses.is_empty() {
                courses.clear();
                self.0.behind.lock().clear();
            }
        }
    }

    fn look(
        &self,
        metrics: &RaftMetrics<TypeConfig>,
        courses: &mut BTreeMap<u64, Course>,
        now: Instant,
    ) -> BTreeMap<u64, Behind> {
        let members = metrics.membership_config.membership();
        courses.retain(|id, _| members.get_node(id).is_some());
        let heartbeats = metrics.heartbeat.as_ref();
        let answers = |id: &u64| {
            let last = heartbeats.and_then(|all| all.get(id)?.as_ref());
            last.is_some_and(|at| at.elapsed() < QUORUM_SILENCE)
        };
        let end = self.0.log.tail().0;
        let replication = metrics.replication.iter().flatten();
        let others = replication.filter(|(id, _)| **id != metrics.id);
        let behind = others.filter_map(|(id, matched)| {
            let member = members.get_node(id)?;
            let ends = Ends { has: self.position(matched.map(|id| EntryIndex(id.index))), end };
            let course = courses.entry(*id).or_default();
            let news = course.look(ends, answers(id), now);
            news.into_iter().for_each(|news| tell(&member.name, ends.lacks(), &news));
            Some((*id, Behind { bytes: ends.lacks(), catch_up: course.progress() }))
        });
        behind.collect()
    }

    /// Where the log ends of who has it up to `matched`, or would if it had the snapshot.
    fn position(&self, matched: Option<EntryIndex>) -> u64 {
        let header = matched.and_then(|index| self.0.log.header_of(index).ok().flatten());
        header.map_or_else(|| self.0.log.first_position(), |header| header.end()).0
    }
}

fn tell(member: &str, lacks: u64, news: &News) {
    match news {
        News::Begins => tracing::info!(member, bytes = lacks, "a member begins to catch up"),
        News::Goes(progress) => {
            tracing::info!(member, bytes = lacks, %progress, "a member catches up");
        }
        News::Done(took) => {
            tracing::info!(member, seconds = took.as_secs_f64(), "a member has caught up");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn ends(has: u64, end: u64) -> Ends {
        Ends { has: has * MIB, end: end * MIB }
    }

    fn progress(percent: u8, mib: Option<u64>, left: Option<u64>) -> CatchUp {
        let bytes_per_second = mib.map(|rate| rate * MIB);
        CatchUp { percent, bytes_per_second, left: left.map(Duration::from_secs) }
    }

    #[test]
    fn progress_is_told_from_where_a_member_began() {
        let (start, mut course) = (Instant::now(), Course::default());
        // Seconds, where it is and the leader, whether it answers, what is shown then.
        let rows = [
            (0, ends(100, 108), true, None, "near"),
            (1, ends(100, 200), false, None, "it is down"),
            (2, ends(100, 200), true, Some(progress(0, None, None)), "it begins"),
            (3, ends(110, 200), true, Some(progress(10, Some(10), Some(9))), "it goes"),
            (4, ends(120, 210), true, Some(progress(18, Some(10), Some(18))), "so does the end"),
            (5, ends(124, 260), true, Some(progress(18, Some(8), None)), "the end is faster"),
            (14, ends(124, 260), false, Some(progress(18, Some(0), None)), "it is silent"),
            (15, ends(124, 260), false, None, "for long"),
            (16, ends(124, 260), true, Some(progress(0, None, None)), "it is back"),
            (17, ends(259, 260), true, None, "it is there"),
            (18, ends(250, 260), true, Some(progress(0, None, None)), "and behind again"),
            (19, ends(20, 260), true, Some(progress(0, None, None)), "with a part of it lost"),
            (20, ends(140, 260), true, Some(progress(50, Some(120), Some(1))), "from there"),
        ];
        for (at, ends, answers, want, what) in rows {
            course.look(ends, answers, start + Duration::from_secs(at));
            assert_eq!(course.progress(), want, "{what}");
        }
    }

    #[test]
    fn the_log_tells_begin_and_end_and_some_of_what_is_between() {
        let (start, mut course) = (Instant::now(), Course::default());
        let mut told = Vec::new();
        for n in 0..=12 {
            let now = start + Duration::from_secs(n);
            told.extend(course.look(ends(10 * n, 120), true, now).map(|news| (n, news)));
        }
        assert_eq!(
            told,
            [
                (0, News::Begins),
                (5, News::Goes(progress(41, Some(10), Some(7)))),
                (10, News::Goes(progress(83, Some(10), Some(2)))),
                (12, News::Done(Duration::from_secs(12))),
            ]
        );
    }

    #[test]
    fn progress_never_goes_back_and_its_memory_is_bounded() {
        let (start, mut course, mut last) = (Instant::now(), Course::default(), 0);
        for n in 0..1_000 {
            let now = start + LOOK * n;
            let (has, end) = (u64::from(n), 2_000 + u64::from(n % 7) * 300);
            course.look(ends(has, end), true, now);
            let percent = course.progress().unwrap().percent;
            assert!((last..100).contains(&percent), "{n}: {percent} after {last}");
            last = percent;
            assert!(course.0.as_ref().unwrap().samples.len() <= 12);
        }
    }
}
