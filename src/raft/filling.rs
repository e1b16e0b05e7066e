//! An entry in the making: which of the proposals that wait are part of it, and what becomes of the
//! others.

use smallvec::SmallVec;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::ids::Term;
use crate::protocol::message::Draft;
use crate::raft::ProposeError;
use crate::raft::command::{Command, FirstTry, Origin, Passed};
use crate::raft::duplicates::Looking;
use crate::raft::proposal::{Done, Proposal, Receipt};
#[cfg(test)]
use crate::raft::simulation::planted::{Bug, is_planted};
use crate::raft::type_config::Batch;
use crate::raft::under_way;
use crate::raft::waiting::Share;

/// Proposals of an entry that are answered one by one.
pub(super) const FEW: usize = 2;

/// A proposal on its way, with its share of the byte budget.
pub(super) struct Admitted {
    /// What is asked, and by whom.
    pub(super) proposal: Proposal,
    /// What it weighs in admission.
    pub(super) bytes: usize,
    /// That much of the budget.
    pub(super) permit: OwnedSemaphorePermit,
    /// When it came.
    pub(super) since: Instant,
    /// By whom, if by another member.
    pub(super) passed: Option<PassedOn>,
    /// It has waited for the outcome of its first try.
    pub(super) waited: bool,
}

/// What is known of a proposal that another member passed on.
#[derive(Debug, Clone, Copy)]
pub(super) struct PassedOn {
    /// Whose it is.
    pub origin: Origin,
    /// It is appended in this term or never.
    pub term: Term,
    /// It is appended by then or never; `None`: whenever it is.
    pub until: Option<Instant>,
}

/// What becomes of a proposal whose turn it is.
pub(super) enum Verdict {
    /// It is part of the entry.
    New,
    /// Its messages are stored.
    Stored(FirstTry),
    /// Its messages are in an entry that is not settled.
    UnderWay,
    /// What is known of its member's other proposals may have changed: that one passes it on again.
    Stale,
    /// Its client has given up.
    Late,
}

impl Admitted {
    /// What becomes of it in an entry that has the messages `forming` so far.
    pub(super) fn judge(
        &self,
        known: &Looking<'_>,
        under_way: &under_way::Entries,
        forming: &[Draft],
    ) -> Verdict {
        if self.is_late() {
            return Verdict::Late;
        }
        let is_other = self.passed.is_some_and(|passed| passed.term != known.term());
        if is_other {
            return Verdict::Stale;
        }
        let Proposal { messages, commands, .. } = &self.proposal;
        let is_keyed = messages.first().is_some_and(|draft| draft.unique_hash.is_some());
        if is_keyed && commands.is_empty() && known.is_on() {
            if under_way.has(messages, forming) {
                return Verdict::UnderWay;
            }
            if let Some(first) = known.first_try(messages) {
                return Verdict::Stored(first);
            }
        }
        if self.passed.is_some() && self.waited { Verdict::Stale } else { Verdict::New }
    }

    fn is_late(&self) -> bool {
        let until = self.passed.and_then(|passed| passed.until);
        #[cfg(test)]
        let until = until.filter(|_| !is_planted(Bug::AppendsLate));
        until.is_some_and(|until| until < Instant::now())
    }
}

/// One entry's content and everything that is settled when it is answered.
pub(super) struct Filled {
    /// When its oldest proposal was admitted.
    pub(super) since: Instant,
    /// Its content.
    pub(super) batch: Batch,
    /// Who waits for it.
    pub(super) shares: Vec<Share>,
    /// Their shares of the byte budget.
    pub(super) permits: Vec<OwnedSemaphorePermit>,
    /// What the entry says of others' proposals.
    passed: Vec<Passed>,
    /// Who is answered without it.
    repeats: Vec<(Done, FirstTry)>,
    refused: Vec<(Done, ProposeError)>,
}

impl Filled {
    /// Nothing yet, of an entry that is appended in `term` or never.
    pub(super) fn new(term: Term) -> Self {
        let (since, batch) = (Instant::now(), Batch { term: Some(term), ..Batch::default() });
        let (shares, permits, passed, repeats, refused) = Default::default();
        Self { since, batch, shares, permits, passed, repeats, refused }
    }

    /// Makes room for so many proposals of one message each.
    pub(super) fn reserve(&mut self, proposals: usize) {
        self.batch.messages.reserve(proposals);
        self.shares.reserve(proposals);
        self.permits.reserve(proposals);
    }

    /// Adds a proposal.
    pub(super) fn add(&mut self, admitted: Admitted) {
        let Proposal { messages, commands, done } = admitted.proposal;
        let (message_count, command_count) = (messages.len(), commands.len());
        let until = admitted.passed.and_then(|passed| passed.until);
        self.batch.until = self.batch.until.into_iter().chain(until).min();
        let origin = admitted.passed.map(|passed| passed.origin);
        self.passed.extend(origin.map(|origin| Passed {
            origin,
            first_message: self.batch.messages.len() as u32, // an entry has less than 4 GiB
            messages: message_count as u32,
            first_command: self.batch.commands.len() as u32,
            commands: command_count as u32,
            first_try: None,
        }));
        self.shares.push(Share {
            messages: message_count,
            commands: command_count,
            since: admitted.since,
            origin,
            done: Some(done),
        });
        self.since = self.since.min(admitted.since);
        self.batch.messages.extend::<SmallVec<[Draft; 1]>>(messages);
        self.batch.commands.extend(commands);
        self.permits.push(admitted.permit);
    }

    /// Adds that a proposal repeats what is stored; only who passed it on hears of that by the
    /// entry.
    pub(super) fn add_repeat(&mut self, admitted: Admitted, first: FirstTry) {
        let Some(passed) = admitted.passed else {
            return self.repeats.push((admitted.proposal.done, first));
        };
        let proposal = Proposal { messages: SmallVec::new(), ..admitted.proposal };
        // It stores nothing, whenever that is.
        let passed = Some(PassedOn { until: None, ..passed });
        self.add(Admitted { proposal, passed, ..admitted });
        if let Some(last) = self.passed.last_mut() {
            last.first_try = Some(first);
        }
    }

    /// Adds that a proposal is refused.
    pub(super) fn refuse(&mut self, admitted: Admitted, error: ProposeError) {
        self.refused.push((admitted.proposal.done, error));
    }

    /// Answers who is not of the entry. `None` if nobody is.
    pub(super) fn finish(mut self) -> Option<Self> {
        let few = self.repeats.len() <= FEW;
        for (done, first) in std::mem::take(&mut self.repeats) {
            done(Ok(Receipt::of_repeat(&first, few)));
        }
        for (done, error) in std::mem::take(&mut self.refused) {
            done(Err(error));
        }
        let passed = std::mem::take(&mut self.passed);
        if !passed.is_empty() {
            self.batch.commands.push(Command::Passed(passed));
        }
        (!self.shares.is_empty()).then_some(self)
    }
}
