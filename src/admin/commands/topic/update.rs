//! updateTopic: create or change a topic on one broker, or on all leaders of a cluster.

use std::{collections::BTreeMap, fmt};

use clap::{Args, value_parser};
use serde::Serialize;

use super::super::{
    Session,
    brokers::{Where, leaders, on_each},
    given::{Attributes, QUEUES_MAX, attributes},
};
use crate::{
    admin::{
        cli::{trimmed, truth},
        client::{AdminClient, ORDER_TOPIC_CONFIG, groups_of},
        error::Error,
        java_text,
    },
    protocol::bodies::{ClusterInfo, TopicConfig},
};

/// Flags of updateTopic.
#[derive(Debug, Args)]
pub(in crate::admin) struct UpdateTopic {
    #[command(flatten)]
    to: Where,
    /// attributes to set and to remove: +a=b,+c=d,-e
    #[arg(short, long, value_parser = attributes, allow_hyphen_values = true)]
    attributes: Option<Attributes>,
    /// name of the topic
    #[arg(short, long, value_parser = trimmed)]
    topic: String,
    /// queues that consumers see, default 8
    #[arg(short, long = "readQueueNums", value_parser = value_parser!(u32).range(1..=QUEUES_MAX))]
    read_queues: Option<u32>,
    /// queues that producers see, default 8
    #[arg(short, long = "writeQueueNums", value_parser = value_parser!(u32).range(1..=QUEUES_MAX))]
    write_queues: Option<u32>,
    /// permission: 2 write, 4 read, 6 both (the default)
    #[arg(short, long)]
    perm: Option<u32>,
    /// whether messages are ordered over the whole topic: true or false
    #[arg(short, long, value_parser = truth)]
    pub(in crate::admin) order: Option<bool>,
    /// whether it is a unit topic: true or false
    #[arg(short, long, value_parser = truth)]
    unit: Option<bool>,
    /// whether it has unit subscriptions: true or false
    #[arg(short = 's', long = "hasUnitSub", value_parser = truth)]
    has_unit_sub: Option<bool>,
}

/// mqadmin's, whatever brokers' own default is.
const QUEUES: u32 = 8;
const UNIT: i32 = 1;
const HAS_UNIT_SUB: i32 = 2;

/// Creates or changes a topic.
pub(in crate::admin) async fn update(
    session: &mut Session<'_>,
    args: UpdateTopic,
) -> Result<(), Error> {
    let topic = topic_config(&args);
    let set_of_broker = match &args.to.broker {
        Some(broker) => order_of_broker(session, broker, &topic).await?,
        None => None,
    };
    let leaders = leaders(session, &args.to).await?;
    let brokers = on_each(session, leaders, async |admin: &AdminClient, broker: &str| {
        admin.put_topic(broker, &topic).await
    })
    .await?;
    let order = match &args.to.cluster {
        Some(cluster) => order_of_cluster(session, cluster, &topic).await?,
        None => set_of_broker,
    };
    session.out.show(&Created { brokers, order, topic: TopicView(topic) })
}

fn topic_config(args: &UpdateTopic) -> TopicConfig {
    let bit = |flag: Option<bool>, bit| if flag == Some(true) { bit } else { 0 };
    let base = TopicConfig::new(args.topic.as_str(), QUEUES);
    TopicConfig {
        attributes: args.attributes.clone().unwrap_or_default(),
        order: args.order.unwrap_or(false),
        perm: args.perm.unwrap_or(base.perm),
        read_queue_nums: args.read_queues.unwrap_or(QUEUES),
        write_queue_nums: args.write_queues.unwrap_or(QUEUES),
        topic_sys_flag: bit(args.unit, UNIT) | bit(args.has_unit_sub, HAS_UNIT_SUB),
        ..base
    }
}

/// Makes the queues of all broker groups the order configuration of an ordered topic.
async fn order_of_cluster(
    session: &mut Session<'_>,
    cluster: &str,
    topic: &TopicConfig,
) -> Result<Option<Order>, Error> {
    if !topic.order {
        return Ok(None);
    }
    let info = session.admin.cluster_info().await?;
    let groups = groups_of(&info, cluster)?;
    let names = groups.iter().map(|group| group.broker_name.as_str());
    let conf = order_conf(names.map(|name| (name, topic.write_queue_nums)));
    session.admin.put_kv_config(ORDER_TOPIC_CONFIG, &topic.topic_name, &conf).await?;
    Ok(Some(Order { of: OrderOf::Cluster, conf }))
}

