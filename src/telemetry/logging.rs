//! Log lines on standard error: for people, or as JSON objects. Times are local, with offset. Who
//! logs never waits for whoever reads them (`log_queue`).

use std::{
    fmt,
    fs::File,
    io::{self, IsTerminal},
    os::fd::AsFd,
    time::Duration,
};

use jiff::{Timestamp, tz::TimeZone};
use tracing_subscriber::{
    EnvFilter,
    fmt::{format::Writer, time::FormatTime},
};

use super::log_queue::Queue;

/// How long the end of a process waits for its last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter cannot be read.
    #[error("log filter `{filter}`: {why}")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
    /// It has been started before.
    #[error("logging was started twice")]
    Started,
    /// Nobody would write lines.
    #[error("cannot start the log's thread, or have standard error of its own: {0}")]
    Thread(#[from] io::Error),
}

/// The log of a process. Dropping it writes what waits, for a second at most: hold it until the end.
/// Who ends the process without that flushes a [`LogHandle`] before.
#[must_use = "lines that wait are lost if nobody drops it at the end"]
#[derive(Debug)]
pub struct Log(Queue);

impl Log {
    /// A handle for who ends the process on its own.
    pub fn handle(&self) -> LogHandle {
        LogHandle(self.0.clone())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush(LAST_LINES);
    }
}

/// Writes what waits, on demand.
#[derive(Debug, Clone)]
pub struct LogHandle(Queue);

impl LogHandle {
    /// Waits until all lines are written, `patience` at most. Returns whether they are.
    pub fn flush(&self, patience: Duration) -> bool {
        self.0.flush(patience)
    }
}

/// What libraries say about themselves is not for operators: elections, snapshots and failures are
/// told by our own lines. A filter that names a library brings its lines back.
const LIBRARIES: &str = "openraft=off,h2=error,hyper=error,tower=error,tonic=error";

/// Checks a filter such as `info` or `info,rmq::raft=debug`.
pub fn parse_filter(filter: &str) -> Result<EnvFilter, Error> {
    EnvFilter::builder()
        .parse(format!("{LIBRARIES},{filter}"))
        .map_err(|error| Error::Filter { filter: filter.to_owned(), why: error.to_string() })
}

/// Starts logging for the process. `filter` is used unless `variable` (the environment's
/// `RUST_LOG`) has one.
pub fn start(filter: &str, variable: Option<&str>, format: Format) -> Result<Log, Error> {
    let filter = parse_filter(variable.filter(|v| !v.trim().is_empty()).unwrap_or(filter))?;
    // Not the one that the library shares: a write that hangs would hold its lock.
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let queue = Queue::start(stderr, |lost| {
        tracing::warn!(
            lost,
            "lines of the log were lost since the start: nobody took them in time"
        );
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(LocalTime(TimeZone::system()))
        .with_ansi(io::stderr().is_terminal())
        .with_writer(queue.clone());
    let started = match format {
        Format::Text => lines.compact().try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map(|()| Log(queue)).map_err(|_| Error::Started)
}

/// Local time with offset: `2026-11-21T11:45:08.123+08:00`.
struct LocalTime(TimeZone);

impl FormatTime for LocalTime {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        let now = Timestamp::now().to_zoned(self.0.clone());
        write!(out, "{}", now.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        for good in ["info", "warn,rmq::raft=debug", "off"] {
            assert!(parse_filter(good).is_ok(), "{good}");
        }
        for bad in ["loud=loud", "info,rmq=verbose"] {
            assert!(parse_filter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_have_milliseconds_and_an_offset() {
        let mut line = String::new();
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        LocalTime(zone).format_time(&mut Writer::new(&mut line)).unwrap();
        assert!(line.ends_with("+08:00"), "{line}");
        assert_eq!(line.len(), "2026-11-21T11:45:08.123+08:00".len(), "{line}");
    }
}
