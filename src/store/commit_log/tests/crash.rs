//! What a start makes of a log whose last life ended badly.

use super::*;
use crate::store::simulated_disk::{NameOrder, SimulatedDisk};

/// A log of ten entries, three of them in the part that will be damaged.
fn ten_entries(disk: &Disk) -> Vec<Copy> {
    let (log, _) = disk.open(PreviousLife::New);
    (0..10).for_each(|n| drop(append(&log, 1 + n / 4, 20 + 7 * n as usize).unwrap()));
    log.close().unwrap();
    all(&log).iter().map(|e| Copy { header: e.header, bytes: e.bytes.to_vec() }).collect()
}

/// An entry apart from the file, which the test is going to damage.
struct Copy {
    header: Header,
    bytes: Vec<u8>,
}

fn whole_in(file: &[u8], entry: &Copy) -> bool {
    let at = entry.header.position.0 as usize;
    let stored = file.get(at..).unwrap_or_default().iter().chain(std::iter::repeat(&0));
    stored.zip(entry.bytes.iter()).all(|(a, b)| a == b)
}

#[test]
fn whatever_part_of_the_tail_is_lost_a_prefix_comes_back() {
    let disk = Disk::new();
    let entries = ten_entries(&disk);
    let whole = fs::read(disk.segment(0)).unwrap();
    let end = entries[9].header.end().0 as usize;
    for cut in entries[8].header.position.0 as usize - 8..=end {
        let garbage: Vec<u8> = (cut..end).map(|at| (at * 31 % 251) as u8 | 1).collect();
        for kind in ["zeros", "garbage", "short file"] {
            fs::write(disk.segment(0), if kind == "short file" { &whole[..cut] } else { &whole })
                .unwrap();
            match kind {
                "zeros" => disk.write(cut as u64, &vec![0; end - cut]),
                "garbage" => disk.write(cut as u64, &garbage),
                _ => {}
            }
            let hurt = fs::read(disk.segment(0)).unwrap();
            let (log, recovery) = disk.open(PreviousLife::MachineStopped);
            let is_whole = |e: &&Copy| whole_in(&hurt, e); // the last bytes may be zeros
            let want = entries.iter().take_while(is_whole).count();
            assert!((7..=10).contains(&want));
            let wanted = entries[..want].iter().map(|e| &e.bytes);
            assert!(bytes(&all(&log)).iter().eq(wanted), "{kind} from {cut}");
            assert_eq!(recovery.entries, want as u64);
            assert_eq!(
                (recovery.last, log.last()),
                (log.last(), Some(entries[want - 1].header.id()))
            );
            assert_eq!(log.durable(), log.tail());
            if cut % 16 != 0 {
                continue;
            }
            append(&log, 9, 10).unwrap();
            log.close().unwrap();
            let (log, recovery) = disk.open(PreviousLife::Killed);
            assert_eq!((recovery.entries, recovery.cut), (want as u64 + 1, None));
            log.close().unwrap();
        }
    }
}

#[test]
fn any_flipped_bit_in_a_committed_entry_is_damage_and_nothing_is_cut() {
    let disk = Disk::new();
    let entries = ten_entries(&disk);
    let whole = fs::read(disk.segment(0)).unwrap();
    let hurt = &entries[4].header;
    for at in hurt.position.0..hurt.end().0 {
        let mut byte = [whole[at as usize]];
        byte[0] ^= 1 << (at % 8);
        disk.write(at, &byte);
        let hurt_bytes = fs::read(disk.segment(0)).unwrap();
        for (life, committed) in [
            (PreviousLife::MachineStopped, Some(4)),
            (PreviousLife::MachineStopped, Some(9)),
            (PreviousLife::Killed, None), // whole entries follow, and no page was lost
        ] {
            let error = disk.open_from(life, ReplayFrom::default(), committed).err().unwrap();
            let Error::Damaged { position, index, .. } = error else { panic!("{error}") };
            assert_eq!((position, index), (hurt.position, hurt.index), "byte {at}");
        }
        assert!(fs::read(disk.segment(0)).unwrap() == hurt_bytes, "byte {at}");
        disk.write(at, &whole[at as usize..=at as usize]);
    }
}

