//! One client connection: requests in, answers out, in order.
//!
//! Invariants:
//! - Answers leave in the order of their requests.
//! - Produce requests overlap (their batches share syncs); any other request waits until those
//!   before it are answered, as on a Kafka broker.
//! - What a connection has taken in and not answered is bounded by [`PIPELINE_MAX`] and, over all
//!   connections, by the admission of bytes; beyond it the socket is not read.
//! - A connection whose client has taken more than its quota is not read until it is due; what was taken in is answered.
//! - A client that does not take its records keeps their room from others for a while only.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use kafka_protocol::protocol::StrBytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::dispatch::{self, Answer, Refused, Response};
use crate::frame::{self, FrameReader};
use crate::metrics::Failure;
use crate::quotas::{self, Kind, Table};

/// Produce requests of one connection that are on their way at the same time.
const PIPELINE_MAX: usize = 64;
/// Frames up to this size are not counted against the bytes admitted.
const SMALL_FRAME_BYTES: usize = 16 << 10;
/// A client must take so many bytes of an answer in so much time, while others wait for room.
const PROGRESS_BYTES: usize = 1 << 20;
const PROGRESS_TIME: Duration = Duration::from_secs(5);
/// For so long what was taken in is answered before the node closes a connection.
const FINISH_MAX: Duration = Duration::from_secs(3);
/// One permit of the admission stands for this many bytes.
const ADMISSION_UNIT_BYTES: usize = 1 << 10;

/// Bounds the bytes of requests taken in and not yet answered, over all connections.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    permits: Arc<Semaphore>,
    total: usize,
}

impl Admission {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let total = bytes_max / ADMISSION_UNIT_BYTES;
        Self { permits: Arc::new(Semaphore::new(total)), total }
    }

    /// The bound.
    pub(crate) fn bytes_max(&self) -> usize {
        self.total * ADMISSION_UNIT_BYTES
    }

    /// Bytes that are admitted and not yet answered.
    pub(crate) fn taken_bytes(&self) -> usize {
        (self.total - self.permits.available_permits()) * ADMISSION_UNIT_BYTES
    }

    /// Room for a request of `bytes` if there is any, and if nobody else is waiting for it.
    fn admit_now(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, TryAcquireError> {
        let Some(units) = self.units(bytes) else { return Ok(None) };
        Arc::clone(&self.permits).try_acquire_many_owned(units).map(Some)
    }

    /// Waits for room. Whoever waits longest gets it first, and a connection waits for one request at a
    /// time: so those that send much get no more than those that send little.
    async fn admit(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = self.units(bytes)?;
        Arc::clone(&self.permits).acquire_many_owned(units).await.ok()
    }

    /// Permits for a request of `bytes`; none for a small one, which is not counted.
    fn units(&self, bytes: usize) -> Option<u32> {
        if bytes <= SMALL_FRAME_BYTES {
            return None;
        }
        let units = bytes.div_ceil(ADMISSION_UNIT_BYTES).min(self.total);
        Some(u32::try_from(units).unwrap_or(u32::MAX))
    }
}

/// Why a connection ended before its client closed it.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Frame(#[from] frame::Error),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("a request of {bytes} bytes had not arrived in time")]
    Slow { bytes: usize },
    #[error(
        "fewer than {bytes} bytes of records were taken in time, and others wait for their room"
    )]
    Stuck { bytes: usize },
    #[error("writing failed: {0}")]
    Write(#[from] std::io::Error),
}

impl Error {
    /// As what it is counted.
    fn failure(&self) -> Failure {
        match self {
            Self::Write(_) | Self::Frame(frame::Error::Io(_) | frame::Error::Truncated) => {
                Failure::Lost
            }
            Self::Frame(frame::Error::Length { .. }) | Self::Refused(_) => Failure::Refused,
            Self::Slow { .. } | Self::Stuck { .. } => Failure::Slow,
        }
    }
}

struct Connection {
    broker: Arc<Broker>,
    peer: IpAddr,
    frames: FrameReader<OwnedReadHalf>,
    output: OwnedWriteHalf,
    pending: FuturesOrdered<BoxFuture<'static, (Option<Response>, Option<OwnedSemaphorePermit>)>>,
    /// Until then nothing is read, because the client has taken more than its quota.
    rests_until: Option<Instant>,
}

