//! Creates many topics, several requests under way at a time, as a tool that moves a cluster would.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use crate::route::NameServers;
use crate::stats::{latencies, latency_json, round};
use crate::wire::{self, Codec, Conn, FrameBuilder, now_ns};

/// How long the last answers and the routes may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Creation {
    pub prefix: String,
    pub count: u32,
    pub queues: u32,
    pub window: usize,
    pub codec: Codec,
}

/// The name of the n-th topic.
pub fn name(prefix: &str, n: u32) -> String {
    format!("{prefix}-{n:06}")
}

/// Creates all topics on the master, then waits until the name server knows the last one.
pub fn create(plan: &Creation, ns: &mut NameServers) -> Result<Value> {
    let Some(master) = ns.any_master()? else { bail!("the cluster has no master") };
    let mut conn = Conn::connect(master, PATIENCE)?;
    let (mut latency, mut refused) = (latencies(), Vec::new());
    let mut under_way = HashMap::new();
    let (began, mut next, mut last_answer) = (Instant::now(), 0, Instant::now());
    while next < plan.count || !under_way.is_empty() {
        while next < plan.count && under_way.len() < plan.window {
            request(&mut conn, plan, next);
            under_way.insert(next as i32, now_ns());
            next += 1;
        }
        conn.flush()?;
        conn.wait(Duration::from_millis(20));
        conn.fill()?;
        while let Some(answer) = conn.next_frame()? {
            let Some(sent) = under_way.remove(&answer.opaque) else { continue };
            latency.saturating_record(now_ns() - sent);
            if answer.code != 0 {
                refused.push(format!("code {}: {}", answer.code, answer.remark()));
            }
            last_answer = Instant::now();
        }
        ensure!(last_answer.elapsed() < PATIENCE, "no answer to a creation in {PATIENCE:?}");
    }
    let created_s = began.elapsed().as_secs_f64();
    let last = name(&plan.prefix, plan.count - 1);
    while ns.route(&last)?.is_none_or(|route| route.master().is_none()) {
        ensure!(last_answer.elapsed() < PATIENCE, "{last} is not in the route");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(json!({
        "topics": plan.count, "queues": plan.queues, "window": plan.window,
        "created_s": round(created_s), "in_route_s": round(began.elapsed().as_secs_f64()),
        "refused": refused.len(), "first_refusal": refused.first(),
        "latency_ms": latency_json(&latency),
    }))
}

fn request(conn: &mut Conn, plan: &Creation, n: u32) {
    let topic = name(&plan.prefix, n);
    let code = wire::UPDATE_AND_CREATE_TOPIC;
    let fields: [(&str, &dyn Display); 8] = wire::topic_fields(&topic, &plan.queues);
    let frame = FrameBuilder::new(&mut conn.out, plan.codec, code, n as i32);
    fields.iter().fold(frame, |f, (k, v)| f.ext(k, v)).finish(|_| {});
}
