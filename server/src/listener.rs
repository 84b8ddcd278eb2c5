//! Accepts client connections, a bounded number at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::broker::Broker;
use crate::connection;

/// After a failed accept (out of file descriptors, say), wait this long before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the node drains; connections run as tasks of `tasks`.
pub(crate) async fn run(broker: Arc<Broker>, listener: TcpListener, tasks: TaskTracker) {
    let slots = Arc::new(Semaphore::new(broker.config.connections_max));
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
            broker.metrics.connections_refused.add(1);
            tracing::warn!(%peer, "refused: {} connections are open", broker.config.connections_max);
            continue;
        };
        broker.metrics.connections_accepted.add(1);
        let broker = Arc::clone(&broker);
        tasks.spawn(async move {
            let metrics = Arc::clone(&broker.metrics);
            metrics.connections_open.add(1);
            connection::serve(broker, stream, peer).await;
            metrics.connections_open.subtract(1);
            drop(slot);
        });
    }
}
