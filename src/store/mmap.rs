//! Files in memory. The only module with `unsafe`; everything it exports is safe to call.
//!
//! ```text
//!  0 ───────────────── published ─────────────────── len
//!  │ never written again │ written by the one Writer │
//!  │ read by anyone      │ known to the Writer only  │
//! ```
//!
//! Memory is for reading only. What is written goes through the file ([`Unpublished`]), a whole
//! entry a call: no page faults on the way, an error instead of a signal when the disk refuses, and
//! a sync writes what was appended rather than whole folios that memory had made dirty.
//!
//! `published` only grows. A log that is cut does not take bytes back: `Writer::detach` gives the
//! old mapping a private copy of the bytes that go, and maps the file afresh for what comes.
//! Damaged bytes are replaced in the same way (`Writer::replace`): who holds them keeps them. So
//! a slice once handed out never changes, whatever happens to the log or the file behind it.
//!
//! A page that the disk cannot read is zeros (`unreadable`), which no checksum takes for an
//! entry, and is counted.
//!
//! Three things are beyond this module and are kept by its users: no other process writes to or
//! shortens a mapped file (`store.lock`), a file has one `Writer` at a time (only [`super::files`]
//! makes them, one per opened file), and what it allows is written to its own file.
#![allow(unsafe_code)]

mod unreadable;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use memmap2::{MmapMut, MmapOptions, MmapRaw};
use rustix::mm::{MremapFlags, mremap_fixed};

use unreadable::Watch;

#[cfg(target_arch = "x86_64")]
const CACHE_LINE_BYTES: usize = 64;
/// The processor sees by itself that someone reads on.
#[cfg(target_arch = "x86_64")]
const PREFETCHED_LINES_MAX: usize = 32;
/// A multiple of every page size in use (4, 16 and 64 KiB).
const PAGE_BYTES_MAX: usize = 64 * 1024;
const PAGE_BYTES_MIN: usize = 4096;

struct Region {
    /// Goes before the mapping does.
    watch: Watch,
    map: MmapRaw,
    published: AtomicUsize,
}

impl Region {
    fn new(map: MmapRaw, published: usize) -> Arc<Self> {
        let watch = Watch::new(map.as_ptr().expose_provenance(), map.len());
        Arc::new(Self { watch, map, published: AtomicUsize::new(published) })
    }

    /// The caller must know that `range` lies below `published`.
    fn published_bytes(&self, range: Range<usize>) -> &[u8] {
        debug_assert!(range.start <= range.end);
        debug_assert!(range.end <= self.published.load(Ordering::Acquire));
        // SAFETY: the range lies within the mapping, because `published` never exceeds its length
        // (asserted in `publish`) and only grows. Bytes below `published` are never written again:
        // `Writer::unpublished` is the only way to write, and it refuses them. Pages may be
        // exchanged for others of the same content (`detach`), which no reader can notice.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(range.start), range.len()) }
    }

    /// Puts a private copy in the place of published bytes: what is written to the file does not
    /// show here any more. The range starts on a page, and ends on one or with what is published.
    #[allow(clippy::panic_in_result_fn)] // an invariant of memory safety, not an error
    fn make_private(&self, range: Range<usize>) -> io::Result<()> {
        assert!(range.start.is_multiple_of(PAGE_BYTES_MAX));
        let mut copy = MmapMut::map_anon(range.len())?;
        copy.copy_from_slice(self.published_bytes(range.clone()));
        // SAFETY: the target starts on a page (mappings do, and `range.start` is a multiple of
        // every page size) and its pages lie within our mapping: `range` does, and a mapping
        // reaches to the end of its last page. What is behind `range` in its last page nobody can
        // read. The source is a private mapping that nobody else knows, forgotten below. The
        // kernel replaces the pages in one step under its mapping lock; a concurrent reader sees
        // equal bytes before and after.
        unsafe {
            mremap_fixed(
                copy.as_mut_ptr().cast(),
                copy.len(),
                copy.len(),
                MremapFlags::MAYMOVE,
                self.map.as_mut_ptr().add(range.start).cast(),
            )?;
        }
        std::mem::forget(copy); // its pages are part of this mapping now, unmapped with it
        Ok(())
    }
}

