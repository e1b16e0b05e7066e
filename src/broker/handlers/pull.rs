//! PULL_MESSAGE (11), LITE_PULL_MESSAGE (361), and the completion of held ones.
//!
//! ```text
//!  parse ─► checks ─► commit the offset it carries ─► read ─► records, or why not
//!                        (leader only)     ▲           │ nothing new and it may wait
//!                                          │           ▼
//!             queue grew or changed, ──────┴───── wakeup ── deadline ─► answered
//!             group was reset
//! ```
//!
//! A follower serves the committed prefix that it has. It never corrects a consumer's offset: what
//! lies beyond its end may be there on the leader, and a correction would make the consumer read
//! again, or skip.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::clock;
use crate::ids::QueueOffset;
use crate::net::{self, Handled, ReplyTo};
use crate::protocol::bodies::{MessageModel, SubscriptionData};
use crate::protocol::codes::{RequestCode, ResponseCode};
use crate::protocol::command::RemotingCommand;
use crate::protocol::headers::pull::{PullAnswer, PullRequest};
use crate::protocol::{names, perm};
use crate::raft::Proposal;
use crate::raft::command::{Command, Group, OffsetCommit, Topic};
use crate::raft::tables::Tables;
use crate::store::queues::{Bounds, Unit};
use crate::store::read::{self, Filter, Limits, Outcome, Wanted};

use crate::broker::error::RequestError;
use crate::broker::hold::{Full, Hold};
use crate::broker::settings::Current;
use crate::broker::subscription::{self, TagFilter};
use crate::broker::wakeup::Why;
use crate::broker::{Broker, groups};

/// Longest time that a pull may ask to wait.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// Broker id of whoever leads.
const LEADER_ID: u64 = 0;

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
    /// It has been held: what does not match its filter is no reason to answer.
    was_held: bool,
}

/// A pull that waits for a message, or for its turn.
#[derive(Debug)]
pub struct HeldPull {
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
            start(broker, HeldPull { pull, reply }, commit);
            Handled::Done
        }
        Ok(Checked { missing: Some(create), pull, commit }) => {
            let broker = Arc::clone(broker);
            Handled::Wait(Box::pin(async move {
                // Reading needs no group; whether it could be created shows with the next commit.
                if let Err(error) = broker.change(vec![create]).await {
                    tracing::debug!(group = &*pull.group, %error, "cannot create a group");
                }
                start(&broker, HeldPull { pull, reply }, commit);
            }))
        }
        Err(error) => {
            tracing::debug!(peer = %reply.connection().peer(), %error, "pull refused");
            reply.answer(error.answer());
            Handled::Done
        }
    }
}

/// Goes on with a pull that was held. Answers it, or holds it again if nothing came for it.
pub(in crate::broker) fn resume(broker: &Broker, held: HeldPull, why: Why) {
    match why {
        Why::Ready => serve(broker, held),
        Why::Expired => {
            let pull = Pull { deadline: None, ..held.pull };
            serve(broker, HeldPull { pull, reply: held.reply });
        }
    }
}

/// What checking comes to.
struct Checked {
    pull: Pull,
    /// The offset to store before the pull is answered.
    commit: Option<OffsetCommit>,
    /// The group, which has to be created first.
    missing: Option<Command>,
}

fn check(
    broker: &Broker,
    reply: &ReplyTo,
    command: &RemotingCommand,
) -> Result<Checked, RequestError> {
    let request = PullRequest::parse(command)?;
    let tables = broker.tables();
    let settings = broker.settings.current(&tables);
    check_broker(broker, &settings, command)?;
    let (group, missing) = group_of(broker, &tables, &settings, request.consumer_group)?;
    if !group.consume_enable {
        let why = format!("subscription group no permission, {}", request.consumer_group);
        return Err(RequestError::PullForbidden { kind: 2, why });
    }
    let queue_id = i64::from(request.queue_id);
    let topic = topic_of(&tables, request.topic, queue_id, reply.connection().peer())?;
    let messages_max = u32::try_from(request.max_msg_nums).unwrap_or(0);
    if messages_max == 0 {
        let text =
            format!("maxMsgNums [{}] is illegal, it must be at least 1", request.max_msg_nums);
        return Err(RequestError::Parameter(text));
    }
    let filter = filter_of(broker, &request, &group)?;
    let commit = commit_of(&request)?.filter(|_| broker.is_leader());
    let name = |name: &str| tables.topic_name(name).unwrap_or_else(|| name.into());
    Ok(Checked {
        pull: Pull {
            topic: name(&topic.name),
            group: request.consumer_group.into(),
            queue_id: request.queue_id.unsigned_abs(), // checked to be one of the topic's
            offset: request.queue_offset,
            messages_max,
            filter,
            deadline: deadline(&request, &settings, clock::now()),
            when_behind: group.which_broker_when_consume_slowly,
            group_sys_flag: group.sys_flag,
            was_held: false,
        },
        commit,
        missing,
    })
}

