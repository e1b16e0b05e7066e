//! Reads every queue of the topic from its first offset, as messages come.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    account::Account,
    payload, requests,
    route::{Group, LEADER, Routes},
};
use crate::{
    clock,
    net::Client,
    protocol::{codes::ResponseCode, command::RemotingCommand, message},
};

/// How long a pull may wait at the broker, and how long the answer may take.
const WAIT_MS: u64 = 5_000;
const ANSWER: Duration = Duration::from_secs(8);
/// After something failed.
const BACKOFF: Duration = Duration::from_millis(50);
/// How soon a queue that was added to the topic is noticed.
const LOOK_AROUND: Duration = Duration::from_secs(1);
/// Queues read at a time; more are left alone.
const QUEUES_MAX: usize = 1_024;

/// Where deliveries are entered.
pub(super) trait Inbox: Send + Sync + 'static {
    /// One message, in the order of its queue.
    fn delivered(&self, record: &message::Record<'_>);
}

/// Deliveries of one run, in its account.
pub(super) struct OfRun {
    pub(super) run: u64,
    pub(super) account: Arc<Mutex<Account>>,
}

impl Inbox for OfRun {
    fn delivered(&self, record: &message::Record<'_>) {
        let mut account = self.account.lock();
        match payload::parse(record.body()) {
            Some((run, seq)) if run == self.run => account.delivered(seq, clock::now()),
            _ => account.delivered_foreign(),
        }
    }
}

/// Deliveries of whatever the topic has.
pub(super) struct OfAll {
    pub(super) account: Arc<Mutex<Account>>,
    /// Stops the consumer after so many.
    pub(super) messages: Option<u64>,
    pub(super) stop: CancellationToken,
}

impl Inbox for OfAll {
    fn delivered(&self, _: &message::Record<'_>) {
        let mut account = self.account.lock();
        account.delivered_any(clock::now());
        if self.messages.is_some_and(|messages| account.totals().consumed >= messages) {
            self.stop.cancel();
        }
    }
}

struct Consumer<I> {
    topic: String,
    client: Client,
    inbox: Arc<I>,
}

/// One queue of one broker group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Queue {
    group: String,
    id: u32,
}

/// Reads until `stop`.
pub(super) async fn consume<I: Inbox>(
    topic: String,
    client: Client,
    mut routes: Routes,
    inbox: Arc<I>,
    stop: CancellationToken,
) {
    let consumer = Arc::new(Consumer { topic, client, inbox });
    let (mut read, mut readers) = (HashSet::new(), JoinSet::new());
    while !stop.is_cancelled() {
        for (name, group) in &routes.current().groups {
            for id in 0..group.read_queues {
                let queue = Queue { group: name.clone(), id };
                if read.len() < QUEUES_MAX && read.insert(queue.clone()) {
                    readers.spawn(Arc::clone(&consumer).read(queue, routes.clone()));
                }
            }
        }
        // Cancel-safe: the next round looks at the route as it is then.
        tokio::select! {
            () = routes.changed(LOOK_AROUND) => {}
            () = stop.cancelled() => {}
        }
    }
    readers.shutdown().await;
}

/// Which member to ask next. Pure.
#[derive(Debug, Clone, Copy, Default)]
struct Target {
    /// Broker id that the last answer recommended; the leader to begin with.
    suggested: u64,
    /// Failed tries since.
    failures: u32,
}

impl Target {
    /// The address: the suggested member, after failures the others in turn.
    fn of<'a>(&self, group: &'a Group) -> Option<&'a str> {
        let mut ids: Vec<u64> = group.members.keys().copied().collect();
        let first = ids.iter().position(|id| *id == self.suggested).unwrap_or_default();
        ids.rotate_left(first);
        let id = ids.get((self.failures as usize).checked_rem(ids.len())?)?;
        group.members.get(id).map(String::as_str)
    }
}

/// What an answer to a pull means.
enum Pulled {
    /// Records from here on, and where to go on.
    Found(Bytes, u64),
    /// Nothing yet; where to go on.
    Nothing(u64),
    /// Not from here, not now.
    Refused,
}

fn understood(answer: RemotingCommand, offset: u64) -> Pulled {
    // Never back: a member that lags behind must not have messages delivered twice.
    let next = answer.ext.optional::<u64>("nextBeginOffset").ok().flatten();
    let next = next.unwrap_or(offset).max(offset);
    match answer.response_code() {
        ResponseCode::SUCCESS => Pulled::Found(answer.body, next),
        ResponseCode::PULL_NOT_FOUND
        | ResponseCode::PULL_RETRY_IMMEDIATELY
        | ResponseCode::PULL_OFFSET_MOVED => Pulled::Nothing(next),
        _ => Pulled::Refused,
    }
}

