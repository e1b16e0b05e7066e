//! consumeMessage: messages of a topic, queue by queue, without committing anything.

use clap::Args;
use serde::Serialize;

use super::{Session, message::shown::Shown};
use crate::{
    admin::{
        cli::trimmed,
        client::{Pulled, PulledMessages, QueueAt},
        error::Error,
        java_text,
    },
    clock,
    protocol::{
        bodies::TopicRouteData,
        codes::RequestCode,
        message::{Record, records},
        perm,
    },
};

/// Flags of consumeMessage.
#[derive(Debug, Args)]
pub(in crate::admin) struct ConsumeMessage {
    /// name of the topic
    #[arg(short, long, value_parser = trimmed)]
    topic: String,
    /// only queues of this broker group
    #[arg(short, long = "brokerName", value_parser = trimmed)]
    broker: Option<String>,
    /// only this queue of the broker group
    #[arg(short = 'i', long = "queueId", requires = "broker")]
    queue: Option<u32>,
    /// first offset in the queue
    #[arg(short, long, requires = "queue")]
    pub(in crate::admin) offset: Option<i64>,
    /// consumer group that pulls, default TOOLS_CONSUMER; its offsets do not change
    #[arg(short = 'g', long = "consumerGroup", value_parser = trimmed)]
    group: Option<String>,
    /// stored at or after: now, milliseconds, or yyyy-MM-dd#HH:mm:ss:SSS
    #[arg(short = 's', long = "beginTimestamp", value_parser = trimmed)]
    begin: Option<String>,
    /// stored at or before: now, milliseconds, or yyyy-MM-dd#HH:mm:ss:SSS
    #[arg(short = 'e', long = "endTimestamp", value_parser = trimmed)]
    end: Option<String>,
    /// messages in all, default 128
    #[arg(short = 'c', long = "MessageNumber", value_parser = clap::value_parser!(i64).range(1..))]
    count: Option<i64>,
}

/// Group of mqadmin; every broker has it.
pub(super) const TOOLS_CONSUMER: &str = "TOOLS_CONSUMER";
const COUNT: i64 = 128;
/// Messages of one pull.
const PULL_MAX: i64 = 32;

/// Shows messages.
pub(in crate::admin) async fn consume(
    session: &mut Session<'_>,
    args: &ConsumeMessage,
) -> Result<(), Error> {
    let span = Span::of(args, clock::wall_ms(), session)?;
    let route = session.admin.route(&args.topic).await?;
    let mut left = args.count.unwrap_or(COUNT);
    let mut unread = Vec::new();
    for queue in queues(&route, args)? {
        if left == 0 {
            break;
        }
        let mut failure = None;
        // Whoever is asked first answers for the whole queue; offsets are equal on all members.
        for address in &queue.members {
            let mut reading = Reading { queue: &queue, address, args, span, left };
            match reading.all(session).await {
                Ok(()) => {
                    left = reading.left;
                    failure = None;
                    break;
                }
                Err(error) if error.is_silence() && reading.left == left => {
                    if let Some(earlier) = failure.replace(error) {
                        session.out.remark(&earlier);
                    }
                }
                Err(error) => {
                    left = reading.left;
                    failure = Some(error);
                    break;
                }
            }
        }
        if let Some(error) = failure {
            unread.push(error);
        }
    }
    let last = unread.pop();
    unread.iter().for_each(|error| session.out.fail(error));
    last.map_or(Ok(()), Err)
}

/// Store times of the messages that are wanted. Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    begin: Option<i64>,
    end: Option<i64>,
}

impl Span {
    fn of(args: &ConsumeMessage, now_ms: i64, session: &Session<'_>) -> Result<Self, Error> {
        let time = |text: &Option<String>| {
            let Some(text) = text else { return Ok(None) };
            let ms = java_text::parse_time(text, now_ms, &session.zone);
            ms.map(Some).ok_or_else(|| {
                let forms = "now, milliseconds, or yyyy-MM-dd#HH:mm:ss:SSS";
                Error::Usage(format!("{text} is not a time: {forms}"))
            })
        };
        Self { begin: time(&args.begin)?, end: time(&args.end)? }.checked(now_ms)
    }

