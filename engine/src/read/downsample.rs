//! Downsampling of a series, one rule for every store.
//!
//! # The rule
//! Let `n` points lie in range, in the order of the series, and `m` of them be wanted.
//! - `n ≤ m`: all are kept.
//! - Otherwise the points are cut into `k = m / 5` buckets of equal length, give or take one: the point of rank `i`
//!   belongs to bucket `⌊i · k / n⌋`. Of every bucket are kept the first and the last point, the least and the greatest
//!   finite value and, since a diverged run must show, the first value that is not finite; of equals the earliest.
//! - `m < 5`: there is one bucket, and of its points the last, the first, the first that is not finite, the greatest and
//!   the least go before one another in this order.
//!
//! # Invariants
//! D1. At most `m` points are kept, in the order they came, each once.
//! D2. What is kept depends on the points and `m` alone.
//! D3. With `m ≥ 5` the first and last point in range, the least and the greatest finite value, and some value that is
//!     not finite where there is one, are kept.

use super::MetricPoint;

/// How many points a bucket may keep: first, last, min, max, and one that is not finite.
const BUCKET_POINTS: u32 = 5;

/// Takes the points of a series in order and keeps some, in memory for one bucket and what was kept.
#[derive(Debug)]
pub struct Downsampler {
    total: u64,
    max_points: usize,
    buckets: u64,
    /// The rank of the next point.
    rank: u64,
    /// The rank at which the next bucket starts.
    bucket_end: u64,
    bucket: Bucket,
    kept: Vec<MetricPoint>,
}

/// The points of a bucket worth keeping, each with its rank.
#[derive(Debug, Default)]
struct Bucket {
    first: Option<(u64, MetricPoint)>,
    last: Option<(u64, MetricPoint)>,
    least: Option<(u64, MetricPoint)>,
    greatest: Option<(u64, MetricPoint)>,
    non_finite: Option<(u64, MetricPoint)>,
}

impl Downsampler {
    /// For `total` points, of which at most `max_points` are wanted.
    #[must_use]
    pub fn new(total: u64, max_points: u32) -> Self {
        let buckets = u64::from(max_points / BUCKET_POINTS).max(1);
        Self {
            total,
            max_points: max_points as usize,
            buckets,
            rank: 0,
            bucket_end: bucket_start(1, total, buckets),
            bucket: Bucket::default(),
            kept: Vec::new(),
        }
    }

    /// Takes the next point.
    pub fn push(&mut self, point: MetricPoint) {
        if self.total <= self.max_points as u64 {
            self.kept.push(point);
            return;
        }
        if self.rank == self.bucket_end {
            self.close_bucket();
        }
        self.bucket.add(self.rank, point);
        self.rank += 1;
    }

    /// What was kept.
    #[must_use]
    pub fn finish(mut self) -> Vec<MetricPoint> {
        self.close_bucket();
        // Only a caller whose count was wrong gets here with too many.
        self.kept.truncate(self.max_points);
        self.kept
    }

    fn close_bucket(&mut self) {
        let bucket = std::mem::take(&mut self.bucket);
        let room = self.max_points - self.kept.len().min(self.max_points);
        self.kept.extend(bucket.points(room));
        let next = self.rank * self.buckets / self.total.max(1) + 1;
        self.bucket_end = bucket_start(next, self.total, self.buckets);
    }
}

/// The first rank `i` with `⌊i · buckets / total⌋ = number`.
fn bucket_start(number: u64, total: u64, buckets: u64) -> u64 {
    (number * total).div_ceil(buckets)
}

impl Bucket {
    fn add(&mut self, rank: u64, point: MetricPoint) {
        if point.value.is_finite() {
            if (self.least.as_ref()).is_none_or(|(_, least)| point.value < least.value) {
                self.least = Some((rank, point.clone()));
            }
            if (self.greatest.as_ref()).is_none_or(|(_, greatest)| point.value > greatest.value) {
                self.greatest = Some((rank, point.clone()));
            }
        } else if self.non_finite.is_none() {
            self.non_finite = Some((rank, point.clone()));
        }
        if self.first.is_none() {
            self.first = Some((rank, point.clone()));
        }
        self.last = Some((rank, point));
    }

