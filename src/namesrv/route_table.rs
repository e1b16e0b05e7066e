//! Who is there and what they serve. Pure: no clock, no socket, no file.
//!
//! A broker group has members by broker id, and each member carries its liveness, so a route cannot
//! name a broker that is not live. Changes come from registrations, silence, closed connections and
//! operators; what is told to clients is in `routes.rs`.
//!
//! Rules of RocketMQ's name server are kept (order included), with three more for Raft groups, whose
//! `stateVersion` is the term: an older term never takes or keeps broker id 0, what a leader calls
//! complete replaces what was known, and members of a group that a survivor has started anew since
//! have no place beside it: what clients sent them, the survivor's group would never have.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    error::Refusal,
    registration::{Channel, Extent, Queues, Registration, TopicEntry},
    topic_table::TopicTable,
};
use crate::ids::Term;
use crate::protocol::{bodies::DataVersion, perm};

/// Broker groups at once.
pub const GROUPS_MAX: usize = 10_000;
/// Members of one broker group.
pub const MEMBERS_MAX: usize = 64;
/// (topic, broker group) pairs at once.
pub const TOPIC_PAIRS_MAX: usize = 2_000_000;
/// How long the term of a group without a leader is remembered. Long enough that a deposed leader
/// that reconnects first does not get its place back, short enough for a group that was wiped. The
/// terms that live members have registered bind a leader for as long as those are there.
const TERM_KEPT: Duration = Duration::from_secs(5);
/// Broker id of the one that takes writes.
pub(super) const LEADER: u64 = 0;

/// Broker groups, their live members and their topics.
#[derive(Debug, Default)]
pub struct RouteTable {
    pub(super) groups: BTreeMap<Arc<str>, Group>,
    pub(super) topics: TopicTable,
    retired: BTreeMap<Arc<str>, Retired>,
}

/// A broker group with at least one live member.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) cluster: Arc<str>,
    pub(super) members: BTreeMap<u64, Member>,
    /// Latest `stateVersion` registered under id 0; the highest one, while there is a leader.
    leader_term: i64,
    /// Since when nobody has id 0.
    pub(super) leaderless_since: Option<Instant>,
    pub(super) acting_master: bool,
    pub(super) zone: Option<Arc<str>>,
}

/// A live broker.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) address: Arc<str>,
    pub(super) takes_writes: bool,
    ha_address: Arc<str>,
    version: DataVersion,
    channel: Channel,
    seen: Instant,
    silence_max: Duration,
}

#[derive(Debug)]
struct Retired {
    term: i64,
    since: Instant,
}

/// Settings that change what a registration does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// `deleteTopicWithBrokerRegistration`: what a registration lacks is removed.
    pub delete_missing_topics: bool,
}

/// What became of a registration.
#[derive(Debug, PartialEq, Eq)]
pub enum Registered {
    /// It is in the table.
    Entered {
        /// The leader, for those who are not.
        leader: Option<Leader>,
        /// What is different now.
        change: Change,
    },
    /// A newer one holds its place: nothing changed.
    Fenced {
        /// `stateVersion` that the place was taken with.
        newer: i64,
    },
}

/// Where the leader of a group is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// Its main listener.
    pub address: Arc<str>,
    /// Its replication listener.
    pub ha_address: Arc<str>,
}

/// What a registration changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// The member is new, or has another broker id or address than before.
    pub members: bool,
    /// Topics added, changed or removed.
    pub topics: usize,
}

/// A broker that is in no route any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departed {
    /// Its group.
    pub group: Arc<str>,
    /// The id it had.
    pub broker_id: u64,
    /// Its main listener.
    pub address: Arc<str>,
    /// The connection it had registered on.
    pub channel: Channel,
}

impl RouteTable {
    /// Enters, refreshes, fences off or refuses one registration.
    pub fn register(
        &mut self,
        registration: &Registration,
        rules: Rules,
        channel: Channel,
        now: Instant,
    ) -> Result<Registered, Refusal> {
        if let Some(newer) = self.newer_than(registration, now) {
            return Ok(Registered::Fenced { newer });
        }
        self.check_incremental(registration)?;
        self.check_room(registration)?;

        let retired = self.retired.remove(&registration.group);
        let group = self.groups.entry(Arc::clone(&registration.group)).or_insert_with(|| {
            let term = retired.filter(|retired| retired.holds(now)).map_or(0, |r| r.term);
            Group::new(registration, term, now)
        });
        let entered = group.enter(registration, channel, now);
        let leader = group.members.get(&LEADER).filter(|_| registration.broker_id != LEADER);
        let leader = leader.map(|member| Leader {
            address: Arc::clone(&member.address),
            ha_address: Arc::clone(&member.ha_address),
        });
        let topics = self.take_topics(registration, rules, entered);
        let change = Change { members: entered.moved, topics };
        Ok(Registered::Entered { leader, change })
    }

