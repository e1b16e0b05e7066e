//! openraft's own conformance suite, unchanged, on our storage.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::group::{GroupOptions, Timing};
use super::log_store::LogStore;
use super::open;
use super::proposer::Limits;
use super::state_machine::StateMachine;
use super::type_config::TypeConfig;
use super::{PeerAddress, Peers};
use crate::store::{Durability, RealFiles};

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, (TempDir, open::HeldStore)> for Builder {
    async fn build(
        &self,
    ) -> Result<((TempDir, open::HeldStore), LogStore, StateMachine), StorageError<TypeConfig>>
    {
        let dir = tempfile::tempdir().unwrap();
        let address = PeerAddress { host: "127.0.0.1".to_owned(), port: 1 };
        let options = GroupOptions {
            cluster: "C".to_owned(),
            group: "G".to_owned(),
            member: "n0".to_owned(),
            peers: Peers::new([("n0".to_owned(), address)]),
            listen: None,
            dir: dir.path().to_owned(),
            log_dir: dir.path().join("commitlog"),
            segment_bytes: 1024 * 1024,
            durability: Durability::PageCache,
            timing: Timing::default(),
            limits: Limits::default(),
        };
        let opened = open::open(Arc::new(RealFiles), &options).unwrap();
        let state = opened.machine.state().clone();
        let id = opened.store.stamp.id();
        let log_store = LogStore::new(opened.log, opened.votes, state, id);
        Ok(((dir, opened.store), log_store, opened.machine))
    }
}

#[test]
fn the_store_passes_openrafts_conformance_suite() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Suite::test_all(Builder)).unwrap();
}
