//! Who stands behind a slot, which topics it serves, and what clients and tools see of it.

use proptest::prelude::*;

use super::*;
use crate::namesrv::{
    registration::{Channel, Registration},
    route_table::{
        RouteTable,
        tests::{Net, broker, raft},
    },
    routes::Prospect,
};

/// A member that takes writes.
fn taker(id: u64, port: u16, topics: &[&str]) -> Registration {
    Registration { takes_writes: true, ..raft(id, port, 5, topics) }
}

/// A topic's broker names, each with what stands behind id 0 and its queues to read and write.
fn route(table: &RouteTable, topic: &str) -> Vec<(String, Option<String>, (u32, u32))> {
    let route = table.route_of(topic, None, Slots::Shown).unwrap_or_default();
    let pairs = route.broker_datas.into_iter().zip(route.queue_datas);
    pairs
        .map(|(mut broker, queues)| {
            assert_eq!(broker.broker_name, queues.broker_name);
            let leader = broker.broker_addrs.remove(&LEADER);
            (broker.broker_name, leader, (queues.read_queue_nums, queues.write_queue_nums))
        })
        .collect()
}

fn slot_of(table: &RouteTable, topic: &str) -> Option<String> {
    route(table, topic).into_iter().find(|(name, ..)| names::is_slot(name))?.1
}

