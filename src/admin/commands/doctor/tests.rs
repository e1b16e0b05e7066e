//! What is found in classical cases.

use std::collections::BTreeMap;

use super::{Patient, Site, View, diagnose::diagnose};
use crate::{
    admin::commands::members::Heard,
    protocol::bodies::{
        Awaiting, DiskFacts, LineageFacts, MemberFacts, PeerFacts, Reached, ScrubFacts,
        SlowDiskFacts, SyncFacts, VotingFacts,
    },
};

const NAMES: [&str; 3] = ["n0", "n1", "n2"];

fn client_address(name: &str) -> String {
    format!("{name}:10911")
}

/// One of three, which reaches all others and follows n1, or leads.
fn member(name: &str) -> Patient {
    let peers = NAMES.iter().filter(|peer| **peer != name).map(|peer| PeerFacts {
        name: (*peer).to_owned(),
        address: format!("{peer}:40911"),
        reached: Reached::Answered,
        took_us: 300,
        why: None,
    });
    let answer = MemberFacts {
        group: "G".to_owned(),
        member: name.to_owned(),
        address: client_address(name),
        version: "1".to_owned(),
        term: 4,
        leader: Some("n1".to_owned()),
        disk: Some(DiskFacts { total: 100, free: 50, shortage: None }),
        peers: peers.collect(),
        ..MemberFacts::default()
    };
    let settings = [("dLegerPeers", "x"), ("brokerIP1", name), ("flushDiskType", "ASYNC_FLUSH")];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    Patient { heard: Heard { answer, offset_us: 0, unsure_us: 100 }, settings: Some(settings) }
}

fn well() -> Site {
    let known = [(0, "n1"), (1, "n0"), (3, "n2")].map(|(id, name)| (id, client_address(name)));
    let view = View { address: "ns:9876".to_owned(), knows: Ok(BTreeMap::from(known)) };
    Site { group: "G".to_owned(), members: NAMES.map(member).into(), name_servers: vec![view] }
}

impl Site {
    fn facts(&mut self, name: &str) -> &mut MemberFacts {
        let of = |patient: &&mut Patient| patient.heard.answer.member == name;
        &mut self.members.iter_mut().find(of).unwrap().heard.answer
    }

    fn call(&mut self, from: &str, to: &str, reached: Reached, why: &str) {
        let peers = &mut self.facts(from).peers;
        let call = peers.iter_mut().find(|peer| peer.name == to).unwrap();
        (call.reached, call.why) = (reached, (!why.is_empty()).then(|| why.to_owned()));
    }

    fn leaderless(&mut self) {
        self.members.iter_mut().for_each(|patient| patient.heard.answer.leader = None);
        self.name_servers.clear();
    }

    /// Its process ended, and everybody noticed.
    fn kill(&mut self, name: &str) {
        self.members.retain(|patient| patient.heard.answer.member != name);
        let left: Vec<String> =
            self.members.iter().map(|patient| patient.heard.answer.member.clone()).collect();
        left.iter().for_each(|from| self.call(from, name, Reached::Refused, ""));
    }

    fn slow_disk(&mut self, name: &str) {
        let why = format!("/d/{name}: a sync took 3.0 s");
        self.facts(name).slow_disk = Some(SlowDiskFacts { why, left_ms: 42_900 });
    }

    /// All have recorded that these vote, and those only get the log.
    fn votes(&mut self, voters: &[&str], learners: &[&str]) {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        for patient in &mut self.members {
            let (voters, learners) = (owned(voters), owned(learners));
            patient.heard.answer.voting = Some(VotingFacts { term: 4, index: 9, voters, learners });
        }
    }

    /// A survivor has started the group anew.
    fn is_anew(&mut self, survivor: &str) {
        for patient in &mut self.members {
            let facts = &mut patient.heard.answer;
            let (id, since_ms) = if facts.member == survivor { (7, 9) } else { (0, 0) };
            facts.lineage = Some(LineageFacts { id: format!("{id:016x}"), since_ms });
        }
    }

    fn settings(&mut self, name: &str) -> &mut BTreeMap<String, String> {
        let of = |patient: &&mut Patient| patient.heard.answer.member == name;
        self.members.iter_mut().find(of).unwrap().settings.as_mut().unwrap()
    }
}

