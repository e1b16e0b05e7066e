//! Whether the disk takes more messages. Pure; asked again and again, so it recovers by itself.
//! And whether it takes a log at all, asked once before one is made.

use std::fmt;
use std::path::Path;

use super::error::Error;
use super::files::{Files, Space};
use super::reserve::reserve_bytes;
use super::retention::used_ratio;
use crate::ids::PhysicalOffset;

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

/// What the log itself has left ([`super::CommitLog::room`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRoom {
    /// Size of a segment.
    pub segment_bytes: u64,
    /// Bytes that can be appended without another file.
    pub allocated_bytes: u64,
    /// Another file could not be made when that was last tried.
    pub is_last: bool,
}

impl LogRoom {
    /// What messages leave of the last segment: without commands nothing could be freed.
    fn of_commands(&self) -> u64 {
        self.segment_bytes / 4
    }

    /// What commands leave of it: a leader begins with an entry of its own, and members come and
    /// go by entries.
    fn of_raft(&self) -> u64 {
        self.segment_bytes / 8
    }

    /// What is left beside a segment when it is made.
    fn beside(&self) -> u64 {
        OTHERS_BYTES.min(self.segment_bytes)
    }

    /// What a follower leaves of it, for the day it leads. Less than a leader leaves: it must be
    /// able to take what a leader with the same room appends.
    pub fn of_elections(&self) -> u64 {
        self.segment_bytes / 16
    }
}

/// How far the log may grow before the disk is looked at again. Positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// By messages.
    pub messages: u64,
    /// By what clients change otherwise.
    pub commands: u64,
}

impl Limits {
    /// There is room for longer than it takes to look again.
    pub const NONE: Self = Self { messages: u64::MAX, commands: u64::MAX };
}

/// No log grows by so much between two looks at the disk. Bytes.
const FAR_BYTES: u64 = 8 << 30;

/// The limits of a log that ends at `tail`. Pure.
pub fn limits(space: Space, room: LogRoom, tail: PhysicalOffset) -> Limits {
    // One segment less than fit: others may write to this disk, too.
    let spare = space.free.saturating_sub(room.beside()) / room.segment_bytes.max(1);
    let more = if room.is_last { 0 } else { spare.saturating_sub(1) * room.segment_bytes };
    let ahead = room.allocated_bytes.saturating_add(more);
    let tells = space.total > 0;
    if ahead >= FAR_BYTES || !(tells || room.is_last) {
        return Limits::NONE;
    }
    let end = tail.0.saturating_add(ahead);
    Limits {
        messages: end.saturating_sub(room.of_commands()),
        commands: end.saturating_sub(room.of_raft()),
    }
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
    // those at hand is kept.
    let fits = space.free >= room.segment_bytes.saturating_add(room.beside());
    if (room.is_last || !fits) && room.allocated_bytes < room.of_commands() {
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
    let needed = segment_bytes
        .saturating_add(reserve_bytes(segment_bytes))
        .saturating_add(BESIDE_THE_LOG_BYTES);
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
        let missing = self.needed_bytes().saturating_sub(free);
        match self.limit {
            Limit::Ratio(limit) => {
                write!(f, "the limit is {:.0} %: {missing} bytes more must be free", limit * 100.0)
            }
            Limit::Segment(LogRoom { segment_bytes, allocated_bytes, .. }) if missing > 0 => {
                write!(
                    f,
                    "a log segment of {segment_bytes} bytes does not fit and {allocated_bytes} bytes of \
                 the present ones are left: {missing} bytes more must be free"
                )
            }
            // A quota, or a limit of the process.
            Limit::Segment(LogRoom { segment_bytes, allocated_bytes, .. }) => write!(
                f,
                "a log segment of {segment_bytes} bytes could not be made (see this broker's log) \
                 and {allocated_bytes} bytes of the present ones are left"
            ),
        }
    }
}

