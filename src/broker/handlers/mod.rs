//! What is done with each request, by subject. A handler reads from top to bottom: parse, check,
//! decide, propose or read, answer.

pub mod client;
pub mod config;
pub mod explain;
pub mod group;
pub mod leader;
pub mod lock;
pub mod look_up;
pub mod member;
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

use super::Broker;

/// A request whose answer may lie on the disk: it goes on by a thread that may wait for that.
#[derive(Debug)]
pub enum Reading {
    /// A pull of what is far behind the end of the log.
    Pull(pull::WaitingPull),
    /// A question of a group that is new to a queue.
    Offset(offset::WaitingQuery),
    /// Whatever else reads anywhere.
    LookUp(look_up::LookUp),
}

impl Reading {
    /// Reads and answers.
    pub(in crate::broker) fn go_on(self, broker: &Broker) {
        match self {
            Self::Pull(waiting) => pull::read(broker, waiting),
            Self::Offset(waiting) => offset::read(broker, waiting),
            Self::LookUp(look_up) => look_up.go_on(broker),
        }
    }
}
