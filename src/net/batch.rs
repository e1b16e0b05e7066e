//! Answers on their way into the socket: everything that was queued, as one vectored write. Pure.
//!
//! Heads and small bodies are encoded into one buffer, back to back; larger bodies stay where they
//! are and become pieces of their own. So a thousand answers to sends are one slice and one system
//! call, and a pulled message is never copied by us.

use super::{answer::Answer, outbox::Cost};
use crate::ids::StoredSend;
use crate::protocol::command::RemotingCommand;
use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;
use std::{collections::VecDeque, io::IoSlice};

/// A body below this is copied beside its head: cheaper than another piece for the kernel to walk.
const COPY_BELOW: usize = 1024;
/// Most pieces of one system call: Linux's limit.
const IO_SLICES_MAX: usize = 1024;
/// What an idle connection may keep of the head buffer.
const RESTING_BYTES: usize = 4 * 1024;
/// Sends that are remembered when their answers are written, 2 KiB for a connection of a producer:
/// some more than a client has answers on their way to it.
const LAST_SENDS: usize = 128;
/// How long they are of interest, ms: no client tries again so late.
const LAST_SENDS_MS: u64 = 30_000;
/// Head of a typical answer, to size the buffer in one step.
const HEAD_ESTIMATE: usize = 320;

/// The slices of one system call: one for answers without large bodies, however many they are.
pub(super) type IoSlices<'a> = SmallVec<[IoSlice<'a>; 8]>;

/// Answers being written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Answers not yet encoded, between [`Batch::queue`] and [`Batch::encode`]; else spare memory.
    answers: VecDeque<Answer>,
    heads: BytesMut,
    /// What is written of `heads`.
    heads_at: usize,
    pieces: VecDeque<Piece>,
    /// Of everything in here.
    cost: Cost,
    /// The sends that are answered in here, and the last ones before: that an answer is written
    /// does not say that it is read.
    last_sends: VecDeque<StoredSend>,
    /// When the last one was answered, ms of the coarse clock.
    last_send_at: u64,
}

#[derive(Debug)]
enum Piece {
    /// The next so many bytes of the head buffer.
    Heads(usize),
    /// A body of its own.
    Body(Bytes),
}

impl Batch {
    /// Where the next answers are put before [`Batch::encode`].
    pub(super) fn queue(&mut self) -> &mut VecDeque<Answer> {
        &mut self.answers
    }

    /// Encodes the queued answers, at `now_ms`. Says how many frames they are.
    pub(super) fn encode(&mut self, now_ms: u64) -> usize {
        let frames = self.answers.len();
        self.heads.reserve(frames * HEAD_ESTIMATE);
        let mut run_at = self.heads.len();
        while let Some(answer) = self.answers.pop_front() {
            self.cost.add(&answer);
            match answer {
                Answer::Sent { opaque, response } => {
                    self.last_sends.extend(response.stored());
                    self.last_send_at = now_ms;
                    response.encode_answer(opaque, &mut self.heads)
                }
                Answer::Command(command) => {
                    let body = command.body.clone();
                    command.encode_head(body.len(), &mut self.heads);
                    self.body(body, &mut run_at);
                }
                Answer::Records { head, records } => self.records(&head, records, &mut run_at),
            }
        }
        self.end_run(&mut run_at);
        frames
    }

    fn records(&mut self, head: &RemotingCommand, records: Vec<Bytes>, run_at: &mut usize) {
        debug_assert!(head.body.is_empty(), "the records are the body");
        head.encode_head(records.iter().map(Bytes::len).sum(), &mut self.heads);
        for record in records {
            self.body(record, run_at);
        }
    }

    fn body(&mut self, body: Bytes, run_at: &mut usize) {
        if body.len() < COPY_BELOW {
            self.heads.extend_from_slice(&body);
        } else {
            self.end_run(run_at);
            self.pieces.push_back(Piece::Body(body));
        }
    }

