//! A disk in memory that knows what was only written from what is durable, for tests of crashes.
//!
//! ```text
//!  writes ─────────► written ──── sync, of one file ──────► durable     content, per sector
//!  new, gone, renamed ──► names ── sync_dir, of one dir ──► durable     names
//! ```
//!
//! Everything that changes files or makes them durable is a *step*, as fine as the system calls of
//! [`super::RealFiles`]. At a chosen step the machine stops ([`SimulatedDisk::stop_at`]): that step
//! and all that come later fail, and what was written by then is kept. The next life gets another
//! disk: [`SimulatedDisk::after_kill`] has all that was written, and
//! [`SimulatedDisk::after_power_loss`] has what was durable and any part of the rest.
//!
//! A sync that fails ([`SimulatedDisk::fail_at`]) does what Linux does: the pages that were to be
//! written are clean from then on, and are not on the disk. No later sync writes them, unless
//! somebody writes to them again, and the page cache may forget them ([`SimulatedDisk::forget`]).
//!
//! Directories are durable at once. A new file is empty until its content is synced.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::files::{FileInfo, Files, Fill, SegmentFile, Space, Through, UNFINISHED};
use super::mmap::{MappedBytes, Unpublished, Writer};

/// What a disk writes as a whole. Bytes.
pub const SECTOR_BYTES: usize = 512;
/// What is dirty, or clean, as a whole. Bytes.
const PAGE_BYTES: usize = 4096;
/// What a file takes at least.
const BLOCK_BYTES: u64 = 4096;

/// Something that was not made durable, and may or may not outlive a power loss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsynced {
    /// The names that one call changed: a file made, renamed or removed.
    Names(Vec<PathBuf>),
    /// That a file is longer than it was; what is new of it reads as zeros.
    Length(PathBuf),
    /// A sector of a file, by its offset.
    Sector(PathBuf, usize),
}

/// In which order changes of names within a directory reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameOrder {
    /// None survives without those before it: file systems with a journal (ext4, XFS, btrfs).
    Kept,
    /// Any of them may survive: the least that POSIX promises.
    Any,
}

/// The disk. A handle: clones share it.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

struct State {
    total_bytes: u64,
    dirs: Vec<PathBuf>,
    /// What there is, by number. A file may have no name any more, or not yet a durable one.
    nodes: BTreeMap<u64, Arc<Node>>,
    next_node: u64,
    /// As the process sees them.
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// What makes `names` of `durable_names`, oldest first.
    unsynced: Vec<NameChange>,
    steps: Vec<String>,
    stop_at: Option<usize>,
    fail_at: Option<usize>,
    /// Syncs of files so far, and which of them fails.
    syncs: usize,
    fail_sync: Option<usize>,
}

#[derive(Clone)]
struct NameChange {
    dir: PathBuf,
    changes: Vec<(PathBuf, Option<u64>)>,
}

/// A file without its names.
struct Node {
    /// What was written, in memory, so that it can be mapped.
    written: File,
    images: Mutex<Images>,
}

#[derive(Default)]
struct Images {
    durable: Vec<u8>,
    /// Pages that the next sync has to write, by number.
    dirty: BTreeSet<usize>,
    /// What was written when the machine stopped: threads that do not know yet go on writing.
    at_stop: Option<Vec<u8>>,
}

