//! Whoever does not belong is refused, and told why.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{Node, identity, pair, settings, *};
use crate::peer::frame::{self, HANDSHAKE_BYTES_MAX, Reader};
use crate::peer::handshake::{self, ONCE, VERSION};
use crate::peer::writer::write_frame;
use crate::proto::peer::{Form, Formed, Hello, Response as WireResponse, Welcome};

/// A connection whose hello the test has written itself.
struct Raw {
    input: Reader<OwnedReadHalf>,
    output: OwnedWriteHalf,
    welcome: Welcome,
}

async fn connect(node: &Node, hello: &Hello) -> Raw {
    let (input, output) = TcpStream::connect(&node.address).await.unwrap().into_split();
    let mut input = Reader::new(input, HANDSHAKE_BYTES_MAX);
    handshake::send(&output, hello).await.unwrap();
    let welcome = handshake::receive(&mut input).await.unwrap();
    Raw { input, output, welcome }
}

fn hello_to_two() -> Hello {
    handshake::hello(&identity(1), 2, Lane::Control as u32)
}

#[tokio::test]
async fn a_hello_that_does_not_fit_is_refused_in_words() {
    let two = Node::start(identity(2), settings()).await;
    two.desk.directories.lock().insert(1, [1; 16]);
    let good = hello_to_two();
    assert_eq!(connect(&two, &good).await.welcome.refused, "");
    let wrong = [
        (Hello { version: VERSION + 1, ..good.clone() }, "run the same release"),
        (Hello { cluster_id: "peas".to_owned(), ..good.clone() }, "is of cluster \"peas\""),
        (Hello { to: 3, ..good.clone() }, "node 3 was meant, but node 2 listens there"),
        (Hello { node: 2, ..good.clone() }, "two nodes have the id 2"),
        (Hello { node: 0, ..good.clone() }, "0 is no id"),
        (Hello { node: -4, ..good.clone() }, "-4 is no id"),
        (Hello { directory: Bytes::from(vec![9; 16]), ..good.clone() }, "another data directory"),
        (Hello { directory: Bytes::from(vec![1; 15]), ..good.clone() }, "15 bytes and not 16"),
        (Hello { lane: ONCE + 1, ..good.clone() }, "there is no lane 4"),
    ];
    for (hello, reason) in wrong {
        let mut raw = connect(&two, &hello).await;
        let refused = raw.welcome.refused;
        assert!(refused.contains(reason), "{refused:?} does not say {reason:?}");
        let ended = raw.input.message::<WireResponse>().await;
        assert!(!matches!(ended, Ok(Some(_))), "the connection goes on after {refused:?}");
    }
}

#[tokio::test]
async fn a_call_to_a_node_of_another_cluster_says_so() {
    let one = Node::start(identity(1), settings()).await;
    let other = Identity { cluster_id: "peas".to_owned(), ..identity(2) };
    let two = Node::start(other, settings()).await;
    one.knows(&[&two]);
    let Err(Error::Unreachable { node: 2, reason }) = one.call(2, Lane::Append, 1).await else {
        panic!("it was let in");
    };
    assert!(reason.contains("is of cluster \"beans\""), "{reason}");
}

#[tokio::test]
async fn a_node_that_came_back_with_an_empty_disk_is_not_used() {
    let (one, two) = pair(settings()).await;
    one.sees(2, true).await;
    one.desk.directories.lock().insert(2, [77; 16]);
    one.peers.set_addresses(BTreeMap::new());
    one.knows(&[&two]);
    let Err(Error::Unreachable { node: 2, reason }) = one.call(2, Lane::Append, 1).await else {
        panic!("it was used");
    };
    assert!(reason.contains("must join under a new id"), "{reason}");
}

#[tokio::test]
async fn a_node_at_the_address_of_another_is_not_used() {
    let (one, two) = pair(settings()).await;
    one.peers.set_addresses(BTreeMap::from([(3, two.address.clone())]));
    let Err(Error::Unreachable { node: 3, reason }) = one.call(3, Lane::Append, 1).await else {
        panic!("it was used");
    };
    assert!(reason.contains("node 3 was meant, but node 2 listens there"), "{reason}");
}

