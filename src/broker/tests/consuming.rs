use super::*;

fn waiting(topic: &str, offset: i64, tags: &str, wait_ms: i64) -> RemotingCommand {
    PullRequest {
        sys_flag: flag::SUBSCRIPTION | flag::SUSPEND,
        suspend_timeout_millis: wait_ms,
        ..pull_header(topic, offset, tags)
    }
    .request(RequestCode::PULL_MESSAGE)
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_answer_by_the_rules_of_java() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    let next = |answer: &RemotingCommand| answer.ext.required::<i64>("nextBeginOffset").unwrap();
    let empty = broker.call(pull("T", 0)).await;
    assert_eq!((empty.code, next(&empty)), (19, 0));
    let far = broker.call(pull("T", 10)).await;
    assert_eq!((far.code, next(&far)), (21, 0), "an empty queue");
    for i in 0..40 {
        broker.send("T", 0, if i % 2 == 0 { "even" } else { "odd" }, &format!("m{i}")).await;
    }
    let rows = [
        (0, "*", 0, 32, 32), // at most 32 messages
        (30, "*", 0, 40, 10),
        (0, "even || none", 0, 40, 20),
        (0, "none", 20, 40, 0),
        (40, "*", 19, 40, 0),
        (41, "*", 21, 40, 0),
        (-1, "*", 21, 0, 0),
    ];
    for (offset, tags, code, want_next, count) in rows {
        let header = pull_header("T", offset, tags);
        let answer = broker.call(header.request(RequestCode::PULL_MESSAGE)).await;
        let got = (answer.code, next(&answer), texts(&answer).len());
        assert_eq!(got, (code, want_next, count), "{offset} {tags}");
        let bounds = (answer.ext.get("minOffset"), answer.ext.get("maxOffset"));
        assert_eq!(bounds, (Some("0"), Some("40")));
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_cannot_prove_it_sends_no_consumer_back() {
    let broker = deploy().await;
    broker.create_topic("T", 2).await;
    broker.send("T", 0, "x", "first").await;
    let empty = PullRequest { queue_id: 1, ..pull_header("T", 5, "*") };
    let beyond = [pull("T", 5), empty.request(RequestCode::PULL_MESSAGE)];
    for pull in beyond.clone() {
        assert_eq!(broker.call(pull).await.code, 21);
    }
    let parts = broker.running.broker();
    parts.group.retire().await; // it takes no proposals any more, and nobody takes over
    assert!(parts.is_leader());
    for pull in beyond {
        let answer = broker.call(pull).await;
        assert_eq!((answer.code, answer.ext.get("nextBeginOffset")), (19, Some("5")));
    }
    let held = broker.call(waiting("T", 5, "*", 300)).await;
    assert_eq!((held.code, held.ext.get("nextBeginOffset")), (19, Some("5")));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_proven_leader_tells_where_a_queue_begins_and_ends_and_was_at_a_time() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    broker.send("T", 0, "x", "first").await;
    let parts = broker.running.broker();
    let queue = [("topic", "T"), ("queueId", "0"), ("timestamp", "0")];
    let before = parts.group.status().last.unwrap();
    let ends = (0..500).map(|_| broker.ask(RequestCode::GET_MAX_OFFSET, &queue));
    for answer in futures_util::future::join_all(ends).await {
        assert_eq!((answer.code, answer.ext.get("offset")), (0, Some("1")));
    }
    let entries = parts.group.status().last.unwrap().0 - before.0;
    assert!((1..=250).contains(&entries), "questions share entries: {entries}");
    parts.group.retire().await; // it takes no proposals any more, and nobody takes over
    assert!(parts.is_leader());
    let codes = [
        RequestCode::GET_MAX_OFFSET,
        RequestCode::GET_MIN_OFFSET,
        RequestCode::SEARCH_OFFSET_BY_TIMESTAMP,
    ];
    for code in codes {
        let refused = broker.ask(code, &queue).await;
        assert_eq!(refused.code, 14, "{code}: {refused:?}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_disk_has_changed_is_not_served() {
    use std::os::unix::fs::FileExt;
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    broker.send("T", 0, "", "first").await;
    broker.call(send("T", 0, "KEYS\x01some-key\x02", "second")).await;
    let whole = broker.call(pull("T", 0)).await;
    let second = records(&whole.body).nth(1).unwrap().unwrap().physical();
    let log = std::fs::read_dir(broker.dir.path().join("store/commitlog")).unwrap();
    let segment = log.map(|file| file.unwrap().path()).min().unwrap();
    let file = std::fs::File::options().read(true).write(true).open(segment).unwrap();
    let mut record = vec![0; 200];
    file.read_exact_at(&mut record, second).unwrap();
    let place = |part: &[u8]| {
        let at = record.windows(part.len()).position(|bytes| bytes == part).unwrap();
        second + at as u64
    };
    file.write_at(b"S", place(b"second")).unwrap();

    let refused = broker.call(pull("T", 0)).await;
    assert_eq!(refused.code, 1);
    assert!(remark(&refused).contains(&format!("position {second} is damaged")), "{refused:?}");
    let by_id = request(RequestCode::VIEW_MESSAGE_BY_ID, &[("offset", &second.to_string())]);
    let refused = broker.call(by_id).await;
    assert!(remark(&refused).contains(&format!("position {second} is damaged")), "{refused:?}");
    let end = i64::MAX.to_string();
    let by_key = [
        ("topic", "T"),
        ("key", "some-key"),
        ("maxNum", "9"),
        ("beginTimestamp", "0"),
        ("endTimestamp", &end),
    ];
    let refused = broker.ask(RequestCode::QUERY_MESSAGE, &by_key).await;
    assert!(remark(&refused).contains(&format!("position {second} is damaged")), "{refused:?}");
    file.write_at(b"s", place(b"second")).unwrap();
    assert_eq!(texts(&broker.ask(RequestCode::QUERY_MESSAGE, &by_key).await), ["second"]);
    file.write_at(b"S", place(b"some-key")).unwrap(); // only the entry's checksum covers properties
    let refused = broker.ask(RequestCode::QUERY_MESSAGE, &by_key).await;
    assert!(remark(&refused).contains(&format!("position {second} is damaged")), "{refused:?}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_memory_has_probably_lost_is_not_read_by_the_threads_of_connections() {
    let broker = deploy_on(TempDir::new().unwrap(), "", 0).await;
    broker.create_topic("T", 1).await;
    for text in ["first", "second"] {
        broker.send("T", 0, "x", text).await;
    }
    assert_eq!(texts(&broker.call(pull("T", 0)).await), ["first", "second"]);
    broker.running.broker().readers.close();
    let refused = broker.call(pull("T", 0)).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert_eq!(broker.call(pull("T", 2)).await.code, 19, "nothing to read");
    broker.send("T", 0, "x", "third").await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_new_group_starts_is_not_read_by_the_raft_thread() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    broker.send("T", 0, "x", "first").await;
    let query = || {
        let fields = [("consumerGroup", "g"), ("topic", "T"), ("queueId", "0")];
        broker.call(request(RequestCode::QUERY_CONSUMER_OFFSET, &fields))
    };
    assert_eq!(query().await.ext.get("offset"), Some("0"));
    broker.running.broker().readers.close();
    assert_eq!(query().await.code, 2, "nobody is left to read");
    let carrying = PullRequest {
        sys_flag: flag::SUBSCRIPTION | flag::COMMIT_OFFSET,
        commit_offset: 1,
        ..pull_header("T", 1, "*")
    };
    assert_eq!(broker.call(carrying.request(RequestCode::PULL_MESSAGE)).await.code, 19);
    assert_eq!(query().await.ext.get("offset"), Some("1"), "what is stored is in memory");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn look_ups_are_not_read_by_the_threads_of_connections() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    broker.send("T", 0, "x", "first").await;
    let fields = [
        ("topic", "T"),
        ("queueId", "0"),
        ("timestamp", "0"),
        ("key", "k"),
        ("maxNum", "9"),
        ("beginTimestamp", "0"),
        ("endTimestamp", "9"),
        ("offset", "0"),
        ("index", "0"),
        ("count", "9"),
        ("consumerGroup", "g"),
        ("group", "g"),
        ("isOrder", "false"),
        ("isForce", "true"),
    ];
    let codes = [
        RequestCode::SEARCH_OFFSET_BY_TIMESTAMP,
        RequestCode::GET_MIN_OFFSET,
        RequestCode::GET_EARLIEST_MSG_STORETIME,
        RequestCode::QUERY_MESSAGE,
        RequestCode::VIEW_MESSAGE_BY_ID,
        RequestCode::QUERY_CONSUME_QUEUE,
        RequestCode::INVOKE_BROKER_TO_RESET_OFFSET,
        RequestCode::GET_BROKER_RUNTIME_INFO,
        RequestCode::GET_TOPIC_STATS_INFO,
        RequestCode::GET_CONSUME_STATS,
        RequestCode::GET_BROKER_CONSUME_STATS,
        RequestCode::QUERY_CONSUME_TIME_SPAN,
    ];
    for code in codes {
        assert_ne!(broker.ask(code, &fields).await.code, 2, "{code}");
    }
    broker.running.broker().readers.close();
    for code in codes {
        let refused = broker.ask(code, &fields).await;
        assert_eq!(refused.code, 2, "nobody is left to read: {code} {refused:?}");
    }
    broker.send("T", 0, "x", "second").await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn senseless_pulls_are_told_what_is_wrong() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    let base = || pull_header("T", 0, "*");
    let rows = [
        (PullRequest { topic: "U", ..base() }, 17, "topic[U] not exist"),
        (PullRequest { queue_id: 9, ..base() }, 29, "queueId[9] is illegal, topic:[T]"),
        (PullRequest { queue_id: -1, ..base() }, 29, "queueId[-1] is illegal"),
        (PullRequest { max_msg_nums: -1, ..base() }, 29, "maxMsgNums [-1]"),
        (PullRequest { subscription: Some("||"), ..base() }, 23, "subscription failed"),
        (PullRequest { expression_type: Some("SQL92"), ..base() }, 1, "does not support"),
        (PullRequest { consumer_group: "a b", ..base() }, 26, "subscription group [a b]"),
        (PullRequest { sys_flag: 0, ..base() }, 24, "the consumer's group info not exist"),
        (
            PullRequest {
                sys_flag: flag::SUBSCRIPTION | flag::COMMIT_OFFSET,
                commit_offset: -1,
                ..base()
            },
            29,
            "commitOffset [-1]",
        ),
    ];
    for (header, code, text) in rows {
        let answer = broker.call(header.request(RequestCode::PULL_MESSAGE)).await;
        assert_eq!(answer.code, code, "{answer:?}");
        assert!(remark(&answer).contains(text), "{} has no {text}", remark(&answer));
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_pull_is_answered_by_the_first_message_that_matches() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    let held = broker.call(waiting("T", 0, "wanted", 60_000));
    let woken = async {
        let parts = broker.running.broker();
        until(|| parts.wakeups.held() == 1).await;
        broker.send("T", 0, "other", "no").await;
        broker.send("T", 0, "wanted", "yes").await;
    };
    let (answer, ()) = tokio::join!(held, woken);
    assert_eq!((answer.code, texts(&answer)), (0, vec!["yes".to_owned()]));
    assert_eq!(answer.ext.get("nextBeginOffset"), Some("2"));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_pull_is_answered_at_its_deadline() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    let started = crate::clock::now();
    let answer = broker.call(waiting("T", 0, "*", 300)).await;
    let took = crate::clock::now() - started;
    assert_eq!(answer.code, 19);
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_pull_is_told_at_once_that_its_group_was_reset() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    broker.send("T", 0, "x", "m0").await;
    broker.send("T", 0, "x", "m1").await;
    let another = PullRequest { consumer_group: "h", ..pull_header("T", 2, "*") };
    assert_eq!(broker.call(another.request(RequestCode::PULL_MESSAGE)).await.code, 19);
    let held = broker.call(waiting("T", 2, "*", 60_000));
    let reset = |group| {
        let fields = [
            ("topic", "T"),
            ("group", group),
            ("timestamp", "-1"),
            ("isForce", "true"),
            ("queueId", "0"),
            ("offset", "1"),
        ];
        broker.call(request(RequestCode::INVOKE_BROKER_TO_RESET_OFFSET, &fields))
    };
    let resetting = async {
        let parts = broker.running.broker();
        until(|| parts.wakeups.held() == 1).await;
        assert_eq!(reset("h").await.code, 0);
        until(|| parts.wakeups.held() == 1).await; // looked at, and not its business
        let fields =
            [("consumerGroup", "h"), ("topic", "T"), ("queueId", "0"), ("commitOffset", "2")];
        let void = broker.ask(RequestCode::UPDATE_CONSUMER_OFFSET, &fields).await;
        assert_eq!((void.code, remark(&void)), (0, "Offset has been previously reset"));
        assert_eq!(reset("g").await.code, 0);
    };
    let (answer, ()) = tokio::join!(held, resetting);
    assert_eq!((answer.code, remark(&answer)), (21, "OFFSET_RESET"));
    assert_eq!(answer.ext.get("nextBeginOffset"), Some("1"));
    assert_eq!(texts(&broker.call(pull("T", 1)).await), ["m1"], "told once");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn held_pulls_are_answered_when_their_queue_or_topic_goes() {
    let broker = deploy().await;
    broker.create_topic("T", 2).await;
    let on_queue = |queue_id| {
        let header = PullRequest {
            queue_id,
            sys_flag: flag::SUBSCRIPTION | flag::SUSPEND,
            suspend_timeout_millis: 60_000,
            ..pull_header("T", 0, "*")
        };
        broker.call(header.request(RequestCode::PULL_MESSAGE))
    };
    let changing = async {
        let parts = broker.running.broker();
        until(|| parts.wakeups.held() == 2).await;
        broker.create_topic("T", 1).await;
        until(|| parts.wakeups.held() == 1).await;
        let deleted = broker.ask(RequestCode::DELETE_TOPIC_IN_BROKER, &[("topic", "T")]).await;
        assert_eq!(deleted.code, 0);
    };
    let (first, second, ()) = tokio::join!(on_queue(0), on_queue(1), changing);
    assert_eq!(first.code, 17, "{first:?}");
    assert_eq!(second.code, 29, "{second:?}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_held_pulls_and_a_closed_connection_drops_its_own() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    let parts = Arc::clone(broker.running.broker());
    let gone = Client::new(ClientOptions::default());
    let call = gone.call(&broker.address, waiting("T", 0, "*", 60_000), WITHIN);
    tokio::select! {
        answer = call => panic!("{answer:?}"),
        () = until(|| parts.wakeups.held() == 1) => {}
    }
    drop(gone);
    until(|| parts.wakeups.held() == 0).await;

    let Deployed { running, client, address, dir: _dir } = broker;
    let held = client.call(&address, waiting("T", 0, "*", 60_000), WITHIN);
    let stopping = async {
        until(|| parts.wakeups.held() == 1).await;
        running.stop().await;
    };
    let (answer, ()) = tokio::join!(held, stopping);
    assert_eq!(answer.unwrap().code, 19);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_was_committed_is_found() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    broker.create_topic("Empty", 1).await;
    for i in 0..3 {
        broker.send("T", 0, "x", &format!("m{i}")).await;
    }
    let query = |topic, zero| {
        let fields = [("consumerGroup", "g"), ("topic", topic), ("queueId", "0")];
        let asked = request(RequestCode::QUERY_CONSUMER_OFFSET, &fields);
        broker.call(asked.with_field("setZeroIfNotFound", zero))
    };
    assert_eq!(query("T", true).await.ext.get("offset"), Some("0"), "a young queue");
    assert_eq!(query("T", false).await.code, 22);
    assert_eq!(query("Empty", true).await.code, 22);
    let commit = |group: &'static str, topic: &'static str, offset: &'static str| {
        let fields = [
            ("consumerGroup", group),
            ("topic", topic),
            ("queueId", "0"),
            ("commitOffset", offset),
        ];
        broker.call(request(RequestCode::UPDATE_CONSUMER_OFFSET, &fields))
    };
    assert_eq!(commit("g", "T", "1").await.code, 26, "nobody has used the group yet");
    let carrying = PullRequest {
        sys_flag: flag::SUBSCRIPTION | flag::COMMIT_OFFSET,
        commit_offset: 2,
        ..pull_header("T", 2, "*")
    };
    assert_eq!(broker.call(carrying.request(RequestCode::PULL_MESSAGE)).await.code, 0);
    assert_eq!(query("T", false).await.ext.get("offset"), Some("2"), "carried by the pull");
    for offset in ["3", "1", "1"] {
        assert_eq!(commit("g", "T", offset).await.code, 0);
        assert_eq!(query("T", false).await.ext.get("offset"), Some(offset), "it may go back");
    }
    assert_eq!(commit("g", "U", "1").await.code, 17);
    for beyond in ["-9", "4"] {
        assert_eq!(commit("g", "T", beyond).await.code, 29);
        assert_eq!(query("T", false).await.ext.get("offset"), Some("1"), "{beyond}");
    }
    let carrying = PullRequest { commit_offset: 4, ..carrying };
    assert_eq!(broker.call(carrying.request(RequestCode::PULL_MESSAGE)).await.code, 0);
    assert_eq!(query("T", false).await.ext.get("offset"), Some("1"), "nor carried by a pull");
    let dir = broker.stop().await;
    let broker = deploy_in(dir, "").await;
    let fields =
        [("consumerGroup", "g"), ("topic", "T"), ("queueId", "0"), ("setZeroIfNotFound", "false")];
    let found = broker.ask(RequestCode::QUERY_CONSUMER_OFFSET, &fields).await;
    assert_eq!(found.ext.get("offset"), Some("1"), "after a restart");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_of_queues_are_known_also_of_those_that_do_not_exist() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    broker.send("T", 0, "x", "m").await;
    let rows = [
        (RequestCode::GET_MAX_OFFSET, "T", "offset", Some("1")),
        (RequestCode::GET_MIN_OFFSET, "T", "offset", Some("0")),
        (RequestCode::GET_MAX_OFFSET, "U", "offset", Some("0")),
        (RequestCode::GET_EARLIEST_MSG_STORETIME, "U", "timestamp", Some("-1")),
        (RequestCode::SEARCH_OFFSET_BY_TIMESTAMP, "T", "offset", Some("1")),
        (RequestCode::SEARCH_OFFSET_BY_TIMESTAMP, "U", "offset", Some("0")),
    ];
    for (code, topic, field, want) in rows {
        let fields = [("topic", topic), ("queueId", "0"), ("timestamp", "9999999999999")];
        let answer = broker.ask(code, &fields).await;
        assert_eq!((answer.code, answer.ext.get(field)), (0, want), "{code} {topic}");
    }
    let missing = broker.ask(RequestCode::GET_MAX_OFFSET, &[("topic", "T")]).await;
    assert_eq!(missing.code, 1, "{missing:?}");
    broker.stop().await;
}
