//! Requests that wait for a message: a pure table, without timer or channel.
//!
//! A request waits for one queue to grow beyond the offset it wants, until its deadline, or until
//! its connection closes, whichever comes first. `P` is whatever the shell needs to answer it; the
//! table never looks at it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use crate::ids::QueueOffset;

/// Names one held request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// A request to be held.
#[derive(Debug)]
pub struct Hold<P> {
    /// Topic it waits for.
    pub topic: Arc<str>,
    /// Queue it waits for.
    pub queue_id: u32,
    /// It is due once the queue's next offset is above this one.
    pub wants: QueueOffset,
    /// It is due at this time at the latest.
    pub deadline: Instant,
    /// The connection that asked; when it closes, the request is forgotten.
    pub owner: u64,
    /// What the payload holds beside itself.
    pub bytes: usize,
    /// What answers it.
    pub payload: P,
}

/// The table has no room. The request is handed back.
#[derive(Debug)]
pub struct Full<P> {
    /// The request that found no room.
    pub hold: Hold<P>,
    /// How many the table holds.
    pub held: usize,
}

/// Requests that wait for one queue, by the offset they want.
type Waiting = BTreeSet<(QueueOffset, Ticket)>;

/// Held requests, each found by its queue, its deadline and its owner.
#[derive(Debug)]
pub struct HoldTable<P> {
    held: HashMap<Ticket, Hold<P>>,
    by_queue: HashMap<Arc<str>, HashMap<u32, Waiting>>,
    by_deadline: BTreeSet<(Instant, Ticket)>,
    by_owner: BTreeSet<(u64, Ticket)>,
    next_ticket: u64,
    limit: usize,
    bytes: usize,
    bytes_max: usize,
}

impl<P> HoldTable<P> {
    /// An empty table for at most `limit` requests, whose payloads hold at most `bytes_max` bytes
    /// beside themselves.
    pub fn new(limit: usize, bytes_max: usize) -> Self {
        Self {
            held: HashMap::new(),
            by_queue: HashMap::new(),
            by_deadline: BTreeSet::new(),
            by_owner: BTreeSet::new(),
            next_ticket: 0,
            limit,
            bytes: 0,
            bytes_max,
        }
    }

    /// How many requests are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Keeps a request. The caller looks at the queue once more afterwards and calls
    /// [`HoldTable::remove`] if it has grown meanwhile: a message that was applied before this call
    /// wakes nobody.
    pub fn hold(&mut self, hold: Hold<P>) -> Result<Ticket, Full<P>> {
        let bytes = self.bytes.saturating_add(hold.bytes);
        if self.held.len() >= self.limit || bytes > self.bytes_max {
            return Err(Full { hold, held: self.held.len() });
        }
        self.bytes = bytes;
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.by_queue
            .entry(Arc::clone(&hold.topic))
            .or_default()
            .entry(hold.queue_id)
            .or_default()
            .insert((hold.wants, ticket));
        self.by_deadline.insert((hold.deadline, ticket));
        self.by_owner.insert((hold.owner, ticket));
        self.held.insert(ticket, hold);
        Ok(ticket)
    }

    /// Takes one request out, if it is still held.
    pub fn remove(&mut self, ticket: Ticket) -> Option<Hold<P>> {
        let hold = self.held.remove(&ticket)?;
        self.bytes -= hold.bytes;
        self.by_deadline.remove(&(hold.deadline, ticket));
        self.by_owner.remove(&(hold.owner, ticket));
        if let Some(queues) = self.by_queue.get_mut(&hold.topic) {
            if let Some(waiting) = queues.get_mut(&hold.queue_id) {
                waiting.remove(&(hold.wants, ticket));
                if waiting.is_empty() {
                    queues.remove(&hold.queue_id);
                }
            }
            if queues.is_empty() {
                self.by_queue.remove(&hold.topic);
            }
        }
        Some(hold)
    }

