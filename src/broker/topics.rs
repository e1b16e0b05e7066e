//! Rules about topics: which names, what a topic created by a send looks like, what an operator
//! may ask for.

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::bodies::TopicConfig;
use crate::protocol::{names, perm};
use crate::raft::command::Topic;

/// Topics, and groups, above which no more come by use. Whoever may connect may use a new name, and
/// every member keeps it (2 KiB a group) for good. 40,000 topics fit into one registration however
/// long their names are. Operators may create more
/// (`announcement::fits`).
pub const BY_USE_MAX: usize = 40_000;
/// Most queues of a topic. Java has no limit; a request for two billion must not create them.
pub const QUEUES_MAX: u32 = 65_536;

/// A topic with this many queues for reading and for writing.
pub fn plain(name: &str, queues: u32, perm: u32) -> Topic {
    Topic {
        name: name.to_owned(),
        read_queues: queues,
        write_queues: queues,
        perm,
        sys_flag: 0,
        order: false,
        multi_tag: false,
        attributes: BTreeMap::new(),
    }
}

/// What `topicSysFlag` says of topics: the bits of a unit, that is a part of a cluster that works
/// for itself.
pub mod sys_flag {
    /// Producers of a unit write it.
    pub const UNIT: i32 = 1;
    /// Consumers of a unit read it.
    pub const UNIT_SUBSCRIBED: i32 = 2;
}

/// The topic that a send to an unknown name creates from `template`, which must be inheritable;
/// the client wants `queues`. `None`: no topic may be created this way.
pub fn from_template(name: &str, template: Option<&Topic>, queues: i32) -> Option<Topic> {
    let template = template.filter(|template| perm::inheritable(template.perm))?;
    let queues = u32::try_from(queues).unwrap_or(0).min(template.write_queues);
    Some(Topic {
        multi_tag: template.multi_tag,
        ..plain(name, queues.max(1), template.perm & !perm::INHERIT)
    })
}

/// The topic that holds what a group has to consume again.
pub fn retry(group: &str, queues: u32) -> Topic {
    plain(&names::retry_topic(group), queues.clamp(1, QUEUES_MAX), perm::READ | perm::WRITE)
}

/// The topic that holds what a group has given up.
pub fn dead_letter(group: &str) -> Topic {
    plain(&names::dlq_topic(group), 1, perm::READ | perm::WRITE)
}

/// The topic as it is shown to tools and name servers.
pub fn to_config(topic: &Topic) -> TopicConfig {
    TopicConfig {
        attributes: topic.attributes.clone(),
        order: topic.order,
        perm: topic.perm,
        read_queue_nums: topic.read_queues,
        topic_filter_type: filter_type(topic).to_owned(),
        topic_name: topic.name.clone(),
        topic_sys_flag: topic.sys_flag,
        write_queue_nums: topic.write_queues,
    }
}

/// The topic that an operator asks for, or why not.
pub fn from_config(config: TopicConfig) -> Result<Topic, String> {
    names::validate_topic(&config.topic_name).map_err(|error| error.to_string())?;
    let (read, write) = (config.read_queue_nums, config.write_queue_nums);
    if read.max(write) == 0 || read.max(write) > QUEUES_MAX {
        return Err(format!(
            "a topic has 1 to {QUEUES_MAX} queues, not {read} for reading and {write} for writing"
        ));
    }
    if config.perm & !perm::ALL != 0 {
        return Err(format!("perm {} is no sum of 4 (read), 2 (write), 1 (inherit)", config.perm));
    }
    let attributes = checked_attributes(config.attributes)?;
    Ok(Topic {
        name: config.topic_name,
        read_queues: read,
        write_queues: write,
        perm: config.perm,
        sys_flag: config.topic_sys_flag,
        order: config.order,
        multi_tag: config.topic_filter_type == MULTI_TAG,
        attributes,
    })
}

/// Attributes that topics may have, and the values that are honoured. Others would promise what
/// this broker does not do.
const ATTRIBUTES: [(&str, &[&str]); 3] = [
    ("message.type", &["UNSPECIFIED", "NORMAL", "FIFO", "DELAY", "TRANSACTION", "MIXED"]),
    ("queue.type", &["SimpleCQ"]),
    ("cleanup.policy", &["DELETE"]),
];

/// Attributes as they are stored; in lists clients write `+name` as in a change.
fn checked_attributes(asked: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    let mut checked = BTreeMap::new();
    for (name, value) in asked {
        let name = name.strip_prefix('+').unwrap_or(&name);
        let Some((_, values)) = ATTRIBUTES.iter().find(|(known, _)| *known == name) else {
            let known = ATTRIBUTES.map(|(known, _)| known).join(", ");
            return Err(format!("unsupported key: {name}; topics may have {known}"));
        };
        if !values.contains(&value.as_str()) {
            return Err(format!("{name} cannot be {value}; it may be {}", values.join(", ")));
        }
        checked.insert(name.to_owned(), value);
    }
    Ok(checked)
}

const MULTI_TAG: &str = "MULTI_TAG";

fn filter_type(topic: &Topic) -> &'static str {
    if topic.multi_tag { MULTI_TAG } else { "SINGLE_TAG" }
}

