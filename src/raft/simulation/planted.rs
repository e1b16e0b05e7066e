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
    /// Takes whatever a leader sends for committed.
    AppliesWhatComes,
    /// Tells that it has an entry although the disk did not take it.
    IgnoresFailedSyncs,
    /// Cuts damage off, with all that follows it.
    CutsDamage,
    /// Comes back with an empty disk as who it was.
    KeepsItsName,
    /// Says that a snapshot contains the entry after it.
    SnapshotsLate,
    /// Applies by its own clock.
    AppliesByItsClock,
    /// Takes what the page cache has for what is on the disk, after a sync that failed.
    TrustsThePageCache,
    /// Applies what it had read of entries that were cut off.
    AppliesWhatWasCut,
    /// Purges what a start would need, because its checkpoint could not be written.
    PurgesTooMuch,
    /// Passes on again, after a loss, what may be in the log.
    IgnoresBarriers,
    /// Appends what was passed on to it although its client has given up.
    AppendsLate,
    /// Comes back as a member of the group as it was first started.
    KeepsFirstMembers,
    /// Gives a vote to who has nothing yet.
    AdmitsAtOnce,
    /// Takes messages of one unique key for one message.
    TrustsKeys,
    /// Answers who tries again with what was deleted.
    FindsWhatIsDeleted,
}

impl Bug {
    /// All of them, by the name that a plan has for them.
    pub(super) const ALL: [(&'static str, Self); 19] = [
        ("acknowledges-unsynced", Self::AcknowledgesUnsynced),
        ("forgets-votes", Self::ForgetsVotes),
        ("counts-what-was-cut", Self::CountsWhatWasCut),
        ("never-doubts", Self::NeverDoubts),
        ("applies-what-comes", Self::AppliesWhatComes),
        ("ignores-failed-syncs", Self::IgnoresFailedSyncs),
        ("cuts-damage", Self::CutsDamage),
        ("keeps-its-name", Self::KeepsItsName),
        ("snapshots-late", Self::SnapshotsLate),
        ("applies-by-its-clock", Self::AppliesByItsClock),
        ("trusts-the-page-cache", Self::TrustsThePageCache),
        ("applies-what-was-cut", Self::AppliesWhatWasCut),
        ("purges-too-much", Self::PurgesTooMuch),
        ("ignores-barriers", Self::IgnoresBarriers),
        ("appends-late", Self::AppendsLate),
        ("keeps-first-members", Self::KeepsFirstMembers),
        ("admits-at-once", Self::AdmitsAtOnce),
        ("trusts-keys", Self::TrustsKeys),
        ("finds-what-is-deleted", Self::FindsWhatIsDeleted),
    ];

    /// The bug of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, bug)| *bug)
    }
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
