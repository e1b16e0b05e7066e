//! What comes to members that do not lead, over real sockets and files.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::command::{Command, OffsetCommit, Outcome, QueueName};
use super::group_tests::{Cluster, bodies, draft, propose, send, until};
use super::version::GroupVersion;
use super::{Group, ProposeError, Receipt};
use crate::ids::QueueOffset;

const PATIENCE: Duration = Duration::from_secs(20);

type Waiting = Receiver<Result<Receipt, ProposeError>>;

pub(super) fn answer(waiting: &Waiting) -> Receipt {
    waiting.recv_timeout(PATIENCE).unwrap().unwrap()
}

/// A member that does not lead, knows who does, and passes on what it is asked.
pub(super) fn follower(cluster: &Cluster) -> Group {
    until("a follower that knows its leader", || {
        let (_, leader) = cluster.leader();
        let term = leader.role().term();
        let knows = |group: &Group| !group.role().is_leader() && group.role().term() == term;
        let mut members = cluster.running().map(|(_, group)| group);
        let is_led = |group: &Group| group.role().leader("").is_some();
        members.find(|group| knows(group) && is_led(group) && group.passes_on()).cloned()
    })
}

#[test]
fn what_a_follower_is_asked_is_done_and_can_be_read_there_when_it_answers() {
    let cluster = Cluster::patient(3);
    let follower = follower(&cluster);
    for n in 0..20 {
        let receipt = send(&follower, "T", 3, &format!("m{n}"));
        assert_eq!(receipt.places[0].queue_offset, QueueOffset(n));
        assert!(receipt.store_timestamp > 0);
        assert_eq!(follower.queues().next("T", 3), QueueOffset(n + 1));
    }
    let commit = OffsetCommit { group: "g".into(), topic: "T".into(), queue_id: 3, offset: 7 };
    let queues = vec![QueueName { topic: "T".into(), queue_id: 3 }];
    let lock =
        Command::LockQueues { group: "g".into(), client: "c".into(), queues: queues.clone() };
    let messages = vec![draft("T", 3, "both"), draft("U", 0, "kinds")];
    let asked = propose(&follower, messages, vec![Command::CommitOffsets(vec![commit]), lock]);
    let receipt = answer(&asked);
    assert_eq!(receipt.outcomes, [Outcome::Done, Outcome::Locked { queues, no_room: false }]);
    let offsets: Vec<u64> = receipt.places.iter().map(|place| place.queue_offset.0).collect();
    assert_eq!(offsets, [20, 0]);
    assert_eq!(follower.tables().offset("g", "T", 3), Some(7));
    assert_eq!(bodies(&follower, "U", 0), ["kinds"]);
}

#[test]
fn a_leader_does_not_know_all_commits_while_some_that_were_passed_on_are_under_way() {
    let cluster = Cluster::patient(3);
    let follower = follower(&cluster);
    let (_, leader) = cluster.leader();
    assert!(leader.knows_commits() && !follower.knows_commits());
    let commit =
        |offset| OffsetCommit { group: "g".into(), topic: "T".into(), queue_id: 3, offset };
    let asked: Vec<Waiting> = (1..=2_000)
        .map(|n| propose(&follower, vec![], vec![Command::CommitOffsets(vec![commit(n)])]))
        .collect();
    until("one of them is seen under way", || {
        let stored = leader.tables().offset("g", "T", 3);
        assert_ne!(stored, Some(2_000), "all were applied, and none was seen");
        (!leader.knows_commits()).then_some(())
    });
    asked.iter().for_each(|waiting| drop(answer(waiting)));
    until("none is under way", || leader.knows_commits().then_some(()));
    assert_eq!(leader.tables().offset("g", "T", 3), Some(2_000));
}

#[test]
fn all_members_are_asked_at_once_and_each_message_is_stored_once_where_its_sender_was_told() {
    let cluster = Cluster::patient(3);
    follower(&cluster);
    let asked: Vec<(String, Waiting)> = (0..600)
        .map(|n| {
            let body = format!("m{n}");
            let group = cluster.members[n % 3].as_ref().unwrap();
            (body.clone(), propose(group, vec![draft("T", 0, body)], vec![]))
        })
        .collect();
    let told: BTreeMap<usize, String> = asked
        .iter()
        .map(|(body, waiting)| {
            (usize::try_from(answer(waiting).places[0].queue_offset.0).unwrap(), body.clone())
        })
        .collect();
    let (_, leader) = cluster.leader();
    let stored = bodies(&leader, "T", 0);
    assert_eq!(told.into_values().collect::<Vec<_>>(), stored);
}

#[test]
fn what_a_follower_is_asked_while_its_leader_dies_is_done_once_and_in_order() {
    let mut cluster = Cluster::patient(3);
    let follower = follower(&cluster);
    let (leader, group) = cluster.leader();
    let before: Vec<Waiting> =
        (0..200).map(|n| propose(&follower, vec![draft("T", 0, format!("{n}"))], vec![])).collect();
    group.0.proposer.close(); // or the leader hands over when it stops
    drop(group);
    cluster.stop(leader);
    let after: Vec<Waiting> = (200..400)
        .map(|n| propose(&follower, vec![draft("T", 0, format!("{n}"))], vec![]))
        .collect();
    let told: Vec<u64> =
        before.iter().chain(&after).map(|w| answer(w).places[0].queue_offset.0).collect();
    assert_eq!(told, (0..400).collect::<Vec<u64>>());
    let (_, next) = cluster.leader();
    let want: Vec<String> = (0..400).map(|n| n.to_string()).collect();
    assert_eq!(bodies(&next, "T", 0), want);
}

