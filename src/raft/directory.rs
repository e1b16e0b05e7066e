//! Who the other members are, and where: as the log has it, once the group is started, else as
//! `dLegerPeers` has it. That may lag behind, but its addresses go first: names move to other
//! addresses without the group having to vote on it.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::RwLock;

use crate::raft::peers::Peers;
use crate::raft::type_config::{Membership, RaftLogId};
use crate::raft::wire::{self, proto};

/// What is known of the members other than one.
pub(super) struct Directory {
    own: String,
    configured: Peers,
    recorded: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    /// The last membership in this member's log.
    own: Record,
    /// The stores that vote in that one.
    voters: BTreeSet<u64>,
    /// The newest that others said to be committed.
    told: Record,
}

/// A membership; empty if there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Record {
    as_of: Option<RaftLogId>,
    /// By name.
    members: BTreeMap<String, Entry>,
}

/// A member; of one with two stores, whose lost one is being replaced, both together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Entry {
    address: String,
    votes: bool,
}

impl Record {
    fn new(
        as_of: Option<RaftLogId>,
        members: impl IntoIterator<Item = (String, String, bool)>,
    ) -> Self {
        let mut record = Self { as_of, members: BTreeMap::new() };
        for (name, address, votes) in members {
            let entry = record.members.entry(name).or_default();
            (entry.address, entry.votes) = (address, entry.votes || votes);
        }
        record
    }
}

impl Known {
    fn newest(&self) -> &Record {
        let told = self.told.as_of > self.own.as_of || self.own.members.is_empty();
        if told { &self.told } else { &self.own }
    }
}

impl Directory {
    /// Of the member `own`, configured with `configured`.
    pub(super) fn new(own: &str, configured: Peers) -> Self {
        Self { own: own.to_owned(), configured, recorded: RwLock::default() }
    }

    /// Takes over what this member's log says.
    pub(super) fn learn(&self, as_of: Option<RaftLogId>, membership: &Membership) {
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let members = membership
            .nodes()
            .map(|(id, member)| (member.name.clone(), member.address.clone(), voters.contains(id)));
        let own = Record::new(as_of, members);
        let mut known = self.recorded.write();
        (known.own, known.voters) = (own, voters);
    }

    /// Whether a store votes, as this member's log has it.
    pub(super) fn votes(&self, store: u64) -> bool {
        self.recorded.read().voters.contains(&store)
    }

    /// Takes over what another member says to be committed, if that is news.
    pub(super) fn hear(&self, recorded: &proto::Recorded) {
        let as_of = recorded.as_of.map(wire::to_log_id);
        if as_of > self.recorded.read().told.as_of {
            let members =
                recorded.members.iter().map(|m| (m.name.clone(), m.address.clone(), m.votes));
            self.recorded.write().told = Record::new(as_of, members);
        }
    }

    /// Names of the other members.
    pub(super) fn others(&self) -> Vec<String> {
        self.others_that(|_| true)
    }

    /// Names of the other members that vote; all that are configured, while no log is known.
    pub(super) fn other_voters(&self) -> Vec<String> {
        self.others_that(|member| member.votes)
    }

    fn others_that(&self, is: impl Fn(&Entry) -> bool) -> Vec<String> {
        let known = self.recorded.read();
        let recorded = &known.newest().members;
        let names: Vec<String> = match recorded.is_empty() {
            true => self.configured.iter().map(|(name, _)| name.to_owned()).collect(),
            false => recorded.iter().filter(|(_, m)| is(m)).map(|(name, _)| name.clone()).collect(),
        };
        names.into_iter().filter(|name| *name != self.own).collect()
    }

    /// All that may be members, or may have been: whom to ask before the log can be read.
    pub(super) fn all_others(&self) -> BTreeSet<String> {
        let configured = self.configured.iter().map(|(name, _)| name.to_owned());
        configured.filter(|name| *name != self.own).chain(self.others()).collect()
    }

    /// Where a member is: as configured, or as `recorded`, or as anybody recorded it.
    pub(super) fn address(&self, name: &str, recorded: Option<&str>) -> String {
        if let Some(address) = self.configured.address(name) {
            return address.to_string();
        }
        let known = self.recorded.read();
        let known = known.newest().members.get(name).map(|member| member.address.as_str());
        recorded.or(known).unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{EntryIndex, Term};
    use crate::raft::membership::Member;
    use crate::raft::peers::PeerAddress;
    use crate::raft::type_config::log_id;
    use crate::store::EntryId;

    fn as_of(index: u64) -> RaftLogId {
        log_id(EntryId { index: EntryIndex(index), term: Term(1) })
    }

    #[test]
    fn the_newest_record_says_who_and_the_file_where() {
        let file = ["n0", "n1"].map(|n| (n.to_owned(), PeerAddress { host: n.into(), port: 1 }));
        let directory = Directory::new("n0", Peers::new(file));
        assert_eq!(directory.others(), ["n1"]);

        let member = |name: &str| Member {
            name: name.to_owned(),
            address: format!("log-{name}:2"),
            ..Member::default()
        };
        let of = |names: &[&str]| {
            let members: BTreeMap<u64, Member> =
                (1..).zip(names.iter().map(|name| member(name))).collect();
            Membership::new(vec![BTreeSet::from([1, 2])], members).unwrap()
        };
        directory.learn(Some(as_of(5)), &of(&["n0", "n1", "n2"]));
        assert_eq!(directory.others(), ["n1", "n2"]);
        assert_eq!(directory.other_voters(), ["n1"]);
        assert_eq!(directory.address("n1", None), "n1:1", "the file's");
        assert_eq!(directory.address("n2", None), "log-n2:2");

        let told = |index, name: &str| proto::Recorded {
            as_of: Some(wire::log_id(as_of(index))),
            members: vec![proto::RecordedMember {
                store_id: 9,
                name: name.to_owned(),
                address: "told:3".to_owned(),
                votes: true,
            }],
        };
        directory.hear(&told(4, "n9"));
        assert_eq!(directory.others(), ["n1", "n2"], "older");
        directory.hear(&told(7, "n4"));
        assert_eq!(
            (directory.others(), directory.address("n4", None)),
            (vec!["n4".to_owned()], "told:3".to_owned())
        );
        assert_eq!(directory.all_others(), ["n1", "n4"].map(str::to_owned).into());
        directory.learn(Some(as_of(8)), &of(&["n0", "n0"]));
        assert!(directory.others().is_empty(), "alone");
    }
}
