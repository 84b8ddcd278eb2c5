//! How much was taken a second, over the last ten seconds: pure, the time is an argument.
//!
//! As Kafka's `Rate` with its defaults (`quota.window.num` 11, `quota.window.size.seconds` 1): eleven samples of a second, of which
//! ten are taken for passed even when the client has just come, so that a first burst may have ten seconds' worth.

use std::collections::VecDeque;

const SAMPLES: usize = 11;
const SAMPLE_MS: u64 = 1_000;

/// What was taken in a second, or a little more.
#[derive(Debug, Clone, Copy)]
struct Sample {
    begun_ms: u64,
    sum: f64,
}

/// What one client, or several that share a quota, have taken of late.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// The newest last, [`SAMPLES`] at most.
    samples: VecDeque<Sample>,
}

impl Rate {
    /// Adds what is taken now. Time that goes back counts as standing still.
    pub(super) fn record(&mut self, amount: f64, now_ms: u64) {
        self.forget(now_ms);
        match self.samples.back_mut() {
            Some(last) if now_ms.saturating_sub(last.begun_ms) < SAMPLE_MS => last.sum += amount,
            _ => self.samples.push_back(Sample { begun_ms: now_ms, sum: amount }),
        }
    }

    /// For how long nothing may be taken so that no more than `limit` a second was.
    pub(super) fn pause_ms(&mut self, limit: f64, now_ms: u64) -> u64 {
        self.forget(now_ms);
        let sum: f64 = self.samples.iter().map(|sample| sample.sum).sum();
        let window_ms = self.window_ms(now_ms);
        let rate = sum * 1_000.0 / window_ms;
        if rate <= limit {
            return 0;
        }
        let pause = (rate - limit) / limit * window_ms;
        // A limit near nothing makes it infinite; nobody waits for longer than an hour.
        let pause = pause.min(3_600_000.0).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is bounded"
        )]
        let pause = pause as u64;
        pause
    }

    /// Whether nothing was taken for as long as anything counts.
    pub(super) fn is_idle(&self, now_ms: u64) -> bool {
        self.samples.iter().all(|sample| is_over(sample, now_ms))
    }

    /// The time over which the samples are, ten seconds at least.
    fn window_ms(&self, now_ms: u64) -> f64 {
        let begun = self.samples.front().map_or(now_ms, |sample| sample.begun_ms);
        let passed = now_ms.saturating_sub(begun);
        let least = (SAMPLES as u64 - 1) * SAMPLE_MS;
        let window = if passed < least { least + passed % SAMPLE_MS } else { passed };
        #[expect(clippy::cast_precision_loss, reason = "some seconds in milliseconds")]
        let window = window as f64;
        window
    }

    fn forget(&mut self, now_ms: u64) {
        while self.samples.front().is_some_and(|sample| is_over(sample, now_ms)) {
            self.samples.pop_front();
        }
    }
}

fn is_over(sample: &Sample, now_ms: u64) -> bool {
    now_ms.saturating_sub(sample.begun_ms) >= SAMPLES as u64 * SAMPLE_MS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::{Rate, SAMPLES};

    #[test]
    fn ten_seconds_worth_may_come_at_once_and_what_is_beyond_it_is_waited_for() {
        let mut rate = Rate::default();
        rate.record(1_000.0, 0);
        assert_eq!(rate.pause_ms(100.0, 0), 0);
        rate.record(500.0, 0);
        assert_eq!(rate.pause_ms(100.0, 0), 5_000);
        assert_eq!(rate.pause_ms(150.0, 0), 0);
    }

    #[test]
    fn what_was_taken_counts_for_eleven_seconds() {
        let mut rate = Rate::default();
        rate.record(10_000.0, 0);
        assert!(rate.pause_ms(100.0, 10_999) > 0);
        assert!(!rate.is_idle(10_999));
        assert_eq!(rate.pause_ms(100.0, 11_000), 0);
        assert!(rate.is_idle(11_000));
    }

    #[test]
    fn a_steady_rate_below_the_limit_never_waits() {
        let mut rate = Rate::default();
        for second in 0..100 {
            // Eleven samples are up to a tenth more than ten seconds.
            rate.record(90.0, second * 1_000);
            assert_eq!(rate.pause_ms(100.0, second * 1_000), 0, "second {second}");
        }
        assert!(rate.samples.len() <= SAMPLES);
    }

    #[test]
    fn time_that_goes_back_stands_still() {
        let mut rate = Rate::default();
        rate.record(100.0, 5_000);
        rate.record(100.0, 1_000);
        assert_eq!(rate.samples.len(), 1);
        assert_eq!(rate.pause_ms(100.0, 1_000), 0);
    }

    proptest! {
        /// Whoever rests as long as it is told gets no more than its quota, apart from the burst of the first window and
        /// one request beyond it.
        #[test]
        fn whoever_rests_as_told_stays_within_the_quota(sizes in proptest::collection::vec(1_u32..5_000, 1..300)) {
            let (mut rate, mut now_ms, mut taken) = (Rate::default(), 0, 0.0);
            for size in sizes {
                rate.record(f64::from(size), now_ms);
                taken += f64::from(size);
                now_ms += rate.pause_ms(1_000.0, now_ms);
            }
            let seconds = f64::from(u32::try_from(now_ms).unwrap()) / 1_000.0;
            prop_assert!(taken <= 1_000.0 * (seconds * 1.2 + 11.0) + 5_000.0, "{taken} in {seconds} s");
            prop_assert!(rate.samples.len() <= SAMPLES);
        }
    }
}
