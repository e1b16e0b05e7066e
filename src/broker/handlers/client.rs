//! Clients and their groups: heartbeats (34), goodbyes (35), who is in a group (38, 203, 204,
//! 328), whether a subscription can be served (46).

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use crate::clock;
use crate::net::{Connection, ConnectionId, Handled, ReplyTo};
use crate::protocol::bodies::{
    self, CheckClientConfig, Connection as ConnectionBody, ConsumerConnection, ConsumerData,
    ConsumerList, HeartbeatData, MessageModel, ProducerConnection, ProducerInfo, ProducerTable,
    SubscriptionData,
};
use crate::protocol::codes::ResponseCode;
use crate::protocol::command::RemotingCommand;
use crate::protocol::headers::client::{GetConsumerList, HeartbeatAnswer, UnregisterClient};
use crate::protocol::headers::group::{GetConsumerConnections, GetProducerConnections};
use crate::protocol::names;
use crate::raft::command::{Command, Topic};
use crate::raft::tables::Tables;
use crate::raft::{ConnectedConsumers, Taken};

use crate::broker::acquaintance::Knows;
use crate::broker::consumers::{Beat, Style};
use crate::broker::dispatch::{Answer, Request};
use crate::broker::error::RequestError;
use crate::broker::members::{Client, Refused};
use crate::broker::subscription::Subscription;
use crate::broker::{Broker, groups, topics};

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Longest client id and producer group, bytes: they are kept and shown, not judged.
const NAME_BYTES_MAX: usize = 1024;

/// HEART_BEAT. What a new group needs (itself, its retry topic) is created first; from then on a
/// heartbeat changes only what this broker remembers of its clients.
pub(in crate::broker) fn heartbeat(
    broker: &Arc<Broker>,
    reply: ReplyTo,
    command: RemotingCommand,
) -> Handled {
    let data = match parse(&command) {
        Ok(data) => data,
        Err(error) => {
            reply.answer(error.answer());
            return Handled::Done;
        }
    };
    let is_led = broker.group.role().leader(&broker.identity.member).is_some();
    let missing = if is_led { missing(broker, &data) } else { Vec::new() };
    if missing.is_empty() {
        answer(broker, reply, &command, data);
        return Handled::Done;
    }
    let broker = Arc::clone(broker);
    Handled::Wait(Box::pin(async move {
        match broker.change(missing).await {
            Ok(_) => answer(&broker, reply, &command, data),
            Err(error) => reply.answer(error.answer()),
        }
    }))
}

fn parse(command: &RemotingCommand) -> Result<HeartbeatData, RequestError> {
    let data: HeartbeatData = bodies::decode(&command.body)
        .map_err(|error| RequestError::Body { what: "a heartbeat", why: error.to_string() })?;
    if data.client_id.is_empty() || data.client_id.len() > NAME_BYTES_MAX {
        return Err(RequestError::Parameter(format!(
            "a client id has 1 to {NAME_BYTES_MAX} bytes, this one has {}",
            data.client_id.len()
        )));
    }
    Ok(data)
}

/// What has to be created for the groups of a heartbeat.
fn missing(broker: &Broker, data: &HeartbeatData) -> Vec<Command> {
    let tables = broker.tables();
    let auto_create = broker.settings.policy(&tables).auto_create_group;
    let (mut commands, mut count) = (Vec::new(), groups::count(&tables));
    for ConsumerData { group_name: name, unit_mode, .. } in &data.consumer_data_set {
        let known = tables.group(name);
        let by_use = || groups::by_use(name, auto_create, count);
        let new = if known.is_none() { by_use() } else { None };
        let Some(group) = known.map(AsRef::as_ref).or(new.as_ref()) else { continue };
        count += usize::from(new.is_some());
        let may_be = new.is_some() || count < topics::BY_USE_MAX;
        if tables.topic(&names::retry_topic(name)).is_none() && may_be {
            count += usize::from(new.is_none());
            let sys_flag = if *unit_mode { topics::sys_flag::UNIT_SUBSCRIBED } else { 0 };
            let topic = Topic { sys_flag, ..topics::retry(name, group.retry_queues) };
            commands.push(Command::EnsureTopic(topic));
        }
        commands.extend(new.map(Command::EnsureGroup));
    }
    commands
}

fn answer(broker: &Broker, reply: ReplyTo, command: &RemotingCommand, data: HeartbeatData) {
    let answer = match register(broker, reply.connection(), command, data) {
        Ok(subscriptions_changed) => {
            HeartbeatAnswer { supports_v2: true, subscriptions_changed }.answer()
        }
        Err(error) => {
            let is_full = matches!(error, RequestError::Unregistered(Refused::Full(_)));
            if is_full && broker.heartbeats_full.allow((), clock::now()).is_some() {
                tracing::warn!(%error, "heartbeats are refused");
            }
            error.answer()
        }
    };
    reply.answer(answer);
}

