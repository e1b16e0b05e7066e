//! SEND_MESSAGE (10), SEND_MESSAGE_V2 (310), SEND_BATCH_MESSAGE (320).
//!
//! ```text
//!  parse ─► checks, in Java's order ─► drafts ─► propose ─► committed ─► answer
//!                │ topic or group missing
//!                └─► create through the log, the connection waits ─► checks again
//! ```
//!
//! Cost of a send on the connection's thread: one pass over the header, one over the properties,
//! one checksum of the body; allocations for properties, unique key and the answer's closure. The
//! body stays where the network put it until the log copies it into its mapping.

mod properties;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use crate::clock;
use crate::net::{Handled, ReplyTo};
use crate::protocol::codes::ResponseCode;
use crate::protocol::command::RemotingCommand;
use crate::protocol::headers::send::{MsgIds, SendRequest, SendResponse};
use crate::protocol::message::{Draft, PROPERTIES_BYTES_MAX, batch, body_crc, sys_flag};
use crate::protocol::{names, perm, version};
use crate::raft::command::{Command, Topic};
use crate::raft::tables::Tables;
use crate::raft::{Proposal, ProposeError, Receipt};

use crate::broker::error::RequestError;
use crate::broker::settings::Current;
use crate::broker::{Broker, groups, topics};

use properties::Sent;
pub(in crate::broker) use properties::added as added_properties;

/// Handles a send of one message or a batch.
pub(in crate::broker) fn send(
    broker: &Arc<Broker>,
    reply: ReplyTo,
    command: RemotingCommand,
) -> Handled {
    let started = clock::now();
    match prepare(broker, &reply, &command) {
        Ok(Prepared::Ready(drafts)) => {
            propose(broker, reply, drafts, started);
            Handled::Done
        }
        Ok(Prepared::Missing(commands)) => {
            Handled::Wait(Box::pin(create_and_send(Arc::clone(broker), reply, command, commands)))
        }
        Err(error) => {
            refuse(broker, reply, &error);
            Handled::Done
        }
    }
}

/// Creates what the send needs, then does it. The connection takes no other request meanwhile, so
/// a producer's messages keep their order.
async fn create_and_send(
    broker: Arc<Broker>,
    reply: ReplyTo,
    command: RemotingCommand,
    mut missing: Vec<Command>,
) {
    /// A retry of an unknown group needs the group, then a topic.
    const ROUNDS_MAX: usize = 3;
    let started = clock::now();
    for _ in 0..ROUNDS_MAX {
        if let Err(error) = broker.change(missing).await {
            return refuse(&broker, reply, &error);
        }
        match prepare(&broker, &reply, &command) {
            Ok(Prepared::Ready(drafts)) => return propose(&broker, reply, drafts, started),
            Ok(Prepared::Missing(more)) => missing = more,
            Err(error) => return refuse(&broker, reply, &error),
        }
    }
    let text = "what this send needs was created and is gone again; try again".to_owned();
    refuse(&broker, reply, &RequestError::Unsettled(text));
}

/// What a checked request comes to.
#[expect(clippy::large_enum_variant, reason = "it lives on the stack, for a moment")]
enum Prepared {
    /// To be proposed.
    Ready(Drafts),
    /// To be created first.
    Missing(Vec<Command>),
}

/// Checked messages of one send.
struct Drafts {
    messages: SmallVec<[Draft; 1]>,
    settings: Arc<Current>,
    unique_key: Option<String>,
}

