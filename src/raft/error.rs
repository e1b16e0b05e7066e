//! What can go wrong between a proposal and its answer.

use std::time::Duration;

use crate::protocol::message::RecordError;
use crate::store::{self, queues};

/// Why a proposal has no receipt. What a client is told is decided in `broker::error`.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// Nothing was appended: this member does not lead.
    #[error("this member is not the leader; last known leader: {}", leader.as_deref().unwrap_or("none"))]
    NotLeader {
        /// Name of the member that leads, as far as this one knows.
        leader: Option<String>,
    },
    /// Nothing was appended: too much is waiting for a quorum already.
    #[error("{bytes} bytes more would exceed the {limit} bytes that may wait for a quorum")]
    Busy {
        /// Bytes of the refused proposal.
        bytes: usize,
        /// Largest number of bytes waiting.
        limit: usize,
    },
    /// Nothing was appended: the proposal does not fit into one entry.
    #[error("a proposal of {bytes} bytes does not fit into a log entry of at most {limit} bytes")]
    TooLarge {
        /// Bytes of the refused proposal.
        bytes: usize,
        /// Largest entry.
        limit: usize,
    },
    /// Appended, but leadership was lost before a quorum was known to have it: it may still be
    /// committed by the next leader.
    #[error("leadership was lost before a quorum confirmed; the change may still be committed")]
    OutcomeUnknown,
    /// No quorum confirmed in time; it may still be committed.
    #[error("no quorum within {waited:?}; the change may still be committed")]
    NoQuorum {
        /// How long was waited.
        waited: Duration,
    },
    /// Nothing was appended: this member's store refuses further writes in this life.
    #[error("this member's store takes no writes: {why}")]
    StoreFailed {
        /// First cause.
        why: String,
    },
    /// Nothing was appended: there is too little disk space.
    #[error("no disk space for writes: {why}")]
    DiskFull {
        /// The numbers.
        why: String,
    },
    /// Nothing was appended: this member is shutting down.
    #[error("this member is shutting down")]
    Stopping,
}

impl ProposeError {
    /// Whether it may be committed all the same.
    pub fn is_in_doubt(&self) -> bool {
        match self {
            Self::OutcomeUnknown | Self::NoQuorum { .. } => true,
            Self::NotLeader { .. }
            | Self::Busy { .. }
            | Self::TooLarge { .. }
            | Self::StoreFailed { .. }
            | Self::DiskFull { .. }
            | Self::Stopping => false,
        }
    }
}

/// Why a group could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The log is damaged, and nobody has what belongs there.
    #[error("{damage}; {tried}")]
    Unrepaired {
        /// Where and how. Nothing was changed.
        damage: store::Error,
        /// Who was asked, and what they said.
        tried: String,
    },
    /// The log is damaged, and all others have let go what belongs there: they begin later.
    #[error("{damage}; every other member has purged what belongs there")]
    Outlived {
        /// Where and how. Nothing was changed.
        damage: store::Error,
    },
    /// Its derived data refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A checkpoint or snapshot cannot be read by this version.
    #[error("the checkpoint in {dir} cannot be used: {why}")]
    Checkpoint {
        /// The store.
        dir: String,
        /// Why.
        why: String,
    },
    /// openraft refused its configuration or its storage.
    #[error("cannot start the raft core: {why}")]
    Core {
        /// What openraft said.
        why: String,
    },
}

/// What the store thread, and a rebuild of derived data, can run into.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Log, files, checkpoint.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Derived data.
    #[error(transparent)]
    Queues(#[from] queues::Error),
    /// A committed entry contains something that is no message.
    #[error("a committed entry contains no readable message: {0}")]
    Record(#[from] RecordError),
}

impl StorageError {
    /// Whether trying again helps once there is room.
    pub(super) fn is_no_room(&self) -> bool {
        match self {
            Self::Store(error) | Self::Queues(queues::Error::Disk(error)) => error.is_no_room(),
            Self::Queues(_) | Self::Record(_) => false,
        }
    }
}
