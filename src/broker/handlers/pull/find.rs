//! Reads for a pull, and makes the answer.

use bytes::Bytes;

use crate::ids::{BrokerId, LEADER_BROKER_ID, PhysicalOffset, QueueOffset};
use crate::net::{self, ReplyTo};
use crate::protocol::codes::ResponseCode;
use crate::protocol::command::RemotingCommand;
use crate::protocol::headers::pull::PullAnswer;
use crate::protocol::names;
use crate::store::queues::{Bounds, Unit};
use crate::store::read::{self, Filter, Limits, Read, Wanted};

use super::check::topic_of;
use super::verdict::{By, Verdict, verdict};
use super::{Pull, as_i64};
use crate::broker::Broker;
use crate::broker::error::RequestError;
use crate::broker::settings::Current;
use crate::broker::steering::Here;
use crate::broker::subscription::TagFilter;

/// Who reads for a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// A thread of the connections, which must not wait for the disk.
    Connection,
    /// One that may.
    Patient,
}

/// What reading comes to.
pub(super) enum Found {
    /// The messages are so old that a [`Reader::Patient`] is to read them.
    Old,
    /// Only who knows all that was told may say it, and this member has yet to prove that it does.
    NeedsProof,
    /// Send this.
    Answer(net::Answer),
    /// Nothing yet: look again when the queue has grown beyond the offset `wants`.
    Later {
        wants: QueueOffset,
        /// To be sent if the pull may not wait.
        nothing: Nothing,
    },
}

/// An answer without messages that has not yet been given.
pub(super) struct Nothing {
    head: PullAnswer,
    status: &'static str,
}

impl Nothing {
    /// The answer.
    pub(super) fn answer(
        self,
        broker: &Broker,
        pull: &Pull,
        consumer: &ReplyTo,
    ) -> RemotingCommand {
        let suggested = pull.suggested(broker, consumer, Here::Nothing);
        let head = PullAnswer { suggest_which_broker_id: suggested.0, ..self.head };
        head.answer(ResponseCode::PULL_NOT_FOUND, self.status)
    }
}

/// Reads what is there for the pull of a consumer.
pub(super) fn find(
    broker: &Broker,
    pull: &Pull,
    consumer: &ReplyTo,
    reader: Reader,
) -> Result<Found, RequestError> {
    let tables = broker.tables();
    let topic = topic_of(&tables, &pull.topic, pull.queue_id.into(), consumer.connection().peer())?;
    let settings = broker.settings.current(&tables);
    // Asked first: who leads by now may have read, a moment ago, as a follower that lacks more.
    let by = if broker.is_leader() { By::Leader } else { By::Follower };
    let read = read(broker, pull, &settings)?;
    let head = head(pull, topic.sys_flag, read.bounds);
    let at = |next, suggested: BrokerId| PullAnswer {
        suggest_which_broker_id: suggested.0,
        next_begin_offset: next,
        ..head
    };
    match verdict(read.outcome, pull, by) {
        Verdict::Messages { units, next } => {
            if reader == Reader::Connection && are_old(broker, &settings, &units) {
                return Ok(Found::Old);
            }
            let suggested = pull.suggested(broker, consumer, Here::Something);
            let head = at(pull.offset, suggested);
            messages(broker, pull, &settings, head, units, next).map(Found::Answer)
        }
        Verdict::Nothing { code, status, next } => {
            pull.note_next(broker, next);
            broker.stats.pulled_nothing();
            let suggested = pull.suggested(broker, consumer, Here::Something);
            Ok(Found::Answer(at(next, suggested).answer(code, status).into()))
        }
        Verdict::Later { wants, status } => {
            let next = as_i64(wants);
            pull.note_next(broker, next);
            let nothing = Nothing { head: at(next, LEADER_BROKER_ID), status };
            Ok(Found::Later { wants, nothing })
        }
        Verdict::NeedsProof => Ok(Found::NeedsProof),
        Verdict::AskLeader { status } => {
            broker.stats.pulled_nothing();
            let code = ResponseCode::PULL_RETRY_IMMEDIATELY;
            Ok(Found::Answer(at(pull.offset, LEADER_BROKER_ID).answer(code, status).into()))
        }
    }
}

