//! Asking name servers where a topic is.

use super::request_header;
use crate::protocol::{bodies::NumericKeys, command::RemotingCommand, version};

request_header! {
    /// Where a topic's queues are.
    GET_ROUTEINFO_BY_TOPIC GetRoute {
        /// Name of the topic.
        topic: String = "topic",
        /// The client reads standard JSON only.
        accept_standard_json_only: Option<bool> = "acceptStandardJsonOnly",
        /// Only brokers of this zone are wanted, if `zone_mode`.
        zone_name: Option<String> = "__ZONE_NAME",
        /// Whether `zone_name` counts.
        zone_mode: Option<bool> = "__ZONE_MODE",
    }
}

impl GetRoute {
    /// How Java would write broker ids in the answer to `command`, which has this header. Every
    /// client we know reads quoted ones.
    pub fn numeric_keys(&self, command: &RemotingCommand) -> NumericKeys {
        let standard = self.accept_standard_json_only == Some(true);
        if standard || command.version >= version::V4_9_4 {
            NumericKeys::Quoted
        } else {
            NumericKeys::Bare
        }
    }
}
