//! A disk that dies at a chosen step, for tests. Does not sync: a process that dies loses nothing.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::SeqCst},
    },
};

use crate::store::{
    MappedBytes,
    files::{FileInfo, Files, Fill, RealFiles, SegmentFile, Space},
};

/// Fails for good from a step on. A step is a change: a file written or removed.
#[derive(Debug)]
pub(super) struct FaultyFiles {
    steps_left: AtomicI64,
    /// Nothing that is there can be read.
    unreadable: AtomicBool,
}

impl FaultyFiles {
    /// Never fails.
    pub(super) fn healthy() -> Arc<Self> {
        Self::dying_after(i64::MAX)
    }

    /// Lets `steps` changes pass. The one after is half done.
    pub(super) fn dying_after(steps: i64) -> Arc<Self> {
        Arc::new(Self { steps_left: AtomicI64::new(steps), unreadable: AtomicBool::new(false) })
    }

    /// Whether files that are mapped from now on can be read. The signal of a page behind the end
    /// of a file is that of a bad sector.
    pub(super) fn read_nothing(&self, nothing: bool) {
        self.unreadable.store(nothing, SeqCst);
    }

    /// From now on `steps` changes pass.
    pub(super) fn die_after(&self, steps: i64) {
        self.steps_left.store(steps, SeqCst);
    }

    /// -1 for the step at which it dies, less after that.
    fn step(&self) -> i64 {
        self.steps_left.fetch_sub(1, SeqCst) - 1
    }
}

fn dead() -> io::Error {
    io::Error::other("the disk died")
}

impl Files for FaultyFiles {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<FileInfo>> {
        RealFiles.list(dir)
    }

    fn segment(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn SegmentFile>> {
        RealFiles.segment(path, bytes)
    }

    fn map(&self, path: &Path) -> io::Result<MappedBytes> {
        let mapped = RealFiles.map(path)?;
        if self.unreadable.load(SeqCst) {
            fs::OpenOptions::new().write(true).open(path)?.set_len(0)?;
        }
        Ok(mapped)
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        RealFiles.read(path)
    }

    fn replace_with(&self, path: &Path, fill: &mut Fill<'_>) -> io::Result<()> {
        let step = self.step();
        if step < -1 {
            return Err(dead());
        }
        let mut content = Vec::new();
        fill(&mut content)?;
        let temporary = path.with_extension("run.tmp");
        if step == -1 {
            fs::write(&temporary, &content[..content.len() / 2])?;
            return Err(dead());
        }
        fs::write(&temporary, &content)?;
        fs::rename(&temporary, path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if self.step() < 0 {
            return Err(dead());
        }
        RealFiles.remove(path)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        RealFiles.space(dir)
    }
}
