//! Who belongs to the group: its first start, and members that come back with another store.
//!
//! A group is initialised once, by its first member, when all members answer, are empty and agree.
//! Afterwards a majority is enough. A member whose store was lost comes back under another id: the
//! leader takes it in as a learner, and when it has caught up it takes the place of its former
//! self. Each step is decided anew from what is seen, so any step may fail and is tried again. With
//! each look it also learns which versions the members read ([`crate::raft::version`]), and goes on
//! to a newer one when all read it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{ChangeMembers, Raft};
use tokio::sync::{oneshot, watch};
use tonic::{Code, Status};

use crate::ids::{StoreId, Term};
use crate::raft::command::Command;
use crate::raft::membership::Member;
use crate::raft::network::Network;
use crate::raft::peers::Peers;
use crate::raft::proposal::Proposal;
use crate::raft::proposer::Proposer;
use crate::raft::role::Role;
use crate::raft::state_machine::StateMachine;
use crate::raft::type_config::{Membership, TypeConfig};
use crate::raft::version::{self, Active, GroupVersion, Reads};

const ASK_TIMEOUT: Duration = Duration::from_millis(500);
const PAUSE_BEFORE_START: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_secs(1);
/// A learner this close to the leader's last entry may vote.
const CAUGHT_UP_ENTRIES: u64 = 1000;

/// A member as it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answered {
    /// Its store.
    pub store_id: StoreId,
    /// Whether that store never saw a vote or an entry.
    pub empty: bool,
    /// Who takes writes, as far as it knows.
    pub leader: Option<String>,
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
    fn of(status: &Status) -> Self {
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

type Answers = BTreeMap<String, Result<Answered, NoAnswer>>;

/// What to do about a group that this member is not yet part of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FirstStart {
    /// All members are there, empty and agree: these are they.
    Initialize(BTreeMap<u64, Member>),
    /// Not this member's turn, or somebody is missing: the text says whom it waits for.
    Wait(String),
}

/// Decides a first start from the answers of the other members. Pure.
pub(super) fn first_start(own: (&str, StoreId), peers: &Peers, answers: &Answers) -> FirstStart {
    let mut members = BTreeMap::new();
    let (mut missing, mut belong) = (Vec::new(), Vec::new());
    for (name, address) in peers.iter() {
        let member = Member { name: name.to_owned(), address: address.to_string() };
        if name == own.0 {
            members.insert(own.1.0, member);
            continue;
        }
        match answers.get(name) {
            Some(Ok(answered)) if answered.empty => {
                members.insert(answered.store_id.0, member);
            }
            Some(Ok(_)) => belong.push(name),
            Some(Err(why)) => missing.push(format!("{name} at {address} ({why})")),
            None => missing.push(format!("{name} at {address}")),
        }
    }
    if !belong.is_empty() {
        let mut leaders =
            answers.values().filter_map(|answer| answer.as_ref().ok()?.leader.as_deref());
        // Who has not noticed yet takes the store that is lost for the leader.
        let leader = leaders.find(|leader| *leader != own.0);
        return FirstStart::Wait(to_be_taken_in(&belong, leader, &missing));
    }
    let wait = |what: String| FirstStart::Wait(format!("the group is not started yet: {what}"));
    if !missing.is_empty() {
        return wait(format!("waiting for {}", missing.join(", ")));
    }
    match peers.iter().next() {
        Some((first, _)) if first == own.0 => FirstStart::Initialize(members),
        Some((first, _)) => wait(format!("waiting for {first} to start it")),
        None => wait("no members are configured".to_owned()),
    }
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

/// Why nobody can lead: the voters that are missing, if those that are there are no majority.
/// Pure.
pub(super) fn missing_majority(
    membership: &Membership,
    own: StoreId,
    peers: &Peers,
    answers: &Answers,
) -> Option<String> {
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
        let address = peers.address(&member.name).map_or(member.address, ToString::to_string);
        let why = match answer(id) {
            Some(Ok(_)) => "lost its store",
            Some(Err(NoAnswer::Refused(why))) => why,
            Some(Err(NoAnswer::Failed(_))) | None => "does not answer",
        };
        format!("{} at {address} ({why})", member.name)
    });
    let missing: Vec<String> = missing.collect();
    Some(format!("no leader, a majority is missing: {}", missing.join(", ")))
}

