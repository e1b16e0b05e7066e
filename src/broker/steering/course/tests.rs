use super::*;
use crate::clock;
use crate::ids::{StoreId, Term};

const KNOWN_AFTER: Duration = Duration::from_secs(40);

fn id(id: u64) -> BrokerId {
    BrokerId(id)
}

fn leads() -> Role {
    Role::Leader { term: Term(3) }
}

fn follows(leader: &str) -> Role {
    Role::Follower { term: Term(3), leader: Some(leader.to_owned()) }
}

fn nobody() -> Role {
    Role::Follower { term: Term(3), leader: None }
}

fn peer(name: &str, behind: u64, serves_readers: bool) -> PeerStatus {
    let (name, store_id) = (name.to_owned(), StoreId(7));
    PeerStatus {
        name,
        store_id,
        matched: None,
        behind,
        behind_bytes: None,
        catch_up: None,
        voter: true,
        serves_readers,
    }
}

/// Member `index` of n0, n1 and n2, and a clock that starts with it.
struct Member {
    watch: Watch,
    start: Instant,
    peers: Vec<PeerStatus>,
    roster: Roster,
    is_cut_off: bool,
}

impl Member {
    fn new(index: usize) -> Self {
        let members = [("n0", id(1)), ("n1", id(2)), ("n2", id(3))];
        let own = Some(members[index].1);
        let members = members.map(|(name, id)| (name.to_owned(), id)).to_vec();
        let (watch, roster) = (Watch::new(KNOWN_AFTER), Roster { members, own });
        Self { watch, start: clock::now(), peers: vec![], roster, is_cut_off: false }
    }

    fn at(&mut self, ms: u64, role: &Role, lag: u64) -> (Course, bool) {
        let is_registered = !role.is_leader();
        let (roster, peers, is_slow, is_cut_off) =
            (&self.roster, &self.peers, false, self.is_cut_off);
        let seen =
            Seen { role, roster, lag, peers, is_slow, is_cut_off, is_on: true, is_registered };
        self.watch.look(&seen, self.start + Duration::from_millis(ms))
    }
}

#[test]
fn a_follower_that_is_cut_off_sends_its_consumers_to_the_leader_at_once() {
    let (mut member, leader) = (Member::new(1), follows("n0"));
    member.at(0, &leader, 0);
    assert_eq!(member.at(41_000, &leader, 0), (Course::StayAndAsk(id(2)), true));
    member.is_cut_off = true;
    assert_eq!(member.at(41_200, &leader, 0), (Course::Spread(vec![LEADER_BROKER_ID]), false));
    member.is_cut_off = false;
    assert_eq!(member.at(41_400, &leader, 0), (Course::StayAndAsk(id(2)), true));
}

#[test]
fn a_leader_that_is_cut_off_sends_its_consumers_to_the_others() {
    let mut n0 = Member::new(0);
    n0.at(0, &leads(), 0);
    n0.is_cut_off = true;
    let nobody = Role::Follower { term: Term(3), leader: None };
    let others = Course::Spread(vec![id(2), id(3)]);
    assert_eq!(n0.at(1_200, &nobody, 0), (others, false), "its own id is what they had asked");
    n0.is_cut_off = false;
    n0.at(9_000, &follows("n1"), 0);
    n0.is_cut_off = true;
    assert_eq!(n0.at(9_200, &nobody, 0), (Course::Spread(vec![LEADER_BROKER_ID]), false));
}

#[test]
fn a_leader_spreads_consumers_over_followers_that_offer_to_serve_and_keep_up() {
    let rows = [
        ("both serve", [peer("n1", 0, true), peer("n2", LAG_MAX, true)], vec![2, 3]),
        ("one lags", [peer("n1", LAG_MAX + 1, true), peer("n2", 0, true)], vec![3]),
        ("one does not offer it", [peer("n1", 0, true), peer("n2", 0, false)], vec![2]),
        ("a stranger is in no route", [peer("n9", 0, true), peer("n2", 0, true)], vec![3]),
    ];
    for (what, peers, want) in rows {
        let mut n0 = Member { peers: peers.to_vec(), ..Member::new(0) };
        let want = Course::Spread(want.into_iter().map(id).collect());
        assert_eq!(n0.at(0, &leads(), 0), (want, false), "{what}");
    }
    let mut alone = Member::new(0);
    assert_eq!(alone.at(0, &leads(), 0), (Course::Stay(id(0)), false));
}

