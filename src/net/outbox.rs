//! Answers of one connection that wait to be written: pushed from any thread, taken all at once
//! by the writer.
//!
//! The limit on unsent bytes does not refuse answers (a request that was taken must be answered):
//! it stops the reader, so the next requests stay in the peer's socket.

use super::{answer::Answer, unsent::Unsent, watchdog::Fullness};
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::Notify;

/// Queues longer than this are given back when the connection comes to rest.
const RESTING_CAPACITY: usize = 16;

/// What answers weigh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// [`Answer::cost`]: what the connection's own limit counts.
    pub unsent: usize,
    /// [`Answer::memory`]: what the limit over all connections counts.
    pub memory: usize,
}

impl Cost {
    /// Counts one more answer.
    pub(super) fn add(&mut self, answer: &Answer) {
        self.unsent += answer.cost();
        self.memory += answer.memory();
    }
}

/// The queue, and what it weighs.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    /// Cost of all answers pushed and not yet written.
    unsent: AtomicUsize,
    unsent_max: usize,
    /// Memory of all answers pushed and not yet written.
    memory: AtomicUsize,
    /// Of all connections.
    together: Arc<Unsent>,
    /// Wakes the writer.
    wake: Notify,
    /// Wakes the reader that waits for room.
    room: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    answers: VecDeque<Answer>,
    closed: bool,
}

