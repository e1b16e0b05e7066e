//! Requests and answers of peers that behave.

use super::*;
use crate::net::watchdog::Fullness;

#[tokio::test]
async fn pipelined_requests_are_taken_and_answered_in_order() {
    let running = run(ServerOptions::default());
    let mut peer = Peer::connect(running.address).await;
    let burst: Vec<u8> = (0..2000).flat_map(|n| bytes_of(&request(ECHO, n))).collect();
    for part in burst.chunks(1013) {
        peer.send_bytes(part).await; // frames are cut anywhere
    }
    for opaque in 0..2000 {
        let answer = peer.receive().await.unwrap();
        assert_eq!((answer.opaque, &*answer.body), (opaque, format!("body {opaque}").as_bytes()));
    }
    let counters = running.server.counters();
    assert_eq!((count(&counters.frames_in), count(&counters.frames_out)), (2000, 2000));
    assert_eq!(count(&counters.bytes_in), burst.len() as u64);
}

#[tokio::test]
async fn a_frame_that_comes_byte_by_byte_is_a_frame() {
    let running = run(ServerOptions::default());
    let mut peer = Peer::connect(running.address).await;
    for byte in bytes_of(&request(ECHO, 7)) {
        peer.send_bytes(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(peer.receive_opaque().await, 7);
}

#[tokio::test]
async fn a_large_frame_goes_both_ways() {
    let running = run(ServerOptions::default());
    let mut peer = Peer::connect(running.address).await;
    let body = Bytes::from_iter((0..10_000_000_u32).map(|n| (n % 253) as u8));
    let mut large = request(ECHO, 1).with_body(body.clone());
    large.opaque = 1;
    peer.send_bytes(&bytes_of(&large)).await;
    assert_eq!(peer.receive().await.unwrap().body, body);
    peer.send(BIG, 2).await;
    assert!(is_big(&peer.receive().await.unwrap().body));
    peer.assert_works(3).await;
}

#[tokio::test]
async fn waiting_keeps_the_order_of_one_connection_and_holds_up_nothing_else() {
    let running = run(ServerOptions::default());
    let mut peer = Peer::connect(running.address).await;
    peer.send(HOLD, 1).await;
    peer.send(ORDERED, 2).await;
    peer.send(ECHO, 3).await;
    eventually("two requests are taken", || running.script.taken() == 2).await;

    Peer::connect(running.address).await.assert_works(1).await; // another connection goes on
    let held = running.script.held.lock().pop().unwrap();
    held.answer(echo(Bytes::new()));
    assert_eq!(peer.receive_opaque().await, 1, "answers go out meanwhile");
    assert_eq!(running.script.taken(), 3, "the waiting connection's next is not taken");

    running.script.permits.0.add_permits(1);
    assert_eq!(peer.receive_opaque().await, 2);
    assert_eq!(peer.receive_opaque().await, 3);
}

#[tokio::test]
async fn oneway_requests_are_executed_and_never_answered() {
    let running = run(ServerOptions::default());
    let mut peer = Peer::connect(running.address).await;
    let mut oneway = request(ECHO, 1);
    oneway.flag |= 2;
    peer.send_bytes(&bytes_of(&oneway)).await;
    peer.send(ECHO, 2).await;
    assert_eq!(peer.receive_opaque().await, 2);
    assert_eq!(running.script.taken(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_from_other_threads_all_arrive() {
    let running = run(ServerOptions::default());
    let mut peer = Peer::connect(running.address).await;
    for opaque in 0..500 {
        peer.send(HOLD, opaque).await;
    }
    eventually("all are held", || running.script.held.lock().len() == 500).await;
    let held = std::mem::take(&mut *running.script.held.lock());
    let answering = std::thread::spawn(move || {
        held.into_iter().for_each(|reply| reply.answer(echo(Bytes::new())));
    });
    for opaque in 0..500 {
        assert_eq!(peer.receive_opaque().await, opaque);
    }
    answering.join().unwrap();
}

#[tokio::test]
async fn a_lone_answer_is_on_its_way_before_the_connections_task_runs() {
    let running = run(ServerOptions::default());
    let mut peer = Peer::connect(running.address).await;
    peer.send(HOLD, 1).await;
    eventually("it is held", || running.script.held.lock().len() == 1).await;
    let reply = running.script.held.lock().pop().unwrap();
    let mut socket = peer.stream.into_std().unwrap();
    socket.set_nonblocking(false).unwrap();
    // From here on this thread, and with it the server's runtime, does nothing else.
    reply.answer_now(echo(Bytes::from_static(b"at once")));
    let mut frame = vec![0; bytes_of(&echo(Bytes::from_static(b"at once"))).len()];
    std::io::Read::read_exact(&mut socket, &mut frame).unwrap();
    assert!(frame.ends_with(b"at once"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_many_threads_to_a_peer_that_reads_late_arrive_whole() {
    let running = run(ServerOptions::default());
    let mut peer = Peer::connect(running.address).await;
    for opaque in 0..100 {
        peer.send(HOLD, opaque).await;
    }
    eventually("all are held", || running.script.held.lock().len() == 100).await;
    let answering = (0..4).map(|_| {
        let script = Arc::clone(&running.script);
        std::thread::spawn(move || {
            while let Some(reply) = { script.held.lock().pop() } {
                reply.answer_now(big());
            }
        })
    });
    answering.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
    let mut seen = vec![];
    for _ in 0..100 {
        let answer = peer.receive().await.unwrap();
        assert!(is_big(&answer.body));
        seen.push(answer.opaque);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_answer_after_the_end_is_dropped_quietly() {
    let running = run(ServerOptions::default());
    let mut peer = Peer::connect(running.address).await;
    peer.send(HOLD, 1).await;
    eventually("it is held", || running.script.held.lock().len() == 1).await;
    drop(peer);
    eventually("the handler hears of the end", || running.script.closed.lock().len() == 1).await;
    let reply = running.script.held.lock().pop().unwrap();
    assert!(reply.connection().is_closed());
    reply.answer_now(big());
}

#[tokio::test]
async fn sends_whose_answers_may_be_lost_with_their_connection_are_told() {
    let running = run(ServerOptions::default());
    let mut peer = Peer::connect(running.address).await;
    for opaque in 0..7 {
        peer.send(HOLD, opaque).await;
    }
    eventually("all are held", || running.script.held.lock().len() == 7).await;
    let mut held: Vec<_> = running.script.held.lock().drain(..).collect();
    let late = held.pop().unwrap();
    let mut reply = || held.remove(0);
    assert_eq!(reply().answer_send(stored_at(1000), true), None, "written at once");
    assert_eq!(reply().answer_send(stored_at(2000), false), None);
    assert_eq!(peer.receive().await.unwrap().opaque, 0);
    assert_eq!(peer.receive().await.unwrap().opaque, 1);
    // More than the sockets take.
    assert!((0..200).all(|_| late.connection().answer(big())));
    eventually("it is full", || late.connection().outbox().fullness() == Fullness::Over).await;
    assert_eq!(reply().answer_send(stored_at(3000), true), None, "queued");
    assert_eq!(reply().answer_send(stored_at(4000), false), None, "queued");
    assert!(running.script.unheard.lock().is_empty());
    drop(peer);
    eventually("the handler hears of the end", || running.script.closed.lock().len() == 1).await;
    let unheard = std::mem::take(&mut *running.script.unheard.lock());
    assert_eq!(unheard, [1000, 2000, 3000, 4000]);
    let lost = late.answer_send(stored_at(5000), true).unwrap();
    assert_eq!((lost.first.0, lost.messages), (5000, 2));
    assert_eq!(reply().answer_send(stored_at(6000), false).unwrap().first.0, 6000);
    assert!(running.script.unheard.lock().is_empty(), "once");
}

#[tokio::test]
async fn a_failing_handler_costs_its_connection_only() {
    let running = run(ServerOptions::default());
    let mut other = Peer::connect(running.address).await;
    other.assert_works(1).await;
    let mut peer = Peer::connect(running.address).await;
    peer.send(PANIC, 1).await;
    peer.assert_closed("its handler failed").await;
    other.assert_works(2).await;
    eventually("it is struck out", || running.server.connections() == 1).await;
    assert_eq!(running.script.closed.lock().len(), 1);
}
