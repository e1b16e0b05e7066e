//! The CommitLog, which is the Raft log: entries of messages and commands, in one address space of
//! fixed-size files.
//!
//! ```text
//!  purged │ first_position ───── applied ≤ committed ───── tail │ zeros … next segment, prepared
//!                                        durable ≤ tail
//! ```
//!
//! One thread writes (the raft thread): `append`, `append_stored`, `truncate_from`,
//! `purge_through`, `reset`. Repairs come from others and are short under its lock: `repair`,
//! `write_again`. Any number of threads read, without a lock that a writer holds for longer than it
//! takes to copy a few numbers. What a reader has got never changes: not when the
//! log is cut or repaired (see [`super::mmap`]), not when the segment is deleted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use super::entry::{EntryId, Header, Kind, ReceivedEntry, StoredEntry, crc32c, total_bytes};
use super::error::Error;
use super::files::Files;
use super::flush::{BACKGROUND_SYNC_MS, Durability, SyncCounters, SyncDone, SyncStats, Syncer};
use super::mmap::Writer;
use super::prepare::{Preparer, segment_path};
use super::purge_point::{LogStart, PurgePoint};
use super::recovery::{self, Recovery};
use super::segment::{Segment, base_of, damaged, place};
use super::store_file::{PreviousLife, StoreFile};
use crate::clock;
use crate::ids::{EntryIndex, PhysicalOffset, QueueOffset, StoreId};
use crate::protocol::message::{Draft, RecordPlace};
use reading::find;

/// Smallest segment.
pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// Largest segment.
pub const SEGMENT_BYTES_MAX: u64 = 32 << 30;

/// Room for encoding that is kept from one entry to the next: most entries are smaller.
const ENCODED_BYTES_KEPT: usize = 2 << 20;

/// Where and how the log is kept.
#[derive(Clone)]
pub struct LogOptions {
    /// Directory of the segment files.
    pub dir: PathBuf,
    /// Size of each: 1 MiB to 32 GiB, a multiple of 4096, the same on all members.
    pub segment_bytes: u64,
    /// When an append counts as durable.
    pub durability: Durability,
    /// This member's store: the proposer of what [`CommitLog::append`] writes.
    pub store_id: StoreId,
    /// How the store was left ([`StoreFile::previous_life`]).
    pub previous_life: PreviousLife,
    /// Where a failed sync is noted.
    pub stamp: Option<Arc<StoreFile>>,
}

/// From where a start reads the log again. `ReplayFrom::default()` for a new store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplayFrom {
    /// End of the last entry that the checkpoint contains; all before it was synced with it.
    pub position: PhysicalOffset,
    /// Index of the next entry.
    pub index: EntryIndex,
    /// That last entry. If it is not given, it is read from the log.
    pub previous: Option<EntryId>,
}

/// Content of an entry.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// Nothing: the first entry of a leader.
    Blank,
    /// Messages, then commands.
    Data {
        /// Encoded once, into the entry. [`Draft::check`] has accepted them.
        drafts: &'a [Draft],
        /// As the raft layer encodes them.
        commands: &'a [u8],
    },
    /// Members, as the raft layer encodes them.
    Membership(&'a [u8]),
}

/// What retention decides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Where it starts.
    pub base: PhysicalOffset,
    /// Its first entry.
    pub first: EntryIndex,
    /// When its first message was stored; `None` if there is none near its start.
    pub first_store_ms: Option<i64>,
}

/// The log. A handle: clones share it.
#[derive(Clone)]
pub struct CommitLog {
    threads: Arc<Threads>,
}

/// Stops the threads with the last handle.
struct Threads {
    core: Arc<Core>,
    syncer: Syncer,
}

/// The log's ends, read and replaced as a whole.
#[derive(Debug, Clone, Copy)]
struct Ends {
    purged: PurgePoint,
    last: Option<EntryId>, // or the last one purged
    tail: PhysicalOffset,
    /// Counts how often the tail went back; what was learned of an earlier tail is void.
    epoch: u64,
}

