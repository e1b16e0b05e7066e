//! Name servers: their settings, their key/value table, and the write bit of broker groups.

use std::{collections::BTreeMap, fmt::Write as _};

use clap::Args;
use serde_json::json;

use super::{Session, broker::settings};
use crate::admin::{cli::trimmed, error::Error, output::Told};

/// Flags of getNamesrvConfig: none of its own.
#[derive(Debug, Args)]
pub(in crate::admin) struct GetNamesrvConfig {}

/// Shows the settings of all name servers.
pub(in crate::admin) async fn config(session: &mut Session<'_>) -> Result<(), Error> {
    let (mut text, mut told) = (String::new(), BTreeMap::new());
    let mut failures = Vec::new();
    for name_server in session.admin.name_servers() {
        match session.admin.name_server_config(name_server).await {
            Ok(values) => {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "============{name_server}============");
                let _ = settings(&mut text, &values);
                told.insert(name_server.clone(), values);
            }
            Err(error) => failures.push(error),
        }
    }
    let own = if told.is_empty() { failures.pop() } else { None };
    failures.iter().for_each(|error| session.out.fail(error));
    match own {
        Some(error) => Err(error),
        None => session.out.show(&Told::new(text, told)),
    }
}

/// Flags of updateNamesrvConfig.
#[derive(Debug, Args)]
pub(in crate::admin) struct UpdateNamesrvConfig {
    /// name of the setting
    #[arg(short, long, value_parser = trimmed)]
    key: String,
    /// its value
    #[arg(short, long, allow_hyphen_values = true)]
    value: String,
}

/// Changes one setting of all name servers.
pub(in crate::admin) async fn update_config(
    session: &mut Session<'_>,
    args: &UpdateNamesrvConfig,
) -> Result<(), Error> {
    session.admin.update_name_server_config(&args.key, &args.value).await?;
    let servers = session.admin.name_servers().to_vec();
    let (key, value) = (&args.key, &args.value);
    let text = format!(
        "update name server config success!{}\n{key} : {value}\n",
        crate::admin::java_text::list(&servers)
    );
    let told = json!({ "nameServers": servers, "key": key, "value": value });
    session.out.show(&Told::new(text, told))
}

/// Flags of updateKvConfig.
#[derive(Debug, Args)]
pub(in crate::admin) struct UpdateKvConfig {
    /// namespace of the name
    #[arg(short = 's', long, value_parser = trimmed)]
    namespace: String,
    /// name
    #[arg(short, long, value_parser = trimmed)]
    key: String,
    /// value
    #[arg(short, long, allow_hyphen_values = true)]
    value: String,
}

/// Sets a value on all name servers.
pub(in crate::admin) async fn update_kv(
    session: &mut Session<'_>,
    args: &UpdateKvConfig,
) -> Result<(), Error> {
    session.admin.put_kv_config(&args.namespace, &args.key, &args.value).await?;
    let value = json!({ "namespace": args.namespace, "key": args.key, "value": args.value });
    session.out.show(&Told::new("create or update kv config to namespace success.\n", value))
}

/// Flags of deleteKvConfig.
#[derive(Debug, Args)]
pub(in crate::admin) struct DeleteKvConfig {
    /// namespace of the name
    #[arg(short = 's', long, value_parser = trimmed)]
    namespace: String,
    /// name
    #[arg(short, long, value_parser = trimmed)]
    key: String,
}

/// Removes a value from all name servers.
pub(in crate::admin) async fn delete_kv(
    session: &mut Session<'_>,
    args: &DeleteKvConfig,
) -> Result<(), Error> {
    session.admin.delete_kv_config(&args.namespace, &args.key).await?;
    let value = json!({ "namespace": args.namespace, "key": args.key });
    session.out.show(&Told::new("delete kv config from namespace success.\n", value))
}

/// Flags of wipeWritePerm and addWritePerm.
#[derive(Debug, Args)]
pub(in crate::admin) struct WritePerm {
    /// name of the broker group
    #[arg(short, long = "brokerName", value_parser = trimmed)]
    broker_name: String,
}

/// What happens to the write bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::admin) enum Bit {
    Wiped,
    Added,
}

/// Takes the write bit from all topics of a broker group, or gives it back, on all name servers.
pub(in crate::admin) async fn write_perm(
    session: &mut Session<'_>,
    args: &WritePerm,
    bit: Bit,
) -> Result<(), Error> {
    let broker = &args.broker_name;
    let word = if bit == Bit::Wiped { "wipe" } else { "add" };
    for name_server in session.admin.name_servers().to_vec() {
        let topics = match bit {
            Bit::Wiped => session.admin.wipe_write_perm(&name_server, broker).await,
            Bit::Added => session.admin.add_write_perm(&name_server, broker).await,
        };
        let of = format!("{word} write perm of broker[{broker}] in name server[{name_server}]");
        match topics {
            Ok(topics) => {
                let value = json!({ "brokerName": broker, "nameServer": name_server,
                    "topics": topics });
                session.out.show(&Told::new(format!("{of} OK, {topics}\n"), value))?;
            }
            Err(error) => {
                session.out.say(format!("{of} Failed\n"))?;
                session.out.fail(&error);
            }
        }
    }
    Ok(())
}
