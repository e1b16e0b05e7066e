//! A small load on one topic, to see what clients feel. The program brings it: nothing in here knows
//! how to be a client.

use std::{pin::Pin, time::Duration};

/// Starts loads.
pub trait Load {
    /// Sends and consumes from now on, or says why not.
    fn start(&self, on: LoadOn) -> Starting<'_>;
}

/// A load that is being started.
pub type Starting<'a> =
    Pin<Box<dyn Future<Output = Result<Box<dyn RunningLoad>, String>> + Send + 'a>>;

/// A load that runs.
pub trait RunningLoad: Send {
    /// Sends nothing any more, waits for what is under way, and gives an account.
    fn finish(self: Box<Self>) -> Pin<Box<dyn Future<Output = Figures> + Send>>;
}

/// What to load.
#[derive(Debug, Clone)]
pub struct LoadOn {
    /// `host:port;host:port`.
    pub name_servers: String,
    /// A topic that exists.
    pub topic: String,
    /// Messages a second.
    pub per_second: u32,
}

/// What became of the messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Handed to the producer.
    pub sent: u64,
    /// Of them acknowledged.
    pub acknowledged: u64,
    /// Of them given up after retrying.
    pub given_up: u64,
    /// Sends that failed and were tried again.
    pub retried: u64,
    /// The longest time from a message's first try to its acknowledgement.
    pub slowest: Duration,
    /// The longest time without an acknowledgement.
    pub acknowledgement_pause: Duration,
    /// Different messages that were consumed.
    pub consumed: u64,
    /// Acknowledged, and never consumed.
    pub lost: u64,
    /// Consumed again.
    pub doubled: u64,
    /// The longest time without a delivery.
    pub delivery_pause: Duration,
}
