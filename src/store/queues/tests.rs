//! What a model cannot show: sizes, refusals, damage found while reading, what a crash leaves.

use std::{fs, ops::Range, path::Path, sync::Arc, time::Duration};

use super::{
    Boundary, Bounds, Cut, Error, FlushPolicy, IndexedMessage, KEYS_INDEXED_MAX, KeyRange,
    NextOffsets, Options, Queues, Unit, faulty_files::FaultyFiles,
};
use crate::ids::{PhysicalOffset, QueueOffset};
use crate::store::files::Files;

const SEGMENT_BYTES: u64 = 1 << 20;

fn open(dir: &Path, files: &Arc<FaultyFiles>, from: &Cut) -> (Queues, super::Opening) {
    let options = Options { dir: dir.to_owned(), segment_bytes: SEGMENT_BYTES };
    let files: Arc<dyn Files> = Arc::<FaultyFiles>::clone(files);
    let retained = PhysicalOffset(0)..from.position;
    Queues::open(files, options, retained, from.next.clone()).unwrap()
}

fn open_new(dir: &Path) -> Queues {
    let start = Cut { position: PhysicalOffset(0), next: NextOffsets::default() };
    open(dir, &FaultyFiles::healthy(), &start).0
}

fn entry(from: u64, to: u64) -> Range<PhysicalOffset> {
    PhysicalOffset(from)..PhysicalOffset(to)
}

fn message(topic: &str, queue_id: u32, offset: u64, physical: u64) -> IndexedMessage<'_> {
    let unit = Unit { physical: PhysicalOffset(physical), bytes: 100, ..Unit::default() };
    let queue_offset = QueueOffset(offset);
    IndexedMessage { topic, queue_id, queue_offset, unit, store_timestamp: 1, keys: &[] }
}

/// Entries of one message each, of 200 bytes, from the end of what is applied.
fn fill(queues: &Queues, count: u64) {
    for _ in 0..count {
        let at = queues.applied_to().0;
        let offset = queues.bounds("T", 0).unwrap().next.0;
        queues.apply(entry(at, at + 200), [message("T", 0, offset, at + 64)]).unwrap();
    }
}

fn units(queues: &Queues) -> Result<usize, Error> {
    let mut out = Vec::new();
    queues.units("T", 0, QueueOffset(0), usize::MAX, &mut out).map(|()| out.len())
}

#[test]
fn eighty_thousand_queues_cost_well_under_twenty_megabytes() {
    let dir = tempfile::tempdir().unwrap();
    let queues = open_new(dir.path());
    let topics: Vec<_> = (0..10_000).map(|n| format!("a-topic-with-a-usual-name-{n:05}")).collect();
    let mut at = 0;
    for topic in &topics {
        let messages: Vec<_> = (0..8).map(|q| message(topic, q, 0, at + u64::from(q))).collect();
        queues.apply(entry(at, at + 64), messages).unwrap();
        at += 64;
    }
    let busy = queues.memory_bytes();
    let cut = queues.freeze().unwrap();
    queues.flush().unwrap();
    let idle = queues.memory_bytes();
    assert!(idle < 12_000_000, "{idle} bytes after the flush");
    assert!(busy < 40_000_000, "{busy} bytes with a message in each");
    assert_eq!(cut.next.iter().count(), 80_000);

    let files = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 1, "one run, whatever the number of queues");
    let (again, opening) = open(dir.path(), &FaultyFiles::healthy(), &cut);
    assert_eq!(opening.replay_from, cut.position);
    for topic in topics.iter().step_by(997) {
        let want = Bounds { min: QueueOffset(0), next: QueueOffset(1) };
        assert_eq!(again.bounds(topic, 7).unwrap(), want);
        assert!(again.unit(topic, 7, QueueOffset(0)).unwrap().is_some());
    }
}

#[test]
fn a_skipped_entry_or_offset_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let queues = open_new(dir.path());
    fill(&queues, 2);
    let gap = queues.apply(entry(600, 800), []);
    assert!(matches!(gap, Err(Error::NotContiguous { .. })), "{gap:?}");
    let backwards = queues.apply(entry(200, 400), []);
    assert!(matches!(backwards, Err(Error::NotContiguous { .. })));
    let two_segments_on = queues.apply(entry(2 * SEGMENT_BYTES, 2 * SEGMENT_BYTES + 64), []);
    assert!(matches!(two_segments_on, Err(Error::NotContiguous { .. })));
    for offset in [1, 3] {
        let result = queues.apply(entry(400, 600), [message("T", 0, offset, 464)]);
        assert!(matches!(result, Err(Error::NotDense { .. })), "{offset}: {result:?}");
    }
    queues.apply(entry(SEGMENT_BYTES, SEGMENT_BYTES + 64), []).unwrap(); // the next segment
}

