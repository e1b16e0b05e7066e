//! `vote`: term and vote, on disk before anyone is told; and how far the log is known to be
//! committed, which may be lost.
//!
//! ```text
//!  page 0  vote     page 1  vote     page 2  committed     page 3  committed
//!  slot: magic 4 │ zero 4 │ sequence 8 │ term or index 8 │ voted for 8 │ flags 8 │ CRC-32C 4 (of 40)
//!
//!  a vote:  write slot n to page n % 2 ──► sync ──► copy it to the other page ──► told
//! ```
//!
//! Of two slots the one with the higher sequence counts, and the other one is written next. So a
//! write that is torn leaves what was before; the first vote finds a slot before it that says that
//! there is none. What is on disk is then in both slots, so that either may rot. The copy reaches
//! the disk with the next sync, or when the kernel writes it back: if the machine stops before,
//! a damaged slot looks as if it had been torn, and the vote before it counts.
//! Where the copy is, the slot is on disk; where it is not, it may be in the page cache
//! only. Vote and commit index have pages of their own: the latter are written back all the time,
//! and must not endanger the former.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::entry::crc32c;
use super::error::Error;
use super::files::{Files, SegmentFile};
use super::mmap::Writer;
use crate::ids::{EntryIndex, StoreId, Term};

const PAGE_BYTES: usize = 4096;
const FILE_BYTES: u64 = 4 * PAGE_BYTES as u64;
const MAGIC: u32 = u32::from_le_bytes(*b"RMQV");
const SLOT_BYTES: usize = 44;
const CRC_AT: usize = 40;
const FLAG_VOTED: u64 = 1;
const FLAG_LEADER: u64 = 2;
/// No vote yet.
const FLAG_NONE: u64 = 4;

/// What a member has promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    /// No vote in a lower term, ever.
    pub term: Term,
    /// Who got the vote in this term.
    pub voted_for: Option<StoreId>,
    /// Whether that one is known to have won.
    pub committed: bool,
}

/// The file, open for one life of the store.
pub struct VoteFile {
    path: PathBuf,
    file: Arc<dyn SegmentFile>,
    state: Mutex<State>,
}

struct State {
    writer: Writer,
    vote: Slots,
    committed: Slots,
    poison: Option<Arc<str>>,
}

/// The newer of two slots in neighbouring pages.
#[derive(Clone, Copy)]
struct Slots {
    first_page: usize,
    newest: Option<Slot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    sequence: u64,
    number: u64,
    voted_for: u64,
    flags: u64,
}

impl VoteFile {
    /// Opens or makes `dir/vote`. That neither slot of the vote is whole is an error: a member that
    /// may have forgotten its vote must not vote again.
    pub fn open(files: &dyn Files, dir: &Path) -> Result<Self, Error> {
        let path = dir.join("vote");
        let file = files.segment(&path, FILE_BYTES).map_err(|e| Error::io("open", &path, e))?;
        let mut writer = file.map().map_err(|e| Error::io("map", &path, e))?;
        let found = parse_slots(writer.contents(), 0);
        let mut vote = Slots::read(&path, writer.contents(), 0)?;
        if vote.newest.is_none() && writer.unreadable_pages() > 0 {
            return Err(Error::bad_file(&path, "the disk cannot read it"));
        }
        if vote.lacks_one(writer.contents()) {
            tracing::warn!(
                path = %path.display(),
                "one of two copies of the vote is not whole and is written again: check the disk, \
                 unless the machine has stopped"
            );
        }
        // A commit index that cannot be read is one that is not known.
        let unknown = Slots { first_page: 2, newest: None };
        let committed = Slots::read(&path, writer.contents(), 2).unwrap_or(unknown);
        let newest = vote.newest.unwrap_or(Slot::NO_VOTE);
        // Without its copy it may be in the page cache only, and is told from now on.
        if found.iter().any(|slot| *slot != Some(newest)) {
            let saved = vote.save(file.as_ref(), &mut writer, newest);
            saved.map_err(|e| Error::io("sync", &path, e))?;
        }
        let state = Mutex::new(State { writer, vote, committed, poison: None });
        Ok(Self { path, file, state })
    }

