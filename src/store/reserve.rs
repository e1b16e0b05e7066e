//! Room kept aside on the disk: when it is full, the small files by which a member stays in its
//! group and frees space (where the log starts, checkpoints, snapshots) can still be written.
//!
//! The reserve is a file. The first small file that finds no room has it deleted, and it is made
//! again as soon as there is room ([`Reserve::refill`]). Segments of the log never get it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::Error;
use super::files::{FileInfo, Files, Fill, SegmentFile, Space};
use super::mmap::MappedBytes;
use super::store_file::StoreLock;
use super::threads::{Work, Worker};

/// What small files take together, at least for a while. Bytes.
const RESERVE_BYTES_MAX: u64 = 16 << 20;

/// Size of the reserve beside segments of this size.
pub fn reserve_bytes(segment_bytes: u64) -> u64 {
    (segment_bytes / 16).min(RESERVE_BYTES_MAX)
}

/// A disk with a reserve. Cheap to clone; clones share the disk and the reserve.
#[derive(Clone)]
pub struct Reserve {
    files: Arc<dyn Files>,
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    /// The reserve of a log in `log_dir`. Not made before [`Self::refill`].
    pub fn new(files: Arc<dyn Files>, log_dir: &Path, segment_bytes: u64) -> Self {
        Self { files, path: log_dir.join("reserve"), bytes: reserve_bytes(segment_bytes) }
    }

    /// Makes the reserve if it is not there.
    pub fn refill(&self) -> io::Result<()> {
        self.files.segment(&self.path, self.bytes).map(drop)
    }

    /// Frees the reserve. Whether that helps is seen by trying.
    fn release(&self) -> io::Result<()> {
        self.files.remove(&self.path)?;
        self.path.parent().map_or(Ok(()), |dir| self.files.sync_dir(dir))
    }
}

/// Whether it is for lack of room: of the disk's, of a quota's, or of what a process may write.
pub fn is_no_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

impl Files for Reserve {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<FileInfo>> {
        self.files.list(dir)
    }
    fn segment(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn SegmentFile>> {
        self.files.segment(path, bytes)
    }
    fn map(&self, path: &Path) -> io::Result<MappedBytes> {
        self.files.map(path)
    }
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        self.files.read(path)
    }
    fn replace_with(&self, path: &Path, fill: &mut Fill<'_>) -> io::Result<()> {
        match self.files.replace_with(path, fill) {
            Err(error) if is_no_room(&error) => {
                self.release()?;
                self.files.replace_with(path, fill)
            }
            done => done,
        }
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.files.sync_dir(dir)
    }
    fn write_in_place(&self, dir: &Path) -> Result<(), &'static str> {
        self.files.write_in_place(dir)
    }
    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.files.space(dir)
    }
    fn lock(&self, path: &Path) -> Result<StoreLock, Error> {
        self.files.lock(path)
    }
    fn boot_id(&self) -> io::Result<String> {
        self.files.boot_id()
    }
    fn draw_id(&self) -> io::Result<u64> {
        self.files.draw_id()
    }
    fn start_worker(&self, name: &str, work: Work) -> io::Result<Arc<dyn Worker>> {
        self.files.start_worker(name, work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::simulated_disk::SimulatedDisk;

    const MIB: u64 = 1 << 20;

    #[test]
    fn small_files_get_the_reserve_and_segments_do_not() {
        let (disk, dir) = (SimulatedDisk::new(MIB), Path::new("/d"));
        disk.create_dir(dir).unwrap();
        let reserve = Reserve::new(Arc::new(disk.clone()), dir, MIB);
        reserve.refill().unwrap();
        let free = || disk.space(dir).unwrap().free;
        assert_eq!(free(), MIB - MIB / 16);
        let filler = dir.join("filler");
        disk.segment(&filler, free()).unwrap();
        assert!(is_no_room(&reserve.segment(&dir.join("0"), 4096).err().unwrap()));
        assert_eq!(free(), 0, "the reserve is still there");
        reserve.replace(&dir.join("log.json"), b"small").unwrap();
        assert_eq!(free(), MIB / 16 - 4096);
        assert!(is_no_room(&reserve.refill().unwrap_err()));
        disk.remove(&filler).unwrap();
        reserve.refill().unwrap();
        reserve.refill().unwrap();
        assert_eq!(free(), MIB - MIB / 16 - 4096);
    }
}
