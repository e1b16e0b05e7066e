//! A member's store without the member: what crashes and the clocks of others do to it.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage, RaftStateMachine, SnapshotMeta};
use smallvec::smallvec;

use super::applied::{Captured, Progress};
use super::checkpointer::StoreParts;
use super::codec;
use super::command::{Command, Commands};
use super::group::GroupOptions;
use super::group_tests::options_alone;
use super::log_store::LogStore;
use super::open;
use super::proposer::Limits;
use super::room::Room;
use super::snapshot::SnapshotFiles;
use super::state_machine::StateMachine;
use super::tables::Tables;
use super::type_config::{
    Batch, CommittedLeaderId, LogEntry, Payload, RaftLogId, Stored, entry_id,
};
use super::wire::{self, proto};
use super::{PeerAddress, Peers, Proposal, QueueAdvance, QueueListener, snapshot};
use crate::ids::{EntryIndex, PhysicalOffset, QueueOffset};
use crate::protocol::message::{self, Draft};
use crate::store::entry::ReceivedEntry;
use crate::store::queues::NextOffsets;
use crate::store::simulated_disk::SimulatedDisk;
use crate::store::{Body, CommitLog, RealFiles};

/// A member's store, without the member.
struct Opened {
    _held: open::HeldStore,
    log: CommitLog,
    storage: LogStore,
    machine: StateMachine,
    parts: StoreParts,
    room: Arc<Room>,
}

fn open(dir: &Path) -> Opened {
    open_as(&options_alone(dir))
}

fn open_as(options: &GroupOptions) -> Opened {
    let opened = open::open_undamaged(Arc::new(RealFiles), options).unwrap();
    let (log, machine) = (opened.log, opened.machine);
    let state = machine.state().clone();
    let room = Arc::clone(&opened.room);
    let storage = LogStore::new(log.clone(), opened.votes, state, opened.room, opened.repairs);
    Opened { _held: opened.store, log, storage, machine, parts: opened.parts, room }
}

fn draft() -> Draft {
    super::group_tests::draft("T", 0, "body")
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

/// A message as another leader stored it at `store_ms`: the entry `index` of an empty log.
fn message_of_another(store_ms: i64) -> LogEntry {
    let dir = tempfile::tempdir().unwrap();
    let other = open(dir.path());
    let drafts = [draft()];
    let body = Body::Data { drafts: &drafts, commands: &[] };
    let id = entry_id(&log_id(0));
    let stored = other.log.append(id, body, &mut |_| QueueOffset(0), store_ms).unwrap();
    let received = ReceivedEntry::take_from(&mut Bytes::copy_from_slice(&stored.bytes)).unwrap();
    LogEntry::from_stored(Stored::Received(received)).unwrap()
}

async fn send(opened: &mut Opened, index: u64) -> i64 {
    let batch = Batch { messages: vec![draft()], commands: vec![], ..Batch::default() };
    let entry = LogEntry::new(log_id(index), Payload::Normal(Arc::new(batch)));
    opened.storage.append([entry], IOFlushed::noop()).await.unwrap();
    opened.log.sync_now().unwrap();
    let index = EntryIndex(index);
    let stored = opened.log.entries(index, EntryIndex(index.0 + 1), 1).unwrap();
    message::Record::parse(&stored[0].records()).unwrap().store_timestamp()
}

/// What apply is given.
async fn for_apply(opened: &mut Opened, indexes: std::ops::Range<u64>) -> Vec<LogEntry> {
    opened.storage.entries_stream(indexes).await.map(Result::unwrap).collect().await
}

fn is_digested(entry: &LogEntry) -> bool {
    matches!(entry.stored, Some(Stored::Digested(_)))
}

#[tokio::test]
async fn apply_gets_what_was_appended_whatever_became_of_it_since_and_the_rest_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path());
    for index in 0..3 {
        send(&mut opened, index).await;
    }
    append_blank(&mut opened, 3..4).await;
    send(&mut opened, 4).await;
    let stored = opened.storage.try_get_log_entries(..).await.unwrap();
    let expected: Vec<_> = [0, 1, 2, 4]
        .map(|at: usize| stored[at].stored.as_ref().unwrap().digest().unwrap().into_owned())
        .into();
    let at = end_of(&opened, 0).0 + 100;
    let segment = options_alone(dir.path()).log_dir.join(format!("{:020}", 0));
    let file = std::fs::File::options().write(true).open(segment).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"#", at).unwrap();
    let given = for_apply(&mut opened, 0..5).await;
    assert_eq!(given.iter().map(is_digested).collect::<Vec<_>>(), [true, true, true, false, true]);
    let digests = given.iter().filter(|entry| is_digested(entry));
    let digests = digests.map(|entry| entry.stored.as_ref().unwrap().digest().unwrap());
    assert!(digests.map(|digest| digest.into_owned()).eq(expected));

    // Not what is cut off, and nothing after a start.
    send(&mut opened, 5).await;
    opened.storage.truncate_after(Some(log_id(4))).await.unwrap();
    append_blank(&mut opened, 5..6).await;
    assert_eq!(for_apply(&mut opened, 5..6).await.iter().map(is_digested).next(), Some(false));
}

