//! The property string: `name \x01 value \x02`, repeated. When a name occurs twice, the last one
//! counts. Scanned in place; nobody builds a map on the message path.

#![warn(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects
)]

use std::ops::Range;

use bytes::Bytes;

use crate::protocol::near;

const NAME_END: u8 = 1;
const VALUE_END: u8 = 2;

/// Separates the single keys of `KEYS`.
pub const KEY_SEPARATOR: char = ' ';

/// Names of properties, as in Java's `MessageConst`.
pub mod names {
    /// Index keys, separated by blanks.
    pub const KEYS: &str = "KEYS";
    /// The message's tag.
    pub const TAGS: &str = "TAGS";
    /// The producer's unique id of the message.
    pub const UNIQ_KEY: &str = "UNIQ_KEY";
    /// `false`: the producer does not wait for flush and replication.
    pub const WAIT: &str = "WAIT";
    /// Delay level, from 1.
    pub const DELAY: &str = "DELAY";
    /// Original topic of a delayed or half message.
    pub const REAL_TOPIC: &str = "REAL_TOPIC";
    /// Original queue of a delayed or half message.
    pub const REAL_QID: &str = "REAL_QID";
    /// Original topic of a retried message.
    pub const RETRY_TOPIC: &str = "RETRY_TOPIC";
    /// Offset message id of the first delivery of a retried message.
    pub const ORIGIN_MESSAGE_ID: &str = "ORIGIN_MESSAGE_ID";
    /// Client-side retry: how often the message was given back.
    pub const RECONSUME_TIME: &str = "RECONSUME_TIME";
    /// Client-side retry: how often it may be given back.
    pub const MAX_RECONSUME_TIMES: &str = "MAX_RECONSUME_TIMES";
    /// `true` on half messages.
    pub const TRAN_MSG: &str = "TRAN_MSG";
    /// Producer group of a half message.
    pub const PGROUP: &str = "PGROUP";
    /// Transaction id chosen by the client.
    pub const TRANSACTION_ID: &str = "__transactionId__";
    /// How often the producer was asked about a half message.
    pub const TRANSACTION_CHECK_TIMES: &str = "TRANSACTION_CHECK_TIMES";
    /// Seconds during which the producer is not asked.
    pub const CHECK_IMMUNITY_TIME: &str = "CHECK_IMMUNITY_TIME_IN_SECONDS";
    /// Region of the broker.
    pub const MSG_REGION: &str = "MSG_REGION";
    /// Whether clients shall trace the message.
    pub const TRACE_ON: &str = "TRACE_ON";
    /// Cluster of the broker that took the message.
    pub const CLUSTER: &str = "CLUSTER";
    /// Receipt of a POP delivery; never stored.
    pub const POP_CK: &str = "POP_CK";
    /// Time of the first POP delivery.
    pub const FIRST_POP_TIME: &str = "1ST_POP_TIME";
    /// Order key.
    pub const SHARDING_KEY: &str = "__SHARDINGKEY";
    /// Links a reply to its request.
    pub const CORRELATION_ID: &str = "CORRELATION_ID";
    /// Client id that waits for the reply.
    pub const REPLY_TO_CLIENT: &str = "REPLY_TO_CLIENT";
    /// `reply` on replies.
    pub const MSG_TYPE: &str = "MSG_TYPE";
    /// Milliseconds that a request may wait for its reply.
    pub const TTL: &str = "TTL";
    /// When a reply arrived at the broker.
    pub const ARRIVE_TIME: &str = "ARRIVE_TIME";
    /// When a reply was pushed to the requester.
    pub const PUSH_REPLY_TIME: &str = "PUSH_REPLY_TIME";
    /// Timer: delay in seconds.
    pub const TIMER_DELAY_SEC: &str = "TIMER_DELAY_SEC";
    /// Timer: delay in milliseconds.
    pub const TIMER_DELAY_MS: &str = "TIMER_DELAY_MS";
    /// Timer: time of delivery in milliseconds.
    pub const TIMER_DELIVER_MS: &str = "TIMER_DELIVER_MS";
    /// Timer: time of delivery as decided by the broker.
    pub const TIMER_OUT_MS: &str = "TIMER_OUT_MS";
    /// Topic of a message before it became a dead letter.
    pub const DLQ_ORIGIN_TOPIC: &str = "DLQ_ORIGIN_TOPIC";
    /// Id of a message before it became a dead letter.
    pub const DLQ_ORIGIN_MESSAGE_ID: &str = "DLQ_ORIGIN_MESSAGE_ID";
}