/// What a topic looks like in remarks and logs: as Java prints it, because scripts read it.
pub fn text(topic: &Topic) -> String {
    format!(
        "TopicConfig [topicName={}, readQueueNums={}, writeQueueNums={}, perm={}, \
         topicFilterType={}, topicSysFlag={}, order={}, attributes={{{}}}]",
        topic.name,
        topic.read_queues,
        topic.write_queues,
        perm::text(topic.perm),
        filter_type(topic),
        topic.sys_flag,
        topic.order,
        topic.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", "),
    )
}

/// What an operator wants of a topic's attributes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AttributeChange {
    /// These have these values.
    pub set: BTreeMap<String, String>,
    /// These are no more.
    pub removed: BTreeSet<String>,
}

/// Reads an attribute change, `+key=value` and `-key` separated by commas. What comes later counts.
pub fn attribute_change(change: &str) -> Result<AttributeChange, String> {
    let mut read = AttributeChange::default();
    for part in change.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match (part.strip_prefix('+'), part.strip_prefix('-')) {
            (Some(set), _) => match set.split_once('=') {
                Some((key, value)) if !key.is_empty() && !value.is_empty() => {
                    read.removed.remove(key);
                    read.set.insert(key.to_owned(), value.to_owned());
                }
                _ => return Err(format!("attribute [{part}] is not +key=value")),
            },
            (None, Some(key)) if !key.is_empty() && !key.contains('=') => {
                read.set.remove(key);
                read.removed.insert(key.to_owned());
            }
            _ => return Err(format!("attribute [{part}] is neither +key=value nor -key")),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_creates_a_topic_as_its_template_allows() {
        let template = |perm, queues| plain("TBW102", queues, perm);
        let rows = [
            (Some(template(7, 8)), 4, Some((4, 6))),
            (Some(template(7, 8)), 16, Some((8, 6))),
            (Some(template(5, 8)), 2, Some((2, 4))),
            (Some(template(7, 8)), -3, Some((1, 6))),
            (Some(template(7, 8)), 0, Some((1, 6))),
            (Some(template(6, 8)), 4, None), // no inherit bit
            (None, 4, None),
        ];
        for (template, wanted, want) in rows {
            let made = from_template("T", template.as_ref(), wanted);
            let got = made.as_ref().map(|topic| (topic.write_queues, topic.perm));
            assert_eq!(got, want, "{template:?} {wanted}");
        }
    }

    #[test]
    fn attributes_are_set_and_removed() {
        let rows = [
            ("", Ok("")),
            ("+b=2, +a=1", Ok("a=1 b=2")),
            ("+a=9,-b", Ok("a=9 -b")),
            ("+a=9,-a", Ok("-a")),
            ("-a,+a=9,+a=8", Ok("a=8")),
            ("b=2", Err(())),
            ("+b", Err(())),
            ("-a=1", Err(())),
        ];
        for (change, want) in rows {
            let got = attribute_change(change).map_err(|_| ()).map(|read| {
                let set = read.set.iter().map(|(key, value)| format!("{key}={value}"));
                let removed = read.removed.iter().map(|key| format!("-{key}"));
                set.chain(removed).collect::<Vec<_>>().join(" ")
            });
            assert_eq!(got.as_deref(), want.as_ref().map(|w| *w).map_err(|()| &()), "{change}");
        }
    }

    #[test]
    fn what_an_operator_asks_for_has_limits() {
        let config = |name: &str, read, write, perm| TopicConfig {
            read_queue_nums: read,
            write_queue_nums: write,
            perm,
            ..TopicConfig::new(name, 0)
        };
        let rows = [
            (config("T", 4, 4, 6), true),
            (config("T", 4, 0, 6), true), // being emptied before it shrinks
            (config("T", 0, 0, 6), false),
            (config("T", 2_000_000_000, 4, 6), false),
            (config("T", 4, 4, 64), false),
            (config("a b", 4, 4, 6), false),
            (config("", 4, 4, 6), false),
        ];
        for (config, good) in rows {
            let made = from_config(config.clone());
            assert_eq!(made.is_ok(), good, "{config:?} {made:?}");
            if let Ok(topic) = made {
                assert_eq!(to_config(&topic), config);
            }
        }
    }

    #[test]
    fn attributes_are_those_that_are_honoured() {
        let with = |name: &str, value: &str| TopicConfig {
            attributes: BTreeMap::from([(name.to_owned(), value.to_owned())]),
            ..TopicConfig::new("T", 4)
        };
        let kept = from_config(with("+message.type", "FIFO")).unwrap().attributes;
        assert_eq!(kept.get("message.type").map(String::as_str), Some("FIFO"));
        for (name, value) in
            [("no.such", "1"), ("cleanup.policy", "COMPACTION"), ("message.type", "x")]
        {
            assert!(from_config(with(name, value)).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn a_topic_is_printed_as_java_does() {
        assert_eq!(
            text(&plain("T", 4, 6)),
            "TopicConfig [topicName=T, readQueueNums=4, writeQueueNums=4, perm=RW-, \
             topicFilterType=SINGLE_TAG, topicSysFlag=0, order=false, attributes={}]"
        );
    }
}
