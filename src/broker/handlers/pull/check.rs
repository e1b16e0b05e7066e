//! Whether a pull may be served, in the order in which Java's broker checks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::ids::LEADER_BROKER_ID;
use crate::net::{ConnectionId, ReplyTo};
use crate::protocol::bodies::{MessageModel, SubscriptionData};
use crate::protocol::codes::{RequestCode, ResponseCode};
use crate::protocol::command::RemotingCommand;
use crate::protocol::headers::pull::{PullAnswer, PullRequest};
use crate::protocol::perm;
use crate::raft::Role;
use crate::raft::command::{Command, Group, OffsetCommit, Topic};
use crate::raft::tables::Tables;

use super::verdict::Proof;
use super::{Pull, as_i64};
use crate::broker::error::RequestError;
use crate::broker::settings::Current;
use crate::broker::subscription::{self, TagFilter};
use crate::broker::{Broker, groups};

/// Longest time that a pull may ask to wait.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// What checking comes to.
pub(super) struct Checked {
    pub(super) pull: Pull,
    /// The offset to store before the pull is answered.
    pub(super) commit: Option<OffsetCommit>,
    /// The group, which has to be created first.
    pub(super) missing: Option<Command>,
}

/// Checks a pull and everything it names.
pub(super) fn check(
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
            repaired: None,
            by_push: !request.has_subscription(),
            was_held: false,
            proof: Proof::NotAsked,
        },
        commit,
        missing,
    })
}

/// The answer to a consumer whose heartbeat this member has missed, as one that was started a
/// moment ago has: it comes each 30 s, and until then its pulls go to the leader, which has it. Once
/// a second for a queue: who takes this member for the leader still asks here again, at once.
pub(super) fn ask_leader(
    broker: &Broker,
    connection: ConnectionId,
    command: &RemotingCommand,
    error: &RequestError,
) -> Option<RemotingCommand> {
    use RequestError::{GroupNotConnected, NotSubscribed, SubscriptionOld};
    let lacks_heartbeat = matches!(error, GroupNotConnected | NotSubscribed | SubscriptionOld);
    let follows = matches!(broker.group.role(), Role::Follower { leader: Some(_), .. });
    let request = PullRequest::parse(command).ok().filter(|_| lacks_heartbeat && follows)?;
    let queue_id = request.queue_id.unsigned_abs(); // checked before the subscription
    let bounds = broker.group.queues().bounds(request.topic, queue_id).ok()?;
    broker.sent_to_leader.allow((connection, request.topic.to_owned(), queue_id), clock::now())?;
    let head = PullAnswer {
        suggest_which_broker_id: LEADER_BROKER_ID.0,
        next_begin_offset: request.queue_offset,
        min_offset: as_i64(bounds.min),
        max_offset: as_i64(bounds.next),
        group_sys_flag: 0,
        topic_sys_flag: 0,
        forbidden_type: None,
    };
    Some(head.answer(ResponseCode::PULL_RETRY_IMMEDIATELY, "HEARTBEAT_MISSED"))
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
) -> Result<(Arc<Group>, Option<Command>), RequestError> {
    if let Some(group) = tables.group(name) {
        return Ok((Arc::clone(group), None));
    }
    let unknown = || RequestError::GroupToPullUnknown { group: name.to_owned() };
    let auto_create = settings.config.policy.auto_create_group;
    let group = groups::by_use(name, auto_create, groups::count(tables)).ok_or_else(unknown)?;
    let create = broker.is_leader().then(|| Command::EnsureGroup(group.clone()));
    Ok((Arc::new(group), create))
}

/// The topic, if the queue is one that may be read. A held pull is checked again when it goes on.
pub(super) fn topic_of<'a>(
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
        return Ok(subscription::parse(request.subscription)?);
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
