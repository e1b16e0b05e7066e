//! Members whose disks change what was written to them.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use super::group_tests::{Cluster, bodies, send, until};
use super::repair::READER_PATIENCE;
use super::{Group, Receipt, StartError};
use crate::ids::{EntryIndex, PhysicalOffset, QueueOffset};
use crate::store::entry::HEADER_BYTES;
use crate::store::queues;

impl Cluster {
    fn segment(&self, i: usize, base: u64) -> PathBuf {
        self.dir.path().join(format!("n{i}/commitlog/{base:020}"))
    }

    fn log(&self, i: usize) -> Vec<u8> {
        fs::read(self.segment(i, 0)).unwrap()
    }

    pub(super) fn overwrite(&self, i: usize, at: u64, bytes: &[u8]) {
        let base = at - at % self.options(i).segment_bytes;
        let file = OpenOptions::new().write(true).open(self.segment(i, base)).unwrap();
        file.write_all_at(bytes, at - base).unwrap();
    }

    /// The line of a member's stamp that holds its store id.
    fn store_id(&self, i: usize) -> String {
        let stamp = fs::read_to_string(self.dir.path().join(format!("n{i}/store.json"))).unwrap();
        stamp.lines().find(|line| line.contains("store_id")).unwrap().to_owned()
    }

    /// Makes a stopped member read its whole log when it starts.
    fn forget_checkpoints(&self, i: usize) {
        for file in fs::read_dir(self.dir.path().join(format!("n{i}"))).unwrap() {
            let path = file.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("checkpoint-") {
                fs::remove_file(path).unwrap();
            }
        }
    }

    pub(super) fn until_has(&self, i: usize, messages: u64) -> Group {
        let member = self.members[i].clone().unwrap();
        until(&format!("n{i} has {messages} messages"), || {
            (member.queues().bounds("T", 0).unwrap().next == QueueOffset(messages)).then_some(())
        });
        member
    }
}

/// Twenty messages, an entry each, and where each entry starts.
pub(super) fn send_twenty(group: &Group) -> (Vec<String>, Vec<u64>) {
    let bodies: Vec<String> = (0..20).map(|n| format!("body {n:02}")).collect();
    let receipts: Vec<Receipt> = bodies.iter().map(|body| send(group, "T", 0, body)).collect();
    let position = |receipt: &Receipt| receipt.places[0].physical.0 - HEADER_BYTES as u64;
    (bodies, receipts.iter().map(position).collect())
}

/// Ways to damage what lies between two entries, by name.
fn damages(from: u64, to: u64) -> Vec<(&'static str, u64, Vec<u8>)> {
    let bytes = (to - from) as usize;
    vec![
        ("a bit of a body", from + HEADER_BYTES as u64 + 50, b"#".to_vec()),
        ("a bit of a header", from + 9, b"#".to_vec()),
        ("zeros over several entries", from + 8, vec![0; bytes + 100]),
        ("noise over several entries", from, (0..bytes + 30).map(|n| n as u8 ^ 0x5a).collect()),
    ]
}

#[test]
fn a_follower_whose_log_is_damaged_is_repaired_when_it_starts() {
    let mut cluster = Cluster::new(3);
    let (leader, group) = cluster.leader();
    let hurt = (leader + 1) % 3;
    let (sent, positions) = send_twenty(&group);
    (0..3).for_each(|i| drop(cluster.until_has(i, 20)));
    let whole = cluster.log(leader);
    for (what, at, bytes) in damages(positions[7], positions[9]) {
        cluster.stop(hurt);
        cluster.forget_checkpoints(hurt);
        cluster.overwrite(hurt, at, &bytes);
        cluster.start(hurt);
        assert!(cluster.log(hurt) == whole, "{what}");
        assert_eq!(bodies(&cluster.until_has(hurt, 20), "T", 0), sent, "{what}");
    }
    assert_eq!(cluster.leader().0, leader);
}

#[test]
fn a_leader_whose_log_is_damaged_is_repaired_and_leads_on() {
    let mut cluster = Cluster::new(3);
    let (leader, group) = cluster.leader();
    let behind = (leader + 1) % 3;
    let term = group.role().term();
    cluster.stop(behind);
    let (sent, positions) = send_twenty(&group);
    let whole = cluster.log(leader);
    for (_, at, bytes) in damages(positions[7], positions[9]) {
        cluster.overwrite(leader, at, &bytes);
    }
    cluster.start(behind);
    assert_eq!(bodies(&cluster.until_has(behind, 20), "T", 0), sent);
    assert!(cluster.log(leader) == whole && cluster.log(behind) == whole);
    assert_eq!(bodies(&group, "T", 0), sent);
    send(&group, "T", 0, "after");
    assert_eq!(group.role().term(), term);
}

