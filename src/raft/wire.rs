//! openraft's messages ↔ the protobuf messages of `proto/raft.proto`. Pure.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, VoteRequest, VoteResponse,
};

use crate::ids::{EntryIndex, StoreId, Term};
use crate::raft::type_config::{
    Ballot, LogEntry, RaftLogId, Stored, StoredMembership, TypeConfig, ballot,
    log_id as raft_log_id,
};
use crate::store::entry::EntryId;
use crate::store::{MappedBytes, ReceivedEntry, StoredEntry};

/// Generated from `proto/raft.proto`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::pedantic)]
pub mod proto {
    tonic::include_proto!("rmq.raft.v1");
}

/// A peer sent something that is no message of this protocol.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    /// A field that every such message has is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// An entry that does not follow what is before it, or is of a later term than its sender.
    #[error("entry {0} does not follow what is before it, or is of a later term than its leader")]
    OutOfOrder(RaftLogId),
    /// Bytes that should be log entries are not.
    #[error("not log entries: {0}")]
    Entries(String),
}

/// openraft → wire.
pub(super) fn log_id(id: RaftLogId) -> proto::LogId {
    proto::LogId { term: id.leader_id.term, index: id.index }
}

/// Wire → openraft.
pub(super) fn to_log_id(id: proto::LogId) -> RaftLogId {
    raft_log_id(EntryId { index: EntryIndex(id.index), term: Term(id.term) })
}

