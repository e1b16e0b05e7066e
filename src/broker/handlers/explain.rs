//! What a member knows of its group's leaders and of its peers, for operators: GET_LEADER_CHANGES
//! (900010) and GET_MEMBER_FACTS (900011), both ours. Any member answers for itself, whether there
//! is a leader or not.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::config::cli;
use crate::protocol::bodies::{
    self, Awaiting, DiskFacts, LeadBody, LeaderChangeBody, LeaderChangesBody, LineageFacts,
    MemberFacts, NameServerFacts, PeerFacts, Reached, RegisteredBody, ScrubFacts, SlowDiskFacts,
    SyncFacts, VotingFacts,
};
use crate::protocol::codes::ResponseCode;
use crate::protocol::command::RemotingCommand;
use crate::raft::{Awaits, BelongsTo, Lead, LeaderChange, Reach, Scrubbed, Unreached, Voting};
use crate::store::flush::SyncStats;

use crate::broker::Broker;
use crate::broker::dispatch::{Answer, Request};
use crate::broker::error::RequestError;

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A moment by both clocks.
#[derive(Clone, Copy)]
struct Now {
    at: Instant,
    wall_us: i64,
}

impl Now {
    fn read() -> Self {
        Self { at: clock::now(), wall_us: clock::wall_us() }
    }