/// The right to write to one mapped file. There is one per file.
pub struct Writer {
    region: Arc<Region>,
    /// Mappings that readers may still hold, and up to where each shows the file itself.
    former: Vec<(Weak<Region>, usize)>,
}

impl Writer {
    /// Maps the first `len` bytes of `file`. Refuses a file that is shorter: touching
    /// memory beyond its end would kill the process.
    pub(super) fn map(file: &File, len: usize) -> io::Result<Self> {
        let have = file.metadata()?.len();
        if have < len as u64 {
            let text = format!("file has {have} bytes, {len} were to be mapped");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        let map = MmapOptions::new().len(len).map_raw_read_only(file)?;
        Ok(Self { region: Region::new(map, 0), former: Vec::new() })
    }

    /// Pages that the disk could not read so far; they are zeros here.
    pub fn unreadable_pages(&self) -> usize {
        self.region.watch.pages()
    }

    /// Bytes of the mapping.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.region.map.len()
    }

    /// How far readers may read.
    pub fn published(&self) -> usize {
        self.region.published.load(Ordering::Relaxed)
    }

    /// The whole mapping, published or not.
    pub fn contents(&self) -> &[u8] {
        // SAFETY: the length is the mapping's own. Writing needs `&mut self` of the one `Writer` as
        // long as it takes, so nothing is written while this borrow lives.
        unsafe { std::slice::from_raw_parts(self.region.map.as_ptr(), self.region.map.len()) }
    }

    /// Allows `bytes` to be written at `at`, through the file. Panics when the range is not wholly
    /// unpublished and within the mapping: that would change bytes under a reader.
    pub fn unpublished<'a>(&'a mut self, at: usize, bytes: &'a [u8]) -> Unpublished<'a> {
        assert!(
            self.published() <= at && bytes.len() <= self.len().saturating_sub(at),
            "{} bytes at {at} are not within {}..{}",
            bytes.len(),
            self.published(),
            self.len()
        );
        Unpublished { at: at as u64, bytes }
    }

    /// Lets readers see everything below `end`. What is published stays as it is for ever.
    pub fn publish(&mut self, end: usize) {
        assert!(
            self.published() <= end && end <= self.len(),
            "cannot publish up to {end} of {}..{}",
            self.published(),
            self.len()
        );
        self.region.published.store(end, Ordering::Release);
    }

    /// A handle for readers.
    pub fn reader(&self) -> Reader {
        Reader { region: Arc::clone(&self.region) }
    }

    /// Takes back what was published beyond `keep`, so that it can be written again.
    ///
    /// Slices handed out before keep their bytes: the old mapping, and those before it that are
    /// still in use, get a private copy of all that may change. `fresh` must be another mapping of
    /// the same file; it takes over from here.
    #[allow(clippy::panic_in_result_fn)] // an invariant of memory safety, not an error
    pub(super) fn detach(&mut self, mut fresh: Self, keep: usize) -> io::Result<()> {
        let end = self.published();
        assert!(keep <= end && fresh.len() == self.len() && fresh.published() == 0);
        fresh.publish(keep);
        self.former.push((Arc::downgrade(&self.region), end));
        self.region = fresh.region;
        self.former.retain(|(region, _)| region.strong_count() > 0);
        for (region, shared) in &mut self.former {
            if let Some(region) = region.upgrade().filter(|_| keep < *shared) {
                let start = keep - keep % PAGE_BYTES_MAX;
                region.make_private(start..*shared)?;
                *shared = start;
            }
        }
        Ok(())
    }

