//! Properties of any history of registrations, silence and closed connections.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{tests::*, *};
use crate::{
    clock,
    namesrv::{routes::Prospect, slots::Slots},
};

#[derive(Debug, Clone)]
enum Step {
    Register {
        group: u8,
        id: u64,
        port: u16,
        term: i64,
        topics: u8,
        extent: Extent,
        takes_writes: bool,
    },
    Unregister {
        group: u8,
        port: u16,
    },
    Heartbeat {
        group: u8,
        port: u16,
    },
    Disconnect {
        port: u16,
    },
    Pass {
        seconds: u64,
    },
    Wipe {
        group: u8,
    },
    DeleteTopic {
        topic: u8,
        in_cluster: bool,
    },
}

const TOPICS: [&str; 4] = ["T0", "T1", "T2", "T3"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let group = || 0..3_u8;
    let port = || 1..6_u16;
    let extent = prop_oneof![Just(Extent::Unstated), Just(Extent::Complete), Just(Extent::Changes)];
    let register = (group(), 0..4_u64, port(), 0..6_i64, 0..16_u8, extent, any::<bool>()).prop_map(
        |(group, id, port, term, topics, extent, takes_writes)| Step::Register {
            group,
            id,
            port,
            term,
            topics,
            extent,
            takes_writes,
        },
    );
    let step = prop_oneof![
        8 => register,
        1 => (group(), port()).prop_map(|(group, port)| Step::Unregister { group, port }),
        2 => (group(), port()).prop_map(|(group, port)| Step::Heartbeat { group, port }),
        2 => port().prop_map(|port| Step::Disconnect { port }),
        2 => (1..15_u64).prop_map(|seconds| Step::Pass { seconds }),
        1 => group().prop_map(|group| Step::Wipe { group }),
        1 => (0..4_u8, any::<bool>())
            .prop_map(|(topic, in_cluster)| Step::DeleteTopic { topic, in_cluster }),
    ];
    prop::collection::vec(step, 1..60)
}

fn name(group: u8) -> String {
    format!("G{group}")
}

/// What must be so whatever happened: the last sign of life of every broker that may be told, by
/// group and address.
#[derive(Default)]
struct Model {
    alive: BTreeMap<(String, String), Instant>,
}

const SILENCE_MAX: Duration = Duration::from_secs(20);

fn apply(table: &mut RouteTable, model: &mut Model, now: &mut Instant, step: &Step) {
    let key = |group: u8, port: u16| (name(group), format!("h:{port}"));
    match *step {
        Step::Register { group, id, port, term, topics, extent, takes_writes } => {
            let chosen: Vec<_> =
                (0..4).filter(|n| topics & (1 << n) != 0).map(|n| TOPICS[n]).collect();
            let registration = Registration {
                version: version(term, 1),
                extent,
                takes_writes,
                silence_max: SILENCE_MAX,
                ..broker(&name(group), id, port, &chosen)
            };
            let channel = Channel(u64::from(port));
            let entered = table.register(&registration, Rules::default(), channel, *now);
            if matches!(entered, Ok(Registered::Entered { .. })) {
                model.alive.insert(key(group, port), *now);
            }
        }
        Step::Unregister { group, port } => {
            let (group, address) = key(group, port);
            table.unregister(&group, &address, *now);
            model.alive.remove(&(group, address));
        }
        Step::Heartbeat { group, port } => {
            let (group, address) = key(group, port);
            table.heartbeat(&group, &address, Channel(u64::from(port)), *now);
            if let Some(seen) = model.alive.get_mut(&(group, address)) {
                *seen = *now;
            }
        }
        Step::Disconnect { port } => {
            table.disconnect(Channel(u64::from(port)), *now);
            model.alive.retain(|(_, address), _| *address != format!("h:{port}"));
        }
        Step::Pass { seconds } => {
            *now += Duration::from_secs(seconds);
            table.expire(*now);
            model.alive.retain(|_, seen| *seen + SILENCE_MAX >= *now);
        }
        Step::Wipe { group } => {
            table.wipe_write_perm(&name(group));
        }
        Step::DeleteTopic { topic, in_cluster } => {
            table.delete_topic(TOPICS[usize::from(topic)], in_cluster.then_some("C"));
        }
    }
}