async fn apply_and_checkpoint(opened: &mut Opened) {
    let entries = opened.storage.try_get_log_entries(..).await.unwrap();
    let entries = entries.into_iter().map(|entry| Ok((entry, None)));
    opened.machine.apply(futures_util::stream::iter(entries)).await.unwrap();
    opened.machine.state().queues().freeze();
    opened.parts.checkpoint(&opened.machine.state().capture(), &mut VecDeque::new()).unwrap();
}

#[tokio::test]
async fn store_times_never_go_back_whatever_the_clocks_of_former_leaders_said() {
    let ahead = crate::clock::wall_ms() + 3_600_000;
    for (is_applied, is_restarted) in [(false, false), (false, true), (true, false), (true, true)] {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = open(dir.path());
        let entry = message_of_another(ahead);
        opened.storage.append([entry], IOFlushed::noop()).await.unwrap();
        if is_applied {
            apply_and_checkpoint(&mut opened).await;
        }
        if is_restarted {
            drop(opened);
            opened = open(dir.path());
        }
        let what = format!("applied: {is_applied}, restarted: {is_restarted}");
        assert_eq!(send(&mut opened, 1).await, ahead, "{what}");
        assert_eq!(send(&mut opened, 2).await, ahead, "{what}");
    }
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

#[tokio::test]
async fn an_append_whose_entries_do_not_follow_is_no_message() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path());
    append_blank(&mut opened, 0..4).await;
    let entries = opened.log.entries(EntryIndex(0), EntryIndex(4), u64::MAX).unwrap();
    let is_taken = |term, previous: Option<(u64, u64)>, which: &[usize]| {
        let ballot = Some(proto::Ballot { term, candidate: 1, committed: true });
        let previous = previous.map(|(term, index)| proto::LogId { term, index });
        let runs = which.iter().map(|n| Bytes::copy_from_slice(&entries[*n].bytes)).collect();
        let request = proto::AppendRequest { ballot, previous, committed: None, runs };
        wire::to_append_request(request).is_ok()
    };
    type Row<'a> = (u64, Option<(u64, u64)>, &'a [usize], bool);
    let rows: [Row<'_>; 11] = [
        (1, None, &[0, 1, 2], true),
        (2, Some((1, 0)), &[1, 2], true),
        (1, Some((0, 1)), &[2], true),
        (1, Some((1, 3)), &[], true),
        (1, None, &[1], false),
        (1, Some((1, 0)), &[2], false),
        (1, Some((1, 0)), &[1, 3], false),
        (1, Some((1, 0)), &[1, 1], false),
        (2, Some((2, 0)), &[1], false),
        (0, None, &[0], false),
        (1, Some((1, u64::MAX)), &[0], false),
    ];
    for (term, previous, which, want) in rows {
        assert_eq!(is_taken(term, previous, which), want, "{term} {previous:?} {which:?}");
    }
}

/// Appends commands as a leader does, and returns their time.
async fn change(opened: &mut Opened, index: u64) -> i64 {
    let batch = Batch { messages: vec![], commands: vec![setting()], ..Batch::default() };
    let entry = LogEntry::new(log_id(index), Payload::Normal(Arc::new(batch)));
    opened.storage.append([entry], IOFlushed::noop()).await.unwrap();
    opened.log.sync_now().unwrap();
    let index = EntryIndex(index);
    let stored = opened.log.entries(index, index.next(), 1).unwrap();
    codec::decode::<Commands>(&stored[0].commands()).unwrap().at_ms
}

fn setting() -> Command {
    Command::PutSetting { key: "k".to_owned(), value: "v".to_owned() }
}

/// Commands as another leader stored them at `at_ms`: the entry 0.
fn commands_of_another(at_ms: i64) -> LogEntry {
    let dir = tempfile::tempdir().unwrap();
    let other = open(dir.path());
    let commands = codec::encode(&Commands { at_ms, list: vec![setting()] });
    let body = Body::Data { drafts: &[], commands: &commands };
    let id = entry_id(&log_id(0));
    let stored = other.log.append(id, body, &mut |_| QueueOffset(0), at_ms).unwrap();
    let received = ReceivedEntry::take_from(&mut Bytes::copy_from_slice(&stored.bytes)).unwrap();
    LogEntry::from_stored(Stored::Received(received)).unwrap()
}

