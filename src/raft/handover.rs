//! A leader that is about to stop hands leadership over, so that nobody waits for an election
//! timeout: it takes nothing any more, answers what is under way, and names an heir, which
//! campaigns at once. Who may be one is decided here for all changes of the leader that are meant
//! ([`crate::raft::transfer`]).

use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{Raft, RaftMetrics};

use crate::ids::StoreId;
use crate::raft::chronicle::{Cause, Chronicle};
use crate::raft::doubt::Doubt;
use crate::raft::error::Unfit;
use crate::raft::forward::Desk;
use crate::raft::membership::Wish;
use crate::raft::offers::Offers;
use crate::raft::proposer::Proposer;
use crate::raft::role::QUORUM_SILENCE;
use crate::raft::room::Room;
use crate::raft::state_machine::StateMachine;
use crate::raft::type_config::TypeConfig;

/// How long what is under way may take.
pub(super) const DRAIN: Duration = Duration::from_secs(2);
/// How long a leader without room waits for the one that takes over.
const MAKE_WAY: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(2);

/// A voter other than the leader, as the leader sees it.
#[derive(Debug, Clone)]
pub(super) struct Voter {
    pub(super) id: u64,
    /// Its name.
    pub(super) name: String,
    /// Last entry known to be stored there.
    pub(super) matched: Option<u64>,
    /// Time since its last answer; `None`: never.
    pub(super) silence: Option<Duration>,
    /// Whether it would refuse to campaign.
    pub(super) in_doubt: bool,
    /// Why it takes no messages, if so.
    pub(super) shortage: Option<String>,
    /// Why its disk is slow, if so.
    pub(super) slowness: Option<String>,
    /// Whether it offers to serve readers: then clients have known it for a while.
    pub(super) is_known: bool,
    /// Whether it is to vote no more.
    pub(super) leaves: bool,
}

/// Why a voter cannot lead, if so: the leader's last entry is `last`, and whoever lacks `near`
/// entries or fewer will have them in a moment. Pure.
pub(super) fn unfit(last: Option<u64>, voter: &Voter, near: u64) -> Option<Unfit> {
    let has = voter.matched.map_or(0, |index| index + 1);
    let behind = last.map_or(0, |index| index + 1).saturating_sub(has);
    if voter.silence.is_none_or(|silence| silence >= QUORUM_SILENCE) {
        return Some(Unfit::Silent { since: voter.silence });
    }
    if voter.in_doubt {
        return Some(Unfit::InDoubt);
    }
    if let Some(why) = voter.shortage.clone() {
        return Some(Unfit::NoRoom { why });
    }
    if let Some(why) = voter.slowness.clone() {
        return Some(Unfit::Slow { why });
    }
    (behind > near).then_some(Unfit::Behind { entries: behind })
}

/// Whether waiting for a voter is in vain: it did answer this leader, and does no more. One that was
/// not heard yet may answer in a moment.
pub(super) fn is_gone(why: Option<&Unfit>) -> bool {
    matches!(why, Some(Unfit::Silent { since: Some(_) }))
}

/// Who takes over.
#[derive(Debug, PartialEq, Eq)]
enum Heir {
    /// This voter has everything and answers.
    Ready(u64),
    /// Somebody lacks entries or is in doubt, which ends as it catches up, or has yet to be heard.
    CatchingUp,
    /// Nobody answers any more.
    None,
}

/// Decides by the leader's last index. Room and a fast disk are not needed to lead, but wanted. Of
/// several one that stays, or it would have to hand over as well; and one that clients have not known
/// for long: another one is what they have beside the leader (`namesrv::slots`: the first by id), and
/// shall stay that. Of these the last by name. Pure.
fn heir(last: Option<u64>, voters: &[Voter]) -> Heir {
    let is_ready = |voter: &&Voter| {
        let able = Voter { shortage: None, slowness: None, ..(*voter).clone() };
        unfit(last, &able, 0).is_none()
    };
    let ready = voters.iter().filter(is_ready);
    match ready.max_by_key(|voter| {
        let Voter { shortage, slowness, leaves, is_known, name, .. } = *voter;
        (shortage.is_none(), slowness.is_none(), !leaves, !is_known, name)
    }) {
        Some(voter) => Heir::Ready(voter.id),
        None if voters.iter().all(|voter| is_gone(unfit(last, voter, 0).as_ref())) => Heir::None,
        None => Heir::CatchingUp,
    }
}

/// From now on this member proposes nothing; if it leads, another one does when this returns.
/// Without an heir, or without one in time ([`Proposer::handover`]), it still leads then. Whatever
/// was proposed is answered; what comes meanwhile is kept at `desk` for who leads then. Does nothing
/// the second time.
pub(super) async fn retire(
    raft: &Raft<TypeConfig, StateMachine>,
    proposer: &Proposer,
    (desk, chronicle): (&Desk, &Chronicle),
    fitness: (&Doubt, &Room, &Offers),
) {
    let _held = desk.hold();
    if proposer.close() {
        let _meant = chronicle.means(Cause::Stopped);
        step_down(raft, proposer, fitness).await;
        proposer.give_up().await;
    }
}

