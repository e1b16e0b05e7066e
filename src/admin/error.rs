//! Why a command failed: who was asked for what, what came back, and what to do about it.

use std::io;

use super::cli::DEFAULT_NAME_SERVER;
use crate::{
    net::CallError,
    protocol::{
        codes::{RequestCode, ResponseCode},
        command::RemotingCommand,
    },
};

/// Why a command, or a part of it, failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answered.
    #[error("{address} was asked for {request} and did not answer: {cause}")]
    NoAnswer {
        /// Who was asked.
        address: String,
        /// What for.
        request: RequestCode,
        /// What happened.
        cause: CallError,
    },
    /// The answer was no.
    #[error("{address} refused {request}: {code} ({number}) {remark}", number = code.0)]
    Refused {
        /// Who was asked.
        address: String,
        /// What for.
        request: RequestCode,
        /// How it answered.
        code: ResponseCode,
        /// In its own words.
        remark: String,
    },
    /// The answer was yes, but cannot be read.
    #[error("{address} answered {request} with what cannot be read: {cause}")]
    Unreadable {
        /// Who was asked.
        address: String,
        /// What for.
        request: RequestCode,
        /// What is wrong with it.
        cause: String,
    },
    /// The answers do not allow what was asked: no leader, no such cluster, nothing found.
    #[error("{0}")]
    Unable(String),
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Error {
    /// The error that a refusing `answer` is.
    pub(super) fn refusal(address: &str, request: RequestCode, answer: &RemotingCommand) -> Self {
        Self::Refused {
            address: address.to_owned(),
            request,
            code: answer.response_code(),
            remark: answer.remark.clone().unwrap_or_default(),
        }
    }

    /// The error that an answer is which cannot be read.
    pub(super) fn unreadable(
        address: &str,
        request: RequestCode,
        cause: impl std::fmt::Display,
    ) -> Self {
        Self::Unreadable { address: address.to_owned(), request, cause: cause.to_string() }
    }

    /// The code of a refusal.
    pub fn code(&self) -> Option<ResponseCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether nobody answered, so that somebody else may be asked the same.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::NoAnswer { .. })
    }

    /// Whether nobody was even asked: asking somebody else does nothing twice.
    pub(super) fn is_unasked(&self) -> bool {
        matches!(self, Self::NoAnswer { cause, .. } if !cause.may_have_run())
    }

    /// What to do about it, where that is known.
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::NoAnswer { address, cause: CallError::Unreachable { .. }, request } => {
                Some(unreachable(address, *request))
            }
            Self::NoAnswer { cause, request, .. } if cause.may_have_run() && !reads(*request) => Some(
                "it may have been done nevertheless: look before you repeat what changes something"
                    .to_owned(),
            ),
            Self::Refused { request, code, .. } => refused(*request, *code).map(str::to_owned),
            Self::NoAnswer { .. }
            | Self::Unreadable { .. }
            | Self::Unable(_)
            | Self::Usage(_)
            | Self::Output(_) => None,
        }
    }
}

/// Whether a request only looks, as its name says.
fn reads(request: RequestCode) -> bool {
    let name = request.to_string();
    ["GET_", "LIST_", "PULL_", "QUERY_", "SEARCH_", "VIEW_"]
        .iter()
        .any(|verb| name.starts_with(verb))
}

/// Requests that only name servers are asked.
fn is_for_name_servers(request: RequestCode) -> bool {
    [
        RequestCode::GET_ROUTEINFO_BY_TOPIC,
        RequestCode::GET_BROKER_CLUSTER_INFO,
        RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER,
        RequestCode::PUT_KV_CONFIG,
        RequestCode::GET_KV_CONFIG,
        RequestCode::DELETE_KV_CONFIG,
        RequestCode::DELETE_TOPIC_IN_NAMESRV,
        RequestCode::GET_NAMESRV_CONFIG,
        RequestCode::WIPE_WRITE_PERM_OF_BROKER,
        RequestCode::ADD_WRITE_PERM_OF_BROKER,
    ]
    .contains(&request)
}

fn unreachable(address: &str, request: RequestCode) -> String {
    if !is_for_name_servers(request) {
        return "is that broker running, and is its address reachable from here? brokers are known \
                by the address that they registered (brokerIP1); clusterList shows it"
            .to_owned();
    }
    let default = if address == DEFAULT_NAME_SERVER {
        " (the default: neither -n nor NAMESRV_ADDR may have been given)"
    } else {
        ""
    };
    format!(
        "is a name server running at {address}{default}? name others with -n host:port;host:port"
    )
}

