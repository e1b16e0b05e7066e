//! Whatever is done in whatever order, with whatever crash or damage in between: the queues hold
//! exactly what a naive model of them holds.

use std::{collections::BTreeMap, ops::Range, path::Path, sync::Arc};

use proptest::prelude::*;

use super::{
    Boundary, Bounds, Cut, Error, IndexedMessage, KeyRange, NextOffsets, Options, Queues, Unit,
    faulty_files::FaultyFiles,
};
use crate::ids::{PhysicalOffset, QueueOffset};
use crate::protocol::message::key_hash;
use crate::store::files::Files;

const SEGMENT_BYTES: u64 = 2048;
const TOPICS: [&str; 3] = ["A", "AB", "B"];
const QUEUE_IDS: [u32; 3] = [0, 1, 70_000];
const KEYS: [&str; 2] = ["k", "l"];

#[derive(Debug, Clone)]
enum Step {
    /// An entry with messages of (topic, queue, keys), and perhaps the deletion of a topic.
    Apply {
        messages: Vec<(usize, usize, usize)>,
        deleted: Option<usize>,
    },
    Freeze,
    Flush,
    /// Freezes, flushes, remembers where to start from.
    Checkpoint,
    Merge,
    /// Drops segments that end before the checkpoint.
    Retention,
    /// Loses the memory; the disk died so many changes before.
    Crash {
        changes: i64,
    },
    /// Loses the memory, and a file or a bit of it.
    Damage {
        file: usize,
        bit: Option<usize>,
    },
    Snapshot,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let message = (0..TOPICS.len(), 0..QUEUE_IDS.len(), 0..4_usize);
    let messages = prop::collection::vec(message, 0..6);
    let deleted = prop::option::weighted(0.05, 0..TOPICS.len());
    let step = prop_oneof![
        20 => (messages, deleted).prop_map(|(messages, deleted)| Step::Apply { messages, deleted }),
        4 => Just(Step::Freeze),
        3 => Just(Step::Flush),
        3 => Just(Step::Checkpoint),
        3 => Just(Step::Merge),
        2 => Just(Step::Retention),
        2 => (0..5_i64).prop_map(|changes| Step::Crash { changes }),
        1 => (0..9_usize, prop::option::of(0..40_000_usize))
            .prop_map(|(file, bit)| Step::Damage { file, bit }),
        1 => Just(Step::Snapshot),
    ];
    prop::collection::vec(step, 1..80)
}

#[derive(Debug, Clone)]
struct Stored {
    topic: &'static str,
    queue_id: u32,
    queue_offset: QueueOffset,
    unit: Unit,
    at_ms: i64,
    keys: Vec<u64>,
}

struct Entry {
    range: Range<PhysicalOffset>,
    messages: Vec<Stored>,
    deleted: Option<&'static str>,
}

