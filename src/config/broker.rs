//! What a broker is told, in units.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use crate::config::{
    address::{Endpoint, Peers},
    settings::Settings,
};

/// Everything a broker needs to start. Made by [`crate::config::cli::load_broker`]; checked as a
/// whole, so nobody below checks again.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// `brokerClusterName`.
    pub cluster: String,
    /// `brokerName`: the group's name, equal on all members (`dLegerGroup` must agree with it).
    pub group: String,
    /// `dLegerSelfId`: this member's name; in [`Self::peers`].
    pub member: String,
    /// `dLegerPeers`; in a group of one: this member alone, at `haListenPort`.
    pub peers: Peers,
    /// `enableDLegerCommitLog`: other members may call this one, now or later.
    pub is_member: bool,
    /// `preferredLeaderId`: the member that leads if it can; in [`Self::peers`].
    pub preferred_leader: Option<String>,
    /// `-n`, `namesrvAddr`, or `NAMESRV_ADDR`. Empty: the broker runs unregistered.
    pub name_servers: Vec<Endpoint>,
    /// `bindAddress` and `listenPort`.
    pub listen: SocketAddr,
    /// `listenPort` − 2: where clients with the "VIP channel" connect.
    pub vip_listen: SocketAddr,
    /// `haListenPort`: told to name servers, as Java does.
    pub ha_port: u16,
    /// `brokerIP1`: the host that clients are told. `None`: see [`crate::config::advertise`].
    pub advertised_host: Option<String>,
    /// Where and how the log is stored.
    pub store: StoreConfig,
    /// When members call an election.
    pub timing: ElectionTiming,
    /// Limits of the listening side.
    pub connections: ConnectionLimits,
    /// Talking to name servers.
    pub registration: Registration,
    /// Topics that exist from the start.
    pub system_topics: SystemTopics,
    /// What the process writes about itself.
    pub logging: Logging,
    /// `inFlightBytesMax`: messages taken from producers and not yet stored by a majority.
    pub in_flight_bytes_max: u64,
    /// `duplicateWindowSeconds`: how long what a producer sends again is answered with the first
    /// result; zero: never.
    pub duplicate_window: Duration,
    /// What can be changed while the broker runs.
    pub policy: Arc<BrokerPolicy>,
    /// What all this was made from.
    pub settings: Settings,
}

/// Where and how the log is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// `storePathRootDir`: everything is below it.
    pub root: PathBuf,
    /// `storePathCommitLog` (or `storePathDLedgerCommitLog`); default `root/commitlog`.
    pub commit_log: PathBuf,
    /// `mappedFileSizeCommitLog`, bytes; equal on all members.
    pub segment_bytes: u64,
    /// `flushDiskType`: whether a majority has a message on disk, or in its page cache, before
    /// the producer is answered.
    pub synced: bool,
}

/// `electionTimeoutMs` and `heartbeatIntervalMs`: the one trade between fast failover and
/// tolerance of stalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElectionTiming {
    /// A leader is heard at least this often.
    pub heartbeat: Duration,
    /// A follower that hears nothing calls an election after a random time between this …
    pub election_min: Duration,
    /// … and this (twice the former).
    pub election_max: Duration,
}

/// Limits of the listening side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// `serverChannelMaxIdleTimeSeconds`: a silent connection is closed.
    pub idle: Duration,
    /// `connectionsMax`: more connections are refused.
    pub connections_max: u32,
    /// `shutdownWaitTimeSeconds`: how long a stop waits for clients that still send here, and for
    /// answers under way.
    pub stop_grace: Duration,
}

/// Talking to name servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    /// `registerNameServerPeriod`.
    pub period: Duration,
    /// `registerBrokerTimeoutMills`.
    pub timeout: Duration,
}

/// Topics that exist from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemTopics {
    /// `clusterTopicEnable`: a topic named like the cluster.
    pub cluster: bool,
    /// `brokerTopicEnable`: a topic named like the group.
    pub broker: bool,
    /// `traceTopicEnable` and `msgTraceTopicName`: the topic that traces go to.
    pub trace: Option<String>,
}

/// What the process writes about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// `logLevel`: a `tracing` filter, for example `info` or `info,rmq::raft=debug`. The
    /// environment's `RUST_LOG` wins.
    pub level: String,
    /// `logFormat`.
    pub format: LogFormat,
}