/// A case, and what is said: the verdict, then what of each finding.
type Case = (&'static str, fn(&mut Site), &'static [&'static str]);

const CASES: [Case; 34] = [
    ("well", |_| {}, &["G is well: n1 leads in term 4, n0 and n2 follow"]),
    (
        "a follower is down",
        |site| site.kill("n2"),
        &[
            "G has a leader, n1, and something to look at",
            "n2 is missing: calls to n2:40911 are refused; if another one fails, nobody can lead",
        ],
    ),
    (
        "a majority is missing, and the dead leader's name is remembered",
        |site| {
            site.kill("n0");
            site.kill("n1");
            site.name_servers.clear();
        },
        &[
            "G has no leader: of 3 members 2 are needed, and only n2 is there: n0 and n1 are missing",
            "there is no leader: of 3 members 2 are needed",
            "n0 is missing",
            "n1 is missing",
        ],
    ),
    (
        "those who are there do not reach each other",
        |site| {
            site.kill("n0");
            site.leaderless();
            site.call("n1", "n2", Reached::Silent, "");
        },
        &[
            "G has no leader: n1 and n2 are there, but cannot reach each other (n1 to n2: not \
             answered)",
            "there is no leader",
            "n0 is missing",
            "n1 cannot reach n2: n2:40911 does not answer within a second",
        ],
    ),
    (
        "one way is cut, and the leader has a majority all the same",
        |site| site.call("n0", "n2", Reached::Silent, ""),
        &["G has a leader", "n0 cannot reach n2: n2:40911 does not answer within a second"],
    ),
    (
        "a wrong address in one file",
        |site| site.call("n0", "n2", Reached::Refused, ""),
        &["G has a leader", "n0 cannot reach n2: n2:40911 refuses calls, but n2 runs"],
    ),
    (
        "a name that is not known",
        |site| site.call("n0", "n2", Reached::Failed, "no such host"),
        &["G has a leader", "n0 cannot reach n2 at n2:40911: no such host"],
    ),
    (
        "different clusters",
        |site| {
            site.call("n2", "n1", Reached::Declined, "brokerClusterName differs: n1 has …");
            site.settings("n2").insert("brokerClusterName".to_owned(), "y".to_owned());
        },
        &[
            "G has a leader, n1, and 2 things to look at",
            "n1 will not talk with n2: brokerClusterName differs: n1 has …",
            "brokerClusterName differs: n0 and n1 have \"(not set)\", n2 has \"y\"",
        ],
    ),
    (
        "files that lag behind the log, as in a group that grew",
        |site| {
            site.settings("n2").insert("dLegerPeers".to_owned(), "y".to_owned());
        },
        &["G is well"],
    ),
    (
        "another way to sync",
        |site| {
            site.settings("n0").insert("flushDiskType".to_owned(), "SYNC_FLUSH".to_owned());
        },
        &["G has a leader", "flushDiskType differs: n1 and n2 have \"ASYNC_FLUSH\", n0 has"],
    ),
    (
        "a full disk, and one that soon will be",
        |site| {
            site.facts("n0").disk = Some(DiskFacts { total: 1000, free: 95, shortage: None });
            let disk = site.facts("n2").disk.as_mut().unwrap();
            disk.shortage = Some("1 MB left".to_owned());
        },
        &[
            "G has a leader",
            "n2 takes no messages, its disk is full: 1 MB left",
            "n0 has 9 % of its disk left",
        ],
    ),
    (
        "a slow disk, and one that does not answer",
        |site| {
            site.facts("n0").syncs = Some(SyncFacts {
                count: 9,
                mean_us: 9,
                p99_us: 131_072,
                longest_us: Some(640_000),
            });
            site.facts("n2").disk = None;
        },
        &[
            "G has a leader",
            "n2 cannot see how full its disk is",
            "n0's disk is slow: a sync in a hundred takes 131 ms; the longest of the last minute \
             took 640 ms",
        ],
    ),
    (
        "a follower whose disk took seconds",
        |site| {
            site.slow_disk("n2");
            site.facts("n2").syncs = Some(SyncFacts {
                count: 9,
                mean_us: 9,
                p99_us: 131_072,
                longest_us: Some(3_000_000),
            });
        },
        &[
            "G has a leader, n1, and something to look at",
            "n2 has a slow disk, /d/n2: a sync took 3.0 s: it leads only if nobody else can, for 42 \
             s more; the longest of the last minute took 3000 ms",
        ],
    ),
    (
        "slow disks, and no majority without them",
        |site| ["n0", "n1"].iter().for_each(|name| site.slow_disk(name)),
        &[
            "G has a leader, n1, and 3 things to look at",
            "n0 has a slow disk, /d/n0: a sync took 3.0 s: it leads only if nobody else can",
            "n1 has a slow disk, /d/n1: a sync took 3.0 s: it leads all the same, for nobody else \
             can take over",
            "of 3 members n0 and n1 have slow disks: what clients send waits for a slow disk",
        ],
    ),
    (
        "a slow disk, and a dead member: no majority without slow disks",
        |site| {
            site.kill("n2");
            site.slow_disk("n0");
        },
        &[
            "G has a leader, n1, and 3 things to look at",
            "n2 is missing: calls to n2:40911 are refused; if another one fails, nobody can lead",
            "n0 has a slow disk, /d/n0: a sync took 3.0 s: it leads only if nobody else can",
            "of 3 members n0 has a slow disk and n2 is missing: what clients send waits for a slow \
             disk",
        ],
    ),
    (
        "a slow disk where nobody can lead: first things first",
        |site| {
            site.kill("n1");
            site.kill("n2");
            site.leaderless();
            site.slow_disk("n0");
        },
        &[
            "G has no leader: of 3 members 2 are needed, and only n0 is there",
            "there is no leader",
            "n1 is missing",
            "n2 is missing",
            "n0 has a slow disk",
        ],
    ),
    (
        "damage that nobody could repair",
        |site| site.facts("n0").scrub = Some(ScrubFacts { unrepaired: 2, ..Default::default() }),
        &[
            "G has a leader, n1, and something to look at",
            "n0 found damage in its log that nobody could repair: 2 entries",
        ],
    ),
    (
        "members differ, each whole by its checksums",
        |site| site.facts("n2").scrub = Some(ScrubFacts { differing: 1, ..Default::default() }),
        &[
            "G has a leader, n1, and something to look at",
            "n2 has other bytes than other members in 1 committed entries",
        ],
    ),
    (
        "a leader that has room, and too few others",
        |site| {
            let why = "too few members have room (2 of 3 do not): n0: 1 MB left; n2: 1 MB left";
            site.facts("n1").others_shortage = Some(why.to_owned());
        },
        &[
            "G has a leader, n1, and something to look at",
            "n1 leads and takes no messages: too few members have room (2 of 3 do not): n0: 1 MB",
        ],
    ),
    (
        "a disk that was never asked how long it takes",
        |site| site.facts("n0").syncs = Some(SyncFacts::default()),
        &["G is well"],
    ),
    (
        "a clock that is ahead",
        |site| site.members[2].heard.offset_us = -700_000,
        &["G has a leader", "n2's clock is 700 ms ahead of the others"],
    ),
    (
        "a clock that may be ahead, as seen from far away",
        |site| {
            (site.members[2].heard.offset_us, site.members[2].heard.unsure_us) = (700_000, 300_000)
        },
        &["G is well"],
    ),
    (
        "a member in doubt, or not taken in yet",
        |site| site.facts("n0").waits_for = Some("an answer of n9".to_owned()),
        &["G has a leader", "n0 is there, but waits: an answer of n9"],
    ),
    (
        "a learner is down: no majority needs it",
        |site| {
            site.votes(&["n0", "n1"], &["n2"]);
            site.kill("n2");
        },
        &[
            "G has a leader, n1, and something to look at",
            "n2 is missing: calls to n2:40911 are refused; it does not vote",
        ],
    ),
    (
        "two of four voters are down, and a learner runs",
        |site| {
            site.votes(&["n0", "n1", "n3", "n4"], &["n2"]);
            site.leaderless();
        },
        &[
            "G has no leader: of 4 voting members 3 are needed, and only n0 and n1 are there: n3 and \
             n4 are missing",
            "there is no leader",
            "n3 is missing: calls to  are ",
            "n4 is missing: calls to  are ",
        ],
    ),
    (
        "who is configured and was removed is not missing",
        |site| {
            site.votes(&["n0", "n1"], &[]);
            site.kill("n2");
        },
        &["G is well: n1 leads in term 4, n0 follows"],
    ),
    (
        "who was removed runs on",
        |site| {
            site.votes(&["n0", "n1"], &[]);
            let removed = site.facts("n2");
            removed.voting.as_mut().unwrap().index = 1;
            removed.voting.as_mut().unwrap().voters.push("n2".to_owned());
            removed.waits_for = Some("n2 was removed from the group: stop it".to_owned());
            removed.awaiting = Awaiting::Removed;
        },
        &["G has a leader, n1, and something to look at", "n2 was removed from the group: stop it"],
    ),
    (
        "who lost its store answers, and is no part of a majority",
        |site| {
            site.kill("n2");
            site.leaderless();
            site.facts("n1").waits_for = Some("its store is new".to_owned());
            site.facts("n1").awaiting = Awaiting::Leader;
            let missing = "no leader, a majority is missing: n1 (lost its store), n2";
            site.facts("n0").waits_for = Some(missing.to_owned());
            site.facts("n0").awaiting = Awaiting::Majority;
        },
        &[
            "G has no leader: n0 waits: no leader, a majority is missing: n1 (lost its store), n2",
            "there is no leader: n0 waits",
            "n2 is missing",
            "n0 is there, but waits: no leader, a majority is missing",
            "n1 is there, but waits: its store is new",
        ],
    ),
    (
        "a survivor started the group anew, and one of the others came back",
        |site| {
            site.kill("n2");
            site.votes(&["n1"], &[]);
            site.is_anew("n1");
            site.call("n0", "n1", Reached::Declined, "lineage differs: …");
            site.facts("n0").leader = None;
            site.facts("n0").waits_for = Some("no leader, a majority is missing".to_owned());
        },
        &[
            "G has a leader, n1, and something to look at",
            "n0 belongs to the group as it was before a survivor started it anew",
        ],
    ),
    (
        "a former member that does not answer here, as its peer heard it",
        |site| {
            site.members.remove(0);
            site.call("n1", "n0", Reached::Declined, "lineage differs: …");
        },
        &[
            "G has a leader, n1, and 2 things to look at",
            "n0 and n1 belong to different groups of this name: lineage differs: …",
            "n0 was not asked",
        ],
    ),
    (
        "a core that ended",
        |site| site.facts("n0").stopped = Some("the log is damaged".to_owned()),
        &["G has a leader", "n0 takes no part in the group any more: the log is damaged"],
    ),
    (
        "name servers with an older leader, with none, and not there",
        |site| {
            site.name_servers[0].knows = Ok(BTreeMap::from([(0, client_address("n0"))]));
            let others = [("b:1", Ok(BTreeMap::new())), ("c:1", Err("refused".to_owned()))];
            let others = others.map(|(at, knows)| View { address: at.to_owned(), knows });
            site.name_servers.extend(others);
        },
        &[
            "G has a leader",
            "name server ns:9876 says that n0:10911 leads, but it is n1:10911",
            "name server b:1 knows no leader, but n1:10911 leads",
            "name server c:1 does not help: refused",
        ],
    ),
    (
        "two names for one address",
        |site| {
            for name in ["n0", "n1"] {
                let peers = &mut site.facts(name).peers;
                peers.iter_mut().for_each(|peer| peer.address = "n2:40911".to_owned());
            }
        },
        &["G has a leader", "n0, n1 and n2 have the same address: n2:40911 (dLegerPeers)"],
    ),
    (
        "nobody leads, and nothing is in the way",
        Site::leaderless,
        &[
            "G has no leader: n0, n1 and n2 are there and reach each other: an election is going \
             on",
            "there is no leader",
        ],
    ),
];

#[test]
fn classical_cases_are_told_with_the_worst_first() {
    for (case, change, want) in CASES {
        let mut site = well();
        change(&mut site);
        let found = diagnose(&site, &[]);
        let mut told = vec![found.verdict.as_str()];
        told.extend(found.findings.iter().map(|finding| finding.what.as_str()));
        let same = told.len() == want.len()
            && told.iter().zip(want).all(|(told, want)| told.starts_with(want));
        assert!(same, "{case}:\n{told:#?}");
        assert!(found.findings.iter().all(|finding| !finding.todo.is_empty()), "{case}");
        assert!(found.findings.is_sorted_by_key(|finding| finding.gravity), "{case}");
    }
}

#[test]
fn who_differs_is_told_with_what_a_majority_says() {
    let mut site = well();
    let verdict = Some("this member's is wrong".to_owned());
    site.facts("n2").scrub = Some(ScrubFacts { unrepaired: 0, differing: 3, verdict });
    let finding = &diagnose(&site, &[]).findings[0];
    assert!(finding.todo.starts_with("this member's is wrong; the log of n2"), "{finding:?}");
    site.facts("n2").scrub = Some(ScrubFacts::default());
    assert!(diagnose(&site, &[]).findings.is_empty());
}

#[test]
fn whoever_does_not_answer_is_named() {
    let silent = ["h:1 (refused)".to_owned()];
    let nobody = diagnose(&Site { group: "G".to_owned(), ..Site::default() }, &silent);
    assert_eq!(nobody.verdict, "G has no leader: nobody answers at h:1 (refused)");
    assert_eq!(nobody.findings[0].what, "no member answers: h:1 (refused)");
    let mut site = well();
    site.kill("n2");
    let missing = diagnose(&site, &silent);
    assert!(missing.findings[0].what.contains("refused; nor does h:1 (refused);"), "{missing:?}");
    let astray = diagnose(&well(), &silent);
    assert_eq!(astray.findings[0].what, "no answer from h:1 (refused)");
}

#[test]
fn who_is_only_out_of_our_reach_is_not_missing() {
    let mut site = well();
    site.members.remove(1);
    let found = diagnose(&site, &[]);
    assert_eq!(found.leader, Some(("n1".to_owned(), 4)), "its followers reach it");
    assert!(found.findings[0].what.starts_with("n1 was not asked: its address for clients is not"));
    let found = diagnose(&site, &["n1:10911 (timed out)".to_owned()]);
    assert!(found.findings[0].what.starts_with("n1 does not answer here; nor does n1:10911"));
    let mut site = well();
    site.facts("n0").leader = Some("n0".to_owned());
    site.facts("n0").term = 3;
    let two = diagnose(&site, &[]);
    assert_eq!(two.leader, Some(("n1".to_owned(), 4)), "the later term counts");
    assert!(two.findings[0].what.starts_with("n0 and n1 all take themselves for the leader"));
}

#[test]
fn what_a_member_waits_for_decides_what_is_to_be_done() {
    let rows = [
        (Awaiting::Start, "all start the group together"),
        (Awaiting::Leader, "a leader takes it in by itself"),
        (Awaiting::Operator, "stop n0 if it is not to belong"),
        (Awaiting::Majority, "an empty store in the place of one of them does not help"),
        (Awaiting::Majority, "rmq-broker -c FILE --recover-alone"),
        (Awaiting::Doubt, "One whose store is lost for good counts as asked when it runs with an"),
        (Awaiting::Removed, "stop n0, or take it in again"),
        (Awaiting::Untold, "start who it waits for"),
    ];
    for (awaiting, want) in rows {
        let mut site = well();
        site.facts("n0").waits_for = Some("…".to_owned());
        site.facts("n0").awaiting = awaiting;
        let todo = &diagnose(&site, &[]).findings[0].todo;
        assert!(todo.contains(want), "{awaiting:?}: {todo}");
        let advises_empty = todo.contains("empty one");
        assert_eq!(advises_empty, awaiting == Awaiting::Doubt, "{awaiting:?}: {todo}");
    }
    let mut site = well();
    site.kill("n0");
    site.kill("n1");
    let found = diagnose(&site, &[]);
    assert!(found.findings[0].todo.contains("not there), with their disks: an empty store"));
    let nobody_can = |finding: &super::diagnose::Finding| finding.what.contains("nobody can lead");
    assert!(!found.findings.iter().any(nobody_can), "nobody can already: {found:?}");
}

#[test]
fn facts_are_read_from_releases_that_say_less_or_more() {
    let facts: MemberFacts = serde_json::from_str(r#"{"member":"n0","waitsFor":"n9"}"#).unwrap();
    assert_eq!((facts.awaiting, facts.voting, facts.lineage), (Awaiting::Untold, None, None));
    let facts: MemberFacts = serde_json::from_str(r#"{"awaiting":"rain"}"#).unwrap();
    assert_eq!(facts.awaiting, Awaiting::Untold);
    let text = serde_json::to_string(&MemberFacts::default()).unwrap();
    assert!(!text.contains("awaiting") && !text.contains("voting"), "{text}");
}
