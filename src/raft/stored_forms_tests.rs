//! What a member stores and says, byte by byte: `tests/stores/N` is a store as a build wrote it
//! whose newest version was N (`raft::version`), with one of everything. This build reads all of
//! them, and writes the same bytes: a changed form is a new version, and a new folder.
//!
//! `RMQ_WRITE_STORES=1` writes the folder of the newest version, if there is none yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::entry::RaftEntry as _;
use openraft::storage::{
    IOFlushed, RaftLogReader as _, RaftLogStorage as _, RaftStateMachine as _,
};
use tonic::metadata::MetadataMap;

use super::checkpointer::StoreParts;
use super::command::{
    Command, Commands, FirstTry, Group, OffsetCommit, Origin, Passed, QueueName, Topic,
};
use super::group_tests::{draft, options_alone};
use super::introduction::Introduction;
use super::log_store::LogStore;
use super::membership::{self, Member, Wish};
use super::snapshot;
use super::state_machine::StateMachine;
use super::tables::Tables;
use super::type_config::{
    Batch, CommittedLeaderId, LogEntry, Membership, Payload, RaftLogId, ballot,
};
use super::version::{GroupVersion, Reads};
use super::{StartError, codec, open};
use crate::ids::{EntryIndex, PhysicalOffset, QueueOffset, StoreId, Term};
use crate::protocol::message::{Draft, records};
use crate::store::entry::{HEADER_BYTES, Kind};
use crate::store::{CommitLog, RealFiles, Vote, VoteFile, checkpoint};

/// Whoever was voted for.
const CANDIDATE: StoreId = StoreId(0x0123_4567_89ab_cdef);

fn folder(version: GroupVersion) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/stores/{version}"))
}

fn versions() -> impl Iterator<Item = GroupVersion> {
    (Reads::OWN.oldest.0..=Reads::OWN.newest.0).map(GroupVersion)
}

/// A member's store, without the member.
struct Opened {
    held: open::HeldStore,
    log: CommitLog,
    storage: LogStore,
    machine: StateMachine,
    parts: StoreParts,
}

fn open(dir: &Path) -> Opened {
    let opened = open::open_undamaged(Arc::new(RealFiles), &options_alone(dir)).unwrap();
    let (log, machine, state) = (opened.log, opened.machine.clone(), opened.machine.state());
    let room = Arc::clone(&opened.room);
    let storage = LogStore::new(log.clone(), opened.votes, state.clone(), room, opened.repairs);
    Opened { held: opened.store, log, storage, machine, parts: opened.parts }
}

fn log_id(index: u64) -> RaftLogId {
    RaftLogId::new(CommittedLeaderId::new(1), index)
}

fn topic(name: &str) -> Topic {
    Topic {
        name: name.to_owned(),
        read_queues: 4,
        write_queues: 3,
        perm: 6,
        sys_flag: 1,
        order: true,
        multi_tag: true,
        attributes: BTreeMap::from([("message.type".to_owned(), "NORMAL".to_owned())]),
    }
}

fn group(name: &str) -> Group {
    Group {
        name: name.to_owned(),
        consume_enable: true,
        consume_from_min_enable: false,
        consume_broadcast_enable: true,
        consume_message_orderly: false,
        notify_consumer_ids_changed_enable: true,
        retry_queues: 1,
        retry_max_times: 16,
        retry_policy: "{}".to_owned(),
        broker_id: 0,
        which_broker_when_consume_slowly: 1,
        sys_flag: 2,
        consume_timeout_minutes: 15,
        attributes: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
    }
}

fn commit(topic: &str, queue_id: u32, offset: u64) -> OffsetCommit {
    OffsetCommit { group: "G".to_owned(), topic: topic.to_owned(), queue_id, offset }
}

