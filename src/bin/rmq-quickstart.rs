//! Sends and consumes numbered messages, and gives an account of them. Start-up only.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use rmq::quickstart::{self, cli::Cli};

/// No topic, or nowhere to write to.
const EXIT_NO_ACCOUNT: u8 = 3;

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    Ok(runtime.block_on(quickstart::run(cli)).unwrap_or_else(|error| {
        eprintln!("rmq-quickstart: {error}");
        ExitCode::from(EXIT_NO_ACCOUNT)
    }))
}
