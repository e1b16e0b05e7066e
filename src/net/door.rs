//! A listening socket that can be shut for a while, and opened again at the same address.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

use super::listen;

/// Who connects while it is shut is refused, as by a process that has ended: the answer that
/// clients take least time to understand.
#[derive(Debug)]
pub(super) struct Door {
    address: SocketAddr,
    /// None while it is shut, and until the address is had again.
    listener: Option<TcpListener>,
    is_shut: bool,
}

impl Door {
    /// An open one.
    pub(super) fn new(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self { address, listener: Some(listener), is_shut: false })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Refuses from now on, also who has connected and was not accepted yet.
    pub(super) fn shut(&mut self) {
        self.listener = None;
        self.is_shut = true;
    }

    /// Whether it refuses.
    pub(super) fn is_shut(&self) -> bool {
        self.is_shut
    }

    /// Lets in again: the next [`Self::accept`] listens.
    pub(super) fn open(&mut self) {
        self.is_shut = false;
    }

    /// The next connection; never, while it is shut. An error of listening, once it is open again,
    /// may pass: the next call tries again. Cancel-safe.
    pub(super) async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        if self.is_shut {
            return std::future::pending().await;
        }
        let listener = match self.listener.take() {
            Some(listener) => listener,
            None => listen::listen_again(self.address)?,
        };
        self.listener.insert(listener).accept().await
    }
}
