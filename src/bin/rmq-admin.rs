//! mqadmin's commands. Start-up only.

use std::{
    io::{self, BufWriter},
    process::ExitCode,
};

use anyhow::Context;
use jiff::tz::TimeZone;
use rmq::admin::{self, Surroundings};

fn main() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let code = runtime.block_on(admin::run(Surroundings {
        words: std::env::args_os().collect(),
        name_servers: std::env::var("NAMESRV_ADDR").ok(),
        zone: TimeZone::system(),
        results: &mut BufWriter::new(io::stdout()),
        complaints: &mut io::stderr(),
    }));
    Ok(ExitCode::from(code))
}
