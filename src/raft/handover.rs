//! A leader that is about to stop hands leadership over, so that nobody waits for an election
//! timeout: it takes nothing any more, answers what is under way, and names an heir, which
//! campaigns at once.

use std::cmp::Reverse;
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{Raft, RaftMetrics};

use crate::ids::StoreId;
use crate::raft::doubt::Doubt;
use crate::raft::forward::Desk;
use crate::raft::proposer::Proposer;
use crate::raft::role::QUORUM_SILENCE;
use crate::raft::state_machine::StateMachine;
use crate::raft::type_config::TypeConfig;

/// How long what is under way may take.
pub(super) const DRAIN: Duration = Duration::from_secs(2);
/// How long a leader without room waits for the one that takes over.
const MAKE_WAY: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(5);

/// A voter other than the leader, as the leader sees it.
#[derive(Debug, Clone, Copy)]
struct Voter {
    id: u64,
    /// Last entry known to be stored there.
    matched: Option<u64>,
    /// Time since its last answer; `None`: never.
    silence: Option<Duration>,
    /// Whether it would refuse to campaign.
    in_doubt: bool,
}

/// Who takes over.
#[derive(Debug, PartialEq, Eq)]
enum Heir {
    /// This voter has everything and answers.
    Ready(u64),
    /// Somebody answers, and lacks entries or is in doubt, which ends as it catches up.
    CatchingUp,
    /// Nobody answers.
    None,
}

/// Decides by the leader's last index. Of several who have everything, the one heard last is the
/// surest to be there. Pure.
fn heir(last: Option<u64>, voters: &[Voter]) -> Heir {
    let heard = voters.iter().filter_map(|voter| Some((voter.silence?, voter)));
    let answering = heard.filter(|(silence, _)| *silence < QUORUM_SILENCE);
    let nearest = answering
        .max_by_key(|(silence, voter)| (!voter.in_doubt, voter.matched, Reverse(*silence)));
    match nearest {
        Some((_, voter)) if voter.matched >= last && !voter.in_doubt => Heir::Ready(voter.id),
        Some(_) => Heir::CatchingUp,
        None => Heir::None,
    }
}

/// From now on this member proposes nothing; if it leads, another one does when this returns.
/// Without an heir, or without one in time ([`Proposer::handover`]), it still leads then. Whatever
/// was proposed is answered; what comes meanwhile is kept at `desk` for who leads then. Does nothing
/// the second time.
pub(super) async fn retire(
    raft: &Raft<TypeConfig, StateMachine>,
    proposer: &Proposer,
    desk: &Desk,
    doubt: &Doubt,
) {
    let _held = desk.hold();
    if proposer.close() {
        step_down(raft, proposer, doubt).await;
        proposer.give_up().await;
    }
}

async fn step_down(raft: &Raft<TypeConfig, StateMachine>, proposer: &Proposer, doubt: &Doubt) {
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
    let alone = others(&raft.metrics().borrow_watched()).next().is_none();
    if alone || !raft.is_leader() {
        return;
    }
    let limit = proposer.handover();
    match tokio::time::timeout(limit, hand_over(raft, doubt, |_| true)).await {
        Ok(Some(heir)) => tracing::info!(heir, "handed leadership over"),
        Ok(None) => tracing::info!("stopping as leader: nobody to hand over to"),
        Err(_) => tracing::warn!("stopping as leader: nobody took over within {limit:?}"),
    }
}

/// This member leads and has no room: one of those that do takes over, if there is one that has
/// everything else. Says whether it tried.
pub(super) async fn make_way(
    raft: &Raft<TypeConfig, StateMachine>,
    doubt: &Doubt,
    has_room: impl Fn(u64) -> bool,
) -> bool {
    let metrics = raft.metrics().borrow_watched().clone();
    if !others(&metrics).any(&has_room) {
        return false;
    }
    match tokio::time::timeout(MAKE_WAY, hand_over(raft, doubt, has_room)).await {
        Ok(Some(heir)) => tracing::info!(heir, "a member with room leads now"),
        Ok(None) => return false,
        Err(_) => tracing::warn!("no member with room took over within {MAKE_WAY:?}"),
    }
    true
}

/// Whether this member leads and no quorum answers: what is under way does not finish, and nobody
/// can take over.
fn is_cut_off(raft: &Raft<TypeConfig, StateMachine>) -> bool {
    let metrics = raft.metrics().borrow_watched().clone();
    let silence = metrics.last_quorum_acked.as_ref().map(|at| at.elapsed());
    let is_alone = others(&metrics).next().is_none();
    let leads = metrics.state.is_leader();
    leads && !is_alone && silence.is_some_and(|silence| silence >= QUORUM_SILENCE)
}

/// The name of the new leader, or of the one that was to be if somebody else was faster.
async fn hand_over(
    raft: &Raft<TypeConfig, StateMachine>,
    doubt: &Doubt,
    may_lead: impl Fn(u64) -> bool,
) -> Option<String> {
    let mut chosen = None;
    while chosen.is_none() || raft.is_leader() {
        // It may have said so in answer to the call: then it is somebody else's turn.
        if chosen.is_none_or(|id| doubt.is_of(id)) {
            let metrics = raft.metrics().borrow_watched().clone();
            let voters = voters(&metrics, doubt).filter(|voter| may_lead(voter.id));
            match heir(metrics.last_log_index, &voters.collect::<Vec<_>>()) {
                Heir::Ready(id) => {
                    raft.trigger().transfer_leader(id).await.ok()?;
                    chosen = Some(id);
                }
                Heir::CatchingUp => {}
                Heir::None => return None,
            }
        }
        if chosen.is_some() && is_cut_off(raft) {
            return None;
        }
        tokio::time::sleep(POLL).await;
    }
    let chosen = chosen?;
    let membership = raft.metrics().borrow_watched().membership_config.clone();
    let heir = membership.membership().get_node(&chosen);
    Some(heir.map_or_else(|| StoreId(chosen).to_string(), |member| member.name.clone()))
}

fn others(metrics: &RaftMetrics<TypeConfig>) -> impl Iterator<Item = u64> {
    metrics.membership_config.membership().voter_ids().filter(|id| *id != metrics.id)
}

fn voters(metrics: &RaftMetrics<TypeConfig>, doubt: &Doubt) -> impl Iterator<Item = Voter> {
    let matched = |id| metrics.replication.as_ref()?.get(&id)?.as_ref().map(|at| at.index);
    let silence = |id| metrics.heartbeat.as_ref()?.get(&id)?.as_ref().map(|at| at.elapsed());
    others(metrics).map(move |id| Voter {
        id,
        matched: matched(id),
        silence: silence(id),
        in_doubt: doubt.is_of(id),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heir_has_everything_and_answers() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let voter = |id, matched, silence| Voter { id, matched, silence, in_doubt: false };
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

    #[test]
    fn nobody_in_doubt_is_the_heir() {
        let voter = |id, matched, in_doubt| {
            let silence = Some(Duration::from_millis(10 * id));
            Voter { id, matched: Some(matched), silence, in_doubt }
        };
        let rows = [
            ("the other has everything", voter(2, 9, false), Heir::Ready(2)),
            ("the other is behind", voter(2, 8, false), Heir::CatchingUp),
            ("both doubt", voter(2, 9, true), Heir::CatchingUp),
        ];
        for (what, other, want) in rows {
            assert_eq!(heir(Some(9), &[voter(1, 9, true), other]), want, "{what}");
        }
    }
}
