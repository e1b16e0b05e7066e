//! Consumer groups.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::DataVersion;

/// Configuration of a consumer group. Defaults are Java's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionGroupConfig {
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
    /// Broker id that serves pulls normally.
    pub broker_id: u64,
    /// Whether members may broadcast.
    pub consume_broadcast_enable: bool,
    /// Whether anybody may consume.
    pub consume_enable: bool,
    /// Whether a new group may start at the smallest offset.
    pub consume_from_min_enable: bool,
    /// Whether messages are consumed in order.
    pub consume_message_orderly: bool,
    /// Minutes after which a message that is being consumed is given back.
    pub consume_timeout_minute: i32,
    /// Name.
    pub group_name: String,
    /// Delays between retries.
    pub group_retry_policy: GroupRetryPolicy,
    /// Bits as for topics.
    pub group_sys_flag: i32,
    /// Whether members are told when members come and go.
    pub notify_consumer_ids_changed_enable: bool,
    /// Retries before a message becomes a dead letter.
    pub retry_max_times: i32,
    /// Queues of the retry topic.
    pub retry_queue_nums: i32,
    /// Subscriptions that are part of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data_set: Option<BTreeSet<SimpleSubscriptionData>>,
    /// Broker id that serves pulls when consumers lag.
    pub which_broker_when_consume_slowly: u64,
}

impl Default for SubscriptionGroupConfig {
    fn default() -> Self {
        Self {
            attributes: BTreeMap::new(),
            broker_id: 0,
            consume_broadcast_enable: true,
            consume_enable: true,
            consume_from_min_enable: true,
            consume_message_orderly: false,
            consume_timeout_minute: 15,
            group_name: String::new(),
            group_retry_policy: GroupRetryPolicy::default(),
            group_sys_flag: 0,
            notify_consumer_ids_changed_enable: true,
            retry_max_times: 16,
            retry_queue_nums: 1,
            subscription_data_set: None,
            which_broker_when_consume_slowly: 1,
        }
    }
}

impl SubscriptionGroupConfig {
    /// A group with Java's defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self { group_name: name.into(), ..Self::default() }
    }
}

/// Delays between retries. The policies themselves are carried as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupRetryPolicy {
    /// `{"next":[milliseconds…]}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customized_retry_policy: Option<serde_json::Value>,
    /// `{"initial","max","multiplier"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exponential_retry_policy: Option<serde_json::Value>,
    /// `CUSTOMIZED` or `EXPONENTIAL`.
    #[serde(rename = "type")]
    pub kind: String,
}

impl Default for GroupRetryPolicy {
    fn default() -> Self {
        Self {
            customized_retry_policy: None,
            exponential_retry_policy: None,
            kind: "CUSTOMIZED".to_owned(),
        }
    }
}

/// A subscription inside a group's configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SimpleSubscriptionData {
    /// The expression.
    pub expression: String,
    /// `TAG` or `SQL92`.
    pub expression_type: String,
    /// The topic.
    pub topic: String,
    /// The higher one counts.
    pub version: i64,
}

/// Answer of GET_ALL_SUBSCRIPTIONGROUP_CONFIG.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionGroupTable {
    /// Version of the groups.
    pub data_version: DataVersion,
    /// Forbidden topics by group, bit sets.
    pub forbidden_table: BTreeMap<String, BTreeMap<String, i32>>,
    /// Groups by name.
    pub subscription_group_table: BTreeMap<String, SubscriptionGroupConfig>,
}

/// Body of UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupConfigList {
    /// The groups.
    pub group_config_list: Vec<SubscriptionGroupConfig>,
}

/// Answer of QUERY_TOPIC_CONSUME_BY_WHO.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupList {
    /// Names of groups.
    pub group_list: BTreeSet<String>,
}

/// Answer of UPDATE_AND_GET_GROUP_FORBIDDEN.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupForbidden {
    /// The group.
    pub group: String,
    /// Whether it may read the topic.
    pub readable: bool,
    /// The topic.
    pub topic: String,
}