#[test]
fn no_run_crosses_a_segment_end() {
    let dir = tempfile::tempdir().unwrap();
    let queues = open_new(dir.path());
    fill(&queues, 5);
    let at = SEGMENT_BYTES;
    queues.apply(entry(at, at + 200), [message("T", 0, 5, at + 64)]).unwrap();
    queues.freeze().unwrap();
    queues.flush().unwrap();
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    let name = |from: u64, to: u64| format!("{from:020}-{to:020}.run");
    assert_eq!(names, [name(0, at), name(at, at + 200)].map(Into::<std::ffi::OsString>::into));
    assert_eq!(units(&queues).unwrap(), 6);
}

#[test]
fn what_cannot_be_written_stays_readable_and_is_written_later() {
    let dir = tempfile::tempdir().unwrap();
    let files = FaultyFiles::dying_after(0);
    let start = Cut { position: PhysicalOffset(0), next: NextOffsets::default() };
    let (queues, _) = open(dir.path(), &files, &start);
    fill(&queues, 5);
    let cut = queues.freeze().unwrap();
    assert!(matches!(queues.flush(), Err(Error::Disk(_))));
    assert_eq!(units(&queues).unwrap(), 5);
    files.die_after(i64::MAX);
    assert_eq!(queues.flush().unwrap(), cut.position);
    assert_eq!(units(&queues).unwrap(), 5);
    assert_eq!(open(dir.path(), &files, &cut).1.replay_from, cut.position);
}

#[test]
fn what_waits_to_be_written_is_counted_until_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let queues = open_new(dir.path());
    assert_eq!(queues.unwritten_bytes(), 0);
    fill(&queues, 500);
    let active = queues.unwritten_bytes();
    assert!(active >= 500 * 24);
    queues.freeze().unwrap();
    fill(&queues, 500);
    assert!(queues.unwritten_bytes() >= 2 * active);
    queues.flush().unwrap();
    assert_eq!(queues.unwritten_bytes(), active, "the newest stretch");
    queues.install(NextOffsets::default(), PhysicalOffset(SEGMENT_BYTES));
    assert_eq!(queues.unwritten_bytes(), 0);
}

#[test]
fn a_crash_after_any_step_of_a_merge_loses_nothing() {
    for steps in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let queues = open_new(dir.path());
        let mut cut = queues.freeze().unwrap();
        for _ in 0..8 {
            fill(&queues, 3);
            cut = queues.freeze().unwrap();
            queues.flush().unwrap();
        }
        let files = FaultyFiles::healthy();
        let (queues, _) = open(dir.path(), &files, &cut);
        files.die_after(steps);
        let merged = queues.merge(cut.position);
        assert_eq!(merged.is_ok(), steps > 8, "one file written, eight removed: {merged:?}");
        assert_eq!(units(&queues).unwrap(), 24, "while it goes on");

        let (after, opening) = open(dir.path(), &FaultyFiles::healthy(), &cut);
        assert_eq!((opening.replay_from, opening.damage), (cut.position, vec![]), "{steps}");
        assert_eq!(opening.runs, if steps > 0 { 1 } else { 8 });
        assert_eq!(units(&after).unwrap(), 24);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), opening.runs, "the rest is gone");
    }
}

#[test]
fn a_merge_does_not_reach_beyond_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let queues = open_new(dir.path());
    for _ in 0..9 {
        fill(&queues, 1);
        queues.freeze().unwrap();
    }
    queues.flush().unwrap();
    assert!(!queues.merge(PhysicalOffset(7 * 200)).unwrap());
    assert!(queues.merge(PhysicalOffset(8 * 200)).unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    assert_eq!(units(&queues).unwrap(), 9);
}

/// Applies again what [`fill`] applied of a stretch.
fn feed(queues: &Queues, stretch: Range<PhysicalOffset>) -> Result<(), Error> {
    (stretch.start.0..stretch.end.0)
        .step_by(200)
        .try_for_each(|at| queues.apply(entry(at, at + 200), [message("T", 0, at / 200, at + 64)]))
}

