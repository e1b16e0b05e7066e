//! All members of one broker group, and how far their clocks are from ours.

use clap::Args;

use super::Session;
use crate::{
    admin::{
        cli::trimmed,
        client::{AdminClient, leader_of},
        error::Error,
    },
    clock,
    protocol::bodies::{BrokerData, ClusterInfo},
};

/// Which group a command is about.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(in crate::admin) struct OfGroup {
    /// members of the broker group, host:port,host:port; one is enough if a name server knows it
    #[arg(short, long = "brokerAddr", value_parser = trimmed)]
    broker: Option<String>,
    /// the broker group, by its name (brokerName); default: the only one there is
    #[arg(short, long = "brokerName", value_parser = trimmed)]
    group: Option<String>,
}

impl OfGroup {
    /// The members that were named.
    pub(super) fn named(&self) -> Vec<String> {
        let named = self.broker.iter().flat_map(|text| text.split([',', ';']));
        named.map(str::trim).filter(|at| !at.is_empty()).map(str::to_owned).collect()
    }

    /// Some of its members: those that were named, or the one that leads. At least one.
    pub(super) async fn some(&self, admin: &AdminClient) -> Result<Vec<String>, Error> {
        let named = self.named();
        if !named.is_empty() {
            return Ok(named);
        }
        let info = admin.cluster_info().await?;
        let unknown = || Error::Unable("the name server does not know that group".to_owned());
        let group = self.find(&info)?.ok_or_else(unknown)?;
        Ok(vec![leader_of(group)?.to_owned()])
    }

    /// The group that is meant, of those that a name server knows. `Ok(None)`: members were named,
    /// and it knows none of them. Pure.
    pub(super) fn find<'a>(&self, info: &'a ClusterInfo) -> Result<Option<&'a BrokerData>, Error> {
        let groups = &info.broker_addr_table;
        let known = || {
            let names: Vec<&str> = groups.keys().map(String::as_str).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        if let Some(name) = &self.group {
            let missing = || {
                let known = known();
                let text =
                    format!("there is no broker group {name}; the name server knows: {known}");
                Error::Unable(text)
            };
            return groups.get(name).map(Some).ok_or_else(missing);
        }
        if self.broker.is_some() {
            let named = self.named();
            let has =
                |group: &&BrokerData| group.broker_addrs.values().any(|at| named.contains(at));
            return Ok(groups.values().find(has));
        }
        let mut all = groups.values();
        match (all.next(), all.next()) {
            (Some(only), None) => Ok(Some(only)),
            (None, _) => Err(Error::Unable(
                "no broker has registered with the name server: give members with -b".to_owned(),
            )),
            (Some(_), Some(_)) => {
                Err(Error::Usage(format!("which broker group? -g one of: {}", known())))
            }
        }
    }
}

/// The group of a member, as one of its own name servers knows it.
pub(super) async fn group_of(admin: &AdminClient, member: &str) -> Option<BrokerData> {
    let facts = admin.member_facts(member).await.ok()?;
    for name_server in &facts.name_servers {
        let info = admin.cluster_info_of(&name_server.address).await;
        if let Some(group) = info.ok().and_then(|mut i| i.broker_addr_table.remove(&facts.group)) {
            return Some(group);
        }
    }
    None
}

/// Addresses of the members: those that were named, and those that a name server knows: one that
/// was named, else one of the members'. An error if there is none.
pub(super) async fn addresses(
    session: &mut Session<'_>,
    wanted: &OfGroup,
) -> Result<Vec<String>, Error> {
    let mut addresses = wanted.named();
    if !addresses.is_empty() && session.admin.named_servers().is_empty() {
        for member in wanted.named() {
            if let Some(group) = group_of(&session.admin, &member).await {
                addresses.extend(group.broker_addrs.into_values());
                break;
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        return Ok(addresses);
    }
    match session.admin.cluster_info().await {
        Ok(info) => {
            let group = wanted.find(&info)?;
            addresses
                .extend(group.into_iter().flat_map(|group| group.broker_addrs.values()).cloned());
        }
        Err(error) if addresses.is_empty() => return Err(error),
        // Those that were named can tell as much.
        Err(error) => session.out.remark(&error),
    }
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// An answer, and how its giver's clock differs from ours.
#[derive(Debug, Clone)]
pub(super) struct Heard<T> {
    /// What was answered.
    pub(super) answer: T,
    /// To be added to its times to have ours, in µs.
    pub(super) offset_us: i64,
    /// By how much that may be wrong, in µs: half the way there and back.
    pub(super) unsure_us: i64,
}

/// Asks one member; `shown` is what its clock showed when it answered, and how long it took itself
/// before that, in µs.
pub(super) async fn ask<T>(
    call: impl Future<Output = Result<T, Error>>,
    shown: impl Fn(&T) -> (i64, u64),
) -> Result<Heard<T>, Error> {
    let began = clock::wall_us();
    let answer = call.await?;
    let ended = clock::wall_us();
    let (now_us, took_us) = shown(&answer);
    let (offset_us, unsure_us) = offset(began, ended, now_us, took_us);
    Ok(Heard { answer, offset_us, unsure_us })
}

/// What is to be added to a clock that showed `shown` just before its answer, which took `took`
/// there and was between `began` and `ended` here; and how unsure that is. All in µs. Pure.
fn offset(began: i64, ended: i64, shown: i64, took: u64) -> (i64, i64) {
    let took = i64::try_from(took).unwrap_or(0);
    let half = ended.saturating_sub(began).saturating_sub(took).max(0) / 2;
    (ended.saturating_sub(half).saturating_sub(shown), half)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn clocks_are_compared_at_the_middle_of_the_way() {
        for (began, ended, shown, took, want) in [
            (1_000, 1_200, 1_100, 0, (0, 100)),
            (1_000, 1_200, 501_100, 0, (-500_000, 100)),
            (1_000, 2_001_200, 2_001_100, 2_000_000, (0, 100)),
            (1_000, 1_000, 900, u64::MAX, (100, 0)),
        ] {
            assert_eq!(offset(began, ended, shown, took), want, "{began} {ended} {shown} {took}");
        }
    }

    #[test]
    fn a_group_is_found_by_its_name_its_members_or_because_it_is_the_only_one() {
        let group = |name: &str, at: &str| {
            let broker_addrs = BTreeMap::from([(0, at.to_owned())]);
            let broker_name = name.to_owned();
            (broker_name.clone(), BrokerData { broker_addrs, broker_name, ..BrokerData::default() })
        };
        let info = |groups: Vec<(String, BrokerData)>| ClusterInfo {
            broker_addr_table: groups.into_iter().collect(),
            ..ClusterInfo::default()
        };
        let two = info(vec![group("A", "h:1"), group("B", "h:2")]);
        let find = |info: &ClusterInfo, broker: &str, name: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let wanted = OfGroup { broker: some(broker), group: some(name) };
            match wanted.find(info) {
                Ok(found) => found.map_or("nobody", |group| &group.broker_name).to_owned(),
                Err(error) => error.to_string(),
            }
        };
        assert_eq!(find(&two, "", "B"), "B");
        assert_eq!(find(&two, "h:9, h:1", ""), "A");
        assert_eq!(find(&two, "h:9", ""), "nobody");
        assert_eq!(find(&two, "", "C"), "there is no broker group C; the name server knows: A, B");
        assert_eq!(find(&two, "", ""), "which broker group? -g one of: A, B");
        assert_eq!(find(&info(vec![group("A", "h:1")]), "", ""), "A");
        assert!(find(&info(Vec::new()), "", "").contains("no broker has registered"));
    }
}
