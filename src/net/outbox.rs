//! Answers of one connection that wait to be written: pushed from any thread, taken all at once
//! by the writer.
//!
//! The limit on unsent bytes does not refuse answers (a request that was taken must be answered):
//! it stops the reader, so the next requests stay in the peer's socket.

use super::{answer::Answer, watchdog::Fullness};
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Notify;

/// Queues longer than this are given back when the connection comes to rest.
const RESTING_CAPACITY: usize = 16;

/// The queue, and what it weighs.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    /// Cost of all answers pushed and not yet written.
    unsent: AtomicUsize,
    unsent_max: usize,
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
    pub(super) fn new(unsent_max: usize) -> Self {
        Self {
            queue: Mutex::default(),
            unsent: AtomicUsize::new(0),
            unsent_max,
            wake: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Queues an answer; after the end of the connection it is dropped. The writer is woken only
    /// when the queue was empty: it takes everything when it runs.
    pub(super) fn push(&self, answer: Answer) {
        let cost = answer.cost();
        let was_empty = {
            let mut queue = self.queue.lock();
            if queue.closed {
                return;
            }
            self.unsent.fetch_add(cost, Ordering::Relaxed);
            queue.answers.push_back(answer);
            queue.answers.len() == 1
        };
        if was_empty {
            self.wake.notify_one();
        }
    }

    /// Moves everything queued into `into`, which must be empty; its memory becomes the queue's.
    pub(super) fn take_all(&self, into: &mut VecDeque<Answer>) {
        debug_assert!(into.is_empty(), "answers would be lost");
        std::mem::swap(&mut self.queue.lock().answers, into);
    }

    /// Notes that answers of this cost have been written.
    pub(super) fn written(&self, cost: usize) {
        let before = self.unsent.fetch_sub(cost, Ordering::Relaxed);
        if before > self.unsent_max && before - cost <= self.unsent_max {
            self.room.notify_one();
        }
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

    /// Drops what is queued and what will be pushed: the connection has ended.
    pub(super) fn close(&self) {
        let dropped = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.answers)
        };
        drop(dropped); // outside the lock: an answer may hold the last reference to much
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{codes::ResponseCode, command::RemotingCommand};
    use futures_util::FutureExt;

    fn answer(body_bytes: usize) -> Answer {
        let command = RemotingCommand::response(ResponseCode::SUCCESS);
        Answer::Command(command.with_body(vec![0; body_bytes]))
    }

    #[test]
    fn the_writer_is_woken_once_for_all_that_is_queued() {
        let outbox = Outbox::new(1 << 20);
        assert!(outbox.woken().now_or_never().is_none());
        (0..3).for_each(|_| outbox.push(answer(10)));
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
        let outbox = Outbox::new(10_000);
        outbox.push(answer(6_000));
        assert!(outbox.room().now_or_never().is_some());
        outbox.push(answer(6_000));
        let cost = answer(6_000).cost();
        let mut waiting = Box::pin(outbox.room());
        assert!(waiting.as_mut().now_or_never().is_none());
        outbox.written(cost);
        assert!(waiting.as_mut().now_or_never().is_some());
        outbox.written(cost);
        assert_eq!(outbox.unsent.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn after_the_end_nothing_is_kept() {
        let outbox = Outbox::new(100);
        outbox.push(answer(1));
        outbox.close();
        outbox.push(answer(1));
        let mut taken = VecDeque::new();
        outbox.take_all(&mut taken);
        assert!(taken.is_empty());
    }

    #[test]
    fn a_burst_leaves_no_memory_behind() {
        let outbox = Outbox::new(100);
        let mut spare = VecDeque::with_capacity(1000);
        (0..1000).for_each(|_| outbox.push(answer(0)));
        outbox.take_all(&mut spare);
        spare.clear();
        outbox.rest(&mut spare);
        assert!(spare.capacity() <= RESTING_CAPACITY);
        assert!(outbox.queue.lock().answers.capacity() <= RESTING_CAPACITY);
    }
}
