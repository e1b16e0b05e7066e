//! One function per command: calls, then rows. What an answer means is decided in pure functions
//! that are tested with Java's answers; what it looks like is the `Display` of the result.

pub(super) mod cluster;
pub(super) mod consumer;
mod given;
pub(super) mod message;
pub(super) mod pull;
pub(super) mod topic;

use futures_util::{StreamExt, stream};
use jiff::tz::TimeZone;

use super::{
    cli::Command,
    client::{AdminClient, Answered, CALLS_AT_A_TIME},
    error::Error,
    output::Output,
};

/// What a command works with.
pub(super) struct Session<'a> {
    pub(super) admin: AdminClient,
    pub(super) out: Output<'a>,
    /// Times are printed and read in it.
    pub(super) zone: TimeZone,
}

impl Session<'_> {
    /// The answer; whoever did not give it before is mentioned.
    fn answered<T>(&mut self, answered: Answered<T>) -> T {
        answered.in_vain.iter().for_each(|error| self.out.remark(error));
        answered.answer
    }
}

/// Does what `command` says. Parts that failed have been told to the output.
pub(super) async fn run(session: &mut Session<'_>, command: Command) -> Result<(), Error> {
    match command {
        Command::UpdateTopic(args) => topic::update(session, args).await,
        Command::TopicRoute(args) => topic::route(session, &args).await,
        Command::TopicStatus(args) => topic::status(session, &args).await,
        Command::ConsumerProgress(args) => consumer::progress(session, &args).await,
        Command::ClusterList(args) => cluster::list(session, &args).await,
        Command::TopicList(args) => topic::list(session, &args).await,
        Command::SendMessage(args) => message::send(session, args).await,
        Command::ConsumeMessage(args) => pull::consume(session, &args).await,
    }
}

/// What `call` makes of each of `items`, in their order; a few calls are under way at a time.
async fn each<T, R, F: Future<Output = R>>(
    items: impl IntoIterator<Item = T>,
    call: impl FnMut(T) -> F,
) -> Vec<R> {
    stream::iter(items).map(call).buffered(CALLS_AT_A_TIME).collect().await
}
