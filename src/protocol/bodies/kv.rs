//! Name-value tables.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Answer of GET_KVLIST_BY_NAMESPACE, GET_BROKER_RUNTIME_INFO and REGISTER_BROKER.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KVTable {
    /// Values by name.
    pub table: BTreeMap<String, String>,
}
