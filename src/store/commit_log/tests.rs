//! The log as its users see it: appended, read, cut, purged, killed, damaged, full.
//! Long because one model of a log serves all of its cases.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use bytes::Bytes;

use super::*;
use crate::ids::{StoreId, Term};
use crate::protocol::message::{body_crc, records};
use crate::store::entry::{EntryError, HEADER_BYTES};
use crate::store::files::{FileInfo, Fill, RealFiles, SegmentFile, Space, Through};
use crate::store::mmap::{MappedBytes, Unpublished};

mod crash;
mod model;
mod repair;
mod scrub;

const SEGMENT: u64 = SEGMENT_BYTES_MIN;

// --- a disk that fails when told to ---

#[derive(Default)]
struct Faults {
    sync_fails: AtomicBool,
    full: AtomicBool,
    /// The disk can read nothing of what is mapped as finished.
    unreadable: AtomicBool,
    /// A place in a segment that the disk has lost, until it is written again; memory has it.
    lost: Mutex<Option<u64>>,
    lost_in: Mutex<PathBuf>,
    /// Pages of segments that the disk cannot read until they are written as a whole.
    bad: Mutex<BTreeSet<(PathBuf, u64)>>,
    /// A segment that takes no write.
    refuses: Mutex<PathBuf>,
    syncs: AtomicU64,
    /// The next sync says that it has begun, and waits.
    held: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
}

const PAGE: u64 = 4096;

#[derive(Default, Clone)]
struct FaultyFiles(Arc<Faults>);

struct FaultySegment(Arc<dyn SegmentFile>, Arc<Faults>, PathBuf);

impl SegmentFile for FaultySegment {
    fn map(&self) -> io::Result<Writer> {
        self.0.map()
    }
    fn write(&self, bytes: Unpublished<'_>) -> io::Result<()> {
        let range = bytes.at()..bytes.at() + bytes.bytes().len() as u64;
        self.1.lost.lock().take_if(|at| *self.1.lost_in.lock() == self.2 && range.contains(at));
        let (first, last) = (range.start / PAGE, (range.end - 1) / PAGE);
        let mut bad = self.1.bad.lock();
        let is_part = |page: u64| page * PAGE < range.start || range.end < (page + 1) * PAGE;
        let is_bad = |page| is_part(page) && bad.contains(&(self.2.clone(), page));
        if *self.1.refuses.lock() == self.2 || is_bad(first) || is_bad(last) {
            return Err(io::Error::other("medium error"));
        }
        bad.retain(|(path, page)| *path != self.2 || !(first..=last).contains(page));
        self.0.write(bytes)
    }
    fn sync(&self) -> io::Result<()> {
        self.1.syncs.fetch_add(1, Ordering::SeqCst);
        let held = self.1.held.lock().take();
        if let Some((begun, go_on)) = held {
            begun.send(()).unwrap();
            go_on.recv().unwrap();
        }
        match self.1.sync_fails.load(Ordering::SeqCst) {
            true => Err(io::Error::other("medium error")),
            false => self.0.sync(),
        }
    }
    fn zero(&self, range: std::ops::Range<u64>) -> io::Result<()> {
        self.0.zero(range)
    }
    fn read_stored(&self, at: u64, out: &mut [u8], through: Through) -> io::Result<()> {
        self.0.read_stored(at, out, through)?;
        let lost = self.1.lost.lock().filter(|_| *self.1.lost_in.lock() == self.2);
        if let Some(byte) = lost.and_then(|lost| out.get_mut(lost.checked_sub(at)? as usize)) {
            *byte = !*byte;
        }
        let bad = self.1.bad.lock();
        for (n, byte) in (at..).zip(out.iter_mut()) {
            if !bad.is_empty() && bad.contains(&(self.2.clone(), n / PAGE)) {
                *byte = 0;
            }
        }
        Ok(())
    }
}

