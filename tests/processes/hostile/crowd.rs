//! Attacks 17 and 18: ten thousand connections that are slow, or do nothing.

use super::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const CONNECTIONS: usize = 10_000;
/// Measured: 5 to 9 KiB.
const BYTES_EACH: u64 = 24 * 1024;
/// Of connections with 8 MiB of unsent messages each: those lie in the log.
const UNSENT_BYTES: u64 = 16 << 20;
/// A busy machine's answer; a quiet one's is below a millisecond.
const P99_MAX: Duration = Duration::from_millis(500);

/// As many connections as this machine lets a process have, and the test leaves.
fn connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(1 << 20);
    // Servers inherit it.
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum }).unwrap();
    let connections = CONNECTIONS.min(usize::try_from(most).unwrap().saturating_sub(1000));
    if connections < CONNECTIONS {
        eprintln!("only {most} open files are permitted: {connections} connections");
    }
    connections
}

impl Target {
    fn connect(&self) -> TcpStream {
        TcpStream::connect(loopback(self.port)).unwrap()
    }

    /// The 99th percentile of what a client waits for that asks one thing after the other.
    async fn p99(&self, requests: usize, mut between: impl FnMut(usize)) -> Duration {
        let mut times = Vec::with_capacity(requests);
        for n in 0..requests {
            between(n);
            let asked = clock::now();
            assert_eq!(self.ask(send("T")).await.code, 0);
            times.push(asked.elapsed());
        }
        times.sort_unstable();
        times[requests * 99 / 100]
    }
}

/// The kinds of connections that begin something and do not end it.
fn half(kind: usize) -> Vec<u8> {
    let started = bytes_of(&send("T"));
    match kind % 6 {
        0 => Vec::new(),
        1 => vec![0, 0],
        2 => vec![1, 0, 0, 0, 0, 0, 0, 9, b'{'], // of 16 MiB
        3 => started[..started.len() / 2].to_vec(),
        4 => b"GET /metr".to_vec(),
        _ => vec![0x16, 3, 1, 2], // a TLS hello: closed at once
    }
}

fn bytes_of(command: &RemotingCommand) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    command.encode(&mut out);
    out.to_vec()
}

#[tokio::test]
async fn attacks_17_and_18_ten_thousand_slow_connections_cost_little_and_slow_nobody() {
    let connections = connections();
    let broker = Target::broker();
    broker.caller.first_send(broker.port, "T").await;
    let (alone, before) = (broker.p99(500, |_| ()).await, broker.memory());

    let mut slow: Vec<(TcpStream, Vec<u8>)> = Vec::with_capacity(connections);
    for kind in 0..connections {
        let mut stream = broker.connect();
        stream.write_all(&half(kind)).unwrap();
        slow.push((stream, bytes_of(&send("T"))));
    }
    // Those that sent nothing yet send a frame from now on, a byte at a time.
    let beside = broker
        .p99(500, |n| {
            for (stream, frame) in slow.iter_mut().step_by(6).skip(n % 10).step_by(10) {
                let _ = stream.write_all(&frame[n / 10..=n / 10]);
            }
        })
        .await;
    let each = broker.memory().saturating_sub(before) / connections as u64;
    eprintln!("alone {alone:?}, beside {connections} slow ones {beside:?}, {each} bytes each");
    assert!(each < BYTES_EACH, "{each} bytes for each connection");
    assert!(beside < P99_MAX, "{beside:?}, and {alone:?} alone");
    drop(slow);

    // And those that ask for messages and read nothing of them: 8 MiB wait for each.
    let message = send("Large").with_body(vec![7; 60 << 10]);
    broker.caller.first_send(broker.port, "Large").await;
    for _ in 0..8 {
        assert_eq!(broker.ask(message.clone()).await.code, 0);
    }
    let (request, before) = (bytes_of(&pull("Large")), broker.memory());
    let mut greedy = Vec::new();
    let beside = broker
        .p99(500, |n| {
            if n % 50 == 0 {
                let mut stream = broker.connect();
                stream.write_all(&request.repeat(40)).unwrap();
                greedy.push(stream);
            }
        })
        .await;
    let grown = broker.memory().saturating_sub(before);
    eprintln!("beside {} greedy ones {beside:?}, {} MiB", greedy.len(), grown >> 20);
    assert!(grown < UNSENT_BYTES, "{} MiB more", grown >> 20);
    assert!(beside < P99_MAX, "{beside:?}, and {alone:?} alone");
    broker.end();
}