/// Adds the broker's queues to the order configuration of an ordered topic.
async fn order_of_broker(
    session: &mut Session<'_>,
    broker: &str,
    topic: &TopicConfig,
) -> Result<Option<Order>, Error> {
    if !topic.order {
        return Ok(None);
    }
    let info = session.admin.cluster_info().await?;
    let Some(name) = broker_name_of(&info, broker) else {
        let text =
            format!("no broker group has a member {broker}: an ordered topic needs its name");
        return Err(Error::Unable(text));
    };
    let before = session.admin.kv_config(ORDER_TOPIC_CONFIG, &topic.topic_name).await?;
    let all = with_queues(&before.unwrap_or_default(), name, topic.write_queue_nums);
    session.admin.put_kv_config(ORDER_TOPIC_CONFIG, &topic.topic_name, &all).await?;
    let conf = format!("{name}:{}", topic.write_queue_nums);
    Ok(Some(Order { of: OrderOf::Broker, conf }))
}

fn broker_name_of<'a>(info: &'a ClusterInfo, address: &str) -> Option<&'a str> {
    let mut groups = info.broker_addr_table.values();
    let group = groups.find(|group| group.broker_addrs.values().any(|member| member == address))?;
    Some(&group.broker_name)
}

/// `before` (`broker:queues;…`) with the queues of `broker` set.
fn with_queues(before: &str, broker: &str, queues: u32) -> String {
    let mut all: BTreeMap<&str, &str> =
        before.split(';').filter_map(|entry| entry.split_once(':')).collect();
    let queues = queues.to_string();
    all.insert(broker, &queues);
    order_conf(all)
}

fn order_conf<N: fmt::Display, Q: fmt::Display>(
    entries: impl IntoIterator<Item = (N, Q)>,
) -> String {
    let entries: Vec<String> =
        entries.into_iter().map(|(name, queues)| format!("{name}:{queues}")).collect();
    entries.join(";")
}

/// A topic that was created, on which brokers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    brokers: Vec<String>,
    order: Option<Order>,
    topic: TopicView,
}

#[derive(Serialize)]
struct Order {
    #[serde(skip)]
    of: OrderOf,
    conf: String,
}

#[derive(Clone, Copy)]
enum OrderOf {
    Broker,
    Cluster,
}

#[derive(Serialize)]
#[serde(transparent)]
struct TopicView(TopicConfig);

impl fmt::Display for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = |f: &mut fmt::Formatter<'_>, order: &Order| {
            let of = match order.of {
                OrderOf::Broker => "broker",
                OrderOf::Cluster => "cluster",
            };
            writeln!(f, "set {of} orderConf. isOrder=true, orderConf=[{}]", order.conf)
        };
        if let Some(set @ Order { of: OrderOf::Broker, .. }) = &self.order {
            order(f, set)?;
        }
        for broker in &self.brokers {
            writeln!(f, "create topic to {broker} success.")?;
        }
        if let Some(set @ Order { of: OrderOf::Cluster, .. }) = &self.order {
            order(f, set)?;
        }
        writeln!(f, "{}", java_text::Topic(&self.topic.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(order: Option<Order>) -> Created {
        let topic = TopicConfig { order: order.is_some(), ..TopicConfig::new("AdmO", 2) };
        Created { brokers: vec!["127.0.0.1:30921".to_owned()], order, topic: TopicView(topic) }
    }

    #[test]
    fn success_is_told_as_mqadmin_tells_it() {
        let config = "TopicConfig [topicName=AdmO, readQueueNums=2, writeQueueNums=2, perm=RW-, \
                      topicFilterType=SINGLE_TAG, topicSysFlag=0, order=";
        let plain = created(None).to_string();
        let want =
            format!("create topic to 127.0.0.1:30921 success.\n{config}false, attributes={{}}]\n");
        assert_eq!(plain, want);
        let conf = "RaftNode00:2".to_owned();
        let of_cluster = created(Some(Order { of: OrderOf::Cluster, conf: conf.clone() }));
        let want = format!(
            "create topic to 127.0.0.1:30921 success.\n\
             set cluster orderConf. isOrder=true, orderConf=[RaftNode00:2]\n\
             {config}true, attributes={{}}]\n"
        );
        assert_eq!(of_cluster.to_string(), want);
        let of_broker = created(Some(Order { of: OrderOf::Broker, conf })).to_string();
        assert!(of_broker.starts_with("set broker orderConf. isOrder=true"), "{of_broker}");
    }

    #[test]
    fn a_broker_is_added_to_the_order_of_others() {
        let rows =
            [("", "a:4"), ("a:2", "a:4"), ("b:8;a:2", "a:4;b:8"), ("b:8;nonsense;", "a:4;b:8")];
        for (before, want) in rows {
            assert_eq!(with_queues(before, "a", 4), want, "{before}");
        }
    }

    #[test]
    fn flags_become_a_topic() {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: UpdateTopic,
        }
        let line = "x -t T -c C -w 2 -p 4 -u true -s TRUE -a +message.type=FIFO,-old";
        let args = Line::parse_from(line.split(' ')).args;
        let topic = topic_config(&args);
        assert_eq!((topic.read_queue_nums, topic.write_queue_nums, topic.perm), (8, 2, 4));
        assert_eq!((topic.topic_sys_flag, topic.order), (3, false));
        assert_eq!(java_text::map(&topic.attributes), "{+message.type=FIFO, -old=}");
    }
}
