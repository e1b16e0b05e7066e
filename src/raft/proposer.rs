//! Forms log entries: everything that waits while earlier entries are under way becomes the next
//! one. At one request in flight that is a message per entry, at a thousand it is hundreds: cost
//! per message falls as load rises, without a linger timer.
//!
//! Entries keep the order of their proposals: each is proposed when the one before it has its place
//! in the log, which openraft may refuse for a moment (`LeaseExpired`) and then grant to the next.
//!
//! What repeats a message is no part of an entry: it is answered with the place of its first try
//! ([`crate::raft::duplicates`]), after that has its outcome. So an entry is meant for the term of
//! the last applied one: if this member leads that, all that was stored before is applied or under
//! way here. In another term nothing is appended, and looked at again.
//!
//! Admission counts bytes: a proposal holds its permits from [`Proposer::propose`] until openraft
//! has answered for the entry that carries it, so what waits for a quorum is bounded.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::Raft;
use openraft::errors::{ClientWriteError, Fatal, ForwardReason, ForwardToLeader};
use openraft::raft::ClientWriteResult;
use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::ids::PhysicalOffset;
use crate::raft::ProposeError;
use crate::raft::duplicates::Duplicates;
use crate::raft::filling::{Admitted, FEW, Filled, PassedOn, Verdict};
use crate::raft::forward::{Desk, Line};
use crate::raft::proposal::{Done, Proposal, Receipt};
use crate::raft::state_machine::StateMachine;
use crate::raft::type_config::{Answer, Applied, Batch, CommittedLeaderId, TypeConfig};
use crate::raft::under_way::{EntryUnderWay, UnderWay};
use crate::raft::waiting::{SWEEP, Share, Waiting, WaitingEntries, refuse, sweep};

/// Bytes after which an entry is closed, at most.
const ENTRY_BYTES: usize = 1024 * 1024;
/// Proposals after which an entry is closed.
const ENTRY_PROPOSALS: usize = 4096;
/// Entries that may be under way at once. More than one keeps the disk and the network busy
/// together; the measured gain ends near four.
const ENTRIES_UNDER_WAY: usize = 4;
/// Proposals that may wait for the proposer, and as many again that it has taken out to see how
/// late they are; bytes are bounded by [`Limits::waiting_bytes`].
const INBOX: usize = 64 * 1024;
/// Proposals that may wait for the outcome of their first try.
const REPEATS: usize = 4096;
/// Before a postponed entry is tried again.
const POSTPONED: Duration = Duration::from_millis(10);

/// How long it may take to answer all that waits.
const GIVE_UP: Duration = Duration::from_secs(1);

/// Bounds of what may wait for a quorum.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes admitted and not yet answered.
    pub waiting_bytes: usize,
    /// Bytes of one proposal.
    pub proposal_bytes: usize,
    /// Bytes of derived data in memory that the disk does not take; beyond it no messages are
    /// taken. Some seconds of the fastest producers.
    pub unwritten_bytes: usize,
    /// How long a proposal may wait before its proposer is told that the outcome is unknown.
    pub patience: Duration,
    /// How long a leader that proposes nothing any more lets an heir catch up, campaign and win.
    pub handover: Duration,
    /// How old a message may be that is not stored again when it is sent again; zero: all are.
    pub duplicates: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            waiting_bytes: 64 * 1024 * 1024,
            proposal_bytes: 8 * 1024 * 1024,
            unwritten_bytes: 256 * 1024 * 1024,
            patience: Duration::from_millis(2500),
            handover: Duration::from_secs(1),
            duplicates: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// The same for a log with segments of `segment_bytes`, which no entry straddles: an append
    /// that does not fit is the end of its member, so nothing such is taken.
    pub(super) fn within(self, segment_bytes: u64) -> Self {
        /// Header, padding, and what holds the commands together.
        const AROUND: u64 = 4096;
        let room = usize::try_from(segment_bytes.saturating_sub(AROUND)).unwrap_or(usize::MAX);
        Self { proposal_bytes: self.proposal_bytes.min(room), ..self }
    }

    /// Bytes after which an entry is closed.
    fn entry_bytes(self) -> usize {
        ENTRY_BYTES.min(self.proposal_bytes)
    }
}

