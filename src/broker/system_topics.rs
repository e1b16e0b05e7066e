//! Topics and groups that are there after a first start. The leader creates what is missing,
//! through the log like everybody else, and never changes what is there.

use crate::protocol::{names, perm};
use crate::raft::command::{Command, Topic};
use crate::raft::tables::Tables;

use super::{groups, topics};

/// Queues of the topic named like the cluster.
const CLUSTER_TOPIC_QUEUES: u32 = 16;
/// Queues of the benchmark tool's topic.
const BENCHMARK_QUEUES: u32 = 1024;
/// Queues of the delayed messages' topic: one per level.
const DELAY_LEVELS: u32 = 18;

/// What decides which topics these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemTopics {
    /// The cluster's name.
    pub cluster: String,
    /// The broker group's name.
    pub group: String,
    /// Whether there is a topic named like the cluster.
    pub cluster_topic: bool,
    /// Whether there is a topic named like the broker group.
    pub group_topic: bool,
    /// Name of the topic for traces, if there shall be one.
    pub trace: Option<String>,
    /// Queues of the template of topics created by a send; `None`: sends create none.
    pub template_queues: Option<u32>,
}

/// All topics that shall exist.
pub fn wanted(of: &SystemTopics) -> Vec<Topic> {
    const RW: u32 = perm::READ | perm::WRITE;
    const RWX: u32 = RW | perm::INHERIT;
    let mut list = vec![
        topics::plain(names::SELF_TEST_TOPIC, 1, RW),
        topics::plain(names::BENCHMARK_TOPIC, BENCHMARK_QUEUES, RW),
        topics::plain(names::OFFSET_MOVED_EVENT, 1, RW),
        topics::plain(names::SCHEDULE_TOPIC, DELAY_LEVELS, RW),
        topics::plain(names::TRANS_HALF_TOPIC, 1, RW),
        topics::plain(names::TRANS_OP_HALF_TOPIC, 1, RW),
        topics::plain(names::TIMER_TOPIC, 1, RW),
        topics::plain(&reply_topic(&of.cluster), 1, RW),
    ];
    if let Some(queues) = of.template_queues {
        list.push(topics::plain(names::TBW102, queues, RWX));
    }
    if of.cluster_topic {
        list.push(topics::plain(&of.cluster, CLUSTER_TOPIC_QUEUES, RWX));
    }
    if of.group_topic {
        list.push(topics::plain(&of.group, 1, RWX));
    }
    if let Some(trace) = &of.trace {
        list.push(topics::plain(trace, 1, RW));
    }
    list
}

/// The commands that create what is missing in `tables`.
pub fn missing(of: &SystemTopics, tables: &Tables) -> Vec<Command> {
    let topics = wanted(of)
        .into_iter()
        .filter(|topic| tables.topic(&topic.name).is_none())
        .map(Command::EnsureTopic);
    let groups = names::SYSTEM_GROUPS
        .into_iter()
        .filter(|group| tables.group(group).is_none())
        .map(|group| Command::EnsureGroup(groups::with_defaults(group)));
    topics.chain(groups).collect()
}

/// The topic of replies to requests, of which there is one per cluster.
fn reply_topic(cluster: &str) -> String {
    format!("{cluster}_REPLY_TOPIC")
}

/// Names of the topics that belong to the system, for tools that hide them.
pub fn listed(of: &SystemTopics) -> Vec<String> {
    let mut list: Vec<String> = wanted(of).into_iter().map(|topic| topic.name).collect();
    list.push(names::TBW102.to_owned());
    list.sort_unstable();
    list.dedup();
    list
}

/// Whether users may neither change nor delete a topic, because the broker depends on it.
pub fn is_protected(of: &SystemTopics, topic: &str) -> bool {
    names::is_system_topic(topic)
        || topic == of.cluster
        || topic == of.group
        || topic == reply_topic(&of.cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of() -> SystemTopics {
        SystemTopics {
            cluster: "RaftCluster".to_owned(),
            group: "RaftNode00".to_owned(),
            cluster_topic: true,
            group_topic: true,
            trace: None,
            template_queues: Some(8),
        }
    }

    #[test]
    fn what_java_has_after_a_first_start_is_there() {
        let mut tables = Tables::default();
        for command in missing(&of(), &tables) {
            tables.apply(command, 1);
        }
        let rows = [
            ("TBW102", 8, 7),
            ("RaftCluster", 16, 7),
            ("RaftNode00", 1, 7),
            ("BenchmarkTest", 1024, 6),
            ("SCHEDULE_TOPIC_XXXX", 18, 6),
            ("RMQ_SYS_TRANS_HALF_TOPIC", 1, 6),
            ("RaftCluster_REPLY_TOPIC", 1, 6),
        ];
        for (name, queues, perm) in rows {
            let topic = tables.topic(name).unwrap_or_else(|| panic!("no topic {name}"));
            assert_eq!((topic.read_queues, topic.perm), (queues, perm), "{name}");
        }
        assert!(tables.group("TOOLS_CONSUMER").is_some());
        assert!(missing(&of(), &tables).is_empty(), "nothing is created twice");
    }

    #[test]
    fn switches_leave_topics_out() {
        let without = SystemTopics {
            cluster_topic: false,
            group_topic: false,
            template_queues: None,
            ..of()
        };
        let names: Vec<String> = wanted(&without).into_iter().map(|topic| topic.name).collect();
        for absent in ["TBW102", "RaftCluster", "RaftNode00", "RMQ_SYS_TRACE_TOPIC"] {
            assert!(!names.iter().any(|name| name == absent), "{absent}");
        }
        let traced = SystemTopics { trace: Some("RMQ_SYS_TRACE_TOPIC".to_owned()), ..of() };
        assert!(wanted(&traced).iter().any(|topic| topic.name == "RMQ_SYS_TRACE_TOPIC"));
    }
}
