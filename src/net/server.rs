//! Accepts connections and keeps them until the server stops.
//!
//! ```text
//!  start ─► accepting ─ stop(grace) ─► draining: no accepts, no new requests,
//!             ▲  │                     answers of those taken still go out ─► closed
//!    accept() │  ▼ refuse()
//!           refusing: who connects, by one of the listeners
//! ```

use super::{
    Handler, HttpHandler,
    connection::{Bounds, Connection, End},
    counters::{Counters, add},
    door::Door,
    drive::{self, Entered, Shared},
    http,
    intake::Intake,
    opening::{Opening, opening},
    unfinished::Unfinished,
    unsent::Unsent,
    watchdog::{TimeLimits, Watchdog},
};
use crate::clock;
use crate::protocol::frame::FRAME_BYTES_MAX;
use crate::telemetry::log_limit::LogLimit;
use parking_lot::Mutex;
use std::net::{IpAddr, SocketAddr};
use std::{fmt, io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tracing::{debug, error, info, warn};

/// Limits of a server. The defaults are Java's where Java has one.
#[derive(Clone)]
pub struct ServerOptions {
    /// Connections at a time, all listeners together; more are closed at once. Default 20,000.
    pub connections_max: usize,
    /// A connection without a byte read or written for so long is closed. Default 120 s
    /// (`serverChannelMaxIdleTimeSeconds`).
    pub idle: Duration,
    /// A frame must be complete so long after its first byte, and a connection's first frame so
    /// long after the accept. Default 30 s.
    pub frame_time: Duration,
    /// Bytes of one frame; a longer one closes its connection. Default and most 16 MiB.
    pub frame_bytes_max: usize,
    /// Bytes that unfinished frames, and whole ones whose handler waits, may hold, all connections
    /// together; beyond it the oldest of them are ended. Frames of which at most 16 KiB have come
    /// do not count. Default 128 MiB: twice what a broker's log takes at a time
    /// (`inFlightBytesMax`).
    pub unfinished_bytes_max: usize,
    /// Bytes of unsent answers above which a connection's requests are not read. Default 8 MiB.
    pub unsent_bytes_max: usize,
    /// Bytes of memory that unsent answers may hold, all connections together; beyond it
    /// connections whose peers do not read are ended. Up to 16 KiB of each do not count, and
    /// stored records never do. Default 128 MiB.
    pub all_unsent_bytes_max: usize,
    /// A peer that leaves more than `unsent_bytes_max` unread, and takes nothing for so long, is
    /// closed. Default 15 s.
    pub slow_reader: Duration,
    /// Calls of ours that may wait on one connection. Default 1,024.
    pub calls_max: usize,
    /// Answers plain HTTP on the same port; without one such connections are closed.
    pub plain_http: Option<Arc<dyn HttpHandler>>,
    /// Time for one HTTP request and its answer. Default 10 s.
    pub http_time: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            idle: Duration::from_secs(120),
            frame_time: Duration::from_secs(30),
            frame_bytes_max: FRAME_BYTES_MAX,
            unfinished_bytes_max: 128 * 1024 * 1024,
            unsent_bytes_max: 8 * 1024 * 1024,
            all_unsent_bytes_max: 128 * 1024 * 1024,
            slow_reader: Duration::from_secs(15),
            calls_max: 1024,
            plain_http: None,
            http_time: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("connections_max", &self.connections_max)
            .field("idle", &self.idle)
            .field("plain_http", &self.plain_http.is_some())
            .finish_non_exhaustive()
    }
}

/// How long a stop may take beyond its grace: connections that were told to end.
const END_TIME: Duration = Duration::from_secs(1);
/// After the last answer of a stop: how long the peer may take to close its side.
const PARTING_TIME: Duration = Duration::from_millis(500);

/// A running server. Dropping it ends it at once; [`Server::stop`] lets answers go out.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    gate: Arc<Gate>,
    /// By listener.
    doors: Vec<DoorKeeper>,
    acceptors: Mutex<Vec<JoinHandle<()>>>,
}

/// What an acceptor is to do.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Accept,
    Refuse,
    /// Let answers go out until then.
    Drain(Instant),
}

/// Tells an acceptor what to do.
#[derive(Debug)]
struct DoorKeeper {
    stage: watch::Sender<Stage>,
    /// Whether it refuses by now.
    is_shut: watch::Receiver<bool>,
}

