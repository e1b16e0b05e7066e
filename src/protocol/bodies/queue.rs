//! A queue, as a value and as the key of a map.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::protocol::lenient_json::OBJECT_KEY_MARK;

/// One queue of a topic on one broker group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MessageQueue {
    /// Name of the broker group.
    pub broker_name: String,
    /// Number of the queue; −1 stands for all of them in POP assignments.
    pub queue_id: i32,
    /// The topic.
    pub topic: String,
}

/// A queue as the key of a map: an object without quotes on the wire.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueKey(pub MessageQueue);

impl Serialize for QueueKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let object = serde_json::to_string(&self.0).map_err(ser::Error::custom)?;
        serializer.serialize_str(&format!("{OBJECT_KEY_MARK}{object}"))
    }
}

impl<'de> Deserialize<'de> for QueueKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = String::deserialize(deserializer)?;
        serde_json::from_str(&object).map(Self).map_err(de::Error::custom)
    }
}
