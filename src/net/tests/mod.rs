//! Real sockets on loopback. Here: a handler that does what a test asks for, and a bare peer.

mod calls;
mod hostile;
mod lifetime;
mod requests;

use super::*;
use crate::protocol::{
    codes::{RequestCode, ResponseCode},
    frame,
    headers::send::{MsgIds, SendResponse},
};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

/// Answers with the request's body.
const ECHO: RequestCode = RequestCode(9001);
/// Keeps the request until the test answers it.
const HOLD: RequestCode = RequestCode(9002);
/// Answers with [`BIG_BYTES`] in pieces.
const BIG: RequestCode = RequestCode(9003);
/// Like `ECHO`, but the connection waits until the test adds a permit.
const ORDERED: RequestCode = RequestCode(9004);
/// Asks the peer back, and answers with what the peer said, or with the error.
const ASK_BACK: RequestCode = RequestCode(9005);
/// Panics.
const PANIC: RequestCode = RequestCode(9006);

const BIG_BYTES: usize = 256 * 1024;
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Script {
    taken: AtomicUsize,
    held: Mutex<Vec<ReplyTo>>,
    closed: Mutex<Vec<ConnectionId>>,
    unheard: Mutex<Vec<u64>>,
    permits: Arc<Permits>,
}

struct Permits(Semaphore);

impl Default for Permits {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Script {
    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Handler for Script {
    fn handle(&self, connection: &Arc<Connection>, request: RemotingCommand) -> Handled {
        self.taken.fetch_add(1, Ordering::Relaxed);
        let reply = ReplyTo::new(connection, &request);
        match RequestCode(request.code) {
            ECHO => reply.answer(echo(request.body)),
            HOLD => self.held.lock().push(reply),
            BIG => reply.answer(big()),
            ORDERED => {
                let permits = Arc::clone(&self.permits);
                return Handled::Wait(Box::pin(async move {
                    permits.0.acquire().await.unwrap().forget();
                    reply.answer(echo(request.body));
                }));
            }
            ASK_BACK => drop(tokio::spawn(async move {
                let question = RemotingCommand::request(ECHO).with_body(request.body);
                let answer = reply.connection().call(question, Duration::from_secs(5)).await;
                let body = answer.map_or_else(|e| e.to_string().into(), |answer| answer.body);
                reply.answer(echo(body));
            })),
            _ => panic!("as the test wants"),
        }
        Handled::Done
    }

    fn unheard(&self, sends: VecDeque<StoredSend>) {
        assert!(sends.iter().all(|send| send.messages == 2));
        self.unheard.lock().extend(sends.iter().map(|send| send.first.0));
    }

    fn closed(&self, connection: &Arc<Connection>) {
        self.closed.lock().push(connection.id());
    }
}

fn echo(body: Bytes) -> RemotingCommand {
    RemotingCommand::response(ResponseCode::SUCCESS).with_body(body)
}

/// The answer to a send of two messages that were stored there.
fn stored_at(physical: u64) -> SendResponse {
    SendResponse {
        code: ResponseCode::SUCCESS,
        queue_id: 0,
        queue_offset: 0,
        msg_id: MsgIds {
            store_host: "127.0.0.1:1".parse().unwrap(),
            physical: [physical, physical + 100].into_iter().collect(),
        },
        transaction_id: None,
        region: "R".into(),
        trace_on: false,
        recall_handle: None,
    }
}

fn big() -> Answer {
    let piece = Bytes::from_iter((0..BIG_BYTES / 64).map(|n| (n % 251) as u8));
    let head = RemotingCommand::response(ResponseCode::SUCCESS);
    Answer::Records { head, records: vec![piece; 64] }
}

fn is_big(body: &[u8]) -> bool {
    let piece = BIG_BYTES / 64;
    body.len() == BIG_BYTES && body.iter().enumerate().all(|(n, &b)| b == (n % piece % 251) as u8)
}

/// A server with a `Script`, on a free port of loopback.
struct Running {
    server: Server,
    script: Arc<Script>,
    address: SocketAddr,
}

fn run(options: ServerOptions) -> Running {
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let script = Arc::new(Script::default());
    let handler: Arc<dyn Handler> = Arc::<Script>::clone(&script);
    let server = Server::start(vec![listener], handler, options).unwrap();
    let address = server.addresses()[0];
    Running { server, script, address }
}

fn count(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Resident memory that is ours alone.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Waits until `condition` holds.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

fn request(code: RequestCode, opaque: i32) -> RemotingCommand {
    let mut request = RemotingCommand::request(code).with_body(format!("body {opaque}"));
    request.opaque = opaque;
    request
}

fn bytes_of(command: &RemotingCommand) -> Vec<u8> {
    let mut out = BytesMut::new();
    command.encode(&mut out);
    out.to_vec()
}

/// The other side of a connection, without any of our code but the codec.
struct Peer {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Peer {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: BytesMut::new() }
    }

    async fn send(&mut self, code: RequestCode, opaque: i32) {
        self.send_bytes(&bytes_of(&request(code, opaque))).await;
    }

    async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next command; `None` when the server closed.
    async fn receive(&mut self) -> Option<RemotingCommand> {
        tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(frame) = frame::next(&mut self.buffer, frame::FRAME_BYTES_MAX).unwrap()
                {
                    return Some(RemotingCommand::decode(frame).unwrap());
                }
                match self.stream.read_buf(&mut self.buffer).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        })
        .await
        .expect("an answer or the end in time")
    }

    async fn receive_opaque(&mut self) -> i32 {
        let answer = self.receive().await.expect("an answer");
        assert!(answer.is_response());
        answer.opaque
    }

    async fn assert_works(&mut self, opaque: i32) {
        self.send(ECHO, opaque).await;
        let answer = self.receive().await.expect("an answer");
        assert_eq!((answer.opaque, &*answer.body), (opaque, format!("body {opaque}").as_bytes()));
    }

    async fn assert_closed(&mut self, why: &str) {
        assert!(self.receive().await.is_none(), "{why}");
    }
}
