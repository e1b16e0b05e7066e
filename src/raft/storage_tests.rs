//! A member's store without the member: what crashes do to it.

use std::path::Path;
use std::sync::Arc;

use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine, SnapshotMeta};

use super::applied::{Captured, Progress};
use super::group::{GroupOptions, Timing};
use super::log_store::LogStore;
use super::open;
use super::proposer::Limits;
use super::state_machine::StateMachine;
use super::tables::Tables;
use super::type_config::{CommittedLeaderId, LogEntry, Payload, RaftLogId, entry_id};
use super::{PeerAddress, Peers, snapshot};
use crate::ids::{EntryIndex, PhysicalOffset};
use crate::store::queues::NextOffsets;
use crate::store::retention::Rules;
use crate::store::{CommitLog, Durability, RealFiles};

/// A member's store, without the member.
struct Opened {
    _held: open::HeldStore,
    log: CommitLog,
    storage: LogStore,
    machine: StateMachine,
}

fn open(dir: &Path) -> Opened {
    let address = PeerAddress { host: "127.0.0.1".to_owned(), port: 1 };
    let options = GroupOptions {
        cluster: "C".to_owned(),
        group: "G".to_owned(),
        member: "n0".to_owned(),
        peers: Peers::new([("n0".to_owned(), address)]),
        dir: dir.to_owned(),
        log_dir: dir.join("commitlog"),
        segment_bytes: 1024 * 1024,
        durability: Durability::Synced,
        timing: Timing::default(),
        limits: Limits::default(),
        retention: Rules::default(),
    };
    let opened = open::open(Arc::new(RealFiles), &options).unwrap();
    let (log, machine) = (opened.log, opened.machine);
    let storage = LogStore::new(log.clone(), opened.votes, machine.state().clone());
    Opened { _held: opened.store, log, storage, machine }
}

fn log_id(index: u64) -> RaftLogId {
    RaftLogId::new(CommittedLeaderId::new(1), index)
}

async fn append_blank(opened: &mut Opened, indexes: std::ops::Range<u64>) {
    let entries: Vec<_> =
        indexes.map(|index| LogEntry::new(log_id(index), Payload::Blank)).collect();
    opened.storage.append(entries, IOFlushed::noop()).await.unwrap();
    opened.log.sync_now().unwrap();
}

/// Installs the state after entry `last`, which ended at `position`.
async fn install(opened: &mut Opened, last: u64, position: PhysicalOffset) {
    let progress =
        Progress { last: Some(entry_id(&log_id(last))), position, ..Progress::default() };
    let (tables, next) = (Tables::default(), NextOffsets::default());
    let bytes = snapshot::encode(&Captured { progress, tables, next });
    let meta = SnapshotMeta { last_log_id: Some(log_id(last)), ..SnapshotMeta::default() };
    opened.machine.install_snapshot(&meta, bytes.into()).await.unwrap();
}

fn end_of(opened: &Opened, index: u64) -> PhysicalOffset {
    opened.log.header_of(EntryIndex(index)).unwrap().unwrap().end()
}

/// First entry, last entry, last applied entry.
fn stands(opened: &Opened) -> (u64, Option<u64>, Option<u64>) {
    let last = opened.log.last().map(|id| id.index.0);
    let applied = opened.machine.state().progress().last.map(|id| id.index.0);
    (opened.log.first_index().0, last, applied)
}

#[tokio::test]
async fn a_snapshot_and_a_crash_cost_no_entry_behind_the_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path());
    append_blank(&mut opened, 0..10).await;
    for last in [2, 4] {
        let position = end_of(&opened, last);
        install(&mut opened, last, position).await;
        drop(opened);
        opened = open(dir.path());
        let (first, ..) = stands(&opened);
        assert!(first <= last, "{first}");
        assert_eq!(stands(&opened), (first, Some(9), Some(last)));
        opened.storage.purge(log_id(last)).await.unwrap();
        assert_eq!(stands(&opened), (last + 1, Some(9), Some(last)));
    }
    drop(opened);
    assert_eq!(stands(&open(dir.path())), (5, Some(9), Some(4)));
}

#[tokio::test]
async fn a_log_that_ends_before_a_snapshot_starts_behind_it_whenever_the_process_dies() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path());
    append_blank(&mut opened, 0..10).await;
    install(&mut opened, 20, PhysicalOffset(4096)).await;
    drop(opened);
    let mut opened = open(dir.path());
    assert_eq!(stands(&opened), (21, Some(20), Some(20)));
    append_blank(&mut opened, 21..23).await;
    drop(opened);
    assert_eq!(stands(&open(dir.path())), (21, Some(22), Some(20)));
}
