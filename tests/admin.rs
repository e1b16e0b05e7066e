//! `rmq-admin` from its command line to its output: against a real name server, and brokers that
//! answer as Java's did. What a running group answers is tested with the official test suite.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Buf, Bytes};
use jiff::tz::TimeZone;
use rmq::{
    admin::{
        self, Surroundings,
        load::{Load, LoadOn, Starting},
    },
    config::{load, settings::Inputs},
    namesrv::start::{Running, start},
    net::{
        Client, ClientOptions, Connection, Handled, Handler, ReplyTo, Server, ServerOptions, listen,
    },
    protocol::{
        bodies::{
            self, KVTable, MessageQueue, QueueKey, RegisterBrokerBody, TopicConfig, TopicOffset,
            TopicStatsTable,
        },
        codes::{RequestCode, ResponseCode},
        command::RemotingCommand,
        headers::{
            namesrv::RegisterBroker,
            offset::OffsetAnswer,
            pull::{PullAnswer, PullRequest},
            send::{SendAnswer, SendRequest},
            topic::CreateTopic,
        },
        message::{self, Draft, RecordPlace, id::offset_msg_id},
    },
};

const WITHIN: Duration = Duration::from_secs(5);

/// A name server, and brokers that have registered with it.
struct Site {
    name_server: Running,
    brokers: Vec<Broker>,
    _home: tempfile::TempDir,
}

/// A broker that answers what it was told to. Without a server: one that has died, but is still
/// registered.
struct Broker {
    address: SocketAddr,
    server: Option<Server>,
    registered: Client,
}

/// Answers by request, and what was asked. Messages are kept, all in one queue.
#[derive(Default)]
struct Script {
    answers: BTreeMap<i32, RemotingCommand>,
    asked: Mutex<Vec<RemotingCommand>>,
    messages: Mutex<Vec<Vec<u8>>>,
}

impl Handler for Script {
    fn handle(&self, connection: &Arc<Connection>, request: RemotingCommand) -> Handled {
        let reply = ReplyTo::new(connection, &request);
        reply.answer(self.answer(connection.local(), &request));
        self.asked.lock().unwrap().push(request);
        Handled::Done
    }

    fn closed(&self, _: &Arc<Connection>) {}
}

impl Script {
    fn answer(&self, own: SocketAddr, request: &RemotingCommand) -> RemotingCommand {
        let kept = self.messages.lock().unwrap().len() as i64;
        match request.request_code() {
            RequestCode::SEND_MESSAGE_V2 => self.store(own, request),
            RequestCode::GET_MIN_OFFSET => OffsetAnswer { offset: 0 }.answer(),
            RequestCode::GET_MAX_OFFSET => OffsetAnswer { offset: kept }.answer(),
            RequestCode::PULL_MESSAGE => self.pull(request, kept),
            _ => self.answers.get(&request.code).cloned().unwrap_or_else(|| {
                let remark = format!("no answer to {} was prepared", request.request_code());
                RemotingCommand::error(ResponseCode::SYSTEM_ERROR, remark)
            }),
        }
    }

    fn store(&self, own: SocketAddr, request: &RemotingCommand) -> RemotingCommand {
        let header = SendRequest::parse(request).unwrap();
        let mut messages = self.messages.lock().unwrap();
        let queue_offset = messages.len() as u64;
        let draft = Draft {
            topic: header.topic.into(),
            queue_id: 0,
            flag: header.flag,
            sys_flag: header.sys_flag,
            born_timestamp: header.born_timestamp,
            born_host: "192.0.2.7:4711".parse().unwrap(),
            store_host: own,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: request.body.clone(),
            body_crc: message::body_crc(&request.body),
            properties: Bytes::copy_from_slice(header.properties.as_bytes()),
            unique_hash: None,
        };
        let place = RecordPlace { queue_offset, physical: 64, store_timestamp: 1_795_264_393_667 };
        let mut record = vec![0; draft.stored_bytes()];
        draft.encode(place, &mut record);
        messages.push(record);
        let msg_id = offset_msg_id(own, 64);
        let queue_offset = queue_offset as i64;
        SendAnswer { queue_id: header.queue_id, msg_id, queue_offset, ..SendAnswer::default() }
            .answer()
    }

