//! The disk as the store sees it: [`Files`], real and (in tests) simulated.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rustix::fs::{Advice, FallocateFlags, IFlags, OFlags};
use rustix::io::Errno;

use super::error::Error;
use super::mmap::{MappedBytes, Unpublished, Writer};
use super::store_file::StoreLock;
use super::threads::{self, Work, Worker};

/// What a directory lists about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Name within the directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// When it was last written to, milliseconds since the epoch.
    pub modified_ms: i64,
}

/// Size of a file system and what of it this process may still use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it, without what is reserved for root.
    pub total: u64,
    /// What is left.
    pub free: u64,
}

/// A file of fixed size that is read through memory.
pub trait SegmentFile: Send + Sync {
    /// Maps the whole file. The former [`Writer`] must not be used any more.
    fn map(&self) -> io::Result<Writer>;
    /// Writes what the file's own [`Writer`] allows. Readers of the mapping see it at once; after
    /// an error a part of it may be there.
    fn write(&self, bytes: Unpublished<'_>) -> io::Result<()>;
    /// What was written so far survives a power loss. After an error nobody knows what did.
    fn sync(&self) -> io::Result<()>;
    /// Makes a range zero, durable with the next [`Self::sync`], without touching what is zero.
    fn zero(&self, range: Range<u64>) -> io::Result<()>;
    /// Reads what is stored from `at` on. Pages that cannot be read are zeros, which no checksum
    /// takes for an entry.
    fn read_stored(&self, at: u64, out: &mut [u8], through: Through) -> io::Result<()>;
}

/// How stored bytes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// From the disk, whatever memory has; nothing stays in memory.
    Disk,
    /// From memory what is there, and the rest from the disk.
    Cache,
}

/// Writes the content of a file, front to back.
pub type Fill<'a> = dyn FnMut(&mut dyn Write) -> io::Result<()> + 'a;

/// A disk. Everything that the store does to files goes through here.
pub trait Files: Send + Sync {
    /// Makes a directory and those above it, durably.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// The plain files of a directory, sorted by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<FileInfo>>;
    /// Opens a file of exactly `bytes` bytes. A missing one is created, a shorter one is extended
    /// with zeros; its blocks are allocated and its name is durable when this returns.
    fn segment(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn SegmentFile>>;
    /// A finished file in memory. Nobody writes to it any more.
    fn map(&self, path: &Path) -> io::Result<MappedBytes>;
    /// The content of a small file; `None` if there is no such file.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;
    /// Writes a whole file: after a crash there is the old content or the new one. Durable when
    /// this returns.
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.replace_with(path, &mut |out| out.write_all(content))
    }
    /// Like [`Self::replace`], for content that is not in memory at once. An error of `fill` comes
    /// back, and the old content stays.
    fn replace_with(&self, path: &Path, fill: &mut Fill<'_>) -> io::Result<()>;
    /// Deletes a file; a missing one is fine. Durable with the next [`Self::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations and deletions in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Has files that are made in `dir` from now on written where they have been allocated. If that
    /// cannot be had: the name of the file system.
    fn write_in_place(&self, _dir: &Path) -> Result<(), &'static str> {
        Ok(())
    }
    /// Size and rest of the file system that holds `dir`.
    fn space(&self, dir: &Path) -> io::Result<Space>;

    /// Keeps other processes out of a store.
    fn lock(&self, path: &Path) -> Result<StoreLock, Error> {
        StoreLock::of_file(path)
    }

    /// What the kernel draws anew at each start of the machine.
    fn boot_id(&self) -> io::Result<String> {
        fs::read_to_string(BOOT_ID).map(|id| id.trim().to_owned())
    }

