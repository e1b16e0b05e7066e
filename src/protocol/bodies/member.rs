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
    /// Time since it answered, ms.
    pub silent_ms: Option<u64>,
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
