use super::*;

fn set(ids: &[u64]) -> BTreeSet<u64> {
    ids.iter().copied().collect()
}

fn member(name: &str, wish: Wish) -> Member {
    Member { name: name.to_owned(), wish, ..Member::default() }
}

const LAST: u64 = 5000;
/// Near, and far.
const NEAR: u64 = LAST - NEAR_ENTRIES + 1;
const FAR: u64 = LAST - NEAR_ENTRIES - 1;

/// A group that 1 (n0) leads; 2 (n1) and 3 (n2) vote, all are there and near.
fn three() -> Recorded {
    let members = [(1, "n0"), (2, "n1"), (3, "n2")];
    let sight = Sight { matched: Some(NEAR), answers: true, has_said_farewell: false };
    Recorded {
        own: StoreId(1),
        members: members.map(|(id, name)| (id, member(name, Wish::Vote))).into(),
        voters: vec![set(&[1, 2, 3])],
        last: LAST,
        sights: [2, 3].map(|id| (id, sight)).into(),
    }
}

/// With a store more that has `matched` and votes if it is told to.
fn with(id: u64, member: Member, matched: Option<u64>) -> Recorded {
    let mut recorded = three();
    recorded.members.insert(id, member);
    let sight = Sight { matched, answers: true, has_said_farewell: false };
    recorded.sights.insert(id, sight);
    recorded
}

fn wishing(id: u64, wish: Wish, mut recorded: Recorded) -> Recorded {
    recorded.members.get_mut(&id).unwrap().wish = wish;
    recorded
}

fn silent(ids: &[u64], mut recorded: Recorded) -> Recorded {
    for id in ids {
        recorded.sights.get_mut(id).unwrap().answers = false;
    }
    recorded
}

fn farewelled(id: u64, mut recorded: Recorded) -> Recorded {
    recorded.sights.get_mut(&id).unwrap().has_said_farewell = true;
    recorded
}

fn voting(voters: &[&[u64]], mut recorded: Recorded) -> Recorded {
    recorded.voters = voters.iter().map(|ids| set(ids)).collect();
    recorded
}

fn record(members: &[(u64, Member)], forget: &[u64]) -> Step {
    Step::Record { members: members.iter().cloned().collect(), forget: set(forget) }
}

fn vote(voters: &[u64], keeps: bool) -> Step {
    Step::Vote { voters: set(voters), keeps }
}

/// What the step is, a wait whatever its words.
fn check(what: &str, recorded: &Recorded, found: &[(&str, u64)], want: &Step) {
    let found = found.iter().map(|(name, id)| ((*name).to_owned(), StoreId(*id))).collect();
    let got = next_step(recorded, &found);
    match (&got, want) {
        (Step::Wait(_), Step::Wait(text)) if text.is_empty() => {}
        _ => assert_eq!(&got, want, "{what}"),
    }
}

const WAIT: Step = Step::Wait(String::new());

#[test]
fn a_lost_store_is_replaced_step_by_step() {
    let n2 = || member("n2", Wish::Vote);
    let old_learner = |recorded| voting(&[&[1, 2]], wishing(3, Wish::Learn, recorded));
    let rows = [
        ("as recorded", three(), 3, Step::Nothing),
        ("unknown", three(), 9, record(&[(9, n2())], &[])),
        ("empty", with(9, n2(), None), 9, WAIT),
        ("far", with(9, n2(), Some(FAR)), 9, WAIT),
        ("near", with(9, n2(), Some(NEAR)), 9, vote(&[1, 2, 9], false)),
        ("near, and no majority", silent(&[2, 9], with(9, n2(), Some(NEAR))), 9, WAIT),
        ("lost again", with(8, n2(), None), 9, record(&[(9, n2())], &[8])),
        ("left over", voting(&[&[1, 2, 8]], with(8, n2(), None)), 8, record(&[], &[3])),
        ("both vote", voting(&[&[1, 2, 3, 9]], with(9, n2(), None)), 9, vote(&[1, 2, 9], false)),
        ("of a learner", old_learner(three()), 9, record(&[(9, member("n2", Wish::Learn))], &[3])),
        (
            "of who loses its vote",
            wishing(3, Wish::Learn, three()),
            9,
            record(&[(9, member("n2", Wish::Learn))], &[]),
        ),
        ("of who leaves, alive", wishing(3, Wish::Leave, three()), 9, WAIT),
        (
            "of who leaves, dead",
            farewelled(3, silent(&[3], wishing(3, Wish::Leave, three()))),
            9,
            vote(&[1, 2], false),
        ),
    ];
    for (what, recorded, found, want) in rows {
        check(what, &recorded, &[("n0", 1), ("n2", found)], &want);
    }
}

