//! A broker's numbers and health, over HTTP on its own port.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::clock;
use crate::config::cli;
use crate::net::{Counters, HttpHandler, HttpResponse};
use crate::raft::{LeaderChanges, PeerStatus, Status};
use crate::telemetry;
use crate::telemetry::http::Health;
use crate::telemetry::instruments::HistogramValues;
use crate::telemetry::{Metric, Observed, Samples};

use super::Broker;

/// Answers `/metrics` and `/healthz`.
pub(super) struct Observer {
    broker: Arc<Broker>,
    started: Instant,
    /// Known once there is a server, which needs the observer first.
    counters: OnceLock<Arc<Counters>>,
}

impl Observer {
    /// Of a broker that starts at `started`.
    pub(super) fn new(broker: Arc<Broker>, started: Instant) -> Self {
        Self { broker, started, counters: OnceLock::new() }
    }

    /// What the server counts.
    pub(super) fn counts(&self, counters: &Arc<Counters>) {
        let _ = self.counters.set(Arc::clone(counters)); // set once, by start
    }

    fn sample_group(&self, samples: &mut Samples, status: &Status) {
        let role = match (self.broker.is_leader(), &status.leader) {
            (true, _) => "leader",
            (false, Some(_)) => "follower",
            (false, None) => "leaderless",
        };
        samples.put_of(Metric::RoleInfo, ("role", role), 1);
        samples.put(Metric::RaftTerm, status.term.0);
        samples.put(Metric::GroupVersion, status.version);
        samples.put(Metric::NewestVersion, status.newest_version);
        for (metric, index) in [
            (Metric::LastIndex, status.last),
            (Metric::CommittedIndex, status.committed),
            (Metric::AppliedIndex, status.applied),
        ] {
            if let Some(index) = index {
                samples.put(metric, index.0);
            }
        }
        samples.put(Metric::FirstPositionBytes, status.first_position.0);
        samples.put(Metric::LastPositionBytes, status.tail.0);
        samples.put(Metric::AppliedPositionBytes, status.applied_position.0);
        samples.put(Metric::DurablePositionBytes, status.durable.0);
        status.peers.iter().for_each(|peer| sample_peer(samples, peer));
        samples.put(Metric::InFlightBytes, status.waiting_bytes as u64);
        if let Some(space) = self.broker.disk_space() {
            samples.put(Metric::DiskBytes, space.total);
            samples.put(Metric::DiskFreeBytes, space.free);
        }
        let scrubbed = &status.scrubbed;
        samples.put(Metric::ScrubBytes, scrubbed.bytes);
        samples.put(Metric::ScrubDamaged, scrubbed.damaged);
        samples.put(Metric::ScrubRepaired, scrubbed.repaired);
        samples.put(Metric::ScrubDiffering, scrubbed.differing);
        samples.put(Metric::ScrubPosition, scrubbed.position.0);
        if let Some(ended_ms) = scrubbed.round_ended_ms {
            samples.put(Metric::ScrubRoundEnd, ended_ms / 1000);
        }
        let syncs = self.broker.group.log().sync_stats();
        let times = HistogramValues::of_powers(&syncs.buckets, syncs.total_us);
        samples.put_histogram(Metric::SyncSeconds, times);
    }

    fn sample_leaders(&self, samples: &mut Samples) {
        let group = &self.broker.group;
        let LeaderChanges { changes, totals } = group.leader_changes();
        for (cause, times) in totals {
            samples.put_of(Metric::LeaderChanges, ("cause", cause.name()), times);
        }
        if let Some(last) = changes.iter().rev().find(|change| change.led.is_some()) {
            let registered = last.registered.iter().map(|(_, at)| *at).max();
            for (step, at) in [
                ("detected", Some(last.detected)),
                ("campaigned", last.campaigned),
                ("elected", last.elected),
                ("led", last.led),
                ("registered", registered),
                ("first_send", last.sent),
            ] {
                let Some(at) = at else { continue };
                let after = at.saturating_duration_since(last.lost).as_secs_f64();
                samples.put_number_of(Metric::LastChangeSeconds, ("step", step), after);
            }
        }
        let passed_on = group.passed_on();
        samples.put(Metric::RequestsTaken, passed_on.taken);
        samples.put(Metric::RequestsPassedOn, passed_on.passed);
        samples.put(Metric::RequestsNotPassedOn, passed_on.failed);
        samples.put(Metric::Detours, self.broker.detours.lately(clock::now()));
    }

