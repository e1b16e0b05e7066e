//! Members in one process, over real sockets and files.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver as _;
use tempfile::TempDir;
use tonic::Request;

use super::command::{Command, OffsetCommit};
use super::handover;
use super::introduction::{Introduction, is_of_stranger};
use super::lineage::Said;
use super::start;
use super::type_config::ballot;
use super::version::GroupVersion;
use super::wire::proto::peer_client::PeerClient;
use super::wire::{self, proto};
use super::{
    Group, GroupOptions, Limits, PeerAddress, Peers, Proposal, ProposeError, Receipt, ScrubRules,
    StartError, Status, Timing,
};
use crate::ids::{QueueOffset, StoreId, Term};
use crate::protocol::message::{self, Draft};
use crate::store::retention::Rules;
use crate::store::{Durability, Files, RealFiles};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = crate::clock::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::yield_now();
    }
}

/// A port that, like the one two below it, nobody has. Not of those that the system gives to
/// outgoing connections: one of them might come in between, also while a member is down.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id() + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_002 + u16::try_from(number % 3000).unwrap() * 4;
        if [port - 2, port].iter().all(|p| TcpListener::bind((Ipv4Addr::LOCALHOST, *p)).is_ok()) {
            return port;
        }
    }
}

pub(super) fn draft(topic: &str, queue_id: u32, body: impl AsRef<[u8]>) -> Draft {
    let host: SocketAddr = "127.0.0.1:10911".parse().unwrap();
    let body = Bytes::copy_from_slice(body.as_ref());
    Draft {
        topic: Arc::from(topic),
        queue_id,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body_crc: message::body_crc(&body),
        body,
        properties: Bytes::new(),
        unique_hash: None,
    }
}

pub(super) fn propose(
    group: &Group,
    messages: Vec<Draft>,
    commands: Vec<Command>,
) -> mpsc::Receiver<Result<Receipt, ProposeError>> {
    let (answer, wait) = mpsc::sync_channel(1);
    group.propose(Proposal {
        messages: messages.into(),
        commands,
        done: Box::new(move |result| answer.send(result).unwrap()),
    });
    wait
}

pub(super) fn send(group: &Group, topic: &str, queue_id: u32, body: &str) -> Receipt {
    propose(group, vec![draft(topic, queue_id, body)], vec![])
        .recv_timeout(PATIENCE)
        .unwrap()
        .unwrap()
}

/// Bodies of a queue, read as a pull reads them.
pub(super) fn bodies(group: &Group, topic: &str, queue_id: u32) -> Vec<String> {
    let bounds = group.queues().bounds(topic, queue_id).unwrap();
    let mut units = Vec::new();
    let max = usize::try_from(bounds.next.0 - bounds.min.0).unwrap();
    group.queues().units(topic, queue_id, bounds.min, max, &mut units).unwrap();
    units
        .iter()
        .map(|unit| {
            let bytes = group.log().slice(unit.physical, unit.bytes).unwrap();
            let record = message::Record::parse(&bytes).unwrap();
            String::from_utf8(record.body().to_vec()).unwrap()
        })
        .collect()
}

/// Who belongs to the group, and whether it votes.
fn recorded(group: &Group) -> BTreeMap<StoreId, bool> {
    let metrics = group.0.raft.metrics().borrow_watched().clone();
    let membership = metrics.membership_config.membership();
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    membership.nodes().map(|(id, _)| (StoreId(*id), voters.contains(id))).collect()
}

/// The member `member` of a test's group, with its store in `dir`.
pub(super) fn options(dir: &Path, member: &str, peers: Peers) -> GroupOptions {
    GroupOptions {
        cluster: "C".to_owned(),
        group: "G".to_owned(),
        member: member.to_owned(),
        peers,
        preferred: None,
        dir: dir.to_owned(),
        log_dir: dir.join("commitlog"),
        segment_bytes: 1024 * 1024,
        durability: Durability::PageCache,
        timing: Timing::default(),
        limits: Limits::default(),
        retention: Rules { reserved: Duration::ZERO, ..Rules::default() },
        scrub: ScrubRules::OFF,
        catch_up_bytes_per_second: u64::MAX,
    }
}

