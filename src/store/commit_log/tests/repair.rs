//! Damaged entries, and what takes their place.

use super::*;
use crate::store::repair::{RepairError, Repaired, Spares, Unfit, repair_files};

/// A leader's log of forty entries over several segments, and a follower's of the same bytes.
struct Two {
    leader: CommitLog,
    follower: CommitLog,
    disk: Disk,
    entries: Vec<StoredEntry>,
}

impl Two {
    fn new() -> Self {
        let (leader_disk, disk) = (Disk::new(), Disk::new());
        let (leader, _) = leader_disk.open(PreviousLife::New);
        let (follower, _) = disk.open(PreviousLife::New);
        (0..40).for_each(|n| drop(append(&leader, 1 + n / 10, 100_000).unwrap()));
        let entries = all(&leader);
        entries.iter().for_each(|entry| drop(follow(&follower, &entry.bytes).unwrap()));
        Self { leader, follower, disk, entries }
    }

    fn damage(&self, from: PhysicalOffset, bytes: &[u8]) -> Error {
        self.disk.write(from.0, bytes);
        self.follower.entries(EntryIndex(0), EntryIndex(u64::MAX), u64::MAX).unwrap_err()
    }

    /// What the leader sends for damage.
    fn spares(&self, damage: &Error, committed: Option<u64>) -> Spares {
        self.spares_within(4 << 20, damage, committed)
    }

    fn spares_within(&self, bytes: u64, damage: &Error, committed: Option<u64>) -> Spares {
        let gap = self.follower.gap(damage).unwrap();
        let run = self.leader.entries(gap.index, EntryIndex(u64::MAX), bytes).unwrap();
        let run = run.iter().map(|entry| received(&entry.bytes).unwrap()).collect();
        Spares::new(&gap, run, committed.map(EntryIndex), SEGMENT).unwrap()
    }

    fn is_whole(&self) -> bool {
        bytes(&all(&self.follower)) == bytes(&self.entries)
    }

    fn lose_pages(&self, range: std::ops::Range<u64>) -> Error {
        self.disk.lose_pages(range);
        self.follower.entries(EntryIndex(0), EntryIndex(u64::MAX), u64::MAX).unwrap_err()
    }

    fn last_of_segment(&self, number: u64) -> Header {
        let is_there = |entry: &&StoredEntry| entry.header.position.0 / SEGMENT == number;
        self.entries.iter().rfind(is_there).unwrap().header
    }

    /// Whether the files hold what the leader's do, as the disk has them.
    fn is_whole_on_disk(&self) -> bool {
        let stored = |entry: &StoredEntry| {
            let at = (entry.header.position.0 % SEGMENT) as usize;
            let file = fs::read(self.disk.segment(entry.header.position.0 / SEGMENT)).unwrap();
            file[at..at + entry.bytes.len()] == *entry.bytes
        };
        self.entries.iter().all(stored)
    }
}

const ALL: Option<EntryIndex> = Some(EntryIndex(39));

#[test]
fn damage_is_replaced_where_it_lies_and_nothing_else_is_touched() {
    let two = Two::new();
    let first_of_second = two.entries.iter().position(|e| e.header.position.0 >= SEGMENT).unwrap();
    let held = all(&two.follower);
    for hurt in [0, 5, first_of_second - 1, first_of_second, 39] {
        let header = two.entries[hurt].header;
        let rest = SEGMENT - header.position.0 % SEGMENT;
        let long =
            vec![7; rest.min(250_000).min(two.follower.tail().0 - header.position.0) as usize];
        let body = PhysicalOffset(header.position.0 + 500);
        for (at, noise) in [(body, &b"#"[..]), (header.position, b"#"), (header.position, &long)] {
            let damage = two.damage(at, noise);
            assert_eq!(two.follower.gap(&damage).unwrap().index, header.index);
            let Repaired { entries, .. } =
                two.follower.repair(&two.spares(&damage, Some(39)), Some(EntryIndex(39))).unwrap();
            assert!(entries <= 4, "only what is damaged: {entries}");
            assert!(two.is_whole(), "entry {hurt}");
        }
    }
    drop(held);
    append(&two.follower, 9, 10).unwrap();
    two.follower.close().unwrap();
    let (log, recovery) = two.disk.open(PreviousLife::Killed);
    assert_eq!((recovery.entries, recovery.cut), (41, None));
    assert!(bytes(&all(&log))[..40] == bytes(&two.entries)[..]);
}

