//! Sending messages: long names (10, 324) and one-letter names (310, 320, 325). Written by hand:
//! one pass over the fields, nothing copied, and the answer goes straight into the buffer.

#![warn(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects
)]

use std::{net::SocketAddr, sync::Arc};

use bytes::{BufMut, BytesMut};
use smallvec::SmallVec;

use super::{
    FieldError, answer_header,
    pull::{number, there},
};
use crate::ids::{PhysicalOffset, StoredSend};
use crate::protocol::{
    codes::{RequestCode, ResponseCode},
    command::{FLAG_RESPONSE, RemotingCommand, encode_framed},
    decimal::{put_i64, put_u64},
    ext_fields::ExtFields,
    header_json::put_string,
    message::id::put_offset_msg_id,
    version,
};

/// A message, or a batch of them; its body is the command's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendRequest<'a> {
    /// Group of the producer.
    pub producer_group: &'a str,
    /// Name of the topic.
    pub topic: &'a str,
    /// Template from which an unknown topic is created.
    pub default_topic: &'a str,
    /// Queues of a topic that is created.
    pub default_topic_queue_nums: i32,
    /// Queue of the topic; negative: the broker picks one.
    pub queue_id: i32,
    /// Bits of [`crate::protocol::message::sys_flag`].
    pub sys_flag: i32,
    /// When the producer made it. Milliseconds.
    pub born_timestamp: i64,
    /// The user's flag.
    pub flag: i32,
    /// Property string.
    pub properties: &'a str,
    /// How often it was given back.
    pub reconsume_times: i32,
    /// Whether the group belongs to a unit.
    pub unit_mode: bool,
    /// Retries before it becomes a dead letter.
    pub max_reconsume_times: Option<i32>,
    /// Whether the body is a batch.
    pub batch: bool,
}

impl<'a> SendRequest<'a> {
    /// Reads the header of `command`, in either form.
    pub fn parse(command: &'a RemotingCommand) -> Result<Self, FieldError> {
        let mut texts = Texts::default();
        for (name, value) in command.ext.iter() {
            if let Some(text) = texts.slot(name) {
                *text = Some(value);
            }
        }
        let letters = has_letters(command.request_code());
        let name = |letter, long| if letters { letter } else { long };
        let is_true = |text: Option<&str>| text.is_some_and(|t| t.eq_ignore_ascii_case("true"));
        let max_reconsume_times = texts.max_reconsume_times.filter(|text| !text.is_empty());
        Ok(Self {
            producer_group: there(texts.producer_group, name("a", "producerGroup"))?,
            topic: there(texts.topic, name("b", "topic"))?,
            default_topic: there(texts.default_topic, name("c", "defaultTopic"))?,
            default_topic_queue_nums: number(
                texts.default_topic_queue_nums,
                name("d", "defaultTopicQueueNums"),
            )?,
            queue_id: number(texts.queue_id, name("e", "queueId"))?,
            sys_flag: number(texts.sys_flag, name("f", "sysFlag"))?,
            born_timestamp: number(texts.born_timestamp, name("g", "bornTimestamp"))?,
            flag: number(texts.flag, name("h", "flag"))?,
            properties: texts.properties.unwrap_or_default(),
            reconsume_times: match texts.reconsume_times {
                None | Some("") => 0,
                text => number(text, name("j", "reconsumeTimes"))?,
            },
            unit_mode: is_true(texts.unit_mode),
            max_reconsume_times: match max_reconsume_times {
                None => None,
                text => Some(number(text, name("l", "maxReconsumeTimes"))?),
            },
            batch: is_true(texts.batch),
        })
    }

    /// Adds the fields to `ext`, under the names that requests of `code` have.
    pub fn write(&self, code: RequestCode, ext: &mut ExtFields) {
        let letters = has_letters(code);
        let name = |letter, long| if letters { letter } else { long };
        ext.push(name("a", "producerGroup"), self.producer_group);
        ext.push(name("b", "topic"), self.topic);
        ext.push(name("c", "defaultTopic"), self.default_topic);
        ext.push(name("d", "defaultTopicQueueNums"), self.default_topic_queue_nums);
        ext.push(name("e", "queueId"), self.queue_id);
        ext.push(name("f", "sysFlag"), self.sys_flag);
        ext.push(name("g", "bornTimestamp"), self.born_timestamp);
        ext.push(name("h", "flag"), self.flag);
        ext.push(name("i", "properties"), self.properties);
        ext.push(name("j", "reconsumeTimes"), self.reconsume_times);
        ext.push(name("k", "unitMode"), self.unit_mode);
        if let Some(times) = self.max_reconsume_times {
            ext.push(name("l", "maxReconsumeTimes"), times);
        }
        ext.push(name("m", "batch"), self.batch);
    }