/// The member of a group of one that nobody calls.
pub(super) fn options_alone(dir: &Path) -> GroupOptions {
    let address = PeerAddress { host: "127.0.0.1".to_owned(), port: 1 };
    options(dir, "n0", Peers::new([("n0".to_owned(), address)]))
}

fn real_files(members: usize) -> Vec<Arc<dyn Files>> {
    (0..members).map(|_| Arc::new(RealFiles) as Arc<dyn Files>).collect()
}

pub(super) struct Cluster {
    pub(super) dir: TempDir,
    peers: Peers,
    pub(super) timing: Timing,
    limits: Limits,
    preferred: Option<String>,
    durability: Durability,
    /// Of each member.
    files: Vec<Arc<dyn Files>>,
    pub(super) members: Vec<Option<Group>>,
}

impl Cluster {
    pub(super) fn new(size: usize) -> Self {
        Self::with_timing(size, Timing::default()).settled()
    }

    /// When all members write the newest version: nobody proposes anything by itself from then on.
    fn settled(self) -> Self {
        until("all members write the newest version", || {
            let newest = |group: &Group| group.status().version == GroupVersion::NEWEST.0;
            self.running().all(|(_, group)| newest(group)).then_some(())
        });
        self
    }

    fn with_timing(size: usize, timing: Timing) -> Self {
        Self::on_disks(real_files(size), timing)
    }

    /// Whose members may stand still for as long as a busy machine lets them, without telling
    /// clients that no quorum answers.
    pub(super) fn patient(size: usize) -> Self {
        let limits = Limits { patience: PATIENCE, ..Limits::default() };
        Self::with_limits(real_files(size), Timing::default(), limits).settled()
    }

    /// Whose members want `preferred` to lead, soon.
    pub(super) fn preferring(size: usize, preferred: &str) -> Self {
        let mut cluster = Self::patient(size);
        (0..size).for_each(|i| cluster.stop(i));
        cluster.preferred = Some(preferred.to_owned());
        cluster.timing.steady = Duration::from_secs(1);
        (0..size).for_each(|i| cluster.start(i));
        cluster
    }

    /// Patient members, one on each of `files`, that have on disk what they acknowledge.
    pub(super) fn synced(files: Vec<Arc<dyn Files>>) -> Self {
        let limits = Limits { patience: PATIENCE, ..Limits::default() };
        let size = files.len();
        let mut cluster = Self::with_limits(files, Timing::default(), limits);
        (0..size).for_each(|i| cluster.stop(i));
        cluster.durability = Durability::Synced;
        (0..size).for_each(|i| cluster.start(i));
        cluster
    }

    /// A member on each of `files`.
    pub(super) fn on_disks(files: Vec<Arc<dyn Files>>, timing: Timing) -> Self {
        Self::with_limits(files, timing, Limits::default())
    }

    fn with_limits(files: Vec<Arc<dyn Files>>, timing: Timing, limits: Limits) -> Self {
        let size = files.len();
        let address = || PeerAddress { host: "127.0.0.1".to_owned(), port: free_port() };
        let peers = Peers::new((0..size).map(|i| (format!("n{i}"), address())));
        let dir = tempfile::tempdir().unwrap();
        let (preferred, durability) = (None, Durability::PageCache);
        let mut members = Vec::new();
        members.resize_with(size, || None);
        let mut cluster =
            Self { dir, peers, timing, limits, preferred, durability, files, members };
        (0..size).for_each(|i| cluster.start(i));
        cluster
    }

    pub(super) fn options(&self, i: usize) -> GroupOptions {
        let member = format!("n{i}");
        let options = options(&self.dir.path().join(&member), &member, self.peers.clone());
        let (preferred, durability) = (self.preferred.clone(), self.durability);
        GroupOptions { timing: self.timing, limits: self.limits, preferred, durability, ..options }
    }

