//! What the leader does next about its members: lost stores are replaced, and operators' wishes
//! come true. Decided anew from what is recorded before each step, so any step may fail, and any
//! leader may go on. Pure.
//!
//! ```text
//!  add      learner ──► near ──► votes                          (joint consensus)
//!  replace  learner ──► near ──► the other one leaves ──► farewell ──► votes in its place
//!  remove   leaves ──► farewell ──► votes no more, forgotten    (a leader hands over first)
//!  lost     its new store learns ──► near ──► votes in place of the old one
//! ```
//!
//! No step leaves a group without a majority that is there and near. A farewell is the time in
//! which clients of a member that leaves turn to others; one that is dead gets none.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::StoreId;
use crate::raft::membership::{Member, Wish};
#[cfg(test)]
use crate::raft::simulation::planted::{Bug, is_planted};

/// A store that lacks no more entries than this has them in a moment.
pub(super) const NEAR_ENTRIES: u64 = 100;

/// A store other than the leader's, as the leader sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sight {
    /// Highest index known to be stored there.
    pub matched: Option<u64>,
    /// Whether it answered lately.
    pub answers: bool,
    /// Whether its farewell is over, or it is dead.
    pub has_said_farewell: bool,
}

/// Membership as recorded, and how far replication is.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    /// The leader's store.
    pub own: StoreId,
    /// Members by store id.
    pub members: BTreeMap<u64, Member>,
    /// Who votes: one set, or two while that changes.
    pub voters: Vec<BTreeSet<u64>>,
    /// The leader's last index.
    pub last: u64,
    /// The others.
    pub sights: BTreeMap<u64, Sight>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// All is as it shall be.
    Nothing,
    /// It takes time.
    Wait(String),
    /// Records members, and forgets others that do not vote, in one entry.
    Record {
        /// Members by store.
        members: BTreeMap<u64, Member>,
        /// Stores.
        forget: BTreeSet<u64>,
    },
    /// These are all who vote from then on, by joint consensus.
    Vote {
        /// Their stores.
        voters: BTreeSet<u64>,
        /// Whether who votes no more still gets the log.
        keeps: bool,
    },
    /// Ends a joint membership that a former leader began.
    Settle {
        /// As above.
        keeps: bool,
    },
    /// Another member has to lead first.
    HandOver,
}

impl Recorded {
    /// Who votes when no change is under way, or at its end.
    pub(super) fn voters(&self) -> BTreeSet<u64> {
        self.voters.last().cloned().unwrap_or_default()
    }

    /// Stores of that name.
    pub(super) fn stores_of(&self, name: &str) -> BTreeSet<u64> {
        let of_name = self.members.iter().filter(|(_, member)| member.name == name);
        of_name.map(|(id, _)| *id).collect()
    }

    /// Whether a store of that name votes.
    fn votes(&self, name: &str) -> bool {
        let voters = self.voters();
        self.stores_of(name).iter().any(|store| voters.contains(store))
    }

    /// Entries that a store lacks.
    pub(super) fn behind(&self, id: u64) -> u64 {
        if id == self.own.0 {
            return 0;
        }
        let has = self.sights.get(&id).and_then(|sight| sight.matched).map_or(0, |at| at + 1);
        (self.last + 1).saturating_sub(has)
    }

    /// Whether a store answers and would have everything in a moment.
    pub(super) fn is_near(&self, id: u64) -> bool {
        let answers = self.sights.get(&id).is_some_and(|sight| sight.answers);
        id == self.own.0 || (answers && self.behind(id) <= NEAR_ENTRIES)
    }

    /// Those of `voters` that are not near, by name, if the others are no majority.
    pub(super) fn lacking(&self, voters: &BTreeSet<u64>) -> Option<String> {
        let (near, far): (Vec<u64>, Vec<u64>) = voters.iter().partition(|id| self.is_near(**id));
        let name = |id: &u64| self.members.get(id).map_or("", |member| &member.name);
        let of_one = |id: &u64| match self.sights.get(id) {
            Some(sight) if sight.answers => {
                format!("{} lacks {} entries", name(id), self.behind(*id))
            }
            Some(_) | None => format!("{} does not answer", name(id)),
        };
        let far: Vec<String> = far.iter().map(of_one).collect();
        (near.len() * 2 <= voters.len()).then(|| far.join(", "))
    }
}

/// Decides the next step; `found` are the stores that answer by the names of members. Pure.
pub(super) fn next_step(recorded: &Recorded, found: &BTreeMap<String, StoreId>) -> Step {
    if let [former, .., next] = &recorded.voters[..] {
        let leavers = former.difference(next).filter_map(|id| recorded.members.get(id));
        let keeps =
            leavers.clone().count() > 0 && leavers.clone().all(|member| member.wish == Wish::Learn);
        return Step::Settle { keeps };
    }
    let lost = found.iter().map(|(name, store)| replacement(recorded, name, *store));
    let wishes = recorded.members.iter().map(|(id, member)| wish(recorded, *id, member));
    let mut wait = Step::Nothing;
    for step in lost.chain(wishes) {
        match step {
            Step::Nothing => {}
            Step::Wait(_) if wait != Step::Nothing => {}
            Step::Wait(_) => wait = step,
            _ => return step,
        }
    }
    wait
}

/// `voters` vote from then on, unless the group would have no majority.
fn vote(recorded: &Recorded, voters: BTreeSet<u64>, keeps: bool) -> Step {
    match recorded.lacking(&voters) {
        Some(lacking) => Step::Wait(format!("the members would be no majority then: {lacking}")),
        None => Step::Vote { voters, keeps },
    }
}

