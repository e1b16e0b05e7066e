//! What brokers are asked, except for messages.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

use super::{AdminClient, Answered, properties};
use crate::{
    admin::error::Error,
    protocol::{
        bodies::{
            self, BrokerData, BrokerStatsData, ConsumeQueueBody, ConsumeStats, ConsumeStatsList,
            ConsumerConnection, GroupConfigList, GroupList, GroupMembers, KVTable,
            LeaderChangesBody, MemberFacts, MemberPlan, ProducerConnection, ProducerTable,
            QueueKey, QueueOffsets, SubscriptionGroupConfig, SubscriptionGroupTable, TopicConfig,
            TopicConfigList, TopicConfigTable, TopicStatsTable,
        },
        codes::{RequestCode, ResponseCode},
        command::RemotingCommand,
        headers::{
            admin::{GetBrokerConsumeStats, TransferLeader, TransferLeaderAnswer, ViewBrokerStats},
            client::GetConsumerRunningInfo,
            group::{
                CloneGroupOffset, DeleteGroup, GetAllGroups, GetConsumeStats,
                GetConsumerConnections, GetProducerConnections,
            },
            offset::ResetOffset,
            query::QueryConsumeQueue,
            topic::{
                CreateTopic, DeleteTopic, GetAllTopicConfig, GetTopicConfig, GetTopicStats,
                QueryTopicConsumeByWho,
            },
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

    /// Deletes a topic from a broker.
    pub(in crate::admin) async fn delete_topic(
        &self,
        broker: &str,
        topic: &str,
    ) -> Result<(), Error> {
        let header = DeleteTopic { topic: topic.to_owned() };
        self.ask(broker, header.request()).await.map(|_| ())
    }

    /// A topic's configuration.
    pub(in crate::admin) async fn topic_config(
        &self,
        broker: &str,
        topic: &str,
    ) -> Result<TopicConfig, Error> {
        let header = GetTopicConfig { topic: topic.to_owned() };
        match self.read(broker, header.request()).await {
            // Before 5.0 only all topics could be asked for.
            Err(error) if error.code() == Some(ResponseCode::REQUEST_CODE_NOT_SUPPORTED) => {
                let header = GetAllTopicConfig::default();
                let mut all: TopicConfigTable = self.read(broker, header.request()).await?;
                all.topic_config_table.remove(topic).ok_or_else(|| {
                    Error::Unable(format!("broker {broker} does not have topic {topic}"))
                })
            }
            found => found,
        }
    }

    /// Creates or changes topics, all or none.
    pub(in crate::admin) async fn put_topics(
        &self,
        broker: &str,
        topics: &TopicConfigList,
    ) -> Result<(), Error> {
        let request = RemotingCommand::request(RequestCode::UPDATE_AND_CREATE_TOPIC_LIST);
        self.ask(broker, request.with_body(bodies::encode(topics))).await.map(|_| ())
    }

    /// Creates or changes consumer groups, all or none.
    pub(in crate::admin) async fn put_groups(
        &self,
        broker: &str,
        groups: &GroupConfigList,
    ) -> Result<(), Error> {
        let code = RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST;
        let request = RemotingCommand::request(code).with_body(bodies::encode(groups));
        self.ask(broker, request).await.map(|_| ())
    }

    /// Progress of all consumer groups, or of the orderly ones.
    pub(in crate::admin) async fn broker_consume_stats(
        &self,
        broker: &str,
        only_orderly: bool,
    ) -> Result<ConsumeStatsList, Error> {
        let header = GetBrokerConsumeStats { is_order: only_orderly };
        self.read(broker, header.request()).await
    }

    /// Creates or changes a consumer group.
    pub(in crate::admin) async fn put_group(
        &self,
        broker: &str,
        group: &SubscriptionGroupConfig,
    ) -> Result<(), Error> {
        let request = RemotingCommand::request(RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP);
        self.ask(broker, request.with_body(bodies::encode(group))).await.map(|_| ())
    }

    /// Deletes a consumer group.
    pub(in crate::admin) async fn delete_group(
        &self,
        broker: &str,
        group: &str,
        clean_offset: bool,
    ) -> Result<(), Error> {
        let header = DeleteGroup { group_name: group.to_owned(), clean_offset };
        self.ask(broker, header.request()).await.map(|_| ())
    }

    /// A consumer group's configuration. All groups are asked for: asking for one creates it.
    pub(in crate::admin) async fn group_config(
        &self,
        broker: &str,
        group: &str,
    ) -> Result<Option<SubscriptionGroupConfig>, Error> {
        let header = GetAllGroups::default();
        let mut all: SubscriptionGroupTable = self.read(broker, header.request()).await?;
        Ok(all.subscription_group_table.remove(group))
    }

    /// Changes one setting of a broker.
    pub(in crate::admin) async fn update_broker_config(
        &self,
        broker: &str,
        key: &str,
        value: &str,
    ) -> Result<(), Error> {
        let request = RemotingCommand::request(RequestCode::UPDATE_BROKER_CONFIG);
        self.ask(broker, request.with_body(format!("{key}={value}\n"))).await.map(|_| ())
    }

    /// Has a group's leader, which `broker` is, hand leadership over.
    pub(in crate::admin) async fn transfer_leader(
        &self,
        broker: &str,
        to: Option<&str>,
    ) -> Result<TransferLeaderAnswer, Error> {
        let header = TransferLeader { to: to.map(str::to_owned) };
        let answer = self.ask(broker, header.request()).await?;
        TransferLeaderAnswer::parse(&answer)
            .map_err(|cause| Error::unreadable(broker, RequestCode::TRANSFER_LEADER, cause))
    }

    /// The changes of the leader that a member saw.
    pub(in crate::admin) async fn leader_changes(
        &self,
        broker: &str,
    ) -> Result<LeaderChangesBody, Error> {
        self.read(broker, RemotingCommand::request(RequestCode::GET_LEADER_CHANGES)).await
    }

    /// What a member knows of itself and of its peers.
    pub(in crate::admin) async fn member_facts(&self, broker: &str) -> Result<MemberFacts, Error> {
        self.read(broker, RemotingCommand::request(RequestCode::GET_MEMBER_FACTS)).await
    }

    /// The members of the group that `broker` belongs to.
    pub(in crate::admin) async fn group_members(
        &self,
        broker: &str,
    ) -> Result<GroupMembers, Error> {
        self.read(broker, RemotingCommand::request(RequestCode::LIST_MEMBERS)).await
    }

    /// Has a group's leader, which `broker` is, change who its members are; what happens then.
    pub(in crate::admin) async fn change_members(
        &self,
        broker: &str,
        request: RemotingCommand,
    ) -> Result<MemberPlan, Error> {
        self.read(broker, request).await
    }

    /// A request that has neither header nor body.
    pub(in crate::admin) async fn plain(
        &self,
        broker: &str,
        request: RequestCode,
    ) -> Result<(), Error> {
        self.ask(broker, RemotingCommand::request(request)).await.map(|_| ())
    }

    /// A statistic; none before its first use.
    pub(in crate::admin) async fn statistic(
        &self,
        broker: &str,
        name: &str,
        key: &str,
    ) -> Result<Option<BrokerStatsData>, Error> {
        let header = ViewBrokerStats { stats_name: name.to_owned(), stats_key: key.to_owned() };
        match self.read(broker, header.request()).await {
            Ok(data) => Ok(Some(data)),
            Err(error) if error.code() == Some(ResponseCode::SYSTEM_ERROR) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Moves a group's offsets. The new ones.
    pub(in crate::admin) async fn reset_offset(
        &self,
        broker: &str,
        header: &ResetOffset,
    ) -> Result<QueueOffsets, Error> {
        self.read(broker, header.request()).await
    }

    /// Copies a group's offsets to another.
    pub(in crate::admin) async fn clone_offset(
        &self,
        broker: &str,
        header: &CloneGroupOffset,
    ) -> Result<(), Error> {
        self.ask(broker, header.request()).await.map(|_| ())
    }

    /// Members of a producer group that are connected to `broker`.
    pub(in crate::admin) async fn producers(
        &self,
        broker: &str,
        producer_group: &str,
    ) -> Result<ProducerConnection, Error> {
        let header = GetProducerConnections { producer_group: producer_group.to_owned() };
        self.read(broker, header.request()).await
    }

    /// All producers that are connected to `broker`.
    pub(in crate::admin) async fn all_producers(
        &self,
        broker: &str,
    ) -> Result<ProducerTable, Error> {
        self.read(broker, RemotingCommand::request(RequestCode::GET_ALL_PRODUCER_INFO)).await
    }

    /// Units of a ConsumeQueue.
    pub(in crate::admin) async fn consume_queue(
        &self,
        broker: &str,
        header: &QueryConsumeQueue,
    ) -> Result<ConsumeQueueBody, Error> {
        self.read(broker, header.request()).await
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
