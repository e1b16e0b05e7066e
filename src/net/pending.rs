//! Calls of one connection that await their answer. Pure: no socket, no clock.
//!
//! There are no deadlines in here: a caller waits with its own time limit and takes its entry out
//! when it stops waiting, for whatever reason, so an entry never outlives its waiter.

use crate::protocol::command::RemotingCommand;
use std::collections::HashMap;
use tokio::sync::oneshot;

/// Where the answer of one call goes.
pub(super) type Waiter = oneshot::Sender<RemotingCommand>;

/// Why a call was not taken. Nothing was sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// As many calls as allowed are waiting.
    Full,
    /// The connection has ended.
    Closed,
}

/// opaque → waiter, at most `limit` of them.
#[derive(Debug)]
pub(super) struct Pending {
    waiters: HashMap<i32, Waiter>,
    next: i32,
    limit: usize,
    closed: bool,
}

impl Pending {
    /// An empty table; allocates nothing.
    pub(super) fn new(limit: usize) -> Self {
        Self { waiters: HashMap::new(), next: 0, limit, closed: false }
    }

    /// Takes a waiter in and says under which opaque its request goes out. The counter wraps, as
    /// Java's does, and passes over numbers still in use.
    pub(super) fn insert(&mut self, waiter: Waiter) -> Result<i32, Refusal> {
        if self.closed {
            return Err(Refusal::Closed);
        }
        if self.waiters.len() >= self.limit {
            return Err(Refusal::Full);
        }
        while self.waiters.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let opaque = self.next;
        self.next = opaque.wrapping_add(1);
        self.waiters.insert(opaque, waiter);
        Ok(opaque)
    }

    /// The next opaque, for a request that nobody waits for.
    pub(super) fn draw_opaque(&mut self) -> i32 {
        let opaque = self.next;
        self.next = opaque.wrapping_add(1);
        opaque
    }

    /// Takes the waiter of `opaque` out: its answer has come, or it no longer waits.
    pub(super) fn take(&mut self, opaque: i32) -> Option<Waiter> {
        self.waiters.remove(&opaque)
    }

    /// Drops all waiters, which tells them, and refuses new ones.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.waiters = HashMap::new();
    }

    /// Calls that wait.
    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codes::ResponseCode;

    #[test]
    fn an_answer_reaches_the_waiter_of_its_opaque_once() {
        let mut pending = Pending::new(8);
        let (first, mut first_answer) = oneshot::channel();
        let (second, mut second_answer) = oneshot::channel();
        let one = pending.insert(first).unwrap();
        let two = pending.insert(second).unwrap();
        assert_ne!(one, two);
        pending.take(two).unwrap().send(RemotingCommand::response(ResponseCode::SUCCESS)).unwrap();
        assert!(second_answer.try_recv().is_ok());
        assert!(first_answer.try_recv().is_err());
        assert!(pending.take(two).is_none(), "a second answer to the same call finds nobody");
        assert_eq!(pending.len(), 1);
    }

    #[test]
    fn the_table_is_bounded_and_room_comes_back() {
        let mut pending = Pending::new(2);
        let insert = |p: &mut Pending| p.insert(oneshot::channel().0);
        let first = insert(&mut pending).unwrap();
        insert(&mut pending).unwrap();
        assert_eq!(insert(&mut pending), Err(Refusal::Full));
        pending.take(first);
        assert!(insert(&mut pending).is_ok());
    }

    #[test]
    fn opaques_wrap_and_pass_over_those_in_use() {
        let mut pending = Pending::new(8);
        pending.next = i32::MAX;
        assert_eq!(pending.insert(oneshot::channel().0), Ok(i32::MAX));
        assert_eq!(pending.insert(oneshot::channel().0), Ok(i32::MIN));
        pending.next = i32::MAX;
        assert_eq!(pending.insert(oneshot::channel().0), Ok(i32::MIN + 1));
    }

    #[test]
    fn closing_tells_every_waiter_and_refuses_new_ones() {
        let mut pending = Pending::new(8);
        let (waiter, mut answer) = oneshot::channel();
        pending.insert(waiter).unwrap();
        pending.close();
        assert_eq!(answer.try_recv().unwrap_err(), oneshot::error::TryRecvError::Closed);
        assert_eq!(pending.insert(oneshot::channel().0), Err(Refusal::Closed));
    }
}
