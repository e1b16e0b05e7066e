//! The record itself: observations in, changes of the leader out. Pure.
//!
//! ```text
//!  known leader ── it is missed, or hands over ──► going on ── a leader is known ──► last of the past
//!       ▲                                            │                                │ 3 s later
//!       └──────────── it is heard again ─────────────┘                                ▼ settled
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::ids::Term;
use crate::raft::chronicle::{Cause, Lead, LeaderChange, LeaderChanges};
use crate::raft::forward::Counts;
use crate::raft::role::Role;

/// Changes that are kept.
const KEPT: usize = 32;
/// Requests that had to wait are answered within this, or have failed: a little more than
/// `Limits::patience`.
const SETTLED: Duration = Duration::from_secs(3);
/// A leader that is heard so long after it was missed is there again; before that it may be its
/// last words.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// A leader that is silent for so long when a new term begins was missed.
const MISSED: Duration = Duration::from_millis(200);
/// How much later than who hands over a look may see that it is done.
const LATE: Duration = Duration::from_millis(500);
/// Name servers that are noted for one change.
const NAME_SERVERS: usize = 64;

/// What is to be seen at some moment.
#[derive(Debug)]
pub(super) struct Look<'a> {
    pub(super) now: Instant,
    pub(super) role: &'a Role,
    /// Whether this member won the election of its term.
    pub(super) elected: bool,
    /// The term for which it stands.
    pub(super) campaigns: Option<Term>,
    /// The last sign of a leader.
    pub(super) heard: Option<Instant>,
    pub(super) counts: Counts,
}

/// What the log is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// This member has won.
    Elected { term: Term, after: Duration },
    /// The new leader has answered its first send.
    Sent { term: Term, after: Duration },
    /// Nothing of a change that made this member the leader can change any more.
    Over(Box<LeaderChange>),
}

/// A change, and what the desk had counted when it began.
#[derive(Debug)]
struct Page {
    change: LeaderChange,
    before: Counts,
    settled: bool,
}

impl Page {
    /// What is known of the requests meanwhile, when the desk has counted this.
    fn count(&mut self, counts: Counts) {
        let change = &mut self.change;
        if change.led.is_none() {
            change.held = self.before.waiting + counts.taken.saturating_sub(self.before.taken);
        }
        change.forwarded = counts.passed.saturating_sub(self.before.passed);
        change.failed = counts.failed.saturating_sub(self.before.failed);
    }
}

/// Why this member wants to lead no more.
#[derive(Debug, Clone, Copy)]
struct Meant {
    cause: Cause,
    since: Instant,
    before: Counts,
    /// It wants it no more, but what it did may take effect until then.
    until: Option<Instant>,
}

/// The record of one member.
#[derive(Debug)]
pub(super) struct Book {
    own: String,
    leader: Option<Lead>,
    going_on: Option<Page>,
    past: VecDeque<Page>,
    meant: Option<Meant>,
    seen: u64,
    totals: BTreeMap<Cause, u64>,
}

impl Book {
    /// An empty one, of the member `own`.
    pub(super) fn new(own: &str) -> Self {
        Self {
            own: own.to_owned(),
            leader: None,
            going_on: None,
            past: VecDeque::new(),
            meant: None,
            seen: 0,
            totals: BTreeMap::new(),
        }
    }

    /// Looks once; what is new for the log.
    pub(super) fn look(&mut self, look: &Look<'_>) -> Vec<News> {
        let mut news = Vec::new();
        let term = look.role.term();
        let leader = look.role.leader(&self.own);
        let known = leader.map(|name| Lead { name: name.to_owned(), term });
        let led = self.leader.as_ref().is_some_and(|leader| leader.name == self.own);
        let is_deposed = led && known != self.leader;
        if known.is_none() || is_deposed || look.campaigns.is_some() {
            self.miss(look);
        }
        if let Some(Page { change, .. }) = &mut self.going_on {
            if look.campaigns.is_some() {
                change.campaigned.get_or_insert(look.now);
            }
            // A leader that was cut off won its election long ago.
            let is_later = change.from.as_ref().is_none_or(|from| term > from.term);
            if look.elected && is_later && change.elected.is_none() {
                change.elected = Some(look.now);
                let after = look.now.saturating_duration_since(change.lost);
                news.push(News::Elected { term, after });
            }
        }
        if let Some(known) = known {
            self.know(known, look);
        }
        if let Some(page) = &mut self.going_on {
            page.count(look.counts);
        }
        news.extend(self.settle(look.now, look.counts));
        news
    }

