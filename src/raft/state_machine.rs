//! Apply: committed entries become ConsumeQueue units, key-index entries and tables, and the
//! proposals they came from are answered.
//!
//! The log is not read for it: what an entry means was read when it was appended
//! ([`crate::raft::digest`]). The same code runs on leader and follower.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::EntryPayload;
use openraft::OptionalSend;
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::{EntryIndex, PhysicalOffset, StoredSend, Term};
use crate::raft::applied::{AppliedState, Captured};
use crate::raft::checkpointer::{self, StoreParts};
use crate::raft::codec;
use crate::raft::command::{Command, Commands, Outcome, Passed};
use crate::raft::digest::Digest;
use crate::raft::duplicates::Duplicates;
use crate::raft::error::StorageError;
use crate::raft::forward::Desk;
use crate::raft::proposal::{Place, Receipt};
use crate::raft::room::Room;
#[cfg(test)]
use crate::raft::simulation::planted::{Bug, is_planted};
use crate::raft::snapshot::{self, SnapshotFiles, Whole};
use crate::raft::type_config::{
    Applied, LogEntry, RaftLogId, StoredMembership, TypeConfig, entry_id, log_id,
};
use crate::store::entry::{EntryId, Header, Kind};
use crate::store::queues::{self, FlushPolicy, Queues};
use crate::store::{CommitLog, StoredEntry};

/// openraft's view of [`AppliedState`]. Cloning shares it.
#[derive(Clone)]
pub(super) struct StateMachine {
    state: AppliedState,
    snapshots: SnapshotFiles,
    boundaries: Arc<Mutex<Boundaries>>,
    segment_bytes: u64,
    /// Where an installed snapshot becomes the checkpoint.
    parts: StoreParts,
    room: Arc<Room>,
    /// Where those wait who hear of their proposals here.
    desk: Desk,
    /// What a leader finds repeated. Decides nothing here.
    duplicates: Duplicates,
}

/// Segment boundaries that apply has crossed and nobody has stored yet, and what is offered to
/// members that the log does not cover.
#[derive(Default)]
struct Boundaries {
    crossed: VecDeque<Captured>,
    /// The snapshot that retention wants next.
    wanted: Option<Whole>,
    current: Option<Whole>,
}

impl StateMachine {
    /// Applies to `state`, whose store consists of `parts`.
    pub(super) fn new(
        state: AppliedState,
        parts: StoreParts,
        segment_bytes: u64,
        room: Arc<Room>,
        desk: Desk,
        duplicates: Duplicates,
    ) -> Self {
        let (snapshots, boundaries) = (parts.snapshots.clone(), Arc::default());
        Self { state, snapshots, boundaries, segment_bytes, parts, room, desk, duplicates }
    }

    /// What was stored lately.
    pub(super) fn duplicates(&self) -> &Duplicates {
        &self.duplicates
    }

    /// Where those wait who hear of their proposals here.
    pub(super) fn desk(&self) -> &Desk {
        &self.desk
    }

    /// What it applies to.
    pub(super) fn state(&self) -> &AppliedState {
        &self.state
    }

    /// States at segment boundaries crossed since the last call, to be stored.
    pub(super) fn take_crossed(&self) -> VecDeque<Captured> {
        std::mem::take(&mut self.boundaries.lock().crossed)
    }

    /// Whether a segment boundary was crossed whose state is not yet handed out.
    pub(super) fn has_crossed(&self) -> bool {
        !self.boundaries.lock().crossed.is_empty()
    }

    /// Makes `snapshot` the next one to offer and to purge by, unless a later one is offered.
    pub(super) fn want_snapshot(&self, snapshot: Whole) {
        let mut boundaries = self.boundaries.lock();
        if boundaries.current.as_ref().is_none_or(|current| current.position < snapshot.position) {
            boundaries.wanted = Some(snapshot);
        }
    }

    /// Makes a stored snapshot the current one, as after a start.
    pub(super) fn offer(&self, snapshot: Whole) {
        self.boundaries.lock().current = Some(snapshot);
    }

    /// Position of the current snapshot.
    pub(super) fn offered(&self) -> Option<PhysicalOffset> {
        self.boundaries.lock().current.as_ref().map(|current| current.position)
    }

    /// Makes a snapshot as if a segment ended here.
    #[cfg(test)]
    pub(super) fn store_boundary_here(&self) -> io::Result<()> {
        let captured = self.state.capture();
        let position = captured.progress.position;
        let bytes = snapshot::encode(&captured);
        self.snapshots.save(position, &bytes).map_err(io::Error::other)?;
        self.want_snapshot(Whole::read(position, bytes.into()).map_err(io::Error::other)?);
        Ok(())
    }

