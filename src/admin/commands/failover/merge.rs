//! One story of each change out of what the members saw of it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    admin::commands::members::Heard,
    protocol::bodies::{LeadBody, LeaderChangeBody, LeaderChangesBody},
};

/// Causes, from what explains least to what explains most: who hands over knows why, who called the
/// port knows that nobody listens, and who only heard of the new leader knows nothing.
const CAUSES: [&str; 11] = [
    "started",
    "unseen",
    "cut_off",
    "silent",
    "process_ended",
    "no_room",
    "slow_disk",
    "hanging",
    "preferred",
    "stopped",
    "transferred",
];

/// What happened at one member, or nowhere in particular.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::admin::commands) struct Step {
    /// When, in µs since 1970 by our clock.
    pub(in crate::admin::commands) at_us: i64,
    /// What: `lost`, `detected`, `campaigned`, `elected`, `led`, `registered`, `firstSend`.
    pub(in crate::admin::commands) step: &'static str,
    /// Members, or a name server.
    pub(in crate::admin::commands) of: String,
}

/// One change of the leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::admin::commands) struct Story {
    /// Why, as who knows best says.
    pub(in crate::admin::commands) cause: String,
    /// Who says so.
    pub(in crate::admin::commands) seen_by: Vec<String>,
    /// Who led.
    pub(in crate::admin::commands) from: Option<LeadBody>,
    /// Who leads; `None` while nobody does.
    pub(in crate::admin::commands) to: Option<LeadBody>,
    /// In the order of time.
    pub(in crate::admin::commands) steps: Vec<Step>,
    /// From the last sign of the former leader until the new one took writes, in µs.
    pub(in crate::admin::commands) leaderless_us: Option<i64>,
    /// Requests that waited for a leader.
    pub(in crate::admin::commands) held: u64,
    /// Requests passed on, up to 3 s after there was one.
    pub(in crate::admin::commands) forwarded: u64,
    /// Requests that failed at members that had to pass them on.
    pub(in crate::admin::commands) failed: u64,
}

impl Story {
    /// When a step was done first.
    pub(in crate::admin::commands) fn at(&self, step: &str) -> Option<i64> {
        self.steps.iter().find(|known| known.step == step).map(|known| known.at_us)
    }
}

/// A record by our clock, and whose it is.
struct Record<'a> {
    member: &'a str,
    offset_us: i64,
    change: &'a LeaderChangeBody,
}

impl Record<'_> {
    fn ours(&self, at_us: i64) -> i64 {
        at_us.saturating_add(self.offset_us)
    }

    fn rank(&self) -> usize {
        CAUSES.iter().position(|cause| *cause == self.change.cause).unwrap_or(0)
    }
}

/// Who misses a leader, while others who answer know better.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::admin::commands) struct OutOfTouch {
    pub(in crate::admin::commands) member: String,
    /// Whom it heard last; missing if nobody since its start.
    pub(in crate::admin::commands) from: Option<LeadBody>,
    /// Since when, in µs since 1970 by our clock.
    pub(in crate::admin::commands) since_us: i64,
}

/// Those for whom a change is going on that is none of the group's.
pub(in crate::admin::commands) fn out_of_touch(
    heard: &[Heard<LeaderChangesBody>],
) -> Vec<OutOfTouch> {
    let astray = heard.iter().filter_map(|told| {
        let last = told.answer.changes.last().filter(|last| is_refuted(last, heard))?;
        Some(OutOfTouch {
            member: told.answer.member.clone(),
            from: last.from.clone(),
            since_us: last.detected_us.saturating_add(told.offset_us),
        })
    });
    astray.collect()
}

