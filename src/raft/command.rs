//! What is replicated besides messages: every fact a client was told that is not a message.
//!
//! A log entry carries messages and then commands, and is applied as a whole. Commands decide
//! nothing by clock or chance: the time they may need travels with them.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};

use crate::raft::codec::Stored;
use crate::raft::version::GroupVersion;

/// The commands of one log entry.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Commands {
    /// The proposing leader's clock, ms since the epoch: the wall clock's when it began to lead,
    /// and counted from there, whatever the wall clock does.
    pub at_ms: i64,
    /// Applied in order, after the entry's messages.
    pub list: Vec<Command>,
}

impl Commands {
    /// Topics that are not as they were for those who wait for their messages.
    pub(super) fn unsettled_topics(&self) -> BTreeSet<String> {
        let mut topics = BTreeSet::new();
        for command in &self.list {
            match command {
                Command::PutTopic(Topic { name: topic, .. })
                | Command::ChangeTopic { topic: Topic { name: topic, .. }, .. }
                | Command::DeleteTopic { topic } => {
                    topics.insert(topic.clone());
                }
                Command::ResetOffsets(resets) => {
                    topics.extend(resets.iter().map(|reset| reset.topic.clone()));
                }
                Command::EnsureTopic(_)
                | Command::PutGroup(_)
                | Command::EnsureGroup(_)
                | Command::DeleteGroup { .. }
                | Command::CommitOffsets(_)
                | Command::TakeReset(_)
                | Command::LockQueues { .. }
                | Command::UnlockQueues { .. }
                | Command::PutSetting { .. }
                | Command::OrderTopic { .. }
                | Command::Passed(_)
                | Command::Activate { .. } => {}
            }
        }
        topics
    }

    /// Takes out what says who proposed what.
    pub(super) fn take_passed(&mut self) -> Vec<Passed> {
        match self.list.pop_if(|last| matches!(last, Command::Passed(_))) {
            Some(Command::Passed(passed)) => passed,
            _ => Vec::new(),
        }
    }
}

impl Stored for Commands {
    const WHAT: &'static str = "log entry commands";
    const FORMAT: u8 = GroupVersion::NEWEST.0;
    const OLDEST: u8 = GroupVersion::FIRST.0;

    /// The version that has all of them.
    fn format(&self) -> u8 {
        self.list.iter().map(Command::since).fold(GroupVersion::FIRST, GroupVersion::max).0
    }
}

/// One change of the replicated tables.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Command {
    /// Creates a topic, or replaces its settings.
    PutTopic(Topic),
    /// Creates a topic if there is none of that name: automatic creation, which must never undo
    /// what an operator set meanwhile.
    EnsureTopic(Topic),
    /// Removes a topic with its queues and all groups' offsets in it.
    DeleteTopic {
        /// Its name.
        topic: String,
    },
    /// Creates a consumer group, or replaces its settings.
    PutGroup(Group),
    /// Creates a consumer group if there is none of that name.
    EnsureGroup(Group),
    /// Removes a consumer group.
    DeleteGroup {
        /// Its name.
        group: String,
        /// Its offsets go as well.
        clean_offsets: bool,
    },
    /// Stores consumer offsets. They may go back: that is how a reset works.
    CommitOffsets(Vec<OffsetCommit>),
    /// Stores consumer offsets that an operator chose. Until the group has been told, with its next
    /// pull of the queue, its own commits there are void.
    ResetOffsets(Vec<OffsetCommit>),
    /// The group was told of a reset: its commits count again.
    TakeReset(OffsetCommit),
    /// Takes or renews queue locks of an orderly consumer; a lock not renewed for
    /// [`LOCK_MS`] is free. Answered with [`Outcome::Locked`].
    LockQueues {
        /// Consumer group.
        group: String,
        /// Client id.
        client: String,
        /// Wanted queues.
        queues: Vec<QueueName>,
    },
    /// Releases the queues that this client holds.
    UnlockQueues {
        /// Consumer group.
        group: String,
        /// Client id.
        client: String,
        /// Queues to release.
        queues: Vec<QueueName>,
    },
    /// Changes a broker setting of the whole group (an allowed, dynamic key).
    PutSetting {
        /// Configuration key.
        key: String,
        /// Its new value, as text.
        value: String,
    },
    /// Creates a topic, or replaces its settings but not all of its attributes: `topic` has those
    /// that are set. What others set meanwhile stays.
    ChangeTopic {
        /// The settings.
        topic: Topic,
        /// Names of attributes that are removed.
        removed: BTreeSet<String>,
    },
    /// Says whether a topic is ordered, and nothing else about it, if it is there.
    OrderTopic {
        /// Its name.
        topic: String,
        /// Whether it is.
        order: bool,
    },
    /// What of the entry others than its leader proposed: that is how they hear of it. Always the
    /// last command, and it changes nothing.
    Passed(Vec<Passed>),
    /// From here on the group writes what a version has. In another term than this one it changes
    /// nothing: members are asked anew whether they read it.
    Activate {
        /// The version.
        version: u8,
        /// The term in which all members said that they read it.
        term: u64,
    },
}

