//! Statistics of topics, groups and brokers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{MessageQueue, QueueKey, SubscriptionData};

/// Answer of GET_TOPIC_STATS_INFO.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicStatsTable {
    /// Bounds by queue.
    pub offset_table: BTreeMap<QueueKey, TopicOffset>,
    /// Messages per second.
    pub topic_put_tps: f64,
}

/// Bounds of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicOffset {
    /// Store time of its last message; 0 without one.
    pub last_update_timestamp: i64,
    /// The next offset to be written.
    pub max_offset: i64,
    /// The smallest offset there is.
    pub min_offset: i64,
}

/// Answer of GET_CONSUME_STATS.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeStats {
    /// Messages per second.
    pub consume_tps: f64,
    /// Progress by queue.
    pub offset_table: BTreeMap<QueueKey, OffsetWrapper>,
}

/// A group's progress in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OffsetWrapper {
    /// The next offset to be written.
    pub broker_offset: i64,
    /// The group's offset.
    pub consumer_offset: i64,
    /// Store time of the last consumed message.
    pub last_timestamp: i64,
    /// The offset of the last pull.
    pub pull_offset: i64,
}

/// Answer of GET_BROKER_CONSUME_STATS.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeStatsList {
    /// Who answers.
    pub broker_addr: String,
    /// One map of one entry per group.
    pub consume_stats_list: Vec<BTreeMap<String, Vec<ConsumeStats>>>,
    /// Messages that wait, all groups.
    pub total_diff: i64,
    /// Messages that are being consumed, all groups.
    pub total_inflight_diff: i64,
}

/// Answer of VIEW_BROKER_STATS_DATA.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerStatsData {
    /// The last day.
    pub stats_day: BrokerStatsItem,
    /// The last hour.
    pub stats_hour: BrokerStatsItem,
    /// The last minute.
    pub stats_minute: BrokerStatsItem,
}

/// One window of a statistic.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BrokerStatsItem {
    /// Sum per call.
    pub avgpt: f64,
    /// What was counted.
    pub sum: i64,
    /// Sum per second.
    pub tps: f64,
}

/// Answer of QUERY_CONSUME_TIME_SPAN.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeTimeSpans {
    /// One per queue.
    pub consume_time_span_set: Vec<QueueTimeSpan>,
}

/// Store times of a queue's messages. Milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueTimeSpan {
    /// Of the last consumed one.
    pub consume_time_stamp: i64,
    /// The same as `yyyy-MM-dd#HH:mm:ss:SSS`.
    pub consume_time_stamp_str: String,
    /// How long the next one has been waiting.
    pub delay_time: i64,
    /// Of the last one.
    pub max_time_stamp: i64,
    /// The same as text.
    pub max_time_stamp_str: String,
    /// The queue.
    pub message_queue: MessageQueue,
    /// Of the first one.
    pub min_time_stamp: i64,
    /// The same as text.
    pub min_time_stamp_str: String,
}

/// Answer of QUERY_CONSUME_QUEUE.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeQueueBody {
    /// Stored filter data of the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_data: Option<String>,
    /// The next offset to be written.
    pub max_queue_index: i64,
    /// The smallest offset there is.
    pub min_queue_index: i64,
    /// The units asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_data: Option<Vec<ConsumeQueueUnit>>,
    /// What the group wants of the topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data: Option<SubscriptionData>,
}

/// One unit of a ConsumeQueue.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeQueueUnit {
    /// Bloom filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bit_map: Option<String>,
    /// Whether the group's filter lets it through.
    pub eval: bool,
    /// Extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extend_data_json: Option<String>,
    /// Why it cannot be judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub msg: Option<String>,
    /// Position of the record.
    pub physic_offset: i64,
    /// Length of the record.
    pub physic_size: i32,
    /// Hash of the tag.
    pub tags_code: i64,
}
