//! What members tell each other with every call: who calls, whom, and what the caller takes the
//! group to be. Members that disagree refuse each other and name both values.

use std::time::{Duration, Instant};

use bincode::{Decode, Encode};
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::ids::StoreId;
use crate::raft::codec::{self, Stored};
use crate::store::entry::crc32c;

/// Metadata key of the encoded [`Introduction`].
const KEY: &str = "rmq-caller-bin";

/// The caller's view of itself and of its group.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Introduction {
    /// `brokerClusterName`.
    pub cluster: String,
    /// `dLegerGroup`.
    pub group: String,
    /// All members, `name-host:port` joined by `;`, by name.
    pub members: String,
    /// `mappedFileSizeCommitLog`.
    pub segment_bytes: u64,
    /// The caller's name.
    pub member: String,
    /// The caller's store.
    pub store_id: u64,
    /// The store that the call is meant for; 0: whichever the callee has.
    pub callee: u64,
}

impl Stored for Introduction {
    const WHAT: &'static str = "introduction of a peer";
    /// Version of the whole peer protocol: raised when members of two versions cannot talk.
    const FORMAT: u8 = 2;
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// The call does not say who calls.
    #[error("a call without a readable introduction: {0}")]
    NotIntroduced(String),
    /// What the call says was damaged on its way.
    #[error(
        "an introduction was damaged: its checksum is {found:#010x}, not {said:#010x} as it says"
    )]
    Damaged {
        /// Of what came.
        found: u32,
        /// As the caller says.
        said: u32,
    },
    /// The two sides take the group to be different things.
    #[error(
        "{what} differs: {member} (this member) has {here:?}, {caller} (calling) has {there:?}; \
         make their configuration files agree"
    )]
    Differs {
        /// Which value.
        what: &'static str,
        /// This member.
        member: String,
        /// The calling member.
        caller: String,
        /// Its value on this member.
        here: String,
        /// Its value on the calling member.
        there: String,
    },
    /// The call is for a store that this member does not have any more.
    #[error("the call is for store {meant}, but member {member} has store {here}")]
    OtherStore {
        /// This member.
        member: String,
        /// The store the caller means.
        meant: StoreId,
        /// The store that is here.
        here: StoreId,
    },
}

/// A refusal is told again after this long, if it goes on.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// Refusals remembered; more than these, from whomever, are not told.
const TOLD_MAX: usize = 16;

/// Refusals that were told lately.
#[derive(Debug, Default)]
pub(super) struct Told(Vec<(Refusal, Instant)>);

impl Told {
    /// Whether `refusal` is to be told now.
    pub(super) fn is_news(&mut self, refusal: &Refusal, now: Instant) -> bool {
        self.0.retain(|(_, at)| now.duration_since(*at) < TELL_AGAIN);
        let is_news = self.0.len() < TOLD_MAX && self.0.iter().all(|(told, _)| told != refusal);
        if is_news {
            self.0.push((refusal.clone(), now));
        }
        is_news
    }
}

impl Introduction {
    /// The same introduction, for a call to the store `callee`.
    pub(super) fn to(&self, callee: StoreId) -> Self {
        Self { callee: callee.0, ..self.clone() }
    }

    /// Adds it to a call, with its CRC-32C behind it: damage is no difference between members.
    pub(super) fn put(&self, metadata: &mut MetadataMap) {
        let mut bytes = codec::encode(self);
        bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
        metadata.insert_bin(KEY, MetadataValue::from_bytes(&bytes));
    }

    /// The caller of a call, if this member may answer it.
    pub(super) fn check(&self, metadata: &MetadataMap) -> Result<Self, Refusal> {
        let missing = |why: &str| Refusal::NotIntroduced(why.to_owned());
        let value = metadata.get_bin(KEY).ok_or_else(|| missing("none"))?;
        let bytes = value.to_bytes().map_err(|_| missing("not base64"))?;
        let (bytes, said) = bytes.split_last_chunk().ok_or_else(|| missing("no checksum"))?;
        let (found, said) = (crc32c(bytes), u32::from_le_bytes(*said));
        if found != said {
            return Err(Refusal::Damaged { found, said });
        }
        let caller: Self =
            codec::decode(bytes).map_err(|error| Refusal::NotIntroduced(error.to_string()))?;
        self.refusal(&caller).map_or(Ok(caller), Err)
    }

