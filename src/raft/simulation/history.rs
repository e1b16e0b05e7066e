//! What clients did and were told, and what must be true of it in the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::oracle::Message;
use crate::raft::command::{Command, OffsetCommit};
use crate::raft::group_tests::draft;
use crate::raft::tables::Tables;
use crate::raft::{Place, Proposal, ProposeError, Receipt};

/// After this long a client gives up on an answer, ms.
const PATIENCE_MS: u64 = 3000;
/// Queues that clients send to. `V` is deleted now and then.
pub(super) const QUEUES: [(&str, u32); 6] =
    [("T", 0), ("T", 1), ("U", 0), ("U", 1), ("V", 0), ("V", 1)];

const DELETED: &str = "V";

/// What a client knows about one of its sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing yet.
    Waits,
    /// It is stored, there.
    Stored(Place),
    /// It is not stored and will not be.
    Refused,
    /// Nobody knows.
    Unknown,
}

struct Send {
    topic: &'static str,
    queue_id: u32,
    known: Known,
    /// The offset that it stores, as a consumer.
    offset: Option<u64>,
    /// When it was sent, and to which member.
    asked: (u64, usize),
}

/// One client: it has one send under way, and makes the next one when it knows of the last.
pub(super) struct Producer {
    name: usize,
    sends: Vec<Send>,
    next_at: u64,
    under_way: Option<(u64, Told)>,
    /// The member that it takes for the leader.
    leader: usize,
}

type Answer = Result<Receipt, ProposeError>;
/// Answers to one send: one, unless the group is wrong.
type Told = Arc<Mutex<Vec<Answer>>>;

impl Producer {
    /// A client that has done nothing yet.
    pub(super) fn new(name: usize) -> Self {
        Self { name, sends: Vec::new(), next_at: 500, under_way: None, leader: 0 }
    }

    /// Whether it wants to send now, and to which member.
    pub(super) fn turn(
        &mut self,
        now: u64,
        chance: &mut fastrand::Rng,
    ) -> Option<(usize, Proposal)> {
        if self.under_way.is_some() || now < self.next_at {
            return None;
        }
        let told = Told::default();
        self.under_way = Some((now, Arc::clone(&told)));
        let (topic, queue_id) = QUEUES[chance.usize(0..QUEUES.len())];
        let text = format!("{}/{}/", self.name, self.sends.len());
        let mut body = vec![b'.'; text.len() + chance.usize(0..20_000)];
        body[..text.len()].copy_from_slice(text.as_bytes());
        let commits = topic != DELETED && chance.u32(0..4) == 0;
        let offset = commits.then_some(self.sends.len() as u64 + 1);
        let asked = (now, self.leader);
        self.sends.push(Send { topic, queue_id, known: Known::Waits, offset, asked });
        let mut commands: Vec<Command> = offset
            .map(|offset| {
                let (group, topic) = (self.group(), topic.to_owned());
                Command::CommitOffsets(vec![OffsetCommit { group, topic, queue_id, offset }])
            })
            .into_iter()
            .collect();
        if chance.u32(0..60) == 0 {
            commands.push(Command::DeleteTopic { topic: DELETED.to_owned() });
        }
        let messages = vec![draft(topic, queue_id, body)].into();
        let done = Box::new(move |answer| told.lock().push(answer));
        Some((self.leader, Proposal { messages, commands, done }))
    }

