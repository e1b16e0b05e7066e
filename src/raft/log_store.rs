//! openraft's log storage on the CommitLog: the Raft log *is* the CommitLog.
//!
//! Queue offsets are assigned here, in append on the leader, in log order. The table they come
//! from is tagged with the term: the first append of a term loads it from what is applied plus
//! what lies unapplied in the log, so a tail that was cut off, or a leader that comes and goes,
//! leaves neither gaps nor duplicates. Store times come the same way: they never go back, whatever
//! the clocks of this and of former leaders say. A follower stores the bytes as they are.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, Stream};
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use parking_lot::{Mutex, MutexGuard};

use crate::clock;
use crate::ids::{EntryIndex, QueueOffset, StoreId, Term};
use crate::protocol::message::{Draft, records};
use crate::raft::applied::AppliedState;
use crate::raft::codec;
use crate::raft::command::{Command, Commands};
use crate::raft::digest::{Digest, Unapplied};
use crate::raft::membership;
use crate::raft::repair::Repairer;
use crate::raft::room::Room;
#[cfg(test)]
use crate::raft::simulation::planted::{Bug, is_planted};
use crate::raft::type_config::{
    Ballot, Batch, LogEntry, Payload, RaftLogId, Stored, TypeConfig, ballot, entry_id, log_id,
};
use crate::store::entry::{EntryId, Header, Kind};
use crate::store::queues::NextOffsets;
use crate::store::{self, Body, CommitLog, StoredEntry, VoteFile};

/// How long a leader's first append may wait for the repair of what lies before it: nothing else
/// goes on here meanwhile.
const REPAIR_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes handed to replication at once.
const READ_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// openraft's view of this member's log. Cloning shares it.
#[derive(Clone)]
pub(super) struct LogStore(Arc<Shared>);

struct Shared {
    log: CommitLog,
    votes: VoteFile,
    applied: AppliedState,
    repairs: Repairer,
    assigned: Mutex<Assigned>,
    unapplied: Mutex<Unapplied>,
    room: Arc<Room>,
}

/// What follows on the log's tail, valid while this member leads `term`.
#[derive(Default)]
struct Assigned {
    term: Option<Term>,
    next: NextOffsets,
    /// Of the last message: the next one is not stored before.
    store_ms: i64,
    /// Of the last commands before this leader's; of its own ones, where its clock started.
    commands_ms: i64,
    /// When that was.
    since: Option<Instant>,
}

/// What an entry says about when it was proposed, ms since the epoch.
struct Times {
    /// Of its messages.
    store_ms: i64,
    /// Of its commands.
    at_ms: i64,
}

