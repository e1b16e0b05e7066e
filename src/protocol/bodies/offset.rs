//! Tables of offsets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DataVersion, QueueKey};

/// Answer of GET_ALL_CONSUMER_OFFSET. Java's `groupTopicMap` and `pullOffsetTable` are left out:
/// Java followers fail on the second.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerOffsetTable {
    /// Version of the table.
    pub data_version: DataVersion,
    /// `topic@group` → queue id → offset.
    pub offset_table: BTreeMap<String, BTreeMap<i32, i64>>,
}

/// Answer of GET_ALL_DELAY_OFFSET.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DelayOffsetTable {
    /// Version of the table.
    pub data_version: DataVersion,
    /// Delay level → offset.
    pub offset_table: BTreeMap<i32, i64>,
}

/// Offsets by queue: answer of INVOKE_BROKER_TO_RESET_OFFSET, body of
/// RESET_CONSUMER_CLIENT_OFFSET.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueOffsets {
    /// The offsets.
    pub offset_table: BTreeMap<QueueKey, i64>,
}

/// Answer of GET_CONSUMER_STATUS_FROM_CLIENT and INVOKE_BROKER_TO_GET_CONSUMER_STATUS.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerStatusTable {
    /// Client id → queue → offset.
    pub consumer_table: BTreeMap<String, BTreeMap<QueueKey, i64>>,
    /// Queue → offset, of the one client that answered.
    pub message_queue_table: BTreeMap<QueueKey, i64>,
}

/// Answer of QUERY_CORRECTION_OFFSET.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CorrectionOffsets {
    /// Queue id → offset.
    pub correction_offsets: BTreeMap<i32, i64>,
}
