//! Checkpoints and retention: what bounds the replay at start, and what bounds the disk.
//!
//! The raft thread decides when, and captures the state (a few reference counts); the store thread
//! does all the writing, in this order, so that whatever a crash leaves behind can be started
//! from: snapshots of crossed segment boundaries, runs of derived data, the log up to the
//! checkpoint's position, the checkpoint. Only then are files removed that it no longer needs.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, TryRecvError};

use tokio::sync::oneshot;

use crate::ids::PhysicalOffset;
use crate::raft::applied::Captured;
use crate::raft::error::StorageError;
use crate::raft::snapshot::{self, SnapshotFiles};
use crate::raft::state_machine::rebuild;
use crate::store::checkpoint;
use crate::store::queues::Queues;
use crate::store::threads::{Turn, Worker};
use crate::store::{CommitLog, Files};

/// Work for the store thread.
pub(super) enum Job {
    /// Write a checkpoint of this state, after these boundary snapshots.
    Checkpoint {
        /// State to start from; the queues are frozen there.
        captured: Box<Captured>,
        /// States at segment boundaries crossed meanwhile.
        crossed: VecDeque<Captured>,
    },
    /// The log starts at this position now: nothing before it is needed.
    DropBefore(PhysicalOffset),
    /// Build derived data again that was found damaged.
    Mend,
}

/// Position of the checkpoint on disk: a start needs the log from there on. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct Settled(Arc<AtomicU64>);

impl Settled {
    /// Of a store whose checkpoint is at `position`.
    pub(super) fn at(position: PhysicalOffset) -> Self {
        Self(Arc::new(AtomicU64::new(position.0)))
    }

    /// Where it is now.
    pub(super) fn position(&self) -> PhysicalOffset {
        PhysicalOffset(self.0.load(Ordering::Acquire))
    }

    fn advance(&self, position: PhysicalOffset) {
        self.0.fetch_max(position.0, Ordering::AcqRel);
    }
}

/// What the store thread works on.
#[derive(Clone)]
pub(super) struct StoreParts {
    /// The disk.
    pub files: Arc<dyn Files>,
    /// Directory of the checkpoint.
    pub dir: PathBuf,
    /// The log.
    pub log: CommitLog,
    /// Derived data.
    pub queues: Queues,
    /// Boundary snapshots.
    pub snapshots: SnapshotFiles,
    /// What the last checkpoint holds. It falls behind when snapshots or derived data cannot be
    /// written, and nothing is purged that comes after it.
    pub settled: Settled,
}

/// Hands jobs to the store thread.
pub(super) struct Checkpointer {
    jobs: mpsc::SyncSender<Job>,
    thread: Arc<dyn Worker>,
}

impl Checkpointer {
    /// Starts the store thread.
    pub(super) fn start(parts: StoreParts) -> std::io::Result<Self> {
        let (jobs, inbox) = mpsc::sync_channel(1);
        let files = Arc::clone(&parts.files);
        let mut progress = Progress::default();
        let turn = move || match inbox.try_recv() {
            Ok(job) => {
                progress.work(&parts, job);
                Turn::done()
            }
            Err(TryRecvError::Empty) => Turn::Idle(None),
            Err(TryRecvError::Disconnected) => Turn::End,
        };
        Ok(Self { jobs, thread: files.start_worker("store", Box::new(turn))? })
    }

    /// Takes a job, or gives it back while another one waits.
    pub(super) fn offer(&self, job: Job) -> Result<(), Job> {
        self.jobs.try_send(job).map_err(|refused| match refused {
            mpsc::TrySendError::Full(job) | mpsc::TrySendError::Disconnected(job) => job,
        })?;
        self.thread.wake();
        Ok(())
    }

