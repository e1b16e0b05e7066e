//! Messages: storing them, pulling them, and the bounds of queues.

use bytes::Bytes;

use super::{AdminClient, Answered};
use crate::{
    admin::error::Error,
    protocol::{
        bodies::BrokerData,
        codes::{RequestCode, ResponseCode},
        command::RemotingCommand,
        headers::{
            offset::{Boundary, GetMaxOffset, GetMinOffset, OffsetAnswer, SearchOffset},
            pull::{PullAnswer, PullRequest, flag},
            query::{QueryMessage, ViewMessage},
            send::{SendAnswer, SendRequest},
        },
    },
};

/// A message that was stored.
pub(in crate::admin) struct Stored {
    /// How well: as Java's `SendStatus` is called.
    pub(in crate::admin) status: &'static str,
    /// Where.
    pub(in crate::admin) place: SendAnswer,
}

/// What a pull brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::admin) enum Pulled {
    /// Messages.
    Found,
    /// Messages that do not match; go on elsewhere.
    NoMatch,
    /// Nothing yet at this offset.
    NothingNew,
    /// Nothing at this offset; go on elsewhere.
    Moved,
}

/// Answer of a pull.
pub(in crate::admin) struct PulledMessages {
    /// What it is.
    pub(in crate::admin) outcome: Pulled,
    /// Where to go on.
    pub(in crate::admin) next: i64,
    /// Bounds of the queue.
    pub(in crate::admin) bounds: (i64, i64),
    /// Records back to back.
    pub(in crate::admin) records: Bytes,
}

/// One queue, and who is asked for it.
#[derive(Debug, Clone, Copy)]
pub(in crate::admin) struct QueueAt<'a> {
    /// Broker.
    pub(in crate::admin) address: &'a str,
    /// Topic.
    pub(in crate::admin) topic: &'a str,
    /// Queue of the topic.
    pub(in crate::admin) queue_id: i32,
}

impl AdminClient {
    /// Stores a message.
    pub(in crate::admin) async fn send(
        &self,
        broker: &str,
        header: &SendRequest<'_>,
        body: Bytes,
    ) -> Result<Stored, Error> {
        let code = RequestCode::SEND_MESSAGE_V2;
        let answer = self.call(broker, header.request(code).with_body(body)).await?;
        let Some(status) = send_status(answer.response_code()) else {
            return Err(Error::refusal(broker, code, &answer));
        };
        let place =
            SendAnswer::parse(&answer).map_err(|cause| Error::unreadable(broker, code, cause))?;
        Ok(Stored { status, place })
    }

    /// Messages of a queue, from an offset on. Does not wait for new ones.
    pub(in crate::admin) async fn pull(
        &self,
        queue: QueueAt<'_>,
        consumer_group: &str,
        from: i64,
        messages_max: i32,
    ) -> Result<PulledMessages, Error> {
        let code = RequestCode::PULL_MESSAGE;
        let header = PullRequest {
            consumer_group,
            topic: queue.topic,
            queue_id: queue.queue_id,
            queue_offset: from,
            max_msg_nums: messages_max,
            sys_flag: flag::SUBSCRIPTION,
            commit_offset: 0,
            suspend_timeout_millis: 0,
            subscription: Some("*"),
            sub_version: 0,
            expression_type: Some("TAG"),
            max_msg_bytes: None,
        };
        let answer = self.call(queue.address, header.request(code)).await?;
        pulled(&answer, queue.address)
    }

    /// The record at a position of a broker's log.
    pub(in crate::admin) async fn message_at(
        &self,
        broker: &str,
        topic: &str,
        physical: u64,
    ) -> Result<Bytes, Error> {
        let offset = i64::try_from(physical).unwrap_or(i64::MAX);
        let header = ViewMessage { topic: Some(topic.to_owned()), offset };
        Ok(self.ask(broker, header.request()).await?.body)
    }

    /// Records that the index of a broker group has under a key, back to back.
    pub(in crate::admin) async fn query(
        &self,
        group: &BrokerData,
        header: &QueryMessage,
    ) -> Result<Answered<Bytes>, Error> {
        match self.ask_first(group.broker_addrs.values(), &header.request()).await {
            Ok(Answered { answer, address, in_vain }) => {
                Ok(Answered { answer: answer.body, address, in_vain })
            }
            Err(error) if error.code() == Some(ResponseCode::QUERY_NOT_FOUND) => {
                Ok(Answered { answer: Bytes::new(), address: String::new(), in_vain: Vec::new() })
            }
            Err(error) => Err(error),
        }
    }

    /// The smallest offset of a queue.
    pub(in crate::admin) async fn min_offset(&self, queue: QueueAt<'_>) -> Result<i64, Error> {
        let header = GetMinOffset { topic: queue.topic.to_owned(), queue_id: queue.queue_id };
        self.offset(queue.address, header.request()).await
    }

    /// The next offset to be written in a queue.
    pub(in crate::admin) async fn max_offset(&self, queue: QueueAt<'_>) -> Result<i64, Error> {
        let header = GetMaxOffset {
            topic: queue.topic.to_owned(),
            queue_id: queue.queue_id,
            committed: true,
        };
        self.offset(queue.address, header.request()).await
    }

    /// The offset of the first message stored at or after `timestamp`.
    pub(in crate::admin) async fn offset_at(
        &self,
        queue: QueueAt<'_>,
        timestamp: i64,
    ) -> Result<i64, Error> {
        let header = SearchOffset {
            topic: queue.topic.to_owned(),
            queue_id: queue.queue_id,
            timestamp,
            boundary: Boundary::Lower,
        };
        self.offset(queue.address, header.request()).await
    }

    async fn offset(&self, broker: &str, request: RemotingCommand) -> Result<i64, Error> {
        let code = request.request_code();
        let answer = self.ask(broker, request).await?;
        let answer = OffsetAnswer::parse(&answer);
        answer.map(|header| header.offset).map_err(|cause| Error::unreadable(broker, code, cause))
    }
}

/// `None`: the message was not stored.
fn send_status(code: ResponseCode) -> Option<&'static str> {
    Some(match code {
        ResponseCode::SUCCESS => "SEND_OK",
        ResponseCode::FLUSH_DISK_TIMEOUT => "FLUSH_DISK_TIMEOUT",
        ResponseCode::FLUSH_SLAVE_TIMEOUT => "FLUSH_SLAVE_TIMEOUT",
        ResponseCode::SLAVE_NOT_AVAILABLE => "SLAVE_NOT_AVAILABLE",
        _ => return None,
    })
}

fn pulled(answer: &RemotingCommand, broker: &str) -> Result<PulledMessages, Error> {
    let outcome = match answer.response_code() {
        ResponseCode::SUCCESS => Pulled::Found,
        ResponseCode::PULL_NOT_FOUND => Pulled::NothingNew,
        ResponseCode::PULL_RETRY_IMMEDIATELY => Pulled::NoMatch,
        ResponseCode::PULL_OFFSET_MOVED => Pulled::Moved,
        _ => return Err(Error::refusal(broker, RequestCode::PULL_MESSAGE, answer)),
    };
    let header = PullAnswer::parse(answer)
        .map_err(|cause| Error::unreadable(broker, RequestCode::PULL_MESSAGE, cause))?;
    Ok(PulledMessages {
        outcome,
        next: header.next_begin_offset,
        bounds: (header.min_offset, header.max_offset),
        records: answer.body.clone(),
    })
}
