//! Attack 3: names of topics, groups, clients, clusters and brokers.

use super::*;
use rmq::protocol::bodies::{
    ConsumerData, HeartbeatData, ProducerData, SubscriptionGroupConfig, TopicConfig,
    TopicConfigList,
};

fn hostile_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "../x",
        "../../../../x",
        "/x",
        "/etc/cron.d/x",
        "..",
        ".",
        "",
        " ",
        "a/b",
        "a\\b",
        "C:\\x",
        "a\0b",
        "a\nb",
        "a\r\nb",
        "\u{1b}[31m",
        "a\u{2215}b",
        "a\u{ff0f}b",
        "a\u{202e}b",
        "a*b",
        "$(x)",
        "`x`",
        "a;b",
        "a'b",
    ]
    .map(str::to_owned)
    .into();
    names.extend([128, 256, 40_000].map(|length| "n".repeat(length)));
    names
}

#[tokio::test]
async fn attack_3_names_reach_no_file_and_no_table() {
    let broker = Target::broker();
    broker.caller.first_send(broker.port, "T").await;
    let (files, topics) = (tree(broker.site.dir.path()), broker.topics().await);
    for name in hostile_names() {
        for answer in broker.all_that_makes_topics(&name).await {
            assert_ne!(answer.code, 0, "{name:?}: {answer:?}");
            let remark = answer.remark.unwrap_or_default();
            assert!(remark.len() <= 4096, "{name:?}");
        }
        for answer in broker.all_that_makes_groups(&name).await {
            let harmless = answer.code != 0 || !broker.groups().await.contains(&name);
            assert!(harmless, "{name:?}: {answer:?}");
        }
    }
    assert_eq!(broker.topics().await, topics);
    assert_eq!(tree(broker.site.dir.path()), files, "no file has a name of a client's");
    broker.end();
}

impl Target {
    async fn topics(&self) -> String {
        let all = self.request(RequestCode::GET_ALL_TOPIC_CONFIG, &[]).await.body;
        let all: serde_json::Value = serde_json::from_slice(&all).unwrap();
        all["topicConfigTable"].to_string()
    }

    async fn groups(&self) -> BTreeSet<String> {
        let all = self.request(RequestCode::GET_ALL_SUBSCRIPTIONGROUP_CONFIG, &[]).await.body;
        let all: serde_json::Value = serde_json::from_slice(&all).unwrap();
        all["subscriptionGroupTable"].as_object().unwrap().keys().cloned().collect()
    }

    async fn all_that_makes_topics(&self, name: &str) -> Vec<RemotingCommand> {
        let fields = [
            ("topic", name),
            ("defaultTopic", "TBW102"),
            ("readQueueNums", "1"),
            ("writeQueueNums", "1"),
            ("perm", "6"),
            ("topicFilterType", "SINGLE_TAG"),
            ("order", "false"),
        ];
        let config = TopicConfig {
            topic_name: name.to_owned(),
            read_queue_nums: 1,
            write_queue_nums: 1,
            perm: 6,
            ..TopicConfig::default()
        };
        let list = bodies::encode(&TopicConfigList { topic_config_list: vec![config] });
        vec![
            self.ask(send(name)).await,
            self.ask(send(&format!("%RETRY%{name}"))).await,
            self.request(RequestCode::UPDATE_AND_CREATE_TOPIC, &fields).await,
            self.ask(
                RemotingCommand::request(RequestCode::UPDATE_AND_CREATE_TOPIC_LIST).with_body(list),
            )
            .await,
            self.ask(pull(name)).await,
        ]
    }

    async fn all_that_makes_groups(&self, name: &str) -> Vec<RemotingCommand> {
        let config = bodies::encode(&SubscriptionGroupConfig::new(name));
        let beat = HeartbeatData {
            client_id: "c".to_owned(),
            consumer_data_set: [ConsumerData {
                group_name: name.to_owned(),
                ..ConsumerData::default()
            }]
            .into(),
            producer_data_set: [ProducerData { group_name: name.to_owned() }].into(),
            ..HeartbeatData::default()
        };
        let client = HeartbeatData {
            client_id: name.to_owned(),
            producer_data_set: [ProducerData { group_name: "p".to_owned() }].into(),
            ..HeartbeatData::default()
        };
        let put = RemotingCommand::request(RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP);
        let beats = |data| {
            RemotingCommand::request(RequestCode::HEART_BEAT).with_body(bodies::encode(&data))
        };
        let clone = [("srcGroup", "g"), ("destGroup", name), ("topic", "T"), ("offline", "false")];
        vec![
            self.ask(put.with_body(config)).await,
            self.ask(beats(beat)).await,
            self.ask(beats(client)).await,
            self.request(RequestCode::CLONE_GROUP_OFFSET, &clone).await,
        ]
    }
}

#[tokio::test]
async fn attack_3_a_name_server_tells_nobody_of_names_that_are_none() {
    let server = Target::name_server();
    let register = async |cluster: &str, broker: &str, topic: &str| {
        let body = format!(
            r#"{{"topicConfigSerializeWrapper":{{"dataVersion":{{"counter":1,"timestamp":1}},
                "topicConfigTable":{{"t":{{"topicName":{0},"readQueueNums":1,"writeQueueNums":1,
                "perm":6}},{0}:{{"topicName":{0},"readQueueNums":1,"writeQueueNums":1,"perm":6}}}}}},
                "filterServerList":[]}}"#,
            serde_json::to_string(topic).unwrap()
        );
        let request = RemotingCommand::request(RequestCode::REGISTER_BROKER)
            .with_field("brokerName", broker)
            .with_field("brokerAddr", "127.0.0.1:1")
            .with_field("clusterName", cluster)
            .with_field("haServerAddr", "127.0.0.1:2")
            .with_field("brokerId", 0)
            .with_field("bodyCrc32", 0);
        server.ask(request.with_body(body)).await
    };
    assert_eq!(register("C", "b", "T").await.code, 0);
    let files = tree(server.site.dir.path());
    let clusters = server.request(RequestCode::GET_BROKER_CLUSTER_INFO, &[]).await.body;
    let is_path = |name: &str| name.contains(['/', '\\', '\0', '\n', ' ']) || name.is_empty();
    for name in hostile_names().iter().filter(|name| is_path(name) || name.len() > 30_000) {
        assert_ne!(register(name, "b", "T").await.code, 0, "{name:?}");
        assert_ne!(register("C", name, "T").await.code, 0, "{name:?}");
        register("C", "b", name).await;
        let route = [("topic", name.as_str())];
        let route = server.request(RequestCode::GET_ROUTEINFO_BY_TOPIC, &route).await;
        assert_ne!(route.code, 0, "{name:?}: {route:?}");
    }
    let after = server.request(RequestCode::GET_BROKER_CLUSTER_INFO, &[]).await.body;
    assert_eq!(after, clusters);
    assert_eq!(tree(server.site.dir.path()), files);
    server.end();
}
