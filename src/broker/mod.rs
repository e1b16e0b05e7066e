//! What a broker does with requests.
//!
//! ```text
//!  net ─► dispatch ─► handlers::… ─ reads ─► tables, queues, log of the raft group
//!                        │                        ▲
//!                        └─ changes ─► propose ───┘ ─ done ─► answer
//!  raft thread ─ queues grew ─► wakeup ─► held pulls ─► answer
//! ```
//!
//! A handler is a function over [`Broker`]. What it may decide alone it answers at once; what
//! changes replicated state it proposes, and the answer goes out when that is committed. Nothing
//! here blocks, and no task is spawned per request.

pub mod acquaintance;
pub mod announcement;
pub mod announcing;
pub mod channels;
pub mod consumers;
pub mod detours;
pub mod dispatch;
pub mod error;
pub mod groups;
pub mod handlers;
pub mod hold;
pub mod ingress;
mod leaving;
pub mod members;
mod observed;
pub mod offset_commits;
pub mod pull_offsets;
pub mod readers;
pub mod registered;
pub mod registration;
pub mod role_change;
mod sending_away;
pub mod settings;
pub mod start;
pub mod stats;
pub mod steering;
pub mod subscription;
pub mod suspects;
pub mod system_topics;
#[cfg(test)]
mod tests;
pub mod topics;
pub mod unique_ids;
pub mod wakeup;
pub mod watchdog;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::RwLock;

use crate::clock;
use crate::net::ConnectionId;
use crate::protocol::command::RemotingCommand;
use crate::protocol::names;
use crate::raft::command::{Command, Outcome};
use crate::raft::tables::Tables;
use crate::raft::{Group, Role};
use crate::store::files::{Files, RealFiles, Space};
use crate::telemetry::log_limit::LogLimit;

use acquaintance::Acquaintance;
use announcing::Announcer;
use channels::Channels;
use consumers::Consumers;
use detours::Detours;
use error::RequestError;
use handlers::Reading;
use handlers::pull::WaitingPull;
use members::Members;
use offset_commits::OffsetCommits;
use pull_offsets::PullOffsets;
use readers::Readers;
use settings::LiveSettings;
use stats::Stats;
use steering::Steering;
use suspects::Suspects;
use system_topics::SystemTopics;
use unique_ids::UniqueIds;
use wakeup::Wakeups;

/// Who this broker is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The cluster's name.
    pub cluster: String,
    /// The broker group's name, which clients call the broker's name.
    pub group: String,
    /// This member's name in the group.
    pub member: String,
    /// The names of all members, sorted.
    pub members: Vec<String>,
    /// `host:port` that clients are told.
    pub address: String,
    /// The host and `haListenPort`: for name servers only, which expect one.
    pub ha_address: String,
    /// `address` as stored in messages and ids, which have room for an IP address only.
    pub store_host: SocketAddr,
    /// The port on which pulls are not served.
    pub vip_port: u16,
}

/// A running broker: what its handlers share.
pub struct Broker {
    identity: Identity,
    group: Group,
    settings: LiveSettings,
    system_topics: SystemTopics,
    consumers: RwLock<Consumers>,
    producers: RwLock<Members>,
    /// Whether consumers have had the time to find this member.
    acquaintance: Arc<Acquaintance>,
    channels: Channels,
    wakeups: Arc<Wakeups<WaitingPull>>,
    readers: Arc<Readers<Reading>>,
    offset_commits: OffsetCommits,
    pull_offsets: PullOffsets,
    /// Who was told of in the log for offsets that no group can have.
    refused_offsets: LogLimit<IpAddr>,
    /// Consumers that were told to ask the leader, by connection and queue.
    sent_to_leader: LogLimit<(ConnectionId, String, u32)>,
    stats: Stats,
    unique_ids: UniqueIds,
    announcer: Announcer,
    steering: Steering,
    /// Whose sends this member passes on.
    detours: Detours,
    suspects: Suspects,
    locks_full: LogLimit,
    heartbeats_full: LogLimit,
    booted_ms: i64,
    /// Of the machine: the newest part of the log lies in a share of it.
    memory_bytes: u64,
    store_dir: PathBuf,
}

impl Broker {
    /// The replicated tables as of now.
    fn tables(&self) -> Arc<Tables> {
        self.group.tables()
    }

    /// Waits until this member has applied all that anybody was told before. A leader has, as far
    /// as it knows; what must not rest on that goes through the log anyway.
    async fn be_current(&self) -> Result<(), RequestError> {
        self.be_current_since(clock::now()).await
    }

    /// The same for what came at `since`.
    async fn be_current_since(&self, since: Instant) -> Result<(), RequestError> {
        if self.is_leader() {
            return Ok(());
        }
        self.change_since(Vec::new(), since).await.map(drop)
    }

    /// Whether this member leads. Others pass on what needs the leader
    /// ([`Group::propose`]), and what they know may be outdated ([`Self::be_current`]).
    fn is_leader(&self) -> bool {
        self.group.role().is_leader()
    }

    /// Whether a tool that asks every entry of a route has it from the leader, too: this member may
    /// stand behind an ingress slot. Who takes the answer of any member says so.
    fn leaves_to_leader(&self, question: &RemotingCommand) -> bool {
        let follows = matches!(self.group.role(), Role::Follower { leader: Some(_), .. });
        follows && question.ext.get(names::ANY_MEMBER).is_none()
    }

    /// Room on the store's disk.
    fn disk_space(&self) -> Option<Space> {
        RealFiles.space(&self.store_dir).ok()
    }

    /// Changes replicated state and waits until that is committed.
    async fn change(&self, commands: Vec<Command>) -> Result<Vec<Outcome>, RequestError> {
        Ok(self.group.run(commands).await?)
    }

    /// The same for what came at `since`: all that it waits for shares one time.
    async fn change_since(
        &self,
        commands: Vec<Command>,
        since: Instant,
    ) -> Result<Vec<Outcome>, RequestError> {
        Ok(self.group.run_since(commands, since.into()).await?)
    }
}
