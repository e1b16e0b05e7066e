//! Pulling messages: 11 PULL_MESSAGE and 361 LITE_PULL_MESSAGE. Written by hand: one pass over
//! the fields, nothing copied.

#![warn(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects
)]

use std::str::FromStr;

use super::FieldError;
use crate::protocol::{
    codes::{RequestCode, ResponseCode},
    command::RemotingCommand,
    ext_fields::ExtFields,
};

/// Bits of [`PullRequest::sys_flag`].
pub mod flag {
    /// `commit_offset` is to be stored.
    pub const COMMIT_OFFSET: i32 = 1;
    /// The request may wait for messages.
    pub const SUSPEND: i32 = 2;
    /// `subscription` counts, not what the heartbeat said.
    pub const SUBSCRIPTION: i32 = 4;
    /// Obsolete.
    pub const CLASS_FILTER: i32 = 8;
    /// The consumer assigns queues itself.
    pub const LITE_PULL: i32 = 16;
}

/// Messages of one queue from an offset on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullRequest<'a> {
    /// Name of the group.
    pub consumer_group: &'a str,
    /// Name of the topic.
    pub topic: &'a str,
    /// Queue of the topic.
    pub queue_id: i32,
    /// The next offset wanted.
    pub queue_offset: i64,
    /// At most so many messages.
    pub max_msg_nums: i32,
    /// Bits of [`flag`].
    pub sys_flag: i32,
    /// Offset to commit.
    pub commit_offset: i64,
    /// How long the request may wait. Milliseconds.
    pub suspend_timeout_millis: i64,
    /// Expression.
    pub subscription: Option<&'a str>,
    /// Version of the subscription.
    pub sub_version: i64,
    /// `TAG` or `SQL92`.
    pub expression_type: Option<&'a str>,
    /// At most so many bytes.
    pub max_msg_bytes: Option<i32>,
}

impl<'a> PullRequest<'a> {
    /// Reads the header of `command`.
    pub fn parse(command: &'a RemotingCommand) -> Result<Self, FieldError> {
        let mut texts = Texts::default();
        for (name, value) in command.ext.iter() {
            if let Some(text) = texts.slot(name) {
                *text = Some(value);
            }
        }
        let max_msg_bytes = texts.max_msg_bytes.filter(|text| !text.is_empty());
        Ok(Self {
            consumer_group: there(texts.consumer_group, "consumerGroup")?,
            topic: there(texts.topic, "topic")?,
            queue_id: number(texts.queue_id, "queueId")?,
            queue_offset: number(texts.queue_offset, "queueOffset")?,
            max_msg_nums: number(texts.max_msg_nums, "maxMsgNums")?,
            sys_flag: number(texts.sys_flag, "sysFlag")?,
            commit_offset: number(texts.commit_offset, "commitOffset")?,
            suspend_timeout_millis: number(texts.suspend_timeout_millis, "suspendTimeoutMillis")?,
            subscription: texts.subscription,
            sub_version: number(texts.sub_version, "subVersion")?,
            expression_type: texts.expression_type.filter(|text| !text.is_empty()),
            max_msg_bytes: match max_msg_bytes {
                None => None,
                text => Some(number(text, "maxMsgBytes")?),
            },
        })
    }

    /// Adds the fields to `ext`.
    pub fn write(&self, ext: &mut ExtFields) {
        ext.push("consumerGroup", self.consumer_group);
        ext.push("topic", self.topic);
        ext.push("queueId", self.queue_id);
        ext.push("queueOffset", self.queue_offset);
        ext.push("maxMsgNums", self.max_msg_nums);
        ext.push("sysFlag", self.sys_flag);
        ext.push("commitOffset", self.commit_offset);
        ext.push("suspendTimeoutMillis", self.suspend_timeout_millis);
        if let Some(subscription) = self.subscription {
            ext.push("subscription", subscription);
        }
        ext.push("subVersion", self.sub_version);
        if let Some(expression_type) = self.expression_type {
            ext.push("expressionType", expression_type);
        }
        if let Some(bytes) = self.max_msg_bytes {
            ext.push("maxMsgBytes", bytes);
        }
    }

    /// A request with this header.
    pub fn request(&self, code: RequestCode) -> RemotingCommand {
        let mut command = RemotingCommand::request(code);
        self.write(&mut command.ext);
        command
    }

    /// Whether `commit_offset` is to be stored.
    pub fn commits(&self) -> bool {
        self.sys_flag & flag::COMMIT_OFFSET != 0
    }

    /// Whether the request may wait for messages.
    pub fn may_wait(&self) -> bool {
        self.sys_flag & flag::SUSPEND != 0
    }

    /// Whether the request brings its own subscription.
    pub fn has_subscription(&self) -> bool {
        self.sys_flag & flag::SUBSCRIPTION != 0
    }
}

#[derive(Default)]
struct Texts<'a> {
    consumer_group: Option<&'a str>,
    topic: Option<&'a str>,
    queue_id: Option<&'a str>,
    queue_offset: Option<&'a str>,
    max_msg_nums: Option<&'a str>,
    sys_flag: Option<&'a str>,
    commit_offset: Option<&'a str>,
    suspend_timeout_millis: Option<&'a str>,
    subscription: Option<&'a str>,
    sub_version: Option<&'a str>,
    expression_type: Option<&'a str>,
    max_msg_bytes: Option<&'a str>,
}

