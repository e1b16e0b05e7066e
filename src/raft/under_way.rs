//! Entries that are proposed and not settled, by the unique keys of their messages: what repeats
//! one of these waits until it is known what became of it, and whether its client can be told.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::protocol::message::Draft;
use crate::raft::duplicates::is_same;
use crate::raft::type_config::Batch;

/// Entries under way. Cloning shares it.
#[derive(Clone, Default)]
pub(super) struct UnderWay(Arc<Shared>);

#[derive(Default)]
struct Shared {
    entries: Mutex<Entries>,
    settled: Notify,
}

/// Entries under way, and the one that is being formed, which comes after them.
#[derive(Default)]
pub(super) struct Entries {
    /// Of messages with the same hash only the first one.
    messages: HashTable<Message>,
    batches: VecDeque<(u64, Arc<Batch>)>,
    /// Number of the entry that is being formed.
    forming: u64,
}

struct Message {
    hash: u64,
    /// Number of its entry.
    entry: u64,
    /// Messages of the entry before it.
    at: u32,
}

impl UnderWay {
    /// Returns when an entry was settled. Cancel-safe; for one caller.
    pub(super) async fn settled(&self) {
        self.0.settled.notified().await;
    }

    /// For the time in which an entry is formed.
    pub(super) fn look(&self) -> MutexGuard<'_, Entries> {
        self.0.entries.lock()
    }

    /// The entry that was being formed is under way, as `batch`, until the result is dropped.
    pub(super) fn begin(&self, batch: &Arc<Batch>) -> EntryUnderWay {
        let mut entries = self.look();
        let number = entries.forming;
        entries.forming += 1;
        entries.batches.push_back((number, Arc::clone(batch)));
        EntryUnderWay { under_way: self.clone(), number }
    }
}

impl Entries {
    /// The entry that is being formed gets these messages, behind `at` others.
    pub(super) fn add(&mut self, at: usize, drafts: &[Draft]) {
        for (n, draft) in drafts.iter().enumerate() {
            let Some(hash) = draft.unique_hash else { continue };
            let of_hash = |message: &Message| message.hash;
            let message = || Message { hash, entry: self.forming, at: (at + n) as u32 };
            let entry = self.messages.entry(hash, |other| other.hash == hash, of_hash);
            entry.or_insert_with(message);
        }
    }

    /// Whether these messages are under way together, or in the entry that is being formed, of
    /// which these `forming` are known.
    pub(super) fn has(&self, drafts: &[Draft], forming: &[Draft]) -> bool {
        let Some(hash) = drafts.first().and_then(|draft| draft.unique_hash) else { return false };
        let Some(first) = self.messages.find(hash, |other| other.hash == hash) else {
            return false;
        };
        let batch = self.batches.iter().find(|(number, _)| *number == first.entry);
        let messages = batch.map_or(forming, |(_, batch)| &batch.messages);
        let at = first.at as usize;
        let others = messages.get(at..at + drafts.len()).unwrap_or_default();
        let is_together = |pair: (&Draft, &Draft)| {
            is_same(pair.0, pair.1) && pair.1.queue_id == others[0].queue_id
        };
        others.len() == drafts.len() && drafts.iter().zip(others).all(is_together)
    }

    fn settle(&mut self, number: u64) {
        let Some(at) = self.batches.iter().position(|(other, _)| *other == number) else { return };
        let Some((_, batch)) = self.batches.remove(at) else { return };
        for hash in batch.messages.iter().filter_map(|draft| draft.unique_hash) {
            let is_its = |other: &Message| other.hash == hash && other.entry == number;
            if let Ok(message) = self.messages.find_entry(hash, is_its) {
                message.remove();
            }
        }
    }
}

/// An entry is under way.
pub(super) struct EntryUnderWay {
    under_way: UnderWay,
    number: u64,
}

impl Drop for EntryUnderWay {
    fn drop(&mut self) {
        self.under_way.look().settle(self.number);
        self.under_way.0.settled.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::duplicates::tests::keyed;

    fn begin(under_way: &UnderWay, drafts: &[Draft]) -> EntryUnderWay {
        under_way.look().add(0, drafts);
        under_way.begin(&Arc::new(Batch { messages: drafts.to_vec(), ..Batch::default() }))
    }

    #[test]
    fn what_is_under_way_is_known_until_its_entry_is_settled() {
        let under_way = UnderWay::default();
        let has = |drafts: &[Draft]| under_way.look().has(drafts, &[]);
        let [a, b, c] = ["a", "b", "c"].map(|key| keyed(0, key, "x"));
        let one = begin(&under_way, &[a.clone(), b.clone()]);
        let two = begin(&under_way, &[keyed(0, "a", "other"), c.clone()]);
        assert!(
            has(&[keyed(4, "a", "x")])
                && has(&[a.clone(), b.clone()])
                && has(std::slice::from_ref(&c))
        );
        assert!(!has(&[keyed(0, "a", "other")]), "only the first of a key is known");
        assert!(!has(&[b.clone(), c.clone()]), "of two entries");
        assert!(!has(&[group_draft()]) && !has(&[]));
        drop(one);
        assert!(!has(&[a]) && !has(&[b]) && has(std::slice::from_ref(&c)));
        drop(two);
        assert!(!has(&[c]) && under_way.look().messages.is_empty());
    }

    #[test]
    fn what_is_in_the_entry_that_is_being_formed_is_known() {
        let under_way = UnderWay::default();
        let forming = [keyed(0, "a", "x"), keyed(0, "b", "x")];
        under_way.look().add(0, &forming[..1]);
        under_way.look().add(1, &forming[1..]);
        let again = [keyed(7, "b", "x")];
        assert!(under_way.look().has(&again, &forming));
        let entry =
            under_way.begin(&Arc::new(Batch { messages: forming.into(), ..Batch::default() }));
        assert!(under_way.look().has(&again, &[]));
        drop(entry);
        assert!(!under_way.look().has(&again, &[]));
    }

    fn group_draft() -> Draft {
        crate::raft::group_tests::draft("T", 0, "x")
    }
}
