//! What can go wrong in the client, one variant per reaction of the caller.
//!
//! Everything is cheap to clone, because one lost connection is told to every request that waited on it.

mod about;

use std::sync::Arc;
use std::time::Duration;

pub use about::About;
pub use kafka_protocol::ResponseError as ErrorCode;

/// The client's result.
pub type Result<T> = std::result::Result<T, Error>;

/// One variant per reaction of the caller. [`Error::topic`], [`Error::partition`], [`Error::offset`] and [`Error::group`] tell
/// what it is about, and [`Error::is_retriable`] whether to try again.
///
/// ```
/// fn explain(error: &jangbu_client::Error) -> String {
///     match (error.topic(), error.partition(), error.is_retriable()) {
///         (Some(topic), Some(partition), true) => format!("later again: {topic}-{partition}"),
///         (Some(topic), _, false) => format!("look at {topic}: {error}"),
///         _ => error.to_string(),
///     }
/// }
/// let error = jangbu_client::Error::UnknownTopic { topic: "orders".into() };
/// assert_eq!(explain(&error), "look at orders: the topic orders does not exist");
/// ```
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No broker could be reached. Start one, or correct the address.
    #[error("no broker answers at {brokers}: {reason}")]
    Unreachable {
        /// The addresses tried.
        brokers: String,
        /// What the last attempt said.
        reason: String,
    },
    /// A connection was lost, so what the broker did with the request is unknown. Ask again.
    #[error("the connection to {broker} was lost: {reason}")]
    Disconnected {
        /// The broker's address.
        broker: String,
        /// Why, the same for every request that waited on it.
        reason: Arc<str>,
    },
    /// The broker did not answer in time. Ask again, or allow more time.
    #[error("no answer to {what} within {} ms", after.as_millis())]
    Timeout {
        /// What was asked.
        what: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The broker answered with an error code. [`Error::is_retriable`] tells whether asking again can help.
    #[error("{about}: {}{}", message.as_deref().unwrap_or("the broker answered "), code_suffix(message, code))]
    Broker {
        /// What was asked of it.
        about: Box<About>,
        /// The code.
        code: ErrorCode,
        /// The broker's own words.
        message: Option<String>,
    },
    /// The topic does not exist and is not to be created by asking for it.
    #[error("the topic {topic} does not exist")]
    UnknownTopic {
        /// Its name.
        topic: String,
    },
    /// The topic has no partition of that number.
    #[error(
        "the topic {topic} has no partition {partition}; it has {count} partitions, counted from 0"
    )]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: i32,
        /// How many there are.
        count: usize,
    },
    /// The offset asked for is not in the partition. Start again from its earliest or latest offset.
    #[error("offset {offset} of {topic}-{partition} does not exist")]
    OffsetOutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset asked for.
        offset: i64,
    },
    /// Broker and client share no version of a request.
    #[error("{broker} does not support {api} in a version this client knows")]
    Unsupported {
        /// The broker's address.
        broker: String,
        /// The request's name.
        api: &'static str,
    },
    /// Bytes from the broker do not decode. Whatever answered is no Kafka broker, or is broken.
    #[error("{what} does not decode: {reason}")]
    Malformed {
        /// What was being read.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Records in the log fail their checksum or do not decode. Asking again gives the same.
    #[error("corrupt records at offset {offset} of {topic}-{partition}: {reason}")]
    Corrupt {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that was to be read.
        offset: i64,
        /// What is wrong with them.
        reason: String,
    },
    /// The record is larger than the client may send.
    #[error("a record of {bytes} bytes is larger than the limit of {limit} bytes")]
    RecordTooLarge {
        /// Its size as encoded.
        bytes: usize,
        /// The configured limit.
        limit: usize,
    },
    /// The record was not acknowledged in the time allowed. It may or may not be in the log if `in_doubt`.
    #[error(
        "a record for {topic}-{partition} was not acknowledged within {} s{}: {last}",
        after.as_secs(),
        if *in_doubt { " and may or may not be in the log" } else { "" }
    )]
    Undelivered {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The delivery timeout.
        after: Duration,
        /// Whether an attempt ended without an answer.
        in_doubt: bool,
        /// Why the last attempt failed.
        last: String,
    },
    /// What was asked makes no sense, and no broker was asked.
    #[error("{0}")]
    Invalid(String),
    /// The producer has been closed or dropped.
    #[error("the producer is closed")]
    Closed,
}

