//! A member's store, stopped at every step of what it does to its disk, by a kill or by a power
//! loss that keeps any part of what was not synced. Whatever it had promised must be there when it
//! is opened again: votes, entries, checkpoints; and what it took back must not.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use openraft::entry::RaftEntry as _;
use openraft::storage::{
    IOFlushed, RaftLogReader, RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine,
};

use super::applied::Captured;
use super::checkpointer::StoreParts;
use super::group::GroupOptions;
use super::group_tests::{draft, options_alone, until};
use super::log_store::LogStore;
use super::state_machine::StateMachine;
use super::type_config::{Batch, LogEntry, Payload, RaftLogId, ballot, log_id};
use super::{StartError, open, snapshot};
use crate::ids::{EntryIndex, PhysicalOffset, QueueOffset, StoreId, Term};
use crate::protocol::message::records;
use crate::store::entry::Header;
use crate::store::simulated_disk::{NameOrder, SimulatedDisk};
use crate::store::{self, CommitLog, Durability, EntryId, Files};

const SEGMENT: u64 = 1 << 20;
/// A body of which three fill a segment.
const LARGE: usize = 300_000;

type Failed = Box<dyn Error>;

/// A store that is open.
struct Store {
    held: open::HeldStore,
    vote: Option<store::Vote>,
    log: CommitLog,
    storage: LogStore,
    machine: StateMachine,
    parts: StoreParts,
}

/// A group of one in `dir`.
fn options(dir: &Path) -> GroupOptions {
    let group = options_alone(dir);
    GroupOptions { segment_bytes: SEGMENT, durability: Durability::Synced, ..group }
}

impl Store {
    fn open(disk: &SimulatedDisk, dir: &Path) -> Result<Self, StartError> {
        let opened = open::open_undamaged(Arc::new(disk.clone()), &options(dir))?;
        let vote = opened.votes.vote();
        let (log, mut machine) = (opened.log, opened.machine);
        let offered = now(machine.get_current_snapshot()).unwrap();
        if offered.is_some_and(|offered| offered.snapshot.is_empty()) {
            let why = "the snapshot at the log's start is lost".to_owned();
            return Err(StartError::Core { why });
        }
        let state = machine.state().clone();
        let storage = LogStore::new(log.clone(), opened.votes, state, opened.room, opened.repairs);
        Ok(Self { held: opened.store, vote, log, storage, machine, parts: opened.parts })
    }

    fn id_of(&self, index: u64) -> RaftLogId {
        log_id(self.log.id_of(EntryIndex(index)).unwrap())
    }

    fn entries(&self) -> Result<Vec<store::StoredEntry>, store::Error> {
        self.log.entries(self.log.first_index(), EntryIndex(u64::MAX), u64::MAX)
    }

    /// Applies what is committed up to `index`.
    fn apply_to(&mut self, index: u64) -> std::io::Result<()> {
        let from = self.machine.state().progress().last.map_or(0, |last| last.index.0 + 1);
        let entries = now(self.storage.try_get_log_entries(from..=index))?;
        let entries = entries.into_iter().map(|entry| Ok((entry, None)));
        now(self.machine.apply(futures_util::stream::iter(entries)))
    }
}

/// Nothing here waits for anybody.
fn now<T>(step: impl Future<Output = T>) -> T {
    step.now_or_never().unwrap()
}

/// What the store has said, and what it may have done since.
#[derive(Clone, Default)]
struct Promised {
    /// The vote that was saved last, and one that may have been.
    votes: Vec<Option<(u64, u64)>>,
    /// Entries that are durable, by index.
    kept: BTreeMap<u64, Header>,
    /// All that was ever appended.
    appended: Vec<Header>,
    /// Entries that were taken back for good.
    gone: BTreeSet<(u64, u64)>,
    /// The log starts here or later.
    first: u64,
    /// A start applies from here on, or later.
    applied: Option<u64>,
}

/// A history of one store.
struct Life<'a> {
    store: Store,
    disk: SimulatedDisk,
    promised: &'a mut Promised,
}

