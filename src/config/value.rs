//! One value: text → typed, by the kind of its key. Pure.

use std::{fmt, net::IpAddr, path::PathBuf};

use tracing_subscriber::EnvFilter;

use crate::config::{
    address::{Endpoint, Peers, host_error, member_name_error, parse_endpoints},
    keys::{Kind, suggest},
};

/// A checked value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// No value: the key is not set and has no default.
    Unset,
    /// `true` or `false`.
    Bool(bool),
    /// A number within its range.
    Int(i64),
    /// A word, a name or free text.
    Text(String),
    /// A path.
    Path(PathBuf),
    /// An address to listen on.
    Address(IpAddr),
    /// Name servers.
    Endpoints(Vec<Endpoint>),
    /// Members.
    Peers(Peers),
    /// Hours of the day.
    Hours(Vec<u8>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => Ok(()),
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Text(value) => f.write_str(value),
            Self::Path(value) => value.display().fmt(f),
            Self::Address(value) => value.fmt(f),
            Self::Endpoints(list) => write_joined(f, list.iter()),
            Self::Peers(value) => value.fmt(f),
            Self::Hours(list) => write_joined(f, list.iter().map(|hour| format!("{hour:02}"))),
        }
    }
}

fn write_joined(
    f: &mut fmt::Formatter<'_>,
    list: impl Iterator<Item = impl fmt::Display>,
) -> fmt::Result {
    for (number, item) in list.enumerate() {
        let semicolon = if number > 0 { ";" } else { "" };
        write!(f, "{semicolon}{item}")?;
    }
    Ok(())
}

/// Reads a value. The error says what was found and what is expected.
pub fn parse(kind: Kind, text: &str) -> Result<Value, String> {
    if text.is_empty() {
        return Err(format!("has no value; expected {}", expected(kind)));
    }
    if let Some(character) = text.chars().find(|c| c.is_control() && *c != '\t') {
        return Err(format!("contains the control character {character:?}"));
    }
    match parse_plain(kind, text) {
        Err(error) => Err(glued_comment(kind, text).unwrap_or(error)),
        Ok(_) if free(kind) && comment_start(text).is_some() => {
            Err(glued_comment(kind, text).unwrap_or_default())
        }
        good => good,
    }
}

/// Kinds whose values are not checked character by character.
fn free(kind: Kind) -> bool {
    matches!(kind, Kind::Text | Kind::Path)
}

/// Where a comment seems to start inside a value: `#`, or `//` after a blank.
fn comment_start(text: &str) -> Option<usize> {
    let glued = [" #", "\t#", " //", "\t//", " !"].iter().filter_map(|mark| text.find(mark)).min();
    glued.or_else(|| text.find('#'))
}

fn glued_comment(kind: Kind, text: &str) -> Option<String> {
    let value = text[..comment_start(text)?].trim_end();
    let mend = match parse_plain(kind, value) {
        Ok(_) if !value.is_empty() => format!("; write `{value}`"),
        _ => String::new(),
    };
    Some(format!(
        "`{text}` carries a comment, which a properties file does not allow after a value{mend} \
         and put the comment on a line of its own"
    ))
}

