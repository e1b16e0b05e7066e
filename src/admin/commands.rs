//! One function per command: calls, then rows. What an answer means is decided in pure functions
//! that are tested with Java's answers; what it looks like is the `Display` of the result.

pub(super) mod broker;
mod brokers;
pub(super) mod cluster;
pub(super) mod connection;
pub(super) mod consumer;
pub(super) mod doctor;
pub(super) mod drill;
pub(super) mod failover;
pub(super) mod from_file;
mod given;
pub(super) mod group;
pub(super) mod leader;
pub(super) mod member;
mod members;
pub(super) mod message;
pub(super) mod namesrv;
pub(super) mod offset;
pub(super) mod pull;
pub(super) mod query;
pub(super) mod stats;
pub(super) mod topic;

use futures_util::{StreamExt, stream};
use jiff::tz::TimeZone;

use super::{
    cli::Command,
    client::{AdminClient, Answered, CALLS_AT_A_TIME},
    error::Error,
    load::Load,
    output::Output,
};
use crate::protocol::codes::RequestCode;
use namesrv::Bit;

/// What a command works with.
pub(super) struct Session<'a> {
    pub(super) admin: AdminClient,
    pub(super) out: Output<'a>,
    /// Times are printed and read in it.
    pub(super) zone: TimeZone,
    /// Where loads come from.
    pub(super) load: &'a dyn Load,
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
    let on = session;
    match command {
        Command::UpdateTopic(args) => topic::update(on, args).await,
        Command::DeleteTopic(args) => topic::delete(on, &args).await,
        Command::UpdateTopicList(args) => from_file::topics(on, &args).await,
        Command::UpdateSubGroupList(args) => from_file::groups(on, &args).await,
        Command::UpdateSubGroup(args) => group::update(on, &args).await,
        Command::DeleteSubGroup(args) => group::delete(on, &args).await,
        Command::UpdateBrokerConfig(args) => broker::update_config(on, &args).await,
        Command::UpdateTopicPerm(args) => topic::update_perm(on, &args).await,
        Command::TopicRoute(args) => topic::route(on, &args).await,
        Command::TopicStatus(args) => topic::status(on, &args).await,
        Command::TopicClusterList(args) => topic::clusters(on, &args).await,
        Command::BrokerStatus(args) => broker::status(on, &args).await,
        Command::QueryMsgById(args) => query::by_id(on, &args).await,
        Command::QueryMsgByKey(args) => query::by_key(on, &args).await,
        Command::QueryMsgByUniqueKey(args) => query::by_unique_key(on, &args).await,
        Command::QueryMsgByOffset(args) => query::by_offset(on, &args).await,
        Command::ProducerConnection(args) => connection::producers(on, &args).await,
        Command::ConsumerConnection(args) => connection::consumers(on, &args).await,
        Command::ConsumerProgress(args) => consumer::progress(on, &args).await,
        Command::BrokerConsumeStats(args) => consumer::of_broker::show(on, &args).await,
        Command::CloneGroupOffset(args) => offset::clone(on, &args).await,
        Command::Producer(args) => connection::all_producers(on, &args).await,
        Command::ClusterList(args) => cluster::list(on, &args).await,
        Command::TopicList(args) => topic::list(on, &args).await,
        Command::UpdateKvConfig(args) => namesrv::update_kv(on, &args).await,
        Command::DeleteKvConfig(args) => namesrv::delete_kv(on, &args).await,
        Command::WipeWritePerm(args) => namesrv::write_perm(on, &args, Bit::Wiped).await,
        Command::AddWritePerm(args) => namesrv::write_perm(on, &args, Bit::Added).await,
        Command::ResetOffsetByTime(args) => offset::reset(on, &args).await,
        Command::SkipAccumulatedMessage(args) => offset::skip(on, &args).await,
        Command::UpdateOrderConf(args) => topic::update_order(on, &args).await,
        Command::CleanExpiredCq(args) => {
            broker::clean(on, &args, RequestCode::CLEAN_EXPIRED_CONSUMEQUEUE).await
        }
        Command::DeleteExpiredCommitLog(args) => {
            broker::clean(on, &args, RequestCode::DELETE_EXPIRED_COMMITLOG).await
        }
        Command::CleanUnusedTopic(args) => {
            broker::clean(on, &args, RequestCode::CLEAN_UNUSED_TOPIC).await
        }
        Command::StatsAll(args) => stats::all(on, &args).await,
        Command::GetNamesrvConfig(_) => namesrv::config(on).await,
        Command::UpdateNamesrvConfig(args) => namesrv::update_config(on, &args).await,
        Command::GetBrokerConfig(args) => broker::config(on, &args).await,
        Command::GetConsumerConfig(args) => group::config(on, &args).await,
        Command::QueryCq(args) => query::consume_queue(on, &args).await,
        Command::SendMessage(args) => message::send(on, args).await,
        Command::ConsumeMessage(args) => pull::consume(on, &args).await,
        Command::LeaderTransfer(args) => leader::transfer(on, &args).await,
        Command::Failover(args) => failover::show(on, &args).await,
        Command::Drill(args) => drill::run(on, &args).await,
        Command::Doctor(args) => doctor::examine(on, &args).await,
        Command::MemberList(args) => member::list(on, &args).await,
        Command::MemberAdd(args) => member::add(on, &args).await,
        Command::MemberRemove(args) => member::remove(on, &args).await,
        Command::MemberReplace(args) => member::replace(on, &args).await,
        Command::MemberRole(args) => member::assign(on, &args).await,
    }
}

/// What `call` makes of each of `items`, in their order; a few calls are under way at a time.
async fn each<T, R, F: Future<Output = R>>(
    items: impl IntoIterator<Item = T>,
    call: impl FnMut(T) -> F,
) -> Vec<R> {
    stream::iter(items).map(call).buffered(CALLS_AT_A_TIME).collect().await
}
