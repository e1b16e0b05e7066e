//! Clients that are connected.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ConsumeFromWhere, ConsumeType, MessageModel, SubscriptionData};

/// A connected client.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Connection {
    /// `ip:port`.
    pub client_addr: String,
    /// As in its heartbeat.
    pub client_id: String,
    /// Name of [`crate::protocol::codes::LanguageCode`].
    pub language: String,
    /// See [`crate::protocol::version`].
    pub version: i32,
}

/// Answer of GET_CONSUMER_CONNECTION_LIST.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerConnection {
    /// Members of the group.
    pub connection_set: Vec<Connection>,
    /// As in their heartbeats.
    pub consume_from_where: ConsumeFromWhere,
    /// As in their heartbeats.
    pub consume_type: ConsumeType,
    /// As in their heartbeats.
    pub message_model: MessageModel,
    /// Subscriptions by topic.
    pub subscription_table: BTreeMap<String, SubscriptionData>,
}

/// Answer of GET_PRODUCER_CONNECTION_LIST.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerConnection {
    /// Members of the group.
    pub connection_set: Vec<Connection>,
}

/// Answer of GET_ALL_PRODUCER_INFO.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProducerTable {
    /// Producers by group.
    pub data: BTreeMap<String, Vec<ProducerInfo>>,
}

/// A connected producer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerInfo {
    /// As in its heartbeat.
    pub client_id: String,
    /// Name of [`crate::protocol::codes::LanguageCode`].
    pub language: String,
    /// Last heartbeat. Milliseconds.
    pub last_update_timestamp: i64,
    /// `/ip:port`.
    #[serde(rename = "remoteIP")]
    pub remote_ip: String,
    /// See [`crate::protocol::version`].
    pub version: i32,
}
