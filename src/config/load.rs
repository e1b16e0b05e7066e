//! From text to a checked configuration. Pure; the files are read by `cli`.

use std::collections::BTreeMap;

use crate::config::{
    BrokerConfig, NamesrvConfig,
    keys::Server,
    problem::ConfigErrors,
    rules,
    settings::{FileText, Findings, Inputs, Settings},
};

/// A configuration, and what is worth saying about it at start.
#[derive(Debug, Clone)]
pub struct Loaded<C> {
    /// The configuration.
    pub config: C,
    /// Lines for the log: what has no effect, what was understood differently from Java.
    pub notices: Vec<String>,
    /// What is wrong and tolerated (`configStrict=warn`): lines for the log, as warnings.
    pub warnings: Vec<String>,
}

/// A broker's configuration, or everything that is wrong with it.
pub fn broker(
    file: Option<&FileText>,
    inputs: &Inputs,
) -> Result<Loaded<BrokerConfig>, ConfigErrors> {
    let (mut settings, mut findings) = Settings::read(Server::Broker, file, inputs);
    rules::complete_broker(&mut settings, inputs, &mut findings);
    finish(settings, findings, BrokerConfig::of)
}

/// A name server's configuration, or everything that is wrong with it.
pub fn namesrv(
    file: Option<&FileText>,
    inputs: &Inputs,
) -> Result<Loaded<NamesrvConfig>, ConfigErrors> {
    let (mut settings, mut findings) = Settings::read(Server::Namesrv, file, inputs);
    rules::complete_namesrv(&mut settings, inputs, &mut findings);
    finish(settings, findings, NamesrvConfig::of)
}

/// Applies what was changed over the network in former lives, and says so: it wins over the file
/// that the operator looks at. `from` is where it is kept.
pub fn with_changes(
    mut loaded: Loaded<NamesrvConfig>,
    kept: &BTreeMap<String, String>,
    from: &str,
) -> Loaded<NamesrvConfig> {
    let pairs = kept.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    loaded.config = loaded.config.with_kept(pairs);
    let applied = loaded.config.settings.changed();
    let (honoured, left_out): (Vec<_>, Vec<_>) =
        kept.iter().partition(|(key, _)| applied.contains_key(*key));
    let list = |pairs: Vec<(&String, &String)>| {
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(", ")
    };
    if !honoured.is_empty() {
        let pairs = list(honoured);
        loaded.notices.push(format!("{from}: changed while running, wins over the file: {pairs}"));
    }
    if !left_out.is_empty() {
        let pairs = list(left_out);
        loaded.warnings.push(format!("{from}: cannot be changed while running: {pairs}; ignored"));
    }
    loaded
}

fn finish<C>(
    settings: Settings,
    mut findings: Findings,
    of: impl Fn(Settings) -> C,
) -> Result<Loaded<C>, ConfigErrors> {
    let lenient = settings.lenient();
    let (tolerated, wrong): (Vec<_>, Vec<_>) =
        findings.problems.drain(..).partition(|problem| lenient && problem.lenient);
    if !wrong.is_empty() {
        return Err(ConfigErrors::new(wrong));
    }
    Ok(Loaded {
        config: of(settings),
        notices: findings.lines(),
        warnings: tolerated.iter().map(|problem| format!("{problem}; ignored")).collect(),
    })
}
