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

/// Longest name of a topic or a zone for which a request is held.
const NAME_BYTES_MAX: usize = 512;

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
    /// Whether it may be held: nothing is registered under names that are longer, and what waits
    /// is kept.
    pub fn may_wait(&self) -> bool {
        let zone = self.zone.as_ref().map_or(0, String::len);
        self.topic.len() <= NAME_BYTES_MAX && zone <= NAME_BYTES_MAX
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codes::RequestCode;

    #[test]
    fn what_is_kept_while_a_request_waits_is_short() {
        let of = |topic: &str, zone: &str| {
            let fields = [("topic", topic), ("__ZONE_NAME", zone), ("__ZONE_MODE", "true")];
            let command = RemotingCommand::request(RequestCode::GET_ROUTEINFO_BY_TOPIC);
            let command =
                fields.iter().fold(command, |c, (name, value)| c.with_field(name, *value));
            RouteRequest::parse(&command)
        };
        let (short, long) = ("a".repeat(NAME_BYTES_MAX), "a".repeat(NAME_BYTES_MAX + 1));
        assert!(of("T", "").may_wait() && of(&short, &short).may_wait());
        assert!(!of(&long, "").may_wait() && !of("T", &long).may_wait());
    }
}
