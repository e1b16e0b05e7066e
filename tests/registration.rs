//! A broker's registration with real name servers, over loopback.
#![allow(clippy::unwrap_used)]

use std::{
    io::{self, Write},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use rmq::{
    broker::{
        announcement::{Announcement, Registrant},
        ingress::Ingress,
        registration::{Announcements, Registration, RegistrationOptions},
        topics::plain,
    },
    config::{load, settings::Inputs},
    ids::{BrokerId, Term},
    namesrv::start::{Running, start},
    net::{Client, ClientOptions},
    protocol::{
        bodies::{self, TopicRouteData},
        codes::RequestCode,
        command::RemotingCommand,
    },
};
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{Instant, sleep, timeout},
};

const SOON: Duration = Duration::from_secs(10);

fn name_server(address: SocketAddr) -> Running {
    let home = tempfile::tempdir().unwrap();
    let inputs = Inputs { home: Some(home.path().to_owned()), ..Inputs::default() };
    let mut config = load::namesrv(None, &inputs).unwrap().config;
    config.listen = address;
    start(config).unwrap()
}

fn free_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn leads(term: u64, counter: i64, topics: &[&str]) -> Option<Arc<Announcement>> {
    is(0, term, counter, topics)
}

fn is(id: u64, term: u64, counter: i64, topics: &[&str]) -> Option<Arc<Announcement>> {
    Some(Arc::new(Announcement {
        broker_id: BrokerId(id),
        term: Term(term),
        counter,
        changed_ms: 1,
        topics: topics.iter().map(|name| ((*name).into(), Arc::new(plain(name, 4, 6)))).collect(),
        permission: 6,
        ingress: Ingress::Closed,
    }))
}

fn register(name_servers: &[String], port: u16, announcements: &Announcements) -> Registration {
    let registrant = Registrant {
        cluster: "C".into(),
        group: "G".into(),
        address: format!("127.0.0.1:{port}"),
        ha_address: format!("127.0.0.1:{}", port + 1),
    };
    let options = RegistrationOptions {
        name_servers: name_servers.to_vec(),
        period: Duration::from_secs(30),
        timeout: Duration::from_secs(24),
    };
    Registration::start(&options, &registrant, announcements)
}

