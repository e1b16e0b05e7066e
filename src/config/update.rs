//! Changes over the network: UPDATE_BROKER_CONFIG (25) and UPDATE_NAMESRV_CONFIG (318). Pure.
//!
//! Whoever can reach the port can send these. So it is a list of what may change, not of what may
//! not: numbers and switches that the table of keys marks as dynamic. Never a path, an address or
//! a name (CVE-2023-33246 and CVE-2023-37582 were paths). Numbers and switches without effect
//! here are taken and shown too, because admin tools set and read them back.

use std::{collections::BTreeMap, sync::Arc};

use crate::config::{
    BrokerConfig, BrokerPolicy, NamesrvConfig, NamesrvPolicy,
    keys::{Key, Kind, Support, Table},
    problem::{ConfigErrors, Place, Problem},
    properties,
    rules::check_changeable,
    settings::{Findings, Settings, Source, read_value, unknown_key},
};

/// Why a change is refused; nothing has changed then. The texts of the first two are Java's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// Not properties text. Response code 1.
    #[error("string2Properties error")]
    Unreadable,
    /// A key that is never changed over the network. Response code 16.
    #[error("Can not update config in black list.")]
    BlackListed {
        /// Which.
        key: String,
    },
    /// A key that cannot be changed while running, or a bad value.
    #[error("{0}")]
    Refused(ConfigErrors),
}

/// Longest value that is taken over the network, in bytes: changes are kept, and read at each start.
const VALUE_BYTES_MAX: usize = 1024;

/// Longest request, in bytes: ten times the text of all settings.
const TEXT_BYTES_MAX: usize = 512 * 1024;
/// Wrong lines after which the rest is not looked at: each is compared with every key there is, to
/// say which was meant.
const PROBLEMS_MAX: usize = 16;

/// An accepted change.
#[derive(Debug, Clone)]
pub struct Update<C> {
    /// Key (as it is spelled now) → value.
    pub changed: BTreeMap<String, String>,
    /// The configuration afterwards.
    pub config: C,
}

impl BrokerConfig {
    /// The configuration as a request of an administrator changes it, all or nothing.
    pub fn updated(&self, text: &str) -> Result<Update<Self>, UpdateError> {
        let (changed, settings) = update(&self.settings, text, check_changeable)?;
        Ok(Update { changed, config: self.with_settings(settings) })
    }

    /// The configuration with changes that the group keeps. What cannot be read (any more) is
    /// left out: an older or newer release may have accepted it.
    pub fn with_kept<'a>(&self, kept: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        self.with_settings(with_kept(&self.settings, kept, check_changeable))
    }

    fn with_settings(&self, settings: Settings) -> Self {
        let policy = Arc::new(BrokerPolicy::of(&settings));
        Self { policy, settings, ..self.clone() }
    }
}

impl NamesrvConfig {
    /// The configuration as a request of an administrator changes it, all or nothing.
    pub fn updated(&self, text: &str) -> Result<Update<Self>, UpdateError> {
        let (changed, settings) = update(&self.settings, text, |_, _| {})?;
        Ok(Update { changed, config: self.with_settings(settings) })
    }

    /// The configuration with changes that the name server keeps. What cannot be read (any more)
    /// is left out.
    pub fn with_kept<'a>(&self, kept: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        self.with_settings(with_kept(&self.settings, kept, |_, _| {}))
    }

    fn with_settings(&self, settings: Settings) -> Self {
        let policy = Arc::new(NamesrvPolicy::of(&settings));
        Self { policy, settings, ..self.clone() }
    }
}

fn with_kept<'a>(
    settings: &Settings,
    kept: impl IntoIterator<Item = (&'a str, &'a str)>,
    check: impl Fn(&mut Settings, &mut Findings),
) -> Settings {
    let mut settings = settings.clone();
    for (key, value) in kept {
        let (mut changed, mut findings) = (settings.clone(), Findings::default());
        if change(&mut changed, key, value).is_err() {
            continue;
        }
        check(&mut changed, &mut findings);
        if findings.problems.is_empty() {
            settings = changed;
        }
    }
    settings
}

fn update(
    current: &Settings,
    text: &str,
    check: impl Fn(&mut Settings, &mut Findings),
) -> Result<(BTreeMap<String, String>, Settings), UpdateError> {
    if text.len() > TEXT_BYTES_MAX {
        let what = format!("{} bytes are too many, {TEXT_BYTES_MAX} are allowed", text.len());
        return Err(UpdateError::Refused(ConfigErrors::new(vec![problem("", what)])));
    }
    let (pairs, malformed) = properties::parse(text);
    if !malformed.is_empty() {
        return Err(UpdateError::Unreadable);
    }
    if let Some(pair) = pairs.iter().find(|pair| black_listed(current, &pair.key)) {
        return Err(UpdateError::BlackListed { key: pair.key.clone() });
    }
    let (mut settings, mut findings) = (current.clone(), Findings::default());
    let mut changed = BTreeMap::new();
    for pair in &pairs {
        match change(&mut settings, &pair.key, &pair.value) {
            Ok((key, value)) => {
                changed.insert(key.to_owned(), value);
            }
            Err(what) => findings.problems.push(problem(&pair.key, what)),
        }
        if findings.problems.len() >= PROBLEMS_MAX {
            break;
        }
    }
    check(&mut settings, &mut findings);
    if findings.problems.is_empty() {
        return Ok((changed, settings));
    }
    Err(UpdateError::Refused(ConfigErrors::new(findings.problems)))
}

fn problem(key: &str, what: String) -> Problem {
    Problem { place: Place::Request, key: key.to_owned(), what, lenient: false }
}

fn black_listed(settings: &Settings, key: &str) -> bool {
    const ALWAYS: [&str; 4] =
        ["configBlackList", "brokerConfigPath", "configStorePath", "kvConfigPath"];
    let listed = settings.text("configBlackList").unwrap_or_default();
    ALWAYS.contains(&key) || listed.split(';').any(|name| name.trim() == key)
}

/// Changes one key, if it may be changed.
fn change(
    settings: &mut Settings,
    name: &str,
    text: &str,
) -> Result<(&'static str, String), String> {
    let server = settings.server();
    let Some(key) = Table::of(server).find(name) else {
        return Err(unknown_key(server, name));
    };
    if let Some(reason) = why_fixed(key) {
        return Err(reason);
    }
    if text.len() > VALUE_BYTES_MAX {
        return Err(format!("a value of {} bytes is too long", text.len()));
    }
    let value = read_value(key, text, server)?;
    let text = value.to_string();
    settings.set(key.name, value, Source::Changed);
    Ok((key.name, text))
}

/// Why a key cannot be changed while the server runs, unless it can.
fn why_fixed(key: &Key) -> Option<String> {
    if key.name == "productEnvName" {
        return None; // a label without effect, which admin tools set and read back
    }
    match (key.support, key.kind) {
        (Support::Dynamic, _) | (Support::NoEffect(_), Kind::Bool | Kind::Int { .. }) => None,
        (Support::Used | Support::Fixed(_), _) => {
            Some("is read at start only: change the file and restart".to_owned())
        }
        (Support::NoEffect(reason), _) => Some(format!("has no effect here: {reason}")),
    }
}
