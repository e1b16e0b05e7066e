//! Puts producer, consumer and display together.

use std::{process::ExitCode, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{task::JoinHandle, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    account::Account,
    cli::{Cli, Command, Target},
    consumer::{self, OfAll, OfRun},
    display::{Display, Shown},
    producer,
    route::Routes,
};
use crate::{
    clock,
    net::{Client, ClientOptions},
};

/// How often the display looks.
pub(super) const TICK: Duration = Duration::from_millis(200);
/// With nothing new for so long, what has not been consumed counts as lost.
const SETTLED: Duration = Duration::from_secs(10);

/// Runs the command; the exit codes are in its help.
pub async fn run(cli: Cli) -> Result<ExitCode, Error> {
    match cli.command {
        Command::Produce { target, rate } => {
            let session = Session::open(&target).await?;
            let load = rate.load(&target.topic, fastrand::u64(..));
            let producing = session.spawn_producer(load);
            session.watch(Shown::Producer, |_| producing.is_finished()).await
        }
        Command::Consume { target, messages } => {
            let session = Session::open(&target).await?;
            let (account, stop) = (Arc::clone(&session.account), session.stop.clone());
            let inbox = OfAll { account, messages, stop: stop.clone() };
            let consuming = session.spawn_consumer(&target, inbox, stop);
            session.watch(Shown::Consumer, |_| consuming.is_finished()).await
        }
        Command::Demo { target, rate } => {
            let session = Session::open(&target).await?;
            let run = fastrand::u64(..);
            let inbox = OfRun { run, account: Arc::clone(&session.account) };
            let end = CancellationToken::new();
            let consuming = session.spawn_consumer(&target, inbox, end.clone());
            let producing = session.spawn_producer(rate.load(&target.topic, run));
            let mut still = Still::default();
            let code = session.watch(Shown::Both, |account| {
                producing.is_finished() && (account.missing() == 0 || still.is_long(account))
            });
            let code = code.await;
            end.cancel();
            // It ends with its readers; an error would mean that it panicked, and says so itself.
            let _ = consuming.await;
            code
        }
    }
}

/// Whether what is missing has stayed the same for [`SETTLED`]. It only shrinks once nothing is
/// sent any more, so this ends, whatever else is consumed.
#[derive(Default)]
pub(super) struct Still {
    ticks: u128,
    last: u64,
}

impl Still {
    pub(super) fn is_long(&mut self, account: &Account) -> bool {
        let now = account.missing();
        self.ticks = if now == self.last { self.ticks + 1 } else { 0 };
        self.last = now;
        self.ticks * TICK.as_millis() >= SETTLED.as_millis()
    }
}

/// What producer and consumer share.
pub(super) struct Session {
    client: Client,
    routes: Routes,
    pub(super) account: Arc<Mutex<Account>>,
    /// Ctrl-C, or enough messages.
    pub(super) stop: CancellationToken,
}

impl Session {
    pub(super) async fn open(target: &Target) -> Result<Self, Error> {
        let client = Client::new(ClientOptions::default());
        let routes = Routes::follow(&client, &target.name_servers(), target.wanted()).await?;
        let stop = CancellationToken::new();
        let on_interrupt = stop.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                on_interrupt.cancel();
            }
        });
        Ok(Self { client, routes, account: Arc::default(), stop })
    }

    pub(super) fn spawn_producer(&self, load: producer::Load) -> JoinHandle<()> {
        let (client, routes) = (self.client.clone(), self.routes.clone());
        let (account, stop) = (Arc::clone(&self.account), self.stop.clone());
        tokio::spawn(producer::produce(load, client, routes, account, stop))
    }

    pub(super) fn spawn_consumer(
        &self,
        target: &Target,
        inbox: impl consumer::Inbox,
        stop: CancellationToken,
    ) -> JoinHandle<()> {
        let (client, routes) = (self.client.clone(), self.routes.clone());
        let inbox = Arc::new(inbox);
        tokio::spawn(consumer::consume(target.topic.clone(), client, routes, inbox, stop))
    }

    /// Shows lines until `is_over`, then the account.
    async fn watch(
        &self,
        shown: Shown,
        mut is_over: impl FnMut(&Account) -> bool,
    ) -> Result<ExitCode, Error> {
        let mut display = Display::new(shown);
        display.head()?;
        let start = clock::now();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (totals, over) = {
                let account = self.account.lock();
                (account.totals(), is_over(&account))
            };
            if over {
                break;
            }
            display.tick(clock::now() - start, totals, &self.routes.current().leaders())?;
        }
        let account = self.account.lock();
        display.account(&account, start, clock::now())?;
        let lost = shown == Shown::Both && account.missing() > 0;
        Ok(if lost || account.totals().failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
