//! Checks this member's log on its disk, slowly, all of it, again and again: for damage that nobody
//! has read yet, and for what differs from other members' logs. [`super::scrub`] decides.
//!
//! ```text
//!  round:  segment ─► stretch ─► read from the disk ─► damaged? ─► twice? ─► memory has it whole: written again
//!            ▲  │        ▲  │                                                else: repaired from a peer
//!            │  └────────│──└─► its hash ─► others have another one? ─► hashes of its entries ─► who is wrong
//!       scrub.json       └── pause                       then the runs of derived data; then nothing for a week
//! ```
//!
//! Each member goes at its own pace and keeps the hashes of what it found whole: who comes later to
//! a stretch compares, and nobody reads anything for others unless something differs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::clock;
use crate::ids::{EntryIndex, PhysicalOffset};
use crate::raft::applied::AppliedState;
use crate::raft::checkpointer::{StoreParts, aside};
use crate::raft::network::Network;
use crate::raft::repair::Repairer;
use crate::raft::room::Room;
use crate::raft::scrub::{
    Checked, Counts, Remedy, Saved, ScrubRules, Suspicion, compare, entry_hashes,
};
use crate::store;
use crate::store::scrub::{Cursor, Damage, Hash, Look, Stretch};
use crate::telemetry::log_limit::LogLimit;

/// How long another member may take to tell a hash.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long others are asked for one damaged entry; the next round asks again.
const REPAIR_PATIENCE: Duration = Duration::from_secs(10);
/// Between looks at the clock while no round is due, and at a disk that has no time.
const LOOK_PAUSE: Duration = Duration::from_secs(60);
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// What is told at most once a minute, each: one must not hide another.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Damage,
    Difference,
    /// A segment could not be read.
    Unchecked,
    /// Damage stays.
    Unrepaired,
    /// How far it is could not be noted.
    Unsaved,
}

/// What others hold of it. Cloning shares it.
#[derive(Clone)]
pub(super) struct Scrubbing {
    /// How fast and how often.
    pub(super) rules: watch::Sender<ScrubRules>,
    /// What it has found.
    pub(super) counts: Arc<Counts>,
    /// What is whole.
    pub(super) checked: Checked,
}

impl Scrubbing {
    /// With where the scrubber hears of other rules.
    pub(super) fn new(rules: ScrubRules) -> (Self, watch::Receiver<ScrubRules>) {
        let (rules, changes) = watch::channel(rules);
        (Self { rules, counts: Arc::default(), checked: Checked::default() }, changes)
    }
}

/// Of one member.
pub(super) struct Scrubber {
    pub(super) parts: StoreParts,
    pub(super) applied: AppliedState,
    pub(super) room: Arc<Room>,
    pub(super) network: Network,
    pub(super) repairs: Repairer,
    /// What is whole.
    pub(super) checked: Checked,
    pub(super) counts: Arc<Counts>,
    pub(super) rules: watch::Receiver<ScrubRules>,
    pub(super) told: LogLimit<Subject>,
}

/// Nobody is left who could change the rules: the member ends.
struct Ended;

impl Scrubber {
    /// Runs until the member ends.
    pub(super) async fn run(mut self) {
        // A member that checks nothing reads and writes nothing for it.
        let Ok(()) = self.until_on().await else { return };
        let mut saved = self.load().await;
        self.counts.ended(saved.ended_ms);
        loop {
            let rules = *self.rules.borrow_and_update();
            match rules.next_round(saved, clock::wall_ms()) {
                Some(Duration::ZERO) => match self.round(&mut saved).await {
                    Ok(()) => self.counts.ended(saved.ended_ms),
                    Err(Ended) => return,
                },
                Some(due) => tokio::select! {
                    biased;
                    changed = self.rules.changed() => if changed.is_err() { return },
                    () = sleep(due.min(LOOK_PAUSE)) => {}
                },
                None => match self.until_on().await {
                    Ok(()) => {}
                    Err(Ended) => return,
                },
            }
        }
    }

    async fn until_on(&mut self) -> Result<(), Ended> {
        let on = self.rules.wait_for(|rules| rules.bytes_per_second > 0).await;
        on.map(drop).map_err(|_| Ended)
    }

    /// Waits for as long as the rules say after a read.
    async fn pause(&mut self, bytes: u64, took: Duration) -> Result<(), Ended> {
        let pause = self.rules.borrow_and_update().pause(bytes, took);
        tokio::select! {
            biased;
            _ = self.rules.changed() => {} // looked at below
            () = sleep(pause) => {}
        }
        self.until_on().await?;
        while self.room.slowness().is_some() {
            sleep(BUSY_PAUSE).await;
        }
        Ok(())
    }

