//! Topics: listing, looking, creating.

mod list;
mod route;
mod status;
mod update;

pub(in crate::admin) use list::{TopicList, list};
pub(in crate::admin) use route::{TopicRoute, route};
pub(in crate::admin) use status::{TopicStatus, status};
pub(in crate::admin) use update::{UpdateTopic, update};
