//! What the name server has done so far. Read by `/metrics`.

use crate::{protocol::codes::RequestCode, telemetry::instruments::Counter};

/// The requests that a name server serves, in order of their codes.
pub const SERVED: [RequestCode; 22] = [
    RequestCode::PUT_KV_CONFIG,
    RequestCode::GET_KV_CONFIG,
    RequestCode::DELETE_KV_CONFIG,
    RequestCode::REGISTER_BROKER,
    RequestCode::UNREGISTER_BROKER,
    RequestCode::GET_ROUTEINFO_BY_TOPIC,
    RequestCode::GET_BROKER_CLUSTER_INFO,
    RequestCode::WIPE_WRITE_PERM_OF_BROKER,
    RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER,
    RequestCode::DELETE_TOPIC_IN_NAMESRV,
    RequestCode::REGISTER_TOPIC_IN_NAMESRV,
    RequestCode::GET_KVLIST_BY_NAMESPACE,
    RequestCode::GET_TOPICS_BY_CLUSTER,
    RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_NS,
    RequestCode::GET_UNIT_TOPIC_LIST,
    RequestCode::GET_HAS_UNIT_SUB_TOPIC_LIST,
    RequestCode::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST,
    RequestCode::UPDATE_NAMESRV_CONFIG,
    RequestCode::GET_NAMESRV_CONFIG,
    RequestCode::QUERY_DATA_VERSION,
    RequestCode::GET_BROKER_MEMBER_GROUP,
    RequestCode::BROKER_HEARTBEAT,
];

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// By place in [`SERVED`].
    requests: [Counter; SERVED.len()],
    requests_unsupported: Counter,
    /// Routes found.
    pub routes_found: Counter,
    /// Routes of topics that nobody serves.
    pub routes_missing: Counter,
    /// Routes asked for too early after the start, and not known at the end of the wait.
    pub routes_not_ready: Counter,
    /// Registrations entered.
    pub registrations_entered: Counter,
    /// Registrations of an older term than the one known.
    pub registrations_fenced: Counter,
    /// Registrations answered with an error.
    pub registrations_refused: Counter,
}

impl Counters {
    /// A request came in.
    pub fn request(&self, code: RequestCode) {
        let place = SERVED.iter().position(|served| *served == code);
        place.map_or(&self.requests_unsupported, |place| &self.requests[place]).increment();
    }

    /// Requests by code, and those of unknown codes.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let by_code = SERVED.iter().zip(&self.requests);
        let by_name = by_code.map(|(code, count)| (code.name().unwrap_or("UNKNOWN"), count.get()));
        by_name.chain([("UNSUPPORTED", self.requests_unsupported.get())])
    }
}
