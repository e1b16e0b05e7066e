//! What a group says of itself: why it got another leader, step by step, and what is wrong with it.

use rustix::process::Signal;
use serde_json::Value;

use super::group::Group;
use super::{BROKER, Caller, Ended, NAMESRV, Process, WITHIN, clock, free_port};

const ADMIN: &str = env!("CARGO_BIN_EXE_rmq-admin");

/// A running group, and its name server.
struct Deployed {
    group: Group,
    members: Vec<Option<Process>>,
    _name_server: Process,
    name_server: String,
    caller: Caller,
}

impl Deployed {
    async fn start() -> Self {
        let (group, caller, port) = (Group::new(), Caller::new(), free_port());
        let mut server = group.site.start(NAMESRV, &["-c", &group.site.name_server(port)]);
        server.until("name server started");
        let name_server = format!("127.0.0.1:{port}");
        let changes = [("namesrvAddr", name_server.as_str())];
        let members = (0..3).map(|n| {
            let file = group.configure(n, &format!("n{n}"), &changes);
            Some(group.site.start(BROKER, &["-c", &file]))
        });
        let members = members.collect();
        group.send(&caller).await;
        let deployed = Self { group, members, _name_server: server, name_server, caller };
        deployed.until(&["doctor"], |ended| ended.code == Some(0));
        deployed
    }

    fn admin(&self, words: &[&str]) -> Ended {
        self.group.site.start(ADMIN, &[words, &["-n", &self.name_server]].concat()).end()
    }

    /// Runs a command until it says what is wanted.
    fn until(&self, words: &[&str], wanted: impl Fn(&Ended) -> bool) -> Ended {
        let deadline = clock::now() + WITHIN;
        loop {
            let ended = self.admin(words);
            if wanted(&ended) {
                return ended;
            }
            assert!(clock::now() < deadline, "{words:?}: {ended:#?}");
        }
    }

    async fn kill_leader(&mut self) -> String {
        let leader = self.group.leader(&self.caller).await;
        self.members[leader].take().unwrap().kill();
        format!("n{leader}")
    }
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.out).unwrap_or_default()
}

