//! Ends what hangs. Who is connected to a member whose loop stands still waits for its own
//! time-out; a connection that is closed is tried again elsewhere, at once.
//!
//! ```text
//!  a loop stands still for 1 s ──► clients' connections are closed, leadership is given away
//!                          2 s ──► the process ends, if it led others; if not, after 30 s
//! ```
//!
//! A leader that hands over because its disk is slow votes for its heir, and one that lets old
//! messages go notes where its log begins: both wait for the disk to keep that, and may take 4 s.
//!
//! Time is counted in the watchdog's own turns: while a process is stopped, or a machine too busy to
//! run its threads, the watchdog stands still as well, and finds nothing.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use crate::clock;
use crate::net::Server;
use crate::raft::{Group, PULSE, Pulse};

use super::acquaintance::Acquaintance;

/// Turns without a beat after which a loop hangs: 1 s.
const HANGS: u32 = 5;
/// After which a member is dead that led others when it began to hang: 2 s.
const LEADER_DEAD: u32 = 10;
/// And one that stood still while the disk kept its vote, by which it leads no more, or where its
/// log begins: 4 s, two syncs of a slow disk.
const WAITER_DEAD: u32 = 20;
/// And any other one, which is in nobody's way: 30 s.
const DEAD: u32 = 150;

/// Called with the reason when the process has to end.
pub type End = Box<dyn FnOnce(&str) + Send>;

/// A loop that must turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loop {
    /// The group's: log, elections, replication.
    Raft,
    /// That of clients' connections.
    Clients,
}

impl Loop {
    const ALL: [Self; 2] = [Self::Raft, Self::Clients];

    fn name(self) -> &'static str {
        match self {
            Self::Raft => "the raft thread",
            Self::Clients => "the threads of clients' connections",
        }
    }
}

/// What is seen in one turn.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Beats of each loop.
    beats: [u64; 2],
    /// Whether this member leads a group that has others.
    leads_others: bool,
    /// Whether the raft thread waits for the disk to keep a vote, or where the log begins or ends.
    waits: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Well,
    Hangs(Loop),
    Dead(Loop),
}

/// Decides, by what it saw before.
#[derive(Debug, Default)]
struct Judge {
    beats: [u64; 2],
    still: [u32; 2],
    /// Whether this member led others when all loops turned last.
    led: bool,
    /// Whether it was seen to wait for the disk since.
    waited: bool,
}

impl Judge {
    fn look(&mut self, seen: Seen) -> Verdict {
        for i in 0..Loop::ALL.len() {
            let turned = seen.beats[i] != self.beats[i];
            self.still[i] = if turned { 0 } else { self.still[i] + 1 };
        }
        self.beats = seen.beats;
        let all_turn = self.still == [0; 2];
        if all_turn {
            self.led = seen.leads_others;
        }
        self.waited = seen.waits || (self.waited && !all_turn);
        let [raft, clients] = self.still;
        let (still, which) =
            if raft >= clients { (raft, Loop::Raft) } else { (clients, Loop::Clients) };
        let dead = match (self.led, self.waited && which == Loop::Raft) {
            (true, false) => LEADER_DEAD,
            (true, true) => WAITER_DEAD,
            (false, _) => DEAD,
        };
        match still {
            _ if still >= dead => Verdict::Dead(which),
            _ if still >= HANGS => Verdict::Hangs(which),
            _ => Verdict::Well,
        }
    }
}

/// The thread that looks. Dropping it ends it.
pub struct Watchdog {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Watches the loop of `group` and that of `server`, which shows `clients`; `acquaintance` is
    /// told when these are closed. `end` ends the process.
    pub fn start(
        (group, acquaintance): (Group, Arc<Acquaintance>),
        (server, clients): (&Arc<Server>, Pulse),
        end: End,
    ) -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let watched = Watched { group, acquaintance, clients, server: Arc::downgrade(server) };
        let ends = Arc::clone(&over);
        let thread = thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watched.watch(&ends, end))?;
        Ok(Self { over, thread: Some(thread) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        // It ends the process itself, or was told not to.
        if thread.thread().id() != thread::current().id() && thread.join().is_err() {
            tracing::error!("the watchdog panicked");
        }
    }
}

struct Watched {
    group: Group,
    acquaintance: Arc<Acquaintance>,
    clients: Pulse,
    server: Weak<Server>,
}