#[test]
fn what_was_appended_after_a_repair_is_in_the_file() {
    let two = Two::new();
    let last = two.entries[39].header;
    let damage = two.damage(last.position, &[0; 8]);
    two.follower.repair(&two.spares(&damage, Some(39)), None).unwrap();
    let appended = append(&two.follower, 9, 5000).unwrap();
    let file = fs::read(two.disk.segment(appended.header.position.0 / SEGMENT)).unwrap();
    let at = (appended.header.position.0 % SEGMENT) as usize;
    assert!(file[at..at + appended.bytes.len()] == *appended.bytes);
}

#[test]
fn files_are_repaired_before_the_log_is_open() {
    let two = Two::new();
    two.follower.close().unwrap();
    let dir = two.disk.dir.path().join("commitlog");
    let open = || two.disk.open_from(PreviousLife::Killed, ReplayFrom::default(), Some(39));
    let repair = |damage: &Error| {
        let gap = damage.gap().unwrap();
        let run = two.leader.entries(gap.index, EntryIndex(u64::MAX), 4 << 20).unwrap();
        let run = run.iter().map(|entry| received(&entry.bytes).unwrap()).collect();
        let spares = Spares::new(&gap, run, Some(EntryIndex(39)), SEGMENT).unwrap();
        repair_files(&two.disk.files, &dir, SEGMENT, &spares).unwrap()
    };
    let tail = two.follower.tail().0;
    let last_segment = tail - tail % SEGMENT;
    for (at, bytes) in
        [(0, 1), (500, 1), (SEGMENT - 200_000, 200_000), (last_segment, tail % SEGMENT)]
    {
        two.disk.write(at, &vec![b'#'; bytes as usize]);
        let mut rounds = 0;
        let log = loop {
            match open() {
                Ok((log, _)) => break log,
                Err(damage) => drop(repair(&damage)),
            }
            rounds += 1;
        };
        assert!(bytes == 1 && rounds == 1 || rounds <= 2, "{rounds} rounds for {bytes} at {at}");
        assert!(super::bytes(&all(&log)) == super::bytes(&two.entries));
    }
}

#[test]
fn only_what_belongs_there_is_written() {
    let two = Two::new();
    let header = two.entries[7].header;
    let refused = |spares: &Spares, settled| match two.follower.repair(spares, settled) {
        Err(RepairError::Unfit(unfit)) => unfit,
        other => panic!("{other:?}"),
    };
    // With a header that can be read, the same entry is right whoever has committed it.
    let damage = two.damage(PhysicalOffset(header.position.0 + 500), b"#");
    two.follower.repair(&two.spares(&damage, None), None).unwrap();
    // Without, only a committed one is.
    let damage = two.damage(header.position, b"#");
    let unsure = Unfit::Unsure { index: EntryIndex(7) };
    assert_eq!(refused(&two.spares(&damage, Some(6)), None), unsure);
    // An entry of another length does not fit to what follows, unless it is known to be right.
    let gap = two.follower.gap(&damage).unwrap();
    let other_disk = Disk::new();
    let (other, _) = other_disk.open(PreviousLife::New);
    two.entries[..7].iter().for_each(|entry| drop(follow(&other, &entry.bytes).unwrap()));
    let longer = append(&other, 1, 100_100).unwrap();
    let run = vec![received(&longer.bytes).unwrap()];
    let spares = Spares::new(&gap, run, Some(EntryIndex(9)), SEGMENT).unwrap();
    let follower = Unfit::Follower { index: EntryIndex(7) };
    assert_eq!(refused(&spares, Some(EntryIndex(6))), follower);
    // Other entries are not even taken.
    let run = |index: usize| vec![received(&two.entries[index].bytes).unwrap()];
    for index in [6, 8, 30] {
        let spares = Spares::new(&gap, run(index), Some(EntryIndex(39)), SEGMENT);
        assert!(matches!(spares, Err(Unfit::Elsewhere { .. })), "{index}");
    }
    assert!(matches!(Spares::new(&gap, vec![], None, SEGMENT), Err(Unfit::Nothing)));
    two.follower.repair(&two.spares(&damage, Some(7)), None).unwrap();
    assert!(two.is_whole());
}