impl Outbox {
    /// An empty queue; allocates nothing.
    pub(super) fn new(unsent_max: usize, together: Arc<Unsent>) -> Self {
        Self {
            queue: Mutex::default(),
            unsent: AtomicUsize::new(0),
            unsent_max,
            memory: AtomicUsize::new(0),
            together,
            wake: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Queues an answer; after the end of the connection it is dropped, and this is false. The
    /// writer is woken only when the queue was empty: it takes everything when it runs.
    pub(super) fn push(&self, answer: Answer) -> bool {
        let mut cost = Cost::default();
        cost.add(&answer);
        let was_empty = {
            let mut queue = self.queue.lock();
            if queue.closed {
                return false;
            }
            self.unwritten(cost);
            queue.answers.push_back(answer);
            queue.answers.len() == 1
        };
        if was_empty {
            self.wake.notify_one();
        }
        true
    }

    /// Moves everything queued into `into`, which must be empty; its memory becomes the queue's.
    pub(super) fn take_all(&self, into: &mut VecDeque<Answer>) {
        debug_assert!(into.is_empty(), "answers would be lost");
        std::mem::swap(&mut self.queue.lock().answers, into);
    }

    /// Notes answers of this cost that are to be written.
    pub(super) fn unwritten(&self, cost: Cost) {
        self.unsent.fetch_add(cost.unsent, Ordering::Relaxed);
        let held = self.memory.fetch_add(cost.memory, Ordering::Relaxed);
        self.together.changed(held, held + cost.memory);
    }

    /// Notes that answers of this cost have been written.
    pub(super) fn written(&self, cost: Cost) {
        let held = self.memory.fetch_sub(cost.memory, Ordering::Relaxed);
        self.together.changed(held, held - cost.memory);
        let before = self.unsent.fetch_sub(cost.unsent, Ordering::Relaxed);
        if before > self.unsent_max && before - cost.unsent <= self.unsent_max {
            self.room.notify_one();
        }
    }

    /// Memory of unsent answers.
    pub(super) fn memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }

    /// Whether unsent answers exceed their limit.
    pub(super) fn fullness(&self) -> Fullness {
        let over = self.unsent.load(Ordering::Relaxed) > self.unsent_max;
        if over { Fullness::Over } else { Fullness::Within }
    }

    /// Waits until unsent answers are within their limit. One waiter: the reader.
    pub(super) async fn room(&self) {
        while self.fullness() == Fullness::Over {
            self.room.notified().await;
        }
    }

    /// Waits until there may be something to write, or to find out. One waiter: the writer.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Makes the writer look again.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Gives back what a burst has grown. Called when nothing is queued.
    pub(super) fn rest(&self, spare: &mut VecDeque<Answer>) {
        if spare.capacity() > RESTING_CAPACITY {
            *spare = VecDeque::new();
        }
        let mut queue = self.queue.lock();
        if queue.answers.is_empty() && queue.answers.capacity() > RESTING_CAPACITY {
            queue.answers = VecDeque::new();
        }
    }

    /// Drops what will be pushed, and gives back what is queued: the connection has ended, and its
    /// writer with it.
    pub(super) fn close(&self) -> VecDeque<Answer> {
        let mut queue = self.queue.lock();
        queue.closed = true;
        // Nothing is pushed or written from here on: what is counted goes now.
        self.together.changed(self.memory.swap(0, Ordering::Relaxed), 0);
        std::mem::take(&mut queue.answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{codes::ResponseCode, command::RemotingCommand};
    use futures_util::FutureExt;

    fn outbox(unsent_max: usize) -> Outbox {
        Outbox::new(unsent_max, Unsent::new(usize::MAX, &Arc::default()))
    }

    fn cost_of(answer: &Answer) -> Cost {
        let mut cost = Cost::default();
        cost.add(answer);
        cost
    }

    fn answer(body_bytes: usize) -> Answer {
        let command = RemotingCommand::response(ResponseCode::SUCCESS);
        Answer::Command(command.with_body(vec![0; body_bytes]))
    }

    #[test]
    fn the_writer_is_woken_once_for_all_that_is_queued() {
        let outbox = outbox(1 << 20);
        assert!(outbox.woken().now_or_never().is_none());
        assert!((0..3).all(|_| outbox.push(answer(10))));
        assert!(outbox.woken().now_or_never().is_some());
        assert!(outbox.woken().now_or_never().is_none(), "one wake-up for three answers");
        let mut taken = VecDeque::new();
        outbox.take_all(&mut taken);
        assert_eq!(taken.len(), 3);
        outbox.push(answer(10));
        assert!(outbox.woken().now_or_never().is_some());
    }

    #[test]
    fn the_reader_waits_while_too_much_is_unsent() {
        let outbox = outbox(10_000);
        outbox.push(answer(6_000));
        assert!(outbox.room().now_or_never().is_some());
        outbox.push(answer(6_000));
        let cost = cost_of(&answer(6_000));
        let mut waiting = Box::pin(outbox.room());
        assert!(waiting.as_mut().now_or_never().is_none());
        outbox.written(cost);
        assert!(waiting.as_mut().now_or_never().is_some());
        outbox.written(cost);
        assert_eq!(outbox.unsent.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn after_the_end_nothing_is_kept() {
        let outbox = outbox(100);
        assert!(outbox.push(answer(1)));
        assert_eq!(outbox.close().len(), 1);
        assert!(!outbox.push(answer(1)));
        let mut taken = VecDeque::new();
        outbox.take_all(&mut taken);
        assert!(taken.is_empty());
    }

    #[test]
    fn all_connections_together_know_what_is_unsent_and_nothing_of_it_is_left_at_the_end() {
        let counters = Arc::default();
        let all = Unsent::new(usize::MAX, &counters);
        let sum = || counters.unsent_bytes.load(Ordering::Relaxed);
        let [first, second] = [(); 2].map(|()| Outbox::new(1 << 20, Arc::clone(&all)));
        first.push(answer(100_000));
        let one = sum();
        assert!((80_000..101_000).contains(&one), "{one}");
        second.push(answer(100_000));
        assert_eq!(sum(), 2 * one);
        let head = RemotingCommand::response(ResponseCode::SUCCESS);
        let records = vec![bytes::Bytes::from_static(&[0; 100_000])];
        second.push(Answer::Records { head, records });
        assert!(sum() < 2 * one + 1024, "stored records are no memory of ours");
        first.written(cost_of(&answer(100_000)));
        assert!(sum() < one + 1024);
        second.close();
        second.push(answer(100_000));
        assert_eq!(sum(), 0);
    }

    #[test]
    fn a_burst_leaves_no_memory_behind() {
        let outbox = outbox(100);
        let mut spare = VecDeque::with_capacity(1000);
        assert!((0..1000).all(|_| outbox.push(answer(0))));
        outbox.take_all(&mut spare);
        spare.clear();
        outbox.rest(&mut spare);
        assert!(spare.capacity() <= RESTING_CAPACITY);
        assert!(outbox.queue.lock().answers.capacity() <= RESTING_CAPACITY);
    }
}
