//! Wakes held pulls: when their queue grows or goes, when their group is reset, when a snapshot is
//! installed, when their time is over, when this broker stops.
//!
//! The raft thread tells which queues grew and which topics changed; what it does here is a look
//! into the hold table. The pulls themselves are answered by one task of the network runtime.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock;
use crate::net::ConnectionId;
use crate::raft::{QueueAdvance, QueueListener};

use super::hold::{Full, Hold, HoldTable};

/// Most requests held at once, and as many that are due. One costs about half a KiB.
pub const HELD_MAX: usize = 200_000;
/// Most that held requests bring along, their filters: an expression may have 16 KiB. Those that
/// are due may bring as much again.
pub const HELD_BYTES_MAX: usize = 32 << 20;
/// Requests answered before other tasks of the thread get their turn.
const AT_ONCE: usize = 64;
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
///
/// Nothing new is held, or made due, while the limit is due: so what waits here is bounded by it
/// twice, what was held and is due now included.
#[derive(Debug)]
pub struct Wakeups<P> {
    table: Mutex<HoldTable<P>>,
    held: AtomicUsize,
    due: Mutex<Due<P>>,
    limit: usize,
    bytes_max: usize,
    wake: Notify,
    stopping: AtomicBool,
}

/// Requests that the task answers next, in order.
#[derive(Debug)]
struct Due<P> {
    requests: VecDeque<DueRequest<P>>,
    /// What they bring along.
    bytes: usize,
}

#[derive(Debug)]
struct DueRequest<P> {
    payload: P,
    bytes: usize,
    why: Why,
}

impl<P> Due<P> {
    fn push(&mut self, request: DueRequest<P>) {
        self.bytes += request.bytes;
        self.requests.push_back(request);
    }

    fn pop(&mut self) -> Option<(P, Why)> {
        let DueRequest { payload, bytes, why } = self.requests.pop_front()?;
        self.bytes -= bytes;
        Some((payload, why))
    }
}

impl<P> Wakeups<P> {
    /// Nothing held, at most `limit` in future, which bring along `bytes_max` at most.
    pub fn new(limit: usize, bytes_max: usize) -> Self {
        Self {
            table: Mutex::new(HoldTable::new(limit, bytes_max)),
            held: AtomicUsize::new(0),
            due: Mutex::new(Due { requests: VecDeque::new(), bytes: 0 }),
            limit,
            bytes_max,
            wake: Notify::new(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Keeps a request until its queue has grown beyond what it wants or its topic is unsettled, or
    /// its deadline. `is_due` is asked after the request is in the table, so that what was applied
    /// meanwhile is not missed.
    pub fn hold(&self, hold: Hold<P>, is_due: impl FnOnce() -> bool) -> Result<(), Full<P>> {
        if !self.has_room(&self.due.lock(), hold.bytes) {
            return Err(Full { hold, held: self.held() });
        }
        if self.stopping.load(Ordering::SeqCst) {
            self.make_due([hold], Why::Expired);
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
            self.make_due(due, Why::Ready);
        } else if self.stopping.load(Ordering::SeqCst) {
            self.release_all();
        } else if is_next {
            self.wake.notify_one(); // it may sleep longer than this request may wait
        }
        Ok(())
    }

    /// Hands a request that need not wait to the task, from a thread that must not answer it;
    /// `bytes` is what it brings along. Hands it back when too many wait there.
    pub fn ready(&self, payload: P, bytes: usize) -> Result<(), P> {
        let mut due = self.due.lock();
        if !self.has_room(&due, bytes) {
            return Err(payload);
        }
        due.push(DueRequest { payload, bytes, why: Why::Ready });
        drop(due);
        self.wake.notify_one();
        Ok(())
    }

    fn has_room(&self, due: &Due<P>, bytes: usize) -> bool {
        due.requests.len() < self.limit && due.bytes.saturating_add(bytes) <= self.bytes_max
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

    /// Makes everything due that is held.
    pub fn release_all(&self) {
        let mut table = self.table.lock();
        let all = table.take_all();
        self.held.store(0, Ordering::SeqCst);
        drop(table);
        self.make_due(all, Why::Expired);
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
        self.make_due(chosen, Why::Ready);
    }

    fn make_due(&self, requests: impl IntoIterator<Item = Hold<P>>, why: Why) {
        let mut due = self.due.lock();
        let before = due.requests.len();
        for Hold { payload, bytes, .. } in requests {
            due.push(DueRequest { payload, bytes, why });
        }
        if due.requests.len() > before {
            drop(due);
            self.wake.notify_one();
        }
    }

    /// Some of what is due, and until when there is nothing more if that is nothing.
    fn take_due(&self, now: Instant) -> (Vec<(P, Why)>, Duration) {
        let mut table = self.table.lock();
        let expired = table.take_expired(now);
        self.held.store(table.len(), Ordering::SeqCst);
        let sleep = table.next_deadline().map_or(LONG, |at| at.saturating_duration_since(now));
        drop(table);
        self.make_due(expired, Why::Expired);
        let mut due = self.due.lock();
        let some = std::iter::from_fn(|| due.pop()).take(AT_ONCE).collect();
        (some, sleep)
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
    loop {
        let (due, sleep) = wakeups.take_due(clock::now());
        if due.is_empty() {
            let _woken_or_deadline = tokio::time::timeout(sleep, wakeups.wake.notified()).await;
            continue;
        }
        for (request, why) in due {
            answer(request, why);
        }
        tokio::task::yield_now().await;
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
    fn nothing_more_is_taken_while_too_much_is_due() {
        let wakeups = Wakeups::new(2, 10);
        wakeups.hold(hold(1, LONG), || false).unwrap();
        assert_eq!(wakeups.ready(2, 4), Ok(()));
        assert_eq!(wakeups.ready(3, 7), Err(3), "11 bytes");
        assert_eq!(wakeups.ready(3, 6), Ok(()));
        assert_eq!(wakeups.ready(4, 0), Err(4), "three requests");
        assert_eq!(wakeups.hold(hold(4, LONG), || false).unwrap_err().hold.payload, 4);
        wakeups.unsettled("T"); // what is held has its turn all the same
        let all = [2, 3, 1].map(|request| (request, Why::Ready));
        assert_eq!(due(&wakeups), all);
        assert_eq!(wakeups.ready(5, 10), Ok(()), "they have been taken");
        assert_eq!(due(&wakeups), [(5, Why::Ready)]);
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