    fn checked(self, now_ms: i64) -> Result<Self, Error> {
        let wrong = |text: &str| Err(Error::Usage(text.to_owned()));
        match self {
            Self { begin: Some(begin), .. } if begin > now_ms => {
                wrong("Please set the beginTimestamp before now!")
            }
            Self { end: Some(end), .. } if end > now_ms => {
                wrong("Please set the endTimestamp before now!")
            }
            Self { begin: Some(begin), end: Some(end) } if begin > end => wrong(
                "Please make sure that the beginTimestamp is less than or equal to the endTimestamp",
            ),
            good => Ok(good),
        }
    }

    fn has(self, store_timestamp: i64) -> bool {
        self.begin.is_none_or(|begin| store_timestamp >= begin)
            && self.end.is_none_or(|end| store_timestamp <= end)
    }
}

/// A queue, and who has it: the leader first.
#[derive(Debug, PartialEq, Eq)]
struct Queue {
    topic: String,
    broker_name: String,
    queue_id: i32,
    members: Vec<String>,
}

impl Queue {
    /// `MessageQueue.toString()`.
    fn text(&self) -> String {
        let Self { topic, broker_name, queue_id, .. } = self;
        format!("MessageQueue [topic={topic}, brokerName={broker_name}, queueId={queue_id}]")
    }
}

/// The queues that are wanted, by broker group and number.
fn queues(route: &TopicRouteData, args: &ConsumeMessage) -> Result<Vec<Queue>, Error> {
    let mut queues = Vec::new();
    for of_broker in &route.queue_datas {
        let name = &of_broker.broker_name;
        let wanted = args.broker.as_ref().is_none_or(|broker| broker == name);
        let broker = route.broker_datas.iter().find(|broker| broker.broker_name == *name);
        let (true, Some(broker)) = (wanted && perm::readable(of_broker.perm), broker) else {
            continue;
        };
        let numbers = (0..of_broker.read_queue_nums.cast_signed())
            .filter(|id| args.queue.is_none_or(|queue| queue.cast_signed() == *id));
        queues.extend(numbers.map(|queue_id| Queue {
            topic: args.topic.clone(),
            broker_name: name.clone(),
            queue_id,
            members: broker.broker_addrs.values().cloned().collect(),
        }));
    }
    queues.sort_by(|a, b| (&a.broker_name, a.queue_id).cmp(&(&b.broker_name, b.queue_id)));
    if queues.is_empty() {
        let there: Vec<String> = route
            .queue_datas
            .iter()
            .map(|q| format!("{} ({} read queues)", q.broker_name, q.read_queue_nums))
            .collect();
        return Err(Error::Unable(format!(
            "topic {} has no such queue that can be read; it has: {}",
            args.topic,
            there.join(", ")
        )));
    }
    Ok(queues)
}

/// Which offsets of a queue are read.
#[derive(Debug, PartialEq, Eq)]
enum Window {
    /// From here; at most up to the last one.
    From {
        first: i64,
        last: i64,
        /// There is more than is wanted.
        cut: bool,
    },
    /// Nothing: the queue ends before the offset that was asked for.
    Beyond,
}

/// `left`: messages that are still wanted; `max`: the next offset to be written.
fn window(min: i64, max: i64, from: Option<i64>, left: i64) -> Window {
    if from.is_some_and(|from| from > max) {
        return Window::Beyond;
    }
    let first = from.map_or(min, |from| from.max(min));
    if max.saturating_sub(first) > left {
        Window::From { first, last: first.saturating_add(left) - 1, cut: true }
    } else {
        Window::From { first, last: max, cut: false }
    }
}

/// One queue being read.
struct Reading<'a> {
    queue: &'a Queue,
    address: &'a str,
    args: &'a ConsumeMessage,
    span: Span,
    /// Messages that are still wanted.
    left: i64,
}

