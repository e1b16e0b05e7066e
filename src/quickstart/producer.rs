//! Sends messages at a steady rate, each one again until a broker acknowledges it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{account::Account, payload, requests, route::Routes};
use crate::{clock, net::Client, protocol::codes::ResponseCode};

/// What a stock client grants one try.
const TRY: Duration = Duration::from_secs(3);
/// Pause after a failed try; grows with each one.
const BACKOFF: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(200);

/// What to send.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) topic: String,
    pub(super) run: u64,
    pub(super) per_second: u32,
    /// Stop after so many messages.
    pub(super) messages: Option<u64>,
    /// Stop after so long.
    pub(super) lasting: Option<Duration>,
    pub(super) body_bytes: usize,
    /// Messages under way at a time; at this limit the producer waits.
    pub(super) in_flight: u32,
    /// How long one message is tried.
    pub(super) patience: Duration,
}

/// What every send needs.
struct Producer {
    load: Load,
    client: Client,
    routes: Routes,
    account: Arc<Mutex<Account>>,
}

/// Messages that are due `elapsed` after the start. Pure.
fn due(load: &Load, elapsed: Duration) -> u64 {
    let within = load.lasting.map_or(elapsed, |lasting| elapsed.min(lasting));
    let due = within.as_micros() * u128::from(load.per_second) / 1_000_000;
    u64::try_from(due).unwrap_or(u64::MAX).min(load.messages.unwrap_or(u64::MAX))
}

/// Whether nothing is sent any more `elapsed` after the start, whatever is late by then. Pure.
fn is_over(load: &Load, elapsed: Duration, sent: u64) -> bool {
    load.messages.is_some_and(|messages| sent >= messages)
        || load.lasting.is_some_and(|lasting| elapsed >= lasting)
}

/// Sends what `load` says, or until `stop`; returns when every message is acknowledged or given up,
/// which takes at most the load's patience and a try after the last one was begun.
pub(super) async fn produce(
    load: Load,
    client: Client,
    routes: Routes,
    account: Arc<Mutex<Account>>,
    stop: CancellationToken,
) {
    let producer = Arc::new(Producer { load, client, routes, account });
    let room = Arc::new(Semaphore::new(producer.load.in_flight as usize));
    let mut sends = JoinSet::new();
    let start = clock::now();
    let mut sent = 0;
    while !stop.is_cancelled() {
        let elapsed = clock::now() - start;
        if is_over(&producer.load, elapsed, sent) {
            break;
        }
        if sent >= due(&producer.load, elapsed) {
            sleep(Duration::from_millis(1)).await;
            continue;
        }
        let left = producer.load.lasting.map_or(Duration::MAX, |lasting| lasting - elapsed);
        // Cancel-safe all: a permit that is dropped goes back, the others can be asked again.
        let permit = tokio::select! {
            biased; // the timer is made only when there is no permit
            permit = Arc::clone(&room).acquire_owned() => permit,
            () = stop.cancelled() => break,
            () = sleep(left) => break,
        };
        let Ok(permit) = permit else { break };
        let Some(seq) = producer.account.lock().sent(clock::now()) else { break };
        sent += 1;
        sends.spawn(Arc::clone(&producer).send(seq, permit));
        while sends.try_join_next().is_some() {}
    }
    while sends.join_next().await.is_some() {}
}

impl Producer {
    /// One message until it is acknowledged, refused for good, or out of time.
    async fn send(self: Arc<Self>, seq: u64, _permit: OwnedSemaphorePermit) {
        let body = Bytes::from(payload::body(self.load.run, seq, self.load.body_bytes));
        let mut routes = self.routes.clone();
        let began = clock::now();
        let until = began + self.load.patience;
        let mut tries = 0;
        loop {
            let tried = self.try_once(&routes, seq, tries, &body).await;
            {
                let (mut account, now) = (self.account.lock(), clock::now());
                if matches!(tried, Tried::Acknowledged) {
                    account.acknowledged(seq, now);
                    account.took(now - began);
                    return;
                }
                account.tried(now);
                match tried {
                    Tried::Acknowledged | Tried::NobodyLeads => {}
                    Tried::Again => account.retried(),
                    Tried::Refused => {
                        account.failed();
                        return;
                    }
                }
            }
            tries += 1;
            if clock::now() >= until {
                break;
            }
            routes.doubt();
            routes.changed(backoff(tries)).await;
        }
        self.account.lock().failed();
    }

