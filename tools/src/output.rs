//! Everything that is printed: results on standard output, errors and logs on standard error.

use std::io::{self, IsTerminal, Write};

use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

use crate::cli::{Command, LogStyle};

/// Starts the log on standard error. A node logs as its flags say, other commands only warnings.
pub(crate) fn log_to_stderr(command: &Command) {
    let (style, filter) = match command {
        Command::Serve(args) => (args.log, args.log_filter.as_str()),
        _ => (LogStyle::Human, "warn"),
    };
    let filter = EnvFilter::builder().parse(filter).unwrap_or_else(|error| {
        note(&format!(
            "warning: the log filter {filter:?} is not understood ({error}); using info"
        ));
        EnvFilter::new("info,openraft=error")
    });
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match style {
        LogStyle::Human => log.with_ansi(io::stderr().is_terminal()).init(),
        LogStyle::Json => log.json().init(),
    }
}

/// Prints a line.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Begins a new page: clears a terminal, and leaves a line free elsewhere.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn clear() -> io::Result<()> {
    match io::stdout().is_terminal() {
        true => line("\x1b[2J\x1b[H"),
        false => line(""),
    }
}

/// Prints a JSON value on a line of its own.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn json_line(value: &Value) -> io::Result<()> {
    line(&value.to_string())
}

/// Prints rows in columns as wide as their widest cell.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let print = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        line(padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    print(&mut header.iter().copied())?;
    rows.iter().try_for_each(|row| print(&mut row.iter().map(String::as_str)))
}

/// Prints something worth knowing on standard error.
pub(crate) fn note(text: &str) {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints an error and what to do about it on standard error.
pub(crate) fn error(text: &str, hint: Option<&str>, as_json: bool) {
    if as_json {
        note(&json!({ "error": text, "hint": hint }).to_string());
        return;
    }
    note(&format!("error: {text}"));
    if let Some(hint) = hint {
        note(&format!("  try: {hint}"));
    }
}

/// A number with commas between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as a person reads them.
pub(crate) fn human_bytes(bytes: u64) -> String {
    indicatif::DecimalBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_are_separated() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }
}