impl Reason {
    /// What must be free for the reason to go.
    fn needed_bytes(&self) -> u64 {
        match self.limit {
            // A share of a size: rounding does not matter.
            Limit::Ratio(limit) => (self.space.total as f64 * (1.0 - limit)).ceil() as u64,
            Limit::Segment(room) => room.segment_bytes.saturating_add(room.beside()),
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
            let room = LogRoom { segment_bytes: GIB, allocated_bytes: allocated, is_last: false };
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
            (
                100 * GIB,
                9 * GIB,
                GIB,
                "full: the disk is 91.0 % full (9663676416 of 107374182400 bytes free), the limit \
                 is 90 %: 1073741824 bytes more must be free",
            ),
            (4 * GIB, GIB, GIB / 2, "fine"), // what is allocated will do for a while
            (
                4 * GIB,
                GIB,
                GIB / 5,
                "full: the disk is 75.0 % full (1073741824 of 4294967296 bytes free), a log segment \
                 of 1073741824 bytes does not fit and 214748364 bytes of the present ones are left: \
                 67108864 bytes more must be free",
            ),
            (4 * GIB, 2 * GIB, 0, "fine"),
            (0, 0, GIB, "fine"), // a file system that does not tell
        ];
        for (total, free, allocated, want) in rows {
            let got = state(total, free, allocated);
            assert!(got.starts_with(want), "{free} of {total}: {got}");
        }
    }

    #[test]
    fn a_segment_that_cannot_be_made_for_another_reason_is_one_too() {
        let room = LogRoom { segment_bytes: 64, allocated_bytes: 15, is_last: true };
        let space = Space { total: 1000, free: 1000 };
        match decide(space, room, Ratios::default()) {
            DiskState::Full(reason) => assert_eq!(
                reason.to_string(),
                "the disk is 0.0 % full (1000 of 1000 bytes free), a log segment of 64 bytes could \
                 not be made (see this broker's log) and 15 bytes of the present ones are left"
            ),
            other => panic!("{other:?}"),
        }
        let enough = LogRoom { allocated_bytes: 16, ..room };
        assert_eq!(decide(space, enough, Ratios::default()), DiskState::Fine);
    }

    #[test]
    fn the_log_grows_no_further_than_what_is_there_and_what_surely_fits() {
        let limits = |free: u64, allocated_bytes: u64, is_last: bool| {
            let room = LogRoom { segment_bytes: 800, allocated_bytes, is_last };
            let Limits { messages, commands } =
                limits(Space { total: 1 << 40, free }, room, PhysicalOffset(1000));
            (messages, commands)
        };
        let rows = [
            ("nothing more fits", 0, 900, false, (1700, 1800)),
            ("one more would fit, others may take it", 1600, 900, false, (1700, 1800)),
            ("two more would fit", 2400, 900, false, (2500, 2600)),
            ("two more would fit, and could not be made", 2400, 900, true, (1700, 1800)),
            ("nothing is left", 0, 0, true, (800, 900)),
            ("plenty", 1 << 39, 900, false, (u64::MAX, u64::MAX)),
        ];
        for (what, free, allocated, is_last, want) in rows {
            assert_eq!(limits(free, allocated, is_last), want, "{what}");
        }
        let room = LogRoom { segment_bytes: 800, allocated_bytes: 0, is_last: false };
        let untold = Space { total: 0, free: 0 };
        assert_eq!(super::limits(untold, room, PhysicalOffset(0)), Limits::NONE);
    }

    #[test]
    fn a_new_log_that_does_not_fit_is_refused_with_the_numbers() {
        let there = tempfile::tempdir().unwrap();
        let dir = there.path().join("not/there/yet");
        assert!(check_new_log(&RealFiles, &dir, 4096).is_ok());
        assert!(check_new_log(&RealFiles, Path::new("not-there"), 4096).is_ok());
        match check_new_log(&RealFiles, &dir, 1 << 60) {
            Err(Error::NoRoom { dir: of, needed, free }) => {
                assert_eq!((of, needed), (dir, (1 << 60) + (17 << 20)));
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
