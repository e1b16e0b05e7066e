//! What may change over the network.

use std::collections::BTreeMap;

use super::{broker, namesrv};
use crate::config::{load, update::UpdateError};

#[test]
fn a_dynamic_key_changes_and_is_shown() {
    let before = broker("").unwrap().config;
    let update = before.updated("maxMessageSize=1024\nfileReservedTime = 48\n").unwrap();
    let changed: Vec<_> = update.changed.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(changed, ["fileReservedTime=48", "maxMessageSize=1024"]);
    assert_eq!(update.config.policy.message_bytes_max, 1024);
    assert!(update.config.settings.to_properties().contains("\nmaxMessageSize=1024\n"));
    assert_eq!(before.policy.message_bytes_max, 4 << 20, "the former one is as it was");
    assert_eq!(before.updated("").unwrap().changed.len(), 0);
}

/// One request must not keep a server busy with explaining what is wrong with it.
#[test]
fn a_change_with_a_thousand_mistakes_is_refused_after_some() {
    let config = broker("").unwrap().config;
    let refused = config.updated(&"brokerNme=a\n".repeat(40_000)).unwrap_err().to_string();
    assert_eq!(refused.lines().count(), 16);
    let refused = config.updated(&"a".repeat(600_000)).unwrap_err().to_string();
    assert_eq!(refused, "request: 600000 bytes are too many, 524288 are allowed");
}

/// `updateBrokerConfig -k waitTimeMillsInPullQueue` and the like are what people's scripts send.
#[test]
fn numbers_and_switches_without_effect_are_taken_and_shown() {
    let before = broker("").unwrap().config;
    let update = before.updated("waitTimeMillsInPullQueue=5001\n").unwrap();
    let text = update.config.settings.to_properties();
    assert!(text.contains("\nwaitTimeMillsInPullQueue=5001\n"));
    assert_eq!(update.config.policy, before.policy);
}

#[test]
fn what_is_not_dynamic_is_refused_with_the_reason() {
    let config = broker("configBlackList=configBlackList;traceOn").unwrap().config;
    let rows = [
        ("brokerConfigPath=/tmp/x\n", "Can not update config in black list."),
        ("configBlackList=x", "Can not update config in black list."),
        ("traceOn=false", "Can not update config in black list."),
        ("a=\\u1", "string2Properties error"),
        ("listenPort=1", "request: listenPort: is read at start only: change the file and restart"),
        (
            "storePathRootDir=/tmp",
            "request: storePathRootDir: is read at start only: change the file and restart",
        ),
        (
            "aclEnable=true",
            "request: aclEnable: is read at start only: change the file and restart",
        ),
        (
            "rocketmqHome=/tmp",
            "request: rocketmqHome: has no effect here: internal to the Java server",
        ),
        ("traceOnn=true", "request: traceOnn: there is no such key; did you mean traceOn?"),
        (
            "maxMessageSize=x",
            "request: maxMessageSize: `x` is not a whole number from 1 to 15728640",
        ),
        (
            "diskSpaceWarningLevelRatio=50",
            "request: diskSpaceWarningLevelRatio: is below diskSpaceCleanForciblyRatio=85",
        ),
    ];
    for (text, want) in rows {
        let error = config.updated(text).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), want, "{text}");
    }
    let all_or_nothing = config.updated("maxMessageSize=1024\nlistenPort=1");
    assert!(matches!(all_or_nothing, Err(UpdateError::Refused(_))));
}

#[test]
fn changes_that_the_group_keeps_win_over_the_file() {
    let config = broker("maxMessageSize=2048").unwrap().config;
    let kept = [
        ("maxMessageSize", "1024"),
        ("fileReservedTime", "not a number"),
        ("listenPort", "1"),
        ("of another release", "1"),
        ("brokerPermission", "4"),
    ];
    let config = config.with_kept(kept);
    assert_eq!(config.policy.message_bytes_max, 1024);
    assert_eq!(config.policy.permission, 4);
    assert_eq!(config.policy.retention.reserved.as_secs(), 72 * 3600);
    assert_eq!(config.listen.port(), 10911);
    assert_eq!(config.settings.get("maxMessageSize").source.to_string(), "changed while running");
}

#[test]
fn a_name_server_changes_its_switches_only() {
    let config = namesrv("").unwrap().config;
    let update = config.updated("deleteTopicWithBrokerRegistration=true\n").unwrap();
    assert!(update.config.policy.delete_topics_with_registration);
    for key in ["kvConfigPath", "configStorePath", "configBlackList"] {
        let refused = config.updated(&format!("{key}=/tmp/x\n")).map(|_| ()).unwrap_err();
        assert_eq!(refused, UpdateError::BlackListed { key: key.into() });
    }
    assert!(config.updated("listenPort=1").is_err());
}

#[test]
fn what_a_name_server_kept_wins_over_the_file_and_is_said() {
    let kept = [
        ("enableTopicList", "false"),
        ("listenPort", "1"),
        ("of another release", "1"),
        ("productEnvName", "test"),
    ];
    let kept = kept.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let loaded = load::with_changes(namesrv("enableTopicList=true").unwrap(), &kept, "kept.json");
    assert!(!loaded.config.policy.topic_list);
    assert_eq!(loaded.config.listen.port(), 9876);
    assert_eq!(
        loaded.notices,
        ["kept.json: changed while running, wins over the file: enableTopicList=false, \
          productEnvName=test"]
    );
    assert_eq!(
        loaded.warnings,
        ["kept.json: cannot be changed while running: listenPort=1, of another release=1; ignored"]
    );
    let unchanged = load::with_changes(namesrv("").unwrap(), &BTreeMap::new(), "kept.json");
    assert_eq!((unchanged.notices, unchanged.warnings), (vec![], vec![]));
}

#[test]
fn long_values_are_refused_because_they_are_kept() {
    let config = namesrv("").unwrap().config;
    assert!(config.updated(&format!("productEnvName={}", "x".repeat(1024))).is_ok());
    let error = config.updated(&format!("productEnvName={}", "x".repeat(1025))).unwrap_err();
    assert_eq!(error.to_string(), "request: productEnvName: a value of 1025 bytes is too long");
}
