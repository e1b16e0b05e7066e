//! Typed calls to name servers and brokers, Java's as well as ours.

mod broker;
mod message;
mod name_server;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use serde::de::DeserializeOwned;

#[cfg(test)]
pub(super) use broker::RunningInfo;
pub(super) use message::{Pulled, PulledMessages, QueueAt, Stored};
pub(super) use name_server::{ORDER_TOPIC_CONFIG, groups_of, leader_of};

use super::{cli::DEFAULT_NAME_SERVER, error::Error};
use crate::{
    net::{CallError, Client, ClientOptions},
    protocol::{
        bodies::{self, BrokerData},
        codes::{RequestCode, ResponseCode},
        command::RemotingCommand,
        names::ANY_MEMBER,
    },
};

/// Time for one answer, connecting included. mqadmin's.
const CALL_TIME: Duration = Duration::from_secs(5);
/// Time to connect. A broker that is down on a host that is up refuses at once.
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// Calls of one command that are under way at a time.
pub(super) const CALLS_AT_A_TIME: usize = 32;
/// Broker id of whoever takes writes.
pub(super) const LEADER: u64 = 0;

/// A handle on the connections of one command.
#[derive(Clone)]
pub struct AdminClient {
    client: Client,
    name_servers: Arc<[String]>,
    /// Whether somebody named them.
    are_named: bool,
}

/// An answer, who gave it, and who was asked before in vain.
pub(super) struct Answered<T> {
    /// What was answered.
    pub(super) answer: T,
    /// Who answered.
    pub(super) address: String,
    /// Why others did not.
    pub(super) in_vain: Vec<Error>,
}

impl AdminClient {
    /// A client of these name servers; of the default one, if there is none. Must be called on the
    /// runtime that shall run its connections.
    pub fn new(name_servers: Vec<String>) -> Self {
        let are_named = !name_servers.is_empty();
        let name_servers =
            if are_named { name_servers } else { vec![DEFAULT_NAME_SERVER.to_owned()] };
        let options = ClientOptions { connect_time: CONNECT_TIME, ..ClientOptions::default() };
        Self { client: Client::new(options), name_servers: name_servers.into(), are_named }
    }

    /// The name servers, in the order given.
    pub(super) fn name_servers(&self) -> &[String] {
        &self.name_servers
    }

    /// The name servers that somebody named. Who knows members need not ask the default one.
    pub(super) fn named_servers(&self) -> &[String] {
        if self.are_named { &self.name_servers } else { &[] }
    }

    /// Our address, as the first name server sees it if nothing translates addresses between.
    pub(super) fn own_ip(&self) -> IpAddr {
        let towards = |address: &String| {
            // Connecting a datagram socket sends nothing: it only chooses a route.
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
            socket.connect(address.as_str()).ok()?;
            Some(socket.local_addr().ok()?.ip())
        };
        self.name_servers.first().and_then(towards).unwrap_or_else(|| Ipv4Addr::LOCALHOST.into())
    }

    /// The answer of `address`, whatever its code.
    async fn call(
        &self,
        address: &str,
        request: RemotingCommand,
    ) -> Result<RemotingCommand, Error> {
        let code = request.request_code();
        let mut answer = self.client.call(address, request.clone(), CALL_TIME).await;
        if let Err(CallError::Unreachable { is_refused: true, .. }) = answer
            && let Some(other) = self.other_port(address)
            && let Ok(there) = self.client.call(&other, request, CALL_TIME).await
        {
            answer = Ok(there);
        }
        answer.map_err(|cause| Error::NoAnswer {
            address: address.to_owned(),
            request: code,
            cause,
        })
    }

    /// Where else the broker at `address` may answer: one that is cut off from its group refuses
    /// clients for 30 s, and tools at its second port (`listenPort - 2`) never.
    fn other_port(&self, address: &str) -> Option<String> {
        let (host, port) = address.rsplit_once(':')?;
        let port = port.parse::<u16>().ok()?.checked_sub(2)?;
        let is_broker = !self.name_servers.iter().any(|name_server| name_server == address);
        is_broker.then(|| format!("{host}:{port}"))
    }

    /// The answer of `address`, if it is a yes.
    async fn ask(&self, address: &str, request: RemotingCommand) -> Result<RemotingCommand, Error> {
        let code = request.request_code();
        let answer = self.call(address, request).await?;
        if answer.response_code() == ResponseCode::SUCCESS {
            Ok(answer)
        } else {
            Err(Error::refusal(address, code, &answer))
        }
    }

    /// The body of the answer of `address`.
    async fn read<T: DeserializeOwned>(
        &self,
        address: &str,
        request: RemotingCommand,
    ) -> Result<T, Error> {
        let code = request.request_code();
        let answer = self.ask(address, request).await?;
        body(address, code, &answer)
    }

    /// The answer of the first of `addresses` that gives one. A refusal is an answer.
    async fn ask_first<'a>(
        &self,
        addresses: impl IntoIterator<Item = &'a String>,
        request: &RemotingCommand,
    ) -> Result<Answered<RemotingCommand>, Error> {
        let (mut in_vain, request) = (Vec::new(), request.clone().with_field(ANY_MEMBER, true));
        for address in addresses {
            match self.ask(address, request.clone()).await {
                Ok(answer) => return Ok(Answered { answer, address: address.clone(), in_vain }),
                Err(error) if error.is_silence() => in_vain.push(error),
                Err(error) => return Err(error),
            }
        }
        let nobody = || Error::Unable("there is nobody to ask".to_owned());
        Err(in_vain.into_iter().next().unwrap_or_else(nobody))
    }

    /// The body of the answer of some member of `group`, the leader if it is there: for questions
    /// that every member can answer.
    async fn read_from_group<T: DeserializeOwned>(
        &self,
        group: &BrokerData,
        request: RemotingCommand,
    ) -> Result<Answered<T>, Error> {
        if group.broker_addrs.is_empty() {
            let text = format!("broker group {} has no live member", group.broker_name);
            return Err(Error::Unable(text));
        }
        let answered = self.ask_first(group.broker_addrs.values(), &request).await?;
        let answer = body(&answered.address, request.request_code(), &answered.answer)?;
        Ok(Answered { answer, address: answered.address, in_vain: answered.in_vain })
    }
}

/// The body of `answer`, in JSON or fastjson's form of it.
fn body<T: DeserializeOwned>(
    address: &str,
    request: RequestCode,
    answer: &RemotingCommand,
) -> Result<T, Error> {
    bodies::decode(&answer.body).map_err(|cause| Error::unreadable(address, request, cause))
}

/// Name and value of each line of a configuration's text.
fn properties(text: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_line_by_line() {
        let text = b"# comment\nbrokerName=RaftNode00\nempty=\n a = b=c \nnonsense\n";
        let want = [("a", "b=c"), ("brokerName", "RaftNode00"), ("empty", "")];
        let want = want.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(properties(text), BTreeMap::from(want));
    }
}
