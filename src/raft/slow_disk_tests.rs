//! Members whose disks stand still, over real sockets and files.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::group_tests::{Cluster, PATIENCE, draft, propose, send, until};
use crate::store::error::Error;
use crate::store::files::{FileInfo, Fill, SegmentFile, Space, Through};
use crate::store::mmap::{MappedBytes, Unpublished, Writer};
use crate::store::{Files, RealFiles, StoreLock};

/// The real disk. Syncs of its log wait while it stands still; those of a vote do not: the raft
/// thread stands still with them, which the broker's watchdog is for.
#[derive(Clone, Default)]
struct Stalling(Arc<Stall>);

#[derive(Default)]
struct Stall {
    stands: Mutex<bool>,
    goes_on: Condvar,
}

impl Stalling {
    fn stand_still(&self, stands: bool) {
        *self.0.stands.lock() = stands;
        self.0.goes_on.notify_all();
    }
}

struct StallingFile {
    file: Arc<dyn SegmentFile>,
    stall: Arc<Stall>,
}

impl SegmentFile for StallingFile {
    fn map(&self) -> io::Result<Writer> {
        self.file.map()
    }

    fn write(&self, bytes: Unpublished<'_>) -> io::Result<()> {
        self.file.write(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.stall.goes_on.wait_while(&mut self.stall.stands.lock(), |stands| *stands);
        self.file.sync()
    }

    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        self.file.zero(range)
    }

    fn read_stored(&self, at: u64, out: &mut [u8], through: Through) -> io::Result<()> {
        self.file.read_stored(at, out, through)
    }
}

impl Files for Stalling {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealFiles.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<FileInfo>> {
        RealFiles.list(dir)
    }

    fn segment(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn SegmentFile>> {
        let file = RealFiles.segment(path, bytes)?;
        if !path.parent().is_some_and(|dir| dir.ends_with("commitlog")) {
            return Ok(file);
        }
        Ok(Arc::new(StallingFile { file, stall: Arc::clone(&self.0) }))
    }

    fn map(&self, path: &Path) -> io::Result<MappedBytes> {
        RealFiles.map(path)
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        RealFiles.read(path)
    }

    fn replace_with(&self, path: &Path, fill: &mut Fill<'_>) -> io::Result<()> {
        RealFiles.replace_with(path, fill)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFiles.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealFiles.sync_dir(dir)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        RealFiles.space(dir)
    }

    fn lock(&self, path: &Path) -> Result<StoreLock, Error> {
        RealFiles.lock(path)
    }
}

/// Go on before their members end.
struct Disks(Vec<Stalling>);

impl Drop for Disks {
    fn drop(&mut self) {
        self.0.iter().for_each(|disk| disk.stand_still(false));
    }
}

fn cluster() -> (Cluster, Disks) {
    let disks: Vec<Stalling> = (0..3).map(|_| Stalling::default()).collect();
    let cluster = Cluster::synced(disks.iter().map(|d| Arc::new(d.clone()) as Arc<_>).collect());
    (cluster, Disks(disks))
}

#[test]
fn a_leader_whose_disk_stands_still_lets_another_one_lead_and_nobody_waits_for_the_disk() {
    let (cluster, disks) = cluster();
    let (former, leader) = cluster.leader();
    send(&leader, "T", 0, "before");
    disks.0[former].stand_still(true);
    let waiting = propose(&leader, vec![draft("T", 0, "meanwhile")], vec![]);
    until("another one leads", || (cluster.leader().0 != former).then_some(()));
    assert_eq!(waiting.recv_timeout(PATIENCE).unwrap().unwrap().places[0].queue_offset.0, 1);
    let (_, next) = cluster.leader();
    assert_eq!(send(&next, "T", 0, "after").places[0].queue_offset.0, 2);
    let term = next.role().term();
    let pace = leader.disk_pace();
    let (slow, longest) = (pace.slow.unwrap(), pace.longest.unwrap());
    assert!(slow.why.contains("a sync took ") && slow.left.as_secs() > 30, "{slow:?}");
    assert!(longest.as_secs() >= 1, "{longest:?}");
    assert_eq!(next.disk_pace().slow, None);
    disks.0[former].stand_still(false);
    until("the disk has everything", || {
        let status = leader.status();
        (status.durable == status.tail && status.applied == status.last).then_some(())
    });
    assert_eq!(cluster.leader().1.role().term(), term, "it is not taken back");
}

#[test]
fn where_all_disks_are_slow_leadership_stays_where_it_is() {
    let (cluster, disks) = cluster();
    let (i, leader) = cluster.leader();
    send(&leader, "T", 0, "before");
    let term = leader.role().term();
    disks.0.iter().for_each(|disk| disk.stand_still(true));
    let waiting = propose(&leader, vec![draft("T", 0, "meanwhile")], vec![]);
    until("all are slow", || {
        cluster.running().all(|(_, group)| group.0.room.slowness().is_some()).then_some(())
    });
    disks.0.iter().for_each(|disk| disk.stand_still(false));
    assert_eq!(waiting.recv_timeout(PATIENCE).unwrap().unwrap().places[0].queue_offset.0, 1);
    assert_eq!((cluster.leader().0, leader.role().term()), (i, term));
}