impl Life<'_> {
    fn vote(&mut self, term: u64, candidate: u64) -> Result<(), Failed> {
        self.promised.votes.push(Some((term, candidate)));
        now(self.store.storage.save_vote(&ballot(Term(term), StoreId(candidate), false)))?;
        self.promised.votes.drain(..self.promised.votes.len() - 1);
        Ok(())
    }

    fn append(&mut self, term: u64, count: u64, body: usize) -> Result<(), Failed> {
        let next = self.store.log.next_index().0;
        let entries: Vec<_> = (next..next + count)
            .map(|index| {
                let text = format!("{index} in {term} {}", "x".repeat(body));
                let messages = vec![draft("T", (index % 2) as u32, &text)];
                let batch = Batch { messages, ..Batch::default() };
                let id = EntryId { index: EntryIndex(index), term: Term(term) };
                LogEntry::new(log_id(id), Payload::Normal(Arc::new(batch)))
            })
            .collect();
        let appended = now(self.store.storage.append(entries, IOFlushed::noop()));
        let there = self.store.log.entries(EntryIndex(next), EntryIndex(u64::MAX), u64::MAX)?;
        self.promised.appended.extend(there.iter().map(|entry| entry.header));
        appended?;
        self.store.log.sync_now()?;
        let durable = there.into_iter().map(|entry| (entry.header.index.0, entry.header));
        self.promised.kept.extend(durable);
        self.settle()
    }

    /// Waits for the threads of the log, so that steps come in the same order each time.
    fn settle(&self) -> Result<(), Failed> {
        Ok(self.store.log.wait_for_segment()?)
    }

    fn truncate_from(&mut self, index: u64) -> Result<(), Failed> {
        self.promised.kept.split_off(&index);
        let back = self.store.entries()?.into_iter().map(|e| (e.header.index.0, e.header.term.0));
        let back: Vec<_> = back.filter(|(at, _)| *at >= index).collect();
        let last = self.store.id_of(index - 1);
        now(self.store.storage.truncate_after(Some(last)))?;
        self.promised.gone.extend(back);
        self.settle()
    }

    fn commit(&mut self, index: u64) -> Result<(), Failed> {
        let id = self.store.id_of(index);
        now(self.store.storage.save_committed(Some(id)))?;
        Ok(self.store.apply_to(index)?)
    }

    fn checkpoint(&mut self) -> Result<(), Failed> {
        let Store { machine, parts, .. } = &self.store;
        let mut crossed = machine.take_crossed();
        parts.queues.freeze();
        let captured = machine.state().capture();
        parts.checkpoint(&captured, &mut crossed)?;
        self.promised.applied = captured.progress.last.map(|last| last.index.0);
        while parts.queues.merge(captured.progress.position)? {}
        Ok(())
    }

    /// As retention and openraft do it: the snapshot first, then the log, then what is derived.
    fn purge(&mut self) -> Result<(), Failed> {
        let all = PhysicalOffset(0)..PhysicalOffset(u64::MAX);
        let highest = self.store.parts.snapshots.highest(all.start, all.end)?;
        self.store.machine.want_snapshot(highest.unwrap());
        let snapshot = now(self.store.machine.build_snapshot())?;
        let upto = snapshot.meta.last_log_id.unwrap();
        self.promised.kept = self.promised.kept.split_off(&(upto.index + 1));
        now(self.store.storage.purge(upto))?;
        self.promised.first = upto.index + 1;
        let (log_dir, files) = (&options(&self.store.parts.dir).log_dir, &self.disk);
        let first = self.store.log.segments()[0].base.0;
        until("old segments are deleted", || {
            let Ok(listed) = files.list(log_dir) else { return Some(()) };
            let old =
                |file: &store::files::FileInfo| file.name.parse().is_ok_and(|n: u64| n < first);
            (!listed.iter().any(old)).then_some(())
        });
        let first = self.store.log.first_position();
        self.store.parts.snapshots.remove_before(first)?;
        Ok(self.store.parts.queues.drop_before(first)?)
    }

    /// A leader sends the state after an entry that is not in this log.
    fn install(&mut self) -> Result<(), Failed> {
        let Captured { mut progress, tables, next } = self.store.machine.state().capture();
        let last = EntryId { index: EntryIndex(self.store.log.next_index().0 + 10), term: Term(5) };
        progress.last = Some(last);
        progress.position = PhysicalOffset(self.store.log.tail().0 + 2 * SEGMENT + 4096);
        let bytes = snapshot::encode(&Captured { progress, tables, next });
        let meta = openraft::storage::SnapshotMeta {
            last_log_id: Some(log_id(last)),
            ..Default::default()
        };
        self.promised.kept.clear();
        now(self.store.machine.install_snapshot(&meta, Bytes::from(bytes)))?;
        self.promised.applied = Some(last.index.0);
        now(self.store.storage.purge(log_id(last)))?;
        self.promised.first = last.index.0 + 1;
        self.settle()
    }

    fn close(&mut self) -> Result<(), Failed> {
        self.checkpoint()?;
        self.store.log.close()?;
        Ok(self.store.held.stamp.mark_clean()?)
    }
}

