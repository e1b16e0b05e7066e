//! sendMessage: one message, to any queue or to a given one.

pub(super) mod shown;

use std::fmt;

use bytes::Bytes;
use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::Session;
use crate::{
    admin::{
        cli::{trimmed, truth},
        client::{AdminClient, LEADER, Stored},
        error::Error,
        trace,
    },
    clock,
    protocol::{
        bodies::TopicRouteData,
        codes::ResponseCode,
        headers::send::SendRequest,
        message::{
            id::UniqueId,
            properties::{self, names as property},
        },
        names, perm,
    },
};

/// Flags of sendMessage.
#[derive(Debug, Args)]
pub(in crate::admin) struct SendMessage {
    /// name of the topic
    #[arg(short, long, value_parser = trimmed)]
    pub(in crate::admin) topic: String,
    /// body of the message
    #[arg(short = 'p', long, allow_hyphen_values = true)]
    pub(in crate::admin) body: String,
    /// keys of the message, separated by blanks
    #[arg(short = 'k', long = "key", value_parser = trimmed)]
    keys: Option<String>,
    /// tag of the message
    #[arg(short = 'c', long, value_parser = trimmed)]
    tags: Option<String>,
    /// to this broker group
    #[arg(short, long, value_parser = trimmed)]
    broker: Option<String>,
    /// to this queue of the broker group
    #[arg(short = 'i', long = "qid", requires = "broker")]
    queue: Option<u32>,
    /// whether the message is traced: true or false
    #[arg(short = 'm', long = "msgTraceEnable", value_parser = truth)]
    trace: Option<bool>,
}

/// Group as which messages are sent.
const PRODUCER_GROUP: &str = "TOOLS_PRODUCER";
/// Queues of a topic that brokers create because something is sent to it. Java's producer's.
const AUTO_CREATED_QUEUES: u32 = 4;

/// Sends one message.
pub(in crate::admin) async fn send(
    session: &mut Session<'_>,
    args: SendMessage,
) -> Result<(), Error> {
    let route = route_to_send(&session.admin, &args.topic).await?;
    let targets = targets(&route, &args, fastrand::u32(..))?;
    let message = Message::of(&args, unique_key(session));
    let (target, stored) = send_to_one(session, &targets, &message).await?;
    if args.trace == Some(true) {
        let sent = trace::Sent {
            group: PRODUCER_GROUP,
            topic: &args.topic,
            msg_id: &message.msg_id,
            tags: args.tags.as_deref().unwrap_or_default(),
            keys: args.keys.as_deref().unwrap_or_default(),
            store_host: &target.address,
            body_bytes: message.body.len(),
            cost_ms: clock::wall_ms().saturating_sub(message.born_ms),
            at_ms: message.born_ms,
            offset_msg_id: &stored.place.msg_id,
            region: stored.place.region.as_deref().unwrap_or_default(),
        };
        trace_sent(session, &sent).await;
    }
    session.out.show(&Sent {
        broker_name: target.broker_name.clone(),
        queue_id: stored.place.queue_id,
        send_result: stored.status,
        msg_id: message.msg_id,
        offset_msg_id: stored.place.msg_id,
        queue_offset: stored.place.queue_offset,
    })
}

/// The route of `topic`; of the template of new topics if it does not exist and brokers create
/// topics that somebody sends to.
async fn route_to_send(admin: &AdminClient, topic: &str) -> Result<TopicRouteData, Error> {
    let missing = match admin.route(topic).await {
        Err(error) if error.code() == Some(ResponseCode::TOPIC_NOT_EXIST) => error,
        found => return found,
    };
    let Ok(mut template) = admin.route(names::TBW102).await else { return Err(missing) };
    template.queue_datas.retain(|queues| perm::inheritable(queues.perm));
    for queues in &mut template.queue_datas {
        queues.write_queue_nums = queues.write_queue_nums.min(AUTO_CREATED_QUEUES);
    }
    if template.queue_datas.is_empty() { Err(missing) } else { Ok(template) }
}

/// A queue, and who takes writes for it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    broker_name: String,
    address: String,
    queue_id: u32,
}

/// Queues to try one after the other: one of each broker group, drawn with `chance`.
fn targets(route: &TopicRouteData, args: &SendMessage, chance: u32) -> Result<Vec<Target>, Error> {
    let mut targets = Vec::new();
    for queues in &route.queue_datas {
        let wanted = args.broker.as_ref().is_none_or(|broker| *broker == queues.broker_name);
        let leader = route
            .broker_datas
            .iter()
            .find(|broker| broker.broker_name == queues.broker_name)
            .and_then(|broker| broker.broker_addrs.get(&LEADER));
        let drawn = chance.checked_rem(queues.write_queue_nums);
        let (Some(leader), Some(drawn)) = (leader, drawn) else { continue };
        if wanted && perm::writable(queues.perm) {
            targets.push(Target {
                broker_name: queues.broker_name.clone(),
                address: leader.clone(),
                queue_id: args.queue.unwrap_or(drawn),
            });
        }
    }
    if targets.is_empty() {
        return Err(Error::Unable(no_target(route, args)));
    }
    let first = chance as usize % targets.len();
    targets.rotate_left(first);
    Ok(targets)
}

