//! Rows of the input: lines, CSV or JSON lines, each with the line it began at.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail};
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::cli::InputFormat;

/// A row that cannot be sent, with its place.
#[derive(Debug)]
pub(crate) struct BadRow {
    file: String,
    line: u64,
    reason: String,
}

impl std::error::Error for BadRow {}

impl std::fmt::Display for BadRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.reason)
    }
}

/// The line and the reason of a bad row.
type Bad = (u64, String);

/// A row to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The key, if there is one.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Bytes,
    /// The line it began at, counted from 1.
    pub line: u64,
}

/// How many bytes have been read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counter(Arc<AtomicU64>);

impl Counter {
    /// The bytes read so far.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A file or standard input, which counts what is read from it.
pub(crate) struct Source {
    name: String,
    from: Box<dyn Read>,
    counter: Counter,
    total: Option<u64>,
}

impl Source {
    /// Opens a file, or standard input for `-`.
    pub(crate) fn open(file: &str) -> anyhow::Result<Self> {
        if file == "-" {
            return Ok(Self::new("standard input", Box::new(io::stdin()), None));
        }
        let opened = File::open(file).with_context(|| format!("cannot open {file}"))?;
        let metadata = opened.metadata().with_context(|| format!("cannot open {file}"))?;
        if metadata.is_dir() {
            bail!("{file} is a directory");
        }
        Ok(Self::new(file, Box::new(opened), Some(metadata.len())))
    }

    fn new(name: &str, from: Box<dyn Read>, total: Option<u64>) -> Self {
        Self { name: name.to_owned(), from, counter: Counter::default(), total }
    }

    /// Counts while the source is read.
    pub(crate) fn counter(&self) -> Counter {
        self.counter.clone()
    }

    /// The size of a file.
    pub(crate) fn total(&self) -> Option<u64> {
        self.total
    }
}

impl Read for Source {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.from.read(buf)?;
        self.counter.0.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

/// The rows of a source, one by one.
pub(crate) struct Rows {
    file: String,
    kind: Kind,
}

enum Kind {
    Lines { from: Lines, separator: Option<Vec<u8>> },
    Json { from: Lines, key: Option<String> },
    Csv { from: csv::Reader<Source>, columns: Vec<String>, key: Option<usize> },
}

/// A line's number and text.
type Line = (u64, Vec<u8>);

/// Lines without their ends.
struct Lines {
    from: BufReader<Source>,
    number: u64,
}

impl Rows {
    /// Reads a CSV header, and checks that the key column exists and the options fit the format.
    pub(crate) fn new(
        source: Source,
        format: InputFormat,
        key: Option<String>,
        separator: Option<String>,
    ) -> anyhow::Result<Self> {
        if separator.is_some() && format != InputFormat::Lines {
            bail!("--key-separator divides lines; for csv and json name the key with --key COLUMN");
        }
        if key.is_some() && format == InputFormat::Lines {
            bail!(
                "--key names a column of csv or json; for lines use --key-separator, or add --format"
            );
        }
        if separator.as_deref() == Some("") {
            bail!("--key-separator must not be empty");
        }
        let file = source.name.clone();
        let kind = match format {
            InputFormat::Lines => Kind::Lines {
                from: Lines::new(source),
                separator: separator.map(String::into_bytes),
            },
            InputFormat::Json => Kind::Json { from: Lines::new(source), key },
            InputFormat::Csv => open_csv(source, &file, key)?,
        };
        Ok(Self { file, kind })
    }

    fn next_row(&mut self) -> Result<Option<Row>, Bad> {
        match &mut self.kind {
            Kind::Lines { from, separator } => {
                let Some((line, text)) = from.next()? else { return Ok(None) };
                split_line(text, separator.as_deref(), line).map(Some)
            }
            Kind::Json { from, key } => loop {
                let Some((line, text)) = from.next()? else { return Ok(None) };
                if !text.trim_ascii().is_empty() {
                    return json_row(text, key.as_deref(), line).map(Some);
                }
            },
            Kind::Csv { from, columns, key } => next_csv_row(from, columns, *key),
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Row, BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.next_row().transpose()?;
        Some(row.map_err(|(line, reason)| BadRow { file: self.file.clone(), line, reason }))
    }
}

impl Lines {
    fn new(source: Source) -> Self {
        Self { from: BufReader::with_capacity(1 << 16, source), number: 0 }
    }

