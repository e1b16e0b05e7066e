//! What clients ask of a member that does not lead: kept while there is no leader, passed on while
//! there is one, and answered when it is known what became of it.
//!
//! ```text
//!            ┌──────────── waiting ◄───────────────┐ surely not in the log: again
//!  propose ──┤                │ a leader is known  │
//!            │                ▼                    │
//!            └─ too late     sent ── refused ──► answered
//!                             │  └── stream lost, leader gone: in doubt until a barrier
//!                             └── read in the log ──► answered
//! ```
//!
//! What was passed on is answered by the log alone: the entry that carries it names its
//! [`Origin`], and this member applies it like everybody else ([`Desk::told`]). So there is one
//! answer, whichever connections and leaders are lost meanwhile, and who is answered here reads
//! here what it wrote.
//!
//! After a stream or its leader is lost, what was sent may be in the log or not. Before anything
//! else, the next stream carries a proposal without content, the barrier. The leader takes nothing
//! from earlier streams once it takes from a later one, and what was meant for an earlier term is
//! never appended in another ([`crate::raft::forwarded`]): so when the barrier is applied here,
//! what was sent before and has not been read never will be, and goes again.
//!
//! A client gives up after some seconds, and goes on with what comes next, perhaps through another
//! member: what is done for it after that would be done out of order. So a proposal is appended
//! within [`Limits::patience`] after it came, or never: it goes to the leader with the time until
//! when, by the leader's own clock ([`LeadersClock`]), however long the network keeps it.
//!
//! Cost of a message that comes to a follower, beside what it costs on its leader: it is encoded
//! and decoded once more, its body copied into a socket and out; some 20 bytes in the log.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::ids::StoredSend;
use crate::raft::ProposeError;
use crate::raft::command::Origin;
use crate::raft::proposal::{Done, Proposal, Receipt};
use crate::raft::proposer::Limits;
#[cfg(test)]
use crate::raft::simulation::planted::{Bug, is_planted};

/// Proposals that may wait here, sent or not; bytes are bounded by [`Limits::waiting_bytes`].
const LINES_MAX: usize = 64 * 1024;
/// Sends that wait here for a leader to be told that their clients may not have been answered; the
/// oldest are forgotten.
const UNANSWERED_MAX: usize = 4096;
/// How long they wait: nobody looks for a first try that is older.
const UNANSWERED_FOR: Duration = Duration::from_secs(10);

/// What a leader's clock showed, and when this member heard it: not before that moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeadersClock {
    /// As it said, ms.
    pub showed_ms: u64,
    /// By this member's clock.
    pub heard: Instant,
}

impl LeadersClock {
    /// What it shows at `at` at most; `None`: it was later already.
    fn at(self, at: Instant) -> Option<u64> {
        let since = at.checked_duration_since(self.heard)?;
        Some(self.showed_ms + u64::try_from(since.as_millis()).ok()?)
    }
}

/// What a desk has seen since its life began, and what is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Proposals that are here now, sent or not.
    pub waiting: u64,
    /// Proposals that were taken.
    pub taken: u64,
    /// Proposals that were sent to a leader; one that went again counts again.
    pub passed: u64,
    /// Proposals that were answered with an error, those that were not even taken among them.
    pub failed: u64,
}

/// A proposal that waits.
pub(super) struct Line {
    /// What is asked, and by whom.
    pub proposal: Proposal,
    /// When it came.
    pub since: Instant,
}

/// A desk at which proposals wait for a leader. Cloning shares it.
#[derive(Clone)]
pub(super) struct Desk(Arc<Shared>);

struct Shared {
    life: u64,
    limits: Limits,
    /// How many want what comes now to be kept: this member leads, and passes leadership on.
    holds: AtomicUsize,
    /// This member leads, and nothing waits here that came before what comes now.
    direct: AtomicBool,
    /// Something came back that this member had proposed.
    given_back: AtomicBool,
    lines: Mutex<Lines>,
    /// There may be something to do for who passes on.
    work: Notify,
    /// There may be something that grows old.
    first: Notify,
    /// Something was answered.
    answered: Notify,
}

/// Sends whose clients may not have been answered, those of a connection in order, and since when
/// that is known.
pub(super) type Unanswered = VecDeque<(Instant, StoredSend)>;

#[derive(Default)]
struct Lines {
    /// Surely not in the log, the oldest first: by when they came.
    waiting: VecDeque<Line>,
    /// Perhaps in the log, by number.
    sent: BTreeMap<u64, Line>,
    /// Until this one is read in the log nothing is sent.
    barrier: Option<u64>,
    last_number: u64,
    /// Told before anything else is sent.
    unanswered: Unanswered,
    bytes: usize,
    closed: bool,
    counts: Counts,
}

