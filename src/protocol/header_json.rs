//! The JSON header: `{"code":0,"extFields":{…},"flag":1,…}`.
//!
//! Reading is tolerant as Java's and older clients' encodings need: any member order, unknown
//! members, `extFields` null or absent, numbers as strings, values of `extFields` as numbers or
//! booleans. Writing has Java's member order and leaves out what is null.

#![warn(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects
)]

use std::str::FromStr;

use bytes::{BufMut, BytesMut};

use super::{
    codes::LanguageCode,
    command::{DecodeError, RemotingCommand},
    decimal::put_i64,
    ext_fields::{ExtFields, Span},
    json_scan::{JsonError, RawString, Scanner, unescape},
};

/// Reads a header; the body stays empty.
pub(super) fn decode(header: &[u8]) -> Result<RemotingCommand, DecodeError> {
    let header = std::str::from_utf8(header).map_err(|_| DecodeError::NotUtf8)?;
    let mut command = RemotingCommand { ext: ExtFields::over(header), ..Default::default() };
    let mut scanner = Scanner::new(header);
    let mut members = Members::open(&mut scanner)?;
    while let Some(key) = members.next(&mut scanner)? {
        match header.get(key.range).unwrap_or_default() {
            "code" => command.code = number(header, &mut scanner)?,
            "extFields" => ext_fields(header, &mut scanner, &mut command.ext)?,
            "flag" => command.flag = number(header, &mut scanner)?,
            "language" => command.language = language(header, &mut scanner)?,
            "opaque" => command.opaque = number(header, &mut scanner)?,
            "remark" => command.remark = text(header, &mut scanner)?,
            "version" => command.version = number(header, &mut scanner)?,
            _ => {
                scanner.value()?;
            }
        }
    }
    scanner.expect_end()?;
    Ok(command)
}

/// The members of one object, key by key; between two keys the caller takes the value.
struct Members {
    first: bool,
}

impl Members {
    fn open(scanner: &mut Scanner<'_>) -> Result<Self, JsonError> {
        scanner.expect(b'{', "'{'")?;
        Ok(Self { first: true })
    }

    #[inline(always)] // for each field of every request
    fn next(&mut self, scanner: &mut Scanner<'_>) -> Result<Option<RawString>, JsonError> {
        if let Some(range) = scanner.plain_name(self.first) {
            self.first = false;
            return Ok(Some(RawString { range, escaped: false }));
        }
        self.next_of_any_form(scanner)
    }

    fn next_of_any_form(
        &mut self,
        scanner: &mut Scanner<'_>,
    ) -> Result<Option<RawString>, JsonError> {
        if scanner.take(b'}') {
            return Ok(None);
        }
        if !std::mem::take(&mut self.first) {
            scanner.expect(b',', "',' or '}'")?;
        }
        let key = scanner.string()?;
        scanner.expect(b':', "':'")?;
        Ok(Some(key))
    }
}

fn ext_fields(
    header: &str,
    scanner: &mut Scanner<'_>,
    ext: &mut ExtFields,
) -> Result<(), DecodeError> {
    if scanner.peek() == Some(b'n') {
        scanner.scalar()?;
        return Ok(());
    }
    let mut members = Members::open(scanner)?;
    while let Some(key) = members.next(scanner)? {
        let value = match scanner.peek() {
            Some(b'"') => scanner.string()?,
            Some(b'n') => {
                scanner.scalar()?;
                continue; // a null is as good as absent
            }
            // A number, a boolean, or (from nobody we know) a container: its text.
            _ => RawString { range: scanner.value()?, escaped: false },
        };
        let name = content(header, key, ext)?;
        let value = content(header, value, ext)?;
        if !ext.push_spans(name, value) {
            return Err(DecodeError::TooManyFields);
        }
    }
    ext.show_empty();
    Ok(())
}

/// Where the content of a string is: in the header itself, or unescaped behind it.
fn content(header: &str, raw: RawString, ext: &mut ExtFields) -> Result<Span, JsonError> {
    if !raw.escaped {
        return Ok(raw.range.into());
    }
    let side = ext.side_text();
    let start = side.len();
    unescape(header.get(raw.range).unwrap_or_default(), side)?;
    Ok((start..side.len()).into())
}

