//! One TCP connection to one broker: pipelined requests, answered in order, matched by correlation id.
//!
//! Invariants:
//! - Requests go out in the order of [`Connection::submit`], which never waits.
//! - Nothing is set aside on the word of a response: its claims are checked before it is decoded.
//! - Once anything went wrong the connection is dead for good: every waiter and every later caller is
//!   told the same reason. A request that timed out kills it too, since answers behind it are stuck.
//!
//! Not here: which broker to ask and when to try again (`cluster.rs`).

use std::collections::HashMap;
use std::io::IoSlice;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument;

use crate::claims::{self, layouts};
use crate::config::Config;
use crate::metrics::{Count, Metrics};
use crate::{Error, Result, frame};

/// Bytes of waiting requests that are written with one call.
const WRITE_BYTES: usize = 256 << 10;

/// A request this client sends, with the versions it was written for.
///
/// A broker may know newer ones, in which fields mean something else.
pub(crate) trait Api: Request {
    /// For error messages.
    const NAME: &'static str;
    /// The newest version used.
    const MAX: i16;
    /// What its response looks like.
    const RESPONSE: &'static layouts::Response;
}

/// A connection after version negotiation.
#[derive(Debug)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    versions: HashMap<i16, (i16, i16)>,
    request_timeout: Duration,
    tasks: [tokio::task::AbortHandle; 2],
}

#[derive(Debug)]
struct Shared {
    broker: String,
    client_id: StrBytes,
    metrics: Arc<dyn Metrics>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next_id: i32,
    waiting: HashMap<i32, oneshot::Sender<Result<Bytes>>>,
    /// `None` once the connection is dead.
    outgoing: Option<mpsc::UnboundedSender<Frame>>,
    death: Option<Arc<str>>,
}

/// A request as it is written, in pieces, so that large ones are not copied together.
type Frame = Vec<Bytes>;

/// An answer that is on its way.
#[derive(Debug)]
pub(crate) struct Pending<R> {
    answer: oneshot::Receiver<Result<Bytes>>,
    shared: Arc<Shared>,
    version: i16,
    what: &'static str,
    sent: Instant,
    timeout: Duration,
    request: std::marker::PhantomData<fn() -> R>,
}

impl Connection {
    /// Connects to `address` and asks which versions the broker supports.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Timeout`], or whatever the broker answers.
    pub(crate) async fn open(address: &str, config: &Config) -> Result<Self> {
        let opening = async {
            let stream = TcpStream::connect(address).await.map_err(|error| Error::Unreachable {
                brokers: address.to_owned(),
                reason: error.to_string(),
            })?;
            let _ = stream.set_nodelay(true);
            let mut connection = Self::start(stream, address, config);
            connection.negotiate().await?;
            Ok(connection)
        };
        let opened = tokio::time::timeout(config.connect_timeout, opening).await;
        let opened = opened.unwrap_or_else(|_| {
            Err(Error::Unreachable {
                brokers: address.to_owned(),
                reason: format!("no answer within {} ms", config.connect_timeout.as_millis()),
            })
        });
        let what = if opened.is_ok() { Count::Connections } else { Count::ConnectionsFailed };
        config.metrics.count(what, 1);
        opened
    }

    fn start(stream: TcpStream, address: &str, config: &Config) -> Self {
        let (reader, writer) = stream.into_split();
        let (outgoing, requests) = mpsc::unbounded_channel();
        let state =
            State { next_id: 0, waiting: HashMap::new(), outgoing: Some(outgoing), death: None };
        let shared = Arc::new(Shared {
            broker: address.to_owned(),
            client_id: StrBytes::from_string(config.client_id.clone()),
            metrics: Arc::clone(&config.metrics),
            state: Mutex::new(state),
        });
        let reading = read_answers(reader, Arc::clone(&shared), config.frame_bytes_max);
        let writing = write_requests(writer, requests, Arc::clone(&shared));
        let tasks = [tokio::spawn(reading).abort_handle(), tokio::spawn(writing).abort_handle()];
        Self { shared, versions: HashMap::new(), request_timeout: config.request_timeout, tasks }
    }

