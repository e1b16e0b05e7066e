//! What checking the disk goes by: how fast, how often, and who is wrong when members differ. Pure
//! but for the two things that are shared, what was found whole and what was counted;
//! `scrubber` acts.
//!
//! Damage contradicts a checksum: one member can tell, and it is repaired. A difference does not:
//! entries are whole on both sides, which only a fault of programs or memory makes. Who is wrong
//! is what a majority of all members says, and without one nobody knows. Nothing that is whole is
//! overwritten either way (as [`crate::store::repair`] says): what the entry did when it was
//! applied would stay. An operator empties the store of who is wrong, and it gets all of it again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::ids::{EntryIndex, PhysicalOffset};
use crate::store::scrub::{Cursor, Hash};
use crate::store::{self, CommitLog};
use crate::telemetry::instruments::Counter;

/// Bytes of entries that a question about single ones reads at once; one is read whatever it has.
const ENTRIES_BYTES: u64 = 4 << 20;
/// Stretches whose hashes are kept: of 2 TiB. Those beyond are checked, and not compared.
const STRETCHES_MAX: usize = 1 << 19;
/// Of the disk's time checking takes one part, and leaves so many: where others keep the disk
/// busy, reads take longer, and there are fewer of them.
const PARTS_LEFT: u32 = 9;
/// Longest pause that follows from that.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How often the same entry is read before it counts as damaged: a write may be under way there.
const LOOKS: u32 = 2;

/// How fast and how often the disk is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubRules {
    /// Bytes read in a second; 0: it is not checked.
    pub bytes_per_second: u64,
    /// From the end of a round to the start of the next one.
    pub interval: Duration,
}

impl ScrubRules {
    /// Nothing is checked.
    pub const OFF: Self = Self { bytes_per_second: 0, interval: Duration::ZERO };

    /// When the next round begins, from `now_ms` on; `None` while it is off. A clock that went
    /// back before the end of the last one begins it at once.
    pub(super) fn next_round(&self, saved: Saved, now_ms: i64) -> Option<Duration> {
        if self.bytes_per_second == 0 {
            return None;
        }
        let since = saved.ended_ms.and_then(|ended| u64::try_from(now_ms.checked_sub(ended)?).ok());
        Some(match since.filter(|_| saved.at.is_none()) {
            Some(since) => self.interval.saturating_sub(Duration::from_millis(since)),
            None => Duration::ZERO,
        })
    }

    /// How long to wait after `bytes` were read, which took `took`.
    pub(super) fn pause(&self, bytes: u64, took: Duration) -> Duration {
        let Some(ms) = bytes.saturating_mul(1000).checked_div(self.bytes_per_second) else {
            return Duration::ZERO; // it was turned off meanwhile
        };
        let by_rate = Duration::from_millis(ms);
        let by_load = took.saturating_mul(PARTS_LEFT).min(PAUSE_MAX);
        by_rate.saturating_sub(took).max(by_load)
    }
}

/// What a restart goes on from. A file of its own: `scrub.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Saved {
    /// An entry in the segment that is being checked; `None` between two rounds.
    pub(super) at: Option<u64>,
    /// When the last round ended, ms since 1970.
    pub(super) ended_ms: Option<i64>,
}

impl Saved {
    /// What a file says; whatever it is, at worst a round begins anew.
    pub(super) fn parse(content: &[u8]) -> Self {
        serde_json::from_slice(content).unwrap_or_default()
    }

    /// Its content.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        serde_json::to_vec(&self).unwrap_or_default() // numbers
    }
}

/// What to do with an entry that a look found damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Read it again.
    LookAgain,
    /// Have it repaired, and read it again.
    Mend,
    /// Go on without it: it could not be repaired.
    Leave,
}

/// The entry that was found damaged last.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    at: Option<EntryIndex>,
    looks: u32,
}

impl Suspicion {
    /// It was found damaged, now.
    pub(super) fn found(&mut self, at: EntryIndex) -> Remedy {
        if self.at != Some(at) {
            *self = Self { at: Some(at), looks: 0 };
        }
        self.looks += 1;
        match self.looks {
            looks if looks < LOOKS => Remedy::LookAgain,
            LOOKS => Remedy::Mend,
            _ => Remedy::Leave,
        }
    }
}

/// Hashes of the stretches that this member found whole. Cloning shares it. Committed bytes never
/// change, so a hash is as good after a week; after a restart others wait for the next round.
#[derive(Debug, Clone, Default)]
pub(super) struct Checked(Arc<Mutex<BTreeMap<PhysicalOffset, u64>>>);

