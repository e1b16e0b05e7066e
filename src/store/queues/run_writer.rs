//! Writes a run, front to back: all lists with their units, then all keys, then `finish`.

use std::io::{self, Write};

use super::{
    part::{Part, Times},
    run_format::{BLOCK_BYTES, DirectoryEntry, Footer, crc32c},
    unit::{KeyEntry, UNIT_BYTES},
};
use crate::ids::{PhysicalOffset, QueueOffset};

/// A run on its way to the disk. Memory: 40 bytes per queue, the topic names and one block.
pub(super) struct RunWriter<W> {
    out: W,
    block: Vec<u8>,
    checksums: Vec<u8>,
    directory: Vec<DirectoryEntry>,
    names: Vec<u8>,
    units: u64,
    keys: u64,
}

impl<W: Write> RunWriter<W> {
    pub(super) fn new(out: W) -> Self {
        let block = Vec::with_capacity(BLOCK_BYTES);
        let (checksums, directory, names) = (Vec::new(), Vec::new(), Vec::new());
        Self { out, block, checksums, directory, names, units: 0, keys: 0 }
    }

    /// Starts the list of a queue. Call with ascending (topic, queueId).
    pub(super) fn list(&mut self, topic: &[u8], queue_id: u32, first: QueueOffset) {
        let last = self.directory.last();
        let same = last.filter(|last| self.name(last) == topic);
        debug_assert!(self.keys == 0, "units come before keys");
        debug_assert!(
            last.is_none_or(|l| (self.name(l), l.queue_id) < (topic, queue_id)),
            "ascending"
        );
        let name_at = same.map_or(self.names.len() as u32, |last| last.name_at);
        if same.is_none() {
            self.names.extend_from_slice(topic);
        }
        let (name_bytes, units_at) = (topic.len() as u32, self.units);
        let entry = DirectoryEntry { name_at, name_bytes, queue_id, first, count: 0, units_at };
        self.directory.push(entry);
    }

    /// Adds stored units to the list that was started last.
    pub(super) fn units(&mut self, stored: &[u8]) -> io::Result<()> {
        let count = (stored.len() / UNIT_BYTES) as u64;
        debug_assert_eq!(stored.len() % UNIT_BYTES, 0);
        self.units += count;
        if let Some(list) = self.directory.last_mut() {
            list.count += count;
        }
        self.write(stored)
    }

    /// Adds a key entry. Call in ascending order.
    pub(super) fn key(&mut self, entry: &KeyEntry) -> io::Result<()> {
        self.keys += 1;
        self.write(&entry.encode())
    }

    /// Writes the rest and returns the sink, not flushed.
    pub(super) fn finish(
        mut self,
        from: PhysicalOffset,
        to: PhysicalOffset,
        times: Times,
    ) -> io::Result<W> {
        let (directory, names) =
            (std::mem::take(&mut self.directory), std::mem::take(&mut self.names));
        for entry in &directory {
            self.write(&entry.encode())?;
        }
        self.write(&names)?;
        if !self.block.is_empty() {
            self.end_block()?;
        }
        let footer = Footer {
            from,
            to,
            times,
            units: self.units,
            keys: self.keys,
            queues: directory.len() as u64,
            name_bytes: names.len() as u64,
            checksums_crc: crc32c(&self.checksums),
        };
        self.out.write_all(&self.checksums)?;
        self.out.write_all(&footer.encode())?;
        Ok(self.out)
    }

    fn name(&self, entry: &DirectoryEntry) -> &[u8] {
        let at = entry.name_at as usize;
        &self.names[at..at + entry.name_bytes as usize]
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == BLOCK_BYTES {
                self.end_block()?;
            }
        }
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        self.checksums.extend(crc32c(&self.block).to_le_bytes());
        self.out.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }
}

/// Writes a part of the memory as a run.
pub(super) fn write_part<W: Write>(part: &Part, out: W) -> io::Result<W> {
    let mut run = RunWriter::new(out);
    for list in part.sorted_lists() {
        run.list(list.topic.as_bytes(), list.queue_id, list.first);
        for unit in &list.units {
            run.units(&unit.encode())?;
        }
    }
    for entry in part.sorted_keys() {
        run.key(&entry)?;
    }
    run.finish(part.from, part.to, part.times)
}