    /// Asks with the newest version; a broker that does not know it answers in version 0 (KIP-511).
    async fn negotiate(&mut self) -> Result<()> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("jangbu"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let answer = self.submit_version(&request, 3, self.request_timeout)?.bytes().await?;
        let mut answer = decode_api_versions(answer, 3)?;
        if answer.error_code == UNSUPPORTED_VERSION {
            let bytes = self.submit_version(&request, 0, self.request_timeout)?.bytes().await?;
            answer = decode_api_versions(bytes, 0)?;
        }
        Error::check(answer.error_code, None, || format!("versions of {}", self.shared.broker))?;
        let ranges =
            answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version)));
        self.versions = ranges.collect();
        Ok(())
    }

    /// The newest version of a request that both sides know.
    pub(crate) fn version<R: Api>(&self) -> Result<i16> {
        let (low, high) = self.versions.get(&R::KEY).copied().unwrap_or((0, -1));
        let best = high.min(R::MAX).min(R::VERSIONS.max);
        if best < low.max(R::VERSIONS.min) {
            return Err(Error::Unsupported { broker: self.shared.broker.clone(), api: R::NAME });
        }
        Ok(best)
    }

    /// Queues a request and returns at once. `extra` is added to the time allowed for the answer, for
    /// requests in which the broker is asked to wait.
    pub(crate) fn submit<R: Api>(&self, request: &R, extra: Duration) -> Result<Pending<R>> {
        self.submit_version(request, self.version::<R>()?, self.request_timeout + extra)
    }

    /// The same for a request whose body is encoded already, in the version that [`Connection::version`] tells.
    pub(crate) fn submit_pieces<R: Api>(
        &self,
        body: Vec<Bytes>,
        extra: Duration,
    ) -> Result<Pending<R>> {
        let version = self.version::<R>()?;
        let client_id = &self.shared.client_id;
        let answer = self.enqueue(|id| encode_pieces::<R>(version, id, client_id, body))?;
        Ok(self.pending(answer, version, self.request_timeout + extra))
    }

    fn pending<R: Request>(
        &self,
        answer: oneshot::Receiver<Result<Bytes>>,
        version: i16,
        timeout: Duration,
    ) -> Pending<R> {
        let shared = Arc::clone(&self.shared);
        let what = std::any::type_name::<R>().rsplit("::").next().unwrap_or("a request");
        let what = what.trim_end_matches("Request");
        let sent = Instant::now();
        Pending { answer, shared, version, what, sent, timeout, request: std::marker::PhantomData }
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn call<R: Api>(&self, request: &R) -> Result<R::Response> {
        self.submit(request, Duration::ZERO)?.answer().await
    }

    /// Whether requests can still be sent.
    pub(crate) fn is_alive(&self) -> bool {
        self.shared.lock().death.is_none()
    }

    /// Sends a request of jangbu's own, in version 0 with flexible headers, and waits for the body of its answer.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the broker does not know it, and as [`Connection::call`].
    pub(crate) async fn call_own(
        &self,
        key: i16,
        name: &'static str,
        body: &[u8],
    ) -> Result<Bytes> {
        if self.versions.get(&key).is_none_or(|(low, _)| *low != 0) {
            return Err(Error::Unsupported { broker: self.shared.broker.clone(), api: name });
        }
        let client_id = &self.shared.client_id;
        let answer =
            self.enqueue(|id| encode_own(key, id, client_id, body).map(|all| vec![all]))?;
        let shared = Arc::clone(&self.shared);
        let pending: Pending<()> = Pending {
            answer,
            shared,
            version: 0,
            what: name,
            sent: Instant::now(),
            timeout: self.request_timeout,
            request: std::marker::PhantomData,
        };
        let bytes = pending.bytes().await?;
        // Behind the correlation id stand the tagged fields, of which there are none.
        match bytes.get(4) {
            Some(0) => Ok(bytes.slice(5..)),
            _ => Err(Error::malformed("a response header", "it has tagged fields")),
        }
    }

    fn submit_version<R: Request>(
        &self,
        request: &R,
        version: i16,
        timeout: Duration,
    ) -> Result<Pending<R>> {
        let client_id = &self.shared.client_id;
        let answer =
            self.enqueue(|id| encode(request, version, id, client_id).map(|all| vec![all]))?;
        Ok(self.pending(answer, version, timeout))
    }

    /// Queues the frame that is made for a correlation id, and returns where its answer comes.
    fn enqueue(
        &self,
        encode: impl FnOnce(i32) -> Result<Frame>,
    ) -> Result<oneshot::Receiver<Result<Bytes>>> {
        let (sender, answer) = oneshot::channel();
        let mut state = self.shared.lock();
        let id = state.next_id;
        let frame = encode(id)?;
        let sent = state.outgoing.as_ref().is_some_and(|outgoing| outgoing.send(frame).is_ok());
        if !sent {
            return Err(self.shared.disconnected(&state));
        }
        state.next_id = id.wrapping_add(1);
        state.waiting.insert(id, sender);
        drop(state);
        self.shared.metrics.count(Count::Requests, 1);
        Ok(answer)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.die("the client closed it");
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    /// Ends the connection for something that went wrong.
    fn lose(&self, reason: &str) {
        if self.die(reason) {
            self.metrics.count(Count::ConnectionsFailed, 1);
        }
    }

    /// Ends the connection: everyone who waits, and everyone who comes later, is told `reason`. False if it has ended
    /// before.
    fn die(&self, reason: &str) -> bool {
        let mut state = self.lock();
        if state.death.is_some() {
            return false;
        }
        state.death = Some(Arc::from(reason));
        state.outgoing = None;
        let waiting = std::mem::take(&mut state.waiting);
        let error = self.disconnected(&state);
        drop(state);
        for (_, waiter) in waiting {
            let _ = waiter.send(Err(error.clone()));
        }
        true
    }

    fn disconnected(&self, state: &State) -> Error {
        let reason = state.death.clone().unwrap_or_else(|| Arc::from("it is being closed"));
        Error::Disconnected { broker: self.broker.clone(), reason }
    }

    /// Hands an answer to the request it belongs to.
    fn complete(&self, body: Bytes) -> std::result::Result<(), &'static str> {
        let mut id = &body[..4];
        let waiter = self.lock().waiting.remove(&id.get_i32());
        let waiter = waiter.ok_or("it answered a request that was not sent")?;
        let _ = waiter.send(Ok(body));
        Ok(())
    }
}

