//! What is known of nodes that come, go, fall silent and come back.

use tokio::net::TcpListener;

use super::{Node, identity, pair, settings, *};
use crate::peer::PeerState;
use crate::peer::frame::{HANDSHAKE_BYTES_MAX, Reader};
use crate::peer::handshake;
use crate::proto::peer::Hello;

#[tokio::test]
async fn a_node_that_ends_fails_what_waits_for_it_and_is_not_alive() {
    let (one, mut two) = pair(settings()).await;
    one.sees(2, true).await;
    let waiting = begin(one.call(2, Lane::Append, 1)).await;
    let held = two.next().await;
    two.stop().await;
    assert!(matches!(waiting.await, Err(Error::Unreachable { node: 2, .. })));
    one.sees(2, false).await;
    drop(held);
    let later = one.call(2, Lane::Append, 2).await;
    assert!(matches!(later, Err(Error::Unreachable { node: 2, .. })), "{later:?}");
}

#[tokio::test]
async fn a_node_that_was_started_again_is_alive_with_another_incarnation() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let listener = || TcpListener::from_std(socket.try_clone().unwrap()).unwrap();
    // The port stays this test's own, so nobody refuses connections in between: they stay unanswered.
    let settings = Settings { connect_max: Duration::from_millis(100), ..settings() };
    let one = Node::start(identity(1), settings.clone()).await;
    let two = Node::start_at(listener(), identity(2), settings.clone());
    one.knows(&[&two]);
    let mut states = one.peers.states();
    let alive = |incarnation| PeerState { alive: true, incarnation, steps_back: false };
    states.wait_for(|states| states[&2] == alive(100)).await.unwrap();
    two.stop().await;
    states.wait_for(|states| !states[&2].alive).await.unwrap();
    let again = Identity { incarnation: 101, ..identity(2) };
    let mut two = Node::start_at(listener(), again, settings);
    states.wait_for(|states| states[&2] == alive(101)).await.unwrap();
    for lane in LANES {
        // A lane may still find out that its connection was the former process's.
        let call = async {
            loop {
                match one.call(2, lane, 5).await {
                    Err(Error::Unreachable { .. }) => tokio::task::yield_now().await,
                    answered => return answered,
                }
            }
        };
        let answer = async {
            loop {
                two.next().await.reply.send(Ok(forwarded(6)));
            }
        };
        let answered = tokio::select! { answered = call => answered, () = answer => break };
        assert_eq!(answered, Ok(forwarded(6)));
    }
}

#[tokio::test]
async fn a_node_that_answers_no_pings_is_not_alive() {
    let (silence_max, patience) = (Duration::from_millis(500), Duration::from_millis(500));
    let settings = Settings { silence_max, patience, ..settings() };
    let one = Node::start(identity(1), settings).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mute = tokio::spawn(async move {
        let mut connections = Vec::new();
        for _ in 0..3 {
            let (input, output) = listener.accept().await.unwrap().0.into_split();
            let mut input = Reader::new(input, HANDSHAKE_BYTES_MAX);
            handshake::receive::<Hello>(&mut input).await.unwrap();
            let welcome = handshake::welcome(&identity(2), String::new());
            handshake::send(&output, &welcome).await.unwrap();
            connections.push((input, output));
        }
        // From now on it takes no connection, and keeps those it has.
        std::future::pending::<()>().await;
        drop((listener, connections));
    });
    one.peers.set_addresses(BTreeMap::from([(2, address)]));
    one.sees(2, true).await;
    let waiting = one.call(2, Lane::Append, 1).await;
    assert!(matches!(waiting, Err(Error::Unreachable { node: 2, .. })), "{waiting:?}");
    one.sees(2, false).await;
    mute.abort();
}

#[tokio::test]
async fn a_node_is_known_as_long_as_it_has_an_address() {
    let (one, two) = pair(settings()).await;
    let three = Node::start(identity(3), settings()).await;
    one.knows(&[&one, &two, &three]);
    let known = || one.peers.states().borrow().keys().copied().collect::<Vec<_>>();
    assert_eq!(known(), [2, 3], "its own entry is passed over");
    one.sees(2, true).await;
    one.sees(3, true).await;
    let waiting = begin(one.call(3, Lane::Control, 1)).await;
    one.knows(&[&two]);
    assert_eq!(known(), [2]);
    assert!(matches!(waiting.await, Err(Error::Unreachable { node: 3, .. })));
    assert!(one.peers.states().borrow()[&2].alive, "the other one stays connected");
    let gone = one.call(3, Lane::Control, 1).await;
    let reason = "its address is not known".to_owned();
    assert_eq!(gone, Err(Error::Unreachable { node: 3, reason }));
}

#[tokio::test]
async fn nothing_is_told_when_nothing_has_changed() {
    let (one, two) = pair(settings()).await;
    one.sees(2, true).await;
    let mut states = one.peers.states();
    states.mark_unchanged();
    one.knows(&[&two]);
    one.knows(&[&one, &two]);
    assert!(!states.has_changed().unwrap());
    one.peers.set_addresses(BTreeMap::new());
    assert!(states.has_changed().unwrap());
}

#[tokio::test]
async fn three_nodes_see_each_other_and_lose_the_one_that_ends() {
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(Node::start(identity(id), settings()).await);
    }
    let all = nodes.iter().collect::<Vec<_>>();
    for node in &nodes {
        node.knows(&all);
    }
    for (node, other) in (0..3).flat_map(|node| (1..=3).map(move |other| (node, other))) {
        if nodes[node].id() != other {
            nodes[node].sees(other, true).await;
        }
    }
    nodes.remove(2).stop().await;
    for node in &nodes {
        node.sees(3, false).await;
    }
    nodes[0].sees(2, true).await;
    nodes[1].sees(1, true).await;
}

#[tokio::test]
async fn a_node_says_whether_others_should_lead() {
    let (one, two) = pair(settings()).await;
    let mut states = one.peers.states();
    for steps_back in [true, false] {
        two.desk.steps_back.store(steps_back, Ordering::Release);
        let told = |states: &Arc<BTreeMap<i32, PeerState>>| states[&2].steps_back == steps_back;
        states.wait_for(told).await.unwrap();
    }
}
