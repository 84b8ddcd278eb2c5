//! The generated types of `server/proto`: what this node persists, and what it says to other nodes
//! and to clients that ask for keys.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines,
    reason = "generated code"
)]

pub(crate) mod consensus {
    include!(concat!(env!("OUT_DIR"), "/jangbu.consensus.rs"));
}

pub(crate) mod get {
    include!(concat!(env!("OUT_DIR"), "/jangbu.get.rs"));
}

pub(crate) mod metadata {
    include!(concat!(env!("OUT_DIR"), "/jangbu.metadata.rs"));
}

pub(crate) mod partition {
    include!(concat!(env!("OUT_DIR"), "/jangbu.partition.rs"));
}

pub(crate) mod peer {
    include!(concat!(env!("OUT_DIR"), "/jangbu.peer.rs"));
}
