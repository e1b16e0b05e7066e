//! Finding out, and writing: one store, that nobody else has open.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::{Answer, Decision, Facts, Other, Plan, Recovered, decide};
use crate::clock;
use crate::ids::{EntryIndex, QueueOffset, StoreId, Term};
use crate::protocol::message::records;
use crate::raft::dial::{Links, Tcp};
use crate::raft::error::StorageError;
use crate::raft::first_start::NoAnswer;
use crate::raft::group::GroupOptions;
use crate::raft::introduction::is_of_stranger;
use crate::raft::lineage::time;
use crate::raft::network::Network;
use crate::raft::open::{self, Opened};
use crate::raft::type_config::{LogEntry, Payload, Stored, StoredMembership, entry_id};
use crate::raft::{StartError, membership, wire};
use crate::store::{self, Body, EntryId, Files, Lineage, RealFiles, Vote};

/// How long another member may take to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// Entries are read by so many bytes, or one.
const READ_BYTES: u64 = 4 << 20;

/// Says what would be lost if this member started its group anew, alone; does it if `confirmation`
/// is what was said then. The member must not run; it does not afterwards, either.
pub fn recover_alone(options: &GroupOptions, confirmation: &str) -> Result<Recovered, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| StartError::Core { why: error.to_string() })?;
    runtime.block_on(attempt(Arc::new(RealFiles), Arc::new(Tcp), options, confirmation))
}

pub(super) async fn attempt(
    files: Arc<dyn Files>,
    links: Arc<dyn Links>,
    options: &GroupOptions,
    confirmation: &str,
) -> Result<Recovered, StartError> {
    let stamp = options.dir.join("store.json");
    let Some(as_it_was) = read(&*files, &stamp)? else {
        return Ok(Recovered::Refused(nothing_there(options)));
    };
    let opened = open::open_or_leave(Arc::clone(&files), links, options).await?;
    let recovered = match facts(&opened, options).await? {
        None => Recovered::Refused(nothing_there(options)),
        Some(facts) => match decide(&facts, confirmation) {
            Decision::Refuse(why) => Recovered::Refused(why),
            Decision::Report(text) => Recovered::Unconfirmed(text),
            Decision::Act(plan) => {
                let lineage = act(&opened, &plan)?;
                Recovered::Done(done(&facts, &plan, lineage))
            }
        },
    };
    opened.log.close()?;
    if !matches!(recovered, Recovered::Done(_)) {
        // To look was no life of the store: one that was left clean may vouch for what it has, also
        // after its machine was started anew.
        files.replace(&stamp, &as_it_was).map_err(|e| store::Error::io("write", &stamp, e))?;
    }
    Ok(recovered)
}

fn read(files: &dyn Files, path: &Path) -> Result<Option<Vec<u8>>, store::Error> {
    files.read(path).map_err(|error| store::Error::io("read", path, error))
}

fn nothing_there(options: &GroupOptions) -> String {
    format!(
        "{} has no log of a group in {}: there is nothing to go on with",
        options.member,
        options.dir.display()
    )
}

fn done(facts: &Facts, plan: &Plan, lineage: Lineage) -> String {
    format!(
        "{} is the only member of its group now, which began anew at {} ({:016x}), in term {}, \
         with all that its log had up to entry {}.\nStart it as ever, without --recover-alone. \
         Others come with empty stores: rmq-admin memberAdd.",
        facts.member,
        time(lineage.since_ms),
        lineage.id,
        plan.unfinished.term,
        facts.last.index,
    )
}

/// What is in the store, and what others say. `None`: it never was of a group.
async fn facts(opened: &Opened, options: &GroupOptions) -> Result<Option<Facts>, StartError> {
    let Some(last) = opened.log.last() else { return Ok(None) };
    let (recorded, stored_ms) = last_of(opened)?;
    if recorded.membership().nodes().next().is_none() {
        return Ok(None);
    }
    let unfinished = opened.store.stamp.unfinished();
    opened.network.learn(&recorded);
    let others = match unfinished.is_some() {
        true => Vec::new(), // their answers were heard before it was begun
        false => ask_others(&opened.network).await,
    };
    let applied = opened.machine.state().progress().last.map(|last| last.index);
    let voted = opened.votes.vote().map_or(Term(0), |vote| vote.term);
    Ok(Some(Facts {
        member: options.member.clone(),
        store_id: opened.store.stamp.id(),
        membership: recorded.membership().clone(),
        others,
        last,
        stored_ms,
        committed: opened.votes.committed().max(applied),
        term: voted.max(last.term),
        in_doubt: opened.store.stamp.in_doubt(),
        unfinished,
        now_ms: clock::wall_ms(),
    }))
}

