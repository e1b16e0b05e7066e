//! A JSON scanner over bytes: positions of strings and scalars, no values, no allocation.
//!
//! Two readers need it: the command header, where `serde_json` would allocate every field, and
//! `lenient_json`, whose input is not JSON.

#![warn(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects
)]

use std::ops::Range;

/// Containers nested deeper than this are refused.
pub(super) const DEPTH_MAX: usize = 32;

/// What was expected and where the text does not have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} at byte {at}")]
pub struct JsonError {
    /// Byte offset in the text.
    pub at: usize,
    /// What should have been there.
    pub expected: &'static str,
}

/// A string's content, without its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawString {
    pub(super) range: Range<usize>,
    /// Whether it contains a backslash, so that its text is not its content.
    pub(super) escaped: bool,
}

/// Position in a text. Every method that takes something skips white space before it.
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn fail<T>(&self, expected: &'static str) -> Result<T, JsonError> {
        Err(JsonError { at: self.at, expected })
    }

    /// The next byte that is not white space, not taken.
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.get(self.at)?;
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.advance(1);
        }
    }

    /// Takes `byte` if it is next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        if there {
            self.advance(1);
        }
        there
    }

    pub(super) fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonError> {
        if self.take(byte) { Ok(()) } else { self.fail(expected) }
    }

    /// Nothing but white space may be left.
    pub(super) fn expect_end(&mut self) -> Result<(), JsonError> {
        if self.peek().is_none() { Ok(()) } else { self.fail("the end") }
    }

    /// Takes a string.
    pub(super) fn string(&mut self) -> Result<RawString, JsonError> {
        self.expect(b'"', "a string")?;
        let (start, mut escaped) = (self.at, false);
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let Some(found) = memchr::memchr2(b'"', b'\\', rest) else {
                return self.fail("the end of the string");
            };
            let at = self.at.saturating_add(found);
            if rest.get(found) == Some(&b'"') {
                self.at = at.saturating_add(1);
                return Ok(RawString { range: start..at, escaped });
            }
            escaped = true;
            self.at = at.saturating_add(2); // the backslash and what it protects
        }
    }

    /// Takes a number, `true`, `false`, `null` or a bare word; at least one byte.
    pub(super) fn scalar(&mut self) -> Result<&'a str, JsonError> {
        self.peek();
        let rest = self.text.get(self.at..).unwrap_or_default();
        let is_part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.' | b'_');
        let bytes = rest.iter().position(|b| !is_part(b)).unwrap_or(rest.len());
        let word = rest.get(..bytes).and_then(|word| std::str::from_utf8(word).ok());
        match word {
            Some(word) if !word.is_empty() => {
                self.advance(bytes);
                Ok(word)
            }
            _ => self.fail("a value"),
        }
    }

    /// Takes any value and gives its range.
    pub(super) fn value(&mut self) -> Result<Range<usize>, JsonError> {
        self.peek();
        let start = self.at;
        self.skip_value()?;
        Ok(start..self.at)
    }

    /// Without recursion: what is open is a bit each, at most [`DEPTH_MAX`].
    fn skip_value(&mut self) -> Result<(), JsonError> {
        let mut open = Vec::new(); // closing bytes of open containers
        loop {
            match self.peek() {
                Some(b'{') => {
                    self.advance(1);
                    if !self.take(b'}') {
                        self.open(&mut open, b'}')?;
                        self.key()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.advance(1);
                    if !self.take(b']') {
                        self.open(&mut open, b']')?;
                        continue;
                    }
                }
                Some(b'"') => {
                    self.string()?;
                }
                _ => {
                    self.scalar()?;
                }
            }
            // A value has ended: the next one of its container, or the container ends too.
            loop {
                let Some(&close) = open.last() else { return Ok(()) };
                if self.take(b',') {
                    if close == b'}' {
                        self.key()?;
                    }
                    break;
                }
                self.expect(close, "',' or the end of the container")?;
                open.pop();
            }
        }
    }

    fn key(&mut self) -> Result<(), JsonError> {
        self.string()?;
        self.expect(b':', "':'")
    }

    fn open(&self, open: &mut Vec<u8>, close: u8) -> Result<(), JsonError> {
        if open.len() >= DEPTH_MAX {
            return self.fail("fewer nested containers");
        }
        open.push(close);
        Ok(())
    }

    fn advance(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
    }
}