/// The log, and the queues as one would write them down from it.
#[derive(Default)]
struct Model {
    log: Vec<Entry>,
    first: PhysicalOffset,
    end: PhysicalOffset,
    now_ms: i64,
    next: BTreeMap<(&'static str, u32), u64>,
    /// Messages that are there, by queue and in order.
    alive: BTreeMap<(&'static str, u32), Vec<Stored>>,
}

impl Model {
    fn append(&mut self, messages: &[(usize, usize, usize)], deleted: Option<usize>) -> &Entry {
        let bytes = 64 + 100 * messages.len() as u64;
        if self.end.0 % SEGMENT_BYTES + bytes > SEGMENT_BYTES {
            self.end.0 = self.end.0.next_multiple_of(SEGMENT_BYTES);
        }
        let start = self.end;
        self.end.0 += bytes;
        self.now_ms += 1 + self.end.0 as i64 % 3;
        let mut stored = Vec::new();
        for (number, &(topic, queue, keys)) in messages.iter().enumerate() {
            let (topic, queue_id) = (TOPICS[topic], QUEUE_IDS[queue]);
            let next = self.next.entry((topic, queue_id)).or_default();
            let physical = PhysicalOffset(start.0 + 64 + 100 * number as u64);
            let message = Stored {
                topic,
                queue_id,
                queue_offset: QueueOffset(*next),
                unit: Unit { physical, bytes: 100, tags_code: keys as i64 - 2, crc: 0 },
                at_ms: self.now_ms,
                keys: KEYS.iter().take(keys).map(|key| key_hash(topic, key)).collect(),
            };
            *next += 1;
            self.alive.entry((topic, queue_id)).or_default().push(message.clone());
            stored.push(message);
        }
        let deleted = deleted.map(|topic| TOPICS[topic]);
        self.next.retain(|(topic, _), _| Some(*topic) != deleted);
        self.alive.retain(|(topic, _), _| Some(*topic) != deleted);
        self.log.push(Entry { range: start..self.end, messages: stored, deleted });
        self.log.last().unwrap()
    }

    fn purge(&mut self, before: PhysicalOffset) {
        self.first = before;
        self.log.retain(|entry| entry.range.start >= before);
        for messages in self.alive.values_mut() {
            messages.retain(|message| message.unit.physical >= before);
        }
    }

    fn messages(&self, topic: &'static str, queue_id: u32) -> &[Stored] {
        self.alive.get(&(topic, queue_id)).map_or(&[], Vec::as_slice)
    }
}

struct Run<'a> {
    dir: &'a Path,
    files: Arc<FaultyFiles>,
    queues: Queues,
    checkpoint: Cut,
    model: Model,
}

fn open(
    files: &Arc<FaultyFiles>,
    dir: &Path,
    first: PhysicalOffset,
    from: &Cut,
) -> (Queues, PhysicalOffset) {
    let files: Arc<dyn Files> = Arc::<FaultyFiles>::clone(files);
    let options = Options { dir: dir.to_owned(), segment_bytes: SEGMENT_BYTES };
    let (queues, opening) =
        Queues::open(files, options, first..from.position, from.next.clone()).unwrap();
    (queues, opening.replay_from)
}

impl Run<'_> {
    fn new(dir: &Path) -> Run<'_> {
        let (files, model) = (FaultyFiles::healthy(), Model::default());
        let checkpoint = Cut { position: PhysicalOffset(0), next: NextOffsets::default() };
        let (queues, _) = open(&files, dir, PhysicalOffset(0), &checkpoint);
        Run { dir, files, queues, checkpoint, model }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Apply { messages, deleted } => {
                let entry = self.model.append(messages, *deleted);
                apply(&self.queues, entry, PhysicalOffset(0));
            }
            Step::Freeze => drop(self.queues.freeze()),
            Step::Flush => drop(self.queues.flush().unwrap()),
            Step::Checkpoint => self.write_checkpoint(),
            Step::Merge => while self.mended(|| self.queues.merge(self.checkpoint.position)) {},
            Step::Retention => {
                let base = self.checkpoint.position.0 / SEGMENT_BYTES * SEGMENT_BYTES;
                let base = PhysicalOffset(base.saturating_sub(SEGMENT_BYTES));
                if base > self.model.first {
                    self.model.purge(base);
                    self.queues.drop_before(base).unwrap();
                }
            }
            Step::Crash { changes } => {
                self.files.die_after(*changes);
                let _ = self.queues.freeze();
                let _ = self.queues.flush();
                let _ = self.queues.merge(self.checkpoint.position);
                self.reopen();
            }
            Step::Damage { file, bit } => {
                let files = self.files.list(self.dir).unwrap();
                if let Some(file) = files.get(*file) {
                    damage(&self.dir.join(&file.name), *bit);
                }
                self.reopen();
            }
            Step::Snapshot => self.install(),
        }
    }

    fn write_checkpoint(&mut self) {
        let cut = self.queues.freeze().unwrap();
        assert_eq!(self.queues.flush().unwrap(), cut.position);
        let bytes = cut.next.encode();
        assert_eq!(NextOffsets::decode(&bytes).as_ref(), Ok(&cut.next));
        self.checkpoint = cut;
    }

    /// A start: the last checkpoint, then the log.
    fn reopen(&mut self) {
        self.files = FaultyFiles::healthy();
        let (queues, replay_from) = open(&self.files, self.dir, self.model.first, &self.checkpoint);
        for entry in self.model.log.iter().filter(|entry| entry.range.start >= replay_from) {
            apply(&queues, entry, self.checkpoint.position);
        }
        self.queues = queues;
    }

    /// Another member's snapshot at the next segment.
    fn install(&mut self) {
        let at = PhysicalOffset(self.model.end.0.next_multiple_of(SEGMENT_BYTES));
        let next = self.queues.next_offsets();
        self.model.purge(at);
        self.model.end = at;
        self.queues.install(next.clone(), at);
        self.checkpoint = Cut { position: at, next };
    }

    /// What is read once damage that it meets has been mended from the log.
    fn mended<T>(&self, read: impl Fn() -> Result<T, Error>) -> T {
        loop {
            match read() {
                Err(Error::Damaged { .. }) => self.queues.mend(|queues, stretch| {
                    let entries = self.model.log.iter();
                    let within = entries.filter(|entry| stretch.contains(&entry.range.start));
                    within.for_each(|entry| apply(queues, entry, PhysicalOffset(u64::MAX)));
                    Ok::<_, Error>(())
                }),
                read => return read.unwrap(),
            }
            .unwrap();
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for topic in TOPICS {
            for queue_id in QUEUE_IDS {
                self.check_queue(topic, queue_id)?;
            }
            KEYS.iter().try_for_each(|key| self.check_key(topic, key))?;
        }
        prop_assert_eq!(self.queues.applied_to(), self.model.end);
        Ok(())
    }

    fn check_queue(&self, topic: &'static str, queue_id: u32) -> Result<(), TestCaseError> {
        let messages = self.model.messages(topic, queue_id);
        let next = self.model.next.get(&(topic, queue_id)).copied().map(QueueOffset);
        let next = next.unwrap_or_default();
        let min = messages.first().map_or(next, |message| message.queue_offset);
        let want = Bounds { min, next };
        prop_assert_eq!(
            self.mended(|| self.queues.bounds(topic, queue_id)),
            want,
            "{} {}",
            topic,
            queue_id
        );
        prop_assert_eq!(self.queues.next_offsets().next(topic, queue_id), next);
        for from in min.0.saturating_sub(1)..=next.0 + 1 {
            for max in [1, 3, 1000] {
                let skipped = from.checked_sub(min.0).map_or(messages.len(), |n| n as usize);
                let want: Vec<_> =
                    messages.iter().map(|m| m.unit).skip(skipped).take(max).collect();
                let got = self.mended(|| {
                    let mut got = Vec::new();
                    let from = QueueOffset(from);
                    self.queues.units(topic, queue_id, from, max, &mut got).map(|()| got)
                });
                prop_assert_eq!(got, want, "{} {} from {} max {}", topic, queue_id, from, max);
            }
        }
        let time_of = |unit: &Unit| {
            let message = messages.iter().find(|m| m.unit.physical == unit.physical);
            message.map(|message| message.at_ms)
        };
        for timestamp in [i64::MIN, 0, self.model.now_ms / 2, self.model.now_ms, i64::MAX] {
            let lower = messages.iter().find(|m| m.at_ms >= timestamp);
            let lower = lower.map_or(next, |m| m.queue_offset);
            let upper = messages.iter().rev().find(|m| m.at_ms <= timestamp);
            let upper = upper.map_or(min, |m| m.queue_offset);
            for (boundary, want) in [(Boundary::Lower, lower), (Boundary::Upper, upper)] {
                let got = self.mended(|| {
                    self.queues.offset_by_time(topic, queue_id, timestamp, boundary, &time_of)
                });
                prop_assert_eq!(got, want, "{} {:?}", timestamp, boundary);
            }
        }
        Ok(())
    }

    fn check_key(&self, topic: &'static str, key: &str) -> Result<(), TestCaseError> {
        let hash = key_hash(topic, key);
        let messages = self.model.alive.values().flatten();
        let messages = messages.filter(|m| m.topic == topic && m.keys.contains(&hash));
        let mut want: Vec<_> = messages.map(|m| (m.unit.physical, m.at_ms)).collect();
        want.sort_by(|a, b| b.cmp(a));
        for stored_ms in [0..=i64::MAX, self.model.now_ms / 2..=self.model.now_ms - 2] {
            for max in [1, 1000] {
                let range = KeyRange { hash, stored_ms: stored_ms.clone(), max };
                let mut got = self.mended(|| self.queues.by_key(&range));
                // candidates of a deleted topic come after all others
                let alive_from = self.queues.alive_from(topic);
                got.retain(|at| *at >= alive_from);
                let want = want.iter().filter(|(_, at_ms)| stored_ms.contains(at_ms)).take(max);
                prop_assert_eq!(got, want.map(|(at, _)| *at).collect::<Vec<_>>());
            }
        }
        Ok(())
    }
}