    /// At most `room` points, in their order.
    fn points(self, room: usize) -> impl Iterator<Item = MetricPoint> {
        let mut kept: Vec<(u64, MetricPoint)> = Vec::with_capacity(BUCKET_POINTS as usize);
        let by_precedence = [
            self.last,
            self.first,
            self.non_finite,
            self.greatest,
            self.least,
        ];
        for (rank, point) in by_precedence.into_iter().flatten() {
            if kept.len() < room && kept.iter().all(|(known, _)| *known != rank) {
                kept.push((rank, point));
            }
        }
        kept.sort_by_key(|(rank, _)| *rank);
        kept.into_iter().map(|(_, point)| point)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Offset, Timestamp};

    fn point(step: usize, value: f64) -> MetricPoint {
        MetricPoint {
            step: step as i64,
            value,
            epoch: None,
            time: Timestamp::from_micros(0),
            log_offset: Offset(step as u64),
        }
    }

    /// The steps kept, and all values by step.
    fn kept(values: &[f64], max_points: u32) -> Vec<usize> {
        let mut sampler = Downsampler::new(values.len() as u64, max_points);
        for (step, value) in values.iter().enumerate() {
            sampler.push(point(step, *value));
        }
        let points = sampler.finish();
        points.iter().map(|point| point.step as usize).collect()
    }

    #[test]
    fn one_bucket_keeps_its_ends_and_extremes() {
        let values = [3.0, 1.0, f64::NAN, 9.0, 1.0, 9.0, f64::INFINITY, 5.0];
        assert_eq!(kept(&values, 8).len(), 8);
        assert_eq!(kept(&values, 7), [0, 1, 2, 3, 7]);
        assert_eq!(kept(&values, 4), [0, 2, 3, 7]);
        assert_eq!(kept(&values, 3), [0, 2, 7]);
        assert_eq!(kept(&values, 2), [0, 7]);
        assert_eq!(kept(&values, 1), [7]);
        assert!(kept(&values, 0).is_empty());
        assert!(kept(&[], 5).is_empty());
    }

    #[test]
    fn buckets_are_of_equal_length() {
        let mut values = vec![0.0; 1000];
        (values[499], values[500], values[777]) = (7.0, -7.0, 8.0);
        assert_eq!(kept(&values, 10), [0, 499, 500, 777, 999]);
        assert_eq!(kept(&values, 14), [0, 499, 500, 777, 999]);
        (values[998], values[999]) = (9.0, f64::NAN);
        assert_eq!(kept(&values, 10), [0, 499, 500, 998, 999]);
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        let value = prop_oneof![
            8 => (-5..5).prop_map(f64::from),
            1 => Just(f64::NAN),
            1 => Just(f64::INFINITY),
            1 => Just(f64::NEG_INFINITY),
        ];
        prop_oneof![
            proptest::collection::vec(value, 0..200),
            proptest::collection::vec((-5..5).prop_map(f64::from), 0..200),
        ]
    }

    proptest! {
        #[test]
        fn few_points_tell_the_shape(values in values(), max_points in 0_u32..60) {
            let kept = kept(&values, max_points);
            prop_assert!(kept.len() <= max_points as usize, "D1");
            prop_assert!(kept.windows(2).all(|pair| pair[0] < pair[1]), "D1");
            if max_points >= 5 && !values.is_empty() {
                prop_assert_eq!(kept.first(), Some(&0), "D3");
                prop_assert_eq!(kept.last(), Some(&(values.len() - 1)), "D3");
                let all: Vec<usize> = (0..values.len()).collect();
                let extremes = |steps: &[usize]| {
                    let finite = steps
                        .iter()
                        .map(|step| values[*step])
                        .filter(|value| value.is_finite());
                    let odd = steps.iter().any(|step| !values[*step].is_finite());
                    (finite.clone().reduce(f64::min), finite.reduce(f64::max), odd)
                };
                prop_assert_eq!(extremes(&all), extremes(&kept), "D3");
            }
        }
    }
}
