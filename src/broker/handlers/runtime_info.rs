//! GET_BROKER_RUNTIME_INFO (28): what mqadmin, dashboards and exporters show of a broker. Every
//! member answers; keys and formats are Java's, because tools parse them.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::clock;
use crate::ids::PhysicalOffset;
use crate::protocol::bodies::{self, KVTable};
use crate::protocol::codes::ResponseCode;
use crate::protocol::command::RemotingCommand;
use crate::protocol::version;
use crate::raft::Status;
use crate::store::entry::HEADER_BYTES;
use crate::store::files::Space;
use crate::store::query;

use crate::broker::Broker;
use crate::broker::dispatch::{Answer, Request};
use crate::broker::stats::{DayCounts, Totals};

/// Tools divide by the size of queues that this broker does not have.
const NO_QUEUES: [&str; 6] = ["send", "pull", "litePull", "query", "ack", "reply"];

/// Collects the answer.
#[derive(Default)]
struct Table(BTreeMap<String, String>);

impl Table {
    fn put(&mut self, key: impl Into<String>, value: impl Display) {
        self.0.insert(key.into(), value.to_string());
    }
}

/// The handler.
pub(in crate::broker) fn get(broker: &Broker, _: &Request) -> Answer {
    let mut table = Table::default();
    let now_ms = clock::wall_ms();
    let status = broker.group.status();
    table.put("brokerVersionDesc", version::name_of(version::CURRENT));
    table.put("brokerVersion", version::CURRENT);
    table.put("brokerActive", broker.is_leader());
    table.put("bootTimestamp", broker.booted_ms);
    table.put("runtime", uptime(now_ms - broker.booted_ms));
    table.put("startAcceptSendRequestTimeStamp", 0);
    rates(&mut table, &broker.stats.totals());
    days(&mut table, broker.stats.users.counts());
    sends(&mut table, broker);
    no_queues(&mut table);
    log(&mut table, broker, &status);
    disk(&mut table, broker.disk_space(), &broker.store_dir.display().to_string());
    group(&mut table, &status);
    let body = bodies::encode(&KVTable { table: table.0 });
    Ok(RemotingCommand::response(ResponseCode::SUCCESS).with_body(body).into())
}

/// Rates of the last 10, 60 and 600 seconds.
fn rates(table: &mut Table, totals: &Totals) {
    let text = |rates: [f64; 3]| rates.map(|rate| rate.to_string()).join(" ");
    table.put("putTps", text(totals.put_rates));
    table.put("getFoundTps", text(totals.found_rates));
    table.put("getMissTps", text(totals.missed_rates));
    table.put("getTransferredTps", text(totals.got_rates));
    let total = std::array::from_fn(|i| totals.found_rates[i] + totals.missed_rates[i]);
    table.put("getTotalTps", text(total));
    table.put("putMessageTimesTotal", totals.put);
    table.put("putMessageSizeTotal", totals.put_bytes);
    table.put("putMessageFailedTimes", totals.put_failed);
    #[allow(clippy::cast_precision_loss)] // an average, for people
    let average = if totals.put > 0 { totals.put_bytes as f64 / totals.put as f64 } else { 0.0 };
    table.put("putMessageAverageSize", average);
}

fn days(table: &mut Table, counts: DayCounts) {
    let moments = [
        ("YesterdayMorning", counts.yesterday_morning),
        ("TodayMorning", counts.today_morning),
        ("TodayNow", counts.now),
    ];
    for (moment, (put, got)) in moments {
        table.put(format!("msgPutTotal{moment}"), put);
        table.put(format!("msgGetTotal{moment}"), got);
    }
}

fn sends(table: &mut Table, broker: &Broker) {
    let times = broker.stats.put_times.snapshot();
    table.put("putMessageEntireTimeMax", times.longest_ms);
    table.put("putMessageDistributeTime", times.text());
    table.put("putLatency99", format!("{}.00", times.share_within_ms(0.99)));
    table.put("putLatency999", format!("{}.00", times.share_within_ms(0.999)));
    table.put("getMessageEntireTimeMax", 0);
    table.put("pageCacheLockTimeMills", 0);
    table.put("heldPulls", broker.wakeups.held());
    table.put("clientConnections", broker.channels.count());
}

