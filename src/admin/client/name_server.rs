//! What name servers are asked: one of them for what all know, each of them for changes.

use std::collections::BTreeMap;

use super::{AdminClient, LEADER, body, properties};
use crate::{
    admin::error::Error,
    protocol::{
        bodies::{BrokerData, ClusterInfo, TopicList, TopicRouteData},
        codes::{RequestCode, ResponseCode},
        command::RemotingCommand,
        headers::{
            namesrv::{
                AddWritePerm, AddWritePermAnswer, DeleteKvConfig, DeleteTopicInNamesrv,
                GetKvConfig, KvConfig, PutKvConfig, WipeWritePerm, WipeWritePermAnswer,
            },
            route::GetRoute,
        },
        names,
    },
};

/// Namespace of the queues of globally ordered topics.
pub(in crate::admin) const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";

impl AdminClient {
    /// All clusters, broker groups and their members. Without ingress slots, which are members of
    /// groups once more.
    pub(in crate::admin) async fn cluster_info(&self) -> Result<ClusterInfo, Error> {
        let request = RemotingCommand::request(RequestCode::GET_BROKER_CLUSTER_INFO);
        let mut info: ClusterInfo = self.read_from_name_server(request).await?;
        info.broker_addr_table.retain(|name, _| !names::is_slot(name));
        Ok(info)
    }

    /// The same as one name server has it.
    pub(in crate::admin) async fn cluster_info_of(
        &self,
        name_server: &str,
    ) -> Result<ClusterInfo, Error> {
        let request = RemotingCommand::request(RequestCode::GET_BROKER_CLUSTER_INFO);
        let mut info: ClusterInfo = self.read(name_server, request).await?;
        info.broker_addr_table.retain(|name, _| !names::is_slot(name));
        Ok(info)
    }

    /// Where `topic` is. Without ingress slots: who asks every group would ask theirs twice.
    pub(in crate::admin) async fn route(&self, topic: &str) -> Result<TopicRouteData, Error> {
        let mut route = self.route_as_told(topic).await?;
        route.broker_datas.retain(|broker| !names::is_slot(&broker.broker_name));
        route.queue_datas.retain(|queues| !names::is_slot(&queues.broker_name));
        Ok(route)
    }

    /// What clients are told of `topic`.
    pub(in crate::admin) async fn route_as_told(
        &self,
        topic: &str,
    ) -> Result<TopicRouteData, Error> {
        let standard = Some(true);
        let header = GetRoute {
            topic: topic.to_owned(),
            accept_standard_json_only: standard,
            ..GetRoute::default()
        };
        self.read_from_name_server(header.request()).await
    }

    /// Names of all topics, sorted.
    pub(in crate::admin) async fn topics(&self) -> Result<Vec<String>, Error> {
        let request = RemotingCommand::request(RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER);
        let list: TopicList = self.read_from_name_server(request).await?;
        let mut topics = list.topic_list;
        topics.sort_unstable();
        topics.dedup();
        Ok(topics)
    }

    /// The value of `key`, if it has one.
    pub(in crate::admin) async fn kv_config(
        &self,
        namespace: &str,
        key: &str,
    ) -> Result<Option<String>, Error> {
        let header = GetKvConfig { namespace: namespace.to_owned(), key: key.to_owned() };
        let answered = match self.ask_first(self.name_servers(), &header.request()).await {
            Ok(answered) => answered,
            Err(error) if error.code() == Some(ResponseCode::QUERY_NOT_FOUND) => return Ok(None),
            Err(error) => return Err(error),
        };
        let unreadable =
            |cause| Error::unreadable(&answered.address, RequestCode::GET_KV_CONFIG, cause);
        Ok(KvConfig::parse(&answered.answer).map_err(unreadable)?.value)
    }

    /// Sets a value on every name server.
    pub(in crate::admin) async fn put_kv_config(
        &self,
        namespace: &str,
        key: &str,
        value: &str,
    ) -> Result<(), Error> {
        let header = PutKvConfig {
            namespace: namespace.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
        };
        self.tell_all_name_servers(&header.request()).await
    }

    /// Removes a value from every name server.
    pub(in crate::admin) async fn delete_kv_config(
        &self,
        namespace: &str,
        key: &str,
    ) -> Result<(), Error> {
        let header = DeleteKvConfig { namespace: namespace.to_owned(), key: key.to_owned() };
        self.tell_all_name_servers(&header.request()).await
    }

    /// Makes every name server forget `topic` in `cluster`.
    pub(in crate::admin) async fn forget_topic(
        &self,
        topic: &str,
        cluster: &str,
    ) -> Result<(), Error> {
        let header = DeleteTopicInNamesrv {
            topic: topic.to_owned(),
            cluster_name: Some(cluster.to_owned()),
        };
        self.tell_all_name_servers(&header.request()).await
    }

