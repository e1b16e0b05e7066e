//! Checkpoints and retention: what bounds the replay at start, and what bounds the disk.
//!
//! The raft thread decides when, and captures the state (a few reference counts); the store thread
//! does all the writing, in this order, so that whatever a crash leaves behind can be started
//! from: snapshots of crossed segment boundaries, runs of derived data, the log up to the
//! checkpoint's position, the checkpoint. Only then are files removed that it no longer needs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use crate::ids::PhysicalOffset;
use crate::raft::applied::Captured;
use crate::raft::error::StorageError;
use crate::raft::snapshot::{self, SnapshotFiles};
use crate::store::checkpoint;
use crate::store::queues::Queues;
use crate::store::{CommitLog, Files};

/// Work for the store thread.
pub(super) enum Job {
    /// Write a checkpoint of this state, after these boundary snapshots.
    Checkpoint {
        /// State to start from; the queues are frozen there.
        captured: Box<Captured>,
        /// States at segment boundaries crossed meanwhile.
        crossed: Vec<Captured>,
    },
    /// The log starts at this position now: nothing before it is needed.
    DropBefore(PhysicalOffset),
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
}

/// Hands jobs to the store thread.
pub(super) struct Checkpointer {
    jobs: Option<mpsc::SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the store thread.
    pub(super) fn start(parts: StoreParts) -> std::io::Result<Self> {
        let (jobs, inbox) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || work(&parts, &inbox))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Takes a job, or gives it back while another one waits.
    pub(super) fn offer(&self, job: Job) -> Result<(), Job> {
        match &self.jobs {
            Some(jobs) => jobs.try_send(job).map_err(|refused| match refused {
                mpsc::TrySendError::Full(job) | mpsc::TrySendError::Disconnected(job) => job,
            }),
            None => Err(job),
        }
    }

    /// Does a last job and ends the thread.
    pub(super) fn finish(mut self, last: Job) {
        if let Some(jobs) = self.jobs.take() {
            // A thread that is gone has said why.
            let _ = jobs.send(last);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(parts: &StoreParts, inbox: &mpsc::Receiver<Job>) {
    let mut settled = PhysicalOffset(0);
    let mut no_room = false;
    while let Ok(job) = inbox.recv() {
        let done = match job {
            Job::Checkpoint { captured, crossed } => {
                let position = captured.progress.position;
                parts.checkpoint(&captured, &crossed).map(|()| settled = position)
            }
            Job::DropBefore(position) => parts.drop_before(position),
        };
        match done.and_then(|()| merge(&parts.queues, settled)) {
            Ok(()) => no_room = false,
            // Told once: a checkpoint is tried every few seconds.
            Err(error) if error.is_no_room() && std::mem::replace(&mut no_room, true) => {}
            Err(error) => {
                tracing::error!(%error, "the store thread failed; it goes on with the next checkpoint");
            }
        }
    }
}

fn merge(queues: &Queues, settled: PhysicalOffset) -> Result<(), StorageError> {
    while queues.merge(settled)? {}
    Ok(())
}

impl StoreParts {
    /// Writes what a start at `captured` needs; everything is on disk when this returns.
    pub(super) fn checkpoint(
        &self,
        captured: &Captured,
        crossed: &[Captured],
    ) -> Result<(), StorageError> {
        for boundary in crossed {
            self.snapshots.save(boundary.progress.position, &snapshot::encode(boundary))?;
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
        Ok(checkpoint::write(&*self.files, &self.dir, position, state)?)
    }

    fn drop_before(&self, position: PhysicalOffset) -> Result<(), StorageError> {
        self.snapshots.remove_before(position)?;
        Ok(self.queues.drop_before(position)?)
    }
}
