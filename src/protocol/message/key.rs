//! Hashes of tags and keys.

use super::properties::KEY_SEPARATOR;

/// Java's `String.hashCode` of `tags`, sign-extended: what a ConsumeQueue unit holds and consumers'
/// subscriptions are compared with. 0 without tags.
pub fn tags_code(tags: &str) -> i64 {
    java_hash(tags).into()
}

/// Java's `String.hashCode`: over UTF-16 units, h = 31·h + unit, wrapping.
pub fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |h, unit| h.wrapping_mul(31).wrapping_add(unit.into()))
}

/// What the key index stores for (topic, key).
///
/// FNV-1a, 64 bits, over topic, a zero byte and key, then Murmur3's finaliser so that all bits
/// depend on all input. Stored on disk: it must never change. Collisions cost a look at a record
/// that turns out to be another one.
pub fn key_hash(topic: &str, key: &str) -> u64 {
    TopicKeys::of(topic).hash(key)
}

/// Hashes of the keys of one topic, as [`key_hash`] makes them.
#[derive(Debug, Clone, Copy)]
pub struct TopicKeys(u64);

impl TopicKeys {
    /// Of this topic.
    pub fn of(topic: &str) -> Self {
        Self(fnv(0xCBF2_9CE4_8422_2325, topic.bytes().chain([0])))
    }

    /// Of one of its keys.
    pub fn hash(self, key: &str) -> u64 {
        let fnv = fnv(self.0, key.bytes());
        let mixed = (fnv ^ (fnv >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
        mixed ^ (mixed >> 33)
    }
}

fn fnv(before: u64, bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(before, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3))
}

/// The single keys of a `KEYS` property.
pub fn split_keys(keys: &str) -> impl Iterator<Item = &str> {
    keys.split(KEY_SEPARATOR).filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_hash_as_in_java() {
        let rows = [
            ("", 0),
            ("TagA", 2_598_919),
            ("refund", -934_813_832),
            ("ä€", 15_432),
            ("😀", 1_772_899),
        ];
        for (tags, want) in rows {
            assert_eq!(tags_code(tags), want, "{tags}");
        }
    }

    #[test]
    fn key_hashes_never_change() {
        assert_eq!(key_hash("T", "k"), 0xb7a9_174d_597e_b399); // computed by another program
        assert_eq!(key_hash("VecTopic", "key-1"), 0xdf73_f107_939a_2f1c);
        assert_ne!(key_hash("T", "k"), key_hash("Tk", ""));
        assert_ne!(key_hash("T", "k"), key_hash("T", "l"));
    }

    #[test]
    fn keys_are_separated_by_blanks() {
        assert_eq!(split_keys(" a  b c").collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
