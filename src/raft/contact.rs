//! Whether this member is in touch with the others, and takes what clients ask.
//!
//! A client gives up after some seconds and goes on through another member. What it asked of one
//! that is cut off, or stands still, may lie in a socket all that time, and would be done after
//! what the client did since: committed offsets went back by that. So a member that is out of touch
//! takes nothing, and its broker closes producers' connections, with what they left unread: that is
//! also what stock producers try again elsewhere, whichever way they sent (`broker::suspects`).
//!
//! ```text
//!   in touch ── no leader, or no quorum, for 1 s, and nobody answers ──► cut off
//!      ▲  │                                                                 │ somebody is heard
//!      │  └── stood still for 1 s ──────────────────────────────► afresh ◄──┘
//!      └───────────── connections are closed, or 200 ms ────────────┘
//! ```
//!
//! Ports that refuse are processes that have ended, not a cut: without a majority, but with news of
//! it, requests wait as always. Nothing relies on this for safety.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use openraft::Instant as _;
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::{Notify, watch};
use tokio::time::Interval;
use tonic::Code;

use crate::clock;
use crate::raft::ProposeError;
use crate::raft::forward::Desk;
use crate::raft::heard::Heard;
use crate::raft::network::Network;
use crate::raft::passers::Passers;
use crate::raft::pulse::Pulse;
use crate::raft::role::QUORUM_SILENCE;
use crate::raft::state_machine::StateMachine;
use crate::raft::type_config::TypeConfig;

/// Without a sign of a leader, or of a quorum, for so long, others are asked whether they are
/// there; and who did not look for so long stood still.
const SILENCE: Duration = QUORUM_SILENCE;
/// How long others may take to answer.
const ANSWER: Duration = Duration::from_millis(300);
/// How long clients' connections may take to be closed.
const CLOSING: Duration = Duration::from_millis(200);

/// What others are, when nothing is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    /// One answered, or all their ports refuse: they have ended.
    Known,
    /// None answered, and not all have ended.
    Silent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touch {
    /// Takes what it is asked.
    In,
    /// Hears nobody since then.
    CutOff(Instant),
    /// Is back since then; what comes may have lain somewhere.
    Afresh(Instant),
}

/// What a look finds, by how long nothing was heard: what to be next. Pure.
fn next(
    before: Touch,
    stood_still: bool,
    silence: Duration,
    others: Others,
    now: Instant,
) -> Touch {
    let is_cut = silence >= SILENCE && others == Others::Silent;
    match before {
        Touch::CutOff(_) if is_cut => before,
        _ if is_cut => Touch::CutOff(now.checked_sub(silence).unwrap_or(now)),
        Touch::CutOff(_) => Touch::Afresh(now),
        _ if stood_still => Touch::Afresh(now),
        Touch::In | Touch::Afresh(_) => before,
    }
}

/// Whether this member is in touch. Cloning shares it.
#[derive(Clone)]
pub(super) struct Contact(Arc<Shared>);

struct Shared {
    pulse: Pulse,
    start: Instant,
    looked_ms: AtomicU64,
    /// Whether there was no other member at the last look.
    is_alone: AtomicBool,
    /// A [`Touch`]: its kind in two bits, above them since when, ms from the start. No lock, for
    /// each proposal asks.
    touch: AtomicU64,
    /// Counts the times when connections have to be closed.
    breaks: watch::Sender<u64>,
    /// They were, after the last of these.
    closed: Notify,
}

impl Contact {
    pub(super) fn new(now: Instant) -> Self {
        let (pulse, touch) = (Pulse::default(), AtomicU64::new(0));
        let (breaks, closed) = (watch::Sender::new(0), Notify::new());
        let (looked_ms, is_alone) = (AtomicU64::new(0), AtomicBool::new(false));
        Self(Arc::new(Shared { pulse, start: now, looked_ms, is_alone, touch, breaks, closed }))
    }

    /// Shows that the loop turns.
    pub(super) fn pulse(&self) -> &Pulse {
        &self.0.pulse
    }

