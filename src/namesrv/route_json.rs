//! Bodies of answers that name brokers, written straight from the views.
//!
//! Two dialects: clients from 4.9.4 on read JSON; older ones get broker ids as bare numbers, as
//! their library writes and expects them. Members are in the order that Java sends.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    registration::Queues,
    routes::{GroupView, Route},
};

/// How numbers that are keys of an object are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// `{"0":…}`, which is JSON.
    Quoted,
    /// `{0:…}`, which old clients expect.
    Bare,
}

/// TopicRouteData, the answer to GET_ROUTEINFO_BY_TOPIC.
pub fn route(route: &Route, order_topic_conf: Option<&str>, keys: Keys) -> String {
    let brokers = list(route.groups.iter().map(|(group, _)| broker_data(group, keys)));
    let queues = list(route.groups.iter().map(|(group, queues)| queue_data(group, *queues)));
    let order =
        order_topic_conf.map(|conf| format!("\"orderTopicConf\":{},", text(conf))).unwrap_or_default();
    format!(
        "{{\"brokerDatas\":{brokers},\"filterServerTable\":{{}},{order}\"queueDatas\":{queues}}}"
    )
}

/// ClusterInfo, the answer to GET_BROKER_CLUSTER_INFO.
pub fn cluster_info(groups: &[GroupView], keys: Keys) -> String {
    let brokers =
        object(groups.iter().map(|group| (text(&group.name), broker_data(group, keys))));
    let mut clusters: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for group in groups {
        clusters.entry(&group.cluster).or_default().push(text(&group.name));
    }
    let clusters = object(clusters.into_iter().map(|(name, groups)| (text(name), list(groups))));
    format!("{{\"brokerAddrTable\":{brokers},\"clusterAddrTable\":{clusters}}}")
}

/// The answer to GET_BROKER_MEMBER_GROUP.
pub fn member_group(cluster: &str, name: &str, members: &Members, keys: Keys) -> String {
    let (members, name, cluster) = (addresses(members, keys), text(name), text(cluster));
    format!(
        "{{\"brokerMemberGroup\":{{\"brokerAddrs\":{members},\"brokerName\":{name},\
         \"cluster\":{cluster}}}}}"
    )
}

/// Addresses by broker id.
pub type Members = BTreeMap<u64, Arc<str>>;

fn broker_data(group: &GroupView, keys: Keys) -> String {
    let zone = group.zone.as_deref().map(|zone| format!(",\"zoneName\":{}", text(zone)));
    format!(
        "{{\"brokerAddrs\":{},\"brokerName\":{},\"cluster\":{},\"enableActingMaster\":{}{}}}",
        addresses(&group.members, keys),
        text(&group.name),
        text(&group.cluster),
        group.acting_master,
        zone.unwrap_or_default(),
    )
}

fn queue_data(group: &GroupView, queues: Queues) -> String {
    let Queues { read, write, perm, sys_flag } = queues;
    let name = text(&group.name);
    format!(
        "{{\"brokerName\":{name},\"perm\":{perm},\"readQueueNums\":{read},\
         \"topicSysFlag\":{sys_flag},\"writeQueueNums\":{write}}}"
    )
}

fn addresses(members: &Members, keys: Keys) -> String {
    object(members.iter().map(|(id, address)| match keys {
        Keys::Quoted => (format!("\"{id}\""), text(address)),
        Keys::Bare => (id.to_string(), text(address)),
    }))
}

fn object(members: impl IntoIterator<Item = (String, String)>) -> String {
    let members: Vec<_> = members.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
    format!("{{{}}}", members.join(","))
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<_> = items.into_iter().collect();
    format!("[{}]", items.join(","))
}

/// A JSON string in ASCII, as Java sends it.
fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                out.push_str(&format!("\\u{unit:04X}"));
            }),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(members: &[(u64, &str)]) -> GroupView {
        GroupView {
            name: Arc::from("RaftNode00"),
            cluster: Arc::from("RaftCluster"),
            members: members.iter().map(|(id, address)| (*id, Arc::from(*address))).collect(),
            acting_master: false,
            zone: None,
        }
    }

    const QUEUES: Queues = Queues { read: 4, write: 4, perm: 6, sys_flag: 0 };
    const MEMBERS: [(u64, &str); 3] =
        [(0, "127.0.0.1:32921"), (1, "127.0.0.1:32911"), (3, "127.0.0.1:32931")];

    #[test]
    fn routes_are_what_java_answers() {
        let data = Route { groups: vec![(group(&MEMBERS), QUEUES)] };
        let bare = r#"{"brokerDatas":[{"brokerAddrs":{0:"127.0.0.1:32921",1:"127.0.0.1:32911",3:"127.0.0.1:32931"},"brokerName":"RaftNode00","cluster":"RaftCluster","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"RaftNode00","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":4}]}"#;
        assert_eq!(route(&data, None, Keys::Bare), bare);
        let quoted =
            bare.replace("0:\"", "\"0\":\"").replace("1:\"", "\"1\":\"").replace("3:\"", "\"3\":\"");
        assert_eq!(route(&data, None, Keys::Quoted), quoted);
        let ordered = route(&data, Some("RaftNode00:4"), Keys::Quoted);
        assert!(ordered.contains(r#""filterServerTable":{},"orderTopicConf":"RaftNode00:4","q"#));
    }

    #[test]
    fn member_groups_and_clusters_are_what_java_answers() {
        let group = group(&MEMBERS);
        assert_eq!(
            member_group("RaftCluster", "RaftNode00", &group.members, Keys::Bare),
            r#"{"brokerMemberGroup":{"brokerAddrs":{0:"127.0.0.1:32921",1:"127.0.0.1:32911",3:"127.0.0.1:32931"},"brokerName":"RaftNode00","cluster":"RaftCluster"}}"#
        );
        assert_eq!(
            cluster_info(&[group], Keys::Bare),
            r#"{"brokerAddrTable":{"RaftNode00":{"brokerAddrs":{0:"127.0.0.1:32921",1:"127.0.0.1:32911",3:"127.0.0.1:32931"},"brokerName":"RaftNode00","cluster":"RaftCluster","enableActingMaster":false}},"clusterAddrTable":{"RaftCluster":["RaftNode00"]}}"#
        );
    }

    #[test]
    fn texts_are_ascii_and_read_back() {
        for plain in ["", "a\"b\\c", "größe\u{1F600}\n\u{7f}"] {
            let written = text(plain);
            assert!(written.is_ascii(), "{written}");
            assert_eq!(serde_json::from_str::<String>(&written).unwrap(), plain);
        }
    }
}
