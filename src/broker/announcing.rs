//! Watches role and tables, and announces what name servers have to know; and takes over what they
//! say about ordered topics.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{
    Broker,
    acquaintance::Knows,
    announcement::{Announcement, broker_id},
    ingress::{self, Ingress, IngressWatch, Lists},
    registration::{Announcements, Progress, Told},
    steering,
};
use crate::{
    clock,
    ids::BrokerId,
    raft::{
        Role, Roster,
        command::{Command, Topic},
        tables::Tables,
    },
};

/// How late a change of topics is noticed that nobody has pointed out.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long an operator's change of topics waits for name servers to be told.
const TELL_WITHIN: Duration = Duration::from_secs(1);
/// Between looks at what name servers say about ordered topics.
const ORDER_EVERY: Duration = Duration::from_secs(1);

/// What is announced, and how far it has got.
#[derive(Debug)]
pub struct Announcer {
    announcements: watch::Sender<Option<Arc<Announcement>>>,
    look: Notify,
    progress: OnceLock<Progress>,
}

impl Default for Announcer {
    /// Announces nothing yet.
    fn default() -> Self {
        let announcements = watch::Sender::new(None);
        Self { announcements, look: Notify::new(), progress: OnceLock::new() }
    }
}

impl Announcer {
    /// What is announced, for those who tell it.
    pub fn subscribe(&self) -> Announcements {
        self.announcements.subscribe()
    }

    /// From now on [`Self::tell`] waits for these.
    pub fn follow(&self, progress: Progress) {
        if self.progress.set(progress).is_err() {
            warn!("registration was started twice");
        }
    }

    /// Whether clients are told that this member takes writes for its ingress slot.
    pub fn takes_writes(&self) -> bool {
        let announced = self.announcements.borrow();
        announced.as_ref().is_some_and(|announced| announced.ingress == Ingress::Open)
    }

    /// Every name server, and the id under which it has this member.
    pub fn name_servers(&self) -> Vec<(String, Option<BrokerId>)> {
        let each = self.progress.get().into_iter().flat_map(Progress::each);
        let id = |told: &Told| told.announced.as_ref().map(|announced| announced.broker_id);
        each.map(|(name_server, told)| (name_server, id(&told.borrow()))).collect()
    }

    /// Waits until the name servers that can be reached have the topics of `tables`, at most a
    /// second: then who creates a topic finds it in routes.
    pub async fn tell(&self, tables: &Tables) {
        let Some(progress) = self.progress.get() else { return };
        let counter = counter(tables);
        let announced = |a: &Option<Arc<Announcement>>| {
            a.as_ref().is_none_or(|announced| announced.counter >= counter)
        };
        let told = async {
            self.look.notify_one();
            let _ = self.subscribe().wait_for(announced).await;
            progress.reached(counter).await;
        };
        if timeout(TELL_WITHIN, told).await.is_err() {
            debug!("name servers have not been told of topics in time");
        }
    }
}