/// Serves one connection until its client closes it or sends something that is no request, or the node drains or sends
/// its clients away.
pub(crate) async fn serve(broker: Arc<Broker>, stream: TcpStream, peer: SocketAddr) {
    // Answers are written whole; waiting to fill a segment would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY could not be set");
    }
    let (input, output) = stream.into_split();
    let frames = FrameReader::new(input, broker.config.request_bytes_max);
    let pending = FuturesOrdered::new();
    let clients = broker.clients();
    let peer_ip = peer.ip();
    let mut connection =
        Connection { broker, peer: peer_ip, frames, output, pending, rests_until: None };
    let Err(error) = connection.run(&clients).await else { return };
    connection.broker.metrics.failed(error.failure());
    match error {
        Error::Write(error) | Error::Frame(frame::Error::Io(error)) => {
            tracing::debug!(%peer, %error, "connection lost");
        }
        error => tracing::warn!(%peer, %error, "connection closed"),
    }
}

impl Connection {
    async fn run(&mut self, clients: &CancellationToken) -> Result<(), Error> {
        loop {
            let rests = self.rests_until;
            let room = self.pending.len() < PIPELINE_MAX && rests.is_none();
            tokio::select! {
                biased;
                Some((response, permit)) = self.pending.next(), if !self.pending.is_empty() => {
                    self.write(response).await?;
                    drop(permit);
                }
                () = clients.cancelled() => return self.finish().await,
                () = rest_until(rests), if rests.is_some() => self.rests_until = None,
                length = self.frames.next_length(), if room => match length? {
                    Some(bytes) => self.take(bytes).await?,
                    None => return self.drain().await,
                },
            }
        }
    }

    /// Answers what was taken in, as far as that is possible soon: what waits for nodes that are not heard may wait for
    /// long.
    async fn finish(&mut self) -> Result<(), Error> {
        tokio::time::timeout(FINISH_MAX, self.drain()).await.unwrap_or(Ok(()))
    }

    /// Answers what was taken in.
    async fn drain(&mut self) -> Result<(), Error> {
        while let Some((response, permit)) = self.pending.next().await {
            self.write(response).await?;
            drop(permit);
        }
        Ok(())
    }

    /// Takes one request of `bytes` in and begins to answer it.
    async fn take(&mut self, bytes: usize) -> Result<(), Error> {
        let permit = self.admit(bytes).await?;
        let body = self.body(bytes, permit.is_some()).await?;
        let call = dispatch::Call::parse(body, self.peer)?;
        let (key, begun) = (call.key, Instant::now());
        if !call.overlaps() {
            self.drain().await?;
        }
        let metered = Metered::new(&self.broker, &call);
        let (answer, spent) = metered.time(dispatch::begin(&self.broker, call)).await;
        match answer? {
            Answer::Now(response) => {
                let response = metered.charge(response, spent);
                self.broker.metrics.answered(key, begun, response.as_ref());
                self.drain().await?;
                self.write(response).await?;
            }
            Answer::Later(response) => {
                let metrics = Arc::clone(&self.broker.metrics);
                self.pending.push_back(Box::pin(async move {
                    let (response, more) = metered.time(response).await;
                    let response = metered.charge(response, spent + more);
                    metrics.answered(key, begun, response.as_ref());
                    (response, permit)
                }));
            }
        }
        Ok(())
    }

    async fn write(&mut self, response: Option<Response>) -> Result<(), Error> {
        self.rest(response.as_ref().map_or(Duration::ZERO, Response::pause));
        let Some((mut chunks, room)) = response.map(Response::into_parts) else { return Ok(()) };
        if room.is_some() {
            return self.write_records(chunks).await;
        }
        while !chunks.is_empty() {
            write_some(&mut self.output, &mut chunks).await?;
        }
        Ok(())
    }

    /// Reads nothing for so long. What was taken in is answered all the same.
    fn rest(&mut self, pause: Duration) {
        if !pause.is_zero() {
            let until = Instant::now() + pause;
            self.rests_until = Some(self.rests_until.map_or(until, |known| known.max(until)));
        }
    }

    /// Writes an answer that takes up room. A client that hardly takes any of it loses its connection when others
    /// wait for room.
    async fn write_records(&mut self, mut chunks: VecDeque<Bytes>) -> Result<(), Error> {
        let arrival = Duration::from_millis(self.broker.config.request_arrival_ms);
        let period = PROGRESS_TIME.min(arrival);
        let mut look = Instant::now() + period;
        let mut taken = 0;
        while !chunks.is_empty() {
            let writing = write_some(&mut self.output, &mut chunks);
            match tokio::time::timeout_at(look.into(), writing).await {
                Ok(written) => taken += written?,
                Err(_) if taken < PROGRESS_BYTES && self.broker.answers.is_wanted() => {
                    return Err(Error::Stuck { bytes: PROGRESS_BYTES });
                }
                Err(_) => (look, taken) = (Instant::now() + period, 0),
            }
        }
        Ok(())
    }

