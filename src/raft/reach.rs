//! Whom this member reaches of the others, and what they say of themselves: asked when an operator
//! wants to know what is wrong with a group.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::ids::{StoreId, Term};
use crate::raft::network::{Network, is_of_a_lost_connection};

/// Questions that wait for their turn; each takes twice [`ANSWER`] at most.
const WAITING: usize = 4;
/// How long a peer may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// What came of calling one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Its name.
    pub peer: String,
    /// Where it was called.
    pub address: String,
    /// Its answer.
    pub answer: Result<PeerAnswer, Unreached>,
}

/// What a peer says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAnswer {
    /// From the question to the answer.
    pub took: Duration,
    /// Its store.
    pub store_id: StoreId,
    /// The term that it is in.
    pub term: Term,
    /// Whom it knows to lead.
    pub leader: Option<String>,
}

/// Why a peer did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreached {
    /// Its machine is there, and nobody listens at its port.
    Refused,
    /// Nothing came back in time: a machine that is down, or a network that drops.
    Silent,
    /// It answered that it will not talk with this member, and why.
    Declined(String),
    /// Anything else.
    Failed(String),
}

pub(super) type Asked = oneshot::Sender<Vec<Reach>>;

/// Where it is asked for.
pub(super) fn requests() -> (mpsc::Sender<Asked>, mpsc::Receiver<Asked>) {
    mpsc::channel(WAITING)
}

/// Answers as long as its member lives: calls all other members.
pub(super) async fn run(network: Network, mut asked: mpsc::Receiver<Asked>) {
    while let Some(answer) = asked.recv().await {
        let others = network.others();
        let calls = others.iter().map(|name| call(&network, name, network.address(name)));
        // Whoever asked may have gone.
        let _ = answer.send(join_all(calls).await);
    }
}

async fn call(network: &Network, peer: &str, address: String) -> Reach {
    let mut began = Instant::now();
    let mut state = network.state(peer, ANSWER).await;
    if matches!(&state, Err(status) if is_of_a_lost_connection(status.code())) {
        began = Instant::now();
        state = network.state(peer, ANSWER).await;
    }
    let answer = match state {
        Ok(state) => Ok(PeerAnswer {
            took: began.elapsed(),
            store_id: StoreId(state.store_id),
            term: Term(state.term),
            leader: Some(state.leader).filter(|leader| !leader.is_empty()),
        }),
        Err(status) => {
            let is_refused = status.code() == Code::Unavailable && network.is_refused(peer).await;
            Err(unreached(&status, is_refused))
        }
    };
    Reach { peer: peer.to_owned(), address, answer }
}

/// What a failed call means; `is_refused` if its port takes none. Pure.
fn unreached(status: &Status, is_refused: bool) -> Unreached {
    match status.code() {
        _ if is_refused => Unreached::Refused,
        Code::DeadlineExceeded | Code::Cancelled => Unreached::Silent,
        Code::FailedPrecondition => Unreached::Declined(status.message().to_owned()),
        Code::Unavailable if status.message().contains("timed out") => Unreached::Silent,
        _ => Unreached::Failed(format!("{}: {}", status.code(), status.message())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_does_not_answer_is_told_apart_from_one_that_will_not() {
        let text = "dLegerPeers differs: …";
        let rows = [
            (Status::unavailable("tcp connect error"), true, Unreached::Refused),
            (Status::deadline_exceeded("no answer within 1s"), false, Unreached::Silent),
            (Status::unavailable("operation timed out"), false, Unreached::Silent),
            (Status::failed_precondition(text), false, Unreached::Declined(text.to_owned())),
            (
                Status::unavailable("no such host"),
                false,
                Unreached::Failed(format!("{}: no such host", Code::Unavailable)),
            ),
        ];
        for (status, is_refused, want) in rows {
            assert_eq!(unreached(&status, is_refused), want);
        }
    }
}
