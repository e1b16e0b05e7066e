//! The command line: mqadmin's commands and flags, spelled as mqadmin spells them.
//!
//! Names of commands are read in any case. Two flags belong to every command: `-n` (name servers)
//! and `-o`/`--output`. Some commands of mqadmin have a `-o` of their own (`updateTopic -o` is
//! "ordered"): there `-o` keeps mqadmin's meaning, and the output is chosen with `--output`, or
//! with `-o` *before* the command's name.

use std::ffi::OsString;

use clap::{
    Arg, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
    error::{ContextKind, ContextValue},
    value_parser,
};

use super::{
    commands::{
        broker, cluster, connection, consumer, doctor, drill, failover, from_file, group, leader,
        member, message, namesrv, offset, pull, query, stats, topic,
    },
    help,
    output::Format,
};

/// Where a name server is if nobody says: as for the other programs.
pub(super) const DEFAULT_NAME_SERVER: &str = "127.0.0.1:9876";

/// Ids of the flags that every command has.
const NAME_SERVERS: &str = "shared-name-servers";
const OUTPUT: &str = "shared-output";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "rmq-admin", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What is to be done. In mqadmin's order; the texts are what `rmq-admin help` shows.
#[derive(Debug, Subcommand)]
#[command(rename_all = "camelCase")]
pub(super) enum Command {
    /// Create or change a topic
    UpdateTopic(topic::UpdateTopic),
    /// Create or change the topics that a file lists
    UpdateTopicList(from_file::FromFile),
    /// Delete a topic from brokers and name servers
    DeleteTopic(topic::DeleteTopic),
    /// Create or change a consumer group
    UpdateSubGroup(group::UpdateSubGroup),
    /// Create or change the consumer groups that a file lists
    UpdateSubGroupList(from_file::FromFile),
    /// Delete a consumer group
    DeleteSubGroup(group::DeleteSubGroup),
    /// Change a setting of brokers
    UpdateBrokerConfig(broker::UpdateBrokerConfig),
    /// Change the permission of a topic
    UpdateTopicPerm(topic::UpdateTopicPerm),
    /// Show where a topic's queues are
    TopicRoute(topic::TopicRoute),
    /// Show the bounds of a topic's queues
    TopicStatus(topic::TopicStatus),
    /// List the clusters that have a topic
    TopicClusterList(topic::TopicClusterList),
    /// Show the figures of brokers
    BrokerStatus(broker::BrokerStatus),
    /// Show a message by its offset message id
    QueryMsgById(query::ById),
    /// List messages by one of their keys
    QueryMsgByKey(query::ByKey),
    /// Show a message by the id that its producer gave it
    QueryMsgByUniqueKey(query::ByUniqueKey),
    /// Show the message at an offset of a queue
    QueryMsgByOffset(query::ByOffset),
    /// Show the members of a producer group
    ProducerConnection(connection::ProducerConnections),
    /// Show the members of a consumer group and what they subscribe to
    ConsumerConnection(connection::ConsumerConnections),
    /// Show how far consumer groups have got
    ConsumerProgress(consumer::ConsumerProgress),
    /// Show what the consumer groups of a broker have before them
    BrokerConsumeStats(consumer::of_broker::BrokerConsumeStats),
    /// Copy the offsets of a consumer group to another
    CloneGroupOffset(offset::CloneOffset),
    /// Show all producers that are connected to a broker
    Producer(connection::AllProducers),
    /// List clusters, broker groups and their members
    ClusterList(cluster::ClusterList),
    /// List the topics that name servers know
    TopicList(topic::TopicList),
    /// Set a value in the name servers' table
    UpdateKvConfig(namesrv::UpdateKvConfig),
    /// Remove a value from the name servers' table
    DeleteKvConfig(namesrv::DeleteKvConfig),
    /// Take the write permission from all topics of a broker group
    WipeWritePerm(namesrv::WritePerm),
    /// Give the write permission to all topics of a broker group
    AddWritePerm(namesrv::WritePerm),
    /// Move the offsets of a consumer group to a time
    ResetOffsetByTime(offset::ResetOffsetByTime),
    /// Move the offsets of a consumer group to the end
    SkipAccumulatedMessage(offset::SkipAccumulated),
    /// Show, set or remove the order configuration of a topic
    UpdateOrderConf(topic::UpdateOrderConf),
    /// Make brokers remove what is left over in ConsumeQueues
    #[command(name = "cleanExpiredCQ")]
    CleanExpiredCq(broker::Clean),
    /// Make brokers delete the parts of the CommitLog whose time is over
    DeleteExpiredCommitLog(broker::Clean),
    /// Make brokers remove the queues of topics that do not exist
    CleanUnusedTopic(broker::Clean),
    /// Show rates and backlogs by topic and consumer group
    StatsAll(stats::StatsAll),
    /// Show the settings of name servers
    GetNamesrvConfig(namesrv::GetNamesrvConfig),
    /// Change a setting of name servers
    UpdateNamesrvConfig(namesrv::UpdateNamesrvConfig),
    /// Show the settings of brokers
    GetBrokerConfig(broker::GetBrokerConfig),
    /// Show the settings of a consumer group
    GetConsumerConfig(group::GetConsumerConfig),
    /// Show units of a ConsumeQueue
    QueryCq(query::QueryCq),
    /// Send a message
    SendMessage(message::SendMessage),
    /// Show messages of a topic
    ConsumeMessage(pull::ConsumeMessage),
    /// Hand leadership of a broker group to another member (not in mqadmin)
    LeaderTransfer(leader::LeaderTransfer),
    /// Show what the last changes of the leader were made of (not in mqadmin)
    Failover(failover::Failover),
    /// Change a leader under a small load, and say what clients felt (not in mqadmin)
    Drill(drill::Drill),
    /// Say what is wrong with a broker group, and what to do (not in mqadmin)
    Doctor(doctor::Doctor),
    /// List the members of a broker group and how far they are (not in mqadmin)
    MemberList(member::MemberList),
    /// Take a member into a broker group (not in mqadmin)
    MemberAdd(member::MemberAdd),
    /// Remove a member from a broker group (not in mqadmin)
    MemberRemove(member::MemberRemove),
    /// Put a new member in the place of another one (not in mqadmin)
    MemberReplace(member::MemberReplace),
    /// Give a member of a broker group a vote, or take it (not in mqadmin)
    MemberRole(member::MemberRole),
}

