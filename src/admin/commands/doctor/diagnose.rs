//! From what was found out to what is wrong. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Patient, Site};
use crate::protocol::bodies::{MemberFacts, PeerFacts, Reached, SlowDiskFacts};

/// Clocks that differ by more are told: times of messages and of retention go by them.
const CLOCKS_US: i64 = 500_000;
/// A disk with less than this free is told, percent.
const FREE_PERCENT: u64 = 10;
/// A member that lacks more entries than this is told.
const LAG: u64 = 10_000;
/// Syncs of which a hundredth takes longer are told, µs.
const SLOW_SYNC_US: u64 = 100_000;
/// Settings without which members refuse each other.
const MUST_AGREE: [&str; 5] =
    ["brokerClusterName", "brokerName", "dLegerGroup", "dLegerPeers", "mappedFileSizeCommitLog"];
/// Settings that are a member's own.
const OWN: [&str; 10] = [
    "bindAddress",
    "brokerIP1",
    "brokerIP2",
    "brokerId",
    "brokerConfigPath",
    "dLegerSelfId",
    "haListenPort",
    "haMasterAddress",
    "listenPort",
    "rocketmqHome",
];

/// How bad it is; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Gravity {
    /// The group does not serve.
    Down,
    /// It serves, but not as it should, or not for long.
    Harmed,
    /// It will hurt some day.
    Notable,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    pub(super) gravity: Gravity,
    /// What is the matter.
    pub(super) what: String,
    /// What to do about it.
    pub(super) todo: String,
}

/// What there is to say.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Diagnosis {
    /// In one line.
    pub(super) verdict: String,
    /// Who leads, and its term.
    pub(super) leader: Option<(String, u64)>,
    /// The worst first.
    pub(super) findings: Vec<Finding>,
}

/// Finds what is wrong; `silent` are addresses that do not answer, with why.
pub(super) fn diagnose(site: &Site, silent: &[String]) -> Diagnosis {
    let mut ward = Ward::new(site);
    if site.members.is_empty() {
        ward.add(
            Gravity::Down,
            format!("no member answers: {}", silent.join(", ")),
            "start the members, or name others with -b host:port,host:port; are these addresses \
             reachable from here?",
        );
    } else {
        ward.look_at_members(silent);
        ward.look_at_paths();
        ward.look_at_health();
        ward.look_at_slow_disks();
        ward.look_at_clocks();
        ward.look_at_settings();
        ward.look_at_names();
        ward.look_at_name_servers();
    }
    let why = ward.leaderless(silent);
    ward.findings.sort_by_key(|finding| finding.gravity);
    let leader = ward.leader.clone();
    let verdict = verdict(site, leader.as_ref(), why, &ward.findings);
    Diagnosis { verdict, leader, findings: ward.findings }
}

fn verdict(
    site: &Site,
    leader: Option<&(String, u64)>,
    why: Option<String>,
    findings: &[Finding],
) -> String {
    let group = if site.group.is_empty() { "the group" } else { &site.group };
    let Some((leader, term)) = leader else {
        return format!("{group} has no leader: {}", why.unwrap_or_default());
    };
    match findings.len() {
        0 => {
            let others = site.members.iter().map(|patient| patient.heard.answer.member.as_str());
            let others: Vec<&str> = others.filter(|name| name != leader).collect();
            let others = match others.as_slice() {
                [] => "alone".to_owned(),
                [one] => format!("{one} follows"),
                many => format!("{} follow", many.join(" and ")),
            };
            format!("{group} is well: {leader} leads in term {term}, {others}")
        }
        1 => format!("{group} has a leader, {leader}, and something to look at"),
        many => format!("{group} has a leader, {leader}, and {many} things to look at"),
    }
}

/// A group under examination.
struct Ward<'a> {
    site: &'a Site,
    /// All members that anybody names, and where their peers call them.
    all: BTreeMap<&'a str, Option<&'a str>>,
    leader: Option<(String, u64)>,
    findings: Vec<Finding>,
}

