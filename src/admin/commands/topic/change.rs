//! updateTopicPerm and updateOrderConf: one property of a topic. topicClusterList.

use std::collections::BTreeSet;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::super::{
    Session,
    brokers::{Where, leaders},
};
use crate::{
    admin::{cli::trimmed, client::ORDER_TOPIC_CONFIG, error::Error, java_text, output::Told},
    protocol::bodies::TopicConfig,
};

/// Flags of updateTopicPerm.
#[derive(Debug, Args)]
pub(in crate::admin) struct UpdateTopicPerm {
    #[command(flatten)]
    to: Where,
    /// name of the topic
    #[arg(short, long, value_parser = trimmed)]
    topic: String,
    /// permission: 2 write, 4 read, 6 both
    #[arg(short, long)]
    perm: u32,
}

/// Changes a topic's permission and nothing else.
pub(in crate::admin) async fn update_perm(
    session: &mut Session<'_>,
    args: &UpdateTopicPerm,
) -> Result<(), Error> {
    for broker in leaders(session, &args.to).await? {
        let before = session.admin.topic_config(&broker, &args.topic).await?;
        let (old, new) = (before.perm, args.perm);
        let text = if old == new {
            "new perm equals to the old one!\n".to_owned()
        } else {
            // Attributes are sent as changes: none.
            let after = TopicConfig { perm: new, attributes: Default::default(), ..before };
            session.admin.put_topic(&broker, &after).await?;
            let all = args.to.broker.is_some().then(|| format!("{}.\n", java_text::Topic(&after)));
            let all = all.unwrap_or_default();
            format!("update topic perm from {old} to {new} in {broker} success.\n{all}")
        };
        let value =
            json!({ "brokerAddr": broker, "topic": args.topic, "before": old, "perm": new });
        session.out.show(&Told::new(text, value))?;
    }
    Ok(())
}

/// Flags of updateOrderConf.
#[derive(Debug, Args)]
pub(in crate::admin) struct UpdateOrderConf {
    /// name of the topic
    #[arg(short, long, value_parser = trimmed)]
    topic: String,
    /// queues by broker group: name:queues;name:queues
    #[arg(short = 'v', long = "orderConf", value_parser = trimmed)]
    conf: Option<String>,
    /// get, put or delete
    #[arg(short, long, ignore_case = true)]
    method: Method,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Method {
    Get,
    Put,
    Delete,
}

/// Shows, sets or removes the order configuration of a topic.
pub(in crate::admin) async fn update_order(
    session: &mut Session<'_>,
    args: &UpdateOrderConf,
) -> Result<(), Error> {
    let (topic, admin) = (&args.topic, &session.admin);
    let (done, conf) = match args.method {
        Method::Get => {
            let Some(conf) = admin.kv_config(ORDER_TOPIC_CONFIG, topic).await? else {
                let text = format!("topic {topic} has no order configuration");
                return Err(Error::Unable(text));
            };
            ("get", Some(conf))
        }
        Method::Put => {
            let Some(conf) = args.conf.clone() else {
                return Err(Error::Usage("please set orderConf with option -v.".to_owned()));
            };
            admin.put_kv_config(ORDER_TOPIC_CONFIG, topic, &conf).await?;
            ("update", Some(conf))
        }
        Method::Delete => {
            admin.delete_kv_config(ORDER_TOPIC_CONFIG, topic).await?;
            ("delete", None)
        }
    };
    let shown = conf.as_ref().map(|conf| format!(", orderConf=[{conf}]")).unwrap_or_default();
    let text = format!("{done} orderConf success. topic=[{topic}]{shown}\n");
    session.out.show(&Told::new(text, json!({ "topic": topic, "orderConf": conf })))
}

/// Flags of topicClusterList.
#[derive(Debug, Args)]
pub(in crate::admin) struct TopicClusterList {
    /// name of the topic
    #[arg(short, long, value_parser = trimmed)]
    topic: String,
}

/// Lists the clusters that have a topic.
pub(in crate::admin) async fn clusters(
    session: &mut Session<'_>,
    args: &TopicClusterList,
) -> Result<(), Error> {
    let route = session.admin.route(&args.topic).await?;
    let clusters: BTreeSet<String> =
        route.broker_datas.into_iter().map(|broker| broker.cluster).collect();
    let text: String = clusters.iter().map(|cluster| format!("{cluster}\n")).collect();
    session.out.show(&Told::new(text, clusters))
}