#[derive(Debug, Clone, Copy)]
struct Durable {
    position: PhysicalOffset,
    last: Option<EntryId>,
}

struct Core {
    files: Arc<dyn Files>,
    options: LogOptions,
    /// Readers' view, sorted by base.
    segments: ArcSwap<Vec<Arc<Segment>>>,
    ends: Mutex<Ends>,
    /// Held by whoever changes the log.
    write: Mutex<WriteSide>,
    preparer: Preparer,
    /// Whoever holds `write` waits for the disk to keep where the log begins or ends.
    moving: AtomicBool,
    /// Held during a sync: one that found nothing to do must not overtake one at work.
    syncing: Mutex<()>,
    durable: Mutex<Durable>,
    poison: OnceLock<Arc<str>>,
    closed: AtomicBool,
    counters: SyncCounters,
}

struct WriteSide {
    segments: BTreeMap<u64, (Arc<Segment>, Writer)>,
    /// Where entries are encoded, at most [`ENCODED_BYTES_KEPT`] between two of them.
    encoded: Vec<u8>,
}

impl CommitLog {
    /// Opens the log in `options.dir`, or makes it. Reads what was written since the checkpoint.
    ///
    /// `committed` is an index that was known to be committed and durable here; a log that does
    /// not reach it is damaged.
    pub fn open(
        files: Arc<dyn Files>,
        options: LogOptions,
        from: ReplayFrom,
        committed: Option<EntryIndex>,
    ) -> Result<(Self, Recovery), Error> {
        let bytes = options.segment_bytes;
        let least = if cfg!(test) { SEGMENT_BYTES_MIN / 8 } else { SEGMENT_BYTES_MIN };
        if !(least..=SEGMENT_BYTES_MAX).contains(&bytes) || !bytes.is_multiple_of(4096) {
            return Err(Error::BadSegmentBytes { bytes });
        }
        let found = recovery::recover(files.as_ref(), &options, from, committed)?;
        let failed = |e| Error::io("start threads for", &options.dir, e);
        let preparer = Preparer::start(Arc::clone(&files), options.dir.clone(), bytes);
        let ends = Ends { purged: found.purged, last: found.last, tail: found.tail, epoch: 0 };
        let readers = found.segments.values().map(|(s, _)| Arc::clone(s)).collect();
        let core = Arc::new(Core {
            segments: ArcSwap::from_pointee(readers),
            ends: Mutex::new(ends),
            write: Mutex::new(WriteSide { segments: found.segments, encoded: Vec::new() }),
            preparer: preparer.map_err(failed)?,
            moving: AtomicBool::new(false),
            syncing: Mutex::new(()),
            durable: Mutex::new(Durable { position: ends.tail, last: ends.last }),
            poison: OnceLock::new(),
            closed: AtomicBool::new(false),
            counters: SyncCounters::default(),
            files,
            options,
        });
        core.sync_written()?; // what was found may be in the page cache only
        core.prepare_next();
        let background = match core.options.durability {
            Durability::Synced => None,
            Durability::PageCache => Some(Duration::from_millis(BACKGROUND_SYNC_MS)),
        };
        let sync = {
            let core = Arc::clone(&core);
            move || core.sync_written()
        };
        let syncer = Syncer::start(&*core.files, sync, background)
            .map_err(|e| Error::io("start threads for", &core.options.dir, e))?;
        Ok((Self { threads: Arc::new(Threads { core, syncer }) }, found.report))
    }

    fn core(&self) -> &Core {
        &self.threads.core
    }

