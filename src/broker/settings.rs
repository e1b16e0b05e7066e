//! The broker's configuration as it is now: what was read at start, with the changes that the
//! group has agreed on since (UPDATE_BROKER_CONFIG). Every member applies the same changes.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::{BrokerConfig, BrokerPolicy};
use crate::raft::tables::{Tables, Version};

use super::handlers::send::added_properties;

/// The current configuration, kept in step with the replicated settings.
pub struct LiveSettings {
    /// As read at start, without the group's changes.
    base: BrokerConfig,
    current: ArcSwap<Current>,
}

/// A configuration and the version of the settings it was made from.
pub struct Current {
    version: Version,
    /// The configuration.
    pub config: BrokerConfig,
    /// `regionId`, as it is shared by all answers to sends.
    pub region: Arc<str>,
    /// Properties that this broker gives to every message it takes, as a property string.
    pub added_properties: Vec<u8>,
}

impl LiveSettings {
    /// What was read at start, with what the group has changed before.
    pub fn new(base: BrokerConfig, tables: &Tables) -> Self {
        let current = ArcSwap::from_pointee(derive(&base, tables));
        Self { base, current }
    }

    /// The configuration as of `tables`. Recomputed at most once per change.
    pub fn current(&self, tables: &Tables) -> Arc<Current> {
        let current = self.current.load_full();
        if current.version == tables.settings_version() {
            return current;
        }
        let derived = Arc::new(derive(&self.base, tables));
        self.current.store(Arc::clone(&derived));
        derived
    }

    /// What may be changed while running, as of `tables`.
    pub fn policy(&self, tables: &Tables) -> Arc<BrokerPolicy> {
        Arc::clone(&self.current(tables).config.policy)
    }
}

fn derive(base: &BrokerConfig, tables: &Tables) -> Current {
    let kept = tables.settings().map(|(key, value)| (&**key, &**value));
    let config = base.with_kept(kept);
    let policy = &config.policy;
    Current {
        version: tables.settings_version(),
        region: policy.region.as_str().into(),
        added_properties: added_properties(&policy.region, policy.trace_on, &config.cluster),
        config,
    }
}