impl Files for FaultyFiles {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealFiles.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<FileInfo>> {
        RealFiles.list(dir)
    }
    fn segment(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn SegmentFile>> {
        if self.0.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let segment = RealFiles.segment(path, bytes)?;
        Ok(Arc::new(FaultySegment(segment, Arc::clone(&self.0), path.to_owned())))
    }
    fn map(&self, path: &Path) -> io::Result<MappedBytes> {
        let mapped = RealFiles.map(path)?;
        if self.0.unreadable.load(Ordering::SeqCst) {
            OpenOptions::new().write(true).open(path)?.set_len(0)?; // the signal is the same
        }
        Ok(mapped)
    }
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        RealFiles.read(path)
    }
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        RealFiles.replace(path, content)
    }
    fn replace_with(&self, path: &Path, fill: &mut Fill<'_>) -> io::Result<()> {
        RealFiles.replace_with(path, fill)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFiles.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealFiles.sync_dir(dir)
    }
    fn space(&self, dir: &Path) -> io::Result<Space> {
        RealFiles.space(dir)
    }
}

// --- a log in a directory ---

struct Disk {
    dir: tempfile::TempDir,
    files: FaultyFiles,
    durability: Durability,
}

impl Disk {
    fn new() -> Self {
        // In memory if possible: what is tested here does not depend on how long a sync takes.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        Self { dir, files: FaultyFiles::default(), durability: Durability::Synced }
    }

    fn open_from(
        &self,
        previous_life: PreviousLife,
        from: ReplayFrom,
        committed: Option<u64>,
    ) -> Result<(CommitLog, Recovery), Error> {
        let options = LogOptions {
            dir: self.dir.path().join("commitlog"),
            segment_bytes: SEGMENT,
            durability: self.durability,
            store_id: StoreId(7),
            previous_life,
            stamp: None,
        };
        let files = Arc::new(self.files.clone());
        CommitLog::open(files, options, from, committed.map(EntryIndex))
    }

    fn open(&self, previous_life: PreviousLife) -> (CommitLog, Recovery) {
        self.open_from(previous_life, ReplayFrom::default(), None).unwrap()
    }

    fn segment(&self, number: u64) -> PathBuf {
        segment_path(&self.dir.path().join("commitlog"), number * SEGMENT)
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(self.segment(at / SEGMENT)).unwrap();
        file.write_all_at(bytes, at % SEGMENT).unwrap();
    }

    /// The disk cannot read the pages that `range` touches any more: they are zeros in memory.
    fn lose_pages(&self, range: std::ops::Range<u64>) {
        for page in range.start / PAGE..range.end.div_ceil(PAGE) {
            let (segment, at) = (self.segment(page * PAGE / SEGMENT), page * PAGE % SEGMENT);
            self.write(page * PAGE, &[0; PAGE as usize]);
            self.files.0.bad.lock().insert((segment, at / PAGE));
        }
    }

    fn has_bad_pages(&self) -> bool {
        !self.files.0.bad.lock().is_empty()
    }
}

fn id(index: u64, term: u64) -> EntryId {
    EntryId { index: EntryIndex(index), term: Term(term) }
}

fn draft(queue_id: u32, body: Vec<u8>) -> Draft {
    let host = "10.0.0.1:10911".parse().unwrap();
    Draft {
        topic: "TopicTest".into(),
        queue_id,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body_crc: body_crc(&body),
        body: Bytes::from(body),
        properties: Bytes::from_static(b"TAGS\x01TagA\x02"),
        unique_hash: None,
    }
}

/// Appends an entry with one message of `body_bytes`.
fn append(log: &CommitLog, term: u64, body_bytes: usize) -> Result<StoredEntry, Error> {
    let next = log.next_index().0;
    let drafts = [draft(0, vec![next as u8; body_bytes])];
    let body = Body::Data { drafts: &drafts, commands: b"command" };
    log.append(id(next, term), body, &mut |_| QueueOffset(next), 1000)
}

