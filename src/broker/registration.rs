//! Keeps this broker registered with every name server.
//!
//! One task per name server, so that a slow or dead one delays nobody. Each keeps its connection,
//! registers at once when the role changes, every `registerNameServerPeriod` in any case, and sends
//! heartbeats in between. Topics that come or change are told alone to a name server of ours; to
//! others, or when topics go, all of them are told again, a moment later. It registers again when
//! the connection ends or the name server says that it does not know this broker: a name server
//! that was restarted is complete within a second.
//!
//! ```text
//!  announcements (watch) ──► task per name server ──► REGISTER_BROKER, BROKER_HEARTBEAT
//!                                  │
//!                                  └─► status (watch): registered with what, ordered topics
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::announcement::{Announcement, Registrant, ordered_topics, says_entered, says_unknown};
use crate::{
    ids::BrokerId,
    net::{CallError, Client, ClientOptions, Connection, Handled, Handler, ReplyTo},
    protocol::{codes::ResponseCode, command::RemotingCommand},
    raft::command::Topic,
};

/// Between heartbeats, and how long their answers may take.
const HEARTBEAT: Duration = Duration::from_secs(1);
const HEARTBEAT_ANSWER: Duration = Duration::from_secs(3);
/// Between two registrations with all topics, however often these change.
const GATHER: Duration = Duration::from_millis(200);
/// Between attempts to reach a name server.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
/// For saying goodbye, whatever the name servers do.
const FAREWELL: Duration = Duration::from_secs(1);

/// How to register.
#[derive(Debug, Clone)]
pub struct RegistrationOptions {
    /// `host:port` of every name server.
    pub name_servers: Vec<String>,
    /// `registerNameServerPeriod`.
    pub period: Duration,
    /// `registerBrokerTimeoutMills`.
    pub timeout: Duration,
}

/// What is to be announced; `None` while this broker is nothing yet.
pub type Announcements = watch::Receiver<Option<Arc<Announcement>>>;

/// What one name server was last told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The announcement that it has, while it is reachable.
    pub announced: Option<Arc<Announcement>>,
    /// Ordered topics, as it answered.
    pub ordered_topics: Option<BTreeSet<String>>,
}

/// The tasks that keep a broker registered. Dropping it ends them without a goodbye.
#[derive(Debug)]
pub struct Registration {
    tasks: JoinSet<()>,
    stop: CancellationToken,
    progress: Progress,
}

/// What every name server has been told.
#[derive(Debug, Clone)]
pub struct Progress(Arc<BTreeMap<String, watch::Receiver<Told>>>);

impl Progress {
    /// Waits until every name server that can be reached has been told of `counter`.
    pub async fn reached(&self, counter: i64) {
        let there = |told: &Told| told.announced.as_ref().is_none_or(|a| a.counter >= counter);
        for told in self.0.values() {
            // An error: its task has ended, it will not be told anything.
            let _ = told.clone().wait_for(there).await;
        }
    }

    /// Each name server, and what it was told, as it goes on.
    pub fn each(&self) -> impl Iterator<Item = (String, watch::Receiver<Told>)> {
        self.0.iter().map(|(name_server, told)| (name_server.clone(), told.clone()))
    }

    /// Whether any name server has this broker, as whatever.
    pub fn is_registered(&self) -> bool {
        self.0.values().any(|told| told.borrow().announced.is_some())
    }

    /// Whether any name server has this broker under `id`.
    pub fn has(&self, id: BrokerId) -> bool {
        let has = |told: &Told| told.announced.as_ref().is_some_and(|a| a.broker_id == id);
        self.0.values().any(|told| has(&told.borrow()))
    }

    /// Topics that name servers call ordered; `None` while no name server has a table of them. One
    /// that is named anywhere is ordered: name servers are told one after the other.
    pub fn ordered_topics(&self) -> Option<BTreeSet<String>> {
        let told = self.0.values().filter_map(|told| told.borrow().ordered_topics.clone());
        told.reduce(|all, more| all.union(&more).cloned().collect())
    }
}

impl Registration {
    /// Starts registering. Must be called on the runtime that shall do it.
    pub fn start(
        options: &RegistrationOptions,
        registrant: &Registrant,
        announcements: &Announcements,
    ) -> Self {
        let ended: BTreeMap<String, Arc<Notify>> =
            options.name_servers.iter().map(|name| (name.clone(), Arc::default())).collect();
        let hook = Hook(ended.clone());
        let client =
            Client::new(ClientOptions { handler: Some(Arc::new(hook)), ..Default::default() });
        let (mut tasks, mut told) = (JoinSet::new(), BTreeMap::new());
        let stop = CancellationToken::new();
        for (name_server, connection_ended) in ended {
            let (sender, receiver) = watch::channel(Told::default());
            told.insert(name_server.clone(), receiver);
            let link = Link {
                name_server,
                client: client.clone(),
                registrant: registrant.clone(),
                period: options.period,
                timeout: options.timeout,
                announcements: announcements.clone(),
                connection_ended,
                told: sender,
                standing: None,
                takes_changes: false,
                all_due: Instant::now(),
            };
            tasks.spawn(link.run(stop.clone()));
        }
        Self { tasks, stop, progress: Progress(Arc::new(told)) }
    }

