//! What goes wrong, and when: drawn from the seed as time goes by.
//!
//! When everything goes wrong at once, a group does nothing that takes several steps. So each seed
//! has a [`Temper`]: how often something happens, and of which kinds more than of others.

use std::sync::atomic::Ordering::Relaxed;

use super::World;
use super::damage::Lossy;
use super::machine::{Death, Machine};
use super::network::Weather;
use crate::store::Durability;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A process or its machine ends.
    Death,
    /// All of them end.
    AllDie,
    /// A member is told to stop.
    Stop,
    /// A process stands still.
    Pause,
    /// The network is cut.
    Cut,
    /// The majority moves ([`Shift`]).
    Shift,
    /// The network delays and loses.
    Weather,
    /// A connection breaks.
    Reset,
    /// A wall clock jumps.
    Clock,
    /// A disk is slow, is full, fails, or writes back.
    Disk,
    /// A disk is lost.
    Loss,
    /// A disk changes what was written.
    Rot,
    /// Old segments go.
    Purge,
    /// An operator has leadership handed to a member, or to whoever is nearest.
    Transfer,
    /// An operator wants other members.
    Members,
}

/// Which faults a simulation has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Faults {
    /// None.
    None,
    /// All that the group must survive, as the seed draws them.
    All,
    /// Those whose bits are set, by their place in [`KINDS`].
    Only(u32),
}

impl Faults {
    /// Those of this name as well.
    pub(super) fn and(self, name: &str) -> Option<Self> {
        let at = KINDS.iter().position(|(known, _, _)| *known == name)?;
        let others = if let Self::Only(kinds) = self { kinds } else { 0 };
        Some(Self::Only(others | 1 << at))
    }
}

/// All of them, by the name that a plan has for them, with how often they happen in a group that
/// has no temper.
const KINDS: [(&str, Kind, u32); 15] = [
    ("death", Kind::Death, 3),
    ("all-die", Kind::AllDie, 1),
    ("stop", Kind::Stop, 1),
    ("pause", Kind::Pause, 1),
    ("cut", Kind::Cut, 4),
    ("shift", Kind::Shift, 3),
    ("weather", Kind::Weather, 1),
    ("reset", Kind::Reset, 1),
    ("clock", Kind::Clock, 1),
    ("disk", Kind::Disk, 1),
    ("loss", Kind::Loss, 1),
    ("rot", Kind::Rot, 1),
    ("purge", Kind::Purge, 2),
    ("transfer", Kind::Transfer, 2),
    ("members", Kind::Members, 4),
];

/// What tends to go wrong in one simulation.
pub(super) struct Temper {
    /// Of so many steps one begins a fault.
    rarity: u64,
    /// Of each of [`KINDS`].
    weights: Vec<u32>,
}

impl Temper {
    /// Drawn from the seed.
    pub(super) fn draw(faults: Faults, chance: &mut fastrand::Rng) -> Self {
        let rarity = *chance.choice(&[125, 250, 500]).unwrap_or(&250);
        let weights = KINDS.iter().enumerate().map(|(at, (_, _, base))| match faults {
            Faults::None => 0,
            Faults::All => base * chance.choice(&[0, 1, 1, 6]).unwrap_or(&1),
            Faults::Only(kinds) => (kinds >> at) & 1,
        });
        Self { rarity, weights: weights.collect() }
    }

    /// How long things go wrong that go wrong for `ms` at the usual pace.
    pub(super) fn lasts(&self, ms: u64) -> u64 {
        ms.max(ms * self.rarity / 250)
    }

    /// Whether members come and go.
    pub(super) fn changes_members(&self) -> bool {
        let mut kinds = KINDS.iter().zip(&self.weights);
        kinds.any(|((_, kind, _), weight)| *kind == Kind::Members && *weight > 0)
    }

    fn kind(&self, chance: &mut fastrand::Rng) -> Option<Kind> {
        let all: u32 = self.weights.iter().sum();
        let mut drawn = chance.u32(0..all.max(1));
        let mut kinds = KINDS.iter().zip(&self.weights);
        let found = kinds.find(|(_, weight)| {
            let is_it = drawn < **weight;
            drawn = drawn.saturating_sub(**weight);
            is_it
        });
        found.map(|((_, kind, _), _)| *kind)
    }
}

/// The majority moves: those that have it lose it to the others, and the one member that both
/// majorities share, who alone knows what was promised, dies at that moment.
pub(super) struct Shift {
    at: u64,
    shared: usize,
    /// Those that had the majority with it.
    former: Vec<usize>,
    /// Those that get it.
    latter: Vec<usize>,
}

