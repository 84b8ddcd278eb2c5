//! Why a node cannot start or go on, and which Kafka error code stands for which failure.

use kafka_protocol::ResponseError;

use crate::{config, controller, partition, producers};

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of the configuration is out of its bounds.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The data directory cannot be used.
    #[error(transparent)]
    Engine(#[from] jangbu_engine::Error),
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address} ({flag}): {source}; is another node running? choose another port with {flag}"
    )]
    Listen {
        /// The address.
        address: String,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data directory belongs to another node.
    #[error(
        "the data directory belongs to node {stored}, but this node is {given}; start it with --node {stored}, or give it another data directory"
    )]
    OtherNode {
        /// The node id in the data directory.
        stored: String,
        /// The node id asked for.
        given: i32,
    },
    /// The data directory is in use by a cluster of one, which does not become part of another cluster.
    #[error(
        "the data directory holds a cluster of one, which cannot become part of another: to form or join a cluster give the node an empty data directory, or let new nodes join this one, which needs --peer-listen here and --join there"
    )]
    OneNode,
    /// The data directory belongs to a cluster of several nodes, and the node was started as if alone.
    #[error(
        "the data directory belongs to node {node} of a cluster ({nodes}): start it with --cluster or --join as before, or with --peer-listen"
    )]
    NotAlone {
        /// The node id in the data directory.
        node: i32,
        /// The nodes of its cluster, and where they are.
        nodes: String,
    },
    /// The data directory says another cluster than the metadata.
    #[error(
        "the data directory belongs to cluster {stored}, but its metadata to cluster {found}: a part of it was copied from another node; restore all of it"
    )]
    OtherCluster {
        /// The cluster in the data directory.
        stored: String,
        /// The cluster in the metadata.
        found: String,
    },
    /// The cluster knows this node's id with another data directory.
    #[error(
        "the cluster knows node {node} with another data directory: a node whose disk was lost has lost its votes and cannot come back under its id; start it with --join HOST:PORT, without --node and --cluster, and with an empty data directory"
    )]
    OtherDirectory {
        /// The node's id.
        node: i32,
    },
    /// The node was removed from the cluster.
    #[error(
        "node {node} was removed from the cluster: start it with --join HOST:PORT, without --node, and with an empty data directory to bring it back as a new node"
    )]
    Removed {
        /// The node's id.
        node: i32,
    },
    /// Stored state does not decode, or the cluster does not form.
    #[error("{0}")]
    Start(String),
}

/// The Kafka error code for a partition's failure.
pub(crate) fn partition_code(error: &partition::Error) -> ResponseError {
    match error {
        partition::Error::NotLeader | partition::Error::Stopped => {
            ResponseError::NotLeaderOrFollower
        }
        partition::Error::Broken => ResponseError::KafkaStorageError,
        partition::Error::FencedEpoch { .. } => ResponseError::FencedLeaderEpoch,
        partition::Error::UnknownEpoch { .. } => ResponseError::UnknownLeaderEpoch,
        partition::Error::Refused(refused) => refused_code(refused),
        partition::Error::Log(error) => log_code(error),
        partition::Error::Timeout => ResponseError::RequestTimedOut,
        partition::Error::Members(_) => ResponseError::InvalidReplicaAssignment,
    }
}

fn refused_code(error: &producers::Refused) -> ResponseError {
    match error {
        producers::Refused::OutOfOrder { .. } => ResponseError::OutOfOrderSequenceNumber,
        producers::Refused::StaleEpoch { .. } => ResponseError::InvalidProducerEpoch,
    }
}

fn log_code(error: &jangbu_engine::Error) -> ResponseError {
    match error {
        jangbu_engine::Error::OffsetOutOfRange { .. } => ResponseError::OffsetOutOfRange,
        jangbu_engine::Error::InvalidAppend { .. } => ResponseError::CorruptMessage,
        jangbu_engine::Error::Corrupt { .. }
        | jangbu_engine::Error::Locked { .. }
        | jangbu_engine::Error::Directory { .. }
        | jangbu_engine::Error::UnknownFormat { .. }
        | jangbu_engine::Error::Lost { .. }
        | jangbu_engine::Error::Damaged { .. }
        | jangbu_engine::Error::Storage { .. } => ResponseError::KafkaStorageError,
        jangbu_engine::Error::NotKeyed(_) => ResponseError::InvalidConfig,
        jangbu_engine::Error::Closed | jangbu_engine::Error::Deleted(_) => {
            ResponseError::NotLeaderOrFollower
        }
    }
}

/// The Kafka error code for a metadata change that was not made.
pub(crate) fn controller_code(error: &controller::Error) -> ResponseError {
    match error {
        controller::Error::TopicExists => ResponseError::TopicAlreadyExists,
        controller::Error::UnknownTopic => ResponseError::UnknownTopicOrPartition,
        controller::Error::Stale => ResponseError::InvalidPartitions,
        controller::Error::Exhausted => ResponseError::UnknownServerError,
        controller::Error::UnknownBroker => ResponseError::BrokerIdNotRegistered,
        controller::Error::InUse => ResponseError::InvalidRequest,
        controller::Error::OtherDirectory => ResponseError::DuplicateBrokerRegistration,
        controller::Error::NotReassigning => ResponseError::NoReassignmentInProgress,
        controller::Error::Consensus(crate::consensus::Error::Timeout) => {
            ResponseError::RequestTimedOut
        }
        controller::Error::Consensus(_) => ResponseError::NotController,
    }
}