/// Ours, which the leader of a group does.
fn is_for_leaders(request: RequestCode) -> bool {
    [
        RequestCode::TRANSFER_LEADER,
        RequestCode::ADD_MEMBER,
        RequestCode::REMOVE_MEMBER,
        RequestCode::REPLACE_MEMBER,
        RequestCode::ASSIGN_MEMBER,
    ]
    .contains(&request)
}

fn refused(request: RequestCode, code: ResponseCode) -> Option<&'static str> {
    Some(match code {
        ResponseCode::TOPIC_NOT_EXIST if request == RequestCode::GET_ROUTEINFO_BY_TOPIC => {
            "topicList shows the topics that exist, updateTopic creates one; a topic without a \
             live broker has no route either (clusterList)"
        }
        ResponseCode::TOPIC_NOT_EXIST => {
            "that broker does not have the topic: topicRoute shows who has it"
        }
        ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST => "updateSubGroup creates a consumer group",
        ResponseCode::CONSUMER_NOT_ONLINE => {
            "no member of the group is connected at the moment: consumerProgress shows how far it got"
        }
        ResponseCode::NO_PERMISSION => {
            "the topic, the broker or the setting forbids it: topicRoute shows the permission of \
             the topic (2 write, 4 read), getBrokerConfig brokerPermission"
        }
        ResponseCode::SYSTEM_BUSY => "the broker has more to do than it takes: try again later",
        ResponseCode::SERVICE_NOT_AVAILABLE if is_for_leaders(request) => {
            "only the leader can: give its address (clusterList shows it, #BID 0), or name servers \
             that know it (-n)"
        }
        ResponseCode::SERVICE_NOT_AVAILABLE => {
            "that broker does not lead its group, or takes no writes now: clusterList shows who \
             leads (#BID 0)"
        }
        ResponseCode::REQUEST_CODE_NOT_SUPPORTED => {
            "the address may be that of a name server instead of a broker or the other way round, \
             or the release there is too old"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn refused_with(request: RequestCode, code: ResponseCode) -> Error {
        let answer = RemotingCommand::error(code, "No topic route info: T");
        Error::refusal("ns:9876", request, &answer)
    }

    #[test]
    fn a_refusal_names_address_request_code_and_remark() {
        let error =
            refused_with(RequestCode::GET_ROUTEINFO_BY_TOPIC, ResponseCode::TOPIC_NOT_EXIST);
        assert_eq!(
            error.to_string(),
            "ns:9876 refused GET_ROUTEINFO_BY_TOPIC: TOPIC_NOT_EXIST (17) No topic route info: T"
        );
        assert!(error.advice().unwrap().contains("updateTopic"));
    }

    #[test]
    fn who_only_looked_is_not_told_to_look_before_it_goes_on() {
        let late = |request| {
            let (peer, within) = (([127, 0, 0, 1], 1).into(), Duration::from_secs(5));
            let cause = CallError::TimedOut { peer, within };
            Error::NoAnswer { address: "b:1".to_owned(), request, cause }.advice()
        };
        for changes in [RequestCode::ADD_MEMBER, RequestCode::DELETE_TOPIC_IN_BROKER] {
            assert!(late(changes).unwrap().contains("look before you repeat"), "{changes}");
        }
        for reads in [RequestCode::LIST_MEMBERS, RequestCode::GET_MEMBER_FACTS] {
            assert_eq!(late(reads), None, "{reads}");
        }
    }

    #[test]
    fn advice_differs_between_name_servers_and_brokers() {
        let silent = |address: &str, request| {
            let (at, cause) = (address.to_owned(), "refused".to_owned());
            let cause = CallError::Unreachable { address: at, cause, is_refused: true };
            let error = Error::NoAnswer { address: address.to_owned(), request, cause };
            error.advice().unwrap()
        };
        let default = silent(DEFAULT_NAME_SERVER, RequestCode::GET_BROKER_CLUSTER_INFO);
        assert!(default.contains("NAMESRV_ADDR"), "{default}");
        let other = silent("ns:1", RequestCode::GET_BROKER_CLUSTER_INFO);
        assert!(!other.contains("NAMESRV_ADDR"), "{other}");
        let broker = silent("b:1", RequestCode::GET_BROKER_RUNTIME_INFO);
        assert!(broker.contains("brokerIP1"), "{broker}");
    }
}
