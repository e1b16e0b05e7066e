//! What clients and tools are told: views of the route table. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    registration::Queues,
    route_table::{Group, RouteTable},
};

/// How long after a Raft group lost its leader its next one is still worth waiting for.
const ELECTION_MAX: Duration = Duration::from_secs(5);

/// A broker group as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// `brokerName`.
    pub name: Arc<str>,
    /// Its cluster.
    pub cluster: Arc<str>,
    /// Addresses of its live members by broker id.
    pub members: BTreeMap<u64, Arc<str>>,
    /// `enableActingMaster` as last registered.
    pub acting_master: bool,
    /// Its zone, if it has one.
    pub zone: Option<Arc<str>>,
}

/// Who serves a topic, and with how many queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Every group that serves the topic, in order of the names.
    pub groups: Vec<(GroupView, Queues)>,
}

/// Whether a route request may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prospect {
    /// What there is will do.
    Settled,
    /// Nobody can take writes, but a leader is being elected.
    Electing {
        /// When waiting for it is no longer worth it.
        until: Instant,
    },
}

impl RouteTable {
    /// Who serves `topic`; `None` if nobody does. With `zone`, groups of other zones are left out,
    /// unless they have no leader.
    pub fn route_of(&self, topic: &str, zone: Option<&str>) -> Option<Route> {
        let groups: Vec<_> = self
            .serving(topic)
            .filter(|(_, group, _)| zone.is_none_or(|zone| group.is_for_zone(zone)))
            .map(|(name, group, queues)| (group.view(name), queues))
            .collect();
        (!groups.is_empty()).then_some(Route { groups })
    }

    /// Whether waiting would make a better route for `topic`. An answer without a leader is kept by
    /// clients for 30 s; one held for the length of an election is not even noticed.
    pub fn prospect(&self, topic: &str) -> Prospect {
        let mut until = None;
        for (_, group, _) in self.serving(topic) {
            match group.leaderless_since {
                None => return Prospect::Settled,
                Some(since) if group.elects() => until = until.max(Some(since + ELECTION_MAX)),
                Some(_) => {}
            }
        }
        until.map_or(Prospect::Settled, |until| Prospect::Electing { until })
    }

    /// Every broker group in order of the names.
    pub fn groups(&self) -> impl Iterator<Item = GroupView> {
        self.groups.iter().map(|(name, group)| group.view(name))
    }

    /// One broker group.
    pub fn group(&self, name: &str) -> Option<GroupView> {
        self.groups.get_key_value(name).map(|(name, group)| group.view(name))
    }

    /// All topics in order.
    pub fn topic_names(&self) -> Vec<Arc<str>> {
        self.topics.names().cloned().collect()
    }

    /// Topics of the broker groups of a cluster, in order.
    pub fn topics_of_cluster(&self, cluster: &str) -> Vec<Arc<str>> {
        let groups = self.groups.iter().filter(|(_, group)| &*group.cluster == cluster);
        let topics: BTreeSet<_> = groups.flat_map(|(name, _)| self.topics.of_group(name)).collect();
        topics.into_iter().cloned().collect()
    }

    /// Topics whose `topicSysFlag` passes, in order.
    pub fn topics_with_flag(&self, passes: impl Fn(u32) -> bool) -> Vec<Arc<str>> {
        self.topics.with_flag(passes).cloned().collect()
    }

    /// Names of clusters and of broker groups, which are topics on every broker, and the address
    /// of some broker.
    pub fn system_topics(&self) -> (Vec<Arc<str>>, Option<Arc<str>>) {
        let clusters: BTreeSet<_> = self.groups.values().map(|group| &group.cluster).collect();
        let names = clusters.into_iter().chain(self.groups.keys()).cloned().collect();
        let members = self.groups.values().flat_map(|group| group.members.values());
        (names, members.map(|member| Arc::clone(&member.address)).next())
    }

    fn serving(&self, topic: &str) -> impl Iterator<Item = (&Arc<str>, &Group, Queues)> {
        self.topics
            .groups_of(topic)
            .into_iter()
            .flatten()
            .filter_map(|(name, queues)| self.groups.get(name).map(|group| (name, group, *queues)))
    }
}

impl Group {
    fn view(&self, name: &Arc<str>) -> GroupView {
        let members = self.members.iter();
        GroupView {
            name: Arc::clone(name),
            cluster: Arc::clone(&self.cluster),
            members: members.map(|(id, member)| (*id, Arc::clone(&member.address))).collect(),
            acting_master: self.acting_master,
            zone: self.zone.clone(),
        }
    }

    fn is_for_zone(&self, zone: &str) -> bool {
        self.leaderless_since.is_some() || self.zone.as_deref() == Some(zone)
    }
}
