//! One test per rule of RocketMQ's registration, of the term fence, and of how brokers leave.

use super::*;
use crate::clock;

pub(in crate::namesrv) fn broker(group: &str, id: u64, port: u16, topics: &[&str]) -> Registration {
    let queues = Queues { read: 4, write: 4, perm: 6, sys_flag: 0, ordered: false };
    Registration {
        cluster: Arc::from("C"),
        group: Arc::from(group),
        address: Arc::from(format!("h:{port}")),
        ha_address: Arc::from(format!("h:{}", port + 1)),
        broker_id: id,
        version: version(0, 1),
        topics: topics
            .iter()
            .map(|topic| TopicEntry { topic: Arc::from(*topic), queues })
            .collect(),
        extent: Extent::Unstated,
        acting_master: Some(false),
        takes_writes: false,
        zone: None,
        silence_max: Duration::from_secs(120),
    }
}

/// A member of a Raft group of ours.
pub(in crate::namesrv) fn raft(id: u64, port: u16, term: i64, topics: &[&str]) -> Registration {
    let extent = Extent::Complete;
    Registration { version: version(term, 1), extent, ..broker("G", id, port, topics) }
}

pub(in crate::namesrv) fn version(state_version: i64, counter: i64) -> DataVersion {
    DataVersion { state_version, counter, timestamp: 7 }
}

pub(in crate::namesrv) struct Net {
    pub(in crate::namesrv) table: RouteTable,
    pub(in crate::namesrv) rules: Rules,
    pub(in crate::namesrv) now: Instant,
}

impl Net {
    pub(in crate::namesrv) fn new() -> Self {
        Self { table: RouteTable::default(), rules: Rules::default(), now: clock::now() }
    }

    /// Registers on a connection named by the port.
    fn register(&mut self, registration: &Registration) -> Result<Registered, Refusal> {
        let port = registration.address.rsplit_once(':').unwrap().1.parse().unwrap();
        self.table.register(registration, self.rules, Channel(port), self.now)
    }

    pub(in crate::namesrv) fn enter(&mut self, registration: &Registration) -> Change {
        match self.register(registration) {
            Ok(Registered::Entered { change, .. }) => change,
            other => panic!("{other:?}"),
        }
    }

    fn members(&self, group: &str) -> Vec<(u64, &str)> {
        let members = self.table.groups.get(group).into_iter().flat_map(|group| &group.members);
        members.map(|(id, member)| (*id, &*member.address)).collect()
    }

    fn topics(&self, group: &str) -> Vec<&str> {
        self.table.topics.of_group(group).map(|topic| &**topic).collect()
    }

