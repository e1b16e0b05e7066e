//! Many clients that do little: each has a connection to the name server and to every broker, asks
//! for its topic's route, sends heartbeats, and holds a long poll for each queue of its topic. One
//! thread serves them all.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::poll::Poll;
use crate::route::Route;
use crate::stats::{Latencies, Sample, latencies, latency_json};
use crate::topics;
use crate::wire::{self, Codec, Conn, FrameBuilder, now_ns};

/// What stock clients do: heartbeats and route requests every 30 s, long polls of 15 s.
const BEAT_NS: u64 = 30_000_000_000;
const HOLD_MS: u64 = 15_000;
const SUSPEND_AND_SUBSCRIPTION: u32 = 1 << 1 | 1 << 2;
const TICK: Duration = Duration::from_millis(20);
const TICK_NS: u64 = 20_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// A request that is not answered within this is given up, with its connection.
const TIMEOUT_NS: u64 = 20_000_000_000;
/// So many clients are one consumer group.
const GROUP: u32 = 10;

pub struct Crowd<'a> {
    pub namesrv: SocketAddr,
    pub route: Route,
    pub prefix: &'a str,
    /// Topics there are; clients spread over them.
    pub topics: u32,
    pub queues: u32,
    pub clients: u32,
    pub codec: Codec,
    pub seconds: u64,
    pub pids: &'a [u32],
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Heartbeat,
    Route,
    Hold { queue: u32 },
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Route => "route",
            Self::Hold { .. } => "hold",
        }
    }

    fn code(self) -> u16 {
        match self {
            Self::Heartbeat => wire::HEART_BEAT,
            Self::Route => wire::GET_ROUTE,
            Self::Hold { .. } => wire::PULL_MESSAGE,
        }
    }
}

/// One connection of one client.
struct Link {
    client: u32,
    addr: SocketAddr,
    conn: Option<Conn>,
    opaque: i32,
    under_way: HashMap<i32, (Kind, u64)>,
    /// When its next heartbeat or route request is due.
    next_beat_ns: u64,
    holds: bool,
}

#[derive(Default)]
struct Seen {
    answered: BTreeMap<&'static str, u64>,
    failed: BTreeMap<String, u64>,
    held: usize,
}

/// Runs the crowd and reports what it saw in the last `seconds`, after all had come.
pub fn run(plan: &Crowd) -> Result<Value> {
    let mut links = links(plan)?;
    let mut poll = Poll::new()?;
    let mut seen = Seen::default();
    let mut latency = BTreeMap::from([("heartbeat", latencies()), ("route", latencies())]);
    let began = now_ns();
    let come_ns = began + BEAT_NS / 10; // all first heartbeats go out within 3 s
    let mut before = None;
    let (mut next_tick, mut next_sample, mut most_anon) = (began, began, BTreeMap::new());
    loop {
        let now = now_ns();
        if before.is_none() && now > come_ns + SECOND_NS {
            before = Some(Sample::take(plan.pids));
            seen = Seen::default();
            latency.values_mut().for_each(Latencies::reset);
        }
        if now >= come_ns + SECOND_NS + plan.seconds * SECOND_NS {
            break;
        }
        if now >= next_sample {
            next_sample = now + SECOND_NS;
            Sample::take(plan.pids).most_anon(&mut most_anon);
        }
        if now >= next_tick {
            next_tick = now + TICK_NS;
            for (at, link) in links.iter_mut().enumerate() {
                link.tick(plan, at, now, &mut poll, &mut seen);
            }
        }
        for at in poll.wait(TICK)? {
            let Some(link) = links.get_mut(at) else { continue };
            if let Err(error) = link.take_answers(plan, &mut seen, &mut latency) {
                link.lose(&error, &mut seen);
            }
        }
    }
    let before = before.context("the crowd never was complete")?;
    let holds = links.iter().flat_map(|l| l.under_way.values());
    seen.held = holds.filter(|(kind, _)| matches!(kind, Kind::Hold { .. })).count();
    let latency: BTreeMap<_, _> = latency.iter().map(|(k, h)| (k, latency_json(h))).collect();
    Ok(json!({
        "clients": plan.clients, "connections": links.iter().filter(|l| l.conn.is_some()).count(),
        "seconds": plan.seconds, "answered": seen.answered, "failed": seen.failed,
        "held": seen.held, "latency_ms": latency, "most_anon_mib": most_anon,
        "servers": Sample::take(plan.pids).since(&before, 0),
    }))
}

fn links(plan: &Crowd) -> Result<Vec<Link>> {
    let Some(master) = plan.route.master() else { bail!("the route has no master") };
    let (now, mut links) = (now_ns(), Vec::new());
    for client in 0..plan.clients {
        let due = now + u64::from(client) * (BEAT_NS / 10) / u64::from(plan.clients);
        let addrs = std::iter::once(plan.namesrv).chain(plan.route.addresses());
        links.extend(addrs.map(|addr| Link {
            client,
            addr,
            conn: None,
            opaque: 0,
            under_way: HashMap::new(),
            next_beat_ns: due,
            holds: addr == master,
        }));
    }
    Ok(links)
}

