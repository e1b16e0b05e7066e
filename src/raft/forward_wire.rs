//! Proposals ↔ the protobuf messages in which members pass them on. Pure.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use smallvec::SmallVec;

use crate::ids::{PhysicalOffset, StoredSend};
use crate::protocol::message::properties::Indexed;
use crate::protocol::message::{self, Draft, key_hash};
use crate::raft::ProposeError;
use crate::raft::codec;
use crate::raft::command::{Command, Commands, Origin};
use crate::raft::wire::proto;

/// A peer passed on what is no proposal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// More messages than bodies, or fewer.
    #[error("there are not as many bodies as messages")]
    Bodies,
    /// A host that is no address.
    #[error("a host of {0} bytes")]
    Host(usize),
    /// A message that cannot be stored.
    #[error("a message that nobody can store: {0}")]
    Draft(String),
    /// A body that is not as its producer's broker got it.
    #[error("the body of a message was damaged: its CRC-32 is {found:#010x}, not {said:#010x}")]
    Damaged {
        /// Of what came.
        found: u32,
        /// As the message says.
        said: u32,
    },
    /// Commands that cannot be read, or that no client can cause.
    #[error("commands: {0}")]
    Commands(String),
}

/// A proposal of another member, without whoever waits for it.
#[derive(Debug, PartialEq)]
pub(super) struct Asked {
    /// Whose it is.
    pub origin: Origin,
    /// By when it is appended, or never; by the clock of the member that is asked.
    pub until_ms: u64,
    /// As in a proposal.
    pub messages: SmallVec<[Draft; 1]>,
    /// As in a proposal.
    pub commands: Vec<Command>,
}

/// Adds a proposal to `request`.
pub(super) fn add(
    request: &mut proto::ProposeRequest,
    (number, until_ms): (u64, u64),
    messages: &[Draft],
    commands: &[Command],
) {
    let commands = match commands {
        [] => Bytes::new(),
        list => codec::encode(&Commands { at_ms: 0, list: list.to_vec() }).into(),
    };
    let messages_sent = messages.iter().map(draft).collect();
    let proposed = proto::Proposed { number, messages: messages_sent, commands, until_ms };
    request.proposals.push(proposed);
    request.bodies.extend(messages.iter().map(|draft| draft.body.clone()));
}

/// Adds sends whose clients may not have been answered.
pub(super) fn add_unanswered(
    request: &mut proto::ProposeRequest,
    sends: impl IntoIterator<Item = StoredSend>,
) {
    let unanswered =
        |send: StoredSend| proto::Unanswered { first: send.first.0, messages: send.messages };
    request.unanswered.extend(sends.into_iter().map(unanswered));
}

/// The same, as they came.
pub(super) fn take_unanswered(
    request: &mut proto::ProposeRequest,
) -> impl DoubleEndedIterator<Item = StoredSend> + use<> {
    let first = |of: &proto::Unanswered| PhysicalOffset(of.first);
    let unanswered = std::mem::take(&mut request.unanswered).into_iter();
    unanswered.map(move |of| StoredSend { first: first(&of), messages: of.messages })
}

/// The proposals in a request, each whole.
pub(super) fn to_asked(request: proto::ProposeRequest) -> Result<Vec<Asked>, Malformed> {
    let life = request.life;
    let mut bodies = request.bodies.into_iter();
    let mut asked = Vec::with_capacity(request.proposals.len());
    for proposed in request.proposals {
        let messages = proposed
            .messages
            .into_iter()
            .map(|draft| to_draft(draft, bodies.next().ok_or(Malformed::Bodies)?))
            .collect::<Result<_, _>>()?;
        let commands = to_commands(&proposed.commands)?;
        let origin = Origin { life, number: proposed.number };
        let until_ms = proposed.until_ms;
        asked.push(Asked { origin, until_ms, messages, commands });
    }
    if bodies.next().is_some() {
        return Err(Malformed::Bodies);
    }
    Ok(asked)
}

fn to_commands(bytes: &[u8]) -> Result<Vec<Command>, Malformed> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let commands: Commands =
        codec::decode(bytes).map_err(|error| Malformed::Commands(error.to_string()))?;
    let is_leaders = |command| matches!(command, &Command::Passed(_) | &Command::Activate { .. });
    if commands.list.iter().any(is_leaders) {
        return Err(Malformed::Commands("they say what only a leader says".to_owned()));
    }
    Ok(commands.list)
}

