//! Requests that only say how far the log is committed wait a moment for one that has to go anyway.
//!
//! openraft sends the new commit index as soon as there is one: after each entry another request
//! and another answer for each follower, with a wake-up at both ends. But any later request
//! carries the same news, and openraft counts answers by log id, not one by one. So the news is
//! held back, and goes alone only when nothing else went for [`PATIENCE`].
//!
//! Nobody waits for it: a follower learns a little later what it may serve to its readers, and a
//! new leader commits all that it has whatever it was told. Only who has passed something on waits
//! to read it in the log ([`crate::raft::forward`]): it hears at once, for as long as it does so.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use openraft::raft::AppendEntriesRequest;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use crate::raft::type_config::TypeConfig;

/// How long a follower may be behind with what it knows to be committed.
const PATIENCE: Duration = Duration::from_millis(3);

/// How long a follower is told at once after it has passed something on.
const EAGER: Duration = Duration::from_millis(50);

/// Followers that are told at once, by name, and until when. Cloning shares it.
#[derive(Clone, Default)]
pub(super) struct Eager(Arc<Mutex<BTreeMap<String, Instant>>>);

impl Eager {
    /// The member `name` has passed something on.
    pub(super) fn waits(&self, name: &str) {
        self.0.lock().insert(name.to_owned(), Instant::now() + EAGER);
    }

    fn is(&self, name: &str) -> bool {
        self.0.lock().get(name).is_some_and(|until| Instant::now() < *until)
    }
}

/// The requests of one append stream, those without entries held back.
pub(super) struct CommitNews<S> {
    peer: Arc<str>,
    eager: Eager,
    requests: S,
    ended: bool,
    held: Option<AppendEntriesRequest<TypeConfig>>,
    /// When `held` goes.
    due: Pin<Box<Sleep>>,
}

impl<S> CommitNews<S> {
    /// Those that go to `peer`.
    pub(super) fn new(requests: S, peer: Arc<str>, eager: Eager) -> Self {
        let due = Box::pin(tokio::time::sleep(PATIENCE));
        Self { peer, eager, requests, ended: false, held: None, due }
    }
}

impl<S> Stream for CommitNews<S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    type Item = AppendEntriesRequest<TypeConfig>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        while !this.ended {
            match this.requests.poll_next_unpin(context) {
                Poll::Ready(Some(request))
                    if request.entries.is_empty() && !this.eager.is(&this.peer) =>
                {
                    if this.held.is_none() {
                        this.due.as_mut().reset(Instant::now() + PATIENCE);
                    }
                    this.held = Some(request);
                }
                Poll::Ready(Some(request)) => {
                    this.held = None; // what it says, this one says too
                    return Poll::Ready(Some(request));
                }
                // A request that is alone in its stream asks where the follower stands.
                Poll::Ready(None) => this.ended = true,
                Poll::Pending => {
                    if this.held.is_some() {
                        ready!(this.due.as_mut().poll(context));
                        return Poll::Ready(this.held.take());
                    }
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(this.held.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{EntryIndex, StoreId, Term};
    use crate::raft::type_config::{LogEntry, Payload, RaftLogId, ballot, log_id};
    use crate::store::EntryId;
    use futures_util::FutureExt;
    use openraft::entry::RaftEntry;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    fn at(index: u64) -> RaftLogId {
        log_id(EntryId { index: EntryIndex(index), term: Term(1) })
    }

    fn request(entry: Option<u64>, committed: u64) -> AppendEntriesRequest<TypeConfig> {
        AppendEntriesRequest {
            vote: ballot(Term(1), StoreId(1), true),
            prev_log_id: None,
            entries: entry
                .map(|index| LogEntry::new(at(index), Payload::Blank))
                .into_iter()
                .collect(),
            leader_commit: Some(at(committed)),
        }
    }

    type Requests = ReceiverStream<AppendEntriesRequest<TypeConfig>>;

    fn stream() -> (mpsc::Sender<AppendEntriesRequest<TypeConfig>>, CommitNews<Requests>) {
        let (send, requests) = mpsc::channel(9);
        (send, CommitNews::new(ReceiverStream::new(requests), "n1".into(), Eager::default()))
    }

    fn committed(request: Option<AppendEntriesRequest<TypeConfig>>) -> Option<(usize, u64)> {
        request.and_then(|r| Some((r.entries.len(), r.leader_commit?.index)))
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_carries_the_news_that_waited() {
        let (send, mut news) = stream();
        send.try_send(request(None, 1)).unwrap();
        assert!(news.next().now_or_never().is_none(), "held back");
        send.try_send(request(Some(3), 2)).unwrap();
        assert_eq!(committed(news.next().await), Some((1, 2)));
        drop(send);
        assert_eq!(committed(news.next().await), None, "nothing is said twice");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_news_hears_them_at_once() {
        let (send, mut news) = stream();
        news.eager.waits("n1");
        send.try_send(request(None, 1)).unwrap();
        assert_eq!(committed(news.next().now_or_never().flatten()), Some((0, 1)));
        tokio::time::advance(EAGER).await;
        send.try_send(request(None, 2)).unwrap();
        assert!(news.next().now_or_never().is_none(), "it has passed on nothing lately");
    }

    #[tokio::test(start_paused = true)]
    async fn news_go_alone_in_time_and_newer_ones_do_not_delay_them() {
        let (send, mut news) = stream();
        let started = Instant::now();
        send.try_send(request(None, 1)).unwrap();
        assert!(news.next().now_or_never().is_none());
        tokio::time::advance(PATIENCE / 2).await;
        send.try_send(request(None, 2)).unwrap();
        assert_eq!(committed(news.next().await), Some((0, 2)));
        assert!(
            started.elapsed() <= PATIENCE + Duration::from_millis(1),
            "{:?}",
            started.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_request_of_a_stream_goes_at_once() {
        let (send, mut news) = stream();
        send.try_send(request(None, 1)).unwrap();
        drop(send);
        assert_eq!(committed(news.next().now_or_never().unwrap()), Some((0, 1)));
        assert_eq!(committed(news.next().now_or_never().unwrap()), None);
    }
}
