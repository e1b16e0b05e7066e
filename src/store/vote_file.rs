//! `vote`: term and vote, on disk before anyone is told; and how far the log is known to be
//! committed, which may be lost.
//!
//! ```text
//!  page 0  vote     page 1  vote     page 2  committed     page 3  committed
//!  slot: magic 4 │ zero 4 │ sequence 8 │ term or index 8 │ voted for 8 │ flags 8 │ CRC-32C 4 (of 40)
//! ```
//!
//! Of two slots the one with the higher sequence counts, and the other one is written next. So a
//! write that is torn leaves what was before; the first vote finds a slot before it that says that
//! there is none. In a store that was closed no write is torn: there a slot that is not
//! whole is damage, and the vote in it would be forgotten. Vote and commit index have pages of their own: the
//! latter are written back all the time, and must not endanger the former.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::entry::crc32c;
use super::error::Error;
use super::files::{Files, SegmentFile};
use super::mmap::Writer;
use super::store_file::PreviousLife;
use crate::ids::{EntryIndex, StoreId, Term};

const PAGE_BYTES: usize = 4096;
const FILE_BYTES: u64 = 4 * PAGE_BYTES as u64;
const MAGIC: u32 = u32::from_le_bytes(*b"RMQV");
const SLOT_BYTES: usize = 44;
const CRC_AT: usize = 40;
const FLAG_VOTED: u64 = 1;
const FLAG_LEADER: u64 = 2;
/// What a new file begins with: no vote yet.
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
    /// Opens or makes `dir/vote`. A damaged slot is an error, unless the write of a vote that nobody
    /// was told may have been torn: a member that may have forgotten its vote must not vote again.
    /// What was torn is written over.
    pub fn open(files: &dyn Files, dir: &Path, previous_life: PreviousLife) -> Result<Self, Error> {
        let path = dir.join("vote");
        let file = files.segment(&path, FILE_BYTES).map_err(|e| Error::io("open", &path, e))?;
        let mut writer = file.map().map_err(|e| Error::io("map", &path, e))?;
        let mut vote = Slots::read(&path, writer.contents(), 0)?;
        if writer.unreadable_pages() > 0 {
            return Err(Error::bad_file(&path, "the disk cannot read it".to_owned()));
        }
        let torn = vote.lacks_one(writer.contents());
        if torn && previous_life == PreviousLife::Clean {
            return Err(Error::bad_file(&path, "one of its two slots is not whole"));
        }
        // A commit index that cannot be read is one that is not known.
        let unknown = Slots { first_page: 2, newest: None };
        let committed = Slots::read(&path, writer.contents(), 2).unwrap_or(unknown);
        let begun = match vote.newest {
            None => vote.write(file.as_ref(), &mut writer, 0, 0, FLAG_NONE),
            Some(Slot { number, voted_for, flags, .. }) if torn => {
                vote.write(file.as_ref(), &mut writer, number, voted_for, flags)
            }
            Some(_) => Ok(()),
        };
        // A vote that a former life could not sync is in the page cache only, and told from now on.
        begun.and_then(|()| file.sync()).map_err(|e| Error::io("sync", &path, e))?;
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
        let saved = slots.write(self.file.as_ref(), writer, vote.term.0, voted_for, voted | leader);
        saved.and_then(|()| self.file.sync()).map_err(|e| {
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
            && let Err(error) = committed.write(self.file.as_ref(), writer, index.0, 0, 0)
        {
            // The former one is true as well: a start only has less to hold the log against.
            tracing::debug!(%error, path = %self.path.display(), "commit index not noted");
        }
    }
}

impl Slots {
    fn read(path: &Path, contents: &[u8], first_page: usize) -> Result<Self, Error> {
        let pages = [first_page, first_page + 1].map(|p| &contents[p * PAGE_BYTES..][..SLOT_BYTES]);
        let slots = pages.map(Slot::parse);
        let newest = slots.into_iter().flatten().max_by_key(|slot| slot.sequence);
        // The first slot is written first, and synced before anything is told: torn, and with the
        // second one untouched, it is a file whose making was interrupted.
        let written = pages[1].iter().any(|b| *b != 0);
        match newest {
            None if written => Err(Error::bad_file(path, "neither of its two slots is whole")),
            newest => Ok(Self { first_page, newest }),
        }
    }

    /// Whether the slot beside the newest one should be whole, and is not: it is written first, or
    /// something was written there since.
    fn lacks_one(&self, contents: &[u8]) -> bool {
        let Some(newest) = self.newest else { return false };
        let other = self.first_page + ((newest.sequence + 1) % 2) as usize;
        let other = &contents[other * PAGE_BYTES..][..SLOT_BYTES];
        let untouched = newest.sequence == 0 && other.iter().all(|b| *b == 0);
        !untouched && Slot::parse(other).is_none()
    }

    fn write(
        &mut self,
        file: &dyn SegmentFile,
        writer: &mut Writer,
        number: u64,
        voted_for: u64,
        flags: u64,
    ) -> io::Result<()> {
        let sequence = self.newest.map_or(0, |slot| slot.sequence + 1);
        let slot = Slot { sequence, number, voted_for, flags };
        let page = self.first_page + (sequence % 2) as usize;
        let at = page * PAGE_BYTES;
        file.write(writer.unpublished(at, &slot.encode()))?;
        self.newest = Some(slot);
        Ok(())
    }
}

impl Slot {
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
    use super::PreviousLife::{Clean, Killed, MachineStopped};
    use super::*;
    use crate::store::files::RealFiles;
    use crate::store::simulated_disk::{NameOrder, SimulatedDisk};
    use std::fs;

    fn vote(term: u64) -> Vote {
        let voted_for = (!term.is_multiple_of(3)).then_some(StoreId(u64::MAX - term));
        Vote { term: Term(term), voted_for, committed: term.is_multiple_of(2) }
    }

    fn open(dir: &Path, life: PreviousLife) -> Result<VoteFile, Error> {
        VoteFile::open(&RealFiles, dir, life)
    }

    fn saved(votes: u64) -> (tempfile::TempDir, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let file = open(dir.path(), Killed).unwrap();
        assert_eq!((file.vote(), file.committed()), (None, None));
        (1..=votes).for_each(|term| file.save_vote(vote(term)).unwrap());
        let bytes = fs::read(dir.path().join("vote")).unwrap();
        (dir, bytes)
    }

    #[test]
    fn the_last_vote_and_commit_index_come_back() {
        for votes in 1..6 {
            let (dir, _) = saved(votes);
            let file = open(dir.path(), Killed).unwrap();
            assert_eq!(file.vote(), Some(vote(votes)));
            (0..votes).for_each(|index| file.save_committed(EntryIndex(index)));
            let file = open(dir.path(), Killed).unwrap();
            assert_eq!(file.committed(), Some(EntryIndex(votes - 1)));
            assert_eq!(file.vote(), Some(vote(votes)));
        }
    }

    #[test]
    fn a_torn_write_leaves_the_vote_before_it() {
        for votes in 1..5 {
            let (_, before) = saved(votes - 1);
            let (dir, after) = saved(votes);
            // Between the slots nothing differs.
            for cut in (0..=after.len()).filter(|cut| cut % PAGE_BYTES <= SLOT_BYTES + 1) {
                let torn = [&after[..cut], &before[cut..]].concat();
                fs::write(dir.path().join("vote"), torn).unwrap();
                let before = (votes > 1).then(|| vote(votes - 1));
                let got = open(dir.path(), MachineStopped).unwrap().vote();
                assert!(got == before || got == Some(vote(votes)), "cut at {cut}: {got:?}");
                let again = open(dir.path(), Clean).unwrap().vote();
                assert_eq!(again, got, "cut at {cut}: what was torn is mended");
            }
        }
    }

    #[test]
    fn a_damaged_slot_of_a_closed_store_is_an_error_and_two_always_are() {
        for votes in 1..5 {
            let (dir, whole) = saved(votes);
            let path = dir.path().join("vote");
            for bit in 0..2 * SLOT_BYTES * 8 {
                let mut bytes = whole.clone();
                let at = bit / 8 % SLOT_BYTES + bit / 8 / SLOT_BYTES * PAGE_BYTES;
                bytes[at] ^= 1 << (bit % 8);
                fs::write(&path, &bytes).unwrap();
                let error = open(dir.path(), Clean).err().unwrap().to_string();
                assert!(error.contains("one of its two slots is not whole"), "{error}");
                for life in [Killed, MachineStopped] {
                    fs::write(&path, &bytes).unwrap();
                    let got = open(dir.path(), life).unwrap().vote();
                    let before = (votes > 1).then(|| vote(votes - 1));
                    assert!(got == before || got == Some(vote(votes)), "bit {bit}: {got:?}");
                }
            }
            let mut bytes = whole.clone();
            bytes[PAGE_BYTES..2 * PAGE_BYTES].fill(0);
            fs::write(&path, &bytes).unwrap();
            assert!(open(dir.path(), Clean).is_err() || votes == 1, "a page that is gone");
            let mut bytes = whole;
            (bytes[20], bytes[PAGE_BYTES + 20]) = (bytes[20] ^ 1, bytes[PAGE_BYTES + 20] ^ 1);
            fs::write(&path, &bytes).unwrap();
            let error = open(dir.path(), MachineStopped).err().unwrap().to_string();
            assert!(error.contains("neither of its two slots is whole"), "{error}");
        }
    }

    #[test]
    fn a_vote_that_a_former_life_could_not_sync_is_durable_once_it_is_read() {
        let (disk, dir) = (SimulatedDisk::new(1 << 20), Path::new("/d"));
        disk.create_dir(dir).unwrap();
        let file = VoteFile::open(&disk, dir, Killed).unwrap();
        disk.stop_at(disk.steps().len() + 1); // written, not synced
        assert!(file.save_vote(vote(1)).is_err());
        let disk = disk.after_kill().unwrap();
        assert_eq!(VoteFile::open(&disk, dir, Killed).unwrap().vote(), Some(vote(1)));
        let disk = disk.after_power_loss(NameOrder::Any, &mut |_| false).unwrap();
        assert_eq!(
            VoteFile::open(&disk, dir, Killed).unwrap().vote(),
            Some(vote(1)),
            "it was told"
        );
    }
}
