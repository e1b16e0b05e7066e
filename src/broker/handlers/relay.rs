//! Requests that are passed on to a client: its state (307), its offsets (223), consuming one
//! message now (309).

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use crate::ids::PhysicalOffset;
use crate::net::Connection;
use crate::protocol::bodies::{self, ConsumerStatusTable};
use crate::protocol::codes::ResponseCode;
use crate::protocol::command::RemotingCommand;
use crate::protocol::headers::client::{ConsumeMessageDirectly, GetConsumerRunningInfo};
use crate::protocol::headers::offset::{GetClientStatus, GetConsumerStatus};
use crate::protocol::message::id;

use super::message;
use crate::broker::Broker;
use crate::broker::dispatch::{Answer, Request};
use crate::broker::error::{RELAY_WITHIN, RequestError};

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// GET_CONSUMER_RUNNING_INFO.
pub(in crate::broker) fn running_info(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let header = GetConsumerRunningInfo::parse(&request.command)?;
        let client = client(&broker, &request, &header.consumer_group, &header.client_id)?;
        let (group, id) = (&header.consumer_group, &header.client_id);
        call(&client, header.request(), group, id).await
    })
}

/// CONSUME_MESSAGE_DIRECTLY: the record is looked up here and sent along.
pub(in crate::broker) fn consume_directly(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let header = ConsumeMessageDirectly::parse(&request.command)?;
        let client_id = header.client_id.clone().unwrap_or_default();
        let client = client(&broker, &request, &header.consumer_group, &client_id)?;
        let message_id = header.msg_id.as_deref().unwrap_or_default();
        let (_, physical) = id::parse(message_id).ok_or_else(|| {
            RequestError::Parameter(format!("msgId [{message_id}] is no offset message id"))
        })?;
        let look = move |broker: &Broker| message::at_position(broker, PhysicalOffset(physical));
        let record = broker.look_up(look).await?;
        let record = record.ok_or_else(|| RequestError::NoMessageAt {
            offset: i64::try_from(physical).unwrap_or(i64::MAX),
        })?;
        let request = header.request().with_body(record.into_bytes());
        call(&client, request, &header.consumer_group, &client_id).await
    })
}

/// INVOKE_BROKER_TO_GET_CONSUMER_STATUS: asks one client of a group, or all of them.
pub(in crate::broker) fn consumer_status(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let header = GetConsumerStatus::parse(&request.command)?;
        let wanted = header.client_addr.as_deref().unwrap_or_default();
        let members: Vec<_> = broker
            .consumers
            .read()
            .members()
            .of(&header.group)
            .filter(|(_, client)| wanted.is_empty() || wanted == client.id)
            .map(|(connection, client)| (connection, client.id.clone()))
            .collect();
        if members.is_empty() {
            return Err(RequestError::ConsumersOffline { group: header.group });
        }
        let mut consumer_table = BTreeMap::new();
        for (connection, id) in members {
            let Some(client) = broker.channels.get(connection) else { continue };
            check_not_itself(&request, &client)?;
            let ask = GetClientStatus { topic: header.topic.clone(), group: header.group.clone() };
            let answer = client.call(ask.request(), RELAY_WITHIN).await.map_err(|error| {
                RequestError::ClientSilent {
                    group: header.group.clone(),
                    client: id.clone(),
                    error,
                }
            })?;
            let status: ConsumerStatusTable = bodies::decode(&answer.body).map_err(|error| {
                RequestError::Body { what: "a consumer's status", why: error.to_string() }
            })?;
            consumer_table.insert(id, status.message_queue_table);
        }
        let message_queue_table = BTreeMap::new();
        let body = bodies::encode(&ConsumerStatusTable { consumer_table, message_queue_table });
        Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body).into())
    })
}

/// The connection of a member of a group.
fn client(
    broker: &Broker,
    request: &Request,
    group: &str,
    client_id: &str,
) -> Result<Arc<Connection>, RequestError> {
    let offline =
        || RequestError::ClientOffline { group: group.to_owned(), client: client_id.to_owned() };
    let connection =
        broker.consumers.read().members().find(group, client_id).ok_or_else(offline)?;
    let connection = broker.channels.get(connection).ok_or_else(offline)?;
    check_not_itself(request, &connection)?;
    Ok(connection)
}

/// A connection that waits for this request's answer would never bring the client's.
fn check_not_itself(request: &Request, client: &Connection) -> Result<(), RequestError> {
    if request.connection.id() == client.id() {
        return Err(RequestError::Parameter("a client cannot ask itself this way".to_owned()));
    }
    Ok(())
}

async fn call(client: &Connection, request: RemotingCommand, group: &str, id: &str) -> Answer {
    let answer = client.call(request, RELAY_WITHIN).await.map_err(|error| {
        RequestError::ClientSilent { group: group.to_owned(), client: id.to_owned(), error }
    })?;
    Ok(answer.into())
}