#[test]
fn what_a_reader_met_is_repaired_under_those_who_read() {
    let cluster = Cluster::new(3);
    let (leader, group) = cluster.leader();
    let (_, positions) = send_twenty(&group);
    let follower = cluster.until_has((leader + 1) % 3, 20);
    let whole = cluster.log(leader);
    for (what, at, bytes) in damages(positions[7], positions[9]) {
        cluster.overwrite((leader + 1) % 3, at, &bytes);
        let held = follower.log().slice(PhysicalOffset(at), bytes.len() as u32).unwrap();
        let (done, wait) = std::sync::mpsc::sync_channel(1);
        let position = PhysicalOffset(positions[7] + HEADER_BYTES as u64);
        follower.repair(position, Box::new(move |result| done.send(result).unwrap()));
        wait.recv().unwrap().unwrap();
        assert!(follower.log().check_at(PhysicalOffset(at)).is_ok(), "{what}");
        assert!(*held == *bytes, "who holds bytes keeps them: {what}");
    }
    let entries =
        follower.log().entries(follower.log().first_index(), EntryIndex(u64::MAX), u64::MAX);
    assert!(entries.is_ok());
    let end = usize::try_from(follower.log().tail().0).unwrap();
    assert!(cluster.log((leader + 1) % 3)[..end] == whole[..end]);
}

#[test]
fn derived_data_that_a_reader_found_damaged_is_built_again_while_the_member_runs() {
    let mut cluster = Cluster::new(1);
    let (_, group) = cluster.leader();
    let (sent, _) = send_twenty(&group);
    drop(group);
    cluster.stop(0); // writes what is in memory as runs
    for run in fs::read_dir(cluster.dir.path().join("n0/consumequeue")).unwrap() {
        let path = run.unwrap().path();
        let mut content = fs::read(&path).unwrap();
        content[0] ^= 1;
        fs::write(&path, content).unwrap();
    }
    cluster.start(0);
    let (_, group) = cluster.leader();
    let first = || group.queues().unit("T", 0, QueueOffset(0));
    assert!(matches!(first(), Err(queues::Error::Damaged { .. })));
    until("it is built again", || first().is_ok().then_some(()));
    assert_eq!(bodies(&group, "T", 0), sent);
}

#[test]
fn derived_data_that_the_disk_cannot_read_any_more_is_built_again_while_the_member_runs() {
    let mut cluster = Cluster::new(1);
    let (_, group) = cluster.leader();
    let (mut sent, _) = send_twenty(&group);
    drop(group);
    cluster.stop(0); // writes what is in memory as runs
    cluster.start(0);
    let (_, group) = cluster.leader();
    assert_eq!(bodies(&group, "T", 0), sent);
    for run in fs::read_dir(cluster.dir.path().join("n0/consumequeue")).unwrap() {
        let file = OpenOptions::new().write(true).open(run.unwrap().path()).unwrap();
        file.set_len(0).unwrap(); // reading behind the end is the signal that a bad sector is
    }
    let first = || group.queues().unit("T", 0, QueueOffset(0));
    assert!(matches!(first(), Err(queues::Error::Damaged { .. })));
    send(&group, "T", 0, "meanwhile");
    sent.push("meanwhile".to_owned());
    until("it is built again", || first().is_ok().then_some(()));
    assert_eq!(bodies(&group, "T", 0), sent);
}

#[test]
fn pages_that_the_disk_cannot_read_are_repaired_while_the_member_runs() {
    let cluster = Cluster::new(3);
    let (leader, group) = cluster.leader();
    let hurt = (leader + 1) % 3;
    let big = "x".repeat(100_000);
    let receipts: Vec<Receipt> = (0..5).map(|_| send(&group, "T", 0, &big)).collect();
    let follower = cluster.until_has(hurt, 5);
    let whole = cluster.log(leader);
    let place = receipts[2].places[0].physical;
    let file = OpenOptions::new().write(true).open(cluster.segment(hurt, 0)).unwrap();
    let pages = place.0.next_multiple_of(65_536);
    file.set_len(pages).unwrap(); // reading behind the end is the signal that a bad sector is
    let end = follower.log().tail();
    let read = follower.log().slice(PhysicalOffset(pages), (end.0 - pages) as u32).unwrap();
    assert!(read.iter().all(|byte| *byte == 0));
    file.set_len(whole.len() as u64).unwrap();
    for receipt in &receipts[2..] {
        let (done, wait) = std::sync::mpsc::sync_channel(1);
        follower
            .repair(receipt.places[0].physical, Box::new(move |result| done.send(result).unwrap()));
        wait.recv().unwrap().unwrap();
    }
    assert_eq!(bodies(&follower, "T", 0), vec![big; 5]);
    let end = end.0 as usize;
    assert!(cluster.log(hurt)[..end] == whole[..end]);
}