fn check_broker(
    broker: &Broker,
    settings: &Current,
    command: &RemotingCommand,
) -> Result<(), RequestError> {
    let policy = &settings.config.policy;
    if !perm::readable(policy.permission) {
        let why = format!("the broker[{}] pulling message is forbidden", broker.identity.address);
        return Err(RequestError::PullForbidden { kind: 1, why });
    }
    if command.request_code() == RequestCode::LITE_PULL_MESSAGE && !policy.pull.lite_pull {
        let address = &broker.identity.address;
        let why = format!("the broker[{address}] for lite pull consumer is forbidden");
        return Err(RequestError::PullForbidden { kind: 1, why });
    }
    Ok(())
}

/// The group, and the command that creates it if there is none and this member leads. A follower
/// may not know it yet: it goes by the defaults then.
fn group_of(
    broker: &Broker,
    tables: &Tables,
    settings: &Current,
    name: &str,
) -> Result<(Group, Option<Command>), RequestError> {
    if let Some(group) = tables.group(name) {
        return Ok(((**group).clone(), None));
    }
    let may_be_created = settings.config.policy.auto_create_group || names::is_system_group(name);
    if !may_be_created || names::validate_group(name).is_err() {
        return Err(RequestError::GroupToPullUnknown { group: name.to_owned() });
    }
    let group = groups::with_defaults(name);
    let create = broker.is_leader().then(|| Command::EnsureGroup(group.clone()));
    Ok((group, create))
}

fn topic_of<'a>(
    tables: &'a Tables,
    name: &str,
    queue_id: i64,
    consumer: SocketAddr,
) -> Result<&'a Topic, RequestError> {
    let unknown = || RequestError::TopicToPullUnknown { topic: name.to_owned() };
    let topic = tables.topic(name).ok_or_else(unknown)?;
    if !perm::readable(topic.perm) {
        let why = format!("the topic[{}] pulling message is forbidden", topic.name);
        return Err(RequestError::PullForbidden { kind: 3, why });
    }
    if !(0..i64::from(topic.read_queues)).contains(&queue_id) {
        return Err(RequestError::Parameter(format!(
            "queueId[{queue_id}] is illegal, topic:[{}] topicConfig.readQueueNums:[{}] \
             consumer:[/{consumer}]",
            topic.name, topic.read_queues,
        )));
    }
    Ok(topic)
}

/// What the consumer wants: as the request says, or as its heartbeat said.
fn filter_of(
    broker: &Broker,
    request: &PullRequest<'_>,
    group: &Group,
) -> Result<TagFilter, RequestError> {
    if request.has_subscription() {
        let kind = request.expression_type.unwrap_or(SubscriptionData::TAG);
        if kind != SubscriptionData::TAG {
            return Err(RequestError::FilterUnsupported { kind: kind.to_owned() });
        }
        return Ok(subscription::parse(request.subscription)?.1);
    }
    let consumers = broker.consumers.read();
    let wants = consumers.wants(request.consumer_group).ok_or(RequestError::GroupNotConnected)?;
    if wants.style.message_model == MessageModel::Broadcasting && !group.consume_broadcast_enable {
        let why = format!(
            "the consumer group[{}] can not consume by broadcast way",
            request.consumer_group
        );
        return Err(RequestError::PullForbidden { kind: 4, why });
    }
    let subscription = wants.topics.get(request.topic).ok_or(RequestError::NotSubscribed)?;
    if subscription.version < request.sub_version {
        return Err(RequestError::SubscriptionOld);
    }
    if subscription.kind != SubscriptionData::TAG {
        return Err(RequestError::FilterUnsupported { kind: subscription.kind.clone() });
    }
    Ok(subscription.filter.clone())
}

