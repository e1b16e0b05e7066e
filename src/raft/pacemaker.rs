//! When openraft's clock ticks: as rarely as heartbeats and elections allow.
//!
//! Left alone it ticks five times per heartbeat interval on every member, to find that nothing is
//! due. An idle group then costs a few percent of a core, nearly all of it for waking up. Here a
//! leader beats by itself, and a follower's clock stands still as long as it hears its leader.
//!
//! And a member that has heard no leader since it started asks for votes at every interval, without
//! waiting for an election timeout: a group that starts as a whole has nobody to wait for. It asks
//! with a pre-vote, which disturbs no leader that lives; and who has just voted waits for the end
//! of that election, because it may have a leader that was not heard yet.

use std::sync::Arc;
use std::time::Duration;

use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::watch;
use tokio::time::Interval;

use crate::clock;
use crate::raft::doubt::Doubt;
use crate::raft::heard::Heard;
use crate::raft::state_machine::StateMachine;
use crate::raft::type_config::TypeConfig;

/// Intervals without a heartbeat after which a follower counts its election timeout, which is
/// three at least and runs from the last heartbeat.
const MISSED: u32 = 2;

/// What one interval asks for.
#[derive(Debug, PartialEq, Eq)]
enum Pace {
    /// A leader's: a heartbeat, and no tick.
    Beat,
    /// A follower's that hears its leader.
    Rest,
    /// Of who misses its leader: an election may be due.
    Tick,
    /// Of who never heard one, and knows of no election.
    Ask,
}

/// Decides by what this member is, how long ago it heard a leader (`None`: never), and whether it
/// has just voted. Pure.
fn pace(leads: bool, silence: Option<Duration>, electing: bool, interval: Duration) -> Pace {
    match silence {
        _ if leads => Pace::Beat,
        Some(silence) if silence < MISSED * interval => Pace::Rest,
        Some(_) => Pace::Tick,
        None if electing => Pace::Tick,
        None => Pace::Ask,
    }
}

/// Runs as long as the member; a beat each heartbeat. Who was `removed` from its group takes part in
/// no election.
pub(super) async fn run(
    raft: Raft<TypeConfig, StateMachine>,
    heard: Arc<Heard>,
    (doubt, removed): (Doubt, watch::Receiver<bool>),
    mut beats: Interval,
) {
    let interval = beats.period();
    let mut ticks = true;
    loop {
        beats.tick().await;
        let now = clock::now();
        let (silence, electing) = (heard.silence_if_any(now), heard.is_electing(now));
        let leads = raft.is_leader();
        let pace = match *removed.borrow() && !leads {
            true => Pace::Rest,
            false => pace(leads, silence, electing, interval),
        };
        let done = match pace {
            Pace::Beat => raft.trigger().heartbeat().await,
            Pace::Ask if doubt.is_over() && is_voter(&raft) => raft.trigger().elect(true).await,
            Pace::Ask | Pace::Tick | Pace::Rest => Ok(()),
        };
        if done.is_err() {
            return; // the core has ended
        }
        let wanted = matches!(pace, Pace::Tick | Pace::Ask);
        if ticks != wanted {
            ticks = wanted;
            raft.runtime_config().tick(ticks);
        }
    }
}

fn is_voter(raft: &Raft<TypeConfig, StateMachine>) -> bool {
    let metrics = raft.metrics().borrow_watched().clone();
    metrics.membership_config.membership().voter_ids().any(|id| id == metrics.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_misses_its_leader_counts_the_time() {
        let ms = Duration::from_millis;
        let rows = [
            (true, None, false, Pace::Beat),
            (true, Some(ms(900)), true, Pace::Beat),
            (false, Some(ms(99)), true, Pace::Rest),
            (false, Some(ms(100)), false, Pace::Tick),
            (false, Some(ms(5000)), true, Pace::Tick),
            (false, None, true, Pace::Tick),
            (false, None, false, Pace::Ask),
        ];
        for (leads, silence, electing, want) in rows {
            let got = pace(leads, silence, electing, ms(50));
            assert_eq!(got, want, "{leads} {silence:?} {electing}");
        }
    }
}
