//! The network: connections of bytes, as TCP has them, between hosts.
//!
//! ```text
//!  connect ──► (delay) ──► accepted            write ──► chunks, each due later ──► read
//!        a blocked direction holds what goes that way back; what is lost comes late, in order
//! ```
//!
//! A connection is two pipes, one for each direction. Time moves when [`Network::deliver`] says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::Stream;
use openraft::base::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use crate::raft::dial::{Link, Links};

/// What a client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What HTTP/2 puts before each frame: length, kind (0: data), flags, stream.
const FRAME_HEAD_BYTES: usize = 9;
/// What gRPC puts before each message: whether it is compressed, length.
const MESSAGE_HEAD_BYTES: usize = 5;

/// Bytes that a pipe takes before its reader has read.
const WINDOW_BYTES: usize = 256 * 1024;
/// Connections that may wait to be accepted.
const BACKLOG: usize = 64;

/// All hosts and what is under way between them. Cloning shares it.
#[derive(Clone)]
pub(super) struct Network(Arc<Mutex<State>>);

struct State {
    now: u64,
    chance: fastrand::Rng,
    weather: Weather,
    blocked: BTreeSet<(usize, usize)>,
    hosts: Vec<Host>,
    pipes: BTreeMap<u64, Pipe>,
    next: u64,
    dialing: Vec<Waker>,
    delivered: u64,
}

/// How well the network does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// Longest usual delay, ms.
    pub delay_max: u64,
    /// Of a thousand chunks so many are lost at first.
    pub lost: u64,
    /// Of a hundred chunks with messages, in so many a bit flips.
    pub flipped: u64,
}

impl Weather {
    /// That of a network with nothing wrong.
    pub(super) const FAIR: Self = Self { delay_max: 2, lost: 0, flipped: 0 };
}

#[derive(Default)]
struct Host {
    is_listening: bool,
    /// Its machine stopped: nobody answers, not even its kernel.
    is_silent: bool,
    backlog: VecDeque<Socket>,
    accepting: Option<Waker>,
}

/// One direction of a connection.
struct Pipe {
    from: usize,
    to: usize,
    chunks: VecDeque<(u64, VecDeque<u8>)>,
    bytes: usize,
    last_due: u64,
    end: End,
    /// Whether its two ends still exist.
    is_written: bool,
    is_read: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// The writer closed it; the reader sees it after what was written, and not before then.
    Closed {
        due: u64,
    },
    /// Broken for both.
    Reset,
    /// One side's machine is gone, and the other does not know.
    Dead {
        host: usize,
    },
}