/// `logFormat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line per event for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What can be changed while the broker runs (UPDATE_BROKER_CONFIG, 25). Handlers take the
/// current one for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct BrokerPolicy {
    /// `brokerPermission`: 6 read and write, 4 read only, 2 write only.
    pub permission: u32,
    /// `autoCreateTopicEnable`: a send to an unknown topic creates it.
    pub auto_create_topic: bool,
    /// `defaultTopicQueueNums`: most queues of a topic created by a send.
    pub default_topic_queues: u32,
    /// `autoCreateSubscriptionGroup`: an unknown consumer group is created when used.
    pub auto_create_group: bool,
    /// `maxMessageSize`: bytes of a message's body.
    pub message_bytes_max: u32,
    /// `traceOn`: clients are told to trace.
    pub trace_on: bool,
    /// `regionId`: given to producers in answers, and to traces.
    pub region: String,
    /// How pulls are answered.
    pub pull: PullPolicy,
    /// `notifyConsumerIdsChangedEnable`: members of a group are told at once who came or went.
    pub notify_consumer_ids_changed: bool,
    /// `channelExpiredTimeout`: a client without heartbeat is forgotten after this.
    pub client_expiry: Duration,
    /// `defaultQueryMaxNum`: most messages of a query by key.
    pub query_messages_max: u32,
    /// When messages go.
    pub retention: Retention,
    /// How the disk is checked.
    pub scrub: Scrub,
    /// `maxHaTransferByteInSecond`: how fast members that have no vote get what they lack.
    pub catch_up_bytes_per_second: u64,
}

/// How the disk is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrub {
    /// `scrubBytesPerSecond`; 0: it is not.
    pub bytes_per_second: u64,
    /// `scrubIntervalHours`: from the end of a round to the start of the next one.
    pub interval: Duration,
}

/// How pulls are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct PullPolicy {
    /// `longPollingEnable`: a pull may wait for a message as long as the client says …
    pub long_polling: bool,
    /// … otherwise this long: `shortPollingTimeMills`.
    pub short_polling: Duration,
    /// `slaveReadEnable`: followers are suggested for reading when the leader is far ahead.
    pub suggest_followers: bool,
    /// `readFromFollowers`: followers are suggested for reading while they keep up.
    pub read_from_followers: bool,
    /// `litePullMessageEnable`: request 361 is served.
    pub lite_pull: bool,
    /// `maxTransferBytesOnMessageInMemory`: bytes of one answer.
    pub bytes_max: u32,
    /// `maxTransferCountOnMessageInMemory`: messages of one answer.
    pub messages_max: u32,
    /// `maxTransferBytesOnMessageInDisk`: the same for messages that memory has lost.
    pub old_bytes_max: u32,
    /// `maxTransferCountOnMessageInDisk`: the same for messages that memory has lost.
    pub old_messages_max: u32,
    /// `accessMessageInMemoryMaxRatio`: percent of the machine's memory that the newest part of
    /// the log is taken to occupy.
    pub memory_percent: u32,
}

/// When messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// `fileReservedTime`: segments older than this are deleted …
    pub reserved: Duration,
    /// … at these hours, local time: `deleteWhen`.
    pub delete_hours: Vec<u8>,
    /// `diskMaxUsedSpaceRatio`: percent of the disk from which they are deleted at any hour.
    pub disk_percent_max: u32,
    /// `diskSpaceCleanForciblyRatio`: percent from which younger segments go as well …
    pub disk_percent_force: u32,
    /// … if `cleanFileForciblyEnable` allows it.
    pub force: bool,
    /// `diskSpaceWarningLevelRatio`: percent from which sends are refused.
    pub disk_percent_full: u32,
}