impl<'a> Ward<'a> {
    fn new(site: &'a Site) -> Self {
        let mut all: BTreeMap<&str, Option<&str>> = BTreeMap::new();
        for facts in facts(site) {
            all.entry(&facts.member).or_default();
            for peer in &facts.peers {
                all.insert(&peer.name, Some(&peer.address));
            }
        }
        // Who leads says so itself; of two the later term counts.
        let leads = facts(site).filter(|facts| facts.leader.as_ref() == Some(&facts.member));
        let leader = leads.max_by_key(|facts| facts.term);
        // Or it does not answer us, but who follows it can tell: by more than its name, which is
        // remembered until there is another.
        let known = facts(site).filter_map(|facts| {
            let peer = facts.peers.iter().find(|peer| facts.leader.as_ref() == Some(&peer.name))?;
            (peer.reached == Reached::Answered).then(|| (peer.name.clone(), facts.term))
        });
        let is_absent = |(name, _): &(String, u64)| facts(site).all(|f| f.member != *name);
        let known = known.filter(is_absent).max_by_key(|(_, term)| *term);
        let leader = leader.map(|facts| (facts.member.clone(), facts.term)).or(known);
        Self { site, all, leader, findings: Vec::new() }
    }

    fn add(&mut self, gravity: Gravity, what: String, todo: impl Into<String>) {
        self.findings.push(Finding { gravity, what, todo: todo.into() });
    }

    fn majority(&self) -> usize {
        self.all.len() / 2 + 1
    }