/// Every command of the first version.
fn first_commands() -> Vec<Command> {
    let queue = |queue_id| QueueName { topic: "T".to_owned(), queue_id };
    let (of, client) = (|| "G".to_owned(), || "10.0.0.1@1".to_owned());
    let removed = BTreeSet::from(["message.type".to_owned()]);
    vec![
        Command::PutTopic(topic("T")),
        Command::EnsureTopic(topic("U")),
        Command::PutTopic(topic("V")),
        Command::DeleteTopic { topic: "V".to_owned() },
        Command::PutGroup(group("G")),
        Command::EnsureGroup(group("H")),
        Command::PutGroup(group("I")),
        Command::DeleteGroup { group: "I".to_owned(), clean_offsets: true },
        Command::CommitOffsets(vec![commit("T", 0, 7), commit("U", 2, u64::MAX)]),
        Command::ResetOffsets(vec![commit("T", 1, 3), commit("T", 2, 300)]),
        Command::TakeReset(commit("T", 1, 3)),
        Command::LockQueues { group: of(), client: client(), queues: vec![queue(0), queue(1)] },
        Command::UnlockQueues { group: of(), client: client(), queues: vec![queue(1)] },
        Command::PutSetting { key: "brokerPermission".to_owned(), value: "4".to_owned() },
        Command::ChangeTopic { topic: topic("U"), removed },
        Command::OrderTopic { topic: "T".to_owned(), order: false },
    ]
}

/// What later versions added, by version.
fn later_commands(version: GroupVersion) -> Vec<Vec<Command>> {
    let passed = |number, first_try| Passed {
        origin: Origin { life: CANDIDATE.0, number },
        first_message: 0,
        messages: 1,
        first_command: 0,
        commands: 0,
        first_try,
    };
    let first_try = FirstTry {
        store_timestamp: 1,
        queue_id: 2,
        queue_offset: 300,
        positions: vec![64, 1 << 40],
    };
    match version {
        GroupVersion::PASSES_ON => vec![
            vec![Command::Activate { version: 2, term: 1 }],
            vec![Command::Passed(vec![passed(1, None), passed(2, Some(first_try))])],
        ],
        GroupVersion::MEMBERS => vec![vec![Command::Activate { version: 3, term: 1 }]],
        GroupVersion(_) => Vec::new(),
    }
}

fn joint() -> Membership {
    let member = |name: &str| Member {
        name: name.to_owned(),
        address: format!("{name}:40911"),
        ..Member::default()
    };
    let members = [(1, "n0"), (2, "n1"), (300, "n2"), (CANDIDATE.0, "n2")];
    let members = members.map(|(id, name)| (id, member(name)));
    let voters = vec![BTreeSet::from([1, 2, 300]), BTreeSet::from([1, 2, CANDIDATE.0])];
    Membership::new(voters, BTreeMap::from(members)).unwrap()
}

/// With all that a member may be wished to become.
fn wishing() -> Membership {
    let member = |name: &str, wish, broker_id| Member {
        name: name.to_owned(),
        address: format!("{name}:40911"),
        wish,
        broker_id: Some(broker_id),
    };
    let members = [
        (1, member("n0", Wish::Vote, 1)),
        (2, member("n1", Wish::Leave, 2)),
        (CANDIDATE.0, member("n3", Wish::Replace("n1".to_owned()), 4)),
        (400, member("n4", Wish::Learn, 300)),
    ];
    let voters = vec![BTreeSet::from([1, 2])];
    Membership::new(voters, BTreeMap::from(members)).unwrap()
}

fn introduction() -> Introduction {
    Introduction {
        cluster: "RaftCluster".to_owned(),
        group: "RaftNode00".to_owned(),
        members: "n0-127.0.0.1:40911;n1-127.0.0.1:40912;n2-127.0.0.1:40913".to_owned(),
        segment_bytes: 1 << 30,
        member: "n1".to_owned(),
        store_id: CANDIDATE.0,
        callee: 7,
    }
}

/// As a member says it whose group writes `version`.
fn introduced(version: GroupVersion) -> Vec<u8> {
    let mut metadata = MetadataMap::new();
    introduction().put(version, super::lineage::Said::default(), &mut metadata);
    metadata.get_bin("rmq-caller-bin").unwrap().to_bytes().unwrap().to_vec()
}

