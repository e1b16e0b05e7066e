//! What an operator wants of the group's members: each request is checked against all that the
//! leader sees before anything is recorded, and then it is one entry. What follows from it is
//! decided elsewhere ([`crate::raft::member_steps`]). Pure.
//!
//! One change at a time: the next one waits until nothing is on its way, unless it takes that back.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::StoreId;
use crate::raft::error::MemberError;
use crate::raft::member_steps::Recorded;
use crate::raft::membership::{self, Member, Wish};
use crate::raft::peers::PeerAddress;

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// A member that waits to be taken in joins the group.
    Add {
        /// Its name.
        name: String,
        /// Where its peers reach it.
        address: PeerAddress,
        /// What it shall be.
        part: Part,
    },
    /// A member leaves the group.
    Remove {
        /// Its name.
        name: String,
    },
    /// A member that waits to be taken in takes the place and the vote of another one.
    Replace {
        /// Who leaves.
        old: String,
        /// Who comes.
        new: String,
        /// Where its peers reach it.
        address: PeerAddress,
    },
    /// A member gets a vote or loses it; one that was to leave stays.
    Assign {
        /// Its name.
        name: String,
        /// What it shall be.
        part: Part,
    },
}

impl MemberChange {
    /// Who comes, and where, if somebody does.
    pub(super) fn comer(&self) -> Option<(&str, &PeerAddress)> {
        match self {
            Self::Add { name, address, .. } | Self::Replace { new: name, address, .. } => {
                Some((name, address))
            }
            Self::Remove { .. } | Self::Assign { .. } => None,
        }
    }
}

/// What a member is to the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It has a vote.
    Voter,
    /// It gets the log, and has none.
    Learner,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Voter => "a voter",
            Self::Learner => "a learner",
        })
    }
}

/// A member that shall come, as it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Comer {
    /// Its store.
    pub store: StoreId,
    /// What speaks against taking that store in, if anything.
    pub alien: Option<String>,
}

/// What is recorded, and what follows from that.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Plan {
    /// Members to record, by store.
    pub members: BTreeMap<u64, Member>,
    /// Stores to forget.
    pub forget: BTreeSet<u64>,
    /// For people: what happens, in order.
    pub steps: Vec<String>,
}

/// `dLegerPeers` of those members that said theirs, by name.
pub(super) type Files = BTreeMap<String, String>;

/// Plans a change. `comer` is what came of asking who comes, if anybody does. Pure.
pub(super) fn plan(
    change: &MemberChange,
    recorded: &Recorded,
    files: &Files,
    comer: Option<&Result<Comer, String>>,
) -> Result<Plan, MemberError> {
    if is_so_already(change, recorded) {
        let steps = vec!["nothing to do: it is so, or on its way".to_owned()];
        return Ok(Plan { steps, ..Plan::default() });
    }
    if !takes_back(change, recorded)
        && let Some(what) = under_way(recorded)
    {
        return Err(MemberError::UnderWay { what });
    }
    let mut plan = match change {
        MemberChange::Add { name, address, part } => {
            let id = welcome((name, address), recorded, files, comer)?;
            add(recorded, id, (name, address), *part)?
        }
        MemberChange::Replace { old, new, address } => {
            if old == new {
                return Err(MemberError::ItselfInPlace { name: old.clone() });
            }
            let id = welcome((new, address), recorded, files, comer)?;
            replace(recorded, id, old, (new, address))?
        }
        MemberChange::Remove { name } => remove(recorded, name)?,
        MemberChange::Assign { name, part } => assign(recorded, name, *part)?,
    };
    let voters = voters_then(recorded, &plan);
    if voters.len().is_multiple_of(2) {
        plan.steps.push(format!(
            "note: {} voters tolerate the loss of {}, as {} would: use an odd number",
            voters.len(),
            voters.len() / 2 - 1,
            voters.len() - 1
        ));
    }
    number(recorded, &mut plan);
    Ok(plan)
}

