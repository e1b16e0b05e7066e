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

request_header! {
    /// Take a member into a broker group. Ours, like the next three.
    ADD_MEMBER AddMember {
        /// Its name in the group.
        name: String = "name",
        /// `host:port` for its peers.
        address: String = "address",
        /// Whether it gets the log and never a vote.
        learner: bool = "learner",
        /// Whether to say only what would happen.
        dry_run: bool = "dryRun",
    }
}

request_header! {
    /// Remove a member from a broker group, or take back that it is added.
    REMOVE_MEMBER RemoveMember {
        /// Its name in the group.
        name: String = "name",
        /// Whether to say only what would happen.
        dry_run: bool = "dryRun",
    }
}

request_header! {
    /// Have a new member vote in place of another one.
    REPLACE_MEMBER ReplaceMember {
        /// Who leaves.
        old: String = "old",
        /// Who comes.
        new: String = "new",
        /// `host:port` for its peers.
        address: String = "address",
        /// Whether to say only what would happen.
        dry_run: bool = "dryRun",
    }
}

request_header! {
    /// Give a member a vote or take it, or take back that it leaves.
    ASSIGN_MEMBER AssignMember {
        /// Its name in the group.
        name: String = "name",
        /// Whether it has no vote.
        learner: bool = "learner",
        /// Whether to say only what would happen.
        dry_run: bool = "dryRun",
    }
}
