//! The name server: command line, log, runtime, signals. Everything else is in the library.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use rmq::{
    config::{
        NamesrvConfig,
        broker::{LogFormat, Logging},
        cli::{self, NamesrvArgs, Prepared},
        load::Loaded,
    },
    namesrv::start,
    telemetry::logging::{self, Log},
};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

fn main() -> ExitCode {
    let loaded = match cli::prepare_namesrv(&NamesrvArgs::parse()) {
        Prepared::Run(loaded) => *loaded,
        Prepared::Exit(code) => return code,
    };
    let _log = match start_log(&loaded.config.logging) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(cli::EXIT_CONFIGURATION);
        }
    };
    match run(loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(config: &Logging) -> Result<Log, logging::Error> {
    let format = match config.format {
        LogFormat::Text => logging::Format::Text,
        LogFormat::Json => logging::Format::Json,
    };
    logging::start(&config.level, std::env::var("RUST_LOG").ok().as_deref(), format)
}

fn run(Loaded { config, notices, warnings }: Loaded<NamesrvConfig>) -> anyhow::Result<()> {
    warnings.iter().for_each(|line| warn!("{line}"));
    // Everything is short work under one mutex: a second thread serves while the first one parses
    // a large registration, more would only wait.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(serve(config, &notices))
}

async fn serve(config: NamesrvConfig, notices: &[String]) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    // With a handler, a write beyond `ulimit -f` is an error with a text; without, it is the end.
    let beyond_limit = SignalKind::from_raw(Signal::XFSZ.as_raw());
    let _handled = signal(beyond_limit).context("cannot watch for SIGXFSZ")?;
    let running = start::start(config)?;
    // After what may fail: whoever's server does not start has one line to read.
    notices.iter().for_each(|line| info!("{line}"));
    // Both are cancel-safe: a signal is kept until somebody receives it.
    tokio::select! {
        _ = terminate.recv() => info!("stopping, as SIGTERM asks"),
        _ = interrupt.recv() => info!("stopping, as SIGINT asks"),
    }
    running.stop().await;
    Ok(())
}