    fn pull(&self, request: &RemotingCommand, kept: i64) -> RemotingCommand {
        let header = PullRequest::parse(request).unwrap();
        let messages = self.messages.lock().unwrap();
        let from = usize::try_from(header.queue_offset).unwrap().min(messages.len());
        let to = (from + header.max_msg_nums as usize).min(messages.len());
        let answer =
            PullAnswer { next_begin_offset: to as i64, max_offset: kept, ..PullAnswer::default() };
        if from == to {
            return answer.answer(ResponseCode::PULL_NOT_FOUND, "OFFSET_OVERFLOW_ONE");
        }
        answer.answer(ResponseCode::SUCCESS, "FOUND").with_body(messages[from..to].concat())
    }

    fn asked_for(&self, code: RequestCode) -> Vec<RemotingCommand> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|request| request.request_code() == code).cloned().collect()
    }
}

/// What a command printed.
#[derive(Debug)]
struct Ran {
    code: u8,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

/// No command here needs clients.
struct NoLoad;

impl Load for NoLoad {
    fn start(&self, _: LoadOn) -> Starting<'_> {
        Box::pin(async { Err("there are no clients here".to_owned()) })
    }
}

async fn rmq_admin(name_servers: &str, words: &[&str]) -> Ran {
    let (mut results, mut complaints) = (Vec::new(), Vec::new());
    let code = admin::run(Surroundings {
        words: ["rmq-admin"].iter().chain(words).map(Into::into).collect(),
        name_servers: Some(name_servers.to_owned()),
        zone: TimeZone::UTC,
        load: &NoLoad,
        results: &mut results,
        complaints: &mut complaints,
    })
    .await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code, out: text(results), err: text(complaints) }
}

impl Site {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let inputs = Inputs { home: Some(home.path().to_owned()), ..Inputs::default() };
        let mut config = load::namesrv(None, &inputs).unwrap().config;
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { name_server: start(config).unwrap(), brokers: Vec::new(), _home: home }
    }

    fn address(&self) -> String {
        self.name_server.addresses()[0].to_string()
    }

    async fn run(&self, words: &[&str]) -> Ran {
        rmq_admin(&self.address(), words).await
    }

    /// A broker that has registered as member `id` of RaftNode00, with these topics of 4 queues.
    async fn broker(
        &mut self,
        id: u64,
        topics: &[&str],
        answers: &[(RequestCode, RemotingCommand)],
    ) -> Arc<Script> {
        let answers = answers.iter().map(|(code, answer)| (code.0, answer.clone())).collect();
        let script = Arc::new(Script { answers, ..Script::default() });
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let server =
            Server::start(vec![listener], Arc::clone(&script) as _, ServerOptions::default())
                .unwrap();
        let broker = Broker {
            address: server.addresses()[0],
            server: Some(server),
            registered: Client::new(ClientOptions::default()),
        };
        let mut body = RegisterBrokerBody::default();
        let table = &mut body.topic_config_serialize_wrapper;
        table.data_version.counter = 1;
        // Name servers take a registration of a single topic for that of a broker that is starting.
        for topic in topics.iter().chain(&["TBW102"]) {
            let config = TopicConfig::new(*topic, 4);
            table.topic_config_table.insert((*topic).to_owned(), config);
        }
        let header = RegisterBroker {
            broker_name: "RaftNode00".to_owned(),
            broker_addr: broker.address.to_string(),
            cluster_name: "RaftCluster".to_owned(),
            ha_server_addr: "127.0.0.1:1".to_owned(),
            broker_id: id,
            enable_acting_master: Some(false),
            ..RegisterBroker::default()
        };
        let request = header.request().with_body(bodies::encode(&body));
        let answer = broker.registered.call(&self.address(), request, WITHIN).await.unwrap();
        assert_eq!(answer.code, 0, "{answer:?}");
        self.brokers.push(broker);
        script
    }
}

