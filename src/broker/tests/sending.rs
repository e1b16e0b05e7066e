use super::hanging::HoldUp;
use super::members::Trio;
use super::*;
use crate::broker::topics;
use crate::protocol::bodies::{self, TopicConfigList};
use crate::protocol::message::{batch, id, properties};
use crate::protocol::perm;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_stored_as_sent_and_found_by_pull_id_and_key() {
    let broker = deploy().await;
    broker.create_topic("T", 2).await;
    let answer = broker
        .call(send("T", 1, "KEYS\u{1}a b\u{2}TAGS\u{1}x\u{2}UNIQ_KEY\u{1}U1\u{2}", "hello"))
        .await;
    assert_eq!((answer.code, answer.remark.as_deref()), (0, None));
    let field = |name| answer.ext.get(name).unwrap_or_default().to_owned();
    assert_eq!((field("queueId"), field("queueOffset")), ("1".to_owned(), "0".to_owned()));
    assert_eq!((field("transactionId"), field("TRACE_ON")), ("U1".to_owned(), "true".to_owned()));
    let (host, physical) = id::parse(&field("msgId")).unwrap();
    assert_eq!(host.to_string(), broker.address);

    let header = PullRequest { queue_id: 1, ..pull_header("T", 0, "*") };
    let pulled = broker.call(header.request(RequestCode::PULL_MESSAGE)).await;
    assert_eq!((pulled.code, remark(&pulled)), (0, "FOUND"));
    let record = first_record(&pulled);
    assert_eq!((record.body(), record.flag(), record.physical()), (&b"hello"[..], 3, physical));
    assert!(record.body_is_intact() && record.born_timestamp() == 7);
    assert_eq!(record.property("CLUSTER"), Some("C"));

    let viewed = [("offset", physical.to_string())].map(|(n, v)| (n, v));
    let viewed =
        request(RequestCode::VIEW_MESSAGE_BY_ID, &[]).with_field(viewed[0].0, &viewed[0].1);
    assert_eq!(texts(&broker.call(viewed).await), ["hello"]);
    for (key, unique) in [("b", "false"), ("U1", "true")] {
        let fields = [
            ("topic", "T"),
            ("key", key),
            ("maxNum", "5"),
            ("beginTimestamp", "0"),
            ("endTimestamp", "9223372036854775807"),
            ("_UNIQUE_KEY_QUERY", unique),
        ];
        let found = broker.ask(RequestCode::QUERY_MESSAGE, &fields).await;
        assert_eq!(texts(&found), ["hello"], "{key}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_an_application_sends_twice_is_stored_twice() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    for offset in ["0", "1"] {
        let sent = broker.call(send("T", 0, "UNIQ_KEY\u{1}U\u{2}", "same")).await;
        assert_eq!((sent.code, sent.ext.get("queueOffset")), (0, Some(offset)), "{sent:?}");
    }
    broker.stop().await;
}

/// A message of one unique key, and where its send says that it is.
fn keyed(queue_id: i32) -> RemotingCommand {
    send("T", queue_id, "UNIQ_KEY\u{1}U\u{2}", "same")
}

/// Position, queue and offset.
fn place(answer: &RemotingCommand) -> [u64; 3] {
    assert_eq!(answer.code, 0, "{answer:?}");
    let (_, position) = id::parse(answer.ext.get("msgId").unwrap()).unwrap();
    let [queue, offset] = ["queueId", "queueOffset"].map(|name| answer.ext.required(name).unwrap());
    [position, queue, offset]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_the_connection_ended_before_the_answer_gets_the_first_place() {
    let trio = Trio::deploy().await;
    let (leader, (_, follower)) = (trio.leader(), trio.followers()[0]);
    leader.create_topic("T", 2).await;
    let broker = leader.running.broker();
    let (hold, held) = std::sync::mpsc::channel();
    broker.group.set_listener(Arc::new(HoldUp(Mutex::new(held))));
    let producer = Client::new(ClientOptions::default());
    let before = leader.running.connections();
    let (caller, address) = (producer.clone(), leader.address.clone());
    let first = tokio::spawn(async move { caller.call(&address, keyed(0), WITHIN).await });
    // It is committed, and the thread that would answer stands still.
    until(|| broker.group.end_of_queue("T", 0).0 == 1).await;
    first.abort();
    drop((first.await, producer));
    until(|| leader.running.connections() == before).await;
    // One retry is on its way before the first try is settled, the others come later.
    let taken = || follower.running.broker().group.passed_on().taken;
    let (early, taken_before) = (follower.call(keyed(1)), taken());
    let release = async {
        until(|| taken() > taken_before).await;
        drop(hold);
    };
    let (early, ()) = tokio::join!(early, release);
    let first = place(&early);
    assert_eq!(first[1..], [0, 0]);
    for member in [leader, follower, leader] {
        assert_eq!(place(&member.call(keyed(1)).await), first);
    }
    let ends = [0, 1].map(|queue| broker.group.end_of_queue("T", queue).0);
    assert_eq!(ends, [1, 0], "stored once");
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_the_connection_ended_with_the_answer_on_its_way_gets_the_first_place() {
    let trio = Trio::deploy().await;
    let (leader, (_, follower)) = (trio.leader(), trio.followers()[0]);
    leader.create_topic("T", 2).await;
    let of = |queue_id, key: &str| send("T", queue_id, &format!("UNIQ_KEY\u{1}{key}\u{2}"), key);
    for (key, member) in [("U", leader), ("V", follower)] {
        until(|| member.running.broker().tables().topic("T").is_some()).await;
        let first = place(&member.call_and_go(of(0, key)).await);
        for other in [member, leader, follower] {
            assert_eq!(place(&other.call(of(1, key)).await), first, "{key}");
        }
        // Over a connection that lives it is the application's wish.
        let wish = format!("{key} again");
        let [one, two] = [member.call(of(1, &wish)).await, member.call(of(1, &wish)).await];
        assert_ne!(place(&one), place(&two));
    }
    let ends = [0, 1].map(|queue| leader.running.broker().group.end_of_queue("T", queue).0);
    assert_eq!(ends, [2, 4]);
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_to_a_topic_that_is_being_created_keep_their_order() {
    let broker = deploy().await;
    // Calls that wait for a connection to be made may overtake each other.
    assert_eq!(broker.call(pull("TBW102", 0)).await.code, 19);
    let calls = (0..20).map(|i| broker.call(send("New", 0, "", &format!("m{i}"))));
    let answers = futures_util::future::join_all(calls).await;
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(answer.code, 0, "{answer:?}");
        assert_eq!(answer.ext.get("queueOffset"), Some(i.to_string().as_str()));
    }
    let topic = broker.running.broker().tables().topic("New").cloned().unwrap();
    assert_eq!((topic.write_queues, topic.perm), (4, 6), "as the client wants, less inherit");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_one_run_of_messages() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    broker.send("T", 0, "x", "before").await;
    let mut body = BytesMut::new();
    for text in ["a", "b", "c"] {
        let mut own = properties::Builder::new();
        own.push("UNIQ_KEY", text);
        let item = batch::Item {
            flag: 1,
            body: Bytes::copy_from_slice(text.as_bytes()),
            properties: own.build(),
        };
        batch::put_item(&mut body, &item);
    }
    let header = SendRequest { batch: true, ..send_header("T", 0) };
    let whole = body.freeze();
    let sent = header.request(RequestCode::SEND_BATCH_MESSAGE).with_body(whole.clone());
    let answer = broker.call(sent).await;
    assert_eq!((answer.code, answer.ext.get("queueOffset")), (0, Some("1")));
    assert_eq!(answer.ext.get("msgId").unwrap().split(',').count(), 3);
    assert_eq!(texts(&broker.call(pull("T", 0)).await), ["before", "a", "b", "c"]);

    let torn = whole.slice(..whole.len() - 1);
    let answer = broker.call(header.request(RequestCode::SEND_BATCH_MESSAGE).with_body(torn)).await;
    assert_eq!(answer.code, 13, "{answer:?}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn senseless_sends_are_told_what_is_wrong() {
    let broker = deploy().await;
    broker.create_topic("T", 2).await;
    let with = |header: SendRequest<'_>, body: &str| {
        header.request(RequestCode::SEND_MESSAGE).with_body(body.to_owned())
    };
    let to = |topic, queue| with(send_header(topic, queue), "x");
    let long = "x".repeat(128);
    let huge = "y".repeat(4 * 1024 * 1024 + 1);
    let properties = format!("k\u{1}{}\u{2}", "v".repeat(40_000));
    let rows = [
        (to("", 0), 29, "The specified topic is blank."),
        (to("a b", 0), 29, "contains illegal characters, allowing only"),
        (to(&long, 0), 29, "is longer than topic max length"),
        (to("SCHEDULE_TOPIC_XXXX", 0), 16, "Sending message to topic[SCHEDULE_TOPIC_XXXX]"),
        (to("T", 2), 29, "request queueId[2] is illegal, TopicConfig [topicName=T"),
        (with(SendRequest { default_topic: "None", ..send_header("U", 0) }, "x"), 17, "topic[U]"),
        (with(send_header("T", 0), ""), 13, "body is empty"),
        (with(send_header("T", 0), &huge), 13, "msg body length limit 4194304B"),
        (send("T", 0, &properties, "x"), 13, "properties length limit"),
        (send("T", 0, "DELAY\u{1}3\u{2}", "x"), 13, "delayed messages are not supported"),
        (send("T", 0, "TRAN_MSG\u{1}true\u{2}", "x"), 13, "transactions are not supported"),
        (request(RequestCode::SEND_MESSAGE_V2, &[]), 1, "the custom field <a> is null"),
        (with(send_header("T", 0), "x").with_field("queueId", "seven"), 1, "[seven]"),
    ];
    for (sent, code, text) in rows {
        let answer = broker.call(sent).await;
        assert_eq!(answer.code, code, "{answer:?}");
        assert!(remark(&answer).contains(text), "{} has no {text}", remark(&answer));
        assert_eq!(answer.ext.get("MSG_REGION"), Some("DefaultRegion"));
    }
    for _ in 0..8 {
        let answer = broker.call(to("T", -1)).await;
        let queue: u32 = answer.ext.required("queueId").unwrap();
        assert!(answer.code == 0 && queue < 2, "a negative queue id picks one: {answer:?}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_consumed_in_vain_too_often_becomes_a_dead_letter() {
    let broker = deploy().await;
    let retried = |times, limit| {
        SendRequest {
            reconsume_times: times,
            max_reconsume_times: limit,
            ..send_header("%RETRY%g", 0)
        }
        .request(RequestCode::SEND_MESSAGE_V2)
        .with_body(format!("after {times}"))
    };
    for (times, limit) in [(1, None), (16, None), (17, None), (4, Some(3))] {
        assert_eq!(broker.call(retried(times, limit)).await.code, 0);
    }
    assert_eq!(texts(&broker.call(pull("%RETRY%g", 0)).await), ["after 1", "after 16"]);
    assert_eq!(texts(&broker.call(pull("%DLQ%g", 0)).await), ["after 17", "after 4"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn above_a_limit_topics_come_by_an_operator_only() {
    let broker = deploy().await;
    let letter = |group: &str| {
        let header = SendRequest { reconsume_times: 17, ..send_header(group, 0) };
        header.request(RequestCode::SEND_MESSAGE_V2).with_body("x")
    };
    assert_eq!(broker.call(letter("%RETRY%g")).await.code, 0);
    let there = broker.running.broker().tables().topic_count();
    let names: Vec<usize> = (there..topics::BY_USE_MAX - 1).collect();
    for names in names.chunks(10_000) {
        let topic = |n| topics::to_config(&topics::plain(&format!("T{n}"), 1, perm::READ));
        let list = TopicConfigList { topic_config_list: names.iter().map(topic).collect() };
        let request = RemotingCommand::request(RequestCode::UPDATE_AND_CREATE_TOPIC_LIST);
        assert_eq!(broker.call(request.with_body(bodies::encode(&list))).await.code, 0);
    }
    assert_eq!(broker.call(send("Last", 0, "", "x")).await.code, 0);
    let refused = [send("More", 0, "", "x"), letter("%RETRY%h"), send("%RETRY%h", 0, "", "x")];
    for request in refused {
        let answer = broker.call(request).await;
        assert!(answer.code != 0, "{answer:?}");
    }
    let answer = broker.call(send("More", 0, "", "x")).await;
    let why = "There are 40000 topics or more, and no more come by use: an operator may create it";
    assert!(answer.code == 17 && remark(&answer).contains(why), "{answer:?}");
    assert_eq!(broker.call(letter("%RETRY%g")).await.code, 0, "it is there");
    broker.create_topic("More", 1).await;
    assert_eq!(broker.call(send("More", 0, "", "x")).await.code, 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_orderly_group_gives_back_becomes_a_dead_letter_at_once() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    let queue = "{\"brokerName\":\"B\",\"queueId\":0,\"topic\":\"T\"}";
    let body = format!("{{\"clientId\":\"c\",\"consumerGroup\":\"g\",\"mqSet\":[{queue}]}}");
    let lock = RemotingCommand::request(RequestCode::LOCK_BATCH_MQ).with_body(body);
    assert_eq!(broker.call(lock).await.code, 0);
    for group in ["g", "h"] {
        let again = send(&format!("%RETRY%{group}"), 0, "DELAY\u{1}0\u{2}", group);
        assert_eq!(broker.call(again).await.code, 0);
    }
    assert_eq!(texts(&broker.call(pull("%DLQ%g", 0)).await), ["g"]);
    assert_eq!(texts(&broker.call(pull("%RETRY%h", 0)).await), ["h"], "it holds no locks");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_being_emptied_takes_what_is_sent_to_it_but_not_in_order() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    broker.create_topic_with("Ordered", &[("order", "true")]).await;
    let read_only = RemotingCommand::request(RequestCode::UPDATE_BROKER_CONFIG);
    assert_eq!(broker.call(read_only.with_body("brokerPermission=4\n")).await.code, 0);
    assert_eq!(broker.call(send("T", 0, "", "x")).await.code, 0, "routes tell producers");
    let refused = broker.call(send("Ordered", 0, "", "x")).await;
    assert_eq!((refused.code, remark(&refused).ends_with("message is forbidden")), (16, true));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_of_topics_are_kept_and_show_in_messages() {
    let broker = deploy().await;
    let of_unit = SendRequest { unit_mode: true, ..send_header("Unit", 0) };
    let sent = of_unit.request(RequestCode::SEND_MESSAGE_V2).with_body("x");
    assert_eq!(broker.call(sent).await.code, 0);
    let pulled = broker.call(pull("Unit", 0)).await;
    assert_eq!(pulled.ext.get("topicSysFlag"), Some("1"), "a topic of a unit");
    assert_eq!(first_record(&pulled).sys_flag() & 0x2, 0);

    broker.create_topic_with("Tags", &[("topicFilterType", "MULTI_TAG")]).await;
    assert_eq!(broker.call(send("Tags", 0, "", "x")).await.code, 0);
    let pulled = broker.call(pull("Tags", 0)).await;
    assert_eq!(first_record(&pulled).sys_flag() & 0x2, 0x2, "several tags in a message");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_survives_a_restart() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    for i in 0..5 {
        broker.send("T", 0, "x", &format!("m{i}")).await;
    }
    let dir = broker.stop().await;
    let broker = deploy_in(dir, "").await;
    assert_eq!(broker.send("T", 0, "x", "after").await, 5);
    let want = ["m0", "m1", "m2", "m3", "m4", "after"];
    assert_eq!(texts(&broker.call(pull("T", 0)).await), want);
    broker.stop().await;
}
