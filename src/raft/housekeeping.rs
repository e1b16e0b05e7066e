//! When to write a checkpoint, when to let old segments go, when to look at the disk, and when to
//! let another one lead that has room: the raft thread's side of
//! `checkpointer`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver as _;
use parking_lot::Mutex;
use tokio::time::{Instant, Interval};

use crate::clock;
use crate::ids::PhysicalOffset;
use crate::raft::StartError;
use crate::raft::checkpointer::{self, Checkpointer, Job, StoreParts};
use crate::raft::chronicle::Chronicle;
use crate::raft::doubt::Doubt;
use crate::raft::group::GroupOptions;
use crate::raft::handover;
use crate::raft::network::Network;
use crate::raft::offers::Offers;
use crate::raft::open::HeldStore;
use crate::raft::room::Room;
#[cfg(test)]
use crate::raft::simulation::planted::{Bug, is_planted};
use crate::raft::state_machine::StateMachine;
use crate::raft::type_config::{Membership, TypeConfig};
use crate::store::files::Space;
use crate::store::queues::FlushPolicy;
use crate::store::retention::{self, Asked, Moment, Purge, Reason};
use crate::store::{Durability, Files, Reserve};
use crate::telemetry::log_limit::LogLimit;

/// Between two looks at what is due.
pub(super) const TICK: Duration = Duration::from_millis(200);
/// Ticks between looks at the disk: one second, so that service returns soon after room does.
const TICKS_PER_LOOK: u32 = 5;
/// What could not be mended is tried again no sooner than after this.
const BETWEEN_MENDS: Duration = Duration::from_secs(10);
/// A leader that made way and leads again does so no sooner than after this.
const BETWEEN_WAYS: Duration = Duration::from_secs(10);
/// Looks at the disk between decisions about old segments (`cleanResourceInterval`, 10 s).
const LOOKS_PER_PURGE: u32 = 10;
/// How long others may take to say what their clocks show.
const CLOCKS_TIMEOUT: Duration = Duration::from_secs(1);
/// How far this member's clock may be ahead of its group's before the log tells …
const AHEAD: Duration = Duration::from_secs(60);
/// … each so long.
const BETWEEN_CLOCKS_TOLD: Duration = Duration::from_secs(600);

/// How long there is no snapshot to purge by before the log tells, each time.
const BETWEEN_MISSING_TOLD: Duration = Duration::from_secs(600);

/// Decides and hands out the jobs. Cloning shares it.
#[derive(Clone)]
pub(super) struct Housekeeping(Arc<Shared>);

struct Shared {
    parts: StoreParts,
    machine: StateMachine,
    raft: Raft<TypeConfig, StateMachine>,
    network: Network,
    policy: FlushPolicy,
    log_dir: PathBuf,
    reserve: Reserve,
    /// Whether what is acknowledged is on disk.
    synced: bool,
    room: Arc<Room>,
    doubt: Doubt,
    offers: Offers,
    chronicle: Chronicle,
    state: Mutex<State>,
}

struct State {
    store: Option<HeldStore>,
    thread: Option<Checkpointer>,
    /// A job that the store thread had no room for.
    waiting: Option<Job>,
    last: Instant,
    /// When damaged derived data was last built again.
    mended: Option<Instant>,
    /// When the log last told that this member's clock is ahead.
    told_clocks: LogLimit,
    /// Since when no snapshot was found to purge by, or since the log told.
    missing: Option<Instant>,
    /// The log's first position, as far as the derived data knows.
    dropped: PhysicalOffset,
}

impl Housekeeping {
    /// Starts the store thread. The store stays locked until [`Housekeeping::finish`]. `network`
    /// leads to the other members of `raft`.
    pub(super) fn start(
        parts: StoreParts,
        machine: StateMachine,
        (raft, network): (Raft<TypeConfig, StateMachine>, Network),
        store: HeldStore,
        ((doubt, room, offers), chronicle): ((&Doubt, &Arc<Room>, &Offers), Chronicle),
        options: &GroupOptions,
    ) -> Result<Self, StartError> {
        let thread = Checkpointer::start(parts.clone())
            .map_err(|error| StartError::Core { why: error.to_string() })?;
        let state = State {
            store: Some(store),
            thread: Some(thread),
            waiting: None,
            last: Instant::now(),
            mended: None,
            told_clocks: LogLimit::new(BETWEEN_CLOCKS_TOLD),
            missing: None,
            dropped: PhysicalOffset(0), // a former life may have left some
        };
        let files = Arc::clone(&parts.files);
        Ok(Self(Arc::new(Shared {
            parts,
            machine,
            raft,
            network,
            policy: FlushPolicy::default(),
            log_dir: options.log_dir.clone(),
            reserve: Reserve::new(files, &options.log_dir, options.segment_bytes),
            synced: options.durability == Durability::Synced,
            room: Arc::clone(room),
            doubt: doubt.clone(),
            offers: offers.clone(),
            chronicle,
            state: Mutex::new(state),
        })))
    }

