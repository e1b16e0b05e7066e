//! One screen: the verdict, what is wrong and what to do, and who is how.

use std::fmt;

use jiff::tz::TimeZone;
use serde::Serialize;

use super::{
    Patient, Site,
    diagnose::{Diagnosis, word},
};
use crate::{
    admin::java_text::time,
    protocol::bodies::{MemberFacts, Reached},
};

/// What is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    group: String,
    #[serde(flatten)]
    diagnosis: Diagnosis,
    members: Vec<Row>,
    name_servers: Vec<NameServer>,
    #[serde(skip)]
    since: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    /// `leads`, `follows`, or `waits`: for a leader.
    role: &'static str,
    /// How far its clock is ahead of ours, ms.
    clock_ms: i64,
    #[serde(flatten)]
    facts: MemberFacts,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NameServer {
    address: String,
    leader: Option<String>,
    error: Option<String>,
}

impl Page {
    /// Of a diagnosis and what it was made of.
    pub(super) fn new(diagnosis: Diagnosis, site: &Site, (now_ms, zone): (i64, &TimeZone)) -> Self {
        let leader = diagnosis.leader.as_ref().map(|(name, _)| name);
        let row = |Patient { heard, .. }: &Patient| Row {
            role: match leader {
                Some(leader) if *leader == heard.answer.member => "leads",
                Some(leader) if heard.answer.leader.as_ref() == Some(leader) => "follows",
                Some(_) | None => "waits",
            },
            clock_ms: heard.offset_us.saturating_neg() / 1000,
            facts: heard.answer.clone(),
        };
        let members: Vec<Row> = site.members.iter().map(row).collect();
        let leads = |row: &&Row| diagnosis.leader.as_ref().is_some_and(|l| l.0 == row.facts.member);
        let since = members.iter().find(leads).and_then(|row| {
            let ago_ms = row.facts.now_us.saturating_sub(row.facts.led_since_us?) / 1000;
            Some(time(now_ms.saturating_sub(ago_ms), zone))
        });
        let name_servers = site.name_servers.iter().map(|view| NameServer {
            address: view.address.clone(),
            leader: view.knows.as_ref().ok().and_then(|known| known.get(&0).cloned()),
            error: view.knows.as_ref().err().cloned(),
        });
        let name_servers = name_servers.collect();
        Self { group: site.group.clone(), diagnosis, members, name_servers, since }
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.diagnosis.verdict)?;
        match self.since.as_ref().filter(|_| self.diagnosis.findings.is_empty()) {
            Some(since) => writeln!(f, ", since {since}")?,
            None => writeln!(f)?,
        }
        for (number, finding) in self.diagnosis.findings.iter().enumerate() {
            writeln!(f, "\n{:>2}. {}", number + 1, finding.what)?;
            writeln!(f, "    → {}", finding.todo)?;
        }
        if !self.members.is_empty() {
            writeln!(
                f,
                "\n{:<8}  {:<21}  {:<8}  {:>5}  {:>6}  {:>9}  {:>8}  {:>8}  #Reaches",
                "#Member", "#Address", "#Role", "#Term", "#Lag", "#DiskFree", "#Sync", "#Clock"
            )?;
        }
        self.members.iter().try_for_each(|row| write!(f, "{row}"))?;
        if !self.name_servers.is_empty() {
            writeln!(f, "\n{:<21}  #Leader", "#Name server")?;
        }
        for server in &self.name_servers {
            let knows = match (&server.leader, &server.error) {
                (Some(leader), _) => leader.as_str(),
                (None, Some(error)) => error.as_str(),
                (None, None) => "none",
            };
            writeln!(f, "{:<21}  {knows}", server.address)?;
        }
        Ok(())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (facts, role) = (&self.facts, self.role);
        let free = facts
            .disk
            .as_ref()
            .and_then(|disk| disk.free.saturating_mul(100).checked_div(disk.total));
        let free = free.map_or_else(|| "?".to_owned(), |percent| format!("{percent} %"));
        let sync = facts.syncs.as_ref();
        let sync = sync.map_or_else(|| "-".to_owned(), |syncs| tenths(syncs.p99_us));
        let clock = format!("{:+} ms", self.clock_ms);
        let reaches = facts.peers.iter().map(|peer| match peer.reached {
            Reached::Answered => format!("{} {}", peer.name, tenths(peer.took_us)),
            reached => format!("{} {}", peer.name, word(reached)),
        });
        writeln!(
            f,
            "{:<8}  {:<21}  {role:<8}  {:>5}  {:>6}  {free:>9}  {sync:>8}  {clock:>8}  {}",
            facts.member,
            facts.address,
            facts.term,
            facts.lag,
            reaches.collect::<Vec<_>>().join(", ")
        )
    }
}

fn tenths(us: u64) -> String {
    format!("{}.{} ms", us / 1000, us / 100 % 10)
}
