//! Requests of and to clients about themselves: membership, retries, relays.

use super::{answer_header, request_header};

answer_header! {
    /// Answer of HEART_BEAT.
    HeartbeatAnswer {
        /// The broker understands heartbeats that leave unchanged subscriptions out.
        supports_v2: bool = "IS_SUPPORT_HEART_BEAT_V2" or false,
        /// The subscriptions differ from what the broker had: send them in full.
        subscriptions_changed: bool = "IS_SUB_CHANGE" or false,
    }
}

request_header! {
    /// A client leaves.
    UNREGISTER_CLIENT UnregisterClient {
        /// The client.
        client_id: String = "clientID",
        /// Producer group it leaves.
        producer_group: Option<String> = "producerGroup",
        /// Consumer group it leaves.
        consumer_group: Option<String> = "consumerGroup",
    }
}

request_header! {
    /// Members of a consumer group, asked by a member.
    GET_CONSUMER_LIST_BY_GROUP GetConsumerList {
        /// Name of the group.
        consumer_group: String = "consumerGroup",
    }
}

request_header! {
    /// To members: somebody came or went.
    NOTIFY_CONSUMER_IDS_CHANGED NotifyConsumerIdsChanged {
        /// Name of the group.
        consumer_group: String = "consumerGroup",
    }
}

request_header! {
    /// A consumer gives a message back.
    CONSUMER_SEND_MSG_BACK SendBack {
        /// Physical offset of the message.
        offset: i64 = "offset",
        /// The consumer's group.
        group: String = "group",
        /// 0: the broker decides, negative: dead letter at once.
        delay_level: i32 = "delayLevel",
        /// Unique id of the message.
        origin_msg_id: Option<String> = "originMsgId",
        /// Topic it was consumed from.
        origin_topic: Option<String> = "originTopic",
        /// Whether the group belongs to a unit.
        unit_mode: bool = "unitMode" or false,
        /// Retries before it becomes a dead letter.
        max_reconsume_times: Option<i32> = "maxReconsumeTimes",
    }
}

request_header! {
    /// State of a client; relayed to it.
    GET_CONSUMER_RUNNING_INFO GetConsumerRunningInfo {
        /// Its group.
        consumer_group: String = "consumerGroup",
        /// The client.
        client_id: String = "clientId",
        /// Whether its stacks are wanted.
        jstack_enable: bool = "jstackEnable" or false,
    }
}

request_header! {
    /// Consume one message now; relayed to a client with the record as body.
    CONSUME_MESSAGE_DIRECTLY ConsumeMessageDirectly {
        /// Its group.
        consumer_group: String = "consumerGroup",
        /// The client.
        client_id: Option<String> = "clientId",
        /// Offset message id.
        msg_id: Option<String> = "msgId",
        /// Broker group that has it.
        broker_name: Option<String> = "brokerName",
        /// Topic.
        topic: Option<String> = "topic",
        /// Bits of the topic.
        topic_sys_flag: Option<i32> = "topicSysFlag",
        /// Bits of the group.
        group_sys_flag: Option<i32> = "groupSysFlag",
    }
}

request_header! {
    /// To the requester: a reply.
    PUSH_REPLY_MESSAGE_TO_CLIENT PushReply {
        /// Group of the replier.
        producer_group: String = "producerGroup",
        /// Topic of the reply.
        topic: String = "topic",
        /// As it was sent.
        default_topic: String = "defaultTopic",
        /// As it was sent.
        default_topic_queue_nums: i32 = "defaultTopicQueueNums",
        /// As it was sent.
        queue_id: i32 = "queueId",
        /// As it was sent.
        sys_flag: i32 = "sysFlag",
        /// As it was sent.
        born_timestamp: i64 = "bornTimestamp",
        /// As it was sent.
        flag: i32 = "flag",
        /// Property string.
        properties: Option<String> = "properties",
        /// As it was sent.
        reconsume_times: Option<i32> = "reconsumeTimes",
        /// As it was sent.
        unit_mode: bool = "unitMode" or false,
        /// `ip:port` of the replier.
        born_host: String = "bornHost",
        /// `ip:port` of the broker.
        store_host: String = "storeHost",
        /// Milliseconds.
        store_timestamp: i64 = "storeTimestamp",
    }
}
