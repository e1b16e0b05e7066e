//! Fewer, larger runs. Within one segment, runs are merged by size, so that a message is rewritten
//! once per level; a finished segment ends up as one run.

use std::{io::Write, ops::Range, path::PathBuf, sync::Arc};

use super::{
    Error, Shared,
    part::Times,
    run::{Run, RunList, alive_list},
    run_writer::RunWriter,
    unit::{KeyEntry, UNIT_BYTES},
};
use crate::ids::PhysicalOffset;
use crate::store;

/// So many neighbours of one level are merged.
const RUNS_MERGED_MIN: usize = 8;
/// Sizes that end a level. Bytes. Larger runs are left alone until their segment is finished.
const LEVELS: [u64; 3] = [1 << 20, 8 << 20, 64 << 20];
/// Units copied at a time.
const UNITS_COPIED: u64 = 3_000;

/// What [`plan`] needs to know of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Candidate {
    segment: u64,
    bytes: u64,
    damaged: bool,
}

/// Which neighbouring runs to merge now. `runs` are the settled ones, oldest first; runs of the
/// segment `open_segment` may still be joined by new ones. Damaged ones are left out, and part
/// their neighbours.
fn plan(runs: &[Candidate], open_segment: u64) -> Option<Range<usize>> {
    let mut start = 0;
    let whole = |a: &Candidate, b: &Candidate| !a.damaged && !b.damaged;
    for group in runs.chunk_by(|a, b| a.segment == b.segment && whole(a, b)) {
        let here = start..start + group.len();
        if group[0].segment < open_segment && group.len() > 1 {
            return Some(here);
        }
        start = here.end;
        if group[0].segment == open_segment
            && let Some(found) = LEVELS.iter().find_map(|&limit| small_neighbours(group, limit))
        {
            return Some(here.start + found.start..here.start + found.end);
        }
    }
    None
}

/// The first stretch of enough neighbours below `limit` bytes.
fn small_neighbours(runs: &[Candidate], limit: u64) -> Option<Range<usize>> {
    let mut start = 0;
    for group in runs.chunk_by(|a, b| (a.bytes < limit) == (b.bytes < limit)) {
        if group[0].bytes < limit && group.len() >= RUNS_MERGED_MIN {
            return Some(start..start + group.len());
        }
        start += group.len();
    }
    None
}

/// Merges what [`plan`] says. The new run replaces the others under the lock; their files go
/// afterwards, and if a crash comes before that, the next start sees that the new one covers them.
pub(super) fn merge_some(
    shared: &Shared,
    settled: PhysicalOffset,
    garbage: &mut Vec<PathBuf>,
) -> Result<bool, Error> {
    let (runs, epoch, open_segment) = {
        let state = shared.state.read();
        let open = state.active.from.0 / shared.segment_bytes;
        let oldest_frozen = state.frozen.front().map_or(open, |p| p.from.0 / shared.segment_bytes);
        (Arc::clone(&state.runs), state.epoch, oldest_frozen)
    };
    let usable = runs.partition_point(|run| run.footer().to <= settled);
    let open_segment = open_segment.min(settled.0 / shared.segment_bytes);
    let segment = |run: &Arc<Run>| run.footer().from.0 / shared.segment_bytes;
    let candidates: Vec<_> = runs[..usable]
        .iter()
        .map(|run| Candidate {
            segment: segment(run),
            bytes: run.file_bytes(),
            damaged: run.damage().is_some(),
        })
        .collect();
    let Some(chosen) = plan(&candidates, open_segment) else { return Ok(false) };

    let inputs = &runs[chosen.clone()];
    let range = inputs[0].footer().from..inputs[inputs.len() - 1].footer().to;
    let merged = write_merged(shared, inputs, &range)?;
    let mut state = shared.state.write();
    if state.epoch != epoch {
        garbage.push(merged.path().to_owned());
    } else {
        Arc::make_mut(&mut state.runs).splice(chosen, [Arc::new(merged)]);
        garbage.extend(inputs.iter().map(|run| run.path().to_owned()));
    }
    drop(state);
    shared.collect(garbage)?;
    Ok(true)
}

fn write_merged(
    shared: &Shared,
    inputs: &[Arc<Run>],
    range: &Range<PhysicalOffset>,
) -> Result<Run, Error> {
    let path = shared.dir.join(super::run::file_name(range.start, range.end));
    let mut damage = None;
    let written = shared.files.replace_with(&path, &mut |out| {
        let alive_from = |topic: &str| shared.state.read().alive_from(topic);
        copy(inputs, range, &alive_from, out).map_err(|problem| match problem {
            Problem::Disk(error) => error,
            Problem::Input(error) => {
                let text = error.to_string();
                damage = Some(error);
                std::io::Error::other(text)
            }
        })
    });
    match (written, damage) {
        (_, Some(error)) => Err(error),
        (Err(error), None) => Err(store::Error::io("write derived data to", &path, error).into()),
        (Ok(()), None) => super::open_run(&*shared.files, &path, range),
    }
}

/// Why a merge stopped.
enum Problem {
    Disk(std::io::Error),
    Input(Error),
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Input(error)
    }
}

fn copy(
    inputs: &[Arc<Run>],
    range: &Range<PhysicalOffset>,
    alive_from: &dyn Fn(&str) -> PhysicalOffset,
    out: &mut dyn Write,
) -> Result<(), Problem> {
    let mut merged = RunWriter::new(out);
    let mut times = Times::NONE;
    inputs.iter().for_each(|run| times.include(run.footer().times));
    copy_lists(inputs, alive_from, &mut merged)?;
    copy_keys(inputs, &mut merged)?;
    merged.finish(range.start, range.end, times)?;
    Ok(inputs.iter().try_for_each(|run| run.intact(()))?)
}

