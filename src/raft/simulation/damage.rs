//! Disks that lose or change what was on them: one machine's at a time, until that one has all of
//! it again. More is not promised.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use super::World;
use super::machine::{Death, Machine};
use crate::ids::EntryIndex;
use crate::raft::snapshot;
use crate::store::simulated_disk::NameOrder;
use crate::store::{Durability, VoteFile, checkpoint};

/// Between looks at what is lost, ms.
const LOOK_MS: u64 = 50;

/// A machine whose disk may lack something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lossy {
    /// None.
    Nobody,
    /// Who has what is not known yet.
    Anybody,
    /// This one: it is new, or was powered off with what it had vouched for in memory.
    Lacks(usize),
    /// This one has entries that are not as they were written.
    Rots(usize),
}

impl Lossy {
    fn machine(self) -> Option<usize> {
        match self {
            Self::Nobody | Self::Anybody => None,
            Self::Lacks(index) | Self::Rots(index) => Some(index),
        }
    }
}

impl World {
    /// Whether this machine's disk may lose something now.
    pub(super) fn may_lose(&self, index: usize) -> bool {
        !self.operator.is_thin
            && (self.lossy == Lossy::Nobody || self.lossy.machine() == Some(index))
    }

    /// Notices when the machine that lacked something has all of it. Where others have purged what
    /// a running member finds damaged, its operator empties the store.
    pub(super) fn look_at_losses(&mut self) {
        let is_due = self.now.is_multiple_of(LOOK_MS) && self.lossy != Lossy::Nobody;
        let runs = |index: usize| self.machines[index].group().is_some();
        if !is_due || !self.is_settled() || !self.lossy.machine().is_none_or(runs) {
            return;
        }
        match (self.lossy, self.damaged()) {
            (Lossy::Rots(index), Some(at)) if self.is_purged_elsewhere(index, at) => {
                self.empty(index);
            }
            (_, Some(_)) => {}
            (_, None) => self.lossy = Lossy::Nobody,
        }
    }

    /// An entry that is damaged. As readers do, asks for its repair.
    fn damaged(&self) -> Option<EntryIndex> {
        let Lossy::Rots(index) = self.lossy else { return None };
        let group = self.machines[index].group()?;
        let log = &group.0.log;
        let read = log.entries(log.first_index(), EntryIndex(u64::MAX), u64::MAX);
        let gap = read.err().and_then(|error| error.gap())?;
        self.machines[index].set_time(self.now);
        group.repair(gap.position, Box::new(drop));
        Some(gap.index)
    }

    fn is_purged_elsewhere(&self, index: usize, at: EntryIndex) -> bool {
        let others = self.insiders().into_iter().filter(|other| *other != index);
        let mut firsts = others
            .filter_map(|other| self.machines[other].group())
            .map(|group| group.0.log.first_index());
        firsts.all(|first| first > at)
    }

    /// Whether a machine whose member dies forgets what it could not write: with entries that were
    /// acknowledged from memory it loses something.
    pub(super) fn forgets(&mut self, index: usize, death: Death) -> bool {
        let has_failed = self.machines[index].condition.has_failed.load(Relaxed);
        if !has_failed || death == Death::PowerLoss || self.chance.bool() {
            return false;
        }
        match self.plan.durability {
            Durability::Synced => true,
            Durability::PageCache if !self.may_lose(index) => false,
            Durability::PageCache => {
                if self.lossy == Lossy::Nobody {
                    self.lossy = Lossy::Lacks(index);
                }
                true
            }
        }
    }

    /// Whether `index` has, or may have, damaged entries.
    pub(super) fn rots(&self, index: usize) -> bool {
        self.lossy == Lossy::Rots(index)
    }

    /// The disk of a machine is replaced by an empty one.
    pub(super) fn empty(&mut self, index: usize) {
        if self.may_lose(index) {
            self.note(&format!("the disk of n{index} is lost"));
            self.lossy = Lossy::Lacks(index);
            self.oracle.loses(index, &self.machines[index].stored);
            self.die(index, Death::PowerLoss);
            self.machines[index].empty();
            self.oracle.emptied(index);
        }
    }

    /// Bits of an entry flip that the member knows to be committed, whatever happens to it next.
    /// Of others it cannot know, when it starts, that they are more than a torn tail.
    pub(super) fn rot(&mut self, index: usize) {
        if !self.may_lose(index) || matches!(self.lossy, Lossy::Lacks(_)) {
            return;
        }
        let machine = &self.machines[index];
        let first = machine.group().map_or(0, |group| group.0.log.first_index().0);
        let Some(to) = known_committed(machine).filter(|to| *to > first) else { return };
        let at = self.chance.u64(first..to);
        let Some((position, bytes)) = self.oracle.extent(at) else { return };
        let options = &machine.options;
        let base = position.0 - position.0 % options.segment_bytes;
        let path = options.log_dir.join(format!("{base:020}"));
        let mut place = (position.0 - base) as usize;
        place += self.chance.usize(0..bytes);
        let mask = 1 << self.chance.u32(0..8);
        // Or the segment was purged on a machine that is off.
        if machine.stored.rot(&path, place, |byte| byte ^ mask).is_ok() {
            self.note(&format!("entry {at} rots on the disk of n{index}"));
            self.lossy = Lossy::Rots(index);
        }
    }
}

/// Entries before this are committed as far as the disk of a machine knows that stops now.
fn known_committed(machine: &Machine) -> Option<u64> {
    let left = machine.stored.after_power_loss(NameOrder::Kept, &mut |_| false).ok()?;
    let dir: &Path = &machine.options.dir;
    let stored = checkpoint::load(&left, dir).ok().flatten();
    let contained = stored.and_then(|stored| snapshot::decode(&stored.state).ok()?.progress.last);
    let votes = VoteFile::open(&left, dir).ok();
    let noted = votes.and_then(|votes| votes.committed());
    contained.map(|id| id.index).max(noted).map(|index| index.0)
}
