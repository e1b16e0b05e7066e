//! Configuration: a properties file, the command line and the environment become one checked,
//! typed value, or a list of everything that is wrong, with line numbers.
//!
//! ```text
//!  file ─► properties ─► settings (one table: keys) ─► BrokerConfig / NamesrvConfig ─► start
//!            -n, NAMESRV_ADDR ──┘
//! ```

pub mod address;
pub mod advertise;
pub mod broker;
pub mod cli;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod keys;
pub mod load;
pub mod namesrv;
pub mod problem;
pub mod properties;
mod rules;
pub mod settings;
pub mod update;
pub mod value;

#[cfg(test)]
mod tests;

pub use address::{Endpoint, Peers};
pub use broker::{BrokerConfig, BrokerPolicy};
pub use load::Loaded;
pub use namesrv::{NamesrvConfig, NamesrvPolicy};
pub use problem::ConfigErrors;
