//! The replicated tables: topics, consumer groups, consumer offsets, queue locks, settings.
//!
//! Pure: [`Tables::apply`] turns one table into the next. The maps are persistent, so a clone for
//! readers, a checkpoint or a snapshot shares its structure with the original and costs a few
//! reference counts, whatever the size.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bincode::{Decode, Encode};
use rpds::RedBlackTreeMapSync;

use crate::ids::Term;
use crate::raft::codec::Stored;
use crate::raft::command::{Command, Group, OffsetCommit, Outcome, Topic};
use crate::raft::locks::{Locks, StoredLocks, Taken};
use crate::raft::version::GroupVersion;

/// Counts changes of a table; sent to name servers and tools as `DataVersion`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Version {
    /// Changes so far.
    pub counter: u64,
    /// Wall clock of the last change, ms.
    pub at_ms: i64,
}

impl Version {
    fn bump(&mut self, at_ms: i64) {
        self.counter += 1;
        self.at_ms = at_ms;
    }
}

type Map<V> = RedBlackTreeMapSync<Arc<str>, V>;
/// All topics by name, as of some moment: a clone costs nothing.
pub type Topics = Map<Arc<Topic>>;
/// Offsets of one group in one topic, by queue id.
pub type QueueOffsets = Arc<BTreeMap<u32, u64>>;

/// All replicated state that is not a message. Equal on all members at the same applied index.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tables {
    topics: Topics,
    topics_version: Version,
    groups: Map<Arc<Group>>,
    groups_version: Version,
    offsets: Map<Map<QueueOffsets>>,
    offsets_version: Version,
    /// Offsets that were reset and whose groups have not been told yet.
    resets: Map<Map<QueueOffsets>>,
    locks: Locks,
    settings: Map<Arc<str>>,
    settings_version: Version,
    active: GroupVersion,
}

impl Tables {
    /// The version that the group writes.
    pub fn active(&self) -> GroupVersion {
        self.active
    }

    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// The same, to be kept.
    pub fn all_topics(&self) -> Topics {
        self.topics.clone()
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.topics.size()
    }

    /// The topic's name as it is shared by everyone who stores it.
    pub fn topic_name(&self, name: &str) -> Option<Arc<str>> {
        self.topics.get_key_value(name).map(|(key, _)| Arc::clone(key))
    }

    /// Version of the topics.
    pub fn topics_version(&self) -> Version {
        self.topics_version
    }

    /// The consumer group of that name.
    pub fn group(&self, name: &str) -> Option<&Arc<Group>> {
        self.groups.get(name)
    }

