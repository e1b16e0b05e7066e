//! Attacks 7, 8, 9 and 10: batches, compressed bodies, properties, flags.

use super::*;
use flate2::{Compression, write::ZlibEncoder};
use rmq::protocol::message::{Record, batch, properties, records, sys_flag};

fn item(total: u32, body_bytes: u32, body: &[u8], property_bytes: u16) -> Vec<u8> {
    let head = [total, 0, 0, 0, body_bytes].map(u32::to_be_bytes).concat();
    [&head, body, &property_bytes.to_be_bytes()].concat()
}

fn batch_request(body: impl Into<bytes::Bytes>) -> RemotingCommand {
    let header = SendRequest { batch: true, ..send_header("T") };
    header.request(RequestCode::SEND_BATCH_MESSAGE).with_body(body)
}

#[tokio::test]
async fn attack_7_a_batch_with_one_bad_item_is_refused_whole() {
    let broker = Target::broker();
    broker.caller.first_send(broker.port, "T").await;
    let good = item(22 + 3, 3, b"abc", 0);
    let mut nested = Vec::new();
    (0..3).for_each(|_| nested.extend_from_slice(&good));
    let nested = item(22 + 75, 75, &nested, 0); // is a message like any other: nobody unpacks it
    assert_eq!(broker.ask(batch_request(nested.clone())).await.code, 0);
    let end = broker.caller.end_of_queue(broker.port, "T").await;
    assert_eq!(end, 2, "a batch in a batch is one message");
    let rows = [
        ("a size below its own", item(21, 3, b"abc", 0)),
        ("a size of nothing", item(0, 3, b"abc", 0)),
        ("a negative size", item(0x8000_0000, 3, b"abc", 0)),
        ("the largest size", item(u32::MAX, 3, b"abc", 0)),
        ("a body beyond its item", item(22 + 3, 30, b"abc", 0)),
        ("a negative body", item(22 + 3, u32::MAX, b"abc", 0)),
        ("a body that overlaps the next item", item(22 + 3, 25, b"abc", 0)),
        ("a body that ends early", item(22 + 3, 1, b"abc", 0)),
        ("properties beyond their item", item(22 + 3, 3, b"abc", 0x7FFF)),
        ("properties that would be negative", item(22 + 3, 3, b"abc", 0xFFFF)),
        ("half an item", good[..10].to_vec()),
        ("bytes behind the item", b"abc".to_vec()),
    ];
    for (what, bad) in rows {
        for body in [[&good[..], &bad].concat(), [&bad[..], &good].concat(), bad] {
            let answer = broker.ask(batch_request(body)).await;
            assert_eq!(answer.code, 13, "{what}: {answer:?}");
        }
    }
    let huge = item(22 + (5 << 20), 5 << 20, &vec![0; 5 << 20], 0);
    assert_eq!(broker.ask(batch_request(huge)).await.code, 13, "beyond maxMessageSize");
    let many = good.repeat(160_000); // 4 MB on the wire, three times that in the log
    assert_eq!(broker.ask(batch_request(many)).await.code, 13);
    assert_eq!(broker.ask(batch_request(Vec::new())).await.code, 13);
    assert_eq!(broker.caller.end_of_queue(broker.port, "T").await, end);
    let items = batch::items(&nested.into()).unwrap();
    assert_eq!(items.len(), 1);
    broker.end();
}

/// `head`, and then `times` times `part`, packed.
fn packed(head: &[u8], part: &[u8], times: usize) -> Vec<u8> {
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::best());
    packer.write_all(head).unwrap();
    let many = part.repeat(times.min(10_000));
    (0..times.div_ceil(10_000)).for_each(|_| packer.write_all(&many).unwrap());
    packer.finish().unwrap()
}

#[tokio::test]
async fn attack_8_a_broker_does_not_unpack_what_it_stores() {
    let broker = Target::broker();
    broker.caller.first_send(broker.port, "T").await;
    let bomb = packed(&[], &[0; 1024], 40_000); // 40 MiB
    assert!(bomb.len() < 64 * 1024, "{} bytes", bomb.len());
    let before = broker.memory();
    for compression in [0, 0x100, 0x200, 0x300] {
        let sys_flag = sys_flag::COMPRESSED | compression;
        let header = SendRequest { sys_flag, ..send_header("T") };
        let sent = header.request(RequestCode::SEND_MESSAGE_V2).with_body(bomb.clone());
        assert_eq!(broker.ask(sent).await.code, 0);
    }
    let pulled = broker.ask(pull("T")).await;
    let last = records(&pulled.body).last().unwrap().unwrap();
    assert_eq!(last.body(), bomb, "stored and served as it came");
    let grown = broker.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "{} KiB more", grown / 1024);
    broker.end();
}

