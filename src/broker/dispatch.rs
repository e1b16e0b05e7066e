//! Which handler takes which request.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use crate::ids::StoredSend;
use crate::net::{self, Connection, Handled, Handler, ReplyTo};
use crate::protocol::codes::RequestCode;
use crate::protocol::command::RemotingCommand;

use super::Broker;
use super::error::RequestError;
use super::handlers::{
    client, config, explain, group, leader, lock, member, message, offset, progress, pull, relay,
    reset, runtime_info, send, stats, topic,
};

/// A request that is being handled.
pub struct Request {
    /// What was asked.
    pub command: RemotingCommand,
    /// Who asks.
    pub connection: Arc<Connection>,
}

/// What a handler comes to.
pub type Answer = Result<net::Answer, RequestError>;
type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// How a handler answers.
enum Route {
    /// At once.
    Now(fn(&Broker, &Request) -> Answer),
    /// When a thread that may wait for the disk has read what it needs, anywhere in the log and its
    /// derived data; the connection's next request waits for that.
    LookUp(fn(&Broker, &Request) -> Answer),
    /// When it has changed or asked something; the connection's next request waits for that.
    Later(fn(Arc<Broker>, Request) -> Answering),
    /// By itself, whenever it likes.
    Own(fn(&Arc<Broker>, ReplyTo, RemotingCommand) -> Handled),
}

/// The table. Requests that only the VIP port refuses are in [`is_refused_on_vip_port`].
fn route(code: RequestCode) -> Option<Route> {
    use Route::{Later, LookUp, Now, Own};
    Some(match code {
        RequestCode::SEND_MESSAGE
        | RequestCode::SEND_MESSAGE_V2
        | RequestCode::SEND_BATCH_MESSAGE => Own(send::send),
        RequestCode::PULL_MESSAGE | RequestCode::LITE_PULL_MESSAGE => Own(pull::pull),

        RequestCode::INVOKE_BROKER_TO_RESET_OFFSET => Later(reset::reset),
        RequestCode::CLONE_GROUP_OFFSET => Later(reset::clone),
        RequestCode::QUERY_CONSUMER_OFFSET => Own(offset::query),
        RequestCode::UPDATE_CONSUMER_OFFSET => Own(offset::update),
        RequestCode::SEARCH_OFFSET_BY_TIMESTAMP => Later(offset::search_by_time),
        RequestCode::GET_MAX_OFFSET => Own(offset::max),
        RequestCode::GET_MIN_OFFSET => Later(offset::min),
        RequestCode::GET_EARLIEST_MSG_STORETIME => LookUp(offset::earliest_store_time),
        RequestCode::GET_ALL_CONSUMER_OFFSET => Now(offset::all),

        RequestCode::HEART_BEAT => Own(client::heartbeat),
        RequestCode::UNREGISTER_CLIENT => Now(client::unregister),
        RequestCode::GET_CONSUMER_LIST_BY_GROUP => Later(client::consumer_ids),
        RequestCode::CHECK_CLIENT_CONFIG => Now(client::check_config),
        RequestCode::GET_CONSUMER_CONNECTION_LIST => Now(client::consumer_connections),
        RequestCode::GET_PRODUCER_CONNECTION_LIST => Now(client::producer_connections),
        RequestCode::GET_ALL_PRODUCER_INFO => Now(client::producers),
        RequestCode::GET_CONSUMER_RUNNING_INFO => Later(relay::running_info),
        RequestCode::CONSUME_MESSAGE_DIRECTLY => Later(relay::consume_directly),
        RequestCode::INVOKE_BROKER_TO_GET_CONSUMER_STATUS => Later(relay::consumer_status),

        RequestCode::LOCK_BATCH_MQ => Own(lock::lock),
        RequestCode::UNLOCK_BATCH_MQ => Own(lock::unlock),

        RequestCode::QUERY_MESSAGE => LookUp(message::by_key),
        RequestCode::VIEW_MESSAGE_BY_ID => LookUp(message::by_id),
        RequestCode::QUERY_CONSUME_QUEUE => LookUp(message::consume_queue),

        RequestCode::UPDATE_AND_CREATE_TOPIC => Later(topic::update),
        RequestCode::UPDATE_AND_CREATE_TOPIC_LIST => Later(topic::update_list),
        RequestCode::DELETE_TOPIC_IN_BROKER => Later(topic::delete),
        RequestCode::GET_ALL_TOPIC_CONFIG => Now(topic::all),
        RequestCode::GET_TOPIC_CONFIG => Now(topic::one),
        RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_BROKER => Now(topic::system),
        RequestCode::QUERY_TOPIC_CONSUME_BY_WHO => Now(topic::consumed_by),
        RequestCode::QUERY_TOPICS_BY_CONSUMER => Now(topic::of_consumer),

        RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP => Later(group::update),
        RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST => Later(group::update_list),
        RequestCode::DELETE_SUBSCRIPTIONGROUP => Later(group::delete),
        RequestCode::GET_ALL_SUBSCRIPTIONGROUP_CONFIG => Now(group::all),
        RequestCode::GET_SUBSCRIPTIONGROUP_CONFIG => Later(group::one),
        RequestCode::QUERY_SUBSCRIPTION_BY_CONSUMER => Now(group::subscription),

        RequestCode::UPDATE_BROKER_CONFIG => Later(config::update),
        RequestCode::GET_BROKER_CONFIG => Now(config::get),
        RequestCode::TRANSFER_LEADER => Later(leader::transfer),
        RequestCode::GET_LEADER_CHANGES => Now(explain::leader_changes),
        RequestCode::GET_MEMBER_FACTS => Later(explain::facts),
        RequestCode::LIST_MEMBERS => Now(member::list),
        RequestCode::ADD_MEMBER => Later(member::add),
        RequestCode::REMOVE_MEMBER => Later(member::remove),
        RequestCode::REPLACE_MEMBER => Later(member::replace),
        RequestCode::ASSIGN_MEMBER => Later(member::assign),
        RequestCode::GET_BROKER_RUNTIME_INFO => LookUp(runtime_info::get),
        RequestCode::GET_TOPIC_STATS_INFO => LookUp(stats::of_topic),
        RequestCode::GET_CONSUME_STATS => LookUp(progress::of_group),
        RequestCode::GET_BROKER_CONSUME_STATS => LookUp(progress::of_all_groups),
        RequestCode::QUERY_CONSUME_TIME_SPAN => LookUp(progress::in_time),
        RequestCode::VIEW_BROKER_STATS_DATA => Now(stats::counted),
        RequestCode::CLEAN_EXPIRED_CONSUMEQUEUE | RequestCode::CLEAN_UNUSED_TOPIC => {
            Now(stats::clean)
        }
        RequestCode::DELETE_EXPIRED_COMMITLOG => Now(stats::delete_expired),
        _ => return None,
    })
}

