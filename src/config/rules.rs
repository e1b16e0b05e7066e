//! What must fit together in a broker's settings, and what follows from others. Pure.

use crate::config::{
    address::{Endpoint, Peers},
    problem::Problem,
    settings::{Findings, Inputs, Settings, Source},
    value::{self, Value},
};

/// The member's name in a group of one.
const ONLY_MEMBER: &str = "n0";

/// Where a name server keeps settings that were changed over the network: beside `kvConfigPath`.
pub(super) const CHANGED_CONFIG: &str = "changedConfig.json";

/// Fills in what follows from other settings, and checks what must fit together.
pub(super) fn complete_broker(settings: &mut Settings, inputs: &Inputs, findings: &mut Findings) {
    derive_rocketmq_home(settings, inputs);
    derive_paths(settings, inputs, findings);
    derive_names(settings, inputs, findings);
    let replicated = settings.bool("enableDLegerCommitLog");
    if replicated {
        check_group(settings, findings);
    } else {
        check_single(settings, findings);
    }
    derive_ports(settings);
    check_ports(settings, replicated, findings);
    if !replicated {
        derive_single_member(settings);
    }
    check_timing(settings, findings);
    check_changeable(settings, findings);
    if settings.endpoints("namesrvAddr").is_empty() {
        findings.notices.push(
            "there is no name server (-n, namesrvAddr, NAMESRV_ADDR): this broker is not \
             registered, and clients do not find it"
                .into(),
        );
    }
}

/// The rules that concern settings which may change while the broker runs.
pub(super) fn check_changeable(settings: &mut Settings, findings: &mut Findings) {
    check_sizes(settings, findings);
    check_disk_ratios(settings, findings);
}

/// A contradiction between settings: no strictness makes it harmless.
fn contradiction(settings: &Settings, key: &str, what: String) -> Problem {
    Problem { place: settings.place(key), key: key.to_owned(), what, lenient: false }
}

/// Admin tools show it, and some look for it.
fn derive_rocketmq_home(settings: &mut Settings, inputs: &Inputs) {
    if let (None, Some(home)) = (settings.text("rocketmqHome"), &inputs.rocketmq_home) {
        let home = Value::Text(home.to_string_lossy().into_owned());
        let source = Source::Derived("ROCKETMQ_HOME, or the folder of the program".into());
        settings.set("rocketmqHome", home, source);
    }
}

fn derive_paths(settings: &mut Settings, inputs: &Inputs, findings: &mut Findings) {
    if settings.path("storePathRootDir").is_none() {
        match &inputs.home {
            Some(home) => {
                let root = Value::Path(home.join("store"));
                settings.set("storePathRootDir", root, Source::Derived("$HOME/store".into()));
            }
            None => findings.problems.push(contradiction(
                settings,
                "storePathRootDir",
                "is not set, and the environment has no HOME to put the store under".into(),
            )),
        }
    }
    let names = ["storePathCommitLog", "storePathDLedgerCommitLog"];
    let [log, dledger] = names.map(|name| settings.path(name).cloned());
    if let (Some(log), Some(dledger)) = (&log, &dledger)
        && log != dledger
    {
        let other = settings.quoted("storePathCommitLog");
        let what = format!("there is one log, and {other} puts it elsewhere; keep one of the two");
        findings.problems.push(contradiction(settings, "storePathDLedgerCommitLog", what));
    }
    let root = settings.path("storePathRootDir").cloned();
    let source = Source::Derived("commitlog below storePathRootDir".into());
    match (log, dledger, root) {
        (Some(log), _, Some(root)) | (None, Some(log), Some(root)) if log == root => {
            let what = "is storePathRootDir itself: the log needs a folder of its own".into();
            findings.problems.push(contradiction(settings, "storePathCommitLog", what));
        }
        (None, Some(dledger), _) => {
            let source = Source::Derived("storePathDLedgerCommitLog".into());
            settings.set("storePathCommitLog", Value::Path(dledger), source);
        }
        (None, None, Some(root)) => {
            settings.set("storePathCommitLog", Value::Path(root.join("commitlog")), source);
        }
        _ => {}
    }
}

