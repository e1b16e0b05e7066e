//! Emptying a store whose log cannot be mended any more, so that its member begins again as a new
//! one: with another id, without a vote, with what the others have.
//!
//! ```text
//! begin: mark ──► finish: remove what the mark is for ──► remove the mark
//! ```
//!
//! What a member has vouched for must go together with its id. So the mark comes first, and as long
//! as it is there the store is not opened, but emptied: whenever this is interrupted, the next
//! start goes on with it.

use std::path::Path;

use super::error::Error;
use super::files::{Files, remove_all};
use super::recovery::remove_segments;
use super::store_file::StoreLock;

const MARK: &str = "starting-over";
/// Small files of a store, besides checkpoints.
const OWN: [&str; 3] = ["vote", "store.json", "scrub.json"];

/// Marks the store in `dir` as one to be emptied. Durable when this returns.
pub fn begin(files: &dyn Files, _held: &StoreLock, dir: &Path) -> Result<(), Error> {
    let mark = dir.join(MARK);
    files.replace(&mark, b"").map_err(|e| Error::io("write", &mark, e))
}

/// Empties the store in `dir` with its log in `log_dir`, if it is marked. Files that are not the
/// store's stay.
pub fn finish(
    files: &dyn Files,
    _held: &StoreLock,
    dir: &Path,
    log_dir: &Path,
) -> Result<(), Error> {
    let mark = dir.join(MARK);
    if files.read(&mark).map_err(|e| Error::io("read", &mark, e))?.is_none() {
        return Ok(());
    }
    remove_segments(files, log_dir)?;
    remove(files, log_dir, |name| ["log.json", "reserve"].contains(&name))?;
    for derived in ["snapshots", "consumequeue"].map(|name| dir.join(name)) {
        files.create_dir(&derived).map_err(|e| Error::io("create directory", &derived, e))?;
        remove(files, &derived, |_| true)?;
    }
    let is_ours = |name: &str| name.starts_with("checkpoint-") || OWN.contains(&name);
    remove(files, dir, is_ours)?;
    remove(files, dir, |name| name == MARK)
}

/// Removes the files of `dir` that are `wanted` by name, durably.
fn remove(files: &dyn Files, dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<(), Error> {
    remove_all(files, dir, wanted)?;
    files.sync_dir(dir).map_err(|e| Error::io("sync directory", dir, e))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::RealFiles;

    #[test]
    fn only_a_marked_store_is_emptied_and_only_of_what_is_its_own() {
        let temporary = tempfile::tempdir().unwrap();
        let (dir, log_dir) = (temporary.path().join("store"), temporary.path().join("log"));
        let checkpoint = "checkpoint-00000000000000000064";
        let own = ["store.json", "vote", "scrub.json", checkpoint, "snapshots/1"];
        let log = ["log.json", "00000000000000000000", "reserve"];
        let others = ["store.lock", "notes.txt"];
        fs::create_dir_all(dir.join("snapshots")).unwrap();
        fs::create_dir_all(&log_dir).unwrap();
        own.iter().chain(&others).for_each(|name| fs::write(dir.join(name), "").unwrap());
        log.iter().for_each(|name| fs::write(log_dir.join(name), "").unwrap());
        let lock = StoreLock::take(&RealFiles, &dir).unwrap();
        let finish = || finish(&RealFiles, &lock, &dir, &log_dir).unwrap();
        finish();
        assert!(own.iter().all(|name| dir.join(name).exists()));
        begin(&RealFiles, &lock, &dir).unwrap();
        finish();
        assert!(own.iter().all(|name| !dir.join(name).exists()) && !dir.join(MARK).exists());
        assert!(others.iter().all(|name| dir.join(name).exists()));
        assert!(log.iter().all(|name| !log_dir.join(name).exists()));
    }
}
