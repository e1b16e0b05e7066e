//! Consumer groups: their settings.

use std::fmt::{self, Display};

use clap::{Args, value_parser};
use serde_json::json;

use super::{
    Session,
    brokers::{Where, leaders, on_each},
    each,
    given::{Attributes, QUEUES_MAX, attributes},
    topic::delete_everywhere,
};
use crate::{
    admin::{
        cli::{trimmed, truth},
        client::{AdminClient, leader_of},
        error::Error,
        java_text,
        output::Told,
    },
    protocol::{
        bodies::{GroupRetryPolicy, SubscriptionGroupConfig},
        names,
    },
};

/// Flags of updateSubGroup.
#[derive(Debug, Args)]
pub(in crate::admin) struct UpdateSubGroup {
    #[command(flatten)]
    to: Where,
    /// name of the consumer group
    #[arg(short, long = "groupName", value_parser = trimmed)]
    group: String,
    /// whether it may consume: true or false
    #[arg(short = 's', long = "consumeEnable", value_parser = truth)]
    enable: Option<bool>,
    /// whether it may start at the smallest offset: true or false
    #[arg(short = 'm', long = "consumeFromMinEnable", value_parser = truth)]
    from_min: Option<bool>,
    /// whether members may broadcast: true or false
    #[arg(short = 'd', long = "consumeBroadcastEnable", value_parser = truth)]
    broadcast: Option<bool>,
    /// whether messages are consumed in order: true or false
    #[arg(short = 'o', long = "consumeMessageOrderly", value_parser = truth)]
    orderly: Option<bool>,
    /// queues of the retry topic
    #[arg(short = 'q', long = "retryQueueNums", value_parser = value_parser!(i32).range(0..=QUEUES_MAX))]
    retry_queues: Option<i32>,
    /// retries before a message becomes a dead letter
    #[arg(short = 'r', long = "retryMaxTimes")]
    retries: Option<i32>,
    /// delays between retries, JSON: {"type":"CUSTOMIZED","customizedRetryPolicy":{"next":[ms,…]}}
    #[arg(short = 'p', long = "groupRetryPolicy", value_parser = retry_policy)]
    retry_policy: Option<GroupRetryPolicy>,
    /// broker id that serves pulls
    #[arg(short = 'i', long = "brokerId")]
    broker_id: Option<u64>,
    /// broker id that serves pulls of consumers that lag
    #[arg(short = 'w', long = "whichBrokerWhenConsumeSlowly")]
    slow_broker_id: Option<u64>,
    /// whether members are told when members come and go: true or false
    #[arg(short = 'a', long = "notifyConsumerIdsChanged", value_parser = truth)]
    notify: Option<bool>,
    /// attributes to set and to remove: +a=b,+c=d,-e
    #[arg(long, value_parser = attributes, allow_hyphen_values = true)]
    attributes: Option<Attributes>,
}

fn retry_policy(text: &str) -> Result<GroupRetryPolicy, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Creates or changes a consumer group.
pub(in crate::admin) async fn update(
    session: &mut Session<'_>,
    args: &UpdateSubGroup,
) -> Result<(), Error> {
    let config = group_config(args);
    let leaders = leaders(session, &args.to).await?;
    let done = on_each(session, leaders, async |admin: &AdminClient, broker: &str| {
        admin.put_group(broker, &config).await
    })
    .await?;
    let mut text: String = done
        .iter()
        .map(|broker| format!("create subscription group to {broker} success.\n"))
        .collect();
    text += &format!("{}\n", GroupText(&config));
    session.out.show(&Told::new(text, json!({ "brokers": done, "group": config })))
}

/// mqadmin starts from stricter defaults than brokers.
fn group_config(args: &UpdateSubGroup) -> SubscriptionGroupConfig {
    let base = SubscriptionGroupConfig::new(args.group.as_str());
    SubscriptionGroupConfig {
        attributes: args.attributes.clone().unwrap_or_default(),
        broker_id: args.broker_id.unwrap_or(base.broker_id),
        consume_broadcast_enable: args.broadcast.unwrap_or(false),
        consume_enable: args.enable.unwrap_or(true),
        consume_from_min_enable: args.from_min.unwrap_or(false),
        consume_message_orderly: args.orderly.unwrap_or(false),
        group_retry_policy: args.retry_policy.clone().unwrap_or_default(),
        notify_consumer_ids_changed_enable: args.notify.unwrap_or(true),
        retry_max_times: args.retries.unwrap_or(base.retry_max_times),
        retry_queue_nums: args.retry_queues.unwrap_or(base.retry_queue_nums),
        which_broker_when_consume_slowly: args
            .slow_broker_id
            .unwrap_or(base.which_broker_when_consume_slowly),
        ..base
    }
}

/// `SubscriptionGroupConfig.toString()`.
struct GroupText<'a>(&'a SubscriptionGroupConfig);

impl Display for GroupText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = fields(self.0);
        let fields: Vec<String> = fields.iter().map(|(name, v)| format!("{name}={v}")).collect();
        write!(f, "SubscriptionGroupConfig{{{}}}", fields.join(", "))
    }
}

