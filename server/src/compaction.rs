//! The cleaner: has the logs of compacted topics cleaned, and key indexes of logs that were there before built up.
//!
//! Every replica on this node is cleaned here, led from here or not. One partition is worked on at a time, the dirtiest
//! first; a round looks at all of them every `log.cleaner.backoff.ms`, and as soon as much has been appended since.
//!
//! ```text
//! look: what is dirty, up to where ──> due? (choice.rs) ──> steps of 1 to 4 MiB, each with its pause (pace.rs) ──> look again
//! ```
//!
//! Invariants:
//! - Only records below the high watermark are cleaned, and none younger than the topic says.
//! - The last batch of each producer stays, if need be without records.
//! - With `compact` alone nothing but `DeleteRecords` moves a log start; with `compact,delete` retention does as well.
//! - A partition that cannot be cleaned holds up no other: it is tried again later, and `/readyz` and `/metrics` say so.
//!
//! Not here: how a log is cleaned (the engine's `table.rs`), giving space back (`housekeeping.rs`).

pub(crate) mod background;
mod choice;
mod pace;
mod report;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jangbu_engine::{CleanRules, Error as EngineError, KeyIndex, Offset, PartitionId};
use tokio::time::Instant;

use self::choice::{Dirt, dirtiest};
use self::pace::Work;
pub(crate) use self::report::Report;
use crate::broker::{Broker, now_ms};
use crate::configs::TopicSettings;
use crate::partition::{Error, Partition};

/// What one step reads of a log, about, when nothing is appended meanwhile, ...
const STEP_BYTES: u64 = 4 << 20;
/// ... and otherwise: appends wait behind what it writes.
const SMALL_STEP_BYTES: u64 = 1 << 20;
/// How often is looked whether there is a reason for a round.
const LOOK: Duration = Duration::from_secs(1);
/// A round begins early once so much was appended since the last, over all partitions: the more, the fewer settled batches are
/// written again for each record that goes, ...
const EARLY_BYTES: u64 = 256 << 20;
/// ... or so much, and then nothing for a while.
const IDLE_BYTES: u64 = 16 << 20;
/// A partition that could not be cleaned is tried again after this, twice as late each time, ...
const RETRY_MIN: Duration = Duration::from_secs(15);
/// ... at most this late.
const RETRY_MAX: Duration = Duration::from_secs(600);

/// A replica with what its topic says.
struct Candidate {
    name: String,
    partition: Arc<Partition>,
    settings: TopicSettings,
}