    fn touch(&self) -> Touch {
        let bits = self.0.touch.load(Ordering::Acquire);
        let since = self.0.start + Duration::from_millis(bits >> 2);
        match bits & 3 {
            0 => Touch::In,
            1 => Touch::CutOff(since),
            _ => Touch::Afresh(since),
        }
    }

    fn set(&self, touch: Touch) {
        let ms = |at: Instant| at.saturating_duration_since(self.0.start).as_millis() as u64;
        let bits = match touch {
            Touch::In => 0,
            Touch::CutOff(since) => ms(since) << 2 | 1,
            Touch::Afresh(since) => ms(since) << 2 | 2,
        };
        self.0.touch.store(bits, Ordering::Release);
    }

    /// Changes whenever clients' connections have to be closed.
    pub(super) fn breaks(&self) -> watch::Receiver<u64> {
        self.0.breaks.subscribe()
    }

    /// They are.
    pub(super) fn closed(&self) {
        self.0.closed.notify_one();
    }

    /// Whether this member hears nobody.
    pub(super) fn is_cut_off(&self) -> bool {
        matches!(self.touch(), Touch::CutOff(_))
    }

    /// Why nothing is taken now, if so. Who is alone misses nobody, however long it stood still.
    pub(super) fn refusal(&self) -> Option<ProposeError> {
        let now = clock::now();
        let still = self.still(now);
        let since = match self.touch() {
            Touch::In if self.0.is_alone.load(Ordering::Relaxed) => return None,
            Touch::In => (still >= SILENCE).then_some(still)?,
            Touch::CutOff(since) | Touch::Afresh(since) => now.saturating_duration_since(since),
        };
        Some(ProposeError::OutOfTouch { since })
    }

    /// How long nobody looked.
    fn still(&self, now: Instant) -> Duration {
        let looked = Duration::from_millis(self.0.looked_ms.load(Ordering::Relaxed));
        now.saturating_duration_since(self.0.start).saturating_sub(looked)
    }