/// Takes proposals. Cloning shares it.
#[derive(Clone)]
pub(super) struct Proposer {
    inbox: mpsc::Sender<Admitted>,
    closed: Arc<AtomicBool>,
    ending: Ending,
    budget: Arc<Semaphore>,
    limits: Limits,
}

/// The end of a proposer, as it is asked for and as it came.
#[derive(Clone, Default)]
struct Ending {
    asked: CancellationToken,
    done: CancellationToken,
}

impl Proposer {
    /// A proposer and the inbox that [`run`] empties; `desk` gets back what was not appended
    /// because this member does not lead.
    pub(super) fn new(limits: Limits, desk: Desk) -> (Self, Inbox) {
        let (inbox, receiver) = mpsc::channel(INBOX);
        let budget = Arc::new(Semaphore::new(limits.waiting_bytes));
        let (closed, ending) = (Arc::default(), Ending::default());
        let (backlog, repeats) = Default::default();
        let emptied = Inbox { receiver, limits, desk, ending: ending.clone(), backlog, repeats };
        (Self { inbox, closed, ending, budget, limits }, emptied)
    }

    /// Answers whatever waits, with what is known of it: nobody is left without an answer because
    /// this member ends. Returns when that is done.
    pub(super) async fn give_up(&self) {
        self.ending.asked.cancel();
        if tokio::time::timeout(GIVE_UP, self.ending.done.cancelled()).await.is_err() {
            tracing::error!(bytes = self.waiting_bytes(), "proposals stay without an answer");
        }
    }

    /// Takes nothing any more. False if it was closed before.
    pub(super) fn close(&self) -> bool {
        !self.closed.swap(true, Ordering::AcqRel)
    }

    /// Takes a proposal, or answers it at once with why not. Never blocks.
    pub(super) fn propose(&self, proposal: Proposal) {
        self.propose_since(proposal, Instant::now());
    }

    /// The same, of one that came at `since`.
    pub(super) fn propose_since(&self, proposal: Proposal, since: Instant) {
        if let Err((error, done)) = self.admit(proposal, since, None) {
            done(Err(error));
        }
    }

    /// The same, of one that another member passed on: the entry names it.
    pub(super) fn pass(&self, proposal: Proposal, passed: PassedOn) {
        if let Err((error, done)) = self.admit(proposal, Instant::now(), Some(passed)) {
            done(Err(error));
        }
    }

    fn admit(
        &self,
        proposal: Proposal,
        since: Instant,
        passed: Option<PassedOn>,
    ) -> Result<(), (ProposeError, Done)> {
        if self.closed.load(Ordering::Acquire) {
            return Err((ProposeError::Stopping, proposal.done));
        }
        let bytes = proposal.bytes();
        if bytes > self.limits.proposal_bytes {
            let limit = self.limits.proposal_bytes;
            return Err((ProposeError::TooLarge { bytes, limit }, proposal.done));
        }
        let busy = ProposeError::Busy { bytes, limit: self.limits.waiting_bytes };
        let permits = u32::try_from(bytes.max(1)).unwrap_or(u32::MAX);
        let Ok(permit) = Arc::clone(&self.budget).try_acquire_many_owned(permits) else {
            return Err((busy, proposal.done));
        };
        let admitted = Admitted { proposal, bytes, permit, since, passed, waited: false };
        match self.inbox.try_send(admitted) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(admitted)) => Err((busy, admitted.proposal.done)),
            Err(TrySendError::Closed(admitted)) => {
                Err((ProposeError::Stopping, admitted.proposal.done))
            }
        }
    }

    /// How long its member may take to hand leadership over.
    pub(super) fn handover(&self) -> Duration {
        self.limits.handover
    }

    /// Bytes admitted and not yet answered.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.limits.waiting_bytes - self.budget.available_permits()
    }
}

/// The proposer's end of the inbox.
pub(super) struct Inbox {
    receiver: mpsc::Receiver<Admitted>,
    limits: Limits,
    desk: Desk,
    ending: Ending,
    /// Taken out, oldest first.
    backlog: VecDeque<Admitted>,
    /// Taken out, and wait until their first tries are settled.
    repeats: Vec<Admitted>,
}