fn parse_plain(kind: Kind, text: &str) -> Result<Value, String> {
    let wrong = || format!("`{text}` is not {}", expected(kind));
    match kind {
        Kind::Bool => parse_bool(text).map(Value::Bool).ok_or_else(wrong),
        Kind::Int { min, max } => parse_int(text, min, max, wrong),
        Kind::OneOf(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
        Kind::OneOf(words) => Err(suggest(text, words.iter().copied())
            .map_or_else(wrong, |word| format!("{}; did you mean {word}?", wrong()))),
        Kind::Name => name_error(text).map_or_else(|| Ok(Value::Text(text.to_owned())), Err),
        Kind::Member => {
            member_name_error(text).map_or_else(|| Ok(Value::Text(text.to_owned())), Err)
        }
        Kind::Host => host(text),
        Kind::Address => text.parse().map(Value::Address).map_err(|_| wrong()),
        Kind::Path => path_error(text).map_or_else(|| Ok(Value::Path(text.into())), Err),
        Kind::Endpoints => parse_endpoints(text).map(Value::Endpoints).map_err(|e| e.to_string()),
        Kind::Peers => text.parse().map(Value::Peers).map_err(|e: super::address::AddressError| {
            format!("{e}; expected `n0-host:port;n1-host:port`")
        }),
        Kind::Hours => parse_hours(text).map(Value::Hours).ok_or_else(wrong),
        Kind::LogFilter => match EnvFilter::builder().parse(text) {
            Ok(_) => Ok(Value::Text(text.to_owned())),
            Err(error) => Err(format!("{}: {error}", wrong())),
        },
        Kind::Text => Ok(Value::Text(text.to_owned())),
    }
}

/// What values of a kind look like, as in "expected …".
pub fn expected(kind: Kind) -> String {
    match kind {
        Kind::Bool => "`true` or `false`".to_owned(),
        Kind::Int { min: i64::MIN, max: i64::MAX } => "a whole number".to_owned(),
        Kind::Int { min, max: i64::MAX } => format!("a whole number from {min}"),
        Kind::Int { min, max } => format!("a whole number from {min} to {max}"),
        Kind::OneOf(words) => format!("one of {}", words.join(", ")),
        Kind::Name => "a name".to_owned(),
        Kind::Member => "a member's name".to_owned(),
        Kind::Host => "a host name or an address".to_owned(),
        Kind::Address => "an IP address".to_owned(),
        Kind::Path => "a path".to_owned(),
        Kind::Endpoints => "`host:port;host:port`".to_owned(),
        Kind::Peers => "`n0-host:port;n1-host:port`".to_owned(),
        Kind::Hours => "hours of the day such as `04` or `04;16`".to_owned(),
        Kind::LogFilter => "a level or a filter such as `info,rmq::raft=debug`".to_owned(),
        Kind::Text => "a text".to_owned(),
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        return Some(true);
    }
    text.eq_ignore_ascii_case("false").then_some(false)
}

fn parse_int(text: &str, min: i64, max: i64, wrong: impl Fn() -> String) -> Result<Value, String> {
    match text.parse::<i64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(Value::Int(number)),
        _ => Err(wrong()),
    }
}

/// Names of clusters and groups become topic names, and parts of message properties.
fn name_error(text: &str) -> Option<String> {
    const LENGTH_MAX: usize = 127;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '%' | '|' | '.');
    if let Some(wrong) = text.chars().find(|c| !legal(*c)) {
        return Some(format!("`{wrong}` in `{text}`: a name has letters, digits and `-_%|.` only"));
    }
    (text.len() > LENGTH_MAX)
        .then(|| format!("`{text}` has {} characters, {LENGTH_MAX} are allowed", text.len()))
}

fn host(text: &str) -> Result<Value, String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let Some(error) = host_error(bare) else { return Ok(Value::Text(bare.to_owned())) };
    match text.rsplit_once(':') {
        Some((host, port)) if host_error(host).is_none() && port.parse::<u16>().is_ok() => {
            Err(format!("`{text}` has a port: write the host only, `{host}`"))
        }
        _ => Err(error),
    }
}

/// Nothing is expanded in a properties file, by Java neither: the folder would get that name.
fn path_error(text: &str) -> Option<String> {
    if text.contains('$') {
        return Some(format!(
            "`{text}`: variables are not expanded in this file; write the whole path"
        ));
    }
    if text.starts_with('~') {
        return Some(format!("`{text}`: `~` is not expanded in this file; write the whole path"));
    }
    None
}

fn parse_hours(text: &str) -> Option<Vec<u8>> {
    let hours: Option<Vec<u8>> = text
        .split([';', ','])
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| part.parse::<u8>().ok().filter(|hour| *hour < 24))
        .collect();
    hours.filter(|hours| !hours.is_empty())
}
