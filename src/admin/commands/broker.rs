//! Brokers: their figures, their settings, and their housekeeping.

use std::{collections::BTreeMap, fmt};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::{
    Session,
    brokers::{Member, Where, leaders, members, on_each},
    each,
};
use crate::{
    admin::{
        cli::{trimmed, truth},
        client::AdminClient,
        error::Error,
        output::Told,
    },
    protocol::codes::RequestCode,
};

/// Names and values.
type Values = BTreeMap<String, String>;

/// Flags of brokerStatus.
#[derive(Debug, Args)]
pub(in crate::admin) struct BrokerStatus {
    #[command(flatten)]
    of: Where,
}

/// Shows the figures of brokers.
pub(in crate::admin) async fn status(
    session: &mut Session<'_>,
    args: &BrokerStatus,
) -> Result<(), Error> {
    let members = members(session, &args.of).await?;
    let admin = &session.admin;
    let asked =
        each(members, |member| async move { (admin.runtime_info(&member.address).await, member) })
            .await;
    let told = heard(session, asked)?;
    let addressed = args.of.cluster.is_some();
    let told = told.into_iter().map(|(member, values)| (member.address, values)).collect();
    session.out.show(&Statuses { told, addressed })
}

/// Answers; who did not give one is told. An error if nobody did.
fn heard(
    session: &mut Session<'_>,
    asked: Vec<(Result<Values, Error>, Member)>,
) -> Result<Vec<(Member, Values)>, Error> {
    let (mut told, mut failures) = (Vec::new(), Vec::new());
    for (answer, member) in asked {
        match answer {
            Ok(values) => told.push((member, values)),
            Err(error) => failures.push(error),
        }
    }
    let own = if told.is_empty() { failures.pop() } else { None };
    failures.iter().for_each(|error| session.out.fail(error));
    own.map_or(Ok(told), Err)
}

struct Statuses {
    told: BTreeMap<String, Values>,
    /// Whether lines begin with the address.
    addressed: bool,
}

impl Serialize for Statuses {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.told.serialize(serializer)
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (address, values) in &self.told {
            for (name, value) in values {
                if self.addressed {
                    write!(f, "{address:<24} ")?;
                }
                writeln!(f, "{name:<32}: {value}")?;
            }
        }
        Ok(())
    }
}

/// Flags of getBrokerConfig.
#[derive(Debug, Args)]
pub(in crate::admin) struct GetBrokerConfig {
    #[command(flatten)]
    of: Where,
}

/// Shows the settings of brokers.
pub(in crate::admin) async fn config(
    session: &mut Session<'_>,
    args: &GetBrokerConfig,
) -> Result<(), Error> {
    let members = members(session, &args.of).await?;
    let admin = &session.admin;
    let asked =
        each(members, |member| async move { (admin.broker_config(&member.address).await, member) })
            .await;
    let told = heard(session, asked)?;
    session.out.show(&Configs(told))
}

struct Configs(Vec<(Member, Values)>);

impl Serialize for Configs {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(member, values)| (&member.address, values)))
    }
}

impl fmt::Display for Configs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (member, values) in &self.0 {
            let address = &member.address;
            match &member.leader {
                _ if member.leads => writeln!(f, "============Master: {address}============")?,
                Some(leader) => {
                    writeln!(f, "============My Master: {leader}=====Slave: {address}============")?
                }
                None => writeln!(f, "============{address}============")?,
            }
            settings(f, values)?;
            writeln!(f)?;
        }
        Ok(())
    }
}

/// One line per setting.
pub(super) fn settings(f: &mut dyn fmt::Write, values: &Values) -> fmt::Result {
    values.iter().try_for_each(|(name, value)| writeln!(f, "{name:<50}=  {value}"))
}

