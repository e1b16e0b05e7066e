//! When to write a checkpoint and when to let old segments go: the raft thread's side of
//! [`checkpointer`](super::checkpointer).

use std::sync::Arc;
use std::time::Duration;

use openraft::Raft;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::ids::PhysicalOffset;
use crate::raft::checkpointer::{Checkpointer, Job, StoreParts};
use crate::raft::open::HeldStore;
use crate::raft::state_machine::StateMachine;
use crate::raft::type_config::TypeConfig;
use crate::store::queues::FlushPolicy;

const TICK: Duration = Duration::from_millis(200);

/// Decides and hands out the jobs. Cloning shares it.
#[derive(Clone)]
pub(super) struct Housekeeping(Arc<Shared>);

struct Shared {
    parts: StoreParts,
    machine: StateMachine,
    raft: Raft<TypeConfig, StateMachine>,
    policy: FlushPolicy,
    state: Mutex<State>,
}

struct State {
    store: Option<HeldStore>,
    thread: Option<Checkpointer>,
    /// A job that the store thread had no room for.
    waiting: Option<Job>,
    last: Instant,
    /// The log's first position, as far as the derived data knows.
    dropped: PhysicalOffset,
}

impl Housekeeping {
    /// Starts the store thread. The store stays locked until [`Housekeeping::finish`].
    pub(super) fn start(
        parts: StoreParts,
        machine: StateMachine,
        raft: Raft<TypeConfig, StateMachine>,
        store: HeldStore,
    ) -> std::io::Result<Self> {
        let thread = Checkpointer::start(parts.clone())?;
        let state = State {
            store: Some(store),
            thread: Some(thread),
            waiting: None,
            last: Instant::now(),
            dropped: parts.log.first_position(),
        };
        let (policy, state) = (FlushPolicy::default(), Mutex::new(state));
        Ok(Self(Arc::new(Shared { parts, machine, raft, policy, state })))
    }

    /// Runs until the member ends.
    pub(super) async fn run(self) {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tick.tick().await;
            self.turn();
        }
    }

    /// Everything up to `position` may go: offers the snapshot there and purges the log before it.
    pub(super) async fn purge_to(&self, position: PhysicalOffset) {
        self.0.machine.want_snapshot(position);
        if let Err(error) = self.0.raft.trigger().snapshot().await {
            tracing::warn!(%error, %position, "could not purge");
        }
    }

    fn turn(&self) {
        let mut state = self.0.state.lock();
        if let Some(job) = state.waiting.take() {
            state.offer(job);
            return;
        }
        let first = self.0.parts.log.first_position();
        if first > state.dropped {
            state.dropped = first;
            state.offer(Job::DropBefore(first));
            return;
        }
        let bytes = self.0.parts.queues.unfrozen_bytes();
        if self.0.policy.due(bytes, state.last.elapsed()) {
            state.last = Instant::now();
            let job = self.checkpoint();
            state.offer(job);
        }
    }

    /// The state as of the last applied entry. On the raft thread, where apply runs as well: so
    /// what is frozen and what is captured are the same.
    fn checkpoint(&self) -> Job {
        let crossed = self.0.machine.take_crossed();
        self.0.parts.queues.freeze();
        Job::Checkpoint { captured: Box::new(self.0.machine.state().capture()), crossed }
    }

    /// Writes a last checkpoint, ends the store thread and marks the store as cleanly closed.
    pub(super) fn finish(&self) {
        let mut state = self.0.state.lock();
        let last = self.checkpoint();
        if let Some(thread) = state.thread.take() {
            thread.finish(last);
        }
        if let Err(error) = self.0.parts.log.close() {
            tracing::error!(%error, "the log did not close cleanly");
            return;
        }
        if let Some(store) = state.store.take()
            && let Err(error) = store.stamp.mark_clean()
        {
            tracing::warn!(%error, "could not mark the store as cleanly closed");
        }
    }
}

impl State {
    fn offer(&mut self, job: Job) {
        if let Some(thread) = &self.thread {
            self.waiting = thread.offer(job).err();
        }
    }
}