    /// The last vote that was saved.
    pub fn vote(&self) -> Option<Vote> {
        let newest = self.state.lock().vote.newest;
        newest.filter(|slot| slot.flags & FLAG_NONE == 0).map(|slot| Vote {
            term: Term(slot.number),
            voted_for: (slot.flags & FLAG_VOTED != 0).then_some(StoreId(slot.voted_for)),
            committed: slot.flags & FLAG_LEADER != 0,
        })
    }

    /// Whether a vote is being written at the moment, which takes as long as the disk does.
    pub fn is_saving(&self) -> bool {
        // Nothing else takes longer than a look.
        self.state.is_locked()
    }

    /// Saves a vote. It is on disk when this returns; after an error nobody may be told of it, and
    /// no other one can be saved.
    pub fn save_vote(&self, vote: Vote) -> Result<(), Error> {
        let mut state = self.state.lock();
        if let Some(cause) = &state.poison {
            return Err(Error::Poisoned { cause: Arc::clone(cause) });
        }
        let voted = if vote.voted_for.is_some() { FLAG_VOTED } else { 0 };
        let leader = if vote.committed { FLAG_LEADER } else { 0 };
        let State { writer, vote: slots, .. } = &mut *state;
        let voted_for = vote.voted_for.unwrap_or_default().0;
        let slot = slots.next(vote.term.0, voted_for, voted | leader);
        slots.save(self.file.as_ref(), writer, slot).map_err(|e| {
            let cause: Arc<str> = Error::io("save the vote in", &self.path, e).to_string().into();
            state.poison = Some(Arc::clone(&cause));
            Error::Poisoned { cause }
        })
    }

    /// The commit index as far as it was saved; the true one may be higher.
    pub fn committed(&self) -> Option<EntryIndex> {
        self.state.lock().committed.newest.map(|slot| EntryIndex(slot.number))
    }

    /// Notes that the log is committed up to `index`, without waiting for the disk.
    ///
    /// `index` must be durable in the log already ([`super::CommitLog::durable_index`]): a start
    /// that finds less than this takes it for damage.
    pub fn save_committed(&self, index: EntryIndex) {
        let mut state = self.state.lock();
        let State { writer, committed, .. } = &mut *state;
        if committed.newest.is_none_or(|slot| slot.number != index.0)
            && let Err(error) = committed.note(self.file.as_ref(), writer, index)
        {
            // The former one is true as well: a start only has less to hold the log against.
            tracing::debug!(%error, path = %self.path.display(), "commit index not noted");
        }
    }
}

impl Slots {
    fn read(path: &Path, contents: &[u8], first_page: usize) -> Result<Self, Error> {
        let slots = parse_slots(contents, first_page);
        let newest = slots.into_iter().flatten().max_by_key(|slot| slot.sequence);
        // The first slot is written first, and synced before anything is told: torn, and with the
        // second one untouched, it is a file whose making was interrupted.
        let second = &contents[(first_page + 1) * PAGE_BYTES..][..SLOT_BYTES];
        let written = second.iter().any(|b| *b != 0);
        match newest {
            None if written => Err(Error::bad_file(path, "neither of its two slots is whole")),
            newest => Ok(Self { first_page, newest }),
        }
    }

    /// Whether the slot beside the newest one is not whole, although something was written there.
    fn lacks_one(&self, contents: &[u8]) -> bool {
        let page = |slot: usize| &contents[(self.first_page + slot) * PAGE_BYTES..][..SLOT_BYTES];
        let is_broken = |raw: &[u8]| Slot::parse(raw).is_none() && raw.iter().any(|b| *b != 0);
        self.newest.is_some() && [0, 1].into_iter().any(|slot| is_broken(page(slot)))
    }

    fn next(&self, number: u64, voted_for: u64, flags: u64) -> Slot {
        let sequence = self.newest.map_or(0, |slot| slot.sequence.wrapping_add(1));
        Slot { sequence, number, voted_for, flags }
    }