#[test]
fn a_member_whose_damage_all_others_have_purged_starts_over() {
    let mut cluster = Cluster::new(3);
    let (leader, group) = cluster.leader();
    let hurt = (leader + 1) % 3;
    let (_, positions) = send_twenty(&group);
    drop(cluster.until_has(hurt, 20));
    let before = cluster.store_id(hurt);
    cluster.stop(hurt);
    cluster.forget_checkpoints(hurt);
    cluster.overwrite(hurt, positions[7] + HEADER_BYTES as u64 + 50, b"#");
    let body = "x".repeat(64 * 1024);
    (0..60).for_each(|_| drop(send(&group, "T", 0, &body)));
    for (_, other) in cluster.running() {
        until("the others purged what is damaged", || {
            other.purge_now();
            (other.status().first_position.0 > positions[7]).then_some(())
        });
    }
    cluster.start(hurt);
    let member = cluster.until_has(hurt, 80);
    let after = cluster.store_id(hurt);
    assert_ne!(after, before, "what it vouched for is forgotten with its id");
    let min = member.queues().bounds("T", 0).unwrap().min;
    assert_eq!(bodies(&member, "T", 0), vec![body; 80 - min.0 as usize]);
    send(&cluster.leader().1, "T", 0, "after");
}

#[test]
fn damage_at_the_start_of_a_purged_log_is_repaired_and_empties_nobody() {
    let mut cluster = Cluster::new(3);
    let (leader, group) = cluster.leader();
    let hurt = (leader + 1) % 3;
    let body = "x".repeat(64 * 1024);
    (0..60).for_each(|_| drop(send(&group, "T", 0, &body)));
    drop(cluster.until_has(hurt, 60));
    let first = until("all purged as far", || {
        let start = |(_, member): (usize, &Group)| {
            member.purge_now();
            member.status().first_position.0
        };
        let starts: BTreeSet<u64> = cluster.running().map(start).collect();
        starts.first().copied().filter(|first| starts.len() == 1 && *first > 0)
    });
    let before = cluster.store_id(hurt);
    for at in [0, 9, 30, HEADER_BYTES as u64 - 1] {
        cluster.stop(hurt);
        let whole = fs::read(cluster.segment(leader, first)).unwrap();
        cluster.overwrite(hurt, first + at, &[!whole[at as usize]]);
        cluster.start(hurt);
        drop(cluster.until_has(hurt, 60));
        assert_eq!(cluster.store_id(hurt), before, "byte {at}");
        assert!(fs::read(cluster.segment(hurt, first)).unwrap() == whole, "byte {at}");
    }
}

#[test]
fn readers_that_wait_one_behind_the_other_are_all_answered_within_the_patience_of_one() {
    let mut cluster = Cluster::new(3);
    let (leader, group) = cluster.leader();
    let (_, positions) = send_twenty(&group);
    let reader = (leader + 1) % 3;
    let follower = cluster.until_has(reader, 20);
    cluster.stop(leader);
    cluster.stop((leader + 2) % 3);
    cluster.overwrite(reader, positions[7] + HEADER_BYTES as u64 + 50, b"#");
    let (done, wait) = std::sync::mpsc::channel();
    let asked = crate::clock::now();
    for _ in 0..5 {
        let done = done.clone();
        let position = PhysicalOffset(positions[7] + HEADER_BYTES as u64);
        follower.repair(position, Box::new(move |result| done.send(result).unwrap()));
    }
    (0..5).for_each(|_| assert!(wait.recv().unwrap().is_err()));
    let took = asked.elapsed();
    assert!(took < 3 * READER_PATIENCE, "{took:?}");
}

#[test]
fn damage_at_the_same_place_of_all_members_is_refused_and_nothing_is_cut() {
    let mut cluster = Cluster::new(3);
    cluster.timing.repair = Duration::from_millis(300);
    let (_, group) = cluster.leader();
    let (_, positions) = send_twenty(&group);
    (0..3).for_each(|i| drop(cluster.until_has(i, 20)));
    drop(group);
    (0..3).for_each(|i| cluster.stop(i));
    let at = positions[7];
    for i in 0..3 {
        cluster.forget_checkpoints(i);
        cluster.overwrite(i, at + HEADER_BYTES as u64 + 50, b"#");
    }
    for i in 0..3 {
        let hurt = cluster.log(i);
        let error = cluster.try_start(i).unwrap_err();
        assert!(matches!(error, StartError::Unrepaired { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("damaged at position {at}, entry ")), "{text}");
        assert!(text.contains("no other member could repair it: n"), "{text}");
        assert!(cluster.log(i) == hurt);
    }
}

#[test]
fn a_leader_that_nobody_can_repair_stops_and_its_damage_reaches_nobody() {
    let mut cluster = Cluster::new(3);
    let (leader, group) = cluster.leader();
    let (behind, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.stop(behind);
    let (sent, positions) = send_twenty(&group);
    drop(cluster.until_has(other, 20));
    let at = positions[7] + HEADER_BYTES as u64 + 50;
    [leader, other].into_iter().for_each(|i| cluster.overwrite(i, at, b"#"));
    cluster.start(behind);
    let why = until("the leader sees its damage", || group.status().stopped);
    assert!(why.contains(&format!("damaged at position {}, entry ", positions[7])), "{why}");
    assert!(why.contains("body checksum is 0x"), "{why}");
    let got = bodies(&cluster.members[behind].clone().unwrap(), "T", 0);
    assert!(got.len() <= 7 && sent.starts_with(&got), "{got:?}");
}
