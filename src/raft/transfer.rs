//! Leadership changes hands because somebody wants it to, while all members live.
//!
//! ```text
//!  an heir that could lead, and answers ──► hold what comes ──► what is under way is stored,
//!     and the heir has it ──► it is told to campaign ──► it leads ──► what was held goes there
//! ```
//!
//! Until the heir is told, whatever fails leaves everything as it was. From then on openraft
//! proposes nothing in this term any more: the heir leads in a moment, or the members elect a
//! leader as if this one had fallen silent. Either way nothing that was asked is lost or refused:
//! it waits at the [`Desk`], and other members keep what they would have passed on.
//!
//! One transfer at a time; who asks does not have to stay.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{Raft, RaftMetrics};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Interval, sleep, timeout};

use crate::ids::Term;
use crate::raft::chronicle::{Cause, Chronicle};
use crate::raft::doubt::Doubt;
use crate::raft::error::{TransferError, Unfit};
use crate::raft::forward::{Desk, Hold};
use crate::raft::handover::{self, Voter, unfit};
use crate::raft::network::Network;
use crate::raft::offers::Offers;
use crate::raft::preference::{Preference, Seen};
use crate::raft::proposer::Proposer;
use crate::raft::role::Role;
use crate::raft::room::Room;
use crate::raft::state_machine::StateMachine;
use crate::raft::type_config::TypeConfig;

/// Requests that wait for their turn; each takes some seconds at most.
const WAITING: usize = 4;
/// How often leadership is compared with what is preferred.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// An heir that lacks no more entries than this has them in a moment: as many as are under way, and
/// as many again.
const NEAR: u64 = 16;
/// How long an heir may take to come so near.
const CATCH_UP: Duration = Duration::from_secs(1);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_millis(300);
/// How long what is under way may take, and the heir to have it: clients wait meanwhile.
const DRAIN: Duration = Duration::from_secs(1);
/// A leader that has told its heir stops to lead within a second, whatever the heir does
/// ([`crate::raft::role::QUORUM_SILENCE`]).
const LET_GO: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(2);

/// A transfer that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transferred {
    /// Who led.
    pub from: String,
    /// Who leads.
    pub leader: String,
    /// Its term.
    pub term: Term,
    /// How long what clients sent had to wait.
    pub held: Duration,
}

pub(super) type Outcome = Result<Transferred, TransferError>;

/// Who shall lead (`None`: whoever is nearest), why, and whom to tell what came of it.
pub(super) struct Wanted {
    pub to: Option<String>,
    pub cause: Cause,
    /// Whether somebody wants that it does not lead: no preference gives leadership back to it.
    pub yields: bool,
    pub done: oneshot::Sender<Outcome>,
}

/// Where transfers are asked for.
pub(super) fn requests() -> (mpsc::Sender<Wanted>, mpsc::Receiver<Wanted>) {
    mpsc::channel(WAITING)
}

/// Makes transfers while this member leads.
pub(super) struct Transfers {
    /// This member.
    pub own: String,
    /// Who leads if it can.
    pub preferred: Option<String>,
    /// For how long it must have been able to before it is told to.
    pub steady: Duration,
    /// The group.
    pub raft: Raft<TypeConfig, StateMachine>,
    /// How to ask an heir whether it is there.
    pub network: Network,
    /// What is under way.
    pub proposer: Proposer,
    /// What waits.
    pub desk: Desk,
    /// Told why leadership is given away.
    pub chronicle: Chronicle,
    /// What is known of others' doubts.
    pub doubt: Doubt,
    /// What is known of others' room.
    pub room: Arc<Room>,
    /// Who offers to serve readers.
    pub offers: Offers,
    /// Who leads.
    pub role: watch::Receiver<Role>,
    /// Told to others: an operator had this member hand over, or it is about to stop.
    pub yields: Arc<AtomicBool>,
}