    /// Has other bytes written in the place of those published from `at` on, for whoever reads
    /// from now on; they may reach beyond what is published. Slices handed out before keep what
    /// they had, as with [`Self::detach`]. After an error, what was there may be there in part.
    #[allow(clippy::panic_in_result_fn)] // an invariant of memory safety, not an error
    pub(super) fn replace(
        &mut self,
        mut fresh: Self,
        (at, bytes): (usize, &[u8]),
        write: impl FnOnce(Unpublished<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let (end, stop) = (self.published(), at + bytes.len());
        assert!(at <= end && stop <= self.len());
        assert!(fresh.len() == self.len() && fresh.published() == 0);
        let pages = at - at % PAGE_BYTES_MAX..stop.next_multiple_of(PAGE_BYTES_MAX);
        self.former.retain(|(region, _)| region.strong_count() > 0);
        // The present mapping last: if a copy cannot be made, it must go on showing the file.
        let present = (Arc::downgrade(&self.region), end);
        for (region, shared) in self.former.iter().chain([&present]) {
            let pages = pages.start..pages.end.min(*shared);
            if let Some(region) = region.upgrade().filter(|_| !pages.is_empty()) {
                region.make_private(pages)?;
            }
        }
        let written = write(fresh.unpublished(at, bytes));
        fresh.publish(end);
        self.former.push(present);
        self.region = fresh.region;
        written
    }
}

/// Bytes, and a place for them that no reader sees. The file may be written there while this lives.
#[derive(Debug, Clone, Copy)]
pub struct Unpublished<'a> {
    at: u64,
    bytes: &'a [u8],
}

impl Unpublished<'_> {
    /// Where in the file.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// What.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }
}

/// Reads what the [`Writer`] of a mapping has published. Keeps the mapping alive.
#[derive(Clone)]
pub struct Reader {
    region: Arc<Region>,
}

impl Reader {
    /// How far one may read by now.
    pub fn published(&self) -> usize {
        self.region.published.load(Ordering::Acquire)
    }

    /// The bytes of `range`, or `None` unless all are published.
    pub fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        (range.start <= range.end && range.end <= self.published())
            .then(|| self.region.published_bytes(range))
    }

    /// Reads what [`Writer::replace`] copies of `range`, so that this finds it in memory: the disk
    /// may take its time, above all for what it cannot read.
    pub(super) fn touch(&self, range: Range<usize>) {
        let start = range.start - range.start % PAGE_BYTES_MAX;
        let end = range.end.next_multiple_of(PAGE_BYTES_MAX).min(self.published());
        let bytes = self.bytes(start..end).unwrap_or_default();
        std::hint::black_box(
            bytes.iter().step_by(PAGE_BYTES_MIN).fold(0, |seen, byte| seen ^ byte),
        );
    }

    /// Like [`Self::bytes`], as an owner of the mapping.
    pub fn slice(&self, range: Range<usize>) -> Option<MappedBytes> {
        (range.start <= range.end && range.end <= self.published()).then(|| MappedBytes {
            region: Arc::clone(&self.region),
            start: range.start,
            len: range.len(),
        })
    }
}

/// A range of a mapped file. Keeps the mapping alive, also after the file was deleted.
#[derive(Clone)]
pub struct MappedBytes {
    region: Arc<Region>, // `start..start + len` is published
    start: usize,
    len: usize,
}

impl MappedBytes {
    /// The whole of a finished file that nobody will write to any more.
    pub(super) fn of_finished(file: &File) -> io::Result<Self> {
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let map = match len {
            0 => MmapMut::map_anon(1)?.into(), // an empty mapping is an error
            _ => MmapOptions::new().len(len).map_raw_read_only(file)?,
        };
        Ok(Self { region: Region::new(map, len), start: 0, len })
    }

    /// Pages of the mapping that the disk could not read so far; they are zeros here. To be asked
    /// after bytes were used: a page can be forgotten, and be unreadable, at any time before.
    pub(super) fn unreadable_pages(&self) -> usize {
        self.region.watch.pages()
    }

