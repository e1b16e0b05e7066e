//! A real group of one behind real sockets: what clients see.

mod administration;
mod clients;
mod consuming;
mod hanging;
mod hostile;
mod members;
mod sending;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::start::{self, Running, Surroundings};
use crate::config::load;
use crate::config::settings::{FileText, Inputs};
use crate::net::{Client, ClientOptions, Connection, Handled, Handler};
use crate::protocol::codes::RequestCode;
use crate::protocol::command::RemotingCommand;
use crate::protocol::headers::pull::{PullRequest, flag};
use crate::protocol::headers::send::SendRequest;
use crate::protocol::message::{Record, records};
use crate::raft::group_tests::free_port;

const WITHIN: Duration = Duration::from_secs(10);

/// A broker that runs, and a client of it.
struct Deployed {
    running: Running,
    client: Client,
    address: String,
    dir: TempDir,
}

/// Starts a broker in a new directory and waits until it takes writes.
async fn deploy() -> Deployed {
    deploy_in(TempDir::new().unwrap(), "").await
}

/// Starts a broker in a directory, with additional settings.
async fn deploy_in(dir: TempDir, settings: &str) -> Deployed {
    deploy_on(dir, settings, 1 << 30).await
}

/// The same on a machine with so much memory.
async fn deploy_on(dir: TempDir, settings: &str, memory_bytes: u64) -> Deployed {
    let end = Box::new(|why: &str| panic!("{why}"));
    let surroundings = Surroundings { memory_bytes, routes_known_after: Duration::ZERO, end };
    let deployed = boot(dir, settings, surroundings).await;
    let broker = deployed.running.broker();
    let mut role = broker.group.watch_role();
    tokio::time::timeout(WITHIN, role.wait_for(|role| role.is_leader())).await.unwrap().unwrap();
    until(|| broker.tables().topic("TBW102").is_some()).await;
    deployed
}

/// Starts a broker, which may not lead yet.
async fn boot(dir: TempDir, settings: &str, surroundings: Surroundings) -> Deployed {
    let port = free_port();
    let text = format!(
        "brokerClusterName=C\nbrokerName=B\nbrokerIP1=127.0.0.1\nbindAddress=127.0.0.1\n\
         listenPort={port}\nmappedFileSizeCommitLog=16777216\nflushDiskType=ASYNC_FLUSH\n\
         storePathRootDir={}\n{settings}",
        root(dir.path())
    );
    let file = FileText { name: "test.conf".into(), text };
    let config = load::broker(Some(&file), &Inputs::default()).unwrap().config;
    let running = start::start_in(config, surroundings).await.unwrap();
    let client = Client::new(ClientOptions::default());
    Deployed { running, client, address: format!("127.0.0.1:{port}"), dir }
}

fn root(dir: &Path) -> String {
    dir.join("store").display().to_string()
}

/// Waits for a condition.
async fn until(condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WITHIN, met).await.expect("the condition is met in time");
}

impl Deployed {
    async fn call(&self, request: RemotingCommand) -> RemotingCommand {
        self.client.call(&self.address, request, WITHIN).await.unwrap()
    }

    async fn ask(&self, code: RequestCode, fields: &[(&str, &str)]) -> RemotingCommand {
        self.call(request(code, fields)).await
    }

    async fn create_topic(&self, topic: &str, queues: u32) {
        let queues = queues.to_string();
        let queues = [("readQueueNums", queues.as_str()), ("writeQueueNums", &queues)];
        self.create_topic_with(topic, &queues).await;
    }

    /// Creates a topic of one queue, apart from what `differs`.
    async fn create_topic_with(&self, topic: &str, differs: &[(&str, &str)]) {
        let answer = self.call(topic_request(topic, differs)).await;
        assert_eq!(answer.code, 0, "{answer:?}");
    }

