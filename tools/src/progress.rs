//! Tells how far a long command has come: a bar on a terminal, otherwise a line every few seconds.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output;

/// Time between two lines where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(3);
/// Time between two looks at a bar.
const TICK: Duration = Duration::from_millis(100);

/// How far something has come.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    total: u64,
    unit: Unit,
    started: Instant,
    last: Instant,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Bytes of a file.
    Bytes,
    /// Records.
    Records,
    /// Partitions that move.
    Partitions,
}

impl Progress {
    /// Starts at nothing of `total`; a total of 0 is unknown.
    pub(crate) fn new(total: u64, unit: Unit) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(total, unit));
        let now = Instant::now();
        Self { bar, total, unit, started: now, last: now }
    }

    /// Whether it is time to call [`Progress::show`]; cheap enough for every record in a thousand.
    pub(crate) fn is_due(&self) -> bool {
        self.last.elapsed() >= if self.bar.is_some() { TICK } else { INTERVAL }
    }

    /// Shows that `done` of the total is done and how many records that were.
    pub(crate) fn show(&mut self, done: u64, records: u64) {
        self.last = Instant::now();
        let rate = per_second(records, self.started.elapsed());
        let (count, rate) = (output::grouped(records), output::grouped(rate));
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(match self.unit {
                Unit::Bytes | Unit::Records => format!("{count} records, {rate}/s"),
                Unit::Partitions => "partitions moved".to_owned(),
            });
            return;
        }
        output::note(&match (self.unit, self.total) {
            (Unit::Partitions, total) => format!("{done} of {total} partitions moved"),
            (_, 0) => format!("{count} records, {rate}/s"),
            (Unit::Records, total) => {
                format!("{count} of {} records, {rate}/s", output::grouped(total))
            }
            (Unit::Bytes, total) => {
                let (done, total) = (output::human_bytes(done), output::human_bytes(total));
                format!("{count} records, {rate}/s, {done} of {total}")
            }
        });
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(total: u64, unit: Unit) -> ProgressBar {
    let template = match (unit, total) {
        (_, 0) => "{spinner} {msg}",
        (Unit::Bytes, _) => "{bar:30} {percent:>3}% {bytes}/{total_bytes} eta {eta} {msg}",
        (Unit::Records, _) => "{bar:30} {percent:>3}% eta {eta} {msg}",
        (Unit::Partitions, _) => "{bar:30} {pos}/{len} {msg}",
    };
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    ProgressBar::new(total).with_style(style)
}

/// How many per second.
pub(crate) fn per_second(count: u64, elapsed: Duration) -> u64 {
    let micros = elapsed.as_micros().max(1);
    u64::try_from(u128::from(count) * 1_000_000 / micros).unwrap_or(u64::MAX)
}
