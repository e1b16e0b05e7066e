//! Log lines on their way to where they are written, which may hang: a pipe whose reader has
//! stopped, a file on a disk that stands still. Who logs never waits for that.
//!
//! ```text
//!  any thread ─put─► 1 MiB of lines ─► the log's thread ─► standard error
//!                      └ full: lost, and counted ─► told once lines get through again
//! ```

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;
use std::{mem, thread};

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait at most, beside those that are being written: as many again.
const WAITING_MAX: usize = 1 << 20;
/// A buffer that has grown beyond this is given back.
const KEPT: usize = 64 << 10;

/// Lines that wait. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Lines have come, or all are written.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Lines,
    is_writing: bool,
    /// Lines since the process started.
    lost: u64,
}

#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    count: u64,
}

impl State {
    fn put(&mut self, line: &[u8]) {
        if self.waiting.bytes.len() + line.len() > WAITING_MAX {
            self.lost += 1;
            return;
        }
        self.waiting.bytes.extend_from_slice(line);
        self.waiting.count += 1;
    }

    fn is_idle(&self) -> bool {
        self.waiting.count == 0 && !self.is_writing
    }
}

impl Queue {
    /// Starts the thread that writes to `out`. `tell` is called there with how many lines have been
    /// lost since the start, when that has changed and lines get through again; it may log.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        tell: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Self::default();
        let lines = queue.clone();
        let write = move || lines.write(out, tell);
        thread::Builder::new().name("log".to_owned()).spawn(write)?;
        Ok(queue)
    }

    fn write(&self, mut out: impl Write, tell: impl Fn(u64)) {
        let (mut lines, mut told) = (Lines::default(), 0);
        loop {
            self.next(&mut lines);
            let written = out.write_all(&lines.bytes).and_then(|()| out.flush());
            let lost = self.wrote(&lines, written.is_ok());
            // If that line is lost itself, there is one more to tell the next time.
            if written.is_ok() && lost > told {
                told = lost;
                tell(lost);
            }
        }
    }

    /// Waits for lines, and exchanges them for what was written.
    fn next(&self, lines: &mut Lines) {
        lines.bytes.clear();
        lines.bytes.shrink_to(KEPT);
        lines.count = 0;
        let mut state = self.0.state.lock();
        self.0.changed.wait_while(&mut state, |state| state.waiting.count == 0);
        mem::swap(lines, &mut state.waiting);
        state.is_writing = true;
    }

    /// Returns how many lines have been lost since the start.
    fn wrote(&self, lines: &Lines, is_written: bool) -> u64 {
        let mut state = self.0.state.lock();
        state.is_writing = false;
        if !is_written {
            state.lost += lines.count;
        }
        self.0.changed.notify_all();
        state.lost
    }

    fn put(&self, line: &[u8]) {
        self.0.state.lock().put(line);
        self.0.changed.notify_all();
    }

    /// Waits until all lines are written, `patience` at most. Returns whether they are.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let mut state = self.0.state.lock();
        let waited = self.0.changed.wait_while_for(&mut state, |state| !state.is_idle(), patience);
        !waited.timed_out()
    }
}

/// Takes whole lines: one call each, as `tracing_subscriber` formats a line before it writes it.
impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender, SyncSender};

    use super::*;

    /// Nothing here takes a tenth of this.
    const WITHIN: Duration = Duration::from_secs(30);

    /// Takes a write for each turn it is given: what it took, or an error.
    struct Sink {
        turns: Receiver<bool>,
        took: Sender<String>,
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.turns.recv() {
                Ok(true) => {
                    self.took.send(String::from_utf8_lossy(bytes).into_owned()).unwrap();
                    Ok(bytes.len())
                }
                Ok(false) => Err(io::ErrorKind::StorageFull.into()),
                Err(_) => loop {
                    thread::park(); // the test is over
                },
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A queue whose thread says by itself how many lines were lost.
    fn queue() -> (Queue, SyncSender<bool>, Receiver<String>, Receiver<u64>) {
        let (turn, turns) = mpsc::sync_channel(8);
        let (took, taken) = mpsc::channel();
        let (lost, told) = mpsc::channel();
        let tell = move |count| lost.send(count).unwrap_or_default();
        let queue = Queue::start(Sink { turns, took }, tell).unwrap();
        (queue, turn, taken, told)
    }

    #[test]
    fn lines_wait_for_a_writer_that_hangs_and_who_logs_does_not() {
        let (queue, turn, taken, _told) = queue();
        queue.put(b"a\n");
        assert!(!queue.flush(Duration::from_millis(1)), "it hangs");
        turn.send(true).unwrap();
        assert_eq!(taken.recv_timeout(WITHIN).unwrap(), "a\n");
        assert!(queue.flush(WITHIN));
        queue.put(b"b\n");
        queue.put(b"c\n");
        (0..2).for_each(|_| turn.send(true).unwrap());
        assert!(queue.flush(WITHIN), "nothing is lost between the last line and an exit");
        assert_eq!(taken.try_iter().collect::<String>(), "b\nc\n");
        assert!(queue.flush(Duration::ZERO), "nothing waits");
    }

    #[test]
    fn what_is_too_much_or_cannot_be_written_is_counted_and_told_when_lines_get_through() {
        let (queue, turn, taken, told) = queue();
        let line = vec![b'x'; WAITING_MAX / 4];
        // Up to four may be with the writer already, and four wait.
        (0..100).for_each(|_| queue.put(&line));
        let lost = queue.0.state.lock().lost;
        assert!((92..=96).contains(&lost), "{lost}");
        let waits = 100 - lost;
        (0..2).for_each(|_| turn.send(true).unwrap());
        assert_eq!(told.recv_timeout(WITHIN).unwrap(), lost);
        assert!(queue.flush(WITHIN));
        let taken_bytes: usize = taken.try_iter().map(|bytes| bytes.len()).sum();
        assert_eq!(taken_bytes as u64, waits * line.len() as u64);

        let (queue, turn, taken, told) = self::queue();
        turn.send(false).unwrap();
        queue.put(b"no room\n");
        assert!(queue.flush(WITHIN));
        assert!(told.try_recv().is_err(), "nobody would read it");
        turn.send(true).unwrap();
        queue.put(b"room\n");
        assert_eq!(told.recv_timeout(WITHIN).unwrap(), 1);
        assert_eq!(taken.recv_timeout(WITHIN).unwrap(), "room\n");
    }
}
