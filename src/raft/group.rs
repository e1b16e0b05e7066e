//! The handle that the broker holds: propose, read what is applied, ask for the role.
//!
//! openraft, append and apply run on one thread of their own, `raft`; the
//! handle's methods are callable from any thread and never wait for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use openraft::Instant as _;
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver as _;
use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::ids::{EntryIndex, PhysicalOffset, QueueOffset, StoreId, StoredSend, Term};
use crate::raft::applied::{AppliedState, QueueListener};
use crate::raft::awaited::{Awaited, Awaits};
use crate::raft::catch_up::{CatchUp, CatchUps};
use crate::raft::chronicle::{Cause, Chronicle, LeaderChanges};
use crate::raft::command::{Command, Outcome};
use crate::raft::consumers::{ConnectedConsumers, Consumers};
use crate::raft::contact::Contact;
use crate::raft::doubt::Doubt;
use crate::raft::duplicates::Duplicates;
use crate::raft::forward::{Counts, Desk};
use crate::raft::handover;
use crate::raft::lineage::BelongsTo;
use crate::raft::log_store::LogStore;
use crate::raft::member_change::MemberChange;
use crate::raft::members::{self, Kept, Mode};
use crate::raft::offers::Offers;
use crate::raft::peers::Peers;
use crate::raft::proposal::Proposal;
use crate::raft::proposer::{Limits, Proposer};
use crate::raft::pulse::Pulse;
use crate::raft::reach::{self, Reach};
use crate::raft::repair::{READER_PATIENCE, RepairDone, Wanted};
use crate::raft::role::{QUORUM_SILENCE, Role};
use crate::raft::room::{DiskPace, Room};
use crate::raft::roster::{self, MemberStatus, Roster, Voting};
use crate::raft::scrub::{ScrubRules, Scrubbed};
use crate::raft::scrubber::Scrubbing;
use crate::raft::start;
use crate::raft::state_machine::StateMachine;
use crate::raft::tables::Tables;
use crate::raft::transfer::{self, Transferred};
use crate::raft::type_config::TypeConfig;
use crate::raft::version::GroupVersion;
use crate::raft::{MemberError, ProposeError, StartError, TransferError};
use crate::store::queues::Queues;
use crate::store::retention::Rules;
use crate::store::{CommitLog, Durability, RealFiles};

/// How a group is set up. All members must agree on cluster, group and segment size, and before the
/// first start on `peers`.
#[derive(Debug, Clone)]
pub struct GroupOptions {
    /// `brokerClusterName`.
    pub cluster: String,
    /// `dLegerGroup`, or the broker name of a group of one.
    pub group: String,
    /// This member's name in `peers`.
    pub member: String,
    /// All members, as this one's configuration has it: once the group is started, its log knows
    /// better.
    pub peers: Peers,
    /// `preferredLeaderId`: who leads if it can.
    pub preferred: Option<String>,
    /// `storePathRootDir`.
    pub dir: std::path::PathBuf,
    /// Where the log lies (`storePathCommitLog`).
    pub log_dir: std::path::PathBuf,
    /// `mappedFileSizeCommitLog`.
    pub segment_bytes: u64,
    /// When an entry counts as stored on this member.
    pub durability: Durability,
    /// Elections.
    pub timing: Timing,
    /// Bounds of what may wait for a quorum.
    pub limits: Limits,
    /// When old segments go, and when the disk counts as full.
    pub retention: Rules,
    /// How fast and how often the disk is checked.
    pub scrub: ScrubRules,
    /// How fast a learner that is far behind gets the log.
    pub catch_up_bytes_per_second: u64,
}

/// One trade-off: how fast a dead leader is replaced, against how long a stall is tolerated.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// A follower campaigns after a random silence of at least this …
    pub election_min: Duration,
    /// … and at most this; also the lease during which a follower votes for nobody else.
    pub election_max: Duration,
    /// How long a start with a damaged log asks the others for what it lacks.
    pub repair: Duration,
    /// How long the preferred member must have been able to lead before it does.
    pub steady: Duration,
    /// How long clients of a member that leaves the group get to turn to others.
    pub farewell: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(600),
            repair: Duration::from_secs(10),
            steady: Duration::from_secs(10),
            // Clients ask for routes each 30 s.
            farewell: Duration::from_secs(35),
        }
    }
}

