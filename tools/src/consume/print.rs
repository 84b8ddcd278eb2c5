//! Writes records to standard output as value, key and value, or JSON.

use std::io::{self, BufWriter, Stdout, Write};

use jangbu_client::Received;
use jangbu_server::bytes_in_json::text_or_base64;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use jangbu_client::{Header, Received, Record};

    use super::to_json;

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
