//! Where consumer groups have pulled to: what lies between that and the offset that a group has
//! committed is in its consumers' hands (`pullOffset`, shown as *inflight*).
//!
//! Known to whoever served the pulls, in memory only: another member knows it after the next pulls.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

/// Most queues of groups that are kept; where others have pulled to is not known. One costs some
/// twenty bytes.
const QUEUES_MAX: usize = 500_000;

/// Offsets by topic, group and queue.
#[derive(Debug, Default)]
pub struct PullOffsets(Mutex<Table>);

/// Offsets by group and queue.
type ByGroup = HashMap<Arc<str>, BTreeMap<u32, i64>>;

#[derive(Debug, Default)]
struct Table {
    topics: HashMap<Arc<str>, ByGroup>,
    queues: usize,
}

impl PullOffsets {
    /// Notes that a group's next pull of a queue starts at `offset`.
    pub fn note(&self, topic: &Arc<str>, group: &Arc<str>, queue_id: u32, offset: i64) {
        let mut table = self.0.lock();
        if let Some(known) = table.known(topic, group, queue_id) {
            *known = offset;
        } else if table.queues < QUEUES_MAX {
            table.queues += 1;
            let groups = table.topics.entry(Arc::clone(topic)).or_default();
            groups.entry(Arc::clone(group)).or_default().insert(queue_id, offset);
        }
    }

    /// Where a group has pulled to in a queue, if it pulled from this broker.
    pub fn get(&self, topic: &str, group: &str, queue_id: u32) -> Option<i64> {
        self.0.lock().known(topic, group, queue_id).copied()
    }

    /// Forgets a deleted topic.
    pub fn forget_topic(&self, topic: &str) {
        let mut table = self.0.lock();
        if let Some(groups) = table.topics.remove(topic) {
            table.queues -= groups.values().map(BTreeMap::len).sum::<usize>();
        }
    }

    /// Forgets a deleted group.
    pub fn forget_group(&self, group: &str) {
        let mut table = self.0.lock();
        let Table { topics, queues } = &mut *table;
        topics.retain(|_, groups| {
            *queues -= groups.remove(group).map_or(0, |queues| queues.len());
            !groups.is_empty()
        });
    }
}

impl Table {
    fn known(&mut self, topic: &str, group: &str, queue_id: u32) -> Option<&mut i64> {
        self.topics.get_mut(topic)?.get_mut(group)?.get_mut(&queue_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pull_counts_until_topic_or_group_go() {
        let offsets = PullOffsets::default();
        let note = |topic: &str, group: &str, queue_id, offset| {
            offsets.note(&topic.into(), &group.into(), queue_id, offset);
        };
        note("T", "g", 0, 5);
        note("T", "g", 0, 3);
        note("T", "g", 1, 9);
        note("T", "h", 0, 7);
        note("U", "g", 0, 8);
        assert_eq!(offsets.get("T", "g", 0), Some(3), "a group may go back");
        assert_eq!(offsets.get("T", "g", 2), None);
        offsets.forget_group("g");
        assert_eq!((offsets.get("T", "g", 1), offsets.get("T", "h", 0)), (None, Some(7)));
        offsets.forget_topic("T");
        let table = offsets.0.lock();
        assert!(table.queues == 0 && table.topics.is_empty(), "{table:?}");
    }

    #[test]
    fn a_full_table_knows_what_it_knew() {
        let offsets = PullOffsets::default();
        let (topic, group): (Arc<str>, Arc<str>) = ("T".into(), "g".into());
        for queue_id in 0..=QUEUES_MAX as u32 {
            offsets.note(&topic, &group, queue_id, 1);
        }
        offsets.note(&topic, &group, 0, 2);
        assert_eq!(offsets.get("T", "g", 0), Some(2));
        assert_eq!(offsets.get("T", "g", QUEUES_MAX as u32), None);
    }
}
