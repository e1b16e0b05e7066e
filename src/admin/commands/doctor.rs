//! doctor: what is wrong with a broker group, and what to do. Ours.
//!
//! ```text
//!  members (facts, settings), name servers (who leads) ─► Site ─diagnose─► findings ─► one page
//! ```
//!
//! Members are asked directly, so it needs neither a leader nor, with `-b`, a name server.

mod diagnose;
mod page;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;

use super::{
    Session, each,
    members::{self, Heard, OfGroup},
};
use crate::{
    admin::{client::AdminClient, error::Error},
    clock,
    protocol::bodies::{ClusterInfo, MemberFacts},
};

use diagnose::diagnose;
use page::Page;

/// Flags of doctor.
#[derive(Debug, Args)]
pub(in crate::admin) struct Doctor {
    #[command(flatten)]
    of: OfGroup,
}

/// All that was found out about one group.
#[derive(Debug, Default)]
struct Site {
    /// Its name, as asked for or as its members say; empty if nobody says.
    group: String,
    members: Vec<Patient>,
    name_servers: Vec<View>,
}

/// A member that answered.
#[derive(Debug)]
struct Patient {
    heard: Heard<MemberFacts>,
    /// `None`: it did not tell.
    settings: Option<BTreeMap<String, String>>,
}

/// What one name server knows.
#[derive(Debug)]
struct View {
    address: String,
    /// The group's members by broker id, 0 is the leader; or why that is not known.
    knows: Result<BTreeMap<u64, String>, String>,
}

/// Examines a group; findings are a failure.
pub(in crate::admin) async fn examine(
    session: &mut Session<'_>,
    args: &Doctor,
) -> Result<(), Error> {
    let (site, silent) = ask(session, &args.of).await?;
    let diagnosis = diagnose(&site, &silent);
    let is_well = diagnosis.findings.is_empty();
    let now_ms = clock::wall_ms();
    session.out.show(&Page::new(diagnosis, &site, (now_ms, &session.zone)))?;
    if !is_well {
        session.out.mark_failed();
    }
    Ok(())
}

/// Everything there is to know, and addresses that do not answer. The name servers are those that
/// were named, else, if members were named, those that these members have.
async fn ask(session: &Session<'_>, of: &OfGroup) -> Result<(Site, Vec<String>), Error> {
    let admin = &session.admin;
    let named = of.named();
    let first = if named.is_empty() { admin.name_servers() } else { admin.named_servers() };
    let mut seen = Seen::by(admin, first.to_vec(), of).await;
    let mut addresses = [named, seen.members()].concat();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        let nobody = || Error::Unable("there is nobody to ask: give members with -b".to_owned());
        return Err(seen.lost.unwrap_or_else(nobody));
    }
    let (mut patients, mut silent) = examined(admin, addresses.clone()).await;
    if first.is_empty() {
        seen = Seen::by(admin, members_name_servers(&patients), of).await;
        let later = seen.members().into_iter().filter(|at| !addresses.contains(at)).collect();
        let (others, silent_too) = examined(admin, later).await;
        patients.extend(others);
        silent.extend(silent_too);
    }
    let mut group = seen.group;
    if let Some(first) = patients.first() {
        group.clone_from(&first.heard.answer.group);
    }
    patients.sort_by(|a, b| a.heard.answer.member.cmp(&b.heard.answer.member));
    // One may have been asked by two of its names.
    let key = |patient: &Patient| {
        let facts = &patient.heard.answer;
        (facts.member.clone(), facts.store_id.clone())
    };
    patients.dedup_by_key(|patient| key(patient));
    Ok((Site { group, members: patients, name_servers: seen.views }, silent))
}

/// What name servers know of a group.
struct Seen {
    /// Its name, if one knows it.
    group: String,
    views: Vec<View>,
    /// Why the first one knows nothing.
    lost: Option<Error>,
}

impl Seen {
    async fn by(admin: &AdminClient, name_servers: Vec<String>, of: &OfGroup) -> Self {
        let asked = each(name_servers, |address| async move {
            let info = admin.cluster_info_of(&address).await;
            (address, info)
        })
        .await;
        let mut seen = Self { group: String::new(), views: Vec::new(), lost: None };
        for (address, info) in asked {
            let knows = match info.and_then(|info| seen_by(&info, of)) {
                Ok((name, known)) => {
                    seen.group = if name.is_empty() { seen.group } else { name };
                    Ok(known)
                }
                Err(error) => keep(&mut seen.lost, error),
            };
            seen.views.push(View { address, knows });
        }
        seen
    }

    fn members(&self) -> Vec<String> {
        let known = self.views.iter().filter_map(|view| view.knows.as_ref().ok());
        known.flat_map(|known| known.values().cloned()).collect()
    }
}

/// The name servers that members register with.
fn members_name_servers(patients: &[Patient]) -> Vec<String> {
    let all = patients.iter().flat_map(|patient| &patient.heard.answer.name_servers);
    let all: BTreeSet<&str> = all.map(|server| server.address.as_str()).collect();
    all.into_iter().map(str::to_owned).collect()
}

/// What members say, and those that say nothing.
async fn examined(admin: &AdminClient, addresses: Vec<String>) -> (Vec<Patient>, Vec<String>) {
    let answers = each(addresses, |address| async move {
        let shown = |facts: &MemberFacts| (facts.now_us, facts.took_us);
        match members::ask(admin.member_facts(&address), shown).await {
            Ok(heard) => {
                let settings = admin.broker_config(&address).await.ok();
                Ok(Patient { heard, settings })
            }
            Err(error) => Err(format!("{address} ({})", short(&error))),
        }
    })
    .await;
    let (mut patients, mut silent) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer {
            Ok(patient) => patients.push(patient),
            Err(why) => silent.push(why),
        }
    }
    (patients, silent)
}

fn keep<T>(lost: &mut Option<Error>, error: Error) -> Result<T, String> {
    let text = short(&error);
    lost.get_or_insert(error);
    Err(text)
}

/// The cause without who was asked for what, which the page says.
fn short(error: &Error) -> String {
    match error {
        Error::NoAnswer { cause, .. } => cause.to_string(),
        Error::Refused { remark, .. } => remark.clone(),
        error => error.to_string(),
    }
}

/// Name and members of the group that is meant; nothing if this name server does not know it.
fn seen_by(info: &ClusterInfo, of: &OfGroup) -> Result<(String, BTreeMap<u64, String>), Error> {
    let found = of.find(info)?;
    Ok(found.map_or_else(Default::default, |group| {
        (group.broker_name.clone(), group.broker_addrs.clone())
    }))
}
