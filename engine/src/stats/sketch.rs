//! A quantile sketch with logarithmic buckets: any quantile within 1 % of the true value, in bounded memory.
//!
//! The method is DDSketch (Masson, Rim, Lee: *DDSketch: a fast and fully-mergeable quantile sketch with relative-error
//! guarantees*, VLDB 2019) without its collapsing: values are clamped to 10⁻⁶ … 10⁹ instead, which in milliseconds is a
//! nanosecond to eleven days, so at most 1,728 buckets exist.
//!
//! It is written here because snapshots must hold it to the bit: counts in, the same counts out, whatever the order in
//! which values came.

use crate::log::{Malformed, Reader, put_u32, put_u64};

/// The relative error of a quantile.
pub const RELATIVE_ERROR: f64 = 0.01;
const LEAST: f64 = 1e-6;
const GREATEST: f64 = 1e9;

/// Counts of values by magnitude. Values must be finite and not negative.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sketch {
    /// Values below [`LEAST`], zero among them.
    tiny: u64,
    /// The number of the first bucket in `counts`.
    first: i32,
    counts: Vec<u64>,
    total: u64,
}

fn ln_gamma() -> f64 {
    ((1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR)).ln()
}

fn bucket(value: f64) -> i32 {
    (value.min(GREATEST).ln() / ln_gamma()).ceil() as i32
}

impl Sketch {
    pub(crate) fn add(&mut self, value: f64) {
        self.total += 1;
        if value < LEAST {
            self.tiny += 1;
            return;
        }
        let bucket = bucket(value);
        if self.counts.is_empty() {
            self.first = bucket;
        }
        if bucket < self.first {
            let missing = (self.first - bucket) as usize;
            self.counts.splice(..0, std::iter::repeat_n(0, missing));
            self.first = bucket;
        }
        let at = (bucket - self.first) as usize;
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += 1;
    }

    pub(crate) fn count(&self) -> u64 {
        self.total
    }

    /// The value below which a share `q` of all values lies, by the nearest rank.
    pub(crate) fn quantile(&self, q: f64) -> Option<f64> {
        let rank = (q.clamp(0.0, 1.0) * self.total.checked_sub(1)? as f64).round() as u64;
        let mut seen = self.tiny;
        if rank < seen {
            return Some(0.0);
        }
        for (number, count) in (self.first..).zip(&self.counts) {
            seen += count;
            if rank < seen {
                // The middle of the bucket, in the sense that both ends are equally far in relative terms.
                let gamma = ln_gamma().exp();
                return Some(2.0 * (f64::from(number) * ln_gamma()).exp() / (gamma + 1.0));
            }
        }
        None
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.tiny);
        put_u32(out, self.first as u32);
        put_u32(out, self.counts.len() as u32);
        self.counts.iter().for_each(|count| put_u64(out, *count));
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let tiny = reader.u64()?;
        let first = reader.u32()? as i32;
        let len = reader.count(8)?;
        let legal = bucket(LEAST)..=bucket(GREATEST);
        if len > 0 && !(legal.contains(&first) && len as i32 <= legal.end() - first + 1) {
            return Err(Malformed);
        }
        let counts = (0..len)
            .map(|_| reader.u64())
            .collect::<Result<Vec<_>, _>>()?;
        let total = counts
            .iter()
            .try_fold(tiny, |sum, count| sum.checked_add(*count))
            .ok_or(Malformed)?;
        Ok(Self {
            tiny,
            first,
            counts,
            total,
        })
    }
}
