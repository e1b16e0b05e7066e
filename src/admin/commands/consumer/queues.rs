//! One group, queue by queue.

use std::{collections::BTreeMap, fmt};

use jiff::tz::TimeZone;
use serde::Serialize;

use super::{
    ConsumerProgress, Progress, QueuePlace, brokers_of, diff, inflight, members_of, progress_of,
};
use crate::{
    admin::{
        commands::{Session, each},
        error::Error,
        java_text,
    },
    protocol::bodies::BrokerData,
};

pub(super) async fn show(
    session: &mut Session<'_>,
    args: &ConsumerProgress,
    group: &str,
) -> Result<(), Error> {
    let brokers = brokers_of(&session.admin, group, args.cluster.as_deref()).await?;
    let (progress, failures) =
        progress_of(&session.admin, &brokers, group, args.topic.as_deref()).await;
    failures.iter().for_each(|error| session.out.fail(error));
    if progress.queues.is_empty() {
        let topic = args.topic.as_ref().map(|topic| format!(" of topic {topic}"));
        return Err(Error::Unable(format!(
            "no broker has an offset of group {group}{}: it may never have consumed, or have \
             another name (consumerProgress without -g lists the groups)",
            topic.unwrap_or_default()
        )));
    }
    let owners = match args.show_client_ip {
        Some(true) => Some(owners(session, &brokers, group).await),
        _ => None,
    };
    session.out.show(&Queues::of(&progress, owners.as_ref(), &session.zone))
}

/// Address of the consumer that has a queue.
type Owners = BTreeMap<QueuePlace, String>;

/// Asks every member which queues it has. What cannot be found out is missing.
async fn owners(session: &mut Session<'_>, brokers: &[BrokerData], group: &str) -> Owners {
    let (address, members) = match members_of(&session.admin, brokers, group).await {
        Ok(Some(found)) => found,
        Ok(None) => return Owners::new(),
        Err(error) => {
            session.out.fail(&error);
            return Owners::new();
        }
    };
    let (admin, address) = (&session.admin, address.as_str());
    let states = each(members.connection_set, |member| async move {
        let state = admin.running_info(address, group, &member.client_id).await;
        (member.client_id, state)
    })
    .await;
    let mut owners = Owners::new();
    for (client_id, state) in states {
        match state {
            Ok(state) => {
                let ip = ip_of(&client_id);
                owners.extend(state.mq_table.into_keys().map(|q| (q.0.into(), ip.to_owned())));
            }
            Err(error) => session.out.fail(&error),
        }
    }
    owners
}

