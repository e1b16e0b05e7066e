//! A command: request or response, header and body.

#![warn(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects
)]

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    codes::{LanguageCode, RequestCode, ResponseCode},
    ext_fields::ExtFields,
    header_binary, header_json,
    json_scan::JsonError,
    version,
};

/// Bit of `flag`: this is a response.
pub const FLAG_RESPONSE: i32 = 1;
/// Bit of `flag`: the sender does not want a response, not even an error.
pub const FLAG_ONEWAY: i32 = 2;
/// Longest remark that is sent, in bytes. Remarks may quote what a peer sent.
pub const REMARK_BYTES_MAX: usize = 4096;

const TYPE_JSON: u8 = 0;
const TYPE_BINARY: u8 = 1;
const HEADER_BYTES_MAX: usize = 0xFF_FFFF; // 24 bits
/// Of a header, beyond twice the length of its body, that is kept as long as the body is.
const HEADER_BYTES_KEPT: usize = 1024;
/// Length field and header length: what stands before the header.
const PREFIX_BYTES: usize = 8;

/// The frame is not a command: the connection is closed, nothing is answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A length points beyond the end.
    #[error("a length in the header points beyond its end")]
    Truncated,
    /// Neither a JSON nor a binary header.
    #[error("unknown header encoding {0}")]
    SerializeType(u8),
    /// Text that is not UTF-8.
    #[error("the header is not UTF-8")]
    NotUtf8,
    /// The JSON header is malformed.
    #[error("the JSON header is malformed: {0}")]
    Json(#[from] JsonError),
    /// More than [`super::ext_fields::FIELDS_MAX`] fields.
    #[error("more than {max} fields in the header", max = super::ext_fields::FIELDS_MAX)]
    TooManyFields,
}

/// A request or a response.
#[derive(Debug, Clone, PartialEq)]
pub struct RemotingCommand {
    /// [`RequestCode`] of a request, [`ResponseCode`] of a response.
    pub code: i32,
    /// What the sender is written in.
    pub language: LanguageCode,
    /// Release of the sender, see [`version`].
    pub version: i32,
    /// Chosen by the requester, copied into the response.
    pub opaque: i32,
    /// [`FLAG_RESPONSE`], [`FLAG_ONEWAY`].
    pub flag: i32,
    /// What went wrong, for people.
    pub remark: Option<String>,
    /// Typed header fields as text.
    pub ext: ExtFields,
    /// Everything behind the header.
    pub body: Bytes,
}

impl Default for RemotingCommand {
    /// What a decoder starts from: all numbers 0, Java.
    fn default() -> Self {
        Self {
            code: 0,
            language: LanguageCode::JAVA,
            version: 0,
            opaque: 0,
            flag: 0,
            remark: None,
            ext: ExtFields::new(),
            body: Bytes::new(),
        }
    }
}

impl RemotingCommand {
    /// A request; whoever sends it sets `opaque`.
    pub fn request(code: RequestCode) -> Self {
        Self { code: code.0, version: version::CURRENT, ..Self::default() }
    }

    /// A response; see [`Self::answering`].
    pub fn response(code: ResponseCode) -> Self {
        Self { code: code.0, version: version::CURRENT, flag: FLAG_RESPONSE, ..Self::default() }
    }

    /// A response that says what went wrong. Remarks beyond [`REMARK_BYTES_MAX`] are cut.
    pub fn error(code: ResponseCode, remark: impl Into<String>) -> Self {
        Self::response(code).with_remark(remark)
    }

    /// The same, as the answer to the request with this `opaque`.
    #[must_use]
    pub fn answering(mut self, request_opaque: i32) -> Self {
        self.opaque = request_opaque;
        self
    }

    /// The same, executed by the receiver without an answer.
    #[must_use]
    pub fn oneway(mut self) -> Self {
        self.flag |= FLAG_ONEWAY;
        self
    }

    /// The same with one more field.
    #[must_use]
    pub fn with_field(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.ext.push(name, value);
        self
    }

    /// The same with this body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The same with this remark, cut to [`REMARK_BYTES_MAX`].
    #[must_use]
    pub fn with_remark(mut self, remark: impl Into<String>) -> Self {
        let mut remark = remark.into();
        remark.truncate(remark.floor_char_boundary(REMARK_BYTES_MAX));
        self.remark = Some(remark);
        self
    }

    /// Whether this answers a request.
    pub fn is_response(&self) -> bool {
        self.flag & FLAG_RESPONSE != 0
    }

    /// Whether the sender wants no answer.
    pub fn is_oneway(&self) -> bool {
        self.flag & FLAG_ONEWAY != 0
    }

    /// The code as that of a request, for matching and logs.
    pub fn request_code(&self) -> RequestCode {
        RequestCode(self.code)
    }

    /// The code as that of a response, for matching and logs.
    pub fn response_code(&self) -> ResponseCode {
        ResponseCode(self.code)
    }

