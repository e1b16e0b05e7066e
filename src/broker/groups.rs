//! Rules about consumer groups: what one that nobody configured looks like, what an operator may
//! ask for.

use std::collections::BTreeMap;

use crate::protocol::bodies::{GroupRetryPolicy, SubscriptionGroupConfig};
use crate::protocol::names;
use crate::raft::command::Group;
use crate::raft::tables::Tables;

use super::topics::{BY_USE_MAX, QUEUES_MAX};

/// Longest retry policy that is stored, bytes of JSON.
const RETRY_POLICY_BYTES_MAX: usize = 16 * 1024;

/// Most bytes of names and values of a group's attributes.
const ATTRIBUTE_BYTES_MAX: usize = 16 * 1024;

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

/// What counts against [`BY_USE_MAX`] when a group comes, which has a retry topic.
pub fn count(tables: &Tables) -> usize {
    tables.group_count().max(tables.topic_count())
}

/// The group that comes by using its name, if groups may and there are not too many of them
/// ([`count`]): those of the system always may.
pub fn by_use(name: &str, auto_create: bool, count: usize) -> Option<Group> {
    let may_come = auto_create || names::is_system_group(name);
    let may_be = may_come && count < BY_USE_MAX || names::SYSTEM_GROUPS.contains(&name);
    (may_be && names::validate_group(name).is_ok()).then(|| with_defaults(name))
}

/// The group as it is shown to tools.
pub fn to_config(group: &Group) -> SubscriptionGroupConfig {
    let stored = serde_json::from_str::<GroupRetryPolicy>(&group.retry_policy);
    SubscriptionGroupConfig {
        attributes: group.attributes.clone(),
        broker_id: group.broker_id,
        consume_broadcast_enable: group.consume_broadcast_enable,
        consume_enable: group.consume_enable,
        consume_from_min_enable: group.consume_from_min_enable,
        consume_message_orderly: group.consume_message_orderly,
        consume_timeout_minute: group.consume_timeout_minutes,
        group_name: group.name.clone(),
        group_retry_policy: stored.unwrap_or_default(),
        group_sys_flag: group.sys_flag,
        notify_consumer_ids_changed_enable: group.notify_consumer_ids_changed_enable,
        retry_max_times: group.retry_max_times,
        retry_queue_nums: i32::try_from(group.retry_queues).unwrap_or(i32::MAX),
        subscription_data_set: None,
        which_broker_when_consume_slowly: group.which_broker_when_consume_slowly,
    }
}

/// The group that an operator asks for, or why not.
pub fn from_config(config: SubscriptionGroupConfig) -> Result<Group, String> {
    names::validate_group(&config.group_name).map_err(|error| error.to_string())?;
    let asked = config.retry_queue_nums;
    let retry_queues = u32::try_from(asked)
        .ok()
        .filter(|queues| *queues <= QUEUES_MAX)
        .ok_or_else(|| format!("a retry topic has 0 to {QUEUES_MAX} queues, not {asked}"))?;
    let retry_policy = if config.group_retry_policy == GroupRetryPolicy::default() {
        String::new()
    } else {
        serde_json::to_string(&config.group_retry_policy).map_err(|error| error.to_string())?
    };
    if retry_policy.len() > RETRY_POLICY_BYTES_MAX {
        return Err(format!("a retry policy has at most {RETRY_POLICY_BYTES_MAX} bytes"));
    }
    let attributes: usize = config.attributes.iter().map(|(n, v)| n.len() + v.len()).sum();
    if attributes > ATTRIBUTE_BYTES_MAX {
        return Err(format!("the attributes of a group have at most {ATTRIBUTE_BYTES_MAX} bytes"));
    }
    Ok(Group {
        name: config.group_name,
        consume_enable: config.consume_enable,
        consume_from_min_enable: config.consume_from_min_enable,
        consume_broadcast_enable: config.consume_broadcast_enable,
        consume_message_orderly: config.consume_message_orderly,
        notify_consumer_ids_changed_enable: config.notify_consumer_ids_changed_enable,
        retry_queues,
        retry_max_times: config.retry_max_times,
        retry_policy,
        broker_id: config.broker_id,
        which_broker_when_consume_slowly: config.which_broker_when_consume_slowly,
        sys_flag: config.group_sys_flag,
        consume_timeout_minutes: config.consume_timeout_minute,
        attributes: config.attributes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_group_has_rocketmqs_defaults() {
        let config = to_config(&with_defaults("g"));
        assert_eq!(config, SubscriptionGroupConfig::new("g"));
        assert_eq!(from_config(config), Ok(with_defaults("g")));
    }

    #[test]
    fn groups_come_by_use_when_they_may() {
        let rows = [
            ("g", true, 0, true),
            ("g", true, BY_USE_MAX - 1, true),
            ("g", true, BY_USE_MAX, false),
            ("g", false, 0, false),
            ("CID_RMQ_SYS_X", false, BY_USE_MAX - 1, true),
            ("CID_RMQ_SYS_X", true, BY_USE_MAX, false), // anybody may call a group so
            ("SELF_TEST_C_GROUP", false, BY_USE_MAX, true),
            ("a b", true, 0, false),
        ];
        for (name, auto_create, count, want) in rows {
            let group = by_use(name, auto_create, count);
            assert_eq!(group.is_some(), want, "{name} {auto_create} {count}");
        }
    }

    #[test]
    fn what_an_operator_asks_for_has_limits() {
        let with = |name: &str, retry_queue_nums| SubscriptionGroupConfig {
            retry_queue_nums,
            ..SubscriptionGroupConfig::new(name)
        };
        assert!(from_config(with("g", 0)).is_ok());
        for bad in [with("g", -1), with("g", 1 << 20), with("a b", 1), with("", 1)] {
            assert!(from_config(bad.clone()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_retry_policy_is_kept_as_it_is() {
        let policy = GroupRetryPolicy {
            kind: "EXPONENTIAL".to_owned(),
            exponential_retry_policy: Some(serde_json::json!({"initial": 5000, "max": 7200000})),
            customized_retry_policy: None,
        };
        let config = SubscriptionGroupConfig {
            group_retry_policy: policy,
            ..SubscriptionGroupConfig::new("g")
        };
        assert_eq!(to_config(&from_config(config.clone()).unwrap()), config);
    }
}
