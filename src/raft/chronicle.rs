//! Changes of the leader as this member saw them: why, when each step was done, and what clients'
//! requests had to do meanwhile. So a group can say after the fact what a failover was made of.
//!
//! ```text
//!  who notices ──► Chronicle ──► book (pure): the last 32 changes ──► operators, metrics
//!  the role's looks, succession, pre-votes,       └──► lines of the log
//!  transfers, name servers told, first answer
//! ```
//!
//! In memory only: a process that ended cannot tell what it saw, its peers can. A send costs one
//! relaxed load here, except for the first one after a change.

mod book;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::clock;
use crate::ids::Term;
use crate::raft::forward::{Counts, Desk};
use crate::raft::heard::Heard;
use crate::raft::role::Role;

use book::{Book, Look, News};

/// Why a group got another leader, as far as one member knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// There was none that this member knew of: it, or the group, has just started.
    Started,
    /// The leader's process ended: its port refused calls.
    Ended,
    /// The leader fell silent for longer than an election timeout.
    Silent,
    /// The leader was told to stop, and handed over.
    Stopped,
    /// An operator had leadership transferred.
    Transferred,
    /// Another member is preferred (`preferredLeaderId`).
    Preferred,
    /// The leader's disk had no room.
    NoRoom,
    /// The leader's disk took seconds for a sync.
    SlowDisk,
    /// The thread of the leader's client connections hung.
    Hanging,
    /// This member led, and no quorum answered it.
    CutOff,
    /// Others noticed: this member heard of the new leader only.
    Unseen,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Started,
        Self::Ended,
        Self::Silent,
        Self::Stopped,
        Self::Transferred,
        Self::Preferred,
        Self::NoRoom,
        Self::SlowDisk,
        Self::Hanging,
        Self::CutOff,
        Self::Unseen,
    ];

    /// As operators and metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Ended => "process_ended",
            Self::Silent => "silent",
            Self::Stopped => "stopped",
            Self::Transferred => "transferred",
            Self::Preferred => "preferred",
            Self::NoRoom => "no_room",
            Self::SlowDisk => "slow_disk",
            Self::Hanging => "hanging",
            Self::CutOff => "cut_off",
            Self::Unseen => "unseen",
        }
    }

    /// As a leader tells its peers when it hands over.
    pub(super) fn to_wire(self) -> u32 {
        match self {
            Self::Stopped => 1,
            Self::Transferred => 2,
            Self::Preferred => 3,
            Self::NoRoom => 4,
            Self::SlowDisk => 5,
            Self::Hanging => 6,
            Self::Started | Self::Ended | Self::Silent | Self::CutOff | Self::Unseen => 0,
        }
    }

    /// What a leader told; what this build does not know is unseen.
    pub(super) fn of_wire(number: u32) -> Self {
        let told = Self::ALL.into_iter().find(|cause| cause.to_wire() == number && number > 0);
        told.unwrap_or(Self::Unseen)
    }
}

/// Who led, or leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lead {
    /// Name of the member.
    pub name: String,
    /// Its term.
    pub term: Term,
}

/// One change of the leader, as one member saw it. Steps that it did not see, or that have not come
/// yet, are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderChange {
    /// Counts the changes that this process saw, from 1.
    pub number: u64,
    /// Why, as far as this member knows.
    pub cause: Cause,
    /// Who led before, if this member knew anybody.
    pub from: Option<Lead>,
    /// Who leads; the same again if a leader came back.
    pub to: Option<Lead>,
    /// The last sign of the former leader: its last call, the end of its streams, or since when it
    /// held requests to hand over.
    pub lost: Instant,
    /// When this member knew that there has to be another leader.
    pub detected: Instant,
    /// When this member stood for election, if it did.
    pub campaigned: Option<Instant>,
    /// When it had a majority of votes.
    pub elected: Option<Instant>,
    /// When it took writes, its first entry committed and applied; on others: when they knew that.
    pub led: Option<Instant>,
    /// Name servers that were told of the new leader, by it.
    pub registered: Vec<(String, Instant)>,
    /// The first send that was answered here by way of the new leader.
    pub sent: Option<Instant>,
    /// Requests that had to wait here until there was a leader.
    pub held: u64,
    /// Requests that this member passed on to the new leader, within 3 s from when it led.
    pub forwarded: u64,
    /// Requests that failed here, from the detection until then.
    pub failed: u64,
}

impl LeaderChange {
    /// For how long there was nobody who took writes, as this member saw it.
    pub fn leaderless(&self) -> Option<Duration> {
        Some(self.led?.saturating_duration_since(self.lost))
    }
}

/// What a member saw of its group's leaders.
#[derive(Debug, Clone, Default)]
pub struct LeaderChanges {
    /// The last 32, oldest first. The last one may be going on.
    pub changes: Vec<LeaderChange>,
    /// How many there were of each cause since this process started.
    pub totals: Vec<(Cause, u64)>,
}

