//! Java properties text → pairs with line numbers. Pure.
//!
//! The syntax of `java.util.Properties.load`: `#` or `!` starts a comment line, a key ends at the
//! first unescaped `=`, `:` or blank, a backslash at the end of a line continues it, and
//! `\t \n \r \f \uXXXX` are escapes. Unlike Java: a byte order mark is skipped, and blanks
//! at the end of a value are dropped, because in Java they turn `true ` into false.

use std::{iter::Peekable, str::Chars};

/// One setting as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Line on which the key stands, from 1.
    pub line: u32,
    /// Key, escapes resolved.
    pub key: String,
    /// Value, escapes resolved, without blanks around it. Empty if there is none.
    pub value: String,
}

/// A line that is no setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The line, from 1.
    pub line: u32,
    /// What is wrong with it.
    pub what: &'static str,
}

/// The settings of a text in their order, and the lines that cannot be read.
pub fn parse(text: &str) -> (Vec<Pair>, Vec<Malformed>) {
    let (mut pairs, mut malformed) = (Vec::new(), Vec::new());
    for (line, logical) in logical_lines(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        match pair(line, &logical) {
            Ok(pair) => pairs.push(pair),
            Err(what) => malformed.push(Malformed { line, what }),
        }
    }
    (pairs, malformed)
}

/// The file's bytes as text: UTF-8, or ISO-8859-1 (what Java reads) if they are not.
pub fn decode(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes)
        .map_or_else(|_| bytes.iter().map(|&b| char::from(b)).collect(), str::to_owned)
}

const BLANKS: [char; 3] = [' ', '\t', '\u{c}'];

/// Lines with their continuations joined, without comments and empty lines.
fn logical_lines(text: &str) -> Vec<(u32, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(u32, String)> = None;
    for (number, natural) in (1..).zip(natural_lines(text)) {
        let natural = natural.trim_start_matches(BLANKS);
        if open.is_none() && (natural.is_empty() || natural.starts_with(['#', '!'])) {
            continue;
        }
        let (start, mut joined) = open.take().unwrap_or((number, String::new()));
        let continues = natural.bytes().rev().take_while(|&b| b == b'\\').count() % 2 == 1;
        joined.push_str(if continues { &natural[..natural.len() - 1] } else { natural });
        if continues {
            open = Some((start, joined));
        } else {
            lines.push((start, joined));
        }
    }
    lines.extend(open);
    lines
}

/// Lines end with LF, CR or CRLF.
fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

fn pair(line: u32, logical: &str) -> Result<Pair, &'static str> {
    let mut rest = logical.chars().peekable();
    let mut key = String::new();
    while let Some(c) = rest.next_if(|c| !BLANKS.contains(c) && !matches!(c, '=' | ':')) {
        push_unescaped(&mut key, c, &mut rest)?;
    }
    skip_blanks(&mut rest);
    if rest.next_if(|c| matches!(c, '=' | ':')).is_some() {
        skip_blanks(&mut rest);
    }
    let mut value = String::new();
    while let Some(c) = rest.next() {
        push_unescaped(&mut value, c, &mut rest)?;
    }
    if key.is_empty() {
        return Err("there is no key before the separator");
    }
    let value = value.trim_matches(|c: char| c.is_whitespace()).to_owned();
    Ok(Pair { line, key, value })
}

fn skip_blanks(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|c| BLANKS.contains(c)).is_some() {}
}

fn push_unescaped(
    out: &mut String,
    c: char,
    rest: &mut Peekable<Chars<'_>>,
) -> Result<(), &'static str> {
    if c != '\\' {
        out.push(c);
        return Ok(());
    }
    match rest.next() {
        Some('t') => out.push('\t'),
        Some('n') => out.push('\n'),
        Some('r') => out.push('\r'),
        Some('f') => out.push('\u{c}'),
        Some('u') => out.push(unicode_escape(rest)?),
        Some(other) => out.push(other),
        None => {}
    }
    Ok(())
}