    fn next(&mut self) -> Result<Option<Line>, Bad> {
        let mut text = Vec::new();
        self.number += 1;
        let bytes = self.from.read_until(b'\n', &mut text);
        if bytes.map_err(|error| (self.number, error.to_string()))? == 0 {
            return Ok(None);
        }
        if text.last() == Some(&b'\n') {
            text.pop();
            if text.last() == Some(&b'\r') {
                text.pop();
            }
        }
        Ok(Some((self.number, text)))
    }
}

fn split_line(text: Vec<u8>, separator: Option<&[u8]>, line: u64) -> Result<Row, Bad> {
    let text = Bytes::from(text);
    let Some(separator) = separator else { return Ok(Row { key: None, value: text, line }) };
    let found = text.windows(separator.len()).position(|window| window == separator);
    let at = found.ok_or_else(|| {
        (line, format!("no {:?} divides key and value", String::from_utf8_lossy(separator)))
    })?;
    let value = text.slice(at + separator.len()..);
    Ok(Row { key: Some(text.slice(..at)), value, line })
}

fn json_row(text: Vec<u8>, key: Option<&str>, line: u64) -> Result<Row, Bad> {
    let object: Map<String, Value> = serde_json::from_slice(&text)
        .map_err(|error| (line, format!("no JSON object: {error}")))?;
    let key = match key.map(|column| (column, object.get(column))) {
        None | Some((_, Some(Value::Null))) => None,
        Some((_, Some(Value::String(text)))) => Some(Bytes::from(text.clone())),
        Some((_, Some(other))) => Some(Bytes::from(other.to_string())),
        Some((column, None)) => return Err((line, format!("there is no field {column:?}"))),
    };
    Ok(Row { key, value: Bytes::from(text), line })
}

fn open_csv(source: Source, file: &str, key: Option<String>) -> anyhow::Result<Kind> {
    let mut from = csv::ReaderBuilder::new().buffer_capacity(1 << 16).from_reader(source);
    let header = from.headers().with_context(|| format!("cannot read the header of {file}"))?;
    let columns: Vec<String> = header.iter().map(str::to_owned).collect();
    let key = match key {
        None => None,
        Some(name) => {
            Some(columns.iter().position(|column| *column == name).with_context(|| {
                format!("{file} has no column {name:?}; it has {}", columns.join(", "))
            })?)
        }
    };
    Ok(Kind::Csv { from, columns, key })
}

fn next_csv_row(
    from: &mut csv::Reader<Source>,
    columns: &[String],
    key: Option<usize>,
) -> Result<Option<Row>, Bad> {
    let mut cells = csv::StringRecord::new();
    let before = from.position().line();
    let read = from.read_record(&mut cells).map_err(|error| {
        let line = error.position().map_or(before, csv::Position::line);
        (line, csv_reason(&error))
    })?;
    if !read {
        return Ok(None);
    }
    let line = cells.position().map_or(before, csv::Position::line);
    let pairs = columns.iter().zip(&cells);
    let object: Map<String, Value> =
        pairs.map(|(column, cell)| (column.clone(), Value::from(cell))).collect();
    let key = key.and_then(|index| cells.get(index)).map(|cell| Bytes::from(cell.to_owned()));
    let value = serde_json::to_vec(&object).map_err(|error| (line, error.to_string()))?;
    Ok(Some(Row { key, value: Bytes::from(value), line }))
}

/// The reason without the place, which is printed in front.
fn csv_reason(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} columns where the header has {expected_len}")
        }
        csv::ErrorKind::Utf8 { err, .. } => format!("not UTF-8: {err}"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Row, Rows, Source};
    use crate::cli::InputFormat;

    fn rows(
        text: &'static str,
        format: InputFormat,
        key: Option<&str>,
        separator: Option<&str>,
    ) -> anyhow::Result<Vec<Row>> {
        let source = Source::new("file", Box::new(text.as_bytes()), None);
        let rows = Rows::new(source, format, key.map(Into::into), separator.map(Into::into))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn row(key: Option<&'static str>, value: &'static str, line: u64) -> Row {
        Row { key: key.map(Into::into), value: value.into(), line }
    }

    #[test]
    fn lines_lose_their_ends_and_empty_ones_count() {
        let read = rows("a\r\n\nb", InputFormat::Lines, None, None).unwrap();
        assert_eq!(read, [row(None, "a", 1), row(None, "", 2), row(None, "b", 3)]);
    }

    #[test]
    fn a_separator_divides_at_its_first_place_and_its_absence_is_an_error() {
        let read = rows("k::v::w\n", InputFormat::Lines, None, Some("::")).unwrap();
        assert_eq!(read, [row(Some("k"), "v::w", 1)]);
        let error = rows("k:v\nbad\n", InputFormat::Lines, None, Some(":")).unwrap_err();
        assert_eq!(error.to_string(), "file:2: no \":\" divides key and value");
    }

    #[test]
    fn a_csv_row_becomes_an_object_in_the_order_of_the_columns() {
        let read = rows("b,a\n1,\"x\ny\"\n2,z\n", InputFormat::Csv, Some("a"), None).unwrap();
        let first = row(Some("x\ny"), r#"{"b":"1","a":"x\ny"}"#, 2);
        assert_eq!(read, [first, row(Some("z"), r#"{"b":"2","a":"z"}"#, 4)]);
    }

    #[test]
    fn a_csv_row_of_the_wrong_width_names_its_line() {
        let error = rows("a,b\n1,2\n3\n", InputFormat::Csv, None, None).unwrap_err();
        assert_eq!(error.to_string(), "file:3: 1 columns where the header has 2");
        let error = rows("a,b\n", InputFormat::Csv, Some("c"), None).unwrap_err();
        assert_eq!(error.to_string(), "file has no column \"c\"; it has a, b");
    }

    #[test]
    fn a_json_line_is_sent_as_it_is_and_keyed_by_a_field() {
        let text = "{\"k\": \"a\", \"n\":1}\n\n{\"k\":7}\n{\"k\":null}\n";
        let read = rows(text, InputFormat::Json, Some("k"), None).unwrap();
        let keys: Vec<_> = read.iter().map(|row| row.key.as_deref()).collect();
        assert_eq!(keys, [Some(&b"a"[..]), Some(b"7"), None]);
        assert_eq!(read[0].value, "{\"k\": \"a\", \"n\":1}");
    }

    #[test]
    fn a_bad_json_line_names_its_line() {
        let error = rows("{}\n{nope\n", InputFormat::Json, None, None).unwrap_err();
        assert!(error.to_string().starts_with("file:2: no JSON object"), "{error}");
        let error = rows("{}\n", InputFormat::Json, Some("k"), None).unwrap_err();
        assert_eq!(error.to_string(), "file:1: there is no field \"k\"");
    }

    #[test]
    fn options_that_do_not_fit_the_format_are_refused() {
        assert!(rows("", InputFormat::Csv, None, Some(":")).is_err());
        assert!(rows("", InputFormat::Lines, Some("k"), None).is_err());
    }
}
