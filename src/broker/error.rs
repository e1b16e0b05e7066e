//! Why a request is refused, and what its client is told: the only place that knows both.
//!
//! Clients decide by the code whether to try again, and where. A Java producer tries another
//! broker of the topic after 1, 2, 14, 16 and 17, and gives up after 13, 26 and 29. Code 1 is kept
//! for what may have happened all the same: nothing that was certainly not stored is answered
//! with it unless the request itself cannot be understood, as in Java.

use std::time::Duration;

use crate::ids::PhysicalOffset;
use crate::net::CallError;
use crate::protocol::codes::ResponseCode;
use crate::protocol::command::RemotingCommand;
use crate::protocol::ext_fields::FieldError;
use crate::raft::{MemberError, ProposeError, TransferError};
use crate::store;

use super::members::Refused;
use super::subscription::ExpressionError;
use super::topics::BY_USE_MAX;

const FAQ: &str = "See https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details.";

/// A refused request. The text is the remark that the client sees.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No handler for this code, or not on this port.
    #[error(" request type {code} not supported")]
    Unsupported {
        /// The request's code.
        code: i32,
    },
    /// A header field is missing or malformed.
    #[error("{0}")]
    Field(#[from] FieldError),
    /// The body is not what the request needs.
    #[error("the body of the request cannot be read as {what}: {why}")]
    Body {
        /// What it should be.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A value is out of its range, or a name is illegal.
    #[error("{0}")]
    Parameter(String),
    /// The message cannot be stored as it is.
    #[error("{0}")]
    MessageIllegal(String),
    /// What was asked is forbidden here.
    #[error("{0}")]
    Forbidden(String),
    /// A pull that is forbidden.
    #[error("{why}")]
    PullForbidden {
        /// What forbids it, as Java numbers it: 1 broker, 2 group, 3 topic, 4 broadcasting,
        /// 5 group and topic.
        kind: i32,
        /// The remark.
        why: String,
    },
    /// A send to a topic that is not there and may not be created.
    #[error("topic[{topic}] not exist, apply first please!\n{FAQ}")]
    TopicToSendUnknown {
        /// The topic.
        topic: String,
    },
    /// A send to a topic that is not there, which would be one too many.
    #[error(
        "topic[{topic}] not exist, apply first please!\nThere are {BY_USE_MAX} topics or more, and \
         no more come by use: an operator may create it, or delete others"
    )]
    TopicsFull {
        /// The topic.
        topic: String,
    },
    /// A pull from a topic that is not there.
    #[error("topic[{topic}] not exist, apply first please! \n{FAQ}")]
    TopicToPullUnknown {
        /// The topic.
        topic: String,
    },
    /// Another request about a topic that is not there.
    #[error("Topic {topic} not exist!")]
    TopicUnknown {
        /// The topic.
        topic: String,
    },
    /// A pull for a group that is not there and may not be created.
    #[error("subscription group [{group}] does not exist, \n{FAQ}")]
    GroupToPullUnknown {
        /// The group.
        group: String,
    },
    /// A message given back by a group that is not there and may not be created.
    #[error("subscription group not exist, {group} \n{FAQ}")]
    GroupToRetryUnknown {
        /// The group.
        group: String,
    },
    /// Another request about a group that is not there.
    #[error("Group {group} not exist!")]
    GroupUnknown {
        /// The group.
        group: String,
    },
    /// The subscription expression has no meaning.
    #[error("{0}")]
    SubscriptionMalformed(#[from] ExpressionError),
    /// A pull without subscription from a group that sent no heartbeat.
    #[error("the consumer's group info not exist\n{FAQ}")]
    GroupNotConnected,
    /// A pull without subscription from a topic that the group's heartbeats do not name.
    #[error("the consumer's subscription not exist\n{FAQ}")]
    NotSubscribed,
    /// The client's subscription is newer than its last heartbeat.
    #[error("the consumer's subscription not latest")]
    SubscriptionOld,
    /// A filter other than tags.
    #[error("The broker does not support consumer to filter message by {kind}")]
    FilterUnsupported {
        /// The expression type.
        kind: String,
    },
    /// No stored offset; the client chooses where to start.
    #[error("{0}")]
    OffsetUnknown(&'static str),
    /// A query found no message.
    #[error("can not find message, maybe time range not correct")]
    NoMessageByKey,
    /// There is no message at this physical offset.
    #[error("can not find message by the offset, {offset}")]
    NoMessageAt {
        /// As asked.
        offset: i64,
    },
    /// The message is damaged on this member's disk, and could not be repaired.
    #[error("the message at position {position} is damaged on member {member}: {why}")]
    MessageDamaged {
        /// Where it starts in the log.
        position: PhysicalOffset,
        /// This member.
        member: String,
        /// Why it is not repaired.
        why: String,
    },
    /// A group without members, asked for its members' ids.
    #[error("no consumer for this group, {group}")]
    NoConsumers {
        /// The group.
        group: String,
    },
    /// A group without members, asked for its connections.
    #[error("the consumer group[{group}] not online")]
    ConsumersOffline {
        /// The group.
        group: String,
    },
    /// A producer group without members.
    #[error("the producer group[{group}] not exist")]
    NoProducers {
        /// The group.
        group: String,
    },
    /// Nothing was counted under this name and key yet.
    #[error("The stats <{name}> <{key}> not exist")]
    NoStats {
        /// Name of the statistics.
        name: String,
        /// Key within them.
        key: String,
    },
    /// What a heartbeat brought is not registered.
    #[error("{0}; what was registered before stays")]
    Unregistered(#[from] Refused),
    /// The client to which the request was to be passed on is not connected here.
    #[error("The Consumer <{group}> <{client}> not online")]
    ClientOffline {
        /// Its group.
        group: String,
        /// Its id.
        client: String,
    },
    /// The client to which the request was passed on did not answer.
    #[error("consumer <{group}> <{client}>: {error}")]
    ClientSilent {
        /// Its group.
        group: String,
        /// Its id.
        client: String,
        /// What happened.
        error: CallError,
    },
    /// What the request builds on changes at this moment.
    #[error("service not available now: {0}")]
    Unsettled(String),
    /// No more requests can wait here.
    #[error("{held} requests wait for messages already, and no more can; try again later")]
    HeldFull {
        /// How many do.
        held: usize,
    },
    /// Pulls are answered more slowly than they come.
    #[error("too many pulls wait for their turn; try again later")]
    PullsDueFull,
    /// No more requests can wait for the disk.
    #[error("too many requests wait for the disk; try again later")]
    ReadersBusy,
    /// The change was not made, or may have been made: see [`ProposeError`].
    #[error("{}", propose_remark(.0))]
    Propose(#[from] ProposeError),
    /// Leadership was not handed over.
    #[error("{0}")]
    Transfer(#[from] TransferError),
    /// Members were not changed.
    #[error("{0}")]
    Member(#[from] MemberError),
    /// The derived data cannot be read.
    #[error("the consume queues cannot be read: {0}")]
    Queues(#[from] store::queues::Error),
    /// Something that should not happen did.
    #[error("{0}")]
    Internal(String),
}

fn propose_remark(error: &ProposeError) -> String {
    match error {
        ProposeError::NotLeader { leader: Some(leader) } => format!(
            "service not available now: this broker does not lead its group, and could not pass \
             the request on to {leader}, which does; nothing was done, try again"
        ),
        ProposeError::NotLeader { leader: None } => {
            "service not available now: this broker's group has no leader at the moment; nothing \
             was done, try again"
                .to_owned()
        }
        ProposeError::NoLeader { .. } => format!(
            "service not available now: {error}; nothing was done, try again, or see rmq-admin \
             doctor"
        ),
        ProposeError::Busy { bytes, limit } => format!(
            "broker busy, start flow control for a while: {bytes} bytes more would exceed the \
             {limit} bytes that may wait for a quorum; nothing was stored, try again"
        ),
        ProposeError::TooLarge { .. } => format!("the message is illegal: {error}"),
        ProposeError::OutcomeUnknown | ProposeError::NoQuorum { .. } => {
            format!("in-sync replicas not enough: {error}; trying again may store it twice")
        }
        ProposeError::StoreFailed { .. } | ProposeError::DiskFull { .. } => {
            format!("service not available now: {error}; nothing was stored")
        }
        ProposeError::OutOfTouch { .. } => format!(
            "service not available now: {error}: no other member answers; nothing was done, try \
             another broker, and look at its network"
        ),
        ProposeError::Removed => {
            "service not available now: this broker was removed from its group, and serves nothing \
             any more; nothing was done, try another broker"
                .to_owned()
        }
        ProposeError::Stopping => {
            "service not available now: this broker is shutting down; nothing was stored, try \
             another broker"
                .to_owned()
        }
    }
}

impl RequestError {
    /// The answer's code.
    pub fn code(&self) -> ResponseCode {
        match self {
            Self::Unsupported { .. } => ResponseCode::REQUEST_CODE_NOT_SUPPORTED,
            Self::Field(_)
            | Self::Body { .. }
            | Self::FilterUnsupported { .. }
            | Self::NoMessageAt { .. }
            | Self::NoConsumers { .. }
            | Self::NoProducers { .. }
            | Self::NoStats { .. }
            | Self::ClientOffline { .. }
            | Self::Queues(_)
            | Self::MessageDamaged { .. }
            | Self::Internal(_) => ResponseCode::SYSTEM_ERROR,
            Self::Parameter(_) | Self::Unregistered(Refused::TooManyGroups) => {
                ResponseCode::INVALID_PARAMETER
            }
            Self::MessageIllegal(_) => ResponseCode::MESSAGE_ILLEGAL,
            Self::Forbidden(_) | Self::PullForbidden { .. } => ResponseCode::NO_PERMISSION,
            Self::TopicToSendUnknown { .. }
            | Self::TopicsFull { .. }
            | Self::TopicToPullUnknown { .. }
            | Self::TopicUnknown { .. } => ResponseCode::TOPIC_NOT_EXIST,
            Self::GroupToPullUnknown { .. }
            | Self::GroupToRetryUnknown { .. }
            | Self::GroupUnknown { .. } => ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
            Self::SubscriptionMalformed(_) => ResponseCode::SUBSCRIPTION_PARSE_FAILED,
            Self::GroupNotConnected | Self::NotSubscribed => ResponseCode::SUBSCRIPTION_NOT_EXIST,
            Self::SubscriptionOld => ResponseCode::SUBSCRIPTION_NOT_LATEST,
            Self::OffsetUnknown(_) | Self::NoMessageByKey => ResponseCode::QUERY_NOT_FOUND,
            Self::ConsumersOffline { .. } => ResponseCode::CONSUMER_NOT_ONLINE,
            Self::ClientSilent { .. } => ResponseCode::CONSUME_MSG_TIMEOUT,
            Self::Unsettled(_) => ResponseCode::SERVICE_NOT_AVAILABLE,
            Self::HeldFull { .. }
            | Self::PullsDueFull
            | Self::ReadersBusy
            | Self::Unregistered(Refused::Full(_)) => ResponseCode::SYSTEM_BUSY,
            Self::Propose(error) => propose_code(error),
            Self::Transfer(error) => transfer_code(error),
            Self::Member(error) => member_code(error),
        }
    }

    /// The answer. Its opaque is set by whoever sends it.
    pub fn answer(&self) -> RemotingCommand {
        let answer = RemotingCommand::error(self.code(), self.to_string());
        match self {
            Self::PullForbidden { kind, .. } => answer.with_field("forbiddenType", kind),
            _ => answer,
        }
    }
}

fn propose_code(error: &ProposeError) -> ResponseCode {
    match error {
        ProposeError::NotLeader { .. }
        | ProposeError::NoLeader { .. }
        | ProposeError::StoreFailed { .. }
        | ProposeError::DiskFull { .. }
        | ProposeError::OutOfTouch { .. }
        | ProposeError::Removed
        | ProposeError::Stopping => ResponseCode::SERVICE_NOT_AVAILABLE,
        ProposeError::Busy { .. } => ResponseCode::SYSTEM_BUSY,
        ProposeError::TooLarge { .. } => ResponseCode::MESSAGE_ILLEGAL,
        // It may be stored all the same. Producers try again after this code, too, and then it may
        // be stored twice; consumers have to expect that of RocketMQ anyway.
        ProposeError::OutcomeUnknown | ProposeError::NoQuorum { .. } => ResponseCode::SYSTEM_ERROR,
    }
}

fn transfer_code(error: &TransferError) -> ResponseCode {
    match error {
        TransferError::NotLeader { .. } | TransferError::Stopping => {
            ResponseCode::SERVICE_NOT_AVAILABLE
        }
        TransferError::Unknown { .. } => ResponseCode::INVALID_PARAMETER,
        TransferError::Leads { .. }
        | TransferError::Learner { .. }
        | TransferError::Unfit { .. }
        | TransferError::Nobody { .. }
        | TransferError::Unfinished { .. }
        | TransferError::Busy => ResponseCode::ILLEGAL_OPERATION,
        // Somebody else leads, or will.
        TransferError::NotTaken { .. } => ResponseCode::SYSTEM_ERROR,
    }
}

fn member_code(error: &MemberError) -> ResponseCode {
    match error {
        MemberError::NotLeader { .. } | MemberError::Interrupted => {
            ResponseCode::SERVICE_NOT_AVAILABLE
        }
        MemberError::Unknown { .. }
        | MemberError::Known { .. }
        | MemberError::AddressTaken { .. }
        | MemberError::Elsewhere { .. }
        | MemberError::ItselfInPlace { .. } => ResponseCode::INVALID_PARAMETER,
        MemberError::UnderWay { .. }
        | MemberError::Silent { .. }
        | MemberError::Alien { .. }
        | MemberError::NoMajority { .. }
        | MemberError::LastVoter { .. }
        | MemberError::Voteless { .. }
        | MemberError::Unreachable { .. }
        | MemberError::Outdated { .. }
        | MemberError::Busy => ResponseCode::ILLEGAL_OPERATION,
        // It may be recorded.
        MemberError::NotRecorded { .. } => ResponseCode::SYSTEM_ERROR,
    }
}

/// How long requests that this broker passes on to a client may take.
pub const RELAY_WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_surely_not_stored_is_told_apart_from_what_may_have_been() {
        let full = || "disk".to_owned();
        let surely_not = [
            (ProposeError::NotLeader { leader: Some("n1".to_owned()) }, 14),
            (ProposeError::NoLeader { why: full() }, 14),
            (ProposeError::Busy { bytes: 5, limit: 4 }, 2),
            (ProposeError::TooLarge { bytes: 5, limit: 4 }, 13),
            (ProposeError::StoreFailed { why: full() }, 14),
            (ProposeError::DiskFull { why: full() }, 14),
            (ProposeError::OutOfTouch { since: Duration::from_secs(2) }, 14),
            (ProposeError::Removed, 14),
            (ProposeError::Stopping, 14),
        ];
        for (error, code) in surely_not {
            let error = RequestError::from(error);
            assert_eq!(error.code().0, code, "{error}");
            assert!(!error.to_string().contains("may still be"), "{error}");
        }
        for error in [
            ProposeError::OutcomeUnknown,
            ProposeError::NoQuorum { waited: Duration::from_secs(2) },
        ] {
            let error = RequestError::from(error);
            assert_eq!(error.code().0, 1, "{error}");
            assert!(error.to_string().contains("may still be committed"), "{error}");
        }
    }

    #[test]
    fn remarks_are_those_that_clients_and_tools_know() {
        let t = || "T".to_owned();
        let rows = [
            (RequestError::Unsupported { code: 9999 }, 3, " request type 9999 not supported"),
            (
                RequestError::TopicToSendUnknown { topic: t() },
                17,
                "topic[T] not exist, apply first please!\nSee https://rocketmq.apache.org/docs/\
                 bestPractice/06FAQ for further details.",
            ),
            (RequestError::GroupUnknown { group: t() }, 26, "Group T not exist!"),
            (RequestError::TopicUnknown { topic: t() }, 17, "Topic T not exist!"),
            (RequestError::NoConsumers { group: t() }, 1, "no consumer for this group, T"),
            (
                RequestError::ConsumersOffline { group: t() },
                206,
                "the consumer group[T] not online",
            ),
            (RequestError::NoProducers { group: t() }, 1, "the producer group[T] not exist"),
            (RequestError::SubscriptionOld, 25, "the consumer's subscription not latest"),
            (RequestError::NoMessageAt { offset: 9 }, 1, "can not find message by the offset, 9"),
        ];
        for (error, code, remark) in rows {
            assert_eq!((error.code().0, error.to_string().as_str()), (code, remark));
        }
    }

    #[test]
    fn a_write_that_reaches_no_leader_says_why() {
        let remark = |leader: Option<&str>| {
            let leader = leader.map(str::to_owned);
            RequestError::from(ProposeError::NotLeader { leader }).to_string()
        };
        assert!(remark(Some("n2")).contains("on to n2"), "{}", remark(Some("n2")));
        assert!(remark(None).contains("no leader at the moment"), "{}", remark(None));
        let missing = "a majority is missing: n1 at h:1 (does not answer)".to_owned();
        assert_eq!(
            RequestError::from(ProposeError::NoLeader { why: missing }).to_string(),
            "service not available now: this broker's group has no leader at the moment: a majority \
             is missing: n1 at h:1 (does not answer); nothing was done, try again, or see rmq-admin \
             doctor"
        );
    }
}