    /// All consumer groups, by name.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.values()
    }

    /// How many consumer groups there are.
    pub fn group_count(&self) -> usize {
        self.groups.size()
    }

    /// Version of the groups.
    pub fn groups_version(&self) -> Version {
        self.groups_version
    }

    /// The stored offset of a group in a queue.
    pub fn offset(&self, group: &str, topic: &str, queue_id: u32) -> Option<u64> {
        self.offsets.get(group)?.get(topic)?.get(&queue_id).copied()
    }

    /// The offset that an operator reset a queue to, until the group has been told.
    pub fn reset(&self, group: &str, topic: &str, queue_id: u32) -> Option<u64> {
        self.resets.get(group)?.get(topic)?.get(&queue_id).copied()
    }

    /// Offsets of a group, by topic.
    pub fn offsets_of(&self, group: &str) -> impl Iterator<Item = (&Arc<str>, &QueueOffsets)> {
        self.offsets.get(group).into_iter().flat_map(|topics| topics.iter())
    }

    /// All stored offsets: group, topic, offsets by queue.
    pub fn offsets(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, &QueueOffsets)> {
        self.offsets.iter().flat_map(|(group, topics)| {
            topics.iter().map(move |(topic, queues)| (group, topic, queues))
        })
    }

    /// Version of the offsets.
    pub fn offsets_version(&self) -> Version {
        self.offsets_version
    }

    /// Whether a client holds any queue for a group, as of orderly groups, when the leader of a
    /// term counts so many ms. Before its first commands locks are as old as the former one's last
    /// found them ([`Self::go_by`]).
    pub fn holds_locks(&self, group: &str, now: Option<(Term, i64)>) -> bool {
        let counted = now.filter(|(term, _)| *term == self.locks.term());
        let now_ms = counted.map_or_else(|| self.last_ms(), |(_, now_ms)| now_ms);
        self.locks.has_of(group, now_ms)
    }

    /// The latest time that a command left here, ms; 0 if none did.
    pub(super) fn changed_ms(&self) -> i64 {
        self.last_ms().max(self.locks.changed_ms())
    }

    /// The same, but for locks.
    fn last_ms(&self) -> i64 {
        let (topics, groups) = (self.topics_version, self.groups_version);
        let versions = [topics, groups, self.offsets_version, self.settings_version];
        versions.iter().map(|version| version.at_ms).fold(0, i64::max)
    }

    /// Settings changed over the network: key, value.
    pub fn settings(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.settings.iter()
    }

    /// Version of the settings.
    pub fn settings_version(&self) -> Version {
        self.settings_version
    }

    /// What follows was proposed by the leader of `term` at `at_ms`, by its clock: that is what
    /// locks grow old by.
    pub fn go_by(&mut self, term: Term, at_ms: i64) {
        self.locks.go_by(term, at_ms);
    }

    /// Applies one command of an entry proposed at `at_ms`.
    pub fn apply(&mut self, command: Command, at_ms: i64) -> Outcome {
        match command {
            Command::PutTopic(topic) => self.put_topic(topic, at_ms),
            Command::EnsureTopic(topic) => {
                if !self.topics.contains_key(topic.name.as_str()) {
                    self.put_topic(topic, at_ms);
                }
            }
            Command::ChangeTopic { topic, removed } => self.change_topic(topic, &removed, at_ms),
            Command::OrderTopic { topic, order } => self.order_topic(&topic, order, at_ms),
            Command::Passed(_) => {}
            Command::Activate { version, term } => self.activate(GroupVersion(version), Term(term)),
            Command::DeleteTopic { topic } => self.delete_topic(&topic, at_ms),
            Command::PutGroup(group) => self.put_group(group, at_ms),
            Command::EnsureGroup(group) => {
                if !self.groups.contains_key(group.name.as_str()) {
                    self.put_group(group, at_ms);
                }
            }
            Command::DeleteGroup { group, clean_offsets } => {
                self.delete_group(&group, clean_offsets, at_ms);
            }
            Command::CommitOffsets(commits) => self.commit_offsets(commits, at_ms),
            Command::ResetOffsets(commits) => self.reset_offsets(commits, at_ms),
            Command::TakeReset(taken) => self.take_reset(&taken),
            Command::LockQueues { group, client, queues } => {
                let Taken { queues, no_room } = self.locks.take(&group, &client, queues, at_ms);
                return Outcome::Locked { queues, no_room };
            }
            Command::UnlockQueues { group, client, queues } => {
                self.locks.release(&group, &client, queues);
            }
            Command::PutSetting { key, value } => {
                self.settings.insert_mut(key.into(), value.into());
                self.settings_version.bump(at_ms);
            }
        }
        Outcome::Done
    }

    fn activate(&mut self, version: GroupVersion, term: Term) {
        if term == self.locks.term() {
            self.active = self.active.max(version);
        }
    }

    fn put_topic(&mut self, topic: Topic, at_ms: i64) {
        let name = self.topic_name(&topic.name).unwrap_or_else(|| topic.name.as_str().into());
        self.topics.insert_mut(name, Arc::new(topic));
        self.topics_version.bump(at_ms);
    }

    fn change_topic(&mut self, topic: Topic, removed: &BTreeSet<String>, at_ms: i64) {
        let old = self.topic(&topic.name).map(|old| old.attributes.clone());
        let mut attributes = old.unwrap_or_default();
        attributes.retain(|name, _| !removed.contains(name));
        attributes.extend(topic.attributes);
        self.put_topic(Topic { attributes, ..topic }, at_ms);
    }

    fn order_topic(&mut self, topic: &str, order: bool, at_ms: i64) {
        let Some(old) = self.topic(topic).filter(|old| old.order != order) else { return };
        let ordered = Topic { order, ..Topic::clone(old) };
        self.put_topic(ordered, at_ms);
    }

    fn delete_topic(&mut self, topic: &str, at_ms: i64) {
        if self.topics.remove_mut(topic) {
            self.topics_version.bump(at_ms);
        }
        let holders: Vec<Arc<str>> = self
            .offsets
            .iter()
            .filter(|(_, topics)| topics.contains_key(topic))
            .map(|(group, _)| Arc::clone(group))
            .collect();
        for group in holders {
            if let Some(topics) = self.resets.get_mut(&group) {
                topics.remove_mut(topic);
            }
            let Some(topics) = self.offsets.get_mut(&group) else { continue };
            topics.remove_mut(topic);
            if topics.is_empty() {
                self.offsets.remove_mut(&group);
            }
            self.offsets_version.bump(at_ms);
        }
    }

    fn put_group(&mut self, group: Group, at_ms: i64) {
        self.groups.insert_mut(group.name.as_str().into(), Arc::new(group));
        self.groups_version.bump(at_ms);
    }

    fn delete_group(&mut self, group: &str, clean_offsets: bool, at_ms: i64) {
        if self.groups.remove_mut(group) {
            self.groups_version.bump(at_ms);
        }
        self.locks.remove_group(group);
        self.resets.remove_mut(group);
        if clean_offsets && self.offsets.remove_mut(group) {
            self.offsets_version.bump(at_ms);
        }
    }

    fn commit_offsets(&mut self, commits: Vec<OffsetCommit>, at_ms: i64) {
        for commit in commits {
            if self.reset(&commit.group, &commit.topic, commit.queue_id).is_none() {
                put_offset(&mut self.offsets, &commit);
            }
        }
        self.offsets_version.bump(at_ms);
    }

    fn reset_offsets(&mut self, commits: Vec<OffsetCommit>, at_ms: i64) {
        for commit in commits {
            put_offset(&mut self.offsets, &commit);
            put_offset(&mut self.resets, &commit);
        }
        self.offsets_version.bump(at_ms);
    }

    fn take_reset(&mut self, taken: &OffsetCommit) {
        if self.reset(&taken.group, &taken.topic, taken.queue_id) != Some(taken.offset) {
            return; // another reset came meanwhile
        }
        let Some(topics) = self.resets.get_mut(taken.group.as_str()) else { return };
        let Some(queues) = topics.get_mut(taken.topic.as_str()) else { return };
        Arc::make_mut(queues).remove(&taken.queue_id);
        if queues.is_empty() {
            topics.remove_mut(taken.topic.as_str());
        }
        if topics.is_empty() {
            self.resets.remove_mut(taken.group.as_str());
        }
    }

    /// The form that checkpoints and snapshots store, beside the active version.
    pub fn to_stored(&self) -> StoredTables {
        StoredTables {
            topics: self.topics.values().map(|topic| (**topic).clone()).collect(),
            topics_version: self.topics_version,
            groups: self.groups.values().map(|group| (**group).clone()).collect(),
            groups_version: self.groups_version,
            offsets: to_stored_offsets(&self.offsets),
            offsets_version: self.offsets_version,
            resets: to_stored_offsets(&self.resets),
            locks: self.locks.to_stored(),
            settings: self
                .settings
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
            settings_version: self.settings_version,
        }
    }

    /// Tables from their stored form, of a group that writes `active`.
    pub fn from_stored(stored: StoredTables, active: GroupVersion) -> Self {
        let mut tables = Self {
            active,
            topics_version: stored.topics_version,
            groups_version: stored.groups_version,
            offsets_version: stored.offsets_version,
            settings_version: stored.settings_version,
            locks: Locks::from_stored(stored.locks),
            offsets: from_stored_offsets(stored.offsets),
            resets: from_stored_offsets(stored.resets),
            ..Self::default()
        };
        for topic in stored.topics {
            tables.topics.insert_mut(topic.name.as_str().into(), Arc::new(topic));
        }
        for group in stored.groups {
            tables.groups.insert_mut(group.name.as_str().into(), Arc::new(group));
        }
        for (key, value) in stored.settings {
            tables.settings.insert_mut(key.into(), value.into());
        }
        tables
    }
}