/// Everything that a store is ever told to do.
fn history(life: &mut Life<'_>) -> Result<(), Failed> {
    life.settle()?;
    life.vote(1, 7)?;
    life.append(1, 2, 100)?;
    life.append(1, 4, LARGE)?; // rolls
    life.commit(3)?;
    life.checkpoint()?;
    life.append(1, 1, LARGE)?;
    life.commit(5)?;
    life.checkpoint()?; // a boundary was crossed
    life.vote(2, 8)?;
    life.append(1, 3, LARGE)?; // rolls again, and is never committed
    life.vote(3, 9)?;
    life.truncate_from(6)?; // back over a boundary
    life.append(3, 1, 100)?;
    life.append(3, 3, LARGE)?;
    life.truncate_from(9)?; // within a segment
    life.append(4, 4, LARGE)?;
    life.commit(12)?;
    life.checkpoint()?;
    life.purge()?;
    life.append(4, 2, 50)?;
    life.install()?;
    life.vote(5, 7)?;
    life.append(5, 3, LARGE)?;
    let last = life.store.log.last().unwrap().index.0;
    life.commit(last - 1)?;
    life.close()
}

/// Runs the history on `disk` until it stops, if it does; what was promised until then.
fn live(disk: &SimulatedDisk, dir: &Path) -> (Promised, Result<(), String>) {
    let mut promised = Promised { votes: vec![None], ..Promised::default() };
    let ended = match Store::open(disk, dir) {
        Err(error) => Err(error.to_string()),
        Ok(store) => {
            let mut life = Life { store, disk: disk.clone(), promised: &mut promised };
            history(&mut life).map_err(|error| error.to_string())
        }
    };
    (promised, ended)
}

/// How a machine comes back.
#[derive(Debug, Clone, Copy)]
enum Return {
    /// The process was killed.
    Killed,
    /// The power failed; of what was not synced nothing, everything, or a part survives.
    Nothing,
    Everything,
    Part {
        seed: u64,
        order: NameOrder,
    },
}

impl Return {
    fn disk(self, disk: &SimulatedDisk, dir: &Path) -> SimulatedDisk {
        let power_loss = |order, survives: &mut dyn FnMut() -> bool| {
            let after = disk.after_power_loss(order, &mut |_| survives()).unwrap();
            start_machine(&after, dir);
            after
        };
        match self {
            Self::Killed => disk.after_kill().unwrap(),
            Self::Nothing => power_loss(NameOrder::Kept, &mut || false),
            Self::Everything => power_loss(NameOrder::Kept, &mut || true),
            Self::Part { seed, order } => {
                let mut random = fastrand::Rng::with_seed(seed);
                let share = [0.1, 0.5, 0.9][random.usize(..3)];
                power_loss(order, &mut || random.f64() < share)
            }
        }
    }
}

