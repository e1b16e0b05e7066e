//! Leadership that changes hands while all live, over real sockets and files.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::group_tests::{Cluster, bodies, draft, propose, send, until};
use super::{Group, TransferError, Transferred, Unfit};
use crate::clock;

const PATIENCE: Duration = Duration::from_secs(20);
/// On a busy machine; some milliseconds on an idle one.
const BUMP_MAX: Duration = Duration::from_secs(1);

fn transfer(group: &Group, to: Option<&str>) -> Result<Transferred, TransferError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(group.transfer(to))
}

fn leave(group: &Group) -> Result<Transferred, TransferError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(group.leave())
}

/// Transfers to `to`, again while it is not near enough yet.
fn transfer_when_it_can(cluster: &Cluster, to: &str) -> Transferred {
    until("it leads", || match transfer(&cluster.leader().1, Some(to)) {
        Ok(transferred) => Some(transferred),
        Err(TransferError::Unfit { .. } | TransferError::NotLeader { .. }) => None,
        Err(other) => panic!("{other:?}"),
    })
}

/// Sends one message after the other to `group`, a few at a time, until told to end, and counts
/// `answers`; the numbers it was told in the order in which it sent, and the longest wait between
/// two answers.
fn produce(
    group: &Group,
    queue: u32,
    (answers, ends): (&AtomicU64, &AtomicBool),
) -> (Vec<u64>, Duration) {
    let (mut told, mut waiting) = (Vec::new(), VecDeque::new());
    let (mut last, mut longest) = (clock::now(), Duration::ZERO);
    for n in 0.. {
        let over = ends.load(Ordering::Relaxed);
        if !over {
            waiting.push_back(propose(group, vec![draft("T", queue, n.to_string())], vec![]));
        }
        while waiting.len() > if over { 0 } else { 8 } {
            let answer = waiting.pop_front().unwrap().recv_timeout(PATIENCE).unwrap();
            told.push(answer.unwrap().places[0].queue_offset.0);
            let now = clock::now();
            (longest, last) = (longest.max(now.duration_since(last)), now);
            answers.fetch_add(1, Ordering::Relaxed);
        }
        if over {
            break;
        }
    }
    (told, longest)
}

#[test]
fn under_load_everything_is_answered_in_order_while_leadership_goes_round() {
    let cluster = Cluster::patient(3);
    let (_, first) = cluster.leader();
    send(&first, "U", 0, "before");
    let ends = AtomicBool::new(false);
    let answers: [AtomicU64; 3] = Default::default();
    let (produced, held) = std::thread::scope(|scope| {
        let producers: Vec<_> = (0..3_u32)
            .map(|queue| {
                let group = cluster.members[queue as usize].as_ref().unwrap();
                let shared = (&answers[queue as usize], &ends);
                scope.spawn(move || produce(group, queue, shared))
            })
            .collect();
        let held: Vec<Duration> = ["n1", "n2", "n0", "n2", "n1", "n0"]
            .into_iter()
            .filter(|to| cluster.leader().1.status().leader.as_deref() != Some(to))
            .map(|to| {
                let transferred = transfer_when_it_can(&cluster, to);
                assert_eq!(transferred.leader, to);
                let goal = answers.each_ref().map(|n| n.load(Ordering::Relaxed) + 50);
                let there = || (0..3).all(|i| answers[i].load(Ordering::Relaxed) >= goal[i]);
                until("everybody is answered again", || there().then_some(()));
                transferred.held
            })
            .collect();
        ends.store(true, Ordering::Relaxed);
        let produced: Vec<_> = producers.into_iter().map(|p| p.join().unwrap()).collect();
        (produced, held)
    });
    let (_, leader) = cluster.leader();
    for (queue, (told, longest)) in (0..).zip(produced) {
        assert_eq!(told, (0..told.len() as u64).collect::<Vec<_>>(), "in order, each once");
        let want: Vec<String> = (0..told.len()).map(|n| n.to_string()).collect();
        assert_eq!(bodies(&leader, "T", queue), want);
        assert!(longest < BUMP_MAX, "{longest:?}");
    }
    assert!(held.iter().all(|held| *held < BUMP_MAX), "{held:?}");
}

#[test]
fn whoever_is_nearest_takes_over_and_the_former_leader_serves_on() {
    let cluster = Cluster::patient(3);
    let (_, leader) = cluster.leader();
    send(&leader, "T", 0, "before");
    let term = leader.role().term();
    let done = until("somebody takes over", || transfer(&leader, None).ok());
    assert_ne!(done.leader, done.from);
    assert!(done.term > term);
    assert_eq!(send(&leader, "T", 0, "through who led").places[0].queue_offset.0, 1);
}

