//! A member's disk, and the threads that work on it, on simulated time.
//!
//! What it stores is [`SimulatedDisk`]'s. Here is how long it takes, and how it fails.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::planted::{Bug, is_planted};
use crate::store::files::{FileInfo, Fill, SegmentFile, Space, Through};
use crate::store::mmap::{Unpublished, Writer};
use crate::store::simulated_disk::SimulatedDisk;
use crate::store::store_file::StoreLock;
use crate::store::threads::{Turn, Work, Worker};
use crate::store::{Error, Files, MappedBytes};

/// The disk of a running member.
pub(super) struct Disk {
    pub(super) stored: SimulatedDisk,
    pub(super) condition: Arc<Condition>,
    boot: u64,
    runtime: Handle,
}

/// How well it does; the faults of a simulation change it.
pub(super) struct Condition {
    chance: Mutex<fastrand::Rng>,
    /// Longest usual time of a sync, ms.
    pub(super) sync_ms_max: AtomicU64,
    /// The next sync of a segment, or of the vote, fails.
    pub(super) fails_next_sync: AtomicBool,
    /// Derived data cannot be written, as when all that is left is the reserve.
    pub(super) refuses_runs: AtomicBool,
    /// A sync has failed in this life.
    pub(super) has_failed: AtomicBool,
    /// What a store is called by a member that keeps its name.
    usual_id: u64,
    /// Time that the raft thread itself spent waiting for the disk, ms.
    pub(super) waited_ms: AtomicU64,
}

impl Condition {
    /// A healthy disk, whose times `seed` draws.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            chance: Mutex::new(fastrand::Rng::with_seed(seed)),
            sync_ms_max: AtomicU64::new(4),
            fails_next_sync: AtomicBool::new(false),
            refuses_runs: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            usual_id: seed,
            waited_ms: AtomicU64::new(0),
        }
    }

    fn draw(&self, range: std::ops::RangeInclusive<u64>) -> u64 {
        self.chance.lock().u64(range)
    }

    fn sync_ms(&self) -> u64 {
        self.draw(0..=self.sync_ms_max.load(Relaxed))
    }
}

impl Disk {
    /// `stored`, as a member sees it that runs on `runtime` since the machine's start `boot`.
    pub(super) fn new(
        stored: SimulatedDisk,
        condition: Arc<Condition>,
        boot: u64,
        runtime: Handle,
    ) -> Self {
        Self { stored, condition, boot, runtime }
    }
}

impl Files for Disk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.stored.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<FileInfo>> {
        self.stored.list(dir)
    }

    fn segment(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn SegmentFile>> {
        let file = self.stored.segment(path, bytes)?;
        let (is_vote, disk) = (path.ends_with("vote"), self.stored.clone());
        Ok(Arc::new(Segment { file, is_vote, disk, condition: Arc::clone(&self.condition) }))
    }

    fn map(&self, path: &Path) -> io::Result<MappedBytes> {
        self.stored.map(path)
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        self.stored.read(path)
    }

    fn replace_with(&self, path: &Path, fill: &mut Fill<'_>) -> io::Result<()> {
        let is_run = path.parent().is_some_and(|dir| dir.ends_with("consumequeue"));
        if is_run && self.condition.refuses_runs.load(Relaxed) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no room for derived data"));
        }
        self.stored.replace_with(path, fill)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.stored.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.stored.sync_dir(dir)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.stored.space(dir)
    }

    fn lock(&self, _: &Path) -> Result<StoreLock, Error> {
        Ok(StoreLock::not_needed())
    }

    fn boot_id(&self) -> io::Result<String> {
        Ok(self.boot.to_string())
    }

    fn draw_id(&self) -> io::Result<u64> {
        if is_planted(Bug::KeepsItsName) {
            return Ok(self.condition.usual_id);
        }
        Ok(self.condition.draw(1..=u64::MAX))
    }

    fn start_worker(&self, name: &str, work: Work) -> io::Result<Arc<dyn Worker>> {
        let task = Arc::new(Task {
            is_sync: name == "sync",
            turns: Mutex::new(Turns { work: Some(work), tell: None }),
            wake: Notify::new(),
            condition: Arc::clone(&self.condition),
        });
        self.runtime.spawn(Arc::clone(&task).run());
        Ok(task)
    }
}

struct Segment {
    file: Arc<dyn SegmentFile>,
    is_vote: bool,
    disk: SimulatedDisk,
    condition: Arc<Condition>,
}

impl SegmentFile for Segment {
    fn map(&self) -> io::Result<Writer> {
        self.file.map()
    }

    fn write(&self, bytes: Unpublished<'_>) -> io::Result<()> {
        self.file.write(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        if self.is_vote {
            // On the raft thread, which waits for it.
            let waited = self.condition.sync_ms();
            self.condition.waited_ms.fetch_add(waited, Relaxed);
        }
        if self.condition.fails_next_sync.swap(false, Relaxed) {
            self.condition.has_failed.store(true, Relaxed);
            self.disk.fail_at(self.disk.step_count());
        }
        self.file.sync()
    }

    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        self.file.zero(range)
    }

    fn read_stored(&self, at: u64, out: &mut [u8], through: Through) -> io::Result<()> {
        self.file.read_stored(at, out, through)
    }
}

/// A worker as a task. A turn takes no time, and what follows from it waits for the time that it
/// would have taken: what others do meanwhile comes after it, as it must with a thread.
struct Task {
    is_sync: bool,
    turns: Mutex<Turns>,
    wake: Notify,
    condition: Arc<Condition>,
}

struct Turns {
    work: Option<Work>,
    /// What the last turn wants told when it is over.
    tell: Option<Box<dyn FnOnce() + Send>>,
}

enum Next {
    Tell,
    Wait(Option<Duration>),
    Over,
}

impl Task {
    async fn run(self: Arc<Self>) {
        loop {
            match self.turn() {
                Next::Tell => {
                    self.pause().await;
                    self.tell();
                }
                Next::Wait(limit) => {
                    let woken = self.wake.notified();
                    match limit {
                        Some(limit) => drop(tokio::time::timeout(limit, woken).await),
                        None => woken.await,
                    }
                    if self.is_sync {
                        self.pause().await; // a disk that is busy with something else
                    }
                }
                Next::Over => return,
            }
        }
    }

    async fn pause(&self) {
        let ms = if self.is_sync { self.condition.sync_ms() } else { self.condition.draw(0..=20) };
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    fn turn(&self) -> Next {
        let mut turns = self.turns.lock();
        let Some(work) = &mut turns.work else { return Next::Over };
        match work() {
            Turn::Done(tell) => {
                turns.tell = Some(tell);
                Next::Tell
            }
            Turn::Idle(limit) => Next::Wait(limit),
            Turn::End => {
                turns.work = None;
                Next::Over
            }
        }
    }

    fn tell(&self) {
        let tell = self.turns.lock().tell.take();
        if let Some(tell) = tell {
            tell();
        }
    }
}

impl Worker for Task {
    fn wake(&self) {
        self.wake.notify_one();
    }

    /// Whoever waits is the whole process: so what is waited for happens now.
    fn wait_until(&self, is_so: &mut dyn FnMut() -> bool) {
        self.tell();
        while !is_so() {
            match self.turn() {
                Next::Tell => self.tell(),
                Next::Wait(_) | Next::Over => return,
            }
        }
    }

    fn join(&self) {
        if !self.turns.is_locked() {
            self.wait_until(&mut || false);
        }
    }
}