fn commit_of(request: &PullRequest<'_>) -> Result<Option<OffsetCommit>, RequestError> {
    if !request.commits() {
        return Ok(None);
    }
    let offset = u64::try_from(request.commit_offset).map_err(|_| {
        RequestError::Parameter(format!("commitOffset [{}] is illegal", request.commit_offset))
    })?;
    Ok(Some(OffsetCommit {
        group: request.consumer_group.to_owned(),
        topic: request.topic.to_owned(),
        queue_id: request.queue_id.unsigned_abs(),
        offset,
    }))
}

fn deadline(request: &PullRequest<'_>, settings: &Current, now: Instant) -> Option<Instant> {
    let policy = &settings.config.policy.pull;
    let asked = u64::try_from(request.suspend_timeout_millis).unwrap_or(0);
    let wait =
        if policy.long_polling { Duration::from_millis(asked) } else { policy.short_polling };
    (request.may_wait() && !wait.is_zero()).then(|| now + wait.min(WAIT_MAX))
}

/// Stores the offset that the pull carries, then serves it: a consumer that has its answer finds
/// the offset when it asks.
fn start(broker: &Arc<Broker>, held: HeldPull, commit: Option<OffsetCommit>) {
    let tables = broker.tables();
    let Some(commit) = commit.filter(|c| broker.offset_commits.is_new(&tables, c)) else {
        return serve(broker, held);
    };
    let wakeups = Arc::clone(&broker.wakeups);
    broker.offset_commits.commit(&broker.group, &tables, commit, move |result| {
        if let Err(error) = result {
            tracing::debug!(%error, "the offset that a pull carried was not stored");
        }
        wakeups.ready(held); // reading is not for the raft thread
    });
}

/// What reading comes to.
enum Found {
    /// Send this.
    Answer(net::Answer),
    /// Nothing yet; look again when the queue has grown beyond this offset. If the pull may not
    /// wait, send this.
    Later(QueueOffset, RemotingCommand),
}

/// The offset to which an operator reset the group in this queue, until the group was told.
fn reset_of(broker: &Broker, pull: &Pull) -> Option<u64> {
    broker.tables().reset(&pull.group, &pull.topic, pull.queue_id)
}

/// Tells the consumer where it goes on, once it is noted that it was told. Only the leader can note
/// that: a follower sends the consumer there.
fn tell_reset(broker: &Broker, held: HeldPull, offset: u64) {
    let HeldPull { pull, reply } = held;
    let bounds = broker.group.queues().bounds(&pull.topic, pull.queue_id).unwrap_or_default();
    let topic = broker.tables().topic(&pull.topic).map_or(0, |topic| topic.sys_flag);
    let mut head = head(&pull, topic, bounds);
    if !broker.is_leader() {
        let code = ResponseCode::PULL_RETRY_IMMEDIATELY;
        return reply.answer(head.answer(code, "OFFSET_RESET"));
    }
    head.next_begin_offset = i64::try_from(offset).unwrap_or(i64::MAX);
    note_pulled(broker, &broker.tables(), &pull, head.next_begin_offset);
    let taken = OffsetCommit {
        group: pull.group.to_string(),
        topic: pull.topic.to_string(),
        queue_id: pull.queue_id,
        offset,
    };
    broker.group.propose(Proposal {
        messages: smallvec::SmallVec::new(),
        commands: vec![Command::TakeReset(taken)],
        done: Box::new(move |result| match result {
            Ok(_) => reply.answer(head.answer(ResponseCode::PULL_OFFSET_MOVED, "OFFSET_RESET")),
            Err(error) => reply.answer(RequestError::from(error).answer()),
        }),
    });
}

