//! The header's `extFields`: names and values of one command.

#![warn(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects
)]

use std::{fmt, ops::Range, str::FromStr};

/// More fields than this are refused when decoding. Java's largest header has 16.
pub const FIELDS_MAX: usize = 256;

/// Names and values in the order they were sent or pushed. When a name occurs twice, the last
/// one counts, as in Java.
///
/// All text lives in one buffer: on decode a copy of the whole header, in which fields are spans,
/// with values that contained escapes unescaped behind it. So a header costs two allocations,
/// however many fields it has, and reading a field is a slice of checked UTF-8.
#[derive(Clone, Default)]
pub struct ExtFields {
    text: String,
    fields: Vec<Field>,
    /// Sent as `{}`: Java distinguishes "no header object" from "header without fields".
    empty_object: bool,
}

#[derive(Clone, Copy)]
struct Field {
    name: Span,
    value: Span,
}

/// A range of the text buffer, half the size of a `Range<usize>`.
#[derive(Clone, Copy)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn range(self) -> Range<usize> {
        usize::try_from(self.start).unwrap_or(usize::MAX)
            ..usize::try_from(self.end).unwrap_or(usize::MAX)
    }
}

impl From<Range<usize>> for Span {
    /// Frames are below 4 GiB; what is not becomes a span that reads as empty.
    fn from(range: Range<usize>) -> Self {
        match (u32::try_from(range.start), u32::try_from(range.end)) {
            (Ok(start), Ok(end)) => Self { start, end },
            _ => Self { start: 0, end: 0 },
        }
    }
}

/// A field that a request needs is missing or does not parse. Answered with code 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The field is absent.
    #[error("the custom field <{name}> is null")]
    Missing {
        /// Name of the field on the wire.
        name: Box<str>,
    },
    /// The field is there but is not what it should be.
    #[error("the custom field <{name}> has the illegal value [{value}]")]
    Invalid {
        /// Name of the field on the wire.
        name: Box<str>,
        /// Its value, shortened.
        value: Box<str>,
    },
}

impl FieldError {
    /// The error of an absent field.
    pub fn missing(name: &str) -> Self {
        Self::Missing { name: name.into() }
    }

    /// The error of a field that does not parse; at most 64 characters of the value are kept.
    pub fn invalid(name: &str, value: &str) -> Self {
        Self::Invalid {
            name: name.into(),
            value: value.chars().take(64).collect::<String>().into_boxed_str(),
        }
    }

    /// Name of the field on the wire.
    pub fn name(&self) -> &str {
        match self {
            Self::Missing { name } | Self::Invalid { name, .. } => name,
        }
    }
}

impl ExtFields {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fields will be spans of `header`; room for unescaped values if there are any.
    pub(super) fn over(header: &str) -> Self {
        let escaped = memchr::memchr(b'\\', header.as_bytes()).is_some();
        let room = if escaped { header.len() } else { 0 };
        let mut text = String::with_capacity(header.len().saturating_add(room));
        text.push_str(header);
        Self { text, fields: Vec::with_capacity(16), empty_object: false }
    }

    /// Text for a value that is not a slice of the header, to be written behind it.
    pub(super) fn side_text(&mut self) -> &mut String {
        &mut self.text
    }

    /// Adds a field of two spans of the text. False when there are too many.
    #[must_use]
    pub(super) fn push_spans(&mut self, name: Span, value: Span) -> bool {
        let room = self.fields.len() < FIELDS_MAX;
        if room {
            self.fields.push(Field { name, value });
        }
        room
    }

    /// Makes an empty set appear as `"extFields":{}`, which is how Java sends a header object
    /// without fields, instead of leaving the member out.
    pub fn show_empty(&mut self) {
        self.empty_object = true;
    }

    /// Whether the header has the member `extFields` at all.
    pub(super) fn is_shown(&self) -> bool {
        self.empty_object || !self.fields.is_empty()
    }

    /// Number of fields, repeated names included.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().rev().find(|f| self.slice(f.name) == name)?;
        Some(self.slice(field.value))
    }

    /// Adds a field.
    pub fn push(&mut self, name: &str, value: impl fmt::Display) {
        use fmt::Write as _;
        let start = self.text.len();
        self.text.push_str(name);
        let middle = self.text.len();
        // Writing to a string fails only when `value` says so: then the field holds what it wrote.
        let _ = write!(self.text, "{value}");
        let end = self.text.len();
        self.fields.push(Field { name: (start..middle).into(), value: (middle..end).into() });
    }

    /// Fields in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|f| (self.slice(f.name), self.slice(f.value)))
    }

    /// The value of `name`, parsed; an error that names the field if it is missing or malformed.
    pub fn required<T: FromStr>(&self, name: &str) -> Result<T, FieldError> {
        let value = self.get(name).ok_or_else(|| FieldError::missing(name))?;
        value.parse().map_err(|_| FieldError::invalid(name, value))
    }

    /// The value of `name`, parsed; `None` if it is absent or empty.
    pub fn optional<T: FromStr>(&self, name: &str) -> Result<Option<T>, FieldError> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(value) => value.parse().map(Some).map_err(|_| FieldError::invalid(name, value)),
        }
    }

    /// The text of `name`; an error that names the field if it is missing.
    pub fn required_str(&self, name: &str) -> Result<&str, FieldError> {
        self.get(name).ok_or_else(|| FieldError::missing(name))
    }

    fn slice(&self, span: Span) -> &str {
        self.text.get(span.range()).unwrap_or_default()
    }
}

impl fmt::Debug for ExtFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl PartialEq for ExtFields {
    /// Same fields in the same order; where their text lives does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_name_the_field_that_is_wrong() {
        let mut ext = ExtFields::new();
        ext.push("queueId", 3);
        ext.push("sysFlag", "x");
        ext.push("empty", "");
        assert_eq!(ext.required::<i32>("queueId"), Ok(3));
        assert_eq!(ext.required::<i32>("topic"), Err(FieldError::missing("topic")));
        assert_eq!(ext.required::<i32>("sysFlag"), Err(FieldError::invalid("sysFlag", "x")));
        assert_eq!(ext.optional::<i32>("empty"), Ok(None));
        assert_eq!(ext.optional::<i32>("topic"), Ok(None));
        assert_eq!(ext.required_str("sysFlag"), Ok("x"));
    }

    #[test]
    fn of_two_fields_with_one_name_the_last_counts() {
        let mut ext = ExtFields::new();
        ext.push("topic", "first");
        ext.push("topic", "last");
        assert_eq!(ext.get("topic"), Some("last"));
        assert_eq!(ext.len(), 2);
    }
}
