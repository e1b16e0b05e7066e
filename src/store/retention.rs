//! Which segments may go. Pure: rows of a table, no clock, no disk.
//!
//! As RocketMQ does it: in the hours of `deleteWhen`, or when the disk is fuller than
//! `diskMaxUsedSpaceRatio`, or when an operator asks for it, segments whose messages are older than
//! `fileReservedTime`; above `diskSpaceCleanForciblyRatio` the oldest ones whatever their age. Never
//! the newest segment, and at most [`SEGMENTS_A_ROUND`] at a time.
//!
//! Unlike in Java the age of a segment is that of its youngest message, not of its file: a member
//! that was brought back from a snapshot keeps no more than its peers. And it is not one clock that
//! says what is old, but a majority of them ([`agreed_ms`]).

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use super::commit_log::SegmentInfo;
use super::disk_space::Ratios;
use super::files::Space;
use crate::ids::PhysicalOffset;

/// Most segments to go in one round; rounds are `cleanResourceInterval` (10 s) apart.
pub const SEGMENTS_A_ROUND: usize = 10;

/// Hours of the day in which old segments go (`deleteWhen`, e.g. `04` or `02;14`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteWhen {
    hours: u32, // bit per hour
}

impl DeleteWhen {
    /// Reads hours from 0 to 23, separated by `;`. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut hours = 0;
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let hour: u32 = part.parse().ok().filter(|hour| *hour < 24)?;
            hours |= 1 << hour;
        }
        (hours != 0).then_some(Self { hours })
    }

    /// Whether `now_ms` lies in one of the hours in `zone`.
    pub fn includes(self, now_ms: i64, zone: &TimeZone) -> bool {
        let Ok(now) = Timestamp::from_millisecond(now_ms) else { return false };
        let hour = zone.to_datetime(now).hour();
        u32::try_from(hour).is_ok_and(|hour| self.hours & 1 << hour != 0)
    }
}

impl Default for DeleteWhen {
    /// Four in the morning.
    fn default() -> Self {
        Self { hours: 1 << 4 }
    }
}

/// The settings that retention follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// `fileReservedTime`; 72 h.
    pub reserved: Duration,
    /// `deleteWhen`; 04.
    pub delete_when: DeleteWhen,
    /// Fractions of the disk.
    pub ratios: Ratios,
    /// `cleanFileForciblyEnable`; whether messages may go before their time when the disk is full.
    pub clean_forcibly: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            reserved: Duration::from_hours(72),
            delete_when: DeleteWhen::default(),
            ratios: Ratios::default(),
            clean_forcibly: true,
        }
    }
}

/// The moment of a decision.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// Time of day, ms since 1970.
    pub now_ms: i64,
    /// Whose hours `deleteWhen` means.
    pub zone: &'a TimeZone,
    /// Of the disk that the log is on.
    pub space: Space,
    /// An operator asked (request code 329).
    pub asked: Asked,
}

/// Whether an operator asked for old files to go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Yes.
    Now,
    /// No.
    No,
}

/// Why segments go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// They are old, and it is the hour.
    Hour,
    /// They are old, and the disk fills up.
    Disk,
    /// They are old, and an operator asked.
    Operator,
    /// The disk is nearly full: messages go before their time.
    Forced,
}

impl Reason {
    /// Whether the disk needs the room. A disk that is slow now need not be bothered for less.
    pub fn is_pressing(self) -> bool {
        match self {
            Self::Disk | Self::Forced => true,
            Self::Hour | Self::Operator => false,
        }
    }
}

/// What may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purge {
    /// Everything before this, the start of a segment.
    pub before: PhysicalOffset,
    /// How many segments that is.
    pub segments: usize,
    /// Why.
    pub reason: Reason,
}

/// Decides what may go. `segments` is the whole log, oldest first.
pub fn decide(segments: &[SegmentInfo], rules: &Rules, at: Moment<'_>) -> Option<Purge> {
    let used = used_ratio(at.space);
    let forced = rules.clean_forcibly && used > rules.ratios.clean_forcibly;
    let reason = if forced {
        Reason::Forced
    } else if at.asked == Asked::Now {
        Reason::Operator
    } else if used > rules.ratios.max_used {
        Reason::Disk
    } else if rules.delete_when.includes(at.now_ms, at.zone) {
        Reason::Hour
    } else {
        return None;
    };
    // A segment ends where the next one starts: nothing in it is younger than that one's first
    // message. The newest has no next one, and stays.
    let nexts = segments.iter().skip(1).take(SEGMENTS_A_ROUND);
    let gone: Vec<_> =
        nexts.take_while(|next| forced || is_old(next.first_store_ms, rules, at.now_ms)).collect();
    let before = gone.last()?.base;
    Some(Purge { before, segments: gone.len(), reason })
}