    /// What every name server has been told, as it goes on.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Says goodbye to every name server that can be reached, within a second; does nothing the
    /// second time. Cancel-safe.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                error!(%error, "registration failed");
            }
        }
    }
}

/// Hears of connections to name servers that end. They ask nothing of us.
struct Hook(BTreeMap<String, Arc<Notify>>);

impl Handler for Hook {
    fn handle(&self, connection: &Arc<Connection>, request: RemotingCommand) -> Handled {
        let remark = format!(" request type {} not supported", request.code);
        let answer = RemotingCommand::error(ResponseCode::REQUEST_CODE_NOT_SUPPORTED, remark);
        ReplyTo::new(connection, &request).answer(answer);
        Handled::Done
    }

    fn closed(&self, connection: &Arc<Connection>) {
        if let Some(ended) = connection.dialled().and_then(|name| self.0.get(name)) {
            ended.notify_one();
        }
    }
}

/// Everything between this broker and one name server.
struct Link {
    name_server: String,
    client: Client,
    registrant: Registrant,
    period: Duration,
    timeout: Duration,
    announcements: Announcements,
    connection_ended: Arc<Notify>,
    told: watch::Sender<Told>,
    /// For logging changes only; `None`: not tried yet.
    standing: Option<Standing>,
    /// It takes topics that changed without the others.
    takes_changes: bool,
    /// When all topics are to be told again.
    all_due: Instant,
}

/// What is to be told next.
struct Next {
    announcement: Arc<Announcement>,
    /// Topics that changed since what it has, where they are all there is to say.
    changed: Option<Vec<Arc<Topic>>>,
}

/// What became of the last registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Registered,
    Fenced,
    Failed,
}

/// Why a name server does not have what it was told.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{remark} (code {code})")]
    Refused { code: ResponseCode, remark: String },
    #[error("it knows a newer leader of this group")]
    Fenced,
}

