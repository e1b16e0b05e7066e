//! Unique ids for messages whose producer made none.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::protocol::message::id::UniqueId;

/// Makes ids in the form of Java's client, so that tools can read the time from them.
#[derive(Debug)]
pub struct UniqueIds {
    ip: IpAddr,
    process: u16,
    seed: u32,
    counter: AtomicU16,
}

impl UniqueIds {
    /// For a broker at `ip`.
    #[allow(clippy::cast_possible_truncation)] // the low bits are what is wanted
    pub fn new(ip: IpAddr) -> Self {
        Self {
            ip,
            process: std::process::id() as u16,
            seed: fastrand::u32(..),
            counter: AtomicU16::new(0),
        }
    }

    /// The next id, made at `now_ms` since the epoch.
    pub fn next(&self, now_ms: i64) -> String {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        UniqueId {
            ip: self.ip,
            process: self.process,
            seed: self.seed,
            month_ms: ms_since_month_start(now_ms),
            counter,
        }
        .text()
    }
}

/// Milliseconds since the month began, in UTC; a month has less than 2^32 of them.
fn ms_since_month_start(now_ms: i64) -> u32 {
    const DAY_MS: i64 = 86_400_000;
    let day_of_month = jiff::Timestamp::from_millisecond(now_ms)
        .map_or(1, |now| i64::from(now.to_zoned(jiff::tz::TimeZone::UTC).day()));
    let ms = now_ms.rem_euclid(DAY_MS) + (day_of_month - 1) * DAY_MS;
    u32::try_from(ms).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_the_time_of_the_month() {
        assert_eq!(ms_since_month_start(0), 0);
        assert_eq!(ms_since_month_start(86_400_000 + 5), 86_400_005);
        assert_eq!(ms_since_month_start(31 * 86_400_000 + 7), 7, "the 1st of February 1970");
        assert_eq!(ms_since_month_start(-1), 31 * 86_400_000 - 1, "before the epoch");
    }

    #[test]
    fn ids_differ() {
        let ids = UniqueIds::new([127, 0, 0, 1].into());
        let (a, b) = (ids.next(1000), ids.next(1000));
        assert_eq!((a.len(), b.len()), (32, 32));
        assert_ne!(a, b);
        assert!(a.starts_with("7F000001"));
    }
}