fn no_target(route: &TopicRouteData, args: &SendMessage) -> String {
    let there: Vec<String> = route
        .queue_datas
        .iter()
        .map(|queues| {
            let broker = route.broker_datas.iter().find(|b| b.broker_name == queues.broker_name);
            let led = broker.is_some_and(|broker| broker.broker_addrs.contains_key(&LEADER));
            format!(
                "{} ({} write queues, {}, {})",
                queues.broker_name,
                queues.write_queue_nums,
                perm::text(queues.perm),
                if led { "has a leader" } else { "no leader" }
            )
        })
        .collect();
    format!(
        "nobody takes messages of topic {}{} now; it has: {}",
        args.topic,
        args.broker.as_ref().map(|broker| format!(" on broker {broker}")).unwrap_or_default(),
        if there.is_empty() { "no queues".to_owned() } else { there.join(", ") }
    )
}

struct Message<'a> {
    topic: &'a str,
    msg_id: String,
    properties: Bytes,
    body: Bytes,
    born_ms: i64,
}

impl<'a> Message<'a> {
    fn of(args: &'a SendMessage, msg_id: String) -> Self {
        let mut properties = properties::Builder::new();
        if let Some(keys) = &args.keys {
            properties.push(property::KEYS, keys);
        }
        properties.push(property::UNIQ_KEY, &msg_id).push(property::WAIT, "true");
        if let Some(tags) = &args.tags {
            properties.push(property::TAGS, tags);
        }
        Self {
            topic: &args.topic,
            msg_id,
            properties: properties.build(),
            body: args.body.clone().into(),
            born_ms: clock::wall_ms(),
        }
    }

    async fn send(&self, admin: &AdminClient, to: &Target) -> Result<Stored, Error> {
        let header = SendRequest {
            producer_group: PRODUCER_GROUP,
            topic: self.topic,
            default_topic: names::TBW102,
            default_topic_queue_nums: AUTO_CREATED_QUEUES.cast_signed(),
            queue_id: to.queue_id.cast_signed(),
            sys_flag: 0,
            born_timestamp: self.born_ms,
            flag: 0,
            properties: std::str::from_utf8(&self.properties).unwrap_or_default(),
            reconsume_times: 0,
            unit_mode: false,
            max_reconsume_times: None,
            batch: false,
        };
        admin.send(&to.address, &header, self.body.clone()).await
    }
}

/// Tries the targets in turn, as long as the one before certainly did not store the message.
async fn send_to_one<'a>(
    session: &mut Session<'_>,
    targets: &'a [Target],
    message: &Message<'_>,
) -> Result<(&'a Target, Stored), Error> {
    let mut failure = None;
    for target in targets {
        if let Some(error) = failure.take() {
            session.out.remark(&error);
        }
        match message.send(&session.admin, target).await {
            Ok(stored) => return Ok((target, stored)),
            Err(error) if may_be_stored(&error) => return Err(error),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| Error::Unable("there is nowhere to send to".to_owned())))
}

/// Whether sending the message again might store it twice.
fn may_be_stored(error: &Error) -> bool {
    match error {
        Error::NoAnswer { cause, .. } => cause.may_have_run(),
        Error::Refused { code, .. } => *code == ResponseCode::SYSTEM_ERROR,
        _ => true,
    }
}

/// The trace of a message is a message, too. Failing to store it does not undo the first.
async fn trace_sent(session: &mut Session<'_>, sent: &trace::Sent<'_>) {
    let args = SendMessage {
        topic: names::TRACE_TOPIC.to_owned(),
        body: sent.text(),
        keys: Some(sent.index_keys()),
        tags: None,
        broker: None,
        queue: None,
        trace: None,
    };
    let stored = async {
        let route = session.admin.route(&args.topic).await?;
        let targets = targets(&route, &args, fastrand::u32(..))?;
        send_to_one(session, &targets, &Message::of(&args, unique_key(session))).await.map(|_| ())
    };
    if let Err(error) = stored.await {
        session.out.fail(&error);
    }
}

fn unique_key(session: &Session<'_>) -> String {
    let id = UniqueId {
        ip: session.admin.own_ip(),
        process: u16::try_from(std::process::id() & 0xFFFF).unwrap_or_default(),
        seed: fastrand::u32(..),
        month_ms: month_ms(clock::wall_ms(), &session.zone),
        counter: 0,
    };
    id.text()
}

