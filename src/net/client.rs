//! Calls to other processes. One connection per address, made when it is needed, shared by all
//! callers, and made again at the next call after it ended.

use super::{
    Handled, Handler, ReplyTo,
    connection::{Bounds, CallError, Connection, End},
    counters::{Counters, add},
    drive::{Entered, Shared},
    intake::Intake,
    unfinished::Unfinished,
    unsent::Unsent,
    watchdog::{TimeLimits, Watchdog},
};
use crate::protocol::{codes::ResponseCode, command::RemotingCommand, frame::FRAME_BYTES_MAX};
use parking_lot::Mutex;
use std::{collections::HashMap, fmt, io, sync::Arc, time::Duration};
use tokio::{net::TcpStream, runtime::Handle, sync::watch, time::Instant};
use tracing::debug;

/// Limits of a client.
#[derive(Clone)]
pub struct ClientOptions {
    /// Time to resolve the name and connect. Default 3 s, as Java's.
    pub connect_time: Duration,
    /// Calls that may wait on one connection. Default 4,096.
    pub calls_max: usize,
    /// Bytes of requests that may be unsent on one connection. Default 16 MiB.
    pub unsent_bytes_max: usize,
    /// Addresses at a time. Default 1,024.
    pub addresses_max: usize,
    /// A connection is taken for dead when a call of at least this length had no answer and
    /// nothing else came either. Default 1 s.
    pub silence: Duration,
    /// Takes requests that peers send to us, and hears of ended connections
    /// ([`Connection::dialled`] tells which). Without one, requests are answered "not supported".
    pub handler: Option<Arc<dyn Handler>>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_time: Duration::from_secs(3),
            calls_max: 4096,
            unsent_bytes_max: 16 * 1024 * 1024,
            addresses_max: 1024,
            silence: Duration::from_secs(1),
            handler: None,
        }
    }
}

/// Bytes that answers may hold that have begun to come, all connections together.
const UNFINISHED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A handle on the connections to other processes. The last clone closes them when it goes.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Dialled>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("connections", &self.inner.shared.watchdog.len())
            .finish_non_exhaustive()
    }
}

/// Outcome of connecting, for everybody who waits for it: `None` while it is under way.
type Dial = watch::Receiver<Option<Result<Arc<Connection>, Arc<io::Error>>>>;

struct Dialled {
    /// Where connections live, whoever calls.
    runtime: Handle,
    shared: Arc<Shared>,
    options: ClientOptions,
    counters: Arc<Counters>,
    dials: Mutex<HashMap<Box<str>, Dial>>,
}

impl Drop for Dialled {
    fn drop(&mut self) {
        self.shared.watchdog.for_each(|connection| connection.close());
    }
}

impl Client {
    /// A client without connections. Must be called on the runtime that shall run them; calls may
    /// come from any.
    pub fn new(options: ClientOptions) -> Self {
        let runtime = Handle::current();
        let counters = Arc::default();
        let limits = TimeLimits {
            idle: None, // whoever needs a connection alive calls over it
            frame: Duration::from_secs(30),
            slow_reader: Duration::from_secs(15),
        };
        // Callers bound it: what is unsent are requests of ours.
        let watchdog = Watchdog::new(limits, Unsent::new(usize::MAX, &counters));
        runtime.spawn(Watchdog::run(Arc::downgrade(&watchdog)));
        let handler = options.handler.clone().unwrap_or_else(|| Arc::new(NoRequests));
        let unfinished = Unfinished::new(UNFINISHED_BYTES_MAX, &counters);
        let shared = Arc::new(Shared { handler, watchdog, unfinished });
        let dials = Mutex::default();
        Self { inner: Arc::new(Dialled { runtime, shared, options, counters, dials }) }
    }

    /// Asks the process at `address` (`name:port` or `ip:port`) and waits for its answer, whatever
    /// its code. `within` is for all of it: resolving, connecting, asking.
    pub async fn call(
        &self,
        address: &str,
        request: RemotingCommand,
        within: Duration,
    ) -> Result<RemotingCommand, CallError> {
        let until = Instant::now() + within;
        let connection = self.connection(address, until).await?;
        let reads = connection.activity().reads();
        let answer = connection.call(request, until - Instant::now()).await;
        let silent = connection.activity().reads() == reads && within >= self.inner.options.silence;
        if let Err(CallError::TimedOut { peer, .. }) = answer {
            if silent {
                debug!(address, "closing a connection that went silent");
                connection.close();
            }
            return Err(CallError::TimedOut { peer, within });
        }
        answer
    }

    /// Sends a request that nobody answers. It is queued when this returns, no more.
    pub async fn oneway(&self, address: &str, request: RemotingCommand) -> Result<(), CallError> {
        let until = Instant::now() + self.inner.options.connect_time;
        self.connection(address, until).await?.send_oneway(request)
    }

