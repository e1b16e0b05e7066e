//! Every key with its effective value and where that comes from: file, command line and
//! environment over defaults. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fmt::Write,
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
};

use crate::config::{
    address::{Endpoint, Peers},
    keys::{DASHBOARD, HISTORIC, Key, Kind, Server, Support, Table, is_secret},
    problem::{Place, Problem},
    properties,
    value::{self, Value},
};

/// Where an effective value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The table of keys.
    Default,
    /// It follows from something else, which is named.
    Derived(String),
    /// It was written there.
    Written(Place),
    /// It was changed while the server ran (UPDATE_BROKER_CONFIG, UPDATE_NAMESRV_CONFIG), and is
    /// kept: by the group, by the name server in a file of its own.
    Changed,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Derived(from) => f.write_str(from),
            Self::Written(place) => place.fmt(f),
            Self::Changed => f.write_str("changed while running"),
        }
    }
}

/// One effective value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The value.
    pub value: Value,
    /// Where it comes from.
    pub source: Source,
}

/// What is read besides the file.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// `-n`.
    pub name_servers_flag: Option<String>,
    /// The environment's `NAMESRV_ADDR`.
    pub name_servers_variable: Option<String>,
    /// This machine's name, as the kernel knows it.
    pub host_name: String,
    /// The environment's `HOME`.
    pub home: Option<PathBuf>,
    /// The environment's `ROCKETMQ_HOME`, or the folder of the program.
    pub rocketmq_home: Option<PathBuf>,
}

/// A configuration file as read.
#[derive(Debug, Clone)]
pub struct FileText {
    /// As the operator named it.
    pub name: Arc<str>,
    /// Its text.
    pub text: String,
}

/// The effective value of every key of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    server: Server,
    file: Option<Arc<str>>,
    values: BTreeMap<&'static str, Setting>,
    /// Keys nobody knows, tolerated by `configStrict=warn`; Java shows them too.
    unknown: BTreeMap<String, String>,
    lenient: bool,
}

impl Settings {
    /// Reads a file over the defaults. The problems are all that is wrong with single settings;
    /// what must fit together is checked by whoever uses the settings.
    pub fn read(server: Server, file: Option<&FileText>, inputs: &Inputs) -> (Self, Findings) {
        let mut settings = Self::defaults(server, file.map(|file| Arc::clone(&file.name)));
        let mut findings = Findings::default();
        if let Some(file) = file {
            settings.read_file(file, &mut findings);
        }
        settings.read_name_servers(inputs, &mut findings);
        (settings, findings)
    }

    fn defaults(server: Server, file: Option<Arc<str>>) -> Self {
        let default = |key: &Key| {
            let value = if key.default.is_empty() {
                Value::Unset
            } else {
                value::parse(key.kind, key.default)
                    .unwrap_or_else(|error| panic!("default of {} in the table: {error}", key.name))
            };
            (key.name, Setting { value, source: Source::Default })
        };
        let values = Table::of(server).iter().map(default).collect();
        Self { server, file, values, unknown: BTreeMap::new(), lenient: false }
    }

    fn read_file(&mut self, file: &FileText, findings: &mut Findings) {
        let place = |line| Place::File { name: Arc::clone(&file.name), line: Some(line) };
        let (pairs, malformed) = properties::parse(&file.text);
        findings.problems.extend(malformed.into_iter().map(|m| Problem {
            place: place(m.line),
            key: String::new(),
            what: m.what.to_owned(),
            lenient: false,
        }));
        self.lenient = pairs.iter().any(|p| p.key == "configStrict" && p.value == "warn");
        let mut lines = BTreeMap::<&'static str, (u32, String)>::new();
        for pair in pairs {
            let Some(key) = Table::of(self.server).find(&pair.key) else {
                findings.problem(place(pair.line), &pair.key, unknown_key(self.server, &pair.key));
                self.unknown.insert(pair.key, pair.value);
                continue;
            };
            if let Some((line, spelling)) = lines.insert(key.name, (pair.line, pair.key.clone())) {
                let what = if spelling == pair.key {
                    format!("is set on line {line} already; keep one of the two")
                } else {
                    format!("is another spelling of {spelling}, set on line {line}; keep one")
                };
                findings.problem(place(pair.line), &pair.key, what);
            }
            if key.name != pair.key {
                findings.renamed.push(format!("{} (line {}) is {}", pair.key, pair.line, key.name));
            }
            match read_value(key, &pair.value, self.server) {
                Ok(value) => self.set(key.name, value, Source::Written(place(pair.line))),
                Err(what) => findings.problem(place(pair.line), &pair.key, what),
            }
            if let Support::NoEffect(reason) = key.support {
                findings.without_effect.entry(reason).or_default().insert(key.name);
            }
        }
    }

