//! Starts a broker from its configuration, and stops it again.
//!
//! ```text
//!  start: ports ─► store and raft group ─► handlers ─► listening ─► registration
//!  leave: out of the routes, and serving on ([`Running::leave`])
//!  stop:  consumers sent elsewhere ─► no new proposals, leadership handed over ─► held pulls
//!         answered, unregistered ─► no new requests, answers go out ─► checkpoint ─► end
//! ```

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::task::JoinSet;

use crate::clock;
use crate::config::broker::{Retention, Scrub};
use crate::config::{BrokerConfig, Endpoint, advertise};
use crate::net::{self, BindError, Reserved, Server, ServerOptions};
use crate::raft::{
    self, Group, GroupOptions, Limits, PULSE, PeerAddress, Peers, Pulse, Recovered, ScrubRules,
    Timing,
};
use crate::store::Durability;
use crate::store::disk_space::Ratios;
use crate::store::retention::{DeleteWhen, Rules};
use crate::telemetry::log_limit::LogLimit;

use super::acquaintance::Acquaintance;
use super::announcement::Registrant;
use super::announcing::{self, Announcer};
use super::channels::Channels;
use super::consumers::Consumers;
use super::detours::Detours;
use super::dispatch::Dispatcher;
use super::handlers::{Reading, client, pull};
use super::leaving;
use super::members::Members;
use super::observed::Observer;
use super::offset_commits::OffsetCommits;
use super::pull_offsets::PullOffsets;
use super::readers::{self, Readers};
use super::registered::Registered;
use super::registration::{Registration, RegistrationOptions};
use super::sending_away;
use super::settings::LiveSettings;
use super::stats::Stats;
use super::steering::{self, Steering};
use super::suspects::Suspects;
use super::system_topics::SystemTopics;
use super::unique_ids::UniqueIds;
use super::wakeup::{self, HELD_BYTES_MAX, HELD_MAX, Wakeups};
use super::watchdog::{End, Watchdog};
use super::{Broker, Identity, role_change};