    /// The connection to `address`; made if there is none.
    async fn connection(
        &self,
        address: &str,
        until: Instant,
    ) -> Result<Arc<Connection>, CallError> {
        let unreachable = |cause: &dyn fmt::Display| CallError::Unreachable {
            address: address.to_owned(),
            cause: cause.to_string(),
            is_refused: false,
        };
        let mut dial =
            self.inner.dial(address).ok_or_else(|| unreachable(&"too many addresses"))?;
        let made = tokio::time::timeout_at(until, dial.wait_for(Option::is_some)).await;
        match made {
            Ok(Ok(outcome)) => match &*outcome {
                Some(Ok(connection)) => Ok(Arc::clone(connection)),
                Some(Err(error)) => Err(CallError::Unreachable {
                    address: address.to_owned(),
                    cause: error.to_string(),
                    is_refused: error.kind() == io::ErrorKind::ConnectionRefused,
                }),
                None => Err(unreachable(&"not connected")),
            },
            Ok(Err(_)) => Err(unreachable(&"the runtime is stopping")),
            Err(_) => Err(unreachable(&"no connection in time")),
        }
    }

    /// Closes the connection to `address`, if there is one. Calls that wait on it fail.
    pub fn close(&self, address: &str) {
        let Some(dial) = self.inner.dials.lock().remove(address) else { return };
        if let Some(Ok(connection)) = &*dial.borrow() {
            connection.close();
        }
    }

    /// What it has counted.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.inner.counters
    }
}

impl Dialled {
    /// The dial to use for `address`: the one there is, unless it failed or its connection ended.
    /// `None`: too many addresses.
    fn dial(&self, address: &str) -> Option<Dial> {
        let mut dials = self.dials.lock();
        if let Some(dial) = dials.get(address).filter(|dial| is_usable(dial)) {
            return Some(dial.clone());
        }
        if dials.len() >= self.options.addresses_max {
            dials.retain(|_, dial| is_usable(dial));
        }
        if dials.len() >= self.options.addresses_max {
            return None;
        }
        let (outcome, dial) = watch::channel(None);
        let connecting = self.connect(address.into());
        // A task of its own: it serves all who wait, whoever of them gives up.
        self.runtime.spawn(async move {
            if let Err(unwanted) = outcome.send(Some(connecting.await))
                && let Some(Ok(connection)) = unwanted.0
            {
                connection.close(); // its address was closed, or the client dropped, meanwhile
            }
        });
        dials.insert(address.into(), dial.clone());
        Some(dial)
    }

    /// Connects, and starts the connection's task.
    fn connect(
        &self,
        address: Box<str>,
    ) -> impl Future<Output = Result<Arc<Connection>, Arc<io::Error>>> + use<> {
        let (shared, counters) = (Arc::clone(&self.shared), Arc::clone(&self.counters));
        let within = self.options.connect_time;
        let bounds = Bounds {
            unsent_bytes: self.options.unsent_bytes_max,
            together: Arc::clone(self.shared.watchdog.unsent()),
            calls: self.options.calls_max,
        };
        async move {
            let stream = open(&address, within).await?;
            let addresses = (stream.peer_addr()?, stream.local_addr()?);
            add(&counters.accepted, 1);
            let clock = shared.watchdog.clock();
            let connection = Connection::new(addresses, Some(address), bounds, clock, &counters);
            connection.activity().frame_ended(); // a peer that is not asked owes no frame
            let entered = Entered::new(Arc::clone(&connection), Arc::clone(&shared));
            tokio::spawn(exchange(stream, entered));
            Ok(connection)
        }
    }
}

/// Whether a dial is under way or its connection open.
fn is_usable(dial: &Dial) -> bool {
    match &*dial.borrow() {
        Some(Ok(connection)) => !connection.is_closed(),
        Some(Err(_)) => false,
        None => dial.has_changed().is_ok(), // else its task was cut off
    }
}

/// Resolves the name and connects to the first of its addresses that takes us.
async fn open(address: &str, within: Duration) -> io::Result<TcpStream> {
    let connected = tokio::time::timeout(within, TcpStream::connect(address)).await;
    let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    // On one host a connect to a free port can meet itself: TCP's simultaneous open.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One connection that we made, until it ends.
async fn exchange(stream: TcpStream, mut entered: Entered) {
    let end = entered.drive(&Arc::new(stream), Intake::new(FRAME_BYTES_MAX)).await;
    let connection = entered.connection();
    let end = connection.end().unwrap_or(&end);
    if let End::BadBytes(_) = end {
        add(&connection.counters().decode_errors, 1);
    }
    debug!(peer = %connection.peer(), %end, "connection ended");
}

/// For clients that expect no requests.
struct NoRequests;

impl Handler for NoRequests {
    fn handle(&self, connection: &Arc<Connection>, request: RemotingCommand) -> Handled {
        let remark = format!(" request type {} not supported", request.code);
        let answer = RemotingCommand::error(ResponseCode::REQUEST_CODE_NOT_SUPPORTED, remark);
        ReplyTo::new(connection, &request).answer(answer);
        Handled::Done
    }

    fn closed(&self, _: &Arc<Connection>) {}
}
