//! The log's ends are kept in small files and names, and whoever moves one waits for the disk. That
//! is the raft thread: what watches over it is to know why it stands still.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{CommitLog, Core};
use crate::clock;
use crate::store::error::Error;
use crate::store::purge_point::{self, LogStart};

/// Syncs that replacing a file takes: of the file, and of its name.
const SYNCS: u32 = 2;

/// Somebody waits for the disk, until it is dropped.
pub(super) struct Moving<'a>(&'a AtomicBool);

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl CommitLog {
    /// Whether a purge, a truncation or a reset waits for the disk at the moment.
    pub fn is_moving(&self) -> bool {
        self.core().moving.load(Ordering::Relaxed)
    }
}

impl Core {
    /// For who holds `write`, and has not said so yet.
    pub(super) fn move_end(&self) -> Moving<'_> {
        self.moving.store(true, Ordering::Relaxed);
        Moving(&self.moving)
    }

    /// Has the disk keep where the log starts. Counted as the syncs that it takes, whether they
    /// succeed or not: a slow disk is slow for these, too.
    pub(super) fn save_start(&self, start: LogStart) -> Result<(), Error> {
        let began = clock::now();
        (0..SYNCS).for_each(|_| self.counters.begin());
        let saved = purge_point::save(self.files.as_ref(), &self.options.dir, start);
        let took = clock::now().duration_since(began);
        (0..SYNCS).for_each(|_| self.counters.record(took / SYNCS));
        saved
    }
}