impl Lines {
    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Puts it behind all that came before it. Usually that is the end.
    fn add(&mut self, line: Line) {
        self.bytes += line.proposal.bytes();
        let place = self.waiting.partition_point(|other| other.since <= line.since);
        self.waiting.insert(place, line);
    }

    /// The same for many. Usually they all came before what waits.
    fn add_all(&mut self, mut back: Vec<Line>) {
        back.sort_by_key(|line| line.since);
        self.bytes += back.iter().map(|line| line.proposal.bytes()).sum::<usize>();
        let mut rest = std::mem::take(&mut self.waiting).into_iter().peekable();
        let mut back = back.into_iter().peekable();
        while let (Some(one), Some(other)) = (back.peek(), rest.peek()) {
            let next = if other.since <= one.since { rest.next() } else { back.next() };
            self.waiting.extend(next);
        }
        self.waiting.extend(back.chain(rest));
    }

    fn forget(&mut self, line: Line) -> Done {
        self.bytes -= line.proposal.bytes();
        line.proposal.done
    }

    /// The same for one that is answered with an error.
    fn fail(&mut self, line: Line) -> Done {
        self.counts.failed += 1;
        self.forget(line)
    }

    /// What was sent before `number` is not in the log and never will be: it goes again, by when it
    /// came. That is not as it was sent: a send that waited for its topic to be made went later.
    fn send_again(&mut self, before: u64) {
        let later = self.sent.split_off(&before);
        let doubts = std::mem::replace(&mut self.sent, later);
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting = doubts.into_values().chain(waiting).collect();
        self.waiting.make_contiguous().sort_by_key(|line| line.since);
    }

    fn count(&self) -> usize {
        self.waiting.len() + self.sent.len()
    }
}

impl Desk {
    /// An empty one, of a `life` that no other process has, in this group and at any time.
    pub(super) fn new(life: u64, limits: Limits) -> Self {
        let shared = Shared {
            life,
            limits,
            holds: AtomicUsize::new(0),
            direct: AtomicBool::new(false),
            given_back: AtomicBool::new(false),
            lines: Mutex::default(),
            work: Notify::new(),
            first: Notify::new(),
            answered: Notify::new(),
        };
        Self(Arc::new(shared))
    }

    /// By which this member finds its proposals in the log.
    pub(super) fn life(&self) -> u64 {
        self.0.life
    }

    /// Takes a proposal that a client made at `since`, or answers it at once with why not. Never
    /// blocks.
    pub(super) fn take(&self, proposal: Proposal, since: Instant) {
        if let Err((error, done)) = self.admit(proposal, since) {
            done(Err(error));
        }
    }

    fn admit(&self, proposal: Proposal, since: Instant) -> Result<(), (ProposeError, Done)> {
        let bytes = proposal.bytes();
        let mut lines = self.0.lines.lock();
        if let Some(refusal) = self.refusal(&lines, bytes) {
            lines.counts.failed += 1;
            return Err((refusal, proposal.done));
        }
        lines.counts.taken += 1;
        lines.add(Line { proposal, since });
        self.0.direct.store(false, Ordering::Release);
        drop(lines);
        self.tell();
        Ok(())
    }

    fn refusal(&self, lines: &Lines, bytes: usize) -> Option<ProposeError> {
        let Limits { proposal_bytes, waiting_bytes, .. } = self.0.limits;
        if bytes > proposal_bytes {
            return Some(ProposeError::TooLarge { bytes, limit: proposal_bytes });
        }
        if lines.closed {
            return Some(ProposeError::Stopping);
        }
        let is_full = lines.bytes + bytes > waiting_bytes || lines.count() >= LINES_MAX;
        is_full.then_some(ProposeError::Busy { bytes, limit: waiting_bytes })
    }

    /// Takes back what this member proposed as a leader and did not append. What came before what
    /// waits here, whoever is given back first.
    pub(super) fn take_back(&self, back: Vec<Line>) {
        let mut lines = self.0.lines.lock();
        let mut refused = Vec::new();
        if lines.closed {
            lines.counts.failed += back.len() as u64;
            refused = back;
        } else {
            lines.add_all(back);
        }
        self.0.direct.store(false, Ordering::Release);
        self.0.given_back.store(true, Ordering::Release);
        drop(lines);
        self.tell();
        for line in refused {
            (line.proposal.done)(Err(ProposeError::Stopping));
        }
    }

    fn tell(&self) {
        self.0.work.notify_one();
        self.0.first.notify_one();
    }

    /// As long as the result lives, this member keeps what it is asked, as if it did not lead.
    pub(super) fn hold(&self) -> Hold {
        let lines = self.0.lines.lock();
        self.0.holds.fetch_add(1, Ordering::AcqRel);
        self.0.direct.store(false, Ordering::Release);
        drop(lines);
        Hold(self.clone())
    }

