//! Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write};

use jangbu_engine::HistogramSnapshot;

/// What a family of series is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

impl Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

/// A label and its value. Values are ours: they hold nothing that would have to be escaped.
pub(super) type Label<'a> = (&'a str, &'a str);

/// The page as it is written.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    /// Begins a family; the samples that follow are its.
    pub(super) fn begin(&mut self, name: &'static str, kind: Kind, help: &str) {
        self.name = name;
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// The one sample of a family without labels.
    pub(super) fn value(&mut self, value: u64) {
        self.labelled(&[], value);
    }

    /// The same for a count of nanoseconds, shown in seconds.
    pub(super) fn seconds(&mut self, nanos: u64) {
        self.labelled(&[], seconds(nanos));
    }

    /// A sample.
    pub(super) fn labelled(&mut self, labels: &[Label<'_>], value: impl Display) {
        let name = self.name;
        self.sample(name, "", labels, value);
    }

    /// A histogram; `unit` turns its values into the unit shown.
    pub(super) fn histogram(
        &mut self,
        labels: &[Label<'_>],
        histogram: &HistogramSnapshot,
        unit: impl Fn(u64) -> f64,
    ) {
        let name = self.name;
        let mut below = 0;
        for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
            below += count;
            let bound = unit(*bound).to_string();
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.sample(name, "_bucket", &labels, below);
        }
        let all: Vec<_> = labels.iter().copied().chain([("le", "+Inf")]).collect();
        self.sample(name, "_bucket", &all, histogram.count());
        self.sample(name, "_sum", labels, unit(histogram.sum));
        self.sample(name, "_count", labels, histogram.count());
    }

    /// The page.
    pub(super) fn finish(self) -> String {
        self.text
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: &[Label<'_>], value: impl Display) {
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        if labels.is_empty() {
            self.line(format_args!("{name}{suffix} {value}"));
        } else {
            self.line(format_args!("{name}{suffix}{{{}}} {value}", labels.join(",")));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.text.write_fmt(line).expect("a string takes what is written to it");
        self.text.push('\n');
    }
}

/// Nanoseconds in seconds.
#[expect(clippy::cast_precision_loss, reason = "53 bits are enough for what is looked at")]
pub(super) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// A number of bytes or of anything else.
#[expect(clippy::cast_precision_loss, reason = "53 bits are enough for what is looked at")]
pub(super) fn plain(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use jangbu_engine::Histogram;

    use super::*;

    #[test]
    fn buckets_count_everything_below_their_bound() {
        let histogram = Histogram::new(&[1_000_000, 1_000_000_000]);
        for nanos in [500_000, 2_000_000, 3_000_000_000] {
            histogram.observe(nanos);
        }
        let mut page = Page::default();
        page.begin("x_seconds", Kind::Histogram, "What it is.");
        page.histogram(&[("api", "Fetch")], &histogram.snapshot(), seconds);
        assert_eq!(
            page.finish(),
            "# HELP x_seconds What it is.\n# TYPE x_seconds histogram\n\
             x_seconds_bucket{api=\"Fetch\",le=\"0.001\"} 1\n\
             x_seconds_bucket{api=\"Fetch\",le=\"1\"} 2\n\
             x_seconds_bucket{api=\"Fetch\",le=\"+Inf\"} 3\n\
             x_seconds_sum{api=\"Fetch\"} 3.0025\n\
             x_seconds_count{api=\"Fetch\"} 3\n"
        );
    }
}