#[test]
fn a_leader_that_consumers_know_as_a_follower_does_not_send_them_to_the_one_that_died() {
    let mut n1 = Member::new(1);
    n1.at(0, &follows("n0"), 0);
    n1.at(39_000, &follows("n0"), 0);
    assert_eq!(n1.at(39_999, &leads(), 0).0, Course::Stay(id(0)), "they do not know it");
    let mut n1 = Member::new(1);
    n1.at(0, &follows("n0"), 0);
    assert_eq!(n1.at(50_000, &nobody(), 0).0, Course::Unsure(id(2)));
    assert_eq!(n1.at(50_100, &leads(), 0).0, Course::Stay(id(2)));
    assert_eq!(n1.at(60_000, &nobody(), 0).0, Course::Unsure(id(2)), "cut off");
    assert_eq!(n1.at(90_099, &leads(), 0).0, Course::Stay(id(2)));
    n1.peers = vec![peer("n2", 0, true)];
    assert_eq!(n1.at(90_099, &leads(), 0).0, Course::Spread(vec![id(3)]));
    n1.peers.clear();
    assert_eq!(n1.at(90_100, &leads(), 0).0, Course::Stay(id(0)), "by now they have new routes");
}

#[test]
fn a_follower_keeps_its_consumers_while_it_keeps_up_and_offers_to_take_more_when_routes_have_it() {
    let (stay, ask, unsure) =
        (Course::Stay(id(3)), Course::StayAndAsk(id(3)), Course::Unsure(id(3)));
    let rows = [
        // ms, role, lag, course, offers
        (0, nobody(), 0, &unsure, false),
        (200, follows("n0"), LAG_MAX + 1, &unsure, false),
        (400, follows("n0"), LAG_MAX, &stay, false),
        (39_999, follows("n0"), 0, &stay, false),
        (40_000, follows("n0"), 0, &stay, true),
        (40_400, follows("n0"), 0, &ask, true),
        (41_000, follows("n0"), LAG_MAX + 1, &ask, false),
        (42_000, nobody(), 0, &stay, false),
        (43_400, nobody(), 0, &stay, false),
        (43_401, nobody(), 0, &unsure, false),
        (43_500, follows("n1"), 0, &stay, true),
        (83_499, follows("n1"), 0, &stay, true),
        (83_500, follows("n1"), 0, &ask, true),
        (84_000, leads(), 0, &stay, false),
        (85_000, follows("n0"), 0, &stay, false), // name servers have just been told
        (125_000, follows("n0"), 0, &ask, true),
    ];
    let mut n2 = Member::new(2);
    for (ms, role, lag, course, offers) in rows {
        let (got, offered) = n2.at(ms, &role, lag);
        let of_leader = if role.is_leader() { &stay } else { course };
        assert_eq!((&got, offered), (of_leader, offers), "{ms}: {role:?}");
    }
}

#[test]
fn without_the_setting_or_other_members_nobody_is_sent_anywhere() {
    let (role, peers) = (leads(), [peer("n1", 0, true)]);
    let Member { mut watch, mut roster, .. } = Member::new(0);
    let mut seen = Seen {
        role: &role,
        roster: &roster.clone(),
        lag: 0,
        peers: &peers,
        is_slow: false,
        is_cut_off: false,
        is_on: false,
        is_registered: true,
    };
    assert_eq!(watch.look(&seen, clock::now()), (Course::Stay(id(0)), false));
    roster.members.truncate(1);
    (seen.roster, seen.is_on) = (&roster, true);
    assert_eq!(watch.look(&seen, clock::now()), (Course::Stay(id(0)), false));
}

#[test]
fn who_leaves_the_group_sends_its_consumers_away() {
    let mut n2 = Member::new(2);
    n2.at(0, &follows("n0"), 0);
    assert_eq!(n2.at(50_000, &follows("n0"), 0), (Course::StayAndAsk(id(3)), true));
    n2.roster.own = None;
    let away = Course::Spread(vec![id(0)]);
    assert_eq!(n2.at(50_200, &follows("n0"), 0), (away.clone(), false));
    assert_eq!(n2.at(50_400, &nobody(), 0), (away, false));
}

#[test]
fn what_consumers_are_told_by_what_there_is_for_them() {
    let both = vec![id(2), id(3)];
    let rows = [
        // course, something, nothing, stopping: something and nothing
        (Course::Stay(id(0)), 0, 0, 0),
        (Course::Stay(id(2)), 2, 2, 0),
        (Course::StayAndAsk(id(2)), 2, 2, 0),
        (Course::Unsure(id(2)), 2, 0, 0),
        (Course::Spread(both), 3, 3, 3),
    ];
    for (course, something, nothing, stopping) in rows {
        let told = |course: &Course| {
            [Here::Something, Here::Nothing].map(|here| course.suggestion(7, here).0)
        };
        assert_eq!(told(&course), [something, nothing], "{course:?}");
        assert_eq!(told(&course.of_who_stops()), [stopping; 2], "{course:?} stops");
    }
}

#[test]
fn the_queues_of_a_topic_are_spread_evenly() {
    let three = Course::Spread(vec![id(1), id(2), id(3)]);
    let mut queues = [0; 4];
    for spread in 100..112 {
        queues[three.suggestion(spread, Here::Nothing).0 as usize] += 1;
    }
    assert_eq!(queues, [0, 4, 4, 4]);
}
