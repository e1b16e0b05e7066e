//! Keeps the group's members as they shall be: starts the group, replaces lost stores, takes
//! operators' requests, and makes come true what they wish.
//!
//! ```text
//!  operator ─► checks (member_change) ─► one entry that records the wish
//!  each second, and after each step: what is recorded and seen ─► member_steps ─► one step
//! ```
//!
//! The leader's keeper does the steps. Who loses leadership drops them half way; whoever leads next
//! reads in the log what was wished, and goes on. With each look it also learns which versions the
//! members read ([`crate::raft::version`]), and goes on to a newer one when all read it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::raft::Precondition;
use openraft::{ChangeMembers, Raft, RaftMetrics};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::clock;
use crate::ids::StoreId;
use crate::raft::awaited::Awaited;
use crate::raft::chronicle::Cause;
use crate::raft::command::Command;
use crate::raft::error::MemberError;
use crate::raft::first_start::{
    Answered, Answers, Calls, FirstStart, NoAnswer, first_start, missing_majority, removal,
};
use crate::raft::heard::Heard;
use crate::raft::lineage::Belonging;
use crate::raft::member_change::{Comer, Files, MemberChange, Plan, plan, under_way};
use crate::raft::member_steps::{Recorded, Step, next_step};
use crate::raft::membership::{self, Member, Wish};
use crate::raft::network::Network;
use crate::raft::peers::{PeerAddress, Peers};
use crate::raft::proposal::Proposal;
use crate::raft::proposer::Proposer;
use crate::raft::role::Role;
use crate::raft::roster;
use crate::raft::state_machine::StateMachine;
use crate::raft::transfer;
use crate::raft::type_config::TypeConfig;
use crate::raft::version::{self, Active, GroupVersion, Reads};

const ASK_TIMEOUT: Duration = Duration::from_millis(500);
const PAUSE_BEFORE_START: Duration = Duration::from_millis(100);
/// Between looks when there is nothing to do, or to wait for others …
const PAUSE: Duration = Duration::from_secs(1);
/// … and after a step.
const NEXT_STEP: Duration = Duration::from_millis(50);
/// Requests that wait for their turn.
const WAITING: usize = 4;
/// How long a member that shall be a group by itself listens first whether it belongs to one: a
/// leader calls who was away once a second.
const LISTENS: Duration = Duration::from_secs(2);
/// Who leaves and has not answered for this long is dead.
const DEAD: Duration = Duration::from_secs(10);
/// Without a leader for this long a member asks whether it was removed.
const SILENCE: Duration = Duration::from_secs(2);

/// Whether a change is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is checked, and told what would happen.
    DryRun,
    /// It is checked and recorded.
    Record,
}

/// What would happen, or happens from now on, in order.
pub(super) type Outcome = Result<Vec<String>, MemberError>;

/// A request, and whom to tell what came of it.
pub(super) struct Wanted {
    pub change: MemberChange,
    pub mode: Mode,
    pub done: oneshot::Sender<Outcome>,
}

/// What others hold of a keeper. Cloning shares it.
#[derive(Clone)]
pub(super) struct Kept {
    /// Where changes are asked for.
    pub changes: mpsc::Sender<Wanted>,
    /// What this member waits for, if it does.
    pub waits_for: watch::Receiver<Option<Awaited>>,
    /// Whether it was removed from its group.
    pub removed: watch::Receiver<bool>,
    /// Whether other members can call it.
    pub is_reachable: bool,
    /// Which group of its name it belongs to.
    pub belonging: Belonging,
}

/// The other ends.
pub(super) struct Telling {
    is_reachable: bool,
    waits_for: watch::Sender<Option<Awaited>>,
    removed: watch::Sender<bool>,
    asked: mpsc::Receiver<Wanted>,
}

/// What a keeper tells and hears, and what others hold of that.
pub(super) fn telling(is_reachable: bool, belonging: &Belonging) -> (Telling, Kept) {
    let belonging = belonging.clone();
    let (changes, asked) = mpsc::channel(WAITING);
    let (tell_waits_for, waits_for) = watch::channel(None);
    let (tell_removed, removed) = watch::channel(false);
    let telling = Telling { is_reachable, waits_for: tell_waits_for, removed: tell_removed, asked };
    (telling, Kept { changes, waits_for, removed, is_reachable, belonging })
}

