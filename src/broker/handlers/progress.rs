//! How far consumer groups are: one group (208), all of them (317), in times instead of offsets
//! (303).

use std::collections::{BTreeMap, BTreeSet};

use crate::clock;
use crate::ids::QueueOffset;
use crate::protocol::bodies::{
    self, ConsumeStats, ConsumeStatsList, ConsumeTimeSpans, OffsetWrapper, QueueTimeSpan,
};
use crate::protocol::codes::ResponseCode;
use crate::protocol::command::RemotingCommand;
use crate::protocol::headers::admin::GetBrokerConsumeStats;
use crate::protocol::headers::group::GetConsumeStats;
use crate::protocol::headers::query::QueryConsumeTimeSpan;
use crate::raft::tables::Tables;

use crate::broker::Broker;
use crate::broker::dispatch::{Answer, Request};
use crate::broker::error::RequestError;

use super::offset::as_i64;

/// GET_CONSUME_STATS.
pub(in crate::broker) fn of_group(broker: &Broker, request: &Request) -> Answer {
    let header = GetConsumeStats::parse(&request.command)?;
    let tables = broker.tables();
    let group = header.consumer_group;
    let list = header.topic_list.unwrap_or_default();
    let mut topics: BTreeSet<&str> = list.split(';').filter(|topic| !topic.is_empty()).collect();
    // Whoever names a list sees all of it, consumed at present or not.
    if topics.is_empty() {
        match header.topic.as_deref().filter(|topic| !topic.is_empty()) {
            Some(topic) => topics.extend([topic]),
            None => topics.extend(tables.offsets_of(&group).map(|(topic, _)| &**topic)),
        }
        topics.retain(|topic| is_wanted(broker, &group, topic));
    }
    let mut stats = ConsumeStats::default();
    for topic in topics.into_iter().filter(|topic| tables.topic(topic).is_some()) {
        let of_topic = progress(broker, &tables, &group, topic)?;
        stats.consume_tps += of_topic.consume_tps;
        stats.offset_table.extend(of_topic.offset_table);
    }
    let body = bodies::encode(&stats);
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body).into())
}

/// Topics that a group, while it has members, does not want any more are left out.
fn is_wanted(broker: &Broker, group: &str, topic: &str) -> bool {
    let consumers = broker.consumers.read();
    let wants = consumers.wants(group);
    wants.is_none_or(|wants| wants.topics.is_empty() || wants.topics.contains_key(topic))
}

/// How far a group is in each queue of a topic.
fn progress(
    broker: &Broker,
    tables: &Tables,
    group: &str,
    topic: &str,
) -> Result<ConsumeStats, RequestError> {
    let queues = tables.topic(topic).map_or(0, |config| config.read_queues);
    let mut offset_table = BTreeMap::new();
    for queue_id in 0..queues {
        let bounds = broker.group.queues().bounds(topic, queue_id)?;
        let consumed = tables.offset(group, topic, queue_id).unwrap_or(0);
        let last_timestamp = broker.stored_before(topic, queue_id, QueueOffset(consumed))?;
        let (broker_offset, consumer_offset) = (as_i64(bounds.next.0), as_i64(consumed));
        let pulled = broker.pull_offsets.get(topic, group, queue_id).unwrap_or(0);
        let offset = OffsetWrapper {
            broker_offset,
            consumer_offset,
            last_timestamp,
            // What is known may be of a time before the offset was reset, or the topic made again.
            pull_offset: pulled.min(broker_offset).max(consumer_offset),
        };
        offset_table.insert(broker.queue_key(topic, queue_id), offset);
    }
    let traffic = broker.stats.traffic.out_of_topic(topic, group);
    let consume_tps = traffic.map_or(0.0, |t| t.messages.growths().minute.per_second);
    Ok(ConsumeStats { consume_tps, offset_table })
}

/// GET_BROKER_CONSUME_STATS.
pub(in crate::broker) fn of_all_groups(broker: &Broker, request: &Request) -> Answer {
    let only_ordered = GetBrokerConsumeStats::parse(&request.command)?.is_order;
    let tables = broker.tables();
    let mut list =
        ConsumeStatsList { broker_addr: broker.identity.address.clone(), ..Default::default() };
    for group in tables.groups().filter(|group| !only_ordered || group.consume_message_orderly) {
        let mut of_group = Vec::new();
        for (topic, _) in tables.offsets_of(&group.name) {
            if tables.topic(topic).is_some() && is_wanted(broker, &group.name, topic) {
                of_group.push(progress(broker, &tables, &group.name, topic)?);
            }
        }
        let offsets = of_group.iter().flat_map(|stats| stats.offset_table.values());
        for offset in offsets {
            list.total_diff += offset.broker_offset - offset.consumer_offset;
            list.total_inflight_diff += offset.pull_offset - offset.consumer_offset;
        }
        list.consume_stats_list.push(BTreeMap::from([(group.name.clone(), of_group)]));
    }
    let body = bodies::encode(&list);
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body).into())
}

/// QUERY_CONSUME_TIME_SPAN: the same in times instead of offsets.
pub(in crate::broker) fn in_time(broker: &Broker, request: &Request) -> Answer {
    let QueryConsumeTimeSpan { topic, group } = QueryConsumeTimeSpan::parse(&request.command)?;
    let tables = broker.tables();
    let Some(config) = tables.topic(&topic) else {
        return Err(RequestError::TopicUnknown { topic });
    };
    let now_ms = clock::wall_ms();
    let mut spans = ConsumeTimeSpans::default();
    let leaves = broker.leaves_to_leader(&request.command); // or tools show each queue twice
    for queue_id in 0..if leaves { 0 } else { config.write_queues } {
        let bounds = broker.group.queues().bounds(&topic, queue_id)?;
        let stored = |at: u64| broker.stored_before(&topic, queue_id, QueueOffset(at));
        let (first, last) = (stored(bounds.min.0 + 1)?, stored(bounds.next.0)?);
        let consumed = tables.offset(&group, &topic, queue_id).unwrap_or(0);
        let consumed_ms = if consumed > 0 { stored(consumed)? } else { first };
        let waiting = consumed < bounds.next.0;
        let delay = if waiting { now_ms.saturating_sub(stored(consumed + 1)?) } else { 0 };
        spans.consume_time_span_set.push(QueueTimeSpan {
            consume_time_stamp: consumed_ms,
            consume_time_stamp_str: local_time(consumed_ms),
            delay_time: delay,
            max_time_stamp: last,
            max_time_stamp_str: local_time(last),
            message_queue: broker.queue_key(&topic, queue_id).0,
            min_time_stamp: first,
            min_time_stamp_str: local_time(first),
        });
    }
    let body = bodies::encode(&spans);
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body).into())
}

/// `yyyy-MM-dd#HH:mm:ss:SSS` in local time, as Java's tools show it.
fn local_time(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    let local = time.to_zoned(jiff::tz::TimeZone::system());
    format!("{}:{:03}", local.strftime("%Y-%m-%d#%H:%M:%S"), local.millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_javas_tools_do() {
        let text = local_time(1_795_228_199_067);
        assert_eq!(text.len(), "2026-11-21#02:29:59:067".len(), "{text}");
        assert!(text.starts_with("2026-11-2") && text.ends_with(":59:067"), "{text}");
    }
}