/// Enters the client into its groups. Whether it should send its subscriptions in full next time.
fn register(
    broker: &Broker,
    connection: &Arc<Connection>,
    command: &RemotingCommand,
    data: HeartbeatData,
) -> Result<bool, RequestError> {
    if !broker.channels.keep(connection) {
        return Ok(true); // it is closing: nobody will read this
    }
    let client = Client {
        id: data.client_id,
        peer: connection.peer(),
        language: command.language,
        version: command.version,
        seen: clock::now(),
        seen_ms: clock::wall_ms(),
    };
    let id = connection.id();
    {
        let mut producers = broker.producers.write();
        for producer in &data.producer_data_set {
            if !producer.group_name.is_empty() && producer.group_name.len() <= NAME_BYTES_MAX {
                producers.enter(&producer.group_name, id, client.clone())?;
            }
        }
    }
    let (fingerprint, without) = (data.heartbeat_fingerprint, data.without_sub);
    let tables = broker.tables();
    let auto_create = broker.settings.policy(&tables).auto_create_group;
    let mut send_in_full = fingerprint == 0;
    for consumer in data.consumer_data_set {
        let group = consumer.group_name.clone();
        let by_use = || groups::by_use(&group, auto_create, groups::count(&tables));
        if tables.group(&group).is_none() && by_use().is_none() {
            continue; // as in Java: a group that may not be created is passed over silently
        }
        let beat = beat_of(consumer, without)?;
        let broadcasting = beat.style.message_model == MessageModel::Broadcasting;
        let changed = {
            let mut consumers = broker.consumers.write();
            let changed = consumers.beat(id, client.clone(), beat)?;
            let known = consumers.fingerprint(&group);
            send_in_full |= known.map_or(without, |known| known != fingerprint);
            if !without {
                consumers.keep_fingerprint(&group, fingerprint);
            }
            changed
        };
        if changed && !broadcasting {
            broker.tell_members(&tables, &group);
        }
    }
    Ok(send_in_full)
}

fn beat_of(consumer: ConsumerData, without_subscriptions: bool) -> Result<Beat, RequestError> {
    let style = Style {
        consume_type: consumer.consume_type,
        message_model: consumer.message_model,
        from_where: consumer.consume_from_where,
    };
    let subscriptions: Result<Vec<Subscription>, _> = consumer
        .subscription_data_set
        .into_iter()
        .map(|data| {
            let kind = Some(data.expression_type.as_str());
            Subscription::new(&data.topic, &data.sub_string, kind, data.sub_version)
        })
        .collect();
    Ok(Beat {
        group: consumer.group_name,
        style,
        subscriptions: if without_subscriptions { None } else { Some(subscriptions?) },
    })
}

/// UNREGISTER_CLIENT.
pub(in crate::broker) fn unregister(broker: &Broker, request: &Request) -> Answer {
    let header = UnregisterClient::parse(&request.command)?;
    let connection = request.connection.id();
    if let Some(group) = &header.producer_group {
        broker.producers.write().leave(group, connection);
    }
    if let Some(group) = &header.consumer_group {
        broker.acquaintance.leave(group, &header.client_id);
        let left = broker.consumers.write().leave(group, connection);
        if left {
            broker.tell_members(&broker.tables(), group);
        }
    }
    broker.forget_channel_without_groups(connection);
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).into())
}

/// GET_CONSUMER_LIST_BY_GROUP. A member that does not know all consumers asks the others first.
pub(in crate::broker) fn consumer_ids(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let group = GetConsumerList::parse(&request.command)?.consumer_group;
        let now = clock::now();
        let mut ids = broker.acquaintance.away(&group, now);
        if broker.acquaintance.knows(now) == Knows::Some && group.len() <= NAME_BYTES_MAX {
            ids.extend(broker.group.consumers_elsewhere(group.clone()).await.iter().cloned());
        }
        consumer_list(&broker, group, ids)
    })
}

fn consumer_list(broker: &Broker, group: String, mut ids: BTreeSet<String>) -> Answer {
    let consumers = broker.consumers.read();
    ids.extend(consumers.members().of(&group).map(|(_, client)| client.id.clone()));
    drop(consumers);
    if ids.is_empty() {
        return Err(RequestError::NoConsumers { group });
    }
    let body = bodies::encode(&ConsumerList { consumer_id_list: ids.into_iter().collect() });
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body).into())
}

/// CHECK_CLIENT_CONFIG: asked by consumers before they start with another filter than tags.
pub(in crate::broker) fn check_config(_: &Broker, request: &Request) -> Answer {
    let body = &request.command.body;
    let success = || Ok(RemotingCommand::response(ResponseCode::SUCCESS).into());
    if body.is_empty() {
        return success();
    }
    let asked: CheckClientConfig = bodies::decode(body).map_err(|error| RequestError::Body {
        what: "a client's configuration",
        why: error.to_string(),
    })?;
    let SubscriptionData { expression_type: kind, .. } = asked.subscription_data;
    if !kind.is_empty() && kind != SubscriptionData::TAG {
        return Err(RequestError::FilterUnsupported { kind });
    }
    success()
}

