//! The state as of a segment boundary: what a member gets that the log no longer covers, and what
//! retention leaves behind when it deletes the segments before it.
//!
//! A snapshot never skips a message that is still retained: it is the state *just before* the
//! first retained segment, and the retained log follows as ordinary entries.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};
use bytes::Bytes;
use openraft::alias::SnapshotMetaOf;
use openraft::storage::SnapshotMeta;

use crate::clock;
use crate::ids::{EntryIndex, PhysicalOffset, Term};
use crate::raft::applied::{Captured, Progress};
use crate::raft::codec::{self, CodecError, Stored};
use crate::raft::membership::{self, Damaged};
use crate::raft::tables::{StoredTables, Tables};
use crate::raft::type_config::{StoredMembership, TypeConfig, entry_id, log_id};
use crate::raft::version::{GroupVersion, Reads};
use crate::store::entry::EntryId;
use crate::store::files::remove_unfinished;
use crate::store::queues::NextOffsets;
use crate::store::{Error, Files, checkpoint};
use crate::telemetry::log_limit::LogLimit;

/// As long as the first version is active.
#[derive(Encode, Decode)]
struct StoredState {
    last: Option<(u64, u64)>,
    position: u64,
    membership_id: Option<(u64, u64)>,
    membership: Vec<u8>,
    tables: StoredTables,
    next: Vec<u8>,
}

impl Stored for StoredState {
    const WHAT: &'static str = "state of a group";
    const FORMAT: u8 = 3;
}

/// With a later version: who knows of none learns that before anything else.
#[derive(Encode, Decode)]
struct VersionedState {
    active: u8,
    state: StoredState,
}

impl Stored for VersionedState {
    const WHAT: &'static str = StoredState::WHAT;
    const FORMAT: u8 = StoredState::FORMAT + 1;
}

/// Stored state that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    /// Not decodable.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The membership in it.
    #[error(transparent)]
    Membership(#[from] Damaged),
    /// The queue offsets in it.
    #[error("queue offsets: {0}")]
    Offsets(String),
    /// Of a group that writes what this build does not read.
    #[error(
        "its group writes version {0} since, and this build reads {reads}: start a build that reads \
         version {0}, for a group never goes back",
        reads = Reads::OWN
    )]
    Version(GroupVersion),
}

impl StateError {
    /// Whether another build can read it.
    fn is_of_another_build(&self) -> bool {
        match self {
            Self::Codec(CodecError::Format { .. }) | Self::Version(_) => true,
            Self::Membership(Damaged::Codec(CodecError::Format { .. })) => true,
            Self::Codec(CodecError::Malformed { .. }) | Self::Membership(_) | Self::Offsets(_) => {
                false
            }
        }
    }
}

/// The stored form of a captured state.
pub(super) fn encode(captured: &Captured) -> Vec<u8> {
    let progress = &captured.progress;
    let pair = |id: EntryId| (id.term.0, id.index.0);
    let state = StoredState {
        last: progress.last.map(pair),
        position: progress.position.0,
        membership_id: progress.membership.log_id().as_ref().map(|id| pair(entry_id(id))),
        membership: membership::encode(progress.membership.membership()),
        tables: captured.tables.to_stored(),
        next: captured.next.encode(),
    };
    match captured.tables.active() {
        GroupVersion::FIRST => codec::encode(&state),
        GroupVersion(active) => codec::encode(&VersionedState { active, state }),
    }
}

/// A captured state from its stored form.
pub(super) fn decode(bytes: &[u8]) -> Result<Captured, StateError> {
    let (active, stored) = match bytes.first() {
        Some(&StoredState::FORMAT) => (GroupVersion::FIRST, codec::decode(bytes)?),
        Some(_) | None => {
            let VersionedState { active, state } = codec::decode(bytes)?;
            (GroupVersion(active), state)
        }
    };
    if !Reads::OWN.has(active) {
        return Err(StateError::Version(active));
    }
    let id = |(term, index)| EntryId { index: EntryIndex(index), term: Term(term) };
    let membership = membership::decode(&stored.membership)?;
    let membership_id = stored.membership_id.map(|pair| log_id(id(pair)));
    let next = NextOffsets::decode(&stored.next)
        .map_err(|error| StateError::Offsets(error.to_string()))?;
    Ok(Captured {
        progress: Progress {
            last: stored.last.map(id),
            position: PhysicalOffset(stored.position),
            membership: StoredMembership::new(membership_id, membership),
        },
        tables: Tables::from_stored(stored.tables, active),
        next,
    })
}

