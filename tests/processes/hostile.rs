//! What whoever reaches a port can try, against the servers as processes. Attacks have numbers:
//!
//! | attack | by | where |
//! |---|---|---|
//! | 1, 2 | changing the configuration | `configuration` |
//! | 3 | names | `names` |
//! | 4, 5, 6 | frames and headers | `frames` |
//! | 7, 8, 9, 10 | messages | `messages` |
//! | 13 | consumer offsets | `offsets` |
//! | 17, 18 | connections that are slow, or do nothing | `crowd` |
//!
//! What bytes alone decide is also searched by machine: `src/fuzz.rs`.

mod configuration;
mod crowd;
mod frames;
mod messages;
mod names;
mod offsets;

use std::io::{Read, Write};
use std::net::TcpStream;

use rmq::protocol::codes::ResponseCode;
use rmq::protocol::headers::{pull::PullRequest, send::SendRequest};

use super::*;

/// What a hostile client sends is answered or closed within this, also by an unoptimised build on
/// a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// A broker or a name server, and what it has.
struct Target {
    site: Site,
    process: Process,
    port: u16,
    caller: Caller,
}

impl Target {
    fn broker() -> Self {
        let (site, port) = (Site::new(), free_port());
        let process = site.start_broker(&site.broker(port, ""));
        Self { site, process, port, caller: Caller::new() }
    }

    fn name_server() -> Self {
        let (site, port) = (Site::new(), free_port());
        let mut process = site.start(NAMESRV, &["-c", &site.name_server(port)]);
        process.until("name server started");
        Self { site, process, port, caller: Caller::new() }
    }

    async fn ask(&self, request: RemotingCommand) -> RemotingCommand {
        self.caller.ask(self.port, request).await
    }

    /// Asks with these fields.
    async fn request(&self, code: RequestCode, fields: &[(&str, &str)]) -> RemotingCommand {
        let request = RemotingCommand::request(code);
        self.ask(fields.iter().fold(request, |r, (name, value)| r.with_field(name, value))).await
    }

    /// Sends bytes on a connection of their own. What comes back until it is closed, or has an
    /// answer.
    fn shout(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(loopback(self.port)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        // The server may close before it has read all of it.
        let _ = stream.write_all(bytes);
        let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return heard,
                Ok(bytes) => {
                    heard.extend_from_slice(&buffer[..bytes]);
                    return heard;
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return heard,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => panic!("neither an answer nor a close: {error}"),
            }
        }
    }

    /// Memory that is its own, bytes.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Processes that it has started.
    fn children(&self) -> String {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let children = tasks.map(|task| task.unwrap().path().join("children"));
        children.filter_map(|path| fs::read_to_string(path).ok()).collect()
    }

    /// Ends it, which it must survive until then.
    fn end(self) {
        self.process.terminate();
        assert_eq!(self.process.end().code, Some(0));
    }
}

/// Every file and folder below `dir`.
fn tree(dir: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(tree(&path));
        }
        all.insert(path);
    }
    all
}

fn send_header(topic: &str) -> SendRequest<'_> {
    SendRequest {
        producer_group: "p",
        topic,
        default_topic: "TBW102",
        default_topic_queue_nums: 1,
        queue_id: 0,
        sys_flag: 0,
        born_timestamp: 7,
        flag: 0,
        properties: "",
        reconsume_times: 0,
        unit_mode: false,
        max_reconsume_times: None,
        batch: false,
    }
}

fn pull(topic: &str) -> RemotingCommand {
    let pull = PullRequest {
        consumer_group: "g",
        topic,
        queue_id: 0,
        queue_offset: 0,
        max_msg_nums: 32,
        sys_flag: rmq::protocol::headers::pull::flag::SUBSCRIPTION,
        commit_offset: 0,
        suspend_timeout_millis: 0,
        subscription: Some("*"),
        sub_version: 0,
        expression_type: None,
        max_msg_bytes: None,
    };
    pull.request(RequestCode::PULL_MESSAGE)
}