    fn apply_entry(&self, entry: &LogEntry, wanted: bool) -> io::Result<Applied> {
        let stored = entry.stored.as_ref().ok_or_else(|| {
            io::Error::other(format!("entry {} is applied before it is stored", entry.log_id))
        })?;
        let header = *stored.header();
        self.cross_boundary(&header);
        match header.kind {
            Kind::Blank => self.step(&header, None),
            Kind::Membership => {
                let membership = match &entry.payload {
                    EntryPayload::Membership(membership) => membership.clone(),
                    EntryPayload::Blank | EntryPayload::Normal(_) => {
                        return Err(io::Error::other("a membership entry without membership"));
                    }
                };
                let membership = StoredMembership::new(Some(entry.log_id), membership);
                self.step(&header, Some(membership))
            }
            Kind::Data => {
                let digest = stored.digest().map_err(io::Error::other)?;
                self.apply_data(&digest, wanted)
            }
        }
    }

    /// An entry without messages.
    fn step(&self, header: &Header, membership: Option<StoredMembership>) -> io::Result<Applied> {
        #[cfg(test)]
        let is_first = self.state.progress().membership.log_id().is_none();
        #[cfg(test)]
        let membership = membership.filter(|_| is_first || !is_planted(Bug::KeepsFirstMembers));
        self.duplicates.applied(header.term, []);
        let applied = self.state.advance(|queues, progress| {
            queues.apply(header.position..header.end(), [])?;
            progress.last = Some(header.id());
            progress.position = header.end();
            if let Some(membership) = membership {
                progress.membership = membership;
            }
            Ok::<_, queues::Error>(Applied::default())
        });
        applied.map_err(io::Error::other)
    }

    /// Keeps the state as it is before the first entry of a new segment.
    fn cross_boundary(&self, header: &Header) {
        let start = header.position.0;
        if start == 0 || !start.is_multiple_of(self.segment_bytes) {
            return;
        }
        let mut captured = self.state.capture();
        captured.progress.position = header.position;
        #[cfg(test)]
        if is_planted(Bug::SnapshotsLate) {
            captured.progress.last = Some(header.id());
        }
        let mut boundaries = self.boundaries.lock();
        boundaries.crossed.push_back(captured);
        checkpointer::thin(&mut boundaries.crossed); // the store thread may hang
    }

    fn apply_data(&self, digest: &Digest, wanted: bool) -> io::Result<Applied> {
        let header = &digest.header;
        let mut commands = match &*digest.commands {
            [] => None,
            bytes => Some(codec::decode::<Commands>(bytes).map_err(io::Error::other)?),
        };
        let passed = commands.as_mut().map(Commands::take_passed).unwrap_or_default();
        let unsettled = commands.as_ref().map(Commands::unsettled_topics).unwrap_or_default();
        // What this leader stored, it answers: who sends that again wants it twice, as in Java.
        let first_tries = (!wanted).then(|| digest.unique_keys()).into_iter().flatten();
        self.duplicates.applied(header.term, first_tries);
        // What others passed on to it, they answer, if they are still there.
        if wanted && !passed.is_empty() {
            self.duplicates.passed(passed.iter().flat_map(|passed| {
                let keys = digest.unique_keys_of(passed.first_message, passed.messages);
                keys.map(|key| (passed.origin.life, key))
            }));
        }
        let outcomes = self.state.advance(|queues, progress| {
            queues.apply(header.position..header.end(), digest.messages())?;
            let outcomes = match commands {
                Some(commands) => self.apply_commands(commands, header),
                None => Vec::new(),
            };
            progress.last = Some(header.id());
            progress.position = header.end();
            Ok::<_, queues::Error>(outcomes)
        });
        let outcomes = outcomes.map_err(io::Error::other)?;
        self.state.tell(&digest.advances(&self.state), &unsettled);
        self.tell_proposers(digest, &outcomes, &passed);
        Ok(Applied {
            store_timestamp: digest.store_timestamp(),
            places: if wanted { digest.places() } else { Vec::new() },
            outcomes,
        })
    }

    /// Answers what this member passed on and the entry carries.
    fn tell_proposers(&self, digest: &Digest, outcomes: &[Outcome], passed: &[Passed]) {
        /// Proposals of an entry that are answered one by one.
        const FEW: usize = 2;
        let life = self.desk.life();
        let own = || passed.iter().filter(|passed| passed.origin.life == life);
        let few = own().count() <= FEW;
        let places = if own().any(|own| own.messages > 0) { digest.places() } else { Vec::new() };
        for own in own() {
            let first = part::<Place>(&places, own.first_message, own.messages).first();
            let is_told = self.desk.told(own.origin, || match &own.first_try {
                Some(first) => Receipt::of_repeat(first, few),
                None => Receipt {
                    store_timestamp: digest.store_timestamp(),
                    places: part::<Place>(&places, own.first_message, own.messages).into(),
                    outcomes: part(outcomes, own.first_command, own.commands).to_vec(),
                    few,
                    repeats: false,
                },
            });
            if let Some(first) = first.filter(|_| !is_told) {
                let send = StoredSend { first: first.physical, messages: own.messages };
                self.desk.unanswered([send]);
            }
        }
    }

