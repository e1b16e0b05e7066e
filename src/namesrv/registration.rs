//! What a broker says about itself when it registers.

use std::{sync::Arc, time::Duration};

use crate::protocol::bodies::DataVersion;

/// When no registration says otherwise, a broker is gone after this much silence.
/// Source: RocketMQ `DEFAULT_BROKER_CHANNEL_EXPIRED_TIME`.
pub const BROKER_SILENCE_MAX: Duration = Duration::from_secs(120);

/// Identity of the connection that a registration came on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(pub u64);

/// One checked REGISTER_BROKER request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Cluster of the broker group.
    pub cluster: Arc<str>,
    /// Broker group (`brokerName`).
    pub group: Arc<str>,
    /// `host:port` of the main listener.
    pub address: Arc<str>,
    /// `host:port` for replication, given to the other members of the group.
    pub ha_address: Arc<str>,
    /// 0 for the leader.
    pub broker_id: u64,
    /// Version of the topics; `stateVersion` is the Raft term of a Raft group, else 0.
    pub version: DataVersion,
    /// Topics as the broker wants them in routes.
    pub topics: Vec<TopicEntry>,
    /// Whether `topics` is the broker's whole table.
    pub extent: Extent,
    /// `enableActingMaster`; absent from brokers before 5.x.
    pub acting_master: Option<bool>,
    /// Whether it takes writes, be it only to pass them on to the leader (`takesWrites=true`, sent by
    /// our brokers): then it can stand behind the group's ingress slot.
    pub takes_writes: bool,
    /// Zone of the broker, for clients that ask for their own zone only.
    pub zone: Option<Arc<str>>,
    /// Silence after which the broker is gone.
    pub silence_max: Duration,
}

/// What a registration says about topics that are not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Nothing: it may be a full table or only what changed (RocketMQ's brokers).
    Unstated,
    /// They do not exist (`topicsComplete=true`, sent by our brokers).
    Complete,
    /// They are as before (`topicsComplete=false`, sent by our brokers).
    Changes,
}

/// A topic and its queues on one broker group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicEntry {
    /// Topic name.
    pub topic: Arc<str>,
    /// Its queues there.
    pub queues: Queues,
}

/// Queues of one topic on one broker group, as routes tell them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queues {
    /// Queues that consumers read.
    pub read: u32,
    /// Queues that producers write.
    pub write: u32,
    /// Bits of [`crate::protocol::perm`].
    pub perm: u32,
    /// `topicSysFlag`: bit 0 unit topic, bit 1 subscribed from a unit.
    pub sys_flag: i32,
    /// Its messages have an order (`order`, or `message.type` is `FIFO`), or nobody said that they
    /// have none: it stays out of ingress slots.
    pub ordered: bool,
}
