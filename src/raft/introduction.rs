//! What members tell each other with every call: who calls, whom, and what the caller takes the
//! group to be. Members that disagree refuse each other and name both values.

use std::time::{Duration, Instant};

use bincode::{Decode, Encode};
use tonic::Status;
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::ids::StoreId;
use crate::raft::codec::{self, CodecError, Stored};
use crate::raft::lineage::{Said, lineages_differ};
use crate::raft::version::{GroupVersion, Reads};
use crate::store::Lineage;
use crate::store::entry::crc32c;

/// Metadata key of the encoded [`Introduction`].
const KEY: &str = "rmq-caller-bin";
/// Metadata key of what the caller [`Reads`], oldest and newest. The first builds do not send it,
/// and take no notice of it.
const READS_KEY: &str = "rmq-reads-bin";
/// By what the format of an introduction is ahead of the version that the caller's group writes.
const AHEAD: u8 = 1;
/// Set in the format of an introduction of who belongs to a lineage: builds that know none take it for
/// a version that they do not read, and refuse the call. Versions stay below it.
const OF_LINEAGE: u8 = 0x80;
/// Metadata key of what the caller [`Said`] of its lineage; nothing is said of the first one.
const LINEAGE_KEY: &str = "rmq-lineage-bin";

/// The caller's view of itself and of its group.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Introduction {
    /// `brokerClusterName`.
    pub cluster: String,
    /// `dLegerGroup`.
    pub group: String,
    /// `dLegerPeers`, sorted. It may differ: once a group is started, its log knows who belongs to it,
    /// and before that members compare theirs ([`crate::raft::first_start`]).
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
    /// It says which version the caller's group writes: who does not read that refuses the call.
    const FORMAT: u8 = GroupVersion::NEWEST.0 + AHEAD;
    const OLDEST: u8 = GroupVersion::FIRST.0 + AHEAD;
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
    /// The caller's group writes what this member does not read.
    #[error(
        "a member calls whose group writes version {writes}, and {member} (this member) reads \
         {own}: start {member} with the build of the other members", own = Reads::OWN
    )]
    Newer {
        /// This member.
        member: String,
        /// What is written there.
        writes: GroupVersion,
    },
    /// The caller does not read what this member's group writes.
    #[error(
        "the group writes version {active}, and {caller} (calling) reads {reads}: start {caller} \
         with the build of {member} (this member, it reads {own}), for a group never goes back",
        own = Reads::OWN
    )]
    Older {
        /// This member.
        member: String,
        /// The calling member.
        caller: String,
        /// What it reads.
        reads: Reads,
        /// What the group writes.
        active: GroupVersion,
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
    /// One of the two belongs to a group that was started anew without the other.
    #[error("{}", lineages_differ(.member, .caller, *.here, *.there))]
    OtherLineage {
        /// This member.
        member: String,
        /// The calling member.
        caller: String,
        /// What this member belongs to.
        here: Option<Lineage>,
        /// What the calling member belongs to.
        there: Option<Lineage>,
    },
    /// The call is for a store that this member does not have any more.
    #[error("{caller} calls store {meant}, but member {member} has store {here}")]
    OtherStore {
        /// This member.
        member: String,
        /// The caller.
        caller: String,
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

    /// Adds it to a call of a member whose group writes `active`, and that says `said` of its
    /// lineage.
    pub(super) fn put(&self, active: GroupVersion, said: Said, metadata: &mut MetadataMap) {
        let mut bytes = codec::encode(self);
        bytes[0] = active.0 + AHEAD; // all are laid out alike
        if said.lineage.is_some() {
            bytes[0] |= OF_LINEAGE;
        }
        if said != Said::default() {
            put(LINEAGE_KEY, said.encode(), metadata);
        }
        put(KEY, bytes, metadata);
        let Reads { oldest, newest } = Reads::OWN;
        put(READS_KEY, vec![oldest.0, newest.0], metadata);
    }

    /// The caller of a call, and what it says of its lineage, if this member, whose group writes
    /// `active`, and that says `said` of its own, may answer it.
    pub(super) fn check(
        &self,
        active: GroupVersion,
        said: Said,
        metadata: &MetadataMap,
    ) -> Result<(Self, Said), Refusal> {
        let bytes = take(KEY, metadata)?;
        let mut bytes = bytes.ok_or_else(|| Refusal::NotIntroduced("none".to_owned()))?;
        let is_of_lineage = bytes.first().is_some_and(|format| format & OF_LINEAGE != 0);
        if is_of_lineage {
            bytes[0] &= !OF_LINEAGE;
        }
        let caller: Self = codec::decode(&bytes).map_err(|error| match error {
            CodecError::Format { found, known, .. } if found > known => {
                Refusal::Newer { member: self.member.clone(), writes: GroupVersion(found - AHEAD) }
            }
            error => Refusal::NotIntroduced(error.to_string()),
        })?;
        let reads = match take(READS_KEY, metadata)?.as_deref() {
            Some([oldest, newest, ..]) => Reads::said((*oldest).into(), (*newest).into()),
            Some(_) | None => Reads::UNSAID,
        };
        let there = take(LINEAGE_KEY, metadata)?.map(|bytes| Said::decode(&bytes));
        let there = there.unwrap_or_else(|| Some(Said::default()));
        let there = there.filter(|there| there.lineage.is_some() == is_of_lineage);
        let there =
            there.ok_or_else(|| Refusal::NotIntroduced("no readable lineage".to_owned()))?;
        if let Some(refusal) = self.refusal(&caller) {
            return Err(refusal);
        }
        if !said.agrees_with(there) {
            let (member, caller) = (self.member.clone(), caller.member);
            let (here, there) = (said.lineage, there.lineage);
            return Err(Refusal::OtherLineage { member, caller, here, there });
        }
        if !reads.has(active) {
            let (member, caller) = (self.member.clone(), caller.member);
            return Err(Refusal::Older { member, caller, reads, active });
        }
        Ok((caller, there))
    }

    /// Why `caller` is refused, if it is. Pure.
    pub(super) fn refusal(&self, caller: &Self) -> Option<Refusal> {
        let pairs = [
            ("brokerClusterName", self.cluster.clone(), caller.cluster.clone()),
            ("dLegerGroup", self.group.clone(), caller.group.clone()),
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
            caller: caller.member.clone(),
            meant: StoreId(caller.callee),
            here: StoreId(self.store_id),
        })
    }
}

