//! The quickstart: a producer, a consumer, and an account of what became of every message.
//!
//! It is what people run right after they started a cluster, and what shows them a failover:
//! messages carry sequence numbers, so the account can say how many were sent, acknowledged,
//! consumed, lost (acknowledged and never consumed) or doubled, and how long clients had to wait.
//!
//! ```text
//!  route: name servers ─► watch<Route> ─┬─► producer ─ send, again until acknowledged ─┐
//!                                       └─► consumer ─ one long poll a queue ──────────┤
//!                                                                display ◄── Account ◄─┘
//! ```
//!
//! It behaves like a stock client: it knows name servers only, asks them for the route, tries other
//! queues and brokers after errors, and connects again. It asks for the route more often than a
//! stock client's 30 s, and at once after an error; `--route-poll-ms` changes that.

mod account;
pub mod cli;
mod consumer;
mod display;
mod drill;
mod payload;
mod producer;
mod requests;
mod route;
mod run;

pub use drill::{Drill, Outcome};
pub use run::run;

/// What stops a quickstart before it has an account to give.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No leader was found, or it refused the topic.
    #[error("topic {topic} is not there after {waited_s} s: {last}")]
    NoTopic {
        /// The topic.
        topic: String,
        /// How long it was tried, in seconds.
        waited_s: u64,
        /// What the last try came to.
        last: String,
    },
    /// Standard output is gone.
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
}