impl Reading<'_> {
    async fn all(&mut self, session: &mut Session<'_>) -> Result<(), Error> {
        let (min, max) = self.bounds(session).await?;
        let queue = self.queue.text();
        let (first, last, cut) = match window(min, max, self.args.offset, self.left) {
            Window::From { first, last, cut } => (first, last, cut),
            Window::Beyond => {
                let offset = self.args.offset.unwrap_or_default();
                return session.out.say(format!("{queue} no matched msg, offset={offset}\n"));
            }
        };
        if cut {
            session.out.say(self.cut_notice())?;
        }
        let mut offset = first;
        while offset <= last && self.left > 0 {
            let pulled = self.pull(session, offset, last).await?;
            let next = pulled.next;
            match pulled.outcome {
                Pulled::Found => self.show(session, &pulled, last)?,
                Pulled::NoMatch => session.out.say(format!(
                    "{queue} no matched msg. status=NO_MATCHED_MSG, offset={next}\n"
                ))?,
                Pulled::NothingNew | Pulled::Moved => {
                    let status = if pulled.outcome == Pulled::Moved {
                        "OFFSET_ILLEGAL"
                    } else {
                        "NO_NEW_MSG"
                    };
                    return session.out.say(format!(
                        "{queue} print msg finished. status={status}, offset={next}\n"
                    ));
                }
            }
            if next <= offset {
                let cause = format!("offset {next} comes after {offset}");
                return Err(Error::unreadable(self.address, RequestCode::PULL_MESSAGE, cause));
            }
            offset = next;
        }
        Ok(())
    }

    /// In mqadmin's words, which differ with and without a queue.
    fn cut_notice(&self) -> String {
        let Self { left, queue, .. } = self;
        match self.args.queue {
            Some(_) => format!("The oldler {left} message will be provided\n"),
            None => {
                format!(
                    "The older {left} message of the {} queue will be provided\n",
                    queue.queue_id
                )
            }
        }
    }

    fn at(&self) -> QueueAt<'_> {
        QueueAt { address: self.address, topic: &self.queue.topic, queue_id: self.queue.queue_id }
    }

    /// Offsets of the first message that is wanted, and behind the last one.
    async fn bounds(&self, session: &Session<'_>) -> Result<(i64, i64), Error> {
        let (admin, at) = (&session.admin, self.at());
        let min = match self.span.begin {
            Some(begin) => admin.offset_at(at, begin).await?,
            None => admin.min_offset(at).await?,
        };
        let max = match self.span.end {
            Some(end) => admin.offset_at(at, end).await?,
            None => admin.max_offset(at).await?,
        };
        Ok((min, max))
    }

    async fn pull(
        &self,
        session: &Session<'_>,
        offset: i64,
        last: i64,
    ) -> Result<PulledMessages, Error> {
        let group = self.args.group.as_deref().unwrap_or(TOOLS_CONSUMER);
        let wanted = last.saturating_sub(offset).saturating_add(1).min(PULL_MAX);
        let wanted = i32::try_from(wanted).unwrap_or(1);
        session.admin.pull(self.at(), group, offset, wanted).await
    }

    fn show(
        &mut self,
        session: &mut Session<'_>,
        pulled: &PulledMessages,
        last: i64,
    ) -> Result<(), Error> {
        session.out.say("Consume ok\n")?;
        for record in records(&pulled.records) {
            let record = record.map_err(|cause| {
                Error::unreadable(self.address, RequestCode::PULL_MESSAGE, cause)
            })?;
            let in_window = i64::try_from(record.queue_offset()).is_ok_and(|at| at <= last);
            if in_window && self.left > 0 && self.span.has(record.store_timestamp()) {
                self.left -= 1;
                session.out.show(&Line::of(&record, &self.queue.broker_name, pulled.bounds))?;
            }
        }
        Ok(())
    }
}

/// One message, one line.
#[derive(Serialize)]
#[serde(transparent)]
struct Line(Shown);