    /// All that is settled by now.
    async fn round(&mut self, saved: &mut Saved) -> Result<(), Ended> {
        let (before, started) = (self.counts.get(), clock::now());
        let upto = self.settled();
        let from = EntryIndex(saved.at.unwrap_or(0));
        let mut at = self.parts.log.segment_start(from, upto);
        while let Some(stretch) = at.and_then(|at| self.parts.log.stretch_at(at, upto)) {
            if stretch.begins_segment && saved.at != Some(stretch.first.index.0) {
                saved.at = Some(stretch.first.index.0);
                self.save(*saved).await;
                self.checked.forget_before(self.parts.log.first_position());
            }
            at = self.check(&stretch).await?;
        }
        self.check_runs().await?;
        self.counts.round_is_over();
        *saved = Saved { at: None, ended_ms: Some(clock::wall_ms()) };
        self.save(*saved).await;
        let found = self.counts.get();
        if found.bytes > before.bytes {
            tracing::info!(
                bytes = found.bytes - before.bytes,
                damaged = found.damaged - before.damaged,
                repaired = found.repaired - before.repaired,
                differing = found.differing - before.differing,
                took = ?started.elapsed(),
                "checked the log on the disk"
            );
        }
        Ok(())
    }

    /// Entries before this are committed, applied and on disk.
    fn settled(&self) -> EntryIndex {
        let applied = self.applied.progress().last.map(|last| last.index);
        let last = applied.min(self.parts.log.durable_index());
        last.map_or(EntryIndex(0), EntryIndex::next)
    }

    /// Checks a stretch, has repaired what is damaged, and compares it. Returns where to go on.
    async fn check(&mut self, stretch: &Stretch) -> Result<Option<Cursor>, Ended> {
        let (mut at, mut hash) = (stretch.first, Hash::default());
        let (mut suspicion, mut is_whole) = (Suspicion::default(), true);
        while !stretch.is_over(at) {
            let started = clock::now();
            let (look, so_far) = self.look(*stretch, at, hash).await;
            hash = so_far;
            let next = match look {
                Ok(Look::Whole(next)) => Some(next),
                Ok(Look::Damaged(damage)) => match suspicion.found(damage.at.index) {
                    Remedy::LookAgain => Some(damage.at),
                    Remedy::Mend => {
                        self.mend(&damage).await;
                        Some(damage.at)
                    }
                    Remedy::Leave => {
                        is_whole = false;
                        self.counts.leave();
                        damage.next
                    }
                },
                Ok(Look::Gone) => None,
                Err(error) => {
                    if self.told.allow(Subject::Unchecked, clock::now()).is_some() {
                        tracing::warn!(%error, "could not check a segment of the log");
                    }
                    None
                }
            };
            let Some(next) = next else {
                self.checked.forget(stretch.start);
                self.pause(0, started.elapsed()).await?;
                return Ok(stretch.next_segment());
            };
            let bytes = next.position.0.saturating_sub(at.position.0);
            self.counts.bytes.add(bytes);
            self.counts.reached(next);
            at = next;
            self.pause(bytes, started.elapsed()).await?;
        }
        if is_whole && stretch.is_complete(at) {
            self.checked.note(stretch.start, hash.value());
            self.compare(stretch, at, hash.value()).await;
        } else {
            self.checked.forget(stretch.start);
        }
        Ok(Some(at))
    }

    async fn look(
        &self,
        stretch: Stretch,
        at: Cursor,
        mut hash: Hash,
    ) -> (Result<Look, store::Error>, Hash) {
        let log = self.parts.log.clone();
        let look = move || (log.look(&stretch, at, &mut hash), hash);
        let done = aside(&*self.parts.files, look).await;
        done.unwrap_or_else(|| (Ok(Look::Gone), Hash::default())) // no thread: the next round
    }

