//! Consumer offsets on their way into the log.
//!
//! Consumers commit the same offset over and over; what is stored already is not proposed again.
//! That may only be decided while no other commit of the same queue is under way: it would come
//! after what is stored, and the last commit has to win.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::raft::command::{Command, OffsetCommit};
use crate::raft::tables::Tables;
use crate::raft::{Group, Proposal, ProposeError};

/// How many commits of each (group, topic, queue) are under way.
#[derive(Debug, Clone, Default)]
pub struct OffsetCommits(Arc<Mutex<HashMap<Key, u32>>>);

type Key = (String, String, u32);

impl OffsetCommits {
    /// Stores an offset that a client committed at `since`, and calls `done`, here if it is stored
    /// already, else on the raft thread.
    pub fn commit(
        &self,
        group: &Group,
        (commit, since): (OffsetCommit, Instant),
        done: impl FnOnce(Result<(), ProposeError>) + Send + 'static,
    ) {
        // In this order: what others have passed on meanwhile is in the tables, or is later.
        let knows = group.knows_commits();
        if !self.enter(|| group.tables(), &commit, knows) {
            return done(Ok(()));
        }
        let under_way = self.clone();
        let key = key(&commit);
        let commands = vec![Command::CommitOffsets(vec![commit])];
        let proposal = Proposal::of_commands(commands, move |result| {
            under_way.leave(&key);
            done(result.map(drop));
        });
        group.propose_since(proposal, since);
    }

    /// Whether the offset would have to be proposed.
    pub fn is_new(&self, tables: &Tables, commit: &OffsetCommit) -> bool {
        tables.offset(&commit.group, &commit.topic, commit.queue_id) != Some(commit.offset)
            || self.0.lock().contains_key(&key(commit))
    }

    /// Whether the offset has to be proposed; if so it counts as under way. `knows`: nobody else
    /// has taken commits that are not in the tables. These are read when nothing is under way: what
    /// has just ceased to be is in them.
    fn enter(
        &self,
        tables: impl FnOnce() -> Arc<Tables>,
        commit: &OffsetCommit,
        knows: bool,
    ) -> bool {
        let mut under_way = self.0.lock();
        let key = key(commit);
        let is_stored = |tables: &Tables| {
            tables.offset(&commit.group, &commit.topic, commit.queue_id) == Some(commit.offset)
        };
        if knows && !under_way.contains_key(&key) && is_stored(&tables()) {
            return false;
        }
        *under_way.entry(key).or_default() += 1;
        true
    }

    fn leave(&self, key: &Key) {
        let mut under_way = self.0.lock();
        if let Some(count) = under_way.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(key);
            }
        }
    }
}

fn key(commit: &OffsetCommit) -> Key {
    (commit.group.clone(), commit.topic.clone(), commit.queue_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(offset: u64) -> OffsetCommit {
        OffsetCommit { group: "g".to_owned(), topic: "T".to_owned(), queue_id: 0, offset }
    }

    fn with(offset: u64) -> Arc<Tables> {
        let mut tables = Tables::default();
        tables.apply(Command::CommitOffsets(vec![commit(offset)]), 1);
        Arc::new(tables)
    }

    #[test]
    fn an_offset_that_is_stored_already_is_not_proposed_unless_another_is_under_way() {
        let commits = OffsetCommits::default();
        let (tables, key) = (with(3), key(&commit(0)));
        let enter = |offset, knows| commits.enter(|| Arc::clone(&tables), &commit(offset), knows);
        assert!(!commits.is_new(&tables, &commit(3)) && commits.is_new(&tables, &commit(5)));
        assert!(!enter(3, true), "stored");
        assert!(enter(5, true), "new");
        assert!(enter(3, true), "5 is under way: 3 has to come after it");
        commits.leave(&key);
        assert!(enter(3, true), "one is still under way");
        commits.leave(&key);
        commits.leave(&key);
        assert!(commits.0.lock().is_empty());
        assert!(!enter(3, true));
        assert!(enter(3, false), "another member may have taken one");
    }

    #[test]
    fn what_is_applied_while_another_is_asked_for_is_seen_as_under_way_or_as_stored() {
        let commits = OffsetCommits::default();
        let (before, after) = (with(5), with(7));
        assert!(commits.enter(|| Arc::clone(&before), &commit(7), true));
        let apply_7 = || commits.leave(&key(&commit(7))); // it is in the tables by then
        let tables = || {
            assert!(commits.0.is_locked(), "7 could be applied, and 5 be taken for stored");
            Arc::clone(&after)
        };
        apply_7();
        assert!(commits.enter(tables, &commit(5), true), "a client that seeks back");
    }
}
