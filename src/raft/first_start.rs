//! What a member that is not part of its group yet waits for, or one that finds no leader; and a
//! group's first start: by its first member, when all members answer, are empty and agree. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tonic::{Code, Status};

use crate::ids::StoreId;
use crate::raft::awaited::{Awaited, Awaits};
use crate::raft::membership::Member;
use crate::raft::peers::Peers;
use crate::raft::type_config::{Membership, RaftLogId};
use crate::raft::version::Reads;
use crate::raft::wire::{self, proto};

/// A member as it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answered {
    /// Its store.
    pub store_id: StoreId,
    /// Whether that store never saw a vote or an entry.
    pub empty: bool,
    /// Whether it has entries.
    pub has_entries: bool,
    /// Who takes writes, as far as it knows.
    pub leader: Option<String>,
    /// Its `dLegerPeers`.
    pub peers: String,
    /// Who belongs to the group, as committed there.
    pub recorded: Option<Committed>,
    /// Which versions it reads.
    pub reads: Reads,
}

/// Why a member said nothing about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// It does not talk with this member, in its words.
    Refused(String),
    /// It could not be asked.
    Failed(String),
}

impl NoAnswer {
    /// As a call ended.
    pub(super) fn of(status: &Status) -> Self {
        let why = status.message().to_owned();
        match status.code() {
            Code::FailedPrecondition => Self::Refused(why),
            _ => Self::Failed(why),
        }
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Refused(why) | Self::Failed(why)) = self;
        f.write_str(why)
    }
}

/// A membership as some member has it committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Committed {
    /// Where it is in the log.
    pub as_of: Option<RaftLogId>,
    /// Names by store.
    pub members: BTreeMap<u64, String>,
}

impl From<proto::StateResponse> for Answered {
    fn from(state: proto::StateResponse) -> Self {
        let named = |member: proto::RecordedMember| (member.store_id, member.name);
        let recorded = state.recorded.map(|recorded| Committed {
            as_of: recorded.as_of.map(wire::to_log_id),
            members: recorded.members.into_iter().map(named).collect(),
        });
        Self {
            store_id: StoreId(state.store_id),
            empty: state.empty,
            has_entries: state.last.is_some(),
            leader: Some(state.leader).filter(|name| !name.is_empty()),
            peers: state.peers,
            recorded,
            reads: Reads::said(state.reads_from, state.reads_to),
        }
    }
}

impl Answered {
    /// What speaks against taking its store into a group that has these `stores`, if anything: it
    /// must be empty, or have been of this group.
    pub(super) fn alien(&self, stores: &BTreeMap<u64, Member>) -> Option<String> {
        if self.empty || stores.contains_key(&self.store_id.0) {
            return None;
        }
        match &self.recorded {
            Some(known) if known.members.keys().any(|store| stores.contains_key(store)) => None,
            Some(known) => {
                let names: Vec<&str> = known.members.values().map(String::as_str).collect();
                let names = names.join(", ");
                Some(format!("its store belongs to another group, of {names}"))
            }
            None => Some("its store is not empty, and does not say whose it is".to_owned()),
        }
    }
}

/// What others said, by name.
pub(super) type Answers = BTreeMap<String, Result<Answered, NoAnswer>>;

/// What to do about a group that this member is not yet part of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FirstStart {
    /// All members are there, empty and agree: these are they.
    Initialize(BTreeMap<u64, Member>),
    /// Not this member's turn, or somebody is missing.
    Wait(Awaited),
}

/// What a member that has not started its group has heard of one that was started long ago.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calls<'a> {
    /// Who called for a store that it had before.
    pub former: Option<&'a str>,
    /// Whether anybody who would has had the time.
    pub all: bool,
}