/// The stamp knows a life of the machine by an id that the kernel draws.
pub(super) fn start_machine(disk: &SimulatedDisk, dir: &Path) {
    let path = dir.join("store.json");
    if let Some(stamp) = disk.read(&path).unwrap() {
        let mut stamp: serde_json::Value = serde_json::from_slice(&stamp).unwrap();
        stamp["boot_id"] = "of the life before".into();
        disk.replace(&path, &serde_json::to_vec(&stamp).unwrap()).unwrap();
    }
}

/// What is found is what was promised, nothing that was taken back, and it can be worked with.
/// Entries are known by their headers: reading them compares the rest.
fn check(store: &mut Store, promised: &Promised) -> Result<(), Failed> {
    let vote = store.vote.map(told);
    expect(promised.votes.contains(&vote), || format!("{vote:?} of {:?}", promised.votes))?;
    let applied = store.machine.state().progress().last.map(|last| last.index.0);
    expect(applied >= promised.applied, || format!("{applied:?} of {:?}", promised.applied))?;
    let first = store.log.first_index().0;
    expect(first >= promised.first, || format!("first {first} of {}", promised.first))?;
    let second = store.log.segments().get(1).map(|segment| segment.first.0);
    expect(second.is_none_or(|second| second > first), || {
        format!("nothing of the first segment is kept: {first}, {second:?}")
    })?;
    let entries = store.entries()?;
    for (entry, index) in entries.iter().zip(first..) {
        let id = (index, entry.header.term.0);
        expect(entry.header.index.0 == index, || format!("{} at {index}", entry.header.index))?;
        expect(!promised.gone.contains(&id), || format!("{id:?} is back"))?;
        expect(promised.appended.contains(&entry.header), || format!("{id:?} is new"))?;
    }
    for (index, header) in &promised.kept {
        let is_there = entries.iter().any(|entry| entry.header == *header);
        expect(is_there, || format!("{index} is lost, {} from {first} are there", entries.len()))?;
    }
    if let Some(last) = store.log.last().map(|last| last.index.0).filter(|l| Some(*l) > applied) {
        store.apply_to(last)?;
    }
    for entry in &entries {
        for record in records(&entry.records()) {
            let record = record?;
            let offset = QueueOffset(record.queue_offset());
            let unit = store.parts.queues.unit(record.topic(), record.queue_id(), offset)?;
            let is_right = unit.is_some_and(|unit| unit.physical.0 == record.physical());
            expect(is_right, || format!("{unit:?} for the message at {}", record.physical()))?;
        }
    }
    Ok(())
}

fn told(vote: store::Vote) -> (u64, u64) {
    (vote.term.0, vote.voted_for.unwrap_or_default().0)
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(otherwise().into()) }
}

/// Opens what came back, twice: what a first start mended must be right for the next one.
fn come_back(disk: &SimulatedDisk, dir: &Path, promised: &Promised) -> Result<(), Failed> {
    let mut promised = promised.clone();
    let mut store = Store::open(disk, dir)?;
    for (dir, start) in [(dir.to_owned(), "checkpoint-"), (dir.join("snapshots"), "")] {
        let unfinished = |name: &str| name.starts_with(start) && name.ends_with(".tmp");
        let left = disk.list(&dir)?.into_iter().find(|file| unfinished(&file.name));
        expect(left.is_none(), || format!("{left:?} is left over"))?;
    }
    check(&mut store, &promised)?;
    // What was found is acted upon from now on.
    promised.votes = vec![store.vote.map(told)];
    promised.kept = store.entries()?.into_iter().map(|e| (e.header.index.0, e.header)).collect();
    let term = store.log.last().map_or(9, |last| last.term.0.max(9));
    let mut life = Life { store, disk: disk.clone(), promised: &mut promised };
    life.append(term, 1, 10)?;
    drop(life);
    let mut store = Store::open(&Return::Nothing.disk(disk, dir), dir)?;
    Ok(check(&mut store, &promised).map_err(|error| format!("the second time: {error}"))?)
}