fn all(log: &CommitLog) -> Vec<StoredEntry> {
    log.entries(log.first_index(), EntryIndex(u64::MAX), u64::MAX).unwrap()
}

fn received(bytes: &[u8]) -> Result<ReceivedEntry, EntryError> {
    ReceivedEntry::take_from(&mut Bytes::copy_from_slice(bytes))
}

fn follow(log: &CommitLog, bytes: &[u8]) -> Result<StoredEntry, Error> {
    log.append_stored(&received(bytes).unwrap())
}

fn bytes(entries: &[StoredEntry]) -> Vec<Vec<u8>> {
    entries.iter().map(|entry| entry.bytes.to_vec()).collect()
}

fn wait_for_sync(log: &CommitLog) -> Result<(), Error> {
    let (tx, rx) = mpsc::channel();
    log.sync(Box::new(move |result| tx.send(result).unwrap()));
    rx.recv().unwrap()
}

// --- appending and reading ---

#[test]
fn records_know_their_place_and_time() {
    let disk = Disk::new();
    let (log, recovery) = disk.open(PreviousLife::New);
    assert_eq!((recovery.entries, recovery.last, log.last()), (0, None, None));
    log.append(id(0, 1), Body::Blank, &mut |_| unreachable!(), 5).unwrap();
    log.append(id(1, 1), Body::Membership(b"n0,n1"), &mut |_| unreachable!(), 5).unwrap();
    let drafts: Vec<Draft> = (0..3).map(|q| draft(q, vec![q as u8; 10 + q as usize])).collect();
    for (index, store_ms) in [(2, 1000), (3, 1000), (4, 1001)] {
        let body = Body::Data { drafts: &drafts, commands: b"xyz" };
        let mut next = 100 * index;
        let mut place = |d: &Draft| {
            next += u64::from(d.queue_id);
            QueueOffset(next)
        };
        let entry = log.append(id(index, 2), body, &mut place, store_ms).unwrap();
        entry.header.check_body(&entry.bytes).unwrap();
        assert_eq!((entry.header.messages, entry.commands().as_ref()), (3, b"xyz".as_slice()));
        let stored = entry.records();
        let mut at = entry.header.position.0 + HEADER_BYTES as u64;
        for (record, draft) in records(&stored).zip(&drafts) {
            let record = record.unwrap();
            assert_eq!((record.physical(), record.store_timestamp()), (at, store_ms));
            assert_eq!((record.body(), record.queue_id()), (&draft.body[..], draft.queue_id));
            let sliced = log.slice(PhysicalOffset(at), record.stored_bytes() as u32).unwrap();
            assert_eq!(sliced.as_ref(), record.bytes());
            at += record.stored_bytes() as u64;
        }
    }
    let kinds: Vec<Kind> = all(&log).iter().map(|e| e.header.kind).collect();
    assert_eq!(kinds, [Kind::Blank, Kind::Membership, Kind::Data, Kind::Data, Kind::Data]);
    assert_eq!(log.id_of(EntryIndex(1)), Some(id(1, 1)));
    assert_eq!((log.id_of(EntryIndex(5)), log.last()), (None, Some(id(4, 2))));
    assert_eq!(log.slice(log.tail(), 1).map(|b| b.len()), None);
    assert_eq!(log.segments()[0].first_store_ms, Some(1000));
}