/// openraft → wire.
pub(super) fn vote(vote: &Ballot) -> proto::Ballot {
    proto::Ballot {
        term: vote.leader_id.term,
        candidate: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

/// Wire → openraft.
pub(super) fn to_vote(vote: Option<proto::Ballot>) -> Result<Ballot, Malformed> {
    let vote = vote.ok_or(Malformed::Missing("ballot"))?;
    Ok(ballot(Term(vote.term), StoreId(vote.candidate), vote.committed))
}

/// An append as it goes out: neighbouring entries of a segment become one run, not copied.
pub(super) fn append_request(request: AppendEntriesRequest<TypeConfig>) -> proto::AppendRequest {
    proto::AppendRequest {
        ballot: Some(vote(&request.vote)),
        previous: request.prev_log_id.map(log_id),
        committed: request.leader_commit.map(log_id),
        runs: runs(request.entries.into_iter().map(|entry| match entry.stored {
            Some(Stored::Mapped(stored)) => stored.bytes,
            Some(Stored::Received(_) | Stored::Digested(_)) | None => {
                unreachable!("what is replicated was read from the log")
            }
        })),
    }
}

fn runs(entries: impl Iterator<Item = MappedBytes>) -> Vec<Bytes> {
    let mut runs = Vec::new();
    let mut open: Option<MappedBytes> = None;
    for entry in entries {
        open = match open.take() {
            Some(run) => run.join(&entry).or_else(|| {
                runs.push(run.into_bytes());
                Some(entry)
            }),
            None => Some(entry),
        };
    }
    runs.extend(open.map(MappedBytes::into_bytes));
    runs
}

/// Who belongs to the group, if anybody is known to.
pub(super) fn recorded(membership: &StoredMembership) -> Option<proto::Recorded> {
    let as_of = membership.log_id().as_ref().copied().map(log_id);
    let voters: Vec<u64> = membership.membership().voter_ids().collect();
    let members = membership.membership().nodes().map(|(id, member)| proto::RecordedMember {
        votes: voters.contains(id),
        store_id: *id,
        name: member.name.clone(),
        address: member.address.clone(),
    });
    let members: Vec<_> = members.collect();
    (!members.is_empty()).then_some(proto::Recorded { as_of, members })
}

/// Entries as they go to a member whose own are damaged.
pub(super) fn repair_response(
    entries: Vec<StoredEntry>,
    committed: Option<EntryId>,
) -> proto::RepairResponse {
    let committed = committed.map(|id| proto::LogId { term: id.term.0, index: id.index.0 });
    proto::RepairResponse { runs: runs(entries.into_iter().map(|entry| entry.bytes)), committed }
}

/// The entries of a [`repair_response`], each checked whole, and the last that is committed.
pub(super) fn to_entries(
    response: proto::RepairResponse,
) -> Result<(Vec<ReceivedEntry>, Option<EntryIndex>), Malformed> {
    let committed = response.committed.map(|id| EntryIndex(id.index));
    Ok((received(response.runs)?, committed))
}

fn received(runs: Vec<Bytes>) -> Result<Vec<ReceivedEntry>, Malformed> {
    let mut entries = Vec::new();
    for mut run in runs {
        while !run.is_empty() {
            let entry = ReceivedEntry::take_from(&mut run);
            entries.push(entry.map_err(|error| Malformed::Entries(error.to_string()))?);
        }
    }
    Ok(entries)
}

/// An append as it came in. Entries are checked whole, here: a peer's damage is refused like any
/// other bad message, and is no failure of this member's store.
pub(super) fn to_append_request(
    request: proto::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    let entries = received(request.runs)?.into_iter().map(|entry| {
        LogEntry::from_stored(Stored::Received(entry))
            .map_err(|error| Malformed::Entries(error.to_string()))
    });
    let entries = entries.collect::<Result<_, _>>()?;
    let request = AppendEntriesRequest {
        vote: to_vote(request.ballot)?,
        prev_log_id: request.previous.map(to_log_id),
        entries,
        leader_commit: request.committed.map(to_log_id),
    };
    in_order(&request).map(|()| request)
}

/// openraft takes for granted that entries follow each other and what is before them. What did not
/// would get as far as the log, where it is a failure of this member's store.
fn in_order(request: &AppendEntriesRequest<TypeConfig>) -> Result<(), Malformed> {
    let mut before = request.prev_log_id;
    for entry in &request.entries {
        let id = entry.log_id;
        let next = before.map_or(Some(0), |before| before.index.checked_add(1));
        let is_earlier = before.is_some_and(|before| before.leader_id.term > id.leader_id.term);
        if next != Some(id.index) || is_earlier {
            return Err(Malformed::OutOfOrder(id));
        }
        before = Some(id);
    }
    match before.filter(|last| last.leader_id.term > request.vote.leader_id.term) {
        Some(last) => Err(Malformed::OutOfOrder(last)),
        None => Ok(()),
    }
}

/// openraft → wire, without what only a heartbeat's answer tells.
#[allow(clippy::needless_pass_by_value)] // an answer, handed over
pub(super) fn append_response(result: StreamAppendResult<TypeConfig>) -> proto::AppendResponse {
    use proto::append_response::Result as Wire;
    let result = match result {
        Ok(Some(id)) => Wire::Matched(log_id(id)),
        Ok(None) => Wire::MatchedNothing(true),
        Err(StreamAppendError::Conflict(id)) => Wire::Conflict(log_id(id)),
        Err(StreamAppendError::HigherVote(higher)) => Wire::Higher(vote(&higher)),
    };
    proto::AppendResponse { result: Some(result), ..Default::default() }
}

/// Wire → openraft.
pub(super) fn to_append_response(
    response: &proto::AppendResponse,
) -> Result<StreamAppendResult<TypeConfig>, Malformed> {
    use proto::append_response::Result as Wire;
    Ok(match response.result.ok_or(Malformed::Missing("result"))? {
        Wire::Matched(id) => Ok(Some(to_log_id(id))),
        Wire::MatchedNothing(_) => Ok(None),
        Wire::Conflict(id) => Err(StreamAppendError::Conflict(to_log_id(id))),
        Wire::Higher(higher) => Err(StreamAppendError::HigherVote(to_vote(Some(higher))?)),
    })
}

/// openraft → wire.
pub(super) fn vote_request(
    request: &VoteRequest<TypeConfig>,
    pre_vote: bool,
) -> proto::VoteRequest {
    proto::VoteRequest {
        ballot: Some(vote(&request.vote)),
        last: request.last_log_id.map(log_id),
        leadership_transfer: request.leadership_transfer,
        pre_vote,
    }
}

/// Wire → openraft.
pub(super) fn to_vote_request(
    request: proto::VoteRequest,
) -> Result<VoteRequest<TypeConfig>, Malformed> {
    let mut vote = VoteRequest::new(to_vote(request.ballot)?, request.last.map(to_log_id));
    vote.leadership_transfer = request.leadership_transfer;
    Ok(vote)
}

/// openraft → wire.
pub(super) fn vote_response(response: &VoteResponse<TypeConfig>) -> proto::VoteResponse {
    proto::VoteResponse {
        ballot: Some(vote(&response.vote)),
        last: response.last_log_id.map(log_id),
        granted: response.vote_granted,
    }
}

/// Wire → openraft.
pub(super) fn to_vote_response(
    response: proto::VoteResponse,
) -> Result<VoteResponse<TypeConfig>, Malformed> {
    Ok(VoteResponse {
        vote: to_vote(response.ballot)?,
        vote_granted: response.granted,
        last_log_id: response.last.map(to_log_id),
    })
}
