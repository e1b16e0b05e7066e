//! Seeds, each in a process of its own.
#![allow(clippy::print_stdout)] // what scripts/soak-simulation shows

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::faults::Faults;
use super::machine::Machine;
use super::planted::Bug;
use super::{Plan, SEGMENT_BYTES, World, kernel, simulate};
use crate::clock;
use crate::store::retention::{DeleteWhen, Rules};
use crate::store::{CommitLog, Durability};

/// What the process of one simulation is told: `SEED [MEMBERS [WORD...]]`.
const PLAN: &str = "RMQ_SIMULATION";
/// Whether it tells what happens.
const IS_TOLD: &str = "RMQ_SIMULATION_TOLD";
/// How long [`soak`] takes.
const MINUTES: &str = "RMQ_SIMULATION_MINUTES";
/// Simulations at a time.
const AT_A_TIME: usize = 2;

/// Words: `calm`, nothing goes wrong; `memory`, entries count as stored when they are in memory;
/// the name of a bug; or names of faults, if there are to be no others.
fn plan_of(text: &str) -> Option<Plan> {
    let mut words = text.split(' ');
    let mut plan = Plan {
        seed: words.next()?.parse().ok()?,
        members: words.next().unwrap_or("3").parse().ok()?,
        faults: Faults::All,
        fault_ms: 10_000,
        durability: Durability::Synced,
        bug: None,
        is_told: std::env::var_os(IS_TOLD).is_some(),
    };
    for word in words {
        match word {
            "calm" => plan.faults = Faults::None,
            "memory" => plan.durability = Durability::PageCache,
            name => match Bug::named(name) {
                Some(bug) => plan.bug = Some(bug),
                None => plan.faults = plan.faults.and(name)?,
            },
        }
    }
    Some(plan)
}

/// Runs one simulation when it is told one, in a process that has nothing else to do.
#[test]
fn one_simulation() {
    let Ok(text) = std::env::var(PLAN) else { return };
    let plan = plan_of(&text).expect("SEED [MEMBERS [WORD...]]");
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    // A thread of its own: its hash maps must not have drawn their keys yet.
    match std::thread::spawn(move || simulate(plan)).join() {
        Ok(Ok(outcome)) => eprintln!("\nsimulated: {outcome:?}"),
        Ok(Err(why)) => panic!("broken: {why}"),
        Err(_) => panic!("broken: it panicked"),
    }
}

/// The line that a simulation ends with.
fn run(plan: &str) -> Result<String, String> {
    let name = "raft::simulation::tests::one_simulation";
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    command.env(PLAN, plan).env_remove("RUST_LOG").stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().find(|line| line.starts_with("simulated: "));
    line.map(str::to_owned).ok_or(text)
}

/// What comes of these plans, two at a time, until `is_enough` says so.
fn run_all(
    plans: &(impl Fn(usize) -> Option<String> + Sync),
    is_enough: &(impl Fn(&str, &Result<String, String>) -> bool + Sync),
) -> Vec<(String, Result<String, String>)> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while !is_over.load(Relaxed)
                    && let Some(plan) = plans(next.fetch_add(1, Relaxed))
                {
                    let outcome = run(&plan);
                    if is_enough(&plan, &outcome) {
                        is_over.store(true, Relaxed);
                    }
                    done.lock().push((plan, outcome));
                }
            });
        }
    });
    done.into_inner()
}

fn report(plan: &str, text: &str) -> String {
    let why = text.lines().find(|line| line.starts_with("broken: ")).unwrap_or(text);
    format!("{why}\nreplay with: scripts/soak-simulation --replay '{plan}'")
}

/// Every fifth group has five members, and every fourth acknowledges from memory.
fn plan(seed: u64) -> String {
    let members = if seed % 5 == 4 { 5 } else { 3 };
    format!("{seed} {members}{}", if seed % 4 == 3 { " memory" } else { "" })
}

#[test]
fn a_seed_run_twice_does_the_same() {
    for plan in ["1 3", "1 3 calm"] {
        let twice = |n| (n < 2).then(|| plan.to_owned());
        let outcomes = run_all(&twice, &|_, _| false);
        let lines: Vec<_> = outcomes.into_iter().map(|(_, outcome)| outcome.unwrap()).collect();
        assert_eq!(lines[0], lines[1], "{plan}");
    }
}

#[test]
fn a_group_keeps_its_promises_whatever_goes_wrong() {
    let with_members = ["10 3 members", "11 3 members death"].map(str::to_owned);
    let plans = |n: usize| match n {
        0..10 => Some(plan(n as u64)),
        n => with_members.get(n - 10).cloned(),
    };
    for (plan, outcome) in run_all(&plans, &|_, outcome| outcome.is_err()) {
        outcome.unwrap_or_else(|text| panic!("{}", report(&plan, &text)));
    }
}