fn derive_names(settings: &mut Settings, inputs: &Inputs, findings: &mut Findings) {
    let [broker, group] =
        ["brokerName", "dLegerGroup"].map(|n| settings.text(n).map(str::to_owned));
    match (broker, group) {
        (Some(broker), Some(group)) if broker != group => {
            let what = format!(
                "differs from {}: the members of a group share one name, which is both",
                settings.quoted("brokerName")
            );
            findings.problems.push(contradiction(settings, "dLegerGroup", what));
        }
        (None, Some(group)) => {
            settings.set("brokerName", Value::Text(group), Source::Derived("dLegerGroup".into()));
        }
        (None, None) if !settings.bool("enableDLegerCommitLog") => {
            match value::parse(crate::config::keys::Kind::Name, &inputs.host_name) {
                Ok(name) => {
                    settings.set("brokerName", name, Source::Derived("host name".into()));
                }
                Err(error) => {
                    let what = format!("is not set, and the host name cannot be used: {error}");
                    findings.problems.push(contradiction(settings, "brokerName", what));
                }
            }
        }
        (Some(_), _) | (None, None) => {}
    }
}

/// A broker that is not a member of a replicated group.
fn check_single(settings: &Settings, findings: &mut Findings) {
    let mut add = |key: &str, what: String| {
        findings.problems.push(contradiction(settings, key, what));
    };
    for key in ["dLegerPeers", "dLegerSelfId", "dLegerGroup"] {
        if settings.is_written(key) {
            let what = "is set without enableDLegerCommitLog=true: this broker would run alone, \
                        unreplicated; set it, or remove the dLeger keys";
            add(key, what.into());
            break;
        }
    }
    if settings.is_written("preferredLeaderId") {
        let quoted = settings.quoted("preferredLeaderId");
        findings.notices.push(format!(
            "{quoted} has no effect without enableDLegerCommitLog=true: this broker leads alone"
        ));
    }
    let slave_id = settings.int("brokerId") > 0;
    match settings.text("brokerRole") {
        Some("ASYNC_MASTER") if slave_id => add(
            "brokerId",
            format!(
                "contradicts {}: a master has brokerId=0 (Java would start a second master of \
                 the same name, without replication)",
                settings.quoted("brokerRole")
            ),
        ),
        Some("ASYNC_MASTER") => {}
        Some("SLAVE") if !slave_id => add(
            "brokerId",
            "contradicts brokerRole=SLAVE: the id of a slave is 1 or more (and slaves come \
             later: make a replicated group, see conf/dledger)"
                .into(),
        ),
        Some(role) => add(
            "brokerRole",
            format!(
                "{role} needs the master and slave roles, which come later; a replicated group \
                 has equal members: enableDLegerCommitLog=true, dLegerGroup, dLegerPeers, \
                 dLegerSelfId (conf/dledger); a broker on its own is ASYNC_MASTER with brokerId=0"
            ),
        ),
        None => {}
    }
}

/// A member of a replicated group.
fn check_group(settings: &Settings, findings: &mut Findings) {
    let mut add = |key: &str, what: String| {
        findings.problems.push(contradiction(settings, key, what));
    };
    let needed = "is needed with enableDLegerCommitLog=true";
    if settings.text("brokerName").is_none() {
        add("dLegerGroup", format!("{needed}: the group's name, equal on all members"));
    }
    let name = settings.text("dLegerSelfId");
    if name.is_none() {
        add("dLegerSelfId", format!("{needed}: which of dLegerPeers this broker is"));
    }
    let Some(peers) = settings.peers("dLegerPeers") else {
        if !findings.problems.iter().any(|p| p.key == "dLegerPeers") {
            let what = format!("{needed}: all members, as `n0-host:port;n1-host:port`");
            findings.problems.push(contradiction(settings, "dLegerPeers", what));
        }
        return;
    };
    let names: Vec<_> = peers.iter().map(|(name, _)| name).collect();
    if let Some(name) = name
        && peers.get(name).is_none()
    {
        let members = names.join(", ");
        add("dLegerSelfId", format!("{name} is not among the members {members} of dLegerPeers"));
    }
    if let Some(name) = settings.text("preferredLeaderId")
        && peers.get(name).is_none()
    {
        let members = names.join(", ");
        add(
            "preferredLeaderId",
            format!("{name} is not among the members {members} of dLegerPeers"),
        );
    }
    if settings.text("brokerRole") == Some("SLAVE") {
        let what = "contradicts enableDLegerCommitLog=true: members elect who leads; remove it";
        add("brokerRole", what.into());
    }
    for key in ["brokerRole", "brokerId", "haListenPort"] {
        if settings.is_written(key) {
            let quoted = settings.quoted(key);
            findings.notices.push(format!(
                "{quoted} has no effect with enableDLegerCommitLog=true: members elect who leads"
            ));
        }
    }
    if peers.len() % 2 == 0 {
        findings.notices.push(format!(
            "{} members tolerate the loss of {}, as {} would: use an odd number",
            peers.len(),
            peers.len() / 2 - 1,
            peers.len() - 1
        ));
    }
}

fn derive_ports(settings: &mut Settings) {
    if !settings.is_written("haListenPort") {
        let port = settings.int("listenPort") + 1;
        settings.set("haListenPort", Value::Int(port), Source::Derived("listenPort + 1".into()));
    }
}

