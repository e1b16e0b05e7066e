//! Disks that rot where nobody reads.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use super::group_tests::{Cluster, bodies, send, until};
use super::{Group, ScrubRules};
use crate::ids::{EntryIndex, PhysicalOffset, QueueOffset};
use crate::store::entry::{HEADER_BYTES, Header, crc32c};

/// As fast as the disk, and soon again.
const EAGER: ScrubRules =
    ScrubRules { bytes_per_second: 1 << 40, interval: Duration::from_millis(50) };
const SENT: usize = 60;

/// A group with some segments of messages that all have applied, and the place of each entry.
fn with_old_segments() -> (Cluster, Vec<u64>) {
    let cluster = Cluster::new(3);
    let (_, group) = cluster.leader();
    let body = |n: usize| format!("{n:02}").repeat(32 * 1024);
    let places: Vec<u64> = (0..SENT)
        .map(|n| send(&group, "T", 0, &body(n)).places[0].physical.0 - HEADER_BYTES as u64)
        .collect();
    for (i, member) in cluster.running() {
        until(&format!("n{i} has all messages"), || {
            let next = member.queues().bounds("T", 0).unwrap().next;
            (next == QueueOffset(SENT as u64)).then_some(())
        });
    }
    (cluster, places)
}

fn segments(cluster: &Cluster, i: usize) -> Vec<PathBuf> {
    let dir = cluster.dir.path().join(format!("n{i}/commitlog"));
    let paths = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let digits = |path: &PathBuf| name(path).bytes().all(|b| b.is_ascii_digit());
    paths.filter(digits).collect::<BTreeSet<_>>().into_iter().collect()
}

fn log(cluster: &Cluster, i: usize, member: &Group) -> Vec<u8> {
    let all = segments(cluster, i).iter().flat_map(|path| fs::read(path).unwrap()).collect();
    let mut all: Vec<u8> = all;
    all.truncate(usize::try_from(member.log().tail().0).unwrap());
    all
}

fn overwrite(cluster: &Cluster, i: usize, at: u64, bytes: &[u8]) {
    let segment_bytes = cluster.options(i).segment_bytes;
    let path = &segments(cluster, i)[usize::try_from(at / segment_bytes).unwrap()];
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, at % segment_bytes).unwrap();
}

#[test]
fn rot_that_nobody_reads_is_found_and_repaired_on_leader_and_follower() {
    let (cluster, places) = with_old_segments();
    let (leader, group) = cluster.leader();
    let follower = (leader + 1) % 3;
    let whole = log(&cluster, leader, &group);
    let sent = bodies(&group, "T", 0);
    // A body and a header, and several entries at once.
    overwrite(&cluster, follower, places[3] + 5000, b"#");
    overwrite(&cluster, follower, places[20] + 9, b"#");
    overwrite(&cluster, follower, places[30] + 9, &[7; 150_000]);
    overwrite(&cluster, leader, places[12] + 300, b"#");
    overwrite(&cluster, leader, places[25] + 33, b"#");
    let term = group.role().term();
    cluster.running().for_each(|(_, member)| member.set_scrub(EAGER));
    for (i, member) in cluster.running() {
        until(&format!("n{i} has its whole log again"), || {
            let scrubbed = member.status().scrubbed;
            let round_ended = scrubbed.round_ended_ms.is_some();
            (round_ended && log(&cluster, i, member) == whole).then_some(())
        });
        let scrubbed = member.status().scrubbed;
        let expected = if i == follower {
            3
        } else if i == leader {
            2
        } else {
            0
        };
        assert_eq!((scrubbed.damaged, scrubbed.repaired), (expected, expected), "n{i}");
        assert_eq!(scrubbed.differing, 0, "n{i}");
        assert_eq!(bodies(member, "T", 0), sent, "n{i}");
    }
    assert_eq!(group.role().term(), term, "it led on");
}

