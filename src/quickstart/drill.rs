//! The demo's producer and consumer on a topic of a running group, for as long as somebody wants.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    account::{Account, Totals},
    cli::Target,
    consumer::OfRun,
    producer::Load,
    run::{Session, Still, TICK},
};
use crate::clock;

/// How long the topic may take to be in routes.
const ROUTE_S: u64 = 30;
/// As the demo has it.
const ROUTE_POLL_MS: u64 = 1000;
const BODY_BYTES: usize = 256;
const IN_FLIGHT: u32 = 1024;
const GIVE_UP: Duration = Duration::from_secs(30);

/// A producer and a consumer that run.
pub struct Drill {
    session: Session,
    producing: JoinHandle<()>,
    consuming: JoinHandle<()>,
    end: CancellationToken,
}

/// What became of the messages.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Handed to the producer.
    pub sent: u64,
    /// Of them acknowledged.
    pub acknowledged: u64,
    /// Of them given up.
    pub given_up: u64,
    /// Sends that failed and were tried again.
    pub retried: u64,
    /// The longest time from a message's first try to its acknowledgement.
    pub slowest: Duration,
    /// The longest time without an acknowledgement.
    pub acknowledgement_pause: Duration,
    /// Different messages that were consumed.
    pub consumed: u64,
    /// Acknowledged and never consumed.
    pub lost: u64,
    /// Consumed again.
    pub doubled: u64,
    /// The longest time without a delivery.
    pub delivery_pause: Duration,
}

impl Drill {
    /// Sends `per_second` messages to `topic`, and consumes them.
    pub async fn start(name_servers: &str, topic: &str, per_second: u32) -> Result<Self, Error> {
        let target = Target {
            name_servers: Some(name_servers.to_owned()),
            topic: topic.to_owned(),
            queues: 4,
            wait_s: ROUTE_S,
            route_poll_ms: ROUTE_POLL_MS,
        };
        let session = Session::open(&target).await?;
        let (run, end) = (fastrand::u64(..), CancellationToken::new());
        let inbox = OfRun { run, account: Arc::clone(&session.account) };
        let consuming = session.spawn_consumer(&target, inbox, end.clone());
        let producing = session.spawn_producer(Load {
            topic: topic.to_owned(),
            run,
            per_second,
            messages: None,
            lasting: None,
            body_bytes: BODY_BYTES,
            in_flight: IN_FLIGHT,
            patience: GIVE_UP,
        });
        Ok(Self { session, producing, consuming, end })
    }

    /// Sends nothing any more, waits until what was acknowledged is consumed or nothing comes, and
    /// gives an account.
    pub async fn finish(self) -> Outcome {
        self.session.stop.cancel();
        // An error would mean that it panicked, and says so itself; here and below.
        let _ = self.producing.await;
        let ended = clock::now();
        let mut ticks = tokio::time::interval(TICK);
        let mut still = Still::default();
        loop {
            ticks.tick().await;
            let account = self.session.account.lock();
            if account.missing() == 0 || still.is_long(&account) {
                break;
            }
        }
        self.end.cancel();
        let _ = self.consuming.await;
        let account = self.session.account.lock();
        outcome(&account, ended)
    }
}

fn outcome(account: &Account, ended: std::time::Instant) -> Outcome {
    let Totals { sent, acknowledged, failed, retries, consumed, doubled, .. } = account.totals();
    Outcome {
        sent,
        acknowledged,
        given_up: failed,
        retried: retries,
        slowest: account.slowest(),
        acknowledgement_pause: account.acknowledgement_pause(),
        consumed,
        lost: account.missing(),
        doubled,
        delivery_pause: account.delivery_pause(ended),
    }
}
