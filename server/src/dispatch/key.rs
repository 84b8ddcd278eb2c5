//! The number of an API: Kafka's, and the one of jangbu's own.

use std::fmt;

use kafka_protocol::messages::ApiKey;

/// The number of [`Key::GetKeys`]. Kafka counts from 0 on and has come to about a hundred.
const GET_KEYS: i16 = 10_000;

/// An API.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// One of Kafka's.
    Kafka(ApiKey),
    /// Asking for keys; every version is flexible.
    GetKeys,
}

impl Key {
    /// The API with this number, if there is one.
    pub(crate) fn find(number: i16) -> Option<Self> {
        match number {
            GET_KEYS => Some(Self::GetKeys),
            number => ApiKey::try_from(number).ok().map(Self::Kafka),
        }
    }

    /// Its number on the wire.
    pub(crate) fn number(self) -> i16 {
        match self {
            Self::Kafka(key) => key as i16,
            Self::GetKeys => GET_KEYS,
        }
    }

    /// The version of the header of its requests.
    pub(super) fn request_header_version(self, version: i16) -> i16 {
        match self {
            Self::Kafka(key) => key.request_header_version(version),
            Self::GetKeys => 2,
        }
    }

    /// The version of the header of its responses.
    pub(super) fn response_header_version(self, version: i16) -> i16 {
        match self {
            Self::Kafka(key) => key.response_header_version(version),
            Self::GetKeys => 1,
        }
    }
}

impl From<ApiKey> for Key {
    fn from(key: ApiKey) -> Self {
        Self::Kafka(key)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kafka(key) => key.fmt(f),
            Self::GetKeys => f.write_str("GetKeys"),
        }
    }
}
