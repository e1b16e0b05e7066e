//! Reads every queue of the topic from its first offset, as messages come.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    account::Account,
    payload, requests,
    route::{Group, Routes},
};
use crate::{
    clock,
    net::Client,
    protocol::{codes::ResponseCode, command::RemotingCommand, headers::pull::PullAnswer, message},
};

/// How long a pull may wait at the broker, and how long the answer may take.
const WAIT: Duration = Duration::from_secs(5);
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

/// What an answer to a pull means: what was found from here on, where to go on, whom to ask then.
struct Pulled {
    records: Bytes,
    next: u64,
    suggested: u64,
}

/// `None`: not from here, not now. Pure.
fn understood(answer: RemotingCommand, offset: u64) -> Option<Pulled> {
    let header = PullAnswer::parse(&answer).ok()?;
    // Never back: a member that lags behind must not have messages delivered twice.
    let next = u64::try_from(header.next_begin_offset).unwrap_or_default().max(offset);
    let records = match answer.response_code() {
        ResponseCode::SUCCESS => answer.body,
        ResponseCode::PULL_NOT_FOUND
        | ResponseCode::PULL_RETRY_IMMEDIATELY
        | ResponseCode::PULL_OFFSET_MOVED => Bytes::new(),
        _ => return None,
    };
    Some(Pulled { records, next, suggested: header.suggest_which_broker_id })
}

impl<I: Inbox> Consumer<I> {
    /// Reads one queue for ever.
    async fn read(self: Arc<Self>, queue: Queue, mut routes: Routes) {
        let mut target = Target::default();
        let mut offset = self.first_offset(&queue, &mut routes).await;
        loop {
            let request = requests::pull(&self.topic, queue.id, offset, WAIT);
            let answer = self.ask(&queue, &routes, target, request).await;
            if let Some(pulled) = answer.and_then(|answer| understood(answer, offset)) {
                self.deliver(&pulled.records, offset);
                offset = pulled.next;
                target = Target { suggested: pulled.suggested, failures: 0 };
            } else {
                target.failures = target.failures.wrapping_add(1);
                routes.doubt();
                routes.changed(BACKOFF).await;
            }
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
        let next = |code: ResponseCode, next: i64| {
            let header = PullAnswer { next_begin_offset: next, ..PullAnswer::default() };
            understood(header.answer(code, ""), 7).map(|pulled| pulled.next)
        };
        let rows = [
            (ResponseCode::SUCCESS, 9, Some(9)),
            (ResponseCode::SUCCESS, -1, Some(7)),
            (ResponseCode::PULL_NOT_FOUND, 3, Some(7)),
            (ResponseCode::PULL_RETRY_IMMEDIATELY, 8, Some(8)),
            (ResponseCode::PULL_OFFSET_MOVED, 20, Some(20)),
            (ResponseCode::SYSTEM_BUSY, 20, None),
        ];
        for (code, begin, want) in rows {
            assert_eq!(next(code, begin), want, "{code} {begin}");
        }
        let bare = RemotingCommand::response(ResponseCode::SUCCESS);
        assert!(understood(bare, 7).is_none(), "an answer without its header");
    }
}
