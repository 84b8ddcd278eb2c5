//! All runs in one table: the median of each figure with the least and the greatest, and how the sides compare.

use serde_json::{Value, json};

use super::Side;
use super::latency::{Latencies, POINTS};
use super::load::Load;
use super::run::Run;
use crate::output;

/// A figure of a run.
pub(crate) struct Figure {
    /// What it is, with its unit.
    pub name: String,
    /// Per side, of each run in order; empty where it is not known.
    pub of: Vec<Vec<f64>>,
}

impl Figure {
    /// What the first side's is of the second's, run by run.
    pub(crate) fn ratios(&self) -> Vec<f64> {
        match self.of.as_slice() {
            [first, second] => {
                first.iter().zip(second).filter(|(_, by)| **by > 0.0).map(|(a, b)| a / b).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// What all runs came to.
pub(crate) struct Summary {
    /// The load.
    pub load: Value,
    /// What the sides are called.
    pub sides: Vec<String>,
    /// What was measured.
    pub figures: Vec<Figure>,
    runs: Vec<Vec<Value>>,
}

impl Summary {
    /// Of the runs of each side.
    pub(crate) fn of(load: &Load, sides: &[Side], runs: &[Vec<Run>]) -> Self {
        let mut figures = vec![
            figure("MB/s", runs, |run| Some(run.mb_per_second())),
            figure("records/s", runs, |run| Some(run.records_per_second())),
        ];
        let acknowledged: fn(&Run) -> Option<&Latencies> = |run| run.acknowledged.as_ref();
        let end_to_end: fn(&Run) -> Option<&Latencies> = |run| run.end_to_end.as_ref();
        for (what, latencies) in [("acknowledged", acknowledged), ("end to end", end_to_end)] {
            figures.extend(POINTS.map(|percent| {
                figure(&format!("{what} p{percent}, ms"), runs, |run| latencies(run)?.at(percent))
            }));
        }
        figures.extend([
            figure("broker CPU-s/GB", runs, Run::broker_cpu_per_gb),
            figure("broker resident, MB", runs, |run| Some(mega(run.broker?.resident))),
            figure("broker writes, bytes/byte", runs, |run| {
                Some(run.broker?.written / mega(run.bytes) / 1e6)
            }),
            figure("client CPU-s/GB", runs, |run| Some(run.own_cpu_per_gb())),
        ]);
        figures.retain(|figure| figure.of.iter().any(|side| !side.is_empty()));
        Self {
            load: load.to_json(),
            sides: sides.iter().map(|side| side.name.clone()).collect(),
            figures,
            runs: runs.iter().map(|runs| runs.iter().map(Run::to_json).collect()).collect(),
        }
    }

    /// The cells of the table: the figures' names, a column for each side, and one for the ratio.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let row = |figure: &Figure| {
            let mut row = vec![figure.name.clone()];
            row.extend(figure.of.iter().map(|values| spread(values)));
            if self.sides.len() == 2 {
                row.push(spread(&figure.ratios()));
            }
            row
        };
        self.figures.iter().map(row).collect()
    }

    /// The names of the columns.
    pub(crate) fn header(&self) -> Vec<String> {
        let mut header = vec!["median (range)".to_owned()];
        header.extend(self.sides.iter().cloned());
        if let [first, second] = self.sides.as_slice() {
            header.push(format!("{first} : {second}"));
        }
        header
    }

    /// On standard output.
    pub(crate) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            let median = |figure: &Figure| {
                let sides: Vec<Value> =
                    figure.of.iter().map(|values| json!(median(values))).collect();
                json!({ "figure": figure.name, "median": sides, "ratio": median(&figure.ratios()) })
            };
            let sides: Vec<Value> = self
                .sides
                .iter()
                .zip(&self.runs)
                .map(|(name, runs)| json!({ "name": name, "runs": runs }))
                .collect();
            let figures: Vec<Value> = self.figures.iter().map(median).collect();
            output::json_line(&json!({ "load": self.load, "sides": sides, "figures": figures }))?;
            return Ok(());
        }
        let header = self.header();
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        Ok(output::table(&header, &self.rows())?)
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn figure(name: &str, runs: &[Vec<Run>], of: impl Fn(&Run) -> Option<f64>) -> Figure {
    let of = runs.iter().map(|runs| runs.iter().filter_map(&of).collect()).collect();
    Figure { name: name.to_owned(), of }
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The median, and the range if there is one.
fn spread(values: &[f64]) -> String {
    let Some(median) = median(values) else { return "-".to_owned() };
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match values.len() {
        1 => number(median),
        _ => format!("{} ({}-{})", number(median), number(least), number(most)),
    }
}

/// Three digits, as far as they say something.
fn number(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Figure, median, number, spread};

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_spread_tells_the_range_and_three_digits() {
        assert_eq!(spread(&[120.4, 1.234, 15.55]), "15.6 (1.23-120)");
        assert_eq!(spread(&[0.5]), "0.50");
        assert_eq!(spread(&[]), "-");
        assert_eq!(number(99.96), "100.0");
    }

    #[test]
    fn ratios_are_those_of_the_runs_side_by_side() {
        let figure = Figure { name: "MB/s".into(), of: vec![vec![2.0, 9.0], vec![1.0, 3.0]] };
        assert_eq!(figure.ratios(), [2.0, 3.0]);
    }
}
