//! How far the log can grow before the disk must give more room.

use super::{CommitLog, base_of};
use crate::ids::PhysicalOffset;
use crate::store::Error;
use crate::store::disk_space::LogRoom;

/// What follows from the files there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It can be appended.
    Yes,
    /// That is known when the segment under way is made.
    Soon,
    /// The next segment could not be made.
    No,
}

impl CommitLog {
    /// What can be appended without another file, and whether another one could be made.
    pub fn room(&self) -> LogRoom {
        LogRoom {
            segment_bytes: self.core().options.segment_bytes,
            allocated_bytes: self.allocated_ahead(),
            is_last: self.core().preparer.is_pending().is_err(),
        }
    }

    /// Bytes that can be appended without another file being made.
    pub fn allocated_ahead(&self) -> u64 {
        let core = self.core();
        let (tail, segment_bytes) = (self.tail(), core.options.segment_bytes);
        let base = base_of(tail, segment_bytes);
        let is_there = core.segments.load().last().is_some_and(|s| s.base == base);
        let current = if is_there { base + segment_bytes } else { base };
        let is_prepared = core.preparer.is_ready(current);
        let end = if is_prepared { current + segment_bytes } else { current };
        end.saturating_sub(tail.0)
    }

    /// Whether entries up to `end` fit, so that `reserve` bytes are left for what this member
    /// itself has to append if it is elected.
    pub fn fits(&self, end: PhysicalOffset, reserve: u64) -> Fit {
        if end.0.saturating_add(reserve) <= self.tail().0 + self.allocated_ahead() {
            return Fit::Yes;
        }
        self.core().prepare_next();
        match self.core().preparer.is_pending() {
            Ok(true) => Fit::Soon,
            Ok(false) => Fit::Yes, // more than a segment at once: made when it is needed
            Err(_) => Fit::No,
        }
    }

    /// Tries again to make the next segment, if that failed.
    pub fn retry_segment(&self) {
        self.core().preparer.retry();
    }

    /// Waits for the segment that is being made; what was in the way, if it cannot be.
    pub fn wait_for_segment(&self) -> Result<(), Error> {
        self.core().preparer.wait()
    }
}
