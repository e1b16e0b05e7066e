//! Looking messages up: by id, by key, by offset. queryCq: the ConsumeQueue itself.

mod consume_queue;
mod page;
mod track;

use clap::Args;
use serde::Serialize;

use super::{Session, each, message::shown::Shown};
use crate::{
    admin::{
        cli::trimmed,
        client::{Answered, QueueAt},
        error::Error,
    },
    protocol::{
        codes::RequestCode,
        headers::query::QueryMessage,
        message::{Record, id, key::split_keys, properties::names as property, records},
    },
};

pub(in crate::admin) use consume_queue::{QueryCq, consume_queue};

/// Flags of queryMsgById.
#[derive(Debug, Args)]
pub(in crate::admin) struct ById {
    /// name of the topic
    #[arg(short, long, value_parser = trimmed)]
    topic: String,
    /// offset message ids, separated by commas
    #[arg(short = 'i', long = "msgId", value_parser = trimmed)]
    ids: String,
    /// show the body as text of this encoding: UTF-8
    #[arg(short = 'f', long = "bodyFormat", ignore_case = true, value_parser = ["UTF-8"])]
    body: Option<String>,
}

/// Shows messages by their offset message ids.
pub(in crate::admin) async fn by_id(session: &mut Session<'_>, args: &ById) -> Result<(), Error> {
    for msg_id in args.ids.split(',').map(str::trim).filter(|msg_id| !msg_id.is_empty()) {
        let Some((host, physical)) = id::parse(msg_id) else {
            return Err(Error::Usage(format!(
                "{msg_id} is no offset message id (32 or 56 hexadecimal digits that begin with the \
                 broker's address); ids that producers make are found with queryMsgByUniqueKey"
            )));
        };
        let address = host.to_string();
        let record = session.admin.message_at(&address, &args.topic, physical).await?;
        let message = parsed(&record, &address, RequestCode::VIEW_MESSAGE_BY_ID)?;
        let broker_name = broker_name_at(session, &address).await;
        let shown = Shown::of(&message, &broker_name, None);
        let extras = page::Extras { offset_id: true, body_text: args.body.is_some() };
        page::show(session, shown, extras).await?;
    }
    Ok(())
}

/// The name of the broker group that has a member at `address`; empty if name servers do not know.
async fn broker_name_at(session: &Session<'_>, address: &str) -> String {
    let Ok(info) = session.admin.cluster_info().await else { return String::new() };
    let mut groups = info.broker_addr_table.into_values();
    let group = groups.find(|group| group.broker_addrs.values().any(|member| member == address));
    group.map(|group| group.broker_name).unwrap_or_default()
}

fn parsed<'a>(record: &'a [u8], address: &str, request: RequestCode) -> Result<Record<'a>, Error> {
    Record::parse(record).map_err(|cause| Error::unreadable(address, request, cause))
}

/// Flags of queryMsgByOffset.
#[derive(Debug, Args)]
pub(in crate::admin) struct ByOffset {
    /// name of the topic
    #[arg(short, long, value_parser = trimmed)]
    topic: String,
    /// name of the broker group
    #[arg(short, long = "brokerName", value_parser = trimmed)]
    broker: String,
    /// queue of the topic
    #[arg(short = 'i', long = "queueId")]
    queue: i32,
    /// offset in the queue
    #[arg(short, long)]
    offset: i64,
    /// show the body as text of this encoding: UTF-8
    #[arg(short = 'f', long = "bodyFormat", ignore_case = true, value_parser = ["UTF-8"])]
    body: Option<String>,
    /// ask the brokers of this topic, for a topic without a route of its own
    #[arg(short, long = "routeTopic", value_parser = trimmed)]
    route_topic: Option<String>,
}

/// Shows the message at an offset.
pub(in crate::admin) async fn by_offset(
    session: &mut Session<'_>,
    args: &ByOffset,
) -> Result<(), Error> {
    let place = args.route_topic.as_ref().unwrap_or(&args.topic);
    let route = session.admin.route(place).await?;
    let broker = route.broker_datas.iter().find(|broker| broker.broker_name == args.broker);
    let Some(address) = broker.and_then(|broker| broker.broker_addrs.values().next()) else {
        let text = format!("no live broker of group {} has topic {}", args.broker, args.topic);
        return Err(Error::Unable(text));
    };
    let queue = QueueAt { address, topic: &args.topic, queue_id: args.queue };
    let pulled = session.admin.pull(queue, super::pull::TOOLS_CONSUMER, args.offset, 1).await?;
    let Some(record) = records(&pulled.records).next() else {
        let (min, max) = pulled.bounds;
        return Err(Error::Unable(format!(
            "there is no message at offset {}: queue {} of topic {} has {min} up to, without, {max}",
            args.offset, args.queue, args.topic
        )));
    };
    let record =
        record.map_err(|cause| Error::unreadable(address, RequestCode::PULL_MESSAGE, cause))?;
    let shown = Shown::of(&record, &args.broker, None);
    let extras = page::Extras { offset_id: true, body_text: args.body.is_some() };
    page::show(session, shown, extras).await
}

