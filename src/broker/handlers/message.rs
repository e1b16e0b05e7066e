//! Looking messages up: by key (12), by physical offset (33); units of a ConsumeQueue (321).

use crate::ids::{PhysicalOffset, QueueOffset};
use crate::net;
use crate::protocol::bodies::{self, ConsumeQueueBody, ConsumeQueueUnit};
use crate::protocol::codes::ResponseCode;
use crate::protocol::command::RemotingCommand;
use crate::protocol::headers::query::{
    QueryConsumeQueue, QueryMessage, QueryMessageAnswer, ViewMessage,
};
use crate::store::MappedBytes;
use crate::store::query::{self, KeyQuery};

use crate::broker::Broker;
use crate::broker::dispatch::{Answer, Request};
use crate::broker::error::RequestError;
use crate::broker::subscription::TagFilter;

use super::offset::{as_i64, queue_id};

/// Most messages of one answer, whatever the client asks for.
const MESSAGES_MAX: usize = 256;
/// Most bytes of one answer beyond its first message.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most units of one answer.
const UNITS_MAX: usize = 4096;

/// QUERY_MESSAGE: by one of the message's keys or by its unique key.
pub(in crate::broker) fn by_key(broker: &Broker, request: &Request) -> Answer {
    let header = QueryMessage::parse(&request.command)?;
    if header.index_type.as_deref() == Some("T") {
        return Err(RequestError::NoMessageByKey); // tags are not indexed, and a tag is no key
    }
    if broker.leaves_to_leader(&request.command) {
        return Err(RequestError::NoMessageByKey); // or tools show it twice
    }
    let query = KeyQuery {
        topic: &header.topic,
        key: &header.key,
        stored_ms: header.begin_timestamp..=header.end_timestamp,
        max: messages_max(broker, &header),
    };
    let queues = broker.group.queues();
    let (mut records, mut bytes) = (Vec::new(), 0);
    for at in query::by_key(queues, &query)? {
        let found = record_at(broker, at, |stored| query.is_met_by(stored))?;
        bytes += found.as_ref().map_or(0, |stored| stored.len());
        if bytes > ANSWER_BYTES_MAX && !records.is_empty() {
            break;
        }
        records.extend(found.map(MappedBytes::into_bytes));
    }
    if records.is_empty() {
        return Err(RequestError::NoMessageByKey);
    }
    let head = QueryMessageAnswer {
        index_last_update_phyoffset: as_i64(queues.applied_to().0),
        index_last_update_timestamp: crate::clock::wall_ms(),
    };
    Ok(net::Answer::Records { head: head.answer(), records })
}

fn messages_max(broker: &Broker, header: &QueryMessage) -> usize {
    let asked = if header.unique_key_query {
        usize::try_from(broker.settings.policy(&broker.tables()).query_messages_max)
            .unwrap_or(MESSAGES_MAX)
    } else {
        usize::try_from(header.max_num).unwrap_or(0)
    };
    asked.min(MESSAGES_MAX)
}

/// VIEW_MESSAGE_BY_ID: the record that starts at a physical offset.
pub(in crate::broker) fn by_id(broker: &Broker, request: &Request) -> Answer {
    let offset = ViewMessage::parse(&request.command)?.offset;
    let nothing = RequestError::NoMessageAt { offset };
    let Ok(at) = u64::try_from(offset).map(PhysicalOffset) else { return Err(nothing) };
    let record = at_position(broker, at)?.ok_or(nothing)?;
    let head = RemotingCommand::response(ResponseCode::SUCCESS);
    Ok(net::Answer::Records { head, records: vec![record.into_bytes()] })
}

/// The record at a position that a client names.
pub(super) fn at_position(
    broker: &Broker,
    position: PhysicalOffset,
) -> Result<Option<MappedBytes>, RequestError> {
    record_at(broker, position, |_| true)
}

/// The record at a position, if it is the one that is looked for. An error if it may only seem not
/// to be, because its entry is damaged.
fn record_at(
    broker: &Broker,
    position: PhysicalOffset,
    is_it: impl Fn(&[u8]) -> bool,
) -> Result<Option<MappedBytes>, RequestError> {
    let (queues, log) = (broker.group.queues(), broker.group.log());
    let found = query::at_position(log, queues.applied_to(), position);
    let found = found.filter(|stored| is_it(stored));
    if found.is_none() {
        let whole = log.check_at(position);
        whole.map_err(|error| broker.damaged(position, error.to_string()))?;
    }
    Ok(found)
}

/// QUERY_CONSUME_QUEUE.
pub(in crate::broker) fn consume_queue(broker: &Broker, request: &Request) -> Answer {
    let header = QueryConsumeQueue::parse(&request.command)?;
    let topic = header.topic.unwrap_or_default();
    if broker.tables().topic(&topic).is_none() {
        return Err(RequestError::TopicUnknown { topic });
    }
    let queue_id = queue_id(header.queue_id)?;
    let queues = broker.group.queues();
    let bounds = queues.bounds(&topic, queue_id)?;
    let subscription = header.consumer_group.and_then(|group| {
        let consumers = broker.consumers.read();
        consumers.wants(&group)?.topics.get(&topic).cloned()
    });
    let from = u64::try_from(header.index).unwrap_or(0).max(bounds.min.0);
    let count = usize::try_from(header.count).unwrap_or(0).min(UNITS_MAX);
    let mut units = Vec::new();
    queues.units(&topic, queue_id, QueueOffset(from), count, &mut units)?;
    let filter = subscription.as_ref().map(|subscription| &subscription.filter);
    let queue_data = units
        .iter()
        .map(|unit| ConsumeQueueUnit {
            eval: filter.is_some_and(|filter: &TagFilter| filter.passes(unit.tags_code)),
            physic_offset: as_i64(unit.physical.0),
            physic_size: i32::try_from(unit.bytes).unwrap_or(i32::MAX),
            tags_code: unit.tags_code,
            ..ConsumeQueueUnit::default()
        })
        .collect();
    let body = bodies::encode(&ConsumeQueueBody {
        filter_data: None,
        max_queue_index: as_i64(bounds.next.0),
        min_queue_index: as_i64(bounds.min.0),
        queue_data: Some(queue_data),
        subscription_data: subscription.map(|subscription| subscription.data()),
    });
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body).into())
}