#[test]
fn what_cannot_be_is_refused_with_the_reason_and_the_leader_goes_on() {
    let mut cluster = Cluster::patient(3);
    let (i, leader) = cluster.leader();
    send(&leader, "T", 0, "before");
    let term = leader.role().term();
    let name = |i: usize| format!("n{i}");
    let own = name(i);
    assert_eq!(transfer(&leader, Some(&own)), Err(TransferError::Leads { name: own.clone() }));
    let unknown = transfer(&leader, Some("n7")).unwrap_err().to_string();
    assert_eq!(unknown, "the group has no member n7; it has n0, n1, n2");
    let dead = (i + 1) % 3;
    let other = cluster.members[(i + 2) % 3].clone().unwrap();
    until("it knows who leads", || other.role().leader("").map(drop));
    let refused = transfer(&other, None).unwrap_err();
    assert_eq!(refused, TransferError::NotLeader { leader: Some(own) });
    cluster.stop(dead);
    let refused = transfer(&leader, Some(&name(dead))).unwrap_err();
    let TransferError::Unfit { why: Unfit::Silent { .. }, .. } = refused else {
        panic!("{refused}")
    };
    send(&leader, "T", 0, "after");
    assert_eq!(leader.role().term(), term);
}

#[test]
fn an_emptied_member_is_given_nothing_before_it_votes_and_has_everything() {
    let mut cluster = Cluster::patient(3);
    let (i, leader) = cluster.leader();
    let body = "x".repeat(100 * 1024);
    let waiting: Vec<_> =
        (0..40).map(|_| propose(&leader, vec![draft("T", 0, &body)], vec![])).collect();
    waiting.iter().for_each(|sent| drop(sent.recv_timeout(PATIENCE).unwrap().unwrap()));
    let emptied = (i + 1) % 3;
    cluster.stop(emptied);
    std::fs::remove_dir_all(cluster.dir.path().join(format!("n{emptied}"))).unwrap();
    cluster.start(emptied);
    let member = cluster.members[emptied].clone().unwrap();
    let to = format!("n{emptied}");
    let done = until("it leads", || match transfer(&leader, Some(&to)) {
        Ok(done) => Some(done),
        Err(
            TransferError::Learner { .. }
            | TransferError::Unfit { why: Unfit::Behind { .. } | Unfit::Silent { .. }, .. },
        ) => None,
        Err(other) => panic!("{other:?}"),
    });
    assert_eq!(done.leader, to);
    assert_eq!(bodies(&member, "T", 0).len(), 40);
    assert_eq!(send(&leader, "T", 0, "after").places[0].queue_offset.0, 40);
}

#[test]
fn a_group_of_one_has_nobody_to_give_it_to() {
    let cluster = Cluster::patient(1);
    let (_, group) = cluster.leader();
    let refused = transfer(&group, None).unwrap_err().to_string();
    assert_eq!(refused, "nobody can take over: there is no other member; n0 goes on leading");
    assert!(matches!(transfer(&group, Some("n0")), Err(TransferError::Leads { .. })));
    send(&group, "T", 0, "after");
}

#[test]
fn the_preferred_member_leads_until_an_operator_wants_another_one_and_again_when_it_starts_anew() {
    let mut cluster = Cluster::preferring(3, "n1");
    let leads = |cluster: &Cluster, i: usize| {
        until(&format!("n{i} leads"), || (cluster.leader().0 == i).then_some(()));
    };
    leads(&cluster, 1);
    let first = cluster.leader().1;
    first.give_way(); // nobody asked for another leader
    let term = first.role().term();
    until("it has given way, and leads again", || {
        let (i, leader) = cluster.leader();
        (i == 1 && leader.role().term().0 > term.0 + 1).then_some(())
    });
    transfer_when_it_can(&cluster, "n2");
    leads(&cluster, 2);
    (0..100).for_each(|n| drop(send(&cluster.leader().1, "T", 0, &format!("m{n}"))));
    assert_eq!(cluster.leader().0, 2);
    cluster.stop(1);
    cluster.start(1);
    leads(&cluster, 1);
}

#[test]
fn who_is_about_to_stop_is_heir_only_if_nobody_else_is() {
    let cluster = Cluster::patient(3);
    let (leads, first) = cluster.leader();
    send(&first, "T", 0, "before");
    let others = || (0..3).filter(|n| *n != leads);
    // The last by name would be it otherwise.
    let (stays, leaves) = (others().next().unwrap(), others().next_back().unwrap());
    let leaving = cluster.members[leaves].as_ref().unwrap();
    until("it knows who leads", || match leave(leaving) {
        Err(TransferError::NotLeader { leader: Some(_) }) => Some(()),
        _ => None,
    });
    let went_to = until("somebody is near", || leave(&first).ok()).leader;
    assert_eq!(went_to, format!("n{stays}"));
    // Who leads does not leave any more, as far as others know; both others do.
    let (leads, leader) = cluster.leader();
    assert_eq!(leads, stays);
    let went_to = until("one of them, rather than nobody", || leave(&leader).ok()).leader;
    assert_ne!(went_to, format!("n{leads}"));
}