impl<R: Api> Pending<R> {
    /// Waits for the answer and decodes it.
    ///
    /// # Errors
    /// [`Error::Disconnected`], [`Error::Timeout`] (and the connection is given up), [`Error::Malformed`].
    pub(crate) async fn answer(self) -> Result<R::Response> {
        let (version, what) = (self.version, self.what);
        let span =
            tracing::debug_span!("request", api = what, version, broker = %self.shared.broker);
        let mut bytes = self.bytes().instrument(span).await?;
        claims::check(R::RESPONSE, version, &bytes)
            .map_err(|error| Error::malformed("a response", format!("to {what}: {error}")))?;
        decode_header(&mut bytes, R::Response::header_version(version))?;
        let answer = R::Response::decode(&mut bytes, version);
        answer.map_err(|error| Error::malformed("a response", format!("to {what}: {error:#}")))
    }
}

impl<R> Pending<R> {
    async fn bytes(self) -> Result<Bytes> {
        let answered = tokio::time::timeout(self.timeout, self.answer).await;
        let metrics = &self.shared.metrics;
        match &answered {
            Ok(Ok(Ok(_))) => metrics.answered(self.what, self.sent.elapsed()),
            _ => metrics.count(Count::RequestsFailed, 1),
        }
        match answered {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(self.shared.disconnected(&self.shared.lock())),
            Err(_) => {
                let after = self.timeout;
                self.shared.lose(&format!("no answer within {} ms", after.as_millis()));
                Err(Error::Timeout { what: self.what, after })
            }
        }
    }
}

async fn read_answers(mut reader: OwnedReadHalf, shared: Arc<Shared>, frame_bytes_max: usize) {
    let reason = loop {
        match frame::read(&mut reader, frame_bytes_max).await {
            Ok(Some(body)) => {
                if let Err(reason) = shared.complete(body) {
                    break reason.to_owned();
                }
            }
            Ok(None) => break "the broker closed it".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    tracing::debug!(broker = shared.broker, reason, "connection lost");
    shared.lose(&reason);
}

async fn write_requests(
    mut writer: OwnedWriteHalf,
    mut requests: mpsc::UnboundedReceiver<Frame>,
    shared: Arc<Shared>,
) {
    let mut together = Vec::new();
    while let Some(first) = requests.recv().await {
        together.extend(first);
        let mut bytes: usize = together.iter().map(Bytes::len).sum();
        while bytes < WRITE_BYTES {
            let Ok(next) = requests.try_recv() else { break };
            bytes += next.iter().map(Bytes::len).sum::<usize>();
            together.extend(next);
        }
        if let Err(error) = write_all(&mut writer, &together).await {
            shared.lose(&error.to_string());
            return;
        }
        together.clear();
    }
}

/// Writes pieces one behind the other without copying them together.
async fn write_all(writer: &mut OwnedWriteHalf, pieces: &[Bytes]) -> std::io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut rest = &mut slices[..];
    // Empty pieces at the end would look like a connection that takes no more.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match writer.write_vectored(rest).await? {
            0 => return Err(std::io::ErrorKind::WriteZero.into()),
            written => IoSlice::advance_slices(&mut rest, written),
        }
    }
    Ok(())
}

