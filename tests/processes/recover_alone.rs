//! A majority is lost for good, and a survivor is told to go on alone.

use std::fs;

use super::group::{Group, end, says};
use super::{ADMIN, BROKER, Caller, Ended, NAMESRV, Process, WITHIN, clock, free_port, loopback};

/// The confirmation that a report ends with.
fn confirmation(report: &Ended) -> &str {
    assert_eq!(report.code, Some(3), "{report:#?}");
    report.out.trim_end().rsplit_once("--recover-alone=").unwrap().1
}

/// The report, what a wrong confirmation does, the right one, and that one again. `dead` are members.
fn recovers_when_it_is_told_to(recover: impl Fn(&str) -> Ended, dead: [usize; 2]) {
    let told = recover("--recover-alone");
    let code = confirmation(&told);
    for n in dead {
        let silent = told.out.lines().any(|line| {
            line.contains(&format!("n{n} at 127.0.0.1:")) && line.contains("nobody listens there")
        });
        assert!(silent, "{told:#?}");
    }
    for text in ["What may be lost:", "s ago", "What happens to the others:"] {
        assert!(told.out.contains(text), "{told:#?}");
    }
    let wrong = recover("--recover-alone=00000000");
    assert_eq!(wrong.code, Some(1), "{wrong:#?}");
    assert!(wrong.out.contains("--recover-alone=00000000 does not confirm this"), "{wrong:#?}");
    assert_eq!(confirmation(&recover("--recover-alone")), code, "nothing was changed");
    let confirmed = format!("--recover-alone={code}");
    let done = recover(&confirmed);
    assert_eq!(done.code, Some(0), "{done:#?}");
    let again = recover(&confirmed);
    assert_eq!(again.code, Some(1), "{again:#?}");
    assert!(again.out.contains("is the only member that votes"), "{again:#?}");
}

#[tokio::test]
async fn a_survivor_of_a_lost_majority_starts_the_group_anew_when_it_is_told_to() {
    let (group, caller) = (Group::new(), Caller::new());
    let mut members = group.start_all();
    for _ in 0..5 {
        group.send(&caller).await;
    }
    let survivor = group.leader(&caller).await;
    let (emptied, old) = ((survivor + 1) % 3, (survivor + 2) % 3);
    let port = group.listen[survivor];
    let stored = caller.end_of_queue(port, "T").await;
    let store = |n: usize| format!("n{n}");
    let file = group.configure(survivor, &store(survivor), &[]);
    let recover = |flag: &str| group.site.start(BROKER, &["-c", &file, flag]).end();
    let in_use = recover("--recover-alone");
    assert_eq!(in_use.code, Some(1), "{in_use:#?}");
    assert!(in_use.err.iter().any(|line| line.contains("held by process")), "{in_use:#?}");
    members[emptied].kill();
    fs::remove_dir_all(group.site.path(&store(emptied))).unwrap();
    members[survivor].kill();
    // A majority could go on: with a member that is there.
    let enough = recover("--recover-alone");
    assert_eq!(enough.code, Some(1), "{enough:#?}");
    let text = format!("n{old} answers");
    assert!(
        enough.out.contains(&text) && enough.out.contains("Nothing was changed"),
        "{enough:#?}"
    );
    members[old].kill();

    recovers_when_it_is_told_to(recover, [emptied, old]);

    let mut alone = group.start(survivor, &store(survivor), &[]);
    alone.until("leads the group");
    let caller = Caller::new(); // with no connection to the process before
    assert_eq!(caller.end_of_queue(port, "T").await, stored);
    group.send(&caller).await;
    assert_eq!(caller.end_of_queue(port, "T").await, stored + 1);

    let mut returned = group.start(old, &store(old), &[]);
    let known =
        format!("n{survivor} (this member) belongs to the group that a survivor started anew");
    says(&mut returned, &known);
    says(&mut alone, &known);
    says(&mut alone, &format!("to take n{old} into the newer one"));
    the_doctor_tells_them_apart(&group, survivor, old);
    end(returned);

    let mut new = group.start(emptied, &store(emptied), &[]);
    new.until(&format!("run rmq-admin memberAdd n{emptied}"));
    let address = group.peers.split(';').nth(emptied).unwrap().split_once('-').unwrap().1;
    let admin = |command: &[&str]| {
        let leader = format!("127.0.0.1:{port}");
        let home = group.site.path("");
        Process::start(ADMIN, &[command, &["-b", &leader]].concat(), &home).end()
    };
    let deadline = clock::now() + WITHIN;
    while admin(&["memberAdd", &store(emptied), address]).code != Some(0) {
        assert!(clock::now() < deadline, "it is not taken in");
    }
    says(&mut new, "joins the group that was started anew");
    let votes = |line: &str| line.starts_with(&store(emptied)) && line.contains("voter");
    while !admin(&["memberList"]).out.lines().any(votes) {
        assert!(clock::now() < deadline, "it does not vote: {:#?}", admin(&["memberList"]));
    }
    group.send(&caller).await;
    end(new);
    alone.kill();
    // What it joined outlasts its process.
    let mut new = group.start(emptied, &store(emptied), &[]);
    let mut alone = group.start(survivor, &store(survivor), &[]);
    says(&mut alone, "term=");
    group.send(&caller).await;
    says(&mut new, "term=");
    alone.terminate();
    new.terminate();
}

