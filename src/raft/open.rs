//! From files to a member that can start: lock, vote, checkpoint, log, derived data.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::ids::{EntryIndex, PhysicalOffset, StoreId};
use crate::raft::StartError;
use crate::raft::applied::{AppliedState, Captured, Progress};
use crate::raft::checkpointer::{Settled, StoreParts};
use crate::raft::dial::Links;
#[cfg(test)]
use crate::raft::dial::Tcp;
use crate::raft::duplicates::Duplicates;
use crate::raft::error::StorageError;
use crate::raft::forward::Desk;
use crate::raft::group::GroupOptions;
use crate::raft::introduction::Introduction;
use crate::raft::lineage::Belonging;
use crate::raft::network::Network;
use crate::raft::repair::Repairer;
use crate::raft::room::Room;
#[cfg(test)]
use crate::raft::simulation::planted::{Bug, is_planted};
use crate::raft::snapshot::{self, SnapshotFiles, Whole};
use crate::raft::state_machine::{self, StateMachine};
use crate::raft::tables::Tables;
use crate::raft::version::Active;
use crate::store;
#[cfg(test)]
use crate::store::PreviousLife;
use crate::store::queues::{self, NextOffsets, Queues};
use crate::store::repair::{Spares, repair_files};
use crate::store::{
    CommitLog, Files, Identity, LogOptions, Opening, ReplayFrom, Reserve, StoreFile, StoreLock,
    VoteFile, checkpoint, disk_space, start_over,
};

/// Everything that a member runs on.
pub(super) struct Opened {
    pub(super) store: HeldStore,
    pub(super) log: CommitLog,
    pub(super) votes: VoteFile,
    pub(super) machine: StateMachine,
    pub(super) parts: StoreParts,
    pub(super) room: Arc<Room>,
    pub(super) own: Introduction,
    pub(super) network: Network,
    pub(super) repairs: Repairer,
}

/// A store that no other process can open as long as this lives.
pub(super) struct HeldStore {
    pub(super) stamp: Arc<StoreFile>,
    _lock: Arc<StoreLock>,
}

/// Opens and recovers a store, with the others' help if it is damaged. `ending` says that the
/// member stops. A store that only a snapshot could mend is emptied: its member comes back as a
/// new one, which gets that.
pub(super) async fn open(
    files: Arc<dyn Files>,
    links: Arc<dyn Links>,
    options: &GroupOptions,
    ending: &CancellationToken,
) -> Result<Opened, StartError> {
    let lock = Arc::new(StoreLock::take(&*files, &options.dir)?);
    start_over::finish(&*files, &lock, &options.dir, &options.log_dir)?;
    let opened = open_held(&files, &lock, Arc::clone(&links), options, ending).await;
    let Err(StartError::Outlived { damage }) = opened else { return opened };
    tracing::error!(
        %damage,
        "every other member has purged what belongs there: this one is emptied and starts over \
         with what they have; check the disk"
    );
    start_over::begin(&*files, &lock, &options.dir)?;
    start_over::finish(&*files, &lock, &options.dir, &options.log_dir)?;
    open_held(&files, &lock, links, options, ending).await
}

/// The same, but a store that only a snapshot could mend is an error, and left as it is.
pub(super) async fn open_or_leave(
    files: Arc<dyn Files>,
    links: Arc<dyn Links>,
    options: &GroupOptions,
) -> Result<Opened, StartError> {
    let lock = Arc::new(StoreLock::take(&*files, &options.dir)?);
    start_over::finish(&*files, &lock, &options.dir, &options.log_dir)?;
    open_held(&files, &lock, links, options, &CancellationToken::new()).await
}

