//! A message before it has its place in the log, and how it becomes a record.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::{BufMut, Bytes};

use super::{
    MAGIC_V1, MAGIC_V2, PROPERTIES_BYTES_MAX, TOPIC_BYTES_MAX, TOPIC_V1_BYTES_MAX, sys_flag,
};

/// A message before it has its place in the log.
///
/// [`Draft::check`] must have accepted it before it is encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Topic under which it is stored.
    pub topic: Arc<str>,
    /// Queue of the topic.
    pub queue_id: u32,
    /// The user's flag, stored as it is.
    pub flag: i32,
    /// Bits of [`sys_flag`]; those for the hosts are set by [`Draft::encode`].
    pub sys_flag: i32,
    /// When the producer made it, by the producer's clock. Milliseconds.
    pub born_timestamp: i64,
    /// The producer.
    pub born_host: SocketAddr,
    /// The broker that took it.
    pub store_host: SocketAddr,
    /// How often it was given back.
    pub reconsume_times: i32,
    /// Of a committed transaction: where its half message is.
    pub prepared_transaction_offset: i64,
    /// The user's bytes.
    pub body: Bytes,
    /// [`super::body_crc`] of the body.
    pub body_crc: u32,
    /// Property string, see [`super::properties`].
    pub properties: Bytes,
    /// [`super::key_hash`] of topic and unique key, if the producer made one: it may send the
    /// message again. Not stored.
    pub unique_hash: Option<u64>,
}

/// Why a message cannot be stored. Answered with MESSAGE_ILLEGAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// The topic does not fit its length field.
    #[error("topic of {bytes} bytes, the limit is {TOPIC_BYTES_MAX}")]
    TopicTooLong {
        /// Length of the topic.
        bytes: usize,
    },
    /// The property string does not fit its length field.
    #[error("properties of {bytes} bytes, the limit is {PROPERTIES_BYTES_MAX}")]
    PropertiesTooLong {
        /// Length of the property string.
        bytes: usize,
    },
    /// The body does not fit its length field.
    #[error("body of {bytes} bytes")]
    BodyTooLong {
        /// Length of the body.
        bytes: usize,
    },
}

/// Where a record is in the log and in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPlace {
    /// Messages before it in its queue.
    pub queue_offset: u64,
    /// Byte position of the record in the log.
    pub physical: u64,
    /// When the leader stored it. Milliseconds.
    pub store_timestamp: i64,
}

/// Everything but hosts, body, topic and properties, with the one-byte topic length.
const FIXED_BYTES: usize = 75;
/// No record is smaller: two IPv4 hosts, and nothing in it.
pub const RECORD_BYTES_MIN: usize = FIXED_BYTES + 2 * 8;

impl Draft {
    /// Whether every part fits its length field.
    pub fn check(&self) -> Result<(), DraftError> {
        let (topic, properties) = (self.topic.len(), self.properties.len());
        if topic > TOPIC_BYTES_MAX {
            return Err(DraftError::TopicTooLong { bytes: topic });
        }
        if properties > PROPERTIES_BYTES_MAX {
            return Err(DraftError::PropertiesTooLong { bytes: properties });
        }
        if i32::try_from(self.body.len() + PROPERTIES_BYTES_MAX + 1024).is_err() {
            return Err(DraftError::BodyTooLong { bytes: self.body.len() });
        }
        Ok(())
    }

    /// Length of the record.
    pub fn stored_bytes(&self) -> usize {
        FIXED_BYTES
            + host_bytes(self.born_host)
            + host_bytes(self.store_host)
            + usize::from(self.needs_v2())
            + self.body.len()
            + self.topic.len()
            + self.properties.len()
    }

    /// Writes the record into `out`, whose length is [`Self::stored_bytes`].
    ///
    /// # Panics
    /// When the length differs or [`Self::check`] would have refused the draft.
    pub fn encode(&self, at: RecordPlace, mut out: &mut [u8]) {
        let total = out.len();
        assert_eq!(total, self.stored_bytes(), "the room is that of the record");
        out.put_u32(u32::try_from(total).expect("checked before"));
        out.put_u32(if self.needs_v2() { MAGIC_V2 } else { MAGIC_V1 });
        out.put_u32(self.body_crc);
        out.put_u32(self.queue_id);
        out.put_i32(self.flag);
        out.put_u64(at.queue_offset);
        out.put_u64(at.physical);
        out.put_i32(self.stored_sys_flag());
        out.put_i64(self.born_timestamp);
        put_host(&mut out, self.born_host);
        out.put_i64(at.store_timestamp);
        put_host(&mut out, self.store_host);
        out.put_i32(self.reconsume_times);
        out.put_i64(self.prepared_transaction_offset);
        out.put_u32(u32::try_from(self.body.len()).expect("checked before"));
        out.put_slice(&self.body);
        if self.needs_v2() {
            out.put_u16(u16::try_from(self.topic.len()).expect("checked before"));
        } else {
            out.put_u8(u8::try_from(self.topic.len()).expect("V1 means below 128"));
        }
        out.put_slice(self.topic.as_bytes());
        out.put_u16(u16::try_from(self.properties.len()).expect("checked before"));
        out.put_slice(&self.properties);
    }

    fn needs_v2(&self) -> bool {
        self.topic.len() > TOPIC_V1_BYTES_MAX
    }

    fn stored_sys_flag(&self) -> i32 {
        let bit = |host: SocketAddr, bit| if host.is_ipv6() { bit } else { 0 };
        self.sys_flag & !(sys_flag::BORN_HOST_V6 | sys_flag::STORE_HOST_V6)
            | bit(self.born_host, sys_flag::BORN_HOST_V6)
            | bit(self.store_host, sys_flag::STORE_HOST_V6)
    }
}

fn host_bytes(host: SocketAddr) -> usize {
    if host.is_ipv6() { 20 } else { 8 }
}

fn put_host(out: &mut &mut [u8], host: SocketAddr) {
    match host.ip() {
        IpAddr::V4(ip) => out.put_slice(&ip.octets()),
        IpAddr::V6(ip) => out.put_slice(&ip.octets()),
    }
    out.put_u32(host.port().into());
}
