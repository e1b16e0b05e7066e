//! An operator changes who belongs to the group, by the checks and steps that are the product's;
//! and what must come of it.
//!
//! The promise is an operator's who looks: where entries are acknowledged from memory, or a disk
//! lacks something, no group is made smaller than three voters, and while one is, none is lost.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use openraft::async_runtime::watch::WatchReceiver as _;

use super::damage::Lossy;
use super::machine::Machine;
use super::{PEACE_MS, RECOVERY_MS, SPARE, World, address, name, peers};
use crate::raft::membership::{Member, Wish};
use crate::raft::type_config::Membership;
use crate::raft::{Group, MemberChange, MemberError, MemberStatus, Mode, Part};
use crate::store::Durability;

/// Clients of simulations turn to others by themselves.
pub(super) const FAREWELL: Duration = Duration::from_millis(1500);
/// How long a member may take to notice that it was removed, ms.
const NOTICE_MS: u64 = 10_000;
/// After this long an operator waits no longer for an answer, ms.
const PATIENCE_MS: u64 = 10_000;

type Outcome = Result<Vec<String>, MemberError>;

/// Who asks for changes of members, one at a time, and what that one was told.
pub(super) struct Operator {
    asks: Option<Asked>,
    /// What members must be in the end, or not be, as far as that is known.
    certain: BTreeMap<String, Option<Part>>,
    /// Whether the group may have fewer than three voters.
    pub(super) is_thin: bool,
    /// Of each client, whether whom it asks knows that it was removed.
    is_asked_in_vain: BTreeMap<usize, bool>,
}

struct Asked {
    machine: usize,
    since: u64,
    change: MemberChange,
    outcome: Pin<Box<dyn Future<Output = Outcome>>>,
}

impl Operator {
    /// Of a group whose members are those that are said to be.
    pub(super) fn of(machines: impl Iterator<Item = (String, bool)>) -> Self {
        let part = |belongs: bool| belongs.then_some(Part::Voter);
        let certain = machines.map(|(name, belongs)| (name, part(belongs))).collect();
        Self { asks: None, certain, is_thin: false, is_asked_in_vain: BTreeMap::new() }
    }

    /// What was asked there has no answer.
    pub(super) fn hears_nothing_of(&mut self, machine: usize) {
        if let Some(asked) = self.asks.take_if(|asked| asked.machine == machine) {
            self.is_uncertain(&asked.change);
        }
    }

    /// A client asks a member.
    pub(super) fn note_asked(&mut self, client: usize, group: &Group) {
        let in_vain = *group.0.kept.removed.borrow() && !group.role().is_leader();
        self.is_asked_in_vain.insert(client, in_vain);
    }

    /// The client's send was acknowledged.
    pub(super) fn check_acknowledged(&self, client: usize) -> Result<(), String> {
        match self.is_asked_in_vain.get(&client) {
            Some(true) => Err(format!("I19: a removed member acknowledged a send of {client}")),
            Some(false) | None => Ok(()),
        }
    }

    /// A change was made, or is as good as made.
    fn is_certain(&mut self, change: &MemberChange) {
        self.is_uncertain(change);
        match change {
            MemberChange::Add { name, part, .. } | MemberChange::Assign { name, part } => {
                self.certain.insert(name.clone(), Some(*part));
            }
            MemberChange::Remove { name } => _ = self.certain.insert(name.clone(), None),
            MemberChange::Replace { old, new, .. } => {
                self.certain.insert(old.clone(), None);
                self.certain.insert(new.clone(), Some(Part::Voter));
            }
        }
    }

    /// A change was made or not. Who comes in another's place may be removed before or after that
    /// one goes, so that nobody knows of any that is gone.
    fn is_uncertain(&mut self, change: &MemberChange) {
        match change {
            MemberChange::Add { name, .. } | MemberChange::Assign { name, .. } => {
                self.certain.remove(name);
            }
            MemberChange::Remove { name } => {
                self.certain.remove(name);
                self.certain.retain(|_, part| part.is_some());
            }
            MemberChange::Replace { old, new, .. } => {
                self.certain.remove(old);
                self.certain.remove(new);
            }
        }
    }

    /// Whether all is as the operator was told that it will be.
    fn check(&self, members: &[MemberStatus]) -> Result<(), String> {
        for (name, part) in &self.certain {
            let found = members.iter().find(|member| member.name == *name);
            let found = found.map(|member| member.part);
            if found != *part {
                return Err(format!("{name} is {found:?}, and was to be {part:?}"));
            }
        }
        Ok(())
    }
}