/// What the leader does about one member that answers under another store id than recorded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Replacement {
    /// It is recorded as it is.
    None,
    /// Replicate to the new store, without a vote.
    AddLearner,
    /// The new store votes instead of the old one: these are all who vote then.
    Promote(BTreeSet<u64>),
    /// These never voted and are gone: the member lost its store again before it had caught up.
    Forget(BTreeSet<u64>),
    /// The new store is still catching up.
    CatchingUp {
        /// Entries to go.
        behind: u64,
    },
}

/// Membership as recorded, and how far replication is.
pub(super) struct Recorded<'a> {
    /// Members by store id.
    pub members: &'a BTreeMap<u64, Member>,
    /// Who votes.
    pub voters: &'a BTreeSet<u64>,
    /// Highest index known to be stored there.
    pub matched: &'a BTreeMap<u64, u64>,
    /// Leader's last index.
    pub last: u64,
}

/// Decides the next step for the member `name` that answers with store `found`. Pure.
pub(super) fn replacement(recorded: &Recorded<'_>, name: &str, found: StoreId) -> Replacement {
    let is_former = |id: &u64, member: &Member| member.name == name && *id != found.0;
    let formers = recorded.members.iter().filter(|(id, member)| is_former(id, member));
    let (voting, others): (BTreeSet<u64>, BTreeSet<u64>) =
        formers.map(|(id, _)| *id).partition(|id| recorded.voters.contains(id));
    if !others.is_empty() {
        return Replacement::Forget(others);
    }
    let votes = recorded.voters.contains(&found.0);
    if votes && voting.is_empty() {
        return Replacement::None;
    }
    if !recorded.members.contains_key(&found.0) {
        return Replacement::AddLearner;
    }
    let matched = recorded.matched.get(&found.0).map_or(0, |index| index + 1);
    let behind = (recorded.last + 1).saturating_sub(matched);
    // Both vote where a leader died half way: the old store, which is gone, must not go on voting.
    if behind > CAUGHT_UP_ENTRIES && !votes {
        return Replacement::CatchingUp { behind };
    }
    let mut voters: BTreeSet<u64> = recorded.voters.difference(&voting).copied().collect();
    voters.insert(found.0);
    Replacement::Promote(voters)
}

/// Starts the group if it was never started; while this member leads, replaces lost stores and
/// goes on to the newest version that all read.
pub(super) struct MemberKeeper {
    own: (String, StoreId),
    peers: Peers,
    network: Network,
    raft: Raft<TypeConfig, StateMachine>,
    role: watch::Receiver<Role>,
    proposer: Proposer,
    active: Active,
    waits_for: watch::Sender<Option<String>>,
}

/// What a leader said in former looks.
#[derive(Default)]
struct Said {
    /// What did not work, by member.
    refused: BTreeMap<String, String>,
    /// Whom a newer version waits for.
    version: Option<String>,
}

impl MemberKeeper {
    /// Keeps the group of `own`, whose members are configured as `peers` and asked by `network`;
    /// another version is proposed to `proposer`; `waits_for` is told what this member waits for, if
    /// it does.
    pub(super) fn new(
        own: (String, StoreId),
        peers: Peers,
        network: Network,
        (raft, role, proposer): (Raft<TypeConfig, StateMachine>, watch::Receiver<Role>, Proposer),
        waits_for: watch::Sender<Option<String>>,
    ) -> Self {
        let active = network.active().clone();
        Self { own, peers, network, raft, role, proposer, active, waits_for }
    }

