//! Members that get what they lack while clients send: real members on loopback.

use std::time::Duration;

use super::group_tests::{Cluster, PATIENCE, bodies, draft, propose, send, until};
use super::members_tests::{Site, name};
use super::{Group, MemberStatus, Part};
use crate::clock;
use crate::store::retention::Rules;

const MIB: usize = 1024 * 1024;
const BODY: usize = 128 * 1024;

/// Stores so many MiB, in messages of some size.
fn fill(group: &Group, mib: usize) {
    group.set_retention(Rules::default()); // nothing of it goes
    let body = "x".repeat(BODY);
    for _ in 0..mib * MIB / BODY {
        let sent = propose(group, vec![draft("big", 0, &body)], vec![]);
        sent.recv_timeout(PATIENCE).unwrap().unwrap();
    }
}

fn status_of(group: &Group, member: &str) -> Option<MemberStatus> {
    group.members().into_iter().find(|status| status.name == member)
}

#[test]
fn a_learner_gets_the_log_at_the_limit_while_clients_send_and_says_how_far_it_is() {
    const LIMIT: usize = 4 * MIB;
    let mut site = Site::new(1);
    let leader = site.group(0);
    fill(&leader, 17);
    leader.set_catch_up(LIMIT as u64);
    site.start(1, &[0, 1]);
    site.says(1, "run rmq-admin memberAdd n1 ");
    let began = clock::now();
    site.change(&site.add(1, Part::Learner));
    let (mut percents, mut sent, mut slowest) = (Vec::new(), 0_usize, Duration::ZERO);
    until("it has all but what needs no limit", || {
        let asked = clock::now();
        send(&leader, "T", 0, &sent.to_string());
        (sent, slowest) = (sent + 1, slowest.max(asked.elapsed()));
        let learner = status_of(&leader, &name(1))?;
        percents.extend(learner.catch_up.map(|catch_up| catch_up.percent));
        (learner.catch_up.is_none() && learner.behind? < 100 && learner.matched.is_some())
            .then_some(())
    });
    let took = began.elapsed();
    // Of 17 MiB 8 go without a limit, and what went last is not waited for.
    let least = Duration::from_secs_f64(((17 - 8 - 2) * MIB) as f64 / LIMIT as f64 * 0.9);
    assert!(took >= least, "{took:?}, not {least:?}");
    assert!(sent > 50 && slowest < Duration::from_secs(1), "{sent} sends, {slowest:?}");
    assert!(percents.is_sorted() && percents.iter().any(|p| (1..100).contains(p)), "{percents:?}");
    let learner = site.group(1);
    until("it has what was sent", || (bodies(&learner, "T", 0).len() == sent).then_some(()));
    let metric = || leader.status().peers.first().and_then(|peer| peer.behind_bytes);
    until("nothing is behind", || (metric() == Some(0)).then_some(()));
}

#[test]
fn a_voter_that_comes_back_is_not_held_up() {
    let mut cluster = Cluster::new(3);
    let (at, leader) = cluster.leader();
    let (away, other) = ((at + 1) % 3, (at + 2) % 3);
    cluster.stop(away);
    for i in [at, other] {
        cluster.members[i].as_ref().unwrap().set_catch_up(1);
    }
    fill(&leader, 17);
    cluster.start(away);
    let end = leader.status().applied_position;
    let back = cluster.members[away].clone().unwrap();
    until("it has everything", || (back.status().applied_position >= end).then_some(()));
}
