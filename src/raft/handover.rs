//! A leader that is about to stop hands leadership over, so that nobody waits for an election
//! timeout: it takes nothing any more, answers what is under way, and names an heir, which
//! campaigns at once.

use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{Raft, RaftMetrics};

use crate::ids::StoreId;
use crate::raft::proposer::Proposer;
use crate::raft::role::QUORUM_SILENCE;
use crate::raft::state_machine::StateMachine;
use crate::raft::type_config::TypeConfig;

/// How long what is under way may take.
pub(super) const DRAIN: Duration = Duration::from_secs(2);
/// How long the handover may take: an heir catches up, campaigns and wins.
const HANDOVER: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(5);

/// A voter other than the leader, as the leader sees it.
#[derive(Debug, Clone, Copy)]
struct Voter {
    id: u64,
    /// Last entry known to be stored there.
    matched: Option<u64>,
    /// Time since its last answer; `None`: never.
    silence: Option<Duration>,
}

/// Who takes over.
#[derive(Debug, PartialEq, Eq)]
enum Heir {
    /// This voter has everything and answers.
    Ready(u64),
    /// Somebody answers, and lacks entries.
    CatchingUp,
    /// Nobody answers.
    None,
}

/// Decides by the leader's last index. Of several who have everything, the one heard last is the
/// surest to be there. Pure.
fn heir(last: Option<u64>, voters: &[Voter]) -> Heir {
    let heard = voters.iter().filter_map(|voter| Some((voter.silence?, voter)));
    let answering = heard.filter(|(silence, _)| *silence < QUORUM_SILENCE);
    let nearest = answering.max_by_key(|(silence, v)| (v.matched, std::cmp::Reverse(*silence)));
    match nearest {
        Some((_, voter)) if voter.matched >= last => Heir::Ready(voter.id),
        Some(_) => Heir::CatchingUp,
        None => Heir::None,
    }
}

/// From now on this member proposes nothing; if it leads, another one does when this returns.
/// Without an heir, or without an answer in time, it still leads then. Whatever was proposed is
/// answered. Does nothing the second time.
pub(super) async fn retire(raft: &Raft<TypeConfig, StateMachine>, proposer: &Proposer) {
    if !proposer.close() {
        return;
    }
    step_down(raft, proposer).await;
    proposer.give_up().await;
}

async fn step_down(raft: &Raft<TypeConfig, StateMachine>, proposer: &Proposer) {
    let drained = async {
        while proposer.waiting_bytes() > 0 && !is_cut_off(raft) {
            tokio::time::sleep(POLL).await;
        }
    };
    let drained = tokio::time::timeout(DRAIN, drained).await;
    if is_cut_off(raft) {
        let bytes = proposer.waiting_bytes();
        tracing::warn!(bytes, "stopping as a leader that no quorum answers");
        return;
    }
    if drained.is_err() {
        tracing::warn!(bytes = proposer.waiting_bytes(), "stopping with proposals open");
    }
    let alone = voters(&raft.metrics().borrow_watched()).is_empty();
    if alone || !raft.is_leader() {
        return;
    }
    match tokio::time::timeout(HANDOVER, hand_over(raft, |_| true)).await {
        Ok(Some(heir)) => tracing::info!(heir, "handed leadership over"),
        Ok(None) => tracing::info!("stopping as leader: nobody to hand over to"),
        Err(_) => tracing::warn!("stopping as leader: nobody took over within {HANDOVER:?}"),
    }
}

/// This member leads and has no room: one of those that do takes over, if there is one that has
/// everything else. Says whether it tried.
pub(super) async fn make_way(
    raft: &Raft<TypeConfig, StateMachine>,
    has_room: impl Fn(u64) -> bool,
) -> bool {
    let metrics = raft.metrics().borrow_watched().clone();
    if !voters(&metrics).iter().any(|voter| has_room(voter.id)) {
        return false;
    }
    match tokio::time::timeout(HANDOVER, hand_over(raft, has_room)).await {
        Ok(Some(heir)) => tracing::info!(heir, "a member with room leads now"),
        Ok(None) => return false,
        Err(_) => tracing::warn!("no member with room took over within {HANDOVER:?}"),
    }
    true
}

/// Whether this member leads and no quorum answers: what is under way does not finish, and nobody
/// can take over.
fn is_cut_off(raft: &Raft<TypeConfig, StateMachine>) -> bool {
    let metrics = raft.metrics().borrow_watched().clone();
    let silence = metrics.last_quorum_acked.as_ref().map(|at| at.elapsed());
    let is_alone = voters(&metrics).is_empty();
    let leads = metrics.state.is_leader();
    leads && !is_alone && silence.is_some_and(|silence| silence >= QUORUM_SILENCE)
}

/// The name of the new leader, or of the one that was to be if somebody else was faster.
async fn hand_over(
    raft: &Raft<TypeConfig, StateMachine>,
    may_lead: impl Fn(u64) -> bool,
) -> Option<String> {
    let chosen = loop {
        let metrics = raft.metrics().borrow_watched().clone();
        let mut voters = voters(&metrics);
        voters.retain(|voter| may_lead(voter.id));
        match heir(metrics.last_log_index, &voters) {
            Heir::Ready(id) => break id,
            Heir::CatchingUp => tokio::time::sleep(POLL).await,
            Heir::None => return None,
        }
    };
    raft.trigger().transfer_leader(chosen).await.ok()?;
    while raft.is_leader() {
        if is_cut_off(raft) {
            return None;
        }
        tokio::time::sleep(POLL).await;
    }
    let membership = raft.metrics().borrow_watched().membership_config.clone();
    let heir = membership.membership().get_node(&chosen);
    Some(heir.map_or_else(|| StoreId(chosen).to_string(), |member| member.name.clone()))
}

fn voters(metrics: &RaftMetrics<TypeConfig>) -> Vec<Voter> {
    let others = metrics.membership_config.membership().voter_ids().filter(|id| *id != metrics.id);
    let matched = |id| metrics.replication.as_ref()?.get(&id)?.as_ref().map(|at| at.index);
    let silence = |id| metrics.heartbeat.as_ref()?.get(&id)?.as_ref().map(|at| at.elapsed());
    others.map(|id| Voter { id, matched: matched(id), silence: silence(id) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heir_has_everything_and_answers() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let voter = |id, matched, silence| Voter { id, matched, silence };
        let rows = [
            ("both have everything", [(Some(9), ms(40)), (Some(9), ms(10))], Heir::Ready(2)),
            ("one is behind", [(Some(9), ms(40)), (Some(8), ms(10))], Heir::Ready(1)),
            ("both are behind", [(Some(8), ms(40)), (Some(7), ms(10))], Heir::CatchingUp),
            ("the other is silent", [(Some(9), ms(1000)), (Some(8), ms(10))], Heir::CatchingUp),
            ("one never answered", [(Some(9), None), (Some(9), ms(10))], Heir::Ready(2)),
            ("one has nothing", [(None, ms(10)), (Some(9), ms(900))], Heir::Ready(2)),
            ("nobody answers", [(Some(9), ms(1000)), (Some(9), None)], Heir::None),
        ];
        for (what, [first, second], want) in rows {
            let voters = [voter(1, first.0, first.1), voter(2, second.0, second.1)];
            assert_eq!(heir(Some(9), &voters), want, "{what}");
        }
        assert_eq!(heir(Some(9), &[]), Heir::None, "alone");
    }
}
