//! Finds the first try of what a producer sends once more.
//!
//! A stock producer that got no answer sends the same message again, with the same unique key, to
//! whichever queue, member or broker name comes next. What is stored by then is answered with the
//! place of the first try and not stored again.
//!
//! That is for what another member led, or passed on before it went, and for answers that may not
//! have got to their client. What else a leader stored itself, it has answered: the same message once
//! more is an application's wish, and is stored again, as in Java.
//!
//! ```text
//!  apply ── hash, place ──► window ──► candidates ── read in the log, compared ──► first try
//!                              ▲
//!  connection ended ── place, hash of what lies there
//! ```
//!
//! An answer may not have got to its client if it could not be written, if it was one of the last
//! over a connection that has ended, whoever ended it (what is written, or taken by a proxy, is not
//! read by that), or if it said that nobody knew. Who sends again over the connection that brought
//! the answer wishes it. A message that is under way is noted, if it must be, before its entry is
//! settled ([`crate::raft::under_way`]): its retry, which waits for that, finds it.
//!
//! The window is derived from what is applied, on every member, and nothing of it is replicated or
//! stored. It decides nothing at apply: only a leader that forms an entry asks it, on the thread
//! that applies, and what it decides is in the entry like everything else. Members whose windows
//! differ, after a start or a snapshot, differ in what they find once they lead, and in nothing
//! else. A hash is a hint: whoever has it is read and compared with all that producers say.
//!
//! Cost: one entry of 32 bytes for each message with a unique key, in a ring of 4 MiB with heads of
//! 0.5 MiB that fill as messages come; at apply a write to each of the two, when an entry is formed
//! a look at a head, and at the ring where that has something. Nothing is allocated. What was not
//! answered costs when it is noted: each message is read, parsed and summed once, at most 4,096 and
//! 16 MiB of a connection or an entry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use crate::clock;
use crate::ids::{PhysicalOffset, StoredSend, Term};
use crate::protocol::message::sys_flag::{BORN_HOST_V6, STORE_HOST_V6};
use crate::protocol::message::{Draft, RECORD_BYTES_MIN, Record, key_hash, properties};
use crate::raft::command::FirstTry;
use crate::raft::passers::Passers;
use crate::store::entry::crc32c;
use crate::store::queues::Unit;

/// Messages with unique keys that are remembered, a power of two: 1.3 s of the fastest producers,
/// a minute of 2,000 a second. What was not answered when a leader died is among the last.
const MESSAGES: usize = 128 * 1024;
/// The same of what one life of a member passed on to this one.
const MESSAGES_OF_LIFE: usize = 32 * 1024;
/// Lives whose messages are remembered: of four other members, or of one that was restarted.
const LIVES: usize = 4;
/// Slots that a look goes through at most: keys may be chosen so that their hashes collide.
const STEPS_MAX: usize = 32;
/// Records that a look reads at most: a producer may have one key for all its messages.
const CANDIDATES_MAX: usize = 4;
/// Messages of a connection, or of an entry, that are read at most when they are noted as not
/// answered: the last ones.
const UNANSWERED_MAX: usize = 4096;
/// Bytes of them that are read at most: 2 ms.
const UNANSWERED_BYTES: usize = 16 << 20;
/// How far the wall clocks of two leaders may be apart. Age is counted by this member's steady
/// clock since it applied a message; only what it applied late, after a start or a pause, is older
/// by more than this.
const CLOCKS_APART_MS: i64 = 60_000;

/// Where a message lies, by its hash.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Slot {
    hash: u64,
    physical: PhysicalOffset,
    bytes: u32,
    crc: u32,
    /// When it was applied, ms of the owner's clock, wrapping.
    at_ms: u32,
    /// Number of the message before it whose hash begins with the same head.
    before: u32,
}

/// The last messages with unique keys: a ring, and for each head of hashes the chain of those that
/// have it, newest first. What leaves the ring is in no chain by its number, so nothing is deleted.
struct Window {
    /// A power of two.
    messages: usize,
    /// Numbers; empty until the first message comes.
    heads: Vec<u32>,
    /// Number `n` is at `(n - 1) % messages`.
    slots: Vec<Slot>,
    /// Of the next message, wrapping; the first one is 1.
    next: u32,
}