    /// The broker says goodbye.
    pub fn unregister(&mut self, group: &str, address: &str, now: Instant) -> Option<Departed> {
        let members = &self.groups.get(group)?.members;
        let id = *members.iter().find(|(_, member)| &*member.address == address)?.0;
        self.depart(group, id, now)
    }

    /// The broker is alive. False when it is not registered, or registered on another connection.
    pub fn heartbeat(
        &mut self,
        group: &str,
        address: &str,
        channel: Channel,
        now: Instant,
    ) -> bool {
        let Some(member) = self.member_at(group, address) else { return false };
        member.seen = now;
        member.channel == channel
    }

    /// The stored version of the broker's topics, if it is registered; counts as a sign of life.
    pub fn query_version(&mut self, group: &str, addr: &str, now: Instant) -> Option<DataVersion> {
        let member = self.member_at(group, addr)?;
        member.seen = now;
        Some(member.version)
    }

    /// Takes out who has been silent for too long at `now`.
    pub fn expire(&mut self, now: Instant) -> Vec<Departed> {
        self.retired.retain(|_, retired| retired.holds(now));
        self.depart_where(now, |member| member.seen + member.silence_max < now)
    }

    /// Takes out who had registered on `channel`, which is closed.
    pub fn disconnect(&mut self, channel: Channel, now: Instant) -> Vec<Departed> {
        self.depart_where(now, |member| member.channel == channel)
    }

    /// Takes the write permission from every topic of `group`; how many topics it has.
    pub fn wipe_write_perm(&mut self, group: &str) -> usize {
        self.topics.map_perm(group, |perm| perm & !perm::WRITE)
    }

    /// Gives every topic of `group` read and write permission; how many topics it has.
    pub fn add_write_perm(&mut self, group: &str) -> usize {
        self.topics.map_perm(group, |_| perm::READ | perm::WRITE)
    }

    /// Takes `topic` out of all routes, or only from the broker groups of `cluster`.
    pub fn delete_topic(&mut self, topic: &str, cluster: Option<&str>) {
        let Some(cluster) = cluster else { return self.topics.remove_topic(topic) };
        let in_cluster = self.groups.iter().filter(|(_, group)| &*group.cluster == cluster);
        for (group, _) in in_cluster {
            self.topics.remove(group, topic);
        }
    }

    /// Enters a topic for groups that are registered already; ignored if one of them is not.
    pub fn register_topic(
        &mut self,
        topic: &Arc<str>,
        queues: &[(Arc<str>, Queues)],
    ) -> Result<(), Refusal> {
        if queues.iter().any(|(group, _)| !self.groups.contains_key(group)) {
            return Ok(());
        }
        self.check_pairs(queues.len())?;
        for (group, queues) in queues {
            self.topics.put(group, topic, *queues);
        }
        Ok(())
    }

    /// Live brokers.
    pub fn broker_count(&self) -> usize {
        self.groups.values().map(|group| group.members.len()).sum()
    }

    /// Topics in routes.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// The `stateVersion` that stands against `registration`, if one does.
    fn newer_than(&self, registration: &Registration, now: Instant) -> Option<i64> {
        let version = registration.version.state_version;
        let known = match self.groups.get(&registration.group) {
            Some(group) => group.newest_against(registration, now),
            None => self
                .retired
                .get(&registration.group)
                .filter(|r| r.holds(now))
                .and_then(|r| term_against(r.term, registration)),
        };
        known.filter(|known| *known > version)
    }

    /// What is or, one topic alone, may be only what changed must not create a broker.
    fn check_incremental(&self, registration: &Registration) -> Result<(), Refusal> {
        let known = |group: &Group| group.members.contains_key(&registration.broker_id);
        let may_be_part = match registration.extent {
            Extent::Unstated => registration.topics.len() == 1,
            Extent::Complete => false,
            Extent::Changes => true,
        };
        if may_be_part && !self.groups.get(&registration.group).is_some_and(known) {
            return Err(Refusal::IncrementalFromUnknown);
        }
        Ok(())
    }

