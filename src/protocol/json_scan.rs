//! A JSON scanner: positions of strings and scalars, no values, no allocation.
//!
//! Two readers need it: the command header, where `serde_json` would allocate every field, and
//! `lenient_json`, whose input is not JSON.

#![warn(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects
)]

use std::ops::Range;

use super::near;

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

/// Position in a text. Every method that takes something skips white space before it, but those
/// that say so.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn fail<T>(&self, expected: &'static str) -> Result<T, JsonError> {
        Err(JsonError { at: self.at, expected })
    }

    /// The next byte that is not white space, not taken.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        match self.next() {
            Some(b' ' | b'\t' | b'\n' | b'\r') => self.peek_behind_white_space(),
            next => next,
        }
    }

    #[cold]
    fn peek_behind_white_space(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.next() {
            self.advance(1);
        }
        self.next()
    }

    /// Takes `byte`, which is no white space, if it is next.
    #[inline]
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let there = self.next() == Some(byte) || self.peek() == Some(byte);
        if there {
            self.advance(1);
        }
        there
    }

    #[inline]
    pub(super) fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonError> {
        if self.take(byte) { Ok(()) } else { self.fail(expected) }
    }

    /// Nothing but white space may be left.
    pub(super) fn expect_end(&mut self) -> Result<(), JsonError> {
        if self.peek().is_none() { Ok(()) } else { self.fail("the end") }
    }

    /// Takes `"name":`, or `,"name":` where another member was before, as every client writes it:
    /// without white space and without an escape. Whatever else is next stays there.
    #[inline(always)] // for each field of every request
    pub(super) fn plain_name(&mut self, first: bool) -> Option<Range<usize>> {
        let start = match self.rest() {
            [b',', b'"', b'a'..=b'z', b'"', b':', ..] if !first => {
                let start = self.at.wrapping_add(2);
                self.at = start.wrapping_add(3);
                return Some(start..start.wrapping_add(1));
            }
            [b',', b'"', ..] if !first => self.at.wrapping_add(2),
            [b'"', ..] if first => self.at.wrapping_add(1),
            _ => return None,
        };
        let text = self.from(start);
        let bytes = closing(text)?;
        let [b'"', b':', ..] = text.get(bytes..)? else { return None };
        let end = start.wrapping_add(bytes);
        self.at = end.wrapping_add(2);
        Some(start..end)
    }

    /// Takes an integer of at most 18 digits, if the value that is next is one, without white space
    /// before it. Whatever else is next stays there.
    #[inline]
    pub(super) fn plain_integer(&mut self) -> Option<i64> {
        let (negative, start) = match self.rest() {
            [b'-', ..] => (true, self.at.wrapping_add(1)),
            _ => (false, self.at),
        };
        let (mut value, mut digits) = (0_i64, 0_usize);
        let behind = loop {
            match self.from(start.wrapping_add(digits)) {
                [digit @ b'0'..=b'9', ..] if digits < 18 => {
                    let digit = digit.wrapping_sub(b'0');
                    value = value.wrapping_mul(10).wrapping_add(digit.into());
                    digits = digits.wrapping_add(1);
                }
                rest => break rest,
            }
        };
        let [b',' | b'}', ..] = behind else { return None };
        if digits == 0 {
            return None;
        }
        self.at = start.wrapping_add(digits);
        Some(if negative { value.wrapping_neg() } else { value })
    }

    /// Takes a string.
    #[inline(always)] // for each field of every request
    pub(super) fn string(&mut self) -> Result<RawString, JsonError> {
        self.expect(b'"', "a string")?;
        let (start, mut escaped) = (self.at, false);
        loop {
            let Some(found) = closing(self.rest()) else {
                return self.fail("the end of the string");
            };
            let end = self.at.wrapping_add(found);
            self.at = end.wrapping_add(1);
            if self.text.as_bytes().get(end) == Some(&b'"') {
                return Ok(RawString { range: start..end, escaped });
            }
            escaped = true;
            self.advance(1); // what the backslash protects
        }
    }

    /// Takes a number, `true`, `false`, `null` or a bare word; at least one byte.
    pub(super) fn scalar(&mut self) -> Result<&'a str, JsonError> {
        self.peek();
        let rest = self.rest();
        let is_part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.' | b'_');
        let bytes = rest.iter().position(|b| !is_part(b)).unwrap_or(rest.len());
        match self.text.get(self.at..self.at.saturating_add(bytes)) {
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

    #[inline]
    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        self.from(self.at)
    }

    #[inline]
    fn from(&self, at: usize) -> &'a [u8] {
        self.text.as_bytes().get(at..).unwrap_or_default()
    }

    #[inline]
    fn advance(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
    }
}

/// Where a string's text ends, or an escape in it begins.
#[inline]
fn closing(text: &[u8]) -> Option<usize> {
    near::find2(text, b'"', b'\\')
}

/// Appends the content of `raw`, the text between a string's quotes, to `out`. Surrogates without
/// their other half become U+FFFD.
pub(super) fn unescape(raw: &str, out: &mut String) -> Result<(), JsonError> {
    let mut rest = raw;
    while let Some(at) = near::find(rest.as_bytes(), b'\\') {
        let (plain, escape) = rest.split_at_checked(at).unwrap_or_default();
        out.push_str(plain);
        let position = raw.len().saturating_sub(escape.len());
        let bad = JsonError { at: position, expected: "an escape" };
        let (character, taken) = one_escape(escape.as_bytes()).ok_or(bad)?;
        out.push(character);
        rest = escape.get(taken..).ok_or(bad)?;
    }
    out.push_str(rest);
    Ok(())
}

/// The character that `text` starts with, which is a backslash, and the bytes it takes.
fn one_escape(text: &[u8]) -> Option<(char, usize)> {
    let simple = |character| Some((character, 2));
    match text {
        [_, b'u', a, b, c, d, behind @ ..] => {
            let high = hex4([*a, *b, *c, *d])?;
            if let Some(character) = char::from_u32(high.into()) {
                return Some((character, 6));
            }
            let low = match behind {
                [b'\\', b'u', a, b, c, d, ..] => hex4([*a, *b, *c, *d]),
                _ => None,
            };
            let pair = low.and_then(|low| char::decode_utf16([high, low]).next()?.ok());
            Some(pair.map_or((char::REPLACEMENT_CHARACTER, 6), |character| (character, 12)))
        }
        [_, b'"', ..] => simple('"'),
        [_, b'\\', ..] => simple('\\'),
        [_, b'/', ..] => simple('/'),
        [_, b'b', ..] => simple('\u{8}'),
        [_, b'f', ..] => simple('\u{c}'),
        [_, b'n', ..] => simple('\n'),
        [_, b'r', ..] => simple('\r'),
        [_, b't', ..] => simple('\t'),
        _ => None,
    }
}

fn hex4(digits: [u8; 4]) -> Option<u16> {
    digits.into_iter().try_fold(0_u16, |value, byte| {
        let digit = char::from(byte).to_digit(16)?;
        Some(value << 4 | u16::try_from(digit).ok()?)
    })
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
            let got = Scanner::new(text).value().ok().map(|range| range.end);
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + "1" + &"]".repeat(depth);
        assert!(Scanner::new(&nested(DEPTH_MAX)).value().is_ok());
        assert!(Scanner::new(&nested(DEPTH_MAX + 1)).value().is_err());
        assert!(Scanner::new(&"[".repeat(1_000_000)).value().is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in r#"[\[\]{}":,\\u0-9a-f ]{0,60}"#) {
            let _ = Scanner::new(&text).value();
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
