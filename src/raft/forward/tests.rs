use super::*;
use crate::raft::command::Command;
use futures_util::FutureExt as _;
use std::sync::mpsc;

type Told = mpsc::Receiver<Result<(), ProposeError>>;

fn desk() -> Desk {
    Desk::new(7, Limits { proposal_bytes: 10_000, waiting_bytes: 20_000, ..Limits::default() })
}

fn named(name: &str) -> Vec<Command> {
    vec![Command::DeleteTopic { topic: name.to_owned() }]
}

fn ask(desk: &Desk, name: &str) -> Told {
    ask_since(desk, name, Instant::now())
}

fn ask_since(desk: &Desk, name: &str, since: Instant) -> Told {
    let (tell, told) = mpsc::sync_channel(1);
    let proposal = Proposal::of_commands(named(name), move |result| {
        tell.send(result.map(drop)).unwrap();
    });
    desk.take(proposal, since);
    told
}

fn name(proposal: &Proposal) -> String {
    match &proposal.commands[..] {
        [Command::DeleteTopic { topic }] => topic.clone(),
        other => panic!("{other:?}"),
    }
}

fn sent(desk: &Desk) -> Vec<(u64, String)> {
    let mut sent = Vec::new();
    let clock = LeadersClock { showed_ms: 5_000, heard: Instant::now() };
    desk.send(clock, |(number, until_ms), proposal| {
        assert!((7_400..=7_500).contains(&until_ms), "{until_ms}");
        sent.push((number, name(proposal)));
        true
    });
    sent
}

fn read_in_log(desk: &Desk, number: u64) -> bool {
    let receipt = || Receipt {
        store_timestamp: 0,
        places: smallvec::SmallVec::new(),
        outcomes: Vec::new(),
        few: true,
        repeats: false,
    };
    desk.told(Origin { life: 7, number }, receipt)
}

fn own(pairs: &[(u64, &str)]) -> Vec<(u64, String)> {
    pairs.iter().map(|(number, name)| (*number, (*name).to_owned())).collect()
}

#[test]
fn what_was_sent_is_answered_when_it_is_read_in_the_log_and_once() {
    let desk = desk();
    assert_eq!(desk.begin(), None, "nothing is in doubt");
    let (a, b) = (ask(&desk, "a"), ask(&desk, "b"));
    assert_eq!(sent(&desk), own(&[(1, "a"), (2, "b")]));
    assert!(sent(&desk).is_empty());
    read_in_log(&desk, 2);
    assert!(b.recv().unwrap().is_ok() && a.try_recv().is_err());
    read_in_log(&desk, 2);
    read_in_log(&desk, 1);
    assert!(a.recv().unwrap().is_ok());
    assert_eq!(desk.waiting_bytes(), 0);
}

#[test]
fn behind_a_barrier_what_was_not_read_goes_again_in_order_and_before_all_that_came_later() {
    let desk = desk();
    let answers = ["a", "b", "c"].map(|name| ask(&desk, name));
    assert_eq!(sent(&desk).len(), 3);
    let d = ask(&desk, "d");
    assert_eq!(desk.begin(), Some(4));
    assert!(sent(&desk).is_empty(), "nothing overtakes what is in doubt");
    read_in_log(&desk, 2);
    assert!(answers[1].recv().unwrap().is_ok());
    read_in_log(&desk, 4);
    assert_eq!(sent(&desk), own(&[(5, "a"), (6, "c"), (7, "d")]));
    assert!(d.try_recv().is_err());
}