    /// Runs until the member ends.
    pub(super) async fn run(self, mut tick: Interval) {
        let (mut ticks, mut looks) = (0_u32, 0_u32);
        let mut made_way = None;
        loop {
            let now = tick.tick().await;
            self.turn();
            if self.0.synced {
                self.0.room.look_at_syncs(now);
            }
            if self.0.room.slowness().is_some() {
                self.make_way(&mut made_way).await;
            }
            ticks = ticks.wrapping_add(1);
            if !ticks.is_multiple_of(TICKS_PER_LOOK) {
                continue;
            }
            let Some(space) = self.look_at_disk().await else { continue };
            self.make_way(&mut made_way).await;
            looks = looks.wrapping_add(1);
            let asked = self.0.room.was_asked();
            if asked || looks.is_multiple_of(LOOKS_PER_PURGE) {
                self.purge(space, if asked { Asked::Now } else { Asked::No }).await;
            }
        }
    }

    async fn look_at_disk(&self) -> Option<Space> {
        let (reserve, dir) = (self.0.reserve.clone(), self.0.log_dir.clone());
        let look = move || {
            // Without room it fails each time; what follows from that is told by `Room`.
            let _ = reserve.refill();
            reserve.space(&dir)
        };
        let space = match checkpointer::aside(&*self.0.parts.files, look).await? {
            Ok(space) => space,
            Err(error) => {
                tracing::warn!(%error, dir = %self.0.log_dir.display(), "cannot see the disk space");
                return None;
            }
        };
        self.0.room.look(space);
        let metrics = self.0.raft.metrics().borrow_watched().clone();
        let voters = match metrics.state.is_leader() {
            true => voters(metrics.membership_config.membership()),
            false => Vec::new(),
        };
        self.0.room.look_at_others(metrics.id, &voters);
        self.0.doubt.look_at_others(&voters);
        Some(space)
    }

    /// A leader without room, or with a slow disk, lets a member lead that has room on a fast one.
    async fn make_way(&self, made_way: &mut Option<Instant>) {
        let lately = made_way.is_some_and(|at| at.elapsed() < BETWEEN_WAYS);
        let Shared { room, raft, .. } = &*self.0;
        let can_lead = room.shortage().is_none() && room.slowness().is_none();
        if lately || can_lead || !raft.is_leader() {
            return;
        }
        let Shared { machine, doubt, offers, chronicle, .. } = &*self.0;
        let fitness = (doubt, &**room, offers);
        if handover::make_way(raft, (machine.desk(), chronicle), fitness).await {
            *made_way = Some(Instant::now());
        }
    }

    /// Lets old segments go, if it is time: the snapshot at the new start becomes the one that
    /// members behind it get, and openraft purges the log up to it.
    async fn purge(&self, space: Space, asked: Asked) {
        let Some(purge) = self.due(space, asked).await else { return };
        let (upto, offered) = (self.limit(purge.before), self.0.machine.offered());
        let above = offered.unwrap_or(PhysicalOffset(0));
        if above >= upto {
            return; // it is on its way
        }
        let snapshots = self.0.parts.snapshots.clone();
        let find = move || snapshots.highest(above, upto);
        let snapshot = match checkpointer::aside(&*self.0.parts.files, find).await {
            Some(Ok(Some(snapshot))) => snapshot,
            Some(Ok(None)) => return self.tell_missing(upto),
            Some(Err(error)) => return tracing::warn!(%error, "could not purge"),
            None => return,
        };
        self.0.state.lock().missing = None;
        let before = snapshot.position;
        tracing::info!(%before, due = %purge.before, why = ?purge.reason, "purging");
        self.0.machine.want_snapshot(snapshot);
        if let Err(error) = self.0.raft.trigger().snapshot().await {
            tracing::warn!(%error, %before, "could not purge");
        }
    }

