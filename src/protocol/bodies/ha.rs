//! Replication as `haStatus` shows it.

use serde::{Deserialize, Serialize};

/// Answer of GET_BROKER_HA_STATUS.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HaRuntimeInfo {
    /// Of a follower: its own view.
    pub ha_client_runtime_info: HaClientRuntimeInfo,
    /// Of the leader: its followers.
    pub ha_connection_info: Vec<HaConnectionRuntimeInfo>,
    /// Followers that keep up.
    pub in_sync_slave_nums: i32,
    /// Whether this is the leader.
    pub master: bool,
    /// End of the leader's log.
    pub master_commit_log_max_offset: i64,
}

/// A follower's view.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HaClientRuntimeInfo {
    /// Milliseconds.
    pub last_read_timestamp: i64,
    /// Milliseconds.
    pub last_write_timestamp: i64,
    /// The leader's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_addr: Option<String>,
    /// What the leader has on disk.
    pub master_flush_offset: i64,
    /// End of this log.
    pub max_offset: i64,
    /// Bytes per second.
    pub transferred_byte_in_second: i64,
}

/// A follower as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HaConnectionRuntimeInfo {
    /// `ip:port`.
    pub addr: String,
    /// Bytes it is behind.
    pub diff: i64,
    /// Whether it keeps up.
    pub in_sync: bool,
    /// What it has.
    pub slave_ack_offset: i64,
    /// Where it is read from.
    pub transfer_from_where: i64,
    /// Bytes per second.
    pub transferred_byte_in_second: i64,
}
