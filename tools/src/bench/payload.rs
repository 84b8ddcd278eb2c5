//! The records that are written: values of one size that compress to about half, the time they were due in front.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use jangbu_client::Record;

use super::load::Load;

/// Bytes of the time in front of a value.
const DUE_BYTES: usize = 8;
/// Values are cut from a text that is so much longer than one of them, so that neighbours differ.
const TEXT_BYTES: usize = 1 << 16;

/// Makes records.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    text: Bytes,
    size: usize,
    keys: u64,
    partitions: i32,
    /// All due times count from here.
    epoch: Instant,
}

impl Payload {
    /// For one run.
    pub(crate) fn new(load: &Load, epoch: Instant) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut text = BytesMut::with_capacity(TEXT_BYTES + load.size);
        while text.len() < TEXT_BYTES + load.size {
            // Hexadecimal digits of random bits: half of each byte is known.
            text.put_slice(format!("{:016x}", next(&mut state)).as_bytes());
        }
        let (text, partitions) = (text.freeze(), load.partitions);
        Self { text, size: load.size, keys: load.keys, partitions, epoch }
    }

    /// The record with this number, and the partition it goes to unless its key decides.
    pub(crate) fn record(&self, number: u64, due: Instant) -> (Option<i32>, Record) {
        let mut value = BytesMut::with_capacity(self.size);
        let nanos = due.duration_since(self.epoch).as_nanos();
        value.put_u64(u64::try_from(nanos).unwrap_or(u64::MAX));
        let from = usize::try_from(number.wrapping_mul(61) % TEXT_BYTES as u64).unwrap_or(0);
        value.put_slice(&self.text[from..from + self.size - DUE_BYTES]);
        let mut state = number;
        let key = (self.keys > 0).then(|| format!("key-{:012}", next(&mut state) % self.keys));
        let partition = match key {
            Some(_) => None,
            None => i32::try_from(number % u64::from(self.partitions.unsigned_abs())).ok(),
        };
        (partition, Record::new(key, value))
    }

    /// When a record that was read was due; `None` if it is not one of ours.
    pub(crate) fn due(&self, value: &[u8]) -> Option<Instant> {
        let nanos = u64::from_be_bytes(*value.first_chunk::<DUE_BYTES>()?);
        self.epoch.checked_add(Duration::from_nanos(nanos))
    }
}

/// SplitMix64: the next of a row of numbers that look random.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
