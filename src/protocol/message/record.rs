//! A stored record, read in place.

#![warn(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects
)]

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    Draft, MAGIC_V1, MAGIC_V2, RecordPlace, body_crc,
    properties::Indexed,
    sys_flag::{BORN_HOST_V6, STORE_HOST_V6},
};

/// The bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end inside the record, or its lengths disagree with its total.
    #[error("a length in the record points beyond its end")]
    Truncated,
    /// Neither V1 nor V2.
    #[error("unknown record layout {0:#010x}")]
    Magic(u32),
    /// A port beyond 65535, a topic that is not UTF-8, a negative length.
    #[error("the record's {0} is malformed")]
    Field(&'static str),
}

/// A record whose lengths add up. The checksum of the body is not part of that: see
/// [`Record::body_is_intact`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    bytes: &'a [u8],
    body_crc: u32,
    queue_id: u32,
    flag: i32,
    sys_flag: i32,
    place: RecordPlace,
    born_timestamp: i64,
    born_host: SocketAddr,
    store_host: SocketAddr,
    reconsume_times: i32,
    prepared_transaction_offset: i64,
    body: &'a [u8],
    topic: &'a str,
    properties: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads the record that `bytes` start with; what follows is left alone.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let mut total = Reader(bytes);
        let total = usize::try_from(total.u32()?).map_err(|_| RecordError::Truncated)?;
        let bytes = bytes.get(..total).ok_or(RecordError::Truncated)?;
        let mut reader = Reader(bytes);
        reader.u32()?;
        let magic = reader.u32()?;
        if magic != MAGIC_V1 && magic != MAGIC_V2 {
            return Err(RecordError::Magic(magic));
        }
        let (body_crc, queue_id, flag) = (reader.u32()?, reader.u32()?, reader.i32()?);
        let (queue_offset, physical) = (reader.u64()?, reader.u64()?);
        let (sys_flag, born_timestamp) = (reader.i32()?, reader.i64()?);
        let born_host = reader.host(sys_flag & BORN_HOST_V6 != 0)?;
        let store_timestamp = reader.i64()?;
        let store_host = reader.host(sys_flag & STORE_HOST_V6 != 0)?;
        let (reconsume_times, prepared_transaction_offset) = (reader.i32()?, reader.i64()?);
        let body_bytes = reader.u32()?;
        let body = reader.bytes(body_bytes)?;
        let topic_bytes = if magic == MAGIC_V1 { reader.u8()?.into() } else { reader.u16()? };
        let topic = reader.bytes(topic_bytes.into())?;
        let topic = std::str::from_utf8(topic).map_err(|_| RecordError::Field("topic"))?;
        let properties_bytes = reader.u16()?;
        let properties = reader.bytes(properties_bytes.into())?;
        if !reader.0.is_empty() {
            return Err(RecordError::Truncated);
        }
        Ok(Self {
            bytes,
            body_crc,
            queue_id,
            flag,
            sys_flag,
            place: RecordPlace { queue_offset, physical, store_timestamp },
            born_timestamp,
            born_host,
            store_host,
            reconsume_times,
            prepared_transaction_offset,
            body,
            topic,
            properties,
        })
    }

    /// The record's bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Length of the record.
    pub fn stored_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Checksum of the body, as stored.
    pub fn body_crc(&self) -> u32 {
        self.body_crc
    }

    /// Whether the body has the stored checksum.
    pub fn body_is_intact(&self) -> bool {
        body_crc(self.body) == self.body_crc
    }

    /// Queue of the topic.
    pub fn queue_id(&self) -> u32 {
        self.queue_id
    }

    /// The user's flag.
    pub fn flag(&self) -> i32 {
        self.flag
    }

    /// Bits of [`super::sys_flag`].
    pub fn sys_flag(&self) -> i32 {
        self.sys_flag
    }

    /// Where the record says it is, and when it was stored.
    pub fn place(&self) -> RecordPlace {
        self.place
    }

    /// Messages before it in its queue.
    pub fn queue_offset(&self) -> u64 {
        self.place.queue_offset
    }

    /// Byte position in the log, as the record says.
    pub fn physical(&self) -> u64 {
        self.place.physical
    }

    /// When the leader stored it. Milliseconds.
    pub fn store_timestamp(&self) -> i64 {
        self.place.store_timestamp
    }

    /// When the producer made it. Milliseconds.
    pub fn born_timestamp(&self) -> i64 {
        self.born_timestamp
    }

    /// The producer.
    pub fn born_host(&self) -> SocketAddr {
        self.born_host
    }

    /// The broker that took it.
    pub fn store_host(&self) -> SocketAddr {
        self.store_host
    }

    /// How often it was given back.
    pub fn reconsume_times(&self) -> i32 {
        self.reconsume_times
    }

    /// Of a committed transaction: where its half message is.
    pub fn prepared_transaction_offset(&self) -> i64 {
        self.prepared_transaction_offset
    }

    /// The user's bytes.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Topic under which it is stored.
    pub fn topic(&self) -> &'a str {
        self.topic
    }

    /// Property string, see [`super::properties`].
    pub fn properties(&self) -> &'a [u8] {
        self.properties
    }

    /// One property.
    pub fn property(&self, name: &str) -> Option<&'a str> {
        super::properties::find(self.properties, name)
    }

    /// The properties that indexes are made of, in one pass.
    pub fn indexed(&self) -> Indexed<'a> {
        Indexed::of(self.properties)
    }

    /// A draft with the same content, to store the message again.
    pub fn to_draft(&self) -> Draft {
        Draft {
            topic: Arc::from(self.topic),
            queue_id: self.queue_id,
            flag: self.flag,
            sys_flag: self.sys_flag,
            born_timestamp: self.born_timestamp,
            born_host: self.born_host,
            store_host: self.store_host,
            reconsume_times: self.reconsume_times,
            prepared_transaction_offset: self.prepared_transaction_offset,
            body: Bytes::copy_from_slice(self.body),
            body_crc: self.body_crc,
            properties: Bytes::copy_from_slice(self.properties),
            unique_hash: None,
        }
    }
}

