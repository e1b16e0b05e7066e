//! A group on simulated disks, network and clocks, all of it drawn from one seed.
//!
//! It is the production code that runs: adapter, store, proposer, openraft and tonic. Each member
//! has a runtime of its own in one thread, moved on a millisecond at a time. A simulation has a
//! process for itself ([`kernel`] says why) and prints a line at its end; the same seed prints the
//! same line.
//!
//! ```text
//!  faults ──► machines (disk, clock, runtime with a member) ◄──► network
//!  clients ─── proposals ──►│                 │
//!  history ◄── answers ─────┘                 └──► oracle: what must hold after each step
//! ```

mod damage;
mod disk;
mod faults;
mod history;
mod kernel;
mod machine;
mod members;
mod network;
mod oracle;
pub(in crate::raft) mod planted;
mod tests;

use std::path::Path;

use damage::Lossy;
use faults::{Faults, Shift, Temper};
use history::{Heard, Producer};
use machine::{DISK_BYTES, Death, Machine};
use members::Operator;
use network::Network;
use openraft::async_runtime::watch::WatchReceiver as _;
use oracle::Oracle;
use planted::Bug;

use crate::clock;
use crate::ids::StoredSend;
use crate::raft::group_tests::options;
use crate::raft::{
    Group, GroupOptions, PeerAddress, Peers, Place, Role, Timing, member_change, roster,
};
use crate::store::Durability;
use crate::store::entry::crc32c;

/// Small, so that segments are rolled, purged and missed.
const SEGMENT_BYTES: u64 = 128 << 10;
/// How long a group may take to serve again after the faults, ms.
const RECOVERY_MS: u64 = 30_000;
/// Between looks at what is derived, ms.
const DERIVED_MS: u64 = 100;
/// Machines without a member of the group, where members come and go.
const SPARE: usize = 2;
/// How long nobody may disturb a group in the end, ms.
const PEACE_MS: u64 = 2000;

/// What is simulated.
#[derive(Debug, Clone, Copy)]
struct Plan {
    seed: u64,
    members: usize,
    faults: Faults,
    /// How long things go wrong at the usual pace, ms.
    fault_ms: u64,
    /// When an entry counts as stored on a member.
    durability: Durability,
    bug: Option<Bug>,
    /// Whether what happens is printed.
    is_told: bool,
}

/// What came of it, to be printed.
#[derive(Debug)]
#[allow(dead_code)] // printing is reading
struct Outcome {
    /// Of everything that happened.
    trace: u32,
    now: u64,
    /// Sends that were acknowledged.
    stored: usize,
    /// Of these, sends that were answered with what an earlier try had stored.
    found_again: usize,
    committed: u64,
    /// Entries before this are purged somewhere.
    purged: u64,
    /// How often a member got a snapshot for entries that it lacked.
    installed: u64,
    /// Terms that had a leader.
    terms: usize,
    deaths: u64,
}

struct World {
    plan: Plan,
    now: u64,
    chance: fastrand::Rng,
    network: Network,
    machines: Vec<Machine>,
    producers: Vec<Producer>,
    oracle: Oracle,
    operator: Operator,
    /// When a machine that is off is switched on.
    returns: Vec<u64>,
    heals_at: Option<u64>,
    mended_at: Option<u64>,
    temper: Temper,
    shift: Option<Shift>,
    deaths: u64,
    lossy: Lossy,
    trace: u32,
}

