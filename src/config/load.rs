//! From text to a checked configuration. Pure; the files are read by `cli`.

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
