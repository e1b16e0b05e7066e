//! The table of keys is consistent in itself and with RocketMQ's.

use std::collections::BTreeSet;

use super::{broker, inputs, namesrv};
use crate::config::{
    cli,
    keys::{HISTORIC, Kind, Server, Support, Table, suggest},
    load, value,
};

const SERVERS: [Server; 2] = [Server::Broker, Server::Namesrv];

#[test]
fn defaults_are_values_of_their_key() {
    for server in SERVERS {
        for key in Table::of(server).iter().filter(|key| !key.default.is_empty()) {
            let value = value::parse(key.kind, key.default);
            assert_eq!(value.map(|v| v.to_string()), Ok(key.default.to_owned()), "{}", key.name);
        }
    }
}

#[test]
fn keys_that_do_something_say_what() {
    for server in SERVERS {
        for key in Table::of(server).iter() {
            match key.support {
                Support::Used | Support::Dynamic => assert!(key.effect.len() > 5, "{}", key.name),
                Support::Fixed(why) => {
                    assert!(why.len() > 5 && !key.default.is_empty(), "{}", key.name);
                }
                Support::NoEffect(why) => assert!(why.len() > 5, "{}", key.name),
            }
            let network = matches!(key.support, Support::Dynamic);
            let harmless = !matches!(key.kind, Kind::Path | Kind::Endpoints | Kind::Peers);
            assert!(!network || harmless, "{} must not change over the network", key.name);
        }
    }
}

/// A key that is not read has no effect, and must say so.
#[test]
fn keys_are_read_if_and_only_if_they_have_an_effect() {
    let sources = [
        include_str!("../broker.rs"),
        include_str!("../namesrv.rs"),
        include_str!("../rules.rs"),
        include_str!("../settings.rs"),
        include_str!("../update.rs"),
    ];
    for server in SERVERS {
        for key in Table::of(server).iter() {
            let read = sources.iter().any(|text| text.contains(&format!("\"{}\"", key.name)));
            match key.support {
                Support::Used | Support::Dynamic => assert!(read, "{} is not read", key.name),
                Support::NoEffect(_) if key.kind != Kind::Path => {
                    // One name for two servers; and two that only tools set or look at.
                    let shown = ["brokerConfigPath", "productEnvName", "rocketmqHome"];
                    assert!(!read || shown.contains(&key.name), "{} is read", key.name);
                }
                Support::NoEffect(_) | Support::Fixed(_) => {}
            }
        }
    }
}

#[test]
fn every_key_of_java_is_known_and_answered() {
    let rows = [
        (
            Server::Broker,
            broker("namesrvAddr=a:1").unwrap().config.settings.to_properties(),
            include_str!("../../../tests/config/broker-keys.txt"),
        ),
        (
            Server::Namesrv,
            namesrv("").unwrap().config.settings.to_properties(),
            include_str!("../../../tests/config/namesrv-keys.txt"),
        ),
    ];
    for (server, answer, java) in rows {
        let answered: BTreeSet<_> =
            answer.lines().map(|line| line.split('=').next().unwrap()).collect();
        for name in java.lines() {
            let key = Table::of(server).find(name);
            assert!(key.is_some(), "{name} is not in the table");
            // Of a broker those are missing that have no value; Java leaves such out as well.
            let empty = server == Server::Broker && key.is_some_and(|key| key.default.is_empty());
            assert!(empty || answered.contains(name), "{name} is not answered");
        }
        let lines: Vec<_> = answer.lines().collect();
        assert!(lines.is_sorted(), "the answer is sorted");
    }
}

#[test]
fn historic_spellings_lead_to_keys_and_are_none_themselves() {
    for (old, new) in HISTORIC {
        let table = Table::of(Server::Broker);
        assert_eq!(table.find(old).map(|key| key.name), Some(*new));
        assert!(table.iter().all(|key| key.name != *old));
    }
}

/// Both ends of every range fit the field they are read into.
#[test]
fn ranges_fit_their_fields() {
    for server in SERVERS {
        for key in Table::of(server).iter() {
            let Kind::Int { min, max } = key.kind else { continue };
            for end in [min, max] {
                let text = format!("{}={end}\n", key.name);
                match server {
                    Server::Broker => drop(broker(&text)),
                    Server::Namesrv => drop(namesrv(&text)),
                }
            }
        }
    }
}

#[test]
fn suggestions_are_near() {
    let names = ["brokerIP1", "brokerIP2", "brokerId", "brokerName", "listenPort"];
    let rows = [
        ("brokerIp1", Some("brokerIP1")),
        ("BROKERNAME", Some("brokerName")),
        ("listenprot", Some("listenPort")),
        ("lstenPort", Some("listenPort")),
        ("port", None),
        ("", None),
    ];
    for (written, want) in rows {
        assert_eq!(suggest(written, names.into_iter()), want, "{written}");
    }
}

#[test]
fn the_listing_shows_values_and_where_they_come_from() {
    let text = "listenPort=30911\nsendMessageThreadPoolNums=16";
    let settings = broker(text).unwrap().config.settings;
    let all = cli::listing(&settings, true);
    let line = |listing: &str, key: &str| {
        let found = listing.lines().find(|line| line.split_whitespace().next() == Some(key));
        found.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let rows = [
        ("listenPort", "listenPort 30911 broker.conf:1"),
        ("haListenPort", "haListenPort 30912 listenPort + 1"),
        ("brokerName", "brokerName worker1 host name"),
        ("brokerIP1", "brokerIP1 - default"),
        (
            "sendMessageThreadPoolNums",
            "sendMessageThreadPoolNums 16 broker.conf:2; no effect: requests are served by a few \
             event loops: there are no thread pools to size",
        ),
    ];
    for (key, want) in rows {
        assert_eq!(line(&all, key).as_deref(), Some(want));
    }
    let important = cli::listing(&settings, false);
    assert_eq!(line(&important, "sendMessageThreadPoolNums"), None);
    assert!(line(&important, "listenPort").is_some());
}

#[test]
fn an_empty_configuration_loads() {
    assert!(load::broker(None, &inputs()).is_ok());
    assert!(load::namesrv(None, &inputs()).is_ok());
}