impl Server {
    /// Accepts connections from all `listeners`, for one handler and under common limits. Must be
    /// called on the runtime that shall run them.
    pub fn start(
        listeners: Vec<TcpListener>,
        handler: Arc<dyn Handler>,
        options: ServerOptions,
    ) -> io::Result<Self> {
        let counters = Arc::default();
        let limits = TimeLimits {
            idle: Some(options.idle),
            frame: options.frame_time,
            slow_reader: options.slow_reader,
        };
        let unsent = Unsent::new(options.all_unsent_bytes_max, &counters);
        let watchdog = Watchdog::new(limits, unsent);
        tokio::spawn(Watchdog::run(Arc::downgrade(&watchdog))); // ends when the gate is dropped
        let unfinished = Unfinished::new(options.unfinished_bytes_max, &counters);
        let gate = Arc::new(Gate {
            shared: Arc::new(Shared { handler, watchdog, unfinished }),
            options,
            counters,
            refusals: LogLimit::minutely(),
            crowds: LogLimit::minutely(),
            bad_peers: LogLimit::minutely(),
        });
        let open = listeners.into_iter().map(Door::new).collect::<io::Result<Vec<_>>>()?;
        let addresses = open.iter().map(Door::address).collect();
        let start = |door| {
            let (stage, stages) = watch::channel(Stage::Accept);
            let (shut, is_shut) = watch::channel(false);
            let acceptor = tokio::spawn(accept(door, Arc::clone(&gate), stages, shut));
            (DoorKeeper { stage, is_shut }, acceptor)
        };
        let (doors, acceptors) = open.into_iter().map(start).unzip();
        Ok(Self { addresses, gate, doors, acceptors: Mutex::new(acceptors) })
    }

    /// Where it listens, in the order of the listeners.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What it has counted.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.gate.counters
    }

    /// Connections now open.
    pub fn connections(&self) -> usize {
        self.gate.shared.watchdog.len()
    }

    /// Closes all connections that are open now; others are accepted as before.
    pub fn close_connections(&self) {
        self.close_those(|_| true);
    }

    /// The same for those that are `such`.
    pub fn close_those(&self, such: impl Fn(&Connection) -> bool) {
        self.gate.shared.watchdog.for_each(|connection| {
            if such(connection) {
                connection.close();
            }
        });
    }

    /// Refuses who connects to a listener, by its place in [`Self::addresses`], and who has and was
    /// not accepted yet. Connections that are open stay, other listeners accept as before. Returns
    /// once that is so.
    pub async fn refuse(&self, listener: usize) {
        let Some(door) = self.doors.get(listener) else { return };
        door.turn(Stage::Refuse);
        // An error: the acceptor has ended, and its listener with it.
        let _ = door.is_shut.clone().wait_for(|is_shut| *is_shut).await;
    }

    /// Lets in again who connects to a listener that refused.
    pub fn accept(&self, listener: usize) {
        if let Some(door) = self.doors.get(listener) {
            door.turn(Stage::Accept);
        }
    }

    /// Stops accepting and reading requests, waits up to `grace` for the answers of those taken,
    /// and closes everything. Whoever holds requests back (waiting pulls) should answer them
    /// first. A second stop returns at once.
    pub async fn stop(&self, grace: Duration) {
        let acceptors = std::mem::take(&mut *self.acceptors.lock());
        let until = Instant::now() + grace;
        self.doors.iter().for_each(|door| door.turn(Stage::Drain(until)));
        for acceptor in acceptors {
            if let Err(error) = acceptor.await {
                error!(%error, "an acceptor failed");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Aborting an acceptor drops its set of connections, which aborts them.
        self.acceptors.lock().iter().for_each(JoinHandle::abort);
    }
}

impl DoorKeeper {
    /// A stop is the last word.
    fn turn(&self, to: Stage) {
        self.stage.send_if_modified(|stage| {
            let goes_on = !matches!(stage, Stage::Drain(_));
            if goes_on {
                *stage = to;
            }
            goes_on
        });
    }
}

/// What the acceptors of one server share.
struct Gate {
    shared: Arc<Shared>,
    options: ServerOptions,
    counters: Arc<Counters>,
    /// By listener: what is not let in.
    refusals: LogLimit<IpAddr>,
    /// By listener: when all connections hold too much.
    crowds: LogLimit<IpAddr>,
    bad_peers: LogLimit<IpAddr>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("options", &self.options).finish_non_exhaustive()
    }
}