async fn step_down(
    raft: &Raft<TypeConfig, StateMachine>,
    proposer: &Proposer,
    fitness: (&Doubt, &Room, &Offers),
) {
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
    match tokio::time::timeout(limit, hand_over(raft, fitness, |_| true)).await {
        Ok(Some(heir)) => tracing::info!(heir, "handed leadership over"),
        Ok(None) => tracing::info!("stopping as leader: nobody to hand over to"),
        Err(_) => tracing::warn!("stopping as leader: nobody took over within {limit:?}"),
    }
}

/// This member leads and has no room, or a slow disk: one that is better off takes over, if there
/// is one that has everything else. Says whether it tried.
pub(super) async fn make_way(
    raft: &Raft<TypeConfig, StateMachine>,
    (desk, chronicle): (&Desk, &Chronicle),
    (doubt, room, offers): (&Doubt, &Room, &Offers),
) -> bool {
    let metrics = raft.metrics().borrow_watched().clone();
    if !others(&metrics).any(|id| room.is_better_at(id)) {
        return false;
    }
    let is_full = room.shortage().is_some();
    let cause = if is_full { Cause::NoRoom } else { Cause::SlowDisk };
    let (_held, _meant) = (desk.hold(), chronicle.means(cause));
    let handed = hand_over(raft, (doubt, room, offers), |id| room.is_better_at(id));
    match tokio::time::timeout(MAKE_WAY, handed).await {
        Ok(Some(heir)) => tracing::info!(heir, "a member with a better disk leads now"),
        Ok(None) => return false,
        Err(_) => tracing::warn!("no member with a better disk took over within {MAKE_WAY:?}"),
    }
    true
}

/// Whether this member leads and no quorum answers: what is under way does not finish, and nobody
/// can take over.
pub(super) fn is_cut_off(raft: &Raft<TypeConfig, StateMachine>) -> bool {
    let metrics = raft.metrics().borrow_watched().clone();
    let silence = metrics.last_quorum_acked.as_ref().map(|at| at.elapsed());
    let is_alone = others(&metrics).next().is_none();
    let leads = metrics.state.is_leader();
    leads && !is_alone && silence.is_some_and(|silence| silence >= QUORUM_SILENCE)
}

