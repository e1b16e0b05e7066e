//! Passes on what waits at the [`Desk`]: to the leader over one stream, or to this member's own
//! proposer when it has become the leader.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::ids::Term;
use crate::raft::ProposeError;
use crate::raft::duplicates::Duplicates;
use crate::raft::forward::{Desk, LeadersClock, Unanswered};
use crate::raft::forward_wire;
use crate::raft::network::Network;
use crate::raft::proposal::Proposal;
use crate::raft::proposer::Proposer;
use crate::raft::role::Role;
use crate::raft::room::Room;
use crate::raft::version::{Active, GroupVersion};
use crate::raft::wire::proto;
use crate::raft::wire_codec::tell_damage;

/// Bytes of proposals after which a message is closed.
const MESSAGE_BYTES: usize = 256 * 1024;
/// Proposals after which a message is closed.
const MESSAGE_PROPOSALS: usize = 1024;
/// Messages that may wait for the connection.
const MESSAGES: usize = 4;
/// Before a lost stream is replaced, or what came back is proposed again.
const AGAIN: Duration = Duration::from_millis(10);

/// What passing on needs.
pub(super) struct Forwarder {
    /// What is passed on.
    pub(super) desk: Desk,
    /// To others.
    pub(super) network: Network,
    /// To this member, as a leader.
    pub(super) proposer: Proposer,
    /// What the group writes.
    pub(super) active: Active,
    /// Who leads.
    pub(super) role: watch::Receiver<Role>,
    /// What fits, if this member leads.
    pub(super) room: Arc<Room>,
    /// Where a leader notes what may not have been answered.
    pub(super) duplicates: Duplicates,
}

/// Why a stream is over.
enum End {
    /// Somebody else leads, or nobody.
    Role,
    /// It is lost, or its leader does not take part.
    Lost(Status),
}

impl Forwarder {
    /// Runs as long as its member takes part in the group.
    pub(super) async fn run(mut self) {
        let mut streams = 0;
        while self.role.has_changed().is_ok() {
            let role = self.role.borrow_and_update().clone();
            match role {
                Role::Leader { .. } => self.propose().await,
                // What waits goes to the next leader that may take it, or is late.
                Role::Follower { leader: Some(_), .. }
                    if !self.active.has(GroupVersion::PASSES_ON) =>
                {
                    tokio::select! {
                        () = self.active.reaches(GroupVersion::PASSES_ON) => {}
                        _ = self.role.changed() => {}
                    }
                }
                Role::Follower { leader: Some(leader), term } => {
                    if !self.desk.is_in_doubt() {
                        tokio::select! {
                            () = self.desk.work() => {}
                            _ = self.role.changed() => continue,
                        }
                    }
                    if !self.active.has(GroupVersion::PASSES_ON) {
                        continue;
                    }
                    streams += 1;
                    let mut told = Unanswered::new();
                    let end = self.pass_on(&leader, term, streams, &mut told).await;
                    self.desk.tell_again(told);
                    if let End::Lost(status) = end {
                        tell_damage(&leader, &status);
                        tracing::debug!(leader, %term, %status, "cannot pass on");
                        // A new leader is news enough not to wait.
                        let _ = tokio::time::timeout(AGAIN, self.role.changed()).await;
                    }
                }
                Role::Follower { leader: None, .. } => drop(self.role.changed().await),
            }
        }
    }

    /// Proposes what waits, until this member leads no more.
    async fn propose(&mut self) {
        self.desk.leads();
        loop {
            if self.desk.was_given_back() {
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    _ = self.role.changed() => return,
                }
            }
            // It may have led all the time, and not have known it.
            let unanswered = self.desk.take_unanswered();
            self.duplicates.unanswered(unanswered.into_iter().map(|(_, send)| send));
            let lines = self.desk.empty();
            let was_empty = lines.is_empty();
            for line in lines {
                match self.room.refusal(&line.proposal, self.proposer.waiting_bytes()) {
                    Some(why) => (line.proposal.done)(Err(ProposeError::DiskFull { why })),
                    None => self.proposer.propose_since(line.proposal, line.since),
                }
            }
            if !was_empty {
                continue;
            }
            tokio::select! {
                () = self.desk.work() => {}
                _ = self.role.changed() => return,
            }
        }
    }

    /// Passes on to `leader`, which leads `term`, as long as it does. `told` is what it was told last
    /// of who was not answered.
    async fn pass_on(
        &mut self,
        leader: &str,
        term: Term,
        stream: u64,
        told: &mut Unanswered,
    ) -> End {
        let (send, requests) = mpsc::channel(MESSAGES);
        let life = self.desk.life();
        let request = || proto::ProposeRequest { term: term.0, life, stream, ..Default::default() };
        let mut first = request();
        let barrier = self.desk.begin();
        if let Some(number) = barrier {
            forward_wire::add(&mut first, (number, u64::MAX), &[], &[]);
        }
        // There is room: nothing was sent.
        let _ = send.try_send(first);
        let call = self.network.propose(leader, ReceiverStream::new(requests));
        let mut refusals = tokio::select! {
            called = call => match called {
                Ok(refusals) => refusals,
                Err(status) => return End::Lost(status),
            },
            _ = self.role.changed() => return End::Role,
        };
        let mut clock = None;
        loop {
            let room = async {
                self.desk.work().await;
                send.reserve().await
            };
            // All branches are cancel-safe.
            tokio::select! {
                biased;
                _ = self.role.changed() => return End::Role,
                response = next(&mut refusals) => match response {
                    Ok(response) => {
                        let heard = Instant::now();
                        let showed = response.clock_ms;
                        clock = showed.map(|showed_ms| LeadersClock { showed_ms, heard }).or(clock);
                        if !self.answer(response) {
                            return End::Lost(Status::unavailable("the leader refused a barrier"));
                        }
                    }
                    Err(status) => return End::Lost(status),
                },
                room = room, if clock.is_some() => match (room, clock) {
                    (Ok(room), Some(clock)) => {
                        let unanswered = self.desk.take_unanswered();
                        room.send(fill(&self.desk, clock, &unanswered, request()));
                        if !unanswered.is_empty() {
                            *told = unanswered;
                        }
                    }
                    (Err(_), _) | (_, None) => {
                        return End::Lost(Status::unavailable("the connection is gone"));
                    }
                },
            }
        }
    }

    /// False if a barrier was refused.
    fn answer(&self, response: proto::ProposeResponse) -> bool {
        let refused = response.refused.into_iter().map(forward_wire::to_refused);
        refused.fold(true, |whole, (number, error)| self.desk.refused(number, error) && whole)
    }
}

/// A message of what goes next.
fn fill(
    desk: &Desk,
    clock: LeadersClock,
    unanswered: &Unanswered,
    mut request: proto::ProposeRequest,
) -> proto::ProposeRequest {
    let mut bytes = 0;
    forward_wire::add_unanswered(&mut request, unanswered.iter().map(|(_, send)| *send));
    desk.send(clock, |number, proposal: &Proposal| {
        forward_wire::add(&mut request, number, &proposal.messages, &proposal.commands);
        bytes += proposal.bytes();
        bytes < MESSAGE_BYTES && request.proposals.len() < MESSAGE_PROPOSALS
    });
    request
}

async fn next(
    refusals: &mut Streaming<proto::ProposeResponse>,
) -> Result<proto::ProposeResponse, Status> {
    let next = refusals.message().await?;
    next.ok_or_else(|| Status::unavailable("the leader takes no more over this stream"))
}
