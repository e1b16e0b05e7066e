//! Consumer offsets (14, 15, 43) and the bounds of queues (29, 30, 31, 32).
//!
//! Consumer offsets and the bounds of queues are told by who has applied what anybody was told
//! before: others' are those of some earlier time, and a consumer that starts from them goes back.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use tokio::time::Instant;

use crate::clock;
use crate::ids::QueueOffset;
use crate::net::{Connection, Handled, ReplyTo};
use crate::protocol::bodies::{self, ConsumerOffsetTable};
use crate::protocol::codes::ResponseCode;
use crate::protocol::command::RemotingCommand;
use crate::protocol::headers::offset::{
    Boundary, GetEarliestStoreTime, GetMaxOffset, GetMinOffset, OffsetAnswer, QueryConsumerOffset,
    SearchOffset, TimestampAnswer, UpdateConsumerOffset,
};
use crate::protocol::names;
use crate::raft::command::OffsetCommit;
use crate::raft::tables::Tables;
use crate::store::{self, query};

use crate::broker::Broker;
use crate::broker::dispatch::{Answer, Request};
use crate::broker::error::RequestError;
use crate::broker::handlers::Reading;

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// No group and no topic has a longer name, bytes.
const NAME_BYTES_MAX: usize = names::RETRY_OR_DLQ_TOPIC_CHARS_MAX;

/// QUERY_CONSUMER_OFFSET. Goes through the log without changing anything, so that the answer holds
/// every commit that was answered before, by any member.
#[expect(clippy::needless_pass_by_value, reason = "the signature of handlers that answer later")]
pub(in crate::broker) fn query(
    broker: &Arc<Broker>,
    reply: ReplyTo,
    command: RemotingCommand,
) -> Handled {
    let header = match QueryConsumerOffset::parse(&command) {
        Ok(header) => header,
        Err(error) => {
            reply.answer(RequestError::from(error).answer());
            return Handled::Done;
        }
    };
    // Under names that nothing can have nothing is stored; they shall not wait for the log either.
    if [&header.consumer_group, &header.topic].iter().any(|name| name.len() > NAME_BYTES_MAX) {
        let text = "Not found, the group or the topic has a name that is too long";
        reply.answer(RequestError::OffsetUnknown(text).answer());
        return Handled::Done;
    }
    let asked = Arc::clone(broker);
    broker.group.confirm(move |result| {
        let found = result.map_err(RequestError::from);
        match found.and_then(|()| stored_offset(&asked, &header)) {
            Ok(Some(offset)) => reply.answer(OffsetAnswer { offset }.answer()),
            Ok(None) => ask_readers(&asked, WaitingQuery { header, reply }),
            Err(error) => reply.answer(error.answer()),
        }
    });
    Handled::Done
}

/// A question whose answer depends on where the queue's first message lies, which the disk may
/// have to tell: that is not for the raft thread.
#[derive(Debug)]
pub struct WaitingQuery {
    header: QueryConsumerOffset,
    reply: ReplyTo,
}

fn ask_readers(broker: &Broker, waiting: WaitingQuery) {
    if let Err(Reading::Offset(WaitingQuery { reply, .. })) =
        broker.readers.take(Reading::Offset(waiting))
    {
        reply.answer(RequestError::ReadersBusy.answer());
    }
}

/// Goes on with a question, on a thread that may wait for the disk.
pub(in crate::broker) fn read(broker: &Broker, waiting: WaitingQuery) {
    let WaitingQuery { header, reply } = waiting;
    reply.answer(match first_offset(broker, &header) {
        Ok(offset) => OffsetAnswer { offset }.answer(),
        Err(error) => error.answer(),
    });
}

/// What the group has stored; `None`: nothing, and it may be for the queue's age to decide.
fn stored_offset(
    broker: &Broker,
    header: &QueryConsumerOffset,
) -> Result<Option<i64>, RequestError> {
    let queue_id = queue_id(header.queue_id)?;
    let stored = broker.tables().offset(&header.consumer_group, &header.topic, queue_id);
    if stored.is_none() && header.set_zero_if_not_found == Some(false) {
        let text = "Not found, do not set to zero, maybe this group boot first";
        return Err(RequestError::OffsetUnknown(text));
    }
    Ok(stored.map(as_i64))
}

/// Where a group starts that has stored nothing.
fn first_offset(broker: &Broker, header: &QueryConsumerOffset) -> Result<i64, RequestError> {
    let tables = broker.tables();
    let queue_id = queue_id(header.queue_id)?;
    // A young queue, whose first message is still near: a new group gets all of it.
    let queues = broker.group.queues();
    let first = queues.unit(&header.topic, queue_id, QueueOffset(0))?;
    let settings = broker.settings.current(&tables);
    let kept = broker.memory_bytes / 100 * u64::from(settings.config.policy.pull.memory_percent);
    let tail = broker.group.log().tail().0;
    match first {
        Some(first) if tail.saturating_sub(first.physical.0) <= kept => Ok(0),
        Some(_) | None => {
            Err(RequestError::OffsetUnknown("Not found, maybe this group consumer boot first"))
        }
    }
}

