//! Help pages in mqadmin's form, which people and scripts know, made from clap's definition.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};

use super::cli::Parsed;

/// Usage lines are broken at this column, as mqadmin's are.
const WIDTH: usize = 110;

const CLOSING: &str = "
See 'rmq-admin help <command>' for the flags of a command. Flags of every command:
   -n,--namesrvAddr <arg>   name servers, host:port;host:port; default NAMESRV_ADDR, else 127.0.0.1:9876
   -o,--output <arg>        text (mqadmin's columns, the default) or json (one document a line);
                            where a command has a -o of its own: --output, or -o before the command

Exit codes: 0 done, 1 failed or done in part (standard error says what), 2 wrong command line.
";

/// The page about the command `topic`, or the list of all commands.
pub(super) fn page(command: &Command, topic: Option<&str>) -> Parsed {
    match topic {
        None => Parsed::Print { text: list(command), code: 0 },
        Some(name) => match find(command, name) {
            Some(found) => Parsed::Print { text: of_command(found), code: 0 },
            None => Parsed::Print { text: unknown_command(command, name), code: 2 },
        },
    }
}

/// The command called `name`, in any case.
pub(super) fn find<'a>(command: &'a Command, name: &str) -> Option<&'a Command> {
    command.get_subcommands().find(|sub| {
        sub.get_name_and_visible_aliases().iter().any(|known| known.eq_ignore_ascii_case(name))
    })
}

/// What to say about a command that does not exist.
pub(super) fn unknown_command(command: &Command, name: &str) -> String {
    let wanted = name.to_ascii_lowercase();
    let alike: Vec<&str> = command
        .get_subcommands()
        .map(Command::get_name)
        .filter(|known| is_alike(&known.to_ascii_lowercase(), &wanted))
        .collect();
    let hint = if alike.is_empty() {
        "'rmq-admin help' lists those there are".to_owned()
    } else {
        format!("did you mean {}?", alike.join(", "))
    };
    format!("The sub command {name} not exist.\n{hint}\n")
}

/// Whether one contains the other, or both start alike.
fn is_alike(known: &str, wanted: &str) -> bool {
    let same = known.bytes().zip(wanted.bytes()).take_while(|(a, b)| a == b).count();
    known.contains(wanted) || wanted.contains(known) || same >= 6
}

fn list(command: &Command) -> String {
    let mut text = String::from("The most commonly used mqadmin commands are:\n");
    for sub in command.get_subcommands() {
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(text, "   {:<35} {about}", sub.get_name());
    }
    text + CLOSING
}

/// `usage: mqadmin NAME …`, and a line for each flag.
pub(super) fn of_command(command: &Command) -> String {
    let mut flags: Vec<&Arg> = command.get_arguments().filter(|arg| !arg.is_positional()).collect();
    flags.sort_by_key(|arg| name_of(arg).to_ascii_lowercase());
    let mut text = usage(command, &flags);
    let spelled: Vec<String> = flags.iter().map(|arg| spelling(arg)).collect();
    let words = command.get_positionals().map(choice);
    let width = spelled.iter().cloned().chain(words).map(|word| word.len()).max().unwrap_or(0);
    for word in command.get_positionals() {
        let help = word.get_help().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, " {:<width$}   {help}", choice(word));
    }
    for (arg, spelled) in flags.iter().zip(&spelled) {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, " {spelled:<width$}   {help}");
    }
    let _ = writeln!(text, " {:<width$}   print this", "-h,--help");
    text
}

fn usage(command: &Command, flags: &[&Arg]) -> String {
    let mut parts: Vec<String> = Vec::new();
    for arg in flags {
        let alternatives = command
            .get_groups()
            .filter(|group| !(*group).clone().is_multiple())
            .find(|group| group.get_args().any(|id| id == arg.get_id()));
        let Some(group) = alternatives else {
            let part = usage_part(arg);
            parts.push(if arg.is_required_set() { part } else { format!("[{part}]") });
            continue;
        };
        if group.get_args().next() != Some(arg.get_id()) {
            continue; // named with the first of them
        }
        let members = flags.iter().filter(|f| group.get_args().any(|id| id == f.get_id()));
        let all: Vec<String> = members.map(|arg| usage_part(arg)).collect();
        let all = all.join(" | ");
        parts.push(if group.is_required_set() { all } else { format!("[{all}]") });
    }
    let program = if is_ours(command) { "rmq-admin" } else { "mqadmin" };
    let mut line = format!("usage: {program} {}", command.get_name());
    for word in command.get_positionals() {
        let _ = write!(line, " {}", choice(word));
    }
    let mut text = String::new();
    for part in parts {
        if line.len() + 1 + part.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = " ".repeat(6);
        }
        let _ = write!(line, " {part}");
    }
    let _ = writeln!(text, "{line}");
    text
}

/// What a word may be that is no flag.
fn choice(word: &Arg) -> String {
    let values = word.get_possible_values();
    let names: Vec<&str> = values.iter().map(clap::builder::PossibleValue::get_name).collect();
    if names.is_empty() { word.get_id().to_string().to_uppercase() } else { names.join("|") }
}

/// Whether mqadmin has no such command: what is said about it ends so.
fn is_ours(command: &Command) -> bool {
    command.get_about().is_some_and(|about| about.to_string().ends_with("(not in mqadmin)"))
}

fn name_of(arg: &Arg) -> String {
    match (arg.get_short(), arg.get_long()) {
        (Some(short), _) => short.to_string(),
        (None, Some(long)) => long.to_owned(),
        (None, None) => String::new(),
    }
}

fn value_of(arg: &Arg) -> &'static str {
    if matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) { " <arg>" } else { "" }
}

fn usage_part(arg: &Arg) -> String {
    let dashes = if arg.get_short().is_some() { "-" } else { "--" };
    format!("{dashes}{}{}", name_of(arg), value_of(arg))
}

fn spelling(arg: &Arg) -> String {
    let names = match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("-{short},--{long}"),
        (Some(short), None) => format!("-{short}"),
        (None, long) => format!("   --{}", long.unwrap_or_default()),
    };
    format!("{names}{}", value_of(arg))
}