/// Flags of queryMsgByUniqueKey.
#[derive(Debug, Args)]
pub(in crate::admin) struct ByUniqueKey {
    /// id that the producer gave the message
    #[arg(short = 'i', long = "msgId", value_parser = trimmed)]
    id: String,
    /// name of the topic
    #[arg(short, long, value_parser = trimmed)]
    topic: String,
    /// all messages with this id, at most 32
    #[arg(short = 'a', long = "showAll")]
    all: bool,
    /// ask the brokers of this cluster, or of this other topic, instead of those of the topic
    #[arg(short, long, value_parser = trimmed)]
    cluster: Option<String>,
    /// stored at or after, milliseconds
    #[arg(short, long = "startTime")]
    start: Option<i64>,
    /// stored at or before, milliseconds
    #[arg(short, long = "endTime")]
    end: Option<i64>,
}

const BY_UNIQUE_KEY_MAX: i32 = 32;
const BY_KEY_MAX: i32 = 64;

/// Shows messages by the id that the producer gave them.
pub(in crate::admin) async fn by_unique_key(
    session: &mut Session<'_>,
    args: &ByUniqueKey,
) -> Result<(), Error> {
    let header = QueryMessage {
        topic: args.topic.clone(),
        key: args.id.clone(),
        max_num: BY_UNIQUE_KEY_MAX,
        begin_timestamp: args.start.unwrap_or(0),
        end_timestamp: args.end.unwrap_or(i64::MAX),
        index_type: None,
        last_key: None,
        unique_key_query: true,
    };
    let place = args.cluster.as_ref().unwrap_or(&args.topic);
    let found = found(session, place, &header, |message| message.msg_id == args.id).await?;
    let wanted = if args.all { found.len() } else { 1 };
    for message in found.into_iter().take(wanted) {
        page::show(session, message, page::Extras::default()).await?;
    }
    Ok(())
}

/// Flags of queryMsgByKey.
#[derive(Debug, Args)]
pub(in crate::admin) struct ByKey {
    /// name of the topic
    #[arg(short, long, value_parser = trimmed)]
    topic: String,
    /// one of the message's keys
    #[arg(short, long = "msgKey", value_parser = trimmed)]
    key: String,
    /// stored at or after, milliseconds
    #[arg(short, long = "beginTimestamp")]
    begin: Option<i64>,
    /// stored at or before, milliseconds
    #[arg(short, long = "endTimestamp")]
    end: Option<i64>,
    /// at most so many messages from each broker group, default 64
    #[arg(short, long = "maxNum", value_parser = clap::value_parser!(i32).range(1..))]
    max: Option<i32>,
    /// ask the brokers of this cluster, or of this other topic, instead of those of the topic
    #[arg(short, long, value_parser = trimmed)]
    cluster: Option<String>,
    /// K for keys (the default) or T for tags
    #[arg(short = 'p', long = "keyType", value_parser = ["K", "T"])]
    key_type: Option<String>,
}

/// Lists messages by one of their keys.
pub(in crate::admin) async fn by_key(session: &mut Session<'_>, args: &ByKey) -> Result<(), Error> {
    let header = QueryMessage {
        topic: args.topic.clone(),
        key: args.key.clone(),
        max_num: args.max.unwrap_or(BY_KEY_MAX),
        begin_timestamp: args.begin.unwrap_or(0),
        end_timestamp: args.end.unwrap_or(i64::MAX),
        index_type: args.key_type.clone(),
        last_key: None,
        unique_key_query: false,
    };
    let by_tag = args.key_type.as_deref() == Some("T");
    let place = args.cluster.as_ref().unwrap_or(&args.topic);
    let found =
        found(session, place, &header, |message| has_key(message, &args.key, by_tag)).await?;
    let key_type = if by_tag { 'T' } else { 'K' };
    let index_keys = found.iter().map(|message| index_key(message, key_type, &args.key)).collect();
    session.out.show(&Found { messages: found, index_keys })
}

