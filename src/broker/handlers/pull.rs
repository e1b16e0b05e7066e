//! PULL_MESSAGE (11), LITE_PULL_MESSAGE (361), and the completion of held ones.
//!
//! ```text
//!  check ─► commit the offset it carries ─► find ─► records, or why not
//!                (leader only)               ▲ │ nothing new and it may wait
//!                                            │ ▼
//!       queue grew or changed, group reset ──┴─ hold ── deadline ─► answered
//! ```
//!
//! What is far behind the end of the log has probably left memory: such a pull is handed to
//! [`Readers`](crate::broker::readers::Readers), so that no connection waits for the disk.
//!
//! A message that the disk has changed is not served: it is repaired from another member, and the
//! pull goes on then, or is told why not.
//!
//! Any member serves the committed prefix that it has, and each answer says who is to be asked next
//! ([`crate::broker::steering`]). A consumer is sent back, or told of a reset, only by who has
//! proven, through the log, to know all that anybody was told before the pull came: what lies
//! beyond the end of a follower, or of a leader that was replaced a moment ago, may have been read
//! elsewhere. What is gone on a follower may still be on the leader: the consumer asks there.

mod check;
mod find;
mod verdict;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::ids::{BrokerId, PhysicalOffset, QueueOffset};
use crate::net::{Handled, ReplyTo};
use crate::protocol::codes::ResponseCode;
use crate::protocol::command::RemotingCommand;
use crate::raft::Proposal;
use crate::raft::command::{Command, OffsetCommit};

use crate::broker::Broker;
use crate::broker::error::RequestError;
use crate::broker::handlers::Reading;
use crate::broker::handlers::offset::{checked_offset, is_late};
use crate::broker::hold::{Full, Hold};
use crate::broker::steering::{Here, Reader as Consumer};
use crate::broker::subscription::TagFilter;
use crate::broker::wakeup::{Wakeups, Why};

use check::{Checked, check};
use find::{Found, Reader, find, head, may_need_disk};
use verdict::Proof;

/// A pull that waits no longer is held also where its consumer is to go elsewhere: it hears of that
/// soon enough. Stock consumers wait for 15 s and more.
const HELD_ANYWAY: Duration = Duration::from_secs(5);

/// A checked pull.
#[derive(Debug)]
struct Pull {
    topic: Arc<str>,
    group: Arc<str>,
    queue_id: u32,
    /// Next offset wanted; moves on while what comes does not match the filter.
    offset: i64,
    messages_max: u32,
    filter: TagFilter,
    /// Until when it may be held.
    deadline: Option<Instant>,
    /// Broker id that the group reads from when it is far behind.
    when_behind: u64,
    group_sys_flag: i32,
    /// Where it met damage that was repaired for it.
    repaired: Option<PhysicalOffset>,
    /// It is of a push consumer, which asks again whatever it is told. Applications that pull
    /// themselves (with a subscription in each request) are not told early that there is nothing.
    by_push: bool,
    /// It has been held: what does not match its filter is no reason to answer.
    was_held: bool,
    /// Whether this member knows all that was told before the pull came, or was held last.
    proof: Proof,
}

/// A pull and the consumer that waits for its answer.
#[derive(Debug)]
pub struct WaitingPull {
    pull: Pull,
    reply: ReplyTo,
}

/// Handles a pull.
#[expect(clippy::needless_pass_by_value, reason = "the signature of handlers that answer later")]
pub(in crate::broker) fn pull(
    broker: &Arc<Broker>,
    reply: ReplyTo,
    command: RemotingCommand,
) -> Handled {
    match check(broker, &reply, &command) {
        Ok(Checked { missing: None, pull, commit }) => {
            start(broker, WaitingPull { pull, reply }, commit);
            Handled::Done
        }
        Ok(Checked { missing: Some(create), pull, commit }) => {
            let broker = Arc::clone(broker);
            Handled::Wait(Box::pin(async move {
                // Reading needs no group; whether it could be created shows with the next commit.
                if let Err(error) = broker.change(vec![create]).await {
                    tracing::debug!(group = &*pull.group, %error, "cannot create a group");
                }
                start(&broker, WaitingPull { pull, reply }, commit);
            }))
        }
        Err(error) => {
            tracing::debug!(peer = %reply.connection().peer(), %error, "pull refused");
            let leader = check::ask_leader(broker, reply.connection().id(), &command, &error);
            reply.answer(leader.unwrap_or_else(|| error.answer()));
            Handled::Done
        }
    }
}

