//! The ROCKETMQ binary header. Java clients send it when told to; it is never answered in kind,
//! because every client reads the type of each frame and the codes of POP do not fit into it.

#![warn(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects
)]

use super::{
    codes::LanguageCode,
    command::{DecodeError, RemotingCommand},
    ext_fields::{ExtFields, FIELDS_MAX},
};

/// Reads a header; the body stays empty.
pub(super) fn decode(header: &[u8]) -> Result<RemotingCommand, DecodeError> {
    let mut reader = Reader(header);
    let code = i16::from_be_bytes(reader.array()?).into();
    let [language] = reader.array()?;
    let language = LanguageCode(language);
    let version = i16::from_be_bytes(reader.array()?).into();
    let opaque = i32::from_be_bytes(reader.array()?);
    let flag = i32::from_be_bytes(reader.array()?);
    let remark = match reader.length32()? {
        0 => None,
        bytes => Some(reader.text(bytes)?.to_owned()),
    };
    let ext_bytes = reader.length32()?;
    let ext = ext_fields(Reader(reader.bytes(ext_bytes)?))?;
    Ok(RemotingCommand {
        code,
        language: if language.name().is_some() { language } else { LanguageCode::OTHER },
        version,
        opaque,
        flag,
        remark,
        ext,
        ..Default::default()
    })
}

fn ext_fields(mut reader: Reader<'_>) -> Result<ExtFields, DecodeError> {
    let mut ext = ExtFields::new();
    while !reader.0.is_empty() {
        let name_bytes = u16::from_be_bytes(reader.array()?).into();
        let name = reader.text(name_bytes)?;
        let value_bytes = reader.length32()?;
        let value = reader.text(value_bytes)?;
        if ext.len() >= FIELDS_MAX {
            return Err(DecodeError::TooManyFields);
        }
        ext.push(name, value);
    }
    Ok(ext)
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// A 32-bit length; a negative one cannot be satisfied either.
    fn length32(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(i32::from_be_bytes(self.array()?)).map_err(|_| DecodeError::Truncated)
    }

    fn text(&mut self, count: usize) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(count)?).map_err(|_| DecodeError::NotUtf8)
    }
}
