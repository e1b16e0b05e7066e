//! Connected consumers: who is in which group, and what each group wants. Pure; the connections
//! themselves are in [`super::channels`].
//!
//! Kept by every member of the broker group for the consumers that send it heartbeats, which is
//! all of them: consumers send heartbeats to every broker they know.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::net::ConnectionId;
use crate::protocol::bodies::{ConsumeFromWhere, ConsumeType, MessageModel};

use super::members::{Client, Members, Refused};
use super::registered::{Full, Registered};
use super::subscription::Subscription;

/// Most topics of one group's subscription.
pub const TOPICS_PER_GROUP_MAX: usize = 10_000;
/// What a topic of a subscription takes besides what is in it: two places in trees and a tree of
/// its own, for its groups.
const TOPIC_BYTES: usize = 768;

/// How a group consumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// Whether it asks for messages itself.
    pub consume_type: ConsumeType,
    /// Whether queues are shared out among members.
    pub message_model: MessageModel,
    /// Where it starts without stored offsets.
    pub from_where: ConsumeFromWhere,
}

/// One group of a heartbeat.
#[derive(Debug, Clone)]
pub struct Beat {
    /// The group.
    pub group: String,
    /// How it consumes.
    pub style: Style,
    /// What it wants. `None`: unchanged since the last heartbeat.
    pub subscriptions: Option<Vec<Subscription>>,
}

/// What is known of a group with members.
#[derive(Debug, Clone)]
pub struct Wants {
    /// How it consumes, as its last heartbeat said.
    pub style: Style,
    /// What it wants, by topic.
    pub topics: BTreeMap<String, Subscription>,
}

/// What a heartbeat or a departure changed: members of these groups have to be told.
pub type Changed = BTreeSet<String>;

/// Connected consumers.
#[derive(Debug, Default)]
pub struct Consumers {
    members: Members,
    wants: HashMap<String, Wants>,
    /// Groups by the topics that they want: a group with members is listed.
    by_topic: HashMap<String, BTreeSet<String>>,
    /// Fingerprint of the last full heartbeat of each group; 0 of one of version 1.
    fingerprints: HashMap<String, i32>,
    registered: Arc<Registered>,
}

impl Consumers {
    /// No consumers yet; they and what they want are counted in `registered`.
    pub fn new(registered: Arc<Registered>) -> Self {
        let members = Members::new(Arc::clone(&registered));
        Self { members, registered, ..Self::default() }
    }

    /// Notes one group of a heartbeat. Whether its members or topics changed. If not all of it has
    /// room, a client that was no member becomes none, and a topic without room stays as it was.
    pub fn beat(
        &mut self,
        connection: ConnectionId,
        client: Client,
        beat: Beat,
    ) -> Result<bool, Refused> {
        let joined = self.members.enter(&beat.group, connection, client)?;
        let known = self
            .wants
            .entry(beat.group.clone())
            .or_insert_with(|| Wants { style: beat.style, topics: BTreeMap::new() });
        known.style = beat.style;
        let Some(subscriptions) = beat.subscriptions else { return Ok(joined) };
        let changed = replace(known, &beat.group, subscriptions, &self.registered);
        let is_changed = joined || !changed.new.is_empty() || !changed.gone.is_empty();
        for topic in changed.gone {
            self.unlist(&topic, &beat.group);
        }
        for topic in changed.new {
            self.by_topic.entry(topic).or_default().insert(beat.group.clone());
        }
        let Some(full) = changed.refused else { return Ok(is_changed) };
        if joined {
            self.leave(&beat.group, connection);
        }
        Err(full.into())
    }

    /// Takes a client out of a group. Whether it was in it.
    pub fn leave(&mut self, group: &str, connection: ConnectionId) -> bool {
        let left = self.members.leave(group, connection);
        if left {
            self.drop_if_empty(group);
        }
        left
    }

    /// Takes a client out of all its groups.
    pub fn forget(&mut self, connection: ConnectionId) -> Changed {
        let groups = self.members.forget(connection);
        for group in &groups {
            self.drop_if_empty(group);
        }
        groups
    }

    /// Who is in which group.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// What a group with members wants.
    pub fn wants(&self, group: &str) -> Option<&Wants> {
        self.wants.get(group)
    }

