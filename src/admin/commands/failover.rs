//! failover: what the last changes of a group's leader were made of. Ours.
//!
//! ```text
//!  every member's record ─► its times by our clock ─merge─► one story per change ─► a page, a table
//! ```

mod merge;
mod page;

use std::collections::BTreeSet;

use clap::{Args, ValueEnum};

use super::{
    Session, each,
    members::{self, Heard, OfGroup},
};
use crate::{admin::error::Error, protocol::bodies::LeaderChangesBody};

use merge::out_of_touch;
pub(super) use merge::{Story, merge};
use page::{Last, List, astray};

/// Flags of failover.
#[derive(Debug, Args)]
pub(in crate::admin) struct Failover {
    /// last: the last one, step by step; list: the last 32
    #[arg(value_enum)]
    what: What,
    #[command(flatten)]
    of: OfGroup,
}

/// What of it.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Step by step.
    Last,
    /// A line each.
    List,
}

/// What all members that answer say.
pub(super) struct Told {
    pub(super) group: String,
    pub(super) heard: Vec<Heard<LeaderChangesBody>>,
    /// Members that did not answer, or that nobody knows how to ask.
    pub(super) missing: Vec<String>,
    /// How many were asked in vain.
    pub(super) in_vain: usize,
}

/// Shows the last change, or all.
pub(in crate::admin) async fn show(
    session: &mut Session<'_>,
    args: &Failover,
) -> Result<(), Error> {
    match args.what {
        What::Last => show_last(session, &args.of).await,
        What::List => {
            let told = ask(session, &args.of).await?;
            session.out.show(&List::new(merge(&told.heard), &session.zone))?;
            let astray = astray(&out_of_touch(&told.heard), &session.zone);
            astray.iter().try_for_each(|line| session.out.say(format_args!("{line}\n")))
        }
    }
}

/// Shows the last change of a group's leader.
pub(super) async fn show_last(session: &mut Session<'_>, of: &OfGroup) -> Result<(), Error> {
    let told = ask(session, of).await?;
    match merge(&told.heard).into_iter().next_back() {
        Some(story) => session.out.show(&Last::new(story, &told, &session.zone)),
        None => {
            let text = format!("{} has not had a leader since its members started", told.group);
            Err(Error::Unable(text))
        }
    }
}

/// Asks all members of a group; those that do not answer are told.
pub(super) async fn ask(session: &mut Session<'_>, of: &OfGroup) -> Result<Told, Error> {
    let addresses = members::addresses(session, of).await?;
    let admin = &session.admin;
    let asked = each(addresses, |address| async move {
        let answer = members::ask(admin.leader_changes(&address), |body| (body.now_us, 0)).await;
        (address, answer)
    })
    .await;
    let (mut heard, mut failures) = (Vec::new(), Vec::new());
    for (address, answer) in asked {
        match answer {
            Ok(answer) => heard.push(answer),
            Err(error) => failures.push((address, error)),
        }
    }
    // One of the failures is the command's own when nobody answered.
    let Some(first) = heard.first() else {
        let nobody = || Error::Unable("there is nobody to ask".to_owned());
        return Err(failures.pop().map_or_else(nobody, |(_, error)| error));
    };
    let named = of.named();
    for (address, error) in &failures {
        // Who was asked for by name is part of what was to be done.
        match named.contains(address) {
            true => session.out.fail(error),
            false => session.out.remark(error),
        }
    }
    let group = first.answer.group.clone();
    let answered: BTreeSet<&str> = heard.iter().map(|told| told.answer.member.as_str()).collect();
    let all: BTreeSet<&str> =
        heard.iter().flat_map(|told| &told.answer.members).map(String::as_str).collect();
    let missing = all.difference(&answered).map(|name| (*name).to_owned()).collect();
    Ok(Told { group, heard, missing, in_vain: failures.len() })
}