/// Decides a first start from the answers of the other members. Pure.
pub(super) fn first_start(
    own: (&str, StoreId),
    peers: &Peers,
    answers: &Answers,
    calls: Calls<'_>,
) -> FirstStart {
    let (mut members, here) = (BTreeMap::new(), peers.to_string());
    let (mut missing, mut belong, mut is_started) = (Vec::new(), Vec::new(), false);
    for (name, address) in peers.iter() {
        let (name_of, address_of) = (name.to_owned(), address.to_string());
        let member = Member { name: name_of, address: address_of, ..Member::default() };
        if name == own.0 {
            members.insert(own.1.0, member);
            continue;
        }
        match answers.get(name) {
            // One of a former version says nothing, and has refused this member if they differ.
            Some(Ok(answered))
                if answered.empty && !answered.peers.is_empty() && answered.peers != here =>
            {
                return FirstStart::Wait(Awaits::Start.because(format!(
                    "dLegerPeers differs: {} (this member) has {here:?}, {name} has {:?}; make \
                     their configuration files agree, or the group is not started",
                    own.0, answered.peers
                )));
            }
            Some(Ok(answered)) if answered.empty => {
                members.insert(answered.store_id.0, member);
            }
            Some(Ok(answered)) => {
                is_started |= answered.has_entries;
                belong.push(name);
            }
            Some(Err(why)) => missing.push(format!("{name} at {address} ({why})")),
            None => missing.push(format!("{name} at {address}")),
        }
    }
    if !belong.is_empty() {
        let awaited = match is_started || !missing.is_empty() {
            true => of_started(own.0, peers, answers, (&belong, &missing)),
            false => Awaits::Operator.because(of_unfinished(&belong)),
        };
        return FirstStart::Wait(awaited);
    }
    let wait = |what: String| {
        let text = format!("the group is not started yet: {what}");
        FirstStart::Wait(Awaits::Start.because(text))
    };
    // Whoever was emptied since knows of no group any more.
    let is_empty = |caller: &&str| matches!(answers.get(*caller), Some(Ok(said)) if said.empty);
    if let Some(caller) = calls.former.filter(|caller| !is_empty(caller)) {
        let text = format!(
            "this member's store is new, and {caller} calls the one that it had before: the group \
             goes on without it, and its leader will take this member in; add {caller} to \
             dLegerPeers"
        );
        return FirstStart::Wait(Awaits::Leader.because(text));
    }
    if peers.len() == 1 && !calls.all {
        return wait("listening whether a group that goes on calls this member".to_owned());
    }
    if !missing.is_empty() {
        return wait(format!("waiting for {}", missing.join(", ")));
    }
    match peers.iter().next() {
        Some((first, _)) if first == own.0 => FirstStart::Initialize(members),
        Some((first, _)) => wait(format!("waiting for {first} to start it")),
        None => wait("no members are configured".to_owned()),
    }
}

/// What a member with a new store waits for beside others whose stores are not new.
fn of_started(
    own: &str,
    peers: &Peers,
    answers: &Answers,
    (belong, missing): (&[&str], &[String]),
) -> Awaited {
    let mut leaders = answers.values().filter_map(|answer| answer.as_ref().ok()?.leader.as_deref());
    // Who has not noticed yet takes the store that is lost for the leader.
    let leader = leaders.find(|leader| *leader != own);
    match not_a_member(own, peers, answers, leader) {
        Some(text) => Awaits::Operator.because(text),
        None => Awaits::Leader.because(to_be_taken_in(belong, leader, missing)),
    }
}

/// What it waits for if those have voted, and have no entry.
fn of_unfinished(voted: &[&str]) -> String {
    format!(
        "{} voted for a start of the group that was never finished: the store of who began it is \
         gone; stop all members, empty their stores, which have no entries, and start them",
        voted.join(" and ")
    )
}

/// What a member with a new store waits for in a group that was started long ago.
fn to_be_taken_in(belong: &[&str], leader: Option<&str>, missing: &[String]) -> String {
    let belong = belong.join(" and ");
    let known = format!("this member's store is new, the group goes on with {belong}");
    match leader {
        Some(leader) => format!("{known}: {leader} leads it and will take this member in"),
        None if missing.is_empty() => format!("{known}: waiting for a leader"),
        None => format!("{known}: waiting for a leader, without {}", missing.join(", ")),
    }
}

