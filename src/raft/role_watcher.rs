//! Publishes this member's role whenever it changes, and tells the log about it; tells who calls
//! others whom the log says to be members; and shows that the loop turns.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::Instant as _;
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::Fatal;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Interval;

use crate::clock;
use crate::ids::Term;
use crate::raft::applied::AppliedState;
use crate::raft::chronicle::Chronicle;
use crate::raft::contact::{Contact, Looking};
use crate::raft::forward::Desk;
use crate::raft::group::GroupOptions;
use crate::raft::heard::Heard;
use crate::raft::membership;
use crate::raft::network::Network;
use crate::raft::passers::Passers;
use crate::raft::pulse::PULSE;
use crate::raft::role::{Role, Seen, role_of};
use crate::raft::start::Beats;
use crate::raft::state_machine::StateMachine;
use crate::raft::type_config::TypeConfig;
use crate::raft::voice::Voice;

type Core = Raft<TypeConfig, StateMachine>;

/// How often the role is looked at when nothing reports a change.
const ROLE_TICK: Duration = Duration::from_millis(200);

/// Watches what openraft says of this member.
pub(super) struct RoleWatcher {
    raft: Core,
    state: AppliedState,
    network: Network,
    heard: Arc<Heard>,
    chronicle: Chronicle,
    /// Whether this member was removed from its group.
    removed: watch::Receiver<bool>,
}

impl RoleWatcher {
    /// Of the member that `raft` is. What was seen goes to the chronicle; a member that was
    /// removed says nothing.
    pub(super) fn new(
        (raft, state, network): (Core, AppliedState, Network),
        (heard, chronicle, removed): (Arc<Heard>, Chronicle, watch::Receiver<bool>),
    ) -> Self {
        Self { raft, state, network, heard, chronicle, removed }
    }

    /// Looks as long as the member lives. `desk` is emptied when that is cut off.
    pub(super) fn start(
        self,
        options: &GroupOptions,
        (desk, passers): (Desk, Passers),
        (beats, tasks): (Beats, &mut JoinSet<()>),
    ) -> (watch::Receiver<Role>, Contact) {
        let contact = Contact::new(clock::now());
        tasks.spawn(contact.pulse().clone().beat(beats.each(PULSE)));
        let looking = Looking {
            contact: contact.clone(),
            raft: self.raft.clone(),
            network: self.network.clone(),
            heard: Arc::clone(&self.heard),
            desk,
            passers,
        };
        tasks.spawn(looking.run(beats.each(ROLE_TICK)));
        let (publish, role) = watch::channel(Role::Follower { term: Term(0), leader: None });
        let voice = Voice::new(2 * options.timing.election_max);
        self.learn();
        tasks.spawn(self.run(options.member.clone(), voice, publish, beats.each(ROLE_TICK)));
        (role, contact)
    }

    async fn run(
        self,
        member: String,
        mut voice: Voice,
        publish: watch::Sender<Role>,
        mut looks: Interval,
    ) {
        let mut server = self.raft.server_metrics();
        let (mut core_gone, mut campaigned) = (false, campaign(&self.raft));
        loop {
            let seen = self.see();
            let role = role_of(&seen);
            let now = clock::now();
            let campaigns = campaign(&self.raft);
            if campaigns.is_some() && campaigns != campaigned {
                self.heard.voted(now);
                campaigned = campaigns;
            }
            if role.is_leader() || role.term() == Term(0) {
                self.heard.note(now);
            }
            if let Some(line) = voice.say(&role, self.heard.silence(now))
                && !*self.removed.borrow()
            {
                line.log(&member, &self.members());
            }
            self.chronicle.look(&role, seen.elected, campaigns);
            publish.send_if_modified(|before| std::mem::replace(before, role.clone()) != role);
            if let Some(why) = seen.ended {
                tracing::error!(
                    member,
                    why,
                    "this member takes no part in the group any more; it serves reads, mend the \
                     cause and restart it"
                );
                return;
            }
            if core_gone {
                return;
            }
            tokio::select! {
                // Why it is gone is seen in the next round.
                changed = server.changed() => {
                    core_gone = changed.is_err();
                    self.learn();
                }
                () = self.state.term_applied() => {}
                _ = looks.tick() => {}
            }
        }
    }

    fn learn(&self) {
        let membership = self.raft.server_metrics().borrow_watched().membership_config.clone();
        self.network.learn(&membership);
    }

    /// All members as in `dLegerPeers`, for people.
    fn members(&self) -> String {
        let membership = self.raft.server_metrics().borrow_watched().membership_config.clone();
        let of = |member: &membership::Member| format!("{}-{}", member.name, member.address);
        let all: BTreeSet<String> =
            membership.membership().nodes().map(|(_, member)| of(member)).collect();
        all.into_iter().collect::<Vec<_>>().join(";")
    }

    fn see(&self) -> Seen {
        let server = self.raft.server_metrics().borrow_watched().clone();
        let ended = self.raft.metrics().borrow_watched().running_state.clone().err();
        let data = self.raft.data_metrics();
        let quorum_age = data.borrow_watched().last_quorum_acked.as_ref().map(|at| at.elapsed());
        let membership = server.membership_config.membership();
        // Whom it heard last is no leader of a member that was removed, or is not one yet.
        let belongs = membership.get_node(&server.id).is_some() && !*self.removed.borrow();
        let leader = server.current_leader.filter(|id| *id != server.id && belongs);
        let ended = ended.filter(|fatal| !matches!(fatal, Fatal::Stopped));
        Seen {
            term: Term(server.vote.leader_id.term),
            elected: server.state.is_leader() && ended.is_none(),
            ended: ended.map(|fatal| fatal.to_string()),
            applied_term: self.state.term(),
            quorum_age,
            alone: membership.voter_ids().count() == 1,
            leader: leader.and_then(|id| membership.get_node(&id)).map(|m| m.name.clone()),
            silence: self.heard.silence(clock::now()),
        }
    }
}

/// The term in which this member stands for election, if it does.
fn campaign(raft: &Core) -> Option<Term> {
    let server = raft.server_metrics().borrow_watched().clone();
    let stands = !server.vote.committed && server.vote.leader_id.voted_for == server.id;
    stands.then_some(Term(server.vote.leader_id.term))
}