/// The lists of all inputs, by (topic, queueId); those of one queue follow each other by age.
fn copy_lists<W: Write>(
    inputs: &[Arc<Run>],
    alive_from: &dyn Fn(&str) -> PhysicalOffset,
    merged: &mut RunWriter<W>,
) -> Result<(), Problem> {
    let mut heads = vec![0; inputs.len()];
    loop {
        let mut smallest: Option<(&[u8], u32)> = None;
        for (run, &head) in inputs.iter().zip(&heads) {
            if head < run.footer().queues {
                let (name, entry) = run.queue_at(head)?;
                let queue = (name, entry.queue_id);
                smallest = Some(smallest.map_or(queue, |other| other.min(queue)));
            }
        }
        let Some((name, queue_id)) = smallest else { return Ok(()) };
        let topic = str::from_utf8(name).map_err(|_| inputs[0].damaged("a name is not UTF-8"))?;
        let alive_from = alive_from(topic);
        let mut end = None;
        for (run, head) in inputs.iter().zip(&mut heads) {
            if *head >= run.footer().queues {
                continue;
            }
            let (other, entry) = run.queue_at(*head)?;
            if (other, entry.queue_id) != (name, queue_id) {
                continue;
            }
            *head += 1;
            let Some(list) = alive_list(run, topic, queue_id, alive_from)? else { continue };
            match end {
                None => merged.list(name, queue_id, list.first),
                Some(end) if end == list.first => {}
                Some(end) => {
                    let text = format!("{topic} {queue_id} goes on at {} after {end}", list.first);
                    return Err(run.damaged(text).into());
                }
            }
            end = Some(list.end());
            copy_units(run, &list, merged)?;
        }
    }
}

fn copy_units<W: Write>(
    run: &Run,
    list: &RunList,
    merged: &mut RunWriter<W>,
) -> Result<(), Problem> {
    let mut at = 0;
    while at < list.count {
        let to = list.count.min(at + UNITS_COPIED);
        let units = run.units(list, at..to)?;
        debug_assert_eq!(units.len() % UNIT_BYTES, 0);
        merged.units(units)?;
        at = to;
    }
    Ok(())
}

/// The key entries of all inputs, ascending. Those of deleted topics stay until their segment goes.
fn copy_keys<W: Write>(inputs: &[Arc<Run>], merged: &mut RunWriter<W>) -> Result<(), Problem> {
    let head = |run: &Run, at: u64| -> Result<Option<KeyEntry>, Error> {
        (at < run.footer().keys).then(|| run.key_at(at)).transpose()
    };
    let mut heads = Vec::with_capacity(inputs.len());
    for run in inputs {
        heads.push((0, head(run, 0)?));
    }
    loop {
        let next = heads.iter().enumerate().filter_map(|(n, (_, entry))| Some(((*entry)?, n)));
        let Some((entry, number)) = next.min() else { return Ok(()) };
        merged.key(&entry)?;
        let at = heads[number].0 + 1;
        heads[number] = (at, head(&inputs[number], at)?);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_neighbours_and_finished_segments_are_merged() {
        let row = |sizes: &[(u64, u64)]| -> Vec<Candidate> {
            let damaged = false;
            sizes.iter().map(|&(segment, bytes)| Candidate { segment, bytes, damaged }).collect()
        };
        let small = [(1, 10); 7];
        let mib = 1 << 20;
        let rows = [
            (row(&[]), None),
            (row(&small), None),
            (row(&[(1, 10); 8]), Some(0..8)),
            (row(&[[(0, 9)].as_slice(), &small].concat()), None),
            (row(&[(0, 9), (0, 2 * mib), (1, 5)]), Some(0..2)),
            // eight of which one is larger: the level above takes them all
            (row(&[small.as_slice(), &[(1, 2 * mib)]].concat()), Some(0..8)),
            (row(&[[(1, 70 * mib)].as_slice(), &[(1, 9); 9]].concat()), Some(1..10)),
            (row(&[(1, 70 * mib); 12]), None),
        ];
        for (runs, want) in rows {
            assert_eq!(plan(&runs, 1), want, "{runs:?}");
        }
    }

    #[test]
    fn what_lies_beside_a_damaged_run_is_merged_and_the_run_is_not() {
        let rows = [
            (0, 3, 0, Some(1..3)), // segment, runs, the damaged one, what is merged
            (0, 3, 1, None),
            (0, 5, 2, Some(0..2)),
            (1, 8, 0, None),
            (1, 9, 0, Some(1..9)),
        ];
        for (segment, runs, hurt, want) in rows {
            let runs: Vec<_> =
                (0..runs).map(|n| Candidate { segment, bytes: 9, damaged: n == hurt }).collect();
            assert_eq!(plan(&runs, 1), want, "{runs:?}");
        }
    }

    #[test]
    fn few_small_runs_are_left_whatever_the_order_of_sizes() {
        let candidate = |bytes| Candidate { segment: 1, bytes, damaged: false };
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let mut runs: Vec<_> =
                (0..rng.usize(0..200)).map(|_| candidate(1 << rng.u32(8..27))).collect();
            while let Some(range) = plan(&runs, 1) {
                let bytes = runs[range.clone()].iter().map(|run| run.bytes).sum();
                runs.splice(range, [candidate(bytes)]);
            }
            let small = |run: &Candidate| run.bytes < 64 << 20;
            let longest = runs.chunk_by(|a, b| small(a) == small(b)).filter(|g| small(&g[0]));
            assert!(longest.map(<[_]>::len).max().unwrap_or(0) < RUNS_MERGED_MIN);
        }
    }
}