    fn look_at(&self, now: Instant) {
        let since = now.saturating_duration_since(self.0.start).as_millis();
        self.0.looked_ms.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Looks whether its member is in touch.
pub(super) struct Looking {
    pub(super) contact: Contact,
    pub(super) raft: Raft<TypeConfig, StateMachine>,
    pub(super) network: Network,
    pub(super) heard: Arc<Heard>,
    pub(super) desk: Desk,
    pub(super) passers: Passers,
}

impl Looking {
    /// Looks at each of `looks`, as long as it is polled.
    pub(super) async fn run(self, mut looks: Interval) {
        loop {
            looks.tick().await;
            let now = clock::now();
            let is_alone = self.is_alone();
            self.contact.0.is_alone.store(is_alone, Ordering::Relaxed);
            let stood_still = self.contact.still(now) >= SILENCE && !is_alone;
            let silence = self.silence(now);
            let others = if silence < SILENCE { Others::Known } else { self.others().await };
            let before = self.contact.touch();
            let touch = next(before, stood_still, silence, others, clock::now());
            if touch != before {
                self.turn(touch);
            }
            self.contact.look_at(clock::now());
            self.note_silent();
            if let Touch::Afresh(_) = touch {
                // Or who closes connections is gone, and they with it.
                let _ = tokio::time::timeout(CLOSING, self.contact.0.closed.notified()).await;
                self.contact.set(Touch::In);
            }
        }
    }

    /// A leader's followers that do not answer.
    fn note_silent(&self) {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let heartbeats = metrics.heartbeat.unwrap_or_default();
        let is_silent = |id: &u64| {
            let last = heartbeats.get(id).and_then(Option::as_ref);
            last.is_some_and(|at| at.elapsed() >= SILENCE)
        };
        let silent = membership.nodes().filter(|(id, _)| is_silent(id));
        self.passers.are_silent(silent.map(|(_, member)| member.name.clone()).collect());
    }

    fn is_alone(&self) -> bool {
        self.network.others().is_empty()
    }

    /// How long neither a leader nor, if this member was elected, a quorum was heard.
    fn silence(&self, now: Instant) -> Duration {
        let elected = self.raft.server_metrics().borrow_watched().state.is_leader();
        let acked = self.raft.data_metrics().borrow_watched().last_quorum_acked;
        let of_quorum = acked.filter(|_| elected).map(|at| at.elapsed());
        of_quorum.or_else(|| self.heard.silence_if_any(now)).unwrap_or_default()
    }

    async fn others(&self) -> Others {
        let names = self.network.others();
        let calls = names.iter().map(|name| async {
            let asked = self.network.state(name, ANSWER);
            let refused = tokio::time::timeout(ANSWER, self.network.is_refused(name));
            match tokio::join!(asked, refused) {
                (Ok(_), _) => Some(true),
                (Err(status), _) if status.code() == Code::FailedPrecondition => Some(true),
                (Err(_), Ok(true)) => Some(false),
                (Err(_), _) => None,
            }
        });
        let found = join_all(calls).await;
        let answers = found.contains(&Some(true));
        if answers || !found.contains(&None) { Others::Known } else { Others::Silent }
    }

    fn turn(&self, touch: Touch) {
        self.contact.set(touch);
        match touch {
            Touch::CutOff(since) => {
                let since = clock::now().saturating_duration_since(since);
                tracing::warn!(
                    silent_ms = since.as_millis(),
                    "no other member answers: clients are sent away until one is heard"
                );
                self.desk.send_away(&ProposeError::OutOfTouch { since });
            }
            Touch::Afresh(_) => {
                tracing::info!("in touch again: clients' connections are closed once more");
            }
            Touch::In => {}
        }
        // What a break before this one was told is void.
        let _ = self.contact.0.closed.notified().now_or_never();
        self.contact.0.breaks.send_modify(|number| *number += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hears_nobody_is_cut_off_and_begins_afresh_when_somebody_is_heard() {
        let now = clock::now();
        let (short, long) = (Duration::from_millis(999), Duration::from_millis(1500));
        let since = now.checked_sub(long).unwrap();
        let (inside, cut, afresh) = (Touch::In, Touch::CutOff(since), Touch::Afresh(now));
        let rows = [
            ("hears its leader", inside, false, short, Others::Known, inside),
            ("an election takes long", inside, false, long, Others::Known, inside),
            ("is cut off", inside, false, long, Others::Silent, cut),
            ("still is", cut, false, long + short, Others::Silent, cut),
            ("hears others, no leader yet", cut, false, long + short, Others::Known, afresh),
            ("hears its leader again", cut, false, short, Others::Known, afresh),
            ("stood still", inside, true, long, Others::Known, afresh),
            ("stood still, heard already", inside, true, short, Others::Known, afresh),
            ("stood still, and is cut off", inside, true, long, Others::Silent, cut),
            ("cut off at once again", afresh, false, long, Others::Silent, cut),
        ];
        for (what, before, stood_still, silence, others, want) in rows {
            assert_eq!(next(before, stood_still, silence, others, now), want, "{what}");
        }
    }

    #[test]
    fn nothing_is_taken_while_out_of_touch_nor_before_the_first_look_after_a_standstill() {
        let now = clock::now();
        let contact = Contact::new(now);
        assert!(contact.refusal().is_none());
        for touch in [Touch::CutOff(now), Touch::Afresh(now)] {
            contact.set(touch);
            assert!(matches!(contact.refusal(), Some(ProposeError::OutOfTouch { .. })));
        }
        let stood = Contact::new(now.checked_sub(SILENCE).unwrap());
        assert!(matches!(stood.refusal(), Some(ProposeError::OutOfTouch { .. })));
        stood.look_at(now);
        assert!(stood.refusal().is_none());
        let alone = Contact::new(now.checked_sub(SILENCE).unwrap());
        alone.0.is_alone.store(true, Ordering::Relaxed);
        assert!(alone.refusal().is_none(), "nobody else would take it");
    }
}
