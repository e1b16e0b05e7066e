//! Fuzz target: what comes in on the peer port.

use bytes::Bytes;
use prost::Message;

use super::{codec, command::Commands, membership, snapshot, tables, wire};
use crate::protocol::message::records;
use crate::store::entry::{HEADER_BYTES, crc32c};

/// A message of a peer, by the first byte: it is taken or refused. Entries get the checksums that
/// a hostile peer would give them.
pub(crate) fn peer(bytes: &[u8]) {
    let Some((choice, message)) = bytes.split_first() else { return };
    match choice % 8 {
        0 => append(message),
        1 => entries(message),
        2 => drop(wire::proto::VoteRequest::decode(message).map(wire::to_vote_request)),
        3 => drop(wire::proto::VoteResponse::decode(message).map(wire::to_vote_response)),
        4 => {
            drop(wire::proto::AppendResponse::decode(message).map(|r| wire::to_append_response(&r)))
        }
        5 => drop(membership::decode(message)),
        6 => drop(snapshot::decode(message)),
        _ => commands(message),
    }
}

fn append(message: &[u8]) {
    if let Ok(request) = wire::proto::AppendRequest::decode(message) {
        drop(wire::to_append_request(request));
    }
}

fn entries(message: &[u8]) {
    let mut run = message.to_vec();
    let mut at = 0;
    while let Some(entry) = run.get_mut(at..).filter(|entry| entry.len() >= HEADER_BYTES) {
        let word = |at: usize| {
            u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
        };
        let (total, body) = (word(4) as usize, HEADER_BYTES + word(48) as usize);
        if let Some(body) = entry.get(HEADER_BYTES..body) {
            let crc = crc32c(body);
            entry[52..56].copy_from_slice(&crc.to_le_bytes());
        }
        let crc = crc32c(&entry[..60]);
        entry[60..64].copy_from_slice(&crc.to_le_bytes());
        at += total.max(HEADER_BYTES);
    }
    let request = wire::proto::AppendRequest {
        ballot: Some(wire::proto::Ballot::default()),
        runs: vec![Bytes::from(run)],
        ..wire::proto::AppendRequest::default()
    };
    let Ok(request) = wire::to_append_request(request) else { return };
    for entry in &request.entries {
        let Some(stored) = &entry.stored else { continue };
        let (header, body) = (stored.header(), &stored.bytes()[HEADER_BYTES..]);
        let (messages, rest) = body.split_at(header.message_bytes as usize);
        let read: usize = records(messages).map_while(Result::ok).map(|r| r.stored_bytes()).sum();
        assert!(read <= messages.len());
        commands(
            rest.get(..(header.body_bytes - header.message_bytes) as usize).unwrap_or_default(),
        );
    }
}

/// Commands of an entry, decoded and applied to empty tables.
fn commands(bytes: &[u8]) {
    let Ok(commands) = codec::decode::<Commands>(bytes) else { return };
    assert_eq!(codec::decode::<Commands>(&codec::encode(&commands)).ok().as_ref(), Some(&commands));
    let mut tables = tables::Tables::default();
    for command in commands.list {
        drop(tables.apply(command, commands.at_ms));
    }
}
