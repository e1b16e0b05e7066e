//! Topics: create and change (17, 18), delete (215), list (21, 305, 343), one (351), who consumes
//! it (300).

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use crate::protocol::bodies::{
    self, DataVersion, GroupList, TopicConfig, TopicConfigList, TopicConfigTable, TopicList,
};
use crate::protocol::codes::ResponseCode;
use crate::protocol::command::RemotingCommand;
use crate::protocol::headers::group::QueryTopicsByConsumer;
use crate::protocol::headers::topic::{
    AllTopicConfig, CreateTopic, DeleteTopic, GetAllTopicConfig, GetTopicConfig,
    QueryTopicConsumeByWho,
};
use crate::raft::command::{Command, Topic};
use crate::raft::tables::Version;

use crate::broker::dispatch::{Answer, Request};
use crate::broker::error::RequestError;
use crate::broker::topics::AttributeChange;
use crate::broker::{Broker, announcement, system_topics, topics};

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// UPDATE_AND_CREATE_TOPIC.
pub(in crate::broker) fn update(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let header = CreateTopic::parse(&request.command)?;
        let change = header.attributes.as_deref().unwrap_or_default();
        let AttributeChange { set, removed } =
            topics::attribute_change(change).map_err(RequestError::Parameter)?;
        let config = TopicConfig {
            attributes: set,
            order: header.order,
            perm: header.perm,
            read_queue_nums: header.read_queue_nums,
            topic_filter_type: header.topic_filter_type,
            topic_name: header.topic,
            topic_sys_flag: header.topic_sys_flag.unwrap_or(0),
            write_queue_nums: header.write_queue_nums,
        };
        let change = |topic| Command::ChangeTopic { topic, removed: removed.clone() };
        put(&broker, vec![config], change).await
    })
}

/// UPDATE_AND_CREATE_TOPIC_LIST: all of them or none.
pub(in crate::broker) fn update_list(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let list: TopicConfigList = bodies::decode(&request.command.body).map_err(|error| {
            RequestError::Body { what: "a list of topics", why: error.to_string() }
        })?;
        put(&broker, list.topic_config_list, Command::PutTopic).await
    })
}

async fn put(
    broker: &Broker,
    configs: Vec<TopicConfig>,
    command: impl Fn(Topic) -> Command,
) -> Answer {
    let names: Vec<String> = configs.iter().map(|config| config.topic_name.clone()).collect();
    let mut new = Vec::with_capacity(configs.len());
    for config in configs {
        let topic = topics::from_config(config).map_err(RequestError::Parameter)?;
        refuse_protected(broker, &topic.name)?;
        new.push(topic);
    }
    let tables = broker.tables();
    if !announcement::fits(&tables.all_topics(), new.iter()) {
        let text = format!(
            "no room for {} topics beside {}: names and settings of all have to fit into the 16 MiB \
             of a registration with name servers; delete some first",
            names.len(),
            tables.topic_count(),
        );
        return Err(RequestError::Parameter(text));
    }
    let commands = new.into_iter().map(command).collect();
    broker.change(commands).await?;
    broker.announcer.tell(&broker.tables()).await;
    tracing::info!(topics = names.join(","), "topics created or changed");
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).into())
}

fn refuse_protected(broker: &Broker, topic: &str) -> Result<(), RequestError> {
    if system_topics::is_protected(&broker.system_topics, topic) {
        let text = format!("The topic[{topic}] is conflict with system topic.");
        return Err(RequestError::Parameter(text));
    }
    Ok(())
}

/// DELETE_TOPIC_IN_BROKER. Deleting what is not there succeeds.
pub(in crate::broker) fn delete(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let topic = DeleteTopic::parse(&request.command)?.topic;
        if topic.trim().is_empty() {
            return Err(RequestError::Parameter("The specified topic is blank.".to_owned()));
        }
        refuse_protected(&broker, &topic)?;
        broker.be_current().await?;
        if broker.tables().topic(&topic).is_some() {
            broker.change(vec![Command::DeleteTopic { topic: topic.clone() }]).await?;
            broker.stats.traffic.forget_topic(&topic);
            broker.pull_offsets.forget_topic(&topic);
            broker.announcer.tell(&broker.tables()).await;
            tracing::info!(topic, "topic deleted");
        }
        Ok(RemotingCommand::response(ResponseCode::SUCCESS).into())
    })
}

/// GET_ALL_TOPIC_CONFIG: all topics, or one page of them.
pub(in crate::broker) fn all(broker: &Broker, request: &Request) -> Answer {
    let header = GetAllTopicConfig::parse(&request.command)?;
    let tables = broker.tables();
    let data_version = broker.data_version(tables.topics_version());
    let page = Page::of(
        header.topic_seq,
        header.max_topic_num,
        header.data_version.as_deref(),
        data_version,
    );
    let topic_config_table = page
        .cut(tables.topics())
        .map(|topic| (topic.name.clone(), topics::to_config(topic)))
        .collect();
    let total = i32::try_from(tables.topics().count()).unwrap_or(i32::MAX);
    let body = TopicConfigTable { data_version, topic_config_table, ..TopicConfigTable::default() };
    let answer = AllTopicConfig { total_topic_num: Some(total) }.answer();
    Ok(answer.with_body(bodies::encode(&body)).into())
}