/// The version of request headers with tagged fields.
const FLEXIBLE_HEADER: i16 = 2;
/// Kafka's code for a version the broker does not know.
const UNSUPPORTED_VERSION: i16 = 35;

/// Encodes a request with its frame length and header.
fn encode<R: Request>(request: &R, version: i16, id: i32, client_id: &StrBytes) -> Result<Bytes> {
    let header = header(R::KEY, version, id, client_id);
    let mut bytes = BytesMut::with_capacity(256);
    bytes.put_i32(0);
    header
        .encode(&mut bytes, R::header_version(version))
        .and_then(|()| request.encode(&mut bytes, version))
        .map_err(|error| Error::Invalid(format!("the request cannot be encoded: {error:#}")))?;
    with_length(bytes)
}

/// The same for a body that is encoded already.
fn encode_pieces<R: Request>(
    version: i16,
    id: i32,
    client_id: &StrBytes,
    body: Vec<Bytes>,
) -> Result<Frame> {
    let mut bytes = BytesMut::with_capacity(64);
    bytes.put_i32(0);
    header(R::KEY, version, id, client_id)
        .encode(&mut bytes, R::header_version(version))
        .map_err(|error| Error::Invalid(format!("the request cannot be encoded: {error:#}")))?;
    let length = bytes.len() - 4 + body.iter().map(Bytes::len).sum::<usize>();
    put_length(&mut bytes, length)?;
    Ok(std::iter::once(bytes.freeze()).chain(body).collect())
}

/// The same for a request of jangbu's own.
fn encode_own(key: i16, id: i32, client_id: &StrBytes, body: &[u8]) -> Result<Bytes> {
    let mut bytes = BytesMut::with_capacity(64 + body.len());
    bytes.put_i32(0);
    header(key, 0, id, client_id)
        .encode(&mut bytes, FLEXIBLE_HEADER)
        .map_err(|error| Error::Invalid(format!("the request cannot be encoded: {error:#}")))?;
    bytes.put_slice(body);
    with_length(bytes)
}

fn header(key: i16, version: i16, id: i32, client_id: &StrBytes) -> RequestHeader {
    RequestHeader::default()
        .with_request_api_key(key)
        .with_request_api_version(version)
        .with_correlation_id(id)
        .with_client_id(Some(client_id.clone()))
}

/// Fills in the length of the frame in its first four bytes.
fn with_length(mut bytes: BytesMut) -> Result<Bytes> {
    let length = bytes.len() - 4;
    put_length(&mut bytes, length)?;
    Ok(bytes.freeze())
}

fn put_length(bytes: &mut BytesMut, length: usize) -> Result<()> {
    let length = i32::try_from(length)
        .map_err(|_| Error::Invalid(format!("a request of {length} bytes is too large")))?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn decode_header(bytes: &mut Bytes, header_version: i16) -> Result<()> {
    ResponseHeader::decode(bytes, header_version)
        .map(|_| ())
        .map_err(|error| Error::malformed("a response header", format!("{error:#}")))
}

/// Reads the answer to a version request of `asked`; behind error 35 it is in version 0.
fn decode_api_versions(mut bytes: Bytes, asked: i16) -> Result<ApiVersionsResponse> {
    let refused = bytes.get(4..6) == Some(&UNSUPPORTED_VERSION.to_be_bytes());
    let version = if refused { 0 } else { asked };
    let malformed = |reason: String| Error::malformed("the list of versions", reason);
    claims::check(&layouts::API_VERSIONS, version, &bytes).map_err(|e| malformed(e.to_string()))?;
    decode_header(&mut bytes, 0)?;
    ApiVersionsResponse::decode(&mut bytes, version).map_err(|e| malformed(format!("{e:#}")))
}

#[cfg(test)]
mod tests;
