//! Members whose machines stopped while they acknowledged from memory. A store as it was before is
//! what such a stop leaves at worst.

use std::fs;
use std::path::{Path, PathBuf};

use super::Group;
use super::group_tests::{Cluster, bodies, send, until};
use crate::ids::QueueOffset;

impl Cluster {
    fn store(&self, i: usize) -> PathBuf {
        self.dir.path().join(format!("n{i}"))
    }

    fn kept(&self, i: usize) -> PathBuf {
        self.dir.path().join(format!("n{i} as it was"))
    }

    /// Keeps the store of a member as it is now.
    fn keep(&mut self, i: usize) {
        self.stop(i);
        copy(&self.store(i), &self.kept(i));
        self.start(i);
    }

    /// Makes a stopped member's machine stop, which has lost all since [`Self::keep`].
    fn forget(&self, i: usize) {
        fs::remove_dir_all(self.store(i)).unwrap();
        copy(&self.kept(i), &self.store(i));
        self.machine_stops(i);
    }

    /// Makes a stopped member's machine stop, which has lost nothing.
    fn machine_stops(&self, i: usize) {
        let path = self.store(i).join("store.json");
        let mut stamp: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        stamp["clean"] = false.into();
        stamp["boot_id"] = "an earlier one".into();
        fs::write(&path, stamp.to_string()).unwrap();
    }

    fn member(&self, i: usize) -> Group {
        self.members[i].clone().unwrap()
    }

    fn until_all_have(&self, messages: u64) {
        for (i, member) in self.running() {
            until(&format!("n{i} has {messages} messages"), || {
                (member.queues().bounds("T", 0).unwrap().next == QueueOffset(messages))
                    .then_some(())
            });
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

fn send_some(group: &Group) {
    (0..5).for_each(|n| drop(send(group, "T", 0, &n.to_string())));
}

#[test]
fn a_member_that_forgot_what_it_vouched_for_elects_nobody_who_lacks_it_too() {
    let mut cluster = Cluster::new(3);
    let (leader, group) = cluster.leader();
    let [forgetful, behind] = [(leader + 1) % 3, (leader + 2) % 3];
    send_some(&group);
    cluster.until_all_have(5);
    cluster.keep(forgetful);
    cluster.stop(behind);
    send_some(&group);
    cluster.stop(forgetful);
    drop(group);
    cluster.stop(leader);
    cluster.forget(forgetful);
    cluster.start(forgetful);
    cluster.start(behind);
    // These two would be a majority.
    let doubt = cluster.member(forgetful).0.doubt.clone();
    until("a candidate was refused", || (doubt.refused() > 0).then_some(()));
    assert!(cluster.running().all(|(_, member)| !member.role().is_leader()));
    cluster.start(leader);
    assert_eq!(cluster.leader().0, leader);
    cluster.until_all_have(10);
    until("it takes part again", || doubt.is_over().then_some(()));
}

#[test]
fn when_all_machines_stopped_the_longest_log_leads() {
    let mut cluster = Cluster::new(3);
    let (leader, group) = cluster.leader();
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    send_some(&group);
    cluster.until_all_have(5);
    others.into_iter().for_each(|i| cluster.keep(i));
    send_some(&group);
    cluster.until_all_have(10);
    others.into_iter().for_each(|i| cluster.stop(i));
    drop(group);
    cluster.stop(leader);
    others.into_iter().for_each(|i| cluster.forget(i));
    cluster.machine_stops(leader);
    others.into_iter().for_each(|i| cluster.start(i));
    let doubt = cluster.member(others[0]).0.doubt.clone();
    assert!(!doubt.is_over(), "one is missing, who may have more");
    cluster.start(leader);
    assert_eq!(cluster.leader().0, leader);
    cluster.until_all_have(10);
    assert_eq!(bodies(&cluster.member(others[1]), "T", 0).len(), 10);
    until("all take part again", || {
        cluster.running().all(|(_, member)| member.0.doubt.is_over()).then_some(())
    });
}

#[test]
fn a_member_that_forgot_what_its_living_leader_knows_it_has_gets_it_again() {
    let mut cluster = Cluster::new(3);
    let (leader, group) = cluster.leader();
    let forgetful = (leader + 1) % 3;
    send_some(&group);
    cluster.until_all_have(5);
    cluster.keep(forgetful);
    send_some(&group);
    cluster.until_all_have(10);
    cluster.stop(forgetful);
    cluster.forget(forgetful);
    cluster.start(forgetful);
    let term = group.role().term();
    cluster.until_all_have(10);
    let doubt = cluster.member(forgetful).0.doubt.clone();
    until("it takes part again", || doubt.is_over().then_some(()));
    assert_eq!(cluster.leader().1.role().term(), term, "nobody else had to lead");
    cluster.stop(forgetful);
    let stamp = fs::read_to_string(cluster.store(forgetful).join("store.json")).unwrap();
    assert!(stamp.contains("\"in_doubt\": false"), "{stamp}");
}