/// A snapshot that was found whole. Its bytes stay in memory while it is offered: a disk that rots
/// takes nothing from it, and openraft need not wait for the disk, nor end the member.
#[derive(Clone)]
pub(super) struct Whole {
    /// The segment boundary.
    pub(super) position: PhysicalOffset,
    /// What openraft knows of it.
    pub(super) meta: SnapshotMetaOf<TypeConfig>,
    /// Its stored form. Empty: it is lost, and sent to nobody.
    pub(super) bytes: Bytes,
}

impl Whole {
    /// The snapshot at `position`, from its stored form.
    pub(super) fn read(position: PhysicalOffset, bytes: Bytes) -> Result<Self, StateError> {
        let progress = decode(&bytes)?.progress;
        let (last_log_id, last_membership) = (progress.last.map(log_id), progress.membership);
        Ok(Self { position, meta: SnapshotMeta { last_log_id, last_membership }, bytes })
    }

    /// Stands for the snapshot at `position`, of which only the last entry in it is known.
    pub(super) fn lost(position: PhysicalOffset, last: Option<EntryId>) -> Self {
        let meta = SnapshotMeta { last_log_id: last.map(log_id), ..SnapshotMeta::default() };
        Self { position, meta, bytes: Bytes::new() }
    }
}

/// The snapshot files of a member: one per segment boundary that is still in the log, in a
/// directory of their own, named by position.
#[derive(Clone)]
pub(super) struct SnapshotFiles {
    files: Arc<dyn Files>,
    dir: PathBuf,
    /// Which ones the log called unreadable; they are looked at every few seconds.
    told: Arc<LogLimit<PhysicalOffset>>,
}

/// How long a snapshot cannot be read before the log tells again.
const BETWEEN_TOLD: Duration = Duration::from_secs(3600);

impl SnapshotFiles {
    /// The snapshots in `dir`, which is created when it is missing; what a crash left unfinished is
    /// deleted.
    pub(super) fn open(files: Arc<dyn Files>, dir: PathBuf) -> Result<Self, Error> {
        files.create_dir(&dir).map_err(|e| Error::io("create directory", &dir, e))?;
        remove_unfinished(&*files, &dir, "")?;
        Ok(Self { files, dir, told: Arc::new(LogLimit::new(BETWEEN_TOLD)) })
    }

    fn path(&self, position: PhysicalOffset) -> PathBuf {
        self.dir.join(format!("{:020}", position.0))
    }

    /// Writes a snapshot; it is on disk when this returns.
    pub(super) fn save(&self, position: PhysicalOffset, state: &[u8]) -> Result<(), Error> {
        checkpoint::write_file(&*self.files, &self.path(position), position, state)
    }

    /// The snapshot at `position`, if there is one. Waits for the disk.
    pub(super) fn load(&self, position: PhysicalOffset) -> Result<Option<Whole>, Error> {
        let path = self.path(position);
        let stored = checkpoint::read_file(&*self.files, &path, position)?;
        let whole = stored.map(|bytes| Whole::read(position, bytes)).transpose();
        whole.map_err(|error| match error.is_of_another_build() {
            true => Error::io("read", &path, io::Error::other(error)),
            false => Error::bad_file(&path, error.to_string()),
        })
    }

    /// The highest snapshot above `above`, at `upto` at most, that can be read. Damaged ones are
    /// deleted; others may be read the next time. Waits for the disk.
    pub(super) fn highest(
        &self,
        above: PhysicalOffset,
        upto: PhysicalOffset,
    ) -> Result<Option<Whole>, Error> {
        let stored = self.positions()?;
        for position in stored.into_iter().rev().filter(|at| above < *at && *at <= upto) {
            match self.load(position) {
                Ok(None) => {} // deleted since it was listed
                Ok(whole) => return Ok(whole),
                Err(error @ Error::BadFile { .. }) => {
                    tracing::warn!(%error, "deleting this snapshot and taking the one before");
                    self.remove(position)?;
                }
                Err(error) => {
                    if self.told.allow(position, clock::now()).is_some() {
                        tracing::warn!(%error, "taking the snapshot before");
                    }
                }
            }
        }
        Ok(None)
    }