    fn read_name_servers(&mut self, inputs: &Inputs, findings: &mut Findings) {
        if self.server == Server::Namesrv {
            return;
        }
        let written = self.is_written("namesrvAddr");
        let (text, place) = match (&inputs.name_servers_flag, &inputs.name_servers_variable) {
            (Some(text), _) => (text, Place::CommandLine),
            (None, Some(text)) if !written && !text.trim().is_empty() => (text, Place::Environment),
            _ => return,
        };
        match value::parse(Kind::Endpoints, text.trim()) {
            Ok(value) => self.set("namesrvAddr", value, Source::Written(place)),
            Err(what) => {
                let key = if place == Place::CommandLine { "-n" } else { "NAMESRV_ADDR" };
                findings.problems.push(Problem { place, key: key.into(), what, lenient: false });
            }
        }
    }

    /// The server these settings are for.
    pub fn server(&self) -> Server {
        self.server
    }

    /// Whether `configStrict=warn` is set.
    pub fn lenient(&self) -> bool {
        self.lenient
    }

    /// Replaces a value.
    pub(super) fn set(&mut self, name: &'static str, value: Value, source: Source) {
        self.values.insert(name, Setting { value, source });
    }

    /// A key's effective value.
    pub fn get(&self, name: &str) -> &Setting {
        self.values.get(name).unwrap_or_else(|| panic!("{name} is not in the table of keys"))
    }

    /// Whether somebody gave the key a value, rather than leaving it at its default.
    pub fn is_written(&self, name: &str) -> bool {
        let setting = self.get(name);
        let written = matches!(setting.source, Source::Written(_) | Source::Changed);
        written && setting.value != Value::Unset
    }

    /// Where a key was written, to point at it.
    pub(super) fn place(&self, name: &str) -> Place {
        match (&self.get(name).source, &self.file) {
            (Source::Written(place), _) => place.clone(),
            (Source::Changed, _) => Place::Request,
            (_, Some(file)) => Place::File { name: Arc::clone(file), line: None },
            (_, None) => Place::Missing,
        }
    }

    /// `key=value` as in messages, with the line if it is in the file.
    pub(super) fn quoted(&self, name: &str) -> String {
        let value = &self.get(name).value;
        match self.place(name) {
            Place::File { line: Some(line), .. } => format!("{name}={value} (line {line})"),
            _ => format!("{name}={value}"),
        }
    }

    /// All keys with value and source, by name. Secrets are masked.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, String, &Source)> {
        Table::of(self.server).iter().map(|key| {
            let setting = self.get(key.name);
            (key, shown(key.name, &setting.value.to_string()), &setting.source)
        })
    }

    /// What was changed while the server ran, now or in a former life.
    pub fn changed(&self) -> BTreeMap<String, String> {
        let changed = self.values.iter().filter(|(_, setting)| setting.source == Source::Changed);
        changed.map(|(name, setting)| ((*name).to_owned(), setting.value.to_string())).collect()
    }

    /// The answer to GET_BROKER_CONFIG and GET_NAMESRV_CONFIG: `key=value` lines, sorted.
    pub fn to_properties(&self) -> String {
        let mut lines: BTreeMap<&str, String> = BTreeMap::new();
        for (key, value, source) in self.iter() {
            let java = !key.default.is_empty() || *source != Source::Default;
            if java {
                lines.insert(key.name, value);
            }
        }
        lines.extend(self.unknown.iter().map(|(k, v)| (k.as_str(), shown(k, v))));
        let mut text = String::new();
        for (name, value) in lines {
            let _ = writeln!(text, "{name}={value}");
        }
        text
    }
}

/// Typed reads. The kinds are those of the table: a test reads every key.
impl Settings {
    pub(super) fn bool(&self, name: &str) -> bool {
        match self.get(name).value {
            Value::Bool(value) => value,
            ref other => panic!("{name} is no truth value in the table of keys: {other:?}"),
        }
    }

    pub(super) fn int(&self, name: &str) -> i64 {
        match self.get(name).value {
            Value::Int(value) => value,
            ref other => panic!("{name} is no number in the table of keys: {other:?}"),
        }
    }