#[test]
fn noise_in_the_unused_end_of_a_segment_is_no_end_of_the_log() {
    let disk = Disk::new();
    let (log, _) = disk.open(PreviousLife::New);
    (0..40).for_each(|_| drop(append(&log, 1, 100_000).unwrap()));
    let entries = all(&log);
    log.close().unwrap();
    let rolled = entries.iter().position(|e| e.header.position.0 == SEGMENT).unwrap();
    disk.write(entries[rolled - 1].header.end().0, b"#");
    let (log, recovery) = disk.open(PreviousLife::Killed);
    assert_eq!((recovery.entries, recovery.cut), (40, None));
    assert!(bytes(&all(&log)) == bytes(&entries));
}

#[test]
fn after_a_machine_stop_an_uncommitted_hole_is_cut_with_what_follows() {
    let disk = Disk::new();
    let entries = ten_entries(&disk);
    let hole = &entries[5].header;
    disk.write(hole.position.0, &vec![0; hole.total as usize]);
    let open =
        |committed| disk.open_from(PreviousLife::MachineStopped, ReplayFrom::default(), committed);
    assert!(matches!(open(Some(5)), Err(Error::Damaged { .. })));
    let (log, recovery) = open(Some(4)).unwrap();
    let cut = recovery.cut.unwrap();
    assert_eq!((cut.position, cut.index), (hole.position, hole.index));
    assert!(cut.why.contains("entry 6 follows"), "{}", cut.why);
    let rest = fs::read(disk.segment(0)).unwrap();
    assert!(rest[hole.position.0 as usize..].iter().all(|b| *b == 0), "left overs are gone");
    drop(log);
}

#[test]
fn only_what_follows_the_checkpoint_is_read() {
    let disk = Disk::new();
    let (log, _) = disk.open(PreviousLife::New);
    (0..40).for_each(|n| drop(append(&log, 1 + n / 10, 100_000).unwrap()));
    let entries = all(&log);
    log.close().unwrap();
    for index in [0usize, 1, 9, 10, 17, 39, 40] {
        let previous = index.checked_sub(1).map(|before| &entries[before].header);
        let from = ReplayFrom {
            position: previous.map_or(PhysicalOffset(0), Header::end),
            index: EntryIndex(index as u64),
            previous: previous.filter(|_| index % 2 == 0).map(Header::id),
        };
        let (log, recovery) = disk.open_from(PreviousLife::Killed, from, Some(39)).unwrap();
        assert_eq!(recovery.entries as usize, entries.len() - index);
        assert_eq!(recovery.last, Some(entries[39].header.id()));
        assert!(bytes(&all(&log)) == bytes(&entries));
        append(&log, 9, 10).unwrap();
        log.truncate_from(EntryIndex(40)).unwrap();
        log.close().unwrap();
    }
}

#[test]
fn missing_and_misshapen_segment_files_are_refused_by_name() {
    let disk = Disk::new();
    let (log, _) = disk.open(PreviousLife::New);
    (0..40).for_each(|_| drop(append(&log, 1, 100_000).unwrap()));
    log.close().unwrap();
    let refused = || {
        disk.open_from(PreviousLife::Killed, ReplayFrom::default(), None).err().unwrap().to_string()
    };
    let kept = disk.dir.path().join("kept");
    fs::rename(disk.segment(1), &kept).unwrap();
    assert!(refused().contains("00000000000001048576"), "{}", refused());
    fs::rename(&kept, disk.segment(1)).unwrap();
    OpenOptions::new().write(true).open(disk.segment(1)).unwrap().set_len(SEGMENT - 1).unwrap();
    assert!(refused().contains("00000000000001048576 has 1048575 bytes"), "{}", refused());
    OpenOptions::new().write(true).open(disk.segment(1)).unwrap().set_len(SEGMENT).unwrap();
    let odd = disk.segment(1).with_file_name("00000000000000000008");
    fs::write(&odd, "").unwrap();
    assert!(refused().contains("multiple of the segment size"), "{}", refused());
    fs::remove_file(odd).unwrap();
    disk.open(PreviousLife::Killed);
    OpenOptions::new().write(true).open(disk.segment(1)).unwrap().set_len(SEGMENT - 1).unwrap();
    disk.files.0.unreadable.store(true, Ordering::SeqCst); // then nobody knows what follows
    assert!(refused().contains("00000000000001048576 has 1048575 bytes"));
}

// --- a sync that fails, and the lives after it ---