/// Where this member and its peers stand.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Current term, and who leads it.
    pub term: Term,
    /// The version that the group writes (`raft::version`).
    pub version: u8,
    /// The newest version that this build reads.
    pub newest_version: u8,
    /// Name of the leader, if known. A leader that no quorum answers knows none.
    pub leader: Option<String>,
    /// What a member waits for that cannot serve: others to start, a leader to take it in.
    pub waits_for: Option<Awaited>,
    /// Last entry in the log.
    pub last: Option<EntryIndex>,
    /// Last entry known to be committed.
    pub committed: Option<EntryIndex>,
    /// Last entry applied.
    pub applied: Option<EntryIndex>,
    /// Entries that are committed, as the leader said last, and not applied here.
    pub lag: u64,
    /// First position still in the log.
    pub first_position: PhysicalOffset,
    /// Position after the last entry.
    pub tail: PhysicalOffset,
    /// Position after the last applied entry.
    pub applied_position: PhysicalOffset,
    /// Position up to which the log is durable here.
    pub durable: PhysicalOffset,
    /// Bytes proposed and not yet answered.
    pub waiting_bytes: usize,
    /// On the leader: the other members, each once. Of one whose lost store is being replaced,
    /// the store that has more.
    pub peers: Vec<PeerStatus>,
    /// Why this member's disk counts as slow, if it does: it leads no longer than it must.
    pub slow_disk: Option<Arc<String>>,
    /// Why the group does not run any more, if so.
    pub stopped: Option<String>,
    /// What checking the disk has found.
    pub scrubbed: Scrubbed,
}

/// A peer as the leader sees it.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    /// Its name.
    pub name: String,
    /// Its store.
    pub store_id: StoreId,
    /// Last entry known to be stored there.
    pub matched: Option<EntryIndex>,
    /// Entries it lacks.
    pub behind: u64,
    /// Bytes of them, half a second ago at most.
    pub behind_bytes: Option<u64>,
    /// How far it is, if it catches up.
    pub catch_up: Option<CatchUp>,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it answers, and says that readers may be sent to it ([`Group::offer`]).
    pub serves_readers: bool,
}

/// How a proposal goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By the member that was asked: it leads.
    Direct,
    /// By whoever leads: it is passed on, or waits for a leader.
    Detour,
}

/// What became of requests at a member that did not lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassedOn {
    /// Taken, to be passed on.
    pub taken: u64,
    /// Passed on; what goes again counts again.
    pub passed: u64,
    /// Answered with an error.
    pub failed: u64,
}

/// A running member of a group. Cloning shares it.
#[derive(Clone)]
pub struct Group(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) raft: Raft<TypeConfig, StateMachine>,
    pub(super) proposer: Proposer,
    pub(super) desk: Desk,
    pub(super) chronicle: Chronicle,
    pub(super) state: AppliedState,
    pub(super) duplicates: Duplicates,
    pub(super) log: CommitLog,
    pub(super) log_store: LogStore,
    pub(super) role: watch::Receiver<Role>,
    pub(super) store_id: StoreId,
    pub(super) room: Arc<Room>,
    pub(super) doubt: Doubt,
    pub(super) offers: Offers,
    pub(super) repairs: mpsc::Sender<Wanted>,
    pub(super) transfers: mpsc::Sender<transfer::Wanted>,
    pub(super) contact: Contact,
    pub(super) reaches: mpsc::Sender<reach::Asked>,
    pub(super) consumers: Consumers,
    pub(super) kept: Kept,
    pub(super) scrub: Scrubbing,
    pub(super) catch_ups: CatchUps,
    pub(super) stop: Mutex<Option<oneshot::Sender<()>>>,
    pub(super) thread: Mutex<Option<JoinHandle<()>>>,
}

impl Group {
    /// Opens the store, recovers it, and takes part in the group. Peers are let in at `port`,
    /// which a group of one does not need.
    pub fn start(options: GroupOptions, port: Option<TcpListener>) -> Result<Self, StartError> {
        start::start(Arc::new(RealFiles), options, port)
    }

    /// This member's role.
    pub fn role(&self) -> Role {
        self.0.role.borrow().clone()
    }

    /// Whether what is applied here has all offsets that were committed before: this member leads,
    /// and none that another one passed on is under way.
    pub fn knows_commits(&self) -> bool {
        self.role().is_leader() && !self.0.duplicates.passers().commit()
    }

    /// Changes of the role.
    pub fn watch_role(&self) -> watch::Receiver<Role> {
        self.0.role.clone()
    }

    /// This member's store.
    pub fn store_id(&self) -> StoreId {
        self.0.store_id
    }

