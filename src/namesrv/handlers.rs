//! Requests of clients and tools about brokers, topics and settings. Registrations are in
//! `registering.rs`, routes in `route_request.rs`.

pub(super) mod kv;

use std::{net::SocketAddr, sync::Arc};

use tracing::info;

use super::{
    error::Refusal, name_server::NameServer, names, registering::success, registration::Queues,
};
use crate::protocol::{
    bodies::{self, BrokerMemberGroupBody, NumericKeys, QueueData, TopicList, TopicRouteData},
    codes::RequestCode,
    command::RemotingCommand,
    headers::namesrv::{
        AddWritePerm, DeleteTopicInNamesrv, GetBrokerMemberGroup, GetTopicsByCluster,
        RegisterTopic, WipeWritePerm,
    },
};

type Answer = Result<RemotingCommand, Refusal>;

/// GET_BROKER_CLUSTER_INFO. Keys are quoted, unlike Java's: all readers take that, and `jq` needs it.
pub(super) fn cluster_info(server: &NameServer) -> RemotingCommand {
    let slots = server.slots();
    let info = server.state.lock().table.cluster_info(slots);
    success().with_body(bodies::encode(&info))
}

/// GET_BROKER_MEMBER_GROUP. An unknown group has no members.
pub(super) fn member_group(server: &NameServer, request: &RemotingCommand) -> Answer {
    let GetBrokerMemberGroup { cluster_name, broker_name } = GetBrokerMemberGroup::parse(request)?;
    let broker_member_group = server.state.lock().table.member_group(&cluster_name, &broker_name);
    let body = BrokerMemberGroupBody { broker_member_group };
    Ok(success().with_body(bodies::encode_with(&body, NumericKeys::Bare)))
}

/// WIPE_WRITE_PERM_OF_BROKER.
pub(super) fn wipe_write_perm(server: &NameServer, request: &RemotingCommand) -> Answer {
    let WipeWritePerm { broker_name: group } = WipeWritePerm::parse(request)?;
    let topics = server.state.lock().table.wipe_write_perm(&group);
    info!(group, topics, "write permission taken");
    Ok(success().with_field("wipeTopicCount", topics))
}

/// ADD_WRITE_PERM_OF_BROKER.
pub(super) fn add_write_perm(server: &NameServer, request: &RemotingCommand) -> Answer {
    let AddWritePerm { broker_name: group } = AddWritePerm::parse(request)?;
    let topics = server.state.lock().table.add_write_perm(&group);
    info!(group, topics, "write permission given");
    Ok(success().with_field("addTopicCount", topics))
}

/// DELETE_TOPIC_IN_NAMESRV.
pub(super) fn delete_topic(server: &NameServer, request: &RemotingCommand) -> Answer {
    let DeleteTopicInNamesrv { topic, cluster_name } = DeleteTopicInNamesrv::parse(request)?;
    let cluster = cluster_name.as_deref().filter(|cluster| !cluster.is_empty());
    server.state.lock().table.delete_topic(&topic, cluster);
    info!(topic, cluster, "topic deleted");
    Ok(success())
}

/// REGISTER_TOPIC_IN_NAMESRV.
pub(super) fn register_topic(server: &NameServer, request: &RemotingCommand) -> Answer {
    let RegisterTopic { topic } = RegisterTopic::parse(request)?;
    names::check_topic(&topic)?;
    let body: TopicRouteData = bodies::decode(&request.body)?;
    let queues: Vec<_> = body.queue_datas.iter().map(queues).collect();
    server.state.lock().table.register_topic(&Arc::from(topic.as_str()), &queues)?;
    Ok(success())
}

/// GET_ALL_TOPIC_LIST_FROM_NAMESERVER.
pub(super) fn all_topics(server: &NameServer) -> Answer {
    if !server.switches().all_topic_list {
        return Err(Refusal::Disabled);
    }
    let topics = server.state.lock().table.all_topics();
    Ok(topic_list(&topics))
}

/// GET_TOPICS_BY_CLUSTER.
pub(super) fn topics_of_cluster(server: &NameServer, request: &RemotingCommand) -> Answer {
    check_lists_enabled(server)?;
    let GetTopicsByCluster { cluster } = GetTopicsByCluster::parse(request)?;
    let topics = server.state.lock().table.topics_of_cluster(&cluster);
    Ok(topic_list(&topics))
}

/// GET_SYSTEM_TOPIC_LIST_FROM_NS.
pub(super) fn system_topics(server: &NameServer) -> RemotingCommand {
    let topics = server.state.lock().table.system_topics();
    topic_list(&topics)
}

/// GET_UNIT_TOPIC_LIST and its two relatives.
pub(super) fn unit_topics(server: &NameServer, request: &RemotingCommand) -> Answer {
    const UNIT: i32 = 1;
    const UNIT_SUB: i32 = 2;
    check_lists_enabled(server)?;
    let (mask, want) = match request.request_code() {
        RequestCode::GET_UNIT_TOPIC_LIST => (UNIT, UNIT),
        RequestCode::GET_HAS_UNIT_SUB_TOPIC_LIST => (UNIT_SUB, UNIT_SUB),
        _ => (UNIT | UNIT_SUB, UNIT_SUB),
    };
    let topics = server.state.lock().table.topics_with_flag(|flag| flag & mask == want);
    Ok(topic_list(&topics))
}

/// UPDATE_NAMESRV_CONFIG: answered when the change is on disk.
pub(super) async fn update_settings(
    server: &Arc<NameServer>,
    peer: SocketAddr,
    request: &RemotingCommand,
) -> Answer {
    let (server, body) = (Arc::clone(server), request.body.clone());
    let update = move || {
        let changed = server.settings.update(&body)?;
        info!(%peer, ?changed, "settings changed");
        Ok(success())
    };
    let updated = tokio::task::spawn_blocking(update).await;
    updated.unwrap_or_else(|error| Err(Refusal::NotStored(error.to_string())))
}

/// GET_NAMESRV_CONFIG: all settings in order of their keys.
pub(super) fn settings(server: &NameServer) -> RemotingCommand {
    success().with_body(server.settings.properties())
}

fn check_lists_enabled(server: &NameServer) -> Result<(), Refusal> {
    if server.switches().topic_list { Ok(()) } else { Err(Refusal::Disabled) }
}

fn topic_list(topics: &TopicList) -> RemotingCommand {
    success().with_body(bodies::encode(topics))
}

fn queues(data: &QueueData) -> (Arc<str>, Queues) {
    let queues = Queues {
        read: data.read_queue_nums,
        write: data.write_queue_nums,
        perm: data.perm,
        sys_flag: data.topic_sys_flag,
        ordered: true, // not said: a broker's registration of another version will
    };
    (Arc::from(data.broker_name.as_str()), queues)
}