fn entries(version: GroupVersion) -> Vec<LogEntry> {
    let batch = |messages: Vec<Draft>, commands| {
        Payload::Normal(Arc::new(Batch { messages, commands, ..Batch::default() }))
    };
    let mut payloads = vec![
        Payload::Membership(joint()),
        Payload::Blank,
        batch(vec![draft("T", 0, "one"), draft("U", 2, "two"), draft("T", 0, "three")], vec![]),
        batch(vec![], first_commands()),
        batch(vec![draft("T", 1, "four")], vec![Command::CommitOffsets(vec![commit("T", 0, 8)])]),
    ];
    let later = (1..=version.0).map(GroupVersion).flat_map(later_commands);
    payloads.extend(later.map(|commands| batch(vec![draft("T", 0, "later")], commands)));
    if version >= GroupVersion::MEMBERS {
        payloads.push(Payload::Membership(wishing()));
    }
    let entry = |(index, payload)| LogEntry::new(log_id(index), payload);
    (0..).zip(payloads).map(entry).collect()
}

/// Appends and applies what follows in the log.
async fn append_and_apply(opened: &mut Opened, entries: Vec<LogEntry>) {
    opened.storage.append(entries, IOFlushed::noop()).await.unwrap();
    opened.log.sync_now().unwrap();
    apply_all(opened).await;
}

async fn apply_all(opened: &mut Opened) {
    let applied = opened.machine.state().progress().last.map_or(0, |last| last.index.0 + 1);
    let entries = opened.storage.try_get_log_entries(applied..).await.unwrap();
    let entries = entries.into_iter().map(|entry| Ok((entry, None)));
    opened.machine.apply(futures_util::stream::iter(entries)).await.unwrap();
}

/// Makes the folder of a version.
async fn write(version: GroupVersion, to: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path());
    opened.storage.save_vote(&ballot(Term(3), CANDIDATE, true)).await.unwrap();
    let mut all = entries(version);
    let last = all.split_off(all.len() - 1);
    append_and_apply(&mut opened, all).await;
    opened.machine.store_boundary_here().unwrap();
    append_and_apply(&mut opened, last).await;
    opened.machine.state().queues().freeze();
    opened.parts.checkpoint(&opened.machine.state().capture(), &mut VecDeque::new()).unwrap();
    opened.log.close().unwrap();
    opened.held.stamp.mark_clean().unwrap();
    fs::create_dir_all(to).unwrap();
    let log = fs::read(dir.path().join("commitlog").join(format!("{:020}", 0))).unwrap();
    fs::write(to.join("log"), &log[..opened.log.tail().0 as usize]).unwrap();
    fs::write(to.join("introduction"), introduced(version)).unwrap();
    for (from, name) in files(dir.path()) {
        fs::copy(from, to.join(name)).unwrap();
    }
}

/// The small files of a store, and what they are called in the folder.
fn files(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for (dir, before) in [(dir.to_owned(), ""), (dir.join("snapshots"), "snapshot-")] {
        for file in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let name = file.file_name().into_string().unwrap();
            let is_one = name == "vote" || name == "store.json" || name.starts_with("checkpoint-");
            if is_one || !before.is_empty() {
                files.push((file.path(), format!("{before}{name}")));
            }
        }
    }
    files
}

/// A store as it was.
fn unpack(from: &Path, dir: &Path) {
    let options = options_alone(dir);
    fs::create_dir_all(&options.log_dir).unwrap();
    fs::create_dir_all(dir.join("snapshots")).unwrap();
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let name = file.file_name().into_string().unwrap();
        let to = match name.strip_prefix("snapshot-") {
            Some(position) => dir.join("snapshots").join(position),
            None if name == "log" => options.log_dir.join(format!("{:020}", 0)),
            None => dir.join(&name),
        };
        fs::copy(file.path(), &to).unwrap();
        if name == "log" {
            let segment = fs::File::options().write(true).open(to).unwrap();
            segment.set_len(options.segment_bytes).unwrap();
        }
    }
}

