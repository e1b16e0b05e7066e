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
    let none =
        |log: &Log| [of("o"), of("a"), batch.clone()].iter().all(|d| log.first_try(d).is_none());
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
    log.duplicates.forget(PhysicalOffset(log.next.0));
    assert!(none(&log));
    log.duplicates.unanswered([send(a, 1)].into_iter());
    assert!(none(&log), "its topic was deleted before its connection ended");
}

#[test]
fn a_connection_that_was_idle_hides_nothing_of_another_one() {
    let mut log = Log::new();
    let of = |key: &str| vec![keyed(0, key, "x")];
    let old = log.store_at(&of("o"), clock::wall_ms() - 20_000);
    let young = log.store(&of("a"));
    log.led();
    let send = |(at, _)| StoredSend { first: PhysicalOffset(at), messages: 1 };
    log.duplicates.unanswered([send(young), send(old)].into_iter());
    assert_eq!([log.first_try(&of("a")), log.first_try(&of("o"))], [Some(young), None]);
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
    off.duplicates.unanswered([StoredSend { first: PhysicalOffset(64), messages: 1 }].into_iter());
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
    log.duplicates.forget(PhysicalOffset(log.next.0));
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
