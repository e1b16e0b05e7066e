//! Seeds, each in a process of its own.

use std::process::{Command, Output, Stdio};

use super::faults::Faults;
use super::{Plan, simulate};

/// What the process of one simulation is told: seed, members, and whether anything goes wrong.
const PLAN: &str = "RMQ_SIMULATION";

fn plan_of(text: &str) -> Option<Plan> {
    let mut words = text.split(' ');
    let seed = words.next()?.parse().ok()?;
    let members = words.next().unwrap_or("3").parse().ok()?;
    let faults = if words.next() == Some("none") { Faults::None } else { Faults::All };
    let is_told = std::env::var_os("RMQ_SIMULATION_TOLD").is_some();
    Some(Plan { seed, members, faults, fault_ms: 20_000, is_told })
}

/// Runs one simulation when it is told one, in a process that has nothing else to do.
#[test]
fn one_simulation() {
    let Ok(text) = std::env::var(PLAN) else { return };
    let plan = plan_of(&text).expect("a seed, and perhaps the number of members");
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    // A thread of its own: its hash maps must not have drawn their keys yet.
    let outcome = std::thread::spawn(move || simulate(plan)).join();
    match outcome {
        Ok(Ok(outcome)) => eprintln!("simulated: {outcome:?}"),
        Ok(Err(why)) => panic!("seed {}: {why}", plan.seed),
        Err(_) => panic!("seed {}: panicked", plan.seed),
    }
}

fn run(plan: &str) -> Output {
    let name = "raft::simulation::tests::one_simulation";
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    command.env(PLAN, plan).stdin(Stdio::null());
    command.output().unwrap()
}

/// The line that a simulation ends with.
fn outcome(plan: &str) -> Result<String, String> {
    let output = run(plan);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().find(|line| line.starts_with("simulated: "));
    line.map(str::to_owned).ok_or(text)
}

#[test]
fn a_seed_run_twice_does_the_same() {
    let [first, second] = [(); 2].map(|()| outcome("1 3 none").unwrap());
    assert_eq!(first, second);
}
