//! A member whose raft thread stands still.

use std::sync::{Arc, mpsc};

use parking_lot::Mutex;

use super::members::Trio;
use super::*;
use crate::raft::{QueueAdvance, QueueListener, Role};

/// Holds the raft thread up at the next message, until the other end is dropped.
pub(super) struct HoldUp(pub(super) Mutex<mpsc::Receiver<()>>);

impl QueueListener for HoldUp {
    fn advanced(&self, _: &[QueueAdvance]) {
        // An error: nobody holds it up any more.
        let _ = self.0.lock().recv();
    }

    fn unsettled(&self, _: &str) {}

    fn replaced(&self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hangs_closes_its_connections_and_ends_and_another_one_leads() {
    let trio = Trio::deploy().await;
    let leader = trio.leader();
    leader.create_topic("T", 1).await;
    let broker = Arc::clone(leader.running.broker());
    let Role::Leader { term } = broker.group.role() else { panic!("it leads") };
    let (hold, held) = mpsc::channel();
    broker.group.set_listener(Arc::new(HoldUp(Mutex::new(held))));
    let told = leader.client.call(&leader.address, send("T", 0, "", "m"), WITHIN).await;
    assert!(told.is_err(), "the connection is closed: {told:?}");
    let why = tokio::task::block_in_place(|| trio.ended.recv_timeout(WITHIN)).unwrap();
    assert!(why.contains("the raft thread did not turn"), "{why}");
    let (_, other) = trio.followers()[0];
    let leads = || {
        trio.running().any(|(_, m)| {
        matches!(m.running.broker().group.role(), Role::Leader { term: later } if later > term)
    })
    };
    until(leads).await;
    assert_eq!(other.send("T", 0, "", "after").await, 1, "what hung was stored");
    drop(hold);
    trio.stop().await;
}
