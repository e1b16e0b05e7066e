//! Queue locks of orderly consumers, a part of the replicated tables: which client of a group holds
//! which queue.
//!
//! A lock that nobody renewed for [`LOCK_MS`] is free. It stays in the table until a later command
//! takes it out, the oldest first and a few at a time, whatever group that command is about. So a
//! command costs what it names, and what nobody asks for any more goes.

use std::sync::Arc;

use bincode::{Decode, Encode};
use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use crate::ids::Term;
use crate::raft::command::{LOCK_MS, QueueName};

/// Most that all locks together take, bytes: some 140,000 with a client id of 40 bytes. Beyond it no
/// further queue is locked. As all that decides in apply it is the same for all members: another
/// limit takes another format of the commands.
pub(super) const BYTES_MAX: usize = 64 << 20;
/// What one lock takes besides its names: two nodes of trees, of two allocations each, and the
/// allocations of three names, which it may share with no other.
const LOCK_BYTES: usize = 384;
/// Most locks that ran out which one entry's commands take out besides those in their way.
const EXPIRED_AT_ONCE: usize = 64;

/// A queue as a group sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    group: Arc<str>,
    topic: Arc<str>,
    queue_id: u32,
}

#[derive(Debug, Clone, PartialEq)]
struct Lock {
    client: Arc<str>,
    /// When it was taken or last renewed, ms.
    renewed_ms: i64,
}

/// All queue locks. A clone shares its structure with the original.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Locks {
    held: RedBlackTreeMapSync<Place, Lock>,
    /// The same by age.
    by_age: RedBlackTreeSetSync<(i64, Place)>,
    bytes: usize,
    /// The term whose leader counts the age of locks.
    term: Term,
    /// Since when it does, ms: locks that are older grow old from here.
    counted_ms: i64,
}

/// What a client got of the queues it wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// It holds these.
    pub queues: Vec<QueueName>,
    /// Some were refused because all locks together take [`BYTES_MAX`].
    pub no_room: bool,
}

impl Locks {
    /// What follows was proposed by the leader of `term`, its first commands at `at_ms`: its clock
    /// may be ahead of the former one's, or behind, so locks start again to grow old.
    pub(super) fn go_by(&mut self, term: Term, at_ms: i64) {
        if std::mem::replace(&mut self.term, term) != term {
            self.counted_ms = at_ms;
        }
        for _ in 0..EXPIRED_AT_ONCE {
            if !self.drop_expired(at_ms) {
                return;
            }
        }
    }

    /// The term whose leader counts the age of locks.
    pub(super) fn term(&self) -> Term {
        self.term
    }

    /// Takes or renews the locks of `queues` that no other client holds.
    pub(super) fn take(
        &mut self,
        group: &str,
        client: &str,
        queues: Vec<QueueName>,
        at_ms: i64,
    ) -> Taken {
        let client = client.into();
        let mut taken = Taken { queues: Vec::with_capacity(queues.len()), no_room: false };
        let mut place = Place { group: group.into(), topic: Arc::default(), queue_id: 0 };
        for queue in queues {
            if *place.topic != *queue.topic {
                place.topic = queue.topic.as_str().into();
            }
            place.queue_id = queue.queue_id;
            match self.take_one(&place, &client, at_ms) {
                Ok(true) => taken.queues.push(queue),
                Ok(false) => {}
                Err(NoRoom) => taken.no_room = true,
            }
        }
        taken
    }

    /// Whether the client holds the lock now.
    fn take_one(&mut self, place: &Place, client: &Arc<str>, at_ms: i64) -> Result<bool, NoRoom> {
        match self.held.get(place) {
            Some(lock) if lock.client == *client => {
                let former = (lock.renewed_ms, place.clone());
                self.by_age.remove_mut(&former);
            }
            Some(lock) if self.is_held(lock.renewed_ms, at_ms) => return Ok(false),
            Some(_) | None => {
                self.remove(place);
                let bytes = bytes_of(place, client);
                while self.bytes + bytes > BYTES_MAX {
                    if !self.drop_expired(at_ms) {
                        return Err(NoRoom);
                    }
                }
                self.bytes += bytes;
            }
        }
        self.by_age.insert_mut((at_ms, place.clone()));
        let lock = Lock { client: Arc::clone(client), renewed_ms: at_ms };
        self.held.insert_mut(place.clone(), lock);
        Ok(true)
    }

    /// Releases those of `queues` that the client holds.
    pub(super) fn release(&mut self, group: &str, client: &str, queues: Vec<QueueName>) {
        let group: Arc<str> = group.into();
        for QueueName { topic, queue_id } in queues {
            let place = Place { group: Arc::clone(&group), topic: topic.into(), queue_id };
            if self.held.get(&place).is_some_and(|lock| *lock.client == *client) {
                self.remove(&place);
            }
        }
    }

