//! Typed headers: the fields of one request or answer, read from and written to `extFields`.
//!
//! Fields that are unknown or not needed (`bname`, `ns`, `lo`, credentials, …) are ignored. A
//! required field that is missing, or any field that does not parse, is a [`FieldError`] that
//! names it. Every header has `parse` and `write`; requests also `request`, which makes a
//! command of them, answers `answer`. Send and pull, which are read a hundred thousand times a
//! second, are written by hand and borrow from the command.

pub mod admin;
pub mod client;
mod field;
pub mod group;
pub mod namesrv;
pub mod offset;
pub mod pop;
pub mod pull;
pub mod query;
pub mod route;
pub mod send;
pub mod topic;
pub mod transaction;

pub use super::ext_fields::FieldError;
use field::{answer_header, request_header};
