//! What is done with each request, by subject. A handler reads from top to bottom: parse, check,
//! decide, propose or read, answer.

pub mod client;
pub mod config;
pub mod group;
pub mod lock;
pub mod message;
pub mod offset;
pub mod progress;
pub mod pull;
pub mod relay;
pub mod reset;
pub mod runtime_info;
pub mod send;
pub mod stats;
pub mod topic;