/// GET_CONSUMER_CONNECTION_LIST.
pub(in crate::broker) fn consumer_connections(broker: &Broker, request: &Request) -> Answer {
    let group = GetConsumerConnections::parse(&request.command)?.consumer_group;
    let consumers = broker.consumers.read();
    let Some(wants) = consumers.wants(&group) else {
        return Err(RequestError::ConsumersOffline { group });
    };
    let table = wants.topics.iter().map(|(topic, sub)| (topic.clone(), sub.data())).collect();
    let body = bodies::encode(&ConsumerConnection {
        connection_set: consumers.members().of(&group).map(|(_, c)| connection(c)).collect(),
        consume_from_where: wants.style.from_where,
        consume_type: wants.style.consume_type,
        message_model: wants.style.message_model,
        subscription_table: table,
    });
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body).into())
}

/// GET_PRODUCER_CONNECTION_LIST.
pub(in crate::broker) fn producer_connections(broker: &Broker, request: &Request) -> Answer {
    let group = GetProducerConnections::parse(&request.command)?.producer_group;
    let producers = broker.producers.read();
    if !producers.has(&group) {
        return Err(RequestError::NoProducers { group });
    }
    let connection_set = producers.of(&group).map(|(_, client)| connection(client)).collect();
    let body = bodies::encode(&ProducerConnection { connection_set });
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body).into())
}

/// GET_ALL_PRODUCER_INFO.
pub(in crate::broker) fn producers(broker: &Broker, _: &Request) -> Answer {
    let producers = broker.producers.read();
    let data = producers
        .iter()
        .map(|(group, members)| {
            let infos = members.values().map(|client| ProducerInfo {
                client_id: client.id.clone(),
                language: client.language.wire_name().to_owned(),
                last_update_timestamp: client.seen_ms,
                remote_ip: format!("/{}", client.peer),
                version: client.version,
            });
            (group.to_owned(), infos.collect())
        })
        .collect();
    let body = bodies::encode(&ProducerTable { data });
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body).into())
}

fn connection(client: &Client) -> ConnectionBody {
    ConnectionBody {
        client_addr: client.peer.to_string(),
        client_id: client.id.clone(),
        language: client.language.wire_name().to_owned(),
        version: client.version,
    }
}

/// What a broker tells the other members of its consumers: not those whose heartbeats have stayed
/// away for too long and that nobody has forgotten yet.
pub(in crate::broker) struct Connected(pub(in crate::broker) Weak<Broker>);

impl ConnectedConsumers for Connected {
    fn each_of(&self, group: &str, take: &mut dyn FnMut(&str) -> Taken) {
        let Some(broker) = self.0.upgrade() else { return };
        let (now, limit) = (clock::now(), broker.settings.policy(&broker.tables()).client_expiry);
        let consumers = broker.consumers.read();
        for (_, client) in consumers.members().of(group) {
            let lives = now.saturating_duration_since(client.seen) < limit;
            if lives && take(&client.id) == Taken::Enough {
                return;
            }
        }
    }
}

impl Broker {
    /// A connection has closed: its client is gone.
    pub(in crate::broker) fn client_gone(&self, connection: ConnectionId) {
        self.wakeups.forget(connection);
        self.producers.write().forget(connection);
        let left = self.consumers.write().forget(connection);
        self.channels.forget(connection);
        self.detours.forget(connection);
        // Who was sent away consumes on, through other members.
        if !self.acquaintance.was_sent_away(connection) && !left.is_empty() {
            let tables = self.tables();
            left.iter().for_each(|group| self.tell_members(&tables, group));
        }
    }

    /// Forgets members whose heartbeats stay away.
    pub(in crate::broker) fn expire_clients(&self) {
        let (now, tables) = (clock::now(), self.tables());
        let limit = self.settings.policy(&tables).client_expiry;
        let producers = self.producers.read().silent(now, limit);
        let consumers = self.consumers.read().members().silent(now, limit);
        for (group, connection) in &producers {
            self.producers.write().leave(group, *connection);
        }
        for (group, connection) in &consumers {
            let left = self.consumers.write().leave(group, *connection);
            if left {
                self.tell_members(&tables, group);
            }
        }
        for (group, connection) in producers.iter().chain(&consumers) {
            tracing::info!(group, %connection, "forgot a client without heartbeats");
            self.forget_channel_without_groups(*connection);
        }
    }

    fn forget_channel_without_groups(&self, connection: ConnectionId) {
        let known = self.producers.read().knows(connection)
            || self.consumers.read().members().knows(connection);
        if !known {
            self.channels.forget(connection);
        }
    }

    /// Tells the members of a consumer group that it has changed, unless that is switched off or
    /// does not matter to them.
    fn tell_members(&self, tables: &Tables, group: &str) {
        let wanted = self.settings.policy(tables).notify_consumer_ids_changed
            && tables.group(group).is_none_or(|g| g.notify_consumer_ids_changed_enable);
        if !wanted {
            return;
        }
        let members = {
            let consumers = self.consumers.read();
            let broadcasting = consumers
                .wants(group)
                .is_none_or(|wants| wants.style.message_model == MessageModel::Broadcasting);
            if broadcasting {
                return;
            }
            consumers.members().of(group).map(|(id, _)| id).collect()
        };
        self.channels.notify_members_changed(group, &members);
    }
}