    /// Takes the requests satisfied by a queue whose next offset is now `next`.
    pub fn take_satisfied(
        &mut self,
        topic: &str,
        queue_id: u32,
        next: QueueOffset,
    ) -> Vec<Hold<P>> {
        let Some(waiting) = self.by_queue.get(topic).and_then(|queues| queues.get(&queue_id))
        else {
            return Vec::new();
        };
        let due: Vec<Ticket> =
            waiting.iter().take_while(|(wants, _)| *wants < next).map(|(_, t)| *t).collect();
        due.into_iter().filter_map(|ticket| self.remove(ticket)).collect()
    }

    /// Takes all requests that wait for a queue of a topic.
    pub fn take_topic(&mut self, topic: &str) -> Vec<Hold<P>> {
        let Some(queues) = self.by_queue.get(topic) else { return Vec::new() };
        let theirs: Vec<Ticket> = queues.values().flatten().map(|(_, ticket)| *ticket).collect();
        theirs.into_iter().filter_map(|ticket| self.remove(ticket)).collect()
    }

    /// Takes the requests whose deadline is at or before `now`.
    pub fn take_expired(&mut self, now: Instant) -> Vec<Hold<P>> {
        let due: Vec<Ticket> =
            self.by_deadline.iter().take_while(|(at, _)| *at <= now).map(|(_, t)| *t).collect();
        due.into_iter().filter_map(|ticket| self.remove(ticket)).collect()
    }

    /// Takes everything.
    pub fn take_all(&mut self) -> Vec<Hold<P>> {
        self.by_queue.clear();
        self.by_deadline.clear();
        self.by_owner.clear();
        self.bytes = 0;
        self.held.drain().map(|(_, hold)| hold).collect()
    }

    /// Forgets what a closed connection asked for. Returns how many requests that were.
    pub fn forget_owner(&mut self, owner: u64) -> usize {
        let theirs: Vec<Ticket> = self
            .by_owner
            .range((owner, Ticket(0))..=(owner, Ticket(u64::MAX)))
            .map(|(_, ticket)| *ticket)
            .collect();
        theirs.into_iter().filter_map(|ticket| self.remove(ticket)).count()
    }

