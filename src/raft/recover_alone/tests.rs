//! What is decided, and that whatever step of acting is the last, it can be finished.

use std::io;
use std::path::Path;
use std::sync::Arc;

use openraft::base::BoxFuture;

use super::acting::attempt;
use super::*;
use crate::ids::QueueOffset;
use crate::raft::crash_tests::start_machine;
use crate::raft::dial::{Link, Links};
use crate::raft::group::GroupOptions;
use crate::raft::group_tests::{draft, options_alone};
use crate::raft::{StartError, open};
use crate::store::entry::Kind;
use crate::store::simulated_disk::{NameOrder, SimulatedDisk};
use crate::store::{Body, Durability, Files as _, Vote};

fn id(index: u64, term: u64) -> EntryId {
    EntryId { index: EntryIndex(index), term: Term(term) }
}

fn member(name: &str) -> Member {
    Member { name: name.to_owned(), address: format!("{name}:1"), ..Member::default() }
}

/// n0, n1 and so on have the stores 1, 2 and so on; the first `voters` of them vote.
fn group(members: u64, voters: u64) -> Membership {
    let named = (1..=members).map(|id| (id, member(&format!("n{}", id - 1))));
    Membership::new(vec![(1..=voters).collect()], named.collect::<BTreeMap<_, _>>()).unwrap()
}

fn silent() -> Answer {
    Answer::Silent("nobody listens there".to_owned())
}

fn there(store_id: u64) -> Answer {
    Answer::There { store_id: StoreId(store_id), last: Some(id(7, 3)), leader: None }
}

/// What n1, with store 2, knows of a group, when the others answer so.
fn facts(membership: Membership, answers: &[(&str, Answer)]) -> Facts {
    let other = |(name, answer): &(&str, Answer)| Other {
        name: (*name).to_owned(),
        address: format!("{name}:1"),
        answer: answer.clone(),
    };
    Facts {
        member: "n1".to_owned(),
        store_id: StoreId(2),
        membership,
        others: answers.iter().map(other).collect(),
        last: id(9, 3),
        stored_ms: Some(1_000),
        committed: Some(EntryIndex(7)),
        term: Term(4),
        in_doubt: false,
        unfinished: None,
        now_ms: 61_500,
    }
}

#[test]
fn who_is_not_alone_is_told_what_to_start_instead() {
    let leads = Answer::There { store_id: StoreId(9), last: None, leader: Some("n4".to_owned()) };
    let rows = [
        ("nobody answers", group(3, 3), vec![("n0", silent()), ("n2", silent())], None),
        (
            "one of two does",
            group(3, 3),
            vec![("n0", there(1)), ("n2", silent())],
            Some("n0 answers: with n1 that is a majority; start n1"),
        ),
        ("it lost its store", group(3, 3), vec![("n0", there(8)), ("n2", silent())], None),
        (
            "one that is running and refuses",
            group(3, 3),
            vec![("n0", Answer::Declined("why".to_owned())), ("n2", silent())],
            Some("n0 answers"),
        ),
        (
            "somebody else at its address",
            group(3, 3),
            vec![("n0", Answer::Stranger("n5 answers there".to_owned())), ("n2", silent())],
            None,
        ),
        ("one of four", group(5, 5), vec![("n0", there(1)), ("n2", silent())], None),
        (
            "two of four",
            group(5, 5),
            vec![("n0", there(1)), ("n2", there(3))],
            Some("n0 and n2 answer, and are a majority with n1"),
        ),
        ("no vote lost", group(2, 1), vec![("n0", there(1))], Some("n0 answers")),
        ("who never voted is left", group(2, 1), vec![("n0", silent())], None),
        (
            "the group went on without telling this member",
            group(3, 3),
            vec![("n0", silent()), ("n2", silent()), ("n3", leads)],
            Some("n3 answers, and n4 leads the group: start n1"),
        ),
        ("not of the group", group(1, 1), vec![], Some("this store 0000000000000002 is of none")),
    ];
    for (what, membership, answers, refused) in rows {
        let facts = facts(membership, &answers);
        for given in ["", "00000000", &code(&facts)] {
            match (decide(&facts, given), refused) {
                (Decision::Refuse(text), Some(why)) => {
                    assert!(text.contains(why), "{what}: {text}")
                }
                (Decision::Refuse(text), None) => {
                    assert!(
                        given == "00000000" && text.contains("does not confirm"),
                        "{what}: {text}"
                    );
                }
                (Decision::Report(_), None) => assert_eq!(given, "", "{what}"),
                (Decision::Act(_), None) => assert_eq!(given, code(&facts), "{what}"),
                (decision, Some(_)) => panic!("{what}: {decision:?}"),
            }
        }
    }
    let mut alone = facts(group(3, 3), &[]);
    alone.membership = super::alone(&alone).unwrap();
    let Decision::Refuse(text) = decide(&alone, "") else { panic!("it needs nobody") };
    assert!(text.contains("n1 is the only member that votes: start it"), "{text}");
}