/// What the command line asks for.
#[derive(Debug)]
pub(super) enum Parsed {
    /// A command.
    Run(Box<Invocation>),
    /// Text, and nothing else.
    Print {
        /// The text.
        text: String,
        /// Exit code; text of failures goes to standard error.
        code: u8,
    },
}

/// A command and what belongs to all of them.
#[derive(Debug)]
pub(super) struct Invocation {
    pub(super) command: Command,
    /// Those that were named; none: the default one.
    pub(super) name_servers: Vec<String>,
    pub(super) format: Format,
}

/// Reads a command line: the program's name, then its words. `variable` is NAMESRV_ADDR.
pub(super) fn parse(words: Vec<OsString>, variable: Option<String>) -> Parsed {
    let mut command = definition();
    let words = match spelled(words, &command) {
        Spelled::Words(words) => words,
        Spelled::Help(topic) => return help::page(&command, topic.as_deref()),
        Spelled::Unknown(name) => {
            return Parsed::Print { text: help::unknown_command(&command, &name), code: 2 };
        }
    };
    let parsed = command.try_get_matches_from_mut(words).and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        Ok((cli.command, matches))
    });
    let parsed = parsed.map_err(|error| with_hint(error, &command));
    match parsed {
        Ok((command, matches)) => Parsed::Run(Box::new(Invocation {
            command,
            name_servers: name_servers(shared(&matches, NAME_SERVERS), variable),
            format: shared(&matches, OUTPUT).unwrap_or_default(),
        })),
        Err(error) => Parsed::Print {
            text: error.render().to_string(),
            code: u8::from(error.use_stderr()) * 2,
        },
    }
}

/// The commands with the flags that all of them have, and help as mqadmin's.
fn definition() -> clap::Command {
    let command = with_shared(Cli::command());
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |sub| {
            // No flag is a digit, so `-4` is a value: whether it may be one is for its flag to say.
            let sub = with_shared(sub).mut_args(|arg| {
                let has_value = arg.get_action().takes_values();
                arg.allow_negative_numbers(has_value)
            });
            let text = help::of_command(&sub);
            sub.override_help(text)
        })
    })
}

/// `-n` and `--output` for `command`, and `-o` if the command has no other use for it.
fn with_shared(command: clap::Command) -> clap::Command {
    let taken = command.get_arguments().any(|arg| arg.get_short() == Some('o'));
    let name_servers = Arg::new(NAME_SERVERS)
        .short('n')
        .long("namesrvAddr")
        .value_name("host:port;host:port")
        .help("name servers; default NAMESRV_ADDR, else 127.0.0.1:9876");
    let output = Arg::new(OUTPUT).long("output").value_parser(value_parser!(Format));
    let output = if taken {
        output.help("text or json; before the command's name also -o")
    } else {
        output.short('o').help("text (mqadmin's columns, the default) or json")
    };
    command.arg(name_servers).arg(output)
}