impl Checked {
    /// The stretch that starts at `start` is whole.
    pub(super) fn note(&self, start: PhysicalOffset, hash: u64) {
        let mut hashes = self.0.lock();
        if hashes.len() < STRETCHES_MAX || hashes.contains_key(&start) {
            hashes.insert(start, hash);
        }
    }

    /// It is not, any more.
    pub(super) fn forget(&self, start: PhysicalOffset) {
        self.0.lock().remove(&start);
    }

    /// Nobody has what lies before `first` any more.
    pub(super) fn forget_before(&self, first: PhysicalOffset) {
        let mut hashes = self.0.lock();
        if hashes.first_key_value().is_some_and(|(start, _)| *start < first) {
            *hashes = hashes.split_off(&first);
        }
    }

    /// The hash of a stretch.
    pub(super) fn hash_of(&self, start: PhysicalOffset) -> Option<u64> {
        self.0.lock().get(&start).copied()
    }
}

/// The hashes of entries of `from..to`, one each: the first ones, up to what is damaged.
pub(super) fn entry_hashes(
    log: &CommitLog,
    from: EntryIndex,
    to: EntryIndex,
) -> Result<Vec<u64>, store::Error> {
    let entries = log.whole_entries(from, to, ENTRIES_BYTES)?;
    Ok(entries.iter().map(|entry| Hash::of(&entry.bytes)).collect())
}

/// Who has something else in an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody of those who answered.
    Nobody,
    /// This member: a majority of all has other bytes.
    This,
    /// Another one: a majority of all has what this member has.
    Another,
    /// One of them; no majority answers, or agrees.
    Unknown,
}

impl Verdict {
    /// Who is wrong, and what to do.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::This => {
                "this member's is wrong: a majority has other bytes; stop it, empty its store and \
                 start it, it gets all from the others"
            }
            Self::Another => {
                "another member's is wrong: a majority has what is here; stop that one, empty its \
                 store and start it"
            }
            Self::Nobody | Self::Unknown => {
                "no majority says which one is wrong; ask again when all members run"
            }
        }
    }
}

/// Judges an entry whose bytes have the hash `own` here, and `others` elsewhere; the group has
/// `members`.
pub(super) fn judge(own: u64, others: &[u64], members: usize) -> Verdict {
    if others.iter().all(|hash| *hash == own) {
        return Verdict::Nobody;
    }
    let has_majority = |hash: &u64| {
        let agree = others.iter().chain([&own]).filter(|other| *other == hash).count();
        2 * agree > members
    };
    match (has_majority(&own), others.iter().any(has_majority)) {
        (true, _) => Verdict::Another,
        (false, true) => Verdict::This,
        (false, false) => Verdict::Unknown,
    }
}

/// The first entry of a range that members have different bytes for, and how many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    /// Which one, counted from the start of the range.
    pub(super) number: usize,
    pub(super) verdict: Verdict,
    /// Whom to look at: names and hashes.
    pub(super) hashes: String,
    /// Entries that differ.
    pub(super) entries: u64,
}

/// Compares hashes of the same entries: `own`, and the first ones of others.
pub(super) fn compare(
    own: &[u64],
    others: &[(String, Vec<u64>)],
    members: usize,
) -> Option<Difference> {
    let mut found: Option<Difference> = None;
    for (number, hash) in own.iter().enumerate() {
        let (names, theirs): (Vec<_>, Vec<_>) =
            others.iter().filter_map(|(name, hashes)| Some((name, *hashes.get(number)?))).unzip();
        let verdict = judge(*hash, &theirs, members);
        match &mut found {
            _ if verdict == Verdict::Nobody => {}
            Some(found) => found.entries += 1,
            None => {
                let named =
                    names.iter().zip(theirs).map(|(name, hash)| format!("{name}: {hash:016x}"));
                let own = std::iter::once(format!("here: {hash:016x}"));
                let hashes = own.chain(named).collect::<Vec<_>>().join(", ");
                found = Some(Difference { number, verdict, hashes, entries: 1 });
            }
        }
    }
    found
}

/// What a round found and left as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// Entries that are damaged, and that nobody could repair.
    pub unrepaired: u64,
    /// Entries of which another member has other bytes that are whole, too.
    pub differing: u64,
    /// Who is wrong in the first of these, and what to do.
    pub advice: Option<&'static str>,
}

