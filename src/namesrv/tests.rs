//! A whole name server on loopback: what Java's clients and brokers sent to Java's name server is
//! sent to ours, and the answers must be the same bytes. And what only a running server shows.

use std::{path::PathBuf, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use tempfile::TempDir;

use super::start::{Running, start_on_free_port};
use crate::{
    net::{self, Client, ClientOptions},
    protocol::{
        bodies::{self, DataVersion, RegisterBrokerBody, TopicConfig, TopicRouteData},
        codes::RequestCode,
        command::RemotingCommand,
        message,
    },
};

const WITHIN: Duration = Duration::from_secs(5);

/// A running name server and clients of it. Each client has a connection of its own.
struct Site {
    running: Running,
    address: String,
    home: TempDir,
}

impl Site {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let running = start_on_free_port(home.path());
        let address = running.addresses()[0].to_string();
        Self { running, address, home }
    }

    async fn ask(&self, client: &Client, request: RemotingCommand) -> RemotingCommand {
        client.call(&self.address, request, WITHIN).await.unwrap()
    }

    /// Sends what Java sent, and checks that the answer is what Java answered.
    async fn replay(&self, client: &Client, name: &str) {
        let [request, want] = golden(name);
        let opaque = request.opaque;
        let got = self.ask(client, request).await.answering(opaque);
        let bytes = |command: &RemotingCommand| {
            let mut out = BytesMut::new();
            command.encode(&mut out);
            String::from_utf8_lossy(&out).into_owned()
        };
        assert_eq!(bytes(&got), bytes(&want), "{name}");
        assert_eq!(got, want, "{name}");
    }
}

fn client() -> Client {
    Client::new(ClientOptions::default())
}

/// Request and answer of a captured exchange.
fn golden(name: &str) -> [RemotingCommand; 2] {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let text = std::fs::read_to_string(dir.join(format!("{name}.json"))).unwrap();
    let vector: serde_json::Value = serde_json::from_str(&text).unwrap();
    let frames = vector["frames"].as_array().unwrap();
    let frame = |place: usize| {
        let hex = frames.get(place).map_or("", |frame| frame["hex"].as_str().unwrap());
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        let mut bytes = Bytes::from(bytes);
        if bytes.is_empty() {
            return RemotingCommand::default();
        }
        bytes.advance(4);
        RemotingCommand::decode(bytes).unwrap()
    };
    [frame(0), frame(1)]
}

fn registration(id: u64, port: u16, term: i64, topics: &[&str]) -> RemotingCommand {
    let mut body = RegisterBrokerBody::default();
    let table = &mut body.topic_config_serialize_wrapper;
    table.data_version = DataVersion { counter: 1, state_version: term, timestamp: 1 };
    table.topic_config_table =
        topics.iter().map(|topic| ((*topic).to_owned(), TopicConfig::new(*topic, 4))).collect();
    let body = bodies::encode(&body);
    RemotingCommand::request(RequestCode::REGISTER_BROKER)
        .with_field("brokerName", "RaftNode00")
        .with_field("brokerAddr", format!("127.0.0.1:{port}"))
        .with_field("clusterName", "RaftCluster")
        .with_field("haServerAddr", format!("192.0.2.2:{}", port + 1))
        .with_field("brokerId", id)
        .with_field("bodyCrc32", message::body_crc(&body))
        .with_field("enableActingMaster", false)
        .with_field("tellEntered", true)
        .with_field("topicsComplete", true)
        .with_body(body)
}

fn route_request(topic: &str) -> RemotingCommand {
    RemotingCommand::request(RequestCode::GET_ROUTEINFO_BY_TOPIC).with_field("topic", topic)
}

fn leader_of(answer: &RemotingCommand) -> Option<String> {
    assert_eq!(answer.code, 0, "{answer:?}");
    let route: TopicRouteData = bodies::decode(&answer.body).unwrap();
    route.broker_datas[0].broker_addrs.get(&0).cloned()
}