/// UPDATE_CONSUMER_OFFSET. Answered when it is committed.
pub(in crate::broker) fn update(
    broker: &Arc<Broker>,
    reply: ReplyTo,
    command: RemotingCommand,
) -> Handled {
    let since = Instant::now();
    if broker.is_leader() {
        commit(broker, reply, &command, since);
        return Handled::Done;
    }
    let broker = Arc::clone(broker);
    Handled::Wait(Box::pin(async move {
        match broker.be_current().await {
            Ok(()) => commit(&broker, reply, &command, since),
            Err(error) => reply.answer(error.answer()),
        }
    }))
}

/// Commits by what this member knows; it was asked at `since`.
fn commit(broker: &Broker, reply: ReplyTo, command: &RemotingCommand, since: Instant) {
    let tables = broker.tables();
    match checked_commit(broker, &tables, reply.connection(), command) {
        Ok(Commit::Void(why)) => {
            let answer = RemotingCommand::response(ResponseCode::SUCCESS);
            reply.answer(answer.with_remark(why));
        }
        Ok(Commit::Store(commit)) => {
            let commits = &broker.offset_commits;
            commits.commit(&broker.group, (commit, since), move |result| {
                reply.answer(match result {
                    Ok(()) => RemotingCommand::response(ResponseCode::SUCCESS),
                    Err(error) => RequestError::from(error).answer(),
                });
            });
        }
        Err(error) => reply.answer(error.answer()),
    }
}

/// What becomes of a commit.
enum Commit {
    Store(OffsetCommit),
    /// An operator reset the group, and it was not told yet; or the commit lay somewhere meanwhile.
    Void(&'static str),
}

fn checked_commit(
    broker: &Broker,
    tables: &Tables,
    connection: &Connection,
    command: &RemotingCommand,
) -> Result<Commit, RequestError> {
    let header = UpdateConsumerOffset::parse(command)?;
    let (group, topic) = (header.consumer_group, header.topic);
    if tables.group(&group).is_none() {
        return Err(RequestError::GroupUnknown { group });
    }
    let Some(config) = tables.topic(&topic) else {
        return Err(RequestError::TopicUnknown { topic });
    };
    let queue_id = queue_id(header.queue_id)?;
    let queues = config.read_queues.max(config.write_queues);
    if queue_id >= queues {
        let text = format!("queueId [{queue_id}] is illegal, topic [{topic}] has {queues} queues");
        return Err(RequestError::Parameter(text));
    }
    let queue = (group.as_str(), topic.as_str(), queue_id);
    let offset = checked_offset(broker, connection, queue, header.commit_offset)?;
    if tables.reset(&group, &topic, queue_id).is_some() {
        return Ok(Commit::Void("Offset has been previously reset"));
    }
    if is_late(broker, tables, connection, (queue, offset)) {
        return Ok(Commit::Void("This broker was cut off, and the group went on meanwhile"));
    }
    Ok(Commit::Store(OffsetCommit { group, topic, queue_id, offset }))
}

/// Whether an offset may be an old one of a consumer that has gone on through other members.
pub(super) fn is_late(
    broker: &Broker,
    tables: &Tables,
    consumer: &Connection,
    ((group, topic, queue_id), offset): ((&str, &str, u32), u64),
) -> bool {
    tables.offset(group, topic, queue_id).is_some_and(|stored| offset < stored)
        && broker.suspects.has(consumer, clock::now())
}

/// The offset that a consumer wants to commit for a group in a queue, if it may. What would make
/// the group miss messages is told in the log, with who wanted it.
pub(super) fn checked_offset(
    broker: &Broker,
    consumer: &Connection,
    (group, topic, queue_id): (&str, &str, u32),
    offset: i64,
) -> Result<u64, RequestError> {
    let end = broker.group.end_of_queue(topic, queue_id);
    if let Some(offset) = within(offset, end) {
        return Ok(offset);
    }
    let peer = consumer.peer();
    let unsaid = broker.refused_offsets.allow(peer.ip(), clock::now());
    if let Some(unsaid) = unsaid {
        tracing::info!(%peer, group, topic, queue_id, offset, %end, unsaid, "offset refused");
    }
    let text = format!("commitOffset [{offset}] is illegal, the queue ends at {end}");
    Err(RequestError::Parameter(text))
}

/// The offset, if a group may be there in a queue that ends at `end`. It may be before the queue's
/// begin: retention overtakes groups that lag, and they go on from the begin then.
fn within(offset: i64, end: QueueOffset) -> Option<u64> {
    u64::try_from(offset).ok().filter(|offset| *offset <= end.0)
}

/// SEARCH_OFFSET_BY_TIMESTAMP. Answered as of now, as the ends of queues are: who lags finds an
/// earlier offset.
pub(in crate::broker) fn search_by_time(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let header = SearchOffset::parse(&request.command)?;
        let boundary = match header.boundary {
            Boundary::Lower => store::queues::Boundary::Lower,
            Boundary::Upper => store::queues::Boundary::Upper,
        };
        let queue_id = queue_id(header.queue_id)?;
        broker.change(Vec::new()).await?; // as of now
        let found = broker.look_up(move |broker| {
            let queue = (header.topic.as_str(), queue_id);
            let (queues, log) = (broker.group.queues(), broker.group.log());
            let offset = query::offset_by_time(queues, log, queue, header.timestamp, boundary);
            offset.map_err(|error| broker.time_unknown(error))
        });
        Ok(OffsetAnswer { offset: as_i64(found.await?.0) }.answer().into())
    })
}