fn serve(broker: &Broker, held: HeldPull) {
    // A follower interrupts only whom it held: a consumer that knows no leader would ask again at
    // once, and for ever. Others are told by the leader, where their next pull goes.
    if let Some(offset) = reset_of(broker, &held.pull)
        && (held.pull.was_held || broker.is_leader())
    {
        return tell_reset(broker, held, offset);
    }
    let HeldPull { mut pull, reply } = held;
    match find(broker, &mut pull, reply.connection().peer()) {
        Ok(Found::Answer(answer)) => reply.answer(answer),
        Ok(Found::Later(wants, nothing)) => match pull.deadline {
            Some(deadline) => hold(broker, HeldPull { pull, reply }, wants, deadline),
            None => {
                broker.stats.pulled_nothing();
                reply.answer(nothing);
            }
        },
        Err(error) => reply.answer(error.answer()),
    }
}

fn hold(broker: &Broker, mut held: HeldPull, wants: QueueOffset, deadline: Instant) {
    held.pull.was_held = true;
    let (topic, group) = (Arc::clone(&held.pull.topic), Arc::clone(&held.pull.group));
    let queue_id = held.pull.queue_id;
    let owner = held.reply.connection_id();
    let hold = Hold {
        topic: Arc::clone(&topic),
        queue_id,
        wants,
        deadline,
        owner: owner.0,
        payload: held,
    };
    let is_due = || {
        let tables = broker.tables();
        let gone = tables.topic(&topic).is_none_or(|topic| queue_id >= topic.read_queues);
        let is_reset = || broker.is_leader() && tables.reset(&group, &topic, queue_id).is_some();
        // A queue that cannot be read is due at once, and the error is told then.
        let grown =
            || broker.group.queues().bounds(&topic, queue_id).map_or(true, |b| b.next > wants);
        gone || is_reset() || grown()
    };
    if let Err(Full { hold, limit }) = broker.wakeups.hold(hold, is_due) {
        hold.payload.reply.answer(RequestError::HeldFull { held: limit }.answer());
    }
}

fn find(broker: &Broker, pull: &mut Pull, consumer: SocketAddr) -> Result<Found, RequestError> {
    let tables = broker.tables();
    let topic = topic_of(&tables, &pull.topic, pull.queue_id.into(), consumer)?; // as of now
    let settings = broker.settings.current(&tables);
    let filter = match &pull.filter {
        TagFilter::All => Filter::All,
        TagFilter::AnyOf(codes) => Filter::Tags(codes.clone()),
    };
    let policy = &settings.config.policy.pull;
    let limits = Limits { messages: policy.messages_max, bytes: policy.bytes_max.into() };
    let wanted = Wanted { from: pull.offset, messages_max: pull.messages_max, filter: &filter };
    let queues = broker.group.queues();
    let read = read::get(queues, &pull.topic, pull.queue_id, &wanted, limits)?;
    let mut head = head(pull, topic.sys_flag, read.bounds);
    let (units, next) = match verdict(read.outcome, pull, broker.is_leader()) {
        Verdict::Messages { units, next } => (units, next),
        Verdict::Nothing { code, status, next } => {
            head.next_begin_offset = next;
            note_pulled(broker, &tables, pull, next);
            broker.stats.pulled_nothing();
            return Ok(Found::Answer(head.answer(code, status).into()));
        }
        Verdict::Later { wants, status } => {
            pull.offset = as_i64(wants);
            head.next_begin_offset = pull.offset;
            note_pulled(broker, &tables, pull, pull.offset);
            return Ok(Found::Later(wants, head.answer(ResponseCode::PULL_NOT_FOUND, status)));
        }
    };
    let behind = Behind::of(broker, &settings, &units);
    let (units, next) = behind.shorten(units, next, &settings, &pull.filter);
    head.next_begin_offset = as_i64(next);
    note_pulled(broker, &tables, pull, head.next_begin_offset);
    head.suggest_which_broker_id = behind.suggested(broker, pull, &settings);
    records(broker, pull, &head, &units)
}

/// The head of an answer that sends the consumer on where it is, to the leader.
fn head(pull: &Pull, topic_sys_flag: i32, bounds: Bounds) -> PullAnswer {
    PullAnswer {
        suggest_which_broker_id: LEADER_ID,
        next_begin_offset: pull.offset,
        min_offset: as_i64(bounds.min),
        max_offset: as_i64(bounds.next),
        group_sys_flag: pull.group_sys_flag,
        topic_sys_flag,
        forbidden_type: None,
    }
}

