//! Connections of clients that sent a heartbeat, for requests from this broker to them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::net::{Connection, ConnectionId};
use crate::protocol::codes::RequestCode;
use crate::protocol::command::RemotingCommand;

/// Connections by id, while they are open and known.
#[derive(Debug, Default)]
pub struct Channels(RwLock<HashMap<ConnectionId, Arc<Connection>>>);

impl Channels {
    /// Keeps a connection. False if it has closed meanwhile: its `closed` call may have come
    /// already, and nobody would remove it.
    pub fn keep(&self, connection: &Arc<Connection>) -> bool {
        let mut channels = self.0.write();
        if connection.is_closed() {
            channels.remove(&connection.id());
            return false;
        }
        channels.entry(connection.id()).or_insert_with(|| Arc::clone(connection));
        true
    }

    /// Forgets a connection.
    pub fn forget(&self, id: ConnectionId) {
        self.0.write().remove(&id);
    }

    /// The connection of that id.
    pub fn get(&self, id: ConnectionId) -> Option<Arc<Connection>> {
        self.0.read().get(&id).cloned()
    }

    /// How many connections are known.
    pub fn count(&self) -> usize {
        self.0.read().len()
    }

    /// Tells members of a group that others came or went (40), so that they share queues anew.
    pub fn notify_members_changed(&self, group: &str, members: &BTreeSet<ConnectionId>) {
        for member in members {
            let Some(connection) = self.get(*member) else { continue };
            let request = RemotingCommand::request(RequestCode::NOTIFY_CONSUMER_IDS_CHANGED)
                .with_field("consumerGroup", group);
            if let Err(error) = connection.send_oneway(request) {
                tracing::debug!(group, %error, "cannot tell a consumer of its group's change");
            }
        }
    }
}
