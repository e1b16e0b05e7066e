//! What each consumer group has done with a message.

use std::fmt;

use serde::Serialize;

use crate::{
    admin::{
        client::AdminClient,
        commands::{consumer, message::shown::Shown},
        error::Error,
    },
    protocol::{
        bodies::{BrokerData, ConsumeType, ConsumerConnection, MessageModel, SubscriptionData},
        message::properties::names as property,
    },
};

/// A consumer group and a message.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Track {
    consumer_group: String,
    /// As Java's `TrackType` is called.
    track_type: &'static str,
    exception_desc: Option<String>,
}

impl fmt::Display for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { consumer_group, track_type, exception_desc } = self;
        let exception = exception_desc.as_deref().unwrap_or("null");
        write!(
            f,
            "MessageTrack [consumerGroup={consumer_group}, trackType={track_type}, \
             exceptionDesc={exception}]"
        )
    }
}

/// A track for each group that consumes the message's topic.
pub(super) async fn tracks(admin: &AdminClient, message: &Shown) -> Result<Vec<Track>, Error> {
    let route = admin.route(&message.topic).await?;
    let mut groups = std::collections::BTreeSet::new();
    for broker in &route.broker_datas {
        groups.extend(admin.groups_of_topic(broker, &message.topic).await?.answer.group_list);
    }
    let mut tracks = Vec::new();
    for group in groups {
        let (track_type, exception_desc) = track(admin, &route.broker_datas, &group, message).await;
        tracks.push(Track { consumer_group: group, track_type, exception_desc });
    }
    Ok(tracks)
}

async fn track(
    admin: &AdminClient,
    brokers: &[BrokerData],
    group: &str,
    message: &Shown,
) -> (&'static str, Option<String>) {
    let members = match consumer::members_of(admin, brokers, group).await {
        Ok(members) => members.map(|(_, members)| members),
        Err(error) => return ("UNKNOWN", Some(error.to_string())),
    };
    if let Some(kind) = members.as_ref().and_then(without_offsets) {
        return (kind, None);
    }
    let (progress, _) = consumer::progress_of(admin, brokers, group, Some(&message.topic)).await;
    let id = (message.broker_name.as_str(), message.queue_id.cast_signed());
    let offset = progress.offset_of(&message.topic, id.0, id.1);
    let consumed = offset
        .is_some_and(|offset| offset > i64::try_from(message.queue_offset).unwrap_or(i64::MAX));
    let subscription = members.as_ref().and_then(|m| m.subscription_table.get(&message.topic));
    match (consumed, members.is_some()) {
        (true, _) if subscription.is_some_and(|s| is_filtered(s, message)) => {
            ("CONSUMED_BUT_FILTERED", None)
        }
        (true, _) => ("CONSUMED", None),
        (false, true) => ("NOT_CONSUME_YET", None),
        (false, false) => ("NOT_ONLINE", None),
    }
}

/// Groups whose offsets say nothing.
fn without_offsets(members: &ConsumerConnection) -> Option<&'static str> {
    match (members.consume_type, members.message_model) {
        (ConsumeType::Actively, _) => Some("PULL"),
        (_, MessageModel::Broadcasting) => Some("CONSUME_BROADCASTING"),
        _ => None,
    }
}

/// Whether the subscription lists tags, and not that of the message.
fn is_filtered(subscription: &SubscriptionData, message: &Shown) -> bool {
    let tags = &subscription.tags_set;
    let tag = message.properties.get(property::TAGS).map_or("", String::as_str);
    subscription.is_tag() && !tags.is_empty() && !tags.contains(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_track_is_printed_as_java_prints_it() {
        let track =
            Track { consumer_group: "g".to_owned(), track_type: "CONSUMED", exception_desc: None };
        let want = "MessageTrack [consumerGroup=g, trackType=CONSUMED, exceptionDesc=null]";
        assert_eq!(track.to_string(), want);
    }

    #[test]
    fn groups_that_pull_or_broadcast_have_no_offsets_that_count() {
        let members = |consume_type, message_model| {
            let members =
                ConsumerConnection { consume_type, message_model, ..ConsumerConnection::default() };
            without_offsets(&members)
        };
        assert_eq!(members(ConsumeType::Actively, MessageModel::Clustering), Some("PULL"));
        let broadcast = members(ConsumeType::Passively, MessageModel::Broadcasting);
        assert_eq!(broadcast, Some("CONSUME_BROADCASTING"));
        assert_eq!(members(ConsumeType::Passively, MessageModel::Clustering), None);
    }
}
