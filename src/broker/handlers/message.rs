//! Looking messages up: by key (12), by physical offset (33); units of a ConsumeQueue (321).

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

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

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

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
    let tables = broker.tables();
    let asked = if header.unique_key_query {
        usize::try_from(broker.settings.policy(&tables).query_messages_max).unwrap_or(MESSAGES_MAX)
    } else {
        usize::try_from(header.max_num).unwrap_or(0)
    };
    let query = KeyQuery {
        topic: &header.topic,
        key: &header.key,
        stored_ms: header.begin_timestamp..=header.end_timestamp,
        max: asked.min(MESSAGES_MAX),
        bytes_max: ANSWER_BYTES_MAX,
    };
    let (queues, log) = (broker.group.queues(), broker.group.log());
    let found = query::by_key(queues, log, &query)?;
    if found.is_empty() {
        return Err(RequestError::NoMessageByKey);
    }
    let records: Vec<Bytes> = found.into_iter().map(MappedBytes::into_bytes).collect();
    let head = QueryMessageAnswer {
        index_last_update_phyoffset: as_i64(queues.applied_to().0),
        index_last_update_timestamp: crate::clock::wall_ms(),
    };
    Ok(net::Answer::Records { head: head.answer(), records })
}

/// VIEW_MESSAGE_BY_ID: the record that starts at a physical offset.
pub(in crate::broker) fn by_id(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let offset = ViewMessage::parse(&request.command)?.offset;
        let nothing = RequestError::NoMessageAt { offset };
        let Ok(at) = u64::try_from(offset).map(PhysicalOffset) else { return Err(nothing) };
        let record = at_position(&broker, at).await?.ok_or(nothing)?;
        let head = RemotingCommand::response(ResponseCode::SUCCESS);
        Ok(net::Answer::Records { head, records: vec![record.into_bytes()] })
    })
}

/// The record at a position that a client names, repaired first if it is damaged.
pub(super) async fn at_position(
    broker: &Broker,
    position: PhysicalOffset,
) -> Result<Option<MappedBytes>, RequestError> {
    let (queues, log) = (broker.group.queues(), broker.group.log());
    let look = || query::at_position(log, queues.applied_to(), position);
    let found = look();
    if found.is_some() || log.check_at(position).is_ok() {
        return Ok(found);
    }
    let (answer, wait) = oneshot::channel();
    // Whoever waited may have gone.
    broker.group.repair(position, Box::new(move |repaired| drop(answer.send(repaired))));
    let repaired = wait.await.unwrap_or_else(|_| Err("this member is shutting down".to_owned()));
    let member = broker.identity.member.clone();
    repaired.map_err(|why| RequestError::MessageDamaged { position, member, why })?;
    Ok(look())
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