    /// There is no leader, or another one is wanted.
    fn miss(&mut self, look: &Look<'_>) {
        let Some(leader) = &self.leader else {
            if look.role.term() > Term(0) {
                self.notice(Cause::Started, look.now, look.now, look.counts);
            }
            return;
        };
        if leader.name == self.own {
            let meant = self.meant.filter(|meant| meant.until.is_none_or(|until| look.now < until));
            if let Some(Meant { cause, since, before, .. }) = meant {
                return self.notice(cause, since, since, before);
            }
            let is_cut_off = look.role.term() == leader.term;
            let cause = if is_cut_off { Cause::CutOff } else { Cause::Unseen };
            return self.notice(cause, look.now, look.now, look.counts);
        }
        let heard = look.heard.unwrap_or(look.now);
        let is_silent = look.now.saturating_duration_since(heard) >= MISSED;
        let cause = if is_silent { Cause::Silent } else { Cause::Unseen };
        self.notice(cause, heard, look.now, look.counts);
    }

    /// The leader is gone, for this reason, since `lost`. The first reason counts, unless that was
    /// none.
    pub(super) fn notice(&mut self, cause: Cause, lost: Instant, now: Instant, before: Counts) {
        // Whoever misses nobody has just started.
        let cause = if self.leader.is_none() { Cause::Started } else { cause };
        if let Some(Page { change, .. }) = &mut self.going_on {
            if change.cause == Cause::Unseen && cause != Cause::Unseen {
                (change.cause, change.lost) = (cause, lost.min(change.detected));
            }
            return;
        }
        self.seen += 1;
        let change = LeaderChange {
            number: self.seen,
            cause,
            from: self.leader.clone(),
            to: None,
            lost: lost.min(now),
            detected: now,
            campaigned: None,
            elected: None,
            led: None,
            registered: Vec::new(),
            sent: None,
            held: 0,
            forwarded: 0,
            failed: 0,
        };
        self.going_on = Some(Page { change, before, settled: false });
    }

    /// This one leads.
    fn know(&mut self, known: Lead, look: &Look<'_>) {
        let is_back = self.leader.as_ref() == Some(&known);
        if is_back && known.name != self.own {
            let back = |page: &Page| look.heard > Some(page.change.detected + LAST_WORDS);
            if self.going_on.as_ref().is_some_and(back) {
                self.going_on = None; // nothing came of it
            }
            return;
        }
        if is_back && self.going_on.is_none() {
            return;
        }
        // Without anything noticed: others did.
        self.notice(Cause::Unseen, look.heard.unwrap_or(look.now), look.now, look.counts);
        let Some(mut page) = self.going_on.take() else { return };
        page.count(look.counts);
        page.change.to = Some(known.clone());
        page.change.led = Some(look.now);
        *self.totals.entry(page.change.cause).or_default() += 1;
        if self.past.len() == KEPT {
            self.past.pop_front();
        }
        self.past.push_back(page);
        self.leader = Some(known);
    }

    /// Ends what is old enough.
    fn settle(&mut self, now: Instant, counts: Counts) -> Option<News> {
        let page = self.past.back_mut().filter(|page| !page.settled)?;
        page.count(counts);
        let since = now.saturating_duration_since(page.change.led?);
        if since < SETTLED && self.going_on.is_none() {
            return None;
        }
        page.settled = true;
        let is_own = page.change.to.as_ref().is_some_and(|to| to.name == self.own);
        is_own.then(|| News::Over(Box::new(page.change.clone())))
    }

