//! Who belongs to the group, as it is stored in the log and in snapshots.

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

#[derive(Encode, Decode)]
struct StoredMembership {
    /// One set of voters, or two while the membership changes.
    voters: Vec<BTreeSet<u64>>,
    members: BTreeMap<u64, Member>,
}

impl Stored for StoredMembership {
    const WHAT: &'static str = "membership";
    const FORMAT: u8 = 1;
}

/// The stored form.
pub(super) fn encode(membership: &Membership) -> Vec<u8> {
    codec::encode(&StoredMembership {
        voters: membership.get_joint_config().clone(),
        members: membership.nodes().map(|(id, member)| (*id, member.clone())).collect(),
    })
}

/// From the stored form.
pub(super) fn decode(bytes: &[u8]) -> Result<Membership, Damaged> {
    let stored: StoredMembership = codec::decode(bytes)?;
    Membership::new(stored.voters, stored.members)
        .map_err(|error| Damaged::Contradiction(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joint_membership_survives_its_stored_form() {
        let member = |name: &str| Member { name: name.to_owned(), address: format!("{name}:1") };
        let members = BTreeMap::from([(1, member("n0")), (2, member("n1")), (9, member("n2"))]);
        let voters = vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 9])];
        let membership = Membership::new(voters, members).unwrap();
        assert_eq!(decode(&encode(&membership)).unwrap(), membership);
    }

    #[test]
    fn damaged_membership_bytes_are_an_error() {
        assert!(decode(&[]).is_err());
        assert!(decode(&[1, 200, 200]).is_err());
        assert!(decode(&[9, 0, 0]).is_err());
    }
}
