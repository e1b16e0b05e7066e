//! Who belongs to the group, as this member knows: for operators, and for what clients are told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::{Instant as _, RaftMetrics};

use crate::ids::{BrokerId, EntryIndex, StoreId, Term};
use crate::raft::catch_up::{Behind, CatchUp};
use crate::raft::member_change::Part;
use crate::raft::member_steps::{Recorded, Sight};
use crate::raft::membership::{self, Member, Wish};
use crate::raft::role::QUORUM_SILENCE;
use crate::raft::type_config::{Membership, StoredMembership, TypeConfig, entry_id};

/// The members by the names and ids that clients know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    /// All members, with the ids that they follow under, by name.
    pub members: Vec<(String, BrokerId)>,
    /// The id of this one, if it belongs to the group and does not leave it.
    pub own: Option<BrokerId>,
}

/// Who votes, and who only gets the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voting {
    /// The entry that says so; a later one counts more.
    pub as_of: (Term, EntryIndex),
    /// Names of those that vote, before or after a change that is on its way.
    pub voters: BTreeSet<String>,
    /// Names of the others.
    pub learners: BTreeSet<String>,
}

/// A member as it is recorded; and as the leader sees it, which alone knows the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its name.
    pub name: String,
    /// Where its peers reach it, as recorded.
    pub address: String,
    /// Its store.
    pub store_id: StoreId,
    /// The id that it follows under.
    pub broker_id: BrokerId,
    /// What it is.
    pub part: Part,
    /// Whether it takes writes.
    pub leads: bool,
    /// What it shall become, in words, if that is something else.
    pub wish: Option<String>,
    /// Last entry known to be stored there.
    pub matched: Option<EntryIndex>,
    /// Entries it lacks.
    pub behind: Option<u64>,
    /// Bytes of them, half a second ago at most.
    pub behind_bytes: Option<u64>,
    /// How far it is, if it catches up.
    pub catch_up: Option<CatchUp>,
    /// Time since its last answer.
    pub silence: Option<Duration>,
}

/// Whether a member is recorded: its store, or its name, whose store is about to be replaced.
pub(super) fn belongs(membership: &Membership, (name, store): (&str, StoreId)) -> bool {
    membership.nodes().any(|(id, member)| *id == store.0 || member.name == name)
}

/// The roster. `removed`: others say that this member was removed.
pub(super) fn roster(membership: &Membership, own: StoreId, removed: bool) -> Roster {
    let members = membership::members(membership);
    let ids = membership::broker_ids(&members);
    let own =
        members.get(&own.0).filter(|own| !removed && !membership::is_leaving(&members, &own.name));
    let own = own.and_then(|own| ids.get(&own.name)).map(|id| BrokerId(*id));
    let mut members: Vec<(String, BrokerId)> =
        ids.into_iter().map(|(name, id)| (name, BrokerId(id))).collect();
    members.sort_unstable_by(|a, b| (a.1.0, &a.0).cmp(&(b.1.0, &b.0)));
    Roster { members, own }
}

/// Who votes, as the last membership of a log has it; nothing if there is none.
pub(super) fn voting(recorded: &StoredMembership) -> Option<Voting> {
    let as_of = entry_id(recorded.log_id().as_ref()?);
    let membership = recorded.membership();
    let stores: BTreeSet<u64> = membership.voter_ids().collect();
    let name = |member: &Member| member.name.clone();
    let voters = membership.nodes().filter(|(id, _)| stores.contains(id));
    let voters: BTreeSet<String> = voters.map(|(_, member)| name(member)).collect();
    // Of one whose lost store is being replaced the lost one votes.
    let all = membership.nodes().map(|(_, member)| name(member));
    let learners = all.filter(|name| !voters.contains(name)).collect();
    Some(Voting { as_of: (as_of.term, as_of.index), voters, learners })
}

/// Members as recorded and as the leader `own` sees them; `farewell` says whose farewell is over.
pub(super) fn recorded(
    metrics: &RaftMetrics<TypeConfig>,
    own: StoreId,
    farewell: impl Fn(&u64) -> bool,
) -> Recorded {
    let membership = metrics.membership_config.membership();
    let sight = |id: &u64| Sight {
        matched: matched(metrics, *id).map(|index| index.0),
        answers: silence(metrics, *id).is_some_and(|silence| silence < QUORUM_SILENCE),
        has_said_farewell: farewell(id),
    };
    Recorded {
        own,
        members: membership::members(membership),
        voters: membership.get_joint_config().clone(),
        last: metrics.last_log_index.unwrap_or(0),
        sights: membership.nodes().map(|(id, _)| (*id, sight(id))).collect(),
    }
}

fn matched(metrics: &RaftMetrics<TypeConfig>, id: u64) -> Option<EntryIndex> {
    let matched = metrics.replication.as_ref()?.get(&id)?.as_ref()?;
    Some(EntryIndex(matched.index))
}

/// How long a store has not answered this leader; `None` if it never did.
pub(super) fn silence(metrics: &RaftMetrics<TypeConfig>, id: u64) -> Option<Duration> {
    Some(metrics.heartbeat.as_ref()?.get(&id)?.as_ref()?.elapsed())
}

/// All members, as far as this one knows; `leader` is the name of who takes writes, `known` what a
/// leader knows of a store's log.
pub(super) fn statuses(
    metrics: &RaftMetrics<TypeConfig>,
    own: StoreId,
    leader: Option<&str>,
    known: impl Fn(u64) -> Option<Behind>,
) -> Vec<MemberStatus> {
    let recorded = recorded(metrics, own, |_| false);
    let ids: BTreeMap<String, u64> = membership::broker_ids(&recorded.members);
    let voters = metrics.membership_config.membership().voter_ids().collect::<Vec<_>>();
    let leads = metrics.state.is_leader();
    let statuses = recorded.members.iter().map(|(id, member)| {
        let votes = voters.contains(id);
        let (is_own, store_id) = (*id == own.0, StoreId(*id));
        let last = metrics.last_log_index.map(EntryIndex);
        let known = known(*id);
        MemberStatus {
            name: member.name.clone(),
            address: member.address.clone(),
            store_id,
            broker_id: BrokerId(ids.get(&member.name).copied().unwrap_or(0)),
            part: if votes { Part::Voter } else { Part::Learner },
            leads: leader == Some(&member.name) && votes,
            wish: words(&member.wish, votes),
            matched: if is_own { last } else { matched(metrics, *id) },
            behind: leads.then(|| recorded.behind(*id)),
            behind_bytes: known.map(|known| known.bytes),
            catch_up: known.and_then(|known| known.catch_up),
            silence: if is_own { Some(Duration::ZERO) } else { silence(metrics, *id) },
        }
    });
    let mut statuses: Vec<MemberStatus> = statuses.collect();
    statuses.sort_by(|a, b| (a.broker_id.0, &a.name).cmp(&(b.broker_id.0, &b.name)));
    statuses
}

fn words(wish: &Wish, votes: bool) -> Option<String> {
    match wish {
        Wish::Vote if !votes => Some("votes when it has caught up".to_owned()),
        Wish::Replace(other) if !votes => Some(format!("votes in place of {other}")),
        Wish::Learn if votes => Some("loses its vote".to_owned()),
        Wish::Leave => Some("leaves".to_owned()),
        Wish::Vote | Wish::Replace(_) | Wish::Learn => None,
    }
}
