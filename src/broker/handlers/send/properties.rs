//! A message's properties on their way into the log: what the producer sent, without what only
//! this broker may say, with what it says.

use crate::protocol::message::properties::{self, names};

use crate::broker::error::RequestError;

const NAME_END: u8 = 1;
const VALUE_END: u8 = 2;

/// Properties as sent, read once.
pub(super) struct Sent<'a> {
    bytes: &'a [u8],
    /// The producer's unique id of the message, if it made one.
    pub unique_key: Option<&'a str>,
    /// It wants to be delivered later, or only after its transaction: see [`Sent::check`].
    postponed: Option<&'static str>,
    /// It says what only brokers may say.
    forged: bool,
    /// It is nothing but properties, each with its separators.
    whole: bool,
}

impl<'a> Sent<'a> {
    /// Reads a property string.
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        let mut sent =
            Self { bytes, unique_key: None, postponed: None, forged: false, whole: false };
        let mut read = 0;
        for (name, value) in properties::iter(bytes) {
            read += name.len() + value.len() + 2;
            match name {
                names::UNIQ_KEY if !value.is_empty() => sent.unique_key = Some(value),
                names::DELAY if value.parse::<i64>().is_ok_and(|level| level > 0) => {
                    sent.postponed = Some("delayed messages");
                }
                names::TIMER_DELAY_SEC | names::TIMER_DELAY_MS | names::TIMER_DELIVER_MS => {
                    sent.postponed = sent.postponed.or(Some("timer messages"));
                }
                names::TRAN_MSG if value.eq_ignore_ascii_case("true") => {
                    sent.postponed = Some("transactions");
                }
                _ => sent.forged |= is_of_brokers(name),
            }
        }
        sent.whole = read == bytes.len() && bytes.ends_with(&[VALUE_END]);
        sent
    }

    /// Refuses what would be delivered too early: delivering a delayed or half message at once is
    /// worse than telling the producer. A dead letter is not delayed any more.
    pub(super) fn check(&self, is_dead_letter: bool) -> Result<(), RequestError> {
        match self.postponed {
            Some(what) if !is_dead_letter => Err(unsupported(what)),
            Some(_) | None => Ok(()),
        }
    }

    /// The string to store: without what only brokers may say, with what this one says (`added`,
    /// a property string), and with a unique key.
    pub(super) fn stored(&self, added: &[u8], unique_key: &str, is_dead_letter: bool) -> Vec<u8> {
        let key_bytes = || names::UNIQ_KEY.len() + unique_key.len() + 2;
        let own_bytes = if self.unique_key.is_some() { 0 } else { key_bytes() };
        let mut out = Vec::with_capacity(self.bytes.len() + added.len() + own_bytes);
        if self.whole && !self.forged && !is_dead_letter {
            out.extend_from_slice(self.bytes);
        } else {
            for (name, value) in properties::iter(self.bytes) {
                match name {
                    names::DELAY if is_dead_letter => {}
                    _ if is_of_brokers(name) => {}
                    _ => put(&mut out, name, value),
                }
            }
        }
        out.extend_from_slice(added);
        if self.unique_key.is_none() {
            put(&mut out, names::UNIQ_KEY, unique_key);
        }
        out
    }

    /// What is to be stored in place of the string of a batch's item, which is kept as it is unless
    /// it says what only brokers may say.
    pub(super) fn of_item(&self) -> Option<Vec<u8>> {
        let own = || properties::iter(self.bytes).filter(|(name, _)| !is_of_brokers(name));
        self.forged.then(|| {
            let mut out = Vec::with_capacity(self.bytes.len());
            own().for_each(|(name, value)| put(&mut out, name, value));
            out
        })
    }
}

/// Whether only a broker may say this of a message. A broker believes it when it delivers what it
/// has kept back, so a producer could have messages put into topics that it may not write.
fn is_of_brokers(name: &str) -> bool {
    matches!(
        name,
        names::POP_CK
            | names::FIRST_POP_TIME
            | names::MSG_REGION
            | names::TRACE_ON
            | names::CLUSTER
            | names::REAL_TOPIC
            | names::REAL_QID
            | names::TIMER_OUT_MS
            | names::TRANSACTION_CHECK_TIMES
            | names::ARRIVE_TIME
            | names::PUSH_REPLY_TIME
    )
}

/// Refuses a message that would be delivered too early.
pub(super) fn unsupported(what: &str) -> RequestError {
    RequestError::MessageIllegal(format!(
        "the message is illegal: {what} are not supported by this version of the broker; nothing \
         was stored"
    ))
}

/// Appends a property; neither text contains a separator.
fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.push(NAME_END);
    out.extend_from_slice(value.as_bytes());
    out.push(VALUE_END);
}

/// What this broker says of every message it takes, as a property string.
pub(in crate::broker) fn added(region: &str, trace_on: bool, cluster: &str) -> Vec<u8> {
    let mut builder = properties::Builder::new();
    builder
        .push(names::MSG_REGION, region)
        .push(names::TRACE_ON, if trace_on { "true" } else { "false" })
        .push(names::CLUSTER, cluster);
    builder.build().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(text: &str, is_dead_letter: bool) -> String {
        let added = added("R", true, "C");
        let sent = Sent::of(text.as_bytes());
        let key = sent.unique_key.unwrap_or("made");
        String::from_utf8(sent.stored(&added, key, is_dead_letter)).unwrap()
    }

    const ADDED: &str = "MSG_REGION\u{1}R\u{2}TRACE_ON\u{1}true\u{2}CLUSTER\u{1}C\u{2}";

    #[test]
    fn the_brokers_properties_replace_the_producers() {
        let rows = [
            ("", format!("{ADDED}UNIQ_KEY\u{1}made\u{2}")),
            ("UNIQ_KEY\u{1}U\u{2}a\u{1}b", format!("UNIQ_KEY\u{1}U\u{2}a\u{1}b\u{2}{ADDED}")),
            ("\u{2}a\u{1}b", format!("a\u{1}b\u{2}{ADDED}UNIQ_KEY\u{1}made\u{2}")),
            ("x\u{2}a\u{1}b\u{2}", format!("a\u{1}b\u{2}{ADDED}UNIQ_KEY\u{1}made\u{2}")),
            (
                "CLUSTER\u{1}forged\u{2}POP_CK\u{1}x\u{2}a\u{1}b\u{2}TRACE_ON\u{1}false\u{2}",
                format!("a\u{1}b\u{2}{ADDED}UNIQ_KEY\u{1}made\u{2}"),
            ),
        ];
        for (text, want) in rows {
            assert_eq!(stored(text, false), want, "{text:?}");
        }
    }

    #[test]
    fn what_must_not_be_delivered_at_once_is_refused() {
        let rows = [
            ("DELAY\u{1}3\u{2}", true),
            ("DELAY\u{1}0\u{2}", false),
            ("TIMER_DELAY_SEC\u{1}3\u{2}", true),
            ("TRAN_MSG\u{1}true\u{2}", true),
            ("TRAN_MSG\u{1}false\u{2}", false),
            ("WAIT\u{1}false\u{2}", false),
        ];
        for (text, refused) in rows {
            assert_eq!(Sent::of(text.as_bytes()).check(false).is_err(), refused, "{text:?}");
        }
        assert!(Sent::of(b"DELAY\x013\x02").check(true).is_ok());
        assert!(!stored("DELAY\u{1}3\u{2}", true).contains("DELAY"));
    }
}