    /// A number for a new store. From the kernel: members that start at the same moment must not
    /// draw the same.
    fn draw_id(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Starts work that takes the disk's time.
    fn start_worker(&self, name: &str, work: Work) -> io::Result<Arc<dyn Worker>> {
        threads::start(name, work)
    }
}

/// End of the name under which [`Files::replace_with`] writes what is not finished yet.
pub(super) const UNFINISHED: &str = ".tmp";

/// Deletes what former lives did not finish writing in `dir` under names that start like this. For
/// files whose names change: others are written over.
pub fn remove_unfinished(files: &dyn Files, dir: &Path, start: &str) -> Result<(), Error> {
    remove_all(files, dir, |name| name.starts_with(start) && name.ends_with(UNFINISHED))
}

/// Deletes the plain files of `dir` that are `wanted` by name.
pub(super) fn remove_all(
    files: &dyn Files,
    dir: &Path,
    wanted: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    let listed = files.list(dir).map_err(|e| Error::io("list directory", dir, e))?;
    for file in listed.iter().filter(|file| wanted(&file.name)) {
        let path = dir.join(&file.name);
        files.remove(&path).map_err(|e| Error::io("delete", &path, e))?;
    }
    Ok(())
}

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFiles;

impl Files for RealFiles {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        if let Some(above) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
            self.create_dir(above)?;
        }
        match fs::create_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let text = format!("{} is not a directory", dir.display());
                Err(io::Error::new(io::ErrorKind::NotADirectory, text))
            }
            Err(e) => Err(e),
            Ok(()) => dir.parent().map_or(Ok(()), |above| self.sync_dir(above)),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<FileInfo>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let meta = match entry.metadata() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue, // deleted meanwhile
                meta => meta?,
            };
            let Ok(name) = entry.file_name().into_string() else { continue };
            if meta.is_file() {
                let modified = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                let modified_ms = i64::try_from(modified.as_millis()).unwrap_or(i64::MAX);
                files.push(FileInfo { name, bytes: meta.len(), modified_ms });
            }
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    fn segment(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn SegmentFile>> {
        let existed = path.exists();
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let have = file.metadata()?.len();
        if have > bytes {
            let text = format!("file has {have} bytes, more than the {bytes} it should have");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        if have < bytes {
            if let Err(error) = allocate(&file, have, bytes).and_then(|()| file.sync_all()) {
                if !existed {
                    let _ = fs::remove_file(path); // what was allocated is needed elsewhere now
                }
                return Err(error);
            }
            path.parent().map_or(Ok(()), |dir| self.sync_dir(dir))?;
        }
        Ok(Arc::new(RealSegment { file, path: path.to_owned(), bytes }))
    }

    fn map(&self, path: &Path) -> io::Result<MappedBytes> {
        MappedBytes::of_finished(&File::open(path)?)
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match fs::read(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            content => content.map(Some),
        }
    }

    fn replace_with(&self, path: &Path, fill: &mut Fill<'_>) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(UNFINISHED);
        let temporary = Path::new(&name);
        let file = File::create(temporary)?;
        let mut spread = Spread { file: &file, unsynced: 0 };
        if let Err(error) = fill(&mut spread).and_then(|()| file.sync_all()) {
            let _ = fs::remove_file(temporary); // what it takes is needed elsewhere now
            return Err(error);
        }
        fs::rename(temporary, path)?;
        path.parent().map_or(Ok(()), |dir| self.sync_dir(dir))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        File::open(dir)?.sync_all()
    }

    fn write_in_place(&self, dir: &Path) -> Result<(), &'static str> {
        #[allow(clippy::useless_conversion)] // not 64 bits everywhere
        let of_dir = rustix::fs::statfs(dir).map_or(0, |stat| i64::from(stat.f_type));
        match COPY_ON_WRITE.iter().find(|(number, _)| *number == of_dir) {
            Some((_, name)) => turn_off_copying(dir).map_err(|_| *name),
            None => Ok(()),
        }
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(dir)?;
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        let usable = used.saturating_add(stat.f_bavail);
        Ok(Space {
            total: usable.saturating_mul(stat.f_frsize),
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }
}

/// How much of a large file is given to the disk at once.
const SPREAD_BYTES: usize = 2 << 20;

/// A file that is synced while it is written: a sync of the log then waits for a part of it at most,
/// not for all of the tens of MiB of a segment's derived data.
struct Spread<'a> {
    file: &'a File,
    unsynced: usize,
}

impl Write for Spread<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.unsynced >= SPREAD_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        let written = self.file.write(&bytes[..bytes.len().min(SPREAD_BYTES)])?;
        self.unsynced += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // nothing is held back
    }
}

/// File systems that write to another place than before, by the number that `statfs` has for them.
const COPY_ON_WRITE: [(i64, &str); 3] =
    [(0x9123_683E, "btrfs"), (0x2FC1_2FC1, "ZFS"), (0xCA45_1A4E, "bcachefs")];

