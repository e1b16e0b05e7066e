//! statsAll: rates and backlogs, by topic and consumer group.

use std::fmt;

use clap::Args;
use serde::Serialize;

use super::{Session, consumer, each};
use crate::{
    admin::{
        cli::trimmed,
        client::{AdminClient, LEADER},
        error::Error,
    },
    protocol::{
        bodies::{BrokerData, BrokerStatsData},
        names,
    },
};

/// Flags of statsAll.
#[derive(Debug, Args)]
pub(in crate::admin) struct StatsAll {
    /// only topics with messages in or out
    #[arg(short, long = "activeTopic")]
    active: bool,
    /// only this topic
    #[arg(short, long, value_parser = trimmed)]
    topic: Option<String>,
}

/// Shows what goes in and out of topics.
pub(in crate::admin) async fn all(session: &mut Session<'_>, args: &StatsAll) -> Result<(), Error> {
    let topics = session.admin.topics().await?;
    let wanted = |topic: &String| {
        !names::is_retry_topic(topic)
            && !names::is_dlq_topic(topic)
            && args.topic.as_ref().is_none_or(|only| only == topic)
    };
    let topics: Vec<String> = topics.into_iter().filter(wanted).collect();
    if let (Some(topic), true) = (&args.topic, topics.is_empty()) {
        return Err(Error::Unable(format!("there is no topic {topic}")));
    }
    let admin = &session.admin;
    let found = each(topics, |topic| async move { (of_topic(admin, &topic).await, topic) }).await;
    let mut rows = Vec::new();
    for (of_topic, topic) in found {
        match of_topic {
            Ok(of_topic) => rows.extend(of_topic),
            Err(error) => {
                session.out.fail(&error);
                rows.push(Row { topic, ..Row::default() });
            }
        }
    }
    rows.retain(|row| !args.active || row.is_active());
    session.out.show(&Rows(rows))
}

/// One row per consumer group, one without if nobody consumes the topic.
async fn of_topic(admin: &AdminClient, topic: &str) -> Result<Vec<Row>, Error> {
    let route = admin.route(topic).await?;
    let brokers = &route.broker_datas;
    let put = counted(admin, brokers, "TOPIC_PUT_NUMS", topic).await?;
    let mut groups = std::collections::BTreeSet::new();
    for broker in brokers {
        groups.extend(admin.groups_of_topic(broker, topic).await?.answer.group_list);
    }
    let base =
        Row { topic: topic.to_owned(), in_tps: put.tps, in_24_hours: put.day, ..Row::default() };
    if groups.is_empty() {
        return Ok(vec![base]);
    }
    let mut rows = Vec::new();
    for group in groups {
        let got = counted(admin, brokers, "GROUP_GET_NUMS", &format!("{topic}@{group}")).await?;
        let (progress, _) = consumer::progress_of(admin, brokers, &group, Some(topic)).await;
        rows.push(Row {
            consumer_group: Some(group),
            accumulation: progress.diff(),
            out_tps: got.tps,
            out_24_hours: got.day,
            ..base.clone()
        });
    }
    Ok(rows)
}

/// What was counted, all members of all broker groups together.
#[derive(Debug, Default, PartialEq)]
struct Counted {
    tps: f64,
    day: i64,
}

async fn counted(
    admin: &AdminClient,
    brokers: &[BrokerData],
    statistic: &str,
    key: &str,
) -> Result<Counted, Error> {
    let mut sum = Counted::default();
    // Each member counts what came in by it, and what it served.
    for (id, member) in brokers.iter().flat_map(|broker| &broker.broker_addrs) {
        match admin.statistic(member, statistic, key).await {
            Ok(Some(data)) => {
                sum.tps += data.stats_minute.tps;
                sum.day = sum.day.saturating_add(of_day(&data));
            }
            Ok(None) => {} // a statistic exists from its first use on
            Err(error) if *id != LEADER && error.is_silence() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sum)
}

/// The sum of the longest window that has counted anything.
fn of_day(data: &BrokerStatsData) -> i64 {
    let sums = [data.stats_day.sum, data.stats_hour.sum, data.stats_minute.sum];
    sums.into_iter().find(|sum| *sum != 0).unwrap_or(0)
}

#[derive(Serialize)]
#[serde(transparent)]
struct Rows(Vec<Row>);

#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    topic: String,
    consumer_group: Option<String>,
    accumulation: i64,
    in_tps: f64,
    out_tps: f64,
    #[serde(rename = "inMsg24Hour")]
    in_24_hours: i64,
    #[serde(rename = "outMsg24Hour")]
    out_24_hours: i64,
}

impl Row {
    fn is_active(&self) -> bool {
        self.in_24_hours > 0 || self.out_24_hours > 0
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<64}  {:<64} {:>12} {:>11} {:>11} {:>14} {:>14}",
            "#Topic",
            "#Consumer Group",
            "#Accumulation",
            "#InTPS",
            "#OutTPS",
            "#InMsg24Hour",
            "#OutMsg24Hour"
        )?;
        for row in &self.0 {
            let (out_tps, out_24_hours) = match row.consumer_group {
                Some(_) => (format!("{:.2}", row.out_tps), row.out_24_hours.to_string()),
                None => (String::new(), "NO_CONSUMER".to_owned()),
            };
            writeln!(
                f,
                "{:<64}  {:<64} {:>12} {:>11.2} {:>11} {:>14} {:>14}",
                row.topic,
                row.consumer_group.as_deref().unwrap_or_default(),
                row.accumulation,
                row.in_tps,
                out_tps,
                row.in_24_hours,
                out_24_hours
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{admin::golden, protocol::bodies};

    #[test]
    fn rows_are_what_mqadmin_prints() {
        let idle = Row { topic: "AdmT".to_owned(), ..Row::default() };
        let consumed = Row {
            consumer_group: Some("please_rename_unique_group_name_4".to_owned()),
            topic: "TopicTest".to_owned(),
            ..Row::default()
        };
        assert!(!idle.is_active());
        let want = "\
#Topic                                                            #Consumer Group                                                  #Accumulation      #InTPS     #OutTPS   #InMsg24Hour  #OutMsg24Hour
AdmT                                                                                                                                          0        0.00                          0    NO_CONSUMER
TopicTest                                                         please_rename_unique_group_name_4                                           0        0.00        0.00              0              0
";
        assert_eq!(Rows(vec![idle, consumed]).to_string(), want);
    }

    #[test]
    fn the_longest_window_that_counted_is_the_day() {
        let data: BrokerStatsData =
            bodies::decode(&golden::answer("admin-view-broker-stats").body).unwrap();
        let with = |day, hour, minute| {
            let mut data = data;
            (data.stats_day.sum, data.stats_hour.sum, data.stats_minute.sum) = (day, hour, minute);
            of_day(&data)
        };
        assert_eq!([with(3, 2, 1), with(0, 2, 1), with(0, 0, 1), with(0, 0, 0)], [3, 2, 1, 0]);
    }
}
