//! The methods give what their authors and others published.

use super::*;
use crate::Offset;
use crate::stats::VersionStatistics;

fn stats(correct: u64, labelled: u64) -> VersionStats {
    VersionStats {
        labelled,
        correct,
        ..VersionStatistics::default().view("m", "v", Offset(0))
    }
}

fn with_confidence(count: u64, mean: f64, deviation: Option<f64>) -> VersionStats {
    VersionStats {
        confidence_count: count,
        confidence_mean: (count > 0).then_some(mean),
        confidence_stddev: deviation,
        ..stats(0, 0)
    }
}

fn assert_near(found: Interval, expected: (f64, f64), tolerance: f64) {
    assert!(
        (found.lower - expected.0).abs() <= tolerance
            && (found.upper - expected.1).abs() <= tolerance,
        "{found:?} instead of {expected:?}"
    );
}

/// Newcombe, *Two-sided confidence intervals for the single proportion*, Statistics in Medicine 17 (1998), table I.
#[test]
fn score_intervals_are_as_published() {
    for (part, whole, expected) in [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ] {
        let found = compare(&stats(part, whole), &stats(0, 0)).a;
        assert_near(found.accuracy_interval.unwrap(), expected, 0.000_05);
    }
}

/// Newcombe, as cited in the module, table II.
#[test]
fn differences_of_shares_are_as_published() {
    for (a, b, expected) in [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((6, 7), (2, 7), (0.0582, 0.8062)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((0, 10), (0, 20), (-0.1611, 0.2775)),
        ((0, 10), (0, 10), (-0.2775, 0.2775)),
        ((10, 10), (0, 20), (0.6791, 1.0)),
        ((10, 10), (0, 10), (0.6075, 1.0)),
    ] {
        let found = compare(&stats(a.0, a.1), &stats(b.0, b.1));
        let accuracy = found.difference.accuracy.unwrap();
        assert_near(accuracy.interval.unwrap(), expected, 0.000_05);
        assert_eq!(found.winner, (expected.0 > 0.0).then_some(Winner::A));
        let turned = compare(&stats(b.0, b.1), &stats(a.0, a.1));
        assert_near(
            turned.difference.accuracy.unwrap().interval.unwrap(),
            (-expected.1, -expected.0),
            0.000_05,
        );
        assert_eq!(turned.winner, (expected.0 > 0.0).then_some(Winner::B));
    }
}

/// The sleep of ten patients under two drugs (Student 1908), as `t.test` of R gives it.
#[test]
fn differences_of_means_are_as_published() {
    let a = with_confidence(10, 0.75, Some(1.789_010_16));
    let b = with_confidence(10, 2.33, Some(2.002_248_74));
    let found = compare(&a, &b).difference.confidence_mean.unwrap();
    assert!((found.value + 1.58).abs() < 1e-12);
    assert_near(found.interval.unwrap(), (-3.365_483_2, 0.205_483_2), 1e-6);
}

/// Quantiles as printed in tables of the distribution.
#[test]
fn quantiles_of_students_distribution() {
    for (freedom, expected) in [
        (1.0, 12.706_205),
        (2.0, 4.302_653),
        (5.0, 2.570_582),
        (10.0, 2.228_139),
        (30.0, 2.042_272),
        (100.0, 1.983_972),
        (1_000.0, 1.962_339),
        (1e9, 1.959_964),
        (1e18, 1.959_964),
    ] {
        let found = student_quantile(freedom);
        assert!((found - expected).abs() < 1e-6, "{found} for {freedom}");
    }
    let (below, above) = (student_quantile(999.999_999), student_quantile(1_000.0));
    assert!((below - above).abs() < 1e-8, "{below} and {above}");
}

#[test]
fn what_cannot_be_said_is_null() {
    let nothing = compare(&stats(0, 0), &stats(3, 4));
    assert_eq!(nothing.difference.accuracy, None);
    assert_eq!(nothing.winner, None);
    assert_eq!(nothing.a.accuracy_interval, None);
    assert_eq!(nothing.a.error_rate, None);
    assert_eq!(nothing.difference.latency_ms_p50, None);

    let single = with_confidence(1, 0.5, None);
    let constant = with_confidence(9, 0.75, Some(0.0));
    for (a, b) in [
        (&single, &constant),
        (&constant, &single),
        (&constant, &constant),
    ] {
        let difference = compare(a, b).difference.confidence_mean.unwrap();
        assert_eq!(difference.interval, None);
        assert_eq!(
            difference.value,
            a.confidence_mean.unwrap() - b.confidence_mean.unwrap()
        );
    }
}

#[test]
fn large_and_small_samples_stay_within_bounds() {
    for whole in [1, 2, 1_000, 1 << 40, u64::MAX] {
        for part in [0, 1, whole / 2, whole - 1, whole] {
            let found = compare(&stats(part, whole), &stats(whole - part, whole));
            for side in [&found.a, &found.b] {
                let share = side.stats.correct as f64 / side.stats.labelled as f64;
                let interval = side.accuracy_interval.unwrap();
                assert!(0.0 <= interval.lower && interval.lower <= share, "{side:?}");
                assert!(share <= interval.upper && interval.upper <= 1.0, "{side:?}");
            }
            let accuracy = found.difference.accuracy.unwrap();
            let interval = accuracy.interval.unwrap();
            assert!(interval.lower <= accuracy.value && accuracy.value <= interval.upper);
            assert!(-1.0 <= interval.lower && interval.upper <= 1.0);
        }
    }
}

#[test]
fn latencies_differ_by_what_rounding_allows() {
    let timed = |p95| VersionStats {
        latency_ms_p95: Some(p95),
        ..stats(0, 0)
    };
    let difference = compare(&timed(30.0), &timed(20.0)).difference;
    let found = difference.latency_ms_p95.unwrap();
    assert_eq!(found.value, 10.0);
    // The true quantiles may be 30/0.99 and 20/1.01, or the other way round.
    assert!(found.rounding >= 30.0 / 0.99 - 30.0 + 20.0 - 20.0 / 1.01);
    assert_eq!(difference.latency_ms_p50, None);
}

#[test]
fn the_answer_in_json() {
    let side = |correct| VersionStats {
        predictions: 90,
        errors: 9,
        ..stats(correct, 80)
    };
    let json = serde_json::to_value(compare(&side(20), &side(60))).unwrap();
    assert_eq!(json["winner"], "b");
    assert_eq!(json["a"]["model"], "m");
    assert_eq!(json["a"]["accuracy_interval"].as_object().unwrap().len(), 2);
    assert_eq!(json["b"]["error_rate"], 0.1);
    assert_eq!(json["difference"]["accuracy"]["value"], -0.5);
    assert_eq!(
        json["difference"]["confidence_mean"],
        serde_json::Value::Null
    );
    assert_eq!(json["method"]["level"], 0.95);
    assert!(
        json["method"]["share_difference"]
            .as_str()
            .unwrap()
            .contains("Newcombe 1998")
    );
}
