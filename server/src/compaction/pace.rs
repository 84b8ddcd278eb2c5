//! How fast the cleaner goes: appends first, then at most half a core while anything is appended, then what is configured.
//!
//! After each step it rests as long as the step took, for a quarter of that when nothing was appended meanwhile, and longer if
//! `log.cleaner.io.max.bytes.per.second` asks for it. Before a step it lets appends pass that queue up, for a bounded time: a
//! log that is never cleaned grows without end.

use std::time::Duration;

use jangbu_engine::Engine;
use tokio::time::Instant;

/// Appends are let pass while the queue holds more than one part in this many of what it may.
const QUEUE_PARTS: usize = 8;
/// How often is looked at the queue, ...
const GLANCE: Duration = Duration::from_millis(10);
/// ... and how often at most before one step.
const GLANCES: u32 = 100;
/// While nothing is appended it rests for one part in this many of the time that it works.
const ALONE_PARTS: u32 = 4;
/// The longest rest: the rate may be another by then, and the node may be about to stop.
const REST_MAX: Duration = Duration::from_secs(10);

/// Lets appends pass that wait for the disk.
pub(super) async fn wait_for_appends(engine: &Engine) {
    for _ in 0..GLANCES {
        let stats = engine.stats();
        if stats.queued_bytes <= stats.queue_bytes_max / QUEUE_PARTS {
            return;
        }
        tokio::time::sleep(GLANCE).await;
    }
}

/// A step under way.
pub(super) struct Work<'a> {
    engine: &'a Engine,
    begun: Instant,
    appended_bytes: u64,
}

impl<'a> Work<'a> {
    /// A step begins.
    pub(super) fn begin(engine: &'a Engine) -> Self {
        let appended_bytes = engine.stats().appended_bytes;
        Self { engine, begun: Instant::now(), appended_bytes }
    }

    /// Rests after the step, which read and wrote so many bytes, at `rate` bytes a second. Whether nothing was appended meanwhile.
    pub(super) async fn rest(self, bytes: u64, rate: f64) -> bool {
        let is_alone = self.engine.stats().appended_bytes == self.appended_bytes;
        let took = self.begun.elapsed();
        let least = if is_alone { took / ALONE_PARTS } else { took };
        tokio::time::sleep(rest_of(took, least, bytes, rate)).await;
        is_alone
    }
}

/// How long to rest after a step that took so long, at `rate` bytes a second: `least`, or longer.
#[expect(clippy::cast_precision_loss, reason = "53 bits are enough for the bytes of a step")]
fn rest_of(took: Duration, least: Duration, bytes: u64, rate: f64) -> Duration {
    let whole = Duration::try_from_secs_f64(bytes as f64 / rate.max(1.0)).unwrap_or(REST_MAX);
    least.max(whole.saturating_sub(took)).min(REST_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_followed_by_a_rest_and_by_what_the_rate_asks_for() {
        let ms = Duration::from_millis;
        assert_eq!(rest_of(ms(20), ms(20), 1 << 20, f64::MAX), ms(20), "half of a core");
        assert_eq!(rest_of(ms(20), ms(5), 1 << 20, f64::MAX), ms(5), "nobody appends");
        let rested = rest_of(ms(20), ms(5), 1_000_000, 10_000_000.0);
        assert_eq!(rested, ms(80), "100 ms from step to step");
        assert_eq!(rest_of(ms(20), ms(20), 1 << 20, 0.0), REST_MAX);
        assert_eq!(rest_of(ms(20), ms(20), 1 << 20, f64::NAN), REST_MAX);
    }
}