/// That of the last round, and of the one that goes on: what was mended since is forgotten only once
/// a whole round has not met it again.
#[derive(Debug, Default)]
struct Rounds {
    last: Left,
    this: Left,
}

impl Rounds {
    fn left(&self) -> Left {
        let Self { last, this } = self;
        Left {
            unrepaired: last.unrepaired.max(this.unrepaired),
            differing: last.differing.max(this.differing),
            advice: this.advice.or(last.advice),
        }
    }
}

/// What checking has found since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Bytes of the log that were read.
    pub bytes: u64,
    /// Entries that were found damaged.
    pub damaged: u64,
    /// Those that are whole again.
    pub repaired: u64,
    /// Entries of which another member has other bytes that are whole, too.
    pub differing: u64,
    /// What is left of it, by the last round and the one that goes on.
    pub left: Left,
    /// Up to where the round has come.
    pub position: PhysicalOffset,
    /// When the last round ended, ms since 1970, if there was one.
    pub round_ended_ms: Option<i64>,
}

/// Counts it.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) bytes: Counter,
    pub(super) damaged: Counter,
    pub(super) repaired: Counter,
    pub(super) differing: Counter,
    rounds: Mutex<Rounds>,
    position: AtomicU64,
    /// 0: none.
    ended_ms: AtomicI64,
}

impl Counts {
    /// An entry stays damaged.
    pub(super) fn leave(&self) {
        self.rounds.lock().this.unrepaired += 1;
    }

    /// Some entries differ.
    pub(super) fn differ(&self, found: &Difference) {
        self.differing.add(found.entries);
        let this = &mut self.rounds.lock().this;
        this.differing += found.entries;
        this.advice.get_or_insert_with(|| found.verdict.advice());
    }

    /// All is checked; it begins anew.
    pub(super) fn round_is_over(&self) {
        let mut rounds = self.rounds.lock();
        rounds.last = std::mem::take(&mut rounds.this);
    }

    /// The next entry to be checked.
    pub(super) fn reached(&self, at: Cursor) {
        self.position.store(at.position.0, Relaxed);
    }

    /// A round has ended.
    pub(super) fn ended(&self, at_ms: Option<i64>) {
        self.ended_ms.store(at_ms.unwrap_or(0), Relaxed);
    }