impl Window {
    fn new(messages: usize) -> Self {
        assert!(messages.is_power_of_two(), "numbers wrap");
        Self { messages, heads: Vec::new(), slots: Vec::new(), next: 1 }
    }

    fn head(&self, hash: u64) -> usize {
        hash as usize & (self.messages - 1)
    }

    fn add(&mut self, hash: u64, unit: &Unit, at_ms: u32) {
        if self.heads.is_empty() {
            self.heads = vec![0; self.messages];
        }
        let head = self.head(hash);
        let before = std::mem::replace(&mut self.heads[head], self.next);
        let Unit { physical, bytes, crc, .. } = *unit;
        let slot = Slot { hash, physical, bytes, crc, at_ms, before };
        match self.slots.len() < self.messages {
            true => self.slots.push(slot),
            false => {
                let at = self.index(self.next);
                self.slots[at] = slot;
            }
        }
        self.next = self.next.wrapping_add(1);
    }

    fn index(&self, number: u32) -> usize {
        number.wrapping_sub(1) as usize & (self.messages - 1)
    }

    /// Those of `hash` that are not older than `age_ms` at `now_ms`, newest first.
    fn of(&self, hash: u64, now_ms: u32, age_ms: u32) -> impl Iterator<Item = &Slot> {
        let mut number = self.heads.get(self.head(hash)).copied().unwrap_or(self.next);
        let mut back = 0; // how many messages the last one lies back
        let chain = std::iter::from_fn(move || {
            let distance = self.next.wrapping_sub(number);
            let is_known = distance > back && distance as usize <= self.slots.len();
            let slot = is_known.then(|| &self.slots[self.index(number)])?;
            (number, back) = (slot.before, distance);
            Some(slot)
        });
        chain
            .take(STEPS_MAX)
            .take_while(move |slot| now_ms.wrapping_sub(slot.at_ms) <= age_ms)
            .filter(move |slot| slot.hash == hash)
    }

    fn forget(&mut self) {
        *self = Self::new(self.messages);
    }

    /// Gives all back when the last message is older than `age_ms`: then nobody looks in vain.
    fn forget_old(&mut self, now_ms: u32, age_ms: u32) {
        let last = self.slots.get(self.index(self.next.wrapping_sub(1)));
        if last.is_some_and(|last| now_ms.wrapping_sub(last.at_ms) > age_ms) {
            self.forget();
        }
    }
}

/// Reads a record of the log.
type Read = dyn Fn(PhysicalOffset, u32) -> Option<Bytes> + Send + Sync;

/// What was stored lately. Cloning shares it.
#[derive(Clone)]
pub(super) struct Duplicates(Arc<Shared>);

struct Shared {
    lately: Mutex<Lately>,
    read: Box<Read>,
    passers: Passers,
    /// How old a first try may be; zero: nobody looks.
    age: Duration,
    since: Instant,
}

struct Lately {
    /// Of the last applied entry.
    term: Term,
    /// Of what other members led.
    window: Window,
    /// Of what this one led, and a life of another member passed on.
    passed: Vec<(u64, Window)>,
    /// Of what this one led, and a client may have got no answer to: as if applied when noted.
    unanswered: Window,
}

impl Duplicates {
    /// Nothing yet, of a member that has applied up to `term`; finds what is not older than `age`,
    /// and reads it by `read`.
    pub(super) fn new(
        age: Duration,
        term: Term,
        read: impl Fn(PhysicalOffset, u32) -> Option<Bytes> + Send + Sync + 'static,
    ) -> Self {
        let (window, passed) = (Window::new(MESSAGES), Vec::new());
        let unanswered = Window::new(MESSAGES_OF_LIFE);
        let lately = Mutex::new(Lately { term, window, passed, unanswered });
        let (read, passers, since) = (Box::new(read), Passers::default(), clock::now());
        Self(Arc::new(Shared { lately, read, passers, age, since }))
    }

    /// Who passes on to this member.
    pub(super) fn passers(&self) -> &Passers {
        &self.0.passers
    }

