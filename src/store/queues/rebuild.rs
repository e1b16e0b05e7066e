//! A run that turns out to be damaged is built again from the log, while all else goes on.
//!
//! Only whoever reads a block notices that it is not what was written, or that the disk cannot read
//! it: a pull, or a merge. Until the run is replaced, whatever needs that block is answered with the
//! error, and merges leave the run alone.

use std::{ops::Range, path::PathBuf, sync::Arc};

use tracing::warn;

use super::{Error, Queues, Shared, run::Run, state::State};
use crate::ids::PhysicalOffset;

impl Queues {
    /// Whether a reader or a merge found a damaged run.
    pub fn has_damage(&self) -> bool {
        self.0.state.read().runs.iter().any(|run| run.damage().is_some())
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
