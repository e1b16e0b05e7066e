//! The command line of `rmq-quickstart`.

use std::{env, time::Duration};

use clap::{Args, Parser, Subcommand};

use super::{account::MESSAGES_MAX, payload::BODY_BYTES_MIN, producer::Load, route::Wanted};

/// Sends and consumes numbered messages, and gives an account of them
#[derive(Debug, Parser)]
#[command(
    name = "rmq-quickstart",
    version,
    after_help = "Exit codes: 0 everything arrived, 1 a message was lost or given up, 2 wrong \
                  command line, 3 no topic or no output."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send messages
    Produce {
        /// Where to.
        #[command(flatten)]
        target: Target,
        /// How many, how fast.
        #[command(flatten)]
        rate: Rate,
    },
    /// Read all messages of the topic, and go on as they come
    Consume {
        /// Where from.
        #[command(flatten)]
        target: Target,
        /// Stop after so many messages; without it, on Ctrl-C
        #[arg(long)]
        messages: Option<u64>,
    },
    /// Do both, and compare: what was lost, what was doubled, how long did clients wait?
    Demo {
        /// Where.
        #[command(flatten)]
        target: Target,
        /// How many, how fast.
        #[command(flatten)]
        rate: Rate,
    },
}

/// Which topic of which cluster.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// Name servers, `host:port;host:port` [default: $NAMESRV_ADDR, else 127.0.0.1:9876]
    #[arg(short = 'n', long = "namesrvAddr", value_name = "ADDRESSES")]
    pub name_servers: Option<String>,
    /// Created if it is not there
    #[arg(short = 't', long, default_value = "Quickstart")]
    pub topic: String,
    /// Queues to create it with
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub queues: u32,
    /// How long to wait for name server, leader and topic, in seconds
    #[arg(long, default_value_t = 30)]
    pub wait_s: u64,
    /// Time between two questions for the route, in ms; a stock client waits 30000
    #[arg(long, default_value_t = 1000)]
    pub route_poll_ms: u64,
}

/// How many messages, how fast.
#[derive(Debug, Clone, Args)]
pub struct Rate {
    /// Messages in all [default without --seconds: 1000]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=MESSAGES_MAX))]
    pub messages: Option<u64>,
    /// Send for so long, in seconds; then wait for what is under way
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Messages per second
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// Bytes of a body
    #[arg(long, default_value_t = 256, value_parser = body_bytes)]
    pub size: usize,
    /// Messages under way at a time; at this limit the producer waits
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub in_flight: u32,
    /// How long one message is tried before it is given up, in seconds
    #[arg(long, default_value_t = 30)]
    pub give_up_s: u64,
}

fn body_bytes(text: &str) -> Result<usize, String> {
    let bytes = text.parse().map_err(|_| "not a number".to_owned())?;
    if (BODY_BYTES_MIN..=4 << 20).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("between {BODY_BYTES_MIN} and 4194304"))
    }
}

impl Target {
    /// The name servers: flag, environment, default.
    pub(super) fn name_servers(&self) -> String {
        let given = self.name_servers.clone().or_else(|| env::var("NAMESRV_ADDR").ok());
        given.unwrap_or_else(|| "127.0.0.1:9876".to_owned())
    }

    pub(super) fn wanted(&self) -> Wanted {
        Wanted {
            topic: self.topic.clone(),
            queues: self.queues,
            patience: Duration::from_secs(self.wait_s),
            poll: Duration::from_millis(self.route_poll_ms),
        }
    }
}

impl Rate {
    pub(super) fn load(&self, topic: &str, run: u64) -> Load {
        let messages = match (self.messages, self.seconds) {
            (None, None) => Some(1000),
            (messages, _) => messages,
        };
        Load {
            topic: topic.to_owned(),
            run,
            per_second: self.rate,
            messages,
            lasting: self.seconds.map(Duration::from_secs),
            body_bytes: self.size,
            in_flight: self.in_flight,
            patience: Duration::from_secs(self.give_up_s),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_limit_a_thousand_messages_are_sent() {
        let rows = [
            (&["demo"][..], Some(1000), None),
            (&["demo", "--seconds", "5"], None, Some(5)),
            (&["demo", "--seconds", "5", "--messages", "7"], Some(7), Some(5)),
        ];
        for (words, messages, seconds) in rows {
            let cli = Cli::try_parse_from(std::iter::once(&"rmq-quickstart").chain(words)).unwrap();
            let Command::Demo { rate, target } = cli.command else { panic!("{words:?}") };
            let load = rate.load(&target.topic, 1);
            assert_eq!(load.messages, messages, "{words:?}");
            assert_eq!(load.lasting, seconds.map(Duration::from_secs), "{words:?}");
        }
    }
}
