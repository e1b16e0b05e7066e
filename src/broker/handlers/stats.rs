//! Numbers for tools: a topic's queues (202), what was counted (315); and requests to tidy up (306,
//! 316, 329).

use std::collections::BTreeMap;

use crate::ids::QueueOffset;
use crate::protocol::bodies::{
    self, BrokerStatsData, BrokerStatsItem, MessageQueue, QueueKey, TopicOffset, TopicStatsTable,
};
use crate::protocol::codes::ResponseCode;
use crate::protocol::command::RemotingCommand;
use crate::protocol::headers::admin::ViewBrokerStats;
use crate::protocol::headers::topic::GetTopicStats;
use crate::store::query;

use crate::broker::Broker;
use crate::broker::dispatch::{Answer, Request};
use crate::broker::error::RequestError;
use crate::broker::stats::traffic::Growths;
use crate::broker::stats::window::Growth;

use super::offset::as_i64;

/// GET_TOPIC_STATS_INFO.
pub(in crate::broker) fn of_topic(broker: &Broker, request: &Request) -> Answer {
    let topic = GetTopicStats::parse(&request.command)?.topic;
    let tables = broker.tables();
    let Some(config) = tables.topic(&topic) else {
        return Err(RequestError::TopicUnknown { topic });
    };
    let mut offset_table = BTreeMap::new();
    let leaves = broker.leaves_to_leader(&request.command); // or tools count twice
    let queues = if leaves { 0 } else { config.read_queues.max(config.write_queues) };
    for queue_id in 0..queues {
        let bounds = broker.group.queues().bounds(&topic, queue_id)?;
        offset_table.insert(
            broker.queue_key(&topic, queue_id),
            TopicOffset {
                last_update_timestamp: broker.stored_before(&topic, queue_id, bounds.next)?,
                max_offset: as_i64(bounds.next.0),
                min_offset: as_i64(bounds.min.0),
            },
        );
    }
    let traffic = broker.stats.traffic.into_topic(&topic);
    let topic_put_tps = traffic.map_or(0.0, |t| t.messages.growths().minute.per_second);
    let body = bodies::encode(&TopicStatsTable { offset_table, topic_put_tps });
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body).into())
}

/// VIEW_BROKER_STATS_DATA.
pub(in crate::broker) fn counted(broker: &Broker, request: &Request) -> Answer {
    let ViewBrokerStats { stats_name: name, stats_key: key } =
        ViewBrokerStats::parse(&request.command)?;
    let traffic = &broker.stats.traffic;
    let out_of = |key: &str| {
        let (topic, group) = key.rsplit_once('@')?;
        traffic.out_of_topic(topic, group)
    };
    let growths = match name.as_str() {
        "TOPIC_PUT_NUMS" => traffic.into_topic(&key).map(|t| t.messages.growths()),
        "TOPIC_PUT_SIZE" => traffic.into_topic(&key).map(|t| t.bytes.growths()),
        "GROUP_GET_NUMS" => out_of(&key).map(|t| t.messages.growths()),
        "GROUP_GET_SIZE" => out_of(&key).map(|t| t.bytes.growths()),
        _ => None,
    };
    let Some(Growths { minute, hour, day }) = growths else {
        return Err(RequestError::NoStats { name, key });
    };
    let body = bodies::encode(&BrokerStatsData {
        stats_day: item(day),
        stats_hour: item(hour),
        stats_minute: item(minute),
    });
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body).into())
}

fn item(growth: Growth) -> BrokerStatsItem {
    BrokerStatsItem {
        avgpt: growth.per_call,
        sum: i64::try_from(growth.sum).unwrap_or(i64::MAX),
        tps: growth.per_second,
    }
}

/// CLEAN_EXPIRED_CONSUMEQUEUE, CLEAN_UNUSED_TOPIC: this broker does by itself what these ask for.
pub(in crate::broker) fn clean(_: &Broker, _: &Request) -> Answer {
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).into())
}

/// DELETE_EXPIRED_COMMITLOG: what is older than `fileReservedTime` goes, whatever the hour.
pub(in crate::broker) fn delete_expired(broker: &Broker, _: &Request) -> Answer {
    broker.group.purge_now();
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).into())
}

impl Broker {
    /// A queue of this broker, as tools name it.
    pub(super) fn queue_key(&self, topic: &str, queue_id: u32) -> QueueKey {
        QueueKey(MessageQueue {
            broker_name: self.identity.group.clone(),
            queue_id: i32::try_from(queue_id).unwrap_or(i32::MAX),
            topic: topic.to_owned(),
        })
    }

    /// When the message before an offset was stored, ms; 0 if there is none, or if that is damaged:
    /// a figure is not worth refusing all others.
    pub(super) fn stored_before(
        &self,
        topic: &str,
        queue_id: u32,
        offset: QueueOffset,
    ) -> Result<i64, RequestError> {
        let Some(before) = offset.0.checked_sub(1) else { return Ok(0) };
        let unit = self.group.queues().unit(topic, queue_id, QueueOffset(before))?;
        let time = unit.and_then(|unit| query::store_time(self.group.log(), &unit).ok()).flatten();
        Ok(time.unwrap_or(0))
    }
}
