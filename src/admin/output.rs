//! What a command found goes to standard output, as mqadmin's columns or as JSON; what did not
//! work goes to standard error.

use std::{fmt::Display, io::Write};

use serde::Serialize;

use super::error::Error;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// As mqadmin prints them.
    #[default]
    Text,
    /// One JSON document a line.
    Json,
}

/// Where results and complaints go.
pub struct Output<'a> {
    format: Format,
    results: &'a mut dyn Write,
    complaints: &'a mut dyn Write,
    failed: bool,
}

impl<'a> Output<'a> {
    /// An output in `format`.
    pub fn new(format: Format, results: &'a mut dyn Write, complaints: &'a mut dyn Write) -> Self {
        Self { format, results, complaints, failed: false }
    }

    /// Prints a result: its `Display` is the whole text, line ends included; its JSON is one line.
    pub(super) fn show(&mut self, result: &(impl Display + Serialize)) -> Result<(), Error> {
        match self.format {
            Format::Text => write!(self.results, "{result}")?,
            Format::Json => {
                serde_json::to_writer(&mut *self.results, result).map_err(std::io::Error::from)?;
                self.results.write_all(b"\n")?;
            }
        }
        self.results.flush()?;
        Ok(())
    }

    /// Prints what only people want to know: left out of JSON.
    pub(super) fn say(&mut self, text: impl Display) -> Result<(), Error> {
        if self.format == Format::Text {
            write!(self.results, "{text}")?;
        }
        Ok(())
    }

    /// Says what did not work, and what to do. The command goes on, but has failed.
    pub(super) fn fail(&mut self, error: &Error) {
        self.failed = true;
        self.remark(error);
    }

    /// What was shown is bad news.
    pub(super) fn mark_failed(&mut self) {
        self.failed = true;
    }

    /// Says what did not work at the first try and was helped otherwise.
    pub(super) fn remark(&mut self, error: &Error) {
        // Where complaints cannot be written there is nobody to tell.
        let _ = writeln!(self.complaints, "rmq-admin: {error}");
        if let Some(advice) = error.advice() {
            let _ = writeln!(self.complaints, "  {advice}");
        }
    }

    /// How results are printed.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Whether anything failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }
}

/// A result whose text is at hand.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Told<T> {
    #[serde(skip)]
    text: String,
    value: T,
}

impl<T> Told<T> {
    /// `value` in JSON, `text` for people, line ends included.
    pub(super) fn new(text: impl Into<String>, value: T) -> Self {
        Self { text: text.into(), value }
    }
}

impl<T> Display for Told<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Pair {
        a: u8,
        b: Option<u8>,
    }

    impl Display for Pair {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            writeln!(f, "{:<4}|", self.a)
        }
    }

    fn printed(format: Format) -> (String, String, bool) {
        let (mut results, mut complaints) = (Vec::new(), Vec::new());
        let mut out = Output::new(format, &mut results, &mut complaints);
        out.say("header\n").unwrap();
        out.show(&Pair { a: 1, b: None }).unwrap();
        out.remark(&Error::Unable("no leader".to_owned()));
        assert!(!out.has_failed());
        out.fail(&Error::Unable("none at all".to_owned()));
        let failed = out.has_failed();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(results), text(complaints), failed)
    }

    #[test]
    fn results_are_text_or_json_and_complaints_are_apart() {
        let complaints = "rmq-admin: no leader\nrmq-admin: none at all\n".to_owned();
        let text = ("header\n1   |\n".to_owned(), complaints.clone(), true);
        assert_eq!(printed(Format::Text), text);
        let json = ("{\"a\":1,\"b\":null}\n".to_owned(), complaints, true);
        assert_eq!(printed(Format::Json), json);
    }
}
