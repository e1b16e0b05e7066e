//! Members of a group: those that take it to be different things, and a leader that is to stop.

use std::net::TcpStream;

use rustix::process::Signal;

use super::{ADMIN, BROKER, Caller, Process, Site, WITHIN, clock, free_port, loopback};

const CLUSTER: &str = "C";
const GROUP: &str = "G";
const SEGMENT: &str = "16777216";

/// Keys and values.
pub(super) type Settings<'a> = [(&'a str, &'a str)];

/// Three members that agree, and what they would have to be told for that.
pub(super) struct Group {
    pub(super) site: Site,
    pub(super) listen: [u16; 3],
    pub(super) peers: String,
}

impl Group {
    pub(super) fn new() -> Self {
        let listen = [free_port(), free_port(), free_port()];
        let peers: Vec<String> =
            (0..3).map(|n| format!("n{n}-127.0.0.1:{}", free_port())).collect();
        Self { site: Site::new(), listen, peers: peers.join(";") }
    }

    /// Starts a member with its store in `store`; later ones of `changes` win.
    pub(super) fn start(&self, n: usize, store: &str, changes: &Settings<'_>) -> Process {
        self.site.start(BROKER, &["-c", &self.configure(n, store, changes)])
    }

    /// The file that a member starts with.
    pub(super) fn configure(&self, n: usize, store: &str, changes: &Settings<'_>) -> String {
        let (listen, own) = (self.listen[n].to_string(), format!("n{n}"));
        let store = self.site.path(store).display().to_string();
        let mut settings = vec![
            ("bindAddress", "127.0.0.1"),
            ("brokerIP1", "127.0.0.1"),
            ("listenPort", &listen),
            ("brokerClusterName", CLUSTER),
            ("brokerName", GROUP),
            ("enableDLegerCommitLog", "true"),
            ("dLegerGroup", GROUP),
            ("dLegerPeers", &self.peers),
            ("dLegerSelfId", &own),
            ("storePathRootDir", &store),
            ("mappedFileSizeCommitLog", SEGMENT),
        ];
        for (key, value) in changes {
            settings.retain(|(known, _)| known != key);
            settings.push((key, value));
        }
        let lines: Vec<String> =
            settings.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        self.site.file(&format!("n{n}.conf"), &lines.concat())
    }

    pub(super) fn start_all(&self) -> [Process; 3] {
        let mut members = [0, 1, 2].map(|n| self.start(n, &format!("n{n}"), &[]));
        members.iter_mut().for_each(|member| member.until("term="));
        members
    }

    /// Sends to one member after the other, until one says that it is stored.
    pub(super) async fn send(&self, caller: &Caller) {
        let deadline = clock::now() + WITHIN;
        loop {
            for port in self.listen {
                if caller.try_send(port, "T").await.is_ok_and(|answer| answer.code == 0) {
                    return;
                }
            }
            assert!(clock::now() < deadline, "nobody stores");
        }
    }

    /// The one that says of itself that it leads: its number. Who stores a message may have passed
    /// it on.
    pub(super) async fn leader(&self, caller: &Caller) -> usize {
        let deadline = clock::now() + WITHIN;
        loop {
            for (n, port) in self.listen.into_iter().enumerate() {
                if caller.leader_by(port).await == Some(format!("n{n}")) {
                    return n;
                }
            }
            assert!(clock::now() < deadline, "nobody leads");
        }
    }
}

/// Waits for a line with `text`, wherever it comes among the others.
pub(super) fn says(member: &mut Process, text: &str) {
    if !member.lines.iter().any(|line| line.contains(text)) {
        member.until(text);
    }
}

pub(super) fn end(member: Process) {
    member.terminate();
    assert_eq!(member.end().code, Some(0));
}

