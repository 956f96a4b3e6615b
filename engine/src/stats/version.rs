//! What is counted of one version of a model.

use super::COUNT_MAX;
use super::sketch::Sketch;
use crate::log::{Malformed, Reader, put_u64};
use crate::read::VersionStats;
use crate::{Offset, Timestamp};

/// What of a prediction is counted, once its output or error is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PredictionFacts {
    pub time: Timestamp,
    pub is_error: bool,
    pub latency_ms: Option<f64>,
    pub confidence: Option<f64>,
}

/// What the latest feedback on a prediction says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LabelFacts {
    /// Whether the prediction was right.
    pub correct: Option<bool>,
    /// The predicted value less the true one.
    pub value_error: Option<f64>,
}

impl LabelFacts {
    /// Compares a prediction with feedback on it. What the feedback says of correctness goes before comparing classes.
    #[must_use]
    pub fn compare<T: PartialEq>(
        correct: Option<bool>,
        classes: (Option<T>, Option<T>),
        values: (Option<f64>, Option<f64>),
    ) -> Self {
        let same_class = match classes {
            (Some(predicted), Some(truth)) => Some(predicted == truth),
            _ => None,
        };
        let value_error = match values {
            (Some(predicted), Some(truth)) => {
                Some(predicted - truth).filter(|error| error.is_finite())
            }
            _ => None,
        };
        Self {
            correct: correct.or(same_class),
            value_error,
        }
    }
}

/// Counts, sums and the latency sketch of a version. Latencies that are negative or not finite, and confidences that
/// are not finite, are left out of means and quantiles.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VersionStatistics {
    predictions: u64,
    errors: u64,
    first_time: Option<Timestamp>,
    last_time: Option<Timestamp>,
    latency: Sketch,
    latency_sum: f64,
    confidence_count: u64,
    confidence_mean: f64,
    /// Sum of squared distances from the mean, kept by Welford's method (Technometrics 4, 1962).
    confidence_squares: f64,
    labelled: u64,
    correct: u64,
    valued: u64,
    absolute_errors: f64,
    squared_errors: f64,
}

impl VersionStatistics {
    /// Counts a prediction.
    pub fn add_prediction(&mut self, facts: &PredictionFacts) {
        self.predictions += 1;
        self.errors += u64::from(facts.is_error);
        self.first_time = Some(
            self.first_time
                .map_or(facts.time, |time| time.min(facts.time)),
        );
        self.last_time = Some(
            self.last_time
                .map_or(facts.time, |time| time.max(facts.time)),
        );
        if let Some(latency) = facts
            .latency_ms
            .filter(|latency| latency.is_finite() && *latency >= 0.0)
        {
            self.latency.add(latency);
            self.latency_sum += latency;
        }
        if let Some(confidence) = facts.confidence.filter(|confidence| confidence.is_finite()) {
            self.confidence_count += 1;
            let distance = confidence - self.confidence_mean;
            self.confidence_mean += distance / self.confidence_count as f64;
            self.confidence_squares += distance * (confidence - self.confidence_mean);
        }
    }

    /// Counts a label.
    pub fn add_label(&mut self, label: &LabelFacts) {
        if let Some(correct) = label.correct {
            self.labelled += 1;
            self.correct += u64::from(correct);
        }
        if let Some(error) = label.value_error {
            self.valued += 1;
            self.absolute_errors += error.abs();
            self.squared_errors += error * error;
        }
    }

    /// Takes back a label that was counted and has been replaced.
    pub fn remove_label(&mut self, label: &LabelFacts) {
        if let Some(correct) = label.correct {
            self.labelled -= 1;
            self.correct -= u64::from(correct);
        }
        if let Some(error) = label.value_error {
            self.valued -= 1;
            self.absolute_errors -= error.abs();
            self.squared_errors -= error * error;
        }
    }

    /// Predictions counted.
    #[must_use]
    pub fn predictions(&self) -> u64 {
        self.predictions
    }

