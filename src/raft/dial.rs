//! Connections to peers: TCP, or a simulated network.
//!
//! Peer ports usually lie where the system takes source ports from (40911 and so on; see
//! `net.ipv4.ip_local_port_range`). So on a machine with several members, calls to a member that
//! is down now and then come from its very port. Two things follow, which this module sees to:
//!
//! - TCP then connects the socket to itself. Such a connection is no peer; it is reset at once, or
//!   its port would be in `TIME_WAIT` for a minute.
//! - A connection must not keep the member from listening on its port when it is back:
//!   `SO_REUSEADDR` on this side and on the listener's lets it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use openraft::base::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tonic::codegen::{Service, http::Uri};

/// A connection to a peer.
pub(super) trait Link: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Link for T {}

/// What members reach each other by.
pub(super) trait Links: Send + Sync {
    /// Connects to `host:port`, an IPv6 address in brackets. The name is resolved each time.
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Link>>>;
}

/// The network of this machine.
pub(super) struct Tcp;

impl Links for Tcp {
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Link>>> {
        Box::pin(async move { Ok(Box::new(dial(&address).await?) as Box<dyn Link>) })
    }
}

/// Connects to one address, for tonic.
#[derive(Clone)]
pub(super) struct Dial {
    /// `host:port`, an IPv6 address in brackets.
    pub address: String,
    /// Over what.
    pub links: Arc<dyn Links>,
}

impl Service<Uri> for Dial {
    type Response = TokioIo<Box<dyn Link>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connection = self.links.connect(self.address.clone());
        Box::pin(async move { connection.await.map(TokioIo::new) })
    }
}

/// Connects to the first of its addresses that takes a connection.
async fn dial(address: &str) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host(address).await? {
        match connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_nodelay(true)?;
    check(socket.connect(address).await?)
}

/// Refuses a connection of a socket to itself.
fn check(stream: TcpStream) -> io::Result<TcpStream> {
    if stream.local_addr()? == stream.peer_addr()? {
        stream.set_zero_linger()?;
        let text = "nobody listens there: the socket was connected to itself";
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, text));
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A port of 127.0.0.1 that nobody has, and that was free a moment ago.
    async fn free_port() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    /// What chance does once in 28,000 calls: the call comes from the port that it goes to.
    async fn connect_from(source: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(source)?;
        check(socket.connect(to).await?)
    }

    #[tokio::test]
    async fn a_socket_that_is_connected_to_itself_is_no_peer_and_frees_the_port() {
        let port = free_port().await;
        let error = connect_from(port, port).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        TcpListener::bind(port).await.expect("not in TIME_WAIT");
    }

    #[tokio::test]
    async fn a_call_from_a_members_port_does_not_keep_the_member_from_listening() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = free_port().await;
        let open = connect_from(port, server.local_addr().unwrap()).await.unwrap();
        TcpListener::bind(port).await.expect("the call's socket lets it");
        drop(open);
    }
}
