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
#[cfg(test)]
use crate::raft::simulation::planted::{Bug, is_planted};
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
    /// What lies before it is no first try, whoever has not been answered.
    void: PhysicalOffset,
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
        let void = PhysicalOffset(0);
        let lately = Mutex::new(Lately { term, window, passed, unanswered, void });
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
    /// now. The sends of a connection are in order. Callable from any thread.
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
        let (now_ms, void) = (self.0.now_ms(), lately.void);
        let there = messages.iter().filter(|(_, unit)| unit.physical >= void);
        there.for_each(|(hash, unit)| lately.unanswered.add(*hash, unit, now_ms));
    }

    /// What lies before `end` is void: a topic is gone, and its messages with it.
    pub(super) fn forget(&self, end: PhysicalOffset) {
        #[cfg(test)]
        if is_planted(Bug::FindsWhatIsDeleted) {
            return;
        }
        let mut lately = self.0.lately.lock();
        lately.void = end;
        lately.forget();
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

    /// What lies there and is not older than `age_ms`: hashes of unique keys, and where.
    fn read_last(&self, sends: impl Iterator<Item = StoredSend>, age_ms: i64) -> Vec<(u64, Unit)> {
        let wall_ms = clock::wall_ms();
        let (mut keyed, mut messages, mut bytes) = (Vec::new(), 0, 0);
        for send in sends {
            let mut at = send.first;
            for _ in 0..send.messages {
                let Some(stored) = self.record_at(at) else { break };
                (messages, bytes) = (messages + 1, bytes + stored.len());
                if messages > UNANSWERED_MAX || bytes > UNANSWERED_BYTES {
                    return keyed;
                }
                let record = Record::parse(&stored).ok();
                let Some(record) = record.filter(|record| record.physical() == at.0) else { break };
                // Those of another connection may be younger.
                if wall_ms.saturating_sub(record.store_timestamp()) > age_ms {
                    break;
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
            let is_same = Content::of_record(&record) == Content::of(draft);
            #[cfg(test)]
            let is_same = is_same || is_planted(Bug::TrustsKeys);
            if !is_same {
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
pub(super) mod tests;