    /// Predictions that ended in an error.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// The form people read.
    #[must_use]
    pub fn view(
        &self,
        model: impl Into<String>,
        version: impl Into<String>,
        as_of_offset: Offset,
    ) -> VersionStats {
        let ratio = |part: f64, whole: u64| (whole > 0).then(|| part / whole as f64);
        let latency_count = self.latency.count();
        let span = self
            .first_time
            .zip(self.last_time)
            // A snapshot that lies may hold any two times.
            .map(|(first, last)| last.micros().saturating_sub(first.micros()) as f64 / 1e6);
        let variance = (self.confidence_count > 1)
            .then(|| (self.confidence_squares / (self.confidence_count - 1) as f64).max(0.0));
        VersionStats {
            model: model.into(),
            version: version.into(),
            predictions: self.predictions,
            errors: self.errors,
            first_time: self.first_time,
            last_time: self.last_time,
            // Between n points in time there are n - 1 intervals.
            rate_per_second: span
                .filter(|span| *span > 0.0)
                .map(|span| self.predictions.saturating_sub(1) as f64 / span),
            latency_count,
            latency_ms_mean: ratio(self.latency_sum, latency_count),
            latency_ms_p50: self.latency.quantile(0.50),
            latency_ms_p95: self.latency.quantile(0.95),
            latency_ms_p99: self.latency.quantile(0.99),
            confidence_count: self.confidence_count,
            confidence_mean: (self.confidence_count > 0).then_some(self.confidence_mean),
            confidence_stddev: variance.map(f64::sqrt),
            labelled: self.labelled,
            correct: self.correct,
            accuracy: ratio(self.correct as f64, self.labelled),
            // Feedback may be about predictions that were never logged.
            label_coverage: ratio(self.labelled as f64, self.predictions)
                .map(|share| share.min(1.0)),
            valued: self.valued,
            mean_absolute_error: ratio(self.absolute_errors.max(0.0), self.valued),
            root_mean_square_error: ratio(self.squared_errors.max(0.0), self.valued).map(f64::sqrt),
            as_of_offset,
        }
    }

    /// The bytes a store keeps.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// If these are other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader(bytes);
        match Self::read(&mut reader) {
            Ok(statistics) if reader.0.is_empty() => Ok(statistics),
            _ => Err(DecodeError),
        }
    }

    /// Whether what is counted can be counted on.
    pub(super) fn is_countable(&self) -> bool {
        let latencies = self.latency.count();
        [
            self.predictions,
            self.errors,
            self.confidence_count,
            self.labelled,
            self.correct,
            self.valued,
            latencies,
        ]
        .iter()
        .all(|count| *count <= COUNT_MAX)
    }

    /// How many labels were counted, how many of them were right, and how many had a value.
    pub(super) fn labels(&self) -> [u64; 3] {
        [self.labelled, self.correct, self.valued]
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let time = |time: Option<Timestamp>| time.map_or(i64::MIN, Timestamp::micros) as u64;
        for number in [
            self.predictions,
            self.errors,
            time(self.first_time),
            time(self.last_time),
        ] {
            put_u64(out, number);
        }
        self.latency.encode(out);
        let floats = [
            self.latency_sum,
            self.confidence_mean,
            self.confidence_squares,
            self.absolute_errors,
            self.squared_errors,
        ];
        floats
            .iter()
            .for_each(|float| put_u64(out, float.to_bits()));
        for number in [
            self.confidence_count,
            self.labelled,
            self.correct,
            self.valued,
        ] {
            put_u64(out, number);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let time = |micros: u64| {
            Some(micros as i64)
                .filter(|micros| *micros != i64::MIN)
                .map(Timestamp::from_micros)
        };
        let (predictions, errors) = (reader.u64()?, reader.u64()?);
        let (first_time, last_time) = (time(reader.u64()?), time(reader.u64()?));
        let latency = Sketch::decode(reader)?;
        let mut float = || reader.u64().map(f64::from_bits);
        let (latency_sum, confidence_mean, confidence_squares) = (float()?, float()?, float()?);
        let (absolute_errors, squared_errors) = (float()?, float()?);
        Ok(Self {
            predictions,
            errors,
            first_time,
            last_time,
            latency,
            latency_sum,
            confidence_mean,
            confidence_squares,
            absolute_errors,
            squared_errors,
            confidence_count: reader.u64()?,
            labelled: reader.u64()?,
            correct: reader.u64()?,
            valued: reader.u64()?,
        })
    }
}

/// The bytes are not those of statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not those of statistics")]
pub struct DecodeError;
