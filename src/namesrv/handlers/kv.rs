//! Requests about the KV configuration.

use super::Answer;
use crate::{
    namesrv::{error::Refusal, name_server::NameServer, registering::success},
    protocol::{
        bodies::{self, KVTable},
        codes::RequestCode,
        command::RemotingCommand,
    },
};

/// GET_KV_CONFIG.
pub(in crate::namesrv) fn get(server: &NameServer, request: &RemotingCommand) -> Answer {
    let (namespace, key) = item(request)?;
    match server.kv.current().get(namespace, key) {
        Some(value) => Ok(success().with_field("value", value)),
        None => Err(Refusal::NoKvItem { namespace: namespace.to_owned(), key: key.to_owned() }),
    }
}

/// GET_KVLIST_BY_NAMESPACE.
pub(in crate::namesrv) fn list(server: &NameServer, request: &RemotingCommand) -> Answer {
    let namespace = request.ext.required_str("namespace")?;
    match server.kv.current().namespace(namespace) {
        Some(table) => Ok(success().with_body(bodies::encode(&KVTable { table: table.clone() }))),
        None => Err(Refusal::NoKvNamespace(namespace.to_owned())),
    }
}

/// PUT_KV_CONFIG and DELETE_KV_CONFIG: answered when the change is on disk.
pub(in crate::namesrv) async fn change(server: &NameServer, request: &RemotingCommand) -> Answer {
    let (namespace, key) = item(request)?;
    if request.request_code() == RequestCode::PUT_KV_CONFIG {
        let value = request.ext.required_str("value")?;
        server.kv.change(|kv| kv.put(namespace, key, value)).await?;
        tracing::info!(namespace, key, value, "KV configuration set");
    } else {
        let delete = |kv: &mut crate::namesrv::kv_config::KvConfig| {
            kv.delete(namespace, key);
            Ok(())
        };
        server.kv.change(delete).await?;
        tracing::info!(namespace, key, "KV configuration deleted");
    }
    Ok(success())
}

fn item(request: &RemotingCommand) -> Result<(&str, &str), Refusal> {
    Ok((request.ext.required_str("namespace")?, request.ext.required_str("key")?))
}
