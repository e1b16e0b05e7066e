//! Requests about the KV configuration.

use tracing::info;

use super::Answer;
use crate::{
    namesrv::{error::Refusal, kv_config::KvConfig, name_server::NameServer, registering::success},
    protocol::{
        bodies::{self, KVTable},
        codes::RequestCode,
        command::RemotingCommand,
        headers::namesrv::{DeleteKvConfig, GetKvConfig, GetKvList, PutKvConfig},
    },
};

/// GET_KV_CONFIG.
pub(in crate::namesrv) fn get(server: &NameServer, request: &RemotingCommand) -> Answer {
    let GetKvConfig { namespace, key } = GetKvConfig::parse(request)?;
    match server.kv.current().get(&namespace, &key) {
        Some(value) => Ok(success().with_field("value", value)),
        None => Err(Refusal::NoKvItem { namespace, key }),
    }
}

/// GET_KVLIST_BY_NAMESPACE.
pub(in crate::namesrv) fn list(server: &NameServer, request: &RemotingCommand) -> Answer {
    let GetKvList { namespace } = GetKvList::parse(request)?;
    match server.kv.current().namespace(&namespace) {
        Some(table) => Ok(success().with_body(bodies::encode(&KVTable { table: table.clone() }))),
        None => Err(Refusal::NoKvNamespace(namespace)),
    }
}

/// PUT_KV_CONFIG and DELETE_KV_CONFIG: answered when the change is on disk.
pub(in crate::namesrv) async fn change(server: &NameServer, request: &RemotingCommand) -> Answer {
    if request.request_code() == RequestCode::PUT_KV_CONFIG {
        let PutKvConfig { namespace, key, value } = PutKvConfig::parse(request)?;
        server.kv.change(|kv| kv.put(&namespace, &key, &value)).await?;
        info!(namespace, key, value, "KV configuration set");
    } else {
        let DeleteKvConfig { namespace, key } = DeleteKvConfig::parse(request)?;
        let delete = |kv: &mut KvConfig| {
            kv.delete(&namespace, &key);
            Ok(())
        };
        server.kv.change(delete).await?;
        info!(namespace, key, "KV configuration deleted");
    }
    Ok(success())
}