/// The only file in a folder whose name starts so, and the position in its name.
fn named(folder: &Path, start: &str) -> (PathBuf, PhysicalOffset) {
    let names = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
    let mut names = names.map(|name| name.into_string().unwrap());
    let name = names.find(|name| name.starts_with(start)).unwrap();
    (folder.join(&name), PhysicalOffset(name[start.len()..].parse().unwrap()))
}

/// What the tables of every version have.
fn check_tables(tables: &Tables) {
    let names = tables.topics().map(|topic| topic.name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["T", "U"]);
    assert_eq!(**tables.topic("T").unwrap(), Topic { order: false, ..topic("T") });
    let attributes = &tables.topic("U").unwrap().attributes;
    assert_eq!(attributes.get("message.type").map(String::as_str), Some("NORMAL"));
    assert_eq!(tables.groups().map(|group| &*group.name).collect::<Vec<_>>(), ["G", "H"]);
    assert_eq!(**tables.group("H").unwrap(), group("H"));
    let offsets = [(0, Some(8)), (1, Some(3)), (2, Some(300)), (3, None)];
    for (queue, offset) in offsets {
        assert_eq!(tables.offset("G", "T", queue), offset, "queue {queue}");
    }
    assert_eq!(tables.offset("G", "U", 2), Some(u64::MAX));
    assert_eq!((tables.reset("G", "T", 1), tables.reset("G", "T", 2)), (None, Some(300)));
    assert!(tables.holds_locks("G", None) && !tables.holds_locks("H", None));
    let settings = tables.settings().map(|(key, value)| (&**key, &**value));
    assert_eq!(settings.collect::<Vec<_>>(), [("brokerPermission", "4")]);
}

#[tokio::test]
async fn stores_of_every_version_are_read() {
    for version in versions() {
        let dir = tempfile::tempdir().unwrap();
        unpack(&folder(version), dir.path());
        let mut opened = open(dir.path());
        let state = opened.machine.state().clone();
        let last = entries(version).len() as u64 - 1;
        assert_eq!(state.progress().last.map(|last| last.index.0), Some(last), "version {version}");
        assert_eq!(state.active().get(), version);
        let membership = if version < GroupVersion::MEMBERS { joint() } else { wishing() };
        assert_eq!(*state.progress().membership.membership(), membership);
        check_tables(&state.tables());
        let vote = opened.storage.read_vote().await.unwrap();
        assert_eq!(vote, Some(ballot(Term(3), CANDIDATE, true)));
        assert_eq!(state.queues().next("T", 1), QueueOffset(1));
        let (_, position) = named(&folder(version), "snapshot-");
        let snapshot = opened.parts.snapshots.load(position).unwrap().unwrap();
        assert_eq!(snapshot.meta.last_log_id, Some(log_id(last - 1)));
        let (from_checkpoint, progress) = (state.tables(), state.progress());

        drop((opened, state));
        fs::remove_file(dir.path().join(named(dir.path(), "checkpoint-").0)).unwrap();
        opened = open(dir.path());
        assert_eq!(opened.machine.state().progress().last, None, "it begins with the log");
        apply_all(&mut opened).await;
        assert_eq!(opened.machine.state().tables(), from_checkpoint, "version {version}");
        assert_eq!(opened.machine.state().progress(), progress);
    }
}

