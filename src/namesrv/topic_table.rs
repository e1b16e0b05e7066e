//! Which broker group serves which topic with how many queues. Pure; no liveness in here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::registration::Queues;

/// Topics by name and by broker group. Both maps always hold the same pairs.
#[derive(Debug, Default)]
pub struct TopicTable {
    by_topic: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Queues>>,
    by_group: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    pairs: usize,
}

impl TopicTable {
    /// Number of (topic, broker group) pairs.
    pub fn pairs(&self) -> usize {
        self.pairs
    }

    /// Number of topics.
    pub fn len(&self) -> usize {
        self.by_topic.len()
    }

    /// Whether there is no topic at all.
    pub fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    /// All topic names in order.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_topic.keys()
    }

    /// Queues of `topic` by broker group.
    pub fn groups_of(&self, topic: &str) -> Option<&BTreeMap<Arc<str>, Queues>> {
        self.by_topic.get(topic)
    }

    /// Topics of `group` in order.
    pub fn of_group(&self, group: &str) -> impl Iterator<Item = &Arc<str>> {
        self.by_group.get(group).into_iter().flatten()
    }

    /// Topics of which some broker group's `topicSysFlag` passes.
    pub fn with_flag(&self, passes: impl Fn(i32) -> bool) -> impl Iterator<Item = &Arc<str>> {
        self.by_topic
            .iter()
            .filter(move |(_, groups)| groups.values().any(|queues| passes(queues.sys_flag)))
            .map(|(topic, _)| topic)
    }

    /// Whether `group` serves `topic`.
    pub fn has(&self, group: &str, topic: &str) -> bool {
        self.by_topic.get(topic).is_some_and(|groups| groups.contains_key(group))
    }

    /// Enters or overwrites; true when something is different afterwards.
    pub fn put(&mut self, group: &Arc<str>, topic: &Arc<str>, queues: Queues) -> bool {
        let groups = self.by_topic.entry(Arc::clone(topic)).or_default();
        match groups.insert(Arc::clone(group), queues) {
            Some(before) => before != queues,
            None => {
                self.by_group.entry(Arc::clone(group)).or_default().insert(Arc::clone(topic));
                self.pairs += 1;
                true
            }
        }
    }

    /// Takes `topic` from `group`; true when it was there.
    pub fn remove(&mut self, group: &str, topic: &str) -> bool {
        let Some(groups) = self.by_topic.get_mut(topic) else { return false };
        if groups.remove(group).is_none() {
            return false;
        }
        if groups.is_empty() {
            self.by_topic.remove(topic);
        }
        if let Some(topics) = self.by_group.get_mut(group) {
            topics.remove(topic);
            if topics.is_empty() {
                self.by_group.remove(group);
            }
        }
        self.pairs -= 1;
        true
    }

    /// Takes `topic` from every broker group.
    pub fn remove_topic(&mut self, topic: &str) {
        let groups: Vec<_> = self.groups_of(topic).into_iter().flatten().map(|(g, _)| g).collect();
        for group in groups.into_iter().map(Arc::clone).collect::<Vec<_>>() {
            self.remove(&group, topic);
        }
    }

    /// Takes every topic from `group`.
    pub fn remove_group(&mut self, group: &str) {
        for topic in self.by_group.get(group).cloned().unwrap_or_default() {
            self.remove(group, &topic);
        }
    }

    /// Takes the topics from `group` that are not in `keep`; how many these were.
    pub fn keep_only(&mut self, group: &str, keep: &BTreeSet<&str>) -> usize {
        let gone: Vec<_> =
            self.of_group(group).filter(|topic| !keep.contains(&***topic)).cloned().collect();
        gone.iter().filter(|topic| self.remove(group, topic)).count()
    }

    /// Replaces the permission of every topic of `group`; how many topics it has.
    pub fn map_perm(&mut self, group: &str, new: impl Fn(u32) -> u32) -> usize {
        let topics = self.by_group.get(group);
        for topic in topics.into_iter().flatten() {
            let queues = self.by_topic.get_mut(topic).and_then(|groups| groups.get_mut(group));
            if let Some(queues) = queues {
                queues.perm = new(queues.perm);
            }
        }
        topics.map_or(0, BTreeSet::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUES: Queues = Queues { read: 4, write: 4, perm: 6, sys_flag: 0, ordered: false };

    fn table(pairs: &[(&str, &str)]) -> TopicTable {
        let mut table = TopicTable::default();
        for (group, topic) in pairs {
            assert!(table.put(&Arc::from(*group), &Arc::from(*topic), QUEUES));
        }
        table
    }

    fn names<'a>(names: impl Iterator<Item = &'a Arc<str>>) -> Vec<&'a str> {
        names.map(|name| &**name).collect()
    }

    #[test]
    fn both_directions_agree_after_every_kind_of_removal() {
        let mut table = table(&[("a", "T1"), ("b", "T1"), ("a", "T2"), ("b", "T3")]);
        assert_eq!((table.pairs(), table.len()), (4, 3));
        assert!(table.remove("a", "T1"));
        assert!(!table.remove("a", "T1"));
        assert!(table.has("b", "T1"));
        assert_eq!(names(table.of_group("a")), ["T2"]);
        table.remove_group("a");
        assert_eq!(names(table.names()), ["T1", "T3"]);
        table.remove_topic("T3");
        assert_eq!(names(table.of_group("b")), ["T1"]);
        assert_eq!(table.keep_only("b", &BTreeSet::new()), 1);
        assert!(table.is_empty());
        assert_eq!(table.pairs(), 0);
    }

    #[test]
    fn putting_the_same_again_is_no_change() {
        let mut table = table(&[("a", "T")]);
        assert!(!table.put(&Arc::from("a"), &Arc::from("T"), QUEUES));
        assert!(table.put(&Arc::from("a"), &Arc::from("T"), Queues { perm: 4, ..QUEUES }));
        assert_eq!(table.pairs(), 1);
    }

    #[test]
    fn permissions_change_for_one_group_only() {
        let mut table = table(&[("a", "T1"), ("b", "T1"), ("a", "T2")]);
        assert_eq!(table.map_perm("a", |perm| perm & !2), 2);
        assert_eq!(table.map_perm("nobody", |_| 0), 0);
        let perms = |topic| -> Vec<u32> {
            table.groups_of(topic).into_iter().flatten().map(|(_, queues)| queues.perm).collect()
        };
        assert_eq!((perms("T1"), perms("T2")), (vec![4, 6], vec![4]));
    }
}
