//! Nodes over loopback: requests and answers, who is refused, and what becomes known of nodes that go and come.
//!
//! No test depends on how long something takes: what happens sooner or later is awaited.

mod bounds;
mod liveness;
mod refusals;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Error, Identity, Incoming, Lane, Peers, Request, Response, Service, Settings, serve};
use crate::proto::peer::{
    Append, Appended, Entry, Forward, Forwarded, Join, Joined, Transfer, Transferred,
};

const LANES: [Lane; 3] = [Lane::Append, Lane::Heartbeat, Lane::Control];
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// Hands requests to the test.
struct Desk {
    requests: mpsc::UnboundedSender<Incoming>,
    directories: Mutex<BTreeMap<i32, [u8; 16]>>,
    steps_back: AtomicBool,
}

impl Service for Desk {
    fn serve(&self, incoming: Incoming) {
        let _ = self.requests.send(incoming);
    }

    fn known_directory(&self, node: i32) -> Option<[u8; 16]> {
        self.directories.lock().get(&node).copied()
    }

    fn steps_back(&self) -> bool {
        self.steps_back.load(Ordering::Acquire)
    }
}

/// A node as far as these tests need one.
struct Node {
    peers: Peers,
    address: String,
    desk: Arc<Desk>,
    requests: mpsc::UnboundedReceiver<Incoming>,
    listening: JoinHandle<()>,
    draining: CancellationToken,
}

fn identity(node: i32) -> Identity {
    let directory = [u8::try_from(node).unwrap(); 16];
    Identity { node, cluster_id: "beans".to_owned(), directory, incarnation: 100 }
}

/// Quick to notice that a connection is lost, slow to give a node up.
fn settings() -> Settings {
    Settings {
        ping_interval: Duration::from_millis(20),
        silence_max: LONG,
        connect_max: LONG,
        patience: LONG,
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(5),
        drain_max: Duration::from_millis(1),
        ..Settings::default()
    }
}

impl Node {
    async fn start(identity: Identity, settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_at(listener, identity, settings)
    }

    fn start_at(listener: TcpListener, identity: Identity, settings: Settings) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let peers = Peers::with_settings(identity, settings);
        let (sender, requests) = mpsc::unbounded_channel();
        let steps_back = AtomicBool::new(false);
        let desk = Arc::new(Desk { requests: sender, directories: Mutex::default(), steps_back });
        let draining = CancellationToken::new();
        let service: Arc<dyn Service> = Arc::clone(&desk) as _;
        let served = serve(listener, peers.clone(), service, draining.clone());
        let listening = tokio::spawn(served);
        Self { peers, address, desk, requests, listening, draining }
    }

    fn id(&self) -> i32 {
        self.peers.identity().node
    }

    fn knows(&self, others: &[&Node]) {
        let addresses = others.iter().map(|other| (other.id(), other.address.clone()));
        self.peers.set_addresses(addresses.collect());
    }

    /// The next request that reaches it.
    async fn next(&mut self) -> Incoming {
        self.requests.recv().await.unwrap()
    }

    /// Sends `Forward` with a number.
    async fn call(&self, to: i32, lane: Lane, number: u64) -> Result<Response, Error> {
        self.peers.call(to, lane, forward(number), Vec::new(), LONG).await
    }

    /// Waits until it knows that about another node.
    async fn sees(&self, node: i32, alive: bool) {
        let mut states = self.peers.states();
        states.wait_for(|states| states[&node].alive == alive).await.unwrap();
    }

    /// Ends it like a process.
    async fn stop(self) {
        self.peers.set_addresses(BTreeMap::new());
        self.draining.cancel();
        self.listening.await.unwrap();
    }
}

/// Two nodes, the first of which knows the other.
async fn pair(settings: Settings) -> (Node, Node) {
    let one = Node::start(identity(1), settings.clone()).await;
    let two = Node::start(identity(2), settings).await;
    one.knows(&[&two]);
    (one, two)
}

fn forward(number: u64) -> Request {
    Request::Forward(Forward { command: Bytes::copy_from_slice(&number.to_be_bytes()) })
}

fn number(request: &Request) -> u64 {
    match request {
        Request::Forward(forward) => u64::from_be_bytes(forward.command[..].try_into().unwrap()),
        other => panic!("not a forward: {other:?}"),
    }
}

fn forwarded(index: u64) -> Response {
    Response::Forwarded(Forwarded { index, ..Forwarded::default() })
}

/// Polls once, so that the request has its place.
async fn begin<F: Future>(call: F) -> Pin<Box<F>> {
    let mut call = Box::pin(call);
    waits(&mut call).await;
    call
}