/// Says so if a command's own `-o` was given what chooses the output.
fn with_hint(mut error: clap::Error, command: &clap::Command) -> clap::Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let (Some(flag), Some(value)) =
        (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue))
    else {
        return error;
    };
    let name = flag.split(' ').next().and_then(|name| name.strip_prefix("--"));
    let is_own_o = |arg: &Arg| arg.get_short() == Some('o') && arg.get_long() == name;
    let mut subs = command.get_subcommands();
    if subs.any(|sub| sub.get_arguments().any(is_own_o)) && Format::from_str(&value, true).is_ok() {
        let hint = format!("did you mean --output {value}?").into();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint]));
    }
    error
}

/// A flag that every command has: behind the command's name, else before it.
fn shared<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, id: &str) -> Option<T> {
    let behind = matches.subcommand().and_then(|(_, sub)| sub.get_one::<T>(id));
    behind.or_else(|| matches.get_one::<T>(id)).cloned()
}

fn name_servers(flag: Option<String>, variable: Option<String>) -> Vec<String> {
    let addresses = |text: String| -> Vec<String> {
        let parts = text.split([';', ',']).map(str::trim).filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    };
    let given = [flag, variable].into_iter().flatten().map(addresses);
    let mut given = given.filter(|addresses| !addresses.is_empty());
    given.next().unwrap_or_default()
}

/// A command line whose command has the right spelling.
enum Spelled {
    Words(Vec<OsString>),
    Help(Option<String>),
    Unknown(String),
}

fn spelled(mut words: Vec<OsString>, command: &clap::Command) -> Spelled {
    let Some(at) = command_position(&words) else {
        let asks = |word: &OsString| ["-h", "--help"].iter().any(|help| word == help);
        if words.len() <= 1 || words.iter().any(asks) {
            return Spelled::Help(None);
        }
        return Spelled::Words(words); // only flags: clap says what is missing
    };
    let name = words[at].to_string_lossy().into_owned();
    if name.eq_ignore_ascii_case("help") {
        return Spelled::Help(words.get(at + 1).map(|word| word.to_string_lossy().into_owned()));
    }
    match help::find(command, &name) {
        Some(known) => {
            words[at] = known.get_name().into();
            Spelled::Words(words)
        }
        None => Spelled::Unknown(name),
    }
}

/// Index of the first word that is neither a flag nor the value of one.
fn command_position(words: &[OsString]) -> Option<usize> {
    const WITH_VALUE: [&str; 4] = ["-n", "-o", "--namesrvAddr", "--output"];
    let mut at = 1;
    loop {
        let word = words.get(at)?.to_string_lossy();
        if WITH_VALUE.contains(&word.as_ref()) {
            at += 2;
        } else if word.starts_with('-') {
            at += 1;
        } else {
            return Some(at);
        }
    }
}