    /// Takes the write bit from all topics of a broker group, on one name server. Number of topics.
    pub(in crate::admin) async fn wipe_write_perm(
        &self,
        name_server: &str,
        broker_name: &str,
    ) -> Result<i32, Error> {
        let header = WipeWritePerm { broker_name: broker_name.to_owned() };
        let answer = self.ask(name_server, header.request()).await?;
        let header = WipeWritePermAnswer::parse(&answer).map_err(|cause| {
            Error::unreadable(name_server, RequestCode::WIPE_WRITE_PERM_OF_BROKER, cause)
        })?;
        Ok(header.wipe_topic_count)
    }

    /// Gives the write bit back. Number of topics.
    pub(in crate::admin) async fn add_write_perm(
        &self,
        name_server: &str,
        broker_name: &str,
    ) -> Result<i32, Error> {
        let header = AddWritePerm { broker_name: broker_name.to_owned() };
        let answer = self.ask(name_server, header.request()).await?;
        let header = AddWritePermAnswer::parse(&answer).map_err(|cause| {
            Error::unreadable(name_server, RequestCode::ADD_WRITE_PERM_OF_BROKER, cause)
        })?;
        Ok(header.add_topic_count)
    }

    /// Settings of one name server.
    pub(in crate::admin) async fn name_server_config(
        &self,
        name_server: &str,
    ) -> Result<BTreeMap<String, String>, Error> {
        let request = RemotingCommand::request(RequestCode::GET_NAMESRV_CONFIG);
        Ok(properties(&self.ask(name_server, request).await?.body))
    }

    /// Changes one setting of every name server.
    pub(in crate::admin) async fn update_name_server_config(
        &self,
        key: &str,
        value: &str,
    ) -> Result<(), Error> {
        let request = RemotingCommand::request(RequestCode::UPDATE_NAMESRV_CONFIG);
        self.tell_all_name_servers(&request.with_body(format!("{key}={value}\n"))).await
    }

    async fn read_from_name_server<T: serde::de::DeserializeOwned>(
        &self,
        request: RemotingCommand,
    ) -> Result<T, Error> {
        let answered = self.ask_first(self.name_servers(), &request).await?;
        body(&answered.address, request.request_code(), &answered.answer)
    }

    /// All of them are told, even when one does not answer; the first failure is the result.
    async fn tell_all_name_servers(&self, request: &RemotingCommand) -> Result<(), Error> {
        let mut outcome = Ok(());
        for name_server in self.name_servers() {
            outcome = outcome.and(self.ask(name_server, request.clone()).await.map(|_| ()));
        }
        outcome
    }
}

/// Broker groups of `cluster`, by name. Unknown cluster: an error that says which there are.
pub(in crate::admin) fn groups_of<'a>(
    info: &'a ClusterInfo,
    cluster: &str,
) -> Result<Vec<&'a BrokerData>, Error> {
    let Some(names) = info.cluster_addr_table.get(cluster) else {
        let known: Vec<&str> = info.cluster_addr_table.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let text = format!("there is no cluster {cluster}; the name server knows: {known}");
        return Err(Error::Unable(text));
    };
    Ok(names.iter().filter_map(|name| info.broker_addr_table.get(name)).collect())
}

/// Address of whoever leads `group`.
pub(in crate::admin) fn leader_of(group: &BrokerData) -> Result<&str, Error> {
    group.broker_addrs.get(&LEADER).map(String::as_str).ok_or_else(|| {
        let members: Vec<&str> = group.broker_addrs.values().map(String::as_str).collect();
        Error::Unable(format!(
            "broker group {} has no leader at the moment (members that are known: {})",
            group.broker_name,
            if members.is_empty() { "none".to_owned() } else { members.join(", ") }
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn info() -> ClusterInfo {
        let group = BrokerData {
            broker_addrs: BTreeMap::from([(0, "h:1".to_owned()), (2, "h:3".to_owned())]),
            broker_name: "RaftNode00".to_owned(),
            cluster: "RaftCluster".to_owned(),
            ..BrokerData::default()
        };
        let names = BTreeSet::from(["RaftNode00".to_owned(), "gone".to_owned()]);
        ClusterInfo {
            broker_addr_table: BTreeMap::from([("RaftNode00".to_owned(), group)]),
            cluster_addr_table: BTreeMap::from([("RaftCluster".to_owned(), names)]),
        }
    }

    #[test]
    fn groups_are_found_by_their_cluster_and_an_unknown_one_names_those_there_are() {
        let info = info();
        let groups = groups_of(&info, "RaftCluster").unwrap();
        assert_eq!(groups.len(), 1);
        assert_eq!(leader_of(groups[0]).unwrap(), "h:1");
        let unknown = groups_of(&info, "raftcluster").unwrap_err().to_string();
        assert!(unknown.ends_with("knows: RaftCluster"), "{unknown}");
    }

    #[test]
    fn a_group_without_leader_names_its_members() {
        let mut group = info().broker_addr_table.remove("RaftNode00").unwrap();
        group.broker_addrs.remove(&0);
        let error = leader_of(&group).unwrap_err().to_string();
        assert!(error.contains("no leader") && error.contains("h:3"), "{error}");
    }
}