/// Whether reading for a pull may need the disk, as far as that is known without it.
pub(super) fn may_need_disk(broker: &Broker, pull: &Pull) -> bool {
    let from = QueueOffset(u64::try_from(pull.offset).unwrap_or(0));
    let Some(place) = broker.group.queues().place_in_runs(&pull.topic, pull.queue_id, from) else {
        return false;
    };
    is_far_behind(broker, &broker.settings.current(&broker.tables()), place)
}

fn read(broker: &Broker, pull: &Pull, settings: &Current) -> Result<Read, RequestError> {
    let filter = match &pull.filter {
        TagFilter::All => Filter::All,
        TagFilter::AnyOf(codes) => Filter::Tags(codes.clone()),
    };
    let policy = &settings.config.policy.pull;
    let limits = Limits { messages: policy.messages_max, bytes: policy.bytes_max.into() };
    let wanted = Wanted { from: pull.offset, messages_max: pull.messages_max, filter: &filter };
    let queues = broker.group.queues();
    Ok(read::get(queues, &pull.topic, pull.queue_id, &wanted, limits)?)
}

/// The head of an answer that leaves the consumer where it is.
pub(super) fn head(pull: &Pull, topic_sys_flag: i32, bounds: Bounds) -> PullAnswer {
    PullAnswer {
        suggest_which_broker_id: LEADER_BROKER_ID.0,
        next_begin_offset: pull.offset,
        min_offset: as_i64(bounds.min),
        max_offset: as_i64(bounds.next),
        group_sys_flag: pull.group_sys_flag,
        topic_sys_flag,
        forbidden_type: None,
    }
}

/// The answer with the messages of `units`, straight from the log's mapping; `next` follows them.
fn messages(
    broker: &Broker,
    pull: &Pull,
    settings: &Current,
    head: PullAnswer,
    mut units: Vec<Unit>,
    next: QueueOffset,
) -> Result<net::Answer, RequestError> {
    let policy = &settings.config.policy.pull;
    let (mut next, mut suggested) = (next, head.suggest_which_broker_id);
    if are_old(broker, settings, &units) {
        // With a filter, where the consumer goes on is not known for a part of the messages.
        if pull.filter == TagFilter::All {
            let count = affordable(&units, policy.old_messages_max, policy.old_bytes_max.into());
            next = QueueOffset(next.0 - (units.len() - count) as u64);
            units.truncate(count);
        }
        if policy.suggest_followers && broker.is_leader() {
            suggested = pull.when_behind;
        }
    }
    let Some(records) = mapped(broker, &units)? else {
        // Retention was faster: the next pull sees other bounds.
        let again = head.answer(ResponseCode::PULL_RETRY_IMMEDIATELY, "MESSAGE_WAS_REMOVING");
        return Ok(again.into());
    };
    let (system, count) = (names::is_system_topic(&pull.topic), units.len() as u64);
    let bytes = records.iter().map(|stretch| stretch.len() as u64).sum();
    // A follower serves groups that it does not know, and keeps nothing for any name.
    let group = broker.tables().group(&pull.group).is_some().then_some(&*pull.group);
    broker.stats.pulled(&pull.topic, group, system, count, bytes);
    let next = as_i64(next);
    pull.note_next(broker, next);
    let head = PullAnswer { suggest_which_broker_id: suggested, next_begin_offset: next, ..head };
    Ok(net::Answer::Records { head: head.answer(ResponseCode::SUCCESS, "FOUND"), records })
}

