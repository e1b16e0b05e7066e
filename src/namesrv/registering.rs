//! Requests of brokers about themselves: parse, change the table, say in the log what changed.

use std::sync::Arc;

use tracing::{info, warn};

use super::{
    error::Refusal,
    kv_config::ORDER_TOPIC_CONFIG,
    name_server::{NameServer, channel, log_departed},
    registration::Registration,
    registration_request::{self, Parsed},
    route_table::{Change, Registered},
};
use crate::{
    clock,
    net::Connection,
    protocol::{
        bodies::{self, DataVersion, KVTable},
        codes::ResponseCode,
        command::RemotingCommand,
        headers::namesrv::{BrokerHeartbeat, QueryDataVersion, UnregisterBroker},
    },
};

/// Ext field of our brokers' registrations and heartbeats: the answer shall say, in the field of
/// the same name, whether the broker is in the table on this connection. RocketMQ answers success
/// whatever it did, so a broker that was forgotten or fenced off would not know.
pub const TELL_ENTERED: &str = "tellEntered";

/// REGISTER_BROKER.
pub(super) fn register(
    server: &NameServer,
    connection: &Arc<Connection>,
    request: &RemotingCommand,
) -> Result<RemotingCommand, Refusal> {
    let refused = |refusal| {
        server.counters.registrations_refused.increment();
        refusal
    };
    let parsed = registration_request::parse(request).map_err(refused)?;
    let Parsed { registration, topics_skipped } = parsed;
    let group = &*registration.group;
    if topics_skipped > 0 {
        warn!(group, topics_skipped, "topics with unusable names are not entered");
    }
    let switches = server.switches();
    let now = clock::now();
    let mut state = server.state.lock();
    let registered = state
        .table
        .register(&registration, switches.rules(), channel(connection), now)
        .map_err(refused)?;
    if let Registered::Entered { .. } = registered {
        server.broker_entered(&mut state, connection, now);
    }
    drop(state);

    let mut answer = success();
    let entered = match registered {
        Registered::Fenced { newer } => {
            server.counters.registrations_fenced.increment();
            let (broker_id, term) = (registration.broker_id, registration.version.state_version);
            let address = &*registration.address;
            info!(group, broker_id, address, term, newer, "registration of an older term ignored");
            false
        }
        Registered::Entered { leader, change } => {
            server.counters.registrations_entered.increment();
            log_change(&registration, change);
            if let Some(leader) = leader {
                answer = answer
                    .with_field("haServerAddr", &leader.ha_address)
                    .with_field("masterAddr", &leader.address);
            }
            if switches.return_order_config
                && let Some(table) = server.kv.current().namespace(ORDER_TOPIC_CONFIG)
            {
                answer = answer.with_body(bodies::encode(&KVTable { table: table.clone() }));
            }
            true
        }
    };
    Ok(tell(answer, request, entered))
}

/// UNREGISTER_BROKER.
pub(super) fn unregister(
    server: &NameServer,
    request: &RemotingCommand,
) -> Result<RemotingCommand, Refusal> {
    let UnregisterBroker { broker_name, broker_addr, .. } = UnregisterBroker::parse(request)?;
    let now = clock::now();
    let departed = server.state.lock().table.unregister(&broker_name, &broker_addr, now);
    log_departed(departed.as_slice(), "unregistered");
    Ok(success())
}

/// BROKER_HEARTBEAT.
pub(super) fn heartbeat(
    server: &NameServer,
    connection: &Arc<Connection>,
    request: &RemotingCommand,
) -> Result<RemotingCommand, Refusal> {
    let BrokerHeartbeat { broker_name, broker_addr, .. } = BrokerHeartbeat::parse(request)?;
    let (channel, now) = (channel(connection), clock::now());
    let known = server.state.lock().table.heartbeat(&broker_name, &broker_addr, channel, now);
    Ok(tell(success(), request, known))
}

/// QUERY_DATA_VERSION.
pub(super) fn query_data_version(
    server: &NameServer,
    request: &RemotingCommand,
) -> Result<RemotingCommand, Refusal> {
    let QueryDataVersion { broker_name, broker_addr, .. } = QueryDataVersion::parse(request)?;
    let theirs: DataVersion = bodies::decode(&request.body)?;
    let now = clock::now();
    let known = server.state.lock().table.query_version(&broker_name, &broker_addr, now);
    let answer = success().with_field("changed", known != Some(theirs));
    Ok(match known {
        Some(version) => answer.with_body(bodies::encode(&version)),
        None => answer,
    })
}

pub(super) fn success() -> RemotingCommand {
    RemotingCommand::response(ResponseCode::SUCCESS)
}

fn tell(answer: RemotingCommand, request: &RemotingCommand, entered: bool) -> RemotingCommand {
    match request.ext.get(TELL_ENTERED) {
        Some(_) => answer.with_field(TELL_ENTERED, entered),
        None => answer,
    }
}

fn log_change(registration: &Registration, change: Change) {
    let Registration { group, broker_id, address, version, .. } = registration;
    let (term, topics_changed) = (version.state_version, change.topics);
    if change.members {
        info!(%group, broker_id, %address, term, topics_changed, "broker registered");
    } else if change.topics > 0 {
        info!(%group, broker_id, %address, topics_changed, "topics changed");
    }
}
