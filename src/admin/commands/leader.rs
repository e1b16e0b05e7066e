//! Who leads a broker group. Ours: mqadmin has no such command.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::Session;
use super::members::{OfGroup, group_of};
use crate::{
    admin::{
        cli::trimmed,
        client::{AdminClient, LEADER},
        error::Error,
        output::Told,
    },
    clock,
    protocol::{bodies::ClusterInfo, codes::ResponseCode, headers::admin::TransferLeaderAnswer},
};

/// Flags of leaderTransfer.
#[derive(Debug, Args)]
pub(in crate::admin) struct LeaderTransfer {
    #[command(flatten)]
    of: OfGroup,
    /// name of the member that shall lead (dLegerSelfId); default: whichever has most
    #[arg(short, long, value_parser = trimmed)]
    to: Option<String>,
}

impl OfGroup {
    /// Asks the leader, who is found by a member that refuses because it does not lead.
    pub(super) async fn ask_leader<T>(
        &self,
        admin: &AdminClient,
        ask: impl AsyncFn(&str) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut lost = None;
        for broker in self.some(admin).await? {
            match ask(&broker).await {
                Err(error) if error.code() == Some(ResponseCode::SERVICE_NOT_AVAILABLE) => {
                    let Some(leader) = leader_of_member(admin, &broker).await else {
                        return Err(error);
                    };
                    return ask(&leader).await;
                }
                // It was never asked: another one of those that were named may be there.
                Err(error) if error.is_unasked() => lost = lost.or(Some(error)),
                done => return done,
            }
        }
        Err(lost.unwrap_or_else(|| Error::Unable("there is nobody to ask".to_owned())))
    }
}

/// Who leads the group of a member, if that is another one: as the name servers know that were
/// named, else as the member's own do.
pub(super) async fn leader_of_member(admin: &AdminClient, member: &str) -> Option<String> {
    if !admin.named_servers().is_empty()
        && let Ok(info) = admin.cluster_info().await
        && let Some(leader) = leader_beside(&info, member)
    {
        return Some(leader);
    }
    let group = group_of(admin, member).await?;
    group.broker_addrs.get(&LEADER).filter(|leader| *leader != member).cloned()
}

/// Hands leadership of a broker group to another member.
pub(in crate::admin) async fn transfer(
    session: &mut Session<'_>,
    args: &LeaderTransfer,
) -> Result<(), Error> {
    let (admin, began) = (&session.admin, clock::now());
    let to = args.to.as_deref();
    let done =
        args.of.ask_leader(admin, async |broker| admin.transfer_leader(broker, to).await).await?;
    session.out.show(&told(&done, began.elapsed()))
}

fn told(done: &TransferLeaderAnswer, took: Duration) -> Told<serde_json::Value> {
    let TransferLeaderAnswer { group, from, leader, term, held_us } = done;
    let ms = |us: u128| format!("{}.{}", us / 1000, us / 100 % 10);
    let (held, all) = (ms(u128::from(*held_us)), ms(took.as_micros()));
    let text = format!(
        "{leader} leads {group} now in place of {from} (term {term}): sends were held for {held} \
         ms, it took {all} ms in all\n"
    );
    let value = json!({
        "group": group, "from": from, "leader": leader, "term": term, "heldUs": held_us,
        "tookUs": u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
    });
    Told::new(text, value)
}

/// Who leads the group that `member` belongs to, if that is somebody else.
fn leader_beside(info: &ClusterInfo, member: &str) -> Option<String> {
    let of_member = |addresses: &&std::collections::BTreeMap<u64, String>| {
        addresses.values().any(|address| address == member)
    };
    let mut groups = info.broker_addr_table.values().map(|group| &group.broker_addrs);
    groups.find(of_member)?.get(&LEADER).filter(|leader| *leader != member).cloned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::protocol::bodies::BrokerData;

    fn info() -> ClusterInfo {
        let addresses = [(0, "h:2"), (1, "h:1"), (3, "h:3")];
        let group = BrokerData {
            broker_addrs: addresses.map(|(id, at)| (id, at.to_owned())).into(),
            broker_name: "RaftNode00".to_owned(),
            cluster: "C".to_owned(),
            ..BrokerData::default()
        };
        ClusterInfo {
            broker_addr_table: BTreeMap::from([("RaftNode00".to_owned(), group)]),
            ..ClusterInfo::default()
        }
    }

    #[test]
    fn the_leader_is_found_beside_a_member() {
        for (member, leader) in [("h:1", Some("h:2")), ("h:2", None), ("h:9", None)] {
            assert_eq!(leader_beside(&info(), member).as_deref(), leader, "{member}");
        }
    }

    #[test]
    fn what_happened_is_one_line() {
        let done = TransferLeaderAnswer {
            group: "RaftNode00".to_owned(),
            from: "n0".to_owned(),
            leader: "n1".to_owned(),
            term: 7,
            held_us: 12_345,
        };
        assert_eq!(
            told(&done, Duration::from_millis(20)).to_string(),
            "n1 leads RaftNode00 now in place of n0 (term 7): sends were held for 12.3 ms, it took \
             20.0 ms in all\n"
        );
    }
}