    /// Puts a slot to disk, and then a copy of it into the page cache. In whole pages: one that the
    /// disk cannot read can only be written as a whole.
    fn save(&mut self, file: &dyn SegmentFile, writer: &mut Writer, slot: Slot) -> io::Result<()> {
        let mut page = [0; PAGE_BYTES];
        page[..SLOT_BYTES].copy_from_slice(&slot.encode());
        let place = (slot.sequence % 2) as usize;
        file.write(writer.unpublished((self.first_page + place) * PAGE_BYTES, &page))?;
        file.sync()?;
        self.newest = Some(slot);
        file.write(writer.unpublished((self.first_page + 1 - place) * PAGE_BYTES, &page))
    }

    /// Writes a commit index, for whenever the disk takes it.
    fn note(
        &mut self,
        file: &dyn SegmentFile,
        writer: &mut Writer,
        index: EntryIndex,
    ) -> io::Result<()> {
        let slot = self.next(index.0, 0, 0);
        let page = self.first_page + (slot.sequence % 2) as usize;
        file.write(writer.unpublished(page * PAGE_BYTES, &slot.encode()))?;
        self.newest = Some(slot);
        Ok(())
    }
}

/// Two slots in neighbouring pages, as far as they are whole.
fn parse_slots(contents: &[u8], first_page: usize) -> [Option<Slot>; 2] {
    [first_page, first_page + 1].map(|page| Slot::parse(&contents[page * PAGE_BYTES..]))
}

impl Slot {
    /// What a new file begins with.
    const NO_VOTE: Self = Self { sequence: 0, number: 0, voted_for: 0, flags: FLAG_NONE };

    fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut out = [0; SLOT_BYTES];
        out[..4].copy_from_slice(&MAGIC.to_le_bytes());
        let numbers = [self.sequence, self.number, self.voted_for, self.flags];
        for (to, number) in out[8..CRC_AT].chunks_exact_mut(8).zip(numbers) {
            to.copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn parse(raw: &[u8]) -> Option<Self> {
        let raw = raw.first_chunk::<SLOT_BYTES>()?;
        let whole = raw[..4] == MAGIC.to_le_bytes()
            && raw[CRC_AT..] == crc32c(&raw[..CRC_AT]).to_le_bytes();
        let number = |at: usize| {
            let bytes = raw[at..].first_chunk().copied().unwrap_or_default();
            u64::from_le_bytes(bytes)
        };
        whole.then(|| Self {
            sequence: number(8),
            number: number(16),
            voted_for: number(24),
            flags: number(32),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::files::RealFiles;
    use crate::store::simulated_disk::{NameOrder, SimulatedDisk};
    use std::fs;

    fn vote(term: u64) -> Vote {
        let voted_for = (!term.is_multiple_of(3)).then_some(StoreId(u64::MAX - term));
        Vote { term: Term(term), voted_for, committed: term.is_multiple_of(2) }
    }

    fn open(dir: &Path) -> Result<VoteFile, Error> {
        VoteFile::open(&RealFiles, dir)
    }

    fn saved(votes: u64) -> (tempfile::TempDir, Vec<u8>) {
        // In memory if possible: what is tested here does not depend on how long a sync takes.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let file = open(dir.path()).unwrap();
        assert_eq!((file.vote(), file.committed()), (None, None));
        (1..=votes).for_each(|term| file.save_vote(vote(term)).unwrap());
        let bytes = fs::read(dir.path().join("vote")).unwrap();
        (dir, bytes)
    }

    #[test]
    fn the_last_vote_and_commit_index_come_back() {
        for votes in 1..6 {
            let (dir, _) = saved(votes);
            let file = open(dir.path()).unwrap();
            assert_eq!(file.vote(), Some(vote(votes)));
            (0..votes).for_each(|index| file.save_committed(EntryIndex(index)));
            let file = open(dir.path()).unwrap();
            assert_eq!(file.committed(), Some(EntryIndex(votes - 1)));
            assert_eq!(file.vote(), Some(vote(votes)));
        }
    }

    #[test]
    fn a_torn_write_leaves_the_vote_before_it() {
        for votes in 1..5 {
            let (_, before) = saved(votes - 1);
            let (dir, after) = saved(votes);
            let (first, copy) = ((votes % 2) as usize, 1 - (votes % 2) as usize);
            let page = |slot: usize| slot * PAGE_BYTES..(slot + 1) * PAGE_BYTES;
            for (slot, cut) in [first, copy].into_iter().flat_map(|slot| {
                (0..=SLOT_BYTES).map(move |cut| (slot, cut)) // first the slot, then the copy
            }) {
                let mut torn = before.clone();
                if slot == copy {
                    torn[page(first)].copy_from_slice(&after[page(first)]);
                }
                let part = page(slot).start..page(slot).start + cut;
                torn[part.clone()].copy_from_slice(&after[part]);
                fs::write(dir.path().join("vote"), torn).unwrap();
                let before = (votes > 1).then(|| vote(votes - 1));
                let is_there = slot == copy || cut == SLOT_BYTES;
                let want = if is_there { Some(vote(votes)) } else { before };
                for _ in 0..2 {
                    assert_eq!(open(dir.path()).unwrap().vote(), want, "{slot} cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn either_slot_may_rot_and_both_are_an_error() {
        for votes in 1..5 {
            let (dir, whole) = saved(votes);
            let path = dir.path().join("vote");
            for bit in 0..2 * SLOT_BYTES * 8 {
                let slot = bit / 8 / SLOT_BYTES;
                let at = bit / 8 % SLOT_BYTES + slot * PAGE_BYTES;
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << (bit % 8);
                fs::write(&path, &bytes).unwrap();
                assert_eq!(open(dir.path()).unwrap().vote(), Some(vote(votes)), "bit {bit}");
                let mended = fs::read(&path).unwrap();
                assert!(mended == whole, "bit {bit}: it is written again");
            }
            for slot in [0, 1] {
                let mut bytes = whole.clone();
                bytes[slot * PAGE_BYTES..][..PAGE_BYTES].fill(0);
                fs::write(&path, &bytes).unwrap();
                assert_eq!(open(dir.path()).unwrap().vote(), Some(vote(votes)), "a page is gone");
            }
            let mut bytes = whole;
            (bytes[20], bytes[PAGE_BYTES + 20]) = (bytes[20] ^ 1, bytes[PAGE_BYTES + 20] ^ 1);
            fs::write(&path, &bytes).unwrap();
            let error = open(dir.path()).err().unwrap().to_string();
            assert!(error.contains("neither of its two slots is whole"), "{error}");
        }
    }

    #[test]
    fn a_vote_that_a_former_life_could_not_sync_is_durable_once_it_is_read() {
        for fails in [false, true] {
            let (disk, dir) = (SimulatedDisk::new(1 << 20), Path::new("/d"));
            disk.create_dir(dir).unwrap();
            let file = VoteFile::open(&disk, dir).unwrap();
            let sync = disk.steps().len() + 1;
            if fails {
                disk.fail_at(sync)
            } else {
                disk.stop_at(sync)
            }
            assert!(file.save_vote(vote(1)).is_err());
            let disk = disk.after_kill().unwrap();
            assert_eq!(VoteFile::open(&disk, dir).unwrap().vote(), Some(vote(1)));
            let disk = disk.after_power_loss(NameOrder::Any, &mut |_| false).unwrap();
            assert_eq!(VoteFile::open(&disk, dir).unwrap().vote(), Some(vote(1)), "it was told");
        }
    }

    #[test]
    fn a_vote_that_was_told_outlives_a_kill_at_any_step_of_the_starts_after_it() {
        let (disk, dir) = (SimulatedDisk::new(1 << 20), Path::new("/d"));
        disk.create_dir(dir).unwrap();
        let file = VoteFile::open(&disk, dir).unwrap();
        (1..=3).for_each(|term| file.save_vote(vote(term)).unwrap());
        for copies in [false, true] {
            let left = disk.after_power_loss(NameOrder::Any, &mut |_| copies).unwrap();
            for step in 0..4 {
                let disk = left.after_kill().unwrap();
                disk.stop_at(step);
                drop(VoteFile::open(&disk, dir));
                for survives in [false, true] {
                    let lost = disk.after_power_loss(NameOrder::Any, &mut |_| survives).unwrap();
                    let got = VoteFile::open(&lost, dir).unwrap().vote();
                    assert_eq!(got, Some(vote(3)), "{copies}, stopped at {step}, {survives}");
                }
            }
        }
    }
}
