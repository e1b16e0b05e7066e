//! The one list of metric names, and the Prometheus text format. Pure.

use std::fmt::Write;

use crate::telemetry::instruments::{HistogramValues, bucket_end_us};

/// How a metric behaves over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; starts at 0 with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations by size.
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

macro_rules! metrics {
    ($($id:ident, $kind:ident, $name:literal, $help:literal;)*) => {
        /// Every metric there is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Metric {
            $(#[doc = $help] $id,)*
        }

        impl Metric {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$id,)*];

            /// Its name, which ends in its unit.
            pub fn name(self) -> &'static str {
                match self { $(Self::$id => $name,)* }
            }

            /// How it behaves.
            pub fn kind(self) -> Kind {
                match self { $(Self::$id => Kind::$kind,)* }
            }

            /// What it says.
            pub fn help(self) -> &'static str {
                match self { $(Self::$id => $help,)* }
            }
        }
    };
}

metrics! {
    BuildInfo, Gauge, "rmq_build_info", "1; labels: version, server";
    UptimeSeconds, Gauge, "rmq_uptime_seconds", "Time since the process started.";

    RoleInfo, Gauge, "rmq_role_info", "1 for the role this member has; label: role";
    RaftTerm, Gauge, "rmq_raft_term", "Raft term.";
    GroupVersion, Gauge, "rmq_group_version", "Version of the formats that the group writes.";
    NewestVersion, Gauge, "rmq_newest_readable_version", "The newest of them that this build reads.";
    LastIndex, Gauge, "rmq_raft_last_index", "Index of the last entry of the log.";
    CommittedIndex, Gauge, "rmq_raft_committed_index", "Index of the last committed entry.";
    AppliedIndex, Gauge, "rmq_raft_applied_index", "Index of the last applied entry.";
    FirstPositionBytes, Gauge, "rmq_log_first_position_bytes", "Where the log begins.";
    LastPositionBytes, Gauge, "rmq_log_last_position_bytes", "Where the log ends.";
    AppliedPositionBytes, Gauge, "rmq_log_applied_position_bytes",
        "Up to where consumers can read.";
    DurablePositionBytes, Gauge, "rmq_log_durable_position_bytes",
        "Up to where the log is as durable as flushDiskType says.";
    PeerLagEntries, Gauge, "rmq_peer_lag_entries",
        "Entries that a peer has not confirmed, as the leader sees it; label: peer";
    PeerLagBytes, Gauge, "rmq_peer_lag_bytes", "Bytes of those; label: peer";
    CatchUpPercent, Gauge, "rmq_peer_catch_up_percent",
        "How far a peer is that catches up, of the log from where it began; label: peer";
    CatchUpRate, Gauge, "rmq_peer_catch_up_bytes_per_second",
        "How fast it gets the log, over the last 5 s; label: peer";
    CatchUpLeft, Gauge, "rmq_peer_catch_up_left_seconds",
        "How long it takes if all goes on like that; missing if it gets no nearer; label: peer";

    LeaderChanges, Counter, "rmq_leader_changes_total",
        "Changes of the leader that this member saw; label: cause";
    LastChangeSeconds, Gauge, "rmq_last_leader_change_seconds",
        "When each step of the last one was done, from the last sign of the former leader; label: step";
    RequestsTaken, Counter, "rmq_requests_taken_to_pass_on_total",
        "Requests that came while another member led, or nobody.";
    RequestsPassedOn, Counter, "rmq_requests_passed_on_total",
        "Such requests sent to a leader; what goes again counts again.";
    RequestsNotPassedOn, Counter, "rmq_requests_not_passed_on_total",
        "Such requests that failed.";
    Detours, Gauge, "rmq_detour_connections",
        "Connections whose sends were passed on within the last 30 s.";

    MessagesIn, Counter, "rmq_messages_in_total", "Messages stored.";
    BytesIn, Counter, "rmq_messages_in_bytes_total", "Bytes of those.";
    SendsFailed, Counter, "rmq_sends_failed_total", "Sends that stored nothing.";
    SendsRepeated, Counter, "rmq_sends_repeated_total",
        "Sends that were answered with what an earlier try had stored.";
    SendSeconds, Histogram, "rmq_send_duration_seconds", "From the arrival of a send to its answer.";
    InFlightBytes, Gauge, "rmq_in_flight_bytes",
        "Taken from producers and not yet stored by a majority.";
    Pulls, Counter, "rmq_pulls_total", "Pull requests answered; label: result";
    MessagesOut, Counter, "rmq_messages_out_total", "Messages given to consumers.";
    BytesOut, Counter, "rmq_messages_out_bytes_total", "Bytes of those.";
    HeldPulls, Gauge, "rmq_held_pulls", "Pulls that wait for a message.";
    Requests, Counter, "rmq_requests_total", "Requests of any kind; label: code";

    SyncSeconds, Histogram, "rmq_sync_duration_seconds", "One sync of the log's files.";
    DiskBytes, Gauge, "rmq_disk_size_bytes", "Size of the store's disk.";
    DiskFreeBytes, Gauge, "rmq_disk_free_bytes", "What is free of it.";
    ScrubBytes, Counter, "rmq_scrub_bytes_total",
        "Bytes of the log that were read on the disk to check them.";
    ScrubDamaged, Counter, "rmq_scrub_damaged_entries_total", "Entries found damaged that way.";
    ScrubRepaired, Counter, "rmq_scrub_repaired_entries_total", "Those that are whole again.";
    ScrubDiffering, Counter, "rmq_scrub_differing_entries_total",
        "Entries, whole by their checksums, of which another member has other bytes.";
    ScrubPosition, Gauge, "rmq_scrub_position_bytes", "Up to where this round of checking is.";
    ScrubRoundEnd, Gauge, "rmq_scrub_round_end_timestamp_seconds",
        "When the last round of checking ended, since 1970.";

    Connections, Gauge, "rmq_connections", "Open connections of clients.";
    ConnectionsRefused, Counter, "rmq_connections_refused_total",
        "Connections closed at once, because there were too many.";
    ConnectionsCrowdedOut, Counter, "rmq_connections_crowded_out_total",
        "Connections closed because requests or answers under way held too much memory.";
    UnfinishedBytes, Gauge, "rmq_unfinished_request_bytes",
        "Held by requests of which a part has come, or that wait; small ones do not count.";
    UnsentBytes, Gauge, "rmq_unsent_answer_bytes",
        "Held by answers that peers have not taken, without stored messages and small ones.";
    Registrations, Counter, "rmq_registrations_total",
        "Registrations with name servers; label: result";
    Topics, Gauge, "rmq_topics", "Topics.";
    Groups, Gauge, "rmq_consumer_groups", "Consumer groups.";

    Brokers, Gauge, "rmq_brokers", "Brokers registered with this name server.";
    Routes, Counter, "rmq_routes_total", "Route requests answered; label: result";
    HeldRoutes, Gauge, "rmq_held_routes", "Route requests that wait for a leader.";
}

