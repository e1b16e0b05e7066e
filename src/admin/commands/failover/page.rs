//! What changes of the leader look like.

use std::fmt;

use jiff::tz::TimeZone;
use serde::Serialize;

use super::{
    Story, Told,
    merge::{OutOfTouch, Step, out_of_touch},
};
use crate::admin::java_text::time_with_ms;

/// A member that had to pass on sends lately.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Detour {
    member: String,
    connections: u64,
    takes_writes: bool,
}

/// The last change, step by step.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::admin::commands) struct Last {
    group: String,
    #[serde(flatten)]
    story: Story,
    detours: Vec<Detour>,
    /// Members that miss a leader which others know.
    out_of_touch: Vec<OutOfTouch>,
    /// Members that did not answer.
    missing: Vec<String>,
    #[serde(skip)]
    why_missing: &'static str,
    #[serde(skip)]
    zone: TimeZone,
}

impl Last {
    /// `story` as `told` has it.
    pub(in crate::admin::commands) fn new(story: Story, told: &Told, zone: &TimeZone) -> Self {
        let detours = told.heard.iter().map(|heard| &heard.answer);
        let detours = detours.filter(|answer| answer.detours > 0).map(|answer| Detour {
            member: answer.member.clone(),
            connections: answer.detours,
            takes_writes: answer.takes_writes,
        });
        let (group, missing) = (told.group.clone(), told.missing.clone());
        let why_missing = why_missing(missing.len(), told.in_vain);
        let (detours, out_of_touch) = (detours.collect(), out_of_touch(&told.heard));
        Self { group, story, detours, out_of_touch, missing, why_missing, zone: zone.clone() }
    }

    fn write_steps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.story.at("lost").unwrap_or_default();
        writeln!(f, "{:>10}  step", "ms")?;
        for step in &self.story.steps {
            writeln!(f, "{:>10}  {}", ms(step.at_us.saturating_sub(start)), self.told(step))?;
        }
        Ok(())
    }

    fn told(&self, step: &Step) -> String {
        let of = &step.of;
        match step.step {
            "lost" if of.is_empty() => "there was no leader".to_owned(),
            "lost" if is_planned(&self.story.cause) => format!("{of} holds what comes"),
            "lost" => format!("the last sign of {of}"),
            "detected" => match self.story.cause.as_str() {
                "process_ended" => format!("found dead by {of}"),
                "silent" => format!("missed by {of}: an election timeout is over"),
                "cut_off" => format!("{of} misses its quorum"),
                _ => format!("known to {of}"),
            },
            "campaigned" => format!("{of} stands for election"),
            "elected" => format!("{of} has a majority of votes"),
            "led" => format!("{of} takes writes: its first entry is committed and applied"),
            "registered" => format!("registered with name server {of}"),
            _ => format!("first send answered, at {of}"),
        }
    }
}

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (group, story) = (&self.group, &self.story);
        match (&story.from, &story.to) {
            (Some(from), Some(to)) if from == to => {
                write!(f, "{group}: {} leads again (term {})", to.name, to.term)?;
            }
            (Some(from), Some(to)) => {
                let (old, new) = (&from.name, &to.name);
                write!(
                    f,
                    "{group}: {new} leads in place of {old} (term {} → {})",
                    from.term, to.term
                )?;
            }
            (None, Some(to)) => write!(f, "{group}: {} leads (term {})", to.name, to.term)?,
            (_, None) => write!(f, "{group}: nobody leads")?,
        }
        let at = story.at("led").or_else(|| story.at("lost")).unwrap_or_default();
        writeln!(f, ", since {}", time_with_ms(at / 1000, &self.zone))?;
        let from = story.from.as_ref().map_or("the leader", |from| &from.name);
        writeln!(
            f,
            "  cause      {}, says {}",
            cause(&story.cause, from),
            story.seen_by.join(", ")
        )?;
        if let Some(leaderless) = story.leaderless_us.filter(|_| story.from.is_some()) {
            writeln!(f, "  leaderless {} ms", ms(leaderless))?;
        }
        let Story { held, forwarded, failed, .. } = story;
        writeln!(
            f,
            "  requests   {held} held until there was a leader, {forwarded} forwarded since, \
             {failed} failed"
        )?;
        for Detour { member, connections, takes_writes } in &self.detours {
            let why = match takes_writes {
                true => "by an old route, or because routes name it for writes as well",
                false => "by an old route",
            };
            writeln!(
                f,
                "  clients    {connections} connections sent to {member} within 30 s, {why}"
            )?;
        }
        for line in astray(&self.out_of_touch, &self.zone) {
            writeln!(f, "  astray     {line}")?;
        }
        if !self.missing.is_empty() {
            let missing = self.missing.join(", ");
            let why = self.why_missing;
            writeln!(f, "  missing    {missing}: {why}, so what it saw is not in here")?;
        }
        self.write_steps(f)
    }
}

