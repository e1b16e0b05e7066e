//! Who follows a leader that died, without anybody waiting for an election timeout.
//!
//! ```text
//!  the leader's process ends ──► its streams end at every follower
//!     ──► each calls the leader's port, which refuses: dead, not silent
//!     ──► they tell each other; a majority agrees ──► the one with the longest log campaigns at once
//! ```
//!
//! A machine that vanished or a cut link refuses nothing: then election timeouts decide, as always.
//! And one follower alone deposes nobody: a broken route may refuse calls to a leader that lives.
//! Whoever hears the leader again takes back that it is dead.
//! The election itself is an ordinary one, marked as a handover because the leader's lease is void.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::raft::TransferLeaderRequest;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock;
use crate::ids::Term;
use crate::raft::chronicle::Chronicle;
use crate::raft::doubt::Doubt;
use crate::raft::handover;
use crate::raft::heard::Heard;
use crate::raft::network::Network;
use crate::raft::offers::Offers;
use crate::raft::state_machine::StateMachine;
use crate::raft::type_config::{Ballot, RaftLogId, TypeConfig, log_id};
use crate::raft::wire;
use crate::store::CommitLog;

/// A process that ends closes its connections one after the other: its port may take a call yet.
const CALLS: usize = 5;
const BETWEEN_CALLS: Duration = Duration::from_millis(10);
/// How long others may take to find out, too.
const AGREEMENT: Duration = Duration::from_millis(300);
/// Limit of one question.
const ASK_TIMEOUT: Duration = Duration::from_millis(100);
const ASK_AGAIN: Duration = Duration::from_millis(5);
/// How long the one whose turn it is may take to win.
const TURN: Duration = Duration::from_millis(100);

/// An append stream of some leader; tells when it ends.
pub(super) struct LeaderStream(pub Arc<Notify>);

impl Drop for LeaderStream {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// A voter that found the leader dead.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Witness {
    name: String,
    last: Option<RaftLogId>,
    /// Whether it offers to serve readers.
    is_known: bool,
    /// Whether it is to vote no more.
    leaves: bool,
}

/// Decides who campaigns: of a majority that found the leader dead, the one with the longest log, of
/// equals one that stays, that clients have not known for long (`handover::heir`), the last by name.
/// `None` while they are no majority. Pure.
fn successor(witnesses: &[Witness], voters: usize) -> Option<&str> {
    let agreed = witnesses.len() * 2 > voters;
    let longest = witnesses.iter().max_by_key(|of| (of.last, !of.leaves, !of.is_known, &of.name));
    longest.filter(|_| agreed).map(|witness| witness.name.as_str())
}

/// A leader that this member follows.
struct Followed {
    name: String,
    vote: Ballot,
    /// Names of the other voters, without the leader.
    others: Vec<String>,
    voters: usize,
}

impl Followed {
    fn term(&self) -> Term {
        Term(self.vote.leader_id.term)
    }
}

/// Watches the leader that this member follows.
pub(super) struct Succession {
    own: String,
    network: Network,
    raft: Raft<TypeConfig, StateMachine>,
    log: CommitLog,
    doubt: Doubt,
    gone: Arc<Notify>,
    heard: Arc<Heard>,
    chronicle: Chronicle,
    offers: Offers,
}

impl Succession {
    /// For the member `own`, which has these `offers`, asks others by `network`, has `log`, and may campaign unless it
    /// doubts. `gone` is told when a leader's stream has ended; `heard` keeps what was found, until
    /// a leader is heard, and `chronicle` for good.
    pub(super) fn new(
        (own, offers): (String, Offers),
        network: Network,
        (raft, log, doubt): (Raft<TypeConfig, StateMachine>, CommitLog, Doubt),
        (gone, heard, chronicle): (Arc<Notify>, Arc<Heard>, Chronicle),
    ) -> Self {
        Self { own, network, raft, log, doubt, gone, heard, chronicle, offers }
    }

    /// Runs as long as the member.
    pub(super) async fn run(self) {
        loop {
            self.gone.notified().await;
            let ended = clock::now();
            if let Some(leader) = self.followed()
                && self.doubt.is_over()
                && self.is_dead(&leader).await
            {
                self.heard.found_dead(leader.term());
                self.chronicle.found_dead(ended);
                tracing::info!(leader = leader.name, "the leader's process has ended");
                self.succeed(&leader).await;
            }
        }
    }

