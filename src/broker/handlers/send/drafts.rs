//! The messages of a send, as they are going to be stored.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use crate::clock;
use crate::protocol::message::{Draft, PROPERTIES_BYTES_MAX, batch, body_crc, key_hash, sys_flag};
use crate::protocol::names;

use super::properties::{Sent, unsupported};
use super::target::Target;
use super::{Drafts, Sending};
use crate::broker::error::RequestError;

impl Sending<'_> {
    /// The messages that go to `target`.
    pub(super) fn drafts(&self, target: &Target) -> Result<Drafts, RequestError> {
        if sys_flag::transaction(self.request.sys_flag) != sys_flag::TRANSACTION_NONE {
            return Err(unsupported("transactions"));
        }
        let (messages, unique_key) = if self.request.batch {
            let of_batch = Sent::of(self.request.properties.as_bytes()).unique_key;
            (self.batch(target)?, of_batch.map(str::to_owned))
        } else {
            let (message, unique_key) = self.single(target)?;
            (smallvec![message], Some(unique_key))
        };
        Ok(Drafts { messages, settings: Arc::clone(self.settings), unique_key })
    }

    fn single(&self, target: &Target) -> Result<(Draft, String), RequestError> {
        let body = &self.command.body;
        if body.is_empty() {
            return Err(RequestError::MessageIllegal("the message's body is empty".to_owned()));
        }
        self.check_sizes(body.len(), self.request.properties.len())?;
        let sent = Sent::of(self.request.properties.as_bytes());
        sent.check(target.is_dead_letter)?;
        let unique_key = match sent.unique_key {
            Some(key) => key.to_owned(),
            None => self.broker.unique_ids.next(clock::wall_ms()),
        };
        let added = &self.settings.added_properties;
        let properties = sent.stored(added, &unique_key, target.is_dead_letter);
        self.check_sizes(body.len(), properties.len())?;
        let draft = self.draft(target, self.request.flag, body.clone(), properties.into())?;
        let unique_hash = sent.unique_key.map(|key| key_hash(&target.topic, key));
        Ok((Draft { unique_hash, ..draft }, unique_key))
    }

    fn batch(&self, target: &Target) -> Result<SmallVec<[Draft; 1]>, RequestError> {
        let illegal = |text: String| RequestError::MessageIllegal(text);
        let (topic, body) = (self.request.topic, &self.command.body);
        if topic.len() > names::TOPIC_CHARS_MAX {
            return Err(illegal(format!("message topic length too long {}", topic.len())));
        }
        if names::is_retry_topic(topic) {
            return Err(illegal(format!("batch request does not support retry group {topic}")));
        }
        self.check_sizes(body.len(), 0)?;
        let items = batch::items(body).map_err(|error| illegal(error.to_string()))?;
        if items.is_empty() {
            return Err(illegal("the batch is empty".to_owned()));
        }
        let mut drafts = SmallVec::with_capacity(items.len());
        for item in items {
            let sent = Sent::of(&item.properties);
            sent.check(false)?;
            let unique_hash = sent.unique_key.map(|key| key_hash(&target.topic, key));
            let stored = sent.of_item().map(Bytes::from);
            let properties = stored.unwrap_or_else(|| item.properties.clone());
            let draft = self.draft(target, item.flag, item.body, properties)?;
            drafts.push(Draft { unique_hash, ..draft });
        }
        Ok(drafts)
    }

    fn check_sizes(&self, body_bytes: usize, properties_bytes: usize) -> Result<(), RequestError> {
        let body_max = self.settings.config.policy.message_bytes_max;
        let fits = u32::try_from(body_bytes).is_ok_and(|bytes| bytes <= body_max)
            && properties_bytes <= PROPERTIES_BYTES_MAX;
        if fits {
            return Ok(());
        }
        Err(RequestError::MessageIllegal(format!(
            "the message is illegal, maybe msg body or properties length not matched. msg body \
             length limit {body_max}B, msg properties length limit 32KB."
        )))
    }

    fn draft(
        &self,
        target: &Target,
        flag: i32,
        body: Bytes,
        properties: Bytes,
    ) -> Result<Draft, RequestError> {
        let multi_tags = if target.multi_tag { sys_flag::MULTI_TAGS } else { 0 };
        let draft = Draft {
            topic: Arc::clone(&target.topic),
            queue_id: target.queue_id,
            flag,
            sys_flag: sys_flag::of_producer(self.request.sys_flag) | multi_tags,
            born_timestamp: self.request.born_timestamp,
            born_host: self.reply.connection().peer(),
            store_host: self.broker.identity.store_host,
            reconsume_times: self.request.reconsume_times,
            prepared_transaction_offset: 0,
            body_crc: body_crc(&body),
            body,
            properties,
            unique_hash: None,
        };
        draft.check().map_err(|error| RequestError::MessageIllegal(error.to_string()))?;
        Ok(draft)
    }
}
