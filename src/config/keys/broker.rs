//! The broker's own keys.

use super::{Key, Kind, int, key};

const KIB: i64 = 1024;
const MIB: i64 = 1024 * KIB;

pub(super) const KEYS: &[&[Key]] = &[IDENTITY, GROUP, STORE, REQUESTS, RETENTION];

const IDENTITY: &[Key] = &[
    key(
        "namesrvAddr",
        Kind::Endpoints,
        "",
        "",
        "name servers, `host:port;host:port`; `-n` wins, the environment's NAMESRV_ADDR is used \
         if it is not set; without any the broker runs unregistered",
    ),
    key("brokerClusterName", Kind::Name, "DefaultCluster", "", "cluster the group belongs to"),
    key(
        "brokerName",
        Kind::Name,
        "",
        "",
        "name of the group, equal on all its members; default: `dLegerGroup`, or the host name",
    ),
    key(
        "brokerId",
        int(0, i64::MAX),
        "0",
        "",
        "0: ids of members follow from the election; others belong to slaves, which come later",
    ),
    key(
        "brokerRole",
        Kind::OneOf(&["ASYNC_MASTER", "SYNC_MASTER", "SLAVE"]),
        "ASYNC_MASTER",
        "",
        "ASYNC_MASTER: a group of one; the others come later",
    ),
    key(
        "brokerIP1",
        Kind::Host,
        "",
        "",
        "host that clients are told; default: the address this host uses towards the first name \
         server, or its only address",
    ),
    key("listenPort", int(3, 65_534), "10911", "", "port for clients; listenPort-2 as well"),
    key(
        "haListenPort",
        int(1, 65_535),
        "",
        "",
        "port kept for peers of a broker that is not in a group, for when it gets some, and told to \
         name servers; default: listenPort + 1",
    ),
    key(
        "registerNameServerPeriod",
        int(1_000, 60_000),
        "30000",
        "ms",
        "how often the registration is repeated; changes are sent at once",
    ),
    key(
        "registerBrokerTimeoutMills",
        int(100, 60_000),
        "24000",
        "ms",
        "how long a registration may take",
    ),
    key("clusterTopicEnable", Kind::Bool, "true", "", "there is a topic named like the cluster"),
    key("brokerTopicEnable", Kind::Bool, "true", "", "there is a topic named like the group"),
    key("traceTopicEnable", Kind::Bool, "false", "", "there is a topic for message traces"),
    key("msgTraceTopicName", Kind::Name, "RMQ_SYS_TRACE_TOPIC", "", "its name"),
    key(
        "configBlackList",
        Kind::Text,
        "configBlackList;brokerConfigPath",
        "",
        "keys, separated by `;`, that are never changed over the network",
    ),
    key("aclEnable", Kind::Bool, "false", "", "check access keys")
        .fixed("access control is not served yet: everybody would have access"),
    key("authenticationEnabled", Kind::Bool, "false", "", "check who a client is")
        .fixed("access control is not served yet: everybody would have access"),
    key("authorizationEnabled", Kind::Bool, "false", "", "check what a client may do")
        .fixed("access control is not served yet: everybody would have access"),
    key("enableControllerMode", Kind::Bool, "false", "", "be led by a controller").fixed(
        "there are no controllers: the members of a group elect their leader themselves \
         (enableDLegerCommitLog, dLegerPeers)",
    ),
    key("enableSlaveActingMaster", Kind::Bool, "false", "", "let slaves act as master")
        .fixed("members of a group elect a new leader (enableDLegerCommitLog, dLegerPeers)"),
];

const GROUP: &[Key] = &[
    key(
        "enableDLegerCommitLog",
        Kind::Bool,
        "false",
        "",
        "this broker is a member of a replicated group",
    ),
    key("dLegerGroup", Kind::Name, "", "", "name of the group: `brokerName`, if both are set"),
    key(
        "dLegerPeers",
        Kind::Peers,
        "",
        "",
        "all members, `n0-host:port;n1-host:port`, equal on all of them until the group is \
         started; afterwards its log knows the members (`rmq-admin memberAdd`), and this names \
         addresses: resolved at each connect, IPv6 in brackets; the port is for peers only: let \
         nobody else reach it",
    ),
    key("dLegerSelfId", Kind::Member, "", "", "which of `dLegerPeers` this broker is"),
    key(
        "preferredLeaderId",
        Kind::Member,
        "",
        "",
        "which of `dLegerPeers` leads if it can: whoever else does transfers leadership to it once \
         it has been able to lead for 10 s, and after a transfer that does not last no sooner than \
         after 30 s, and each time twice as long, up to 10 min; equal on all members",
    ),
    key(
        "electionTimeoutMs",
        int(50, 60_000),
        "300",
        "ms",
        "a follower that hears no leader for this to twice this calls an election: less means \
         faster failover when a machine or link vanishes, more tolerates longer stalls; a process \
         that ends is followed at once (not in RocketMQ)",
    ),
    key(
        "heartbeatIntervalMs",
        int(10, 20_000),
        "100",
        "ms",
        "how often a leader is heard; at most a third of `electionTimeoutMs` (not in RocketMQ)",
    ),
];

