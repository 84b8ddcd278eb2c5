//! Whoever sends more than there is room for waits, and loses neither order nor requests.

use super::{Node, identity, pair, settings, *};
use crate::peer::answers::{self, Answers};
use crate::peer::link;
use crate::peer::writer::Source;

fn flight(requests: usize, bytes: usize) -> Settings {
    Settings { flight: link::Bounds { requests, bytes, waiting: 10 }, ..settings() }
}

fn counts(node: &Node, lane: Lane) -> (usize, usize) {
    node.peers.book.peer(2).unwrap().link(lane).counts()
}

#[tokio::test]
async fn requests_beyond_the_bound_wait_for_answers_in_their_order() {
    for settings in [flight(2, 1 << 20), flight(100, 70)] {
        let (one, mut two) = pair(settings).await;
        let mut calls = Vec::new();
        for number in 0..6 {
            calls.push(begin(one.call(2, Lane::Append, number)).await);
        }
        for expected in 0..6 {
            let incoming = two.next().await;
            assert_eq!(number(&incoming.request), expected);
            let (_, flying) = counts(&one, Lane::Append);
            assert!((1..=2).contains(&flying), "{flying} requests are under way");
            incoming.reply.send(Ok(forwarded(expected)));
        }
        for (call, index) in calls.into_iter().zip(0..) {
            assert_eq!(call.await, Ok(forwarded(index)));
        }
    }
}

#[tokio::test]
async fn a_request_that_is_larger_than_the_bound_is_sent_alone() {
    let (one, mut two) = pair(flight(100, 1)).await;
    let first = begin(one.call(2, Lane::Append, 1)).await;
    let second = begin(one.call(2, Lane::Append, 2)).await;
    let incoming = two.next().await;
    assert_eq!(counts(&one, Lane::Append), (1, 1));
    incoming.reply.send(Ok(forwarded(1)));
    assert_eq!(first.await, Ok(forwarded(1)));
    two.next().await.reply.send(Ok(forwarded(2)));
    assert_eq!(second.await, Ok(forwarded(2)));
}

#[tokio::test]
async fn a_request_that_waits_in_vain_is_never_sent() {
    let (one, mut two) = pair(flight(1, 1 << 20)).await;
    let first = begin(one.call(2, Lane::Append, 1)).await;
    let held = two.next().await;
    let soon = Duration::from_millis(1);
    let waited = one.peers.call(2, Lane::Append, forward(2), Vec::new(), soon).await;
    assert_eq!(waited, Err(Error::Timeout { node: 2 }));
    drop(begin(one.call(2, Lane::Append, 3)).await);
    assert_eq!(counts(&one, Lane::Append), (0, 1));
    let last = begin(one.call(2, Lane::Append, 4)).await;
    held.reply.send(Ok(forwarded(1)));
    assert_eq!(first.await, Ok(forwarded(1)));
    let incoming = two.next().await;
    assert_eq!(number(&incoming.request), 4);
    incoming.reply.send(Ok(forwarded(4)));
    assert_eq!(last.await, Ok(forwarded(4)));
}

#[tokio::test]
async fn an_answer_that_comes_too_late_makes_room() {
    let (one, mut two) = pair(flight(1, 1 << 20)).await;
    let soon = Duration::from_millis(50);
    let late = begin(one.peers.call(2, Lane::Append, forward(1), Vec::new(), soon)).await;
    let held = two.next().await;
    assert_eq!(late.await, Err(Error::Timeout { node: 2 }));
    let next = begin(one.call(2, Lane::Append, 2)).await;
    assert_eq!(counts(&one, Lane::Append), (1, 1), "the other node still holds the first");
    held.reply.send(Ok(forwarded(1)));
    two.next().await.reply.send(Ok(forwarded(2)));
    assert_eq!(next.await, Ok(forwarded(2)));
}

#[tokio::test]
async fn too_many_that_wait_are_turned_away() {
    let (one, mut two) = pair(flight(1, 1 << 20)).await;
    let first = begin(one.call(2, Lane::Append, 0)).await;
    let _held = two.next().await;
    let mut calls = Vec::new();
    for number in 1..=10 {
        calls.push(begin(one.call(2, Lane::Append, number)).await);
    }
    let turned_away = one.call(2, Lane::Append, 11).await;
    let reason = "10 requests wait for it already".to_owned();
    assert_eq!(turned_away, Err(Error::Unreachable { node: 2, reason }));
    drop(first);
}

#[tokio::test]
async fn a_node_takes_in_no_more_than_it_may_hold() {
    let held = answers::Bounds { requests: 3, bytes: 1 << 20 };
    let one = Node::start(identity(1), settings()).await;
    let mut two = Node::start(identity(2), Settings { held, ..settings() }).await;
    one.knows(&[&two]);
    let mut calls = Vec::new();
    for number in 0..20 {
        calls.push(begin(one.call(2, Lane::Append, number)).await);
    }
    let mut taken = Vec::new();
    for expected in 0..20 {
        taken.push(two.next().await);
        assert_eq!(number(&taken.last().unwrap().request), expected);
        if taken.len() == 3 {
            assert!(two.requests.try_recv().is_err(), "a fourth was taken in");
            taken.remove(0).reply.send(Ok(forwarded(expected)));
        }
    }
    drop(calls);
}

#[tokio::test]
async fn room_is_made_when_an_answer_has_been_written() {
    let answers = Answers::new(answers::Bounds { requests: 10, bytes: 100 });
    let small = answers.make_room(60).await;
    let mut large = begin(answers.make_room(200)).await;
    small.reply(1).send(Ok(forwarded(1)));
    let mut chunks = std::collections::VecDeque::new();
    answers.take(&mut chunks);
    assert!(!chunks.is_empty());
    waits(&mut large).await;
    answers.written();
    let alone = large.await;
    let mut next = begin(answers.make_room(1)).await;
    waits(&mut next).await;
    drop(alone.reply(2));
    answers.take(&mut chunks);
    answers.written();
    next.await;
}

#[tokio::test]
async fn more_connections_than_allowed_are_refused_until_others_end() {
    let one = Node::start(identity(1), settings()).await;
    let three = Node::start(identity(3), settings()).await;
    let mut two = Node::start(identity(2), Settings { connections_max: 3, ..settings() }).await;
    one.knows(&[&two]);
    for lane in LANES {
        let call = begin(one.call(2, lane, 1)).await;
        two.next().await.reply.send(Ok(forwarded(1)));
        assert_eq!(call.await, Ok(forwarded(1)), "it is connected");
    }
    three.knows(&[&two]);
    let refused = three.call(2, Lane::Control, 1).await;
    assert!(matches!(refused, Err(Error::Unreachable { node: 2, .. })), "{refused:?}");
    one.peers.set_addresses(BTreeMap::new());
    three.sees(2, true).await;
}
