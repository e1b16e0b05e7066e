//! Names of topics and groups: what is allowed, what is the system's own, what derives from what.

use std::fmt;

/// Longest ordinary topic name.
pub const TOPIC_CHARS_MAX: usize = 127;
/// Longest name of a retry or dead-letter topic.
pub const RETRY_OR_DLQ_TOPIC_CHARS_MAX: usize = 255;
/// Longest group name.
pub const GROUP_CHARS_MAX: usize = 120;

/// Prefix of retry topics.
pub const RETRY_PREFIX: &str = "%RETRY%";
/// Prefix of dead-letter topics.
pub const DLQ_PREFIX: &str = "%DLQ%";
/// Prefix of topics that belong to the system.
pub const SYSTEM_PREFIX: &str = "rmq_sys_";
/// Prefix of groups that belong to the system.
pub const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";

/// Template of topics that are created by sending to them.
pub const TBW102: &str = "TBW102";
/// Delayed messages.
pub const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
/// Topic of the benchmark tool.
pub const BENCHMARK_TOPIC: &str = "BenchmarkTest";
/// Half messages.
pub const TRANS_HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
/// What became of half messages.
pub const TRANS_OP_HALF_TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
/// Half messages whose producer never answered.
pub const TRANS_CHECK_MAX_TIME_TOPIC: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
/// Message traces.
pub const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";
/// Java's self test.
pub const SELF_TEST_TOPIC: &str = "SELF_TEST_TOPIC";
/// Events of moved offsets.
pub const OFFSET_MOVED_EVENT: &str = "OFFSET_MOVED_EVENT";
/// Timer messages.
pub const TIMER_TOPIC: &str = "rmq_sys_wheel_timer";
/// Group of the transaction service.
pub const TRANS_GROUP: &str = "CID_RMQ_SYS_TRANS";

const ROCKSDB_TRANS_HALF_TOPIC: &str = "RMQ_SYS_ROCKSDB_TRANS_HALF_TOPIC";
const ROCKSDB_TRANS_OP_HALF_TOPIC: &str = "RMQ_SYS_ROCKSDB_TRANS_OP_HALF_TOPIC";

/// Topics that exist on every broker and cannot be changed by users.
pub const SYSTEM_TOPICS: [&str; 11] = [
    TBW102,
    SCHEDULE_TOPIC,
    BENCHMARK_TOPIC,
    TRANS_HALF_TOPIC,
    TRACE_TOPIC,
    TRANS_OP_HALF_TOPIC,
    TRANS_CHECK_MAX_TIME_TOPIC,
    SELF_TEST_TOPIC,
    OFFSET_MOVED_EVENT,
    ROCKSDB_TRANS_HALF_TOPIC,
    ROCKSDB_TRANS_OP_HALF_TOPIC,
];

/// Groups that exist on every broker.
pub const SYSTEM_GROUPS: [&str; 8] = [
    "TOOLS_CONSUMER",
    "FILTERSRV_CONSUMER",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PULL",
    "CID_ONSAPI_PERMISSION",
    "CID_ONSAPI_OWNER",
    TRANS_GROUP,
];

/// Why a name is refused. The text is the remark that Java sends, code INVALID_PARAMETER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    /// The topic is empty or blank.
    BlankTopic,
    /// The topic has a character outside `%|a-zA-Z0-9_-`.
    IllegalTopic(String),
    /// The topic is too long.
    TopicTooLong {
        /// How long it may be.
        max: usize,
    },
    /// The group is empty or blank.
    BlankGroup,
    /// The group has a character outside `%|a-zA-Z0-9_-`.
    IllegalGroup(String),
    /// The group is too long.
    GroupTooLong,
}

const QUOTED_MAX: usize = 300; // characters of a refused name that a remark repeats

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALLOWED: &str = "allowing only ^[%|a-zA-Z0-9_-]+$";
        match self {
            Self::BlankTopic => f.write_str("The specified topic is blank."),
            Self::IllegalTopic(topic) => {
                write!(f, "The specified topic: {topic}, contains illegal characters, {ALLOWED}")
            }
            Self::TopicTooLong { max } => {
                write!(f, "The specified topic is longer than topic max length: {max}.")
            }
            Self::BlankGroup => f.write_str("the specified group is blank"),
            Self::IllegalGroup(group) => {
                write!(f, "the specified group[{group}] contains illegal characters, {ALLOWED}")
            }
            Self::GroupTooLong => {
                f.write_str("the specified group is longer than group max length.")
            }
        }
    }
}

impl std::error::Error for NameError {}

/// Whether `topic` may be sent to or created. Retry and dead-letter topics may be longer.
pub fn validate_topic(topic: &str) -> Result<(), NameError> {
    if topic.trim().is_empty() {
        return Err(NameError::BlankTopic);
    }
    if !topic.bytes().all(is_allowed) {
        return Err(NameError::IllegalTopic(topic.chars().take(QUOTED_MAX).collect()));
    }
    let max = if is_retry_topic(topic) || is_dlq_topic(topic) {
        RETRY_OR_DLQ_TOPIC_CHARS_MAX
    } else {
        TOPIC_CHARS_MAX
    };
    if topic.len() > max { Err(NameError::TopicTooLong { max }) } else { Ok(()) }
}

/// Whether `group` may be created.
pub fn validate_group(group: &str) -> Result<(), NameError> {
    if group.trim().is_empty() {
        return Err(NameError::BlankGroup);
    }
    if group.len() > GROUP_CHARS_MAX {
        return Err(NameError::GroupTooLong);
    }
    if !group.bytes().all(is_allowed) {
        return Err(NameError::IllegalGroup(group.to_owned()));
    }
    Ok(())
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'|' | b'_' | b'-')
}