impl Transfers {
    /// Runs as long as its member.
    pub(super) async fn run(self, mut wanted: mpsc::Receiver<Wanted>, mut looks: Interval) {
        let (mut preference, mut role) = (Preference::new(self.steady), self.role.clone());
        loop {
            // All branches are cancel-safe.
            tokio::select! {
                asked = wanted.recv() => match asked {
                    Some(Wanted { to, cause, yields, done }) => {
                        let outcome = self.transfer(to.as_deref(), cause).await;
                        let gone = outcome.is_ok() || cause == Cause::Stopped;
                        self.yields.fetch_or(yields && gone, Ordering::Relaxed);
                        // Whoever asked may have gone.
                        let _ = done.send(outcome);
                    }
                    None => return,
                },
                changed = role.changed() => match changed {
                    Ok(()) if role.borrow_and_update().is_leader() => {
                        self.yields.store(false, Ordering::Relaxed);
                    }
                    Ok(()) => {}
                    Err(_) => return,
                },
                _ = looks.tick(), if self.preferred.is_some() => {
                    self.prefer(&mut preference).await;
                }
            }
        }
    }

    /// Gives leadership to the preferred member, when it is time.
    async fn prefer(&self, preference: &mut Preference) {
        let Some(preferred) = self.preferred.as_deref().filter(|name| *name != self.own) else {
            return;
        };
        let metrics = self.metrics();
        let role = self.role.borrow().clone();
        let seen = match role.leader(&self.own) {
            Some(leader) if leader == preferred => Seen::Leads,
            Some(_) if role.is_leader() => match self.voter(&metrics, preferred) {
                Some(voter) if unfit(metrics.last_log_index, &voter, NEAR).is_none() => Seen::Ready,
                Some(_) | None => Seen::Unfit,
            },
            Some(_) | None => Seen::Elsewhere,
        };
        if !preference.look(seen, Instant::now()) {
            return;
        }
        let asked = self.network.state(preferred, ANSWER).await;
        if asked.is_ok_and(|state| state.yields) {
            tracing::debug!(preferred, "an operator had the preferred leader hand over");
            return;
        }
        if let Err(why) = self.transfer(Some(preferred), Cause::Preferred).await {
            tracing::warn!(preferred, %why, "the preferred leader does not lead yet");
        }
    }

    /// Hands leadership to the member `to`, or to whoever is nearest.
    async fn transfer(&self, to: Option<&str>, cause: Cause) -> Outcome {
        self.check(to)?;
        let heir = self.candidate(to).await?;
        let began = Instant::now();
        let hold = self.desk.hold();
        let _meant = self.chronicle.means(cause);
        self.drain(&heir).await?;
        self.leads()?;
        if self.raft.trigger().transfer_leader(heir.id).await.is_err() {
            return Err(TransferError::Stopping);
        }
        self.let_go(&heir, hold).await;
        let role = self.next_leader().await;
        let leader = role.leader(&self.own).map(str::to_owned);
        match leader {
            Some(leader) if leader == heir.name || (to.is_none() && leader != self.own) => {
                let (term, held) = (role.term(), began.elapsed());
                tracing::info!(leader, %term, ?held, "transferred leadership");
                Ok(Transferred { from: self.own.clone(), leader, term, held })
            }
            leader => Err(TransferError::NotTaken { name: heir.name, leader }),
        }
    }

    fn metrics(&self) -> RaftMetrics<TypeConfig> {
        self.raft.metrics().borrow_watched().clone()
    }

    fn leads(&self) -> Result<(), TransferError> {
        let role = self.role.borrow();
        if role.is_leader() {
            return Ok(());
        }
        Err(TransferError::NotLeader { leader: role.leader(&self.own).map(str::to_owned) })
    }

    fn check(&self, to: Option<&str>) -> Result<(), TransferError> {
        self.leads()?;
        let Some(to) = to else { return Ok(()) };
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let mut members: Vec<&str> =
            membership.nodes().map(|(_, member)| member.name.as_str()).collect();
        members.sort_unstable();
        members.dedup();
        let name = to.to_owned();
        if to == self.own {
            return Err(TransferError::Leads { name });
        }
        if !members.contains(&to) {
            return Err(TransferError::Unknown { name, members: members.join(", ") });
        }
        match self.voter(&metrics, to) {
            Some(_) => Ok(()),
            None => Err(TransferError::Learner { name }),
        }
    }

    /// Those that go on voting.
    fn voters(&self, metrics: &RaftMetrics<TypeConfig>) -> Vec<Voter> {
        let fitness = (&self.doubt, &*self.room, &self.offers);
        handover::voters(metrics, fitness).filter(|voter| !voter.leaves).collect()
    }

    /// The newer store, if two of one member vote.
    fn voter(&self, metrics: &RaftMetrics<TypeConfig>, name: &str) -> Option<Voter> {
        let voters = self.voters(metrics).into_iter().filter(|voter| voter.name == name);
        voters.max_by_key(|voter| voter.matched)
    }

