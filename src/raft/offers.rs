//! Which members offer to serve readers: each says so of itself with its answers to heartbeats.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// What this member offers, and others did last. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(super) struct Offers(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    own: AtomicBool,
    /// Stores of those that do.
    others: Mutex<BTreeSet<u64>>,
}

impl Offers {
    /// From now on this member says that readers may be sent to it, or not.
    pub(super) fn offer(&self, serves: bool) {
        self.0.own.store(serves, Ordering::Release);
    }

    /// What this member says.
    pub(super) fn own(&self) -> bool {
        self.0.own.load(Ordering::Acquire)
    }

    /// What another member says of itself.
    pub(super) fn heard(&self, member: u64, serves: bool) {
        let mut others = self.0.others.lock();
        match serves {
            true => others.insert(member),
            false => others.remove(&member),
        };
    }

    /// Whether another member offered it last.
    pub(super) fn is_of(&self, member: u64) -> bool {
        self.0.others.lock().contains(&member)
    }
}