fn put_offset(offsets: &mut Map<Map<QueueOffsets>>, commit: &OffsetCommit) {
    if !offsets.contains_key(commit.group.as_str()) {
        offsets.insert_mut(commit.group.as_str().into(), Map::default());
    }
    let Some(topics) = offsets.get_mut(commit.group.as_str()) else { return };
    match topics.get_mut(commit.topic.as_str()) {
        Some(queues) => {
            Arc::make_mut(queues).insert(commit.queue_id, commit.offset);
        }
        None => {
            let first = BTreeMap::from([(commit.queue_id, commit.offset)]);
            topics.insert_mut(commit.topic.as_str().into(), Arc::new(first));
        }
    }
}

fn to_stored_offsets(offsets: &Map<Map<QueueOffsets>>) -> Vec<StoredOffsets> {
    let topics = |topics: &Map<QueueOffsets>| {
        topics.iter().map(|(topic, queues)| (topic.to_string(), (**queues).clone())).collect()
    };
    offsets
        .iter()
        .map(|(group, of_group)| StoredOffsets {
            group: group.to_string(),
            topics: topics(of_group),
        })
        .collect()
}

fn from_stored_offsets(stored: Vec<StoredOffsets>) -> Map<Map<QueueOffsets>> {
    let mut offsets = Map::default();
    for StoredOffsets { group, topics } in stored {
        let mut of_group = Map::default();
        for (topic, queues) in topics {
            of_group.insert_mut(topic.into(), Arc::new(queues));
        }
        offsets.insert_mut(group.into(), of_group);
    }
    offsets
}