    /// A part of it; `range` counts from the start of this one. Panics when it is not within.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        Self { region: Arc::clone(&self.region), start: self.start + range.start, len: range.len() }
    }

    /// This range and `next` as one, if `next` lies right behind it in the same file.
    #[must_use]
    pub fn join(&self, next: &Self) -> Option<Self> {
        let adjacent = Arc::ptr_eq(&self.region, &next.region);
        (adjacent && self.start + self.len == next.start).then(|| Self {
            region: Arc::clone(&self.region),
            start: self.start,
            len: self.len + next.len,
        })
    }

    /// Has the processor load the first of the bytes meanwhile. A hint: nothing waits for it.
    pub fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        for line in self.chunks(CACHE_LINE_BYTES).take(PREFETCHED_LINES_MAX) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: any address may be prefetched, and this one is a line's of the slice.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
    }

    /// The same bytes for libraries that want [`Bytes`]; nothing is copied.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for MappedBytes {
    fn as_ref(&self) -> &[u8] {
        self.region.published_bytes(self.start..self.start + self.len)
    }
}

impl std::ops::Deref for MappedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_ref()
    }
}

impl From<MappedBytes> for Bytes {
    fn from(bytes: MappedBytes) -> Self {
        bytes.into_bytes()
    }
}

impl std::fmt::Debug for MappedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MappedBytes({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn file(len: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(len).unwrap();
        file
    }

    fn write(writer: &mut Writer, file: &File, at: usize, bytes: &[u8]) {
        let allowed = writer.unpublished(at, bytes);
        file.write_all_at(allowed.bytes(), allowed.at()).unwrap();
    }

    #[test]
    fn only_published_bytes_can_be_read() {
        let file = file(8192);
        let mut writer = Writer::map(&file, 8192).unwrap();
        let reader = writer.reader();
        write(&mut writer, &file, 0, b"hello");
        assert!(reader.slice(0..5).is_none());
        writer.publish(5);
        assert_eq!(reader.slice(0..5).unwrap().as_ref(), b"hello");
        assert!(reader.slice(0..6).is_none());
        assert!(reader.bytes(1..5).is_some_and(|b| b == b"ello"));
    }

    #[test]
    #[should_panic(expected = "4 bytes at 4 are not within 5..8192")]
    fn published_bytes_cannot_be_written() {
        let mut writer = Writer::map(&file(8192), 8192).unwrap();
        writer.publish(5);
        writer.unpublished(4, b"four");
    }

    #[test]
    fn a_file_that_is_too_short_is_refused() {
        assert!(Writer::map(&file(8191), 8192).is_err());
    }

    #[test]
    fn pages_that_cannot_be_read_are_zeros_and_end_nobody() {
        const PAGE: usize = PAGE_BYTES_MAX;
        let file = file(8 * PAGE as u64);
        file.write_all_at(&[7; 8 * PAGE], 0).unwrap();
        let mut writer = Writer::map(&file, 8 * PAGE).unwrap();
        assert_eq!((writer.contents()[5 * PAGE], writer.unreadable_pages()), (7, 0));
        writer.publish(8 * PAGE);
        let held = writer.reader().slice(0..8 * PAGE).unwrap();
        file.set_len(6 * PAGE as u64).unwrap(); // the signal of a page behind the end is the same
        assert!(held[..6 * PAGE].iter().all(|b| *b == 7) && writer.unreadable_pages() == 0);
        assert!(held[6 * PAGE..7 * PAGE].iter().all(|b| *b == 0));
        let pages = writer.unreadable_pages();
        assert!(pages > 0);
        file.set_len(8 * PAGE as u64).unwrap();
        file.write_all_at(&[8; 8 * PAGE], 0).unwrap();
        assert!(held[6 * PAGE..7 * PAGE].iter().all(|b| *b == 0), "whoever read it keeps it");
        assert!(held[..6 * PAGE].iter().chain(&held[7 * PAGE..]).all(|b| *b == 8));
        assert_eq!(writer.unreadable_pages(), pages);
        assert!(Writer::map(&file, 8 * PAGE).unwrap().contents().iter().all(|b| *b == 8));
    }

    #[test]
    fn slices_keep_their_bytes_when_the_log_is_cut_and_written_again() {
        const LEN: usize = 1 << 20;
        let file = file(LEN as u64);
        for keep in [0, 1, PAGE_BYTES_MAX - 1, PAGE_BYTES_MAX, 300_000, 700_000] {
            let mut writer = Writer::map(&file, LEN).unwrap();
            write(&mut writer, &file, 0, &[1; 700_000]);
            writer.publish(700_000);
            let old = writer.reader().slice(0..700_000).unwrap();
            writer.detach(Writer::map(&file, LEN).unwrap(), keep).unwrap();
            write(&mut writer, &file, keep, &vec![2; LEN - keep]);
            writer.publish(LEN);
            assert!(old.iter().all(|b| *b == 1), "keep {keep}");
            let new = writer.reader().slice(0..LEN).unwrap();
            assert!(new[..keep].iter().all(|b| *b == 1) && new[keep..].iter().all(|b| *b == 2));
        }
    }

    #[test]
    fn slices_survive_any_number_of_cuts() {
        const LEN: usize = 1 << 20;
        let file = file(LEN as u64);
        let mut writer = Writer::map(&file, LEN).unwrap();
        let mut held = Vec::new();
        for (round, keep) in [0, 700_000, 300_000, 400_000, 5, 100_000, 0].into_iter().enumerate() {
            writer.detach(Writer::map(&file, LEN).unwrap(), keep).unwrap();
            write(&mut writer, &file, keep, &vec![round as u8; LEN - keep]);
            writer.publish(LEN);
            let slice = writer.reader().slice(0..LEN).unwrap();
            let copy = slice.to_vec();
            held.push((slice, copy));
            held.iter().for_each(|(slice, copy)| assert!(slice.as_ref() == copy, "{round}"));
        }
        held.clear();
        writer.detach(Writer::map(&file, LEN).unwrap(), 0).unwrap();
        assert_eq!(writer.former.len(), 0, "nobody holds them");
    }

    #[test]
    fn slices_keep_their_bytes_when_others_take_their_place() {
        const LEN: usize = 1 << 20;
        const END: usize = 700_001;
        let file = file(LEN as u64);
        let fresh = || Writer::map(&file, LEN).unwrap();
        for (at, bytes) in [(0, 8), (65_536, 65_536), (300_000, 70_000), (END - 9, 9)] {
            let mut writer = fresh();
            let through =
                |allowed: Unpublished<'_>| file.write_all_at(allowed.bytes(), allowed.at());
            write(&mut writer, &file, 0, &[1; END]);
            writer.publish(END);
            let old = writer.reader().slice(0..END).unwrap();
            writer.replace(fresh(), (at, &vec![2; bytes]), through).unwrap();
            let new = writer.reader().slice(0..END).unwrap();
            writer.replace(fresh(), (at, &vec![3; bytes]), through).unwrap();
            let newest = writer.reader().slice(0..END).unwrap();
            write(&mut writer, &file, END, &[4; LEN - END]);
            writer.publish(LEN);
            let cut = writer.reader().slice(0..LEN).unwrap();
            writer.detach(fresh(), at).unwrap();
            write(&mut writer, &file, at, &vec![5; LEN - at]);
            writer.publish(LEN);
            for (slice, want) in [(old, 1), (new, 2), (newest, 3)] {
                let is_kept = |(i, byte): (usize, &u8)| {
                    *byte == if (at..at + bytes).contains(&i) { want } else { 1 }
                };
                assert!(slice.iter().enumerate().all(is_kept), "{want}, {bytes} at {at}");
            }
            assert!(cut[..at].iter().all(|b| *b == 1) && cut[END..].iter().all(|b| *b == 4));
            assert!(cut[at..at + bytes].iter().all(|b| *b == 3));
        }
    }

    #[test]
    fn bytes_outlive_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"some bytes").unwrap();
        let whole = MappedBytes::of_finished(&File::open(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(whole.slice(5..10).into_bytes(), b"bytes".as_slice());
    }

    #[test]
    fn an_empty_file_maps_to_no_bytes() {
        assert!(MappedBytes::of_finished(&file(0)).unwrap().is_empty());
    }
}