    /// An entry of `term` is applied, and in it messages with these hashes of their unique keys.
    pub(super) fn applied<'m>(
        &self,
        term: Term,
        messages: impl IntoIterator<Item = (u64, &'m Unit)>,
    ) {
        let mut lately = self.0.lately.lock();
        lately.term = term;
        if self.0.age.is_zero() {
            return;
        }
        let now_ms = self.0.now_ms();
        messages.into_iter().for_each(|(hash, unit)| lately.window.add(hash, unit, now_ms));
    }

    /// Of an entry that this member led these messages were passed on, each by a life.
    pub(super) fn passed<'m>(&self, messages: impl IntoIterator<Item = (u64, (u64, &'m Unit))>) {
        if self.0.age.is_zero() {
            return;
        }
        let mut lately = self.0.lately.lock();
        let now_ms = self.0.now_ms();
        for (life, (hash, unit)) in messages {
            lately.of_life(life, &self.0.passers).add(hash, unit, now_ms);
        }
    }

    /// The answers to these sends may not have got to their client, whose connection has ended: the
    /// same messages once more are retries, if they were stored within the age of a first try by
    /// now. `sends` are in order. Callable from any thread.
    pub(super) fn unanswered(&self, sends: impl DoubleEndedIterator<Item = StoredSend>) {
        self.note(sends, self.0.age_ms().into());
    }

    /// The clients of these messages were told that nobody knew, and they are applied now.
    pub(super) fn nobody_knew(&self, messages: impl DoubleEndedIterator<Item = PhysicalOffset>) {
        self.note(messages.map(|first| StoredSend { first, messages: 1 }), i64::MAX);
    }

    fn note(&self, sends: impl DoubleEndedIterator<Item = StoredSend>, age_ms: i64) {
        if self.0.age.is_zero() {
            return;
        }
        let messages = self.0.read_last(sends.rev(), age_ms);
        let mut lately = self.0.lately.lock();
        let now_ms = self.0.now_ms();
        messages.iter().for_each(|(hash, unit)| lately.unanswered.add(*hash, unit, now_ms));
    }

    /// What is there is void: a topic is gone, and its messages with it.
    pub(super) fn forget(&self) {
        self.0.lately.lock().forget();
    }

    /// A snapshot took the place of all entries up to one of `term`.
    pub(super) fn replaced(&self, term: Term) {
        let mut lately = self.0.lately.lock();
        lately.term = term;
        lately.forget();
    }

    /// For the time in which an entry is formed.
    pub(super) fn look(&self) -> Looking<'_> {
        let (mut lately, now_ms) = (self.0.lately.lock(), self.0.now_ms());
        lately.unanswered.forget_old(now_ms, self.0.age_ms());
        let is_gone = |(life, _): &(u64, Window)| !self.0.passers.is_there(*life);
        Looking {
            gone: lately.passed.iter().map(is_gone).collect(),
            lately,
            shared: &self.0,
            now_ms,
            wall_ms: clock::wall_ms(),
        }
    }
}

impl Lately {
    fn forget(&mut self) {
        self.window.forget();
        self.passed.clear();
        self.unanswered.forget();
    }

    /// Of what this life passed on; in the place of one that is not there any more, or of the oldest.
    fn of_life(&mut self, life: u64, passers: &Passers) -> &mut Window {
        let at = self.passed.iter().position(|(other, _)| *other == life);
        let at = at.unwrap_or_else(|| {
            if self.passed.len() == LIVES {
                let gone = self.passed.iter().position(|(life, _)| !passers.is_there(*life));
                self.passed.remove(gone.unwrap_or(0));
            }
            self.passed.push((life, Window::new(MESSAGES_OF_LIFE)));
            self.passed.len() - 1
        });
        &mut self.passed[at].1
    }
}

impl Shared {
    /// Wraps after 49 days: what is that old by the wall clock is no candidate either.
    fn now_ms(&self) -> u32 {
        clock::now().saturating_duration_since(self.since).as_millis() as u32
    }

    fn age_ms(&self) -> u32 {
        u32::try_from(self.age.as_millis()).unwrap_or(u32::MAX)
    }

