//! The last resort: a majority is lost for good, and a survivor starts the group anew, alone.
//!
//! Nothing of that is safe by itself. What the others had and this member has not is gone, and should
//! they come back, there are two groups of one name. So it is an operator's decision: the first
//! command only says what is known and what may be lost, and with what it can be confirmed; that
//! confirmation is worth nothing once the log has moved on.
//!
//! ```text
//!  facts ─► decide ─► refused: enough others answer, a leader is known, nothing is here
//!                 ├─► report, and its confirmation
//!                 └─► plan ─► lineage, unfinished ─► vote ─► membership: itself ─► finished
//! ```
//!
//! Here is what is decided, pure; what is done is in `acting`.

mod acting;

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{EntryIndex, StoreId, Term};
use crate::raft::lineage::time;
use crate::raft::membership::{self, Member, Wish};
use crate::raft::type_config::Membership;
use crate::store::entry::crc32c;
use crate::store::{EntryId, Unfinished};

pub use acting::recover_alone;

/// What came of it, in words for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// Nothing was changed, for the reason given.
    Refused(String),
    /// Nothing was changed: what would be, and how that is confirmed.
    Unconfirmed(String),
    /// This member is the group now, as soon as it is started.
    Done(String),
}

/// What is known.
#[derive(Debug, Clone)]
struct Facts {
    member: String,
    store_id: StoreId,
    /// As this member's log has it, committed or not.
    membership: Membership,
    others: Vec<Other>,
    last: EntryId,
    /// When the last message in the log was stored, by its leader's clock.
    stored_ms: Option<i64>,
    /// The last entry that is known to be committed.
    committed: Option<EntryIndex>,
    /// The greatest that it voted in or has an entry of.
    term: Term,
    /// It may have forgotten entries when its machine stopped.
    in_doubt: bool,
    /// A start anew that was not finished.
    unfinished: Option<Unfinished>,
    now_ms: i64,
}

/// Another member, in the log or in `dLegerPeers`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Other {
    name: String,
    address: String,
    answer: Answer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    /// It is running.
    There { store_id: StoreId, last: Option<EntryId>, leader: Option<String> },
    /// It is running and will not talk with this one.
    Declined(String),
    /// Somebody else is at its address, or it is of another group by now.
    Stranger(String),
    /// It could not be asked.
    Silent(String),
}

/// What follows from the facts.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Refuse(String),
    Report(String),
    Act(Plan),
}

/// What is to be written.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    unfinished: Unfinished,
    membership: Membership,
}

/// Decides what is done with the confirmation `given`; empty: none was.
fn decide(facts: &Facts, given: &str) -> Decision {
    let (code, term) = match &facts.unfinished {
        Some(Unfinished { code, term }) => (code.clone(), *term),
        None => (code(facts), Term(facts.term.0.saturating_add(Term::AHEAD_WHEN_STARTED_ANEW))),
    };
    let refused = refusal(facts).filter(|_| facts.unfinished.is_none());
    if let Some(why) = refused {
        return Decision::Refuse(format!("{why}\nNothing was changed."));
    }
    if given.is_empty() {
        return Decision::Report(report(facts, &code));
    }
    if given != code {
        return Decision::Refuse(format!(
            "--recover-alone={given} does not confirm this: it is of another store, or of what \
             this one was before\nNothing was changed. --recover-alone without a value says what \
             is there now."
        ));
    }
    match alone(facts) {
        Some(membership) => {
            Decision::Act(Plan { unfinished: Unfinished { code, term }, membership })
        }
        None => Decision::Refuse(format!("{}\nNothing was changed.", not_of_the_group(facts))),
    }
}

/// What a confirmation has to say: whose log it was about, and where that ended.
fn code(facts: &Facts) -> String {
    let numbers = [facts.store_id.0, facts.last.index.0, facts.last.term.0];
    let bytes: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
    format!("{:08x}", crc32c(&bytes))
}

/// The membership of this member only, with the broker id that clients and routes know.
fn alone(facts: &Facts) -> Option<Membership> {
    let members = membership::members(&facts.membership);
    let ids = membership::broker_ids(&members);
    let own = members.get(&facts.store_id.0)?;
    let broker_id = ids.get(&own.name).copied();
    let own = Member { wish: Wish::Vote, broker_id, ..own.clone() };
    let id = facts.store_id.0;
    Membership::new(vec![BTreeSet::from([id])], BTreeMap::from([(id, own)])).ok()
}

/// Why the group is not to be started anew, if so.
fn refusal(facts: &Facts) -> Option<String> {
    let member = &facts.member;
    if facts.membership.get_node(&facts.store_id.0).is_none() {
        return Some(not_of_the_group(facts));
    }
    let led = facts.others.iter().find_map(|other| match &other.answer {
        Answer::There { leader: Some(leader), .. } => Some((&other.name, leader)),
        Answer::There { leader: None, .. }
        | Answer::Declined(_)
        | Answer::Stranger(_)
        | Answer::Silent(_) => None,
    });
    if let Some((name, leader)) = led {
        return Some(format!(
            "{name} answers, and {leader} leads the group: start {member} without --recover-alone, \
             it follows"
        ));
    }
    let would_vote = |id: &u64| *id == facts.store_id.0 || is_running(facts, *id);
    let has_majority = |voters: &BTreeSet<u64>| {
        voters.iter().filter(|id| would_vote(id)).count() * 2 > voters.len()
    };
    if !facts.membership.get_joint_config().iter().all(has_majority) {
        return None;
    }
    let running = facts.membership.voter_ids().filter(|id| is_running(facts, *id));
    let names: Vec<&str> = running.filter_map(|id| name_of(facts, id)).collect();
    Some(match names.as_slice() {
        [] => format!("{member} is the only member that votes: start it without --recover-alone"),
        [name] => format!(
            "{name} answers: with {member} that is a majority; start {member} without --recover-alone"
        ),
        names => format!(
            "{} answer, and are a majority with {member}: start {member} without --recover-alone",
            names.join(" and ")
        ),
    })
}