/// Set in an answer of whoever is not the member that was called: of another group or lineage, or of
/// another name.
const STRANGER_KEY: &str = "rmq-stranger";

/// The refusal of somebody who is not the member that was called.
pub(super) fn of_stranger(mut status: Status) -> Status {
    status.metadata_mut().insert(STRANGER_KEY, MetadataValue::from_static("1"));
    status
}

/// Whether it is one. Builds before this one do not say.
pub(super) fn is_of_stranger(status: &Status) -> bool {
    status.metadata().contains_key(STRANGER_KEY)
}

/// Adds a value with its CRC-32C behind it: damage is no difference between members.
fn put(key: &'static str, mut bytes: Vec<u8>, metadata: &mut MetadataMap) {
    bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
    metadata.insert_bin(key, MetadataValue::from_bytes(&bytes));
}

/// A value that was added so, if there is one.
fn take(key: &'static str, metadata: &MetadataMap) -> Result<Option<Vec<u8>>, Refusal> {
    let unreadable = |why: &str| Refusal::NotIntroduced(why.to_owned());
    let Some(value) = metadata.get_bin(key) else { return Ok(None) };
    let bytes = value.to_bytes().map_err(|_| unreadable("not base64"))?;
    let (bytes, said) = bytes.split_last_chunk().ok_or_else(|| unreadable("no checksum"))?;
    let (found, said) = (crc32c(bytes), u32::from_le_bytes(*said));
    if found != said {
        return Err(Refusal::Damaged { found, said });
    }
    Ok(Some(bytes.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIVE: GroupVersion = GroupVersion::NEWEST;
    const FIRST: Said = Said { lineage: None, is_new: false };

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
        n0.to(StoreId(2)).put(ACTIVE, FIRST, &mut metadata);
        assert_eq!(n1.check(ACTIVE, FIRST, &metadata).unwrap().0.member, "n0");
    }

    #[test]
    fn a_damaged_introduction_is_none() {
        let (n0, n1) = (introduction("n0", 1), introduction("n1", 2));
        let mut metadata = MetadataMap::new();
        n0.to(StoreId(2)).put(ACTIVE, FIRST, &mut metadata);
        let bytes = metadata.get_bin(KEY).unwrap().to_bytes().unwrap();
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            metadata.insert_bin(KEY, MetadataValue::from_bytes(&damaged));
            let refused = n1.check(ACTIVE, FIRST, &metadata).unwrap_err();
            assert!(matches!(refused, Refusal::Damaged { .. }), "bit {bit}: {refused}");
        }
    }

    #[test]
    fn builds_talk_while_the_active_version_is_one_that_both_read() {
        let (n0, n1) = (introduction("n0", 1), introduction("n1", 2));
        let call = |writes: u8, reads: Option<[u8; 2]>| {
            let mut metadata = MetadataMap::new();
            n0.put(GroupVersion(writes), FIRST, &mut metadata);
            metadata.remove_bin(READS_KEY);
            if let Some(reads) = reads {
                put(READS_KEY, reads.to_vec(), &mut metadata);
            }
            metadata
        };
        let check =
            |active, call| n1.check(GroupVersion(active), FIRST, &call).map(|(c, _)| c.member);
        let rows = [
            ("the first build", 1, call(1, None), None),
            ("a newer one, and nothing new is active", 1, call(1, Some([1, 9])), None),
            ("what is active here is not known there yet", 2, call(1, Some([1, 2])), None),
            ("what is active there is not known here yet", 1, call(2, Some([1, 2])), None),
            (
                "the first build, too late",
                2,
                call(1, None),
                Some(
                    "the group writes version 2, and n0 (calling) reads version 1: start n0 with \
                     the build of n1 (this member, it reads versions 1 to 3), for a group never \
                     goes back",
                ),
            ),
            (
                "one that has forgotten what is active",
                1,
                call(1, Some([2, 9])),
                Some("reads versions 2 to 9"),
            ),
            (
                "one whose group is ahead",
                2,
                call(4, Some([1, 9])),
                Some(
                    "a member calls whose group writes version 4, and n1 (this member) reads \
                     versions 1 to 3: start n1 with the build of the other members",
                ),
            ),
        ];
        for (what, active, call, refused) in rows {
            match (check(active, call), refused) {
                (Ok(caller), None) => assert_eq!(caller, "n0", "{what}"),
                (Err(refusal), Some(text)) => {
                    assert!(refusal.to_string().contains(text), "{what}: {refusal}");
                }
                (got, _) => panic!("{what}: {got:?}"),
            }
        }
    }

    #[test]
    fn members_of_two_lineages_refuse_each_other_and_a_new_store_is_of_none() {
        let (n0, n1) = (introduction("n0", 1), introduction("n1", 2));
        let of = |id| Said { lineage: Some(Lineage { id, since_ms: 0 }), is_new: false };
        let new = Said { lineage: None, is_new: true };
        let rows = [
            (FIRST, FIRST, true),
            (FIRST, of(1), false),
            (of(1), FIRST, false),
            (of(1), of(2), false),
            (of(1), of(1), true),
            (new, of(1), true),
            (of(1), new, true),
            (new, FIRST, true),
        ];
        for (caller, here, is_answered) in rows {
            let mut metadata = MetadataMap::new();
            n0.put(ACTIVE, caller, &mut metadata);
            match n1.check(ACTIVE, here, &metadata) {
                Ok((_, said)) => assert!(is_answered && said == caller, "{caller:?} {here:?}"),
                Err(refusal) => {
                    assert!(!is_answered, "{caller:?} {here:?}");
                    assert!(matches!(refusal, Refusal::OtherLineage { .. }), "{refusal}");
                }
            }
        }
    }

    #[test]
    fn a_build_without_lineages_refuses_who_has_one_and_nothing_else_changes_for_it() {
        let n0 = introduction("n0", 1);
        let format = |said| {
            let mut metadata = MetadataMap::new();
            n0.put(ACTIVE, said, &mut metadata);
            take(KEY, &metadata).unwrap().unwrap()[0]
        };
        assert_eq!(format(FIRST), Introduction::FORMAT);
        assert_eq!(format(Said { lineage: None, is_new: true }), Introduction::FORMAT);
        let lineage = Some(Lineage { id: 1, since_ms: 0 });
        let of_lineage = format(Said { lineage, is_new: false });
        assert!(of_lineage > Introduction::FORMAT, "unknown to it");
        // Whoever says the one thing and not the other is misread by somebody.
        let mut metadata = MetadataMap::new();
        n0.put(ACTIVE, Said { lineage, is_new: false }, &mut metadata);
        metadata.remove_bin(LINEAGE_KEY);
        let refused = n0.check(ACTIVE, FIRST, &metadata);
        assert!(matches!(refused, Err(Refusal::NotIntroduced(_))), "{refused:?}");
    }

    #[test]
    fn every_difference_is_refused_with_both_values() {
        let here = introduction("n0", 1);
        let cases = [
            ("brokerClusterName", Introduction { cluster: "X".to_owned(), ..here.clone() }),
            ("dLegerGroup", Introduction { group: "X".to_owned(), ..here.clone() }),
            ("mappedFileSizeCommitLog", Introduction { segment_bytes: 7, ..here.clone() }),
        ];
        for (what, caller) in cases {
            let text = here.refusal(&caller).unwrap().to_string();
            assert!(text.contains(what), "{text}");
            assert!(text.contains("\"X\"") || text.contains("\"7\""), "{text}");
        }
    }

    #[test]
    fn files_that_lag_behind_are_no_difference() {
        let here = introduction("n0", 1);
        assert_eq!(here.refusal(&Introduction { members: "X".to_owned(), ..here.clone() }), None);
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
        let refused = introduction("n0", 1).check(ACTIVE, FIRST, &MetadataMap::new());
        assert!(matches!(refused, Err(Refusal::NotIntroduced(_))));
    }
}
