//! Reading derived data: units of a queue, its bounds, offsets by time, positions by key.
//!
//! What is in memory is read under the lock; runs are searched outside it, because that can mean
//! waiting for the disk.

use std::{ops::RangeInclusive, sync::Arc};

use smallvec::SmallVec;

use super::{
    Error, Queues,
    part::{List, ListKey, Part},
    run::{Run, RunList, alive_list},
    state::{Queue, State, Topic},
    unit::{Bounds, KeyEntry, UNIT_BYTES, Unit},
};
use crate::ids::{PhysicalOffset, QueueOffset};

/// Most units copied in one go, so under one hold of the lock.
const UNITS_PER_COPY: usize = 4_096;
/// So many runs after the last one read are tried before a search of all.
const RUNS_TRIED_AFTER_HINT: usize = 8;

/// Which side of a timestamp [`Queues::offset_by_time`] looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Boundary {
    /// First message stored at or after the time; the next offset if all are older.
    #[default]
    Lower,
    /// Last message stored at or before the time; the smallest offset if all are newer.
    Upper,
}

/// What [`Queues::by_key`] looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// [`key_hash`](crate::protocol::message::key_hash) of topic and key.
    pub hash: u64,
    /// Store timestamps that count. Milliseconds since the epoch.
    pub stored_ms: RangeInclusive<i64>,
    /// Most positions returned.
    pub max: usize,
}

/// What a search of a queue outside the lock works on.
struct View {
    runs: Arc<Vec<Arc<Run>>>,
    frozen: SmallVec<[Arc<Part>; 2]>,
    key: ListKey,
    alive_from: PhysicalOffset,
    next: QueueOffset,
    /// Physical offset of what was read from a run last.
    hint: PhysicalOffset,
}

impl View {
    fn of(state: &State, topic: &Topic, queue: &Queue, queue_id: u32) -> Self {
        Self {
            runs: Arc::clone(&state.runs),
            frozen: state.frozen.iter().map(Arc::clone).collect(),
            key: ListKey { topic_number: topic.number, queue_id },
            alive_from: state.alive_from_of(topic),
            next: queue.next,
            hint: queue.hint(),
        }
    }
}

impl Queues {
    /// Offsets that the queue holds. From memory, unless retention took the first unit since the
    /// last call: then a search in the runs, oldest first.
    pub fn bounds(&self, topic: &str, queue_id: u32) -> Result<Bounds, Error> {
        let (view, in_active) = {
            let state = self.0.state.read();
            let Some((of_topic, queue)) = state.queue(topic, queue_id) else {
                return Ok(Bounds::default());
            };
            if let Some(min) = state.known_min(of_topic, queue) {
                return Ok(Bounds { min, next: queue.next });
            }
            let view = View::of(&state, of_topic, queue, queue_id);
            let list = state.active.list(view.key);
            let first = list.and_then(|list| first_alive(list, view.alive_from));
            (view, first)
        };
        let first = match first_in_runs(&view, topic, queue_id)? {
            Some(first) => Some(first),
            None => {
                let lists = view.frozen.iter().filter_map(|part| part.list(view.key));
                lists.filter_map(|list| first_alive(list, view.alive_from)).next().or(in_active)
            }
        };
        let (min, at) = first.map_or((view.next, None), |(min, at)| (min, Some(at)));
        let state = self.0.state.read();
        if let Some((of_topic, queue)) = state.queue(topic, queue_id)
            && of_topic.number == view.key.topic_number
        {
            state.keep_min(queue, min, at);
        }
        Ok(Bounds { min, next: view.next })
    }

    /// Offset that the queue's next message will get. Never waits for the disk.
    pub fn next(&self, topic: &str, queue_id: u32) -> QueueOffset {
        let state = self.0.state.read();
        state.queue(topic, queue_id).map_or(QueueOffset(0), |(_, queue)| queue.next)
    }

    /// Appends up to `max` units of the queue from offset `from` on, in order, without gaps.
    /// Nothing when `from` is outside [`Queues::bounds`].
    pub fn units(
        &self,
        topic: &str,
        queue_id: u32,
        from: QueueOffset,
        max: usize,
        out: &mut Vec<Unit>,
    ) -> Result<(), Error> {
        let before = out.len();
        while out.len() - before < max {
            let got = out.len() - before;
            let at = QueueOffset(from.0.saturating_add(got as u64));
            self.units_of_one_place(topic, queue_id, at, (max - got).min(UNITS_PER_COPY), out)?;
            if out.len() - before == got {
                break;
            }
        }
        Ok(())
    }