#[test]
fn entries_never_straddle_segments() {
    let disk = Disk::new();
    let (log, _) = disk.open(PreviousLife::New);
    for n in 0..20 {
        append(&log, 1, 100_000 + n * 1000).unwrap();
    }
    let entries = all(&log);
    assert_eq!(entries.len(), 20);
    let mut tail = PhysicalOffset(0);
    for entry in &entries {
        let (at, total) = (entry.header.position, u64::from(entry.header.total));
        assert_eq!(at, place(tail, total, SEGMENT));
        assert_eq!(at.0 / SEGMENT, (at.0 + total - 1) / SEGMENT);
        tail = entry.header.end();
    }
    assert_eq!(log.tail(), tail);
    let last = entries.iter().rfind(|e| e.header.position.0 < SEGMENT).unwrap();
    let rest = &fs::read(disk.segment(0)).unwrap()[last.header.end().0 as usize..];
    assert!(rest.iter().all(|b| *b == 0) && (1..120_000).contains(&rest.len()));
    let exact = (SEGMENT - tail.0 % SEGMENT) as usize;
    let overhead = entries[0].header.total as usize - 100_000;
    append(&log, 1, exact - overhead / 8 * 8).unwrap();
    append(&log, 1, 1).unwrap();
    assert_eq!(all(&log).last().unwrap().header.position.0 % SEGMENT, 0, "filled to the byte");
    let error = append(&log, 1, SEGMENT as usize).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert_eq!(all(&log).len(), 22, "and nothing came of it");
}

#[test]
fn reading_honours_its_limits() {
    let disk = Disk::new();
    let (log, _) = disk.open(PreviousLife::New);
    (0..3000).for_each(|_| drop(append(&log, 1, 1000).unwrap()));
    let read = |from, to, max| {
        let entries = log.entries(EntryIndex(from), EntryIndex(to), max).unwrap();
        entries.iter().map(|e| e.header.index.0).collect::<Vec<_>>()
    };
    assert_eq!(read(0, 3, u64::MAX), [0, 1, 2]);
    assert_eq!(read(2998, 9999, u64::MAX), [2998, 2999]);
    assert_eq!(read(900, 910, 1), [900], "at least one");
    assert_eq!(read(900, 910, 3000), [900, 901]);
    assert_eq!(read(3000, 3001, 1), [0; 0]);
    assert_eq!(read(5, 5, 1), [0; 0]);
    assert_eq!(read(7, 5, 1), [0; 0]);
    for index in (0..3000).rev() {
        assert_eq!(log.id_of(EntryIndex(index)), Some(id(index, 1)));
    }
}

#[test]
fn a_follower_stores_the_same_bytes_and_refuses_what_does_not_fit() {
    let (leader_disk, follower_disk) = (Disk::new(), Disk::new());
    let (leader, _) = leader_disk.open(PreviousLife::New);
    let (follower, _) = follower_disk.open(PreviousLife::New);
    (0..15).for_each(|n| drop(append(&leader, 1 + n / 5, 150_000).unwrap()));
    let entries = all(&leader);
    for entry in &entries[..10] {
        follow(&follower, &entry.bytes).unwrap();
    }
    assert!(bytes(&all(&follower)) == bytes(&entries[..10]));
    assert_eq!(follower.tail(), entries[9].header.end());
    let refused = |bytes: &[u8]| follow(&follower, bytes).unwrap_err();
    assert!(matches!(refused(&entries[11].bytes), Error::OutOfOrder { .. }));
    assert!(matches!(refused(&entries[9].bytes), Error::OutOfOrder { .. }));
    let moved = |change: &dyn Fn(&mut Header)| {
        let (mut header, mut bytes) = (entries[10].header, entries[10].bytes.to_vec());
        change(&mut header);
        header.write(bytes.first_chunk_mut().unwrap());
        refused(&bytes)
    };
    assert!(matches!(moved(&|h| h.position.0 += 8), Error::Misplaced { .. }));
    assert!(matches!(moved(&|h| h.position.0 += 2 * SEGMENT), Error::Misplaced { .. }));
    assert!(matches!(moved(&|h| h.term = Term(1)), Error::TermBackwards { .. }));
    follow(&follower, &entries[10].bytes).unwrap();
    assert!(bytes(&all(&follower)) == bytes(&entries[..11]));
}