    fn facts_of(&self, name: &str) -> Option<&'a MemberFacts> {
        facts(self.site).find(|facts| facts.member == name)
    }

    fn call(&self, from: &str, to: &str) -> Option<&'a PeerFacts> {
        self.facts_of(from)?.peers.iter().find(|peer| peer.name == to)
    }

    /// Who is there, as far as we or any member can tell.
    fn present(&self) -> BTreeSet<&'a str> {
        let answers = |name: &str| {
            let is_reached = |facts: &MemberFacts| {
                let reached = |peer: &PeerFacts| peer.name == name && speaks(peer.reached);
                facts.peers.iter().any(reached)
            };
            self.facts_of(name).is_some() || facts(self.site).any(is_reached)
        };
        self.all.keys().copied().filter(|name| answers(name)).collect()
    }

    /// Why there is no leader, if there is none; that is the gravest finding.
    fn leaderless(&mut self, silent: &[String]) -> Option<String> {
        if self.leader.is_some() {
            return None;
        }
        if self.site.members.is_empty() {
            return Some(format!("nobody answers at {}", silent.join(", ")));
        }
        let (present, majority) = (self.present(), self.majority());
        let names = |names: &[&str]| names.join(" and ");
        let there: Vec<&str> = present.iter().copied().collect();
        let gone: Vec<&str> = self.all.keys().copied().filter(|n| !present.contains(n)).collect();
        let ended = facts(self.site).find(|facts| facts.stopped.is_some());
        let waits = facts(self.site).filter_map(|facts| Some((facts, facts.waits_for.as_ref()?)));
        let waits: Vec<_> = waits.collect();
        let (why, todo) = if present.len() < majority {
            let (is, all) = (if gone.len() == 1 { "is" } else { "are" }, self.all.len());
            (
                format!(
                    "of {all} members {majority} are needed, and only {} is there: {} {is} missing",
                    names(&there),
                    names(&gone)
                ),
                format!("start {}; their logs say why they are not there", names(&gone)),
            )
        } else if !self.is_connected(&present) {
            let pairs = self.broken(&present);
            (
                format!("{} are there, but cannot reach each other ({pairs})", names(&there)),
                "see below: who does not reach whom, and why".to_owned(),
            )
        } else if let Some(ended) = ended {
            let why = ended.stopped.clone().unwrap_or_default();
            (
                format!("{} takes no part any more: {why}", ended.member),
                format!("mend the cause and restart {}", ended.member),
            )
        } else if let Some((facts, why)) = waits.first() {
            (format!("{} waits: {why}", facts.member), "see below".to_owned())
        } else {
            (
                format!(
                    "{} are there and reach each other: an election is going on",
                    names(&there)
                ),
                "ask again in a second; if it stays so, their logs say who votes for whom"
                    .to_owned(),
            )
        };
        self.add(Gravity::Down, format!("there is no leader: {why}"), todo);
        Some(why)
    }

    /// Whether some of these, a majority, all reach each other in both directions.
    fn is_connected(&self, present: &BTreeSet<&str>) -> bool {
        // One that has a majority to talk to can lead.
        present.iter().any(|from| {
            let both = |to: &&&str| {
                let ways = [self.call(from, to), self.call(to, from)];
                ways.iter().flatten().all(|call| call.reached == Reached::Answered)
            };
            let others = present.iter().filter(|to| to != &from);
            others.filter(both).count() + 1 >= self.majority()
        })
    }

    fn broken(&self, present: &BTreeSet<&str>) -> String {
        let mut broken = Vec::new();
        for from in present {
            for to in present.iter().filter(|to| to != &from) {
                let call = self.call(from, to).filter(|call| call.reached != Reached::Answered);
                broken.extend(call.map(|call| format!("{from} to {to}: {}", word(call.reached))));
            }
        }
        broken.join("; ")
    }

    /// Members that are not there.
    fn look_at_members(&mut self, silent: &[String]) {
        let missing: Vec<&str> =
            self.all.keys().copied().filter(|name| self.facts_of(name).is_none()).collect();
        let (present, all) = (self.present(), silent.join(", "));
        for name in &missing {
            let at = self.all.get(name).copied().flatten().unwrap_or_default();
            let asked = if silent.len() == 1 && missing.len() == 1 {
                format!("; nor does {}", silent[0])
            } else {
                String::new()
            };
            if present.contains(name) {
                self.add(
                    Gravity::Notable,
                    format!("{name} does not answer here{asked}; its peers reach it at {at}"),
                    "give its address with -b, or see that its port for clients is reachable from \
                     here",
                );
                continue;
            }
            let calls = facts(self.site).filter_map(|facts| self.call(&facts.member, name));
            let calls: BTreeSet<&str> = calls.map(|call| word(call.reached)).collect();
            let todo = if calls.contains(word(Reached::Refused)) {
                format!("start rmq-broker with {name}'s configuration; its log says why it ended")
            } else {
                format!(
                    "is {name}'s machine up, does its process run, does the network let calls in?"
                )
            };
            let seen = calls.into_iter().collect::<Vec<_>>().join(", ");
            let last = if present.len() == self.majority() {
                "; if another one fails, nobody can lead"
            } else {
                ""
            };
            let what = format!("{name} is missing: calls to {at} are {seen}{asked}{last}");
            self.add(Gravity::Harmed, what, todo);
        }
        if !silent.is_empty() && (silent.len() > 1 || missing.len() != 1) {
            self.add(
                Gravity::Notable,
                format!("no answer from {all}"),
                "is that address right, and reachable from here?",
            );
        }
    }

    /// Calls between members that are both there, and do not get through.
    fn look_at_paths(&mut self) {
        let present = self.present();
        for facts in facts(self.site) {
            for peer in facts.peers.iter().filter(|peer| present.contains(peer.name.as_str())) {
                let (from, to, at) = (&facts.member, &peer.name, &peer.address);
                let why = peer.why.as_deref().unwrap_or_default();
                match peer.reached {
                    Reached::Answered => {}
                    Reached::Declined => self.add(
                        Gravity::Harmed,
                        format!("{to} will not talk with {from}: {why}"),
                        "make the settings the same in both files, and restart the one that is wrong",
                    ),
                    Reached::Refused => self.add(
                        Gravity::Harmed,
                        format!("{from} cannot reach {to}: {at} refuses calls, but {to} runs"),
                        format!(
                            "does dLegerPeers of {from} have {to}'s address and port, and does {to} \
                             listen there (bindAddress)?"
                        ),
                    ),
                    Reached::Silent => self.add(
                        Gravity::Harmed,
                        format!("{from} cannot reach {to}: {at} does not answer within a second"),
                        format!(
                            "a firewall or a route drops what {from} sends to {at}, or {to} hangs: \
                             try to connect from {from}'s machine"
                        ),
                    ),
                    Reached::Failed => self.add(
                        Gravity::Harmed,
                        format!("{from} cannot reach {to} at {at}: {why}"),
                        format!("see that {from}'s machine knows that name, and the way there"),
                    ),
                }
            }
        }
    }

    /// What members say of themselves.
    fn look_at_health(&mut self) {
        for facts in facts(self.site) {
            let name = &facts.member;
            if let Some(why) = &facts.stopped {
                self.add(
                    Gravity::Harmed,
                    format!("{name} takes no part in the group any more: {why}"),
                    format!("mend the cause, then restart {name}"),
                );
            }
            if let Some(why) = &facts.waits_for {
                self.add(
                    Gravity::Harmed,
                    format!("{name} is there, but waits: {why}"),
                    "start who it waits for; if that one's store is lost for good, an empty one with \
                     its name will do",
                );
            }
            if facts.lag > LAG && facts.stopped.is_none() {
                self.add(
                    Gravity::Notable,
                    format!("{name} is {} entries behind", facts.lag),
                    "it catches up by itself; if the number grows, its disk or its link is too slow",
                );
            }
            self.look_at_disk(facts);
        }
        let leads = facts(self.site).filter(|facts| facts.leader.as_ref() == Some(&facts.member));
        let leads: Vec<&str> = leads.map(|facts| facts.member.as_str()).collect();
        if leads.len() > 1 {
            self.add(
                Gravity::Harmed,
                format!("{} all take themselves for the leader", leads.join(" and ")),
                "the one of the latest term is right, the others learn it within a second: ask again",
            );
        }
    }

    fn look_at_disk(&mut self, facts: &MemberFacts) {
        let name = &facts.member;
        match &facts.disk {
            None => self.add(
                Gravity::Harmed,
                format!("{name} cannot see how full its disk is"),
                "does that disk answer at all?",
            ),
            Some(disk) => {
                let percent = disk.free.saturating_mul(100).checked_div(disk.total).unwrap_or(0);
                if let Some(why) = &disk.shortage {
                    self.add(
                        Gravity::Harmed,
                        format!("{name} takes no messages, its disk is full: {why}"),
                        "make room, or shorten fileReservedTime; rmq-admin deleteExpiredCommitLog \
                         deletes what is old enough at once",
                    );
                } else if percent < FREE_PERCENT {
                    self.add(
                        Gravity::Notable,
                        format!("{name} has {percent} % of its disk left"),
                        "make room, or shorten fileReservedTime (updateBrokerConfig)",
                    );
                }
            }
        }
        if let Some(why) = &facts.others_shortage {
            self.add(
                Gravity::Down,
                format!("{name} leads and takes no messages: {why}"),
                "make room on those disks: messages are taken again by themselves within seconds",
            );
        }
        self.look_at_syncs(facts);
    }

    fn look_at_syncs(&mut self, facts: &MemberFacts) {
        let name = &facts.member;
        let longest = facts.syncs.as_ref().and_then(|syncs| syncs.longest_us);
        let longest = longest.map_or_else(String::new, |us| {
            format!("; the longest of the last minute took {} ms", us / 1000)
        });
        if let Some(SlowDiskFacts { why, left_ms }) = &facts.slow_disk {
            let leads = facts.leader.as_ref() == Some(name);
            let part = match leads {
                true => "it leads all the same, for nobody else can take over".to_owned(),
                false => format!("it leads only if nobody else can, for {} s more", left_ms / 1000),
            };
            self.add(
                Gravity::Harmed,
                format!("{name} has a slow disk, {why}: {part}{longest}"),
                "what else uses that disk (iostat -x 1), and does the kernel report errors (dmesg)? \
                 mend or replace it, then it counts as fast again by itself",
            );
        } else if let Some(syncs) = facts.syncs.as_ref().filter(|syncs| syncs.p99_us > SLOW_SYNC_US)
        {
            let ms = syncs.p99_us / 1000;
            self.add(
                Gravity::Notable,
                format!("{name}'s disk is slow: a sync in a hundred takes {ms} ms{longest}"),
                "does something else write there? every synced message waits for it",
            );
        }
    }

    /// Slow disks, if there is no majority without them.
    fn look_at_slow_disks(&mut self) {
        let slow = facts(self.site).filter(|facts| facts.slow_disk.is_some());
        let slow: BTreeSet<&str> = slow.map(|facts| facts.member.as_str()).collect();
        if !slow.is_empty() && self.all.len().saturating_sub(slow.len()) < self.majority() {
            self.add(
                Gravity::Harmed,
                format!(
                    "of {} members {} have slow disks: what clients send waits for one of them",
                    self.all.len(),
                    slow.into_iter().collect::<Vec<_>>().join(" and ")
                ),
                "mend one of these disks first",
            );
        }
    }

    /// Clocks that differ from the others.
    fn look_at_clocks(&mut self) {
        let mut clocks: Vec<(i64, i64, &str)> = self
            .site
            .members
            .iter()
            .map(|Patient { heard, .. }| {
                (heard.offset_us, heard.unsure_us, heard.answer.member.as_str())
            })
            .collect();
        clocks.sort_unstable();
        let Some((middle, _, _)) = clocks.get(clocks.len() / 2).copied() else { return };
        for (offset, unsure, name) in clocks {
            let differs = offset.saturating_sub(middle);
            if differs.saturating_abs() > CLOCKS_US.saturating_add(unsure) {
                let ms = differs.unsigned_abs() / 1000;
                let way = if differs > 0 { "behind" } else { "ahead" };
                self.add(
                    Gravity::Notable,
                    format!("{name}'s clock is {ms} ms {way} of the others"),
                    "start NTP (chrony, systemd-timesyncd) there: times of messages go by it, not \
                     elections",
                );
            }
        }
    }

    /// Settings and releases that differ.
    fn look_at_settings(&mut self) {
        let told = |patient: &'a Patient| {
            Some((patient.heard.answer.member.as_str(), patient.settings.as_ref()?))
        };
        let all: Vec<_> = self.site.members.iter().filter_map(told).collect();
        let keys: BTreeSet<&str> =
            all.iter().flat_map(|(_, settings)| settings.keys()).map(String::as_str).collect();
        for key in
            keys.into_iter().filter(|key| !OWN.contains(key) && !key.starts_with("storePath"))
        {
            let value = |settings: &'a BTreeMap<String, String>| {
                settings.get(key).map_or("(not set)", String::as_str)
            };
            let values: Vec<_> =
                all.iter().map(|(name, settings)| (*name, value(settings))).collect();
            let Some(what) = differing(key, &values) else { continue };
            let (gravity, todo) = if MUST_AGREE.contains(&key) {
                (
                    Gravity::Harmed,
                    "members refuse each other over it: make it the same, and restart",
                )
            } else {
                (
                    Gravity::Notable,
                    "whoever leads decides, so it changes with the leader: make it the same",
                )
            };
            self.add(gravity, what, todo);
        }
        let releases: Vec<_> =
            facts(self.site).map(|f| (f.member.as_str(), f.version.as_str())).collect();
        if let Some(what) = differing("the release", &releases) {
            self.add(Gravity::Notable, what, "finish the upgrade");
        }
    }

    /// Members that share an address.
    fn look_at_names(&mut self) {
        let mut by_address: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for peer in facts(self.site).flat_map(|facts| &facts.peers) {
            by_address.entry(&peer.address).or_default().insert(&peer.name);
        }
        let mut by_client_address: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for facts in facts(self.site) {
            by_client_address.entry(&facts.address).or_default().insert(&facts.member);
        }
        for (key, shared) in [("dLegerPeers", by_address), ("brokerIP1", by_client_address)] {
            for (address, names) in shared.into_iter().filter(|(_, names)| names.len() > 1) {
                let names = names.into_iter().collect::<Vec<_>>().join(" and ");
                self.add(
                    Gravity::Harmed,
                    format!("{names} have the same address: {address} ({key})"),
                    "give each member an address of its own",
                );
            }
        }
    }

    /// What clients are told.
    fn look_at_name_servers(&mut self) {
        let leader = self.leader.clone();
        let at = leader.as_ref().and_then(|(name, _)| Some(self.facts_of(name)?.address.as_str()));
        for view in &self.site.name_servers {
            let server = &view.address;
            let known = match &view.knows {
                Ok(known) => known,
                Err(why) => {
                    self.add(
                        Gravity::Notable,
                        format!("name server {server} does not help: {why}"),
                        "start it, or name the right ones with -n; clients ask the others meanwhile",
                    );
                    continue;
                }
            };
            match (known.get(&0), at) {
                (Some(told), Some(at)) if told != at => self.add(
                    Gravity::Harmed,
                    format!("name server {server} says that {told} leads, but it is {at}"),
                    "is that server in the leader's namesrvAddr, and reachable from there? clients \
                     that ask it go to the wrong member",
                ),
                (None, Some(at)) => self.add(
                    Gravity::Harmed,
                    format!("name server {server} knows no leader, but {at} leads"),
                    "is that server in the leader's namesrvAddr, and reachable from there?",
                ),
                (Some(told), None) if leader.is_none() => self.add(
                    Gravity::Notable,
                    format!("name server {server} still says that {told} leads"),
                    "nothing: it learns it from the next leader",
                ),
                (Some(_) | None, _) => {}
            }
        }
    }
}

fn facts(site: &Site) -> impl Iterator<Item = &MemberFacts> {
    site.members.iter().map(|patient| &patient.heard.answer)
}

/// Whether somebody is there, be it to say no.
fn speaks(reached: Reached) -> bool {
    matches!(reached, Reached::Answered | Reached::Declined)
}

/// What came of a call, in a word.
pub(super) fn word(reached: Reached) -> &'static str {
    match reached {
        Reached::Answered => "answered",
        Reached::Refused => "refused",
        Reached::Silent => "not answered",
        Reached::Declined => "declined",
        Reached::Failed => "in vain",
    }
}

/// Says who has which value, if these differ.
fn differing(key: &str, values: &[(&str, &str)]) -> Option<String> {
    let mut by_value: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in values {
        by_value.entry(value).or_default().push(name);
    }
    let says = |(value, names): (&str, Vec<&str>)| format!("{} has {value:?}", names.join(" and "));
    (by_value.len() > 1).then(|| {
        let each: Vec<String> = by_value.into_iter().map(says).collect();
        format!("{key} differs: {}", each.join(", "))
    })
}
