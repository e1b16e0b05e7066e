//! One connection as the rest of the program sees it: a place to put answers and to call from.
//! The socket itself belongs to the connection's task (`drive`), so a `Connection` may be kept for
//! as long as anyone likes: after the end it is a name and a few bytes.

use super::{
    answer::Answer,
    counters::Counters,
    outbox::Outbox,
    pending::{Pending, Refusal},
    unsent::Unsent,
    watchdog::{Activity, CoarseClock, Fullness},
    writer::Writer,
};
use crate::ids::StoredSend;
use crate::protocol::command::RemotingCommand;
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, oneshot};

/// Names one connection of this process; never used again after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

static LAST: AtomicU64 = AtomicU64::new(0);

impl ConnectionId {
    /// Ids are unique in the process, not in a server: a broker's tables hold the connections of
    /// its two ports side by side.
    fn draw() -> Self {
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The last one that was given to a connection; those of later ones are larger.
    pub fn last_drawn() -> Self {
        Self(LAST.load(Ordering::Relaxed))
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection could be made. Nothing was sent.
    #[error("cannot connect to {address}: {cause}")]
    Unreachable {
        /// As the caller gave it.
        address: String,
        /// What the system said.
        cause: String,
        /// Whether nobody listens there.
        is_refused: bool,
    },
    /// Too many calls wait, or the peer has left too much unread. Nothing was sent.
    #[error("too much is waiting for {peer} already")]
    Busy {
        /// Who was to be called.
        peer: SocketAddr,
    },
    /// The connection ended first. The peer may have done what was asked.
    #[error("the connection to {peer} ended before the answer")]
    Closed {
        /// Who was called.
        peer: SocketAddr,
    },
    /// The time was over. The peer may do what was asked, or have done it.
    #[error("no answer from {peer} within {within:?}")]
    TimedOut {
        /// Who was called.
        peer: SocketAddr,
        /// The caller's limit.
        within: Duration,
    },
}

impl CallError {
    /// Whether the peer may have done what was asked; `false`: it was never asked.
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Busy { .. } => false,
            Self::Closed { .. } | Self::TimedOut { .. } => true,
        }
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("closed by the peer")]
    ByPeer,
    #[error("closed by this side")]
    ByUs,
    #[error("closed after the last answer")]
    Drained,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("not the remoting protocol: {0}")]
    BadBytes(String),
    #[error("TLS is not spoken here")]
    Tls,
    #[error("HTTP answered")]
    HttpAnswered,
    #[error("HTTP is not spoken here")]
    HttpRefused,
    #[error("nothing read or written for too long")]
    Idle,
    #[error("no whole frame came in time")]
    FrameUnfinished,
    #[error("the peer does not read its answers")]
    PeerDoesNotRead,
    #[error("requests that are unfinished or wait hold too much memory, and its one is the oldest")]
    CrowdedOut,
    #[error("unsent answers hold too much memory, and its peer has left them longest")]
    LeavesTooMuch,
}

/// How much may wait on one connection.
#[derive(Debug)]
pub(super) struct Bounds {
    /// Bytes of unsent answers above which the peer's requests are not read.
    pub unsent_bytes: usize,
    /// What those of all connections hold.
    pub together: Arc<Unsent>,
    /// Calls of ours that may wait for their answer.
    pub calls: usize,
}

/// One connection, accepted or made.
pub struct Connection {
    id: ConnectionId,
    peer: SocketAddr,
    local: SocketAddr,
    /// The address that a client was asked to call; `None` on accepted connections.
    dialled: Option<Box<str>>,
    outbox: Outbox,
    writer: Writer,
    pending: Mutex<Pending>,
    activity: Activity,
    clock: Arc<CoarseClock>,
    counters: Arc<Counters>,
    /// Requests taken whose `ReplyTo` still exists.
    unanswered: AtomicUsize,
    draining: AtomicBool,
    drain: Notify,
    end: OnceLock<End>,
    ended: Notify,
}

