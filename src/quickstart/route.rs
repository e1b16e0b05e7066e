//! Which brokers have the topic, and who leads: asked of the name servers again and again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{Error, requests};
use crate::{
    clock,
    net::Client,
    protocol::{
        bodies::{self, ClusterInfo, TopicRouteData},
        codes::ResponseCode,
        command::RemotingCommand,
        names, perm,
    },
};

/// How long a name server may take.
const ANSWER: Duration = Duration::from_secs(3);
/// Between two questions, however eager the askers.
const BREATH: Duration = Duration::from_millis(50);

/// Whoever takes writes.
pub(super) const LEADER: u64 = 0;

/// The topic's broker groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) groups: BTreeMap<String, Group>,
}

/// One broker group and its share of the topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Group {
    /// Addresses by broker id.
    pub(super) members: BTreeMap<u64, String>,
    pub(super) read_queues: u32,
    pub(super) write_queues: u32,
}

impl Route {
    fn of(answer: TopicRouteData) -> Self {
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        for broker in answer.broker_datas {
            groups.entry(broker.broker_name).or_default().members = broker.broker_addrs;
        }
        for queues in answer.queue_datas {
            let Some(group) = groups.get_mut(&queues.broker_name) else { continue };
            if perm::readable(queues.perm) {
                group.read_queues = queues.read_queue_nums;
            }
            if perm::writable(queues.perm) {
                group.write_queues = queues.write_queue_nums;
            }
        }
        Self { groups }
    }

    /// The leader's address and the queue for the `n`th try of anything: queues in turn, over all
    /// groups that have a leader.
    pub(super) fn writable_queue(&self, n: u64) -> Option<(&str, u32)> {
        let led =
            || self.groups.values().filter_map(|group| Some((group.members.get(&LEADER)?, group)));
        let all: u64 = led().map(|(_, group)| u64::from(group.write_queues)).sum();
        let mut at = n.checked_rem(all)?;
        for (leader, group) in led() {
            match u32::try_from(at).ok().filter(|queue| *queue < group.write_queues) {
                Some(queue) => return Some((leader, queue)),
                None => at -= u64::from(group.write_queues),
            }
        }
        None
    }

    /// Addresses of the leaders, for people. Behind a slot there is none.
    pub(super) fn leaders(&self) -> String {
        let groups = self.groups.iter().filter(|(name, _)| !names::is_slot(name));
        let leaders = groups.filter_map(|(_, group)| group.members.get(&LEADER));
        let text: Vec<&str> = leaders.map(String::as_str).collect();
        if text.is_empty() { "nobody".to_owned() } else { text.join(" ") }
    }
}

/// The name servers of a comma or semicolon separated list, asked one at a time.
#[derive(Clone)]
struct NameServers {
    client: Client,
    addresses: Arc<[String]>,
}

