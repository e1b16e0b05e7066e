//! What consumers and brokers ask each other about groups.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{MessageModel, MessageQueue, SubscriptionData};

/// Answer of GET_CONSUMER_LIST_BY_GROUP.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerList {
    /// Client ids of the members.
    pub consumer_id_list: Vec<String>,
}

/// Body of CHECK_CLIENT_CONFIG.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckClientConfig {
    /// The client.
    pub client_id: String,
    /// Its group.
    pub group: String,
    /// Namespace of the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// What it is going to subscribe to.
    pub subscription_data: SubscriptionData,
}

/// Answer of QUERY_SUBSCRIPTION_BY_CONSUMER.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionOfGroup {
    /// The group.
    pub group: String,
    /// What it wants of the topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data: Option<SubscriptionData>,
    /// The topic.
    pub topic: String,
}

/// Answer of CONSUME_MESSAGE_DIRECTLY.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeDirectlyResult {
    /// Whether the consumer commits by itself.
    pub auto_commit: bool,
    /// `CR_SUCCESS`, `CR_LATER`, `CR_ROLLBACK`, `CR_COMMIT`, `CR_THROW_EXCEPTION`,
    /// `CR_RETURN_NULL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consume_result: Option<String>,
    /// Whether the consumer is orderly.
    pub order: bool,
    /// The exception's text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
    /// How long it took.
    pub spent_time_mills: i64,
}

/// Body of QUERY_ASSIGNMENT.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueryAssignment {
    /// The client.
    pub client_id: String,
    /// Its group.
    pub consumer_group: String,
    /// Whether queues are shared out.
    pub message_model: MessageModel,
    /// `AVG`, `AVG_BY_CIRCLE`, …
    pub strategy_name: String,
    /// The topic.
    pub topic: String,
}

/// Answer of QUERY_ASSIGNMENT.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueAssignments {
    /// Queues that the client shall consume.
    pub message_queue_assignments: Vec<QueueAssignment>,
}

/// A queue that a client shall consume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueAssignment {
    /// Nothing known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachments: Option<BTreeMap<String, String>>,
    /// The queue.
    pub message_queue: MessageQueue,
    /// `PULL` or `POP`.
    pub mode: String,
}
