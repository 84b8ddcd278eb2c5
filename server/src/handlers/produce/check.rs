//! Whether bytes from a client are one sound record batch: the header is read at fixed offsets, the CRC is
//! checked once, an uncompressed batch's records are walked by their lengths, a compressed one's frame is
//! looked at (`compression.rs`).
//!
//! The codes are those that Kafka 4.3 answers; `server/tests/clients/README.md` lists them by case.
//!
//! Not here: looking into compressed records (`admit.rs`), which few topics need.

use jangbu_engine::batch::Header;
use kafka_protocol::ResponseError;

use super::{compression, keys};
use crate::configs::{TimestampType, TopicSettings};
use crate::handlers::topics::Refusal;
use jangbu_engine::records::{self, codec};

/// Zstandard came with this version (KIP-110).
const VERSION_ZSTD: i16 = 7;
const CODEC_ZSTD: u8 = 4;
/// Records that a refusal names; Kafka names all.
const REJECTED_RECORDS_MAX: usize = 1000;
const NO_TIMESTAMP: i64 = -1;

/// What a batch is checked against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    /// Of the request.
    pub(super) version: i16,
    /// Of the topic.
    pub(super) settings: &'a TopicSettings,
    pub(super) now_ms: i64,
    /// Where it is to go.
    pub(super) topic: &'a str,
    pub(super) index: i32,
}

/// A batch that is sound as far as its bytes show without decompressing.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) header: Header,
    /// The largest timestamp of the records, when they were looked at.
    pub(super) max_timestamp: Option<i64>,
    /// The records must be decompressed: the topic wants another codec, or their timestamps may be out of
    /// its bounds, or they are to be entered in a key index.
    pub(super) look_inside: bool,
}

/// Why a batch is refused, and because of which of its records.
#[derive(Debug, Clone)]
pub(super) struct Rejection {
    pub(super) refusal: Refusal,
    /// Numbers of the records in the batch, and what is wrong with each.
    pub(super) records: Vec<(i32, String)>,
}

impl Rejection {
    pub(super) fn new(code: ResponseError, message: impl Into<String>) -> Self {
        Refusal::new(code, message).into()
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, records: Vec::new() }
    }
}

/// Checks a partition's records: exactly one batch that is what its header says.
///
/// # Errors
/// A [`Rejection`] with the code Kafka gives.
pub(super) fn check(records: &[u8], rules: &Rules<'_>) -> Result<Checked, Rejection> {
    let Rules { version, settings, now_ms, .. } = *rules;
    let invalid = |text: String| Rejection::new(ResponseError::InvalidRecord, text);
    check_size(records.len(), settings)?;
    let header = Header::parse_first(records).map_err(|e| invalid(e.to_string()))?;
    let crc = header.verify_crc(records);
    crc.map_err(|e| Rejection::new(ResponseError::CorruptMessage, e.to_string()))?;
    if header.batch_bytes != records.len() {
        let text = "a partition's records must be exactly one record batch";
        return Err(invalid(text.to_owned()));
    }
    check_attributes(&header, version, settings)?;
    let body = &records[jangbu_engine::batch::HEADER_BYTES..];
    let packed = header.codec() != 0;
    if packed {
        compression::check(header.codec(), body).map_err(invalid)?;
    }
    let recode = codec::number(settings.compression).is_some_and(|to| to != header.codec());
    // What is entered in a key index must be what it says.
    let indexed = packed && settings.keyed();
    let look_inside =
        recode || indexed || (packed && Bounds::new(settings, now_ms).may_exclude(&header));
    let max_timestamp = match packed || look_inside {
        true => None,
        false => Some(survey(body, &header, rules)?),
    };
    Ok(Checked { header, max_timestamp, look_inside })
}

/// Refuses a batch that is larger than the topic allows.
///
/// # Errors
/// MESSAGE_TOO_LARGE.
pub(super) fn check_size(bytes: usize, settings: &TopicSettings) -> Result<(), Rejection> {
    let bytes_max = usize::try_from(settings.max_message_bytes).unwrap_or(0);
    if bytes <= bytes_max {
        return Ok(());
    }
    let text =
        format!("the batch has {bytes} bytes, max.message.bytes of the topic is {bytes_max}");
    Err(Rejection::new(ResponseError::MessageTooLarge, text))
}