/// A line for each.
pub(super) fn astray(members: &[OutOfTouch], zone: &TimeZone) -> Vec<String> {
    let line = |OutOfTouch { member, from, since_us }: &OutOfTouch| {
        let since = time_with_ms(since_us / 1000, zone);
        match from {
            Some(from) => format!(
                "{member} has lost touch with {} (term {}) since {since}, others have not",
                from.name, from.term
            ),
            None => format!("{member} has found no leader since {since}, others have one"),
        }
    };
    members.iter().map(line).collect()
}

/// Why members are missing, of which so many were asked in vain.
fn why_missing(missing: usize, in_vain: usize) -> &'static str {
    match in_vain {
        0 => "not asked, its address for clients is not known here (-b names it)",
        some if some < missing => "no answer, or not asked (-b names its address for clients)",
        _ => "no answer",
    }
}

/// All changes, a line each, the newest first.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(in crate::admin::commands) struct List {
    stories: Vec<Story>,
    #[serde(skip)]
    zone: TimeZone,
}

impl List {
    /// Of stories, oldest first.
    pub(in crate::admin::commands) fn new(mut stories: Vec<Story>, zone: &TimeZone) -> Self {
        stories.reverse();
        Self { stories, zone: zone.clone() }
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24}  {:<8}  {:<8}  {:>6}  {:<14}  {:>14}  {:>6}  {:>6}",
            "#Since", "#From", "#To", "#Term", "#Cause", "#Leaderless ms", "#Held", "#Failed"
        )?;
        for story in &self.stories {
            let dash = || "-".to_owned();
            let name = |lead: &Option<_>| {
                lead.as_ref()
                    .map_or_else(dash, |l: &crate::protocol::bodies::LeadBody| l.name.clone())
            };
            let at = story.at("led").or_else(|| story.at("lost")).unwrap_or_default();
            let leaderless = story.leaderless_us.filter(|_| story.from.is_some());
            writeln!(
                f,
                "{:<24}  {:<8}  {:<8}  {:>6}  {:<14}  {:>14}  {:>6}  {:>6}",
                time_with_ms(at / 1000, &self.zone),
                name(&story.from),
                name(&story.to),
                story.to.as_ref().map_or_else(dash, |to| to.term.to_string()),
                story.cause,
                leaderless.map_or_else(dash, ms),
                story.held,
                story.failed,
            )?;
        }
        Ok(())
    }
}

fn is_planned(cause: &str) -> bool {
    ["stopped", "transferred", "preferred", "no_room", "slow_disk", "hanging"].contains(&cause)
}

/// In a sentence; `from` led.
fn cause(name: &str, from: &str) -> String {
    match name {
        "started" => "the group, or all who answer, had just started".to_owned(),
        "process_ended" => format!("the process of {from} ended: its port refused calls"),
        "silent" => format!("{from} fell silent: its machine, the network, or a long pause"),
        "stopped" => format!("{from} was told to stop, and handed over"),
        "transferred" => format!("an operator had {from} hand over"),
        "preferred" => format!("{from} handed over to the preferred leader"),
        "no_room" => format!("{from} handed over because its disk is full"),
        "slow_disk" => format!("{from} handed over because its disk takes seconds for a sync"),
        "hanging" => format!("{from} handed over because it hung: see its log"),
        "cut_off" => format!("no quorum answered {from} for a second"),
        _ => "not known: nobody who answers was there".to_owned(),
    }
}

/// Milliseconds with a tenth.
fn ms(us: i64) -> String {
    let (sign, us) = (if us < 0 { "-" } else { "" }, us.unsigned_abs());
    format!("{sign}{}.{}", us / 1000, us / 100 % 10)
}