/// Takes observations from all over the member. Cloning shares it.
#[derive(Clone)]
pub(super) struct Chronicle(Arc<Shared>);

struct Shared {
    own: String,
    heard: Arc<Heard>,
    desk: Desk,
    /// The first answer of a new leader is still to come.
    awaits: AtomicBool,
    book: Mutex<Book>,
}

impl Chronicle {
    /// An empty one of the member `own`, which hears of leaders by `heard` and keeps requests at
    /// `desk`.
    pub(super) fn new(own: &str, heard: Arc<Heard>, desk: Desk) -> Self {
        let (book, awaits) = (Mutex::new(Book::new(own)), AtomicBool::new(false));
        Self(Arc::new(Shared { own: own.to_owned(), heard, desk, awaits, book }))
    }

    /// The role as it is now; whether this member was `elected`, and the term that it `campaigns`
    /// for.
    pub(super) fn look(&self, role: &Role, elected: bool, campaigns: Option<Term>) {
        let (now, counts) = (clock::now(), self.0.desk.counts());
        let heard = self.0.heard.last();
        let look = Look { now, role, elected, campaigns, heard, counts };
        let mut book = self.0.book.lock();
        let news = book.look(&look);
        self.0.awaits.store(book.awaits_send(), Ordering::Relaxed);
        drop(book);
        news.iter().for_each(|news| self.tell(news));
    }

    /// The leader's streams ended at `ended`, and its port refuses calls.
    pub(super) fn found_dead(&self, ended: Instant) {
        self.notice(Cause::Ended, ended);
    }

    /// This member misses its leader, and asks for votes.
    pub(super) fn asks(&self) {
        let now = clock::now();
        self.notice(Cause::Silent, self.0.heard.last().unwrap_or(now));
    }

    /// The leader told its peers that it hands over.
    pub(super) fn hands_over(&self, cause: Cause) {
        self.notice(cause, clock::now());
    }

    fn notice(&self, cause: Cause, lost: Instant) {
        self.0.book.lock().notice(cause, lost, clock::now(), self.0.desk.counts());
    }

    /// As long as the result lives, a loss of leadership is this member's own will.
    pub(super) fn means(&self, cause: Cause) -> Meant {
        self.0.book.lock().mean(cause, clock::now(), self.0.desk.counts());
        Meant(self.clone())
    }

    /// Why this member is handing over.
    pub(super) fn meant(&self) -> Cause {
        self.0.book.lock().meant().unwrap_or(Cause::Unseen)
    }

    /// A name server was told that this member leads `term`.
    pub(super) fn registered(&self, name_server: &str, term: Term) {
        self.0.book.lock().registered(name_server, term, clock::now());
    }

    /// A client's send was answered.
    pub(super) fn sent(&self) {
        if self.0.awaits.load(Ordering::Relaxed) {
            self.first_sent();
        }
    }

    #[cold]
    fn first_sent(&self) {
        self.0.awaits.store(false, Ordering::Relaxed);
        let news = self.0.book.lock().sent(clock::now());
        news.iter().for_each(|news| self.tell(news));
    }

    /// What was seen so far.
    pub(super) fn read(&self) -> LeaderChanges {
        self.0.book.lock().read(self.0.desk.counts())
    }

    /// What the desk has counted.
    pub(super) fn counts(&self) -> Counts {
        self.0.desk.counts()
    }

    fn tell(&self, news: &News) {
        let member = self.0.own.as_str();
        match news {
            News::Elected { term, after } => {
                tracing::info!(member, term = term.0, ?after, "elected, its first entry goes out");
            }
            News::Sent { term, after } => {
                tracing::info!(member, term = term.0, ?after, "first send answered");
            }
            News::Over(change) => tell_change(member, change),
        }
    }
}

/// The one line that has it all, of the member that leads; it comes when nothing can change any
/// more.
fn tell_change(member: &str, change: &LeaderChange) {
    let (Some(to), Some(leaderless)) = (&change.to, change.leaderless()) else { return };
    let after = |at: Option<Instant>| {
        at.map_or_else(|| "-".to_owned(), |at| ms(at.saturating_duration_since(change.lost)))
    };
    let from = change.from.as_ref().map_or("nobody", |from| from.name.as_str());
    let registered = change.registered.iter().map(|(_, at)| *at).max();
    tracing::info!(
        member,
        term = to.term.0,
        from,
        cause = change.cause.name(),
        leaderless = ms(leaderless),
        detected = after(Some(change.detected)),
        campaigned = after(change.campaigned),
        elected = after(change.elected),
        registered = after(registered),
        first_send = after(change.sent),
        held = change.held,
        failed = change.failed,
        "a change of the leader is complete"
    );
}

fn ms(duration: Duration) -> String {
    format!("{}.{} ms", duration.as_millis(), duration.as_micros() / 100 % 10)
}

/// While one lives, this member wants to lead no more.
pub(super) struct Meant(Chronicle);

impl Drop for Meant {
    fn drop(&mut self) {
        self.0.0.book.lock().mean_no_more(clock::now());
    }
}
