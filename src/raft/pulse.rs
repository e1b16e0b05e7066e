//! Shows from outside that a loop turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Interval;

/// Between two beats.
pub const PULSE: Duration = Duration::from_millis(200);

/// Beats as long as its loop turns. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Beats at each of `times` for as long as it is polled. To be spawned on the loop that it
    /// shows.
    pub async fn beat(self, mut times: Interval) {
        loop {
            times.tick().await;
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Beats so far.
    pub fn beats(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
