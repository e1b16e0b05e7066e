//! A message as it is shown: as Java's `MessageExt.toString()`, and as JSON.

use std::{collections::BTreeMap, fmt, io::Read};

use serde::Serialize;

use crate::{
    admin::java_text,
    protocol::message::{Record, id::offset_msg_id, properties, sys_flag},
};

/// A body that is larger when decompressed is shown as it is stored.
const BODY_BYTES_MAX: u64 = 32 * 1024 * 1024;
const COMPRESSED_BY_LZ4: i32 = 0x100;
const COMPRESSED_BY_ZSTD: i32 = 0x200;

/// A message.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::admin) struct Shown {
    pub(in crate::admin) msg_id: String,
    pub(in crate::admin) offset_msg_id: String,
    pub(in crate::admin) topic: String,
    pub(in crate::admin) broker_name: String,
    pub(in crate::admin) queue_id: u32,
    pub(in crate::admin) queue_offset: u64,
    pub(in crate::admin) commit_log_offset: u64,
    pub(in crate::admin) store_size: usize,
    pub(in crate::admin) sys_flag: i32,
    pub(in crate::admin) flag: i32,
    pub(in crate::admin) born_timestamp: i64,
    pub(in crate::admin) born_host: String,
    pub(in crate::admin) store_timestamp: i64,
    pub(in crate::admin) store_host: String,
    #[serde(rename = "bodyCRC")]
    pub(in crate::admin) body_crc: u32,
    pub(in crate::admin) reconsume_times: i32,
    pub(in crate::admin) prepared_transaction_offset: i64,
    pub(in crate::admin) properties: BTreeMap<String, String>,
    /// The body, if it is text.
    #[serde(rename = "body")]
    text: Option<String>,
    /// The body in hexadecimal digits, if it is not.
    #[serde(rename = "bodyHex")]
    hex: Option<String>,
    #[serde(skip)]
    pub(in crate::admin) body: Vec<u8>,
    /// Bounds of the queue when the message was pulled: Java's clients make properties of them.
    #[serde(skip)]
    bounds: Option<(i64, i64)>,
}

impl Shown {
    /// The message that `record` is, from the broker group `broker_name`.
    pub(in crate::admin) fn of(
        record: &Record<'_>,
        broker_name: &str,
        bounds: Option<(i64, i64)>,
    ) -> Self {
        let properties = properties::iter(record.properties());
        let properties: BTreeMap<String, String> =
            properties.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let offset_msg_id = offset_msg_id(record.store_host(), record.physical());
        let unique = properties.get(properties::names::UNIQ_KEY);
        let body = plain_body(record);
        let text = std::str::from_utf8(&body).ok().map(str::to_owned);
        Self {
            msg_id: unique.unwrap_or(&offset_msg_id).clone(),
            offset_msg_id,
            topic: record.topic().to_owned(),
            broker_name: broker_name.to_owned(),
            queue_id: record.queue_id(),
            queue_offset: record.queue_offset(),
            commit_log_offset: record.physical(),
            store_size: record.stored_bytes(),
            sys_flag: record.sys_flag(),
            flag: record.flag(),
            born_timestamp: record.born_timestamp(),
            born_host: record.born_host().to_string(),
            store_timestamp: record.store_timestamp(),
            store_host: record.store_host().to_string(),
            body_crc: record.body_crc(),
            reconsume_times: record.reconsume_times(),
            prepared_transaction_offset: record.prepared_transaction_offset(),
            properties,
            hex: text.is_none().then(|| body.iter().map(|byte| format!("{byte:02x}")).collect()),
            text,
            body,
            bounds,
        }
    }

    /// `MSGID: … MessageExt […] BODY: …`.
    pub(in crate::admin) fn line(&self) -> String {
        format!("MSGID: {} {} BODY: {}\n", self.msg_id, self, String::from_utf8_lossy(&self.body))
    }

    /// Properties as Java's clients have them.
    fn all_properties(&self) -> BTreeMap<&str, String> {
        let stored = self.properties.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let bounds = self.bounds.into_iter().flat_map(|(min, max)| {
            [("MIN_OFFSET", min.to_string()), ("MAX_OFFSET", max.to_string())]
        });
        stored.chain(bounds).collect()
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body.iter().map(|byte| byte.cast_signed());
        write!(
            f,
            "MessageExt [brokerName={}, queueId={}, storeSize={}, queueOffset={}, sysFlag={}, \
             bornTimestamp={}, bornHost=/{}, storeTimestamp={}, storeHost=/{}, msgId={}, \
             commitLogOffset={}, bodyCRC={}, reconsumeTimes={}, preparedTransactionOffset={}, \
             toString()=Message{{topic='{}', flag={}, properties={}, body={}, \
             transactionId='null'}}]",
            self.broker_name,
            self.queue_id,
            self.store_size,
            self.queue_offset,
            self.sys_flag,
            self.born_timestamp,
            self.born_host,
            self.store_timestamp,
            self.store_host,
            self.offset_msg_id,
            self.commit_log_offset,
            self.body_crc,
            self.reconsume_times,
            self.prepared_transaction_offset,
            self.topic,
            self.flag,
            java_text::map(self.all_properties()),
            java_text::list(body)
        )
    }
}