impl<'a> Texts<'a> {
    fn slot(&mut self, name: &str) -> Option<&mut Option<&'a str>> {
        Some(match name {
            "consumerGroup" => &mut self.consumer_group,
            "topic" => &mut self.topic,
            "queueId" => &mut self.queue_id,
            "queueOffset" => &mut self.queue_offset,
            "maxMsgNums" => &mut self.max_msg_nums,
            "sysFlag" => &mut self.sys_flag,
            "commitOffset" => &mut self.commit_offset,
            "suspendTimeoutMillis" => &mut self.suspend_timeout_millis,
            "subscription" => &mut self.subscription,
            "subVersion" => &mut self.sub_version,
            "expressionType" => &mut self.expression_type,
            "maxMsgBytes" => &mut self.max_msg_bytes,
            _ => return None,
        })
    }
}

/// The text of the field `name`, which must be there.
pub(super) fn there<'a>(text: Option<&'a str>, name: &str) -> Result<&'a str, FieldError> {
    text.ok_or_else(|| FieldError::missing(name))
}

/// The number in the field `name`, which must be there.
pub(super) fn number<T: FromStr>(text: Option<&str>, name: &str) -> Result<T, FieldError> {
    let text = there(text, name)?;
    text.parse().map_err(|_| FieldError::invalid(name, text))
}

/// Header of every answer to a pull, whatever its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PullAnswer {
    /// Broker id that should serve the next pull.
    pub suggest_which_broker_id: u64,
    /// Where to go on.
    pub next_begin_offset: i64,
    /// The smallest offset there is.
    pub min_offset: i64,
    /// The next offset to be written.
    pub max_offset: i64,
    /// `groupSysFlag` of the group's settings.
    pub group_sys_flag: i32,
    /// `topicSysFlag` of the topic's settings.
    pub topic_sys_flag: i32,
    /// Why reading is forbidden: 1 broker, 2 group, 3 topic, 4 broadcasting, 5 subscription.
    pub forbidden_type: Option<i32>,
}

impl PullAnswer {
    /// Reads the header of `command`.
    pub fn parse(command: &RemotingCommand) -> Result<Self, FieldError> {
        let ext = &command.ext;
        Ok(Self {
            suggest_which_broker_id: ext.required("suggestWhichBrokerId")?,
            next_begin_offset: ext.required("nextBeginOffset")?,
            min_offset: ext.required("minOffset")?,
            max_offset: ext.required("maxOffset")?,
            group_sys_flag: ext.optional("groupSysFlag")?.unwrap_or(0),
            topic_sys_flag: ext.optional("topicSysFlag")?.unwrap_or(0),
            forbidden_type: ext.optional("forbiddenType")?,
        })
    }

    /// Adds the fields to `ext`, in Java's order.
    pub fn write(&self, ext: &mut ExtFields) {
        ext.push("suggestWhichBrokerId", self.suggest_which_broker_id);
        ext.push("groupSysFlag", self.group_sys_flag);
        ext.push("nextBeginOffset", self.next_begin_offset);
        ext.push("maxOffset", self.max_offset);
        ext.push("minOffset", self.min_offset);
        ext.push("topicSysFlag", self.topic_sys_flag);
        if let Some(forbidden_type) = self.forbidden_type {
            ext.push("forbiddenType", forbidden_type);
        }
    }

    /// An answer with this header; Java's remark is the name of the store's status.
    pub fn answer(&self, code: ResponseCode, remark: &str) -> RemotingCommand {
        let mut command = RemotingCommand::response(code).with_remark(remark);
        self.write(&mut command.ext);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: PullRequest<'static> = PullRequest {
        consumer_group: "G",
        topic: "T",
        queue_id: 1,
        queue_offset: 7,
        max_msg_nums: 32,
        sys_flag: flag::SUSPEND | flag::SUBSCRIPTION,
        commit_offset: 0,
        suspend_timeout_millis: 15_000,
        subscription: Some("*"),
        sub_version: 3,
        expression_type: None,
        max_msg_bytes: Some(262_144),
    };

    #[test]
    fn what_is_written_is_read() {
        let command = REQUEST.request(RequestCode::PULL_MESSAGE);
        assert_eq!(PullRequest::parse(&command), Ok(REQUEST));
        let answer = PullAnswer {
            next_begin_offset: 9,
            topic_sys_flag: 1,
            forbidden_type: Some(2),
            ..Default::default()
        };
        let command = answer.answer(ResponseCode::NO_PERMISSION, "no");
        assert_eq!(PullAnswer::parse(&command), Ok(answer));
    }

    #[test]
    fn errors_name_the_field() {
        let missing = RemotingCommand::request(RequestCode::PULL_MESSAGE);
        assert_eq!(PullRequest::parse(&missing), Err(FieldError::missing("consumerGroup")));
        let bad = REQUEST.request(RequestCode::PULL_MESSAGE).with_field("subVersion", "x");
        assert_eq!(PullRequest::parse(&bad), Err(FieldError::invalid("subVersion", "x")));
    }
}
