//! The name server: who is there and what they serve.
//!
//! Brokers register with every name server and keep the connection; clients ask for routes.
//! Name servers do not know each other. The table ([`route_table`]) is pure and in memory only;
//! the KV configuration and changed settings alone are stored.
//!
//! ```text
//! bytes -> net -> dispatch -> handlers -> route_table (changes) | routes, slots (views) | kv_config
//! ```

pub mod counters;
pub mod dispatch;
pub mod error;
pub mod held_routes;
pub mod kv_config;
pub mod name_server;
pub mod names;
pub mod readiness;
pub mod registering;
pub mod registration;
pub mod registration_request;
pub mod route_request;
pub mod route_table;
pub mod routes;
pub mod settings;
pub mod slots;
pub mod start;
pub mod topic_table;

mod atomic_file;
mod handlers;

#[cfg(test)]
mod tests;