impl Network {
    /// Hosts 0 to `hosts` - 1, all reachable and none listening.
    pub(super) fn new(hosts: usize, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            now: 0,
            chance: fastrand::Rng::with_seed(seed),
            weather: Weather::FAIR,
            blocked: BTreeSet::new(),
            hosts: (0..hosts).map(|_| Host::default()).collect(),
            pipes: BTreeMap::new(),
            next: 0,
            dialing: Vec::new(),
            delivered: 0,
        })))
    }

    /// Moves time on and wakes who has something to read.
    pub(super) fn deliver(&self, now: u64) {
        let mut wakers = Vec::new();
        {
            let mut state = self.0.lock();
            state.now = now;
            let State { pipes, blocked, dialing, .. } = &mut *state;
            for pipe in pipes.values_mut() {
                if pipe.is_readable(now, blocked) {
                    wakers.extend(pipe.reader.take());
                }
                if pipe.end == End::Reset && !blocked.contains(&(pipe.to, pipe.from)) {
                    wakers.extend(pipe.writer.take());
                }
            }
            wakers.append(dialing);
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// From now on the network does so well.
    pub(super) fn set_weather(&self, weather: Weather) {
        self.0.lock().weather = weather;
    }

    /// Nothing goes from `from` to `to` any more.
    pub(super) fn block(&self, from: usize, to: usize) {
        self.0.lock().blocked.insert((from, to));
    }

    /// Everything goes everywhere again; what was held back is sent again some time later.
    pub(super) fn heal(&self) {
        let mut state = self.0.lock();
        let State { now, chance, blocked, pipes, .. } = &mut *state;
        for pipe in pipes.values_mut().filter(|p| blocked.contains(&(p.from, p.to))) {
            let again = *now + chance.u64(1..300);
            for (due, _) in &mut pipe.chunks {
                *due = (*due).max(again);
            }
            pipe.last_due = pipe.last_due.max(again);
        }
        blocked.clear();
    }

    /// Breaks a connection.
    pub(super) fn reset_one(&self) {
        let mut state = self.0.lock();
        let State { chance, pipes, .. } = &mut *state;
        let connections: Vec<u64> = pipes.keys().filter(|id| *id % 2 == 0).copied().collect();
        let Some(first) = chance.choice(connections) else { return };
        for id in [first, first + 1] {
            if let Some(pipe) = pipes.get_mut(&id) {
                pipe.end = End::Reset;
            }
        }
    }

    /// The machine of `host` stops: what is connected to it does not hear of it.
    pub(super) fn silence(&self, host: usize) {
        let mut state = self.0.lock();
        state.hosts[host].is_silent = true;
        for pipe in state.pipes.values_mut().filter(|p| p.from == host || p.to == host) {
            if pipe.end == End::Open {
                pipe.end = End::Dead { host };
            }
        }
    }

    /// The machine of `host` is there again; its kernel knows nothing of former connections.
    pub(super) fn wake_up(&self, host: usize) {
        let mut state = self.0.lock();
        state.hosts[host].is_silent = false;
        for pipe in state.pipes.values_mut().filter(|p| p.end == End::Dead { host }) {
            pipe.end = End::Reset;
        }
    }

    /// How `host` reaches the others.
    pub(super) fn links(&self, host: usize) -> Arc<dyn Links> {
        Arc::new(From { network: self.clone(), host })
    }

    /// Connections that come in at `host`.
    pub(super) fn listen(&self, host: usize) -> Incoming {
        self.0.lock().hosts[host].is_listening = true;
        Incoming { network: self.clone(), host }
    }

    /// Chunks that were read so far.
    pub(super) fn delivered(&self) -> u64 {
        self.0.lock().delivered
    }
}

impl Pipe {
    fn is_readable(&self, now: u64, blocked: &BTreeSet<(usize, usize)>) -> bool {
        let passes = !blocked.contains(&(self.from, self.to));
        match self.end {
            End::Reset => passes,
            End::Dead { .. } => false,
            End::Closed { due } if self.chunks.is_empty() => passes && due <= now,
            End::Open | End::Closed { .. } => {
                passes && self.chunks.front().is_some_and(|(due, _)| *due <= now)
            }
        }
    }
}

impl State {
    fn due(&mut self) -> u64 {
        let Weather { delay_max, lost, .. } = self.weather;
        let late = if self.chance.u64(0..1000) < lost { self.chance.u64(200..1000) } else { 0 };
        self.now + self.chance.u64(1..=delay_max.max(1)) + late
    }

    /// Flips a bit of a message that is under way, perhaps. HTTP/2's own bytes have no checksum but
    /// TCP's: one that is wrong there ends a connection, or leaves it waiting.
    fn flip(&mut self, chunk: &mut [u8]) {
        if self.chance.u64(0..100) >= self.weather.flipped {
            return;
        }
        let Some(message) = self.chance.choice(messages(chunk)) else { return };
        let bit = 1 << self.chance.u32(0..8);
        chunk[self.chance.usize(message)] ^= bit;
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.blocked.contains(&(a, b)) || self.blocked.contains(&(b, a))
    }

    fn pipe(&mut self, from: usize, to: usize) -> u64 {
        let id = self.next;
        self.next += 1;
        let pipe = Pipe {
            from,
            to,
            chunks: VecDeque::new(),
            bytes: 0,
            last_due: self.now,
            end: End::Open,
            is_written: true,
            is_read: true,
            reader: None,
            writer: None,
        };
        self.pipes.insert(id, pipe);
        id
    }
}

/// Where messages lie in what is written at once, which starts with a frame; of one that fills
/// several frames, where it begins.
fn messages(chunk: &[u8]) -> Vec<Range<usize>> {
    let length = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let (mut found, mut at) = (Vec::new(), 0);
    if chunk.starts_with(PREFACE) {
        at = PREFACE.len();
    }
    while let Some(head) = chunk.get(at..at + FRAME_HEAD_BYTES) {
        let payload = at + FRAME_HEAD_BYTES;
        at = payload + length(&head[..3]);
        let prefix = chunk.get(payload..payload + MESSAGE_HEAD_BYTES);
        if let Some([0, bytes @ ..]) = prefix.filter(|_| head[3] == 0) {
            let start = payload + MESSAGE_HEAD_BYTES;
            let end = chunk.len().min(at).min(start + length(bytes));
            found.extend((start < end).then_some(start..end));
        }
    }
    found
}

/// The network as one host sees it.
struct From {
    network: Network,
    host: usize,
}

impl Links for From {
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Link>>> {
        let (network, from) = (self.network.clone(), self.host);
        // Hosts are named by their number.
        let to = address.split(':').next().and_then(|host| host.strip_prefix('n')?.parse().ok());
        let Some(to) = to else {
            let error = io::Error::new(io::ErrorKind::NotFound, format!("no host {address}"));
            return Box::pin(std::future::ready(Err(error)));
        };
        let due = network.0.lock().due();
        Box::pin(std::future::poll_fn(move |context| {
            let socket = network.0.lock().dial((from, to), due, context.waker());
            match socket {
                Poll::Ready(Ok((here, there))) => {
                    let accepted = network.accept(to, network.socket(there, here));
                    let here = network.socket(here, there);
                    Poll::Ready(accepted.map(|()| Box::new(here) as Box<dyn Link>))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            }
        }))
    }
}

impl State {
    fn dial(
        &mut self,
        (from, to): (usize, usize),
        due: u64,
        waker: &Waker,
    ) -> Poll<io::Result<(u64, u64)>> {
        if due > self.now || self.is_cut(from, to) || self.hosts[to].is_silent {
            self.dialing.push(waker.clone());
            return Poll::Pending;
        }
        if !self.hosts[to].is_listening || self.hosts[to].backlog.len() >= BACKLOG {
            return Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into()));
        }
        Poll::Ready(Ok((self.pipe(from, to), self.pipe(to, from))))
    }
}

