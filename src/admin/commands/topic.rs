//! Topics: listing, looking, creating, changing, deleting.

mod change;
mod delete;
mod list;
mod route;
mod status;
mod update;

pub(super) use delete::delete_everywhere;

pub(in crate::admin) use change::{
    TopicClusterList, UpdateOrderConf, UpdateTopicPerm, clusters, update_order, update_perm,
};
pub(in crate::admin) use delete::{DeleteTopic, delete};
pub(in crate::admin) use list::{TopicList, list};
pub(in crate::admin) use route::{TopicRoute, route};
pub(in crate::admin) use status::{TopicStatus, status};
pub(in crate::admin) use update::{UpdateTopic, update};
