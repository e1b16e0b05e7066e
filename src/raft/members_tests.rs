//! Members come and go: groups of real members on loopback, under load.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use openraft::ChangeMembers;
use parking_lot::RwLock;
use tempfile::TempDir;

use super::group_tests::{bodies, draft, free_port, options, propose, send, until};
use super::membership::{Member, Wish};
use super::start;
use super::version::GroupVersion;
use super::{
    Group, Limits, MemberChange, MemberError, MemberStatus, Mode, Part, PeerAddress, Peers,
    ProposeError, Timing,
};
use crate::clock;
use crate::ids::BrokerId;
use crate::store::RealFiles;

const PATIENCE: Duration = Duration::from_secs(20);
/// Short, for clients of these tests turn to others by themselves.
const FAREWELL: Duration = Duration::from_millis(200);

/// Machines on which members may run.
pub(super) struct Site {
    dir: TempDir,
    addresses: Vec<PeerAddress>,
    files: BTreeMap<usize, Peers>,
    members: BTreeMap<usize, Group>,
}

pub(super) fn name(i: usize) -> String {
    format!("n{i}")
}

impl Site {
    /// With members 0 .. `size` that were started as a group.
    pub(super) fn new(size: usize) -> Self {
        let address = |_| PeerAddress { host: "127.0.0.1".to_owned(), port: free_port() };
        let dir = tempfile::tempdir().unwrap();
        let (files, members) = (BTreeMap::new(), BTreeMap::new());
        let mut site = Self { dir, addresses: (0..8).map(address).collect(), files, members };
        let all: Vec<usize> = (0..size).collect();
        all.iter().for_each(|i| site.start(*i, &all));
        until("all members write the newest version", || {
            let newest = |group: &Group| group.status().version == GroupVersion::NEWEST.0;
            site.members.values().all(newest).then_some(())
        });
        site
    }

    /// Starts a member whose file names `known`.
    pub(super) fn start(&mut self, i: usize, known: &[usize]) {
        let peers = known.iter().map(|i| (name(*i), self.addresses[*i].clone()));
        self.files.insert(i, Peers::new(peers));
        self.restart(i);
    }

    fn restart(&mut self, i: usize) {
        let dir = self.dir.path().join(name(i));
        std::fs::create_dir_all(&dir).unwrap();
        let limits = Limits { patience: PATIENCE, ..Limits::default() };
        let timing = Timing { farewell: FAREWELL, ..Timing::default() };
        let mut options = options(&dir, &name(i), self.files[&i].clone());
        (options.limits, options.timing) = (limits, timing);
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, self.addresses[i].port)).unwrap();
        let group = start::start(Arc::new(RealFiles), options, Some(port)).unwrap();
        self.members.insert(i, group);
    }

    fn stop(&mut self, i: usize) {
        self.members.remove(&i).unwrap().stop();
    }

    /// As a process that is killed: nobody is told, nothing handed over.
    fn kill(&mut self, i: usize) {
        let group = self.members.remove(&i).unwrap();
        group.0.proposer.close();
        group.stop();
    }

    fn leader(&self) -> usize {
        until("a leader", || {
            let leads = |(_, group): &(&usize, &Group)| group.role().is_leader();
            self.members.iter().find(leads).map(|(i, _)| *i)
        })
    }

    pub(super) fn group(&self, i: usize) -> Group {
        self.members[&i].clone()
    }

    fn ask(&self, change: &MemberChange, mode: Mode) -> Result<Vec<String>, MemberError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        until("a leader answers", || {
            let group = self.group(self.leader());
            match runtime.block_on(group.change_members(change.clone(), mode)) {
                Err(MemberError::NotLeader { .. } | MemberError::Interrupted) => None,
                Err(MemberError::UnderWay { what }) if what == "the last change" => None,
                outcome => Some(outcome),
            }
        })
    }

    pub(super) fn change(&self, change: &MemberChange) {
        self.ask(change, Mode::Record).unwrap();
    }

    pub(super) fn add(&self, i: usize, part: Part) -> MemberChange {
        MemberChange::Add { name: name(i), address: self.addresses[i].clone(), part }
    }

    /// Adds a voter, and waits until it votes.
    fn join(&self, i: usize) {
        self.change(&self.add(i, Part::Voter));
        self.until_settled(&format!("n{i} votes"), |members| {
            part_of(members, i) == Some(Part::Voter)
        });
    }

    /// Removes a member, and waits until it is gone.
    fn remove(&self, i: usize) {
        self.change(&MemberChange::Remove { name: name(i) });
        self.until_settled(&format!("n{i} is gone"), |members| part_of(members, i).is_none());
    }

    /// Waits until the leader has nothing under way and `holds`.
    fn until_settled(&self, what: &str, holds: impl Fn(&[MemberStatus]) -> bool) {
        until(what, || {
            let members = self.group(self.leader()).members();
            let settled = members.iter().all(|member| member.wish.is_none());
            (settled && holds(&members)).then_some(())
        });
    }

    pub(super) fn says(&self, i: usize, text: &str) {
        let group = self.group(i);
        until(text, || group.status().waits_for.filter(|waits_for| waits_for.why.contains(text)));
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        std::mem::take(&mut self.members).into_values().for_each(|group| group.stop());
    }
}

