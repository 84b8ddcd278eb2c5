//! The cleaner's own thread, and that of its steps, which the processor is given to when nobody else wants it.
//!
//! Appends, fetches and look-ups are waited for; cleaning is not. Where cores are scarce, a step that runs beside them as an equal
//! is a core less for milliseconds.

use std::sync::Arc;
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::broker::Broker;

/// How much less than others the cleaner is given, of 19 that it could be.
const NICE: i32 = 5;

/// Cleans until the node drains.
pub(crate) async fn run(broker: Arc<Broker>) {
    let own = Builder::new_current_thread().enable_time().on_thread_start(make_way).build();
    let (ended, end) = oneshot::channel::<()>();
    let cleaning = own.and_then(|own| {
        let broker = Arc::clone(&broker);
        let clean = move || {
            own.block_on(super::run(broker));
            drop(ended);
        };
        thread::Builder::new().name("cleaner".to_owned()).spawn(clean)
    });
    match cleaning {
        // Nothing is ever sent: it has ended.
        Ok(_) => drop(end.await),
        Err(error) => {
            tracing::warn!(%error, "the cleaner has no thread of its own");
            super::run(broker).await;
        }
    }
}

/// Has the system prefer other threads to this one.
fn make_way() {
    // The system call is of the thread alone, whatever its manual says.
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::warn!(%error, "the cleaner runs as an equal of everything else");
    }
}
