//! Asking name servers where a topic is.

use super::request_header;

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
