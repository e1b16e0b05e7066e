//! One member's disk: the CommitLog, which is also the Raft log, and what is derived from it.
//!
//! No runtime and no consensus here: files, positions, threads of its own for syncs and for work
//! that must not be in the way of an append.

pub mod checkpoint;
pub mod commit_log;
pub mod disk_space;
pub mod entry;
pub mod error;
pub mod files;
pub mod flush;
pub mod mmap;
mod prepare;
mod purge_point;
pub mod query;
pub mod queues;
pub mod read;
pub mod recovery;
pub mod repair;
pub mod reserve;
pub mod retention;
pub mod scrub;
mod segment;
#[cfg(test)]
pub mod simulated_disk;
pub mod start_over;
pub mod store_file;
pub mod threads;
pub mod vote_file;

pub use commit_log::{Body, CommitLog, LogOptions, ReplayFrom};
pub use entry::{EntryId, ReceivedEntry, StoredEntry};
pub use error::Error;
pub use files::{Files, RealFiles};
pub use flush::{Durability, SyncDone};
pub use mmap::MappedBytes;
pub use reserve::Reserve;
pub use store_file::{Identity, Lineage, Opening, PreviousLife, StoreFile, StoreLock, Unfinished};
pub use vote_file::{Vote, VoteFile};
