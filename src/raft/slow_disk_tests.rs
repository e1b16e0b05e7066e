//! Members whose disks stand still, over real sockets and files.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Group;
use super::group_tests::{Cluster, PATIENCE, draft, propose, send, until};
use super::repair_tests::send_twenty;
use crate::ids::{EntryIndex, PhysicalOffset};
use crate::store::entry::HEADER_BYTES;
use crate::store::error::Error;
use crate::store::files::{FileInfo, Fill, SegmentFile, Space, Through};
use crate::store::mmap::{MappedBytes, Unpublished, Writer};
use crate::store::threads::{Work, Worker};
use crate::store::{Files, RealFiles, StoreLock};

/// The real disk. Syncs of its log wait while it stands still; those of a vote do not: the raft
/// thread stands still with them, which the broker's watchdog is for.
#[derive(Clone, Default)]
struct Stalling(Arc<Stall>);

#[derive(Default)]
struct Stall {
    stands: Mutex<Still>,
    goes_on: Condvar,
}

/// What stands still.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Still {
    #[default]
    Nothing,
    Syncs,
    /// Keeping where the log starts.
    Starts,
    /// Whatever is done aside.
    Aside,
}

impl Stall {
    fn wait_for(&self, what: Still) {
        self.goes_on.wait_while(&mut self.stands.lock(), |stands| *stands == what);
    }
}

impl Stalling {
    fn stand_still(&self, stands: bool) {
        self.stop(if stands { Still::Syncs } else { Still::Nothing });
    }

    fn stop(&self, what: Still) {
        *self.0.stands.lock() = what;
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
        self.stall.wait_for(Still::Syncs);
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
        if path.ends_with("log.json") {
            self.0.wait_for(Still::Starts);
        }
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

    fn start_worker(&self, name: &str, mut work: Work) -> io::Result<Arc<dyn Worker>> {
        let (stall, is_aside) = (Arc::clone(&self.0), name == "disk");
        let turn = move || {
            if is_aside {
                stall.wait_for(Still::Aside);
            }
            work()
        };
        RealFiles.start_worker(name, Box::new(turn))
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

fn until_it_beats(group: &Group) {
    let before = group.pulse().beats();
    until("the raft thread turns", || (group.pulse().beats() > before + 3).then_some(()));
}

#[test]
fn a_leader_whose_disk_stands_still_in_a_repair_turns_and_takes_messages() {
    let (cluster, disks) = cluster();
    let (i, leader) = cluster.leader();
    let (_, positions) = send_twenty(&leader);
    (0..3).for_each(|i| drop(cluster.until_has(i, 20)));
    let place = |entry: usize| PhysicalOffset(positions[entry] + HEADER_BYTES as u64);
    let is_whole = |entry: usize| leader.log().check_at(place(entry)).is_ok();
    // From a peer.
    cluster.overwrite(i, positions[7] + 9, b"#");
    disks.0[i].stop(Still::Syncs);
    let (done, repaired) = mpsc::sync_channel(1);
    leader.repair(place(7), Box::new(move |result| done.send(result).unwrap()));
    until("the new bytes are there", || is_whole(7).then_some(()));
    let sent = propose(&leader, vec![draft("T", 0, "meanwhile")], vec![]);
    until_it_beats(&leader);
    assert!(sent.recv_timeout(PATIENCE).unwrap().is_ok());
    // From memory.
    let (log, index) = (leader.log().clone(), EntryIndex(7));
    let written = std::thread::spawn(move || log.write_again(index));
    until_it_beats(&leader);
    assert!(!written.is_finished(), "it is on disk when it returns");
    disks.0[i].stop(Still::Nothing);
    written.join().unwrap().unwrap();
    let _ = repaired.recv_timeout(PATIENCE).unwrap(); // in time, or not
    until("the disk has everything", || {
        let status = leader.status();
        (status.durable == status.tail && status.applied == status.last).then_some(())
    });
    assert!(is_whole(7) && leader.log().check().is_ok());
}

#[test]
fn what_others_need_for_a_repair_is_read_aside() {
    let (cluster, disks) = cluster();
    let (i, leader) = cluster.leader();
    let (_, positions) = send_twenty(&leader);
    let others = [(i + 1) % 3, (i + 2) % 3];
    let members = others.map(|other| cluster.until_has(other, 20));
    let repair = || {
        let (done, repaired) = mpsc::sync_channel(1);
        let place = PhysicalOffset(positions[7] + HEADER_BYTES as u64);
        leader.repair(place, Box::new(move |result| done.send(result).unwrap()));
        repaired.recv_timeout(PATIENCE).unwrap()
    };
    others.iter().for_each(|other| disks.0[*other].stop(Still::Aside));
    cluster.overwrite(i, positions[7] + 9, b"#");
    repair().unwrap_err(); // their disks do not answer …
    members.iter().for_each(until_it_beats); // … and they turn
    others.iter().for_each(|other| disks.0[*other].stop(Still::Nothing));
    until("they help", || repair().is_ok().then_some(()));
}

#[test]
fn a_leader_whose_disk_takes_long_for_a_purge_says_so_and_then_leaves_old_messages_alone() {
    let (cluster, disks) = cluster();
    let (i, leader) = cluster.leader();
    let body = "x".repeat(64 * 1024);
    (0..60).for_each(|_| drop(send(&leader, "T", 0, &body)));
    disks.0[i].stop(Still::Starts);
    until("it purges", || {
        leader.purge_now();
        leader.waits_for_disk().then_some(())
    });
    let since = crate::clock::now();
    let long = Duration::from_millis(2_200); // two syncs of a slow disk
    until("that takes long", || (since.elapsed() >= long).then_some(()));
    assert!(leader.waits_for_disk(), "the watchdog sees why it stands still");
    disks.0[i].stop(Still::Nothing);
    let slow = until("its disk is a slow one", || leader.disk_pace().slow);
    assert!(slow.why.contains("a sync took 1."), "{slow:?}");
    until("it turns", || (!leader.waits_for_disk()).then_some(()));
    let first = leader.status().first_position;
    assert!(first.0 > 0);
    let (_, next) = {
        until("another one leads", || (cluster.leader().0 != i).then_some(()));
        cluster.leader()
    };
    (0..60).for_each(|_| drop(send(&next, "T", 0, &body)));
    until("others purge", || {
        next.purge_now();
        leader.purge_now();
        (next.status().first_position > first).then_some(())
    });
    assert_eq!(leader.status().first_position, first);
}