/// Starts the group if it was never started, and looks after its members while this one leads.
pub(super) struct MemberKeeper {
    pub own: (String, StoreId),
    /// `dLegerPeers`.
    pub peers: Peers,
    pub network: Network,
    pub raft: Raft<TypeConfig, StateMachine>,
    pub role: watch::Receiver<Role>,
    /// Where another version is proposed, and which one the group writes.
    pub proposer: Proposer,
    pub active: Active,
    pub heard: Arc<Heard>,
    /// How long clients of a member that leaves get to turn to others.
    pub farewell: Duration,
    /// Where leadership is handed over.
    pub transfers: mpsc::Sender<transfer::Wanted>,
    pub telling: Telling,
    pub memory: Memory,
}

/// What a keeper remembers between looks.
#[derive(Default)]
pub(super) struct Memory {
    /// Since when this leader has seen members leave, by store.
    leaving: BTreeMap<u64, Instant>,
    /// Those of them whose ports refused calls.
    gone: BTreeSet<u64>,
    /// What it waits for, or what did not work, as it was said last.
    said: Option<String>,
    /// Whom a newer version waits for.
    version: Option<String>,
}

impl MemberKeeper {
    /// Runs until the group ends.
    pub(super) async fn run(mut self) {
        let began = Instant::now();
        while let Ok(false) = self.raft.is_initialized().await {
            while let Ok(wanted) = self.telling.asked.try_recv() {
                // Whoever asked may have gone.
                let _ = wanted.done.send(Err(MemberError::NotLeader { leader: None }));
            }
            self.try_first_start(began).await;
            tokio::time::sleep(PAUSE_BEFORE_START).await;
        }
        self.says_anew(None);
        let mut pause = PAUSE;
        while self.raft.is_initialized().await.is_ok() {
            // All are cancel-safe.
            let wanted = tokio::select! {
                wanted = self.telling.asked.recv() => match wanted {
                    Some(wanted) => Some(wanted),
                    None => return, // nobody holds this member any more
                },
                () = tokio::time::sleep(pause) => None,
                () = begins_to_raise(self.role.clone(), &self.active) => None,
            };
            pause = self.turn(wanted).await;
        }
    }

    /// Does what is to be done now; returns how long to wait before the next turn.
    async fn turn(&mut self, wanted: Option<Wanted>) -> Duration {
        let role = self.role.borrow_and_update().clone();
        if !role.is_leader() {
            self.memory = Memory::default();
            if let Some(wanted) = wanted {
                let leader = role.leader(&self.own.0).map(str::to_owned);
                // Whoever asked may have gone.
                let _ = wanted.done.send(Err(MemberError::NotLeader { leader }));
            }
            self.follow(&role).await;
            return PAUSE;
        }
        self.telling.removed.send_replace(false);
        self.says_anew(None);
        let mut later = self.role.clone();
        tokio::select! {
            pause = self.lead(wanted) => pause,
            // A step is dropped half way; who leads next decides anew.
            _ = later.wait_for(|role| !role.is_leader()) => NEXT_STEP,
        }
    }

    /// Of a member that does not lead: says what it waits for.
    async fn follow(&self, role: &Role) {
        let membership = self.raft.metrics().borrow_watched().membership_config.clone();
        let is_recorded = roster::belongs(membership.membership(), (&self.own.0, self.own.1));
        let hears_leader = matches!(role, Role::Follower { leader: Some(_), .. })
            && self.heard.silence(clock::now()) < SILENCE;
        if hears_leader && is_recorded {
            self.telling.removed.send_replace(false);
            self.says_anew(None);
            return;
        }
        let answers = self.ask(self.network.others()).await;
        let own = (self.own.0.as_str(), self.own.1);
        // Who catches up gets entries of times before its own.
        let catches_up = self.heard.silence(clock::now()) < SILENCE;
        let here = (*membership.log_id(), is_recorded);
        let removal = removal(own, here, *self.telling.removed.borrow(), &answers);
        let removal = removal.filter(|_| is_recorded || !catches_up);
        self.telling.removed.send_if_modified(|removed| {
            std::mem::replace(removed, removal.is_some()) != removal.is_some()
        });
        let waits_for = removal.or_else(|| {
            missing_majority(
                membership.membership(),
                self.own.1,
                |name| self.network.address(name),
                &answers,
            )
        });
        if let Some(Awaited { why, .. }) = self.says_anew(waits_for) {
            tracing::warn!(why, "takes no writes");
        }
    }

