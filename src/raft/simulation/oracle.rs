//! The invariants of ARCHITECTURE.md, as far as one can see them from outside, at every step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use openraft::async_runtime::watch::WatchReceiver as _;

use super::history::QUEUES;
use super::machine::Machine;
use super::{members, name};
use crate::ids::{EntryIndex, PhysicalOffset, QueueOffset};
use crate::protocol::message::records;
use crate::raft::command::{Command, Commands};
use crate::raft::member_steps::NEAR_ENTRIES;
use crate::raft::tables::Tables;
use crate::raft::type_config::Membership;
use crate::raft::{Group, GroupOptions, MemberChange, Place, codec, membership, snapshot};
use crate::store::entry::{EntryId, Kind, crc32c};
use crate::store::simulated_disk::SimulatedDisk;
use crate::store::{self, Durability, Files, StoredEntry, checkpoint};

/// Entries that a leader may append between a look at its members and a change of them.
const JUST_APPENDED: u64 = 20;

/// A committed message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) client: usize,
    /// Of the client's sends.
    pub(super) number: usize,
    pub(super) topic: String,
    pub(super) queue_id: u32,
    pub(super) place: Place,
    /// The entry that it is in.
    pub(super) entry: u64,
    /// The entry that deleted its topic.
    deleted: Option<u64>,
}

impl Message {
    /// Whether it is in its queue when `applied` is the last entry applied.
    fn is_in_queue(&self, applied: u64) -> bool {
        self.entry <= applied && self.deleted.is_none_or(|at| at > applied)
    }
}

type Nexts = Arc<BTreeMap<(String, u32), u64>>;

/// A committed entry, and what holds after it.
struct Committed {
    id: EntryId,
    position: PhysicalOffset,
    bytes: usize,
    crc: u32,
    tables: Tables,
    nexts: Nexts,
}

/// What a machine was seen to have.
#[derive(Default, Clone, Copy)]
struct Seen {
    store: u64,
    /// Where its log starts.
    first: u64,
    /// How far its log was durable when a sync had failed in this life.
    durable_at_failure: Option<PhysicalOffset>,
    /// Entries below this were compared in this life.
    compared: u64,
    /// What it committed lies behind an entry that is damaged.
    is_hidden: bool,
    /// The vote: term, and for whom.
    vote: (u64, u64),
}

/// Who votes: one set of stores, or two while that changes.
pub(super) type Voters = Vec<BTreeSet<u64>>;

/// All that was seen so far.
pub(super) struct Oracle {
    leaders: BTreeMap<u64, u64>,
    /// Stores of disks that are lost.
    lost: BTreeSet<u64>,
    /// The store that lost something last, and its disk as it was: what it had vouched for counts,
    /// because the leader may be told of it later.
    former: Option<(u64, SimulatedDisk)>,
    committed: Vec<Committed>,
    pub(super) messages: Vec<Message>,
    /// Of the last one, ms.
    stored_ms: i64,
    /// How often a member skipped entries because it was given a snapshot of them.
    pub(super) installed: u64,
    /// Entries below this are in a snapshot that somebody offers, to purge by it as soon as none of
    /// them is under way to a member.
    let_go: u64,
    seen: Vec<Seen>,
    /// Who voted by each machine's log when it was looked at last.
    voted: Vec<Voters>,
    /// Committed memberships, by their entries.
    memberships: BTreeMap<u64, Membership>,
    /// What an operator asked for that was not refused.
    pub(super) asked: Vec<MemberChange>,
    /// Members that belonged to the group and did not any more, at some time.
    left: BTreeSet<String>,
}

type Checked = Result<(), String>;

