//! openraft's own conformance suite, unchanged, on our storage.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::entry::RaftEntry;
use openraft::storage::{
    EntryResponder, IOFlushed, LogState, RaftLogReader, RaftLogStorage, RaftSnapshotBuilder,
    RaftStateMachine,
};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, LogId, OptionalSend, StorageError};
use tempfile::TempDir;

use super::group_tests::options_alone;
use super::log_store::LogStore;
use super::membership;
use super::open;
use super::state_machine::StateMachine;
use super::type_config::{
    Ballot, CommittedLeaderId, LogEntry, RaftLogId, Stored, StoredMembership, TypeConfig, entry_id,
};
use crate::ids::{PhysicalOffset, StoreId};
use crate::store::entry::{HEADER_BYTES, Header, Kind, crc32c, total_bytes};
use crate::store::{RealFiles, ReceivedEntry};

/// The suite applies entries that it never appended. A group does not: so this gives them the
/// bytes that append would have given them, and leaves everything else to the state machine.
struct Storing(StateMachine);

impl Storing {
    fn stored(&self, entry: &mut LogEntry, position: &mut PhysicalOffset) {
        let (kind, body) = match &entry.payload {
            EntryPayload::Blank => (Kind::Blank, vec![]),
            EntryPayload::Normal(_) => (Kind::Data, vec![]),
            EntryPayload::Membership(members) => (Kind::Membership, membership::encode(members)),
        };
        let id = entry_id(&entry.log_id);
        let header = Header {
            total: u32::try_from(total_bytes(body.len() as u64)).unwrap(),
            index: id.index,
            term: id.term,
            proposer: StoreId(1),
            position: *position,
            kind,
            messages: 0,
            message_bytes: 0,
            body_bytes: u32::try_from(body.len()).unwrap(),
            body_crc: crc32c(&body),
        };
        let mut bytes = vec![0; header.total as usize];
        header.write(bytes.first_chunk_mut().unwrap());
        bytes[HEADER_BYTES..HEADER_BYTES + body.len()].copy_from_slice(&body);
        *position = header.end();
        let received = ReceivedEntry::take_from(&mut bytes.into()).unwrap();
        entry.stored = Some(Stored::Received(received));
    }
}

/// The suite wants a snapshot of now; a group makes them at segment boundaries.
struct Now(StateMachine);

impl RaftSnapshotBuilder<TypeConfig> for Now {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, Bytes>> {
        self.0.store_boundary_here()?;
        self.0.build_snapshot().await
    }
}

impl RaftStateMachine<TypeConfig> for Storing {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Now;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, StoredMembership)> {
        self.0.applied_state().await
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut position = self.0.state().progress().position;
        let entries: Vec<_> = entries.collect().await;
        let entries: Vec<_> = entries
            .into_iter()
            .map(|entry| {
                let (mut entry, responder) = entry?;
                if entry.stored.is_none() {
                    self.stored(&mut entry, &mut position);
                }
                Ok((entry, responder))
            })
            .collect();
        self.0.apply(futures_util::stream::iter(entries)).await
    }

    async fn get_snapshot_builder(&mut self) -> Now {
        Now(self.0.clone())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig>,
        snapshot: Bytes,
    ) -> io::Result<()> {
        self.0.install_snapshot(meta, snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TypeConfig, Bytes>>> {
        self.0.get_current_snapshot().await
    }
}

/// A group's log begins at index 0; some of the suite's logs begin later. What lies before is
/// filled with blank entries that nobody is shown.
#[derive(Clone)]
struct Padded {
    store: LogStore,
    first: Arc<AtomicU64>,
}

impl RaftLogReader<TypeConfig> for Padded {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<LogEntry>>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let mut entries = self.store.try_get_log_entries(range).await?;
        entries.retain(|entry| entry.log_id.index >= self.first.load(Ordering::Relaxed));
        Ok(entries)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Ballot>> {
        self.store.read_vote().await
    }

    async fn limited_get_log_entries(&mut self, from: u64, to: u64) -> io::Result<Vec<LogEntry>> {
        self.store.limited_get_log_entries(from, to).await
    }
}

impl RaftLogStorage<TypeConfig> for Padded {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        self.store.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Ballot) -> io::Result<()> {
        self.store.save_vote(vote).await
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> io::Result<()> {
        self.store.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> io::Result<Option<RaftLogId>> {
        self.store.read_committed().await
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<LogEntry> = entries.into_iter().collect();
        let empty = self.store.get_log_state().await?.last_log_id.is_none();
        let first = entries.first().map_or(0, |entry| entry.log_id.index);
        if empty && first > 0 {
            let blank = |index| {
                LogEntry::new(LogId::new(CommittedLeaderId::new(0), index), EntryPayload::Blank)
            };
            self.store.append((0..first).map(blank), IOFlushed::noop()).await?;
            self.first.store(first, Ordering::Relaxed);
        }
        self.store.append(entries, flushed).await
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        self.store.truncate_after(last).await
    }

    async fn purge(&mut self, upto: RaftLogId) -> io::Result<()> {
        self.store.purge(upto).await
    }
}

struct Builder;

impl StoreBuilder<TypeConfig, Padded, Storing, (TempDir, open::HeldStore)> for Builder {
    async fn build(
        &self,
    ) -> Result<((TempDir, open::HeldStore), Padded, Storing), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let options = options_alone(dir.path());
        let opened = open::open_undamaged(Arc::new(RealFiles), &options).unwrap();
        let state = opened.machine.state().clone();
        let log_store = LogStore::new(opened.log, opened.votes, state, opened.room, opened.repairs);
        let log_store = Padded { store: log_store, first: Arc::default() };
        Ok(((dir, opened.store), log_store, Storing(opened.machine)))
    }
}

#[test]
fn the_store_passes_openrafts_conformance_suite() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Suite::test_all(Builder)).unwrap();
}
