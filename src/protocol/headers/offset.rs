//! Offsets of groups and bounds of queues.

use std::{convert::Infallible, str::FromStr};

use super::{answer_header, field::Field, request_header};
use crate::protocol::ext_fields::{ExtFields, FieldError};

request_header! {
    /// A group's offset in a queue.
    QUERY_CONSUMER_OFFSET QueryConsumerOffset {
        /// Name of the group.
        consumer_group: String = "consumerGroup",
        /// Name of the topic.
        topic: String = "topic",
        /// Queue of the topic.
        queue_id: i32 = "queueId",
        /// Whether a group without an offset may be told 0.
        set_zero_if_not_found: Option<bool> = "setZeroIfNotFound",
    }
}

request_header! {
    /// Set a group's offset in a queue.
    UPDATE_CONSUMER_OFFSET UpdateConsumerOffset {
        /// Name of the group.
        consumer_group: String = "consumerGroup",
        /// Name of the topic.
        topic: String = "topic",
        /// Queue of the topic.
        queue_id: i32 = "queueId",
        /// The next offset to be consumed.
        commit_offset: i64 = "commitOffset",
    }
}

request_header! {
    /// The next offset to be written.
    GET_MAX_OFFSET GetMaxOffset {
        /// Name of the topic.
        topic: String = "topic",
        /// Queue of the topic.
        queue_id: i32 = "queueId",
        /// Only what a quorum has; we know nothing else.
        committed: bool = "committed" or true,
    }
}

request_header! {
    /// The smallest offset there is.
    GET_MIN_OFFSET GetMinOffset {
        /// Name of the topic.
        topic: String = "topic",
        /// Queue of the topic.
        queue_id: i32 = "queueId",
    }
}

request_header! {
    /// The offset that belongs to a time.
    SEARCH_OFFSET_BY_TIMESTAMP SearchOffset {
        /// Name of the topic.
        topic: String = "topic",
        /// Queue of the topic.
        queue_id: i32 = "queueId",
        /// Store time. Milliseconds.
        timestamp: i64 = "timestamp",
        /// Which of two neighbours.
        boundary: Boundary = "boundaryType" or Boundary::Lower,
    }
}

request_header! {
    /// Store time of a queue's first message.
    GET_EARLIEST_MSG_STORETIME GetEarliestStoreTime {
        /// Name of the topic.
        topic: String = "topic",
        /// Queue of the topic.
        queue_id: i32 = "queueId",
    }
}

answer_header! {
    /// An offset.
    OffsetAnswer {
        /// The offset.
        offset: i64 = "offset",
    }
}

answer_header! {
    /// A time.
    TimestampAnswer {
        /// Milliseconds; −1 if there is no message.
        timestamp: i64 = "timestamp",
    }
}

request_header! {
    /// Move a group's offsets to a time.
    INVOKE_BROKER_TO_RESET_OFFSET ResetOffset {
        /// Name of the group.
        group: String = "group",
        /// Name of the topic.
        topic: String = "topic",
        /// One queue, or −1.
        queue_id: i32 = "queueId" or -1,
        /// Of one queue: this offset instead of a time.
        offset: Option<i64> = "offset",
        /// Milliseconds; −1: the end.
        timestamp: i64 = "timestamp",
        /// Whether offsets may move forwards.
        is_force: bool = "isForce",
    }
}

request_header! {
    /// To a client: these are its new offsets.
    RESET_CONSUMER_CLIENT_OFFSET ResetClientOffset {
        /// Name of the group.
        group: String = "group",
        /// Name of the topic.
        topic: String = "topic",
        /// One queue, or −1.
        queue_id: i32 = "queueId" or -1,
        /// One offset instead of a time.
        offset: Option<i64> = "offset",
        /// Milliseconds.
        timestamp: i64 = "timestamp",
        /// Whether offsets may move forwards.
        is_force: bool = "isForce",
    }
}

request_header! {
    /// Offsets that clients have in memory.
    INVOKE_BROKER_TO_GET_CONSUMER_STATUS GetConsumerStatus {
        /// Name of the topic.
        topic: String = "topic",
        /// Name of the group.
        group: String = "group",
        /// Only this client.
        client_addr: Option<String> = "clientAddr",
    }
}

request_header! {
    /// The same, to a client.
    GET_CONSUMER_STATUS_FROM_CLIENT GetClientStatus {
        /// Name of the topic.
        topic: String = "topic",
        /// Name of the group.
        group: String = "group",
    }
}

request_header! {
    /// Offsets of other groups, to compare with.
    QUERY_CORRECTION_OFFSET QueryCorrectionOffset {
        /// Groups to leave out, separated by commas.
        filter_groups: Option<String> = "filterGroups",
        /// The group that is asked about.
        compare_group: String = "compareGroup",
        /// Name of the topic.
        topic: String = "topic",
    }
}

/// Which message a time stands for when it lies between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Boundary {
    /// The first one stored at or after it.
    #[default]
    Lower,
    /// The last one stored at or before it.
    Upper,
}

impl FromStr for Boundary {
    type Err = Infallible;

    /// As Java: what is not `upper` is lower.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text.eq_ignore_ascii_case("upper") { Self::Upper } else { Self::Lower })
    }
}

impl Field for Boundary {
    fn read(ext: &ExtFields, name: &str) -> Result<Self, FieldError> {
        ext.required(name)
    }

    fn write(&self, name: &str, ext: &mut ExtFields) {
        ext.push(
            name,
            match self {
                Self::Lower => "LOWER",
                Self::Upper => "UPPER",
            },
        );
    }
}
