//! What clients did and were told, and what must be true of it in the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::oracle::Message;
use crate::protocol::message::{Draft, key_hash};
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
/// A client sends a message so often at most, as stock ones do.
const TRIES: usize = 3;
/// This client has one unique key for all its messages, the others one for each.
const OF_ONE_KEY: usize = 2;

/// What a client knows about one of its sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing yet.
    Waits,
    /// It is stored, there.
    Stored(Place),
    /// It is stored, there, and the answer is lost with its connection.
    Lost(Place),
    /// It is not stored and will not be.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// What the world hears of a client.
pub(super) enum Heard {
    /// It was told that its message is stored there.
    Acknowledged(Place),
    /// This member told it so in vain.
    Lost(usize, Place),
}

struct Send {
    topic: &'static str,
    tries: Vec<Try>,
    /// The offset that it stores, as a consumer.
    offset: Option<u64>,
    /// Whether it deletes a topic.
    deletes: bool,
}

/// The same message, sent once.
struct Try {
    queue_id: u32,
    /// When it was sent, ms, and to which member.
    asked: (u64, usize),
    /// Entries that were known to be committed then.
    committed: u64,
    known: Known,
    /// When that was known, ms.
    told_at: u64,
}

impl Send {
    /// Where it is stored, if that is known, by the try that was told so.
    fn stored(&self) -> Option<(&Try, Place)> {
        self.tries.iter().find_map(|one| match one.known {
            Known::Stored(place) => Some((one, place)),
            Known::Waits | Known::Lost(_) | Known::Refused | Known::Unknown => None,
        })
    }
}

/// One client: it has one send under way, and makes the next one when it knows of the last, or tries
/// that again.
pub(super) struct Producer {
    name: usize,
    sends: Vec<Send>,
    next_at: u64,
    under_way: Option<(u64, Told)>,
    /// Whether it tries again what it does not know to be stored, and loses answers now and then.
    is_stubborn: bool,
    /// What it tries again.
    again: Option<Draft>,
    /// The member that it takes for the leader.
    leader: usize,
}

type Answer = Result<Receipt, ProposeError>;
/// Answers to one send: one, unless the group is wrong.
type Told = Arc<Mutex<Vec<Answer>>>;

impl Producer {
    /// A client that has done nothing yet.
    pub(super) fn new(name: usize, is_stubborn: bool) -> Self {
        let (sends, under_way, again) = (Vec::new(), None, None);
        Self { name, sends, next_at: 500, under_way, is_stubborn, again, leader: 0 }
    }

    /// Whether it wants to send now, and to which member.
    pub(super) fn turn(
        &mut self,
        now: u64,
        committed: u64,
        chance: &mut fastrand::Rng,
    ) -> Option<(usize, Proposal)> {
        if self.under_way.is_some() || now < self.next_at {
            return None;
        }
        let (message, commands) = match self.again.clone() {
            Some(message) => (self.same(message, chance), Vec::new()),
            None => self.next(chance),
        };
        let told = Told::default();
        self.under_way = Some((now, Arc::clone(&told)));
        let (queue_id, asked, known) = (message.queue_id, (now, self.leader), Known::Waits);
        let send = self.sends.last_mut()?;
        send.tries.push(Try { queue_id, asked, committed, known, told_at: 0 });
        self.again = (self.is_stubborn && commands.is_empty()).then(|| message.clone());
        let done = Box::new(move |answer| told.lock().push(answer));
        Some((self.leader, Proposal { messages: vec![message].into(), commands, done }))
    }

    /// The message once more, to any queue of its topic.
    fn same(&self, message: Draft, chance: &mut fastrand::Rng) -> Draft {
        let queues = QUEUES.iter().filter(|(topic, _)| *topic == &*message.topic);
        let queues: Vec<u32> = queues.map(|(_, queue_id)| *queue_id).collect();
        Draft { queue_id: queues[chance.usize(0..queues.len())], ..message }
    }

    /// The next message, and what it asks for besides.
    fn next(&mut self, chance: &mut fastrand::Rng) -> (Draft, Vec<Command>) {
        let (topic, queue_id) = QUEUES[chance.usize(0..QUEUES.len())];
        let number = self.sends.len();
        let text = format!("{}/{number}/", self.name);
        let mut body = vec![b'.'; text.len() + chance.usize(0..20_000)];
        body[..text.len()].copy_from_slice(text.as_bytes());
        let commits = topic != DELETED && chance.u32(0..4) == 0;
        let offset = commits.then_some(number as u64 + 1);
        let deletes = chance.u32(0..if self.is_stubborn { 12 } else { 60 }) == 0;
        self.sends.push(Send { topic, tries: Vec::new(), offset, deletes });
        let mut commands: Vec<Command> = offset
            .map(|offset| {
                let (group, topic) = (self.group(), topic.to_owned());
                Command::CommitOffsets(vec![OffsetCommit { group, topic, queue_id, offset }])
            })
            .into_iter()
            .collect();
        if deletes {
            commands.push(Command::DeleteTopic { topic: DELETED.to_owned() });
        }
        let key = match self.name {
            OF_ONE_KEY => format!("k{}", self.name),
            name => format!("k{name}/{number}"),
        };
        let message = Draft {
            properties: format!("UNIQ_KEY\u{1}{key}\u{2}").into(),
            unique_hash: Some(key_hash(topic, &key)),
            ..draft(topic, queue_id, body)
        };
        (message, commands)
    }

