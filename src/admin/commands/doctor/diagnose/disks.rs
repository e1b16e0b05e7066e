//! What is wrong with disks, and with what they keep.

use super::{Gravity, Ward, listed};
use crate::protocol::bodies::{MemberFacts, ScrubFacts, SlowDiskFacts};

/// A disk with less than this free is told, percent.
const FREE_PERCENT: u64 = 10;
/// Syncs of which a hundredth takes longer are told, µs.
const SLOW_SYNC_US: u64 = 100_000;

impl Ward<'_> {
    pub(super) fn look_at_disk(&mut self, facts: &MemberFacts) {
        let name = &facts.member;
        match &facts.disk {
            None => self.add(
                Gravity::Harmed,
                format!("{name} cannot see how full its disk is"),
                "does that disk answer at all?",
            ),
            Some(disk) => {
                let percent = disk.free.saturating_mul(100).checked_div(disk.total).unwrap_or(0);
                if let Some(why) = &disk.shortage {
                    self.add(
                        Gravity::Harmed,
                        format!("{name} takes no messages, its disk is full: {why}"),
                        "make room, or shorten fileReservedTime; rmq-admin deleteExpiredCommitLog \
                         deletes what is old enough at once",
                    );
                } else if percent < FREE_PERCENT {
                    self.add(
                        Gravity::Notable,
                        format!("{name} has {percent} % of its disk left"),
                        "make room, or shorten fileReservedTime (updateBrokerConfig)",
                    );
                }
            }
        }
        if let Some(why) = &facts.others_shortage {
            self.add(
                Gravity::Down,
                format!("{name} leads and takes no messages: {why}"),
                "make room on those disks: messages are taken again by themselves within seconds",
            );
        }
    }

    pub(super) fn look_at_syncs(&mut self, facts: &MemberFacts) {
        let name = &facts.member;
        let longest = facts.syncs.as_ref().and_then(|syncs| syncs.longest_us);
        let longest = longest.map_or_else(String::new, |us| {
            format!("; the longest of the last minute took {} ms", us / 1000)
        });
        if let Some(SlowDiskFacts { why, left_ms }) = &facts.slow_disk {
            let leads = facts.leader.as_ref() == Some(name);
            let part = match leads {
                true => "it leads all the same, for nobody else can take over".to_owned(),
                false => format!("it leads only if nobody else can, for {} s more", left_ms / 1000),
            };
            self.add(
                Gravity::Harmed,
                format!("{name} has a slow disk, {why}: {part}{longest}"),
                "what else uses that disk (iostat -x 1), and does the kernel report errors (dmesg)? \
                 mend or replace it, then it counts as fast again by itself",
            );
        } else if let Some(syncs) = facts.syncs.as_ref().filter(|syncs| syncs.p99_us > SLOW_SYNC_US)
        {
            let ms = syncs.p99_us / 1000;
            self.add(
                Gravity::Notable,
                format!("{name}'s disk is slow: a sync in a hundred takes {ms} ms{longest}"),
                "does something else write there? every synced message waits for it",
            );
        }
    }

    /// Slow disks, if those who are there are a majority only with them.
    pub(super) fn look_at_slow_disks(&mut self) {
        let present = self.voters_present();
        let slow = self.facts.iter().filter(|facts| facts.slow_disk.is_some());
        let slow = slow.map(|facts| facts.member.as_str());
        let slow: Vec<&str> = slow.filter(|name| present.contains(name)).collect();
        let fast = present.len() - slow.len();
        if present.len() < self.majority() || fast >= self.majority() {
            return;
        }
        let missing: Vec<&str> = self.voters.difference(&present).copied().collect();
        let (have, is) = (
            if slow.len() == 1 { "has a slow disk" } else { "have slow disks" },
            if missing.len() == 1 { "is" } else { "are" },
        );
        let (gone, todo) = match missing.as_slice() {
            [] => (String::new(), "mend one of these disks first"),
            some => (
                format!(" and {} {is} missing", listed(some)),
                "start who is missing, or mend a disk, whatever is sooner",
            ),
        };
        self.add(
            Gravity::Harmed,
            format!(
                "of {} members {} {have}{gone}: what clients send waits for a slow disk",
                self.voters.len(),
                listed(&slow)
            ),
            todo,
        );
    }

    /// What checking the log on the disk found and left as it is.
    pub(super) fn look_at_scrub(&mut self, facts: &MemberFacts) {
        let name = &facts.member;
        let Some(ScrubFacts { unrepaired, differing, verdict }) = &facts.scrub else { return };
        if *unrepaired > 0 {
            self.add(
                Gravity::Harmed,
                format!(
                    "{name} found damage in its log that nobody could repair: {unrepaired} entries"
                ),
                format!(
                    "start the members that are missing, then restart {name}: it repairs what \
                     others have, and its log says what is damaged; the next check tries again"
                ),
            );
        }
        if *differing > 0 {
            let todo = verdict.as_deref().unwrap_or("their logs say which ones");
            self.add(
                Gravity::Harmed,
                format!(
                    "{name} has other bytes than other members in {differing} committed entries"
                ),
                format!("{todo}; the log of {name} says which entries"),
            );
        }
    }
}
