//! Whether there is room on the disks of the group, and who waits until there is.
//!
//! ```text
//!  the disk ── looked at once a second ──► limits of the log ──► what clients send is refused here
//!                                     └──► why this member is full ── with each answer to its
//!                                          leader ──► heirs with room, too few members with room
//! ```
//!
//! Derived data that is written more slowly than messages come is bounded here, too: then the
//! disk has room, but does not take it in time. And a disk that takes seconds for a sync
//! ([`crate::raft::slow_disk`]) stops nothing: its member tells its leader, and should not lead.
//!
//! Messages stop first, then commands, then entries from a leader; what is left is this member's
//! own, for elections. Nothing of that ends the member: it goes on when there is room.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::raft::error::StorageError;
use crate::raft::group::GroupOptions;
use crate::raft::proposal::Proposal;
use crate::raft::slow_disk::{Longest, Pace, Syncs};
use crate::raft::type_config::LogEntry;
use crate::store::commit_log::Fit;
use crate::store::disk_space::{self, DiskState, Limits};
use crate::store::files::Space;
use crate::store::flush::SyncStats;
use crate::store::queues::Queues;
use crate::store::retention::Rules;
use crate::store::{self, CommitLog, Files};

const REMEDY: &str = "free space, or let messages go earlier (fileReservedTime): writes resume by \
                      themselves";
/// Between two looks for room by whoever waits for it; a new segment is tried once a second.
const POLL: Duration = Duration::from_millis(100);
/// Between two looks for a segment that is being made.
const SOON: Duration = Duration::from_millis(2);
/// What an entry may take beside its messages and commands: header, padding, code of commands.
const ENTRY_BYTES: u64 = 1024;

/// How fast this member's disk is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskPace {
    /// That it is slow, if it is: then its member leads no longer than it must.
    pub slow: Option<SlowDisk>,
    /// The longest sync of the last minute, also one that has not ended; `None`: there was none, or
    /// nobody waits for them (`flushDiskType=ASYNC_FLUSH`).
    pub longest: Option<Duration>,
}

/// A slow disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlowDisk {
    /// Which, and how long its slowest sync took.
    pub why: String,
    /// How long it counts as slow if it is fast from now on.
    pub left: Duration,
}

/// What is known about room, shared by all who ask.
pub(super) struct Room {
    log: CommitLog,
    queues: Queues,
    /// Of derived data in memory.
    unwritten_max: usize,
    log_dir: PathBuf,
    rules: ArcSwap<Rules>,
    disk: Mutex<DiskState>,
    /// Positions up to which the log may grow ([`Limits`]).
    messages: AtomicU64,
    commands: AtomicU64,
    /// Why this member takes no messages.
    own: ArcSwapOption<String>,
    /// Why too few others do.
    others: ArcSwapOption<String>,
    /// Voters that take none, as they said last, by store.
    shortages: Mutex<BTreeMap<u64, String>>,
    pace: Mutex<Pace>,
    longest: Mutex<Longest>,
    /// Why this member's disk is slow.
    own_slow: ArcSwapOption<String>,
    /// Voters whose disks are, as they said last, by store.
    slow: Mutex<BTreeMap<u64, String>>,
    /// Entries of the leader wait.
    held_back: AtomicBool,
    /// An operator wants room.
    asked: AtomicBool,
    ending: CancellationToken,
}

impl Room {
    pub(super) fn new(log: CommitLog, queues: Queues, options: &GroupOptions) -> Self {
        Self {
            log,
            queues,
            unwritten_max: options.limits.unwritten_bytes,
            log_dir: options.log_dir.clone(),
            rules: ArcSwap::from_pointee(options.retention),
            disk: Mutex::new(DiskState::Fine),
            messages: AtomicU64::new(Limits::NONE.messages),
            commands: AtomicU64::new(Limits::NONE.commands),
            own: ArcSwapOption::empty(),
            others: ArcSwapOption::empty(),
            shortages: Mutex::default(),
            pace: Mutex::new(Pace::new()),
            longest: Mutex::default(),
            own_slow: ArcSwapOption::empty(),
            slow: Mutex::default(),
            held_back: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            ending: CancellationToken::new(),
        }
    }