impl Connection {
    pub(super) fn new(
        (peer, local): (SocketAddr, SocketAddr),
        dialled: Option<Box<str>>,
        bounds: Bounds,
        clock: &Arc<CoarseClock>,
        counters: &Arc<Counters>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: ConnectionId::draw(),
            peer,
            local,
            dialled,
            outbox: Outbox::new(bounds.unsent_bytes, bounds.together),
            writer: Writer::default(),
            pending: Mutex::new(Pending::new(bounds.calls)),
            activity: Activity::new(clock.now_ms()),
            clock: Arc::clone(clock),
            counters: Arc::clone(counters),
            unanswered: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            drain: Notify::new(),
            end: OnceLock::new(),
            ended: Notify::new(),
        })
    }

    /// Names this connection in tables.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// The other side. IPv4 addresses are given as such, also on a dual-stack socket.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// This side: tells which listener accepted the connection.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The address as given to [`super::Client::call`]; `None` on accepted connections.
    pub fn dialled(&self) -> Option<&str> {
        self.dialled.as_deref()
    }

    /// Queues an answer for the write half. Callable from any thread, never blocks; after the end
    /// of the connection the answer is dropped, and this is false. Prefer [`super::ReplyTo`], which
    /// knows the opaque and keeps quiet for oneway requests.
    pub fn answer(&self, answer: Answer) -> bool {
        self.outbox.push(answer)
    }

    /// The same, written at once if nobody else writes and the socket takes it.
    pub(super) fn answer_now(&self, answer: Answer) -> bool {
        self.writer.write_now(self, answer).is_none_or(|answer| self.outbox.push(answer))
    }

    /// Sends a request that nobody answers. Refused when the connection has ended, or when the
    /// peer has left so much unread that its own requests are not read either.
    pub fn send_oneway(&self, mut request: RemotingCommand) -> Result<(), CallError> {
        if self.is_closed() {
            return Err(CallError::Closed { peer: self.peer });
        }
        if self.outbox.fullness() == Fullness::Over {
            return Err(CallError::Busy { peer: self.peer });
        }
        request.opaque = self.pending.lock().draw_opaque();
        request.flag = FLAG_ONEWAY;
        self.outbox.push(Answer::Command(request));
        Ok(())
    }

    /// Sends a request and waits for its answer, whatever its code.
    ///
    /// Must not be awaited inside this connection's own [`super::Handled::Wait`]: the reader that
    /// would bring the answer waits for that. Dropping the future forgets the call.
    pub async fn call(
        &self,
        mut request: RemotingCommand,
        within: Duration,
    ) -> Result<RemotingCommand, CallError> {
        let peer = self.peer;
        if self.outbox.fullness() == Fullness::Over {
            return Err(CallError::Busy { peer });
        }
        let (waiter, answer) = oneshot::channel();
        let opaque = self.pending.lock().insert(waiter).map_err(|refusal| match refusal {
            Refusal::Full => CallError::Busy { peer },
            Refusal::Closed => CallError::Closed { peer },
        })?;
        let _forgotten_at_the_end = Waiting { connection: self, opaque };
        request.opaque = opaque;
        request.flag = FLAG_REQUEST;
        self.outbox.push(Answer::Command(request));
        match tokio::time::timeout(within, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(CallError::Closed { peer }),
            Err(_) => Err(CallError::TimedOut { peer, within }),
        }
    }

    /// Ends the connection at once; what is unsent is dropped.
    pub fn close(&self) {
        self.end_with(End::ByUs);
    }

    /// Whether the connection has ended, or is about to.
    pub fn is_closed(&self) -> bool {
        self.end.get().is_some()
    }

    /// Ends the connection: its task does the rest. The first reason counts.
    pub(super) fn end_with(&self, end: End) {
        if self.end.set(end).is_ok() {
            self.ended.notify_one();
        }
    }

    /// Waits for [`Connection::end_with`]. One waiter: the connection's task.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Why the connection ended, once it has.
    pub(super) fn end(&self) -> Option<&End> {
        self.end.get()
    }

    /// Tells everybody who waits that nothing more will come; gives back the sends whose answers
    /// the peer may not have got, in order. Called once, by the task's end.
    pub(super) fn settle(&self) -> VecDeque<StoredSend> {
        self.pending.lock().close();
        // What is answered meanwhile is in one of the two, or is refused.
        let mut unheard = self.writer.close(self.now_ms());
        unheard.extend(self.outbox.close().iter().filter_map(Answer::stored));
        unheard
    }

    /// Takes no more requests; ends when all that were taken are answered and written.
    pub(super) fn start_draining(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.drain.notify_one();
        self.outbox.wake();
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Waits for [`Connection::start_draining`]. One waiter: the reader.
    pub(super) async fn draining(&self) {
        self.drain.notified().await;
    }

    /// Whether it drains and no taken request is without its answer.
    pub(super) fn is_drained(&self) -> bool {
        self.is_draining() && self.unanswered.load(Ordering::SeqCst) == 0
    }

    pub(super) fn request_taken(&self) {
        self.unanswered.fetch_add(1, Ordering::SeqCst);
    }

    /// The counterpart of `request_taken`, after its answer was pushed. Both sides are `SeqCst`:
    /// either the writer sees the count at zero, or this sees the draining and wakes the writer.
    pub(super) fn request_settled(&self) {
        if self.unanswered.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_draining() {
            self.outbox.wake();
        }
    }

    /// An answer to one of our calls came in. Unknown ones are late: their caller has given up.
    pub(super) fn answered(&self, answer: RemotingCommand) {
        let waiter = self.pending.lock().take(answer.opaque);
        if let Some(waiter) = waiter {
            drop(waiter.send(answer)); // fails if the caller gave up this moment
        }
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(super) fn writer(&self) -> &Writer {
        &self.writer
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Milliseconds of the server's clock.
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What the watchdog judges by.
    pub(super) fn vital_signs(&self) -> (&Activity, Fullness) {
        (&self.activity, self.outbox.fullness())
    }
}

/// Bit 0: response, bit 1: oneway.
const FLAG_REQUEST: i32 = 0;
const FLAG_ONEWAY: i32 = 2;

/// Takes a call's waiter out of the table when its caller stops waiting, for whatever reason.
struct Waiting<'a> {
    connection: &'a Connection,
    opaque: i32,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.connection.pending.lock().take(self.opaque);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id)
            .field("peer", &self.peer)
            .field("calls", &self.pending.lock().len())
            .field("end", &self.end.get())
            .finish_non_exhaustive()
    }
}