/// Flags of updateBrokerConfig.
#[derive(Debug, Args)]
pub(in crate::admin) struct UpdateBrokerConfig {
    #[command(flatten)]
    to: Where,
    /// with -c: on followers too, true or false
    #[arg(short = 'a', long = "updateAllBroker", value_parser = truth, num_args = 0..=1, default_missing_value = "true")]
    all: Option<bool>,
    /// name of the setting
    #[arg(short, long, value_parser = trimmed)]
    key: String,
    /// its value
    #[arg(short, long, allow_hyphen_values = true)]
    value: String,
}

/// Changes one setting.
pub(in crate::admin) async fn update_config(
    session: &mut Session<'_>,
    args: &UpdateBrokerConfig,
) -> Result<(), Error> {
    let brokers = if args.all == Some(true) {
        let members = members(session, &args.to).await?;
        members.into_iter().map(|member| member.address).collect()
    } else {
        leaders(session, &args.to).await?
    };
    let done = on_each(session, brokers, async |admin: &AdminClient, broker: &str| {
        admin.update_broker_config(broker, &args.key, &args.value).await
    })
    .await?;
    let text: String =
        done.iter().map(|broker| format!("update broker config success, {broker}\n")).collect();
    let value = json!({ "brokers": done, "key": args.key, "value": args.value });
    session.out.show(&Told::new(text, value))
}

/// Flags of cleanExpiredCQ, deleteExpiredCommitLog and cleanUnusedTopic.
#[derive(Debug, Args)]
pub(in crate::admin) struct Clean {
    /// only this broker, host:port
    #[arg(short, long = "brokerAddr", value_parser = trimmed)]
    broker: Option<String>,
    /// only the brokers of this cluster
    #[arg(short, long, value_parser = trimmed)]
    cluster: Option<String>,
}

/// Makes brokers clean up now: `what` is the request.
pub(in crate::admin) async fn clean(
    session: &mut Session<'_>,
    args: &Clean,
    what: RequestCode,
) -> Result<(), Error> {
    let mut brokers = Vec::new();
    if let Some(broker) = &args.broker {
        brokers.push(broker.clone());
    } else {
        let info = session.admin.cluster_info().await?;
        if let Some(cluster) = &args.cluster {
            crate::admin::client::groups_of(&info, cluster)?;
        }
        let wanted = |cluster: &String| args.cluster.as_ref().is_none_or(|only| only == cluster);
        let groups = info.broker_addr_table.values().filter(|group| wanted(&group.cluster));
        brokers.extend(groups.flat_map(|group| group.broker_addrs.values().cloned()));
    }
    let done = on_each(session, brokers, async |admin: &AdminClient, broker: &str| {
        admin.plain(broker, what).await
    })
    .await?;
    session.out.show(&Told::new("success\n", json!({ "brokers": done })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        Values::from([("putTps".to_owned(), "0.0 0.1 ".to_owned())])
    }

    #[test]
    fn figures_are_printed_as_mqadmin_does() {
        let told = BTreeMap::from([("127.0.0.1:30911".to_owned(), values())]);
        let one = Statuses { told, addressed: false };
        assert_eq!(one.to_string(), "putTps                          : 0.0 0.1 \n");
        let all = Statuses { addressed: true, ..one };
        assert_eq!(
            all.to_string(),
            "127.0.0.1:30911          putTps                          : 0.0 0.1 \n"
        );
    }

    #[test]
    fn settings_are_printed_as_mqadmin_does() {
        let member = |address: &str, leader: Option<&str>, leads| Member {
            address: address.to_owned(),
            leader: leader.map(str::to_owned),
            leads,
        };
        let line = "putTps                                            =  0.0 0.1 \n";
        let rows = [
            (member("a:1", Some("a:1"), true), "============Master: a:1============\n"),
            (
                member("a:2", Some("a:1"), false),
                "============My Master: a:1=====Slave: a:2============\n",
            ),
            (member("a:1", None, false), "============a:1============\n"),
        ];
        for (member, title) in rows {
            let text = Configs(vec![(member, values())]).to_string();
            assert_eq!(text, format!("{title}{line}\n"));
        }
    }
}
