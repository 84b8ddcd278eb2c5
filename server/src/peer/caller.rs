//! Keeps one lane to another node connected, and tells on the heartbeat lane whether the node is there.
//!
//! ```text
//!  attempt ──────ok──────> open ──lost──┐
//!   ^  └─failed─> wait 20..500 ms       │ at once, the first time
//!   └───────────────┴───────────────────┘
//! ```
//!
//! A node is alive from its welcome on. It is not alive any more when no ping was answered for as long as
//! [`Settings::silence_max`](super::Settings), or when its connection was lost and the next attempt fails.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::book::Core;
use super::frame::{self, Reader};
use super::handshake::{self, Other};
use super::link::Link;
use super::{Error, Identity, Lane, Request, Response, writer};
use crate::proto::peer::{Ping, Welcome};

/// Connections that end sooner, one after the other, are made anew only after a while.
const STABLE: Duration = Duration::from_secs(1);
/// Different causes remembered, so that each is logged once.
const CAUSES_MAX: usize = 8;

/// Another node: its three lanes.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) node: i32,
    pub(super) address: String,
    pub(super) links: [Link; 3],
    /// Ends the tasks of the lanes.
    pub(super) stop: CancellationToken,
    /// When it was last heard of.
    heard: Mutex<Instant>,
    /// Why it could not be reached since it last was.
    causes: Mutex<Vec<String>>,
}

/// A connection after its handshake.
struct Connection {
    input: Reader<OwnedReadHalf>,
    output: OwnedWriteHalf,
    other: Other,
}

impl Peer {
    /// Begins to keep the lanes to a node connected. Must be called on a runtime.
    pub(super) fn start(core: &Arc<Core>, node: i32, address: String) -> Arc<Self> {
        let bounds = core.settings.flight;
        let peer = Arc::new(Self {
            node,
            address,
            links: [(); 3].map(|()| Link::new(node, bounds)),
            stop: CancellationToken::new(),
            heard: Mutex::new(Instant::now()),
            causes: Mutex::default(),
        });
        for lane in [Lane::Append, Lane::Heartbeat, Lane::Control] {
            let keeper = Keeper { core: Arc::clone(core), peer: Arc::clone(&peer), lane };
            tokio::spawn(keeper.run());
        }
        peer
    }

    pub(super) fn link(&self, lane: Lane) -> &Link {
        &self.links[lane as usize]
    }

    /// Closes all lanes for good.
    pub(super) fn stop(&self, reason: &str) {
        self.stop.cancel();
        for link in &self.links {
            link.close(reason);
        }
    }

    /// Attempts to connect are made at once.
    pub(super) fn retry(&self) {
        for link in &self.links {
            link.retry.notify_waiters();
        }
    }

    fn log_once(&self, cause: &str) {
        let mut causes = self.causes.lock();
        if causes.len() < CAUSES_MAX && !causes.iter().any(|known| known == cause) {
            causes.push(cause.to_owned());
            let Self { node, address, .. } = self;
            tracing::warn!(node, address, "cannot reach the node, and go on trying: {cause}");
        }
    }
}

struct Keeper {
    core: Arc<Core>,
    peer: Arc<Peer>,
    lane: Lane,
}

impl Keeper {
    async fn run(self) {
        self.peer.stop.run_until_cancelled(self.keep()).await;
        // Whoever stopped it has closed the link too, but it may have been opened again since.
        self.link().close("its connection is given up");
    }

    fn link(&self) -> &Link {
        self.peer.link(self.lane)
    }

    fn is_heartbeat(&self) -> bool {
        self.lane == Lane::Heartbeat
    }

    async fn keep(&self) {
        let settings = &self.core.settings;
        let mut backoff = settings.backoff_min;
        let (mut patient, mut brief) = (true, false);
        loop {
            // From here on, so that none is missed during the attempt.
            let retry = self.link().retry.notified();
            let mut wait = backoff;
            match self.attempt(patient).await {
                Ok(connection) => {
                    let begun = Instant::now();
                    self.use_up(connection).await;
                    let was_brief = std::mem::replace(&mut brief, begun.elapsed() < STABLE);
                    if !(brief && was_brief) {
                        (backoff, wait) = (settings.backoff_min, Duration::ZERO);
                    }
                    patient = true;
                }
                Err(reason) => {
                    self.failed(&reason);
                    patient = false;
                }
            }
            backoff = (backoff * 2).min(settings.backoff_max);
            if !wait.is_zero() && timeout(wait, retry).await.is_ok() {
                (backoff, patient) = (settings.backoff_min, true);
            }
        }
    }

    /// Tries to connect. While it is `patient`, requests wait for that, for a moment.
    async fn attempt(&self, patient: bool) -> Result<Connection, String> {
        if patient {
            self.link().connecting();
        }
        let settings = &self.core.settings;
        let mut attempt = pin!(timeout(settings.connect_max, self.connect()));
        let mut patience = pin!(sleep(settings.patience));
        let mut silence = pin!(sleep_until(*self.peer.heard.lock() + settings.silence_max));
        let (mut waiting, mut listening) = (patient, self.is_heartbeat());
        loop {
            tokio::select! {
                biased;
                connected = &mut attempt => return match connected {
                    Ok(connected) => connected,
                    Err(_) => Err(format!("it did not answer within {:?}", settings.connect_max)),
                },
                () = &mut patience, if waiting => {
                    self.link().close("it has not answered yet");
                    waiting = false;
                }
                () = &mut silence, if listening => {
                    self.core.lost(&self.peer);
                    listening = false;
                }
            }
        }
    }