    fn check_room(&self, registration: &Registration) -> Result<(), Refusal> {
        match self.groups.get(&registration.group) {
            None if self.groups.len() >= GROUPS_MAX => {
                Err(Refusal::Full { what: "broker groups", max: GROUPS_MAX })
            }
            Some(group)
                if group.members.len() >= MEMBERS_MAX
                    && !group.members.contains_key(&registration.broker_id) =>
            {
                Err(Refusal::Full { what: "members of the broker group", max: MEMBERS_MAX })
            }
            None | Some(_) => self.check_pairs(registration.topics.len()),
        }
    }

    fn check_pairs(&self, more: usize) -> Result<(), Refusal> {
        if more > TOPIC_PAIRS_MAX.saturating_sub(self.topics.pairs()) {
            return Err(Refusal::Full { what: "topics", max: TOPIC_PAIRS_MAX });
        }
        Ok(())
    }

    /// Takes over the topics of a registration that was entered; how many are different now.
    fn take_topics(
        &mut self,
        registration: &Registration,
        rules: Rules,
        entered: EnteredAs,
    ) -> usize {
        let group = &registration.group;
        let by_rule = rules.delete_missing_topics && registration.extent != Extent::Changes;
        let (limit, removes) = match entered.source {
            Source::Leader => (None, by_rule || registration.extent == Extent::Complete),
            Source::Stand { write: true } => (None, by_rule),
            Source::Stand { write: false } => (Some(!perm::WRITE), by_rule),
            Source::Lagging => return self.take_missing_topics(group, &registration.topics),
            Source::None => return 0,
        };
        let mut changed = 0;
        if removes {
            let keep: BTreeSet<&str> = registration.topics.iter().map(|t| &*t.topic).collect();
            changed += self.topics.keep_only(group, &keep);
        }
        for TopicEntry { topic, queues } in &registration.topics {
            if entered.version_changed || !self.topics.has(group, topic) {
                let perm = queues.perm & limit.unwrap_or(u32::MAX);
                changed += usize::from(self.topics.put(group, topic, Queues { perm, ..*queues }));
            }
        }
        changed
    }

    /// A follower's tables may lag: it fills gaps while there is no leader, and overwrites nothing.
    fn take_missing_topics(&mut self, group: &Arc<str>, topics: &[TopicEntry]) -> usize {
        let mut added = 0;
        for TopicEntry { topic, queues } in topics {
            if !self.topics.has(group, topic) {
                added += usize::from(self.topics.put(group, topic, *queues));
            }
        }
        added
    }

    fn member_at(&mut self, group: &str, address: &str) -> Option<&mut Member> {
        let members = self.groups.get_mut(group)?.members.values_mut();
        members.into_iter().find(|member| &*member.address == address)
    }

    fn depart_where(&mut self, now: Instant, gone: impl Fn(&Member) -> bool) -> Vec<Departed> {
        let leaving: Vec<_> = self
            .groups
            .iter()
            .flat_map(|(name, group)| group.members.iter().map(move |(id, m)| (name, *id, m)))
            .filter(|(_, _, member)| gone(member))
            .map(|(name, id, _)| (Arc::clone(name), id))
            .collect();
        leaving.iter().filter_map(|(group, id)| self.depart(group, *id, now)).collect()
    }

    /// Takes one member out; with the last one go the group and its topics.
    fn depart(&mut self, name: &str, broker_id: u64, now: Instant) -> Option<Departed> {
        let (key, _) = self.groups.get_key_value(name)?;
        let key = Arc::clone(key);
        let group = self.groups.get_mut(name)?;
        let member = group.members.remove(&broker_id)?;
        if broker_id == LEADER {
            group.leaderless_since = Some(now);
        }
        if group.members.is_empty() {
            let term = group.leader_term;
            self.groups.remove(name);
            self.topics.remove_group(name);
            if term > 0 && self.retired.len() < GROUPS_MAX {
                self.retired.insert(Arc::clone(&key), Retired { term, since: now });
            }
        } else if group.acting_master && !group.members.contains_key(&LEADER) {
            self.topics.map_perm(name, |perm| perm & !perm::WRITE);
        }
        let Member { address, channel, .. } = member;
        Some(Departed { group: key, broker_id, address, channel })
    }
}

/// How a registration came into its group.
#[derive(Debug, Clone, Copy)]
struct EnteredAs {
    source: Source,
    /// The member is new, or has another id or address than before.
    moved: bool,
    /// Its topics may differ from what was taken from it before.
    version_changed: bool,
}