    /// Why `caller` is refused, if it is. Pure.
    pub(super) fn refusal(&self, caller: &Self) -> Option<Refusal> {
        let pairs = [
            ("brokerClusterName", self.cluster.clone(), caller.cluster.clone()),
            ("dLegerGroup", self.group.clone(), caller.group.clone()),
            ("dLegerPeers", self.members.clone(), caller.members.clone()),
            (
                "mappedFileSizeCommitLog",
                self.segment_bytes.to_string(),
                caller.segment_bytes.to_string(),
            ),
        ];
        for (what, here, there) in pairs {
            if here != there {
                let (member, caller) = (self.member.clone(), caller.member.clone());
                return Some(Refusal::Differs { what, member, caller, here, there });
            }
        }
        (caller.callee != 0 && caller.callee != self.store_id).then(|| Refusal::OtherStore {
            member: self.member.clone(),
            meant: StoreId(caller.callee),
            here: StoreId(self.store_id),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn introduction(member: &str, store_id: u64) -> Introduction {
        Introduction {
            cluster: "C".to_owned(),
            group: "G".to_owned(),
            members: "n0-a:1;n1-b:1".to_owned(),
            segment_bytes: 1 << 30,
            member: member.to_owned(),
            store_id,
            callee: 0,
        }
    }

    #[test]
    fn members_that_agree_talk() {
        let (n0, n1) = (introduction("n0", 1), introduction("n1", 2));
        let mut metadata = MetadataMap::new();
        n0.to(StoreId(2)).put(&mut metadata);
        assert_eq!(n1.check(&metadata).unwrap().member, "n0");
    }

    #[test]
    fn a_damaged_introduction_is_none() {
        let (n0, n1) = (introduction("n0", 1), introduction("n1", 2));
        let mut metadata = MetadataMap::new();
        n0.to(StoreId(2)).put(&mut metadata);
        let bytes = metadata.get_bin(KEY).unwrap().to_bytes().unwrap();
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            metadata.insert_bin(KEY, MetadataValue::from_bytes(&damaged));
            let refused = n1.check(&metadata).unwrap_err();
            assert!(matches!(refused, Refusal::Damaged { .. }), "bit {bit}: {refused}");
        }
    }

    #[test]
    fn every_difference_is_refused_with_both_values() {
        let here = introduction("n0", 1);
        let cases = [
            ("brokerClusterName", Introduction { cluster: "X".to_owned(), ..here.clone() }),
            ("dLegerGroup", Introduction { group: "X".to_owned(), ..here.clone() }),
            ("dLegerPeers", Introduction { members: "X".to_owned(), ..here.clone() }),
            ("mappedFileSizeCommitLog", Introduction { segment_bytes: 7, ..here.clone() }),
        ];
        for (what, caller) in cases {
            let text = here.refusal(&caller).unwrap().to_string();
            assert!(text.contains(what), "{text}");
            assert!(text.contains("\"X\"") || text.contains("\"7\""), "{text}");
        }
    }

    #[test]
    fn a_call_for_a_lost_store_is_refused() {
        let here = introduction("n0", 1);
        let caller = introduction("n1", 2).to(StoreId(9));
        assert!(matches!(here.refusal(&caller), Some(Refusal::OtherStore { .. })));
        assert_eq!(here.refusal(&caller.to(StoreId(1))), None);
    }

    #[test]
    fn a_refusal_is_told_once_a_minute_however_often_it_happens() {
        let (mut told, start) = (Told::default(), crate::clock::now());
        let refusal = |n: usize| Refusal::NotIntroduced(n.to_string());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(told.is_news(&refusal(0), at(0)));
        assert!(!told.is_news(&refusal(0), at(59)) && told.is_news(&refusal(0), at(60)));
        let others = (1..100).filter(|n| told.is_news(&refusal(*n), at(61))).count();
        assert_eq!(others, TOLD_MAX - 1, "bounded");
    }

    #[test]
    fn a_call_without_introduction_is_refused() {
        let refused = introduction("n0", 1).check(&MetadataMap::new());
        assert!(matches!(refused, Err(Refusal::NotIntroduced(_))));
    }
}
