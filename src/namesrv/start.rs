//! Starts a name server from its configuration, and stops it.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{net::TcpListener, task::JoinSet};
use tracing::{error, info};

use super::{
    atomic_file,
    dispatch::Dispatch,
    error::Refusal,
    kv_config::KvStore,
    name_server::{Gauges, NameServer, Options},
    readiness::Patience,
    settings::{Changed, Current, Settings, Switches},
};
use crate::{
    clock,
    config::{
        NamesrvConfig, cli,
        update::{Update, UpdateError},
    },
    net::{self, BindError, HttpHandler, HttpResponse, Server, ServerOptions},
    protocol::frame::FRAME_BYTES_MAX,
    telemetry::{
        self, Metric, Observed, Samples,
        http::{Answer, Health},
    },
};

/// Route requests that may wait at a time; more are answered at once.
const HELD_ROUTES_MAX: usize = 10_000;

/// Bytes of requests of which only a part has come: two of the largest. Those are registrations:
/// 400 bytes for each topic if names are of the longest kind (127), 226 with names of 40, so
/// 40,000 topics of a broker fit into one in any case.
const UNFINISHED_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;

/// Nothing here takes long: brokers and clients go to another name server the sooner.
const STOP_GRACE_MAX: Duration = Duration::from_millis(500);

/// Why a name server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port is not to be had.
    #[error("listenPort: {0}")]
    Bind(BindError),
    /// The KV configuration cannot be read.
    #[error("kvConfigPath: cannot read {path}: {cause}")]
    KvConfig {
        /// `kvConfigPath`.
        path: String,
        /// What is wrong.
        cause: io::Error,
    },
    /// The sockets cannot be served.
    #[error("cannot serve: {0}")]
    Serve(#[from] io::Error),
}

/// A name server that runs. Dropping it ends it at once; [`Running::stop`] lets answers go out.
#[derive(Debug)]
pub struct Running {
    server: Server,
    name_server: Arc<NameServer>,
    config: NamesrvConfig,
    /// Aborted when dropped.
    _tasks: JoinSet<()>,
}

/// Starts a name server. Must be called on the runtime that shall run it.
pub fn start(config: NamesrvConfig) -> Result<Running, StartError> {
    let kv = KvStore::open(config.kv_config.clone()).map_err(|cause| StartError::KvConfig {
        path: config.kv_config.display().to_string(),
        cause,
    })?;
    let listener = net::listen(config.listen).map_err(StartError::Bind)?;
    serve(config, kv, listener)
}

fn serve(config: NamesrvConfig, kv: KvStore, listener: TcpListener) -> Result<Running, StartError> {
    let options = Options { patience: patience(&config), held_routes_max: HELD_ROUTES_MAX };
    let started = clock::now();
    let name_server = Arc::new(NameServer::new(options, settings(config.clone()), kv, started));
    let http = Arc::new(Http {
        name_server: Arc::clone(&name_server),
        connections: OnceLock::new(),
        started,
    });
    let server_options = ServerOptions {
        connections_max: config.connections.connections_max as usize,
        idle: config.connections.idle,
        unfinished_bytes_max: UNFINISHED_BYTES_MAX,
        plain_http: Some(Arc::clone(&http) as _),
        ..ServerOptions::default()
    };
    let handler = Arc::new(Dispatch(Arc::clone(&name_server)));
    let server = Server::start(vec![listener], handler, server_options)?;
    let _ = http.connections.set(Arc::clone(server.counters())); // set here only
    let mut tasks = JoinSet::new();
    let (silent, held) = (Arc::clone(&name_server), Arc::clone(&name_server));
    let interval = config.scan_interval;
    tasks.spawn(async move { silent.expire_silent(interval).await });
    tasks.spawn(async move { held.answer_held().await });
    for address in server.addresses() {
        info!(%address, kv_config = %config.kv_config.display(), "name server started");
    }
    Ok(Running { server, name_server, config, _tasks: tasks })
}

impl Running {
    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.server.addresses()
    }

    /// What it holds now.
    pub fn gauges(&self) -> Gauges {
        self.name_server.gauges(clock::now())
    }

    /// Answers what waits, and closes all connections.
    pub async fn stop(self) {
        self.name_server.answer_all_held(clock::now());
        self.server.stop(self.config.connections.stop_grace.min(STOP_GRACE_MAX)).await;
        info!("name server stopped");
    }
}

/// RocketMQ's `needWaitForService` asks for a fixed time.
fn patience(config: &NamesrvConfig) -> Patience {
    config
        .wait_for_service
        .map_or_else(Patience::default, |wait| Patience { after_first: wait, after_start: wait })
}