    /// From now on this member wants to lead no more.
    pub(super) fn mean(&mut self, cause: Cause, now: Instant, before: Counts) {
        self.meant = Some(Meant { cause, since: now, before, until: None });
    }

    /// It leads on, or not: that is settled.
    pub(super) fn mean_no_more(&mut self, now: Instant) {
        if let Some(meant) = &mut self.meant {
            meant.until = Some(now + LATE);
        }
    }

    /// Why it wants that.
    pub(super) fn meant(&self) -> Option<Cause> {
        self.meant.filter(|meant| meant.until.is_none()).map(|meant| meant.cause)
    }

    /// A name server knows that this member leads `term`.
    pub(super) fn registered(&mut self, name_server: &str, term: Term, now: Instant) {
        let Some(page) = self.past.back_mut() else { return };
        let change = &mut page.change;
        let own = Lead { name: self.own.clone(), term };
        let is_noted = change.registered.iter().any(|(known, _)| known == name_server);
        if change.to == Some(own) && !is_noted && change.registered.len() < NAME_SERVERS {
            change.registered.push((name_server.to_owned(), now));
        }
    }

    /// Whether the new leader has not answered a send yet.
    pub(super) fn awaits_send(&self) -> bool {
        let last = self.past.back().filter(|_| self.going_on.is_none());
        last.is_some_and(|page| page.change.sent.is_none())
    }

    /// A send was answered.
    pub(super) fn sent(&mut self, now: Instant) -> Option<News> {
        let page = self.past.back_mut().filter(|page| page.change.sent.is_none())?;
        page.change.sent = Some(now);
        let to = page.change.to.as_ref()?;
        let after = now.saturating_duration_since(page.change.lost);
        (to.name == self.own).then_some(News::Sent { term: to.term, after })
    }

