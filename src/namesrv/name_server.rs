//! The name server's state, and what it does by itself: looking for silent brokers, and answering
//! route requests that were held.
//!
//! One mutex guards table, readiness and held requests: what is answered and what is held is
//! decided on the same state. Nothing is awaited, written or parsed under it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{self, MissedTickBehavior},
};
use tracing::{info, warn};

use super::{
    counters::Counters,
    error::Refusal,
    held_routes::{Held, HeldRoutes},
    kv_config::{KvStore, ORDER_TOPIC_CONFIG},
    readiness::{Patience, Readiness},
    registration::Channel,
    route_request::RouteRequest,
    route_table::{Departed, RouteTable},
    routes::Prospect,
    settings::{Settings, Switches},
    slots::Slots,
};
use crate::{
    clock,
    net::{Connection, ReplyTo},
    protocol::command::RemotingCommand,
};

/// What a name server is told at its start.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long brokers have for reporting after the start.
    pub patience: Patience,
    /// Route requests that may wait; more are answered at once.
    pub held_routes_max: usize,
}

/// One name server.
#[derive(Debug)]
pub struct NameServer {
    pub(super) state: Mutex<State>,
    pub(super) kv: KvStore,
    pub(super) settings: Settings,
    pub(super) counters: Counters,
    /// Something changed that a held route request may wait for.
    changed: Notify,
}

/// What changes with every request.
#[derive(Debug)]
pub(super) struct State {
    pub(super) table: RouteTable,
    readiness: Readiness,
    held: HeldRoutes<HeldRequest>,
    /// Connections that brokers have registered on.
    channels: BTreeMap<Channel, Arc<Connection>>,
}

#[derive(Debug)]
struct HeldRequest {
    reply: ReplyTo,
    request: RouteRequest,
}

/// Numbers for `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauges {
    /// Live brokers.
    pub brokers: usize,
    /// Topics in routes.
    pub topics: usize,
    /// Route requests waiting.
    pub held_routes: usize,
    /// Whether brokers have had time to report.
    pub ready: bool,
}

impl NameServer {
    /// A name server without brokers that starts at `now`.
    pub fn new(options: Options, settings: Settings, kv: KvStore, now: Instant) -> Self {
        Self {
            state: Mutex::new(State {
                table: RouteTable::default(),
                readiness: Readiness::new(options.patience, now),
                held: HeldRoutes::new(options.held_routes_max),
                channels: BTreeMap::new(),
            }),
            kv,
            settings,
            counters: Counters::default(),
            changed: Notify::new(),
        }
    }

    /// What it has done so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What it holds at `now`.
    pub fn gauges(&self, now: Instant) -> Gauges {
        let state = self.state.lock();
        Gauges {
            brokers: state.table.broker_count(),
            topics: state.table.topic_count(),
            held_routes: state.held.len(),
            ready: state.readiness.ready_at() <= now,
        }
    }

    /// Answers a route request, now or when a better answer can be given.
    pub(super) fn route(&self, reply: ReplyTo, request: RouteRequest, now: Instant) {
        let mut state = self.state.lock();
        let wait_until = state.wait_until(&request.topic, now);
        let wait_until = wait_until.filter(|until| *until > now && request.may_wait());
        let Some(wait_until) = wait_until else {
            let answer = self.route_answer(&state, &request, now);
            drop(state);
            return reply.answer(answer);
        };
        let held = Held {
            topic: request.topic.clone(),
            deadline: now + request.patience,
            ticket: HeldRequest { reply, request },
        };
        match state.held.hold(held, wait_until) {
            Ok(()) => self.changed.notify_one(),
            Err(Held { ticket: HeldRequest { reply, request }, .. }) => {
                let answer = self.route_answer(&state, &request, now);
                drop(state);
                reply.answer(answer);
            }
        }
    }

    /// A broker was entered: notes where it is, and wakes who waits for it.
    pub(super) fn broker_entered(
        &self,
        state: &mut State,
        connection: &Arc<Connection>,
        now: Instant,
    ) {
        state.readiness.reported(now);
        state.channels.insert(channel(connection), Arc::clone(connection));
        self.changed.notify_one();
    }

    /// The connection has ended, and with it what was registered on it.
    pub(super) fn disconnected(&self, connection: &Arc<Connection>, now: Instant) {
        let channel = channel(connection);
        let mut state = self.state.lock();
        if state.channels.remove(&channel).is_none() {
            return;
        }
        let departed = state.table.disconnect(channel, now);
        drop(state);
        log_departed(&departed, "connection closed");
    }