/// What a member waits for that the group does not know: an operator.
fn not_a_member(
    own: &str,
    peers: &Peers,
    answers: &Answers,
    leader: Option<&str>,
) -> Option<String> {
    let newest = newest(answers)?;
    if newest.members.values().any(|name| name == own) {
        return None;
    }
    let names: BTreeSet<&str> = newest.members.values().map(String::as_str).collect();
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    let led = leader.map_or(String::new(), |leader| format!(", and {leader} leads it"));
    let address = peers.address(own).map_or(String::new(), ToString::to_string);
    Some(format!(
        "the group has the members {names}{led}: this member waits to be taken in; run rmq-admin \
         memberAdd {own} {address} -b ADDRESS-OF-A-MEMBER"
    ))
}

/// The newest membership that anybody has committed.
fn newest(answers: &Answers) -> Option<&Committed> {
    let recorded = answers.values().filter_map(|answer| answer.as_ref().ok()?.recorded.as_ref());
    recorded.max_by_key(|recorded| recorded.as_of)
}

/// Why this member belongs to the group no more, if others have committed that since what it has
/// itself, as of `as_of`. Its own log alone does not say so: that of one that is new, and cut off
/// while it catches up, is of times before it came. As long as nobody answers, `known` stays. Pure.
pub(super) fn removal(
    own: (&str, StoreId),
    (as_of, own_is_recorded): (Option<RaftLogId>, bool),
    known: bool,
    answers: &Answers,
) -> Option<Awaited> {
    let without = |members: &BTreeMap<u64, String>| {
        !members.contains_key(&own.1.0) && members.values().all(|name| name != own.0)
    };
    let gone = match newest(answers) {
        Some(newest) if newest.as_of > as_of => without(&newest.members),
        Some(_) => !own_is_recorded,
        None => known,
    };
    gone.then(|| {
        Awaits::Removed.because(format!(
            "{} was removed from the group: it serves nothing any more; stop it, or have it taken \
             in again (rmq-admin memberAdd)",
            own.0
        ))
    })
}