const STORE: &[Key] = &[
    key(
        "storePathRootDir",
        Kind::Path,
        "",
        "",
        "folder of everything this broker stores; default `$HOME/store`",
    ),
    key(
        "storePathCommitLog",
        Kind::Path,
        "",
        "",
        "folder of the log's segments; default `commitlog` below storePathRootDir",
    ),
    key(
        "storePathDLedgerCommitLog",
        Kind::Path,
        "",
        "",
        "another name of storePathCommitLog, for members of a replicated group",
    ),
    key(
        "mappedFileSizeCommitLog",
        int(MIB, 2 * 1024 * MIB - 4 * KIB),
        "1073741824",
        "bytes",
        "size of one segment of the log, a multiple of 4096, equal on all members",
    ),
    key(
        "flushDiskType",
        Kind::OneOf(&["SYNC_FLUSH", "ASYNC_FLUSH"]),
        "SYNC_FLUSH",
        "",
        "a send is answered when a majority has it on disk (SYNC_FLUSH) or in the page cache \
         (ASYNC_FLUSH: survives any crash of processes, not a power failure of a majority); \
         RocketMQ's default is ASYNC_FLUSH",
    ),
    key("messageIndexEnable", Kind::Bool, "true", "", "messages can be found by key")
        .without_effect("messages can always be found by key"),
    key("storeType", Kind::OneOf(&["default", "defaultRocksDB"]), "default", "", "store format")
        .fixed("there is one store format"),
    key(
        "inFlightBytesMax",
        int(MIB, 4096 * MIB),
        "67108864",
        "bytes",
        "messages taken from producers and not yet stored by a majority; beyond it sends are \
         answered SYSTEM_BUSY (not in RocketMQ)",
    ),
    key(
        "duplicateWindowSeconds",
        int(0, 120),
        "10",
        "s",
        "for how long after a message was stored under another leader, or the connection that \
         brought it ended, the same one with the same unique key, as a producer's own retry sends \
         it, is answered with the first result and not stored again; of the last 131,072 messages, \
         32,768 of connections that ended; 0: never; equal on all members (not in RocketMQ)",
    ),
    key(
        "scrubBytesPerSecond",
        int(0, 1024 * MIB),
        "4194304",
        "bytes/s",
        "how fast each member reads its log on the disk, to find damage that nobody has met and \
         what differs from other members; 0: never (not in RocketMQ)",
    )
    .dynamic(),
    key(
        "scrubIntervalHours",
        int(1, 8760),
        "168",
        "hours",
        "from the end of one such reading of the whole log to the start of the next (not in \
         RocketMQ)",
    )
    .dynamic(),
    key(
        "maxHaTransferByteInSecond",
        int(64 * KIB, 1024 * 1024 * MIB),
        "104857600",
        "bytes/s",
        "how fast the leader sends the log to each member that has no vote and lacks more than 8 MiB \
         of it: one that is new, or was emptied; voters get theirs as fast as they take it",
    )
    .dynamic(),
];