    fn perm(&self, group: &str, topic: &str) -> u32 {
        self.table.topics.groups_of(topic).unwrap()[group].perm
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}

#[test]
fn a_broker_and_its_topics_are_entered_and_a_repetition_changes_nothing() {
    let mut net = Net::new();
    let leader = broker("G", 0, 1, &["T1", "T2"]);
    assert_eq!(net.enter(&leader), Change { members: true, topics: 2 });
    assert_eq!(net.enter(&leader), Change { members: false, topics: 0 });
    assert_eq!(net.members("G"), [(0, "h:1")]);
    assert_eq!(net.topics("G"), ["T1", "T2"]);
}

#[test]
fn an_address_that_registers_under_another_id_leaves_the_one_it_had() {
    let mut net = Net::new();
    for registration in [broker("G", 0, 1, &["T", "U"]), broker("G", 1, 2, &["T", "U"])] {
        net.enter(&registration);
    }
    assert!(net.enter(&broker("G", 2, 1, &["T", "U"])).members);
    assert_eq!(net.members("G"), [(1, "h:2"), (2, "h:1")]);
}

#[test]
fn a_place_held_with_a_newer_state_version_is_not_taken() {
    let mut net = Net::new();
    net.enter(&raft(0, 1, 5, &["T", "U"]));
    // (id, port, term), the version that stands against it
    let rows = [((0, 2, 4), Some(5)), ((0, 2, 5), None), ((0, 3, 6), None), ((0, 2, 5), Some(6))];
    for ((id, port, term), newer) in rows {
        let fenced = match net.register(&raft(id, port, term, &["T", "U"])).unwrap() {
            Registered::Fenced { newer } => Some(newer),
            Registered::Entered { .. } => None,
        };
        assert_eq!(fenced, newer, "id {id} port {port} term {term}");
    }
    assert_eq!(net.members("G"), [(0, "h:3")]);
}

#[test]
fn an_older_term_does_not_become_leader_even_while_there_is_none() {
    let mut net = Net::new();
    net.enter(&raft(0, 1, 5, &["T", "U"]));
    net.enter(&raft(2, 2, 5, &["T", "U"]));
    net.table.disconnect(Channel(1), net.now);
    assert_eq!(net.register(&raft(0, 3, 4, &["T"])), Ok(Registered::Fenced { newer: 5 }));
    assert_eq!(net.members("G"), [(2, "h:2")]);
    net.enter(&raft(0, 2, 6, &["T", "U"]));
    assert_eq!(net.members("G"), [(0, "h:2")]);
}

#[test]
fn a_fenced_follower_keeps_its_place_as_follower() {
    let mut net = Net::new();
    net.enter(&raft(0, 1, 5, &["T", "U"]));
    net.enter(&raft(2, 2, 4, &["T", "U"]));
    assert!(matches!(net.register(&raft(0, 2, 4, &["T"])), Ok(Registered::Fenced { newer: 5 })));
    assert_eq!(net.members("G"), [(0, "h:1"), (2, "h:2")]);
}

#[test]
fn a_late_registration_from_before_a_role_change_is_ignored() {
    let mut net = Net::new();
    net.enter(&raft(1, 1, 3, &["T", "U"]));
    net.enter(&raft(0, 1, 4, &["T", "U"]));
    assert_eq!(net.register(&raft(1, 1, 3, &["T"])), Ok(Registered::Fenced { newer: 4 }));
    assert_eq!(net.members("G"), [(0, "h:1")]);
}

#[test]
fn the_term_of_a_group_outlives_its_last_member_for_a_moment() {
    let mut net = Net::new();
    net.enter(&raft(0, 1, 5, &["T", "U"]));
    net.table.disconnect(Channel(1), net.now);
    assert_eq!(net.register(&raft(0, 2, 4, &["T"])), Ok(Registered::Fenced { newer: 5 }));
    net.enter(&raft(1, 2, 4, &["T", "U"]));
    assert_eq!(net.register(&raft(0, 2, 4, &["T"])), Ok(Registered::Fenced { newer: 5 }));
    net.table.disconnect(Channel(2), net.now);
    net.pass(TERM_KEPT);
    net.enter(&raft(0, 1, 1, &["T", "U"]));
}

#[test]
fn a_group_that_was_wiped_has_its_leader_in_routes_after_a_moment_whoever_came_first() {
    let mut net = Net::new();
    net.enter(&raft(0, 1, 5, &["T", "U"]));
    net.table.disconnect(Channel(1), net.now);
    net.enter(&raft(2, 2, 1, &["T", "U"])); // a follower, before its leader
    assert_eq!(net.register(&raft(0, 1, 1, &["T", "U"])), Ok(Registered::Fenced { newer: 5 }));
    net.pass(TERM_KEPT);
    net.enter(&raft(0, 1, 1, &["T", "U"]));
    assert_eq!(net.members("G"), [(0, "h:1"), (2, "h:2")]);
    net.enter(&raft(0, 2, 2, &["T", "U"]));
    assert_eq!(net.register(&raft(0, 1, 1, &["T", "U"])), Ok(Registered::Fenced { newer: 2 }));
}

#[test]
fn a_deposed_leader_has_no_way_back_into_a_living_group_however_long_nobody_leads() {
    let newer = 1000;
    // (term that a member of the group has registered, how long nobody has led)
    for (term, time) in [(6, Duration::ZERO), (6, 9 * TERM_KEPT), (newer, 9 * TERM_KEPT)] {
        let mut net = Net::new();
        net.enter(&raft(0, 1, 5, &["T", "U"]));
        net.enter(&raft(2, 2, 5, &["T", "U"]));
        net.table.disconnect(Channel(1), net.now);
        net.enter(&raft(2, 2, term, &["T", "U"])); // its new leader cannot reach this name server
        net.pass(time);
        let registered = net.register(&raft(0, 1, 5, &["T", "U"]));
        assert_eq!(registered, Ok(Registered::Fenced { newer: term }), "after {time:?}");
        net.enter(&raft(0, 3, term, &["T", "U"]));
        assert_eq!(net.members("G"), [(0, "h:3"), (2, "h:2")]);
    }
}

#[test]
fn members_of_before_a_survivor_started_the_group_anew_have_no_place_beside_it() {
    let mut net = Net::new();
    net.enter(&raft(0, 1, 7, &["T", "U"]));
    net.enter(&raft(2, 2, 7, &["T", "U"]));
    let anew = 7 + 1000;
    assert!(net.enter(&raft(0, 3, anew, &["T", "U"])).members);
    assert_eq!(net.members("G"), [(0, "h:3")], "they are gone with their leader");
    for (id, port) in [(0, 1), (2, 2)] {
        let registered = net.register(&raft(id, port, 9, &["T", "U"]));
        assert_eq!(registered, Ok(Registered::Fenced { newer: anew }), "id {id}");
    }
    net.enter(&raft(2, 2, anew - 3, &["T", "U"]));
    assert_eq!(net.members("G"), [(0, "h:3"), (2, "h:2")], "one that only lags behind");
    net.enter(&raft(0, 2, anew + 2, &["T", "U"]));
    assert_eq!(net.members("G"), [(0, "h:2")]);
    net.table.disconnect(Channel(2), net.now);
    net.table.disconnect(Channel(3), net.now);
    let registered = net.register(&raft(1, 1, 9, &["T", "U"]));
    assert_eq!(registered, Ok(Registered::Fenced { newer: anew + 2 }), "for a moment yet");
    net.pass(TERM_KEPT);
    net.enter(&raft(0, 1, 9, &["T", "U"]));
}

#[test]
fn one_topic_alone_does_not_create_a_broker_unless_it_is_the_whole_table() {
    let mut net = Net::new();
    let part = broker("G", 0, 1, &["T"]);
    assert_eq!(net.register(&part), Err(Refusal::IncrementalFromUnknown));
    assert_eq!(net.members("G"), []);
    net.enter(&broker("G", 0, 1, &["T", "U"]));
    let later = Registration { version: version(0, 2), ..broker("G", 0, 1, &["V"]) };
    assert_eq!(net.enter(&later).topics, 1);
    assert_eq!(net.topics("G"), ["T", "U", "V"]);
    let changes = Registration { extent: Extent::Changes, ..raft(0, 2, 1, &["T", "U"]) };
    let unknown = Registration { group: Arc::from("H"), ..changes };
    assert_eq!(net.register(&unknown), Err(Refusal::IncrementalFromUnknown));
    net.enter(&Registration { group: Arc::from("H"), ..raft(0, 2, 1, &["T"]) });
    net.enter(&broker("Empty", 0, 3, &[]));
}

#[test]
fn topics_come_from_the_leader_and_from_the_smallest_id_only_without_one() {
    let mut net = Net::new();
    let old = |id, port| Registration { acting_master: None, ..broker("G", id, port, &["T", "U"]) };
    net.enter(&old(1, 1));
    assert_eq!(net.topics("G"), [""; 0], "a broker before 5.x does not stand in");
    net.enter(&broker("G", 2, 2, &["T", "U"]));
    assert_eq!(net.topics("G"), [""; 0], "not the smallest");
    net.enter(&broker("G", 1, 1, &["T", "U"]));
    assert_eq!(net.topics("G"), ["T", "U"]);
    net.enter(&broker("G", 0, 3, &["V", "W"]));
    net.enter(&Registration { version: version(0, 9), ..broker("G", 1, 1, &["X", "Y"]) });
    assert_eq!(net.topics("G"), ["T", "U", "V", "W"]);
}

#[test]
fn a_stand_in_with_acting_master_is_read_only() {
    let mut net = Net::new();
    let acting =
        |id, port| Registration { acting_master: Some(true), ..broker("G", id, port, &["T", "U"]) };
    net.enter(&acting(1, 1));
    assert_eq!(net.perm("G", "T"), 4);
    net.enter(&acting(0, 2));
    assert_eq!(net.perm("G", "T"), 6);
    net.table.unregister("G", "h:2", net.now);
    assert_eq!(net.perm("G", "T"), 4, "the last master left");
}

#[test]
fn a_lagging_follower_fills_gaps_but_overwrites_nothing() {
    let mut net = Net::new();
    net.enter(&raft(0, 1, 1, &["T", "U"]));
    net.enter(&raft(1, 2, 1, &["T", "U"]));
    net.table.disconnect(Channel(1), net.now);
    net.table.wipe_write_perm("G");
    net.enter(&Registration { version: version(2, 9), ..raft(1, 2, 2, &["T", "V"]) });
    assert_eq!(net.topics("G"), ["T", "U", "V"]);
    assert_eq!((net.perm("G", "T"), net.perm("G", "V")), (4, 6));
}

#[test]
fn missing_topics_go_when_the_leader_says_complete_or_the_setting_says_so() {
    // (extent, setting, topics left of T, U after registering U, V)
    let rows: &[(Extent, bool, &[&str])] = &[
        (Extent::Unstated, false, &["T", "U", "V"]),
        (Extent::Unstated, true, &["U", "V"]),
        (Extent::Complete, false, &["U", "V"]),
        (Extent::Changes, false, &["T", "U", "V"]),
        (Extent::Changes, true, &["T", "U", "V"]),
    ];
    for (extent, delete_missing_topics, want) in rows {
        let mut net = Net::new();
        net.rules = Rules { delete_missing_topics: *delete_missing_topics };
        net.enter(&broker("G", 0, 1, &["T", "U"]));
        net.enter(&Registration { extent: *extent, ..broker("G", 0, 1, &["U", "V"]) });
        assert_eq!(net.topics("G"), *want, "{extent:?} {delete_missing_topics}");
    }
}

#[test]
fn known_topics_are_overwritten_only_with_another_version() {
    let mut net = Net::new();
    let leader = broker("G", 0, 1, &["T", "U"]);
    net.enter(&leader);
    assert_eq!(net.table.wipe_write_perm("G"), 2);
    net.enter(&leader);
    assert_eq!(net.perm("G", "T"), 4, "same version: what the operator did stays");
    net.enter(&Registration { version: version(0, 2), ..leader });
    assert_eq!(net.perm("G", "T"), 6);
    net.table.wipe_write_perm("G");
    assert_eq!(net.table.add_write_perm("G"), 2);
    assert_eq!(net.perm("G", "U"), 6);
}

#[test]
fn followers_are_told_where_the_leader_is() {
    let mut net = Net::new();
    let told = |net: &mut Net, registration: &Registration| match net.register(registration) {
        Ok(Registered::Entered { leader, .. }) => leader.map(|l| (l.address, l.ha_address)),
        other => panic!("{other:?}"),
    };
    assert_eq!(told(&mut net, &broker("G", 1, 1, &[])), None);
    assert_eq!(told(&mut net, &broker("G", 0, 2, &[])), None);
    let leader = (Arc::from("h:2"), Arc::from("h:3"));
    assert_eq!(told(&mut net, &broker("G", 1, 1, &[])), Some(leader));
}

#[test]
fn silence_is_measured_per_broker_and_any_sign_of_life_counts() {
    let mut net = Net::new();
    net.enter(&broker("G", 0, 1, &["T", "U"]));
    net.enter(&Registration { silence_max: Duration::from_secs(10), ..broker("G", 1, 2, &[]) });
    net.pass(Duration::from_secs(10));
    assert_eq!(net.table.expire(net.now), []);
    assert!(net.table.heartbeat("G", "h:2", Channel(2), net.now));
    net.pass(Duration::from_secs(11));
    let gone: Vec<_> = net.table.expire(net.now).into_iter().map(|d| d.broker_id).collect();
    assert_eq!(gone, [1]);
    assert!(net.table.query_version("G", "h:1", net.now).is_some());
    net.pass(Duration::from_secs(120));
    assert_eq!(net.table.expire(net.now), []);
    net.pass(Duration::from_millis(1));
    assert_eq!(net.table.expire(net.now).len(), 1);
    assert_eq!((net.members("G"), net.topics("G")), (vec![], vec![]));
}

#[test]
fn a_heartbeat_tells_whether_the_registration_holds_on_this_connection() {
    let mut net = Net::new();
    net.enter(&broker("G", 0, 1, &[]));
    let rows = [("G", "h:1", 1, true), ("G", "h:1", 9, false), ("G", "h:2", 1, false)];
    for (group, address, channel, known) in rows {
        let channel = Channel(channel);
        assert_eq!(net.table.heartbeat(group, address, channel, net.now), known, "{address}");
    }
    assert!(!net.table.heartbeat("nobody", "h:1", Channel(1), net.now));
}

#[test]
fn a_closed_connection_takes_only_what_was_last_registered_on_it() {
    let mut net = Net::new();
    net.enter(&broker("G", 0, 1, &["T", "U"]));
    net.enter(&broker("G", 1, 2, &[]));
    // The leader has a new connection; the old one's end is noticed late.
    net.table.register(&broker("G", 0, 1, &[]), net.rules, Channel(77), net.now).unwrap();
    assert_eq!(net.table.disconnect(Channel(1), net.now), []);
    let gone = net.table.disconnect(Channel(77), net.now);
    assert_eq!(gone.len(), 1);
    assert_eq!((gone[0].broker_id, &*gone[0].address), (0, "h:1"));
    assert_eq!(net.members("G"), [(1, "h:2")]);
    assert_eq!(net.topics("G"), ["T", "U"], "followers still serve them");
}

#[test]
fn with_the_last_member_go_its_topics() {
    let mut net = Net::new();
    net.enter(&broker("G", 0, 1, &["T", "U"]));
    net.enter(&broker("H", 0, 2, &["T", "V"]));
    assert_eq!(net.table.unregister("G", "h:9", net.now), None);
    assert!(net.table.unregister("G", "h:1", net.now).is_some());
    let left: Vec<_> = net.table.topics.names().map(|topic| &**topic).collect();
    assert_eq!(left, ["T", "V"]);
}

#[test]
fn topics_are_deleted_everywhere_or_in_one_cluster() {
    let mut net = Net::new();
    net.enter(&broker("G", 0, 1, &["T", "U"]));
    net.enter(&Registration { cluster: Arc::from("D"), ..broker("H", 0, 2, &["T", "U"]) });
    net.table.delete_topic("T", Some("D"));
    assert_eq!((net.topics("G"), net.topics("H")), (vec!["T", "U"], vec!["U"]));
    net.table.delete_topic("U", None);
    assert_eq!((net.topics("G"), net.topics("H")), (vec!["T"], vec![]));
}

#[test]
fn a_topic_is_registered_for_known_groups_only() {
    let mut net = Net::new();
    net.enter(&broker("G", 0, 1, &[]));
    let queues = Queues { read: 1, write: 1, perm: 6, sys_flag: 0, ordered: false };
    for groups in [["G", "nobody"], ["G", "G"]] {
        let queues = groups.map(|group| (Arc::from(group), queues));
        net.table.register_topic(&Arc::from("T"), &queues).unwrap();
        assert_eq!(net.topics("G").len(), usize::from(groups == ["G", "G"]));
    }
}

#[test]
fn a_group_has_a_bounded_number_of_members() {
    let mut net = Net::new();
    for id in 0..64 {
        net.enter(&broker("G", id, 1_000 + id as u16, &[]));
    }
    let full = Err(Refusal::Full { what: "members of the broker group", max: 64 });
    assert_eq!(net.register(&broker("G", 64, 9, &[])), full);
    net.enter(&broker("G", 5, 9, &[]));
}