/// Both run.
fn the_doctor_tells_them_apart(group: &Group, survivor: usize, old: usize) {
    let both = [survivor, old].map(|n| format!("127.0.0.1:{}", group.listen[n])).join(",");
    let seen = group.site.start(ADMIN, &["doctor", "-b", &both]).end();
    let verdict = format!("G has a leader, n{survivor}, and something to look at");
    assert!(seen.code == Some(1) && seen.out.starts_with(&verdict), "{seen:#?}");
    let former = format!("n{old} belongs to the group as it was before a survivor started it anew");
    assert!(seen.out.contains(&former) && seen.out.contains("move its store away"), "{seen:#?}");
}

#[tokio::test]
async fn an_old_majority_that_comes_back_stays_apart_and_gets_no_clients_by_routes() {
    let (group, caller, name_server) = (Group::new(), Caller::new(), free_port());
    let mut server = group.site.start(NAMESRV, &["-c", &group.site.name_server(name_server)]);
    server.until("name server started");
    let changes = [("namesrvAddr", &*loopback(name_server).to_string())];
    let start = |n: usize| group.start(n, &format!("n{n}"), &changes);
    let mut members = [0, 1, 2].map(start);
    group.send(&caller).await;
    // Or the old ones could not pass a send on, and would wait for all three to allow it.
    members.iter_mut().for_each(|member| says(member, "all members read version"));
    let survivor = group.leader(&caller).await;
    members.iter_mut().for_each(Process::kill);

    let file = group.configure(survivor, &format!("n{survivor}"), &changes);
    let recover = |flag: &str| group.site.start(BROKER, &["-c", &file, flag]).end();
    let told = recover("--recover-alone");
    let done = recover(&format!("--recover-alone={}", confirmation(&told)));
    assert_eq!(done.code, Some(0), "{done:#?}");
    let mut alone = start(survivor);
    alone.until("leads the group");
    let (caller, port) = (Caller::new(), group.listen[survivor]);
    caller.first_send(port, "T").await;
    let stored = caller.end_of_queue(port, "T").await;
    let address = loopback(port).to_string();
    let is_alone = |leaders: &[String]| leaders.iter().all(|leader| *leader == address);
    let deadline = clock::now() + WITHIN;
    while !is_alone(&caller.leaders_of(name_server, "T").await) {
        assert!(clock::now() < deadline, "it is not in the route");
    }

    let old = [(survivor + 1) % 3, (survivor + 2) % 3];
    let mut returned = old.map(start);
    returned.iter_mut().for_each(|member| says(member, "not registered: "));
    let theirs = old.map(|n| format!("n{n}"));
    loop {
        let led_by = caller.leader_by(group.listen[old[0]]).await;
        if led_by.is_some_and(|name| theirs.contains(&name)) {
            break;
        }
        assert!(clock::now() < deadline, "the old ones lead themselves");
    }
    let end = |n: usize| caller.end_of_queue(group.listen[n], "T");
    caller.first_send(group.listen[old[0]], "T").await;
    assert_eq!(end(survivor).await, stored, "it is not told what others store");
    caller.first_send(port, "T").await;
    assert_eq!(end(survivor).await, stored + 1);
    let leaders = caller.leaders_of(name_server, "T").await;
    assert!(is_alone(&leaders), "{leaders:?}");
    for member in returned.into_iter().chain([alone]) {
        member.terminate();
    }
}
