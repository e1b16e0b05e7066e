//! Settings that change while the name server runs, and those it merely reports.
//!
//! Only the keys of [`Settings`] can be changed over the network: no path, port or limit.

use std::collections::BTreeMap;

use super::{error::Refusal, route_table::Rules};

/// Keys that RocketMQ refuses with a text of its own.
const BLACKLIST: [&str; 3] = ["configBlackList", "configStorePath", "kvConfigPath"];

const PRODUCT_ENV_NAME: &str = "productEnvName";
/// Longest `productEnvName`; it is reported, nothing else.
const LABEL_BYTES_MAX: usize = 255;

/// Settings that may change while running. RocketMQ's keys and defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `deleteTopicWithBrokerRegistration`: a registration removes the topics it lacks.
    pub delete_topic_with_broker_registration: bool,
    /// `enableAllTopicList`: whether all topics may be listed.
    pub enable_all_topic_list: bool,
    /// `enableTopicList`: whether the topics of a cluster or unit may be listed.
    pub enable_topic_list: bool,
    /// `orderMessageEnable`: routes carry `orderTopicConf`.
    pub order_message_enable: bool,
    /// `returnOrderTopicConfigToBroker`: registrations are answered with the ordered topics.
    pub return_order_topic_config_to_broker: bool,
    /// `productEnvName`: a label for operators, without effect.
    pub product_env_name: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            delete_topic_with_broker_registration: false,
            enable_all_topic_list: true,
            enable_topic_list: true,
            order_message_enable: false,
            return_order_topic_config_to_broker: true,
            product_env_name: "center".to_owned(),
        }
    }
}

impl Settings {
    /// The settings with one of them replaced.
    pub fn with(mut self, key: &str, value: &str) -> Result<Self, Refusal> {
        if BLACKLIST.contains(&key) {
            return Err(Refusal::SettingBlacklisted);
        }
        if key == PRODUCT_ENV_NAME {
            value[..value.floor_char_boundary(LABEL_BYTES_MAX)]
                .clone_into(&mut self.product_env_name);
            return Ok(self);
        }
        let (_, place) = self
            .switches()
            .into_iter()
            .find(|(name, _)| *name == key)
            .ok_or_else(|| Refusal::SettingFixed(key.to_owned()))?;
        *place = parse_bool(value).ok_or_else(|| Refusal::BadSetting {
            key: key.to_owned(),
            expected: "true or false",
        })?;
        Ok(self)
    }

    /// The settings with those in `text` replaced: all of them, or none on error.
    pub fn with_properties(self, text: &str) -> Result<Self, Refusal> {
        properties(text)?.try_fold(self, |settings, (key, value)| settings.with(key, value))
    }

    /// Keys and values in order.
    pub fn entries(mut self) -> BTreeMap<&'static str, String> {
        let switches = self.switches().into_iter().map(|(key, value)| (key, value.to_string()));
        let mut entries: BTreeMap<_, _> = switches.collect();
        entries.insert(PRODUCT_ENV_NAME, self.product_env_name);
        entries
    }

    /// What a registration may change under these settings.
    pub fn rules(&self) -> Rules {
        Rules { delete_missing_topics: self.delete_topic_with_broker_registration }
    }

    fn switches(&mut self) -> [(&'static str, &mut bool); 5] {
        [
            ("deleteTopicWithBrokerRegistration", &mut self.delete_topic_with_broker_registration),
            ("enableAllTopicList", &mut self.enable_all_topic_list),
            ("enableTopicList", &mut self.enable_topic_list),
            ("orderMessageEnable", &mut self.order_message_enable),
            ("returnOrderTopicConfigToBroker", &mut self.return_order_topic_config_to_broker),
        ]
    }
}

fn parse_bool(value: &str) -> Option<bool> {
    [("true", true), ("false", false)]
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(value))
        .map(|(_, value)| value)
}

/// `key=value` lines; comments and blank lines are skipped.
fn properties(text: &str) -> Result<impl Iterator<Item = (&str, &str)>, Refusal> {
    let lines = || {
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '!']))
    };
    if lines().any(|line| !line.contains('=')) {
        return Err(Refusal::NotProperties);
    }
    Ok(lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.trim(), v.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_keys_change_and_all_or_none_do() {
        let defaults = Settings::default();
        let text = "# from mqadmin\norderMessageEnable = TRUE\nenableTopicList=false\n";
        let changed = defaults.clone().with_properties(text).unwrap();
        assert!(changed.order_message_enable && !changed.enable_topic_list);
        let refused = [
            ("kvConfigPath=/x\n", Refusal::SettingBlacklisted),
            ("enableTopicList=false\nlistenPort=1", Refusal::SettingFixed("listenPort".into())),
            (
                "enableTopicList=maybe",
                Refusal::BadSetting { key: "enableTopicList".into(), expected: "true or false" },
            ),
            ("nonsense", Refusal::NotProperties),
        ];
        for (text, why) in refused {
            assert_eq!(defaults.clone().with_properties(text), Err(why), "{text}");
        }
        assert_eq!(defaults.clone().with_properties(""), Ok(defaults));
    }

    #[test]
    fn every_setting_reads_back_under_its_key() {
        for key in Settings::default().entries().keys() {
            for value in ["true", "false"] {
                let settings = Settings::default().with(key, value).unwrap();
                assert_eq!(settings.entries()[key], value, "{key}");
            }
        }
    }
}