fn prepare(
    broker: &Broker,
    reply: &ReplyTo,
    command: &RemotingCommand,
) -> Result<Prepared, RequestError> {
    broker.require_leader()?;
    let tables = broker.tables();
    let settings = broker.settings.current(&tables);
    let request = SendRequest::parse(command)?;
    check_target(broker, &tables, &settings, &request)?;
    let target = match target(broker, &tables, &settings, &request, command.version)? {
        Ok(target) => target,
        Err(missing) => return Ok(Prepared::Missing(missing)),
    };
    let queue_id = queue_of(&target, request.queue_id, reply)?;
    let multi_tags = if target.topic.multi_tag { sys_flag::MULTI_TAGS } else { 0 };
    let draft = Template {
        broker,
        settings: &settings,
        reply,
        request: &request,
        queue_id,
        sys_flag: request.sys_flag | multi_tags,
    };
    let topic = tables.topic_name(&target.topic.name).unwrap_or_else(|| {
        Arc::from(target.topic.name.as_str()) // cannot be: the topic comes from the same tables
    });
    if request.batch {
        let messages = draft.batch(&topic, &command.body)?;
        let unique_key = Sent::of(request.properties).unique_key.map(str::to_owned);
        return Ok(Prepared::Ready(Drafts { messages, settings, unique_key }));
    }
    let (message, unique_key) = draft.single(&topic, &command.body, target.is_dead_letter)?;
    let messages = smallvec![message];
    Ok(Prepared::Ready(Drafts { messages, settings, unique_key: Some(unique_key) }))
}

/// Refuses what may not be sent to, whether it exists or not. A broker that is made read-only is
/// emptied without errors: producers learn it from the route. Only order would be lost by then.
fn check_target(
    broker: &Broker,
    tables: &Tables,
    settings: &Current,
    request: &SendRequest<'_>,
) -> Result<(), RequestError> {
    let forbidden = |text: String| Err(RequestError::Forbidden(text));
    let topic = request.topic;
    let is_ordered = || tables.topic(topic).is_some_and(|topic| topic.order);
    if !perm::writable(settings.config.policy.permission) && is_ordered() {
        let address = &broker.identity.address;
        return forbidden(format!("the broker[{address}] sending message is forbidden"));
    }
    names::validate_topic(topic).map_err(|error| RequestError::Parameter(error.to_string()))?;
    if names::is_forbidden_to_send(topic) {
        return forbidden(format!("Sending message to topic[{topic}] is forbidden."));
    }
    Ok(())
}

/// Where a message goes.
struct Target {
    topic: Arc<Topic>,
    /// Not where the producer sent it: it was consumed in vain too often.
    is_dead_letter: bool,
}

/// The topic of a send, or what has to be created first.
fn target(
    broker: &Broker,
    tables: &Tables,
    settings: &Current,
    request: &SendRequest<'_>,
    client_version: i32,
) -> Result<Result<Target, Vec<Command>>, RequestError> {
    let given_up = match request.topic.strip_prefix(names::RETRY_PREFIX) {
        None => None,
        Some(group) => match retries_of(tables, settings, request, group, client_version)? {
            Retries::GroupMissing(command) => return Ok(Err(vec![command])),
            Retries::Left => None,
            Retries::Used => Some(group),
        },
    };
    if let Some(group) = given_up {
        let name = names::dlq_topic(group);
        return Ok(match tables.topic(&name) {
            Some(topic) => Ok(Target { topic: Arc::clone(topic), is_dead_letter: true }),
            None => Err(vec![Command::EnsureTopic(topics::dead_letter(group))]),
        });
    }
    if let Some(topic) = tables.topic(request.topic) {
        if !perm::writable(topic.perm) {
            let text = format!("the topic[{}] sending message is forbidden", topic.name);
            return Err(RequestError::Forbidden(text));
        }
        return Ok(Ok(Target { topic: Arc::clone(topic), is_dead_letter: false }));
    }
    match new_topic(tables, settings, request) {
        Some(topic) => {
            tracing::info!(
                topic = topic.name,
                queues = topic.write_queues,
                producer_group = request.producer_group,
                member = broker.identity.member,
                "creating a topic because of a send"
            );
            Ok(Err(vec![Command::EnsureTopic(topic)]))
        }
        None => Err(RequestError::TopicToSendUnknown { topic: request.topic.to_owned() }),
    }
}

/// Whether a message that is sent to be consumed again may be.
enum Retries {
    Left,
    Used,
    GroupMissing(Command),
}