/// What is on its way, if anything.
pub(super) fn under_way(recorded: &Recorded) -> Option<String> {
    if recorded.voters.len() > 1 {
        return Some("the set of voters is changing".to_owned());
    }
    let voters = recorded.voters();
    recorded.members.iter().find_map(|(id, member)| {
        let (name, votes) = (&member.name, voters.contains(id));
        let is_lost = recorded.stores_of(name).len() > 1;
        Some(match &member.wish {
            _ if is_lost => format!("the lost store of {name} is being replaced"),
            Wish::Vote if !votes => format!("{name} is being added"),
            Wish::Replace(other) if !votes => format!("{name} is taking the place of {other}"),
            Wish::Leave => format!("{name} is leaving"),
            Wish::Learn if votes => format!("{name} is losing its vote"),
            Wish::Vote | Wish::Learn | Wish::Replace(_) => return None,
        })
    })
}

/// Asked again, a change goes on as it does.
fn is_so_already(change: &MemberChange, recorded: &Recorded) -> bool {
    let has = |name: &str, wish: &Wish, at: &PeerAddress| {
        let is_it = |member: &Member| {
            member.name == *name && member.wish == *wish && member.address == at.to_string()
        };
        recorded.members.values().any(is_it)
    };
    match change {
        MemberChange::Add { name, address, part } => has(name, &wish_of(*part), address),
        MemberChange::Replace { old, new, address } => {
            has(new, &Wish::Replace(old.clone()), address)
        }
        MemberChange::Remove { name } => membership::is_leaving(&recorded.members, name),
        MemberChange::Assign { name, part } => {
            let mut of_name = recorded.members.values().filter(|member| member.name == *name);
            of_name.any(|member| match (&member.wish, part) {
                (Wish::Vote | Wish::Replace(_), Part::Voter) | (Wish::Learn, Part::Learner) => true,
                (Wish::Vote | Wish::Replace(_) | Wish::Learn | Wish::Leave, _) => false,
            })
        }
    }
}

/// Whether a change undoes what is on its way.
fn takes_back(change: &MemberChange, recorded: &Recorded) -> bool {
    if recorded.voters.len() > 1 {
        return false;
    }
    let voters = recorded.voters();
    let is = |name: &str, votes: bool| {
        let stores = recorded.stores_of(name);
        stores.len() == 1 && stores.iter().all(|id| voters.contains(id) == votes)
    };
    match change {
        MemberChange::Remove { name } => is(name, false) || is_lost(recorded, name),
        MemberChange::Assign { name, part: Part::Voter } => {
            let replaces = Wish::Replace(name.clone());
            let mut others = recorded.members.iter().filter(|(id, _)| !voters.contains(id));
            is(name, true) && !others.any(|(_, other)| other.wish == replaces)
        }
        MemberChange::Add { .. } | MemberChange::Replace { .. } | MemberChange::Assign { .. } => {
            false
        }
    }
}

/// Whether a new store of a member is to take the place of one that votes.
fn is_lost(recorded: &Recorded, name: &str) -> bool {
    let (stores, voters) = (recorded.stores_of(name), recorded.voters());
    stores.len() > 1 && stores.intersection(&voters).count() == 1
}

fn wish_of(part: Part) -> Wish {
    match part {
        Part::Voter => Wish::Vote,
        Part::Learner => Wish::Learn,
    }
}

/// The store of who comes, if it may.
fn welcome(
    (name, address): (&str, &PeerAddress),
    recorded: &Recorded,
    files: &Files,
    comer: Option<&Result<Comer, String>>,
) -> Result<u64, MemberError> {
    let (name, at) = (name.to_owned(), address.to_string());
    if !recorded.stores_of(&name).is_empty() {
        return Err(MemberError::Known { name });
    }
    if let Some(other) = recorded.members.values().find(|member| member.address == at) {
        return Err(MemberError::AddressTaken { address: at, other: other.name.clone() });
    }
    // Who reads another address there would call, and may take in, whoever that is.
    let mut listed = files.iter().filter_map(|(member, file)| Some((member, listed(file, &name)?)));
    if let Some((member, there)) = listed.find(|(_, there)| *there != at) {
        let (member, configured) = (member.clone(), there.to_owned());
        return Err(MemberError::Elsewhere { name, member, address: at, configured });
    }
    let silent = |why: &str| MemberError::Silent {
        name: name.clone(),
        address: at.clone(),
        why: why.to_owned(),
    };
    let comer = match comer {
        Some(Ok(comer)) => comer,
        Some(Err(why)) => return Err(silent(why)),
        None => return Err(silent("it was not asked")),
    };
    if let Some(why) = comer.alien.clone() {
        return Err(MemberError::Alien { name, address: at, why });
    }
    Ok(comer.store.0)
}

