//! Request code → handler, in one table.

use std::sync::Arc;

use tracing::debug;

use super::{
    error::Refusal, handlers, name_server, name_server::NameServer, registering,
    route_request::RouteRequest,
};
use crate::{
    clock,
    net::{Connection, Handled, Handler, ReplyTo},
    protocol::{codes::RequestCode, command::RemotingCommand},
};

/// Takes the requests of all connections to a name server.
#[derive(Debug, Clone)]
pub struct Dispatch(pub Arc<NameServer>);

impl Handler for Dispatch {
    fn handle(&self, connection: &Arc<Connection>, request: RemotingCommand) -> Handled {
        let reply = ReplyTo::new(connection, &request);
        let code = request.request_code();
        self.0.counters.request(code);
        debug!(peer = %connection.peer(), %code, opaque = request.opaque, "request");
        match code {
            RequestCode::GET_ROUTEINFO_BY_TOPIC => {
                self.0.route(reply, RouteRequest::parse(&request), clock::now());
                Handled::Done
            }
            RequestCode::PUT_KV_CONFIG
            | RequestCode::DELETE_KV_CONFIG
            | RequestCode::UPDATE_NAMESRV_CONFIG => {
                // Waits for the disk; the next request of this connection then sees the change.
                let (server, peer) = (Arc::clone(&self.0), connection.peer());
                Handled::Wait(Box::pin(async move {
                    let changed = match code {
                        RequestCode::UPDATE_NAMESRV_CONFIG => {
                            handlers::update_settings(&server, peer, &request).await
                        }
                        _ => handlers::kv::change(&server, &request).await,
                    };
                    reply.answer(finish(code, changed));
                }))
            }
            _ => {
                reply.answer(finish(code, answer(&self.0, connection, &request)));
                Handled::Done
            }
        }
    }

    fn closed(&self, connection: &Arc<Connection>) {
        self.0.disconnected(connection, clock::now());
    }
}

fn answer(
    server: &NameServer,
    connection: &Arc<Connection>,
    request: &RemotingCommand,
) -> Result<RemotingCommand, Refusal> {
    match request.request_code() {
        RequestCode::REGISTER_BROKER => registering::register(server, connection, request),
        RequestCode::UNREGISTER_BROKER => registering::unregister(server, request),
        RequestCode::BROKER_HEARTBEAT => registering::heartbeat(server, connection, request),
        RequestCode::QUERY_DATA_VERSION => registering::query_data_version(server, request),
        RequestCode::GET_KV_CONFIG => handlers::kv::get(server, request),
        RequestCode::GET_KVLIST_BY_NAMESPACE => handlers::kv::list(server, request),
        RequestCode::GET_BROKER_CLUSTER_INFO => Ok(handlers::cluster_info(server)),
        RequestCode::GET_BROKER_MEMBER_GROUP => handlers::member_group(server, request),
        RequestCode::WIPE_WRITE_PERM_OF_BROKER => handlers::wipe_write_perm(server, request),
        RequestCode::ADD_WRITE_PERM_OF_BROKER => handlers::add_write_perm(server, request),
        RequestCode::DELETE_TOPIC_IN_NAMESRV => handlers::delete_topic(server, request),
        RequestCode::REGISTER_TOPIC_IN_NAMESRV => handlers::register_topic(server, request),
        RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER => handlers::all_topics(server),
        RequestCode::GET_TOPICS_BY_CLUSTER => handlers::topics_of_cluster(server, request),
        RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_NS => Ok(handlers::system_topics(server)),
        RequestCode::GET_UNIT_TOPIC_LIST
        | RequestCode::GET_HAS_UNIT_SUB_TOPIC_LIST
        | RequestCode::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST => handlers::unit_topics(server, request),
        RequestCode::GET_NAMESRV_CONFIG => Ok(handlers::settings(server)),
        RequestCode(code) => Err(Refusal::NotSupported(code)),
    }
}

/// Turns a refusal into an answer; answers of some requests always have a header object.
fn finish(code: RequestCode, answer: Result<RemotingCommand, Refusal>) -> RemotingCommand {
    let mut answer = answer.unwrap_or_else(|refusal| name_server::refusal(&refusal));
    if matches!(
        code,
        RequestCode::REGISTER_BROKER
            | RequestCode::GET_KV_CONFIG
            | RequestCode::QUERY_DATA_VERSION
            | RequestCode::WIPE_WRITE_PERM_OF_BROKER
            | RequestCode::ADD_WRITE_PERM_OF_BROKER
    ) {
        answer.ext.show_empty();
    }
    answer
}
