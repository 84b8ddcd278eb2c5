//! From what groups want stored to the partition's log: as many writes as wait become one batch, one batch at a time.
//!
//! Invariants:
//! - Writes reach the log in the order in which they were asked for, and only in the term in which they were.
//! - A write of a consumer group that fails takes those behind it of the same group along: they count on it.
//! - What waits is bounded.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jangbu_engine::Offset;
use jangbu_engine::batch::Header;
use kafka_protocol::ResponseError;

use super::batch::{self, Pair};
use super::effects::{Effects, Then, Write};
use super::shard::Shard;
use crate::partition;

/// A batch of writes is closed at this size.
const BATCH_BYTES: usize = 256 << 10;
/// What belongs together may not be larger: `max.message.bytes` in Kafka.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// What waits of one partition.
const QUEUE_BYTES_MAX: usize = 16 << 20;
/// `offsets.commit.timeout.ms`: how long a write may take.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Queued {
    pairs: Vec<Pair>,
    bytes: usize,
    then: Then,
}

/// Writes that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Queued>,
    bytes: usize,
}

impl Queue {
    pub(super) fn push(&mut self, writes: Vec<Write>) {
        for Write { records, then } in writes {
            let pairs: Vec<Pair> = records.iter().map(|record| record.encode()).collect();
            let size = |(key, value): &Pair| key.len() + value.as_ref().map_or(0, |v| v.len()) + 16;
            let bytes = pairs.iter().map(size).sum();
            self.bytes += bytes;
            self.waiting.push_back(Queued { pairs, bytes, then });
        }
    }

    /// Whether more should not be taken in.
    pub(super) fn is_full(&self) -> bool {
        self.bytes > QUEUE_BYTES_MAX
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What waits of these consumer groups.
    fn take_chained(&mut self, groups: &BTreeSet<String>) -> Vec<Queued> {
        if groups.is_empty() {
            return Vec::new();
        }
        let all = std::mem::take(&mut self.waiting);
        let is_chained =
            |queued: &Queued| queued.then.chain().is_some_and(|id| groups.contains(id));
        let (taken, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(is_chained);
        self.waiting = kept.into();
        self.bytes -= taken.iter().map(|queued| queued.bytes).sum::<usize>();
        taken
    }

    /// The next writes that become one batch; none when nothing waits.
    fn take(&mut self) -> Vec<Queued> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(next) = self.waiting.front() {
            if !taken.is_empty() && bytes + next.bytes > BATCH_BYTES {
                break;
            }
            bytes += next.bytes;
            taken.extend(self.waiting.pop_front());
        }
        self.bytes -= bytes;
        taken
    }
}

/// Writes until the shard ends.
pub(super) async fn write(shard: Arc<Shard>) {
    loop {
        let taken = {
            let mut state = shard.state.lock();
            let epoch = state.leading.as_ref().map(|(epoch, _)| *epoch);
            epoch.map(|epoch| (epoch, state.queue.take())).filter(|(_, taken)| !taken.is_empty())
        };
        let Some((epoch, taken)) = taken else {
            tokio::select! {
                () = shard.ended.cancelled() => return,
                () = shard.queued.notified() => continue,
            }
        };
        let (fitting, large) = split(taken);
        tell(&shard, epoch, large, |then| match then {
            Then::Committed { .. } => Err(ResponseError::InvalidCommitOffsetSize),
            _ => Err(ResponseError::UnknownServerError),
        });
        if fitting.is_empty() {
            continue;
        }
        let result = store(&shard, epoch, &fitting).await;
        tell(&shard, epoch, fitting, |_| result);
    }
}

/// What can be stored, and what is too large, with what counts on it.
fn split(taken: Vec<Queued>) -> (Vec<Queued>, Vec<Queued>) {
    let mut torn = BTreeSet::new();
    taken.into_iter().partition(|queued| {
        let chain = queued.then.chain();
        let fits = queued.bytes <= WRITE_BYTES_MAX;
        if !fits {
            torn.extend(chain.map(str::to_owned));
        }
        fits && chain.is_none_or(|id| !torn.contains(id))
    })
}

/// Has the log store the writes as one batch, and waits until the table has it.
async fn store(shard: &Shard, epoch: i32, writes: &[Queued]) -> Result<(), ResponseError> {
    let pairs: Vec<Pair> = writes.iter().flat_map(|queued| queued.pairs.iter().cloned()).collect();
    let Ok(count) = i64::try_from(pairs.len()) else {
        return Err(ResponseError::UnknownServerError);
    };
    if count == 0 {
        return Ok(());
    }
    let batch = batch::encode(&pairs, shard.now().wall_ms);
    let header = Header::parse(&batch).map_err(|_| ResponseError::UnknownServerError)?;
    if let Err(reason) = shard.broker.disk.admit(batch.len()) {
        tracing::warn!(reason, "groups and offsets are not stored");
        return Err(ResponseError::NotCoordinator);
    }
    let storing = async {
        let appending = shard.partition.append_in(epoch, batch, &header).await;
        let appended = appending.map_err(|error| code(&error))?.appended().await;
        let appended = appended.map_err(|error| code(&error))?;
        shard.wait_for(Offset(appended.offset.0 + count)).await
    };
    tokio::select! {
        stored = tokio::time::timeout(TIMEOUT, storing) => {
            stored.unwrap_or(Err(ResponseError::CoordinatorNotAvailable))
        }
        () = shard.ended.cancelled() => Err(ResponseError::NotCoordinator),
    }
}

/// As Kafka tells members what has become of a write.
fn code(error: &partition::Error) -> ResponseError {
    match error {
        partition::Error::Timeout => ResponseError::CoordinatorNotAvailable,
        _ => ResponseError::NotCoordinator,
    }
}

/// Tells the groups what has become of their writes.
fn tell(
    shard: &Shard,
    epoch: i32,
    writes: Vec<Queued>,
    result: impl Fn(&Then) -> Result<(), ResponseError>,
) {
    if writes.is_empty() {
        return;
    }
    let (limits, now) = (shard.limits(), shard.now());
    let mut state = shard.state.lock();
    let state = &mut *state;
    let Some((_, machine)) = state.leading.as_mut().filter(|(led, _)| *led == epoch) else {
        return;
    };
    let mut fx = Effects::default();
    let failed = writes.iter().filter(|queued| result(&queued.then).is_err());
    let failed = failed.filter_map(|queued| queued.then.chain()).map(str::to_owned).collect();
    let behind = state.queue.take_chained(&failed);
    let refused = |queued| (queued, Err(ResponseError::CoordinatorNotAvailable));
    let told = writes.into_iter().map(|queued| {
        let result = result(&queued.then);
        (queued, result)
    });
    for (queued, result) in told.chain(behind.into_iter().map(refused)) {
        machine.stored(queued.then, result, &state.table, now, &limits, &mut fx);
    }
    shard.carry_out(state, fx);
}
