//! The servers as processes: what a start that cannot be says, what a stop leaves, what the
//! command lines print. Everything is on loopback, on free ports, in folders of its own.
#![allow(clippy::unwrap_used)]

mod explain;
mod full_disk;
mod group;
mod hostile;
mod recover_alone;
mod unread_log;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicU16, Ordering},
        mpsc::{self, Receiver},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rmq::{
    clock,
    net::{CallError, Client, ClientOptions},
    protocol::{
        bodies::{self, KVTable, TopicRouteData},
        codes::RequestCode,
        command::RemotingCommand,
        headers::offset::OffsetAnswer,
    },
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const BROKER: &str = env!("CARGO_BIN_EXE_rmq-broker");
const ADMIN: &str = env!("CARGO_BIN_EXE_rmq-admin");
const NAMESRV: &str = env!("CARGO_BIN_EXE_rmq-namesrv");
/// Nothing here takes a tenth of this.
const WITHIN: Duration = Duration::from_secs(30);

/// A process that does not outlive its test.
struct Process {
    child: Child,
    /// Lines of its standard error as they come.
    said: Receiver<String>,
    lines: Vec<String>,
    out: Option<JoinHandle<String>>,
}

/// How a process ended, and what it wrote.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: Vec<String>,
}

impl Process {
    fn start(program: &str, args: &[&str], home: &Path) -> Self {
        Self::spawn(Command::new(program).args(args), home)
    }

    fn spawn(command: &mut Command, home: &Path) -> Self {
        let mut child = command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", home)
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (say, said) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|l| say.send(l)));
        let stdout = child.stdout.take().unwrap();
        let out = thread::spawn(move || io::read_to_string(stdout).unwrap());
        Self { child, said, lines: Vec::new(), out: Some(out) }
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line with `text`.
    fn until(&mut self, text: &str) {
        self.until_one_of(&[text]);
    }

    /// Waits for a line with one of `texts`; says with which.
    fn until_one_of(&mut self, texts: &[&str]) -> usize {
        let deadline = clock::now() + WITHIN;
        let left = || deadline.saturating_duration_since(clock::now());
        while let Ok(line) = self.said.recv_timeout(left()) {
            let found = texts.iter().position(|text| line.contains(text));
            self.lines.push(line);
            if let Some(found) = found {
                return found;
            }
        }
        panic!("no line with one of {texts:?} but\n{}", self.lines.join("\n"));
    }

    /// Ends it as a crash does.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end: that of its standard error, which nobody else has.
    fn end(mut self) -> Ended {
        let deadline = clock::now() + WITHIN;
        loop {
            match self.said.recv_timeout(deadline.saturating_duration_since(clock::now())) {
                Ok(line) => self.lines.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    panic!("it goes on:\n{}", self.lines.join("\n"))
                }
            }
        }
        let code = self.child.wait().unwrap().code();
        let out = self.out.take().unwrap().join().unwrap();
        Ended { code, out, err: std::mem::take(&mut self.lines) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// The one line of a start that cannot be.
    fn only_line(&self) -> &str {
        assert_eq!((self.code, self.out.as_str()), (Some(1), ""), "{self:?}");
        let [line] = self.err.as_slice() else { panic!("more or less than a line: {self:?}") };
        assert!(line.contains(" ERROR "), "{line}");
        line
    }

    fn assert_in_peace(&self) {
        let bad = self.err.iter().filter(|l| l.contains(" WARN ") || l.contains(" ERROR "));
        assert_eq!((self.code, bad.count()), (Some(0), 0), "{self:#?}");
    }
}

fn run(program: &str, args: &[&str]) -> Ended {
    let home = tempfile::tempdir().unwrap();
    Process::start(program, args, home.path()).end()
}

