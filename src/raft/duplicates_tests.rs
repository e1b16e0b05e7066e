//! What producers send again: at the proposer, with a core that does what the test says, and in
//! groups over real sockets and files.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use openraft::errors::{ClientWriteError, Fatal, ForwardReason, ForwardToLeader};
use openraft::raft::responder::Responder as _;
use openraft::raft::{ClientWriteResponse, ClientWriteResult};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::command::{Command, Origin};
use super::duplicates::tests::{Log, keyed};
use super::filling::PassedOn;
use super::forward::Desk;
use super::forward_tests::{answer, follower};
use super::group_tests::{Cluster, bodies, propose, until};
use super::proposer::{Core, Limits, Proposer, run};
use super::type_config::{Answer, Applied, Batch, TypeConfig, log_id};
use super::{Place, Proposal, ProposeError, Receipt};
use crate::ids::{EntryIndex, PhysicalOffset, QueueOffset, StoredSend, Term};
use crate::protocol::message::Draft;
use crate::store::entry::EntryId;

type Call = (Arc<Batch>, Answer<ClientWriteResult<TypeConfig>>);

struct Told(mpsc::Sender<Call>);

impl Core for Told {
    async fn write(
        &self,
        batch: Arc<Batch>,
        answer: Answer<ClientWriteResult<TypeConfig>>,
    ) -> Result<(), Fatal<TypeConfig>> {
        batch.placed.notify_one();
        self.0.try_send((batch, answer)).map_err(|_| Fatal::Stopped)
    }
}

/// A proposer, and the log that its entries get into when the test says so.
struct Leader {
    proposer: Proposer,
    calls: mpsc::Receiver<Call>,
    log: Log,
    desk: Desk,
    running: JoinHandle<()>,
}

type Told1 = oneshot::Receiver<Result<Receipt, ProposeError>>;

fn proposal(draft: Draft) -> (Proposal, Told1) {
    let (tell, told) = oneshot::channel();
    let done = Box::new(|result| tell.send(result).unwrap());
    (Proposal { messages: smallvec::smallvec![draft], commands: vec![], done }, told)
}

impl Leader {
    fn new() -> Self {
        Self::patient(Duration::from_secs(3600))
    }

    fn patient(patience: Duration) -> Self {
        let limits = Limits { patience, ..Limits::default() };
        let (log, desk) = (Log::new(), Desk::new(1, limits));
        let (proposer, inbox) = Proposer::new(limits, desk.clone());
        let (core, calls) = mpsc::channel(8);
        let running = tokio::spawn(run(inbox, Told(core), log.duplicates.clone()));
        Self { proposer, calls, log, desk, running }
    }

    fn send(&self, draft: Draft) -> Told1 {
        let (proposal, told) = proposal(draft);
        self.proposer.propose(proposal);
        told
    }

    /// The same, passed on by a member to the leader of `term`.
    fn pass(&self, draft: Draft, number: u64, term: u64) -> Told1 {
        let (proposal, told) = proposal(draft);
        let (origin, term) = (Origin { life: 9, number }, Term(term));
        self.proposer.pass(proposal, PassedOn { origin, term, until: None });
        told
    }

    async fn entry(&mut self) -> Call {
        self.calls.recv().await.unwrap()
    }

    /// Nothing is proposed, however often everything else has its turn.
    async fn proposes_nothing(&mut self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(self.calls.try_recv().is_err());
    }

    /// Applies an entry that another member led, as if, and answers for it; the place of its first
    /// message.
    fn apply(&mut self, (batch, answer): Call) -> (u64, u64) {
        let at = self.log.store(&batch.messages);
        Self::answer((batch, answer), at)
    }

    /// The same of one that this member led.
    fn apply_own(&mut self, (batch, answer): Call) -> (u64, u64) {
        let at = self.log.store(&batch.messages);
        self.log.led();
        Self::answer((batch, answer), at)
    }

