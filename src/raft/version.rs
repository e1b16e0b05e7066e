//! Which versions of what members write this build reads, and which one its group writes.
//!
//! | version | what it added |
//! |---|---|
//! | 1 | the first: messages, tables, membership (commands 1, state 3, introduction 2) |
//! | 2 | what members pass on: `Command::Passed`, rpc `Propose`; the active version: `Command::Activate` (commands 2, state 4, introduction 3) |
//! | 3 | members come and go: wishes and broker ids in the stored membership (membership 2) |
//!
//! In parentheses: the formats ([`crate::raft::codec`]) that go with it.
//!
//! A member writes what the *active* version has, and nothing newer. That is a replicated fact, as
//! part of the tables. The leader raises it when all members of the group have said, in its term,
//! that they read a newer one (rpc `State`): so members of two builds work together, and once the
//! last one is upgraded the group goes on to the new version by itself. It never goes back.
//!
//! ```text
//!  all upgraded ─► Command::Activate ─► applied: tables say it ─► the new is written
//!                                                └─► who does not read it is refused, and refuses
//! ```
//!
//! Who does not read it finds out before it reads anything new: calls and checkpoints begin with a
//! format that it does not know, and entries have one for each change.

use std::fmt;

use tokio::sync::watch;

/// A version of what members write: log, snapshots, checkpoints, calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupVersion(pub u8);

impl GroupVersion {
    /// What members that say nothing read, and what a group writes that has activated nothing.
    pub const FIRST: Self = Self(1);
    /// Members pass on to the leader what clients ask them.
    pub const PASSES_ON: Self = Self(2);
    /// Members come and go.
    pub const MEMBERS: Self = Self(3);
    /// The newest that this build reads and writes.
    pub const NEWEST: Self = Self::MEMBERS;
}

impl Default for GroupVersion {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for GroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The versions that a build reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reads {
    /// The first of them.
    pub oldest: GroupVersion,
    /// The last of them.
    pub newest: GroupVersion,
}

impl Reads {
    /// Of this build.
    pub(super) const OWN: Self = Self { oldest: GroupVersion::FIRST, newest: GroupVersion::NEWEST };
    /// Of builds that do not say it.
    pub(super) const UNSAID: Self =
        Self { oldest: GroupVersion::FIRST, newest: GroupVersion::FIRST };

    /// As a member says it; 0: it does not.
    pub(super) fn said(oldest: u32, newest: u32) -> Self {
        // Versions beyond a byte are read by nobody here, and the last is as far from here as any.
        let version = |number: u32| GroupVersion(u8::try_from(number.max(1)).unwrap_or(u8::MAX));
        Self { oldest: version(oldest), newest: version(newest) }
    }

    /// Whether `version` is one of them.
    pub(super) fn has(self, version: GroupVersion) -> bool {
        (self.oldest..=self.newest).contains(&version)
    }
}

impl fmt::Display for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.oldest == self.newest {
            true => write!(f, "version {}", self.newest),
            false => write!(f, "versions {} to {}", self.oldest, self.newest),
        }
    }
}

/// The active version, as far as this member has applied the log. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct Active(watch::Sender<GroupVersion>);

impl Active {
    /// As a checkpoint says.
    pub(super) fn new(version: GroupVersion) -> Self {
        Self(watch::Sender::new(version))
    }

    /// The version.
    pub(super) fn get(&self) -> GroupVersion {
        *self.0.borrow()
    }

    /// Whether what `version` added may be written.
    pub(super) fn has(&self, version: GroupVersion) -> bool {
        self.get() >= version
    }

    /// Returns when it may. Cancel-safe.
    pub(super) async fn reaches(&self, version: GroupVersion) {
        // It cannot fail as long as this one lives.
        let _ = self.0.subscribe().wait_for(|active| *active >= version).await;
    }