    /// Proposes messages and commands. A member that does not lead passes them on, and keeps them
    /// while nobody leads. Never blocks; `done` is called exactly once, within
    /// [`Limits::patience`] and a little: here when it is refused at once, else on the raft thread.
    /// What was committed is applied here by then.
    pub fn propose(&self, proposal: Proposal) -> Way {
        self.propose_since(proposal, Instant::now())
    }

    /// The same for what a client asked at `since`: it has been waited for something since then.
    pub fn propose_since(&self, proposal: Proposal, since: Instant) -> Way {
        let leads = self.0.role.borrow().is_leader();
        let way = if leads { Way::Direct } else { Way::Detour };
        if !leads && *self.0.kept.removed.borrow() {
            (proposal.done)(Err(ProposeError::Removed));
        } else if let Some(error) = self.0.contact.refusal() {
            (proposal.done)(Err(error));
        } else if !leads || !self.0.desk.is_direct() {
            self.0.desk.take(proposal, since);
        } else if let Some(why) = self.0.room.refusal(&proposal, self.0.proposer.waiting_bytes()) {
            (proposal.done)(Err(ProposeError::DiskFull { why }));
        } else {
            self.0.proposer.propose_since(proposal, since);
        }
        way
    }

    /// These sends are stored, and their clients may not know that: the same messages once more are
    /// retries, at this member if it leads, and soon at the leader. `sends` are in order. Never
    /// blocks; reads what was stored.
    pub fn unanswered(&self, sends: VecDeque<StoredSend>) {
        let leads = self.0.role.borrow().is_leader();
        match leads {
            true => self.0.duplicates.unanswered(sends.into_iter()),
            false => self.0.desk.unanswered(sends),
        }
    }

    /// Changes whenever this member was out of touch with its group: clients' connections are to
    /// be closed then, and what they left unread with them, and [`Self::are_closed`] is called.
    /// Within 200 ms: then, what comes is taken again.
    pub fn watch_breaks(&self) -> watch::Receiver<u64> {
        self.0.contact.breaks()
    }

    /// Whether this member hears nobody of its group.
    pub fn is_cut_off(&self) -> bool {
        self.0.contact.is_cut_off()
    }

    /// They are closed that were open at a break.
    pub fn are_closed(&self) {
        self.0.contact.closed();
    }

    /// Whether a member that does not lead passes on what it is asked: as long as some member does
    /// not read entries that say who proposed what, it waits here for nothing.
    pub fn passes_on(&self) -> bool {
        self.0.state.active().has(GroupVersion::PASSES_ON)
    }

    /// Proposes commands and waits for what they decided.
    pub async fn run(&self, commands: Vec<Command>) -> Result<Vec<Outcome>, ProposeError> {
        self.run_since(commands, Instant::now()).await
    }

    /// The same for what a client asked at `since`.
    pub async fn run_since(
        &self,
        commands: Vec<Command>,
        since: Instant,
    ) -> Result<Vec<Outcome>, ProposeError> {
        let (answer, wait) = oneshot::channel();
        let done = move |result| {
            // Whoever waited may have gone.
            let _ = answer.send(result);
        };
        self.propose_since(Proposal::of_commands(commands, done), since);
        let receipt = wait.await.map_err(|_| ProposeError::OutcomeUnknown)??;
        Ok(receipt.outcomes)
    }

    /// Calls `done` when this member has applied all that anybody was told before the call. Goes
    /// through the log, as an entry without content, and many questions at a time share one. Like
    /// [`Self::propose`] in all else.
    pub fn confirm(&self, done: impl FnOnce(Result<(), ProposeError>) + Send + 'static) {
        self.propose(Proposal::of_commands(Vec::new(), |result| done(result.map(drop))));
    }

    /// The tables as of the last applied entry.
    pub fn tables(&self) -> Arc<Tables> {
        self.0.state.tables()
    }

    /// The ConsumeQueues and the key index.
    pub fn queues(&self) -> &Queues {
        self.0.state.queues()
    }

    /// The first offset of a queue that no message has: on the leader none that is committed
    /// anywhere has it either, since what is assigned here but not applied yet counts.
    pub fn end_of_queue(&self, topic: &str, queue_id: u32) -> QueueOffset {
        let applied = self.queues().next(topic, queue_id);
        let Role::Leader { term, .. } = *self.0.role.borrow() else { return applied };
        applied.max(self.0.log_store.assigned_end(term, topic, queue_id))
    }

