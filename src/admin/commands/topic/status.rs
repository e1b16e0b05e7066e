//! topicStatus: the bounds of a topic's queues.

use std::fmt;

use clap::Args;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::super::{Session, each};
use crate::{
    admin::{cli::trimmed, error::Error, java_text},
    protocol::bodies::TopicStatsTable,
};

/// Flags of topicStatus.
#[derive(Debug, Args)]
pub(in crate::admin) struct TopicStatus {
    /// name of the topic
    #[arg(short, long, value_parser = trimmed)]
    topic: String,
    /// ask the brokers of this cluster, or of this other topic, instead of those of the topic
    #[arg(short, long, value_parser = trimmed)]
    cluster: Option<String>,
}

/// Shows a topic's queues.
pub(in crate::admin) async fn status(
    session: &mut Session<'_>,
    args: &TopicStatus,
) -> Result<(), Error> {
    // Every cluster has a topic of its name, on all of its brokers.
    let route = session.admin.route(args.cluster.as_ref().unwrap_or(&args.topic)).await?;
    let admin = &session.admin;
    let brokers = &route.broker_datas;
    let tables = each(brokers, |broker| admin.topic_stats(broker, &args.topic)).await;
    let mut heard = Vec::new();
    for table in tables {
        match table {
            Ok(answered) => heard.push(session.answered(answered)),
            Err(error) => session.out.fail(&error),
        }
    }
    if heard.is_empty() {
        let text = format!("no broker told the status of topic {}", args.topic);
        return Err(Error::Unable(text));
    }
    session.out.show(&Status::of(heard, &session.zone))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    queues: Vec<Queue>,
    topic_put_tps: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Queue {
    broker_name: String,
    queue_id: i32,
    min_offset: i64,
    max_offset: i64,
    /// Milliseconds; 0 for an empty queue.
    last_update_timestamp: i64,
    /// The same as text.
    last_updated: String,
}

impl Status {
    /// All broker groups in one table.
    fn of(tables: Vec<TopicStatsTable>, zone: &TimeZone) -> Self {
        let topic_put_tps = tables.iter().map(|table| table.topic_put_tps).sum();
        let queues = tables.into_iter().flat_map(|table| table.offset_table);
        let mut queues: Vec<Queue> = queues
            .map(|(queue, offset)| Queue {
                broker_name: queue.0.broker_name,
                queue_id: queue.0.queue_id,
                min_offset: offset.min_offset,
                max_offset: offset.max_offset,
                last_update_timestamp: offset.last_update_timestamp,
                last_updated: if offset.last_update_timestamp > 0 {
                    java_text::time_with_ms(offset.last_update_timestamp, zone)
                } else {
                    String::new()
                },
            })
            .collect();
        queues.sort_by(|a, b| (&a.broker_name, a.queue_id).cmp(&(&b.broker_name, b.queue_id)));
        Self { queues, topic_put_tps }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = ["#Broker Name", "#QID", "#Min Offset", "#Max Offset", "#Last Updated"];
        let [broker, queue, min, max, updated] = titles;
        writeln!(f, "{broker:<32}  {queue:<4}  {min:<20}  {max:<20}    {updated}")?;
        for row in &self.queues {
            writeln!(
                f,
                "{:<32}  {:<4}  {:<20}  {:<20}    {}",
                row.broker_name, row.queue_id, row.min_offset, row.max_offset, row.last_updated
            )?;
        }
        writeln!(f, "\nTopic Put TPS: {}", java_text::double(self.topic_put_tps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{admin::golden, protocol::bodies};

    #[test]
    fn what_java_answers_is_printed_as_mqadmin_does() {
        let table = bodies::decode(&golden::answer("admin-topic-stats-mqadmin").body).unwrap();
        let status = Status::of(vec![table, TopicStatsTable::default()], &TimeZone::UTC);
        let want = "\
#Broker Name                      #QID  #Min Offset           #Max Offset             #Last Updated
broker-a                          0     0                     3                       2026-11-21 03:10:36,499

Topic Put TPS: 0.0
";
        assert_eq!(status.to_string(), want);
    }

    #[test]
    fn queues_are_sorted_and_empty_ones_have_no_time() {
        let table = |broker: &str, queue: i32| {
            let json = format!(
                r#"{{"offsetTable":{{{{"brokerName":"{broker}","queueId":{queue},"topic":"T"}}:
                {{"lastUpdateTimestamp":0,"maxOffset":0,"minOffset":0}}}},"topicPutTps":0.25}}"#
            );
            bodies::decode::<TopicStatsTable>(json.as_bytes()).unwrap()
        };
        let status = Status::of(vec![table("b", 0), table("a", 10), table("a", 2)], &TimeZone::UTC);
        let text = status.to_string();
        let rows: Vec<&str> = text.lines().collect();
        assert!(rows[1].starts_with("a                                 2 "), "{text}");
        assert!(rows[2].starts_with("a                                 10 "), "{text}");
        assert_eq!(
            rows[3],
            "b                                 0     0                     0                       "
        );
        assert_eq!(rows[5], "Topic Put TPS: 0.75");
    }
}