/// Runs a simulation in this process, which is spoilt for anything else.
fn simulate(plan: Plan) -> Result<Outcome, String> {
    kernel::simulate(plan.seed);
    plan.bug.into_iter().for_each(planted::plant);
    let mut world = World::new(plan);
    let outcome = world.run();
    outcome.map_err(|why| format!("at {} ms: {why}", world.now))
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut chance = fastrand::Rng::with_seed(plan.seed);
        let network = Network::new(plan.members + SPARE, chance.u64(..));
        let origin = clock::now();
        let machine = |index: usize, hosts: usize, seed: u64| {
            let group = options(Path::new("/store"), &name(index), peers(hosts));
            let timing = Timing { farewell: members::FAREWELL, ..group.timing };
            let (segment_bytes, durability) = (SEGMENT_BYTES, plan.durability);
            let options = GroupOptions { segment_bytes, durability, timing, ..group };
            Machine::new(index, options, network.clone(), origin, seed)
        };
        let members = plan.members;
        let mut machines: Vec<_> =
            (0..members).map(|index| machine(index, members, chance.u64(..))).collect();
        let temper = Temper::draw(plan.faults, &mut chance);
        if temper.changes_members() {
            let all = members + SPARE;
            machines.extend((members..all).map(|index| machine(index, all, chance.u64(..))));
            // Changes take longer than other faults, and clients send meanwhile.
            machines.iter_mut().for_each(|machine| machine.grow(2 * DISK_BYTES));
        }
        Self {
            plan,
            now: 0,
            network,
            // Where members come and go, as much as can be sent is what counts.
            producers: (0..3).map(|name| Producer::new(name, !temper.changes_members())).collect(),
            oracle: Oracle::new(machines.len()),
            operator: Operator::of((0..machines.len()).map(|index| (name(index), index < members))),
            returns: vec![0; machines.len()],
            machines,
            heals_at: None,
            mended_at: None,
            temper,
            chance,
            shift: None,
            deaths: 0,
            lossy: Lossy::Anybody,
            trace: 0,
        }
    }

    fn run(&mut self) -> Result<Outcome, String> {
        (0..self.machines.len()).for_each(|index| self.start(index));
        let fault_ms = self.temper.lasts(self.plan.fault_ms);
        while self.now < fault_ms {
            match self.plan.faults {
                Faults::All | Faults::Only(_) if self.now > 1000 => self.go_wrong(),
                Faults::All | Faults::Only(_) | Faults::None => {}
            }
            self.step()?;
        }
        self.mend_all();
        let before: Vec<usize> = self.producers.iter().map(Producer::stored).collect();
        let mended = self.now;
        let serves = |world: &Self| {
            let mut producers = world.producers.iter().zip(&before);
            producers.all(|(producer, before)| producer.stored() > *before + 5)
        };
        while !serves(self) || !self.is_settled() || self.lossy != Lossy::Nobody {
            if self.now > mended + RECOVERY_MS {
                return Err(format!("does not serve {RECOVERY_MS} ms after the last fault"));
            }
            self.switch_on();
            self.look_at_losses();
            self.step()?;
        }
        self.keep_peace()?;
        self.oracle.check_served(&self.machines, &self.insiders())?;
        let messages = &self.oracle.messages;
        let deletions = self.producers.iter().flat_map(|producer| producer.deletions(messages));
        let deletions: Vec<_> = deletions.collect();
        for producer in &self.producers {
            producer.check(messages, &deletions)?;
        }
        let stored = self.producers.iter().map(Producer::stored).sum();
        let found_again = self.producers.iter().map(|one| one.found_again(messages)).sum();
        let first = |machine: &Machine| machine.group().map(|g| g.0.log.first_index().0);
        Ok(Outcome {
            trace: self.trace,
            now: self.now,
            stored,
            found_again,
            committed: self.oracle.committed(),
            purged: self.machines.iter().filter_map(first).max().unwrap_or(0),
            installed: self.oracle.installed,
            terms: self.oracle.terms(),
            deaths: self.deaths,
        })
    }

    /// A millisecond passes.
    fn step(&mut self) -> Result<(), String> {
        self.now += 1;
        self.network.deliver(self.now);
        self.send();
        for index in 0..self.machines.len() {
            let ended = self.machines[index].run_until(self.now);
            // What it told when it was about to die counts.
            let rots = self.rots(index);
            self.oracle.check(&self.machines, index, rots)?;
            match ended {
                Some(Ok(death)) => self.die(index, death),
                Some(Err(why)) => self.refused_to_start(index, &why)?,
                None => {}
            }
            if (self.now + index as u64).is_multiple_of(DERIVED_MS) {
                self.oracle.check_derived(&self.machines[index], rots)?;
            }
        }
        for index in 0..self.producers.len() {
            let (members, chance) = (self.machines.len(), &mut self.chance);
            let heard = self.producers[index].listen(self.now, members, chance)?;
            if let Some(Heard::Acknowledged(place) | Heard::Lost(_, place)) = heard {
                self.oracle.check_acknowledged(place)?;
                self.operator.check_acknowledged(index)?;
                self.mix(&place.physical.0.to_le_bytes());
            }
            if let Some(Heard::Lost(member, place)) = heard {
                self.lose_answer(member, place);
            }
            self.producers[index].check_offsets(self.oracle.tables())?;
        }
        self.hear_operator();
        self.trace_step();
        Ok(())
    }

    fn send(&mut self) {
        for index in 0..self.producers.len() {
            let committed = self.oracle.committed();
            let turn = self.producers[index].turn(self.now, committed, &mut self.chance);
            let Some((member, proposal)) = turn else { continue };
            match self.machines[member].group() {
                Some(group) => {
                    self.machines[member].set_time(self.now);
                    self.operator.note_asked(index, &group);
                    group.propose(proposal);
                }
                None => (proposal.done)(Err(crate::raft::ProposeError::Stopping)),
            }
        }
    }

    /// The connection over which `member` answered has ended.
    fn lose_answer(&mut self, member: usize, place: Place) {
        let Some(group) = self.machines[member].group() else { return };
        self.machines[member].set_time(self.now);
        group.unanswered([StoredSend { first: place.physical, messages: 1 }].into());
    }

    fn start(&mut self, index: usize) {
        self.note(&format!("n{index} starts"));
        self.oracle.restarted(index);
        self.machines[index].start(self.now);
    }

    fn die(&mut self, index: usize, death: Death) {
        if self.machines[index].is_on() {
            self.note(&format!("n{index} dies: {death:?}"));
            self.deaths += 1;
            self.operator.hears_nothing_of(index);
            let forgets = self.forgets(index, death);
            if self.lossy == Lossy::Lacks(index) {
                self.oracle.loses(index, &self.machines[index].stored);
            }
            self.machines[index].die(death, &mut self.chance);
            if forgets {
                self.note(&format!("the page cache of n{index} forgets what is clean"));
                self.machines[index].stored.forget().expect("memory is all it takes");
            }
            self.returns[index] = self.now + self.chance.u64(1..3000);
        }
    }

    /// A member refuses its store only where the disk is full, does not sync, or has changed what
    /// nobody could repair so far.
    fn refused_to_start(&mut self, index: usize, why: &str) -> Result<(), String> {
        let full_or_ill = ["no space", "are free; free space", "medium error"];
        let is_known = full_or_ill.iter().any(|known| why.contains(known));
        let is_damage = self.rots(index) && why.contains("could repair it");
        if !is_known && !is_damage {
            return Err(format!("n{index} refuses its store: {why}"));
        }
        self.die(index, Death::Kill);
        if is_damage && !self.insiders().contains(&index) {
            self.empty(index); // nobody has to have what it lacks
        }
        Ok(())
    }

    /// Switches on what is off and due, and ends what has stopped by itself.
    fn switch_on(&mut self) {
        for index in 0..self.machines.len() {
            let group = self.machines[index].group();
            if group.is_some_and(|g| g.0.raft.metrics().borrow_watched().running_state.is_err()) {
                self.note(&format!("n{index} has stopped"));
                self.die(index, Death::Kill);
            }
            if !self.machines[index].is_on() && self.returns[index] <= self.now {
                self.start(index);
            }
        }
    }

    /// Whether all that shall belong to the group do, run, and have everything.
    fn is_settled(&self) -> bool {
        let groups: Vec<_> = self.machines.iter().filter_map(Machine::group).collect();
        let Some(leader) = groups.iter().find(|group| group.role().is_leader()) else {
            return false;
        };
        let Role::Leader { term } = leader.role() else { return false };
        let (status, metrics) = (leader.status(), leader.0.raft.metrics().borrow_watched().clone());
        let recorded = roster::recorded(&metrics, leader.store_id(), |_| false);
        let has_all = |group: &Group| {
            let own = group.status();
            own.term == term && own.stopped.is_none() && own.applied == status.applied
        };
        metrics.committed_membership_config == metrics.membership_config
            && member_change::under_way(&recorded).is_none()
            && recorded.members.keys().all(|store| {
                groups.iter().any(|group| group.store_id().0 == *store && has_all(group))
            })
    }

    fn note(&mut self, what: &str) {
        if self.plan.is_told {
            eprintln!("{:>6} {what}", self.now);
        }
        self.mix(what.as_bytes());
    }

    fn mix(&mut self, bytes: &[u8]) {
        self.trace = crc32c(&[&self.trace.to_le_bytes(), bytes].concat());
    }

    /// What the step changed that can be seen from here.
    fn trace_step(&mut self) {
        let mut seen = vec![self.now, self.network.delivered(), self.oracle.committed()];
        for machine in &self.machines {
            let tail = machine.group().map_or(0, |group| group.0.log.tail().0);
            seen.extend([machine.stored.step_count() as u64, tail]);
        }
        let bytes: Vec<u8> = seen.into_iter().flat_map(u64::to_le_bytes).collect();
        self.mix(&bytes);
    }
}

/// The name of the member on a machine, which is its host's name as well.
fn name(index: usize) -> String {
    format!("n{index}")
}

fn address(index: usize) -> PeerAddress {
    PeerAddress { host: name(index), port: 1 }
}

/// Members on the first `hosts` machines.
fn peers(hosts: usize) -> Peers {
    Peers::new((0..hosts).map(|index| (name(index), address(index))))
}