    /// A leader's append: gives every message its place and writes the entry, readable at once.
    ///
    /// `place` is asked for the queue offset of each draft, in order, when nothing can fail any
    /// more. All were stored at `store_ms`, which must not be before that of an earlier message:
    /// a search by time relies on it.
    pub fn append(
        &self,
        id: EntryId,
        body: Body<'_>,
        place: &mut dyn FnMut(&Draft) -> QueueOffset,
        store_ms: i64,
    ) -> Result<StoredEntry, Error> {
        let core = self.core();
        let mut write = core.write.lock();
        let ends = core.accepts(id)?;
        let mut header = core.header_for(id, &body, &ends)?;
        core.have_segment(&mut write, &header)?; // from here on nothing may fail but the disk
        let mut encoded = std::mem::take(&mut write.encoded);
        let total = header.total as usize;
        encoded.resize(encoded.len().max(total), 0); // what is left of others is overwritten
        if let Some((head, out)) = encoded[..total].split_first_chunk_mut() {
            encode_body(&header, &body, place, store_ms, out);
            header.body_crc = crc32c(&out[..header.body_bytes as usize]);
            header.write(head);
        }
        let stored = core.write_entry(&mut write, header, &encoded[..total]);
        encoded.truncate(ENCODED_BYTES_KEPT);
        encoded.shrink_to(ENCODED_BYTES_KEPT);
        write.encoded = encoded;
        stored
    }

    /// A follower's append: an entry as the leader stored it. Refuses what does not follow the last
    /// entry, or belongs elsewhere.
    pub fn append_stored(&self, entry: &ReceivedEntry) -> Result<StoredEntry, Error> {
        let header = *entry.header();
        let core = self.core();
        let mut write = core.write.lock();
        let ends = core.accepts(header.id())?;
        core.check_place(&header, ends.tail)?;
        core.have_segment(&mut write, &header)?;
        core.write_entry(&mut write, header, entry.bytes())
    }

    /// The last entry; if all are purged, the last one purged; `None` in a log that never had one.
    pub fn last(&self) -> Option<EntryId> {
        self.core().ends.lock().last
    }

    /// Index of the oldest entry, or of the next one if there is none.
    pub fn first_index(&self) -> EntryIndex {
        self.core().ends.lock().purged.first()
    }

    /// Index that the next appended entry must have.
    #[cfg(test)]
    pub fn next_index(&self) -> EntryIndex {
        self.core().ends.lock().next()
    }

    /// The last entry that was purged.
    pub fn purged(&self) -> Option<EntryId> {
        self.core().ends.lock().purged.last
    }

    /// Where the last entry ends.
    pub fn tail(&self) -> PhysicalOffset {
        self.core().ends.lock().tail
    }

    /// Everything before this is on disk.
    pub fn durable(&self) -> PhysicalOffset {
        let tail = self.tail();
        self.core().durable.lock().position.min(tail)
    }

    /// The last entry that is on disk. Not beyond [`Self::last`].
    pub fn durable_index(&self) -> Option<EntryIndex> {
        let last = self.last();
        let durable = self.core().durable.lock().last;
        Some(durable?.index.min(last?.index))
    }

    /// Takes back all entries from `index` on. Durable when this returns: they never come back.
    pub fn truncate_from(&self, index: EntryIndex) -> Result<(), Error> {
        let core = self.core();
        let mut write = core.write.lock();
        core.alive()?;
        let ends = *core.ends.lock();
        if index < ends.purged.first() {
            return Err(Error::Purged { index, first: ends.purged.first() });
        }
        if index >= ends.next() {
            return Ok(());
        }
        let _moving = core.move_end();
        // A truncation that stops half way leaves an unknown tail: nothing may be appended to it.
        core.truncate(&mut write, ends, index).map_err(|e| core.poisoned_by(&e))
    }

    /// Forgets the entries up to `index`, durably, and deletes segments that lie wholly before the
    /// first one kept.
    pub fn purge_through(&self, index: EntryIndex) -> Result<(), Error> {
        let core = self.core();
        let mut write = core.write.lock();
        core.alive()?;
        let ends = *core.ends.lock();
        if index < ends.purged.first() {
            return Ok(());
        }
        if index >= ends.next() {
            return Err(Error::Beyond { index, next: ends.next() });
        }
        let (_, header) = find(&core.segments.load(), index)?;
        let _moving = core.move_end();
        let purged = PurgePoint { last: Some(header.id()), end: header.end() };
        let start = LogStart { purged, reset: None };
        core.save_start(start)?;
        core.ends.lock().purged = purged;
        let first = self.first_position().0;
        let gone = |base: u64| base + core.options.segment_bytes <= first;
        let paths = core.drop_segments(&mut write, |segment| gone(segment.base));
        core.preparer.delete(paths);
        Ok(())
    }