impl<I: Inbox> Consumer<I> {
    /// Reads one queue for ever.
    async fn read(self: Arc<Self>, queue: Queue, mut routes: Routes) {
        let mut target = Target::default();
        let mut offset = self.first_offset(&queue, &mut routes).await;
        loop {
            let request = requests::pull(&self.topic, queue.id, offset, WAIT_MS);
            let Some(answer) = self.ask(&queue, &routes, target, request).await else {
                target.failures = target.failures.wrapping_add(1);
                routes.doubt();
                routes.changed(BACKOFF).await;
                continue;
            };
            let suggested = answer.ext.optional("suggestWhichBrokerId").ok().flatten();
            match understood(answer, offset) {
                Pulled::Found(records, next) => {
                    self.deliver(&records, offset);
                    (offset, target.failures) = (next, 0);
                }
                Pulled::Nothing(next) => (offset, target.failures) = (next, 0),
                Pulled::Refused => {
                    target.failures = target.failures.wrapping_add(1);
                    routes.doubt();
                    routes.changed(BACKOFF).await;
                }
            }
            target.suggested = suggested.unwrap_or(LEADER);
        }
    }

    async fn first_offset(&self, queue: &Queue, routes: &mut Routes) -> u64 {
        loop {
            let request = requests::min_offset(&self.topic, queue.id);
            let answer = self.ask(queue, routes, Target::default(), request).await;
            let found = answer.filter(|a| a.response_code() == ResponseCode::SUCCESS);
            if let Some(offset) = found.and_then(|a| a.ext.required("offset").ok()) {
                return offset;
            }
            routes.doubt();
            routes.changed(BACKOFF).await;
        }
    }

    async fn ask(
        &self,
        queue: &Queue,
        routes: &Routes,
        target: Target,
        request: RemotingCommand,
    ) -> Option<RemotingCommand> {
        let route = routes.current();
        let address = target.of(route.groups.get(&queue.group)?)?;
        self.client.call(address, request, ANSWER).await.ok()
    }

    /// Enters what lies at `from` or later: an answer may begin earlier.
    fn deliver(&self, records: &[u8], from: u64) {
        for record in message::records(records) {
            let Ok(record) = record else { break };
            if record.queue_offset() >= from {
                self.inbox.delivered(&record);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(ids: &[u64]) -> Group {
        let members = ids.iter().map(|id| (*id, format!("m{id}"))).collect();
        Group { members, ..Group::default() }
    }

    #[test]
    fn a_pull_goes_where_the_last_answer_said_and_round_after_failures() {
        // members, suggested, failures: asked
        let rows: [(&[u64], u64, u32, Option<&str>); 7] = [
            (&[0, 1, 2], 0, 0, Some("m0")),
            (&[0, 1, 2], 2, 0, Some("m2")),
            (&[0, 1, 2], 2, 1, Some("m0")),
            (&[0, 1, 2], 0, 4, Some("m1")),
            (&[1, 2], 0, 0, Some("m1")), // no leader
            (&[5], 9, u32::MAX, Some("m5")),
            (&[], 0, 0, None),
        ];
        for (members, suggested, failures, want) in rows {
            let target = Target { suggested, failures };
            assert_eq!(target.of(&group(members)), want, "{members:?} {target:?}");
        }
    }

    #[test]
    fn no_answer_moves_the_offset_back() {
        let found = |code: ResponseCode, next: &str| {
            let answer = RemotingCommand::response(code).with_field("nextBeginOffset", next);
            match understood(answer, 7) {
                Pulled::Found(_, next) | Pulled::Nothing(next) => Some(next),
                Pulled::Refused => None,
            }
        };
        let rows = [
            (ResponseCode::SUCCESS, "9", Some(9)),
            (ResponseCode::SUCCESS, "junk", Some(7)),
            (ResponseCode::PULL_NOT_FOUND, "3", Some(7)),
            (ResponseCode::PULL_RETRY_IMMEDIATELY, "8", Some(8)),
            (ResponseCode::PULL_OFFSET_MOVED, "20", Some(20)),
            (ResponseCode::SYSTEM_BUSY, "20", None),
        ];
        for (code, next, want) in rows {
            assert_eq!(found(code, next), want, "{code} {next}");
        }
    }
}
