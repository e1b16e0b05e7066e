//! One member's disk: the CommitLog, which is also the Raft log, and what is derived from it.
//!
//! No runtime and no consensus here: files, positions, threads of its own for syncs and for work
//! that must not be in the way of an append.

pub mod entry;
pub mod error;
pub mod files;
pub mod mmap;
pub mod queues;

pub use error::Error;