/// For flags whose value is text: blanks around it do not belong to it.
pub(super) fn trimmed(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// For flags with a value of `true` or `false`, in any case.
pub(super) fn truth(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("true or false".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Parsed {
        parse(line.split_whitespace().map(OsString::from).collect(), None)
    }

    fn run(line: &str) -> Invocation {
        match parsed(line) {
            Parsed::Run(invocation) => *invocation,
            Parsed::Print { text, .. } => panic!("{line}: {text}"),
        }
    }

    fn printed(line: &str) -> (String, u8) {
        match parsed(line) {
            Parsed::Run(invocation) => panic!("{line}: {invocation:?}"),
            Parsed::Print { text, code } => (text, code),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        definition().debug_assert();
    }

    #[test]
    fn commands_are_known_in_any_case() {
        for line in ["a topicList", "a topiclist", "a TOPICLIST", "a -n x:1 TopicList"] {
            assert!(matches!(run(line).command, Command::TopicList(_)), "{line}");
        }
    }

    #[test]
    fn the_output_is_chosen_before_or_behind_the_command() {
        let rows = [
            ("a topicList", Format::Text),
            ("a topicList -o json", Format::Json),
            ("a topicList --output json", Format::Json),
            ("a -o json topicList", Format::Json),
            ("a --output=json topicList", Format::Json),
            ("a -o json topicList -o text", Format::Text),
            ("a updateTopic -t T -c C -o true", Format::Text),
            ("a updateTopic -t T -c C -o true --output json", Format::Json),
            ("a -o json updateTopic -t T -c C -o true", Format::Json),
            ("a -o json consumeMessage -t T -b b -i 0 -o 5", Format::Json),
        ];
        for (line, want) in rows {
            assert_eq!(run(line).format, want, "{line}");
        }
        let (text, code) = printed("a topicList -o yaml");
        assert!(text.contains("json") && code == 2, "{text}");
    }

    #[test]
    fn a_flag_of_the_command_keeps_its_meaning() {
        let Command::UpdateTopic(update) = run("a updateTopic -t T -c C -o true").command else {
            panic!("another command");
        };
        assert_eq!(update.order, Some(true));
        let line = "a -o json consumeMessage -t T -b b -i 0 -o 5";
        let Command::ConsumeMessage(consume) = run(line).command else {
            panic!("another command");
        };
        assert_eq!(consume.offset, Some(5));
    }

    #[test]
    fn name_servers_come_from_the_flag_or_the_variable() {
        let rows = [
            (Some("a:1;b:2"), Some("c:3"), vec!["a:1", "b:2"]),
            (None, Some("c:3 ; d:4,e:5;"), vec!["c:3", "d:4", "e:5"]),
            (Some(" "), Some("c:3"), vec!["c:3"]),
            (None, Some(""), vec![]),
            (None, None, vec![]),
        ];
        for (flag, variable, want) in rows {
            let got = name_servers(flag.map(str::to_owned), variable.map(str::to_owned));
            assert_eq!(got, want, "{flag:?} {variable:?}");
        }
        assert_eq!(run("a -n x:1 topicList -n y:2").name_servers, ["y:2"]);
        assert_eq!(run("a topicList --namesrvAddr y:2").name_servers, ["y:2"]);
    }

    #[test]
    fn what_mqadmin_refuses_is_refused_with_code_two() {
        let rows = [
            ("a updateTopic -t T", "-c"),                  // where?
            ("a updateTopic -t T -c C -b b", "cannot be"), // one of them
            ("a updateTopic -t T -c C -o maybe", "true or false"),
            ("a updateTopic -t T -c C -r -4", "-4 is not in 1..=65536"),
            ("a updateTopic -t T -c C -w 65537", "65537 is not in 1..=65536"),
            ("a updateSubGroup -c C -g G -q -1", "-1 is not in 0..=65536"),
            ("a consumeMessage -t T -b b -i -1", "invalid value '-1'"),
            ("a topicRoute", "--topic"),
            ("a topicRoute -t T stray", "stray"),
            ("a topicRoute -t T --nope", "--nope"),
            ("a noSuchCommand -x", "The sub command noSuchCommand not exist."),
            ("a topicLists", "topicList"),
        ];
        for (line, part) in rows {
            let (text, code) = printed(line);
            assert!(text.contains(part) && code == 2, "{line}: {code} {text}");
        }
    }

    #[test]
    fn whoever_means_the_output_by_a_commands_own_o_is_told() {
        let hint = |format: &str| format!("did you mean --output {format}?");
        for line in [
            "a consumeMessage -t T -o json",
            "a consumeMessage -t T -b b -i 0 -ojson",
            "a updateTopic -t T -c C -o json",
            "a updateSubGroup -c C -g G -o json",
        ] {
            let (text, code) = printed(line);
            assert!(text.contains(&hint("json")) && code == 2, "{line}: {text}");
        }
        assert!(printed("a consumeMessage -t T -o text").0.contains(&hint("text")));
        for line in ["a consumeMessage -t T -o five", "a updateTopic -t T -c C -r json"] {
            let (text, _) = printed(line);
            assert!(!text.contains("did you mean"), "{line}: {text}");
        }
    }

    #[test]
    fn help_is_where_mqadmin_has_it() {
        for line in ["a", "a help", "a -h", "a --help"] {
            let (text, code) = printed(line);
            assert!(text.contains("   clusterList") && code == 0, "{line}: {text}");
        }
        for line in ["a help updatetopic", "a updateTopic -h", "a UPDATETOPIC --help"] {
            let (text, code) = printed(line);
            assert_eq!(code, 0, "{line}");
            assert!(text.starts_with("usage: mqadmin updateTopic [-a <arg>] -b <arg> | -c <arg>"));
            for part in ["-t,--topic <arg>", "-r,--readQueueNums", "--output"] {
                assert!(text.contains(part), "{line}: {part} in {text}");
            }
        }
        let (text, _) = printed("a help memberAdd");
        assert!(text.starts_with("usage: rmq-admin memberAdd NAME ADDRESS ["), "{text}");
        assert!(text.contains("\n NAME ") && text.contains("   its name (dLegerSelfId)"), "{text}");
        let (text, _) = printed("a help failover");
        assert!(text.starts_with("usage: rmq-admin failover last|list ["), "{text}");
        let (text, code) = printed("a help nope");
        assert!(text.contains("The sub command nope not exist.") && code == 2, "{text}");
        assert!(printed("a --version").0.starts_with("rmq-admin "));
    }

    #[test]
    fn bodies_keep_their_blanks_and_may_look_like_flags() {
        let words = ["a", "sendMessage", "-t", " T ", "-p", "-x \u{e4}  "].map(OsString::from);
        let Parsed::Run(invocation) = parse(words.to_vec(), None) else {
            panic!("not understood");
        };
        let Command::SendMessage(send) = invocation.command else { panic!("another command") };
        assert_eq!((send.topic.as_str(), send.body.as_str()), ("T", "-x \u{e4}  "));
    }
}