#[test]
fn who_is_added_votes_when_it_is_near_and_the_group_keeps_a_majority() {
    let n3 = |wish| member("n3", wish);
    let two_down = |wish| silent(&[2, 3], with(4, n3(wish), Some(LAST)));
    let rows = [
        ("a learner stays one", with(4, n3(Wish::Learn), Some(LAST)), Step::Nothing),
        ("empty", with(4, n3(Wish::Vote), None), WAIT),
        ("far", with(4, n3(Wish::Vote), Some(FAR)), WAIT),
        ("near", with(4, n3(Wish::Vote), Some(NEAR)), vote(&[1, 2, 3, 4], false)),
        ("silent", silent(&[4], with(4, n3(Wish::Vote), Some(LAST))), WAIT),
        ("no majority", two_down(Wish::Vote), WAIT),
        (
            "one is down",
            silent(&[2], with(4, n3(Wish::Vote), Some(LAST))),
            vote(&[1, 2, 3, 4], false),
        ),
        ("to a group of one", voting(&[&[1]], with(4, n3(Wish::Vote), Some(LAST))), WAIT),
    ];
    for (what, recorded, want) in rows {
        let want = if what == "to a group of one" { vote(&[1, 2], false) } else { want };
        check(what, &recorded, &[("n0", 1)], &want);
    }
}

#[test]
fn who_leaves_goes_when_its_clients_have_gone_and_never_as_the_leader() {
    let leaves = |id| wishing(id, Wish::Leave, three());
    let rows = [
        ("its clients turn to others", leaves(3), WAIT),
        ("they have", farewelled(3, leaves(3)), vote(&[1, 2], false)),
        ("it is silent for a moment", silent(&[3], leaves(3)), WAIT),
        ("it is dead", silent(&[3], farewelled(3, leaves(3))), vote(&[1, 2], false)),
        ("the other one is dead", silent(&[2], farewelled(3, leaves(3))), WAIT),
        ("it leads", leaves(1), Step::HandOver),
        ("it has no vote", voting(&[&[1, 2]], leaves(3)), record(&[], &[3])),
        ("the last", voting(&[&[1]], leaves(1)), WAIT),
        ("a vote is taken", wishing(3, Wish::Learn, three()), vote(&[1, 2], true)),
        ("the leader's", wishing(1, Wish::Learn, three()), Step::HandOver),
        ("no majority without it", silent(&[2], wishing(3, Wish::Learn, three())), WAIT),
    ];
    for (what, recorded, want) in rows {
        let want = if what == "the last" { record(&[], &[2]) } else { want };
        let recorded = match what {
            "the last" => wishing(2, Wish::Leave, recorded),
            _ => recorded,
        };
        check(what, &recorded, &[("n0", 1)], &want);
    }
}