#[test]
fn behind_a_slot_stands_the_first_follower_that_takes_writes_or_else_the_leader() {
    // (broker id, takes writes), the id behind the slot
    type Row = (&'static [(u64, bool)], Option<u64>);
    let rows: [Row; 8] = [
        (&[(0, true), (2, true), (3, true)], Some(2)),
        (&[(0, true), (2, false), (3, true)], Some(3)),
        (&[(0, false), (2, false), (3, true)], Some(3)),
        (&[(0, true), (2, false), (3, false)], Some(0)),
        (&[(0, true)], Some(0)),
        (&[(1, true), (3, true)], Some(1)),
        (&[(1, false), (3, false)], None),
        (&[(0, false), (1, false), (2, false)], None),
    ];
    for (members, want) in rows {
        let mut net = Net::new();
        for &(id, takes_writes) in members {
            net.enter(&Registration { takes_writes, ..raft(id, 100 + id as u16, 5, &["T"]) });
        }
        let want = want.map(|id| format!("h:{}", 100 + id));
        assert_eq!(address(&net.table.groups["G"]).map(ToString::to_string), want, "{members:?}");
        assert_eq!(slot_of(&net.table, "T"), want, "{members:?}");
    }
}

#[test]
fn slots_serve_what_applications_write_in_no_order() {
    let plain = Queues { read: 8, write: 8, perm: 6, sys_flag: 0, ordered: false };
    let rows = [
        ("T", plain, true),
        ("T", Queues { perm: 2, read: 0, ..plain }, true),
        ("T", Queues { perm: 4, ..plain }, false),
        ("T", Queues { write: 0, ..plain }, false),
        ("T", Queues { ordered: true, ..plain }, false),
        ("%RETRY%g", plain, false),
        ("%DLQ%g", plain, false),
        ("TBW102", plain, false),
        ("RMQ_SYS_TRACE_TOPIC", plain, false),
        ("rmq_sys_wheel_timer", plain, false),
        ("G", plain, false),
        ("C", plain, false),
        ("C_REPLY_TOPIC", plain, false),
        ("GG", plain, true),
    ];
    for (topic, queues, want) in rows {
        assert_eq!(serves(topic, queues, "G", "C"), want, "{topic} {queues:?}");
    }
}

#[test]
fn slots_come_after_all_groups_and_have_one_queue_for_writing() {
    let mut net = Net::new();
    net.enter(&taker(0, 1, &["T"]));
    net.enter(&taker(2, 2, &["T"]));
    net.enter(&Registration { group: Arc::from("H"), ..taker(0, 3, &["T"]) });
    net.enter(&broker("J", 0, 4, &["T", "U"]));
    let at = |port: u16| Some(format!("h:{port}"));
    let want = [
        ("G", at(1), (4, 4)),
        ("H", at(3), (4, 4)),
        ("J", at(4), (4, 4)),
        ("G~1", at(2), (0, 1)),
        ("H~1", at(3), (0, 1)),
    ];
    assert_eq!(route(&net.table, "T"), want.map(|(name, at, q)| (name.to_owned(), at, q)));
    let told = net.table.route_of("T", None, Slots::Shown).unwrap();
    assert_eq!((told.queue_datas[3].perm, told.queue_datas[3].topic_sys_flag), (perm::WRITE, 0));
    assert_eq!(told.broker_datas[3].cluster, "C");

    let hidden = net.table.route_of("T", None, Slots::Hidden).unwrap();
    assert_eq!(hidden.broker_datas[..], told.broker_datas[..3]);
    assert_eq!(hidden.queue_datas[..], told.queue_datas[..3]);
    net.table.wipe_write_perm("G");
    assert_eq!(slot_of(&net.table, "T"), at(3), "nobody shall write to G");
    net.enter(&Registration { group: Arc::from("H~1"), ..raft(0, 5, 5, &["T"]) });
    assert_eq!(slot_of(&net.table, "T"), at(5), "a group of that name is what it says");
}

#[test]
fn a_slot_is_of_its_groups_zone() {
    let mut net = Net::new();
    net.enter(&Registration { zone: Some(Arc::from("a")), ..taker(0, 1, &["T"]) });
    let names = |zone| -> Vec<String> {
        let route = net.table.route_of("T", Some(zone), Slots::Shown).unwrap_or_default();
        route.broker_datas.into_iter().map(|broker| broker.broker_name).collect()
    };
    assert_eq!((names("a").len(), names("b").len()), (2, 0));
}

#[test]
fn slots_can_be_looked_up_but_are_in_no_cluster() {
    let mut net = Net::new();
    net.enter(&taker(0, 1, &["T"]));
    net.enter(&taker(2, 2, &["T"]));
    let info = net.table.cluster_info(Slots::Shown);
    let groups: Vec<_> = info.cluster_addr_table["C"].iter().collect();
    assert_eq!(groups, ["G"]);
    assert_eq!(info.broker_addr_table["G~1"].broker_addrs[&LEADER], "h:2");
    let hidden = net.table.cluster_info(Slots::Hidden);
    assert_eq!(hidden.broker_addr_table.keys().collect::<Vec<_>>(), ["G"]);
}

#[test]
fn an_election_is_waited_for_with_a_slot_as_well_and_the_slot_outlasts_it() {
    let mut net = Net::new();
    for (id, port) in [(0, 1), (2, 2), (3, 3)] {
        net.enter(&taker(id, port, &["T"]));
    }
    assert_eq!(slot_of(&net.table, "T").as_deref(), Some("h:2"));
    net.table.disconnect(Channel(1), net.now);
    assert!(matches!(net.table.prospect("T"), Prospect::Electing { .. }));
    let leaderless = [("G".to_owned(), None, (4, 4)), slot("h:2")];
    assert_eq!(route(&net.table, "T"), leaderless, "when the election takes too long");
    net.enter(&Registration { takes_writes: true, ..raft(0, 2, 6, &["T"]) });
    assert_eq!(net.table.prospect("T"), Prospect::Settled);
    let led = [("G".to_owned(), Some("h:2".to_owned()), (4, 4)), slot("h:3")];
    assert_eq!(route(&net.table, "T"), led);
    net.table.disconnect(Channel(3), net.now);
    assert_eq!(slot_of(&net.table, "T").as_deref(), Some("h:2"), "moved at once");
}

fn slot(address: &str) -> (String, Option<String>, (u32, u32)) {
    ("G~1".to_owned(), Some(address.to_owned()), (0, 1))
}

proptest! {
    #[test]
    fn followers_that_come_and_go_change_no_queue_of_a_led_group(
        steps in prop::collection::vec((1..4_u64, prop::option::of(any::<bool>())), 0..40)
    ) {
        let mut net = Net::new();
        net.enter(&taker(0, 1, &["T"]));
        let queues = net.table.route_of("T", None, Slots::Shown).unwrap().queue_datas;
        let mut takers = std::collections::BTreeSet::new();
        for (id, takes_writes) in steps {
            let port = 100 + id as u16;
            takers.remove(&port);
            match takes_writes {
                Some(takes_writes) => {
                    net.enter(&Registration { takes_writes, ..raft(id, port, 5, &["T"]) });
                    takers.extend(takes_writes.then_some(port));
                }
                None => {
                    net.table.disconnect(Channel(u64::from(port)), net.now);
                }
            }
            let now = net.table.route_of("T", None, Slots::Shown).unwrap().queue_datas;
            prop_assert_eq!(&now, &queues);
            let want = format!("h:{}", takers.first().unwrap_or(&1));
            prop_assert_eq!(slot_of(&net.table, "T"), Some(want));
        }
    }
}