fn not_of_the_group(facts: &Facts) -> String {
    let names: BTreeSet<&str> =
        facts.membership.nodes().map(|(_, member)| member.name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    format!(
        "the log of {} says that the group has the members {}, and this store {} is of none of \
         them: it cannot go on for them",
        facts.member,
        names.join(", "),
        facts.store_id
    )
}

fn name_of(facts: &Facts, id: u64) -> Option<&str> {
    facts.membership.nodes().find(|(node, _)| **node == id).map(|(_, m)| m.name.as_str())
}

/// Whether a store's member is running, with this store or without saying which.
fn is_running(facts: &Facts, id: u64) -> bool {
    let answer = facts.others.iter().find(|other| Some(other.name.as_str()) == name_of(facts, id));
    match answer.map(|other| &other.answer) {
        Some(Answer::There { store_id, .. }) => store_id.0 == id,
        Some(Answer::Declined(_)) => true,
        Some(Answer::Stranger(_) | Answer::Silent(_)) | None => false,
    }
}

/// What an operator has to know, and what to run.
fn report(facts: &Facts, code: &str) -> String {
    let member = &facts.member;
    let mut lines = Vec::new();
    if facts.unfinished.is_some() {
        lines.push(format!("{member} was told to start its group anew, alone: that is half done."));
        lines.push("It starts only once it is finished:".to_owned());
        lines.push(format!("  the same command with --recover-alone={code}"));
        return lines.join("\n");
    }
    lines.push(format!("{member} (store {}) would start its group anew, alone.", facts.store_id));
    lines.push(String::new());
    lines.push("The group, as its log has it:".to_owned());
    lines.push(format!("  {member}  this member, last entry {}", entry(facts.last)));
    lines.extend(facts.others.iter().map(|other| format!("  {}", of_other(facts, other))));
    lines.push(String::new());
    lines.extend(what_is_there(facts));
    lines.push(String::new());
    lines.extend(what_follows(facts));
    lines.push(String::new());
    lines.push(
        "Can another member be brought back, store and all? Then do that instead. One with a \
                later last entry has more: recover that one."
            .to_owned(),
    );
    lines.push("Nothing was changed. To go on:".to_owned());
    lines.push(format!("  the same command with --recover-alone={code}"));
    lines.join("\n")
}

fn entry(id: EntryId) -> String {
    format!("{} of term {}", id.index, id.term)
}

fn of_other(facts: &Facts, other: &Other) -> String {
    let in_log = facts.membership.nodes().any(|(_, member)| member.name == other.name);
    let votes = facts.membership.voter_ids().any(|id| name_of(facts, id) == Some(&other.name));
    let part = match (in_log, votes) {
        (_, true) => "",
        (true, false) => ", does not vote",
        (false, false) => ", in dLegerPeers only",
    };
    let answer = match &other.answer {
        Answer::Silent(why) => format!("does not answer ({why})"),
        Answer::Declined(why) => format!("refuses: {why}"),
        Answer::Stranger(why) => format!("somebody else is there: {why}"),
        Answer::There { last: None, .. } => "answers, and has no entries".to_owned(),
        Answer::There { last: Some(last), store_id, .. } => {
            let known = facts.membership.get_node(&store_id.0).is_some();
            let store = if known { "" } else { ", in another store than the log has" };
            format!("answers, last entry {}{store}", entry(*last))
        }
    };
    format!("{} at {}{part}  {answer}", other.name, other.address)
}

fn what_is_there(facts: &Facts) -> Vec<String> {
    let mut lines = Vec::new();
    lines.push("What may be lost:".to_owned());
    let since = facts.stored_ms.map_or_else(String::new, |ms| {
        let seconds = facts.now_ms.saturating_sub(ms).max(0) / 1000;
        format!("; its last message was stored at {}, {seconds} s ago", time(ms))
    });
    lines.push(format!(
        "  all that was acknowledged after entry {} and that only others have{since}",
        entry(facts.last)
    ));
    if facts.in_doubt {
        lines.push(
            "  and what was in the memory of this machine when it stopped: flushDiskType is \
             ASYNC_FLUSH, so entries before that may be missing, too"
                .to_owned(),
        );
    }
    let after = facts.committed.map_or(0, |committed| committed.next().0);
    let unsure = facts.last.index.next().0.saturating_sub(after);
    lines.push("What may be there although nobody was told so:".to_owned());
    lines.push(match (unsure, facts.committed) {
        (0, _) => "  nothing: all entries are known to be committed".to_owned(),
        (_, Some(committed)) => format!(
            "  the {unsure} entries after {committed}, the last that is known to be committed: \
             they become committed"
        ),
        (_, None) => format!("  any of the {unsure} entries: none is known to be committed"),
    });
    lines
}

fn what_follows(facts: &Facts) -> Vec<String> {
    let term = facts.term.0.saturating_add(Term::AHEAD_WHEN_STARTED_ANEW);
    vec![
        "What happens to the others:".to_owned(),
        "  their stores stay as they are; the new group refuses them, and they it".to_owned(),
        format!(
            "  if they come back as a majority they are a group of their own, of which name \
                 servers tell nobody before its term reaches {term}: stop them"
        ),
        "  to take one in: move its store away, start it, run rmq-admin memberAdd".to_owned(),
    ]
}

#[cfg(test)]
mod tests;