/// Whether a place is so far behind the end of the log that memory has probably lost it.
fn is_far_behind(broker: &Broker, settings: &Current, place: PhysicalOffset) -> bool {
    let memory_percent = settings.config.policy.pull.memory_percent;
    let kept = broker.memory_bytes / 100 * u64::from(memory_percent);
    let tail = broker.group.log().tail().0;
    tail.saturating_sub(place.0) > kept
}

fn are_old(broker: &Broker, settings: &Current, units: &[Unit]) -> bool {
    units.first().is_some_and(|unit| is_far_behind(broker, settings, unit.physical))
}

/// How many messages are given at once when each may cost a read from the disk; at least one.
fn affordable(units: &[Unit], messages_max: u32, bytes_max: u64) -> usize {
    let (mut count, mut bytes) = (0, 0);
    for unit in units.iter().take(messages_max.max(1) as usize) {
        bytes += u64::from(unit.bytes);
        if bytes > bytes_max && count > 0 {
            break;
        }
        count += 1;
    }
    count
}

/// The records of `units`, each checked: the disk may have changed them since they were written.
/// `None` if some of them have been deleted.
fn mapped(broker: &Broker, units: &[Unit]) -> Result<Option<Vec<Bytes>>, RequestError> {
    let log = broker.group.log();
    let stretches = read::stretches(units);
    let (mut mapped, mut later) = (Vec::with_capacity(stretches.len()), units);
    let mut stretches = stretches.into_iter().map(|stretch| {
        let bytes = log.slice(stretch.physical, stretch.bytes)?;
        bytes.prefetch(); // while the one before is checked: most are not in the cache
        Some((bytes, stretch.messages))
    });
    let mut next = stretches.next();
    while let Some(this) = next {
        next = stretches.next();
        let Some((bytes, messages)) = this else { return Ok(None) };
        let here;
        (here, later) = later.split_at(messages);
        if let Some(position) = first_damaged(here, &bytes) {
            return Err(broker.damaged(position, "the log has it as it was written".to_owned()));
        }
        mapped.push(bytes.into_bytes());
    }
    Ok(Some(mapped))
}

/// Where in a stretch of records, those of `units`, the first one starts that is not as it was
/// when it was applied.
fn first_damaged(units: &[Unit], stretch: &[u8]) -> Option<PhysicalOffset> {
    let mut rest = stretch;
    let damaged = units.iter().find(|unit| {
        let (record, later) = rest.split_at(rest.len().min(unit.bytes as usize));
        rest = later;
        !unit.is_of(record)
    });
    damaged.map(|unit| unit.physical)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::entry::crc32c;

    #[test]
    fn any_flipped_bit_of_a_record_is_found() {
        let stretch: Vec<u8> = (0..200_u32).map(|n| (n * 37 % 251) as u8).collect();
        let unit = |from: usize, to: usize| Unit {
            physical: PhysicalOffset(1000 + from as u64),
            bytes: (to - from) as u32,
            crc: crc32c(&stretch[from..to]),
            ..Unit::default()
        };
        let units = [unit(0, 91), unit(91, 110), unit(110, 200)];
        assert_eq!(first_damaged(&units, &stretch), None);
        for bit in 0..stretch.len() * 8 {
            let mut flawed = stretch.clone();
            flawed[bit / 8] ^= 1 << (bit % 8);
            let hurt = units.iter().rfind(|unit| unit.physical.0 <= 1000 + bit as u64 / 8);
            assert_eq!(first_damaged(&units, &flawed), hurt.map(|unit| unit.physical), "bit {bit}");
        }
    }

    #[test]
    fn old_messages_come_few_at_a_time_and_never_none() {
        let unit = |bytes| Unit { bytes, ..Unit::default() };
        let units = [unit(40), unit(40), unit(40)];
        let rows = [(9, 1000, 3), (2, 1000, 2), (9, 80, 2), (9, 10, 1), (0, 1000, 1)];
        for (messages_max, bytes_max, want) in rows {
            let got = affordable(&units, messages_max, bytes_max);
            assert_eq!(got, want, "{messages_max} messages, {bytes_max} bytes");
        }
    }
}