/// What the raft thread does with an entry: all of it from the checkpoint on, its messages before.
fn apply(queues: &Queues, entry: &Entry, checkpoint: PhysicalOffset) {
    let messages: Vec<_> = entry
        .messages
        .iter()
        .map(|message| IndexedMessage {
            topic: message.topic,
            queue_id: message.queue_id,
            queue_offset: message.queue_offset,
            unit: message.unit,
            store_timestamp: message.at_ms,
            keys: &message.keys,
        })
        .collect();
    queues.apply(entry.range.clone(), messages).unwrap();
    if let Some(topic) = entry.deleted
        && entry.range.start >= checkpoint
    {
        queues.forget_topic(topic, entry.range.end);
    }
}

fn damage(path: &Path, bit: Option<usize>) {
    match bit {
        None => std::fs::remove_file(path).unwrap(),
        Some(bit) => {
            let mut content = std::fs::read(path).unwrap();
            // From the end: damage in the last 90 bytes or so is seen when the run is opened.
            let at = content.len() - 1 - bit / 8 % content.len();
            content[at] ^= 1 << (bit % 8);
            std::fs::write(path, content).unwrap(); // in place: nobody maps it any more
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn queues_hold_what_the_model_holds(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let mut run = Run::new(dir.path());
        for step in &steps {
            run.step(step);
            run.check()?;
        }
        run.reopen();
        run.check()?;
    }
}
