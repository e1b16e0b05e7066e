//! The golden vectors of `tests/golden`, recorded from Java servers and Java and Go clients:
//! everything decodes to what it means, and what we would send is what Java sends.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use rmq::protocol::{
    bodies,
    codes::{LanguageCode, RequestCode, ResponseCode},
    command::RemotingCommand,
    ext_fields::{ExtFields, FieldError},
    frame,
    headers::{
        admin, client, group, namesrv, offset, pop, pull, query, route, send, topic, transaction,
    },
    lenient_json,
    message::{self, Record, batch, properties},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// One recorded frame.
struct Frame {
    vector: String,
    /// Code of the request that this is or answers; 0 where only the answer was recorded.
    request: RequestCode,
    is_request: bool,
    bytes: Vec<u8>,
    meaning: Value,
}

impl Frame {
    fn command(&self) -> RemotingCommand {
        let mut buffer = BytesMut::from(&self.bytes[..]);
        let frame = frame::next(&mut buffer, frame::FRAME_BYTES_MAX).unwrap().unwrap();
        assert!(buffer.is_empty(), "{}: bytes behind the frame", self.vector);
        RemotingCommand::decode(frame).unwrap_or_else(|e| panic!("{}: {e}", self.vector))
    }

    fn body_kind(&self) -> &str {
        self.meaning["bodyKind"].as_str().unwrap_or_default()
    }

    fn name(&self) -> String {
        let side = if self.is_request { "request" } else { "answer" };
        format!("{} ({side} of {})", self.vector, self.request)
    }
}

fn vectors() -> Vec<(String, Value)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    assert_eq!(paths.len(), 252, "vectors in tests/golden");
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
    };
    paths.into_iter().map(read).collect()
}

/// Frames of the remoting protocol.
fn frames() -> Vec<Frame> {
    let mut frames = Vec::new();
    for (vector, json) in vectors() {
        let mut request = RequestCode(0);
        for meaning in json["frames"].as_array().unwrap() {
            let is_request = match meaning["role"].as_str() {
                Some("request") => true,
                Some("response") => false,
                _ => continue, // a file, or the HA stream
            };
            if is_request {
                request = RequestCode(int(&meaning["header"]["code"]));
            }
            frames.push(Frame {
                vector: vector.clone(),
                request,
                is_request,
                bytes: unhex(meaning["hex"].as_str().unwrap()),
                meaning: meaning.clone(),
            });
        }
    }
    assert!(frames.len() > 400, "{} frames", frames.len());
    frames
}