    /// Activates the newest version that all members read, as they have just said.
    async fn raise_version(&mut self, answers: &Answers) {
        let term = self.role.borrow().term();
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
            version::Step::None => self.memory.version = None,
            version::Step::Wait(text) if self.memory.version.as_ref() == Some(&text) => {}
            version::Step::Wait(text) => {
                tracing::info!("{text}");
                self.memory.version = Some(text);
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
    fn says_anew(&self, awaited: Option<Awaited>) -> Option<Awaited> {
        let told = self.telling.waits_for.send_if_modified(|former| {
            let is_other = *former != awaited;
            former.clone_from(&awaited);
            is_other
        });
        awaited.filter(|_| told)
    }

    async fn ask(&self, names: impl IntoIterator<Item = String>) -> Answers {
        let asked = names.into_iter().map(|name| async move {
            let answer = self.network.state(&name, ASK_TIMEOUT).await;
            let answer = answer.inspect(|answer| self.network.hear(answer));
            let answer = answer.map(Answered::from).map_err(|status| NoAnswer::of(&status));
            (name, answer)
        });
        join_all(asked).await.into_iter().collect()
    }

    async fn try_first_start(&self, began: Instant) {
        let answers = self.ask(self.network.all_others()).await;
        let all = !self.telling.is_reachable || began.elapsed() >= LISTENS;
        let calls = Calls { former: self.heard.former(), all };
        match first_start((&self.own.0, self.own.1), &self.peers, &answers, calls) {
            FirstStart::Initialize(members) => match self.raft.initialize(members).await {
                Ok(()) => tracing::info!(members = %self.peers, "started the group"),
                Err(error) => tracing::warn!(%error, "could not start the group"),
            },
            FirstStart::Wait(awaited) => {
                if let Some(Awaited { why, .. }) = self.says_anew(Some(awaited)) {
                    tracing::info!("{why}");
                }
            }
        }
    }

    async fn lead(&mut self, wanted: Option<Wanted>) -> Duration {
        if let Some(Wanted { change, mode, done }) = wanted {
            let outcome = self.change(&change, mode).await;
            // Whoever asked may have gone.
            let _ = done.send(outcome);
            return NEXT_STEP;
        }
        let answers = self.ask(self.network.others()).await;
        self.raise_version(&answers).await;
        self.memory.gone = self.gone(&answers).await;
        let recorded = self.recorded();
        let mut alien = None;
        let found = answers.into_iter().filter_map(|(name, answer)| {
            let answered = answer.ok()?;
            match answered.alien(&recorded.members) {
                // One of a former version does not say.
                Some(why) if answered.recorded.is_some() => {
                    alien = Some(format!("{name} is not taken in again: {why}; empty it"));
                    None
                }
                Some(_) | None => Some((name, answered.store_id)),
            }
        });
        // This member may have had other stores, too.
        let found = found.chain([self.own.clone()]).collect();
        let (step, now) = (next_step(&recorded, &found), Instant::now());
        self.memory.leaving.retain(|id, _| recorded.members.contains_key(id));
        let leavers = recorded.members.iter().filter(|(_, member)| member.wish == Wish::Leave);
        for (id, _) in leavers {
            self.memory.leaving.entry(*id).or_insert(now);
        }
        let (said, pause) = match self.step(&recorded, step).await {
            Ok(Done::Nothing) => (alien, PAUSE),
            Ok(Done::Waits(why)) => (Some(why), PAUSE),
            Ok(Done::Step) => (None, NEXT_STEP),
            Err(why) => (Some(why), PAUSE),
        };
        if let Some(why) = said.as_ref().filter(|why| self.memory.said.as_ref() != Some(why)) {
            tracing::info!(why, "a change of members waits");
        }
        self.memory.said = said;
        pause
    }

    fn metrics(&self) -> RaftMetrics<TypeConfig> {
        self.raft.metrics().borrow_watched().clone()
    }

    fn recorded(&self) -> Recorded {
        let (Memory { leaving, gone, .. }, metrics) = (&self.memory, self.metrics());
        let is_dead = |id: &u64| {
            let silence = roster::silence(&metrics, *id);
            gone.contains(id) || silence.is_some_and(|silence| silence >= DEAD)
        };
        let is_over = |id: &u64| leaving.get(id).is_some_and(|at| at.elapsed() >= self.farewell);
        roster::recorded(&metrics, self.own.1, |id| is_over(id) || is_dead(id))
    }

    /// Who leaves, and whose process has ended.
    async fn gone(&self, answers: &Answers) -> BTreeSet<u64> {
        let members = membership::members(self.metrics().membership_config.membership());
        let mut gone = BTreeSet::new();
        for (id, Member { name, wish, .. }) in members {
            let is_silent = answers.get(&name).is_some_and(Result::is_err);
            if wish == Wish::Leave && is_silent && self.network.is_refused(&name).await {
                gone.insert(id);
            }
        }
        gone
    }

    async fn step(&self, recorded: &Recorded, step: Step) -> Result<Done, String> {
        match step {
            Step::Nothing => return Ok(Done::Nothing),
            Step::Wait(why) => return Ok(Done::Waits(why)),
            Step::HandOver => return self.hand_over().await,
            Step::Record { members, forget } => {
                tracing::info!(members = names(&members), ?forget, "recording members");
                let set = [ChangeMembers::RemoveNodes(forget), ChangeMembers::SetNodes(members)];
                self.commit(ChangeMembers::Batch(set.into()), true).await?;
            }
            Step::Vote { voters, keeps } => {
                let of = |id: &u64| recorded.members.get(id).map_or("", |member| &member.name);
                let who: Vec<&str> = voters.iter().map(of).collect();
                let who = who.join(", ");
                self.commit(ChangeMembers::ReplaceAllVoters(voters), keeps).await?;
                tracing::info!(voters = who, "these vote from now on");
            }
            Step::Settle { keeps } => {
                self.commit(ChangeMembers::AddVoterIds([].into()), keeps).await?;
                tracing::info!("ended a change of voters that a former leader began");
            }
        }
        Ok(Done::Step)
    }

    async fn hand_over(&self) -> Result<Done, String> {
        let (done, outcome) = oneshot::channel();
        let wanted = transfer::Wanted { to: None, cause: Cause::Transferred, yields: false, done };
        if self.transfers.try_send(wanted).is_err() {
            return Err("leadership is being transferred already".to_owned());
        }
        match outcome.await {
            Ok(Ok(_)) | Err(_) => Ok(Done::Step),
            Ok(Err(why)) => Err(why.to_string()),
        }
    }

    /// Changes the membership, if it is still the one that was decided by.
    async fn commit(&self, change: ChangeMembers<u64, Member>, keeps: bool) -> Result<(), String> {
        let last_membership_log_id = *self.metrics().membership_config.log_id();
        let unchanged = [Precondition::LastMembershipLogId { last_membership_log_id }];
        let changed = self.raft.change_membership_if(change, keeps, unchanged).await;
        changed.map(drop).map_err(|error| error.to_string())
    }

    async fn change(&self, change: &MemberChange, mode: Mode) -> Outcome {
        let (comer, files) = match change.comer() {
            Some(comer) => {
                let (comer, others) =
                    tokio::join!(self.ask_comer(comer), self.ask(self.network.others()));
                let said = others.into_iter().filter_map(|(name, said)| Some((name, said.ok()?)));
                let files = said.map(|(name, said)| (name, said.peers));
                (Some(comer), files.chain([(self.own.0.clone(), self.peers.to_string())]).collect())
            }
            None => (None, Files::new()),
        };
        let (metrics, recorded) = (self.metrics(), self.recorded());
        if metrics.committed_membership_config.log_id() != metrics.membership_config.log_id() {
            let what = under_way(&recorded).unwrap_or_else(|| "the last change".to_owned());
            return Err(MemberError::UnderWay { what });
        }
        if !self.active.has(GroupVersion::MEMBERS) {
            let why = self.memory.version.clone();
            let why = why.unwrap_or_else(|| "that is being found out".to_owned());
            return Err(MemberError::Outdated { why });
        }
        let Plan { members, forget, steps } = plan(change, &recorded, &files, comer.as_ref())?;
        if mode == Mode::Record && !(members.is_empty() && forget.is_empty()) {
            let step = Step::Record { members, forget };
            let done = self.step(&recorded, step).await;
            done.map_err(|why| MemberError::NotRecorded { why })?;
        }
        Ok(steps)
    }

    async fn ask_comer(&self, (name, address): (&str, &PeerAddress)) -> Result<Comer, String> {
        let address = address.to_string();
        let answer = self.network.state_at((name, &address), ASK_TIMEOUT).await;
        let answered = Answered::from(answer.map_err(|status| status.message().to_owned())?);
        let members = membership::members(self.metrics().membership_config.membership());
        let (active, reads) = (self.active.get(), answered.reads);
        let outdated = || format!("the group writes version {active}, and it reads {reads}");
        let alien = answered.alien(&members).or_else(|| (!reads.has(active)).then(outdated));
        Ok(Comer { store: answered.store_id, alien })
    }
}

/// Returns when this member begins to lead a group that might write a newer version: there members
/// keep what they are asked until it does.
async fn begins_to_raise(mut role: watch::Receiver<Role>, active: &Active) {
    while role.changed().await.is_ok() {
        let leads = role.borrow_and_update().is_leader();
        if leads && !active.has(GroupVersion::NEWEST) {
            return;
        }
    }
    std::future::pending().await
}

enum Done {
    Nothing,
    Waits(String),
    Step,
}

fn names(members: &BTreeMap<u64, Member>) -> String {
    let each = members.values().map(|member| format!("{} ({:?})", member.name, member.wish));
    each.collect::<Vec<_>>().join(", ")
}