fn draft(draft: &Draft) -> proto::Draft {
    proto::Draft {
        topic: draft.topic.to_string(),
        queue_id: draft.queue_id,
        flag: draft.flag,
        sys_flag: draft.sys_flag,
        born_timestamp: draft.born_timestamp,
        born_host: host(draft.born_host),
        store_host: host(draft.store_host),
        reconsume_times: draft.reconsume_times,
        prepared_transaction_offset: draft.prepared_transaction_offset,
        body_crc: draft.body_crc,
        properties: draft.properties.clone(),
    }
}

fn to_draft(draft: proto::Draft, body: Bytes) -> Result<Draft, Malformed> {
    let found = message::body_crc(&body);
    if found != draft.body_crc {
        return Err(Malformed::Damaged { found, said: draft.body_crc });
    }
    let unique_key = Indexed::of(&draft.properties).uniq_key;
    let draft = Draft {
        unique_hash: unique_key.map(|key| key_hash(&draft.topic, key)),
        topic: Arc::from(draft.topic),
        queue_id: draft.queue_id,
        flag: draft.flag,
        sys_flag: draft.sys_flag,
        born_timestamp: draft.born_timestamp,
        born_host: to_host(&draft.born_host)?,
        store_host: to_host(&draft.store_host)?,
        reconsume_times: draft.reconsume_times,
        prepared_transaction_offset: draft.prepared_transaction_offset,
        body,
        body_crc: draft.body_crc,
        properties: draft.properties,
    };
    draft.check().map_err(|error| Malformed::Draft(error.to_string()))?;
    Ok(draft)
}

fn host(host: SocketAddr) -> Bytes {
    let mut bytes = BytesMut::with_capacity(18);
    match host.ip() {
        IpAddr::V4(ip) => bytes.put_slice(&ip.octets()),
        IpAddr::V6(ip) => bytes.put_slice(&ip.octets()),
    }
    bytes.put_u16(host.port());
    bytes.freeze()
}