/// Between samples for rates.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Between looks for clients whose heartbeats stay away.
const EXPIRE_EVERY: Duration = Duration::from_secs(10);
/// A stop waits at most this long for answers under way, whatever is configured: whoever asked
/// has given up by then.
const GRACE_MAX: Duration = Duration::from_secs(5);
/// How long a member that stops goes on answering pulls: what was not held here is told where to
/// read, too.
const LAST_PULLS: Duration = Duration::from_millis(100);

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port cannot be had.
    #[error("{setting}: {cause}")]
    Bind {
        /// Where it comes from.
        setting: &'static str,
        /// What is in the way.
        cause: BindError,
    },
    /// It is not clear what clients shall be told.
    #[error(transparent)]
    Address(#[from] advertise::Ambiguous),
    /// `brokerIP1` is a name without an address, and message ids need one.
    #[error("brokerIP1={host} has no address, and message ids need one: {why}")]
    Unresolved {
        /// As configured.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// The store or the raft group.
    #[error(transparent)]
    Group(#[from] raft::StartError),
    /// The system refused something.
    #[error("{what}: {why}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// What it said.
        why: String,
    },
}

/// A running broker.
pub struct Running {
    broker: Arc<Broker>,
    server: Arc<Server>,
    tasks: JoinSet<()>,
    registration: Registration,
    watchdog: Watchdog,
    /// As configured: how long clients may take to go elsewhere.
    grace: Duration,
}

/// Starts a broker. Must be called on the runtime that shall run its connections. `end` ends the
/// process when the broker hangs.
pub async fn start(config: BrokerConfig, end: End) -> Result<Running, StartError> {
    let (memory_bytes, routes_known_after) = (machine_memory_bytes(), steering::ROUTES_KNOWN_AFTER);
    start_in(config, Surroundings { memory_bytes, routes_known_after, end }).await
}

/// Starts the group anew with this member alone, or says what that would lose
/// ([`raft::recover_alone`]). Serves nothing.
pub fn recover_alone(config: &BrokerConfig, confirmation: &str) -> Result<Recovered, StartError> {
    if !config.is_member {
        let text = "this broker is no member of a group (enableDLegerCommitLog): it needs nobody, \
                    start it";
        return Ok(Recovered::Refused(text.to_owned()));
    }
    Ok(raft::recover_alone(&group_options(config), confirmation)?)
}

/// What a broker runs in.
pub(super) struct Surroundings {
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// How long clients need at most to know who is in routes.
    pub routes_known_after: Duration,
    /// Ends the process.
    pub end: End,
}

/// Starts a broker in these surroundings.
pub(super) async fn start_in(
    mut config: BrokerConfig,
    surroundings: Surroundings,
) -> Result<Running, StartError> {
    let Ports { clients, vip, peers } = ports(&config)?;
    let identity = identity(&mut config)?;
    let options = group_options(&config);
    let group = tokio::task::spawn_blocking(move || Group::start(options, peers)).await.map_err(
        |error| StartError::System { what: "opening the store", why: error.to_string() },
    )??;
    let broker = Arc::new(broker(&config, identity, group, &surroundings));
    broker.group.set_listener(Arc::clone(&broker.wakeups) as _);
    broker.group.set_consumers(Arc::new(client::Connected(Arc::downgrade(&broker))));
    let reading = Arc::clone(&broker);
    readers::start(&broker.readers, move |waiting: Reading| waiting.go_on(&reading))
        .map_err(|error| StartError::System { what: "starting readers", why: error.to_string() })?;
    let observer = Arc::new(Observer::new(Arc::clone(&broker), clock::now()));
    let server = Arc::new(
        Server::start(
            vec![
                // `sending_away::CLIENTS` is the first
                clients.listen().map_err(|cause| not_ours(MAIN_PORT, cause))?,
                vip.listen().map_err(|cause| not_ours(VIP_PORT, cause))?,
            ],
            Arc::new(Dispatcher(Arc::clone(&broker))),
            server_options(&config, &observer),
        )
        .map_err(|error| StartError::System { what: "listening", why: error.to_string() })?,
    );
    observer.counts(server.counters());
    let mut tasks = tasks(&broker);
    let registration = register(&config, &broker, surroundings.routes_known_after, &mut tasks);
    tracing::info!(
        cluster = broker.identity.cluster,
        group = broker.identity.group,
        member = broker.identity.member,
        listen = %config.listen,
        vip = %config.vip_listen,
        address = broker.identity.address,
        address_from = config.settings.get("brokerIP1").source.to_string(),
        "broker started"
    );
    let grace = config.connections.stop_grace;
    tasks.spawn(sending_away::run(Arc::clone(&broker), Arc::downgrade(&server)));
    let pulse = Pulse::default();
    tasks.spawn(pulse.clone().beat(tokio::time::interval(PULSE)));
    let watched = (broker.group.clone(), Arc::clone(&broker.acquaintance));
    let watchdog = Watchdog::start(watched, (&server, pulse), surroundings.end)
        .map_err(|error| StartError::System { what: "starting", why: error.to_string() })?;
    Ok(Running { broker, server, tasks, registration, watchdog, grace })
}

impl Running {
    /// The broker's shared state.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Where it listens: the main port, then the VIP port.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.server.addresses()
    }

    /// Takes this member out of the routes and serves on until its clients have gone elsewhere, for
    /// `shutdownWaitTimeSeconds` and a second at most; at once if nobody sends here, or nobody else
    /// could take it. To be followed by [`Self::stop`]. Cancel-safe.
    pub async fn leave(&mut self) {
        leaving::leave(&self.broker, &mut self.registration, self.grace).await;
    }

    /// How many connections clients have.
    #[cfg(test)]
    pub(super) fn connections(&self) -> usize {
        self.server.connections()
    }

    /// Hands leadership over, answers what is under way, writes a checkpoint.
    pub async fn stop(mut self) {
        // An end that takes its time is no hang.
        drop(self.watchdog);
        // Who is answered from now on reads elsewhere.
        self.broker.steering.stop(&self.broker.group);
        // Before anything else: until another member leads, producers have nowhere to go.
        self.broker.group.retire().await;
        // Then nobody is sent here any more; who comes all the same is still served.
        self.registration.stop().await;
        self.broker.wakeups.stop();
        if self.broker.group.roster().members.len() > 1 {
            tokio::time::sleep(LAST_PULLS).await;
        }
        self.server.stop(self.grace.min(GRACE_MAX)).await;
        self.broker.readers.close();
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        let group = self.broker.group.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || group.stop()).await {
            tracing::error!(%error, "the raft group did not stop");
        }
        tracing::info!(member = self.broker.identity.member, "stopped");
    }
}

/// All ports, taken before anything is made on disk. Clients are let in when they can be served:
/// who waited in a queue meanwhile would wait for the store, where the next member answers at once.
struct Ports {
    clients: Reserved,
    vip: Reserved,
    /// A broker that is not configured as a member of a group has no peers.
    peers: Option<std::net::TcpListener>,
}

fn ports(config: &BrokerConfig) -> Result<Ports, StartError> {
    let clients = net::reserve(config.listen).map_err(|cause| not_ours(MAIN_PORT, cause))?;
    let vip = net::reserve(config.vip_listen).map_err(|cause| not_ours(VIP_PORT, cause))?;
    let own = config.peers.get(&config.member).filter(|_| config.is_member);
    let peers = own.map(|own| {
        let address = SocketAddr::new(config.listen.ip(), own.port);
        let listener = net::listen(address).map_err(|cause| not_ours(PEERS, cause))?;
        listener.into_std().map_err(|error| StartError::System {
            what: "listening for peers",
            why: error.to_string(),
        })
    });
    Ok(Ports { clients, vip, peers: peers.transpose()? })
}

