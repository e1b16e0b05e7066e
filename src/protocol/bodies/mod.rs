//! JSON bodies, with Java's member names in Java's (alphabetical) order; null members are omitted.
//!
//! Read with [`decode`], which tolerates fastjson's dialect, absent members and nulls; written
//! with [`encode`]. Sets and maps are ordered here where Java has hash order.

mod cluster;
mod connection;
mod consumer;
mod facts;
mod failover;
mod group;
mod ha;
mod heartbeat;
mod kv;
mod lock;
mod member;
mod offset;
mod queue;
mod route;
mod stats;
mod topic;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

pub use super::lenient_json::{BodyError, NumericKeys};
pub use cluster::{BrokerMemberGroup, BrokerMemberGroupBody, ClusterInfo};
pub use connection::{
    Connection, ConsumerConnection, ProducerConnection, ProducerInfo, ProducerTable,
};
pub use consumer::{
    CheckClientConfig, ConsumeDirectlyResult, ConsumerList, QueryAssignment, QueueAssignment,
    QueueAssignments, SubscriptionOfGroup,
};
pub use facts::{
    Awaiting, DiskFacts, LineageFacts, MemberFacts, NameServerFacts, PeerFacts, Reached,
    ScrubFacts, SlowDiskFacts, SyncFacts, VotingFacts,
};
pub use failover::{LeadBody, LeaderChangeBody, LeaderChangesBody, RegisteredBody};
pub use group::{
    GroupConfigList, GroupForbidden, GroupList, GroupRetryPolicy, SimpleSubscriptionData,
    SubscriptionGroupConfig, SubscriptionGroupTable,
};
pub use ha::{HaClientRuntimeInfo, HaConnectionRuntimeInfo, HaRuntimeInfo};
pub use heartbeat::{
    ConsumeFromWhere, ConsumeType, ConsumerData, HeartbeatData, MessageModel, ProducerData,
    SubscriptionData,
};
pub use kv::KVTable;
pub use lock::{LockBatch, LockedQueues};
pub use member::{CatchingUp, GroupMember, GroupMembers, MemberPlan};
pub use offset::{
    ConsumerOffsetTable, ConsumerStatusTable, CorrectionOffsets, DelayOffsetTable, QueueOffsets,
};
pub use queue::{MessageQueue, QueueKey};
pub use route::{BrokerData, QueueData, TopicRouteData};
pub use stats::{
    BrokerStatsData, BrokerStatsItem, ConsumeQueueBody, ConsumeQueueUnit, ConsumeStats,
    ConsumeStatsList, ConsumeTimeSpans, OffsetWrapper, QueueTimeSpan, TopicOffset, TopicStatsTable,
};
pub use topic::{
    DataVersion, RegisterBrokerBody, TopicConfig, TopicConfigList, TopicConfigTable, TopicList,
};

/// Reads a body.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, BodyError> {
    super::lenient_json::from_slice(body)
}

/// Writes a body; numeric keys are quoted, object keys bare.
pub fn encode(value: &impl Serialize) -> Bytes {
    super::lenient_json::to_vec(value).into()
}

/// Writes a body for a reader that may want bare numeric keys.
pub fn encode_with(value: &impl Serialize, numeric: NumericKeys) -> Bytes {
    super::lenient_json::to_vec_with(value, numeric).into()
}