fn retries_of(
    tables: &Tables,
    settings: &Current,
    request: &SendRequest<'_>,
    group: &str,
    client_version: i32,
) -> Result<Retries, RequestError> {
    let Some(config) = tables.group(group) else {
        let may_be_created =
            settings.config.policy.auto_create_group && names::validate_group(group).is_ok();
        if !may_be_created {
            return Err(RequestError::GroupToRetryUnknown { group: group.to_owned() });
        }
        return Ok(Retries::GroupMissing(Command::EnsureGroup(groups::with_defaults(group))));
    };
    let own_limit = request.max_reconsume_times.filter(|_| client_version >= version::V3_4_9);
    let limit = own_limit.unwrap_or(config.retry_max_times);
    // A consumer that holds queues consumes in order: it tries again where it is, and gives back
    // only what it has given up.
    let given_up = request.reconsume_times > limit || tables.holds_locks(group, clock::wall_ms());
    Ok(if given_up { Retries::Used } else { Retries::Left })
}

/// The topic that a send to an unknown name may create.
fn new_topic(tables: &Tables, settings: &Current, request: &SendRequest<'_>) -> Option<Topic> {
    let template = tables.topic(request.default_topic).filter(|template| {
        settings.config.policy.auto_create_topic || template.name != names::TBW102
    });
    let wanted_queues = request.default_topic_queue_nums;
    let group = request.topic.strip_prefix(names::RETRY_PREFIX);
    let topic = topics::from_template(request.topic, template.map(AsRef::as_ref), wanted_queues)
        .or_else(|| group.map(|group| topics::retry(group, 1)))?;
    let sys_flag = match (request.unit_mode, group) {
        (false, _) => 0,
        (true, None) => topics::sys_flag::UNIT,
        (true, Some(_)) => topics::sys_flag::UNIT_SUBSCRIBED,
    };
    Some(Topic { sys_flag, ..topic })
}

/// The queue that was asked for; a negative one means any.
fn queue_of(target: &Target, asked: i32, reply: &ReplyTo) -> Result<u32, RequestError> {
    if target.is_dead_letter {
        return Ok(0);
    }
    let topic = &target.topic;
    match u32::try_from(asked) {
        Ok(queue_id) if queue_id < topic.read_queues.max(topic.write_queues) => Ok(queue_id),
        Err(_) if topic.write_queues > 0 => Ok(fastrand::u32(..topic.write_queues)),
        Ok(_) | Err(_) => Err(RequestError::Parameter(format!(
            "request queueId[{asked}] is illegal, {} Producer: {}",
            topics::text(topic),
            reply.connection().peer()
        ))),
    }
}

/// What all messages of one request share.
struct Template<'a> {
    broker: &'a Broker,
    settings: &'a Current,
    reply: &'a ReplyTo,
    request: &'a SendRequest<'a>,
    queue_id: u32,
    sys_flag: i32,
}

impl Template<'_> {
    fn single(
        &self,
        topic: &Arc<str>,
        body: &Bytes,
        is_dead_letter: bool,
    ) -> Result<(Draft, String), RequestError> {
        if body.is_empty() {
            return Err(RequestError::MessageIllegal("the message's body is empty".to_owned()));
        }
        self.check_sizes(body.len(), self.request.properties.len())?;
        let sent = Sent::of(self.request.properties);
        sent.check(is_dead_letter)?;
        let unique_key = match sent.unique_key {
            Some(key) => key.to_owned(),
            None => self.broker.unique_ids.next(clock::wall_ms()),
        };
        let properties = sent.stored(&self.settings.added_properties, &unique_key, is_dead_letter);
        self.check_sizes(body.len(), properties.len())?;
        let draft = self.draft(topic, self.request.flag, body.clone(), properties.into());
        draft.check().map_err(|error| RequestError::MessageIllegal(error.to_string()))?;
        Ok((draft, unique_key))
    }

    fn batch(&self, topic: &Arc<str>, body: &Bytes) -> Result<SmallVec<[Draft; 1]>, RequestError> {
        let illegal = |text: String| RequestError::MessageIllegal(text);
        if topic.len() > names::TOPIC_CHARS_MAX {
            return Err(illegal(format!("message topic length too long {}", topic.len())));
        }
        if names::is_retry_topic(self.request.topic) {
            let topic = self.request.topic;
            return Err(illegal(format!("batch request does not support retry group {topic}")));
        }
        self.check_sizes(body.len(), 0)?;
        let items = batch::items(body).map_err(|error| illegal(error.to_string()))?;
        if items.is_empty() {
            return Err(illegal("the batch is empty".to_owned()));
        }
        let mut drafts = SmallVec::with_capacity(items.len());
        for item in items {
            // The bytes come from a client: properties that are no text are no properties.
            Sent::of(std::str::from_utf8(&item.properties).unwrap_or_default()).check(false)?;
            let draft = self.draft(topic, item.flag, item.body, item.properties);
            draft.check().map_err(|error| illegal(error.to_string()))?;
            drafts.push(draft);
        }
        Ok(drafts)
    }

    fn check_sizes(&self, body_bytes: usize, properties_bytes: usize) -> Result<(), RequestError> {
        let body_max = self.settings.config.policy.message_bytes_max;
        let fits = u32::try_from(body_bytes).is_ok_and(|bytes| bytes <= body_max)
            && properties_bytes <= PROPERTIES_BYTES_MAX;
        if fits {
            return Ok(());
        }
        Err(RequestError::MessageIllegal(format!(
            "the message is illegal, maybe msg body or properties length not matched. msg body \
             length limit {body_max}B, msg properties length limit 32KB."
        )))
    }

    fn draft(&self, topic: &Arc<str>, flag: i32, body: Bytes, properties: Bytes) -> Draft {
        Draft {
            topic: Arc::clone(topic),
            queue_id: self.queue_id,
            flag,
            sys_flag: self.sys_flag,
            born_timestamp: self.request.born_timestamp,
            born_host: self.reply.connection().peer(),
            store_host: self.broker.identity.store_host,
            reconsume_times: self.request.reconsume_times,
            prepared_transaction_offset: 0,
            body_crc: body_crc(&body),
            body,
            properties,
        }
    }
}