#[test]
fn what_differs_and_is_whole_is_told_by_all_and_overwritten_by_nobody() {
    let (cluster, places) = with_old_segments();
    let (leader, group) = cluster.leader();
    let wrong = (leader + 1) % 3;
    let member = cluster.members[wrong].clone().unwrap();
    let at = PhysicalOffset(places[7]);
    let header = Header::parse(&group.log().slice(at, HEADER_BYTES as u32).unwrap()).unwrap();
    let mut entry = group.log().slice(at, header.total).unwrap().to_vec();
    entry[HEADER_BYTES + 500] ^= 1;
    let body_crc = crc32c(&entry[HEADER_BYTES..HEADER_BYTES + header.body_bytes as usize]);
    Header { body_crc, ..header }.write(entry.first_chunk_mut().unwrap());
    overwrite(&cluster, wrong, at.0, &entry);
    cluster.running().for_each(|(_, member)| member.set_scrub(EAGER));
    for (i, member) in cluster.running() {
        let differing = || Some(member.status().scrubbed.differing).filter(|count| *count > 0);
        until(&format!("n{i} tells of the difference"), differing);
        let scrubbed = member.status().scrubbed;
        assert_eq!((scrubbed.damaged, scrubbed.repaired), (0, 0), "n{i}");
        let left = || {
            let left = member.status().scrubbed.left;
            (left.differing, left.advice.is_some())
        };
        // As often as it is met again in later rounds, it is one entry.
        until(&format!("n{i} tells it once"), || (left() == (1, true)).then_some(()));
    }
    assert_eq!(*member.log().slice(at, header.total).unwrap(), *entry);
    let next = member.log().entries(header.index, EntryIndex(u64::MAX), 0);
    assert!(next.is_ok(), "and it is whole for whoever reads it");
}

#[test]
fn a_group_of_one_finds_what_it_cannot_repair_and_goes_on() {
    let cluster = Cluster::new(1);
    let (_, group) = cluster.leader();
    let body = "x".repeat(64 * 1024);
    let places: Vec<u64> = (0..SENT)
        .map(|_| send(&group, "T", 0, &body).places[0].physical.0 - HEADER_BYTES as u64)
        .collect();
    overwrite(&cluster, 0, places[3] + 500, b"#");
    overwrite(&cluster, 0, places[40] + 9, b"#");
    group.set_scrub(EAGER);
    until("both are found", || (group.status().scrubbed.damaged >= 2).then_some(()));
    assert_eq!(group.status().scrubbed.repaired, 0);
    until("both are found again", || (group.status().scrubbed.damaged >= 5).then_some(()));
    assert_eq!(group.status().scrubbed.left.unrepaired, 2, "of a round");
    send(&group, "T", 0, "after");
    group.set_scrub(ScrubRules::OFF);
}

#[test]
fn derived_data_that_rots_is_built_again_before_anybody_reads_it() {
    let mut cluster = Cluster::new(1);
    let (_, group) = cluster.leader();
    let sent: Vec<String> = (0..20).map(|n| format!("body {n}")).collect();
    sent.iter().for_each(|body| drop(send(&group, "T", 0, body)));
    drop(group);
    cluster.stop(0); // writes what is in memory as runs
    let dir = cluster.dir.path().join("n0/consumequeue");
    let mut rotten = Vec::new();
    for path in fs::read_dir(&dir).unwrap() {
        let path = path.unwrap().path();
        let mut content = fs::read(&path).unwrap();
        content[0] ^= 1;
        fs::write(&path, &content).unwrap();
        rotten.push(content);
    }
    let is_rotten = || {
        let paths = fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path());
        let mut contents = paths.filter_map(|path| fs::read(path).ok()); // or replaced just now
        contents.any(|content| rotten.contains(&content))
    };
    cluster.start(0);
    let (_, group) = cluster.leader();
    assert!(is_rotten() && !group.queues().has_damage(), "nobody has met it");
    group.set_scrub(EAGER);
    until("it is built again", || (!is_rotten()).then_some(()));
    until("readers get it", || (!group.queues().has_damage()).then_some(()));
    assert_eq!(bodies(&group, "T", 0), sent);
}
