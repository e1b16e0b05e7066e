//! A RocketMQ-compatible broker group on one Raft-replicated log.
//!
//! Layers, imports go downwards only (`tests/tidy.rs` holds the table):
//!
//! ```text
//!  bin        rmq-broker  rmq-namesrv  rmq-admin  rmq-quickstart
//!             admin  quickstart
//!             broker                 namesrv
//!             raft                    │
//!             store        net ───────┘
//!             protocol                    pure: bytes <-> types
//!             ids clock config telemetry
//! ```
//!
//! `ARCHITECTURE.md` has the picture, the path of a send and of a pull, and the invariants.

pub mod admin;
pub mod broker;
pub mod clock;
pub mod config;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod ids;
pub mod namesrv;
pub mod net;
pub mod protocol;
pub mod quickstart;
pub mod raft;
pub mod store;
pub mod telemetry;