    /// From the next look at the disk on, other rules hold.
    pub(super) fn set_rules(&self, rules: Rules) {
        if **self.rules.load() != rules {
            self.rules.store(Arc::new(rules));
        }
    }

    /// When old segments go and when the disk is full.
    pub(super) fn rules(&self) -> Rules {
        **self.rules.load()
    }

    /// Old segments go at the next occasion, whatever the hour.
    pub(super) fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked for that since the last call.
    pub(super) fn was_asked(&self) -> bool {
        self.asked.swap(false, Ordering::Relaxed)
    }

    /// What is known before anything is taken; [`Self::look`] is called again and again from then
    /// on.
    pub(super) fn look_first(&self, files: &dyn Files) {
        match files.space(&self.log_dir) {
            Ok(space) => self.look(space),
            Err(error) => {
                tracing::warn!(%error, dir = %self.log_dir.display(), "cannot see the disk space");
            }
        }
    }

    /// Decides by the disk as it is now.
    pub(super) fn look(&self, space: Space) {
        let room = self.log.room();
        if room.is_last {
            self.log.retry_segment();
        }
        let limits = disk_space::limits(space, room, self.log.tail());
        self.messages.store(limits.messages, Ordering::Relaxed);
        self.commands.store(limits.commands, Ordering::Relaxed);
        let now = disk_space::decide(space, room, self.rules().ratios);
        let own = match now {
            DiskState::Full(reason) => {
                Some(Arc::new(format!("{}: {reason}; {REMEDY}", self.log_dir.display())))
            }
            DiskState::Fine | DiskState::CleanForced(_) => None,
        };
        self.own.store(own);
        let before = std::mem::replace(&mut *self.disk.lock(), now);
        self.say(&before, &now);
    }

    /// Looks how long syncs take; several times a second. Only what is acknowledged once it is on
    /// disk waits for them.
    pub(super) fn look_at_syncs(&self, now: Instant) {
        let SyncStats { begun, count: ended, .. } = self.log.sync_stats();
        let longest = self.log.take_sync_peak();
        let (took, under_way) = {
            let mut pace = self.pace.lock();
            (pace.look(Syncs { begun, ended, longest }, now), pace.under_way(now))
        };
        if let Some(longest) = longest.max(under_way) {
            self.longest.lock().note(longest, now);
        }
        let text = took.map(|took| {
            format!("{}: a sync took {:.1} s", self.log_dir.display(), took.as_secs_f64())
        });
        let before = self.own_slow.load();
        match (before.as_ref(), text) {
            (Some(before), Some(text)) if **before == text => {}
            (before, Some(text)) => {
                if before.is_none() {
                    tracing::warn!(why = text, "a slow disk: another member should lead");
                }
                self.own_slow.store(Some(Arc::new(text)));
            }
            (Some(_), None) => {
                tracing::info!(dir = %self.log_dir.display(), "the disk is as fast as it should be");
                self.own_slow.store(None);
            }
            (None, None) => {}
        }
    }

    /// Why this member's disk is slow, if it is; told to its leader.
    pub(super) fn slowness(&self) -> Option<Arc<String>> {
        self.own_slow.load_full()
    }

    /// The same, and what else is known of how fast this member's disk is.
    pub(super) fn disk_pace(&self, now: Instant) -> DiskPace {
        let slow = self.slowness().map(|why| SlowDisk {
            why: why.to_string(),
            left: self.pace.lock().left(now).unwrap_or_default(),
        });
        DiskPace { slow, longest: self.longest.lock().get(now) }
    }

    /// Why a leader takes no messages though it has room itself, if so.
    pub(super) fn others_shortage(&self) -> Option<Arc<String>> {
        self.others.load_full()
    }

