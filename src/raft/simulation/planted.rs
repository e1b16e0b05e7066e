//! Bugs that others have had, to be put back: a simulation that does not find them finds nothing.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// A bug, by what the member does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raft) enum Bug {
    /// Tells that it has an entry before it is on disk.
    AcknowledgesUnsynced = 1,
    /// Votes without noting it.
    ForgetsVotes,
    /// Goes on counting queue offsets from messages that were cut off.
    CountsWhatWasCut,
    /// Votes although it may have forgotten what it vouched for.
    NeverDoubts,
}

impl Bug {
    /// All of them, by the name that a plan has for them.
    pub(super) const ALL: [(&'static str, Self); 4] = [
        ("acknowledges-unsynced", Self::AcknowledgesUnsynced),
        ("forgets-votes", Self::ForgetsVotes),
        ("counts-what-was-cut", Self::CountsWhatWasCut),
        ("never-doubts", Self::NeverDoubts),
    ];
}

static PLANTED: AtomicU8 = AtomicU8::new(0);

/// From now on this process has this bug.
pub(super) fn plant(bug: Bug) {
    PLANTED.store(bug as u8, Relaxed);
}

/// Whether this process has that bug.
pub(in crate::raft) fn is_planted(bug: Bug) -> bool {
    PLANTED.load(Relaxed) == bug as u8
}
