//! What became of every message of a run. Pure: time is an argument.

use std::time::{Duration, Instant};

/// Most messages of one run: two bytes each are kept.
pub(super) const MESSAGES_MAX: u64 = 20_000_000;

/// The longest time between two events in a row.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pauses {
    last: Option<Instant>,
    longest: Duration,
}

impl Pauses {
    /// Waiting for the first event counts from the first `now` on.
    fn begin(&mut self, now: Instant) {
        self.last.get_or_insert(now);
    }

    fn note(&mut self, now: Instant) {
        if let Some(last) = self.last {
            self.longest = self.longest.max(now.saturating_duration_since(last));
        }
        self.last = Some(now);
    }

    /// The longest so far, with the one that had not ended by `until` if that is given.
    fn longest(&self, until: Option<Instant>) -> Duration {
        let open = self.last.zip(until).map(|(last, until)| until.saturating_duration_since(last));
        self.longest.max(open.unwrap_or_default())
    }
}

/// What is known of one message.
#[derive(Debug, Clone, Copy, Default)]
struct Fate {
    acknowledged: bool,
    deliveries: u8,
}

/// Messages of one run by sequence number.
#[derive(Debug, Default)]
pub(super) struct Account {
    fates: Vec<Fate>,
    totals: Totals,
    /// Messages both acknowledged and delivered.
    arrived: u64,
    /// When the last try ended that was not acknowledged.
    tried: Option<Instant>,
    acknowledgements: Pauses,
    deliveries: Pauses,
    slowest: Duration,
}

/// The sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Messages handed to the producer.
    pub(super) sent: u64,
    /// Of them acknowledged by a broker.
    pub(super) acknowledged: u64,
    /// Of them given up after retrying.
    pub(super) failed: u64,
    /// Sends that failed and may be tried again.
    pub(super) retries: u64,
    /// Different messages consumed.
    pub(super) consumed: u64,
    /// Deliveries of a message that had been consumed before.
    pub(super) doubled: u64,
    /// Deliveries of what nobody sent in this run.
    pub(super) foreign: u64,
}

impl Account {
    /// The next message is on its way; its sequence number. `None` at [`MESSAGES_MAX`].
    pub(super) fn sent(&mut self, now: Instant) -> Option<u64> {
        let seq = self.totals.sent;
        if seq >= MESSAGES_MAX {
            return None;
        }
        self.fates.push(Fate::default());
        self.totals.sent += 1;
        self.acknowledgements.begin(now);
        Some(seq)
    }

    /// A broker has answered that it has stored message `seq`.
    pub(super) fn acknowledged(&mut self, seq: u64, now: Instant) {
        self.totals.acknowledged += 1;
        self.acknowledgements.note(now);
        self.deliveries.begin(now);
        let Some(fate) = self.fate(seq) else { return };
        fate.acknowledged = true;
        let arrived = fate.deliveries > 0;
        self.arrived += u64::from(arrived);
    }

    /// From its first try to its acknowledgement a message took so long.
    pub(super) fn took(&mut self, took: Duration) {
        self.slowest = self.slowest.max(took);
    }

    /// The longest of these.
    pub(super) fn slowest(&self) -> Duration {
        self.slowest
    }

    /// A try of any message ended without an acknowledgement.
    pub(super) fn tried(&mut self, now: Instant) {
        self.tried = Some(now);
    }

    /// A send failed and may be tried again.
    pub(super) fn retried(&mut self) {
        self.totals.retries += 1;
    }

    /// A message was given up.
    pub(super) fn failed(&mut self) {
        self.totals.failed += 1;
    }

    /// Message `seq` has reached the consumer.
    pub(super) fn delivered(&mut self, seq: u64, now: Instant) {
        self.deliveries.note(now);
        let Some(fate) = self.fate(seq) else {
            self.totals.foreign += 1;
            return;
        };
        let (before, acknowledged) = (fate.deliveries, fate.acknowledged);
        fate.deliveries = before.saturating_add(1);
        if before == 0 {
            self.totals.consumed += 1;
            self.arrived += u64::from(acknowledged);
        } else {
            self.totals.doubled += 1;
        }
    }

    /// Something that this run did not send has reached the consumer.
    pub(super) fn delivered_foreign(&mut self) {
        self.totals.foreign += 1;
    }

    /// A message has reached a consumer that knows of no run.
    pub(super) fn delivered_any(&mut self, now: Instant) {
        self.deliveries.note(now);
        self.totals.consumed += 1;
    }

