//! Reading the log as the disk has it.

use super::*;
use crate::store::scrub::{Cursor, Damage, Hash, Look};

/// Forty entries over several segments, all of them on disk.
fn forty() -> (Disk, CommitLog) {
    let disk = Disk::new();
    let (log, _) = disk.open(PreviousLife::New);
    (0..40).for_each(|n| drop(append(&log, 1 + n / 10, 100_000).unwrap()));
    log.sync_now().unwrap();
    (disk, log)
}

/// Looks at all; hashes of the stretches, or the first damage.
fn check(log: &CommitLog) -> Result<Vec<u64>, Damage> {
    let upto = log.next_index();
    let mut at = log.segment_start(EntryIndex(0), upto);
    let mut hashes = Vec::new();
    while let Some(stretch) = at.and_then(|at| log.stretch_at(at, upto)) {
        let (mut next, mut hash) = (stretch.first, Hash::default());
        while !stretch.is_over(next) {
            next = match log.look(&stretch, next, &mut hash).unwrap() {
                Look::Whole(next) => next,
                Look::Damaged(damage) => return Err(damage),
                Look::Gone => unreachable!("nobody purges"),
            };
        }
        hashes.push(hash.value());
        at = Some(next);
    }
    Ok(hashes)
}

#[test]
fn members_with_the_same_log_find_the_same_hashes() {
    let (_leaders, leader) = forty();
    let followers = Disk::new();
    let (follower, _) = followers.open(PreviousLife::New);
    all(&leader).iter().for_each(|entry| drop(follow(&follower, &entry.bytes).unwrap()));
    let hashes = check(&leader).unwrap();
    assert!(hashes.len() >= 4, "{hashes:?}");
    assert_eq!(check(&follower).unwrap(), hashes);
}

#[test]
fn a_bit_that_flips_anywhere_is_found_at_its_entry() {
    let (disk, log) = forty();
    let entries = all(&log);
    for hurt in [0, 17, 39] {
        let header = entries[hurt].header;
        let following = Cursor { index: header.index.next(), position: header.end() };
        for (at, next) in [(9, None), (500, Some(following)), (header.total - 1, Some(following))] {
            let at = header.position.0 + u64::from(at);
            let was = log.slice(PhysicalOffset(at), 1).unwrap()[0];
            disk.write(at, &[was ^ 4]);
            let damage = check(&log).unwrap_err();
            assert_eq!(damage.at.index, header.index, "byte {at}: {}", damage.why);
            assert_eq!(damage.next, next, "byte {at}");
            disk.write(at, &[was]);
        }
    }
    assert!(check(&log).is_ok());
}

#[test]
fn nothing_that_is_appended_waits_for_what_is_written_again() {
    let (disk, log) = forty();
    let index = all(&log)[12].header.index;
    let ((begun, has_begun), (let_go, go_on)) = (mpsc::channel(), mpsc::channel());
    *disk.files.0.held.lock() = Some((begun, go_on));
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        let again = scope.spawn(|| log.write_again(index));
        has_begun.recv().unwrap();
        scope.spawn(|| tell.send(append(&log, 9, 100).map(drop)).unwrap());
        let appended = told.recv_timeout(Duration::from_secs(10));
        let_go.send(()).unwrap();
        appended.expect("the sync is still under way").unwrap();
        again.join().unwrap().unwrap();
    });
    assert!(check(&log).is_ok());
}

#[test]
fn what_only_the_disk_has_lost_is_written_again_from_memory() {
    let (disk, log) = forty();
    let hashes = check(&log).unwrap();
    let header = all(&log)[12].header;
    *disk.files.0.lost.lock() = Some(header.position.0 % SEGMENT + 4096);
    *disk.files.0.lost_in.lock() = disk.segment(header.position.0 / SEGMENT);
    assert_eq!(check(&log).unwrap_err().at.index, header.index);
    let held = all(&log);
    log.write_again(header.index).unwrap();
    assert_eq!(check(&log).unwrap(), hashes);
    assert!(bytes(&all(&log)) == bytes(&held));
    assert!(matches!(log.write_again(EntryIndex(99)), Err(Error::Damaged { .. })));
    append(&log, 9, 100).unwrap();
}
