//! Numbers with units, as people give them: bytes and durations.

/// A number of bytes: `268435456`, or with a unit: `256MiB`, `2 GiB`, `512K`. Units are powers of 1024.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let (digits, unit) = split(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err(format!("`{unit}` is no unit of bytes; there are KiB, MiB and GiB")),
    };
    let number: usize = digits.parse().map_err(|_| format!("`{text}` is no number of bytes"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is too much"))
}

/// A duration in ms: a number with a unit (`500ms`, `30s`, `10m`, `2h`, `1d`), or `0`.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_duration_ms(text: &str) -> Result<u64, String> {
    let (digits, unit) = split(text);
    let number: u64 = digits.parse().map_err(|_| format!("`{text}` is no duration"))?;
    let factor = match unit {
        "" if number == 0 => 1,
        "" => return Err(format!("`{text}` has no unit; there are ms, s, m, h and d")),
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("`{unit}` is no unit of time; there are ms, s, m, h and d")),
    };
    number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too much"))
}

/// The number and the unit behind it.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    (digits, text[digits.len()..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_may_have_units() {
        assert_eq!(parse_bytes("33554432"), Ok(32 << 20));
        assert_eq!(parse_bytes("2GiB"), Ok(2 << 30));
        assert_eq!(parse_bytes(" 64 m "), Ok(64 << 20));
        for wrong in ["", "GiB", "1.5GiB", "1 GB", "-1", "99999999999GiB"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_have_units_unless_they_are_none() {
        assert_eq!(parse_duration_ms("0"), Ok(0));
        assert_eq!(parse_duration_ms("1500ms"), Ok(1_500));
        assert_eq!(parse_duration_ms(" 3 s"), Ok(3_000));
        assert_eq!(parse_duration_ms("10m"), parse_duration_ms("600s"));
        assert_eq!(parse_duration_ms("1d"), parse_duration_ms("24h"));
        for wrong in ["", "10", "s", "-1s", "1.5h", "1 week", "99999999999999999999d"] {
            assert!(parse_duration_ms(wrong).is_err(), "{wrong}");
        }
    }
}
