//! JSON as fastjson writes it, both ways.
//!
//! Java maps whose keys are not strings appear with bare keys: `{0:"h:p"}`, and even
//! `{{"brokerName":"b","queueId":0,"topic":"T"}:5}`. Java tools accept the second only like this.
//!
//! Reading: strict JSON first; what is not gets its keys quoted and its null members dropped, and
//! then is read as JSON, an object key being a string that holds the object's JSON. Writing: a
//! map key that serialises as a string starting with [`OBJECT_KEY_MARK`] is written bare.

#![warn(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects
)]

use std::io;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::ser::{CharEscape, Formatter};

use super::json_scan::{DEPTH_MAX, JsonError, Scanner};

/// First character of a map key that is the JSON text of an object.
pub const OBJECT_KEY_MARK: char = '\u{1}';
const MARK_ESCAPE: u8 = 1;

/// The body is not what the request needs.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Not JSON, not even fastjson's.
    #[error("the body is malformed: {0}")]
    Malformed(#[from] JsonError),
    /// Not UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// JSON with other members or types.
    #[error("the body is not what was expected: {0}")]
    Unexpected(#[from] serde_json::Error),
}

/// How maps with numeric keys are written. Every reader we know takes both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumericKeys {
    /// `{"0":…}`: JSON.
    Quoted,
    /// `{0:…}`: what Java sends to clients below 4.9.4.
    Bare,
}

/// Reads `text`, JSON or fastjson's form of it.
pub fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, BodyError> {
    if let Ok(value) = serde_json::from_slice(text) {
        return Ok(value);
    }
    Ok(serde_json::from_str(&to_standard(text)?)?)
}

/// Writes `value` with bare object keys and quoted numeric keys.
pub fn to_vec(value: &impl Serialize) -> Vec<u8> {
    to_vec_with(value, NumericKeys::Quoted)
}

/// Writes `value` with bare object keys.
///
/// # Panics
/// When a map in `value` has keys that are neither strings nor numbers: a mistake in its type.
pub fn to_vec_with(value: &impl Serialize, numeric: NumericKeys) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut out, Fastjson { numeric, key: Key::Outside });
    value.serialize(&mut serializer).expect("bodies have string, number or marked keys");
    out
}

/// Quotes bare keys and drops null members. At most twice as long as `text`, because an object
/// key must not contain another one.
fn to_standard(text: &[u8]) -> Result<String, BodyError> {
    let text = std::str::from_utf8(text).map_err(|_| BodyError::NotUtf8)?;
    let mut normaliser = Normaliser {
        text,
        scanner: Scanner::new(text),
        out: String::with_capacity(text.len().saturating_add(text.len() / 8)),
        in_key: false,
    };
    normaliser.value(DEPTH_MAX)?;
    normaliser.scanner.expect_end()?;
    Ok(normaliser.out)
}

struct Normaliser<'a> {
    text: &'a str,
    scanner: Scanner<'a>,
    out: String,
    in_key: bool,
}

impl Normaliser<'_> {
    /// `depth`: how many more containers may be open.
    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        match self.scanner.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string(),
            _ => {
                let scalar = self.scanner.scalar()?;
                self.out.push_str(if scalar == "NaN" { "0" } else { scalar });
                Ok(())
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        let depth = self.deeper(depth)?;
        self.scanner.expect(b'{', "'{'")?;
        self.out.push('{');
        let mut written = false;
        if self.scanner.take(b'}') {
            self.out.push('}');
            return Ok(());
        }
        loop {
            let before = self.out.len();
            if written {
                self.out.push(',');
            }
            self.key(depth)?;
            self.scanner.expect(b':', "':'")?;
            self.out.push(':');
            let value = self.out.len();
            self.value(depth)?;
            if self.out.get(value..) == Some("null") {
                self.out.truncate(before);
            } else {
                written = true;
            }
            if !self.scanner.take(b',') {
                self.scanner.expect(b'}', "',' or '}'")?;
                self.out.push('}');
                return Ok(());
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        let depth = self.deeper(depth)?;
        self.scanner.expect(b'[', "'['")?;
        self.out.push('[');
        if self.scanner.take(b']') {
            self.out.push(']');
            return Ok(());
        }
        loop {
            self.value(depth)?;
            if !self.scanner.take(b',') {
                self.scanner.expect(b']', "',' or ']'")?;
                self.out.push(']');
                return Ok(());
            }
            self.out.push(',');
        }
    }

    fn key(&mut self, depth: usize) -> Result<(), JsonError> {
        match self.scanner.peek() {
            Some(b'"') => self.string(),
            Some(b'{') => self.object_key(depth),
            _ => {
                let scalar = self.scanner.scalar()?;
                self.out.push('"');
                self.out.push_str(scalar);
                self.out.push('"');
                Ok(())
            }
        }
    }

    fn object_key(&mut self, depth: usize) -> Result<(), JsonError> {
        if std::mem::replace(&mut self.in_key, true) {
            return self.scanner.fail("a key that is not an object");
        }
        let around = std::mem::take(&mut self.out);
        self.object(depth)?;
        let key = std::mem::replace(&mut self.out, around);
        self.in_key = false;
        self.out.push('"');
        for character in key.chars() {
            if matches!(character, '"' | '\\') {
                self.out.push('\\');
            }
            self.out.push(character);
        }
        self.out.push('"');
        Ok(())
    }

    fn string(&mut self) -> Result<(), JsonError> {
        let raw = self.scanner.string()?;
        self.out.push('"');
        self.out.push_str(self.text.get(raw.range).unwrap_or_default());
        self.out.push('"');
        Ok(())
    }

    fn deeper(&self, depth: usize) -> Result<usize, JsonError> {
        match depth.checked_sub(1) {
            Some(depth) => Ok(depth),
            None => self.scanner.fail("fewer nested containers"),
        }
    }
}

/// Writes keys as fastjson does, everything else as `serde_json`.
struct Fastjson {
    numeric: NumericKeys,
    key: Key,
}

/// Where in a map key the writer is. `serde_json` writes a key as `begin_string`, fragments and
/// escapes or one number, `end_string`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Outside,
    /// Nothing of the key is written yet, not even a quote.
    Start,
    Quoted,
    /// A numeric key or an object's text, without quotes.
    Bare,
}

