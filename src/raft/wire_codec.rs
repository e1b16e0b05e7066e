//! tonic's protobuf codec, with a checksum before each message, and buffers that fit log traffic:
//! what is encoded gets the room that it needs at once, where the default would grow by doubling,
//! and copy, for every batch of entries.
//!
//! ```text
//! CRC-32C, little-endian │ the message as protobuf has it
//! ```
//!
//! TCP's checksum is 16 bits wide and ends at each middlebox: one of 65,536 damaged packets comes
//! through. The sum is of what the receiver *understood*: it encodes the message once more, without
//! log entries, which have checksums of their own and are most of the bytes. A message whose sum
//! differs is none: its call fails, nothing of it is done, and the caller calls again.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
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
    /// What has checksums of its own in it: log entries, bodies of messages.
    fn runs(&mut self) -> Option<&mut Vec<Bytes>> {
        None
    }
}

impl Message for proto::AppendRequest {
    fn runs(&mut self) -> Option<&mut Vec<Bytes>> {
        Some(&mut self.runs)
    }
}
impl Message for proto::RepairResponse {
    fn runs(&mut self) -> Option<&mut Vec<Bytes>> {
        Some(&mut self.runs)
    }
}
impl Message for proto::ProposeRequest {
    fn runs(&mut self) -> Option<&mut Vec<Bytes>> {
        Some(&mut self.bodies)
    }
}
impl Message for proto::ProposeResponse {}
impl Message for proto::AppendResponse {}
impl Message for proto::VoteRequest {}
impl Message for proto::VoteResponse {}
impl Message for proto::SnapshotChunk {}
impl Message for proto::SnapshotResponse {}
impl Message for proto::TransferRequest {}
impl Message for proto::TransferResponse {}
impl Message for proto::RepairRequest {}
impl Message for proto::HashesRequest {}
impl Message for proto::HashesResponse {}
impl Message for proto::ConsumersRequest {}
impl Message for proto::ConsumersResponse {}
impl Message for proto::StateRequest {}
impl Message for proto::StateResponse {}

/// The checksum of a message: of its encoded form without entries, and of their runs' lengths.
fn sum(message: &mut impl Message) -> u32 {
    let runs = message.runs().map(std::mem::take).unwrap_or_default();
    let mut bytes = message.encode_to_vec();
    for run in &runs {
        bytes.extend_from_slice(&(run.len() as u64).to_le_bytes());
    }
    if let Some(own) = message.runs() {
        *own = runs;
    }
    crc32c(&bytes)
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
        out.reserve(SUM_BYTES + message.encoded_len());
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

fn write(message: &mut impl Message, out: &mut impl BufMut) -> Result<(), Status> {
    out.put_u32_le(sum(message));
    message.encode(out).map_err(|error| Status::internal(error.to_string()))
}

fn read<U: Message>(from: &mut impl Buf) -> Result<U, Status> {
    if from.remaining() < SUM_BYTES {
        return Err(Status::new(DAMAGED, "a message without a checksum"));
    }
    let said = from.get_u32_le();
    let damaged = |why: String| Status::new(DAMAGED, format!("a message was damaged: {why}"));
    let mut message = U::decode(from).map_err(|error| damaged(error.to_string()))?;
    let found = sum(&mut message);
    if found != said {
        return Err(damaged(format!("its checksum is {found:#010x}, not {said:#010x} as it says")));
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