    pub(super) fn start(&mut self, i: usize) {
        self.try_start(i).unwrap();
    }

    pub(super) fn try_start(&mut self, i: usize) -> Result<(), StartError> {
        let options = self.options(i);
        std::fs::create_dir_all(&options.dir).unwrap(); // locks lie on the real disk
        let port = self.peers.address(&options.member).unwrap().port;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let files = Arc::clone(&self.files[i]);
        self.members[i] = Some(start::start(files, options, Some(port))?);
        Ok(())
    }

    pub(super) fn stop(&mut self, i: usize) {
        if let Some(group) = self.members[i].take() {
            group.stop();
        }
    }

    pub(super) fn running(&self) -> impl Iterator<Item = (usize, &Group)> {
        self.members.iter().enumerate().filter_map(|(i, m)| Some((i, m.as_ref()?)))
    }

    /// Sends to whoever leads, again if it did not any more: nothing was appended then. A leader
    /// that stood still for a second, as on a busy machine, says so.
    fn send(&self, topic: &str, queue_id: u32, body: &str) -> Receipt {
        until("a send is stored", || {
            let (_, group) = self.leader();
            let sent = propose(&group, vec![draft(topic, queue_id, body)], vec![]);
            match sent.recv_timeout(PATIENCE).unwrap() {
                Err(ProposeError::NotLeader { .. }) => None,
                answer => Some(answer.unwrap()),
            }
        })
    }