#[test]
fn nobody_notices_that_a_leader_stops() {
    let mut cluster = Cluster::patient(3);
    follower(&cluster);
    let (leader, group) = cluster.leader();
    let asked: Vec<Waiting> =
        (0..200).map(|n| propose(&group, vec![draft("T", 0, format!("{n}"))], vec![])).collect();
    let _holds = group.0.desk.hold();
    let held = propose(&group, vec![draft("T", 0, "held")], vec![]);
    drop(group);
    cluster.stop(leader);
    asked.iter().for_each(|waiting| drop(answer(waiting)));
    assert_eq!(answer(&held).places[0].queue_offset, QueueOffset(200));
}

#[test]
fn without_a_leader_who_asks_is_told_in_time_that_nothing_was_done() {
    let mut cluster = Cluster::new(3);
    let follower = follower(&cluster);
    let (leader, group) = cluster.leader();
    group.0.proposer.close(); // or the leader hands over when it stops
    drop(group);
    let other =
        cluster.running().find(|(i, g)| *i != leader && g.store_id() != follower.store_id());
    let other = other.unwrap().0;
    cluster.stop(other);
    cluster.stop(leader);
    let refused = until("it says who is missing", || {
        let asked = propose(&follower, vec![draft("T", 0, "x")], vec![]);
        match asked.recv_timeout(PATIENCE).unwrap() {
            // Just before it is found that a majority is.
            Err(ProposeError::NotLeader { .. }) => None,
            Err(ProposeError::NoLeader { why }) => Some(why),
            told => panic!("{told:?}"),
        }
    });
    for gone in [leader, other] {
        let gone = format!("n{gone} at ");
        assert!(refused.starts_with("a majority is missing: ") && refused.contains(&gone));
    }
    cluster.start(leader);
    let (_, next) = cluster.leader();
    send(&next, "T", 0, "y");
    assert_eq!(bodies(&next, "T", 0), ["y"]);
}

#[test]
fn a_leader_that_is_dead_for_long_is_not_called_the_leader() {
    let mut cluster = Cluster::new(3);
    let follower = follower(&cluster);
    let (leader, group) = cluster.leader();
    group.0.proposer.close(); // or the leader hands over when it stops
    drop(group);
    let other =
        cluster.running().find(|(i, g)| *i != leader && g.store_id() != follower.store_id());
    let other = other.unwrap().0;
    cluster.stop(other);
    cluster.stop(leader);
    let nobody = || matches!(follower.role(), crate::raft::Role::Follower { leader: None, .. });
    until("nobody is called the leader", || nobody().then_some(()));
    let asked = propose(&follower, vec![draft("T", 0, "x")], vec![]);
    let refused = asked.recv_timeout(PATIENCE).unwrap();
    use ProposeError::{NoLeader, NotLeader};
    let is_unled = |why: &ProposeError| matches!(why, NotLeader { leader: None } | NoLeader { .. });
    assert!(refused.as_ref().is_err_and(is_unled), "{refused:?}");
    assert!(nobody(), "{:?}", follower.role());
    cluster.start(leader);
    cluster.leader();
    until("somebody leads", || (!nobody()).then_some(()));
}

#[test]
fn nothing_is_passed_on_before_all_members_are_known_to_read_it() {
    let cluster = Cluster::patient(3);
    let follower = follower(&cluster);
    let (_, leader) = cluster.leader();
    for (n, (what, gate)) in (0..).zip([("at the follower", &follower), ("at the leader", &leader)])
    {
        let active = gate.0.state.active();
        active.set(GroupVersion::FIRST);
        let asked = propose(&follower, vec![draft("T", 0, "asked")], vec![]);
        send(&leader, "T", 1, "other");
        until("the follower hears of other messages", || {
            (follower.queues().next("T", 1) == QueueOffset(n + 1)).then_some(())
        });
        assert!(asked.try_recv().is_err(), "{what}");
        assert_eq!(leader.end_of_queue("T", 0), QueueOffset(n), "{what}");
        active.set(GroupVersion::NEWEST);
        assert_eq!(answer(&asked).places[0].queue_offset, QueueOffset(n), "{what}");
    }
}

#[test]
fn what_was_passed_on_to_a_leader_that_died_does_not_need_somebody_to_ask_again() {
    let mut cluster = Cluster::patient(3);
    let follower = follower(&cluster);
    let (leader, group) = cluster.leader();
    group.0.proposer.close(); // or the leader hands over when it stops
    let _holds = group.0.desk.hold();
    drop(group);
    let asked = propose(&follower, vec![draft("T", 0, "only")], vec![]);
    until("it is passed on", || follower.0.desk.is_in_doubt().then_some(()));
    cluster.stop(leader);
    assert_eq!(answer(&asked).places[0].queue_offset, QueueOffset(0));
}