async fn open_held(
    files: &Arc<dyn Files>,
    lock: &Arc<StoreLock>,
    links: Arc<dyn Links>,
    options: &GroupOptions,
    ending: &CancellationToken,
) -> Result<Opened, StartError> {
    let dir = options.dir.clone();
    let reserve = Reserve::new(Arc::clone(files), &options.log_dir, options.segment_bytes);
    let (disk, files): (_, Arc<dyn Files>) = (files, Arc::new(reserve.clone()));
    let used = !files.list(&options.log_dir).unwrap_or_default().is_empty();
    if !used {
        disk_space::check_new_log(&*files, &options.log_dir, options.segment_bytes)?;
    }
    keep_room(&*files, options)?;
    let store = Arc::new(open_stamp(&files, options, used)?);
    let votes = VoteFile::open(&*files, &dir)?;
    checkpoint::remove_unfinished(&*files, &dir)?;
    let snapshots = SnapshotFiles::open(Arc::clone(&files), dir.join("snapshots"))?;
    let start = load_checkpoint(&*files, options)?;
    let own = introduction(options, store.id());
    let active = Active::new(start.tables.active());
    let belonging = Belonging::new(Arc::clone(&store));
    let caller = (own.clone(), belonging.clone());
    let network = Network::new(caller, active.clone(), options.peers.clone(), links);
    network.learn(&start.progress.membership);
    let repairs = Repairer::new(network.clone(), &files, options.segment_bytes, ending.clone());
    let log = open_log(&files, options, &votes, &start, &store, &repairs).await?;
    belonging.has(&log);
    store.recovered()?;
    if log.last().is_none() {
        log.wait_for_segment()?; // a member that cannot append anything is better not there
    }
    if let Err(error) = reserve.refill() {
        tracing::warn!(%error, dir = %options.log_dir.display(), "no room for the reserve");
    }
    let retained = log.first_position()..start.progress.position;
    let queue_options =
        queues::Options { dir: dir.join("consumequeue"), segment_bytes: options.segment_bytes };
    // Not from the reserve: derived data would take it whole, and then nothing could be purged.
    let (queues, opening) =
        Queues::open(Arc::clone(disk), queue_options, retained, start.next.clone())
            .map_err(StorageError::from)?;
    let room = Arc::new(Room::new(log.clone(), queues.clone(), options));
    room.look_first(&*files);
    let checkpoint = start.progress.position;
    let state = AppliedState::new(queues.clone(), start.tables, start.progress, active);
    if opening.replay_from < checkpoint {
        let (from, to) = (opening.replay_from, checkpoint);
        tracing::info!(%from, %to, "rebuilding derived data from the log");
        while let Err(error) = state_machine::rebuild(&log, &queues, queues.applied_to(), to) {
            let StorageError::Store(damage) = error else { return Err(error.into()) };
            let repair = repairs.repair(&log, &state, damage.clone());
            let in_time = tokio::time::timeout(options.timing.repair, repair).await;
            in_time.unwrap_or(Err(damage))?;
        }
    }
    let settled = Settled::at(checkpoint);
    let parts = StoreParts { files, dir, log: log.clone(), queues, snapshots, settled };
    let limits = options.limits.within(options.segment_bytes);
    let life =
        parts.files.draw_id().map_err(|error| StartError::Core { why: error.to_string() })?;
    let desk = Desk::new(life, limits);
    let records = log.clone();
    let read = move |at, bytes| Some(records.slice(at, bytes)?.into_bytes());
    let duplicates = Duplicates::new(limits.duplicates, state.term(), read);
    let segment_bytes = options.segment_bytes;
    let machine =
        StateMachine::new(state, parts.clone(), segment_bytes, Arc::clone(&room), desk, duplicates);
    offer_snapshot(&parts.snapshots, &machine, &log);
    let store = HeldStore { stamp: store, _lock: Arc::clone(lock) };
    Ok(Opened { store, log, votes, machine, parts, room, own, network, repairs })
}

/// What is allocated for the log must be there when it is written.
fn keep_room(files: &dyn Files, options: &GroupOptions) -> Result<(), StartError> {
    let dir = options.log_dir.as_path();
    files.create_dir(dir).map_err(|e| store::Error::io("create directory", dir, e))?;
    if let Err(file_system) = files.write_in_place(dir) {
        tracing::warn!(
            dir = %dir.display(),
            file_system,
            "a write takes new room on this file system, also in files that have theirs: keep \
             more than a segment free there"
        );
    }
    Ok(())
}