    /// What lies there, until a message is older than `age_ms`: hashes of unique keys, and where.
    fn read_last(&self, sends: impl Iterator<Item = StoredSend>, age_ms: i64) -> Vec<(u64, Unit)> {
        let wall_ms = clock::wall_ms();
        let (mut keyed, mut messages, mut bytes) = (Vec::new(), 0, 0);
        for send in sends {
            let mut at = send.first;
            for _ in 0..send.messages {
                let Some(stored) = self.record_at(at) else { break };
                let record = Record::parse(&stored).ok();
                let Some(record) = record.filter(|record| record.physical() == at.0) else { break };
                (messages, bytes) = (messages + 1, bytes + stored.len());
                let is_enough = messages > UNANSWERED_MAX || bytes > UNANSWERED_BYTES;
                if is_enough || wall_ms.saturating_sub(record.store_timestamp()) > age_ms {
                    return keyed;
                }
                let unit = Unit {
                    physical: at,
                    bytes: stored.len() as u32,
                    crc: crc32c(&stored),
                    ..Unit::default()
                };
                let key = record.indexed().uniq_key.filter(|key| !key.is_empty());
                keyed.extend(key.map(|key| (key_hash(record.topic(), key), unit)));
                at = PhysicalOffset(at.0 + u64::from(unit.bytes));
            }
        }
        keyed
    }

    /// The record that begins there.
    fn record_at(&self, at: PhysicalOffset) -> Option<Bytes> {
        let head = (self.read)(at, RECORD_BYTES_MIN as u32)?;
        let bytes = u32::from_be_bytes(*head.first_chunk()?);
        (self.read)(at, bytes)
    }
}

/// What was stored lately, as it is now: nothing is applied meanwhile.
pub(super) struct Looking<'a> {
    lately: MutexGuard<'a, Lately>,
    /// Which of those who passed something on are not there to answer it: usually none.
    gone: SmallVec<[bool; LIVES]>,
    shared: &'a Shared,
    now_ms: u32,
    wall_ms: i64,
}

impl Looking<'_> {
    /// Of the last applied entry. If this member leads that term, all that any leader before it
    /// stored is applied.
    pub(super) fn term(&self) -> Term {
        self.lately.term
    }

    /// Whether anybody looks.
    pub(super) fn is_on(&self) -> bool {
        !self.shared.age.is_zero()
    }

    /// Where these messages were stored together before.
    pub(super) fn first_try(&self, drafts: &[Draft]) -> Option<FirstTry> {
        let Lately { window, passed, unanswered, .. } = &*self.lately;
        let hash = drafts.first()?.unique_hash?;
        let found = self.first_in(window, hash, drafts);
        found.or_else(|| self.first_in(unanswered, hash, drafts)).or_else(|| {
            let gone = passed.iter().zip(&self.gone).filter(|(_, is_gone)| **is_gone);
            gone.filter_map(|((_, window), _)| self.first_in(window, hash, drafts)).next()
        })
    }

    fn first_in(&self, window: &Window, hash: u64, drafts: &[Draft]) -> Option<FirstTry> {
        let candidates = self.of(window, hash).take(CANDIDATES_MAX);
        candidates.copied().find_map(|first| self.compare(window, first, drafts))
    }

    fn of<'w>(&self, window: &'w Window, hash: u64) -> impl Iterator<Item = &'w Slot> + use<'w> {
        window.of(hash, self.now_ms, self.shared.age_ms())
    }

    /// The messages that begin at `first`, one behind the other in one queue, if they are these.
    fn compare(&self, window: &Window, first: Slot, drafts: &[Draft]) -> Option<FirstTry> {
        let mut found: Option<FirstTry> = None;
        let mut at = first.physical;
        for draft in drafts {
            let slot = self.of(window, draft.unique_hash?).find(|slot| slot.physical == at)?;
            let bytes = (self.shared.read)(slot.physical, slot.bytes)?;
            let record = Record::parse(&bytes).ok().filter(|_| crc32c(&bytes) == slot.crc)?;
            if Content::of_record(&record) != Content::of(draft) {
                return None;
            }
            let place = (record.queue_id(), record.queue_offset());
            let found = match &mut found {
                None if self.is_too_old(&record) => return None,
                None => found.insert(FirstTry {
                    store_timestamp: record.store_timestamp(),
                    queue_id: place.0,
                    queue_offset: place.1,
                    positions: Vec::with_capacity(drafts.len()),
                }),
                Some(found) => found,
            };
            if place != (found.queue_id, found.queue_offset + found.positions.len() as u64) {
                return None;
            }
            found.positions.push(at.0);
            at = PhysicalOffset(at.0 + u64::from(slot.bytes));
        }
        found
    }

    fn is_too_old(&self, record: &Record<'_>) -> bool {
        let age_ms = i64::from(self.shared.age_ms()).saturating_add(CLOCKS_APART_MS);
        self.wall_ms.saturating_sub(record.store_timestamp()) > age_ms
    }
}