    /// The time by which queue locks grow old, if this member leads: its term, and what a command
    /// says that is proposed now.
    pub fn commands_ms(&self) -> Option<(Term, i64)> {
        let Role::Leader { term, .. } = *self.0.role.borrow() else { return None };
        Some((term, self.0.log_store.commands_ms(term)?))
    }

    /// The CommitLog. What the queues point to is committed.
    pub fn log(&self) -> &CommitLog {
        &self.0.log
    }

    /// Repairs what is damaged at a position of the log, from another member; `done` is called
    /// exactly once, here or on the raft thread, within a few seconds.
    pub fn repair(&self, position: PhysicalOffset, done: RepairDone) {
        let deadline = Instant::now() + READER_PATIENCE;
        if let Err(refused) = self.0.repairs.try_send(Wanted { position, deadline, done }) {
            let (TrySendError::Full(wanted) | TrySendError::Closed(wanted)) = refused;
            (wanted.done)(Err("too many wait for repairs, or this member stops".to_owned()));
        }
    }

    /// Who hears of what is applied.
    pub fn set_listener(&self, listener: Arc<dyn QueueListener>) {
        self.0.state.set_listener(listener);
    }

    /// From now on other members that ask are told of these consumers.
    pub fn set_consumers(&self, connected: Arc<dyn ConnectedConsumers>) {
        self.0.consumers.set(connected);
    }

    /// Whether other members say who consumes there, all that can be reached. At first none does;
    /// asking for it has them asked, once a second.
    pub fn others_tell_consumers(&self) -> bool {
        self.0.consumers.others_tell()
    }

    /// Ids of a group's consumers that are connected to other members, as far as these say so in
    /// time: within 700 ms, and at once as long as all others live or have ended.
    pub async fn consumers_elsewhere(&self, group: String) -> Arc<BTreeSet<String>> {
        self.0.consumers.elsewhere(group).await
    }

    /// From now on this member tells the leader, with each heartbeat, whether readers may be sent to
    /// it.
    pub fn offer(&self, serves_readers: bool) {
        self.0.offers.offer(serves_readers);
    }

    /// Lets old segments go now, whatever the hour (request code 329).
    pub fn purge_now(&self) {
        self.0.room.ask();
    }

    /// From now on, other rules say when old segments go and when the disk is full.
    pub fn set_retention(&self, rules: Rules) {
        self.0.room.set_rules(rules);
    }

    /// From now on the disk is checked so fast and so often.
    pub fn set_scrub(&self, rules: ScrubRules) {
        self.0.scrub.rules.send_if_modified(|before| std::mem::replace(before, rules) != rules);
    }

    /// From now on a learner that is far behind gets so many bytes per second of the log.
    pub fn set_catch_up(&self, bytes_per_second: u64) {
        self.0.catch_ups.set_limit(bytes_per_second);
    }

    /// Entries that are committed, as the leader said last, and not applied here.
    pub fn lag(&self) -> u64 {
        let committed = self.0.raft.metrics().borrow_watched().cluster_committed;
        let applied = self.0.state.progress().last;
        lag(committed.map(|id| id.index), applied.map(|id| id.index))
    }

    /// Where this member and its peers stand.
    pub fn status(&self) -> Status {
        let metrics = self.0.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let progress = self.0.state.progress();
        let last = metrics.last_log_index;
        let replication = metrics.replication.unwrap_or_default();
        let heartbeats = metrics.heartbeat.unwrap_or_default();
        let answers = |id| {
            let last = heartbeats.get(id).and_then(Option::as_ref);
            last.is_some_and(|at| at.elapsed() < QUORUM_SILENCE)
        };
        let voters: Vec<u64> = membership.voter_ids().collect();
        let mut peers: BTreeMap<String, PeerStatus> = BTreeMap::new();
        for (id, member) in membership.nodes().filter(|(id, _)| **id != metrics.id) {
            let Some(matched) = replication.get(id) else { continue };
            let matched = matched.as_ref().map(|log_id| EntryIndex(log_id.index));
            if peers.get(&member.name).is_some_and(|known| known.matched >= matched) {
                continue;
            }
            let known = self.0.catch_ups.of(*id);
            let peer = PeerStatus {
                name: member.name.clone(),
                store_id: StoreId(*id),
                matched,
                behind: last.map_or(0, |l| (l + 1).saturating_sub(matched.map_or(0, |m| m.0 + 1))),
                behind_bytes: known.map(|known| known.bytes),
                catch_up: known.and_then(|known| known.catch_up),
                voter: voters.contains(id),
                serves_readers: self.0.offers.is_of(*id) && answers(id),
            };
            peers.insert(member.name.clone(), peer);
        }
        let own_node = membership.get_node(&metrics.id);
        let own = own_node.map_or("", |member| &member.name);
        let is_taken_in = own_node.is_some() || metrics.current_leader.is_some();
        let role = self.role();
        let applied = progress.last.map(|id| id.index);
        let lag = lag(metrics.cluster_committed.map(|id| id.index), applied);
        Status {
            term: role.term(),
            version: self.0.state.active().get().0,
            newest_version: GroupVersion::NEWEST.0,
            leader: role.leader(own).map(str::to_owned),
            waits_for: self.waits_for(is_taken_in),
            last: last.map(EntryIndex),
            committed: metrics.local_committed.map(|id| EntryIndex(id.index)),
            applied,
            lag,
            first_position: self.0.log.first_position(),
            tail: self.0.log.tail(),
            applied_position: progress.position,
            durable: self.0.log.durable(),
            waiting_bytes: self.0.proposer.waiting_bytes() + self.0.desk.waiting_bytes(),
            peers: peers.into_values().collect(),
            slow_disk: self.0.room.slowness(),
            scrubbed: self.0.scrub.counts.get(),
            stopped: metrics.running_state.err().map(|fatal| fatal.to_string()),
        }
    }