    /// All that is kept, when the desk has counted this.
    pub(super) fn read(&mut self, counts: Counts) -> LeaderChanges {
        let last = self.past.back_mut().filter(|page| !page.settled);
        last.into_iter().chain(&mut self.going_on).for_each(|page| page.count(counts));
        let pages = self.past.iter().chain(&self.going_on);
        LeaderChanges {
            changes: pages.map(|page| page.change.clone()).collect(),
            totals: self.totals.iter().map(|(cause, times)| (*cause, *times)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of n1, and a clock.
    struct Told {
        book: Book,
        start: Instant,
        heard: Option<u64>,
        counts: Counts,
    }

    impl Told {
        fn new() -> Self {
            let (book, counts) = (Book::new("n1"), Counts::default());
            Self { book, start: crate::clock::now(), heard: None, counts }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        /// A role: `=n0` follows, `n1` leads, empty: nobody does.
        fn look(&mut self, ms: u64, term: u64, leader: &str, stands: &str) -> Vec<News> {
            let (name, term) = (leader.trim_start_matches('=').to_owned(), Term(term));
            let role = match leader {
                "" => Role::Follower { term, leader: None },
                "n1" => Role::Leader { term },
                _ => Role::Follower { term, leader: Some(name) },
            };
            self.book.look(&Look {
                now: self.at(ms),
                role: &role,
                elected: stands == "elected",
                campaigns: (stands == "stands").then_some(term),
                heard: self.heard.map(|ms| self.at(ms)),
                counts: self.counts,
            })
        }

        fn notice(&mut self, cause: Cause, lost: u64, ms: u64) {
            self.book.notice(cause, self.at(lost), self.at(ms), self.counts);
        }

        /// n0 leads term 1, and was heard at 1000.
        fn with_leader() -> Self {
            let mut told = Self::new();
            told.look(0, 1, "=n0", "");
            told.heard = Some(1_000);
            told.look(1_010, 1, "=n0", "");
            told
        }

        /// The last change in short: cause, from, to, then ms of the steps.
        fn last(&mut self) -> String {
            let change = self.book.read(self.counts).changes.pop().unwrap();
            let name = |lead: &Option<Lead>| {
                lead.as_ref()
                    .map_or_else(|| "-".to_owned(), |lead| format!("{}@{}", lead.name, lead.term))
            };
            let ms = |at: Instant| at.saturating_duration_since(self.start).as_millis().to_string();
            let some = |at: Option<Instant>| at.map_or_else(|| "-".to_owned(), ms);
            let registered: Vec<_> = change
                .registered
                .iter()
                .map(|(server, at)| format!("{server}:{}", ms(*at)))
                .collect();
            let steps = [
                ms(change.lost),
                ms(change.detected),
                some(change.campaigned),
                some(change.elected),
                some(change.led),
                registered.join("+"),
                some(change.sent),
            ];
            let (cause, from, to) = (change.cause.name(), name(&change.from), name(&change.to));
            format!("{cause} {from} {to} {}", steps.join(" "))
        }
    }

    #[test]
    fn a_death_is_told_step_by_step_by_who_wins() {
        let mut told = Told::with_leader();
        told.notice(Cause::Ended, 1_050, 1_053);
        assert!(told.look(1_060, 1, "=n0", "").is_empty(), "its name is still known");
        told.look(1_061, 2, "", "stands");
        let news = told.look(1_070, 2, "", "elected");
        let after = Duration::from_millis(20);
        assert_eq!(news, [News::Elected { term: Term(2), after }]);
        assert!(!told.book.awaits_send());
        told.look(1_080, 2, "n1", "elected");
        assert!(told.book.awaits_send());
        for (server, ms) in [("a", 1_085), ("b", 1_090), ("a", 1_500)] {
            told.book.registered(server, Term(2), told.at(ms));
        }
        told.book.registered("c", Term(1), told.at(1_086));
        assert!(told.book.sent(told.at(1_088)).is_some());
        assert_eq!(told.book.sent(told.at(1_089)), None, "only the first counts");
        let want = "process_ended n0@1 n1@2 1050 1053 1061 1070 1080 a:1085+b:1090 1088";
        assert_eq!(told.last(), want);
        assert!(told.look(4_000, 2, "n1", "elected").is_empty());
        let news = told.look(4_080, 2, "n1", "elected");
        assert!(matches!(news.as_slice(), [News::Over(_)]), "{news:?}");
        assert!(told.look(9_000, 2, "n1", "elected").is_empty(), "it is said once");
    }

    /// What happens to a follower of n0, and how it is told.
    type Case = (&'static str, fn(&mut Told), &'static str);

    fn tell(cases: &[Case]) {
        for (case, act, want) in cases {
            let mut told = Told::with_leader();
            act(&mut told);
            assert_eq!(told.last(), *want, "{case}");
        }
    }

    #[test]
    fn causes_are_those_of_who_knows_best() {
        tell(&[
            (
                "others noticed",
                |told| drop(told.look(1_100, 2, "=n2", "")),
                "unseen n0@1 n2@2 1000 1100 - - 1100  -",
            ),
            (
                "a vote was asked for, after a silence",
                |told| {
                    told.look(1_400, 2, "", "");
                    told.look(1_450, 2, "=n2", "");
                },
                "silent n0@1 n2@2 1000 1400 - - 1450  -",
            ),
            (
                "a vote was asked for, then it found out itself",
                |told| {
                    told.look(1_100, 2, "", "");
                    told.notice(Cause::Ended, 1_090, 1_105);
                    told.look(1_150, 2, "=n2", "");
                },
                "process_ended n0@1 n2@2 1090 1100 - - 1150  -",
            ),
            (
                "the leader said that it stops",
                |told| {
                    told.notice(Cause::Stopped, 1_020, 1_020);
                    told.notice(Cause::Ended, 1_025, 1_026);
                    told.look(1_030, 2, "=n2", "");
                },
                "stopped n0@1 n2@2 1020 1020 - - 1030  -",
            ),
            (
                "it is heard again, and nothing came of it",
                |told| {
                    told.notice(Cause::Silent, 1_000, 1_400);
                    told.heard = Some(1_700);
                    told.look(1_700, 1, "=n0", "");
                    told.look(2_000, 2, "=n2", "");
                },
                "unseen n0@1 n2@2 1700 2000 - - 2000  -",
            ),
            (
                "its last words come late",
                |told| {
                    told.notice(Cause::Ended, 1_050, 1_053);
                    told.heard = Some(1_060);
                    told.look(1_300, 1, "=n0", "");
                    told.look(1_400, 2, "=n2", "");
                },
                "process_ended n0@1 n2@2 1050 1053 - - 1400  -",
            ),
        ]);
        let mut told = Told::new();
        told.notice(Cause::Silent, 10, 20);
        told.look(30, 1, "=n0", "");
        assert_eq!(told.last(), "started - n0@1 10 20 - - 30  -", "nobody was missed");
    }

    #[test]
    fn what_a_leader_wants_is_told_apart_from_what_happens_to_it() {
        tell(&[
            (
                "this member leads, and is cut off, and back",
                |told| {
                    told.look(2_000, 2, "n1", "elected");
                    told.look(3_000, 2, "", "elected");
                    told.look(3_200, 2, "n1", "elected");
                },
                "cut_off n1@2 n1@2 3000 3000 - - 3200  -",
            ),
            (
                "this member leads, and wants it no more",
                |told| {
                    told.look(2_000, 2, "n1", "elected");
                    told.book.mean(Cause::Transferred, told.at(3_000), told.counts);
                    told.look(3_010, 2, "n1", "elected");
                    told.book.mean_no_more(told.at(3_020));
                    told.look(3_030, 3, "=n2", "");
                },
                "transferred n1@2 n2@3 3000 3000 - - 3030  -",
            ),
            (
                "this member leads, wanted it no more for a while, and is cut off later",
                |told| {
                    told.look(2_000, 2, "n1", "elected");
                    told.book.mean(Cause::NoRoom, told.at(3_000), told.counts);
                    told.book.mean_no_more(told.at(3_020));
                    told.look(4_000, 2, "", "elected");
                },
                "cut_off n1@2 - 4000 4000 - - -  -",
            ),
        ]);
    }

    #[test]
    fn a_handover_of_this_member_is_told_though_the_next_leader_is_known_at_once() {
        let mut told = Told::with_leader();
        told.look(2_000, 2, "n1", "elected");
        told.book.mean(Cause::Stopped, told.at(3_000), told.counts);
        told.look(3_010, 2, "", "elected");
        told.look(3_020, 3, "=n0", "");
        assert_eq!(told.last(), "stopped n1@2 n0@3 3000 3000 - - 3020  -");
    }

    #[test]
    fn requests_are_counted_until_they_are_settled() {
        let mut told = Told::with_leader();
        told.counts = Counts { waiting: 3, taken: 100, passed: 97, failed: 2 };
        told.notice(Cause::Ended, 1_050, 1_053);
        told.counts = Counts { waiting: 8, taken: 105, passed: 97, failed: 2 };
        told.look(1_080, 2, "=n2", "");
        told.counts = Counts { waiting: 0, taken: 300, passed: 305, failed: 3 };
        told.look(4_000, 2, "=n2", "");
        told.look(4_080, 2, "=n2", "");
        told.counts = Counts { waiting: 0, taken: 900, passed: 900, failed: 9 };
        told.look(5_000, 2, "=n2", "");
        let change = told.book.read(told.counts).changes.pop().unwrap();
        assert_eq!((change.held, change.forwarded, change.failed), (8, 208, 1));
    }

    #[test]
    fn the_last_ones_are_kept_and_all_are_counted() {
        let mut told = Told::with_leader();
        for term in 2..=40 {
            told.look(term * 5_000, term, if term % 2 == 0 { "=n2" } else { "=n0" }, "");
        }
        let read = told.book.read(told.counts);
        assert_eq!(read.changes.len(), KEPT);
        assert_eq!(read.changes.first().map(|change| change.number), Some(40 - 31));
        assert_eq!(read.totals, [(Cause::Started, 1), (Cause::Unseen, 39)]);
    }
}
