//! Topics: their configuration, lists of them, and what a broker registers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Version of a table. Two are equal when all three numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataVersion {
    /// Counts changes.
    pub counter: i64,
    /// Term of the leader that made the change: an older one never replaces a newer one.
    pub state_version: i64,
    /// When it was changed. Milliseconds.
    pub timestamp: i64,
}

/// Configuration of a topic on one broker group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicConfig {
    /// Attributes, such as `message.type`.
    pub attributes: BTreeMap<String, String>,
    /// Whether its messages are ordered over the whole topic.
    pub order: bool,
    /// Bits of [`crate::protocol::perm`].
    pub perm: u32,
    /// Queues that consumers see.
    pub read_queue_nums: u32,
    /// `SINGLE_TAG` or `MULTI_TAG`.
    pub topic_filter_type: String,
    /// Name; absent where it is the key of a table.
    pub topic_name: String,
    /// Bit 0: unit topic, bit 1: has unit subscriptions.
    pub topic_sys_flag: i32,
    /// Queues that producers see.
    pub write_queue_nums: u32,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            attributes: BTreeMap::new(),
            order: false,
            perm: crate::protocol::perm::READ | crate::protocol::perm::WRITE,
            read_queue_nums: 16,
            topic_filter_type: "SINGLE_TAG".to_owned(),
            topic_name: String::new(),
            topic_sys_flag: 0,
            write_queue_nums: 16,
        }
    }
}

impl TopicConfig {
    /// A readable and writable topic.
    pub fn new(name: impl Into<String>, queues: u32) -> Self {
        Self {
            topic_name: name.into(),
            read_queue_nums: queues,
            write_queue_nums: queues,
            ..Self::default()
        }
    }
}

/// Body of UPDATE_AND_CREATE_TOPIC_LIST.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicConfigList {
    /// The topics.
    pub topic_config_list: Vec<TopicConfig>,
}

/// All topics of a broker: answer of GET_ALL_TOPIC_CONFIG, part of a registration. The two maps
/// of static topics, which we do not have, are always empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicConfigTable {
    /// Version of the topics.
    pub data_version: DataVersion,
    /// Version of the static topics.
    pub mapping_data_version: DataVersion,
    /// Topics by name.
    pub topic_config_table: BTreeMap<String, TopicConfig>,
    /// Static topics hosted here.
    pub topic_queue_mapping_detail_map: BTreeMap<String, serde_json::Value>,
    /// Static topics known here.
    pub topic_queue_mapping_info_map: BTreeMap<String, serde_json::Value>,
}

/// Body of REGISTER_BROKER.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegisterBrokerBody {
    /// Filter servers; always empty.
    pub filter_server_list: Vec<String>,
    /// The broker's topics.
    pub topic_config_serialize_wrapper: TopicConfigTable,
}

/// Names of topics.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicList {
    /// Some broker's address, where that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_addr: Option<String>,
    /// The names.
    pub topic_list: Vec<String>,
}
