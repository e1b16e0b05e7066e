//! Wakes held pulls: when their queue grows or goes, when their group is reset, when a snapshot is
//! installed, when their time is over, when this broker stops.
//!
//! The raft thread tells which queues grew and which topics changed; what it does here is a look
//! into the hold table. The pulls themselves are answered by one task of the network runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock;
use crate::net::ConnectionId;
use crate::raft::{QueueAdvance, QueueListener};

use super::hold::{Full, Hold, HoldTable};

/// Most requests held at once. One costs about half a KiB.
pub const HELD_MAX: usize = 200_000;
/// Most that held requests bring along, their filters: an expression may have 16 KiB.
pub const HELD_BYTES_MAX: usize = 32 << 20;
/// How long the task sleeps when nothing is held.
const LONG: Duration = Duration::from_secs(3600);

/// Why a held request is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its queue is not as it was, or it did not have to wait for a message.
    Ready,
    /// Its time is over: it has to be answered now.
    Expired,
}

/// Held requests and those that are due. `P` is what answers one.
#[derive(Debug)]
pub struct Wakeups<P> {
    table: Mutex<HoldTable<P>>,
    held: AtomicUsize,
    due: Mutex<Vec<(P, Why)>>,
    wake: Notify,
    stopping: AtomicBool,
}

impl<P> Wakeups<P> {
    /// Nothing held, at most `limit` in future, which bring along `bytes_max` at most.
    pub fn new(limit: usize, bytes_max: usize) -> Self {
        Self {
            table: Mutex::new(HoldTable::new(limit, bytes_max)),
            held: AtomicUsize::new(0),
            due: Mutex::default(),
            wake: Notify::new(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Keeps a request until its queue has grown beyond what it wants or its topic is unsettled, or
    /// its deadline. `is_due` is asked after the request is in the table, so that what was applied
    /// meanwhile is not missed.
    pub fn hold(&self, hold: Hold<P>, is_due: impl FnOnce() -> bool) -> Result<(), Full<P>> {
        if self.stopping.load(Ordering::SeqCst) {
            self.make_due([(hold.payload, Why::Expired)]);
            return Ok(());
        }
        let deadline = hold.deadline;
        let mut table = self.table.lock();
        let is_next = table.next_deadline().is_none_or(|next| deadline < next);
        let ticket = table.hold(hold)?;
        self.held.store(table.len(), Ordering::SeqCst);
        drop(table);
        fence(Ordering::SeqCst);
        if is_due() {
            let mut table = self.table.lock();
            let due = table.remove(ticket);
            self.held.store(table.len(), Ordering::SeqCst);
            drop(table);
            self.make_due(due.map(|hold| (hold.payload, Why::Ready)));
        } else if self.stopping.load(Ordering::SeqCst) {
            self.release_all();
        } else if is_next {
            self.wake.notify_one(); // it may sleep longer than this request may wait
        }
        Ok(())
    }

    /// Hands a request that need not wait to the task, from a thread that must not answer it.
    pub fn ready(&self, payload: P) {
        self.make_due([(payload, Why::Ready)]);
    }

    /// Forgets what a closed connection asked for.
    pub fn forget(&self, owner: ConnectionId) {
        if self.held.load(Ordering::SeqCst) > 0 {
            let mut table = self.table.lock();
            table.forget_owner(owner.0);
            self.held.store(table.len(), Ordering::SeqCst);
        }
    }

    /// Makes everything due and holds nothing any more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.release_all();
    }

    /// How many requests are held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn release_all(&self) {
        let mut table = self.table.lock();
        let all = table.take_all();
        self.held.store(0, Ordering::SeqCst);
        drop(table);
        self.make_due(all.into_iter().map(|hold| (hold.payload, Why::Expired)));
    }

    /// Makes due what `choose` takes out of the table. Called by the raft thread after it applied
    /// something.
    fn wake_chosen(&self, choose: impl FnOnce(&mut HoldTable<P>) -> Vec<Hold<P>>) {
        // A request that is just being entered is counted here, or finds what was applied when it
        // looks once more: whichever of the two fences comes first.
        fence(Ordering::SeqCst);
        if self.held.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut table = self.table.lock();
        let chosen = choose(&mut table);
        self.held.store(table.len(), Ordering::SeqCst);
        drop(table);
        self.make_due(chosen.into_iter().map(|hold| (hold.payload, Why::Ready)));
    }

    fn make_due(&self, requests: impl IntoIterator<Item = (P, Why)>) {
        let mut due = self.due.lock();
        let before = due.len();
        due.extend(requests);
        if due.len() > before {
            drop(due);
            self.wake.notify_one();
        }
    }

    fn take_due(&self, now: Instant) -> (Vec<(P, Why)>, Duration) {
        let mut due = std::mem::take(&mut *self.due.lock());
        let mut table = self.table.lock();
        let expired = table.take_expired(now);
        self.held.store(table.len(), Ordering::SeqCst);
        let sleep = table.next_deadline().map_or(LONG, |at| at.saturating_duration_since(now));
        drop(table);
        due.extend(expired.into_iter().map(|hold| (hold.payload, Why::Expired)));
        (due, sleep)
    }
}

impl<P: Send> QueueListener for Wakeups<P> {
    fn advanced(&self, queues: &[QueueAdvance]) {
        self.wake_chosen(|table| {
            let mut satisfied = Vec::new();
            for queue in queues {
                satisfied.extend(table.take_satisfied(&queue.topic, queue.queue_id, queue.next));
            }
            satisfied
        });
    }