#[test]
fn a_repair_that_cannot_be_synced_poisons_the_log() {
    let two = Two::new();
    let damage = two.damage(two.entries[7].header.position, b"#");
    two.disk.files.0.sync_fails.store(true, Ordering::SeqCst);
    let spares = two.spares(&damage, Some(39));
    let failed = two.follower.repair(&spares, None);
    assert!(matches!(failed, Err(RepairError::Store(Error::Poisoned { .. }))));
    assert!(matches!(append(&two.follower, 9, 1), Err(Error::Poisoned { .. })));
}

#[test]
fn a_damaged_time_makes_no_segment_older() {
    const STORE_TIMESTAMP: u64 = 56; // its place in a record
    let disk = Disk::new();
    let (log, _) = disk.open(PreviousLife::New);
    let drafts = [draft(0, b"body".to_vec())];
    for (index, store_ms) in [(0, 1000), (1, 1001)] {
        let body = Body::Data { drafts: &drafts, commands: b"" };
        log.append(id(index, 1), body, &mut |_| QueueOffset(index), store_ms).unwrap();
    }
    disk.write(HEADER_BYTES as u64 + STORE_TIMESTAMP, &5_i64.to_be_bytes());
    assert_eq!(log.segments()[0].first_store_ms, Some(1001), "of the first that is whole");
}

#[test]
fn nobody_who_appends_waits_for_the_sync_of_a_repair() {
    let two = Two::new();
    let damage = two.damage(two.entries[7].header.position, b"#");
    let spares = two.spares(&damage, Some(39));
    two.follower.sync_now().unwrap();
    let ((begun, has_begun), (let_go, go_on)) = (mpsc::channel(), mpsc::channel());
    *two.disk.files.0.held.lock() = Some((begun, go_on));
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        let repairing = scope.spawn(|| two.follower.repair(&spares, ALL));
        has_begun.recv().unwrap();
        scope.spawn(|| tell.send(append(&two.follower, 9, 10).map(drop)).unwrap());
        let appended = told.recv_timeout(Duration::from_secs(10));
        let is_finished = repairing.is_finished();
        let_go.send(()).unwrap();
        appended.expect("the sync is still under way").unwrap();
        assert!(!is_finished, "it is on disk when it returns");
        assert_eq!(repairing.join().unwrap().unwrap().entries, 1);
    });
    assert!(bytes(&all(&two.follower))[..40] == bytes(&two.entries)[..]);
}

#[test]
fn pages_that_the_disk_cannot_read_are_written_as_a_whole() {
    let two = Two::new();
    // With the end of a sealed segment, in the middle of one, and with the tail.
    for header in [two.last_of_segment(0), two.entries[15].header, two.entries[39].header] {
        let damage = two.lose_pages(header.end().0 - 1..header.end().0);
        let held = two.follower.slice(header.position, header.total).unwrap();
        two.follower.repair(&two.spares(&damage, Some(39)), ALL).unwrap();
        assert!(two.is_whole() && two.is_whole_on_disk() && !two.disk.has_bad_pages());
        assert!(held.last() == Some(&0), "who holds bytes keeps them");
    }
    let more = append(&two.follower, 9, 10).unwrap();
    assert!(two.follower.check().is_ok());
    two.follower.close().unwrap();
    let (log, recovery) = two.disk.open(PreviousLife::Killed);
    assert_eq!((recovery.last, recovery.cut), (Some(more.header.id()), None));
    assert!(bytes(&all(&log))[..40] == bytes(&two.entries)[..]);
}

