//! drill: changes the leader of a running group under a small load, and says what clients felt.
//! Ours.
//!
//! ```text
//!  a topic of its own ─► load ─► leader to another member ─► and back ─► … ─► account ─► topic deleted
//! ```
//!
//! Changes are transfers, which lose and refuse nothing: a drill is for groups that are in use. To
//! see what a death costs, kill the leader's process meanwhile.

use std::{fmt, time::Duration};

use clap::Args;
use serde::Serialize;
use serde_json::json;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};

use super::{Session, failover, members::OfGroup};
use crate::{
    admin::{
        client::{AdminClient, leader_of},
        error::Error,
        load::{Figures, LoadOn},
        output::Told,
    },
    clock,
    protocol::{
        bodies::{BrokerData, TopicConfig},
        headers::admin::TransferLeaderAnswer,
    },
};

/// Undisturbed, before the first change and after each.
const STEADY: Duration = Duration::from_secs(3);
/// How long name servers may take to know a new leader.
const KNOWN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);
/// Queues of the topic.
const QUEUES: u32 = 4;

/// Flags of drill.
#[derive(Debug, Args)]
pub(in crate::admin) struct Drill {
    #[command(flatten)]
    of: OfGroup,
    /// changes of the leader: away from it, back to it, and so on; default 2
    #[arg(long, default_value_t = 2, hide_default_value = true,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// messages a second; default 200
    #[arg(long, default_value_t = 200, hide_default_value = true,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// do it; without this flag it only says what it would do
    #[arg(long)]
    yes: bool,
}

/// Does it.
pub(in crate::admin) async fn run(session: &mut Session<'_>, args: &Drill) -> Result<(), Error> {
    let group = find(&session.admin, &args.of).await?;
    let (name, leader) = (group.broker_name.clone(), leader_of(&group)?.to_owned());
    let topic = format!("RMQ_DRILL_{:x}", clock::wall_us());
    session.out.say(format_args!(
        "{name}: {} messages a second to the new topic {topic}, and {} changes of the leader \
         ({leader} now), by transfer\n",
        args.rate, args.rounds
    ))?;
    if !args.yes {
        return Err(Error::Usage("nothing was done: --yes does it".to_owned()));
    }
    let config = TopicConfig {
        topic_name: topic.clone(),
        read_queue_nums: QUEUES,
        write_queue_nums: QUEUES,
        ..TopicConfig::default()
    };
    // From here on Ctrl-C ends one thing after the other: what is begun is told and taken away.
    let mut interrupts = Interrupts::watch()?;
    session.admin.put_topic(&leader, &config).await?;
    let outcome = under_load(session, args, &topic, &mut interrupts).await;
    let deleted = tokio::select! {
        deleted = delete(&session.admin, &args.of, (&group, &topic)) => deleted,
        interrupted = interrupts.next() => Err(interrupted),
    };
    if let Err(error) = &deleted {
        session.out.fail(&Error::Unable(format!("{error}; the topic {topic} may be left")));
    }
    let (figures, changes) = outcome?;
    let is_bad = figures.lost > 0 || figures.given_up > 0;
    session.out.show(&report(&name, figures, &changes))?;
    if is_bad {
        session.out.mark_failed();
    }
    session.out.say("\n")?;
    tokio::select! {
        shown = failover::show_last(session, &args.of) => shown,
        interrupted = interrupts.next() => Err(interrupted),
    }
}

/// Ctrl-C, from when it is watched: each one counts, also one that came before it is waited for.
struct Interrupts(Signal);

impl Interrupts {
    fn watch() -> Result<Self, Error> {
        let unwatched = |error| Error::Unable(format!("cannot watch for SIGINT: {error}"));
        signal(SignalKind::interrupt()).map(Self).map_err(unwatched)
    }

    async fn next(&mut self) -> Error {
        // The signals of a process never end.
        let _ = self.0.recv().await;
        Error::Unable("interrupted".to_owned())
    }
}

async fn find(admin: &AdminClient, of: &OfGroup) -> Result<BrokerData, Error> {
    let info = admin.cluster_info().await?;
    let unknown = || Error::Unable("the name server does not know these members".to_owned());
    of.find(&info)?.cloned().ok_or_else(unknown)
}

async fn delete(
    admin: &AdminClient,
    of: &OfGroup,
    (group, topic): (&BrokerData, &str),
) -> Result<(), Error> {
    let now = find(admin, of).await?;
    admin.delete_topic(leader_of(&now)?, topic).await?;
    admin.forget_topic(topic, &group.cluster).await
}

/// Changes the leader while the load runs. On Ctrl-C it ends early, but gives an account; on another
/// one it waits for that no longer.
async fn under_load(
    session: &mut Session<'_>,
    args: &Drill,
    topic: &str,
    interrupts: &mut Interrupts,
) -> Result<(Figures, Vec<TransferLeaderAnswer>), Error> {
    let on = LoadOn {
        name_servers: session.admin.name_servers().join(";"),
        topic: topic.to_owned(),
        per_second: args.rate,
    };
    let load = session.load.start(on).await.map_err(Error::Unable)?;
    let mut changes = Vec::new();
    let failed = tokio::select! {
        done = change(&session.admin, args, &mut changes) => done.err(),
        interrupted = interrupts.next() => Some(interrupted),
    };
    if let Some(error) = failed {
        session.out.fail(&error);
    }
    tokio::select! {
        figures = load.finish() => Ok((figures, changes)),
        interrupted = interrupts.next() => Err(interrupted),
    }
}

