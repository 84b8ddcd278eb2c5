//! Records of keys in JSON, as `jangbu consume --json` prints records: text as a string, other bytes as
//! `{"base64": "..."}`, nothing as null.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Place;
use crate::bytes_in_json::{base64, text_or_base64};
use crate::proto::get::{GetResponse, Header, KeyRecord};

/// The content type.
pub(super) const TYPE: &str = "application/json";

/// One record with its place.
pub(super) fn one(place: &Place, record: &KeyRecord, high_watermark: i64) -> Bytes {
    let Place { topic, partition } = place;
    let mut value = json!({ "topic": topic, "partition": partition });
    extend(&mut value, of_record(record, false));
    value["high_watermark"] = high_watermark.into();
    value.to_string().into()
}

/// The records of a key.
pub(super) fn history(place: &Place, found: &GetResponse, as_base64: bool) -> Bytes {
    let Place { topic, partition } = place;
    let records: Vec<Value> =
        found.records.iter().map(|record| of_record(record, as_base64)).collect();
    let high_watermark = found.high_watermark;
    json!({ "topic": topic, "partition": partition, "high_watermark": high_watermark, "records": records })
        .to_string()
        .into()
}

/// The records of many keys, from several partitions.
pub(super) struct Listed {
    records: Vec<Value>,
    bytes: usize,
    as_base64: bool,
}

impl Listed {
    pub(super) fn new(as_base64: bool) -> Self {
        Self { records: Vec::new(), bytes: 0, as_base64 }
    }

    pub(super) fn add(&mut self, partition: i32, records: &[KeyRecord]) {
        for record in records {
            let mut value = json!({ "partition": partition });
            extend(&mut value, of_record(record, self.as_base64));
            self.records.push(value);
            self.bytes += record.key.len() + record.value.as_ref().map_or(0, Bytes::len);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.records.len()
    }

    /// Of keys and values.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The whole list; `next` is where it goes on.
    pub(super) fn finish(self, topic: &str, next: Option<String>) -> Bytes {
        json!({ "topic": topic, "records": self.records, "next": next }).to_string().into()
    }
}

fn extend(value: &mut Value, more: Value) {
    if let (Value::Object(fields), Value::Object(more)) = (value, more) {
        fields.extend(more);
    }
}

fn of_record(record: &KeyRecord, as_base64: bool) -> Value {
    let show = |bytes: Option<&Bytes>| match bytes {
        Some(bytes) if as_base64 => json!({ "base64": base64(bytes) }),
        bytes => text_or_base64(bytes),
    };
    let header = |header: &Header| {
        json!([String::from_utf8_lossy(&header.name), show(header.value.as_ref())])
    };
    let headers: Vec<Value> = record.headers.iter().map(header).collect();
    json!({
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": show(Some(&record.key)),
        "value": show(record.value.as_ref()),
        "headers": headers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_shown_with_its_place_and_a_tombstone_as_null() {
        let place = Place { topic: "t".to_owned(), partition: 2 };
        let header = Header { name: "h".into(), value: Some(b"\xff"[..].into()) };
        let record = KeyRecord {
            key: "k".into(),
            offset: 5,
            timestamp: 9,
            value: None,
            headers: vec![header],
        };
        let expected = r#"{"topic":"t","partition":2,"offset":5,"timestamp":9,"key":"k","value":null,"headers":[["h",{"base64":"/w=="}]],"high_watermark":7}"#;
        assert_eq!(one(&place, &record, 7), expected);
        let mut listed = Listed::new(true);
        listed.add(2, &[KeyRecord { headers: Vec::new(), ..record }]);
        let expected = r#"{"topic":"t","records":[{"partition":2,"offset":5,"timestamp":9,"key":{"base64":"aw=="},"value":null,"headers":[]}],"next":null}"#;
        assert_eq!(listed.finish("t", None), expected);
    }
}
