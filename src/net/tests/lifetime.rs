//! How connections end, and what they cost while they do nothing.

use super::*;
use crate::net::door::Door;
use futures_util::FutureExt as _;
use std::io::ErrorKind;

#[tokio::test]
async fn a_stop_lets_answers_out_and_takes_nothing_new() {
    let running = run(ServerOptions::default());
    let mut peer = Peer::connect(running.address).await;
    let mut resting = Peer::connect(running.address).await;
    resting.assert_works(1).await;
    peer.send(HOLD, 1).await;
    eventually("it is held", || running.script.held.lock().len() == 1).await;
    let held = running.script.held.lock().pop().unwrap();

    let (server, script) = (Arc::new(running.server), running.script);
    let stopping = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.stop(PATIENCE).await }
    });
    resting.assert_closed("nothing is owed to it").await;
    let refused = TcpStream::connect(running.address).await;
    assert!(refused.is_err(), "no longer listening");
    peer.send(ECHO, 2).await;
    assert!(!stopping.is_finished());
    held.answer(big());
    assert!(is_big(&peer.receive().await.unwrap().body));
    peer.assert_closed("all is answered").await;
    drop(peer);
    stopping.await.unwrap();
    assert_eq!((server.connections(), script.taken()), (0, 2));
    assert_eq!(script.closed.lock().len(), 2);
    server.stop(PATIENCE).await; // a second stop has nothing to do
}

#[tokio::test]
async fn a_stop_does_not_wait_longer_than_its_grace() {
    let running = run(ServerOptions::default());
    let mut peer = Peer::connect(running.address).await;
    peer.send(HOLD, 1).await;
    eventually("it is held", || running.script.held.lock().len() == 1).await;
    let stopped = running.server.stop(Duration::from_millis(50));
    tokio::time::timeout(PATIENCE / 2, stopped).await.expect("the grace is over");
    peer.assert_closed("the grace is over").await;
    assert_eq!(running.script.closed.lock().len(), 1);
}

#[tokio::test]
async fn dropping_a_server_closes_everything() {
    let running = run(ServerOptions::default());
    let mut peer = Peer::connect(running.address).await;
    peer.assert_works(1).await;
    drop(running.server);
    peer.assert_closed("the server is gone").await;
    eventually("the handler hears of the end", || running.script.closed.lock().len() == 1).await;
}

#[tokio::test]
async fn who_connects_to_a_shut_door_is_refused_until_it_opens_and_others_stay() {
    let running = run(ServerOptions::default());
    let mut before = Peer::connect(running.address).await;
    before.assert_works(1).await;
    running.server.refuse(0).await;
    for _ in 0..3 {
        assert!(TcpStream::connect(running.address).await.is_err(), "it is shut");
        running.server.refuse(0).await; // is so already
    }
    before.assert_works(2).await;
    running.server.accept(0);
    eventually("it is open", || std::net::TcpStream::connect(running.address).is_ok()).await;
    Peer::connect(running.address).await.assert_works(3).await;
    before.assert_works(4).await;

    running.server.refuse(0).await;
    running.server.stop(PATIENCE).await;
    running.server.accept(0); // a stop is the last word
    running.server.refuse(0).await;
    assert!(TcpStream::connect(running.address).await.is_err(), "it has stopped");
}

#[tokio::test]
async fn a_door_shuts_in_the_face_of_who_was_not_accepted_yet() {
    let mut door = Door::new(listen("127.0.0.1:0".parse().unwrap()).unwrap()).unwrap();
    let mut waits = TcpStream::connect(door.address()).await.unwrap();
    waits.write_all(b"old").await.unwrap();
    door.shut();
    door.open();
    let again = TcpStream::connect(door.address()).await;
    assert!(again.is_err(), "it listens from the next accept on");
    assert!(door.accept().now_or_never().is_none(), "nobody is there");
    assert_eq!(waits.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let address = door.address();
    let (accepted, new) = tokio::join!(door.accept(), TcpStream::connect(address));
    assert_eq!(accepted.unwrap().1, new.unwrap().local_addr().unwrap());
}

#[tokio::test]
async fn idle_connections_are_closed_and_busy_ones_are_not() {
    let idle = Duration::from_millis(400);
    let running = run(ServerOptions { idle, ..ServerOptions::default() });
    let mut silent = Peer::connect(running.address).await;
    silent.assert_works(1).await;
    let mut busy = Peer::connect(running.address).await;
    let closed = || running.script.closed.lock().len();
    let mut opaque = 0;
    while closed() == 0 {
        opaque += 1;
        busy.assert_works(opaque).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    silent.assert_closed("idle").await;
    busy.assert_works(opaque + 1).await;
    assert_eq!(count(&running.server.counters().timed_out), 1);
}

#[tokio::test]
async fn a_frame_must_end_in_time_and_a_first_one_must_come() {
    let frame_time = Duration::from_millis(100);
    let running = run(ServerOptions { frame_time, ..ServerOptions::default() });
    let mut resting = Peer::connect(running.address).await;
    resting.assert_works(1).await;
    Peer::connect(running.address).await.assert_closed("it never said anything").await;
    let mut dripping = Peer::connect(running.address).await;
    dripping.assert_works(1).await;
    let frame = bytes_of(&request(ECHO, 2));
    let counters = Arc::clone(running.server.counters());
    for byte in &frame[..frame.len() - 1] {
        if count(&counters.timed_out) == 2 || dripping.stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    dripping.assert_closed("one byte at a time").await;
    eventually("both are counted", || count(&counters.timed_out) == 2).await;
    resting.assert_works(2).await; // between frames there is no hurry
}

#[tokio::test]
async fn two_thousand_idle_connections_cost_little() {
    let running = run(ServerOptions::default());
    let mut peers = Vec::new();
    Peer::connect(running.address).await.assert_works(1).await;
    let before = anonymous_bytes();
    for _ in 0..2000 {
        let mut peer = Peer::connect(running.address).await;
        peer.assert_works(1).await;
        peer.buffer = BytesMut::new();
        peers.push(peer);
    }
    let each = anonymous_bytes().saturating_sub(before) / 2000;
    eventually("all are open", || running.server.connections() == 2000).await;
    // About 7 KiB. Other tests of this process allocate at the same time, hence the margin.
    assert!(each < 64 * 1024, "{each} bytes per connection");
    peers[1999].assert_works(2).await;
}

#[tokio::test]
async fn a_length_that_lies_costs_no_memory() {
    let running = run(ServerOptions::default());
    let before = anonymous_bytes();
    let mut peers = Vec::new();
    for _ in 0..500 {
        let mut peer = Peer::connect(running.address).await;
        peer.send_bytes(&[1, 0, 0, 0, 0, 0, 0, 100, b'{']).await; // 16 MiB are to come
        peers.push(peer);
    }
    let counters = running.server.counters();
    eventually("all is read", || count(&counters.bytes_in) == 500 * 9).await;
    let each = anonymous_bytes().saturating_sub(before) / 500;
    assert!(each < 256 * 1024, "{each} bytes per connection");
}