#[test]
fn a_damaged_entry_is_read_by_nobody_and_named() {
    let disk = Disk::new();
    let (log, _) = disk.open(PreviousLife::New);
    (0..10).for_each(|_| drop(append(&log, 1, 1000).unwrap()));
    let entries = all(&log);
    let Header { position, body_crc, .. } = entries[6].header;
    disk.write(position.0 + 500, b"#");
    let read = |from, to| log.entries(EntryIndex(from), EntryIndex(to), u64::MAX);
    assert_eq!((read(0, 6).unwrap().len(), read(7, 10).unwrap().len()), (6, 3));
    let error = read(0, 10).unwrap_err();
    assert!(matches!(error, Error::Damaged { index: EntryIndex(6), .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("position {position}, entry 6")), "{text}");
    assert!(text.contains(&format!("instead of {body_crc:#010x}")), "{text}");
}

#[test]
fn what_was_overwritten_with_zeros_is_damage_where_it_lies() {
    let disk = Disk::new();
    let (log, _) = disk.open(PreviousLife::New);
    (0..25).for_each(|_| drop(append(&log, 1, 100_000).unwrap()));
    let entries = all(&log);
    let last_of_first = entries.iter().rposition(|e| e.header.position.0 < SEGMENT).unwrap();
    for hurt in [0, 5, last_of_first, last_of_first + 1, 24] {
        let header = entries[hurt].header;
        let kept = entries[hurt].bytes.to_vec();
        disk.write(header.position.0, &[0; HEADER_BYTES]);
        for from in [0, hurt as u64] {
            let error = log.entries(EntryIndex(from), EntryIndex(25), u64::MAX).unwrap_err();
            let Error::Damaged { position, index, .. } = error else { panic!("{error}") };
            assert_eq!((position, index), (header.position, header.index), "from {from}");
        }
        assert_eq!(log.first_position(), PhysicalOffset(0));
        disk.write(header.position.0, &kept);
    }
}

#[test]
fn a_purge_deletes_nothing_behind_it_although_what_follows_is_damaged() {
    let disk = Disk::new();
    let (log, _) = disk.open(PreviousLife::New);
    (0..40).for_each(|_| drop(append(&log, 1, 100_000).unwrap()));
    let hurt = all(&log)[15].header;
    disk.write(hurt.position.0, b"#");
    log.purge_through(EntryIndex(14)).unwrap();
    assert_eq!(log.first_position(), hurt.position);
    assert_eq!(log.segments().len(), 3);
    assert_eq!(log.entries(EntryIndex(16), EntryIndex(40), u64::MAX).unwrap().len(), 24);
}

// --- cutting and purging ---

#[test]
fn what_was_taken_back_never_returns_and_readers_keep_what_they_had() {
    let disk = Disk::new();
    let (log, _) = disk.open(PreviousLife::New);
    (0..25).for_each(|_| drop(append(&log, 5, 100_000).unwrap()));
    let before = all(&log);
    let copies = bytes(&before);
    log.truncate_from(EntryIndex(8)).unwrap();
    assert_eq!((log.last(), log.tail()), (Some(id(7, 5)), before[7].header.end()));
    assert_eq!(log.durable(), log.tail());
    assert!(!disk.segment(1).exists() || !disk.segment(2).exists());
    // Of the same length as what it replaces, and of a lower term than what was behind it.
    log.truncate_from(EntryIndex(3)).unwrap();
    append(&log, 5, 100_000).unwrap();
    append(&log, 5, 50_000).unwrap();
    assert!(bytes(&before) == copies);
    let after = bytes(&all(&log));
    log.close().unwrap();
    let (log, recovery) = disk.open(PreviousLife::Killed);
    assert!(bytes(&all(&log)) == after && recovery.entries == 5);
    assert!(bytes(&before) == copies);
    log.truncate_from(EntryIndex(99)).unwrap();
    log.truncate_from(EntryIndex(0)).unwrap();
    assert_eq!(
        (log.last(), log.tail(), log.next_index()),
        (None, PhysicalOffset(0), EntryIndex(0))
    );
    append(&log, 1, 10).unwrap();
}

#[test]
fn who_looks_while_segments_are_purged_sees_where_the_log_begins() {
    let disk = Disk::new();
    let (log, _) = disk.open(PreviousLife::New);
    let (is_over, purged) = (AtomicBool::new(false), AtomicU64::new(0));
    // More than there are cores: they are interrupted anywhere.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let first = log.first_position();
                    let known = purged.load(Ordering::SeqCst);
                    assert!(first.0 <= known + 400_000, "{first} of {known}");
                }
            });
        }
        for n in 0..1200 {
            drop(append(&log, 3, 200_000).unwrap());
            let Some(old) = (n as u64).checked_sub(20) else { continue };
            let end = log.header_of(EntryIndex(old)).unwrap().unwrap().end();
            purged.store(end.0, Ordering::SeqCst);
            log.purge_through(EntryIndex(old)).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn purged_entries_are_forgotten_for_good_and_whole_segments_deleted() {
    let disk = Disk::new();
    let (log, _) = disk.open(PreviousLife::New);
    (0..40).for_each(|_| drop(append(&log, 3, 100_000).unwrap()));
    let entries = all(&log);
    let held = log.slice(PhysicalOffset(0), 1000).unwrap();
    let copy = held.to_vec();
    log.purge_through(EntryIndex(14)).unwrap();
    assert_eq!((log.first_index(), log.purged()), (EntryIndex(15), Some(id(14, 3))));
    assert_eq!(log.first_position(), entries[15].header.position);
    assert_eq!((held.to_vec(), log.slice(PhysicalOffset(0), 1000).is_none()), (copy, true));
    let gone = log.entries(EntryIndex(14), EntryIndex(20), 1).unwrap_err();
    assert!(matches!(gone, Error::Purged { first: EntryIndex(15), .. }), "{gone}");
    assert!(matches!(log.truncate_from(EntryIndex(14)), Err(Error::Purged { .. })));
    log.purge_through(EntryIndex(3)).unwrap();
    assert!(matches!(log.purge_through(EntryIndex(40)), Err(Error::Beyond { .. })));
    log.close().unwrap();
    assert!(!disk.segment(0).exists() && disk.segment(1).exists());
    let from =
        ReplayFrom { position: entries[19].header.end(), index: EntryIndex(20), previous: None };
    let (log, _) = disk.open_from(PreviousLife::Killed, from, None).unwrap();
    assert_eq!((log.first_index(), log.purged()), (EntryIndex(15), Some(id(14, 3))));
    assert!(bytes(&all(&log)) == bytes(&entries[15..]));
    log.purge_through(EntryIndex(39)).unwrap();
    assert_eq!((log.last(), log.first_position()), (Some(id(39, 3)), log.tail()));
    append(&log, 4, 10).unwrap();
    assert_eq!(all(&log).len(), 1);
    log.close().unwrap();
    let early = disk.open_from(PreviousLife::Killed, ReplayFrom::default(), None);
    assert!(matches!(early, Err(Error::Purged { .. })), "nothing to replay from");
}

#[test]
fn after_a_snapshot_the_log_goes_on_where_the_snapshot_ends() {
    let far = (PhysicalOffset(10 * SEGMENT + 4096), id(500, 7));
    let from = ReplayFrom { position: far.0, index: EntryIndex(501), previous: None };
    let disk = Disk::new();
    let (log, _) = disk.open(PreviousLife::New);
    (0..25).for_each(|_| drop(append(&log, 3, 100_000).unwrap()));
    log.begin_reset(far.0, far.1).unwrap();
    log.close().unwrap();
    let (log, _) = disk.open(PreviousLife::Killed); // the checkpoint was not written
    assert_eq!(all(&log).len(), 25);
    log.begin_reset(far.0, far.1).unwrap();
    log.close().unwrap();
    for _ in 0..2 {
        let (log, _) = disk.open_from(PreviousLife::Killed, from, None).unwrap(); // it was
        assert_eq!((log.last(), log.tail(), all(&log).len()), (Some(far.1), far.0, 0));
        log.reset(far.0, far.1).unwrap();
        log.close().unwrap();
    }
    let (log, _) = disk.open_from(PreviousLife::Killed, from, None).unwrap();
    assert_eq!((log.first_index(), log.durable()), (EntryIndex(501), far.0));
    append(&log, 7, 10).unwrap();
    append(&log, 8, 900_000).unwrap();
    append(&log, 8, 900_000).unwrap();
    assert_eq!(all(&log)[0].header.position, far.0);
    let entries = bytes(&all(&log));
    log.truncate_from(EntryIndex(503)).unwrap();
    log.close().unwrap();
    let (log, recovery) = disk.open_from(PreviousLife::Killed, from, None).unwrap();
    assert_eq!((recovery.entries, bytes(&all(&log))), (2, entries[..2].to_vec()));
    log.truncate_from(EntryIndex(501)).unwrap();
    assert_eq!((log.last(), log.tail()), (Some(far.1), far.0));
}

#[test]
fn a_snapshot_of_what_the_log_holds_costs_none_of_its_entries() {
    let disk = Disk::new();
    let (log, _) = disk.open(PreviousLife::New);
    (0..10).for_each(|_| drop(append(&log, 3, 100).unwrap()));
    let entries = all(&log);
    let end = entries[5].header.end();
    log.begin_reset(end, id(5, 3)).unwrap();
    log.close().unwrap();
    let from = ReplayFrom { position: end, index: EntryIndex(6), previous: None };
    let (log, recovery) = disk.open_from(PreviousLife::Killed, from, None).unwrap();
    assert_eq!((recovery.entries, log.last()), (4, Some(id(9, 3))));
    log.reset(end, id(5, 3)).unwrap();
    assert!(bytes(&all(&log)) == bytes(&entries[6..]));
    log.reset(end, id(5, 4)).unwrap(); // of another term: not what the log held
    assert_eq!((all(&log).len(), log.last(), log.tail()), (0, Some(id(5, 4)), end));
}

#[test]
fn a_snapshot_of_a_segment_boundary_costs_none_of_the_entries_behind_it() {
    let disk = Disk::new();
    let (log, _) = disk.open(PreviousLife::New);
    (0..25).for_each(|_| drop(append(&log, 3, 100_000).unwrap()));
    let entries = all(&log);
    let at = entries.iter().position(|entry| entry.header.position.0 == SEGMENT).unwrap();
    let (boundary, last) = (PhysicalOffset(SEGMENT), entries[at - 1].header.id());
    assert!(entries[at - 1].header.end() < boundary);
    log.begin_reset(boundary, last).unwrap();
    log.close().unwrap();
    let from = ReplayFrom { position: boundary, index: last.index.next(), previous: Some(last) };
    let (log, _) = disk.open_from(PreviousLife::Killed, from, None).unwrap();
    assert!(bytes(&all(&log)) == bytes(&entries));
    log.reset(boundary, last).unwrap();
    assert!(bytes(&all(&log)) == bytes(&entries[at..]));
}

#[test]
fn a_snapshot_that_goes_on_elsewhere_than_the_log_starts_it_anew() {
    let disk = Disk::new();
    let (log, _) = disk.open(PreviousLife::New);
    (0..5).for_each(|_| drop(append(&log, 3, 100_000).unwrap()));
    // What the log holds behind entry 3 is not what was committed there.
    log.reset(PhysicalOffset(SEGMENT), id(3, 3)).unwrap();
    let stands = (all(&log).len(), log.last(), log.tail());
    assert_eq!(stands, (0, Some(id(3, 3)), PhysicalOffset(SEGMENT)));
}

// --- durability ---

#[test]
fn a_failed_sync_poisons_the_log_for_good() {
    let disk = Disk::new();
    let (log, _) = disk.open(PreviousLife::New);
    append(&log, 1, 10).unwrap();
    wait_for_sync(&log).unwrap();
    let durable = (log.durable(), log.durable_index());
    assert_eq!(durable, (log.tail(), Some(EntryIndex(0))));
    append(&log, 1, 10).unwrap();
    disk.files.0.sync_fails.store(true, Ordering::SeqCst);
    let error = wait_for_sync(&log).unwrap_err();
    assert!(error.to_string().contains("medium error"), "{error}");
    disk.files.0.sync_fails.store(false, Ordering::SeqCst);
    let syncs = disk.files.0.syncs.load(Ordering::SeqCst);
    for result in [
        wait_for_sync(&log),
        log.sync_now(),
        append(&log, 1, 10).map(drop),
        follow(&log, &all(&log)[1].bytes).map(drop),
        log.truncate_from(EntryIndex(0)),
        log.purge_through(EntryIndex(0)),
        log.reset(PhysicalOffset(0), id(0, 1)),
        log.check(),
    ] {
        assert!(matches!(&result, Err(Error::Poisoned { cause }) if cause.contains("medium")));
    }
    assert_eq!(disk.files.0.syncs.load(Ordering::SeqCst), syncs, "no second try");
    assert_eq!((log.durable(), log.durable_index()), durable);
    assert_eq!(all(&log).len(), 2, "reading goes on");
}

#[test]
fn in_the_page_cache_is_at_once_and_the_disk_follows() {
    let disk = Disk { durability: Durability::PageCache, ..Disk::new() };
    let (log, _) = disk.open(PreviousLife::New);
    append(&log, 1, 10).unwrap();
    let (tx, rx) = mpsc::channel();
    log.sync(Box::new(move |result| tx.send(result.is_ok()).unwrap()));
    assert_eq!(rx.try_recv(), Ok(true));
    log.sync_now().unwrap();
    assert_eq!(log.durable(), log.tail());
    assert!(log.sync_stats().count > 0);
    log.close().unwrap();
    assert!(matches!(append(&log, 1, 10), Err(Error::Closed)));
    assert!(matches!(wait_for_sync(&log), Err(Error::Closed)));
}

#[test]
fn an_entry_without_room_takes_no_queue_offsets() {
    let disk = Disk::new();
    let (log, _) = disk.open(PreviousLife::New);
    disk.files.0.full.store(true, Ordering::SeqCst);
    let drafts = [draft(0, vec![7; 1000])];
    let body = Body::Data { drafts: &drafts, commands: b"" };
    let mut asked = 0;
    let mut place = |_: &Draft| {
        asked += 1;
        QueueOffset(0)
    };
    log.append(id(0, 1), body, &mut place, 1000).unwrap_err();
    assert_eq!(asked, 0, "they are assigned to what is written, and to nothing else");
}

#[test]
fn a_full_disk_refuses_the_entry_and_nothing_else() {
    let disk = Disk::new();
    let (log, _) = disk.open(PreviousLife::New);
    append(&log, 1, 10).unwrap();
    disk.files.0.full.store(true, Ordering::SeqCst);
    let error = loop {
        match append(&log, 1, 100_000) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    let before = all(&log).len();
    assert!(append(&log, 1, 100_000).is_err());
    assert!(log.allocated_ahead() < 200_000);
    disk.files.0.full.store(false, Ordering::SeqCst);
    append(&log, 1, 100_000).unwrap();
    assert_eq!(all(&log).len(), before + 1);
}

#[test]
fn odd_segment_sizes_are_refused() {
    // Simulated groups have segments of an eighth.
    for segment_bytes in [0, 4096, SEGMENT / 8 - 4096, SEGMENT + 8, SEGMENT_BYTES_MAX + 4096] {
        let options = LogOptions {
            dir: PathBuf::from("/nowhere"),
            segment_bytes,
            durability: Durability::Synced,
            store_id: StoreId(7),
            previous_life: PreviousLife::New,
            stamp: None,
        };
        let opened = CommitLog::open(Arc::new(RealFiles), options, ReplayFrom::default(), None);
        assert!(matches!(opened, Err(Error::BadSegmentBytes { .. })));
    }
}