    /// About where in the log the units of a queue from `from` on lie, if runs must be read for
    /// them or for the bounds; `None` if memory has it all. Never waits for the disk: the place is
    /// where the queue was read last, which is where a backlog that is being drained goes on.
    pub fn place_in_runs(
        &self,
        topic: &str,
        queue_id: u32,
        from: QueueOffset,
    ) -> Option<PhysicalOffset> {
        let state = self.0.state.read();
        let (of_topic, queue) = state.queue(topic, queue_id)?;
        let Some(min) = state.known_min(of_topic, queue) else {
            return Some(state.alive_from_of(of_topic));
        };
        let key = ListKey { topic_number: of_topic.number, queue_id };
        let parts = std::iter::once(&state.active);
        let mut parts = parts.chain(state.frozen.iter().map(|part| &**part));
        let is_there = (min..queue.next).contains(&from);
        let mut is_in_memory = || parts.any(|part| part.list(key).is_some_and(|l| l.has(from)));
        (is_there && !is_in_memory()).then(|| queue.hint())
    }

    /// The unit at one offset.
    pub fn unit(&self, topic: &str, queue_id: u32, at: QueueOffset) -> Result<Option<Unit>, Error> {
        let mut found = Vec::with_capacity(1);
        self.units_of_one_place(topic, queue_id, at, 1, &mut found)?;
        Ok(found.pop())
    }

    fn units_of_one_place(
        &self,
        topic: &str,
        queue_id: u32,
        from: QueueOffset,
        max: usize,
        out: &mut Vec<Unit>,
    ) -> Result<(), Error> {
        let view = {
            let state = self.0.state.read();
            let Some((of_topic, queue)) = state.queue(topic, queue_id) else { return Ok(()) };
            if from >= queue.next {
                return Ok(());
            }
            let key = ListKey { topic_number: of_topic.number, queue_id };
            let parts = std::iter::once(&state.active);
            let mut parts = parts.chain(state.frozen.iter().rev().map(|part| &**part));
            let list = parts.find_map(|part| part.list(key)?.from(from, max));
            if let Some(units) = list {
                let alive_from = state.alive_from_of(of_topic);
                if units[0].physical >= alive_from {
                    out.extend_from_slice(units);
                }
                return Ok(());
            }
            View::of(&state, of_topic, queue, queue_id)
        };
        let Some((run, list)) = run_holding(&view, topic, queue_id, from)? else { return Ok(()) };
        let at = from.0 - list.first.0;
        let stored = run.units(&list, at..list.count.min(at.saturating_add(max as u64)))?;
        out.extend(stored.as_chunks::<UNIT_BYTES>().0.iter().map(Unit::decode));
        run.intact(())?;
        if let (Some(last), Some((_, queue))) =
            (out.last(), self.0.state.read().queue(topic, queue_id))
        {
            queue.set_hint(last.physical);
        }
        Ok(())
    }

    /// Offset by store time, as clients ask for it (code 29). `store_time_of` reads the time of a
    /// record; `None`, it is gone, counts as older. Exact as long as the leaders' clocks do not
    /// go back. 0 for a queue that never had a message.
    pub fn offset_by_time(
        &self,
        topic: &str,
        queue_id: u32,
        timestamp: i64,
        boundary: Boundary,
        store_time_of: &dyn Fn(&Unit) -> Option<i64>,
    ) -> Result<QueueOffset, Error> {
        let bounds = self.bounds(topic, queue_id)?;
        let found = match boundary {
            Boundary::Lower => {
                self.first_not(topic, queue_id, &|stored| stored < timestamp, store_time_of)?
            }
            Boundary::Upper => {
                let after =
                    self.first_not(topic, queue_id, &|stored| stored <= timestamp, store_time_of)?;
                QueueOffset(after.0.saturating_sub(1))
            }
        };
        Ok(found.clamp(bounds.min, bounds.next))
    }

    /// First offset whose message is not older; the next offset if all are.
    fn first_not(
        &self,
        topic: &str,
        queue_id: u32,
        older: &dyn Fn(i64) -> bool,
        store_time_of: &dyn Fn(&Unit) -> Option<i64>,
    ) -> Result<QueueOffset, Error> {
        let (view, active) = {
            let state = self.0.state.read();
            let Some((of_topic, queue)) = state.queue(topic, queue_id) else {
                return Ok(QueueOffset(0));
            };
            let view = View::of(&state, of_topic, queue, queue_id);
            let active = state.active.list(view.key).map(|list| list.first..list.end());
            (view, active)
        };
        let is_older = |unit: &Unit| store_time_of(unit).is_none_or(older);
        for run in view.runs.iter().filter(|run| !older(run.footer().times.max)) {
            let list = alive_list(run, topic, queue_id, view.alive_from)?;
            let Some(list) = list else { continue };
            let found = partition_point(list.count, |n| Ok(is_older(&run.unit(&list, n)?)))?;
            if found < list.count {
                return Ok(QueueOffset(list.first.0 + found));
            }
        }
        for list in view.frozen.iter().filter_map(|part| part.list(view.key)) {
            let found = list.units.partition_point(is_older);
            if found < list.units.len() {
                return Ok(QueueOffset(list.first.0 + found as u64));
            }
        }
        let Some(active) = active else { return Ok(view.next) };
        // One at a time: reading a record can mean waiting for the disk, so not under the lock.
        let found = partition_point(active.end.0 - active.start.0, |n| {
            let unit = self.unit(topic, queue_id, QueueOffset(active.start.0 + n))?;
            Ok(unit.is_none_or(|unit| is_older(&unit)))
        })?;
        Ok(QueueOffset(active.start.0 + found))
    }