    /// All of it.
    pub(super) fn get(&self) -> Scrubbed {
        Scrubbed {
            bytes: self.bytes.get(),
            damaged: self.damaged.get(),
            repaired: self.repaired.get(),
            differing: self.differing.get(),
            left: self.rounds.lock().left(),
            position: PhysicalOffset(self.position.load(Relaxed)),
            round_ended_ms: Some(self.ended_ms.load(Relaxed)).filter(|ms| *ms != 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    const RULES: ScrubRules =
        ScrubRules { bytes_per_second: 4 << 20, interval: Duration::from_secs(24 * 3600) };

    #[test]
    fn a_round_begins_when_the_last_one_ended_long_enough_ago_and_goes_on_at_once() {
        let saved = |at, ended_ms| Saved { at, ended_ms };
        let hours = |hours: u64| Some(Duration::from_secs(3600 * hours));
        let now_ms = 1000 * HOUR_MS;
        let rows = [
            (saved(None, None), hours(0)),
            (saved(None, Some(now_ms)), hours(24)),
            (saved(None, Some(now_ms - 23 * HOUR_MS)), hours(1)),
            (saved(None, Some(now_ms - 24 * HOUR_MS)), hours(0)),
            (saved(None, Some(0)), hours(0)),
            (saved(None, Some(now_ms + HOUR_MS)), hours(0)), // the clock went back
            (saved(None, Some(i64::MIN)), hours(0)),
            (saved(Some(7), Some(now_ms)), hours(0)), // it was interrupted
        ];
        for (saved, want) in rows {
            assert_eq!(RULES.next_round(saved, now_ms), want, "{saved:?}");
            assert_eq!(ScrubRules::OFF.next_round(saved, now_ms), None, "{saved:?}");
        }
    }

    #[test]
    fn pauses_keep_the_rate_and_leave_the_disk_to_others() {
        let rows = [
            (1 << 20, 0, 250),
            (1 << 20, 10, 240),
            (1 << 20, 25, 225),
            (1 << 20, 100, 900), // others keep the disk busy
            (1 << 20, 60_000, 10_000),
            (400 << 20, 0, 100_000), // a rate is never exceeded
            (0, 0, 0),
        ];
        for (bytes, took, want) in rows {
            let got = RULES.pause(bytes, Duration::from_millis(took));
            assert_eq!(got, Duration::from_millis(want), "{bytes} bytes in {took} ms");
        }
        assert_eq!(ScrubRules::OFF.pause(1, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn whatever_a_file_says_it_is_read_and_what_is_written_is_read_again() {
        for saved in [Saved::default(), Saved { at: Some(u64::MAX), ended_ms: Some(-1) }] {
            assert_eq!(Saved::parse(&saved.to_bytes()), saved);
        }
        for bad in [&b""[..], b"{", b"[]", b"{\"at\":-1}", b"\xff", b"{\"at\":\"x\"}"] {
            assert_eq!(Saved::parse(bad), Saved::default());
        }
    }

    #[test]
    fn an_entry_is_looked_at_twice_mended_once_and_then_left() {
        use Remedy::{Leave, LookAgain, Mend};
        let mut suspicion = Suspicion::default();
        let rows =
            [(5, LookAgain), (5, Mend), (5, Leave), (6, LookAgain), (6, Mend), (7, LookAgain)];
        for (index, want) in rows {
            assert_eq!(suspicion.found(EntryIndex(index)), want, "entry {index}");
        }
    }

    #[test]
    fn a_majority_of_all_members_says_who_is_wrong() {
        use Verdict::{Another, Nobody, This, Unknown};
        let rows: [(u64, &[u64], usize, Verdict); 12] = [
            (1, &[], 1, Nobody),
            (1, &[], 3, Nobody),
            (1, &[1, 1], 3, Nobody),
            (1, &[1], 3, Nobody),
            (1, &[2, 2], 3, This),
            (1, &[1, 2], 3, Another),
            (1, &[2], 3, Unknown), // the third may be with either
            (1, &[2, 3], 3, Unknown),
            (1, &[2], 2, Unknown),
            (1, &[2, 2, 1, 2], 5, This),
            (1, &[2, 2, 1], 5, Unknown),
            (1, &[2, 2, 3, 3], 5, Unknown),
        ];
        for (own, others, members, want) in rows {
            let got = judge(own, others, members);
            assert_eq!(got, want, "{own} {others:?} of {members}");
        }
    }

    #[test]
    fn the_first_difference_is_told_and_the_others_are_counted() {
        let others = |a: &[u64], b: &[u64]| {
            vec![("n1".to_owned(), a.to_vec()), ("n2".to_owned(), b.to_vec())]
        };
        assert_eq!(compare(&[1, 2, 3], &others(&[1, 2, 3], &[1]), 3), None);
        assert_eq!(compare(&[], &others(&[1], &[1]), 3), None);
        let found = compare(&[1, 2, 3, 4], &others(&[1, 9, 3, 8], &[1, 9]), 3).unwrap();
        assert_eq!((found.number, found.verdict, found.entries), (1, Verdict::This, 2));
        let want = "here: 0000000000000002, n1: 0000000000000009, n2: 0000000000000009";
        assert_eq!(found.hashes, want);
    }

    #[test]
    fn what_is_left_is_told_until_a_whole_round_has_not_met_it_again() {
        let (counts, verdict) = (Counts::default(), Verdict::This);
        let found = Difference { number: 0, verdict, hashes: String::new(), entries: 2 };
        let left = || {
            let left = counts.get().left;
            (left.unrepaired, left.differing, left.advice)
        };
        counts.leave();
        counts.differ(&found);
        let all = (1, 2, Some(Verdict::This.advice()));
        assert_eq!(left(), all);
        counts.round_is_over();
        assert_eq!(left(), all, "the next round goes on");
        counts.leave();
        assert_eq!(left(), all, "it is the same damage again, not more");
        counts.round_is_over();
        assert_eq!(left(), (1, 0, None), "the difference was mended");
        counts.round_is_over();
        assert_eq!(left(), (0, 0, None));
        assert_eq!(counts.get().differing, 2, "a total");
    }

    #[test]
    fn hashes_are_kept_as_long_as_the_log_is() {
        let (checked, at) = (Checked::default(), PhysicalOffset);
        (0..4).for_each(|n| checked.note(at(n * 10), n));
        assert_eq!(checked.hash_of(at(20)), Some(2));
        checked.forget_before(at(20));
        checked.forget(at(30));
        let left: Vec<_> = (0..4).filter_map(|n| checked.hash_of(at(n * 10))).collect();
        assert_eq!(left, [2]);
    }
}