    /// Frees all that a group has locked.
    pub(super) fn remove_group(&mut self, group: &str) {
        let places: Vec<Place> = self.of(group).map(|(place, _)| place.clone()).collect();
        places.iter().for_each(|place| self.remove(place));
    }

    /// Who holds a queue for a group at `now_ms`.
    #[cfg(test)]
    fn holder(&self, group: &str, queue: &QueueName, now_ms: i64) -> Option<&str> {
        let QueueName { topic, queue_id } = queue;
        let (group, topic) = (group.into(), topic.as_str().into());
        let lock = self.held.get(&Place { group, topic, queue_id: *queue_id })?;
        self.is_held(lock.renewed_ms, now_ms).then_some(&*lock.client)
    }

    /// Whether any queue is locked for a group at `now_ms`.
    pub(super) fn has_of(&self, group: &str, now_ms: i64) -> bool {
        self.of(group).any(|(_, lock)| self.is_held(lock.renewed_ms, now_ms))
    }

    /// The latest time that a command left here, ms; 0 if none did.
    pub(super) fn changed_ms(&self) -> i64 {
        self.by_age.last().map_or(0, |(renewed_ms, _)| *renewed_ms).max(self.counted_ms)
    }

    /// The form that checkpoints and snapshots store.
    pub(super) fn to_stored(&self) -> StoredLocks {
        let stored = |(place, lock): (&Place, &Lock)| StoredLock {
            group: place.group.to_string(),
            topic: place.topic.to_string(),
            queue_id: place.queue_id,
            client: lock.client.to_string(),
            renewed_ms: lock.renewed_ms,
        };
        StoredLocks {
            held: self.held.iter().map(stored).collect(),
            term: self.term.0,
            counted_ms: self.counted_ms,
        }
    }

    /// Locks from their stored form.
    pub(super) fn from_stored(stored: StoredLocks) -> Self {
        let StoredLocks { held, term, counted_ms } = stored;
        let mut locks = Self { term: Term(term), counted_ms, ..Self::default() };
        for StoredLock { group, topic, queue_id, client, renewed_ms } in held {
            let place = Place { group: group.into(), topic: topic.into(), queue_id };
            let lock = Lock { client: client.into(), renewed_ms };
            locks.bytes += bytes_of(&place, &lock.client);
            locks.by_age.insert_mut((renewed_ms, place.clone()));
            locks.held.insert_mut(place, lock);
        }
        locks
    }

    fn of(&self, group: &str) -> impl Iterator<Item = (&Place, &Lock)> {
        let group: Arc<str> = group.into();
        let first = Place { group: Arc::clone(&group), topic: Arc::default(), queue_id: 0 };
        self.held.range(first..).take_while(move |(place, _)| place.group == group)
    }

    fn is_held(&self, renewed_ms: i64, now_ms: i64) -> bool {
        now_ms.saturating_sub(renewed_ms.max(self.counted_ms)) < LOCK_MS
    }

    /// Takes out the oldest lock if it has run out. Whether it had.
    fn drop_expired(&mut self, now_ms: i64) -> bool {
        let oldest = self.by_age.first();
        let oldest = oldest.filter(|(renewed_ms, _)| !self.is_held(*renewed_ms, now_ms));
        let Some((_, place)) = oldest.cloned() else { return false };
        self.remove(&place);
        true
    }

    fn remove(&mut self, place: &Place) {
        let Some(Lock { client, renewed_ms }) = self.held.get(place).cloned() else { return };
        self.bytes -= bytes_of(place, &client);
        self.held.remove_mut(place);
        self.by_age.remove_mut(&(renewed_ms, place.clone()));
    }
}

/// All locks together take [`BYTES_MAX`].
struct NoRoom;

fn bytes_of(place: &Place, client: &str) -> usize {
    LOCK_BYTES + place.group.len() + place.topic.len() + client.len()
}

/// [`Locks`] as stored in checkpoints and snapshots.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub(super) struct StoredLocks {
    held: Vec<StoredLock>,
    term: u64,
    counted_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
struct StoredLock {
    group: String,
    topic: String,
    queue_id: u32,
    client: String,
    renewed_ms: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Range;

    fn queue(queue_id: u32) -> QueueName {
        QueueName { topic: "T".to_owned(), queue_id }
    }

    fn queues(ids: impl IntoIterator<Item = u32>) -> Vec<QueueName> {
        ids.into_iter().map(queue).collect()
    }

    /// Ids of the queues that `client` holds after it asked for them.
    fn take(locks: &mut Locks, client: &str, ids: Range<u32>, at_ms: i64) -> Vec<u32> {
        let taken = locks.take("g", client, queues(ids), at_ms);
        taken.queues.into_iter().map(|queue| queue.queue_id).collect()
    }