fn number<T: TryFrom<i64> + FromStr + Default>(
    header: &str,
    scanner: &mut Scanner<'_>,
) -> Result<T, DecodeError> {
    let at = scanner.at();
    if let Some(value) = scanner.plain_integer() {
        let value = value.try_into();
        return value.map_err(|_| DecodeError::Json(JsonError { at, expected: "a number" }));
    }
    let text = match scanner.peek() {
        Some(b'"') => header.get(scanner.string()?.range).unwrap_or_default(),
        _ => scanner.scalar()?,
    };
    if text == "null" {
        return Ok(T::default());
    }
    text.parse().map_err(|_| DecodeError::Json(JsonError { at, expected: "a number" }))
}

fn language(header: &str, scanner: &mut Scanner<'_>) -> Result<LanguageCode, DecodeError> {
    if scanner.peek() == Some(b'"') {
        let name = header.get(scanner.string()?.range).unwrap_or_default();
        return Ok(LanguageCode::by_name(name).unwrap_or(LanguageCode::OTHER));
    }
    let code = scanner.scalar()?.parse().ok().map(LanguageCode);
    Ok(code.filter(|code| code.name().is_some()).unwrap_or(LanguageCode::OTHER))
}

fn text(header: &str, scanner: &mut Scanner<'_>) -> Result<Option<String>, DecodeError> {
    if scanner.peek() != Some(b'"') {
        let range = scanner.value()?;
        let text = header.get(range).filter(|text| *text != "null");
        return Ok(text.map(str::to_owned));
    }
    let raw = header.get(scanner.string()?.range).unwrap_or_default();
    let mut content = String::with_capacity(raw.len());
    unescape(raw, &mut content)?;
    Ok(Some(content))
}

/// Writes the header of `command`.
pub(super) fn encode(command: &RemotingCommand, out: &mut BytesMut) {
    out.put_slice(b"{\"code\":");
    put_i64(out, command.code.into());
    if command.ext.is_shown() {
        out.put_slice(b",\"extFields\":{");
        for (index, (name, value)) in command.ext.iter().enumerate() {
            if index > 0 {
                out.put_u8(b',');
            }
            put_string(out, name);
            out.put_u8(b':');
            put_string(out, value);
        }
        out.put_u8(b'}');
    }
    out.put_slice(b",\"flag\":");
    put_i64(out, command.flag.into());
    out.put_slice(b",\"language\":");
    put_string(out, command.language.wire_name());
    out.put_slice(b",\"opaque\":");
    put_i64(out, command.opaque.into());
    if let Some(remark) = &command.remark {
        out.put_slice(b",\"remark\":");
        put_string(out, remark);
    }
    out.put_slice(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
    put_i64(out, command.version.into());
    out.put_u8(b'}');
}

/// Writes `text` with its quotes, escaped as Java does.
pub(super) fn put_string(out: &mut BytesMut, text: &str) {
    let is_special = |b: u8| (b < 0x20) | (b == b'"') | (b == b'\\');
    out.put_u8(b'"');
    let mut rest = text;
    // Almost never, so all is looked at first, without a branch per byte: many bytes at once.
    if rest.bytes().fold(false, |found, b| found | is_special(b)) {
        while let Some(at) = rest.bytes().position(is_special) {
            let (plain, special) = rest.split_at(at);
            out.put_slice(plain.as_bytes());
            let byte = special.bytes().next().unwrap_or_default();
            put_escape(out, byte);
            rest = special.get(1..).unwrap_or_default();
        }
    }
    out.put_slice(rest.as_bytes());
    out.put_u8(b'"');
}

fn put_escape(out: &mut BytesMut, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.put_slice(&[b'\\', byte]),
        0x08 => out.put_slice(b"\\b"),
        b'\t' => out.put_slice(b"\\t"),
        b'\n' => out.put_slice(b"\\n"),
        0x0c => out.put_slice(b"\\f"),
        b'\r' => out.put_slice(b"\\r"),
        _ => {
            let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
            out.put_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}