    async fn try_once(&self, routes: &Routes, seq: u64, tries: u64, body: &Bytes) -> Tried {
        let route = routes.current();
        let Some((leader, queue)) = route.writable_queue(seq.wrapping_add(tries)) else {
            return Tried::NobodyLeads;
        };
        let request = requests::send(&requests::Outgoing {
            topic: &self.load.topic,
            queue,
            run: self.load.run,
            seq,
            body: body.clone(),
            born_ms: clock::wall_ms(),
        });
        match self.client.call(leader, request, TRY).await {
            Ok(answer) => match answer.response_code() {
                ResponseCode::SUCCESS => Tried::Acknowledged,
                code if requests::is_worth_repeating(code) => Tried::Again,
                _ => Tried::Refused,
            },
            // Whether or not it was stored: nobody said so. The same unique key goes out again.
            Err(_) => Tried::Again,
        }
    }
}

/// What one try came to.
enum Tried {
    Acknowledged,
    Again,
    /// Nothing was sent: no broker takes writes.
    NobodyLeads,
    Refused,
}

fn backoff(tries: u64) -> Duration {
    let times = u32::try_from(tries).unwrap_or(u32::MAX);
    BACKOFF.saturating_mul(times).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ClientOptions;

    fn load(messages: Option<u64>, lasting_s: Option<u64>) -> Load {
        Load {
            topic: "t".to_owned(),
            run: 1,
            per_second: 200,
            messages,
            lasting: lasting_s.map(Duration::from_secs),
            body_bytes: 64,
            in_flight: 16,
            patience: Duration::from_secs(1),
        }
    }

    #[test]
    fn messages_fall_due_at_the_rate_until_the_limit() {
        // messages, seconds, elapsed ms: due
        let rows = [
            (None, None, 0, 0),
            (None, None, 4, 0),
            (None, None, 5, 1),
            (None, None, 60_000, 12_000),
            (None, Some(2), 60_000, 400),
            (Some(300), Some(2), 60_000, 300),
            (Some(0), None, 60_000, 0),
        ];
        for (messages, lasting, elapsed_ms, want) in rows {
            let got = due(&load(messages, lasting), Duration::from_millis(elapsed_ms));
            assert_eq!(got, want, "{messages:?} {lasting:?} after {elapsed_ms} ms");
        }
    }

    #[test]
    fn it_is_over_when_all_are_sent_or_the_time_is_up() {
        // messages, seconds, elapsed ms, sent: over
        let rows = [
            (None, None, 60_000, 12_000, false),
            (Some(10), None, 1_000, 9, false),
            (Some(10), None, 1_000, 10, true),
            (None, Some(2), 1_999, 399, false),
            (None, Some(2), 2_001, 3, true), // the others were late: nobody took them
            (None, Some(2), 2_001, 400, true),
        ];
        for (messages, lasting, elapsed_ms, sent, want) in rows {
            let got = is_over(&load(messages, lasting), Duration::from_millis(elapsed_ms), sent);
            assert_eq!(got, want, "{messages:?} {lasting:?} after {elapsed_ms} ms, {sent} sent");
        }
    }

    #[tokio::test]
    async fn without_a_leader_nothing_is_begun_after_the_time_is_up() {
        let load = Load {
            lasting: Some(Duration::from_millis(100)),
            in_flight: 4,
            patience: Duration::from_millis(400),
            ..load(None, None)
        };
        let account = Arc::new(Mutex::new(Account::default()));
        let (client, routes) = (Client::new(ClientOptions::default()), Routes::leading_nowhere());
        produce(load, client, routes, Arc::clone(&account), CancellationToken::new()).await;
        let account = account.lock();
        let (totals, pause) = (account.totals(), account.acknowledgement_pause());
        assert!((1..=4).contains(&totals.sent), "{totals:?}");
        assert_eq!(totals.failed, totals.sent);
        assert!(pause >= Duration::from_millis(400), "{pause:?}");
    }

    #[test]
    fn the_pause_between_tries_grows_and_is_bounded() {
        let pauses = [1, 2, 10, 11, u64::MAX].map(|tries| backoff(tries).as_millis());
        assert_eq!(pauses, [20, 40, 200, 200, 200]);
    }
}
