//! Which brokers a command is about: one by its address, or those of a cluster.

use clap::Args;

use super::Session;
use crate::admin::{
    cli::trimmed,
    client::{AdminClient, LEADER, groups_of, leader_of},
    error::Error,
};

/// One broker, or a cluster.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(in crate::admin) struct Where {
    /// this broker, host:port
    #[arg(short, long = "brokerAddr", value_parser = trimmed)]
    pub(super) broker: Option<String>,
    /// the brokers of this cluster; where something is changed: the leader of every group
    #[arg(short, long = "clusterName", value_parser = trimmed)]
    pub(super) cluster: Option<String>,
}

/// A member of a broker group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) address: String,
    /// Who leads its group; not known when only an address was given.
    pub(super) leader: Option<String>,
    pub(super) leads: bool,
}

/// Those who take changes: the broker that was named, or all leaders of the cluster. Groups
/// without a leader are told as failures.
pub(super) async fn leaders(
    session: &mut Session<'_>,
    place: &Where,
) -> Result<Vec<String>, Error> {
    let cluster = match (&place.broker, &place.cluster) {
        (Some(broker), _) => return Ok(vec![broker.clone()]),
        (None, Some(cluster)) => cluster,
        (None, None) => return Err(Error::Usage("one of -b and -c is needed".to_owned())),
    };
    let info = session.admin.cluster_info().await?;
    let mut leaders = Vec::new();
    for group in groups_of(&info, cluster)? {
        match leader_of(group) {
            Ok(leader) => leaders.push(leader.to_owned()),
            Err(error) => session.out.fail(&error),
        }
    }
    if leaders.is_empty() {
        let text = format!("cluster {cluster} has no broker group with a leader");
        return Err(Error::Unable(text));
    }
    Ok(leaders)
}

/// The broker that was named, or all members of all groups of the cluster, leaders first.
pub(super) async fn members(
    session: &mut Session<'_>,
    place: &Where,
) -> Result<Vec<Member>, Error> {
    let cluster = match (&place.broker, &place.cluster) {
        (Some(broker), _) => {
            return Ok(vec![Member { address: broker.clone(), leader: None, leads: false }]);
        }
        (None, Some(cluster)) => cluster,
        (None, None) => return Err(Error::Usage("one of -b and -c is needed".to_owned())),
    };
    let info = session.admin.cluster_info().await?;
    let groups = groups_of(&info, cluster)?;
    let members = groups.iter().flat_map(|group| {
        group.broker_addrs.iter().map(|(id, address)| Member {
            address: address.clone(),
            leader: group.broker_addrs.get(&LEADER).cloned(),
            leads: *id == LEADER,
        })
    });
    Ok(members.collect())
}

/// Does `call` on each of `brokers`; those where it worked. An error if it worked nowhere,
/// otherwise what did not work is told.
pub(super) async fn on_each(
    session: &mut Session<'_>,
    brokers: Vec<String>,
    call: impl AsyncFn(&AdminClient, &str) -> Result<(), Error>,
) -> Result<Vec<String>, Error> {
    let (mut done, mut failures) = (Vec::new(), Vec::new());
    for broker in brokers {
        match call(&session.admin, &broker).await {
            Ok(()) => done.push(broker),
            Err(error) => failures.push(error),
        }
    }
    // One of the failures is the command's own when nothing worked.
    let own = if done.is_empty() { failures.pop() } else { None };
    failures.iter().for_each(|error| session.out.fail(error));
    own.map_or(Ok(done), Err)
}