    /// Whom this member follows as a voter, if anybody.
    fn followed(&self) -> Option<Followed> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let leader = metrics.current_leader.filter(|leader| *leader != metrics.id)?;
        let membership = metrics.membership_config.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let name = |id: &u64| membership.get_node(id).map(|member| member.name.clone());
        let others = voters.iter().filter(|id| **id != leader && **id != metrics.id);
        (metrics.vote.committed && voters.contains(&metrics.id)).then_some(())?;
        Some(Followed {
            name: name(&leader)?,
            vote: metrics.vote,
            others: others.filter_map(name).collect(),
            voters: voters.len(),
        })
    }

    /// Whether that leader is still the one that this member goes by, and takes for dead.
    fn still_misses(&self, leader: &Followed) -> bool {
        let vote = self.raft.metrics().borrow_watched().vote;
        vote == leader.vote && self.heard.dead_in() == Some(leader.term())
    }

    async fn is_dead(&self, leader: &Followed) -> bool {
        for _ in 0..CALLS {
            if self.network.is_refused(&leader.name).await {
                return true;
            }
            tokio::time::sleep(BETWEEN_CALLS).await;
        }
        false
    }

    async fn succeed(&self, leader: &Followed) {
        let deadline = Instant::now() + AGREEMENT;
        while self.still_misses(leader) && Instant::now() < deadline {
            let witnesses = self.witnesses(leader).await;
            match successor(&witnesses, leader.voters) {
                Some(name) if name == self.own => return self.campaign(leader).await,
                Some(_) => {
                    let turn = Instant::now() + TURN;
                    while self.still_misses(leader) && Instant::now() < turn {
                        tokio::time::sleep(ASK_AGAIN).await;
                    }
                    if self.still_misses(leader) {
                        return self.campaign(leader).await;
                    }
                }
                None => tokio::time::sleep(ASK_AGAIN).await,
            }
        }
    }

    /// This member, and those that found out as well.
    async fn witnesses(&self, leader: &Followed) -> Vec<Witness> {
        let term = leader.term();
        let metrics = self.raft.metrics().borrow_watched().clone();
        let members = metrics.membership_config.membership().nodes();
        let staying = members.filter(|(_, member)| !handover::leaves(&member.wish));
        let staying: BTreeSet<&str> = staying.map(|(_, member)| member.name.as_str()).collect();
        let leaves = |name: &str| !staying.contains(name);
        let asked = leader.others.iter().map(|name| async move {
            let answer = self.network.state(name, ASK_TIMEOUT).await.ok()?;
            let last = answer.last.map(wire::to_log_id);
            let is_known = answer.serves_readers;
            (answer.leader_dead_in == term.0).then(|| Witness {
                name: name.clone(),
                last,
                is_known,
                leaves: leaves(name),
            })
        });
        let others = join_all(asked).await.into_iter().flatten();
        let (last, is_known) = (self.log.last().map(log_id), self.offers.own());
        let own = Witness { name: self.own.clone(), last, is_known, leaves: leaves(&self.own) };
        others.chain([own]).collect()
    }

    async fn campaign(&self, leader: &Followed) {
        let id = *self.raft.node_id();
        let request = TransferLeaderRequest::new(leader.vote, id, None);
        match self.raft.handle_transfer_leader(request).await {
            Ok(Ok(())) => tracing::info!(after = leader.name, "campaigning at once"),
            Ok(Err(error)) => tracing::debug!(%error, "no need to campaign"),
            Err(error) => tracing::debug!(%error, "cannot campaign"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::EntryIndex;
    use crate::store::EntryId;

    #[test]
    fn a_majority_that_found_the_leader_dead_sends_its_longest_log() {
        let witness = |name: &str, term, index| {
            let last = EntryId { index: EntryIndex(index), term: Term(term) };
            Witness {
                name: name.to_owned(),
                last: Some(log_id(last)),
                is_known: false,
                leaves: false,
            }
        };
        let known = |name| Witness { is_known: true, ..witness(name, 2, 9) };
        let leaves = |name| Witness { leaves: true, ..witness(name, 2, 9) };
        let empty = Witness { last: None, ..witness("n0", 0, 0) };
        let rows: [(&[Witness], usize, Option<&str>); 11] = [
            (&[leaves("n2"), known("n1")], 3, Some("n1")),
            (&[leaves("n2"), witness("n1", 2, 8)], 3, Some("n2")),
            (&[witness("n1", 2, 9)], 3, None),
            (&[witness("n1", 2, 9), witness("n2", 2, 9)], 3, Some("n2")),
            (&[known("n1"), known("n2")], 3, Some("n2")),
            (&[witness("n1", 2, 9), known("n2")], 3, Some("n1")),
            (&[witness("n1", 2, 8), known("n2")], 3, Some("n2")),
            (&[witness("n2", 2, 9), witness("n1", 2, 8)], 3, Some("n2")),
            (&[witness("n2", 1, 99), witness("n1", 2, 8)], 3, Some("n1")),
            (&[empty, witness("n1", 1, 0)], 3, Some("n1")),
            (&[witness("n3", 2, 9), witness("n1", 2, 9)], 5, None),
        ];
        for (witnesses, voters, want) in rows {
            assert_eq!(successor(witnesses, voters), want, "{witnesses:?} of {voters}");
        }
    }
}