/// Where a member is by a `dLegerPeers`, if it is there.
fn listed<'a>(file: &'a str, name: &str) -> Option<&'a str> {
    file.split(';').find_map(|entry| entry.strip_prefix(name)?.strip_prefix('-'))
}

/// Refuses a set of voters without a majority that is there; `comer` is, and has yet to catch up.
fn has_majority(
    recorded: &Recorded,
    voters: &BTreeSet<u64>,
    comer: Option<u64>,
) -> Result<(), MemberError> {
    let there = |id: &u64| Some(*id) == comer || recorded.is_near(*id);
    if voters.iter().filter(|id| there(id)).count() * 2 > voters.len() {
        return Ok(());
    }
    let lacking = recorded.lacking(voters).unwrap_or_default();
    Err(MemberError::NoMajority { voters: voters.len(), lacking })
}

fn add(
    recorded: &Recorded,
    id: u64,
    (name, address): (&str, &PeerAddress),
    part: Part,
) -> Result<Plan, MemberError> {
    let mut steps = vec![format!("{name} at {address} gets the log as a learner")];
    if part == Part::Voter {
        let mut voters = recorded.voters();
        voters.insert(id);
        has_majority(recorded, &voters, Some(id))?;
        steps.push(format!("{name} votes as soon as it has caught up: {} voters", voters.len()));
    }
    let member = Member {
        name: name.to_owned(),
        address: address.to_string(),
        wish: wish_of(part),
        broker_id: None,
    };
    Ok(Plan { members: BTreeMap::from([(id, member)]), forget: BTreeSet::new(), steps })
}

fn replace(
    recorded: &Recorded,
    id: u64,
    old: &str,
    (new, address): (&str, &PeerAddress),
) -> Result<Plan, MemberError> {
    let (leaver, _) = known(recorded, old)?;
    let mut voters = recorded.voters();
    if !voters.remove(&leaver) {
        return Err(MemberError::Voteless { name: old.to_owned() });
    }
    voters.insert(id);
    has_majority(recorded, &voters, Some(id))?;
    let member = Member {
        name: new.to_owned(),
        address: address.to_string(),
        wish: Wish::Replace(old.to_owned()),
        broker_id: None,
    };
    let steps = vec![
        format!("{new} at {address} gets the log as a learner"),
        format!("as soon as it has caught up, clients of {old} turn to others"),
        format!("{new} votes in place of {old}, which is removed: {} voters", voters.len()),
    ];
    Ok(Plan { members: BTreeMap::from([(id, member)]), forget: BTreeSet::new(), steps })
}

fn remove(recorded: &Recorded, name: &str) -> Result<Plan, MemberError> {
    let mut voters = recorded.voters();
    let (stores, lost) = (recorded.stores_of(name), is_lost(recorded, name));
    let voter = stores.intersection(&voters).next().filter(|_| lost);
    let (id, member) = match voter.and_then(|id| recorded.members.get_key_value(id)) {
        Some((id, member)) => (*id, member),
        None => known(recorded, name)?,
    };
    let forget = if lost { &stores - &voters } else { BTreeSet::new() };
    if !voters.remove(&id) {
        let mut plan = Plan {
            forget: recorded.stores_of(name),
            steps: vec![format!("{name}, which has no vote, is forgotten")],
            ..Plan::default()
        };
        if let Wish::Replace(old) = &member.wish
            && membership::is_leaving(&recorded.members, old)
        {
            let stays = |(id, member): (&u64, &Member)| {
                (*id, Member { wish: Wish::Vote, ..member.clone() })
            };
            let old = recorded.members.iter().filter(|(_, member)| member.name == *old);
            plan.members = old.map(stays).collect();
        }
        return Ok(plan);
    }
    if voters.is_empty() {
        return Err(MemberError::LastVoter { name: name.to_owned() });
    }
    has_majority(recorded, &voters, None)?;
    let mut steps = Vec::new();
    if id == recorded.own.0 {
        steps.push(format!("{name} hands leadership over"));
    }
    if recorded.is_near(id) {
        steps.push(format!("clients of {name} turn to others"));
    }
    steps.push(format!("{name} is removed: {} voters", voters.len()));
    let member = Member { wish: Wish::Leave, ..member.clone() };
    Ok(Plan { members: BTreeMap::from([(id, member)]), forget, steps })
}