    /// Announces a [`Self::reset`] to the same place. Order after a snapshot: this, the checkpoint,
    /// the reset. If the process ends in between, the next start finishes the reset if the
    /// checkpoint (`ReplayFrom`) is the new one, and forgets it otherwise.
    ///
    /// Nothing needs to be announced when the log holds `previous` and goes on at `end`: it does so
    /// by itself, with entries that this member may have vouched for. `end` is where `previous`
    /// ends, or the segment boundary after it.
    pub fn begin_reset(&self, end: PhysicalOffset, previous: EntryId) -> Result<(), Error> {
        let core = self.core();
        let _write = core.write.lock();
        core.alive()?;
        if self.holds(end, previous)? {
            return Ok(());
        }
        let _moving = core.move_end();
        let purged = core.ends.lock().purged;
        let reset = Some(PurgePoint { last: Some(previous), end });
        core.save_start(LogStart { purged, reset })
    }

    /// A log that goes on after `previous`, which ended at `end`. What is behind `previous` stays if
    /// the log holds `previous` itself; otherwise it is empty from now on. Durable when this
    /// returns. What readers hold stays readable.
    pub fn reset(&self, end: PhysicalOffset, previous: EntryId) -> Result<(), Error> {
        if self.holds(end, previous)? {
            return self.purge_through(previous.index);
        }
        self.begin_reset(end, previous)?;
        let core = self.core();
        let mut write = core.write.lock();
        let _moving = core.move_end();
        let done = core.preparer.clear().and_then(|()| {
            core.drop_segments(&mut write, |_| true);
            recovery::remove_segments(core.files.as_ref(), &core.options.dir)?;
            let purged = PurgePoint { last: Some(previous), end };
            let start = LogStart { purged, reset: None };
            core.save_start(start)?;
            core.move_ends(Ends { purged, last: Some(previous), tail: end, epoch: 0 });
            core.prepare_next();
            Ok(())
        });
        done.map_err(|e| core.poisoned_by(&e))
    }

    /// Whether the log has this entry, and what follows it, if anything does, at `end`.
    fn holds(&self, end: PhysicalOffset, id: EntryId) -> Result<bool, Error> {
        let Some(header) = self.header_of(id.index)?.filter(|header| header.id() == id) else {
            return Ok(false);
        };
        let boundary = header.end().0.next_multiple_of(self.core().options.segment_bytes);
        let follower = self.header_of(id.index.next())?;
        Ok((end == header.end() || end.0 == boundary)
            && follower.is_none_or(|follower| follower.position == end))
    }

    /// Calls `done` when all that was appended so far is as durable as the options say: from the
    /// sync thread, or at once. `done` must be short and must not wait for another sync.
    pub fn sync(&self, done: SyncDone) {
        match (self.core().options.durability, self.core().alive()) {
            (Durability::Synced, Ok(())) => self.threads.syncer.request(done),
            (Durability::PageCache, Ok(())) => done(Ok(())),
            (Durability::Synced | Durability::PageCache, Err(error)) => done(Err(error)),
        }
    }

    /// Waits until all that was appended so far is on disk, whatever the options say.
    pub fn sync_now(&self) -> Result<(), Error> {
        self.core().sync_written()
    }

    /// Syncs, waits for the threads and ends them. The log can be read on, but not written.
    pub fn close(&self) -> Result<(), Error> {
        let core = self.core();
        core.preparer.stop();
        self.threads.syncer.stop();
        let _write = core.write.lock();
        let synced = core.sync_written();
        core.closed.store(true, Ordering::Release);
        synced
    }