async fn change(
    admin: &AdminClient,
    args: &Drill,
    changes: &mut Vec<TransferLeaderAnswer>,
) -> Result<(), Error> {
    sleep(STEADY).await;
    for round in 0..args.rounds {
        let leader = leader_of(&find(admin, &args.of).await?)?.to_owned();
        let to = match changes.first() {
            Some(first) if round % 2 == 1 => {
                let leads = admin.leader_changes(&leader).await?.member;
                back(&first.from, &leads).map(str::to_owned)
            }
            _ => None,
        };
        changes.push(admin.transfer_leader(&leader, to.as_deref()).await?);
        known(admin, &args.of, &leader).await?;
        sleep(STEADY).await;
    }
    Ok(())
}

/// Who is to lead in a round that goes back to `first`, while `leads` does: anybody, if that is
/// `first` already.
fn back<'a>(first: &'a str, leads: &str) -> Option<&'a str> {
    Some(first).filter(|first| *first != leads)
}

/// Waits until a name server knows another leader than `former`.
async fn known(admin: &AdminClient, of: &OfGroup, former: &str) -> Result<(), Error> {
    let began = clock::now();
    while began.elapsed() < KNOWN {
        let group = find(admin, of).await?;
        if leader_of(&group).is_ok_and(|leader| leader != former) {
            return Ok(());
        }
        sleep(LOOK).await;
    }
    Err(Error::Unable(format!("after {KNOWN:?} the name server still says that {former} leads")))
}

/// Figures in JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Account {
    group: String,
    changes: Vec<serde_json::Value>,
    sent: u64,
    acknowledged: u64,
    given_up: u64,
    retried: u64,
    slowest_us: u64,
    acknowledgement_pause_us: u64,
    consumed: u64,
    lost: u64,
    doubled: u64,
    delivery_pause_us: u64,
}

fn report(group: &str, figures: Figures, changes: &[TransferLeaderAnswer]) -> Told<Account> {
    let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let mut text = match changes {
        [] => "  no change of the leader was confirmed\n".to_owned(),
        _ => String::new(),
    };
    for TransferLeaderAnswer { from, leader, term, held_us, .. } in changes {
        let held = Ms(Duration::from_micros(*held_us));
        text += &format!("  {from} → {leader} (term {term}): sends were held for {held}\n");
    }
    let rows = [
        ("sent", figures.sent.to_string()),
        ("acknowledged", figures.acknowledged.to_string()),
        ("given up", figures.given_up.to_string()),
        ("sends that failed, tried again", figures.retried.to_string()),
        ("slowest acknowledgement", Ms(figures.slowest).to_string()),
        ("longest pause between acknowledgements", Ms(figures.acknowledgement_pause).to_string()),
        ("consumed", figures.consumed.to_string()),
        ("lost (acknowledged, never consumed)", figures.lost.to_string()),
        ("doubled", figures.doubled.to_string()),
        ("longest pause between deliveries", Ms(figures.delivery_pause).to_string()),
    ];
    rows.iter().for_each(|(what, figure)| text += &format!("  {what:<40}{figure:>12}\n"));
    let change = |change: &TransferLeaderAnswer| {
        let TransferLeaderAnswer { from, leader, term, held_us, .. } = change;
        json!({ "from": from, "leader": leader, "term": term, "heldUs": held_us })
    };
    let account = Account {
        group: group.to_owned(),
        changes: changes.iter().map(change).collect(),
        sent: figures.sent,
        acknowledged: figures.acknowledged,
        given_up: figures.given_up,
        retried: figures.retried,
        slowest_us: us(figures.slowest),
        acknowledgement_pause_us: us(figures.acknowledgement_pause),
        consumed: figures.consumed,
        lost: figures.lost,
        doubled: figures.doubled,
        delivery_pause_us: us(figures.delivery_pause),
    };
    Told::new(text, account)
}

/// Milliseconds with a tenth.
struct Ms(Duration);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} ms", self.0.as_millis(), self.0.as_micros() / 100 % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_a_figure_a_line_and_has_each_change() {
        let figures = Figures {
            sent: 10,
            acknowledged: 9,
            given_up: 1,
            lost: 2,
            slowest: Duration::from_micros(12_340),
            ..Figures::default()
        };
        let change = TransferLeaderAnswer {
            group: "G".to_owned(),
            from: "n0".to_owned(),
            leader: "n1".to_owned(),
            term: 7,
            held_us: 8_000,
        };
        let told = report("G", figures, &[change]);
        let text = told.to_string();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("  n0 → n1 (term 7): sends were held for 8.0 ms"));
        let figures: Vec<&str> = lines.filter_map(|line| Some(line.get(42..)?.trim())).collect();
        let want = ["10", "9", "1", "0", "12.3 ms", "0.0 ms", "0", "2", "0", "0.0 ms"];
        assert_eq!(figures, want, "{text}");
        let value = serde_json::to_value(&told).unwrap();
        assert_eq!((&value["lost"], &value["slowestUs"]), (&json!(2), &json!(12_340)));
        assert_eq!(value["changes"][0]["heldUs"], 8_000);
    }

    #[test]
    fn figures_without_a_confirmed_change_are_told_as_such() {
        let told = report("G", Figures { sent: 7, ..Figures::default() }, &[]);
        let text = told.to_string();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("  no change of the leader was confirmed"));
        assert!(lines.next().unwrap().trim_end().ends_with(" 7"), "{text}");
        let value = serde_json::to_value(&told).unwrap();
        assert_eq!((&value["changes"], &value["sent"]), (&json!([]), &json!(7)));
    }

    #[test]
    fn a_round_goes_back_to_the_first_leader_unless_that_leads_already() {
        for (first, leads, want) in [("n0", "n1", Some("n0")), ("n0", "n0", None)] {
            assert_eq!(back(first, leads), want, "{first} {leads}");
        }
    }
}
