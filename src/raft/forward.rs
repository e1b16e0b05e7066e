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

#[derive(Default)]
struct Lines {
    /// Surely not in the log, the oldest first.
    waiting: VecDeque<Line>,
    /// Perhaps in the log, by number.
    sent: BTreeMap<u64, Line>,
    /// Until this one is read in the log nothing is sent.
    barrier: Option<u64>,
    last_number: u64,
    /// In order; told before anything else is sent.
    unanswered: VecDeque<StoredSend>,
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

    /// What was sent before `number` is not in the log and never will be: it goes again.
    fn send_again(&mut self, before: u64) {
        let later = self.sent.split_off(&before);
        let doubts = std::mem::replace(&mut self.sent, later);
        for line in doubts.into_values().rev() {
            self.waiting.push_front(line);
        }
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
    pub(super) fn unanswered(&self, sends: VecDeque<StoredSend>) {
        let mut lines = self.0.lines.lock();
        lines.unanswered.extend(sends);
        let too_many = lines.unanswered.len().saturating_sub(UNANSWERED_MAX);
        lines.unanswered.drain(..too_many);
        drop(lines);
        self.0.work.notify_one();
    }

    /// What the leader is told of that now, each once.
    pub(super) fn take_unanswered(&self) -> VecDeque<StoredSend> {
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
                let lines = self.0.lines.lock();
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
        lines.unanswered.clear(); // others led that: it is known here
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
            while lines.sent.first_key_value().is_some_and(|(_, line)| is_late(line)) {
                if let Some((_, line)) = lines.sent.pop_first() {
                    unknown.push(lines.fail(line));
                }
            }
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
mod tests {
    use super::*;
    use crate::raft::command::Command;
    use futures_util::FutureExt as _;
    use std::sync::mpsc;

    type Told = mpsc::Receiver<Result<(), ProposeError>>;

    fn desk() -> Desk {
        Desk::new(7, Limits { proposal_bytes: 10_000, waiting_bytes: 20_000, ..Limits::default() })
    }

    fn named(name: &str) -> Vec<Command> {
        vec![Command::DeleteTopic { topic: name.to_owned() }]
    }

    fn ask(desk: &Desk, name: &str) -> Told {
        let (tell, told) = mpsc::sync_channel(1);
        let proposal = Proposal::of_commands(named(name), move |result| {
            tell.send(result.map(drop)).unwrap();
        });
        desk.take(proposal, Instant::now());
        told
    }

    fn name(proposal: &Proposal) -> String {
        match &proposal.commands[..] {
            [Command::DeleteTopic { topic }] => topic.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn sent(desk: &Desk) -> Vec<(u64, String)> {
        let mut sent = Vec::new();
        let clock = LeadersClock { showed_ms: 5_000, heard: Instant::now() };
        desk.send(clock, |(number, until_ms), proposal| {
            assert!((7_400..=7_500).contains(&until_ms), "{until_ms}");
            sent.push((number, name(proposal)));
            true
        });
        sent
    }

    fn read_in_log(desk: &Desk, number: u64) -> bool {
        let receipt = || Receipt {
            store_timestamp: 0,
            places: smallvec::SmallVec::new(),
            outcomes: Vec::new(),
            few: true,
            repeats: false,
        };
        desk.told(Origin { life: 7, number }, receipt)
    }

    fn own(pairs: &[(u64, &str)]) -> Vec<(u64, String)> {
        pairs.iter().map(|(number, name)| (*number, (*name).to_owned())).collect()
    }

    #[test]
    fn what_was_sent_is_answered_when_it_is_read_in_the_log_and_once() {
        let desk = desk();
        assert_eq!(desk.begin(), None, "nothing is in doubt");
        let (a, b) = (ask(&desk, "a"), ask(&desk, "b"));
        assert_eq!(sent(&desk), own(&[(1, "a"), (2, "b")]));
        assert!(sent(&desk).is_empty());
        read_in_log(&desk, 2);
        assert!(b.recv().unwrap().is_ok() && a.try_recv().is_err());
        read_in_log(&desk, 2);
        read_in_log(&desk, 1);
        assert!(a.recv().unwrap().is_ok());
        assert_eq!(desk.waiting_bytes(), 0);
    }

    #[test]
    fn behind_a_barrier_what_was_not_read_goes_again_in_order_and_before_all_that_came_later() {
        let desk = desk();
        let answers = ["a", "b", "c"].map(|name| ask(&desk, name));
        assert_eq!(sent(&desk).len(), 3);
        let d = ask(&desk, "d");
        assert_eq!(desk.begin(), Some(4));
        assert!(sent(&desk).is_empty(), "nothing overtakes what is in doubt");
        read_in_log(&desk, 2);
        assert!(answers[1].recv().unwrap().is_ok());
        read_in_log(&desk, 4);
        assert_eq!(sent(&desk), own(&[(5, "a"), (6, "c"), (7, "d")]));
        assert!(d.try_recv().is_err());
    }

    #[test]
    fn what_is_in_doubt_needs_a_barrier_though_nothing_waits() {
        let desk = desk();
        let a = ask(&desk, "a");
        sent(&desk);
        assert!(desk.is_in_doubt() && desk.work().now_or_never().is_none());
        assert_eq!(desk.begin(), Some(2));
        read_in_log(&desk, 2);
        assert!(!desk.is_in_doubt() && desk.work().now_or_never().is_some());
        assert!(a.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_barrier_that_was_lost_holds_nothing_up_though_nobody_waits_for_what_was_sent() {
        let desk = desk();
        let a = ask(&desk, "a");
        sent(&desk);
        assert_eq!(desk.begin(), Some(2), "and its stream is lost");
        tokio::time::advance(Duration::from_secs(3)).await;
        desk.expire(|| ProposeError::NotLeader { leader: None });
        assert!(matches!(a.recv().unwrap(), Err(ProposeError::NoQuorum { .. })));
        let _b = ask(&desk, "b");
        assert!(desk.is_in_doubt(), "so that another stream begins");
        assert_eq!(desk.begin(), None);
        assert!(desk.work().now_or_never().is_some());
        assert_eq!(sent(&desk), own(&[(3, "b")]));
    }

    #[test]
    fn a_barrier_that_was_lost_with_its_stream_holds_nothing_up() {
        let desk = desk();
        let a = ask(&desk, "a");
        sent(&desk);
        assert_eq!(desk.begin(), Some(2));
        assert_eq!(desk.begin(), Some(3));
        read_in_log(&desk, 2);
        assert!(sent(&desk).is_empty(), "of the former stream");
        read_in_log(&desk, 3);
        assert_eq!(sent(&desk), own(&[(4, "a")]));
        read_in_log(&desk, 4);
        assert!(a.recv().unwrap().is_ok());
        assert_eq!(desk.begin(), None);
    }

    #[test]
    fn a_new_leader_has_no_doubts_and_proposes_in_order() {
        let desk = desk();
        let _told = ["a", "b"].map(|name| ask(&desk, name));
        sent(&desk);
        ask(&desk, "c");
        desk.begin();
        desk.leads();
        let names: Vec<String> = desk.empty().iter().map(|line| name(&line.proposal)).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(desk.waiting_bytes(), 0);
        ask(&desk, "d");
        let _held = desk.hold();
        assert!(desk.empty().is_empty(), "it is for the successor");
    }

    #[test]
    fn nothing_that_a_leader_is_asked_overtakes_what_waits() {
        let desk = desk();
        assert!(!desk.is_direct(), "it does not lead yet");
        let _told = ["a", "b"].map(|name| ask(&desk, name));
        desk.leads();
        assert_eq!(desk.empty().len(), 2);
        assert!(!desk.is_direct(), "what was here is on its way");
        assert!(desk.empty().is_empty() && desk.is_direct());
        let (one, other) = (desk.hold(), desk.hold());
        assert!(!desk.is_direct());
        ask(&desk, "c");
        drop(one);
        assert!(desk.empty().is_empty(), "somebody still wants it to be kept");
        drop(other);
        assert!(!desk.is_direct());
        assert_eq!((desk.empty().len(), desk.is_direct()), (1, false));
        assert!(desk.empty().is_empty() && desk.is_direct());
        ask(&desk, "d");
        assert!(!desk.is_direct(), "as a follower it was asked, and leads again");
    }

    #[test]
    fn what_is_given_back_one_after_the_other_keeps_the_order_in_which_it_came() {
        let desk = desk();
        let start = Instant::now();
        let line = |name: &str, ms| Line {
            proposal: Proposal::of_commands(named(name), |_| {}),
            since: start + Duration::from_millis(ms),
        };
        desk.take_back(vec![line("d", 4)]);
        desk.take_back(vec![line("a", 1), line("b", 2)]);
        desk.take_back(vec![line("c", 2)]);
        let names: Vec<String> = desk.empty().iter().map(|line| name(&line.proposal)).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
    }

    #[test]
    fn refusals_are_told_and_a_refused_barrier_is_noticed() {
        let desk = desk();
        let a = ask(&desk, "a");
        sent(&desk);
        let full = || ProposeError::DiskFull { why: "full".to_owned() };
        assert!(desk.refused(1, full()));
        assert!(matches!(a.recv().unwrap(), Err(ProposeError::DiskFull { .. })));
        assert!(desk.refused(1, full()), "nobody waits for it");
        ask(&desk, "b");
        sent(&desk);
        let barrier = desk.begin().unwrap();
        assert!(!desk.refused(barrier, full()));
    }

    #[test]
    fn what_waits_is_bounded() {
        let desk = desk();
        let long = "t".repeat(9_000);
        let fits = [ask(&desk, &long), ask(&desk, &long)];
        let busy = ask(&desk, &long).recv().unwrap();
        assert!(matches!(busy, Err(ProposeError::Busy { .. })), "{busy:?}");
        let large = ask(&desk, &"t".repeat(10_001)).recv().unwrap();
        assert!(matches!(large, Err(ProposeError::TooLarge { .. })), "{large:?}");
        assert!(fits.iter().all(|told| told.try_recv().is_err()));
        let many = Desk::new(7, Limits::default());
        let told: Vec<Told> = (0..=LINES_MAX).map(|_| ask(&many, "t")).collect();
        assert!(matches!(told[LINES_MAX].recv().unwrap(), Err(ProposeError::Busy { .. })));
        assert!(told[..LINES_MAX].iter().all(|told| told.try_recv().is_err()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told_what_is_known() {
        let desk = desk();
        let sweeper = desk.clone();
        let unled = || ProposeError::NotLeader { leader: Some("n2".to_owned()) };
        let swept = tokio::spawn(async move { sweeper.sweep(unled).await });
        let a = ask(&desk, "a");
        sent(&desk);
        let b = ask(&desk, "b");
        tokio::time::sleep(Limits::default().patience + 2 * SWEEP).await;
        assert!(matches!(a.recv().unwrap(), Err(ProposeError::NoQuorum { .. })));
        let Err(ProposeError::NotLeader { leader }) = b.recv().unwrap() else { panic!() };
        assert_eq!(leader.as_deref(), Some("n2"));
        assert!(!read_in_log(&desk, 1), "it was told that nobody knows");
        swept.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_ends_answers_all() {
        let desk = desk();
        let a = ask(&desk, "a");
        sent(&desk);
        let _held = desk.hold();
        let (b, closing) = (ask(&desk, "b"), desk.clone());
        let closed = tokio::spawn(async move { closing.close(Duration::from_secs(1)).await });
        desk.work().await;
        assert_eq!(sent(&desk), own(&[(2, "b")]), "there is still time");
        read_in_log(&desk, 2);
        closed.await.unwrap();
        assert!(b.recv().unwrap().is_ok());
        assert!(matches!(a.recv().unwrap(), Err(ProposeError::OutcomeUnknown)));
        assert!(matches!(ask(&desk, "c").recv().unwrap(), Err(ProposeError::Stopping)));
    }

    #[test]
    fn who_is_sent_away_was_not_sent_and_what_was_is_found_out() {
        let desk = desk();
        let a = ask(&desk, "a");
        sent(&desk);
        let b = ask(&desk, "b");
        desk.send_away(&ProposeError::OutOfTouch { since: Duration::from_secs(1) });
        assert!(matches!(b.recv().unwrap(), Err(ProposeError::OutOfTouch { .. })));
        assert!(a.try_recv().is_err() && desk.is_in_doubt());
        read_in_log(&desk, 1);
        assert!(a.recv().unwrap().is_ok());
    }

    #[test]
    fn of_what_a_snapshot_skipped_nobody_knows() {
        let desk = desk();
        let a = ask(&desk, "a");
        sent(&desk);
        let b = ask(&desk, "b");
        desk.begin();
        desk.skipped();
        assert!(matches!(a.recv().unwrap(), Err(ProposeError::OutcomeUnknown)));
        assert_eq!(sent(&desk), own(&[(3, "b")]));
        assert!(b.try_recv().is_err());
    }
}
