//! `rmq-admin`: mqadmin's commands, with its names, flags and columns, for Java's servers and ours.
//!
//! ```text
//! words ─cli::parse─► Command ─commands::…─► calls (client) ─► answers ─► rows ─output─► text, JSON
//! ```
//!
//! A command decides nothing about sockets and prints nothing by itself: it asks the
//! [`client::AdminClient`], makes rows of what was answered in pure functions, and shows them.
//! What does not answer is told on standard error; the rest is shown nevertheless. Answers are
//! read without trust, in JSON or in fastjson's form of it.
//!
//! Exit codes: 0 done, 1 failed or done in part, 2 wrong command line.

mod cli;
pub mod client;
mod commands;
pub mod error;
mod fastjson;
#[cfg(test)]
mod golden;
mod help;
mod java_text;
pub mod load;
pub mod output;
mod trace;

use std::{
    ffi::OsString,
    io::{ErrorKind, Write},
};

use jiff::tz::TimeZone;

use cli::{Invocation, Parsed};
use client::AdminClient;
use commands::Session;
use error::Error;
use output::Output;

/// Where the command line, its results and complaints come from and go to.
pub struct Surroundings<'a> {
    /// The program's name, then its words.
    pub words: Vec<OsString>,
    /// The variable NAMESRV_ADDR.
    pub name_servers: Option<String>,
    /// Zone of the times that are printed and read.
    pub zone: TimeZone,
    /// Where loads come from.
    pub load: &'a dyn load::Load,
    /// Standard output.
    pub results: &'a mut dyn Write,
    /// Standard error.
    pub complaints: &'a mut dyn Write,
}

const DONE: u8 = 0;
const FAILED: u8 = 1;
const USAGE: u8 = 2;

/// Runs one command line. Its exit code.
pub async fn run(around: Surroundings<'_>) -> u8 {
    let Surroundings { words, name_servers, zone, load, results, complaints } = around;
    match cli::parse(words, name_servers) {
        Parsed::Print { text, code } => {
            let to = if code == DONE { results } else { complaints };
            // Nobody reads it any more: nothing else was asked for.
            let _ = to.write_all(text.as_bytes());
            code
        }
        Parsed::Run(invocation) => {
            let Invocation { command, name_servers, format } = *invocation;
            let admin = AdminClient::new(name_servers);
            let out = Output::new(format, results, complaints);
            let mut session = Session { admin, out, zone, load };
            let outcome = commands::run(&mut session, command).await;
            exit_code(&mut session.out, outcome)
        }
    }
}

fn exit_code(out: &mut Output<'_>, outcome: Result<(), Error>) -> u8 {
    match outcome {
        Ok(()) => {
            if out.has_failed() {
                FAILED
            } else {
                DONE
            }
        }
        // `rmq-admin topicList | head`: the reader has what it wants.
        Err(Error::Output(cause)) if cause.kind() == ErrorKind::BrokenPipe => DONE,
        Err(error) => {
            out.fail(&error);
            if matches!(error, Error::Usage(_)) { USAGE } else { FAILED }
        }
    }
}
