//! Connections that peers make to this member: so many at most, and none for somebody who does not
//! say who it is, or is gone.
//!
//! ```text
//!  accepted ──► a place is free? ──► introduced in time? ──► heard of now and then? ──► stays
//!                   no: closed          no: closed               no: closed
//! ```
//!
//! Peers call at once and ping every second (`raft::network`), and try again when they are refused.
//! Whoever reaches the port and holds connections open loses them after [`PATIENCE`]; who makes new
//! ones all the time competes with a peer that lost its own. The port is for members only.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tonic::transport::server::Connected;

use crate::raft::dial::Link;

/// Connections at a time. A peer has three, and makes others before it gives up lost ones.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection may be without an introduction, and without a sign of life.
const PATIENCE: Duration = Duration::from_secs(5);
/// Refusals are told once in this time, with their number.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Whether the caller of a connection has said who it is, and was believed. Cloning shares it.
#[derive(Clone, Default)]
pub(super) struct Introduced(Arc<AtomicBool>);

impl Introduced {
    /// It has.
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_noted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Connections of `incoming` as long as there are places; others are closed at once.
pub(super) fn admitted<L: Link + Connected>(
    incoming: impl Stream<Item = io::Result<L>>,
) -> impl Stream<Item = io::Result<Caller<L>>> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut refusals = Refusals::default();
    incoming.filter_map(move |link| {
        let place = Arc::clone(&places).try_acquire_owned();
        let admitted = match (link, place) {
            (Err(error), _) => Some(Err(error)),
            (Ok(link), Ok(place)) => Some(Ok(Caller::new(link, place))),
            (Ok(_closed), Err(_)) => {
                refusals.tell(Instant::now());
                None
            }
        };
        std::future::ready(admitted)
    })
}

/// Connections that were refused, and when that was told.
#[derive(Default)]
struct Refusals {
    untold: u64,
    told: Option<Instant>,
}

impl Refusals {
    fn tell(&mut self, now: Instant) {
        self.untold += 1;
        if self.told.is_none_or(|told| now.duration_since(told) >= TELL_AGAIN) {
            let refused = std::mem::take(&mut self.untold);
            tracing::warn!(refused, limit = CONNECTIONS_MAX, "closed peer connections: too many");
            self.told = Some(now);
        }
    }
}

/// A connection that came in, and its place. Reading fails when its time is up.
pub(super) struct Caller<L> {
    link: L,
    introduced: Introduced,
    opened: Instant,
    heard: Instant,
    /// No later than its time is up: what is heard moves it when it ends only.
    alarm: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl<L> Caller<L> {
    fn new(link: L, place: OwnedSemaphorePermit) -> Self {
        let now = Instant::now();
        Self {
            link,
            introduced: Introduced::default(),
            opened: now,
            heard: now,
            alarm: Box::pin(tokio::time::sleep_until(now + PATIENCE)),
            _place: place,
        }
    }

    /// Until when it may stay as it is.
    fn ends(&self) -> Instant {
        let since = if self.introduced.is_noted() { self.heard } else { self.opened };
        since + PATIENCE
    }
}

impl<L: Connected> Connected for Caller<L> {
    type ConnectInfo = Introduced;

    fn connect_info(&self) -> Introduced {
        self.introduced.clone()
    }
}

impl<L: Link> AsyncRead for Caller<L> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // First what is there: after a pause of this member the time of all is up.
        let read = Pin::new(&mut this.link).poll_read(context, out);
        if read.is_ready() {
            this.heard = Instant::now();
        }
        while this.alarm.as_mut().poll(context).is_ready() {
            let ends = this.ends();
            if ends <= Instant::now() {
                let text = format!("not introduced, or silent, for {PATIENCE:?}");
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)));
            }
            this.alarm.as_mut().reset(ends);
        }
        read
    }
}

impl<L: Link> AsyncWrite for Caller<L> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.link).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.link).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.link.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.link).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.link).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    type Accepted = io::Result<DuplexStream>;

    fn connections(many: usize) -> (Vec<DuplexStream>, Vec<Accepted>) {
        (0..many).map(|_| duplex(64)).map(|(here, there)| (here, Ok(there))).unzip()
    }

    async fn one() -> (DuplexStream, Caller<DuplexStream>) {
        let (mut here, there) = connections(1);
        let mut admitted = Box::pin(admitted(futures_util::stream::iter(there)));
        (here.remove(0), admitted.next().await.unwrap().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_limit_are_let_in_and_others_are_closed() {
        let (mut here, there) = connections(CONNECTIONS_MAX + 2);
        let (add, more) = tokio::sync::mpsc::channel(CONNECTIONS_MAX + 2);
        let more = tokio_stream::wrappers::ReceiverStream::new(more);
        let mut admitted = Box::pin(admitted(more));
        there.into_iter().for_each(|there| add.try_send(there).unwrap());
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            held.push(admitted.next().await.unwrap().unwrap());
        }
        let (back, again) = duplex(64);
        assert!(futures_util::poll!(admitted.next()).is_pending());
        for refused in here.drain(CONNECTIONS_MAX..) {
            let mut refused = refused;
            assert_eq!(refused.read(&mut [0; 1]).await.unwrap(), 0, "closed");
        }
        drop(held.pop());
        add.try_send(Ok(again)).unwrap();
        assert!(admitted.next().await.unwrap().is_ok(), "a place is free");
        drop((here, back));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_introduce_itself_has_little_time_whatever_it_says() {
        let (mut here, mut caller) = one().await;
        let start = Instant::now();
        let chatter = tokio::spawn(async move {
            while here.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let error = loop {
            if let Err(error) = caller.read(&mut [0; 64]).await {
                break error;
            }
        };
        assert_eq!((error.kind(), start.elapsed()), (io::ErrorKind::TimedOut, PATIENCE));
        chatter.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_introduced_stays_as_long_as_it_is_heard() {
        let (mut here, mut caller) = one().await;
        caller.connect_info().note();
        for _ in 0..10 {
            tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
            here.write_all(b"ping").await.unwrap();
            assert_eq!(caller.read(&mut [0; 64]).await.unwrap(), 4);
        }
        let last = Instant::now();
        let error = caller.read(&mut [0; 64]).await.unwrap_err();
        assert_eq!((error.kind(), last.elapsed()), (io::ErrorKind::TimedOut, PATIENCE));
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_while_this_member_stood_still_was_heard() {
        let (mut here, mut caller) = one().await;
        caller.connect_info().note();
        here.write_all(b"ping").await.unwrap();
        tokio::time::advance(10 * PATIENCE).await;
        assert_eq!(caller.read(&mut [0; 64]).await.unwrap(), 4);
    }
}
