//! Who passes on to this leader what clients ask, and is there to answer them.
//!
//! As long as a member is there, it answers what it passed on, and the same message once more is its
//! client's wish, unless it says that the answer may be lost. When it is gone, or cut off, its clients turn to others and send again what may be
//! stored ([`crate::raft::duplicates`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Lives of members that are remembered: one for each of their starts.
const LIVES_MAX: usize = 64;

/// Members that pass on to this one. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(super) struct Passers(Arc<Mutex<Known>>, Arc<AtomicUsize>);

#[derive(Debug, Default)]
struct Known {
    lives: BTreeMap<u64, Passer>,
    /// Names of members that do not answer this leader.
    silent: BTreeSet<String>,
}

#[derive(Debug)]
struct Passer {
    name: String,
    /// Streams that it has here: two while one takes the place of another.
    streams: usize,
}

impl Passers {
    /// A life of the member `name` has a stream, until the result is dropped.
    pub(super) fn came(&self, life: u64, name: &str) -> Stay {
        let mut known = self.0.lock();
        if known.lives.len() >= LIVES_MAX {
            known.lives.retain(|_, passer| passer.streams > 0);
        }
        let passer = || Passer { name: name.to_owned(), streams: 0 };
        known.lives.entry(life).or_insert_with(passer).streams += 1;
        Stay { life, passers: self.clone() }
    }

    /// These members, and no others, do not answer this leader.
    pub(super) fn are_silent(&self, names: BTreeSet<String>) {
        self.0.lock().silent = names;
    }

    /// Committed offsets that were passed on are under way, until the result is dropped.
    pub(super) fn commits(&self) -> Committing {
        self.1.fetch_add(1, Ordering::AcqRel);
        Committing(Arc::clone(&self.1))
    }

    /// Whether some are.
    pub(super) fn commit(&self) -> bool {
        self.1.load(Ordering::Acquire) > 0
    }

    /// Whether a life is there to answer what it passed on.
    pub(super) fn is_there(&self, life: u64) -> bool {
        let known = self.0.lock();
        let passer = known.lives.get(&life);
        passer.is_some_and(|passer| passer.streams > 0 && !known.silent.contains(&passer.name))
    }
}

/// Committed offsets of another member's clients, on their way into the log.
pub(super) struct Committing(Arc<AtomicUsize>);

impl Drop for Committing {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A stream of a life.
pub(super) struct Stay {
    life: u64,
    passers: Passers,
}

impl Drop for Stay {
    fn drop(&mut self) {
        if let Some(passer) = self.passers.0.lock().lives.get_mut(&self.life) {
            passer.streams = passer.streams.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_that_were_passed_on_are_under_way_until_the_last_is_answered() {
        let passers = Passers::default();
        let (first, second) = (passers.commits(), passers.commits());
        drop(first);
        assert!(passers.commit());
        drop(second);
        assert!(!passers.commit());
    }

    #[test]
    fn who_has_a_stream_and_answers_is_there() {
        let passers = Passers::default();
        assert!(!passers.is_there(7));
        let first = passers.came(7, "n1");
        let second = passers.came(7, "n1");
        drop(first);
        assert!(passers.is_there(7), "a stream took the place of another");
        passers.are_silent(BTreeSet::from(["n1".to_owned()]));
        assert!(!passers.is_there(7));
        passers.are_silent(BTreeSet::new());
        assert!(passers.is_there(7));
        drop(second);
        assert!(!passers.is_there(7));
    }

    #[test]
    fn lives_that_are_over_are_forgotten() {
        let passers = Passers::default();
        let stays = passers.came(u64::MAX, "n1");
        (0..10 * LIVES_MAX as u64).for_each(|life| drop(passers.came(life, "n2")));
        assert!(passers.0.lock().lives.len() <= LIVES_MAX && passers.is_there(u64::MAX));
        drop(stays);
    }
}