fn check_attributes(
    header: &Header,
    version: i16,
    settings: &TopicSettings,
) -> Result<(), Rejection> {
    let codec = header.codec();
    if codec > CODEC_ZSTD || (codec == CODEC_ZSTD && version < VERSION_ZSTD) {
        let text = format!("compression codec {codec} is not known in Produce version {version}");
        return Err(Rejection::new(ResponseError::UnsupportedCompressionType, text));
    }
    if header.is_control() {
        let text = "clients may not write control batches";
        return Err(Rejection::new(ResponseError::InvalidRecord, text));
    }
    if header.is_transactional() {
        let text = "transactions are not supported yet";
        return Err(Rejection::new(ResponseError::InvalidTxnState, text));
    }
    if header.producer_id >= 0 && (header.base_sequence < 0 || header.producer_epoch < 0) {
        let text = "an idempotent batch needs a producer epoch and a sequence";
        return Err(Rejection::new(ResponseError::InvalidRecord, text));
    }
    // In a topic with CreateTime Kafka lets the bit pass, and clears it.
    if header.is_log_append_time() && settings.timestamp_type == TimestampType::LogAppendTime {
        let text = "Producer should not set timestamp type to LogAppendTime.";
        return Err(bad_timestamps(vec![(
            0,
            format!("Invalid timestamp type in message. {text}"),
        )]));
    }
    Ok(())
}

/// `message.timestamp.before.max.ms` and `.after.max.ms` (KIP-937) at one moment.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    oldest: i64,
    newest: i64,
}

impl Bounds {
    /// What a topic allows now; everything when the broker stamps its own time.
    fn new(settings: &TopicSettings, now_ms: i64) -> Self {
        match settings.timestamp_type {
            TimestampType::LogAppendTime => Self { oldest: i64::MIN, newest: i64::MAX },
            TimestampType::CreateTime => Self {
                oldest: now_ms.saturating_sub(settings.timestamp_before_max_ms),
                newest: now_ms.saturating_add(settings.timestamp_after_max_ms),
            },
        }
    }

    fn contains(self, timestamp: i64) -> bool {
        timestamp == NO_TIMESTAMP || (self.oldest..=self.newest).contains(&timestamp)
    }

    /// Whether a record of a compressed batch may be out of bounds: the header tells the first record's
    /// timestamp and the largest, but not the smallest.
    fn may_exclude(self, header: &Header) -> bool {
        let outside = !self.contains(header.max_timestamp) || !self.contains(header.base_timestamp);
        self.oldest > 0 || outside
    }
}

/// Walks a batch's plain records: as many as the header says and no byte over, offsets that count up where
/// the batch came compressed, timestamps within the topic's bounds. Returns the largest timestamp.
///
/// # Errors
/// INVALID_RECORD, INVALID_TIMESTAMP.
pub(super) fn survey(body: &[u8], header: &Header, rules: &Rules<'_>) -> Result<i64, Rejection> {
    let bounds = Bounds::new(rules.settings, rules.now_ms);
    let packed = header.codec() != 0;
    let (mut max, mut late, mut misplaced) = (NO_TIMESTAMP, Vec::new(), None);
    let walked = records::walk(body, header.record_count, |index, head| {
        let timestamp = header.base_timestamp.saturating_add(head.timestamp_delta);
        max = max.max(timestamp);
        if !bounds.contains(timestamp) && late.len() < REJECTED_RECORDS_MAX {
            late.push((index, timestamp));
        }
        if packed && head.offset_delta != i64::from(index) {
            misplaced.get_or_insert(index);
        }
    });
    walked.map_err(|text| Rejection::new(ResponseError::InvalidRecord, text))?;
    if let Some(index) = misplaced {
        let text = format!("record {index} of a compressed batch does not have the next offset");
        return Err(Rejection::new(ResponseError::InvalidRecord, text));
    }
    let unkeyed = match rules.settings.compact {
        true => keyless(body, header.record_count, rules)?,
        false => None,
    };
    if late.is_empty() {
        return unkeyed.map_or(Ok(max), Err);
    }
    let Bounds { oldest, newest } = bounds;
    let tell = |(index, timestamp): (i32, i64)| {
        let text = format!(
            "Timestamp {timestamp} of message with offset {index} is out of range. The timestamp \
             should be within [{oldest}, {newest}]"
        );
        (index, text)
    };
    let mut named: Vec<_> = late.into_iter().map(tell).collect();
    // As in Kafka, a record without a key is told to be that, and the timestamps say the code.
    if let Some(Rejection { records, .. }) = unkeyed {
        named.retain(|(index, _)| !records.iter().any(|(other, _)| other == index));
        named.extend(records);
        named.sort_unstable_by_key(|(index, _)| *index);
        named.truncate(REJECTED_RECORDS_MAX);
    }
    Err(bad_timestamps(named))
}