/// An entry on its way: its content, who waits for it, and its share of the budgets.
struct Entry {
    waiting: Arc<Mutex<Option<Waiting>>>,
    held: Held,
    under_way: EntryUnderWay,
}

/// Where entries go that are not to be answered.
#[derive(Clone)]
struct Ways {
    /// They are proposed again.
    again: mpsc::Sender<Entry>,
    /// What was not appended waits for a leader.
    desk: Desk,
    /// What was stored and nobody was told.
    duplicates: Duplicates,
}

impl Entry {
    /// Whether it must not be appended any more: somebody who waits for it has given up, or will
    /// have when it is.
    fn is_late(&self, now: Instant) -> bool {
        let is_answered =
            |waiting: &Waiting| waiting.shares.iter().any(|share| share.done.is_none());
        self.held.batch.until.is_some_and(|until| until < now)
            || self.waiting.lock().as_ref().is_none_or(is_answered)
    }

    /// Nothing of it was appended: what clients asked of this member goes where others' proposals
    /// wait for a leader, and who passed something on is told.
    fn give_back(self, leader: Option<&String>, desk: &Desk) {
        let batch = Arc::clone(&self.held.batch);
        drop((self.held, self.under_way));
        if let Some(waiting) = self.waiting.lock().take() {
            give_back(waiting.shares, &batch, leader, desk);
        }
    }
}

/// Given back when the entry is settled, or nobody is left to settle it: then it gets no place.
struct Held {
    _permits: Vec<OwnedSemaphorePermit>,
    _slot: OwnedSemaphorePermit,
    batch: Arc<Batch>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.batch.placed.notify_one();
    }
}

/// What entries are proposed to.
pub(super) trait Core: Send + Sync + 'static {
    /// Takes an entry; `answer` is called once, or dropped if the core ends.
    fn write(
        &self,
        batch: Arc<Batch>,
        answer: Answer<ClientWriteResult<TypeConfig>>,
    ) -> impl Future<Output = Result<(), Fatal<TypeConfig>>> + Send;
}

impl Core for Raft<TypeConfig, StateMachine> {
    async fn write(
        &self,
        batch: Arc<Batch>,
        answer: Answer<ClientWriteResult<TypeConfig>>,
    ) -> Result<(), Fatal<TypeConfig>> {
        match batch.term {
            Some(term) => {
                let leader = CommittedLeaderId::new(term.0);
                Self::write(self, batch).with_leader(leader).responder(answer).await
            }
            None => self.client_write_ff(batch, Some(answer)).await,
        }
    }
}

/// Turns proposals into entries until all [`Proposer`]s are gone, or one of them gives up.
pub(super) async fn run(mut inbox: Inbox, core: impl Core, duplicates: Duplicates) {
    let slots = Arc::new(Semaphore::new(ENTRIES_UNDER_WAY));
    let (waiting, under_way) = (Arc::new(WaitingEntries::default()), UnderWay::default());
    let sweeper = tokio::spawn(sweep(Arc::clone(&waiting), inbox.limits.patience));
    // The entry that has no place yet, and the way back for it: there is never another one.
    let mut last: Option<Arc<Batch>> = None;
    let (again, mut postponed) = mpsc::channel::<Entry>(1);
    let ways = Ways { again, desk: inbox.desk.clone(), duplicates: duplicates.clone() };
    let mut look = tokio::time::interval(SWEEP);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // All branches are cancel-safe. What is late is refused however busy the rest is.
        tokio::select! {
            biased;
            () = inbox.ending.asked.cancelled() => break,
            _ = look.tick(), if !inbox.is_empty() => inbox.expire(),
            () = under_way.settled(), if !inbox.repeats.is_empty() => inbox.judge_again(),
            () = placed(last.as_ref()), if last.is_some() => {
                last = None;
                if let Ok(entry) = postponed.try_recv() {
                    tokio::time::sleep(POSTPONED).await;
                    if entry.is_late(Instant::now()) {
                        entry.give_back(None, &inbox.desk);
                        continue;
                    }
                    last = Some(propose(&core, entry, &ways).await);
                }
            }
            admitted = inbox.receiver.recv(), if inbox.backlog.is_empty() => match admitted {
                Some(admitted) => inbox.backlog.push_back(admitted),
                None => break,
            },
            slot = Arc::clone(&slots).acquire_owned(),
                if last.is_none() && !inbox.backlog.is_empty() =>
            {
                let Ok(slot) = slot else { break };
                let Some(filled) = inbox.fill(&duplicates, &under_way) else { continue };
                let entry = entry(filled, slot, &under_way);
                waiting.push(&entry.waiting);
                last = Some(propose(&core, entry, &ways).await);
            }
        }
    }
    sweeper.abort();
    let postponed = postponed.try_recv().ok();
    inbox.end(postponed, &waiting).await;
}