/// Milliseconds since the month began: what unique ids have of the time.
fn month_ms(now_ms: i64, zone: &TimeZone) -> u32 {
    let since = || {
        let now = Timestamp::from_millisecond(now_ms).ok()?.to_zoned(zone.clone());
        let began = now.first_of_month().ok()?.start_of_day().ok()?;
        let ms = now_ms.checked_sub(began.timestamp().as_millisecond())?;
        u32::try_from(ms).ok()
    };
    since().unwrap_or_default()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    broker_name: String,
    queue_id: i32,
    send_result: &'static str,
    msg_id: String,
    offset_msg_id: String,
    queue_offset: i64,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [broker, queue, result, id] = ["#Broker Name", "#QID", "#Send Result", "#MsgId"];
        writeln!(f, "{broker:<32}  {queue:<4}  {result:<20}    {id}")?;
        let Self { broker_name, queue_id, send_result, msg_id, .. } = self;
        writeln!(f, "{broker_name:<32}  {queue_id:<4}  {send_result:<20}    {msg_id}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::protocol::bodies::{BrokerData, QueueData};

    fn args(line: &str) -> SendMessage {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: SendMessage,
        }
        Line::parse_from(["x", "-t", "T", "-p", "b"].into_iter().chain(line.split_whitespace()))
            .args
    }

    /// Broker groups: name, whether it has a leader, permission, write queues.
    fn route(groups: &[(&str, bool, u32, u32)]) -> TopicRouteData {
        let mut route = TopicRouteData::default();
        for (name, led, perm, queues) in groups {
            let id = if *led { LEADER } else { 1 };
            route.broker_datas.push(BrokerData {
                broker_addrs: BTreeMap::from([(id, format!("{name}:1"))]),
                broker_name: (*name).to_owned(),
                ..BrokerData::default()
            });
            route.queue_datas.push(QueueData {
                broker_name: (*name).to_owned(),
                perm: *perm,
                write_queue_nums: *queues,
                ..QueueData::default()
            });
        }
        route
    }

    fn chosen(route: &TopicRouteData, line: &str, chance: u32) -> Vec<(String, u32)> {
        let targets = targets(route, &args(line), chance).unwrap();
        targets.into_iter().map(|target| (target.address, target.queue_id)).collect()
    }

    #[test]
    fn one_queue_of_each_group_is_tried_and_chance_says_which_first() {
        let route = route(&[("a", true, 6, 4), ("b", true, 2, 1), ("c", true, 4, 4)]);
        assert_eq!(chosen(&route, "", 6), [("a:1".to_owned(), 2), ("b:1".to_owned(), 0)]);
        assert_eq!(chosen(&route, "", 7), [("b:1".to_owned(), 0), ("a:1".to_owned(), 3)]);
        assert_eq!(chosen(&route, "-b a", 7), [("a:1".to_owned(), 3)]);
        assert_eq!(chosen(&route, "-b a -i 9", 7), [("a:1".to_owned(), 9)]);
    }

    #[test]
    fn when_nobody_takes_it_the_error_says_why() {
        let rows = [
            (route(&[("a", false, 6, 4)]), "", "no leader"),
            (route(&[("a", true, 4, 4)]), "", "R--"),
            (route(&[("a", true, 6, 0)]), "", "0 write queues"),
            (route(&[("a", true, 6, 4)]), "-b z", "on broker z"),
            (route(&[]), "", "no queues"),
        ];
        for (route, line, why) in rows {
            let error = targets(&route, &args(line), 1).unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
    }

    #[test]
    fn the_result_is_what_mqadmin_prints() {
        let sent = Sent {
            broker_name: "RaftNode00".to_owned(),
            queue_id: 0,
            send_result: "SEND_OK",
            msg_id: "FD00".to_owned(),
            offset_msg_id: "7F00".to_owned(),
            queue_offset: 3,
        };
        let want = "\
#Broker Name                      #QID  #Send Result            #MsgId
RaftNode00                        0     SEND_OK                 FD00
";
        assert_eq!(sent.to_string(), want);
    }

    #[test]
    fn keys_and_tags_are_properties() {
        let args = args("-k k1 -c TagM");
        let message = Message::of(&args, "U".to_owned());
        let found: Vec<_> = properties::iter(&message.properties).collect();
        assert_eq!(found, [("KEYS", "k1"), ("UNIQ_KEY", "U"), ("WAIT", "true"), ("TAGS", "TagM")]);
    }

    #[test]
    fn unique_ids_count_from_the_first_of_the_month() {
        let rows =
            [(1_793_491_200_000, 0), (1_793_491_200_001, 1), (1_793_491_199_999, 2_678_399_999)];
        for (now, want) in rows {
            assert_eq!(month_ms(now, &TimeZone::UTC), want, "{now}");
        }
    }

    #[test]
    fn a_message_is_not_sent_twice_when_it_may_have_been_stored() {
        use crate::protocol::codes::RequestCode;
        let refused = |code| Error::Refused {
            address: String::new(),
            request: RequestCode::SEND_MESSAGE_V2,
            code,
            remark: String::new(),
        };
        assert!(may_be_stored(&refused(ResponseCode::SYSTEM_ERROR)));
        assert!(!may_be_stored(&refused(ResponseCode::SYSTEM_BUSY)));
        assert!(!may_be_stored(&refused(ResponseCode::SERVICE_NOT_AVAILABLE)));
    }
}
