//! tonic's protobuf codec, with a checksum before each message, and buffers that fit log traffic:
//! what is encoded gets the room that it needs at once, where the default would grow by doubling,
//! and copy, for every batch of entries.
//!
//! ```text
//! CRC-32C, little-endian │ the message as protobuf has it │ newer fields, and a CRC-32C of them
//! ```
//!
//! TCP's checksum is 16 bits wide and ends at each middlebox: one of 65,536 damaged packets comes
//! through. The sum is of all fields but log entries, which have checksums of their own and are most
//! of the bytes. A message whose sum differs is none: its call fails, nothing of it is done, and the
//! caller calls again.
//!
//! Builds before version 3 sum what they *understood*: they encode the message once more, and what
//! they do not know would be damage. So the first sum ends with the last field that a message had
//! then ([`Message::FIRST_SUMMED`]), and what came later is summed in one more field, the last one,
//! which they pass over as well. Later builds may add fields as they like.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
use prost::DecodeError;
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encoded_len_varint, skip_field,
};
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};

use crate::raft::wire::proto;
use crate::store::entry::crc32c;

const BUFFER_BYTES: usize = 8 * 1024;
/// Encoded bytes after which a message goes out before the next is encoded.
const YIELD_BYTES: usize = 64 * 1024;
/// Of the checksum.
const SUM_BYTES: usize = 4;
/// Of calls that failed because something was damaged on its way: the same call may succeed.
pub(super) const DAMAGED: Code = Code::Aborted;

/// What members say to each other.
pub(super) trait Message: prost::Message + Default + 'static {
    /// Number of the last field in the first sum. Never changed: fields that come later have a
    /// higher one.
    const FIRST_SUMMED: u32;
    /// Number of the field with what has checksums of its own in it: log entries, bodies of
    /// messages. 0: there is none.
    const RUNS: u32 = 0;

    /// That field.
    fn runs(&mut self) -> Option<&mut Vec<Bytes>> {
        None
    }
}

macro_rules! message {
    ($name:ident, $first_summed:literal $(, $runs:ident = $number:literal)?) => {
        impl Message for proto::$name {
            const FIRST_SUMMED: u32 = $first_summed;
            $(
                const RUNS: u32 = $number;

                fn runs(&mut self) -> Option<&mut Vec<Bytes>> {
                    Some(&mut self.$runs)
                }
            )?
        }
    };
}

message!(AppendRequest, 4, runs = 4);
message!(AppendResponse, 8);
message!(ProposeRequest, 5, bodies = 5);
message!(ProposeResponse, 2);
message!(VoteRequest, 4);
message!(VoteResponse, 3);
message!(SnapshotChunk, 2);
message!(SnapshotResponse, 1);
message!(TransferRequest, 3);
message!(TransferResponse, 1);
message!(RepairRequest, 1);
message!(RepairResponse, 2, runs = 1);
message!(HashesRequest, 2);
message!(HashesResponse, 1);
message!(ConsumersRequest, 1);
message!(ConsumersResponse, 1);
message!(StateRequest, 0);
message!(StateResponse, 11);

/// Number of the field with the sum of those that came later.
const NEWER_SUM: u32 = 2047;
/// What that takes.
const NEWER_SUM_BYTES: usize = encoded_len_varint((NEWER_SUM << 3) as u64) + SUM_BYTES;

/// An encoded message, taken apart for its sums.
#[derive(Default)]
struct Parts {
    /// Fields of the first sum, without runs.
    first: Vec<u8>,
    /// Lengths of runs, which are in the first sum.
    lengths: Vec<u8>,
    /// Fields that came later.
    newer: Vec<u8>,
    /// As the message says.
    newer_sum: u32,
}

impl Parts {
    fn of<M: Message>(encoded: &[u8]) -> Result<Self, DecodeError> {
        let (mut parts, mut rest) = (Self::default(), encoded);
        while !rest.is_empty() {
            let field = rest;
            let (number, wire_type) = decode_key(&mut rest)?;
            let mut value = rest;
            skip_field(wire_type, number, &mut rest, DecodeContext::default())?;
            let field = &field[..field.len() - rest.len()];
            if number == M::RUNS {
                parts.add_run(decode_varint(&mut value)?);
            } else if number <= M::FIRST_SUMMED {
                parts.first.extend_from_slice(field);
            } else if number == NEWER_SUM && wire_type == WireType::ThirtyTwoBit {
                parts.newer_sum = value.get_u32_le();
            } else {
                parts.newer.extend_from_slice(field);
            }
        }
        Ok(parts)
    }

    fn add_run(&mut self, bytes: u64) {
        self.lengths.extend_from_slice(&bytes.to_le_bytes());
    }

    fn first_sum(mut self) -> u32 {
        self.first.append(&mut self.lengths);
        crc32c(&self.first)
    }
}

/// Encodes `T`, decodes `U`.
pub(super) struct PeerCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for PeerCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message, U: Message> Codec for PeerCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = Fitting<T>;
    type Decoder = Verifying<U>;

    fn encoder(&mut self) -> Self::Encoder {
        Fitting(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        Verifying(PhantomData)
    }
}