    fn answer((batch, answer): Call, (physical, queue_offset): (u64, u64)) -> (u64, u64) {
        let mut at = (physical, queue_offset);
        let place = |draft: &Draft| {
            let (physical, queue_offset) = at;
            at = (physical + draft.stored_bytes() as u64, queue_offset + 1);
            Place {
                physical: PhysicalOffset(physical),
                queue_id: draft.queue_id,
                queue_offset: QueueOffset(queue_offset),
            }
        };
        let places = batch.messages.iter().map(place).collect();
        let outcomes = batch.commands.iter().map(|_| super::command::Outcome::Done).collect();
        let data = Applied { store_timestamp: 5, places, outcomes };
        let log_id = log_id(EntryId { index: EntryIndex(1), term: Term(1) });
        answer.on_complete(Ok(ClientWriteResponse { log_id, data, membership: None }));
        (physical, queue_offset)
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn refused() -> ClientWriteResult<TypeConfig> {
    let reason = ForwardReason::NotLeader;
    Err(ClientWriteError::ForwardToLeader(ForwardToLeader {
        leader_id: None,
        leader_node: None,
        reason,
    }))
}

fn place(receipt: &Receipt) -> (u32, u64, u64) {
    let [place] = receipt.places[..] else { panic!("{receipt:?}") };
    (place.queue_id, place.physical.0, place.queue_offset.0)
}

#[tokio::test]
async fn what_is_stored_is_answered_with_the_first_place_and_proposed_no_more() {
    let mut leader = Leader::new();
    let first = leader.send(keyed(3, "a", "x"));
    let entry = leader.entry().await;
    assert_eq!(entry.0.term, Some(Term(1)), "of the last applied entry");
    let (at, offset) = leader.apply(entry);
    assert_eq!(place(&first.await.unwrap().unwrap()), (3, at, offset));
    let again = leader.send(keyed(5, "a", "x")).await.unwrap().unwrap();
    assert_eq!((place(&again), again.repeats), ((3, at, offset), true));
    leader.proposes_nothing().await;
    let other = leader.send(keyed(5, "a", "y"));
    let entry = leader.entry().await;
    leader.apply(entry);
    assert!(!other.await.unwrap().unwrap().repeats);
}

#[tokio::test]
async fn what_is_under_way_is_waited_for_and_answered_from_one_entry() {
    let mut leader = Leader::new();
    let first = leader.send(keyed(0, "a", "x"));
    let in_one = leader.send(keyed(1, "a", "x"));
    let entry = leader.entry().await;
    assert_eq!(entry.0.messages.len(), 1);
    let mut later = leader.send(keyed(2, "a", "x"));
    leader.proposes_nothing().await;
    assert!(later.try_recv().is_err(), "nobody knows yet");
    let (at, offset) = leader.apply(entry);
    for told in [first, in_one, later] {
        assert_eq!(place(&told.await.unwrap().unwrap()), (0, at, offset));
    }
    leader.proposes_nothing().await;
}

#[tokio::test]
async fn a_retry_that_waits_for_what_cannot_be_answered_gets_its_place() {
    let mut leader = Leader::new();
    // The connection of its client has ended by the time it is stored.
    let duplicates = leader.log.duplicates.clone();
    let (mut gone, told) = proposal(keyed(3, "a", "x"));
    let done = gone.done;
    gone.done = Box::new(move |result| {
        let first = result.as_ref().unwrap().places[0].physical;
        duplicates.unanswered([StoredSend { first, messages: 1 }].into_iter());
        done(result);
    });
    leader.proposer.propose(gone);
    let answered = leader.send(keyed(3, "b", "x"));
    let entry = leader.entry().await;
    let mut retries = [leader.send(keyed(1, "a", "x")), leader.pass(keyed(1, "a", "x"), 1, 1)];
    let wish = leader.send(keyed(1, "b", "x"));
    leader.proposes_nothing().await;
    assert!(retries[0].try_recv().is_err(), "nobody knows yet");
    let (at, offset) = leader.apply_own(entry);
    assert!(!told.await.unwrap().unwrap().repeats && answered.await.unwrap().is_ok());
    let [retry, passed] = retries;
    let retry = retry.await.unwrap().unwrap();
    assert_eq!((place(&retry), retry.repeats), ((3, at, offset), true));
    // One entry for what was answered, and names what was passed on.
    let entry = leader.entry().await;
    assert_eq!(entry.0.messages.len(), 1);
    let [Command::Passed(named)] = &entry.0.commands[..] else { panic!("{:?}", entry.0.commands) };
    assert_eq!(named[0].first_try.as_ref().unwrap().positions, [at]);
    leader.apply_own(entry);
    assert!(!wish.await.unwrap().unwrap().repeats && passed.await.unwrap().is_ok());
    leader.proposes_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_what_nobody_knew_and_was_stored_gets_its_place() {
    let mut leader = Leader::patient(Duration::from_secs(3));
    for (key, beside) in [("a", false), ("b", true)] {
        let first = leader.send(keyed(0, key, "x"));
        let young = beside.then(|| {
            let (proposal, told) = proposal(keyed(0, "y", "x"));
            let since = Instant::now() + Duration::from_secs(60);
            leader.proposer.propose_since(proposal, since);
            told
        });
        let entry = leader.entry().await;
        assert_eq!(entry.0.messages.len(), 1 + usize::from(beside));
        let first = first.await.unwrap();
        assert!(matches!(first, Err(ProposeError::NoQuorum { .. })), "{first:?}");
        let retry = leader.send(keyed(1, key, "x"));
        leader.proposes_nothing().await;
        let (at, offset) = leader.apply_own(entry);
        let retry = retry.await.unwrap().unwrap();
        assert_eq!((place(&retry), retry.repeats), ((0, at, offset), true));
        if let Some(young) = young {
            assert!(!young.await.unwrap().unwrap().repeats);
            let wish = leader.send(keyed(0, "y", "x"));
            let entry = leader.entry().await;
            leader.apply_own(entry);
            assert!(!wish.await.unwrap().unwrap().repeats, "who was answered beside it");
        }
    }
}

#[tokio::test]
async fn a_try_whose_first_one_was_not_stored_is_proposed() {
    let mut leader = Leader::new();
    let _first = leader.send(keyed(0, "a", "x"));
    let (_, refusal) = leader.entry().await;
    let again = leader.send(keyed(1, "a", "x"));
    leader.proposes_nothing().await;
    refusal.on_complete(refused());
    let entry = leader.entry().await;
    assert_eq!(entry.0.messages[0].queue_id, 1);
    leader.apply(entry);
    assert_eq!(place(&again.await.unwrap().unwrap()).0, 1);
    assert_eq!(leader.desk.empty().len(), 1, "the first one waits for a leader");
}

#[tokio::test]
async fn a_try_that_was_passed_on_is_named_by_an_entry_with_the_first_place() {
    let mut leader = Leader::new();
    let first = leader.pass(keyed(0, "a", "x"), 1, 1);
    let entry = leader.entry().await;
    let mut under_way = leader.pass(keyed(1, "a", "x"), 2, 1);
    leader.proposes_nothing().await;
    let (at, offset) = leader.apply(entry);
    let stored = leader.pass(keyed(2, "a", "x"), 3, 1);
    let (batch, answer) = leader.entry().await;
    assert!(batch.messages.is_empty() && under_way.try_recv().is_err());
    let [Command::Passed(passed)] = &batch.commands[..] else { panic!("{:?}", batch.commands) };
    let mut numbers: Vec<u64> = passed.iter().map(|passed| passed.origin.number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3]);
    for passed in passed {
        assert_eq!((passed.messages, passed.commands), (0, 0));
        let first = passed.first_try.as_ref().unwrap();
        assert_eq!(
            (first.queue_id, first.queue_offset, &first.positions[..]),
            (0, offset, &[at][..])
        );
    }
    leader.apply((batch, answer));
    for told in [first, under_way, stored] {
        assert!(told.await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn what_was_passed_on_is_never_appended_behind_what_came_later() {
    let mut leader = Leader::new();
    let _first = leader.send(keyed(0, "a", "x"));
    let (_, refusal) = leader.entry().await;
    let waited = leader.pass(keyed(1, "a", "x"), 1, 1);
    leader.proposes_nothing().await;
    refusal.on_complete(refused());
    let waited = waited.await.unwrap();
    assert!(matches!(waited, Err(ProposeError::NotLeader { .. })), "its member sends it again");
    let stale = leader.pass(keyed(1, "b", "x"), 2, 0).await.unwrap();
    assert!(matches!(stale, Err(ProposeError::NotLeader { .. })), "meant for a former leader");
    leader.proposes_nothing().await;
}

#[tokio::test]
async fn who_waits_for_a_first_try_is_told_at_the_end_that_nobody_knows() {
    let mut leader = Leader::new();
    let first = leader.send(keyed(0, "a", "x"));
    let _entry = leader.entry().await;
    let again = leader.send(keyed(0, "a", "x"));
    leader.proposes_nothing().await;
    leader.proposer.give_up().await;
    for told in [first, again] {
        assert!(matches!(told.await.unwrap(), Err(ProposeError::OutcomeUnknown)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_leader_to_be_told_is_bounded() {
    let desk = Desk::new(1, Limits::default());
    let send = |first| StoredSend { first: PhysicalOffset(first), messages: 1 };
    (0..10).for_each(|n| desk.unanswered((1000 * n..1000 * (n + 1)).map(send)));
    desk.work().await;
    let waiting = desk.take_unanswered();
    let last = waiting.back().map(|(_, send)| *send);
    assert!(waiting.len() < 5000 && last == Some(send(9999)), "the last ones");
    assert!(desk.work().now_or_never().is_none());
    desk.unanswered([send(2)]);
    desk.tell_again([(Instant::now(), send(1))].into());
    let again: Vec<_> = desk.take_unanswered().into_iter().map(|(_, send)| send).collect();
    assert_eq!(again, [send(1), send(2)]);
    desk.unanswered([send(1)]);
    tokio::time::advance(Duration::from_secs(10)).await;
    assert!(desk.work().now_or_never().is_none(), "a leader that takes nothing is not called");
    assert!(desk.take_unanswered().is_empty());
}

#[test]
fn what_a_leader_out_of_touch_kept_to_tell_a_leader_is_known_once_it_leads_on() {
    let cluster = Cluster::patient(3);
    let (_, group) = cluster.leader();
    let message = || vec![keyed(0, "a", "x")];
    let first = answer(&propose(&group, message(), vec![]));
    let send = StoredSend { first: first.places[0].physical, messages: 1 };
    group.0.desk.unanswered([send]);
    until("noted", || group.0.duplicates.look().first_try(&message()));
    assert!(answer(&propose(&group, message(), vec![])).repeats);
}

#[test]
fn a_try_after_the_death_of_the_leader_gets_what_that_one_stored() {
    let mut cluster = Cluster::patient(3);
    let (at, group) = cluster.leader();
    let first = answer(&propose(&group, vec![keyed(0, "a", "x")], vec![]));
    let batch = || ["b", "c"].map(|key| keyed(2, key, "y")).to_vec();
    let of_batch = answer(&propose(&group, batch(), vec![]));
    group.0.proposer.close(); // or the leader hands over when it stops
    drop(group);
    cluster.stop(at);
    let (_, next) = cluster.leader();
    let follower = follower(&cluster);
    for member in [&follower, &next] {
        let again = answer(&propose(member, vec![keyed(1, "a", "x")], vec![]));
        assert!(again.repeats);
        assert_eq!(
            (again.places, again.store_timestamp),
            (first.places.clone(), first.store_timestamp)
        );
        let again = answer(&propose(member, batch(), vec![]));
        assert_eq!(again.places, of_batch.places);
        let other = answer(&propose(member, vec![keyed(1, "a", "y")], vec![]));
        assert_eq!((other.repeats, other.places[0].queue_id), (false, 1));
    }
    assert_eq!(bodies(&next, "T", 0), ["x"]);
    assert_eq!(bodies(&next, "T", 1), ["y", "y"], "another message with the same key, each time");
    assert_eq!(bodies(&next, "T", 2), ["y", "y"]);
}

#[test]
fn who_was_answered_and_sends_the_same_message_again_has_it_stored_again() {
    let cluster = Cluster::patient(1);
    let (_, group) = cluster.leader();
    for queue_offset in 0..3 {
        let told = answer(&propose(&group, vec![keyed(0, "a", "x")], vec![]));
        assert_eq!((told.places[0].queue_offset.0, told.repeats), (queue_offset, false));
    }
}

#[test]
fn a_try_after_the_end_of_who_passed_the_first_one_on_gets_what_the_same_leader_stored() {
    let mut cluster = Cluster::patient(3);
    let (at, leader) = cluster.leader();
    let (passer, group) = cluster.running().find(|(i, _)| *i != at).unwrap();
    let (passer, group) = (passer, group.clone());
    let first = answer(&propose(&group, vec![keyed(0, "a", "x")], vec![]));
    until("applied", || leader.queues().unit("T", 0, QueueOffset(0)).ok().flatten());
    let wish = answer(&propose(&leader, vec![keyed(0, "a", "x")], vec![]));
    assert_eq!((wish.repeats, wish.places[0].queue_offset.0), (false, 1), "it was answered");
    drop(group);
    cluster.stop(passer);
    let again = answer(&propose(&leader, vec![keyed(1, "a", "x")], vec![]));
    assert!(again.repeats);
    assert_eq!(again.places, first.places);
    assert_eq!(bodies(&leader, "T", 0), ["x", "x"]);
}

#[test]
fn a_try_after_an_answer_that_a_follower_lost_gets_what_the_same_leader_stored() {
    let cluster = Cluster::patient(3);
    let (_, leader) = cluster.leader();
    let follower = follower(&cluster);
    let of = |keys: [&str; 2]| keys.map(|key| keyed(0, key, "x")).to_vec();
    let first = answer(&propose(&follower, of(["a", "b"]), vec![]));
    let other = answer(&propose(&follower, of(["c", "d"]), vec![]));
    let send = StoredSend { first: first.places[0].physical, messages: 2 };
    follower.unanswered([send].into());
    // What comes to the leader over the same stream comes behind that.
    let again = answer(&propose(&follower, of(["a", "b"]), vec![]));
    assert_eq!((again.repeats, again.places), (true, first.places.clone()));
    let again = answer(&propose(&leader, of(["a", "b"]), vec![]));
    assert_eq!((again.repeats, again.places), (true, first.places));
    let wish = answer(&propose(&follower, of(["c", "d"]), vec![]));
    assert!(!wish.repeats && wish.places != other.places, "that one was answered");
    let direct = answer(&propose(&leader, of(["e", "f"]), vec![]));
    let send = StoredSend { first: direct.places[0].physical, messages: 2 };
    leader.unanswered([send].into());
    let again = answer(&propose(&follower, of(["e", "f"]), vec![]));
    assert_eq!((again.repeats, again.places), (true, direct.places));
    assert_eq!(bodies(&leader, "T", 0).len(), 8);
}
