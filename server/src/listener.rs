//! Accepts client connections, a bounded number at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::broker::Broker;
use crate::connection::{self, Admission};

/// After a failed accept (out of file descriptors, say), wait this long before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the node drains; connections run as tasks of `tasks`.
pub(crate) async fn run(broker: Arc<Broker>, listener: TcpListener, tasks: TaskTracker) {
    let slots = Arc::new(Semaphore::new(broker.config.connections_max));
    let admission = Admission::new(broker.config.produce_bytes_max);
    let refused = metrics::counter!("jangbu_connections_refused_total");
    let open = metrics::gauge!("jangbu_connections_open");
    loop {
        let accepted = tokio::select! {
            () = broker.draining.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            refused.increment(1);
            tracing::warn!(%peer, "refused: {} connections are open", broker.config.connections_max);
            continue;
        };
        let (broker, admission, open) = (Arc::clone(&broker), admission.clone(), open.clone());
        tasks.spawn(async move {
            open.increment(1);
            connection::serve(broker, admission, stream, peer).await;
            open.decrement(1);
            drop(slot);
        });
    }
}