/// Why nobody can lead: the voters that are missing, if those that are there are no majority.
/// Pure.
pub(super) fn missing_majority(
    membership: &Membership,
    own: StoreId,
    address: impl Fn(&str) -> String,
    answers: &Answers,
) -> Option<Awaited> {
    let answer = |id: u64| answers.get(&membership.get_node(&id)?.name);
    let is_of = |id: u64, answered: &Answered| answered.store_id.0 == id;
    let is_there =
        |id: u64| id == own.0 || matches!(answer(id), Some(Ok(answered)) if is_of(id, answered));
    let has_majority = |voters: &BTreeSet<u64>| {
        voters.iter().filter(|id| is_there(**id)).count() * 2 > voters.len()
    };
    if membership.get_joint_config().iter().all(has_majority) {
        return None;
    }
    let missing = membership.voter_ids().filter(|id| !is_there(*id)).map(|id| {
        let member = membership.get_node(&id).cloned().unwrap_or_default();
        let address = address(&member.name);
        let why = match answer(id) {
            Some(Ok(_)) => "lost its store",
            Some(Err(NoAnswer::Refused(why))) => why,
            Some(Err(NoAnswer::Failed(_))) | None => "does not answer",
        };
        format!("{} at {address} ({why})", member.name)
    });
    let missing: Vec<String> = missing.collect();
    let why = format!("no leader, a majority is missing: {}", missing.join(", "));
    Some(Awaits::Majority.because(why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{EntryIndex, Term};
    use crate::raft::peers::PeerAddress;
    use crate::raft::type_config::log_id;
    use crate::store::EntryId;

    const QUIET: Calls<'_> = Calls { former: None, all: true };

    fn peers() -> Peers {
        Peers::new(
            ["n0", "n1", "n2"]
                .map(|name| (name.to_owned(), PeerAddress { host: name.to_owned(), port: 1 })),
        )
    }

    fn answered(store_id: u64, empty: bool) -> Result<Answered, NoAnswer> {
        let (store_id, peers, recorded) = (StoreId(store_id), peers().to_string(), None);
        let (has_entries, leader, reads) = (!empty, None, Reads::OWN);
        Ok(Answered { store_id, empty, has_entries, leader, peers, recorded, reads })
    }

    fn gone() -> Result<Answered, NoAnswer> {
        Err(NoAnswer::Failed("no route".to_owned()))
    }

    #[test]
    fn only_the_first_member_starts_a_group_and_only_when_all_are_there_and_empty() {
        let all = BTreeMap::from([
            ("n1".to_owned(), answered(2, true)),
            ("n2".to_owned(), answered(3, true)),
        ]);
        let started = first_start(("n0", StoreId(1)), &peers(), &all, QUIET);
        let FirstStart::Initialize(members) = started else { panic!("{started:?}") };
        assert_eq!(members.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);

        let others = BTreeMap::from([
            ("n0".to_owned(), answered(1, true)),
            ("n2".to_owned(), answered(3, true)),
        ]);
        let turn = first_start(("n1", StoreId(2)), &peers(), &others, QUIET);
        assert_eq!(
            turn,
            FirstStart::Wait(
                Awaits::Start
                    .because("the group is not started yet: waiting for n0 to start it".to_owned())
            )
        );

        let mut all_but_one = all;
        all_but_one.insert("n2".to_owned(), gone());
        let wait = first_start(("n0", StoreId(1)), &peers(), &all_but_one, QUIET);
        assert_eq!(
            wait,
            FirstStart::Wait(Awaits::Start.because(
                "the group is not started yet: waiting for n2 at n2:1 (no route)".to_owned()
            ))
        );
    }

    #[test]
    fn a_start_that_was_never_finished_is_told_as_one() {
        let voted = |id| Ok(Answered { has_entries: false, ..answered(id, false).unwrap() });
        let of = |n1, n2| BTreeMap::from([("n1".to_owned(), n1), ("n2".to_owned(), n2)]);
        let rows = [
            (of(voted(2), voted(3)), Awaits::Operator),
            (of(voted(2), answered(3, true)), Awaits::Operator),
            (of(voted(2), answered(3, false)), Awaits::Leader),
            (of(voted(2), gone()), Awaits::Leader), // it may have entries
        ];
        for (answers, want) in rows {
            let wait = first_start(("n0", StoreId(1)), &peers(), &answers, QUIET);
            let FirstStart::Wait(Awaited { what, why }) = wait else { panic!("{wait:?}") };
            assert_eq!(what, want, "{why}");
            assert_eq!(why.contains("empty their stores"), want == Awaits::Operator, "{why}");
        }
    }

    #[test]
    fn who_is_called_as_somebody_it_was_starts_no_group() {
        let alone = Peers::new([("n0".to_owned(), PeerAddress { host: "h".into(), port: 1 })]);
        let both = BTreeMap::from(["n1", "n2"].map(|name| (name.to_owned(), answered(2, true))));
        let rows = [
            (&alone, Answers::new(), QUIET, None),
            (&alone, Answers::new(), Calls { all: false, ..QUIET }, Some(Awaits::Start)),
            (&alone, Answers::new(), Calls { former: Some("n1"), ..QUIET }, Some(Awaits::Leader)),
            (&peers(), both.clone(), Calls { all: false, ..QUIET }, None),
            (&peers(), both.clone(), Calls { former: Some("n1"), ..QUIET }, None), // emptied, too
            (&peers(), both, Calls { former: Some("n3"), ..QUIET }, Some(Awaits::Leader)),
        ];
        for (peers, answers, calls, want) in rows {
            let awaits = match first_start(("n0", StoreId(1)), peers, &answers, calls) {
                FirstStart::Initialize(_) => None,
                FirstStart::Wait(awaited) => Some(awaited.what),
            };
            assert_eq!(awaits, want, "{peers} {calls:?}");
        }
    }

    #[test]
    fn a_member_with_a_new_store_says_who_may_take_it_in() {
        let belongs = |leader: Option<&str>| {
            let leader = leader.map(str::to_owned);
            Ok(Answered { leader, ..answered(3, false).unwrap() })
        };
        let known = "this member's store is new, the group goes on with";
        let rows = [
            (belongs(None), belongs(None), "n1 and n2: waiting for a leader"),
            (answered(2, true), belongs(None), "n2: waiting for a leader"),
            (gone(), belongs(None), "n2: waiting for a leader, without n1 at n1:1 (no route)"),
            (belongs(Some("n0")), belongs(Some("n0")), "n1 and n2: waiting for a leader"),
            (
                belongs(Some("n2")),
                belongs(Some("n0")),
                "n1 and n2: n2 leads it and will take this member in",
            ),
        ];
        for (n1, n2, want) in rows {
            let answers = BTreeMap::from([("n1".to_owned(), n1), ("n2".to_owned(), n2)]);
            let wait = first_start(("n0", StoreId(1)), &peers(), &answers, QUIET);
            let want = Awaits::Leader.because(format!("{known} {want}"));
            assert_eq!(wait, FirstStart::Wait(want));
        }
    }

    #[test]
    fn who_is_missing_is_said_when_those_that_are_there_are_no_majority() {
        let member = |name: &str| Member {
            name: name.to_owned(),
            address: "moved:1".to_owned(),
            ..Member::default()
        };
        let members = BTreeMap::from([(1, member("n0")), (2, member("n1")), (3, member("n2"))]);
        let three = || vec![BTreeSet::from([1, 2, 3])];
        let changing = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 2, 9])];
        let mut also_new = members.clone();
        also_new.insert(9, member("n2"));
        let refuses = || Err(NoAnswer::Refused("start n0 with another build".to_owned()));
        let address = |name: &str| format!("{name}:1");
        let missing = "no leader, a majority is missing: ";
        let rows = [
            (three(), &members, gone(), answered(3, false), None),
            (three(), &members, answered(2, false), answered(9, true), None),
            (
                three(),
                &members,
                gone(),
                refuses(),
                Some("n1 at n1:1 (does not answer), n2 at n2:1 (start n0 with another build)"),
            ),
            (
                three(),
                &members,
                gone(),
                answered(9, true),
                Some("n1 at n1:1 (does not answer), n2 at n2:1 (lost its store)"),
            ),
            (
                changing,
                &also_new,
                gone(),
                answered(9, false),
                Some("n1 at n1:1 (does not answer), n2 at n2:1 (lost its store)"),
            ),
        ];
        for (voters, members, n1, n2, want) in rows {
            let membership = Membership::new(voters, members.clone()).unwrap();
            let answers = BTreeMap::from([("n1".to_owned(), n1), ("n2".to_owned(), n2)]);
            let got = missing_majority(&membership, StoreId(1), address, &answers);
            let want = want.map(|want| Awaits::Majority.because(format!("{missing}{want}")));
            assert_eq!(got, want);
        }
    }

    fn committed(index: u64, members: &[(u64, &str)]) -> Option<Committed> {
        let id = EntryId { index: EntryIndex(index), term: Term(1) };
        let members = members.iter().map(|(id, name)| (*id, (*name).to_owned())).collect();
        Some(Committed { as_of: Some(log_id(id)), members })
    }

    #[test]
    fn a_group_is_not_started_while_files_differ() {
        let other =
            |peers: &str| Ok(Answered { peers: peers.to_owned(), ..answered(3, true).unwrap() });
        let answers =
            |n2| BTreeMap::from([("n1".to_owned(), answered(2, true)), ("n2".to_owned(), n2)]);
        let own = ("n0", StoreId(1));
        let FirstStart::Wait(Awaited { why: text, .. }) =
            first_start(own, &peers(), &answers(other("n2-typo:1")), QUIET)
        else {
            panic!("started")
        };
        assert!(text.contains("n0-n0:1;n1-n1:1;n2-n2:1") && text.contains("n2-typo:1"), "{text}");
        let started = first_start(own, &peers(), &answers(other("")), QUIET);
        assert!(matches!(started, FirstStart::Initialize(_)), "of a former version");
    }

    #[test]
    fn who_is_not_known_waits_for_an_operator() {
        let n1 = Answered {
            leader: Some("n1".to_owned()),
            recorded: committed(4, &[(2, "n1"), (3, "n2")]),
            ..answered(2, false).unwrap()
        };
        let mut answers = BTreeMap::from([("n1".to_owned(), Ok(n1.clone()))]);
        let wait =
            |answers: &Answers| match first_start(("n0", StoreId(1)), &peers(), answers, QUIET) {
                FirstStart::Wait(awaited) => awaited,
                FirstStart::Initialize(members) => panic!("{members:?}"),
            };
        assert_eq!(
            wait(&answers),
            Awaits::Operator.because(
                "the group has the members n1, n2, and n1 leads it: this member waits to be taken \
                 in; run rmq-admin memberAdd n0 n0:1 -b ADDRESS-OF-A-MEMBER"
                    .to_owned()
            )
        );
        let known = Answered { recorded: committed(9, &[(7, "n0"), (3, "n2")]), ..n1 };
        answers.insert("n2".to_owned(), Ok(known));
        let known = wait(&answers);
        assert!(known.why.contains("n1 leads it and will take this member in"), "{known:?}");
        assert_eq!(known.what, Awaits::Leader);
    }

    #[test]
    fn a_removal_is_known_by_a_later_membership_only() {
        let says = |recorded| {
            let n1 = Answered { recorded, ..answered(2, false).unwrap() };
            BTreeMap::from([("n1".to_owned(), Ok(n1)), ("n2".to_owned(), gone())])
        };
        let own = ("n0", StoreId(1));
        let id = |index| Some(log_id(EntryId { index: EntryIndex(index), term: Term(1) }));
        let rows = [
            ("later, without it", (id(4), true), committed(5, &[(2, "n1")]), [true; 2]),
            ("as its own", (id(5), true), committed(5, &[(2, "n1")]), [false; 2]),
            ("earlier", (id(6), true), committed(5, &[(2, "n1")]), [false; 2]),
            ("later, with it", (id(4), true), committed(5, &[(1, "n0")]), [false; 2]),
            ("its name has another store", (id(4), true), committed(5, &[(9, "n0")]), [false; 2]),
            ("nobody says", (id(4), true), None, [false, true]),
            ("new, or gone: nobody says", (id(4), false), None, [false, true]),
            ("its own log says so, as others", (id(4), false), committed(4, &[]), [true; 2]),
            ("it was taken in again", (id(4), false), committed(5, &[(1, "n0")]), [false; 2]),
        ];
        for (what, recorded_here, recorded, want) in rows {
            let answers = says(recorded);
            let got = [false, true].map(|known| removal(own, recorded_here, known, &answers));
            assert_eq!(got.map(|why| why.is_some()), want, "{what}");
        }
    }

    #[test]
    fn a_store_is_empty_or_of_this_group() {
        let stores = BTreeMap::from([(1, Member::default()), (2, Member::default())]);
        let with = |store, empty, recorded| {
            let of = Answered { recorded, ..answered(store, empty).unwrap() };
            of.alien(&stores)
        };
        assert_eq!(with(9, true, None), None);
        assert_eq!(with(2, false, None), None);
        assert_eq!(with(9, false, committed(5, &[(9, "n9"), (1, "n0")])), None);
        let alien = with(9, false, committed(5, &[(9, "n9"), (8, "n8")])).unwrap();
        assert!(alien.contains("another group, of n8, n9") || alien.contains("n9"), "{alien}");
        assert!(with(9, false, None).is_some());
    }
}