impl World {
    /// Perhaps something goes wrong now, or is mended.
    pub(super) fn go_wrong(&mut self) {
        self.switch_on();
        self.look_at_losses();
        self.look_at_voters();
        if self.heals_at.take_if(|at| *at <= self.now).is_some() {
            self.note("the network heals");
            self.network.heal();
            self.network.set_weather(Weather::FAIR);
        }
        if self.mended_at.take_if(|at| *at <= self.now).is_some() {
            self.mend_disks();
        }
        if let Some(shift) = self.shift.take_if(|shift| shift.at <= self.now) {
            self.finish_shift(&shift);
        }
        if self.chance.u64(0..self.temper.rarity) == 0 {
            self.begin_fault();
        }
    }

    /// From now on nothing is wrong, and everybody is there.
    pub(super) fn mend_all(&mut self) {
        self.note("all is mended");
        self.network.heal();
        self.network.set_weather(Weather::FAIR);
        self.mend_disks();
        (self.heals_at, self.mended_at, self.shift) = (None, None, None);
        for index in 0..self.machines.len() {
            let machine = &mut self.machines[index];
            machine.paused_until = machine.paused_until.min(self.now);
            self.returns[index] = self.now;
        }
    }

    fn mend_disks(&mut self) {
        for machine in &self.machines {
            machine.stored.resize(machine.disk_bytes);
            machine.condition.sync_ms_max.store(4, Relaxed);
            machine.condition.fails_next_sync.store(false, Relaxed);
            machine.condition.refuses_runs.store(false, Relaxed);
        }
    }

    fn begin_fault(&mut self) {
        let index = self.victim();
        let Some(kind) = self.temper.kind(&mut self.chance) else { return };
        match kind {
            Kind::Death => {
                let death = *self
                    .chance
                    .choice(&[Death::Kill, Death::PowerLoss, Death::PowerLoss])
                    .unwrap_or(&Death::Kill);
                self.die_soon(index, death);
            }
            Kind::AllDie => {
                let death = if self.chance.bool() { Death::Kill } else { Death::PowerLoss };
                self.note("everybody dies");
                for index in 0..self.machines.len() {
                    let death = self.allowed(index, death);
                    self.die(index, death);
                }
            }
            Kind::Stop => {
                self.note(&format!("n{index} is told to stop"));
                self.machines[index].stop();
            }
            Kind::Pause => {
                let until = self.now + self.chance.u64(10..2500);
                self.note(&format!("n{index} is paused until {until}"));
                self.machines[index].paused_until = until;
            }
            Kind::Cut => self.cut(index),
            Kind::Shift => self.begin_shift(),
            Kind::Weather => {
                let flipped = if self.chance.bool() { 0 } else { self.chance.u64(0..20) };
                let (delay_max, lost) = (self.chance.u64(2..150), self.chance.u64(0..100));
                let weather = Weather { delay_max, lost, flipped };
                self.note(&format!("{weather:?}"));
                self.network.set_weather(weather);
                self.heals_soon();
            }
            Kind::Reset => {
                self.note("a connection breaks");
                self.network.reset_one();
            }
            Kind::Clock => {
                let far = if self.chance.u32(0..4) == 0 { 1_000_000_000 } else { 2000 };
                let ms = self.chance.i64(-far..far);
                self.note(&format!("the clock of n{index} jumps by {ms} ms"));
                self.machines[index].skew_ms += ms;
            }
            Kind::Disk => self.spoil_disk(index),
            Kind::Loss => self.empty(index),
            Kind::Rot => self.rot(index),
            Kind::Transfer => self.transfer(index),
            Kind::Members => self.change_members(index),
            Kind::Purge => {
                self.note("everybody is asked to purge");
                self.machines.iter().filter_map(Machine::group).for_each(|group| group.purge_now());
            }
        }
    }

    /// Whoever leads is asked; that goes on whatever happens next.
    fn transfer(&mut self, to: usize) {
        let to = self.chance.bool().then(|| format!("n{to}"));
        self.note(&format!("leadership is transferred to {to:?}"));
        for group in self.machines.iter().filter_map(Machine::group) {
            if group.role().is_leader() {
                group.begin_transfer(to.as_deref());
            }
        }
    }

    /// The leader, half of the time.
    fn victim(&mut self) -> usize {
        let any = self.chance.usize(0..self.machines.len());
        let leads = |machine: &&Machine| machine.group().is_some_and(|g| g.role().is_leader());
        let leader = self.machines.iter().find(leads).map(|machine| machine.index);
        if self.chance.bool() { leader.unwrap_or(any) } else { any }
    }

