//! Sends clients away from a member that was out of touch with its group
//! ([`crate::raft::Group::watch_breaks`]): what lies unread in their connections may have lain
//! there for long, and others serve them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::broker::{Broker, suspects};
use crate::clock;
use crate::net::Server;

/// Clients' port, among the server's.
pub(super) const CLIENTS: usize = 0;
/// From a break on, who sends here is not answered but loses its connection, and a stock producer
/// tries elsewhere at once, also where an answer would be final for it. By then it has asked for
/// routes, and is told why.
pub(super) const SENT_AWAY: Duration = Duration::from_secs(30);

/// Closes producers' connections at each break. A member that is cut off also refuses new ones:
/// some stock clients that connect, send and are closed at once wait for an answer in vain, and
/// none that is refused does. Tools find its other port open.
pub(super) async fn run(broker: Arc<Broker>, server: Weak<Server>) {
    let mut breaks = broker.group.watch_breaks();
    let mut opens: Option<Instant> = None;
    loop {
        let is_break = tokio::select! {
            changed = breaks.changed() => if changed.is_ok() { true } else { return },
            () = sleep_until(opens.unwrap_or_else(Instant::now)), if opens.is_some() => false,
        };
        let Some(server) = server.upgrade() else { return };
        opens = None;
        if is_break {
            server.refuse(CLIENTS).await;
            break_off(&broker, &server);
            opens = broker.group.is_cut_off().then(|| Instant::now() + SENT_AWAY);
        }
        if opens.is_none() {
            server.accept(CLIENTS);
            // Who was sent away comes back when its next heartbeat is due.
            broker.acquaintance.note_gap(clock::now());
        }
    }
}

fn break_off(broker: &Broker, server: &Server) {
    let now = clock::now();
    broker.suspects.note_break(now);
    // In this order, as everywhere: a writer waits between two readers that take them crosswise.
    let (producers, consumers) = (broker.producers.read(), broker.consumers.read());
    let stay = suspects::only_consume(&producers, consumers.members());
    broker.acquaintance.send_away(consumers.members(), |id| stay.contains(&id), now);
    drop((producers, consumers));
    server.close_those(|connection| !stay.contains(&connection.id()));
    broker.group.are_closed();
}
