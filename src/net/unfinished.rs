//! What the unfinished frames of one server or client hold in memory, together.
//!
//! A frame of which more than [`FREE_BYTES`] have arrived is entered here, and leaves when it is
//! whole or its connection ends. While a handler lets its connection wait, the whole frame is
//! entered once more, with what has come behind it. When all of them hold more than the limit,
//! those entered first are ended until the rest is within it.
//!
//! Why the oldest: the frame of an honest peer lasts as long as its bytes travel, whoever holds
//! memory without finishing grows old. To push out a frame that is on its way, an attacker must
//! send a whole limit's worth of bytes in the time of that one frame, and again for the next one.
//! "The largest first" would be dodged with many frames a little smaller than an honest one, and
//! if newcomers waited for room, whoever holds it all would stop everybody else.

use super::{
    connection::ConnectionId,
    counters::{Counters, set},
};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};

/// Bytes of an unfinished frame that are free: peers with smaller frames are never ended here.
pub(super) const FREE_BYTES: usize = 16 * 1024;

/// Frames in the order in which they were entered. Pure.
#[derive(Debug, Default)]
struct Frames {
    entered: BTreeMap<Place, (ConnectionId, usize)>,
    /// The sum of all.
    bytes: usize,
    next: Place,
}

/// Place in the order. Never used twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u64);

impl Frames {
    /// Enters a frame that holds nothing yet, as the youngest.
    fn enter(&mut self, connection: ConnectionId) -> Place {
        let place = self.next;
        self.next.0 += 1;
        self.entered.insert(place, (connection, 0));
        place
    }

    /// Notes that a frame now holds `bytes`, unless it has been ended.
    fn grow(&mut self, place: Place, bytes: usize) {
        if let Some((_, held)) = self.entered.get_mut(&place) {
            self.bytes = self.bytes - *held + bytes;
            *held = bytes;
        }
    }

    fn leave(&mut self, place: Place) {
        if let Some((_, held)) = self.entered.remove(&place) {
            self.bytes -= held;
        }
    }

    /// Takes out the oldest frames until the rest holds `limit` at most; whose they were.
    fn end_oldest(&mut self, limit: usize) -> Vec<ConnectionId> {
        let mut ended = Vec::new();
        while self.bytes > limit
            && let Some((_, (connection, held))) = self.entered.pop_first()
        {
            self.bytes -= held;
            ended.push(connection);
        }
        ended
    }
}

/// The unfinished frames of one server or client, and their limit.
#[derive(Debug)]
pub(super) struct Unfinished {
    limit: usize,
    frames: Mutex<Frames>,
    counters: Arc<Counters>,
}

impl Unfinished {
    /// No frames yet; they may hold `limit` bytes. The sum is told to `counters`.
    pub(super) fn new(limit: usize, counters: &Arc<Counters>) -> Self {
        Self { limit, frames: Mutex::default(), counters: Arc::clone(counters) }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Frames) -> T) -> T {
        let mut frames = self.frames.lock();
        let result = change(&mut frames);
        set(&self.counters.unfinished_bytes, frames.bytes);
        result
    }
}

/// The entry of one connection, struck out when it is dropped. Costs nothing while frames are
/// small; beyond [`FREE_BYTES`] a lock for each read.
pub(super) struct Claim<'a> {
    unfinished: &'a Unfinished,
    connection: ConnectionId,
    place: Option<Place>,
}

impl<'a> Claim<'a> {
    /// Holds nothing.
    pub(super) fn new(unfinished: &'a Unfinished, connection: ConnectionId) -> Self {
        Self { unfinished, connection, place: None }
    }

    /// Notes how much of the frame at hand has arrived. Gives the connections to end for it,
    /// which may include this one.
    #[must_use]
    pub(super) fn hold(&mut self, bytes: usize) -> Vec<ConnectionId> {
        if bytes <= FREE_BYTES {
            return Vec::new();
        }
        let (connection, limit) = (self.connection, self.unfinished.limit);
        self.unfinished.change(|frames| {
            let place = *self.place.get_or_insert_with(|| frames.enter(connection));
            frames.grow(place, bytes);
            frames.end_oldest(limit)
        })
    }

    /// The frame at hand is whole.
    pub(super) fn release(&mut self) {
        if let Some(place) = self.place.take() {
            self.unfinished.change(|frames| frames.leave(place));
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::Ordering;

    const KIB: usize = 1024;

    fn unfinished(limit: usize) -> Unfinished {
        Unfinished::new(limit, &Arc::default())
    }

    #[test]
    fn the_oldest_frame_is_ended_whatever_the_others_hold() {
        let all = unfinished(100 * KIB);
        let mut claims = [1, 2, 3].map(|n| Claim::new(&all, ConnectionId(n)));
        // connection, bytes: ended
        let rows: [(usize, usize, &[u64]); 8] = [
            (0, FREE_BYTES, &[]), // is free: not entered
            (1, 20 * KIB, &[]),
            (0, 40 * KIB, &[]),
            (1, 40 * KIB, &[]), // still the oldest
            (2, 60 * KIB, &[2]),
            (1, 41 * KIB, &[]), // ended: does not count any more
            (2, 61 * KIB, &[1]),
            (2, 101 * KIB, &[3]), // alone, and too large
        ];
        for (claim, bytes, want) in rows {
            let want: Vec<_> = want.iter().copied().map(ConnectionId).collect();
            assert_eq!(claims[claim].hold(bytes), want, "{claim} holds {bytes}");
        }
        assert_eq!(all.frames.lock().bytes, 0);
    }

    #[test]
    fn a_whole_frame_gives_its_room_back_and_the_next_one_is_young() {
        let all = unfinished(100 * KIB);
        let (mut first, mut second) =
            (Claim::new(&all, ConnectionId(1)), Claim::new(&all, ConnectionId(2)));
        assert_eq!(first.hold(90 * KIB), []);
        first.release();
        assert_eq!(second.hold(50 * KIB), []);
        assert_eq!(first.hold(60 * KIB), [ConnectionId(2)]);
        drop(first);
        assert_eq!(all.counters.unfinished_bytes.load(Ordering::Relaxed), 0);
    }

    proptest! {
        #[test]
        fn no_more_is_held_than_the_limit_and_nobody_is_ended_without_need(
            limit in 0..400 * KIB,
            steps in prop::collection::vec((0..6_usize, 0..200 * KIB, any::<bool>()), 0..100),
        ) {
            let all = unfinished(limit);
            let mut claims: Vec<_> = (0..6).map(|n| Claim::new(&all, ConnectionId(n))).collect();
            let mut held = [0; 6]; // what those have that were not ended
            for (claim, bytes, whole) in steps {
                if whole {
                    claims[claim].release();
                    held[claim] = 0;
                    continue;
                }
                let ended = claims[claim].hold(bytes);
                let lives = claims[claim].place.is_some_and(|place| {
                    ended.contains(&ConnectionId(claim as u64))
                        || all.frames.lock().entered.contains_key(&place)
                });
                if bytes > FREE_BYTES && lives {
                    held[claim] = bytes;
                }
                let before: usize = held.iter().sum();
                prop_assert_eq!(ended.is_empty(), before <= limit);
                for connection in &ended {
                    held[connection.0 as usize] = 0;
                }
                prop_assert!(held.iter().sum::<usize>() <= limit);
                prop_assert_eq!(held.iter().sum::<usize>(), all.frames.lock().bytes);
            }
            drop(claims);
            prop_assert_eq!(all.frames.lock().bytes, 0);
            prop_assert!(all.frames.lock().entered.is_empty());
        }
    }
}