    /// When the next request runs out of time.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn hold(queue_id: u32, wants: u64, deadline: Instant, owner: u64, id: usize) -> Hold<usize> {
        Hold {
            topic: "T".into(),
            queue_id,
            wants: QueueOffset(wants),
            deadline,
            owner,
            bytes: id,
            payload: id,
        }
    }

    fn ids(holds: &[Hold<usize>]) -> Vec<usize> {
        let mut ids: Vec<usize> = holds.iter().map(|h| h.payload).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn a_request_is_due_when_its_queue_grows_beyond_what_it_wants() {
        let start = crate::clock::now();
        let mut table = HoldTable::new(10, usize::MAX);
        for (id, (queue_id, wants)) in [(0, 5), (0, 6), (1, 5)].into_iter().enumerate() {
            table.hold(hold(queue_id, wants, start + Duration::from_secs(9), 1, id)).unwrap();
        }
        assert!(
            table.take_satisfied("T", 0, QueueOffset(5)).is_empty(),
            "offset 5 is not there yet"
        );
        assert_eq!(ids(&table.take_satisfied("T", 0, QueueOffset(6))), [0]);
        assert!(table.take_satisfied("U", 0, QueueOffset(100)).is_empty(), "another topic");
        assert_eq!(ids(&table.take_satisfied("T", 1, QueueOffset(6))), [2]);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_topics_requests_are_found_whatever_they_want() {
        let start = crate::clock::now();
        let mut table = HoldTable::new(10, usize::MAX);
        for (id, (topic, queue_id)) in [("T", 0), ("U", 0), ("T", 9)].into_iter().enumerate() {
            let hold = Hold { topic: topic.into(), ..hold(queue_id, 5, start, 1, id) };
            table.hold(hold).unwrap();
        }
        assert_eq!(ids(&table.take_topic("T")), [0, 2]);
        assert!(table.take_topic("T").is_empty() && table.len() == 1);
    }

    #[test]
    fn deadlines_are_exact() {
        let start = crate::clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut table = HoldTable::new(10, usize::MAX);
        for (id, ms) in [30, 10, 20].into_iter().enumerate() {
            table.hold(hold(0, 0, at(ms), 1, id)).unwrap();
        }
        assert_eq!(table.next_deadline(), Some(at(10)));
        assert!(table.take_expired(at(9)).is_empty());
        assert_eq!(ids(&table.take_expired(at(20))), [1, 2]);
        assert_eq!(table.next_deadline(), Some(at(30)));
    }

    #[test]
    fn a_closed_connection_takes_its_requests_with_it() {
        let start = crate::clock::now();
        let mut table = HoldTable::new(10, usize::MAX);
        for (id, owner) in [7, 8, 7].into_iter().enumerate() {
            table.hold(hold(0, 0, start, owner, id)).unwrap();
        }
        assert_eq!(table.forget_owner(7), 2);
        assert_eq!(ids(&table.take_expired(start)), [1]);
        assert!(table.is_empty() && table.next_deadline().is_none());
    }

    #[test]
    fn a_full_table_hands_the_request_back() {
        let start = crate::clock::now();
        let mut table = HoldTable::new(1, usize::MAX);
        let first = table.hold(hold(0, 0, start, 1, 0)).unwrap();
        let full = table.hold(hold(0, 0, start, 1, 1)).unwrap_err();
        assert_eq!((full.hold.payload, full.held), (1, 1));
        assert!(table.remove(first).is_some() && table.remove(first).is_none());
        table.hold(full.hold).unwrap();
    }

    #[test]
    fn what_requests_bring_along_is_bounded_together() {
        let start = crate::clock::now();
        let mut table = HoldTable::new(10, 100);
        let of = |bytes| hold(0, bytes as u64, start, 7, bytes);
        let first = table.hold(of(60)).unwrap();
        assert_eq!(table.hold(of(41)).unwrap_err().held, 1);
        table.hold(of(40)).unwrap();
        assert!(table.hold(of(1)).is_err() && table.hold(of(0)).is_ok());
        table.remove(first).unwrap();
        table.hold(of(60)).unwrap();
        assert_eq!(table.take_all().len(), 3);
        table.hold(of(100)).unwrap();
        assert_eq!(table.forget_owner(7), 1);
        table.hold(of(100)).unwrap();
    }

    #[test]
    fn a_held_request_is_handed_out_exactly_once() {
        let start = crate::clock::now();
        for seed in 0..300 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut table, mut answers) = (HoldTable::new(usize::MAX, usize::MAX), [0; 200]);
            let (mut ends, mut tickets) = ([0u64; 3], Vec::new());
            let mut count = |holds: Vec<Hold<usize>>| {
                holds.iter().for_each(|h| answers[h.payload] += 1);
            };
            for id in 0..200 {
                let now = start + Duration::from_millis(id as u64);
                let queue = rng.u32(0..3);
                let wants = ends[queue as usize] + rng.u64(0..5);
                let deadline = now + Duration::from_millis(rng.u64(0..20));
                tickets.push(table.hold(hold(queue, wants, deadline, rng.u64(0..4), id)).unwrap());
                match rng.u32(0..10) {
                    0 => count(table.remove(tickets[rng.usize(0..=id)]).into_iter().collect()),
                    1..=5 => {
                        let grown = rng.usize(0..3);
                        ends[grown] += rng.u64(0..3);
                        let next = QueueOffset(ends[grown]);
                        count(table.take_satisfied("T", grown as u32, next));
                    }
                    _ => count(table.take_expired(now)),
                }
                assert!(table.next_deadline().is_none_or(|at| at + Duration::from_secs(1) > now));
            }
            count(table.take_all());
            assert_eq!(answers, [1; 200], "seed {seed}");
            assert!(table.is_empty() && table.take_expired(start).is_empty());
        }
    }
}
