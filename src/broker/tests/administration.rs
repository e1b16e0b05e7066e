use super::*;
use crate::protocol::bodies::{
    self, ConsumeStats, ConsumeStatsList, ConsumeTimeSpans, KVTable, SubscriptionGroupConfig,
    TopicConfigTable,
};
use crate::store::retention::{DeleteWhen, Rules};

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_listed_and_deleted() {
    let broker = deploy().await;
    broker.create_topic("T", 3).await;
    broker.send("T", 0, "x", "old").await;
    let all = broker.ask(RequestCode::GET_ALL_TOPIC_CONFIG, &[]).await;
    let all: TopicConfigTable = bodies::decode(&all.body).unwrap();
    assert_eq!(all.topic_config_table["T"].read_queue_nums, 3);
    assert_eq!(all.topic_config_table["TBW102"].perm, 7);
    for name in ["TBW102", "SCHEDULE_TOPIC_XXXX", "C"] {
        let refused = broker.ask(RequestCode::DELETE_TOPIC_IN_BROKER, &[("topic", name)]).await;
        assert_eq!(refused.code, 29, "{name}: {refused:?}");
    }
    for _ in 0..2 {
        let deleted = broker.ask(RequestCode::DELETE_TOPIC_IN_BROKER, &[("topic", "T")]).await;
        assert_eq!(deleted.code, 0, "also when it is gone already");
    }
    assert_eq!(broker.ask(RequestCode::GET_TOPIC_CONFIG, &[("topic", "T")]).await.code, 17);
    broker.create_topic("T", 1).await;
    assert_eq!(broker.send("T", 0, "x", "new").await, 0, "a topic made again starts empty");
    assert_eq!(texts(&broker.call(pull("T", 0)).await), ["new"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_that_are_set_at_once_are_all_kept() {
    let broker = deploy().await;
    let rounds = 0..20;
    for round in rounds {
        let topic = format!("T{round}");
        broker.create_topic(&topic, 1).await;
        let [fifo, delete] = ["+message.type=FIFO", "+cleanup.policy=DELETE"];
        let set = |change| [("attributes", change)];
        let (fifo, delete) = (set(fifo), set(delete));
        // A client each: a connection's changes wait for each other.
        let another = Client::new(ClientOptions::default());
        let change = topic_request(&topic, &delete);
        let other = another.call(&broker.address, change, WITHIN);
        let ((), other) = tokio::join!(broker.create_topic_with(&topic, &fifo), other);
        assert_eq!(other.unwrap().code, 0);
        let tables = broker.running.broker().tables();
        let attributes = &tables.topic(&topic).unwrap().attributes;
        assert_eq!(attributes.len(), 2, "{topic}: {attributes:?}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_configured_and_shut_off() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    let put = |enable| {
        let config =
            SubscriptionGroupConfig { consume_enable: enable, ..SubscriptionGroupConfig::new("g") };
        let request = RemotingCommand::request(RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP);
        broker.call(request.with_body(bodies::encode(&config)))
    };
    assert_eq!(put(false).await.code, 0);
    let refused = broker.call(pull("T", 0)).await;
    assert_eq!((refused.code, refused.ext.get("forbiddenType")), (16, Some("2")));
    assert_eq!(put(true).await.code, 0);
    assert_eq!(broker.call(pull("T", 0)).await.code, 19);
    let deleted = broker.ask(RequestCode::DELETE_SUBSCRIPTIONGROUP, &[("groupName", "g")]).await;
    assert_eq!(deleted.code, 0);
    assert!(broker.running.broker().tables().group("g").is_none());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_change_by_a_list_and_never_a_path() {
    let broker = deploy().await;
    let change = |text: &'static str| {
        broker.call(RemotingCommand::request(RequestCode::UPDATE_BROKER_CONFIG).with_body(text))
    };
    let refused = change("brokerConfigPath=/tmp/x\n").await;
    assert_eq!((refused.code, remark(&refused)), (16, "Can not update config in black list."));
    assert_eq!(change("storePathRootDir=/tmp/x\n").await.code, 29);
    assert_eq!(change("autoCreateTopicEnable=maybe\n").await.code, 29);
    assert_eq!(change("autoCreateTopicEnable=false\n").await.code, 0);
    let text = broker.ask(RequestCode::GET_BROKER_CONFIG, &[]).await.body;
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.lines().any(|line| line == "autoCreateTopicEnable=false"), "{text}");
    assert_eq!(broker.call(send("Unknown", 0, "", "x")).await.code, 17, "it has an effect");
    let dir = broker.stop().await;
    let broker = deploy_in(dir, "").await;
    assert_eq!(broker.call(send("Unknown", 0, "", "x")).await.code, 17, "and lasts");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_find_the_numbers_that_they_read() {
    let broker = deploy().await;
    broker.create_topic("T", 2).await;
    broker.send("T", 1, "x", "m").await;
    broker.send("T", 1, "x", "m").await;
    let header = PullRequest { queue_id: 1, ..pull_header("T", 0, "*") };
    assert_eq!(broker.call(header.request(RequestCode::PULL_MESSAGE)).await.code, 0);
    let fields = [("consumerGroup", "g"), ("topic", "T"), ("queueId", "1"), ("commitOffset", "1")];
    assert_eq!(broker.ask(RequestCode::UPDATE_CONSUMER_OFFSET, &fields).await.code, 0);

    let stats = broker.ask(RequestCode::GET_CONSUME_STATS, &[("consumerGroup", "g")]).await;
    let stats: ConsumeStats = bodies::decode(&stats.body).unwrap();
    let offsets: Vec<_> = stats
        .offset_table
        .iter()
        .map(|(queue, o)| (queue.0.queue_id, o.broker_offset, o.pull_offset, o.consumer_offset))
        .collect();
    assert_eq!(offsets, [(0, 0, 0, 0), (1, 2, 2, 1)]);
    assert_eq!(broker.ask(RequestCode::GET_TOPIC_STATS_INFO, &[("topic", "T")]).await.code, 0);
    let spans = [("topic", "T"), ("group", "g")];
    let spans = broker.ask(RequestCode::QUERY_CONSUME_TIME_SPAN, &spans).await;
    let spans: ConsumeTimeSpans = bodies::decode(&spans.body).unwrap();
    let times: Vec<bool> = spans
        .consume_time_span_set
        .iter()
        .map(|span| span.consume_time_stamp > 0 && span.consume_time_stamp <= span.max_time_stamp)
        .collect();
    assert_eq!(times, [false, true]);
    let all = broker.ask(RequestCode::GET_BROKER_CONSUME_STATS, &[("isOrder", "false")]).await;
    let all: ConsumeStatsList = bodies::decode(&all.body).unwrap();
    assert!(
        all.consume_stats_list.iter().any(|group| group.contains_key("g"))
            && (all.total_diff, all.total_inflight_diff) == (1, 1)
    );
    assert_eq!(broker.call(beat_for("g", "U")).await.code, 0);
    for (field, queues) in [("topic", 0), ("topicList", 2)] {
        let fields = [("consumerGroup", "g"), (field, "T")];
        let stats = broker.ask(RequestCode::GET_CONSUME_STATS, &fields).await;
        let stats: ConsumeStats = bodies::decode(&stats.body).unwrap();
        assert_eq!(stats.offset_table.len(), queues, "the group wants another topic now");
    }
    let none = [("statsName", "TOPIC_PUT_NUMS"), ("statsKey", "U")];
    assert_eq!(broker.ask(RequestCode::VIEW_BROKER_STATS_DATA, &none).await.code, 1);

    let info = broker.ask(RequestCode::GET_BROKER_RUNTIME_INFO, &[]).await;
    let table = bodies::decode::<KVTable>(&info.body).unwrap().table;
    assert_eq!(
        (table["msgPutTotalTodayNow"].as_str(), table["brokerActive"].as_str()),
        ("2", "true")
    );
    assert!(table["earliestMessageTimeStamp"].parse::<i64>().unwrap() > 0, "{table:?}");
    broker.stop().await;
}

#[tokio::test]
async fn a_group_of_one_says_that_there_is_nobody_to_lead_it() {
    let broker = deploy().await;
    let refused = [
        (None, 604, "nobody can take over: there is no other member; n0 goes on leading"),
        (Some("n0"), 604, "n0 leads already"),
        (Some("n1"), 29, "the group has no member n1; it has n0"),
    ];
    for (to, code, remark) in refused {
        let fields: Vec<(&str, &str)> = to.map(|to| ("to", to)).into_iter().collect();
        let answer = broker.ask(RequestCode::TRANSFER_LEADER, &fields).await;
        assert_eq!((answer.code, answer.remark.as_deref()), (code, Some(remark)));
    }
    broker.stop().await;
}

fn beat_for(group: &str, topic: &str) -> RemotingCommand {
    let body = format!(
        "{{\"clientID\":\"c\",\"consumerDataSet\":[{{\"groupName\":\"{group}\",\
         \"subscriptionDataSet\":[{{\"topic\":\"{topic}\",\"subString\":\"*\"}}]}}]}}"
    );
    RemotingCommand::request(RequestCode::HEART_BEAT).with_body(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_deletes_old_segments_at_any_hour() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    let body = "x".repeat(4_000_000);
    for _ in 0..5 {
        assert_eq!(broker.call(send("T", 0, "", &body)).await.code, 0);
    }
    let group = &broker.running.broker().group;
    let everything =
        Rules { reserved: Duration::ZERO, delete_when: DeleteWhen::default(), ..Rules::default() };
    let deleted = async {
        while group.status().first_position.0 == 0 {
            group.set_retention(everything); // until the settings' rules are set again
            let answer = broker.ask(RequestCode::DELETE_EXPIRED_COMMITLOG, &[]).await;
            assert_eq!(answer.code, 0);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WITHIN, deleted).await.expect("a segment is deleted");
    until(|| group.queues().bounds("T", 0).is_ok_and(|bounds| bounds.min.0 > 1)).await;
    let overtaken = broker.call(pull("T", 1)).await;
    assert_eq!((overtaken.code, remark(&overtaken)), (21, "OFFSET_TOO_SMALL"));
    let fields = [("consumerGroup", "g"), ("topic", "T"), ("queueId", "0"), ("commitOffset", "1")];
    let commit = broker.ask(RequestCode::UPDATE_CONSUMER_OFFSET, &fields).await;
    assert_eq!(commit.code, 0, "who was overtaken tells what it has consumed: {commit:?}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vip_port_does_not_serve_pulls() {
    let broker = deploy().await;
    let port: u16 = broker.address.rsplit_once(':').unwrap().1.parse().unwrap();
    let vip = format!("127.0.0.1:{}", port - 2);
    let on_vip = |request| broker.client.call(&vip, request, WITHIN);
    assert_eq!(on_vip(send("T", 0, "", "x")).await.unwrap().code, 0);
    assert_eq!(on_vip(pull("T", 0)).await.unwrap().code, 3);
    assert_eq!(broker.call(pull("T", 0)).await.code, 0);
    let unknown = broker.ask(RequestCode(29_999), &[]).await;
    assert_eq!((unknown.code, remark(&unknown)), (3, " request type 29999 not supported"));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_named_by_names_or_nobody_looks_for_them() {
    let broker = deploy().await;
    let long = "n".repeat(70_000);
    for name in ["a b", &long] {
        for (code, field) in [
            (RequestCode::TRANSFER_LEADER, "to"),
            (RequestCode::REMOVE_MEMBER, "name"),
            (RequestCode::ASSIGN_MEMBER, "name"),
            (RequestCode::REPLACE_MEMBER, "old"),
        ] {
            let more = [
                (field, name),
                ("new", "n1"),
                ("address", "127.0.0.1:9"),
                ("dryRun", "true"),
                ("learner", "false"),
            ];
            let refused = broker.ask(code, &more).await;
            let remark = refused.remark.unwrap();
            assert!(remark.contains("is not a member name"), "{field}: {remark}");
            assert!(remark.len() < 200, "{field}: {}", remark.len());
        }
    }
    broker.stop().await;
}