const REQUESTS: &[Key] = &[
    key("brokerPermission", int(0, 6), "6", "", "6 read and write, 4 read only, 2 write only")
        .dynamic(),
    key("autoCreateTopicEnable", Kind::Bool, "true", "", "a send to an unknown topic creates it")
        .dynamic(),
    key(
        "defaultTopicQueueNums",
        int(1, 1024),
        "8",
        "",
        "most queues of a topic that a send creates",
    )
    .dynamic(),
    key(
        "autoCreateSubscriptionGroup",
        Kind::Bool,
        "true",
        "",
        "an unknown consumer group is created when it is used",
    )
    .dynamic(),
    key("maxMessageSize", int(1, 15 * MIB), "4194304", "bytes", "largest body of a message")
        .dynamic(),
    key("rejectTransactionMessage", Kind::Bool, "false", "", "refuse transactional messages")
        .without_effect("transactions are not served yet"),
    key("traceOn", Kind::Bool, "true", "", "producers are told to write traces").dynamic(),
    key("regionId", Kind::Name, "DefaultRegion", "", "region told to producers").dynamic(),
    key(
        "longPollingEnable",
        Kind::Bool,
        "true",
        "",
        "a pull that finds nothing waits as long as the client allows",
    )
    .dynamic(),
    key(
        "shortPollingTimeMills",
        int(1, 60_000),
        "1000",
        "ms",
        "how long it waits without `longPollingEnable`",
    )
    .dynamic(),
    key(
        "slaveReadEnable",
        Kind::Bool,
        "false",
        "",
        "consumers that are far behind are sent to a follower",
    )
    .dynamic(),
    key(
        "readFromFollowers",
        Kind::Bool,
        "true",
        "",
        "consumers read from followers that keep up: when the leader dies they go on reading; \
         `false`: from the leader",
    )
    .dynamic(),
    key("litePullMessageEnable", Kind::Bool, "true", "", "requests of lite pull consumers")
        .dynamic(),
    key(
        "maxTransferBytesOnMessageInMemory",
        int(1, 16 * MIB),
        "262144",
        "bytes",
        "most bytes of one answer to a pull",
    )
    .dynamic(),
    key(
        "maxTransferCountOnMessageInMemory",
        int(1, 10_000),
        "32",
        "",
        "most messages of one answer to a pull",
    )
    .dynamic(),
    key(
        "maxTransferBytesOnMessageInDisk",
        int(1, 16 * MIB),
        "65536",
        "bytes",
        "the same for messages that are no longer in memory",
    )
    .dynamic(),
    key(
        "maxTransferCountOnMessageInDisk",
        int(1, 10_000),
        "8",
        "",
        "the same for messages that are no longer in memory",
    )
    .dynamic(),
    key(
        "accessMessageInMemoryMaxRatio",
        int(1, 95),
        "40",
        "% of the memory",
        "how much of the newest part of the log is taken to be in memory",
    )
    .dynamic(),
    key(
        "disableConsumeIfConsumerReadSlowly",
        Kind::Bool,
        "false",
        "",
        "stop a consumer group that is `consumerFallbehindThreshold` behind",
    )
    .without_effect("consumer groups are not stopped for being slow"),
    key(
        "consumerFallbehindThreshold",
        int(MIB, i64::MAX),
        "17179869184",
        "bytes",
        "see `disableConsumeIfConsumerReadSlowly`",
    )
    .without_effect("consumer groups are not stopped for being slow"),
    key(
        "notifyConsumerIdsChangedEnable",
        Kind::Bool,
        "true",
        "",
        "consumers are told at once when one of their group comes or goes",
    )
    .dynamic(),
    key(
        "channelExpiredTimeout",
        int(1_000, 3_600_000),
        "120000",
        "ms",
        "a client without a heartbeat is forgotten after this",
    )
    .dynamic(),
    key(
        "messageDelayLevel",
        Kind::Text,
        "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h",
        "",
        "the delay levels",
    )
    .without_effect("delay levels cannot be changed yet"),
    key("defaultQueryMaxNum", int(1, 1024), "32", "", "most messages of a query by key").dynamic(),
];

const RETENTION: &[Key] = &[
    key(
        "fileReservedTime",
        int(1, 876_000),
        "72",
        "hours",
        "segments of the log older than this are deleted",
    )
    .dynamic(),
    key("deleteWhen", Kind::Hours, "04", "hours", "when: hours of the day, local time, by `;`")
        .dynamic(),
    key(
        "diskMaxUsedSpaceRatio",
        int(10, 95),
        "75",
        "% of the disk",
        "above it expired segments are deleted at any hour",
    )
    .dynamic(),
    key(
        "diskSpaceCleanForciblyRatio",
        int(30, 95),
        "85",
        "% of the disk",
        "above it the oldest segments are deleted even if they have not expired",
    )
    .dynamic(),
    key(
        "cleanFileForciblyEnable",
        Kind::Bool,
        "true",
        "",
        "allow what `diskSpaceCleanForciblyRatio` says",
    )
    .dynamic(),
    key(
        "diskSpaceWarningLevelRatio",
        int(35, 98),
        "90",
        "% of the disk",
        "above it sends are refused until space is freed",
    )
    .dynamic(),
];
