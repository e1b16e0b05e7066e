//! What this member has applied: the tables, the ConsumeQueues, and how far.
//!
//! Changed only by apply and snapshot installation, on the raft thread; read by everybody.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;

use crate::ids::{EntryIndex, PhysicalOffset, QueueOffset, Term};
use crate::raft::tables::Tables;
use crate::raft::type_config::StoredMembership;
use crate::raft::version::Active;
use crate::store::entry::EntryId;
use crate::store::queues::{NextOffsets, Queues};

/// A queue that got messages, told to the [`QueueListener`] after they are readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueAdvance {
    /// Topic.
    pub topic: Arc<str>,
    /// Queue id.
    pub queue_id: u32,
    /// Offset that the queue's next message will get.
    pub next: QueueOffset,
}

/// Hears of what is applied and matters to readers that wait. Called on the raft thread: must be
/// short and must not block.
pub trait QueueListener: Send + Sync {
    /// These queues got messages. A queue may be named more than once.
    fn advanced(&self, queues: &[QueueAdvance]);

    /// A topic was changed or deleted, or a group's offsets in it were reset: whoever waits for one
    /// of its queues waits for the wrong thing, perhaps.
    fn unsettled(&self, topic: &str);

    /// A snapshot took the place of everything: any queue may have grown, or gone.
    fn replaced(&self);
}

/// Where the log stands right after the last applied entry.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Progress {
    /// Last applied entry.
    pub last: Option<EntryId>,
    /// Position after it.
    pub position: PhysicalOffset,
    /// Membership as of it.
    pub membership: StoredMembership,
}

/// Everything that a checkpoint or a snapshot stores, as of one applied entry. Cheap to clone.
#[derive(Clone)]
pub(super) struct Captured {
    /// How far.
    pub progress: Progress,
    /// The tables there.
    pub tables: Tables,
    /// The queues' next offsets there.
    pub next: NextOffsets,
}

/// Shared state of apply. Cloning shares it.
#[derive(Clone)]
pub(super) struct AppliedState(Arc<Shared>);

struct Shared {
    queues: Queues,
    tables: ArcSwap<Tables>,
    /// As they say.
    active: Active,
    progress: Mutex<Progress>,
    /// Of the last applied entry: read without the lock.
    term: AtomicU64,
    term_applied: tokio::sync::Notify,
    listener: ArcSwapOption<Listener>,
    installed: Mutex<Option<(EntryId, PhysicalOffset)>>,
}

struct Listener(Arc<dyn QueueListener>);

impl AppliedState {
    /// State as of a checkpoint; `queues` must stand at the same place, and `active` is what is told
    /// of the version.
    pub(super) fn new(queues: Queues, tables: Tables, progress: Progress, active: Active) -> Self {
        let shared = Shared {
            queues,
            active,
            tables: ArcSwap::from_pointee(tables),
            term: AtomicU64::new(progress.last.map_or(0, |last| last.term.0)),
            progress: Mutex::new(progress),
            term_applied: tokio::sync::Notify::new(),
            listener: ArcSwapOption::empty(),
            installed: Mutex::new(None),
        };
        Self(Arc::new(shared))
    }

    /// The tables as of the last applied entry.
    pub(super) fn tables(&self) -> Arc<Tables> {
        self.0.tables.load_full()
    }

    /// The version that the group writes.
    pub(super) fn active(&self) -> &Active {
        &self.0.active
    }

    /// The ConsumeQueues.
    pub(super) fn queues(&self) -> &Queues {
        &self.0.queues
    }

    /// Term of the last applied entry.
    pub(super) fn term(&self) -> Term {
        Term(self.0.term.load(Ordering::Acquire))
    }

    /// How far it is.
    pub(super) fn progress(&self) -> Progress {
        self.0.progress.lock().clone()
    }

    /// The queues' next offsets, and the index of the first entry not in them.
    pub(super) fn next_offsets(&self) -> (NextOffsets, EntryIndex) {
        let progress = self.0.progress.lock();
        let from = progress.last.map_or(EntryIndex(0), |last| EntryIndex(last.index.0 + 1));
        (self.0.queues.next_offsets(), from)
    }

    /// Everything, consistently: only apply changes it, and apply holds the same lock.
    pub(super) fn capture(&self) -> Captured {
        let progress = self.0.progress.lock();
        Captured {
            progress: progress.clone(),
            tables: (*self.tables()).clone(),
            next: self.0.queues.next_offsets(),
        }
    }

    /// Changes the state by one entry: `change` applies it, then `progress` is what holds.
    pub(super) fn advance<T>(&self, change: impl FnOnce(&Queues, &mut Progress) -> T) -> T {
        let mut progress = self.0.progress.lock();
        let result = change(&self.0.queues, &mut progress);
        if let Some(last) = progress.last {
            self.0.reached(last);
        }
        result
    }

    /// Ends when the first entry of a term is applied.
    pub(super) async fn term_applied(&self) {
        self.0.term_applied.notified().await;
    }

    /// Makes changed tables visible.
    pub(super) fn publish(&self, tables: Tables) {
        let active = tables.active();
        self.0.tables.store(Arc::new(tables));
        self.0.active.set(active);
    }

    /// Who hears of what is applied; replaces a former listener.
    pub(super) fn set_listener(&self, listener: Arc<dyn QueueListener>) {
        self.0.listener.store(Some(Arc::new(Listener(listener))));
    }

    /// Tells the listener which queues got messages, and which topics are not as they were.
    pub(super) fn tell(&self, queues: &[QueueAdvance], unsettled: &BTreeSet<String>) {
        if queues.is_empty() && unsettled.is_empty() {
            return;
        }
        let listener = self.0.listener.load();
        let Some(Listener(listener)) = listener.as_deref() else { return };
        if !queues.is_empty() {
            listener.advanced(queues);
        }
        unsettled.iter().for_each(|topic| listener.unsettled(topic));
    }

    /// Replaces everything by an installed snapshot, after which the log starts at its position.
    pub(super) fn install(&self, captured: Captured) {
        let mut progress = self.0.progress.lock();
        self.0.queues.install(captured.next, captured.progress.position);
        self.publish(captured.tables);
        *progress = captured.progress;
        if let Some(last) = progress.last {
            *self.0.installed.lock() = Some((last, progress.position));
            self.0.reached(last);
        }
        drop(progress);
        if let Some(Listener(listener)) = self.0.listener.load().as_deref() {
            listener.replaced();
        }
    }

    /// Where the log goes on after `purged`: behind the snapshot that was installed for it, or at
    /// `tail` when entries were purged without one.
    pub(super) fn start_after(&self, purged: EntryId, tail: PhysicalOffset) -> PhysicalOffset {
        match *self.0.installed.lock() {
            Some((last, position)) if last.index == purged.index => position,
            _ => tail,
        }
    }
}

impl Shared {
    fn reached(&self, last: EntryId) {
        let former = self.term.swap(last.term.0, Ordering::AcqRel);
        if former != last.term.0 {
            self.term_applied.notify_one();
        }
    }
}
