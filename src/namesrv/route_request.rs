//! GET_ROUTEINFO_BY_TOPIC, apart from waiting: what is asked, and the form of the answer. Pure.

use std::time::Duration;

use super::kv_config::{KvConfig, ORDER_TOPIC_CONFIG};
use crate::protocol::{
    bodies::{NumericKeys, TopicRouteData},
    codes::{LanguageCode, ResponseCode},
    command::RemotingCommand,
    version,
};

/// Java's clients give up after 3 s.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// Go's clients wait 6 s, and keep a route without a leader for 30 s.
const PATIENCE_GO: Duration = Duration::from_millis(5_500);

/// One route request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRequest {
    /// The topic asked for; `null` if none was, as Java calls it.
    pub topic: String,
    /// The zone to be served from, if the client wants only that.
    pub zone: Option<String>,
    /// How long this client waits for an answer.
    pub patience: Duration,
    keys: NumericKeys,
}

impl RouteRequest {
    /// Reads the request. There is no wrong one.
    pub fn parse(request: &RemotingCommand) -> Self {
        let is = |field| request.ext.get(field).is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let zone = request.ext.get("__ZONE_NAME").filter(|_| is("__ZONE_MODE"));
        let go = request.language == LanguageCode::GO;
        Self {
            topic: request.ext.get("topic").unwrap_or("null").to_owned(),
            zone: zone.map(str::to_owned),
            patience: if go { PATIENCE_GO } else { PATIENCE },
            keys: keys(request.version, is("acceptStandardJsonOnly")),
        }
    }

    /// The answer; with `order`, ordered topics say where their queues are.
    pub fn answer(&self, mut route: TopicRouteData, order: Option<&KvConfig>) -> RemotingCommand {
        let order = order.and_then(|kv| kv.get(ORDER_TOPIC_CONFIG, &self.topic));
        route.order_topic_conf = order.map(str::to_owned);
        RemotingCommand::response(ResponseCode::SUCCESS).with_body(route.to_json(self.keys))
    }
}

/// Old clients read broker ids as bare numbers only.
fn keys(client_version: i32, wants_json: bool) -> NumericKeys {
    if wants_json || client_version >= version::V4_9_4 {
        NumericKeys::Quoted
    } else {
        NumericKeys::Bare
    }
}