/// The time of which a majority of a group's `members` says that it has come. `known_ms` are the
/// clocks that are known; with too few of them there is none. A clock that runs ahead does not
/// move it, nor does one that stands in the past.
pub fn agreed_ms(mut known_ms: Vec<i64>, members: usize) -> Option<i64> {
    known_ms.sort_unstable_by_key(|ms| std::cmp::Reverse(*ms));
    known_ms.get(members / 2).copied()
}

/// Used share of a disk.
pub(super) fn used_ratio(space: Space) -> f64 {
    match space.total {
        0 => 0.0, // unknown
        total => total.saturating_sub(space.free) as f64 / total as f64,
    }
}

fn is_old(youngest_ms: Option<i64>, rules: &Rules, now_ms: i64) -> bool {
    let reserved_ms = i64::try_from(rules.reserved.as_millis()).unwrap_or(i64::MAX);
    youngest_ms.is_some_and(|youngest| youngest.saturating_add(reserved_ms) < now_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::EntryIndex;

    const HOUR_MS: i64 = 3_600_000;
    const NOON_MS: i64 = 12 * HOUR_MS + 1000 * 24 * HOUR_MS;

    /// Segments whose first messages are this many hours old.
    fn segments(ages: &[Option<i64>]) -> Vec<SegmentInfo> {
        let info = |(n, age): (usize, &Option<i64>)| SegmentInfo {
            base: PhysicalOffset(n as u64 * 1000),
            first: EntryIndex(n as u64),
            first_store_ms: age.map(|hours| NOON_MS - hours * HOUR_MS),
        };
        ages.iter().enumerate().map(info).collect()
    }

    /// Ages, hours, percent used, asked; start of the first segment kept, and why.
    type Row<'a> = (&'a [Option<i64>], DeleteWhen, u64, Asked, Option<(u64, Reason)>);

    #[test]
    fn old_segments_go_when_there_is_a_reason_and_never_the_newest() {
        let noon = DeleteWhen::parse("12").unwrap();
        let four = DeleteWhen::default();
        let (old, new) = (Some(100), Some(1));
        let mixed = [old, old, old, new, new];
        let rows: [Row<'_>; 11] = [
            (&mixed, four, 50, Asked::No, None),
            (&mixed, noon, 50, Asked::No, Some((2000, Reason::Hour))),
            (&mixed, four, 80, Asked::No, Some((2000, Reason::Disk))),
            (&mixed, four, 50, Asked::Now, Some((2000, Reason::Operator))),
            (&mixed, four, 86, Asked::No, Some((4000, Reason::Forced))),
            (&[old, new], noon, 50, Asked::No, None), // its last message may be new
            (&[new, new], four, 80, Asked::Now, None),
            (&[old, old, None, old], noon, 50, Asked::No, Some((1000, Reason::Hour))),
            (&[old], noon, 99, Asked::Now, None),
            (&[], noon, 99, Asked::Now, None),
            (&[old; 30], noon, 50, Asked::No, Some((10_000, Reason::Hour))),
        ];
        for (ages, delete_when, used, asked, want) in rows {
            let rules = Rules { delete_when, ..Rules::default() };
            let space = Space { total: 100, free: 100 - used };
            let at = Moment { now_ms: NOON_MS, zone: &TimeZone::UTC, space, asked };
            let got = decide(&segments(ages), &rules, at).map(|p| (p.before.0, p.reason));
            assert_eq!(got, want, "{ages:?} used {used} {asked:?}");
        }
    }

    #[test]
    fn a_time_has_come_when_a_majority_of_the_clocks_says_so() {
        let rows: [(&[i64], usize, Option<i64>); 9] = [
            (&[7], 1, Some(7)),
            (&[], 1, None),
            (&[10, 12, 11], 3, Some(11)),
            (&[10, 900, 11], 3, Some(11)),
            (&[10, -900, 11], 3, Some(10)),
            (&[10, 900], 3, Some(10)),
            (&[900], 3, None),
            (&[900, 800, 10, 12, 11], 5, Some(12)),
            (&[10, 900], 2, Some(10)),
        ];
        for (known, members, want) in rows {
            assert_eq!(agreed_ms(known.to_vec(), members), want, "{known:?} of {members}");
        }
    }

    #[test]
    fn without_permission_nothing_goes_before_its_time() {
        let rules = Rules { clean_forcibly: false, ..Rules::default() };
        let space = Space { total: 100, free: 1 };
        let at = Moment { now_ms: NOON_MS, zone: &TimeZone::UTC, space, asked: Asked::No };
        assert_eq!(decide(&segments(&[Some(9), Some(8)]), &rules, at), None);
    }

    #[test]
    fn hours_are_those_of_the_time_zone() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        let rows = [("20", true), ("12", false), (" 02 ; 20 ", true), ("00;23", false)];
        for (text, want) in rows {
            assert_eq!(DeleteWhen::parse(text).unwrap().includes(NOON_MS, &zone), want, "{text}");
        }
        for text in ["", ";", "24", "-1", "4,5", "four"] {
            assert_eq!(DeleteWhen::parse(text), None, "{text}");
        }
    }
}