impl Fastjson {
    fn quote_once<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.key == Key::Start {
            self.key = Key::Quoted;
            writer.write_all(b"\"")?;
        }
        Ok(())
    }

    fn number<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        value: impl std::fmt::Display,
    ) -> io::Result<()> {
        if self.key == Key::Start {
            match self.numeric {
                NumericKeys::Quoted => self.quote_once(writer)?,
                NumericKeys::Bare => self.key = Key::Bare,
            }
        }
        write!(writer, "{value}")
    }
}

impl Formatter for Fastjson {
    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.key = Key::Start;
        if first { Ok(()) } else { writer.write_all(b",") }
    }

    fn end_object_key<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.key = Key::Outside;
        Ok(())
    }

    fn begin_string<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.key == Key::Start { Ok(()) } else { writer.write_all(b"\"") }
    }

    fn end_string<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.quote_once(writer)?; // an empty key
        if self.key == Key::Bare { Ok(()) } else { writer.write_all(b"\"") }
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        self.quote_once(writer)?;
        writer.write_all(fragment.as_bytes())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        match (self.key, &escape) {
            (Key::Start, CharEscape::AsciiControl(MARK_ESCAPE)) => {
                self.key = Key::Bare;
                Ok(())
            }
            (Key::Bare, CharEscape::Quote) => writer.write_all(b"\""),
            (Key::Bare, CharEscape::ReverseSolidus) => writer.write_all(b"\\"),
            _ => {
                self.quote_once(writer)?;
                serde_json::ser::CompactFormatter.write_char_escape(writer, escape)
            }
        }
    }

    fn write_i32<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: i32) -> io::Result<()> {
        self.number(writer, value)
    }

    fn write_i64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        self.number(writer, value)
    }

    fn write_u32<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: u32) -> io::Result<()> {
        self.number(writer, value)
    }

    fn write_u64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        self.number(writer, value)
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bare_keys_are_quoted_and_nulls_dropped() {
        let rows = [
            (r#"{1:2,-3:"x"}"#, Some(r#"{"1":2,"-3":"x"}"#)),
            (r#"{ a : null , "b" : [ null , {} ] }"#, Some(r#"{"b":[null,{}]}"#)),
            (r#"{"a":null,"b":null}"#, Some("{}")),
            (
                r#"{"m":{{"b":"x\"y","q":0}:{1:2}}}"#,
                Some(r#"{"m":{"{\"b\":\"x\\\"y\",\"q\":0}":{"1":2}}}"#),
            ),
            (r#"{{{"a":1}:2}:3}"#, None),
            ("{1}", None),
            ("{1:2", None),
            ("[1,]", None),
            ("1 2", None),
            ("", None),
        ];
        for (text, want) in rows {
            assert_eq!(to_standard(text.as_bytes()).ok().as_deref(), want, "{text}");
        }
    }

    #[test]
    fn numeric_keys_are_written_as_asked() {
        let map = BTreeMap::from([(0_u64, "a"), (12, "\"")]);
        assert_eq!(to_vec(&map), br#"{"0":"a","12":"\""}"#);
        assert_eq!(to_vec_with(&map, NumericKeys::Bare), br#"{0:"a",12:"\""}"#);
        let texts = BTreeMap::from([("0", 1), ("", 2)]);
        assert_eq!(to_vec_with(&texts, NumericKeys::Bare), br#"{"":2,"0":1}"#);
    }

    #[test]
    fn marked_keys_are_written_as_objects() {
        let map = BTreeMap::from([("\u{1}{\"b\":\"x\\\"y\"}", 1), ("plain\n\"", 2)]);
        assert_eq!(to_vec(&map), br#"{{"b":"x\"y"}:1,"plain\n\"":2}"#);
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = "{a:".repeat(100_000) + "1" + &"}".repeat(100_000);
        assert!(to_standard(nested.as_bytes()).is_err());
        let nested = "{a:".repeat(DEPTH_MAX) + "1" + &"}".repeat(DEPTH_MAX);
        assert!(to_standard(nested.as_bytes()).is_ok());
    }

    fn nested() -> impl Strategy<Value = BTreeMap<u64, (String, i64)>> {
        prop::collection::btree_map(any::<u64>(), any::<(String, i64)>(), 0..5)
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in r#"[\[\]{}":,\\0-9a-n ]{0,60}"#) {
            if let Ok(standard) = to_standard(text.as_bytes()) {
                prop_assert!(standard.len() <= 2 * text.len() + 2);
            }
        }

        #[test]
        fn standard_json_stays_what_it_is(
            map in prop::collection::btree_map(any::<String>(), nested(), 0..5),
        ) {
            let standard = to_vec(&map);
            prop_assert_eq!(&serde_json::to_vec(&map).unwrap(), &standard);
            prop_assert_eq!(to_standard(&standard).unwrap().into_bytes(), standard);
            let bare = to_vec_with(&map, NumericKeys::Bare);
            prop_assert_eq!(from_slice::<BTreeMap<_, _>>(&bare).unwrap(), map);
        }
    }
}
