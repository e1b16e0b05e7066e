//! Settings that change while the name server runs.
//!
//! What may change, and how it is read, is the configuration's business: this part gets a function
//! for it from `start.rs`, and only knows the switches that it looks at itself.

use std::{collections::BTreeMap, fmt};

use parking_lot::Mutex;

use super::{error::Refusal, route_table::Rules};

/// Switches that requests look at. RocketMQ's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct Switches {
    /// `deleteTopicWithBrokerRegistration`: a registration removes the topics it lacks.
    pub delete_missing_topics: bool,
    /// `enableAllTopicList`: whether all topics may be listed.
    pub all_topic_list: bool,
    /// `enableTopicList`: whether the topics of a cluster or unit may be listed.
    pub topic_list: bool,
    /// `orderMessageEnable`: routes carry `orderTopicConf`.
    pub order_messages: bool,
    /// `returnOrderTopicConfigToBroker`: registrations are answered with the ordered topics.
    pub return_order_config: bool,
    /// `ingressSlots`: routes have a write-only entry for another member of a group.
    pub ingress_slots: bool,
}

impl Switches {
    /// What a registration may change.
    pub fn rules(self) -> Rules {
        Rules { delete_missing_topics: self.delete_missing_topics }
    }
}

/// Settings as they are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// What requests look at.
    pub switches: Switches,
    /// All settings as `key=value` lines, for GET_NAMESRV_CONFIG.
    pub properties: String,
}

/// A change that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Settings afterwards.
    pub current: Current,
    /// Key → value, as far as they were in the request.
    pub values: BTreeMap<String, String>,
}

/// Applies `key=value` lines from the network and stores them, all or nothing. Blocks.
pub type Update = Box<dyn FnMut(&str) -> Result<Changed, Refusal> + Send>;

/// Settings and the way to change them.
pub struct Settings {
    current: Mutex<Current>,
    /// Held while a change is being stored, which readers do not wait for.
    update: Mutex<Update>,
}

impl Settings {
    /// `current`, changed by `update` only.
    pub fn new(current: Current, update: Update) -> Self {
        Self { current: Mutex::new(current), update: Mutex::new(update) }
    }

    /// What requests look at, as of now.
    pub fn switches(&self) -> Switches {
        self.current.lock().switches
    }

    /// All settings as of now, as `key=value` lines.
    pub fn properties(&self) -> String {
        self.current.lock().properties.clone()
    }

    /// Applies a request's body, and says what it changed. Blocks until that is on disk; nobody
    /// sees it before.
    pub fn update(&self, body: &[u8]) -> Result<BTreeMap<String, String>, Refusal> {
        let text = std::str::from_utf8(body).map_err(|_| Refusal::NotProperties)?;
        let mut update = self.update.lock();
        let Changed { current, values } = update(text)?;
        *self.current.lock() = current;
        Ok(values)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("current", &self.current).finish_non_exhaustive()
    }
}