    fn sample_requests(&self, samples: &mut Samples) {
        let (stats, tables) = (&self.broker.stats, self.broker.tables());
        let totals = stats.totals();
        samples.put(Metric::MessagesIn, totals.put);
        samples.put(Metric::BytesIn, totals.put_bytes);
        samples.put(Metric::SendsFailed, totals.put_failed);
        samples.put(Metric::SendsRepeated, totals.put_repeated);
        samples.put(Metric::MessagesOut, totals.got);
        samples.put(Metric::BytesOut, totals.got_bytes);
        samples.put_of(Metric::Pulls, ("result", "found"), totals.found);
        samples.put_of(Metric::Pulls, ("result", "nothing"), totals.missed);
        samples.put_histogram(Metric::SendSeconds, stats.put_times.histogram.values());
        samples.put(Metric::HeldPulls, self.broker.wakeups.held() as u64);
        samples.put(Metric::Topics, tables.topics().count() as u64);
        samples.put(Metric::Groups, tables.groups().count() as u64);
    }
}

fn sample_peer(samples: &mut Samples, peer: &PeerStatus) {
    let label = ("peer", peer.name.as_str());
    samples.put_of(Metric::PeerLagEntries, label, peer.behind);
    if let Some(bytes) = peer.behind_bytes {
        samples.put_of(Metric::PeerLagBytes, label, bytes);
    }
    let Some(catch_up) = peer.catch_up else { return };
    samples.put_of(Metric::CatchUpPercent, label, catch_up.percent);
    if let Some(rate) = catch_up.bytes_per_second {
        samples.put_of(Metric::CatchUpRate, label, rate);
    }
    if let Some(left) = catch_up.left {
        samples.put_number_of(Metric::CatchUpLeft, label, left.as_secs_f64());
    }
}

impl HttpHandler for Observer {
    fn get(&self, path: &str) -> HttpResponse {
        let answer = telemetry::respond(path, self);
        HttpResponse {
            status: answer.status,
            content_type: answer.content_type,
            body: answer.body.into(),
        }
    }
}

impl Observed for Observer {
    fn sample(&self, samples: &mut Samples) {
        samples.put_build(cli::version(), "broker");
        let up = clock::now().saturating_duration_since(self.started);
        samples.put_number(Metric::UptimeSeconds, up.as_secs_f64());
        self.sample_group(samples, &self.broker.group.status());
        self.sample_leaders(samples);
        self.sample_requests(samples);
        if let Some(counters) = self.counters.get() {
            for (metric, value) in [
                (Metric::Connections, &counters.open),
                (Metric::ConnectionsRefused, &counters.refused),
                (Metric::ConnectionsCrowdedOut, &counters.crowded_out),
                (Metric::UnfinishedBytes, &counters.unfinished_bytes),
                (Metric::UnsentBytes, &counters.unsent_bytes),
            ] {
                samples.put(metric, value.load(Ordering::Relaxed));
            }
        }
    }

    fn health(&self) -> Health {
        let status = self.broker.group.status();
        if let Some(why) = status.stopped {
            return Health::Waits(format!("the raft group has stopped: {why}"));
        }
        let (group, term) = (&self.broker.identity.group, status.term);
        match status.leader {
            Some(leader) if self.broker.is_leader() => {
                Health::Serves(format!("{leader} leads {group} in term {term}"))
            }
            Some(leader) => Health::Serves(format!("follows {leader} of {group} in term {term}")),
            None => Health::Waits(
                status
                    .waits_for
                    .map(|waits_for| waits_for.why)
                    .unwrap_or_else(|| format!("no leader of {group} is known in term {term}")),
            ),
        }
    }
}