/// What the topics of a registration are worth.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// It is the leader.
    Leader,
    /// There is no leader and it has the smallest id, in a group of RocketMQ's.
    Stand { write: bool },
    /// The same, in a Raft group: it may not have applied everything.
    Lagging,
    /// Others tell the topics.
    None,
}

/// A leader's term, if it stands against a registration.
fn term_against(leader_term: i64, registration: &Registration) -> Option<i64> {
    let stands = registration.broker_id == LEADER
        || is_of_the_past(leader_term, registration.version.state_version);
    stands.then_some(leader_term)
}

/// Whether a survivor has started the group anew since `term`.
fn is_of_the_past(leader_term: i64, term: i64) -> bool {
    leader_term.saturating_sub(term) > Term::AHEAD_WHEN_STARTED_ANEW.cast_signed() / 2
}

impl Group {
    fn new(registration: &Registration, leader_term: i64, now: Instant) -> Self {
        Self {
            cluster: Arc::clone(&registration.cluster),
            members: BTreeMap::new(),
            leader_term,
            leaderless_since: Some(now),
            acting_master: false,
            zone: None,
        }
    }

    /// Whether this is a Raft group, which elects a leader by itself.
    pub(super) fn elects(&self) -> bool {
        self.leader_term > 0 || self.members.values().any(|m| m.version.state_version > 0)
    }

    /// The highest `stateVersion` that the registration has to reach.
    fn newest_against(&self, registration: &Registration, now: Instant) -> Option<i64> {
        // A leader that is long gone binds nobody: the group may have been wiped.
        let holds = self.leaderless_since.is_none_or(|since| since + TERM_KEPT > now);
        let leader_term = term_against(self.leader_term, registration).filter(|_| holds);
        // Its place is held by another one, or by itself with what it said later than this. Those
        // that are there have elected who leads them anew: they have its term, or one before.
        let leads_anew = registration.broker_id == LEADER && self.leaderless_since.is_some();
        let in_its_way = self.members.iter().filter(|(id, member)| {
            leads_anew || **id == registration.broker_id || member.address == registration.address
        });
        in_its_way.map(|(_, member)| member.version.state_version).chain(leader_term).max()
    }

    fn enter(&mut self, registration: &Registration, channel: Channel, now: Instant) -> EnteredAs {
        self.cluster = Arc::clone(&registration.cluster);
        self.acting_master = registration.acting_master.unwrap_or(false);
        self.zone.clone_from(&registration.zone);
        let id = registration.broker_id;
        // A role change: the address leaves the id it had.
        let before = self
            .members
            .iter()
            .find(|(_, member)| member.address == registration.address)
            .map(|(id, member)| (*id, member.version));
        if let Some((former, _)) = &before
            && *former != id
        {
            self.members.remove(former);
        }
        let displaced = self.members.insert(id, Member::new(registration, channel, now));
        let stayed = displaced.is_some_and(|holder| holder.address == registration.address);
        self.note_leader(registration, now);
        EnteredAs {
            source: self.source(registration),
            moved: !stayed,
            version_changed: !stayed
                || before.is_none_or(|(_, version)| version != registration.version),
        }
    }

    fn note_leader(&mut self, registration: &Registration, now: Instant) {
        if registration.broker_id == LEADER {
            let term = registration.version.state_version; // no older one comes so far
            self.leader_term = term;
            self.members.retain(|_, member| !is_of_the_past(term, member.version.state_version));
        }
        if self.members.contains_key(&LEADER) {
            self.leaderless_since = None;
        } else if self.leaderless_since.is_none() {
            self.leaderless_since = Some(now);
        }
    }

    fn source(&self, registration: &Registration) -> Source {
        let smallest = self.members.keys().next() == Some(&registration.broker_id);
        if registration.broker_id == LEADER {
            Source::Leader
        } else if !smallest || registration.acting_master.is_none() {
            Source::None
        } else if registration.version.state_version > 0 {
            Source::Lagging
        } else {
            Source::Stand { write: !self.acting_master }
        }
    }
}

impl Member {
    fn new(registration: &Registration, channel: Channel, now: Instant) -> Self {
        Self {
            address: Arc::clone(&registration.address),
            takes_writes: registration.takes_writes,
            ha_address: Arc::clone(&registration.ha_address),
            version: registration.version,
            channel,
            seen: now,
            silence_max: registration.silence_max,
        }
    }
}

impl Retired {
    fn holds(&self, now: Instant) -> bool {
        self.since + TERM_KEPT > now
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(super) mod tests;