#[tokio::test]
async fn times_of_commands_never_go_back_whatever_the_clocks_of_former_leaders_said() {
    let ahead = crate::clock::wall_ms() + 3_600_000;
    for is_applied in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = open(dir.path());
        opened.storage.append([commands_of_another(ahead)], IOFlushed::noop()).await.unwrap();
        if is_applied {
            apply_and_checkpoint(&mut opened).await;
        }
        let first = change(&mut opened, 1).await;
        let second = change(&mut opened, 2).await;
        assert!(ahead <= first && first <= second, "{ahead} {first} {second}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_append_does_not_wait_for_ever_for_who_may_repair_what_is_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let address = PeerAddress { host: "127.0.0.1".to_owned(), port: 1 }; // nobody listens
    let peers = ["n0", "n1"].map(|name| (name.to_owned(), address.clone()));
    let options = GroupOptions { peers: Peers::new(peers), ..options_alone(dir.path()) };
    let mut opened = open_as(&options);
    for index in 0..3 {
        send(&mut opened, index).await;
    }
    let at = opened.log.header_of(EntryIndex(1)).unwrap().unwrap().position.0;
    let segment = options.log_dir.join(format!("{:020}", 0));
    let file = std::fs::File::options().write(true).open(segment).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"#", at + 100).unwrap();
    let batch = Batch { messages: vec![draft()], commands: vec![], ..Batch::default() };
    let id = RaftLogId::new(CommittedLeaderId::new(2), 3);
    let entry = LogEntry::new(id, Payload::Normal(Arc::new(batch)));
    let failed = opened.storage.append([entry], IOFlushed::noop()).await.unwrap_err();
    assert!(failed.to_string().contains("damaged"), "{failed}");
}

#[tokio::test]
async fn nobodys_messages_are_taken_while_too_much_derived_data_waits_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { unwritten_bytes: 0, ..Limits::default() };
    let mut opened = open_as(&GroupOptions { limits, ..options_alone(dir.path()) });
    let room = Arc::clone(&opened.room);
    let message =
        Proposal { messages: smallvec![draft()], commands: vec![], done: Box::new(|_| ()) };
    let command = Proposal::of_commands(vec![], |_| ());
    assert_eq!(room.refusal(&message, 0), None);
    send(&mut opened, 0).await;
    let applied = opened.storage.try_get_log_entries(..).await.unwrap();
    let applied = applied.into_iter().map(|entry| Ok((entry, None)));
    opened.machine.apply(futures_util::stream::iter(applied)).await.unwrap();
    let entries = opened.storage.try_get_log_entries(..).await.unwrap();
    let why = room.refusal(&message, 0).unwrap();
    assert!(why.ends_with("bytes of derived data wait for the disk"), "{why}");
    assert_eq!(room.refusal(&command, 0), None);
    assert_eq!(room.for_entries(&entries).now_or_never(), None);
    opened.machine.state().queues().freeze();
    opened.parts.queues.flush().unwrap();
    assert_eq!(room.refusal(&message, 0), None);
    assert_eq!(room.for_entries(&entries).now_or_never(), Some(()));
}

#[tokio::test]
async fn what_retention_took_is_not_served_even_if_its_files_cannot_be_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path());
    let disk = SimulatedDisk::new(1 << 20);
    let snapshots = SnapshotFiles::open(Arc::new(disk.clone()), "/snapshots".into()).unwrap();
    snapshots.save(PhysicalOffset(1), b"").unwrap();
    disk.stop_at(disk.step_count());
    opened.parts.snapshots = snapshots;
    let first = PhysicalOffset(1024 * 1024);
    opened.parts.drop_before(first).unwrap_err();
    assert_eq!(opened.parts.queues.alive_from("T"), first);
}

#[derive(Default)]
struct Heard(std::sync::atomic::AtomicUsize);

impl QueueListener for Heard {
    fn advanced(&self, _: &[QueueAdvance]) {}
    fn unsettled(&self, _: &str) {}
    fn replaced(&self) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

#[tokio::test]
async fn readers_that_wait_hear_of_an_installed_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path());
    let heard = Arc::new(Heard::default());
    opened.machine.state().set_listener(Arc::clone(&heard) as _);
    install(&mut opened, 100, PhysicalOffset(4096)).await;
    assert_eq!(heard.0.load(std::sync::atomic::Ordering::SeqCst), 1);
}
