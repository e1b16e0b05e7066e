//! What can go wrong in the store, with the values needed to act on it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::entry::EntryId;
use super::repair::Gap;
use crate::ids::{EntryIndex, PhysicalOffset, Term};

/// What to do about a store that lost something. It does not know how many members there are.
const REMEDY: &str = "in a group of several: empty the store directory, the others bring this member \
                      back; in a group of one: restore a backup, nothing else has these messages";

/// Why the store did not do what it was asked. Cheap to clone: one failed sync answers many.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The disk answered an error that has no better name below.
    #[error("{attempt} {path}: {cause}")]
    Io {
        /// What was attempted, as a verb: "map segment".
        attempt: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The first answer of the operating system.
        cause: Arc<io::Error>,
    },
    /// The file system is full (or the quota is).
    #[error(
        "{attempt} {path}: no space left on the device; free space or add a disk, writes resume by themselves"
    )]
    NoSpace {
        /// What was attempted.
        attempt: &'static str,
        /// On which file or directory.
        path: PathBuf,
    },
    /// A file may not become that large: a limit of the process, or of the file system.
    #[error(
        "{attempt} {path}: the file would be larger than it may be; raise the limit (ulimit -f, LimitFSIZE), or set a smaller segment (mappedFileSizeCommitLog)"
    )]
    FileTooLarge {
        /// What was attempted.
        attempt: &'static str,
        /// On which file.
        path: PathBuf,
    },
    /// A new log does not fit.
    #[error(
        "make a log in {dir}: it needs {needed} bytes (one segment, mappedFileSizeCommitLog, and what goes with it), {free} are free; free space, or set a smaller segment or another storePathRootDir"
    )]
    NoRoom {
        /// The log's directory.
        dir: PathBuf,
        /// Bytes it takes from the start.
        needed: u64,
        /// Bytes that may be used.
        free: u64,
    },
    /// The process may not write here.
    #[error(
        "{attempt} {path}: not writable ({cause}); storePathRootDir must be a directory of the broker's user, on a file system that is not read-only"
    )]
    NotWritable {
        /// What was attempted.
        attempt: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Permission denied, a read-only file system, or a file where a directory should be.
        cause: Arc<io::Error>,
    },
    /// Another process works on this store.
    #[error(
        "lock {path}: held by process {holder}; stop that broker, or set another storePathRootDir"
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Its process id as far as the lock file tells.
        holder: String,
    },
    /// The store was created for something else than what the configuration says.
    #[error(
        "store {path} was created with {what} `{stored}`, the configuration says `{configured}`; use the matching configuration or another directory"
    )]
    Foreign {
        /// The stamp file.
        path: PathBuf,
        /// Which value differs.
        what: &'static str,
        /// The value in the stamp.
        stored: String,
        /// The value of the configuration.
        configured: String,
    },
    /// A small file of the store (stamp, vote, purge point, checkpoint) cannot be read.
    #[error(
        "{path} is damaged: {why}; check the disk; {REMEDY}",
        REMEDY = REMEDY
    )]
    BadFile {
        /// Which file.
        path: PathBuf,
        /// What does not hold.
        why: String,
    },
    /// A sync failed earlier. What is on disk is unknown, so nothing is written any more.
    #[error(
        "the store takes no more writes since a sync failed: {cause}; check the disk and restart"
    )]
    Poisoned {
        /// The first failure.
        cause: Arc<str>,
    },
    /// The store was closed while the call was waiting.
    #[error("the store is closed")]
    Closed,
    /// The entry does not fit into one segment.
    #[error(
        "an entry of {bytes} bytes does not fit into a segment of {segment_bytes} bytes (mappedFileSizeCommitLog)"
    )]
    TooLarge {
        /// Header and padding included.
        bytes: u64,
        /// The limit.
        segment_bytes: u64,
    },
    /// Segment size outside what the store can do.
    #[error(
        "segment size {bytes} (mappedFileSizeCommitLog) must be a multiple of 4096 from 1 MiB to 1 TiB"
    )]
    BadSegmentBytes {
        /// What was asked for.
        bytes: u64,
    },
    /// The log goes on at another index.
    #[error("entry {index} cannot follow: the log goes on at {expected}")]
    OutOfOrder {
        /// The offered index.
        index: EntryIndex,
        /// The next free one.
        expected: EntryIndex,
    },
    /// Terms never go down along a log.
    #[error("entry {index} has term {term}, below the last term {last}")]
    TermBackwards {
        /// The offered entry.
        index: EntryIndex,
        /// Its term.
        term: Term,
        /// Term of the entry before it.
        last: Term,
    },
    /// The leader stored the entry elsewhere than it would go here: the logs differ.
    #[error(
        "entry {index} belongs at position {position}, this log goes on at {tail} (segments of {segment_bytes} bytes)"
    )]
    Misplaced {
        /// The offered entry.
        index: EntryIndex,
        /// Its position.
        position: PhysicalOffset,
        /// The end of this log.
        tail: PhysicalOffset,
        /// The segment size, equal on all members.
        segment_bytes: u64,
    },
    /// The entry is older than what retention kept.
    #[error("entry {index} is gone: the log starts at {first}")]
    Purged {
        /// The wanted entry.
        index: EntryIndex,
        /// The oldest there is.
        first: EntryIndex,
    },
    /// The entry is not there yet.
    #[error("entry {index} is not there: the log ends before {next}")]
    Beyond {
        /// The wanted entry.
        index: EntryIndex,
        /// The next free one.
        next: EntryIndex,
    },
    /// Stored bytes that must be whole are not. Nothing was cut: that would lose acknowledged messages.
    #[error(
        "the log is damaged at position {position}, entry {index} (known committed: {committed}): {why}; check the disk; {REMEDY}",
        REMEDY = REMEDY
    )]
    Damaged {
        /// Where the entry starts.
        position: PhysicalOffset,
        /// Its index.
        index: EntryIndex,
        /// The entry before it, if it is at hand.
        previous: Option<EntryId>,
        /// Largest index known to be committed, or `none`.
        committed: Committed,
        /// What does not hold.
        why: String,
    },
    /// Segment files are missing between others.
    #[error(
        "segment files are missing in {dir}: {missing}; check the disk; {REMEDY}",
        REMEDY = REMEDY
    )]
    MissingSegments {
        /// The log directory.
        dir: PathBuf,
        /// Their names.
        missing: String,
    },
    /// A segment file has the wrong size although later ones hold entries.
    #[error("segment {path} has {bytes} bytes instead of {expected}")]
    SegmentSize {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// Size of every segment.
        expected: u64,
    },
}