/// Whether a change is going on for its member only, as somebody who answers knows.
fn is_refuted(change: &LeaderChangeBody, heard: &[Heard<LeaderChangesBody>]) -> bool {
    if change.to.is_some() {
        return false;
    }
    let missed = change.from.as_ref();
    let is_later = |lead: &LeadBody| missed.is_none_or(|missed| lead.term > missed.term);
    let misses = |told: &&Heard<LeaderChangesBody>| {
        told.answer.changes.last().is_some_and(|last| last.to.is_none() && last.from == change.from)
    };
    let members: BTreeSet<&String> = heard.iter().flat_map(|told| &told.answer.members).collect();
    // A leader that a majority misses leads no more: it notices within a second.
    let may_lead = 2 * heard.iter().filter(misses).count() < members.len();
    heard.iter().any(|told| match told.answer.changes.last().map(|last| (&last.from, &last.to)) {
        Some((_, Some(lead))) if is_later(lead) => true,
        Some((_, Some(lead))) => {
            missed == Some(lead) && lead.name == told.answer.member && may_lead
        }
        // Who has not heard of any leader is told with those who miss the latest one.
        Some((Some(lead), None)) => missed.is_some() && is_later(lead),
        Some((None, None)) | None => false,
    })
}

/// All changes that anybody who answered saw, oldest first.
pub(in crate::admin::commands) fn merge(heard: &[Heard<LeaderChangesBody>]) -> Vec<Story> {
    /// A leader that came back is its own story, of itself and each time.
    type Key<'a> = (Option<&'a LeadBody>, Option<(&'a str, u64)>);
    let mut stories: BTreeMap<Key<'_>, Vec<Record<'_>>> = BTreeMap::new();
    for told in heard {
        for change in told.answer.changes.iter().filter(|change| !is_refuted(change, heard)) {
            let member = told.answer.member.as_str();
            let is_back = change.to.is_some() && change.from == change.to;
            let key = (change.to.as_ref(), is_back.then_some((member, change.number)));
            let record = Record { member, offset_us: told.offset_us, change };
            stories.entry(key).or_default().push(record);
        }
    }
    let mut stories: Vec<Story> = stories.into_values().filter_map(|all| story(&all)).collect();
    stories.sort_by_key(|story| story.at("led").or_else(|| story.at("detected")));
    // What is going on comes last, also by clocks that differ.
    stories.sort_by_key(|story| story.to.is_none());
    stories
}

fn story(all: &[Record<'_>]) -> Option<Story> {
    let best = all.iter().map(Record::rank).max()?;
    let knowing: Vec<&Record<'_>> = all.iter().filter(|record| record.rank() == best).collect();
    let first = knowing.first()?;
    let to = first.change.to.clone();
    let from = all.iter().filter_map(|record| record.change.from.clone()).max();
    let of = |lead: &Option<LeadBody>| {
        all.iter().find(|record| lead.as_ref().is_some_and(|lead| lead.name == record.member))
    };
    let (former, new) = (of(&from).filter(|_| from != to), of(&to));
    let cause = first.change.cause.clone();
    let lost = knowing.iter().map(|record| record.ours(record.change.lost_us));
    let lost = match cause.as_str() {
        // It was last heard by whoever heard it last.
        "silent" => lost.max(),
        // Who let go knows when; the others were told later.
        "stopped" | "transferred" | "preferred" | "no_room" | "slow_disk" | "hanging" => former
            .filter(|record| record.change.cause == cause)
            .map_or_else(|| lost.min(), |record| Some(record.ours(record.change.lost_us))),
        _ => lost.min(),
    }?;
    let detected = knowing.iter().map(|record| record.ours(record.change.detected_us)).min()?;
    let names = |records: &[&Record<'_>]| -> Vec<String> {
        let mut names: Vec<String> =
            records.iter().map(|record| record.member.to_owned()).collect();
        names.sort_unstable();
        names
    };
    let seen_by = names(&knowing);
    let mut steps = vec![
        Step { at_us: lost, step: "lost", of: from.as_ref().map_or_else(String::new, name) },
        Step { at_us: detected.max(lost), step: "detected", of: seen_by.join(", ") },
    ];
    steps.extend(steps_of_new(all, new, to.as_ref()));
    steps.sort_by_key(|step| step.at_us);
    let led = steps.iter().find(|step| step.step == "led").map(|step| step.at_us);
    let sum = |of: fn(&LeaderChangeBody) -> u64| {
        all.iter().fold(0_u64, |sum, record| sum.saturating_add(of(record.change)))
    };
    Some(Story {
        cause,
        seen_by,
        from,
        to,
        leaderless_us: led.map(|led| led.saturating_sub(lost).max(0)),
        steps,
        held: sum(|change| change.held),
        forwarded: sum(|change| change.forwarded),
        failed: sum(|change| change.failed),
    })
}

fn name(lead: &LeadBody) -> String {
    lead.name.clone()
}

/// What the new leader says of its election; where it does not answer, what others know of that.
fn steps_of_new(all: &[Record<'_>], new: Option<&Record<'_>>, to: Option<&LeadBody>) -> Vec<Step> {
    let mut steps = Vec::new();
    let Some(to) = to else {
        // Nobody has won; somebody may have tried.
        let tried = all.iter().filter_map(|record| Some((record, record.change.campaigned_us?)));
        steps.extend(tried.map(|(record, at_us)| Step {
            at_us: record.ours(at_us),
            step: "campaigned",
            of: record.member.to_owned(),
        }));
        return steps;
    };
    let of_new = |at_us: fn(&LeaderChangeBody) -> Option<i64>| {
        new.and_then(|record| Some(record.ours(at_us(record.change)?)))
    };
    let known = all.iter().filter_map(|record| Some(record.ours(record.change.led_us?))).min();
    for (step, at_us) in [
        ("campaigned", of_new(|change| change.campaigned_us)),
        ("elected", of_new(|change| change.elected_us)),
        ("led", of_new(|change| change.led_us).or(known)),
    ] {
        steps.extend(at_us.map(|at_us| Step { at_us, step, of: to.name.clone() }));
    }
    if let Some(record) = new {
        steps.extend(record.change.registered.iter().map(|told| Step {
            at_us: record.ours(told.at_us),
            step: "registered",
            of: told.name_server.clone(),
        }));
    }
    let sent = all.iter().filter_map(|record| {
        let at_us = record.ours(record.change.sent_us?);
        Some(Step { at_us, step: "firstSend", of: record.member.to_owned() })
    });
    steps.extend(sent.min_by_key(|step| step.at_us));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(name: &str, term: u64) -> Option<LeadBody> {
        Some(LeadBody { term, name: name.to_owned() })
    }

    /// A change from n0 to n1, noticed at 100 and over at 200.
    fn change(cause: &str, lost_us: i64) -> LeaderChangeBody {
        LeaderChangeBody {
            number: 1,
            cause: cause.to_owned(),
            from: lead("n0", 1),
            to: lead("n1", 2),
            lost_us,
            detected_us: 100,
            led_us: Some(200),
            held: 2,
            ..LeaderChangeBody::default()
        }
    }

    fn told(
        member: &str,
        offset_us: i64,
        changes: &[LeaderChangeBody],
    ) -> Heard<LeaderChangesBody> {
        let (member, changes) = (member.to_owned(), changes.to_vec());
        let answer = LeaderChangesBody { member, changes, ..LeaderChangesBody::default() };
        Heard { answer, offset_us, unsure_us: 0 }
    }

    fn short(story: &Story) -> String {
        let steps = story.steps.iter().map(|step| format!("{}@{}", step.step, step.at_us));
        format!(
            "{} by {}: {}",
            story.cause,
            story.seen_by.join("+"),
            steps.collect::<Vec<_>>().join(" ")
        )
    }

    #[test]
    fn the_winner_tells_of_its_election_and_the_others_of_what_they_saw_by_one_clock() {
        let winner = LeaderChangeBody {
            campaigned_us: Some(120),
            elected_us: Some(130),
            registered: vec![crate::protocol::bodies::RegisteredBody {
                name_server: "ns:1".to_owned(),
                at_us: 210,
            }],
            sent_us: Some(230),
            ..change("process_ended", 90)
        };
        // Its clock is 5 s ahead.
        let late = |us: i64| us + 5_000_000;
        let follower = LeaderChangeBody {
            lost_us: late(80),
            detected_us: late(95),
            led_us: Some(late(205)),
            sent_us: Some(late(220)),
            failed: 1,
            ..change("process_ended", 0)
        };
        let stories = merge(&[told("n1", 0, &[winner]), told("n2", -5_000_000, &[follower])]);
        let [story] = stories.as_slice() else { panic!("{stories:#?}") };
        assert_eq!(
            short(story),
            "process_ended by n1+n2: lost@80 detected@95 campaigned@120 elected@130 led@200 \
             registered@210 firstSend@220"
        );
        assert_eq!((story.held, story.failed, story.leaderless_us), (4, 1, Some(120)));
    }

    #[test]
    fn who_knows_why_is_believed() {
        /// Of members: cause and last sign; then what is believed.
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str, i64)], &'a str);
        let rows: [Row<'_>; 6] = [
            (
                "dead, and one did not notice",
                &[("n1", "process_ended", 50), ("n2", "unseen", 40)],
                "process_ended by n1: lost@50 detected@100 led@200",
            ),
            (
                "silent: who heard it last is right",
                &[("n1", "silent", 40), ("n2", "silent", 60)],
                "silent by n1+n2: lost@60 detected@100 led@200",
            ),
            (
                "the former leader knows since when",
                &[("n0", "stopped", 70), ("n1", "stopped", 60)],
                "stopped by n0+n1: lost@70 detected@100 led@200",
            ),
            (
                "it was only cut off, the others know more",
                &[("n0", "cut_off", 90), ("n1", "silent", 60)],
                "silent by n1: lost@60 detected@100 led@200",
            ),
            (
                "who restarted knows nothing",
                &[("n1", "silent", 60), ("n2", "started", 10)],
                "silent by n1: lost@60 detected@100 led@200",
            ),
            (
                "a cause of a later release",
                &[("n1", "unheard_of", 60)],
                "unheard_of by n1: lost@60 detected@100 led@200",
            ),
        ];
        for (case, members, want) in rows {
            let heard: Vec<_> = members
                .iter()
                .map(|(member, cause, lost)| told(member, 0, &[change(cause, *lost)]))
                .collect();
            let stories = merge(&heard);
            assert_eq!(stories.len(), 1, "{case}");
            assert_eq!(short(&stories[0]), want, "{case}");
        }
    }

    #[test]
    fn changes_are_told_in_order_and_what_goes_on_comes_last() {
        let back = LeaderChangeBody {
            number: 2,
            from: lead("n1", 2),
            led_us: Some(400),
            ..change("cut_off", 300)
        };
        let going_on = LeaderChangeBody {
            number: 3,
            from: lead("n1", 2),
            to: None,
            led_us: None,
            detected_us: i64::MIN,
            ..change("silent", i64::MIN)
        };
        let of_n1 = [change("silent", 50), back, going_on.clone()];
        let stories =
            merge(&[told("n1", -7, &of_n1), told("n2", 0, &[change("silent", 50), going_on])]);
        let causes: Vec<_> = stories.iter().map(|story| story.cause.as_str()).collect();
        assert_eq!(causes, ["silent", "cut_off", "silent"]);
        assert_eq!(stories[2].to, None);
        assert_eq!(stories[2].leaderless_us, None);
    }

    /// The group's start, as all see it: n0 leads in term 5.
    fn started() -> LeaderChangeBody {
        LeaderChangeBody { from: None, to: lead("n0", 5), ..change("started", 50) }
    }

    /// Somebody has missed `from` since 900.
    fn misses(from: Option<LeadBody>) -> LeaderChangeBody {
        LeaderChangeBody {
            number: 2,
            from,
            to: None,
            led_us: None,
            detected_us: 900,
            ..change("silent", 800)
        }
    }

    #[test]
    fn who_lost_touch_does_not_say_that_nobody_leads() {
        let to_n1 = LeaderChangeBody {
            number: 2,
            from: lead("n0", 5),
            to: lead("n1", 6),
            ..change("silent", 850)
        };
        let of_n0 = || misses(lead("n0", 5));
        /// Changes of n0, n1 and n2, if they answer; who leads in the end.
        type Row<'a> = (&'a str, [Option<Vec<LeaderChangeBody>>; 3], Option<LeadBody>);
        let rows: [Row<'_>; 8] = [
            (
                "n2 is cut off, and n0 leads on",
                [Some(vec![started()]), Some(vec![started()]), Some(vec![started(), of_n0()])],
                lead("n0", 5),
            ),
            (
                "n2 is cut off, and n1 leads since",
                [
                    Some(vec![started(), to_n1.clone()]),
                    Some(vec![started(), to_n1.clone()]),
                    Some(vec![started(), of_n0()]),
                ],
                lead("n1", 6),
            ),
            (
                "the same, and n0 is dead",
                [None, Some(vec![started(), to_n1.clone()]), Some(vec![started(), of_n0()])],
                lead("n1", 6),
            ),
            (
                "n0 itself is cut off, and has not noticed that n1 leads since",
                [
                    Some(vec![started(), of_n0()]),
                    Some(vec![started(), to_n1.clone()]),
                    Some(vec![started(), to_n1]),
                ],
                lead("n1", 6),
            ),
            (
                "a majority misses n0, which has not noticed",
                [
                    Some(vec![started()]),
                    Some(vec![started(), of_n0()]),
                    Some(vec![started(), of_n0()]),
                ],
                None,
            ),
            (
                "n0 is dead, and nobody leads yet",
                [None, Some(vec![started(), of_n0()]), Some(vec![started(), of_n0()])],
                None,
            ),
            (
                "n2 has just started, and finds nobody",
                [Some(vec![started()]), Some(vec![started()]), Some(vec![misses(None)])],
                lead("n0", 5),
            ),
            (
                "all have just started",
                [Some(vec![misses(None)]), Some(vec![misses(None)]), None],
                None,
            ),
        ];
        for (case, pages, want) in rows {
            let heard = heard(pages);
            let last = merge(&heard).into_iter().next_back();
            assert_eq!(last.unwrap().to, want, "{case}");
            let astray = out_of_touch(&heard);
            assert_eq!(astray.len(), usize::from(want.is_some()), "{case}: {astray:?}");
            assert!(astray.iter().all(|told| told.since_us == 900), "{case}: {astray:?}");
        }
    }

    /// What n0, n1 and n2 say, if they answer.
    fn heard(pages: [Option<Vec<LeaderChangeBody>>; 3]) -> Vec<Heard<LeaderChangesBody>> {
        let names = ["n0", "n1", "n2"];
        let all = names.into_iter().zip(pages).filter_map(|(name, page)| {
            let mut told = told(name, 0, &page?);
            told.answer.members = names.map(str::to_owned).to_vec();
            Some(told)
        });
        all.collect()
    }

    #[test]
    fn who_misses_an_older_leader_adds_nothing_to_what_goes_on() {
        let two = |held| LeaderChangeBody { held, ..misses(lead("n1", 6)) };
        let one = LeaderChangeBody { held: 99, ..misses(lead("n0", 5)) };
        let heard = heard([Some(vec![two(1)]), Some(vec![two(2)]), Some(vec![one])]);
        let stories = merge(&heard);
        assert_eq!(stories.len(), 1, "{stories:#?}");
        assert_eq!((stories[0].from.clone(), stories[0].held), (lead("n1", 6), 3));
        // Who has just started knows less, and is told with the others.
        let new = LeaderChangeBody { held: 4, ..misses(None) };
        let heard = self::heard([Some(vec![two(1)]), Some(vec![new]), None]);
        let stories = merge(&heard);
        assert_eq!((stories.len(), stories[0].held), (1, 5), "{stories:#?}");
    }
}