fn int(value: &Value) -> i32 {
    value.as_i64().unwrap().try_into().unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn every_header_decodes_to_what_it_means() {
    for frame in frames() {
        let (got, want) = (frame.command(), &frame.meaning["header"]);
        let name = frame.name();
        assert_eq!(got.code, int(&want["code"]), "{name}");
        assert_eq!(got.opaque, int(&want["opaque"]), "{name}");
        assert_eq!(got.flag, int(&want["flag"]), "{name}");
        assert_eq!(got.version, int(&want["version"]), "{name}");
        assert_eq!(got.remark.as_deref(), want["remark"].as_str(), "{name}");
        let language = match &want["language"] {
            Value::String(language) => LanguageCode::by_name(language),
            code => code.as_u64().and_then(|code| u8::try_from(code).ok()).map(LanguageCode),
        };
        assert_eq!(Some(got.language), language, "{name}");
        let fields: BTreeMap<&str, &str> = got.ext.iter().collect();
        let wanted = want["extFields"].as_object();
        let wanted: BTreeMap<&str, &str> = wanted
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
            .collect();
        assert_eq!(fields, wanted, "{name}");
        assert_eq!(got.is_response(), !frame.is_request, "{name}");
    }
}

#[test]
fn java_headers_come_out_again_byte_for_byte() {
    let mut compared = 0;
    for frame in frames() {
        let by_java = frame.meaning["headerText"]
            .as_str()
            .is_some_and(|text| text.contains("serializeTypeCurrentRPC"));
        if by_java {
            let mut out = BytesMut::new();
            frame.command().encode(&mut out);
            assert_eq!(hex(&out), hex(&frame.bytes), "{}", frame.name());
            compared += 1;
        }
    }
    assert!(compared > 350, "{compared} headers compared");
}

#[test]
fn send_answers_are_written_as_java_does() {
    let mut compared = 0;
    for frame in frames() {
        let command = frame.command();
        if frame.is_request || command.code != 0 || command.ext.get("TRACE_ON").is_none() {
            continue;
        }
        let answer = send::SendAnswer::parse(&command).unwrap();
        let ids: Vec<_> =
            answer.msg_id.split(',').map(|id| message::id::parse(id).unwrap()).collect();
        let response = send::SendResponse {
            code: ResponseCode(command.code),
            queue_id: answer.queue_id.try_into().unwrap(),
            queue_offset: answer.queue_offset.try_into().unwrap(),
            msg_id: send::MsgIds {
                store_host: ids[0].0,
                physical: ids.iter().map(|(_, physical)| *physical).collect(),
            },
            transaction_id: answer.transaction_id,
            region: answer.region.unwrap().into(),
            trace_on: true,
            recall_handle: answer.recall_handle.clone(),
        };
        let mut out = BytesMut::new();
        response.encode_answer(command.opaque, &mut out);
        if answer.recall_handle.is_none() {
            assert_eq!(hex(&out), hex(&frame.bytes), "{}", frame.name());
        } else {
            assert_eq!(out.len(), frame.bytes.len(), "{}: order differs", frame.name());
        }
        compared += 1;
    }
    assert!(compared >= 10, "{compared} answers compared");
}

/// Reads a typed header and writes it again.
type Rewrite = fn(&RemotingCommand) -> Result<ExtFields, FieldError>;

macro_rules! rewrite {
    ($header:ty) => {
        |command| {
            let mut ext = ExtFields::new();
            <$header>::parse(command)?.write(&mut ext);
            Ok(ext)
        }
    };
}

/// Typed headers by request: of the request, of its successful answer.
fn headers(code: RequestCode) -> (Option<Rewrite>, Option<Rewrite>) {
    let request: Option<Rewrite> = match code {
        RequestCode::SEND_MESSAGE
        | RequestCode::SEND_MESSAGE_V2
        | RequestCode::SEND_BATCH_MESSAGE
        | RequestCode::SEND_REPLY_MESSAGE
        | RequestCode::SEND_REPLY_MESSAGE_V2 => Some(|command| {
            let mut ext = ExtFields::new();
            send::SendRequest::parse(command)?.write(command.request_code(), &mut ext);
            Ok(ext)
        }),
        RequestCode::PULL_MESSAGE | RequestCode::LITE_PULL_MESSAGE => {
            Some(rewrite!(pull::PullRequest<'_>))
        }
        _ => plain_request(code),
    };
    let answer: Option<Rewrite> = match code {
        RequestCode::SEND_MESSAGE
        | RequestCode::SEND_MESSAGE_V2
        | RequestCode::SEND_BATCH_MESSAGE
        | RequestCode::SEND_REPLY_MESSAGE_V2 => Some(rewrite!(send::SendAnswer)),
        RequestCode::PULL_MESSAGE | RequestCode::LITE_PULL_MESSAGE => {
            Some(rewrite!(pull::PullAnswer))
        }
        RequestCode::QUERY_CONSUMER_OFFSET
        | RequestCode::GET_MAX_OFFSET
        | RequestCode::GET_MIN_OFFSET
        | RequestCode::SEARCH_OFFSET_BY_TIMESTAMP => Some(rewrite!(offset::OffsetAnswer)),
        RequestCode::GET_EARLIEST_MSG_STORETIME => Some(rewrite!(offset::TimestampAnswer)),
        RequestCode::HEART_BEAT => Some(rewrite!(client::HeartbeatAnswer)),
        RequestCode::QUERY_MESSAGE => Some(rewrite!(query::QueryMessageAnswer)),
        RequestCode::GET_ALL_TOPIC_CONFIG => Some(rewrite!(topic::AllTopicConfig)),
        RequestCode::GET_ALL_SUBSCRIPTIONGROUP_CONFIG => Some(rewrite!(group::AllGroups)),
        RequestCode::GET_BROKER_CONFIG => Some(rewrite!(admin::BrokerConfigAnswer)),
        RequestCode::REGISTER_BROKER => Some(rewrite!(namesrv::RegisterBrokerAnswer)),
        RequestCode::QUERY_DATA_VERSION => Some(rewrite!(namesrv::DataVersionChanged)),
        RequestCode::WIPE_WRITE_PERM_OF_BROKER => Some(rewrite!(namesrv::WipeWritePermAnswer)),
        RequestCode::ADD_WRITE_PERM_OF_BROKER => Some(rewrite!(namesrv::AddWritePermAnswer)),
        RequestCode::GET_KV_CONFIG => Some(rewrite!(namesrv::KvConfig)),
        RequestCode::RECALL_MESSAGE => Some(rewrite!(transaction::RecallMessageAnswer)),
        RequestCode::POP_MESSAGE | RequestCode::PEEK_MESSAGE => Some(rewrite!(pop::PopAnswer)),
        RequestCode::CHANGE_MESSAGE_INVISIBLETIME => Some(rewrite!(pop::ChangeInvisibleTimeAnswer)),
        RequestCode::NOTIFICATION => Some(rewrite!(pop::NotificationAnswer)),
        RequestCode::POLLING_INFO => Some(rewrite!(pop::PollingInfoAnswer)),
        _ => None,
    };
    (request, answer)
}

macro_rules! by_code {
    ($code:ident: $($header:ty),* $(,)?) => {
        $(if $code == <$header>::CODE { return Some(rewrite!($header)); })*
    };
}

fn plain_request(code: RequestCode) -> Option<Rewrite> {
    by_code!(code:
        admin::GetBrokerConsumeStats, admin::ResumeCheckHalfMessage, admin::ViewBrokerStats,
        client::ConsumeMessageDirectly, client::GetConsumerList, client::GetConsumerRunningInfo,
        client::NotifyConsumerIdsChanged, client::PushReply, client::SendBack,
        client::UnregisterClient,
        group::CloneGroupOffset, group::DeleteGroup, group::GetAllGroups, group::GetConsumeStats,
        group::GetConsumerConnections, group::GetGroup, group::GetProducerConnections,
        group::QuerySubscription, group::QueryTopicsByConsumer, group::UpdateGroupForbidden,
        namesrv::AddWritePerm, namesrv::BrokerHeartbeat, namesrv::DeleteKvConfig,
        namesrv::DeleteTopicInNamesrv, namesrv::GetBrokerMemberGroup, namesrv::GetKvConfig,
        namesrv::GetKvList, namesrv::GetTopicsByCluster, namesrv::PutKvConfig,
        namesrv::QueryDataVersion, namesrv::RegisterBroker, namesrv::RegisterTopic,
        namesrv::UnregisterBroker, namesrv::WipeWritePerm,
        offset::GetClientStatus, offset::GetConsumerStatus, offset::GetEarliestStoreTime,
        offset::GetMaxOffset, offset::GetMinOffset, offset::QueryConsumerOffset,
        offset::QueryCorrectionOffset, offset::ResetClientOffset, offset::ResetOffset,
        offset::SearchOffset, offset::UpdateConsumerOffset,
        pop::Ack, pop::ChangeInvisibleTime, pop::Notification, pop::Peek, pop::PollingInfo,
        pop::Pop,
        query::QueryConsumeQueue, query::QueryConsumeTimeSpan, query::QueryMessage,
        query::ViewMessage,
        route::GetRoute,
        topic::CreateTopic, topic::DeleteTopic, topic::GetAllTopicConfig, topic::GetTopicConfig,
        topic::GetTopicStats, topic::QueryTopicConsumeByWho,
        transaction::CheckTransactionState, transaction::EndTransaction,
        transaction::RecallMessage,
    );
    None
}

/// Fields that are carried by frames and that no typed header has: credentials, namespaces, static
/// topics, the proxy; trace switches of answers.
const IGNORED: [&str; 8] =
    ["AccessKey", "Signature", "bname", "n", "lo", "ReqT", "TRACE_ON", "MSG_REGION"];

#[test]
fn typed_headers_keep_every_field() {
    let mut compared = 0;
    for frame in frames() {
        let (command, name) = (frame.command(), frame.name());
        let (request, answer) = headers(frame.request);
        let rewrite = if frame.is_request {
            request
        } else {
            answer.filter(|_| command.response_code() == ResponseCode::SUCCESS)
        };
        let sent = || command.ext.iter().filter(|(field, _)| !IGNORED.contains(field));
        let Some(rewrite) = rewrite else {
            let known = frame.is_request || command.response_code() != ResponseCode::SUCCESS;
            assert!(sent().count() == 0 || known, "{name}: an answer without a typed header");
            let harmless = frame.request == RequestCode(9999) || sent().count() == 0;
            assert!(harmless || !frame.is_request, "{name}: a request without a typed header");
            continue;
        };
        let written = match rewrite(&command) {
            Ok(written) => written,
            // The two vectors about missing fields; Java answers null pointer texts.
            Err(FieldError::Missing { .. }) if frame.vector.contains("missing-") => continue,
            Err(error) => panic!("{name}: {error}"),
        };
        for (field, value) in sent().filter(|(_, value)| !value.is_empty()) {
            assert_eq!(written.get(field), Some(value), "{name}: {field}");
        }
        compared += 1;
    }
    assert!(compared > 230, "{compared} headers compared");
}

/// Reads a typed body and writes it again.
type Rebody = fn(&[u8]) -> Bytes;

fn rebody<T: Serialize + DeserializeOwned>() -> Option<Rebody> {
    Some(|body| bodies::encode(&bodies::decode::<T>(body).unwrap()))
}

/// Typed JSON bodies: of the request, of its answer.
fn typed_body(code: RequestCode, is_request: bool) -> Option<Rebody> {
    match (code, is_request) {
        (RequestCode::HEART_BEAT, true) => rebody::<bodies::HeartbeatData>(),
        (RequestCode::CHECK_CLIENT_CONFIG, true) => rebody::<bodies::CheckClientConfig>(),
        (RequestCode::LOCK_BATCH_MQ | RequestCode::UNLOCK_BATCH_MQ, true) => {
            rebody::<bodies::LockBatch>()
        }
        (RequestCode::LOCK_BATCH_MQ, false) => rebody::<bodies::LockedQueues>(),
        (RequestCode::GET_CONSUMER_LIST_BY_GROUP, false) => rebody::<bodies::ConsumerList>(),
        (RequestCode::REGISTER_BROKER, true) => rebody::<bodies::RegisterBrokerBody>(),
        (
            RequestCode::REGISTER_BROKER
            | RequestCode::GET_KVLIST_BY_NAMESPACE
            | RequestCode::GET_BROKER_RUNTIME_INFO,
            false,
        ) => rebody::<bodies::KVTable>(),
        (RequestCode::QUERY_DATA_VERSION, _) => rebody::<bodies::DataVersion>(),
        (RequestCode::GET_ROUTEINFO_BY_TOPIC, false) => rebody::<bodies::TopicRouteData>(),
        (RequestCode::GET_BROKER_CLUSTER_INFO, false) => rebody::<bodies::ClusterInfo>(),
        (RequestCode::GET_BROKER_MEMBER_GROUP, false) => rebody::<bodies::BrokerMemberGroupBody>(),
        (
            RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER
            | RequestCode::GET_TOPICS_BY_CLUSTER
            | RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_NS
            | RequestCode::GET_UNIT_TOPIC_LIST
            | RequestCode::GET_HAS_UNIT_SUB_TOPIC_LIST
            | RequestCode::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST
            | RequestCode::QUERY_TOPICS_BY_CONSUMER,
            false,
        ) => rebody::<bodies::TopicList>(),
        (RequestCode::GET_ALL_TOPIC_CONFIG, false) => rebody::<bodies::TopicConfigTable>(),
        (RequestCode::GET_TOPIC_CONFIG, false) => rebody::<bodies::TopicConfig>(),
        _ => typed_admin_body(code, is_request),
    }
}

fn typed_admin_body(code: RequestCode, is_request: bool) -> Option<Rebody> {
    match (code, is_request) {
        (RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, true)
        | (RequestCode::GET_SUBSCRIPTIONGROUP_CONFIG, false) => {
            rebody::<bodies::SubscriptionGroupConfig>()
        }
        (RequestCode::GET_ALL_SUBSCRIPTIONGROUP_CONFIG, false) => {
            rebody::<bodies::SubscriptionGroupTable>()
        }
        (RequestCode::GET_TOPIC_STATS_INFO, false) => rebody::<bodies::TopicStatsTable>(),
        (RequestCode::GET_CONSUME_STATS, false) => rebody::<bodies::ConsumeStats>(),
        (RequestCode::GET_BROKER_CONSUME_STATS, false) => rebody::<bodies::ConsumeStatsList>(),
        (RequestCode::GET_CONSUMER_CONNECTION_LIST, false) => {
            rebody::<bodies::ConsumerConnection>()
        }
        (RequestCode::GET_PRODUCER_CONNECTION_LIST, false) => {
            rebody::<bodies::ProducerConnection>()
        }
        (RequestCode::GET_ALL_PRODUCER_INFO, false) => rebody::<bodies::ProducerTable>(),
        (RequestCode::GET_ALL_CONSUMER_OFFSET, false) => rebody::<bodies::ConsumerOffsetTable>(),
        (RequestCode::GET_ALL_DELAY_OFFSET, false) => rebody::<bodies::DelayOffsetTable>(),
        (RequestCode::INVOKE_BROKER_TO_RESET_OFFSET, false)
        | (RequestCode::RESET_CONSUMER_CLIENT_OFFSET, true) => rebody::<bodies::QueueOffsets>(),
        (RequestCode::QUERY_TOPIC_CONSUME_BY_WHO, false) => rebody::<bodies::GroupList>(),
        (RequestCode::QUERY_SUBSCRIPTION_BY_CONSUMER, false) => {
            rebody::<bodies::SubscriptionOfGroup>()
        }
        (RequestCode::QUERY_CONSUME_TIME_SPAN, false) => rebody::<bodies::ConsumeTimeSpans>(),
        (RequestCode::QUERY_CONSUME_QUEUE, false) => rebody::<bodies::ConsumeQueueBody>(),
        (RequestCode::VIEW_BROKER_STATS_DATA, false) => rebody::<bodies::BrokerStatsData>(),
        (RequestCode::UPDATE_AND_GET_GROUP_FORBIDDEN, false) => rebody::<bodies::GroupForbidden>(),
        (RequestCode::GET_BROKER_HA_STATUS, false) => rebody::<bodies::HaRuntimeInfo>(),
        (RequestCode::CONSUME_MESSAGE_DIRECTLY, false) => rebody::<bodies::ConsumeDirectlyResult>(),
        (RequestCode::QUERY_ASSIGNMENT, true) => rebody::<bodies::QueryAssignment>(),
        (RequestCode::QUERY_ASSIGNMENT, false) => rebody::<bodies::QueueAssignments>(),
        _ => None,
    }
}

/// JSON bodies that only pass through or that nobody here reads or writes yet.
const WITHOUT_TYPED_BODY: [RequestCode; 5] = [
    RequestCode::GET_CONSUMER_RUNNING_INFO, // relayed as it is
    RequestCode::GET_TIMER_METRICS,
    RequestCode::BATCH_ACK_MESSAGE,
    RequestCode::SET_MESSAGE_REQUEST_MODE,
    RequestCode::GET_ALL_MESSAGE_REQUEST_MODE,
];

/// The same text whatever order its maps and sets have.
fn in_order(mut value: Value) -> Value {
    match &mut value {
        Value::Array(items) => {
            *items = std::mem::take(items).into_iter().map(in_order).collect();
            items.sort_by_key(Value::to_string);
        }
        Value::Object(members) => {
            members.values_mut().for_each(|member| *member = in_order(member.take()));
        }
        _ => {}
    }
    value
}

/// What Java has and we leave out, and what clients leave out and we write.
fn reconciled(mut value: Value, frame: &Frame) -> Value {
    if let Some(members) = value.as_object_mut() {
        if frame.request == RequestCode::GET_ALL_CONSUMER_OFFSET {
            members.remove("groupTopicMap");
            members.remove("pullOffsetTable");
        }
        if frame.request == RequestCode::HEART_BEAT {
            members.entry("heartbeatFingerprint").or_insert(0.into());
            members.entry("withoutSub").or_insert(false.into());
            members.entry("consumerDataSet").or_insert(Value::Array(Vec::new()));
        }
        if frame.vector == "namesrv-register-broker-bad-crc" {
            return Value::Null; // composed by hand, without most members
        }
    }
    let text = value.to_string();
    let go_sends_hashes_as_text =
        text.replace(r#""codeSet":["2598925"]"#, r#""codeSet":[2598925]"#);
    in_order(serde_json::from_str(&go_sends_hashes_as_text).unwrap())
}

#[test]
fn typed_bodies_keep_every_member() {
    let mut compared = 0;
    for frame in frames() {
        if !matches!(frame.body_kind(), "json" | "nonstandard-json") {
            continue;
        }
        let name = frame.name();
        let Some(rebody) = typed_body(frame.request, frame.is_request) else {
            assert!(WITHOUT_TYPED_BODY.contains(&frame.request), "{name}: no typed body");
            continue;
        };
        let sent = frame.command().body;
        let written = rebody(&sent);
        let tree = |body: &[u8]| {
            reconciled(
                lenient_json::from_slice(body).unwrap_or_else(|e| panic!("{name}: {e}")),
                &frame,
            )
        };
        assert_eq!(tree(&written), tree(&sent), "{name}");
        compared += 1;
    }
    assert!(compared > 75, "{compared} bodies compared");
}

#[test]
fn bodies_without_hash_order_come_out_byte_for_byte() {
    type Again = fn(&[u8], bodies::NumericKeys) -> Bytes;
    let rows: [(&str, Again); 9] = [
        ("namesrv-route-old-client-unquoted", again::<bodies::TopicRouteData>),
        ("namesrv-route-java49", again::<bodies::TopicRouteData>),
        ("namesrv-route-java55", again::<bodies::TopicRouteData>),
        ("namesrv-broker-member-group", again::<bodies::BrokerMemberGroupBody>),
        ("admin-reset-offset-java", again::<bodies::QueueOffsets>),
        ("admin-get-subscription-group", again::<bodies::SubscriptionGroupConfig>),
        ("admin-topic-config", again::<bodies::TopicConfig>),
        ("admin-consumer-connection", again::<bodies::ConsumerConnection>),
        ("client-java-lock", again::<bodies::LockedQueues>),
    ];
    let frames = frames();
    for (vector, again) in rows {
        let frame = frames.iter().find(|f| f.vector == vector && !f.is_request).unwrap();
        let sent = frame.command().body;
        let text = String::from_utf8_lossy(&sent);
        let bare = text.contains("{0:") || text.contains(",1:");
        let numeric = if bare { bodies::NumericKeys::Bare } else { bodies::NumericKeys::Quoted };
        assert_eq!(again(&sent, numeric), sent, "{vector}");
    }
}

fn again<T: Serialize + DeserializeOwned>(body: &[u8], numeric: bodies::NumericKeys) -> Bytes {
    bodies::encode_with(&bodies::decode::<T>(body).unwrap(), numeric)
}

#[test]
fn records_decode_to_what_they_mean_and_come_out_byte_for_byte() {
    let mut compared = 0;
    for frame in frames().iter().filter(|frame| frame.body_kind() == "messages") {
        compared += check_records(&frame.name(), &frame.command().body, &frame.meaning["body"]);
    }
    for (vector, json) in vectors() {
        if matches!(&vector[..], "storage-commitlog-first-message" | "storage-commitlog-v2-record")
        {
            let fragment = &json["frames"][0];
            let bytes = unhex(fragment["hex"].as_str().unwrap());
            compared += check_records(&vector, &bytes, &fragment["decoded"]);
        }
    }
    assert!(compared > 40, "{compared} records compared");
}

fn check_records(name: &str, bytes: &[u8], meaning: &Value) -> usize {
    let records: Vec<Record<'_>> = message::records(bytes).collect::<Result<_, _>>().unwrap();
    let meaning = meaning.as_array().unwrap();
    assert_eq!(records.len(), meaning.len(), "{name}");
    let mut again = Vec::new();
    for (record, want) in records.iter().zip(meaning) {
        let long = |member: &str| want[member].as_i64().unwrap();
        let text = |member: &str| want[member].as_str().unwrap();
        assert_eq!(record.stored_bytes() as i64, long("totalSize"), "{name}");
        assert_eq!(i64::from(record.body_crc()), long("bodyCrc"), "{name}");
        assert_eq!(i64::from(record.queue_id()), long("queueId"), "{name}");
        assert_eq!(i64::from(record.flag()), long("flag"), "{name}");
        assert_eq!(record.queue_offset() as i64, long("queueOffset"), "{name}");
        assert_eq!(record.physical() as i64, long("physicOffset"), "{name}");
        assert_eq!(i64::from(record.sys_flag()), long("sysFlag"), "{name}");
        assert_eq!(record.born_timestamp(), long("bornTimestamp"), "{name}");
        assert_eq!(record.born_host().to_string(), text("bornHost"), "{name}");
        assert_eq!(record.store_timestamp(), long("storeTimestamp"), "{name}");
        assert_eq!(record.store_host().to_string(), text("storeHost"), "{name}");
        assert_eq!(i64::from(record.reconsume_times()), long("reconsumeTimes"), "{name}");
        let prepared = record.prepared_transaction_offset();
        assert_eq!(prepared, long("preparedTransactionOffset"), "{name}");
        assert_eq!(record.body().len() as i64, long("bodyLength"), "{name}");
        assert_eq!(record.topic(), text("topic"), "{name}");
        assert!(record.body_is_intact(), "{name}");
        check_properties(name, record.properties(), &want["properties"]);
        let tags = want["properties"]["TAGS"].as_str();
        assert_eq!(record.indexed().tags, tags, "{name}");

        let draft = record.to_draft();
        draft.check().unwrap();
        let mut out = vec![0xEE; draft.stored_bytes()];
        draft.encode(record.place(), &mut out);
        again.extend_from_slice(&out);
    }
    assert_eq!(hex(&again), hex(bytes), "{name}");
    records.len()
}

fn check_properties(name: &str, got: &[u8], want: &Value) {
    let got: BTreeMap<&str, &str> = properties::iter(got).collect();
    let want = want.as_object().unwrap().iter();
    let want: BTreeMap<&str, &str> =
        want.map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
    assert_eq!(got, want, "{name}");
}

#[test]
fn batches_decode_to_what_they_mean_and_come_out_byte_for_byte() {
    let mut compared = 0;
    for frame in frames().iter().filter(|frame| frame.body_kind() == "batch") {
        let (name, body) = (frame.name(), frame.command().body);
        let items = batch::items(&body).unwrap();
        let meaning = frame.meaning["body"].as_array().unwrap();
        assert_eq!(items.len(), meaning.len(), "{name}");
        let mut again = BytesMut::new();
        for (item, want) in items.iter().zip(meaning) {
            assert_eq!(item.flag, int(&want["flag"]), "{name}");
            assert_eq!(item.body, want["bodyText"].as_str().unwrap(), "{name}");
            check_properties(&name, &item.properties, &want["properties"]);
            batch::put_item(&mut again, item);
        }
        assert_eq!(hex(&again), hex(&body), "{name}");
        compared += 1;
    }
    assert_eq!(compared, 3);
}