    /// Sends a message that must be taken; its queue offset.
    async fn send(&self, topic: &str, queue_id: i32, tag: &str, body: &str) -> i64 {
        let properties = format!("TAGS\u{1}{tag}\u{2}");
        let answer = self.call(send(topic, queue_id, &properties, body)).await;
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.ext.required("queueOffset").unwrap()
    }

    /// Calls it over a connection of its own, and returns when it has noticed the end of that.
    async fn call_and_go(&self, request: RemotingCommand) -> RemotingCommand {
        let client = Client::new(ClientOptions::default());
        let before = self.running.connections();
        let answer = client.call(&self.address, request, WITHIN).await.unwrap();
        drop(client);
        until(|| self.running.connections() == before).await;
        answer
    }

    /// Stops it; its directory stays.
    async fn stop(self) -> TempDir {
        self.running.stop().await;
        self.dir
    }
}

fn topic_request(topic: &str, differs: &[(&str, &str)]) -> RemotingCommand {
    let mut fields = vec![
        ("topic", topic),
        ("defaultTopic", "TBW102"),
        ("readQueueNums", "1"),
        ("writeQueueNums", "1"),
        ("perm", "6"),
        ("topicFilterType", "SINGLE_TAG"),
        ("order", "false"),
    ];
    fields.extend_from_slice(differs); // of two fields with one name the last counts
    request(RequestCode::UPDATE_AND_CREATE_TOPIC, &fields)
}

fn request(code: RequestCode, fields: &[(&str, &str)]) -> RemotingCommand {
    let request = RemotingCommand::request(code);
    fields.iter().fold(request, |request, (name, value)| request.with_field(name, value))
}

fn send(topic: &str, queue_id: i32, properties: &str, body: &str) -> RemotingCommand {
    SendRequest { properties, ..send_header(topic, queue_id) }
        .request(RequestCode::SEND_MESSAGE_V2)
        .with_body(body.to_owned())
}

fn send_header(topic: &str, queue_id: i32) -> SendRequest<'_> {
    SendRequest {
        producer_group: "p",
        topic,
        default_topic: "TBW102",
        default_topic_queue_nums: 4,
        queue_id,
        sys_flag: 0,
        born_timestamp: 7,
        flag: 3,
        properties: "",
        reconsume_times: 0,
        unit_mode: false,
        max_reconsume_times: None,
        batch: false,
    }
}

fn pull_header<'a>(topic: &'a str, offset: i64, subscription: &'a str) -> PullRequest<'a> {
    PullRequest {
        consumer_group: "g",
        topic,
        queue_id: 0,
        queue_offset: offset,
        max_msg_nums: 32,
        sys_flag: flag::SUBSCRIPTION,
        commit_offset: 0,
        suspend_timeout_millis: 0,
        subscription: Some(subscription),
        sub_version: 0,
        expression_type: None,
        max_msg_bytes: None,
    }
}

fn pull(topic: &str, offset: i64) -> RemotingCommand {
    pull_header(topic, offset, "*").request(RequestCode::PULL_MESSAGE)
}

/// Bodies in the answer to a pull or a query.
fn texts(answer: &RemotingCommand) -> Vec<String> {
    records(&answer.body)
        .map(|record| String::from_utf8_lossy(record.unwrap().body()).into_owned())
        .collect()
}

fn first_record(answer: &RemotingCommand) -> Record<'_> {
    Record::parse(&answer.body).unwrap()
}

fn remark(answer: &RemotingCommand) -> &str {
    answer.remark.as_deref().unwrap_or_default()
}

/// Keeps what a broker asks of its client.
struct Heard(tokio::sync::mpsc::Sender<RemotingCommand>);

impl Handler for Heard {
    fn handle(&self, _: &Arc<Connection>, request: RemotingCommand) -> Handled {
        // A test that does not listen any more has ended.
        let _ = self.0.try_send(request);
        Handled::Done
    }

    fn closed(&self, _: &Arc<Connection>) {}
}
