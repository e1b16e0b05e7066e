//! When leadership goes to the member that is preferred (`preferredLeaderId`): once it could have
//! led for a while, and more and more rarely if that does not last. Pure; who leads asks each
//! second ([`crate::raft::transfer`]), and nobody campaigns for it.

use std::time::Duration;

use tokio::time::Instant;

/// Between two tries, first, in times that the preferred member must have been able to lead: 30 s …
const PAUSE_MIN: u32 = 3;
/// … and at most: 10 min.
const PAUSE_MAX: u32 = 60;

/// What this member sees of the preferred one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It leads.
    Leads,
    /// This member leads, and it could.
    Ready,
    /// This member leads, and it could not.
    Unfit,
    /// Someone else leads, or nobody.
    Elsewhere,
}

/// What this member remembers of its tries.
#[derive(Debug)]
pub(super) struct Preference {
    /// How long the preferred member must have been able to lead.
    steady: Duration,
    ready_since: Option<Instant>,
    leads_since: Option<Instant>,
    tried: Option<Instant>,
    /// After the last try.
    pause: Duration,
}

impl Preference {
    /// Of who has not tried yet.
    pub(super) fn new(steady: Duration) -> Self {
        let (ready_since, leads_since, tried, pause) = Default::default();
        Self { steady, ready_since, leads_since, tried, pause }
    }

    /// Whether to try now. Then the next try has to wait: twice as long as the one before, unless
    /// the preferred member has led for that long meanwhile.
    pub(super) fn look(&mut self, seen: Seen, now: Instant) -> bool {
        let since = |kept: Option<Instant>, holds: bool| holds.then(|| kept.unwrap_or(now));
        self.ready_since = since(self.ready_since, seen == Seen::Ready);
        self.leads_since = since(self.leads_since, seen == Seen::Leads);
        if self.leads_since.is_some_and(|since| now.duration_since(since) >= self.pause) {
            self.pause = Duration::ZERO;
        }
        let is_steady =
            self.ready_since.is_some_and(|since| now.duration_since(since) >= self.steady);
        let is_early = self.tried.is_some_and(|tried| now.duration_since(tried) < self.pause);
        if !is_steady || is_early {
            return false;
        }
        self.pause = (2 * self.pause).clamp(PAUSE_MIN * self.steady, PAUSE_MAX * self.steady);
        (self.tried, self.ready_since) = (Some(now), None);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks each second, `seconds` long at the same; when it tried, from the start.
    fn tries(seen: &[(u64, Seen)]) -> Vec<u64> {
        let (mut preference, start) = (Preference::new(Duration::from_secs(10)), Instant::now());
        let seconds = seen.iter().flat_map(|(seconds, seen)| (0..*seconds).map(move |_| *seen));
        let looked = (0..)
            .zip(seconds)
            .filter(|(second, seen)| preference.look(*seen, start + Duration::from_secs(*second)));
        looked.map(|(second, _)| second).collect()
    }

    #[test]
    fn leadership_goes_to_a_preferred_member_that_could_lead_for_a_while() {
        use Seen::{Elsewhere, Leads, Ready, Unfit};
        type Row<'a> = (&'a str, &'a [(u64, Seen)], &'a [u64]);
        let rows: &[Row<'_>] = &[
            ("ready for a while", &[(11, Ready)], &[10]),
            ("not long enough", &[(10, Ready), (60, Unfit)], &[]),
            ("not for long enough at a time", &[(9, Ready), (1, Unfit), (9, Ready)], &[]),
            ("never ready", &[(900, Unfit)], &[]),
            ("another one leads", &[(9, Ready), (1, Elsewhere), (9, Ready)], &[]),
            ("it leads", &[(900, Leads)], &[]),
            ("tries that fail", &[(1900, Ready)], &[10, 40, 100, 220, 460, 940, 1540]),
            (
                "it leads for a moment each time",
                &[(11, Ready), (5, Leads), (60, Ready), (5, Leads), (80, Ready)],
                &[10, 40, 100],
            ),
            ("it leads for long", &[(11, Ready), (40, Leads), (11, Ready)], &[10, 61]),
            (
                "it leads for as long as the pause was",
                &[(41, Ready), (60, Leads), (11, Ready)],
                &[10, 40, 111],
            ),
            ("it leads for less", &[(41, Ready), (30, Leads), (60, Ready)], &[10, 40, 100]),
        ];
        for (what, seen, want) in rows {
            assert_eq!(tries(seen), *want, "{what}");
        }
    }
}
