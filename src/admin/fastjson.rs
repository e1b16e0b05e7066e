//! JSON as Java's tools print it for people: tabs, no blank behind colons, broker ids as bare keys.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// `value` on several lines, without a last line end.
///
/// # Panics
/// When a map in `value` has keys that are neither strings nor numbers: a mistake in its type.
pub(super) fn pretty(value: &impl Serialize) -> String {
    let mut out = Vec::new();
    let format = Tabbed { pretty: PrettyFormatter::with_indent(b"\t"), key: Key::Outside };
    let mut serializer = Serializer::with_formatter(&mut out, format);
    value.serialize(&mut serializer).expect("bodies have string or number keys");
    String::from_utf8_lossy(&out).into_owned()
}

struct Tabbed<'a> {
    pretty: PrettyFormatter<'a>,
    key: Key,
}

/// Where in a map key the writer is. A key is `begin_string`, text or one number, `end_string`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Outside,
    /// Nothing of it is written yet, not even a quote.
    Start,
    Quoted,
    /// It is a number.
    Bare,
}

impl Tabbed<'_> {
    fn quote_once<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.key == Key::Start {
            self.key = Key::Quoted;
            writer.write_all(b"\"")?;
        }
        Ok(())
    }
}

impl Formatter for Tabbed<'_> {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.pretty.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.key = Key::Start;
        self.pretty.begin_object_key(writer, first)
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.key = Key::Outside;
        Ok(())
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b":")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_object_value(writer)
    }

    fn begin_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.key == Key::Start { Ok(()) } else { writer.write_all(b"\"") }
    }

    fn end_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.quote_once(writer)?; // an empty key
        if self.key == Key::Bare { Ok(()) } else { writer.write_all(b"\"") }
    }

    fn write_u64<W: ?Sized + Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        if self.key == Key::Start {
            self.key = Key::Bare;
        }
        write!(writer, "{value}")
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        self.quote_once(writer)?;
        writer.write_all(fragment.as_bytes())
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        escape: serde_json::ser::CharEscape,
    ) -> io::Result<()> {
        self.quote_once(writer)?;
        self.pretty.write_char_escape(writer, escape)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn text_has_the_form_of_fastjson() {
        let map = BTreeMap::from([("a\"b", vec![1, 2]), ("empty", vec![])]);
        assert_eq!(pretty(&map), "{\n\t\"a\\\"b\":[\n\t\t1,\n\t\t2\n\t],\n\t\"empty\":[]\n}");
        let numbers = BTreeMap::from([(0_u64, "x"), (1, "")]);
        assert_eq!(pretty(&numbers), "{\n\t0:\"x\",\n\t1:\"\"\n}");
        assert_eq!(pretty(&BTreeMap::<String, u8>::new()), "{}");
        assert_eq!(pretty(&BTreeMap::from([("", 1)])), "{\n\t\"\":1\n}");
    }
}
