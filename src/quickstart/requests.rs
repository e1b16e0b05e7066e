//! The few requests that the quickstart makes, and what it reads of their answers.

use bytes::Bytes;

use super::payload;
use crate::protocol::{
    codes::{RequestCode, ResponseCode},
    command::RemotingCommand,
    message::properties,
};

/// The group as which the producer sends.
pub(super) const PRODUCER_GROUP: &str = "rmq_quickstart_producer";
/// The group as which the consumer pulls. It commits no offsets: each run reads from the start.
pub(super) const CONSUMER_GROUP: &str = "rmq_quickstart_consumer";

/// Messages of one pull.
const PULL_MESSAGES_MAX: u32 = 64;
/// Pull flags: the request may wait at the broker, and carries its subscription.
const SUSPEND_AND_SUBSCRIPTION: i32 = 0b110;

/// Where is `topic`?
pub(super) fn route(topic: &str) -> RemotingCommand {
    RemotingCommand::request(RequestCode::GET_ROUTEINFO_BY_TOPIC)
        .with_field("topic", topic)
        .with_field("acceptStandardJsonOnly", true)
}

/// Who is there?
pub(super) fn cluster() -> RemotingCommand {
    RemotingCommand::request(RequestCode::GET_BROKER_CLUSTER_INFO)
}

/// Creates `topic` with this many queues.
pub(super) fn create_topic(topic: &str, queues: u32) -> RemotingCommand {
    RemotingCommand::request(RequestCode::UPDATE_AND_CREATE_TOPIC)
        .with_field("topic", topic)
        .with_field("defaultTopic", "TBW102")
        .with_field("readQueueNums", queues)
        .with_field("writeQueueNums", queues)
        .with_field("perm", 6)
        .with_field("topicFilterType", "SINGLE_TAG")
        .with_field("topicSysFlag", 0)
        .with_field("order", false)
}

/// A message on its way to one queue.
pub(super) struct Outgoing<'a> {
    pub(super) topic: &'a str,
    pub(super) queue: u32,
    pub(super) run: u64,
    pub(super) seq: u64,
    pub(super) body: Bytes,
    pub(super) born_ms: i64,
}

/// Stores one message; the short field names are those of version 2 of the request.
pub(super) fn send(message: &Outgoing<'_>) -> RemotingCommand {
    let mut carried = properties::Builder::new();
    carried
        .push(properties::names::UNIQ_KEY, &payload::unique_key(message.run, message.seq))
        .push(properties::names::WAIT, "true");
    let carried = carried.build();
    RemotingCommand::request(RequestCode::SEND_MESSAGE_V2)
        .with_field("a", PRODUCER_GROUP)
        .with_field("b", message.topic)
        .with_field("c", "TBW102")
        .with_field("d", 4)
        .with_field("e", message.queue)
        .with_field("f", 0)
        .with_field("g", message.born_ms)
        .with_field("h", 0)
        .with_field("i", String::from_utf8_lossy(&carried))
        .with_field("j", 0)
        .with_field("k", false)
        .with_field("m", false)
        .with_body(message.body.clone())
}

/// Whether a send that was refused like this may succeed elsewhere or later. The list is that of
/// the Java client (`retryResponseCodes`).
pub(super) fn is_worth_repeating(code: ResponseCode) -> bool {
    [
        ResponseCode::TOPIC_NOT_EXIST,
        ResponseCode::SERVICE_NOT_AVAILABLE,
        ResponseCode::SYSTEM_ERROR,
        ResponseCode::SYSTEM_BUSY,
        ResponseCode::NO_PERMISSION,
        ResponseCode::NO_BUYER_ID,
        ResponseCode::NOT_IN_CURRENT_UNIT,
    ]
    .contains(&code)
}

/// The first offset that a queue still has.
pub(super) fn min_offset(topic: &str, queue: u32) -> RemotingCommand {
    RemotingCommand::request(RequestCode::GET_MIN_OFFSET)
        .with_field("topic", topic)
        .with_field("queueId", queue)
}

/// Messages of a queue from `offset` on; waits at the broker for the first one.
pub(super) fn pull(topic: &str, queue: u32, offset: u64, wait_ms: u64) -> RemotingCommand {
    RemotingCommand::request(RequestCode::PULL_MESSAGE)
        .with_field("consumerGroup", CONSUMER_GROUP)
        .with_field("topic", topic)
        .with_field("queueId", queue)
        .with_field("queueOffset", offset)
        .with_field("maxMsgNums", PULL_MESSAGES_MAX)
        .with_field("sysFlag", SUSPEND_AND_SUBSCRIPTION)
        .with_field("commitOffset", 0)
        .with_field("suspendTimeoutMillis", wait_ms)
        .with_field("subscription", "*")
        .with_field("subVersion", 0)
        .with_field("expressionType", "TAG")
}