/// Appends the content of `raw`, the text between a string's quotes, to `out`. Surrogates without
/// their other half become U+FFFD.
pub(super) fn unescape(raw: &str, out: &mut String) -> Result<(), JsonError> {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(rest.get(..at).unwrap_or_default());
        let escape = rest.get(at..).unwrap_or_default();
        let position = raw.len().saturating_sub(escape.len());
        let bad = JsonError { at: position, expected: "an escape" };
        let (character, taken) = one_escape(escape).ok_or(bad)?;
        out.push(character);
        rest = escape.get(taken..).ok_or(bad)?;
    }
    out.push_str(rest);
    Ok(())
}

/// The character that `text` starts with, which is a backslash, and the bytes it takes.
fn one_escape(text: &str) -> Option<(char, usize)> {
    let simple = |character| Some((character, 2));
    match text.as_bytes().get(1)? {
        b'"' => simple('"'),
        b'\\' => simple('\\'),
        b'/' => simple('/'),
        b'b' => simple('\u{8}'),
        b'f' => simple('\u{c}'),
        b'n' => simple('\n'),
        b'r' => simple('\r'),
        b't' => simple('\t'),
        b'u' => {
            let high = hex4(text.get(2..6)?)?;
            let low = text.get(6..12).and_then(|t| t.strip_prefix("\\u")).and_then(hex4);
            let pair = low.and_then(|low| char::decode_utf16([high, low]).next()?.ok());
            match pair {
                Some(character) if (0xD800..0xDC00).contains(&high) => Some((character, 12)),
                _ => Some((char::from_u32(high.into()).unwrap_or(char::REPLACEMENT_CHARACTER), 6)),
            }
        }
        _ => None,
    }
}

fn hex4(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_hexdigit());
    if digits { u16::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_become_their_characters() {
        let rows = [
            ("plain", Some("plain")),
            (r"color\u0001red\u0002", Some("color\u{1}red\u{2}")),
            (r#"\"\\\/\b\f\n\r\t"#, Some("\"\\/\u{8}\u{c}\n\r\t")),
            (r"\uD83D\uDE00!", Some("😀!")),
            (r"\uD83Dx", Some("\u{FFFD}x")),
            (r"\uDE00\uD83D", Some("\u{FFFD}\u{FFFD}")),
            (r"\uD83D\u0041", Some("\u{FFFD}A")),
            (r"ä\u00e4", Some("ää")),
            (r"\u12", None),
            (r"\u+123", None),
            (r"\x", None),
            ("\\", None),
        ];
        for (raw, want) in rows {
            let mut out = String::new();
            let got = unescape(raw, &mut out).ok().map(|()| out.as_str());
            assert_eq!(got, want, "{raw}");
        }
    }

    #[test]
    fn values_end_where_they_end() {
        let rows = [
            ("1,", Some(1)),
            (" -12.5e+3}", Some(9)),
            (r#""a\"b" "#, Some(6)),
            ("[]x", Some(2)),
            (r#"{"a":[1,{"b":null}], "c":"}"}]"#, Some(29)),
            ("{]", None),
            ("[1 2]", None),
            ("", None),
            ("\"open", None),
            ("\"open\\", None),
        ];
        for (text, want) in rows {
            let got = Scanner::new(text.as_bytes()).value().ok().map(|range| range.end);
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + "1" + &"]".repeat(depth);
        assert!(Scanner::new(nested(DEPTH_MAX).as_bytes()).value().is_ok());
        assert!(Scanner::new(nested(DEPTH_MAX + 1).as_bytes()).value().is_err());
        assert!(Scanner::new("[".repeat(1_000_000).as_bytes()).value().is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in r#"[\[\]{}":,\\u0-9a-f ]{0,60}"#) {
            let _ = Scanner::new(text.as_bytes()).value();
            let _ = unescape(&text, &mut String::new());
        }

        #[test]
        fn unescaping_undoes_serde_json(text in any::<String>()) {
            let quoted = serde_json::to_string(&text).unwrap();
            let mut out = String::new();
            unescape(&quoted[1..quoted.len() - 1], &mut out).unwrap();
            prop_assert_eq!(out, text);
        }
    }
}
