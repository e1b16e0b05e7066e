//! REGISTER_BROKER: header and body become a checked [`Registration`]. Pure.
//!
//! The body is JSON, or (`compressed=true`) a zlib stream of length-prefixed texts. Only what routes
//! need is read; everything else in it is skipped.

use std::{io::Read, sync::Arc, time::Duration};

use super::{
    error::Refusal,
    names,
    registration::{BROKER_SILENCE_MAX, Extent, Queues, Registration, TopicEntry},
};
use crate::protocol::{
    bodies::{self, DataVersion, RegisterBrokerBody, TopicConfig, TopicConfigTable},
    command::RemotingCommand,
    frame::FRAME_BYTES_MAX,
    headers::namesrv::RegisterBroker,
    message,
};
use flate2::read::ZlibDecoder;

/// Ext field of our brokers. True: the registration holds all topics, what is not in it does not
/// exist. False: it holds those that have changed since the last one.
pub const TOPICS_COMPLETE: &str = "topicsComplete";
/// Ext field of our brokers. True: the broker takes writes, whoever leads its group.
pub const TAKES_WRITES: &str = "takesWrites";
/// Attribute of topics, and its value for those whose messages have an order.
const MESSAGE_TYPE: (&str, &str) = ("message.type", "FIFO");
/// Most bytes of an unpacked body: those of the largest frame, so that packing gets nobody much
/// more memory than plain JSON does. It is room for some 400,000 topics.
const UNPACKED_BYTES_MAX: u64 = FRAME_BYTES_MAX as u64;
/// Before this version (3.0.11) a body was the topic table alone.
const WRAPPED_SINCE: i32 = 37;
const SILENCE_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// A registration, and what of it was left out.
#[derive(Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What the broker says.
    pub registration: Registration,
    /// Topics with names that cannot be told to clients.
    pub topics_skipped: usize,
}

/// Reads header and body.
pub fn parse(request: &RemotingCommand) -> Result<Parsed, Refusal> {
    let header = RegisterBroker::parse(request)?;
    let crc = u32::try_from(header.body_crc32).map_err(|_| Refusal::ChecksumMismatch)?;
    if crc != 0 && crc != message::body_crc(&request.body) {
        return Err(Refusal::ChecksumMismatch);
    }
    names::check_name("clusterName", &header.cluster_name)?;
    names::check_name("brokerName", &header.broker_name)?;
    names::check_address("brokerAddr", &header.broker_addr)?;
    names::check_address("haServerAddr", &header.ha_server_addr)?;
    let zone = header.zone_name.filter(|zone| !zone.is_empty());
    zone.as_deref().map_or(Ok(()), |zone| names::check_name("__ZONE_NAME", zone))?;
    let extent = match request.ext.optional::<bool>(TOPICS_COMPLETE)? {
        Some(true) => Extent::Complete,
        Some(false) => Extent::Changes,
        None => Extent::Unstated,
    };

    let body = body(request, header.compressed)?;
    let sent = body.topics.len();
    let topics: Vec<_> =
        body.topics.into_iter().filter(|t| names::check_topic(&t.topic).is_ok()).collect();
    let topics_skipped = sent - topics.len();
    let registration = Registration {
        cluster: header.cluster_name.into(),
        group: header.broker_name.into(),
        address: header.broker_addr.into(),
        ha_address: header.ha_server_addr.into(),
        broker_id: header.broker_id,
        version: body.version,
        topics,
        extent,
        acting_master: header.enable_acting_master,
        takes_writes: request.ext.optional::<bool>(TAKES_WRITES)?.unwrap_or(false),
        zone: zone.map(Arc::from),
        silence_max: silence_max(header.heartbeat_timeout_millis),
    };
    Ok(Parsed { registration, topics_skipped })
}

/// Whatever a broker asks for, a silent one goes some day, and a stuttering one stays.
fn silence_max(asked_ms: Option<i64>) -> Duration {
    let asked = asked_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
    asked.unwrap_or(BROKER_SILENCE_MAX).clamp(SILENCE_RANGE.0, SILENCE_RANGE.1)
}

/// The part of a body that routes need.
#[derive(Debug, Default)]
struct Body {
    version: DataVersion,
    topics: Vec<TopicEntry>,
}

fn body(request: &RemotingCommand, compressed: bool) -> Result<Body, Refusal> {
    let bytes = &request.body;
    if bytes.is_empty() {
        return Ok(Body::default());
    }
    if compressed {
        return unpack(bytes);
    }
    let table = if request.version < WRAPPED_SINCE {
        bodies::decode::<TopicConfigTable>(bytes)?
    } else {
        bodies::decode::<RegisterBrokerBody>(bytes)?.topic_config_serialize_wrapper
    };
    let topics = table.topic_config_table.into_iter().map(|(topic, config)| TopicEntry {
        topic: Arc::from(topic),
        queues: Queues {
            read: config.read_queue_nums,
            write: config.write_queue_nums,
            perm: config.perm,
            sys_flag: config.topic_sys_flag,
            ordered: is_ordered(&config),
        },
    });
    Ok(Body { version: table.data_version, topics: topics.collect() })
}

