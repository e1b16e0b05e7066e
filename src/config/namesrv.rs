//! What a name server is told, in units.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use crate::config::{
    broker::{ConnectionLimits, Logging},
    rules::CHANGED_CONFIG,
    settings::Settings,
};

/// Everything a name server needs to start.
#[derive(Debug, Clone)]
pub struct NamesrvConfig {
    /// `bindAddress` and `listenPort`.
    pub listen: SocketAddr,
    /// `kvConfigPath`: where key/value settings are kept.
    pub kv_config: PathBuf,
    /// `changedConfig.json` beside it: settings that were changed over the network.
    pub changes: PathBuf,
    /// `scanNotActiveBrokerInterval`: how often silent brokers are looked for.
    pub scan_interval: Duration,
    /// `needWaitForService` and `waitSecondsForService`: routes are refused for so long after
    /// the start. `None`: ready as soon as brokers have reported.
    pub wait_for_service: Option<Duration>,
    /// Limits of the listening side.
    pub connections: ConnectionLimits,
    /// What the process writes about itself.
    pub logging: Logging,
    /// What can be changed while it runs.
    pub policy: Arc<NamesrvPolicy>,
    /// What all this was made from.
    pub settings: Settings,
}

/// What can be changed while the name server runs (UPDATE_NAMESRV_CONFIG, 318).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct NamesrvPolicy {
    /// `orderMessageEnable`: routes carry `orderTopicConf`.
    pub order_messages: bool,
    /// `returnOrderTopicConfigToBroker`: registrations are answered with the order settings.
    pub return_order_config: bool,
    /// `enableAllTopicList`: request 206 is served.
    pub all_topic_list: bool,
    /// `enableTopicList`: requests that list topics by cluster or kind are served.
    pub topic_list: bool,
    /// `deleteTopicWithBrokerRegistration`: a topic missing from a registration is removed.
    pub delete_topics_with_registration: bool,
    /// `ingressSlots`: routes have a write-only entry for another member of a group.
    pub ingress_slots: bool,
}

impl NamesrvConfig {
    /// The typed form of completed settings.
    pub(super) fn of(settings: Settings) -> Self {
        let s = &settings;
        let kv_config = s.path("kvConfigPath").cloned().unwrap_or_default();
        Self {
            listen: SocketAddr::new(s.address("bindAddress"), s.number("listenPort")),
            changes: kv_config.with_file_name(CHANGED_CONFIG),
            kv_config,
            scan_interval: Duration::from_millis(s.number("scanNotActiveBrokerInterval")),
            wait_for_service: s
                .bool("needWaitForService")
                .then(|| Duration::from_secs(s.number("waitSecondsForService"))),
            connections: ConnectionLimits::of(s),
            logging: Logging::of(s),
            policy: Arc::new(NamesrvPolicy::of(s)),
            settings,
        }
    }
}

impl NamesrvPolicy {
    pub(super) fn of(s: &Settings) -> Self {
        Self {
            order_messages: s.bool("orderMessageEnable"),
            return_order_config: s.bool("returnOrderTopicConfigToBroker"),
            all_topic_list: s.bool("enableAllTopicList"),
            topic_list: s.bool("enableTopicList"),
            delete_topics_with_registration: s.bool("deleteTopicWithBrokerRegistration"),
            ingress_slots: s.bool("ingressSlots"),
        }
    }
}