/// The code in brackets after the broker's own words, or alone where it had none.
fn code_suffix(message: &Option<String>, code: &ErrorCode) -> String {
    if message.is_some() { format!(" ({code})") } else { code.to_string() }
}

impl Error {
    /// Whether the same request can succeed later, on a fresh connection or with fresh metadata.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Disconnected { .. } | Self::Timeout { .. } => true,
            Self::Broker { code, .. } => code.is_retriable(),
            _ => false,
        }
    }

    /// The topic it is about.
    pub fn topic(&self) -> Option<&str> {
        match self {
            Self::Broker { about, .. } => about.topic.as_deref(),
            Self::UnknownTopic { topic }
            | Self::UnknownPartition { topic, .. }
            | Self::OffsetOutOfRange { topic, .. }
            | Self::Corrupt { topic, .. }
            | Self::Undelivered { topic, .. } => Some(topic),
            _ => None,
        }
    }

    /// The partition of [`Error::topic`] that it is about.
    pub fn partition(&self) -> Option<i32> {
        match self {
            Self::Broker { about, .. } => about.partition,
            Self::UnknownPartition { partition, .. }
            | Self::OffsetOutOfRange { partition, .. }
            | Self::Corrupt { partition, .. }
            | Self::Undelivered { partition, .. } => Some(*partition),
            _ => None,
        }
    }

    /// The offset that was to be read or committed.
    pub fn offset(&self) -> Option<i64> {
        match self {
            Self::Broker { about, .. } => about.offset,
            Self::OffsetOutOfRange { offset, .. } | Self::Corrupt { offset, .. } => Some(*offset),
            _ => None,
        }
    }

    /// The group that it is about.
    pub fn group(&self) -> Option<&str> {
        match self {
            Self::Broker { about, .. } => about.group.as_deref(),
            _ => None,
        }
    }

    /// The broker's code, if it is one that the broker sent.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Broker { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Turns a response's error code and message into a result.
    pub(crate) fn check<A: Into<About>>(
        code: i16,
        message: Option<&str>,
        about: impl FnOnce() -> A,
    ) -> Result<()> {
        match ErrorCode::try_from_code(code) {
            None => Ok(()),
            Some(code) => {
                let message = message.filter(|text| !text.is_empty()).map(str::to_owned);
                Err(Self::Broker { about: Box::new(about().into()), code, message })
            }
        }
    }

    /// A refusal without words of the broker's own.
    pub(crate) fn refused(about: impl Into<About>, code: ErrorCode) -> Self {
        Self::Broker { about: Box::new(about.into()), code, message: None }
    }

    /// Bytes of `what` that do not decode because of `reason`.
    pub(crate) fn malformed(what: &'static str, reason: impl ToString) -> Self {
        Self::Malformed { what, reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::{About, Error, ErrorCode};

    #[test]
    fn a_code_of_zero_is_no_error_and_others_keep_topic_and_words() {
        assert!(Error::check(0, None, String::new).is_ok());
        let error = Error::check(36, Some("it is there"), || "create topic t").unwrap_err();
        assert_eq!(error.to_string(), "create topic t: it is there (TopicAlreadyExists)");
        assert_eq!(error.code(), Some(ErrorCode::TopicAlreadyExists));
        assert!(!error.is_retriable());
    }

    #[test]
    fn a_moved_leader_is_retriable() {
        let error = Error::check(6, None, || "produce to t-0").unwrap_err();
        assert!(error.is_retriable());
        assert_eq!(error.to_string(), "produce to t-0: the broker answered NotLeaderOrFollower");
    }

    #[test]
    fn a_refusal_tells_what_it_is_about() {
        let about = || About::from("commit").place("t", 3).offset(7).group("g");
        let error = Error::check(16, None, about).unwrap_err();
        assert_eq!((error.topic(), error.partition()), (Some("t"), Some(3)));
        assert_eq!((error.offset(), error.group()), (Some(7), Some("g")));
        assert!(error.is_retriable());
        let elsewhere = Error::check(16, None, || "the cluster").unwrap_err();
        assert_eq!((elsewhere.topic(), elsewhere.partition()), (None, None));
    }
}