fn assign(recorded: &Recorded, name: &str, part: Part) -> Result<Plan, MemberError> {
    let (id, member) = known(recorded, name)?;
    let mut voters = recorded.voters();
    let votes = match part {
        Part::Voter => voters.insert(id),
        Part::Learner => voters.remove(&id),
    };
    if voters.is_empty() {
        return Err(MemberError::LastVoter { name: name.to_owned() });
    }
    if votes {
        has_majority(recorded, &voters, (part == Part::Voter).then_some(id))?;
    }
    let member = Member { wish: wish_of(part), ..member.clone() };
    let steps = vec![format!("{name} is {part} from then on: {} voters", voters.len())];
    Ok(Plan { members: BTreeMap::from([(id, member)]), forget: BTreeSet::new(), steps })
}

/// The store of a member that is recorded; of two the one that votes.
fn known<'a>(recorded: &'a Recorded, name: &str) -> Result<(u64, &'a Member), MemberError> {
    let voters = recorded.voters();
    let stores = recorded.stores_of(name);
    let id = stores.iter().find(|id| voters.contains(id)).or_else(|| stores.first());
    let member = id.and_then(|id| Some((*id, recorded.members.get(id)?)));
    member.ok_or_else(|| {
        let names: BTreeSet<&str> =
            recorded.members.values().map(|member| member.name.as_str()).collect();
        let members = names.into_iter().collect::<Vec<_>>().join(", ");
        MemberError::Unknown { name: name.to_owned(), members }
    })
}

/// Who votes when all that is wished has come true.
fn voters_then(recorded: &Recorded, plan: &Plan) -> BTreeSet<u64> {
    let mut members = recorded.members.clone();
    members.retain(|id, _| !plan.forget.contains(id));
    members.extend(plan.members.clone());
    let former = recorded.voters();
    let replaced: BTreeSet<&str> = members
        .iter()
        .filter_map(|(id, member)| match &member.wish {
            Wish::Replace(old) if !former.contains(id) => Some(old.as_str()),
            Wish::Replace(_) | Wish::Vote | Wish::Learn | Wish::Leave => None,
        })
        .collect();
    let votes = |member: &Member| match member.wish {
        Wish::Vote => !replaced.contains(member.name.as_str()),
        Wish::Replace(_) => true,
        Wish::Learn | Wish::Leave => false,
    };
    members.iter().filter(|(_, member)| votes(member)).map(|(id, _)| *id).collect()
}

/// Gives each member an id to follow under that it keeps: those that are there the one that they
/// have, who comes the first that is free.
fn number(recorded: &Recorded, plan: &mut Plan) {
    let (ids, forget) = (membership::broker_ids(&recorded.members), plan.forget.clone());
    let mut all = recorded.members.clone();
    all.retain(|id, _| !forget.contains(id));
    all.append(&mut plan.members);
    let mut taken: BTreeSet<u64> = ids.values().copied().collect();
    for member in all.values_mut() {
        member.broker_id = ids.get(&member.name).copied().or_else(|| {
            let free = (1..).find(|id| !taken.contains(id));
            taken.extend(free);
            free
        });
    }
    let is_news = |id: &u64, member: &Member| recorded.members.get(id) != Some(member);
    all.retain(|id, member| is_news(id, member));
    plan.members = all;
}

#[cfg(test)]
mod tests;