#[tokio::test]
async fn nodes_of_no_cluster_only_form_one() {
    let nowhere = |node| Identity { cluster_id: String::new(), ..identity(node) };
    let one = Node::start(nowhere(1), settings()).await;
    let mut two = Node::start(nowhere(2), settings()).await;
    one.knows(&[&two]);
    one.sees(2, true).await;
    let refused = one.call(2, Lane::Control, 1).await;
    assert!(matches!(&refused, Err(Error::Refused { node: 2, reason })
        if reason.contains("belongs to no cluster yet")));
    let form = Request::Form(Form { nodes: vec![1, 2], cluster_id: String::new() });
    let call = begin(one.peers.call(2, Lane::Control, form.clone(), Vec::new(), LONG)).await;
    let incoming = two.next().await;
    assert_eq!(incoming.request, form, "the request before it never reached the service");
    let formed = Response::Formed(Formed { nodes: vec![1, 2], cluster_id: String::new() });
    incoming.reply.send(Ok(formed.clone()));
    assert_eq!(call.await, Ok(formed));
}

#[tokio::test]
async fn bytes_that_are_no_frame_end_their_connection_and_no_other() {
    let (one, mut two) = pair(settings()).await;
    let mut refused = Vec::new();
    for garbage in
        [&[0xff; 64][..], &[0, 0, 0, 8, 1, 2, 3, 4, 0, 0, 0, 0], b"GET / HTTP/1.1\r\n\r\n"]
    {
        let hello = Hello { directory: Bytes::from(vec![50; 16]), ..hello_to_two() };
        let mut raw = connect(&two, &hello).await;
        raw.output.write_all(garbage).await.unwrap();
        refused.push(raw.input.message::<WireResponse>().await.map(|got| got.is_some()));
        let mut stranger = TcpStream::connect(&two.address).await.unwrap();
        stranger.write_all(garbage).await.unwrap();
        let ended = stranger.read(&mut [0; 64]).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "a stranger was answered");
    }
    for ended in refused {
        assert!(!matches!(ended, Ok(true)), "it was answered");
    }
    let call = begin(one.call(2, Lane::Append, 5)).await;
    let answer = async { two.next().await.reply.send(Ok(forwarded(6))) };
    assert_eq!(tokio::join!(call, answer).0, Ok(forwarded(6)));
}

#[tokio::test]
async fn a_connection_takes_the_place_of_the_former_one_of_its_lane() {
    let two = Node::start(identity(2), settings()).await;
    let mut first = connect(&two, &hello_to_two()).await;
    let other_lane = connect(&two, &Hello { lane: 0, ..hello_to_two() }).await;
    let second = connect(&two, &hello_to_two()).await;
    assert!(matches!(first.input.message::<WireResponse>().await, Ok(None) | Err(_)));
    for mut alive in [other_lane, second] {
        let ping = Request::Ping(crate::proto::peer::Ping {});
        let ping = frame::encode_request(3, ping, Vec::new()).unwrap();
        write_frame(&alive.output, ping).await.unwrap();
        let pong = alive.input.response().await.unwrap().unwrap();
        assert_eq!(pong, (3, Ok(Response::Pong(crate::proto::peer::Pong::default()))));
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_sent_harms_no_other() {
    let (one, mut two) = pair(settings()).await;
    let append = Request::Append(Append::default());
    let too_many = vec![Bytes::from_static(b"payload of no entry")];
    let refused = one.peers.call(2, Lane::Append, append, too_many, LONG).await;
    assert!(matches!(refused, Err(Error::Refused { node: 2, .. })), "{refused:?}");
    let call = begin(one.call(2, Lane::Append, 5)).await;
    let answer = async { two.next().await.reply.send(Ok(forwarded(6))) };
    assert_eq!(tokio::join!(call, answer).0, Ok(forwarded(6)));
}
