//! Writes records to standard output as value, key and value, or JSON.

use std::io::{self, BufWriter, Stdout, Write};

use bytes::Bytes;
use jangbu_client::Received;
use serde_json::{Value, json};

use crate::cli::OutputFormat;

/// Prints records, buffered.
pub(crate) struct Printer {
    out: BufWriter<Stdout>,
    format: OutputFormat,
}

impl Printer {
    /// A printer to standard output.
    pub(crate) fn new(format: OutputFormat) -> Self {
        Self { out: BufWriter::with_capacity(1 << 16, io::stdout()), format }
    }

    /// Prints one record.
    ///
    /// # Errors
    /// When standard output is closed.
    pub(crate) fn print(&mut self, received: &Received) -> io::Result<()> {
        let record = &received.record;
        match self.format {
            OutputFormat::Value => {
                self.out.write_all(record.value.as_deref().unwrap_or_default())?
            }
            OutputFormat::KeyValue => {
                self.out.write_all(record.key.as_deref().unwrap_or_default())?;
                self.out.write_all(b"\t")?;
                self.out.write_all(record.value.as_deref().unwrap_or_default())?;
            }
            OutputFormat::Json => serde_json::to_writer(&mut self.out, &to_json(received))?,
        }
        self.out.write_all(b"\n")
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    /// When standard output is closed.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A record as an object.
pub(crate) fn to_json(received: &Received) -> Value {
    let record = &received.record;
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|header| json!([header.name, text_or_base64(header.value.as_ref())]))
        .collect();
    json!({
        "topic": &*received.topic,
        "partition": received.partition,
        "offset": received.offset,
        "timestamp": record.timestamp_ms,
        "key": text_or_base64(record.key.as_ref()),
        "value": text_or_base64(record.value.as_ref()),
        "headers": headers,
    })
}

/// UTF-8 as a string, other bytes as `{"base64": "..."}`, nothing as null.
fn text_or_base64(bytes: Option<&Bytes>) -> Value {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => Value::Null,
        Some((_, Ok(text))) => Value::from(text),
        Some((bytes, Err(_))) => json!({ "base64": base64(bytes) }),
    }
}

/// RFC 4648 §4, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for position in 0..4 {
            let six = usize::try_from(bits >> (18 - 6 * position) & 63).expect("six bits");
            text.push(if position <= chunk.len() { char::from(ALPHABET[six]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use jangbu_client::{Header, Received, Record};

    use super::{base64, to_json};

    #[test]
    fn base64_agrees_with_the_rfc() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, encoded) in cases {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn bytes_that_are_no_text_and_missing_ones_are_told_apart() {
        let record = Record {
            key: None,
            value: Some(Bytes::from_static(&[0xff])),
            headers: vec![Header { name: "h".into(), value: Some("v".into()) }],
            timestamp_ms: Some(5),
        };
        let received = Received { topic: Arc::from("t"), partition: 1, offset: 2, record };
        let expected = r#"{"topic":"t","partition":1,"offset":2,"timestamp":5,"key":null,"value":{"base64":"/w=="},"headers":[["h","v"]]}"#;
        assert_eq!(to_json(&received).to_string(), expected);
    }
}