    /// What a voter says of its disk; empty if it is fast.
    pub(super) fn heard_slow(&self, voter: u64, why: String) {
        let mut slow = self.slow.lock();
        if !why.is_empty() {
            slow.insert(voter, why);
        } else if !slow.is_empty() {
            slow.remove(&voter);
        }
    }

    /// Why a voter's disk is slow, if so, as far as it said.
    pub(super) fn slowness_of(&self, voter: u64) -> Option<String> {
        self.slow.lock().get(&voter).cloned()
    }

    fn say(&self, before: &DiskState, now: &DiskState) {
        let dir = self.log_dir.display();
        match (before, now) {
            (DiskState::Full(_), DiskState::Full(_)) => {}
            (_, DiskState::Full(why)) => {
                tracing::error!(%dir, %why, "no room: this member takes no messages");
            }
            (DiskState::Full(_), _) => {
                tracing::info!(%dir, "there is room again: this member takes messages");
            }
            (DiskState::Fine, DiskState::CleanForced(why)) => {
                tracing::warn!(%dir, %why, "little room: the oldest messages go before their time");
            }
            (DiskState::CleanForced(_) | DiskState::Fine, _) => {}
        }
    }

    /// A leader's look at its voters: number, name; of a member that follows there are none. What
    /// anybody else has said is forgotten.
    pub(super) fn look_at_others(&self, own: u64, voters: &[(u64, String)]) {
        let mut shortages = self.shortages.lock();
        shortages.retain(|id, _| voters.iter().any(|(voter, _)| voter == id));
        let with_reasons: Vec<_> = voters
            .iter()
            .filter(|(id, _)| *id != own)
            .filter_map(|(id, name)| Some((name.as_str(), shortages.get(id)?.as_str())))
            .collect();
        let others = too_few(voters.len(), &with_reasons);
        drop(shortages);
        self.slow.lock().retain(|id, _| voters.iter().any(|(voter, _)| voter == id));
        let before = self.others.swap(others.clone().map(Arc::new));
        match (before, others) {
            (None, Some(why)) => tracing::error!(why, "messages are refused"),
            (Some(_), None) => tracing::info!("enough members have room: messages are taken"),
            (None, None) | (Some(_), Some(_)) => {}
        }
    }

    /// Why this member takes no messages, if so; told to its leader.
    pub(super) fn shortage(&self) -> Option<Arc<String>> {
        self.own.load_full()
    }

    /// What a voter says of itself; empty if it has room.
    pub(super) fn heard(&self, voter: u64, shortage: String) {
        let mut shortages = self.shortages.lock();
        if !shortage.is_empty() {
            shortages.insert(voter, shortage);
        } else if !shortages.is_empty() {
            shortages.remove(&voter);
        }
    }

    /// Whether a voter has room, as far as it said, and a fast disk, unless it is room that this
    /// member lacks.
    pub(super) fn is_better_at(&self, voter: u64) -> bool {
        let room = self.shortage_of(voter).is_none();
        room && (self.shortage().is_some() || self.slowness_of(voter).is_none())
    }

    /// Why a voter takes no messages, if so, as far as it said.
    pub(super) fn shortage_of(&self, voter: u64) -> Option<String> {
        self.shortages.lock().get(&voter).cloned()
    }

    /// Why the leader refuses a proposal, if it does. What frees space (deleting, committing
    /// offsets) is taken for longer than messages are.
    pub(super) fn refusal(&self, proposal: &Proposal, waiting_bytes: usize) -> Option<String> {
        let limit = if proposal.messages.is_empty() {
            &self.commands
        } else {
            let full = self.own.load_full().or_else(|| self.others.load_full());
            if let Some(why) = full {
                return Some(why.to_string());
            }
            if let Some(bytes) = self.unwritten() {
                return Some(format!("{bytes} bytes of derived data wait for the disk"));
            }
            &self.messages
        };
        let limit = limit.load(Ordering::Relaxed);
        if limit == u64::MAX {
            return None;
        }
        let needed = (waiting_bytes as u64) + (proposal.bytes() as u64) + ENTRY_BYTES;
        let left = limit.saturating_sub(self.log.tail().0);
        (needed > left).then(|| {
            format!(
                "{}: {left} bytes are left before another log segment is made, {needed} are \
                 needed; {REMEDY}",
                self.log_dir.display()
            )
        })
    }

