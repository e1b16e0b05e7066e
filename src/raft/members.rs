//! Who belongs to the group: its first start, and members that come back with another store.
//!
//! A group is initialised once, by its first member, when all members answer, are empty and agree.
//! Afterwards a majority is enough. A member whose store was lost comes back under another id: the
//! leader takes it in as a learner, and when it has caught up it takes the place of its former
//! self. Each step is decided anew from what is seen, so any step may fail and is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{ChangeMembers, Raft};

use crate::ids::StoreId;
use crate::raft::membership::Member;
use crate::raft::network::Network;
use crate::raft::peers::Peers;
use crate::raft::state_machine::StateMachine;
use crate::raft::type_config::TypeConfig;

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
}

/// What to do about a group that this member is not yet part of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FirstStart {
    /// All members are there, empty and agree: these are they.
    Initialize(BTreeMap<u64, Member>),
    /// Not this member's turn, or somebody is missing: the text says whom it waits for.
    Wait(String),
}

/// Decides a first start from the answers of the other members. Pure.
pub(super) fn first_start(
    own: (&str, StoreId),
    peers: &Peers,
    answers: &BTreeMap<String, Result<Answered, String>>,
) -> FirstStart {
    let mut members = BTreeMap::new();
    let mut missing = Vec::new();
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
            Some(Ok(_)) => {
                return FirstStart::Wait(format!(
                    "{name} already belongs to the group; its leader will take this member in"
                ));
            }
            Some(Err(why)) => missing.push(format!("{name} at {address} ({why})")),
            None => missing.push(format!("{name} at {address}")),
        }
    }
    if !missing.is_empty() {
        return FirstStart::Wait(format!("waiting for {}", missing.join(", ")));
    }
    match peers.iter().next() {
        Some((first, _)) if first == own.0 => FirstStart::Initialize(members),
        Some((first, _)) => FirstStart::Wait(format!("waiting for {first} to start the group")),
        None => FirstStart::Wait("no members are configured".to_owned()),
    }
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

/// Starts the group if it was never started, and replaces lost stores while this member leads.
pub(super) struct MemberKeeper {
    /// This member.
    pub own: (String, StoreId),
    /// All members as configured.
    pub peers: Peers,
    /// How to ask them.
    pub network: Network,
    /// The group.
    pub raft: Raft<TypeConfig, StateMachine>,
}

impl MemberKeeper {
    /// Runs until the group ends.
    pub(super) async fn run(self) {
        let mut said = String::new();
        while let Ok(false) = self.raft.is_initialized().await {
            self.try_first_start(&mut said).await;
            tokio::time::sleep(PAUSE_BEFORE_START).await;
        }
        while self.raft.is_initialized().await.is_ok() {
            tokio::time::sleep(PAUSE).await;
            if self.raft.is_leader() {
                self.replace_lost_stores().await;
            }
        }
    }

    async fn ask_others(&self) -> BTreeMap<String, Result<Answered, String>> {
        let others = self.peers.iter().filter(|(name, _)| *name != self.own.0);
        let asked = others.map(|(name, _)| async move {
            let answer = self.network.state(name, ASK_TIMEOUT).await;
            let answer = answer
                .map(|state| Answered { store_id: StoreId(state.store_id), empty: state.empty })
                .map_err(|status| status.message().to_owned());
            (name.to_owned(), answer)
        });
        join_all(asked).await.into_iter().collect()
    }

    async fn try_first_start(&self, said: &mut String) {
        let answers = self.ask_others().await;
        match first_start((&self.own.0, self.own.1), &self.peers, &answers) {
            FirstStart::Initialize(members) => match self.raft.initialize(members).await {
                Ok(()) => tracing::info!(members = %self.peers, "started the group"),
                Err(error) => tracing::warn!(%error, "could not start the group"),
            },
            FirstStart::Wait(text) => {
                if *said != text {
                    tracing::info!("the group is not started yet: {text}");
                    *said = text;
                }
            }
        }
    }

    async fn replace_lost_stores(&self) {
        let answers = self.ask_others().await;
        let others =
            answers.into_iter().filter_map(|(name, answer)| Some((name, answer.ok()?.store_id)));
        // This member may have had other stores, too.
        for (name, store) in others.chain([self.own.clone()]) {
            if let Err(why) = self.step(&name, store).await {
                tracing::warn!(member = name, %store, why, "membership");
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
                tracing::info!(member = name, store = %found, behind, "a new store catches up");
                Ok(())
            }
            Replacement::AddLearner => {
                let address = self.peers.address(name).map(ToString::to_string);
                let member = Member { name: name.to_owned(), address: address.unwrap_or_default() };
                tracing::info!(member = name, store = %found, "came back with a new store");
                let added = self.raft.add_learner(found.0, member, false).await;
                added.map(|_| ()).map_err(|error| error.to_string())
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

    fn answered(store_id: u64, empty: bool) -> Result<Answered, String> {
        Ok(Answered { store_id: StoreId(store_id), empty })
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
        assert_eq!(turn, FirstStart::Wait("waiting for n0 to start the group".to_owned()));

        let mut gone = all.clone();
        gone.insert("n2".to_owned(), Err("refused".to_owned()));
        let wait = first_start(("n0", StoreId(1)), &peers(), &gone);
        assert_eq!(wait, FirstStart::Wait("waiting for n2 at n2:1 (refused)".to_owned()));

        let mut old = all;
        old.insert("n2".to_owned(), answered(3, false));
        let wait = first_start(("n0", StoreId(1)), &peers(), &old);
        assert!(matches!(wait, FirstStart::Wait(text) if text.contains("already belongs")));
    }

    #[test]
    fn a_lost_store_is_replaced_step_by_step() {
        use Replacement::{AddLearner, CatchingUp, Forget, Promote};
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
        let (old, new, other) = ((3, "n2"), (9, "n2"), (8, "n2"));
        // Besides 1 (n0) and 2 (n1): who is recorded; the voters; what 9 is known to have; the step
        let rows: [(&str, &[(u64, &str)], &[u64], Option<u64>, Replacement); 8] = [
            ("as recorded", &[new], &[1, 2, 9], None, Replacement::None),
            ("unknown", &[old], &[1, 2, 3], None, AddLearner),
            ("empty", &[old, new], &[1, 2, 3], None, CatchingUp { behind: 5001 }),
            ("caught up", &[old, new], &[1, 2, 3], Some(4500), Promote(set(&[1, 2, 9]))),
            ("lost again", &[old, other], &[1, 2, 3], None, Forget(set(&[8]))),
            ("lost again, taken in", &[old, other, new], &[1, 2, 3], Some(4500), Forget(set(&[8]))),
            ("left over", &[other, new], &[1, 2, 9], Some(4500), Forget(set(&[8]))),
            ("half way", &[old, new], &[1, 2, 3, 9], None, Promote(set(&[1, 2, 9]))),
        ];
        for (what, recorded, voters, matched, want) in rows {
            let all = [(1, "n0"), (2, "n1")].iter().chain(recorded);
            let member = |name: &str| Member { name: name.to_owned(), address: String::new() };
            let members = all.map(|(id, name)| (*id, member(name))).collect();
            let matched = matched.map(|index| (9, index)).into_iter().collect();
            let voters = voters.iter().copied().collect();
            let recorded =
                Recorded { members: &members, voters: &voters, matched: &matched, last: 5000 };
            assert_eq!(replacement(&recorded, "n2", StoreId(9)), want, "{what}");
        }
    }
}
