use super::*;
use crate::raft::member_steps::Sight;

fn at(port: u16) -> PeerAddress {
    PeerAddress { host: "h".to_owned(), port }
}

/// A group of three that n0 (store 1) leads; n1 and n2 are there and have everything.
fn three() -> Recorded {
    let members = [(1, "n0"), (2, "n1"), (3, "n2")].map(|(id, name)| {
        let (name, address) = (name.to_owned(), at(u16::try_from(id).unwrap()).to_string());
        (id, Member { name, address, ..Member::default() })
    });
    let sight = Sight { matched: Some(9), answers: true, has_said_farewell: false };
    Recorded {
        own: StoreId(1),
        members: members.into(),
        voters: vec![[1, 2, 3].into()],
        last: 9,
        sights: [2, 3].map(|id| (id, sight)).into(),
    }
}

fn files() -> Files {
    let files = [("n0", "n0-h:1;n7-h:7"), ("n1", "n1-h:2;n9-h:7"), ("n2", "n2-h:3")];
    files.map(|(name, peers)| (name.to_owned(), peers.to_owned())).into()
}

fn comer() -> Result<Comer, String> {
    Ok(Comer { store: StoreId(4), alien: None })
}

fn add(name: &str, port: u16, part: Part) -> MemberChange {
    MemberChange::Add { name: name.to_owned(), address: at(port), part }
}

fn remove(name: &str) -> MemberChange {
    MemberChange::Remove { name: name.to_owned() }
}

fn replace(old: &str, new: &str) -> MemberChange {
    MemberChange::Replace { old: old.to_owned(), new: new.to_owned(), address: at(4) }
}

fn assign(name: &str, part: Part) -> MemberChange {
    MemberChange::Assign { name: name.to_owned(), part }
}

fn planned(change: &MemberChange, recorded: &Recorded) -> Result<Plan, MemberError> {
    plan(change, recorded, &files(), Some(&comer()))
}

/// After `change` was recorded.
fn after(change: &MemberChange, mut recorded: Recorded) -> Recorded {
    let plan = planned(change, &recorded).unwrap();
    recorded.members.retain(|id, _| !plan.forget.contains(id));
    recorded.members.extend(plan.members);
    recorded
}

fn silent(ids: &[u64], mut recorded: Recorded) -> Recorded {
    for id in ids {
        recorded.sights.get_mut(id).unwrap().answers = false;
    }
    recorded
}

fn wishes(recorded: &Recorded) -> Vec<(&str, &Wish, Option<u64>)> {
    let each = recorded.members.values();
    each.map(|member| (member.name.as_str(), &member.wish, member.broker_id)).collect()
}

#[test]
fn what_is_asked_for_is_recorded_and_ids_stay() {
    let (vote, leave, learn) = (&Wish::Vote, &Wish::Leave, &Wish::Learn);
    let added = after(&add("n3", 4, Part::Voter), three());
    assert_eq!(
        wishes(&added),
        [
            ("n0", vote, Some(1)),
            ("n1", vote, Some(2)),
            ("n2", vote, Some(3)),
            ("n3", vote, Some(4))
        ]
    );
    let learner = after(&add("a3", 4, Part::Learner), three());
    assert_eq!(wishes(&learner)[3], ("a3", learn, Some(4)), "first by name, and last by id");
    let removed = after(&remove("n1"), three());
    assert_eq!(
        wishes(&removed),
        [("n0", vote, Some(1)), ("n1", leave, Some(2)), ("n2", vote, Some(3))]
    );
    let mut gone = removed;
    gone.members.remove(&2);
    gone.voters = vec![[1, 3].into()];
    let next = after(&add("n5", 4, Part::Voter), gone);
    assert_eq!(wishes(&next)[2], ("n5", vote, Some(2)), "the first that is free");
    let replacing = after(&replace("n2", "n4"), three());
    assert_eq!(wishes(&replacing)[3], ("n4", &Wish::Replace("n2".to_owned()), Some(4)));
    assert_eq!(wishes(&after(&assign("n2", Part::Learner), three()))[2], ("n2", learn, Some(3)));
}

#[test]
fn an_operator_reads_what_happens() {
    let steps = |change: &MemberChange| planned(change, &three()).unwrap().steps.join("; ");
    assert_eq!(
        steps(&add("n3", 4, Part::Voter)),
        "n3 at h:4 gets the log as a learner; n3 votes as soon as it has caught up: 4 voters; \
         note: 4 voters tolerate the loss of 1, as 3 would: use an odd number"
    );
    assert_eq!(steps(&add("n3", 4, Part::Learner)), "n3 at h:4 gets the log as a learner");
    assert_eq!(
        steps(&remove("n0")),
        "n0 hands leadership over; clients of n0 turn to others; n0 is removed: 2 voters; note: 2 \
         voters tolerate the loss of 0, as 1 would: use an odd number"
    );
    assert_eq!(
        steps(&replace("n1", "n3")),
        "n3 at h:4 gets the log as a learner; as soon as it has caught up, clients of n1 turn to \
         others; n3 votes in place of n1, which is removed: 3 voters"
    );
}

