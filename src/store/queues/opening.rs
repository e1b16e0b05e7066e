//! Which run files count when a store opens.

use std::{ops::Range, path::Path};

use tracing::warn;

use super::{
    Error, open_run,
    run::{Run, parse_name},
};
use crate::ids::PhysicalOffset;
use crate::store::{self, files::Files};

/// What was found at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Entries from here on must be applied. The position of the checkpoint, or below it when
    /// derived data was lost and is to be built again; then freeze and flush now and then on the
    /// way, as in normal operation, or all of it piles up in memory.
    pub replay_from: PhysicalOffset,
    /// Runs that were taken.
    pub runs: usize,
    /// Why runs were not taken although they lie within the log.
    pub damage: Vec<String>,
}

/// Opens the runs that cover `retained` without a gap, and removes all other files.
///
/// Of several that start at the same place the largest counts: a merge was finished, but the runs
/// it replaces were not deleted yet.
pub(super) fn open_runs(
    files: &dyn Files,
    dir: &Path,
    retained: &Range<PhysicalOffset>,
) -> Result<(Vec<Run>, Opening), Error> {
    files.create_dir(dir).map_err(|e| store::Error::io("create directory", dir, e))?;
    let listed = files.list(dir).map_err(|e| store::Error::io("list directory", dir, e))?;
    let found: Vec<_> =
        listed.iter().filter_map(|file| Some((&file.name, parse_name(&file.name)?))).collect();
    let ranges: Vec<_> = found.iter().map(|(_, range)| range.clone()).collect();

    let (mut kept, mut runs, mut damage) = (Vec::new(), Vec::new(), Vec::new());
    let mut covered_to = retained.start;
    while covered_to < retained.end {
        let mut opened = None;
        for candidate in candidates(&ranges, covered_to, retained) {
            let (name, range) = &found[candidate];
            match open_run(files, &dir.join(name), range) {
                Ok(run) => {
                    opened = Some((candidate, run));
                    break;
                }
                Err(Error::Damaged { what, .. }) => damage.push(format!("{name}: {what}")),
                Err(other) => return Err(other),
            }
        }
        let Some((candidate, run)) = opened else { break };
        covered_to = run.footer().to;
        kept.push(found[candidate].0);
        runs.push(run);
    }
    for file in listed.iter().filter(|file| !kept.contains(&&file.name)) {
        let path = dir.join(&file.name);
        files.remove(&path).map_err(|e| store::Error::io("delete derived data", &path, e))?;
    }
    if kept.len() < listed.len() {
        files.sync_dir(dir).map_err(|e| store::Error::io("sync directory", dir, e))?;
    }
    if covered_to < retained.end {
        let (from, to) = (covered_to.0, retained.end.0);
        warn!(from, to, ?damage, "derived data is missing and will be rebuilt from the log");
    }
    let replay_from = covered_to.min(retained.end);
    let opening = Opening { replay_from, runs: runs.len(), damage };
    Ok((runs, opening))
}

/// Numbers of the runs that may come next when everything up to `covered_to` is covered, the
/// largest first. The first run may start below the log: its beginning is not served.
fn candidates(
    found: &[Range<PhysicalOffset>],
    covered_to: PhysicalOffset,
    retained: &Range<PhysicalOffset>,
) -> Vec<usize> {
    let fits = |range: &Range<PhysicalOffset>| {
        let starts =
            range.start == covered_to || (covered_to == retained.start && range.start < covered_to);
        starts && covered_to < range.end && range.end <= retained.end
    };
    let mut numbers: Vec<_> = (0..found.len()).filter(|&n| fits(&found[n])).collect();
    numbers.sort_by_key(|&n| std::cmp::Reverse(found[n].end));
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_run_that_continues_and_does_not_pass_the_checkpoint_comes_next() {
        let range = |from, to| PhysicalOffset(from)..PhysicalOffset(to);
        let found = [range(0, 10), range(0, 20), range(10, 20), range(20, 40), range(20, 30)];
        let rows = [
            (0, range(0, 30), vec![1, 0]),
            (20, range(0, 30), vec![4]),
            (20, range(0, 40), vec![3, 4]),
            (5, range(5, 40), vec![1, 0]), // the log starts within a run
            (5, range(0, 40), vec![]),
            (40, range(0, 50), vec![]),
        ];
        for (covered_to, retained, want) in rows {
            assert_eq!(candidates(&found, PhysicalOffset(covered_to), &retained), want);
        }
    }
}
