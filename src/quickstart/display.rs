//! A line for each second, and the account at the end. On a terminal the line of the running
//! second is drawn over itself.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use super::account::{Account, Totals};

/// Who takes part, and so which figures mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Producer,
    Consumer,
    Both,
}

/// Where lines go.
pub(super) struct Display {
    shown: Shown,
    live: bool,
    second: u64,
    /// Sums when the running second began.
    before: Totals,
}

impl Display {
    pub(super) fn new(shown: Shown) -> Self {
        let live = io::stdout().is_terminal();
        Self { shown, live, second: 0, before: Totals::default() }
    }

    pub(super) fn head(&self) -> io::Result<()> {
        writeln!(io::stdout(), "{}", head(self.shown))
    }

    /// Shows how things stand `elapsed` after the start; keeps the line when its second is over.
    pub(super) fn tick(&mut self, elapsed: Duration, now: Totals, leaders: &str) -> io::Result<()> {
        let over = elapsed.as_secs() > self.second;
        if !over && !self.live {
            return Ok(());
        }
        let line = line(self.shown, self.second, self.before, now, leaders);
        let (start, end) = if self.live { ("\r\x1b[K", "") } else { ("", "") };
        let mut out = io::stdout().lock();
        write!(out, "{start}{line}{end}")?;
        if over {
            writeln!(out)?;
            (self.second, self.before) = (elapsed.as_secs(), now);
        }
        out.flush()
    }

    /// Shows the account of a run from `start` to `now`.
    pub(super) fn account(
        &self,
        account: &Account,
        start: Instant,
        now: Instant,
    ) -> io::Result<()> {
        let clear = if self.live { "\r\x1b[K" } else { "" };
        write!(io::stdout(), "{clear}{}", summary(self.shown, account, start, now))?;
        io::stdout().flush()
    }
}

fn head(shown: Shown) -> String {
    let (sent, consumed) = ("    sent   acked  waiting", "  consumed");
    let columns = match shown {
        Shown::Producer => sent.to_owned(),
        Shown::Consumer => consumed.to_owned(),
        Shown::Both => format!("{sent}{consumed}"),
    };
    format!("   s{columns}  leader")
}

/// One second: what was sent, acknowledged and consumed in it. Pure.
fn line(shown: Shown, second: u64, before: Totals, now: Totals, leaders: &str) -> String {
    let sent = now.sent - before.sent;
    let acked = now.acknowledged - before.acknowledged;
    let waiting = now.sent - now.acknowledged - now.failed;
    let consumed = now.consumed - before.consumed;
    let columns = match shown {
        Shown::Producer => format!("{sent:8}{acked:8}{waiting:9}"),
        Shown::Consumer => format!("{consumed:10}"),
        Shown::Both => format!("{sent:8}{acked:8}{waiting:9}{consumed:10}"),
    };
    let still = shown != Shown::Consumer && acked == 0 && waiting > 0;
    let note = if still { "  nothing acknowledged" } else { "" };
    format!("{second:4}{columns}  {leaders}{note}")
}

/// The account, a figure a line. Pure.
fn summary(shown: Shown, account: &Account, start: Instant, now: Instant) -> String {
    let totals = account.totals();
    let seconds = |pause: Duration| format!("{:.2} s", pause.as_secs_f64());
    let mut rows = vec![("time", seconds(now.saturating_duration_since(start)))];
    if shown != Shown::Consumer {
        rows.push(("sent", totals.sent.to_string()));
        rows.push(("acknowledged", totals.acknowledged.to_string()));
        rows.push(("given up", totals.failed.to_string()));
        rows.push(("sends that failed, tried again", totals.retries.to_string()));
    }
    if shown != Shown::Producer {
        rows.push(("consumed", totals.consumed.to_string()));
    }
    if shown == Shown::Both {
        rows.push(("lost (acknowledged, never consumed)", account.missing().to_string()));
        rows.push(("doubled", totals.doubled.to_string()));
        if totals.foreign > 0 {
            rows.push(("consumed from other runs", totals.foreign.to_string()));
        }
    }
    if shown != Shown::Consumer {
        let pause = account.acknowledgement_pause();
        rows.push(("longest pause between acknowledgements", seconds(pause)));
    }
    if shown != Shown::Producer {
        rows.push(("longest pause between deliveries", seconds(account.delivery_pause(now))));
    }
    let lines = rows.iter().map(|(what, figure)| format!("  {what:<40}{figure:>12}\n"));
    std::iter::once("account\n".to_owned()).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_line_shows_one_second() {
        let before = Totals { sent: 100, acknowledged: 90, consumed: 80, ..Totals::default() };
        let now = Totals { sent: 150, acknowledged: 90, consumed: 85, failed: 1, ..before };
        let rows = [
            (Shown::Both, "   7      50       0       59         5  h:1  nothing acknowledged"),
            (Shown::Producer, "   7      50       0       59  h:1  nothing acknowledged"),
            (Shown::Consumer, "   7         5  h:1"),
        ];
        for (shown, want) in rows {
            assert_eq!(line(shown, 7, before, now, "h:1"), want);
        }
        let lengths = [Shown::Both, Shown::Producer, Shown::Consumer]
            .map(|shown| (head(shown).rfind(' '), line(shown, 1, now, now, "x").rfind(" x")));
        for (head, line) in lengths {
            assert_eq!(head, line, "columns stand below their names");
        }
    }

    #[test]
    fn the_account_says_what_became_of_every_message() {
        let (mut account, start) = (Account::default(), clock::now());
        for _ in 0..4 {
            account.sent(start);
        }
        for (seq, at_ms) in [(0, 0), (1, 100), (2, 1350)] {
            account.acknowledged(seq, start + Duration::from_millis(at_ms));
        }
        account.failed();
        for seq in [0, 1, 1] {
            account.delivered(seq, start);
        }
        let end = start + Duration::from_millis(2500);
        let text = summary(Shown::Both, &account, start, end);
        let figures: Vec<&str> = text.lines().skip(1).map(|l| l[42..].trim()).collect();
        assert_eq!(
            figures,
            ["2.50 s", "4", "3", "1", "0", "2", "1", "1", "1.25 s", "2.50 s"],
            "{text}"
        );
    }
}