/// Where mqadmin says that a message is in the index of a Java broker: hour, topic, kind of key,
/// key, unique key, position.
fn index_key(message: &Shown, key_type: char, key: &str) -> String {
    const HOUR_MS: i64 = 3_600_000;
    let Shown { topic, msg_id, commit_log_offset, store_timestamp, .. } = message;
    let hour = store_timestamp - store_timestamp.rem_euclid(HOUR_MS);
    format!("{hour}@{topic}@{key_type}@{key}@{msg_id}@{commit_log_offset}")
}

/// The index knows hashes only: what it finds may be another message.
fn has_key(message: &Shown, key: &str, by_tag: bool) -> bool {
    let name = if by_tag { property::TAGS } else { property::KEYS };
    let Some(value) = message.properties.get(name) else { return false };
    if by_tag { value == key } else { split_keys(value).any(|one| one == key) }
}

/// Messages of all broker groups that `is_it`, oldest first. An error if there are none.
async fn found(
    session: &mut Session<'_>,
    place: &str,
    header: &QueryMessage,
    is_it: impl Fn(&Shown) -> bool,
) -> Result<Vec<Shown>, Error> {
    let route = session.admin.route(place).await?;
    let admin = &session.admin;
    let asked = each(&route.broker_datas, |broker| async move {
        (broker.broker_name.as_str(), admin.query(broker, header).await)
    })
    .await;
    let (mut found, mut failure) = (Vec::new(), None);
    for (broker_name, answered) in asked {
        let Answered { answer, address, in_vain } = match answered {
            Ok(answered) => answered,
            Err(error) => {
                if let Some(earlier) = failure.replace(error) {
                    session.out.fail(&earlier);
                }
                continue;
            }
        };
        in_vain.iter().for_each(|error| session.out.remark(error));
        for record in records(&answer) {
            let record = record
                .map_err(|cause| Error::unreadable(&address, RequestCode::QUERY_MESSAGE, cause))?;
            found.push(Shown::of(&record, broker_name, None));
        }
    }
    found.retain(|message| message.topic == header.topic && is_it(message));
    found.sort_by_key(|message| message.store_timestamp);
    match failure {
        Some(error) if found.is_empty() => Err(error),
        None if found.is_empty() => Err(Error::Unable(format!(
            "no message of topic {} has the key {}; just stored ones may not be indexed yet",
            header.topic, header.key
        ))),
        failure => {
            failure.iter().for_each(|error| session.out.fail(error));
            Ok(found)
        }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Found {
    messages: Vec<Shown>,
    #[serde(skip)]
    index_keys: Vec<String>,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let titles = ("#Message ID", "#QID", "#Offset", "#IndexKey");
        writeln!(f, "{:<50} {:>4} {:>40} {:<200}", titles.0, titles.1, titles.2, titles.3)?;
        for (message, index_key) in self.messages.iter().zip(&self.index_keys) {
            let Shown { msg_id, queue_id, queue_offset, .. } = message;
            writeln!(f, "{msg_id:<50} {queue_id:>4} {queue_offset:>40} {index_key:<200}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::golden;

    fn messages(name: &str) -> Vec<Shown> {
        let body = golden::answer(name).body;
        records(&body).map(|record| Shown::of(&record.unwrap(), "b", None)).collect()
    }

    #[test]
    fn what_java_finds_by_key_is_checked_and_printed_as_mqadmin_does() {
        let found = messages("client-java-query-message");
        assert!(!found.is_empty());
        let key = found[0].properties["KEYS"].clone();
        let one = split_keys(&key).next().unwrap();
        assert!(has_key(&found[0], one, false) && !has_key(&found[0], "another", false));
        assert!(!has_key(&found[0], one, true));
        let index_keys = vec![index_key(&found[0], 'K', one)];
        let text = Found { messages: found[..1].to_vec(), index_keys }.to_string();
        let title = "#Message ID                                        #QID                                  #Offset #IndexKey ";
        assert!(text.starts_with(title), "{text}");
        let Shown { msg_id, commit_log_offset, .. } = &found[0];
        let end = format!("00000@{}@K@{one}@{msg_id}@{commit_log_offset}", found[0].topic);
        assert!(text.trim_end().ends_with(&end), "{text}");
    }

    #[test]
    fn what_java_finds_by_unique_key_has_that_id() {
        let found = messages("client-java-query-message-unique");
        assert_eq!(found[0].msg_id, found[0].properties["UNIQ_KEY"]);
        assert_eq!(id::parse(&found[0].offset_msg_id).unwrap().1, found[0].commit_log_offset);
    }
}
