use super::*;
use crate::clock;
use crate::protocol::bodies::{self, ConsumerList, LockBatch, LockedQueues, MessageQueue};

pub(super) fn heartbeat(client: &str, topic: &str, version: i64) -> RemotingCommand {
    let body = format!(
        "{{\"clientID\":\"{client}\",\"producerDataSet\":[{{\"groupName\":\"p\"}}],\
         \"consumerDataSet\":[{{\"groupName\":\"g\",\"consumeType\":\"CONSUME_PASSIVELY\",\
         \"messageModel\":\"CLUSTERING\",\"consumeFromWhere\":\"CONSUME_FROM_LAST_OFFSET\",\
         \"subscriptionDataSet\":[{{\"topic\":\"{topic}\",\"subString\":\"*\",\
         \"subVersion\":{version},\"expressionType\":\"TAG\"}}]}}]}}"
    );
    RemotingCommand::request(RequestCode::HEART_BEAT).with_body(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_makes_a_member_and_members_hear_of_each_other() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    let (heard, mut hears) = tokio::sync::mpsc::channel(8);
    let options = ClientOptions { handler: Some(Arc::new(Heard(heard))), ..Default::default() };
    let first = Client::new(options);
    let answer = first.call(&broker.address, heartbeat("a", "T", 1), WITHIN).await.unwrap();
    assert_eq!((answer.code, answer.ext.get("IS_SUPPORT_HEART_BEAT_V2")), (0, Some("true")));
    assert_eq!(
        hears.recv().await.unwrap().request_code(),
        RequestCode::NOTIFY_CONSUMER_IDS_CHANGED
    );
    let tables = broker.running.broker().tables();
    assert_eq!(tables.topic("%RETRY%g").unwrap().read_queues, 1);

    let ids = || async {
        let answer =
            broker.ask(RequestCode::GET_CONSUMER_LIST_BY_GROUP, &[("consumerGroup", "g")]).await;
        bodies::decode::<ConsumerList>(&answer.body).unwrap().consumer_id_list
    };
    assert_eq!(broker.call(heartbeat("b", "T", 1)).await.code, 0);
    let told = hears.recv().await.unwrap();
    assert_eq!(told.ext.get("consumerGroup"), Some("g"));
    assert_eq!(ids().await, ["a", "b"]);

    let goodbye = [("clientID", "b"), ("producerGroup", "p"), ("consumerGroup", "g")];
    assert_eq!(broker.ask(RequestCode::UNREGISTER_CLIENT, &goodbye).await.code, 0);
    assert_eq!(hears.recv().await.unwrap().ext.get("consumerGroup"), Some("g"));
    assert_eq!(ids().await, ["a"]);
    drop(first);
    let consumers = &broker.running.broker().consumers;
    until(|| !consumers.read().members().has("g")).await;
    let none = broker.ask(RequestCode::GET_CONSUMER_LIST_BY_GROUP, &[("consumerGroup", "g")]).await;
    assert_eq!((none.code, remark(&none)), (1, "no consumer for this group, g"));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_that_were_sent_away_are_in_their_group_until_they_had_time_to_come_back() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    let (heard, mut hears) = tokio::sync::mpsc::channel(8);
    let options = ClientOptions { handler: Some(Arc::new(Heard(heard))), ..Default::default() };
    let stays = Client::new(options);
    stays.call(&broker.address, heartbeat("stays", "T", 1), WITHIN).await.unwrap();
    let away = [(); 2].map(|()| Client::new(ClientOptions::default()));
    for (client, id) in away.iter().zip(["a", "b"]) {
        client.call(&broker.address, heartbeat(id, "T", 1), WITHIN).await.unwrap();
    }
    for _ in 0..3 {
        hears.recv().await.unwrap(); // of itself and of the others
    }
    let ids = || async {
        let of = [("consumerGroup", "g")];
        let answer = broker.ask(RequestCode::GET_CONSUMER_LIST_BY_GROUP, &of).await;
        bodies::decode::<ConsumerList>(&answer.body).unwrap().consumer_id_list
    };
    let (of, now) = (broker.running.broker(), clock::now());
    let stays_at = of.consumers.read().members().find("g", "stays").unwrap();
    let later = now + Duration::from_secs(3600);
    of.acquaintance.send_away(of.consumers.read().members(), |id| id == stays_at, later);
    drop(away);
    until(|| of.consumers.read().members().of("g").count() == 1).await;
    assert_eq!(ids().await, ["a", "b", "stays"]);
    assert!(hears.try_recv().is_err(), "nobody takes the queues of others");
    let goodbye = [("clientID", "a"), ("consumerGroup", "g")];
    assert_eq!(broker.ask(RequestCode::UNREGISTER_CLIENT, &goodbye).await.code, 0);
    assert_eq!(ids().await, ["b", "stays"], "over another connection");
    assert!(of.acquaintance.away("g", later).is_empty());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_are_asked_for_when_they_are_not_known() {
    let broker = deploy().await;
    let beat = |fingerprint: i32, without: bool| {
        let subscriptions = if without { "" } else { "{\"topic\":\"T\",\"subString\":\"*\"}" };
        let body = format!(
            "{{\"clientID\":\"a\",\"heartbeatFingerprint\":{fingerprint},\"withoutSub\":{without},\
             \"consumerDataSet\":[{{\"groupName\":\"g\",\
             \"subscriptionDataSet\":[{subscriptions}]}}]}}"
        );
        broker.call(RemotingCommand::request(RequestCode::HEART_BEAT).with_body(body))
    };
    let rows = [
        (7, true, "true"), // as after a restart of the broker
        (7, false, "false"),
        (7, true, "false"),
        (8, true, "true"),
        (8, false, "true"), // another client may still think that 7 is known
        (8, true, "false"),
        (0, false, "true"), // version 1 may have changed everything
        (8, true, "true"),
    ];
    for (row, (fingerprint, without, want)) in rows.into_iter().enumerate() {
        let answer = beat(fingerprint, without).await;
        assert_eq!(answer.ext.get("IS_SUB_CHANGE"), Some(want), "row {row}: {answer:?}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_cannot_be_does_not_keep_a_client_from_its_others() {
    let broker = deploy().await;
    let body = "{\"clientID\":\"a\",\"producerDataSet\":[{\"groupName\":\"p\"}],\
                \"consumerDataSet\":[{\"groupName\":\"a b\"},{\"groupName\":\"g\"}]}";
    let beat = RemotingCommand::request(RequestCode::HEART_BEAT).with_body(body);
    assert_eq!(broker.call(beat).await.code, 0);
    let consumers = |group| broker.running.broker().consumers.read().members().has(group);
    assert!(consumers("g") && !consumers("a b"));
    assert!(broker.running.broker().producers.read().has("p"));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_may_rely_on_the_subscription_of_the_heartbeat() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    broker.create_topic("U", 1).await;
    assert_eq!(broker.call(heartbeat("a", "T", 100)).await.code, 0);
    let relying = |topic, sub_version| {
        let header = PullRequest { sys_flag: 0, sub_version, ..pull_header(topic, 0, "*") };
        broker.call(header.request(RequestCode::PULL_MESSAGE))
    };
    assert_eq!(relying("T", 100).await.code, 19);
    assert_eq!(relying("T", 101).await.code, 25, "newer than the heartbeat's");
    assert_eq!(relying("U", 100).await.code, 24, "not subscribed");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_locks_have_one_holder() {
    let broker = deploy().await;
    broker.create_topic("T", 3).await;
    let body = |client: &str, queues: &[i32]| {
        let queue = |id: &i32| MessageQueue {
            broker_name: "B".to_owned(),
            queue_id: *id,
            topic: "T".to_owned(),
        };
        bodies::encode(&LockBatch {
            client_id: client.to_owned(),
            consumer_group: "g".to_owned(),
            mq_set: queues.iter().map(queue).collect(),
            only_this_broker: false,
        })
    };
    let ask = |code, client: &'static str, queues: &'static [i32]| {
        let request = RemotingCommand::request(code).with_body(body(client, queues));
        broker.call(request)
    };
    let locked = |answer: RemotingCommand| {
        let locked: LockedQueues = bodies::decode(&answer.body).unwrap();
        locked.lock_ok_mq_set.iter().map(|queue| queue.queue_id).collect::<Vec<_>>()
    };
    const LOCK: RequestCode = RequestCode::LOCK_BATCH_MQ;
    const UNLOCK: RequestCode = RequestCode::UNLOCK_BATCH_MQ;
    assert_eq!(locked(ask(LOCK, "a", &[0, 1]).await), [0, 1]);
    assert_eq!(locked(ask(LOCK, "a", &[0, 1]).await), [0, 1], "renewed");
    assert_eq!(locked(ask(LOCK, "b", &[0, 1, 2, 9]).await), [2], "queue 9 does not exist");
    assert_eq!(ask(UNLOCK, "b", &[0]).await.code, 0, "not its own: ignored");
    assert_eq!(locked(ask(LOCK, "b", &[0]).await), [0; 0]);
    assert_eq!(ask(UNLOCK, "a", &[0, 1]).await.code, 0);
    assert_eq!(locked(ask(LOCK, "b", &[0, 1]).await), [0, 1]);
    broker.stop().await;
}