/// Names and values, in Java's order.
fn fields(group: &SubscriptionGroupConfig) -> [(&'static str, String); 15] {
    let policy = &group.group_retry_policy;
    let json = |policy: &Option<serde_json::Value>| {
        policy.as_ref().map_or_else(|| "null".to_owned(), ToString::to_string)
    };
    let policy = format!(
        "GroupRetryPolicy{{type={}, exponentialRetryPolicy={}, customizedRetryPolicy={}}}",
        policy.kind,
        json(&policy.exponential_retry_policy),
        json(&policy.customized_retry_policy)
    );
    let subscriptions = group.subscription_data_set.as_ref().map_or_else(
        || "null".to_owned(),
        |set| java_text::list(set.iter().map(|s| format!("{}:{}", s.topic, s.expression))),
    );
    [
        ("groupName", group.group_name.clone()),
        ("consumeEnable", group.consume_enable.to_string()),
        ("consumeFromMinEnable", group.consume_from_min_enable.to_string()),
        ("consumeBroadcastEnable", group.consume_broadcast_enable.to_string()),
        ("consumeMessageOrderly", group.consume_message_orderly.to_string()),
        ("retryQueueNums", group.retry_queue_nums.to_string()),
        ("retryMaxTimes", group.retry_max_times.to_string()),
        ("groupRetryPolicy", policy),
        ("brokerId", group.broker_id.to_string()),
        ("whichBrokerWhenConsumeSlowly", group.which_broker_when_consume_slowly.to_string()),
        ("notifyConsumerIdsChangedEnable", group.notify_consumer_ids_changed_enable.to_string()),
        ("groupSysFlag", group.group_sys_flag.to_string()),
        ("consumeTimeoutMinute", group.consume_timeout_minute.to_string()),
        ("subscriptionDataSet", subscriptions),
        ("attributes", java_text::map(&group.attributes)),
    ]
}

/// Flags of deleteSubGroup.
#[derive(Debug, Args)]
pub(in crate::admin) struct DeleteSubGroup {
    #[command(flatten)]
    from: Where,
    /// name of the consumer group
    #[arg(short, long = "groupName", value_parser = trimmed)]
    group: String,
    /// whether its offsets go, too: true or false
    #[arg(short = 'r', long = "removeOffset", value_parser = truth)]
    remove_offset: Option<bool>,
}

/// Deletes a consumer group; from a cluster also its retry and dead-letter topics.
pub(in crate::admin) async fn delete(
    session: &mut Session<'_>,
    args: &DeleteSubGroup,
) -> Result<(), Error> {
    let group = &args.group;
    let with_offsets = args.remove_offset.unwrap_or(false);
    let leaders = leaders(session, &args.from).await?;
    let done = on_each(session, leaders, async |admin: &AdminClient, broker: &str| {
        admin.delete_group(broker, group, with_offsets).await
    })
    .await?;
    let place = match &args.from.cluster {
        Some(cluster) => format!(" in cluster [{cluster}]"),
        None => String::new(),
    };
    let line = |broker: &String| {
        format!("delete subscription group [{group}] from broker [{broker}]{place} success.\n")
    };
    let text: String = done.iter().map(line).collect();
    session.out.show(&Told::new(text, json!({ "brokers": done, "group": group })))?;
    if let Some(cluster) = &args.from.cluster {
        for topic in [names::retry_topic(group), names::dlq_topic(group)] {
            delete_everywhere(session, &topic, cluster).await?;
        }
    }
    Ok(())
}

/// Flags of getConsumerConfig.
#[derive(Debug, Args)]
pub(in crate::admin) struct GetConsumerConfig {
    /// name of the consumer group
    #[arg(short, long = "groupName", value_parser = trimmed)]
    group: String,
}

/// Shows the settings of a consumer group, on every broker group that has it.
pub(in crate::admin) async fn config(
    session: &mut Session<'_>,
    args: &GetConsumerConfig,
) -> Result<(), Error> {
    let info = session.admin.cluster_info().await?;
    let admin = &session.admin;
    let found = each(info.broker_addr_table.into_values(), |broker| async move {
        let config = match leader_of(&broker) {
            Ok(leader) => admin.group_config(leader, &args.group).await,
            Err(error) => Err(error),
        };
        (format!("{}:{}", broker.cluster, broker.broker_name), config)
    })
    .await;
    let (mut text, mut told) = (String::new(), serde_json::Map::new());
    for (place, config) in found {
        match config {
            Ok(Some(config)) => {
                let line = "=============================";
                text += &format!("{line}{place}{line}\n");
                for (name, value) in fields(&config) {
                    let value = if value == "null" { "" } else { &value };
                    text += &format!("{name:<40}=  {value}\n");
                }
                told.insert(place, json!(config));
            }
            Ok(None) => {}
            Err(error) => session.out.fail(&error),
        }
    }
    if told.is_empty() {
        return Err(Error::Unable(format!("no broker has a consumer group {}", args.group)));
    }
    session.out.show(&Told::new(text, told))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn a_group_is_printed_as_java_prints_it() {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: UpdateSubGroup,
        }
        let line = "x -c RaftCluster -g SubG -r 7 -q 2 -s true";
        let args = Line::parse_from(line.split(' ')).args;
        let want = "SubscriptionGroupConfig{groupName=SubG, consumeEnable=true, \
                    consumeFromMinEnable=false, consumeBroadcastEnable=false, \
                    consumeMessageOrderly=false, retryQueueNums=2, retryMaxTimes=7, \
                    groupRetryPolicy=GroupRetryPolicy{type=CUSTOMIZED, \
                    exponentialRetryPolicy=null, customizedRetryPolicy=null}, brokerId=0, \
                    whichBrokerWhenConsumeSlowly=1, notifyConsumerIdsChangedEnable=true, \
                    groupSysFlag=0, consumeTimeoutMinute=15, subscriptionDataSet=null, \
                    attributes={}}";
        assert_eq!(GroupText(&group_config(&args)).to_string(), want);
    }

    #[test]
    fn a_retry_policy_is_json() {
        let text = r#"{"type":"CUSTOMIZED","customizedRetryPolicy":{"next":[1000,5000]}}"#;
        let policy = retry_policy(text).unwrap();
        assert_eq!(policy.kind, "CUSTOMIZED");
        assert!(retry_policy("1000,5000").is_err());
    }
}