/// Encodes into a buffer that is large enough before it starts.
pub(super) struct Fitting<T>(PhantomData<T>);

impl<T: Message> Encoder for Fitting<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, mut message: T, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(SUM_BYTES + message.encoded_len() + NEWER_SUM_BYTES);
        write(&mut message, out)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}

/// Decodes what its sender said, and nothing else.
pub(super) struct Verifying<U>(PhantomData<U>);

impl<U: Message> Decoder for Verifying<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        read(from).map(Some)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}

/// Says so if a call to or of `peer` failed because something was damaged on its way.
pub(super) fn tell_damage(peer: &str, status: &Status) {
    if status.code() == DAMAGED {
        tracing::warn!(peer, error = status.message(), "a message between members was damaged");
    }
}

fn write<T: Message>(message: &mut T, out: &mut impl BufMut) -> Result<(), Status> {
    let failed = |why: String| Status::internal(why);
    let runs = message.runs().map(std::mem::take).unwrap_or_default();
    let mut parts = Parts::of::<T>(&message.encode_to_vec()).map_err(|e| failed(e.to_string()))?;
    runs.iter().for_each(|run| parts.add_run(run.len() as u64));
    if let Some(own) = message.runs() {
        *own = runs;
    }
    let newer = std::mem::take(&mut parts.newer);
    out.put_u32_le(parts.first_sum());
    message.encode(out).map_err(|error| failed(error.to_string()))?;
    if !newer.is_empty() {
        encode_key(NEWER_SUM, WireType::ThirtyTwoBit, out);
        out.put_u32_le(crc32c(&newer));
    }
    Ok(())
}

