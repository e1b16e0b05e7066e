//! What name servers are told about this broker, decided from its role and its tables. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;

use super::{ingress::Ingress, topics};
use crate::{
    ids::{BrokerId, LEADER_BROKER_ID, Term},
    protocol::{
        bodies::{self, DataVersion, RegisterBrokerBody, TopicConfig, TopicConfigTable},
        command::RemotingCommand,
        frame::FRAME_BYTES_MAX,
        headers::namesrv::{BrokerHeartbeat, RegisterBroker, UnregisterBroker},
        message, perm,
    },
    raft::{Roster, command::Topic, tables::Topics},
};

/// Ext field. True: the registration holds all topics, what is not in it does not exist. False: it
/// holds only those that have changed since the last one.
const TOPICS_COMPLETE: &str = "topicsComplete";
/// Ext field: the answer shall say, in the field of the same name, whether the broker is known on
/// this connection. RocketMQ's name servers ignore it and answer success in any case.
const TELL_ENTERED: &str = "tellEntered";
/// Ext field of a broker that takes writes whoever leads. Only name servers of ours know it.
const TAKES_WRITES: &str = "takesWrites";
/// Silence after which a name server forgets this broker. Ten heartbeats.
const SILENCE_MAX_MS: i64 = 10_000;

/// What does not change while a broker runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registrant {
    /// Its cluster.
    pub cluster: String,
    /// Its group (`brokerName`).
    pub group: String,
    /// `host:port` that clients are told.
    pub address: String,
    /// `host:port` for replication; clients never see it.
    pub ha_address: String,
}

/// What a broker is at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// 0 for the leader.
    pub broker_id: BrokerId,
    /// Raft term in which it has this id.
    pub term: Term,
    /// Counts changes of the topics; the same on every member.
    pub counter: i64,
    /// Time of the last one, in ms.
    pub changed_ms: i64,
    /// All topics.
    pub topics: Topics,
    /// What the broker allows of their permissions.
    pub permission: u32,
    /// Whether writes may be sent to it whoever leads. No part of the role: a name server of ours is
    /// told of a change at once, and without any topic.
    pub ingress: Ingress,
}

impl Announcement {
    /// Whether `other` says the same about who leads: then it can wait a little.
    pub fn same_role(&self, other: &Self) -> bool {
        (self.broker_id, self.term) == (other.broker_id, other.term)
    }

    /// The topics that are new or different since `told`. `None`: that is not all there is to say.
    pub fn changes_since(&self, told: &Self) -> Option<Vec<Arc<Topic>>> {
        if !self.same_role(told) || self.permission != told.permission {
            return None;
        }
        let (mut before, mut changed) = (told.topics.values().peekable(), Vec::new());
        for topic in self.topics.values() {
            match before.next_if(|before| before.name <= topic.name) {
                Some(same) if Arc::ptr_eq(same, topic) => {}
                Some(before) if before.name < topic.name => return None, // it was deleted
                Some(_) | None => changed.push(Arc::clone(topic)),
            }
        }
        before.peek().is_none().then_some(changed)
    }

    /// REGISTER_BROKER with all topics.
    pub fn request(&self, registrant: &Registrant) -> RemotingCommand {
        self.registration(registrant, self.topics.values()).with_field(TOPICS_COMPLETE, true)
    }

    /// REGISTER_BROKER with what [`Self::changes_since`] says, for a name server that knows it.
    pub fn changes(&self, registrant: &Registrant, changed: &[Arc<Topic>]) -> RemotingCommand {
        self.registration(registrant, changed.iter()).with_field(TOPICS_COMPLETE, false)
    }

