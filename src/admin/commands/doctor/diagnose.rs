//! From what was found out to what is wrong. Pure.

mod disks;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Patient, Site};
use crate::protocol::bodies::{Awaiting, LineageFacts, MemberFacts, PeerFacts, Reached};

/// Clocks that differ by more are told: times of messages and of retention go by them.
const CLOCKS_US: i64 = 500_000;
/// A member that lacks more entries than this is told.
const LAG: u64 = 10_000;
/// Settings without which members refuse each other.
const MUST_AGREE: [&str; 4] =
    ["brokerClusterName", "brokerName", "dLegerGroup", "mappedFileSizeCommitLog"];
/// How a member says no that belongs to another lineage.
const OF_ANOTHER_LINEAGE: &str = "lineage differs";
/// What to do when there is no majority.
const NO_MAJORITY: &str = "with their disks: an empty store in the place of one of them does not \
                           help. Only if the stores of a majority are lost for good: stop the \
                           survivors and look at each with rmq-broker -c FILE --recover-alone \
                           (README, A majority is lost for good)";
/// Settings that may differ: a member's own, and files lag behind the log that knows the members.
const OWN: [&str; 11] = [
    "bindAddress",
    "brokerIP1",
    "brokerIP2",
    "brokerId",
    "brokerConfigPath",
    "dLegerPeers",
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
        ward.look_at_lineages();
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
                many => format!("{} follow", listed(many)),
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
    /// What its members say; of those of the newest lineage, which alone are the group.
    facts: Vec<&'a MemberFacts>,
    /// What those say that belong to a former one.
    former: Vec<&'a MemberFacts>,
    /// All members, and where their peers call them.
    all: BTreeMap<&'a str, Option<&'a str>>,
    /// Those of them that vote.
    voters: BTreeSet<&'a str>,
    leader: Option<(String, u64)>,
    findings: Vec<Finding>,
}

impl<'a> Ward<'a> {
    fn new(site: &'a Site) -> Self {
        let told = site.members.iter().map(|patient| &patient.heard.answer);
        let newest = told.clone().filter_map(|facts| facts.lineage.as_ref()).map(age).max();
        let is_former = |facts: &&MemberFacts| {
            facts.lineage.as_ref().is_some_and(|lineage| Some(age(lineage)) != newest)
        };
        let (former, facts): (Vec<_>, Vec<&MemberFacts>) = told.partition(is_former);
        let (all, voters) = members(&facts);
        // Who leads says so itself; of two the later term counts.
        let leads = facts.iter().filter(|facts| facts.leader.as_ref() == Some(&facts.member));
        let leader = leads.max_by_key(|facts| facts.term);
        // Or it does not answer us, but who follows it can tell: by more than its name, which is
        // remembered until there is another.
        let known = facts.iter().filter_map(|facts| {
            let peer = facts.peers.iter().find(|peer| facts.leader.as_ref() == Some(&peer.name))?;
            (peer.reached == Reached::Answered).then(|| (peer.name.clone(), facts.term))
        });
        let is_absent = |(name, _): &(String, u64)| facts.iter().all(|f| f.member != *name);
        let known = known.filter(is_absent).max_by_key(|(_, term)| *term);
        let leader = leader.map(|facts| (facts.member.clone(), facts.term)).or(known);
        Self { site, facts, former, all, voters, leader, findings: Vec::new() }
    }

    fn add(&mut self, gravity: Gravity, what: String, todo: impl Into<String>) {
        self.findings.push(Finding { gravity, what, todo: todo.into() });
    }

    fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    fn facts_of(&self, name: &str) -> Option<&'a MemberFacts> {
        self.facts.iter().copied().find(|facts| facts.member == name)
    }

    fn call(&self, from: &str, to: &str) -> Option<&'a PeerFacts> {
        self.facts_of(from)?.peers.iter().find(|peer| peer.name == to)
    }

    /// Who is there, as far as we or any member can tell.
    fn present(&self) -> BTreeSet<&'a str> {
        let answers = |name: &str| {
            let is_reached = |facts: &MemberFacts| {
                let reached = |peer: &PeerFacts| peer.name == name && speaks(peer);
                facts.peers.iter().any(reached)
            };
            self.facts_of(name).is_some() || self.facts.iter().copied().any(is_reached)
        };
        self.all.keys().copied().filter(|name| answers(name)).collect()
    }

    /// Those of them that vote.
    fn voters_present(&self) -> BTreeSet<&'a str> {
        self.present().intersection(&self.voters).copied().collect()
    }

    /// Why there is no leader, if there is none; that is the gravest finding.
    fn leaderless(&mut self, silent: &[String]) -> Option<String> {
        if self.leader.is_some() {
            return None;
        }
        if self.site.members.is_empty() {
            return Some(format!("nobody answers at {}", silent.join(", ")));
        }
        let (present, majority) = (self.voters_present(), self.majority());
        let there: Vec<&str> = present.iter().copied().collect();
        let gone: Vec<&str> = self.voters.difference(&present).copied().collect();
        let ended = self.facts.iter().find(|facts| facts.stopped.is_some());
        let waits = self.facts.iter().filter_map(|facts| {
            let concerns_all = !matches!(facts.awaiting, Awaiting::Operator | Awaiting::Removed);
            Some((facts, facts.waits_for.as_ref().filter(|_| concerns_all)?))
        });
        // A majority is what all wait for first.
        let waits = waits.min_by_key(|(facts, _)| facts.awaiting != Awaiting::Majority);
        let (why, todo) = if present.len() < majority {
            (
                self.too_few(&there, &gone),
                format!(
                    "start {} (their logs say why they are not there), {NO_MAJORITY}",
                    listed(&gone)
                ),
            )
        } else if !self.is_connected(&present) {
            let pairs = self.broken(&present);
            (
                format!("{} are there, but cannot reach each other ({pairs})", listed(&there)),
                "see below: who does not reach whom, and why".to_owned(),
            )
        } else if let Some(ended) = ended {
            let why = ended.stopped.clone().unwrap_or_default();
            (
                format!("{} takes no part any more: {why}", ended.member),
                format!("mend the cause and restart {}", ended.member),
            )
        } else if let Some((facts, why)) = waits {
            (format!("{} waits: {why}", facts.member), "see below".to_owned())
        } else {
            (
                format!(
                    "{} are there and reach each other: an election is going on",
                    listed(&there)
                ),
                "ask again in a second; if it stays so, their logs say who votes for whom"
                    .to_owned(),
            )
        };
        self.add(Gravity::Down, format!("there is no leader: {why}"), todo);
        Some(why)
    }

    /// That those who are `there` are no majority.
    fn too_few(&self, there: &[&str], gone: &[&str]) -> String {
        let voting = if self.voters.len() < self.all.len() { "voting members" } else { "members" };
        let only = match there {
            [] => "none is there".to_owned(),
            [one] => format!("only {one} is there"),
            some => format!("only {} are there", listed(some)),
        };
        let is = if gone.len() == 1 { "is" } else { "are" };
        let (all, majority) = (self.voters.len(), self.majority());
        format!(
            "of {all} {voting} {majority} are needed, and {only}: {} {is} missing",
            listed(gone)
        )
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

    /// Members of a group that this one was before a survivor started it anew.
    fn look_at_lineages(&mut self) {
        for facts in self.former.clone() {
            let name = &facts.member;
            let leads = match &facts.leader {
                Some(leader) => format!(", which {leader} leads: clients may find either"),
                None => String::new(),
            };
            self.add(
                if facts.leader.is_some() { Gravity::Down } else { Gravity::Harmed },
                format!(
                    "{name} belongs to the group as it was before a survivor started it anew{leads}"
                ),
                format!(
                    "to take {name} into the new one: stop it, move its store away, start it, and \
                     run rmq-admin memberAdd"
                ),
            );
        }
    }

    /// Members that are not there.
    fn look_at_members(&mut self, silent: &[String]) {
        let is_missing = |name: &&str| self.facts_of(name).is_none() && !self.is_of_former(name);
        let missing: Vec<&str> = self.all.keys().copied().filter(is_missing).collect();
        let present = self.present();
        for name in &missing {
            let at = self.all.get(name).copied().flatten().unwrap_or_default();
            let asked = if silent.len() == 1 && missing.len() == 1 {
                format!("; nor does {}", silent[0])
            } else {
                String::new()
            };
            if present.contains(name) {
                let does_not_answer = match silent.len() {
                    0 => "was not asked: its address for clients is not known here",
                    some if some < missing.len() => "does not answer here, or was not asked",
                    _ => "does not answer here",
                };
                self.add(
                    Gravity::Notable,
                    format!("{name} {does_not_answer}{asked}; its peers reach it at {at}"),
                    "add its address for clients to -b, or name servers that know it with -n; its \
                     port for clients must be reachable from here",
                );
                continue;
            }
            let calls = self.facts.iter().filter_map(|facts| self.call(&facts.member, name));
            let calls: BTreeSet<&str> = calls.map(|call| word(call.reached)).collect();
            let todo = if calls.contains(word(Reached::Refused)) {
                format!("start rmq-broker with {name}'s configuration; its log says why it ended")
            } else {
                format!(
                    "is {name}'s machine up, does its process run, does the network let calls in?"
                )
            };
            let seen = calls.into_iter().collect::<Vec<_>>().join(", ");
            let is_last = self.leader.is_some() && self.voters_present().len() == self.majority();
            let last = match self.voters.contains(name) {
                true if is_last => "; if another one fails, nobody can lead",
                true => "",
                false => "; it does not vote",
            };
            let what = format!("{name} is missing: calls to {at} are {seen}{asked}{last}");
            self.add(Gravity::Harmed, what, todo);
        }
        if !silent.is_empty() && (silent.len() > 1 || missing.len() != 1) {
            self.add(
                Gravity::Notable,
                format!("no answer from {}", silent.join(", ")),
                "is that address right, and reachable from here?",
            );
        }
    }

    fn is_of_former(&self, name: &str) -> bool {
        self.former.iter().any(|facts| facts.member == name)
    }

    /// Calls between members that are both there, and do not get through.
    fn look_at_paths(&mut self) {
        let present = self.present();
        for facts in self.facts.clone() {
            for peer in &facts.peers {
                // Of who answers here and belongs to another group its own words are told.
                let is_alien = is_of_another_lineage(peer) && !self.is_of_former(&peer.name);
                if !is_alien && !present.contains(peer.name.as_str()) {
                    continue;
                }
                let (from, to, at) = (&facts.member, &peer.name, &peer.address);
                let why = peer.why.as_deref().unwrap_or_default();
                match peer.reached {
                    Reached::Answered => {}
                    Reached::Declined if is_alien => self.add(
                        Gravity::Harmed,
                        format!("{to} and {from} belong to different groups of this name: {why}"),
                        "only the newer one is the group: never let a member of the other one serve",
                    ),
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
        for facts in self.facts.clone() {
            let name = &facts.member;
            if let Some(why) = &facts.stopped {
                self.add(
                    Gravity::Harmed,
                    format!("{name} takes no part in the group any more: {why}"),
                    format!("mend the cause, then restart {name}"),
                );
            }
            if let Some(why) = &facts.waits_for {
                let (gravity, what) = match facts.awaiting {
                    Awaiting::Removed => (Gravity::Notable, why.clone()),
                    _ => (Gravity::Harmed, format!("{name} is there, but waits: {why}")),
                };
                self.add(gravity, what, advice(name, facts.awaiting));
            }
            if facts.lag > LAG && facts.stopped.is_none() {
                self.add(
                    Gravity::Notable,
                    format!("{name} is {} entries behind", facts.lag),
                    "it catches up by itself; if the number grows, its disk or its link is too slow",
                );
            }
            self.look_at_disk(facts);
            self.look_at_syncs(facts);
            self.look_at_scrub(facts);
        }
        let leads = self.facts.iter().filter(|facts| facts.leader.as_ref() == Some(&facts.member));
        let leads: Vec<&str> = leads.map(|facts| facts.member.as_str()).collect();
        if leads.len() > 1 {
            self.add(
                Gravity::Harmed,
                format!("{} all take themselves for the leader", listed(&leads)),
                "the one of the latest term is right, the others learn it within a second: ask again",
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
            self.facts.iter().map(|f| (f.member.as_str(), f.version.as_str())).collect();
        if let Some(what) = differing("the release", &releases) {
            self.add(Gravity::Notable, what, "finish the upgrade");
        }
    }

    /// Members that share an address.
    fn look_at_names(&mut self) {
        let mut by_address: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for peer in self.facts.iter().flat_map(|facts| &facts.peers) {
            by_address.entry(&peer.address).or_default().insert(&peer.name);
        }
        let mut by_client_address: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for facts in &self.facts {
            by_client_address.entry(&facts.address).or_default().insert(&facts.member);
        }
        for (key, shared) in [("dLegerPeers", by_address), ("brokerIP1", by_client_address)] {
            for (address, names) in shared.into_iter().filter(|(_, names)| names.len() > 1) {
                let names = listed(&names.into_iter().collect::<Vec<_>>());
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

/// Who belongs to a group, with where their peers call them, and who votes: as the newest log of
/// these members has it; all that anybody names, if no log is told. Pure.
fn members<'a>(
    facts: &[&'a MemberFacts],
) -> (BTreeMap<&'a str, Option<&'a str>>, BTreeSet<&'a str>) {
    let mut named: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    for facts in facts {
        named.entry(&facts.member).or_default();
        for peer in &facts.peers {
            named.insert(&peer.name, Some(&peer.address));
        }
    }
    let told = facts.iter().filter_map(|facts| facts.voting.as_ref());
    let Some(newest) = told.max_by_key(|voting| (voting.term, voting.index)) else {
        let all = named.keys().copied().collect();
        return (named, all);
    };
    let voters: BTreeSet<&str> = newest.voters.iter().map(String::as_str).collect();
    let recorded = newest.voters.iter().chain(&newest.learners).map(String::as_str);
    let answers = facts.iter().map(|facts| facts.member.as_str());
    let all = recorded.chain(answers).map(|name| (name, named.get(name).copied().flatten()));
    (all.collect(), voters)
}

/// Of two lineages the greater one is the newer one.
fn age(lineage: &LineageFacts) -> (i64, &str) {
    (lineage.since_ms, &lineage.id)
}

/// What to do about a member that waits.
fn advice(name: &str, awaiting: Awaiting) -> String {
    match awaiting {
        Awaiting::Start => {
            "start the members that it waits for: all start the group together".into()
        }
        Awaiting::Leader => "nothing: a leader takes it in by itself, once there is one".into(),
        Awaiting::Operator => format!("do so, or stop {name} if it is not to belong to this group"),
        Awaiting::Majority => format!("start those that are missing, {NO_MAJORITY}"),
        Awaiting::Doubt => "start the members that it waits for, with their disks: only they can \
                            tell what it lacks. One whose store is lost for good counts as asked \
                            when it runs with an empty one, and what only that store had is lost"
            .into(),
        Awaiting::Removed => format!("stop {name}, or take it in again with rmq-admin memberAdd"),
        Awaiting::Untold => "start who it waits for".into(),
    }
}

/// Whether somebody is there, be it to say no; who belongs to another lineage is not.
fn speaks(peer: &PeerFacts) -> bool {
    matches!(peer.reached, Reached::Answered | Reached::Declined) && !is_of_another_lineage(peer)
}

fn is_of_another_lineage(peer: &PeerFacts) -> bool {
    let why = peer.why.as_deref().unwrap_or_default();
    peer.reached == Reached::Declined && why.contains(OF_ANOTHER_LINEAGE)
}

/// `n0, n1 and n2`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [some @ .., last] => format!("{} and {last}", some.join(", ")),
    }
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
    let says = |(value, names): (&str, Vec<&str>)| {
        let have = if names.len() == 1 { "has" } else { "have" };
        format!("{} {have} {value:?}", listed(&names))
    };
    (by_value.len() > 1).then(|| {
        let each: Vec<String> = by_value.into_iter().map(says).collect();
        format!("{key} differs: {}", each.join(", "))
    })
}
