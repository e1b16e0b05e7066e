//! What hostile bytes must not do, as functions of bytes: they return whatever the bytes are, and
//! panic when a claim about them does not hold. Only in tests and in fuzzing builds.
//!
//! `scripts/fuzz` searches for bytes that break them; the corpus of `tests/corpus`, which is what
//! it found worth keeping, is replayed here with all other tests.

/// Takes any bytes.
pub type Target = fn(&[u8]);

/// Name and function of every target. Each has a folder in `tests/corpus` and a file in `fuzz`.
pub const TARGETS: [(&str, Target); 6] = [
    ("command", crate::protocol::fuzz::command),
    ("message", crate::protocol::fuzz::message),
    ("json", crate::protocol::fuzz::json),
    ("entries", crate::store::recovery::fuzz::entries),
    ("configuration", crate::config::fuzz::configuration),
    ("peer", crate::raft::fuzz::peer),
];

/// Runs the target of this name.
///
/// # Panics
/// When there is none, or when the target does.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    target.unwrap_or_else(|| panic!("there is no target {name}")).1(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    const CORPUS_BYTES_MAX: u64 = 300 * 1024;

    fn names(dir: &str) -> BTreeSet<String> {
        let listed = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)).unwrap();
        listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn the_kept_corpus_breaks_no_target() {
        let mut corpus_bytes = 0;
        for (name, target) in TARGETS {
            let dir = format!("tests/corpus/{name}");
            for file in names(&dir) {
                let bytes = fs::read(Path::new(&dir).join(&file)).unwrap();
                corpus_bytes += bytes.len() as u64;
                // Printed only when it fails: which file did.
                eprintln!("{dir}/{file}");
                target(&bytes);
            }
        }
        assert!(corpus_bytes > 0 && corpus_bytes <= CORPUS_BYTES_MAX, "{corpus_bytes} bytes");
    }

    #[test]
    fn every_target_has_its_corpus_and_its_program() {
        let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names("tests/corpus"), targets);
        let programs = names("fuzz/fuzz_targets");
        assert_eq!(programs, targets.iter().map(|name| format!("{name}.rs")).collect());
    }
}
