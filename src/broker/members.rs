//! Which connected client belongs to which groups: a pure table, kept once for producers and once
//! for consumers.
//!
//! A client is known by its connection. It stays until it says goodbye, its connection closes, or
//! its heartbeats stay away.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::net::ConnectionId;
use crate::protocol::codes::LanguageCode;

use super::registered::{Full, Registered};

/// Most groups that one connection may be a member of. A proxy has hundreds.
pub const GROUPS_PER_CONNECTION_MAX: usize = 10_000;
/// What a group with members takes besides names: nodes of trees with room for eleven, one of them
/// for subscriptions, and places in hash maps.
const GROUP_BYTES: usize = 3 * 1024;
/// What each of its members takes besides names: its half of a place in a node, and in what is
/// known of its connection.
const MEMBER_BYTES: usize = 640;

/// A connected client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// As it calls itself.
    pub id: String,
    /// Where it connects from.
    pub peer: SocketAddr,
    /// What it is written in.
    pub language: LanguageCode,
    /// Its release.
    pub version: i32,
    /// Its last heartbeat.
    pub seen: Instant,
    /// Its last heartbeat, ms since the epoch, for tools.
    pub seen_ms: i64,
}

/// Clients by group.
#[derive(Debug, Default)]
pub struct Members {
    groups: HashMap<String, BTreeMap<ConnectionId, Client>>,
    by_connection: HashMap<ConnectionId, BTreeSet<String>>,
    registered: Arc<Registered>,
}

/// Why a client is not registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The connection is in too many groups already.
    #[error("one connection may be a member of at most {GROUPS_PER_CONNECTION_MAX} groups")]
    TooManyGroups,
    /// All clients have registered too much.
    #[error(transparent)]
    Full(#[from] Full),
}

impl Members {
    /// No clients yet; they are counted in `registered`.
    pub fn new(registered: Arc<Registered>) -> Self {
        Self { registered, ..Self::default() }
    }

    /// Enters a client, or notes its heartbeat. Whether the group has a member more.
    pub fn enter(
        &mut self,
        group: &str,
        connection: ConnectionId,
        client: Client,
    ) -> Result<bool, Refused> {
        let members = self.groups.get(group);
        let former = members.and_then(|members| members.get(&connection));
        let is_new = former.is_none();
        let groups = self.by_connection.get(&connection).map_or(0, BTreeSet::len);
        if is_new && groups >= GROUPS_PER_CONNECTION_MAX {
            return Err(Refused::TooManyGroups);
        }
        let of_group = if members.is_none() { bytes_of_group(group) } else { 0 };
        let former = former.map_or(0, |former| bytes_of(group, former));
        self.registered.replace(former, of_group + bytes_of(group, &client))?;
        if is_new {
            self.by_connection.entry(connection).or_default().insert(group.to_owned());
        }
        let members = match self.groups.get_mut(group) {
            Some(members) => members,
            None => self.groups.entry(group.to_owned()).or_default(),
        };
        members.insert(connection, client);
        Ok(is_new)
    }

    /// Takes a client out of one group. Whether it was in it.
    pub fn leave(&mut self, group: &str, connection: ConnectionId) -> bool {
        let Some(members) = self.groups.get_mut(group) else { return false };
        let Some(client) = members.remove(&connection) else { return false };
        let mut bytes = bytes_of(group, &client);
        if members.is_empty() {
            self.groups.remove(group);
            bytes += bytes_of_group(group);
        }
        self.registered.give_back(bytes);
        if let Some(groups) = self.by_connection.get_mut(&connection) {
            groups.remove(group);
            if groups.is_empty() {
                self.by_connection.remove(&connection);
            }
        }
        true
    }

    /// Takes a client out of all groups; these are returned.
    pub fn forget(&mut self, connection: ConnectionId) -> BTreeSet<String> {
        let groups = self.by_connection.remove(&connection).unwrap_or_default();
        for group in &groups {
            self.leave(group, connection);
        }
        groups
    }

    /// Members without heartbeat for `limit` at `now`. A client may be silent about one of its
    /// groups only.
    pub fn silent(&self, now: Instant, limit: Duration) -> Vec<(String, ConnectionId)> {
        let mut silent = Vec::new();
        for (group, members) in &self.groups {
            for (connection, client) in members {
                if now.saturating_duration_since(client.seen) >= limit {
                    silent.push((group.clone(), *connection));
                }
            }
        }
        silent
    }

