//! A group of three in one process, registered with a name server that says yes to everything.

use super::clients::heartbeat;
use std::collections::BTreeSet;
use std::sync::mpsc;

use super::*;
use crate::ids::BrokerId;
use crate::net::{self, ReplyTo, Server, ServerOptions};
use crate::protocol::bodies::{self, ConsumerList};
use crate::protocol::codes::ResponseCode;

struct Yes;

impl Handler for Yes {
    fn handle(&self, connection: &Arc<Connection>, request: RemotingCommand) -> Handled {
        let yes = RemotingCommand::response(ResponseCode::SUCCESS);
        ReplyTo::new(connection, &request).answer(yes);
        Handled::Done
    }

    fn closed(&self, _: &Arc<Connection>) {}
}

/// The id of the member at that place in the list.
fn follower_id(place: usize) -> BrokerId {
    BrokerId(place as u64 + 1)
}

pub(super) struct Trio {
    members: [Option<Deployed>; 3],
    name_server: Server,
    /// Why a member's process would have ended.
    pub(super) ended: mpsc::Receiver<String>,
}

impl Trio {
    /// Three members of which two follow and offer to serve readers.
    pub(super) async fn deploy() -> Self {
        Self::deploy_where(Duration::ZERO).await
    }

    /// Clients know who is in routes after `routes_known_after`.
    async fn deploy_where(routes_known_after: Duration) -> Self {
        let port = net::listen((std::net::Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let name_server = port.local_addr().unwrap();
        let yes = Server::start(vec![port], Arc::new(Yes), ServerOptions::default()).unwrap();
        let peers: Vec<String> =
            (0..3).map(|n| format!("n{n}-127.0.0.1:{}", free_port())).collect();
        let peers = peers.join(";");
        let (ends, ended) = mpsc::channel();
        let start = |n: usize| {
            let settings = format!(
                "enableDLegerCommitLog=true\ndLegerGroup=B\ndLegerPeers={peers}\n\
                 dLegerSelfId=n{n}\nnamesrvAddr={name_server}\n"
            );
            let ends = ends.clone();
            let end = Box::new(move |why: &str| ends.send(format!("n{n}: {why}")).unwrap());
            let surroundings = Surroundings { memory_bytes: 1 << 30, routes_known_after, end };
            async move { Some(boot(TempDir::new().unwrap(), &settings, surroundings).await) }
        };
        let (n0, n1, n2) = tokio::join!(start(0), start(1), start(2));
        let trio = Self { members: [n0, n1, n2], name_server: yes, ended };
        trio.until_followers_serve(2).await;
        trio
    }

    pub(super) fn running(&self) -> impl Iterator<Item = (u64, &Deployed)> {
        let all = self.members.iter().enumerate();
        all.filter_map(|(n, member)| Some((follower_id(n).0, member.as_ref()?)))
    }

    fn find_leader(&self) -> Option<(u64, &Deployed)> {
        self.running().find(|(_, member)| member.running.broker().is_leader())
    }

    pub(super) fn leader(&self) -> &Deployed {
        self.find_leader().unwrap().1
    }

    /// Those that follow, with their ids.
    pub(super) fn followers(&self) -> Vec<(u64, &Deployed)> {
        let leader = self.find_leader().unwrap().0;
        self.running().filter(|(id, _)| *id != leader).collect()
    }

    async fn until_followers_serve(&self, count: usize) {
        let served = || {
            let (_, leader) = self.find_leader()?;
            let status = leader.running.broker().group.status();
            Some(status.peers.iter().filter(|peer| peer.serves_readers).count())
        };
        until(|| served() == Some(count)).await;
    }

    /// Ends it, and says as which follower it was known.
    async fn stop_leader(&mut self) -> u64 {
        let (id, _) = self.find_leader().unwrap();
        self.members[id as usize - 1].take().unwrap().stop().await;
        id
    }

    pub(super) async fn stop(self) {
        for member in self.members.into_iter().flatten() {
            member.stop().await;
        }
        self.name_server.stop(Duration::ZERO).await;
    }
}

fn suggested(answer: &RemotingCommand) -> u64 {
    answer.ext.required("suggestWhichBrokerId").unwrap()
}

/// Push consumers say what they subscribe to with heartbeats, to every member.
async fn beat(trio: &Trio) {
    for (_, member) in trio.running() {
        until(|| member.running.broker().tables().topic("T").is_some()).await;
        assert_eq!(member.call(heartbeat("c", "T", 0)).await.code, 0);
    }
}

/// A pull of a push consumer that may be held for a minute.
fn holding(queue_id: i32, offset: i64) -> RemotingCommand {
    PullRequest {
        queue_id,
        sys_flag: flag::SUSPEND,
        suspend_timeout_millis: 60_000,
        ..pull_header("T", offset, "*")
    }
    .request(RequestCode::PULL_MESSAGE)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_sends_consumers_to_followers_evenly_and_those_keep_them() {
    let trio = Trio::deploy().await;
    let leader = trio.leader();
    leader.create_topic("T", 4).await;
    beat(&trio).await;
    let ids: Vec<u64> = trio.followers().iter().map(|(id, _)| *id).collect();
    let mut told = Vec::new();
    for queue_id in 0..4 {
        // Nothing is there, and it is not held.
        let answer = leader.call(holding(queue_id, 0)).await;
        assert_eq!(answer.code, 19);
        told.push(suggested(&answer));
        leader.send("T", queue_id, "x", "m").await;
    }
    assert_eq!(BTreeSet::from_iter(told.clone()), BTreeSet::from_iter(ids.clone()));
    assert_eq!((told[0], told[1]), (told[2], told[3]), "evenly");
    for (round, (id, follower)) in trio.followers().into_iter().enumerate() {
        let end = |queue_id| follower.running.broker().group.queues().next("T", queue_id).0;
        until(|| (end(0), end(3)) == (1 + round as u64, 1)).await;
        let answer = follower.call(pull("T", 0)).await;
        assert_eq!((texts(&answer).len(), suggested(&answer)), (1 + round, id));
        let held = follower.call(holding(0, 1 + round as i64));
        let sending = async {
            until(|| follower.running.broker().wakeups.held() == 1).await;
            leader.send("T", 0, "x", "new").await;
        };
        let (answer, ()) = tokio::join!(held, sending);
        assert_eq!((answer.code, suggested(&answer)), (0, id));
        assert_eq!(texts(&answer)[0], "new");
    }
    let off = request(RequestCode::UPDATE_BROKER_CONFIG, &[]).with_body("readFromFollowers=false");
    assert_eq!(leader.call(off).await.code, 0);
    for (_, member) in trio.running() {
        let answers = || async { suggested(&member.call(pull("T", 0)).await) == 0 };
        let all = async { while !answers().await {} };
        tokio::time::timeout(WITHIN, all).await.expect("nobody is sent anywhere");
    }
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_goes_consumers_of_followers_read_on_and_its_own_move() {
    // Long enough for the next leader to be a new one while it is asked.
    let mut trio = Trio::deploy_where(Duration::from_secs(2)).await;
    trio.leader().create_topic("T", 1).await;
    let followers = trio.followers();
    beat(&trio).await;
    let call = |to: &Deployed, pull: RemotingCommand| {
        let (client, address) = (to.client.clone(), to.address.clone());
        tokio::spawn(async move { client.call(&address, pull, WITHIN).await.unwrap() })
    };
    let reading: Vec<_> = followers.iter().map(|(_, f)| call(f, holding(0, 0))).collect();
    let leader = trio.leader();
    let away = suggested(&leader.call(holding(0, 0)).await);
    let own = call(leader, holding(0, 0));
    for (_, member) in trio.running() {
        until(|| member.running.broker().wakeups.held() == 1).await;
    }
    let gone = trio.stop_leader().await;
    let moved = own.await.unwrap();
    assert_eq!((moved.code, suggested(&moved)), (19, away));
    until(|| trio.find_leader().is_some()).await;
    trio.leader().send("T", 0, "x", "next").await;
    for answer in reading {
        let answer = answer.await.unwrap();
        assert_eq!(texts(&answer), ["next"]);
        assert!(
            ![0, gone].contains(&suggested(&answer)),
            "consumers do not have its successor yet"
        );
    }

    let (id, _) = trio.followers()[0];
    let follower = trio.members[id as usize - 1].take().unwrap();
    let held = call(&follower, holding(0, 1));
    until(|| follower.running.broker().wakeups.held() == 1).await;
    follower.stop().await;
    let answer = held.await.unwrap();
    assert_eq!((answer.code, suggested(&answer)), (19, 0), "a follower that stops");
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_send_consumers_back_and_tell_resets_once_by_what_everybody_was_told() {
    let trio = Trio::deploy().await;
    let leader = trio.leader();
    leader.create_topic("T", 1).await;
    beat(&trio).await;
    for body in ["m0", "m1", "m2"] {
        leader.send("T", 0, "x", body).await;
    }
    assert_eq!(leader.call(pull("T", 3)).await.code, 19, "the group is there");
    let followers = trio.followers();
    let ((first_id, first), (_, second)) = (followers[0], followers[1]);
    let beyond = first.call(holding(0, 7)).await;
    let next = |answer: &RemotingCommand| answer.ext.required::<i64>("nextBeginOffset").unwrap();
    assert_eq!((beyond.code, next(&beyond), suggested(&beyond)), (21, 3, first_id));
    let held = first.call(holding(0, 3));
    let resetting = async {
        until(|| first.running.broker().wakeups.held() == 1).await;
        let fields = [
            ("topic", "T"),
            ("group", "g"),
            ("timestamp", "-1"),
            ("isForce", "true"),
            ("queueId", "0"),
            ("offset", "1"),
        ];
        assert_eq!(second.ask(RequestCode::INVOKE_BROKER_TO_RESET_OFFSET, &fields).await.code, 0);
    };
    let (answer, ()) = tokio::join!(held, resetting);
    assert_eq!((answer.code, remark(&answer), next(&answer)), (21, "OFFSET_RESET", 1));
    for (_, member) in trio.running() {
        assert_eq!(texts(&member.call(pull("T", 1)).await), ["m1", "m2"], "told once");
    }
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_that_ask_the_leader_and_a_follower_see_nothing_twice() {
    let trio = Trio::deploy().await;
    let leader = trio.leader();
    leader.create_topic("T", 1).await;
    assert_eq!(leader.call(send("T", 0, "KEYS\x01k\x02", "m")).await.code, 0);
    let end = i64::MAX.to_string();
    let fields = [
        ("topic", "T"),
        ("group", "g"),
        ("key", "k"),
        ("maxNum", "9"),
        ("beginTimestamp", "0"),
        ("endTimestamp", &end),
    ];
    let of_any = fields.iter().copied().chain([("anyMember", "true")]).collect::<Vec<_>>();
    for (_, member) in trio.running() {
        until(|| member.running.broker().group.queues().next("T", 0).0 == 1).await;
        let leads = member.running.broker().is_leader();
        let found = member.ask(RequestCode::QUERY_MESSAGE, &fields).await;
        assert_eq!((found.code, texts(&found).len()), if leads { (0, 1) } else { (22, 0) });
        assert_eq!(texts(&member.ask(RequestCode::QUERY_MESSAGE, &of_any).await), ["m"]);
        for code in [RequestCode::GET_TOPIC_STATS_INFO, RequestCode::QUERY_CONSUME_TIME_SPAN] {
            let has_queue = |answer: &RemotingCommand| {
                assert_eq!(answer.code, 0, "{answer:?}");
                String::from_utf8_lossy(&answer.body).contains("queueId")
            };
            assert_eq!(has_queue(&member.ask(code, &fields).await), leads, "{code}");
            assert!(has_queue(&member.ask(code, &of_any).await), "{code}");
        }
    }
    let counted = |member: &Deployed| member.running.broker().stats.totals().put;
    let total = || trio.running().map(|(_, member)| counted(member)).sum::<u64>();
    let before = total();
    for (_, member) in trio.running() {
        let own = counted(member);
        member.send("T", 0, "x", "m").await;
        assert_eq!(counted(member), own + 1, "where it came in");
    }
    assert_eq!(total(), before + 3, "once each");
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_whose_heartbeat_a_follower_missed_reads_at_the_leader_until_the_next() {
    let trio = Trio::deploy().await;
    let leader = trio.leader();
    leader.create_topic("T", 1).await;
    let (id, follower) = trio.followers()[0];
    until(|| follower.running.broker().tables().topic("T").is_some()).await;
    let answer = follower.call(holding(0, 0)).await;
    assert_eq!((answer.code, suggested(&answer)), (20, 0));
    assert_eq!(answer.ext.get("nextBeginOffset"), Some("0"));
    let spins = follower.call(holding(0, 0)).await;
    assert_eq!(spins.code, 24, "who takes it for the leader waits 3 s before it asks again");
    assert_eq!(leader.call(holding(0, 0)).await.code, 24, "nobody knows it");
    beat(&trio).await;
    leader.send("T", 0, "x", "m").await;
    let answer = follower.call(holding(0, 0)).await;
    assert_eq!((answer.code, suggested(&answer)), (0, id));
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_lain_in_a_connection_takes_no_offset_back_and_is_not_sent() {
    let trio = Trio::deploy().await;
    let leader = trio.leader();
    leader.create_topic("T", 1).await;
    beat(&trio).await;
    for n in 0..3 {
        assert_eq!(leader.send("T", 0, "x", "m").await, n);
    }
    let tables = || leader.running.broker().tables();
    let commit = |offset: &'static str| {
        let to = [("consumerGroup", "g"), ("topic", "T"), ("queueId", "0")];
        let request = request(RequestCode::UPDATE_CONSUMER_OFFSET, &to);
        leader.call(request.with_field("commitOffset", offset))
    };
    assert_eq!(commit("2").await.code, 0);
    let queue = "{\"brokerName\":\"B\",\"queueId\":0,\"topic\":\"T\"}";
    let locks = format!("{{\"clientId\":\"c\",\"consumerGroup\":\"g\",\"mqSet\":[{queue}]}}");
    let asks = |code| leader.call(RemotingCommand::request(code).with_body(locks.clone()));
    let holds = || tables().holds_locks("g", leader.running.broker().group.commands_ms());
    assert_eq!(asks(RequestCode::LOCK_BATCH_MQ).await.code, 0);
    leader.running.broker().suspects.note_break(crate::clock::now());
    assert_eq!(asks(RequestCode::UNLOCK_BATCH_MQ).await.code, 0);
    assert!(holds(), "it may have locked the queue again");
    for (offset, stored) in [("1", 2), ("3", 3), ("2", 3)] {
        assert_eq!(commit(offset).await.code, 0);
        assert_eq!(tables().offset("g", "T", 0), Some(stored), "{offset}");
    }
    let late = leader.client.call(&leader.address, send("T", 0, "", "late"), WITHIN).await;
    assert!(late.is_err(), "{late:?}");
    assert_eq!(leader.send("T", 0, "x", "in time").await, 3, "over another connection");
    assert_eq!(commit("1").await.code, 0);
    assert_eq!(tables().offset("g", "T", 0), Some(1), "a consumer may go back");
    assert_eq!(asks(RequestCode::UNLOCK_BATCH_MQ).await.code, 0);
    assert!(!holds());
    trio.stop().await;
}

/// Who is in group `g`, as this member says.
async fn group_at(member: &Deployed) -> Vec<String> {
    let of = [("consumerGroup", "g")];
    let answer = member.ask(RequestCode::GET_CONSUMER_LIST_BY_GROUP, &of).await;
    if answer.code != 0 {
        assert_eq!(remark(&answer), "no consumer for this group, g");
        return Vec::new();
    }
    bodies::decode::<ConsumerList>(&answer.body).unwrap().consumer_id_list
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_know_all_consumers_yet_asks_the_others() {
    let mut trio = Trio::deploy().await;
    let (_, leader) = trio.find_leader().unwrap();
    leader.create_topic("T", 1).await;
    leader.call(heartbeat("nobody", "T", 0)).await;
    let goodbye = [("clientID", "nobody"), ("producerGroup", "p"), ("consumerGroup", "g")];
    assert_eq!(leader.ask(RequestCode::UNREGISTER_CLIENT, &goodbye).await.code, 0);
    let followers = trio.followers();
    let ((_, first), (young_id, young)) = (followers[0], followers[1]);
    let mut consumers = Vec::new();
    for (member, ids) in [(leader, ["a", "b"]), (first, ["b", "c"])] {
        until(|| member.running.broker().tables().topic("%RETRY%g").is_some()).await;
        for id in ids {
            // Each over a connection of its own, by which it leaves.
            let client = Client::new(ClientOptions::default());
            let beat = client.call(&member.address, heartbeat(id, "T", 0), WITHIN).await;
            assert_eq!(beat.unwrap().code, 0);
            consumers.push(client);
        }
    }
    assert_eq!(group_at(young).await, Vec::<String>::new(), "it believes that it knows all");
    let far = crate::clock::now() + Duration::from_secs(3600);
    young.running.broker().acquaintance.note_gap(far);
    assert_eq!(group_at(young).await, ["a", "b", "c"]);
    until(|| young.running.broker().announcer.takes_writes()).await;
    assert_eq!(group_at(leader).await, ["a", "b"], "who knows all asks nobody");
    assert_eq!(young.call(heartbeat("d", "T", 0)).await.code, 0);
    assert_eq!(group_at(young).await, ["a", "b", "c", "d"]);
    consumers.pop();
    until(|| first.running.broker().consumers.read().members().of("g").count() == 1).await;
    assert_eq!(group_at(young).await, ["a", "b", "d"], "who has gone is in no list");
    trio.stop_leader().await;
    let (_, young) = trio.running().find(|(id, _)| *id == young_id).unwrap();
    assert_eq!(group_at(young).await, ["b", "d"], "as far as others are there");
    trio.stop().await;
}