impl Inbox {
    /// Answers whatever is left.
    async fn end(mut self, postponed: Option<Entry>, waiting: &WaitingEntries) {
        self.receiver.close();
        while let Some(admitted) = self.receiver.recv().await {
            self.backlog.push_back(admitted);
        }
        for admitted in self.backlog {
            (admitted.proposal.done)(Err(ProposeError::Stopping)); // nothing of it was appended
        }
        // Nor of what is postponed. Of others nobody knows.
        if let Some(waiting) = postponed.and_then(|entry| entry.waiting.lock().take()) {
            refuse(waiting.shares, &ProposeError::Stopping);
        }
        for admitted in self.repeats {
            (admitted.proposal.done)(Err(ProposeError::OutcomeUnknown));
        }
        let left = std::mem::take(&mut *waiting.entries.lock());
        for entry in left {
            if let Some(entry) = entry.lock().take() {
                refuse(entry.shares, &ProposeError::OutcomeUnknown);
            }
        }
        self.ending.done.cancel();
    }

    /// Nothing is taken out and not proposed.
    fn is_empty(&self) -> bool {
        self.backlog.is_empty() && self.repeats.is_empty()
    }

    /// Those that wait for their first tries have their turn.
    fn judge_again(&mut self) {
        for admitted in self.repeats.drain(..).rev() {
            self.backlog.push_front(admitted);
        }
    }

    /// Refuses what has waited too long for its turn: nothing of it was appended. What waits for
    /// its first try is perhaps stored.
    fn expire(&mut self) {
        while self.backlog.len() < INBOX
            && let Ok(admitted) = self.receiver.try_recv()
        {
            self.backlog.push_back(admitted);
        }
        let (now, patience) = (Instant::now(), self.limits.patience);
        let is_late = |admitted: &Admitted| now.duration_since(admitted.since) >= patience;
        if self.backlog.iter().any(is_late) {
            // Not the first ones only: some have waited elsewhere before.
            let late: VecDeque<Admitted>;
            (late, self.backlog) = self.backlog.drain(..).partition(is_late);
            for late in late {
                (late.proposal.done)(Err(ProposeError::NotLeader { leader: None }));
            }
        }
        for late in self.repeats.extract_if(.., |repeat| is_late(repeat)) {
            (late.proposal.done)(Err(ProposeError::NoQuorum { waited: patience }));
        }
    }

    /// Everything that waits, up to the bounds of an entry. What repeats something goes its own way;
    /// `None` if nothing else waits.
    fn fill(&mut self, duplicates: &Duplicates, under_way: &UnderWay) -> Option<Filled> {
        let (known, mut under_way) = (duplicates.look(), under_way.look());
        let mut filled = Filled::new(known.term());
        filled.reserve((self.backlog.len() + self.receiver.len()).min(ENTRY_PROPOSALS));
        let (mut bytes, limit) = (0, self.limits.entry_bytes());
        for _ in 0..ENTRY_PROPOSALS {
            let next = self.backlog.pop_front().or_else(|| self.receiver.try_recv().ok());
            let Some(admitted) = next else { break };
            match admitted.judge(&known, &under_way, &filled.batch.messages) {
                Verdict::New => {
                    bytes += admitted.bytes;
                    if bytes > limit && !filled.shares.is_empty() {
                        self.backlog.push_front(admitted);
                        break;
                    }
                    if known.is_on() {
                        under_way.add(filled.batch.messages.len(), &admitted.proposal.messages);
                    }
                    filled.add(admitted);
                }
                Verdict::Stored(first) => filled.add_repeat(admitted, first),
                Verdict::UnderWay if self.repeats.len() < REPEATS => {
                    self.repeats.push(Admitted { waited: true, ..admitted });
                }
                Verdict::UnderWay => {
                    let limit = self.limits.waiting_bytes;
                    let bytes = admitted.bytes;
                    filled.refuse(admitted, ProposeError::Busy { bytes, limit });
                }
                Verdict::Late => {
                    let waited = self.limits.patience;
                    filled.refuse(admitted, ProposeError::NoQuorum { waited });
                }
                Verdict::Stale => filled.refuse(admitted, ProposeError::NotLeader { leader: None }),
            }
        }
        drop((known, under_way));
        filled.finish()
    }
}