/// A port that, like the one two below it, nobody has. Not of those that the system gives to
/// outgoing connections: one of them might come in between.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let of_this_process = 12_000 + u16::try_from(std::process::id() % 300).unwrap() * 60;
    loop {
        let port = of_this_process + NEXT.fetch_add(4, Ordering::Relaxed) % 1000;
        if [port - 2, port].iter().all(|p| TcpListener::bind(loopback(*p)).is_ok()) {
            return port;
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A folder with configuration files.
struct Site {
    dir: TempDir,
}

impl Site {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A broker on its own, with its store in `store`.
    fn broker(&self, port: u16, further: &str) -> String {
        let text = format!(
            "bindAddress=127.0.0.1\nlistenPort={port}\nbrokerName=b\n\
             storePathRootDir={}\nmappedFileSizeCommitLog=16777216\n{further}",
            self.path("store").display()
        );
        self.file(&format!("broker-{port}.conf"), &text)
    }

    fn name_server(&self, port: u16) -> String {
        let text = format!("bindAddress=127.0.0.1\nlistenPort={port}\n");
        self.file(&format!("namesrv-{port}.conf"), &text)
    }

    fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        name.to_owned()
    }

    fn start(&self, program: &str, args: &[&str]) -> Process {
        Process::start(program, args, self.dir.path())
    }

    fn start_broker(&self, file: &str) -> Process {
        let mut broker = self.start(BROKER, &["-c", file]);
        broker.until("leads the group");
        broker
    }

    /// What was not there when the test began.
    fn made(&self) -> BTreeSet<String> {
        let names = fs::read_dir(self.dir.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.ends_with(".conf")).collect()
    }
}

/// Calls with an answer, on a connection of their own.
struct Caller(Client);

impl Caller {
    fn new() -> Self {
        Self(Client::new(ClientOptions::default()))
    }

    async fn ask(&self, port: u16, request: RemotingCommand) -> RemotingCommand {
        self.0.call(&loopback(port).to_string(), request, WITHIN).await.unwrap()
    }

    /// Addresses of the leaders that have `topic`, once there is one.
    async fn leaders_of(&self, name_server: u16, topic: &str) -> Vec<String> {
        let deadline = clock::now() + WITHIN;
        loop {
            let request = RemotingCommand::request(RequestCode::GET_ROUTEINFO_BY_TOPIC)
                .with_field("topic", topic);
            let answer = self.ask(name_server, request).await;
            let route: TopicRouteData = bodies::decode(&answer.body).unwrap_or_default();
            let groups = route.broker_datas.into_iter();
            let leaders: Vec<_> =
                groups.filter_map(|mut group| group.broker_addrs.remove(&0)).collect();
            if !leaders.is_empty() {
                return leaders;
            }
            assert!(clock::now() < deadline, "{topic} has no leader at {name_server}");
        }
    }

    /// Name of the member that leads, as the one at `port` has it; `none` when it knows none.
    async fn leader_by(&self, port: u16) -> Option<String> {
        let request = RemotingCommand::request(RequestCode::GET_BROKER_RUNTIME_INFO);
        let answer = self.0.call(&loopback(port).to_string(), request, WITHIN).await.ok()?;
        bodies::decode::<KVTable>(&answer.body).ok()?.table.remove("raftLeader")
    }

    async fn try_send(&self, port: u16, topic: &str) -> Result<RemotingCommand, CallError> {
        self.0.call(&loopback(port).to_string(), send(topic), WITHIN).await
    }

    /// Sends the topic's first message, once there is the template that topics are made from.
    async fn first_send(&self, port: u16, topic: &str) {
        let deadline = clock::now() + WITHIN;
        loop {
            let answer = self.ask(port, send(topic)).await;
            if answer.code == 0 {
                return;
            }
            assert!(clock::now() < deadline, "{topic} cannot be made: {answer:?}");
        }
    }

    /// Says that it is a producer, as stock clients do each 30 s.
    async fn register_producer(&self, port: u16) {
        let body = r#"{"clientID":"c","producerDataSet":[{"groupName":"p"}]}"#;
        let request = RemotingCommand::request(RequestCode::HEART_BEAT).with_body(body);
        assert_eq!(self.ask(port, request).await.code, 0);
    }

    async fn unregister_producer(&self, port: u16) {
        let request = RemotingCommand::request(RequestCode::UNREGISTER_CLIENT)
            .with_field("clientID", "c")
            .with_field("producerGroup", "p");
        assert_eq!(self.ask(port, request).await.code, 0);
    }

    async fn end_of_queue(&self, port: u16, topic: &str) -> i64 {
        let request = RemotingCommand::request(RequestCode::GET_MAX_OFFSET)
            .with_field("topic", topic)
            .with_field("queueId", 0);
        OffsetAnswer::parse(&self.ask(port, request).await).unwrap().offset
    }
}

fn send(topic: &str) -> RemotingCommand {
    RemotingCommand::request(RequestCode::SEND_MESSAGE)
        .with_field("producerGroup", "p")
        .with_field("topic", topic)
        .with_field("defaultTopic", "TBW102")
        .with_field("defaultTopicQueueNums", 1)
        .with_field("queueId", 0)
        .with_field("sysFlag", 0)
        .with_field("bornTimestamp", 1)
        .with_field("flag", 0)
        .with_body("a message")
}

#[test]
fn a_taken_port_is_one_line_that_says_which_why_and_what_to_do() {
    let site = Site::new();
    let [listen, peers] = [free_port(), free_port()];
    let group = format!(
        "enableDLegerCommitLog=true\ndLegerSelfId=n0\ndLegerPeers=n0-127.0.0.1:{peers};\
         n1-127.0.0.1:1;n2-127.0.0.1:2\n"
    );
    let (alone, member) = (site.broker(listen, ""), site.broker(free_port(), &group));
    let name_server = site.name_server(listen);
    let rows = [
        (BROKER, &alone, listen, "listenPort"),
        (BROKER, &alone, listen - 2, "listenPort - 2"),
        (BROKER, &member, peers, "dLegerPeers"),
        (NAMESRV, &name_server, listen, "listenPort"),
    ];
    for (program, file, port, key) in rows {
        let in_the_way = TcpListener::bind(loopback(port)).unwrap();
        let ended = site.start(program, &["-c", file]).end();
        let line = ended.only_line();
        for text in [
            format!(" {key}: cannot listen on 127.0.0.1:{port}: "),
            "Address already in use".to_owned(),
            format!("process {} (", std::process::id()),
            "stop it, or choose another port".to_owned(),
        ] {
            assert!(line.contains(&text), "`{text}` is not in {line}");
        }
        assert_eq!(site.made(), BTreeSet::new(), "{line}");
        drop(in_the_way);
    }
}

#[test]
fn a_store_in_use_is_one_line_with_its_folder_and_who_uses_it() {
    let site = Site::new();
    let first = site.start_broker(&site.broker(free_port(), ""));
    let second = site.start(BROKER, &["-c", &site.broker(free_port(), "")]).end();
    let line = second.only_line();
    for text in [
        site.path("store").display().to_string(),
        format!("process {}", first.id()),
        "storePathRootDir".to_owned(),
    ] {
        assert!(line.contains(&text), "`{text}` is not in {line}");
    }
    first.terminate();
    first.end().assert_in_peace();
}

#[test]
fn a_store_that_cannot_be_written_is_one_line() {
    let site = Site::new();
    fs::write(site.path("store"), "no folder").unwrap();
    let ended = site.start(BROKER, &["-c", &site.broker(free_port(), "")]).end();
    let line = ended.only_line();
    let store = site.path("store");
    for text in [&*format!("{} is not a directory", store.display()), "storePathRootDir"] {
        assert!(line.contains(text), "`{text}` is not in {line}");
    }
    let file = site.file("namesrv.conf", "kvConfigPath=store/kvConfig.json\n");
    let ended = site.start(NAMESRV, &["-c", &file]).end();
    assert!(
        ended.only_line().contains("kvConfigPath: cannot read store/kvConfig.json: Not a dir"),
        "{ended:?}"
    );
}

/// Sends that it had not read yet end with their connection, and are not stored.
#[tokio::test]
async fn a_stopped_leader_has_acknowledged_what_it_stored_and_the_next_start_has_it_all() {
    let (site, caller, port) = (Site::new(), Caller::new(), free_port());
    let file = site.broker(port, "");
    let broker = site.start_broker(&file);
    caller.first_send(port, "T").await;
    let sends: Vec<_> = (0..200).map(|_| Box::pin(caller.try_send(port, "T"))).collect();
    let (first, _, others) = futures_util::future::select_all(sends).await;
    let asked = clock::now();
    broker.terminate();
    let mut answers = futures_util::future::join_all(others).await;
    answers.push(first);
    broker.end().assert_in_peace();
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    let acknowledged = answers.into_iter().flatten().filter(|answer| answer.code == 0).count();

    let again = site.start_broker(&file);
    let stored = Caller::new().end_of_queue(port, "T").await;
    assert_eq!(stored, i64::try_from(1 + acknowledged).unwrap());
    again.terminate();
    let ended = again.end();
    ended.assert_in_peace();
    let recovered = ended.err.iter().find(|line| line.contains("recovered the log")).unwrap();
    assert!(recovered.contains("entries=0 "), "nothing to replay: {recovered}");
}

#[tokio::test]
async fn a_broker_registers_with_all_name_servers_of_its_command_line() {
    let (site, caller, port) = (Site::new(), Caller::new(), free_port());
    let ports = [free_port(), free_port()];
    let name_servers = ports.map(|port| {
        let mut server = site.start(NAMESRV, &["-c", &site.name_server(port)]);
        server.until("name server started");
        server
    });
    let addresses = ports.map(|port| loopback(port).to_string()).join(";");
    let elsewhere = site.broker(port, "namesrvAddr=127.0.0.1:1\n");
    let broker = site.start(BROKER, &["-c", &elsewhere, "-n", &addresses]);
    for name_server in ports {
        let leaders = caller.leaders_of(name_server, "DefaultCluster").await;
        assert_eq!(leaders, [loopback(port).to_string()]);
    }
    broker.terminate();
    broker.end().assert_in_peace();
    for server in name_servers {
        server.terminate();
        server.end().assert_in_peace();
    }
}

/// An operator tells from a few lines who leads, since when, and what is missing.
#[test]
fn an_election_and_the_lack_of_a_majority_are_told_by_those_who_are_left() {
    let peers: Vec<_> = (0..3).map(|_| free_port()).collect();
    let peers =
        format!("n0-127.0.0.1:{};n1-127.0.0.1:{};n2-127.0.0.1:{}", peers[0], peers[1], peers[2]);
    let sites = [Site::new(), Site::new(), Site::new()];
    let mut members: Vec<_> = sites
        .iter()
        .enumerate()
        .map(|(n, site)| {
            let group =
                format!("enableDLegerCommitLog=true\ndLegerSelfId=n{n}\ndLegerPeers={peers}\n");
            site.start(BROKER, &["-c", &site.broker(free_port(), &group)])
        })
        .collect();
    let parts = [" leads the group ", " follows "];
    let roles: Vec<_> = members.iter_mut().map(|m| m.until_one_of(&parts)).collect();
    let leader = roles.iter().position(|role| *role == 0).unwrap();
    assert_eq!(roles.iter().filter(|role| **role == 0).count(), 1, "{roles:?}");

    members.remove(leader).kill();
    let roles: Vec<_> = members.iter_mut().map(|m| m.until_one_of(&parts)).collect();
    let second = roles.iter().position(|role| *role == 0).unwrap();
    let follower = 1 - second;
    assert_eq!(roles[follower], 1);

    members.remove(second).kill();
    let last = &mut members[0];
    last.until(" hears its leader no more ");
    last.until(" there is no leader: a majority of the members must run and reach each other ");
    last.terminate();
    assert_eq!(members.remove(0).end().code, Some(0));
}

#[tokio::test]
async fn settings_of_a_name_server_that_were_changed_survive_it() {
    let (site, port) = (Site::new(), free_port());
    let file = site.name_server(port);
    let text = fs::read_to_string(site.path(&file)).unwrap();
    let settings = async || {
        let request = RemotingCommand::request(RequestCode::GET_NAMESRV_CONFIG);
        String::from_utf8(Caller::new().ask(port, request).await.body.to_vec()).unwrap()
    };
    let mut first = site.start(NAMESRV, &["-c", &file]);
    first.until("name server started");
    assert!(settings().await.contains("\nenableTopicList=true\n"));
    let change = RemotingCommand::request(RequestCode::UPDATE_NAMESRV_CONFIG)
        .with_body("enableTopicList=false\n");
    assert_eq!(Caller::new().ask(port, change).await.code, 0);
    first.terminate();
    first.end().assert_in_peace();

    let mut second = site.start(NAMESRV, &["-c", &file]);
    second.until("changed while running, wins over the file: enableTopicList=false");
    assert!(settings().await.contains("\nenableTopicList=false\n"));
    second.terminate();
    second.end().assert_in_peace();
    assert_eq!(fs::read_to_string(site.path(&file)).unwrap(), text, "the operator's file");

    let kept = site.path("namesrv/changedConfig.json");
    fs::write(&kept, "{").unwrap();
    let ended = site.start(NAMESRV, &["-c", &file]).end();
    assert_eq!(ended.code, Some(2));
    let start = format!("{}: is damaged: ", kept.display());
    assert!(ended.err.len() == 1 && ended.err[0].starts_with(&start), "{ended:?}");
}

#[test]
fn help_and_version_are_printed() {
    for (program, name) in [(BROKER, "rmq-broker"), (NAMESRV, "rmq-namesrv")] {
        let version = format!("{name} {}", env!("CARGO_PKG_VERSION"));
        let rows: [(&str, &[&str]); 4] = [
            ("-h", &["--configFile <FILE>", "--printConfigItem", "--check", "Exit codes: 0 "]),
            ("--help", &["--configFile <FILE>"]),
            ("-V", &[&version]),
            ("--version", &[&version]),
        ];
        for (flag, texts) in rows {
            let ended = run(program, &[flag]);
            ended.assert_in_peace();
            for text in texts {
                assert!(ended.out.contains(text), "{flag}: `{text}` is not in {}", ended.out);
            }
        }
    }
    assert!(run(BROKER, &["-h"]).out.contains("-n, --namesrvAddr"));
    let wrong = run(BROKER, &["--frobnicate"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.join("\n").contains("--frobnicate"), "{wrong:?}");
}

#[test]
fn settings_are_printed_with_where_they_come_from() {
    let (site, port) = (Site::new(), free_port());
    let file = site.broker(port, "sendMessageThreadPoolNums=16\n");
    let ended = site.start(BROKER, &["-c", &file, "-n", "ns:9876", "-p"]).end();
    ended.assert_in_peace();
    let reasons: [(&str, &str, &str); 6] = [
        ("listenPort", &port.to_string(), &format!("{file}:2")),
        ("namesrvAddr", "ns:9876", "command line"),
        ("haListenPort", &(port + 1).to_string(), "listenPort + 1"),
        ("brokerIP1", "127.0.0.1", "bindAddress; reached from this machine only"),
        ("fileReservedTime", "72", "default"),
        ("sendMessageThreadPoolNums", "16", &format!("{file}:6; no effect: ")),
    ];
    for (key, value, source) in reasons {
        let line = ended.out.lines().find(|line| line.split_whitespace().next() == Some(key));
        let line = line.unwrap_or_else(|| panic!("{key} is not in {}", ended.out));
        let rest = line[key.len()..].trim_start();
        let rest = rest.strip_prefix(value).unwrap_or_else(|| panic!("{value} is not in {line}"));
        assert!(rest.trim_start().starts_with(source), "{source} is not in {line}");
    }
    let important = site.start(BROKER, &["-c", &file, "-m"]).end();
    important.assert_in_peace();
    assert!(important.out.contains("listenPort "), "{}", important.out);
    assert!(!important.out.contains("sendMessageThreadPoolNums"), "{}", important.out);
    let file = site.name_server(port);
    let ended = site.start(NAMESRV, &["-c", &file, "-p"]).end();
    ended.assert_in_peace();
    assert!(ended.out.contains("$HOME/namesrv/kvConfig.json"), "{}", ended.out);
    assert_eq!(site.made(), BTreeSet::new(), "looking makes nothing");
}

#[test]
fn a_wrong_file_is_told_line_by_line_with_what_was_meant() {
    let site = Site::new();
    let file = site.file("bad.conf", "listenPort=10911\nbrokerNme=a\n\ndeleteWhen=25\n");
    for flags in [&["-c", &file, "--check"][..], &["-c", &file]] {
        let ended = site.start(BROKER, flags).end();
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{ended:?}");
        let lines = [
            "bad.conf:2: brokerNme: there is no such key; did you mean brokerName?",
            "bad.conf:4: deleteWhen: `25` is not hours of the day such as `04` or `04;16`",
        ];
        assert_eq!(ended.err, lines);
    }
    let ended =
        site.start(NAMESRV, &["-c", &site.file("ns.conf", "listenPrt=1\n"), "--check"]).end();
    assert_eq!(ended.code, Some(2));
    assert_eq!(ended.err, ["ns.conf:1: listenPrt: there is no such key; did you mean listenPort?"]);
    let ended = site.start(NAMESRV, &["-c", "not-there.conf"]).end();
    assert_eq!(ended.code, Some(2));
    assert!(ended.err[0].starts_with("not-there.conf: cannot be read: "), "{ended:?}");
    assert_eq!(site.made(), BTreeSet::new());
}

#[test]
fn a_log_filter_of_the_environment_that_cannot_be_read_is_told() {
    let site = Site::new();
    for (program, file) in
        [(BROKER, site.broker(free_port(), "")), (NAMESRV, site.name_server(free_port()))]
    {
        let mut command = Command::new("env");
        command.args(["RUST_LOG=loud=loud", program, "-c", &file]);
        let ended = Process::spawn(&mut command, site.dir.path()).end();
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.err.join("\n").contains("log filter `loud=loud`: "), "{ended:?}");
    }
}

#[test]
fn the_files_of_the_dledger_guide_are_good_as_they_are() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/guide1");
    for name in [
        "broker-n0.conf",
        "broker-n1.conf",
        "broker-n0-as-published.conf",
        "broker-n2-as-published.conf",
    ] {
        let file = guide.join(name).display().to_string();
        let ended = run(BROKER, &["-c", &file, "--check"]);
        ended.assert_in_peace();
        assert!(ended.out.ends_with("configuration is good\n"), "{name}: {}", ended.out);
    }
    let file = guide.join("broker-n1-as-published.conf").display().to_string();
    let ended = run(BROKER, &["-c", &file, "--check"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err[0].contains(":8: dLegerGroup: "), "a line break is lost: {ended:?}");
}