fn steps_of_a_history() -> (usize, Vec<String>) {
    let (dir, disk) = (tempfile::tempdir().unwrap(), SimulatedDisk::new(1 << 30));
    let (_, ended) = live(&disk, dir.path());
    ended.unwrap();
    (disk.steps().len(), disk.steps())
}

fn stopped_at(step: usize, dir: &Path) -> (SimulatedDisk, Promised) {
    let disk = SimulatedDisk::new(1 << 30);
    disk.stop_at(step);
    let (promised, _) = live(&disk, dir);
    (disk, promised)
}

fn dir() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    (dir, path)
}

#[test]
fn whatever_step_is_the_last_and_whatever_survives_what_was_promised_is_there() {
    let (count, steps) = steps_of_a_history();
    let (_held, dir) = dir();
    let mut failures = Vec::new();
    for (step, name) in steps.iter().enumerate().take(count) {
        let (disk, promised) = stopped_at(step, &dir);
        let part = |seed, order| Return::Part { seed: (step * 8) as u64 + seed, order };
        for how in [
            Return::Killed,
            Return::Nothing,
            Return::Everything,
            part(0, NameOrder::Kept),
            part(1, NameOrder::Kept),
            part(2, NameOrder::Any),
        ] {
            if let Err(error) = come_back(&how.disk(&disk, &dir), &dir, &promised) {
                failures.push(format!("stopped at {step} ({name}), {how:?}: {error}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// The kernel calls clean what a failed sync did not write, and may forget it.
#[test]
fn whatever_sync_fails_what_was_promised_is_there() {
    let (_held, dir) = dir();
    let disk = SimulatedDisk::new(1 << 30);
    live(&disk, &dir).1.unwrap();
    let mut failures = Vec::new();
    for sync in 0..disk.sync_count() {
        let disk = SimulatedDisk::new(1 << 30);
        disk.fail_sync(sync);
        let (promised, ended) = live(&disk, &dir);
        for (how, forgets) in
            [(Return::Killed, false), (Return::Killed, true), (Return::Nothing, false)]
        {
            let next = how.disk(&disk, &dir);
            if forgets {
                next.forget().unwrap();
            }
            if let Err(error) = come_back(&next, &dir, &promised) {
                failures.push(format!(
                    "sync {sync} failed ({ended:?}), {how:?}, forgotten {forgets}: {error}"
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Two faults in a row: the second one while the first is mended.
#[test]
fn a_start_that_is_interrupted_at_any_step_is_made_up_for_by_the_next() {
    let (count, steps) = steps_of_a_history();
    let (_held, dir) = dir();
    let mut random = fastrand::Rng::with_seed(1);
    let mut failures = Vec::new();
    for step in (0..count).step_by(2) {
        let (disk, promised) = stopped_at(step, &dir);
        let first = match step % 4 {
            0 => Return::Nothing,
            _ => Return::Part { seed: random.u64(..), order: NameOrder::Kept },
        };
        let lost = Return::Part { seed: random.u64(..), order: NameOrder::Kept };
        let probe = first.disk(&disk, &dir);
        let before = probe.steps().len();
        let opened = Store::open(&probe, &dir).map(drop);
        let mending = &probe.steps()[before..];
        let at = random.usize(..mending.len());
        // Segments that go together leave no hole.
        let removals = (0..mending.len()).filter(|at| mending[*at].starts_with("remove 0000"));
        for at in removals.chain([at]).map(|at| before + at) {
            let again = first.disk(&disk, &dir);
            again.stop_at(at);
            let interrupted = Store::open(&again, &dir).map(drop);
            for second in [lost, Return::Killed] {
                if let Err(error) = come_back(&second.disk(&again, &dir), &dir, &promised) {
                    failures.push(format!(
                        "stopped at {step} ({}), {first:?}, then at {at} ({interrupted:?}), \
                         {second:?}: {error}",
                        steps[step]
                    ));
                }
            }
        }
        if let Err(error) = opened {
            failures.push(format!("stopped at {step} ({}), {first:?}: {error}", steps[step]));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
