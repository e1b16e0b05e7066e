//! One member and the machine it runs on: a runtime of its own that is moved on step by step, and
//! can be dropped at any moment.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::disk::{Condition, Disk};
use super::kernel;
use super::network::Network;
use crate::raft::start::Member;
use crate::raft::{Group, GroupOptions, open};
use crate::store::Files;
use crate::store::simulated_disk::{NameOrder, SimulatedDisk};

/// Size of a disk, unless it has to hold more, bytes.
pub(super) const DISK_BYTES: u64 = 8 << 20;
/// The wall clock when a simulation starts, ms.
const WALL_MS: i64 = 1_700_000_000_000;

/// How a member dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    /// The process ends, the machine goes on.
    Kill,
    /// The machine stops: what was not synced survives or does not.
    PowerLoss,
}

/// A machine, with or without a running member.
pub(super) struct Machine {
    pub(super) index: usize,
    pub(super) options: GroupOptions,
    pub(super) stored: SimulatedDisk,
    /// Size of its disk with nothing wrong, bytes.
    pub(super) disk_bytes: u64,
    pub(super) condition: Arc<Condition>,
    /// What its wall clock is ahead of the others', ms.
    pub(super) skew_ms: i64,
    pub(super) paused_until: u64,
    /// How it dies when its disk stops at the step that was chosen.
    pub(super) dies_by: Death,
    network: Network,
    boots: u64,
    origin: Instant,
    life: Option<Life>,
}

struct Life {
    // Dropped in this order: what runs, then what is held of it.
    runtime: Runtime,
    stop: Option<oneshot::Sender<()>>,
    state: Arc<Mutex<State>>,
}

#[derive(Default, Clone)]
enum State {
    #[default]
    Starting,
    Runs(Group),
    Failed(String),
    /// What it told in its last turn counts.
    Ended(Group),
}

impl Machine {
    /// A machine that is off. `origin` is the start of simulated time.
    pub(super) fn new(
        index: usize,
        options: GroupOptions,
        network: Network,
        origin: Instant,
        seed: u64,
    ) -> Self {
        Self {
            index,
            options,
            stored: SimulatedDisk::new(DISK_BYTES),
            disk_bytes: DISK_BYTES,
            condition: Arc::new(Condition::new(seed)),
            skew_ms: 0,
            paused_until: 0,
            dies_by: Death::Kill,
            network,
            boots: 0,
            origin,
            life: None,
        }
    }

    /// Switches it on.
    pub(super) fn start(&mut self, now: u64) {
        self.set_time(now);
        self.network.wake_up(self.index);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime needs nothing");
        let (stop, stopped) = oneshot::channel();
        let state = Arc::new(Mutex::new(State::default()));
        let condition = Arc::clone(&self.condition);
        let handle = runtime.handle().clone();
        let disk = Disk::new(self.stored.clone(), condition, self.boots, handle);
        let (options, network, index) = (self.options.clone(), self.network.clone(), self.index);
        let told = Arc::clone(&state);
        runtime.spawn(async move {
            let end = live(options, Arc::new(disk), &network, index, (&told, stopped)).await;
            *told.lock() = end;
        });
        self.life = Some(Life { runtime, stop: Some(stop), state });
    }

    /// Has a larger disk from now on.
    pub(super) fn grow(&mut self, disk_bytes: u64) {
        self.disk_bytes = disk_bytes;
        self.stored.resize(disk_bytes);
    }

    /// Asks the member to stop in order.
    pub(super) fn stop(&mut self) {
        self.life.as_mut().map(|life| life.stop.take().map(|stop| stop.send(())));
    }

    /// Ends the member as it is.
    pub(super) fn die(&mut self, death: Death, chance: &mut fastrand::Rng) {
        let Some(life) = self.life.take() else { return };
        if death == Death::PowerLoss {
            self.network.silence(self.index);
            self.boots += 1;
        }
        if !self.stored.has_stopped() {
            self.stored.stop_at(self.stored.step_count());
        }
        drop(life);
        self.condition.fails_next_sync.store(false, Relaxed);
        self.condition.has_failed.store(false, Relaxed);
        let left = match death {
            Death::Kill => self.stored.after_kill(),
            Death::PowerLoss => {
                let often = *chance.choice(&[0, 10, 50, 90, 100]).unwrap_or(&50);
                let survives = &mut |_| chance.u32(0..100) < often;
                self.stored.after_power_loss(NameOrder::Kept, survives)
            }
        };
        self.stored = left.expect("memory is all it takes");
    }

    /// Takes the disk out and puts in an empty one.
    pub(super) fn empty(&mut self) {
        self.stored = SimulatedDisk::new(self.disk_bytes);
    }

    /// Lets it run until `now`. Returns how it ended, if it did.
    pub(super) fn run_until(&mut self, now: u64) -> Option<Result<Death, String>> {
        if self.life.is_none() || now < self.paused_until {
            return None;
        }
        self.set_time(now);
        let step = Duration::from_millis(1);
        let until = tokio::time::Instant::from_std(self.origin + Duration::from_millis(now));
        let life = self.life.as_ref()?;
        life.runtime.block_on(async {
            let behind = until.saturating_duration_since(tokio::time::Instant::now());
            if behind > step {
                // It was paused: all that was due meanwhile is due at once.
                tokio::time::advance(behind - step).await;
            }
            tokio::time::sleep_until(until).await;
        });
        let waited = self.condition.waited_ms.swap(0, Relaxed);
        self.paused_until = self.paused_until.max(now + waited);
        let state = life.state.lock().clone();
        if self.stored.has_stopped() {
            return Some(Ok(self.dies_by));
        }
        match state {
            State::Starting | State::Runs(_) => None,
            State::Failed(why) => Some(Err(why)),
            State::Ended(_) => Some(Ok(Death::Kill)),
        }
    }

    /// The member, if it runs.
    pub(super) fn group(&self) -> Option<Group> {
        match &*self.life.as_ref()?.state.lock() {
            State::Runs(group) => Some(group.clone()),
            State::Starting | State::Failed(_) | State::Ended(_) => None,
        }
    }

    /// The member, also when it has just ended.
    pub(super) fn last_group(&self) -> Option<Group> {
        match &*self.life.as_ref()?.state.lock() {
            State::Runs(group) | State::Ended(group) => Some(group.clone()),
            State::Starting | State::Failed(_) => None,
        }
    }

    /// Whether it is switched on.
    pub(super) fn is_on(&self) -> bool {
        self.life.is_some()
    }

    /// What its wall clock shows, ms.
    pub(super) fn set_time(&self, now: u64) {
        kernel::set_time(now, WALL_MS + self.skew_ms + i64::try_from(now).unwrap_or(0));
    }
}

async fn live(
    options: GroupOptions,
    disk: Arc<dyn Files>,
    network: &Network,
    index: usize,
    (state, stopped): (&Mutex<State>, oneshot::Receiver<()>),
) -> State {
    let ending = CancellationToken::new();
    let opened = match open::open(disk, network.links(index), &options, &ending).await {
        Ok(opened) => opened,
        Err(error) => return State::Failed(error.to_string()),
    };
    let incoming = Some(network.listen(index));
    let member = match Member::start(&options, opened, incoming, ending).await {
        Ok(member) => member,
        Err(error) => return State::Failed(error.to_string()),
    };
    let group = member.parts().into_group(None, None);
    *state.lock() = State::Runs(group.clone());
    let _ = stopped.await; // asked to, or nobody is left to ask
    member.stop().await;
    State::Ended(group)
}
