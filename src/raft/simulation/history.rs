//! What clients did and were told, and what must be true of it in the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::oracle::Message;
use crate::raft::command::{Command, OffsetCommit};
use crate::raft::group_tests::draft;
use crate::raft::{Place, Proposal, ProposeError, Receipt};

/// After this long a client gives up on an answer, ms.
const PATIENCE_MS: u64 = 3000;
/// Topics that clients send to.
const TOPICS: [&str; 2] = ["T", "U"];

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
        let (topic, queue_id) = (TOPICS[chance.usize(0..TOPICS.len())], chance.u32(0..2));
        let text = format!("{}/{}/", self.name, self.sends.len());
        let mut body = vec![b'.'; text.len() + chance.usize(0..20_000)];
        body[..text.len()].copy_from_slice(text.as_bytes());
        self.sends.push(Send { topic, queue_id, known: Known::Waits });
        let mut commands = Vec::new();
        if chance.u32(0..10) == 0 {
            let group = format!("g{}", self.name);
            let (topic, offset) = (topic.to_owned(), self.sends.len() as u64);
            commands.push(Command::CommitOffsets(vec![OffsetCommit {
                group,
                topic,
                queue_id,
                offset,
            }]));
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
            let what = format!("{}/{number} ({:?})", self.name, send.known);
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
            if before > Some(message.place.physical) {
                return Err(format!("{what} lies before what was sent before it"));
            }
            before = Some(message.place.physical);
        }
        Ok(())
    }
}

/// What a client knows after an error. "Nothing was appended" is a promise, too.
fn verdict(error: &ProposeError) -> Known {
    match error {
        ProposeError::NotLeader { .. }
        | ProposeError::Busy { .. }
        | ProposeError::TooLarge { .. }
        | ProposeError::DiskFull { .. }
        | ProposeError::Stopping => Known::Refused,
        ProposeError::OutcomeUnknown
        | ProposeError::NoQuorum { .. }
        | ProposeError::StoreFailed { .. } => Known::Unknown,
    }
}
