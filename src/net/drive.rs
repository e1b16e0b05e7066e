//! The task of one connection: socket → frames → handler, and outbox → socket.
//!
//! Both halves are futures of one task, and the reader is polled first. So answers that a handler
//! gives at once are written in the same poll that read their requests, without a wake-up.

use super::{
    Handled, Handler,
    connection::{Connection, End},
    counters::{add, minus_one},
    intake::{Filled, Intake},
    unfinished::{Claim, Unfinished},
    watchdog::Watchdog,
    writer::Written,
};
use crate::clock;
use crate::protocol::command::RemotingCommand;
use bytes::Bytes;
use std::{
    future::pending,
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::net::TcpStream;

/// A connection whose requests take longer than this lets others have a turn.
const TURN: Duration = Duration::from_millis(1);
const REQUESTS_PER_LOOK: u32 = 8;

/// What every connection of one server or client shares.
pub(super) struct Shared {
    /// Takes the requests.
    pub handler: Arc<dyn Handler>,
    /// Watches the connections.
    pub watchdog: Arc<Watchdog>,
    /// Bounds what their unfinished frames hold, and those whose handler waits.
    pub unfinished: Unfinished,
}

impl Shared {
    /// Notes what a connection holds of requests, and ends the connections that must go for it.
    fn claim(&self, claim: &mut Claim<'_>, bytes: usize) {
        for oldest in claim.hold(bytes) {
            self.watchdog.end(oldest, End::CrowdedOut);
        }
    }
}

/// Enters a connection in the books; dropping it strikes the connection out again, tells everybody
/// who waits and, if it ever spoke the remoting protocol, the handler. A drop guard, because a
/// handler may panic and a runtime may stop.
pub(super) struct Entered {
    connection: Arc<Connection>,
    shared: Arc<Shared>,
    /// Whether the handler knows the connection.
    spoken: bool,
}

impl Entered {
    pub(super) fn new(connection: Arc<Connection>, shared: Arc<Shared>) -> Self {
        shared.watchdog.add(Arc::clone(&connection));
        add(&connection.counters().open, 1);
        Self { connection, shared, spoken: false }
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Reads requests and writes answers until the connection ends, and says why it did.
    pub(super) async fn drive(&mut self, socket: &Arc<TcpStream>, mut intake: Intake) -> End {
        self.spoken = true;
        let Self { connection, shared, .. } = self;
        connection.writer().open(socket);
        // All branches are dropped with the connection, so none needs to be cancel-safe.
        tokio::select! {
            biased;
            () = connection.ended() => End::ByUs, // the reason is in the connection
            end = read_requests(socket, &mut intake, connection, shared) => end,
            end = write_answers(socket, connection) => end,
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.connection.end_with(End::ByUs); // if it was cut off: whoever asks finds it closed
        let unheard = self.connection.settle();
        if !unheard.is_empty() {
            self.shared.handler.unheard(unheard); // first: the peer may be sending again
        }
        self.shared.watchdog.remove(self.connection.id());
        minus_one(&self.connection.counters().open);
        if self.spoken {
            self.shared.handler.closed(&self.connection);
        }
    }
}

/// The read half. Ends with the reason for which the connection ends.
async fn read_requests(
    socket: &TcpStream,
    intake: &mut Intake,
    connection: &Arc<Connection>,
    shared: &Shared,
) -> End {
    let mut claim = Claim::new(&shared.unfinished, connection.id());
    let mut filled = Filled::Partly;
    loop {
        let mut turn = Turn::default();
        loop {
            let frame = match intake.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return End::BadBytes(error.to_string()),
            };
            connection.activity().frame_ended();
            claim.release();
            let bytes = frame.len() + intake.buffered().len();
            match take_frame(frame, connection, &*shared.handler).await {
                Ok(Handled::Done) => {}
                // The handler may keep the frame, and the peer's next ones wait behind it.
                Ok(Handled::Wait(ordered)) => {
                    shared.claim(&mut claim, bytes);
                    ordered.await;
                    claim.release();
                }
                Err(end) => return end,
            }
            if turn.is_over() {
                shared.claim(&mut claim, intake.buffered().len());
                tokio::task::yield_now().await;
            }
        }
        // Before any wait: no connection reads twice without having claimed what it read.
        shared.claim(&mut claim, intake.buffered().len());
        if connection.is_closed() {
            return End::ByUs; // the reason is in the connection
        }
        if filled == Filled::Wholly {
            // A peer that sends faster than we read must not keep the writer from running.
            tokio::task::yield_now().await;
        }
        filled = match fill(socket, intake, connection).await {
            Ok(filled) => filled,
            Err(End::Drained) => return pending().await, // the writer ends the connection
            Err(end) => return end,
        };
    }
}

/// How long a connection's requests have kept its thread from other connections.
#[derive(Default)]
struct Turn {
    requests: u32,
    began: Option<Instant>,
}

impl Turn {
    /// Counts a request. The clock is looked at now and then only: most turns are short.
    fn is_over(&mut self) -> bool {
        self.requests += 1;
        if !self.requests.is_multiple_of(REQUESTS_PER_LOOK) {
            return false;
        }
        let now = clock::now();
        let began = *self.began.get_or_insert(now);
        let over = now.duration_since(began) >= TURN;
        if over {
            *self = Self::default();
        }
        over
    }
}

/// One frame: an answer to a call of ours, or a request for the handler.
async fn take_frame(
    frame: Bytes,
    connection: &Arc<Connection>,
    handler: &dyn Handler,
) -> Result<Handled, End> {
    let command =
        RemotingCommand::decode(frame).map_err(|error| End::BadBytes(error.to_string()))?;
    add(&connection.counters().frames_in, 1);
    if command.is_response() {
        connection.answered(command);
        return Ok(Handled::Done);
    }
    connection.outbox().room().await;
    if connection.is_draining() {
        return pending().await; // the writer ends the connection
    }
    Ok(handler.handle(connection, command))
}

/// Waits for bytes and reads them; `Drained` when nothing more is to be read. While it waits,
/// nothing is allocated that the frame at hand does not need.
pub(super) async fn fill(
    socket: &TcpStream,
    intake: &mut Intake,
    connection: &Connection,
) -> Result<Filled, End> {
    if !intake.buffered().is_empty() {
        connection.activity().frame_begun(connection.now_ms());
    }
    if connection.is_draining() {
        return Err(End::Drained);
    }
    let (bytes, offered) = loop {
        intake.rest();
        tokio::select! {
            biased;
            () = connection.draining() => return Err(End::Drained),
            ready = socket.readable() => ready?,
        };
        let buffer = intake.make_room();
        let offered = buffer.capacity() - buffer.len();
        match socket.try_read_buf(buffer) {
            Ok(bytes) => break (bytes, offered),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {} // nothing there after all
            Err(error) => return Err(error.into()),
        }
    };
    if bytes == 0 {
        return Err(End::ByPeer);
    }
    connection.activity().read(connection.now_ms());
    add(&connection.counters().bytes_in, bytes);
    Ok(intake.took(bytes, offered))
}

/// The write half: writes everything queued, again and again. Ends when the socket fails or the
/// connection has drained.
async fn write_answers(socket: &TcpStream, connection: &Connection) -> End {
    loop {
        // Read before the queue: whoever settles a request has given its answer first.
        let drained = connection.is_drained();
        match connection.writer().write_queued(connection) {
            Ok(Written::All) if drained => return End::Drained,
            Ok(Written::All) => connection.outbox().woken().await,
            Ok(Written::Blocked) => {
                if let Err(error) = socket.writable().await {
                    return End::Io(error);
                }
            }
            Err(error) => return End::Io(error),
        }
    }
}