fn read<U: Message>(from: &mut impl Buf) -> Result<U, Status> {
    if from.remaining() < SUM_BYTES {
        return Err(Status::new(DAMAGED, "a message without a checksum"));
    }
    let said = from.get_u32_le();
    let damaged = |why: String| Status::new(DAMAGED, format!("a message was damaged: {why}"));
    let mut encoded = from.copy_to_bytes(from.remaining());
    let parts = Parts::of::<U>(&encoded).map_err(|error| damaged(error.to_string()))?;
    let sums = [(crc32c(&parts.newer), parts.newer_sum), (parts.first_sum(), said)];
    for (found, said) in sums {
        if found != said {
            let why = format!("its checksum is {found:#010x}, not {said:#010x} as it says");
            return Err(damaged(why));
        }
    }
    U::decode(&mut encoded).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    fn written(mut message: impl Message) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut message, &mut out).unwrap();
        out
    }

    fn append() -> proto::AppendRequest {
        let id = |index| Some(proto::LogId { term: 7, index });
        let runs = vec![Bytes::from_static(b"two entries"), Bytes::from_static(b"another")];
        let ballot = Some(proto::Ballot { term: 7, candidate: 3, committed: true });
        proto::AppendRequest { ballot, previous: id(41), committed: id(40), runs }
    }

    /// Demands that the message with any one bit flipped is refused, or understood as it was sent:
    /// 1 and 3 are both true. `is_as_sent` may be told less.
    fn flip_each<T: Message + Clone>(sent: &T, is_as_sent: impl Fn(T) -> bool) {
        let bytes = written(sent.clone());
        let mut refused = 0;
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            match read(&mut &damaged[..]) {
                Ok(got) => assert!(is_as_sent(got), "bit {bit}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused >= 8 * SUM_BYTES, "{refused}");
    }

    #[test]
    fn a_message_comes_as_it_was_sent() {
        let got: proto::AppendRequest = read(&mut &written(append())[..]).unwrap();
        assert_eq!(got, append());
        let got: proto::StateRequest = read(&mut &written(proto::StateRequest {})[..]).unwrap();
        assert_eq!(got, proto::StateRequest {});
    }

    #[test]
    fn a_bit_that_flips_anywhere_in_a_message_is_noticed() {
        let last = Some(proto::LogId { term: 3, index: 300 });
        let ballot = Some(proto::Ballot { term: 4, candidate: 1, committed: false });
        let vote = proto::VoteRequest { ballot, last, leadership_transfer: false, pre_vote: true };
        flip_each(&vote, |got| got == vote);
        let data = Bytes::from_static(b"of a snapshot");
        let chunk = proto::SnapshotChunk { head: None, data };
        flip_each(&chunk, |got| got == chunk);
    }

    #[test]
    fn of_an_append_only_the_entries_themselves_are_left_to_their_own_checksums() {
        let sent = append();
        flip_each(&sent, |mut got: proto::AppendRequest| {
            let lengths = |runs: &[Bytes]| runs.iter().map(Bytes::len).collect::<Vec<_>>();
            let is_as_long = lengths(&got.runs) == lengths(&sent.runs);
            got.runs.clone_from(&sent.runs);
            is_as_long && got == sent
        });
    }

    #[test]
    fn a_damaged_message_is_told_with_both_sums() {
        let mut bytes = written(append());
        bytes[0] ^= 1;
        let said = u32::from_le_bytes(bytes[..4].try_into().unwrap());
        let status = read::<proto::AppendRequest>(&mut &bytes[..]).unwrap_err();
        let text = format!("its checksum is {:#010x}, not {said:#010x} as it says", said ^ 1);
        assert!(status.message().ends_with(&text), "{}", status.message());
        assert!(read::<proto::AppendRequest>(&mut &bytes[..3]).is_err());
    }

    /// Messages of builds before version 3, as far as they are different.
    #[derive(Clone, PartialEq, prost::Message)]
    struct FormerTransfer {
        #[prost(message, optional, tag = "1")]
        from: Option<proto::Ballot>,
        #[prost(fixed64, tag = "2")]
        to: u64,
        #[prost(message, optional, tag = "3")]
        last: Option<proto::LogId>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct FormerPropose {
        #[prost(uint64, tag = "1")]
        term: u64,
        #[prost(fixed64, tag = "2")]
        life: u64,
        #[prost(uint64, tag = "3")]
        stream: u64,
        #[prost(message, repeated, tag = "4")]
        proposals: Vec<proto::Proposed>,
        #[prost(bytes = "bytes", repeated, tag = "5")]
        bodies: Vec<Bytes>,
    }

    /// What such a build finds: of what it understood, encoded once more.
    fn former_sum(mut understood: FormerPropose) -> u32 {
        let bodies = std::mem::take(&mut understood.bodies);
        let mut bytes = understood.encode_to_vec();
        let lengths = bodies.iter().flat_map(|body| (body.len() as u64).to_le_bytes());
        bytes.extend(lengths);
        crc32c(&bytes)
    }

    fn propose() -> proto::ProposeRequest {
        let one = proto::Proposed { number: 9, until_ms: 8, ..Default::default() };
        let unanswered = vec![proto::Unanswered { first: 77, messages: 2 }; 3];
        let bodies = vec![Bytes::from_static(b"a body"), Bytes::new()];
        proto::ProposeRequest {
            term: 7,
            life: 3,
            stream: 1,
            proposals: vec![one],
            bodies,
            unanswered,
        }
    }

    #[test]
    fn a_build_that_does_not_know_a_field_finds_the_sum_that_it_expects() {
        let bytes = written(propose());
        let said = u32::from_le_bytes(bytes[..SUM_BYTES].try_into().unwrap());
        assert_eq!(former_sum(FormerPropose::decode(&bytes[SUM_BYTES..]).unwrap()), said);
        let transfer = proto::TransferRequest { to: 4, why: 2, ..Default::default() };
        let bytes = written(transfer);
        let former = FormerTransfer::decode(&bytes[SUM_BYTES..]).unwrap();
        assert_eq!(
            crc32c(&former.encode_to_vec()),
            u32::from_le_bytes(bytes[..4].try_into().unwrap())
        );
    }

    #[test]
    fn what_such_a_build_sends_is_understood() {
        let former = FormerTransfer { to: 4, ..Default::default() };
        let mut bytes = crc32c(&former.encode_to_vec()).to_le_bytes().to_vec();
        bytes.extend(former.encode_to_vec());
        let got: proto::TransferRequest = read(&mut &bytes[..]).unwrap();
        assert_eq!(got, proto::TransferRequest { to: 4, ..Default::default() });
    }

    #[test]
    fn a_field_that_comes_later_is_passed_over_and_summed() {
        // As if field 2000 came with the next build, in a message that has had no newer one yet.
        let append = append();
        let field = [0x82, 0x7d, 3, b'n', b'e', b'w'];
        let mut bytes = written(append.clone());
        bytes.extend(field);
        assert!(read::<proto::AppendRequest>(&mut &bytes[..]).is_err(), "not summed");
        encode_key(NEWER_SUM, WireType::ThirtyTwoBit, &mut bytes);
        bytes.put_u32_le(crc32c(&field));
        let got: proto::AppendRequest = read(&mut &bytes[..]).unwrap();
        assert_eq!(got, append);
        let at = bytes.len() - NEWER_SUM_BYTES - 1;
        bytes[at] ^= 1;
        assert!(read::<proto::AppendRequest>(&mut &bytes[..]).is_err());
    }

    #[test]
    fn a_bit_that_flips_in_a_newer_field_is_noticed() {
        let state = proto::StateResponse {
            member: "n1".into(),
            peers: "n0-h:1;n1-h:2".into(),
            serves_readers: true,
            ..Default::default()
        };
        flip_each(&state, |got| got == state);
        let sent = propose();
        flip_each(&sent, |mut got: proto::ProposeRequest| {
            let lengths = |bodies: &[Bytes]| bodies.iter().map(Bytes::len).collect::<Vec<_>>();
            let is_as_long = lengths(&got.bodies) == lengths(&sent.bodies);
            got.bodies.clone_from(&sent.bodies);
            is_as_long && got == sent
        });
    }
}