    /// Waits for room, answering what is pending meanwhile: its bytes are what is waited for.
    async fn admit(&mut self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, Error> {
        let admission = self.broker.admission.clone();
        if let Ok(permit) = admission.admit_now(bytes) {
            return Ok(permit);
        }
        let begun = Instant::now();
        let admitted = admission.admit(bytes);
        tokio::pin!(admitted);
        loop {
            tokio::select! {
                biased;
                permit = &mut admitted => {
                    self.broker.metrics.throttled(begun.elapsed());
                    return Ok(permit);
                }
                Some((response, done)) = self.pending.next(), if !self.pending.is_empty() => {
                    self.write(response).await?;
                    drop(done);
                }
            }
        }
    }

    /// Reads the body, answering what is pending meanwhile. A body that was admitted must arrive in
    /// time: one that never comes would keep room from everybody else.
    async fn body(&mut self, bytes: usize, admitted: bool) -> Result<Bytes, Error> {
        let seconds = u64::try_from(bytes >> 20).unwrap_or(u64::MAX);
        let allowed = Duration::from_millis(self.broker.config.request_arrival_ms);
        let late = tokio::time::sleep(allowed + Duration::from_secs(seconds));
        tokio::pin!(late);
        loop {
            tokio::select! {
                biased;
                body = self.frames.body() => return Ok(body?),
                () = &mut late, if admitted => return Err(Error::Slow { bytes }),
                Some((response, done)) = self.pending.next(), if !self.pending.is_empty() => {
                    self.write(response).await?;
                    drop(done);
                }
            }
        }
    }
}

async fn rest_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}

/// Counts the time that a request takes against its client's quota, where quotas are set.
struct Metered(Option<(Arc<Broker>, Arc<Table>, Option<StrBytes>)>);

impl Metered {
    fn new(broker: &Arc<Broker>, call: &dispatch::Call) -> Self {
        let quotas = broker.quotas_set();
        Self(quotas.map(|table| (Arc::clone(broker), table, call.client_id.clone())))
    }

    async fn time<T>(&self, work: impl Future<Output = T>) -> (T, Duration) {
        match self.0 {
            Some(_) => quotas::timed(work).await,
            None => (work.await, Duration::ZERO),
        }
    }

    /// The response, after which the connection rests if its client has taken too much time.
    fn charge(&self, response: Option<Response>, spent: Duration) -> Option<Response> {
        let Some((broker, table, client)) = &self.0 else { return response };
        let client = client.as_deref().unwrap_or_default();
        let percent_seconds = spent.as_secs_f64() * 100.0;
        let pause = broker.quotas.charge(table, Kind::Request, client, percent_seconds);
        match response {
            None if pause.is_zero() => None,
            None => Some(Response::silent(pause)),
            Some(response) => Some(response.resting(pause)),
        }
    }
}

/// Writes some of the chunks with as few system calls as it can, and takes what is written out of them; how many bytes
/// that were.
async fn write_some(
    output: &mut (impl AsyncWrite + Unpin),
    chunks: &mut VecDeque<Bytes>,
) -> Result<usize, std::io::Error> {
    let mut slices = [IoSlice::new(&[]); 64];
    let mut count = 0;
    for (slice, chunk) in slices.iter_mut().zip(&*chunks) {
        *slice = IoSlice::new(chunk);
        count += 1;
    }
    let written = output.write_vectored(&slices[..count]).await?;
    if written == 0 {
        return Err(std::io::ErrorKind::WriteZero.into());
    }
    let mut left = written;
    while let Some(first) = chunks.front_mut() {
        let step = left.min(first.len());
        first.advance(step);
        left -= step;
        if !first.is_empty() {
            break;
        }
        chunks.pop_front();
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_longest_for_room_gets_it_first() {
        let admission = Admission::new(1 << 20);
        let all = admission.admit(1 << 20).await;
        assert_eq!(admission.taken_bytes(), 1 << 20);
        let large = admission.admit(800 << 10);
        tokio::pin!(large);
        tokio::select! {
            biased;
            _ = &mut large => panic!("there is no room"),
            () = std::future::ready(()) => {}
        }
        drop(all);
        assert!(admission.admit_now(300 << 10).is_err(), "the one that waits is not overtaken");
        let large = large.await;
        assert!(admission.admit_now(100 << 10).unwrap().is_some(), "there is room beside it");
        drop(large);
        assert!(admission.admit_now(2 << 20).unwrap().is_some(), "one that is too large, alone");
        assert!(admission.admit_now(100).unwrap().is_none(), "a small one is not counted");
    }
}