fn open_on(disk: &SimulatedDisk, previous_life: PreviousLife) -> Result<CommitLog, Error> {
    let options = LogOptions {
        dir: PathBuf::from("/log"),
        segment_bytes: SEGMENT,
        durability: Durability::Synced,
        store_id: StoreId(7),
        previous_life,
        stamp: None,
    };
    let (files, committed) = (Arc::new(disk.clone()), Some(EntryIndex(2)));
    let (log, _) = CommitLog::open(files, options, ReplayFrom::default(), committed)?;
    log.wait_for_segment()?;
    Ok(log)
}

/// Eight entries in three segments, the last four of them not on the disk, because the sync of the
/// first of two segments failed.
fn after_a_failed_sync() -> (SimulatedDisk, Vec<Vec<u8>>) {
    let disk = SimulatedDisk::new(1 << 30);
    let options = LogOptions {
        dir: PathBuf::from("/log"),
        segment_bytes: SEGMENT,
        durability: Durability::Synced,
        store_id: StoreId(7),
        previous_life: PreviousLife::New,
        stamp: None,
    };
    let files = Arc::new(disk.clone());
    let (log, _) = CommitLog::open(files, options, ReplayFrom::default(), None).unwrap();
    let append_four = || (0..4).for_each(|_| drop(append(&log, 1, 300_000).unwrap()));
    append_four();
    log.sync_now().unwrap();
    append_four();
    log.wait_for_segment().unwrap();
    disk.fail_at(disk.step_count());
    assert!(matches!(log.sync_now(), Err(Error::Poisoned { .. })));
    (disk.after_kill().unwrap(), bytes(&all(&log)))
}

fn after_power_loss(disk: &SimulatedDisk) -> Vec<Vec<u8>> {
    let lost = disk.after_power_loss(NameOrder::Kept, &mut |_| false).unwrap();
    bytes(&all(&open_on(&lost, PreviousLife::MachineStopped).unwrap()))
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_on_the_disk_before_it_is_believed() {
    let (disk, entries) = after_a_failed_sync();
    let start = disk.after_kill().unwrap();
    drop(open_on(&start, PreviousLife::Killed).unwrap());
    let steps = start.steps();
    assert!(steps.iter().any(|step| step.starts_with("write 0")), "{steps:?}");
    for step in 0..=steps.len() {
        let disk = disk.after_kill().unwrap();
        disk.stop_at(step);
        let is_open = open_on(&disk, PreviousLife::Killed).is_ok();
        let left = after_power_loss(&disk);
        assert!(left.len() >= if is_open { 8 } else { 4 }, "stopped at {step}: {}", left.len());
        assert!(entries.starts_with(&left), "stopped at {step}");
        let again = disk.after_kill().unwrap();
        assert!(bytes(&all(&open_on(&again, PreviousLife::Killed).unwrap())) == entries);
        assert!(after_power_loss(&again) == entries, "stopped at {step}, then started");
    }
}

#[test]
fn a_start_that_cannot_sync_is_refused_each_time() {
    let (disk, entries) = after_a_failed_sync();
    for _ in 0..3 {
        let start = disk.after_kill().unwrap();
        drop(open_on(&start, PreviousLife::Killed).unwrap());
        let steps = start.steps();
        let sync = steps.iter().position(|step| step.starts_with("sync 0")).unwrap();
        disk.fail_at(disk.step_count() + sync);
        let refused = open_on(&disk, PreviousLife::Killed).err().unwrap().to_string();
        assert!(
            refused.contains("medium error") && refused.contains("check the disk"),
            "{refused}"
        );
    }
    let disk = disk.after_kill().unwrap();
    drop(open_on(&disk, PreviousLife::Killed).unwrap());
    assert!(after_power_loss(&disk) == entries);
}

#[test]
fn what_the_kernel_forgot_after_a_failed_sync_is_as_if_the_machine_had_stopped() {
    let (disk, entries) = after_a_failed_sync();
    disk.forget().unwrap();
    let noted = open_on(&disk.after_kill().unwrap(), PreviousLife::MachineStopped).unwrap();
    assert!(bytes(&all(&noted)) == entries[..4]);
    let unnoted = open_on(&disk, PreviousLife::Killed);
    assert!(matches!(unnoted, Err(Error::Damaged { .. })), "what follows was not synced either");
}