#[tokio::test]
async fn members_that_disagree_refuse_each_other_with_both_values_and_the_others_go_on() {
    let (group, caller) = (Group::new(), Caller::new());
    let [mut n0, n1, n2] = group.start_all();
    group.send(&caller).await;
    end(n2);
    let mistakes: [(&str, &str, &Settings<'_>); 3] = [
        ("dLegerGroup", GROUP, &[("dLegerGroup", "H"), ("brokerName", "H")]),
        ("brokerClusterName", CLUSTER, &[("brokerClusterName", "D")]),
        ("mappedFileSizeCommitLog", SEGMENT, &[("mappedFileSizeCommitLog", "33554432")]),
    ];
    for (what, right, changes) in mistakes {
        let wrong = changes[0].1;
        let mut n2 = group.start(2, &format!("n2-{what}"), changes);
        // It asks n0, which refuses; and the leader asks it, which it refuses.
        let refusal = format!(
            "{what} differs: n0 (this member) has {right:?}, n2 (calling) has {wrong:?}; make"
        );
        says(&mut n2, &refusal);
        says(&mut n0, &format!("refused a peer refusal={refusal}"));
        let of_n2 = format!("refusal={what} differs: n2 (this member) has {wrong:?}, n");
        says(&mut n2, &of_n2);
        group.send(&caller).await;
        end(n2);
    }
    let mut n2 = group.start(2, "n2", &[]);
    n2.until("follows");
    for member in [n0, n1, n2] {
        end(member);
    }
}

#[tokio::test]
async fn files_agree_before_a_group_is_started_and_may_lag_behind_afterwards() {
    let (group, caller) = (Group::new(), Caller::new());
    let (right, other) = (&group.peers, format!("{};n3-127.0.0.1:1", group.peers));
    let mut n0 = group.start(0, "n0", &[]);
    let n1 = group.start(1, "n1", &[]);
    let mut n2 = group.start(2, "n2", &[("dLegerPeers", &other)]);
    says(
        &mut n0,
        &format!("dLegerPeers differs: n0 (this member) has {right:?}, n2 has {other:?}"),
    );
    says(
        &mut n2,
        &format!("dLegerPeers differs: n2 (this member) has {other:?}, n0 has {right:?}"),
    );
    end(n2);
    let n2 = group.start(2, "n2", &[]);
    group.send(&caller).await;
    end(n2);
    let alone = group.peers.split(';').next_back().unwrap();
    for peers in [&other, alone] {
        let mut n2 = group.start(2, "n2", &[("dLegerPeers", peers)]);
        n2.until("follows");
        end(n2);
    }
    [n0, n1].into_iter().for_each(end);
}

#[tokio::test]
async fn an_operator_lets_a_group_of_one_grow() {
    let (group, caller) = (Group::new(), Caller::new());
    let peers: Vec<&str> = group.peers.split(';').collect();
    let leader = format!("127.0.0.1:{}", group.listen[0]);
    let admin = |command: &[&str]| {
        let home = group.site.path("");
        Process::start(ADMIN, &[command, &["-b", &leader]].concat(), &home).end()
    };
    let mut n0 = group.start(0, "n0", &[("dLegerPeers", peers[0])]);
    n0.until("leads the group");
    group.send(&caller).await;
    let deadline = clock::now() + WITHIN;
    let refused = loop {
        let ended = admin(&["memberAdd", "n1", "127.0.0.1:1", "--dry-run"]);
        if !ended.err.join(" ").contains("that is being found out") {
            break ended;
        }
        assert!(clock::now() < deadline, "{ended:?}");
    };
    assert!(refused.code != Some(0), "{refused:?}");
    let text = refused.err.join(" ");
    assert!(text.contains("n1 does not answer at 127.0.0.1:1 as a member"), "{text}");
    let mut members = vec![n0];
    for n in [1, 2] {
        let address = peers[n].split_once('-').unwrap().1;
        let known = format!("{};{}", peers[n - 1], peers[n]);
        let mut member = group.start(n, &format!("n{n}"), &[("dLegerPeers", &known)]);
        member.until(&format!("run rmq-admin memberAdd n{n} {address}"));
        let added = admin(&["memberAdd", &format!("n{n}"), address]);
        assert_eq!(added.code, Some(0), "{added:?}");
        assert!(added.out.contains("votes as soon as it has caught up"), "{added:?}");
        members.push(member);
    }
    let listed = admin(&["memberList"]);
    assert!(listed.out.starts_with("G, led by n0, as n0 sees it"), "{listed:?}");
    for (name, part) in [("n0", "leader"), ("n1", "voter"), ("n2", "voter")] {
        let is_it = |line: &str| line.starts_with(name) && line.contains(part);
        assert!(listed.out.lines().any(is_it), "{listed:?}");
    }
    let alone = admin(&["doctor"]);
    assert_eq!(alone.code, Some(1), "{alone:?}");
    assert!(alone.out.contains("n1 was not asked: its address for clients"), "{alone:?}");
    // Their files differ, and nobody minds.
    let all = group.listen.map(|port| format!("127.0.0.1:{port}")).join(",");
    let deadline = clock::now() + WITHIN;
    loop {
        let well = group.site.start(ADMIN, &["doctor", "-b", &all]).end();
        if well.code == Some(0) && well.out.starts_with("G is well: n0 leads") {
            break;
        }
        assert!(clock::now() < deadline, "{well:#?}");
    }
    // It is a group like any other: two of three go on.
    members[0].kill();
    group.send(&caller).await;
    members.drain(1..).for_each(end);
}

#[tokio::test]
async fn a_leader_that_is_interrupted_hands_over() {
    let (group, caller) = (Group::new(), Caller::new());
    let mut members = group.start_all().map(Some);
    group.send(&caller).await;
    let leader = group.leader(&caller).await;
    let stopping = members[leader].take().unwrap();
    stopping.signal(Signal::INT);
    let ended = stopping.end();
    ended.assert_in_peace();
    group.send(&caller).await;
    let next = group.leader(&caller).await;
    let handed_over = format!("handed leadership over heir=\"n{next}\"");
    assert!(ended.err.iter().any(|line| line.contains(&handed_over)), "{ended:#?}");
    members.into_iter().flatten().for_each(end);
}

#[tokio::test]
async fn a_member_that_is_told_to_stop_serves_those_who_do_not_know_yet() {
    let (group, caller) = (Group::new(), Caller::new());
    let mut members = group.start_all().map(Some);
    group.send(&caller).await;
    let leader = group.leader(&caller).await;
    let port = group.listen[leader];
    let mut leaving = members[leader].take().unwrap();
    caller.register_producer(port).await;
    leaving.terminate();
    says(&mut leaving, "serving on until clients have asked for routes");
    let next = group.leader(&caller).await;
    assert_ne!(next, leader, "leadership was handed over");
    for _ in 0..10 {
        assert_eq!(caller.try_send(port, "T").await.unwrap().code, 0, "it passes on");
    }
    caller.unregister_producer(port).await;
    let ended = leaving.end();
    ended.assert_in_peace();
    assert!(ended.err.iter().any(|line| line.contains("served on over=Quiet")), "{ended:#?}");
    // Who cannot wait says so again.
    let mut leaving = members[next].take().unwrap();
    caller.register_producer(group.listen[next]).await;
    leaving.terminate();
    says(&mut leaving, "serving on until clients have asked for routes");
    leaving.terminate();
    let ended = leaving.end();
    ended.assert_in_peace();
    assert!(ended.err.iter().any(|line| line.contains("another SIGTERM")), "{ended:#?}");
    members.into_iter().flatten().for_each(end);
}

#[tokio::test]
async fn a_member_that_is_cut_off_refuses_clients_not_tools_until_somebody_is_heard() {
    let (group, caller) = (Group::new(), Caller::new());
    let mut members = group.start_all();
    group.send(&caller).await;
    let leader = group.leader(&caller).await;
    let port = group.listen[leader];
    let others = || (0..3).filter(|n| *n != leader);
    // Their ports accept, and nobody answers: no different from a network that is cut.
    others().for_each(|n| members[n].signal(Signal::STOP));
    says(&mut members[leader], "no other member answers: clients are sent away");
    let deadline = clock::now() + WITHIN;
    while TcpStream::connect(loopback(port)).is_ok() {
        assert!(clock::now() < deadline, "it lets clients in");
    }
    let words = ["memberList", "-b", &loopback(port).to_string()];
    let listed = group.site.start(ADMIN, &words).end();
    assert!(listed.out.starts_with("G, "), "{listed:?}");
    assert!(TcpStream::connect(loopback(port)).is_err(), "it still refuses");
    others().for_each(|n| members[n].signal(Signal::CONT));
    says(&mut members[leader], "in touch again");
    group.send(&caller).await;
    while caller.try_send(port, "T").await.is_err() {
        assert!(clock::now() < deadline, "it lets nobody in");
    }
    members.into_iter().for_each(end);
}
