//! The value of one entry in a bucket: a fixed header, then the payload as it came.
//!
//! ```text
//! 0 format u8 | 1 kind u8 | 2 reserved u16 | 4 offset count u32 | 8 term u64 | 16 base offset i64
//! 24 max timestamp i64 | 32 crc u32 | 36 payload
//! ```
//! The CRC-32C covers bytes 0..32 and the key, and for every kind but a batch the payload too: a
//! batch brings its own.
//!
//! Invariant: bytes from the disk never panic here; what does not decode is a reason.

use bytes::{Bytes, BytesMut};

use crate::batch::{self, HEADER_BYTES};
use crate::{Entry, EntryKind, Index, Offset, PartitionId, Term, keys};

/// Bytes before the payload.
pub(crate) const RECORD_HEADER_BYTES: usize = 36;

const FORMAT: u8 = 1;
const CRC_AT: usize = 32;

/// What the header of a stored entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) index: Index,
    pub(crate) term: Term,
    pub(crate) kind: EntryKind,
    pub(crate) base_offset: Offset,
    pub(crate) record_count: u32,
    pub(crate) max_timestamp: i64,
    pub(crate) payload_bytes: usize,
}

impl Head {
    /// The head of an entry in memory.
    pub(crate) fn of(entry: &Entry) -> Self {
        Self {
            index: entry.index,
            term: entry.term,
            kind: entry.kind,
            base_offset: entry.base_offset,
            record_count: entry.record_count,
            max_timestamp: entry.max_timestamp,
            payload_bytes: entry.payload.len(),
        }
    }

    /// The offset after the last one the entry takes.
    pub(crate) fn next_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.record_count)))
    }

    /// The entry with `payload`.
    pub(crate) fn entry(&self, payload: Bytes) -> Entry {
        Entry {
            index: self.index,
            term: self.term,
            kind: self.kind,
            base_offset: self.base_offset,
            record_count: self.record_count,
            max_timestamp: self.max_timestamp,
            payload,
        }
    }
}

/// A buffer with room for the header and a copy of `payload`.
pub(crate) fn buffer(payload: &[u8]) -> BytesMut {
    let mut value = BytesMut::with_capacity(RECORD_HEADER_BYTES + payload.len());
    value.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
    value.extend_from_slice(payload);
    value
}

/// Fills in the header of `value`, made by [`buffer`], and stamps a batch.
pub(crate) fn seal(id: PartitionId, head: &Head, leader_epoch: i32, value: &mut BytesMut) {
    assert!(value.len() >= RECORD_HEADER_BYTES, "a value begins with its header");
    let (header, payload) = value.split_at_mut(RECORD_HEADER_BYTES);
    if head.kind == EntryKind::Batch {
        batch::stamp(payload, head.base_offset, leader_epoch);
    }
    header[0] = FORMAT;
    header[1] = kind_byte(head.kind);
    header[4..8].copy_from_slice(&head.record_count.to_be_bytes());
    header[8..16].copy_from_slice(&head.term.0.to_be_bytes());
    header[16..24].copy_from_slice(&head.base_offset.0.to_be_bytes());
    header[24..32].copy_from_slice(&head.max_timestamp.to_be_bytes());
    let crc = checksum(id, head.index, head.kind, &header[..CRC_AT], payload);
    header[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
}

/// Decodes the header of `value`, stored under (`id`, `index`), and checks what it covers.
pub(crate) fn decode(id: PartitionId, index: Index, value: &[u8]) -> Result<Head, &'static str> {
    let (header, payload) =
        value.split_first_chunk::<RECORD_HEADER_BYTES>().ok_or("entry header (short)")?;
    let [format, kind, ..] = *header;
    if format != FORMAT {
        return Err("entry format");
    }
    let kind = kind_from_byte(kind).ok_or("entry kind")?;
    let stated = u32::from_be_bytes(part(header, CRC_AT));
    if checksum(id, index, kind, &header[..CRC_AT], payload) != stated {
        return Err("entry checksum");
    }
    let head = Head {
        index,
        term: Term(u64::from_be_bytes(part(header, 8))),
        kind,
        base_offset: Offset(i64::from_be_bytes(part(header, 16))),
        record_count: u32::from_be_bytes(part(header, 4)),
        max_timestamp: i64::from_be_bytes(part(header, 24)),
        payload_bytes: payload.len(),
    };
    if kind == EntryKind::Batch && !batch_agrees(&head, payload) {
        return Err("batch header");
    }
    Ok(head)
}

/// Whether a value that [`seal`] has filled in holds a batch.
pub(crate) fn is_batch(value: &[u8]) -> bool {
    value.get(1) == Some(&kind_byte(EntryKind::Batch))
}

/// Whether the batch in `payload` has the length and the base offset that were written.
fn batch_agrees(head: &Head, payload: &[u8]) -> bool {
    let Some(fields) = payload.first_chunk::<HEADER_BYTES>() else { return false };
    let mut base = [0; 8];
    base.copy_from_slice(&fields[..8]);
    let mut length = [0; 4];
    length.copy_from_slice(&fields[8..12]);
    let stated = usize::try_from(i32::from_be_bytes(length)).unwrap_or(0);
    i64::from_be_bytes(base) == head.base_offset.0
        && stated.checked_add(batch::LENGTH_OVERHEAD) == Some(payload.len())
}

fn checksum(id: PartitionId, index: Index, kind: EntryKind, header: &[u8], payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(header), &keys::data(id, index));
    if kind == EntryKind::Batch { crc } else { crc32c::crc32c_append(crc, payload) }
}

fn part<const N: usize>(header: &[u8; RECORD_HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&header[at..at + N]);
    out
}

fn kind_byte(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Batch => 1,
        EntryKind::Blank => 2,
        EntryKind::Membership => 3,
        EntryKind::Command => 4,
    }
}

fn kind_from_byte(byte: u8) -> Option<EntryKind> {
    match byte {
        1 => Some(EntryKind::Batch),
        2 => Some(EntryKind::Blank),
        3 => Some(EntryKind::Membership),
        4 => Some(EntryKind::Command),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{Head, buffer, decode, seal};
    use crate::{EntryKind, Index, Offset, PartitionId, Term};

    const ID: PartitionId = PartitionId(3);

    fn command(index: u64, payload: &[u8]) -> (Head, Vec<u8>) {
        let head = Head {
            index: Index(index),
            term: Term(4),
            kind: EntryKind::Command,
            base_offset: Offset(5),
            record_count: 0,
            max_timestamp: -1,
            payload_bytes: payload.len(),
        };
        let mut value = buffer(payload);
        seal(ID, &head, 4, &mut value);
        (head, value.to_vec())
    }

    #[test]
    fn a_value_decodes_only_under_its_own_key_and_unchanged() {
        let (head, value) = command(8, b"payload");
        assert_eq!(decode(ID, Index(8), &value), Ok(head));
        assert!(decode(ID, Index(9), &value).is_err());
        assert!(decode(PartitionId(4), Index(8), &value).is_err());
        for bit in 0..value.len() * 8 {
            let mut bad = value.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(ID, Index(8), &bad).is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn every_payload_comes_back(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (head, value) = command(1, &payload);
            prop_assert_eq!(decode(ID, Index(1), &value), Ok(head));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..150)) {
            let _ = decode(ID, Index(1), &bytes);
        }
    }
}
