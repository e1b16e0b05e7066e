//! The name server's own keys.

use super::{Key, Kind, int, key};

pub(super) const KEYS: &[Key] = &[
    key("listenPort", int(1, 65_535), "9876", "", "port for brokers, clients and admin tools"),
    key(
        "kvConfigPath",
        Kind::Path,
        "",
        "",
        "file of the key/value settings; default `$HOME/namesrv/kvConfig.json`; settings changed \
         while running are kept beside it, in `changedConfig.json`",
    ),
    key("configStorePath", Kind::Path, "", "", "file that changed settings are written to")
        .without_effect("settings changed over the network are kept beside kvConfigPath"),
    key(
        "scanNotActiveBrokerInterval",
        int(100, 600_000),
        "5000",
        "ms",
        "how often silent brokers are looked for",
    ),
    key(
        "needWaitForService",
        Kind::Bool,
        "false",
        "",
        "refuse route requests for `waitSecondsForService` after the start",
    ),
    key("waitSecondsForService", int(0, 3600), "45", "s", "see `needWaitForService`"),
    key(
        "configBlackList",
        Kind::Text,
        "configBlackList;configStorePath;kvConfigPath",
        "",
        "keys, separated by `;`, that are never changed over the network",
    ),
    key("orderMessageEnable", Kind::Bool, "false", "", "routes carry `orderTopicConf`").dynamic(),
    key(
        "returnOrderTopicConfigToBroker",
        Kind::Bool,
        "true",
        "",
        "registrations are answered with the order settings of topics",
    )
    .dynamic(),
    key("enableAllTopicList", Kind::Bool, "true", "", "the list of all topics is given out")
        .dynamic(),
    key("enableTopicList", Kind::Bool, "true", "", "lists of topics by kind are given out")
        .dynamic(),
    key(
        "deleteTopicWithBrokerRegistration",
        Kind::Bool,
        "false",
        "",
        "a topic that is missing from a registration is taken out of that group's routes",
    )
    .dynamic(),
    key(
        "ingressSlots",
        Kind::Bool,
        "true",
        "",
        "routes of a group with several members have a second, write-only entry, `brokerName~1`, \
         with the address of a follower that passes writes on to the leader: a producer's retry \
         goes there when the leader is gone; not for ordered, FIFO, retry and system topics \
         (not in RocketMQ)",
    )
    .dynamic(),
    key("enableControllerInNamesrv", Kind::Bool, "false", "", "run a controller")
        .fixed("there are no controllers: the members of a group elect their leader themselves"),
];