/// Polls once, and it is not done.
async fn waits<F: Future>(call: &mut Pin<Box<F>>) {
    std::future::poll_fn(|context| {
        assert!(call.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn nodes_answer_each_other_on_every_lane() {
    let (mut one, mut two) = pair(settings()).await;
    two.knows(&[&one]);
    for lane in LANES {
        let answer = async {
            let incoming = two.next().await;
            assert_eq!((incoming.from, number(&incoming.request)), (1, 7));
            incoming.reply.send(Ok(forwarded(8)));
        };
        let (answered, ()) = tokio::join!(one.call(2, lane, 7), answer);
        assert_eq!(answered, Ok(forwarded(8)));
        let answer = async {
            let incoming = one.next().await;
            assert_eq!((incoming.from, number(&incoming.request)), (2, 9));
            incoming.reply.send(Ok(forwarded(10)));
        };
        let (answered, ()) = tokio::join!(two.call(1, lane, 9), answer);
        assert_eq!(answered, Ok(forwarded(10)));
    }
}

#[tokio::test]
async fn requests_arrive_in_the_order_of_their_calls_also_while_the_connection_is_being_made() {
    let (one, mut two) = pair(settings()).await;
    let mut calls = Vec::new();
    for number in 0..2_000 {
        calls.push(begin(one.call(2, Lane::Append, number)).await);
    }
    let drive = futures_util::future::join_all(calls);
    let answer = async {
        for expected in 0..2_000 {
            let incoming = two.next().await;
            assert_eq!(number(&incoming.request), expected);
            incoming.reply.send(Ok(forwarded(expected)));
        }
    };
    let (answers, ()) = tokio::join!(drive, answer);
    for (index, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer, Ok(forwarded(index as u64)));
    }
}

#[tokio::test]
async fn answers_come_back_to_their_requests_in_any_order() {
    let (one, mut two) = pair(settings()).await;
    let first = begin(one.call(2, Lane::Control, 1)).await;
    let second = begin(one.call(2, Lane::Control, 2)).await;
    let (early, late) = (two.next().await, two.next().await);
    late.reply.send(Ok(forwarded(20)));
    assert_eq!(second.await, Ok(forwarded(20)));
    early.reply.send(Ok(forwarded(10)));
    assert_eq!(first.await, Ok(forwarded(10)));
}

#[tokio::test]
async fn large_payloads_arrive_whole_and_lie_where_the_frame_was_read() {
    let (one, mut two) = pair(settings()).await;
    let sizes = [0, 1, 5 << 20, 300, 0, 11 << 20];
    let byte = |at: usize| u8::try_from(at * 31 % 251).unwrap();
    let payloads = sizes.map(|bytes| (0..bytes).map(byte).collect::<Bytes>());
    let entries = payloads.iter().zip(0..).map(|(payload, index)| Entry {
        index,
        payload_bytes: u32::try_from(payload.len()).unwrap(),
        ..Entry::default()
    });
    let append = Append { group: 3, entries: entries.collect(), ..Append::default() };
    let request = Request::Append(append.clone());
    let call = begin(one.peers.call(2, Lane::Append, request, payloads.to_vec(), LONG)).await;
    let incoming = two.next().await;
    assert_eq!(incoming.request, Request::Append(append));
    assert_eq!(incoming.payloads, payloads);
    let read = incoming.payloads.iter().filter(|payload| !payload.is_empty());
    let read = read.map(|payload| payload.as_ptr_range()).collect::<Vec<_>>();
    assert!(read.windows(2).all(|pair| pair[0].end == pair[1].start), "they were copied");
    incoming.reply.send(Ok(Response::Appended(Appended::default())));
    assert_eq!(call.await, Ok(Response::Appended(Appended::default())));
}

#[tokio::test]
async fn a_request_that_was_dropped_is_answered_with_an_error() {
    let (one, mut two) = pair(settings()).await;
    let call = begin(one.call(2, Lane::Control, 1)).await;
    drop(two.next().await);
    let reason = "the request was dropped without an answer".to_owned();
    assert_eq!(call.await, Err(Error::Refused { node: 2, reason }));
}

#[tokio::test]
async fn what_the_other_node_refuses_is_told_with_its_reason() {
    let (one, mut two) = pair(settings()).await;
    let call = begin(one.call(2, Lane::Control, 1)).await;
    two.next().await.reply.send(Err("not today".to_owned()));
    let reason = "not today".to_owned();
    assert_eq!(call.await, Err(Error::Refused { node: 2, reason }));
}

#[tokio::test]
async fn whoever_listens_at_an_address_can_be_asked() {
    let joining = Identity { node: 0, cluster_id: String::new(), ..identity(9) };
    let one = Peers::with_settings(joining, settings());
    let mut two = Node::start(identity(2), settings()).await;
    let address = two.address.clone();
    let ask = begin(one.ask(&address, Request::Join(Join::default()), LONG)).await;
    let answer = async {
        let incoming = two.next().await;
        assert_eq!((incoming.from, incoming.request), (0, Request::Join(Join::default())));
        incoming.reply.send(Ok(Response::Joined(Joined { node: 9, ..Joined::default() })));
    };
    let (joined, ()) = tokio::join!(ask, answer);
    assert_eq!(joined, Ok(Response::Joined(Joined { node: 9, ..Joined::default() })));
}

#[tokio::test]
async fn a_node_that_has_joined_is_let_in_under_its_new_identity() {
    let joining = Identity { node: 0, cluster_id: String::new(), ..identity(1) };
    let one = Node::start(joining, settings()).await;
    let mut two = Node::start(identity(2), settings()).await;
    one.knows(&[&two]);
    let transfer = || Request::Transfer(Transfer::default());
    let refused = one.peers.call(2, Lane::Control, transfer(), Vec::new(), LONG).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    one.peers.identify(1, "beans".to_owned());
    let call = begin(one.peers.call(2, Lane::Control, transfer(), Vec::new(), LONG)).await;
    let answer = async {
        let incoming = two.next().await;
        assert_eq!(incoming.from, 1);
        incoming.reply.send(Ok(Response::Transferred(Transferred { accepted: true })));
    };
    let (answered, ()) = tokio::join!(call, answer);
    assert_eq!(answered, Ok(Response::Transferred(Transferred { accepted: true })));
}
