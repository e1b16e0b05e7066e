//! A group whose disks fill up, on simulated ones.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage};

use super::command::{Command, OffsetCommit};
use super::group_tests::{Cluster, bodies, draft, propose, send, until};
use super::log_store::LogStore;
use super::type_config::{CommittedLeaderId, LogEntry, Payload, RaftLogId, TypeConfig};
use super::{Group, ProposeError, StartError, Timing, open};
use crate::ids::QueueOffset;
use crate::store::Files;
use crate::store::simulated_disk::SimulatedDisk;

const MIB: u64 = 1 << 20;
/// How soon service is back once there is room.
const BACK_WITHIN: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(20);

struct Disks(Vec<SimulatedDisk>);

impl Disks {
    fn new(count: usize) -> Self {
        Self((0..count).map(|_| SimulatedDisk::new(64 * MIB)).collect())
    }

    fn cluster(&self) -> Cluster {
        let files = self.0.iter().map(|disk| Arc::new(disk.clone()) as Arc<dyn Files>).collect();
        Cluster::on_disks(files, Timing::default())
    }

    /// Somebody else takes what is free, but for `left`.
    fn fill(&self, disk: usize, left: u64) {
        let disk = &self.0[disk];
        let dir = Path::new("/elsewhere");
        disk.create_dir(dir).unwrap();
        let free = disk.space(dir).unwrap().free;
        disk.segment(&dir.join("filler"), free - left).unwrap();
    }

    fn free(&self, disk: usize) {
        self.0[disk].remove(Path::new("/elsewhere/filler")).unwrap();
    }
}

fn try_send(group: &Group, body: &str) -> Result<(), ProposeError> {
    let sent = propose(group, vec![draft("T", 0, body)], vec![]);
    sent.recv_timeout(PATIENCE).unwrap().map(drop)
}

/// Sends to whoever leads until it is refused for lack of room; returns the reason.
fn until_refused(cluster: &Cluster, body: &str) -> (Group, String) {
    until("a refusal", || {
        let (_, leader) = cluster.leader();
        match try_send(&leader, body) {
            Err(ProposeError::DiskFull { why }) => Some((leader, why)),
            Ok(()) | Err(_) => None,
        }
    })
}

#[test]
fn a_member_with_room_leads_and_without_any_messages_are_refused_with_the_numbers() {
    let disks = Disks::new(3);
    let cluster = disks.cluster();
    for round in 0..2 {
        let (leader, group) = cluster.leader();
        send(&group, "T", 0, "before");
        disks.fill(leader, MIB / 2);
        let (_, group) = until("another member leads", || {
            Some(cluster.leader()).filter(|(now, _)| *now != leader)
        });
        if round == 0 {
            until("it takes messages", || try_send(&group, "meanwhile").ok());
        }
    }
    // Two of three have no room: there is no majority that could take more for long.
    let (leader, why) = until_refused(&cluster, "too much");
    for part in ["2 of 3 do not", "bytes free), the limit is 90 %", "fileReservedTime"] {
        assert!(why.contains(part), "`{part}` is not in {why}");
    }
    assert!(bodies(&leader, "T", 0).len() >= 3, "reads go on");
    let commit =
        OffsetCommit { group: "g".to_owned(), topic: "T".to_owned(), queue_id: 0, offset: 1 };
    let committed = propose(&leader, vec![], vec![Command::CommitOffsets(vec![commit])]);
    committed.recv_timeout(PATIENCE).unwrap().unwrap();

    (0..3).filter(|disk| disks.0[*disk].space(Path::new("/")).unwrap().free < MIB).for_each(
        |disk| {
            disks.free(disk);
        },
    );
    let room = crate::clock::now();
    until("messages are taken again", || try_send(&cluster.leader().1, "after").ok());
    assert!(room.elapsed() < BACK_WITHIN, "{:?}", room.elapsed());
}

#[test]
fn a_member_that_starts_on_a_full_disk_knows_it_before_it_takes_anything() {
    let disks = Disks::new(1);
    let mut cluster = disks.cluster();
    send(&cluster.leader().1, "T", 0, "before");
    cluster.stop(0);
    disks.fill(0, MIB / 2);
    cluster.start(0);
    let refused = try_send(&cluster.leader().1, "too much");
    assert!(matches!(refused, Err(ProposeError::DiskFull { .. })), "{refused:?}");
}

