//! Micro benchmarks of the engine, and the side-by-side harness against other brokers.

use bytes::Bytes;
use jangbu_engine::batch::HEADER_BYTES;

/// A valid batch of one record, `bytes` long.
///
/// # Panics
/// When `bytes` is smaller than a batch's header or larger than a batch can be.
#[must_use]
pub fn batch(bytes: usize) -> Bytes {
    let mut batch: Vec<u8> = (0..bytes).map(|at| at.to_le_bytes()[0]).collect();
    let length = i32::try_from(bytes - 12).expect("batches are small");
    batch[..HEADER_BYTES].fill(0);
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    batch[60] = 1;
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(batch)
}
