//! Whether bytes from a client are one sound record batch. Nothing is decompressed and no record is
//! decoded: the header is read at fixed offsets, the CRC is checked once, an uncompressed batch's record
//! lengths are walked, a compressed one's frame is looked at (`compression.rs`).
//!
//! The codes are those that Kafka 4.3 answers; `server/tests/clients/README.md` lists them by case.

use jangbu_engine::batch::Header;
use kafka_protocol::ResponseError;

use super::compression;
use crate::configs::TopicSettings;
use crate::handlers::topics::Refusal;
use crate::records::zigzag_varint;

/// Zstandard came with this version (KIP-110).
const VERSION_ZSTD: i16 = 7;
const CODEC_ZSTD: u8 = 4;

/// Checks a partition's records: exactly one batch that is what its header says.
///
/// # Errors
/// A [`Refusal`] with the code Kafka gives.
pub(super) fn check(
    records: &[u8],
    version: i16,
    settings: &TopicSettings,
    now_ms: i64,
) -> Result<Header, Refusal> {
    let invalid = |text: String| Refusal::new(ResponseError::InvalidRecord, text);
    let bytes_max = usize::try_from(settings.max_message_bytes).unwrap_or(0);
    if records.len() > bytes_max {
        let text = format!(
            "the batch has {} bytes, max.message.bytes of the topic is {bytes_max}",
            records.len()
        );
        return Err(Refusal::new(ResponseError::MessageTooLarge, text));
    }
    let header = Header::parse_first(records).map_err(|e| invalid(e.to_string()))?;
    let crc = header.verify_crc(records);
    crc.map_err(|e| Refusal::new(ResponseError::CorruptMessage, e.to_string()))?;
    if header.batch_bytes != records.len() {
        let text = "a partition's records must be exactly one record batch";
        return Err(invalid(text.to_owned()));
    }
    check_attributes(&header, version)?;
    let body = &records[jangbu_engine::batch::HEADER_BYTES..];
    match header.codec() {
        0 => walk_records(body, header.record_count).map_err(invalid)?,
        codec => compression::check(codec, body).map_err(invalid)?,
    }
    check_timestamps(&header, settings, now_ms)?;
    Ok(header)
}

fn check_attributes(header: &Header, version: i16) -> Result<(), Refusal> {
    let codec = header.codec();
    if codec > CODEC_ZSTD || (codec == CODEC_ZSTD && version < VERSION_ZSTD) {
        let text = format!("compression codec {codec} is not known in Produce version {version}");
        return Err(Refusal::new(ResponseError::UnsupportedCompressionType, text));
    }
    if header.is_control() {
        let text = "clients may not write control batches";
        return Err(Refusal::new(ResponseError::InvalidRecord, text));
    }
    if header.is_transactional() {
        let text = "transactions are not supported yet";
        return Err(Refusal::new(ResponseError::InvalidTxnState, text));
    }
    if header.producer_id >= 0 && (header.base_sequence < 0 || header.producer_epoch < 0) {
        let text = "an idempotent batch needs a producer epoch and a sequence";
        return Err(Refusal::new(ResponseError::InvalidRecord, text));
    }
    Ok(())
}

/// `message.timestamp.before.max.ms` and `.after.max.ms` (KIP-937), against the timestamps of the header:
/// that of the first record and the largest.
fn check_timestamps(header: &Header, settings: &TopicSettings, now_ms: i64) -> Result<(), Refusal> {
    let newest = now_ms.saturating_add(settings.timestamp_after_max_ms);
    let oldest = now_ms.saturating_sub(settings.timestamp_before_max_ms);
    let text = if header.max_timestamp > newest {
        format!("timestamp {} is beyond {newest}", header.max_timestamp)
    } else if header.base_timestamp >= 0 && header.base_timestamp < oldest {
        format!("timestamp {} is before {oldest}", header.base_timestamp)
    } else {
        return Ok(());
    };
    Err(Refusal::new(ResponseError::InvalidTimestamp, text))
}

/// Walks an uncompressed batch's records by their lengths: as many as the header says, and no byte over.
fn walk_records(mut body: &[u8], count: i32) -> Result<(), String> {
    for index in 0..count {
        let (length, rest) =
            zigzag(body).ok_or_else(|| format!("record {index} has no readable length"))?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        body = rest.get(length..).ok_or_else(|| {
            format!("record {index} states {length} bytes, {} are left", rest.len())
        })?;
    }
    if body.is_empty() {
        Ok(())
    } else {
        Err(format!("{} bytes follow the last record", body.len()))
    }
}

/// Record lengths are 32 bits wide.
fn zigzag(bytes: &[u8]) -> Option<(i64, &[u8])> {
    zigzag_varint(bytes, 5)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_are_zigzag_varints() {
        assert_eq!(zigzag(&[0x02, 9]), Some((1, &[9][..])));
        assert_eq!(zigzag(&[0x01]), Some((-1, &[][..])));
        assert_eq!(zigzag(&[0xac, 0x02]), Some((150, &[][..])));
        assert_eq!(zigzag(&[0x80, 0x80]), None);
        assert_eq!(zigzag(&[0xff; 6]), None);
    }

    #[test]
    fn records_must_fill_the_batch_exactly() {
        assert!(walk_records(&[0x02, 7, 0x04, 8, 9], 2).is_ok());
        assert!(walk_records(&[0x02, 7, 0x04, 8, 9], 1).is_err(), "bytes over");
        assert!(walk_records(&[0x02, 7, 0x04, 8, 9], 3).is_err(), "a record missing");
        assert!(walk_records(&[0x06, 7], 1).is_err(), "a length beyond the end");
        assert!(walk_records(&[0x01, 7], 1).is_err(), "a negative length");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = check(&bytes, 9, &TopicSettings::defaults(), 0);
            let _ = walk_records(&bytes, i32::from(bytes.first().copied().unwrap_or(0)));
        }
    }
}
