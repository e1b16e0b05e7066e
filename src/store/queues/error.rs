//! What can go wrong with derived data, and what the caller can do about it.

use std::path::PathBuf;

use crate::ids::{PhysicalOffset, QueueOffset};
use crate::store;

/// Why an operation on derived data failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A committed message does not continue its queue. The log or the state it was replayed on is
    /// wrong; nothing must be served from here.
    #[error("message of {topic} queue {queue_id} has offset {got}, expected {expected}")]
    NotDense {
        /// Topic of the message.
        topic: String,
        /// Queue of the message.
        queue_id: u32,
        /// Next offset of the queue.
        expected: QueueOffset,
        /// Offset in the message.
        got: QueueOffset,
    },
    /// Entries were applied out of order, or one was left out.
    #[error("entry at {got} applied, but everything is applied up to {applied_to}")]
    NotContiguous {
        /// Position up to which the log is applied.
        applied_to: PhysicalOffset,
        /// Where the entry starts.
        got: PhysicalOffset,
    },
    /// A run file is not what was written. [`Queues::mend`](super::Queues::mend) builds it again.
    #[error("derived data in {} is damaged: {what}; it is built again from the log", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        what: String,
    },
    /// The disk.
    #[error(transparent)]
    Disk(#[from] store::Error),
}
