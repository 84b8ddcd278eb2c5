//! The clients of a simulation: idempotent producers, as Kafka's are, and readers that want to see everything.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jangbu_engine::batch::Header;
use tokio_util::sync::CancellationToken;

use super::disk::DiskLog;
use super::records::batch;
use super::world::{Replica, World};
use crate::partition::{Appended, Appending, Error};

/// Batches that a producer has in flight at most (`max.in.flight.requests.per.connection`).
const IN_FLIGHT_MAX: u64 = 5;
/// After so many of a thousand sends a producer is silent for a while, so that others come to be all that is new.
const LONG_PAUSES: u64 = 60;
/// How long a client waits for one answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// Whether the clients go on.
#[derive(Debug, Default)]
pub(super) struct Clients {
    ending: AtomicBool,
}

/// A replica that says it leads, mostly, else any; with what ends when its process does.
fn target(world: &World) -> Option<(Arc<Replica>, CancellationToken)> {
    let running = world.running();
    let mut leading: Vec<_> =
        running.iter().filter(|(_, replica, _)| replica.leads()).cloned().collect();
    if leading.is_empty() || world.draw(|random| random.chance(20)) {
        leading = running;
    }
    world.draw(|random| random.pick(&leading)).map(|(_, replica, dead)| (replica, dead))
}

/// An answer, unless it takes too long or the process ends before: then the call is dropped wherever it is.
async fn answer<T>(
    dead: &CancellationToken,
    asked: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        biased;
        () = dead.cancelled() => Err(Error::Stopped),
        answer = tokio::time::timeout(PATIENCE, asked) => answer.map_err(|_| Error::Timeout)?,
    }
}

impl Clients {
    /// Starts no new batches and reads from now on.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Release);
    }

    fn go_on(&self, world: &World) -> bool {
        !self.ending.load(Ordering::Acquire) && world.violation().is_none()
    }

    /// Produces until it is told to end and every batch is acknowledged.
    pub(super) async fn produce(self: Arc<Self>, world: Arc<World>, id: i64) {
        let mut unacknowledged = VecDeque::new();
        let mut sequence = 0;
        loop {
            let goes_on = self.go_on(&world);
            if world.violation().is_some() || !goes_on && unacknowledged.is_empty() {
                return;
            }
            let wanted =
                if goes_on { world.draw(|random| random.within(1..IN_FLIGHT_MAX + 1)) } else { 0 };
            while (unacknowledged.len() as u64) < wanted {
                let (count, fill) = world.draw(|random| (random.within(1..4), random.next()));
                let count = i32::try_from(count).expect("a batch has few records");
                unacknowledged.push_back(batch(id, sequence, count, fill.to_be_bytes()[0]));
                sequence += count;
            }
            send(&world, &mut unacknowledged).await;
            pause(&world).await;
            if world.draw(|random| random.chance(LONG_PAUSES)) {
                tokio::time::sleep(world.draw(|random| random.millis(500..3000))).await;
            }
        }
    }

    /// Reads until it is told to end.
    pub(super) async fn read(self: Arc<Self>, world: Arc<World>) {
        while self.go_on(&world) {
            pause(&world).await;
            let Some((replica, dead)) = target(&world) else { continue };
            let readable = world.known(|oracle| oracle.readable());
            if answer(&dead, confirm(Arc::clone(&replica))).await.is_ok() {
                let end = replica.bounds().high_watermark;
                world.note(format_args!("{:#x} is read up to {end}", replica.replica().0));
                world.judge(|oracle| oracle.read(replica.replica(), readable, end));
                world.look_at_records(replica.replica(), end);
            }
        }
    }
}

async fn confirm(replica: Arc<Replica>) -> Result<(), Error> {
    replica.linearize().await
}

async fn append(
    replica: Arc<Replica>,
    batch: Bytes,
    header: Header,
) -> Result<Appending<DiskLog>, Error> {
    replica.append(batch, &header).await
}

async fn pause(world: &World) {
    tokio::time::sleep(world.draw(|random| random.millis(world.plan.pause_ms.clone()))).await;
}

/// Sends all that is not acknowledged, in order, and takes the answers, up to the first that is none.
async fn send(world: &World, unacknowledged: &mut VecDeque<Bytes>) {
    let Some((replica, dead)) = target(world) else { return };
    let mut sent = Vec::new();
    for batch in &*unacknowledged {
        let header = Header::parse(batch).expect("producers make whole batches");
        match answer(&dead, append(Arc::clone(&replica), batch.clone(), header)).await {
            Ok(appending) => sent.push((header, appending)),
            Err(error) => {
                refused(world, &replica, &header, sent.is_empty(), &error);
                break;
            }
        }
    }
    for (header, appending) in sent {
        let (id, sequence) = (header.producer_id, header.base_sequence);
        let Appended { offset, .. } = match answer(&dead, appending.appended()).await {
            Ok(appended) => appended,
            Err(error) => {
                world.note(format_args!("producer {id}: {sequence} comes to nothing: {error}"));
                break;
            }
        };
        world.note(format_args!("producer {id}: {sequence} is acknowledged at {offset}"));
        world.judge(|oracle| oracle.acknowledged(&header, offset));
        unacknowledged.pop_front();
    }
}

/// The first batch that is not acknowledged is always the next one, or was appended before.
fn refused(world: &World, replica: &Replica, header: &Header, first: bool, error: &Error) {
    let (id, sequence, replica) = (header.producer_id, header.base_sequence, replica.replica().0);
    world.note(format_args!("producer {id}: {replica:#x} refuses {sequence}: {error}"));
    if first && matches!(error, Error::Refused(_)) {
        world.fail(format!("producer {id}: the batch that comes next is refused: {error}"));
    }
}
