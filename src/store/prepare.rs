//! The store thread: makes the next segment before it is needed, and deletes old ones. Both take
//! the file system's time, which an append must not.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::error::Error;
use super::files::{Files, SegmentFile};
use super::segment::file_name;
use super::threads::{Turn, Worker};

/// What is known about the segment after the current one.
enum Next {
    None,
    Wanted(u64),
    Making,
    Ready(u64, Arc<dyn SegmentFile>),
    /// It could not be made. Tried again when it is needed, or when somebody says so.
    Failed(u64, Error),
}

struct Desk {
    next: Next,
    doomed: VecDeque<PathBuf>, // at most the segments there are
    deleting: bool,
    stop: bool,
}

struct Shared {
    files: Arc<dyn Files>,
    dir: PathBuf,
    segment_bytes: u64,
    desk: Mutex<Desk>,
}

/// The thread and its desk. Dropping it ends the thread.
pub(super) struct Preparer {
    shared: Arc<Shared>,
    thread: Arc<dyn Worker>,
}

impl Preparer {
    pub(super) fn start(
        files: Arc<dyn Files>,
        dir: PathBuf,
        segment_bytes: u64,
    ) -> std::io::Result<Self> {
        let desk = Desk { next: Next::None, doomed: VecDeque::new(), deleting: false, stop: false };
        let shared = Arc::new(Shared { files, dir, segment_bytes, desk: Mutex::new(desk) });
        let mine = Arc::clone(&shared);
        let mut told = false;
        let turn = Box::new(move || mine.turn(&mut told));
        let thread = shared.files.start_worker("store", turn)?;
        Ok(Self { shared, thread })
    }

    /// Has the segment at `base` made, unless that is known to be useless.
    pub(super) fn want(&self, base: u64) {
        let mut desk = self.shared.desk.lock();
        if matches!(desk.next, Next::None) {
            desk.next = Next::Wanted(base);
            self.thread.wake();
        }
    }

    /// Whether the segment at `base` is ready.
    pub(super) fn is_ready(&self, base: u64) -> bool {
        matches!(self.shared.desk.lock().next, Next::Ready(at, _) if at == base)
    }

    /// Whether the segment that was wanted is not there yet, or what is in the way.
    pub(super) fn is_pending(&self) -> Result<bool, Error> {
        match &self.shared.desk.lock().next {
            Next::Wanted(_) | Next::Making => Ok(true),
            Next::None | Next::Ready(..) => Ok(false),
            Next::Failed(_, error) => Err(error.clone()),
        }
    }

    /// Tries again what could not be made.
    pub(super) fn retry(&self) {
        let mut desk = self.shared.desk.lock();
        if let Next::Failed(base, _) = desk.next {
            desk.next = Next::Wanted(base);
            self.thread.wake();
        }
    }

    /// Waits until the segment that was wanted is there.
    pub(super) fn wait(&self) -> Result<(), Error> {
        let is_made = || {
            let desk = self.shared.desk.lock();
            !matches!(desk.next, Next::Wanted(_) | Next::Making) || desk.stop
        };
        self.thread.wait_until(&mut { is_made });
        match &self.shared.desk.lock().next {
            Next::Failed(_, error) => Err(error.clone()),
            Next::None | Next::Wanted(_) | Next::Making | Next::Ready(..) => Ok(()),
        }
    }

    /// The segment at `base`: the prepared one, or made now.
    pub(super) fn take(&self, base: u64) -> Result<Arc<dyn SegmentFile>, Error> {
        let mut desk = self.when(|desk| !matches!(desk.next, Next::Making));
        match std::mem::replace(&mut desk.next, Next::None) {
            Next::Ready(at, file) if at == base => return Ok(file),
            Next::Ready(at, _) => self.shared.remove(at)?,
            Next::None | Next::Wanted(_) | Next::Making | Next::Failed(..) => {}
        }
        drop(desk);
        self.shared.make(base)
    }

    /// Gives up what was prepared: the log goes on elsewhere. When this returns, its file and all
    /// that were to be deleted are gone, so a segment can be made under any name.
    pub(super) fn clear(&self) -> Result<(), Error> {
        let mut desk = self.when(Desk::is_settled);
        match std::mem::replace(&mut desk.next, Next::None) {
            Next::Ready(base, _) => self.shared.remove(base),
            Next::None | Next::Wanted(_) | Next::Making | Next::Failed(..) => Ok(()),
        }
    }