/// The settings that ports come from.
const MAIN_PORT: &str = "listenPort";
const VIP_PORT: &str = "listenPort - 2";
const PEERS: &str = "dLegerPeers";

fn not_ours(setting: &'static str, cause: BindError) -> StartError {
    StartError::Bind { setting, cause }
}

fn identity(config: &mut BrokerConfig) -> Result<Identity, StartError> {
    let advertised = config.advertise(&advertise::gather(config))?;
    let port = config.listen.port();
    let endpoint = Endpoint { host: advertised.host.clone(), port };
    let unresolved = |why: String| StartError::Unresolved { host: advertised.host.clone(), why };
    let store_host = match endpoint.ip() {
        Some(ip) => SocketAddr::new(ip, port),
        None => (advertised.host.as_str(), port)
            .to_socket_addrs()
            .map_err(|error| unresolved(error.to_string()))?
            .next()
            .ok_or_else(|| unresolved("no address found".to_owned()))?,
    };
    Ok(Identity {
        cluster: config.cluster.clone(),
        group: config.group.clone(),
        member: config.member.clone(),
        members: config.peers.iter().map(|(name, _)| name.to_owned()).collect(),
        address: endpoint.to_string(),
        ha_address: Endpoint { port: config.ha_port, ..endpoint }.to_string(),
        store_host,
        vip_port: config.vip_listen.port(),
    })
}

fn group_options(config: &BrokerConfig) -> GroupOptions {
    let peers = config
        .peers
        .iter()
        .map(|(name, at)| (name.to_owned(), PeerAddress { host: at.host.clone(), port: at.port }));
    GroupOptions {
        cluster: config.cluster.clone(),
        group: config.group.clone(),
        member: config.member.clone(),
        peers: Peers::new(peers),
        preferred: config.preferred_leader.clone(),
        dir: config.store.root.clone(),
        log_dir: config.store.commit_log.clone(),
        segment_bytes: config.store.segment_bytes,
        durability: if config.store.synced { Durability::Synced } else { Durability::PageCache },
        timing: Timing {
            heartbeat: config.timing.heartbeat,
            election_min: config.timing.election_min,
            election_max: config.timing.election_max,
            ..Timing::default()
        },
        limits: Limits {
            waiting_bytes: usize::try_from(config.in_flight_bytes_max).unwrap_or(usize::MAX),
            duplicates: config.duplicate_window,
            ..Limits::default()
        },
        retention: retention_rules(&config.policy.retention),
        scrub: scrub_rules(&config.policy.scrub),
        catch_up_bytes_per_second: config.policy.catch_up_bytes_per_second,
    }
}

fn scrub_rules(scrub: &Scrub) -> ScrubRules {
    ScrubRules { bytes_per_second: scrub.bytes_per_second, interval: scrub.interval }
}

/// Percentages and hours of the configuration, as the store counts.
fn retention_rules(retention: &Retention) -> Rules {
    let share = |percent: u32| f64::from(percent) / 100.0;
    let hours: Vec<String> = retention.delete_hours.iter().map(u8::to_string).collect();
    Rules {
        reserved: retention.reserved,
        delete_when: DeleteWhen::parse(&hours.join(";")).unwrap_or_default(),
        ratios: Ratios {
            max_used: share(retention.disk_percent_max),
            clean_forcibly: share(retention.disk_percent_force),
            warning: share(retention.disk_percent_full),
        }
        .clamped(),
        clean_forcibly: retention.force,
    }
}

fn broker(
    config: &BrokerConfig,
    identity: Identity,
    group: Group,
    surroundings: &Surroundings,
) -> Broker {
    let settings = LiveSettings::new(config.clone(), &group.tables());
    let policy = settings.policy(&group.tables());
    let system_topics = SystemTopics {
        cluster: config.cluster.clone(),
        group: config.group.clone(),
        cluster_topic: config.system_topics.cluster,
        group_topic: config.system_topics.broker,
        trace: config.system_topics.trace.clone(),
        template_queues: policy.auto_create_topic.then_some(policy.default_topic_queues),
    };
    let registered = Arc::new(Registered::default());
    Broker {
        unique_ids: UniqueIds::new(identity.store_host.ip()),
        identity,
        group,
        settings,
        system_topics,
        consumers: RwLock::new(Consumers::new(Arc::clone(&registered))),
        producers: RwLock::new(Members::new(registered)),
        acquaintance: Arc::new(Acquaintance::new(surroundings.routes_known_after, clock::now())),
        channels: Channels::default(),
        wakeups: Arc::new(Wakeups::new(HELD_MAX, HELD_BYTES_MAX)),
        readers: Arc::new(Readers::new(readers::WAITING_MAX)),
        offset_commits: OffsetCommits::default(),
        pull_offsets: PullOffsets::default(),
        refused_offsets: LogLimit::minutely(),
        sent_to_leader: LogLimit::new(Duration::from_secs(1)),
        announcer: Announcer::default(),
        steering: Steering::default(),
        detours: Detours::default(),
        suspects: Suspects::default(),
        locks_full: LogLimit::minutely(),
        heartbeats_full: LogLimit::minutely(),
        stats: Stats::default(),
        booted_ms: clock::wall_ms(),
        memory_bytes: surroundings.memory_bytes,
        store_dir: config.store.root.clone(),
    }
}