    /// A request with this header.
    pub fn request(&self, code: RequestCode) -> RemotingCommand {
        let mut command = RemotingCommand::request(code);
        self.write(code, &mut command.ext);
        command
    }
}

/// Whether requests of `code` have one-letter names.
fn has_letters(code: RequestCode) -> bool {
    matches!(
        code,
        RequestCode::SEND_MESSAGE_V2
            | RequestCode::SEND_BATCH_MESSAGE
            | RequestCode::SEND_REPLY_MESSAGE_V2
    )
}

#[derive(Default)]
struct Texts<'a> {
    producer_group: Option<&'a str>,
    topic: Option<&'a str>,
    default_topic: Option<&'a str>,
    default_topic_queue_nums: Option<&'a str>,
    queue_id: Option<&'a str>,
    sys_flag: Option<&'a str>,
    born_timestamp: Option<&'a str>,
    flag: Option<&'a str>,
    properties: Option<&'a str>,
    reconsume_times: Option<&'a str>,
    unit_mode: Option<&'a str>,
    max_reconsume_times: Option<&'a str>,
    batch: Option<&'a str>,
}

impl<'a> Texts<'a> {
    fn slot(&mut self, name: &str) -> Option<&mut Option<&'a str>> {
        Some(match name {
            "a" | "producerGroup" => &mut self.producer_group,
            "b" | "topic" => &mut self.topic,
            "c" | "defaultTopic" => &mut self.default_topic,
            "d" | "defaultTopicQueueNums" => &mut self.default_topic_queue_nums,
            "e" | "queueId" => &mut self.queue_id,
            "f" | "sysFlag" => &mut self.sys_flag,
            "g" | "bornTimestamp" => &mut self.born_timestamp,
            "h" | "flag" => &mut self.flag,
            "i" | "properties" => &mut self.properties,
            "j" | "reconsumeTimes" => &mut self.reconsume_times,
            "k" | "unitMode" => &mut self.unit_mode,
            "l" | "maxReconsumeTimes" => &mut self.max_reconsume_times,
            "m" | "batch" => &mut self.batch,
            _ => return None,
        })
    }
}

/// Where the messages of one send are: their offset message ids, not yet as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MsgIds {
    /// The broker, as it is in the records.
    pub store_host: SocketAddr,
    /// Physical offsets, one per message.
    pub physical: SmallVec<[u64; 1]>,
}

impl MsgIds {
    /// Appends the ids, separated by commas.
    fn put(&self, out: &mut BytesMut) {
        for (index, physical) in self.physical.iter().enumerate() {
            if index > 0 {
                out.put_u8(b',');
            }
            put_offset_msg_id(out, self.store_host, *physical);
        }
    }
}

/// The answer to a send that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendResponse {
    /// SUCCESS, or FLUSH_DISK_TIMEOUT, FLUSH_SLAVE_TIMEOUT, SLAVE_NOT_AVAILABLE.
    pub code: ResponseCode,
    /// Queue it went to.
    pub queue_id: u32,
    /// Its offset there; of the first of a batch.
    pub queue_offset: u64,
    /// Where it is.
    pub msg_id: MsgIds,
    /// Its unique key.
    pub transaction_id: Option<String>,
    /// `regionId` of the broker.
    pub region: Arc<str>,
    /// Whether clients shall trace.
    pub trace_on: bool,
    /// Handle by which a timer message can be taken back.
    pub recall_handle: Option<String>,
}

impl SendResponse {
    /// What it says is stored; `None`: nothing is.
    pub fn stored(&self) -> Option<StoredSend> {
        let positions = &self.msg_id.physical;
        let first = PhysicalOffset(*positions.first()?);
        Some(StoredSend { first, messages: u32::try_from(positions.len()).ok()? })
    }