#[test]
fn more_unreadable_pages_than_one_answer_covers_are_repaired_by_several() {
    let two = Two::new();
    for Header { position, total, .. } in two.entries[3..33].iter().map(|entry| entry.header) {
        two.disk.lose_pages(position.0..position.0 + u64::from(total));
    }
    let read = || two.follower.entries(EntryIndex(0), EntryIndex(u64::MAX), u64::MAX);
    let (mut damage, mut answers) = (read().err(), 0);
    while let Some(found) = damage {
        two.follower.repair(&two.spares_within(250_000, &found, Some(39)), ALL).unwrap();
        (damage, answers) = (read().err(), answers + 1);
    }
    assert!(two.is_whole() && two.is_whole_on_disk() && !two.disk.has_bad_pages());
    assert!((15..=31).contains(&answers), "{answers}");
    assert!(two.follower.check().is_ok());
}

#[test]
fn the_page_that_a_log_starts_within_is_written_as_a_whole() {
    let (leaders, followers) = (Disk::new(), Disk::new());
    let (leader, _) = leaders.open(PreviousLife::New);
    let (follower, _) = followers.open(PreviousLife::New);
    let start = PhysicalOffset(3 * SEGMENT + 5000);
    [&leader, &follower].into_iter().for_each(|log| log.reset(start, id(99, 2)).unwrap());
    (0..3).for_each(|_| drop(follow(&follower, &append(&leader, 2, 5000).unwrap().bytes).unwrap()));
    followers.lose_pages(start.0..start.0 + 1);
    let damage = follower.entries(EntryIndex(100), EntryIndex(u64::MAX), u64::MAX).unwrap_err();
    let gap = follower.gap(&damage).unwrap();
    let run = all(&leader).iter().map(|entry| received(&entry.bytes).unwrap()).collect();
    let spares = Spares::new(&gap, run, Some(EntryIndex(102)), SEGMENT).unwrap();
    follower.repair(&spares, None).unwrap();
    assert!(bytes(&all(&follower)) == bytes(&all(&leader)) && !followers.has_bad_pages());
}

#[test]
fn what_may_not_be_committed_never_becomes_zeros_that_the_next_start_takes_for_the_end() {
    let two = Two::new();
    // Two small entries in one page, the last ones.
    for _ in 0..2 {
        follow(&two.follower, &append(&two.leader, 5, 10).unwrap().bytes).unwrap();
    }
    let (first, last) = (EntryIndex(40), EntryIndex(41));
    let header = two.follower.header_of(first).unwrap().unwrap();
    assert_eq!(header.position.0 / PAGE, (two.follower.tail().0 - 1) / PAGE);
    let damage = two.lose_pages(header.position.0..header.position.0 + 1);
    let index = damage.gap().unwrap().index;
    let file = || fs::read(two.disk.segment(header.position.0 / SEGMENT)).unwrap();
    let before = file();
    // A peer that has the first one, and not the last one.
    let gap = two.follower.gap(&damage).unwrap();
    let run = two.leader.entries(index, last, u64::MAX).unwrap();
    let run = run.iter().map(|entry| received(&entry.bytes).unwrap()).collect();
    let spares = Spares::new(&gap, run, Some(first), SEGMENT).unwrap();
    let refused = two.follower.repair(&spares, Some(first));
    let beside = |unfit: &Unfit| *unfit == Unfit::Beside { index: last };
    assert!(matches!(&refused, Err(RepairError::Unfit(why)) if beside(why)), "{refused:?}");
    assert!(file() == before && two.disk.has_bad_pages());
    // Once it is known to be committed, a start knows that it is missing.
    two.follower.repair(&spares, Some(last)).unwrap();
    let damage = two.follower.entries(first, EntryIndex(u64::MAX), u64::MAX).unwrap_err();
    assert_eq!(damage.gap().unwrap().index, last);
    two.follower.repair(&two.spares(&damage, Some(41)), Some(last)).unwrap();
    assert!(bytes(&all(&two.follower)) == bytes(&all(&two.leader)));
}