    /// Counts of syncs so far.
    pub fn sync_stats(&self) -> SyncStats {
        self.core().counters.snapshot()
    }

    /// The longest sync that has ended since the last call; for one caller.
    pub fn take_sync_peak(&self) -> Option<Duration> {
        self.core().counters.take_peak()
    }

    /// Why nothing can be written any more, if so.
    pub fn check(&self) -> Result<(), Error> {
        self.core().alive()
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let segments = self.core().segments.load();
        segments
            .iter()
            .map(|segment| SegmentInfo {
                base: PhysicalOffset(segment.base),
                first: segment.first,
                first_store_ms: segment.first_store_ms(),
            })
            .collect()
    }
}

impl Ends {
    fn next(&self) -> EntryIndex {
        let after_last = self.last.map_or(0, |last| last.index.0 + 1);
        EntryIndex(after_last.max(self.purged.first().0))
    }
}

impl Core {
    /// Where the log begins and ends, and the segments that hold that: a purge moves the beginning
    /// first, and no one comes between the two looks.
    fn look(&self) -> (Ends, Guard<Arc<Vec<Arc<Segment>>>>) {
        let ends = self.ends.lock();
        (*ends, self.segments.load())
    }

    fn alive(&self) -> Result<(), Error> {
        match self.poison.get() {
            Some(cause) => Err(Error::Poisoned { cause: Arc::clone(cause) }),
            None if self.closed.load(Ordering::Acquire) => Err(Error::Closed),
            None => Ok(()),
        }
    }

    /// Whatever comes now answers the first failure.
    fn poisoned_by(&self, error: &Error) -> Error {
        let cause = self.poison.get_or_init(|| error.to_string().into());
        Error::Poisoned { cause: Arc::clone(cause) }
    }

    /// A sync failed. The next start is to know, for the kernel may forget what it did not write.
    fn sync_failed(&self, segment: &Segment, cause: std::io::Error) -> Error {
        let noted = self.options.stamp.as_ref().map_or(Ok(()), |stamp| stamp.sync_failed());
        if let Err(error) = noted {
            tracing::warn!(
                %error,
                "could not note that a sync failed: what the kernel forgets of the log the next \
                 start takes for damage, or, with flushDiskType=ASYNC_FLUSH, does not miss"
            );
        }
        self.poisoned_by(&Error::io("sync segment", &segment.path, cause))
    }

    fn next_base(&self, tail: PhysicalOffset) -> u64 {
        base_of(tail, self.options.segment_bytes) + self.options.segment_bytes
    }

    fn accepts(&self, id: EntryId) -> Result<Ends, Error> {
        self.alive()?;
        let ends = *self.ends.lock();
        if id.index != ends.next() {
            return Err(Error::OutOfOrder { index: id.index, expected: ends.next() });
        }
        match ends.last {
            Some(last) if id.term < last.term => {
                Err(Error::TermBackwards { index: id.index, term: id.term, last: last.term })
            }
            Some(_) | None => Ok(ends),
        }
    }

    fn header_for(&self, id: EntryId, body: &Body<'_>, ends: &Ends) -> Result<Header, Error> {
        let (kind, messages, message_bytes, rest) = match body {
            Body::Blank => (Kind::Blank, 0, 0, 0),
            Body::Membership(bytes) => (Kind::Membership, 0, 0, bytes.len()),
            Body::Data { drafts, commands } => {
                let bytes = drafts.iter().map(Draft::stored_bytes).sum();
                (Kind::Data, drafts.len(), bytes, commands.len())
            }
        };
        let body_bytes = message_bytes + rest;
        let bytes = total_bytes(body_bytes as u64);
        let segment_bytes = self.options.segment_bytes;
        let total = u32::try_from(bytes).ok().filter(|_| bytes <= segment_bytes);
        let Some(total) = total else { return Err(Error::TooLarge { bytes, segment_bytes }) };
        Ok(Header {
            total,
            index: id.index,
            term: id.term,
            proposer: self.options.store_id,
            position: place(ends.tail, bytes, segment_bytes),
            kind,
            messages: messages as u32, // all below `total`, which fits
            message_bytes: message_bytes as u32,
            body_bytes: body_bytes as u32,
            body_crc: 0,
        })
    }