    /// Bytes of derived data, if too many wait to be written.
    fn unwritten(&self) -> Option<usize> {
        Some(self.queues.unwritten_bytes()).filter(|bytes| *bytes > self.unwritten_max)
    }

    /// Returns when a leader's entries fit into the log, and their derived data into memory.
    /// Cancel-safe.
    pub(super) async fn for_entries(&self, entries: &[LogEntry]) {
        let Some(last) = entries.last().and_then(|entry| entry.stored.as_ref()) else { return };
        let end = last.header().end();
        loop {
            if self.unwritten().is_some() {
                tokio::time::sleep(POLL).await;
                continue;
            }
            match self.log.fits(end, self.log.room().of_elections()) {
                Fit::Soon => tokio::time::sleep(SOON).await,
                Fit::No => {
                    if !self.held_back.swap(true, Ordering::Relaxed) {
                        let why = self.log.wait_for_segment().err().map(|error| error.to_string());
                        tracing::error!(why, "no room: this member takes no more entries");
                    }
                    tokio::time::sleep(POLL).await;
                }
                Fit::Yes => {
                    if self.held_back.swap(false, Ordering::Relaxed) {
                        tracing::info!("there is room again: this member takes entries");
                    }
                    return;
                }
            }
        }
    }

    /// Does what the disk has no room for as soon as it has; any other error comes back. Admission
    /// makes this rare: somebody else filled the disk within a second. Whoever waits here does not
    /// answer meanwhile, so others take over.
    pub(super) async fn when_there_is<T>(
        &self,
        mut step: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut told = false;
        loop {
            match step() {
                Err(error) if is_no_room(&error) && !self.ending.is_cancelled() => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(%error, "no room: this member stands still until there is");
                    }
                }
                done => {
                    if told {
                        tracing::info!("this member goes on");
                    }
                    return done;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = self.ending.cancelled() => {}
            }
        }
    }

    /// Nobody waits any more.
    pub(super) fn end(&self) {
        self.ending.cancel();
    }
}

/// Why messages would not find a majority with room among `voters`, of which these have none. Pure.
fn too_few(voters: usize, without: &[(&str, &str)]) -> Option<String> {
    let majority = voters / 2 + 1;
    if without.is_empty() || voters.saturating_sub(without.len()) >= majority {
        return None;
    }
    let each: Vec<_> = without.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    Some(format!(
        "too few members have room ({} of {voters} do not): {}",
        without.len(),
        each.join("; ")
    ))
}

fn is_no_room(error: &io::Error) -> bool {
    let Some(error) = error.get_ref() else { return false };
    error.downcast_ref::<store::Error>().is_some_and(store::Error::is_no_room)
        || error.downcast_ref::<StorageError>().is_some_and(StorageError::is_no_room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_must_have_room() {
        let (a, b) = (("n1", "full"), ("n2", "fuller"));
        assert_eq!(too_few(1, &[]), None);
        assert_eq!(too_few(3, &[a]), None);
        assert_eq!(
            too_few(3, &[a, b]).unwrap(),
            "too few members have room (2 of 3 do not): n1: full; n2: fuller"
        );
        assert_eq!(too_few(5, &[a, b]), None);
        assert!(too_few(4, &[a, b]).is_some() && too_few(2, &[a]).is_some());
    }

    #[test]
    fn lack_of_room_is_told_from_other_errors() {
        let no_room = || {
            store::Error::io("write", std::path::Path::new("/f"), io::ErrorKind::StorageFull.into())
        };
        assert!(is_no_room(&io::Error::other(no_room())));
        assert!(is_no_room(&io::Error::other(StorageError::from(no_room()))));
        assert!(!is_no_room(&io::Error::other(store::Error::Closed)));
        assert!(!is_no_room(&io::Error::other("text")));
    }
}
