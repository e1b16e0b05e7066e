//! Offsets of groups: reset to a time, skip what waits, copy from another group.

use std::fmt;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::{Session, brokers::on_each};
use crate::{
    admin::{
        cli::{trimmed, truth},
        client::{AdminClient, leader_of},
        error::Error,
        java_text,
        output::Told,
    },
    clock,
    protocol::{
        bodies::QueueOffsets,
        headers::{group::CloneGroupOffset, offset::ResetOffset},
        names,
    },
};

/// Stands for the end of every queue.
const END: i64 = -1;
/// Stands for all queues.
const ALL_QUEUES: i32 = -1;

/// Flags of resetOffsetByTime.
#[derive(Debug, Args)]
pub(in crate::admin) struct ResetOffsetByTime {
    /// name of the consumer group
    #[arg(short, long, value_parser = trimmed)]
    group: String,
    /// name of the topic
    #[arg(short, long, value_parser = trimmed)]
    topic: String,
    /// to the messages stored then: now, milliseconds (-1 the end), or yyyy-MM-dd#HH:mm:ss:SSS
    #[arg(short = 's', long, value_parser = trimmed, allow_hyphen_values = true)]
    timestamp: String,
    /// whether offsets may go forwards: true (the default) or false
    #[arg(short, long, value_parser = truth)]
    force: Option<bool>,
    /// ask the brokers of this cluster, or of this other topic, instead of those of the topic
    #[arg(short, long, value_parser = trimmed)]
    cluster: Option<String>,
    /// only on this broker, host:port
    #[arg(short, long, value_parser = trimmed)]
    broker: Option<String>,
    /// with -b: only this queue
    #[arg(short, long, requires = "broker")]
    queue: Option<i32>,
    /// with -q: this offset, instead of a time
    #[arg(short, long, requires = "queue")]
    offset: Option<i64>,
}

/// Moves a group's offsets to a time.
pub(in crate::admin) async fn reset(
    session: &mut Session<'_>,
    args: &ResetOffsetByTime,
) -> Result<(), Error> {
    let now_ms = clock::wall_ms();
    let Some(timestamp) = java_text::parse_time(&args.timestamp, now_ms, &session.zone) else {
        let forms = "now, milliseconds, or yyyy-MM-dd#HH:mm:ss:SSS";
        return Err(Error::Usage(format!("{} is not a time: {forms}", args.timestamp)));
    };
    let force = args.force.unwrap_or(true);
    let ResetOffsetByTime { group, topic, timestamp: text, .. } = args;
    let of_one = match &args.broker {
        Some(broker) => format!("queueId[{}], broker[{broker}]", or_null(args.queue)),
        None => format!("force[{force}]"),
    };
    session.out.say(format!(
        "start reset consumer offset by specified, group[{group}], topic[{topic}], {of_one}, \
         timestamp(string)[{text}], timestamp(long)[{timestamp}]\n"
    ))?;
    if let Some(offset) = args.offset {
        session.out.say(format!("reset consumer offset to {offset}\n"))?;
    }
    let header = ResetOffset {
        group: group.clone(),
        topic: topic.clone(),
        queue_id: args.queue.unwrap_or(ALL_QUEUES),
        offset: args.offset,
        timestamp,
        is_force: force,
    };
    let brokers = match &args.broker {
        Some(broker) => vec![broker.clone()],
        None => leaders_of_topic(session, args.cluster.as_ref().unwrap_or(topic)).await?,
    };
    reset_on(session, brokers, &header).await
}

fn or_null(number: Option<i32>) -> String {
    number.map_or_else(|| "null".to_owned(), |number| number.to_string())
}

/// Flags of skipAccumulatedMessage.
#[derive(Debug, Args)]
pub(in crate::admin) struct SkipAccumulated {
    /// name of the consumer group
    #[arg(short, long, value_parser = trimmed)]
    group: String,
    /// name of the topic
    #[arg(short, long, value_parser = trimmed)]
    topic: String,
    /// whether offsets may go forwards: true (the default) or false
    #[arg(short, long, value_parser = truth)]
    force: Option<bool>,
    /// ask the brokers of this cluster, or of this other topic, instead of those of the topic
    #[arg(short, long, value_parser = trimmed)]
    cluster: Option<String>,
}

/// Moves a group's offsets to the end.
pub(in crate::admin) async fn skip(
    session: &mut Session<'_>,
    args: &SkipAccumulated,
) -> Result<(), Error> {
    let brokers = leaders_of_topic(session, args.cluster.as_ref().unwrap_or(&args.topic)).await?;
    let header = ResetOffset {
        group: args.group.clone(),
        topic: args.topic.clone(),
        queue_id: ALL_QUEUES,
        offset: None,
        timestamp: END,
        is_force: args.force.unwrap_or(true),
    };
    reset_on(session, brokers, &header).await
}

