//! What members say of changes of their leader. Ours: RocketMQ has nothing like it.

use serde::{Deserialize, Serialize};

/// Answer of GET_LEADER_CHANGES: what one member saw since its process started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaderChangesBody {
    /// Name of the broker group.
    pub group: String,
    /// Name of the member.
    pub member: String,
    /// Names of all members.
    pub members: Vec<String>,
    /// Its wall clock when it answered, in µs since 1970. All times are by this clock.
    pub now_us: i64,
    /// The last 32 changes, oldest first. The last one may be going on.
    pub changes: Vec<LeaderChangeBody>,
    /// Connections whose sends it had to pass on within the last 30 s.
    pub detours: u64,
    /// Whether it takes writes for a name of its own (the ingress slot `GROUP~1`) too: then those
    /// connections may be there on purpose.
    pub takes_writes: bool,
}

/// One change of the leader, as one member saw it. Times are in µs since 1970; steps that it did not
/// see are missing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaderChangeBody {
    /// Counts the changes that its process saw, from 1.
    pub number: u64,
    /// `started`, `process_ended`, `silent`, `stopped`, `transferred`, `preferred`, `no_room`,
    /// `slow_disk`, `hanging`, `cut_off`, or `unseen`: others noticed.
    pub cause: String,
    /// Who led.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<LeadBody>,
    /// Who leads; missing while nobody is known to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<LeadBody>,
    /// The last sign of the former leader, or when that began to hold requests to hand over.
    pub lost_us: i64,
    /// When the member knew that there has to be another leader.
    pub detected_us: i64,
    /// When it stood for election.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaigned_us: Option<i64>,
    /// When it had won.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elected_us: Option<i64>,
    /// When it took writes, or knew who does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub led_us: Option<i64>,
    /// Name servers that it told that it leads.
    pub registered: Vec<RegisteredBody>,
    /// The first send that was answered there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_us: Option<i64>,
    /// Requests that had to wait there for a leader.
    pub held: u64,
    /// Requests that it passed on, up to 3 s after there was a leader.
    pub forwarded: u64,
    /// Requests that failed there meanwhile.
    pub failed: u64,
}

/// Who led or leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LeadBody {
    /// Its term; compared first.
    pub term: u64,
    /// Name of the member.
    pub name: String,
}

/// A name server that was told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegisteredBody {
    /// `host:port`.
    pub name_server: String,
    /// When it had answered, in µs since 1970.
    pub at_us: i64,
}
