//! A run: the units and key entries of one finished stretch of the log, in an immutable file that
//! is read through memory. The format is in [`run_format`](super::run_format).

use std::{
    cmp::Ordering,
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
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

/// An open run. Blocks are checked against their checksum when they are first read.
#[derive(Debug)]
pub(super) struct Run {
    path: PathBuf,
    map: MappedBytes,
    footer: Footer,
    layout: Layout,
    /// One bit per block that was checked.
    checked: Box<[AtomicU64]>,
    /// Something in it is not what was written.
    damaged: AtomicBool,
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
        let damaged = |what: String| Error::Damaged { path: path.to_owned(), what };
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
        let damaged = AtomicBool::new(false);
        Ok(Self { path: path.to_owned(), map, footer, layout, checked, damaged })
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
                    return Ok(Some(RunList { first, count, units_at }));
                }
            }
        }
        Ok(None)
    }

    /// Topic and directory entry number `index`, in the order (topic, queueId).
    pub(super) fn queue_at(&self, index: u64) -> Result<(&[u8], DirectoryEntry), Error> {
        let stored = self.element::<DIRECTORY_BYTES>(&self.layout.directory, index)?;
        let entry = DirectoryEntry::decode(stored);
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
        self.element::<UNIT_BYTES>(&self.layout.units, at).map(Unit::decode)
    }

    /// The stored units number `range` of a list.
    pub(super) fn units(&self, list: &RunList, range: Range<u64>) -> Result<&[u8], Error> {
        let start = (list.units_at + range.start) as usize * UNIT_BYTES; // within the layout
        let end = (list.units_at + range.end) as usize * UNIT_BYTES;
        self.bytes(start..end)
    }

    /// Key entry number `index`, ascending.
    pub(super) fn key_at(&self, index: u64) -> Result<KeyEntry, Error> {
        self.element::<KEY_BYTES>(&self.layout.keys, index).map(KeyEntry::decode)
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

    fn element<const N: usize>(&self, part: &Range<usize>, index: u64) -> Result<&[u8; N], Error> {
        let at = part.start + index as usize * N; // `index` is below a count that fits the file
        debug_assert!(at + N <= part.end);
        let bytes = self.bytes(at..at + N)?;
        Ok(bytes.first_chunk().expect("a range of N bytes"))
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

    fn check(&self, all: &[u8], block: usize) -> Result<(), Error> {
        let start = block * BLOCK_BYTES;
        let bytes = &all[start..all.len().min(start + BLOCK_BYTES)];
        let stored_at = self.layout.checksums.start + block * 4;
        let stored = &self.map.as_ref()[stored_at..stored_at + 4];
        if crc32c(bytes).to_le_bytes() != stored {
            return Err(self.damaged(format!("block {block} does not match its checksum")));
        }
        Ok(())
    }

    /// Whether somebody met damage in it.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Relaxed)
    }

    /// Notes that the run is damaged, for [`Queues::mend`](super::Queues::mend).
    pub(super) fn damaged(&self, what: impl Into<String>) -> Error {
        self.damaged.store(true, Relaxed);
        Error::Damaged { path: self.path.clone(), what: what.into() }
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