    /// Who takes over: near enough, and there; of several rather one that may as well keep it. Waits
    /// a moment for one.
    async fn candidate(&self, to: Option<&str>) -> Result<Voter, TransferError> {
        let began = Instant::now();
        loop {
            self.leads()?;
            let metrics = self.metrics();
            let voters = self.voters(&metrics).into_iter();
            let wanted = voters.filter(|voter| to.is_none_or(|to| voter.name == to));
            let mut judged: Vec<(Voter, Option<Unfit>)> = wanted
                .map(|voter| {
                    let why = unfit(metrics.last_log_index, &voter, NEAR);
                    (voter, why)
                })
                .collect();
            // Who clients have beside this leader shall stay that, if there is another one.
            judged.sort_by_key(|(voter, _)| (voter.is_known, Reverse(voter.name.clone())));
            let mut yielding = None;
            for (voter, why) in judged.iter_mut().filter(|(_, why)| why.is_none()) {
                match self.network.state(&voter.name, ANSWER).await {
                    Ok(state) if state.store_id == voter.id && state.yields && to.is_none() => {
                        yielding.get_or_insert_with(|| voter.clone());
                    }
                    Ok(state) if state.store_id == voter.id => return Ok(voter.clone()),
                    // It lost the store that votes, and its new one will.
                    Ok(_) if to.is_some() => {
                        return Err(TransferError::Learner { name: voter.name.clone() });
                    }
                    Ok(_) | Err(_) => *why = Some(Unfit::Silent { since: voter.silence }),
                }
            }
            let may_change =
                judged.iter().any(|(_, why)| why.is_some() && !handover::is_gone(why.as_ref()));
            if !may_change || began.elapsed() >= CATCH_UP {
                return yielding.ok_or_else(|| self.nobody(to, judged));
            }
            sleep(POLL).await;
        }
    }

    fn nobody(&self, to: Option<&str>, judged: Vec<(Voter, Option<Unfit>)>) -> TransferError {
        let leader = self.own.clone();
        let mut unable = judged.into_iter().filter_map(|(voter, why)| Some((voter.name, why?)));
        if let Some(name) = to {
            return match unable.next() {
                Some((name, why)) => TransferError::Unfit { name, why, leader },
                None => TransferError::Learner { name: name.to_owned() },
            };
        }
        let each: Vec<String> = unable.map(|(name, why)| format!("{name} {why}")).collect();
        let why =
            if each.is_empty() { "there is no other member".to_owned() } else { each.join("; ") };
        TransferError::Nobody { why, leader }
    }

    /// Returns when nothing is under way, and `heir` has everything.
    async fn drain(&self, heir: &Voter) -> Result<(), TransferError> {
        let began = Instant::now();
        loop {
            self.leads()?;
            let bytes = self.proposer.waiting_bytes();
            let metrics = self.metrics();
            let voter = self.voters(&metrics).into_iter().find(|voter| voter.id == heir.id);
            let why = match &voter {
                Some(voter) => unfit(metrics.last_log_index, voter, 0),
                None => return Err(TransferError::Learner { name: heir.name.clone() }),
            };
            if bytes == 0 && why.is_none() {
                return Ok(());
            }
            if began.elapsed() >= DRAIN || handover::is_cut_off(&self.raft) {
                let leader = self.own.clone();
                return Err(match why {
                    Some(why) if bytes == 0 => {
                        TransferError::Unfit { name: heir.name.clone(), why, leader }
                    }
                    Some(_) | None => TransferError::Unfinished { bytes, within: DRAIN, leader },
                });
            }
            sleep(POLL).await;
        }
    }

    /// Holds until this member leads no more.
    async fn let_go(&self, heir: &Voter, hold: Hold) {
        let mut role = self.role.clone();
        let over = role.wait_for(|role| !role.is_leader());
        if timeout(LET_GO, over).await.is_err() {
            tracing::warn!(heir = heir.name, "nobody has taken over for {LET_GO:?}");
        }
        drop(hold);
    }

    /// The role when it is known who leads, or as it is after a while.
    async fn next_leader(&self) -> Role {
        let mut role = self.role.clone();
        let known = role.wait_for(|role| role.leader(&self.own).is_some());
        // An error: it is not, in time.
        let _ = timeout(self.proposer.handover(), known).await;
        self.role.borrow().clone()
    }
}
