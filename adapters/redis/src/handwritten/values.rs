//! What people write into strings: times, numbers, truth and JSON, in the ways they are met.

use modelog_engine::Timestamp;
use modelog_engine::event::json;

/// Numbers nearer to zero than this are no time of our days: seconds of 1973.
const LEAST_EPOCH: f64 = 1e8;

/// Whether a text says that there is nothing, as programs write it that put everything into strings.
pub(super) fn is_absent(text: &str) -> bool {
    matches!(text.trim(), "" | "None" | "null")
}

/// A point in time: RFC 3339, the same with a blank or without a zone (UTC), or seconds, milliseconds, microseconds or
/// nanoseconds since 1970, told apart by their size.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let micros = match text.parse::<f64>() {
        Ok(number) => return epoch(number, text.parse().ok()),
        Err(_) => calendar(text)?,
    };
    Some(micros)
}

fn epoch(number: f64, whole: Option<i128>) -> Option<Timestamp> {
    let size = number.abs();
    // How many of the unit a microsecond has, or how many microseconds the unit.
    let (times, by) = match size {
        _ if !number.is_finite() || size < LEAST_EPOCH => return None,
        _ if size < 1e11 => (1_000_000, 1),
        _ if size < 1e14 => (1_000, 1),
        _ if size < 1e17 => (1, 1),
        _ => (1, 1_000),
    };
    let micros = match whole {
        Some(whole) => (whole.checked_mul(times)? / by).try_into().ok()?,
        // Doubles of our days are exact to a quarter of a microsecond.
        None => (number * times as f64 / by as f64).round() as i64,
    };
    let time = Timestamp::from_micros(micros);
    (Timestamp::MIN..=Timestamp::MAX)
        .contains(&time)
        .then_some(time)
}

fn calendar(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_at_checked(10)?;
    let Some(mark) = rest.chars().next() else {
        return Timestamp::parse(&format!("{date}T00:00:00Z")).ok();
    };
    let clock = matches!(mark, 'T' | 't' | ' ').then(|| rest[1..].trim())?;
    let (clock, zone) = match clock.find(['+', '-', 'Z', 'z', 'U', 'G']) {
        Some(at) => (clock[..at].trim_end(), &clock[at..]),
        None => (clock, "Z"),
    };
    let zone = match zone {
        "Z" | "z" | "UTC" | "GMT" => "Z".to_owned(),
        zone => match (zone.len(), zone.contains(':')) {
            (3, false) => format!("{zone}:00"),
            (5, false) => format!("{}:{}", zone.get(..3)?, zone.get(3..)?),
            _ => zone.to_owned(),
        },
    };
    // As Python's logging writes it.
    let mut clock = clock.replace(',', ".");
    if clock.len() == 5 {
        clock.push_str(":00");
    }
    Timestamp::parse(&format!("{date}T{clock}{zone}")).ok()
}

/// The JSON of a number, which may be none: then it is a word.
pub(super) fn number(text: &str) -> Option<String> {
    let text = text.trim();
    let value: f64 = text.parse().ok()?;
    if !value.is_finite() {
        return Some(format!("\"{}\"", crate::hash::float(value)));
    }
    // Digits stay as they were written, where JSON writes numbers so.
    Some(match json::check(text) {
        Ok(()) => text.to_owned(),
        Err(_) => value.to_string(),
    })
}

/// A whole number, also written as `12.0`.
pub(super) fn int(text: &str) -> Option<i64> {
    let text = text.trim();
    text.parse().ok().or_else(|| whole(text.parse().ok()?))
}

/// A number that is whole.
pub(super) fn whole(number: f64) -> Option<i64> {
    let exact = number.fract() == 0.0 && number.abs() < 9e15;
    exact.then_some(number as i64)
}

/// True or false.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "y" | "t" => Some(true),
        "0" | "false" | "no" | "n" | "f" => Some(false),
        _ => None,
    }
}

/// A text as JSON: as it is if it is JSON; with quotes around NaN and the infinities if only they are missing, as Python
/// writes them; else as a string.
pub(super) fn to_json(text: &str) -> String {
    if json::check(text).is_ok() {
        return text.to_owned();
    }
    if let Some(mended) = words_quoted(text)
        && json::check(&mended).is_ok()
    {
        return mended;
    }
    quoted(text)
}

/// The JSON of a string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string has a JSON form")
}

/// The members of an object, also of one with NaN in it; none if it is no object.
pub(super) fn members(text: &str) -> Option<Vec<(String, String)>> {
    let text = text.trim();
    if !text.starts_with('{') {
        return None;
    }
    let text = to_json(text);
    let members = json::members(&text)?.into_iter();
    Some(
        members
            .map(|(key, value)| (key.into_owned(), value.to_owned()))
            .collect(),
    )
}

/// A JSON value as text: strings without their quotes.
pub(super) fn plain(value: &str) -> String {
    serde_json::from_str::<String>(value).unwrap_or_else(|_| value.to_owned())
}