    /// Takes in what it was told.
    pub(super) fn listen(
        &mut self,
        now: u64,
        members: usize,
        chance: &mut fastrand::Rng,
    ) -> Result<Option<Heard>, String> {
        let Some((since, told)) = &self.under_way else { return Ok(None) };
        let answers = told.lock().clone();
        if answers.len() > 1 {
            return Err(format!("client {} was answered twice: {answers:?}", self.name));
        }
        let Some(send) = self.sends.last_mut() else { return Ok(None) };
        let tries = send.tries.len();
        let Some(last) = send.tries.last_mut() else { return Ok(None) };
        last.known = match answers.first() {
            Some(Ok(receipt)) => match receipt.places[..] {
                [place] if self.again.is_some() && chance.u32(0..8) == 0 => Known::Lost(place),
                [place] => Known::Stored(place),
                _ => return Err(format!("one message, but places {:?}", receipt.places)),
            },
            Some(Err(error)) => verdict(error),
            None if now >= since + PATIENCE_MS => Known::Unknown,
            None => return Ok(None),
        };
        last.told_at = now;
        let asked = last.asked.1;
        let (heard, tries_again) = match last.known {
            Known::Stored(place) => (Some(Heard::Acknowledged(place)), false),
            Known::Lost(place) => (Some(Heard::Lost(asked, place)), true),
            Known::Waits | Known::Refused | Known::Unknown => {
                (None, self.again.is_some() && chance.bool())
            }
        };
        self.under_way = None;
        if !tries_again || tries == TRIES {
            self.again = None;
        }
        self.next_at = now + chance.u64(1..100);
        if !matches!(heard, Some(Heard::Acknowledged(_))) {
            self.leader = chance.usize(0..members);
        }
        Ok(heard)
    }

    fn group(&self) -> String {
        format!("g{}", self.name)
    }

    /// Offsets that were acknowledged do not go back: this client's only grow.
    pub(super) fn check_offsets(&self, committed: Option<&Tables>) -> Result<(), String> {
        let Some(tables) = committed else { return Ok(()) };
        for (topic, queue_id) in QUEUES {
            let its = |send: &&Send| {
                let asks = send.tries.iter().any(|one| one.queue_id == queue_id);
                send.topic == topic && asks && send.stored().is_some()
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
        self.sends.iter().filter(|send| send.stored().is_some()).count()
    }

    /// What this client knows to be deleted: the time, ms, and the entry that did it.
    pub(super) fn deletions(&self, committed: &[Message]) -> Vec<(u64, u64)> {
        let deletes = self.sends.iter().filter(|send| send.deletes);
        let done = deletes.filter_map(Send::stored).filter_map(|(one, place)| {
            let message = committed.iter().find(|message| message.place == place)?;
            Some((one.told_at, message.entry))
        });
        done.collect()
    }

    /// Sends that were answered with what an earlier try had stored.
    pub(super) fn found_again(&self, committed: &[Message]) -> usize {
        let is_found = |send: &&Send| {
            let Some((told, place)) = send.stored() else { return false };
            let copy = committed.iter().find(|message| message.place == place);
            copy.is_some_and(|copy| copy.entry < told.committed)
        };
        self.sends.iter().filter(is_found).count()
    }

    /// Whether what is committed is what this client was told; `deletions` are those that any client
    /// knows of.
    pub(super) fn check(
        &self,
        committed: &[Message],
        deletions: &[(u64, u64)],
    ) -> Result<(), String> {
        let mut found: BTreeMap<usize, Vec<&Message>> = BTreeMap::new();
        for message in committed.iter().filter(|message| message.client == self.name) {
            found.entry(message.number).or_default().push(message);
        }
        let mut before = None;
        for (number, send) in self.sends.iter().enumerate() {
            let copies = found.get(&number).map_or(&[][..], Vec::as_slice);
            let tries: Vec<_> = send.tries.iter().map(|one| (&one.known, one.asked)).collect();
            let what = format!("{}/{number} (known, (sent at ms, to): {tries:?})", self.name);
            send.check(copies, deletions).map_err(|why| format!("{what} {why}"))?;
            for copy in copies {
                let place = copy.place.physical;
                match before.replace((place, what.clone())) {
                    Some((later, earlier)) if later > place => {
                        return Err(format!("{what} lies at {place}, before {earlier} at {later}"));
                    }
                    Some(_) | None => {}
                }
            }
        }
        Ok(())
    }
}

impl Send {
    /// Whether these, and no others, may be its copies.
    fn check(&self, copies: &[&Message], deletions: &[(u64, u64)]) -> Result<(), String> {
        let not_refused = self.tries.iter().filter(|one| one.known != Known::Refused);
        if copies.len() > not_refused.count() {
            return Err(format!("is there {} times", copies.len()));
        }
        for copy in copies {
            let asks = |one: &Try| one.queue_id == copy.queue_id && one.known != Known::Refused;
            if copy.topic != self.topic || !self.tries.iter().any(asks) {
                return Err(format!("is in {} {}", copy.topic, copy.queue_id));
            }
        }
        for one in &self.tries {
            let (Known::Stored(place) | Known::Lost(place)) = one.known else { continue };
            if !copies.iter().any(|copy| copy.place == place) {
                let places: Vec<_> = copies.iter().map(|copy| copy.place).collect();
                return Err(format!("lies at {places:?}"));
            }
        }
        let Some((told, place)) = self.stored() else { return Ok(()) };
        let Some(copy) = copies.iter().find(|copy| copy.place == place) else { return Ok(()) };
        // Who tries again after a deletion is not told of what went with it.
        let gone =
            |(known_at, entry): &&(u64, u64)| *known_at < told.asked.0 && *entry >= copy.entry;
        match deletions.iter().find(gone) {
            Some(at) if self.topic == DELETED => Err(format!("was deleted (ms, entry): {at:?}")),
            Some(_) | None => Ok(()),
        }
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