    /// What may go of what is due: a start needs the log from the checkpoint on.
    fn limit(&self, due: PhysicalOffset) -> PhysicalOffset {
        #[cfg(test)]
        if is_planted(Bug::PurgesTooMuch) {
            return due;
        }
        due.min(self.0.parts.settled.position())
    }

    /// There is no snapshot to purge by. That is usual for a moment: it is written after apply has
    /// crossed the boundary.
    fn tell_missing(&self, upto: PhysicalOffset) {
        let mut state = self.0.state.lock();
        let since = state.missing.get_or_insert_with(Instant::now);
        if since.elapsed() >= BETWEEN_MISSING_TOLD {
            *since = Instant::now();
            tracing::warn!(%upto, "old messages stay: no snapshot was stored to purge by");
        }
    }

    /// What may go. Messages are old when a majority of the voters' clocks says so: a clock that
    /// jumps ahead takes nothing away.
    async fn due(&self, space: Space, asked: Asked) -> Option<Purge> {
        let (zone, rules) = (TimeZone::system(), self.0.room.rules());
        let log = self.0.parts.log.clone();
        let segments = checkpointer::aside(&*self.0.parts.files, move || log.segments()).await?;
        let due_at = |now_ms| {
            let moment = Moment { now_ms, zone: &zone, space, asked };
            retention::decide(&segments, &rules, moment)
        };
        let own_ms = clock::wall_ms();
        let purge = due_at(own_ms)?;
        if purge.reason == Reason::Forced {
            return Some(purge); // whatever its age
        }
        if !purge.reason.is_pressing() && self.0.room.slowness().is_some() {
            if asked == Asked::Now {
                self.0.room.ask(); // once the disk is fast
            }
            return None;
        }
        let Some(agreed_ms) = self.agreed_ms(own_ms).await else {
            tracing::debug!("nothing goes by age: a majority must say what time it is");
            return None;
        };
        self.tell_clocks(own_ms, agreed_ms);
        due_at(agreed_ms)
    }

    /// The time that a majority of the voters agrees on.
    async fn agreed_ms(&self, own_ms: i64) -> Option<i64> {
        let metrics = self.0.raft.metrics().borrow_watched().clone();
        let voters = voters(metrics.membership_config.membership());
        let network = &self.0.network;
        let clocks = voters.iter().map(|(id, name)| async move {
            if *id == metrics.id {
                return Some(own_ms);
            }
            Some(network.state(name, CLOCKS_TIMEOUT).await.ok()?.wall_ms)
        });
        let known = join_all(clocks).await.into_iter().flatten().collect();
        retention::agreed_ms(known, voters.len())
    }

    fn tell_clocks(&self, own_ms: i64, agreed_ms: i64) {
        let ahead = u64::try_from(own_ms.saturating_sub(agreed_ms)).unwrap_or(0);
        let is_ahead = Duration::from_millis(ahead) >= AHEAD;
        let now = Instant::now().into_std();
        if !is_ahead || self.0.state.lock().told_clocks.allow((), now).is_none() {
            return;
        }
        let time =
            |ms| Timestamp::from_millisecond(ms).map_or_else(|e| e.to_string(), |t| t.to_string());
        let (own, group) = (time(own_ms), time(agreed_ms));
        tracing::warn!(own, group, "this member's clock is ahead: old messages go by the group's");
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
        let lately = state.mended.is_some_and(|at| at.elapsed() < BETWEEN_MENDS);
        if !lately && self.0.parts.queues.has_damage() {
            state.mended = Some(Instant::now());
            state.offer(Job::Mend);
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
        let mut last = self.checkpoint();
        if let (Some(Job::Checkpoint { crossed: mut all, .. }), Job::Checkpoint { crossed, .. }) =
            (state.waiting.take(), &mut last)
        {
            all.append(crossed); // handed out, and never taken
            *crossed = all;
        }
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

fn voters(membership: &Membership) -> Vec<(u64, String)> {
    let name = |id| membership.get_node(&id).map_or_else(String::new, |m| m.name.clone());
    membership.voter_ids().map(|id| (id, name(id))).collect()
}

impl State {
    fn offer(&mut self, job: Job) {
        if let Some(thread) = &self.thread {
            self.waiting = thread.offer(job).err();
        }
    }
}