#[test]
fn what_is_appended_between_the_look_and_the_repair_stays() {
    let two = Two::new();
    follow(&two.follower, &append(&two.leader, 5, 10).unwrap().bytes).unwrap();
    let entry = all(&two.leader)[40].clone();
    let run = [received(&entry.bytes).unwrap()];
    two.damage(entry.header.position, b"#");
    let core = two.follower.core();
    let seen = core.look_around(&run);
    let meanwhile = append(&two.follower, 5, 10).unwrap();
    assert_eq!(meanwhile.header.position.0 / PAGE, entry.header.position.0 / PAGE, "one page");
    let mut write = core.write.lock();
    let patch = core.patch(&write, &run, &seen, None).unwrap();
    core.replace(&mut write, &patch).unwrap();
    core.show(&write);
    drop(write);
    assert!(*all(&two.follower)[40].bytes == *entry.bytes);
    assert!(*all(&two.follower)[41].bytes == *meanwhile.bytes);
}

#[test]
fn a_repair_that_the_disk_refuses_ends_nothing_and_what_it_took_counts() {
    let two = Two::new();
    let (last, next) = (two.last_of_segment(0), two.last_of_segment(0).index.next());
    let damage = two.damage(last.position, b"#");
    let following = two.follower.header_of(next).unwrap().unwrap();
    two.damage(following.position, b"#");
    two.follower.sync_now().unwrap();
    let synced = two.disk.files.0.syncs.load(Ordering::SeqCst);
    *two.disk.files.0.refuses.lock() = two.disk.segment(1);
    let spares = two.spares(&damage, Some(39));
    let refused = two.follower.repair(&spares, ALL);
    let is_told = |error: &RepairError| {
        matches!(error, RepairError::Store(Error::Io { .. }))
            && error.to_string().contains("medium error")
    };
    assert!(refused.as_ref().is_err_and(is_told), "{refused:?}");
    assert!(two.follower.entries(last.index, next, 0).is_ok(), "the part before is there");
    assert_eq!(two.disk.files.0.syncs.load(Ordering::SeqCst), synced + 2, "and on disk");
    assert!(two.follower.write_again(next.next()).is_err(), "of the same segment");
    assert!(two.follower.entries(next.next(), EntryIndex(u64::MAX), u64::MAX).is_ok());
    append(&two.follower, 9, 10).unwrap();
    two.disk.files.0.refuses.lock().clear();
    let damage = two.follower.entries(next, EntryIndex(40), 0).unwrap_err();
    two.follower.repair(&two.spares(&damage, Some(39)), ALL).unwrap();
    assert!(two.is_whole_on_disk() && two.follower.check().is_ok());
}

#[test]
fn who_comes_when_it_is_repaired_writes_nothing() {
    let two = Two::new();
    let damage = two.damage(two.entries[7].header.position, b"#");
    let spares = two.spares(&damage, Some(39));
    assert_eq!(two.follower.repair(&spares, ALL).unwrap().entries, 1);
    *two.disk.files.0.refuses.lock() = two.disk.segment(0);
    assert_eq!(two.follower.repair(&spares, ALL).unwrap(), Repaired { entries: 0, bytes: 0 });
}