fn settings(mut config: NamesrvConfig) -> Settings {
    let first = current(&config);
    let update = move |text: &str| {
        let Update { changed: values, config: updated } = config.updated(text).map_err(refusal)?;
        if updated.settings != config.settings {
            keep(&updated).map_err(|error| {
                error!(%error, path = %updated.changes.display(), "cannot store changed settings");
                Refusal::NotStored(error.to_string())
            })?;
        }
        config = updated;
        Ok(Changed { current: current(&config), values })
    };
    Settings::new(first, Box::new(update))
}

/// Changed settings go into a file of their own, which the next start reads: the operator's file
/// has comments and an owner, and may not be writable.
fn keep(config: &NamesrvConfig) -> io::Result<()> {
    let content = serde_json::to_vec_pretty(&config.settings.changed())?;
    atomic_file::write(&config.changes, &content)
}

fn current(config: &NamesrvConfig) -> Current {
    let policy = &config.policy;
    let switches = Switches {
        delete_missing_topics: policy.delete_topics_with_registration,
        all_topic_list: policy.all_topic_list,
        topic_list: policy.topic_list,
        order_messages: policy.order_messages,
        return_order_config: policy.return_order_config,
        ingress_slots: policy.ingress_slots,
    };
    Current { switches, properties: config.settings.to_properties() }
}

fn refusal(error: UpdateError) -> Refusal {
    match error {
        UpdateError::Unreadable => Refusal::NotProperties,
        UpdateError::BlackListed { .. } => Refusal::SettingBlacklisted,
        UpdateError::Refused(errors) => Refusal::SettingRefused(errors.to_string()),
    }
}

/// `/metrics` and `/healthz` on the name server's own port.
struct Http {
    name_server: Arc<NameServer>,
    /// Known once there is a server, which needs this first.
    connections: OnceLock<Arc<net::Counters>>,
    started: Instant,
}

impl HttpHandler for Http {
    fn get(&self, path: &str) -> HttpResponse {
        let Answer { status, content_type, body } = telemetry::respond(path, self);
        HttpResponse { status, content_type, body: body.into() }
    }
}

impl Observed for Http {
    fn sample(&self, samples: &mut Samples) {
        let (now, counters) = (clock::now(), self.name_server.counters());
        let gauges = self.name_server.gauges(now);
        samples.put_build(cli::version(), "namesrv");
        samples.put_number(Metric::UptimeSeconds, now.duration_since(self.started).as_secs_f64());
        for (metric, value) in [
            (Metric::Brokers, gauges.brokers),
            (Metric::Topics, gauges.topics),
            (Metric::HeldRoutes, gauges.held_routes),
        ] {
            samples.put(metric, value as i128);
        }
        if let Some(connections) = self.connections.get() {
            for (metric, value) in [
                (Metric::Connections, &connections.open),
                (Metric::ConnectionsRefused, &connections.refused),
                (Metric::ConnectionsCrowdedOut, &connections.crowded_out),
                (Metric::UnfinishedBytes, &connections.unfinished_bytes),
                (Metric::UnsentBytes, &connections.unsent_bytes),
            ] {
                samples.put(metric, value.load(Ordering::Relaxed));
            }
        }
        for (code, count) in counters.requests() {
            samples.put_of(Metric::Requests, ("code", code), count);
        }
        for (metric, result, counter) in [
            (Metric::Registrations, "entered", &counters.registrations_entered),
            (Metric::Registrations, "fenced", &counters.registrations_fenced),
            (Metric::Registrations, "refused", &counters.registrations_refused),
            (Metric::Routes, "found", &counters.routes_found),
            (Metric::Routes, "missing", &counters.routes_missing),
            (Metric::Routes, "not_ready", &counters.routes_not_ready),
        ] {
            samples.put_of(metric, ("result", result), counter.get());
        }
    }

    fn health(&self) -> Health {
        let gauges = self.name_server.gauges(clock::now());
        if gauges.ready {
            Health::Serves(format!("{} brokers, {} topics", gauges.brokers, gauges.topics))
        } else {
            Health::Waits("waits for brokers to report".to_owned())
        }
    }
}

/// A name server on a free port of this machine, with its files in `home`.
#[cfg(test)]
pub(crate) fn start_on_free_port(home: &std::path::Path) -> Running {
    use crate::config::{load, settings::Inputs};
    let inputs = Inputs { home: Some(home.to_owned()), ..Inputs::default() };
    let mut config = load::namesrv(None, &inputs).unwrap().config;
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    start(config).unwrap()
}