impl NameServers {
    /// The answer of the first one that gives one.
    async fn ask(&self, request: &RemotingCommand) -> Result<RemotingCommand, String> {
        let mut last = "no name server given".to_owned();
        for address in self.addresses.iter() {
            match self.client.call(address, request.clone(), ANSWER).await {
                Ok(answer) if answer.response_code() == ResponseCode::SUCCESS => return Ok(answer),
                Ok(answer) => last = refusal(address, &answer),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    }

    async fn route(&self, topic: &str) -> Result<Route, String> {
        let answer = self.ask(&requests::route(topic)).await?;
        let route: TopicRouteData = bodies::decode(&answer.body).map_err(|e| e.to_string())?;
        Ok(Route::of(route))
    }

    /// Address of any leader.
    async fn any_leader(&self) -> Result<String, String> {
        let answer = self.ask(&requests::cluster()).await?;
        let cluster: ClusterInfo = bodies::decode(&answer.body).map_err(|e| e.to_string())?;
        let mut groups = cluster.broker_addr_table.into_iter();
        groups
            .find_map(|(name, group)| {
                group.broker_addrs.get(&LEADER).filter(|_| !names::is_slot(&name)).cloned()
            })
            .ok_or_else(|| "no broker group has a leader".to_owned())
    }
}

/// What `address` said instead of yes.
pub(super) fn refusal(address: &str, answer: &RemotingCommand) -> String {
    let remark = answer.remark.as_deref().unwrap_or_default();
    format!("{address} answered {}: {remark}", answer.response_code())
}

/// The route as last heard, kept fresh by a task of its own that ends with the last handle.
#[derive(Clone)]
pub(super) struct Routes {
    route: watch::Receiver<Arc<Route>>,
    doubt: Arc<Notify>,
    _task: Arc<Stop>,
}

struct Stop(JoinHandle<()>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What there is to know about the topic.
pub(super) struct Wanted {
    pub(super) topic: String,
    /// Queues to create it with if it is not there.
    pub(super) queues: u32,
    /// How long to wait for name server, leader and topic.
    pub(super) patience: Duration,
    /// Time between two questions for the route.
    pub(super) poll: Duration,
}

impl Routes {
    /// Waits until the topic has a route, creating it if need be.
    pub(super) async fn follow(
        client: &Client,
        name_servers: &str,
        wanted: Wanted,
    ) -> Result<Self, Error> {
        let addresses = name_servers
            .split([';', ','])
            .map(|address| address.trim().to_owned())
            .filter(|address| !address.is_empty())
            .collect();
        let servers = NameServers { client: client.clone(), addresses };
        let first = found(&servers, &wanted).await?;
        let (publish, route) = watch::channel(Arc::new(first));
        let doubt = Arc::new(Notify::new());
        let asker = ask_again(servers, wanted, Arc::clone(&doubt), publish);
        let task = Arc::new(Stop(tokio::spawn(asker)));
        Ok(Self { route, doubt, _task: task })
    }

    /// A route without brokers that never changes.
    #[cfg(test)]
    pub(super) fn leading_nowhere() -> Self {
        let (publish, route) = watch::channel(Arc::default());
        let task = tokio::spawn(async move { publish.closed().await });
        Self { route, doubt: Arc::default(), _task: Arc::new(Stop(task)) }
    }

    /// The route as last heard.
    pub(super) fn current(&self) -> Arc<Route> {
        Arc::clone(&self.route.borrow())
    }

    /// Something did not answer as it should: ask soon.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Ends when another route is heard, or after `limit`.
    pub(super) async fn changed(&mut self, limit: Duration) {
        // An error means that the asker has gone, which only the end of the program brings about.
        let _ = timeout(limit, self.route.changed()).await;
    }
}

async fn found(servers: &NameServers, wanted: &Wanted) -> Result<Route, Error> {
    let began = clock::now();
    loop {
        let last = match servers.route(&wanted.topic).await {
            Ok(route) if route.writable_queue(0).is_some() => return Ok(route),
            Ok(_) => "nobody takes writes for it".to_owned(),
            Err(no_route) => match create(servers, wanted).await {
                Ok(()) => "just created".to_owned(),
                Err(why) => format!("{no_route}; {why}"),
            },
        };
        if clock::now() - began >= wanted.patience {
            let topic = wanted.topic.clone();
            return Err(Error::NoTopic { topic, waited_s: wanted.patience.as_secs(), last });
        }
        sleep(BREATH).await;
    }
}

async fn create(servers: &NameServers, wanted: &Wanted) -> Result<(), String> {
    let leader = servers.any_leader().await?;
    let request = requests::create_topic(&wanted.topic, wanted.queues);
    let answer = servers.client.call(&leader, request, ANSWER).await.map_err(|e| e.to_string())?;
    match answer.response_code() {
        ResponseCode::SUCCESS => Ok(()),
        _ => Err(refusal(&leader, &answer)),
    }
}

/// Asks at each poll and whenever somebody doubts; a route that cannot be had keeps the last one.
async fn ask_again(
    servers: NameServers,
    wanted: Wanted,
    doubt: Arc<Notify>,
    publish: watch::Sender<Arc<Route>>,
) {
    loop {
        // Cancel-safe: a doubt that is told meanwhile is kept for the next round.
        let _ = timeout(wanted.poll, doubt.notified()).await;
        if let Ok(route) = servers.route(&wanted.topic).await {
            publish.send_if_modified(|last| {
                let news = **last != route;
                if news {
                    *last = Arc::new(route);
                }
                news
            });
        }
        sleep(BREATH).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::bodies::{BrokerData, QueueData};

    fn broker(name: &str, members: &[(u64, &str)]) -> BrokerData {
        BrokerData {
            broker_name: name.to_owned(),
            broker_addrs: members.iter().map(|(id, at)| (*id, (*at).to_owned())).collect(),
            ..BrokerData::default()
        }
    }

    fn queues(name: &str, perm: u32, queues: u32) -> QueueData {
        QueueData {
            broker_name: name.to_owned(),
            perm,
            read_queue_nums: queues,
            write_queue_nums: queues,
            ..QueueData::default()
        }
    }

    #[test]
    fn queues_are_taken_in_turn_over_all_groups_with_a_leader() {
        let route = Route::of(TopicRouteData {
            broker_datas: vec![
                broker("a", &[(0, "a0"), (1, "a1")]),
                broker("b", &[(1, "b1")]), // no leader
                broker("c", &[(0, "c0")]),
                broker("d", &[(0, "d0")]), // read only
            ],
            queue_datas: vec![
                queues("a", 6, 2),
                queues("b", 6, 4),
                queues("c", 6, 1),
                queues("d", 4, 8),
                queues("e", 6, 8), // a group that nobody knows
            ],
            ..TopicRouteData::default()
        });
        let taken: Vec<_> = (0..4).filter_map(|n| route.writable_queue(n)).collect();
        assert_eq!(taken, [("a0", 0), ("a0", 1), ("c0", 0), ("a0", 0)]);
        assert_eq!(route.leaders(), "a0 c0 d0");
    }

    #[test]
    fn without_a_leader_there_is_no_queue() {
        let route = Route::of(TopicRouteData {
            broker_datas: vec![broker("a", &[(1, "a1"), (2, "a2")])],
            queue_datas: vec![queues("a", 6, 4)],
            ..TopicRouteData::default()
        });
        assert_eq!(route.writable_queue(3), None);
        assert_eq!(Route::default().writable_queue(0), None);
        assert_eq!(route.leaders(), "nobody");
    }
}
