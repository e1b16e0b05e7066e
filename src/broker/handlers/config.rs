//! The broker's configuration: read (26) and changed (25) over the network.

use std::pin::Pin;
use std::sync::Arc;

use crate::config::update::UpdateError;
use crate::protocol::bodies;
use crate::protocol::codes::ResponseCode;
use crate::protocol::command::RemotingCommand;
use crate::protocol::headers::admin::BrokerConfigAnswer;
use crate::raft::command::Command;

use crate::broker::Broker;
use crate::broker::dispatch::{Answer, Request};
use crate::broker::error::RequestError;

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// GET_BROKER_CONFIG.
pub(in crate::broker) fn get(broker: &Broker, _: &Request) -> Answer {
    let tables = broker.tables();
    let text = broker.settings.current(&tables).config.settings.to_properties();
    let version = bodies::encode(&broker.data_version(tables.settings_version()));
    let version = String::from_utf8_lossy(&version).into_owned();
    Ok(BrokerConfigAnswer { version }.answer().with_body(text).into())
}

/// UPDATE_BROKER_CONFIG. What may be changed is a list in `config`; the change is one of the whole
/// group, kept in its log.
pub(in crate::broker) fn update(broker: Arc<Broker>, request: Request) -> Answering {
    Box::pin(async move {
        broker.be_current().await?;
        let text = std::str::from_utf8(&request.command.body)
            .map_err(|error| RequestError::Body { what: "properties", why: error.to_string() })?;
        let current = broker.settings.current(&broker.tables());
        let update = current.config.updated(text).map_err(|error| refused(&error))?;
        let commands = update
            .changed
            .iter()
            .map(|(key, value)| Command::PutSetting { key: key.clone(), value: value.clone() })
            .collect();
        broker.change(commands).await?;
        let peer = request.connection.peer();
        tracing::info!(%peer, changed = ?update.changed, "configuration changed");
        Ok(RemotingCommand::response(ResponseCode::SUCCESS).into())
    })
}

fn refused(error: &UpdateError) -> RequestError {
    match error {
        UpdateError::Unreadable => {
            RequestError::Body { what: "properties", why: error.to_string() }
        }
        UpdateError::BlackListed { .. } => RequestError::Forbidden(error.to_string()),
        UpdateError::Refused(_) => RequestError::Parameter(error.to_string()),
    }
}
