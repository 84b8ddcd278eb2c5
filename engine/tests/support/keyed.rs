//! Batches of records with keys, as a producer makes them, and what is read back of them.
#![allow(dead_code, reason = "every test binary uses its own part")]

use bytes::{Bytes, BytesMut};
use jangbu_engine::batch::{HEADER_BYTES, Header};
use jangbu_engine::records::{self, codec};
use jangbu_engine::{Entry, EntryKind, Index, NewEntry, Offset, PartitionLog, Term};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

/// A record: its key, and its value unless it is a tombstone.
pub(crate) type Keyed = (Vec<u8>, Option<Vec<u8>>);

/// A batch of `records`, from `timestamp` on.
pub(crate) fn batch(records: &[Keyed], timestamp: i64, compression: Compression) -> Bytes {
    let record = |(at, (key, value)): (usize, &Keyed)| {
        let at = i32::try_from(at).unwrap();
        Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 0,
            producer_id: 7,
            producer_epoch: 0,
            timestamp_type: TimestampType::Creation,
            offset: i64::from(at),
            sequence: at,
            timestamp: timestamp + i64::from(at),
            key: Some(Bytes::from(key.clone())),
            value: value.clone().map(Bytes::from),
            headers: IndexMap::new(),
        }
    };
    let records: Vec<_> = records.iter().enumerate().map(record).collect();
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression };
    RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
    bytes.freeze()
}

/// A new entry with such a batch.
pub(crate) fn entry(index: u64, term: u64, payload: Bytes) -> NewEntry {
    NewEntry { index: Index(index), term: Term(term), kind: EntryKind::Batch, payload }
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
}

/// The records of stored batches, whose checksums are looked at.
pub(crate) fn records_of(entries: &[Entry]) -> Vec<Read> {
    let mut found = Vec::new();
    for entry in entries {
        let header = Header::parse_stored(&entry.payload).unwrap();
        header.verify_crc(&entry.payload).unwrap();
        assert_eq!(header.base_offset, entry.base_offset);
        assert_eq!(i64::from(header.leader_epoch), i64::try_from(entry.term.0).unwrap());
        if header.record_count == 0 {
            assert_eq!(entry.payload.len(), HEADER_BYTES);
        }
        let body = codec::decompress(header.codec(), &entry.payload[HEADER_BYTES..]);
        let body = if header.record_count == 0 { Vec::new() } else { body.unwrap().into_owned() };
        let mut max = -1;
        for record in records::each(&body, header.record_count) {
            let record = record.unwrap();
            let timestamp = header.base_timestamp + record.head.timestamp_delta;
            max = max.max(timestamp);
            found.push(Read {
                offset: header.base_offset.0 + record.head.offset_delta,
                timestamp,
                key: record.key.unwrap().to_vec(),
                value: record.value.map(<[u8]>::to_vec),
            });
        }
        if header.record_count > 0 {
            assert_eq!(header.max_timestamp, max);
        }
    }
    assert!(found.iter().map(|record| record.offset).is_sorted());
    found
}

/// Everything a consumer reads from `from` on, in pieces of `bytes`.
pub(crate) fn read_all(log: &PartitionLog, from: i64, bytes: usize) -> Vec<Entry> {
    let (mut at, end) = (Offset(from), log.state().end_offset);
    let mut entries: Vec<Entry> = Vec::new();
    while at < end {
        let read = log.read(at, end, bytes).unwrap();
        let Some(last) = read.last() else { break };
        assert!(last.next_offset() > at, "the reader gets on");
        assert!(read[0].next_offset() > at);
        at = last.next_offset();
        entries.extend(read);
    }
    entries
}