    /// Runs until the group ends.
    pub(super) async fn run(mut self) {
        while let Ok(false) = self.raft.is_initialized().await {
            self.try_first_start().await;
            tokio::time::sleep(PAUSE_BEFORE_START).await;
        }
        self.says_anew(None);
        let mut said = Said::default();
        while self.raft.is_initialized().await.is_ok() {
            self.pause().await;
            let role = self.role.borrow_and_update().clone();
            let mut later = self.role.clone();
            let waits_for = match role {
                Role::Leader { term } => {
                    tokio::select! {
                        () = self.lead(term, &mut said) => {}
                        // A step is dropped half way; who leads next decides anew.
                        _ = later.wait_for(|role| !role.is_leader()) => {}
                    }
                    None
                }
                Role::Follower { leader: Some(_), .. } => None,
                Role::Follower { leader: None, .. } => self.missing_majority().await,
            };
            if let Some(why) = self.says_anew(waits_for) {
                tracing::warn!(why, "takes no writes");
            }
        }
    }

    /// Lets some time pass, unless this member begins to lead a group that might write a newer
    /// version: there members keep what they are asked until it does.
    async fn pause(&mut self) {
        let begins = async {
            while self.role.changed().await.is_ok() {
                let leads = self.role.borrow_and_update().is_leader();
                if leads && !self.active.has(GroupVersion::NEWEST) {
                    return;
                }
            }
            std::future::pending().await
        };
        // Both are cancel-safe.
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = begins => {}
        }
    }

    /// One look of the leader of `term`.
    async fn lead(&self, term: Term, said: &mut Said) {
        let answers = self.ask_others().await;
        self.raise_version(term, &answers, &mut said.version).await;
        self.replace_lost_stores(answers, &mut said.refused).await;
    }

    /// Activates the newest version that all members read, as they have just said.
    async fn raise_version(&self, term: Term, answers: &Answers, said: &mut Option<String>) {
        let membership = self.raft.metrics().borrow_watched().membership_config.clone();
        let reads = |id: u64, member: &Member| {
            if id == self.own.1.0 {
                return Some(Reads::OWN);
            }
            let answered = answers.get(&member.name)?.as_ref().ok()?;
            (answered.store_id.0 == id).then_some(answered.reads)
        };
        let members = membership.membership().nodes();
        let members = members.map(|(id, member)| (member.name.as_str(), reads(*id, member)));
        match version::step(self.active.get(), &members.collect::<Vec<_>>()) {
            version::Step::None => *said = None,
            version::Step::Wait(text) if said.as_ref() == Some(&text) => {}
            version::Step::Wait(text) => {
                tracing::info!("{text}");
                *said = Some(text);
            }
            version::Step::Activate(GroupVersion(version)) => {
                let activate = Command::Activate { version, term: term.0 };
                let (done, outcome) = oneshot::channel();
                self.proposer.propose(Proposal::of_commands(vec![activate], |result| {
                    drop(done.send(result.map(drop))); // this look may be over
                }));
                if let Ok(Err(error)) = outcome.await {
                    tracing::debug!(%error, version, "not activated");
                }
            }
        }
    }

    /// Tells what this member waits for; returns it if it was not told before.
    fn says_anew(&self, text: Option<String>) -> Option<String> {
        let told = self.waits_for.send_if_modified(|former| {
            let is_other = *former != text;
            former.clone_from(&text);
            is_other
        });
        text.filter(|_| told)
    }

    async fn missing_majority(&self) -> Option<String> {
        let answers = self.ask_others().await;
        let membership = self.raft.metrics().borrow_watched().membership_config.clone();
        missing_majority(membership.membership(), self.own.1, &self.peers, &answers)
    }

    async fn ask_others(&self) -> Answers {
        let others = self.peers.iter().filter(|(name, _)| *name != self.own.0);
        let asked = others.map(|(name, _)| async move {
            let answer = self.network.state(name, ASK_TIMEOUT).await;
            let answer = answer
                .map(|state| Answered {
                    store_id: StoreId(state.store_id),
                    empty: state.empty,
                    leader: Some(state.leader).filter(|name| !name.is_empty()),
                    reads: Reads::said(state.reads_from, state.reads_to),
                })
                .map_err(|status| NoAnswer::of(&status));
            (name.to_owned(), answer)
        });
        join_all(asked).await.into_iter().collect()
    }

    async fn try_first_start(&self) {
        let answers = self.ask_others().await;
        match first_start((&self.own.0, self.own.1), &self.peers, &answers) {
            FirstStart::Initialize(members) => match self.raft.initialize(members).await {
                Ok(()) => tracing::info!(members = %self.peers, "started the group"),
                Err(error) => tracing::warn!(%error, "could not start the group"),
            },
            FirstStart::Wait(text) => {
                if let Some(text) = self.says_anew(Some(text)) {
                    tracing::info!("{text}");
                }
            }
        }
    }

    /// `refused` remembers what did not work, and was said.
    async fn replace_lost_stores(&self, answers: Answers, refused: &mut BTreeMap<String, String>) {
        let others =
            answers.into_iter().filter_map(|(name, answer)| Some((name, answer.ok()?.store_id)));
        // This member may have had other stores, too.
        for (name, store) in others.chain([self.own.clone()]) {
            let Err(why) = self.step(&name, store).await else {
                refused.remove(&name);
                continue;
            };
            if refused.get(&name) != Some(&why) {
                tracing::warn!(member = name, %store, why, "could not change the membership");
                refused.insert(name, why);
            }
        }
    }

    async fn step(&self, name: &str, found: StoreId) -> Result<(), String> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership().clone();
        let members: BTreeMap<u64, Member> =
            membership.nodes().map(|(id, member)| (*id, member.clone())).collect();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let matched = metrics.replication.unwrap_or_default();
        let matched: BTreeMap<u64, u64> =
            matched.into_iter().filter_map(|(id, at)| Some((id, at?.index))).collect();
        let recorded = Recorded {
            members: &members,
            voters: &voters,
            matched: &matched,
            last: metrics.last_log_index.unwrap_or(0),
        };
        match replacement(&recorded, name, found) {
            Replacement::None => Ok(()),
            Replacement::CatchingUp { behind } => {
                tracing::debug!(member = name, store = %found, behind, "a new store catches up");
                Ok(())
            }
            Replacement::AddLearner => {
                let address = self.peers.address(name).map(ToString::to_string);
                let member = Member { name: name.to_owned(), address: address.unwrap_or_default() };
                let added = self.raft.add_learner(found.0, member, false).await;
                added.map_err(|error| error.to_string())?;
                tracing::info!(member = name, store = %found, "came back with a new store");
                Ok(())
            }
            Replacement::Promote(voters) => {
                let changed = self.raft.change_membership(voters, false).await;
                changed.map_err(|error| error.to_string())?;
                tracing::info!(member = name, store = %found, "votes in place of its lost store");
                Ok(())
            }
            Replacement::Forget(stores) => {
                let lost: Vec<_> = stores.iter().map(|id| StoreId(*id).to_string()).collect();
                let changed = ChangeMembers::RemoveNodes(stores);
                let changed = self.raft.change_membership(changed, false).await;
                changed.map_err(|error| error.to_string())?;
                tracing::info!(member = name, ?lost, "forgot stores that are gone");
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::peers::PeerAddress;

    fn peers() -> Peers {
        Peers::new(
            ["n0", "n1", "n2"]
                .map(|name| (name.to_owned(), PeerAddress { host: name.to_owned(), port: 1 })),
        )
    }

    fn answered(store_id: u64, empty: bool) -> Result<Answered, NoAnswer> {
        Ok(Answered { store_id: StoreId(store_id), empty, leader: None, reads: Reads::OWN })
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
        let started = first_start(("n0", StoreId(1)), &peers(), &all);
        let FirstStart::Initialize(members) = started else { panic!("{started:?}") };
        assert_eq!(members.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);

        let others = BTreeMap::from([
            ("n0".to_owned(), answered(1, true)),
            ("n2".to_owned(), answered(3, true)),
        ]);
        let turn = first_start(("n1", StoreId(2)), &peers(), &others);
        assert_eq!(
            turn,
            FirstStart::Wait("the group is not started yet: waiting for n0 to start it".to_owned())
        );

        let mut all_but_one = all;
        all_but_one.insert("n2".to_owned(), gone());
        let wait = first_start(("n0", StoreId(1)), &peers(), &all_but_one);
        assert_eq!(
            wait,
            FirstStart::Wait(
                "the group is not started yet: waiting for n2 at n2:1 (no route)".to_owned()
            )
        );
    }

    #[test]
    fn a_member_with_a_new_store_says_who_may_take_it_in() {
        let belongs = |leader: Option<&str>| {
            let leader = leader.map(str::to_owned);
            Ok(Answered { store_id: StoreId(3), empty: false, leader, reads: Reads::OWN })
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
            let wait = first_start(("n0", StoreId(1)), &peers(), &answers);
            assert_eq!(wait, FirstStart::Wait(format!("{known} {want}")));
        }
    }

    #[test]
    fn who_is_missing_is_said_when_those_that_are_there_are_no_majority() {
        let member = |name: &str| Member { name: name.to_owned(), address: "moved:1".to_owned() };
        let members = BTreeMap::from([(1, member("n0")), (2, member("n1")), (3, member("n2"))]);
        let three = || vec![BTreeSet::from([1, 2, 3])];
        let changing = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 2, 9])];
        let mut also_new = members.clone();
        also_new.insert(9, member("n2"));
        let refuses = || Err(NoAnswer::Refused("start n0 with another build".to_owned()));
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
            let got = missing_majority(&membership, StoreId(1), &peers(), &answers);
            assert_eq!(got, want.map(|want| format!("{missing}{want}")));
        }
    }

    #[test]
    fn a_lost_store_is_replaced_step_by_step() {
        use Replacement::{AddLearner, CatchingUp, Forget, Promote};
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
        let (old, new, other) = ((3, "n2"), (9, "n2"), (8, "n2"));
        // Besides 1 (n0) and 2 (n1): who is recorded; the voters; what 9 is known to have; the step
        let rows = [
            ("as recorded", vec![new], vec![1, 2, 9], None, Replacement::None),
            ("unknown", vec![old], vec![1, 2, 3], None, AddLearner),
            ("empty", vec![old, new], vec![1, 2, 3], None, CatchingUp { behind: 5001 }),
            ("caught up", vec![old, new], vec![1, 2, 3], Some(4500), Promote(set(&[1, 2, 9]))),
            ("lost again", vec![old, other], vec![1, 2, 3], None, Forget(set(&[8]))),
            (
                "lost again, new",
                vec![old, other, new],
                vec![1, 2, 3],
                Some(4500),
                Forget(set(&[8])),
            ),
            ("left over", vec![other, new], vec![1, 2, 9], Some(4500), Forget(set(&[8]))),
            ("half way", vec![old, new], vec![1, 2, 3, 9], None, Promote(set(&[1, 2, 9]))),
        ];
        for (what, recorded, voters, matched, want) in rows {
            let all = [(1, "n0"), (2, "n1")].into_iter().chain(recorded);
            let member = |name: &str| Member { name: name.to_owned(), address: String::new() };
            let members = all.map(|(id, name)| (id, member(name))).collect();
            let matched = matched.map(|index| (9, index)).into_iter().collect();
            let voters = voters.into_iter().collect();
            let recorded =
                Recorded { members: &members, voters: &voters, matched: &matched, last: 5000 };
            assert_eq!(replacement(&recorded, "n2", StoreId(9)), want, "{what}");
        }
    }
}