/// What a producer says of a message in each try alike. Others are the queue, the time at which it
/// was made, and its hosts.
#[derive(Debug)]
struct Content<'a> {
    topic: &'a str,
    body: &'a [u8],
    numbers: [i64; 4],
    properties: &'a [u8],
}

impl<'a> Content<'a> {
    fn of(draft: &'a Draft) -> Self {
        let flags = draft.sys_flag & !(BORN_HOST_V6 | STORE_HOST_V6);
        let Draft { flag, reconsume_times, prepared_transaction_offset: prepared, .. } = *draft;
        Self {
            topic: &draft.topic,
            body: &draft.body,
            numbers: [flags.into(), flag.into(), reconsume_times.into(), prepared],
            properties: &draft.properties,
        }
    }

    fn of_record(record: &'a Record<'_>) -> Self {
        let flags = record.sys_flag() & !(BORN_HOST_V6 | STORE_HOST_V6);
        let (flag, reconsume_times) = (record.flag(), record.reconsume_times());
        let prepared = record.prepared_transaction_offset();
        Self {
            topic: record.topic(),
            body: record.body(),
            numbers: [flags.into(), flag.into(), reconsume_times.into(), prepared],
            properties: record.properties(),
        }
    }
}

impl PartialEq for Content<'_> {
    /// Some clients write the properties of a message in another order each time.
    fn eq(&self, other: &Self) -> bool {
        let of = |content: &Self| -> BTreeMap<String, String> {
            let own = |text: &str| text.to_owned();
            properties::iter(content.properties).map(|(n, v)| (own(n), own(v))).collect()
        };
        (self.topic, self.numbers, self.body) == (other.topic, other.numbers, other.body)
            && (self.properties == other.properties
                || (self.properties.len() == other.properties.len() && of(self) == of(other)))
    }
}

