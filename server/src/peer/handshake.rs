//! The first two frames of a connection: who calls whom, and whether they may talk.
//!
//! Invariants:
//! - Another protocol version, cluster, data directory or node than the one meant is refused, with the reason in words.
//! - Between a node that belongs to a cluster and one that belongs to none, only joining and forming is possible.

use bytes::Bytes;
use prost::Message;
use tokio::io::AsyncRead;
use tokio::net::tcp::OwnedWriteHalf;

use super::frame::{self, Reader};
use super::{Identity, Request, writer};
use crate::proto::peer::{Hello, Welcome};

/// Of this protocol. Nodes of different versions do not talk.
pub(super) const VERSION: u32 = 1;
/// Stands for a lane in the hello of a connection for one request.
pub(super) const ONCE: u32 = 3;

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Other {
    pub(super) node: i32,
    pub(super) cluster_id: String,
    pub(super) directory: [u8; 16],
    pub(super) incarnation: u64,
}

/// What two nodes may say to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Terms {
    /// They are of one cluster.
    Everything,
    /// One of them is of none.
    JoinOrForm,
    /// They are of different clusters.
    Nothing,
}

/// The terms of two cluster ids.
pub(super) fn terms(one: &str, other: &str) -> Terms {
    if one.is_empty() || other.is_empty() {
        Terms::JoinOrForm
    } else if one == other {
        Terms::Everything
    } else {
        Terms::Nothing
    }
}

impl Terms {
    /// Whether a request is one of those that these terms allow; pings always are.
    pub(super) fn allow(self, request: &Request) -> bool {
        match self {
            Self::Everything => true,
            Self::JoinOrForm => {
                matches!(request, Request::Join(_) | Request::Form(_) | Request::Ping(_))
            }
            Self::Nothing => false,
        }
    }
}

/// The first message of a connection to node `to`, or to whoever listens (0).
pub(super) fn hello(identity: &Identity, to: i32, lane: u32) -> Hello {
    Hello {
        version: VERSION,
        cluster_id: identity.cluster_id.clone(),
        node: identity.node,
        to,
        directory: Bytes::copy_from_slice(&identity.directory),
        incarnation: identity.incarnation,
        lane,
    }
}

/// The answer to a hello.
pub(super) fn welcome(identity: &Identity, refused: String) -> Welcome {
    Welcome {
        refused,
        cluster_id: identity.cluster_id.clone(),
        node: identity.node,
        directory: Bytes::copy_from_slice(&identity.directory),
        incarnation: identity.incarnation,
    }
}

/// Whether this node takes a connection. `known` is the directory that the node is known to have.
///
/// # Errors
/// Why not.
pub(super) fn judge(
    hello: &Hello,
    identity: &Identity,
    known: Option<[u8; 16]>,
) -> Result<Other, String> {
    if hello.version != VERSION {
        let version = hello.version;
        return Err(format!(
            "node {} speaks version {version} of the protocol between nodes, node {} speaks \
             {VERSION}: run the same release on all nodes",
            hello.node, identity.node
        ));
    }
    if hello.lane > ONCE {
        return Err(format!("there is no lane {}", hello.lane));
    }
    if hello.to != 0 && hello.to != identity.node {
        return Err(meant(hello.to, identity.node));
    }
    if hello.node != 0 && hello.node == identity.node && hello.directory != identity.directory[..] {
        return Err(format!("two nodes have the id {}: give one of them another", hello.node));
    }
    let other = other(hello.node, &hello.cluster_id, &hello.directory, hello.incarnation)?;
    check(&other, identity, known)?;
    Ok(other)
}

/// Whether this node uses a connection that it has opened to node `to`, or to whoever listens (0).
///
/// # Errors
/// Why not.
pub(super) fn judge_welcome(
    welcome: &Welcome,
    identity: &Identity,
    to: i32,
    known: Option<[u8; 16]>,
) -> Result<Other, String> {
    if !welcome.refused.is_empty() {
        // It goes into the log.
        return Err(welcome.refused.replace(char::is_control, " "));
    }
    if to != 0 && to != welcome.node {
        return Err(meant(to, welcome.node));
    }
    let other = other(welcome.node, &welcome.cluster_id, &welcome.directory, welcome.incarnation)?;
    check(&other, identity, known)?;
    Ok(other)
}

fn meant(to: i32, node: i32) -> String {
    let there = match node {
        0 => "a node without an id".to_owned(),
        node => format!("node {node}"),
    };
    format!("node {to} was meant, but {there} listens there: check the addresses of the peers")
}

fn other(node: i32, cluster_id: &str, directory: &[u8], incarnation: u64) -> Result<Other, String> {
    let Ok(directory) = directory.try_into() else {
        let bytes = directory.len();
        return Err(format!("the directory id of node {node} has {bytes} bytes and not 16"));
    };
    if node < 0 || (node == 0 && !cluster_id.is_empty()) {
        return Err(format!("{node} is no id of a node that belongs to a cluster"));
    }
    Ok(Other { node, cluster_id: cluster_id.to_owned(), directory, incarnation })
}

fn check(other: &Other, identity: &Identity, known: Option<[u8; 16]>) -> Result<(), String> {
    let node = other.node;
    if terms(&other.cluster_id, &identity.cluster_id) == Terms::Nothing {
        return Err(format!(
            "node {node} is of cluster {:?}, node {} of cluster {:?}: one of them has the address \
             or the data directory of another cluster",
            other.cluster_id, identity.node, identity.cluster_id
        ));
    }
    if known.is_some_and(|known| known != other.directory) {
        return Err(format!(
            "node {node} has another data directory than the cluster knows: a node that has lost \
             its disk must join under a new id"
        ));
    }
    Ok(())
}

/// Sends a message of the handshake.
///
/// # Errors
/// The socket's.
pub(super) async fn send(output: &OwnedWriteHalf, message: &impl Message) -> Result<(), String> {
    let frame = frame::encode(message, Vec::new())?;
    writer::write_frame(output, frame).await.map_err(|error| error.to_string())
}

/// Receives a message of the handshake.
///
/// # Errors
/// [`frame::Error`], or that the other end has closed the connection.
pub(super) async fn receive<M: Message + Default>(
    input: &mut Reader<impl AsyncRead + Unpin>,
) -> Result<M, String> {
    match input.message().await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err("the connection was closed before it was used".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