/// Runs until the node drains.
async fn run(broker: Arc<Broker>) {
    let mut last = None;
    let (mut appended, mut looked) = (0, 0);
    loop {
        tokio::select! {
            () = broker.draining.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let now = broker.engine.stats().appended_bytes;
        let backoff =
            Duration::from_millis(broker.controller.image().own_configs().cleaner_backoff_ms());
        let since = now.saturating_sub(appended);
        let early = since >= if now == looked { IDLE_BYTES } else { EARLY_BYTES };
        looked = now;
        if !early && last.is_some_and(|last: Instant| last.elapsed() < backoff) {
            continue;
        }
        appended = now;
        tokio::select! {
            () = broker.draining.cancelled() => return,
            () = round(&broker) => {}
        }
        last = Some(Instant::now());
    }
}

/// Works until nothing is due any more.
async fn round(broker: &Broker) {
    let mut done = Vec::new();
    loop {
        build(broker).await;
        let dirt = look(broker).await;
        broker.compaction.saw(&dirt);
        let Some(next) = dirtiest(dirt, |id| done.contains(&id) || broker.compaction.waits(id))
        else {
            return;
        };
        let id = next.partition.id();
        // Each partition once: what was appended meanwhile is the next round's.
        done.push(id);
        match clean(broker, &next).await {
            Ok(()) => broker.compaction.cleaned(id, now_ms()),
            Err(error) => failed(broker, &next.name, id, &error),
        }
    }
}

/// What says nothing about the log: it is being stopped, deleted or sent, or its index is not there yet.
fn is_passing(error: &Error) -> bool {
    matches!(
        error,
        Error::Stopped
            | Error::Log(EngineError::Closed | EngineError::Deleted(_) | EngineError::NotKeyed(_))
    )
}

fn failed(broker: &Broker, name: &str, id: PartitionId, error: &Error) {
    if is_passing(error) {
        return tracing::debug!(partition = name, %error, "cleaning goes on later");
    }
    let retry = broker.compaction.failed(id, name, error.to_string());
    tracing::error!(
        partition = name,
        %error,
        retry_seconds = retry.as_secs(),
        "a partition cannot be cleaned: it keeps all that was written to it until this is mended"
    );
}

/// The replicas here of topics that keep an index of keys.
fn candidates(broker: &Broker) -> Vec<Candidate> {
    let topics: Vec<_> = broker.controller.image().topics().cloned().collect();
    let mut found = Vec::new();
    for topic in topics.into_iter().filter(|topic| topic.settings.keyed()) {
        for (number, placed) in topic.partitions.iter().enumerate() {
            let Some(partition) = broker.replicas.get(placed.group) else { continue };
            let name = format!("{}-{number}", topic.name);
            found.push(Candidate { name, partition, settings: topic.settings });
        }
    }
    found
}

/// Enters the records in the key index that were there before it was turned on.
async fn build(broker: &Broker) {
    let candidates = candidates(broker);
    let building = |one: &&Candidate| one.partition.key_index() == KeyIndex::Building;
    let mut left = candidates.iter().filter(building).count();
    for one in candidates.iter().filter(building) {
        broker.compaction.building(left);
        left -= 1;
        let mut step_bytes = SMALL_STEP_BYTES;
        loop {
            pace::wait_for_appends(&broker.engine).await;
            let work = Work::begin(&broker.engine);
            match one.partition.build_key_index(step_bytes).await {
                Ok(false) => step_bytes = next_bytes(work.rest(step_bytes, rate(broker)).await),
                Ok(true) => break,
                Err(error) => {
                    failed(broker, &one.name, one.partition.id(), &error);
                    break;
                }
            }
        }
    }
    broker.compaction.building(left);
}

/// How dirty the compacted replicas are.
async fn look(broker: &Broker) -> Vec<Dirt> {
    let mut compacted = candidates(broker);
    compacted.retain(|one| one.settings.compact);
    let here: HashSet<_> = compacted.iter().map(|one| one.partition.id()).collect();
    broker.compaction.retain(|id| here.contains(&id));
    let mut found = Vec::new();
    for one in compacted {
        let Candidate { name, partition, settings } = one;
        if partition.key_index() != KeyIndex::Ready {
            continue;
        }
        let now_ms = now_ms();
        let last_ms = broker.compaction.last_ms(partition.id());
        match partition.dirt(settings.min_compaction_lag_ms, now_ms).await {
            Ok((until, cleanliness)) => {
                found.push(Dirt { name, partition, settings, until, cleanliness, now_ms, last_ms });
            }
            Err(_) if broker.compaction.waits(partition.id()) => {}
            Err(error) => failed(broker, &name, partition.id(), &error),
        }
    }
    found
}

/// Cleans one partition from end to end, up to where it was dirty when that began.
async fn clean(broker: &Broker, dirt: &Dirt) -> Result<(), Error> {
    let id = dirt.partition.id();
    // Behind `until`, so that it names the last batch of every producer that has none behind `until`.
    let kept: Vec<Offset> = dirt.partition.kept(dirt.until);
    let mut step_bytes = SMALL_STEP_BYTES;
    loop {
        let settings = broker.controller.image().partition(id).map(|(topic, _)| topic.settings);
        let Some(settings) = settings.filter(|settings| settings.compact) else { return Ok(()) };
        pace::wait_for_appends(&broker.engine).await;
        let rules = CleanRules {
            until: dirt.until,
            now_ms: now_ms(),
            delete_retention_ms: settings.delete_retention_ms,
            kept: kept.clone(),
            bytes_max: step_bytes,
        };
        let work = Work::begin(&broker.engine);
        // Another replica is being sent what is settled: it goes on in a later round.
        let Some(step) = dirt.partition.clean_step(rules).await? else { return Ok(()) };
        broker.compaction.stepped(&step);
        if step.is_finished {
            return Ok(());
        }
        let bytes = step.read_bytes + step.noted_bytes + step.written_bytes;
        step_bytes = next_bytes(work.rest(bytes, rate(broker)).await);
    }
}

/// What the step after one reads that was alone, or not.
fn next_bytes(is_alone: bool) -> u64 {
    if is_alone { STEP_BYTES } else { SMALL_STEP_BYTES }
}

/// Bytes a second that cleaning may read and write.
fn rate(broker: &Broker) -> f64 {
    broker.controller.image().own_configs().cleaner_rate()
}
