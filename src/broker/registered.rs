//! The bound on what clients register with heartbeats: over all groups and connections, in bytes.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Most that memberships and subscriptions take together: some 150,000 of each with short names. A
/// heartbeat may bring 16 MiB of them.
pub const REGISTERED_BYTES_MAX: usize = 128 << 20;

/// Bytes that are registered.
#[derive(Debug)]
pub struct Registered {
    bytes: AtomicUsize,
    bytes_max: usize,
}

/// Nothing more can be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what clients have registered takes {bytes_max} bytes, and may not take more")]
pub struct Full {
    /// How many it may take.
    bytes_max: usize,
}

impl Default for Registered {
    fn default() -> Self {
        Self::new(REGISTERED_BYTES_MAX)
    }
}

impl Registered {
    /// Nothing yet, at most `bytes_max` in future.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), bytes_max }
    }

    /// Counts `new` bytes in the place of `former` ones, if there is room for what they are more.
    pub fn replace(&self, former: usize, new: usize) -> Result<(), Full> {
        let Some(more) = new.checked_sub(former) else {
            self.give_back(former - new);
            return Ok(());
        };
        let fits = |bytes: usize| bytes.checked_add(more).filter(|sum| *sum <= self.bytes_max);
        let counted = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        counted.map(|_| ()).map_err(|_| Full { bytes_max: self.bytes_max })
    }

    /// Counts what is gone no more.
    pub fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many bytes are registered.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_counts_by_the_difference() {
        let registered = Registered::new(10);
        let rows = [(0, 6, true), (0, 5, false), (6, 10, true), (10, 11, false), (10, 3, true)];
        for (former, new, fits) in rows {
            assert_eq!(registered.replace(former, new).is_ok(), fits, "{former} {new}");
        }
        assert_eq!(registered.bytes(), 3);
        registered.give_back(3);
        assert!(registered.replace(0, usize::MAX).is_err() && registered.replace(0, 10).is_ok());
    }
}
