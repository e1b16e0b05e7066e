//! The few requests that the quickstart makes, and what it reads of their answers.

use std::time::Duration;

use bytes::Bytes;

use super::payload;
use crate::protocol::{
    codes::{RequestCode, ResponseCode},
    command::RemotingCommand,
    headers::{
        offset::GetMinOffset,
        pull::{self, PullRequest},
        route::GetRoute,
        send::SendRequest,
        topic::CreateTopic,
    },
    message::properties,
    perm,
};

/// The group as which the producer sends.
pub(super) const PRODUCER_GROUP: &str = "rmq_quickstart_producer";
/// The group as which the consumer pulls. It commits no offsets: each run reads from the start.
pub(super) const CONSUMER_GROUP: &str = "rmq_quickstart_consumer";

/// The topic after which brokers model new ones.
const TEMPLATE: &str = "TBW102";
/// Messages of one pull.
const PULL_MESSAGES_MAX: i32 = 64;

/// Where is `topic`?
pub(super) fn route(topic: &str) -> RemotingCommand {
    let header = GetRoute {
        topic: topic.to_owned(),
        accept_standard_json_only: Some(true),
        zone_name: None,
        zone_mode: None,
    };
    header.request()
}

/// Who is there?
pub(super) fn cluster() -> RemotingCommand {
    RemotingCommand::request(RequestCode::GET_BROKER_CLUSTER_INFO)
}

/// Creates `topic` with this many queues.
pub(super) fn create_topic(topic: &str, queues: u32) -> RemotingCommand {
    let header = CreateTopic {
        topic: topic.to_owned(),
        default_topic: TEMPLATE.to_owned(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        perm: perm::READ | perm::WRITE,
        topic_filter_type: "SINGLE_TAG".to_owned(),
        topic_sys_flag: Some(0),
        order: false,
        attributes: None,
        force: false,
    };
    header.request()
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

/// Stores one message.
pub(super) fn send(message: &Outgoing<'_>) -> RemotingCommand {
    let mut carried = properties::Builder::new();
    carried
        .push(properties::names::UNIQ_KEY, &payload::unique_key(message.run, message.seq))
        .push(properties::names::WAIT, "true");
    let carried = carried.build();
    let header = SendRequest {
        producer_group: PRODUCER_GROUP,
        topic: message.topic,
        default_topic: TEMPLATE,
        default_topic_queue_nums: 4,
        queue_id: wire_queue(message.queue),
        sys_flag: 0,
        born_timestamp: message.born_ms,
        flag: 0,
        properties: &String::from_utf8_lossy(&carried),
        reconsume_times: 0,
        unit_mode: false,
        max_reconsume_times: None,
        batch: false,
    };
    header.request(RequestCode::SEND_MESSAGE_V2).with_body(message.body.clone())
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
    GetMinOffset { topic: topic.to_owned(), queue_id: wire_queue(queue) }.request()
}

/// Messages of a queue from `offset` on; waits at the broker for the first one.
pub(super) fn pull(topic: &str, queue: u32, offset: u64, wait: Duration) -> RemotingCommand {
    let header = PullRequest {
        consumer_group: CONSUMER_GROUP,
        topic,
        queue_id: wire_queue(queue),
        queue_offset: i64::try_from(offset).unwrap_or(i64::MAX),
        max_msg_nums: PULL_MESSAGES_MAX,
        sys_flag: pull::flag::SUSPEND | pull::flag::SUBSCRIPTION,
        commit_offset: 0,
        suspend_timeout_millis: i64::try_from(wait.as_millis()).unwrap_or(i64::MAX),
        subscription: Some("*"),
        sub_version: 0,
        expression_type: Some("TAG"),
        max_msg_bytes: None,
    };
    header.request(RequestCode::PULL_MESSAGE)
}

/// Queue ids are small; one that is not exists nowhere.
fn wire_queue(queue: u32) -> i32 {
    i32::try_from(queue).unwrap_or(i32::MAX)
}
