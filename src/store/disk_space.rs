//! Whether the disk takes more messages. Pure; asked again and again, so it recovers by itself.
//! And whether it takes a log at all, asked once before one is made.

use std::fmt;
use std::path::Path;

use super::error::Error;
use super::files::{Files, Space};
use super::retention::used_ratio;

/// Used shares of the disk at which something happens, each a fraction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratios {
    /// `diskMaxUsedSpaceRatio` (75 %): old segments go at any hour.
    pub max_used: f64,
    /// `diskSpaceCleanForciblyRatio` (85 %): the oldest segments go, however young.
    pub clean_forcibly: f64,
    /// `diskSpaceWarningLevelRatio` (90 %): no more messages are taken.
    pub warning: f64,
}

impl Default for Ratios {
    fn default() -> Self {
        Self { max_used: 0.75, clean_forcibly: 0.85, warning: 0.90 }
    }
}

impl Ratios {
    /// The same limits that RocketMQ enforces, whatever was configured.
    #[must_use]
    pub fn clamped(self) -> Self {
        Self {
            max_used: self.max_used.clamp(0.10, 0.95),
            clean_forcibly: self.clean_forcibly.clamp(0.30, 0.85),
            warning: self.warning.clamp(0.35, 0.90),
        }
    }
}

/// What the log itself has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRoom {
    /// Size of a segment.
    pub segment_bytes: u64,
    /// Bytes that can be appended without another file ([`super::CommitLog::allocated_ahead`]).
    pub allocated_bytes: u64,
}

/// What may be written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DiskState {
    /// Everything.
    Fine,
    /// Everything, but the oldest messages go before their time.
    CleanForced(Reason),
    /// No messages. What frees space (deleting, committing offsets) is still taken.
    Full(Reason),
}

/// The numbers behind a state, for the answer to a producer and for the log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reason {
    space: Space,
    limit: Limit,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Limit {
    Ratio(f64),
    /// The next segment does not fit any more.
    Segment(LogRoom),
}

/// What everything but the log may need meanwhile: runs of derived data, checkpoints.
const OTHERS_BYTES: u64 = 64 << 20;

/// Decides from the disk's numbers.
pub fn decide(space: Space, room: LogRoom, ratios: Ratios) -> DiskState {
    let used = used_ratio(space);
    if used > ratios.warning {
        return DiskState::Full(Reason { space, limit: Limit::Ratio(ratios.warning) });
    }
    // Files of the log are made a segment ahead. When the next one does not fit, what is left of
    // those at hand is kept for commands, without which nothing could be freed.
    let others = OTHERS_BYTES.min(room.segment_bytes);
    let another_fits = space.free >= room.segment_bytes.saturating_add(others);
    if !another_fits && room.allocated_bytes < room.segment_bytes / 4 {
        return DiskState::Full(Reason { space, limit: Limit::Segment(room) });
    }
    if used > ratios.clean_forcibly {
        return DiskState::CleanForced(Reason {
            space,
            limit: Limit::Ratio(ratios.clean_forcibly),
        });
    }
    DiskState::Fine
}

/// What goes with the first segment of a log: stamp, vote, checkpoint, the first run.
const BESIDE_THE_LOG_BYTES: u64 = 1 << 20;

/// Refuses a disk that has no room for a new log in `dir`, which need not exist yet. A member
/// whose first segment cannot be made takes no part in its group, and nothing frees space for it.
pub fn check_new_log(files: &dyn Files, dir: &Path, segment_bytes: u64) -> Result<(), Error> {
    let mut above =
        dir.ancestors().map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
    let space = above.find_map(|dir| files.space(dir).ok());
    let needed = segment_bytes.saturating_add(BESIDE_THE_LOG_BYTES);
    match space {
        Some(Space { total, free }) if total > 0 && free < needed => {
            Err(Error::NoRoom { dir: dir.to_owned(), needed, free })
        }
        Some(_) | None => Ok(()), // or a file system that does not tell
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Space { total, free } = self.space;
        let percent = used_ratio(self.space) * 100.0;
        write!(f, "the disk is {percent:.1} % full ({free} of {total} bytes free), ")?;
        match self.limit {
            Limit::Ratio(limit) => write!(f, "the limit is {:.0} %", limit * 100.0),
            Limit::Segment(room) => write!(
                f,
                "a log segment of {} bytes does not fit and {} bytes of the present ones are left",
                room.segment_bytes, room.allocated_bytes
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RealFiles;

    #[test]
    fn the_disk_is_full_by_share_or_when_no_segment_fits() {
        const GIB: u64 = 1 << 30;
        let state = |total: u64, free: u64, allocated: u64| {
            let room = LogRoom { segment_bytes: GIB, allocated_bytes: allocated };
            match decide(Space { total, free }, room, Ratios::default()) {
                DiskState::Fine => "fine".to_owned(),
                DiskState::CleanForced(reason) => format!("clean: {reason}"),
                DiskState::Full(reason) => format!("full: {reason}"),
            }
        };
        let rows = [
            (100 * GIB, 50 * GIB, 0, "fine"),
            (
                100 * GIB,
                14 * GIB,
                GIB,
                "clean: the disk is 86.0 % full (15032385536 of 107374182400",
            ),
            (100 * GIB, 9 * GIB, GIB, "full: the disk is 91.0 % full"),
            (4 * GIB, GIB, GIB / 2, "fine"), // what is allocated will do for a while
            (4 * GIB, GIB, GIB / 5, "full: the disk is 75.0 % full (1073741824 of 4294967296"),
            (4 * GIB, 2 * GIB, 0, "fine"),
            (0, 0, GIB, "fine"), // a file system that does not tell
        ];
        for (total, free, allocated, want) in rows {
            let got = state(total, free, allocated);
            assert!(got.starts_with(want), "{free} of {total}: {got}");
        }
    }

    #[test]
    fn a_new_log_that_does_not_fit_is_refused_with_the_numbers() {
        let there = tempfile::tempdir().unwrap();
        let dir = there.path().join("not/there/yet");
        assert!(check_new_log(&RealFiles, &dir, 4096).is_ok());
        assert!(check_new_log(&RealFiles, Path::new("not-there"), 4096).is_ok());
        match check_new_log(&RealFiles, &dir, 1 << 60) {
            Err(Error::NoRoom { dir: of, needed, free }) => {
                assert_eq!((of, needed), (dir, (1 << 60) + BESIDE_THE_LOG_BYTES));
                assert!(free > 0 && free < needed, "{free}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(std::fs::read_dir(there.path()).unwrap().count(), 0, "nothing is made");
    }

    #[test]
    fn settings_outside_what_is_sensible_are_clamped() {
        let all = |ratio| Ratios { max_used: ratio, clean_forcibly: ratio, warning: ratio };
        let low = Ratios { max_used: 0.10, clean_forcibly: 0.30, warning: 0.35 };
        let high = Ratios { max_used: 0.95, clean_forcibly: 0.85, warning: 0.90 };
        assert_eq!((all(0.0).clamped(), all(1.0).clamped()), (low, high));
    }
}
