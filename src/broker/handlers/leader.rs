//! TRANSFER_LEADER (900001, ours): an operator wants another member to lead.

use std::pin::Pin;
use std::sync::Arc;

use crate::protocol::headers::admin::{TransferLeader, TransferLeaderAnswer};

use super::member::checked_name;
use crate::broker::Broker;
use crate::broker::dispatch::{Answer, Request};

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// The handler. Only the leader can; others say who it is.
pub(in crate::broker) fn transfer(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let to = TransferLeader::parse(&request.command)?.to.map(checked_name).transpose()?;
        let peer = request.connection.peer();
        tracing::info!(%peer, to, "asked to hand leadership over");
        let done = broker.group.transfer(to.as_deref()).await?;
        let answer = TransferLeaderAnswer {
            group: broker.identity.group.clone(),
            from: done.from,
            leader: done.leader,
            term: done.term.0,
            held_us: u64::try_from(done.held.as_micros()).unwrap_or(u64::MAX),
        };
        Ok(answer.answer().into())
    })
}
