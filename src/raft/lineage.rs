//! Which lineage of its group a member belongs to: the first, or one that a survivor began
//! ([`crate::raft::recover_alone`]). Members of two lineages have two logs with the same name, and must
//! never count as one group: they refuse each other's calls.
//!
//! ```text
//!  caller \ callee   the first   lineage A   no entries yet
//!  the first           yes         no            yes
//!  lineage A           no          yes           yes: it joins A, durably, before it takes anything
//!  no entries yet      yes         yes           yes
//! ```

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;

use crate::store::{self, CommitLog, Lineage, StoreFile};

const ENCODED_BYTES: usize = 17;

/// What a member says of its lineage with each call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Said {
    /// `None`: the first.
    pub lineage: Option<Lineage>,
    /// Its store has no entries: it can still belong to any.
    pub is_new: bool,
}

impl Said {
    /// Whether the two may be members of one group. Pure.
    pub(super) fn agrees_with(self, other: Self) -> bool {
        let can_join = |said: Self| said.is_new && said.lineage.is_none();
        let id = |said: Self| said.lineage.map(|lineage| lineage.id);
        id(self) == id(other) || can_join(self) || can_join(other)
    }

    /// Flag of a new store, id (0: the first), time; integers little endian.
    pub(super) fn encode(self) -> Vec<u8> {
        let Lineage { id, since_ms } = self.lineage.unwrap_or(Lineage { id: 0, since_ms: 0 });
        let mut out = vec![u8::from(self.is_new)];
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&since_ms.to_le_bytes());
        out
    }

    /// Later builds may say more behind it.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (is_new, rest) = bytes.first_chunk::<ENCODED_BYTES>()?.split_first()?;
        let (id, since_ms) = (rest.first_chunk()?, rest.last_chunk()?);
        let (id, since_ms) = (u64::from_le_bytes(*id), i64::from_le_bytes(*since_ms));
        let lineage = (id != 0).then_some(Lineage { id, since_ms });
        Some(Self { lineage, is_new: *is_new == 1 })
    }
}

/// Which group of its name a member belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BelongsTo {
    /// Any: its store has no entries yet.
    Any,
    /// The one as it was first started.
    TheFirst,
    /// One that a survivor started anew.
    Anew(Lineage),
}

/// Where this member belongs. Cloning shares it.
#[derive(Clone)]
pub(super) struct Belonging {
    stamp: Arc<StoreFile>,
    log: Arc<OnceLock<CommitLog>>,
}

impl Belonging {
    /// As the stamp says. While its log is not open, the store is not called new.
    pub(super) fn new(stamp: Arc<StoreFile>) -> Self {
        Self { stamp, log: Arc::default() }
    }

    /// The log is open.
    pub(super) fn has(&self, log: &CommitLog) {
        // It is opened once.
        let _ = self.log.set(log.clone());
    }

    /// What it says of itself.
    pub(super) fn said(&self) -> Said {
        let is_new = self.log.get().is_some_and(|log| log.last().is_none());
        Said { lineage: self.stamp.lineage(), is_new }
    }

    /// The same, for operators.
    pub(super) fn to(&self) -> BelongsTo {
        match self.said() {
            Said { lineage: Some(lineage), .. } => BelongsTo::Anew(lineage),
            Said { lineage: None, is_new: true } => BelongsTo::Any,
            Said { lineage: None, is_new: false } => BelongsTo::TheFirst,
        }
    }

    /// Joins the lineage of a caller that it agrees with, if this store is new. Durable when this
    /// returns.
    pub(super) fn follow(&self, caller: &str, said: Said) -> Result<(), store::Error> {
        let Some(lineage) = said.lineage.filter(|_| self.stamp.lineage().is_none()) else {
            return Ok(());
        };
        self.stamp.join(lineage)?;
        let since = time(lineage.since_ms);
        tracing::info!(
            from = caller,
            "this new store joins the group that was started anew at {since}"
        );
        Ok(())
    }
}

/// A time for people, in UTC.
pub(super) fn time(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |time| time.to_string())
}

/// What an operator has to know of two members of which one is of a lineage that the other is not
/// of. Pure.
pub(super) fn lineages_differ(
    member: &str,
    caller: &str,
    here: Option<Lineage>,
    there: Option<Lineage>,
) -> String {
    let of = |lineage: Option<Lineage>| match lineage {
        Some(Lineage { id, since_ms }) => {
            format!("the group that a survivor started anew at {} ({id:016x})", time(since_ms))
        }
        None => "the group as it was".to_owned(),
    };
    let old = match (here, there) {
        (None, Some(_)) => member,
        (Some(here), Some(there)) if here.since_ms < there.since_ms => member,
        _ => caller,
    };
    format!(
        "lineage differs: {member} (this member) belongs to {}, {caller} (calling) to {}; to take \
         {old} into the newer one, stop it, move its store away, start it, and run rmq-admin memberAdd",
        of(here),
        of(there),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_comes_back_and_less_is_nothing() {
        let lineage = Some(Lineage { id: u64::MAX, since_ms: -1 });
        for said in [
            Said::default(),
            Said { lineage, is_new: false },
            Said { lineage, is_new: true },
            Said { lineage: None, is_new: true },
        ] {
            let bytes = said.encode();
            assert_eq!(Said::decode(&bytes), Some(said));
            assert_eq!(Said::decode(&[&bytes[..], b"more"].concat()), Some(said));
            assert_eq!(Said::decode(&bytes[..16]), None);
        }
    }

    #[test]
    fn the_older_one_is_told_to_come_as_a_new_one() {
        let of = |since_ms| Some(Lineage { id: 7, since_ms });
        let text = lineages_differ("n0", "n1", of(0), None);
        let known = "lineage differs: n0 (this member) belongs to the group that a survivor started \
                     anew at 1970-01-01T00:00:00Z (0000000000000007), n1 (calling) to the group as it \
                     was; to take n1 into";
        assert!(text.starts_with(known), "{text}");
        assert!(lineages_differ("n0", "n1", None, of(0)).contains("to take n0 into"));
        assert!(lineages_differ("n0", "n1", of(1), of(2)).contains("to take n0 into"));
        assert!(lineages_differ("n0", "n1", of(2), of(1)).contains("to take n1 into"));
        assert!(lineages_differ("n0", "n1", of(i64::MAX), None).contains("9223372036854775807 ms"));
    }
}
