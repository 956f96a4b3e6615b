//! Amounts as people write them: `128MiB`, `24h`.
//!
//! Whole numbers of one unit, nothing else: what is written is what is shown again, to the digit.

use std::time::Duration;

/// Units of sizes, in bytes; the binary ones are those we write.
const SIZES: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];
/// How many of [`SIZES`] are binary.
const BINARY: usize = 4;

/// Units of durations, in milliseconds.
const DURATIONS: &[(&str, u64)] = &[
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A size such as `128MiB`; units may be written in any case.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    parse(text, SIZES)
}

/// The largest binary unit that divides the size.
pub(crate) fn show_size(bytes: u64) -> String {
    show(bytes, &SIZES[..BINARY], "B")
}

/// A duration such as `24h`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    parse(text, DURATIONS).map(Duration::from_millis)
}

/// The largest unit that divides the duration; parts of a millisecond are not shown.
pub(crate) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".into();
    }
    show(millis, DURATIONS, "ms")
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit() && letter != '_')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.replace('_', "").parse().ok()?;
    let unit = unit.trim_start();
    let (_, scale) = units
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.checked_mul(*scale)
}

fn show(amount: u64, units: &[(&str, u64)], smallest: &str) -> String {
    let fits = |scale: u64| amount >= scale && amount.is_multiple_of(scale);
    match units.iter().find(|(_, scale)| fits(*scale)) {
        Some((name, scale)) => format!("{}{name}", amount / scale),
        None => format!("{amount}{smallest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("128MiB", 128 << 20),
            ("2mib", 2 << 20),
            ("1_000 B", 1_000),
            ("64kb", 64_000),
            ("0B", 0),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "MiB",
            "12",
            "1.5GiB",
            "-1B",
            "1 Mi B",
            "99999999TiB",
            "5m",
        ] {
            assert_eq!(parse_size(text), None, "{text}");
        }
        for bytes in [0, 1, 1023, 1024, 1500, 2 << 20, 3 << 30, u64::MAX] {
            assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
        }
        assert_eq!(show_size(128 << 20), "128MiB");
    }

    #[test]
    fn durations() {
        let day = Duration::from_secs(86_400);
        assert_eq!(parse_duration("24h"), Some(day));
        assert_eq!(parse_duration("90 s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("24"), None);
        assert_eq!(parse_duration("1y"), None);
        assert_eq!(show_duration(day), "1d");
        assert_eq!(show_duration(Duration::from_millis(1500)), "1500ms");
        assert_eq!(
            parse_duration(&show_duration(Duration::ZERO)),
            Some(Duration::ZERO)
        );
    }
}