    /// Waits until `is_so`, which holds as long as the desk is held: what is wanted may be begun at
    /// any other moment.
    fn when(&self, is_so: impl Fn(&Desk) -> bool) -> MutexGuard<'_, Desk> {
        loop {
            self.thread.wait_until(&mut || is_so(&self.shared.desk.lock()));
            let desk = self.shared.desk.lock();
            if is_so(&desk) {
                return desk;
            }
        }
    }

    /// Has files deleted that the log no longer refers to, in this order.
    pub(super) fn delete(&self, paths: impl IntoIterator<Item = PathBuf>) {
        self.shared.desk.lock().doomed.extend(paths);
        self.thread.wake();
    }

    /// Ends the thread, after what it is at.
    pub(super) fn stop(&self) {
        self.shared.desk.lock().stop = true;
        self.thread.join();
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Desk {
    /// Whether nothing is being made or deleted, or is about to be deleted.
    fn is_settled(&self) -> bool {
        !matches!(self.next, Next::Making) && !self.deleting && self.doomed.is_empty()
    }
}

impl Shared {
    /// Deletions come first: they may make the room that the next segment needs. `told`: that it
    /// cannot be made.
    fn turn(&self, told: &mut bool) -> Turn {
        let mut desk = self.desk.lock();
        if let Some(path) = desk.doomed.pop_front() {
            desk.deleting = true;
            drop(desk);
            self.delete(&path);
            self.desk.lock().deleting = false;
            return Turn::done();
        }
        if desk.stop {
            return Turn::End;
        }
        let Next::Wanted(base) = desk.next else { return Turn::Idle(None) };
        desk.next = Next::Making;
        drop(desk);
        let made = self.make(base);
        if let Err(error) = made.as_ref().map(|_| *told = false)
            && !std::mem::replace(told, true)
        {
            tracing::warn!(base, %error, "cannot prepare the next log segment");
        }
        let next =
            made.map_or_else(|error| Next::Failed(base, error), |file| Next::Ready(base, file));
        self.desk.lock().next = next;
        Turn::done()
    }

    fn delete(&self, path: &Path) {
        let removed = self.files.remove(path);
        if let Err(error) = removed.and_then(|()| self.files.sync_dir(&self.dir)) {
            // It goes at the next start: it lies before the purge point.
            tracing::warn!(path = %path.display(), %error, "cannot delete a log segment");
        }
    }

    fn make(&self, base: u64) -> Result<Arc<dyn SegmentFile>, Error> {
        let path = self.path(base);
        let made = self.files.segment(&path, self.segment_bytes);
        made.map_err(|e| Error::io("create segment", &path, e))
    }

    fn remove(&self, base: u64) -> Result<(), Error> {
        let path = self.path(base);
        self.files.remove(&path).map_err(|e| Error::io("remove segment", &path, e))
    }

    fn path(&self, base: u64) -> PathBuf {
        segment_path(&self.dir, base)
    }
}

/// Where the segment that starts at `base` lies.
pub(super) fn segment_path(dir: &Path, base: u64) -> PathBuf {
    dir.join(file_name(base))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::store::files::RealFiles;

    fn preparer(dir: &Path) -> Preparer {
        Preparer::start(Arc::new(RealFiles), dir.to_owned(), 8192).unwrap()
    }

    #[test]
    fn what_was_wanted_is_taken_and_anything_else_is_made_now() {
        let dir = tempfile::tempdir().unwrap();
        let preparer = preparer(dir.path());
        preparer.want(8192);
        preparer.take(8192).unwrap();
        preparer.take(16384).unwrap();
        assert!(segment_path(dir.path(), 16384).exists());
    }

    #[test]
    fn a_segment_prepared_in_vain_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let preparer = preparer(dir.path());
        preparer.want(8192);
        preparer.take(0).unwrap();
        preparer.want(8192);
        preparer.clear().unwrap();
        preparer.delete([segment_path(dir.path(), 0)]);
        preparer.stop();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_is_gone_is_reported_when_the_segment_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        let preparer = preparer(&dir.path().join("gone"));
        preparer.want(0);
        let error = preparer.take(0).err().unwrap().to_string();
        assert!(error.starts_with("create segment"), "{error}");
    }

    /// A thread that begins what is wanted right after somebody has seen that nothing is begun.
    struct AtTheWorstMoment {
        shared: Arc<Shared>,
        has_begun: AtomicBool,
        making: Mutex<Option<u64>>,
    }

    impl AtTheWorstMoment {
        fn finish(&self) {
            if let Some(base) = self.making.lock().take() {
                let file = self.shared.make(base).unwrap();
                self.shared.desk.lock().next = Next::Ready(base, file);
            }
        }
    }

    impl Worker for AtTheWorstMoment {
        fn wake(&self) {}

        fn wait_until(&self, is_so: &mut dyn FnMut() -> bool) {
            self.finish();
            assert!(is_so());
            let mut desk = self.shared.desk.lock();
            if let Next::Wanted(base) = desk.next
                && !self.has_begun.swap(true, Ordering::Relaxed)
            {
                desk.next = Next::Making;
                *self.making.lock() = Some(base);
            }
        }

        fn join(&self) {
            self.finish();
        }
    }

    fn preparer_at_the_worst_moment(dir: &Path) -> Preparer {
        let shared = Arc::clone(&preparer(dir).shared);
        shared.desk.lock().stop = false;
        let (has_begun, making) = (AtomicBool::new(false), Mutex::new(None));
        let worst = AtTheWorstMoment { shared: Arc::clone(&shared), has_begun, making };
        Preparer { shared, thread: Arc::new(worst) }
    }

    #[test]
    fn what_is_begun_just_as_it_is_given_up_is_gone_when_that_returns() {
        let dir = tempfile::tempdir().unwrap();
        let preparer = preparer_at_the_worst_moment(dir.path());
        preparer.want(8192);
        preparer.clear().unwrap();
        preparer.stop();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_begun_just_as_it_is_needed_is_never_taken_for_made_in_vain() {
        let dir = tempfile::tempdir().unwrap();
        let preparer = preparer_at_the_worst_moment(dir.path());
        preparer.want(8192);
        preparer.take(8192).unwrap();
        preparer.stop();
        preparer.take(16384).unwrap();
        assert!(segment_path(dir.path(), 8192).exists(), "the log lies in it");
    }
}
