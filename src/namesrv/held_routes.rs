//! Route requests that wait for a better answer. Pure: the shell asks when something changed and
//! when [`HeldRoutes::wake_at`] has come.
//!
//! A stock client believes an answer for 30 s. So during an election, and right after a start, it
//! is better to answer a little later than to say "no leader" or "no such topic".

use std::time::Instant;

/// Waiting route requests; `T` is what the shell needs for answering one.
#[derive(Debug)]
pub struct HeldRoutes<T> {
    held: Vec<Held<T>>,
    max: usize,
    wake_at: Option<Instant>,
}

/// One waiting route request.
#[derive(Debug)]
pub struct Held<T> {
    /// The topic asked for.
    pub topic: String,
    /// When it is answered in any case.
    pub deadline: Instant,
    /// What the shell needs for answering.
    pub ticket: T,
}

impl<T> HeldRoutes<T> {
    /// Holds at most `max` requests.
    pub fn new(max: usize) -> Self {
        Self { held: Vec::new(), max, wake_at: None }
    }

    /// Takes a request until `wake_at`, or gives it back when there is no room.
    pub fn hold(&mut self, request: Held<T>, wake_at: Instant) -> Result<(), Held<T>> {
        if self.held.len() >= self.max {
            return Err(request);
        }
        self.note_wake(wake_at.min(request.deadline));
        self.held.push(request);
        Ok(())
    }

    /// Takes out what is past its deadline or no longer worth waiting for: `wait_until` tells until
    /// when an answer for a topic may still become better.
    pub fn take_due(
        &mut self,
        now: Instant,
        wait_until: impl Fn(&str) -> Option<Instant>,
    ) -> Vec<Held<T>> {
        let mut wakes = Vec::new();
        let due = self.held.extract_if(.., |held| match wait_until(&held.topic) {
            Some(until) if until > now && held.deadline > now => {
                wakes.push(until.min(held.deadline));
                false
            }
            Some(_) | None => true,
        });
        let due = due.collect();
        self.wake_at = wakes.into_iter().min();
        due
    }

    /// When to ask again, if nothing changes before.
    pub fn wake_at(&self) -> Option<Instant> {
        self.wake_at
    }

    /// Requests waiting.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn note_wake(&mut self, at: Instant) {
        self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::time::Duration;

    #[test]
    fn each_request_is_answered_once_by_change_or_deadline_and_the_rest_is_refused() {
        let start = clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let held = |topic: &str, deadline, ticket| Held {
            topic: topic.to_owned(),
            deadline: at(deadline),
            ticket,
        };
        let mut table = HeldRoutes::new(3);
        for (topic, deadline, ticket) in [("A", 2_500, 1), ("B", 2_500, 2), ("B", 100, 3)] {
            assert!(table.hold(held(topic, deadline, ticket), at(1_000)).is_ok());
        }
        assert_eq!(table.hold(held("C", 1, 4), at(1)).unwrap_err().ticket, 4);
        assert_eq!(table.wake_at(), Some(at(100)));

        let take = |table: &mut HeldRoutes<i32>, now, known: &[&str]| -> Vec<i32> {
            let wait = |topic: &str| (!known.contains(&topic)).then_some(at(1_000));
            table.take_due(at(now), wait).into_iter().map(|held| held.ticket).collect()
        };
        assert_eq!(take(&mut table, 50, &[]), [0; 0]);
        assert_eq!(take(&mut table, 100, &[]), [3]);
        assert_eq!(table.wake_at(), Some(at(1_000)));
        assert_eq!(take(&mut table, 500, &["A"]), [1]);
        assert_eq!(take(&mut table, 1_000, &[]), [2]);
        assert!(table.is_empty());
        assert_eq!(table.wake_at(), None);
    }
}