fn steps(story: &Value) -> Vec<String> {
    let steps = story["steps"].as_array().into_iter().flatten();
    steps.filter_map(|step| Some(step["step"].as_str()?.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_the_group_tells_each_step_of_the_failover() {
    let mut deployed = Deployed::start().await;
    let killed = deployed.kill_leader().await;
    deployed.group.send(&deployed.caller).await;
    let words = ["failover", "last", "-g", "G", "-o", "json"];
    let last = deployed.until(&words, |ended| {
        let steps = steps(&json(ended));
        ["registered", "firstSend"].iter().all(|step| steps.iter().any(|known| known == step))
    });
    let story = json(&last);
    assert_eq!(story["cause"], "process_ended", "{story:#}");
    assert_eq!(story["from"]["name"], killed.as_str(), "{story:#}");
    assert_eq!(story["seenBy"].as_array().unwrap().len(), 2, "{story:#}");
    assert_eq!(story["missing"], serde_json::json!([killed]));
    // They are told in the order of time.
    let steps = steps(&story);
    let before = ["lost", "detected", "campaigned", "elected", "led"];
    assert_eq!(steps[..5], before, "{story:#}");
    assert_eq!(steps.len(), 7, "{story:#}");
    assert!(story["leaderlessUs"].as_i64().unwrap() < 5_000_000, "{story:#}");

    let page = deployed.admin(&["failover", "last"]);
    assert_eq!(page.code, Some(0), "{page:?}");
    let next = story["to"]["name"].as_str().unwrap();
    let head = format!("G: {next} leads in place of {killed} (term ");
    assert!(page.out.starts_with(&head), "{}", page.out);
    assert!(page.out.contains(&format!("the process of {killed} ended")), "{}", page.out);
    let list = deployed.admin(&["failover", "list"]);
    assert_eq!(list.out.lines().count(), 3, "the start, the failover, a head: {}", list.out);
    let mut leader = deployed.members.iter_mut().flatten();
    let leader = leader.find(|member| {
        member.said.try_iter().any(|line| line.contains("elected, its first entry"))
    });
    leader.expect("somebody says so").until("a change of the leader is complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_who_is_missing_with_and_without_name_server() {
    let mut deployed = Deployed::start().await;
    let well = deployed.admin(&["doctor"]);
    assert!(well.out.starts_with("G is well: n"), "{well:?}");
    let killed = deployed.kill_leader().await;
    deployed.group.send(&deployed.caller).await;
    let missing = format!("{killed} is missing: calls to ");
    let found = deployed.until(&["doctor"], |ended| ended.out.contains(&missing));
    assert_eq!(found.code, Some(1), "{found:?}");
    assert!(found.out.contains("are refused"), "{}", found.out);

    let second = deployed.kill_leader().await;
    let members: Vec<String> =
        deployed.group.listen.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let args = ["doctor", "-b", &members.join(","), "-n", "127.0.0.1:1"];
    let deadline = clock::now() + WITHIN;
    let found = loop {
        let ended = deployed.group.site.start(ADMIN, &args).end();
        if ended.out.contains(" has no leader: ") {
            break ended;
        }
        assert!(clock::now() < deadline, "{ended:#?}");
    };
    assert_eq!(found.code, Some(1));
    let mut gone = [killed, second];
    gone.sort();
    let left = ["n0", "n1", "n2"].into_iter().find(|name| !gone.iter().any(|gone| gone == name));
    let verdict = format!(
        "G has no leader: of 3 members 2 are needed, and only {} is there: {} are missing",
        left.unwrap(),
        gone.join(" and ")
    );
    assert_eq!(found.out.lines().next(), Some(verdict.as_str()), "{}", found.out);
    assert!(found.out.contains("name server 127.0.0.1:1 does not help"), "{}", found.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_is_enough_to_find_the_others_and_the_leader() {
    let mut deployed = Deployed::start().await;
    let leader = deployed.group.leader(&deployed.caller).await;
    let at = |n: usize| format!("127.0.0.1:{}", deployed.group.listen[n]);
    let (leads, follower) = (at(leader), at((leader + 1) % 3));
    let run = |words: &[&str]| deployed.group.site.start(ADMIN, words).end();
    let well = run(&["doctor", "-b", &follower]);
    assert_eq!(well.code, Some(0), "{well:?}");
    assert!(well.out.starts_with("G is well") && well.out.contains(&deployed.name_server));
    let seen = run(&["failover", "last", "-b", &follower]);
    assert!(seen.code == Some(0) && !seen.out.contains("missing"), "{seen:?}");
    let listed = run(&["memberList", "-b", &follower]);
    assert!(listed.out.starts_with(&format!("G, led by n{leader}, as n{leader} sees it")));

    let moved = run(&["leaderTransfer", "-b", &follower, "-t", &format!("n{}", (leader + 2) % 3)]);
    assert_eq!(moved.code, Some(0), "{moved:?}");
    let back = format!("n{leader}");
    deployed.until(&["leaderTransfer", "-t", &back], |ended| {
        ended.code == Some(0) || ended.err.join(" ").contains("leads already")
    });

    deployed.members[leader].take().unwrap().kill();
    let words = ["failover", "list", "-b", &[leads, follower].join(",")];
    let ended = deployed.group.site.start(ADMIN, &words).end();
    assert_eq!(ended.code, Some(1), "one that was named does not answer: {ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_changes_the_leader_and_back_loses_nothing_and_leaves_nothing() {
    let deployed = Deployed::start().await;
    // The name server may have yet to hear of the leader's topics.
    let list = ["topicList", "-o", "json"];
    let before = deployed.until(&list, |ended| ended.out.contains("TBW102")).out;
    let asked = deployed.admin(&["drill", "--rate", "50"]);
    assert_eq!(asked.code, Some(2), "{asked:?}");
    assert!(asked.err[0].contains("nothing was done: --yes does it"), "{asked:?}");
    let drill = deployed.admin(&["drill", "--rate", "50", "--yes"]);
    assert_eq!(drill.code, Some(0), "{drill:#?}");
    let figure = |what: &str| {
        let line = drill.out.lines().find(|line| line.trim_start().starts_with(what));
        line.unwrap_or_else(|| panic!("{drill:#?}")).split_whitespace().next_back().unwrap()
    };
    assert!(figure("sent").parse::<u64>().unwrap() > 100, "{drill:#?}");
    assert_eq!(figure("sent"), figure("acknowledged"), "{drill:#?}");
    assert_eq!((figure("lost"), figure("given up")), ("0", "0"), "{drill:#?}");
    assert!(drill.out.contains(" an operator had n"), "{drill:#?}");
    assert_eq!(deployed.admin(&list).out, before);
    let list = json(&deployed.admin(&["failover", "list", "-o", "json"]));
    let story = |at: usize| (list[at]["from"]["name"].clone(), list[at]["to"]["name"].clone());
    let (back, away) = (story(0), story(1));
    assert_eq!((&back.0, &back.1), (&away.1, &away.0), "{list:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_that_is_interrupted_gives_an_account_and_takes_its_topic_away() {
    let deployed = Deployed::start().await;
    let list = ["topicList", "-o", "json"];
    let before = deployed.until(&list, |ended| ended.out.contains("TBW102")).out;
    let words = ["drill", "--rounds", "100", "--rate", "50", "--yes", "-n", &deployed.name_server];
    let drill = deployed.group.site.start(ADMIN, &words);
    deployed.until(&list, |ended| ended.out.contains("RMQ_DRILL_"));
    drill.signal(Signal::INT);
    let ended = drill.end();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.err[0].contains("interrupted"), "{ended:#?}");
    for text in ["no change of the leader was confirmed", "longest pause between deliveries"] {
        assert!(ended.out.contains(text), "{text}: {ended:#?}");
    }
    assert_eq!(deployed.until(&list, |ended| !ended.out.contains("RMQ_DRILL_")).out, before);
}