    /// The leader may leave the rest of a segment empty, never a whole one or anything else.
    fn check_place(&self, header: &Header, tail: PhysicalOffset) -> Result<(), Error> {
        let segment_bytes = self.options.segment_bytes;
        let (bytes, position) = (u64::from(header.total), header.position);
        if bytes > segment_bytes {
            return Err(Error::TooLarge { bytes, segment_bytes });
        }
        let at_tail = position == tail && place(tail, bytes, segment_bytes) == tail;
        let at_next = position.0 == self.next_base(tail) && !tail.0.is_multiple_of(segment_bytes);
        if at_tail || at_next {
            return Ok(());
        }
        Err(Error::Misplaced { index: header.index, position, tail, segment_bytes })
    }

    /// Writes an entry where its header says, publishes it, and moves the tail.
    fn write_entry(
        &self,
        write: &mut WriteSide,
        header: Header,
        bytes: &[u8],
    ) -> Result<StoredEntry, Error> {
        let base = base_of(header.position, self.options.segment_bytes);
        let Some((segment, writer)) = write.segments.get_mut(&base) else {
            return Err(not_found(header.index, header.position));
        };
        let start = (header.position.0 - base) as usize;
        let end = start + header.total as usize;
        let written = segment.file.write(writer.unpublished(start, bytes));
        // What is there now nobody knows: nothing may be appended to it.
        written.map_err(|e| self.poisoned_by(&Error::io("write to", &segment.path, e)))?;
        writer.publish(end);
        segment.note(&header);
        segment.touched();
        let stored = segment.entry(header);
        {
            let mut ends = self.ends.lock();
            ends.last = Some(header.id());
            ends.tail = header.end();
        }
        if end as u64 >= self.options.segment_bytes / 4 {
            self.preparer.want(base + self.options.segment_bytes);
        }
        stored.ok_or_else(|| not_found(header.index, header.position))
    }

    /// Adds the segment that an entry belongs to, if it is not there yet.
    fn have_segment(&self, write: &mut WriteSide, first: &Header) -> Result<(), Error> {
        let base = base_of(first.position, self.options.segment_bytes);
        if write.segments.contains_key(&base) {
            return Ok(());
        }
        let path = segment_path(&self.options.dir, base);
        let file = self.preparer.take(base)?;
        let mut writer = file.map().map_err(|e| Error::io("map segment", &path, e))?;
        let start = (first.index, first.position);
        writer.publish((first.position.0 - base) as usize); // zeros, if the log starts within
        let segment = Segment::new(base, path, file, writer.reader(), start);
        write.segments.insert(base, (Arc::new(segment), writer));
        self.show(write);
        Ok(())
    }

    /// Lets readers see the segments as they are.
    fn show(&self, write: &WriteSide) {
        let readers = write.segments.values().map(|(segment, _)| Arc::clone(segment)).collect();
        self.segments.store(Arc::new(readers));
    }

    /// Removes segments from the log; returns their paths, oldest first.
    fn drop_segments(
        &self,
        write: &mut WriteSide,
        gone: impl Fn(&Segment) -> bool,
    ) -> Vec<PathBuf> {
        let dropped: Vec<_> = write.segments.extract_if(.., |_, (s, _)| gone(s)).collect();
        self.show(write);
        dropped.into_iter().map(|(_, (segment, _))| segment.path.clone()).collect()
    }

