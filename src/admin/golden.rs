//! Java's answers, for tests.

use std::path::PathBuf;

use bytes::{Buf, Bytes};

use crate::protocol::command::RemotingCommand;

/// The answer of the captured exchange `name`.
pub(super) fn answer(name: &str) -> RemotingCommand {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let text = std::fs::read_to_string(dir.join(format!("{name}.json"))).unwrap();
    let vector: serde_json::Value = serde_json::from_str(&text).unwrap();
    let frames = vector["frames"].as_array().unwrap();
    let answer = frames.iter().find(|frame| frame["role"] == "response").unwrap();
    let hex = answer["hex"].as_str().unwrap();
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    let mut frame = Bytes::from(bytes);
    frame.advance(4);
    RemotingCommand::decode(frame).unwrap()
}
