//! A member that is told to stop leaves the routes first, and serves on until clients have gone
//! elsewhere.
//!
//! A stock client asks for routes each 30 s. Until then it sends to the address that it has, and
//! what it tries once only (with a queue selector, to ordered topics) fails if nobody is there.
//!
//! ```text
//!  SIGTERM ─► leadership transferred ─► unregistered ─► what comes is passed on ─► stop
//!                                                       until nobody sends any more
//! ```

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::broker::registration::Registration;
use crate::broker::{Broker, suspects};
use crate::clock;
use crate::raft::TransferError;

/// Between looks: nobody sends if nothing came for so long, and no producer is registered here.
const LOOK: Duration = Duration::from_secs(1);
/// Who has not sent for so long does not send here.
const LATELY: Duration = Duration::from_secs(30);
/// How often it tries to give leadership away.
const TRIES: u32 = 3;
/// Looks without a leader after which there is nobody to pass on to: as long as requests wait.
const LEADERLESS_MAX: u32 = 3;
/// What a client takes longer than its 30 s to ask for routes.
const ROUTES_LATE: Duration = Duration::from_secs(1);

/// What there is at a look.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Connections of registered producers.
    producers: usize,
    /// Messages that have come in since the start of this process.
    sent: u64,
    leads: bool,
    knows_leader: bool,
}

/// Why it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// Nobody sends here.
    Quiet,
    /// Whoever sends here still should know better.
    Late,
    /// Nobody else takes what comes: this member leads again, or nobody does.
    Alone,
}

/// How long to go on. Pure.
struct Leaving {
    until: Instant,
    sent: u64,
    leaderless: u32,
}

impl Leaving {
    fn new(seen: Seen, until: Instant) -> Self {
        Self { until, sent: seen.sent, leaderless: 0 }
    }

    fn look(&mut self, seen: Seen, now: Instant) -> Option<Over> {
        let is_quiet = seen.producers == 0 && seen.sent == self.sent;
        self.sent = seen.sent;
        self.leaderless = if seen.knows_leader { 0 } else { self.leaderless + 1 };
        if is_quiet {
            return Some(Over::Quiet);
        }
        if seen.leads || self.leaderless >= LEADERLESS_MAX {
            return Some(Over::Alone);
        }
        (now >= self.until).then_some(Over::Late)
    }
}

/// Returns when this member may stop.
pub(super) async fn leave(broker: &Broker, registration: &mut Registration, at_most: Duration) {
    let is_alone = broker.group.roster().members.len() < 2;
    let first = see(broker);
    let lately = broker.stats.stored_within(LATELY, clock::now());
    let is_idle = first.producers == 0 && lately == 0;
    if is_alone || at_most.is_zero() || is_idle {
        return;
    }
    broker.steering.stop(&broker.group);
    if let Err(why) = hand_over(broker).await {
        tracing::info!(%why, "not serving on");
        return;
    }
    registration.stop().await;
    // Consumers that know routes send their heartbeats elsewhere from now on.
    broker.acquaintance.note_gap(clock::now());
    let at_most = at_most + ROUTES_LATE;
    let now = Instant::now();
    let mut leaving = Leaving::new(first, now + at_most);
    tracing::info!(
        producers = first.producers,
        ?at_most,
        "serving on until clients have asked for routes; another signal ends that"
    );
    let mut looks = interval_at(now + LOOK, LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let seen = see(broker);
        if let Some(over) = leaving.look(seen, Instant::now()) {
            let producers = seen.producers;
            tracing::info!(?over, served = ?now.elapsed(), producers, "served on");
            return;
        }
    }
}

/// Returns when this member does not lead; who does is seen later, if there is an election.
async fn hand_over(broker: &Broker) -> Result<(), TransferError> {
    use TransferError::{Busy, Learner, NotLeader, NotTaken, Unfinished, Unfit};
    let mut tries = 1;
    loop {
        match broker.group.leave().await {
            Ok(_) | Err(NotLeader { .. } | NotTaken { .. }) => return Ok(()),
            Err(why @ (Busy | Learner { .. } | Unfinished { .. } | Unfit { .. }))
                if tries < TRIES =>
            {
                tracing::info!(%why, "tries again to hand leadership over");
            }
            Err(why) => return Err(why),
        }
        tries += 1;
        tokio::time::sleep(LOOK).await;
    }
}

fn see(broker: &Broker) -> Seen {
    let role = broker.group.role();
    Seen {
        producers: suspects::senders(&broker.producers.read()).len(),
        sent: broker.stats.totals().put,
        leads: role.is_leader(),
        knows_leader: role.leader(&broker.identity.member).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDS: Seen = Seen { producers: 1, sent: 5, leads: false, knows_leader: true };

    /// The look at which it is over, and why, if it is so long that each look sees the next.
    fn over(looks: impl IntoIterator<Item = Seen>) -> Option<(usize, Over)> {
        let start = Instant::now();
        let mut leaving = Leaving::new(SENDS, start + Duration::from_secs(31));
        looks.into_iter().enumerate().find_map(|(n, seen)| {
            let n = n + 1;
            Some((n, leaving.look(seen, start + LOOK * u32::try_from(n).unwrap())?))
        })
    }

    #[test]
    fn a_member_serves_on_while_somebody_sends_and_somebody_else_leads() {
        let producers = |producers| Seen { producers, ..SENDS };
        let gone = producers(0);
        let sent = |sent| Seen { sent, ..gone };
        let leaderless = Seen { knows_leader: false, ..SENDS };
        assert_eq!(over([gone]), Some((1, Over::Quiet)), "all have gone");
        assert_eq!(over([SENDS, SENDS, gone]), Some((3, Over::Quiet)));
        assert_eq!(over([sent(6), sent(7), sent(7)]), Some((3, Over::Quiet)), "not registered");
        assert_eq!(over([SENDS; 30]), None, "a producer that may send");
        assert_eq!(over([SENDS; 31]), Some((31, Over::Late)));
        assert_eq!(over([SENDS, Seen { leads: true, ..SENDS }]), Some((2, Over::Alone)));
        assert_eq!(over([leaderless; 4]), Some((3, Over::Alone)));
        let election = [leaderless, leaderless, SENDS, leaderless, leaderless, SENDS];
        assert_eq!(over(election), None, "elections pass");
    }
}
