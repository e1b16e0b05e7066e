//! Threads for what may have to wait for the disk: pulls of what is far behind the end of the log
//! and has probably left memory, and look-ups by time, key, position or number, which may read
//! anywhere. Connections share few threads, and each of these serves sends and heartbeats, too; a
//! thread here may wait for as long as the disk likes.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};

/// Most requests that wait for a reader. One costs about half a KiB.
pub const WAITING_MAX: usize = 16 * 1024;
/// Disks serve several readers at once, and a single one would let a slow read stop all others.
const THREADS: usize = 4;

/// Requests that wait for a reader. `P` is what one reads for.
#[derive(Debug)]
pub struct Readers<P> {
    queue: Mutex<Queue<P>>,
    wake: Condvar,
    limit: usize,
}

#[derive(Debug)]
struct Queue<P> {
    waiting: VecDeque<P>,
    closed: bool,
}

impl<P> Readers<P> {
    /// Nothing waits, at most `limit` in future.
    pub fn new(limit: usize) -> Self {
        let queue = Queue { waiting: VecDeque::new(), closed: false };
        Self { queue: Mutex::new(queue), wake: Condvar::new(), limit }
    }

    /// Takes a request, or hands it back when too many wait. Never blocks.
    pub fn take(&self, request: P) -> Result<(), P> {
        let mut queue = self.queue.lock();
        if queue.closed || queue.waiting.len() >= self.limit {
            return Err(request);
        }
        queue.waiting.push_back(request);
        drop(queue);
        self.wake.notify_one();
        Ok(())
    }

    /// Drops what waits and takes nothing more; the threads end after what they are at.
    pub fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        let dropped = std::mem::take(&mut queue.waiting);
        drop(queue);
        drop(dropped); // outside the lock: each may hold the last reference to much
        self.wake.notify_all();
    }

    fn next(&self) -> Option<P> {
        let mut queue = self.queue.lock();
        while queue.waiting.is_empty() && !queue.closed {
            self.wake.wait(&mut queue);
        }
        queue.waiting.pop_front()
    }
}

/// Starts the threads, which `read` for each request until the readers are closed. Nobody joins
/// them: a hanging disk must not keep a broker from ending.
pub fn start<P: Send + 'static>(
    readers: &Arc<Readers<P>>,
    read: impl Fn(P) + Clone + Send + 'static,
) -> io::Result<()> {
    for _ in 0..THREADS {
        let (readers, read) = (Arc::clone(readers), read.clone());
        thread::Builder::new().name("read".to_owned()).spawn(move || {
            while let Some(request) = readers.next() {
                read(request);
            }
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_read_that_hangs_stops_neither_the_others_nor_whoever_hands_in() {
        let readers = Arc::new(Readers::new(2));
        let (done, read) = mpsc::channel();
        let (hang, go_on) = mpsc::sync_channel::<()>(0);
        let go_on = Arc::new(Mutex::new(go_on));
        let reading = move |n: u32| {
            if n == 0 {
                let _hanging = go_on.lock().recv();
            }
            done.send(n).unwrap();
        };
        start(&readers, reading).unwrap();
        readers.take(0).unwrap();
        readers.take(1).unwrap();
        assert_eq!(read.recv().unwrap(), 1);
        hang.send(()).unwrap();
        assert_eq!(read.recv().unwrap(), 0);
        readers.close();
        assert_eq!(readers.take(2), Err(2));
        assert!(read.recv().is_err(), "the threads have ended");
    }

    #[test]
    fn more_than_the_limit_is_handed_back() {
        let readers = Readers::new(2);
        assert_eq!([1, 2, 3].map(|n| readers.take(n)), [Ok(()), Ok(()), Err(3)]);
        assert_eq!(readers.next(), Some(1));
        assert_eq!(readers.take(4), Ok(()));
    }
}
