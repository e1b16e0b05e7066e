//! Command lines of the two servers, spelled as `mqbroker` and `mqnamesrv` spell them.
//!
//! Exit codes: 0 done as asked, 1 stopped by an error while running, 2 the command line or the
//! configuration is wrong, 3 a broker's `--recover-alone` waits for its confirmation.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, LazyLock},
};

use clap::{Args, Parser};

use crate::config::{
    BrokerConfig, ConfigErrors, Loaded, NamesrvConfig,
    advertise::gather,
    keys::Support,
    load,
    problem::{Place, Problem},
    properties,
    settings::{FileText, Inputs, Settings, Source},
};

/// Exit code for a wrong command line or configuration; clap uses the same.
pub const EXIT_CONFIGURATION: u8 = 2;

/// A configuration file has a few hundred lines; a larger one is the wrong file.
const FILE_BYTES_MAX: u64 = 1 << 20;

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let commit = option_env!("RMQ_COMMIT").map(|commit| format!(" ({commit})"));
    format!("{}{}", env!("CARGO_PKG_VERSION"), commit.unwrap_or_default())
});

/// Version, and the commit if the build was told (`RMQ_COMMIT`).
pub fn version() -> &'static str {
    &VERSION
}

/// Exit code of `--recover-alone` without a confirmation: nothing was changed, and it can go on.
pub const EXIT_UNCONFIRMED: u8 = 3;

const BROKER_EXIT_CODES: &str = "Exit codes: 0 done as asked, 1 stopped by an error or refused, 2 \
                                 wrong command line or configuration, 3 --recover-alone waits for \
                                 its confirmation.";
const EXIT_CODES: &str = "Exit codes: 0 done as asked, 1 stopped by an error, 2 wrong command \
                          line or configuration.";

/// `rmq-broker`.
#[derive(Debug, Clone, Default, Parser)]
#[command(
    name = "rmq-broker",
    version = version(),
    about = "A broker: alone, or a member of a replicated group (enableDLegerCommitLog)",
    after_help = BROKER_EXIT_CODES
)]
pub struct BrokerArgs {
    /// Flags of both servers.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Name servers, `host:port;host:port`; wins over the file and over NAMESRV_ADDR
    #[arg(short = 'n', long = "namesrvAddr", value_name = "ADDRESSES")]
    pub name_servers: Option<String>,
    /// The last resort when a majority is lost for good: says what starting the group anew with
    /// this member alone would lose, and with the confirmation that it prints does so, and exits
    #[arg(
        long = "recover-alone",
        value_name = "CONFIRMATION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    pub recover_alone: Option<String>,
}

/// `rmq-namesrv`.
#[derive(Debug, Clone, Default, Parser)]
#[command(
    name = "rmq-namesrv",
    version = version(),
    about = "A name server: who leads which broker group, and which topics it has",
    after_help = EXIT_CODES
)]
pub struct NamesrvArgs {
    /// Flags of both servers.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Accepted for mqnamesrv's sake, without effect
    #[arg(short = 'n', long = "namesrvAddr", value_name = "ADDRESSES", hide = true)]
    pub name_servers: Option<String>,
}

/// Flags of both servers.
#[derive(Debug, Clone, Default, Args)]
pub struct CommonArgs {
    /// Configuration file, in RocketMQ's properties format
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Print every setting with its effective value and where it comes from, and exit
    #[arg(short = 'p', long = "printConfigItem")]
    pub print: bool,
    /// The same, only settings that have an effect
    #[arg(short = 'm', long = "printImportantConfig")]
    pub print_important: bool,
    /// Validate the configuration and exit
    #[arg(long)]
    pub check: bool,
}

impl CommonArgs {
    /// Whether nothing is to be started.
    fn looks_only(&self) -> bool {
        self.check || self.print || self.print_important
    }
}

/// What to do after the command line has been read.
#[derive(Debug)]
pub enum Prepared<C> {
    /// Start with this.
    Run(Box<Loaded<C>>),
    /// All that was asked for is done, or nothing can be done.
    Exit(ExitCode),
}

/// Reads the broker's configuration.
pub fn load_broker(args: &BrokerArgs) -> Result<Loaded<BrokerConfig>, ConfigErrors> {
    let file = read_file(args.common.config_file.as_deref())?;
    load::broker(file.as_ref(), &inputs(args.name_servers.clone()))
}

/// Reads the name server's configuration.
pub fn load_namesrv(args: &NamesrvArgs) -> Result<Loaded<NamesrvConfig>, ConfigErrors> {
    let file = read_file(args.common.config_file.as_deref())?;
    let loaded = load::namesrv(file.as_ref(), &inputs(None))?;
    let changes = loaded.config.changes.clone();
    let kept = read_changes(&changes)?;
    Ok(load::with_changes(loaded, &kept, &changes.to_string_lossy()))
}

