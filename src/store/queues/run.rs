//! A run: the units and key entries of one finished stretch of the log, in an immutable file that
//! is read through memory. The format is in [`run_format`](super::run_format).

use std::{
    cmp::Ordering,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{
    Error,
    run_format::{
        BLOCK_BYTES, DIRECTORY_BYTES, DirectoryEntry, FOOTER_BYTES, Footer, KEY_BYTES, Layout,
        crc32c,
    },
    unit::{KeyEntry, UNIT_BYTES, Unit},
};
use crate::ids::{PhysicalOffset, QueueOffset};
use crate::store::mmap::MappedBytes;

const UNREADABLE: &str = "the disk cannot read a part of it";

/// An open run. Blocks are checked against their checksum when they are first read. One that was
/// checked may be forgotten by memory later on, and be unreadable by then: what leaves a run goes
/// through [`Run::intact`] after it was read.
#[derive(Debug)]
pub(super) struct Run {
    path: PathBuf,
    map: MappedBytes,
    footer: Footer,
    layout: Layout,
    /// One bit per block that was checked.
    checked: Box<[AtomicU64]>,
    /// What in it is not what was written.
    damage: OnceLock<String>,
}

/// Consecutive units of one queue in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunList {
    pub(super) first: QueueOffset,
    pub(super) count: u64,
    units_at: u64,
}

impl RunList {
    pub(super) fn end(&self) -> QueueOffset {
        QueueOffset(self.first.0 + self.count)
    }

    /// Without the first `count` units.
    pub(super) fn skip(&self, count: u64) -> Self {
        let count = count.min(self.count);
        Self {
            first: QueueOffset(self.first.0 + count),
            count: self.count - count,
            units_at: self.units_at + count,
        }
    }
}

/// Name of the run of a stretch.
pub(super) fn file_name(from: PhysicalOffset, to: PhysicalOffset) -> String {
    format!("{from:020}-{to:020}.run")
}

/// The stretch in a run's name, if it is one.
pub(super) fn parse_name(name: &str) -> Option<Range<PhysicalOffset>> {
    let (from, to) = name.strip_suffix(".run")?.split_once('-')?;
    let number = |text: &str| (text.len() == 20).then(|| text.parse().ok()).flatten();
    let (from, to) = (number(from)?, number(to)?);
    (from < to).then_some(PhysicalOffset(from)..PhysicalOffset(to))
}