    /// The members of a group.
    pub fn of(&self, group: &str) -> impl Iterator<Item = (ConnectionId, &Client)> {
        self.groups.get(group).into_iter().flatten().map(|(id, client)| (*id, client))
    }

    /// Whether the group has members.
    pub fn has(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// All groups with their members.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BTreeMap<ConnectionId, Client>)> {
        self.groups.iter().map(|(group, members)| (group.as_str(), members))
    }

    /// The connection of a member with this client id.
    pub fn find(&self, group: &str, client_id: &str) -> Option<ConnectionId> {
        self.of(group).find(|(_, client)| client.id == client_id).map(|(id, _)| id)
    }

    /// Whether the connection is in any group.
    pub fn knows(&self, connection: ConnectionId) -> bool {
        self.by_connection.contains_key(&connection)
    }
}

fn bytes_of_group(group: &str) -> usize {
    GROUP_BYTES + group.len()
}

fn bytes_of(group: &str, client: &Client) -> usize {
    MEMBER_BYTES + group.len() + client.id.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: &str, seen: Instant) -> Client {
        Client {
            id: id.to_owned(),
            peer: ([127, 0, 0, 1], 5).into(),
            language: LanguageCode::JAVA,
            version: 513,
            seen,
            seen_ms: 0,
        }
    }

    #[test]
    fn clients_enter_and_leave() {
        let (mut members, now) = (Members::default(), crate::clock::now());
        let (a, b) = (ConnectionId(1), ConnectionId(2));
        assert_eq!(members.enter("g", a, client("a", now)), Ok(true));
        assert_eq!(members.enter("g", a, client("a", now)), Ok(false), "a heartbeat");
        assert_eq!(members.enter("g", b, client("b", now)), Ok(true));
        assert_eq!(members.enter("h", a, client("a", now)), Ok(true));
        assert_eq!(members.find("g", "b"), Some(b));
        assert!(members.leave("g", b) && !members.leave("g", b) && !members.leave("x", b));
        assert!(!members.knows(b) && members.knows(a));
        assert_eq!(members.forget(a), BTreeSet::from(["g".to_owned(), "h".to_owned()]));
        assert!(members.groups.is_empty() && members.by_connection.is_empty());
    }

    #[test]
    fn silence_is_noticed_per_group_and_connection() {
        let (mut members, start) = (Members::default(), crate::clock::now());
        let at = |s| start + Duration::from_secs(s);
        members.enter("g", ConnectionId(1), client("a", at(0))).unwrap();
        members.enter("g", ConnectionId(2), client("b", at(50))).unwrap();
        let limit = Duration::from_secs(120);
        assert!(members.silent(at(119), limit).is_empty());
        assert_eq!(members.silent(at(120), limit), [("g".to_owned(), ConnectionId(1))]);
        members.enter("g", ConnectionId(1), client("a", at(121))).unwrap();
        assert!(members.silent(at(121), limit).is_empty());
    }

    #[test]
    fn what_clients_register_is_bounded_and_given_back() {
        let registered = Arc::new(Registered::new(10 * GROUP_BYTES));
        let mut members = Members::new(Arc::clone(&registered));
        let (id, now) = ("i".repeat(1024), crate::clock::now());
        let enter = |members: &mut Members, group: u32| {
            members.enter(&group.to_string(), ConnectionId(1), client(&id, now))
        };
        let full = (0..).find(|group| enter(&mut members, *group).is_err()).unwrap();
        assert!((4..10).contains(&full), "{full}");
        assert!(matches!(enter(&mut members, full), Err(Refused::Full(_))));
        assert!(!members.has(&full.to_string()));
        assert_eq!(enter(&mut members, 0), Ok(false), "what it had stays");
        assert!(members.leave("0", ConnectionId(1)) && enter(&mut members, full) == Ok(true));
        members.forget(ConnectionId(1));
        assert_eq!(registered.bytes(), 0);
    }

    #[test]
    fn one_connection_cannot_fill_the_table() {
        let (mut members, now) = (Members::default(), crate::clock::now());
        for group in 0..GROUPS_PER_CONNECTION_MAX {
            members.enter(&group.to_string(), ConnectionId(1), client("a", now)).unwrap();
        }
        assert_eq!(
            members.enter("more", ConnectionId(1), client("a", now)),
            Err(Refused::TooManyGroups)
        );
        assert_eq!(members.enter("0", ConnectionId(1), client("a", now)), Ok(false));
        assert_eq!(members.enter("more", ConnectionId(2), client("b", now)), Ok(true));
    }
}