fn check_ports(settings: &Settings, replicated: bool, findings: &mut Findings) {
    let listen = settings.int("listenPort");
    let (key, port) = if replicated {
        let own = settings.text("dLegerSelfId").zip(settings.peers("dLegerPeers"));
        let Some(own) = own.and_then(|(name, peers)| peers.get(name)) else { return };
        ("dLegerPeers", i64::from(own.port))
    } else {
        ("haListenPort", settings.int("haListenPort"))
    };
    if port == listen || port == listen - 2 {
        let which = if port == listen { "" } else { "the VIP port of " };
        let what = format!(
            "port {port} for peers is {which}{} too; choose another",
            settings.quoted("listenPort")
        );
        findings.problems.push(contradiction(settings, key, what));
    }
}

/// A group of one has one member, reached (once it grows) at `haListenPort`.
fn derive_single_member(settings: &mut Settings) {
    let port = u16::try_from(settings.int("haListenPort")).unwrap_or(u16::MAX);
    let address = Endpoint { host: "127.0.0.1".into(), port };
    let source = || Source::Derived("group of one".into());
    settings.set("dLegerPeers", Value::Peers(Peers::single(ONLY_MEMBER, address)), source());
    settings.set("dLegerSelfId", Value::Text(ONLY_MEMBER.into()), source());
}

fn check_timing(settings: &Settings, findings: &mut Findings) {
    let [election, heartbeat] =
        ["electionTimeoutMs", "heartbeatIntervalMs"].map(|name| settings.int(name));
    if heartbeat * 3 > election {
        let what = format!(
            "must be at most a third of electionTimeoutMs={election}: one lost heartbeat is no \
             reason for an election"
        );
        findings.problems.push(contradiction(settings, "heartbeatIntervalMs", what));
    }
}

fn check_sizes(settings: &Settings, findings: &mut Findings) {
    let [segment, message] =
        ["mappedFileSizeCommitLog", "maxMessageSize"].map(|name| settings.int(name));
    if segment % 4096 != 0 {
        let what = format!("{segment} is not a multiple of 4096; {} is", segment / 4096 * 4096);
        findings.problems.push(contradiction(settings, "mappedFileSizeCommitLog", what));
    }
    const PROPERTIES_BYTES: i64 = 64 * 1024;
    if segment < 2 * (message + PROPERTIES_BYTES) {
        let what = format!(
            "{segment} bytes is too small for messages of {}: an entry does not straddle \
             segments; at least {} bytes",
            settings.quoted("maxMessageSize"),
            (2 * (message + PROPERTIES_BYTES) + 4095) / 4096 * 4096
        );
        findings.problems.push(contradiction(settings, "mappedFileSizeCommitLog", what));
    }
}

/// The three ratios are stages. One that is left at its default gives way.
fn check_disk_ratios(settings: &mut Settings, findings: &mut Findings) {
    const STAGES: [&str; 3] =
        ["diskMaxUsedSpaceRatio", "diskSpaceCleanForciblyRatio", "diskSpaceWarningLevelRatio"];
    for pair in STAGES.windows(2) {
        let [lower, upper] = [pair[0], pair[1]];
        let floor = settings.int(lower);
        if settings.int(upper) >= floor {
            continue;
        }
        if settings.is_written(upper) {
            let what = format!("is below {}", settings.quoted(lower));
            findings.problems.push(contradiction(settings, upper, what));
        } else {
            settings.set(upper, Value::Int(floor), Source::Derived(format!("not below {lower}")));
        }
    }
}

/// Fills in what follows from other settings of a name server.
pub(super) fn complete_namesrv(settings: &mut Settings, inputs: &Inputs, findings: &mut Findings) {
    derive_rocketmq_home(settings, inputs);
    if settings.path("kvConfigPath").is_none() {
        match &inputs.home {
            Some(home) => {
                let path = Value::Path(home.join("namesrv").join("kvConfig.json"));
                let source = Source::Derived("$HOME/namesrv/kvConfig.json".into());
                settings.set("kvConfigPath", path, source);
            }
            None => findings.problems.push(contradiction(
                settings,
                "kvConfigPath",
                "is not set, and the environment has no HOME to put it under".into(),
            )),
        }
    }
    // Always there, whatever is written: a file of the operator's must not be written to.
    if let (None, Some(kv)) = (settings.path("configStorePath"), settings.path("kvConfigPath")) {
        let path = Value::Path(kv.with_file_name(CHANGED_CONFIG));
        let source = Source::Derived("beside kvConfigPath".into());
        settings.set("configStorePath", path, source);
    }
}