/// Turns copying off for new files of a directory, where that can be done (btrfs).
fn turn_off_copying(dir: &Path) -> io::Result<()> {
    let dir = File::open(dir)?;
    let flags = rustix::fs::ioctl_getflags(&dir)?;
    if flags.contains(IFlags::NOCOW) {
        return Ok(());
    }
    Ok(rustix::fs::ioctl_setflags(&dir, flags | IFlags::NOCOW)?)
}

/// Allocates `from..to` as zeros. Blocks are taken now: a disk that fills up meanwhile must not
/// stop an append half way.
fn allocate(file: &File, from: u64, to: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), from, to - from) {
        Err(Errno::OPNOTSUPP) => write_zeros(file, from..to),
        done => Ok(done?),
    }
}

fn write_zeros(file: &File, range: Range<u64>) -> io::Result<()> {
    let zeros = vec![0u8; 1 << 20];
    let mut at = range.start;
    while at < range.end {
        let bytes = (range.end - at).min(zeros.len() as u64);
        file.write_all_at(&zeros[..bytes as usize], at)?;
        at += bytes;
    }
    Ok(())
}

struct RealSegment {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl SegmentFile for RealSegment {
    fn map(&self) -> io::Result<Writer> {
        Writer::map(&self.file, usize::try_from(self.bytes).map_err(io::Error::other)?)
    }

    fn write(&self, bytes: Unpublished<'_>) -> io::Result<()> {
        self.file.write_all_at(bytes.bytes(), bytes.at())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let bytes = range.end - range.start;
        match rustix::fs::fallocate(&self.file, FallocateFlags::ZERO_RANGE, range.start, bytes) {
            Err(Errno::OPNOTSUPP) => zero_what_is_not(&self.file, range),
            done => Ok(done?),
        }
    }

    fn read_stored(&self, at: u64, out: &mut [u8], through: Through) -> io::Result<()> {
        if through == Through::Cache {
            return read_pages(&self.file, out, at);
        }
        match read_past_cache(&self.path, out, at) {
            // Not on this file system, or not with these sizes.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                read_pages(&self.file, out, at)?;
                let bytes = NonZeroU64::new(out.len() as u64);
                Ok(rustix::fs::fadvise(&self.file, at, bytes, Advice::DontNeed)?)
            }
            read => read,
        }
    }
}

/// What a disk reads at once; direct reads begin and end at multiples of it, in memory as well.
const DISK_PAGE_BYTES: usize = 4096;

/// Reads what the disk has, also of pages that memory has; those stay as they are.
fn read_past_cache(path: &Path, out: &mut [u8], at: u64) -> io::Result<()> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::DIRECT.bits().cast_signed())
        .open(path)?;
    let before = (at % DISK_PAGE_BYTES as u64) as usize;
    let bytes = (before + out.len()).next_multiple_of(DISK_PAGE_BYTES);
    let mut room = vec![0; bytes + DISK_PAGE_BYTES];
    let aligned = room.as_ptr().align_offset(DISK_PAGE_BYTES);
    let pages = &mut room[aligned..aligned + bytes];
    read_pages(&file, pages, at - before as u64)?;
    out.copy_from_slice(&pages[before..before + out.len()]);
    Ok(())
}

/// Reads all that can be read. A disk that fails at one page fails the whole read: then page by
/// page.
fn read_pages(file: &impl FileExt, out: &mut [u8], at: u64) -> io::Result<()> {
    match file.read_exact_at(out, at) {
        Err(error) if error.kind() != io::ErrorKind::InvalidInput => {}
        read => return read,
    }
    let (mut rest, mut at) = (out, at);
    while !rest.is_empty() {
        let bytes = DISK_PAGE_BYTES - (at % DISK_PAGE_BYTES as u64) as usize;
        let (page, behind) = rest.split_at_mut(bytes.min(rest.len()));
        if file.read_exact_at(page, at).is_err() {
            page.fill(0);
        }
        at += page.len() as u64;
        rest = behind;
    }
    Ok(())
}