/// Goes on with a pull that was held. Answers it, or holds it again if nothing came for it.
pub(in crate::broker) fn resume(broker: &Broker, waiting: WaitingPull, why: Why) {
    let WaitingPull { pull, reply } = waiting;
    let deadline = match why {
        Why::Ready => pull.deadline,
        Why::Expired => None,
    };
    serve(broker, WaitingPull { pull: Pull { deadline, ..pull }, reply });
}

/// Stores the offset that the pull carries, then serves it: a consumer that has its answer finds
/// the offset when it asks.
fn start(broker: &Arc<Broker>, waiting: WaitingPull, commit: Option<OffsetCommit>) {
    let tables = broker.tables();
    let is_within = |c: &OffsetCommit| {
        let queue = (c.group.as_str(), c.topic.as_str(), c.queue_id);
        let consumer = waiting.reply.connection();
        checked_offset(broker, consumer, queue, as_i64(QueueOffset(c.offset))).is_ok()
            && !is_late(broker, &tables, consumer, (queue, c.offset))
    };
    let is_wanted = |c: &OffsetCommit| broker.offset_commits.is_new(&tables, c) && is_within(c);
    let Some(commit) = commit.filter(is_wanted) else {
        return serve(broker, waiting);
    };
    let wakeups = Arc::clone(&broker.wakeups);
    let commit = (commit, tokio::time::Instant::now());
    broker.offset_commits.commit(&broker.group, commit, move |result| {
        if let Err(error) = result {
            tracing::debug!(%error, "the offset that a pull carried was not stored");
        }
        go_on(&wakeups, waiting); // reading is not for the raft thread
    });
}

/// Has the task of held pulls go on with one, or refuses it: its consumer asks again.
fn go_on(wakeups: &Wakeups<WaitingPull>, waiting: WaitingPull) {
    let bytes = waiting.pull.filter.bytes();
    if let Err(WaitingPull { reply, .. }) = wakeups.ready(waiting, bytes) {
        reply.answer(RequestError::PullsDueFull.answer());
    }
}

/// Goes on with a pull that may wait for the disk, on a thread that may.
pub(in crate::broker) fn read(broker: &Broker, waiting: WaitingPull) {
    serve_by(broker, waiting, Reader::Patient);
}

/// Answers a pull, or holds it, or lets somebody else read for it.
fn serve(broker: &Broker, waiting: WaitingPull) {
    if may_need_disk(broker, &waiting.pull) {
        return hand_to_readers(broker, waiting);
    }
    serve_by(broker, waiting, Reader::Connection);
}

fn hand_to_readers(broker: &Broker, waiting: WaitingPull) {
    if let Err(Reading::Pull(WaitingPull { reply, .. })) =
        broker.readers.take(Reading::Pull(waiting))
    {
        reply.answer(RequestError::ReadersBusy.answer());
    }
}

fn serve_by(broker: &Broker, waiting: WaitingPull, reader: Reader) {
    let WaitingPull { pull, reply } = waiting;
    let reset = broker.tables().reset(&pull.group, &pull.topic, pull.queue_id);
    if let Some(offset) = reset {
        match pull.proof {
            // It may have been told long ago, by another member.
            Proof::NotAsked => return prove(broker, WaitingPull { pull, reply }),
            Proof::Given => return tell_reset(broker, &pull, reply, offset),
            Proof::Failed => {} // it can be told to nobody at present
        }
    }
    match find(broker, &pull, &reply, reader) {
        Ok(Found::Answer(answer)) => reply.answer(answer),
        Ok(Found::Old) => hand_to_readers(broker, WaitingPull { pull, reply }),
        Ok(Found::NeedsProof) => prove(broker, WaitingPull { pull, reply }),
        Ok(Found::Later { wants, nothing }) => match pull.deadline {
            Some(deadline) if !pull.is_sent_away(broker, &reply) => {
                hold(broker, WaitingPull { pull, reply }, wants, deadline);
            }
            Some(_) | None => {
                broker.stats.pulled_nothing();
                let nothing = nothing.answer(broker, &pull, &reply);
                reply.answer(nothing);
            }
        },
        Err(RequestError::MessageDamaged { position, .. }) if pull.repaired != Some(position) => {
            repair(broker, WaitingPull { pull, reply }, position);
        }
        Err(error) => reply.answer(error.answer()),
    }
}

/// Goes on with a pull when this member knows all that was told before, or cannot find out.
fn prove(broker: &Broker, waiting: WaitingPull) {
    let wakeups = Arc::clone(&broker.wakeups);
    broker.group.confirm(move |result| {
        let proof = match result {
            Ok(()) => Proof::Given,
            Err(error) => {
                tracing::debug!(%error, "a consumer is not sent back");
                Proof::Failed
            }
        };
        let WaitingPull { pull, reply } = waiting;
        go_on(&wakeups, WaitingPull { pull: Pull { proof, ..pull }, reply });
    });
}

