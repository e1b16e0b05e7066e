//! POP: the broker decides which messages a consumer gets.

use super::{answer_header, request_header};

request_header! {
    /// Give me messages.
    POP_MESSAGE Pop {
        /// Name of the group.
        consumer_group: String = "consumerGroup",
        /// Name of the topic.
        topic: String = "topic",
        /// One queue, or −1 for all.
        queue_id: i32 = "queueId",
        /// At most so many, 32 at most.
        max_msg_nums: i32 = "maxMsgNums",
        /// How long nobody else gets them. Milliseconds.
        invisible_time: i64 = "invisibleTime",
        /// How long to wait for messages. Milliseconds.
        poll_time: i64 = "pollTime",
        /// When the request was made. Milliseconds.
        born_time: i64 = "bornTime",
        /// Where a new group starts: 0 at the first, 1 at the last message.
        init_mode: i32 = "initMode",
        /// `TAG` or `SQL92`.
        exp_type: Option<String> = "expType",
        /// The expression.
        exp: Option<String> = "exp",
        /// Whether messages of a queue are consumed one after the other.
        order: bool = "order" or false,
        /// Identifies a repeated attempt.
        attempt_id: Option<String> = "attemptId",
    }
}

answer_header! {
    /// Receipts of the messages in the body.
    PopAnswer {
        /// When they were given out. Milliseconds.
        pop_time: i64 = "popTime",
        /// As asked for.
        invisible_time: i64 = "invisibleTime",
        /// Queue of the revive log.
        revive_qid: i32 = "reviveQid",
        /// Messages that are left.
        rest_num: i64 = "restNum",
        /// `r q offset;…`
        start_offset_info: Option<String> = "startOffsetInfo",
        /// `r q offset,offset;…`
        msg_offset_info: Option<String> = "msgOffsetInfo",
        /// `r q count;…`
        order_count_info: Option<String> = "orderCountInfo",
    }
}

request_header! {
    /// A message is done.
    ACK_MESSAGE Ack {
        /// Name of the group.
        consumer_group: String = "consumerGroup",
        /// Name of the topic.
        topic: String = "topic",
        /// Queue of the topic.
        queue_id: i32 = "queueId",
        /// Receipt.
        extra_info: String = "extraInfo",
        /// Offset of the message.
        offset: i64 = "offset",
    }
}

request_header! {
    /// Keep a message invisible for longer or shorter.
    CHANGE_MESSAGE_INVISIBLETIME ChangeInvisibleTime {
        /// Name of the group.
        consumer_group: String = "consumerGroup",
        /// Name of the topic.
        topic: String = "topic",
        /// Queue of the topic.
        queue_id: i32 = "queueId",
        /// Receipt.
        extra_info: String = "extraInfo",
        /// Offset of the message.
        offset: i64 = "offset",
        /// Milliseconds from now.
        invisible_time: i64 = "invisibleTime",
    }
}

answer_header! {
    /// Parts of the new receipt.
    ChangeInvisibleTimeAnswer {
        /// As asked for.
        invisible_time: i64 = "invisibleTime",
        /// Now. Milliseconds.
        pop_time: i64 = "popTime",
        /// Queue of the revive log.
        revive_qid: i32 = "reviveQid",
    }
}

request_header! {
    /// Tell me when there is something to pop.
    NOTIFICATION Notification {
        /// Name of the group.
        consumer_group: String = "consumerGroup",
        /// Name of the topic.
        topic: String = "topic",
        /// One queue, or −1 for all.
        queue_id: i32 = "queueId",
        /// How long to wait. Milliseconds.
        poll_time: i64 = "pollTime",
        /// When the request was made. Milliseconds.
        born_time: i64 = "bornTime",
        /// Whether messages of a queue are consumed one after the other.
        order: bool = "order" or false,
        /// Identifies a repeated attempt.
        attempt_id: Option<String> = "attemptId",
        /// `TAG` or `SQL92`.
        exp_type: Option<String> = "expType",
        /// The expression.
        exp: Option<String> = "exp",
    }
}

answer_header! {
    /// Whether there is something.
    NotificationAnswer {
        /// Whether there is something.
        has_msg: bool = "hasMsg",
        /// Whether too many are waiting already.
        polling_full: bool = "pollingFull" or false,
    }
}

request_header! {
    /// Look at messages without taking them.
    PEEK_MESSAGE Peek {
        /// Name of the topic.
        topic: String = "topic",
        /// One queue, or −1 for all.
        queue_id: i32 = "queueId",
        /// At most so many.
        max_msg_nums: i32 = "maxMsgNums",
        /// Name of the group.
        consumer_group: String = "consumerGroup",
    }
}

request_header! {
    /// How many requests wait.
    POLLING_INFO PollingInfo {
        /// Name of the group.
        consumer_group: String = "consumerGroup",
        /// Name of the topic.
        topic: String = "topic",
        /// One queue, or −1 for all.
        queue_id: i32 = "queueId",
    }
}

answer_header! {
    /// How many requests wait.
    PollingInfoAnswer {
        /// Their number.
        polling_num: i32 = "pollingNum",
    }
}