#[test]
fn the_plan_is_a_later_term_with_the_broker_id_that_clients_know() {
    let facts = facts(group(3, 3), &[]);
    let Decision::Act(plan) = decide(&facts, &code(&facts)) else { panic!("confirmed") };
    assert_eq!(plan.unfinished, Unfinished { code: code(&facts), term: Term(1004) });
    let own = Member { broker_id: Some(2), ..member("n1") };
    let want = Membership::new(vec![BTreeSet::from([2])], BTreeMap::from([(2, own)])).unwrap();
    assert_eq!(plan.membership, want);
}

#[test]
fn a_confirmation_is_for_one_store_and_one_last_entry() {
    let now = facts(group(3, 3), &[]);
    let others = [
        Facts { last: id(10, 3), ..now.clone() },
        Facts { last: id(9, 4), ..now.clone() },
        Facts { store_id: StoreId(3), ..now.clone() },
    ];
    others.iter().for_each(|other| assert_ne!(code(other), code(&now), "{other:?}"));
    assert_eq!(code(&Facts { now_ms: 0, term: Term(9), ..now.clone() }), code(&now));
}

#[test]
fn what_was_begun_is_finished_whoever_answers_now() {
    let begun = Unfinished { code: "c".to_owned(), term: Term(1004) };
    let facts =
        Facts { unfinished: Some(begun.clone()), ..facts(group(3, 3), &[("n0", there(1))]) };
    let Decision::Report(text) = decide(&facts, "") else { panic!("nothing was confirmed") };
    assert!(text.contains("half done") && text.ends_with("--recover-alone=c"), "{text}");
    assert!(matches!(decide(&facts, &code(&facts)), Decision::Refuse(_)));
    let Decision::Act(plan) = decide(&facts, "c") else { panic!("confirmed") };
    assert_eq!(plan.unfinished, begun);
}

#[test]
fn the_report_says_what_may_be_lost_and_what_may_be_there() {
    let text = |facts: &Facts| report(facts, "c0de");
    let text_of = |text: &str| text.to_owned();
    let answers = [
        ("n0", silent()),
        ("n2", there(8)),
        ("n3", Answer::Declined(text_of("why"))),
        ("n4", Answer::Stranger(text_of("n5 answers there"))),
    ];
    let known = facts(group(3, 3), &answers);
    for part in [
        "n1  this member, last entry 9 of term 3\n",
        "n0 at n0:1  does not answer (nobody listens there)\n",
        "n2 at n2:1  answers, last entry 7 of term 3, in another store than the log has\n",
        "n3 at n3:1, in dLegerPeers only  refuses: why\n",
        "n4 at n4:1, in dLegerPeers only  somebody else is there: n5 answers there\n",
        "after entry 9 of term 3 and that only others have; its last message was stored at \
         1970-01-01T00:00:01Z, 60 s ago\n",
        "  the 2 entries after 7, the last that is known to be committed",
        "before its term reaches 1004",
    ] {
        assert!(text(&known).contains(part), "{part}\n{}", text(&known));
    }
    assert!(text(&known).ends_with("with --recover-alone=c0de"));
    let doubtful = Facts { in_doubt: true, stored_ms: None, committed: None, ..known.clone() };
    assert!(text(&doubtful).contains("any of the 10 entries"), "{}", text(&doubtful));
    assert!(text(&doubtful).contains("flushDiskType is ASYNC_FLUSH"));
    let all = Facts { committed: Some(EntryIndex(9)), ..known };
    assert!(text(&all).contains("nothing: all entries are known to be committed"));
}

// --- acting, stopped at every step ---

/// A network without anybody.
struct Nobody;

impl Links for Nobody {
    fn connect(&self, _: String) -> BoxFuture<'static, io::Result<Box<dyn Link>>> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }
}

fn options(dir: &Path) -> GroupOptions {
    GroupOptions { durability: Durability::Synced, ..options_alone(dir) }
}

/// n0 of three, whose names put it last, with a message that nobody knows to be committed.
fn survivor(dir: &Path) -> SimulatedDisk {
    let disk = SimulatedDisk::new(1 << 30);
    let opened = open::open_undamaged(Arc::new(disk.clone()), &options(dir)).unwrap();
    let own = opened.store.stamp.id();
    let vote = Vote { term: Term(5), voted_for: Some(StoreId(7)), committed: false };
    opened.votes.save_vote(vote).unwrap();
    let members = BTreeMap::from([(own.0, member("n0")), (7, member("a")), (8, member("b"))]);
    let voters = vec![members.keys().copied().collect()];
    let bytes = membership::encode(&Membership::new(voters, members).unwrap());
    let drafts = [draft("T", 0, "kept")];
    let bodies =
        [Body::Membership(&bytes), Body::Data { drafts: &drafts, commands: &[] }, Body::Blank];
    for (index, body) in (0..).zip(bodies) {
        opened.log.append(id(index, 3), body, &mut |_| QueueOffset(0), 1).unwrap();
    }
    opened.log.close().unwrap();
    disk
}

