//! Threads of the store: work that takes the disk's time, which an append must not.
//!
//! A worker is a function that does what there is to do and says whether to call it again. It does
//! not wait by itself: so a thread can run it, or a simulation on its own clock, and both run the
//! same code.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// What a worker says at the end of a turn.
pub enum Turn {
    /// Something was done. The function tells who waits for it, and another turn follows.
    Done(Box<dyn FnOnce() + Send>),
    /// There is nothing to do until somebody wakes it, or this much time has passed.
    Idle(Option<Duration>),
    /// It is over.
    End,
}

impl Turn {
    /// Something was done that nobody is told of.
    pub fn done() -> Self {
        Self::Done(Box::new(|| {}))
    }
}

/// One turn of a worker. Must not wait for its own turns.
pub type Work = Box<dyn FnMut() -> Turn + Send>;

/// A running worker. Dropping it does not end the work: the work does, by [`Turn::End`].
pub trait Worker: Send + Sync {
    /// There is something to do.
    fn wake(&self);
    /// Waits until `is_so`, which the worker's turns change, or the work is over.
    fn wait_until(&self, is_so: &mut dyn FnMut() -> bool);
    /// Wakes it and waits until the work is over. On the worker itself it does not wait.
    fn join(&self);
}

/// Runs `work` on a thread of its own, the first turn at once.
pub fn start(name: &str, work: Work) -> io::Result<Arc<dyn Worker>> {
    let shared = Arc::new(Turns { is_over: Mutex::new(false), turned: Condvar::new() });
    let turns = Arc::clone(&shared);
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || run(work, &turns))?;
    Ok(Arc::new(Thread { thread: thread.thread().clone(), turns: shared }))
}

struct Thread {
    thread: thread::Thread,
    turns: Arc<Turns>,
}

struct Turns {
    is_over: Mutex<bool>,
    turned: Condvar,
}

/// Says that the work is over, also when it panicked.
struct Over<'a>(&'a Turns);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        *self.0.is_over.lock() = true;
        self.0.turned.notify_all();
    }
}

fn run(mut work: Work, turns: &Turns) {
    let _over = Over(turns);
    loop {
        match work() {
            Turn::Done(tell) => {
                tell();
                drop(turns.is_over.lock()); // who looks now sees it, who looked waits already
                turns.turned.notify_all();
            }
            // A wake-up since the turn began is kept: parking returns at once then.
            Turn::Idle(None) => thread::park(),
            Turn::Idle(Some(limit)) => thread::park_timeout(limit),
            Turn::End => return,
        }
    }
}

impl Worker for Thread {
    fn wake(&self) {
        self.thread.unpark();
    }

    fn wait_until(&self, is_so: &mut dyn FnMut() -> bool) {
        let mut is_over = self.turns.is_over.lock();
        while !*is_over && !is_so() {
            self.turns.turned.wait(&mut is_over);
        }
    }

    fn join(&self) {
        self.wake();
        // The last handle of a log may be dropped by a callback, on the thread itself.
        if self.thread.id() != thread::current().id() {
            self.wait_until(&mut || false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_worker_turns_when_woken_and_ends_when_it_says_so() {
        let (ask, asked) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let work = move || match asked.try_recv() {
            Ok(n) => {
                let tell = tell.clone();
                Turn::Done(Box::new(move || tell.send(n).unwrap()))
            }
            Err(mpsc::TryRecvError::Empty) => Turn::Idle(None),
            Err(mpsc::TryRecvError::Disconnected) => Turn::End,
        };
        let worker = start("turns", Box::new(work)).unwrap();
        for n in 0..100 {
            ask.send(n).unwrap();
            worker.wake();
            assert_eq!(told.recv().unwrap(), n);
        }
        (0..100).for_each(|n| ask.send(n).unwrap());
        worker.wake();
        let mut seen = 0;
        worker.wait_until(&mut || {
            seen += told.try_iter().count();
            seen == 100
        });
        drop(ask);
        worker.join();
        worker.wait_until(&mut || false);
    }

    #[test]
    fn who_waits_for_a_worker_that_panicked_is_not_left_waiting() {
        let worker = start("panics", Box::new(|| panic!("as the test wants"))).unwrap();
        worker.wait_until(&mut || false);
    }
}
