//! Takes connections of other nodes and hands their requests to the service.
//!
//! Invariants:
//! - Requests of one lane reach the service in the order in which they were sent, also over a new connection: it takes
//!   the place of the former one, and only when that is not read any more.
//! - Connections, the time of a handshake, and what a connection has taken in are bounded.
//! - Pings are answered here, so that a node is alive as long as its process is.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answers::{Answers, Reply};
use super::book::Core;
use super::frame::{self, Reader};
use super::handshake::{self, Other, Terms};
use super::{Incoming, Peers, Request, Response, Service, writer};
use crate::proto::peer::{Hello, Pong};

/// After a failed accept (out of file descriptors, say), wait this long before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Different refusals remembered, so that each is logged once.
const REFUSALS_MAX: usize = 256;

/// What the connections of one listener share.
struct Host {
    core: Arc<Core>,
    service: Arc<dyn Service>,
    draining: CancellationToken,
    places: Mutex<HashMap<PlaceKey, Tokens>>,
    refusals: Mutex<HashSet<String>>,
}

/// A data directory's lane: there is one connection of each.
type PlaceKey = ([u8; 16], u32);

#[derive(Clone)]
struct Tokens {
    id: u64,
    /// Ends the connection.
    stop: CancellationToken,
    /// It is not read any more.
    done: CancellationToken,
}

/// A connection's place among those of its listener.
struct Place<'a> {
    host: &'a Host,
    key: PlaceKey,
    tokens: Tokens,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.tokens.done.cancel();
        let mut places = self.host.places.lock();
        if places.get(&self.key).is_some_and(|tokens| tokens.id == self.tokens.id) {
            places.remove(&self.key);
        }
    }
}