fn run(disk: &SimulatedDisk, dir: &Path, given: &str) -> Result<Recovered, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let files = Arc::new(disk.clone());
    runtime.block_on(attempt(files, Arc::new(Nobody), &options(dir), given))
}

fn confirmation(disk: &SimulatedDisk, dir: &Path) -> String {
    let Ok(Recovered::Unconfirmed(text)) = run(disk, dir, "") else { panic!("no report") };
    text.rsplit_once("--recover-alone=").unwrap().1.to_owned()
}

/// Whether the new start is finished, after checking that it is all there or nothing of it counts.
fn is_finished(disk: &SimulatedDisk, dir: &Path) -> bool {
    let opened = open::open_undamaged(Arc::new(disk.clone()), &options(dir)).unwrap();
    let (stamp, log) = (&opened.store.stamp, &opened.log);
    let entries = log.entries(EntryIndex(0), EntryIndex(u64::MAX), u64::MAX).unwrap();
    let vote = opened.votes.vote().unwrap();
    match (stamp.lineage(), stamp.unfinished()) {
        (None, None) => {
            assert_eq!((log.last(), vote.term), (Some(id(2, 3)), Term(5)), "the old member, whole");
            false
        }
        (Some(_), Some(_)) => false, // a start refuses it
        (Some(_), None) => {
            let last = entries.last().unwrap();
            assert_eq!((entries.len(), last.header.id()), (4, id(3, 1005)));
            assert_eq!((vote.term, vote.voted_for), (Term(1005), Some(stamp.id())));
            assert_eq!(last.header.kind, Kind::Membership);
            let stored = membership::decode(&last.body()).unwrap();
            let own = Member { broker_id: Some(3), ..member("n0") };
            let own = BTreeMap::from([(stamp.id().0, own)]);
            let voters = vec![own.keys().copied().collect()];
            assert_eq!(stored, Membership::new(voters, own).unwrap());
            true
        }
        (None, Some(_)) => panic!("begun, of no lineage"),
    }
}

#[test]
fn a_store_that_was_only_looked_at_is_left_as_it_was() {
    let held = tempfile::tempdir().unwrap();
    let (dir, disk) = (held.path(), survivor(held.path()));
    let opened = open::open_undamaged(Arc::new(disk.clone()), &options(dir)).unwrap();
    opened.log.close().unwrap();
    opened.store.stamp.mark_clean().unwrap();
    drop(opened);
    let stamp = || String::from_utf8(disk.read(&dir.join("store.json")).unwrap().unwrap()).unwrap();
    let before = stamp();
    assert!(before.contains("\"clean\": true"), "{before}");
    confirmation(&disk, dir);
    assert_eq!(stamp(), before);
    assert!(!matches!(run(&disk, dir, "00000000"), Ok(Recovered::Done(_))));
    assert_eq!(stamp(), before);
}

#[test]
fn whatever_step_is_the_last_the_old_member_is_whole_or_the_same_command_finishes_it() {
    let held = tempfile::tempdir().unwrap();
    let dir = held.path();
    let before = survivor(dir);
    let code = confirmation(&before.after_kill().unwrap(), dir);
    let probe = before.after_kill().unwrap();
    let from = probe.step_count();
    assert!(matches!(run(&probe, dir, &code), Ok(Recovered::Done(_))));
    assert!(is_finished(&probe.after_kill().unwrap(), dir));
    let steps = probe.step_count();
    let (mut whole, mut begun) = (0, 0);
    for step in from..steps {
        let stopped = before.after_kill().unwrap();
        stopped.stop_at(step);
        // It ends with an error, unless the last step is one that nobody waits for.
        let _ = run(&stopped, dir, &code);
        for survives in [None, Some(false), Some(true)] {
            let disk = match survives {
                None => stopped.after_kill().unwrap(),
                Some(survives) => {
                    let order = NameOrder::Kept;
                    let disk = stopped.after_power_loss(order, &mut |_| survives).unwrap();
                    start_machine(&disk, dir);
                    disk
                }
            };
            let at = format!("stopped at {step}, {survives:?}");
            if !is_finished(&disk, dir) {
                let stamp = String::from_utf8(disk.read(&dir.join("store.json")).unwrap().unwrap());
                match stamp.unwrap().contains("unfinished") {
                    true => begun += 1,
                    false => whole += 1,
                }
                let again = run(&disk, dir, &code);
                assert!(matches!(again, Ok(Recovered::Done(_))), "{at}: {again:?}");
                assert!(is_finished(&disk, dir), "{at}");
            }
            let again = run(&disk, dir, &code);
            assert!(matches!(again, Ok(Recovered::Refused(_))), "{at}: {again:?}");
        }
    }
    assert!(whole > 0 && begun > 0, "{whole} before it was begun, {begun} before it was finished");
}