#[test]
fn a_flipped_bit_is_an_error_never_a_wrong_unit_and_mended_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let queues = open_new(dir.path());
    fill(&queues, 5);
    let cut = queues.freeze().unwrap();
    queues.flush().unwrap();
    drop(queues);
    let path = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&path).unwrap();
    for bit in (0..whole.len() * 8).step_by(3) {
        let mut flawed = whole.clone();
        flawed[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, flawed).unwrap();
        let (queues, opening) = open(dir.path(), &FaultyFiles::healthy(), &cut);
        match units(&queues) {
            Err(Error::Damaged { .. }) => {
                assert!(queues.has_damage(), "bit {bit}");
                queues.mend(feed).unwrap();
                assert_eq!(units(&queues).unwrap(), 5, "bit {bit}");
                assert!(!queues.has_damage() && fs::read(&path).unwrap() == whole, "bit {bit}");
            }
            other => assert_eq!(opening.replay_from.0, 0, "bit {bit}: {other:?}"),
        }
    }
}

/// Applies the entries of a stretch, of a message each that has a key.
fn feed_with_keys(queues: &Queues, stretch: Range<PhysicalOffset>) -> Result<(), Error> {
    (stretch.start.0..stretch.end.0).step_by(200).try_for_each(|at| {
        let message = IndexedMessage { keys: &[7], ..message("T", 0, at / 200, at + 64) };
        queues.apply(entry(at, at + 200), [message])
    })
}

#[test]
fn whoever_meets_what_the_disk_cannot_read_any_more_has_an_error_and_the_log_mends_it() {
    let all = KeyRange { hash: 7, stored_ms: 0..=i64::MAX, max: usize::MAX };
    let by_key = |queues: &Queues| queues.by_key(&all).map(|found| found.len());
    let by_time = |queues: &Queues| {
        let time_of = |_: &Unit| Some(0);
        queues.offset_by_time("T", 0, 1, Boundary::Lower, &time_of).map(|at| at.0 as usize)
    };
    let merge = |queues: &Queues| queues.merge(PhysicalOffset(8_000)).map(|_| 40);
    type Meet<'a> = &'a dyn Fn(&Queues) -> Result<usize, Error>;
    let meets: [Meet<'_>; 4] = [&units, &by_key, &by_time, &merge];
    for (n, meet) in meets.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let queues = open_new(dir.path());
        for at in (0..8_000).step_by(1_000) {
            feed_with_keys(&queues, entry(at, at + 1_000)).unwrap();
            queues.freeze();
        }
        queues.flush().unwrap();
        assert_eq!((units(&queues).unwrap(), by_key(&queues).unwrap()), (40, 40), "all is checked");
        let run = dir.path().join(format!("{:020}-{:020}.run", 3000, 4000));
        let file = fs::OpenOptions::new().write(true).open(&run).unwrap();
        file.set_len(0).unwrap(); // the signal of a page behind the end is that of a bad sector
        let met = meet(&queues).unwrap_err();
        assert!(met.to_string().contains("cannot read a part of it"), "{n}: {met}");
        assert!(queues.has_damage(), "{n}");
        queues.mend(feed_with_keys).unwrap();
        assert!(!queues.has_damage() && file.metadata().unwrap().len() == 0, "in another file");
        assert_eq!(meet(&queues).unwrap(), 40, "{n}");
        assert_eq!((units(&queues).unwrap(), by_key(&queues).unwrap()), (40, 40), "{n}");
    }
}

#[test]
fn a_run_of_which_the_disk_can_read_nothing_is_left_out_by_a_start_and_comes_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let queues = open_new(dir.path());
    fill(&queues, 5);
    let cut = queues.freeze().unwrap();
    queues.flush().unwrap();
    drop(queues);
    let files = FaultyFiles::healthy();
    files.read_nothing(true);
    let (queues, opening) = open(dir.path(), &files, &cut);
    assert_eq!((opening.replay_from.0, opening.runs), (0, 0));
    assert!(opening.damage[0].contains("cannot read a part of it"), "{:?}", opening.damage);
    files.read_nothing(false);
    feed(&queues, opening.replay_from..cut.position).unwrap();
    assert_eq!(units(&queues).unwrap(), 5);
    queues.freeze();
    queues.flush().unwrap();
    assert_eq!(open(dir.path(), &files, &cut).1.replay_from, cut.position);
}

