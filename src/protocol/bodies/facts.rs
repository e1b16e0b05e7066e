//! What a member knows of itself and of the others, for who looks for what is wrong. Ours.

use serde::{Deserialize, Serialize};

/// Answer of GET_MEMBER_FACTS.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemberFacts {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the broker group.
    pub group: String,
    /// Name of the member.
    pub member: String,
    /// `host:port` that clients are told.
    pub address: String,
    /// Its store, as its peers name it.
    pub store_id: String,
    /// Its release.
    pub version: String,
    /// Its wall clock when it answered, in µs since 1970.
    pub now_us: i64,
    /// How long calling its peers took before it answered, in µs.
    pub took_us: u64,
    /// Its term.
    pub term: u64,
    /// Who leads, as far as it knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Since when, in µs since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub led_since_us: Option<i64>,
    /// What it waits for before it can take part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Of which kind that is.
    #[serde(skip_serializing_if = "Awaiting::is_untold")]
    pub awaiting: Awaiting,
    /// Who votes, as its log has it; missing if it has nothing of a group, and of older releases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voting: Option<VotingFacts>,
    /// Which group of its name it belongs to; missing of a store without entries, which may join
    /// any, and of older releases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lineage: Option<LineageFacts>,
    /// Why it takes no part any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Entries that are committed and that it has not applied.
    pub lag: u64,
    /// Its disk; missing if that cannot be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskFacts>,
    /// That its disk is slow, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_disk: Option<SlowDiskFacts>,
    /// Why it takes no messages as a leader, if too few others have room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others_shortage: Option<String>,
    /// How long its disk takes to keep what is written; missing before the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syncs: Option<SyncFacts>,
    /// What checking its log found and left as it is; missing if nothing, and of older releases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrub: Option<ScrubFacts>,
    /// The other members, as this one is configured.
    pub peers: Vec<PeerFacts>,
    /// The name servers, as this one is configured.
    pub name_servers: Vec<NameServerFacts>,
}

/// What a member waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Awaiting {
    /// The other members, to start the group.
    Start,
    /// A leader, which takes its new store in by itself.
    Leader,
    /// An operator: the group does not know it.
    Operator,
    /// A majority.
    Majority,
    /// What tells whether it lacks what it vouched for.
    Doubt,
    /// Nothing: it was removed.
    Removed,
    /// Nothing, or a kind that is not told: by older releases, or by newer ones in a new word.
    #[default]
    #[serde(other)]
    Untold,
}

impl Awaiting {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    fn is_untold(&self) -> bool {
        *self == Self::Untold
    }
}

/// Who votes, as a log has it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VotingFacts {
    /// Term of the entry that says so.
    pub term: u64,
    /// Its index.
    pub index: u64,
    /// Names of those that vote.
    pub voters: Vec<String>,
    /// Names of the others.
    pub learners: Vec<String>,
}

/// A group as it was first started, or as a survivor started it anew: they have the same name, and
/// their members refuse each other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LineageFacts {
    /// Hexadecimal; of zeros only: the first.
    pub id: String,
    /// When it was started anew, ms since 1970; 0: the first.
    pub since_ms: i64,
}

/// A store's disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DiskFacts {
    /// Its size, in bytes.
    pub total: u64,
    /// What is free of it.
    pub free: u64,
    /// Why no messages are taken, if it is too full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortage: Option<String>,
}

/// Syncs of the log, since the process started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SyncFacts {
    /// How many.
    pub count: u64,
    /// On average, in µs.
    pub mean_us: u64,
    /// 99 of 100 took less than this, in µs; a power of two.
    pub p99_us: u64,
    /// The longest of the last minute, in µs; missing if there was none, or nobody waits for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_us: Option<u64>,
}

/// A disk that took a second for a sync: its member leads no longer than it must.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SlowDiskFacts {
    /// Which, and how long its slowest sync took.
    pub why: String,
    /// How long it counts as slow if it is fast from now on, in ms.
    pub left_ms: u64,
}

/// What checking a log on its disk left as it is, in the last round and in the one that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScrubFacts {
    /// Entries that are damaged, and that nobody could repair.
    pub unrepaired: u64,
    /// Entries that another member has other bytes for, each whole by its checksums.
    pub differing: u64,
    /// Who is wrong, and what to do, as of the first one that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
}

/// What came of calling a peer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerFacts {
    /// Its name.
    pub name: String,
    /// Where it was called (dLegerPeers).
    pub address: String,
    /// What came of it.
    pub reached: Reached,
    /// From the question to the answer, in µs.
    pub took_us: u64,
    /// What it said, if it would not talk, or why it could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reached {
    /// An answer.
    Answered,
    /// Nobody listens at its port.
    Refused,
    /// Nothing came back in time.
    Silent,
    /// It will not talk with this member.
    Declined,
    /// Anything else, and what other releases say.
    #[default]
    #[serde(other)]
    Failed,
}

/// What a name server was told of a member.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NameServerFacts {
    /// `host:port`.
    pub address: String,
    /// As which broker id the member is registered there; missing while it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_id: Option<u64>,
}