impl Link {
    fn tick(&mut self, plan: &Crowd, at: usize, now: u64, poll: &mut Poll, seen: &mut Seen) {
        if self.under_way.values().any(|(_, sent)| now - sent > TIMEOUT_NS) {
            self.lose(&anyhow::anyhow!("timeout"), seen);
        }
        if now < self.next_beat_ns {
            return;
        }
        let fresh = self.conn.is_none();
        if fresh {
            let conn = Conn::connect(self.addr, Duration::from_secs(1));
            match conn.and_then(|conn| poll.add(&conn, at).map(|()| conn)) {
                Ok(conn) => self.conn = Some(conn),
                Err(error) => return self.lose(&error, seen),
            }
        }
        self.next_beat_ns = now + BEAT_NS;
        if self.addr == plan.namesrv {
            self.request(plan, Kind::Route);
        } else {
            self.request(plan, Kind::Heartbeat);
        }
        for queue in 0..plan.queues {
            if self.holds && fresh {
                self.request(plan, Kind::Hold { queue });
            }
        }
        self.flush(seen);
    }

    fn flush(&mut self, seen: &mut Seen) {
        if let Some(Err(error)) = self.conn.as_mut().map(Conn::flush) {
            self.lose(&error.into(), seen);
        }
    }

    fn topic(&self, plan: &Crowd) -> String {
        let n = u64::from(self.client) * u64::from(plan.topics) / u64::from(plan.clients);
        topics::name(plan.prefix, n as u32)
    }

    fn request(&mut self, plan: &Crowd, kind: Kind) {
        let (topic, group) = (self.topic(plan), format!("crowd-{}", self.client / GROUP));
        let Some(conn) = &mut self.conn else { return };
        self.opaque = self.opaque.wrapping_add(1);
        let frame = FrameBuilder::new(&mut conn.out, plan.codec, kind.code(), self.opaque);
        match kind {
            Kind::Heartbeat => {
                let body = heartbeat(self.client, &group, &topic);
                frame.finish(|out| out.extend_from_slice(body.as_bytes()));
            }
            Kind::Route => {
                frame.ext("topic", &topic).ext("acceptStandardJsonOnly", true).finish(|_| {});
            }
            Kind::Hold { queue } => frame
                .ext("consumerGroup", &group)
                .ext("topic", &topic)
                .ext("queueId", queue)
                .ext("queueOffset", 0)
                .ext("maxMsgNums", 32)
                .ext("sysFlag", SUSPEND_AND_SUBSCRIPTION)
                .ext("commitOffset", 0)
                .ext("suspendTimeoutMillis", HOLD_MS)
                .ext("subscription", "*")
                .ext("subVersion", 0)
                .ext("expressionType", "TAG")
                .finish(|_| {}),
        }
        self.under_way.insert(self.opaque, (kind, now_ns()));
    }

    fn take_answers(
        &mut self,
        plan: &Crowd,
        seen: &mut Seen,
        latency: &mut BTreeMap<&'static str, Latencies>,
    ) -> Result<()> {
        let Some(conn) = &mut self.conn else { return Ok(()) };
        conn.fill()?;
        let mut again = Vec::new();
        while let Some(answer) = conn.next_frame()? {
            if !answer.is_answer {
                continue; // the broker tells that its group has changed
            }
            let Some((kind, sent)) = self.under_way.remove(&answer.opaque) else { continue };
            // 19: nothing came while the pull was held
            let fine = answer.code == 0 || answer.code == 19;
            if fine {
                *seen.answered.entry(kind.name()).or_default() += 1;
            } else {
                let why = format!("{} code {}: {}", kind.name(), answer.code, answer.remark());
                *seen.failed.entry(why).or_default() += 1;
            }
            if let Some(histogram) = latency.get_mut(kind.name()) {
                histogram.saturating_record(now_ns() - sent);
            }
            if matches!(kind, Kind::Hold { .. }) {
                again.push(kind);
            }
        }
        again.into_iter().for_each(|kind| self.request(plan, kind));
        self.flush(seen);
        Ok(())
    }

    /// Comes back in half a second.
    fn lose(&mut self, error: &anyhow::Error, seen: &mut Seen) {
        *seen.failed.entry(format!("connection: {error:#}")).or_default() += 1;
        self.conn = None;
        self.under_way.clear();
        self.next_beat_ns = now_ns() + SECOND_NS / 2;
    }
}

fn heartbeat(client: u32, group: &str, topic: &str) -> String {
    json!({
        "clientID": format!("127.0.0.1@{client}#rmqload"),
        "heartbeatFingerprint": 0,
        "producerDataSet": [{"groupName": "rmqload"}],
        "consumerDataSet": [{
            "groupName": group, "consumeType": "CONSUME_PASSIVELY", "messageModel": "CLUSTERING",
            "consumeFromWhere": "CONSUME_FROM_LAST_OFFSET", "unitMode": false,
            "subscriptionDataSet": [{
                "topic": topic, "subString": "*", "subVersion": 0, "tagsSet": [], "codeSet": [],
                "classFilterMode": false, "expressionType": "TAG",
            }],
        }],
    })
    .to_string()
}