impl Node {
    fn new(written: &[u8], durable: Vec<u8>, dirty: BTreeSet<usize>) -> io::Result<Self> {
        let file = rustix::fs::memfd_create("simulated", rustix::fs::MemfdFlags::CLOEXEC)?;
        let file = File::from(file);
        file.write_all_at(written, 0)?;
        Ok(Self { written: file, images: Mutex::new(Images { durable, dirty, at_stop: None }) })
    }

    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.written.write_all_at(bytes, at)?;
        let (start, end) = (at as usize, at as usize + bytes.len());
        self.images.lock().dirty.extend(start / PAGE_BYTES..end.div_ceil(PAGE_BYTES));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.written.metadata()?.len())
    }

    fn content(&self) -> io::Result<Vec<u8>> {
        let mut content = vec![0; usize::try_from(self.len()?).map_err(io::Error::other)?];
        self.written.read_exact_at(&mut content, 0)?;
        Ok(content)
    }

    /// What was written, as of the stop if there was one.
    fn last_written(&self) -> io::Result<Vec<u8>> {
        let at_stop = self.images.lock().at_stop.clone();
        at_stop.map_or_else(|| self.content(), Ok)
    }

    /// The durable content with those parts of the rest that survive.
    fn with_surviving(
        &self,
        path: &Path,
        survives: &mut dyn FnMut(Unsynced) -> bool,
    ) -> io::Result<Vec<u8>> {
        let written = self.last_written()?;
        let (mut content, dirty) = {
            let images = self.images.lock();
            (images.durable.clone(), images.dirty.clone())
        };
        if content.len() < written.len() && survives(Unsynced::Length(path.to_owned())) {
            content.resize(written.len(), 0);
        }
        let sectors = content.chunks_mut(SECTOR_BYTES).zip(written.chunks(SECTOR_BYTES));
        for (at, (old, new)) in sectors.enumerate() {
            let bytes = old.len().min(new.len());
            let (old, new) = (&mut old[..bytes], &new[..bytes]);
            let sector = || Unsynced::Sector(path.to_owned(), at * SECTOR_BYTES);
            let is_dirty = dirty.contains(&(at * SECTOR_BYTES / PAGE_BYTES));
            if is_dirty && old != new && survives(sector()) {
                old.copy_from_slice(new);
            }
        }
        Ok(content)
    }
}

impl SimulatedDisk {
    /// An empty disk of `total_bytes`.
    pub fn new(total_bytes: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            total_bytes,
            dirs: Vec::new(),
            nodes: BTreeMap::new(),
            next_node: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced: Vec::new(),
            steps: Vec::new(),
            stop_at: None,
            fail_at: None,
            syncs: 0,
            fail_sync: None,
        })))
    }

    /// Gives the disk another size; smaller than what is on it means full.
    pub fn resize(&self, total_bytes: u64) {
        self.0.lock().total_bytes = total_bytes;
    }

    /// The machine stops at step `step`, counted from the disk's first one (0).
    pub fn stop_at(&self, step: usize) {
        self.0.lock().stop_at = Some(step);
    }

    /// Step `step` fails with an error of the medium; the others go on working. If it is a sync,
    /// what it was to write is lost for the disk.
    pub fn fail_at(&self, step: usize) {
        self.0.lock().fail_at = Some(step);
    }

    /// Like [`Self::fail_at`], for the sync of a file, counted from the disk's first one (0): whatever
    /// steps other threads take meanwhile, it is a sync that fails.
    pub fn fail_sync(&self, sync: usize) {
        self.0.lock().fail_sync = Some(sync);
    }

    /// How many syncs of files there were.
    pub fn sync_count(&self) -> usize {
        self.0.lock().syncs
    }

    /// Whether the machine has stopped.
    pub fn has_stopped(&self) -> bool {
        self.0.lock().has_stopped()
    }

    /// The steps so far, in words. The last one is the one at which the machine stopped.
    pub fn steps(&self) -> Vec<String> {
        self.0.lock().steps.clone()
    }

    /// How many steps there were.
    pub fn step_count(&self) -> usize {
        self.0.lock().steps.len()
    }

    /// What of a file is durable; `None` if there is none of that name.
    pub fn durable(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.0.lock();
        let number = state.durable_names.get(path)?;
        let durable = state.nodes.get(number)?.images.lock().durable.clone();
        Some(durable)
    }

    /// The disk as the next process finds it when this one ends and the machine goes on. What was
    /// not durable still is not.
    pub fn after_kill(&self) -> io::Result<Self> {
        let state = self.0.lock();
        let next = Self::new(state.total_bytes);
        {
            let mut next = next.0.lock();
            for (number, node) in &state.nodes {
                let (durable, dirty) = {
                    let images = node.images.lock();
                    (images.durable.clone(), images.dirty.clone())
                };
                let copy = Node::new(&node.last_written()?, durable, dirty)?;
                next.nodes.insert(*number, Arc::new(copy));
            }
            next.next_node = state.next_node;
            next.dirs.clone_from(&state.dirs);
            next.names.clone_from(&state.names);
            next.durable_names.clone_from(&state.durable_names);
            next.unsynced.clone_from(&state.unsynced);
        }
        Ok(next)
    }

    /// The disk as it is after a power loss. `survives` is asked for each thing that was not made
    /// durable: names first, oldest first, then the content of each file that is left.
    pub fn after_power_loss(
        &self,
        order: NameOrder,
        survives: &mut dyn FnMut(Unsynced) -> bool,
    ) -> io::Result<Self> {
        let state = self.0.lock();
        let mut names = state.durable_names.clone();
        let mut cut_off: Vec<&Path> = Vec::new(); // directories of which nothing more survives
        for NameChange { dir, changes } in &state.unsynced {
            let changed = Unsynced::Names(changes.iter().map(|(path, _)| path.clone()).collect());
            if cut_off.contains(&dir.as_path()) {
                continue;
            }
            if survives(changed) {
                apply(&mut names, changes);
            } else if order == NameOrder::Kept {
                cut_off.push(dir);
            }
        }
        let next = Self::new(state.total_bytes);
        {
            let mut next = next.0.lock();
            for (path, number) in &names {
                let content = state.node(*number)?.with_surviving(path, survives)?;
                next.nodes.insert(
                    *number,
                    Arc::new(Node::new(&content, content.clone(), BTreeSet::new())?),
                );
            }
            next.next_node = state.next_node;
            next.dirs.clone_from(&state.dirs);
            next.durable_names.clone_from(&names);
            next.names = names;
        }
        Ok(next)
    }

    /// The kernel writes back what it likes: what `survives` is asked for becomes durable by
    /// itself. Names stay.
    pub fn write_back(&self, survives: &mut dyn FnMut(Unsynced) -> bool) -> io::Result<()> {
        let state = self.0.lock();
        for (path, number) in state.names.iter().filter(|_| !state.has_stopped()) {
            let node = state.node(*number)?;
            let content = node.with_surviving(path, survives)?;
            node.images.lock().durable = content;
        }
        Ok(())
    }

    /// The page cache forgets what is clean: it is read from the disk again. On a disk that nobody
    /// uses.
    pub fn forget(&self) -> io::Result<()> {
        let state = self.0.lock();
        for node in state.nodes.values() {
            let images = node.images.lock();
            for (page, bytes) in images.durable.chunks(PAGE_BYTES).enumerate() {
                if !images.dirty.contains(&page) {
                    node.written.write_all_at(bytes, (page * PAGE_BYTES) as u64)?;
                }
            }
        }
        Ok(())
    }

    /// The medium rots: changes a byte of a file as it was written, and as it is durable.
    pub fn rot(&self, path: &Path, at: usize, rot: impl Fn(u8) -> u8) -> io::Result<()> {
        let state = self.0.lock();
        let node = state.named(path).ok_or_else(|| not_found(path))?;
        let mut byte = [0];
        node.written.read_exact_at(&mut byte, at as u64)?;
        node.written.write_all_at(&[rot(byte[0])], at as u64)?;
        let mut images = node.images.lock();
        let Images { durable, at_stop, .. } = &mut *images;
        let copies = [Some(durable), at_stop.as_mut()].into_iter().flatten();
        copies.filter_map(|copy| copy.get_mut(at)).for_each(|byte| *byte = rot(*byte));
        Ok(())
    }

    fn step(&self, what: &str, path: &Path) -> io::Result<()> {
        self.0.lock().step(what, path)
    }
}

