//! The state as of a segment boundary: what a member gets that the log no longer covers, and what
//! retention leaves behind when it deletes the segments before it.
//!
//! A snapshot never skips a message that is still retained: it is the state *just before* the
//! first retained segment, and the retained log follows as ordinary entries.

use std::path::PathBuf;
use std::sync::Arc;

use bincode::{Decode, Encode};
use bytes::Bytes;

use crate::ids::{EntryIndex, PhysicalOffset, Term};
use crate::raft::applied::{Captured, Progress};
use crate::raft::codec::{self, CodecError, Stored};
use crate::raft::membership::{self, Damaged};
use crate::raft::tables::{StoredTables, Tables};
use crate::raft::type_config::{StoredMembership, entry_id, log_id};
use crate::store::entry::EntryId;
use crate::store::files::remove_unfinished;
use crate::store::queues::NextOffsets;
use crate::store::{Error, Files, checkpoint};

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
    const FORMAT: u8 = 2;
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
}

/// The stored form of a captured state.
pub(super) fn encode(captured: &Captured) -> Vec<u8> {
    let progress = &captured.progress;
    let pair = |id: EntryId| (id.term.0, id.index.0);
    codec::encode(&StoredState {
        last: progress.last.map(pair),
        position: progress.position.0,
        membership_id: progress.membership.log_id().as_ref().map(|id| pair(entry_id(id))),
        membership: membership::encode(progress.membership.membership()),
        tables: captured.tables.to_stored(),
        next: captured.next.encode(),
    })
}

/// A captured state from its stored form.
pub(super) fn decode(bytes: &[u8]) -> Result<Captured, StateError> {
    let stored: StoredState = codec::decode(bytes)?;
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
        tables: Tables::from_stored(stored.tables),
        next,
    })
}

/// The snapshot files of a member: one per segment boundary that is still in the log, in a
/// directory of their own, named by position.
#[derive(Clone)]
pub(super) struct SnapshotFiles {
    files: Arc<dyn Files>,
    dir: PathBuf,
}

impl SnapshotFiles {
    /// The snapshots in `dir`, which is created when it is missing; what a crash left unfinished is
    /// deleted.
    pub(super) fn open(files: Arc<dyn Files>, dir: PathBuf) -> Result<Self, Error> {
        files.create_dir(&dir).map_err(|e| Error::io("create directory", &dir, e))?;
        remove_unfinished(&*files, &dir, "")?;
        Ok(Self { files, dir })
    }

    fn path(&self, position: PhysicalOffset) -> PathBuf {
        self.dir.join(format!("{:020}", position.0))
    }

    /// Writes a snapshot; it is on disk when this returns.
    pub(super) fn save(&self, position: PhysicalOffset, state: &[u8]) -> Result<(), Error> {
        checkpoint::write_file(&*self.files, &self.path(position), position, state)
    }

    /// The snapshot at `position`, found whole.
    pub(super) fn load(&self, position: PhysicalOffset) -> Result<Option<Bytes>, Error> {
        checkpoint::read_file(&*self.files, &self.path(position), position)
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
            let path = self.path(old);
            self.files.remove(&path).map_err(|e| Error::io("delete snapshot", &path, e))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RealFiles;

    #[test]
    fn a_damaged_snapshot_is_refused_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = SnapshotFiles::open(Arc::new(RealFiles), dir.path().to_owned()).unwrap();
        let position = PhysicalOffset(1 << 20);
        assert_eq!(snapshots.load(position).unwrap(), None);
        snapshots.save(position, b"state").unwrap();
        assert_eq!(snapshots.load(position).unwrap().as_deref(), Some(b"state".as_slice()));
        let path = dir.path().join("00000000000001048576");
        let mut content = std::fs::read(&path).unwrap();
        *content.last_mut().unwrap() ^= 1;
        std::fs::write(&path, content).unwrap();
        let text = snapshots.load(position).unwrap_err().to_string();
        assert!(text.contains("00000000000001048576 is damaged"), "{text}");
    }
}