impl Watched {
    fn watch(self, over: &AtomicBool, end: End) {
        let (mut judge, mut before) = (Judge::default(), Verdict::Well);
        while !over.load(Ordering::Relaxed) {
            thread::park_timeout(PULSE);
            let verdict = judge.look(Seen {
                beats: [self.group.pulse().beats(), self.clients.beats()],
                leads_others: !self.is_alone() && self.group.role().is_leader(),
                waits: self.group.waits_for_disk(),
            });
            if over.load(Ordering::Relaxed) {
                return;
            }
            match verdict {
                Verdict::Well => {}
                Verdict::Hangs(which) => {
                    self.hangs(which, verdict != before);
                    // Told after what was done: lines wait for nobody, but that comes first.
                    if verdict != before {
                        tracing::error!(
                            "{} stands still: a disk that hangs, or a fault",
                            which.name()
                        );
                    }
                }
                Verdict::Dead(which) => {
                    let why = format!("{} did not turn for too long", which.name());
                    return end(&why);
                }
            }
            if let (Verdict::Hangs(which), Verdict::Well) = (before, verdict) {
                tracing::info!("{} turned again", which.name());
            }
            before = verdict;
        }
    }

    /// Whether the group has no other member.
    fn is_alone(&self) -> bool {
        self.group.roster().members.len() < 2
    }

    fn hangs(&self, which: Loop, is_new: bool) {
        if self.is_alone() {
            return; // whoever waits finds nothing better elsewhere
        }
        match (which, self.server.upgrade()) {
            (Loop::Raft, Some(server)) => {
                server.close_connections();
                self.acquaintance.note_gap(clock::now());
            }
            (Loop::Raft, None) => {}
            (Loop::Clients, _) if is_new => self.group.give_way(),
            (Loop::Clients, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Verdicts of as many turns, while these loops beat.
    fn turns(judge: &mut Judge, n: u32, beating: [bool; 2], leads_others: bool) -> Vec<Verdict> {
        let turn = |_| {
            let beats = [0, 1].map(|i| judge.beats[i] + u64::from(beating[i]));
            judge.look(Seen { beats, leads_others, waits: false })
        };
        (0..n).map(turn).collect()
    }

    fn well() -> Judge {
        let mut judge = Judge::default();
        assert_eq!(turns(&mut judge, 3, [true; 2], false), [Verdict::Well; 3]);
        judge
    }

    #[test]
    fn a_loop_hangs_after_a_second_and_a_leader_is_dead_after_two() {
        let rows = [
            ([false, true], true, Loop::Raft, LEADER_DEAD),
            ([true, false], true, Loop::Clients, LEADER_DEAD),
            ([false, false], true, Loop::Raft, LEADER_DEAD),
            ([false, true], false, Loop::Raft, DEAD),
            ([true, false], false, Loop::Clients, DEAD),
        ];
        for (beating, leads, which, dead) in rows {
            let mut judge = well();
            turns(&mut judge, 1, [true; 2], leads);
            let verdicts = turns(&mut judge, dead, beating, leads);
            let first = |verdict| verdicts.iter().position(|v| *v == verdict);
            let what = format!("{beating:?} {leads}");
            assert_eq!(first(Verdict::Hangs(which)), Some(HANGS as usize - 1), "{what}");
            assert_eq!(first(Verdict::Dead(which)), Some(dead as usize - 1), "{what}");
        }
    }

    #[test]
    fn a_member_that_led_is_as_dead_when_it_gave_leadership_away_meanwhile() {
        let mut judge = well();
        turns(&mut judge, 1, [true; 2], true);
        let verdicts = turns(&mut judge, LEADER_DEAD, [true, false], false);
        assert_eq!(verdicts.last(), Some(&Verdict::Dead(Loop::Clients)));
    }

    #[test]
    fn a_leader_whose_vote_takes_the_disk_long_may_take_twice_as_long() {
        let still = |judge: &mut Judge, waits| {
            let beats = [judge.beats[0], judge.beats[1] + 1];
            judge.look(Seen { beats, leads_others: true, waits })
        };
        // The vote may be kept at the last look before the thread turns: it counts all the same.
        let voting: [fn(u32) -> bool; 2] = [|_| true, |turn| turn < 7];
        for votes in voting {
            let mut judge = well();
            turns(&mut judge, 1, [true; 2], true);
            for turn in 1..WAITER_DEAD {
                let verdict = still(&mut judge, votes(turn));
                assert_ne!(verdict, Verdict::Dead(Loop::Raft), "{turn}");
            }
            assert_eq!(still(&mut judge, votes(WAITER_DEAD)), Verdict::Dead(Loop::Raft));
        }
        // The next time it did not vote.
        let mut judge = well();
        turns(&mut judge, 1, [true; 2], true);
        still(&mut judge, true);
        turns(&mut judge, 1, [true; 2], true);
        let verdicts = turns(&mut judge, LEADER_DEAD, [false, true], true);
        assert_eq!(verdicts.last(), Some(&Verdict::Dead(Loop::Raft)));
    }

    #[test]
    fn a_loop_that_turns_again_is_well() {
        let mut judge = well();
        turns(&mut judge, 1, [true; 2], true);
        for _ in 0..10 {
            turns(&mut judge, LEADER_DEAD - 1, [false, true], true);
            assert_eq!(turns(&mut judge, 1, [true; 2], true), [Verdict::Well]);
        }
    }
}
