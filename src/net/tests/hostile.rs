//! Peers that do not behave, and HTTP.

use super::*;

fn frame_of(length: u32, rest: &[u8]) -> Vec<u8> {
    [&length.to_be_bytes(), rest].concat()
}

#[tokio::test]
async fn bytes_that_are_no_frame_close_their_connection_and_no_other() {
    let running = run(ServerOptions::default());
    let mut other = Peer::connect(running.address).await;
    let rows: [(&str, Vec<u8>); 10] = [
        ("no room for a header length", frame_of(0, &[])),
        ("three bytes", frame_of(3, &[0; 3])),
        ("negative", frame_of(u32::MAX, &[0; 64])),
        ("one over the limit", frame_of(16 * 1024 * 1024 + 1, &[0; 64])),
        ("header longer than the frame", frame_of(8, &[0, 0, 0, 100, 0, 0, 0, 0])),
        ("longest header", frame_of(8, &[0, 0xff, 0xff, 0xff, 0, 0, 0, 0])),
        ("unknown encoding", frame_of(8, &[9, 0, 0, 4, b'{', b'}', b' ', b' '])),
        ("no JSON", frame_of(8, &[0, 0, 0, 4, b'{', b'{', b'{', b'{'])),
        ("binary with a negative length", {
            let header =
                [0, 10, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
            frame_of(4 + 21, &[&[1, 0, 0, 21], header.as_slice()].concat())
        }),
        ("TLS hello", vec![0x16, 3, 1, 2, 0, 1, 0, 1]),
    ];
    let wrong = rows.len() as u64;
    for (opaque, (what, bytes)) in (1..).zip(rows) {
        let mut peer = Peer::connect(running.address).await;
        peer.send_bytes(&bytes).await;
        peer.assert_closed(what).await;
        other.assert_works(opaque).await;
    }
    let counters = running.server.counters();
    eventually("all are counted", || count(&counters.decode_errors) == wrong).await;
    assert_eq!(running.server.connections(), 1);
}

#[tokio::test]
async fn garbage_after_good_requests_ends_the_connection_after_them() {
    let running = run(ServerOptions::default());
    let mut peer = Peer::connect(running.address).await;
    peer.assert_works(1).await;
    peer.send_bytes(&frame_of(u32::MAX, &[])).await;
    peer.assert_closed("garbage").await;
    eventually("the handler hears of the end", || running.script.closed.lock().len() == 1).await;
}

#[tokio::test]
async fn too_many_connections_are_refused_until_others_end() {
    let running = run(ServerOptions { connections_max: 2, ..ServerOptions::default() });
    let mut first = Peer::connect(running.address).await;
    first.assert_works(1).await;
    let mut second = Peer::connect(running.address).await;
    second.assert_works(1).await;
    Peer::connect(running.address).await.assert_closed("a third").await;
    let counters = running.server.counters();
    assert_eq!((count(&counters.accepted), count(&counters.refused)), (2, 1));
    drop(first);
    eventually("there is room", || running.server.connections() == 1).await;
    Peer::connect(running.address).await.assert_works(1).await;
    second.assert_works(2).await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_bounded_and_closed() {
    let running = run(ServerOptions {
        unsent_bytes_max: 1024 * 1024,
        slow_reader: Duration::from_millis(300),
        ..ServerOptions::default()
    });
    let mut other = Peer::connect(running.address).await;
    let mut peer = Peer::connect(running.address).await;
    let burst: Vec<u8> = (0..1000).flat_map(|n| bytes_of(&request(BIG, n))).collect();
    peer.send_bytes(&burst).await;
    let counters = running.server.counters();
    eventually("it is closed", || count(&counters.timed_out) == 1).await;
    // 250 MiB were asked for: the limit, one more answer, and what the kernel's buffers take.
    assert!(running.script.taken() < 120, "{} requests taken", running.script.taken());
    other.assert_works(1).await;
}

#[tokio::test]
async fn a_slow_reader_gets_everything_in_the_end() {
    let running = run(ServerOptions { unsent_bytes_max: 600_000, ..ServerOptions::default() });
    let mut peer = Peer::connect(running.address).await;
    let burst: Vec<u8> = (0..200).flat_map(|n| bytes_of(&request(BIG, n))).collect();
    peer.send_bytes(&burst).await;
    eventually("the server is at work", || running.script.taken() > 2).await;
    for opaque in 0..200 {
        let answer = peer.receive().await.unwrap();
        assert_eq!(answer.opaque, opaque);
        assert!(is_big(&answer.body));
    }
}

struct Page;

impl HttpHandler for Page {
    fn get(&self, path: &str) -> HttpResponse {
        let (status, body) = if path == "/metrics" { (200, "rmq_up 1\n") } else { (404, "no\n") };
        HttpResponse {
            status,
            content_type: "text/plain",
            body: Bytes::from_static(body.as_bytes()),
        }
    }
}

/// Everything the server says to `request` until it closes.
async fn http(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut all = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await;
    drop(read.expect("the server closes")); // a reset is an end, too
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn http_is_answered_on_the_same_port() {
    let plain_http: Option<Arc<dyn HttpHandler>> = Some(Arc::new(Page));
    let running = run(ServerOptions { plain_http, ..ServerOptions::default() });
    let mut other = Peer::connect(running.address).await;
    let rows: [(&[u8], &str, &str); 5] = [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK", "\r\n\r\nrmq_up 1\n"),
        (b"GET /metrics?name=x HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK", "\r\n\r\nrmq_up 1\n"),
        (b"GET /else HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404", "\r\n\r\nno\n"),
        (b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK", "\r\n\r\n"),
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "", ""),
    ];
    for (request, begins, ends) in rows {
        let text = http(running.address, request).await;
        assert!(text.starts_with(begins), "{text}");
        assert!(text.ends_with(ends), "{text}");
    }
    let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 64 * 1024]].concat();
    let text = http(running.address, &endless).await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{text}");
    other.assert_works(1).await;
    let closed = || running.script.closed.lock().len();
    eventually("only the POST, which could have been frames, has ended", || closed() == 1).await;
}

#[tokio::test]
async fn http_is_closed_when_nobody_answers_it_or_it_takes_too_long() {
    let running = run(ServerOptions::default());
    assert_eq!(http(running.address, b"GET /metrics HTTP/1.1\r\n\r\n").await, "");
    let plain_http: Option<Arc<dyn HttpHandler>> = Some(Arc::new(Page));
    let http_time = Duration::from_millis(50);
    let running = run(ServerOptions { plain_http, http_time, ..ServerOptions::default() });
    assert_eq!(http(running.address, b"GET /metrics HTTP/1.1\r\n").await, "");
}

#[tokio::test]
async fn half_sent_frames_are_bounded_together_and_stop_nobody_else() {
    const MIB: usize = 1024 * 1024;
    let unfinished_bytes_max = 10 * MIB;
    let running = run(ServerOptions { unfinished_bytes_max, ..ServerOptions::default() });
    let counters = Arc::clone(running.server.counters());
    let mut resting = Peer::connect(running.address).await;
    resting.assert_works(1).await;
    let before = anonymous_bytes();
    let half = frame_of(16 * MIB as u32, &vec![7; 4 * MIB - 4]);
    let mut peers = Vec::new();
    for opaque in 0..100 {
        let mut peer = Peer::connect(running.address).await;
        peer.send_bytes(&half).await;
        peers.push(peer);
        resting.assert_works(opaque).await;
        let held = count(&counters.unfinished_bytes);
        assert!(held <= unfinished_bytes_max as u64, "{held} bytes");
    }
    eventually("two are left", || count(&counters.crowded_out) == 98).await;
    peers[0].assert_closed("the oldest").await;
    let grown = anonymous_bytes().saturating_sub(before);
    // Other tests of this process allocate at the same time, hence the margin.
    assert!(grown < 150 * MIB as u64, "{grown} bytes for 400 MiB sent");

    let mut honest = Peer::connect(running.address).await;
    let body = vec![5; 8 * MIB];
    honest.send_bytes(&bytes_of(&RemotingCommand::request(ECHO).with_body(body.clone()))).await;
    assert!(honest.receive().await.expect("an answer").body == body);
    eventually("there was room for it", || count(&counters.crowded_out) > 98).await;
    drop(peers);
    eventually("nothing is unfinished", || count(&counters.unfinished_bytes) == 0).await;
}

#[tokio::test]
async fn requests_that_wait_are_bounded_together() {
    const MIB: usize = 1024 * 1024;
    let unfinished_bytes_max = 10 * MIB;
    let running = run(ServerOptions { unfinished_bytes_max, ..ServerOptions::default() });
    let counters = Arc::clone(running.server.counters());
    let mut other = Peer::connect(running.address).await;
    let waiting = bytes_of(&RemotingCommand::request(ORDERED).with_body(vec![7; 4 * MIB]));
    let mut peers = Vec::new();
    for opaque in 0..20 {
        let mut peer = Peer::connect(running.address).await;
        peer.send_bytes(&waiting).await;
        peers.push(peer);
        eventually("its handler waits", || running.script.taken() == 2 * opaque + 1).await;
        other.assert_works(opaque as i32).await;
        let held = count(&counters.unfinished_bytes);
        assert!(held <= unfinished_bytes_max as u64, "{held} bytes");
    }
    eventually("two are left", || count(&counters.crowded_out) == 18).await;
    peers[0].assert_closed("the oldest").await;
    running.script.permits.0.add_permits(2);
    for peer in &mut peers[18..] {
        assert_eq!(peer.receive().await.expect("an answer").body.len(), 4 * MIB);
    }
    eventually("nothing waits", || count(&counters.unfinished_bytes) == 0).await;
}

/// A peer whose socket takes little before its kernel says stop.
async fn tight_peer(address: SocketAddr) -> Peer {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    Peer { stream: socket.connect(address).await.unwrap(), buffer: BytesMut::new() }
}

#[tokio::test]
async fn answers_that_nobody_reads_are_bounded_together_and_stop_nobody_else() {
    const MIB: usize = 1024 * 1024;
    let all_unsent_bytes_max = 30 * MIB;
    let running = run(ServerOptions { all_unsent_bytes_max, ..ServerOptions::default() });
    let counters = Arc::clone(running.server.counters());
    let mut other = Peer::connect(running.address).await;
    let request = bytes_of(&RemotingCommand::request(ECHO).with_body(vec![7; 7 * MIB]));
    let mut peers = Vec::new();
    for opaque in 0..20 {
        let mut peer = tight_peer(running.address).await;
        peer.send_bytes(&request).await;
        peers.push(peer);
        eventually("it is answered", || running.script.taken() == 2 * opaque + 1).await;
        other.assert_works(opaque as i32).await;
    }
    eventually("four are left", || count(&counters.crowded_out) == 16).await;
    let held = || count(&counters.unsent_bytes);
    eventually("the others' memory is free", || held() <= all_unsent_bytes_max as u64).await;
    assert!(held() > 0);
    let mut reading = 0;
    for peer in &mut peers {
        reading += usize::from(peer.receive().await.is_some_and(|a| a.body.len() == 7 * MIB));
    }
    assert_eq!(reading, 4, "those who were not ended get their answers");
    eventually("nothing is unsent", || held() == 0).await;
}

#[tokio::test]
async fn a_server_may_take_smaller_frames_only() {
    let running = run(ServerOptions { frame_bytes_max: 1000, ..ServerOptions::default() });
    let mut peer = Peer::connect(running.address).await;
    peer.assert_works(1).await;
    peer.send_bytes(&frame_of(1001, &[])).await;
    peer.assert_closed("one byte too long").await;
}