/// Announces until the group ends: a role at once, topics when somebody waits for that or at the
/// next look, as is whether this member takes writes; and looks where consumers read.
pub async fn run(broker: Arc<Broker>, mut steering: steering::Watch) {
    let mut roles = broker.group.watch_role();
    let mut ingress_watch = IngressWatch::default();
    let (mut seen, mut ingress_seen, mut was_cut_off) = (None, Ingress::Closed, false);
    loop {
        let role = roles.borrow_and_update().clone();
        let tables = broker.tables();
        let version = (tables.topics_version(), tables.settings_version());
        let roster = broker.group.roster();
        let is_cut_off = broker.group.is_cut_off();
        let is_unfit = is_cut_off || broker.group.has_slow_disk();
        let (lag, lists) = (broker.group.lag(), lists(&broker));
        let seen_now = ingress::Seen { role: &role, roster: &roster, lag, is_unfit, lists };
        let ingress = ingress_watch.look(&seen_now, clock::now());
        let ingress = if broker.group.passes_on() { ingress } else { Ingress::Closed };
        steer(&broker, &mut steering, &roster, &role);
        if is_cut_off && !was_cut_off {
            broker.wakeups.release_all();
        }
        was_cut_off = is_cut_off;
        if ingress_seen != ingress {
            debug!(?ingress, "writes of clients that do not find the leader");
            ingress_seen = ingress;
        }
        let now = (role, roster, version, ingress);
        if seen.as_ref() != Some(&now) {
            let (role, roster, ..) = &now;
            let permission = broker.settings.policy(&tables).permission;
            let next = announcement(role, roster, &tables, permission, ingress);
            broker.announcer.announcements.send_if_modified(|current| {
                let different = current.as_deref() != next.as_ref();
                if different {
                    *current = next.map(Arc::new);
                }
                different
            });
            seen = Some(now);
        }
        // All cancel-safe.
        tokio::select! {
            ended = roles.changed() => if ended.is_err() { return },
            () = broker.announcer.look.notified() => {}
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

/// Looks once whether this member can tell consumers of each other.
fn lists(broker: &Broker) -> Lists {
    let now = clock::now();
    if !broker.announcer.progress.get().is_some_and(Progress::is_registered) {
        broker.acquaintance.note_gap(now);
    }
    match broker.acquaintance.knows(now) {
        Knows::Some if !broker.group.others_tell_consumers() => Lists::Short,
        Knows::Some | Knows::All => Lists::Whole,
    }
}

/// Looks once where consumers read.
fn steer(broker: &Broker, watch: &mut steering::Watch, roster: &Roster, role: &Role) {
    // To send a consumer back, a follower has to pass something on.
    let is_on = broker.settings.policy(&broker.tables()).pull.read_from_followers
        && broker.group.passes_on();
    let progress = broker.announcer.progress.get();
    let is_registered = progress.zip(roster.own).is_some_and(|(known, id)| known.has(id));
    let about = (role, roster);
    steering::look(watch, &broker.steering, &broker.group, about, (is_on, is_registered));
}

/// Keeps the `order` flags of topics as the name servers' table of ordered topics says. The leader
/// does it, for all members.
pub async fn follow_order(broker: Arc<Broker>) {
    let mut done = None;
    loop {
        sleep(ORDER_EVERY).await;
        let progress = broker.announcer.progress.get();
        let Some(ordered) = progress.and_then(Progress::ordered_topics) else { continue };
        let tables = broker.tables();
        let wanted = (ordered, tables.topics_version());
        if !broker.is_leader() || done.as_ref() == Some(&wanted) {
            continue;
        }
        let changes = order_changes(&tables, &wanted.0);
        if !changes.is_empty() {
            info!(?changes, "order flags change as name servers say");
            let change = |(topic, order)| Command::OrderTopic { topic, order };
            let commands = changes.into_iter().map(change).collect();
            if let Err(error) = broker.change(commands).await {
                debug!(%error, "order flags not changed");
                continue;
            }
        }
        done = Some(wanted);
    }
}

/// What to announce, if anything.
pub fn announcement(
    role: &Role,
    roster: &Roster,
    tables: &Tables,
    permission: u32,
    ingress: Ingress,
) -> Option<Announcement> {
    let term = role.term();
    let broker_id = broker_id(role.is_leader(), term, roster)?;
    Some(Announcement {
        broker_id,
        term,
        counter: counter(tables),
        changed_ms: tables.topics_version().at_ms.max(tables.settings_version().at_ms),
        topics: tables.all_topics(),
        permission,
        ingress,
    })
}

/// Both versions count: `brokerPermission` is a setting, and a name server takes topics over only
/// with another version.
fn counter(tables: &Tables) -> i64 {
    let counter = tables.topics_version().counter + tables.settings_version().counter;
    i64::try_from(counter).unwrap_or(i64::MAX)
}

/// Topics whose `order` flag differs from what name servers say, with what they say.
pub fn order_changes(tables: &Tables, ordered: &BTreeSet<String>) -> Vec<(String, bool)> {
    let said = |topic: &Arc<Topic>| (topic.name.clone(), ordered.contains(&topic.name));
    tables.topics().filter(|topic| topic.order != said(topic).1).map(said).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{broker::topics, ids::Term, protocol::perm};

    fn roster() -> Roster {
        let members = [("n0", 1), ("n1", 2), ("n2", 3)];
        let members = members.map(|(name, id)| (name.to_owned(), BrokerId(id))).to_vec();
        Roster { members, own: Some(BrokerId(2)) }
    }

    fn tables(names: &[&str]) -> Tables {
        let mut tables = Tables::default();
        for (at, name) in names.iter().enumerate() {
            let topic = topics::plain(name, 4, perm::READ | perm::WRITE);
            tables.apply(Command::PutTopic(topic), at as i64);
        }
        tables
    }

    #[test]
    fn leader_and_follower_announce_the_same_topics_under_their_ids() {
        let tables = tables(&["T", "U"]);
        let leader = Role::Leader { term: Term(3) };
        let follower = Role::Follower { term: Term(3), leader: Some("n0".into()) };
        let of = |role: &Role| announcement(role, &roster(), &tables, 6, Ingress::Closed).unwrap();
        let (leading, following) = (of(&leader), of(&follower));
        assert_eq!((leading.broker_id, following.broker_id), (BrokerId(0), BrokerId(2)));
        assert_eq!((leading.counter, leading.changed_ms), (2, 1));
        assert_eq!(leading.topics, following.topics);
        let nothing = Role::Follower { term: Term(0), leader: None };
        assert_eq!(announcement(&nothing, &roster(), &tables, 6, Ingress::Closed), None);
    }

    #[test]
    fn a_changed_permission_is_another_version() {
        let mut tables = tables(&["T"]);
        let leader = Role::Leader { term: Term(3) };
        let before = announcement(&leader, &roster(), &tables, 6, Ingress::Closed).unwrap();
        let setting = Command::PutSetting { key: "brokerPermission".into(), value: "4".into() };
        tables.apply(setting, 9);
        let after = announcement(&leader, &roster(), &tables, 4, Ingress::Closed).unwrap();
        assert!(after.counter > before.counter);
        assert_eq!(after.permission, 4);
        assert_eq!(after.changes_since(&before), None);
    }

    #[test]
    fn order_flags_become_what_name_servers_say() {
        let union = BTreeSet::from(["T".to_owned(), "U".to_owned()]);
        let mut tables = tables(&["T", "V"]);
        assert_eq!(order_changes(&tables, &union), [("T".to_owned(), true)]);
        tables.apply(Command::OrderTopic { topic: "T".to_owned(), order: true }, 9);
        assert_eq!(order_changes(&tables, &union), []);
        assert_eq!(order_changes(&tables, &BTreeSet::new()), [("T".to_owned(), false)]);
    }
}