/// Announces this broker to the name servers, from the moment it has a role on.
fn register(
    config: &BrokerConfig,
    broker: &Arc<Broker>,
    routes_known_after: Duration,
    tasks: &mut JoinSet<()>,
) -> Registration {
    let identity = &broker.identity;
    let registrant = Registrant {
        cluster: identity.cluster.clone(),
        group: identity.group.clone(),
        address: identity.address.clone(),
        ha_address: identity.ha_address.clone(),
    };
    let options = RegistrationOptions {
        name_servers: config.name_servers.iter().map(Endpoint::to_string).collect(),
        period: config.registration.period,
        timeout: config.registration.timeout,
    };
    let registration = Registration::start(&options, &registrant, &broker.announcer.subscribe());
    broker.announcer.follow(registration.progress());
    for (name_server, told) in registration.progress().each() {
        tasks.spawn(role_change::note_registered(Arc::clone(broker), name_server, told));
    }
    let steering = steering::Watch::new(routes_known_after);
    tasks.spawn(announcing::run(Arc::clone(broker), steering));
    tasks.spawn(announcing::follow_order(Arc::clone(broker)));
    registration
}

fn machine_memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit).saturating_mul(info.totalram)
}

fn server_options(config: &BrokerConfig, observer: &Arc<Observer>) -> ServerOptions {
    ServerOptions {
        connections_max: usize::try_from(config.connections.connections_max).unwrap_or(usize::MAX),
        idle: config.connections.idle,
        plain_http: Some(Arc::clone(observer) as _),
        ..ServerOptions::default()
    }
}

fn tasks(broker: &Arc<Broker>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let answering = Arc::clone(broker);
    tasks.spawn(wakeup::run(Arc::clone(&broker.wakeups), move |waiting, why| {
        pull::resume(&answering, waiting, why);
    }));
    tasks.spawn(role_change::run(Arc::clone(broker)));
    let sampled = Arc::clone(broker);
    tasks.spawn(every(SAMPLE_EVERY, move || {
        sampled.stats.sample(clock::now());
        sampled.stats.users.on_day(local_day(clock::wall_ms()));
        let policy = sampled.settings.policy(&sampled.tables());
        sampled.group.set_retention(retention_rules(&policy.retention));
        sampled.group.set_scrub(scrub_rules(&policy.scrub));
        sampled.group.set_catch_up(policy.catch_up_bytes_per_second);
    }));
    let expiring = Arc::clone(broker);
    tasks.spawn(every(EXPIRE_EVERY, move || expiring.expire_clients()));
    tasks
}

async fn every(period: Duration, work: impl Fn() + Send) {
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        work();
    }
}

/// A number that changes at local midnight.
fn local_day(now_ms: i64) -> i64 {
    let now = jiff::Timestamp::from_millisecond(now_ms).unwrap_or_default();
    let date = now.to_zoned(jiff::tz::TimeZone::system()).date();
    i64::from(date.year()) * 1000 + i64::from(date.day_of_year())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;
    use crate::config::settings::{FileText, Inputs};

    #[test]
    fn name_servers_are_told_the_configured_ha_port() {
        let inputs = Inputs { home: Some("/home/rmq".into()), ..Inputs::default() };
        let told = |text: &str| {
            let text = format!("brokerName=b\nbrokerIP1=192.0.2.1\nlistenPort=30911\n{text}");
            let file = FileText { name: "broker.conf".into(), text };
            identity(&mut load::broker(Some(&file), &inputs).unwrap().config).unwrap().ha_address
        };
        let group = "enableDLegerCommitLog=true\ndLegerPeers=n0-a:1\ndLegerSelfId=n0\n";
        assert_eq!(told(""), "192.0.2.1:30912");
        assert_eq!(told("haListenPort=4711"), "192.0.2.1:4711");
        assert_eq!(told(group), "192.0.2.1:30912");
    }

    #[test]
    fn the_local_day_changes_once_a_day() {
        let days: Vec<i64> = (0..48).map(|hour| local_day(hour * 3_600_000)).collect();
        let changes = days.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!((1..=2).contains(&changes), "{days:?}");
    }
}
