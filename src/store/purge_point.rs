//! `log.json`: where the log starts. Small, replaced as a whole, synced.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::entry::EntryId;
use super::error::Error;
use super::files::Files;
use crate::ids::{EntryIndex, PhysicalOffset, Term};

const FORMAT: u32 = 1;

/// What was before the first entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct PurgePoint {
    /// The last entry that the log has forgotten; `None` if it still begins at the beginning.
    pub(super) last: Option<EntryId>,
    /// Where that entry ended.
    pub(super) end: PhysicalOffset,
}

impl PurgePoint {
    /// Index of the first entry that the log keeps.
    pub(super) fn first(&self) -> EntryIndex {
        EntryIndex(self.last.map_or(0, |id| id.index.0.saturating_add(1)))
    }
}

/// Content of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct LogStart {
    pub(super) purged: PurgePoint,
    /// The log is about to start anew here, once the checkpoint says so too.
    pub(super) reset: Option<PurgePoint>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    purged: StoredPoint,
    reset: Option<StoredPoint>,
}

#[derive(Serialize, Deserialize)]
struct StoredPoint {
    last: Option<StoredId>,
    end: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredId {
    index: u64,
    term: u64,
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("log.json")
}

pub(super) fn load(files: &dyn Files, dir: &Path) -> Result<LogStart, Error> {
    let path = path(dir);
    let content = files.read(&path).map_err(|e| Error::io("read", &path, e))?;
    let Some(content) = content else { return Ok(LogStart::default()) };
    let stored: Stored =
        serde_json::from_slice(&content).map_err(|e| Error::bad_file(&path, e.to_string()))?;
    if stored.format != FORMAT {
        return Err(Error::bad_file(&path, format!("format {} is unknown", stored.format)));
    }
    let start = LogStart { purged: stored.purged.into(), reset: stored.reset.map(Into::into) };
    let sane = |point: PurgePoint| point.end.0 < 1 << 62 && point.end.0.is_multiple_of(8);
    match sane(start.purged) && start.reset.is_none_or(sane) {
        true => Ok(start),
        false => Err(Error::bad_file(&path, "no log starts there")),
    }
}

pub(super) fn save(files: &dyn Files, dir: &Path, start: LogStart) -> Result<(), Error> {
    let path = path(dir);
    let stored =
        Stored { format: FORMAT, purged: start.purged.into(), reset: start.reset.map(Into::into) };
    let written = serde_json::to_vec_pretty(&stored)
        .map_err(std::io::Error::from)
        .and_then(|content| files.replace(&path, &content));
    written.map_err(|e| Error::io("write", &path, e))
}

impl From<StoredPoint> for PurgePoint {
    fn from(point: StoredPoint) -> Self {
        let last =
            point.last.map(|id| EntryId { index: EntryIndex(id.index), term: Term(id.term) });
        Self { last, end: PhysicalOffset(point.end) }
    }
}

impl From<PurgePoint> for StoredPoint {
    fn from(point: PurgePoint) -> Self {
        let last = point.last.map(|id| StoredId { index: id.index.0, term: id.term.0 });
        Self { last, end: point.end.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::files::RealFiles;

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(&RealFiles, dir.path()).unwrap(), LogStart::default());
        let id = EntryId { index: EntryIndex(9), term: Term(2) };
        let point = PurgePoint { last: Some(id), end: PhysicalOffset(4096) };
        let start = LogStart { purged: point, reset: Some(point) };
        save(&RealFiles, dir.path(), start).unwrap();
        assert_eq!(load(&RealFiles, dir.path()).unwrap(), start);
        assert_eq!(point.first(), EntryIndex(10));
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_an_empty_log() {
        let dir = tempfile::tempdir().unwrap();
        for content in [
            "",
            "{}",
            r#"{"format":2,"purged":{"last":null,"end":0},"reset":null}"#,
            r#"{"format":1,"purged":{"last":null,"end":18446744073709551608},"reset":null}"#,
        ] {
            std::fs::write(path(dir.path()), content).unwrap();
            let error = load(&RealFiles, dir.path()).unwrap_err().to_string();
            assert!(error.contains("log.json is damaged"), "{content}: {error}");
        }
    }
}
