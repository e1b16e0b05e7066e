//! The write half of a connection. Its task writes what is queued; whoever has a lone answer on
//! another thread may write it at once instead: waking the task costs more than writing.

use super::{answer::Answer, batch::Batch, connection::Connection, counters::add, outbox::Cost};
use crate::ids::StoredSend;
use parking_lot::Mutex;
use std::{collections::VecDeque, io, sync::Arc};
use tokio::net::TcpStream;

/// The socket, while answers may be written, and what is half written.
#[derive(Debug, Default)]
pub(super) struct Writer(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    socket: Option<Arc<TcpStream>>,
    batch: Batch,
}

/// What became of the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// Everything is written.
    All,
    /// The socket takes no more for the time being.
    Blocked,
}

impl Writer {
    /// From here on answers can be written.
    pub(super) fn open(&self, socket: &Arc<TcpStream>) {
        self.0.lock().socket = Some(Arc::clone(socket));
    }

    /// Lets the socket go: everything is written.
    pub(super) fn let_go(&self) {
        self.0.lock().socket = None;
    }

    /// Nothing is written any more from `now_ms` on; the socket is let go. Which sends were answered
    /// last.
    pub(super) fn close(&self, now_ms: u64) -> VecDeque<StoredSend> {
        std::mem::take(&mut *self.0.lock()).batch.into_last_sends(now_ms)
    }

    /// Writes what is queued on `connection`, until the socket is full or there is nothing more;
    /// then what a burst has grown is given back.
    pub(super) fn write_queued(&self, connection: &Connection) -> io::Result<Written> {
        let (state, outbox) = (&mut *self.0.lock(), connection.outbox());
        loop {
            if state.batch.is_written() {
                outbox.take_all(state.batch.queue());
                if state.batch.queue().is_empty() {
                    state.batch.rest();
                    outbox.rest(state.batch.queue());
                    return Ok(Written::All);
                }
            }
            if state.write(connection)? == Written::Blocked {
                return Ok(Written::Blocked);
            }
        }
    }

    /// Writes one answer, before those that are queued. Gives it back if somebody else is writing
    /// or the socket is full. An error is the task's to find.
    pub(super) fn write_now(&self, connection: &Connection, answer: Answer) -> Option<Answer> {
        let Some(mut state) = self.0.try_lock() else { return Some(answer) };
        if state.socket.is_none() || !state.batch.is_written() {
            return Some(answer);
        }
        let mut cost = Cost::default();
        cost.add(&answer);
        connection.outbox().unwritten(cost);
        state.batch.queue().push_back(answer);
        if !matches!(state.write(connection), Ok(Written::All)) {
            connection.outbox().wake();
        }
        None
    }
}

impl State {
    /// Writes the batch, and what was put into it and is not yet encoded.
    fn write(&mut self, connection: &Connection) -> io::Result<Written> {
        let Self { socket: Some(socket), batch } = self else { return Ok(Written::Blocked) };
        if batch.is_written() {
            let frames = batch.encode(connection.now_ms());
            add(&connection.counters().frames_out, frames);
        }
        while !batch.is_written() {
            let written = socket.try_write_vectored(&batch.slices());
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    batch.advance(bytes);
                    connection.activity().wrote(connection.now_ms());
                    add(&connection.counters().bytes_out, bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    connection.activity().write_blocked(connection.now_ms());
                    return Ok(Written::Blocked);
                }
                Err(error) => return Err(error),
            }
        }
        connection.outbox().written(batch.finish());
        Ok(Written::All)
    }
}
