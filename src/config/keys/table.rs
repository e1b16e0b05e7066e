//! Looking up keys, and guessing what an unknown one was meant to be.

use std::{collections::BTreeMap, sync::LazyLock};

use super::{HISTORIC, Key, Kind, SHARED, Server, Support, broker, java, namesrv};

/// The keys of one server, by name.
#[derive(Debug)]
pub struct Table {
    keys: BTreeMap<&'static str, Key>,
}

static BROKER: LazyLock<Table> =
    LazyLock::new(|| Table::build(broker::KEYS.iter().copied().flatten(), java::BROKER));
static NAMESRV: LazyLock<Table> =
    LazyLock::new(|| Table::build(namesrv::KEYS.iter(), java::NAMESRV));

impl Table {
    /// The keys of a server.
    pub fn of(server: Server) -> &'static Self {
        match server {
            Server::Broker => &BROKER,
            Server::Namesrv => &NAMESRV,
        }
    }

    fn build(own: impl Iterator<Item = &'static Key>, groups: &'static [java::Group]) -> Self {
        let mut keys = BTreeMap::new();
        for key in own.chain(SHARED) {
            let doubled = keys.insert(key.name, key.clone());
            assert!(doubled.is_none(), "{} is in the table twice", key.name);
        }
        for group in groups {
            for item in group.keys.split_whitespace() {
                let (name, default) = item.split_once('=').unwrap_or((item, ""));
                let doubled = keys.insert(name, ignored(name, default, group.reason));
                assert!(doubled.is_none(), "{name} is in the table twice");
            }
        }
        Self { keys }
    }

    /// The key of that name, which may be a historic spelling.
    pub fn find(&self, name: &str) -> Option<&Key> {
        let current = HISTORIC.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| new);
        self.keys.get(current)
    }

    /// All keys, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.values()
    }

    /// The key that an unknown name was probably meant to be.
    pub fn nearest(&self, name: &str) -> Option<&'static str> {
        suggest(name, self.keys.keys().copied())
    }
}

/// A key without effect. Its kind follows from its default.
fn ignored(name: &'static str, default: &'static str, reason: &'static str) -> Key {
    let kind = if matches!(default, "true" | "false") {
        Kind::Bool
    } else if default.parse::<i64>().is_ok_and(|n| n.to_string() == default) {
        Kind::Int { min: i64::MIN, max: i64::MAX }
    } else {
        Kind::Text
    };
    let support = Support::NoEffect(reason);
    Key { name, kind, unit: "", default, effect: "", support }
}

/// The candidate that differs least from what was written: only in case, or in a few letters.
pub fn suggest<'a>(written: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = written.to_ascii_lowercase();
    let limit = (written.chars().count() / 5).clamp(1, 3);
    candidates
        .map(|candidate| (distance(&lower, &candidate.to_ascii_lowercase(), limit + 1), candidate))
        .filter(|(far, _)| *far <= limit)
        .min_by_key(|(far, candidate)| (*far, candidate.len()))
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, remove, replace or swap; `cap` if it is that many or more.
fn distance(a: &str, b: &str, cap: usize) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(128).collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) >= cap {
        return cap;
    }
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(x != y);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before_last[j - 1] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()].min(cap)
}
