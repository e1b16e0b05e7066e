//! Sockets for the remoting protocol: connections accepted ([`Server`]) and made ([`Client`]).
//!
//! It owns the bytes on their way: socket → frame → command → [`Handler`], and [`Answer`] → bytes
//! → socket. It knows the protocol's frames, and none of its requests. Requests of a connection
//! reach the handler one after the other, in order; answers may leave in any order.
//!
//! ```text
//!  socket ─► intake ─► frame::next ─► decode ─┬─ response ─► pending ─► the caller of `call`
//!    ▲                                        └─ request ──► Handler::handle ─► …
//!    └── batch (encode, one writev) ◄── outbox ◄── Connection::answer ◄── any thread
//! ```
//!
//! # Bounds
//!
//! | what | limit | beyond it |
//! |---|---|---|
//! | connections | `connections_max` | closed when accepted, counted |
//! | bytes of a frame | `frame_bytes_max` | connection closed, nothing allocated |
//! | read buffer | the bytes that have arrived, doubled, + 64 KiB | – |
//! | unfinished frames, and whole ones whose handler waits, together | `unfinished_bytes_max` + 16 KiB each | the oldest one's connection is closed |
//! | unsent answers | `unsent_bytes_max` | the peer's requests are not read; later closed |
//! | unsent answers together, without stored records | `all_unsent_bytes_max` + 16 KiB each | those whose peers took nothing for longest are closed |
//! | calls awaiting an answer | `calls_max` | `CallError::Busy` |
//! | time: idle, one frame, not reading | [`ServerOptions`] | closed by the watchdog |
//!
//! An idle connection costs its task (1.4 KiB), its `Connection` (0.5 KiB) and a read buffer of at
//! most 4 KiB, besides what the kernel keeps. Measured with both ends in one process: 8.5 KiB.
//!
//! # Cost of a request, and its answer
//!
//! - **Copies**: none in user space on the way in (frames are slices of the read buffer; only the
//!   part of a frame that lies across two buffers is moved). On the way out heads and bodies below
//!   1 KiB are encoded or copied once into the batch; larger bodies go to the kernel from where
//!   they lie.
//! - **Allocations**: one read buffer per *read*, when frames of the last one are still kept;
//!   decoding and handling have their own. Nothing per answer: queue and batch are reused.
//! - **System calls**: one `read` and one `writev` per wake-up, however many requests it brought;
//!   no timers, no clock calls.
//! - **Wake-ups**: answers given inside `handle` are written in the poll that read their requests
//!   (the task is then polled once more, in vain). Answers from other threads wake the
//!   connection's task once per batch: only a push to an empty outbox notifies. A lone answer may
//!   be written by the thread that has it ([`ReplyTo::answer_now`]).
//! - **The last answers to sends**: a ring of 2 KiB for a connection over which sends are answered,
//!   written and read with the batch: who hears of the connection's end hears whose answers may not
//!   have been read ([`Handler::unheard`]).
//! - **Locks**: the outbox's, once per answer and twice per batch, and the writer's once per
//!   batch; no lock is held across an await.

mod answer;
mod batch;
mod client;
mod connection;
mod counters;
mod door;
mod drive;
mod http;
mod intake;
mod listen;
mod opening;
mod outbox;
mod pending;
mod server;
mod unfinished;
mod unsent;
mod watchdog;
mod writer;

pub use answer::{Answer, ReplyTo};
pub use client::{Client, ClientOptions};
pub use connection::{CallError, Connection, ConnectionId};
pub use counters::Counters;
pub use http::{HttpHandler, HttpResponse};
pub use listen::{BindError, Holder, Reserved, listen, reserve};
pub use server::{Server, ServerOptions};

use crate::ids::StoredSend;
use crate::protocol::command::RemotingCommand;
use std::{collections::VecDeque, pin::Pin, sync::Arc};

/// Takes the requests of connections.
pub trait Handler: Send + Sync + 'static {
    /// Takes one request. Must not block: it runs on the connection's task. The answer goes
    /// through a [`ReplyTo`] made from the request, now or at any time later.
    fn handle(&self, connection: &Arc<Connection>, request: RemotingCommand) -> Handled;

    /// A connection has ended, and the answers to these sends were not written, or were the last
    /// that were: whether its peer has got them nobody knows. In order. Must not block.
    fn unheard(&self, _sends: VecDeque<StoredSend>) {}

    /// The connection has ended. Called once, after its last request; answers are dropped from
    /// now on. Must not block.
    fn closed(&self, connection: &Arc<Connection>);
}

/// When the connection may take its next request.
pub enum Handled {
    /// At once.
    Done,
    /// When the future ends: requests of one connection stay in order. Answers already queued and
    /// other connections are not held up. Dropped, wherever it is, when the connection ends.
    Wait(Pin<Box<dyn Future<Output = ()> + Send>>),
}

#[cfg(test)]
mod tests;
