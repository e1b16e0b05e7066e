//! What goes out on a connection, and the one place a request's answer goes through.

use super::connection::{Connection, ConnectionId};
use crate::ids::StoredSend;
use crate::protocol::{command::RemotingCommand, headers::send::SendResponse};
use bytes::Bytes;
use std::{fmt, sync::Arc};
use tracing::debug;

/// One frame to be written. Encoded by the connection's writer, not by whoever pushes it.
#[derive(Debug)]
pub enum Answer {
    /// Any command: a response, or a request of ours.
    Command(RemotingCommand),
    /// The answer to a send: the hot path, formatted without an intermediate command.
    Sent {
        /// Of the request. [`ReplyTo::answer`] sets it.
        opaque: i32,
        /// Where the message went.
        response: SendResponse,
    },
    /// A head, and a body in pieces that are written without being copied.
    Records {
        /// The response; its own body must be empty.
        head: RemotingCommand,
        /// The body, in order. Stored records, usually ranges of the mapped log.
        records: Vec<Bytes>,
    },
}

impl Answer {
    /// About how many bytes this holds while it waits: what the limit on unsent answers counts.
    pub(super) fn cost(&self) -> usize {
        /// Head, ext fields and the queue's own entry.
        const HEAD: usize = 512;
        /// One message id of a batch.
        const MESSAGE_ID: usize = 33;
        let remark = |c: &RemotingCommand| c.remark.as_ref().map_or(0, String::len);
        HEAD + match self {
            Self::Command(command) => command.body.len() + remark(command),
            Self::Sent { response, .. } => response.msg_id.physical.len() * MESSAGE_ID,
            Self::Records { head, records } => {
                remark(head) + records.iter().map(Bytes::len).sum::<usize>()
            }
        }
    }

    /// What of the cost is memory of ours: stored records are not.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Command(_) | Self::Sent { .. } => self.cost(),
            Self::Records { records, .. } => {
                self.cost() - records.iter().map(Bytes::len).sum::<usize>()
            }
        }
    }

    /// What it says is stored, if it answers a send.
    pub(super) fn stored(&self) -> Option<StoredSend> {
        let Self::Sent { response, .. } = self else { return None };
        response.stored()
    }

    /// The same answer, marked as the response to the request `opaque`.
    fn answering(self, opaque: i32) -> Self {
        match self {
            Self::Command(command) => Self::Command(command.answering(opaque)),
            Self::Sent { response, .. } => Self::Sent { opaque, response },
            Self::Records { head, records } => {
                Self::Records { head: head.answering(opaque), records }
            }
        }
    }
}

impl From<RemotingCommand> for Answer {
    fn from(command: RemotingCommand) -> Self {
        Self::Command(command)
    }
}

impl From<SendResponse> for Answer {
    fn from(response: SendResponse) -> Self {
        Self::Sent { opaque: 0, response }
    }
}

/// Where the answer of one request goes. Kept by whoever will answer: a held pull, a proposal.
///
/// It knows the opaque and whether the request is oneway, so handlers need not: the answer of a
/// oneway request is dropped here. A request is answered at most once, because answering consumes
/// this. Dropping it without an answer leaves a client waiting for its time-out, and is logged.
///
/// While one exists, a graceful stop waits for its answer.
#[must_use = "a request that is not answered makes its client wait"]
pub struct ReplyTo {
    connection: Arc<Connection>,
    opaque: i32,
    oneway: bool,
    answered: bool,
}

impl ReplyTo {
    /// For the answer to `request`, which came over `connection`.
    pub fn new(connection: &Arc<Connection>, request: &RemotingCommand) -> Self {
        connection.request_taken();
        Self {
            connection: Arc::clone(connection),
            opaque: request.opaque,
            oneway: request.is_oneway(),
            answered: false,
        }
    }

    /// Sends the answer, under the request's opaque. Never blocks; callable from any thread.
    pub fn answer(mut self, answer: impl Into<Answer>) {
        self.answered = true;
        if !self.oneway {
            self.connection.answer(answer.into().answering(self.opaque));
        }
    }

    /// The same, written by this thread if the socket takes it. For an answer that comes alone:
    /// one that is one of many is cheaper in their midst.
    pub fn answer_now(mut self, answer: impl Into<Answer>) {
        self.answered = true;
        if !self.oneway {
            self.connection.answer_now(answer.into().answering(self.opaque));
        }
    }

    /// Answers a send: by this thread if the answer comes `alone` ([`Self::answer_now`]). Gives back
    /// what was stored if the connection has ended: the producer is not told, and sends it again.
    #[must_use]
    pub fn answer_send(mut self, response: SendResponse, alone: bool) -> Option<StoredSend> {
        self.answered = true;
        if self.oneway {
            return None;
        }
        let stored = response.stored();
        let answer = Answer::from(response).answering(self.opaque);
        let is_taken = match alone {
            true => self.connection.answer_now(answer),
            false => self.connection.answer(answer),
        };
        stored.filter(|_| !is_taken)
    }

    /// The connection that the request came over.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The connection's id.
    pub fn connection_id(&self) -> ConnectionId {
        self.connection.id()
    }

    /// Whether the client wants no answer, so that a handler may save the work of building one.
    pub fn is_oneway(&self) -> bool {
        self.oneway
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        if !self.answered && !self.oneway && !self.connection.is_closed() {
            let (peer, opaque) = (self.connection.peer(), self.opaque);
            debug!(%peer, opaque, "request dropped without an answer");
        }
        self.connection.request_settled();
    }
}

impl fmt::Debug for ReplyTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyTo")
            .field("connection", &self.connection.id())
            .field("opaque", &self.opaque)
            .field("oneway", &self.oneway)
            .finish_non_exhaustive()
    }
}