#[tokio::test]
async fn a_name_server_without_brokers_answers_as_java_does() {
    let (site, client) = (Site::start(), client());
    for name in [
        "namesrv-register-broker-bad-crc",
        "namesrv-register-broker-failed",
        "namesrv-broker-heartbeat-unknown",
        "namesrv-unregister-unknown-broker",
        "namesrv-topics-by-unknown-cluster",
        "namesrv-unit-topic-list-empty",
        "namesrv-has-unit-sub-topic-list-empty",
        "namesrv-has-unit-sub-ununit-topic-list-empty",
        "namesrv-update-config",
        "namesrv-update-config-blacklisted",
        "namesrv-get-kv-not-found",
        "namesrv-put-kv",
        "namesrv-delete-kv",
        "namesrv-delete-topic",
        "remoting-unknown-code-namesrv",
        "client-go-route-none",
        "namesrv-route-not-exist",
        "namesrv-route-missing-topic",
    ] {
        site.replay(&client, name).await;
    }
}

#[tokio::test]
async fn a_java_broker_registers_and_its_routes_are_what_java_answers() {
    let (site, client) = (Site::start(), client());
    let order = RemotingCommand::request(RequestCode::PUT_KV_CONFIG)
        .with_field("namespace", "ORDER_TOPIC_CONFIG")
        .with_field("key", "VecOrder")
        .with_field("value", "RaftNode00:4");
    assert_eq!(site.ask(&client, order).await.code, 0);
    for name in [
        "namesrv-register-broker-full",
        "namesrv-kvlist-order-topic-config",
        "client-go-route",
        "namesrv-route-java49",
        "remoting-java-binary-route",
    ] {
        site.replay(&client, name).await;
    }
}

#[tokio::test]
async fn a_group_with_followers_is_told_as_java_tells_it() {
    let (site, client) = (Site::start(), client());
    let topics = ["VecTopic", "TBW102"];
    for (id, port) in [(0, 32911), (1, 32921)] {
        site.ask(&client, registration(id, port, 0, &topics)).await;
    }
    site.replay(&client, "namesrv-register-broker-follower").await;
    // The leader changes.
    for (id, port) in [(0, 32921), (1, 32911)] {
        site.ask(&client, registration(id, port, 0, &topics)).await;
    }
    for name in [
        "namesrv-route-old-client-unquoted",
        "namesrv-route-standard-json",
        "namesrv-system-topic-list",
    ] {
        site.replay(&client, name).await;
    }
    let [request, want] = golden("namesrv-broker-member-group");
    assert_eq!(site.ask(&client, request).await.body, want.body);
}

#[tokio::test]
async fn a_route_is_answered_when_the_first_broker_has_reported() {
    let (site, early, broker) = (Site::start(), client(), client());
    let waiting = site.ask(&early, route_request("T"));
    let registering = site.ask(&broker, registration(0, 1, 5, &["T", "U"]));
    let (route, registered) = tokio::join!(waiting, registering);
    assert_eq!(registered.ext.get("tellEntered"), Some("true"));
    assert_eq!(leader_of(&route).as_deref(), Some("127.0.0.1:1"));
}

#[tokio::test]
async fn a_dead_leader_is_never_told_and_its_successor_is_waited_for() {
    let (site, asking) = (Site::start(), client());
    let (first, second) = (client(), client());
    site.ask(&first, registration(0, 1, 5, &["T", "U"])).await;
    site.ask(&second, registration(2, 2, 5, &["T", "U"])).await;
    assert_eq!(
        leader_of(&site.ask(&asking, route_request("T")).await).as_deref(),
        Some("127.0.0.1:1")
    );

    drop(first); // kill -9: the kernel closes the connection
    while site.running.gauges().brokers == 2 {
        tokio::task::yield_now().await;
    }
    let waiting = site.ask(&asking, route_request("T"));
    let electing = async {
        while site.running.gauges().held_routes == 0 {
            tokio::task::yield_now().await;
        }
        let late = site.ask(&second, registration(0, 3, 4, &["T", "U"])).await;
        assert_eq!((late.code, late.ext.get("tellEntered")), (0, Some("false")));
        site.ask(&second, registration(0, 2, 6, &["T", "U"])).await
    };
    let (route, _) = tokio::join!(waiting, electing);
    assert_eq!(leader_of(&route).as_deref(), Some("127.0.0.1:2"));
}