/// Records back to back. Ends after the first one that is malformed.
pub fn records(bytes: &[u8]) -> Records<'_> {
    Records { rest: bytes }
}

/// See [`records`].
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = Record::parse(self.rest);
        let taken = record.as_ref().map_or(usize::MAX, |r| r.stored_bytes());
        self.rest = self.rest.get(taken..).unwrap_or_default();
        Some(record)
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(RecordError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn bytes(&mut self, count: u32) -> Result<&'a [u8], RecordError> {
        let count = usize::try_from(count).map_err(|_| RecordError::Truncated)?;
        let (taken, rest) = self.0.split_at_checked(count).ok_or(RecordError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, RecordError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, RecordError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Result<i32, RecordError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, RecordError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn host(&mut self, v6: bool) -> Result<SocketAddr, RecordError> {
        let ip = if v6 {
            Ipv6Addr::from(self.array::<16>()?).into()
        } else {
            Ipv4Addr::from(self.array::<4>()?).into()
        };
        let port = u16::try_from(self.u32()?).map_err(|_| RecordError::Field("port"))?;
        Ok(SocketAddr::new(ip, port))
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::message::{DraftError, TOPIC_BYTES_MAX};

    fn draft() -> impl Strategy<Value = Draft> {
        let numbers = any::<(u32, i32, i32, i64, i32, i64)>();
        let hosts = any::<(SocketAddr, SocketAddr)>();
        let body = prop::collection::vec(any::<u8>(), 0..100);
        let properties = prop::collection::vec(any::<u8>(), 0..100);
        (numbers, hosts, "[a-z]{0,20}|[a-z]{120,140}", body, properties).prop_map(
            |(numbers, hosts, topic, body, properties)| Draft {
                topic: topic.into(),
                queue_id: numbers.0,
                flag: numbers.1,
                sys_flag: numbers.2 & !(BORN_HOST_V6 | STORE_HOST_V6),
                born_timestamp: numbers.3,
                born_host: without_scope(hosts.0),
                store_host: without_scope(hosts.1),
                reconsume_times: numbers.4,
                prepared_transaction_offset: numbers.5,
                body_crc: body_crc(&body),
                body: body.into(),
                properties: properties.into(),
                unique_hash: None,
            },
        )
    }

    /// Flow labels and scopes of IPv6 addresses are not stored.
    fn without_scope(host: SocketAddr) -> SocketAddr {
        SocketAddr::new(host.ip(), host.port())
    }

    const PLACE: RecordPlace =
        RecordPlace { queue_offset: 7, physical: 0x1000, store_timestamp: 1_795_227_551_950 };

    fn encoded(draft: &Draft) -> Vec<u8> {
        let mut out = vec![0xEE; draft.stored_bytes()];
        draft.encode(PLACE, &mut out);
        out
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read(draft in draft(), behind in any::<[u8; 3]>()) {
            let bytes = [encoded(&draft), behind.to_vec()].concat();
            let record = Record::parse(&bytes).unwrap();
            prop_assert_eq!(record.stored_bytes(), draft.stored_bytes());
            prop_assert_eq!(record.place(), PLACE);
            prop_assert!(record.body_is_intact());
            let hosts = BORN_HOST_V6 | STORE_HOST_V6;
            let again = record.to_draft();
            prop_assert_eq!(again.stored_bytes(), draft.stored_bytes());
            prop_assert_eq!(Draft { sys_flag: again.sys_flag & !hosts, ..again }, draft);
        }

        #[test]
        fn a_record_that_is_cut_or_changed_never_panics(
            draft in draft(), cut in 0_usize..400, at in 0_usize..120, byte in any::<u8>(),
        ) {
            let mut bytes = encoded(&draft);
            let whole = bytes.len();
            if let Some(changed) = bytes.get_mut(at) {
                *changed = byte;
            }
            let _ = records(&bytes).count();
            bytes = encoded(&draft);
            bytes.truncate(cut.min(whole - 1));
            prop_assert_eq!(Record::parse(&bytes), Err(RecordError::Truncated));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = records(&bytes).count();
        }
    }

    #[test]
    fn layouts_that_java_never_writes_are_refused() {
        let draft = Draft {
            topic: "T".into(),
            queue_id: 0,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 0,
            born_host: ([127, 0, 0, 1], 1).into(),
            store_host: ([127, 0, 0, 1], 2).into(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: Bytes::from_static(b"body"),
            body_crc: body_crc(b"body"),
            properties: Bytes::new(),
            unique_hash: None,
        };
        let good = encoded(&draft);
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Record::parse(&bytes).err()
        };
        assert_eq!(good.len(), 91 + 4 + 1);
        assert_eq!(changed(7, 0xA8), Some(RecordError::Magic(0xDAA3_20A8)));
        assert_eq!(changed(53, 1), Some(RecordError::Field("port"))); // high half of the port
        assert_eq!(changed(good.len() - 3, 0xFF), Some(RecordError::Field("topic")));
        assert_eq!(changed(good.len() - 1, 1), Some(RecordError::Truncated)); // properties
        assert_eq!(changed(3, 95), Some(RecordError::Truncated)); // total one too short
        let long = Draft { topic: "x".repeat(TOPIC_BYTES_MAX + 1).into(), ..draft };
        assert_eq!(long.check(), Err(DraftError::TopicTooLong { bytes: 256 }));
    }
}
