//! One replicated log per broker group: openraft over the CommitLog, and the tables it carries.
//!
//! ```text
//!  broker ── propose ──► proposer ──► openraft ──► log_store ──► store::CommitLog ──► disk
//!                                        │  ▲
//!                          network ◄─────┘  └───── rpc_server ◄── peers (tonic)
//!                                        │
//!                                        ▼ committed
//!                                  state_machine ──► tables, store::Queues ──► answers, wake-ups
//! ```
//!
//! Nothing outside this module knows openraft. What others hold is a [`Group`].

pub mod codec;
pub mod command;
pub mod error;
pub mod role;
pub mod tables;

pub use error::{ProposeError, StartError};