    /// Takes in what it was told. Returns the place that was acknowledged, if one was.
    pub(super) fn listen(
        &mut self,
        now: u64,
        members: usize,
        chance: &mut fastrand::Rng,
    ) -> Result<Option<Place>, String> {
        let Some((since, told)) = &self.under_way else { return Ok(None) };
        let answers = told.lock().clone();
        if answers.len() > 1 {
            return Err(format!("client {} was answered twice: {answers:?}", self.name));
        }
        let Some(send) = self.sends.last_mut() else { return Ok(None) };
        send.known = match answers.first() {
            Some(Ok(receipt)) => match receipt.places[..] {
                [place] => Known::Stored(place),
                _ => return Err(format!("one message, but places {:?}", receipt.places)),
            },
            Some(Err(error)) => verdict(error),
            None if now >= since + PATIENCE_MS => Known::Unknown,
            None => return Ok(None),
        };
        let stored = match send.known {
            Known::Stored(place) => Some(place),
            Known::Waits | Known::Refused | Known::Unknown => None,
        };
        self.under_way = None;
        self.next_at = now + chance.u64(1..100);
        if stored.is_none() {
            self.leader = chance.usize(0..members);
        }
        Ok(stored)
    }

    fn group(&self) -> String {
        format!("g{}", self.name)
    }

    /// Offsets that were acknowledged do not go back: this client's only grow.
    pub(super) fn check_offsets(&self, committed: Option<&Tables>) -> Result<(), String> {
        let Some(tables) = committed else { return Ok(()) };
        for (topic, queue_id) in QUEUES {
            let its = |send: &&Send| {
                (send.topic, send.queue_id) == (topic, queue_id)
                    && matches!(send.known, Known::Stored(_))
            };
            let told = self.sends.iter().filter(its).filter_map(|send| send.offset).max();
            let stored = tables.offset(&self.group(), topic, queue_id);
            if stored < told {
                let group = self.group();
                return Err(format!("{group} was told {told:?} of {topic} {queue_id}: {stored:?}"));
            }
        }
        Ok(())
    }

    /// Sends that were acknowledged so far.
    pub(super) fn stored(&self) -> usize {
        self.sends.iter().filter(|send| matches!(send.known, Known::Stored(_))).count()
    }

    /// Whether what is committed is what this client was told.
    pub(super) fn check(&self, committed: &[Message]) -> Result<(), String> {
        let mut found: BTreeMap<usize, &Message> = BTreeMap::new();
        for message in committed.iter().filter(|message| message.client == self.name) {
            if found.insert(message.number, message).is_some() {
                return Err(format!("{}/{} is there twice", self.name, message.number));
            }
        }
        let mut before = None;
        for (number, send) in self.sends.iter().enumerate() {
            let (at, to) = send.asked;
            let known = &send.known;
            let what = format!("{}/{number} ({known:?}, sent at {at} ms to n{to})", self.name);
            let message = found.get(&number);
            match (&send.known, message) {
                (Known::Stored(_), None) => return Err(format!("{what} is lost")),
                (Known::Refused, Some(_)) => return Err(format!("{what} is there all the same")),
                (Known::Stored(place), Some(message)) if *place != message.place => {
                    return Err(format!("{what} lies at {:?}", message.place));
                }
                (Known::Stored(_), Some(_)) | (Known::Refused, None) => {}
                (Known::Unknown | Known::Waits, _) => {}
            }
            let Some(message) = message else { continue };
            if (message.topic.as_str(), message.queue_id) != (send.topic, send.queue_id) {
                return Err(format!("{what} is in {} {}", message.topic, message.queue_id));
            }
            let place = message.place.physical;
            match before.replace((place, what.clone())) {
                Some((later, earlier)) if later > place => {
                    return Err(format!("{what} lies at {place}, before {earlier} at {later}"));
                }
                Some(_) | None => {}
            }
        }
        Ok(())
    }
}

/// What a client knows after an error. "Nothing was appended" is a promise, too.
fn verdict(error: &ProposeError) -> Known {
    match error {
        ProposeError::NotLeader { .. }
        | ProposeError::NoLeader { .. }
        | ProposeError::Busy { .. }
        | ProposeError::TooLarge { .. }
        | ProposeError::StoreFailed { .. }
        | ProposeError::DiskFull { .. }
        | ProposeError::OutOfTouch { .. }
        | ProposeError::Removed
        | ProposeError::Stopping => Known::Refused,
        ProposeError::OutcomeUnknown | ProposeError::NoQuorum { .. } => Known::Unknown,
    }
}
