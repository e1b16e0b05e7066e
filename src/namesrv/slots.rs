//! Ingress slots: a second, write-only entry of a broker group in route answers. Pure.
//!
//! A stock client's retry avoids the broker name that has just failed. With one broker group there
//! is no other, and it keeps a dead leader's address for 30 s. So a route names the group once
//! more, as `GROUP~1`, with one queue and the address of another live member, which passes what it
//! gets on to whoever leads. Consumers read nothing there.
//!
//! Name and number of queues never change, for a changed list of queues moves the keys of
//! producers that choose queues themselves; only the address does.

use std::sync::Arc;

use super::{
    registration::Queues,
    route_table::{Group, LEADER},
};
use crate::protocol::{
    bodies::{BrokerData, QueueData},
    names, perm,
};

/// Queues of a slot, all of them for writing. Beside eight of the leader's one more sends every
/// ninth message the longer way; a retry needs no second one.
const QUEUES: u32 = 1;

/// Whether a route answer has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slots {
    /// Where there are any.
    Shown,
    /// None: `ingressSlots=false`, or the topic is ordered.
    Hidden,
}

/// Who stands behind a group's slot: of the members that take writes the first one that does not
/// lead, so that it moves only when it must; the leader while there is no other.
pub(super) fn address(group: &Group) -> Option<&Arc<str>> {
    let takers = || group.members.iter().filter(|(_, member)| member.takes_writes);
    let taker = takers().find(|(id, _)| **id != LEADER).or_else(|| takers().next());
    taker.map(|(_, member)| &member.address)
}

/// Whether `topic` may be written through a slot: it is an application's, and its messages may be
/// in any of its queues.
pub(super) fn serves(topic: &str, queues: Queues, group: &str, cluster: &str) -> bool {
    let is_systems = names::is_system_topic(topic)
        || names::is_retry_topic(topic)
        || names::is_dlq_topic(topic)
        || topic == group
        || topic == cluster
        || topic == names::reply_topic(cluster);
    perm::writable(queues.perm) && queues.write > 0 && !queues.ordered && !is_systems
}

/// The slot as an entry among the broker groups.
pub(super) fn broker_data(name: &str, group: &Group) -> Option<BrokerData> {
    let address = address(group)?.to_string();
    Some(BrokerData {
        broker_addrs: [(LEADER, address)].into(), // the only one that producers send to
        broker_name: names::slot(name),
        cluster: group.cluster.to_string(),
        enable_acting_master: group.acting_master,
        zone_name: group.zone.as_deref().map(str::to_owned),
    })
}

/// The slot's queues of a topic that has `queues` in the group.
pub(super) fn queue_data(name: &str, queues: Queues) -> QueueData {
    QueueData {
        broker_name: names::slot(name),
        perm: perm::WRITE,
        read_queue_nums: 0,
        topic_sys_flag: queues.sys_flag,
        write_queue_nums: QUEUES,
    }
}

#[cfg(test)]
mod tests;