/// Pairs in order. What is not UTF-8 or has no value ends or is skipped silently: the string
/// comes from producers, and a broker does not judge it.
pub fn iter(properties: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    // Checked as a whole, which is faster than name by name; if it is not UTF-8, name by name.
    let text = std::str::from_utf8(properties).unwrap_or_default();
    let mixed = if text.len() == properties.len() { &[] } else { properties };
    let of_text = Places::of(text.as_bytes());
    of_text.filter_map(|place| Some((text.get(place.name)?, text.get(place.value)?))).chain(
        pairs(mixed).filter_map(|pair| {
            let text = |bytes| std::str::from_utf8(bytes).ok();
            Some((text(pair.name)?, text(pair.value)?))
        }),
    )
}

/// The value of `name`.
pub fn find<'a>(properties: &'a [u8], name: &str) -> Option<&'a str> {
    let pair = pairs(properties).filter(|pair| pair.name == name.as_bytes()).last()?;
    std::str::from_utf8(pair.value).ok()
}

/// The properties that indexes are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Indexed<'a> {
    /// `TAGS`.
    pub tags: Option<&'a str>,
    /// `KEYS`, see [`super::key::split_keys`].
    pub keys: Option<&'a str>,
    /// `UNIQ_KEY`.
    pub uniq_key: Option<&'a str>,
}

impl<'a> Indexed<'a> {
    /// Finds them in one pass.
    pub fn of(properties: &'a [u8]) -> Self {
        let mut found = Self::default();
        for Pair { name, value } in pairs(properties) {
            let slot = match name {
                b"TAGS" => &mut found.tags,
                b"KEYS" => &mut found.keys,
                b"UNIQ_KEY" => &mut found.uniq_key,
                _ => continue,
            };
            *slot = std::str::from_utf8(value).ok();
        }
        found
    }

    /// See [`super::tags_code`].
    pub fn tags_code(&self) -> i64 {
        self.tags.map_or(0, super::tags_code)
    }
}

/// One property.
#[derive(Clone, Copy)]
struct Pair<'a> {
    name: &'a [u8],
    value: &'a [u8],
}

fn pairs(properties: &[u8]) -> impl Iterator<Item = Pair<'_>> {
    Places::of(properties).filter_map(|Place { name, value }| {
        Some(Pair { name: properties.get(name)?, value: properties.get(value)? })
    })
}

/// Where a property is.
struct Place {
    name: Range<usize>,
    value: Range<usize>,
}

/// Where the properties of a string are.
struct Places<'a> {
    properties: &'a [u8],
    /// Behind the last one.
    at: usize,
}

impl<'a> Places<'a> {
    fn of(properties: &'a [u8]) -> Self {
        Self { properties, at: 0 }
    }
}

impl Iterator for Places<'_> {
    type Item = Place;

    #[inline]
    fn next(&mut self) -> Option<Place> {
        loop {
            let start = self.at;
            let rest = self.properties.get(start..)?;
            let middle = start.wrapping_add(near::find2(rest, NAME_END, VALUE_END)?);
            self.at = middle.wrapping_add(1);
            if self.properties.get(middle) == Some(&NAME_END) {
                let rest = self.properties.get(self.at..)?;
                // The last separator may be missing.
                let bytes = near::find(rest, VALUE_END).unwrap_or(rest.len());
                let value = self.at..self.at.wrapping_add(bytes);
                self.at = value.end.wrapping_add(1);
                return Some(Place { name: start..middle, value });
            }
        }
    }
}

/// A property string in the making: what a producer sent, with properties set and removed.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    text: Vec<u8>,
}

