//! Rules about consumer groups: what one that nobody configured looks like.

use std::collections::BTreeMap;

use crate::raft::command::Group;

/// A group with RocketMQ's defaults.
pub fn with_defaults(name: &str) -> Group {
    Group {
        name: name.to_owned(),
        consume_enable: true,
        consume_from_min_enable: true,
        consume_broadcast_enable: true,
        consume_message_orderly: false,
        notify_consumer_ids_changed_enable: true,
        retry_queues: 1,
        retry_max_times: 16,
        retry_policy: String::new(),
        broker_id: 0,
        which_broker_when_consume_slowly: 1,
        sys_flag: 0,
        consume_timeout_minutes: 15,
        attributes: BTreeMap::new(),
    }
}
