//! What the name server accepts as a name or an address. Everything here came from the network
//! and is handed to every client, so it is bounded and printable.

use super::error::Refusal;

/// Longest cluster, broker, namespace or zone name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest topic name, in bytes: 127 as RocketMQ allows, with room for `%RETRY%` and a group.
pub const TOPIC_BYTES_MAX: usize = 512;
/// Longest `host:port`, in bytes.
const ADDRESS_BYTES_MAX: usize = 262;

/// A cluster or broker name as given, or why it is refused.
pub fn check_name(field: &'static str, name: &str) -> Result<(), Refusal> {
    check(field, name, NAME_BYTES_MAX)
}

/// A topic name as given, or why it is refused.
pub fn check_topic(topic: &str) -> Result<(), Refusal> {
    check("topic", topic, TOPIC_BYTES_MAX)
}

/// `host:port` with a port from 1 to 65535, or why it is refused.
pub fn check_address(field: &'static str, address: &str) -> Result<(), Refusal> {
    check(field, address, ADDRESS_BYTES_MAX)?;
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    match port.and_then(|port| port.parse::<u16>().ok()) {
        Some(1..) => Ok(()),
        Some(0) | None => Err(Refusal::BadName { field, reason: "is not host:port" }),
    }
}

fn check(field: &'static str, text: &str, bytes_max: usize) -> Result<(), Refusal> {
    let reason = if text.is_empty() {
        "is empty"
    } else if text.len() > bytes_max {
        "is too long"
    } else if text.contains(['/', '\\']) {
        "contains a path separator"
    } else if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        "has blanks or control characters"
    } else {
        return Ok(());
    };
    Err(Refusal::BadName { field, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        let good = ["127.0.0.1:10911", "n0.example:1", "[::1]:65535", "broker-a:10911"];
        let bad = ["", "host", "host:", ":1", "host:0", "host:65536", "ho st:1", "h:1\n", "h:-1"];
        good.iter().for_each(|a| assert!(check_address("a", a).is_ok(), "{a}"));
        bad.iter().for_each(|a| assert!(check_address("a", a).is_err(), "{a}"));
        assert!(check_address("a", &format!("{}:1", "h".repeat(300))).is_err());
    }

    #[test]
    fn names_are_bounded_and_printable() {
        for good in ["RaftNode00", "%RETRY%group", "b|c", "größe"] {
            assert!(check_name("brokerName", good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\0", "a\u{7f}", "../x", "a\\b", &"x".repeat(256)] {
            assert!(check_name("brokerName", bad).is_err(), "{bad:?}");
        }
        assert!(check_topic(&"x".repeat(512)).is_ok());
        assert!(check_topic(&"x".repeat(513)).is_err());
    }
}
