//! consumerProgress: how far consumer groups have got, one of them by queue or all in a list.
//! brokerConsumeStats: all of a broker, by queue.

mod groups;
pub(in crate::admin) mod of_broker;
mod queues;

use std::collections::BTreeMap;

use clap::Args;

use super::Session;
use crate::{
    admin::{
        cli::{trimmed, truth},
        client::{AdminClient, Answered},
        error::Error,
    },
    protocol::{
        bodies::{BrokerData, ConsumeStats, ConsumerConnection, MessageQueue, OffsetWrapper},
        codes::ResponseCode,
        names,
    },
};

/// Flags of consumerProgress.
#[derive(Debug, Args)]
pub(in crate::admin) struct ConsumerProgress {
    /// name of the consumer group; without it: all groups, one line each
    #[arg(short, long = "groupName", value_parser = trimmed)]
    group: Option<String>,
    /// only in this topic
    #[arg(short, long = "topicName", value_parser = trimmed, requires = "group")]
    topic: Option<String>,
    /// with the address of the consumer that has the queue: true or false
    #[arg(short, long = "showClientIP", value_parser = truth)]
    show_client_ip: Option<bool>,
    /// ask the brokers of this cluster, or of this topic, instead of those of the retry topic
    #[arg(short, long, value_parser = trimmed)]
    cluster: Option<String>,
}

/// Shows progress.
pub(in crate::admin) async fn progress(
    session: &mut Session<'_>,
    args: &ConsumerProgress,
) -> Result<(), Error> {
    match &args.group {
        Some(group) => queues::show(session, args, group).await,
        None => groups::show(session).await,
    }
}

/// Broker groups that may know `group`: those that have its retry topic. Before name servers have
/// heard of that topic: all of them.
pub(super) async fn brokers_of(
    admin: &AdminClient,
    group: &str,
    instead: Option<&str>,
) -> Result<Vec<BrokerData>, Error> {
    let topic = instead.map_or_else(|| names::retry_topic(group), str::to_owned);
    match admin.route(&topic).await {
        Ok(route) => Ok(route.broker_datas),
        Err(error) if error.code() == Some(ResponseCode::TOPIC_NOT_EXIST) && instead.is_none() => {
            Ok(admin.cluster_info().await?.broker_addr_table.into_values().collect())
        }
        Err(error) => Err(error),
    }
}

/// A group's progress in all of its broker groups.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Messages per second.
    tps: f64,
    /// By topic, broker group, queue.
    queues: BTreeMap<QueuePlace, OffsetWrapper>,
}

/// A queue, in the order in which queues are listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct QueuePlace {
    topic: String,
    broker_name: String,
    queue_id: i32,
}

impl From<MessageQueue> for QueuePlace {
    fn from(queue: MessageQueue) -> Self {
        let MessageQueue { broker_name, queue_id, topic } = queue;
        Self { topic, broker_name, queue_id }
    }
}

impl Progress {
    fn add(&mut self, stats: ConsumeStats) {
        self.tps += stats.consume_tps;
        self.queues.extend(
            stats.offset_table.into_iter().map(|(queue, offsets)| (queue.0.into(), offsets)),
        );
    }

    /// Adds what another member of the same broker group has served: it is known there only.
    fn add_served(&mut self, stats: &ConsumeStats) {
        self.tps += stats.consume_tps;
        for (queue, served) in &stats.offset_table {
            if let Some(known) = self.queues.get_mut(&QueuePlace::from(queue.0.clone())) {
                let pulled = served.pull_offset.min(known.broker_offset);
                known.pull_offset = known.pull_offset.max(pulled);
            }
        }
    }

    /// The group's offset in a queue.
    pub(super) fn offset_of(&self, topic: &str, broker_name: &str, queue_id: i32) -> Option<i64> {
        let place =
            QueuePlace { topic: topic.to_owned(), broker_name: broker_name.to_owned(), queue_id };
        self.queues.get(&place).map(|offsets| offsets.consumer_offset)
    }

    /// Messages that wait, all queues.
    pub(super) fn diff(&self) -> i64 {
        self.queues.values().map(diff).fold(0, i64::saturating_add)
    }

    /// Messages that consumers have and have not confirmed, all queues.
    fn inflight(&self) -> i64 {
        self.queues.values().map(inflight).fold(0, i64::saturating_add)
    }
}

fn diff(offsets: &OffsetWrapper) -> i64 {
    offsets.broker_offset.saturating_sub(offsets.consumer_offset)
}

fn inflight(offsets: &OffsetWrapper) -> i64 {
    offsets.pull_offset.saturating_sub(offsets.consumer_offset)
}

/// Progress of `group` in `brokers`, and what did not work.
pub(super) async fn progress_of(
    admin: &AdminClient,
    brokers: &[BrokerData],
    group: &str,
    topic: Option<&str>,
) -> (Progress, Vec<Error>) {
    let (mut progress, mut failures) = (Progress::default(), Vec::new());
    for broker in brokers {
        match admin.consume_stats(broker, group, topic).await {
            Ok(Answered { answer, in_vain, address }) => {
                progress.add(answer);
                // Those before it were asked in vain.
                let asked = broker.broker_addrs.iter().skip_while(|(_, other)| **other != address);
                for (id, other) in asked.skip(1) {
                    let broker_addrs = [(*id, other.clone())].into();
                    let other = BrokerData { broker_addrs, ..broker.clone() };
                    // Who does not answer has served nobody lately.
                    if let Ok(served) = admin.consume_stats(&other, group, topic).await {
                        progress.add_served(&served.answer);
                    }
                }
                failures.extend(in_vain);
            }
            Err(error) => failures.push(error),
        }
    }
    (progress, failures)
}

/// Members of `group`, and the broker that has told them. Consumers connect to every broker, so
/// the first one that knows any is enough.
pub(super) async fn members_of(
    admin: &AdminClient,
    brokers: &[BrokerData],
    group: &str,
) -> Result<Option<(String, ConsumerConnection)>, Error> {
    let mut failure = None;
    for address in brokers.iter().flat_map(|broker| broker.broker_addrs.values()) {
        match admin.consumers(address, group).await {
            Ok(members) => return Ok(Some((address.clone(), members))),
            Err(error) if error.code() == Some(ResponseCode::CONSUMER_NOT_ONLINE) => {}
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(None), Err)
}