/// Three runs of five messages, of which the second is damaged, and a reader has met it.
fn damaged(dir: &Path, files: &Arc<FaultyFiles>) -> (Queues, Cut) {
    let queues = open_new(dir);
    let mut cut = queues.freeze().unwrap();
    for _ in 0..3 {
        fill(&queues, 5);
        cut = queues.freeze().unwrap();
        queues.flush().unwrap();
    }
    drop(queues);
    let path = dir.join(format!("{:020}-{:020}.run", 1000, 2000));
    let mut content = fs::read(&path).unwrap();
    content[0] ^= 1;
    fs::write(path, content).unwrap();
    let (queues, _) = open(dir, files, &cut);
    assert!(matches!(units(&queues), Err(Error::Damaged { .. })));
    (queues, cut)
}

#[test]
fn the_next_offset_is_known_without_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (queues, _) = damaged(dir.path(), &FaultyFiles::healthy());
    queues.drop_before(PhysicalOffset(1100)).unwrap();
    let bounds = queues.bounds("T", 0);
    assert!(matches!(bounds, Err(Error::Damaged { .. })), "{bounds:?}");
    assert_eq!(queues.next("T", 0), QueueOffset(15));
    assert_eq!((queues.next("T", 1), queues.next("U", 0)), (QueueOffset(0), QueueOffset(0)));
}

#[test]
fn a_long_stretch_is_mended_as_several_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (queues, cut) = damaged(dir.path(), &FaultyFiles::healthy());
    let in_pieces = |queues: &Queues, stretch: Range<PhysicalOffset>| {
        assert_eq!(stretch, entry(1000, 2000));
        feed(queues, entry(1000, 1400))?;
        queues.freeze();
        queues.flush()?;
        feed(queues, entry(1400, 2000))
    };
    queues.mend(in_pieces).unwrap();
    assert_eq!(units(&queues).unwrap(), 15);
    let (again, opening) = open(dir.path(), &FaultyFiles::healthy(), &cut);
    assert_eq!((opening.replay_from, opening.runs), (cut.position, 4));
    assert_eq!(units(&again).unwrap(), 15);
}

#[test]
fn what_cannot_be_mended_is_missed_by_the_next_start() {
    let nothing = |_: &Queues, _: Range<PhysicalOffset>| Ok(());
    let part = |queues: &Queues, _: Range<PhysicalOffset>| feed(queues, entry(1000, 1400));
    let too_much = |queues: &Queues, _: Range<PhysicalOffset>| feed(queues, entry(1000, 2200));
    type Feed<'a> = &'a dyn Fn(&Queues, Range<PhysicalOffset>) -> Result<(), Error>;
    let feeds: [Feed<'_>; 3] = [&nothing, &part, &too_much];
    for failing in feeds {
        let dir = tempfile::tempdir().unwrap();
        let (queues, cut) = damaged(dir.path(), &FaultyFiles::healthy());
        let failed = queues.mend(failing).unwrap_err();
        let refused = matches!(failed, Error::NotContiguous { .. } | Error::NotDense { .. });
        assert!(refused, "{failed}");
        let (_, opening) = open(dir.path(), &FaultyFiles::healthy(), &cut);
        assert_eq!(opening.replay_from.0, 1000);
        // or it succeeds later on
        queues.mend(feed).unwrap();
        assert_eq!(units(&queues).unwrap(), 15);
    }
}

#[test]
fn a_crash_after_any_step_of_mending_loses_nothing() {
    for steps in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let files = FaultyFiles::healthy();
        let (queues, cut) = damaged(dir.path(), &files);
        files.die_after(steps);
        let _ = queues.mend(feed);
        let (after, _) = open(dir.path(), &FaultyFiles::healthy(), &cut);
        if units(&after).is_err() {
            after.mend(feed).unwrap();
        }
        feed(&after, after.applied_to()..cut.position).unwrap();
        assert_eq!(units(&after).unwrap(), 15, "{steps}");
    }
}

