//! What the name server has done so far. Read by `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::protocol::codes::RequestCode;

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
    requests: [AtomicU64; SERVED.len()],
    requests_unsupported: AtomicU64,
    requests_refused: AtomicU64,
    registrations_fenced: AtomicU64,
    routes_held: AtomicU64,
    brokers_expired: AtomicU64,
}

impl Counters {
    /// A request came in.
    pub fn request(&self, code: RequestCode) {
        let place = SERVED.iter().position(|served| *served == code);
        add(place.map_or(&self.requests_unsupported, |place| &self.requests[place]));
    }

    /// A request was answered with an error.
    pub fn refused(&self) {
        add(&self.requests_refused);
    }

    /// A registration came too late for its term.
    pub fn fenced(&self) {
        add(&self.registrations_fenced);
    }

    /// A route request waits for a better answer.
    pub fn held(&self) {
        add(&self.routes_held);
    }

    /// A broker was silent for too long.
    pub fn expired(&self) {
        add(&self.brokers_expired);
    }

    /// Requests by code, and those of unknown codes.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let by_code = SERVED.iter().zip(&self.requests);
        let by_name = by_code.map(|(code, count)| (code.name().unwrap_or("UNKNOWN"), read(count)));
        by_name.chain([("UNSUPPORTED", read(&self.requests_unsupported))])
    }

    /// The other counts: name, meaning, value.
    pub fn events(&self) -> [(&'static str, &'static str, u64); 4] {
        [
            ("requests_refused", "Requests answered with an error", read(&self.requests_refused)),
            (
                "registrations_fenced",
                "Registrations of an older term than the one known",
                read(&self.registrations_fenced),
            ),
            ("routes_held", "Route requests that waited", read(&self.routes_held)),
            ("brokers_expired", "Brokers removed for silence", read(&self.brokers_expired)),
        ]
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
