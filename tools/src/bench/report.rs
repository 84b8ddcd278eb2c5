//! The report: one page with the load, the table and the charts, which needs nothing beside it.

use super::chart::{Axes, Line, Lines, lines};
use super::run::Run;
use super::summary::Summary;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:1em 0}td,th{border-bottom:1px solid #ddd;padding:.3em .8em;text-align:right}\
td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}@media print{body{margin:0}}";

/// The page.
pub(crate) fn page(summary: &Summary, runs: &[Vec<Run>]) -> String {
    let title = format!(
        "jangbu bench {}: {}",
        text(summary.load["what"].as_str().unwrap_or("")),
        text(&summary.sides.join(" and "))
    );
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style>\n<h1>{title}</h1>\n"
    );
    page += &table(&summary.header(), &summary.rows());
    page += "<p>Medians of all runs, least and greatest in brackets. A side's ratio is that of runs which came one after the other.</p>\n";
    for (heading, chart) in charts(summary, runs) {
        page += &format!("<h2>{heading}</h2>\n{chart}\n");
    }
    page += "<h2>The load</h2>\n";
    let load = summary.load.as_object().into_iter().flatten();
    let told = load.filter(|(_, value)| !value.is_null());
    page += &table(
        &["setting".into(), "value".into()],
        &told
            .map(|(key, value)| vec![key.replace('_', " "), value.to_string()])
            .collect::<Vec<_>>(),
    );
    page + "</html>\n"
}

fn charts(summary: &Summary, runs: &[Vec<Run>]) -> Vec<(&'static str, String)> {
    let sides = |line: &dyn Fn(&Run) -> Option<Line>| -> Vec<Lines<'_>> {
        let all = summary.sides.iter().zip(runs);
        all.map(|(name, runs)| Lines { name, lines: runs.iter().filter_map(line).collect() })
            .collect()
    };
    let seconds =
        Axes { x: ("seconds", |second| format!("{second:.0}")), y: "MB/s", logarithmic: false };
    let percent =
        Axes { x: ("percent of the records", percentile), y: "milliseconds", logarithmic: true };
    let all = [
        ("Throughput over time", lines(&seconds, &sides(&|run| Some(run.points.clone())))),
        (
            "Until a record is acknowledged",
            lines(&percent, &sides(&|run| Some(run.acknowledged.as_ref()?.curve()))),
        ),
        (
            "Until a record is read",
            lines(&percent, &sides(&|run| Some(run.end_to_end.as_ref()?.curve()))),
        ),
    ];
    all.into_iter().filter_map(|(heading, chart)| Some((heading, chart?))).collect()
}

/// A number of nines as percent.
fn percentile(nines: &f64) -> String {
    let percent = 100.0 * (1.0 - 10_f64.powf(-nines));
    // As many digits as there are nines.
    let digits = if *nines < 1.5 {
        0
    } else if *nines < 2.5 {
        1
    } else {
        3
    };
    format!("{percent:.digits$}")
}

fn table(header: &[String], rows: &[Vec<String>]) -> String {
    let row = |cells: &[String], tag: &str| {
        let cells = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", text(cell)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let rows: String = rows.iter().map(|cells| row(cells, "td")).collect();
    format!("<table>\n{}{rows}</table>\n", row(header, "th"))
}

/// What a user gave, as text of a page.
fn text(given: &str) -> String {
    given.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{percentile, table};

    #[test]
    fn names_are_text_and_no_markup() {
        assert!(table(&["<b>".into()], &[]).contains("&lt;b&gt;"));
    }

    #[test]
    fn nines_are_told_as_percent() {
        let told = [0.0, 1.0, 2.0, 3.0].map(|nines| percentile(&nines));
        assert_eq!(told, ["0", "90", "99.0", "99.900"]);
    }
}