    /// Reads a frame (without its length field), in either header encoding. The body shares the
    /// frame's memory.
    pub fn decode(mut frame: Bytes) -> Result<Self, DecodeError> {
        let prefix = frame.first_chunk::<4>().ok_or(DecodeError::Truncated)?;
        let [encoding, high, middle, low] = *prefix;
        let header_bytes = usize::try_from(u32::from_be_bytes([0, high, middle, low]))
            .map_err(|_| DecodeError::Truncated)?;
        frame.advance(4);
        let header = frame.get(..header_bytes).ok_or(DecodeError::Truncated)?;
        let command = match encoding {
            TYPE_JSON => header_json::decode(header)?,
            TYPE_BINARY => header_binary::decode(header)?,
            other => return Err(DecodeError::SerializeType(other)),
        };
        frame.advance(header_bytes);
        // Who keeps the body keeps the frame: not a header of megabytes for a few bytes.
        let kept = frame.len().saturating_mul(2).saturating_add(HEADER_BYTES_KEPT);
        let is_small = header_bytes > kept;
        let body = if is_small { Bytes::copy_from_slice(&frame) } else { frame };
        Ok(Self { body, ..command })
    }

    /// Writes length and header of a frame whose body, of `body_bytes`, follows separately.
    ///
    /// A header that does not fit its 24-bit length (somebody stored a value of 16 MiB and now
    /// asks for it) is replaced by an error that says so.
    pub fn encode_head(&self, body_bytes: usize, out: &mut BytesMut) {
        let start = out.len();
        let header_bytes = encode_framed(out, body_bytes, |out| header_json::encode(self, out));
        if header_bytes > HEADER_BYTES_MAX {
            out.truncate(start);
            let remark = format!("the header of the answer would take {header_bytes} bytes");
            let error = Self::error(ResponseCode::SYSTEM_ERROR, remark).answering(self.opaque);
            encode_framed(out, body_bytes, |out| header_json::encode(&error, out));
        }
    }

    /// Writes the whole frame.
    pub fn encode(&self, out: &mut BytesMut) {
        self.encode_head(self.body.len(), out);
        out.put_slice(&self.body);
    }
}

