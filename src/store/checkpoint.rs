//! The local checkpoint: state as of a position, from which a start replays the log.
//!
//! One file per checkpoint, named by its position. Written aside, synced and renamed, so a crash
//! leaves the former one; the former one is kept anyway, against a damaged sector. Log and derived
//! data up to the position must be on disk before [`write()`] is called. Snapshots are files of the
//! same form ([`write_file`], [`read_file`]).
//!
//! ```text
//! "RMQ-CKP\n" · version u32 · CRC-32C u32 of what follows · position u64 · state
//! ```

use std::path::Path;

use bytes::Bytes;
use tracing::warn;

use super::{
    Error,
    files::{self, Files},
};
use crate::ids::PhysicalOffset;

const MAGIC: [u8; 8] = *b"RMQ-CKP\n";
const FORMAT_VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
const NAME_START: &str = "checkpoint-";
/// The newest, and one to fall back to.
const KEPT: usize = 2;

/// A checkpoint as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Everything below is in `state`; the log is applied from here on.
    pub position: PhysicalOffset,
    /// What the caller gave. Opaque here.
    pub state: Bytes,
}

/// Makes `state` as of `position` what the next start begins with. Durable when this returns.
pub fn write(
    files: &dyn Files,
    dir: &Path,
    position: PhysicalOffset,
    state: &[u8],
) -> Result<(), Error> {
    write_file(files, &dir.join(file_name(position)), position, state)?;
    for old in stored(files, dir)?.iter().filter(|old| **old < position).rev().skip(KEPT - 1) {
        let path = dir.join(file_name(*old));
        files.remove(&path).map_err(|e| Error::io("delete old checkpoint", &path, e))?;
    }
    Ok(())
}

