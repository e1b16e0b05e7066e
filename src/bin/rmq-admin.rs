//! mqadmin's commands. Start-up only.

use std::{
    io::{self, BufWriter},
    pin::Pin,
    process::ExitCode,
};

use anyhow::Context;
use jiff::tz::TimeZone;
use rmq::{
    admin::{
        self, Surroundings,
        load::{Figures, Load, LoadOn, RunningLoad, Starting},
    },
    quickstart::{Drill, Outcome},
};

fn main() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let code = runtime.block_on(admin::run(Surroundings {
        words: std::env::args_os().collect(),
        name_servers: std::env::var("NAMESRV_ADDR").ok(),
        zone: TimeZone::system(),
        load: &Clients,
        results: &mut BufWriter::new(io::stdout()),
        complaints: &mut io::stderr(),
    }));
    Ok(ExitCode::from(code))
}

/// The quickstart's producer and consumer.
struct Clients;

impl Load for Clients {
    fn start(&self, on: LoadOn) -> Starting<'_> {
        Box::pin(async move {
            let drill = Drill::start(&on.name_servers, &on.topic, on.per_second).await;
            let drill = drill.map_err(|error| error.to_string())?;
            Ok(Box::new(UnderWay(drill)) as Box<dyn RunningLoad>)
        })
    }
}

struct UnderWay(Drill);

impl RunningLoad for UnderWay {
    fn finish(self: Box<Self>) -> Pin<Box<dyn Future<Output = Figures> + Send>> {
        Box::pin(async move { figures(self.0.finish().await) })
    }
}

fn figures(outcome: Outcome) -> Figures {
    Figures {
        sent: outcome.sent,
        acknowledged: outcome.acknowledged,
        given_up: outcome.given_up,
        retried: outcome.retried,
        slowest: outcome.slowest,
        acknowledgement_pause: outcome.acknowledgement_pause,
        consumed: outcome.consumed,
        lost: outcome.lost,
        doubled: outcome.doubled,
        delivery_pause: outcome.delivery_pause,
    }
}
