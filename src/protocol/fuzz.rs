//! Fuzz targets: bytes from a socket.

use bytes::{Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    bodies,
    command::RemotingCommand,
    frame,
    headers::{client, namesrv, offset, pull, send, topic},
    message::{self, batch, properties},
};

/// Frames and commands, both header encodings: what is read can be written and read again, and
/// no typed header panics over it.
pub(crate) fn command(bytes: &[u8]) {
    let (mut rest, mut taken) = (BytesMut::from(bytes), 0);
    while let Ok(Some(frame)) = frame::next(&mut rest, frame::FRAME_BYTES_MAX) {
        taken += frame::LENGTH_BYTES + frame.len();
        assert_eq!(taken + rest.len(), bytes.len(), "every byte is in one frame or waits");
        let Ok(command) = RemotingCommand::decode(frame) else { continue };
        typed_headers(&command);
        let mut out = BytesMut::new();
        command.encode(&mut out);
        let again = frame::next(&mut out, usize::MAX).expect("ours is a frame");
        let again = RemotingCommand::decode(again.expect("and a whole one"));
        assert_eq!(again.as_ref(), Ok(&command), "what is written is read");
    }
}

fn typed_headers(command: &RemotingCommand) {
    if let Ok(request) = send::SendRequest::parse(command) {
        assert!(request.topic.len() <= command.ext.iter().map(|(_, v)| v.len()).sum());
    }
    drop(pull::PullRequest::parse(command));
    drop(topic::CreateTopic::parse(command));
    drop(offset::UpdateConsumerOffset::parse(command));
    drop(offset::ResetOffset::parse(command));
    drop(namesrv::RegisterBroker::parse(command));
    drop(client::SendBack::parse(command));
}

/// Records and batches, and the properties in them: nothing is longer than what it came from, and
/// what is read is what would be written.
pub(crate) fn message(bytes: &[u8]) {
    let mut record_bytes = 0;
    for record in message::records(bytes).map_while(Result::ok) {
        record_bytes += record.stored_bytes();
        property_string(record.properties());
        let draft = record.to_draft();
        if draft.check().is_ok() {
            let mut out = vec![0; draft.stored_bytes()];
            draft.encode(record.place(), &mut out);
            let again = message::Record::parse(&out).expect("ours is a record");
            assert_eq!((again.topic(), again.body()), (record.topic(), record.body()));
            assert_eq!(again.to_draft(), draft);
        }
    }
    assert!(record_bytes <= bytes.len());

    let Ok(items) = batch::items(&Bytes::copy_from_slice(bytes)) else { return };
    let mut out = BytesMut::new();
    for item in &items {
        property_string(&item.properties);
        batch::put_item(&mut out, item);
    }
    assert_eq!(out.len(), bytes.len(), "the items are the whole batch");
    assert_eq!(batch::items(&out.freeze()), Ok(items));
}

fn property_string(bytes: &[u8]) {
    let text: usize = properties::iter(bytes).map(|(name, value)| name.len() + value.len()).sum();
    assert!(text <= bytes.len());
    let indexed = properties::Indexed::of(bytes);
    assert!(indexed.tags.is_none_or(|tags| properties::iter(bytes).any(|(_, v)| v == tags)));
}

/// JSON bodies, in fastjson's dialect too. The first byte chooses the type.
pub(crate) fn json(bytes: &[u8]) {
    let Some((choice, text)) = bytes.split_first() else { return };
    match choice % 12 {
        0 => body::<bodies::HeartbeatData>(text),
        1 => body::<bodies::RegisterBrokerBody>(text),
        2 => body::<bodies::TopicConfigList>(text),
        3 => body::<bodies::GroupConfigList>(text),
        4 => body::<bodies::LockBatch>(text),
        5 => body::<bodies::CheckClientConfig>(text),
        6 => body::<bodies::ConsumerOffsetTable>(text),
        7 => body::<bodies::TopicRouteData>(text),
        8 => body::<bodies::ConsumerConnection>(text),
        9 => body::<bodies::ClusterInfo>(text),
        10 => body::<bodies::SubscriptionGroupConfig>(text),
        _ => body::<bodies::KVTable>(text),
    }
}

fn body<T: Serialize + DeserializeOwned>(text: &[u8]) {
    let Ok(value) = bodies::decode::<T>(text) else { return };
    for keys in [bodies::NumericKeys::Quoted, bodies::NumericKeys::Bare] {
        let written = bodies::encode_with(&value, keys);
        let again = bodies::decode::<T>(&written).expect("what is written is read");
        assert_eq!(bodies::encode_with(&again, keys), written, "and is the same");
    }
}