    /// What this member waits for, if it cannot serve.
    fn waits_for(&self, is_taken_in: bool) -> Option<Awaited> {
        let told = self.0.kept.waits_for.borrow().clone();
        // Who was taken in since it asked learns it from its leader first.
        let told = told.filter(|told| !(is_taken_in && told.what.is_of_outsider()));
        told.or_else(|| Some(Awaits::Doubt.because(self.0.doubt.waits_for()?)))
    }

    /// Begins a transfer, whose outcome nobody waits for.
    #[cfg(test)]
    pub(super) fn begin_transfer(&self, to: Option<&str>) {
        let (done, _) = oneshot::channel();
        let to = to.map(str::to_owned);
        // If one is under way already, another one need not be.
        let wanted = transfer::Wanted { to, cause: Cause::Transferred, yields: true, done };
        let _ = self.0.transfers.try_send(wanted);
    }

    /// Hands leadership to the member `to`, or to whoever is nearest. What is asked meanwhile waits,
    /// and is passed on to the new leader: nothing fails. Takes some ten milliseconds, and at most
    /// a few seconds; goes on to its end when its caller does not.
    pub async fn transfer(&self, to: Option<&str>) -> Result<Transferred, TransferError> {
        self.hand_over(to, Cause::Transferred).await
    }

    /// Hands leadership over if this member leads, as [`Self::transfer`] does, and asks for none:
    /// it is about to stop. Until then it passes on what it is asked.
    pub async fn leave(&self) -> Result<Transferred, TransferError> {
        self.hand_over(None, Cause::Stopped).await
    }

    async fn hand_over(
        &self,
        to: Option<&str>,
        cause: Cause,
    ) -> Result<Transferred, TransferError> {
        let (done, outcome) = oneshot::channel();
        let wanted = transfer::Wanted { to: to.map(str::to_owned), cause, yields: true, done };
        match self.0.transfers.try_send(wanted) {
            Ok(()) => outcome.await.unwrap_or(Err(TransferError::Stopping)),
            Err(TrySendError::Full(_)) => Err(TransferError::Busy),
            Err(TrySendError::Closed(_)) => Err(TransferError::Stopping),
        }
    }

    /// Whether this member's disk takes seconds for a sync, or did lately.
    pub fn has_slow_disk(&self) -> bool {
        self.0.room.slowness().is_some()
    }

    /// Asks for a transfer to whoever is nearest, if this member leads, and does not wait for it.
    pub fn give_way(&self) {
        let (done, _) = oneshot::channel();
        let wanted = transfer::Wanted { to: None, cause: Cause::Hanging, yields: false, done };
        let _ = self.0.transfers.try_send(wanted); // who is being asked already does it
    }

    /// Beats while the raft thread turns, until [`Group::stop`].
    pub fn pulse(&self) -> &Pulse {
        self.0.contact.pulse()
    }

    /// Whether the raft thread stands still for what the disk takes long to keep: a vote, after which
    /// whoever was leader leads no more, or where the log begins or ends.
    pub fn waits_for_disk(&self) -> bool {
        self.0.log_store.waits_for_disk()
    }

    /// The changes of the leader that this member saw.
    pub fn leader_changes(&self) -> LeaderChanges {
        self.0.chronicle.read()
    }

