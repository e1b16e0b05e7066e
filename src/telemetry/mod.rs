//! What a process says about itself: log lines, metrics, health.
//!
//! Other modules count with [`instruments`] (plain atomics) and know nothing of names or formats.
//! `start` functions hand the numbers over when somebody asks: [`metrics`] has the one list of
//! names, [`http`] answers `/metrics` and `/healthz`.

pub mod http;
pub mod instruments;
pub mod log_limit;
mod log_queue;
pub mod logging;
pub mod metrics;

pub use http::{Observed, respond};
pub use metrics::{Metric, Samples};