    fn registration<'a>(
        &self,
        registrant: &Registrant,
        topics: impl Iterator<Item = &'a Arc<Topic>>,
    ) -> RemotingCommand {
        let body = self.body(topics);
        let header = RegisterBroker {
            broker_name: registrant.group.clone(),
            broker_addr: registrant.address.clone(),
            cluster_name: registrant.cluster.clone(),
            ha_server_addr: registrant.ha_address.clone(),
            broker_id: self.broker_id.0,
            heartbeat_timeout_millis: Some(SILENCE_MAX_MS),
            enable_acting_master: Some(false),
            compressed: false,
            body_crc32: i32::try_from(message::body_crc(&body)).unwrap_or(0),
            zone_name: None,
        };
        let request = header.request().with_field(TELL_ENTERED, true).with_body(body);
        match self.ingress {
            Ingress::Open => request.with_field(TAKES_WRITES, true),
            Ingress::Closed => request,
        }
    }

    fn body<'a>(&self, topics: impl Iterator<Item = &'a Arc<Topic>>) -> Bytes {
        let named = |topic: &Arc<Topic>| {
            let perm = allowed(topic.perm, self.permission);
            (topic.name.clone(), TopicConfig { perm, ..topics::to_config(topic) })
        };
        bodies::encode(&RegisterBrokerBody {
            filter_server_list: Vec::new(),
            topic_config_serialize_wrapper: TopicConfigTable {
                data_version: DataVersion {
                    counter: self.counter,
                    state_version: i64::try_from(self.term.0).unwrap_or(i64::MAX),
                    timestamp: self.changed_ms,
                },
                topic_config_table: topics.map(named).collect(),
                ..TopicConfigTable::default()
            },
        })
    }
}

/// What a registration may have of topics, bytes; the rest of its frame has some 1,000.
const TOPICS_BYTES_MAX: usize = FRAME_BYTES_MAX - 64 * 1024;

/// Whether all topics still fit into one registration when these have come or changed. A broker
/// with more is in no route.
pub fn fits<'a>(topics: &Topics, changed: impl Iterator<Item = &'a Topic>) -> bool {
    let mut changed: BTreeMap<&str, &Topic> =
        changed.map(|topic| (topic.name.as_str(), topic)).collect();
    let new: usize = changed.values().map(|topic| bytes_max(topic)).sum();
    if (topics.size() + changed.len()) * TOPIC_BYTES_MAX <= TOPICS_BYTES_MAX {
        return true;
    }
    let stays = topics.values().filter(|topic| changed.remove(topic.name.as_str()).is_none());
    stays.map(|topic| bytes_max(topic)).sum::<usize>() + new <= TOPICS_BYTES_MAX
}

/// More than a topic takes in a registration: what is around its names and attributes with numbers
/// of ten digits.
fn bytes_max(topic: &Topic) -> usize {
    let attributes = topic.attributes.iter().map(|(name, value)| name.len() + value.len() + 6);
    2 * topic.name.len() + attributes.sum::<usize>() + 190
}

/// Of any topic.
const TOPIC_BYTES_MAX: usize = 800;

/// A topic's permission on a broker that may itself be read-only or write-only.
fn allowed(topic: u32, broker: u32) -> u32 {
    let both = perm::READ | perm::WRITE;
    if broker & both == both { topic } else { topic & broker }
}

impl Registrant {
    /// BROKER_HEARTBEAT.
    pub fn heartbeat(&self) -> RemotingCommand {
        let header = BrokerHeartbeat {
            cluster_name: self.cluster.clone(),
            broker_addr: self.address.clone(),
            broker_name: self.group.clone(),
            broker_id: None,
            epoch: None,
            max_offset: None,
            confirm_offset: None,
            heartbeat_timeout_mills: Some(SILENCE_MAX_MS),
            election_priority: None,
        };
        header.request().with_field(TELL_ENTERED, true)
    }

    /// UNREGISTER_BROKER.
    pub fn farewell(&self, broker_id: BrokerId) -> RemotingCommand {
        UnregisterBroker {
            broker_name: self.group.clone(),
            broker_addr: self.address.clone(),
            cluster_name: self.cluster.clone(),
            broker_id: broker_id.0,
        }
        .request()
    }
}

/// Whether an answer says if this broker is in the name server's table: those that do also take
/// topics that changed alone for what they are.
pub fn says_entered(answer: &RemotingCommand) -> bool {
    answer.ext.get(TELL_ENTERED).is_some()
}

/// Whether an answer says that this broker is not in the name server's table.
pub fn says_unknown(answer: &RemotingCommand) -> bool {
    answer.ext.get(TELL_ENTERED) == Some("false")
}

/// Names of ordered topics in the answer to a registration; `None`: the name server has no table
/// of them, which says nothing about any topic.
pub fn ordered_topics(answer: &RemotingCommand) -> Option<BTreeSet<String>> {
    if answer.body.is_empty() {
        return None;
    }
    let table: bodies::KVTable = bodies::decode(&answer.body).ok()?;
    let named: BTreeMap<String, String> = table.table;
    Some(named.into_keys().collect())
}

