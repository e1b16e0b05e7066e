//! The remoting protocol as pure functions: bytes ↔ types. No sockets, files, clocks.
//!
//! ```text
//! BytesMut ─frame::next─► Bytes ─RemotingCommand::decode─► command ─headers::…::parse─► typed request
//!                                                           command.body ─bodies / message─► types
//! typed answer ─write─► RemotingCommand ─encode─► BytesMut
//! ```
//!
//! Everything that comes in is hostile: decoding returns errors, never panics, and its memory is
//! bounded by the size of the frame. What goes out has the member order of the Java servers, so
//! golden vectors compare byte for byte.

pub mod bodies;
pub mod codes;
pub mod command;
mod decimal;
pub mod ext_fields;
pub mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod header_binary;
mod header_json;
pub mod headers;
mod json_scan;
pub mod lenient_json;
pub mod message;
pub mod names;
mod near;
pub mod perm;
pub mod version;