#[test]
fn who_replaces_another_one_first_has_everything() {
    let new = |matched| with(4, member("n3", Wish::Replace("n2".to_owned())), matched);
    let leaving = |matched| wishing(3, Wish::Leave, new(matched));
    let n2_leaves = || (3, member("n2", Wish::Leave));
    let rows = [
        ("far", new(Some(FAR)), WAIT),
        ("near", new(Some(NEAR)), record(&[n2_leaves()], &[])),
        ("clients turn to others", leaving(Some(NEAR)), WAIT),
        ("they have", farewelled(3, leaving(Some(NEAR))), vote(&[1, 2, 4], false)),
        ("it fell behind", farewelled(3, leaving(Some(FAR))), WAIT),
        ("it died", silent(&[4], farewelled(3, leaving(Some(NEAR)))), WAIT),
        ("the other one is silent", silent(&[3], leaving(Some(NEAR))), WAIT),
        ("the other one was removed", voting(&[&[1, 2]], new(Some(NEAR))), WAIT),
        ("done", voting(&[&[1, 2, 4]], new(Some(NEAR))), Step::Nothing),
    ];
    for (what, mut recorded, want) in rows {
        let mut want = want;
        if what.ends_with("removed") || what == "done" {
            recorded.members.remove(&3);
            want = if what == "done" { want } else { vote(&[1, 2, 4], false) };
        }
        check(what, &recorded, &[("n0", 1)], &want);
    }
    let of_leader = with(4, member("n3", Wish::Replace("n0".to_owned())), Some(NEAR));
    check("the leader leaves", &wishing(1, Wish::Leave, of_leader), &[], &Step::HandOver);
}

#[test]
fn what_a_former_leader_began_is_ended_first() {
    let joint = |recorded| voting(&[&[1, 2, 3], &[1, 2]], recorded);
    check("removed", &joint(wishing(3, Wish::Leave, three())), &[], &Step::Settle { keeps: false });
    check("demoted", &joint(wishing(3, Wish::Learn, three())), &[], &Step::Settle { keeps: true });
    check("lost", &joint(three()), &[("n2", 9)], &Step::Settle { keeps: false });
    let added = voting(&[&[1, 2], &[1, 2, 3]], three());
    check("added", &added, &[], &Step::Settle { keeps: false });
}

#[test]
fn who_has_replaced_another_one_does_not_do_it_again() {
    // n3 once replaced n2, which is another machine by now; then n3 lost its store.
    let n3 = || member("n3", Wish::Replace("n2".to_owned()));
    let four = || voting(&[&[1, 2, 3, 4]], with(4, n3(), Some(NEAR)));
    let lost = |matched| {
        let mut recorded = silent(&[4], four());
        recorded.members.insert(9, n3());
        let sight = Sight { matched, answers: true, has_said_farewell: false };
        recorded.sights.insert(9, sight);
        recorded
    };
    let n3_votes = member("n3", Wish::Vote);
    check("it goes on", &four(), &[("n0", 1), ("n3", 4)], &Step::Nothing);
    check("lost", &four(), &[("n0", 1), ("n3", 9)], &record(&[(9, n3_votes)], &[]));
    check("near, and not found", &lost(Some(NEAR)), &[("n0", 1)], &Step::Nothing);
    check("near", &lost(Some(NEAR)), &[("n0", 1), ("n3", 9)], &vote(&[1, 2, 3, 9], false));
    // Another one replaces n2 now.
    let mut again = farewelled(3, wishing(3, Wish::Leave, four()));
    again.members.insert(5, member("n4", Wish::Replace("n2".to_owned())));
    let sight = Sight { matched: Some(LAST), answers: true, has_said_farewell: false };
    again.sights.insert(5, sight);
    check("replaced again", &again, &[("n0", 1)], &vote(&[1, 2, 4, 5], false));
}

#[test]
fn who_is_replaced_goes_with_the_store_that_came_in_place_of_its_lost_one() {
    let mut recorded = with(4, member("n3", Wish::Replace("n2".to_owned())), Some(NEAR));
    recorded.members.insert(9, member("n2", Wish::Vote));
    let sight = Sight { matched: Some(FAR), answers: true, has_said_farewell: false };
    recorded.sights.insert(9, sight);
    let leaves = record(&[(3, member("n2", Wish::Leave))], &[9]);
    check("n3 is near first", &recorded, &[("n0", 1), ("n2", 9)], &leaves);
}
