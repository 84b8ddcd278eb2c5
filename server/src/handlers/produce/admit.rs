//! Makes a checked batch what its topic stores: in the topic's codec, with the topic's kind of timestamp.
//!
//! Most topics keep what the producer sent, and then nothing is copied. A batch whose records must be looked
//! at although they are compressed, or that is compressed anew, goes to a thread for blocking work, a
//! bounded number at a time. Records are never changed: they are packed differently, byte for byte the same.
//!
//! Not here: whether the batch is sound (`check.rs`), the codecs (`records/codec.rs`).

use bytes::{Bytes, BytesMut};
use jangbu_engine::batch::{self, HEADER_BYTES, Header};
use kafka_protocol::ResponseError;
use tokio::sync::Semaphore;

use super::check::{self, Checked, Rejection, Rules};
use crate::configs::{TimestampType, TopicSettings};
use jangbu_engine::records::codec;

/// A batch as it goes into the log.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) batch: Bytes,
    pub(super) header: Header,
    /// The time the broker stamped on it, in a topic with LogAppendTime.
    pub(super) append_time: Option<i64>,
}

/// Checks a partition's records and makes them what the topic stores. `recoding` bounds how many batches
/// are decompressed at a time, over all connections.
///
/// # Errors
/// [`Rejection`] with the code Kafka gives.
pub(super) async fn admit(
    records: Bytes,
    rules: Rules<'_>,
    recoding: &Semaphore,
) -> Result<Admitted, Rejection> {
    let checked = check::check(&records, &rules)?;
    let (settings, now_ms) = (rules.settings, rules.now_ms);
    if !checked.look_inside {
        return Ok(stamp(records, checked, settings, now_ms));
    }
    let stopping = |_| Rejection::new(ResponseError::NotLeaderOrFollower, "the node is stopping");
    let _permit = recoding.acquire().await.map_err(stopping)?;
    let Rules { version, index, .. } = rules;
    let (settings, topic) = (*settings, rules.topic.to_owned());
    let work = tokio::task::spawn_blocking(move || {
        let rules = Rules { version, settings: &settings, now_ms, topic: &topic, index };
        let (records, checked) = recode(records, checked.header, &rules)?;
        Ok(stamp(records, checked, &settings, now_ms))
    });
    let failed = |_| Rejection::new(ResponseError::UnknownServerError, "recompression failed");
    work.await.map_err(failed)?
}

/// Decompresses the records, looks at each, and packs them as the topic wants them.
fn recode(
    records: Bytes,
    header: Header,
    rules: &Rules<'_>,
) -> Result<(Bytes, Checked), Rejection> {
    let settings = rules.settings;
    let invalid = |text: String| Rejection::new(ResponseError::InvalidRecord, text);
    let body = codec::decompress(header.codec(), &records[HEADER_BYTES..]).map_err(invalid)?;
    let max_timestamp = check::survey(&body, &header, rules)?;
    let checked = Checked { header, max_timestamp: Some(max_timestamp), look_inside: false };
    let Some(wanted) = codec::number(settings.compression).filter(|to| *to != header.codec())
    else {
        drop(body);
        return Ok((records, checked));
    };
    let mut packed = Vec::with_capacity(records.len());
    packed.extend_from_slice(&records[..HEADER_BYTES]);
    codec::compress(settings.compression, &body, &mut packed)
        .map_err(|e| Rejection::new(ResponseError::UnknownServerError, e.to_string()))?;
    let attributes = batch::with_codec(header.attributes, wanted);
    batch::rewrite(&mut packed, attributes, header.max_timestamp);
    check::check_size(packed.len(), settings)?;
    let header = Header::parse(&packed).map_err(|e| invalid(e.to_string()))?;
    Ok((packed.into(), Checked { header, ..checked }))
}

/// Writes the timestamp type and the largest timestamp into the batch's header where they differ (as Kafka's
/// `LogValidator` does), and with them the CRC.
fn stamp(records: Bytes, checked: Checked, settings: &TopicSettings, now_ms: i64) -> Admitted {
    let Checked { header, max_timestamp, .. } = checked;
    let (append_time, max_timestamp) = match settings.timestamp_type {
        TimestampType::LogAppendTime => (Some(now_ms), now_ms),
        TimestampType::CreateTime => (None, max_timestamp.unwrap_or(header.max_timestamp)),
    };
    let attributes = batch::with_log_append_time(header.attributes, append_time.is_some());
    if attributes == header.attributes && max_timestamp == header.max_timestamp {
        return Admitted { batch: records, header, append_time };
    }
    let mut bytes = records.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    let crc = batch::rewrite(&mut bytes, attributes, max_timestamp);
    let header = Header { attributes, max_timestamp, crc, ..header };
    Admitted { batch: bytes.freeze(), header, append_time }
}