    fn unsettled(&self, topic: &str) {
        self.wake_chosen(|table| table.take_topic(topic));
    }

    fn replaced(&self) {
        self.wake_chosen(HoldTable::take_all);
    }
}

/// Answers due requests with `answer`, until the task is dropped.
pub async fn run<P: Send + 'static>(wakeups: Arc<Wakeups<P>>, answer: impl Fn(P, Why) + Send) {
    /// Requests answered before other tasks of the thread get their turn.
    const AT_ONCE: usize = 64;
    loop {
        let (due, sleep) = wakeups.take_due(clock::now());
        if due.is_empty() {
            let _woken_or_deadline = tokio::time::timeout(sleep, wakeups.wake.notified()).await;
            continue;
        }
        for (number, (request, why)) in due.into_iter().enumerate() {
            answer(request, why);
            if number % AT_ONCE == AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::QueueOffset;

    fn hold(wants: u64, within: Duration) -> Hold<u64> {
        Hold {
            topic: "T".into(),
            queue_id: 0,
            wants: QueueOffset(wants),
            deadline: clock::now() + within,
            owner: 1,
            bytes: 0,
            payload: wants,
        }
    }

    fn advance(next: u64) -> QueueAdvance {
        QueueAdvance { topic: "T".into(), queue_id: 0, next: QueueOffset(next) }
    }

    fn due(wakeups: &Wakeups<u64>) -> Vec<(u64, Why)> {
        wakeups.take_due(clock::now()).0
    }

    #[test]
    fn a_message_that_came_while_a_request_was_entered_wakes_it() {
        let wakeups = Wakeups::new(10, 10);
        wakeups.hold(hold(5, LONG), || true).unwrap();
        assert_eq!(due(&wakeups), [(5, Why::Ready)]);
        wakeups.hold(hold(6, LONG), || false).unwrap();
        assert!(due(&wakeups).is_empty());
        wakeups.advanced(&[advance(6)]);
        assert!(due(&wakeups).is_empty());
        wakeups.advanced(&[advance(7)]);
        assert_eq!(due(&wakeups), [(6, Why::Ready)]);
        assert_eq!(wakeups.held(), 0);
    }

    #[test]
    fn requests_are_looked_at_again_when_their_topic_changes() {
        let wakeups = Wakeups::new(10, 10);
        wakeups.hold(hold(5, LONG), || false).unwrap();
        wakeups.unsettled("U");
        assert!(due(&wakeups).is_empty());
        wakeups.unsettled("T");
        assert_eq!(due(&wakeups), [(5, Why::Ready)]);
    }

    #[test]
    fn all_requests_are_looked_at_again_after_a_snapshot() {
        let wakeups = Wakeups::new(10, 10);
        wakeups.hold(hold(5, LONG), || false).unwrap();
        wakeups.replaced();
        assert_eq!(due(&wakeups), [(5, Why::Ready)]);
        assert_eq!(wakeups.held(), 0);
    }

    #[test]
    fn a_stop_releases_what_is_held_and_holds_nothing_more() {
        let wakeups = Wakeups::new(10, 10);
        wakeups.hold(hold(1, LONG), || false).unwrap();
        wakeups.stop();
        assert_eq!(due(&wakeups), [(1, Why::Expired)]);
        wakeups.hold(hold(2, LONG), || false).unwrap();
        assert_eq!(due(&wakeups), [(2, Why::Expired)]);
    }

    #[tokio::test]
    async fn the_task_answers_at_the_deadline() {
        let wakeups = Arc::new(Wakeups::new(10, 10));
        let (answered, mut answers) = tokio::sync::mpsc::channel(4);
        let task = tokio::spawn(run(Arc::clone(&wakeups), move |request, why| {
            answered.try_send((request, why)).unwrap();
        }));
        wakeups.hold(hold(9, LONG), || false).unwrap();
        wakeups.hold(hold(1, Duration::from_millis(20)), || false).unwrap();
        assert_eq!(answers.recv().await, Some((1, Why::Expired)));
        wakeups.advanced(&[advance(10)]);
        assert_eq!(answers.recv().await, Some((9, Why::Ready)));
        task.abort();
    }
}
