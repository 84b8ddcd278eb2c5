//! Points in time as users write them.

use std::str::FromStr;

/// Milliseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timestamp(pub i64);

impl FromStr for Timestamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ms) = text.parse::<i64>() {
            return if ms >= 0 {
                Ok(Self(ms))
            } else {
                Err("times before 1970 are not kept".into())
            };
        }
        let expected = "expected milliseconds since 1970 or a time like 2026-01-31T12:00:00Z";
        parse_rfc3339(text).map(Self).ok_or_else(|| expected.into())
    }
}

/// Reads `2026-01-31T12:00:00[.123](Z|+02:00)` (RFC 3339).
fn parse_rfc3339(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-')?;
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone_at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let [hour, minute, second] = numbers(clock, ':')?;
    let valid = (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !valid {
        return None;
    }
    let seconds = days_before(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let offset_minutes = parse_zone(zone)?;
    Some((seconds - offset_minutes * 60) * 1000 + parse_millis(fraction)?)
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let parts: Vec<i64> = text.split(separator).map(unsigned).collect::<Option<_>>()?;
    parts.try_into().ok()
}

fn unsigned(digits: &str) -> Option<i64> {
    let plain =
        !digits.is_empty() && digits.len() <= 4 && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

fn parse_zone(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    Some(sign * (unsigned(hours)? * 60 + unsigned(minutes)?))
}

fn parse_millis(fraction: &str) -> Option<i64> {
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{fraction:0<3}").get(..3)?.parse().ok()
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to this date in the Gregorian calendar.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let leaps = |year: i64| year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let years = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    years + (1..month).map(|month| days_in(year, month)).sum::<i64>() + day - 1
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn times_are_read_as_date_prints_them() {
        let cases = [
            ("0", 0),
            ("1700000000000", 1_700_000_000_000),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59.5Z", 951_868_799_500),
            ("2026-01-31T12:00:00Z", 1_769_860_800_000),
            ("2026-01-31T14:00:00+02:00", 1_769_860_800_000),
            ("2026-01-31 12:00:00.123456Z", 1_769_860_800_123),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse(), Ok(Timestamp(expected)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in
            ["", "-5", "yesterday", "2026-02-29T00:00:00Z", "2026-01-31", "2026-01-31T12:00:00"]
        {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }
}