/// The refusal of a batch some of whose records have no key, in Kafka's words.
///
/// # Errors
/// INVALID_RECORD when the records cannot be walked.
fn keyless(body: &[u8], count: i32, rules: &Rules<'_>) -> Result<Option<Rejection>, Rejection> {
    let found = keys::keyless(body, count, REJECTED_RECORDS_MAX)
        .map_err(|text| Rejection::new(ResponseError::InvalidRecord, text))?;
    if found.count == 0 {
        return Ok(None);
    }
    let Rules { topic, index: partition, .. } = rules;
    let text = format!(
        "Compacted topic cannot accept message without key in topic partition {topic}-{partition}"
    );
    let shown = found.first.iter().take(3);
    let shown: Vec<String> =
        shown.map(|i| format!("RecordError(batchIndex={i}, message='{text}')")).collect();
    let summary = format!(
        "One or more records have been rejected due to {} record errors in total, and only showing the first three \
         errors at most: [{}]",
        found.count,
        shown.join(", ")
    );
    let records = found.first.into_iter().map(|index| (index, text.clone())).collect();
    let refusal = Refusal::new(ResponseError::InvalidRecord, summary);
    Ok(Some(Rejection { refusal, records }))
}

fn bad_timestamps(records: Vec<(i32, String)>) -> Rejection {
    let text = "One or more records have been rejected due to invalid timestamp";
    Rejection { refusal: Refusal::new(ResponseError::InvalidTimestamp, text), records }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let settings = TopicSettings { compact: true, ..TopicSettings::defaults() };
            let _ = check(&bytes, &rules(&settings));
        }

        #[test]
        fn arbitrary_records_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            record_count in any::<i32>(),
        ) {
            let settings = TopicSettings { compact: true, ..TopicSettings::defaults() };
            let header = Header { record_count, ..header() };
            let _ = survey(&bytes, &header, &rules(&settings));
        }
    }

    fn rules(settings: &TopicSettings) -> Rules<'_> {
        Rules { version: 9, settings, now_ms: 1_000, topic: "t", index: 4 }
    }

    /// A batch of two records at the time 1000.
    fn sealed(codec: u8, body: &[u8]) -> Vec<u8> {
        let mut batch = vec![0_u8; 61];
        batch.extend(body);
        let length = i32::try_from(batch.len() - 12).unwrap();
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = 2;
        batch[22] = codec;
        batch[26] = 1;
        batch[27..35].copy_from_slice(&1_000_i64.to_be_bytes());
        batch[35..43].copy_from_slice(&1_000_i64.to_be_bytes());
        batch[43..57].fill(0xff);
        batch[60] = 2;
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        batch
    }

    fn header() -> Header {
        Header::parse_first(&sealed(0, &RECORDS)).unwrap()
    }

    /// A record without a key, and one with an empty key.
    const RECORDS: [u8; 14] = [12, 0, 0, 0, 1, 0, 0, 12, 0, 0, 2, 0, 0, 0];

    #[test]
    fn a_compacted_topic_refuses_records_without_a_key_and_names_them() {
        let settings = TopicSettings::defaults();
        assert_eq!(survey(&RECORDS, &header(), &rules(&settings)).unwrap(), 1_000);
        let settings = TopicSettings { compact: true, ..settings };
        let refused = survey(&RECORDS, &header(), &rules(&settings)).unwrap_err();
        let text = "Compacted topic cannot accept message without key in topic partition t-4";
        assert_eq!(refused.refusal.code, ResponseError::InvalidRecord);
        assert_eq!(
            refused.refusal.message,
            format!(
                "One or more records have been rejected due to 1 record errors in total, and only showing the first \
                 three errors at most: [RecordError(batchIndex=0, message='{text}')]"
            )
        );
        assert_eq!(refused.records, [(0, text.to_owned())]);
    }

    #[test]
    fn timestamps_say_the_code_where_keys_are_missing_too() {
        let defaults = TopicSettings::defaults();
        let settings = TopicSettings { compact: true, timestamp_before_max_ms: 1, ..defaults };
        let rules = Rules { now_ms: 2_000, ..rules(&settings) };
        let refused = survey(&RECORDS, &header(), &rules).unwrap_err();
        assert_eq!(refused.refusal.code, ResponseError::InvalidTimestamp);
        let named: Vec<_> = refused.records.iter().map(|(i, text)| (*i, &text[..9])).collect();
        assert_eq!(named, [(0, "Compacted"), (1, "Timestamp")]);
    }

    #[test]
    fn compressed_batches_are_looked_into_where_keys_are_indexed() {
        let batch = sealed(2, &snap_block(&RECORDS));
        let defaults = TopicSettings::defaults();
        for (settings, inside) in [
            (defaults, false),
            (TopicSettings { compact: true, ..defaults }, true),
            (TopicSettings { key_index: true, ..defaults }, true),
        ] {
            assert_eq!(check(&batch, &rules(&settings)).unwrap().look_inside, inside);
        }
    }

    /// A raw snappy block of one literal.
    fn snap_block(bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).unwrap();
        [&[length, (length - 1) << 2][..], bytes].concat()
    }
}
