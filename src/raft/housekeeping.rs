//! When to write a checkpoint, when to let old segments go, and whether there is room for more
//! messages: the raft thread's side of [`checkpointer`](super::checkpointer).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::tz::TimeZone;

use openraft::Raft;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::clock;
use crate::ids::PhysicalOffset;
use crate::raft::checkpointer::{Checkpointer, Job, StoreParts};
use crate::raft::group::GroupOptions;
use crate::raft::open::HeldStore;
use crate::raft::state_machine::StateMachine;
use crate::raft::type_config::TypeConfig;
use crate::store::disk_space::{self, DiskState, LogRoom};
use crate::store::files::Space;
use crate::store::queues::FlushPolicy;
use crate::store::retention::{self, Asked, Moment, Rules};

const TICK: Duration = Duration::from_millis(200);
/// Ticks between looks at the disk: one second, so that service returns soon after room does.
const TICKS_PER_LOOK: u32 = 5;
/// Looks at the disk between decisions about old segments (`cleanResourceInterval`, 10 s).
const LOOKS_PER_PURGE: u32 = 10;

/// Decides and hands out the jobs. Cloning shares it.
#[derive(Clone)]
pub(super) struct Housekeeping(Arc<Shared>);

struct Shared {
    parts: StoreParts,
    machine: StateMachine,
    raft: Raft<TypeConfig, StateMachine>,
    policy: FlushPolicy,
    log_dir: PathBuf,
    room: Arc<Room>,
    state: Mutex<State>,
}

/// Whether messages may be stored, when old ones go, and whether an operator asked for room.
/// Shared with the handle.
pub(super) struct Room {
    disk: ArcSwap<DiskState>,
    asked: AtomicBool,
    rules: ArcSwap<Rules>,
}

impl Room {
    fn new(rules: Rules) -> Self {
        let disk = ArcSwap::from_pointee(DiskState::Fine);
        Self { disk, asked: AtomicBool::new(false), rules: ArcSwap::from_pointee(rules) }
    }

    /// From the next look at the disk on, other rules hold.
    pub(super) fn set_rules(&self, rules: Rules) {
        if **self.rules.load() != rules {
            self.rules.store(Arc::new(rules));
        }
    }

    /// Why no message may be stored now, if so.
    pub(super) fn refusal(&self) -> Option<String> {
        match **self.disk.load() {
            DiskState::Full(reason) => Some(reason.to_string()),
            DiskState::Fine | DiskState::CleanForced(_) => None,
        }
    }

    /// Old segments go at the next occasion, whatever the hour.
    pub(super) fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }
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
        options: &GroupOptions,
    ) -> std::io::Result<Self> {
        let thread = Checkpointer::start(parts.clone())?;
        let state = State {
            store: Some(store),
            thread: Some(thread),
            waiting: None,
            last: Instant::now(),
            dropped: PhysicalOffset(0), // a former life may have left some
        };
        Ok(Self(Arc::new(Shared {
            parts,
            machine,
            raft,
            policy: FlushPolicy::default(),
            log_dir: options.log_dir.clone(),
            room: Arc::new(Room::new(options.retention)),
            state: Mutex::new(state),
        })))
    }

    /// What the handle asks about room.
    pub(super) fn room(&self) -> Arc<Room> {
        Arc::clone(&self.0.room)
    }

    /// Runs until the member ends.
    pub(super) async fn run(self) {
        let mut tick = tokio::time::interval(TICK);
        let (mut ticks, mut looks) = (0_u32, 0_u32);
        loop {
            tick.tick().await;
            self.turn();
            ticks = ticks.wrapping_add(1);
            if !ticks.is_multiple_of(TICKS_PER_LOOK) {
                continue;
            }
            let Some(space) = self.look_at_disk().await else { continue };
            looks = looks.wrapping_add(1);
            let asked = self.0.room.asked.swap(false, Ordering::Relaxed);
            if asked || looks.is_multiple_of(LOOKS_PER_PURGE) {
                self.purge(space, if asked { Asked::Now } else { Asked::No }).await;
            }
        }
    }

    async fn look_at_disk(&self) -> Option<Space> {
        let (files, dir) = (Arc::clone(&self.0.parts.files), self.0.log_dir.clone());
        let looked = tokio::task::spawn_blocking(move || files.space(&dir)).await.ok()?;
        let space = match looked {
            Ok(space) => space,
            Err(error) => {
                tracing::warn!(%error, dir = %self.0.log_dir.display(), "cannot see the disk space");
                return None;
            }
        };
        let log = &self.0.parts.log;
        let room = LogRoom {
            segment_bytes: self.0.machine.segment_bytes(),
            allocated_bytes: log.allocated_ahead(),
        };
        let now = disk_space::decide(space, room, self.0.room.rules.load().ratios);
        let before = self.0.room.disk.swap(Arc::new(now));
        say_disk(&before, &now);
        Some(space)
    }

    /// Lets old segments go, if it is time: the snapshot at the new start becomes the one that
    /// members behind it get, and openraft purges the log up to it.
    async fn purge(&self, space: Space, asked: Asked) {
        let (now_ms, zone) = (clock::wall_ms(), TimeZone::system());
        let moment = Moment { now_ms, zone: &zone, space, asked };
        let segments = self.0.parts.log.segments();
        let rules = **self.0.room.rules.load();
        let Some(purge) = retention::decide(&segments, &rules, moment) else { return };
        let position = purge.before;
        // The snapshot is written after apply has crossed the boundary; before, it must wait.
        let stored = self.0.parts.snapshots.positions().unwrap_or_default();
        if !stored.contains(&position) || self.0.machine.offered() >= Some(position) {
            return;
        }
        tracing::info!(before = %position, segments = purge.segments, why = ?purge.reason, "purging");
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
        if self.0.policy.due(bytes, state.last.elapsed()) || self.0.machine.has_crossed() {
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

fn say_disk(before: &DiskState, now: &DiskState) {
    match (before, now) {
        (DiskState::Full(_), DiskState::Full(_)) => {}
        (_, DiskState::Full(why)) => tracing::error!(%why, "no room: messages are refused"),
        (DiskState::Full(_), _) => tracing::info!("there is room again: messages are taken"),
        (DiskState::Fine, DiskState::CleanForced(why)) => {
            tracing::warn!(%why, "little room: the oldest messages go before their time");
        }
        (DiskState::CleanForced(_) | DiskState::Fine, _) => {}
    }
}
