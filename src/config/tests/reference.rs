//! `CONFIGURATION.md` is written from the table of keys. `RMQ_WRITE_DOCS=1` writes it anew.

use std::{collections::BTreeMap, env, fmt::Write, fs, path::Path};

use crate::config::keys::{HISTORIC, Key, Kind, Server, Support, Table};

const HEAD: &str = "\
# Configuration

Written from the table of keys (`src/config/keys`) by a test; change it there.

- Files are RocketMQ's properties files. A comment stands on a line of its own. Nothing is expanded
  in values: no `$VARIABLE`, no `~`.
- Unknown and doubled keys, values that cannot be read, comments after values and settings that
  contradict each other stop the start, all at once, each with its line. `configStrict=warn` makes
  warnings of what Java would ignore.
- `-n` wins over the file, the file over the environment's `NAMESRV_ADDR`.
- `-p` prints every key with its effective value and where it comes from, `-m` those that have an
  effect, `--check` validates and exits. Exit codes: 0 done as asked, 1 stopped by an error, 2 wrong
  command line or configuration.
- *Running*: whether `updateBrokerConfig` and `updateNamesrvConfig` change it. Such a change is kept
  and wins over the file: a group keeps it for all its members, a name server for itself, in
  `changedConfig.json` beside `kvConfigPath`. Files of operators are never written.
";

#[test]
fn the_reference_is_written_from_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("CONFIGURATION.md");
    let text = reference();
    if env::var_os("RMQ_WRITE_DOCS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == text, "CONFIGURATION.md is stale: run this test with RMQ_WRITE_DOCS=1");
}

fn reference() -> String {
    let mut text = HEAD.to_owned();
    for (server, title) in [(Server::Broker, "Broker"), (Server::Namesrv, "Name server")] {
        let _ = write!(
            text,
            "\n## {title}\n\n| key | default | values | running | effect |\n|---|---|---|---|---|\n"
        );
        let mut ignored = BTreeMap::<&str, Vec<&str>>::new();
        for key in Table::of(server).iter() {
            match key.support {
                Support::NoEffect(reason) => ignored.entry(reason).or_default().push(key.name),
                _ => row(&mut text, key),
            }
        }
        let _ = write!(text, "\nAccepted without effect, and named at start:\n\n");
        for (reason, keys) in ignored {
            let _ = writeln!(text, "- {reason}: `{}`", keys.join("`, `"));
        }
    }
    let _ = write!(text, "\n## Historic spellings\n\n");
    for (old, new) in HISTORIC {
        let _ = writeln!(text, "- `{old}` is `{new}`");
    }
    text
}

fn row(text: &mut String, key: &Key) {
    let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
    let (running, values, effect) = match key.support {
        Support::Dynamic => ("yes", values(key), key.effect.to_owned()),
        Support::Fixed(why) => ("", format!("{default} only"), format!("{}: {why}", key.effect)),
        Support::Used | Support::NoEffect(_) => ("", values(key), key.effect.to_owned()),
    };
    let effect = effect.replace('|', "\\|");
    let _ = writeln!(text, "| `{}` | {default} | {values} | {running} | {effect} |", key.name);
}

fn values(key: &Key) -> String {
    let shape = match key.kind {
        Kind::Bool => "`true`, `false`".to_owned(),
        Kind::Int { min, max: i64::MAX } => format!("from {min}"),
        Kind::Int { min, max } => format!("{min}–{max}"),
        Kind::OneOf(words) => format!("`{}`", words.join("`, `")),
        Kind::Name | Kind::Member => "name".to_owned(),
        Kind::Host => "host or address".to_owned(),
        Kind::Address => "address".to_owned(),
        Kind::Path => "path".to_owned(),
        Kind::Endpoints => "`host:port;host:port`".to_owned(),
        Kind::Peers => "`n0-host:port;n1-host:port`".to_owned(),
        Kind::Hours => "`04` or `04;16`".to_owned(),
        Kind::LogFilter => "filter".to_owned(),
        Kind::Text => "text".to_owned(),
    };
    let unit = if key.kind == Kind::Hours { "" } else { key.unit };
    if unit.is_empty() { shape } else { format!("{shape} {unit}") }
}