    /// Groups with members that want a topic.
    pub fn groups_of(&self, topic: &str) -> impl Iterator<Item = &str> {
        self.by_topic.get(topic).into_iter().flatten().map(String::as_str)
    }

    /// Fingerprint of a group's last full heartbeat, which tells what subscriptions it had.
    pub fn fingerprint(&self, group: &str) -> Option<i32> {
        self.fingerprints.get(group).copied()
    }

    /// Keeps the fingerprint of a full heartbeat, as long as the group has members.
    pub fn keep_fingerprint(&mut self, group: &str, fingerprint: i32) {
        if self.wants.contains_key(group) {
            self.fingerprints.insert(group.to_owned(), fingerprint);
        }
    }

    fn drop_if_empty(&mut self, group: &str) {
        if self.members.has(group) {
            return;
        }
        self.fingerprints.remove(group);
        if let Some(wants) = self.wants.remove(group) {
            for (topic, subscription) in &wants.topics {
                self.unlist(topic, group);
                self.registered.give_back(bytes_of(group, subscription));
            }
        }
    }

    fn unlist(&mut self, topic: &str, group: &str) {
        if let Some(groups) = self.by_topic.get_mut(topic) {
            groups.remove(group);
            if groups.is_empty() {
                self.by_topic.remove(topic);
            }
        }
    }
}

fn bytes_of(group: &str, subscription: &Subscription) -> usize {
    TOPIC_BYTES + group.len() + 2 * subscription.topic.len() + subscription.bytes()
}

/// Topics that came into a subscription and went out of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct TopicChange {
    new: Vec<String>,
    gone: Vec<String>,
    /// Some topics had no room.
    refused: Option<Full>,
}