    fn apply_commands(&self, commands: Commands, header: &Header) -> Vec<Outcome> {
        #[cfg(test)]
        let commands = match is_planted(Bug::AppliesByItsClock) {
            true => Commands { at_ms: crate::clock::wall_ms(), ..commands },
            false => commands,
        };
        let mut tables = (*self.state.tables()).clone();
        tables.go_by(header.term, commands.at_ms);
        let outcomes = commands
            .list
            .into_iter()
            .map(|command| {
                if let Command::DeleteTopic { topic } = &command {
                    self.state.queues().forget_topic(topic, header.end());
                    self.duplicates.forget(header.end());
                }
                tables.apply(command, commands.at_ms)
            })
            .collect();
        self.state.publish(tables);
        outcomes
    }
}

/// The part of an entry that is one proposal's.
fn part<T>(of: &[T], first: u32, count: u32) -> &[T] {
    let first = first as usize;
    of.get(first..first + count as usize).unwrap_or_default()
}

/// Feeds the derived data of the entries in `from..to` again, from the log.
pub(super) fn rebuild(
    log: &CommitLog,
    queues: &Queues,
    from: PhysicalOffset,
    to: PhysicalOffset,
) -> Result<(), StorageError> {
    let mut index = first_index_at(log, from)?;
    loop {
        let entries = log.entries(index, EntryIndex(u64::MAX), REBUILD_BYTES)?;
        for entry in &entries {
            if entry.header.position >= to {
                return Ok(());
            }
            rebuild_entry(queues, entry)?;
            index = EntryIndex(entry.header.index.0 + 1);
        }
        if entries.is_empty() {
            return Ok(());
        }
        if FlushPolicy::default().due(queues.unfrozen_bytes(), Duration::ZERO) {
            queues.freeze(); // or a large log piles up in memory
            queues.flush()?;
        }
    }
}

/// Bytes read at once while derived data is rebuilt.
const REBUILD_BYTES: u64 = 8 * 1024 * 1024;

fn rebuild_entry(queues: &Queues, entry: &StoredEntry) -> Result<(), StorageError> {
    let digest = Digest::of(&entry.header, &entry.bytes)?;
    queues.apply(entry.header.position..entry.header.end(), digest.messages())?;
    Ok(())
}

/// Index of the first entry at or after `position`: a search over the log's indexes.
fn first_index_at(log: &CommitLog, position: PhysicalOffset) -> Result<EntryIndex, StorageError> {
    let mut low = log.first_index().0;
    let mut high = log.last().map_or(low, |last| last.index.0 + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let header = log.header_of(EntryIndex(middle))?;
        if header.is_some_and(|header| header.position < position) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(EntryIndex(low))
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, Bytes>> {
        {
            let mut boundaries = self.boundaries.lock();
            if let Some(wanted) = boundaries.wanted.take() {
                boundaries.current = Some(wanted);
            }
        }
        let current = self.get_current_snapshot().await?;
        current.ok_or_else(|| io::Error::other("no segment boundary was crossed yet"))
    }
}

impl StateMachine {
    /// Makes a snapshot that was received what the next start begins with.
    fn store(
        &self,
        position: PhysicalOffset,
        last: Option<EntryId>,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        self.snapshots.save(position, bytes)?;
        // From the checkpoint on a start begins at the snapshot, whatever of the former log is
        // left; openraft's purge then resets the log.
        if let Some(last) = last {
            self.parts.log.begin_reset(position, last)?;
        }
        // Former snapshots go with what is purged: until then the log may start at one of them.
        self.parts.write_checkpoint(position, bytes)
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, StoredMembership)> {
        let progress = self.state.progress();
        Ok((progress.last.map(log_id), progress.membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            let applied = self.apply_entry(&entry, responder.is_some())?;
            if let Some(responder) = responder {
                responder.send(applied);
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Self> {
        let wanted = self.boundaries.lock().wanted.is_some();
        (force || wanted).then(|| self.clone())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig>,
        bytes: Bytes,
    ) -> io::Result<()> {
        let captured = snapshot::decode(&bytes).map_err(io::Error::other)?;
        if captured.progress.last != meta.last_log_id.as_ref().map(entry_id) {
            let text = format!("snapshot of {:?} announced as another", captured.progress.last);
            return Err(io::Error::other(text));
        }
        let position = captured.progress.position;
        let last = captured.progress.last;
        let stored = || self.store(position, last, &bytes).map_err(io::Error::other);
        self.room.when_there_is(stored).await?;
        {
            let mut boundaries = self.boundaries.lock();
            boundaries.crossed.clear();
            boundaries.wanted = None;
            boundaries.current = Some(Whole { position, meta: meta.clone(), bytes });
        }
        self.duplicates.replaced(last.map_or(Term(0), |last| last.term));
        self.state.install(captured);
        self.desk.skipped();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TypeConfig, Bytes>>> {
        let current = self.boundaries.lock().current.clone();
        Ok(current.map(|Whole { meta, bytes, .. }| Snapshot { meta, snapshot: bytes }))
    }
}
