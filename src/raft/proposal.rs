//! What is proposed to the group, and what comes back.

use smallvec::SmallVec;

use crate::ids::{PhysicalOffset, QueueOffset};
use crate::protocol::message::Draft;
use crate::raft::ProposeError;
use crate::raft::codec;
use crate::raft::command::{Command, FirstTry, Outcome};

/// Messages and commands that become durable together or not at all: they end up in one log entry.
pub struct Proposal {
    /// Stored in this order, at consecutive offsets where they share a queue.
    pub messages: SmallVec<[Draft; 1]>,
    /// Applied after the messages.
    pub commands: Vec<Command>,
    /// Called exactly once, on the raft thread: it must be short and must not block.
    pub done: Done,
}

/// Takes the answer to a proposal.
pub type Done = Box<dyn FnOnce(Result<Receipt, ProposeError>) + Send>;

impl Proposal {
    /// Commands without messages.
    pub fn of_commands(
        commands: Vec<Command>,
        done: impl FnOnce(Result<Receipt, ProposeError>) + Send + 'static,
    ) -> Self {
        Self { messages: SmallVec::new(), commands, done: Box::new(done) }
    }

    /// Bytes that it takes in the log, and a little more: what admission counts.
    pub fn bytes(&self) -> usize {
        let messages: usize = self.messages.iter().map(Draft::stored_bytes).sum();
        let command = |command| codec::encoded_bytes(command) + COMMAND_BYTES;
        messages + self.commands.iter().map(command).sum::<usize>()
    }
}

/// What a command weighs in admission besides its encoded form: it waits decoded, and one that
/// says nothing still makes an entry.
const COMMAND_BYTES: usize = 128;

/// A committed and applied proposal.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// Store timestamp of its messages, ms.
    pub store_timestamp: i64,
    /// Where each message lies, in the order proposed.
    pub places: SmallVec<[Place; 1]>,
    /// What each command decided, in the order proposed.
    pub outcomes: Vec<Outcome>,
    /// Whether few share its log entry: then a client is answered sooner and for less by this
    /// thread than by another that must be woken.
    pub few: bool,
    /// Nothing was stored for it: it repeats what was stored before, and these are the places of
    /// that.
    pub repeats: bool,
}

impl Receipt {
    /// Of a proposal whose messages are stored already.
    pub(super) fn of_repeat(first: &FirstTry, few: bool) -> Self {
        let place = |(position, n): (&u64, u64)| Place {
            physical: PhysicalOffset(*position),
            queue_id: first.queue_id,
            queue_offset: QueueOffset(first.queue_offset + n),
        };
        Self {
            store_timestamp: first.store_timestamp,
            places: first.positions.iter().zip(0..).map(place).collect(),
            outcomes: Vec::new(),
            few,
            repeats: true,
        }
    }
}

/// Where a message lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Of its record.
    pub physical: PhysicalOffset,
    /// Its queue: of a repeat not always the one that was asked for.
    pub queue_id: u32,
    /// In its queue.
    pub queue_offset: QueueOffset,
}