/// One listener, and the connections that came through it.
async fn accept(
    mut door: Door,
    gate: Arc<Gate>,
    mut stages: watch::Receiver<Stage>,
    shut: watch::Sender<bool>,
) {
    let mut connections = JoinSet::new();
    let mut pause = None;
    let until = loop {
        match *stages.borrow_and_update() {
            Stage::Accept => door.open(),
            Stage::Refuse => door.shut(),
            Stage::Drain(until) => break until,
        }
        shut.send_replace(door.is_shut());
        let accepted = async {
            if let Some(pause) = pause.take() {
                tokio::time::sleep(pause).await;
            }
            door.accept().await
        };
        // All three are cancel-safe: what they return is either here or still there.
        tokio::select! {
            changed = stages.changed() => if changed.is_err() {
                break Instant::now(); // the server was dropped
            },
            Some(ended) = connections.join_next() => report_panic(ended),
            accepted = accepted => match accepted {
                Ok((stream, peer)) => {
                    if let Some(connection) = gate.admit(stream, peer) {
                        connections.spawn(connection);
                    }
                }
                Err(error) => {
                    pause = accept_pause(&error);
                    if pause.is_some() {
                        gate.report_failed_accept(door.address(), &error);
                    }
                }
            },
        }
    };
    drop((door, shut));
    let watchdog = &gate.shared.watchdog;
    watchdog.for_each(|connection| connection.start_draining());
    if !all_ended(&mut connections, until).await {
        debug!(connections = connections.len(), "closing connections with unsent answers");
        watchdog.for_each(|connection| connection.close());
        all_ended(&mut connections, Instant::now() + END_TIME).await;
    }
} // what is left is aborted with the set

/// Waits for the connections; `false` when the time is over first.
async fn all_ended(connections: &mut JoinSet<()>, until: Instant) -> bool {
    let ending = async {
        while let Some(ended) = connections.join_next().await {
            report_panic(ended);
        }
    };
    tokio::time::timeout_at(until, ending).await.is_ok()
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        error!(%error, "a request handler failed; its connection is closed");
    }
}

/// How long to wait before the next accept. `None`: the failure was that one connection's own.
fn accept_pause(error: &io::Error) -> Option<Duration> {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    match error.kind() {
        ConnectionAborted | ConnectionReset | Interrupted | WouldBlock => None,
        // Out of descriptors or memory: stays so until connections end. The peer waits in the
        // backlog meanwhile. Or the address of a door that was shut is somebody else's now.
        _ => Some(Duration::from_millis(200)),
    }
}

impl Gate {
    /// Lets a connection in, as a future that serves it; or closes it, if there are too many.
    fn admit(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let peer = canonical(peer);
        let limit = self.options.connections_max;
        let watchdog = &self.shared.watchdog;
        let local = match stream.local_addr() {
            Ok(local) => canonical(local),
            Err(_) => return None, // gone already
        };
        if watchdog.len() >= limit {
            add(&self.counters.refused, 1);
            if let Some(unsaid) = self.refusals.allow(local.ip(), clock::now()) {
                warn!(%peer, limit, unsaid, "connection refused: too many");
            }
            return None;
        }
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        add(&self.counters.accepted, 1);
        let bounds = Bounds {
            unsent_bytes: self.options.unsent_bytes_max,
            together: Arc::clone(watchdog.unsent()),
            calls: self.options.calls_max,
        };
        let clock = watchdog.clock();
        let connection = Connection::new((peer, local), None, bounds, clock, &self.counters);
        let entered = Entered::new(connection, Arc::clone(&self.shared));
        Some(serve(stream, entered, Arc::clone(self)))
    }

    /// Logs that no connection can be accepted, now and then while it lasts.
    fn report_failed_accept(&self, local: SocketAddr, error: &io::Error) {
        if let Some(unsaid) = self.refusals.allow(local.ip(), clock::now()) {
            warn!(%local, %error, unsaid, "cannot accept connections");
        }
    }

