//! Requests of administrators that are not about one topic or group.

use super::{answer_header, request_header};

answer_header! {
    /// Version of the broker's configuration, with its text as body.
    BrokerConfigAnswer {
        /// JSON of a [`crate::protocol::bodies::DataVersion`].
        version: String = "version",
    }
}

request_header! {
    /// One statistic.
    VIEW_BROKER_STATS_DATA ViewBrokerStats {
        /// Such as `TOPIC_PUT_NUMS`.
        stats_name: String = "statsName",
        /// What it is about.
        stats_key: String = "statsKey",
    }
}

request_header! {
    /// Progress of all groups.
    GET_BROKER_CONSUME_STATS GetBrokerConsumeStats {
        /// Only orderly ones.
        is_order: bool = "isOrder",
    }
}

request_header! {
    /// Ask about a half message again.
    RESUME_CHECK_HALF_MESSAGE ResumeCheckHalfMessage {
        /// Name of the topic.
        topic: Option<String> = "topic",
        /// Offset message id.
        msg_id: Option<String> = "msgId",
    }
}

request_header! {
    /// Hand leadership of a broker group to another member. Ours.
    TRANSFER_LEADER TransferLeader {
        /// Its name in the group; absent: whichever is nearest.
        to: Option<String> = "to",
    }
}

answer_header! {
    /// What came of it.
    TransferLeaderAnswer {
        /// Name of the broker group.
        group: String = "group",
        /// Who led.
        from: String = "from",
        /// Who leads now.
        leader: String = "leader",
        /// Its term.
        term: u64 = "term",
        /// How long clients had to wait, in microseconds.
        held_us: u64 = "heldUs",
    }
}