/// The id to announce, if there is one: a member that is not part of a group yet or leaves it, or
/// the only one of its group, is nobody's follower. A member has the same id whenever it follows.
pub fn broker_id(leads: bool, term: Term, roster: &Roster) -> Option<BrokerId> {
    match (leads, term, roster.members.len()) {
        (true, ..) => Some(LEADER_BROKER_ID),
        (false, Term(0), _) | (false, _, 0 | 1) => None,
        (false, ..) => roster.own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registrant() -> Registrant {
        Registrant {
            cluster: "C".into(),
            group: "G".into(),
            address: "127.0.0.1:10911".into(),
            ha_address: "127.0.0.1:10912".into(),
        }
    }

    fn plain(name: &str) -> Arc<Topic> {
        Arc::new(topics::plain(name, 4, perm::READ | perm::WRITE))
    }

    fn announcement(topics: impl IntoIterator<Item = Arc<Topic>>) -> Announcement {
        let named = |topic: Arc<Topic>| (topic.name.as_str().into(), topic);
        Announcement {
            broker_id: BrokerId(0),
            term: Term(7),
            counter: 2,
            changed_ms: 1_795_224_858_244,
            topics: topics.into_iter().map(named).collect(),
            permission: perm::READ | perm::WRITE,
            ingress: Ingress::Closed,
        }
    }

    #[test]
    fn what_has_changed_is_said_alone_where_it_says_all() {
        let [a, b, c, d] = ["A", "B", "C", "D"].map(plain);
        let other_b = Arc::new(Topic { read_queues: 9, ..Topic::clone(&b) });
        let told = announcement([a.clone(), b.clone(), c.clone()]);
        let rows = [
            (vec![&a, &b, &c], Some(vec![])),
            (vec![&a, &b, &c, &d], Some(vec!["D"])),
            (vec![&a, &other_b, &c, &d], Some(vec!["B", "D"])),
            (vec![&b, &c], None),
            (vec![&a, &c, &d], None),
            (vec![&a, &b], None),
            (vec![&a, &b, &d], None),
            (vec![], None),
        ];
        for (topics, want) in rows {
            let names: Vec<_> = topics.iter().map(|t| t.name.clone()).collect();
            let changes = announcement(topics.into_iter().cloned()).changes_since(&told);
            let got = changes
                .as_ref()
                .map(|changed| changed.iter().map(|t| t.name.as_str()).collect::<Vec<_>>());
            assert_eq!(got, want, "{names:?}");
        }
        let first = announcement([a.clone()]);
        let late = Announcement { term: Term(8), ..announcement([a.clone(), b.clone()]) };
        assert_eq!(late.changes_since(&first), None, "another role");
        let open = Announcement { ingress: Ingress::Open, ..told.clone() };
        assert_eq!(open.changes_since(&told), Some(Vec::new()), "no topic for that");
        let read_only = Announcement { permission: perm::READ, ..announcement([a, b]) };
        assert_eq!(read_only.changes_since(&first), None, "another permission");
    }

    #[test]
    fn as_many_topics_may_be_as_fit_into_a_registration() {
        let most = u32::MAX;
        let long = |n: usize| {
            let mut topic = topics::plain(&format!("{n:0>127}"), most, most);
            (topic.sys_flag, topic.multi_tag) = (i32::MIN, true);
            topic.attributes = [
                ("message.type", "TRANSACTION"),
                ("queue.type", "SimpleCQ"),
                ("cleanup.policy", "DELETE"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
            Arc::new(topic)
        };
        let bytes =
            |topics: Vec<Arc<Topic>>| announcement(topics).request(&registrant()).body.len();
        for topic in [plain("T"), long(1)] {
            let (one, most) = (bytes(vec![Arc::clone(&topic)]) - bytes(vec![]), bytes_max(&topic));
            assert!(one <= most && most <= TOPIC_BYTES_MAX, "{one} {most}");
        }
        let all = announcement((0..30_000).map(long)).topics;
        let has_room = |n: usize| {
            let changed: Vec<_> = (0..n).map(long).collect();
            fits(&all, changed.iter().map(AsRef::as_ref))
        };
        assert!(has_room(31_000), "most of them change only");
        assert!(!has_room(35_000));
        // As many as come by use, with names as long as they may be.
        let by_use = |n: usize| Arc::new(topics::retry(&format!("{n:0>120}"), 1));
        let all = announcement((0..topics::BY_USE_MAX).map(by_use));
        assert!(all.request(&registrant()).body.len() < TOPICS_BYTES_MAX);
    }

    #[test]
    fn permissions_are_limited_by_the_brokers() {
        let rows = [((6, 6), 6), ((7, 6), 7), ((6, 4), 4), ((7, 4), 4), ((6, 2), 2), ((4, 6), 4)];
        for ((topic, broker), want) in rows {
            assert_eq!(allowed(topic, broker), want, "topic {topic} broker {broker}");
        }
    }

    #[test]
    fn ids_follow_the_role_and_what_the_group_recorded() {
        // (leads, term, own id, members), id
        let rows = [
            ((true, 3, Some(3), 3), Some(0)),
            ((false, 3, Some(1), 3), Some(1)),
            ((false, 3, Some(7), 3), Some(7)),
            ((false, 3, None, 3), None), // it is no member yet, or leaves
            ((true, 3, None, 3), Some(0)),
            ((false, 0, Some(3), 3), None),
            ((false, 3, Some(1), 1), None),
            ((true, 1, Some(1), 1), Some(0)),
        ];
        for ((leads, term, own, members), id) in rows {
            let members = (1..=members).map(|n| (format!("n{n}"), BrokerId(n))).collect();
            let roster = Roster { members, own: own.map(BrokerId) };
            let got = broker_id(leads, Term(term), &roster);
            assert_eq!(got, id.map(BrokerId), "{leads} {term} {roster:?}");
        }
    }

    #[test]
    fn a_registration_is_what_java_sends_and_two_fields() {
        let announcement = announcement([plain("VecTopic")]);
        let request = announcement.request(&registrant());
        let body = r#"{"filterServerList":[],"topicConfigSerializeWrapper":{"dataVersion":{"counter":2,"stateVersion":7,"timestamp":1795224858244},"mappingDataVersion":{"counter":0,"stateVersion":0,"timestamp":0},"topicConfigTable":{"VecTopic":{"attributes":{},"order":false,"perm":6,"readQueueNums":4,"topicFilterType":"SINGLE_TAG","topicName":"VecTopic","topicSysFlag":0,"writeQueueNums":4}},"topicQueueMappingDetailMap":{},"topicQueueMappingInfoMap":{}}}"#;
        assert_eq!(std::str::from_utf8(&request.body), Ok(body));
        let fields: BTreeMap<_, _> = request.ext.iter().collect();
        let crc = message::body_crc(body.as_bytes()).to_string();
        let want = [
            ("bodyCrc32", crc.as_str()),
            ("brokerAddr", "127.0.0.1:10911"),
            ("brokerId", "0"),
            ("brokerName", "G"),
            ("clusterName", "C"),
            ("compressed", "false"),
            ("enableActingMaster", "false"),
            ("haServerAddr", "127.0.0.1:10912"),
            ("heartbeatTimeoutMillis", "10000"),
            ("tellEntered", "true"),
            ("topicsComplete", "true"),
        ];
        assert_eq!(fields, BTreeMap::from(want));

        let open = Announcement { ingress: Ingress::Open, ..announcement };
        for request in [open.request(&registrant()), open.changes(&registrant(), &[])] {
            assert_eq!(request.ext.get("takesWrites"), Some("true"));
        }
    }

    #[test]
    fn answers_are_read() {
        let answer = || RemotingCommand::response(crate::protocol::codes::ResponseCode::SUCCESS);
        assert!(!says_unknown(&answer()) && !says_entered(&answer()));
        assert!(says_entered(&answer().with_field("tellEntered", true)));
        assert!(!says_unknown(&answer().with_field("tellEntered", true)));
        assert!(says_unknown(&answer().with_field("tellEntered", false)));
        let table = ordered_topics(&answer().with_body(r#"{"table":{"T":"b:4","U":"b:1"}}"#));
        assert_eq!(table, Some(BTreeSet::from(["T".into(), "U".into()])));
        assert_eq!(ordered_topics(&answer()), None);
        assert_eq!(ordered_topics(&answer().with_body("{")), None);
    }
}
