//! Everything that is wrong with a configuration: all of it at once, each with its place.

use std::{fmt, sync::Arc};

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file; without a line: the file as a whole.
    File {
        /// The file as the operator named it.
        name: Arc<str>,
        /// From 1.
        line: Option<u32>,
    },
    /// On the command line.
    CommandLine,
    /// In the environment.
    Environment,
    /// In a request of an administrator.
    Request,
    /// Nowhere: something is missing.
    Missing,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line: Some(line) } => write!(f, "{name}:{line}"),
            Self::File { name, line: None } => f.write_str(name),
            Self::CommandLine => f.write_str("command line"),
            Self::Environment => f.write_str("environment"),
            Self::Request => f.write_str("request"),
            Self::Missing => f.write_str("configuration"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// The key as written; empty if none is concerned.
    pub key: String,
    /// What was found, what is expected, and how to mend it.
    pub what: String,
    /// Whether `configStrict=warn` turns it into a warning: Java ignores such a setting.
    pub lenient: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.place, self.what)
        } else {
            write!(f, "{}: {}: {}", self.place, self.key, self.what)
        }
    }
}

/// All that is wrong with a configuration, one line each, in the order of the lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Problem>);

impl ConfigErrors {
    /// Ordered by place.
    pub fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| match problem.place {
            Place::CommandLine | Place::Environment => 0,
            Place::File { line, .. } => line.unwrap_or(u32::MAX),
            Place::Request | Place::Missing => u32::MAX,
        });
        Self(problems)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            let line_feed = if number > 0 { "\n" } else { "" };
            write!(f, "{line_feed}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
