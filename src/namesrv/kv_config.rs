//! Namespaced keys and values that operators and clients keep in the name server, above all the
//! queues of ordered topics. The map is pure; [`KvStore`] keeps it in a file in RocketMQ's form.
//! The path comes from the configuration, never from the network.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{atomic_file, error::Refusal};

/// Namespace of ordered topics: key topic, value `brokerName:queues[;brokerName:queues]`.
pub const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";
/// Sum of all namespaces, keys and values, in bytes; every change writes the whole file.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest namespace or key, in bytes.
const KEY_BYTES_MAX: usize = 512;
/// Longest value, in bytes.
const VALUE_BYTES_MAX: usize = 64 * 1024;

/// All namespaces. Serialises as RocketMQ's `kvConfig.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KvConfig {
    #[serde(default)]
    config_table: BTreeMap<String, BTreeMap<String, String>>,
}

impl KvConfig {
    /// One value.
    pub fn get(&self, namespace: &str, key: &str) -> Option<&str> {
        self.config_table.get(namespace)?.get(key).map(String::as_str)
    }

    /// All keys and values of a namespace.
    pub fn namespace(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.config_table.get(namespace)
    }

    /// Sets one value.
    pub fn put(&mut self, namespace: &str, key: &str, value: &str) -> Result<(), Refusal> {
        check("namespace", namespace)?;
        check("key", key)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(Refusal::BadName { field: "value", reason: "is too long" });
        }
        if self.bytes() + namespace.len() + key.len() + value.len() > BYTES_MAX {
            return Err(Refusal::Full { what: "bytes of KV configuration", max: BYTES_MAX });
        }
        let table = self.config_table.entry(namespace.to_owned()).or_default();
        table.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    /// Removes one value, if it is there. An emptied namespace stays, as in RocketMQ.
    pub fn delete(&mut self, namespace: &str, key: &str) {
        if let Some(table) = self.config_table.get_mut(namespace) {
            table.remove(key);
        }
    }

    fn bytes(&self) -> usize {
        let tables = self.config_table.iter();
        tables
            .map(|(name, t)| name.len() + t.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>())
            .sum()
    }
}

fn check(field: &'static str, text: &str) -> Result<(), Refusal> {
    let reason = match text.len() {
        0 => "is empty",
        1..=KEY_BYTES_MAX => return Ok(()),
        _ => "is too long",
    };
    Err(Refusal::BadName { field, reason })
}

/// The KV configuration and its file. A change is on disk before anybody can read it.
#[derive(Debug)]
pub struct KvStore {
    current: Mutex<Arc<KvConfig>>,
    /// One change at a time, from reading the current map to replacing it.
    changing: tokio::sync::Mutex<()>,
    path: PathBuf,
}

impl KvStore {
    /// Reads the file, if there is one. A file that does not parse is an error: starting empty
    /// would overwrite it with the next change.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let config = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => KvConfig::default(),
            Err(error) => return Err(error),
        };
        let current = Mutex::new(Arc::new(config));
        Ok(Self { current, changing: tokio::sync::Mutex::default(), path })
    }

    /// The map as of now.
    pub fn current(&self) -> Arc<KvConfig> {
        Arc::clone(&self.current.lock())
    }

    /// Applies `change` to a copy, stores it, and makes it the current one.
    pub async fn change(
        &self,
        change: impl FnOnce(&mut KvConfig) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let _one_at_a_time = self.changing.lock().await;
        let before = self.current();
        let mut after = KvConfig::clone(&before);
        change(&mut after)?;
        if after == *before {
            return Ok(());
        }
        let after = Arc::new(after);
        store(&self.path, Arc::clone(&after)).await.map_err(|error| {
            tracing::error!(%error, path = %self.path.display(), "cannot store KV configuration");
            Refusal::NotStored(error.to_string())
        })?;
        *self.current.lock() = after;
        Ok(())
    }
}

async fn store(path: &Path, config: Arc<KvConfig>) -> io::Result<()> {
    let path = path.to_owned();
    let write = move || atomic_file::write(&path, &serde_json::to_vec(&*config)?);
    tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(rows: &[(&str, &str, &str)]) -> KvConfig {
        let mut config = KvConfig::default();
        rows.iter().for_each(|(n, k, v)| config.put(n, k, v).unwrap());
        config
    }

    #[test]
    fn the_file_has_the_form_of_rocketmq() {
        let config = config(&[(ORDER_TOPIC_CONFIG, "VecOrder", "RaftNode00:4"), ("N", "k", "ü\"")]);
        let text = serde_json::to_string(&config).unwrap();
        let want =
            r#"{"configTable":{"N":{"k":"ü\""},"ORDER_TOPIC_CONFIG":{"VecOrder":"RaftNode00:4"}}}"#;
        assert_eq!(text, want);
        assert_eq!(serde_json::from_str::<KvConfig>(want).unwrap(), config);
    }

    #[test]
    fn sizes_are_bounded() {
        let mut config = config(&[("N", "k", "v")]);
        let long = "x".repeat(KEY_BYTES_MAX + 1);
        let big = "x".repeat(VALUE_BYTES_MAX);
        for (namespace, key, value) in
            [("", "k", "v"), ("N", "", "v"), (&long, "k", "v"), ("N", &long, "v")]
        {
            assert!(config.put(namespace, key, value).is_err());
        }
        assert!(config.put("N", "k", &format!("{big}x")).is_err());
        let room = (0..100).filter(|n| config.put("N", &n.to_string(), &big).is_ok()).count();
        assert!(room < BYTES_MAX / VALUE_BYTES_MAX + 1, "{room}");
    }

    #[tokio::test]
    async fn a_change_survives_a_restart_and_a_refused_one_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("not/there/yet/kvConfig.json");
        let store = KvStore::open(path.clone()).unwrap();
        store.change(|kv| kv.put("N", "k", "v")).await.unwrap();
        let both =
            |kv: &mut KvConfig| kv.put("N", "k", "other").and_then(|()| kv.put("", "k", "v"));
        assert!(store.change(both).await.is_err());
        for store in [&store, &KvStore::open(path.clone()).unwrap()] {
            assert_eq!(store.current().get("N", "k"), Some("v"));
        }
        store
            .change(|kv| {
                kv.delete("N", "k");
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!(KvStore::open(path).unwrap().current().get("N", "k"), None);
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kvConfig.json");
        fs::write(&path, "{\"configTable\":").unwrap();
        assert!(KvStore::open(path).is_err());
    }

    #[tokio::test]
    async fn what_cannot_be_stored_is_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let store = KvStore {
            current: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            path: file.join("kvConfig.json"),
        };
        assert!(store.change(|kv| kv.put("N", "k", "v")).await.is_err());
        assert_eq!(store.current().get("N", "k"), None);
    }
}