/// For file systems that cannot mark a range as zero. Page by page from the end: wherever that is
/// interrupted, no entry is left whole behind one that is gone.
fn zero_what_is_not(file: &impl FileExt, range: Range<u64>) -> io::Result<()> {
    const PAGE_BYTES: u64 = 4096; // a kill may part a longer write
    let (mut page, zeros) = ([0; PAGE_BYTES as usize], [0; PAGE_BYTES as usize]);
    let mut end = range.end;
    while range.start < end {
        let start = range.start.max((end - 1) / PAGE_BYTES * PAGE_BYTES);
        let part = ..(end - start) as usize;
        file.read_exact_at(&mut page[part], start)?;
        if page[part] != zeros[part] {
            file.write_all_at(&zeros[part], start)?;
        }
        end = start;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_created_extended_and_never_longer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0");
        RealFiles.segment(&path, 8192).unwrap();
        fs::write(&path, b"abc").unwrap();
        let segment = RealFiles.segment(&path, 8192).unwrap();
        let map = segment.map().unwrap();
        assert!(map.contents().starts_with(b"abc\0") && map.len() == 8192);
        let error = RealFiles.segment(&path, 4096).err().unwrap();
        assert!(error.to_string().contains("8192"), "{error}");
    }

    #[test]
    fn a_file_where_a_directory_should_be_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for wanted in [file.clone(), file.join("below"), file.join("far/below")] {
            let error = RealFiles.create_dir(&wanted).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
            assert_eq!(error.to_string(), format!("{} is not a directory", file.display()));
        }
    }

    #[test]
    fn zeroing_shows_in_the_mapping_and_spares_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let segment = RealFiles.segment(&dir.path().join("0"), 1 << 20).unwrap();
        let mut map = segment.map().unwrap();
        segment.write(map.unpublished(0, &[7; 1 << 20])).unwrap();
        segment.zero(100..500_000).unwrap();
        segment.zero(9..9).unwrap();
        let bytes = map.contents();
        assert!(bytes[..100].iter().chain(&bytes[500_000..]).all(|b| *b == 7));
        assert!(bytes[100..500_000].iter().all(|b| *b == 0));
    }

    #[test]
    fn zeroing_block_by_block_does_the_same() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![7; 300_000], 0).unwrap();
        zero_what_is_not(&file, 70_001..250_000).unwrap();
        let mut bytes = vec![1; 300_000];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes[70_001..250_000].iter().all(|b| *b == 0));
        assert!(bytes[..70_001].iter().chain(&bytes[250_000..]).all(|b| *b == 7));
    }

    /// A file that takes so many writes more.
    struct Dying(File, std::cell::Cell<usize>);

    impl FileExt for Dying {
        fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
            self.0.read_at(bytes, at)
        }

        fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
            let is_within_a_page = at / 4096 == (at + bytes.len() as u64 - 1) / 4096;
            let left = self.1.get().checked_sub(1).filter(|_| is_within_a_page);
            self.1.set(left.ok_or(io::ErrorKind::Other)?);
            self.0.write_at(bytes, at)
        }
    }

    #[test]
    fn zeroing_that_is_interrupted_leaves_the_front_and_nothing_behind_a_gap() {
        for writes in 0..60 {
            let file = Dying(tempfile::tempfile().unwrap(), usize::MAX.into());
            file.0.write_all_at(&vec![7; 200_000], 0).unwrap();
            file.1.set(writes);
            let done = zero_what_is_not(&file, 5_001..200_000);
            let mut bytes = vec![1; 200_000];
            file.0.read_exact_at(&mut bytes, 0).unwrap();
            let zeroed = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
            assert!(bytes[zeroed..].iter().all(|b| *b == 0), "after {writes} writes");
            assert_eq!(done.is_ok(), zeroed == 5_001, "after {writes} writes");
        }
    }

    #[test]
    fn replacing_leaves_one_file_and_removing_twice_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let nested = dir.path().join("a/b");
        RealFiles.create_dir(&nested).unwrap();
        RealFiles.create_dir(&nested).unwrap();
        let path = nested.join("f");
        assert_eq!(RealFiles.read(&path).unwrap(), None);
        RealFiles.replace(&path, b"one").unwrap();
        RealFiles.replace(&path, b"two").unwrap();
        assert_eq!(RealFiles.read(&path).unwrap().unwrap(), b"two");
        assert_eq!(RealFiles.map(&path).unwrap().as_ref(), b"two");
        let halfway = RealFiles.replace_with(&path, &mut |out| {
            out.write_all(b"thr").and_then(|()| Err(io::ErrorKind::StorageFull.into()))
        });
        assert_eq!(halfway.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(RealFiles.read(&path).unwrap().unwrap(), b"two");
        assert_eq!(RealFiles.list(&nested).unwrap().len(), 1, "what was half written is gone");
        RealFiles.remove(&path).unwrap();
        RealFiles.remove(&path).unwrap();
        assert!(RealFiles.space(&nested).unwrap().total > 0);
    }
}
