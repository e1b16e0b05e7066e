//! Who belongs to the group, as it is stored in the log and in snapshots, and what an operator
//! wants each member to become.
//!
//! A wish is an entry of its own. Steps towards it are decided anew from what is recorded
//! ([`crate::raft::member_steps`]), so whoever leads next goes on where the last one died.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};

use crate::raft::codec::{self, CodecError, Stored};
use crate::raft::type_config::Membership;

/// A member as others see it. Its Raft id is the id of its store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct Member {
    /// `n0`, as in `dLegerPeers`.
    pub name: String,
    /// `host:port` for peers. The local configuration's address of that name goes first: names
    /// move to other addresses without the group having to vote on it.
    pub address: String,
    /// What it is, or shall become.
    pub wish: Wish,
    /// Under which id it follows, from 1 on. Either all members have one, or none: then it is the
    /// member's place among the names, as it was before members could come and go.
    pub broker_id: Option<u64>,
}

/// What a member shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub(super) enum Wish {
    /// It votes, as soon as it has caught up.
    #[default]
    Vote,
    /// It gets the log and never votes.
    Learn,
    /// It goes, as soon as clients have had time to turn to others.
    Leave,
    /// It votes in place of the member of this name, which leaves.
    Replace(String),
}

/// Stored membership bytes make no membership.
#[derive(Debug, thiserror::Error)]
pub(super) enum Damaged {
    /// Not decodable.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Decoded, but contradicts itself.
    #[error("stored membership contradicts itself: {0}")]
    Contradiction(String),
}

/// Format 1: all members shall vote, and their broker ids are their places.
#[derive(Encode, Decode)]
struct Plain {
    /// One set of voters, or two while the membership changes.
    voters: Vec<BTreeSet<u64>>,
    members: BTreeMap<u64, Place>,
}

#[derive(Encode, Decode)]
struct Place {
    name: String,
    address: String,
}

impl Stored for Plain {
    const WHAT: &'static str = "membership";
    const FORMAT: u8 = 1;
}

/// Format 2: all there is to say.
#[derive(Encode, Decode)]
struct Full {
    voters: Vec<BTreeSet<u64>>,
    members: BTreeMap<u64, Member>,
}

impl Stored for Full {
    const WHAT: &'static str = "membership";
    const FORMAT: u8 = 2;
}

/// The stored form: the oldest format that can say it.
pub(super) fn encode(membership: &Membership) -> Vec<u8> {
    let voters = membership.get_joint_config().clone();
    let is_plain = |member: &Member| member.wish == Wish::Vote && member.broker_id.is_none();
    if membership.nodes().all(|(_, member)| is_plain(member)) {
        let place =
            |member: &Member| Place { name: member.name.clone(), address: member.address.clone() };
        let members = membership.nodes().map(|(id, member)| (*id, place(member))).collect();
        return codec::encode(&Plain { voters, members });
    }
    let members = membership.nodes().map(|(id, member)| (*id, member.clone())).collect();
    codec::encode(&Full { voters, members })
}

/// From the stored form, of whichever format.
pub(super) fn decode(bytes: &[u8]) -> Result<Membership, Damaged> {
    let (voters, members) = if bytes.first() == Some(&Plain::FORMAT) {
        let Plain { voters, members } = codec::decode(bytes)?;
        let member = |Place { name, address }| Member { name, address, ..Member::default() };
        (voters, members.into_iter().map(|(id, place)| (id, member(place))).collect())
    } else {
        let Full { voters, members } = codec::decode(bytes)?;
        (voters, members)
    };
    let members: BTreeMap<u64, Member> = members;
    Membership::new(voters, members).map_err(|error| Damaged::Contradiction(error.to_string()))
}

/// Members by store id.
pub(super) fn members(membership: &Membership) -> BTreeMap<u64, Member> {
    membership.nodes().map(|(id, member)| (*id, member.clone())).collect()
}

/// The broker ids of all members, by name: as recorded, or by their places. Pure.
pub(super) fn broker_ids(members: &BTreeMap<u64, Member>) -> BTreeMap<String, u64> {
    let names: BTreeSet<&str> = members.values().map(|member| member.name.as_str()).collect();
    let recorded = |name: &str| {
        let mut of_name = members.values().filter(|member| member.name == name);
        of_name.find_map(|member| member.broker_id)
    };
    let named = (1..).zip(names);
    named.map(|(place, name)| (name.to_owned(), recorded(name).unwrap_or(place))).collect()
}

/// Whether the member of that name leaves, and clients are to turn to others. Pure.
pub(super) fn is_leaving(members: &BTreeMap<u64, Member>, name: &str) -> bool {
    members.values().any(|member| member.name == name && member.wish == Wish::Leave)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str) -> Member {
        Member { name: name.to_owned(), address: format!("{name}:1"), ..Member::default() }
    }

    #[test]
    fn a_joint_membership_survives_its_stored_form() {
        let members = BTreeMap::from([(1, member("n0")), (2, member("n1")), (9, member("n2"))]);
        let voters = vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 9])];
        let membership = Membership::new(voters, members).unwrap();
        assert_eq!(decode(&encode(&membership)).unwrap(), membership);
    }

    #[test]
    fn what_former_versions_could_say_is_stored_as_they_did() {
        // As the version before wrote it: voters {1, 2}, members n0 at n0:1 and n1 at n1:1.
        let former = b"\x01\x01\x02\x01\x02\x02\x01\x02n0\x04n0:1\x02\x02n1\x04n1:1";
        let members = BTreeMap::from([(1, member("n0")), (2, member("n1"))]);
        let membership = Membership::new(vec![BTreeSet::from([1, 2])], members.clone()).unwrap();
        assert_eq!(encode(&membership), former);
        assert_eq!(decode(former).unwrap(), membership);

        let wishes = [Wish::Learn, Wish::Leave, Wish::Replace("n1".to_owned())];
        let wishing = wishes.map(|wish| Member { wish, ..member("n2") });
        for more in wishing.into_iter().chain([Member { broker_id: Some(3), ..member("n2") }]) {
            let mut members = members.clone();
            members.insert(3, more);
            let membership = Membership::new(vec![BTreeSet::from([1, 2])], members).unwrap();
            let stored = encode(&membership);
            assert_eq!((stored[0], decode(&stored).unwrap()), (2, membership));
        }
    }

    #[test]
    fn damaged_membership_bytes_are_an_error() {
        assert!(decode(&[]).is_err());
        assert!(decode(&[1, 200, 200]).is_err());
        assert!(decode(&[2, 200, 200]).is_err());
        assert!(decode(&[9, 0, 0]).is_err());
    }

    #[test]
    fn a_broker_id_is_the_recorded_one_or_the_place() {
        let numbered = |name: &str, broker_id| Member { broker_id, ..member(name) };
        let ids = |members: [(u64, Member); 3]| {
            broker_ids(&members.into()).into_values().collect::<Vec<_>>()
        };
        let plain =
            [(7, numbered("n0", None)), (2, numbered("n2", None)), (5, numbered("n1", None))];
        assert_eq!(ids(plain), [1, 2, 3], "by name, not by store");
        let recorded = [
            (7, numbered("n0", Some(1))),
            (2, numbered("n2", Some(3))),
            (5, numbered("n5", Some(2))),
        ];
        assert_eq!(ids(recorded), [1, 3, 2]);
        let replacing = [(7, member("n0")), (8, member("n0")), (5, member("n1"))];
        assert_eq!(ids(replacing), [1, 2], "a lost store's member is there once");
    }
}