/// Whether it is certain that nothing was recorded.
fn is_refusal(error: &MemberError) -> bool {
    !matches!(error, MemberError::NotRecorded { .. } | MemberError::Interrupted)
}

impl World {
    /// Machines whose members belong to the group, as it is committed.
    pub(super) fn insiders(&self) -> Vec<usize> {
        let belongs = |index: &usize| match self.oracle.members() {
            Some(members) => members.nodes().any(|(_, member)| member.name == name(*index)),
            None => *index < self.plan.members,
        };
        (0..self.machines.len()).filter(belongs).collect()
    }

    /// An operator asks whoever leads for a change that `member` takes part in, perhaps.
    pub(super) fn change_members(&mut self, member: usize) {
        let leads = |machine: &&Machine| machine.group().is_some_and(|g| g.role().is_leader());
        let leader = self.machines.iter().find(leads).map(|machine| machine.index);
        let group = leader.and_then(|leader| Some((leader, self.machines[leader].group()?)));
        let (None, Some((leader, group))) = (&self.operator.asks, group) else { return };
        self.machines[leader].set_time(self.now);
        let members = group.members();
        let is_outside = |index: &usize| members.iter().all(|member| member.name != name(*index));
        let outside: Vec<usize> = (0..self.machines.len()).filter(is_outside).collect();
        let comes = self.chance.choice(&outside).copied();
        if let Some(comes) = comes.filter(|_| self.chance.u32(0..6) == 0) {
            // Files lag behind until somebody has to look at them.
            self.machines[comes].options.peers = peers(self.plan.members + SPARE);
            return self.empty(comes);
        }
        let change = self.draw_change(name(member), comes);
        if !self.is_sensible(&change, &members) {
            return;
        }
        self.note(&format!("n{leader} is asked for {change:?}"));
        self.oracle.asked.push(change.clone());
        let wanted = change.clone();
        let outcome = async move { group.change_members(wanted, Mode::Record).await };
        let (since, outcome) = (self.now, Box::pin(outcome));
        self.operator.asks = Some(Asked { machine: leader, since, change, outcome });
    }

    fn draw_change(&mut self, member: String, comes: Option<usize>) -> MemberChange {
        let comer = comes.map(|index| (name(index), address(index)));
        match (self.chance.u32(0..8), comer) {
            (0..3, Some((name, address))) => MemberChange::Add { name, address, part: Part::Voter },
            (3, Some((name, address))) => MemberChange::Add { name, address, part: Part::Learner },
            (4, Some((new, address))) => MemberChange::Replace { old: member, new, address },
            (0..3 | 5, _) => MemberChange::Remove { name: member },
            (6, _) => MemberChange::Assign { name: member, part: Part::Learner },
            _ => MemberChange::Assign { name: member, part: Part::Voter },
        }
    }

    /// Whether an operator who looks would ask for that.
    fn is_sensible(&mut self, change: &MemberChange, members: &[MemberStatus]) -> bool {
        let votes = |member: &&MemberStatus| member.part == Part::Voter;
        let goes = match change {
            MemberChange::Remove { name } | MemberChange::Assign { name, part: Part::Learner } => {
                members.iter().filter(votes).any(|member| member.name == *name)
            }
            MemberChange::Add { .. } | MemberChange::Replace { .. } => false,
            MemberChange::Assign { part: Part::Voter, .. } => false,
        };
        let voters = members.iter().filter(votes).count();
        if !goes || voters > 3 {
            return true;
        }
        let synced = self.plan.durability == Durability::Synced;
        let may_be_thin = synced && voters == 3 && self.lossy == Lossy::Nobody;
        self.operator.is_thin |= may_be_thin;
        may_be_thin
    }

    /// Takes in what the operator is told.
    pub(super) fn hear_operator(&mut self) {
        let Some(asked) = &mut self.operator.asks else { return };
        let outcome = asked.outcome.as_mut().now_or_never();
        if outcome.is_none() && self.now < asked.since + PATIENCE_MS {
            return;
        }
        let Some(Asked { change, .. }) = self.operator.asks.take() else { return };
        match &outcome {
            Some(Ok(steps)) if steps.iter().any(|step| step.starts_with("nothing to do")) => {}
            Some(Ok(_)) => self.operator.is_certain(&change),
            Some(Err(error)) if is_refusal(error) => _ = self.oracle.asked.pop(),
            Some(Err(_)) | None => self.operator.is_uncertain(&change),
        }
        let told = outcome.map(|outcome| outcome.map_err(|error| error.to_string()));
        self.note(&format!("the operator is told {told:?}"));
    }

