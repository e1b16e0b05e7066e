//! Offsets that an operator sets: reset by time or to a value (222), clone from a group (314).
//!
//! A reset is stored, and the group's own commits are void until its next pull of the queue has
//! been answered with the new offset: a consumer that is still at the old place must not undo it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use crate::protocol::bodies::{self, MessageQueue, QueueKey, QueueOffsets};
use crate::protocol::codes::ResponseCode;
use crate::protocol::command::RemotingCommand;
use crate::protocol::headers::group::CloneGroupOffset;
use crate::protocol::headers::offset::ResetOffset;
use crate::protocol::names;
use crate::raft::command::{Command, Group, OffsetCommit};
use crate::raft::tables::Tables;
use crate::store::query;
use crate::store::queues::{Boundary, Bounds};

use super::offset::as_i64;
use crate::broker::Broker;
use crate::broker::dispatch::{Answer, Request};
use crate::broker::error::RequestError;
use crate::broker::groups;

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// INVOKE_BROKER_TO_RESET_OFFSET.
pub(in crate::broker) fn reset(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let header = Arc::new(ResetOffset::parse(&request.command)?);
        broker.be_current().await?;
        let asked = Arc::clone(&header);
        let commits = broker.look_up(move |broker| wanted(broker, &asked)).await?;
        let peer = request.connection.peer();
        tracing::info!(
            %peer,
            group = header.group,
            topic = header.topic,
            timestamp = header.timestamp,
            queues = commits.len(),
            "resetting consumer offsets"
        );
        let offset_table = commits.iter().map(|commit| {
            let queue = MessageQueue {
                broker_name: broker.identity.group.clone(),
                queue_id: i32::try_from(commit.queue_id).unwrap_or(i32::MAX),
                topic: commit.topic.clone(),
            };
            (QueueKey(queue), as_i64(commit.offset))
        });
        let body = bodies::encode(&QueueOffsets { offset_table: offset_table.collect() });
        broker.change(vec![Command::ResetOffsets(commits)]).await?;
        Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body).into())
    })
}

fn wanted(broker: &Broker, header: &ResetOffset) -> Result<Vec<OffsetCommit>, RequestError> {
    let tables = broker.tables();
    let Some(topic) = tables.topic(&header.topic) else {
        return Err(RequestError::TopicUnknown { topic: header.topic.clone() });
    };
    if tables.group(&header.group).is_none() {
        return Err(RequestError::GroupUnknown { group: header.group.clone() });
    }
    let queues = topic.read_queues.max(topic.write_queues);
    let ids = match u32::try_from(header.queue_id) {
        Ok(id) if id < queues => id..id + 1,
        Ok(id) => {
            let text = format!("queueId [{id}] is illegal, topic [{}] has {queues}", topic.name);
            return Err(RequestError::Parameter(text));
        }
        Err(_) => 0..queues,
    };
    let mut commits = Vec::with_capacity(ids.len());
    for queue_id in ids {
        let bounds = broker.group.queues().bounds(&topic.name, queue_id)?;
        let offset = offset(broker, header, queue_id, bounds)?;
        let (group, topic) = (header.group.clone(), header.topic.clone());
        let stored = tables.offset(&group, &topic, queue_id);
        // Without force a group is only ever sent back.
        if header.is_force || stored.is_none_or(|stored| offset <= stored) {
            commits.push(OffsetCommit { group, topic, queue_id, offset });
        }
    }
    Ok(commits)
}

fn offset(
    broker: &Broker,
    header: &ResetOffset,
    queue_id: u32,
    bounds: Bounds,
) -> Result<u64, RequestError> {
    let (min, next) = (bounds.min.0, bounds.next.0);
    let of_one_queue = header.queue_id >= 0; // as in Java: all queues are reset by time
    if let Some(asked) = header.offset.filter(|asked| of_one_queue && *asked >= 0) {
        let asked = asked.unsigned_abs();
        if !(min..=next).contains(&asked) {
            let text = format!("offset [{asked}] is not in [{min}, {next}] of queue {queue_id}");
            return Err(RequestError::Parameter(text));
        }
        return Ok(asked);
    }
    if header.timestamp < 0 {
        return Ok(next);
    }
    let queue = (header.topic.as_str(), queue_id);
    let (queues, log) = (broker.group.queues(), broker.group.log());
    let found = query::offset_by_time(queues, log, queue, header.timestamp, Boundary::Lower);
    Ok(found.map_err(|error| broker.time_unknown(error))?.0)
}

/// CLONE_GROUP_OFFSET.
pub(in crate::broker) fn clone(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let header = CloneGroupOffset::parse(&request.command)?;
        broker.be_current().await?;
        let tables = broker.tables();
        let new = new_group(&broker, &tables, &header.dest_group)?;
        let only = header.topic.as_deref().filter(|topic| !topic.is_empty());
        let commits: Vec<OffsetCommit> = tables
            .offsets_of(&header.src_group)
            .filter(|(topic, _)| only.is_none_or(|only| only == &***topic))
            .flat_map(|(topic, queues)| of_queues(&header.dest_group, topic, queues))
            .collect();
        let queues = commits.len();
        if !commits.is_empty() {
            let new = new.map(Command::EnsureGroup);
            let commands = new.into_iter().chain([Command::CommitOffsets(commits)]);
            broker.change(commands.collect()).await?;
        }
        let (peer, from, to) = (request.connection.peer(), header.src_group, header.dest_group);
        tracing::info!(%peer, from, to, topic = header.topic, queues, "consumer offsets cloned");
        Ok(RemotingCommand::response(ResponseCode::SUCCESS).into())
    })
}

/// The group that offsets are cloned to, unless there is one: operators clone before they start
/// it. Offsets of what can be no group would never go away.
fn new_group(broker: &Broker, tables: &Tables, group: &str) -> Result<Option<Group>, RequestError> {
    names::validate_group(group).map_err(|error| RequestError::Parameter(error.to_string()))?;
    if tables.group(group).is_some() {
        return Ok(None);
    }
    let auto_create = broker.settings.policy(tables).auto_create_group;
    let new = groups::by_use(group, auto_create, groups::count(tables));
    new.map(Some).ok_or_else(|| RequestError::GroupUnknown { group: group.to_owned() })
}

fn of_queues<'a>(
    group: &'a str,
    topic: &'a str,
    queues: &'a BTreeMap<u32, u64>,
) -> impl Iterator<Item = OffsetCommit> + 'a {
    queues.iter().map(move |(queue_id, offset)| OffsetCommit {
        group: group.to_owned(),
        topic: topic.to_owned(),
        queue_id: *queue_id,
        offset: *offset,
    })
}
