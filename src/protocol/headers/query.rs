//! Looking messages up.

use super::{answer_header, request_header};

request_header! {
    /// Messages with a key.
    QUERY_MESSAGE QueryMessage {
        /// Name of the topic.
        topic: String = "topic",
        /// The key.
        key: String = "key",
        /// At most so many.
        max_num: i32 = "maxNum",
        /// Stored at or after. Milliseconds.
        begin_timestamp: i64 = "beginTimestamp",
        /// Stored at or before. Milliseconds.
        end_timestamp: i64 = "endTimestamp",
        /// `K` key, `U` unique key, `T` tag.
        index_type: Option<String> = "indexType",
        /// Where the page before ended.
        last_key: Option<String> = "lastKey",
        /// The key is a unique key.
        unique_key_query: bool = "_UNIQUE_KEY_QUERY" or false,
    }
}

answer_header! {
    /// How far the index has got.
    QueryMessageAnswer {
        /// Physical offset of the last indexed message.
        index_last_update_phyoffset: i64 = "indexLastUpdatePhyoffset",
        /// Its store time. Milliseconds.
        index_last_update_timestamp: i64 = "indexLastUpdateTimestamp",
    }
}

request_header! {
    /// The message at a physical offset.
    VIEW_MESSAGE_BY_ID ViewMessage {
        /// Name of the topic.
        topic: Option<String> = "topic",
        /// Physical offset.
        offset: i64 = "offset",
    }
}

request_header! {
    /// Units of a ConsumeQueue.
    QUERY_CONSUME_QUEUE QueryConsumeQueue {
        /// Name of the topic.
        topic: Option<String> = "topic",
        /// Queue of the topic.
        queue_id: i32 = "queueId" or 0,
        /// First unit.
        index: i64 = "index" or 0,
        /// At most so many.
        count: i32 = "count" or 0,
        /// Group whose filter is applied.
        consumer_group: Option<String> = "consumerGroup",
    }
}

request_header! {
    /// Store times of what a group has consumed and not consumed.
    QUERY_CONSUME_TIME_SPAN QueryConsumeTimeSpan {
        /// Name of the topic.
        topic: String = "topic",
        /// Name of the group.
        group: String = "group",
    }
}