impl BrokerConfig {
    /// The typed form of settings that have been completed and found to fit together.
    pub(super) fn of(settings: Settings) -> Self {
        let s = &settings;
        let address = s.address("bindAddress");
        let port: u16 = s.number("listenPort");
        let peers = s.peers("dLegerPeers").cloned().unwrap_or_default();
        Self {
            cluster: s.text("brokerClusterName").unwrap_or_default().to_owned(),
            group: s.text("brokerName").unwrap_or_default().to_owned(),
            member: s.text("dLegerSelfId").unwrap_or_default().to_owned(),
            peers,
            is_member: s.bool("enableDLegerCommitLog"),
            preferred_leader: s.text("preferredLeaderId").map(str::to_owned),
            name_servers: s.endpoints("namesrvAddr"),
            listen: SocketAddr::new(address, port),
            vip_listen: SocketAddr::new(address, port - 2),
            ha_port: s.number("haListenPort"),
            advertised_host: s.text("brokerIP1").map(str::to_owned),
            store: StoreConfig {
                root: s.path("storePathRootDir").cloned().unwrap_or_default(),
                commit_log: s.path("storePathCommitLog").cloned().unwrap_or_default(),
                segment_bytes: s.number("mappedFileSizeCommitLog"),
                synced: s.text("flushDiskType") == Some("SYNC_FLUSH"),
            },
            timing: ElectionTiming {
                heartbeat: millis(s, "heartbeatIntervalMs"),
                election_min: millis(s, "electionTimeoutMs"),
                election_max: 2 * millis(s, "electionTimeoutMs"),
            },
            connections: ConnectionLimits::of(s),
            registration: Registration {
                period: millis(s, "registerNameServerPeriod"),
                timeout: millis(s, "registerBrokerTimeoutMills"),
            },
            system_topics: SystemTopics {
                cluster: s.bool("clusterTopicEnable"),
                broker: s.bool("brokerTopicEnable"),
                trace: s
                    .text("msgTraceTopicName")
                    .filter(|_| s.bool("traceTopicEnable"))
                    .map(str::to_owned),
            },
            logging: Logging::of(s),
            in_flight_bytes_max: s.number("inFlightBytesMax"),
            duplicate_window: Duration::from_secs(s.number("duplicateWindowSeconds")),
            policy: Arc::new(BrokerPolicy::of(s)),
            settings,
        }
    }
}

impl ConnectionLimits {
    pub(super) fn of(s: &Settings) -> Self {
        Self {
            idle: Duration::from_secs(s.number("serverChannelMaxIdleTimeSeconds")),
            connections_max: s.number("connectionsMax"),
            stop_grace: Duration::from_secs(s.number("shutdownWaitTimeSeconds")),
        }
    }
}

impl Logging {
    pub(super) fn of(s: &Settings) -> Self {
        let format = match s.text("logFormat") {
            Some("json") => LogFormat::Json,
            _ => LogFormat::Text,
        };
        Self { level: s.text("logLevel").unwrap_or("info").to_owned(), format }
    }
}

impl BrokerPolicy {
    pub(super) fn of(s: &Settings) -> Self {
        Self {
            permission: s.number("brokerPermission"),
            auto_create_topic: s.bool("autoCreateTopicEnable"),
            default_topic_queues: s.number("defaultTopicQueueNums"),
            auto_create_group: s.bool("autoCreateSubscriptionGroup"),
            message_bytes_max: s.number("maxMessageSize"),
            trace_on: s.bool("traceOn"),
            region: s.text("regionId").unwrap_or_default().to_owned(),
            pull: PullPolicy {
                long_polling: s.bool("longPollingEnable"),
                short_polling: millis(s, "shortPollingTimeMills"),
                suggest_followers: s.bool("slaveReadEnable"),
                read_from_followers: s.bool("readFromFollowers"),
                lite_pull: s.bool("litePullMessageEnable"),
                bytes_max: s.number("maxTransferBytesOnMessageInMemory"),
                messages_max: s.number("maxTransferCountOnMessageInMemory"),
                old_bytes_max: s.number("maxTransferBytesOnMessageInDisk"),
                old_messages_max: s.number("maxTransferCountOnMessageInDisk"),
                memory_percent: s.number("accessMessageInMemoryMaxRatio"),
            },
            notify_consumer_ids_changed: s.bool("notifyConsumerIdsChangedEnable"),
            client_expiry: millis(s, "channelExpiredTimeout"),
            query_messages_max: s.number("defaultQueryMaxNum"),
            retention: Retention {
                reserved: Duration::from_secs(3600 * s.number::<u64>("fileReservedTime")),
                delete_hours: s.hours("deleteWhen"),
                disk_percent_max: s.number("diskMaxUsedSpaceRatio"),
                disk_percent_force: s.number("diskSpaceCleanForciblyRatio"),
                force: s.bool("cleanFileForciblyEnable"),
                disk_percent_full: s.number("diskSpaceWarningLevelRatio"),
            },
            scrub: Scrub {
                bytes_per_second: s.number("scrubBytesPerSecond"),
                interval: Duration::from_secs(3600 * s.number::<u64>("scrubIntervalHours")),
            },
            catch_up_bytes_per_second: s.number("maxHaTransferByteInSecond"),
        }
    }
}

fn millis(s: &Settings, name: &str) -> Duration {
    Duration::from_millis(s.number(name))
}