/// The name of the new leader, or of the one that was to be if somebody else was faster. Returns
/// when another member is known to lead: until then the heir may need this member's vote.
async fn hand_over(
    raft: &Raft<TypeConfig, StateMachine>,
    (doubt, room, offers): (&Doubt, &Room, &Offers),
    may_lead: impl Fn(u64) -> bool,
) -> Option<String> {
    let mut chosen = None;
    while raft.is_leader() || (chosen.is_some() && !is_succeeded(raft)) {
        // It may have said so in answer to the call: then it is somebody else's turn.
        if raft.is_leader() && chosen.is_none_or(|id| doubt.is_of(id)) {
            let metrics = raft.metrics().borrow_watched().clone();
            let voters = voters(&metrics, (doubt, room, offers));
            let voters = voters.filter(|voter| may_lead(voter.id));
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

fn is_succeeded(raft: &Raft<TypeConfig, StateMachine>) -> bool {
    let metrics = raft.metrics().borrow_watched().clone();
    metrics.current_leader.is_some_and(|leader| leader != metrics.id)
}

fn others(metrics: &RaftMetrics<TypeConfig>) -> impl Iterator<Item = u64> {
    metrics.membership_config.membership().voter_ids().filter(|id| *id != metrics.id)
}

/// Whether a voter is on its way out, or to be a learner.
pub(super) fn leaves(wish: &Wish) -> bool {
    !matches!(wish, Wish::Vote | Wish::Replace(_))
}

/// All other voters, as this leader sees them.
pub(super) fn voters(
    metrics: &RaftMetrics<TypeConfig>,
    (doubt, room, offers): (&Doubt, &Room, &Offers),
) -> impl Iterator<Item = Voter> {
    let matched = |id| metrics.replication.as_ref()?.get(&id)?.as_ref().map(|at| at.index);
    let silence = |id| metrics.heartbeat.as_ref()?.get(&id)?.as_ref().map(|at| at.elapsed());
    let membership = metrics.membership_config.membership();
    let name = move |id: u64| membership.get_node(&id).map(|member| member.name.clone());
    others(metrics).map(move |id| Voter {
        id,
        name: name(id).unwrap_or_else(|| StoreId(id).to_string()),
        matched: matched(id),
        silence: silence(id),
        in_doubt: doubt.is_of(id),
        shortage: room.shortage_of(id),
        slowness: room.slowness_of(id),
        is_known: offers.is_of(id),
        leaves: membership.get_node(&id).is_some_and(|member| leaves(&member.wish)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has nine entries, and answered just now.
    fn fit(id: u64) -> Voter {
        let (matched, silence) = (Some(9), Some(Duration::ZERO));
        let (shortage, slowness) = (None, None);
        let (in_doubt, is_known, leaves) = (false, false, false);
        let name = format!("n{id}");
        Voter { id, name, matched, silence, in_doubt, shortage, slowness, is_known, leaves }
    }

    #[test]
    fn who_cannot_lead_is_told_with_the_first_reason() {
        let full = || Some("full".to_owned());
        let late = Some(Duration::from_secs(4));
        let rows = [
            ("has everything", fit(1), 0, None),
            ("near enough", Voter { matched: Some(7), ..fit(1) }, 2, None),
            ("behind", Voter { matched: Some(6), ..fit(1) }, 2, Some(Unfit::Behind { entries: 3 })),
            (
                "has nothing",
                Voter { matched: None, ..fit(1) },
                9,
                Some(Unfit::Behind { entries: 10 }),
            ),
            (
                "in doubt and behind",
                Voter { in_doubt: true, matched: None, ..fit(1) },
                2,
                Some(Unfit::InDoubt),
            ),
            (
                "full and behind",
                Voter { shortage: full(), matched: None, ..fit(1) },
                2,
                Some(Unfit::NoRoom { why: "full".to_owned() }),
            ),
            (
                "slow and behind",
                Voter { slowness: full(), matched: None, ..fit(1) },
                2,
                Some(Unfit::Slow { why: "full".to_owned() }),
            ),
            (
                "silent and full",
                Voter { silence: late, shortage: full(), ..fit(1) },
                2,
                Some(Unfit::Silent { since: late }),
            ),
            (
                "never heard",
                Voter { silence: None, ..fit(1) },
                2,
                Some(Unfit::Silent { since: None }),
            ),
        ];
        for (what, voter, near, want) in rows {
            assert_eq!(unfit(Some(9), &voter, near), want, "{what}");
        }
        assert_eq!(unfit(None, &Voter { matched: None, ..fit(1) }, 0), None, "there is nothing");
    }

    #[test]
    fn room_and_a_fast_disk_are_wanted_of_an_heir_and_not_needed() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let full = |id| Voter { shortage: Some("full".to_owned()), ..fit(id) };
        assert_eq!(heir(Some(9), &[full(1), Voter { silence: ms(40), ..fit(2) }]), Heir::Ready(2));
        let leaves = Voter { leaves: true, ..fit(2) };
        let known = Voter { is_known: true, ..fit(1) };
        assert_eq!(heir(Some(9), &[known, leaves.clone()]), Heir::Ready(1), "it stays");
        assert_eq!(heir(Some(9), &[leaves]), Heir::Ready(2), "rather than nobody");
        assert_eq!(heir(Some(9), &[full(1), Voter { matched: Some(8), ..fit(2) }]), Heir::Ready(1));
        let slow = |id| Voter { slowness: Some("slow".to_owned()), ..fit(id) };
        assert_eq!(heir(Some(9), &[slow(1), Voter { silence: ms(40), ..fit(2) }]), Heir::Ready(2));
        assert_eq!(heir(Some(9), &[slow(1), Voter { matched: Some(8), ..fit(2) }]), Heir::Ready(1));
        assert_eq!(heir(Some(9), &[full(1), slow(2)]), Heir::Ready(2));
    }

    #[test]
    fn the_heir_has_everything_and_answers() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let voter = |id, matched, silence| Voter { matched, silence, ..fit(id) };
        let rows = [
            ("both have everything", [(Some(9), ms(40)), (Some(9), ms(10))], Heir::Ready(2)),
            ("one is behind", [(Some(9), ms(40)), (Some(8), ms(10))], Heir::Ready(1)),
            ("both are behind", [(Some(8), ms(40)), (Some(7), ms(10))], Heir::CatchingUp),
            ("the other is silent", [(Some(9), ms(1000)), (Some(8), ms(10))], Heir::CatchingUp),
            ("one never answered", [(Some(9), None), (Some(9), ms(10))], Heir::Ready(2)),
            ("one has nothing", [(None, ms(10)), (Some(9), ms(900))], Heir::Ready(2)),
            ("one is not heard yet", [(Some(9), ms(1000)), (Some(9), None)], Heir::CatchingUp),
            ("nobody answers", [(Some(9), ms(1000)), (Some(9), ms(4000))], Heir::None),
        ];
        for (what, [first, second], want) in rows {
            let voters = [voter(1, first.0, first.1), voter(2, second.0, second.1)];
            assert_eq!(heir(Some(9), &voters), want, "{what}");
        }
        assert_eq!(heir(Some(9), &[]), Heir::None, "alone");
    }

    #[test]
    fn who_clients_have_beside_the_leader_stays_that() {
        let known = |id, is_known| Voter { is_known, ..fit(id) };
        let rows = [([true, true], 2), ([true, false], 2), ([false, true], 1), ([false, false], 2)];
        for ([first, second], want) in rows {
            let voters = [known(1, first), known(2, second)];
            assert_eq!(heir(Some(9), &voters), Heir::Ready(want), "{first} {second}");
        }
    }

    #[test]
    fn nobody_in_doubt_is_the_heir() {
        let voter = |id, matched, in_doubt| {
            let silence = Some(Duration::from_millis(10 * id));
            Voter { matched: Some(matched), silence, in_doubt, ..fit(id) }
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
