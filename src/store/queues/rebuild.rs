//! A run that turns out to be damaged is built again from the log, while all else goes on.
//!
//! Only whoever reads a block notices that it is not what was written, or that the disk cannot read
//! it: a pull, a merge, or who checks all of them ([`Queues::check_piece`]). Until the run is replaced, whatever needs that block is answered with the
//! error, and merges leave the run alone.

use std::{ops::Range, path::PathBuf, sync::Arc};

use tracing::warn;

use super::{Error, Queues, Shared, run::Run, state::State};
use crate::ids::PhysicalOffset;

/// Blocks that are checked at once: 1 MiB.
const PIECE_BLOCKS: usize = 16;

/// A part of the derived data that was read against its checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedPiece {
    /// Its bytes, a little more at the end of a run.
    pub bytes: u64,
    /// Where to go on: a run, and a block of it.
    pub next: (PhysicalOffset, usize),
}

impl Queues {
    /// Whether a reader or a merge found a damaged run.
    pub fn has_damage(&self) -> bool {
        self.0.state.read().runs.iter().any(|run| run.damage().is_some())
    }

    /// Checks some blocks from `block` on of the run at `from`, or of the one behind it: what no
    /// reader meets is found by going through all of them. `None` behind the last run. Damage is
    /// noted, for [`Self::mend`].
    pub fn check_piece(&self, (from, block): (PhysicalOffset, usize)) -> Option<CheckedPiece> {
        let runs = Arc::clone(&self.0.state.read().runs);
        let run = runs.iter().find(|run| run.footer().to > from)?;
        let next_run = (run.footer().to, 0);
        Some(match run.check_blocks(block, PIECE_BLOCKS) {
            Ok(0) | Err(_) => CheckedPiece { bytes: 0, next: next_run },
            Ok(bytes) => CheckedPiece { bytes, next: (run.footer().from, block + PIECE_BLOCKS) },
        })
    }

    /// Replaces damaged runs. `feed` applies the log's entries of a stretch to the queues that it
    /// is given, as a start does ([`Opening::replay_from`](super::Opening::replay_from)).
    ///
    /// A run that cannot be built is deleted, for the next start to miss it: a start can ask the
    /// other members for what is damaged in the log, too.
    pub fn mend<E: From<Error>>(
        &self,
        feed: impl Fn(&Self, Range<PhysicalOffset>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut garbage = self.0.disk.lock();
        self.0.collect(&mut garbage)?;
        let runs = Arc::clone(&self.0.state.read().runs);
        let mut done = Ok(());
        for damaged in runs.iter() {
            let Some(damage) = damaged.damage() else { continue };
            let path = damaged.path().display();
            warn!(%path, damage, "building damaged derived data from the log");
            match self.build_again(damaged, &feed) {
                Ok(new) => self.0.replace(damaged, &new, &mut garbage),
                Err(error) => {
                    garbage.push(damaged.path().to_owned());
                    done = Err(error);
                }
            }
        }
        self.0.collect(&mut garbage)?;
        done
    }

    /// Runs of what the log still holds of a run's stretch; several if it is long.
    fn build_again<E: From<Error>>(
        &self,
        damaged: &Run,
        feed: impl Fn(&Self, Range<PhysicalOffset>) -> Result<(), E>,
    ) -> Result<Arc<Vec<Arc<Run>>>, E> {
        let to = damaged.footer().to;
        let (from, next) = {
            let mut state = self.0.state.write();
            (damaged.footer().from.max(state.floor), state.next_offsets())
        };
        if from >= to {
            return Ok(Arc::default());
        }
        let state = State::new(self.0.segment_bytes, from, to, next);
        let files = Arc::clone(&self.0.files);
        let stretch = Self(Shared::new(files, self.0.dir.clone(), self.0.segment_bytes, state));
        feed(&stretch, from..to)?;
        stretch.apply(to..to, [])?; // refused unless all of the stretch was fed
        stretch.freeze();
        stretch.flush()?;
        let runs = Arc::clone(&stretch.0.state.read().runs);
        Ok(runs)
    }
}

impl Shared {
    /// Puts runs in the place of one, unless that was taken out meanwhile.
    fn replace(&self, old: &Arc<Run>, new: &[Arc<Run>], garbage: &mut Vec<PathBuf>) {
        let mut state = self.state.write();
        if let Some(at) = state.runs.iter().position(|run| Arc::ptr_eq(run, old)) {
            if new.iter().all(|run| run.path() != old.path()) {
                garbage.push(old.path().to_owned());
            }
            Arc::make_mut(&mut state.runs).splice(at..=at, new.iter().cloned());
        } else {
            garbage.extend(new.iter().map(|run| run.path().to_owned()));
        }
    }
}