#[test]
fn bugs_that_are_put_back_are_found() {
    // Each with faults that bring it to light soon (the other plans draw those among others), and
    // the first of forty seeds.
    let rows = [
        ("acknowledges-unsynced", "shift", 0),
        ("forgets-votes", "death", 0),
        ("counts-what-was-cut", "cut pause", 0),
        ("never-doubts", "shift memory", 50),
        ("applies-what-comes", "cut", 0),
        ("ignores-failed-syncs", "disk", 0),
        ("cuts-damage", "rot", 0),
        ("keeps-its-name", "loss", 0),
        ("snapshots-late", "purge loss", 0),
        ("applies-by-its-clock", "clock", 0),
        ("trusts-the-page-cache", "disk cut", 10),
        ("applies-what-was-cut", "cut pause", 30),
        ("purges-too-much", "purge disk", 0),
        ("ignores-barriers", "cut", 0),
        ("appends-late", "pause", 0),
        ("keeps-first-members", "members stop", 0),
        ("admits-at-once", "members cut", 12),
        ("trusts-keys", "death", 0),
        ("finds-what-is-deleted", "cut", 0),
    ];
    assert_eq!(rows.len(), Bug::ALL.len());
    for (bug, faults, first) in rows {
        let plans = |n| (n < 40).then(|| format!("{} 3 {bug} {faults}", first + n));
        let outcomes = run_all(&plans, &|_, outcome| outcome.is_err());
        let found =
            outcomes.iter().find_map(|(plan, outcome)| Some((plan, outcome.as_ref().err()?)));
        let (plan, text) = found.unwrap_or_else(|| panic!("{bug} is not found"));
        assert!(text.contains("broken: "), "{text}");
        println!("{}", report(plan, text));
    }
}

/// Whose clock jumps ahead, in a process of [`a_clock_ahead_of_its_group_takes_nothing_away`].
const AHEAD: &str = "RMQ_SIMULATION_AHEAD";

#[test]
fn a_clock_ahead_of_its_group_takes_nothing_away() {
    if let Ok(who) = std::env::var(AHEAD) {
        let leads = who == "leader";
        return std::thread::spawn(move || a_clock_jumps_ahead(leads)).join().unwrap();
    }
    let simulations = ["leader", "follower"].map(|who| {
        let name = "raft::simulation::tests::a_clock_ahead_of_its_group_takes_nothing_away";
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--test-threads=1"]).env(AHEAD, who);
        (who, command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap())
    });
    for (who, simulation) in simulations {
        let output = simulation.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "of the {who}: {text}");
    }
}

/// Messages are kept for 72 hours and may go in any hour. One clock jumps, then all.
fn a_clock_jumps_ahead(of_leader: bool) {
    const JUMP_MS: i64 = 100 * 3_600_000;
    let plan = plan_of("1 3 calm").unwrap();
    kernel::simulate(plan.seed);
    let mut world = World::new(plan);
    let hours: Vec<String> = (0..24).map(|hour| hour.to_string()).collect();
    let delete_when = DeleteWhen::parse(&hours.join(";")).unwrap();
    for machine in &mut world.machines {
        machine.options.retention =
            Rules { delete_when, clean_forcibly: false, ..Rules::default() };
    }
    let logs = |world: &World| -> Vec<CommitLog> {
        world.machines.iter().filter_map(Machine::group).map(|group| group.0.log.clone()).collect()
    };
    let starts = |world: &World| -> Vec<u64> {
        logs(world).iter().map(|log| log.first_position().0).collect()
    };
    let run = |world: &mut World, ms: u64| (0..ms).for_each(|_| world.step().unwrap());
    (0..3).for_each(|index| world.start(index));
    run(&mut world, 100);
    while logs(&world).iter().any(|log| log.tail().0 < 3 * SEGMENT_BYTES) {
        run(&mut world, 100);
    }
    let leads = |machine: &Machine| machine.group().is_some_and(|group| group.role().is_leader());
    let jumps = world.machines.iter().position(|machine| leads(machine) == of_leader).unwrap();
    world.machines[jumps].skew_ms += JUMP_MS;
    run(&mut world, 12_000); // they look each ten seconds
    assert_eq!(starts(&world), [0; 3], "one clock says that they are old");
    (0..3).filter(|index| *index != jumps).for_each(|i| world.machines[i].skew_ms += JUMP_MS);
    run(&mut world, 12_000);
    assert!(starts(&world).iter().all(|start| *start > 0), "all clocks do: {:?}", starts(&world));
}

/// Runs new seeds for as long as `scripts/soak-simulation` tells it to.
#[test]
fn soak() {
    let Ok(minutes) = std::env::var(MINUTES) else { return };
    let limit = Duration::from_secs(60 * minutes.parse::<u64>().expect("minutes"));
    let first = u64::try_from(clock::wall_ms()).unwrap_or(0);
    let started = clock::now();
    let plans = |n| (started.elapsed() < limit).then(|| plan(first + n as u64));
    let outcomes = run_all(&plans, &|plan, outcome| match outcome {
        Ok(line) => {
            println!("{plan}: {line}");
            false
        }
        Err(text) => {
            println!("{plan}: {}", report(plan, text));
            true
        }
    });
    let broken = outcomes.iter().filter(|(_, outcome)| outcome.is_err()).count();
    assert_eq!(broken, 0, "of {} simulations", outcomes.len());
}