    /// Requests that this member took while another one led, or nobody: how many, how often it
    /// passed one on to a leader, and how many failed. Since its process started.
    pub fn passed_on(&self) -> PassedOn {
        let Counts { taken, passed, failed, .. } = self.0.chronicle.counts();
        PassedOn { taken, passed, failed }
    }

    /// Calls all other members; what came of it within a second or so, in the order of their names.
    /// `None`: too many ask at the same time, or this member stops.
    pub async fn reach(&self) -> Option<Vec<Reach>> {
        let (answer, answered) = oneshot::channel();
        self.0.reaches.try_send(answer).ok()?;
        answered.await.ok()
    }

    /// Why this member takes no messages, if its disk is too full for them.
    pub fn shortage(&self) -> Option<String> {
        self.0.room.shortage().map(|why| why.to_string())
    }

    /// How fast this member's disk is.
    pub fn disk_pace(&self) -> DiskPace {
        self.0.room.disk_pace(Instant::now())
    }

    /// Why this member, as a leader, takes no messages because too few others have room, if so.
    pub fn others_shortage(&self) -> Option<String> {
        self.0.room.others_shortage().map(|why| why.to_string())
    }

    /// Says that a name server was told that this member leads `term`.
    pub fn note_registered(&self, name_server: &str, term: Term) {
        self.0.chronicle.registered(name_server, term);
    }

    /// Says that a client's send was answered; costs a load.
    pub fn note_sent(&self) {
        self.0.chronicle.sent();
    }

    /// Who belongs to the group, by the names and ids that clients know.
    pub fn roster(&self) -> Roster {
        let metrics = self.0.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        roster::roster(membership, self.0.store_id, *self.0.kept.removed.borrow())
    }

    /// Who votes, as this member's log has it; nothing if it has nothing of a group.
    pub fn voting(&self) -> Option<Voting> {
        roster::voting(&self.0.raft.metrics().borrow_watched().membership_config)
    }

    /// Which group of its name this member belongs to.
    pub fn belongs_to(&self) -> BelongsTo {
        self.0.kept.belonging.to()
    }

    /// All members; how far each is knows the leader only.
    pub fn members(&self) -> Vec<MemberStatus> {
        let metrics = self.0.raft.metrics().borrow_watched().clone();
        let known = |id| self.0.catch_ups.of(id);
        roster::statuses(&metrics, self.0.store_id, self.status().leader.as_deref(), known)
    }

    /// Checks a change of the group's members and records it, if it is to be; says what happens
    /// then, in order. It goes on by itself, whoever leads. Takes a second at most, unless another
    /// change is waited for; goes on to its end when its caller does not.
    pub async fn change_members(
        &self,
        change: MemberChange,
        mode: Mode,
    ) -> Result<Vec<String>, MemberError> {
        if !self.0.kept.is_reachable && self.0.role.borrow().is_leader() {
            let members = self.roster().members;
            let member = members.first().map_or_else(String::new, |(name, _)| name.clone());
            return Err(MemberError::Unreachable { member });
        }
        let (done, outcome) = oneshot::channel();
        match self.0.kept.changes.try_send(members::Wanted { change, mode, done }) {
            Ok(()) => outcome.await.unwrap_or(Err(MemberError::Interrupted)),
            Err(TrySendError::Full(_)) => Err(MemberError::Busy),
            Err(TrySendError::Closed(_)) => Err(MemberError::Interrupted),
        }
    }

    /// Proposes nothing any more, lets what is under way finish, and hands leadership to a
    /// caught-up member; what comes meanwhile is passed on to that one. Takes a few seconds at
    /// most; afterwards this member usually follows, and serves until [`Group::stop`].
    pub async fn retire(&self) {
        let Shared { raft, proposer, desk, chronicle, doubt, room, offers, .. } = &*self.0;
        handover::retire(raft, proposer, (desk, chronicle), (doubt, room, offers)).await;
    }

    /// Retires, writes a checkpoint and ends. Blocks for at most a few seconds; call it from a
    /// thread that may.
    pub fn stop(&self) {
        if let Some(stop) = self.0.stop.lock().take() {
            // The thread may have ended by itself.
            let _ = stop.send(());
        }
        if let Some(thread) = self.0.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the raft thread panicked");
        }
    }
}

fn lag(committed: Option<u64>, applied: Option<EntryIndex>) -> u64 {
    let after = |entry: Option<u64>| entry.map_or(0, |index| index + 1);
    after(committed).saturating_sub(after(applied.map(|index| index.0)))
}
