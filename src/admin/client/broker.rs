//! What brokers are asked, except for messages.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

use super::{AdminClient, Answered, properties};
use crate::{
    admin::error::Error,
    protocol::{
        bodies::{
            BrokerData, ConsumeStats, ConsumerConnection, GroupList, KVTable, QueueKey,
            TopicConfig, TopicStatsTable,
        },
        codes::RequestCode,
        command::RemotingCommand,
        headers::{
            client::GetConsumerRunningInfo,
            group::{GetConsumeStats, GetConsumerConnections},
            topic::{CreateTopic, GetTopicStats, QueryTopicConsumeByWho},
        },
        names,
    },
};

/// The part of GET_CONSUMER_RUNNING_INFO's answer that is used.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::admin) struct RunningInfo {
    /// Queues that the consumer has now.
    pub(in crate::admin) mq_table: BTreeMap<QueueKey, IgnoredAny>,
}

impl AdminClient {
    /// Figures of one broker, by name.
    pub(in crate::admin) async fn runtime_info(
        &self,
        broker: &str,
    ) -> Result<BTreeMap<String, String>, Error> {
        let request = RemotingCommand::request(RequestCode::GET_BROKER_RUNTIME_INFO);
        let table: KVTable = self.read(broker, request).await?;
        Ok(table.table)
    }

    /// Settings of one broker.
    pub(in crate::admin) async fn broker_config(
        &self,
        broker: &str,
    ) -> Result<BTreeMap<String, String>, Error> {
        let request = RemotingCommand::request(RequestCode::GET_BROKER_CONFIG);
        Ok(properties(&self.ask(broker, request).await?.body))
    }

    /// Creates or changes a topic. Attributes in `topic` are changes: `+name` or `-name`.
    pub(in crate::admin) async fn put_topic(
        &self,
        broker: &str,
        topic: &TopicConfig,
    ) -> Result<(), Error> {
        let changes: Vec<String> = topic.attributes.iter().map(attribute_change).collect();
        let header = CreateTopic {
            topic: topic.topic_name.clone(),
            default_topic: names::TBW102.to_owned(),
            read_queue_nums: topic.read_queue_nums,
            write_queue_nums: topic.write_queue_nums,
            perm: topic.perm,
            topic_filter_type: topic.topic_filter_type.clone(),
            topic_sys_flag: Some(topic.topic_sys_flag),
            order: topic.order,
            attributes: Some(changes.join(",")),
            force: false,
        };
        self.ask(broker, header.request()).await.map(|_| ())
    }

    /// Bounds of a topic's queues in one broker group.
    pub(in crate::admin) async fn topic_stats(
        &self,
        group: &BrokerData,
        topic: &str,
    ) -> Result<Answered<TopicStatsTable>, Error> {
        let header = GetTopicStats { topic: topic.to_owned() };
        self.read_from_group(group, header.request()).await
    }

    /// Consumer groups of a topic.
    pub(in crate::admin) async fn groups_of_topic(
        &self,
        group: &BrokerData,
        topic: &str,
    ) -> Result<Answered<GroupList>, Error> {
        let header = QueryTopicConsumeByWho { topic: topic.to_owned() };
        self.read_from_group(group, header.request()).await
    }

    /// How far a consumer group has got in one broker group.
    pub(in crate::admin) async fn consume_stats(
        &self,
        group: &BrokerData,
        consumer_group: &str,
        topic: Option<&str>,
    ) -> Result<Answered<ConsumeStats>, Error> {
        let header = GetConsumeStats {
            consumer_group: consumer_group.to_owned(),
            topic: topic.map(str::to_owned),
            topic_list: None,
        };
        self.read_from_group(group, header.request()).await
    }

    /// Members of a consumer group that are connected to `broker`.
    pub(in crate::admin) async fn consumers(
        &self,
        broker: &str,
        consumer_group: &str,
    ) -> Result<ConsumerConnection, Error> {
        let header = GetConsumerConnections { consumer_group: consumer_group.to_owned() };
        self.read(broker, header.request()).await
    }

    /// State of a consumer that is connected to `broker`.
    pub(in crate::admin) async fn running_info(
        &self,
        broker: &str,
        consumer_group: &str,
        client_id: &str,
    ) -> Result<RunningInfo, Error> {
        let header = GetConsumerRunningInfo {
            consumer_group: consumer_group.to_owned(),
            client_id: client_id.to_owned(),
            jstack_enable: false,
        };
        self.read(broker, header.request()).await
    }
}

/// `+name=value`, or `-name`, which has no value.
fn attribute_change((name, value): (&String, &String)) -> String {
    if value.is_empty() { name.clone() } else { format!("{name}={value}") }
}