/// The newest checkpoint; `None` in a new store. Falls back to the one before if the newest is
/// damaged: that only means more to replay. An error if there are some and all are damaged,
/// because to go on without would be to forget what was promised.
pub fn load(files: &dyn Files, dir: &Path) -> Result<Option<Checkpoint>, Error> {
    let mut newest_error = None;
    for position in stored(files, dir)?.into_iter().rev() {
        let path = dir.join(file_name(position));
        match read_file(files, &path, position) {
            Ok(None) => {} // deleted between listing and reading
            Ok(Some(state)) => return Ok(Some(Checkpoint { position, state })),
            Err(error @ Error::BadFile { .. }) => {
                warn!(%error, "trying the checkpoint before");
                newest_error.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    newest_error.map_or(Ok(None), Err)
}

/// Writes one file of this form; durable when this returns.
pub fn write_file(
    files: &dyn Files,
    path: &Path,
    position: PhysicalOffset,
    state: &[u8],
) -> Result<(), Error> {
    let position_bytes = position.0.to_le_bytes();
    let crc = checksum(&[&position_bytes, state]);
    let written = files.replace_with(path, &mut |out| {
        out.write_all(&MAGIC)?;
        out.write_all(&FORMAT_VERSION.to_le_bytes())?;
        out.write_all(&crc.to_le_bytes())?;
        out.write_all(&position_bytes)?;
        out.write_all(state)
    });
    written.map_err(|e| Error::io("write", path, e))
}

/// The state in one file of this form, which must be of `position`; `None` if there is no file.
pub fn read_file(
    files: &dyn Files,
    path: &Path,
    position: PhysicalOffset,
) -> Result<Option<Bytes>, Error> {
    let content = files.read(path).map_err(|e| Error::io("read", path, e))?;
    let state = content.map(|content| decode(&content, position)).transpose();
    state.map_err(|why| Error::bad_file(path, why))
}

fn decode(content: &[u8], position: PhysicalOffset) -> Result<Bytes, String> {
    let (header, rest) =
        content.split_first_chunk::<HEADER_BYTES>().ok_or("shorter than its header")?;
    if header[..8] != MAGIC {
        return Err("not a checkpoint".to_owned());
    }
    if header[8..12] != FORMAT_VERSION.to_le_bytes() {
        return Err(format!("another format version than {FORMAT_VERSION}"));
    }
    if header[12..] != checksum(&[rest]).to_le_bytes() {
        return Err("the checksum does not match".to_owned());
    }
    let (stored, state) = rest.split_first_chunk::<8>().ok_or("no position")?;
    if *stored != position.0.to_le_bytes() {
        return Err(format!("is of position {}", u64::from_le_bytes(*stored)));
    }
    Ok(Bytes::copy_from_slice(state))
}

fn checksum(parts: &[&[u8]]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize() as u32 // 32 bits by definition
}

/// Deletes what a crash left of a checkpoint that was being written.
pub fn remove_unfinished(files: &dyn Files, dir: &Path) -> Result<(), Error> {
    files::remove_unfinished(files, dir, NAME_START)
}

fn file_name(position: PhysicalOffset) -> String {
    format!("{NAME_START}{position:020}")
}

/// Positions of the checkpoints in `dir`, ascending. What a crash left unfinished has another name.
fn stored(files: &dyn Files, dir: &Path) -> Result<Vec<PhysicalOffset>, Error> {
    let listed = files.list(dir).map_err(|e| Error::io("list directory", dir, e))?;
    let positions = listed.iter().filter_map(|file| {
        let digits = file.name.strip_prefix(NAME_START).filter(|digits| digits.len() == 20)?;
        digits.parse().ok().map(PhysicalOffset)
    });
    let mut positions: Vec<_> = positions.collect();
    positions.sort_unstable();
    Ok(positions)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::files::RealFiles;

    fn write_some(dir: &Path, positions: &[u64]) {
        for position in positions {
            let state = format!("state at {position}");
            write(&RealFiles, dir, PhysicalOffset(*position), state.as_bytes()).unwrap();
        }
    }

    fn path(dir: &Path, position: u64) -> std::path::PathBuf {
        dir.join(file_name(PhysicalOffset(position)))
    }

    #[test]
    fn the_newest_is_loaded_and_one_before_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(&RealFiles, dir.path()).unwrap(), None);
        write_some(dir.path(), &[64, 640, 6400]);
        let loaded = load(&RealFiles, dir.path()).unwrap().unwrap();
        assert_eq!(loaded.position, PhysicalOffset(6400));
        assert_eq!(loaded.state, "state at 6400");
        assert_eq!(stored(&RealFiles, dir.path()).unwrap(), [640, 6400].map(PhysicalOffset));
    }

    #[test]
    fn what_a_crash_while_writing_leaves_is_ignored_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        write_some(dir.path(), &[64]);
        let unfinished = format!("{}.tmp", file_name(PhysicalOffset(128)));
        fs::write(dir.path().join(unfinished), "RMQ").unwrap();
        fs::write(dir.path().join("somebody-else's.tmp"), "").unwrap();
        assert_eq!(load(&RealFiles, dir.path()).unwrap().unwrap().position, PhysicalOffset(64));
        remove_unfinished(&RealFiles, dir.path()).unwrap();
        let left: Vec<_> =
            RealFiles.list(dir.path()).unwrap().into_iter().map(|file| file.name).collect();
        assert_eq!(left, [&file_name(PhysicalOffset(64)), "somebody-else's.tmp"]);
    }

    #[test]
    fn damage_falls_back_to_the_one_before_and_then_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        write_some(dir.path(), &[64, 640]);
        let whole = fs::read(path(dir.path(), 640)).unwrap();
        for flaw in 0..whole.len() * 8 {
            let mut flawed = whole.clone();
            flawed[flaw / 8] ^= 1 << (flaw % 8);
            fs::write(path(dir.path(), 640), &flawed).unwrap();
            let loaded = load(&RealFiles, dir.path()).unwrap().unwrap();
            assert_eq!(loaded.position, PhysicalOffset(64), "bit {flaw}");
        }
        fs::write(path(dir.path(), 640), &whole[..20]).unwrap();
        fs::write(path(dir.path(), 64), b"").unwrap();
        let error = load(&RealFiles, dir.path()).unwrap_err().to_string();
        assert!(error.contains("640 is damaged") && error.contains("restore a backup"), "{error}");
    }
}