/// Settings that were changed over the network in former lives, as `namesrv::start` keeps them.
fn read_changes(path: &Path) -> Result<BTreeMap<String, String>, ConfigErrors> {
    let unreadable = |what: String| {
        let place = Place::File { name: path.to_string_lossy().into(), line: None };
        ConfigErrors(vec![Problem { place, key: String::new(), what, lenient: false }])
    };
    use io::ErrorKind::{NotADirectory, NotFound};
    match read_limited(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            unreadable(format!("is damaged: {error}; mend it, or remove it and what it changes"))
        }),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(BTreeMap::new()),
        Err(error) => Err(unreadable(format!("cannot be read: {error}"))),
    }
}

/// Reads the broker's configuration and does what `-p`, `-m` and `--check` ask for. Errors are on
/// standard error, one line each.
pub fn prepare_broker(args: &BrokerArgs) -> Prepared<BrokerConfig> {
    let mut unclear = None;
    let loaded = load_broker(args).map(|mut loaded| {
        if args.common.looks_only() {
            unclear = loaded.config.advertise(&gather(&loaded.config)).err();
        }
        loaded
    });
    match unclear {
        Some(error) => exit(&mut io::stderr(), &error.to_string(), EXIT_CONFIGURATION),
        None => prepare(&args.common, loaded, |config| &config.settings),
    }
}

/// Like [`prepare_broker`], for the name server.
pub fn prepare_namesrv(args: &NamesrvArgs) -> Prepared<NamesrvConfig> {
    prepare(&args.common, load_namesrv(args), |config| &config.settings)
}

fn prepare<C>(
    args: &CommonArgs,
    loaded: Result<Loaded<C>, ConfigErrors>,
    settings: impl Fn(&C) -> &Settings,
) -> Prepared<C> {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(errors) => return exit(&mut io::stderr(), &errors.to_string(), EXIT_CONFIGURATION),
    };
    if args.check {
        let mut lines = loaded.warnings;
        lines.extend(loaded.notices);
        lines.push("configuration is good".to_owned());
        return exit(&mut io::stdout(), &lines.join("\n"), 0);
    }
    if args.print || args.print_important {
        return exit(&mut io::stdout(), &listing(settings(&loaded.config), args.print), 0);
    }
    Prepared::Run(Box::new(loaded))
}

/// A reader that has gone away (`| head`) is no error.
fn exit<C>(out: &mut impl Write, text: &str, code: u8) -> Prepared<C> {
    let _ = writeln!(out, "{}", text.trim_end());
    Prepared::Exit(ExitCode::from(code))
}

/// Key, value and source as an aligned table.
pub fn listing(settings: &Settings, all: bool) -> String {
    let rows: Vec<[String; 3]> = settings
        .iter()
        .filter_map(|(key, value, source)| {
            let from = match key.support {
                Support::NoEffect(_) if !all => return None,
                Support::NoEffect(reason) => format!("{source}; no effect: {reason}"),
                _ => source.to_string(),
            };
            let shown = value.is_empty() && *source == Source::Default;
            Some([key.name.to_owned(), if shown { "-".into() } else { value }, from])
        })
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0).min(48);
    let (key_width, value_width) = (width(0), width(1));
    let line = |[key, value, source]: &[String; 3]| {
        format!("{key:<key_width$}  {value:<value_width$}  {source}\n")
    };
    rows.iter().map(line).collect()
}

/// What is taken from this process's surroundings.
fn inputs(name_servers_flag: Option<String>) -> Inputs {
    Inputs {
        name_servers_flag,
        name_servers_variable: env::var("NAMESRV_ADDR").ok(),
        host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        home: env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from),
        rocketmq_home: env::var_os("ROCKETMQ_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(env::current_exe().ok()?.parent()?.to_owned())),
    }
}

fn read_file(path: Option<&Path>) -> Result<Option<FileText>, ConfigErrors> {
    let Some(path) = path else { return Ok(None) };
    let name: Arc<str> = path.to_string_lossy().into();
    let failed = |what: String| {
        let place = Place::File { name: Arc::clone(&name), line: None };
        ConfigErrors(vec![Problem { place, key: String::new(), what, lenient: false }])
    };
    let bytes = read_limited(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(failed(format!(
            "is larger than {FILE_BYTES_MAX} bytes: no configuration file"
        )));
    }
    Ok(Some(FileText { name, text: properties::decode(&bytes) }))
}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
