//! What a request for keys asks for: its path and its parameters, percent-encoded.
//!
//! Invariant: bytes from the network never panic here; what is not understood is a sentence.

use bytes::Bytes;

use crate::proto::get::GetRequest;

/// How a value is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// As it is.
    Raw,
    /// With its place, time and headers.
    Json,
    Base64,
}

/// The parameters of a request, each once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Params {
    pub(super) partition: Option<i32>,
    pub(super) at_offset: Option<i64>,
    pub(super) at_time_ms: Option<i64>,
    pub(super) history: Option<u32>,
    pub(super) stale_ok: bool,
    pub(super) format: Option<Format>,
    pub(super) prefix: Option<Bytes>,
    pub(super) limit: Option<usize>,
    pub(super) after: Option<Bytes>,
    /// The partition to go on with.
    pub(super) from: i32,
}

/// What can be said about one key, and about a list.
pub(super) const OF_KEY: &[&str] =
    &["partition", "at-offset", "at-time", "history", "stale-ok", "format"];
pub(super) const OF_KEYS: &[&str] =
    &["prefix", "limit", "after", "from", "partition", "at-offset", "stale-ok", "format"];

/// Records of a history, unless the parameter says how many.
const HISTORY_DEFAULT: u32 = 100;

impl Params {
    /// Reads the part of a URL behind the `?`.
    ///
    /// # Errors
    /// What is wrong, as a sentence for the client.
    pub(super) fn parse(query: &str, known: &[&str]) -> Result<Self, String> {
        let mut params = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&name) {
                return Err(format!("{name} is no parameter here; there are {}", known.join(", ")));
            }
            // In a query, unlike in a path, a plus stands for a blank.
            params.set(name, &decode(&value.replace('+', "%20"))?)?;
        }
        Ok(params)
    }

    fn set(&mut self, name: &str, value: &Bytes) -> Result<(), String> {
        match name {
            "prefix" => self.prefix = Some(value.clone()),
            "after" => self.after = Some(value.clone()),
            "partition" => self.partition = Some(number(name, value)?),
            "from" => self.from = number(name, value)?,
            "at-offset" => self.at_offset = Some(number(name, value)?),
            "at-time" => self.at_time_ms = Some(number(name, value)?),
            "limit" => self.limit = Some(number(name, value)?),
            "history" if value.is_empty() => self.history = Some(HISTORY_DEFAULT),
            "history" => self.history = Some(number::<u32>(name, value)?.max(1)),
            "stale-ok" => {
                self.stale_ok = match &value[..] {
                    b"" | b"true" => true,
                    b"false" => false,
                    _ => return Err("stale-ok is true or false".to_owned()),
                }
            }
            _ => {
                self.format = Some(match &value[..] {
                    b"raw" => Format::Raw,
                    b"json" => Format::Json,
                    b"base64" => Format::Base64,
                    _ => return Err("format is raw, json or base64".to_owned()),
                });
            }
        }
        Ok(())
    }

    /// The request that begins with what is said here.
    pub(super) fn request(&self) -> GetRequest {
        let Self { at_offset, at_time_ms, stale_ok, .. } = *self;
        GetRequest { at_offset, at_time_ms, stale_ok, ..GetRequest::default() }
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &[u8]) -> Result<T, String> {
    let text = String::from_utf8_lossy(value);
    text.parse().map_err(|_| format!("{name} is a number, not '{text}'"))
}

/// Topic and key of `/topics/{topic}/keys/{key}`, the key being there or not.
///
/// # Errors
/// What is wrong, as a sentence for the client.
pub(super) fn parse_path(path: &str) -> Result<(String, Option<Bytes>), String> {
    let not_found = || format!("{path} is not /topics/TOPIC/keys/KEY");
    let rest = path.strip_prefix("/topics/").ok_or_else(not_found)?;
    let (topic, rest) = rest.split_once('/').ok_or_else(not_found)?;
    let rest = rest.strip_prefix("keys").ok_or_else(not_found)?;
    let key = rest.strip_prefix('/').map(decode).transpose()?;
    let topic = String::from_utf8(decode(topic)?.to_vec());
    Ok((topic.map_err(|_| "the topic's name is not UTF-8".to_owned())?, key))
}

/// Percent-decodes.
fn decode(text: &str) -> Result<Bytes, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = after.split_at_checked(2).and_then(|(digits, after)| {
            rest = after;
            let text = std::str::from_utf8(digits).ok()?;
            let is_hex = text.bytes().all(|digit| digit.is_ascii_hexdigit());
            u8::from_str_radix(text, 16).ok().filter(|_| is_hex)
        });
        let wrong = || format!("'{text}' has a % that no two hexadecimal digits follow");
        bytes.push(digits.ok_or_else(wrong)?);
    }
    Ok(bytes.into())
}

/// Percent-encodes all but letters, digits and `-._~` (RFC 3986).
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn keys_may_hold_any_byte_and_slashes_need_not_be_encoded() {
        let path = |text| parse_path(text).unwrap();
        assert_eq!(path("/topics/t/keys/a%2Fb%ff+"), ("t".into(), Some(b"a/b\xff+"[..].into())));
        assert_eq!(path("/topics/t/keys/a/b"), ("t".into(), Some("a/b".into())));
        assert_eq!(path("/topics/t/keys/"), ("t".into(), Some(Bytes::new())));
        assert_eq!(path("/topics/t/keys"), ("t".into(), None));
        assert!(parse_path("/topics/t/keys/%zz").is_err());
        assert!(parse_path("/topics/t/keys/%+1").is_err());
        assert!(parse_path("/topics/t").is_err());
    }

    #[test]
    fn parameters_are_read_and_others_are_named() {
        let query = "partition=3&at-offset=9&history=5&stale-ok=true&format=json";
        let expected = Params {
            partition: Some(3),
            at_offset: Some(9),
            history: Some(5),
            stale_ok: true,
            format: Some(Format::Json),
            ..Params::default()
        };
        assert_eq!(Params::parse(query, OF_KEY), Ok(expected));
        let listed = Params::parse("prefix=a+b%2B&after=%00&limit=5", OF_KEYS).unwrap();
        assert_eq!(listed.prefix.as_deref(), Some(&b"a b+"[..]));
        assert_eq!((listed.after.as_deref(), listed.limit), (Some(&b"\0"[..]), Some(5)));
        let wrong = Params::parse("offset=9", OF_KEY).unwrap_err();
        assert!(wrong.starts_with("offset is no parameter here; there are partition, at-offset"));
        assert_eq!(
            Params::parse("at-time=now", OF_KEY),
            Err("at-time is a number, not 'now'".into())
        );
        assert!(Params::parse("prefix=a", OF_KEY).is_err());
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
            prop_assert_eq!(decode(&encode(&bytes)).unwrap(), bytes);
        }

        #[test]
        fn any_text_never_panics(text in ".{0,60}") {
            let _ = parse_path(&text);
            let _ = parse_path(&format!("/topics/{text}"));
            let _ = Params::parse(&text, OF_KEYS);
            let _ = Params::parse(&format!("after={text}"), OF_KEYS);
        }
    }
}