    /// Writes the whole answer to the request with this `opaque`. No command is built, nothing is
    /// allocated beyond the buffer.
    pub fn encode_answer(&self, opaque: i32, out: &mut BytesMut) {
        encode_framed(out, 0, |out| {
            out.put_slice(b"{\"code\":");
            put_i64(out, self.code.0.into());
            out.put_slice(b",\"extFields\":{\"queueId\":\"");
            put_u64(out, self.queue_id.into());
            if let Some(id) = &self.transaction_id {
                out.put_slice(b"\",\"transactionId\":");
                put_string(out, id);
                out.put_slice(b",\"msgId\":\"");
            } else {
                out.put_slice(b"\",\"msgId\":\"");
            }
            self.msg_id.put(out);
            out.put_slice(b"\",\"TRACE_ON\":\"");
            out.put_slice(if self.trace_on { b"true" } else { b"false" });
            out.put_slice(b"\",\"MSG_REGION\":");
            put_string(out, &self.region);
            if let Some(handle) = &self.recall_handle {
                out.put_slice(b",\"recallHandle\":");
                put_string(out, handle);
            }
            out.put_slice(b",\"queueOffset\":\"");
            put_u64(out, self.queue_offset);
            out.put_slice(b"\"},\"flag\":");
            put_i64(out, FLAG_RESPONSE.into());
            out.put_slice(b",\"language\":\"JAVA\",\"opaque\":");
            put_i64(out, opaque.into());
            out.put_slice(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
            put_i64(out, version::CURRENT.into());
            out.put_u8(b'}');
        });
    }
}

answer_header! {
    /// The same as a client reads it.
    SendAnswer {
        /// Queue it went to.
        queue_id: i32 = "queueId",
        /// Its unique key.
        transaction_id: Option<String> = "transactionId",
        /// Offset message ids, separated by commas.
        msg_id: String = "msgId",
        /// Region of the broker.
        region: Option<String> = "MSG_REGION",
        /// Its offset; of the first of a batch.
        queue_offset: i64 = "queueOffset",
        /// Handle by which a timer message can be taken back.
        recall_handle: Option<String> = "recallHandle",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame;

    const REQUEST: SendRequest<'static> = SendRequest {
        producer_group: "P",
        topic: "T",
        default_topic: "TBW102",
        default_topic_queue_nums: 4,
        queue_id: -1,
        sys_flag: 4,
        born_timestamp: 1_795_228_199_767,
        flag: 9,
        properties: "TAGS\u{1}A\u{2}",
        reconsume_times: 2,
        unit_mode: false,
        max_reconsume_times: Some(3),
        batch: true,
    };

    #[test]
    fn both_forms_are_read() {
        for code in [RequestCode::SEND_MESSAGE, RequestCode::SEND_BATCH_MESSAGE] {
            assert_eq!(SendRequest::parse(&REQUEST.request(code)), Ok(REQUEST), "{code}");
        }
    }

    #[test]
    fn errors_name_the_field_as_the_request_does() {
        let rows = [
            (RequestCode::SEND_MESSAGE, "producerGroup"),
            (RequestCode::SEND_MESSAGE_V2, "a"),
            (RequestCode::SEND_BATCH_MESSAGE, "a"),
            (RequestCode::SEND_REPLY_MESSAGE, "producerGroup"),
        ];
        for (code, name) in rows {
            let got = SendRequest::parse(&RemotingCommand::request(code)).map(|_| ());
            assert_eq!(got, Err(FieldError::missing(name)), "{code}");
        }
        let bad = REQUEST.request(RequestCode::SEND_MESSAGE_V2).with_field("l", "many");
        assert_eq!(SendRequest::parse(&bad), Err(FieldError::invalid("l", "many")));
    }

    #[test]
    fn answers_are_read_back_as_clients_do() {
        let response = SendResponse {
            code: ResponseCode::SUCCESS,
            queue_id: 3,
            queue_offset: u64::MAX >> 1,
            msg_id: MsgIds {
                store_host: "[::1]:10911".parse().unwrap(),
                physical: SmallVec::from_slice(&[5, 6]),
            },
            transaction_id: Some("\"u\u{1}".to_owned()),
            region: Arc::from("R\\"),
            trace_on: false,
            recall_handle: Some("h".to_owned()),
        };
        let mut out = BytesMut::new();
        response.encode_answer(-7, &mut out);
        let got =
            RemotingCommand::decode(frame::next(&mut out, usize::MAX).unwrap().unwrap()).unwrap();
        assert!(out.is_empty() && got.is_response() && got.body.is_empty());
        assert_eq!((got.opaque, got.code, got.version), (-7, 0, version::CURRENT));
        let answer = SendAnswer::parse(&got).unwrap();
        assert_eq!(answer.msg_id.len(), 56 + 1 + 56);
        assert_eq!((answer.queue_id, answer.queue_offset), (3, i64::MAX));
        assert_eq!(answer.transaction_id, response.transaction_id);
        assert_eq!(answer.region.as_deref(), Some("R\\"));
        assert_eq!(answer.recall_handle.as_deref(), Some("h"));
    }
}
