//! A member that acknowledged from memory (`ASYNC_FLUSH`) when its machine stopped may lack entries
//! that it vouched for. With its vote, somebody could lead who lacks them too, and they would be
//! lost although others have them. So it neither votes nor campaigns, until it learns enough:
//!
//! | what it learns from the others | then |
//! |---|---|
//! | it has all that the leader of its own term has | no doubt: that leader was elected without it |
//! | all answered, and nobody has more than it has | no doubt: more cannot be found |
//! | all answered, and somebody has more | it votes for who has at least that |
//! | somebody is missing who may have more | it waits |
//!
//! When the machines of all members stopped, the one with the longest log leads once all are back.
//! A member whose store is lost counts as back when its name answers with another store.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver as _;
use parking_lot::Mutex;

use crate::raft::checkpointer;
use crate::raft::network::Network;
#[cfg(test)]
use crate::raft::simulation::planted::{Bug, is_planted};
use crate::raft::state_machine::StateMachine;
use crate::raft::type_config::{RaftLogId, TypeConfig, entry_id, log_id};
use crate::raft::wire::{self, proto};
use crate::store::{CommitLog, Files, StoreFile};

const ASK_TIMEOUT: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(100);

/// Whether this member may take part in elections. Cloning shares it.
#[derive(Clone)]
pub(super) struct Doubt(Arc<Mutex<State>>);

struct State {
    knows: Knows,
    /// Whom it waits for.
    missing: Missing,
    /// Votes refused so far.
    refused: u64,
    /// Other voters in doubt, as they said last, by store.
    others: BTreeSet<u64>,
}

/// What a member knows about its own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knows {
    /// Nothing is missing that can be found.
    Whole,
    /// Nobody has more than this, the last entry of the longest log of all.
    Longest(Option<RaftLogId>),
    /// It has not heard from all.
    TooLittle,
}

impl Doubt {
    /// Of a member that is in doubt, or not.
    pub(super) fn new(in_doubt: bool) -> Self {
        let knows = if in_doubt { Knows::TooLittle } else { Knows::Whole };
        let (missing, others) = Default::default();
        Self(Arc::new(Mutex::new(State { knows, missing, refused: 0, others })))
    }

    /// Whether it may campaign, now or at a leader's word.
    pub(super) fn is_over(&self) -> bool {
        self.0.lock().knows == Knows::Whole
    }

    /// Whether it may vote, or say that it would, for a candidate whose log ends with `last`.
    pub(super) fn may_vote(&self, last: Option<RaftLogId>) -> bool {
        #[cfg(test)]
        if is_planted(Bug::NeverDoubts) {
            return true;
        }
        let mut state = self.0.lock();
        let may = match state.knows {
            Knows::Whole => true,
            Knows::Longest(longest) => last >= longest,
            Knows::TooLittle => false,
        };
        state.refused += u64::from(!may);
        may
    }

    /// Votes refused so far.
    pub(super) fn refused(&self) -> u64 {
        self.0.lock().refused
    }

    /// A doubt that nothing ends.
    #[cfg(test)]
    pub(super) fn begin(&self) {
        self.0.lock().knows = Knows::TooLittle;
    }

    /// What another voter says of itself.
    pub(super) fn heard(&self, voter: u64, in_doubt: bool) {
        let others = &mut self.0.lock().others;
        match in_doubt {
            true => others.insert(voter),
            false => others.remove(&voter),
        };
    }

    /// What any but these voters said is forgotten; a member that follows has none.
    pub(super) fn look_at_others(&self, voters: &[(u64, String)]) {
        self.0.lock().others.retain(|id| voters.iter().any(|(voter, _)| voter == id));
    }

    /// Whether another voter is in doubt, as far as it said: then it does not campaign.
    pub(super) fn is_of(&self, voter: u64) -> bool {
        self.0.lock().others.contains(&voter)
    }

    /// Why it takes no part in elections, if so, for people.
    pub(super) fn waits_for(&self) -> Option<String> {
        let state = self.0.lock();
        let what = match state.knows {
            Knows::Whole => return None,
            Knows::Longest(_) => "the member with the longest log to lead".to_owned(),
            Knows::TooLittle => format!("a leader, or for {}", state.missing),
        };
        Some(format!("this member may lack what it vouched for: waiting for {what}"))
    }