fn entry(filled: Filled, slot: OwnedSemaphorePermit, under_way: &UnderWay) -> Entry {
    let Filled { since, batch, shares, permits, .. } = filled;
    let batch = Arc::new(batch);
    let under_way = under_way.begin(&batch);
    Entry {
        waiting: Arc::new(Mutex::new(Some(Waiting { since, shares }))),
        held: Held { _permits: permits, _slot: slot, batch },
        under_way,
    }
}

/// Returns when the entry has its place, or will have none, or is postponed. Cancel-safe.
async fn placed(last: Option<&Arc<Batch>>) {
    match last {
        Some(batch) => batch.placed.notified().await,
        None => std::future::pending().await,
    }
}

async fn propose(core: &impl Core, entry: Entry, ways: &Ways) -> Arc<Batch> {
    let batch = Arc::clone(&entry.held.batch);
    let (mine, ways) = (Arc::clone(&entry.waiting), ways.clone());
    let answer = Answer::new(move |result| settle(entry, result, &ways));
    if let Err(fatal) = core.write(Arc::clone(&batch), answer).await
        && let Some(waiting) = mine.lock().take()
    {
        refuse(waiting.shares, &ProposeError::StoreFailed { why: fatal.to_string() });
    }
    batch
}

/// Answers for an entry, or postpones it, and with it all that comes later: a leader that a quorum
/// has not answered for a moment takes nothing, and a busy machine can be the reason. Nothing was
/// appended then.
fn settle(entry: Entry, result: ClientWriteResult<TypeConfig>, ways: &Ways) {
    let is_postponed = matches!(
        &result,
        Err(ClientWriteError::ForwardToLeader(ForwardToLeader {
            reason: ForwardReason::LeaseExpired,
            ..
        }))
    );
    let entry = match is_postponed && entry.waiting.lock().is_some() {
        true => {
            let batch = Arc::clone(&entry.held.batch);
            match ways.again.try_send(entry) {
                Ok(()) => return batch.placed.notify_one(),
                Err(TrySendError::Full(entry) | TrySendError::Closed(entry)) => entry,
            }
        }
        false => entry,
    };
    if let Err(ClientWriteError::ForwardToLeader(forward)) = result {
        let leader = forward.leader_node.map(|member| member.name);
        return entry.give_back(leader.as_ref(), &ways.desk);
    }
    let Entry { waiting, held, under_way } = entry;
    drop(held);
    let shares = waiting.lock().take().map(|waiting| waiting.shares).unwrap_or_default();
    match result {
        Ok(written) => {
            let unanswered = answer(shares, written.data);
            if !unanswered.is_empty() {
                ways.duplicates.nobody_knew(unanswered.into_iter());
            }
        }
        Err(ClientWriteError::LogEntryDiscarded(_)) => {
            refuse(shares, &ProposeError::OutcomeUnknown);
        }
        Err(error) => refuse(shares, &ProposeError::StoreFailed { why: error.to_string() }),
    }
    // What repeats one of these has its turn, and finds what is noted by now as not answered.
    drop(under_way);
}

/// Answers. Messages whose proposers were told that nobody knew are left.
fn answer(shares: Vec<Share>, applied: Applied) -> Vec<PhysicalOffset> {
    let few = shares.len() <= FEW;
    let mut places = applied.places.into_iter();
    let mut outcomes = applied.outcomes.into_iter();
    let mut unanswered = Vec::new();
    for mut share in shares {
        if share.done.is_none() {
            unanswered.extend(places.by_ref().take(share.messages).map(|place| place.physical));
            outcomes.by_ref().take(share.commands).for_each(drop);
            continue;
        }
        share.answer(Ok(Receipt {
            store_timestamp: applied.store_timestamp,
            places: places.by_ref().take(share.messages).collect(),
            outcomes: outcomes.by_ref().take(share.commands).collect(),
            few,
            repeats: false,
        }));
    }
    unanswered.extend(places.map(|place| place.physical));
    unanswered
}