    /// Groups that acknowledge from memory survive the stop of one machine at a time: until that one
    /// has everything again, others are only killed.
    fn allowed(&mut self, index: usize, death: Death) -> Death {
        match (self.plan.durability, death) {
            (Durability::PageCache, Death::PowerLoss) if !self.may_lose(index) => Death::Kill,
            (Durability::PageCache, Death::PowerLoss) => {
                if self.lossy == Lossy::Nobody {
                    self.lossy = Lossy::Lacks(index);
                }
                Death::PowerLoss
            }
            (Durability::PageCache | Durability::Synced, death) => death,
        }
    }

    /// At one of the next steps of its disk, or now.
    fn die_soon(&mut self, index: usize, death: Death) {
        let death = self.allowed(index, death);
        let machine = &mut self.machines[index];
        let from_memory = self.plan.durability == Durability::PageCache;
        // Until that step another machine could have stopped.
        let is_now = from_memory && death == Death::PowerLoss;
        if !is_now && self.chance.bool() {
            let steps = self.chance.usize(0..20);
            machine.dies_by = death;
            machine.stored.stop_at(machine.stored.step_count() + steps);
            self.note(&format!("n{index} is about to die in {steps} steps: {death:?}"));
        } else {
            self.die(index, death);
        }
    }

    fn cut(&mut self, index: usize) {
        let others = (0..self.machines.len()).filter(|other| *other != index);
        let often = if self.chance.bool() { 100 } else { 60 };
        let others: Vec<usize> = others.filter(|_| self.chance.u32(0..100) < often).collect();
        let (here, there) = *self
            .chance
            .choice(&[(true, true), (true, false), (false, true)])
            .unwrap_or(&(true, true));
        self.note(&format!("n{index} and {others:?} are cut: {here} {there}"));
        for other in others {
            if here {
                self.network.block(index, other);
            }
            if there {
                self.network.block(other, index);
            }
        }
        self.heals_soon();
    }

    /// With what is wrong already, so that there are times without any of it.
    fn heals_soon(&mut self) {
        let at = self.now + self.chance.u64(50..4000);
        self.heals_at.get_or_insert(at);
    }

    fn begin_shift(&mut self) {
        if self.shift.is_some() || self.heals_at.is_some() {
            return;
        }
        let mut members = self.insiders();
        self.chance.shuffle(&mut members);
        let shared = members.swap_remove(0);
        let latter = members.split_off(members.len() / 2);
        self.note(&format!("n{shared} and {members:?} are without {latter:?}"));
        self.separate(&latter, shared, &members);
        // What was promised meanwhile is on the disk after half a second even if nobody asks.
        let longest = if self.chance.bool() { 500 } else { 2500 };
        let at = self.now + self.chance.u64(100..longest);
        self.heals_at = Some(at + self.chance.u64(500..4000));
        self.shift = Some(Shift { at, shared, former: members, latter });
    }

    fn finish_shift(&mut self, Shift { shared, former, latter, .. }: &Shift) {
        self.note(&format!("n{shared} and {latter:?} are without {former:?}"));
        self.network.heal();
        self.separate(former, *shared, latter);
        let loss = Some(Death::PowerLoss);
        let death = [None, Some(Death::Kill), loss, loss];
        if let Some(death) = self.chance.choice(death).flatten() {
            let death = self.allowed(*shared, death);
            self.die(*shared, death);
            self.returns[*shared] = self.now + self.chance.u64(1..50);
        }
    }

    /// Cuts these members off from that one and those others.
    fn separate(&self, these: &[usize], that: usize, those: &[usize]) {
        for one in these {
            for other in those.iter().chain([&that]) {
                self.network.block(*one, *other);
                self.network.block(*other, *one);
            }
        }
    }

    fn spoil_disk(&mut self, index: usize) {
        let machine = &self.machines[index];
        let what = match self.chance.u32(0..5) {
            0 => {
                machine.condition.fails_next_sync.store(true, Relaxed);
                "does not sync"
            }
            1 => {
                machine.stored.resize(1);
                "is full"
            }
            2 => {
                machine.condition.refuses_runs.store(true, Relaxed);
                "has no room for derived data"
            }
            3 => {
                let chance = &mut self.chance;
                let survives = &mut |_| chance.bool();
                machine.stored.write_back(survives).expect("memory is all it takes");
                "writes back"
            }
            _ => {
                machine.condition.sync_ms_max.store(self.chance.u64(20..800), Relaxed);
                "is slow"
            }
        };
        self.note(&format!("the disk of n{index} {what}"));
        self.mended_at = Some(self.now + self.chance.u64(100..4000));
    }
}
