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
        let gap = self.follower.gap(damage).unwrap();
        let run = self.leader.entries(gap.index, EntryIndex(u64::MAX), 4 << 20).unwrap();
        let run = run.iter().map(|entry| received(&entry.bytes).unwrap()).collect();
        Spares::new(&gap, run, committed.map(EntryIndex), SEGMENT).unwrap()
    }

    fn is_whole(&self) -> bool {
        bytes(&all(&self.follower)) == bytes(&self.entries)
    }
}

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