#[tokio::test]
async fn attack_8_a_name_server_unpacks_no_more_than_a_frame() {
    let server = Target::name_server();
    let text = |text: &[u8]| [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat();
    let head = [&text(br#"{"counter":1,"timestamp":1}"#)[..], &u32::MAX.to_be_bytes()].concat();
    let before = server.memory();
    for part in [text(b"T 1 1 6 SINGLE_TAG"), text(&[b'T'; 1000]), text(&[])] {
        let bomb = packed(&head, &part, (48 << 20) / part.len());
        assert!(bomb.len() < 400 * 1024, "{} bytes", bomb.len());
        let register = RemotingCommand::request(RequestCode::REGISTER_BROKER)
            .with_field("brokerName", "b")
            .with_field("brokerAddr", "127.0.0.1:1")
            .with_field("clusterName", "C")
            .with_field("haServerAddr", "127.0.0.1:2")
            .with_field("brokerId", 0)
            .with_field("compressed", true)
            .with_field("bodyCrc32", 0)
            .with_body(bomb);
        assert_ne!(server.ask(register).await.code, 0);
    }
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 160 << 20, "{} KiB more", grown / 1024);
    server.end();
}

/// What becomes of a property that a producer sets.
#[derive(Debug, PartialEq)]
enum Fate {
    /// The producer may say it.
    Kept,
    /// Only brokers may say it.
    Stripped,
    /// The broker says it itself.
    Replaced,
    /// The message is not taken: it would be delivered too early.
    Refused,
}

/// Every name that RocketMQ reserves (`MessageConst`) and what a producer's value comes to.
/// Those that are kept are the client's side of a feature, or mean nothing to a broker.
const RESERVED: &[(&str, Fate)] = &[
    ("KEYS", Fate::Kept),
    ("TAGS", Fate::Kept),
    ("WAIT", Fate::Kept),
    ("DELAY", Fate::Refused),
    ("RETRY_TOPIC", Fate::Kept),
    ("REAL_TOPIC", Fate::Stripped),
    ("REAL_QID", Fate::Stripped),
    ("TRAN_MSG", Fate::Refused),
    ("PGROUP", Fate::Kept),
    ("MIN_OFFSET", Fate::Kept),
    ("MAX_OFFSET", Fate::Kept),
    ("BUYER_ID", Fate::Kept),
    ("ORIGIN_MESSAGE_ID", Fate::Kept),
    ("TRANSFER_FLAG", Fate::Kept),
    ("CORRECTION_FLAG", Fate::Kept),
    ("MQ2_FLAG", Fate::Kept),
    ("RECONSUME_TIME", Fate::Kept),
    ("MSG_REGION", Fate::Replaced),
    ("TRACE_ON", Fate::Replaced),
    ("UNIQ_KEY", Fate::Kept),
    ("EXTEND_UNIQ_INFO", Fate::Kept),
    ("MAX_RECONSUME_TIMES", Fate::Kept),
    ("CONSUME_START_TIME", Fate::Kept),
    ("INNER_NUM", Fate::Kept),
    ("INNER_BASE", Fate::Kept),
    ("DUP_INFO", Fate::Kept),
    ("CHECK_IMMUNITY_TIME_IN_SECONDS", Fate::Kept),
    ("TRANSACTION_PREPARED_QUEUE_OFFSET", Fate::Kept),
    ("__transactionId__", Fate::Kept),
    ("TRANSACTION_CHECK_TIMES", Fate::Stripped),
    ("INSTANCE_ID", Fate::Kept),
    ("CORRELATION_ID", Fate::Kept),
    ("REPLY_TO_CLIENT", Fate::Kept),
    ("TTL", Fate::Kept),
    ("ARRIVE_TIME", Fate::Stripped),
    ("PUSH_REPLY_TIME", Fate::Stripped),
    ("CLUSTER", Fate::Replaced),
    ("MSG_TYPE", Fate::Kept),
    ("POP_CK", Fate::Stripped),
    ("POP_CK_OFFSET", Fate::Kept),
    ("1ST_POP_TIME", Fate::Stripped),
    ("__SHARDINGKEY", Fate::Kept),
    ("INNER_MULTI_DISPATCH", Fate::Kept),
    ("INNER_MULTI_QUEUE_OFFSET", Fate::Kept),
    ("TIMER_DELAY_SEC", Fate::Refused),
    ("TIMER_DELAY_MS", Fate::Refused),
    ("TIMER_DELIVER_MS", Fate::Refused),
    ("TIMER_OUT_MS", Fate::Stripped),
    ("TIMER_ENQUEUE_MS", Fate::Kept),
    ("TIMER_DEQUEUE_MS", Fate::Kept),
    ("TIMER_ROLL_TIMES", Fate::Kept),
    ("TIMER_DEL_UNIQKEY", Fate::Kept),
    ("DLQ_ORIGIN_TOPIC", Fate::Kept),
    ("DLQ_ORIGIN_MESSAGE_ID", Fate::Kept),
];

impl Target {
    /// The last message of `T`.
    async fn last<T>(&self, read: impl FnOnce(Record<'_>) -> T) -> T {
        let mut request = pull("T");
        let end = self.caller.end_of_queue(self.port, "T").await;
        request.ext.push("queueOffset", (end - 1).to_string());
        let pulled = self.ask(request).await;
        read(records(&pulled.body).last().unwrap().unwrap())
    }
}

#[tokio::test]
async fn attack_9_reserved_properties_forge_nothing() {
    let broker = Target::broker();
    broker.caller.first_send(broker.port, "T").await;
    broker.caller.first_send(broker.port, "Secret").await;
    for (name, fate) in RESERVED {
        let forged = if *name == "TRAN_MSG" { "true" } else { "7" };
        let value = if name.ends_with("TOPIC") { "Secret" } else { forged };
        // Set twice, and once more with an empty name and value around it.
        let text = format!("{name}\u{1}0\u{2}\u{1}\u{2}{name}\u{1}{value}\u{2}a\u{1}b\u{2}");
        let header = SendRequest { properties: &text, ..send_header("T") };
        let single = header.request(RequestCode::SEND_MESSAGE_V2).with_body("m");
        let batched = batch::Item { flag: 0, body: "m".into(), properties: text.clone().into() };
        let mut body = bytes::BytesMut::new();
        batch::put_item(&mut body, &batched);
        for (kind, request) in [("one", single), ("batch", batch_request(body.freeze()))] {
            let case = format!("{name} ({kind})");
            let before = broker.caller.end_of_queue(broker.port, "T").await;
            let answer = broker.ask(request).await;
            if *fate == Fate::Refused {
                assert_eq!(answer.code, 13, "{case}: {answer:?}");
                let after = broker.caller.end_of_queue(broker.port, "T").await;
                assert_eq!(after, before, "{case}");
                continue;
            }
            assert_eq!(answer.code, 0, "{case}: {answer:?}");
            let (topic, property) = broker
                .last(|record| {
                    (record.topic().to_owned(), record.property(name).map(str::to_owned))
                })
                .await;
            assert_eq!(topic, "T", "{case}");
            match (fate, kind) {
                (Fate::Kept, _) => assert_eq!(property.as_deref(), Some(value), "{case}"),
                (Fate::Replaced, "one") => {
                    assert!(property.is_some_and(|found| found != value), "{case}");
                }
                (Fate::Replaced | Fate::Stripped | Fate::Refused, _) => {
                    assert_eq!(property, None, "{case}");
                }
            }
            let own = broker.last(|record| record.property("a").map(str::to_owned)).await;
            assert_eq!(own.as_deref(), Some("b"), "{case}: what follows is still there");
        }
    }
    assert_eq!(broker.caller.end_of_queue(broker.port, "Secret").await, 1);
    broker.end();
}

#[tokio::test]
async fn attack_9_property_strings_that_are_none_are_stored_as_bytes_and_harm_nobody() {
    let broker = Target::broker();
    broker.caller.first_send(broker.port, "T").await;
    let bad: [&[u8]; 7] = [
        b"\x01\x02\x01\x02",
        b"\x02\x02\x02",
        b"\x01\x01\x01\x01",
        b"name without a value",
        b"a\x01b",
        b"\xff\xfe\x01\xff\x02",
        b"DELAY\x013\x02\xff",
    ];
    for bytes in bad {
        let item = batch::Item { flag: 0, body: "m".into(), properties: bytes.to_vec().into() };
        let mut body = bytes::BytesMut::new();
        batch::put_item(&mut body, &item);
        let answer = broker.ask(batch_request(body.freeze())).await;
        let is_delayed = properties::find(bytes, "DELAY").is_some();
        assert_eq!(answer.code, if is_delayed { 13 } else { 0 }, "{bytes:?}: {answer:?}");
        if !is_delayed {
            broker.last(|record| assert!(record.body_is_intact())).await;
        }
    }
    broker.end();
}

#[tokio::test]
async fn attack_10_no_bit_of_sys_flag_makes_a_message_what_it_is_not() {
    let broker = Target::broker();
    broker.caller.first_send(broker.port, "T").await;
    for bit in 0..32 {
        let asked = 1_i32 << bit;
        let header = SendRequest { sys_flag: asked, ..send_header("T") };
        let single = header.request(RequestCode::SEND_MESSAGE_V2).with_body("m");
        let header = SendRequest { sys_flag: asked, batch: true, ..send_header("T") };
        let body = item(22 + 3, 3, b"abc", 0);
        let batch = header.request(RequestCode::SEND_BATCH_MESSAGE).with_body(body);
        for request in [single, batch] {
            let before = broker.caller.end_of_queue(broker.port, "T").await;
            let answer = broker.ask(request).await;
            let after = broker.caller.end_of_queue(broker.port, "T").await;
            if asked & sys_flag::TRANSACTION_MASK != 0 {
                assert_eq!((answer.code, after), (13, before), "bit {bit}: {answer:?}");
                continue;
            }
            assert_eq!((answer.code, after), (0, before + 1), "bit {bit}: {answer:?}");
            let (stored, host) = broker.last(|r| (r.sys_flag(), r.born_host())).await;
            // Where hosts are and whether a body holds messages is the broker's to say.
            let want = if (4..8).contains(&bit) { 0 } else { asked };
            assert_eq!((stored, host.is_ipv4()), (want, true), "bit {bit}");
        }
    }
    broker.end();
}
