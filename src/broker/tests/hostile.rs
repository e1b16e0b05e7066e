//! Requests that are made to break a broker: each is refused, and the broker goes on.

use super::*;
use crate::protocol::bodies::{self, GroupConfigList, SubscriptionGroupConfig};

fn group_with(attribute_bytes: usize) -> SubscriptionGroupConfig {
    let attributes = [("a".to_owned(), "x".repeat(attribute_bytes))];
    SubscriptionGroupConfig { attributes: attributes.into(), ..SubscriptionGroupConfig::new("g") }
}

/// Bodies and fields of requests that go to the log: what no entry can hold must not get there,
/// an append that fails is the member's end.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_log_entry_can_hold_is_refused_and_the_broker_lives() {
    let broker = deploy().await;
    broker.create_topic("T", 1).await;
    let one = RemotingCommand::request(RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP)
        .with_body(bodies::encode(&group_with(15 << 20)));
    let many = GroupConfigList {
        group_config_list: (0..1000)
            .map(|n| SubscriptionGroupConfig {
                group_name: format!("g{n}"),
                ..group_with(16 * 1024)
            })
            .collect(),
    };
    let many = RemotingCommand::request(RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST)
        .with_body(bodies::encode(&many));
    for (what, request) in [("one", one), ("many", many)] {
        let refused = broker.call(request).await;
        assert!([13, 29].contains(&refused.code), "{what}: {refused:?}");
        broker.send("T", 0, "x", "still there").await;
    }
    broker.stop().await;
}
