//! Whose store a directory is: `store.lock` keeps other processes out, `store.json` says for which
//! member it was made, and how its last life ended.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::files::Files;
use super::flush::Durability;
use crate::ids::{StoreId, Term};

/// Of a store that always belonged to the group as it was first started.
const FORMAT: u32 = 1;
/// Of one whose group was started anew by a survivor: older builds refuse it.
const FORMAT_LINEAGE: u32 = 2;

/// Keeps other processes out of a store directory as long as it lives.
#[derive(Debug)]
pub struct StoreLock {
    _file: Option<File>, // the lock goes with the descriptor, however the process ends
}

impl StoreLock {
    /// Takes `dir/store.lock`, making the directory if need be.
    pub fn take(files: &dyn Files, dir: &Path) -> Result<Self, Error> {
        files.create_dir(dir).map_err(|e| Error::io("create directory", dir, e))?;
        files.lock(&dir.join("store.lock"))
    }

    /// On a disk that other processes cannot reach.
    #[cfg(test)]
    pub fn not_needed() -> Self {
        Self { _file: None }
    }

    /// Takes the lock that this file stands for.
    pub(super) fn of_file(path: &Path) -> Result<Self, Error> {
        let path = path.to_owned();
        let failed = |e: io::Error| Error::io("lock", &path, e);
        let opened =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let read = (&mut file).take(20).read_to_string(&mut holder);
                if read.is_err() || holder.trim().is_empty() {
                    "of unknown id".clone_into(&mut holder);
                }
                return Err(Error::Locked { path, holder: holder.trim().to_owned() });
            }
            taken => taken.map_err(|e| failed(e.into()))?,
        }
        let pid = format!("{}\n", std::process::id());
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(pid.as_bytes()));
        written.map_err(failed)?;
        Ok(Self { _file: Some(file) })
    }
}

/// What a store must have been made for to be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `brokerClusterName`.
    pub cluster: String,
    /// `brokerName`, or `dLegerGroup`.
    pub group: String,
    /// `dLegerSelfId`, or the member's name in a group that has none.
    pub member: String,
    /// `mappedFileSizeCommitLog`. Equal on all members: positions follow from it.
    pub segment_bytes: u64,
}

/// What a store is opened for.
#[derive(Debug, Clone)]
pub struct Opening {
    /// Whose store it must be.
    pub identity: Identity,
    /// When an entry counts as stored in this life.
    pub durability: Durability,
    /// Whether there are files of a log already: they must not be adopted by another.
    pub used: bool,
    /// Of a new store.
    pub now_ms: i64,
}

/// How the store was left when it was last used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreviousLife {
    /// There was none.
    New,
    /// It was closed; everything is on disk.
    Clean,
    /// The process ended, the machine went on: what was written is in the page cache or on disk.
    Killed,
    /// The machine stopped, or a sync failed, and no start since has come to terms with it: what
    /// was not synced may be gone, in any order.
    MachineStopped,
}

/// A group that was started anew by one survivor (`raft::recover_alone`): members of different
/// lineages are different groups with the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lineage {
    /// Drawn when it began; not 0.
    pub id: u64,
    /// When that was, ms since 1970.
    pub since_ms: i64,
}