fn propose(broker: &Arc<Broker>, reply: ReplyTo, drafts: Drafts, started: Instant) {
    let Drafts { messages, settings, unique_key } = drafts;
    let Some(first) = messages.first() else {
        return refuse(broker, reply, &RequestError::Internal("a send of nothing".to_owned()));
    };
    let answer = Answer {
        broker: Arc::clone(broker),
        reply,
        settings,
        unique_key,
        started,
        topic: Arc::clone(&first.topic),
        queue_id: first.queue_id,
        bytes: messages.iter().map(Draft::stored_bytes).sum(),
    };
    broker.group.propose(Proposal {
        messages,
        commands: Vec::new(),
        done: Box::new(move |result| answer.send(result)),
    });
}

/// What is needed to answer once the message is committed, or is known not to be.
struct Answer {
    broker: Arc<Broker>,
    reply: ReplyTo,
    settings: Arc<Current>,
    unique_key: Option<String>,
    started: Instant,
    topic: Arc<str>,
    queue_id: u32,
    bytes: usize,
}

impl Answer {
    fn send(self, result: Result<Receipt, ProposeError>) {
        let receipt = match result {
            Ok(receipt) => receipt,
            Err(error) => return refuse(&self.broker, self.reply, &error.into()),
        };
        let Some(first) = receipt.places.first() else {
            let error = RequestError::Internal("a receipt without a place".to_owned());
            return refuse(&self.broker, self.reply, &error);
        };
        let stats = &self.broker.stats;
        let system = names::is_system_topic(&self.topic);
        stats.stored(&self.topic, system, receipt.places.len() as u64, self.bytes as u64);
        stats.put_times.add(clock::now().saturating_duration_since(self.started));
        self.reply.answer(SendResponse {
            code: ResponseCode::SUCCESS,
            queue_id: self.queue_id,
            queue_offset: first.queue_offset.0,
            msg_id: MsgIds {
                store_host: self.broker.identity.store_host,
                physical: receipt.places.iter().map(|place| place.physical.0).collect(),
            },
            transaction_id: self.unique_key,
            region: Arc::clone(&self.settings.region),
            trace_on: self.settings.config.policy.trace_on,
            recall_handle: None,
        });
    }
}

fn refuse(broker: &Broker, reply: ReplyTo, error: &RequestError) {
    broker.stats.refused();
    tracing::debug!(peer = %reply.connection().peer(), %error, "send refused");
    let settings = broker.settings.current(&broker.tables());
    let answer = error
        .answer()
        .with_field("TRACE_ON", settings.config.policy.trace_on)
        .with_field("MSG_REGION", &settings.region);
    reply.answer(answer);
}