/// [`Tables`] as stored in checkpoints and snapshots.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct StoredTables {
    topics: Vec<Topic>,
    topics_version: Version,
    groups: Vec<Group>,
    groups_version: Version,
    offsets: Vec<StoredOffsets>,
    offsets_version: Version,
    resets: Vec<StoredOffsets>,
    locks: StoredLocks,
    settings: Vec<(String, String)>,
    settings_version: Version,
}

impl Stored for StoredTables {
    const WHAT: &'static str = "replicated tables";
    const FORMAT: u8 = 3;
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
struct StoredOffsets {
    group: String,
    topics: Vec<(String, BTreeMap<u32, u64>)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::codec;
    use crate::raft::command::{LOCK_MS, QueueName};

    fn topic(name: &str, queues: u32) -> Topic {
        Topic {
            name: name.to_owned(),
            read_queues: queues,
            write_queues: queues,
            perm: 6,
            sys_flag: 0,
            order: false,
            multi_tag: false,
            attributes: BTreeMap::new(),
        }
    }

    fn commit(group: &str, topic: &str, queue_id: u32, offset: u64) -> OffsetCommit {
        OffsetCommit { group: group.to_owned(), topic: topic.to_owned(), queue_id, offset }
    }

    fn queue(queue_id: u32) -> QueueName {
        QueueName { topic: "T".to_owned(), queue_id }
    }

    #[test]
    fn a_version_is_active_from_its_own_term_on_and_never_less() {
        let mut tables = Tables::default();
        let activate = |version, term| Command::Activate { version, term };
        let rows = [(5, 2, 4, 1), (5, 2, 5, 2), (6, 1, 6, 2), (7, 3, 7, 3), (8, 2, 7, 3)];
        for (n, (term, version, said_in, want)) in rows.into_iter().enumerate() {
            tables.go_by(Term(term), 1);
            tables.apply(activate(version, said_in), 1);
            assert_eq!(tables.active(), GroupVersion(want), "row {n}");
        }
    }

    #[test]
    fn automatic_creation_never_replaces_what_an_operator_set() {
        let mut tables = Tables::default();
        tables.apply(Command::PutTopic(topic("T", 16)), 1);
        tables.apply(Command::EnsureTopic(topic("T", 4)), 2);
        assert_eq!(tables.topic("T").unwrap().write_queues, 16);
        assert_eq!(tables.topics_version(), Version { counter: 1, at_ms: 1 });
    }

    #[test]
    fn a_change_of_a_part_leaves_what_came_meanwhile() {
        let mut tables = Tables::default();
        let order = |order| Command::OrderTopic { topic: "T".to_owned(), order };
        tables.apply(order(true), 1);
        assert!(tables.topic("T").is_none(), "one that was deleted does not come back");
        let with = |queues, attributes: &[&str]| Topic {
            attributes: attributes.iter().map(|name| (name.to_string(), "v".to_owned())).collect(),
            ..topic("T", queues)
        };
        let mut change = |topic, removed: &[&str]| {
            let removed = removed.iter().map(|name| name.to_string()).collect();
            tables.apply(Command::ChangeTopic { topic, removed }, 2);
            tables.topic("T").map(|topic| Topic::clone(topic)).unwrap()
        };
        assert_eq!(change(with(4, &["a"]), &["x"]), with(4, &["a"]), "created");
        assert_eq!(change(with(8, &["b"]), &[]), with(8, &["a", "b"]));
        assert_eq!(change(with(8, &["c"]), &["a"]), with(8, &["b", "c"]));
        for at_ms in [3, 4] {
            tables.apply(order(true), at_ms);
            let ordered = Topic { order: true, ..with(8, &["b", "c"]) };
            assert_eq!(**tables.topic("T").unwrap(), ordered);
            assert_eq!(tables.topics_version().at_ms, 3, "nothing to do the second time");
        }
    }

