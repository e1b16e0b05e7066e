//! Why the name server does not do what it was asked, and the response code for each reason.

use crate::protocol::{bodies::BodyError, codes::ResponseCode, ext_fields::FieldError};

/// Reasons for not doing what was asked. The text becomes the remark of the answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a request for a name server.
    #[error(" request type {0} not supported")]
    NotSupported(i32),
    /// The body's checksum differs from the header's `bodyCrc32`.
    #[error("crc32 not match")]
    ChecksumMismatch,
    /// A registration with a single topic of a broker that is not registered: an incremental one
    /// must not create a broker, it has to send its whole table.
    #[error("register broker failed")]
    IncrementalFromUnknown,
    /// A name or an address that cannot be one.
    #[error("{field} {reason}")]
    BadName {
        /// Header or body field.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A header field is missing or does not parse.
    #[error("{0}")]
    BadField(String),
    /// The body is not what the request code promises.
    #[error("{0}")]
    BadBody(String),
    /// The body is not `key=value` lines.
    #[error("string2Properties error")]
    NotProperties,
    /// A bound of the name server's memory.
    #[error("the name server holds {what} of at most {max} already")]
    Full {
        /// What there are too many of.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// Switched off by `enableTopicList` or `enableAllTopicList`.
    #[error("disable")]
    Disabled,
    /// No broker serves the topic.
    #[error(
        "No topic route info in name server for the topic: {0}\n\
         See https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details."
    )]
    NoRoute(String),
    /// Too early after a start to say that something does not exist.
    #[error("name server not ready")]
    NotReady,
    /// No such KV entry.
    #[error("No config item, Namespace: {namespace} Key: {key}")]
    NoKvItem {
        /// Namespace asked for.
        namespace: String,
        /// Key asked for.
        key: String,
    },
    /// No such KV namespace.
    #[error("No config item, Namespace: {0}")]
    NoKvNamespace(String),
    /// Writing a file failed; nothing was changed.
    #[error("cannot store the change: {0}")]
    NotStored(String),
    /// A setting that only the configuration file may give.
    #[error("Can not update config in black list.")]
    SettingBlacklisted,
    /// A setting that cannot be changed while running, or not to this value.
    #[error("{0}")]
    SettingRefused(String),
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        Self::BadBody(error.to_string())
    }
}

impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Self {
        Self::BadField(error.to_string())
    }
}

/// The only place where a reason becomes what a client sees.
pub fn response_code(refusal: &Refusal) -> ResponseCode {
    match refusal {
        Refusal::ChecksumMismatch
        | Refusal::IncrementalFromUnknown
        | Refusal::BadName { .. }
        | Refusal::BadField(_)
        | Refusal::BadBody(_)
        | Refusal::NotProperties
        | Refusal::Full { .. }
        | Refusal::Disabled
        | Refusal::NotReady
        | Refusal::NotStored(_)
        | Refusal::SettingRefused(_) => ResponseCode::SYSTEM_ERROR,
        Refusal::NoRoute(_) => ResponseCode::TOPIC_NOT_EXIST,
        Refusal::NoKvItem { .. } | Refusal::NoKvNamespace(_) => ResponseCode::QUERY_NOT_FOUND,
        Refusal::SettingBlacklisted => ResponseCode::NO_PERMISSION,
        Refusal::NotSupported(_) => ResponseCode::REQUEST_CODE_NOT_SUPPORTED,
    }
}
