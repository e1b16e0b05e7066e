//! Values as Java's tools print them, and times as they read them.

use std::fmt::{self, Display, Write as _};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use crate::protocol::{bodies::TopicConfig, perm};

/// `yyyy-MM-dd HH:mm:ss,SSS`.
pub(super) fn time_with_ms(ms: i64, zone: &TimeZone) -> String {
    strftime(ms, zone, "%Y-%m-%d %H:%M:%S,%3f")
}

/// `yyyy-MM-dd HH:mm:ss`.
pub(super) fn time(ms: i64, zone: &TimeZone) -> String {
    strftime(ms, zone, "%Y-%m-%d %H:%M:%S")
}

/// A time outside what calendars have is shown as the number it is.
fn strftime(ms: i64, zone: &TimeZone, format: &str) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(at) => at.to_zoned(zone.clone()).strftime(format).to_string(),
        Err(_) => ms.to_string(),
    }
}

/// Milliseconds since the epoch: `now`, a number, or `yyyy-MM-dd#HH:mm:ss:SSS`.
pub(super) fn parse_time(text: &str, now_ms: i64, zone: &TimeZone) -> Option<i64> {
    if text == "now" {
        return Some(now_ms);
    }
    if let Ok(ms) = text.parse() {
        return Some(ms);
    }
    let (second, ms) = text.rsplit_once(':')?;
    let ms: i64 = ms.parse().ok().filter(|ms| (0..1000).contains(ms))?;
    let at = DateTime::strptime("%Y-%m-%d#%H:%M:%S", second).ok()?;
    Some(at.to_zoned(zone.clone()).ok()?.timestamp().as_millisecond() + ms)
}

/// `{k=v, k=v}`.
pub(super) fn map<K: Display, V: Display>(entries: impl IntoIterator<Item = (K, V)>) -> String {
    let mut text = String::from("{");
    for (key, value) in entries {
        let comma = if text.len() > 1 { ", " } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{key}={value}");
    }
    text.push('}');
    text
}

/// `[a, b]`.
pub(super) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    format!("[{}]", items.join(", "))
}

/// A floating point number: always with a point, as in `0.0`.
pub(super) fn double(value: f64) -> String {
    format!("{value:?}")
}

/// `TopicConfig.toString()`.
pub(super) struct Topic<'a>(pub(super) &'a TopicConfig);

impl Display for Topic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topic = self.0;
        write!(
            f,
            "TopicConfig [topicName={}, readQueueNums={}, writeQueueNums={}, perm={}, \
             topicFilterType={}, topicSysFlag={}, order={}, attributes={}]",
            topic.topic_name,
            topic.read_queue_nums,
            topic.write_queue_nums,
            perm::text(topic.perm),
            topic.topic_filter_type,
            topic.topic_sys_flag,
            topic.order,
            map(&topic.attributes)
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const MS: i64 = 1_795_264_402_246;

    fn shanghai() -> TimeZone {
        TimeZone::fixed(jiff::tz::offset(8))
    }

    #[test]
    fn times_are_local_and_have_the_formats_of_the_tools() {
        assert_eq!(time_with_ms(MS, &TimeZone::UTC), "2026-11-21 12:33:22,246");
        assert_eq!(time(MS, &shanghai()), "2026-11-21 20:33:22");
        assert_eq!(time(i64::MAX, &TimeZone::UTC), i64::MAX.to_string());
    }

    #[test]
    fn times_are_read_in_the_three_forms_that_mqadmin_takes() {
        let rows = [
            ("now", Some(7)),
            ("1795264402246", Some(MS)),
            ("-1", Some(-1)),
            ("2026-11-21#20:33:22:246", Some(MS)),
            ("2026-11-21#20:33:22:1246", None),
            ("2026-11-21 20:33:22", None),
            ("2026-13-21#20:33:22:246", None),
            ("", None),
        ];
        for (text, want) in rows {
            assert_eq!(parse_time(text, 7, &shanghai()), want, "{text}");
        }
    }

    #[test]
    fn maps_lists_and_numbers_are_those_of_java() {
        assert_eq!(map(BTreeMap::from([(0, "h:1"), (2, "h:2")])), "{0=h:1, 2=h:2}");
        assert_eq!(map(BTreeMap::<u8, u8>::new()), "{}");
        assert_eq!(list([1, 2]), "[1, 2]");
        assert_eq!(double(0.0), "0.0");
        assert_eq!(double(12.5), "12.5");
    }

    #[test]
    fn a_topic_is_printed_as_java_prints_it() {
        let topic =
            TopicConfig { read_queue_nums: 3, write_queue_nums: 2, ..TopicConfig::new("AdmT", 8) };
        assert_eq!(
            Topic(&topic).to_string(),
            "TopicConfig [topicName=AdmT, readQueueNums=3, writeQueueNums=2, perm=RW-, \
             topicFilterType=SINGLE_TAG, topicSysFlag=0, order=false, attributes={}]"
        );
    }
}
