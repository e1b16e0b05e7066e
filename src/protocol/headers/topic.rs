//! Requests about topics, to brokers.

use super::{answer_header, request_header};

request_header! {
    /// Create or change a topic.
    UPDATE_AND_CREATE_TOPIC CreateTopic {
        /// Name of the topic.
        topic: String = "topic",
        /// Template; not used any more.
        default_topic: String = "defaultTopic",
        /// Queues that consumers see.
        read_queue_nums: u32 = "readQueueNums",
        /// Queues that producers see.
        write_queue_nums: u32 = "writeQueueNums",
        /// Bits of [`crate::protocol::perm`].
        perm: u32 = "perm",
        /// `SINGLE_TAG` or `MULTI_TAG`.
        topic_filter_type: String = "topicFilterType",
        /// Bit 0: unit topic, bit 1: has unit subscriptions.
        topic_sys_flag: Option<i32> = "topicSysFlag",
        /// Whether messages are ordered over the whole topic.
        order: bool = "order",
        /// Changes of attributes: `+name=value,-name`.
        attributes: Option<String> = "attributes",
        /// Static topics: overwrite.
        force: bool = "force" or false,
    }
}

request_header! {
    /// Delete a topic from a broker.
    DELETE_TOPIC_IN_BROKER DeleteTopic {
        /// Name of the topic.
        topic: String = "topic",
    }
}

request_header! {
    /// All topics, or one page of them when `topic_seq` is there.
    GET_ALL_TOPIC_CONFIG GetAllTopicConfig {
        /// First topic wanted.
        topic_seq: Option<i32> = "topicSeq",
        /// Version of the pages before, JSON.
        data_version: Option<String> = "dataVersion",
        /// Topics per page.
        max_topic_num: Option<i32> = "maxTopicNum",
    }
}

answer_header! {
    /// How many topics there are.
    AllTopicConfig {
        /// Their number.
        total_topic_num: Option<i32> = "totalTopicNum",
    }
}

request_header! {
    /// One topic's configuration.
    GET_TOPIC_CONFIG GetTopicConfig {
        /// Name of the topic.
        topic: String = "topic",
    }
}

request_header! {
    /// Bounds of a topic's queues.
    GET_TOPIC_STATS_INFO GetTopicStats {
        /// Name of the topic.
        topic: String = "topic",
    }
}

request_header! {
    /// Groups that consume a topic.
    QUERY_TOPIC_CONSUME_BY_WHO QueryTopicConsumeByWho {
        /// Name of the topic.
        topic: String = "topic",
    }
}
