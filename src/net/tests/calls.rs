//! Calls in both directions.

use super::*;
use std::net::TcpListener as StdListener;

const SOON: Duration = Duration::from_secs(10);

fn question(text: &str) -> RemotingCommand {
    RemotingCommand::request(ECHO).with_body(text.to_owned())
}

/// An address where nobody listens.
fn nowhere() -> String {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn concurrent_calls_share_one_connection_and_get_their_own_answers() {
    let running = run(ServerOptions::default());
    let client = Client::new(ClientOptions::default());
    let address = format!("localhost:{}", running.address.port());
    let calls = (0..200).map(|n| {
        let (client, address) = (client.clone(), address.clone());
        tokio::spawn(async move {
            let answer = client.call(&address, question(&n.to_string()), SOON).await.unwrap();
            assert_eq!(&*answer.body, n.to_string().as_bytes());
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert_eq!(count(&running.server.counters().accepted), 1);
    assert_eq!(count(&client.counters().open), 1);
}

#[test]
fn a_client_works_on_a_single_thread_between_other_work() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (running, client) = runtime
        .block_on(async { (run(ServerOptions::default()), Client::new(ClientOptions::default())) });
    for n in 0..3 {
        let address = running.address.to_string();
        let answer = runtime.block_on(client.call(&address, question("a"), SOON)).unwrap();
        assert_eq!(&*answer.body, b"a", "call {n}");
    }
}

#[tokio::test]
async fn the_next_call_connects_anew() {
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let name = address.to_string();
    let script = Arc::new(Script::default());
    let start = |listener| {
        let handler: Arc<dyn Handler> = Arc::<Script>::clone(&script);
        Server::start(vec![listener], handler, ServerOptions::default()).unwrap()
    };
    let server = start(listener);
    let client = Client::new(ClientOptions::default());
    client.call(&name, question("a"), SOON).await.unwrap();

    let waiting = tokio::spawn({
        let (client, name) = (client.clone(), name.clone());
        async move { client.call(&name, RemotingCommand::request(HOLD), SOON).await }
    });
    eventually("it is held", || script.held.lock().len() == 1).await;
    server.stop(Duration::ZERO).await;
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error, CallError::Closed { peer: address });
    assert!(error.may_have_run());
    let error = client.call(&name, question("b"), SOON).await.unwrap_err();
    assert!(
        matches!(&error, CallError::Unreachable { address, .. } if *address == name),
        "{error}"
    );
    assert!(!error.may_have_run());

    let _server = start(listen(address).unwrap());
    client.call(&name, question("c"), SOON).await.unwrap();
    client.close(&name);
    client.call(&name, question("d"), SOON).await.unwrap();
    assert_eq!(count(&client.counters().accepted), 3);
    eventually("one is left", || count(&client.counters().open) == 1).await;
}

#[tokio::test]
async fn a_call_ends_in_time_and_a_late_answer_is_nobodys() {
    let running = run(ServerOptions::default());
    let client = Client::new(ClientOptions::default());
    let name = running.address.to_string();
    let within = Duration::from_millis(30);
    let error = client.call(&name, RemotingCommand::request(HOLD), within).await.unwrap_err();
    assert_eq!(error, CallError::TimedOut { peer: running.address, within });
    let late = running.script.held.lock().pop().unwrap();
    late.answer(echo(Bytes::from_static(b"late")));
    let answer = client.call(&name, question("next"), SOON).await.unwrap();
    assert_eq!(&*answer.body, b"next");
    assert_eq!(count(&client.counters().accepted), 1, "a short time-out keeps the connection");
}

#[tokio::test]
async fn a_silent_connection_is_given_up() {
    let running = run(ServerOptions::default());
    let silence = Duration::from_millis(20);
    let client = Client::new(ClientOptions { silence, ..ClientOptions::default() });
    let name = running.address.to_string();
    let within = Duration::from_millis(30);
    client.call(&name, RemotingCommand::request(HOLD), within).await.unwrap_err();
    client.call(&name, question("a"), SOON).await.unwrap();
    assert_eq!(count(&client.counters().accepted), 2);
}

#[tokio::test]
async fn who_cannot_be_reached_is_named_in_time() {
    let client = Client::new(ClientOptions::default());
    for address in [nowhere().as_str(), "no-such-host.invalid:1", "no port"] {
        let error = client.call(address, question("a"), SOON).await.unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("cannot connect to {address}: ")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn calls_and_addresses_are_bounded() {
    let running = run(ServerOptions::default());
    let options = ClientOptions { calls_max: 1, addresses_max: 1, ..ClientOptions::default() };
    let client = Client::new(options);
    let name = running.address.to_string();
    let first = tokio::spawn({
        let (client, name) = (client.clone(), name.clone());
        async move { client.call(&name, RemotingCommand::request(HOLD), SOON).await }
    });
    eventually("it is held", || running.script.held.lock().len() == 1).await;
    let error = client.call(&name, question("a"), SOON).await.unwrap_err();
    assert_eq!(error, CallError::Busy { peer: running.address });
    let other = nowhere();
    let error = client.call(&other, question("a"), SOON).await.unwrap_err();
    assert!(error.to_string().ends_with("too many addresses"), "{error}");

    running.script.held.lock().pop().unwrap().answer(echo(Bytes::new()));
    first.await.unwrap().unwrap();
    client.call(&name, question("a"), SOON).await.unwrap();
    client.close(&name);
    let error = client.call(&other, question("a"), SOON).await.unwrap_err();
    assert!(!error.to_string().ends_with("too many addresses"), "{error}");
}

#[tokio::test]
async fn a_oneway_request_of_a_client_is_executed() {
    let running = run(ServerOptions::default());
    let client = Client::new(ClientOptions::default());
    let name = running.address.to_string();
    client.oneway(&name, question("a")).await.unwrap();
    eventually("it is taken", || running.script.taken() == 1).await;
    client.call(&name, question("b"), SOON).await.unwrap();
    assert_eq!(count(&client.counters().frames_in), 1, "one answer only");
}

#[tokio::test]
async fn a_server_asks_its_client_and_the_client_hears_of_the_end() {
    let running = run(ServerOptions::default());
    let hook = Arc::new(Script::default());
    let handler: Arc<dyn Handler> = Arc::<Script>::clone(&hook);
    let client = Client::new(ClientOptions { handler: Some(handler), ..ClientOptions::default() });
    let name = running.address.to_string();
    let ask_back = RemotingCommand::request(ASK_BACK).with_body("and you?");
    let answer = client.call(&name, ask_back, SOON).await.unwrap();
    assert_eq!((&*answer.body, hook.taken()), (b"and you?".as_slice(), 1));
    running.server.stop(Duration::ZERO).await;
    eventually("the hook hears of the end", || hook.closed.lock().len() == 1).await;
}

#[tokio::test]
async fn a_client_without_a_handler_says_so() {
    let running = run(ServerOptions::default());
    let client = Client::new(ClientOptions::default());
    let name = running.address.to_string();
    let mut peer = Peer::connect(running.address).await;
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let other = listener.local_addr().unwrap().to_string();
    client.oneway(&other, question("hello")).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    peer.stream = stream;
    peer.receive().await.unwrap();
    peer.send(ECHO, 5).await;
    let answer = peer.receive().await.unwrap();
    assert_eq!((answer.code, answer.opaque), (3, 5));
    assert_eq!(answer.remark.as_deref(), Some(" request type 9001 not supported"));
    client.call(&name, question("a"), SOON).await.unwrap();
}

#[tokio::test]
async fn a_call_to_a_client_that_leaves_fails_at_once() {
    let running = run(ServerOptions::default());
    let mut peer = Peer::connect(running.address).await;
    let mut watcher = Peer::connect(running.address).await;
    watcher.assert_works(1).await;
    peer.send(ASK_BACK, 1).await;
    let asked = peer.receive().await.unwrap();
    assert!(!asked.is_response());
    drop(peer);
    eventually("the handler hears of the end", || running.script.closed.lock().len() == 1).await;
    watcher.assert_works(2).await;
}

#[tokio::test]
async fn dropping_the_last_clone_closes_the_connections() {
    let running = run(ServerOptions::default());
    let client = Client::new(ClientOptions::default());
    let clone = client.clone();
    let name = running.address.to_string();
    client.call(&name, question("a"), SOON).await.unwrap();
    drop(client);
    clone.call(&name, question("b"), SOON).await.unwrap();
    drop(clone);
    eventually("it is closed", || running.server.connections() == 0).await;
}