    /// The tables say so now.
    pub(super) fn set(&self, version: GroupVersion) {
        let is_news = self.0.send_if_modified(|active| {
            let is_other = *active != version;
            *active = version;
            is_other
        });
        if is_news {
            tracing::info!("all members read version {version}: active");
        }
    }
}

/// What a leader does about the active version.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: it is the newest that this build writes.
    None,
    /// All members read this one.
    Activate(GroupVersion),
    /// The text says whom a newer one waits for.
    Wait(String),
}

/// Decides it from what each member, this one included, said that it reads; `None`: it does not
/// answer, and may come back as any build. Pure.
pub(super) fn step(active: GroupVersion, members: &[(&str, Option<Reads>)]) -> Step {
    let newest = members.iter().map(|(_, reads)| reads.map_or(active, |reads| reads.newest)).min();
    let newest = newest.map_or(active, |newest| newest.min(GroupVersion::NEWEST));
    let all_read = |version| members.iter().all(|(_, reads)| reads.is_some_and(|r| r.has(version)));
    if newest > active && all_read(newest) {
        return Step::Activate(newest);
    }
    if active >= GroupVersion::NEWEST {
        return Step::None;
    }
    let lacking = members.iter().filter_map(|(name, reads)| match reads {
        None => Some(format!("{name} (does not answer)")),
        Some(reads) if !reads.has(GroupVersion::NEWEST) => Some(format!("{name} (reads {reads})")),
        Some(_) => None,
    });
    let lacking: Vec<String> = lacking.collect();
    Step::Wait(format!("version {} waits for {}", GroupVersion::NEWEST, lacking.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(oldest: u8, newest: u8) -> Option<Reads> {
        Some(Reads { oldest: GroupVersion(oldest), newest: GroupVersion(newest) })
    }

    #[test]
    fn a_version_is_activated_when_all_members_read_it_and_never_before() {
        let wait = |text: &str| Step::Wait(format!("version 3 waits for {text}"));
        let rows = [
            (1, reads(1, 2), reads(1, 2), Step::Activate(GroupVersion(2))),
            (1, reads(1, 1), reads(1, 3), wait("n1 (reads version 1)")),
            (1, reads(1, 1), reads(1, 1), wait("n1 (reads version 1), n2 (reads version 1)")),
            (1, None, reads(1, 3), wait("n1 (does not answer)")),
            (1, reads(1, 9), reads(2, 7), Step::Activate(GroupVersion(3))),
            (2, reads(1, 9), reads(2, 7), Step::Activate(GroupVersion(3))),
            (1, reads(4, 9), reads(1, 3), wait("n1 (reads versions 4 to 9)")),
            (2, reads(1, 2), reads(1, 3), wait("n1 (reads versions 1 to 2)")),
            (3, reads(1, 3), reads(1, 3), Step::None),
            (3, reads(1, 9), reads(1, 9), Step::None),
            (3, None, reads(1, 1), Step::None),
        ];
        for (n, (active, n1, n2, want)) in rows.into_iter().enumerate() {
            let members = [("n0", Some(Reads::OWN)), ("n1", n1), ("n2", n2)];
            assert_eq!(step(GroupVersion(active), &members), want, "row {n}");
        }
        assert_eq!(
            step(GroupVersion(1), &[("n0", Some(Reads::OWN))]),
            Step::Activate(GroupVersion(3)),
            "alone"
        );
        assert!(matches!(step(GroupVersion(1), &[]), Step::Wait(_)), "not in its own group yet");
    }

    #[test]
    fn who_says_nothing_reads_the_first() {
        assert_eq!(Reads::said(0, 0), Reads::UNSAID);
        assert_eq!(Reads::said(1, 3), Reads::OWN);
        assert_eq!(Reads::said(300, 700).oldest, GroupVersion(255));
        assert!(!Reads::UNSAID.has(GroupVersion(2)) && Reads::OWN.has(GroupVersion(2)));
    }
}
