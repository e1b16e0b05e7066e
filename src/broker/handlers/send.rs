//! SEND_MESSAGE (10), SEND_MESSAGE_V2 (310), SEND_BATCH_MESSAGE (320).
//!
//! ```text
//!  parse ─► aim, in Java's order ─► drafts ─► propose ─► committed ─► answer
//!           │ topic or group missing
//!           └─► create through the log, the connection waits ─► parse again
//! ```
//!
//! Cost of a send on the connection's thread: one pass over the header, one over the properties,
//! one checksum of the body; allocations for properties, unique key and the answer's closure. The
//! body stays where the network put it until the log encodes its entry.

mod drafts;
mod properties;
mod target;

use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;

use crate::clock;
use crate::net::{Handled, ReplyTo};
use crate::protocol::codes::ResponseCode;
use crate::protocol::command::RemotingCommand;
use crate::protocol::headers::send::{MsgIds, SendRequest, SendResponse};
use crate::protocol::message::Draft;
use crate::protocol::names;
use crate::raft::command::Command;
use crate::raft::tables::Tables;
use crate::raft::{Proposal, ProposeError, Receipt, Way};

use crate::broker::Broker;
use crate::broker::error::RequestError;
use crate::broker::sending_away::SENT_AWAY;
use crate::broker::settings::Current;

pub(in crate::broker) use properties::added as added_properties;
use target::Aim;

/// Handles a send of one message or a batch.
pub(in crate::broker) fn send(
    broker: &Arc<Broker>,
    reply: ReplyTo,
    command: RemotingCommand,
) -> Handled {
    let started = clock::now();
    if broker.suspects.has(reply.connection(), started) {
        reply.connection().close();
        return Handled::Done;
    }
    match prepare(broker, &reply, &command) {
        Ok(Prepared::Ready(drafts)) => {
            propose(broker, reply, drafts, started);
            Handled::Done
        }
        Ok(Prepared::Missing(missing)) => {
            let waiting = Waiting { broker: Arc::clone(broker), reply, command, started };
            Handled::Wait(Box::pin(waiting.create_and_send(missing)))
        }
        Err(error) if broker.is_leader() => {
            refuse(broker, reply, &error);
            Handled::Done
        }
        // What it lacks may be there by now.
        Err(_) => {
            let waiting = Waiting { broker: Arc::clone(broker), reply, command, started };
            Handled::Wait(Box::pin(waiting.be_current_and_send()))
        }
    }
}

/// A send that waits for something else first, with the time that all of it may take.
struct Waiting {
    broker: Arc<Broker>,
    reply: ReplyTo,
    command: RemotingCommand,
    started: Instant,
}

impl Waiting {
    /// Sends again on a member that knows what everybody was told.
    async fn be_current_and_send(self) {
        let current = self.broker.be_current_since(self.started).await;
        match current.and_then(|()| self.prepare()) {
            Ok(Prepared::Ready(drafts)) => self.propose(drafts),
            Ok(Prepared::Missing(missing)) => self.create_and_send(missing).await,
            Err(error) => self.refuse(&error),
        }
    }

    /// Creates what the send needs, then does it. The connection takes no other request meanwhile,
    /// so a producer's messages keep their order.
    async fn create_and_send(self, mut missing: Command) {
        /// A retry of an unknown group needs the group, then a topic.
        const ROUNDS_MAX: usize = 3;
        for _ in 0..ROUNDS_MAX {
            if let Err(error) = self.broker.change_since(vec![missing], self.started).await {
                return self.refuse(&error);
            }
            match self.prepare() {
                Ok(Prepared::Ready(drafts)) => return self.propose(drafts),
                Ok(Prepared::Missing(more)) => missing = more,
                Err(error) => return self.refuse(&error),
            }
        }
        let text = "what this send needs was created and is gone again; try again".to_owned();
        self.refuse(&RequestError::Unsettled(text));
    }

    fn prepare(&self) -> Result<Prepared, RequestError> {
        prepare(&self.broker, &self.reply, &self.command)
    }

