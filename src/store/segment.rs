//! One file of the log: reading entries, and finding them by index.
//!
//! Finding: a table of every entry would cost as much memory as the log has small messages. A few
//! points, 64 KiB apart, and a walk along headers from the nearest one do. Points of files
//! that were written in an earlier life are noted as walks pass by.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::entry::{ALIGN_BYTES, HEADER_BYTES, Header, StoredEntry};
use super::error::{Committed, Error};
use super::files::SegmentFile;
use super::mmap::{MappedBytes, Reader};
use crate::ids::{EntryIndex, PhysicalOffset};
use crate::protocol::message::Record;

/// Distance of two points, in units of [`ALIGN_BYTES`]: 64 KiB.
const POINT_UNITS: u32 = 64 * 1024 / ALIGN_BYTES as u32;

/// Entries at the start of a segment among which a message is looked for, to learn its age.
const ENTRIES_TO_FIRST_MESSAGE_MAX: usize = 256;

/// Where the next entry goes. Pure: entries lie back to back, and never across a segment's end.
pub(super) fn place(tail: PhysicalOffset, total: u64, segment_bytes: u64) -> PhysicalOffset {
    let room = segment_bytes - tail.0 % segment_bytes;
    if total <= room { tail } else { PhysicalOffset(tail.0 + room) }
}

/// Start of the segment that holds `position`.
pub(super) fn base_of(position: PhysicalOffset, segment_bytes: u64) -> u64 {
    position.0 - position.0 % segment_bytes
}

/// Name of the file that starts at `base`.
pub(super) fn file_name(base: u64) -> String {
    format!("{base:020}")
}

/// The base that a file name says, if it is one of ours.
pub(super) fn base_in(file_name: &str) -> Option<u64> {
    let digits = file_name.len() == 20 && file_name.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| file_name.parse().ok()).flatten()
}

/// A place where an entry starts, relative to the segment's first entry: 8 bytes for a segment of
/// at most 32 GiB.
#[derive(Clone, Copy)]
struct Point {
    entries: u32,
    offset: u32, // in units of ALIGN_BYTES from the base
}

/// Readers' view of one segment file.
pub(super) struct Segment {
    pub(super) base: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn SegmentFile>,
    pub(super) reader: Reader,
    /// Something was written since the last sync.
    dirty: AtomicBool,
    /// First entry in this file that belongs to the log.
    pub(super) first: EntryIndex,
    points: Mutex<Vec<Point>>, // never empty; the first one is `first`
    first_store_ms: OnceLock<i64>,
}

impl Segment {
    /// A segment whose first entry is, or will be, `first` at `position`.
    pub(super) fn new(
        base: u64,
        path: PathBuf,
        file: Arc<dyn SegmentFile>,
        reader: Reader,
        (first, position): (EntryIndex, PhysicalOffset),
    ) -> Self {
        let start = Point { entries: 0, offset: units(position.0 - base) };
        let points = Mutex::new(vec![start]);
        let (dirty, first_store_ms) = (AtomicBool::new(false), OnceLock::new());
        Self { base, path, file, reader, dirty, first, points, first_store_ms }
    }

    /// The same file, mapped again after everything from `end` on was taken back.
    pub(super) fn cut(&self, reader: Reader, end: PhysicalOffset) -> Self {
        let end = units(end.0 - self.base);
        let mut points = self.points.lock().clone();
        let keep = points.iter().skip(1).take_while(|p| p.offset < end).count();
        points.truncate(keep + 1);
        Self {
            base: self.base,
            path: self.path.clone(),
            file: Arc::clone(&self.file),
            reader,
            dirty: AtomicBool::new(true),
            first: self.first,
            points: Mutex::new(points),
            first_store_ms: OnceLock::new(),
        }
    }

    /// Where the first entry lies.
    pub(super) fn start(&self) -> PhysicalOffset {
        let offset = self.points.lock().first().map_or(0, |p| p.offset);
        PhysicalOffset(self.base + u64::from(offset) * ALIGN_BYTES)
    }

    /// Remembers where an entry lies, if that shortens later walks.
    pub(super) fn note(&self, header: &Header) {
        let Some(entries) = header.index.0.checked_sub(self.first.0) else { return };
        let Ok(entries) = u32::try_from(entries) else { return };
        let point = Point { entries, offset: units(header.position.0 - self.base) };
        let mut points = self.points.lock();
        if points.last().is_some_and(|last| {
            last.entries < point.entries && last.offset + POINT_UNITS <= point.offset
        }) {
            points.push(point);
        }
    }

    /// The nearest known entry at or before `index`, and where it starts.
    fn nearest(&self, index: EntryIndex) -> (EntryIndex, PhysicalOffset) {
        let wanted = index.0.saturating_sub(self.first.0);
        let points = self.points.lock();
        let after = points.partition_point(|p| u64::from(p.entries) <= wanted);
        self.place_of(points[after.saturating_sub(1)])
    }

    fn place_of(&self, point: Point) -> (EntryIndex, PhysicalOffset) {
        let index = EntryIndex(self.first.0 + u64::from(point.entries));
        (index, PhysicalOffset(self.base + u64::from(point.offset) * ALIGN_BYTES))
    }

