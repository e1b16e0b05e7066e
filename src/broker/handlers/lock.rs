//! LOCK_BATCH_MQ (41) and UNLOCK_BATCH_MQ (42): which client of an orderly group holds which
//! queue. Replicated, so that a change of leader frees no lock and gives no queue to two clients.

use std::sync::Arc;
use std::time::Instant;

use crate::clock;
use crate::net::{Handled, ReplyTo};
use crate::protocol::bodies::{self, LockBatch, LockedQueues, MessageQueue};
use crate::protocol::codes::ResponseCode;
use crate::protocol::command::RemotingCommand;
use crate::raft::command::{Command, Outcome, QueueName};
use crate::raft::{Proposal, ProposeError, Receipt};

use crate::broker::Broker;
use crate::broker::error::RequestError;

/// Most queues of one request.
const QUEUES_MAX: usize = 100_000;
/// Longest client id that is stored with a lock, bytes.
const CLIENT_ID_BYTES_MAX: usize = 1024;

/// Takes or renews locks; the answer lists those that the client holds now.
#[expect(clippy::needless_pass_by_value, reason = "the signature of handlers that answer later")]
pub(in crate::broker) fn lock(
    broker: &Arc<Broker>,
    reply: ReplyTo,
    command: RemotingCommand,
) -> Handled {
    match checked(&command) {
        Ok(batch) => when_current(broker, reply, move |broker, asked| take(broker, asked, batch)),
        Err(error) => refused(reply, &error),
    }
}

fn take(broker: &Arc<Broker>, asked: Asked, batch: LockBatch) {
    let LockBatch { client_id: client, consumer_group: group, mq_set, .. } = batch;
    let queues = queues(broker, mq_set);
    let answering = Arc::clone(broker);
    propose(broker, asked, Command::LockQueues { group, client, queues }, move |outcomes| {
        let locked = outcomes.into_iter().find_map(|outcome| match outcome {
            Outcome::Locked { queues, no_room } => Some((queues, no_room)),
            Outcome::Done => None,
        });
        let (locked, no_room) = locked.unwrap_or_default();
        if no_room && answering.locks_full.allow((), clock::now()).is_some() {
            tracing::warn!("queues stay unlocked: all groups' locks together are too many");
        }
        let lock_ok_mq_set = locked
            .into_iter()
            .map(|queue| MessageQueue {
                broker_name: answering.identity.group.clone(),
                queue_id: i32::try_from(queue.queue_id).unwrap_or(i32::MAX),
                topic: queue.topic,
            })
            .collect();
        let body = bodies::encode(&LockedQueues { lock_ok_mq_set });
        RemotingCommand::response(ResponseCode::SUCCESS).with_body(body)
    });
}

/// Releases locks of the client; those of others stay.
#[expect(clippy::needless_pass_by_value, reason = "the signature of handlers that answer later")]
pub(in crate::broker) fn unlock(
    broker: &Arc<Broker>,
    reply: ReplyTo,
    command: RemotingCommand,
) -> Handled {
    let LockBatch { client_id: client, consumer_group: group, mq_set, .. } = match checked(&command)
    {
        Ok(batch) => batch,
        Err(error) => return refused(reply, &error),
    };
    let unlocked = || RemotingCommand::response(ResponseCode::SUCCESS);
    if broker.suspects.has(reply.connection(), clock::now()) {
        // It may be old, and its client may have taken the queues again through other members. What
        // is not released ends by itself.
        reply.answer(unlocked());
        return Handled::Done;
    }
    when_current(broker, reply, move |broker, asked| {
        let queues = queues(broker, mq_set);
        let command = Command::UnlockQueues { group, client, queues };
        propose(broker, asked, command, move |_| unlocked());
    })
}

/// Whom to answer, and since when that one waits.
struct Asked {
    reply: ReplyTo,
    since: Instant,
}

/// Goes on when this member knows the queues that there are: now, or soon.
fn when_current(
    broker: &Arc<Broker>,
    reply: ReplyTo,
    go_on: impl FnOnce(&Arc<Broker>, Asked) + Send + 'static,
) -> Handled {
    let asked = Asked { reply, since: clock::now() };
    if broker.is_leader() {
        go_on(broker, asked);
        return Handled::Done;
    }
    let broker = Arc::clone(broker);
    Handled::Wait(Box::pin(async move {
        match broker.be_current_since(asked.since).await {
            Ok(()) => go_on(&broker, asked),
            Err(error) => asked.reply.answer(error.answer()),
        }
    }))
}

fn checked(command: &RemotingCommand) -> Result<LockBatch, RequestError> {
    let batch: LockBatch = bodies::decode(&command.body)
        .map_err(|error| RequestError::Body { what: "a batch of locks", why: error.to_string() })?;
    let reasonable = batch.mq_set.len() <= QUEUES_MAX
        && !batch.client_id.is_empty()
        && batch.client_id.len() <= CLIENT_ID_BYTES_MAX;
    if !reasonable {
        let text = "a lock needs a client id, and a request may have 100000 queues".to_owned();
        return Err(RequestError::Parameter(text));
    }
    crate::protocol::names::validate_group(&batch.consumer_group)
        .map_err(|error| RequestError::Parameter(error.to_string()))?;
    Ok(batch)
}

/// The queues that exist: locks of others would never be missed.
fn queues(broker: &Broker, asked: impl IntoIterator<Item = MessageQueue>) -> Vec<QueueName> {
    let tables = broker.tables();
    asked
        .into_iter()
        .filter_map(|queue| {
            let topic = tables.topic(&queue.topic)?;
            let queue_id = u32::try_from(queue.queue_id).ok()?;
            let exists = queue_id < topic.read_queues.max(topic.write_queues);
            exists.then_some(QueueName { topic: queue.topic, queue_id })
        })
        .collect()
}

fn refused(reply: ReplyTo, error: &RequestError) -> Handled {
    reply.answer(error.answer());
    Handled::Done
}

fn propose(
    broker: &Broker,
    Asked { reply, since }: Asked,
    command: Command,
    answer: impl FnOnce(Vec<Outcome>) -> RemotingCommand + Send + 'static,
) {
    let done = move |result: Result<Receipt, ProposeError>| {
        reply.answer(match result {
            Ok(receipt) => answer(receipt.outcomes),
            Err(error) => RequestError::from(error).answer(),
        });
    };
    broker.group.propose_since(Proposal::of_commands(vec![command], done), since.into());
}