impl Network {
    fn socket(&self, write: u64, read: u64) -> Socket {
        Socket { network: self.clone(), read, write }
    }

    fn accept(&self, host: usize, socket: Socket) -> io::Result<()> {
        let waker = {
            let mut state = self.0.lock();
            let host = &mut state.hosts[host];
            host.backlog.push_back(socket);
            host.accepting.take()
        };
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }
}

/// Connections that come in at a host.
pub(super) struct Incoming {
    network: Network,
    host: usize,
}

impl Stream for Incoming {
    type Item = io::Result<Socket>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.network.0.lock();
        let host = &mut state.hosts[self.host];
        if let Some(socket) = host.backlog.pop_front() {
            return Poll::Ready(Some(Ok(socket)));
        }
        host.accepting = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let left = {
            let mut state = self.network.0.lock();
            let host = &mut state.hosts[self.host];
            host.is_listening = false;
            host.accepting = None;
            std::mem::take(&mut host.backlog)
        };
        drop(left); // which locks the network
    }
}

/// One end of a connection.
pub(super) struct Socket {
    network: Network,
    read: u64,
    write: u64,
}

impl Connected for Socket {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.network.0.lock();
        let State { now, blocked, pipes, delivered, .. } = &mut *state;
        let Some(pipe) = pipes.get_mut(&self.read) else { return Poll::Ready(Ok(())) };
        if !pipe.is_readable(*now, blocked) {
            pipe.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        if pipe.end == End::Reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        while let Some((_, chunk)) = pipe.chunks.front_mut().filter(|(due, _)| due <= now) {
            let (head, _) = chunk.as_slices();
            let bytes = head.len().min(out.remaining());
            out.put_slice(&head[..bytes]);
            chunk.drain(..bytes);
            pipe.bytes -= bytes;
            *delivered += 1;
            if chunk.is_empty() {
                pipe.chunks.pop_front();
            } else if out.remaining() == 0 {
                break;
            }
        }
        if let Some(writer) = pipe.writer.take() {
            writer.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.network.0.lock();
        let due = state.due();
        let mut chunk = bytes.to_vec();
        state.flip(&mut chunk);
        let Some(pipe) = state.pipes.get_mut(&self.write) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        match pipe.end {
            End::Open | End::Dead { .. } => {}
            End::Closed { .. } | End::Reset => {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
        }
        if !pipe.is_read {
            return Poll::Ready(Ok(bytes.len())); // the other side's kernel refuses it, in time
        }
        let room = WINDOW_BYTES.saturating_sub(pipe.bytes).min(bytes.len());
        if room == 0 && !bytes.is_empty() {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        pipe.last_due = pipe.last_due.max(due);
        pipe.bytes += room;
        chunk.truncate(room);
        pipe.chunks.push_back((pipe.last_due, chunk.into()));
        Poll::Ready(Ok(room))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.network.0.lock().close(self.write);
        Poll::Ready(Ok(()))
    }
}

impl State {
    fn close(&mut self, id: u64) {
        let due = self.due();
        let Some(pipe) = self.pipes.get_mut(&id).filter(|p| p.end == End::Open) else { return };
        pipe.last_due = pipe.last_due.max(due);
        pipe.end = End::Closed { due: pipe.last_due };
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut state = self.network.0.lock();
        state.close(self.write);
        let pipes = &mut state.pipes;
        if let Some(pipe) = pipes.get_mut(&self.write) {
            pipe.is_written = false;
        }
        if let Some(pipe) = pipes.get_mut(&self.read) {
            pipe.is_read = false;
            pipe.chunks.clear();
        }
        for id in [self.read, self.write] {
            if pipes.get(&id).is_some_and(|pipe| !pipe.is_read && !pipe.is_written) {
                pipes.remove(&id);
            }
        }
    }
}