#[test]
fn a_log_that_starts_within_a_stretch_hides_what_lies_before() {
    let dir = tempfile::tempdir().unwrap();
    let queues = open_new(dir.path());
    fill(&queues, 10); // messages at 64, 264, …
    let bounds = |min| Bounds { min: QueueOffset(min), next: QueueOffset(10) };
    queues.drop_before(PhysicalOffset(200)).unwrap();
    assert_eq!(queues.bounds("T", 0).unwrap(), bounds(1));
    let cut = queues.freeze().unwrap();
    queues.drop_before(PhysicalOffset(500)).unwrap();
    assert_eq!(queues.bounds("T", 0).unwrap(), bounds(3));
    queues.flush().unwrap();
    queues.drop_before(PhysicalOffset(900)).unwrap();
    assert_eq!(queues.bounds("T", 0).unwrap(), bounds(5));
    let (mut out, want) = (Vec::new(), PhysicalOffset(1064));
    queues.units("T", 0, QueueOffset(4), 9, &mut out).unwrap();
    assert_eq!(out, vec![]);
    queues.units("T", 0, QueueOffset(5), 9, &mut out).unwrap();
    assert_eq!((out.len(), out[0].physical), (5, want));

    let options = Options { dir: dir.path().to_owned(), segment_bytes: SEGMENT_BYTES };
    let retained = PhysicalOffset(900)..cut.position;
    let (again, _) = Queues::open(FaultyFiles::healthy(), options, retained, cut.next).unwrap();
    assert_eq!(again.bounds("T", 0).unwrap(), bounds(5));
    assert_eq!(again.unit("T", 0, QueueOffset(5)).unwrap().unwrap().physical, want);
}

/// Unit `n` lies at a place that only `n` determines, so a reader notices any mix-up.
#[test]
fn readers_see_a_dense_queue_whatever_is_flushed_merged_and_dropped_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { dir: dir.path().to_owned(), segment_bytes: 1 << 12 };
    let start = PhysicalOffset(0)..PhysicalOffset(0);
    let (queues, _) =
        Queues::open(FaultyFiles::healthy(), options, start, NextOffsets::default()).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let read = || {
        let mut read = 0;
        while !done.load(std::sync::atomic::Ordering::Acquire) {
            let Bounds { min, next } = queues.bounds("T", 0).unwrap();
            assert!(min <= next);
            let mut out = Vec::new();
            queues.units("T", 0, min, 7, &mut out).unwrap(); // may be gone by now
            let last = QueueOffset(next.0.saturating_sub(3));
            queues.units("T", 0, last, 7, &mut out).unwrap();
            for unit in &out {
                assert_eq!(unit.physical.0 % 256, 64);
                assert_eq!(u64::try_from(unit.tags_code).unwrap() * 256 + 64, unit.physical.0);
            }
            let later = queues.bounds("T", 0).unwrap();
            // A reader that did not run for long finds the last ones dropped, too.
            assert!(next.0 < 1000 || !out.is_empty() || later.min > last);
            assert!(min <= later.min && next <= later.next, "{min} {next} {later:?}");
            read += out.len();
        }
        read
    };
    std::thread::scope(|scope| {
        let readers = [scope.spawn(read), scope.spawn(read)];
        for n in 0..20_000 {
            let mut next = message("T", 0, n, n * 256 + 64);
            next.unit.tags_code = i64::try_from(n).unwrap();
            queues.apply(entry(n * 256, n * 256 + 256), [next]).unwrap();
            if n % 5 == 0 {
                let settled = queues.freeze().unwrap().position;
                queues.flush().unwrap();
                queues.merge(settled).unwrap();
                queues.drop_before(PhysicalOffset((n * 256).saturating_sub(1 << 16))).unwrap();
            }
        }
        done.store(true, std::sync::atomic::Ordering::Release);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
}

#[test]
fn a_message_with_absurdly_many_keys_is_indexed_in_part() {
    let dir = tempfile::tempdir().unwrap();
    let queues = open_new(dir.path());
    let keys: Vec<u64> = (0..10_000).collect();
    let with_keys = IndexedMessage { keys: &keys, ..message("T", 0, 0, 64) };
    queues.apply(entry(0, 200), [with_keys]).unwrap();
    let found = |hash| queues.by_key(&KeyRange { hash, stored_ms: 0..=9, max: 9 }).unwrap().len();
    assert_eq!(found(KEYS_INDEXED_MAX as u64 - 1), 1);
    assert_eq!(found(KEYS_INDEXED_MAX as u64), 0);
}

#[test]
fn a_flush_is_due_by_bytes_or_by_time() {
    let policy = FlushPolicy { bytes: 100, interval: Duration::from_secs(5) };
    let rows = [(0, 9, false), (1, 4, false), (1, 5, true), (99, 0, false), (100, 0, true)];
    for (bytes, seconds, want) in rows {
        assert_eq!(policy.due(bytes, Duration::from_secs(seconds)), want, "{bytes} {seconds}");
    }
}