    /// Does a last job and ends the thread.
    pub(super) fn finish(self, last: Job) {
        let mut last = Some(last);
        self.thread.wait_until(&mut || match last.take().map(|job| self.offer(job)) {
            Some(Err(job)) => {
                last = Some(job);
                false
            }
            Some(Ok(())) | None => true,
        });
        drop(self.jobs);
        self.thread.join();
    }
}

/// What the store thread has done, and what it still has to do.
#[derive(Default)]
struct Progress {
    /// What has gone from the log, but not all of it from the disk.
    gone: Option<PhysicalOffset>,
    /// Boundary snapshots to be written, also after a failure: no checkpoint passes them, because
    /// apply would never cross their boundaries again, and retention goes by them. [`thin`] bounds
    /// them.
    unsaved: VecDeque<Captured>,
    /// It was said that there is no room.
    no_room: bool,
}

impl Progress {
    fn work(&mut self, parts: &StoreParts, job: Job) {
        let done = match job {
            Job::Checkpoint { captured, crossed } => {
                self.unsaved.extend(crossed);
                thin(&mut self.unsaved);
                parts.checkpoint(&captured, &mut self.unsaved)
            }
            Job::DropBefore(position) => {
                self.unsaved.retain(|boundary| boundary.progress.position >= position);
                self.gone = Some(position);
                Ok(())
            }
            Job::Mend => parts.mend(),
        };
        let dropped = self.drop_gone(parts); // whatever became of the job
        match done.and_then(|()| merge(&parts.queues, parts.settled.position())).and(dropped) {
            Ok(()) => self.no_room = false,
            // Told once: a checkpoint is tried every few seconds.
            Err(error) if error.is_no_room() && std::mem::replace(&mut self.no_room, true) => {}
            Err(error) => {
                tracing::error!(%error, "the store thread failed; it goes on with the next job");
            }
        }
    }

    fn drop_gone(&mut self, parts: &StoreParts) -> Result<(), StorageError> {
        let Some(position) = self.gone else { return Ok(()) };
        parts.drop_before(position)?;
        self.gone = None;
        Ok(())
    }
}

/// Does on a thread what waits for the disk. `None`: it could not be started, or panicked.
pub(super) async fn aside<T: Send + 'static>(
    files: &dyn Files,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (tell, told) = oneshot::channel();
    let mut work = Some((work, tell));
    let turn = move || {
        if let Some((work, tell)) = work.take() {
            let done = work();
            // Whoever asked may have gone.
            return Turn::Done(Box::new(move || drop(tell.send(done))));
        }
        Turn::End
    };
    files.start_worker("disk", Box::new(turn)).ok()?;
    told.await.ok()
}

/// Most states at segment boundaries that wait to be stored, in one place.
const BOUNDARIES_MAX: usize = 64;

/// Bounds what cannot be stored: of too many boundaries those go that have close neighbours. The
/// oldest stays, which a purge needs first, and others all along the log: a purge that is due at
/// one that went takes what lies before the next lower one.
pub(super) fn thin(boundaries: &mut VecDeque<Captured>) {
    while boundaries.len() > BOUNDARIES_MAX {
        let at = |number: usize| boundaries[number].progress.position.0;
        let gap_without = |number: &usize| at(number + 1).saturating_sub(at(number - 1));
        let Some(closest) = (1..boundaries.len() - 1).min_by_key(gap_without) else { return };
        boundaries.remove(closest);
    }
}

fn merge(queues: &Queues, settled: PhysicalOffset) -> Result<(), StorageError> {
    while queues.merge(settled)? {}
    Ok(())
}

impl StoreParts {
    /// Writes what a start at `captured` needs; everything is on disk when this returns. What is
    /// saved is taken from `crossed`.
    pub(super) fn checkpoint(
        &self,
        captured: &Captured,
        crossed: &mut VecDeque<Captured>,
    ) -> Result<(), StorageError> {
        while let Some(boundary) = crossed.front() {
            self.snapshots.save(boundary.progress.position, &snapshot::encode(boundary))?;
            crossed.pop_front();
        }
        self.queues.flush()?;
        self.log.sync_now()?;
        self.write_checkpoint(captured.progress.position, &snapshot::encode(captured))
    }