#[test]
fn a_follower_without_room_takes_no_more_and_catches_up_when_there_is_some() {
    let disks = Disks::new(3);
    let cluster = disks.cluster();
    let (leader, group) = cluster.leader();
    let follower = (leader + 1) % 3;
    send(&group, "T", 0, "before");
    disks.fill(follower, 0);
    let body = "x".repeat(100_000);
    (0..60).for_each(|_| drop(send(&group, "T", 0, &body)));
    let behind = cluster.members[follower].clone().unwrap();
    let status = behind.status();
    assert!(status.tail < group.status().tail, "there was no room for all of it");
    assert_eq!((status.stopped, cluster.leader().0), (None, leader));
    assert!(!bodies(&behind, "T", 0).is_empty(), "it serves what it has");

    disks.free(follower);
    let room = crate::clock::now();
    until("it has everything", || {
        (behind.queues().bounds("T", 0).unwrap().next == QueueOffset(61)).then_some(())
    });
    assert!(room.elapsed() < BACK_WITHIN, "{:?}", room.elapsed());
}

#[test]
fn a_group_of_one_refuses_before_the_log_and_goes_on_by_itself() {
    let disks = Disks(vec![SimulatedDisk::new(8 * MIB)]);
    let cluster = disks.cluster();
    send(&cluster.leader().1, "T", 0, "before");
    disks.fill(0, 996_147); // within its share of the disk, and less than a segment
    let (group, why) = until_refused(&cluster, &"x".repeat(50_000));
    let texts = ["a log segment of 1048576 bytes", "bytes are left before another log segment"];
    assert!(texts.iter().any(|text| why.contains(text)), "{why}");
    assert_eq!(group.status().stopped, None);
    let stored = bodies(&group, "T", 0).len();
    assert!(stored > 1);
    disks.free(0);
    let room = crate::clock::now();
    until("messages are taken again", || try_send(&group, "after").ok());
    assert!(room.elapsed() < BACK_WITHIN, "{:?}", room.elapsed());
    let bodies = bodies(&group, "T", 0);
    assert!(bodies.len() > stored && bodies.last().is_some_and(|body| body == "after"));
}

#[test]
fn a_new_store_without_room_for_its_first_segment_is_refused() {
    let disks = Disks::new(1);
    let cluster = disks.cluster();
    let dir = cluster.dir.path().join("other");
    std::fs::create_dir_all(&dir).unwrap();
    let log_dir = dir.join("log");
    let options = super::GroupOptions { dir, log_dir, ..cluster.options(0) };
    disks.0[0].resize(1);
    match open::open_undamaged(Arc::new(disks.0[0].clone()), &options).err() {
        Some(StartError::Store(error)) => assert!(error.to_string().contains("bytes"), "{error}"),
        other => panic!("{other:?}"),
    }
}

/// What admission cannot prevent: the disk fills up between the look at it and the append.
#[tokio::test]
async fn an_append_that_finds_no_room_waits_for_it() {
    let disks = Disks::new(1);
    let dir = tempfile::tempdir().unwrap();
    let options = super::GroupOptions {
        dir: dir.path().to_owned(),
        log_dir: dir.path().join("commitlog"),
        ..disks.cluster().options(0)
    };
    let opened = open::open_undamaged(Arc::new(disks.0[0].clone()), &options).unwrap();
    let state = opened.machine.state().clone();
    let mut store =
        LogStore::new(opened.log.clone(), opened.votes, state, opened.room, opened.repairs);
    disks.fill(0, 0);
    let mut index = 0;
    let mut blank = || {
        let id = RaftLogId::new(CommittedLeaderId::new(1), index);
        index += 1;
        LogEntry::new(id, Payload::Blank)
    };
    let allocated = opened.log.allocated_ahead();
    let entries: Vec<_> = (0..allocated / 64).map(|_| blank()).collect();
    store.append(entries, IOFlushed::<TypeConfig>::noop()).now_or_never().unwrap().unwrap();
    assert_eq!(opened.log.allocated_ahead(), 0);
    let mut last = Box::pin(store.append([blank()], IOFlushed::noop()));
    assert!(last.as_mut().now_or_never().is_none(), "there is no room");
    disks.free(0);
    tokio::time::timeout(BACK_WITHIN, last).await.unwrap().unwrap();
}