    /// Takes out silent brokers every `interval`, for ever. After a standstill of its own it hears
    /// them first: what they have said since has not been read yet.
    pub async fn expire_silent(&self, interval: Duration) {
        let mut ticks = time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = clock::now();
        loop {
            ticks.tick().await;
            let now = clock::now();
            let stood_still = stood_still(now.duration_since(last), interval);
            last = now;
            if stood_still {
                continue;
            }
            let mut state = self.state.lock();
            let departed = state.table.expire(now);
            let channels = departed.iter().filter_map(|gone| state.channels.get(&gone.channel));
            let connections: Vec<_> = channels.map(Arc::clone).collect();
            drop(state);
            log_departed(&departed, "silent for too long");
            connections.iter().for_each(|connection| connection.close());
        }
    }

    /// Answers held route requests when their time has come, for ever.
    pub async fn answer_held(&self) {
        loop {
            let now = clock::now();
            for (reply, answer) in self.take_due(now) {
                reply.answer(answer);
            }
            let wake_at = self.state.lock().held.wake_at();
            let timer = async {
                match wake_at {
                    Some(at) => time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            // Both are cancel-safe: a permit of `changed` is kept until somebody takes it.
            tokio::select! {
                () = timer => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Answers everything that is held with what is known. Before a stop.
    pub fn answer_all_held(&self, now: Instant) {
        let mut state = self.state.lock();
        let held = state.held.take_due(now, |_| None);
        let answers = self.answers(&state, held, now);
        drop(state);
        answers.into_iter().for_each(|(reply, answer)| reply.answer(answer));
    }

    fn take_due(&self, now: Instant) -> Vec<(ReplyTo, RemotingCommand)> {
        let mut state = self.state.lock();
        let State { table, readiness, held, .. } = &mut *state;
        let due = held.take_due(now, |topic| wait_until(table, readiness, topic, now));
        self.answers(&state, due, now)
    }

    fn answers(
        &self,
        state: &State,
        held: Vec<Held<HeldRequest>>,
        now: Instant,
    ) -> Vec<(ReplyTo, RemotingCommand)> {
        held.into_iter()
            .map(|Held { ticket: HeldRequest { reply, request }, .. }| {
                (reply, self.route_answer(state, &request, now))
            })
            .collect()
    }

    fn route_answer(&self, state: &State, request: &RouteRequest, now: Instant) -> RemotingCommand {
        let kv = self.kv.current();
        let ordered = kv.get(ORDER_TOPIC_CONFIG, &request.topic).is_some();
        let slots = if ordered { Slots::Hidden } else { self.slots() };
        match state.table.route_of(&request.topic, request.zone.as_deref(), slots) {
            Some(route) => {
                self.counters.routes_found.increment();
                request.answer(route, self.switches().order_messages.then_some(&*kv))
            }
            None if now < state.readiness.ready_at() => {
                self.counters.routes_not_ready.increment();
                refusal(&Refusal::NotReady)
            }
            None => {
                self.counters.routes_missing.increment();
                refusal(&Refusal::NoRoute(request.topic.clone()))
            }
        }
    }

    pub(super) fn switches(&self) -> Switches {
        self.settings.switches()
    }

    pub(super) fn slots(&self) -> Slots {
        if self.switches().ingress_slots { Slots::Shown } else { Slots::Hidden }
    }
}

impl State {
    fn wait_until(&self, topic: &str, now: Instant) -> Option<Instant> {
        wait_until(&self.table, &self.readiness, topic, now)
    }
}

/// Until when an answer for `topic` may become better, if it may.
fn wait_until(
    table: &RouteTable,
    readiness: &Readiness,
    topic: &str,
    now: Instant,
) -> Option<Instant> {
    let ready_at = readiness.ready_at();
    if now < ready_at {
        return Some(ready_at);
    }
    match table.prospect(topic) {
        Prospect::Settled => None,
        Prospect::Electing { until } => Some(until),
    }
}

/// Whether this process stood still between two looks, which are `interval` apart else. Pure.
fn stood_still(between: Duration, interval: Duration) -> bool {
    between >= 2 * interval
}

/// The answer that says why not.
pub(super) fn refusal(refusal: &Refusal) -> RemotingCommand {
    RemotingCommand::error(super::error::response_code(refusal), refusal.to_string())
}

/// The connection as the table knows it.
pub(super) fn channel(connection: &Connection) -> Channel {
    Channel(connection.id().0)
}

pub(super) fn log_departed(departed: &[Departed], reason: &'static str) {
    for Departed { group, broker_id, address, .. } in departed {
        if reason == "unregistered" {
            info!(%group, broker_id, %address, reason, "broker gone");
        } else {
            warn!(%group, broker_id, %address, reason, "broker gone");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_comes_late_by_a_whole_interval_is_none() {
        let interval = Duration::from_secs(5);
        for (seconds, want) in [(0, false), (5, false), (9, false), (10, true), (3600, true)] {
            assert_eq!(stood_still(Duration::from_secs(seconds), interval), want, "{seconds}");
        }
    }
}