impl Run {
    /// Takes a mapped file as the run of `range`; checks the footer and the table of checksums.
    pub(super) fn open(
        path: &Path,
        map: MappedBytes,
        range: &Range<PhysicalOffset>,
    ) -> Result<Self, Error> {
        let damaged = |what: String| {
            let what = if map.unreadable_pages() > 0 { UNREADABLE.to_owned() } else { what };
            Error::Damaged { path: path.to_owned(), what }
        };
        let bytes: &[u8] = map.as_ref();
        let footer = bytes.last_chunk::<FOOTER_BYTES>();
        let footer = footer.ok_or_else(|| damaged("shorter than a footer".to_owned()))?;
        let footer = Footer::decode(footer).map_err(damaged)?;
        if (footer.from..footer.to) != *range {
            return Err(damaged(format!("covers {}-{}", footer.from, footer.to)));
        }
        let layout = footer.layout().filter(|layout| layout.file_bytes == bytes.len());
        let layout = layout
            .ok_or_else(|| damaged(format!("{} bytes do not fit the footer", bytes.len())))?;
        if crc32c(&bytes[layout.checksums.clone()]) != footer.checksums_crc {
            return Err(damaged("the checksum of the block checksums does not match".to_owned()));
        }
        let blocks = layout.names.end.div_ceil(BLOCK_BYTES);
        let checked = (0..blocks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { path: path.to_owned(), map, footer, layout, checked, damage: OnceLock::new() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn footer(&self) -> &Footer {
        &self.footer
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.map.as_ref().len() as u64
    }

    /// The list of a queue, by binary search in the directory.
    pub(super) fn find(&self, topic: &str, queue_id: u32) -> Result<Option<RunList>, Error> {
        let (mut low, mut high) = (0, self.footer.queues);
        while low < high {
            let middle = low + (high - low) / 2;
            let (name, entry) = self.queue_at(middle)?;
            match (name, entry.queue_id).cmp(&(topic.as_bytes(), queue_id)) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => {
                    let DirectoryEntry { first, count, units_at, .. } = entry;
                    return self.intact(Some(RunList { first, count, units_at }));
                }
            }
        }
        self.intact(None)
    }

    /// Topic and directory entry number `index`, in the order (topic, queueId). What comes of the
    /// topic is to be [`Self::intact`].
    pub(super) fn queue_at(&self, index: u64) -> Result<(&[u8], DirectoryEntry), Error> {
        let stored = self.element::<DIRECTORY_BYTES>(&self.layout.directory, index)?;
        let entry = DirectoryEntry::decode(&stored);
        let start = self.layout.names.start + entry.name_at as usize;
        let name = start..start + entry.name_bytes as usize;
        let units_end = entry.units_at.checked_add(entry.count);
        let offsets_end = entry.first.0.checked_add(entry.count);
        if name.end > self.layout.names.end
            || units_end.is_none_or(|end| end > self.footer.units)
            || offsets_end.is_none()
        {
            return Err(self.damaged(format!("directory entry {index} points outside")));
        }
        Ok((self.bytes(name)?, entry))
    }

    /// Unit number `index` of a list.
    pub(super) fn unit(&self, list: &RunList, index: u64) -> Result<Unit, Error> {
        let at = list.units_at + index;
        Ok(Unit::decode(&self.element::<UNIT_BYTES>(&self.layout.units, at)?))
    }

    /// The stored units number `range` of a list. What comes of them is to be [`Self::intact`].
    pub(super) fn units(&self, list: &RunList, range: Range<u64>) -> Result<&[u8], Error> {
        let start = (list.units_at + range.start) as usize * UNIT_BYTES; // within the layout
        let end = (list.units_at + range.end) as usize * UNIT_BYTES;
        self.bytes(start..end)
    }

    /// Key entry number `index`, ascending.
    pub(super) fn key_at(&self, index: u64) -> Result<KeyEntry, Error> {
        Ok(KeyEntry::decode(&self.element::<KEY_BYTES>(&self.layout.keys, index)?))
    }

    /// Numbers of the key entries with this hash.
    pub(super) fn keys_with(&self, hash: u64) -> Result<Range<u64>, Error> {
        let start = self.first_key(|entry| entry.hash >= hash)?;
        Ok(start..self.first_key(|entry| entry.hash > hash)?)
    }

    fn first_key(&self, reached: impl Fn(&KeyEntry) -> bool) -> Result<u64, Error> {
        let (mut low, mut high) = (0, self.footer.keys);
        while low < high {
            let middle = low + (high - low) / 2;
            if reached(&self.key_at(middle)?) { high = middle } else { low = middle + 1 }
        }
        Ok(low)
    }

    fn element<const N: usize>(&self, part: &Range<usize>, index: u64) -> Result<[u8; N], Error> {
        let at = part.start + index as usize * N; // `index` is below a count that fits the file
        debug_assert!(at + N <= part.end);
        let bytes = self.bytes(at..at + N)?;
        self.intact(*bytes.first_chunk().expect("a range of N bytes"))
    }

    /// What was read of the run, unless a page was missing: the disk could not read it, and memory
    /// has zeros in its place.
    pub(super) fn intact<T>(&self, read: T) -> Result<T, Error> {
        let read = std::hint::black_box(read); // read by now, whatever the compiler would rather do
        match self.map.unreadable_pages() {
            0 => Ok(read),
            _ => Err(self.damaged(UNREADABLE)),
        }
    }

    /// Bytes of the checked area, the blocks they lie in checked.
    fn bytes(&self, range: Range<usize>) -> Result<&[u8], Error> {
        let all = &self.map.as_ref()[..self.layout.names.end];
        if range.is_empty() {
            return Ok(&[]);
        }
        for block in range.start / BLOCK_BYTES..=(range.end - 1) / BLOCK_BYTES {
            let bit = 1 << (block % 64);
            if self.checked[block / 64].load(Relaxed) & bit == 0 {
                self.check(all, block)?;
                self.checked[block / 64].fetch_or(bit, Relaxed);
            }
        }
        Ok(&all[range])
    }

    /// Checks so many blocks from `first` on, whether they were checked before or not. Returns
    /// their bytes: none behind the last one.
    pub(super) fn check_blocks(&self, first: usize, count: usize) -> Result<u64, Error> {
        let all = &self.map.as_ref()[..self.layout.names.end];
        let last = all.len().div_ceil(BLOCK_BYTES).min(first.saturating_add(count));
        for block in first..last {
            self.check(all, block)?;
        }
        self.intact((last.saturating_sub(first) * BLOCK_BYTES) as u64)
    }

    fn check(&self, all: &[u8], block: usize) -> Result<(), Error> {
        let start = block * BLOCK_BYTES;
        let bytes = &all[start..all.len().min(start + BLOCK_BYTES)];
        let stored_at = self.layout.checksums.start + block * 4;
        let stored = &self.map.as_ref()[stored_at..stored_at + 4];
        if crc32c(bytes).to_le_bytes() != stored {
            self.intact(())?;
            return Err(self.damaged(format!("block {block} does not match its checksum")));
        }
        Ok(())
    }

    /// The first damage that somebody met in it.
    pub(super) fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    /// Notes that the run is damaged, for [`Queues::mend`](super::Queues::mend).
    pub(super) fn damaged(&self, what: impl Into<String>) -> Error {
        let what = what.into();
        self.damage.get_or_init(|| what.clone());
        Error::Damaged { path: self.path.clone(), what }
    }
}

/// The list of a queue without what lies below `alive_from`: what retention took, or what belongs
/// to a deleted topic of that name. A list is of one incarnation of its topic, so a deletion
/// either kills all of it or nothing.
pub(super) fn alive_list(
    run: &Run,
    topic: &str,
    queue_id: u32,
    alive_from: PhysicalOffset,
) -> Result<Option<RunList>, Error> {
    if run.footer.to <= alive_from {
        return Ok(None);
    }
    let Some(list) = run.find(topic, queue_id)?.filter(|list| list.count > 0) else {
        return Ok(None);
    };
    if run.footer.from >= alive_from {
        return Ok(Some(list));
    }
    let (mut low, mut high) = (0, list.count);
    while low < high {
        let middle = low + (high - low) / 2;
        let alive = run.unit(&list, middle)?.physical >= alive_from;
        if alive { high = middle } else { low = middle + 1 }
    }
    Ok(Some(list.skip(low)).filter(|list| list.count > 0))
}