    /// Takes in what was learned, and returns what it waits for, if that has changed. What was
    /// learned stays true: entries of former lives come from nowhere else later.
    fn learn(&self, knows: Knows, missing: Missing) -> Option<String> {
        let mut state = self.0.lock();
        let is_more = knows != Knows::TooLittle || state.knows == Knows::TooLittle;
        if !is_more || (state.knows == knows && state.missing == missing) {
            return None;
        }
        (state.knows, state.missing) = (knows, missing);
        drop(state);
        self.waits_for()
    }
}

/// A member as it answered, or as this one knows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    /// Its term.
    term: u64,
    /// Whether it leads in that term.
    leads: bool,
    /// The last entry of its log.
    last: Option<RaftLogId>,
}

/// Who has not answered, and why.
#[derive(Debug, Default, PartialEq, Eq)]
struct Missing(Vec<(String, String)>);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the others");
        }
        let names: Vec<String> =
            self.0.iter().map(|(name, why)| format!("{name} ({why})")).collect();
        f.write_str(&names.join(", "))
    }
}

/// Decides what a member learns from the others' answers; `holds` says whether an entry is in its
/// log. Pure.
fn judge(
    own: Standing,
    holds: impl Fn(RaftLogId) -> bool,
    answers: &BTreeMap<String, Result<Standing, String>>,
) -> (Knows, Missing) {
    let others = answers.values().flatten();
    let longest = others.clone().map(|other| other.last).max().flatten();
    let missing: Vec<_> = answers
        .iter()
        .filter_map(|(name, answer)| Some((name.clone(), answer.as_ref().err()?.clone())))
        .collect();
    let has_what_leader_has = others
        .filter(|other| other.leads && other.term == own.term)
        .any(|leader| leader.last.is_some_and(&holds));
    let has_most = missing.is_empty() && own.last >= longest;
    let knows = if own.leads || has_what_leader_has || has_most {
        Knows::Whole
    } else if missing.is_empty() {
        Knows::Longest(longest)
    } else {
        Knows::TooLittle
    };
    (knows, Missing(missing))
}

/// Asks the others until the doubt is over.
pub(super) struct Resolver {
    /// This member's name.
    pub own: String,
    /// How to ask them.
    pub network: Network,
    /// The group.
    pub raft: Raft<TypeConfig, StateMachine>,
    /// What is in doubt.
    pub log: CommitLog,
    /// Where the doubt is noted.
    pub stamp: Arc<StoreFile>,
    /// The disk that holds it.
    pub files: Arc<dyn Files>,
    /// What others go by.
    pub doubt: Doubt,
}

impl Resolver {
    /// Runs until the doubt is over. Elections are switched off until then.
    pub(super) async fn run(self) {
        tracing::warn!(
            member = self.own,
            "the machine stopped while this member acknowledged from memory \
             (flushDiskType=ASYNC_FLUSH), so it may lack what it vouched for: it takes no part in \
             elections until it has what the leader has, or all members answer"
        );
        loop {
            let answers = self.ask().await;
            // What a busy leader had when it answered is here a moment later.
            tokio::time::sleep(PAUSE).await;
            let (knows, missing) = judge(self.standing(), |id| self.holds(id), &answers);
            if let Some(text) = self.doubt.learn(knows, missing) {
                tracing::info!("{text}");
            }
            if self.doubt.is_over() {
                return self.settle().await;
            }
        }
    }

    async fn ask(&self) -> BTreeMap<String, Result<Standing, String>> {
        let asked = self.network.other_voters().into_iter().map(|name| async move {
            let answer = self.network.state(&name, ASK_TIMEOUT).await;
            let answer = answer.inspect(|answer| self.network.hear(answer));
            let standing =
                answer.as_ref().map(standing).map_err(|status| status.message().to_owned());
            (name, standing)
        });
        let mut answers: BTreeMap<_, _> = join_all(asked).await.into_iter().collect();
        // What this member forgot may be that others joined: those that did not tell of it.
        for name in self.network.other_voters() {
            answers.entry(name).or_insert_with(|| Err("not asked yet".to_owned()));
        }
        answers
    }

    fn standing(&self) -> Standing {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let last = self.log.last().map(log_id);
        Standing { term: metrics.current_term, leads: metrics.state.is_leader(), last }
    }

    fn holds(&self, id: RaftLogId) -> bool {
        self.log.id_of(entry_id(&id).index).map(log_id) == Some(id)
    }

    async fn settle(self) {
        let stamp = Arc::clone(&self.stamp);
        let noted = checkpointer::aside(&*self.files, move || stamp.settle_doubt()).await;
        if let Some(Err(error)) = noted {
            tracing::warn!(%error, "could not note that nothing is missing");
        }
        self.raft.runtime_config().elect(true);
        let refused = self.doubt.refused();
        tracing::info!(member = self.own, refused, "lacks nothing, takes part in elections");
    }
}