    pub(super) fn leader(&self) -> (usize, Group) {
        until("a leader", || {
            let (i, group) = self.running().find(|(_, group)| group.role().is_leader())?;
            Some((i, group.clone()))
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|i| self.stop(i));
    }
}

/// Three members whose election timeouts nobody lives to see.
fn cluster_without_election_timeouts() -> Cluster {
    let hour = Duration::from_secs(3600);
    let timing = Timing { election_min: hour, election_max: 2 * hour, ..Timing::default() };
    Cluster::with_timing(3, timing)
}

#[test]
fn a_dead_leader_is_followed_by_another_one_without_an_election_timeout() {
    let mut cluster = cluster_without_election_timeouts();
    let (i, leader) = cluster.leader();
    send(&leader, "T", 0, "before");
    leader.0.proposer.close(); // or the leader hands over when it stops
    cluster.stop(i);
    let (_, next) = cluster.leader();
    send(&next, "T", 0, "after");
    assert_eq!(bodies(&next, "T", 0), ["before", "after"]);
}

#[test]
fn a_group_that_starts_again_has_a_leader_without_an_election_timeout() {
    let mut cluster = cluster_without_election_timeouts();
    let (_, leader) = cluster.leader();
    send(&leader, "T", 0, "before");
    drop(leader);
    (0..3).for_each(|i| cluster.stop(i));
    (0..3).for_each(|i| cluster.start(i));
    let (_, next) = cluster.leader();
    send(&next, "T", 0, "after");
    assert_eq!(bodies(&next, "T", 0), ["before", "after"]);
}

/// A member whose vote nobody but the test asks for.
fn alone_of_three() -> Cluster {
    let heartbeat = Duration::from_secs(3600);
    let (election_min, election_max) = (4 * heartbeat, 5 * heartbeat);
    let timing = Timing { heartbeat, election_min, election_max, ..Timing::default() };
    let mut cluster = Cluster::with_timing(3, timing);
    (0..3).for_each(|i| cluster.stop(i));
    std::fs::remove_dir_all(cluster.dir.path().join("n0")).unwrap();
    cluster.start(0);
    cluster
}

/// Asks n0 of `cluster` for its vote; whether it is granted.
fn ask_for_vote(cluster: &Cluster, term: Term, candidate: StoreId, pre_vote: bool) -> bool {
    let options = cluster.options(0);
    let caller = Introduction {
        cluster: options.cluster,
        group: options.group,
        members: cluster.peers.to_string(),
        segment_bytes: options.segment_bytes,
        member: "n1".to_owned(),
        store_id: candidate.0,
        callee: 0,
    };
    let ballot = Some(wire::vote(&ballot(term, candidate, false)));
    let mut request =
        Request::new(proto::VoteRequest { ballot, pre_vote, ..proto::VoteRequest::default() });
    caller.put(GroupVersion::FIRST, Said::default(), request.metadata_mut());
    let url = format!("http://{}", cluster.peers.address("n0").unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime
        .block_on(async { PeerClient::connect(url).await.unwrap().vote(request).await.unwrap() });
    answer.into_inner().granted
}

#[test]
fn who_has_just_voted_does_not_help_another_one_to_a_later_term() {
    let cluster = alone_of_three();
    let (one, other) = (StoreId(1), StoreId(2));
    assert!(ask_for_vote(&cluster, Term(5), other, true), "it has not voted since it started");
    assert!(ask_for_vote(&cluster, Term(5), one, false));
    assert!(!ask_for_vote(&cluster, Term(6), other, true), "it would depose who may have won");
    assert!(ask_for_vote(&cluster, Term(6), other, false), "a vote is never kept back");
}

#[test]
fn a_group_of_one_stores_and_remembers() {
    let mut cluster = Cluster::new(1);
    let (_, group) = cluster.leader();
    for n in 0..10 {
        let receipt = send(&group, "T", 3, &format!("m{n}"));
        assert_eq!(receipt.places[0].queue_offset, QueueOffset(n));
    }
    let commit =
        OffsetCommit { group: "g".to_owned(), topic: "T".to_owned(), queue_id: 3, offset: 7 };
    let done = propose(&group, vec![], vec![Command::CommitOffsets(vec![commit])]);
    done.recv_timeout(PATIENCE).unwrap().unwrap();
    drop(group);
    cluster.stop(0);
    cluster.start(0);
    let (_, group) = cluster.leader();
    assert_eq!(group.tables().offset("g", "T", 3), Some(7));
    let want: Vec<String> = (0..10).map(|n| format!("m{n}")).collect();
    assert_eq!(bodies(&group, "T", 3), want);
    assert_eq!(send(&group, "T", 3, "after").places[0].queue_offset, QueueOffset(10));
}

#[test]
fn messages_and_commands_of_a_proposal_share_an_entry() {
    let cluster = Cluster::new(1);
    let (_, group) = cluster.leader();
    let commit =
        OffsetCommit { group: "g".to_owned(), topic: "T".to_owned(), queue_id: 0, offset: 2 };
    let messages = vec![draft("T", 0, "a"), draft("T", 0, "b"), draft("U", 1, "c")];
    let done = propose(&group, messages, vec![Command::CommitOffsets(vec![commit])]);
    let receipt = done.recv_timeout(PATIENCE).unwrap().unwrap();
    let offsets: Vec<u64> = receipt.places.iter().map(|place| place.queue_offset.0).collect();
    assert_eq!(offsets, [0, 1, 0]);
    assert_eq!(receipt.outcomes.len(), 1);
    assert_eq!(bodies(&group, "T", 0), ["a", "b"]);
}

#[test]
fn a_deleted_topic_starts_again_at_offset_0() {
    let cluster = Cluster::new(1);
    let (_, group) = cluster.leader();
    send(&group, "T", 0, "old");
    let delete = Command::DeleteTopic { topic: "T".to_owned() };
    propose(&group, vec![], vec![delete]).recv_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!(send(&group, "T", 0, "new").places[0].queue_offset, QueueOffset(0));
    assert_eq!(bodies(&group, "T", 0), ["new"]);
}

#[test]
fn three_members_hold_the_same_and_survive_their_leader() {
    let mut cluster = Cluster::patient(3);
    let (first, _) = cluster.leader();
    (0..50).for_each(|n| drop(cluster.send("T", 0, &format!("a{n}"))));
    cluster.stop(first);
    let (second, _) = cluster.leader();
    assert_ne!(first, second);
    (0..50).for_each(|n| drop(cluster.send("T", 0, &format!("b{n}"))));
    cluster.start(first);
    let want: Vec<String> =
        (0..50).map(|n| format!("a{n}")).chain((0..50).map(|n| format!("b{n}"))).collect();
    for (i, member) in cluster.running() {
        until(&format!("n{i} has everything"), || {
            (member.queues().bounds("T", 0).unwrap().next == QueueOffset(100)).then_some(())
        });
        assert_eq!(bodies(member, "T", 0), want, "n{i}");
    }
}

#[test]
fn an_emptied_member_comes_back_by_itself() {
    let mut cluster = Cluster::new(3);
    let (leader, group) = cluster.leader();
    (0..20).for_each(|n| drop(send(&group, "T", 0, &format!("a{n}"))));
    let lost = (leader + 1) % 3;
    cluster.stop(lost);
    std::fs::remove_dir_all(cluster.dir.path().join(format!("n{lost}"))).unwrap();
    cluster.start(lost);
    let member = cluster.members[lost].clone().unwrap();
    until("the emptied member has everything", || {
        (member.queues().bounds("T", 0).unwrap().next == QueueOffset(20)).then_some(())
    });
    until("the emptied member votes again, in place of its lost store", || {
        let recorded = recorded(&cluster.leader().1);
        (recorded.len() == 3 && recorded.get(&member.store_id()) == Some(&true)).then_some(())
    });
}

#[test]
fn a_member_emptied_twice_leaves_nobody_behind() {
    let mut cluster = Cluster::new(3);
    let (leader, group) = cluster.leader();
    send(&group, "T", 0, "a");
    let lost = (leader + 1) % 3;
    for _ in 0..2 {
        cluster.stop(lost);
        std::fs::remove_dir_all(cluster.dir.path().join(format!("n{lost}"))).unwrap();
        cluster.start(lost);
        let store = cluster.members[lost].as_ref().unwrap().store_id();
        until("the new store is taken in", || recorded(&group).contains_key(&store).then_some(()));
        let peers = group.status().peers;
        assert!(peers.len() <= 2, "a peer is named once, whichever stores it has: {peers:?}");
    }
    let store = cluster.members[lost].as_ref().unwrap().store_id();
    let all: BTreeSet<StoreId> = cluster.running().map(|(_, group)| group.store_id()).collect();
    until("those that are there are the members, and vote", || {
        let recorded = recorded(&group);
        (recorded.keys().copied().collect::<BTreeSet<_>>() == all && recorded[&store]).then_some(())
    });
}

#[test]
fn members_that_wait_say_for_whom() {
    let mut cluster = Cluster::new(3);
    let (leader, group) = cluster.leader();
    send(&group, "T", 0, "a");
    let (gone, lost) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.stop(gone);
    cluster.stop(lost);
    std::fs::remove_dir_all(cluster.dir.path().join(format!("n{lost}"))).unwrap();
    cluster.start(lost);
    let emptied = cluster.members[lost].clone().unwrap();
    let says = |group: &Group, texts: &[&str]| {
        let waits_for = group.status().waits_for?.why;
        texts.iter().all(|text| waits_for.contains(text)).then_some(())
    };
    let (gone_is, lost_is) = (format!("n{gone} at "), format!("n{lost} at "));
    until("the leader says who is missing", || {
        let texts = [&gone_is, "(does not answer)", &lost_is, "(lost its store)"];
        says(&group, &texts.map(|text: &str| text))
    });
    until("the emptied member says why it waits", || {
        says(&emptied, &["store is new", "waiting for a leader, without", &gone_is])
    });
    assert_eq!(group.status().leader, None, "it does not lead without a quorum");
    cluster.start(gone);
    until("nobody waits any more", || {
        let statuses: Vec<_> = cluster.running().map(|(_, group)| group.status()).collect();
        let served = |status: &Status| status.leader.is_some() && status.waits_for.is_none();
        statuses.iter().all(served).then_some(())
    });
}

#[test]
fn a_member_that_answers_under_another_name_is_not_the_one_that_was_asked() {
    let mut cluster = Cluster::new(1);
    cluster.stop(0);
    std::fs::remove_dir_all(cluster.dir.path().join("n0")).unwrap();
    let own = cluster.peers.address("n0").unwrap().clone();
    cluster.peers = Peers::new(["n0", "n1"].map(|name| (name.to_owned(), own.clone())));
    cluster.start(0);
    let (_, group) = cluster.running().next().unwrap();
    until("it says who answers there, and starts no group with itself", || {
        assert!(group.status().leader.is_none(), "a group of two with one member");
        group.status().waits_for.filter(|waits| waits.why.contains("n0 answers there"))
    });
}

#[test]
fn proposals_beyond_the_limit_are_refused_with_the_numbers() {
    let cluster = Cluster::new(1);
    let (_, group) = cluster.leader();
    let huge = "x".repeat(9 * 1024 * 1024);
    let refused = propose(&group, vec![draft("T", 0, &huge)], vec![]).recv().unwrap();
    assert!(matches!(refused, Err(ProposeError::TooLarge { .. })), "{refused:?}");
}

#[test]
fn purged_segments_are_not_missed_by_an_emptied_member() {
    let mut cluster = Cluster::new(3);
    let (leader, group) = cluster.leader();
    let body = "x".repeat(64 * 1024);
    (0..60).for_each(|n| drop(send(&group, "T", 0, &format!("{n} {body}"))));
    let first = until("the leader purged", || {
        group.purge_now();
        let first = group.status().first_position;
        (first.0 > 0).then_some(first)
    });
    let lost = (leader + 1) % 3;
    cluster.stop(lost);
    std::fs::remove_dir_all(cluster.dir.path().join(format!("n{lost}"))).unwrap();
    cluster.start(lost);
    let member = cluster.members[lost].clone().unwrap();
    until("the emptied member has the rest", || {
        (member.queues().bounds("T", 0).unwrap().next == QueueOffset(60)).then_some(())
    });
    assert!(member.status().first_position >= first);
    let min = member.queues().bounds("T", 0).unwrap().min;
    assert!(min > QueueOffset(0) && min < QueueOffset(60), "{min}");
    for (n, body) in (min.0..).zip(bodies(&member, "T", 0)) {
        assert!(body.starts_with(&format!("{n} ")));
    }
}

/// Changes the last byte of a snapshot.
fn rot_snapshot(cluster: &Cluster, member: usize, position: u64) {
    let path = cluster.options(member).dir.join(format!("snapshots/{position:020}"));
    let mut content = std::fs::read(&path).unwrap();
    *content.last_mut().unwrap() ^= 1;
    std::fs::write(&path, content).unwrap();
}

fn until_purged(group: &Group, behind: u64) -> u64 {
    until("it purged", || {
        group.purge_now();
        Some(group.status().first_position.0).filter(|first| *first > behind)
    })
}

#[test]
fn a_rotten_snapshot_is_passed_over_and_a_start_does_without_it() {
    let mut cluster = Cluster::new(1);
    let (_, group) = cluster.leader();
    let body = "x".repeat(64 * 1024);
    (0..60).for_each(|_| drop(send(&group, "T", 0, &body)));
    let segment = cluster.options(0).segment_bytes;
    let newest = cluster.options(0).dir.join(format!("snapshots/{:020}", 3 * segment));
    until("the boundaries have snapshots", || newest.exists().then_some(()));
    rot_snapshot(&cluster, 0, 3 * segment);
    assert_eq!(until_purged(&group, 0), 2 * segment);
    assert!(!newest.exists());

    drop(group);
    cluster.stop(0);
    rot_snapshot(&cluster, 0, 2 * segment);
    cluster.start(0);
    let (_, group) = cluster.leader();
    (0..40).for_each(|_| drop(send(&group, "T", 0, &body)));
    until_purged(&group, 2 * segment);
    assert_eq!(group.status().stopped, None);
}

#[test]
fn an_emptied_member_waits_for_a_leader_whose_snapshot_is_lost_until_it_purges_again() {
    let mut cluster = Cluster::patient(3);
    let body = "x".repeat(64 * 1024);
    (0..60).for_each(|_| drop(cluster.send("T", 0, &body)));
    let firsts: Vec<u64> = cluster.running().map(|(_, group)| until_purged(group, 0)).collect();
    (0..3).for_each(|i| cluster.stop(i));
    std::fs::remove_dir_all(cluster.dir.path().join("n0")).unwrap();
    [1, 2].into_iter().for_each(|i| rot_snapshot(&cluster, i, firsts[i]));
    (0..3).for_each(|i| cluster.start(i));
    (0..40).for_each(|_| drop(cluster.send("T", 0, &body)));
    for i in [1, 2] {
        until_purged(cluster.members[i].as_ref().unwrap(), firsts[i]);
    }
    let emptied = cluster.members[0].clone().unwrap();
    until("the emptied member has the rest", || {
        (emptied.queues().bounds("T", 0).unwrap().next == QueueOffset(100)).then_some(())
    });
    assert!(cluster.running().all(|(_, group)| group.status().stopped.is_none()));
}

#[test]
fn a_leader_that_loses_its_quorum_answers_everything_and_goes_on_when_it_is_back() {
    let mut cluster = Cluster::new(3);
    let (leader, group) = cluster.leader();
    send(&group, "T", 0, "before");
    (0..3).filter(|i| *i != leader).for_each(|i| cluster.stop(i));
    let answers: Vec<_> =
        (0..200).map(|n| propose(&group, vec![draft("T", 0, n.to_string())], vec![])).collect();
    for answer in answers {
        // Whatever it is: nobody is left without one.
        let _ = answer.recv_timeout(PATIENCE).unwrap();
    }
    (0..3).filter(|i| *i != leader).for_each(|i| cluster.start(i));
    drop(group);
    until("the group stores again", || {
        let (_, group) = cluster.leader();
        let done = propose(&group, vec![draft("T", 0, "after")], vec![]);
        done.recv_timeout(PATIENCE).unwrap().ok()
    });
}

#[test]
fn a_leader_without_a_quorum_stops_without_waiting_for_one() {
    let mut cluster = Cluster::new(3);
    let (leader, group) = cluster.leader();
    send(&group, "T", 0, "before");
    (0..3).filter(|i| *i != leader).for_each(|i| cluster.stop(i));
    let open = propose(&group, vec![draft("T", 0, "open")], vec![]);
    assert!(open.recv_timeout(PATIENCE).unwrap().is_err());
    assert!(group.status().waiting_bytes > 0, "openraft still has it");
    let start = crate::clock::now();
    group.stop();
    assert!(start.elapsed() < handover::DRAIN, "{:?}", start.elapsed());
}

#[test]
fn a_stop_answers_whatever_was_proposed() {
    let mut cluster = Cluster::new(3);
    let (leader, group) = cluster.leader();
    send(&group, "T", 0, "before");
    (0..3).filter(|i| *i != leader).for_each(|i| cluster.stop(i));
    // More than may be under way at once.
    let body = "x".repeat(600 * 1024);
    let open: Vec<_> =
        (0..20).map(|_| propose(&group, vec![draft("T", 0, &body)], vec![])).collect();
    group.stop();
    for answer in open {
        let answer = answer.try_recv().expect("answered before the member has ended");
        assert!(answer.is_err(), "no quorum has it");
    }
}

/// Three members of whom nobody campaigns by itself within a test, and one leads.
fn without_election_timeouts() -> Cluster {
    let hours = Duration::from_secs(3600);
    let timing = Timing { election_min: hours, election_max: 2 * hours, ..Timing::default() };
    // On a busy machine an heir may take longer than members wait.
    let limits = Limits { handover: PATIENCE, ..Limits::default() };
    let cluster = Cluster::with_limits(real_files(3), timing, limits);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = cluster.members[0].clone().unwrap();
    until("the group is started", || {
        runtime.block_on(first.0.raft.is_initialized()).ok()?.then_some(())
    });
    runtime.block_on(first.0.raft.trigger().elect(false)).unwrap();
    cluster
}

#[test]
fn a_member_in_doubt_is_not_named_heir() {
    let mut cluster = without_election_timeouts();
    let (first, _) = cluster.leader();
    let doubting = (first + 1) % 3;
    cluster.members[doubting].as_ref().unwrap().0.doubt.begin();
    // Of two that have everything either might be named.
    for _ in 0..4 {
        let (leader, group) = cluster.leader();
        send(&group, "T", 0, "x");
        drop(group);
        cluster.stop(leader);
        let (next, _) = cluster.leader();
        assert_ne!(next, doubting);
        cluster.start(leader);
        let back = cluster.members[leader].clone().unwrap();
        let (_, group) = cluster.leader();
        until("it follows", || (back.status().applied == group.status().applied).then_some(()));
    }
}

#[test]
fn a_stopping_leader_is_succeeded_without_an_election_timeout() {
    let mut cluster = without_election_timeouts();
    for handovers in 1..=2 {
        let (leader, group) = cluster.leader();
        let term = group.role().term();
        let answers: Vec<_> = (0..100)
            .map(|n| propose(&group, vec![draft("T", 0, format!("{n}"))], vec![]))
            .collect();
        cluster.stop(leader);
        let acknowledged = answers.iter().filter(|answer| answer.recv().unwrap().is_ok()).count();
        assert_eq!(acknowledged, 100, "what was under way is answered first");
        let (next, group) = cluster.leader();
        assert_eq!((next != leader, group.role().term().0), (true, term.0 + 1));
        assert_eq!(bodies(&group, "T", 0).len(), 100 * handovers);
        drop(group);
        cluster.start(leader);
        let back = cluster.members[leader].clone().unwrap();
        until("it follows", || {
            (back.queues().bounds("T", 0).unwrap().next.0 == 100 * handovers as u64).then_some(())
        });
    }
}

#[test]
fn a_new_group_writes_the_newest_version_at_once_and_refuses_who_does_not_read_it() {
    let cluster = Cluster::new(3); // waits for the version
    let options = cluster.options(0);
    let older = Introduction {
        cluster: options.cluster,
        group: options.group,
        members: cluster.peers.to_string(),
        segment_bytes: options.segment_bytes,
        member: "n1".to_owned(),
        store_id: 1,
        callee: 0,
    };
    let mut request = Request::new(proto::StateRequest {});
    older.put(GroupVersion::FIRST, Said::default(), request.metadata_mut());
    request.metadata_mut().remove_bin("rmq-reads-bin");
    let url = format!("http://{}", cluster.peers.address("n0").unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refused = runtime
        .block_on(async { PeerClient::connect(url).await.unwrap().state(request).await })
        .unwrap_err();
    let text = refused.message();
    assert!(text.contains("n1 (calling) reads version 1: start n1 with the build of n0"), "{text}");
    assert!(!is_of_stranger(&refused), "it is the member that was called");

    let stranger = Introduction { group: "other".to_owned(), ..older };
    let mut request = Request::new(proto::StateRequest {});
    stranger.put(GroupVersion::NEWEST, Said::default(), request.metadata_mut());
    let url = format!("http://{}", cluster.peers.address("n0").unwrap());
    let refused = runtime
        .block_on(async { PeerClient::connect(url).await.unwrap().state(request).await })
        .unwrap_err();
    assert!(is_of_stranger(&refused), "{refused}");
}