#[test]
fn a_change_that_cannot_go_well_is_refused_with_what_to_do() {
    let refused = |change: &MemberChange, recorded: &Recorded| {
        planned(change, recorded).unwrap_err().to_string()
    };
    let mut alone = three();
    alone.voters = vec![[1].into()];
    alone.members.retain(|id, _| *id == 1);
    let with_learner = after(&add("n3", 4, Part::Learner), three());
    let rows = [
        (add("n1", 4, Part::Voter), three(), "n1 is a member already"),
        (add("n3", 2, Part::Voter), three(), "h:2 is the address of n1"),
        (add("n7", 8, Part::Voter), three(), "n7 shall be at h:8, but dLegerPeers of n0,"),
        (add("n9", 8, Part::Voter), three(), "n9 shall be at h:8, but dLegerPeers of n1,"),
        (remove("n5"), three(), "the group has no member n5; it has n0, n1, n2"),
        (assign("n5", Part::Voter), three(), "the group has no member n5"),
        (replace("n5", "n3"), three(), "the group has no member n5"),
        (replace("n1", "n1"), three(), "n1 takes its own place by itself"),
        (replace("n3", "n4"), with_learner, "h:4 is the address of n3"),
        (remove("n0"), alone.clone(), "n0 is the last voter"),
        (assign("n0", Part::Learner), alone, "n0 is the last voter"),
        (
            remove("n2"),
            silent(&[2], three()),
            "of the 2 voters that the group would have no majority is there and caught up: n1 does \
             not answer",
        ),
        (assign("n2", Part::Learner), silent(&[2], three()), "n1 does not answer"),
        (
            add("n3", 4, Part::Voter),
            silent(&[2, 3], three()),
            "of the 4 voters that the group would have no majority is there and caught up: n1 does \
             not answer, n2 does not answer",
        ),
    ];
    for (change, recorded, want) in rows {
        let text = refused(&change, &recorded);
        assert!(text.contains(want), "{change:?}: {text}");
    }
    let asked = |comer: Result<Comer, String>| {
        let change = add("n3", 4, Part::Voter);
        plan(&change, &three(), &files(), Some(&comer)).unwrap_err().to_string()
    };
    assert!(
        asked(Err("refused".to_owned())).contains("cannot be taken in") || {
            asked(Err("refused".to_owned())).contains("n3 does not answer at h:4")
        }
    );
    let alien = Comer { alien: Some("its store is another's".to_owned()), ..comer().unwrap() };
    assert!(asked(Ok(alien)).contains("n3 at h:4 cannot be taken in: its store is another's"));
}

#[test]
fn the_dead_may_go_while_a_majority_stays() {
    assert!(planned(&remove("n2"), &silent(&[3], three())).is_ok());
    assert!(planned(&replace("n2", "n4"), &silent(&[3], three())).is_ok());
}

#[test]
fn one_change_at_a_time_unless_it_is_taken_back() {
    let (n3, n9) = (add("n3", 4, Part::Voter), add("n9", 9, Part::Voter));
    let adding = after(&n3, three());
    let text = planned(&n9, &adding).unwrap_err().to_string();
    assert!(text.starts_with("n3 is being added: one change at a time"), "{text}");
    assert!(planned(&n3, &adding).unwrap().members.is_empty(), "asked again");
    assert_eq!(after(&remove("n3"), adding).members.len(), 3);

    let leaving = after(&remove("n2"), three());
    let text = planned(&n9, &leaving).unwrap_err().to_string();
    assert!(text.starts_with("n2 is leaving"), "{text}");
    assert!(planned(&remove("n2"), &leaving).unwrap().members.is_empty(), "asked again");
    assert!(planned(&remove("n1"), &leaving).is_err());
    let stays = after(&assign("n2", Part::Voter), leaving);
    assert_eq!(under_way(&stays), None);

    let mut replacing = after(&replace("n2", "n4"), three());
    replacing.members.get_mut(&3).unwrap().wish = Wish::Leave;
    assert!(planned(&assign("n2", Part::Voter), &replacing).is_err(), "it would go on");
    let back = after(&remove("n4"), replacing);
    assert_eq!((under_way(&back), back.members.len()), (None, 3), "and n2 stays");

    let demoting = after(&assign("n2", Part::Learner), three());
    assert_eq!(under_way(&demoting).unwrap(), "n2 is losing its vote");
    assert_eq!(under_way(&after(&assign("n2", Part::Voter), demoting)), None);

    let mut joint = three();
    joint.voters.push([1, 2].into());
    assert!(planned(&assign("n2", Part::Voter), &joint).unwrap().members.is_empty(), "it votes");
    assert!(planned(&remove("n2"), &joint).is_err());

    let mut lost = three();
    lost.members.insert(9, lost.members[&3].clone());
    let text = planned(&n9, &lost).unwrap_err().to_string();
    assert!(text.starts_with("the lost store of n2 is being replaced"), "{text}");
    // Its machine may be gone as well: then it is removed, with what was to replace it.
    let plan = planned(&remove("n2"), &lost).unwrap();
    assert_eq!((&plan.members[&3].wish, plan.forget), (&Wish::Leave, BTreeSet::from([9])));
}