#[tokio::test]
async fn a_slot_moves_when_its_members_connection_closes_and_can_be_switched_off() {
    let (site, asking) = (Site::start(), client());
    let members = [client(), client(), client()];
    for (client, (id, port)) in members.iter().zip([(0, 1), (2, 2), (3, 3)]) {
        let registration = registration(id, port, 5, &["T", "U"]).with_field("takesWrites", true);
        site.ask(client, registration).await;
    }
    // The brokers of a topic, and what is behind id 0 of the last one.
    let last = async |topic| {
        let answer = site.ask(&asking, route_request(topic)).await;
        let route: TopicRouteData = bodies::decode(&answer.body).unwrap();
        let brokers = route.broker_datas.len();
        (brokers, route.broker_datas.last().unwrap().broker_addrs[&0].clone())
    };
    let slot_at = |port: u16| (2, format!("127.0.0.1:{port}"));
    let none = (1, "127.0.0.1:1".to_owned());
    assert_eq!(last("T").await, slot_at(2));
    let [_leader, first, second] = members;
    for (gone, live, next) in [(first, 2, slot_at(3)), (second, 1, slot_at(1))] {
        drop(gone); // kill -9: the kernel closes the connection
        while site.running.gauges().brokers > live {
            tokio::task::yield_now().await;
        }
        assert_eq!(last("T").await, next);
    }
    let order = RemotingCommand::request(RequestCode::PUT_KV_CONFIG)
        .with_field("namespace", "ORDER_TOPIC_CONFIG")
        .with_field("key", "U")
        .with_field("value", "RaftNode00:4");
    assert_eq!(site.ask(&asking, order).await.code, 0);
    assert_eq!((last("U").await, last("T").await), (none.clone(), slot_at(1)));
    let set = RemotingCommand::request(RequestCode::UPDATE_NAMESRV_CONFIG);
    assert_eq!(site.ask(&asking, set.with_body("ingressSlots=false\n")).await.code, 0);
    assert_eq!(last("T").await, none);
}

#[tokio::test]
async fn kv_configuration_survives_a_restart_and_a_stop_answers_what_waits() {
    let (site, client) = (Site::start(), client());
    let [put, _] = golden("namesrv-put-kv");
    site.ask(&client, put).await;
    let Site { running, address, home } = site;
    let held = client.call(&address, route_request("T"), WITHIN);
    let stopping = async {
        while running.gauges().held_routes == 0 {
            tokio::task::yield_now().await;
        }
        running.stop().await;
    };
    let (held, ()) = tokio::join!(held, stopping);
    assert_eq!(held.unwrap().remark.as_deref(), Some("name server not ready"));

    let running = start_on_free_port(home.path());
    let get = RemotingCommand::request(RequestCode::GET_KV_CONFIG)
        .with_field("namespace", "TESTNS")
        .with_field("key", "k1");
    let answer = client.call(&running.addresses()[0].to_string(), get, WITHIN).await.unwrap();
    assert_eq!(answer.ext.get("value"), Some("v1"));
}

#[tokio::test]
async fn settings_change_while_running_and_are_reported() {
    let (site, client) = (Site::start(), client());
    let set = |text: &'static str| {
        RemotingCommand::request(RequestCode::UPDATE_NAMESRV_CONFIG).with_body(text)
    };
    let all = RemotingCommand::request(RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER);
    assert_eq!(site.ask(&client, all.clone()).await.code, 0);
    assert_eq!(site.ask(&client, set("enableAllTopicList=false\n")).await.code, 0);
    assert_eq!(site.ask(&client, all).await.remark.as_deref(), Some("disable"));
    assert_eq!(site.ask(&client, set("listenPort=1\n")).await.code, 1);
    assert_eq!(site.ask(&client, set("productEnvName=test\n")).await.code, 0);
    let report = RemotingCommand::request(RequestCode::GET_NAMESRV_CONFIG);
    let report = site.ask(&client, report).await.body;
    let report = std::str::from_utf8(&report).unwrap();
    for line in [
        "enableAllTopicList=false\n",
        "productEnvName=test\n",
        "listenPort=9876\n",
        "kvConfigPath=",
    ] {
        assert!(report.contains(line), "{line} in {report}");
    }
    let kept = site.home.path().join("namesrv/changedConfig.json");
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(kept).unwrap()).unwrap();
    assert_eq!(kept, serde_json::json!({"enableAllTopicList": "false", "productEnvName": "test"}));
}