impl Builder {
    /// Starts from an existing string, with room for what a broker adds.
    pub fn from(properties: &[u8]) -> Self {
        let mut text = Vec::with_capacity(properties.len().saturating_add(128));
        text.extend_from_slice(properties);
        if text.last().is_some_and(|last| *last != VALUE_END) {
            text.push(VALUE_END);
        }
        Self { text }
    }

    /// Starts empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        find(&self.text, name)
    }

    /// Sets `name`, wherever it was before. Separators inside `name` or `value` are left out:
    /// they would make other properties.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.remove(name);
        self.push(name, value)
    }

    /// Adds `name`, which is not there yet.
    pub fn push(&mut self, name: &str, value: &str) -> &mut Self {
        let is_text = |b: &u8| *b != NAME_END && *b != VALUE_END;
        self.text.extend(name.bytes().filter(is_text));
        self.text.push(NAME_END);
        self.text.extend(value.bytes().filter(is_text));
        self.text.push(VALUE_END);
        self
    }

    /// Removes `name`, all of it if it occurs several times.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        let is_it = |pair: &Pair<'_>| pair.name == name.as_bytes();
        if pairs(&self.text).any(|pair| is_it(&pair)) {
            let mut kept = Vec::with_capacity(self.text.capacity());
            for pair in pairs(&self.text).filter(|pair| !is_it(pair)) {
                kept.extend_from_slice(pair.name);
                kept.push(NAME_END);
                kept.extend_from_slice(pair.value);
                kept.push(VALUE_END);
            }
            self.text = kept;
        }
        self
    }

    /// Length so far, in bytes.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether there is nothing yet.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The property string.
    pub fn build(self) -> Bytes {
        self.text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SENT: &[u8] =
        b"color\x01red\x02TAGS\x01old\x02KEYS\x01a b\x02UNIQ_KEY\x01U\x02TAGS\x01new\x02";

    #[test]
    fn the_last_of_equal_names_counts() {
        assert_eq!(find(SENT, "TAGS"), Some("new"));
        assert_eq!(find(SENT, "color"), Some("red"));
        assert_eq!(find(SENT, "colo"), None);
        let indexed = Indexed { tags: Some("new"), keys: Some("a b"), uniq_key: Some("U") };
        assert_eq!(Indexed::of(SENT), indexed);
    }

    #[test]
    fn odd_strings_are_read_as_far_as_they_make_sense() {
        type Row = (&'static [u8], &'static [(&'static str, &'static str)]);
        let rows: [Row; 6] = [
            (b"", &[]),
            (b"a\x01b", &[("a", "b")]),
            (b"a\x02b\x01c\x02", &[("b", "c")]),
            (b"a\x01b\x01c\x02", &[("a", "b\x01c")]),
            (b"\x01\x02", &[("", "")]),
            (b"a\x01\xff\x02b\x01c\x02", &[("b", "c")]),
        ];
        for (text, want) in rows {
            assert_eq!(iter(text).collect::<Vec<_>>(), want, "{text:?}");
        }
    }

    #[test]
    fn building_sets_and_removes() {
        let mut builder = Builder::from(b"a\x01b\x02TAGS\x01x\x02a\x01c");
        builder.set("a", "d\x02\x01e").remove("TAGS").set("new", "");
        assert_eq!(&builder.build()[..], b"a\x01de\x02new\x01\x02");
    }

    proptest! {
        #[test]
        fn what_was_set_is_found(pairs in prop::collection::vec(("[a-d]", "[a-z]{0,3}"), 0..12)) {
            let mut builder = Builder::new();
            let mut model = std::collections::BTreeMap::new();
            for (name, value) in &pairs {
                builder.set(name, value);
                model.insert(name.as_str(), value.as_str());
            }
            let text = builder.build();
            let found: std::collections::BTreeMap<_, _> = iter(&text).collect();
            prop_assert_eq!(found, model);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(0_u8..4, 0..40)) {
            let _ = iter(&bytes).count();
            let _ = Indexed::of(&bytes);
            let mut builder = Builder::from(&bytes);
            builder.set("\u{3}", "x");
            let built = builder.build();
            prop_assert_eq!(find(&built, "\u{3}"), Some("x"));
        }
    }
}