impl Line {
    fn of(record: &Record<'_>, broker_name: &str, bounds: (i64, i64)) -> Self {
        Self(Shown::of(record, broker_name, Some(bounds)))
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.line())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::Parser;

    use super::*;
    use crate::protocol::bodies::{BrokerData, QueueData};

    fn args(line: &str) -> ConsumeMessage {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: ConsumeMessage,
        }
        Line::parse_from(["x", "-t", "T"].into_iter().chain(line.split_whitespace())).args
    }

    #[test]
    fn a_window_is_the_oldest_messages_that_are_wanted() {
        let from = |first, last, cut| Window::From { first, last, cut };
        let rows = [
            // min, max, from, left
            ((0, 10, None, 128), from(0, 10, false)),
            ((0, 10, None, 10), from(0, 10, false)),
            ((0, 10, None, 3), from(0, 2, true)),
            ((4, 10, None, 3), from(4, 6, true)),
            ((4, 10, Some(2), 3), from(4, 6, true)),
            ((4, 10, Some(9), 3), from(9, 10, false)),
            ((4, 10, Some(10), 3), from(10, 10, false)),
            ((4, 10, Some(11), 3), Window::Beyond),
            ((0, 0, None, 3), from(0, 0, false)),
            ((0, 2, Some(0), 1), from(0, 0, true)),
            ((i64::MIN, i64::MAX, None, 5), from(i64::MIN, i64::MIN + 4, true)),
        ];
        for ((min, max, start, left), want) in rows {
            assert_eq!(window(min, max, start, left), want, "{min} {max} {start:?} {left}");
        }
    }

    #[test]
    fn times_are_checked_in_mqadmins_words() {
        let rows = [
            ((Some(5), Some(5)), None),
            ((None, None), None),
            ((Some(11), None), Some("beginTimestamp before now")),
            ((None, Some(11)), Some("endTimestamp before now")),
            ((Some(6), Some(5)), Some("less than or equal")),
        ];
        for ((begin, end), want) in rows {
            let got = Span { begin, end }.checked(10).err().map(|error| error.to_string());
            assert_eq!(got.is_some(), want.is_some(), "{begin:?} {end:?}");
            assert!(got.unwrap_or_default().contains(want.unwrap_or_default()));
        }
        let span = Span { begin: Some(5), end: Some(7) };
        assert_eq!([4, 5, 7, 8].map(|at| span.has(at)), [false, true, true, false]);
    }

    fn route() -> TopicRouteData {
        let queues = |name: &str, perm, read_queue_nums| QueueData {
            broker_name: name.to_owned(),
            perm,
            read_queue_nums,
            ..QueueData::default()
        };
        let broker = |name: &str| BrokerData {
            broker_addrs: BTreeMap::from([(0, format!("{name}:1")), (1, format!("{name}:2"))]),
            broker_name: name.to_owned(),
            ..BrokerData::default()
        };
        TopicRouteData {
            broker_datas: vec![broker("b"), broker("a"), broker("w")],
            queue_datas: vec![queues("b", 6, 1), queues("a", 4, 2), queues("w", 2, 9)],
            ..TopicRouteData::default()
        }
    }

    #[test]
    fn readable_queues_are_chosen_by_broker_and_number() {
        let chosen = |line: &str| {
            let queues = queues(&route(), &args(line)).unwrap();
            let names: Vec<String> =
                queues.iter().map(|q| format!("{}{}", q.broker_name, q.queue_id)).collect();
            names.join(" ")
        };
        assert_eq!(chosen(""), "a0 a1 b0");
        assert_eq!(chosen("-b a"), "a0 a1");
        assert_eq!(chosen("-b a -i 1"), "a1");
        let error = queues(&route(), &args("-b a -i 2")).unwrap_err().to_string();
        assert!(error.contains("a (2 read queues)"), "{error}");
        let queue = &queues(&route(), &args("-b a -i 1")).unwrap()[0];
        assert_eq!(queue.members, ["a:1", "a:2"]);
        assert_eq!(queue.text(), "MessageQueue [topic=T, brokerName=a, queueId=1]");
    }
}