fn check(table: &RouteTable, model: &Model) {
    for topic in table.all_topics().topic_list {
        let route = table.route_of(&topic, None, Slots::Shown).expect("every topic has a route");
        assert_eq!(route.broker_datas.len(), route.queue_datas.len());
        for mut group in route.broker_datas {
            if let Some(name) = group.broker_name.strip_suffix("~1") {
                group.broker_name = name.to_owned();
            }
            let mut addresses = BTreeSet::new();
            assert!(!group.broker_addrs.is_empty(), "{group:?}");
            for address in group.broker_addrs.values() {
                let key = (group.broker_name.clone(), address.clone());
                assert!(model.alive.contains_key(&key), "{key:?} is told but not live");
                assert!(
                    addresses.insert(address),
                    "{address} has two ids in {}",
                    group.broker_name
                );
            }
        }
    }
    for (name, group) in &table.groups {
        let has_leader = group.members.contains_key(&LEADER);
        assert_eq!(group.leaderless_since.is_none(), has_leader, "{name}");
        if let Some(leader) = group.members.get(&LEADER) {
            assert!(leader.version.state_version >= group.leader_term, "{name}");
        }
    }
    let pairs: usize = table.groups.keys().map(|name| table.topics.of_group(name).count()).sum();
    assert_eq!(table.topics.pairs(), pairs, "topics of groups that are not there");
}

proptest! {
    #[test]
    fn only_live_brokers_are_told_each_under_one_id(steps in steps()) {
        let (mut table, mut model, mut now) =
            (RouteTable::default(), Model::default(), clock::now());
        for step in &steps {
            apply(&mut table, &mut model, &mut now, step);
            check(&table, &model);
        }
    }

    #[test]
    fn who_leads_anew_is_of_no_older_term_than_who_is_there(steps in steps()) {
        let (mut table, mut model, mut now) =
            (RouteTable::default(), Model::default(), clock::now());
        let leader = |group: &Group| group.members.get(&LEADER).map(|m| Arc::clone(&m.address));
        for step in &steps {
            let had: BTreeSet<_> =
                table.groups.iter().filter(|(_, g)| leader(g).is_some()).map(|(n, _)| n.clone()).collect();
            apply(&mut table, &mut model, &mut now, step);
            for (name, group) in table.groups.iter().filter(|(name, _)| !had.contains(*name)) {
                let Some(leader) = group.members.get(&LEADER) else { continue };
                let newest = group.members.values().map(|m| m.version.state_version).max();
                prop_assert_eq!(newest, Some(leader.version.state_version), "{}", name);
            }
        }
    }

    #[test]
    fn a_term_falls_only_when_nobody_has_led_for_long(steps in steps()) {
        let (mut table, mut model, mut now) =
            (RouteTable::default(), Model::default(), clock::now());
        let mut terms: BTreeMap<String, i64> = BTreeMap::new();
        for step in &steps {
            let since = |(name, group): (&Arc<str>, &Group)| {
                Some((name.to_string(), group.leaderless_since?))
            };
            let leaderless: BTreeMap<String, Instant> =
                table.groups.iter().filter_map(since).collect();
            apply(&mut table, &mut model, &mut now, step);
            terms.retain(|name, _| table.groups.contains_key(name.as_str()));
            for (name, group) in &table.groups {
                let before = terms.insert(name.to_string(), group.leader_term);
                let is_old = leaderless.get(&**name).is_some_and(|since| *since + TERM_KEPT <= now);
                let falls = before.is_some_and(|before| before > group.leader_term);
                assert!(!falls || is_old, "{name}");
            }
        }
    }
}

#[test]
fn a_route_is_worth_waiting_for_only_during_an_election_without_any_leader() {
    let mut net = Net::new();
    let settled = Prospect::Settled;
    assert_eq!(net.table.prospect("T"), settled, "unknown topic");
    net.enter(&raft(0, 1, 5, &["T", "U"]));
    net.enter(&raft(2, 2, 5, &["T", "U"]));
    assert_eq!(net.table.prospect("T"), settled);
    net.table.disconnect(Channel(1), net.now);
    let until = net.now + Duration::from_secs(5);
    assert_eq!(net.table.prospect("T"), Prospect::Electing { until });
    net.enter(&broker("H", 0, 3, &["U", "V"]));
    assert_eq!(net.table.prospect("U"), settled, "another group takes writes");
    net.enter(&raft(0, 2, 6, &["T", "U"]));
    assert_eq!(net.table.prospect("T"), settled);

    net.enter(&broker("J", 1, 4, &["W", "X"]));
    assert_eq!(net.table.prospect("W"), settled, "not a Raft group: nobody is elected");
}