impl Link {
    async fn run(mut self, stop: CancellationToken) {
        // Dropping the loop drops a call under way, which is then answered to nobody.
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.keep_registered() => return,
        }
        self.say_goodbye().await;
    }

    /// Leaves the routes, if this broker is in them.
    async fn say_goodbye(&mut self) {
        let last = self.told.borrow().announced.clone();
        if let Some(last) = last {
            let farewell = self.registrant.farewell(last.broker_id);
            if let Err(error) = self.client.call(&self.name_server, farewell, FAREWELL).await {
                debug!(name_server = self.name_server, %error, "no answer to the goodbye");
            }
        }
        self.told.send_if_modified(|told| told.announced.take().is_some());
    }

    /// Ends when nothing will ever be announced again.
    async fn keep_registered(&mut self) {
        let (mut retry, mut next) = (RETRY.0, None);
        loop {
            let all = || Some(Next { announcement: self.newest()?, changed: None });
            let Some(now) = next.take().or_else(all) else {
                // Nobody is to come here any more: it left its group.
                self.say_goodbye().await;
                if self.announcements.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let current = &now.announcement;
            match self.register(&now).await {
                None => retry = RETRY.0, // the role has changed meanwhile
                Some(Ok(ordered_topics)) => {
                    retry = RETRY.0;
                    if now.changed.is_none() {
                        self.all_due = Instant::now() + self.period;
                    }
                    self.note_registered(current);
                    self.told
                        .send_replace(Told { announced: Some(current.clone()), ordered_topics });
                    next = self.stay_registered(current).await;
                }
                Some(Err(failure)) => {
                    self.note_failure(&failure);
                    tokio::select! {
                        () = sleep(retry) => retry = (retry * 2).min(RETRY.1),
                        () = role_changed(&mut self.announcements, current) => retry = RETRY.0,
                    }
                }
            }
        }
    }

    /// Sends one registration. `None`: given up, because the role has changed. Requests of one
    /// connection are taken in order, so what was sent cannot overtake what follows.
    async fn register(&mut self, next: &Next) -> Option<Result<Option<BTreeSet<String>>, Failure>> {
        let current = &next.announcement;
        let request = match &next.changed {
            Some(changed) => current.changes(&self.registrant, changed),
            None => current.request(&self.registrant),
        };
        let call = self.client.call(&self.name_server, request, self.timeout);
        let answer = tokio::select! {
            answer = call => answer,
            () = role_changed(&mut self.announcements, current) => return None,
        };
        Some(answer.map_err(Failure::from).and_then(|answer| {
            self.takes_changes = says_entered(&answer);
            read_answer(&answer)
        }))
    }

    /// Returns when it is time to register again. `None`: with all topics, as they are then.
    async fn stay_registered(&mut self, current: &Arc<Announcement>) -> Option<Next> {
        let registered = Instant::now();
        let mut next_heartbeat = registered + HEARTBEAT;
        loop {
            if !is_current(&self.announcements, current) {
                let next = self.changes_since(current);
                if next.is_none() {
                    tokio::select! {
                        () = sleep_until(registered + GATHER) => {}
                        () = role_changed(&mut self.announcements, current) => {}
                    }
                }
                return next;
            }
            // All cancel-safe: nothing is taken out of anything before a branch is chosen.
            tokio::select! {
                changed = self.announcements.changed() => if changed.is_err() {
                    // Nothing new will come; what there is stays announced.
                    sleep_until(next_heartbeat).await;
                },
                () = self.connection_ended.notified() => return None,
                () = sleep_until(self.all_due) => return None,
                () = sleep_until(next_heartbeat) => {
                    if !self.is_known(current).await {
                        return None;
                    }
                    next_heartbeat = Instant::now() + HEARTBEAT;
                }
            }
        }
    }

    /// What is new since `told`, if the name server can do with that.
    fn changes_since(&mut self, told: &Announcement) -> Option<Next> {
        if !self.takes_changes || self.all_due <= Instant::now() {
            return None;
        }
        let announcement = self.newest()?;
        let changed = Some(announcement.changes_since(told)?);
        Some(Next { announcement, changed })
    }

    /// What there is to announce, seen from now on.
    fn newest(&mut self) -> Option<Arc<Announcement>> {
        self.announcements.borrow_and_update().clone()
    }

    /// Sends one heartbeat. A name server that has none (4.x) says so, which is a sign of life.
    async fn is_known(&mut self, current: &Arc<Announcement>) -> bool {
        let heartbeat = self.registrant.heartbeat();
        let call = self.client.call(&self.name_server, heartbeat, HEARTBEAT_ANSWER);
        let answer = tokio::select! {
            answer = call => answer,
            () = role_changed(&mut self.announcements, current) => return false,
        };
        match answer {
            Ok(answer) => !says_unknown(&answer),
            Err(error) => {
                debug!(name_server = self.name_server, %error, "no answer to a heartbeat");
                false
            }
        }
    }

    fn note_registered(&mut self, current: &Announcement) {
        let (name_server, broker_id, term) = (&self.name_server, current.broker_id, current.term);
        let before = self.told.borrow().announced.as_ref().map(|before| before.broker_id);
        if self.standing != Some(Standing::Registered) || before != Some(broker_id) {
            info!(name_server, %broker_id, %term, "registered");
        }
        self.standing = Some(Standing::Registered);
    }

    /// To be fenced is how a failover looks to the leader that was, until it hears of it.
    fn note_failure(&mut self, failure: &Failure) {
        let name_server = &self.name_server;
        let standing = match failure {
            Failure::Fenced => Standing::Fenced,
            Failure::Call(_) | Failure::Refused { .. } => Standing::Failed,
        };
        if self.standing.replace(standing) != Some(standing) {
            match failure {
                Failure::Fenced => info!(name_server, "not registered: {failure}"),
                Failure::Call(_) | Failure::Refused { .. } => {
                    warn!(name_server, error = %failure, "cannot register; retrying");
                }
            }
        }
        self.told.send_if_modified(|told| told.announced.take().is_some());
    }
}

fn read_answer(answer: &RemotingCommand) -> Result<Option<BTreeSet<String>>, Failure> {
    if answer.response_code() != ResponseCode::SUCCESS {
        let remark = answer.remark.clone().unwrap_or_default();
        return Err(Failure::Refused { code: answer.response_code(), remark });
    }
    if says_unknown(answer) { Err(Failure::Fenced) } else { Ok(ordered_topics(answer)) }
}

/// Whether `current` is what is announced now.
fn is_current(announcements: &Announcements, current: &Arc<Announcement>) -> bool {
    announcements.borrow().as_ref().is_some_and(|newest| Arc::ptr_eq(newest, current))
}

/// Waits until another role than that of `current` is announced.
async fn role_changed(announcements: &mut Announcements, current: &Announcement) {
    let other = |newest: &Option<Arc<Announcement>>| {
        newest.as_ref().is_none_or(|newest| !newest.same_role(current))
    };
    if announcements.wait_for(other).await.is_err() {
        std::future::pending::<()>().await; // nobody announces any more: the role stays
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_ordered_if_any_name_server_says_so() {
        let told = |topics: Option<&[&str]>| {
            let ordered_topics = topics.map(|t| t.iter().map(|t| (*t).to_owned()).collect());
            watch::channel(Told { ordered_topics, ..Told::default() }).1
        };
        let rows: [[Option<&[&str]>; 3]; 4] = [
            [None, None, None],
            [None, Some(&[]), Some(&[])],
            [Some(&["T"]), None, Some(&["T"])],
            [Some(&["T"]), Some(&["U", "T"]), Some(&["T", "U"])],
        ];
        for [one, other, want] in rows {
            let progress = Progress(Arc::new(BTreeMap::from([
                ("a:1".to_owned(), told(one)),
                ("b:1".to_owned(), told(other)),
            ])));
            let want = want.map(|t| t.iter().map(|t| (*t).to_owned()).collect());
            assert_eq!(progress.ordered_topics(), want);
        }
    }
}