/// Takes connections of other nodes until `draining`, and returns when what was taken in has been answered.
pub(crate) async fn serve(
    listener: TcpListener,
    peers: Peers,
    service: Arc<dyn Service>,
    draining: CancellationToken,
) {
    let core = Arc::clone(peers.core());
    core.serve(&service);
    let slots = Arc::new(Semaphore::new(core.settings.connections_max));
    let (places, refusals) = (Mutex::default(), Mutex::default());
    let host = Arc::new(Host { core, service, draining, places, refusals });
    let tasks = TaskTracker::new();
    while let Some(accepted) = host.draining.run_until_cancelled(listener.accept()).await {
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection of another node could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            let count = host.core.settings.connections_max;
            host.log_once(address, &format!("{count} connections of other nodes are open"));
            continue;
        };
        let host = Arc::clone(&host);
        tasks.spawn(async move {
            host.connection(stream, address).await;
            drop(slot);
        });
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

impl Host {
    fn log_once(&self, address: SocketAddr, cause: &str) {
        let mut refusals = self.refusals.lock();
        if refusals.len() >= REFUSALS_MAX {
            refusals.clear();
        }
        if refusals.insert(cause.to_owned()) {
            tracing::warn!(%address, "refused a connection of another node: {cause}");
        }
    }

    async fn connection(&self, stream: TcpStream, address: SocketAddr) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%address, %error, "TCP_NODELAY could not be set");
        }
        let (input, output) = stream.into_split();
        let mut input = Reader::new(input, frame::HANDSHAKE_BYTES_MAX);
        let handshake = timeout(self.core.settings.connect_max, self.greet(&mut input, &output));
        let greeted = match self.draining.run_until_cancelled(handshake).await {
            Some(Ok(greeted)) => greeted,
            Some(Err(_)) => Err("its first message did not come in time".to_owned()),
            None => return,
        };
        let (other, place) = match greeted {
            Ok(greeted) => greeted,
            Err(reason) => return self.log_once(address, &reason),
        };
        let mut input = input.with_bytes_max(frame::FRAME_BYTES_MAX);
        let ended = self.converse(&mut input, &output, &other, place).await;
        match ended {
            Err(Closed::Refused(reason)) => self.log_once(address, &reason),
            Err(Closed::Frame(error @ frame::Error::Malformed(_))) => {
                tracing::warn!(node = other.node, %address, %error, "connection closed");
            }
            ended => tracing::debug!(node = other.node, %address, ?ended, "connection ended"),
        }
    }

    /// The handshake. A connection of a lane has its place afterwards.
    async fn greet(
        &self,
        input: &mut Reader<OwnedReadHalf>,
        output: &OwnedWriteHalf,
    ) -> Result<(Other, Option<Place<'_>>), String> {
        let hello: Hello = handshake::receive(input).await?;
        let identity = self.core.identity();
        let known = self.core.known_directory(hello.node);
        let judged = handshake::judge(&hello, &identity, known);
        let place = match &judged {
            Ok(other) if hello.lane != handshake::ONCE => {
                Some(self.take_place((other.directory, hello.lane)).await)
            }
            _ => None,
        };
        let refused = judged.as_ref().err().cloned().unwrap_or_default();
        handshake::send(output, &handshake::welcome(&identity, refused)).await?;
        Ok((judged?, place))
    }

    /// Takes the place of the lane's former connection, which is not read any more afterwards.
    async fn take_place(&self, key: PlaceKey) -> Place<'_> {
        let (tokens, former) = self.swap(key);
        let place = Place { host: self, key, tokens };
        if let Some(former) = former {
            former.stop.cancel();
            former.done.cancelled().await;
        }
        place
    }

    fn swap(&self, key: PlaceKey) -> (Tokens, Option<Tokens>) {
        let mut places = self.places.lock();
        let id = places.get(&key).map_or(0, |former| former.id + 1);
        let tokens = Tokens { id, stop: CancellationToken::new(), done: CancellationToken::new() };
        (tokens.clone(), places.insert(key, tokens))
    }

    /// Answers requests until the connection ends.
    async fn converse(
        &self,
        input: &mut Reader<OwnedReadHalf>,
        output: &OwnedWriteHalf,
        other: &Other,
        place: Option<Place<'_>>,
    ) -> Result<(), Closed> {
        let settings = &self.core.settings;
        let answers = Answers::new(settings.held);
        let over = async {
            match &place {
                Some(place) => place.tokens.stop.cancelled().await,
                None => sleep(settings.once_max).await,
            }
        };
        let ended = tokio::select! {
            ended = self.read(input, &answers, other) => ended,
            error = writer::run(output, &*answers) => Err(Closed::Frame(error.into())),
            () = over => Ok(()),
            () = self.draining.cancelled() => {
                // What was taken in is still answered.
                let answered = async {
                    tokio::select! {
                        _ = writer::run(output, &*answers) => {}
                        () = answers.idle() => {}
                    }
                };
                let _ = timeout(settings.drain_max, answered).await;
                Ok(())
            }
        };
        drop(place);
        answers.close();
        ended
    }

    async fn read(
        &self,
        input: &mut Reader<OwnedReadHalf>,
        answers: &Arc<Answers>,
        other: &Other,
    ) -> Result<(), Closed> {
        while let Some(length) = input.next_length().await? {
            let room = answers.make_room(length).await;
            let (sequence, request, payloads) = frame::decode_request(input.body(length).await?)?;
            let reply = room.reply(sequence);
            let Some(request) = request else {
                reply.send(Err("this version does not know the request".to_owned()));
                continue;
            };
            self.take(other, request, payloads, reply)?;
        }
        Ok(())
    }

    /// Answers a request, or hands it to the service.
    fn take(
        &self,
        other: &Other,
        request: Request,
        payloads: Vec<bytes::Bytes>,
        reply: Reply,
    ) -> Result<(), Closed> {
        // This node's cluster may be another one than at the handshake: it may have joined since.
        let (node, terms) = self.core.with_identity(|identity| {
            (identity.node, handshake::terms(&identity.cluster_id, &other.cluster_id))
        });
        match request {
            Request::Ping(_) => {
                let steps_back = self.service.steps_back();
                reply.send(Ok(Response::Pong(Pong { steps_back })));
            }
            request if terms.allow(&request) => {
                self.service.serve(Incoming { from: other.node, request, payloads, reply });
            }
            _ if terms == Terms::Nothing => {
                let (from, cluster) = (other.node, &other.cluster_id);
                return Err(Closed::Refused(format!(
                    "node {from} is of cluster {cluster:?}, to which node {node} does not belong"
                )));
            }
            _ => reply.send(Err(format!(
                "node {} or node {node} belongs to no cluster yet: only joining and forming one \
                 is possible",
                other.node
            ))),
        }
        Ok(())
    }
}

/// Why a connection was closed by this end.
#[derive(Debug)]
enum Closed {
    Frame(frame::Error),
    /// Its node is none to talk to any more.
    Refused(String),
}

impl From<frame::Error> for Closed {
    fn from(error: frame::Error) -> Self {
        Self::Frame(error)
    }
}