    #[test]
    fn deleting_a_topic_takes_the_offsets_of_all_groups_with_it() {
        let mut tables = Tables::default();
        tables.apply(Command::PutTopic(topic("T", 4)), 1);
        let commits = vec![commit("a", "T", 0, 5), commit("b", "T", 1, 6), commit("b", "U", 0, 7)];
        tables.apply(Command::CommitOffsets(commits), 2);
        tables.apply(Command::DeleteTopic { topic: "T".to_owned() }, 3);
        assert_eq!(tables.offset("a", "T", 0), None);
        assert_eq!(tables.offset("b", "T", 1), None);
        assert_eq!(tables.offset("b", "U", 0), Some(7));
    }

    #[test]
    fn a_group_holds_locks_by_the_time_of_the_leader_that_counts_their_age() {
        let mut tables = Tables::default();
        let (term, later) = (Term(1), Term(2));
        tables.go_by(term, 0);
        let (group, client, queues) = ("g".to_owned(), "a".to_owned(), vec![queue(0)]);
        tables.apply(Command::LockQueues { group, client, queues }, 0);
        assert!(tables.holds_locks("g", Some((term, LOCK_MS - 1))));
        assert!(!tables.holds_locks("g", Some((term, LOCK_MS))));
        assert!(!tables.holds_locks("h", None));
        let ahead = 90_000 * LOCK_MS;
        assert!(tables.holds_locks("g", Some((later, ahead))), "its first commands are to come");
        assert!(tables.holds_locks("g", None), "it has proposed nothing");
        let mut stale = tables.clone();
        stale.apply(Command::CommitOffsets(vec![commit("g", "T", 0, 1)]), LOCK_MS);
        assert!(!stale.holds_locks("g", Some((later, ahead))), "the former leader saw it run out");
        tables.go_by(later, ahead);
        assert!(tables.holds_locks("g", Some((later, ahead + LOCK_MS - 1))));
        assert!(!tables.holds_locks("g", Some((later, ahead + LOCK_MS))));
    }

    #[test]
    fn commits_are_void_until_the_group_has_been_told_of_a_reset() {
        let mut tables = Tables::default();
        tables.apply(Command::CommitOffsets(vec![commit("g", "T", 0, 9)]), 1);
        tables.apply(Command::ResetOffsets(vec![commit("g", "T", 0, 2)]), 2);
        tables.apply(Command::CommitOffsets(vec![commit("g", "T", 0, 10)]), 3);
        assert_eq!(tables.offset("g", "T", 0), Some(2));
        tables.apply(Command::TakeReset(commit("g", "T", 0, 1)), 4);
        assert_eq!(tables.reset("g", "T", 0), Some(2), "another reset was taken");
        tables.apply(Command::TakeReset(commit("g", "T", 0, 2)), 5);
        assert_eq!(tables.reset("g", "T", 0), None);
        tables.apply(Command::CommitOffsets(vec![commit("g", "T", 0, 3)]), 6);
        assert_eq!(tables.offset("g", "T", 0), Some(3));
    }

    #[test]
    fn tables_survive_their_stored_form() {
        let mut tables = Tables::default();
        tables.apply(Command::PutTopic(topic("T", 4)), 1);
        tables.apply(Command::CommitOffsets(vec![commit("g", "T", 3, 9)]), 2);
        tables.apply(Command::ResetOffsets(vec![commit("g", "T", 4, 1)]), 2);
        tables.apply(Command::PutSetting { key: "k".to_owned(), value: "v".to_owned() }, 3);
        tables.go_by(Term(7), 4);
        tables.apply(
            Command::LockQueues { group: "g".into(), client: "c".into(), queues: vec![queue(0)] },
            4,
        );
        let bytes = codec::encode(&tables.to_stored());
        assert_eq!(Tables::from_stored(codec::decode(&bytes).unwrap(), tables.active()), tables);
    }

    #[test]
    fn a_clone_does_not_see_later_changes() {
        let mut tables = Tables::default();
        tables.apply(Command::CommitOffsets(vec![commit("g", "T", 0, 1)]), 1);
        let before = tables.clone();
        tables.apply(Command::CommitOffsets(vec![commit("g", "T", 0, 2)]), 2);
        assert_eq!(before.offset("g", "T", 0), Some(1));
        assert_eq!(tables.offset("g", "T", 0), Some(2));
    }
}