#[test]
fn what_is_stored_is_written_as_it_always_was() {
    for version in versions() {
        let (dir, what) = (tempfile::tempdir().unwrap(), format!("version {version}"));
        unpack(&folder(version), dir.path());
        let opened = open(dir.path());
        let stored = opened.log.entries(EntryIndex(0), EntryIndex(u64::MAX), u64::MAX).unwrap();
        assert_eq!(stored.len(), entries(version).len(), "{what}");
        let mut memberships = [joint(), wishing()].into_iter();
        for entry in &stored {
            let mut header = [0; HEADER_BYTES];
            entry.header.write(&mut header);
            assert_eq!(header, entry.bytes[..HEADER_BYTES], "{what}");
            let commands = entry.commands();
            if entry.header.kind == Kind::Membership {
                let membership = memberships.next().unwrap();
                assert_eq!(membership::encode(&membership), *commands, "{what}");
            } else if !commands.is_empty() {
                let decoded: Commands = codec::decode(&commands).unwrap();
                assert_eq!(codec::encode(&decoded), *commands, "{what}");
            }
            let messages = records(&entry.records()).map(Result::unwrap).count();
            assert_eq!(messages, entry.header.messages as usize, "{what}");
        }
        for start in ["checkpoint-", "snapshot-"] {
            let (path, position) = named(&folder(version), start);
            let state = checkpoint::read_file(&RealFiles, &path, position).unwrap().unwrap();
            let again = snapshot::encode(&snapshot::decode(&state).unwrap());
            assert_eq!(again, state, "{what}");
            let copy = dir.path().join("copy");
            checkpoint::write_file(&RealFiles, &copy, position, &state).unwrap();
            assert_eq!(fs::read(copy).unwrap(), fs::read(path).unwrap(), "{what}");
        }
        let other = tempfile::tempdir().unwrap();
        let votes = VoteFile::open(&RealFiles, other.path()).unwrap();
        let (term, voted_for) = (Term(3), Some(CANDIDATE));
        votes.save_vote(Vote { term, voted_for, committed: true }).unwrap();
        let vote = fs::read(other.path().join("vote")).unwrap();
        assert!(vote == fs::read(folder(version).join("vote")).unwrap(), "{what}");
        let said = fs::read(folder(version).join("introduction")).unwrap();
        assert_eq!(introduced(version), said, "{what}");
    }
}

#[test]
fn a_store_whose_group_has_gone_on_is_not_opened_and_the_text_says_why() {
    let dir = tempfile::tempdir().unwrap();
    unpack(&folder(GroupVersion::NEWEST), dir.path());
    let (path, position) = named(dir.path(), "checkpoint-");
    let stored = checkpoint::read_file(&RealFiles, &path, position).unwrap().unwrap();
    let mut state = stored.to_vec();
    state[1] = GroupVersion::NEWEST.0 + 1;
    checkpoint::write_file(&RealFiles, &path, position, &state).unwrap();
    let before = fs::read(&path).unwrap();
    let opened = open::open_undamaged(Arc::new(RealFiles), &options_alone(dir.path()));
    let Err(error @ StartError::Checkpoint { .. }) = opened else { panic!("it is opened") };
    let wanted = format!("its group writes version {} since", GroupVersion::NEWEST.0 + 1);
    assert!(error.to_string().contains(&wanted), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn every_build_before_reads_what_is_written_while_its_version_is_active() {
    // Formats come first: what a build of version 1 reads is what `tests/stores/1` has.
    let formats = |version: GroupVersion| {
        let dir = tempfile::tempdir().unwrap();
        unpack(&folder(version), dir.path());
        let stored = open(dir.path()).log.entries(EntryIndex(0), EntryIndex(u64::MAX), u64::MAX);
        let commands = stored.unwrap().iter().map(|e| e.commands()).collect::<Vec<_>>();
        let commands = commands.iter().filter_map(|bytes| bytes.first().copied()).max();
        let (path, position) = named(&folder(version), "checkpoint-");
        let state = checkpoint::read_file(&RealFiles, &path, position).unwrap().unwrap();
        (commands, state[0], fs::read(folder(version).join("introduction")).unwrap()[0])
    };
    assert_eq!(formats(GroupVersion::FIRST), (Some(1), 3, 2));
    assert_eq!(formats(GroupVersion::PASSES_ON), (Some(2), 4, 3));
    assert_eq!(formats(GroupVersion::MEMBERS), (Some(3), 4, 4));
}

#[tokio::test]
async fn the_newest_version_has_a_store() {
    let newest = folder(GroupVersion::NEWEST);
    if std::env::var_os("RMQ_WRITE_STORES").is_some() && !newest.exists() {
        write(GroupVersion::NEWEST, &newest).await;
    }
    let names = newest.display();
    assert!(newest.exists(), "no {names}: run this test once with RMQ_WRITE_STORES=1, and keep it");
}