/// What was measured, at one moment. Values without labels, or with one.
#[derive(Debug, Default)]
pub struct Samples(Vec<Sample>);

#[derive(Debug)]
struct Sample {
    metric: Metric,
    labels: Vec<(&'static str, String)>,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Number(f64),
    Whole(i128),
    Histogram(Box<HistogramValues>),
}

impl Samples {
    /// A count, position or size.
    pub fn put(&mut self, metric: Metric, value: impl Into<i128>) {
        self.push(metric, Vec::new(), Value::Whole(value.into()));
    }

    /// The same with a label: one of few values, never a topic, group or address of a client.
    pub fn put_of(
        &mut self,
        metric: Metric,
        (label, of): (&'static str, &str),
        value: impl Into<i128>,
    ) {
        self.push(metric, vec![(label, of.to_owned())], Value::Whole(value.into()));
    }

    /// A ratio or a time.
    pub fn put_number(&mut self, metric: Metric, value: f64) {
        self.push(metric, Vec::new(), Value::Number(value));
    }

    /// The same with a label.
    pub fn put_number_of(&mut self, metric: Metric, (label, of): (&'static str, &str), value: f64) {
        self.push(metric, vec![(label, of.to_owned())], Value::Number(value));
    }

    /// Durations.
    pub fn put_histogram(&mut self, metric: Metric, values: HistogramValues) {
        self.push(metric, Vec::new(), Value::Histogram(Box::new(values)));
    }

    /// Which build this is.
    pub fn put_build(&mut self, version: &str, server: &str) {
        let labels = vec![("version", version.to_owned()), ("server", server.to_owned())];
        self.push(Metric::BuildInfo, labels, Value::Whole(1));
    }

    fn push(&mut self, metric: Metric, labels: Vec<(&'static str, String)>, value: Value) {
        self.0.push(Sample { metric, labels, value });
    }

    /// The Prometheus text format, version 0.0.4, in the order of the list.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for metric in Metric::ALL {
            let mut samples = self.0.iter().filter(|sample| sample.metric == *metric).peekable();
            if samples.peek().is_none() {
                continue;
            }
            let (name, kind) = (metric.name(), metric.kind().name());
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", metric.help());
            samples.for_each(|sample| write_sample(&mut text, sample));
        }
        text
    }
}

fn write_sample(text: &mut String, sample: &Sample) {
    let name = sample.metric.name();
    let labels = &sample.labels;
    match &sample.value {
        Value::Whole(value) => line(text, name, labels, value),
        Value::Number(value) => line(text, name, labels, value),
        Value::Histogram(values) => write_histogram(text, name, values),
    }
}

fn line(
    text: &mut String,
    name: &str,
    labels: &[(&'static str, String)],
    value: &dyn std::fmt::Display,
) {
    text.push_str(name);
    for (number, (label, of)) in labels.iter().enumerate() {
        let before = if number == 0 { '{' } else { ',' };
        let of = of.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{before}{label}=\"{of}\"");
    }
    let after = if labels.is_empty() { "" } else { "}" };
    let _ = writeln!(text, "{after} {value}");
}

#[allow(clippy::cast_precision_loss)] // shown values; exact up to 285 years of microseconds
fn write_histogram(text: &mut String, name: &str, values: &HistogramValues) {
    let bucket = format!("{name}_bucket");
    let mut sum = 0;
    for (at, count) in values.buckets.iter().enumerate() {
        sum += count;
        let end = bucket_end_us(at);
        let end = end.map_or_else(|| "+Inf".to_owned(), |us| (us as f64 / 1e6).to_string());
        line(text, &bucket, &[("le", end)], &sum);
    }
    line(text, &format!("{name}_sum"), &[], &(values.sum_us as f64 / 1e6));
    line(text, &format!("{name}_count"), &[], &sum);
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;
    use crate::telemetry::instruments::Histogram;

    #[test]
    fn names_are_unique_and_end_as_their_kind_demands() {
        let names: BTreeSet<_> = Metric::ALL.iter().map(|m| m.name()).collect();
        assert_eq!(names.len(), Metric::ALL.len());
        for metric in Metric::ALL {
            let name = metric.name();
            let legal = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.starts_with("rmq_") && name.chars().all(legal), "{name}");
            match metric.kind() {
                Kind::Counter => assert!(name.ends_with("_total"), "{name}"),
                Kind::Gauge => assert!(!name.ends_with("_total"), "{name}"),
                Kind::Histogram => assert!(name.ends_with("_seconds"), "{name}"),
            }
        }
    }

    #[test]
    fn samples_are_written_in_the_order_of_the_list() {
        let mut samples = Samples::default();
        samples.put(Metric::Connections, 7_i64);
        samples.put_of(Metric::PeerLagEntries, ("peer", "n1"), 3_u64);
        samples.put_of(Metric::PeerLagEntries, ("peer", "a\"b\\c\nd"), 0_u64);
        samples.put_number(Metric::UptimeSeconds, 0.25);
        samples.put_build("0.1.0", "broker");
        assert_eq!(
            samples.to_text(),
            "# HELP rmq_build_info 1; labels: version, server\n\
             # TYPE rmq_build_info gauge\n\
             rmq_build_info{version=\"0.1.0\",server=\"broker\"} 1\n\
             # HELP rmq_uptime_seconds Time since the process started.\n\
             # TYPE rmq_uptime_seconds gauge\n\
             rmq_uptime_seconds 0.25\n\
             # HELP rmq_peer_lag_entries Entries that a peer has not confirmed, as the leader \
             sees it; label: peer\n\
             # TYPE rmq_peer_lag_entries gauge\n\
             rmq_peer_lag_entries{peer=\"n1\"} 3\n\
             rmq_peer_lag_entries{peer=\"a\\\"b\\\\c\\nd\"} 0\n\
             # HELP rmq_connections Open connections of clients.\n\
             # TYPE rmq_connections gauge\n\
             rmq_connections 7\n"
        );
    }

    #[test]
    fn a_histogram_is_cumulative() {
        let histogram = Histogram::default();
        for us in [10, 20, 60_000_000] {
            histogram.observe(Duration::from_micros(us));
        }
        let mut samples = Samples::default();
        samples.put_histogram(Metric::SendSeconds, histogram.values());
        let text = samples.to_text();
        for line in [
            "rmq_send_duration_seconds_bucket{le=\"0.000016\"} 1\n",
            "rmq_send_duration_seconds_bucket{le=\"0.000032\"} 2\n",
            "rmq_send_duration_seconds_bucket{le=\"33.554432\"} 2\n",
            "rmq_send_duration_seconds_bucket{le=\"+Inf\"} 3\n",
            "rmq_send_duration_seconds_sum 60.00003\n",
            "rmq_send_duration_seconds_count 3\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
