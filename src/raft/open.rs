//! From files to a member that can start: lock, vote, checkpoint, log, derived data.

use std::sync::Arc;

use crate::ids::{EntryIndex, PhysicalOffset};
use crate::raft::StartError;
use crate::raft::error::StorageError;
use crate::raft::applied::{AppliedState, Captured, Progress};
use crate::raft::checkpointer::StoreParts;
use crate::raft::group::GroupOptions;
use crate::raft::snapshot::{self, SnapshotFiles};
use crate::raft::state_machine::{self, StateMachine};
use crate::raft::tables::Tables;
use crate::store::queues::{self, NextOffsets, Queues};
use crate::store::{
    CommitLog, Files, LogOptions, ReplayFrom, StoreFile, StoreStamp, VoteFile, checkpoint,
};

/// Everything that a member runs on.
pub(super) struct Opened {
    pub(super) store: StoreFile,
    pub(super) log: CommitLog,
    pub(super) votes: VoteFile,
    pub(super) machine: StateMachine,
    pub(super) parts: StoreParts,
}

/// Opens and recovers a store.
pub(super) fn open(files: Arc<dyn Files>, options: &GroupOptions) -> Result<Opened, StartError> {
    let dir = options.dir.clone();
    let stamp = StoreStamp {
        cluster: options.cluster.clone(),
        group: options.group.clone(),
        member: options.member.clone(),
        segment_bytes: options.segment_bytes,
    };
    let store = StoreFile::open(&*files, &dir, stamp)?;
    let votes = VoteFile::open(Arc::clone(&files), &dir)?;
    let snapshots = SnapshotFiles::open(Arc::clone(&files), dir.join("snapshots"))?;
    let start = load_checkpoint(&*files, options)?;
    let log = open_log(&files, options, &votes, &start)?;
    let retained = log.first_position()..start.progress.position;
    let queue_options =
        queues::Options { dir: dir.join("consumequeue"), segment_bytes: options.segment_bytes };
    let (queues, opening) =
        Queues::open(Arc::clone(&files), queue_options, retained, start.next.clone())
            .map_err(StorageError::from)?;
    if opening.replay_from < start.progress.position {
        let (from, to) = (opening.replay_from, start.progress.position);
        tracing::info!(%from, %to, "rebuilding derived data from the log");
        state_machine::rebuild(&log, &queues, from, to)?;
    }
    let state = AppliedState::new(queues.clone(), start.tables, start.progress);
    let parts = StoreParts { files, dir, log: log.clone(), queues, snapshots };
    let machine = StateMachine::new(state, parts.clone(), options.segment_bytes);
    offer_snapshot(&parts.snapshots, &machine, log.first_position(), options)?;
    Ok(Opened { store, log, votes, machine, parts })
}

fn unusable(options: &GroupOptions, why: impl std::fmt::Display) -> StartError {
    StartError::Checkpoint { dir: options.dir.display().to_string(), why: why.to_string() }
}

fn load_checkpoint(files: &dyn Files, options: &GroupOptions) -> Result<Captured, StartError> {
    match checkpoint::load(files, &options.dir)? {
        Some(stored) => snapshot::decode(&stored.state).map_err(|error| unusable(options, error)),
        None => Ok(Captured {
            progress: Progress::default(),
            tables: Tables::default(),
            next: NextOffsets::default(),
        }),
    }
}

fn open_log(
    files: &Arc<dyn Files>,
    options: &GroupOptions,
    votes: &VoteFile,
    start: &Captured,
) -> Result<CommitLog, StartError> {
    let next = start.progress.last.map_or(EntryIndex(0), |last| EntryIndex(last.index.0 + 1));
    let from = ReplayFrom { position: start.progress.position, index: next };
    let log_options = LogOptions {
        dir: options.log_dir.clone(),
        segment_bytes: options.segment_bytes,
        durability: options.durability,
    };
    let (log, recovery) =
        CommitLog::open(Arc::clone(files), log_options, from, votes.committed())?;
    tracing::info!(
        entries = recovery.entries,
        bytes = recovery.bytes,
        cut = ?recovery.cut,
        took = ?recovery.took,
        "recovered the log"
    );
    // An installed snapshot that the log was not yet moved to.
    if let Some(last) = start.progress.last
        && log.last().or(log.purged()).is_none_or(|have| have.index < last.index)
    {
        log.reset(start.progress.position, last)?;
    }
    Ok(log)
}

/// Offers the snapshot that belongs to the start of the log, if the log was ever purged.
fn offer_snapshot(
    snapshots: &SnapshotFiles,
    machine: &StateMachine,
    first: PhysicalOffset,
    options: &GroupOptions,
) -> Result<(), StartError> {
    if first == PhysicalOffset(0) {
        return Ok(());
    }
    match snapshots.load(first)? {
        Some(bytes) => {
            let captured = snapshot::decode(&bytes).map_err(|error| unusable(options, error))?;
            machine.offer(first, &captured);
            Ok(())
        }
        None => Err(unusable(options, format!("the log starts at {first} without a snapshot"))),
    }
}
