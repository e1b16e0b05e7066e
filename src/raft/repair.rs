//! Damage in this member's log, repaired with what other members have
//! ([`crate::store::repair`] says what may be written).
//!
//! | who meets the damage | meanwhile |
//! |---|---|
//! | a start | it waits, for [`Timing::repair`] at most; without success it is refused |
//! | apply, replication | they wait, all else goes on |
//! | a new leader's first append | nothing goes on: after 10 s it takes no part any more |
//! | a pull | it is answered when the entry is whole again, or told why it is not |
//!
//! While somebody may have the entry who does not answer, those who cannot do without it go on
//! asking. Once all have answered that they do not, the member takes no part any more: as a leader
//! it is replaced by one whose log is whole. Nothing is cut in any case. If all of them have purged
//! what is damaged, a start begins over as a new member ([`crate::store::start_over`]).
//!
//! [`Timing::repair`]: crate::raft::Timing

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::clock;
use crate::ids::{EntryIndex, PhysicalOffset};
use crate::raft::applied::AppliedState;
use crate::raft::checkpointer::aside;
use crate::raft::network::Network;
#[cfg(test)]
use crate::raft::simulation::planted::{Bug, is_planted};
use crate::raft::wire;
use crate::raft::wire_codec::DAMAGED;
use crate::store::repair::{Gap, RepairError, Repaired, Spares, Unfit};
use crate::store::{self, CommitLog, Files};

const ASK_TIMEOUT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(200);
/// Between two lines about damage that nobody could repair so far.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// How long a pull waits for the repair of what it wants, from when it asked.
pub(super) const READER_PATIENCE: Duration = Duration::from_secs(2);
/// Readers that may wait for a repair.
const WAITING_MAX: usize = 256;

/// Told when what a reader wanted is whole again, or why it is not.
pub type RepairDone = Box<dyn FnOnce(Result<(), String>) + Send>;

/// A reader that met damage.
pub(super) struct Wanted {
    /// Where.
    pub position: PhysicalOffset,
    /// Until when it waits.
    pub deadline: Instant,
    /// What it waits with.
    pub done: RepairDone,
}

/// Asks other members. Cloning shares it.
#[derive(Clone)]
pub(super) struct Repairer(Arc<Shared>);

struct Shared {
    network: Network,
    files: Arc<dyn Files>,
    segment_bytes: u64,
    /// One at a time: who waited looks first whether it is done.
    turn: tokio::sync::Mutex<()>,
    ending: CancellationToken,
}

/// Writes to the files of a log that is not open.
type Put = fn(&Spares) -> Result<Repaired, RepairError>;

/// What is repaired.
enum Target<'a, P> {
    /// A log that is not open yet: this writes to its files.
    Files(&'a P),
    /// A log in use; up to this entry, if any, all is committed here.
    Log(&'a CommitLog, Option<EntryIndex>),
}

impl<P> Clone for Target<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Target<'_, P> {}

/// Why a member did not help.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Refusal {
    /// It may later.
    NotYet(String),
    /// It does not have the entry, unless this member is the one it gets it from.
    Lacks(String),
    /// Its log starts behind it.
    Purged(String),
    /// It never will.
    Never(String),
}

/// Whom a member asked in vain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tried(Vec<(String, Refusal)>);

impl Tried {
    fn all(&self, is: impl Fn(&Refusal) -> bool) -> bool {
        self.0.iter().all(|(_, refusal)| is(refusal))
    }

    /// Whether the log of every other member starts behind the damage, or is damaged there.
    fn is_hopeless(&self) -> bool {
        self.all(|refusal| matches!(refusal, Refusal::Purged(_) | Refusal::Never(_)))
    }

    /// Whether all others say that they have purged it: nobody needs it any more.
    pub(super) fn is_outlived(&self) -> bool {
        !self.0.is_empty() && self.all(|refusal| matches!(refusal, Refusal::Purged(_)))
    }

    fn nobody_has_it(&self) -> bool {
        self.all(|refusal| !matches!(refusal, Refusal::NotYet(_)))
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("there is no other member to repair it from");
        }
        f.write_str("no other member could repair it: ")?;
        for (at, (name, refusal)) in self.0.iter().enumerate() {
            let (Refusal::NotYet(why)
            | Refusal::Lacks(why)
            | Refusal::Purged(why)
            | Refusal::Never(why)) = refusal;
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{name} ({why})")?;
        }
        Ok(())
    }
}