/// A page of a list that is asked for piece by piece.
pub(super) struct Page {
    skip: usize,
    take: usize,
}

impl Page {
    /// The page that starts at `first`, of at most `count`; without `first` everything. When the
    /// list has changed since the pages before, it starts at the beginning.
    pub(super) fn of(
        first: Option<i32>,
        count: Option<i32>,
        version_before: Option<&str>,
        version: DataVersion,
    ) -> Self {
        let Some(first) = first else { return Self { skip: 0, take: usize::MAX } };
        let unchanged = version_before
            .and_then(|text| bodies::decode::<DataVersion>(text.as_bytes()).ok())
            .is_none_or(|before| before == version);
        let take = count.and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
        Self {
            skip: if unchanged { usize::try_from(first).unwrap_or(0) } else { 0 },
            take: take.unwrap_or(usize::MAX),
        }
    }

    /// The items on this page.
    pub(super) fn cut<T>(&self, items: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
        items.skip(self.skip).take(self.take)
    }
}

/// GET_TOPIC_CONFIG.
pub(in crate::broker) fn one(broker: &Broker, request: &Request) -> Answer {
    let topic = GetTopicConfig::parse(&request.command)?.topic;
    let tables = broker.tables();
    let Some(config) = tables.topic(&topic) else {
        return Err(RequestError::TopicUnknown { topic });
    };
    let body = bodies::encode(&topics::to_config(config));
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body).into())
}

/// GET_SYSTEM_TOPIC_LIST_FROM_BROKER.
pub(in crate::broker) fn system(broker: &Broker, _: &Request) -> Answer {
    let topic_list = system_topics::listed(&broker.system_topics);
    let body = bodies::encode(&TopicList { broker_addr: None, topic_list });
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body).into())
}

/// QUERY_TOPIC_CONSUME_BY_WHO: groups with members that want it, and groups with offsets in it.
pub(in crate::broker) fn consumed_by(broker: &Broker, request: &Request) -> Answer {
    let topic = QueryTopicConsumeByWho::parse(&request.command)?.topic;
    let mut group_list: BTreeSet<String> =
        broker.consumers.read().groups_of(&topic).map(str::to_owned).collect();
    let tables = broker.tables();
    let with_offsets = tables.offsets().filter(|(_, of, _)| ***of == *topic);
    group_list.extend(with_offsets.map(|(group, _, _)| group.to_string()));
    let body = bodies::encode(&GroupList { group_list });
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body).into())
}

/// QUERY_TOPICS_BY_CONSUMER: topics in which a group has offsets.
pub(in crate::broker) fn of_consumer(broker: &Broker, request: &Request) -> Answer {
    let group = QueryTopicsByConsumer::parse(&request.command)?.group;
    let tables = broker.tables();
    let topic_list = tables.offsets_of(&group).map(|(topic, _)| topic.to_string()).collect();
    let broker_addr = Some(broker.identity.address.clone());
    let body = bodies::encode(&TopicList { broker_addr, topic_list });
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body).into())
}

impl Broker {
    /// A version as tools and name servers see it: of two leaders' tables that of the later term
    /// counts.
    pub(in crate::broker) fn data_version(&self, version: Version) -> DataVersion {
        DataVersion {
            counter: i64::try_from(version.counter).unwrap_or(i64::MAX),
            state_version: i64::try_from(self.group.role().term().0).unwrap_or(i64::MAX),
            timestamp: version.at_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_start_over_when_the_list_has_changed() {
        let version = DataVersion { counter: 3, state_version: 1, timestamp: 9 };
        let same = r#"{"counter":3,"stateVersion":1,"timestamp":9}"#;
        let other = r#"{"counter":2,"stateVersion":1,"timestamp":8}"#;
        let rows = [
            (None, None, None, 0..10),
            (Some(0), Some(4), None, 0..4),
            (Some(4), Some(4), Some(same), 4..8),
            (Some(8), Some(4), Some(same), 8..10),
            (Some(4), Some(4), Some(other), 0..4),
            (Some(-1), Some(-1), Some("?"), 0..10),
            (Some(99), Some(4), Some(same), 10..10),
        ];
        for (first, count, before, want) in rows {
            let page = Page::of(first, count, before, version);
            assert_eq!(page.cut(0..10).collect::<Vec<_>>(), want.collect::<Vec<_>>(), "{first:?}");
        }
    }
}
