//! Numbers as people read them.

/// A share as a percentage.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A time given in milliseconds, in the unit that suits it.
pub(super) fn duration(milliseconds: f64) -> String {
    let (value, unit) = match milliseconds {
        ms if ms < 1.0 => (ms * 1e3, "µs"),
        ms if ms < 1e3 => (ms, "ms"),
        ms => (ms / 1e3, "s"),
    };
    let decimals = usize::from(value < 100.0);
    format!("{value:.decimals$} {unit}")
}

/// What is not known is a dash.
pub(super) fn or_dash(value: Option<f64>, format: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "–".into(), format)
}

/// A curve in at most `width` characters: low is a low block, high a high one. What is not finite is left out.
pub(super) fn sparkline(values: &[f64], width: usize) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

    let finite: Vec<f64> = values
        .iter()
        .copied()
        .filter(|value| value.is_finite())
        .collect();
    let low = finite.iter().copied().fold(f64::INFINITY, f64::min);
    let high = finite.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let width = width.min(finite.len());
    (0..width)
        .map(|at| {
            // The first and the last value are always among those shown.
            let value = finite[at * (finite.len() - 1) / (width - 1).max(1)];
            let height = (value - low) / (high - low).max(f64::MIN_POSITIVE);
            BLOCKS[(height * (BLOCKS.len() - 1) as f64).round() as usize]
        })
        .collect()
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"./_-+:@%,=".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Text as it is written between double quotes of a shell.
pub(super) fn in_double_quotes(text: &str) -> String {
    let special = |letter: char| matches!(letter, '\\' | '"' | '$' | '`');
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if special(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        let durations = [0.0021, 0.2345, 12.34, 850.3, 1234.5].map(duration);
        assert_eq!(
            durations,
            ["2.1 µs", "234 µs", "12.3 ms", "850 ms", "1.2 s"]
        );
        assert_eq!(percent(0.9645), "96.5 %");
        assert_eq!(or_dash(None, percent), "–");
    }

    #[test]
    fn a_curve_keeps_its_ends_and_survives_odd_values() {
        assert_eq!(sparkline(&[8.0, 4.0, 2.0, 1.0], 4), "█▄▂▁");
        assert_eq!(sparkline(&[1.0, 9.0, 9.0, 9.0, 9.0, 2.0], 2), "▁▂");
        assert_eq!(sparkline(&[f64::NAN, 3.0, f64::INFINITY], 9), "▁");
        assert_eq!(sparkline(&[2.0, 2.0], 9), "▁▁");
        assert_eq!(sparkline(&[], 9), "");
        assert_eq!(sparkline(&[5.0, 1.0], 1), "█");
    }

    #[test]
    fn words_pass_through_a_shell() {
        assert_eq!(quoted("./modelog-demo"), "./modelog-demo");
        assert_eq!(quoted("my demo"), "'my demo'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
        assert_eq!(
            in_double_quotes(r#"a "$b" `c` \ d'e"#),
            r#"a \"\$b\" \`c\` \\ d'e"#
        );
    }
}
