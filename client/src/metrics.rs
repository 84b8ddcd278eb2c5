//! What a client tells a program about its own work: counts and measurements, which the program may pass to whatever it
//! keeps its metrics in.
//!
//! Invariant: nothing is told record by record, and nothing is allocated to be told.

use std::fmt::Debug;
use std::time::Duration;

/// Something that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Count {
    /// Connections opened.
    Connections,
    /// Connections that could not be opened, or were lost before the client closed them.
    ConnectionsFailed,
    /// Requests sent.
    Requests,
    /// Requests that got no answer, or one that does not decode.
    RequestsFailed,
    /// Records acknowledged.
    RecordsProduced,
    /// Batches acknowledged.
    BatchesProduced,
    /// Bytes of acknowledged batches, as they went over the wire.
    BytesProduced,
    /// Batches sent again.
    ProduceRetries,
    /// Records given up.
    RecordsGivenUp,
    /// Records in the batches that were fetched, also those below the position asked for.
    RecordsFetched,
    /// Batches fetched.
    BatchesFetched,
    /// Bytes of fetched batches, as they came over the wire.
    BytesFetched,
    /// Assignments of a group that were taken up.
    Rebalances,
    /// Times that a group had gone on without this member.
    MembershipsLost,
}

impl Count {
    /// A name for it, in the manner of Prometheus.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections_total",
            Self::ConnectionsFailed => "connections_failed_total",
            Self::Requests => "requests_total",
            Self::RequestsFailed => "requests_failed_total",
            Self::RecordsProduced => "records_produced_total",
            Self::BatchesProduced => "batches_produced_total",
            Self::BytesProduced => "bytes_produced_total",
            Self::ProduceRetries => "produce_retries_total",
            Self::RecordsGivenUp => "records_given_up_total",
            Self::RecordsFetched => "records_fetched_total",
            Self::BatchesFetched => "batches_fetched_total",
            Self::BytesFetched => "bytes_fetched_total",
            Self::Rebalances => "rebalances_total",
            Self::MembershipsLost => "memberships_lost_total",
        }
    }
}

/// Where a client tells of its work. Every method does nothing unless it is written; they are called from the client's tasks,
/// a few times for each request, and must not wait.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::time::Duration;
///
/// use jangbu_client::{Config, Count, Metrics};
///
/// #[derive(Debug, Default)]
/// struct Produced(AtomicU64);
///
/// impl Metrics for Produced {
///     fn count(&self, what: Count, by: u64) {
///         if what == Count::RecordsProduced {
///             self.0.fetch_add(by, Ordering::Relaxed);
///         }
///     }
///
///     fn answered(&self, api: &'static str, took: Duration) {
///         if took > Duration::from_secs(1) {
///             eprintln!("{api} took {took:?}");
///         }
///     }
/// }
///
/// let metrics = Arc::new(Produced::default());
/// let config = Config::for_brokers("127.0.0.1:9092").with_metrics(metrics.clone());
/// ```
pub trait Metrics: Debug + Send + Sync {
    /// `what` has happened `by` times more.
    fn count(&self, what: Count, by: u64) {
        let _ = (what, by);
    }

    /// A request has been answered so long after it was handed to its connection. `api` is Kafka's name, such as `Produce`.
    fn answered(&self, api: &'static str, took: Duration) {
        let _ = (api, took);
    }

    /// A batch has been acknowledged so long after its first record was taken.
    fn delivered(&self, took: Duration) {
        let _ = took;
    }

    /// A member has had an assignment so long after it began to join, or to take it up.
    fn rebalanced(&self, took: Duration) {
        let _ = took;
    }
}

/// Nobody listens.
#[derive(Debug)]
pub(crate) struct Silent;

impl Metrics for Silent {}
