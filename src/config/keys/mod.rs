//! The one table of configuration keys: kind, range, default, unit, effect. Everything else
//! (parsing, `-p`, the answer to GET_BROKER_CONFIG, what may be changed over the network, the
//! documentation) follows from it.

mod broker;
mod java;
mod namesrv;
mod table;

pub use table::{Table, suggest};

/// Which server a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// `rmq-broker`.
    Broker,
    /// `rmq-namesrv`.
    Namesrv,
}

impl Server {
    /// As in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Namesrv => "name server",
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Broker => Self::Namesrv,
            Self::Namesrv => Self::Broker,
        }
    }
}

/// One configuration key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// As RocketMQ spells it.
    pub name: &'static str,
    /// What values look like.
    pub kind: Kind,
    /// Unit of a number; empty if it has none.
    pub unit: &'static str,
    /// The default as it would be written; empty: none, or derived as [`Key::effect`] says.
    pub default: &'static str,
    /// What it does, in one line.
    pub effect: &'static str,
    /// Whether it does anything, and when.
    pub support: Support,
}

/// What values of a key look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number in a range.
    Int {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// One of some words.
    OneOf(&'static [&'static str]),
    /// A name that also is a legal topic name.
    Name,
    /// A member's name.
    Member,
    /// A host name or an address.
    Host,
    /// An address to listen on.
    Address,
    /// A path of this machine.
    Path,
    /// `host:port;host:port`.
    Endpoints,
    /// `n0-host:port;n1-host:port`.
    Peers,
    /// Hours of the day, `04` or `04;16`.
    Hours,
    /// What is logged: `info`, or `info,rmq::raft=debug`.
    LogFilter,
    /// Anything.
    Text,
}

/// Whether a key does anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// From the next start on.
    Used,
    /// Also while running, by UPDATE_BROKER_CONFIG and UPDATE_NAMESRV_CONFIG.
    Dynamic,
    /// Only its default is accepted: anything else asks for what is not there, and starting
    /// without it would be unsafe or surprising. The text says what.
    Fixed(&'static str),
    /// Accepted and ignored, for the given reason.
    NoEffect(&'static str),
}

impl Key {
    /// Whether its value must never be shown.
    pub fn is_secret(&self) -> bool {
        is_secret(self.name)
    }
}

/// Whether a key of this name holds something that must never be shown.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["secret", "password", "credential", "accesskey", "token", "initauthenticationuser"]
        .iter()
        .any(|word| name.contains(word))
}

/// Spellings of older releases, and what they are called now.
pub const HISTORIC: &[(&str, &str)] = &[
    ("mapedFileSizeCommitLog", "mappedFileSizeCommitLog"),
    ("mapedFileSizeConsumeQueue", "mappedFileSizeConsumeQueue"),
    ("mapedFileSizeConsumeQueueExt", "mappedFileSizeConsumeQueueExt"),
    ("haSlaveFallbehindMax", "haMaxGapNotInSync"),
    ("destroyMappedFileIntervalForcibly", "destroyMapedFileIntervalForcibly"),
    ("warmMappedFileEnable", "warmMapedFileEnable"),
    ("flushLeastPagesWhenWarmMappedFile", "flushLeastPagesWhenWarmMapedFile"),
];

/// Keys that people copy from the dashboard's `application.properties`.
pub const DASHBOARD: &[&str] =
    &["rocketmq.config.namesrvAddr", "rocketmq.config.namesrvAddrs", "server.port"];

const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    unit: &'static str,
    effect: &'static str,
) -> Key {
    Key { name, kind, unit, default, effect, support: Support::Used }
}

impl Key {
    const fn dynamic(mut self) -> Self {
        self.support = Support::Dynamic;
        self
    }

    const fn fixed(mut self, reason: &'static str) -> Self {
        self.support = Support::Fixed(reason);
        self
    }

    const fn without_effect(mut self, reason: &'static str) -> Self {
        self.support = Support::NoEffect(reason);
        self
    }
}

const fn int(min: i64, max: i64) -> Kind {
    Kind::Int { min, max }
}

/// Keys that both servers have, apart from `listenPort`, whose default differs.
const SHARED: &[Key] = &[
    key(
        "bindAddress",
        Kind::Address,
        "0.0.0.0",
        "",
        "address to listen on; `::` listens on IPv6 and IPv4",
    ),
    key(
        "serverChannelMaxIdleTimeSeconds",
        int(1, 86_400),
        "120",
        "s",
        "a connection that is silent for so long is closed",
    ),
    key(
        "connectionsMax",
        int(16, 1_000_000),
        "100000",
        "",
        "connections from clients; more are closed at once (not in RocketMQ)",
    ),
    key(
        "shutdownWaitTimeSeconds",
        int(0, 600),
        "30",
        "s",
        "how long a stop waits for requests under way (5 s at most); after SIGTERM a member of a \
         group first serves on for so long while clients send to it, which have yet to learn \
         that it goes: they ask for routes each 30 s",
    ),
    key(
        "logLevel",
        Kind::LogFilter,
        "info",
        "",
        "error, warn, info, debug, or a filter such as `info,rmq::raft=debug`; RUST_LOG wins \
         (not in RocketMQ)",
    ),
    key(
        "logFormat",
        Kind::OneOf(&["text", "json"]),
        "text",
        "",
        "log lines for people, or JSON objects (not in RocketMQ)",
    ),
    key(
        "configStrict",
        Kind::OneOf(&["error", "warn"]),
        "error",
        "",
        "whether unknown, doubled and unreadable settings stop the start, or are named and \
         ignored as Java ignores them (not in RocketMQ)",
    ),
    key("useTLS", Kind::Bool, "false", "", "connections to other servers use TLS")
        .fixed("TLS is not served yet: connections would not be encrypted"),
];