/// GET_MAX_OFFSET. Answered when this member has applied what anybody was told: the end of a queue,
/// as it was told before, never goes back.
#[expect(clippy::needless_pass_by_value, reason = "the signature of handlers that answer later")]
pub(in crate::broker) fn max(
    broker: &Arc<Broker>,
    reply: ReplyTo,
    command: RemotingCommand,
) -> Handled {
    let asked = GetMaxOffset::parse(&command).map_err(RequestError::from);
    match asked.and_then(|header| Ok((queue_id(header.queue_id)?, header.topic))) {
        // Nothing can have that name, and it shall not wait for the log either.
        Ok((_, topic)) if topic.len() > NAME_BYTES_MAX => {
            reply.answer(OffsetAnswer { offset: 0 }.answer());
        }
        Ok((queue_id, topic)) => {
            let leading = Arc::clone(broker);
            broker.group.confirm(move |result| {
                let told = result.map(|()| leading.group.queues().next(&topic, queue_id));
                reply.answer(match told {
                    Ok(next) => OffsetAnswer { offset: as_i64(next.0) }.answer(),
                    Err(error) => RequestError::from(error).answer(),
                });
            });
        }
        Err(error) => reply.answer(error.answer()),
    }
    Handled::Done
}

/// GET_MIN_OFFSET. The same of its begin.
pub(in crate::broker) fn min(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let header = GetMinOffset::parse(&request.command)?;
        let queue_id = queue_id(header.queue_id)?;
        broker.change(Vec::new()).await?; // as of now
        let bounds = broker
            .look_up(move |broker| Ok(broker.group.queues().bounds(&header.topic, queue_id)?));
        Ok(OffsetAnswer { offset: as_i64(bounds.await?.min.0) }.answer().into())
    })
}

/// GET_EARLIEST_MSG_STORETIME.
pub(in crate::broker) fn earliest_store_time(broker: &Broker, request: &Request) -> Answer {
    let header = GetEarliestStoreTime::parse(&request.command)?;
    let (queues, log) = (broker.group.queues(), broker.group.log());
    let queue_id = queue_id(header.queue_id)?;
    let earliest = query::earliest_store_time(queues, log, &header.topic, queue_id);
    let earliest = earliest.map_err(|error| broker.time_unknown(error))?;
    Ok(TimestampAnswer { timestamp: earliest.unwrap_or(-1) }.answer().into())
}

/// GET_ALL_CONSUMER_OFFSET.
pub(in crate::broker) fn all(broker: &Broker, _: &Request) -> Answer {
    let tables = broker.tables();
    let offset_table = tables
        .offsets()
        .map(|(group, topic, queues)| {
            let offsets: BTreeMap<i32, i64> = queues
                .iter()
                .map(|(id, offset)| (i32::try_from(*id).unwrap_or(i32::MAX), as_i64(*offset)))
                .collect();
            (format!("{topic}@{group}"), offsets)
        })
        .collect();
    let data_version = broker.data_version(tables.offsets_version());
    let body = bodies::encode(&ConsumerOffsetTable { data_version, offset_table });
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body).into())
}

/// A queue id from the wire.
pub(super) fn queue_id(id: i32) -> Result<u32, RequestError> {
    u32::try_from(id).map_err(|_| RequestError::Parameter(format!("queueId [{id}] is illegal")))
}

/// Offsets on the wire are signed.
pub(super) fn as_i64(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_group_gets_beyond_the_end_of_a_queue() {
        let rows = [
            (0, 0, Some(0)),
            (1, 0, None),
            (7, 9, Some(7)),
            (9, 9, Some(9)),
            (10, 9, None),
            (i64::MAX, 9, None),
            (-1, 9, None),
            (i64::MIN, u64::MAX, None),
        ];
        for (offset, end, want) in rows {
            assert_eq!(within(offset, QueueOffset(end)), want, "{offset} of {end}");
        }
    }
}