    /// Latest store timestamp of the messages that retention has left; `None` without any.
    pub fn last_stored_ms(&self) -> Option<i64> {
        let state = self.0.state.read();
        let mut times = state.active.times;
        state.frozen.iter().for_each(|part| times.include(part.times));
        state.runs.iter().for_each(|run| times.include(run.footer().times));
        (times.min <= times.max).then_some(times.max)
    }

    /// Positions of messages filed under a key, newest first. Candidates: another key can have the
    /// same hash, and the topic can have been deleted since; the caller compares the record.
    pub fn by_key(&self, wanted: &KeyRange) -> Result<Vec<PhysicalOffset>, Error> {
        let mut found: Vec<PhysicalOffset> = Vec::new();
        let mut add = |entry: KeyEntry| {
            let new = found.last() != Some(&entry.physical); // a message can have a key twice
            if new && found.len() < wanted.max && wanted.stored_ms.contains(&entry.store_timestamp)
            {
                found.push(entry.physical);
            }
            found.len() < wanted.max
        };
        let (runs, floor) = {
            let state = self.0.state.read();
            let parts = std::iter::once(&state.active);
            let mut parts = parts.chain(state.frozen.iter().rev().map(|part| &**part));
            parts.all(|part| part.keys_with(wanted.hash).all(|entry| add(*entry)));
            (Arc::clone(&state.runs), state.floor)
        };
        'runs: for run in runs.iter().rev() {
            let times = run.footer().times;
            if !times.overlap(*wanted.stored_ms.start(), *wanted.stored_ms.end()) {
                continue;
            }
            for number in run.keys_with(wanted.hash)?.rev() {
                if !add(run.key_at(number)?) {
                    break 'runs;
                }
            }
        }
        found.retain(|at| *at >= floor);
        Ok(found)
    }
}

fn first_in_runs(
    view: &View,
    topic: &str,
    queue_id: u32,
) -> Result<Option<(QueueOffset, PhysicalOffset)>, Error> {
    for run in view.runs.iter() {
        if let Some(list) = alive_list(run, topic, queue_id, view.alive_from)? {
            return Ok(Some((list.first, run.unit(&list, 0)?.physical)));
        }
    }
    Ok(None)
}

fn first_alive(list: &List, alive_from: PhysicalOffset) -> Option<(QueueOffset, PhysicalOffset)> {
    let dead = list.units.partition_point(|unit| unit.physical < alive_from);
    let unit = list.units.get(dead)?;
    Some((QueueOffset(list.first.0 + dead as u64), unit.physical))
}

/// The run that has the unit at `from`, and the queue's list in it.
fn run_holding<'a>(
    view: &'a View,
    topic: &str,
    queue_id: u32,
    from: QueueOffset,
) -> Result<Option<(&'a Run, RunList)>, Error> {
    let runs = &view.runs[..];
    let list_in = |run: &Run| alive_list(run, topic, queue_id, view.alive_from);
    let holds = |list: &RunList| (list.first..list.end()).contains(&from);

    // Where the last read ended, a backlog that is being drained goes on.
    let near = runs.partition_point(|run| run.footer().to <= view.hint);
    for run in runs[near..].iter().take(RUNS_TRIED_AFTER_HINT) {
        match list_in(run)? {
            Some(list) if holds(&list) => return Ok(Some((run, list))),
            Some(list) if from < list.first => break,
            Some(_) | None => {}
        }
    }
    // A binary search. A run without the queue says nothing: the nearest older one with it does.
    let (mut low, mut high) = (0, runs.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let mut found = None;
        for number in (low..=middle).rev() {
            found = list_in(&runs[number])?.map(|list| (number, list));
            if found.is_some() {
                break;
            }
        }
        match found {
            Some((number, list)) if holds(&list) => return Ok(Some((&runs[number], list))),
            Some((number, list)) if from < list.first => high = number,
            Some(_) | None => low = middle + 1,
        }
    }
    Ok(None)
}

/// The first number below `count` for which `before` is false; `count` if there is none.
fn partition_point(count: u64, before: impl Fn(u64) -> Result<bool, Error>) -> Result<u64, Error> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle)? { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}