/// A new start that was begun and is not finished: the store serves nothing until it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// What the operator confirmed it with.
    pub code: String,
    /// The term of the entry that ends it.
    pub term: Term,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct StampedLineage {
    id: String, // as `store_id`
    since_ms: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct StampedUnfinished {
    code: String,
    term: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stamp {
    format: u32,
    store_id: String, // 16 hex digits: JSON numbers lose bits in other people's tools
    #[serde(flatten)]
    identity: Identity,
    created_ms: i64,
    boot_id: String,
    clean: bool,
    /// The machine stopped, or a sync of the log failed, and it has not been recovered since.
    #[serde(default)]
    unrecovered: bool,
    /// Since it was last closed, the member may have vouched for entries that were not on disk.
    #[serde(default)]
    in_memory: bool,
    /// It did, and the machine stopped or a sync failed: some of them may be gone.
    #[serde(default)]
    in_doubt: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lineage: Option<StampedLineage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unfinished: Option<StampedUnfinished>,
}

/// `store.json`, opened for one life of the store.
pub struct StoreFile {
    files: Arc<dyn Files>,
    path: PathBuf,
    id: StoreId,
    previous_life: PreviousLife,
    lineage: Mutex<Option<Lineage>>,
    stamp: Mutex<Stamp>,
}

impl StoreFile {
    /// Opens the stamp in `dir`, or makes it when the directory is new; marks the store as in use.
    pub fn open(files: Arc<dyn Files>, dir: &Path, opening: Opening) -> Result<Self, Error> {
        let boot_id = files.boot_id().map_err(|e| Error::io("learn the boot id for", dir, e))?;
        Self::open_at_boot(files, dir, opening, &boot_id)
    }

    fn open_at_boot(
        files: Arc<dyn Files>,
        dir: &Path,
        opening: Opening,
        boot_id: &str,
    ) -> Result<Self, Error> {
        let Opening { identity, durability, used, now_ms } = opening;
        let path = dir.join("store.json");
        let content = files.read(&path).map_err(|e| Error::io("read", &path, e))?;
        let (mut stamp, left) = match content {
            Some(content) => {
                let stamp = parse(&path, &content)?;
                compare(&path, &stamp.identity, &identity)?;
                let left = how_left(&stamp, boot_id);
                (stamp, left)
            }
            None if used => {
                return Err(Error::bad_file(&path, "it is missing, but there is a log"));
            }
            None => {
                let drawn = files.draw_id().map_err(|e| Error::io("draw an id for", &path, e))?;
                (new_stamp(identity, drawn, now_ms), PreviousLife::New)
            }
        };
        stamp.in_doubt |= stamp.in_memory && left == PreviousLife::MachineStopped;
        stamp.in_memory = durability == Durability::PageCache
            || (stamp.in_memory && left == PreviousLife::Killed);
        stamp.unrecovered |= left == PreviousLife::MachineStopped;
        let previous_life = if stamp.unrecovered { PreviousLife::MachineStopped } else { left };
        boot_id.clone_into(&mut stamp.boot_id);
        stamp.clean = false;
        write(files.as_ref(), &path, &stamp)?;
        let id = parse_id(&path, &stamp.store_id)?;
        let lineage = stamp.lineage.as_ref().map(|stamped| parse_lineage(&path, stamped));
        let lineage = Mutex::new(lineage.transpose()?);
        Ok(Self { files, path, id, previous_life, lineage, stamp: Mutex::new(stamp) })
    }

    /// The id drawn when the store was made.
    pub fn id(&self) -> StoreId {
        self.id
    }

    /// How the store was left.
    pub fn previous_life(&self) -> PreviousLife {
        self.previous_life
    }

    /// The log and the vote have been recovered, durably: the next start may rely on what it finds.
    pub fn recovered(&self) -> Result<(), Error> {
        let mut stamp = self.stamp.lock();
        if !std::mem::replace(&mut stamp.unrecovered, false) {
            return Ok(());
        }
        write(self.files.as_ref(), &self.path, &stamp)
    }

    /// A sync of the log failed: the kernel may forget what it could not write, as if the machine
    /// had stopped. Durable when this returns.
    pub fn sync_failed(&self) -> Result<(), Error> {
        let mut stamp = self.stamp.lock();
        stamp.unrecovered = true;
        stamp.in_doubt |= stamp.in_memory;
        write(self.files.as_ref(), &self.path, &stamp)
    }

    /// Whether entries may be missing that this member has vouched for: its machine stopped, or a
    /// sync failed, while it acknowledged from memory, and nobody has said since that nothing is
    /// missing.
    pub fn in_doubt(&self) -> bool {
        self.stamp.lock().in_doubt
    }

    /// Nothing is missing. Durable when this returns.
    pub fn settle_doubt(&self) -> Result<(), Error> {
        let mut stamp = self.stamp.lock();
        stamp.in_doubt = false;
        write(self.files.as_ref(), &self.path, &stamp)
    }

    /// Which lineage of its group it belongs to; `None`: the first.
    pub fn lineage(&self) -> Option<Lineage> {
        *self.lineage.lock()
    }

    /// A store without entries joins a group that was started anew. Durable when this returns.
    pub fn join(&self, lineage: Lineage) -> Result<(), Error> {
        self.belong_to(lineage, None)
    }

    /// The new start that was begun here, if it is not finished.
    pub fn unfinished(&self) -> Option<Unfinished> {
        let stamped = self.stamp.lock().unfinished.clone()?;
        Some(Unfinished { code: stamped.code, term: Term(stamped.term) })
    }

    /// From here on it belongs to `lineage`, and serves nothing before that start is finished.
    /// Durable when this returns.
    pub fn begin_anew(&self, lineage: Lineage, unfinished: Unfinished) -> Result<(), Error> {
        self.belong_to(lineage, Some(unfinished))
    }

    fn belong_to(&self, lineage: Lineage, unfinished: Option<Unfinished>) -> Result<(), Error> {
        let mut stamp = self.stamp.lock();
        let Lineage { id, since_ms } = lineage;
        let mut next = stamp.clone();
        next.format = FORMAT_LINEAGE;
        next.lineage = Some(StampedLineage { id: format!("{id:016x}"), since_ms });
        let stamped = |Unfinished { code, term }| StampedUnfinished { code, term: term.0 };
        next.unfinished = unfinished.map(stamped);
        write(self.files.as_ref(), &self.path, &next)?;
        *stamp = next;
        *self.lineage.lock() = Some(lineage);
        Ok(())
    }

    /// The new start is finished. With it ends all doubt: there is nobody left to ask. Durable when
    /// this returns.
    pub fn finish_anew(&self) -> Result<(), Error> {
        let mut stamp = self.stamp.lock();
        (stamp.unfinished, stamp.in_doubt) = (None, false);
        write(self.files.as_ref(), &self.path, &stamp)
    }

    /// To be called last, when all is on disk and nothing will be written any more.
    pub fn mark_clean(&self) -> Result<(), Error> {
        let mut stamp = self.stamp.lock();
        stamp.clean = true;
        write(self.files.as_ref(), &self.path, &stamp)
    }
}

fn parse(path: &Path, content: &[u8]) -> Result<Stamp, Error> {
    let stamp: Stamp =
        serde_json::from_slice(content).map_err(|e| Error::bad_file(path, e.to_string()))?;
    match stamp.format {
        FORMAT | FORMAT_LINEAGE => Ok(stamp),
        other => Err(Error::bad_file(path, format!("format {other} is unknown to this version"))),
    }
}

fn parse_id(path: &Path, text: &str) -> Result<StoreId, Error> {
    match u64::from_str_radix(text, 16) {
        Ok(id) if id != 0 => Ok(StoreId(id)),
        _ => Err(Error::bad_file(path, format!("`{text}` is no store id"))),
    }
}

fn parse_lineage(path: &Path, stamped: &StampedLineage) -> Result<Lineage, Error> {
    match u64::from_str_radix(&stamped.id, 16) {
        Ok(id) if id != 0 => Ok(Lineage { id, since_ms: stamped.since_ms }),
        _ => Err(Error::bad_file(path, format!("`{}` is no lineage", stamped.id))),
    }
}

fn write(files: &dyn Files, path: &Path, stamp: &Stamp) -> Result<(), Error> {
    let content = serde_json::to_vec_pretty(stamp).map_err(io::Error::from);
    let written = content.and_then(|content| files.replace(path, &content));
    written.map_err(|e| Error::io("write", path, e))
}

/// A store of something else is refused, with both values. Pure.
fn compare(path: &Path, stored: &Identity, configured: &Identity) -> Result<(), Error> {
    let segment_bytes = (stored.segment_bytes.to_string(), configured.segment_bytes.to_string());
    let rows = [
        ("cluster", &stored.cluster, &configured.cluster),
        ("group", &stored.group, &configured.group),
        ("member", &stored.member, &configured.member),
        ("segment size (mappedFileSizeCommitLog)", &segment_bytes.0, &segment_bytes.1),
    ];
    match rows.into_iter().find(|(_, stored, configured)| stored != configured) {
        None => Ok(()),
        Some((what, stored, configured)) => Err(Error::Foreign {
            path: path.to_owned(),
            what,
            stored: stored.clone(),
            configured: configured.clone(),
        }),
    }
}

fn how_left(stamp: &Stamp, boot_id: &str) -> PreviousLife {
    match (stamp.clean, stamp.boot_id == boot_id) {
        (true, _) => PreviousLife::Clean,
        (false, true) => PreviousLife::Killed,
        (false, false) => PreviousLife::MachineStopped,
    }
}

fn new_stamp(identity: Identity, drawn: u64, now_ms: i64) -> Stamp {
    Stamp {
        format: FORMAT,
        store_id: format!("{:016x}", drawn.max(1)), // 0 is nobody's
        identity,
        created_ms: now_ms,
        boot_id: String::new(),
        clean: false,
        unrecovered: false,
        in_memory: false,
        in_doubt: false,
        lineage: None,
        unfinished: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::files::RealFiles;

    fn identity() -> Identity {
        Identity {
            cluster: "RaftCluster".to_owned(),
            group: "RaftNode00".to_owned(),
            member: "n0".to_owned(),
            segment_bytes: 1 << 30,
        }
    }

    fn open(dir: &Path, identity: Identity, boot: &str) -> Result<StoreFile, Error> {
        let opening = Opening { identity, durability: Durability::Synced, used: false, now_ms: 1 };
        StoreFile::open_at_boot(Arc::new(RealFiles), dir, opening, boot)
    }

    #[test]
    fn the_store_keeps_its_id_and_knows_how_it_was_left() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), identity(), "boot 1").unwrap();
        assert_eq!(first.previous_life(), PreviousLife::New);
        assert_ne!(first.id(), StoreId(0));
        let rows = [
            ("boot 1", PreviousLife::Killed),
            ("boot 2", PreviousLife::MachineStopped),
            ("boot 2", PreviousLife::MachineStopped), // that start did not get far enough
        ];
        for (boot, life) in rows {
            let store = open(dir.path(), identity(), boot).unwrap();
            assert_eq!((store.previous_life(), store.id()), (life, first.id()));
        }
        open(dir.path(), identity(), "boot 2").unwrap().recovered().unwrap();
        let store = open(dir.path(), identity(), "boot 2").unwrap();
        assert_eq!(store.previous_life(), PreviousLife::Killed);
        store.mark_clean().unwrap();
        let store = open(dir.path(), identity(), "boot 3").unwrap();
        assert_eq!(store.previous_life(), PreviousLife::Clean);
        let store = open(dir.path(), identity(), "boot 3").unwrap();
        assert_eq!(store.previous_life(), PreviousLife::Killed, "the mark holds once");
    }

    #[test]
    fn a_member_is_in_doubt_once_its_machine_stopped_while_it_acknowledged_from_memory() {
        use Durability::{PageCache, Synced};
        type Life = (u8, Durability, bool); // boot, durability, whether it ended cleanly
        // Lives one after the other, and whether there is doubt in the last.
        let rows: [(&str, &[Life], bool); 8] = [
            ("killed", &[(1, PageCache, false), (1, PageCache, false)], false),
            ("stopped", &[(1, PageCache, false), (2, Synced, false)], true),
            ("stopped, all was on disk", &[(1, Synced, false), (2, PageCache, false)], false),
            ("clean before it stopped", &[(1, PageCache, true), (2, PageCache, false)], false),
            (
                "a start that did not recover the log",
                &[(1, Synced, false), (2, PageCache, false), (2, PageCache, false)],
                false,
            ),
            (
                "doubt outlasts a life",
                &[(1, PageCache, false), (2, Synced, true), (2, Synced, false)],
                true,
            ),
            (
                "killed, then on disk, then stopped",
                &[(1, PageCache, false), (1, Synced, false), (2, Synced, false)],
                true,
            ),
            (
                "clean, then on disk, then stopped",
                &[(1, PageCache, true), (1, Synced, false), (2, Synced, false)],
                false,
            ),
        ];
        for (what, lives, want) in rows {
            let dir = tempfile::tempdir().unwrap();
            let open = |boot: u8, durability| {
                let opening = Opening { identity: identity(), durability, used: false, now_ms: 1 };
                let files = Arc::new(RealFiles);
                StoreFile::open_at_boot(files, dir.path(), opening, &boot.to_string()).unwrap()
            };
            let mut in_doubt = false;
            for (boot, durability, ends_clean) in lives {
                let store = open(*boot, *durability);
                in_doubt = store.in_doubt();
                if *ends_clean {
                    store.mark_clean().unwrap();
                }
            }
            assert_eq!(in_doubt, want, "{what}");
            let store = open(2, Synced);
            store.settle_doubt().unwrap();
            assert!(!open(2, Synced).in_doubt(), "{what}");
        }
    }

    #[test]
    fn a_failed_sync_is_as_if_the_machine_had_stopped() {
        for durability in [Durability::Synced, Durability::PageCache] {
            let dir = tempfile::tempdir().unwrap();
            let open = |durability| {
                let opening = Opening { identity: identity(), durability, used: false, now_ms: 1 };
                let files = Arc::new(RealFiles);
                StoreFile::open_at_boot(files, dir.path(), opening, "boot 1").unwrap()
            };
            open(durability).sync_failed().unwrap();
            let store = open(Durability::Synced);
            let left = (store.previous_life(), store.in_doubt());
            assert_eq!(left, (PreviousLife::MachineStopped, durability == Durability::PageCache));
            store.recovered().unwrap();
            assert_eq!(open(Durability::Synced).previous_life(), PreviousLife::Killed);
        }
    }

    #[test]
    fn a_lineage_and_a_start_anew_come_back_and_a_store_without_is_stored_as_ever() {
        let dir = tempfile::tempdir().unwrap();
        let stored = || std::fs::read_to_string(dir.path().join("store.json")).unwrap();
        let store = open(dir.path(), identity(), "b").unwrap();
        let plain = stored();
        assert!(plain.contains("\"format\": 1,") && !plain.contains("lineage"), "{plain}");
        assert!(!plain.contains("unfinished"), "{plain}");
        let lineage = Lineage { id: u64::MAX, since_ms: 5 };
        let unfinished = Unfinished { code: "c".into(), term: Term(7) };
        store.begin_anew(lineage, unfinished.clone()).unwrap();
        assert!(stored().contains("\"format\": 2,"), "an older build refuses it");
        let store = open(dir.path(), identity(), "b").unwrap();
        assert_eq!((store.lineage(), store.unfinished()), (Some(lineage), Some(unfinished)));
        store.finish_anew().unwrap();
        let store = open(dir.path(), identity(), "b").unwrap();
        assert_eq!((store.lineage(), store.unfinished()), (Some(lineage), None));
        let damaged = stored().replace("ffffffffffffffff", "0");
        std::fs::write(dir.path().join("store.json"), damaged).unwrap();
        let text = open(dir.path(), identity(), "b").err().unwrap().to_string();
        assert!(text.contains("`0` is no lineage"), "{text}");
    }

    #[test]
    fn a_store_of_something_else_is_refused_with_both_values() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), identity(), "b").unwrap();
        let rows = [
            (Identity { cluster: "C2".to_owned(), ..identity() }, "cluster `RaftCluster`", "`C2`"),
            (Identity { group: "G2".to_owned(), ..identity() }, "group `RaftNode00`", "`G2`"),
            (Identity { member: "n1".to_owned(), ..identity() }, "member `n0`", "`n1`"),
            (Identity { segment_bytes: 1 << 20, ..identity() }, "`1073741824`", "`1048576`"),
        ];
        for (other, stored, configured) in rows {
            let text = open(dir.path(), other, "b").err().unwrap().to_string();
            assert!(text.contains(stored) && text.contains(configured), "{text}");
        }
    }

    #[test]
    fn damaged_and_missing_stamps_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let (identity_here, durability) = (identity(), Durability::Synced);
        let opening = Opening { identity: identity_here, durability, used: true, now_ms: 1 };
        let used = StoreFile::open(Arc::new(RealFiles), dir.path(), opening);
        assert!(used.err().unwrap().to_string().contains("missing"));
        std::fs::write(dir.path().join("store.json"), "{}").unwrap();
        assert!(matches!(open(dir.path(), identity(), "b"), Err(Error::BadFile { .. })));
    }

    #[test]
    fn a_second_lock_is_refused_and_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let first = StoreLock::take(&RealFiles, dir.path()).unwrap();
        let text = StoreLock::take(&RealFiles, dir.path()).unwrap_err().to_string();
        let pid = std::process::id();
        assert!(text.contains(&format!("held by process {pid};")), "{text}");
        drop(first);
        StoreLock::take(&RealFiles, dir.path()).unwrap();
    }
}