#[tokio::test]
async fn a_setting_that_cannot_be_stored_is_not_changed() {
    let (site, client) = (Site::start(), client());
    std::fs::write(site.home.path().join("namesrv"), "in the way").unwrap();
    let set = RemotingCommand::request(RequestCode::UPDATE_NAMESRV_CONFIG)
        .with_body("enableAllTopicList=false\n");
    let refused = site.ask(&client, set).await;
    assert_eq!(refused.code, 1);
    assert!(refused.remark.unwrap().starts_with("cannot store the change: "));
    let all = RemotingCommand::request(RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER);
    assert_eq!(site.ask(&client, all).await.code, 0);
}

#[tokio::test]
async fn operators_wipe_and_restore_permissions_and_delete_topics() {
    let (site, client) = (Site::start(), client());
    site.ask(&client, registration(0, 1, 5, &["T", "U"])).await;
    let of_group = |code| RemotingCommand::request(code).with_field("brokerName", "RaftNode00");
    let perm = async || {
        let route: TopicRouteData =
            bodies::decode(&site.ask(&client, route_request("T")).await.body).unwrap();
        route.queue_datas[0].perm
    };
    let wiped = site.ask(&client, of_group(RequestCode::WIPE_WRITE_PERM_OF_BROKER)).await;
    assert_eq!((wiped.ext.get("wipeTopicCount"), perm().await), (Some("2"), 4));
    let added = site.ask(&client, of_group(RequestCode::ADD_WRITE_PERM_OF_BROKER)).await;
    assert_eq!((added.ext.get("addTopicCount"), perm().await), (Some("2"), 6));
    let delete =
        RemotingCommand::request(RequestCode::DELETE_TOPIC_IN_NAMESRV).with_field("topic", "T");
    site.ask(&client, delete).await;
    assert_eq!(site.ask(&client, route_request("T")).await.code, 17);
}

#[tokio::test]
async fn a_registration_of_forty_thousand_topics_fits_and_larger_frames_are_not_read() {
    let (site, client) = (Site::start(), client());
    let names: Vec<String> = (0..40_000).map(|n| format!("{n:x>127}")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    let patience = Duration::from_secs(60);
    let fits = registration(0, 1, 5, &names);
    assert_eq!(client.call(&site.address, fits, patience).await.unwrap().code, 0);
    let route = site.ask(&client, route_request(names[39_999])).await;
    assert_eq!(leader_of(&route).as_deref(), Some("127.0.0.1:1"));
    let more: Vec<String> = (40_000..44_000).map(|n| format!("{n:x>127}")).collect();
    names.extend(more.iter().map(String::as_str));
    let refused = client.call(&site.address, registration(0, 1, 5, &names), patience).await;
    assert!(matches!(refused, Err(net::CallError::Closed { .. })), "{refused:?}");
}

#[tokio::test]
async fn metrics_and_health_are_served_on_the_same_port() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (site, client) = (Site::start(), client());
    site.ask(&client, registration(0, 1, 5, &["T", "U"])).await;
    let get = async |path: &str| {
        let mut socket = tokio::net::TcpStream::connect(&site.address).await.unwrap();
        socket
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let metrics = get("/metrics").await;
    for line in [
        "rmq_brokers 1\n",
        "requests_total{code=\"REGISTER_BROKER\"} 1\n",
        "rmq_connections 2\n",
        "rmq_connections_crowded_out_total 0\n",
        "rmq_unfinished_request_bytes 0\n",
        "rmq_unsent_answer_bytes 0\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    loop {
        let health = get("/healthz").await;
        if health.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(health.starts_with("HTTP/1.1 503"), "{health}");
    }
}
