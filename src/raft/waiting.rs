//! Who waits for entries that are under way, and for how long.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::raft::ProposeError;
use crate::raft::command::Origin;
use crate::raft::proposal::{Done, Receipt};

/// How often unanswered proposals are looked at.
pub(super) const SWEEP: Duration = Duration::from_millis(100);

/// Who waits for an entry: each proposal's answer and how many messages and commands are its own.
pub(super) struct Waiting {
    /// When the oldest of those that are not answered came.
    pub(super) since: Instant,
    /// All of the entry, in order.
    pub(super) shares: Vec<Share>,
}

/// A proposal that is part of an entry.
pub(super) struct Share {
    /// How many of the entry are its own.
    pub(super) messages: usize,
    /// How many of the entry are its own.
    pub(super) commands: usize,
    /// When it came.
    pub(super) since: Instant,
    /// Who passed it on.
    pub(super) origin: Option<Origin>,
    /// `None` once answered.
    pub(super) done: Option<Done>,
}

impl Share {
    /// Answers, unless it is answered.
    pub(super) fn answer(&mut self, result: Result<Receipt, ProposeError>) {
        if let Some(done) = self.done.take() {
            done(result);
        }
    }
}

/// Waiting entries, oldest first; `None` once answered.
#[derive(Default)]
pub(super) struct WaitingEntries {
    pub(super) entries: Mutex<Vec<Arc<Mutex<Option<Waiting>>>>>,
    /// There is one after there was none.
    first: Notify,
}

impl WaitingEntries {
    /// An entry is on its way.
    pub(super) fn push(&self, entry: &Arc<Mutex<Option<Waiting>>>) {
        let mut entries = self.entries.lock();
        entries.push(Arc::clone(entry));
        if entries.len() == 1 {
            self.first.notify_one();
        }
    }
}

/// Refuses all of these.
pub(super) fn refuse(shares: Vec<Share>, error: &ProposeError) {
    for mut share in shares {
        share.answer(Err(error.clone()));
    }
}

/// Tells proposers that have waited for `patience` that nobody knows. Their bytes stay counted
/// until openraft knows. Sleeps while nobody waits.
pub(super) async fn sweep(waiting: Arc<WaitingEntries>, patience: Duration) {
    loop {
        if waiting.entries.lock().is_empty() {
            waiting.first.notified().await;
        }
        tokio::time::sleep(SWEEP).await;
        let now = Instant::now();
        let mut late = Vec::new();
        waiting.entries.lock().retain(|entry| {
            let mut entry = entry.lock();
            if let Some(waiting) = entry.as_mut() {
                late.extend(waiting.take_late(now, patience));
            }
            let waits = |waiting: &mut Waiting| waiting.shares.iter().any(|s| s.done.is_some());
            entry.take_if(|waiting| !waits(waiting));
            entry.is_some()
        });
        for done in late {
            done(Err(ProposeError::NoQuorum { waited: patience }));
        }
    }
}

impl Waiting {
    /// Those that have waited for `patience`.
    fn take_late(&mut self, now: Instant, patience: Duration) -> Vec<Done> {
        if now.duration_since(self.since) < patience {
            return Vec::new();
        }
        let is_late = |share: &&mut Share| now.duration_since(share.since) >= patience;
        let late = self.shares.iter_mut().filter(is_late);
        let late = late.filter_map(|share| share.done.take()).collect();
        let left = self.shares.iter().filter(|share| share.done.is_some());
        self.since = left.map(|share| share.since).min().unwrap_or(now + patience);
        late
    }
}