/// Client ids are `ip@process`.
fn ip_of(client_id: &str) -> &str {
    client_id.split('@').next().unwrap_or(client_id)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Queues {
    queues: Vec<Queue>,
    consume_tps: f64,
    diff_total: i64,
    inflight_total: i64,
    #[serde(skip)]
    with_clients: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Queue {
    topic: String,
    broker_name: String,
    queue_id: i32,
    broker_offset: i64,
    consumer_offset: i64,
    #[serde(rename = "clientIP")]
    client_ip: Option<String>,
    diff: i64,
    inflight: i64,
    /// Store time of the last consumed message; 0 without one. Milliseconds.
    last_timestamp: i64,
    /// The same as text.
    last_time: Option<String>,
}

impl Queues {
    fn of(progress: &Progress, owners: Option<&Owners>, zone: &TimeZone) -> Self {
        let queues = progress.queues.iter().map(|(place, offsets)| Queue {
            topic: place.topic.clone(),
            broker_name: place.broker_name.clone(),
            queue_id: place.queue_id,
            broker_offset: offsets.broker_offset,
            consumer_offset: offsets.consumer_offset,
            client_ip: owners.and_then(|owners| owners.get(place).cloned()),
            diff: diff(offsets),
            inflight: inflight(offsets),
            last_timestamp: offsets.last_timestamp,
            last_time: (offsets.last_timestamp != 0)
                .then(|| java_text::time(offsets.last_timestamp, zone)),
        });
        Self {
            queues: queues.collect(),
            consume_tps: progress.tps,
            diff_total: progress.diff(),
            inflight_total: progress.inflight(),
            with_clients: owners.is_some(),
        }
    }
}

const NOT_KNOWN: &str = "N/A";

impl fmt::Display for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = |text: &str| {
            if self.with_clients { format!("{text:<20} ") } else { String::new() }
        };
        let [topic, broker, queue, end, offset, diff, inflight, time] = [
            "#Topic",
            "#Broker Name",
            "#QID",
            "#Broker Offset",
            "#Consumer Offset",
            "#Diff",
            "#Inflight",
            "#LastTime",
        ];
        let client_title = client("#Client IP");
        writeln!(
            f,
            "{topic:<64}  {broker:<32}  {queue:<4}  {end:<20}  {offset:<20}  {client_title}\
             {diff:<20} {inflight:<20}{time}"
        )?;
        for row in &self.queues {
            writeln!(
                f,
                "{:<64}  {:<32}  {:<4}  {:<20}  {:<20}  {}{:<20} {:<20} {}",
                row.topic,
                row.broker_name,
                row.queue_id,
                row.broker_offset,
                row.consumer_offset,
                client(row.client_ip.as_deref().unwrap_or(NOT_KNOWN)),
                row.diff,
                row.inflight,
                row.last_time.as_deref().unwrap_or(NOT_KNOWN)
            )?;
        }
        write!(
            f,
            "\nConsume TPS: {:.2}\nConsume Diff Total: {}\nConsume Inflight Total: {}\n",
            self.consume_tps, self.diff_total, self.inflight_total
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{admin::golden, protocol::bodies};

    fn progress(json: &str) -> Progress {
        let mut progress = Progress::default();
        progress.add(bodies::decode(json.as_bytes()).unwrap());
        progress
    }

    /// What a Java broker answered when mqadmin printed the lines of the tests below.
    fn two_queues() -> Progress {
        progress(
            r#"{"consumeTps":0.15,"offsetTable":{
            {"brokerName":"RaftNode00","queueId":1,"topic":"TopicTest"}:
              {"brokerOffset":1,"consumerOffset":1,"lastTimestamp":1795265199980,"pullOffset":1},
            {"brokerName":"RaftNode00","queueId":0,"topic":"TopicTest"}:
              {"brokerOffset":2,"consumerOffset":2,"lastTimestamp":1795265216000,"pullOffset":2}}}"#,
        )
    }

    #[test]
    fn queues_are_printed_as_mqadmin_does() {
        let want = "\
#Topic                                                            #Broker Name                      #QID  #Broker Offset        #Consumer Offset      #Diff                #Inflight           #LastTime
TopicTest                                                         RaftNode00                        0     2                     2                     0                    0                    2026-11-21 12:46:56
TopicTest                                                         RaftNode00                        1     1                     1                     0                    0                    2026-11-21 12:46:39

Consume TPS: 0.15
Consume Diff Total: 0
Consume Inflight Total: 0
";
        assert_eq!(Queues::of(&two_queues(), None, &TimeZone::UTC).to_string(), want);
    }

    #[test]
    fn consumers_are_printed_as_mqadmin_does() {
        let place = QueuePlace {
            topic: "TopicTest".to_owned(),
            broker_name: "RaftNode00".to_owned(),
            queue_id: 0,
        };
        let owners = Owners::from([(place, ip_of("192.0.2.2@363#5163021081879").to_owned())]);
        let text = Queues::of(&two_queues(), Some(&owners), &TimeZone::UTC).to_string();
        let want = "\
#Topic                                                            #Broker Name                      #QID  #Broker Offset        #Consumer Offset      #Client IP           #Diff                #Inflight           #LastTime
TopicTest                                                         RaftNode00                        0     2                     2                     192.0.2.2            0                    0                    2026-11-21 12:46:56
TopicTest                                                         RaftNode00                        1     1                     1                     N/A                  0                    0                    2026-11-21 12:46:39
";
        assert!(text.starts_with(want), "{text}");
    }

    #[test]
    fn a_queue_that_nobody_has_consumed_has_no_time_and_all_that_waits_is_added_up() {
        let mut progress = progress(
            r#"{"consumeTps":1.0,"offsetTable":{{"brokerName":"b","queueId":0,"topic":"%RETRY%g"}:
            {"brokerOffset":7,"consumerOffset":3,"lastTimestamp":0,"pullOffset":5}}}"#,
        );
        progress.add(bodies::decode(&golden::answer("admin-consume-stats").body).unwrap());
        let before: i64 = progress.diff();
        let text = Queues::of(&progress, None, &TimeZone::UTC).to_string();
        assert!(
            text.contains("%RETRY%g ")
                && text.contains(" 4                    2                    N/A\n"),
            "{text}"
        );
        assert!(text.contains(&format!("Consume Diff Total: {before}\n")), "{text}");
        assert_eq!(
            progress.inflight() - 2,
            Queues::of(&progress, None, &TimeZone::UTC)
                .queues
                .iter()
                .skip(1)
                .map(|q| q.inflight)
                .sum::<i64>()
        );
    }

    #[test]
    fn what_java_answers_to_mqadmin_is_understood() {
        for name in ["admin-consume-stats", "admin-consume-stats-mqadmin"] {
            let mut progress = Progress::default();
            progress.add(bodies::decode(&golden::answer(name).body).unwrap());
            assert!(!progress.queues.is_empty(), "{name}");
        }
        let state: crate::admin::client::RunningInfo =
            bodies::decode(&golden::answer("admin-consumer-running-info").body).unwrap();
        assert!(!state.mq_table.is_empty());
    }
}
