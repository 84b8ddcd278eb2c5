//! Rows that a test streams into a topic while nodes are killed, and what must have become of them.

use std::collections::HashMap;
use std::io::Write;
use std::ops::Range;

const KEYS: u64 = 50;

/// Writes these rows into `to`, and tells `after` each one that is written.
pub(crate) fn write(mut to: impl Write, rows: Range<u64>, after: impl Fn(u64)) {
    for row in rows {
        writeln!(to, "k{}:{row}", row % KEYS).unwrap();
        after(row);
    }
}

/// Every row is there once, and those of one key are in their order.
pub(crate) fn check(text: &str, rows: u64) {
    let mut last = HashMap::new();
    for line in text.lines() {
        let (key, row) = line.split_once('\t').unwrap();
        let row: u64 = row.parse().unwrap();
        let expected = last.get(key).map_or(row % KEYS, |last| last + KEYS);
        assert_eq!(row, expected, "of {key}");
        last.insert(key, row);
    }
    assert_eq!(u64::try_from(text.lines().count()).unwrap(), rows);
}
