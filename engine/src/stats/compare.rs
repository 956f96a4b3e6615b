//! Two versions side by side: what each did, how far they are apart, and whether chance alone could explain it.
//!
//! Every difference is `a − b`. Intervals hold at 95 % and take the two samples as independent; where both versions
//! answered the very same inputs, their answers usually agree in part, and the intervals are wider than they need be.
//!
//! # Methods
//! - A share (accuracy, errors): the score interval of E. B. Wilson, *Probable inference, the law of succession, and
//!   statistical inference*, JASA 22 (1927). Unlike the textbook formula it stays within 0 and 1, and holds for small
//!   samples and for shares near the ends.
//! - The difference of two shares: R. G. Newcombe, *Interval estimation for the difference between independent
//!   proportions: comparison of eleven methods*, Statistics in Medicine 17 (1998), method 10, made of the two score
//!   intervals.
//! - The difference of two means (confidence): B. L. Welch, *The generalization of "Student's" problem when several
//!   different population variances are involved*, Biometrika 34 (1947).
//! - Latency: no interval. The sampling error of a quantile is read off the values around it, and statistics carry three
//!   quantiles, not the values. What is given is how far the sketches' rounding alone can move the difference.

#[cfg(test)]
mod tests;

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::RELATIVE_ERROR;
use crate::read::VersionStats;

/// The share of intervals that hold what they estimate.
const LEVEL: f64 = 0.95;
/// The two-sided 95 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// Two versions compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Comparison {
    pub a: Side,
    pub b: Side,
    /// What `a` has more than `b`.
    pub difference: Differences,
    /// The more accurate version, if the interval of the accuracy difference excludes 0.
    pub winner: Option<Winner>,
    pub method: Method,
}

/// One of the two versions.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Side {
    #[serde(flatten)]
    pub stats: VersionStats,
    pub accuracy_interval: Option<Interval>,
    /// `errors / predictions`.
    pub error_rate: Option<f64>,
    pub error_rate_interval: Option<Interval>,
}

/// The better of two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Winner {
    A,
    B,
}

/// Differences, `a − b`; null where a side has nothing to compare.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Differences {
    pub accuracy: Option<Difference>,
    pub error_rate: Option<Difference>,
    pub confidence_mean: Option<Difference>,
    pub latency_ms_p50: Option<LatencyDifference>,
    pub latency_ms_p95: Option<LatencyDifference>,
    pub latency_ms_p99: Option<LatencyDifference>,
}

/// A difference and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Difference {
    pub value: f64,
    /// Null where the samples are too small, or do not vary, so that nothing can be said.
    pub interval: Option<Interval>,
}

/// The difference of two quantiles of the inference time, in milliseconds. It has no interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LatencyDifference {
    pub value: f64,
    /// How far off the value can be because the quantiles are rounded, each by up to 1 %. Chance comes on top.
    pub rounding: f64,
}

/// Bounds between which the true value lies, at the level the method states.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Interval {
    pub lower: f64,
    pub upper: f64,
}

/// How the figures were come by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Method {
    /// The level of all intervals.
    pub level: f64,
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub share_interval: &'static str,
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub share_difference: &'static str,
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub mean_difference: &'static str,
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub latency_difference: &'static str,
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub winner: &'static str,
}

const METHOD: Method = Method {
    level: LEVEL,
    share_interval: "Wilson score interval (Wilson 1927)",
    share_difference: "hybrid score interval of independent samples (Newcombe 1998, method 10)",
    mean_difference: "unequal variances t interval (Welch 1947)",
    latency_difference: "quantiles of a sketch with 1 % relative error (Masson, Rim, Lee 2019); no interval",
    winner: "the more accurate version, if the interval of the accuracy difference excludes 0",
};

/// Compares two versions.
#[must_use]
pub fn compare(a: &VersionStats, b: &VersionStats) -> Comparison {
    let difference = Differences {
        accuracy: share_difference(Share::right(a), Share::right(b)),
        error_rate: share_difference(Share::failed(a), Share::failed(b)),
        confidence_mean: mean_difference(Sample::confidence(a), Sample::confidence(b)),
        latency_ms_p50: latency_difference(a.latency_ms_p50, b.latency_ms_p50),
        latency_ms_p95: latency_difference(a.latency_ms_p95, b.latency_ms_p95),
        latency_ms_p99: latency_difference(a.latency_ms_p99, b.latency_ms_p99),
    };
    Comparison {
        a: side(a),
        b: side(b),
        winner: winner(difference.accuracy),
        difference,
        method: METHOD,
    }
}

fn side(stats: &VersionStats) -> Side {
    let failed = Share::failed(stats);
    Side {
        accuracy_interval: Share::right(stats).map(Share::interval),
        error_rate: failed.map(Share::value),
        error_rate_interval: failed.map(Share::interval),
        stats: stats.clone(),
    }
}