/// A commit index for error texts: `none` when unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed(pub Option<EntryIndex>);

impl std::fmt::Display for Committed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(index) => index.fmt(f),
            None => f.write_str("none"),
        }
    }
}

impl Error {
    /// The error for a failed disk operation; `attempt` is a verb ("create segment").
    pub fn io(attempt: &'static str, path: &Path, cause: io::Error) -> Self {
        let path = path.to_owned();
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { attempt, path }
            }
            io::ErrorKind::FileTooLarge => Self::FileTooLarge { attempt, path },
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory => {
                Self::NotWritable { attempt, path, cause: Arc::new(cause) }
            }
            _ => Self::Io { attempt, path, cause: Arc::new(cause) },
        }
    }

    /// Whether trying again helps once there is room; nothing was changed then.
    pub fn is_no_room(&self) -> bool {
        matches!(self, Self::NoSpace { .. } | Self::FileTooLarge { .. })
    }

    /// The place in the log that is damaged, if that is what this says.
    pub fn gap(&self) -> Option<Gap> {
        match self {
            Self::Damaged { position, index, previous, .. } => {
                Some(Gap { position: *position, index: *index, previous: *previous })
            }
            _ => None,
        }
    }

    /// A damaged small file.
    pub(crate) fn bad_file(path: &Path, why: impl Into<String>) -> Self {
        Self::BadFile { path: path.to_owned(), why: why.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_about_damage_is_right_for_a_group_of_one_and_for_a_group() {
        let (dir, why) = (PathBuf::from("/s"), "checksum".to_owned());
        let errors = [
            Error::bad_file(&dir, "checksum"),
            Error::MissingSegments { dir, missing: "0".to_owned() },
            Error::Damaged {
                position: PhysicalOffset(8),
                index: EntryIndex(1),
                previous: None,
                committed: Committed(None),
                why,
            },
        ];
        for error in errors {
            let text = error.to_string();
            assert!(text.contains("group of one: restore a backup"), "{text}");
            assert!(text.contains("group of several: empty the store directory"), "{text}");
        }
    }

    #[test]
    fn disk_errors_name_the_path_and_what_to_do() {
        let rows = [
            (io::ErrorKind::StorageFull, "create segment /s/0: no space left"),
            (io::ErrorKind::FileTooLarge, "create segment /s/0: the file would be larger than"),
            (io::ErrorKind::PermissionDenied, "create segment /s/0: not writable"),
            (io::ErrorKind::ReadOnlyFilesystem, "create segment /s/0: not writable"),
            (io::ErrorKind::NotADirectory, "create segment /s/0: not writable"),
            (io::ErrorKind::NotFound, "create segment /s/0: "),
        ];
        for (kind, text) in rows {
            let error = Error::io("create segment", Path::new("/s/0"), kind.into());
            assert!(error.to_string().starts_with(text), "{kind}: {error}");
        }
    }
}