impl LogStore {
    /// The log, the vote beside it, and what is applied of it.
    pub(super) fn new(
        log: CommitLog,
        votes: VoteFile,
        applied: AppliedState,
        room: Arc<Room>,
        repairs: Repairer,
    ) -> Self {
        let (assigned, unapplied) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Shared { log, votes, applied, repairs, assigned, unapplied, room }))
    }

    /// What follows the last message of a queue, if this member has appended any as the leader of
    /// `term`; else 0.
    pub(super) fn assigned_end(&self, term: Term, topic: &str, queue_id: u32) -> QueueOffset {
        let assigned = self.0.assigned.lock();
        let is_valid = assigned.term == Some(term);
        if is_valid { assigned.next.next(topic, queue_id) } else { QueueOffset::default() }
    }

    /// Whether the raft thread waits for the disk to keep a vote, or where the log begins or ends.
    pub(super) fn waits_for_disk(&self) -> bool {
        self.0.votes.is_saving() || self.0.log.is_moving()
    }

    /// What a command says about when it was proposed, if this member proposes it now as the leader
    /// of `term`; `None` before its first entries.
    pub(super) fn commands_ms(&self, term: Term) -> Option<i64> {
        let assigned = self.0.assigned.lock();
        let is_valid = assigned.term == Some(term) && assigned.since.is_some();
        is_valid.then(|| assigned.counted_ms(clock::now()))
    }

    /// Learns what follows the log's tail, before the first messages of a leader.
    async fn prepare(&self, entry: &LogEntry) -> io::Result<()> {
        let term = entry_id(&entry.log_id).term;
        let is_proposed = entry.stored.is_none() && matches!(entry.payload, Payload::Normal(_));
        let known = self.0.assigned.lock().term;
        let is_known = known == Some(term);
        #[cfg(test)]
        let is_known = is_known || (is_planted(Bug::CountsWhatWasCut) && known.is_some());
        if is_proposed && !is_known {
            let after_tail = self.after_tail().await?;
            *self.0.assigned.lock() = Assigned { term: Some(term), ..after_tail };
        }
        Ok(())
    }

    fn append_one(&self, entry: &LogEntry) -> io::Result<()> {
        let id = entry_id(&entry.log_id);
        match &entry.stored {
            Some(Stored::Received(received)) => {
                self.0.log.append_stored(received).map_err(io::Error::other)?;
                self.digest(received.header(), received.bytes());
                return Ok(());
            }
            Some(Stored::Mapped(_) | Stored::Digested(_)) => {
                return Err(io::Error::other(format!("entry {} is in the log", entry.log_id)));
            }
            None => {}
        }
        match &entry.payload {
            Payload::Blank => self.append_body(id, Body::Blank, &mut no_messages),
            Payload::Membership(membership) => {
                let bytes = membership::encode(membership);
                self.append_body(id, Body::Membership(&bytes), &mut no_messages)
            }
            Payload::Normal(batch) => self.append_batch(id, batch),
        }
    }

    fn append_batch(&self, id: EntryId, batch: &Batch) -> io::Result<()> {
        // Nobody else writes here, but the threads of connections read, and an append may wait for
        // the disk, before it places messages and after: locked from the first message to the last.
        let assigned = &self.0.assigned;
        let Times { store_ms, at_ms } = assigned.lock().times(clock::wall_ms(), clock::now());
        let commands = if batch.commands.is_empty() {
            Vec::new()
        } else {
            codec::encode(&Commands { at_ms, list: batch.commands.clone() })
        };
        let body = Body::Data { drafts: &batch.messages, commands: &commands };
        let (mut placing, mut left) = (None, batch.messages.len());
        let mut place = |draft: &Draft| {
            let held: &mut MutexGuard<'_, Assigned> =
                placing.get_or_insert_with(|| assigned.lock());
            let offset = held.next.assign(&draft.topic, draft.queue_id);
            left -= 1;
            if left == 0 {
                placing = None;
            }
            offset
        };
        let stored = self.0.log.append(id, body, &mut place, store_ms).map_err(io::Error::other)?;
        batch.placed.notify_one();
        if !batch.commands.is_empty() {
            forget_deleted(&mut assigned.lock().next, &stored.header, &batch.commands);
        }
        self.digest(&stored.header, &stored.bytes);
        Ok(())
    }

    /// Keeps what apply will need of an entry that was just appended. What cannot be read, apply
    /// will find in the log, and say so.
    fn digest(&self, header: &Header, entry: &[u8]) {
        if header.kind == Kind::Data
            && let Ok(digest) = Digest::of(header, entry)
        {
            self.0.unapplied.lock().push(digest);
        }
    }

    fn append_body(
        &self,
        id: EntryId,
        body: Body<'_>,
        place: &mut dyn FnMut(&Draft) -> QueueOffset,
    ) -> io::Result<()> {
        let appended = self.0.log.append(id, body, place, clock::wall_ms());
        appended.map(|_| ()).map_err(io::Error::other)
    }

    /// What follows on the log's last entry: on what is applied, moved on by what is not.
    async fn after_tail(&self) -> io::Result<Assigned> {
        let (next, from) = self.0.applied.next_offsets();
        let store_ms = self.0.applied.queues().last_stored_ms().unwrap_or(0);
        let commands_ms = self.0.applied.tables().changed_ms();
        let mut after = Assigned { term: None, next, store_ms, commands_ms, since: None };
        let to = self.0.log.last().map_or(from, |last| EntryIndex(last.index.0 + 1));
        let mut at = from;
        while at < to {
            let entries = self.entries(at, to, READ_BYTES_MAX, REPAIR_PATIENCE).await?;
            let Some(last) = entries.last() else { break };
            at = EntryIndex(last.header.index.0 + 1);
            for entry in &entries {
                after.advance(entry)?;
            }
        }
        Ok(after)
    }

    /// Entries as [`CommitLog::entries`] gives them. What is damaged is repaired first, if that
    /// takes no longer than `patience`: openraft ends with the first read that fails.
    async fn entries(
        &self,
        from: EntryIndex,
        to: EntryIndex,
        bytes_max: u64,
        patience: Duration,
    ) -> io::Result<Vec<StoredEntry>> {
        let Shared { log, applied, repairs, .. } = &*self.0;
        loop {
            match log.entries(from, to, bytes_max) {
                Err(damage @ store::Error::Damaged { .. }) => {
                    let repaired = repairs.repair_within(log, applied, damage, patience).await;
                    repaired.map_err(io::Error::other)?;
                }
                read => return read.map_err(io::Error::other),
            }
        }
    }

    /// Committed entries of `range` for apply: their digests, where there are any, and the others as
    /// they are in the log. All of them.
    async fn committed(&self, range: Range<EntryIndex>) -> io::Result<Vec<LogEntry>> {
        let (mut at, end) = (range.start, range.end);
        let mut entries = Vec::new();
        while at < end {
            let digest = self.0.unapplied.lock().take(at..end);
            let known = digest.as_ref().map_or(end, |digest| digest.header.index);
            if at < known {
                let others = self.entries(at, known, u64::MAX, Duration::MAX).await?;
                for entry in others {
                    entries.push(to_log_entry(entry)?);
                }
            }
            if let Some(digest) = digest {
                let entry = LogEntry::from_stored(Stored::Digested(digest));
                entries.push(entry.map_err(io::Error::other)?);
            }
            at = known.next();
        }
        Ok(entries)
    }

    async fn read(&self, from: u64, to: u64, bytes_max: u64) -> io::Result<Vec<LogEntry>> {
        let from = from.max(self.0.log.first_index().0);
        let to = to.min(self.0.log.last().map_or(0, |last| last.index.0 + 1));
        if from >= to {
            return Ok(Vec::new());
        }
        let (from, to) = (EntryIndex(from), EntryIndex(to));
        let entries = self.entries(from, to, bytes_max, Duration::MAX).await?;
        entries.into_iter().map(to_log_entry).collect()
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> Range<EntryIndex> {
    let start = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(index) => index + 1,
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    EntryIndex(start)..EntryIndex(end)
}

fn no_messages(_: &Draft) -> QueueOffset {
    unreachable!("only data entries carry messages")
}

fn to_log_entry(entry: StoredEntry) -> io::Result<LogEntry> {
    LogEntry::from_stored(Stored::Mapped(entry)).map_err(io::Error::other)
}

impl Assigned {
    /// The times of an entry that is proposed now. Messages have the wall clock's, which may jump
    /// ahead. Commands have it only where a leader starts to count: the age of queue locks is the
    /// time between two of its own (`Tables::go_by`). Neither goes back.
    fn times(&mut self, wall_ms: i64, now: Instant) -> Times {
        self.store_ms = wall_ms.max(self.store_ms);
        if self.since.is_none() {
            self.commands_ms = wall_ms.max(self.commands_ms);
        }
        self.since.get_or_insert(now);
        Times { store_ms: self.store_ms, at_ms: self.counted_ms(now) }
    }

    /// What commands say that are proposed now, once a leader counts.
    fn counted_ms(&self, now: Instant) -> i64 {
        let elapsed = self.since.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.commands_ms.saturating_add(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
    }

    /// Moves past the messages and deletions of one stored entry.
    fn advance(&mut self, entry: &StoredEntry) -> io::Result<()> {
        if entry.header.kind != Kind::Data {
            return Ok(());
        }
        for record in records(&entry.records()) {
            let record = record.map_err(io::Error::other)?;
            let next = self.next.assign(record.topic(), record.queue_id());
            if next.0 != record.queue_offset() {
                return Err(io::Error::other(format!(
                    "entry {} has offset {} of {} queue {} where {next} is next",
                    entry.header.index,
                    record.queue_offset(),
                    record.topic(),
                    record.queue_id(),
                )));
            }
            self.store_ms = self.store_ms.max(record.store_timestamp());
        }
        let commands = entry.commands();
        if !commands.is_empty() {
            let commands: Commands = codec::decode(&commands).map_err(io::Error::other)?;
            forget_deleted(&mut self.next, &entry.header, &commands.list);
            self.commands_ms = self.commands_ms.max(commands.at_ms);
        }
        Ok(())
    }
}

fn forget_deleted(next: &mut NextOffsets, header: &Header, commands: &[Command]) {
    for command in commands {
        if let Command::DeleteTopic { topic } = command {
            next.forget_topic(topic, header.end());
        }
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<LogEntry>>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let Range { start, end } = bounds(&range);
        self.read(start.0, end.0, u64::MAX).await
    }

    /// For apply: nobody else asks for a stream.
    async fn entries_stream<R>(
        &mut self,
        range: R,
    ) -> impl Stream<Item = io::Result<LogEntry>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (list, error) = match self.committed(bounds(&range)).await {
            Ok(entries) => (entries, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        stream::iter(list.into_iter().map(Ok).chain(error.map(Err)))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Ballot>> {
        let vote = self.0.votes.vote();
        Ok(vote.map(|vote| ballot(vote.term, vote.voted_for.unwrap_or_default(), vote.committed)))
    }

    async fn limited_get_log_entries(&mut self, from: u64, to: u64) -> io::Result<Vec<LogEntry>> {
        self.read(from, to, READ_BYTES_MAX).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let purged = self.0.log.purged().map(log_id);
        let last = self.0.log.last().map(log_id);
        Ok(LogState { last_purged_log_id: purged, last_log_id: last.or(purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Ballot) -> io::Result<()> {
        #[cfg(test)]
        if is_planted(Bug::ForgetsVotes) {
            return Ok(());
        }
        let stored = store::Vote {
            term: Term(vote.leader_id.term),
            voted_for: Some(StoreId(vote.leader_id.voted_for)),
            committed: vote.committed,
        };
        self.0.votes.save_vote(stored).map_err(io::Error::other)
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> io::Result<()> {
        // Only what is durable here: a start that finds less than this takes it for damage.
        if let (Some(id), Some(durable)) = (committed, self.0.log.durable_index()) {
            self.0.votes.save_committed(EntryIndex(id.index).min(durable));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<RaftLogId>> {
        let index = self.0.votes.committed();
        Ok(index.and_then(|index| self.0.log.id_of(index)).map(log_id))
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        for entry in entries {
            self.prepare(&entry).await?;
            self.0.room.when_there_is(|| self.append_one(&entry)).await?;
        }
        #[cfg(test)]
        if is_planted(Bug::AcknowledgesUnsynced) {
            flushed.io_completed(Ok(()));
            return Ok(());
        }
        self.0.log.sync(Box::new(move |result| {
            #[cfg(test)]
            let result = if is_planted(Bug::IgnoresFailedSyncs) { Ok(()) } else { result };
            flushed.io_completed(result.map_err(io::Error::other));
        }));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        let from = last.map_or_else(|| self.0.log.first_index(), |last| EntryIndex(last.index + 1));
        let gone = from;
        #[cfg(test)]
        let gone = if is_planted(Bug::AppliesWhatWasCut) { EntryIndex(u64::MAX) } else { gone };
        self.0.unapplied.lock().cut(gone);
        #[cfg(test)]
        if is_planted(Bug::CountsWhatWasCut) {
            return self.0.log.truncate_from(from).map_err(io::Error::other);
        }
        self.0.assigned.lock().term = None;
        self.0.log.truncate_from(from).map_err(io::Error::other)
    }

    async fn purge(&mut self, upto: RaftLogId) -> io::Result<()> {
        let upto = entry_id(&upto);
        if self.0.log.last().is_some_and(|last| last.index >= upto.index) {
            let purged = || self.0.log.purge_through(upto.index).map_err(io::Error::other);
            return self.0.room.when_there_is(purged).await;
        }
        // The log ends before the snapshot that was installed: it starts again behind it.
        let position = self.0.applied.start_after(upto, self.0.log.tail());
        self.0.assigned.lock().term = None;
        let reset = || self.0.log.reset(position, upto).map_err(io::Error::other);
        self.0.room.when_there_is(reset).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_jumps_makes_no_lock_older() {
        let (mut assigned, start) = (Assigned::default(), clock::now());
        let mut at = |wall_ms, ms| {
            let times = assigned.times(wall_ms, start + Duration::from_millis(ms));
            (times.store_ms, times.at_ms)
        };
        assert_eq!(at(1_000_000, 0), (1_000_000, 1_000_000));
        assert_eq!(at(1_000_020, 20), (1_000_020, 1_000_020));
        assert_eq!(at(1_061_030, 30), (1_061_030, 1_000_030), "a minute ahead");
        assert_eq!(at(900_000, 40), (1_061_030, 1_000_040), "and back");
        let mut after = Assigned { commands_ms: 2_000_000, ..Assigned::default() };
        assert_eq!(after.times(1_000_000, start).at_ms, 2_000_000, "of a former leader");
    }
}