    fn truncate(&self, write: &mut WriteSide, ends: Ends, index: EntryIndex) -> Result<(), Error> {
        let first = ends.purged.first();
        let (last, tail) = if index == first {
            (ends.purged.last, ends.purged.end)
        } else {
            let before = EntryIndex(index.0 - 1);
            let (_, header) = find(&self.segments.load(), before)?;
            (Some(header.id()), header.end())
        };
        // Newest first, so that whole entries never follow what was taken back.
        self.preparer.clear()?;
        let paths = self.drop_segments(write, |segment| segment.base >= tail.0);
        let paths = paths.iter().map(PathBuf::as_path);
        recovery::remove_backwards(self.files.as_ref(), &self.options.dir, paths)?;
        if let Some((segment, writer)) =
            write.segments.get_mut(&base_of(tail, self.options.segment_bytes))
        {
            let keep = (tail.0 - segment.base) as usize;
            let end = writer.published();
            let failed = |e| Error::io("cut segment", &segment.path, e);
            let fresh = segment.file.map().map_err(failed)?;
            writer.detach(fresh, keep).map_err(failed)?;
            segment.file.zero(keep as u64..end as u64).map_err(failed)?;
            *segment = Arc::new(segment.cut(writer.reader(), tail));
        }
        self.show(write);
        self.move_ends(Ends { last, tail, ..ends });
        self.prepare_next();
        self.sync_written()
    }

    /// The tail goes back, or the log starts anew.
    fn move_ends(&self, to: Ends) {
        let mut ends = self.ends.lock();
        *ends = Ends { epoch: ends.epoch + 1, ..to };
        let mut durable = self.durable.lock();
        if durable.position > to.tail || to.last == to.purged.last {
            *durable = Durable { position: to.tail, last: to.last };
        }
    }

    /// Has the next segment made that there is none of yet.
    fn prepare_next(&self) {
        let tail = self.ends.lock().tail;
        let base = base_of(tail, self.options.segment_bytes);
        let there = self.segments.load().last().is_some_and(|s| s.base == base);
        self.preparer.want(if there { self.next_base(tail) } else { base });
    }

    /// Makes durable all that was written before the call.
    fn sync_written(&self) -> Result<(), Error> {
        let _one_at_a_time = self.syncing.lock();
        self.alive()?;
        let ends = *self.ends.lock();
        for segment in self.segments.load().iter() {
            if !segment.take_dirty() {
                continue;
            }
            let started = clock::now();
            self.counters.begin();
            let synced = segment.file.sync();
            // Never tried again: the kernel may have dropped what it could not write.
            synced.map_err(|cause| self.sync_failed(segment, cause))?;
            self.counters.record(clock::now().duration_since(started));
        }
        let now = self.ends.lock();
        if now.epoch == ends.epoch {
            *self.durable.lock() = Durable { position: ends.tail, last: ends.last };
        }
        Ok(())
    }
}

/// Writes records, commands and padding; `out` is the entry without its header.
fn encode_body(
    header: &Header,
    body: &Body<'_>,
    place: &mut dyn FnMut(&Draft) -> QueueOffset,
    store_timestamp: i64,
    out: &mut [u8],
) {
    let mut at = 0;
    let rest: &[u8] = match body {
        Body::Blank => &[],
        Body::Membership(bytes) => bytes,
        Body::Data { drafts, commands } => {
            for draft in *drafts {
                let bytes = draft.stored_bytes();
                let physical = header.first_record().0 + at as u64;
                let queue_offset = place(draft).0;
                let at_place = RecordPlace { queue_offset, physical, store_timestamp };
                draft.encode(at_place, &mut out[at..at + bytes]);
                at += bytes;
            }
            commands
        }
    };
    out[at..at + rest.len()].copy_from_slice(rest);
    out[at + rest.len()..].fill(0);
}

fn not_found(index: EntryIndex, near: PhysicalOffset) -> Error {
    damaged(near, index, "the entry is not where it must be".to_owned())
}

mod moving;
mod reading;
mod repairing;
mod room;
mod scrubbing;
#[cfg(test)]
mod tests;

pub use room::Fit;
