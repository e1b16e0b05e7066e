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

use std::collections::BTreeMap;

use clap::Args;

use super::{
    Session, each,
    members::{self, Heard, OfGroup},
};
use crate::{
    admin::error::Error,
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

/// Everything there is to know, and addresses that do not answer.
async fn ask(session: &Session<'_>, of: &OfGroup) -> Result<(Site, Vec<String>), Error> {
    let admin = &session.admin;
    let asked = each(admin.name_servers().to_vec(), |address| async move {
        let info = admin.cluster_info_of(&address).await;
        (address, info)
    })
    .await;
    let mut addresses = of.named();
    let (mut views, mut group) = (Vec::new(), String::new());
    let mut lost: Option<Error> = None;
    for (address, info) in asked {
        let knows = match info {
            Ok(info) => match seen_by(&info, of) {
                Ok((name, known)) => {
                    addresses.extend(known.values().cloned());
                    group = if name.is_empty() { group } else { name };
                    Ok(known)
                }
                Err(error) => keep(&mut lost, error),
            },
            Err(error) => keep(&mut lost, error),
        };
        views.push(View { address, knows });
    }
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        let nobody = || Error::Unable("there is nobody to ask: give members with -b".to_owned());
        return Err(lost.unwrap_or_else(nobody));
    }
    let answers = each(addresses, |address| async move {
        let shown = |facts: &MemberFacts| (facts.now_us, facts.took_us);
        let heard = members::ask(admin.member_facts(&address), shown).await;
        let settings = admin.broker_config(&address).await.ok();
        (address, heard, settings)
    })
    .await;
    let (mut patients, mut silent) = (Vec::new(), Vec::new());
    for (address, heard, settings) in answers {
        match heard {
            Ok(heard) => patients.push(Patient { heard, settings }),
            Err(error) => silent.push(format!("{address} ({})", short(&error))),
        }
    }
    if let Some(first) = patients.first() {
        group.clone_from(&first.heard.answer.group);
    }
    patients.sort_by(|a, b| a.heard.answer.member.cmp(&b.heard.answer.member));
    Ok((Site { group, members: patients, name_servers: views }, silent))
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