    /// Makes `state`, as of `position`, what a start begins with.
    pub(super) fn write_checkpoint(
        &self,
        position: PhysicalOffset,
        state: &[u8],
    ) -> Result<(), StorageError> {
        checkpoint::write(&*self.files, &self.dir, position, state)?;
        self.settled.advance(position);
        Ok(())
    }

    fn mend(&self) -> Result<(), StorageError> {
        self.queues.mend(|queues, stretch| rebuild(&self.log, queues, stretch.start, stretch.end))
    }

    /// Nothing below `position` is served from now on, whatever becomes of the files.
    pub(super) fn drop_before(&self, position: PhysicalOffset) -> Result<(), StorageError> {
        self.queues.drop_before(position)?;
        Ok(self.snapshots.remove_before(position)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::applied::AppliedState;
    use crate::raft::group_tests::options_alone;
    use crate::raft::open;
    use crate::store::simulated_disk::SimulatedDisk;

    /// Checkpoints of states at given positions, and the disk that boundary snapshots go to.
    struct Rig {
        parts: StoreParts,
        state: AppliedState,
        progress: Progress,
        disk: SimulatedDisk,
    }

    impl Rig {
        fn new(dir: &std::path::Path) -> Self {
            let (disk, options) = (SimulatedDisk::new(64 << 20), options_alone(dir));
            let opened = open::open_undamaged(Arc::new(disk), &options).unwrap();
            let disk = SimulatedDisk::new(1 << 20); // on which nobody else takes steps
            let files: Arc<dyn Files> = Arc::new(disk.clone());
            let snapshots = SnapshotFiles::open(files, "/snapshots".into()).unwrap();
            let parts = StoreParts { snapshots, ..opened.parts };
            let state = opened.machine.state().clone();
            Self { parts, state, progress: Progress::default(), disk }
        }

        fn at(&self, position: u64) -> Captured {
            let mut captured = self.state.capture();
            captured.progress.position = PhysicalOffset(position);
            captured
        }

        /// The last durable checkpoint afterwards.
        fn checkpoint(&mut self, position: u64, boundaries: &[u64]) -> u64 {
            let captured = Box::new(self.at(position));
            let crossed = boundaries.iter().map(|position| self.at(*position)).collect();
            self.progress.work(&self.parts, Job::Checkpoint { captured, crossed });
            self.parts.settled.position().0
        }

        fn saved(&self) -> Vec<u64> {
            self.parts.snapshots.positions().unwrap().iter().map(|at| at.0).collect()
        }
    }

    #[test]
    fn no_checkpoint_passes_a_boundary_whose_snapshot_could_not_be_saved() {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Rig::new(dir.path());
        rig.disk.fail_at(rig.disk.step_count());
        assert_eq!((rig.checkpoint(250, &[100, 200]), rig.saved()), (0, vec![]));
        assert_eq!((rig.checkpoint(350, &[300]), rig.saved()), (350, vec![100, 200, 300]));
    }

    #[test]
    fn snapshots_that_cannot_be_saved_are_bounded_and_some_are_left_all_along_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Rig::new(dir.path());
        for segment in 1..=1_000 {
            rig.disk.fail_at(rig.disk.step_count());
            assert_eq!(rig.checkpoint(segment * 100 + 50, &[segment * 100]), 0);
            assert!(rig.progress.unsaved.len() <= BOUNDARIES_MAX, "after {segment}");
        }
        assert_eq!(rig.checkpoint(100_070, &[]), 100_070);
        let saved = rig.saved();
        let widest = saved.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert_eq!(saved[0], 100, "the first that a purge needs");
        assert!(widest <= 100_000 / 31, "{widest}: {saved:?}");
    }
}
