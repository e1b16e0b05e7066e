//! What follows from a change of this member's role.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::registration::Told;
use super::{Broker, system_topics};
use crate::ids::LEADER_BROKER_ID;

/// Between two attempts to create what is missing.
const RETRY: Duration = Duration::from_secs(1);

/// Follows the role until the group ends. A new leader creates the system's topics and groups if
/// they are missing: after the first start, and after an update that brings new ones.
pub async fn run(broker: Arc<Broker>) {
    let mut role = broker.group.watch_role();
    loop {
        let leads = role.borrow_and_update().is_leader();
        if leads {
            complete_system_topics(&broker).await;
        }
        if role.changed().await.is_err() {
            return;
        }
    }
}

/// Notes when a name server is told that this member leads, until registration ends.
pub async fn note_registered(
    broker: Arc<Broker>,
    name_server: String,
    mut told: watch::Receiver<Told>,
) {
    loop {
        let announced = told.borrow_and_update().announced.clone();
        if let Some(announced) =
            announced.filter(|announced| announced.broker_id == LEADER_BROKER_ID)
        {
            broker.group.note_registered(&name_server, announced.term);
        }
        if told.changed().await.is_err() {
            return;
        }
    }
}

async fn complete_system_topics(broker: &Broker) {
    while broker.is_leader() {
        let missing = system_topics::missing(&broker.system_topics, &broker.tables());
        if missing.is_empty() {
            return;
        }
        match broker.change(missing).await {
            Ok(_) => return,
            Err(error) => tracing::warn!(%error, "cannot create the system's topics yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
}