/// Asks one name server until its route of `topic` is as `wanted`.
async fn route_until(
    client: &Client,
    address: &str,
    topic: &str,
    wanted: impl Fn(&RemotingCommand) -> bool,
) {
    let ask = async {
        loop {
            let request = RemotingCommand::request(RequestCode::GET_ROUTEINFO_BY_TOPIC)
                .with_field("topic", topic);
            let answer = client.call(address, request, SOON).await;
            if answer.is_ok_and(|answer| wanted(&answer)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, ask).await.expect("the route does not become what it should be");
}

fn members(answer: &RemotingCommand) -> Vec<(u64, String)> {
    let route: TopicRouteData = bodies::decode(&answer.body).unwrap_or_default();
    route.broker_datas.into_iter().flat_map(|group| group.broker_addrs).collect()
}

fn has(wanted: &[(u64, u16)]) -> impl Fn(&RemotingCommand) -> bool {
    let wanted: Vec<_> =
        wanted.iter().map(|(id, port)| (*id, format!("127.0.0.1:{port}"))).collect();
    move |answer| members(answer) == wanted
}

fn missing(answer: &RemotingCommand) -> bool {
    answer.code == 17
}

#[tokio::test]
async fn every_name_server_follows_roles_and_topics_and_hears_the_goodbye() {
    let name_servers = [name_server(free_port()), name_server(free_port())];
    let addresses: Vec<_> = name_servers.iter().map(|n| n.addresses()[0].to_string()).collect();
    let client = Client::new(ClientOptions::default());
    let (n0, announced_by_n0) = watch::channel(leads(3, 1, &["T"]));
    let (n1, announced_by_n1) = watch::channel(is(2, 3, 1, &["T"]));
    let mut registration_0 = register(&addresses, 1, &announced_by_n0);
    let mut registration_1 = register(&addresses, 3, &announced_by_n1);
    for address in &addresses {
        route_until(&client, address, "T", has(&[(0, 1), (2, 3)])).await;
    }

    n0.send_replace(leads(3, 2, &["T", "U"]));
    timeout(SOON, registration_0.progress().reached(2)).await.unwrap();
    for address in &addresses {
        route_until(&client, address, "U", has(&[(0, 1), (2, 3)])).await;
    }
    n0.send_replace(leads(3, 3, &["T"]));
    for address in &addresses {
        route_until(&client, address, "U", missing).await;
    }

    // The leader changes; the old one hears of it late.
    n1.send_replace(leads(4, 3, &["T"]));
    for address in &addresses {
        route_until(&client, address, "T", has(&[(0, 3)])).await;
    }
    n0.send_replace(is(1, 4, 3, &["T"]));
    for address in &addresses {
        route_until(&client, address, "T", has(&[(0, 3), (1, 1)])).await;
    }

    // A member that leaves its group is in no route any more, until it is taken in again.
    n0.send_replace(None);
    for address in &addresses {
        route_until(&client, address, "T", has(&[(0, 3)])).await;
    }
    n0.send_replace(is(1, 4, 3, &["T"]));
    for address in &addresses {
        route_until(&client, address, "T", has(&[(0, 3), (1, 1)])).await;
    }

    registration_1.stop().await;
    for address in &addresses {
        route_until(&client, address, "T", has(&[(1, 1)])).await;
    }
    registration_0.stop().await;
    for address in &addresses {
        route_until(&client, address, "T", missing).await;
    }
}

#[tokio::test]
async fn a_follower_that_takes_writes_stands_behind_its_groups_slot_at_once() {
    let running = name_server(free_port());
    let address = running.addresses()[0].to_string();
    let client = Client::new(ClientOptions::default());
    let (_n0, by_n0) = watch::channel(leads(3, 1, &["T"]));
    let (n1, by_n1) = watch::channel(is(2, 3, 1, &["T"]));
    let _leader = register(std::slice::from_ref(&address), 1, &by_n0);
    let mut follower = register(std::slice::from_ref(&address), 3, &by_n1);
    let none = [(0, 1), (2, 3)];
    route_until(&client, &address, "T", has(&none)).await;
    let open = |announcement: Option<Arc<Announcement>>| {
        let announcement = Announcement::clone(announcement.as_ref().unwrap());
        Some(Arc::new(Announcement { ingress: Ingress::Open, ..announcement }))
    };
    n1.send_replace(open(is(2, 3, 1, &["T"])));
    route_until(&client, &address, "T", has(&[(0, 1), (2, 3), (0, 3)])).await;
    n1.send_replace(is(2, 3, 1, &["T"]));
    route_until(&client, &address, "T", has(&none)).await;
    n1.send_replace(open(is(2, 4, 1, &["T"])));
    route_until(&client, &address, "T", has(&[(0, 1), (2, 3), (0, 3)])).await;
    follower.stop().await;
    route_until(&client, &address, "T", has(&[(0, 1)])).await;
}

#[tokio::test]
async fn a_name_server_that_restarts_is_complete_within_a_second_or_two() {
    let first = name_server(free_port());
    let address = first.addresses()[0];
    let client = Client::new(ClientOptions::default());
    let (_n0, announced) = watch::channel(leads(3, 1, &["T"]));
    let _registration = register(&[address.to_string()], 1, &announced);
    route_until(&client, &address.to_string(), "T", has(&[(0, 1)])).await;

    first.stop().await;
    let restarted = Instant::now();
    let _second = name_server(address);
    route_until(&client, &address.to_string(), "T", has(&[(0, 1)])).await;
    assert!(restarted.elapsed() < Duration::from_secs(4), "{:?}", restarted.elapsed());
}

#[tokio::test]
async fn a_dead_and_a_silent_name_server_delay_nobody() {
    let good = name_server(free_port());
    let silent = TcpListener::bind(free_port()).await.unwrap(); // accepts, never answers
    let dead = {
        let listener = TcpListener::bind(free_port()).await.unwrap();
        listener.local_addr().unwrap()
    };
    let good_address = good.addresses()[0].to_string();
    let addresses =
        [dead.to_string(), silent.local_addr().unwrap().to_string(), good_address.clone()];
    let client = Client::new(ClientOptions::default());
    let (n0, announced) = watch::channel(leads(3, 1, &["T"]));
    let mut registration = register(&addresses, 1, &announced);
    route_until(&client, &good_address, "T", has(&[(0, 1)])).await;
    n0.send_replace(is(1, 4, 1, &["T"]));
    route_until(&client, &good_address, "T", has(&[(1, 1)])).await;
    timeout(Duration::from_secs(3), registration.stop()).await.unwrap();
    route_until(&client, &good_address, "T", missing).await;
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_fenced_leader_tries_again_until_it_is_right() {
    let running = name_server(free_port());
    let address = running.addresses()[0].to_string();
    let client = Client::new(ClientOptions::default());
    let (_n0, by_n0) = watch::channel(leads(5, 1, &["T"]));
    let _current = register(std::slice::from_ref(&address), 1, &by_n0);
    route_until(&client, &address, "T", has(&[(0, 1)])).await;
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _capturing = tracing::subscriber::set_default(lines); // of this thread: all tasks run here
    let (n1, by_n1) = watch::channel(leads(4, 1, &["T"]));
    let _late = register(std::slice::from_ref(&address), 3, &by_n1);
    let fenced = async {
        while !log.text().contains("it knows a newer leader of this group") {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, fenced).await.unwrap();
    assert!(!log.text().contains("WARN"), "a failover is no fault: {}", log.text());
    n1.send_replace(leads(6, 1, &["T"]));
    route_until(&client, &address, "T", has(&[(0, 3)])).await;
}
