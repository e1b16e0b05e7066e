//! Which member a consumer is told to read from next: `suggestWhichBrokerId` of an answer to its
//! pull, which stock clients follow at once, each queue for itself.
//!
//! A stock consumer whose member dies goes on asking the dead address until it asks for routes
//! again, up to 30 s later. So a leader sends consumers to followers: when it dies, they go on
//! reading where they are, and the next message comes as soon as somebody leads.
//!
//! | who is asked | what it says |
//! |---|---|
//! | the leader | one of the followers that offer to serve, evenly by queue |
//! | … while none does | itself |
//! | a follower that keeps up | itself; now and then the leader, which knows who else serves |
//! | … that lags, or knows no leader | itself while it has messages, then the leader |
//! | … that is cut off | the leader, also who waits here |
//! | a member that stops | as a leader the others, as a follower the leader |
//!
//! An id that a client does not know leads to another member; one whose member is dead leads
//! nowhere until the client asks for routes. So nobody is sent to who has not been in routes for
//! as long as clients need to read them. For the same time a leader that was a follower before is
//! called by its old id where it has to name itself: under 0 clients may know the one that died.
//!
//! A pull that would be held for long by a member that names another one is answered at once, or
//! its consumer would hear of that only when a message comes. Clients that do not follow would ask
//! again and again: each is told once a minute that way.

mod course;
mod turns;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::clock;
use crate::ids::{BrokerId, LEADER_BROKER_ID};
use crate::raft::{Group, Role, Roster};

pub use course::{Course, LAG_MAX, Seen, Watch};
use turns::{First, Turns};

/// How long clients need at most to know who is in routes: they ask each 30 s.
pub const ROUTES_KNOWN_AFTER: Duration = Duration::from_secs(40);
/// How often a pull is answered with nothing but where to go instead of being held.
const SENT_AWAY_EVERY: Duration = Duration::from_secs(60);
/// How often a consumer of a follower asks the leader. Longer than the former: else the leader
/// would hold it.
const LEADER_ASKED_EVERY: Duration = Duration::from_secs(120);

/// A consumer of a queue.
#[derive(Debug, Clone, Copy, Hash)]
pub struct Reader<'a> {
    /// Its connection.
    pub connection: u64,
    /// Its group.
    pub group: &'a str,
    /// What it reads.
    pub topic: &'a str,
    /// And which queue of it.
    pub queue_id: u32,
}

/// What there is for a consumer here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Here {
    /// Messages, or where to go on.
    Something,
    /// It has read all that is here.
    Nothing,
}

/// What consumers are told at present.
#[derive(Debug)]
pub struct Steering {
    course: ArcSwap<Course>,
    stops: AtomicBool,
    /// Who was sent away instead of being held.
    sent_away: Mutex<Turns>,
    /// Who was sent to ask the leader.
    asked_leader: Mutex<Turns>,
}

impl Default for Steering {
    /// Of a member that has not looked yet: whoever is here is sent to the leader as it goes on.
    fn default() -> Self {
        Self {
            course: ArcSwap::from_pointee(Course::Stay(LEADER_BROKER_ID)),
            stops: AtomicBool::new(false),
            sent_away: Mutex::new(Turns::new(SENT_AWAY_EVERY)),
            asked_leader: Mutex::new(Turns::new(LEADER_ASKED_EVERY)),
        }
    }
}

impl Steering {
    /// Where a consumer reads next.
    pub fn suggest(&self, reader: Reader<'_>, here: Here, now: Instant) -> BrokerId {
        let course = self.course.load();
        if matches!(**course, Course::StayAndAsk(_))
            && self.asked_leader.lock().has_come(hash(&reader), First::Waits, now)
        {
            return LEADER_BROKER_ID;
        }
        course.suggestion(spread(reader), here)
    }

    /// Whether a pull for which there is nothing is answered at once, because its consumer reads
    /// elsewhere.
    pub fn sends_away(&self, reader: Reader<'_>, now: Instant) -> bool {
        self.course.load().leads_away()
            && self.sent_away.lock().has_come(hash(&reader), First::Comes, now)
    }

    /// From now on this member stops: whoever it answers reads elsewhere.
    pub fn stop(&self, group: &Group) {
        self.stops.store(true, Ordering::SeqCst);
        let last = self.course.load();
        self.course.store(Arc::new(last.of_who_stops()));
        group.offer(false);
    }

    /// Takes what the watch has decided.
    pub fn set(&self, group: &Group, course: Course, offers: bool) {
        if self.stops.load(Ordering::SeqCst) {
            return;
        }
        group.offer(offers);
        if **self.course.load() != course {
            tracing::debug!(?course, "where consumers read");
            self.course.store(Arc::new(course));
            if self.stops.load(Ordering::SeqCst) {
                self.stop(group);
            }
        }
    }
}

/// Looks at the group and steers.
pub fn look(
    watch: &mut Watch,
    steering: &Steering,
    group: &Group,
    (role, roster): (&Role, &Roster),
    (is_on, is_registered): (bool, bool),
) {
    let (status, now, is_cut_off) = (group.status(), clock::now(), group.is_cut_off());
    let (lag, peers, is_slow) = (status.lag, &status.peers, status.slow_disk.is_some());
    let seen = Seen { role, roster, lag, peers, is_slow, is_cut_off, is_on, is_registered };
    let (course, offers) = watch.look(&seen, now);
    steering.set(group, course, offers);
}

fn hash(reader: &Reader<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    reader.hash(&mut hasher);
    hasher.finish()
}

/// The queues of a group in a topic, one after the other, from anywhere on.
fn spread(reader: Reader<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (reader.group, reader.topic).hash(&mut hasher);
    hasher.finish().wrapping_add(u64::from(reader.queue_id))
}