fn is_ordered(config: &TopicConfig) -> bool {
    let (key, fifo) = MESSAGE_TYPE;
    config.order || config.attributes.get(key).is_some_and(|value| value == fifo)
}

/// Body B: version, number of topics, topics; what follows is not needed.
fn unpack(packed: &[u8]) -> Result<Body, Refusal> {
    let mut unpacked = Unpacked(ZlibDecoder::new(packed).take(UNPACKED_BYTES_MAX));
    let version = bodies::decode(&unpacked.text()?)?;
    let count = unpacked.length()?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let text = String::from_utf8(unpacked.text()?)
            .map_err(|_| Refusal::BadBody("a topic is not UTF-8".to_owned()))?;
        topics.push(topic_text(&text)?);
    }
    Ok(Body { version, topics })
}

/// `topicName readQueues writeQueues perm filterType[ {attributes}]`: whether the topic is ordered is
/// not in it.
fn topic_text(text: &str) -> Result<TopicEntry, Refusal> {
    let mut words = text.split(' ');
    let topic = words.next().unwrap_or_default();
    let mut number = || words.next().and_then(|word| word.parse::<u32>().ok());
    match (number(), number(), number()) {
        (Some(read), Some(write), Some(perm)) => Ok(TopicEntry {
            topic: Arc::from(topic),
            queues: Queues { read, write, perm, sys_flag: 0, ordered: true },
        }),
        _ => Err(Refusal::BadBody(format!("topic {topic}"))),
    }
}

/// Length-prefixed texts out of a bounded stream.
struct Unpacked<R>(R);