/// Whether `topic` belongs to the system: users cannot create, change or delete it.
pub fn is_system_topic(topic: &str) -> bool {
    SYSTEM_TOPICS.contains(&topic) || topic.starts_with(SYSTEM_PREFIX)
}

/// Whether clients may not send to `topic`, because only the broker itself writes it.
pub fn is_forbidden_to_send(topic: &str) -> bool {
    const FORBIDDEN: [&str; 8] = [
        SCHEDULE_TOPIC,
        TRANS_HALF_TOPIC,
        TRANS_OP_HALF_TOPIC,
        TRANS_CHECK_MAX_TIME_TOPIC,
        SELF_TEST_TOPIC,
        OFFSET_MOVED_EVENT,
        ROCKSDB_TRANS_HALF_TOPIC,
        ROCKSDB_TRANS_OP_HALF_TOPIC,
    ];
    FORBIDDEN.contains(&topic)
}

/// Whether `group` belongs to the system.
pub fn is_system_group(group: &str) -> bool {
    SYSTEM_GROUPS.contains(&group) || group.starts_with(SYSTEM_GROUP_PREFIX)
}

/// The topic that holds what `group` gave back.
pub fn retry_topic(group: &str) -> String {
    [RETRY_PREFIX, group].concat()
}

/// The topic that holds what `group` gave up on.
pub fn dlq_topic(group: &str) -> String {
    [DLQ_PREFIX, group].concat()
}

/// Whether `topic` is some group's retry topic.
pub fn is_retry_topic(topic: &str) -> bool {
    topic.starts_with(RETRY_PREFIX)
}

/// Whether `topic` is some group's dead-letter topic.
pub fn is_dlq_topic(topic: &str) -> bool {
    topic.starts_with(DLQ_PREFIX)
}

/// The group whose retry topic `topic` is.
pub fn group_of_retry_topic(topic: &str) -> Option<&str> {
    topic.strip_prefix(RETRY_PREFIX)
}

/// What follows the name of a broker group in the name of its ingress slot: a write-only entry of
/// route answers that stands for another member than the leader. No name of Java's has a tilde.
const SLOT_SUFFIX: &str = "~1";

/// Ext field of a question that any member of a broker group may answer. Without it, a follower
/// leaves to its leader what tools ask of every entry of a route: it may stand behind a slot.
pub const ANY_MEMBER: &str = "anyMember";

/// The name that routes give the ingress slot of `group`.
pub fn slot(group: &str) -> String {
    [group, SLOT_SUFFIX].concat()
}

/// Whether a broker name of a route is that of a slot.
pub fn is_slot(broker_name: &str) -> bool {
    broker_name.strip_suffix(SLOT_SUFFIX).is_some_and(|group| !group.is_empty())
}

/// Where replies of a cluster's requests are stored.
pub fn reply_topic(cluster: &str) -> String {
    [cluster, "_REPLY_TOPIC"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_are_checked_as_java_does() {
        let long =
            |prefix: &str, total: usize| prefix.to_owned() + &"x".repeat(total - prefix.len());
        let rows = [
            ("Topic_1-%|".to_owned(), None),
            (long("", 127), None),
            (long(RETRY_PREFIX, 255), None),
            (long(DLQ_PREFIX, 255), None),
            (String::new(), Some("The specified topic is blank.")),
            (" ".to_owned(), Some("The specified topic is blank.")),
            (
                "bad topic!".to_owned(),
                Some(
                    "The specified topic: bad topic!, contains illegal characters, \
                     allowing only ^[%|a-zA-Z0-9_-]+$",
                ),
            ),
            (long("", 128), Some("The specified topic is longer than topic max length: 127.")),
            (
                long(DLQ_PREFIX, 256),
                Some("The specified topic is longer than topic max length: 255."),
            ),
        ];
        for (topic, want) in rows {
            let got = validate_topic(&topic).err().map(|e| e.to_string());
            assert_eq!(got.as_deref(), want, "{topic}");
        }
    }

    #[test]
    fn group_names_are_checked_as_java_does() {
        assert_eq!(validate_group("g"), Ok(()));
        assert_eq!(validate_group(&"g".repeat(120)), Ok(()));
        assert_eq!(validate_group(&"g".repeat(121)), Err(NameError::GroupTooLong));
        assert_eq!(validate_group(""), Err(NameError::BlankGroup));
        assert_eq!(validate_group("ä"), Err(NameError::IllegalGroup("ä".to_owned())));
    }

    #[test]
    fn system_names_are_recognised() {
        for topic in [SCHEDULE_TOPIC, TBW102, "rmq_sys_REVIVE_LOG_c"] {
            assert!(is_system_topic(topic), "{topic}");
        }
        assert!(!is_system_topic("%RETRY%g"));
        assert!(!is_forbidden_to_send(TBW102));
        assert!(is_system_group("CID_RMQ_SYS_X"));
        assert_eq!(group_of_retry_topic(&retry_topic("g")), Some("g"));
    }

    #[test]
    fn a_slot_has_its_groups_name_and_a_tilde() {
        assert_eq!(slot("RaftNode00"), "RaftNode00~1");
        let rows = [("G~1", true), ("G~2", false), ("G", false), ("~1", false), ("G~1x", false)];
        for (name, want) in rows {
            assert_eq!(is_slot(name), want, "{name}");
        }
    }
}