fn part_of(members: &[MemberStatus], i: usize) -> Option<Part> {
    members.iter().find(|member| member.name == name(i)).map(|member| member.part)
}

/// A client that sends one message after the other, to members in turn, and fails none.
struct Load {
    targets: Arc<RwLock<Vec<Group>>>,
    ends: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Load {
    fn start() -> Self {
        let (targets, ends) = (Arc::<RwLock<Vec<Group>>>::default(), Arc::<AtomicBool>::default());
        let (of, end) = (Arc::clone(&targets), Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            let mut sent = 0;
            while !end.load(Ordering::SeqCst) {
                let group = {
                    let of = of.read();
                    let Some(group) = of.get(sent % of.len().max(1)) else { continue };
                    group.clone()
                };
                let answer = propose(&group, vec![draft("T", 0, sent.to_string())], vec![]);
                answer.recv_timeout(2 * PATIENCE).unwrap().expect("no proposal fails");
                sent += 1;
            }
            sent
        });
        Self { targets, ends, thread }
    }

    /// From now on it sends to these.
    fn to(&self, site: &Site, members: &[usize]) {
        *self.targets.write() = members.iter().map(|i| site.group(*i)).collect();
    }

    /// How many messages were acknowledged.
    fn end(self) -> usize {
        self.ends.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

#[test]
fn a_group_of_one_grows_to_five_and_shrinks_to_three_while_nothing_fails() {
    let mut site = Site::new(1);
    let load = Load::start();
    load.to(&site, &[0]);
    for (i, knows) in [(1, 0), (2, 1), (3, 1), (4, 2)] {
        site.start(i, &[i, knows]);
        site.says(i, &format!("run rmq-admin memberAdd n{i} "));
        site.join(i);
        load.to(&site, &(0..=i).collect::<Vec<_>>());
    }
    let leader = site.leader();
    let ids = |site: &Site| site.group(site.leader()).roster().members;
    let five = ids(&site);
    assert_eq!(five.iter().map(|(_, id)| id.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let gone = [leader, (leader + 2) % 5];
    let stay: Vec<usize> = (0..5).filter(|i| !gone.contains(i)).collect();
    load.to(&site, &stay);
    for i in gone {
        site.remove(i);
        site.says(i, "was removed from the group");
        assert_eq!(site.group(i).roster().own, None, "no client is sent there");
    }
    let sent = load.end();
    assert!(sent > 100, "{sent}");
    let names: Vec<String> = stay.iter().map(|i| name(*i)).collect();
    let kept: Vec<(String, BrokerId)> =
        five.into_iter().filter(|(member, _)| names.contains(member)).collect();
    assert_eq!(ids(&site), kept, "ids stay");
    // Files lag behind: some name only members that are gone. The log knows.
    for i in &stay {
        site.stop(*i);
    }
    stay.iter().for_each(|i| site.restart(*i));
    send(&site.group(site.leader()), "T", 0, &sent.to_string());
    let all: Vec<String> = (0..=sent).map(|n| n.to_string()).collect();
    for i in &stay {
        let group = site.group(*i);
        until("all has come", || (bodies(&group, "T", 0).len() >= all.len()).then_some(()));
        assert_eq!(bodies(&group, "T", 0), all, "n{i}");
    }
    assert!(!gone.contains(&site.leader()), "who was removed does not lead");
}

#[test]
fn a_dry_run_changes_nothing_and_what_cannot_go_well_is_refused() {
    let mut site = Site::new(3);
    let silent = site.ask(&site.add(3, Part::Voter), Mode::DryRun).unwrap_err();
    assert!(matches!(silent, MemberError::Silent { .. }), "{silent}");
    // A group of its own, of the same name.
    site.start(3, &[3]);
    until("it leads itself", || site.group(3).role().is_leader().then_some(()));
    send(&site.group(3), "T", 0, "alien");
    let alien = site.members.remove(&3).unwrap();
    let refused = site.ask(&site.add(3, Part::Voter), Mode::Record).unwrap_err();
    assert!(matches!(refused, MemberError::Alien { .. }), "{refused}");
    alien.stop();
    drop(alien);
    std::fs::remove_dir_all(site.dir.path().join("n3")).unwrap();
    site.start(3, &[0, 3]);
    let steps = until("it answers", || site.ask(&site.add(3, Part::Voter), Mode::DryRun).ok());
    assert!(steps[1].contains("4 voters"), "{steps:?}");
    let leader = site.leader();
    assert_eq!(site.group(leader).members().len(), 3);
    let follower = site.group((leader + 1) % 3);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let change = site.add(3, Part::Voter);
    let refused = runtime.block_on(follower.change_members(change, Mode::Record)).unwrap_err();
    assert_eq!(refused, MemberError::NotLeader { leader: Some(name(leader)) });
    let last = MemberChange::Remove { name: name(leader) };
    assert!(site.ask(&last, Mode::DryRun).unwrap()[0].contains("hands leadership over"));
}

#[test]
fn a_member_takes_the_place_of_the_leader_under_load() {
    let mut site = Site::new(3);
    let load = Load::start();
    let leader = site.leader();
    let stay: Vec<usize> = (0..3).filter(|i| *i != leader).collect();
    load.to(&site, &stay);
    site.start(3, &[3, stay[0]]);
    site.says(3, "run rmq-admin memberAdd n3 ");
    let (old, new) = (name(leader), name(3));
    site.change(&MemberChange::Replace { old, new, address: site.addresses[3].clone() });
    site.until_settled("it votes instead", |members| {
        part_of(members, 3) == Some(Part::Voter) && part_of(members, leader).is_none()
    });
    site.says(leader, "was removed from the group");
    let asked = clock::now();
    let refused = propose(&site.group(leader), vec![draft("T", 0, "late")], vec![]);
    let refused = refused.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(refused, Err(ProposeError::Removed)), "{refused:?}");
    assert!(asked.elapsed() < PATIENCE / 10, "nothing waits for a leader that never comes");
    let sent = load.end();
    let all: Vec<String> = (0..sent).map(|n| n.to_string()).collect();
    until("it has everything", || (bodies(&site.group(3), "T", 0).len() == sent).then_some(()));
    assert_eq!(bodies(&site.group(3), "T", 0), all);
    // It was a member: its store is of this group, and may come back.
    site.join(leader);
    until("it waits no more", || site.group(leader).status().waits_for.is_none().then_some(()));
    let group = site.group(leader);
    until("it takes what it is asked", || {
        let asked = propose(&group, vec![draft("T", 0, "again")], vec![]);
        asked.recv_timeout(2 * PATIENCE).unwrap().ok()
    });
}

#[test]
fn a_learner_stays_one_whatever_happens() {
    let mut site = Site::new(3);
    site.start(3, &[0, 3]);
    site.says(3, "run rmq-admin memberAdd n3 ");
    site.change(&site.add(3, Part::Learner));
    let is_learner = |members: &[MemberStatus]| part_of(members, 3) == Some(Part::Learner);
    site.until_settled("it learns", is_learner);
    send(&site.group(site.leader()), "T", 0, "a");
    until("it has that", || (bodies(&site.group(3), "T", 0) == ["a"]).then_some(()));
    site.stop(3);
    site.restart(3);
    let leader = site.leader();
    site.kill(leader);
    let next = site.leader();
    assert!(next < 3, "a learner does not lead");
    site.restart(leader);
    send(&site.group(next), "T", 0, "b");
    until("it has that", || (bodies(&site.group(3), "T", 0) == ["a", "b"]).then_some(()));
    site.stop(3);
    std::fs::remove_dir_all(site.dir.path().join("n3")).unwrap();
    site.restart(3);
    let store = site.group(3).store_id();
    site.until_settled("its new store learns", |members| {
        is_learner(members) && members.iter().any(|member| member.store_id == store)
    });
    until("it has all", || (bodies(&site.group(3), "T", 0) == ["a", "b"]).then_some(()));
    site.change(&MemberChange::Assign { name: name(3), part: Part::Voter });
    site.until_settled("it votes", |members| part_of(members, 3) == Some(Part::Voter));
    site.change(&MemberChange::Assign { name: name(3), part: Part::Learner });
    site.until_settled("it learns again", is_learner);
}

#[test]
fn a_member_whose_file_names_it_alone_is_taken_in_again_with_an_empty_disk() {
    let mut site = Site::new(1);
    for i in [1, 2] {
        site.start(i, &[0, i]);
        site.join(i);
    }
    send(&site.group(site.leader()), "T", 0, "a");
    site.kill(0);
    std::fs::remove_dir_all(site.dir.path().join("n0")).unwrap();
    site.restart(0); // its file is as it was when it was the first
    let (group, mut led) = (site.group(0), false);
    until("it is taken in", || {
        led |= group.role().is_leader() && bodies(&group, "T", 0).is_empty();
        (bodies(&group, "T", 0) == ["a"]).then_some(())
    });
    assert!(!led, "it is no second group");
    site.until_settled("its new store votes", |members| {
        let is_it = |member: &MemberStatus| member.store_id == group.store_id();
        members.len() == 3
            && members.iter().any(|member| is_it(member) && member.part == Part::Voter)
    });
}

/// Records a wish as a leader does before it dies.
fn record(site: &Site, id: u64, member: &Member) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    until("no other change is on its way", || {
        let raft = &site.group(site.leader()).0.raft;
        let change = ChangeMembers::SetNodes(BTreeMap::from([(id, member.clone())]));
        runtime.block_on(raft.change_membership(change, true)).ok()
    });
}

#[test]
fn what_a_killed_leader_began_is_taken_back() {
    let mut site = Site::new(3);
    let address = format!("127.0.0.1:{}", free_port());
    let n9 = Member { name: "n9".to_owned(), address, wish: Wish::Vote, broker_id: None };
    record(&site, 9, &n9);
    let leader = site.leader();
    site.kill(leader);
    site.leader();
    site.start(3, &[3, (leader + 1) % 3]);
    let refused = until("who comes is seen", || {
        let refused = site.ask(&site.add(3, Part::Voter), Mode::Record).unwrap_err();
        (!matches!(refused, MemberError::Silent { .. })).then_some(refused)
    });
    let text = refused.to_string();
    assert!(text.starts_with("n9 is being added: one change at a time"), "{text}");
    site.change(&MemberChange::Remove { name: "n9".to_owned() });
    site.until_settled("it is gone", |members| members.len() == 3);
    site.join(3);
}

#[test]
fn what_a_killed_leader_began_is_completed() {
    let mut site = Site::new(3);
    site.start(3, &[0, 3]);
    site.says(3, "run rmq-admin memberAdd n3 ");
    site.change(&site.add(3, Part::Voter));
    let leader = site.leader();
    site.kill(leader); // whichever step it was at
    site.until_settled("n3 votes", |members| part_of(members, 3) == Some(Part::Voter));
    site.restart(leader);

    // A leader that dies between the two entries of a change of voters.
    let leader = site.leader();
    let leaves = (leader + 1) % 3;
    let group = site.group(leader);
    let members = group.members();
    let of = |i: usize| {
        let found = members.iter().find(|member| member.name == name(i));
        found.map(|member| (member.store_id.0, member.broker_id.0)).unwrap()
    };
    let (id, broker_id) = of(leaves);
    let address = site.addresses[leaves].to_string();
    let member =
        Member { name: name(leaves), address, wish: Wish::Leave, broker_id: Some(broker_id) };
    site.stop(leaves);
    record(&site, id, &member);
    site.kill(leader);
    site.restart(leader); // or the two that are left are no majority of four
    site.until_settled("who left is gone", |members| {
        part_of(members, leaves).is_none() && members.len() == 3
    });
}
