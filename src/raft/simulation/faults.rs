//! What goes wrong, and when: drawn from the seed as time goes by.

use std::sync::atomic::Ordering::Relaxed;

use super::World;
use super::machine::{DISK_BYTES, Death, Machine};
use super::network::Weather;
use crate::store::Durability;

/// Which faults a simulation has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Faults {
    /// None.
    None,
    /// All that the group must survive.
    All,
}

/// Of this many steps one begins a fault.
const RARITY: u64 = 250;

impl World {
    /// Perhaps something goes wrong now, or is mended.
    pub(super) fn go_wrong(&mut self) {
        self.switch_on();
        if self.heals_at.take_if(|at| *at <= self.now).is_some() {
            self.note("the network heals");
            self.network.heal();
            self.network.set_weather(Weather { delay_max: 2, lost: 0 });
        }
        if self.mended_at.take_if(|at| *at <= self.now).is_some() {
            self.mend_disks();
        }
        if self.chance.u64(0..RARITY) == 0 {
            self.begin_fault();
        }
    }

    /// From now on nothing is wrong, and everybody is there.
    pub(super) fn mend_all(&mut self) {
        self.note("all is mended");
        self.network.heal();
        self.network.set_weather(Weather { delay_max: 2, lost: 0 });
        self.mend_disks();
        (self.heals_at, self.mended_at) = (None, None);
        for index in 0..self.machines.len() {
            let machine = &mut self.machines[index];
            machine.paused_until = machine.paused_until.min(self.now);
            self.returns[index] = self.now;
        }
    }

    fn mend_disks(&mut self) {
        for machine in &self.machines {
            machine.stored.resize(DISK_BYTES);
            machine.condition.sync_ms_max.store(4, Relaxed);
            machine.condition.fails_next_sync.store(false, Relaxed);
        }
    }

    fn begin_fault(&mut self) {
        let index = self.victim();
        match self.chance.u32(0..18) {
            0 => self.die_soon(index, Death::Kill),
            1 | 2 => self.die_soon(index, Death::PowerLoss),
            3 => {
                let death = if self.chance.bool() { Death::Kill } else { Death::PowerLoss };
                self.note("everybody dies");
                for index in 0..self.machines.len() {
                    let death = self.allowed(death);
                    self.die(index, death);
                }
            }
            4 => {
                self.note(&format!("n{index} is told to stop"));
                self.machines[index].stop();
            }
            5 => {
                let until = self.now + self.chance.u64(10..2500);
                self.note(&format!("n{index} is paused until {until}"));
                self.machines[index].paused_until = until;
            }
            6 | 7 | 14..=16 => self.cut(index),
            8 => {
                let weather =
                    Weather { delay_max: self.chance.u64(2..150), lost: self.chance.u64(0..100) };
                self.note(&format!("{weather:?}"));
                self.network.set_weather(weather);
                self.heals_soon();
            }
            9 => {
                self.note("a connection breaks");
                self.network.reset_one();
            }
            10 => {
                let far = if self.chance.u32(0..4) == 0 { 1_000_000_000 } else { 2000 };
                let ms = self.chance.i64(-far..far);
                self.note(&format!("the clock of n{index} jumps by {ms} ms"));
                self.machines[index].skew_ms += ms;
            }
            11 => self.spoil_disk(index),
            12 => self.empty(index),
            _ => {
                self.note("everybody is asked to purge");
                self.machines.iter().filter_map(Machine::group).for_each(|group| group.purge_now());
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
    fn allowed(&mut self, death: Death) -> Death {
        match (self.plan.durability, death) {
            (Durability::PageCache, Death::PowerLoss) => {
                let may = !self.is_forgetful || self.is_settled();
                self.is_forgetful |= may;
                if may { Death::PowerLoss } else { Death::Kill }
            }
            (Durability::PageCache | Durability::Synced, death) => death,
        }
    }

    /// At one of the next steps of its disk, or now.
    fn die_soon(&mut self, index: usize, death: Death) {
        let death = self.allowed(death);
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

    fn heals_soon(&mut self) {
        self.heals_at = Some(self.now + self.chance.u64(50..4000));
    }

    fn spoil_disk(&mut self, index: usize) {
        let machine = &self.machines[index];
        let what = match self.chance.u32(0..4) {
            0 => {
                machine.condition.fails_next_sync.store(true, Relaxed);
                "does not sync"
            }
            1 => {
                machine.stored.resize(1);
                "is full"
            }
            2 => {
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

    /// A store is lost only while all others are there and have everything: more is not promised.
    fn empty(&mut self, index: usize) {
        if !self.is_settled() {
            return;
        }
        self.note(&format!("the disk of n{index} is lost"));
        self.die(index, Death::PowerLoss);
        self.machines[index].empty();
        self.oracle.emptied(index);
    }
}
