//! brokerConsumeStats: what all consumer groups of a broker have before them.

use std::fmt;

use clap::Args;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::diff;
use crate::{
    admin::{
        cli::{trimmed, truth},
        commands::Session,
        error::Error,
        java_text,
    },
    protocol::bodies::ConsumeStatsList,
};

/// Flags of brokerConsumeStats.
#[derive(Debug, Args)]
pub(in crate::admin) struct BrokerConsumeStats {
    /// this broker, host:port
    #[arg(short, long = "brokerAddr", value_parser = trimmed)]
    broker: String,
    /// milliseconds to wait for the answer; has no effect here
    #[arg(short, long = "timeoutMillis")]
    timeout: Option<u64>,
    /// only queues with at least this many messages before the group
    #[arg(short, long, default_value_t = 0)]
    level: i64,
    /// only orderly groups: true or false
    #[arg(short, long, value_parser = truth)]
    order: Option<bool>,
}

/// Shows a row for each queue that a group has consumed from.
pub(in crate::admin) async fn show(
    session: &mut Session<'_>,
    args: &BrokerConsumeStats,
) -> Result<(), Error> {
    let only_orderly = args.order.unwrap_or(false);
    let list = session.admin.broker_consume_stats(&args.broker, only_orderly).await?;
    let stats = Stats::of(list, args.level, &session.zone);
    session.out.show(&stats)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    queues: Vec<Row>,
    diff_total: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    topic: String,
    group: String,
    broker_name: String,
    queue_id: i32,
    broker_offset: i64,
    consumer_offset: i64,
    diff: i64,
    /// Store time of the last consumed message. Milliseconds.
    last_timestamp: i64,
    /// The same as text.
    last_time: String,
}

impl Stats {
    /// Like mqadmin, without queues that the group has not consumed anything of.
    fn of(list: ConsumeStatsList, level: i64, zone: &TimeZone) -> Self {
        let mut queues = Vec::new();
        for (group, stats) in list.consume_stats_list.into_iter().flatten() {
            for (queue, offsets) in stats.into_iter().flat_map(|stats| stats.offset_table) {
                let diff = diff(&offsets);
                if diff < level || offsets.last_timestamp <= 0 {
                    continue;
                }
                queues.push(Row {
                    topic: queue.0.topic,
                    group: group.clone(),
                    broker_name: queue.0.broker_name,
                    queue_id: queue.0.queue_id,
                    broker_offset: offsets.broker_offset,
                    consumer_offset: offsets.consumer_offset,
                    diff,
                    last_timestamp: offsets.last_timestamp,
                    last_time: java_text::time(offsets.last_timestamp, zone),
                });
            }
        }
        Self { queues, diff_total: list.total_diff }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [topic, group, broker, queue] = ["#Topic", "#Group", "#Broker Name", "#QID"];
        let [at, consumed, diff] = ["#Broker Offset", "#Consumer Offset", "#Diff"];
        writeln!(
            f,
            "{topic:<64}  {group:<64}  {broker:<32}  {queue:<4}  {at:<20}  {consumed:<20}  \
             {diff:<20}  #LastTime"
        )?;
        for row in &self.queues {
            writeln!(
                f,
                "{:<64}  {:<64}  {:<32}  {:<4}  {:<20}  {:<20}  {:<20}  {}",
                row.topic,
                row.group,
                row.broker_name,
                row.queue_id,
                row.broker_offset,
                row.consumer_offset,
                row.diff,
                row.last_time
            )?;
        }
        writeln!(f, "\nDiff Total: {}", self.diff_total)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::protocol::bodies::{ConsumeStats, MessageQueue, OffsetWrapper, QueueKey};

    #[test]
    fn rows_are_as_mqadmin_prints_them_and_small_or_untouched_queues_are_left_out() {
        let queue = |queue_id| {
            let (broker_name, topic) = ("RaftNode00".to_owned(), "T".to_owned());
            QueueKey(MessageQueue { broker_name, queue_id, topic })
        };
        let offsets = |consumer_offset, last_timestamp| OffsetWrapper {
            broker_offset: 100,
            consumer_offset,
            last_timestamp,
            pull_offset: 0,
        };
        let table = [(0, offsets(40, 1)), (1, offsets(99, 1)), (2, offsets(0, 0))];
        let stats = ConsumeStats {
            offset_table: table.map(|(id, offsets)| (queue(id), offsets)).into(),
            ..ConsumeStats::default()
        };
        let list = ConsumeStatsList {
            consume_stats_list: vec![BTreeMap::from([("G".to_owned(), vec![stats])])],
            total_diff: 161,
            ..ConsumeStatsList::default()
        };
        let text = Stats::of(list, 2, &TimeZone::UTC).to_string();
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0].first(), Some(&"#Topic"));
        let row = ["T", "G", "RaftNode00", "0", "100", "40", "60", "1970-01-01", "00:00:00"];
        assert_eq!(lines[1], row);
        assert_eq!((lines.len(), text.lines().last()), (4, Some("Diff Total: 161")));
    }
}