    fn propose(self, drafts: Drafts) {
        propose(&self.broker, self.reply, drafts, self.started);
    }

    fn refuse(self, error: &RequestError) {
        refuse(&self.broker, self.reply, error);
    }
}

/// What a checked request comes to.
enum Prepared {
    /// To be proposed.
    Ready(Drafts),
    /// To be created first.
    Missing(Command),
}

/// Checked messages of one send.
struct Drafts {
    messages: SmallVec<[Draft; 1]>,
    settings: Arc<Current>,
    unique_key: Option<String>,
}

/// A send that is being checked, and what it is checked against.
struct Sending<'a> {
    broker: &'a Broker,
    tables: &'a Tables,
    settings: &'a Arc<Current>,
    reply: &'a ReplyTo,
    command: &'a RemotingCommand,
    request: SendRequest<'a>,
}

fn prepare(
    broker: &Broker,
    reply: &ReplyTo,
    command: &RemotingCommand,
) -> Result<Prepared, RequestError> {
    let tables = broker.tables();
    let settings = broker.settings.current(&tables);
    let request = SendRequest::parse(command)?;
    let sending = Sending { broker, tables: &tables, settings: &settings, reply, command, request };
    Ok(match sending.aim()? {
        Aim::At(target) => Prepared::Ready(sending.drafts(&target)?),
        Aim::Missing(command) => Prepared::Missing(command),
    })
}

fn propose(broker: &Arc<Broker>, reply: ReplyTo, drafts: Drafts, started: Instant) {
    let Drafts { messages, settings, unique_key } = drafts;
    let Some(first) = messages.first() else {
        return refuse(broker, reply, &RequestError::Internal("a send of nothing".to_owned()));
    };
    let connection = reply.connection().id();
    let answer = Answer {
        broker: Arc::clone(broker),
        reply,
        settings,
        unique_key,
        started,
        topic: Arc::clone(&first.topic),
        bytes: messages.iter().map(Draft::stored_bytes).sum(),
    };
    let done = Box::new(move |result| answer.send(result));
    let proposal = Proposal { messages, commands: Vec::new(), done };
    let way = broker.group.propose_since(proposal, tokio::time::Instant::from_std(started));
    if way == Way::Detour {
        broker.detours.note(connection, started);
    }
}

/// What is needed to answer once the message is committed, or is known not to be.
struct Answer {
    broker: Arc<Broker>,
    reply: ReplyTo,
    settings: Arc<Current>,
    unique_key: Option<String>,
    started: Instant,
    topic: Arc<str>,
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
        if receipt.repeats {
            stats.repeated();
        } else {
            let system = names::is_system_topic(&self.topic);
            stats.stored(&self.topic, system, receipt.places.len() as u64, self.bytes as u64);
        }
        self.broker.group.note_sent();
        stats.put_times.add(clock::now().saturating_duration_since(self.started));
        let response = SendResponse {
            code: ResponseCode::SUCCESS,
            queue_id: first.queue_id,
            queue_offset: first.queue_offset.0,
            msg_id: MsgIds {
                store_host: self.broker.identity.store_host,
                physical: receipt.places.iter().map(|place| place.physical.0).collect(),
            },
            transaction_id: self.unique_key,
            region: Arc::clone(&self.settings.region),
            trace_on: self.settings.config.policy.trace_on,
            recall_handle: None,
        };
        if let Some(unheard) = self.reply.answer_send(response, receipt.few) {
            self.broker.group.unanswered([unheard].into());
        }
    }
}

fn refuse(broker: &Broker, reply: ReplyTo, error: &RequestError) {
    broker.stats.refused();
    tracing::debug!(peer = %reply.connection().peer(), %error, "send refused");
    if let RequestError::Propose(ProposeError::OutOfTouch { since }) = error
        && *since < SENT_AWAY
    {
        return reply.connection().close();
    }
    let settings = broker.settings.current(&broker.tables());
    let answer = error
        .answer()
        .with_field("TRACE_ON", settings.config.policy.trace_on)
        .with_field("MSG_REGION", &settings.region);
    reply.answer(answer);
}
