//! Where a topic's queues are.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{NumericKeys, encode_with};

/// Answer of GET_ROUTEINFO_BY_TOPIC.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicRouteData {
    /// The broker groups.
    pub broker_datas: Vec<BrokerData>,
    /// Filter servers by broker address; always empty.
    pub filter_server_table: BTreeMap<String, Vec<String>>,
    /// `broker:queues;broker:queues` of a globally ordered topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_topic_conf: Option<String>,
    /// Queues per broker group.
    pub queue_datas: Vec<QueueData>,
    /// Static topics; nobody here has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_queue_mapping_by_broker: Option<BTreeMap<String, serde_json::Value>>,
}

impl TopicRouteData {
    /// The body, for a client that wants broker ids quoted or bare.
    pub fn to_json(&self, numeric: NumericKeys) -> Bytes {
        encode_with(self, numeric)
    }
}

/// A broker group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerData {
    /// Addresses by broker id; 0 takes writes.
    pub broker_addrs: BTreeMap<u64, String>,
    /// Name of the group.
    pub broker_name: String,
    /// Cluster it belongs to.
    pub cluster: String,
    /// Whether another member may stand in for a missing id 0.
    pub enable_acting_master: bool,
    /// Availability zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone_name: Option<String>,
}

/// A topic's queues on one broker group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueData {
    /// Name of the group.
    pub broker_name: String,
    /// Bits of [`crate::protocol::perm`].
    pub perm: u32,
    /// Queues that consumers see.
    pub read_queue_nums: u32,
    /// See [`super::TopicConfig::topic_sys_flag`].
    pub topic_sys_flag: i32,
    /// Queues that producers see.
    pub write_queue_nums: u32,
}
