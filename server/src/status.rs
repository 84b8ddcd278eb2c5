//! How far the node's start has come, for `/readyz`, `/metrics` and the log.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::broker::Broker;

/// The log says again what the node still waits for.
const REMIND_EVERY: Duration = Duration::from_secs(10);

/// Written by the start, read by the HTTP port.
#[derive(Debug)]
pub(crate) struct Status {
    broker: OnceLock<Arc<Broker>>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    /// `None` once the node is ready.
    text: Option<String>,
    logged: Instant,
}

impl Default for Status {
    fn default() -> Self {
        let text = Some("starting".to_owned());
        let waiting = Waiting { text, logged: Instant::now() };
        Self { broker: OnceLock::new(), waiting: Mutex::new(waiting) }
    }
}

impl Status {
    /// What the node waits for now. The log says it once, and again every ten seconds while it stays the same.
    pub(crate) fn wait_for(&self, text: String) {
        let mut waiting = self.waiting.lock();
        let told = waiting.text.as_ref() == Some(&text);
        if told && waiting.logged.elapsed() < REMIND_EVERY {
            return;
        }
        tracing::info!("waiting for {text}");
        *waiting = Waiting { text: Some(text), logged: Instant::now() };
    }

    /// What the node waits for now, which takes no longer than a start takes: the log need not say it.
    pub(crate) fn proceed(&self, text: &str) {
        *self.waiting.lock() = Waiting { text: Some(text.to_owned()), logged: Instant::now() };
    }

    /// The node can serve.
    pub(crate) fn ready(&self) {
        self.waiting.lock().text = None;
    }

    /// What the node waits for; `None` when it is ready.
    pub(crate) fn waiting(&self) -> Option<String> {
        self.waiting.lock().text.clone()
    }

    /// The node's parts are there.
    pub(crate) fn set_broker(&self, broker: Arc<Broker>) {
        // A node starts once.
        let _ = self.broker.set(broker);
    }

    /// The node's parts, once they are there.
    pub(crate) fn broker(&self) -> Option<&Arc<Broker>> {
        self.broker.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_what_it_waits_for_until_it_is_ready() {
        let status = Status::default();
        assert_eq!(status.waiting().as_deref(), Some("starting"));
        status.wait_for("node 2".to_owned());
        assert_eq!(status.waiting().as_deref(), Some("node 2"));
        status.ready();
        assert_eq!(status.waiting(), None);
    }
}