/// Leaders of the broker groups that have `topic`. Groups without one are told.
async fn leaders_of_topic(session: &mut Session<'_>, topic: &str) -> Result<Vec<String>, Error> {
    let route = session.admin.route(topic).await?;
    let mut leaders = Vec::new();
    for broker in &route.broker_datas {
        match leader_of(broker) {
            Ok(leader) => leaders.push(leader.to_owned()),
            Err(error) => session.out.fail(&error),
        }
    }
    if leaders.is_empty() {
        return Err(Error::Unable(format!("no broker group that has {topic} has a leader")));
    }
    Ok(leaders)
}

async fn reset_on(
    session: &mut Session<'_>,
    brokers: Vec<String>,
    header: &ResetOffset,
) -> Result<(), Error> {
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    let asked = brokers.len();
    for broker in brokers {
        match session.admin.reset_offset(&broker, header).await {
            Ok(offsets) => rows.extend(rows_of(offsets)),
            Err(error) => failures.push(error),
        }
    }
    let own = if failures.len() == asked { failures.pop() } else { None };
    failures.iter().for_each(|error| session.out.fail(error));
    if let Some(error) = own {
        return Err(error);
    }
    rows.sort_by(|a, b| (&a.broker_name, a.queue_id).cmp(&(&b.broker_name, b.queue_id)));
    session.out.show(&Rows(rows))
}

fn rows_of(offsets: QueueOffsets) -> impl Iterator<Item = Row> {
    offsets.offset_table.into_iter().map(|(queue, offset)| Row {
        broker_name: queue.0.broker_name,
        queue_id: queue.0.queue_id,
        offset,
    })
}

#[derive(Serialize)]
#[serde(transparent)]
struct Rows(Vec<Row>);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    broker_name: String,
    queue_id: i32,
    offset: i64,
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<40}  {:<40}  {:<40}", "#brokerName", "#queueId", "#offset")?;
        for Row { broker_name, queue_id, offset } in &self.0 {
            writeln!(f, "{broker_name:<40}  {queue_id:<40}  {offset:<40}")?;
        }
        Ok(())
    }
}

/// Flags of cloneGroupOffset.
#[derive(Debug, Args)]
pub(in crate::admin) struct CloneOffset {
    /// group whose offsets are copied
    #[arg(short, long = "srcGroup", value_parser = trimmed)]
    source: String,
    /// group that gets them
    #[arg(short, long = "destGroup", value_parser = trimmed)]
    dest: String,
    /// name of the topic
    #[arg(short, long, value_parser = trimmed)]
    topic: String,
    /// whether the group or the topic is offline: true or false
    #[arg(short, long, value_parser = truth)]
    offline: Option<bool>,
}

/// Copies a group's offsets.
pub(in crate::admin) async fn clone(
    session: &mut Session<'_>,
    args: &CloneOffset,
) -> Result<(), Error> {
    let CloneOffset { source, dest, topic, .. } = args;
    let brokers = leaders_of_topic(session, &names::retry_topic(source)).await?;
    let header = CloneGroupOffset {
        src_group: source.clone(),
        dest_group: dest.clone(),
        topic: Some(topic.clone()),
        offline: args.offline.unwrap_or(true),
    };
    let done = on_each(session, brokers, async |admin: &AdminClient, broker: &str| {
        admin.clone_offset(broker, &header).await
    })
    .await?;
    let text = format!(
        "clone group offset success. srcGroup[{source}], destGroup=[{dest}], topic[{topic}]\n"
    );
    session.out.show(&Told::new(text, json!({ "brokers": done })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{admin::golden, protocol::bodies};

    #[test]
    fn new_offsets_are_printed_as_mqadmin_does() {
        let rows = Rows(vec![Row { broker_name: "RaftNode00".to_owned(), queue_id: 1, offset: 7 }]);
        let want = "\
#brokerName                               #queueId                                  #offset                                 
RaftNode00                                1                                         7                                       
";
        assert_eq!(rows.to_string(), want);
    }

    #[test]
    fn what_java_answers_is_understood() {
        for name in ["admin-reset-offset-java", "admin-reset-offset-server-side"] {
            let offsets = bodies::decode(&golden::answer(name).body).unwrap();
            assert!(rows_of(offsets).next().is_some(), "{name}");
        }
    }
}