    /// The header of entry `index`, which starts at `position` in this segment. Its body is not
    /// looked at.
    pub(super) fn header_at(
        &self,
        position: PhysicalOffset,
        index: EntryIndex,
    ) -> Result<Header, Error> {
        let at = (position.0 - self.base) as usize;
        let why = match self.reader.bytes(at..at + HEADER_BYTES).map(Header::parse) {
            Some(Ok(header)) if header.position != position => {
                format!("it says that it belongs at {}", header.position)
            }
            Some(Ok(header)) if header.index != index => {
                format!("it says that it is entry {}", header.index)
            }
            Some(Ok(header)) if at + header.total as usize > self.reader.published() => {
                format!("its {} bytes reach beyond the log's end", header.total)
            }
            Some(Ok(header)) => return Ok(header),
            Some(Err(error)) => error.to_string(),
            None => "the log ends before it".to_owned(),
        };
        Err(damaged(position, index, why))
    }

    /// The header of entry `index`, which is in this segment.
    pub(super) fn find(&self, index: EntryIndex) -> Result<Header, Error> {
        let (mut next, mut at) = self.nearest(index);
        let mut noted = at;
        loop {
            let header = self.header_at(at, next)?;
            if next >= index {
                return Ok(header);
            }
            if at.0 - noted.0 >= u64::from(POINT_UNITS) * ALIGN_BYTES {
                self.note(&header);
                noted = at;
            }
            (next, at) = (next.next(), header.end());
        }
    }

    /// The header of the entry that holds `position`, which is in this segment.
    pub(super) fn holding(&self, position: PhysicalOffset) -> Result<Header, Error> {
        let offset = units(position.0.saturating_sub(self.base));
        let nearest = {
            let points = self.points.lock();
            let after = points.partition_point(|p| p.offset <= offset);
            points[after.saturating_sub(1)]
        };
        let (mut index, mut at) = self.place_of(nearest);
        loop {
            let header = self.header_at(at, index)?;
            if header.end() > position {
                return Ok(header);
            }
            (index, at) = (index.next(), header.end());
        }
    }

    /// The last entry, in a segment that nothing is written to any more.
    pub(super) fn last(&self) -> Result<Header, Error> {
        let (mut index, mut at) = (self.first, self.start());
        loop {
            let header = self.header_at(at, index)?;
            let rest = (header.end().0 - self.base) as usize..self.reader.published();
            if self.reader.bytes(rest).is_none_or(|rest| rest.iter().all(|byte| *byte == 0)) {
                return Ok(header);
            }
            (index, at) = (index.next(), header.end());
        }
    }

    /// The bytes of an entry whose header was read from here.
    pub(super) fn entry(&self, header: Header) -> Option<StoredEntry> {
        let bytes = self.slice(header.position, header.total)?;
        Some(StoredEntry { header, bytes })
    }

    /// Bytes of this segment, if they are all part of the log.
    pub(super) fn slice(&self, at: PhysicalOffset, bytes: u32) -> Option<MappedBytes> {
        let at = usize::try_from(at.0.checked_sub(self.base)?).ok()?;
        self.reader.slice(at..at.checked_add(bytes as usize)?)
    }

    /// When its first message was stored; `None` if there is none near its start. Looked for until
    /// it is found: who asks does so every few seconds, and is not to wait for the disk each time.
    pub(super) fn first_store_ms(&self) -> Option<i64> {
        if self.first_store_ms.get().is_none()
            && let Some(found) = self.find_first_store_ms()
        {
            return Some(*self.first_store_ms.get_or_init(|| found));
        }
        self.first_store_ms.get().copied()
    }

    /// Goes on beyond a damaged entry: times never go back, so that nothing seems older than it is.
    fn find_first_store_ms(&self) -> Option<i64> {
        let (mut index, mut at) = (self.first, self.start());
        for _ in 0..ENTRIES_TO_FIRST_MESSAGE_MAX {
            let header = self.header_at(at, index).ok()?;
            if header.messages > 0
                && let Some(entry) = self.entry(header)
                && header.check_body(&entry.bytes).is_ok()
            {
                let records = entry.records();
                return Record::parse(&records).ok().map(|record| record.store_timestamp());
            }
            (index, at) = (index.next(), header.end());
        }
        None
    }

    /// Marks that something was written.
    pub(super) fn touched(&self) {
        self.dirty.store(true, Ordering::Release);
    }

    /// Whether something was written since the last call. Most segments never are: looking first
    /// keeps their cache lines shared.
    pub(super) fn take_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire) && self.dirty.swap(false, Ordering::AcqRel)
    }
}

/// What reading finds where it must not be.
pub(super) fn damaged(position: PhysicalOffset, index: EntryIndex, why: String) -> Error {
    Error::Damaged { position, index, previous: None, committed: Committed(None), why }
}

fn units(offset: u64) -> u32 {
    u32::try_from(offset / ALIGN_BYTES).unwrap_or(u32::MAX) // segments end at 32 GiB
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_goes_to_the_tail_or_to_the_next_segment() {
        let rows = [
            (0, 64, 0),
            (8, 4088, 8),
            (8, 4096, 4096), // one unit too long
            (4032, 64, 4032),
            (4088, 64, 4096),
            (4096, 4096, 4096),
            (8192 + 4000, 4096, 12288),
        ];
        for (tail, total, want) in rows {
            let got = place(PhysicalOffset(tail), total, 4096);
            assert_eq!(got, PhysicalOffset(want), "{total} bytes at {tail}");
        }
    }

    #[test]
    fn only_twenty_digits_name_a_segment() {
        assert_eq!(base_in(&file_name(1 << 40)), Some(1 << 40));
        for name in ["", "1", "0000000000000000000x", "+0000000000000000001", "log.json"] {
            assert_eq!(base_in(name), None, "{name}");
        }
        assert_eq!(base_in("99999999999999999999"), None);
    }
}