/// Of a member that answers with another store than recorded.
fn replacement(recorded: &Recorded, name: &str, found: StoreId) -> Step {
    let mut formers = recorded.stores_of(name);
    let is_recorded = formers.remove(&found.0);
    let voters = recorded.voters();
    let (voting, others): (BTreeSet<u64>, BTreeSet<u64>) =
        formers.into_iter().partition(|id| voters.contains(id));
    let former = voting.first().or_else(|| others.first()).and_then(|id| recorded.members.get(id));
    let Some(former) = former.filter(|former| former.wish != Wish::Leave) else {
        return Step::Nothing;
    };
    if !is_recorded {
        // Who replaced another one and votes has come; that name may be a new member's by now.
        let has_come = !voting.is_empty() && matches!(former.wish, Wish::Replace(_));
        let wish = if has_come { Wish::Vote } else { former.wish.clone() };
        let members = BTreeMap::from([(found.0, Member { wish, ..former.clone() })]);
        return Step::Record { members, forget: others };
    }
    if !others.is_empty() {
        return Step::Record { members: BTreeMap::new(), forget: others };
    }
    if former.wish == Wish::Learn {
        return Step::Nothing; // the lost store votes no more first
    }
    if !voters.contains(&found.0) && !recorded.is_near(found.0) {
        let behind = recorded.behind(found.0);
        return Step::Wait(format!("{name}'s new store lacks {behind} entries"));
    }
    let mut next: BTreeSet<u64> = voters.difference(&voting).copied().collect();
    next.insert(found.0);
    vote(recorded, next, false)
}

/// Of a member that is not what it shall be.
fn wish(recorded: &Recorded, id: u64, member: &Member) -> Step {
    let voters = recorded.voters();
    let votes = voters.contains(&id);
    match &member.wish {
        Wish::Learn if votes => {
            let rest: BTreeSet<u64> = voters.into_iter().filter(|voter| *voter != id).collect();
            if id == recorded.own.0 { Step::HandOver } else { vote(recorded, rest, true) }
        }
        Wish::Leave if votes => farewell(recorded, id, member, voters),
        Wish::Leave => Step::Record { members: BTreeMap::new(), forget: BTreeSet::from([id]) },
        Wish::Vote if !votes => promotion(recorded, id, member, voters),
        Wish::Replace(_) if recorded.votes(&member.name) => Step::Nothing, // see `replacement`
        Wish::Replace(other) if !votes => {
            let stores = recorded.stores_of(other);
            let other = stores.iter().find(|store| voters.contains(store));
            let leaver = other.and_then(|store| Some((*store, recorded.members.get(store)?)));
            match leaver {
                None => promotion(recorded, id, member, voters),
                Some((_, leaver)) if leaver.wish == Wish::Leave => Step::Nothing,
                Some(_) if !recorded.is_near(id) => catches_up(recorded, id, member),
                Some((store, leaver)) => {
                    let leaver = Member { wish: Wish::Leave, ..leaver.clone() };
                    let members = BTreeMap::from([(store, leaver)]);
                    // A store that came in place of a lost one goes with it.
                    let forget = stores.difference(&voters).copied().collect();
                    Step::Record { members, forget }
                }
            }
        }
        Wish::Learn | Wish::Vote | Wish::Replace(_) => Step::Nothing,
    }
}

fn catches_up(recorded: &Recorded, id: u64, member: &Member) -> Step {
    let answers = recorded.sights.get(&id).is_some_and(|sight| sight.answers);
    let behind = recorded.behind(id);
    let does = if answers { "" } else { "does not answer and " };
    Step::Wait(format!("{} {does}lacks {behind} entries", member.name))
}

/// A member that has no vote yet gets it, unless that is a lost store's.
fn promotion(recorded: &Recorded, id: u64, member: &Member, mut voters: BTreeSet<u64>) -> Step {
    if recorded.votes(&member.name) {
        return Step::Nothing; // see `replacement`
    }
    let is_near = recorded.is_near(id);
    #[cfg(test)]
    let is_near = is_near || is_planted(Bug::AdmitsAtOnce);
    if !is_near {
        return catches_up(recorded, id, member);
    }
    voters.insert(id);
    vote(recorded, voters, false)
}

/// A voter that leaves goes, or makes way for who replaces it.
fn farewell(recorded: &Recorded, id: u64, member: &Member, mut voters: BTreeSet<u64>) -> Step {
    let replaces = Wish::Replace(member.name.clone());
    let mut comers = recorded.members.iter().filter(|(store, _)| !voters.contains(store));
    let heir = comers.find(|(_, other)| other.wish == replaces);
    if let Some((store, heir)) = heir.filter(|(store, _)| !recorded.is_near(**store)) {
        return catches_up(recorded, *store, heir);
    }
    voters.remove(&id);
    voters.extend(heir.map(|(store, _)| *store));
    if voters.is_empty() {
        return Step::Wait(format!("{} is the last voter", member.name));
    }
    if id == recorded.own.0 {
        return Step::HandOver;
    }
    let sight = recorded.sights.get(&id).copied().unwrap_or_default();
    if !sight.has_said_farewell {
        return Step::Wait(format!("clients of {} turn to others", member.name));
    }
    vote(recorded, voters, false)
}

#[cfg(test)]
mod tests;