/// Makes what a group wants what was announced: topics that are not listed go, and one that is
/// known is replaced only by a higher version.
fn replace(
    wants: &mut Wants,
    group: &str,
    announced: Vec<Subscription>,
    registered: &Registered,
) -> TopicChange {
    let (known, mut change) = (&mut wants.topics, TopicChange::default());
    let listed: BTreeSet<String> = announced.iter().map(|sub| sub.topic.clone()).collect();
    known.retain(|topic, subscription| {
        let stays = listed.contains(topic);
        if !stays {
            change.gone.push(topic.clone());
            registered.give_back(bytes_of(group, subscription));
        }
        stays
    });
    for subscription in announced {
        let old = known.get(&subscription.topic);
        let is_newer = old.is_none_or(|old| subscription.version > old.version);
        if !is_newer || (old.is_none() && known.len() >= TOPICS_PER_GROUP_MAX) {
            continue;
        }
        let former = old.map_or(0, |old| bytes_of(group, old));
        if let Err(full) = registered.replace(former, bytes_of(group, &subscription)) {
            change.refused = Some(full);
            continue;
        }
        if old.is_none() {
            change.new.push(subscription.topic.clone());
        }
        known.insert(subscription.topic.clone(), subscription);
    }
    change
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codes::LanguageCode;

    fn client(id: &str) -> Client {
        Client {
            id: id.to_owned(),
            peer: ([127, 0, 0, 1], 5).into(),
            language: LanguageCode::JAVA,
            version: 513,
            seen: crate::clock::now(),
            seen_ms: 0,
        }
    }

    fn beat(group: &str, topics: &[(&str, &str, i64)]) -> Beat {
        let subscription = |&(topic, tags, version): &(&str, &str, i64)| {
            Subscription::new(topic, tags, None, version).unwrap()
        };
        Beat {
            group: group.to_owned(),
            style: Style::default(),
            subscriptions: Some(topics.iter().map(subscription).collect()),
        }
    }

    fn expression(consumers: &Consumers, group: &str, topic: &str) -> Option<String> {
        Some(consumers.wants(group)?.topics.get(topic)?.expression.clone())
    }

    #[test]
    fn a_change_of_members_or_topics_is_reported() {
        let mut consumers = Consumers::default();
        let (a, b) = (ConnectionId(1), ConnectionId(2));
        let rows = [
            (a, beat("g", &[("T", "x", 1)]), true),  // joined
            (a, beat("g", &[("T", "x", 1)]), false), // nothing new
            (b, beat("g", &[("T", "x", 1)]), true),  // another member
            (a, beat("g", &[("T", "y", 2)]), false), // same topics
            (a, beat("g", &[("T", "y", 2), ("U", "*", 1)]), true), // one more
            (a, beat("g", &[("U", "*", 1)]), true),  // one less
            (a, Beat { subscriptions: None, ..beat("g", &[]) }, false),
        ];
        for (row, (connection, beat, want)) in rows.into_iter().enumerate() {
            assert_eq!(consumers.beat(connection, client("c"), beat), Ok(want), "row {row}");
        }
        assert_eq!(expression(&consumers, "g", "T"), None);
        assert_eq!(expression(&consumers, "g", "U").as_deref(), Some("*"), "kept without listing");
    }

    #[test]
    fn only_a_higher_version_replaces_a_subscription() {
        let mut consumers = Consumers::default();
        for (tags, version, want) in [("a", 5, "a"), ("b", 4, "a"), ("c", 5, "a"), ("d", 6, "d")] {
            consumers
                .beat(ConnectionId(1), client("c"), beat("g", &[("T", tags, version)]))
                .unwrap();
            assert_eq!(expression(&consumers, "g", "T").as_deref(), Some(want), "{tags} {version}");
        }
    }

    #[test]
    fn what_consumers_want_is_bounded_and_given_back() {
        let registered = Arc::new(Registered::new(64 * 1024));
        let mut consumers = Consumers::new(Arc::clone(&registered));
        let (a, b, long) = (ConnectionId(1), ConnectionId(2), "tag||".repeat(3000));
        consumers
            .beat(a, client("a"), beat("g", &[("T", "x", 1), ("U", long.as_str(), 1)]))
            .unwrap();
        let (before, topics) = (registered.bytes(), ["A", "B", "C", "D"]);
        let much = topics.map(|topic| (topic, long.as_str(), 1));
        let refused = consumers.beat(b, client("b"), beat("h", &much));
        assert!(matches!(refused, Err(Refused::Full(_))));
        assert!(!consumers.members().knows(b) && consumers.groups_of("A").next().is_none());
        assert_eq!(registered.bytes(), before);
        let [a_too, b_too, c_too, _] = much;
        let more = [("T", "y", 2), ("U", "z", 1), a_too, b_too, c_too];
        assert!(consumers.beat(a, client("a"), beat("g", &more)).is_err());
        assert!(consumers.members().knows(a), "who was a member stays one");
        assert_eq!(expression(&consumers, "g", "T").as_deref(), Some("y"));
        assert_eq!(expression(&consumers, "g", "U"), Some(long), "of the same version");
        consumers.beat(a, client("a"), beat("g", &[("U", "z", 2)])).unwrap();
        assert!(registered.bytes() < before, "what was replaced is given back");
        consumers.forget(a);
        assert_eq!(registered.bytes(), 0);
    }

    #[test]
    fn a_group_without_members_leaves_nothing_behind() {
        let mut consumers = Consumers::default();
        let (a, b) = (ConnectionId(1), ConnectionId(2));
        consumers.beat(a, client("a"), beat("g", &[("T", "*", 1)])).unwrap();
        consumers.beat(b, client("b"), beat("g", &[("T", "*", 1)])).unwrap();
        consumers.beat(b, client("b"), beat("h", &[("T", "*", 1)])).unwrap();
        consumers.keep_fingerprint("g", 7);
        consumers.keep_fingerprint("unknown", 7);
        assert_eq!((consumers.fingerprint("g"), consumers.fingerprint("unknown")), (Some(7), None));
        assert_eq!(consumers.groups_of("T").collect::<Vec<_>>(), ["g", "h"]);
        assert!(consumers.leave("g", a) && !consumers.leave("g", a));
        assert!(consumers.wants("g").is_some());
        assert_eq!(consumers.forget(b), BTreeSet::from(["g".to_owned(), "h".to_owned()]));
        assert!(consumers.wants.is_empty() && consumers.by_topic.is_empty());
        assert!(consumers.fingerprints.is_empty());
    }
}