impl<R: Read> Unpacked<R> {
    fn length(&mut self) -> Result<u32, Refusal> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).map_err(|error| Refusal::BadBody(error.to_string()))?;
        let length = i32::from_be_bytes(length);
        u32::try_from(length).map_err(|_| Refusal::BadBody(format!("a length of {length}")))
    }

    /// Reads no more than there is: a length alone allocates nothing.
    fn text(&mut self) -> Result<Vec<u8>, Refusal> {
        let length = u64::from(self.length()?);
        let mut text = Vec::new();
        let got = self.0.by_ref().take(length).read_to_end(&mut text);
        let got = got.map_err(|error| Refusal::BadBody(error.to_string()))?;
        if u64::try_from(got) != Ok(length) {
            return Err(Refusal::BadBody("it ends early".to_owned()));
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codes::RequestCode;
    use bytes::Bytes;
    use flate2::{Compression, write::ZlibEncoder};
    use std::io::Write;

    fn request(body: impl Into<Bytes>) -> RemotingCommand {
        RemotingCommand::request(RequestCode::REGISTER_BROKER)
            .with_field("brokerName", "b")
            .with_field("brokerAddr", "127.0.0.1:10911")
            .with_field("clusterName", "c")
            .with_field("haServerAddr", "127.0.0.1:10912")
            .with_field("brokerId", 0)
            .with_body(body)
    }

    fn queues(read: u32, write: u32, perm: u32) -> Queues {
        Queues { read, write, perm, sys_flag: 0, ordered: false }
    }

    #[test]
    fn a_header_without_body_is_a_broker_without_topics() {
        let parsed = parse(&request("")).unwrap();
        assert_eq!(parsed.registration.topics, []);
        assert_eq!(parsed.registration.version, DataVersion::default());
        assert_eq!(parsed.registration.silence_max, Duration::from_secs(120));
        assert_eq!(parsed.registration.acting_master, None);
    }

    #[test]
    fn header_fields_are_checked() {
        let rows = [
            ("brokerAddr", "nowhere"),
            ("haServerAddr", "h:0"),
            ("brokerName", "a b"),
            ("clusterName", ""),
            ("brokerId", "-1"),
            ("bodyCrc32", "x"),
            ("bodyCrc32", "12345"),
        ];
        for (field, value) in rows {
            assert!(parse(&request("").with_field(field, value)).is_err(), "{field}={value}");
        }
        let body = r#"{"filterServerList":[]}"#;
        let crc = message::body_crc(body.as_bytes());
        assert!(parse(&request(body).with_field("bodyCrc32", crc)).is_ok());
        let clamped = parse(&request("").with_field("heartbeatTimeoutMillis", i64::MAX)).unwrap();
        assert_eq!(clamped.registration.silence_max, Duration::from_secs(3600));
    }

    #[test]
    fn both_json_forms_are_read_and_odd_topics_left_out() {
        let inner = r#"{"dataVersion":{"counter":2,"stateVersion":5,"timestamp":9},
            "topicConfigTable":{"T":{"attributes":{},"order":false,"perm":6,"readQueueNums":4,
            "topicFilterType":"SINGLE_TAG","topicName":"T","topicSysFlag":0,"writeQueueNums":8},
            "bad topic":{"perm":6,"readQueueNums":4,"writeQueueNums":8}}}"#;
        let outer = format!(r#"{{"filterServerList":[],"topicConfigSerializeWrapper":{inner}}}"#);
        let old = RemotingCommand { version: 36, ..request(inner.to_owned()) };
        for request in [request(outer), old] {
            let Parsed { registration, topics_skipped } = parse(&request).unwrap();
            let want = TopicEntry { topic: Arc::from("T"), queues: queues(4, 8, 6) };
            assert_eq!((registration.topics, topics_skipped), (vec![want], 1));
            let version = DataVersion { counter: 2, state_version: 5, timestamp: 9 };
            assert_eq!(registration.version, version);
        }
    }

    #[test]
    fn ordered_topics_and_brokers_that_take_writes_say_so() {
        let rows = [
            (r#""order":false"#, false),
            (r#""order":true"#, true),
            (r#""attributes":{"message.type":"FIFO"}"#, true),
            (r#""attributes":{"message.type":"NORMAL"},"order":true"#, true),
            (r#""attributes":{"message.type":"NORMAL"}"#, false),
        ];
        for (said, ordered) in rows {
            let table = format!(r#"{{"topicConfigTable":{{"T":{{{said}}}}}}}"#);
            let body = format!(r#"{{"topicConfigSerializeWrapper":{table}}}"#);
            let parsed = parse(&request(body)).unwrap();
            assert_eq!(parsed.registration.topics[0].queues.ordered, ordered, "{said}");
        }
        for (said, takes_writes) in [("true", true), ("false", false)] {
            let parsed = parse(&request("").with_field(TAKES_WRITES, said)).unwrap();
            assert_eq!(parsed.registration.takes_writes, takes_writes);
        }
        assert!(!parse(&request("")).unwrap().registration.takes_writes);
    }

    fn packed(texts: &[&str], count: i32) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        for (n, text) in texts.iter().enumerate() {
            let length = i32::try_from(text.len()).unwrap();
            encoder.write_all(&length.to_be_bytes()).unwrap();
            encoder.write_all(text.as_bytes()).unwrap();
            if n == 0 {
                encoder.write_all(&count.to_be_bytes()).unwrap();
            }
        }
        encoder.finish().unwrap()
    }

    #[test]
    fn the_packed_form_is_read_and_its_lengths_are_not_trusted() {
        let version = r#"{"counter":1,"stateVersion":0,"timestamp":3}"#;
        let attributes = r#"U 1 2 4 SINGLE_TAG {"+message.type":"FIFO"}"#;
        let good = packed(&[version, "T 4 4 6 SINGLE_TAG", attributes, "[]"], 2);
        let parsed = parse(&request(good.clone()).with_field("compressed", true)).unwrap();
        let topics: Vec<_> =
            parsed.registration.topics.iter().map(|t| (&*t.topic, t.queues)).collect();
        let unsaid = |queues| Queues { ordered: true, ..queues };
        assert_eq!(topics, [("T", unsaid(queues(4, 4, 6))), ("U", unsaid(queues(1, 2, 4)))]);
        assert_eq!(parsed.registration.version.timestamp, 3);

        let bad = [
            packed(&[version, "T 4 4 6 SINGLE_TAG"], i32::MAX),
            packed(&[version, "T 4 4 6 SINGLE_TAG"], -1),
            packed(&[version, "T 4 -4 6 SINGLE_TAG"], 1),
            packed(&["{", "T 4 4 6 SINGLE_TAG"], 1),
            good[..good.len() / 2].to_vec(),
            b"not zlib".to_vec(),
        ];
        for body in bad {
            let request = request(body).with_field("compressed", true);
            assert!(matches!(parse(&request), Err(Refusal::BadBody(_))));
        }
    }

    #[test]
    fn a_body_that_unpacks_to_more_than_the_largest_frame_is_refused() {
        let version = r#"{"counter":1,"stateVersion":0,"timestamp":3}"#;
        let unpacked_to = |bytes: usize| {
            let mut topic = "T 4 4 6 SINGLE_TAG ".to_owned();
            let before = 3 * size_of::<i32>() + version.len();
            topic.extend(std::iter::repeat_n('x', bytes - before - topic.len()));
            let body = packed(&[version, &topic], 1);
            assert!(body.len() < bytes / 500, "{}", body.len());
            parse(&request(body).with_field("compressed", true))
        };
        assert_eq!(unpacked_to(FRAME_BYTES_MAX).unwrap().registration.topics.len(), 1);
        assert!(matches!(unpacked_to(FRAME_BYTES_MAX + 1), Err(Refusal::BadBody(_))));
    }

    #[test]
    fn malformed_json_is_refused() {
        for body in ["[", "{}x", r#"{"topicConfigSerializeWrapper":1}"#] {
            assert!(matches!(parse(&request(body)), Err(Refusal::BadBody(_))), "{body}");
        }
        assert!(parse(&request("{}")).is_ok());
    }
}