    #[test]
    fn a_queue_has_one_holder_until_the_lock_runs_out() {
        let mut locks = Locks::default();
        assert_eq!(take(&mut locks, "a", 0..2, 0), [0, 1]);
        assert_eq!(take(&mut locks, "b", 1..3, 10), [2]);
        assert_eq!(locks.holder("g", &queue(1), LOCK_MS - 1), Some("a"));
        assert!(locks.has_of("g", LOCK_MS - 1) && !locks.has_of("g", 2 * LOCK_MS));
        assert_eq!(take(&mut locks, "b", 1..2, LOCK_MS), [1]);
        locks.release("g", "a", queues([1]));
        assert_eq!(locks.holder("g", &queue(1), LOCK_MS), Some("b"), "not a's to release");
        locks.release("g", "b", queues([1, 2, 7]));
        let holders = [0, 1, 2].map(|id| locks.holder("g", &queue(id), 10));
        assert_eq!(holders, [Some("a"), None, None]);
        locks.remove_group("g");
        assert_eq!(locks, Locks::default());
    }

    #[test]
    fn groups_do_not_see_each_others_locks() {
        let mut locks = Locks::default();
        for group in ["f", "g", "ga"] {
            assert_eq!(locks.take(group, group, queues(0..3), 0).queues.len(), 3, "{group}");
        }
        locks.remove_group("g");
        assert!(locks.has_of("f", 0) && !locks.has_of("g", 0) && locks.has_of("ga", 0));
        assert_eq!(locks.holder("ga", &queue(2), 0), Some("ga"));
    }

    #[test]
    fn the_clock_of_a_new_leader_makes_no_lock_older() {
        let mut locks = Locks::default();
        let mut lock = |client: &str, term: u64, at_ms: i64| {
            locks.go_by(Term(term), at_ms);
            take(&mut locks, client, 0..1, at_ms) == [0]
        };
        assert!(lock("a", 1, 0) && !lock("b", 1, LOCK_MS - 1));
        let ahead = 90_000 * LOCK_MS;
        assert!(!lock("b", 2, ahead), "held, and counted from here");
        assert!(!lock("b", 2, ahead + LOCK_MS - 1), "other commands do not start it again");
        assert!(lock("b", 2, ahead + LOCK_MS), "nobody renewed it");
    }

    #[test]
    fn locks_that_ran_out_go_whoever_asks_next() {
        let mut locks = Locks::default();
        for (group, at_ms) in [("g", 0), ("h", 0), ("g", 1), ("i", LOCK_MS)] {
            locks.go_by(Term(1), at_ms);
            locks.take(group, "c", queues(0..1), at_ms);
        }
        let groups: Vec<&str> = locks.held.keys().map(|place| &*place.group).collect();
        assert_eq!(groups, ["g", "i"], "h ran out, g was renewed");
    }

    #[test]
    fn locks_of_whatever_names_are_bounded_together_until_they_run_out() {
        let mut locks = Locks::default();
        let client = "c".repeat(1024);
        let mut take = |group: u32, at_ms| {
            let taken = locks.take(&format!("{group:0120}"), &client, queues(0..1), at_ms);
            assert!(locks.bytes <= BYTES_MAX && locks.held.size() == locks.by_age.size());
            taken
        };
        let full = (0..).find(|group| take(*group, 0).no_room).unwrap();
        assert!((30_000..60_000).contains(&full), "{full}");
        assert_eq!(take(full, 1), Taken { queues: vec![], no_room: true });
        assert_eq!(take(0, 1), Taken { queues: queues([0]), no_room: false }, "renewed");
        assert_eq!(take(full, LOCK_MS), Taken { queues: queues([0]), no_room: false });
        let stored = locks.to_stored();
        let bytes = stored.held.iter().map(crate::raft::codec::encoded_bytes).sum::<usize>();
        assert!(bytes <= BYTES_MAX, "or nobody could read it again");
        assert_eq!(Locks::from_stored(stored), locks);
    }

    #[test]
    fn a_command_costs_what_it_names_however_many_locks_there_are() {
        let mut locks = Locks::default();
        let mut timed = |change: &dyn Fn(&mut Locks)| {
            let shared = locks.clone(); // as readers share it
            let start = crate::clock::now();
            change(&mut locks);
            let elapsed = start.elapsed();
            drop(shared);
            elapsed
        };
        let all = timed(&|locks| _ = locks.take("g", "c", queues(0..65_536), 0));
        let mut single = std::time::Duration::ZERO;
        for id in 0..200 {
            single += timed(&|locks| _ = locks.take("g", "c", queues([id]), 1));
            single += timed(&|locks| locks.release("g", "c", queues([id])));
        }
        assert!(single < all, "400 commands of one queue took {single:?}, one of all {all:?}");
    }
}