fn winner(accuracy: Option<Difference>) -> Option<Winner> {
    let interval = accuracy?.interval?;
    if interval.lower > 0.0 {
        Some(Winner::A)
    } else if interval.upper < 0.0 {
        Some(Winner::B)
    } else {
        None
    }
}

/// So many of so many, and not of none.
#[derive(Clone, Copy, Debug)]
struct Share {
    part: f64,
    whole: f64,
}

impl Share {
    fn new(part: u64, whole: u64) -> Option<Self> {
        (whole > 0).then_some(Self {
            part: part as f64,
            whole: whole as f64,
        })
    }

    /// Labelled predictions that were right.
    fn right(stats: &VersionStats) -> Option<Self> {
        Self::new(stats.correct, stats.labelled)
    }

    /// Predictions that ended in an error.
    fn failed(stats: &VersionStats) -> Option<Self> {
        Self::new(stats.errors, stats.predictions)
    }

    fn value(self) -> f64 {
        self.part / self.whole
    }

    /// Wilson's score interval.
    fn interval(self) -> Interval {
        let Self { part, whole } = self;
        let square = Z * Z;
        let centre = part + square / 2.0;
        let spread = Z * (part * (whole - part) / whole + square / 4.0).sqrt();
        let width = whole + square;
        // At the ends the bound is the end itself, which rounding would miss by a hair.
        Interval {
            lower: if part == 0.0 {
                0.0
            } else {
                (centre - spread) / width
            },
            upper: if part == whole {
                1.0
            } else {
                (centre + spread) / width
            },
        }
    }
}

/// Newcombe's tenth method.
fn share_difference(a: Option<Share>, b: Option<Share>) -> Option<Difference> {
    let (a, b) = (a?, b?);
    let (in_a, in_b) = (a.interval(), b.interval());
    let value = a.value() - b.value();
    let below = f64::hypot(a.value() - in_a.lower, in_b.upper - b.value());
    let above = f64::hypot(in_a.upper - a.value(), b.value() - in_b.lower);
    let interval = Some(Interval {
        lower: value - below,
        upper: value + above,
    });
    Some(Difference { value, interval })
}

/// What is known of a sample of numbers.
#[derive(Clone, Copy, Debug)]
struct Sample {
    count: u64,
    mean: f64,
    deviation: Option<f64>,
}

impl Sample {
    fn confidence(stats: &VersionStats) -> Option<Self> {
        Some(Self {
            count: stats.confidence_count,
            mean: stats.confidence_mean?,
            deviation: stats.confidence_stddev,
        })
    }

    /// The variance of the mean, and the degrees of freedom it was estimated with.
    fn variance_of_mean(self) -> Option<(f64, f64)> {
        let count = self.count as f64;
        self.deviation
            .filter(|_| self.count > 1)
            .map(|deviation| (deviation * deviation / count, count - 1.0))
    }
}

/// Welch's interval.
fn mean_difference(a: Option<Sample>, b: Option<Sample>) -> Option<Difference> {
    let (a, b) = (a?, b?);
    let value = a.mean - b.mean;
    let interval = a.variance_of_mean().zip(b.variance_of_mean());
    let interval = interval.and_then(|((variance_a, freedom_a), (variance_b, freedom_b))| {
        let variance = variance_a + variance_b;
        let parts = variance_a * variance_a / freedom_a + variance_b * variance_b / freedom_b;
        // Two samples without any spread say nothing about how means spread.
        let freedom = Some(variance * variance / parts).filter(|freedom| freedom.is_finite())?;
        let reach = student_quantile(freedom) * variance.sqrt();
        Some(Interval {
            lower: value - reach,
            upper: value + reach,
        })
    });
    Some(Difference { value, interval })
}

/// The two-sided 95 % quantile of Student's distribution.
fn student_quantile(freedom: f64) -> f64 {
    /// From here on the series is exact to ten digits, while the numerical inverse drifts and, at 10⁸, does not end.
    const MANY: f64 = 1_000.0;
    match StudentsT::new(0.0, 1.0, freedom) {
        Ok(student) if freedom < MANY => student.inverse_cdf(0.5 + LEVEL / 2.0),
        // Abramowitz and Stegun, *Handbook of Mathematical Functions*, 26.7.5.
        _ => {
            let first = (Z.powi(3) + Z) / 4.0;
            let second = (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / 96.0;
            Z + first / freedom + second / (freedom * freedom)
        }
    }
}

fn latency_difference(a: Option<f64>, b: Option<f64>) -> Option<LatencyDifference> {
    let (a, b) = (a?, b?);
    Some(LatencyDifference {
        value: a - b,
        rounding: RELATIVE_ERROR * (a + b) / (1.0 - RELATIVE_ERROR),
    })
}
