//! Where a message goes: to the topic and queue that it was sent to, or to the dead letters of a
//! group that gives it up. In the order in which Java's broker checks.

use std::sync::Arc;

use crate::protocol::{names, perm, version};
use crate::raft::command::{Command, Topic};

use super::Sending;
use crate::broker::error::RequestError;
use crate::broker::{groups, topics};

/// A place for messages.
pub(super) struct Target {
    /// The topic's name, shared by everyone who stores it.
    pub(super) topic: Arc<str>,
    pub(super) queue_id: u32,
    /// Messages of the topic have several tags.
    pub(super) multi_tag: bool,
    /// Not where the producer sent it: it was consumed in vain too often.
    pub(super) is_dead_letter: bool,
}

/// What a send aims at.
pub(super) enum Aim {
    At(Target),
    /// Something that has to be created first.
    Missing(Command),
}

/// Whether a message that is sent to be consumed again may be.
enum Retries {
    Left,
    Used,
    GroupMissing(Command),
}

impl Sending<'_> {
    /// Where the messages go.
    pub(super) fn aim(&self) -> Result<Aim, RequestError> {
        self.check_topic()?;
        if let Some(group) = self.request.topic.strip_prefix(names::RETRY_PREFIX) {
            match self.retries(group)? {
                Retries::Left => {}
                Retries::Used => return self.dead_letters(group),
                Retries::GroupMissing(command) => return Ok(Aim::Missing(command)),
            }
        }
        let Some(topic) = self.tables.topic(self.request.topic) else {
            return self.creation().map(Aim::Missing);
        };
        if !perm::writable(topic.perm) {
            let text = format!("the topic[{}] sending message is forbidden", topic.name);
            return Err(RequestError::Forbidden(text));
        }
        Ok(Aim::At(Target { queue_id: self.queue_of(topic)?, ..self.target(topic) }))
    }

    /// Refuses what may not be sent to, whether it exists or not. A broker that is made read-only
    /// is emptied without errors: producers learn it from the route. Only order would be lost by
    /// then.
    fn check_topic(&self) -> Result<(), RequestError> {
        let forbidden = |text: String| Err(RequestError::Forbidden(text));
        let topic = self.request.topic;
        let is_ordered = || self.tables.topic(topic).is_some_and(|topic| topic.order);
        if !perm::writable(self.settings.config.policy.permission) && is_ordered() {
            let address = &self.broker.identity.address;
            return forbidden(format!("the broker[{address}] sending message is forbidden"));
        }
        names::validate_topic(topic).map_err(|error| RequestError::Parameter(error.to_string()))?;
        if names::is_forbidden_to_send(topic) {
            return forbidden(format!("Sending message to topic[{topic}] is forbidden."));
        }
        Ok(())
    }

    fn retries(&self, group: &str) -> Result<Retries, RequestError> {
        let Some(config) = self.tables.group(group) else {
            let unknown = || RequestError::GroupToRetryUnknown { group: group.to_owned() };
            let auto_create = self.settings.config.policy.auto_create_group;
            let new = groups::by_use(group, auto_create, groups::count(self.tables));
            let new = new.ok_or_else(unknown)?;
            return Ok(Retries::GroupMissing(Command::EnsureGroup(new)));
        };
        let own_limit = self.request.max_reconsume_times;
        let own_limit = own_limit.filter(|_| self.command.version >= version::V3_4_9);
        let limit = own_limit.unwrap_or(config.retry_max_times);
        // A consumer that holds queues consumes in order: it tries again where it is, and gives
        // back only what it has given up.
        let given_up = self.request.reconsume_times > limit
            || self.tables.holds_locks(group, self.broker.group.commands_ms());
        Ok(if given_up { Retries::Used } else { Retries::Left })
    }

    fn dead_letters(&self, group: &str) -> Result<Aim, RequestError> {
        let name = names::dlq_topic(group);
        match self.tables.topic(&name) {
            Some(topic) => Ok(Aim::At(Target { is_dead_letter: true, ..self.target(topic) })),
            None if self.tables.topic_count() < topics::BY_USE_MAX => {
                Ok(Aim::Missing(Command::EnsureTopic(topics::dead_letter(group))))
            }
            None => Err(RequestError::TopicsFull { topic: name }),
        }
    }

    /// The first queue of a topic.
    fn target(&self, topic: &Topic) -> Target {
        let name = self.tables.topic_name(&topic.name);
        Target {
            // There always is one: the topic comes from the same tables.
            topic: name.unwrap_or_else(|| topic.name.as_str().into()),
            queue_id: 0,
            multi_tag: topic.multi_tag,
            is_dead_letter: false,
        }
    }

    /// The queue that was asked for; a negative one means any.
    fn queue_of(&self, topic: &Topic) -> Result<u32, RequestError> {
        let asked = self.request.queue_id;
        match u32::try_from(asked) {
            Ok(queue_id) if queue_id < topic.read_queues.max(topic.write_queues) => Ok(queue_id),
            Err(_) if topic.write_queues > 0 => Ok(fastrand::u32(..topic.write_queues)),
            Ok(_) | Err(_) => Err(RequestError::Parameter(format!(
                "request queueId[{asked}] is illegal, {} Producer: {}",
                topics::text(topic),
                self.reply.connection().peer()
            ))),
        }
    }

    /// What creates the topic of a send to an unknown name, if that is allowed.
    fn creation(&self) -> Result<Command, RequestError> {
        let name = self.request.topic;
        let unknown = || RequestError::TopicToSendUnknown { topic: name.to_owned() };
        let topic = self.new_topic().ok_or_else(unknown)?;
        if self.tables.topic_count() >= topics::BY_USE_MAX {
            return Err(RequestError::TopicsFull { topic: topic.name });
        }
        tracing::info!(
            topic = topic.name,
            queues = topic.write_queues,
            producer_group = self.request.producer_group,
            member = self.broker.identity.member,
            "creating a topic because of a send"
        );
        Ok(Command::EnsureTopic(topic))
    }

    fn new_topic(&self) -> Option<Topic> {
        let auto_create = self.settings.config.policy.auto_create_topic;
        let template = self.tables.topic(self.request.default_topic);
        let template = template.filter(|topic| auto_create || topic.name != names::TBW102);
        let (name, queues) = (self.request.topic, self.request.default_topic_queue_nums);
        let group = name.strip_prefix(names::RETRY_PREFIX);
        let topic = topics::from_template(name, template.map(AsRef::as_ref), queues)
            .or_else(|| group.map(|group| topics::retry(group, 1)))?;
        let sys_flag = match (self.request.unit_mode, group) {
            (false, _) => 0,
            (true, None) => topics::sys_flag::UNIT,
            (true, Some(_)) => topics::sys_flag::UNIT_SUBSCRIBED,
        };
        Some(Topic { sys_flag, ..topic })
    }
}
