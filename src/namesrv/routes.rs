//! What clients and tools are told: views of the route table. Pure.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    registration::Queues,
    route_table::{Group, RouteTable},
    slots::{self, Slots},
};
use crate::protocol::bodies::{
    BrokerData, BrokerMemberGroup, ClusterInfo, QueueData, TopicList, TopicRouteData,
};

/// How long after a Raft group lost its leader its next one is still worth waiting for.
const ELECTION_MAX: Duration = Duration::from_secs(5);

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
    /// unless they have no leader. Slots come last: tools take the first entry for the topic's.
    pub fn route_of(
        &self,
        topic: &str,
        zone: Option<&str>,
        slots: Slots,
    ) -> Option<TopicRouteData> {
        let (mut route, mut of_slots) = (TopicRouteData::default(), Vec::new());
        for (name, group, queues) in self.serving(topic) {
            if zone.is_none_or(|zone| group.is_for_zone(zone)) {
                route.broker_datas.push(group.broker_data(name));
                route.queue_datas.push(queues.queue_data(name));
                if slots::serves(topic, queues, name, &group.cluster)
                    && let Some(slot) = self.slot(name, group, slots)
                {
                    of_slots.push((slot, slots::queue_data(name, queues)));
                }
            }
        }
        for (slot, queues) in of_slots {
            route.broker_datas.push(slot);
            route.queue_datas.push(queues);
        }
        (!route.queue_datas.is_empty()).then_some(route)
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

    /// All clusters and broker groups. Slots can be looked up by the names that routes give them, but
    /// are in no cluster: nobody lists, counts or administers them.
    pub fn cluster_info(&self, slots: Slots) -> ClusterInfo {
        let mut info = ClusterInfo::default();
        for (name, group) in &self.groups {
            let cluster = info.cluster_addr_table.entry(group.cluster.to_string()).or_default();
            cluster.insert(name.to_string());
            info.broker_addr_table.insert(name.to_string(), group.broker_data(name));
            if let Some(slot) = self.slot(name, group, slots) {
                info.broker_addr_table.insert(slot.broker_name.clone(), slot);
            }
        }
        info
    }

    /// The live members of a broker group; an unknown one has none.
    pub fn member_group(&self, cluster: &str, name: &str) -> BrokerMemberGroup {
        let group = self.groups.get(name).map(|group| group.broker_data(name));
        BrokerMemberGroup {
            broker_addrs: group.unwrap_or_default().broker_addrs,
            broker_name: name.to_owned(),
            cluster: cluster.to_owned(),
        }
    }

    /// All topics.
    pub fn all_topics(&self) -> TopicList {
        topic_list(self.topics.names())
    }

    /// Topics of the broker groups of a cluster.
    pub fn topics_of_cluster(&self, cluster: &str) -> TopicList {
        let groups = self.groups.iter().filter(|(_, group)| &*group.cluster == cluster);
        let topics: BTreeSet<_> = groups.flat_map(|(name, _)| self.topics.of_group(name)).collect();
        topic_list(topics)
    }

    /// Topics whose `topicSysFlag` passes.
    pub fn topics_with_flag(&self, passes: impl Fn(i32) -> bool) -> TopicList {
        topic_list(self.topics.with_flag(passes))
    }

    /// Names of clusters and of broker groups, which are topics on every broker, and the address
    /// of some broker.
    pub fn system_topics(&self) -> TopicList {
        let clusters: BTreeSet<_> = self.groups.values().map(|group| &group.cluster).collect();
        let mut members = self.groups.values().flat_map(|group| group.members.values());
        TopicList {
            broker_addr: members.next().map(|member| member.address.to_string()),
            ..topic_list(clusters.into_iter().chain(self.groups.keys()))
        }
    }

    /// The slot of a group, unless a group has that name.
    fn slot(&self, name: &str, group: &Group, slots: Slots) -> Option<BrokerData> {
        match slots {
            Slots::Shown => slots::broker_data(name, group)
                .filter(|slot| !self.groups.contains_key(slot.broker_name.as_str())),
            Slots::Hidden => None,
        }
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
    fn broker_data(&self, name: &str) -> BrokerData {
        let members = self.members.iter();
        BrokerData {
            broker_addrs: members.map(|(id, member)| (*id, member.address.to_string())).collect(),
            broker_name: name.to_owned(),
            cluster: self.cluster.to_string(),
            enable_acting_master: self.acting_master,
            zone_name: self.zone.as_deref().map(str::to_owned),
        }
    }

    fn is_for_zone(&self, zone: &str) -> bool {
        self.leaderless_since.is_some() || self.zone.as_deref() == Some(zone)
    }
}

impl Queues {
    fn queue_data(self, group: &str) -> QueueData {
        QueueData {
            broker_name: group.to_owned(),
            perm: self.perm,
            read_queue_nums: self.read,
            topic_sys_flag: self.sys_flag,
            write_queue_nums: self.write,
        }
    }
}

fn topic_list<'a>(names: impl IntoIterator<Item = &'a Arc<str>>) -> TopicList {
    let topic_list = names.into_iter().map(|name| name.to_string()).collect();
    TopicList { broker_addr: None, topic_list }
}