    /// Positions of all snapshots, lowest first.
    pub(super) fn positions(&self) -> Result<Vec<PhysicalOffset>, Error> {
        let files = self.files.list(&self.dir);
        let files = files.map_err(|e| Error::io("list snapshots", &self.dir, e))?;
        let mut positions: Vec<PhysicalOffset> =
            files.iter().filter_map(|file| file.name.parse().ok()).map(PhysicalOffset).collect();
        positions.sort_unstable();
        Ok(positions)
    }

    /// Removes the snapshots below `position`.
    pub(super) fn remove_before(&self, position: PhysicalOffset) -> Result<(), Error> {
        for old in self.positions()?.into_iter().take_while(|at| *at < position) {
            self.remove(old)?;
        }
        Ok(())
    }

    fn remove(&self, position: PhysicalOffset) -> Result<(), Error> {
        let path = self.path(position);
        self.files.remove(&path).map_err(|e| Error::io("delete snapshot", &path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::command::Command;
    use crate::store::RealFiles;

    #[test]
    fn a_damaged_snapshot_is_named_and_deleted_and_the_one_before_taken() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = SnapshotFiles::open(Arc::new(RealFiles), dir.path().to_owned()).unwrap();
        let (all, at) = (PhysicalOffset(u64::MAX), PhysicalOffset);
        assert!(snapshots.load(at(10)).unwrap().is_none());
        for position in [10, 20, 30, 40].map(PhysicalOffset) {
            let progress = Progress { position, ..Progress::default() };
            let (tables, next) = (Tables::default(), NextOffsets::default());
            snapshots.save(position, &encode(&Captured { progress, tables, next })).unwrap();
        }
        let path = dir.path().join("00000000000000000030");
        let mut content = std::fs::read(&path).unwrap();
        *content.last_mut().unwrap() ^= 1;
        std::fs::write(&path, content).unwrap();
        let text = snapshots.load(at(30)).err().unwrap().to_string();
        assert!(text.contains("00000000000000000030 is damaged"), "{text}");
        snapshots.save(at(40), &[StoredState::FORMAT, 255, 255]).unwrap();
        let highest = |above, upto| Some(snapshots.highest(above, upto).unwrap()?.position.0);
        assert_eq!(highest(at(0), at(15)), Some(10));
        assert_eq!(highest(at(10), at(19)), None);
        assert_eq!(snapshots.positions().unwrap().len(), 4, "the others were not looked at");
        assert_eq!(highest(at(10), all), Some(20));
        assert_eq!(snapshots.positions().unwrap(), [at(10), at(20)]);
    }

    fn state_of(version: GroupVersion) -> Vec<u8> {
        let mut tables = Tables::default();
        let (version, term) = (version.0, 0);
        tables.apply(Command::Activate { version, term }, 1);
        let (progress, next) = (Progress::default(), NextOffsets::default());
        encode(&Captured { progress, tables, next })
    }

    #[test]
    fn what_another_build_can_read_is_not_taken_for_damage() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = SnapshotFiles::open(Arc::new(RealFiles), dir.path().to_owned()).unwrap();
        let at = PhysicalOffset;
        snapshots.save(at(10), &state_of(GroupVersion::NEWEST)).unwrap();
        snapshots.save(at(20), &state_of(GroupVersion(99))).unwrap();
        snapshots.save(at(30), &[StoredState::FORMAT + 9]).unwrap();
        let highest = snapshots.highest(at(0), at(u64::MAX)).unwrap();
        assert_eq!(highest.map(|whole| whole.position), Some(at(10)));
        assert_eq!(snapshots.positions().unwrap(), [10, 20, 30].map(at), "none is deleted");
        let text = decode(&state_of(GroupVersion(99))).err().unwrap().to_string();
        assert!(text.contains("writes version 99") && text.contains("versions 1 to"), "{text}");
    }

    #[test]
    fn the_first_version_is_stored_as_ever() {
        assert_eq!(state_of(GroupVersion::FIRST)[0], StoredState::FORMAT);
        let state = state_of(GroupVersion::PASSES_ON);
        assert_eq!(state[0], VersionedState::FORMAT);
        assert_eq!(decode(&state).unwrap().tables.active(), GroupVersion::PASSES_ON);
    }
}