    async fn connect(&self) -> Result<Connection, String> {
        let identity = self.core.identity();
        let connected =
            connect(&self.core, &identity, &self.peer.address, self.peer.node, self.lane as u32);
        connected.await.map_err(|failure| match failure {
            Failure::Unreachable(reason) | Failure::Refused(reason) => reason,
        })
    }

    fn failed(&self, reason: &str) {
        self.link().close(reason);
        if self.is_heartbeat() {
            self.core.lost(&self.peer);
            self.peer.log_once(reason);
        }
    }

    /// Uses a connection until it ends.
    async fn use_up(&self, connection: Connection) {
        let Connection { mut input, output, other } = connection;
        let abort = self.link().abort.notified();
        self.link().open();
        if self.is_heartbeat() {
            self.found(&other);
        }
        let reason = tokio::select! {
            reason = self.read(&mut input) => reason,
            error = writer::run(&output, self.link()) => format!("writing failed: {error}"),
            () = self.listen() => {
                self.silent();
                format!("it has not answered for {:?}", self.core.settings.silence_max)
            }
            () = abort => "it does not answer".to_owned(),
        };
        self.link().close(&reason);
        tracing::debug!(node = self.peer.node, lane = ?self.lane, reason, "connection ended");
    }

    /// Takes answers until the connection ends; why it did.
    async fn read(&self, input: &mut Reader<OwnedReadHalf>) -> String {
        loop {
            match input.response().await {
                Ok(Some((sequence, answer))) => {
                    if !self.link().answered(sequence, answer) {
                        let reason = format!("it answered request {sequence}, which is not open");
                        self.peer.log_once(&reason);
                        return reason;
                    }
                }
                Ok(None) => return "it closed the connection".to_owned(),
                Err(error) => {
                    if matches!(error, frame::Error::Malformed(_)) {
                        self.peer.log_once(&error.to_string());
                    }
                    return error.to_string();
                }
            }
        }
    }

    /// The node is there: the other lanes need not wait any longer.
    fn found(&self, other: &Other) {
        *self.peer.heard.lock() = Instant::now();
        self.core.found(&self.peer, other.incarnation);
        for lane in [Lane::Append, Lane::Control] {
            self.peer.link(lane).retry.notify_waiters();
        }
        self.peer.causes.lock().clear();
    }

    /// The node does not answer: its connections may be those of a machine that is gone.
    fn silent(&self) {
        self.core.lost(&self.peer);
        for lane in [Lane::Append, Lane::Control] {
            self.peer.link(lane).abort.notify_waiters();
        }
    }

    /// Pings, on the heartbeat lane, until no answer comes.
    async fn listen(&self) {
        if !self.is_heartbeat() {
            return pending().await;
        }
        let settings = &self.core.settings;
        loop {
            sleep(settings.ping_interval).await;
            let silent = self.peer.heard.lock().elapsed();
            let left = settings.silence_max.saturating_sub(silent).max(settings.ping_interval);
            let mut answer = pin!(self.link().call(
                Request::Ping(Ping {}),
                Vec::new(),
                settings.silence_max * 2
            ));
            let mut answered = timeout(left, &mut answer).await;
            if answered.is_err() {
                // When it was this process that stood still, the answer is there and only has to be read.
                answered = timeout(settings.ping_interval / 4, &mut answer).await;
            }
            match answered {
                Ok(Ok(_) | Err(Error::Refused { .. })) => *self.peer.heard.lock() = Instant::now(),
                Ok(Err(_)) | Err(_) => return,
            }
            if let Ok(Ok(Response::Pong(pong))) = answered {
                self.core.told(&self.peer, pong.steps_back);
            }
        }
    }
}

/// Why there is no connection.
enum Failure {
    /// Nobody answered.
    Unreachable(String),
    /// One of the two will not talk to the other.
    Refused(String),
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::Unreachable(reason)
    }
}

async fn connect(
    core: &Core,
    identity: &Identity,
    address: &str,
    to: i32,
    lane: u32,
) -> Result<Connection, Failure> {
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|error| format!("connecting to {address} failed: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (input, output) = stream.into_split();
    let mut input = Reader::new(input, frame::HANDSHAKE_BYTES_MAX);
    handshake::send(&output, &handshake::hello(identity, to, lane)).await?;
    let welcome: Welcome = handshake::receive(&mut input).await?;
    let node = if to == 0 { welcome.node } else { to };
    let known = core.known_directory(node);
    let other = handshake::judge_welcome(&welcome, identity, to, known);
    let other = other.map_err(Failure::Refused)?;
    Ok(Connection { input: input.with_bytes_max(frame::FRAME_BYTES_MAX), output, other })
}

/// One request over a connection of its own.
///
/// # Errors
/// [`Error`]
pub(super) async fn ask(core: &Core, address: &str, request: Request) -> Result<Response, Error> {
    let unreachable = |reason| Error::Unreachable { node: 0, reason };
    let identity = core.identity();
    let connected = connect(core, &identity, address, 0, handshake::ONCE).await;
    let Connection { mut input, output, other } = connected.map_err(|failure| match failure {
        Failure::Unreachable(reason) => unreachable(reason),
        Failure::Refused(reason) => Error::Refused { node: 0, reason },
    })?;
    let node = other.node;
    let frame = frame::encode_request(1, request, Vec::new())
        .map_err(|reason| Error::Refused { node, reason })?;
    let sent = writer::write_frame(&output, frame).await;
    sent.map_err(|error| unreachable(error.to_string()))?;
    match input.response().await {
        Ok(Some((_, answer))) => answer.map_err(|reason| Error::Refused { node, reason }),
        Ok(None) => Err(unreachable("it closed the connection without an answer".to_owned())),
        Err(error) => Err(unreachable(error.to_string())),
    }
}