/// Writes what stands before a header, the JSON header that `header` writes, and its lengths.
/// Returns the length of the header, which must fit 24 bits.
pub(super) fn encode_framed(
    out: &mut BytesMut,
    body_bytes: usize,
    header: impl FnOnce(&mut BytesMut),
) -> usize {
    let start = out.len();
    out.reserve(512);
    out.put_bytes(0, PREFIX_BYTES);
    header(out);
    let header_bytes = out.len().saturating_sub(start).saturating_sub(PREFIX_BYTES);
    let total = header_bytes.saturating_add(body_bytes).saturating_add(4);
    let [a, b, c, d] = u32::try_from(total).unwrap_or(u32::MAX).to_be_bytes();
    let [_, f, g, h] = u32::try_from(header_bytes).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(prefix) = out.get_mut(start..).and_then(|o| o.first_chunk_mut::<PREFIX_BYTES>()) {
        *prefix = [a, b, c, d, TYPE_JSON, f, g, h];
    }
    header_bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode_json(header: &str) -> Result<RemotingCommand, DecodeError> {
        let length = u32::try_from(header.len()).unwrap();
        let frame = [&length.to_be_bytes()[..], header.as_bytes(), b"body"].concat();
        RemotingCommand::decode(frame.into())
    }

    #[test]
    fn a_small_body_does_not_keep_a_large_header() {
        for (header_bytes, body_bytes, keeps) in
            [(900, 10, true), (3_000, 10, false), (3_000, 1_000, true), (1 << 20, 1_000, false)]
        {
            let padding = "x".repeat(header_bytes - 50);
            let header = format!("{{\"code\":310,\"extFields\":{{\"a\":\"{padding}\"}}}}");
            let length = u32::try_from(header.len()).unwrap().to_be_bytes();
            let body = vec![7; body_bytes];
            let frame = Bytes::from([&length, header.as_bytes(), &body].concat());
            let command = RemotingCommand::decode(frame.clone()).unwrap();
            assert_eq!(command.body, body);
            assert_eq!(frame.is_unique(), !keeps, "{header_bytes} {body_bytes}");
        }
    }

    #[test]
    fn headers_are_read_with_the_tolerance_that_old_clients_need() {
        let want = RemotingCommand {
            code: 34,
            opaque: -7,
            flag: 2,
            version: 317,
            language: LanguageCode::GO,
            body: Bytes::from_static(b"body"),
            ..Default::default()
        };
        let rows = [
            r#"{"code":34,"language":"GO","version":317,"opaque":-7,"flag":2}"#,
            r#"{"version":317,"flag":2,"opaque":-7,"language":"GO","code":34,"extFields":null}"#,
            r#" { "code" : "34" , "language":9, "version":"317","opaque":"-7","flag":"2" } "#,
            r#"{"code":34,"language":"GO","x":{"y":[1,{}]},"version":317,"opaque":-7,"flag":2,
               "remark":null,"serializeTypeCurrentRPC":"JSON","extFields":{}}"#,
        ];
        for header in rows {
            assert_eq!(decode_json(header).as_ref(), Ok(&want), "{header}");
        }
    }

    #[test]
    fn values_of_fields_may_be_numbers_booleans_null_or_escaped() {
        let command =
            decode_json(r#"{"extFields":{"a":1,"b":true,"c":null,"d":"x\u0001\n","\u0065":"e"}}"#);
        let command = command.unwrap();
        let got: Vec<_> = command.ext.iter().collect();
        assert_eq!(got, [("a", "1"), ("b", "true"), ("d", "x\u{1}\n"), ("e", "e")]);
    }

    #[test]
    fn unknown_languages_are_other() {
        for header in [r#"{"language":"KLINGON"}"#, r#"{"language":200}"#, r#"{"language":null}"#] {
            assert_eq!(decode_json(header).unwrap().language, LanguageCode::OTHER, "{header}");
        }
    }

    #[test]
    fn malformed_headers_are_refused() {
        let rows = [
            "",
            "{",
            "[]",
            "{}x",
            r#"{"code":1.5}"#,
            r#"{"code":99999999999}"#,
            r#"{"code":x}"#,
            r#"{"extFields":[]}"#,
            r#"{"extFields":{"a"}}"#,
            r#"{"a":1,}"#,
            r#"{"a":"\u00"#,
            r#"{"extFields":{"a":"\q"}}"#,
        ];
        for header in rows {
            assert!(decode_json(header).is_err(), "{header}");
        }
        assert_eq!(
            RemotingCommand::decode(Bytes::from_static(&[2, 0, 0, 0])),
            Err(DecodeError::SerializeType(2))
        );
        assert_eq!(
            RemotingCommand::decode(Bytes::from_static(&[0, 0, 0, 9, b'{', b'}'])),
            Err(DecodeError::Truncated)
        );
    }

    #[test]
    fn the_number_of_fields_is_bounded() {
        let header = |count: usize| {
            let fields: Vec<_> = (0..count).map(|i| format!("\"f{i}\":\"\"")).collect();
            format!("{{\"extFields\":{{{}}}}}", fields.join(","))
        };
        assert_eq!(decode_json(&header(256)).unwrap().ext.len(), 256);
        assert_eq!(decode_json(&header(257)), Err(DecodeError::TooManyFields));
    }

    #[test]
    fn long_remarks_are_cut_between_characters() {
        let command = RemotingCommand::error(ResponseCode::SYSTEM_ERROR, "ä".repeat(5000) + "x");
        assert_eq!(command.remark.map(|r| r.len()), Some(REMARK_BYTES_MAX));
        let command =
            RemotingCommand::error(ResponseCode::SYSTEM_ERROR, "x".to_owned() + &"ä".repeat(5000));
        assert_eq!(command.remark.map(|r| r.len()), Some(REMARK_BYTES_MAX - 1));
    }

    #[test]
    fn a_header_that_does_not_fit_becomes_an_error_with_the_same_opaque() {
        let command = RemotingCommand::response(ResponseCode::SUCCESS)
            .answering(5)
            .with_field("value", "x".repeat(HEADER_BYTES_MAX));
        let mut out = BytesMut::new();
        command.encode(&mut out);
        let frame = super::super::frame::next(&mut out, usize::MAX).unwrap().unwrap();
        let got = RemotingCommand::decode(frame).unwrap();
        assert_eq!((got.code, got.opaque, got.is_response()), (1, 5, true));
    }

    fn round_trip(command: &RemotingCommand) -> RemotingCommand {
        let mut out = BytesMut::new();
        command.encode(&mut out);
        let frame = super::super::frame::next(&mut out, usize::MAX).unwrap().unwrap();
        assert!(out.is_empty());
        RemotingCommand::decode(frame).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            (code, version, opaque, flag) in any::<(i32, i32, i32, i32)>(),
            language in 0_u8..14,
            remark in any::<Option<String>>(),
            fields in prop::collection::vec(any::<(String, String)>(), 0..20),
            body in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let mut ext = ExtFields::new();
            fields.iter().for_each(|(name, value)| ext.push(name, value));
            let language = LanguageCode(language);
            let command = RemotingCommand {
                code, language, version, opaque, flag, remark, ext, body: body.into(),
            };
            prop_assert_eq!(round_trip(&command), command);
        }

        #[test]
        fn arbitrary_frames_never_panic(frame in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = RemotingCommand::decode(frame.into());
        }

        #[test]
        fn arbitrary_headers_never_panic(
            encoding in 0_u8..2,
            header in prop::collection::vec(any::<u8>(), 0..200),
            text in r#"\{("(code|extFields|remark|x)":["{}:,a\\u0-9]{0,9},?){0,4}\}?"#,
        ) {
            for header in [&header[..], text.as_bytes()] {
                let length = u32::try_from(header.len()).unwrap() | u32::from(encoding) << 24;
                let frame = [&length.to_be_bytes()[..], header].concat();
                let _ = RemotingCommand::decode(frame.into());
            }
        }
    }
}
