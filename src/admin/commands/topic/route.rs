//! topicRoute: where a topic's queues are, as JSON or as a list.

use std::{collections::BTreeMap, fmt};

use clap::Args;
use serde::{Serialize, Serializer};

use super::super::Session;
use crate::{
    admin::{cli::trimmed, error::Error, fastjson, java_text},
    protocol::bodies::TopicRouteData,
};

/// Flags of topicRoute.
#[derive(Debug, Args)]
pub(in crate::admin) struct TopicRoute {
    /// name of the topic
    #[arg(short, long, value_parser = trimmed)]
    topic: String,
    /// as a list, instead of the answer as it is
    #[arg(short, long)]
    list: bool,
}

/// Shows a topic's route.
pub(in crate::admin) async fn route(
    session: &mut Session<'_>,
    args: &TopicRoute,
) -> Result<(), Error> {
    let route = session.admin.route_as_told(&args.topic).await?;
    if args.list { session.out.show(&List::of(&route)) } else { session.out.show(&AsItIs(route)) }
}

struct AsItIs(TopicRouteData);

impl Serialize for AsItIs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl fmt::Display for AsItIs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", fastjson::pretty(&self.0))
    }
}

/// One row per broker group, and their sum.
#[derive(Serialize)]
#[serde(transparent)]
struct List(Vec<Row>);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    cluster_name: String,
    broker_name: String,
    broker_addrs: BTreeMap<u64, String>,
    read_queues: u32,
    write_queues: u32,
    perm: u32,
}

impl List {
    fn of(route: &TopicRouteData) -> Self {
        let mut rows: Vec<Row> = route
            .queue_datas
            .iter()
            .map(|queues| {
                let broker =
                    route.broker_datas.iter().find(|b| b.broker_name == queues.broker_name);
                Row {
                    cluster_name: broker.map(|b| b.cluster.clone()).unwrap_or_default(),
                    broker_name: queues.broker_name.clone(),
                    broker_addrs: broker.map(|b| b.broker_addrs.clone()).unwrap_or_default(),
                    read_queues: queues.read_queue_nums,
                    write_queues: queues.write_queue_nums,
                    perm: queues.perm,
                }
            })
            .collect();
        rows.sort_by(|a, b| a.broker_name.cmp(&b.broker_name));
        Self(rows)
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |columns: [&str; 6]| {
            let [cluster, broker, addresses, read, write, perm] = columns;
            writeln!(
                f,
                "{cluster:<45} {broker:<32} {addresses:<50} {read:<10} {write:<11} {perm:<5}"
            )
        };
        line([
            "#ClusterName",
            "#BrokerName",
            "#BrokerAddrs",
            "#ReadQueue",
            "#WriteQueue",
            "#Perm",
        ])?;
        let (mut read, mut write) = (0_u64, 0_u64);
        for row in &self.0 {
            read += u64::from(row.read_queues);
            write += u64::from(row.write_queues);
            line([
                &row.cluster_name,
                &row.broker_name,
                &java_text::map(&row.broker_addrs),
                &row.read_queues.to_string(),
                &row.write_queues.to_string(),
                &row.perm.to_string(),
            ])?;
        }
        let dash = "-".repeat(158);
        let total = self.0.len().to_string();
        writeln!(f, "{dash}")?;
        writeln!(f, "{:<45} {total:<32} {:<50} {read:<10} {write:<11} {:<5}", "Total:", "", "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{admin::golden, protocol::bodies};

    fn route(names: &[&str]) -> TopicRouteData {
        let brokers = names.iter().map(|name| bodies::BrokerData {
            broker_addrs: BTreeMap::from([(0, "127.0.0.1:30921".to_owned())]),
            broker_name: (*name).to_owned(),
            cluster: "RaftCluster".to_owned(),
            ..bodies::BrokerData::default()
        });
        let queues = names.iter().map(|name| bodies::QueueData {
            broker_name: (*name).to_owned(),
            perm: 6,
            read_queue_nums: 3,
            write_queue_nums: 2,
            ..bodies::QueueData::default()
        });
        TopicRouteData {
            broker_datas: brokers.collect(),
            queue_datas: queues.collect(),
            ..TopicRouteData::default()
        }
    }

    #[test]
    fn the_answer_is_printed_as_java_prints_it() {
        let want = "{\n\t\"brokerDatas\":[\n\t\t{\n\t\t\t\"brokerAddrs\":{\n\t\t\t\t0:\"127.0.0.1:30921\"\n\t\t\t},\n\t\t\t\"brokerName\":\"RaftNode00\",\n\t\t\t\"cluster\":\"RaftCluster\",\n\t\t\t\"enableActingMaster\":false\n\t\t}\n\t],\n\t\"filterServerTable\":{},\n\t\"queueDatas\":[\n\t\t{\n\t\t\t\"brokerName\":\"RaftNode00\",\n\t\t\t\"perm\":6,\n\t\t\t\"readQueueNums\":3,\n\t\t\t\"topicSysFlag\":0,\n\t\t\t\"writeQueueNums\":2\n\t\t}\n\t]\n}\n";
        let route = AsItIs(route(&["RaftNode00"]));
        assert_eq!(route.to_string(), want);
        let json = serde_json::to_value(&route).unwrap();
        assert_eq!(json["brokerDatas"][0]["brokerAddrs"]["0"], "127.0.0.1:30921");
    }

    #[test]
    fn the_list_is_what_mqadmin_prints() {
        let want = "\
#ClusterName                                  #BrokerName                      #BrokerAddrs                                       #ReadQueue #WriteQueue #Perm
RaftCluster                                   a                                {0=127.0.0.1:30921}                                3          2           6    
RaftCluster                                   b                                {0=127.0.0.1:30921}                                3          2           6    
--------------------------------------------------------------------------------------------------------------------------------------------------------------
Total:                                        2                                                                                   6          4                
";
        assert_eq!(List::of(&route(&["b", "a"])).to_string(), want);
    }

    #[test]
    fn queues_of_an_unknown_broker_are_listed_too() {
        let mut route = route(&["a"]);
        route.broker_datas.clear();
        assert!(List::of(&route).to_string().contains("{}"));
    }

    #[test]
    fn routes_of_every_java_release_are_understood() {
        for name in
            ["namesrv-route-java55", "namesrv-route-java49", "namesrv-route-old-client-unquoted"]
        {
            let route: TopicRouteData = bodies::decode(&golden::answer(name).body).unwrap();
            assert!(!List::of(&route).0.is_empty(), "{name}");
        }
    }
}