    /// Whether it does.
    pub(super) fn is_holding(&self) -> bool {
        self.0.holds.load(Ordering::Acquire) > 0
    }

    /// Whether a leader may propose by itself what comes now: nothing that came before waits here.
    pub(super) fn is_direct(&self) -> bool {
        self.0.direct.load(Ordering::Acquire)
    }

    /// Whether something was taken back since the last call: this member leads no more, or is about
    /// to.
    pub(super) fn was_given_back(&self) -> bool {
        self.0.given_back.swap(false, Ordering::AcqRel)
    }

    /// What it has seen.
    pub(super) fn counts(&self) -> Counts {
        let lines = self.0.lines.lock();
        Counts { waiting: lines.count() as u64, ..lines.counts }
    }

    /// Bytes that wait here.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.0.lines.lock().bytes
    }

    /// What was passed on, and is stored, may not have got to its client: the leader is told, for
    /// the client turns to it, or to another member.
    pub(super) fn unanswered(&self, sends: impl IntoIterator<Item = StoredSend>) {
        let now = Instant::now();
        self.add_unanswered(sends.into_iter().map(|send| (now, send)));
    }

    /// The leader may not have heard of these: it is told again.
    pub(super) fn tell_again(&self, unheard: Unanswered) {
        let later = self.take_unanswered();
        self.add_unanswered(unheard.into_iter().chain(later));
    }

    fn add_unanswered(&self, sends: impl Iterator<Item = (Instant, StoredSend)>) {
        let mut lines = self.0.lines.lock();
        lines.unanswered.extend(sends);
        let too_many = lines.unanswered.len().saturating_sub(UNANSWERED_MAX);
        lines.unanswered.drain(..too_many);
        drop(lines);
        self.0.work.notify_one();
    }

    /// What the leader is told of that now, each once.
    pub(super) fn take_unanswered(&self) -> Unanswered {
        std::mem::take(&mut self.0.lines.lock().unanswered)
    }

    /// Whether it is not known what became of something that was sent, or of a barrier: only another
    /// stream tells, even if nobody waits for what was sent any more.
    pub(super) fn is_in_doubt(&self) -> bool {
        let lines = self.0.lines.lock();
        lines.barrier.is_some() || !lines.sent.is_empty()
    }

    /// Returns when there is something to pass on, and it may be. Cancel-safe; for one caller.
    pub(super) async fn work(&self) {
        loop {
            {
                let mut lines = self.0.lines.lock();
                let is_late = |(since, _): &mut (Instant, _)| since.elapsed() >= UNANSWERED_FOR;
                while lines.unanswered.pop_front_if(is_late).is_some() {}
                let keeps = self.is_holding() && !lines.closed;
                let is_empty = lines.waiting.is_empty() && lines.unanswered.is_empty();
                if !keeps && lines.barrier.is_none() && !is_empty {
                    return;
                }
            }
            self.0.work.notified().await;
        }
    }

    /// A stream to a leader begins. If something is in doubt, its first proposal is one without
    /// content, which has this number, and there is no [`Self::work`] until that is read.
    pub(super) fn begin(&self) -> Option<u64> {
        let mut lines = self.0.lines.lock();
        #[cfg(test)]
        if is_planted(Bug::IgnoresBarriers) {
            lines.send_again(u64::MAX);
        }
        let number = (!lines.sent.is_empty()).then(|| lines.number());
        lines.barrier = number;
        number
    }

    /// What goes next to the leader that has this clock, each once: as `write` makes it of a number,
    /// the time until when it may be appended, and a proposal, until that says that it is enough.
    pub(super) fn send(
        &self,
        clock: LeadersClock,
        mut write: impl FnMut((u64, u64), &Proposal) -> bool,
    ) {
        let mut lines = self.0.lines.lock();
        while lines.barrier.is_none()
            && let Some(line) = lines.waiting.pop_front()
        {
            let number = lines.number();
            // What is late already is answered by the next sweep, as what may be in the log.
            let until_ms = clock.at(line.since + self.0.limits.patience).unwrap_or(0);
            let more = write((number, until_ms), &line.proposal);
            lines.counts.passed += 1;
            lines.sent.insert(number, line);
            if !more {
                return;
            }
        }
    }

    /// A proposal of this life is applied, here; `receipt` makes what its proposer gets. False if
    /// that one was told before that nobody knew.
    pub(super) fn told(&self, origin: Origin, receipt: impl FnOnce() -> Receipt) -> bool {
        let mut lines = self.0.lines.lock();
        if lines.barrier == Some(origin.number) {
            lines.barrier = None;
            lines.send_again(origin.number);
            drop(lines);
            self.tell();
            return true;
        }
        let Some(line) = lines.sent.remove(&origin.number) else { return false };
        let done = lines.forget(line);
        drop(lines);
        done(Ok(receipt()));
        self.0.answered.notify_one();
        true
    }

    /// The leader refused one of this life. False if that one was a barrier.
    pub(super) fn refused(&self, number: u64, error: ProposeError) -> bool {
        let mut lines = self.0.lines.lock();
        let Some(line) = lines.sent.remove(&number) else {
            return lines.barrier != Some(number);
        };
        let done = lines.fail(line);
        drop(lines);
        done(Err(error));
        self.0.answered.notify_one();
        true
    }

    /// This member leads, and has applied all of the terms before: nothing is in doubt.
    pub(super) fn leads(&self) {
        let mut lines = self.0.lines.lock();
        lines.barrier = None;
        lines.send_again(u64::MAX);
    }

    /// What a leader proposes itself, in order; nothing while it passes leadership on. Asked again
    /// and nothing has come meanwhile, what comes from now on need not wait here.
    pub(super) fn empty(&self) -> VecDeque<Line> {
        let mut lines = self.0.lines.lock();
        if self.is_holding() && !lines.closed {
            return VecDeque::new();
        }
        self.0.direct.store(lines.waiting.is_empty(), Ordering::Release);
        let waiting = std::mem::take(&mut lines.waiting);
        let bytes: usize = waiting.iter().map(|line| line.proposal.bytes()).sum();
        lines.bytes -= bytes;
        waiting
    }

    /// Answers all that was not sent: clients are to turn to another member.
    pub(super) fn send_away(&self, why: &ProposeError) {
        let unsent: Vec<Done> = {
            let mut lines = self.0.lines.lock();
            let unsent = std::mem::take(&mut lines.waiting);
            unsent.into_iter().map(|line| lines.fail(line)).collect()
        };
        unsent.into_iter().for_each(|done| done(Err(why.clone())));
        self.0.answered.notify_one();
    }

    /// A snapshot took the place of entries: nobody will ever know what became of what was sent.
    pub(super) fn skipped(&self) {
        let mut lines = self.0.lines.lock();
        lines.barrier = None;
        let sent = std::mem::take(&mut lines.sent);
        let unknown: Vec<Done> = sent.into_values().map(|line| lines.fail(line)).collect();
        drop(lines);
        unknown.into_iter().for_each(|done| done(Err(ProposeError::OutcomeUnknown)));
        self.tell();
    }

    /// Answers what waited too long; `unled` says why it was not passed on. Sleeps while none does.
    pub(super) async fn sweep(&self, unled: impl Fn() -> ProposeError) {
        loop {
            while self.0.lines.lock().count() == 0 {
                self.0.first.notified().await;
            }
            tokio::time::sleep(SWEEP).await;
            self.expire(&unled);
        }
    }

    fn expire(&self, unled: impl Fn() -> ProposeError) {
        let (patience, now) = (self.0.limits.patience, Instant::now());
        let is_late = |line: &Line| now.duration_since(line.since) >= patience;
        let (mut unsent, mut unknown) = (Vec::new(), Vec::new());
        {
            let mut lines = self.0.lines.lock();
            while lines.waiting.front().is_some_and(is_late) {
                if let Some(line) = lines.waiting.pop_front() {
                    unsent.push(lines.fail(line));
                }
            }
            // Numbered as they were sent, not as they came.
            let late: Vec<_> = lines.sent.extract_if(.., |_, line| is_late(line)).collect();
            unknown.extend(late.into_iter().map(|(_, line)| lines.fail(line)));
        }
        for done in unsent {
            done(Err(unled()));
        }
        for done in unknown {
            done(Err(ProposeError::NoQuorum { waited: patience }));
        }
        self.0.answered.notify_one();
    }

    /// Takes nothing any more; what is here has `grace` to be answered, then what was not sent is
    /// refused. What was sent may yet be appended: it is answered when its client would give up, or
    /// what that one asks next, elsewhere, could come before it. Whatever was held may go on now.
    pub(super) async fn close(&self, grace: Duration) {
        self.0.lines.lock().closed = true;
        self.0.work.notify_one();
        if tokio::time::timeout(grace, self.answered()).await.is_ok() {
            return;
        }
        tracing::warn!(bytes = self.waiting_bytes(), "stopping with requests unanswered");
        self.send_away(&ProposeError::Stopping);
        if tokio::time::timeout(self.0.limits.patience, self.answered()).await.is_err() {
            self.skipped();
        }
    }

    /// Returns when nothing is here.
    async fn answered(&self) {
        while self.0.lines.lock().count() > 0 {
            self.0.answered.notified().await;
        }
    }
}

/// While one lives, what a leader is asked is kept for who leads then.
pub(super) struct Hold(Desk);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.0.holds.fetch_sub(1, Ordering::AcqRel);
        self.0.0.work.notify_one();
    }
}

/// How often what waits is looked at.
const SWEEP: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