    /// Has an entry repaired that was found damaged twice. Whether that helped the next look sees.
    async fn mend(&self, damage: &Damage) {
        let Damage { at: Cursor { index, position }, why, .. } = damage;
        let (index, position) = (*index, *position);
        let log = self.parts.log.clone();
        let read = move || match log.entries(index, index.next(), 0) {
            Ok(entries) if entries.is_empty() => Err(None), // the log starts anew
            Err(store::Error::Purged { .. }) => Err(None),
            Ok(_) => Ok(log.write_again(index)),
            Err(error) => Err(Some(error)),
        };
        let in_memory = aside(&*self.parts.files, read).await;
        if matches!(in_memory, None | Some(Err(None))) {
            return;
        }
        self.counts.damaged.increment();
        if let Some(unsaid) = self.told.allow(Subject::Damage, clock::now()) {
            tracing::warn!(%position, entry = %index, why, unsaid, "found damage on the disk");
        }
        let mended = match in_memory {
            Some(Ok(written)) => written.map_err(|error| error.to_string()),
            Some(Err(_)) | None => {
                let repair = self.repairs.make_whole(&self.parts.log, &self.applied, position);
                let in_time = timeout(REPAIR_PATIENCE, repair).await;
                in_time.unwrap_or_else(|_| Err("the others do not answer yet".to_owned()))
            }
        };
        match mended {
            Ok(()) => self.counts.repaired.increment(),
            Err(why) if self.told.allow(Subject::Unrepaired, clock::now()).is_some() => {
                tracing::error!(
                    %position, entry = %index, why,
                    "could not repair damage on the disk; tried again in the next round"
                );
            }
            Err(_) => {}
        }
    }

    /// Compares a stretch that is whole with what others found.
    async fn compare(&self, stretch: &Stretch, end: Cursor, own: u64) {
        let others = self.network.others();
        let asked = others.iter().map(|name| async move {
            let answer = self.network.stretch_hash(name, stretch.start, ASK_TIMEOUT).await;
            answer.ok().flatten() // an older member does not know the question
        });
        let differs = join_all(asked).await.into_iter().flatten().any(|hash| hash != own);
        if differs {
            let mut from = stretch.first.index;
            while let Some(next) = self.compare_entries(from, end.index).await {
                from = next;
            }
        }
    }

    /// Compares some entries; returns those to go on with.
    async fn compare_entries(&self, from: EntryIndex, to: EntryIndex) -> Option<EntryIndex> {
        let log = self.parts.log.clone();
        let own = aside(&*self.parts.files, move || entry_hashes(&log, from, to)).await?.ok()?;
        let to = EntryIndex(from.0 + own.len() as u64);
        let members = self.network.others();
        let asked = members.iter().map(|name| async move {
            let hashes = self.network.entry_hashes(name, (from, to), ASK_TIMEOUT).await;
            Some((name.clone(), hashes.ok()?))
        });
        let others: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
        if let Some(found) = compare(&own, &others, members.len() + 1) {
            self.counts.differ(&found);
            if self.told.allow(Subject::Difference, clock::now()).is_some() {
                let index = EntryIndex(from.0 + found.number as u64);
                let header = self.parts.log.header_of(index).ok().flatten();
                let position = header.map_or(PhysicalOffset(0), |header| header.position);
                let verdict = found.verdict.advice();
                let (entries, hashes) = (found.entries, found.hashes);
                tracing::error!(
                    entry = %index, %position, entries, hashes, verdict,
                    "members have different bytes for a committed entry, each whole by its \
                     checksums; nothing is overwritten"
                );
            }
        }
        Some(to).filter(|_| !own.is_empty())
    }

    /// Reads the derived data against its checksums, through memory. What is damaged is built again
    /// from the log (`Job::Mend`).
    async fn check_runs(&mut self) -> Result<(), Ended> {
        let mut at = (PhysicalOffset(0), 0);
        loop {
            let (queues, started) = (self.parts.queues.clone(), clock::now());
            let checked = aside(&*self.parts.files, move || queues.check_piece(at)).await;
            let Some(Some(piece)) = checked else { return Ok(()) };
            at = piece.next;
            self.pause(piece.bytes, started.elapsed()).await?;
        }
    }

    fn file(&self) -> PathBuf {
        self.parts.dir.join("scrub.json")
    }

    async fn load(&self) -> Saved {
        let (files, path) = (Arc::clone(&self.parts.files), self.file());
        let read = aside(&*self.parts.files, move || files.read(&path)).await;
        read.and_then(|read| read.ok().flatten()).map_or_else(Saved::default, |c| Saved::parse(&c))
    }

    /// Without it a restart begins elsewhere, so a failure is none of the member's, and what is left
    /// of a full disk is for others.
    async fn save(&self, saved: Saved) {
        if self.room.shortage().is_some() {
            return;
        }
        let (files, path) = (Arc::clone(&self.parts.files), self.file());
        let write = move || files.replace(&path, &saved.to_bytes());
        if let Some(Err(error)) = aside(&*self.parts.files, write).await
            && self.told.allow(Subject::Unsaved, clock::now()).is_some()
        {
            tracing::warn!(%error, "could not note how far the disk was checked");
        }
    }
}