/// Notes where the group goes on in this queue. Groups that are not there, which a follower serves
/// too, leave nothing.
fn note_pulled(broker: &Broker, tables: &Tables, pull: &Pull, next: i64) {
    if tables.group(&pull.group).is_some() {
        broker.pull_offsets.note(&pull.topic, &pull.group, pull.queue_id, next);
    }
}

/// What is to be answered, by the rules of Java's broker.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// These messages.
    Messages { units: Vec<Unit>, next: QueueOffset },
    /// This code, and where the consumer goes on.
    Nothing { code: ResponseCode, status: &'static str, next: i64 },
    /// Nothing until the queue has grown beyond this offset.
    Later { wants: QueueOffset, status: &'static str },
}

fn verdict(outcome: Outcome, pull: &Pull, leads: bool) -> Verdict {
    let moved = |status, next| Verdict::Nothing {
        code: ResponseCode::PULL_OFFSET_MOVED,
        status,
        next: as_i64(next),
    };
    let again = |status, next| Verdict::Nothing {
        code: ResponseCode::PULL_RETRY_IMMEDIATELY,
        status,
        next,
    };
    // A negative offset is wrong wherever it is asked for.
    let asked = u64::try_from(pull.offset).map(QueueOffset);
    match (outcome, asked) {
        (Outcome::Found { units, next }, _) => Verdict::Messages { units, next },
        (Outcome::NoMatched { next }, _) if pull.was_held && pull.deadline.is_some() => {
            Verdict::Later { wants: next, status: "NO_MATCHED_MESSAGE" }
        }
        (Outcome::NoMatched { next }, _) => again("NO_MATCHED_MESSAGE", as_i64(next)),
        (Outcome::NoneYet, Ok(wants)) => Verdict::Later { wants, status: "OFFSET_OVERFLOW_ONE" },
        (Outcome::NoMessageInQueue, Ok(wants)) if wants == QueueOffset(0) || !leads => {
            Verdict::Later { wants, status: "NO_MESSAGE_IN_QUEUE" }
        }
        (Outcome::NoMessageInQueue | Outcome::NoneYet, _) => {
            moved("NO_MESSAGE_IN_QUEUE", QueueOffset(0))
        }
        (Outcome::OverflowBadly { next: _ }, Ok(wants)) if !leads => {
            Verdict::Later { wants, status: "OFFSET_OVERFLOW_BADLY" }
        }
        (Outcome::OverflowBadly { next }, _) => moved("OFFSET_OVERFLOW_BADLY", next),
        // The leader may still have it; the answer sends the consumer there.
        (Outcome::TooSmall { min: _ }, Ok(_)) if !leads => again("OFFSET_TOO_SMALL", pull.offset),
        (Outcome::TooSmall { min }, _) => moved("OFFSET_TOO_SMALL", min),
        (Outcome::Removing, _) => again("MESSAGE_WAS_REMOVING", pull.offset),
    }
}

/// Whether messages are so far behind the end of the log that memory has probably lost them.
struct Behind(bool);

impl Behind {
    fn of(broker: &Broker, settings: &Current, units: &[Unit]) -> Self {
        let percent = u64::from(settings.config.policy.pull.memory_percent);
        let kept = broker.memory_bytes / 100 * percent;
        let tail = broker.group.log().tail().0;
        Self(units.first().is_some_and(|unit| tail.saturating_sub(unit.physical.0) > kept))
    }

    /// Fewer messages at a time when each may cost a read from the disk.
    fn shorten(
        &self,
        mut units: Vec<Unit>,
        next: QueueOffset,
        settings: &Current,
        filter: &TagFilter,
    ) -> (Vec<Unit>, QueueOffset) {
        let policy = &settings.config.policy.pull;
        // With a filter, where the consumer goes on is not known for a part of the messages.
        if !self.0 || *filter != TagFilter::All {
            return (units, next);
        }
        let (mut count, mut bytes) = (0, 0);
        for unit in &units {
            bytes += u64::from(unit.bytes);
            let full = count >= policy.old_messages_max || bytes > policy.old_bytes_max.into();
            if full && count > 0 {
                break;
            }
            count += 1;
        }
        let left_out = units.len() - count as usize;
        units.truncate(count as usize);
        (units, QueueOffset(next.0 - left_out as u64))
    }

    fn suggested(&self, broker: &Broker, pull: &Pull, settings: &Current) -> u64 {
        let elsewhere = self.0 && settings.config.policy.pull.suggest_followers;
        if elsewhere && broker.is_leader() { pull.when_behind } else { LEADER_ID }
    }
}

/// The answer with the messages' bytes, straight from the log's mapping.
fn records(
    broker: &Broker,
    pull: &Pull,
    head: &PullAnswer,
    units: &[Unit],
) -> Result<Found, RequestError> {
    let log = broker.group.log();
    let mut records: Vec<Bytes> = Vec::with_capacity(4);
    let mut bytes = 0;
    for stretch in read::stretches(units) {
        let Some(mapped) = log.slice(stretch.physical, stretch.bytes) else {
            // Retention was faster: the next pull sees other bounds.
            let again = head.answer(ResponseCode::PULL_RETRY_IMMEDIATELY, "MESSAGE_WAS_REMOVING");
            return Ok(Found::Answer(again.with_field("nextBeginOffset", pull.offset).into()));
        };
        bytes += u64::from(stretch.bytes);
        records.push(mapped.into_bytes());
    }
    let system = names::is_system_topic(&pull.topic);
    broker.stats.pulled(&pull.topic, &pull.group, system, units.len() as u64, bytes);
    let head = head.answer(ResponseCode::SUCCESS, "FOUND");
    Ok(Found::Answer(net::Answer::Records { head, records }))
}

/// Offsets on the wire are signed.
fn as_i64(offset: QueueOffset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pull(offset: i64) -> Pull {
        Pull {
            topic: "T".into(),
            group: "g".into(),
            queue_id: 0,
            offset,
            messages_max: 32,
            filter: TagFilter::All,
            deadline: None,
            when_behind: 1,
            group_sys_flag: 0,
            was_held: false,
        }
    }

    #[test]
    fn a_leader_corrects_offsets_and_a_follower_does_not() {
        let at = QueueOffset;
        let later = |wants: i64| (19, wants);
        let rows = [
            // what was found, offset asked for, (code, next) on the leader, on a follower
            (Outcome::NoneYet, 5, later(5), later(5)),
            (Outcome::NoMessageInQueue, 0, later(0), later(0)),
            (Outcome::NoMessageInQueue, 7, (21, 0), later(7)),
            (Outcome::NoMessageInQueue, -1, (21, 0), (21, 0)),
            (Outcome::OverflowBadly { next: at(9) }, 30, (21, 9), later(30)),
            (Outcome::TooSmall { min: at(4) }, 2, (21, 4), (20, 2)),
            (Outcome::TooSmall { min: at(4) }, -1, (21, 4), (21, 4)),
            (Outcome::NoMatched { next: at(8) }, 3, (20, 8), (20, 8)),
            (Outcome::Removing, 3, (20, 3), (20, 3)),
        ];
        for (outcome, offset, on_leader, on_follower) in rows {
            for (leads, want) in [(true, on_leader), (false, on_follower)] {
                let got = match verdict(outcome.clone(), &pull(offset), leads) {
                    Verdict::Nothing { code, next, .. } => (code.0, next),
                    Verdict::Later { wants, .. } => (19, as_i64(wants)),
                    Verdict::Messages { .. } => panic!("{outcome:?}"),
                };
                assert_eq!(got, want, "{outcome:?} at {offset}, leads: {leads}");
            }
        }
    }

    #[test]
    fn a_held_pull_waits_on_when_what_came_does_not_match() {
        let held = Pull { was_held: true, deadline: Some(clock::now()), ..pull(3) };
        let come = || Outcome::NoMatched { next: QueueOffset(8) };
        let later = Verdict::Later { wants: QueueOffset(8), status: "NO_MATCHED_MESSAGE" };
        assert_eq!(verdict(come(), &held, true), later);
        let expired = Pull { deadline: None, ..held };
        assert!(matches!(verdict(come(), &expired, true), Verdict::Nothing { next: 8, .. }));
    }
}