fn give_back(shares: Vec<Share>, batch: &Batch, leader: Option<&String>, desk: &Desk) {
    let (mut message, mut command) = (0, 0);
    let mut back = Vec::new();
    for mut share in shares {
        let messages = message..message + share.messages;
        let commands = command..command + share.commands;
        (message, command) = (messages.end, commands.end);
        if share.origin.is_some() {
            share.answer(Err(ProposeError::NotLeader { leader: leader.cloned() }));
        } else if let Some(done) = share.done {
            let messages = batch.messages[messages].iter().cloned().collect();
            let commands = batch.commands[commands].to_vec();
            back.push(Line { proposal: Proposal { messages, commands, done }, since: share.since });
        }
    }
    desk.take_back(back);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Term;
    use crate::raft::command::{Command, Origin};
    use openraft::raft::responder::Responder as _;
    use std::sync::atomic::AtomicUsize;

    /// A core that does what the test says.
    struct Told(mpsc::Sender<Call>);

    type Call = (Arc<Batch>, Answer<ClientWriteResult<TypeConfig>>);

    impl Core for Told {
        async fn write(
            &self,
            batch: Arc<Batch>,
            answer: Answer<ClientWriteResult<TypeConfig>>,
        ) -> Result<(), Fatal<TypeConfig>> {
            self.0.try_send((batch, answer)).map_err(|_| Fatal::Stopped)
        }
    }

    fn desk() -> Desk {
        Desk::new(1, Limits::default())
    }

    /// Of a leader of term 4 that looks for nothing.
    fn nothing_known() -> Duplicates {
        Duplicates::new(Duration::ZERO, Term(4), |_, _| None)
    }

    fn propose(proposer: &Proposer, name: &str) {
        let name = Command::DeleteTopic { topic: name.to_owned() };
        proposer.propose(Proposal::of_commands(vec![name], |_| {}));
    }

    fn is_of(batch: &Batch, name: &str) -> bool {
        batch.commands == [Command::DeleteTopic { topic: name.to_owned() }]
    }

    fn lease_expired() -> ClientWriteResult<TypeConfig> {
        let reason = ForwardReason::LeaseExpired;
        let forward = ForwardToLeader { leader_id: None, leader_node: None, reason };
        Err(ClientWriteError::ForwardToLeader(forward))
    }

    #[tokio::test]
    async fn nothing_overtakes_an_entry_that_is_postponed() {
        let (proposer, inbox) = Proposer::new(Limits::default(), desk());
        let (core, mut calls) = mpsc::channel(8);
        let running = tokio::spawn(run(inbox, Told(core), nothing_known()));
        propose(&proposer, "a");
        let (a, mut answer) = calls.recv().await.unwrap();
        assert!(is_of(&a, "a"));
        propose(&proposer, "b");
        for _ in 0..3 {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert!(calls.try_recv().is_err(), "it could be taken although a was not");
            answer.on_complete(lease_expired());
            let (again, next) = calls.recv().await.unwrap();
            assert!(Arc::ptr_eq(&a, &again));
            answer = next;
        }
        a.placed.notify_one();
        let (b, _dropped) = calls.recv().await.unwrap();
        assert!(is_of(&b, "b"), "a is under way yet: entries are in flight together");
        drop((answer, b, _dropped));
        propose(&proposer, "c");
        let (c, _) = calls.recv().await.unwrap();
        assert!(is_of(&c, "c"), "a core that ends answers nobody, and keeps nobody waiting");
        running.abort();
    }

    #[tokio::test]
    async fn only_what_a_core_did_not_take_was_surely_not_stored() {
        let (proposer, inbox) = Proposer::new(Limits::default(), desk());
        let (core, mut calls) = mpsc::channel(8);
        let running = tokio::spawn(run(inbox, Told(core), nothing_known()));
        let asked = |name: &str| {
            let (tell, told) = tokio::sync::oneshot::channel();
            let name = Command::DeleteTopic { topic: name.to_owned() };
            proposer.propose(Proposal::of_commands(vec![name], |result| {
                tell.send(result.map(drop)).unwrap();
            }));
            told
        };
        let a = asked("a");
        let taken = calls.recv().await.unwrap();
        drop((taken, calls)); // it ends, and has perhaps appended a
        let b = asked("b").await.unwrap();
        assert!(matches!(b, Err(ProposeError::StoreFailed { .. })), "{b:?}");
        proposer.give_up().await;
        let a = a.await.unwrap();
        assert!(matches!(a, Err(ProposeError::OutcomeUnknown)), "{a:?}");
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_passed_on_is_for_one_term_and_until_its_client_gives_up() {
        let (proposer, inbox) = Proposer::new(Limits::default(), desk());
        let (core, mut calls) = mpsc::channel(8);
        let pass = |number, term, until| {
            let (tell, told) = tokio::sync::oneshot::channel();
            let name = Command::DeleteTopic { topic: "T".to_owned() };
            let proposal = Proposal::of_commands(vec![name], |result| {
                tell.send(result.map(drop)).unwrap();
            });
            let origin = Origin { life: 9, number };
            proposer.pass(proposal, PassedOn { origin, term: Term(term), until: Some(until) });
            told
        };
        let soon = Instant::now() + Duration::from_millis(100);
        let late = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        let (_first, second) = (pass(1, 4, soon), pass(2, 4, late));
        let third = pass(3, 3, soon);
        let running = tokio::spawn(run(inbox, Told(core), nothing_known()));
        let (batch, mut answer) = calls.recv().await.unwrap();
        assert_eq!((batch.term, batch.until), (Some(Term(4)), Some(soon)));
        let origins = |batch: &Batch| match &batch.commands[..] {
            [_, Command::Passed(passed)] => passed.iter().map(|p| p.origin.number).collect(),
            _ => vec![],
        };
        assert_eq!(origins(&batch), [1], "of another term, or late");
        assert!(matches!(second.await.unwrap(), Err(ProposeError::NoQuorum { .. })));
        assert!(matches!(third.await.unwrap(), Err(ProposeError::NotLeader { .. })));
        answer.on_complete(lease_expired());
        let (again, next) = calls.recv().await.unwrap();
        assert!(Arc::ptr_eq(&batch, &again));
        answer = next;
        tokio::time::advance(Duration::from_millis(200)).await;
        answer.on_complete(lease_expired());
        // The first is late by now.
        for _ in 0..100 {
            tokio::time::advance(Duration::from_millis(1)).await;
            tokio::task::yield_now().await;
        }
        assert!(calls.try_recv().is_err());
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_elsewhere_before_waits_no_longer_than_others() {
        let (patience, begin) = (Duration::from_secs(2), Instant::now());
        let limits = Limits { patience, ..Limits::default() };
        let (proposer, mut inbox) = Proposer::new(limits, desk());
        tokio::time::advance(patience).await;
        let refused = Arc::new(Mutex::new(Vec::new()));
        for (name, since) in [("fresh", Instant::now()), ("late", begin), ("next", Instant::now())]
        {
            let refused = Arc::clone(&refused);
            let done = move |_| refused.lock().push(name);
            proposer.propose_since(Proposal::of_commands(Vec::new(), done), since);
        }
        inbox.expire();
        assert_eq!(*refused.lock(), ["late"]);
        tokio::time::advance(patience).await;
        inbox.expire();
        assert_eq!(*refused.lock(), ["late", "fresh", "next"]);
    }

    #[test]
    fn a_proposer_that_gets_no_turn_holds_a_bounded_number_of_proposals() {
        let limits = Limits { patience: Duration::from_secs(3600), ..Limits::default() };
        let (proposer, mut inbox) = Proposer::new(limits, desk());
        let refused = Arc::new(AtomicUsize::new(0));
        for n in 0..4 * INBOX {
            if n % INBOX == 0 {
                inbox.expire();
            }
            let refused = Arc::clone(&refused);
            proposer.propose(Proposal::of_commands(Vec::new(), move |_| {
                refused.fetch_add(1, Ordering::Relaxed);
            }));
        }
        assert!(inbox.backlog.len() <= INBOX, "{}", inbox.backlog.len());
        assert_eq!(refused.load(Ordering::Relaxed), 2 * INBOX);
    }
}