/// Goes on with a pull when what it met is whole again.
fn repair(broker: &Broker, waiting: WaitingPull, position: PhysicalOffset) {
    let (wakeups, member) = (Arc::clone(&broker.wakeups), broker.identity.member.clone());
    let WaitingPull { pull, reply } = waiting;
    let repaired = move |repaired| match repaired {
        Ok(()) => {
            let pull = Pull { repaired: Some(position), ..pull };
            go_on(&wakeups, WaitingPull { pull, reply });
        }
        Err(why) => {
            reply.answer(RequestError::MessageDamaged { position, member, why }.answer());
        }
    };
    broker.group.repair(position, Box::new(repaired));
}

/// Tells the consumer where it goes on, once it is noted that it was told.
fn tell_reset(broker: &Broker, pull: &Pull, reply: ReplyTo, offset: u64) {
    let bounds = broker.group.queues().bounds(&pull.topic, pull.queue_id).unwrap_or_default();
    let topic_sys_flag = broker.tables().topic(&pull.topic).map_or(0, |topic| topic.sys_flag);
    let mut head = head(pull, topic_sys_flag, bounds);
    head.suggest_which_broker_id = pull.suggested(broker, &reply, Here::Something).0;
    head.next_begin_offset = i64::try_from(offset).unwrap_or(i64::MAX);
    pull.note_next(broker, head.next_begin_offset);
    let taken = OffsetCommit {
        group: pull.group.to_string(),
        topic: pull.topic.to_string(),
        queue_id: pull.queue_id,
        offset,
    };
    let told = move |result| match result {
        Ok(_) => reply.answer(head.answer(ResponseCode::PULL_OFFSET_MOVED, "OFFSET_RESET")),
        Err(error) => reply.answer(RequestError::from(error).answer()),
    };
    broker.group.propose(Proposal::of_commands(vec![Command::TakeReset(taken)], told));
}

/// Keeps a pull until there may be something for it beyond the offset `wants`.
fn hold(broker: &Broker, waiting: WaitingPull, wants: QueueOffset, deadline: Instant) {
    let WaitingPull { pull, reply } = waiting;
    let (topic, group, queue_id) =
        (Arc::clone(&pull.topic), Arc::clone(&pull.group), pull.queue_id);
    let may_be_told = pull.proof != Proof::Failed; // or it would be due again and again
    let hold = Hold {
        topic: Arc::clone(&topic),
        queue_id,
        wants,
        deadline,
        owner: reply.connection_id().0,
        bytes: pull.filter.bytes(),
        payload: WaitingPull {
            pull: Pull { offset: as_i64(wants), was_held: true, proof: Proof::NotAsked, ..pull },
            reply,
        },
    };
    let is_due = || {
        let tables = broker.tables();
        let gone = tables.topic(&topic).is_none_or(|topic| queue_id >= topic.read_queues);
        let is_reset = || may_be_told && tables.reset(&group, &topic, queue_id).is_some();
        gone || is_reset() || broker.group.queues().next(&topic, queue_id) > wants
    };
    if let Err(Full { hold, held }) = broker.wakeups.hold(hold, is_due) {
        hold.payload.reply.answer(RequestError::HeldFull { held }.answer());
    }
}

impl Pull {
    /// Who is to be asked next.
    fn suggested(&self, broker: &Broker, consumer: &ReplyTo, here: Here) -> BrokerId {
        broker.steering.suggest(self.consumer(consumer), here, clock::now())
    }

    /// Whether it is answered although it may wait for long: its consumer is to ask another member.
    fn is_sent_away(&self, broker: &Broker, consumer: &ReplyTo) -> bool {
        let now = clock::now();
        let left = self.deadline.map(|at| at.saturating_duration_since(now));
        self.by_push
            && left.is_some_and(|left| left > HELD_ANYWAY)
            && broker.steering.sends_away(self.consumer(consumer), now)
    }

    fn consumer(&self, consumer: &ReplyTo) -> Consumer<'_> {
        Consumer {
            connection: consumer.connection_id().0,
            group: &self.group,
            topic: &self.topic,
            queue_id: self.queue_id,
        }
    }

    /// Notes where the group goes on in this queue. Groups that are not there, which a follower
    /// serves too, leave nothing.
    fn note_next(&self, broker: &Broker, next: i64) {
        if broker.tables().group(&self.group).is_some() {
            broker.pull_offsets.note(&self.topic, &self.group, self.queue_id, next);
        }
    }
}

/// Offsets on the wire are signed.
fn as_i64(offset: QueueOffset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}