/// The VIP port exists so that sends do not queue behind pulls: it does not serve these.
fn is_refused_on_vip_port(code: RequestCode) -> bool {
    matches!(
        code,
        RequestCode::PULL_MESSAGE
            | RequestCode::LITE_PULL_MESSAGE
            | RequestCode::PEEK_MESSAGE
            | RequestCode::POP_MESSAGE
            | RequestCode::POP_LITE_MESSAGE
            | RequestCode::NOTIFICATION
            | RequestCode::POLLING_INFO
    )
}

/// Takes the requests of all connections to a broker.
pub struct Dispatcher(pub Arc<Broker>);

impl Handler for Dispatcher {
    fn handle(&self, connection: &Arc<Connection>, command: RemotingCommand) -> Handled {
        let broker = &self.0;
        let code = command.request_code();
        let reply = ReplyTo::new(connection, &command);
        let refused =
            is_refused_on_vip_port(code) && connection.local().port() == broker.identity.vip_port;
        let Some(route) = route(code).filter(|_| !refused) else {
            reply.answer(RequestError::Unsupported { code: code.0 }.answer());
            return Handled::Done;
        };
        match route {
            Route::Now(handler) => {
                let request = Request { command, connection: Arc::clone(connection) };
                reply.answer(answer(code, handler(broker, &request)));
                Handled::Done
            }
            Route::LookUp(handler) => {
                let request = Request { command, connection: Arc::clone(connection) };
                let broker = Arc::clone(broker);
                Handled::Wait(Box::pin(async move {
                    let found = broker.look_up(move |broker| handler(broker, &request)).await;
                    reply.answer(answer(code, found));
                }))
            }
            Route::Later(handler) => {
                let request = Request { command, connection: Arc::clone(connection) };
                let answering = handler(Arc::clone(broker), request);
                Handled::Wait(Box::pin(async move {
                    reply.answer(answer(code, answering.await));
                }))
            }
            Route::Own(handler) => handler(broker, reply, command),
        }
    }

    fn unheard(&self, sends: VecDeque<StoredSend>) {
        self.0.group.unanswered(sends);
    }

    fn closed(&self, connection: &Arc<Connection>) {
        self.0.client_gone(connection.id());
    }
}

fn answer(code: RequestCode, answer: Answer) -> net::Answer {
    answer.unwrap_or_else(|error| {
        tracing::debug!(%code, %error, "request refused");
        error.answer().into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_later_features_are_not_taken() {
        for code in [RequestCode::POP_MESSAGE, RequestCode::END_TRANSACTION, RequestCode(29_999)] {
            assert!(route(code).is_none(), "{code}");
        }
        assert!(route(RequestCode::SEND_MESSAGE_V2).is_some());
    }

    #[test]
    fn the_vip_port_serves_all_but_reading_requests() {
        assert!(is_refused_on_vip_port(RequestCode::PULL_MESSAGE));
        assert!(!is_refused_on_vip_port(RequestCode::SEND_MESSAGE));
        assert!(!is_refused_on_vip_port(RequestCode::GET_MAX_OFFSET));
    }
}