fn must(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

impl Oracle {
    /// Of a group that was never started.
    pub(super) fn new(machines: usize) -> Self {
        let seen = vec![Seen::default(); machines];
        let (leaders, lost, committed, messages) = Default::default();
        Self {
            leaders,
            lost,
            former: None,
            committed,
            messages,
            stored_ms: 0,
            installed: 0,
            let_go: 0,
            seen,
            voted: vec![Voters::new(); machines],
            memberships: BTreeMap::new(),
            asked: Vec::new(),
            left: BTreeSet::new(),
        }
    }

    /// Entries that are known to be committed.
    pub(super) fn committed(&self) -> u64 {
        self.committed.len() as u64
    }

    /// Where a committed entry lies, and how long it is.
    pub(super) fn extent(&self, index: u64) -> Option<(PhysicalOffset, usize)> {
        self.committed.get(index as usize).map(|entry| (entry.position, entry.bytes))
    }

    /// The tables as of the last committed entry, unless that one cannot be known.
    pub(super) fn tables(&self) -> Option<&Tables> {
        let last = self.committed.last().filter(|_| !self.is_blind());
        last.map(|entry| &entry.tables)
    }

    /// Whether more may be committed: a member has more behind an entry that is damaged there, and
    /// perhaps nobody else knows yet.
    fn is_blind(&self) -> bool {
        self.seen.iter().any(|seen| seen.is_hidden)
    }

    /// Terms that had a leader.
    pub(super) fn terms(&self) -> usize {
        self.leaders.len()
    }

    /// What a client is told of is applied. What cannot be known now is in the end.
    pub(super) fn check_acknowledged(&self, place: Place) -> Checked {
        let is_there = self.messages.iter().rev().any(|message| message.place == place);
        must(is_there || self.is_blind(), || {
            format!("{place:?} is acknowledged, but not committed")
        })
    }

    /// The member of `machine` starts again: all of it is compared again.
    pub(super) fn restarted(&mut self, machine: usize) {
        self.seen[machine].compared = 0;
        self.seen[machine].durable_at_failure = None;
    }

    /// What is on `disk`, the disk of `machine`, may be lost now.
    pub(super) fn loses(&mut self, machine: usize, disk: &SimulatedDisk) {
        self.former = Some((self.seen[machine].store, disk.clone()));
    }

    /// The store of `machine` is lost, with all that it promised.
    pub(super) fn emptied(&mut self, machine: usize) {
        self.lost.insert(self.seen[machine].store);
        self.seen[machine] = Seen { first: self.seen[machine].first, ..Seen::default() };
    }

    /// After each step of a member, which may have damaged entries or not.
    pub(super) fn check(&mut self, machines: &[Machine], index: usize, rots: bool) -> Checked {
        let Some(group) = machines[index].last_group() else {
            self.seen[index].is_hidden = false;
            return Ok(());
        };
        let (term, vote, is_leaders, leads, committed, offers) = {
            let metrics = group.0.raft.metrics();
            let metrics = metrics.borrow_watched();
            let vote = (metrics.vote.leader_id.term, metrics.vote.leader_id.voted_for);
            let committed = metrics.local_committed.map(|id| id.index);
            (
                metrics.current_term,
                vote,
                metrics.vote.committed,
                metrics.state.is_leader(),
                committed,
                metrics.snapshot.map_or(0, |id| id.index + 1),
            )
        };
        let store = group.store_id().0;
        if rots && ![0, store].contains(&self.seen[index].store) {
            self.emptied(index); // it started over, without what is damaged
        }
        let seen = &mut self.seen[index];
        seen.store = store;
        must(!self.lost.contains(&seen.store), || {
            format!("I8: n{index} is {:x} again, whose disk is lost", seen.store)
        })?;
        if machines[index].condition.has_failed.load(Relaxed) {
            let durable = group.0.log.durable();
            let before = *seen.durable_at_failure.get_or_insert(durable);
            must(durable <= before, || {
                format!("I7: n{index} says {durable} is durable; a sync failed at {before}")
            })?;
        }
        // A vote that the disk did not take any more was not told.
        let has_failed = machines[index].condition.has_failed.load(Relaxed);
        if !machines[index].stored.has_stopped() && !has_failed {
            let former = std::mem::replace(&mut seen.vote, vote);
            // Whoever a majority elected is followed, whomever one voted for.
            let may_differ = vote.0 > former.0 || (vote.0 == former.0 && is_leaders);
            must(may_differ || vote == former || former.0 == 0, || {
                format!("I6: n{index} voted {former:?} (term, store) and now {vote:?}")
            })?;
        }
        if leads {
            let leader = *self.leaders.entry(term).or_insert(seen.store);
            must(leader == seen.store, || {
                format!("two leaders in term {term}: {leader:x} and {:x}", self.seen[index].store)
            })?;
        }
        let last = group.0.log.last().map(|id| id.index.0);
        let ends_at = last.map_or(0, |last| last + 1);
        let compared = self.seen[index].compared;
        must(compared <= ends_at, || {
            format!("I2: n{index} ends before {ends_at}, committed before {compared}")
        })?;
        let applied = group.0.state.progress().last.map(|id| id.index.0);
        // A snapshot that is being installed is applied before the log starts behind it.
        must(applied <= last || applied < Some(self.committed()), || {
            format!("n{index} ends before {ends_at}, applied {applied:?}")
        })?;
        self.check_start((index, rots), group.0.log.first_index().0)?;
        self.let_go = self.let_go.max(offers);
        if leads {
            self.check_admission(machines, index, &group)?;
        }
        self.compare(machines, (index, rots), &group, committed.max(applied).min(last))?;
        self.check_members(index, &group)
    }

    /// I18: who belongs to the group is what the last membership in the log says.
    fn check_members(&mut self, index: usize, group: &Group) -> Checked {
        let metrics = group.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        let stored = &metrics.membership_config;
        let at = stored.log_id().map(|id| id.index);
        if self.voted[index] != *stored.membership().get_joint_config() {
            self.voted[index].clone_from(stored.membership().get_joint_config());
        }
        let is_removed = *group.0.kept.removed.borrow();
        must(!is_removed || self.left.contains(&name(index)), || {
            format!("I19: n{index} says that it was removed, and never was")
        })?;
        let compared = self.seen[index].compared;
        let last = self.memberships.range(..compared).next_back().map(|(at, _)| *at);
        must(last <= at, || {
            format!("I18: n{index} goes by the members of {at:?}, others are committed at {last:?}")
        })?;
        let known = at.filter(|at| *at < compared).and_then(|at| self.memberships.get(&at));
        must(known.is_none_or(|known| known == stored.membership()), || {
            format!("I18: n{index} has {stored} where {known:?} was committed")
        })
    }

    /// I18: who gets a vote has nearly everything. The leader knows that from an answer, and looks
    /// at it a moment before.
    fn check_admission(&self, machines: &[Machine], index: usize, group: &Group) -> Checked {
        let metrics = group.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        let now = metrics.membership_config.membership().get_joint_config();
        let former = &self.voted[index];
        let (Some(former), [_, next]) = (former.first(), &now[..]) else { return Ok(()) };
        for machine in machines.iter().filter(|machine| machine.index != index) {
            let store = self.seen[machine.index].store;
            let Some(comer) = machine.group() else { continue };
            if former.contains(&store) || !next.contains(&store) {
                continue;
            }
            let next_index = |group: &Group| group.0.log.last().map_or(0, |id| id.index.0 + 1);
            let behind = next_index(group).saturating_sub(next_index(&comer));
            must(behind <= NEAR_ENTRIES + JUST_APPENDED, || {
                format!("I18: n{} is to vote, and lacks {behind} entries", machine.index)
            })?;
        }
        Ok(())
    }

    /// The members of the group as last committed, if any were.
    pub(super) fn members(&self) -> Option<&Membership> {
        self.memberships.last_key_value().map(|(_, membership)| membership)
    }

    /// I9: a log starts later than it did because it was purged here, or because who sent a
    /// snapshot instead had decided to purge: what somebody wants to retain is not skipped.
    fn check_start(&mut self, (index, rots): (usize, bool), first: u64) -> Checked {
        let Seen { compared, first: before, .. } = self.seen[index];
        self.seen[index].first = first;
        // What is damaged is not compared before it is purged.
        if first <= before || compared >= first || rots {
            return Ok(());
        }
        self.installed += u64::from(compared > 0);
        must(first <= self.let_go, || {
            format!("I9: n{index} starts at {first}, nobody let more go than below {}", self.let_go)
        })
    }

    /// Compares what became committed on a member with what the others have there.
    fn compare(
        &mut self,
        machines: &[Machine],
        (index, rots): (usize, bool),
        group: &Group,
        committed: Option<u64>,
    ) -> Checked {
        let Some(committed) = committed else { return Ok(()) };
        let first = group.0.log.first_index().0;
        let mut next = self.seen[index].compared.max(first);
        self.seen[index].is_hidden = false;
        while next <= committed {
            let to = EntryIndex(committed + 1);
            let entries = group.0.log.entries(EntryIndex(next), to, 1 << 20);
            let entries = match entries {
                Err(store::Error::Damaged { .. }) if rots => {
                    self.seen[index].is_hidden = true; // until it is repaired
                    break;
                }
                read => read.map_err(|e| format!("I2: n{index} cannot read {next}: {e}"))?,
            };
            let Some(last) = entries.last() else {
                return Err(format!("I2: n{index} lacks the committed entry {next}"));
            };
            next = last.header.index.0 + 1;
            for entry in &entries {
                self.compare_entry(machines, index, group, entry)?;
            }
        }
        self.seen[index].compared = next;
        Ok(())
    }

    fn compare_entry(
        &mut self,
        machines: &[Machine],
        index: usize,
        group: &Group,
        entry: &StoredEntry,
    ) -> Checked {
        let (id, at) = (entry.header.id(), entry.header.index.0);
        let crc = crc32c(&entry.bytes);
        if let Some(known) = self.committed.get(at as usize) {
            return must((known.id, known.crc) == (id, crc), || {
                format!("I2: n{index} has {id:?} where {:?} was committed", known.id)
            });
        }
        must(at == self.committed(), || {
            format!("n{index} starts at {at}, but nothing behind {} is known", self.committed())
        })?;
        self.check_majority(machines, index, group, entry)?;
        self.learn(entry, crc)
    }

    /// I1: what is committed is durable on a majority.
    fn check_majority(
        &self,
        machines: &[Machine],
        index: usize,
        group: &Group,
        entry: &StoredEntry,
    ) -> Checked {
        let metrics = group.0.raft.metrics();
        let membership = metrics.borrow_watched().membership_config.membership().clone();
        let has = |store: u64| {
            let machine = machines.iter().find(|machine| self.seen[machine.index].store == store);
            let former = self.former.as_ref().filter(|(id, _)| *id == store);
            let options = &machines[0].options;
            machine.is_some_and(|machine| holds(machine, entry))
                || former.is_some_and(|(_, disk)| has_stored(disk, options, entry) == Some(true))
        };
        let have = |voters: &BTreeSet<u64>| voters.iter().filter(|store| has(**store)).count();
        let is_enough = |sets: &Voters| sets.iter().all(|set| have(set) * 2 > set.len());
        let now = membership.get_joint_config();
        // What was committed in this step may be older than the membership.
        let before = &self.voted[index];
        must(is_enough(now) || (!before.is_empty() && is_enough(before)), || {
            let counts: Vec<_> = now.iter().map(|set| (have(set), set.len())).collect();
            let id = entry.header.id();
            format!("I1: {id:?} is committed, but durable on (have, voters) {counts:?}")
        })
    }

    /// Takes a committed entry for what is true.
    fn learn(&mut self, entry: &StoredEntry, crc: u32) -> Checked {
        let id = entry.header.id();
        let before = self.committed.last();
        let mut tables = before.map(|before| before.tables.clone()).unwrap_or_default();
        let mut nexts = before.map(|before| Arc::clone(&before.nexts)).unwrap_or_default();
        must(before.is_none_or(|before| before.id.term <= id.term), || {
            format!("the term goes back at {id:?}")
        })?;
        for record in records(&entry.records()) {
            let record = record.map_err(|error| format!("no record in {id:?}: {error}"))?;
            must(record.body_is_intact(), || format!("I5: a body in {id:?} is damaged"))?;
            let (topic, queue_id) = (record.topic().to_owned(), record.queue_id());
            let next = Arc::make_mut(&mut nexts).entry((topic.clone(), queue_id)).or_insert(0);
            must(record.queue_offset() == *next, || {
                let offset = record.queue_offset();
                format!("I3: {id:?} has offset {offset} of {topic} {queue_id}, {next} is next")
            })?;
            *next += 1;
            let (before, now) = (self.stored_ms, record.store_timestamp());
            must(before <= now, || format!("{id:?} is stored at {now}, one before at {before}"))?;
            self.stored_ms = now;
            let place = Place {
                physical: PhysicalOffset(record.physical()),
                queue_id,
                queue_offset: QueueOffset(record.queue_offset()),
            };
            let body = String::from_utf8_lossy(record.body()).into_owned();
            let mut parts = body.split('/').map(str::parse);
            let (Some(Ok(client)), Some(Ok(number))) = (parts.next(), parts.next()) else {
                return Err(format!("{id:?} has a message that nobody sent"));
            };
            let (entry, deleted) = (id.index.0, None);
            self.messages.push(Message { client, number, topic, queue_id, place, entry, deleted });
        }
        let commands = entry.commands();
        if entry.header.kind == Kind::Data && !commands.is_empty() {
            let commands: Commands = codec::decode(&commands).map_err(|error| error.to_string())?;
            tables.go_by(id.term, commands.at_ms);
            for command in commands.list {
                if let Command::DeleteTopic { topic } = &command {
                    Arc::make_mut(&mut nexts).retain(|(name, _), _| name != topic);
                    let theirs = self.messages.iter_mut().filter(|m| m.topic == *topic);
                    theirs.for_each(|m| _ = m.deleted.get_or_insert(id.index.0));
                }
                let _ = tables.apply(command, commands.at_ms); // what it decided, clients know
            }
        }
        if entry.header.kind == Kind::Membership {
            let membership = membership::decode(&entry.body()).map_err(|e| e.to_string())?;
            if let Some(former) = self.members() {
                members::check_wished(former, &membership, &self.asked)?;
                let names = |of: &Membership| -> BTreeSet<String> {
                    of.nodes().map(|(_, member)| member.name.clone()).collect()
                };
                let left = &names(former) - &names(&membership);
                self.left.extend(left);
            }
            self.memberships.insert(id.index.0, membership);
        }
        let (position, bytes) = (entry.header.position, entry.bytes.len());
        self.committed.push(Committed { id, position, bytes, crc, tables, nexts });
        Ok(())
    }

    /// Now and then, as it takes longer: what a member derived from its log.
    pub(super) fn check_derived(&self, machine: &Machine, rots: bool) -> Checked {
        let Some(group) = machine.group() else { return Ok(()) };
        let index = machine.index;
        let log = &group.0.log;
        let applied = group.0.state.progress().last;
        if let Some(applied) = applied {
            let Some(known) = self.committed.get(applied.index.0 as usize) else {
                return must(self.is_blind(), || format!("n{index} applied {applied:?} unseen"));
            };
            must(*group.tables() == known.tables, || {
                format!("I10: the tables of n{index} at {applied:?} are others")
            })?;
            for (topic, queue_id) in QUEUES {
                let next = known.nexts.get(&(topic.to_owned(), queue_id)).copied().unwrap_or(0);
                self.check_queue(&group, index, (topic, queue_id), (applied.index.0, next))?;
            }
        }
        let purged = log.purged().map(|id| id.index);
        let stored = checkpoint::load(&machine.stored, &machine.options.dir);
        let stored = stored.map_err(|error| format!("n{index}: {error}"))?;
        let stored = stored.map(|stored| snapshot::decode(&stored.state)).transpose();
        let stored = stored.map_err(|error| format!("n{index}: {error}"))?;
        let stored = stored.and_then(|captured| captured.progress.last).map(|id| id.index);
        let applied = applied.map(|id| id.index);
        must(purged <= stored && stored <= applied, || {
            format!("n{index}: purged {purged:?}, checkpoint {stored:?}, applied {applied:?}")
        })?;
        for at in (log.first_index().0..self.seen[index].compared).rev().take(3) {
            let known = self.committed.get(at as usize).map(|known| (known.id, known.position));
            let header = match log.header_of(EntryIndex(at)) {
                Err(store::Error::Damaged { .. }) if rots => continue,
                read => read.map_err(|error| error.to_string())?,
            };
            must(header.map(|header| (header.id(), header.position)) == known, || {
                format!("I2: n{index} has {header:?} where {known:?} was committed")
            })?;
        }
        Ok(())
    }

    /// A queue as it is served: all that is committed and retained (I9), nothing else (I4), at
    /// its offsets (I3). Of many messages the first and the last are looked at.
    fn check_queue(
        &self,
        group: &Group,
        index: usize,
        (topic, queue_id): (&str, u32),
        (applied, next): (u64, u64),
    ) -> Checked {
        let first = group.0.log.first_position();
        let bounds = group.queues().bounds(topic, queue_id);
        let bounds = bounds.map_err(|error| format!("n{index} has no {topic}: {error}"))?;
        must(bounds.next.0 == next, || {
            format!("I3, I4: n{index} is at {} of {topic} {queue_id}, not at {next}", bounds.next)
        })?;
        let is_its = |m: &&Message| (m.topic.as_str(), m.queue_id) == (topic, queue_id);
        let retained = |m: &&Message| m.is_in_queue(applied) && m.place.physical >= first;
        let messages: Vec<&Message> =
            self.messages.iter().filter(is_its).filter(retained).collect();
        let ends = messages.iter().take(2).chain(messages.iter().rev().take(2));
        for Message { place, .. } in ends {
            must(bounds.min <= place.queue_offset, || {
                format!("I9: n{index} has {topic} {queue_id} from {}, not {place:?}", bounds.min)
            })?;
            let unit = group.queues().unit(topic, queue_id, place.queue_offset);
            let unit = unit.ok().flatten().map(|unit| unit.physical);
            must(unit == Some(place.physical), || {
                format!("I4: n{index} serves {topic} {queue_id} {place:?} from {unit:?}")
            })?;
        }
        Ok(())
    }

    /// In the end: everybody who belongs to the group has everything, and serves it as it was
    /// committed.
    pub(super) fn check_served(&mut self, machines: &[Machine], insiders: &[usize]) -> Checked {
        for machine in insiders.iter().map(|index| &machines[*index]) {
            self.restarted(machine.index);
            self.check(machines, machine.index, false)?;
            self.check_derived(machine, false)?;
            let Some(group) = machine.group() else {
                return Err(format!("n{} does not run", machine.index));
            };
            let first = group.0.log.first_position();
            for message in &self.messages {
                let Message { topic, queue_id, place, .. } = message;
                let unit = group.queues().unit(topic, *queue_id, place.queue_offset);
                let unit = unit.ok().flatten().map(|unit| unit.physical);
                let is_gone = place.physical < first || message.deleted.is_some();
                must(is_gone || unit == Some(place.physical), || {
                    let index = machine.index;
                    format!("n{index} serves {topic} {queue_id} {place:?} from {unit:?}")
                })?;
            }
        }
        Ok(())
    }
}

/// Whether an entry would be on a machine after its power was lost; of a member that acknowledges
/// from memory, after its process was killed.
fn holds(machine: &Machine, entry: &StoredEntry) -> bool {
    // It may have been purged there already.
    let has_purged =
        || machine.group().is_some_and(|g| g.0.log.first_position() > entry.header.position);
    has_stored(&machine.stored, &machine.options, entry).unwrap_or_else(has_purged)
}

/// Whether an entry is in its segment on `disk`, as durable as its group demands. `None`: there is
/// no such segment.
fn has_stored(disk: &SimulatedDisk, options: &GroupOptions, entry: &StoredEntry) -> Option<bool> {
    let base = entry.header.position.0 - entry.header.position.0 % options.segment_bytes;
    let path = options.log_dir.join(format!("{base:020}"));
    let content = match options.durability {
        Durability::Synced => disk.durable(&path),
        Durability::PageCache => {
            let killed = disk.after_kill();
            killed.and_then(|disk| disk.read(&path)).ok().flatten()
        }
    }?;
    let at = (entry.header.position.0 - base) as usize;
    Some(content.get(at..at + entry.bytes.len()) == Some(&*entry.bytes))
}