impl Broker {
    /// It does not answer any more, but its registration stays.
    async fn hang_up(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop(Duration::ZERO).await;
        }
    }
}

/// What Java answered in the captured exchange `name`.
fn golden(name: &str) -> RemotingCommand {
    let path = format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let vector: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let frames = vector["frames"].as_array().unwrap();
    let answer = frames.iter().find(|frame| frame["role"] == "response").unwrap();
    let hex = answer["hex"].as_str().unwrap();
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    let mut frame = Bytes::from(bytes);
    frame.advance(4);
    RemotingCommand::decode(frame).unwrap()
}

fn done() -> RemotingCommand {
    RemotingCommand::response(ResponseCode::SUCCESS)
}

fn columns(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn line<'a>(text: &'a str, word: &str) -> &'a str {
    text.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("{word} in {text}"))
}

#[tokio::test]
async fn cluster_list_shows_who_answers_and_says_who_does_not() {
    let mut site = Site::start();
    let info = golden("admin-runtime-info");
    let figures = [(RequestCode::GET_BROKER_RUNTIME_INFO, info)];
    site.broker(0, &["T"], &figures).await;
    site.broker(1, &["T"], &figures).await;
    let ran = site.run(&["clusterList"]).await;
    assert_eq!((ran.code, ran.err.as_str(), ran.out.lines().count()), (0, "", 3));

    site.brokers[1].hang_up().await;
    let [leader, follower] = [0, 1].map(|n| site.brokers[n].address.to_string());
    let ran = site.run(&["clusterlist"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(columns(line(&ran.out, &leader))[..3], ["RaftCluster", "RaftNode00", "0"]);
    assert_eq!(columns(line(&ran.out, &leader))[4], "V5_5_0");
    assert_eq!(columns(line(&ran.out, &follower))[2], "1");
    for part in [follower.as_str(), "GET_BROKER_RUNTIME_INFO", "is that broker running"] {
        assert!(ran.err.contains(part), "{part} in {}", ran.err);
    }
    let rows = site.run(&["clusterList", "-o", "json"]).await.json();
    assert_eq!((&rows[0]["answered"], &rows[1]["answered"]), (&true.into(), &false.into()));
    let more = site.run(&["clusterList", "-m", "-c", "RaftCluster"]).await;
    assert!(more.out.contains("#InTotalYest") && more.code == 1, "{more:?}");
    let unknown = site.run(&["clusterList", "-c", "nope"]).await;
    assert!(unknown.err.contains("knows: RaftCluster") && unknown.code == 1, "{unknown:?}");
}

#[tokio::test]
async fn a_broker_that_refuses_clients_is_asked_at_its_other_port() {
    let mut site = Site::start();
    let figures = [(RequestCode::GET_BROKER_RUNTIME_INFO, golden("admin-runtime-info"))];
    let tools = loop {
        let script = site.broker(0, &["T"], &figures).await;
        let mut address = site.brokers.last().unwrap().address;
        address.set_port(address.port() - 2);
        let Ok(listener) = listen(address) else { continue }; // somebody else's
        break Server::start(vec![listener], script as _, ServerOptions::default()).unwrap();
    };
    let broker = site.brokers.last_mut().unwrap();
    broker.hang_up().await;
    let address = broker.address.to_string();
    let ran = site.run(&["brokerStatus", "-b", &address]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");

    tools.stop(Duration::ZERO).await;
    let ran = site.run(&["brokerStatus", "-b", &address]).await;
    assert!(ran.code == 1 && ran.err.contains(&address), "told of the port it gave: {ran:?}");
}

#[tokio::test]
async fn topics_are_created_listed_and_looked_at() {
    let mut site = Site::start();
    let stats = TopicStatsTable {
        offset_table: BTreeMap::from([(
            QueueKey(MessageQueue {
                broker_name: "RaftNode00".to_owned(),
                queue_id: 0,
                topic: "T".to_owned(),
            }),
            TopicOffset { last_update_timestamp: 1_795_264_402_246, max_offset: 7, min_offset: 2 },
        )]),
        topic_put_tps: 0.5,
    };
    let answers = [
        (RequestCode::UPDATE_AND_CREATE_TOPIC, done()),
        (RequestCode::GET_TOPIC_STATS_INFO, done().with_body(bodies::encode(&stats))),
        (RequestCode::QUERY_TOPIC_CONSUME_BY_WHO, golden("admin-query-topic-consume-by-who")),
    ];
    let script = site.broker(0, &["T", "%RETRY%g", "%DLQ%g"], &answers).await;
    let address = site.brokers[0].address;

    let words = ["updateTopic", "-c", "RaftCluster", "-t", "New", "-r", "3", "-w", "2"];
    let ran = site.run(&words).await;
    let told = format!("create topic to {address} success.\nTopicConfig [topicName=New, ");
    assert!(ran.out.starts_with(&told) && ran.code == 0, "{ran:?}");
    let asked = script.asked_for(RequestCode::UPDATE_AND_CREATE_TOPIC);
    let header = CreateTopic::parse(&asked[0]).unwrap();
    assert_eq!((header.read_queue_nums, header.write_queue_nums, header.perm), (3, 2, 6));

    let ordered =
        ["-o", "json", "updateTopic", "-b", &address.to_string(), "-t", "O", "-o", "true"];
    let ran = site.run(&ordered).await;
    assert_eq!(ran.json()["order"]["conf"], "RaftNode00:8", "{ran:?}");

    assert_eq!(site.run(&["topicList"]).await.out, "%DLQ%g\n%RETRY%g\nT\nTBW102\n");
    let with_groups = site.run(&["topicList", "-c"]).await;
    assert_eq!(columns(line(&with_groups.out, "RaftCluster"))[..2], ["RaftCluster", "T"]);
    assert!(!with_groups.out.contains('%'), "{}", with_groups.out);

    let route = site.run(&["topicRoute", "-t", "T"]).await;
    assert!(route.out.contains(&format!("\t\t\t\t0:\"{address}\"")), "{}", route.out);
    let list = site.run(&["topicRoute", "-t", "T", "-l"]).await;
    assert_eq!(columns(line(&list.out, "Total:")), ["Total:", "1", "4", "4"]);

    let status = site.run(&["topicStatus", "-t", "T"]).await;
    let row = "RaftNode00                        0     2                     7                       \
               2026-11-21 12:33:22,246";
    assert_eq!(line(&status.out, "RaftNode00"), row);
    assert!(status.out.ends_with("\nTopic Put TPS: 0.5\n"), "{}", status.out);
}

#[tokio::test]
async fn progress_is_shown_by_queue_and_by_group() {
    let mut site = Site::start();
    let answers = [
        (RequestCode::GET_CONSUME_STATS, golden("admin-consume-stats")),
        (RequestCode::GET_CONSUMER_CONNECTION_LIST, golden("admin-consumer-connection")),
        (RequestCode::GET_CONSUMER_RUNNING_INFO, golden("admin-consumer-running-info")),
    ];
    site.broker(0, &["T", "%RETRY%g"], &answers).await;
    let ran = site.run(&["consumerProgress", "-g", "g", "-s", "true"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("#Client IP") && ran.out.contains("Consume Diff Total: "), "{ran:?}");

    let groups = site.run(&["consumerProgress"]).await;
    assert_eq!(columns(line(&groups.out, "g "))[..2], ["g", "1"], "{groups:?}");
    let json = site.run(&["consumerProgress", "--output", "json"]).await.json();
    assert_eq!((&json[0]["group"], &json[0]["count"]), (&"g".into(), &1.into()));

    // Before name servers know the retry topic, every broker is asked.
    let early = site.run(&["consumerProgress", "-g", "young"]).await;
    assert_eq!(early.code, 0, "{early:?}");
}

#[tokio::test]
async fn a_group_that_nobody_knows_is_an_error_that_says_what_to_do() {
    let mut site = Site::start();
    let nothing = done().with_body(&b"{\"consumeTps\":0.0,\"offsetTable\":{}}"[..]);
    site.broker(0, &["T"], &[(RequestCode::GET_CONSUME_STATS, nothing)]).await;
    let ran = site.run(&["consumerProgress", "-g", "nope"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("consumerProgress without -g"), "{}", ran.err);
}

#[tokio::test]
async fn a_message_that_is_sent_can_be_consumed() {
    let mut site = Site::start();
    let script = site.broker(0, &["T"], &[]).await;
    let words = [
        "sendMessage",
        "-t",
        "T",
        "-p",
        "hello  mqadmin",
        "-k",
        "mk1",
        "-c",
        "TagM",
        "-b",
        "RaftNode00",
        "-i",
        "0",
    ];
    let sent = site.run(&words).await;
    assert_eq!(sent.code, 0, "{sent:?}");
    let row = columns(line(&sent.out, "SEND_OK"));
    assert_eq!(row[..3], ["RaftNode00", "0", "SEND_OK"]);
    assert!(row[3].len() == 32 && row[3].bytes().all(|b| b.is_ascii_hexdigit()), "{row:?}");
    for body in ["two", "three"] {
        assert_eq!(site.run(&["sendMessage", "-t", "T", "-p", body]).await.code, 0);
    }

    let words = ["consumeMessage", "-t", "T", "-b", "RaftNode00", "-i", "0", "-o", "0", "-c", "1"];
    let got = site.run(&words).await;
    assert_eq!(got.code, 0, "{got:?}");
    let id = format!("MSGID: {}", row[3]);
    for part in ["Consume ok\n", &id, "KEYS=mk1", "TAGS=TagM", "BODY: hello  mqadmin\n"] {
        assert!(got.out.contains(part), "{part} in {}", got.out);
    }
    assert!(!got.out.contains("two"), "{}", got.out);

    let words =
        ["-o", "json", "consumeMessage", "-t", "T", "-b", "RaftNode00", "-i", "0", "-o", "1"];
    let rest = site.run(&words).await;
    let bodies: Vec<String> = rest
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|message| message["body"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(bodies, ["two", "three"]);
    let pulls = script.asked_for(RequestCode::PULL_MESSAGE);
    assert!(pulls.iter().all(|pull| !PullRequest::parse(pull).unwrap().commits()));
}

#[tokio::test]
async fn a_traced_message_has_its_trace_stored() {
    let mut site = Site::start();
    let script = site.broker(0, &["T", "RMQ_SYS_TRACE_TOPIC"], &[]).await;
    let sent = site.run(&["sendMessage", "-t", "T", "-p", "x", "-m", "true"]).await;
    assert_eq!(sent.code, 0, "{sent:?}");
    let stored = script.asked_for(RequestCode::SEND_MESSAGE_V2);
    assert_eq!(SendRequest::parse(&stored[1]).unwrap().topic, "RMQ_SYS_TRACE_TOPIC");
    assert!(stored[1].body.starts_with(b"Pub\x01") && stored[1].body.ends_with(b"\x01true\x02"));
}

#[tokio::test]
async fn a_follower_answers_when_the_leader_does_not() {
    let mut site = Site::start();
    let stats = golden("admin-topic-stats");
    let answers = [(RequestCode::GET_TOPIC_STATS_INFO, stats)];
    site.broker(0, &["T"], &answers).await;
    site.broker(1, &["T"], &answers).await;
    site.brokers[0].hang_up().await;
    let ran = site.run(&["topicStatus", "-t", "T"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("Topic Put TPS"), "{}", ran.out);
    assert!(ran.err.contains(&site.brokers[0].address.to_string()), "{}", ran.err);
}

#[tokio::test]
async fn refusals_say_who_refused_what_and_what_to_do() {
    let mut site = Site::start();
    let no = RemotingCommand::error(ResponseCode(29), "The specified topic: a b, contains illegal");
    site.broker(0, &["T"], &[(RequestCode::UPDATE_AND_CREATE_TOPIC, no)]).await;
    let address = site.brokers[0].address.to_string();
    let ran = site.run(&["updateTopic", "-c", "RaftCluster", "-t", "a b"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    for part in [&address, "UPDATE_AND_CREATE_TOPIC", "INVALID_PARAMETER (29)", "illegal"] {
        assert!(ran.err.contains(part), "{part} in {}", ran.err);
    }
    let ran = site.run(&["topicRoute", "-t", "Nope"]).await;
    assert_eq!(ran.code, 1);
    for part in [&site.address(), "TOPIC_NOT_EXIST (17)", "topicList shows"] {
        assert!(ran.err.contains(part), "{part} in {}", ran.err);
    }
}

#[tokio::test]
async fn another_name_server_is_asked_when_one_is_down() {
    let mut site = Site::start();
    site.broker(0, &["T"], &[]).await;
    let nobody = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap().local_addr().unwrap();
    let both = format!("{nobody};{}", site.address());
    let ran = rmq_admin(&both, &["topicList"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "T\nTBW102\n"), "{ran:?}");
    let flag = site.address();
    let ran = rmq_admin(&nobody.to_string(), &["topicList", "-n", &flag]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "T\nTBW102\n"), "{ran:?}");
    let ran = rmq_admin(&nobody.to_string(), &["topicList"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("is a name server running at"), "{}", ran.err);
}

#[tokio::test]
async fn what_is_not_a_broker_s_answer_is_an_error() {
    let mut site = Site::start();
    let figures = KVTable::default();
    let bad = [
        (RequestCode::GET_BROKER_RUNTIME_INFO, done().with_body(&b"{nonsense"[..])),
        (RequestCode::GET_TOPIC_STATS_INFO, done().with_body(bodies::encode(&figures))),
    ];
    site.broker(0, &["T"], &bad).await;
    let ran = site.run(&["clusterList"]).await;
    assert!(ran.code == 1 && ran.err.contains("cannot be read"), "{ran:?}");
    // JSON of another kind is an empty table.
    let ran = site.run(&["topicStatus", "-t", "T"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[tokio::test]
async fn name_servers_keep_values_and_take_permissions() {
    let mut site = Site::start();
    site.broker(0, &["T"], &[]).await;
    let put = site.run(&["updateKvConfig", "-s", "NS", "-k", "a", "-v", "b c"]).await;
    assert_eq!(put.out, "create or update kv config to namespace success.\n", "{put:?}");
    let words = ["updateOrderConf", "-t", "T", "-m", "put", "-v", "RaftNode00:4"];
    assert_eq!(site.run(&words).await.code, 0);
    let get = site.run(&["updateOrderConf", "-t", "T", "-m", "get"]).await;
    assert_eq!(get.out, "get orderConf success. topic=[T], orderConf=[RaftNode00:4]\n");
    assert_eq!(site.run(&["updateOrderConf", "-t", "T", "-m", "delete"]).await.code, 0);
    assert_eq!(site.run(&["updateOrderConf", "-t", "T", "-m", "get"]).await.code, 1);

    let wiped = site.run(&["wipeWritePerm", "-b", "RaftNode00"]).await;
    let of = format!("of broker[RaftNode00] in name server[{}] OK, 2\n", site.address());
    assert_eq!(wiped.out, format!("wipe write perm {of}"));
    let send = site.run(&["sendMessage", "-t", "T", "-p", "x"]).await;
    assert!(send.code == 1 && send.err.contains("R--"), "{send:?}");
    let added = site.run(&["addWritePerm", "-b", "RaftNode00"]).await;
    assert_eq!(added.out, format!("add write perm {of}"));
    assert_eq!(site.run(&["sendMessage", "-t", "T", "-p", "x"]).await.code, 0);

    let config = site.run(&["getNamesrvConfig"]).await;
    assert!(config.out.starts_with(&format!("============{}============\n", site.address())));
    assert_eq!(columns(line(&config.out, "enableAllTopicList"))[1..], ["=", "true"]);
    let words = ["updateNamesrvConfig", "-k", "enableAllTopicList", "-v", "false"];
    assert_eq!(site.run(&words).await.code, 0);
    let list = site.run(&["topicList"]).await;
    assert!(list.code == 1 && list.err.contains("disable"), "{list:?}");
}

#[tokio::test]
async fn lists_from_a_file_go_to_each_leader_as_one_request() {
    let mut site = Site::start();
    let topics = RequestCode::UPDATE_AND_CREATE_TOPIC_LIST;
    let groups = RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST;
    let leader = site.broker(0, &["T"], &[(topics, done()), (groups, done())]).await;
    let dir = tempfile::tempdir().unwrap();
    let rows = [
        ("updateTopicList", topics, "topic", r#"[{"topicName":"A","perm":4},{"topicName":"B"}]"#),
        ("updateSubGroupList", groups, "subscription group", r#"[{"groupName":"G"}]"#),
    ];
    for (command, code, what, content) in rows {
        let path = dir.path().join(command);
        let words = [command, "-c", "RaftCluster", "-f", path.to_str().unwrap()];
        for unusable in ["", "{}", "[]", "[{}]"] {
            std::fs::write(&path, unusable).unwrap();
            let ran = site.run(&words).await;
            assert!(ran.code != 0 && ran.err.contains(command), "{unusable}: {ran:?}");
        }
        std::fs::write(&path, content).unwrap();
        let ran = site.run(&words).await;
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
        assert!(ran.out.starts_with(&format!("submit batch of {what} config to ")), "{}", ran.out);
        let [asked] = leader.asked_for(code).try_into().unwrap();
        let body = String::from_utf8(asked.body.to_vec()).unwrap();
        assert!(body.contains(content.split('"').nth(3).unwrap()), "{body}");
    }
}

#[tokio::test]
async fn a_deleted_topic_is_gone_from_brokers_and_name_servers() {
    let mut site = Site::start();
    let answers = [(RequestCode::DELETE_TOPIC_IN_BROKER, done())];
    let leader = site.broker(0, &["T"], &answers).await;
    let refuses = RemotingCommand::error(ResponseCode::SERVICE_NOT_AVAILABLE, "not the leader");
    let answers = [(RequestCode::DELETE_TOPIC_IN_BROKER, refuses)];
    let follower = site.broker(1, &["T"], &answers).await;
    let ran = site.run(&["deleteTopic", "-c", "RaftCluster", "-t", "T"]).await;
    assert_eq!(ran.err, "", "a follower hears of it from the leader");
    let told = "delete topic [T] from cluster [RaftCluster] success.\n\
                delete topic [T] from NameServer success.\n";
    assert_eq!((ran.code, ran.out.as_str()), (0, told), "{ran:?}");
    for broker in [leader, follower] {
        assert_eq!(broker.asked_for(RequestCode::DELETE_TOPIC_IN_BROKER).len(), 1);
    }
    assert_eq!(site.run(&["topicList"]).await.out, "TBW102\n");
}

#[test]
fn the_program_answers_with_text_and_exit_code() {
    let run = |words: &[&str]| {
        let program = std::process::Command::new(env!("CARGO_BIN_EXE_rmq-admin"))
            .args(words)
            .env("NAMESRV_ADDR", "127.0.0.1:1")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (program.status.code(), text(&program.stdout), text(&program.stderr))
    };
    let (code, out, err) = run(&["help", "updateTopic"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("usage: mqadmin updateTopic"), "{out}");
    let (code, out, err) = run(&["noSuchCommand", "-x"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.starts_with("The sub command noSuchCommand not exist."), "{err}");
    let (code, out, err) = run(&["topicList"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("127.0.0.1:1"), "{err}");
}
