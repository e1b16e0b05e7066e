//! Random steps on a log and on a list must come to the same.

use proptest::prelude::*;

use super::*;
use crate::store::mmap::MappedBytes;

#[derive(Debug, Clone)]
enum Step {
    Append { bytes: usize, new_term: bool },
    Stored { bytes: usize },
    Truncate { share: u8 },
    Purge { share: u8 },
    Reset { ahead: u32 },
    Reopen { life: PreviousLife, share: u8, with_previous: bool },
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![3 => 0..300usize, 3 => 50_000..400_000usize];
    let life = prop_oneof![
        Just(PreviousLife::Clean),
        Just(PreviousLife::Killed),
        Just(PreviousLife::MachineStopped)
    ];
    prop_oneof![
        12 => (bytes.clone(), any::<bool>()).prop_map(|(bytes, new_term)| Step::Append { bytes, new_term }),
        4 => bytes.prop_map(|bytes| Step::Stored { bytes }),
        3 => any::<u8>().prop_map(|share| Step::Truncate { share }),
        2 => any::<u8>().prop_map(|share| Step::Purge { share }),
        1 => (0..3_000_000u32).prop_map(|ahead| Step::Reset { ahead: ahead / 8 * 8 }),
        3 => (life, any::<u8>(), any::<bool>())
            .prop_map(|(life, share, with_previous)| Step::Reopen { life, share, with_previous }),
        1 => Just(Step::Sync),
    ]
}

/// What the log should hold, and slices that readers took along the way with their bytes.
struct Model {
    purged: Option<(EntryId, PhysicalOffset)>,
    entries: Vec<(Header, Vec<u8>)>,
    held: Vec<(MappedBytes, Vec<u8>)>,
}

impl Model {
    fn first(&self) -> u64 {
        self.purged.map_or(0, |(id, _)| id.index.0 + 1)
    }

    /// An index of the log, or the next one.
    fn pick(&self, share: u8) -> u64 {
        self.first() + self.entries.len() as u64 * u64::from(share) / 255
    }

    /// The entry before `index`, and where it ends.
    fn before(&self, index: u64) -> (Option<EntryId>, PhysicalOffset) {
        match (index - self.first()).checked_sub(1) {
            Some(at) => {
                let (header, _) = &self.entries[at as usize];
                (Some(header.id()), header.end())
            }
            None => (self.purged.map(|(id, _)| id), self.purged.map_or(PhysicalOffset(0), |p| p.1)),
        }
    }

    fn stored(&mut self, entry: &StoredEntry) {
        self.entries.push((entry.header, entry.bytes.to_vec()));
        self.held.push((entry.bytes.clone(), entry.bytes.to_vec()));
    }

    fn check(&self, log: &CommitLog) {
        let next = self.first() + self.entries.len() as u64;
        let (last, tail) = self.before(next);
        assert_eq!((log.last(), log.tail(), log.next_index()), (last, tail, EntryIndex(next)));
        assert_eq!(log.first_index(), EntryIndex(self.first()));
        assert_eq!(log.purged(), self.purged.map(|(id, _)| id));
        let entries = log.entries(log.first_index(), EntryIndex(u64::MAX), u64::MAX).unwrap();
        assert_eq!(entries.len(), self.entries.len());
        for (entry, (header, bytes)) in entries.iter().zip(&self.entries) {
            assert!(entry.header == *header && entry.bytes.as_ref() == bytes);
            assert_eq!(log.header_of(header.index).unwrap(), Some(*header));
        }
        let first_position = self.entries.first().map_or(tail, |(header, _)| header.position);
        assert_eq!(log.first_position(), first_position);
        assert!(log.durable() <= tail && log.durable_index() <= last.map(|id| id.index));
        for (held, bytes) in &self.held {
            assert!(held.as_ref() == bytes, "what a reader holds changed");
        }
    }
}

fn stored_entry(model: &Model, log: &CommitLog, bytes: usize) -> ReceivedEntry {
    let last = log.last();
    let body = vec![0xee; bytes];
    let total = total_bytes(bytes as u64);
    let mut header = Header {
        total: total as u32,
        index: EntryIndex(model.first() + model.entries.len() as u64),
        term: last.map_or(Term(1), |id| id.term),
        proposer: StoreId(9),
        position: place(log.tail(), total, SEGMENT),
        kind: Kind::Data,
        messages: 0,
        message_bytes: 0,
        body_bytes: bytes as u32,
        body_crc: crc32c(&body),
    };
    if bytes.is_multiple_of(5) && !log.tail().0.is_multiple_of(SEGMENT) {
        header.position = PhysicalOffset(log.tail().0 / SEGMENT * SEGMENT + SEGMENT);
    }
    let mut out = vec![0; total as usize];
    header.write(out.first_chunk_mut().unwrap());
    out[HEADER_BYTES..HEADER_BYTES + bytes].copy_from_slice(&body);
    received(&out).unwrap()
}

fn perform(disk: &Disk, model: &mut Model, log: CommitLog, step: &Step) -> CommitLog {
    match *step {
        Step::Append { bytes, new_term } => {
            let term = log.last().map_or(1, |id| id.term.0) + u64::from(new_term);
            model.stored(&append(&log, term, bytes).unwrap());
        }
        Step::Stored { bytes } => {
            model.stored(&log.append_stored(&stored_entry(model, &log, bytes)).unwrap());
        }
        Step::Truncate { share } => {
            let index = model.pick(share);
            log.truncate_from(EntryIndex(index)).unwrap();
            model.entries.truncate((index - model.first()) as usize);
        }
        Step::Purge { share } => {
            let index = model.pick(share);
            if let (Some(id), end) = model.before(index) {
                log.purge_through(id.index).unwrap();
                model.entries.drain(..(index - model.first()) as usize);
                model.purged = Some((id, end));
            }
        }
        Step::Reset { ahead } => {
            let end = PhysicalOffset(log.tail().0 + u64::from(ahead));
            let to = id(log.next_index().0 + 3, log.last().map_or(1, |id| id.term.0));
            log.reset(end, to).unwrap();
            model.purged = Some((to, end));
            model.entries.clear();
        }
        Step::Reopen { life, share, with_previous } => {
            log.close().unwrap();
            drop(log);
            model.held.clear(); // nobody reads across lives
            let index = model.pick(share);
            let (previous, position) = model.before(index);
            let previous = previous.filter(|_| with_previous);
            let from = ReplayFrom { position, index: EntryIndex(index), previous };
            let last = (model.first() + model.entries.len() as u64).checked_sub(1);
            return disk.open_from(life, from, last).unwrap().0;
        }
        Step::Sync => wait_for_sync(&log).unwrap(),
    }
    log
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_log_does_what_a_list_does(steps in prop::collection::vec(step(), 1..25)) {
        let disk = Disk::new();
        let (mut log, _) = disk.open(PreviousLife::New);
        let mut model = Model { purged: None, entries: Vec::new(), held: Vec::new() };
        for step in steps {
            log = perform(&disk, &mut model, log, &step);
            model.check(&log);
        }
    }
}