    /// A settled group has three voters again, or never had fewer.
    pub(super) fn look_at_voters(&mut self) {
        let voters = self.oracle.members().map_or(0, |members| members.voter_ids().count());
        if self.operator.is_thin && self.operator.asks.is_none() && voters >= 3 && self.is_settled()
        {
            self.operator.is_thin = false;
        }
    }

    /// In the end: who was removed says so, all is as the operator was told, and nobody disturbs.
    pub(super) fn keep_peace(&mut self) -> Result<(), String> {
        if !self.temper.changes_members() {
            return Ok(());
        }
        let since = self.now;
        while let Some(index) = self.goes_on() {
            if self.now > since + NOTICE_MS {
                return Err(format!("I19: n{index} was removed, and goes on as a member"));
            }
            self.switch_on();
            self.step()?;
        }
        let leader = self.machines.iter().filter_map(Machine::group).find(|g| g.role().is_leader());
        let leader = leader.ok_or_else(|| "I19: nobody leads in the end".to_owned())?;
        self.operator.check(&leader.members())?;
        let term = leader.status().term;
        drop(leader);
        let until = self.now + PEACE_MS;
        while self.now < until {
            self.switch_on();
            self.step()?;
            if let Some(index) = self.stands_for_election(term.0) {
                return Err(format!("I19: n{index} was removed, and stands for election"));
            }
        }
        while !self.is_settled() {
            if self.now > until + RECOVERY_MS {
                return Err("a member falls behind in the end".to_owned());
            }
            self.switch_on();
            self.step()?;
        }
        Ok(())
    }

    /// A machine outside of the group whose member wants to lead after that term.
    fn stands_for_election(&self, term: u64) -> Option<usize> {
        let insiders = self.insiders();
        let mut outside = (0..self.machines.len()).filter(|index| !insiders.contains(index));
        let stands = |index: usize| {
            self.machines[index].group().is_some_and(|group| {
                let vote = group.0.raft.metrics().borrow_watched().vote;
                vote.leader_id.term > term && vote.leader_id.voted_for == group.store_id().0
            })
        };
        outside.find(|index| stands(*index))
    }

    /// A machine outside of the group whose member does not run, or is there for clients.
    fn goes_on(&self) -> Option<usize> {
        let insiders = self.insiders();
        let mut outside = (0..self.machines.len()).filter(|index| !insiders.contains(index));
        let stands_aside = |index: usize| {
            self.machines[index].group().is_some_and(|group| group.roster().own.is_none())
        };
        outside.find(|index| !stands_aside(*index))
    }
}

/// Nobody comes, goes or becomes something else unless an operator wished that.
pub(super) fn check_wished(
    former: &Membership,
    next: &Membership,
    asked: &[MemberChange],
) -> Result<(), String> {
    let of = |membership: &Membership, name: &str| -> Option<Member> {
        membership.nodes().map(|(_, member)| member.clone()).find(|member| member.name == name)
    };
    for (_, member) in next.nodes() {
        let was = of(former, &member.name).is_some_and(|was| was.wish == member.wish);
        if !was && !asked.iter().any(|change| leads_to(change, member)) {
            return Err(format!("I18: {member:?} is recorded, nobody asked for that"));
        }
    }
    for (_, member) in former.nodes().filter(|(_, member)| of(next, &member.name).is_none()) {
        let removes = |change: &MemberChange| match change {
            MemberChange::Remove { name } => *name == member.name,
            MemberChange::Replace { old, .. } => *old == member.name,
            MemberChange::Add { .. } | MemberChange::Assign { .. } => false,
        };
        if !asked.iter().any(removes) {
            return Err(format!("I18: {member:?} is forgotten, nobody asked for that"));
        }
    }
    Ok(())
}

/// Whether a change may make that of a member.
fn leads_to(change: &MemberChange, member: &Member) -> bool {
    let (wish, of) = (&member.wish, &member.name);
    match change {
        MemberChange::Add { name, part, .. } | MemberChange::Assign { name, part } => {
            let wished = match part {
                Part::Voter => Wish::Vote,
                Part::Learner => Wish::Learn,
            };
            name == of && *wish == wished
        }
        MemberChange::Remove { name } => name == of && *wish == Wish::Leave,
        // Until who comes is taken back.
        MemberChange::Replace { old, new, .. } => {
            (old == of && [Wish::Leave, Wish::Vote].contains(wish))
                || (new == of && *wish == Wish::Replace(old.clone()))
        }
    }
}
