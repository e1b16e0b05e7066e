//! Members of a broker group. Ours: RocketMQ has no such bodies.

use serde::{Deserialize, Serialize};

/// Answer of LIST_MEMBERS.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupMembers {
    /// Name of the broker group.
    pub group: String,
    /// Name of the member that takes writes, if one is known. It alone knows how far others are.
    pub leader: Option<String>,
    /// Who answers.
    pub answering: String,
    /// What who answers waits for, if it cannot serve.
    pub waits_for: Option<String>,
    /// All members, by the ids that they follow under.
    pub members: Vec<GroupMember>,
}

/// A member of a broker group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupMember {
    /// Its name.
    pub name: String,
    /// `host:port` for its peers, as the group recorded it.
    pub address: String,
    /// Its store, hexadecimal.
    pub store_id: String,
    /// The id that it follows under.
    pub broker_id: u64,
    /// `leader`, `voter` or `learner`.
    pub part: String,
    /// What it becomes, if a change is on its way.
    pub becomes: Option<String>,
    /// Index of the last entry known to be stored there.
    pub matched: Option<u64>,
    /// Entries that it lacks.
    pub behind: Option<u64>,
    /// Bytes of those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind_bytes: Option<u64>,
    /// How far it is, if it catches up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<CatchingUp>,
    /// Time since it answered, ms.
    pub silent_ms: Option<u64>,
}

/// How far a member is that catches up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CatchingUp {
    /// Of the log from where it began.
    pub percent: u8,
    /// How fast it gets it; missing while that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// How long it takes if all goes on like that; missing if it gets no nearer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_seconds: Option<u64>,
}

/// Answer of a change of members: what happens, or would.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemberPlan {
    /// Name of the broker group.
    pub group: String,
    /// In order, for people.
    pub steps: Vec<String>,
}
