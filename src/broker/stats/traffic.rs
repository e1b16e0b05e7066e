//! Messages and bytes that went into a topic, or out of one to a group.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::window::{Count, Growth, Window};

/// Most counted things of one kind; more are not counted.
const ITEMS_MAX: usize = 100_000;

/// A growing number with its rates over the last minute, hour and day.
#[derive(Debug)]
pub struct Item {
    sum: AtomicU64,
    calls: AtomicU64,
    windows: Mutex<Windows>,
}

#[derive(Debug)]
struct Windows {
    minute: Window,
    hour: Window,
    day: Window,
}

/// Growth over the last minute, hour and day.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Growths {
    /// Samples of 10 s.
    pub minute: Growth,
    /// Samples of 10 min.
    pub hour: Growth,
    /// Samples of 1 h.
    pub day: Growth,
}

impl Default for Item {
    fn default() -> Self {
        Self {
            sum: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            windows: Mutex::new(Windows {
                minute: Window::new(7, Duration::from_secs(10)),
                hour: Window::new(7, Duration::from_secs(600)),
                day: Window::new(25, Duration::from_secs(3600)),
            }),
        }
    }
}

impl Item {
    /// Adds `value`, in one call.
    pub fn add(&self, value: u64) {
        self.sum.fetch_add(value, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// What was added so far.
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// Rates.
    pub fn growths(&self) -> Growths {
        let windows = self.windows.lock();
        Growths {
            minute: windows.minute.growth(),
            hour: windows.hour.growth(),
            day: windows.day.growth(),
        }
    }

    fn sample(&self, now: Instant) {
        let count = Count { sum: self.sum(), calls: self.calls.load(Ordering::Relaxed) };
        let mut windows = self.windows.lock();
        windows.minute.sample(now, count);
        windows.hour.sample(now, count);
        windows.day.sample(now, count);
    }
}

/// Messages and their bytes.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Messages.
    pub messages: Item,
    /// Bytes of their records.
    pub bytes: Item,
}

impl Traffic {
    /// Counts `messages` of together `bytes`.
    pub fn add(&self, messages: u64, bytes: u64) {
        self.messages.add(messages);
        self.bytes.add(bytes);
    }
}

type ByName = HashMap<Arc<str>, Arc<Traffic>>;

/// Traffic by topic, and by topic and group.
#[derive(Debug, Default)]
pub struct TrafficTable {
    into: RwLock<ByName>,
    out_of: RwLock<HashMap<Arc<str>, ByName>>,
}

impl TrafficTable {
    /// Counts messages stored in a topic.
    pub fn put(&self, topic: &Arc<str>, messages: u64, bytes: u64) {
        if let Some(traffic) = self.into.read().get(topic) {
            return traffic.add(messages, bytes);
        }
        let mut into = self.into.write();
        if into.len() < ITEMS_MAX {
            into.entry(Arc::clone(topic)).or_default().add(messages, bytes);
        }
    }

    /// Counts messages that a group took from a topic.
    pub fn got(&self, topic: &str, group: &str, messages: u64, bytes: u64) {
        let known = self.out_of.read().get(topic).and_then(|groups| groups.get(group)).cloned();
        if let Some(traffic) = known {
            return traffic.add(messages, bytes);
        }
        let mut out_of = self.out_of.write();
        if out_of.len() < ITEMS_MAX {
            let groups = out_of.entry(topic.into()).or_default();
            if groups.len() < ITEMS_MAX {
                groups.entry(group.into()).or_default().add(messages, bytes);
            }
        }
    }

    /// What went into a topic since this broker started.
    pub fn into_topic(&self, topic: &str) -> Option<Arc<Traffic>> {
        self.into.read().get(topic).cloned()
    }

    /// What a group took from a topic since this broker started.
    pub fn out_of_topic(&self, topic: &str, group: &str) -> Option<Arc<Traffic>> {
        self.out_of.read().get(topic)?.get(group).cloned()
    }

    /// Forgets a deleted topic.
    pub fn forget_topic(&self, topic: &str) {
        self.into.write().remove(topic);
        self.out_of.write().remove(topic);
    }

    /// Takes samples of everything. Called every 10 s.
    pub fn sample(&self, now: Instant) {
        let into: Vec<Arc<Traffic>> = self.into.read().values().cloned().collect();
        let out_of: Vec<Arc<Traffic>> =
            self.out_of.read().values().flat_map(HashMap::values).cloned().collect();
        for traffic in into.iter().chain(&out_of) {
            traffic.messages.sample(now);
            traffic.bytes.sample(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_counted_by_topic_and_by_group() {
        let (table, start) = (TrafficTable::default(), crate::clock::now());
        let topic: Arc<str> = "T".into();
        assert!(table.into_topic("T").is_none(), "nothing before its first use");
        table.put(&topic, 1, 100);
        table.sample(start);
        table.put(&topic, 2, 300);
        table.got("T", "g", 3, 400);
        table.sample(start + Duration::from_secs(10));
        let into = table.into_topic("T").unwrap();
        assert_eq!((into.messages.sum(), into.bytes.sum()), (3, 400));
        let minute = into.messages.growths().minute;
        assert_eq!((minute.sum, minute.per_second, minute.per_call), (3, 0.15, 1.5));
        assert_eq!(table.out_of_topic("T", "g").unwrap().messages.sum(), 3);
        assert!(table.out_of_topic("T", "h").is_none());
        table.forget_topic("T");
        assert!(table.into_topic("T").is_none() && table.out_of_topic("T", "g").is_none());
    }
}