/// The body as it was sent. What cannot be decompressed here is left as it is stored.
fn plain_body(record: &Record<'_>) -> Vec<u8> {
    let flags = record.sys_flag();
    let by = flags & sys_flag::COMPRESSION_MASK;
    if flags & sys_flag::COMPRESSED == 0 || by == COMPRESSED_BY_LZ4 || by == COMPRESSED_BY_ZSTD {
        return record.body().to_vec();
    }
    let mut plain = Vec::new();
    let mut inflate = flate2::read::ZlibDecoder::new(record.body()).take(BODY_BYTES_MAX + 1);
    match inflate.read_to_end(&mut plain) {
        Ok(bytes) if bytes as u64 <= BODY_BYTES_MAX => plain,
        _ => record.body().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use bytes::Bytes;

    use super::*;
    use crate::protocol::message::{Draft, RecordPlace, body_crc};

    fn stored(body: &[u8], flags: i32) -> Vec<u8> {
        let draft = Draft {
            topic: "AdmT".into(),
            queue_id: 0,
            flag: 0,
            sys_flag: flags,
            born_timestamp: 1_795_264_393_582,
            born_host: "127.0.0.1:46554".parse().unwrap(),
            store_host: "127.0.0.1:30921".parse().unwrap(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: Bytes::copy_from_slice(body),
            body_crc: body_crc(body),
            properties: Bytes::from_static(b"UNIQ_KEY\x01FD00\x02TAGS\x01TagM\x02"),
            unique_hash: None,
        };
        let place =
            RecordPlace { queue_offset: 3, physical: 48, store_timestamp: 1_795_264_393_667 };
        let mut bytes = vec![0; draft.stored_bytes()];
        draft.encode(place, &mut bytes);
        bytes
    }

    #[test]
    fn a_message_is_printed_as_java_prints_it() {
        let bytes = stored(b"h\xc3", 0);
        let shown = Shown::of(&Record::parse(&bytes).unwrap(), "RaftNode00", Some((0, 2)));
        let crc = shown.body_crc;
        let size = bytes.len();
        let want = format!(
            "MSGID: FD00 MessageExt [brokerName=RaftNode00, queueId=0, storeSize={size}, \
             queueOffset=3, sysFlag=0, bornTimestamp=1795264393582, bornHost=/127.0.0.1:46554, \
             storeTimestamp=1795264393667, storeHost=/127.0.0.1:30921, \
             msgId=7F000001000078C90000000000000030, commitLogOffset=48, bodyCRC={crc}, \
             reconsumeTimes=0, preparedTransactionOffset=0, toString()=Message{{topic='AdmT', \
             flag=0, properties={{MAX_OFFSET=2, MIN_OFFSET=0, TAGS=TagM, UNIQ_KEY=FD00}}, \
             body=[104, -61], transactionId='null'}}] BODY: h\u{fffd}\n"
        );
        assert_eq!(shown.line(), want);
        let json = serde_json::to_value(&shown).unwrap();
        assert_eq!((json["body"].is_null(), json["bodyHex"].as_str()), (true, Some("68c3")));
        assert_eq!(json["properties"]["TAGS"], "TagM");
    }

    #[test]
    fn compressed_bodies_are_shown_as_they_were_sent() {
        let mut deflated = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        deflated.write_all(b"hello hello").unwrap();
        let deflated = deflated.finish().unwrap();
        let rows = [
            (stored(&deflated, sys_flag::COMPRESSED), b"hello hello".to_vec()),
            (stored(b"not deflated", sys_flag::COMPRESSED), b"not deflated".to_vec()),
            (stored(&deflated, sys_flag::COMPRESSED | COMPRESSED_BY_LZ4), deflated.clone()),
            (stored(&deflated, 0), deflated.clone()),
        ];
        for (bytes, want) in rows {
            assert_eq!(Shown::of(&Record::parse(&bytes).unwrap(), "b", None).body, want);
        }
    }
}