#[test]
fn what_is_in_doubt_needs_a_barrier_though_nothing_waits() {
    let desk = desk();
    let a = ask(&desk, "a");
    sent(&desk);
    assert!(desk.is_in_doubt() && desk.work().now_or_never().is_none());
    assert_eq!(desk.begin(), Some(2));
    read_in_log(&desk, 2);
    assert!(!desk.is_in_doubt() && desk.work().now_or_never().is_some());
    assert!(a.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_barrier_that_was_lost_holds_nothing_up_though_nobody_waits_for_what_was_sent() {
    let desk = desk();
    let a = ask(&desk, "a");
    sent(&desk);
    assert_eq!(desk.begin(), Some(2), "and its stream is lost");
    tokio::time::advance(Duration::from_secs(3)).await;
    desk.expire(|| ProposeError::NotLeader { leader: None });
    assert!(matches!(a.recv().unwrap(), Err(ProposeError::NoQuorum { .. })));
    let _b = ask(&desk, "b");
    assert!(desk.is_in_doubt(), "so that another stream begins");
    assert_eq!(desk.begin(), None);
    assert!(desk.work().now_or_never().is_some());
    assert_eq!(sent(&desk), own(&[(3, "b")]));
}

#[test]
fn a_barrier_that_was_lost_with_its_stream_holds_nothing_up() {
    let desk = desk();
    let a = ask(&desk, "a");
    sent(&desk);
    assert_eq!(desk.begin(), Some(2));
    assert_eq!(desk.begin(), Some(3));
    read_in_log(&desk, 2);
    assert!(sent(&desk).is_empty(), "of the former stream");
    read_in_log(&desk, 3);
    assert_eq!(sent(&desk), own(&[(4, "a")]));
    read_in_log(&desk, 4);
    assert!(a.recv().unwrap().is_ok());
    assert_eq!(desk.begin(), None);
}

#[test]
fn a_new_leader_has_no_doubts_and_proposes_in_order() {
    let desk = desk();
    let _told = ["a", "b"].map(|name| ask(&desk, name));
    sent(&desk);
    ask(&desk, "c");
    desk.begin();
    desk.leads();
    let names: Vec<String> = desk.empty().iter().map(|line| name(&line.proposal)).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(desk.waiting_bytes(), 0);
    ask(&desk, "d");
    let _held = desk.hold();
    assert!(desk.empty().is_empty(), "it is for the successor");
}

#[test]
fn nothing_that_a_leader_is_asked_overtakes_what_waits() {
    let desk = desk();
    assert!(!desk.is_direct(), "it does not lead yet");
    let _told = ["a", "b"].map(|name| ask(&desk, name));
    desk.leads();
    assert_eq!(desk.empty().len(), 2);
    assert!(!desk.is_direct(), "what was here is on its way");
    assert!(desk.empty().is_empty() && desk.is_direct());
    let (one, other) = (desk.hold(), desk.hold());
    assert!(!desk.is_direct());
    ask(&desk, "c");
    drop(one);
    assert!(desk.empty().is_empty(), "somebody still wants it to be kept");
    drop(other);
    assert!(!desk.is_direct());
    assert_eq!((desk.empty().len(), desk.is_direct()), (1, false));
    assert!(desk.empty().is_empty() && desk.is_direct());
    ask(&desk, "d");
    assert!(!desk.is_direct(), "as a follower it was asked, and leads again");
}

#[test]
fn what_is_given_back_one_after_the_other_keeps_the_order_in_which_it_came() {
    let desk = desk();
    let start = Instant::now();
    let line = |name: &str, ms| Line {
        proposal: Proposal::of_commands(named(name), |_| {}),
        since: start + Duration::from_millis(ms),
    };
    desk.take_back(vec![line("d", 4)]);
    desk.take_back(vec![line("a", 1), line("b", 2)]);
    desk.take_back(vec![line("c", 2)]);
    let names: Vec<String> = desk.empty().iter().map(|line| name(&line.proposal)).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
}

#[test]
fn refusals_are_told_and_a_refused_barrier_is_noticed() {
    let desk = desk();
    let a = ask(&desk, "a");
    sent(&desk);
    let full = || ProposeError::DiskFull { why: "full".to_owned() };
    assert!(desk.refused(1, full()));
    assert!(matches!(a.recv().unwrap(), Err(ProposeError::DiskFull { .. })));
    assert!(desk.refused(1, full()), "nobody waits for it");
    ask(&desk, "b");
    sent(&desk);
    let barrier = desk.begin().unwrap();
    assert!(!desk.refused(barrier, full()));
}

#[test]
fn what_waits_is_bounded() {
    let desk = desk();
    let long = "t".repeat(9_000);
    let fits = [ask(&desk, &long), ask(&desk, &long)];
    let busy = ask(&desk, &long).recv().unwrap();
    assert!(matches!(busy, Err(ProposeError::Busy { .. })), "{busy:?}");
    let large = ask(&desk, &"t".repeat(10_001)).recv().unwrap();
    assert!(matches!(large, Err(ProposeError::TooLarge { .. })), "{large:?}");
    assert!(fits.iter().all(|told| told.try_recv().is_err()));
    let many = Desk::new(7, Limits::default());
    let told: Vec<Told> = (0..=LINES_MAX).map(|_| ask(&many, "t")).collect();
    assert!(matches!(told[LINES_MAX].recv().unwrap(), Err(ProposeError::Busy { .. })));
    assert!(told[..LINES_MAX].iter().all(|told| told.try_recv().is_err()));
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_told_what_is_known() {
    let desk = desk();
    let sweeper = desk.clone();
    let unled = || ProposeError::NotLeader { leader: Some("n2".to_owned()) };
    let swept = tokio::spawn(async move { sweeper.sweep(unled).await });
    let a = ask(&desk, "a");
    sent(&desk);
    let b = ask(&desk, "b");
    tokio::time::sleep(Limits::default().patience + 2 * SWEEP).await;
    assert!(matches!(a.recv().unwrap(), Err(ProposeError::NoQuorum { .. })));
    let Err(ProposeError::NotLeader { leader }) = b.recv().unwrap() else { panic!() };
    assert_eq!(leader.as_deref(), Some("n2"));
    assert!(!read_in_log(&desk, 1), "it was told that nobody knows");
    swept.abort();
}

/// A send that came first, waited for its topic to be made, and is sent after one that came later.
async fn older_behind_younger(desk: &Desk) -> (Told, Told) {
    let came = Instant::now();
    tokio::time::advance(Duration::from_secs(2)).await;
    let younger = ask(desk, "younger");
    let write = |_: (u64, u64), _: &Proposal| true;
    desk.send(LeadersClock { showed_ms: 5_000, heard: Instant::now() }, write);
    let older = ask_since(desk, "older", came);
    desk.send(LeadersClock { showed_ms: 5_000, heard: Instant::now() }, write);
    (older, younger)
}

#[tokio::test(start_paused = true)]
async fn what_goes_again_goes_in_the_order_in_which_it_came_and_is_late_in_that_order() {
    let desk = desk();
    let (older, younger) = older_behind_younger(&desk).await;
    let between = ask_since(&desk, "between", Instant::now() - Duration::from_secs(1));
    assert_eq!(desk.begin(), Some(3));
    read_in_log(&desk, 3);
    tokio::time::advance(Duration::from_millis(600)).await;
    desk.expire(|| ProposeError::NotLeader { leader: None });
    assert!(matches!(older.try_recv(), Ok(Err(ProposeError::NotLeader { .. }))));
    assert!(between.try_recv().is_err() && younger.try_recv().is_err());
    let names: Vec<String> = desk.empty().iter().map(|line| name(&line.proposal)).collect();
    assert_eq!(names, ["between", "younger"]);
    assert_eq!(desk.waiting_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_late_by_when_it_came_whatever_was_sent_before_it() {
    let desk = desk();
    let (older, younger) = older_behind_younger(&desk).await;
    tokio::time::advance(Duration::from_millis(600)).await;
    desk.expire(|| ProposeError::NotLeader { leader: None });
    assert!(matches!(older.try_recv(), Ok(Err(ProposeError::NoQuorum { .. }))));
    assert!(younger.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_member_that_ends_answers_all() {
    let desk = desk();
    let a = ask(&desk, "a");
    sent(&desk);
    let _held = desk.hold();
    let (b, closing) = (ask(&desk, "b"), desk.clone());
    let closed = tokio::spawn(async move { closing.close(Duration::from_secs(1)).await });
    desk.work().await;
    assert_eq!(sent(&desk), own(&[(2, "b")]), "there is still time");
    read_in_log(&desk, 2);
    closed.await.unwrap();
    assert!(b.recv().unwrap().is_ok());
    assert!(matches!(a.recv().unwrap(), Err(ProposeError::OutcomeUnknown)));
    assert!(matches!(ask(&desk, "c").recv().unwrap(), Err(ProposeError::Stopping)));
}

#[test]
fn who_is_sent_away_was_not_sent_and_what_was_is_found_out() {
    let desk = desk();
    let a = ask(&desk, "a");
    sent(&desk);
    let b = ask(&desk, "b");
    desk.send_away(&ProposeError::OutOfTouch { since: Duration::from_secs(1) });
    assert!(matches!(b.recv().unwrap(), Err(ProposeError::OutOfTouch { .. })));
    assert!(a.try_recv().is_err() && desk.is_in_doubt());
    read_in_log(&desk, 1);
    assert!(a.recv().unwrap().is_ok());
}

#[test]
fn of_what_a_snapshot_skipped_nobody_knows() {
    let desk = desk();
    let a = ask(&desk, "a");
    sent(&desk);
    let b = ask(&desk, "b");
    desk.begin();
    desk.skipped();
    assert!(matches!(a.recv().unwrap(), Err(ProposeError::OutcomeUnknown)));
    assert_eq!(sent(&desk), own(&[(3, "b")]));
    assert!(b.try_recv().is_err());
}
