//! LIST_MEMBERS, ADD_MEMBER, REMOVE_MEMBER, REPLACE_MEMBER, ASSIGN_MEMBER (900002 to 900006, ours):
//! an operator looks at the members of the group, or changes who they are.

use std::pin::Pin;
use std::sync::Arc;

use crate::config::Endpoint;
use crate::config::address::member_name_error;
use crate::net::Connection;
use crate::protocol::bodies::{self, CatchingUp, GroupMember, GroupMembers, MemberPlan};
use crate::protocol::codes::ResponseCode;
use crate::protocol::command::RemotingCommand;
use crate::protocol::headers::admin::{AddMember, AssignMember, RemoveMember, ReplaceMember};
use crate::raft::{MemberChange, MemberStatus, Mode, Part, PeerAddress};

use crate::broker::Broker;
use crate::broker::dispatch::{Answer, Request};
use crate::broker::error::RequestError;

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// LIST_MEMBERS. Any member answers; how far each is knows the leader.
pub(in crate::broker) fn list(broker: &Broker, _: &Request) -> Answer {
    let status = broker.group.status();
    let body = GroupMembers {
        group: broker.identity.group.clone(),
        leader: status.leader,
        answering: broker.identity.member.clone(),
        waits_for: status.waits_for.map(|waits_for| waits_for.why),
        members: broker.group.members().into_iter().map(told).collect(),
    };
    let answer = RemotingCommand::response(ResponseCode::SUCCESS);
    Ok(answer.with_body(bodies::encode(&body)).into())
}

fn told(member: MemberStatus) -> GroupMember {
    let part = match member.part {
        Part::Voter if member.leads => "leader",
        Part::Voter => "voter",
        Part::Learner => "learner",
    };
    GroupMember {
        name: member.name,
        address: member.address,
        store_id: member.store_id.to_string(),
        broker_id: member.broker_id.0,
        part: part.to_owned(),
        becomes: member.wish,
        matched: member.matched.map(|index| index.0),
        behind: member.behind,
        behind_bytes: member.behind_bytes,
        catch_up: member.catch_up.map(|catch_up| CatchingUp {
            percent: catch_up.percent,
            bytes_per_second: catch_up.bytes_per_second,
            left_seconds: catch_up.left.map(|left| left.as_secs()),
        }),
        silent_ms: member.silence.map(|ms| u64::try_from(ms.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// ADD_MEMBER.
pub(in crate::broker) fn add(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let AddMember { name, address, learner, dry_run } = AddMember::parse(&request.command)?;
        let (name, address) = newcomer(name, &address)?;
        let change = MemberChange::Add { name, address, part: part(learner) };
        make(&broker, &request.connection, change, dry_run).await
    })
}

/// REMOVE_MEMBER.
pub(in crate::broker) fn remove(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let RemoveMember { name, dry_run } = RemoveMember::parse(&request.command)?;
        let name = checked_name(name)?;
        make(&broker, &request.connection, MemberChange::Remove { name }, dry_run).await
    })
}

/// REPLACE_MEMBER.
pub(in crate::broker) fn replace(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let ReplaceMember { old, new, address, dry_run } = ReplaceMember::parse(&request.command)?;
        let (old, (new, address)) = (checked_name(old)?, newcomer(new, &address)?);
        let change = MemberChange::Replace { old, new, address };
        make(&broker, &request.connection, change, dry_run).await
    })
}

/// ASSIGN_MEMBER.
pub(in crate::broker) fn assign(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        let AssignMember { name, learner, dry_run } = AssignMember::parse(&request.command)?;
        let change = MemberChange::Assign { name: checked_name(name)?, part: part(learner) };
        make(&broker, &request.connection, change, dry_run).await
    })
}

fn part(learner: bool) -> Part {
    if learner { Part::Learner } else { Part::Voter }
}

/// A member's name, before anybody logs it or looks for it.
pub(super) fn checked_name(name: String) -> Result<String, RequestError> {
    match member_name_error(&name) {
        Some(error) => Err(RequestError::Parameter(error)),
        None => Ok(name),
    }
}

/// A name and an address as in `dLegerPeers`.
fn newcomer(name: String, address: &str) -> Result<(String, PeerAddress), RequestError> {
    let name = checked_name(name)?;
    let endpoint = address.parse::<Endpoint>();
    let Endpoint { host, port } =
        endpoint.map_err(|error| RequestError::Parameter(format!("member {name}: {error}")))?;
    Ok((name, PeerAddress { host, port }))
}

async fn make(
    broker: &Broker,
    connection: &Connection,
    change: MemberChange,
    dry_run: bool,
) -> Answer {
    let peer = connection.peer();
    tracing::info!(%peer, ?change, dry_run, "asked to change the group's members");
    let mode = if dry_run { Mode::DryRun } else { Mode::Record };
    let steps = broker.group.change_members(change, mode).await?;
    let body = MemberPlan { group: broker.identity.group.clone(), steps };
    let answer = RemotingCommand::response(ResponseCode::SUCCESS);
    Ok(answer.with_body(bodies::encode(&body)).into())
}
