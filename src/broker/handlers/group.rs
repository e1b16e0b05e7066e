//! Consumer groups: create and change (200, 225), delete (207), list (201), one (352), what one
//! wants of a topic (345).

use std::pin::Pin;
use std::sync::Arc;

use crate::protocol::bodies::{
    self, GroupConfigList, SubscriptionGroupConfig, SubscriptionGroupTable, SubscriptionOfGroup,
};
use crate::protocol::codes::ResponseCode;
use crate::protocol::command::RemotingCommand;
use crate::protocol::headers::group::{
    AllGroups, DeleteGroup, GetAllGroups, GetGroup, QuerySubscription,
};
use crate::raft::command::Command;

use crate::broker::dispatch::{Answer, Request};
use crate::broker::error::RequestError;
use crate::broker::{Broker, groups};

use super::topic::Page;

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// UPDATE_AND_CREATE_SUBSCRIPTIONGROUP.
pub(in crate::broker) fn update(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let config: SubscriptionGroupConfig =
            bodies::decode(&request.command.body).map_err(|error| RequestError::Body {
                what: "a consumer group",
                why: error.to_string(),
            })?;
        put(&broker, vec![config]).await
    })
}

/// UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST: all of them or none.
pub(in crate::broker) fn update_list(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let list: GroupConfigList = bodies::decode(&request.command.body).map_err(|error| {
            RequestError::Body { what: "a list of consumer groups", why: error.to_string() }
        })?;
        put(&broker, list.group_config_list).await
    })
}

async fn put(broker: &Broker, configs: Vec<SubscriptionGroupConfig>) -> Answer {
    let names: Vec<String> = configs.iter().map(|config| config.group_name.clone()).collect();
    let mut commands = Vec::with_capacity(configs.len());
    for config in configs {
        commands
            .push(Command::PutGroup(groups::from_config(config).map_err(RequestError::Parameter)?));
    }
    broker.change(commands).await?;
    tracing::info!(groups = names.join(","), "consumer groups created or changed");
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).into())
}

/// DELETE_SUBSCRIPTIONGROUP.
pub(in crate::broker) fn delete(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let DeleteGroup { group_name: group, clean_offset } = DeleteGroup::parse(&request.command)?;
        // 4.9 clients call the same thing `removeOffset`.
        let removes = request.command.ext.get("removeOffset") == Some("true");
        let clean_offsets = clean_offset || removes;
        broker.change(vec![Command::DeleteGroup { group: group.clone(), clean_offsets }]).await?;
        broker.pull_offsets.forget_group(&group);
        tracing::info!(group, clean_offsets, "consumer group deleted");
        Ok(RemotingCommand::response(ResponseCode::SUCCESS).into())
    })
}

/// GET_ALL_SUBSCRIPTIONGROUP_CONFIG: all groups, or one page of them.
pub(in crate::broker) fn all(broker: &Broker, request: &Request) -> Answer {
    let header = GetAllGroups::parse(&request.command)?;
    let tables = broker.tables();
    let data_version = broker.data_version(tables.groups_version());
    let page = Page::of(
        header.group_seq,
        header.max_group_num,
        header.data_version.as_deref(),
        data_version,
    );
    let subscription_group_table = page
        .cut(tables.groups())
        .map(|group| (group.name.clone(), groups::to_config(group)))
        .collect();
    let total = i32::try_from(tables.groups().count()).unwrap_or(i32::MAX);
    let body = bodies::encode(&SubscriptionGroupTable {
        data_version,
        subscription_group_table,
        ..SubscriptionGroupTable::default()
    });
    Ok(AllGroups { total_group_num: Some(total) }.answer().with_body(body).into())
}

/// GET_SUBSCRIPTIONGROUP_CONFIG. As in Java, asking creates a group if that is allowed.
pub(in crate::broker) fn one(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let group = GetGroup::parse(&request.command)?.group;
        let tables = broker.tables();
        let auto_create = broker.settings.policy(&tables).auto_create_group;
        let found = match tables.group(&group) {
            Some(found) => groups::to_config(found),
            None => {
                let new = groups::by_use(&group, auto_create, groups::count(&tables));
                let new = new.ok_or(RequestError::GroupUnknown { group })?;
                let config = groups::to_config(&new);
                broker.change(vec![Command::EnsureGroup(new)]).await?;
                config
            }
        };
        let body = bodies::encode(&found);
        Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body).into())
    })
}

/// QUERY_SUBSCRIPTION_BY_CONSUMER.
pub(in crate::broker) fn subscription(broker: &Broker, request: &Request) -> Answer {
    let header = QuerySubscription::parse(&request.command)?;
    let topic = header.topic.unwrap_or_default();
    let subscription_data = broker
        .consumers
        .read()
        .wants(&header.group)
        .and_then(|wants| wants.topics.get(&topic))
        .map(crate::broker::subscription::Subscription::data);
    let body =
        bodies::encode(&SubscriptionOfGroup { group: header.group, subscription_data, topic });
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body).into())
}
