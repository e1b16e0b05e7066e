//! The broker: command line, log, runtime, signals. Everything else is in the library.

use std::{io::Write, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Parser;
use rmq::{
    broker::start,
    config::{
        BrokerConfig,
        broker::{LogFormat, Logging},
        cli::{self, BrokerArgs, Prepared},
        load::Loaded,
    },
    raft::Recovered,
    telemetry::logging::{self, Log, LogHandle},
};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

/// A broker that hangs ends itself: EX_SOFTWARE of sysexits.h.
const EXIT_HUNG: i32 = 70;
/// How long it waits for the line that says so.
const LAST_LINE: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    let args = BrokerArgs::parse();
    let loaded = match cli::prepare_broker(&args) {
        Prepared::Run(loaded) => *loaded,
        Prepared::Exit(code) => return code,
    };
    let log = match start_log(&loaded.config.logging) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(cli::EXIT_CONFIGURATION);
        }
    };
    let ended = match &args.recover_alone {
        Some(confirmation) => recover_alone(&loaded.config, confirmation),
        None => run(loaded, log.handle()).map(|()| ExitCode::SUCCESS),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What to do and what was done is on standard output; it does not start serving.
fn recover_alone(config: &BrokerConfig, confirmation: &str) -> anyhow::Result<ExitCode> {
    let (text, code) = match start::recover_alone(config, confirmation)? {
        Recovered::Done(text) => (text, ExitCode::SUCCESS),
        Recovered::Unconfirmed(text) => (text, ExitCode::from(cli::EXIT_UNCONFIRMED)),
        Recovered::Refused(text) => (text, ExitCode::FAILURE),
    };
    // Whoever reads it may have gone away; what was done is done.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(code)
}

fn start_log(config: &Logging) -> Result<Log, logging::Error> {
    let format = match config.format {
        LogFormat::Text => logging::Format::Text,
        LogFormat::Json => logging::Format::Json,
    };
    logging::start(&config.level, std::env::var("RUST_LOG").ok().as_deref(), format)
}

fn run(
    Loaded { config, notices, warnings }: Loaded<BrokerConfig>,
    log: LogHandle,
) -> anyhow::Result<()> {
    warnings.iter().for_each(|line| warn!("{line}"));
    // The other half is for the raft thread, syncs and the kernel's share. And a thread that has
    // company is woken for nothing: looking for work costs more than a small request.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads((cores / 2).max(1))
        .thread_name("net")
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(serve(config, &notices, log))
}

async fn serve(config: BrokerConfig, notices: &[String], log: LogHandle) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    // With a handler, a write beyond `ulimit -f` is an error with a text; without, it is the end.
    let beyond_limit = SignalKind::from_raw(Signal::XFSZ.as_raw());
    let _handled = signal(beyond_limit).context("cannot watch for SIGXFSZ")?;
    let end = move |why: &str| {
        error!("{why}: ending the process, so that clients and members go elsewhere");
        // It may be the log that hangs: the process ends all the same.
        log.flush(LAST_LINE);
        std::process::exit(EXIT_HUNG)
    };
    let mut running = start::start(config, Box::new(end)).await?;
    // After what may fail: whoever's server does not start has one line to read.
    notices.iter().for_each(|line| info!("{line}"));
    // All branches are cancel-safe: a signal is kept until somebody receives it.
    tokio::select! {
        _ = interrupt.recv() => info!("stopping, as SIGINT asks"),
        _ = terminate.recv() => {
            info!("stopping, as SIGTERM asks");
            tokio::select! {
                () = running.leave() => {}
                _ = terminate.recv() => info!("stopping at once, as another SIGTERM asks"),
                _ = interrupt.recv() => info!("stopping at once, as SIGINT asks"),
            }
        }
    }
    running.stop().await;
    Ok(())
}