/// Whether two messages are tries of one.
pub(super) fn is_same(one: &Draft, other: &Draft) -> bool {
    one.unique_hash == other.unique_hash && Content::of(one) == Content::of(other)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::protocol::message::RecordPlace;
    use crate::raft::group_tests;
    use proptest::prelude::*;
    use std::collections::BTreeMap as Map;

    /// A message of topic T with a unique key.
    pub(in crate::raft) fn keyed(queue_id: u32, key: &str, body: &str) -> Draft {
        Draft {
            properties: format!("UNIQ_KEY\u{1}{key}\u{2}TAGS\u{1}t\u{2}").into(),
            unique_hash: Some(key_hash("T", key)),
            ..group_tests::draft("T", queue_id, body)
        }
    }

    type Records = Arc<Mutex<Map<u64, Bytes>>>;

    /// A log in memory, and what was stored there lately.
    pub(in crate::raft) struct Log {
        records: Records,
        pub(in crate::raft) duplicates: Duplicates,
        next: (u64, u64),
    }

    impl Log {
        pub(in crate::raft) fn new() -> Self {
            Self::of_age(Duration::from_secs(10))
        }

        fn of_age(age: Duration) -> Self {
            let records = Records::default();
            let read = Arc::clone(&records);
            let duplicates =
                Duplicates::new(age, Term(1), move |at, _| read.lock().get(&at.0).cloned());
            Self { records, duplicates, next: (64, 0) }
        }

        /// Stores and applies messages, as one entry; the places of the first one.
        pub(in crate::raft) fn store(&mut self, drafts: &[Draft]) -> (u64, u64) {
            self.store_at(drafts, clock::wall_ms())
        }

        fn store_at(&mut self, drafts: &[Draft], store_timestamp: i64) -> (u64, u64) {
            let first = self.next;
            for draft in drafts {
                let (physical, queue_offset) = self.next;
                let mut bytes = vec![0; draft.stored_bytes()];
                draft.encode(RecordPlace { queue_offset, physical, store_timestamp }, &mut bytes);
                let unit = Unit {
                    physical: PhysicalOffset(physical),
                    bytes: bytes.len() as u32,
                    tags_code: 0,
                    crc: crc32c(&bytes),
                };
                self.next = (physical + bytes.len() as u64, queue_offset + 1);
                self.records.lock().insert(physical, bytes.into());
                self.duplicates.applied(Term(1), draft.unique_hash.map(|hash| (hash, &unit)));
            }
            self.next.0 += 64;
            first
        }

        /// As if this member had led so far.
        pub(in crate::raft) fn led(&self) {
            self.duplicates.0.lately.lock().window.forget();
        }

        /// What lies there was passed on by a life.
        fn pass_again(&self, life: u64, drafts: &[Draft], (physical, _): (u64, u64)) {
            let record = self.records.lock()[&physical].clone();
            let unit = Unit {
                physical: PhysicalOffset(physical),
                bytes: record.len() as u32,
                tags_code: 0,
                crc: crc32c(&record),
            };
            self.duplicates.passed(drafts[0].unique_hash.map(|hash| (life, (hash, &unit))));
        }

        fn first_try(&self, drafts: &[Draft]) -> Option<(u64, u64)> {
            let found = self.duplicates.look().first_try(drafts)?;
            assert_eq!(found.positions.len(), drafts.len());
            Some((found.positions[0], found.queue_offset))
        }
    }

    #[test]
    fn a_message_that_comes_again_is_found_whatever_its_queue_hosts_and_time() {
        let mut log = Log::new();
        let first = log.store(&[keyed(0, "a", "x")]);
        log.store(&[keyed(0, "b", "y")]);
        let again = Draft {
            born_timestamp: 99,
            born_host: "[::1]:5".parse().unwrap(),
            properties: "TAGS\u{1}t\u{2}UNIQ_KEY\u{1}a\u{2}".into(),
            ..keyed(3, "a", "x")
        };
        assert_eq!(log.first_try(&[again]), Some(first));
    }

    #[test]
    fn what_differs_is_no_repeat_though_it_has_the_same_key() {
        let mut log = Log::new();
        let stored = keyed(0, "a", "x");
        log.store(std::slice::from_ref(&stored));
        let others = [
            keyed(0, "a", "y"),
            keyed(0, "a", "xx"),
            Draft { flag: 1, ..stored.clone() },
            Draft { sys_flag: 1, ..stored.clone() },
            Draft { reconsume_times: 1, ..stored.clone() },
            Draft { topic: "U".into(), ..stored.clone() },
            Draft { properties: "UNIQ_KEY\u{1}b\u{2}TAGS\u{1}t\u{2}".into(), ..stored.clone() },
            Draft { properties: "UNIQ_KEY\u{1}a\u{2}TAGS\u{1}u\u{2}".into(), ..stored.clone() },
            Draft { unique_hash: None, ..stored.clone() },
            Draft { unique_hash: Some(1), ..stored.clone() },
        ];
        for other in others {
            assert_eq!(log.first_try(std::slice::from_ref(&other)), None, "{other:?}");
        }
        assert!(log.first_try(&[stored]).is_some());
    }

    #[test]
    fn a_batch_is_a_repeat_if_all_of_it_lies_together() {
        let mut log = Log::new();
        let of = |names: &str| -> Vec<Draft> {
            names.chars().map(|name| keyed(0, &name.to_string(), "x")).collect()
        };
        let first = log.store(&of("abcd"));
        log.store(&of("e"));
        assert_eq!(log.first_try(&of("abcd")), Some(first));
        assert_eq!(log.first_try(&of("abc")), Some(first));
        for other in ["abd", "abcde", "ba", "de", "abcdx"] {
            assert_eq!(log.first_try(&of(other)), None, "{other}");
        }
        let mut unkeyed = of("ab");
        unkeyed[1].unique_hash = None;
        assert_eq!(log.first_try(&unkeyed), None);
        log.store(&[keyed(0, "f", "x"), keyed(1, "g", "x")]);
        assert_eq!(log.first_try(&of("fg")), None, "of two queues");
    }

    #[test]
    fn what_a_member_passed_on_is_found_when_that_one_is_gone() {
        let mut log = Log::new();
        let own = [keyed(0, "a", "x")];
        let first = log.store(&own);
        log.pass_again(7, &own, first);
        let passers = log.duplicates.passers().clone();
        log.led();
        let stays = passers.came(7, "n1");
        assert_eq!(log.first_try(&own), None, "it is there: its client wants it twice");
        drop(stays);
        assert_eq!(log.first_try(&own), Some(first));
        for life in 8..=7 + LIVES as u64 {
            log.pass_again(life, &[keyed(0, "b", "x")], first);
        }
        assert_eq!(log.duplicates.0.lately.lock().passed.len(), LIVES, "bounded");
        assert_eq!(log.first_try(&own), None, "of the oldest");
    }

    #[test]
    fn what_may_not_have_been_answered_is_found_as_long_as_it_is_young() {
        let mut log = Log::new();
        let of = |key: &str| vec![keyed(0, key, "x")];
        let batch = [of("b"), of("c")].concat();
        let old = log.store_at(&of("o"), clock::wall_ms() - 11_000);
        let [a, b] = [log.store(&of("a")), log.store(&batch)];
        let later = log.store(&[group_tests::draft("T", 0, "no key"), keyed(0, "d", "x")]);
        log.led();
        let none = |log: &Log| {
            [of("o"), of("a"), batch.clone()].iter().all(|d| log.first_try(d).is_none())
        };
        assert!(none(&log));
        let send = |(at, _), messages| StoredSend { first: PhysicalOffset(at), messages };
        let nowhere = StoredSend { first: PhysicalOffset(1), messages: 3 };
        let sends = [send(old, 1), nowhere, send(a, 1), send(b, 2), send(later, 2)];
        log.duplicates.unanswered(sends.into_iter());
        assert_eq!([log.first_try(&of("a")), log.first_try(&batch)], [Some(a), Some(b)]);
        assert!(log.first_try(&of("d")).is_some(), "behind one that has no key");
        assert_eq!(log.first_try(&of("o")), None, "nobody tries so late");
        assert_eq!(log.first_try(&[keyed(0, "a", "y")]), None, "another message");
        let aged = |log: &Log, age_ms| {
            let mut lately = log.duplicates.0.lately.lock();
            let now_ms = log.duplicates.0.now_ms().wrapping_add(age_ms);
            lately.unanswered.forget_old(now_ms, 10_000);
            lately.unanswered.slots.len()
        };
        assert_eq!((aged(&log, 5_000), aged(&log, 11_000)), (4, 0));
        assert!(none(&log));
        log.duplicates.unanswered([send(a, 1)].into_iter());
        assert!(log.first_try(&of("a")).is_some());
        log.duplicates.forget();
        assert!(none(&log));
    }

    #[test]
    fn the_end_of_a_connection_costs_a_bounded_time() {
        let mut log = Log::new();
        let sends = (0..2 * UNANSWERED_MAX).map(|n| {
            let (at, _) = log.store(&[keyed(0, &n.to_string(), "x")]);
            StoredSend { first: PhysicalOffset(at), messages: 1 }
        });
        let sends: Vec<_> = sends.collect();
        let noted = |log: &Log| log.duplicates.0.lately.lock().unanswered.slots.len();
        log.duplicates.unanswered(sends.iter().copied());
        assert_eq!(noted(&log), UNANSWERED_MAX);
        let last = format!("{}", 2 * UNANSWERED_MAX - 1);
        log.led();
        assert!(log.first_try(&[keyed(0, &last, "x")]).is_some(), "the last ones");
        let large = "x".repeat(UNANSWERED_BYTES / 4);
        let sends = (0..6).map(|n| {
            let (at, _) = log.store(&[keyed(0, &n.to_string(), &large)]);
            StoredSend { first: PhysicalOffset(at), messages: 1 }
        });
        let sends: Vec<_> = sends.collect();
        log.duplicates.unanswered(sends.into_iter());
        assert_eq!(noted(&log), UNANSWERED_MAX + 3);
        let off = Log::of_age(Duration::ZERO);
        off.duplicates
            .unanswered([StoredSend { first: PhysicalOffset(64), messages: 1 }].into_iter());
        assert_eq!(noted(&off), 0);
    }

    #[test]
    fn what_is_gone_damaged_or_old_is_not_found() {
        let mut log = Log::new();
        let message = [keyed(0, "a", "x")];
        let (at, _) = log.store(&message);
        let mut bytes = log.records.lock()[&at].to_vec();
        bytes[15] ^= 1; // its queue
        let whole = log.records.lock().insert(at, bytes.into()).unwrap();
        assert_eq!(log.first_try(&message), None, "damaged");
        log.records.lock().remove(&at);
        assert_eq!(log.first_try(&message), None, "purged");
        log.records.lock().insert(at, whole);
        assert!(log.first_try(&message).is_some());
        log.duplicates.forget();
        assert_eq!(log.first_try(&message), None, "its topic is gone");
        let minutes_ago = clock::wall_ms() - 2 * CLOCKS_APART_MS;
        log.store_at(&message, minutes_ago);
        assert_eq!(log.first_try(&message), None, "stored long ago, and applied late");
        log.store_at(&message, clock::wall_ms() + 2 * CLOCKS_APART_MS);
        assert!(log.first_try(&message).is_some(), "by a clock that is ahead");
        let mut off = Log::of_age(Duration::ZERO);
        off.store(&message);
        assert!(off.first_try(&message).is_none() && !off.duplicates.look().is_on());
        assert_eq!(off.duplicates.0.lately.lock().window.slots.len(), 0, "and costs nothing");
    }

    #[test]
    fn one_key_for_all_messages_costs_a_bounded_look() {
        let mut log = Log::new();
        let messages: Vec<Draft> = (0..100).map(|n| keyed(0, "a", &n.to_string())).collect();
        for message in &messages {
            log.store(std::slice::from_ref(message));
        }
        let found = |n: usize| log.first_try(&messages[n..=n]).is_some();
        assert!(found(99) && found(96) && !found(95) && !found(0));
    }

    fn unit(physical: u64) -> Unit {
        Unit { physical: PhysicalOffset(physical), ..Unit::default() }
    }

    proptest! {
        #[test]
        fn the_window_has_the_last_messages_that_are_young_and_no_others(
            first in prop_oneof![Just(1_u32), any::<u32>()],
            added in prop::collection::vec((0_u64..40, 0_u32..30), 0..60),
        ) {
            const AGE: u32 = 100;
            let mut window = Window::new(16);
            window.next = first;
            // A ring that has been full before: number n is at its index from the start.
            if first != 1 {
                (0..16).for_each(|_| window.add(u64::MAX, &unit(u64::MAX), 0));
                let at = window.next.wrapping_sub(first) as usize;
                assert_eq!(at, 16);
                let index = window.index(first);
                window.slots.rotate_right(index);
            }
            let (mut model, mut now) = (Vec::new(), 0_u32);
            for (n, (hash, passed)) in added.into_iter().enumerate() {
                now += passed;
                window.add(hash, &unit(n as u64), now);
                model.push((hash, n as u64, now));
                prop_assert!(window.slots.len() <= 16 && window.heads.len() == 16);
            }
            for hash in 0..40 {
                let found: Vec<u64> = window.of(hash, now, AGE).map(|s| s.physical.0).collect();
                let last = model.iter().rev().take(16);
                let is_one = |(one, _, at): &&(u64, u64, u32)| *one == hash && now - at <= AGE;
                let want: Vec<u64> = last.filter(is_one).map(|(_, n, _)| *n).collect();
                prop_assert_eq!(found, want, "{}", hash);
            }
        }
    }
}