    /// Makes a piece of what was encoded since `run_at`.
    fn end_run(&mut self, run_at: &mut usize) {
        let bytes = self.heads.len() - *run_at;
        if bytes > 0 {
            self.pieces.push_back(Piece::Heads(bytes));
            *run_at = self.heads.len();
        }
    }

    /// Whether everything is written, or nothing was put in.
    pub(super) fn is_written(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The front of what is to be written, as one system call takes it.
    pub(super) fn slices(&self) -> IoSlices<'_> {
        let mut at = self.heads_at;
        let piece = |piece| match piece {
            &Piece::Heads(bytes) => {
                at += bytes;
                IoSlice::new(&self.heads[at - bytes..at])
            }
            Piece::Body(body) => IoSlice::new(body),
        };
        self.pieces.iter().take(IO_SLICES_MAX).map(piece).collect()
    }

    /// Notes that the first `written` bytes of [`Batch::slices`] are written.
    pub(super) fn advance(&mut self, mut written: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            let bytes = match piece {
                Piece::Heads(bytes) => *bytes,
                Piece::Body(body) => body.len(),
            };
            let now = bytes.min(written);
            written -= now;
            match piece {
                Piece::Heads(left) => {
                    self.heads_at += now;
                    *left -= now;
                }
                Piece::Body(body) => body.advance(now),
            }
            if now < bytes {
                return;
            }
            self.pieces.pop_front();
        }
    }

    /// Makes room for the next answers, once everything is written. Returns what it cost.
    pub(super) fn finish(&mut self) -> Cost {
        debug_assert!(self.is_written(), "bytes would be lost");
        self.heads.clear();
        self.heads_at = 0;
        self.last_sends.drain(..self.last_sends.len().saturating_sub(LAST_SENDS));
        std::mem::take(&mut self.cost)
    }

    /// The sends that were answered last before `now_ms`, in order: all whose answers are not
    /// written among them.
    pub(super) fn into_last_sends(self, now_ms: u64) -> VecDeque<StoredSend> {
        let is_over = now_ms.saturating_sub(self.last_send_at) > LAST_SENDS_MS;
        if is_over { VecDeque::new() } else { self.last_sends }
    }

    /// Gives back what a burst has grown. Called before a wait that may be long.
    pub(super) fn rest(&mut self) {
        if self.heads.capacity() > RESTING_BYTES {
            self.heads = BytesMut::new();
        }
        if self.pieces.capacity() > RESTING_BYTES / size_of::<Piece>() {
            self.pieces = VecDeque::new();
        }
        if self.last_sends.capacity() > 2 * LAST_SENDS {
            self.last_sends.shrink_to(LAST_SENDS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{
        codes::ResponseCode,
        headers::send::{MsgIds, SendResponse},
    };

    fn response(opaque: i32) -> RemotingCommand {
        RemotingCommand::response(ResponseCode::SUCCESS).answering(opaque)
    }

    fn sent() -> SendResponse {
        let store_host = "10.0.0.1:10911".parse().unwrap();
        SendResponse {
            code: ResponseCode::SUCCESS,
            queue_id: 3,
            queue_offset: 7,
            msg_id: MsgIds { store_host, physical: SmallVec::from_slice(&[4711]) },
            transaction_id: None,
            region: "DefaultRegion".into(),
            trace_on: true,
            recall_handle: None,
        }
    }

    fn answers() -> Vec<Answer> {
        let body = |byte: u8, bytes| Bytes::from(vec![byte; bytes]);
        vec![
            Answer::Command(response(1)),
            Answer::Sent { opaque: 6, response: sent() },
            Answer::Command(response(2).with_body(body(b'b', COPY_BELOW - 1))),
            Answer::Command(response(3).with_body(body(b'c', COPY_BELOW))),
            Answer::Records {
                head: response(4),
                records: vec![body(b'd', 10), body(b'e', 5000), body(b'f', 1), body(b'g', 2000)],
            },
            Answer::Records { head: response(5), records: vec![] },
        ]
    }

    fn expected() -> Vec<u8> {
        let mut out = BytesMut::new();
        for answer in answers() {
            match answer {
                Answer::Command(command) => command.encode(&mut out),
                Answer::Records { head, records } => {
                    head.with_body(records.concat()).encode(&mut out);
                }
                Answer::Sent { opaque, response } => response.encode_answer(opaque, &mut out),
            }
        }
        out.to_vec()
    }

    #[test]
    fn whatever_the_socket_takes_at_a_time_the_bytes_are_the_same() {
        for step in [1, 7, 100, 1024, 5000, usize::MAX] {
            let mut batch = Batch::default();
            batch.queue().extend(answers());
            let mut cost = Cost::default();
            answers().iter().for_each(|answer| cost.add(answer));
            assert_eq!(batch.encode(0), 6);
            let mut written = Vec::new();
            while !batch.is_written() {
                let bytes: Vec<u8> =
                    batch.slices().iter().flat_map(|s| s.iter().copied()).collect();
                let now = bytes.len().min(step);
                written.extend_from_slice(&bytes[..now]);
                batch.advance(now);
            }
            assert_eq!(written, expected(), "step {step}");
            assert_eq!(batch.finish(), cost);
        }
    }

    #[test]
    fn small_answers_are_one_slice_and_large_bodies_are_not_copied() {
        let mut batch = Batch::default();
        batch.queue().extend((0..500).map(|opaque| Answer::Command(response(opaque))));
        batch.encode(0);
        assert_eq!(batch.slices().len(), 1);
        batch.advance(usize::MAX);
        batch.finish();

        let body = Bytes::from(vec![1; 4096]);
        let head = response(1);
        batch.queue().push_back(Answer::Records { head, records: vec![body.clone()] });
        batch.encode(0);
        let slices = batch.slices();
        assert_eq!(slices.len(), 2);
        assert_eq!(slices[1].as_ptr(), body.as_ptr());
    }

    #[test]
    fn a_call_never_gets_more_slices_than_the_kernel_takes() {
        let mut batch = Batch::default();
        let records = vec![Bytes::from(vec![0; COPY_BELOW]); 3 * IO_SLICES_MAX];
        batch.queue().push_back(Answer::Records { head: response(1), records });
        batch.encode(0);
        let mut calls = 0;
        while !batch.is_written() {
            let bytes = batch.slices().iter().map(|s| s.len()).sum();
            assert!(batch.slices().len() <= IO_SLICES_MAX);
            batch.advance(bytes);
            calls += 1;
        }
        assert_eq!(calls, 4);
    }

    #[test]
    fn a_burst_leaves_no_memory_behind() {
        let mut batch = Batch::default();
        batch.queue().extend((0..5000).map(|opaque| Answer::Command(response(opaque))));
        batch.encode(0);
        batch.advance(usize::MAX);
        batch.finish();
        batch.queue().extend((0..5000).map(|opaque| Answer::Sent { opaque, response: sent() }));
        batch.encode(0);
        assert_eq!(batch.last_sends.len(), 5000, "none of them is written");
        batch.advance(usize::MAX);
        batch.finish();
        batch.rest();
        assert!(batch.last_sends.capacity() <= 2 * LAST_SENDS);
        assert_eq!(batch.into_last_sends(LAST_SENDS_MS).len(), LAST_SENDS);
        let mut batch = Batch::default();
        batch.queue().push_back(Answer::Sent { opaque: 1, response: sent() });
        batch.encode(5);
        assert!(batch.into_last_sends(6 + LAST_SENDS_MS).is_empty(), "nobody sends it again");
        let mut batch = Batch::default();
        batch.queue().extend((0..5000).map(|opaque| Answer::Command(response(opaque))));
        batch.encode(0);
        batch.advance(usize::MAX);
        batch.finish();
        batch.rest();
        assert!(batch.heads.capacity() <= RESTING_BYTES);
        assert!(batch.pieces.capacity() * size_of::<Piece>() <= RESTING_BYTES);
    }
}