    /// A number whose range in the table fits.
    pub(super) fn number<N: TryFrom<i64>>(&self, name: &str) -> N {
        let value = self.int(name);
        N::try_from(value)
            .unwrap_or_else(|_| panic!("the range of {name} in the table of keys is too wide"))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match &self.get(name).value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn path(&self, name: &str) -> Option<&PathBuf> {
        match &self.get(name).value {
            Value::Path(path) => Some(path),
            _ => None,
        }
    }

    pub(super) fn address(&self, name: &str) -> IpAddr {
        match self.get(name).value {
            Value::Address(address) => address,
            ref other => panic!("{name} is no address in the table of keys: {other:?}"),
        }
    }

    pub(super) fn endpoints(&self, name: &str) -> Vec<Endpoint> {
        match &self.get(name).value {
            Value::Endpoints(list) => list.clone(),
            _ => Vec::new(),
        }
    }

    pub(super) fn peers(&self, name: &str) -> Option<&Peers> {
        match &self.get(name).value {
            Value::Peers(peers) => Some(peers),
            _ => None,
        }
    }

    pub(super) fn hours(&self, name: &str) -> Vec<u8> {
        match &self.get(name).value {
            Value::Hours(hours) => hours.clone(),
            _ => Vec::new(),
        }
    }
}

/// What reading found besides values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Historic spellings that were understood.
    pub renamed: Vec<String>,
    /// Keys that were set without effect, by reason.
    pub without_effect: BTreeMap<&'static str, BTreeSet<&'static str>>,
    /// What is worth saying at start.
    pub notices: Vec<String>,
}

impl Findings {
    /// A problem with a single setting: Java would have ignored it.
    fn problem(&mut self, place: Place, key: &str, what: String) {
        self.problems.push(Problem { place, key: key.to_owned(), what, lenient: true });
    }

    /// The lines to log at start.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.notices.clone();
        if !self.renamed.is_empty() {
            lines.push(format!("historic spellings: {}", self.renamed.join(", ")));
        }
        if !self.without_effect.is_empty() {
            let keys: Vec<_> = self.without_effect.values().flatten().copied().collect();
            lines.push(format!("no effect here, see -p for the reasons: {}", keys.join(", ")));
        }
        lines
    }
}

/// Reads the value of a key, from a file or a request.
pub(super) fn read_value(key: &Key, text: &str, server: Server) -> Result<Value, String> {
    if let Some(swallowed) = swallowed_key(text, server) {
        return Err(format!(
            "`{}` contains `{swallowed}=`: a line break is missing before {swallowed}",
            shown(key.name, text)
        ));
    }
    if text.is_empty() && key.default.is_empty() {
        return Ok(Value::Unset);
    }
    let value = value::parse(key.kind, text).map_err(|what| {
        if key.is_secret() { "has a value that cannot be read".to_owned() } else { what }
    })?;
    match key.support {
        Support::Fixed(reason) if value.to_string() != key.default => {
            Err(format!("`{text}` cannot be had: {reason}; set it to {}", key.default))
        }
        _ => Ok(value),
    }
}

/// A key and `=` in the middle of a value: two lines have become one.
fn swallowed_key(text: &str, server: Server) -> Option<&'static str> {
    let table = Table::of(server);
    text.match_indices('=').find_map(|(end, _)| {
        let before = text[..end].trim_end();
        let names = table.iter().map(|key| key.name);
        names.filter(|name| before.ends_with(name)).max_by_key(|name| name.len())
    })
}

/// What to say about a key that is not in the table.
pub(super) fn unknown_key(server: Server, name: &str) -> String {
    if DASHBOARD.contains(&name) {
        return format!("is a key of the dashboard, not of the {}", server.name());
    }
    let other = server.other();
    if Table::of(other).find(name).is_some() {
        return format!("is a key of the {}, not of the {}", other.name(), server.name());
    }
    let historic = HISTORIC.iter().find(|(old, _)| old.eq_ignore_ascii_case(name));
    match historic.map(|(_, new)| *new).or_else(|| Table::of(server).nearest(name)) {
        Some(known) => format!("there is no such key; did you mean {known}?"),
        None => "there is no such key".to_owned(),
    }
}

fn shown(name: &str, value: &str) -> String {
    if is_secret(name) && !value.is_empty() { "***".to_owned() } else { value.to_owned() }
}