fn standing(answer: &proto::StateResponse) -> Standing {
    // Of the same moment as its term, or of one before: never of a later one.
    let leads = answer.leader == answer.member;
    Standing { term: answer.term, leads, last: answer.last.map(wire::to_log_id) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{EntryIndex, Term};
    use crate::store::EntryId;

    fn entry(term: u64, index: u64) -> RaftLogId {
        let (index, term) = (EntryIndex(index), Term(term));
        log_id(EntryId { index, term })
    }

    #[test]
    fn a_member_knows_enough_when_it_has_what_a_leader_has_or_has_heard_from_all() {
        use Knows::{Longest, TooLittle, Whole};
        let has =
            |term, index| Ok(Standing { term: 5, leads: false, last: Some(entry(term, index)) });
        let leader = |term, last| Ok(Standing { term, leads: true, last: Some(last) });
        let silent = || Err("silent".to_owned());
        let empty = Ok(Standing { term: 0, leads: false, last: None });
        // This member is in term 5 and its log ends with 4.20; 3.10 is in it, 3.11 is not.
        let rows = [
            ("has what the leader has", [leader(5, entry(4, 20)), silent()], Whole),
            ("the leader has more", [leader(5, entry(5, 21)), silent()], TooLittle),
            ("another's former leader", [leader(4, entry(3, 10)), silent()], TooLittle),
            ("the leader's log went on elsewhere", [leader(5, entry(3, 11)), silent()], TooLittle),
            ("one is missing", [has(4, 20), silent()], TooLittle),
            ("all are there, none has more", [has(4, 20), has(3, 30)], Whole),
            ("all are there, one has more", [has(4, 21), has(3, 30)], Longest(Some(entry(4, 21)))),
            ("a later term is more", [has(5, 3), has(4, 21)], Longest(Some(entry(5, 3)))),
            ("one has lost its store", [empty, has(4, 19)], Whole),
        ];
        let own = Standing { term: 5, leads: false, last: Some(entry(4, 20)) };
        let holds = |id| [entry(3, 10), entry(4, 20)].contains(&id);
        for (what, [n1, n2], want) in rows {
            let answers = BTreeMap::from([("n1".to_owned(), n1), ("n2".to_owned(), n2)]);
            assert_eq!(judge(own, holds, &answers).0, want, "{what}");
        }
        let alone = judge(own, holds, &BTreeMap::new());
        assert_eq!(alone.0, Whole, "alone");
        let answers = BTreeMap::from([("n1".to_owned(), silent()), ("n2".to_owned(), silent())]);
        let elected = judge(Standing { leads: true, ..own }, holds, &answers);
        assert_eq!(elected.0, Whole, "elected");
        assert_eq!(elected.1.to_string(), "n1 (silent), n2 (silent)");
    }

    #[test]
    fn who_may_get_its_vote() {
        let doubt = Doubt::new(true);
        assert!(!doubt.may_vote(Some(entry(9, 99))) && !doubt.is_over());
        let missing = || Missing(vec![("n1".to_owned(), "silent".to_owned())]);
        let waits = doubt.learn(Knows::TooLittle, missing()).unwrap();
        assert!(waits.ends_with("waiting for a leader, or for n1 (silent)"), "{waits}");
        assert_eq!(doubt.learn(Knows::TooLittle, missing()), None, "said once");
        let longest = Knows::Longest(Some(entry(4, 20)));
        assert!(doubt.learn(longest, Missing::default()).is_some());
        assert_eq!(doubt.learn(Knows::TooLittle, missing()), None, "it knows more already");
        assert!(!doubt.may_vote(Some(entry(4, 19))) && !doubt.may_vote(None));
        assert!(doubt.may_vote(Some(entry(4, 20))) && doubt.may_vote(Some(entry(5, 1))));
        assert_eq!((doubt.refused(), doubt.is_over()), (3, false));
        assert_eq!(doubt.learn(Knows::Whole, missing()), None);
        assert!(doubt.may_vote(None) && doubt.is_over() && doubt.waits_for().is_none());
        assert!(Doubt::new(false).may_vote(None));
    }

    #[test]
    fn others_are_in_doubt_as_they_said_last() {
        let doubt = Doubt::new(false);
        doubt.heard(7, true);
        assert!(doubt.is_of(7) && !doubt.is_of(8) && doubt.is_over());
        doubt.heard(7, false);
        assert!(!doubt.is_of(7));
    }
}