impl Command {
    /// The version that added it, which must be active before it is proposed.
    fn since(&self) -> GroupVersion {
        match self {
            Self::PutTopic(_)
            | Self::EnsureTopic(_)
            | Self::DeleteTopic { .. }
            | Self::PutGroup(_)
            | Self::EnsureGroup(_)
            | Self::DeleteGroup { .. }
            | Self::CommitOffsets(_)
            | Self::ResetOffsets(_)
            | Self::TakeReset(_)
            | Self::LockQueues { .. }
            | Self::UnlockQueues { .. }
            | Self::PutSetting { .. }
            | Self::ChangeTopic { .. }
            | Self::OrderTopic { .. } => GroupVersion::FIRST,
            Self::Passed(_) => GroupVersion::PASSES_ON,
            // Who does not read a version finds that out here, if nowhere before.
            Self::Activate { version, .. } => GroupVersion(*version).max(GroupVersion::PASSES_ON),
        }
    }
}

/// Who proposed something, if not the leader itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Origin {
    /// One life of a process, drawn when it starts.
    pub life: u64,
    /// Of the proposal, in that life.
    pub number: u64,
}

/// A proposal that another member passed on, and its part of the entry.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Passed {
    /// Whose it is.
    pub origin: Origin,
    /// Messages of the entry before its own.
    pub first_message: u32,
    /// How many are its own.
    pub messages: u32,
    /// Commands of the entry before its own.
    pub first_command: u32,
    /// How many are its own.
    pub commands: u32,
    /// It repeats messages of an earlier entry: nothing of this one is its own.
    pub first_try: Option<FirstTry>,
}

/// Messages that lie one behind the other in one queue and were sent once more.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FirstTry {
    /// When they were stored, ms.
    pub store_timestamp: i64,
    /// Their queue, which the repeat need not name.
    pub queue_id: u32,
    /// Of the first of them.
    pub queue_offset: u64,
    /// Of the record of each, in the log.
    pub positions: Vec<u64>,
}

/// Milliseconds after which an unrenewed queue lock is free (RocketMQ's
/// `rocketmq.broker.rebalance.lockMaxLiveTime`).
pub const LOCK_MS: i64 = 60_000;

/// A queue of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct QueueName {
    /// Topic.
    pub topic: String,
    /// Queue id.
    pub queue_id: u32,
}

/// One consumer offset.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct OffsetCommit {
    /// Consumer group.
    pub group: String,
    /// Topic.
    pub topic: String,
    /// Queue id.
    pub queue_id: u32,
    /// The next offset the group wants.
    pub offset: u64,
}

/// A topic's settings (RocketMQ's `TopicConfig`).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Topic {
    /// Name, valid by `protocol::names`.
    pub name: String,
    /// Queues open to consumers.
    pub read_queues: u32,
    /// Queues open to producers.
    pub write_queues: u32,
    /// Bits: 4 read, 2 write, 1 inherit.
    pub perm: u32,
    /// `topicSysFlag`.
    pub sys_flag: i32,
    /// Globally ordered.
    pub order: bool,
    /// `MULTI_TAG` instead of `SINGLE_TAG`.
    pub multi_tag: bool,
    /// 5.x attributes.
    pub attributes: BTreeMap<String, String>,
}

/// A consumer group's settings (RocketMQ's `SubscriptionGroupConfig`).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[allow(clippy::struct_excessive_bools)]
pub struct Group {
    /// Name.
    pub name: String,
    /// `consumeEnable`.
    pub consume_enable: bool,
    /// `consumeFromMinEnable`.
    pub consume_from_min_enable: bool,
    /// `consumeBroadcastEnable`.
    pub consume_broadcast_enable: bool,
    /// `consumeMessageOrderly`.
    pub consume_message_orderly: bool,
    /// `notifyConsumerIdsChangedEnable`.
    pub notify_consumer_ids_changed_enable: bool,
    /// `retryQueueNums`.
    pub retry_queues: u32,
    /// `retryMaxTimes`.
    pub retry_max_times: i32,
    /// `groupRetryPolicy` as the JSON text of the request; empty: RocketMQ's default.
    pub retry_policy: String,
    /// `brokerId`.
    pub broker_id: u64,
    /// `whichBrokerWhenConsumeSlowly`.
    pub which_broker_when_consume_slowly: u64,
    /// `groupSysFlag`.
    pub sys_flag: i32,
    /// `consumeTimeoutMinute`.
    pub consume_timeout_minutes: i32,
    /// 5.x attributes.
    pub attributes: BTreeMap<String, String>,
}

/// What applying a command decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done as asked, or nothing to do.
    Done,
    /// Some or all of the wanted queues are locked.
    Locked {
        /// The client now holds these.
        queues: Vec<QueueName>,
        /// Some were refused because there are too many locks.
        no_room: bool,
    },
}
