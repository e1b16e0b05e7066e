//! A log that nobody reads: standard error is a pipe that is full from the start.

use std::{
    io::{self, BufRead, BufReader, PipeReader, PipeWriter, Write},
    process::{Command, Stdio},
    sync::mpsc::{self, Sender},
    thread,
};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::{BROKER, Caller, NAMESRV, Process, Site, WITHIN, clock, free_port};

/// A pipe that takes no byte more until somebody reads.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'\n'; 4096]).is_ok() {}
    while writer.write(b"\n").is_ok() {}
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

/// A process, its standard error that nobody reads, and whom to tell its lines.
fn start(site: &Site, program: &str, args: &[&str]) -> (Process, PipeReader, Sender<String>) {
    let (reader, writer) = full_pipe();
    let mut command = Command::new(program);
    command.args(args).env_clear().env("HOME", site.dir.path()).current_dir(site.dir.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(writer);
    let mut child = command.spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    let out = thread::spawn(move || io::read_to_string(stdout).unwrap());
    let (say, said) = mpsc::channel();
    (Process { child, said, lines: Vec::new(), out: Some(out) }, reader, say)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_serves_while_nobody_reads_its_log_and_tells_all_of_it_later() {
    let (site, port, caller) = (Site::new(), free_port(), Caller::new());
    let file = site.broker(port, "");
    let (broker, reader, say) = start(&site, BROKER, &["-c", &file]);
    let deadline = clock::now() + WITHIN;
    while caller.leader_by(port).await.is_none() {
        assert!(clock::now() < deadline, "it does not serve");
    }
    caller.first_send(port, "T").await;
    let lines = BufReader::new(reader).lines().map_while(Result::ok);
    thread::spawn(move || lines.filter(|line| !line.is_empty()).try_for_each(|l| say.send(l)));
    broker.terminate();
    let ended = broker.end();
    ended.assert_in_peace();
    for text in ["leads the group", "stopping, as SIGTERM asks"] {
        assert!(ended.err.iter().any(|line| line.contains(text)), "{text}: {ended:#?}");
    }
}

#[test]
fn a_server_stops_though_nobody_reads_its_log() {
    let (site, port) = (Site::new(), free_port());
    let file = site.name_server(port);
    let (mut server, reader, _say) = start(&site, NAMESRV, &["-c", &file]);
    let deadline = clock::now() + WITHIN;
    while std::net::TcpStream::connect(super::loopback(port)).is_err() {
        assert!(clock::now() < deadline, "it does not serve");
    }
    server.terminate();
    let status = loop {
        if let Some(status) = server.child.try_wait().unwrap() {
            break status;
        }
        assert!(clock::now() < deadline, "it does not stop");
        thread::yield_now();
    };
    assert_eq!(status.code(), Some(0), "{status}");
    drop(reader);
}
