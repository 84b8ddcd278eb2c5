//! How a client behaves towards its brokers. Plain data, every field with its default and unit.

use std::sync::Arc;
use std::time::Duration;

use crate::metrics::{Metrics, Silent};
use crate::setters::setters;

/// Settings that producer, consumer and admin calls of one [`crate::Client`] share.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses (`host:port`) of which at least one must answer. Default: `127.0.0.1:9092`.
    pub bootstrap: Vec<String>,
    /// The name brokers log for this client. Default: `jangbu-client`.
    pub client_id: String,
    /// Time for a TCP connection and its version negotiation. Default: 5 s.
    pub connect_timeout: Duration,
    /// Time for one request; a connection that exceeds it is given up. Default: 30 s.
    pub request_timeout: Duration,
    /// Largest response that is read. A frame that claims more ends its connection. Default: 128 MiB.
    pub frame_bytes_max: usize,
    /// How long a group's leader relies on what it knows of the topics, before it looks whether they have got more
    /// partitions. Default: 5 min.
    pub metadata_age_max: Duration,
    /// First pause before something is tried again; it doubles up to `backoff_max`. Default: 50 ms.
    pub backoff_min: Duration,
    /// Longest pause before something is tried again. Default: 1 s.
    pub backoff_max: Duration,
    /// Who is told what the client does. Default: nobody.
    pub metrics: Arc<dyn Metrics>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bootstrap: vec!["127.0.0.1:9092".into()],
            client_id: "jangbu-client".into(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            frame_bytes_max: 128 << 20,
            metadata_age_max: Duration::from_secs(300),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
            metrics: Arc::new(Silent),
        }
    }
}

setters! { Config:
    field with_client_id client_id: String,
    field with_connect_timeout connect_timeout: Duration,
    field with_request_timeout request_timeout: Duration,
    field with_frame_bytes_max frame_bytes_max: usize,
    field with_metadata_age_max metadata_age_max: Duration,
    field with_backoff_min backoff_min: Duration,
    field with_backoff_max backoff_max: Duration,
}

impl Config {
    /// The same with another [`Config::metrics`].
    #[must_use]
    pub fn with_metrics(mut self, metrics: Arc<dyn Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// Defaults, with the brokers of a comma separated list.
    pub fn for_brokers(list: &str) -> Self {
        let bootstrap = list.split(',').map(str::trim).filter(|part| !part.is_empty());
        Self { bootstrap: bootstrap.map(str::to_owned).collect(), ..Self::default() }
    }

    /// The pause before attempt `failures + 1`: doubling, bounded, with up to a quarter taken off
    /// so that clients which failed together do not come back together.
    pub(crate) fn backoff(&self, failures: u32) -> Duration {
        let factor = 1_u32 << failures.saturating_sub(1).min(16);
        let pause = self.backoff_min.saturating_mul(factor).min(self.backoff_max);
        pause.mul_f64(1.0 - 0.25 * jitter())
    }
}

/// A number in [0, 1) that differs from call to call; `RandomState` is seeded by the system.
fn jitter() -> f64 {
    use std::hash::BuildHasher;
    let random = std::hash::RandomState::new().hash_one(0_u8) >> 40;
    f64::from(u32::try_from(random).expect("24 bits fit")) / f64::from(1_u32 << 24)
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn backoff_doubles_and_stays_bounded() {
        let config = Config::default();
        for failures in 1..100 {
            let pause = config.backoff(failures);
            assert!(pause <= config.backoff_max, "{pause:?} after {failures} failures");
            assert!(pause >= config.backoff_min.mul_f64(0.75), "{pause:?}");
        }
        assert!(config.backoff(10) > config.backoff(1));
    }

    #[test]
    fn a_broker_list_is_split_at_commas() {
        let config = Config::for_brokers("a:1, b:2,,");
        assert_eq!(config.bootstrap, ["a:1", "b:2"]);
    }
}