/// `\uXXXX`, or two of them for a character beyond the first 65,536.
fn unicode_escape(rest: &mut Peekable<Chars<'_>>) -> Result<char, &'static str> {
    const HALF: &str = "half of a surrogate pair in `\\u`";
    let first = utf16_unit(rest)?;
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first).ok_or(HALF);
    }
    if rest.next() != Some('\\') || rest.next() != Some('u') {
        return Err(HALF);
    }
    let second = utf16_unit(rest)?;
    if !(0xdc00..0xe000).contains(&second) {
        return Err(HALF);
    }
    char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or(HALF)
}

fn utf16_unit(rest: &mut Peekable<Chars<'_>>) -> Result<u32, &'static str> {
    (0..4).try_fold(0, |sum, _| {
        let digit = rest.next().and_then(|c| c.to_digit(16));
        digit
            .map(|digit| sum * 16 + digit)
            .ok_or("`\\u` must be followed by four hexadecimal digits")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (&'static str, &'static [(u32, &'static str, &'static str)]);

    /// The right side is what `java.util.Properties.load` of JDK 17 made of the left side, except
    /// for blanks at the end of a value, which we drop.
    #[test]
    fn pairs_are_those_java_reads() {
        let rows: &[Row] = &[
            ("a=1", &[(1, "a", "1")]),
            ("a = 1", &[(1, "a", "1")]),
            ("a:1", &[(1, "a", "1")]),
            ("a 1", &[(1, "a", "1")]),
            ("  a\t=\t1  ", &[(1, "a", "1")]),
            ("a", &[(1, "a", "")]),
            ("a=", &[(1, "a", "")]),
            ("a==1", &[(1, "a", "=1")]),
            ("a=b=c", &[(1, "a", "b=c")]),
            ("a\\ b=c", &[(1, "a b", "c")]),
            ("a\\=b=c", &[(1, "a=b", "c")]),
            ("a\\:b:c", &[(1, "a:b", "c")]),
            ("# x\n! y\n  # z\na=1", &[(4, "a", "1")]),
            ("a=1\\\n  2\\\n\t3\nb=4", &[(1, "a", "123"), (4, "b", "4")]),
            ("a=1\\\\\nb=2", &[(1, "a", "1\\"), (2, "b", "2")]),
            ("a=x\\\n# no comment\nb=1", &[(1, "a", "x# no comment"), (3, "b", "1")]),
            ("a=\\u4e2d\\t|\\q|", &[(1, "a", "中\t|q|")]),
            ("a=1\r\nb=2\rc=3", &[(1, "a", "1"), (2, "b", "2"), (3, "c", "3")]),
            ("a=\\", &[(1, "a", "")]),
            ("\\u0061=1", &[(1, "a", "1")]),
            ("a\\\n b=1", &[(1, "ab", "1")]),
            ("a   =   b   c", &[(1, "a", "b   c")]),
            ("a=\\ud83d\\ude00", &[(1, "a", "😀")]),
            ("a\u{c}b", &[(1, "a", "b")]),
            ("\u{feff}a=1", &[(1, "a", "1")]), // Java damages the first key
            ("", &[]),
            ("\n\n \t\n", &[]),
        ];
        for (text, want) in rows {
            let (got, malformed) = parse(text);
            assert_eq!(malformed, [], "{text:?}");
            let got: Vec<_> =
                got.iter().map(|p| (p.line, p.key.as_str(), p.value.as_str())).collect();
            assert_eq!(got, *want, "{text:?}");
        }
    }

    #[test]
    fn lines_that_are_no_setting_are_named() {
        for text in ["x=1\n=2", "x=1\na=\\u12", "x=1\na=\\ud83d", "x=1\na=\\ud83d\\u0041"] {
            let (pairs, malformed) = parse(text);
            assert_eq!((pairs.len(), malformed[0].line), (1, 2), "{text:?}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_latin_1() {
        assert_eq!(decode("# 中文\na=1".as_bytes()), "# 中文\na=1");
        assert_eq!(decode(b"# caf\xe9\na=1"), "# café\na=1");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a=:#!\\\\u0-9 \t\r\n\u{c}]{0,60}") {
            let lines = u32::try_from(natural_lines(&text).count()).unwrap();
            let (pairs, malformed) = parse(&text);
            assert!(pairs.iter().all(|p| p.line <= lines && !p.key.is_empty()));
            assert!(malformed.iter().all(|m| m.line <= lines));
        }
    }
}