    /// What the wall clock would have shown `then`, had nobody set it since.
    fn wall_us_of(self, then: Instant) -> i64 {
        self.wall_us - i64::try_from(micros(self.at.saturating_duration_since(then))).unwrap_or(0)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// GET_LEADER_CHANGES.
pub(in crate::broker) fn leader_changes(broker: &Broker, _: &Request) -> Answer {
    let now = Now::read();
    let changes = broker.group.leader_changes().changes;
    let body = LeaderChangesBody {
        group: broker.identity.group.clone(),
        member: broker.identity.member.clone(),
        members: broker.identity.members.clone(),
        now_us: now.wall_us,
        changes: changes.iter().map(|change| told(change, now)).collect(),
        detours: broker.detours.lately(now.at),
        takes_writes: broker.announcer.takes_writes(),
    };
    Ok(answer(&body))
}

fn answer(body: &impl serde::Serialize) -> crate::net::Answer {
    RemotingCommand::response(ResponseCode::SUCCESS).with_body(bodies::encode(body)).into()
}

fn told(change: &LeaderChange, now: Now) -> LeaderChangeBody {
    let at = |at: Instant| now.wall_us_of(at);
    let lead = |lead: &Lead| LeadBody { term: lead.term.0, name: lead.name.clone() };
    let registered = change.registered.iter().map(|(name_server, told)| RegisteredBody {
        name_server: name_server.clone(),
        at_us: at(*told),
    });
    LeaderChangeBody {
        number: change.number,
        cause: change.cause.name().to_owned(),
        from: change.from.as_ref().map(lead),
        to: change.to.as_ref().map(lead),
        lost_us: at(change.lost),
        detected_us: at(change.detected),
        campaigned_us: change.campaigned.map(at),
        elected_us: change.elected.map(at),
        led_us: change.led.map(at),
        registered: registered.collect(),
        sent_us: change.sent.map(at),
        held: change.held,
        forwarded: change.forwarded,
        failed: change.failed,
    }
}

/// GET_MEMBER_FACTS. Calls the peers first: takes up to a second or two.
pub(in crate::broker) fn facts(broker: Arc<Broker>, _: Request) -> Answering {
    Box::pin(async move {
        let began = clock::now();
        let busy = || RequestError::Unsettled("others ask this member the same".to_owned());
        let reached = broker.group.reach().await.ok_or_else(busy)?;
        let disk = {
            let broker = Arc::clone(&broker);
            // A disk that hangs is one of the things that this is asked for.
            let looked = tokio::task::spawn_blocking(move || broker.disk_space());
            tokio::time::timeout(DISK_ANSWER, looked).await.ok().and_then(Result::ok).flatten()
        };
        let now = Now::read();
        let status = broker.group.status();
        let changes = broker.group.leader_changes().changes;
        let led = changes.iter().rev().find_map(|change| change.led);
        let (identity, pace) = (&broker.identity, broker.group.disk_pace());
        let body = MemberFacts {
            cluster: identity.cluster.clone(),
            group: identity.group.clone(),
            member: identity.member.clone(),
            address: identity.address.clone(),
            store_id: broker.group.store_id().to_string(),
            version: cli::version().to_owned(),
            now_us: now.wall_us,
            took_us: micros(now.at.saturating_duration_since(began)),
            term: status.term.0,
            led_since_us: led.filter(|_| status.leader.is_some()).map(|at| now.wall_us_of(at)),
            leader: status.leader,
            awaiting: status.waits_for.as_ref().map_or(Awaiting::Untold, |told| kind(told.what)),
            waits_for: status.waits_for.map(|waits_for| waits_for.why),
            voting: broker.group.voting().map(voting),
            lineage: lineage(broker.group.belongs_to()),
            stopped: status.stopped,
            lag: status.lag,
            disk: disk.map(|space| DiskFacts {
                total: space.total,
                free: space.free,
                shortage: broker.group.shortage(),
            }),
            syncs: syncs(&broker.group.log().sync_stats(), pace.longest),
            slow_disk: pace.slow.map(|slow| SlowDiskFacts {
                why: slow.why,
                left_ms: u64::try_from(slow.left.as_millis()).unwrap_or(u64::MAX),
            }),
            others_shortage: broker.group.others_shortage(),
            scrub: scrub(&status.scrubbed),
            peers: reached.into_iter().map(peer).collect(),
            name_servers: name_servers(&broker),
        };
        Ok(answer(&body))
    })
}

fn kind(what: Awaits) -> Awaiting {
    match what {
        Awaits::Start => Awaiting::Start,
        Awaits::Leader => Awaiting::Leader,
        Awaits::Operator => Awaiting::Operator,
        Awaits::Majority => Awaiting::Majority,
        Awaits::Doubt => Awaiting::Doubt,
        Awaits::Removed => Awaiting::Removed,
    }
}

fn voting(voting: Voting) -> VotingFacts {
    let Voting { as_of: (term, index), voters, learners } = voting;
    VotingFacts {
        term: term.0,
        index: index.0,
        voters: voters.into_iter().collect(),
        learners: learners.into_iter().collect(),
    }
}

fn lineage(belongs_to: BelongsTo) -> Option<LineageFacts> {
    let (id, since_ms) = match belongs_to {
        BelongsTo::Any => return None,
        BelongsTo::TheFirst => (0, 0),
        BelongsTo::Anew(lineage) => (lineage.id, lineage.since_ms),
    };
    Some(LineageFacts { id: format!("{id:016x}"), since_ms })
}

/// How long a disk may take to say how full it is.
const DISK_ANSWER: Duration = Duration::from_millis(500);

fn name_servers(broker: &Broker) -> Vec<NameServerFacts> {
    let told = broker.announcer.name_servers();
    told.into_iter()
        .map(|(address, id)| NameServerFacts { address, broker_id: id.map(|id| id.0) })
        .collect()
}

fn peer(reach: Reach) -> PeerFacts {
    let (reached, took_us, why) = match reach.answer {
        Ok(answer) => (Reached::Answered, micros(answer.took), None),
        Err(Unreached::Refused) => (Reached::Refused, 0, None),
        Err(Unreached::Silent) => (Reached::Silent, 0, None),
        Err(Unreached::Declined(why)) => (Reached::Declined, 0, Some(why)),
        Err(Unreached::Failed(why)) => (Reached::Failed, 0, Some(why)),
    };
    PeerFacts { name: reach.peer, address: reach.address, reached, took_us, why }
}

/// What is left as it is, if anything.
fn scrub(scrubbed: &Scrubbed) -> Option<ScrubFacts> {
    let left = scrubbed.left;
    (left.unrepaired > 0 || left.differing > 0).then(|| ScrubFacts {
        unrepaired: left.unrepaired,
        differing: left.differing,
        verdict: left.advice.map(str::to_owned),
    })
}

/// The figures of the disk, `longest` of the last minute; the buckets count durations below each power of two, in µs.
fn syncs(stats: &SyncStats, longest: Option<Duration>) -> Option<SyncFacts> {
    let count: u64 = stats.buckets.iter().sum();
    let most = count - count / 100;
    let mut below = 0;
    let power = stats.buckets.iter().position(|bucket| {
        below += bucket;
        below >= most
    })?;
    let p99_us = 1_u64.checked_shl(u32::try_from(power).ok()?)?;
    let mean_us = stats.total_us.checked_div(count)?;
    Some(SyncFacts { count, mean_us, p99_us, longest_us: longest.map(micros) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_are_summed_up() {
        let mut stats = SyncStats::default();
        assert_eq!(syncs(&stats, None), None, "there was none");
        stats.buckets[9] = 990;
        stats.buckets[14] = 10;
        stats.total_us = 400_000;
        let longest_us = Some(17_000);
        let want = SyncFacts { count: 1000, mean_us: 400, p99_us: 512, longest_us };
        assert_eq!(syncs(&stats, Some(Duration::from_millis(17))), Some(want));
        stats.buckets[14] = 30;
        assert_eq!(syncs(&stats, None).map(|syncs| syncs.p99_us), Some(16_384));
    }

    #[test]
    fn a_moment_of_the_past_is_told_by_the_wall_clock() {
        let now = Now { at: clock::now() + Duration::from_secs(9), wall_us: 5_000_000 };
        assert_eq!(now.wall_us_of(now.at - Duration::from_millis(3)), 4_997_000);
        assert_eq!(now.wall_us_of(now.at + Duration::from_secs(1)), 5_000_000);
    }
}