fn to_host(bytes: &[u8]) -> Result<SocketAddr, Malformed> {
    let (ip, port) = bytes.split_last_chunk::<2>().ok_or(Malformed::Host(bytes.len()))?;
    let ip = match (<[u8; 4]>::try_from(ip), <[u8; 16]>::try_from(ip)) {
        (Ok(v4), _) => IpAddr::from(v4),
        (_, Ok(v6)) => IpAddr::from(v6),
        _ => return Err(Malformed::Host(bytes.len())),
    };
    Ok(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

/// What a proposer of another member is told of a refusal; nothing where its member goes on by
/// itself, since another leader may take it, or finds out in the log.
pub(super) fn refused(number: u64, error: ProposeError) -> Option<proto::Refused> {
    use proto::refused::Why;
    let excess =
        |bytes: usize, limit: usize| proto::Excess { bytes: bytes as u64, limit: limit as u64 };
    let why = match error {
        ProposeError::Busy { bytes, limit } => Why::Busy(excess(bytes, limit)),
        ProposeError::TooLarge { bytes, limit } => Why::TooLarge(excess(bytes, limit)),
        ProposeError::DiskFull { why } => Why::DiskFull(why),
        ProposeError::StoreFailed { why } => Why::StoreFailed(why),
        ProposeError::NotLeader { .. }
        | ProposeError::NoLeader { .. }
        | ProposeError::OutOfTouch { .. }
        | ProposeError::Removed
        | ProposeError::Stopping
        | ProposeError::OutcomeUnknown
        | ProposeError::NoQuorum { .. } => return None,
    };
    Some(proto::Refused { number, why: Some(why) })
}

/// The same, as it came. What a later version gives as a reason is one nobody knows here.
pub(super) fn to_refused(refused: proto::Refused) -> (u64, ProposeError) {
    use proto::refused::Why;
    let size = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    let error = match refused.why {
        Some(Why::Busy(of)) => ProposeError::Busy { bytes: size(of.bytes), limit: size(of.limit) },
        Some(Why::TooLarge(of)) => {
            ProposeError::TooLarge { bytes: size(of.bytes), limit: size(of.limit) }
        }
        Some(Why::DiskFull(why)) => ProposeError::DiskFull { why },
        Some(Why::StoreFailed(why)) => ProposeError::StoreFailed { why },
        None => ProposeError::StoreFailed { why: "the leader did not say why".to_owned() },
    };
    (refused.number, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::group_tests;
    use prost::Message as _;

    fn request() -> proto::ProposeRequest {
        let mut request = proto::ProposeRequest { life: 7, ..Default::default() };
        let v6 = "[2001:db8::1]:9876".parse().unwrap();
        let second = Draft {
            born_host: v6,
            flag: -1,
            sys_flag: i32::MIN,
            born_timestamp: -5,
            properties: Bytes::from_static(b"KEYS\x01k\x02UNIQ_KEY\x01u\x02"),
            unique_hash: Some(key_hash("U", "u")),
            ..group_tests::draft("U", 3, "two")
        };
        add(&mut request, (4, 90), &[group_tests::draft("T", 0, "one"), second], &[]);
        add(&mut request, (5, 91), &[], &[Command::DeleteTopic { topic: "T".to_owned() }]);
        add(&mut request, (6, 92), &[], &[]);
        request
    }

    #[test]
    fn proposals_come_as_they_were_sent() {
        let asked = to_asked(request()).unwrap();
        let numbers = asked.iter().map(|asked| (asked.origin.number, asked.until_ms));
        assert_eq!(numbers.collect::<Vec<_>>(), [(4, 90), (5, 91), (6, 92)]);
        assert!(asked.iter().all(|asked| asked.origin.life == 7));
        assert_eq!(asked[0].messages[0], group_tests::draft("T", 0, "one"));
        assert_eq!(asked[0].messages[1].born_host.to_string(), "[2001:db8::1]:9876");
        assert_eq!(asked[0].messages[1].sys_flag, i32::MIN);
        assert_eq!(asked[0].messages[1].unique_hash, Some(key_hash("U", "u")), "as it was");
        assert_eq!(asked[1].commands, [Command::DeleteTopic { topic: "T".to_owned() }]);
        assert!(asked[2].messages.is_empty() && asked[2].commands.is_empty());
    }

    #[test]
    fn sends_without_an_answer_come_in_order_and_beside_proposals() {
        let send = |first, messages| StoredSend { first: PhysicalOffset(first), messages };
        let mut request = request();
        add_unanswered(&mut request, [send(7, 1), send(u64::MAX, u32::MAX)]);
        let mut came = proto::ProposeRequest::decode(&*request.encode_to_vec()).unwrap();
        let unanswered: Vec<_> = take_unanswered(&mut came).collect();
        assert_eq!(unanswered, [send(7, 1), send(u64::MAX, u32::MAX)]);
        assert_eq!((to_asked(came).unwrap().len(), take_unanswered(&mut request).count()), (3, 2));
    }

    #[test]
    fn what_no_member_sends_is_refused() {
        let with = |change: &dyn Fn(&mut proto::ProposeRequest)| {
            let mut request = request();
            change(&mut request);
            to_asked(request).unwrap_err()
        };
        assert_eq!(with(&|r| drop(r.bodies.pop())), Malformed::Bodies);
        assert_eq!(with(&|r| r.bodies.push(Bytes::new())), Malformed::Bodies);
        let shorter = |r: &mut proto::ProposeRequest| {
            r.proposals[0].messages[0].born_host.truncate(5);
        };
        assert_eq!(with(&shorter), Malformed::Host(5));
        let none = |r: &mut proto::ProposeRequest| r.proposals[0].messages[0].born_host.clear();
        assert_eq!(with(&none), Malformed::Host(0));
        let damaged = with(&|r| r.bodies[1] = Bytes::from_static(b"twp"));
        assert!(matches!(damaged, Malformed::Damaged { .. }), "{damaged}");
        let long = |r: &mut proto::ProposeRequest| {
            r.proposals[0].messages[0].topic = "T".repeat(1 << 16);
        };
        assert!(matches!(with(&long), Malformed::Draft(_)));
        let cut = |r: &mut proto::ProposeRequest| r.proposals[1].commands.truncate(2);
        assert!(matches!(with(&cut), Malformed::Commands(_)));
        let passed = Commands { at_ms: 0, list: vec![Command::Passed(Vec::new())] };
        let told = with(&|r| r.proposals[1].commands = codec::encode(&passed).into());
        assert!(matches!(told, Malformed::Commands(_)), "only a leader says that");
    }

    #[test]
    fn only_what_is_final_is_told_to_the_proposer() {
        let full = || "disk".to_owned();
        let told = [
            ProposeError::Busy { bytes: 5, limit: 4 },
            ProposeError::TooLarge { bytes: 5, limit: 4 },
            ProposeError::DiskFull { why: full() },
            ProposeError::StoreFailed { why: full() },
        ];
        for error in told {
            let text = error.to_string();
            let (number, got) = to_refused(refused(9, error).unwrap());
            assert_eq!((number, got.to_string()), (9, text));
        }
        let waited = std::time::Duration::ZERO;
        for error in [
            ProposeError::NotLeader { leader: None },
            ProposeError::Stopping,
            ProposeError::OutcomeUnknown,
            ProposeError::NoQuorum { waited },
        ] {
            assert_eq!(refused(9, error), None);
        }
    }
}