fn apply(names: &mut BTreeMap<PathBuf, u64>, changes: &[(PathBuf, Option<u64>)]) {
    for (path, to) in changes {
        match to {
            Some(number) => names.insert(path.clone(), *number),
            None => names.remove(path),
        };
    }
}

fn stopped() -> io::Error {
    io::Error::other("the machine has stopped")
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no {}", path.display()))
}

fn directory_of(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

impl State {
    fn has_stopped(&self) -> bool {
        self.stop_at.is_some_and(|at| at < self.steps.len())
    }

    fn running(&self) -> io::Result<()> {
        if self.has_stopped() { Err(stopped()) } else { Ok(()) }
    }

    /// Counts a step that is about to happen, unless the machine stops at it.
    fn step(&mut self, what: &str, path: &Path) -> io::Result<()> {
        self.running()?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.steps.push(format!("{what} {name}"));
        if self.has_stopped() {
            for node in self.nodes.values() {
                let written = node.content()?;
                node.images.lock().at_stop = Some(written);
            }
        }
        self.running()?;
        match self.fail_at == Some(self.steps.len() - 1) {
            true => Err(io::Error::other("medium error")),
            false => Ok(()),
        }
    }

    fn node(&self, number: u64) -> io::Result<&Arc<Node>> {
        self.nodes.get(&number).ok_or_else(|| io::Error::other("a name of nothing"))
    }

    fn named(&self, path: &Path) -> Option<&Arc<Node>> {
        self.names.get(path).and_then(|number| self.nodes.get(number))
    }

    fn change(&mut self, dir: PathBuf, changes: Vec<(PathBuf, Option<u64>)>) {
        apply(&mut self.names, &changes);
        self.unsynced.push(NameChange { dir, changes });
        self.forget_nameless();
    }

    /// Frees what neither has a name nor may get one back.
    fn forget_nameless(&mut self) {
        let Self { names, durable_names, unsynced, nodes, .. } = self;
        let pending = || unsynced.iter().flat_map(|change| &change.changes);
        nodes.retain(|number, _| {
            names.values().chain(durable_names.values()).any(|n| n == number)
                || pending().any(|(_, to)| *to == Some(*number))
        });
    }

    fn create(&mut self, path: &Path) -> io::Result<Arc<Node>> {
        let dir = directory_of(path);
        if !self.dirs.contains(&dir) {
            return Err(not_found(&dir));
        }
        self.step("create", path)?;
        let (number, node) =
            (self.next_node, Arc::new(Node::new(&[], Vec::new(), BTreeSet::new())?));
        self.next_node += 1;
        self.nodes.insert(number, Arc::clone(&node));
        self.change(dir, vec![(path.to_owned(), Some(number))]);
        Ok(node)
    }

    fn unlink(&mut self, path: &Path) -> io::Result<()> {
        self.running()?;
        if self.names.contains_key(path) {
            self.step("remove", path)?;
            self.change(directory_of(path), vec![(path.to_owned(), None)]);
        }
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.step("rename to", to)?;
        let number = *self.names.get(from).ok_or_else(|| not_found(from))?;
        let changes = vec![(from.to_owned(), None), (to.to_owned(), Some(number))];
        self.change(directory_of(to), changes);
        Ok(())
    }

    fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.step("sync directory", dir)?;
        let synced: Vec<_> = self.unsynced.extract_if(.., |change| change.dir == dir).collect();
        for NameChange { changes, .. } in synced {
            apply(&mut self.durable_names, &changes);
        }
        self.forget_nameless();
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        let mut used = 0;
        for number in self.names.values() {
            used += self.node(*number)?.len()?.next_multiple_of(BLOCK_BYTES);
        }
        Ok(self.total_bytes.saturating_sub(used))
    }

    /// Refuses when `bytes` more do not fit.
    fn take_room(&self, bytes: u64) -> io::Result<()> {
        let fits = bytes.next_multiple_of(BLOCK_BYTES) <= self.free()?;
        if fits { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn allocate(&mut self, path: &Path, node: &Node, bytes: u64) -> io::Result<()> {
        self.step("allocate", path)?;
        self.take_room(bytes - node.len()?)?;
        node.written.set_len(bytes)
    }

    fn sync(&mut self, path: &Path, node: &Node) -> io::Result<()> {
        let synced = self.step("sync", path);
        if self.has_stopped() {
            return synced;
        }
        let fails = self.fail_sync == Some(self.syncs);
        self.syncs += 1;
        let synced = if fails { Err(io::Error::other("medium error")) } else { synced };
        let written = node.content()?;
        let mut images = node.images.lock();
        let Images { durable, dirty, .. } = &mut *images;
        let dirty = std::mem::take(dirty); // whatever comes of it
        synced?;
        durable.resize(written.len(), 0);
        for page in dirty {
            let start = page * PAGE_BYTES;
            let page = start..written.len().min(start + PAGE_BYTES);
            durable[page.clone()].copy_from_slice(&written[page]);
        }
        Ok(())
    }
}

impl Files for SimulatedDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.step("create directory", dir)?;
        let mut state = self.0.lock();
        for dir in dir.ancestors() {
            if !state.dirs.iter().any(|there| there == dir) {
                state.dirs.push(dir.to_owned());
            }
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<FileInfo>> {
        let state = self.0.lock();
        state.running()?;
        if !state.dirs.iter().any(|there| there == dir) {
            return Err(not_found(dir));
        }
        let mut files = Vec::new();
        for (path, number) in state.names.iter().filter(|(path, _)| path.parent() == Some(dir)) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let bytes = state.node(*number)?.len()?;
            files.push(FileInfo { name, bytes, modified_ms: 0 });
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    fn segment(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn SegmentFile>> {
        let mut state = self.0.lock();
        state.running()?;
        let existed = state.named(path).cloned();
        let is_new = existed.is_none();
        let node = existed.map_or_else(|| state.create(path), Ok)?;
        let have = node.len()?;
        if have > bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "file is too long"));
        }
        if have < bytes {
            let made = state.allocate(path, &node, bytes);
            if let Err(error) = made.and_then(|()| state.sync(path, &node)) {
                if is_new && !state.has_stopped() {
                    state.unlink(path)?;
                }
                return Err(error);
            }
            state.sync_dir(&directory_of(path))?;
        }
        Ok(Arc::new(Segment { disk: self.clone(), path: path.to_owned(), node, bytes }))
    }

    fn map(&self, path: &Path) -> io::Result<MappedBytes> {
        let state = self.0.lock();
        state.running()?;
        MappedBytes::of_finished(&state.named(path).ok_or_else(|| not_found(path))?.written)
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let state = self.0.lock();
        state.running()?;
        state.named(path).map(|node| node.content()).transpose()
    }

    fn replace_with(&self, path: &Path, fill: &mut Fill<'_>) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(UNFINISHED);
        let temporary = Path::new(&name);
        let mut content = Vec::new();
        let filled = fill(&mut content);
        let mut state = self.0.lock();
        state.unlink(temporary)?;
        let node = state.create(temporary)?;
        let written = filled.and_then(|()| state.step("write", temporary)).and_then(|()| {
            state.take_room(content.len() as u64)?;
            node.write(&content, 0)
        });
        if let Err(error) = written.and_then(|()| state.sync(temporary, &node)) {
            if !state.has_stopped() {
                state.unlink(temporary)?;
            }
            return Err(error);
        }
        state.rename(temporary, path)?;
        state.sync_dir(&directory_of(path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.lock().unlink(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.lock().sync_dir(dir)
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        let state = self.0.lock();
        state.running()?;
        Ok(Space { total: state.total_bytes, free: state.free()? })
    }
}

struct Segment {
    disk: SimulatedDisk,
    path: PathBuf,
    node: Arc<Node>,
    bytes: u64,
}

impl SegmentFile for Segment {
    fn map(&self) -> io::Result<Writer> {
        self.disk.0.lock().running()?;
        Writer::map(&self.node.written, usize::try_from(self.bytes).map_err(io::Error::other)?)
    }

    fn write(&self, bytes: Unpublished<'_>) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        if state.stop_at == Some(state.steps.len()) {
            let half = &bytes.bytes()[..bytes.bytes().len() / 2];
            self.node.write(half, bytes.at())?; // a call that was interrupted
        }
        state.step("write", &self.path)?;
        self.node.write(bytes.bytes(), bytes.at())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.0.lock().sync(&self.path, &self.node)
    }

    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        self.disk.step("zero", &self.path)?;
        let bytes = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        self.node.write(&vec![0; bytes], range.start)
    }

    fn read_stored(&self, at: u64, out: &mut [u8], _: Through) -> io::Result<()> {
        self.disk.0.lock().running()?;
        self.node.written.read_exact_at(out, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: &str = "/d";
    const NEVER: fn(Unsynced) -> bool = |_| false;

    fn disk() -> SimulatedDisk {
        let disk = SimulatedDisk::new(1 << 20);
        disk.create_dir(Path::new(DIR)).unwrap();
        disk
    }

    fn at(name: &str) -> PathBuf {
        Path::new(DIR).join(name)
    }

    fn names(disk: &SimulatedDisk) -> Vec<String> {
        disk.list(Path::new(DIR)).unwrap().into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn what_is_written_survives_a_kill_at_once_and_a_power_loss_after_a_sync() {
        let disk = disk();
        let segment = disk.segment(&at("0"), 8192).unwrap();
        let mut map = segment.map().unwrap();
        segment.write(map.unpublished(600, b"hello")).unwrap();
        let content =
            |disk: SimulatedDisk| disk.read(&at("0")).unwrap().unwrap()[600..605].to_vec();
        let lost = |disk: &SimulatedDisk| disk.after_power_loss(NameOrder::Any, &mut { NEVER });
        let killed = disk.after_kill().unwrap();
        assert_eq!(content(lost(&killed).unwrap()), [0; 5], "a kill makes nothing durable");
        assert_eq!(content(killed), b"hello");
        assert_eq!(content(lost(&disk).unwrap()), [0; 5]);
        segment.sync().unwrap();
        segment.write(map.unpublished(600, b"later")).unwrap();
        assert_eq!(content(lost(&disk).unwrap()), b"hello");
        let mut asked = Vec::new();
        let all = disk.after_power_loss(NameOrder::Any, &mut |unsynced| {
            asked.push(unsynced);
            true
        });
        assert_eq!(content(all.unwrap()), b"later");
        assert_eq!(asked, [Unsynced::Sector(at("0"), 512)]);
        disk.write_back(&mut |_| true).unwrap();
        assert_eq!(content(lost(&disk).unwrap()), b"later");
    }

    #[test]
    fn a_replaced_file_is_the_old_or_the_new_one_at_every_step() {
        let before = disk();
        before.replace(&at("f"), b"old").unwrap();
        let first = before.steps().len();
        for step in first.. {
            let disk = before.after_kill().unwrap();
            disk.stop_at(step - first);
            let replaced = disk.replace(&at("f"), b"new");
            for survives in [true, false] {
                let after = disk.after_power_loss(NameOrder::Any, &mut |_| survives).unwrap();
                let content = after.read(&at("f")).unwrap().unwrap();
                assert!(content == b"new" || content == b"old", "step {step}: {content:?}");
                assert!(replaced.is_err() || content == b"new", "it was said to be durable");
            }
            if replaced.is_ok() {
                assert_eq!(step - first, 5, "create, write, sync, rename, sync directory");
                return;
            }
            assert!(disk.read(&at("f")).is_err(), "a stopped machine answers nothing");
        }
    }

    #[test]
    fn names_survive_in_order_or_in_any() {
        let disk = disk();
        for name in ["a", "b"] {
            disk.segment(&at(name), 4096).unwrap();
            disk.remove(&at(name)).unwrap();
        }
        // The directory was synced with "b", so only its removal is left to lose.
        let lost = disk.after_power_loss(NameOrder::Kept, &mut { NEVER }).unwrap();
        assert_eq!(names(&lost), ["b"]);
        for name in ["c", "d"] {
            lost.segment(&at(name), 4096).unwrap();
        }
        lost.remove(&at("c")).unwrap();
        lost.remove(&at("d")).unwrap();
        let only_d = |unsynced: Unsynced| unsynced == Unsynced::Names(vec![at("d")]);
        let left = |order| names(&lost.after_power_loss(order, &mut { only_d }).unwrap());
        assert_eq!(left(NameOrder::Kept), ["b", "c", "d"]);
        assert_eq!(left(NameOrder::Any), ["b", "c"]);
    }

    #[test]
    fn a_full_disk_takes_nothing_more_and_keeps_what_it_has() {
        let disk = disk();
        disk.resize(12 << 10);
        disk.segment(&at("0"), 8192).unwrap();
        let full = disk.segment(&at("1"), 8192).err().unwrap();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        disk.replace(&at("f"), b"fits").unwrap();
        let full = disk.replace(&at("f"), b"does not").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(names(&disk), ["0", "f"]);
        assert_eq!(disk.space(Path::new(DIR)).unwrap().free, 0);
    }

    #[test]
    fn what_a_failed_sync_did_not_write_is_clean_and_lost_until_it_is_written_again() {
        let disk = disk();
        let segment = disk.segment(&at("0"), 3 * PAGE_BYTES as u64).unwrap();
        let mut map = segment.map().unwrap();
        let page = |n: usize| n * PAGE_BYTES;
        let content = |disk: &SimulatedDisk| {
            let content = disk.read(&at("0")).unwrap().unwrap();
            [0, 1, 2].map(|n| content[page(n)])
        };
        let lost = |disk: &SimulatedDisk| {
            content(&disk.after_power_loss(NameOrder::Any, &mut |_| true).unwrap())
        };
        segment.write(map.unpublished(page(0), &[1; 2 * PAGE_BYTES])).unwrap();
        disk.fail_at(disk.steps().len());
        assert_eq!(segment.sync().unwrap_err().to_string(), "medium error");
        segment.write(map.unpublished(page(2), &[1])).unwrap();
        segment.sync().unwrap();
        disk.write_back(&mut |_| true).unwrap();
        assert_eq!((content(&disk), lost(&disk)), ([1, 1, 1], [0, 0, 1]));
        segment.write(map.unpublished(page(1), &[1])).unwrap();
        let killed = disk.after_kill().unwrap();
        killed.forget().unwrap();
        assert_eq!(content(&killed), [0, 1, 1], "what is dirty is kept");
        segment.sync().unwrap();
        assert_eq!(lost(&disk), [0, 1, 1]);
    }
}