impl Repairer {
    /// Asks by `network`; `ending` says that this member stops.
    pub(super) fn new(
        network: Network,
        files: &Arc<dyn Files>,
        segment_bytes: u64,
        ending: CancellationToken,
    ) -> Self {
        let (files, turn) = (Arc::clone(files), tokio::sync::Mutex::default());
        Self(Arc::new(Shared { network, files, segment_bytes, turn, ending }))
    }

    /// What leads to the other members.
    pub(super) fn network(&self) -> &Network {
        &self.0.network
    }

    /// Repairs a log that is not open yet; `put` writes to its files.
    pub(super) async fn at_start(
        &self,
        gap: &Gap,
        patience: Duration,
        put: impl Fn(&Spares) -> Result<Repaired, RepairError>,
    ) -> Result<(), Tried> {
        let start = clock::now();
        loop {
            let Err(tried) = self.round(gap, Target::Files(&put)).await else { return Ok(()) };
            if tried.is_hopeless() || start.elapsed() >= patience {
                return Err(tried);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Repairs an entry of a log in use; gives the damage back if nobody has that entry.
    pub(super) async fn repair(
        &self,
        log: &CommitLog,
        applied: &AppliedState,
        damage: store::Error,
    ) -> Result<(), store::Error> {
        self.repair_within(log, applied, damage, Duration::MAX).await
    }

    /// The same for who cannot wait longer than `patience`, and a last round of questions.
    pub(super) async fn repair_within(
        &self,
        log: &CommitLog,
        applied: &AppliedState,
        damage: store::Error,
        patience: Duration,
    ) -> Result<(), store::Error> {
        let (mut told, start) = (None, Instant::now());
        loop {
            let Some(gap) = log.gap(&damage) else { return Err(damage) };
            #[cfg(test)]
            if is_planted(Bug::CutsDamage) {
                return log.truncate_from(gap.index);
            }
            let tried = {
                let _turn = self.0.turn.lock().await;
                let is_whole = log.entries(gap.index, gap.index.next(), 0);
                if is_whole.is_ok_and(|entries| !entries.is_empty()) {
                    return Ok(());
                }
                let settled = applied.progress().last.map(|last| last.index);
                let target = Target::<Put>::Log(log, settled);
                let Err(tried) = self.round(&gap, target).await else { return Ok(()) };
                tried
            };
            let is_late = start.elapsed() >= patience;
            if tried.nobody_has_it() || is_late || log.check().is_err() {
                tracing::error!(%damage, %tried, "the log is damaged");
                return Err(damage);
            }
            if told.is_none_or(|at: std::time::Instant| at.elapsed() >= TELL_AGAIN) {
                tracing::warn!(%damage, %tried, "the log is damaged; asking on");
                told = Some(clock::now());
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.0.ending.cancelled() => return Err(damage),
            }
        }
    }

    /// Asks each of the others once, until one has helped.
    async fn round<P>(&self, gap: &Gap, target: Target<'_, P>) -> Result<(), Tried>
    where
        P: Fn(&Spares) -> Result<Repaired, RepairError>,
    {
        let mut tried = Tried::default();
        for name in self.0.network.all_others() {
            let repaired = match self.ask(&name, gap).await {
                Ok(spares) => self.put(spares, target).await,
                Err(refusal) => Err(refusal),
            };
            match repaired {
                Ok(Repaired { entries, bytes }) => {
                    let (position, first) = (gap.position, gap.index);
                    tracing::warn!(
                        %position, entry = %first, entries, bytes, from = name,
                        "repaired damage in the log with what another member has; check the disk"
                    );
                    return Ok(());
                }
                Err(refusal) => tried.0.push((name, refusal)),
            }
        }
        Err(tried)
    }

    async fn ask(&self, name: &str, gap: &Gap) -> Result<Spares, Refusal> {
        let answer = self.0.network.entries_after(name, gap.previous, ASK_TIMEOUT).await;
        let answer = answer.map_err(|status| refusal(&status))?;
        let (entries, committed) =
            wire::to_entries(answer).map_err(|error| Refusal::Never(error.to_string()))?;
        let spares = Spares::new(gap, entries, committed, self.0.segment_bytes);
        spares.map_err(|why| unfit(&RepairError::Unfit(why)))
    }

    /// Writes them. A disk that has lost something may take its time for that: this thread goes on
    /// with whatever else there is.
    async fn put<P>(&self, spares: Spares, target: Target<'_, P>) -> Result<Repaired, Refusal>
    where
        P: Fn(&Spares) -> Result<Repaired, RepairError>,
    {
        let put = match target {
            Target::Files(put) => put(&spares),
            Target::Log(log, settled) => {
                let log = log.clone();
                let done = aside(&*self.0.files, move || log.repair(&spares, settled)).await;
                done.ok_or_else(|| Refusal::NotYet("no thread writes it".to_owned()))?
            }
        };
        put.map_err(|error| unfit(&error))
    }

    /// Repairs for readers that met damage, until the member stops.
    pub(super) async fn serve(
        self,
        log: CommitLog,
        applied: AppliedState,
        mut inbox: mpsc::Receiver<Wanted>,
    ) {
        loop {
            let wanted = tokio::select! {
                wanted = inbox.recv() => wanted,
                () = self.0.ending.cancelled() => None,
            };
            let Some(Wanted { position, deadline, done }) = wanted else { break };
            // Who waited behind others until it was too late still hears of what they had repaired.
            let whole = timeout_at(deadline, self.make_whole(&log, &applied, position));
            done(whole.await.unwrap_or_else(|_| Err("the others do not answer yet".to_owned())));
        }
        inbox.close();
        while let Some(Wanted { done, .. }) = inbox.recv().await {
            done(Err("this member is shutting down".to_owned()));
        }
    }

    /// Repairs the entry that holds `position`, and what is damaged on the way to it. Goes on for
    /// as long as somebody may help who does not answer; may be dropped at any time.
    pub(super) async fn make_whole(
        &self,
        log: &CommitLog,
        applied: &AppliedState,
        position: PhysicalOffset,
    ) -> Result<(), String> {
        while let Err(damage) = log.check_at(position) {
            self.repair(log, applied, damage).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// Where readers ask for repairs, and where [`Repairer::serve`] hears of it.
pub(super) fn requests() -> (mpsc::Sender<Wanted>, mpsc::Receiver<Wanted>) {
    mpsc::channel(WAITING_MAX)
}

fn unfit(error: &RepairError) -> Refusal {
    match error {
        RepairError::Unfit(Unfit::Unsure { .. } | Unfit::Beside { .. }) => {
            Refusal::NotYet(error.to_string())
        }
        RepairError::Unfit(_) | RepairError::Store(_) => Refusal::Never(error.to_string()),
    }
}

fn refusal(status: &Status) -> Refusal {
    let why = status.message().to_owned();
    match status.code() {
        Code::NotFound => Refusal::Lacks(why),
        Code::OutOfRange => Refusal::Purged(why),
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded | DAMAGED => {
            Refusal::NotYet(why)
        }
        _ => Refusal::Never(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_answer_may_have_it_and_who_has_lost_it_never_will() {
        let tried = |codes: [Code; 2]| {
            let name = |code| (format!("n{code:?}"), refusal(&Status::new(code, "why")));
            Tried(codes.map(name).to_vec())
        };
        let rows = [
            ([Code::Unavailable, Code::OutOfRange], false, false),
            ([Code::DeadlineExceeded, Code::NotFound], false, false),
            ([DAMAGED, Code::OutOfRange], false, false),
            ([Code::NotFound, Code::DataLoss], false, true),
            ([Code::OutOfRange, Code::DataLoss], true, true),
            ([Code::Unimplemented, Code::FailedPrecondition], true, true),
        ];
        for (codes, hopeless, nobody) in rows {
            let tried = tried(codes);
            assert_eq!((tried.is_hopeless(), tried.nobody_has_it()), (hopeless, nobody), "{tried}");
        }
        assert!(!tried([Code::OutOfRange, Code::DataLoss]).is_outlived());
        assert!(tried([Code::OutOfRange, Code::OutOfRange]).is_outlived());
        assert!(!Tried::default().is_outlived());
        let text = tried([Code::OutOfRange, Code::NotFound]).to_string();
        assert!(text.ends_with("repair it: nOutOfRange (why), nNotFound (why)"), "{text}");
        assert!(Tried::default().is_hopeless(), "a group of one");
    }
}