    /// Logs the end of a connection: quietly, unless its peer sent garbage, and that not too often.
    fn report(&self, connection: &Connection, end: &End) {
        let peer = connection.peer();
        debug!(%peer, %end, "connection ended");
        match end {
            End::BadBytes(_) | End::Tls | End::HttpRefused => {
                add(&self.counters.decode_errors, 1);
                if let Some(unsaid) = self.bad_peers.allow(peer.ip(), clock::now()) {
                    info!(%peer, %end, unsaid, "connection closed");
                }
            }
            End::Idle | End::FrameUnfinished | End::PeerDoesNotRead => {
                add(&self.counters.timed_out, 1);
            }
            End::CrowdedOut | End::LeavesTooMuch => {
                add(&self.counters.crowded_out, 1);
                let limit = match end {
                    End::CrowdedOut => self.options.unfinished_bytes_max,
                    _ => self.options.all_unsent_bytes_max,
                };
                if let Some(unsaid) = self.crowds.allow(connection.local().ip(), clock::now()) {
                    warn!(%peer, limit, unsaid, "connection closed: {end}");
                }
            }
            End::ByPeer | End::ByUs | End::Drained | End::Io(_) | End::HttpAnswered => {}
        }
    }
}

/// The peer of a dual-stack socket, as an IPv4 address if it is one.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// One accepted connection, from its first byte to its end.
async fn serve(stream: TcpStream, mut entered: Entered, gate: Arc<Gate>) {
    let end = speak(stream, &mut entered, &gate).await;
    let connection = entered.connection();
    gate.report(connection, connection.end().unwrap_or(&end));
}

/// Finds out what the peer speaks, and speaks it.
async fn speak(mut stream: TcpStream, entered: &mut Entered, gate: &Gate) -> End {
    let mut intake = Intake::new(gate.options.frame_bytes_max);
    let connection = Arc::clone(entered.connection());
    // Both branches end the connection, or the reading is complete: nothing is lost.
    let first = tokio::select! {
        biased;
        () = connection.ended() => return End::ByUs, // the reason is in the connection
        first = first_bytes(&stream, &mut intake, &connection) => first,
    };
    match first {
        Err(end) => end,
        Ok(Opening::Tls) => End::Tls,
        Ok(Opening::Undecided | Opening::Remoting) => {
            let stream = Arc::new(stream);
            let end = entered.drive(&stream, intake).await;
            if matches!(end, End::Drained) {
                connection.writer().let_go(); // nobody else has the stream then
                part(Arc::into_inner(stream)).await;
            }
            end
        }
        Ok(Opening::Http) => {
            let Some(handler) = gate.options.plain_http.clone() else { return End::HttpRefused };
            add(&gate.counters.http_requests, 1);
            let first = intake.take_all();
            // Boxed: hyper's state is larger than all of ours, and few connections need it.
            let (read, write) = stream.split();
            let exchange = http::answer(first, read, write, handler, gate.options.http_time);
            let mut exchange = Box::pin(exchange);
            tokio::select! {
                biased;
                () = connection.ended() => End::ByUs,
                done = &mut exchange => match done {
                    Ok(()) => End::HttpAnswered,
                    Err(error) => End::Io(io::Error::other(error)),
                },
            }
        }
    }
}

/// Reads until it is clear what the peer speaks.
async fn first_bytes(
    stream: &TcpStream,
    intake: &mut Intake,
    connection: &Connection,
) -> Result<Opening, End> {
    loop {
        match opening(intake.buffered()) {
            Opening::Undecided => drive::fill(stream, intake, connection).await?,
            decided => return Ok(decided),
        };
    }
}

/// Closes our side and gives the peer a moment to close its own. A plain close with requests
/// unread would be a reset, which can overtake the last answers.
async fn part(stream: Option<TcpStream>) {
    let Some(mut stream) = stream else { return };
    let parting = async {
        stream.shutdown().await?;
        let mut unread = [0; 1024];
        while stream.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    };
    if let Ok(Err(error)) = tokio::time::timeout(PARTING_TIME, parting).await {
        debug!(%error, "the peer was faster to close");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_out_of_descriptors_pauses_and_a_lost_connection_does_not() {
        use rustix::io::Errno;
        let rows = [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOMEM, true),
            (Errno::NOBUFS, true),
            (Errno::CONNABORTED, false),
            (Errno::INTR, false),
        ];
        for (errno, pauses) in rows {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(accept_pause(&error).is_some(), pauses, "{errno}");
        }
    }

    #[test]
    fn a_mapped_peer_is_an_ipv4_peer() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:10911".parse().unwrap();
        assert_eq!(canonical(mapped).to_string(), "10.0.0.1:10911");
    }
}
