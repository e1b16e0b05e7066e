//! What clients tell brokers about themselves.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize};

/// Body of HEART_BEAT.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeartbeatData {
    /// `ip@process` or what the user chose.
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// Consumer groups the client is in.
    pub consumer_data_set: Vec<ConsumerData>,
    /// Hash of the client's subscriptions; 0 means version 1 of the heartbeat.
    pub heartbeat_fingerprint: i32,
    /// Producer groups the client is in.
    pub producer_data_set: Vec<ProducerData>,
    /// Version 2: subscriptions are left out because they did not change.
    pub without_sub: bool,
}

/// A producer group of a client.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerData {
    /// Name of the group.
    pub group_name: String,
}

/// A consumer group of a client.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerData {
    /// Where a group without offsets starts.
    pub consume_from_where: ConsumeFromWhere,
    /// How it consumes.
    pub consume_type: ConsumeType,
    /// Name of the group.
    pub group_name: String,
    /// Whether queues are shared out among members.
    pub message_model: MessageModel,
    /// What it wants of which topic.
    pub subscription_data_set: Vec<SubscriptionData>,
    /// Whether it belongs to a unit.
    pub unit_mode: bool,
}

/// What a consumer group wants of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionData {
    /// Obsolete.
    pub class_filter_mode: bool,
    /// Java hashes of the tags. Go sends them as strings.
    #[serde(deserialize_with = "numbers_or_their_text")]
    pub code_set: BTreeSet<i32>,
    /// `TAG` or `SQL92`.
    pub expression_type: String,
    /// The expression; `*` or nothing is everything.
    pub sub_string: String,
    /// The higher one counts. Java: milliseconds, Go: nanoseconds.
    pub sub_version: i64,
    /// The tags.
    pub tags_set: BTreeSet<String>,
    /// The topic.
    pub topic: String,
}

impl Default for SubscriptionData {
    fn default() -> Self {
        Self {
            class_filter_mode: false,
            code_set: BTreeSet::new(),
            expression_type: SubscriptionData::TAG.to_owned(),
            sub_string: String::new(),
            sub_version: 0,
            tags_set: BTreeSet::new(),
            topic: String::new(),
        }
    }
}

impl SubscriptionData {
    /// Type of expressions that list tags.
    pub const TAG: &'static str = "TAG";
    /// Type of expressions over properties.
    pub const SQL92: &'static str = "SQL92";
    /// The expression that matches everything.
    pub const ALL: &'static str = "*";

    /// The subscription to `topic` that a list of tags, `A || B`, stands for. Never fails: what is
    /// not a tag matches nothing, as in Java.
    pub fn of_tags(topic: &str, expression: &str) -> Self {
        let mut subscription = Self { topic: topic.to_owned(), ..Self::default() };
        if matches!(expression.trim(), "" | Self::ALL) {
            subscription.sub_string = Self::ALL.to_owned();
            return subscription;
        }
        subscription.sub_string = expression.to_owned();
        for tag in expression.split("||").map(str::trim).filter(|tag| !tag.is_empty()) {
            subscription.code_set.insert(crate::protocol::message::key::java_hash(tag));
            subscription.tags_set.insert(tag.to_owned());
        }
        subscription
    }

    /// Whether the expression lists tags.
    pub fn is_tag(&self) -> bool {
        self.expression_type.is_empty() || self.expression_type == Self::TAG
    }
}

/// How a group consumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ConsumeType {
    /// It asks for messages itself.
    #[serde(rename = "CONSUME_ACTIVELY")]
    Actively,
    /// Its client library pulls and calls it.
    #[default]
    #[serde(rename = "CONSUME_PASSIVELY")]
    Passively,
    /// POP.
    #[serde(rename = "CONSUME_POP")]
    Pop,
}

/// Who gets a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MessageModel {
    /// Every member.
    #[serde(rename = "BROADCASTING")]
    Broadcasting,
    /// One member.
    #[default]
    #[serde(rename = "CLUSTERING")]
    Clustering,
    /// One member, lite topics.
    #[serde(rename = "LITE_SELECTIVE")]
    LiteSelective,
}

/// Where a group without offsets starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ConsumeFromWhere {
    /// At the end.
    #[default]
    #[serde(
        rename = "CONSUME_FROM_LAST_OFFSET",
        alias = "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
        alias = "CONSUME_FROM_MIN_OFFSET",
        alias = "CONSUME_FROM_MAX_OFFSET"
    )]
    LastOffset,
    /// At the start.
    #[serde(rename = "CONSUME_FROM_FIRST_OFFSET")]
    FirstOffset,
    /// At a time.
    #[serde(rename = "CONSUME_FROM_TIMESTAMP")]
    Timestamp,
}

fn numbers_or_their_text<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<i32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Plain(i32),
        Text(String),
    }
    let numbers: Vec<Number> = Vec::deserialize(from)?;
    let number = |number| match number {
        Number::Plain(number) => Ok(number),
        Number::Text(text) => text.parse().map_err(serde::de::Error::custom),
    };
    numbers.into_iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_expressions_become_sets() {
        let rows: [(&str, &[&str]); 5] = [
            ("*", &[]),
            ("", &[]),
            ("TagA", &["TagA"]),
            ("TagB || TagA||TagB", &["TagA", "TagB"]),
            ("||", &[]),
        ];
        for (expression, want) in rows {
            let got = SubscriptionData::of_tags("T", expression);
            assert_eq!(got.tags_set.iter().collect::<Vec<_>>(), want, "{expression}");
            assert_eq!(got.code_set.len(), want.len(), "{expression}");
        }
    }
}