/// The last membership, and when the last message was stored.
fn last_of(opened: &Opened) -> Result<(StoredMembership, Option<i64>), StartError> {
    let (state, log) = (opened.machine.state(), &opened.log);
    let progress = state.progress();
    let mut recorded = progress.membership;
    let mut stored_ms = state.queues().last_stored_ms();
    let mut at = progress.last.map_or_else(|| log.first_index(), |last| last.index.next());
    loop {
        let entries = match log.last() {
            Some(last) if at <= last.index => log.entries(at, last.index.next(), READ_BYTES)?,
            Some(_) | None => break,
        };
        let Some(last) = entries.last() else { break };
        at = last.header.index.next();
        for entry in entries {
            for record in records(&entry.records()) {
                let record = record.map_err(StorageError::from)?;
                stored_ms = stored_ms.max(Some(record.store_timestamp()));
            }
            let entry = LogEntry::from_stored(Stored::Mapped(entry));
            let entry = entry.map_err(|error| StartError::Core { why: error.to_string() })?;
            if let Payload::Membership(membership) = entry.payload {
                recorded = StoredMembership::new(Some(entry.log_id), membership);
            }
        }
    }
    Ok((recorded, stored_ms))
}

async fn ask_others(network: &Network) -> Vec<Other> {
    let names: BTreeSet<String> = network.all_others();
    join_all(names.into_iter().map(|name| ask(network, name))).await
}

async fn ask(network: &Network, name: String) -> Other {
    let address = network.address(&name);
    let answer = match network.state(&name, ANSWER).await {
        Ok(state) => Answer::There {
            store_id: StoreId(state.store_id),
            last: state.last.map(|last| entry_id(&wire::to_log_id(last))),
            leader: Some(state.leader).filter(|leader| !leader.is_empty()),
        },
        Err(status) if is_of_stranger(&status) => Answer::Stranger(status.message().to_owned()),
        Err(status) => match NoAnswer::of(&status) {
            NoAnswer::Refused(why) => Answer::Declined(why),
            NoAnswer::Failed(_) if network.is_refused(&name).await => {
                Answer::Silent("nobody listens there".to_owned())
            }
            NoAnswer::Failed(why) => Answer::Silent(why),
        },
    };
    Other { name, address, answer }
}

/// Writes what is planned, step by step, each durable before the next: the first one makes the rest
/// what this very plan, tried again, finishes. Nothing else opens the store until then.
fn act(opened: &Opened, plan: &Plan) -> Result<Lineage, StartError> {
    let (stamp, log) = (&opened.store.stamp, &opened.log);
    let term = plan.unfinished.term;
    let begun = stamp.unfinished().and_then(|_| stamp.lineage());
    let lineage = match begun {
        Some(lineage) => lineage,
        None => {
            let drawn = opened.parts.files.draw_id();
            let drawn = drawn.map_err(|error| StartError::Core { why: error.to_string() })?;
            let lineage = Lineage { id: drawn.max(1), since_ms: clock::wall_ms() };
            stamp.begin_anew(lineage, plan.unfinished.clone())?;
            lineage
        }
    };
    if opened.votes.vote().is_none_or(|vote| vote.term < term) {
        let vote = Vote { term, voted_for: Some(stamp.id()), committed: false };
        opened.votes.save_vote(vote)?;
    }
    if log.last().is_none_or(|last| last.term < term) {
        let index = log.last().map_or(EntryIndex(0), |last| last.index.next());
        let bytes = membership::encode(&plan.membership);
        let body = Body::Membership(&bytes);
        let mut no_messages = |_: &_| QueueOffset(0); // it has none
        log.append(EntryId { index, term }, body, &mut no_messages, clock::wall_ms())?;
    }
    log.sync_now()?;
    stamp.finish_anew()?;
    Ok(lineage)
}