fn words_quoted(text: &str) -> Option<String> {
    const WORDS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];
    if !WORDS.iter().any(|word| text.contains(word)) {
        return None;
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let (mut inside, mut escaped) = (false, false);
    while let Some(letter) = rest.chars().next() {
        let word = WORDS
            .iter()
            .find(|word| !inside && rest.starts_with(**word));
        if let Some(word) = word {
            out.push('"');
            out.push_str(word);
            out.push('"');
            rest = &rest[word.len()..];
            continue;
        }
        if letter == '"' && !escaped {
            inside = !inside;
        }
        escaped = inside && letter == '\\' && !escaped;
        out.push(letter);
        rest = &rest[letter.len_utf8()..];
    }
    Some(out)
}

/// A name in a key, without its percent-encoding; as it stands if it is not encoded so.
pub(super) fn name_of(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let digit = |at: usize| tail.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            (b'%', _, _) => return text.to_owned(),
            (plain, _, _) => bytes.push(*plain),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_all_forms() {
        for (text, micros) in [
            ("2026-11-22T17:00:00Z", 1_795_366_800_000_000),
            ("2026-11-22T18:00:00.5+01:00", 1_795_366_800_500_000),
            ("2026-11-22T18:00:00+0100", 1_795_366_800_000_000),
            ("2026-11-22 17:00:00", 1_795_366_800_000_000),
            ("2026-11-22 17:00:00.123456", 1_795_366_800_123_456),
            ("2026-11-22 17:00:00,123", 1_795_366_800_123_000),
            ("2026-11-22T17:00:00.25", 1_795_366_800_250_000),
            ("2026-11-22 17:00:00 UTC", 1_795_366_800_000_000),
            ("2026-11-22T17:00", 1_795_366_800_000_000),
            ("2026-11-22 12:00:00-05", 1_795_366_800_000_000),
            ("2026-11-22", 1_795_305_600_000_000),
            ("1795366800", 1_795_366_800_000_000),
            (" 1795366800.123456 ", 1_795_366_800_123_456),
            ("1.7953668e9", 1_795_366_800_000_000),
            ("1795366800123", 1_795_366_800_123_000),
            ("1795366800123456", 1_795_366_800_123_456),
            ("1795366800123456789", 1_795_366_800_123_456),
        ] {
            assert_eq!(time(text).map(Timestamp::micros), Some(micros), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "0",
            "17",
            "-1",
            "nan",
            "inf",
            "2026-13-01",
            "2026-11-22x17:00",
            "22.11.2026",
            "1e30",
            "2026-11-2é 17:00",
        ] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_truth_and_json() {
        for (text, expected) in [
            ("0.5", Some("0.5")),
            ("1e-3", Some("1e-3")),
            (" 12 ", Some("12")),
            ("007", Some("7")),
            (".5", Some("0.5")),
            ("nan", Some("\"NaN\"")),
            ("-inf", Some("\"-Infinity\"")),
            ("Infinity", Some("\"Infinity\"")),
            ("tensor(0.5)", None),
            ("", None),
        ] {
            assert_eq!(number(text).as_deref(), expected, "{text}");
        }
        assert_eq!(
            (int("12"), int("12.0"), int("12.5"), int("x")),
            (Some(12), Some(12), None, None)
        );
        assert_eq!(int("9223372036854775807"), Some(i64::MAX));
        assert_eq!(
            (truth("True"), truth("0"), truth("maybe")),
            (Some(true), Some(false), None)
        );
        for (text, expected) in [
            (r#"{"a": 1.0,"a":2}"#, r#"{"a": 1.0,"a":2}"#),
            (
                r#"{"a": NaN, "NaN": [-Infinity, "\"NaN"]}"#,
                r#"{"a": "NaN", "NaN": ["-Infinity", "\"NaN"]}"#,
            ),
            ("12345678901234567890", "12345678901234567890"),
            ("v1", "\"v1\""),
            ("007", "\"007\""),
            ("{'a': 1}", "\"{'a': 1}\""),
            (r#""\ud800""#, r#""\"\\ud800\"""#),
            ("", "\"\""),
        ] {
            assert_eq!(to_json(text), expected, "{text}");
        }
        assert_eq!(members("[1]"), None);
        assert_eq!(
            members(r#" {"v": NaN} "#).unwrap(),
            [("v".to_owned(), "\"NaN\"".to_owned())]
        );
    }

    #[test]
    fn names_in_keys() {
        for (text, name) in [
            ("loss", "loss"),
            ("val%3Aloss", "val:loss"),
            ("%C3%A9t%c3%a9", "été"),
            ("50%", "50%"),
            ("%zz", "%zz"),
            ("%FF", "%FF"),
            ("%5F", "_"),
        ] {
            assert_eq!(name_of(text), name, "{text}");
        }
    }
}