    fn fate(&mut self, seq: u64) -> Option<&mut Fate> {
        self.fates.get_mut(usize::try_from(seq).ok()?)
    }

    /// The sums so far.
    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// Longest time without an acknowledgement. One that has not ended counts up to the last try.
    pub(super) fn acknowledgement_pause(&self) -> Duration {
        self.acknowledgements.longest(self.tried)
    }

    /// Longest time without a delivery. One that has not ended counts up to `now` if something is
    /// there to be delivered, else up to the last try to send something.
    pub(super) fn delivery_pause(&self, now: Instant) -> Duration {
        self.deliveries.longest(if self.missing() > 0 { Some(now) } else { self.tried })
    }

    /// Messages that are acknowledged and have not been consumed: lost, if nothing comes any more.
    pub(super) fn missing(&self) -> u64 {
        self.totals.acknowledged - self.arrived
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    /// Three messages sent; then `acks` and `deliveries` by sequence number.
    fn account(acks: &[u64], deliveries: &[u64]) -> Account {
        let mut account = Account::default();
        let now = clock::now();
        for want in 0..3 {
            assert_eq!(account.sent(now), Some(want));
        }
        acks.iter().for_each(|seq| account.acknowledged(*seq, now));
        deliveries.iter().for_each(|seq| account.delivered(*seq, now));
        account
    }

    #[test]
    fn lost_is_what_was_acknowledged_and_never_consumed() {
        // acknowledged, delivered, then: consumed, doubled, missing, foreign
        let rows: [(&[u64], &[u64], [u64; 4]); 6] = [
            (&[0, 1, 2], &[0, 1, 2], [3, 0, 0, 0]),
            (&[0, 1, 2], &[2, 0], [2, 0, 1, 0]),
            (&[0, 1, 2], &[0, 1, 2, 1, 1], [3, 2, 0, 0]),
            (&[0], &[0, 1], [2, 0, 0, 0]), // stored, but the acknowledgement was lost
            (&[], &[], [0, 0, 0, 0]),
            (&[0], &[0, 3], [1, 0, 0, 1]), // never sent
        ];
        for (acks, deliveries, want) in rows {
            let account = account(acks, deliveries);
            let t = account.totals();
            let got = [t.consumed, t.doubled, account.missing(), t.foreign];
            assert_eq!(got, want, "acknowledged {acks:?}, delivered {deliveries:?}");
        }
    }

    #[test]
    fn the_longest_pause_counts_from_the_first_event_on() {
        let (start, second) = (clock::now(), Duration::from_secs(1));
        let mut pauses = Pauses::default();
        assert_eq!(pauses.longest(Some(start + 9 * second)), Duration::ZERO, "nothing came yet");
        for at in [5, 6, 9, 10] {
            pauses.note(start + at * second);
        }
        assert_eq!(pauses.longest(None), 3 * second);
        assert_eq!(pauses.longest(Some(start + 15 * second)), 5 * second, "still open");
    }

    #[test]
    fn an_outage_that_does_not_end_is_a_pause_up_to_the_last_try() {
        let (start, second) = (clock::now(), Duration::from_secs(1));
        // acknowledged, delivered, tried in vain, each at that second: pauses as of second 9
        let rows: [([&[u32]; 3], [u32; 2]); 6] = [
            ([&[1, 2], &[1, 2], &[]], [1, 1]), // all is well
            ([&[1, 2], &[1, 2], &[3, 8]], [6, 6]),
            ([&[1, 8], &[1, 8], &[3, 7]], [7, 7]), // it ended
            ([&[], &[], &[3, 8]], [8, 0]),         // nothing from the start on
            ([&[1, 2], &[1], &[]], [1, 8]),        // one is not delivered
            ([&[2], &[], &[]], [2, 7]),
        ];
        for ([acks, deliveries, tries], want) in rows {
            let mut account = Account::default();
            acks.iter().chain(tries).for_each(|_| assert!(account.sent(start).is_some()));
            for (seq, at) in acks.iter().enumerate() {
                account.acknowledged(seq as u64, start + *at * second);
            }
            for (seq, at) in deliveries.iter().enumerate() {
                account.delivered(seq as u64, start + *at * second);
            }
            tries.iter().for_each(|at| account.tried(start + *at * second));
            let delivery_pause = account.delivery_pause(start + 9 * second);
            let got = [account.acknowledgement_pause(), delivery_pause];
            assert_eq!(got, want.map(|s| s * second), "{acks:?} {deliveries:?} {tries:?}");
        }
    }
}