/// Opens a store that needs nobody's help.
#[cfg(test)]
pub(super) fn open_undamaged(
    files: Arc<dyn Files>,
    options: &GroupOptions,
) -> Result<Opened, StartError> {
    use futures_util::FutureExt as _;
    let opened = open(files, Arc::new(Tcp), options, &CancellationToken::new()).now_or_never();
    opened.expect("nothing to wait for")
}

fn introduction(options: &GroupOptions, store_id: StoreId) -> Introduction {
    Introduction {
        cluster: options.cluster.clone(),
        group: options.group.clone(),
        members: options.peers.to_string(),
        segment_bytes: options.segment_bytes,
        member: options.member.clone(),
        store_id: store_id.0,
        callee: 0,
    }
}

fn open_stamp(
    files: &Arc<dyn Files>,
    options: &GroupOptions,
    used: bool,
) -> Result<StoreFile, StartError> {
    let identity = Identity {
        cluster: options.cluster.clone(),
        group: options.group.clone(),
        member: options.member.clone(),
        segment_bytes: options.segment_bytes,
    };
    let (durability, now_ms) = (options.durability, clock::wall_ms());
    let opening = Opening { identity, durability, used, now_ms };
    Ok(StoreFile::open(Arc::clone(files), &options.dir, opening)?)
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

async fn open_log(
    files: &Arc<dyn Files>,
    options: &GroupOptions,
    votes: &VoteFile,
    start: &Captured,
    store: &Arc<StoreFile>,
    repairs: &Repairer,
) -> Result<CommitLog, StartError> {
    let next = start.progress.last.map_or(EntryIndex(0), |last| EntryIndex(last.index.0 + 1));
    let progress = &start.progress;
    let from = ReplayFrom { position: progress.position, index: next, previous: progress.last };
    let previous_life = store.previous_life();
    #[cfg(test)]
    let previous_life = match is_planted(Bug::TrustsThePageCache) {
        true => PreviousLife::Clean,
        false => previous_life,
    };
    let log_options = LogOptions {
        dir: options.log_dir.clone(),
        segment_bytes: options.segment_bytes,
        durability: options.durability,
        store_id: store.id(),
        previous_life,
        stamp: Some(Arc::clone(store)),
    };
    let (dir, segment_bytes) = (&options.log_dir, options.segment_bytes);
    let mut repaired = None;
    let (log, recovery) = loop {
        let opened =
            CommitLog::open(Arc::clone(files), log_options.clone(), from, votes.committed());
        let damage = match opened {
            Ok(opened) => break opened,
            Err(damage) => damage,
        };
        let Some(gap) = damage.gap() else { return Err(damage.into()) };
        tracing::warn!(%damage, "asking the other members for what belongs there");
        if repaired == Some(gap) {
            let tried = "what another member has there does not mend it".to_owned();
            return Err(StartError::Unrepaired { damage, tried });
        }
        let put = |spares: &Spares| repair_files(&**files, dir, segment_bytes, spares);
        match repairs.at_start(&gap, options.timing.repair, put).await {
            Ok(()) => repaired = Some(gap),
            Err(tried) if tried.is_outlived() => return Err(StartError::Outlived { damage }),
            Err(tried) => {
                return Err(StartError::Unrepaired { damage, tried: tried.to_string() });
            }
        }
    };
    tracing::info!(
        dir = %options.log_dir.display(),
        previous_life = ?store.previous_life(),
        entries = recovery.entries,
        bytes = recovery.bytes,
        cut = ?recovery.cut,
        took = ?recovery.took,
        "recovered the log"
    );
    Ok(log)
}

/// Offers the snapshot that belongs to the start of the log, if the log was ever purged. Without it
/// this member has all that it needs itself; and one that gets a later state instead would lack
/// messages that others retain.
fn offer_snapshot(snapshots: &SnapshotFiles, machine: &StateMachine, log: &CommitLog) {
    let first = log.first_position();
    if first == PhysicalOffset(0) {
        return;
    }
    let why = match snapshots.load(first) {
        Ok(Some(snapshot)) => return machine.offer(snapshot),
        Ok(None) => "there is none".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::error!(
        %first,
        why,
        "the snapshot at the start of the log is lost: an emptied member gets none from this one \
         until it purges the log the next time; check the disk"
    );
    machine.offer(Whole::lost(first, log.purged()));
}
