//! Requests about consumer groups and their members, to brokers.

use super::{answer_header, request_header};

request_header! {
    /// Delete a group.
    DELETE_SUBSCRIPTIONGROUP DeleteGroup {
        /// Name of the group.
        group_name: String = "groupName",
        /// Whether its offsets go, too.
        clean_offset: bool = "cleanOffset" or false,
    }
}

request_header! {
    /// All groups, or one page of them when `group_seq` is there.
    GET_ALL_SUBSCRIPTIONGROUP_CONFIG GetAllGroups {
        /// First group wanted.
        group_seq: Option<i32> = "groupSeq",
        /// Version of the pages before, JSON.
        data_version: Option<String> = "dataVersion",
        /// Groups per page.
        max_group_num: Option<i32> = "maxGroupNum",
    }
}

answer_header! {
    /// How many groups there are.
    AllGroups {
        /// Their number.
        total_group_num: Option<i32> = "totalGroupNum",
    }
}

request_header! {
    /// One group's configuration.
    GET_SUBSCRIPTIONGROUP_CONFIG GetGroup {
        /// Name of the group.
        group: String = "group",
    }
}

request_header! {
    /// Progress of a group.
    GET_CONSUME_STATS GetConsumeStats {
        /// Name of the group.
        consumer_group: String = "consumerGroup",
        /// Only in this topic.
        topic: Option<String> = "topic",
        /// Only in these topics, separated by `;`.
        topic_list: Option<String> = "topicList",
    }
}

request_header! {
    /// Members of a consumer group.
    GET_CONSUMER_CONNECTION_LIST GetConsumerConnections {
        /// Name of the group.
        consumer_group: String = "consumerGroup",
    }
}

request_header! {
    /// Members of a producer group.
    GET_PRODUCER_CONNECTION_LIST GetProducerConnections {
        /// Name of the group.
        producer_group: String = "producerGroup",
    }
}

request_header! {
    /// Topics that a group consumes.
    QUERY_TOPICS_BY_CONSUMER QueryTopicsByConsumer {
        /// Name of the group.
        group: String = "group",
    }
}

request_header! {
    /// What a group wants of a topic.
    QUERY_SUBSCRIPTION_BY_CONSUMER QuerySubscription {
        /// Name of the group.
        group: String = "group",
        /// Name of the topic.
        topic: Option<String> = "topic",
    }
}

request_header! {
    /// Forbid or allow a group to read a topic, and ask whether it may.
    UPDATE_AND_GET_GROUP_FORBIDDEN UpdateGroupForbidden {
        /// Name of the group.
        group: String = "group",
        /// Name of the topic.
        topic: String = "topic",
        /// The change; none when only asking.
        readable: Option<bool> = "readable",
    }
}

request_header! {
    /// Copy the offsets of one group to another.
    CLONE_GROUP_OFFSET CloneGroupOffset {
        /// From.
        src_group: String = "srcGroup",
        /// To.
        dest_group: String = "destGroup",
        /// Only in this topic.
        topic: Option<String> = "topic",
        /// Whether the target may have members.
        offline: bool = "offline" or false,
    }
}