/// Requests do not wait in queues here; tools want to know how long they do.
fn no_queues(table: &mut Table) {
    for name in NO_QUEUES {
        table.put(format!("{name}ThreadPoolQueueSize"), 0);
        table.put(format!("{name}ThreadPoolQueueCapacity"), 10_000);
        table.put(format!("{name}ThreadPoolQueueHeadWaitTimeMills"), 0);
    }
    table.put("EndTransactionQueueSize", 0);
    table.put("EndTransactionThreadPoolQueueCapacity", 10_000);
    for name in ["timerReadBehind", "timerOffsetBehind", "timerCongestNum"] {
        table.put(name, 0);
    }
    table.put("timerEnqueueTps", "0.0");
    table.put("timerDequeueTps", "0.0");
}

fn log(table: &mut Table, broker: &Broker, status: &Status) {
    table.put("commitLogMinOffset", status.first_position);
    table.put("commitLogMaxOffset", status.tail);
    let not_applied = status.tail.0.saturating_sub(status.applied_position.0);
    let not_durable = status.tail.0.saturating_sub(status.durable.0);
    table.put("dispatchBehindBytes", not_applied);
    table.put("dispatchMaxBuffer", 0);
    table.put("remainHowManyDataToFlush", format!("{not_durable} B"));
    table.put("remainHowManyDataToCommit", "0 B");
    table.put("remainTransientStoreBufferNumbs", i32::MAX);
    table.put("earliestMessageTimeStamp", broker.earliest_message_ms(status).unwrap_or(-1));
}

fn disk(table: &mut Table, space: Option<Space>, dir: &str) {
    let Some(Space { total, free }) = space else { return };
    #[allow(clippy::cast_precision_loss)] // a ratio, for people
    let used = if total > 0 { 1.0 - free as f64 / total as f64 } else { 0.0 };
    let used = format!("{used:.4}");
    table.put("commitLogDiskRatio", &used);
    table.put(format!("commitLogDiskRatio_{dir}"), &used);
    table.put("consumeQueueDiskRatio", &used);
    let text = format!("Total : {}, Free : {}.", gib(total), gib(free));
    table.put("commitLogDirCapacity", text);
}

/// What Java has not: the part that this member has in its group.
fn group(table: &mut Table, status: &Status) {
    table.put("raftTerm", status.term);
    table.put("raftVersion", status.version);
    table.put("raftLeader", status.leader.as_deref().unwrap_or("none"));
    for peer in &status.peers {
        table.put(format!("raftPeerLagEntries_{}", peer.name), peer.behind);
    }
}

fn gib(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss)] // for people
    let gib = bytes as f64 / f64::from(1 << 30);
    format!("{gib:.1} GiB")
}

fn uptime(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    format!("[ {days} days, {hours} hours, {minutes} minutes, {seconds} seconds ]")
}

impl Broker {
    /// When the first message that is still in the log was stored, ms. The log's first entry
    /// usually has one; if it has none, the boundary of a segment's first entries is near enough
    /// to be looked for a little.
    fn earliest_message_ms(&self, status: &Status) -> Option<i64> {
        /// Entries looked at before giving up: those of a start, without messages.
        const ENTRIES: u64 = 64;
        let log = self.group.log();
        let first = log.first_index();
        let entries =
            log.entries(first, crate::ids::EntryIndex(first.0 + ENTRIES), 1 << 20).ok()?;
        let with_message = entries.iter().find(|entry| entry.header.messages > 0)?;
        let at = PhysicalOffset(with_message.header.position.0 + HEADER_BYTES as u64);
        let record = query::at_position(log, status.applied_position, at)?;
        let record = crate::protocol::message::Record::parse(&record).ok()?;
        Some(record.store_timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_read_as_in_java() {
        assert_eq!(uptime(93_784_000), "[ 1 days, 2 hours, 3 minutes, 4 seconds ]");
        assert_eq!(uptime(-5), "[ 0 days, 0 hours, 0 minutes, 0 seconds ]");
        assert_eq!(gib(252 << 30), "252.0 GiB");
    }

    #[test]
    fn rates_are_three_decimals() {
        let mut table = Table::default();
        let totals = Totals {
            found_rates: [1.5, 0.0, 0.0],
            missed_rates: [0.25, 0.0, 0.0],
            ..Totals::default()
        };
        rates(&mut table, &totals);
        assert_eq!(table.0["getTotalTps"], "1.75 0 0");
        assert_eq!(table.0["putTps"], "0 0 0");
        assert_eq!(table.0["putMessageAverageSize"], "0");
    }
}
