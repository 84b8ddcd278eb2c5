//! Keeps a shard's table level with the log, its role with the partition's leadership, and its groups with the clock.
//!
//! A replica reads its log once from its start, and from then on what is committed as it comes, mostly from memory. So
//! whoever comes to lead has little or nothing left to read.

use std::sync::Arc;
use std::time::Duration;

use jangbu_engine::{Error as EngineError, Offset};

use super::Table;
use super::batch;
use super::effects::Effects;
use super::records::Record;
use super::shard::{Shard, State};
use crate::partition::{self, Bounds};

/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;
/// When a read has failed it is tried again after this.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until the shard ends.
pub(super) async fn run(shard: Arc<Shard>) {
    let _watching = shard.partition.watch(&shard.wake);
    loop {
        let leads = shard.partition.leads().then(|| shard.partition.epoch());
        let level = catch_up(&shard).await;
        // The table holds what was committed when this replica led already: that is all of earlier terms.
        shard.look_at_role(leads.filter(|_| level));
        let until = tick(&shard);
        let clock = async {
            match until {
                Some(ms) => tokio::time::sleep_until(shard.instant(ms)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shard.ended.cancelled() => return,
            () = shard.wake.notified() => {}
            () = clock => {}
            () = tokio::time::sleep(RETRY), if !level => {}
        }
    }
}

/// Reads what is committed. False when something cannot be read.
async fn catch_up(shard: &Shard) -> bool {
    loop {
        let Bounds { log_start, high_watermark } = shard.partition.bounds();
        let mut from = *shard.applied.borrow();
        if log_start > from {
            // What was passed over is gone from the log, so it counts no more.
            shard.state.lock().table = Table::default();
            from = log_start;
        }
        if from >= high_watermark {
            return true;
        }
        match shard.partition.read(from, READ_BYTES).await {
            Ok(entries) => {
                let next = entries.last().map_or(high_watermark, jangbu_engine::Entry::next_offset);
                {
                    let mut state = shard.state.lock();
                    let state = &mut *state;
                    for entry in &entries {
                        apply(shard, state, entry.base_offset, &entry.payload);
                    }
                }
                shard.applied.send_replace(next.max(from));
            }
            // The log start has moved meanwhile.
            Err(partition::Error::Log(EngineError::OffsetOutOfRange { .. })) => {
                tokio::task::yield_now().await;
            }
            Err(partition::Error::Stopped) => return false,
            Err(error) => {
                let partition = shard.partition.id();
                tracing::warn!(%error, %partition, "committed offsets cannot be read; tried again");
                return false;
            }
        }
    }
}

fn apply(shard: &Shard, state: &mut State, offset: Offset, payload: &[u8]) {
    let show = |key: &[u8], value: Option<&[u8]>| match Record::decode(key, value) {
        Ok(record) => {
            if let (Some((_, machine)), Some(id)) = (&mut state.leading, record.stores_for()) {
                machine.know(id);
            }
            state.table.apply(record);
        }
        Err(what) => {
            let partition = shard.partition.id();
            tracing::warn!(what, %partition, %offset, "a record about groups does not decode and is passed over");
        }
    };
    if let Err(error) = batch::decode(payload, show) {
        let partition = shard.partition.id();
        tracing::error!(error, %partition, %offset, "a batch about groups does not decode and is passed over");
    }
}

/// Does what the time asks for; when to look again.
fn tick(shard: &Shard) -> Option<u64> {
    let (limits, now, topics) = (shard.limits(), shard.now(), shard.catalog());
    let mut state = shard.state.lock();
    let state = &mut *state;
    let mut fx = Effects::default();
    if let Some((_, machine)) = &mut state.leading {
        machine.learn(topics);
        machine.tick(&state.table, now, &limits, &mut fx);
    }
    // What follows sets no alarm for what is about to be slept until.
    state.sleeps_until = Some(0);
    shard.carry_out(state, fx);
    state.sleeps_until = state.leading.as_ref().and_then(|(_, machine)| machine.next_deadline());
    state.sleeps_until
}
