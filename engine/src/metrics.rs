//! Every metric there is: names, meaning, labels, buckets. Whoever counts uses the constants, whoever exports uses the
//! table; nothing is named anywhere else.
//!
//! Values go through the `metrics` facade, so an embedder who installs no recorder pays next to nothing.

use std::time::Duration;

use crate::Timestamp;

/// How long after it happened an event may arrive before it counts as backfilled.
pub const BACKFILLED_AFTER: Duration = Duration::from_secs(600);

/// Whether an event came so late that it stays out of rates and latencies.
#[must_use]
pub fn is_backfilled(time: Timestamp, append_time: Timestamp) -> bool {
    let late = append_time.micros().saturating_sub(time.micros());
    late > BACKFILLED_AFTER.as_micros() as i64
}

/// What sort of thing a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetricType {
    Counter,
    Gauge,
    /// With the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

/// A metric, as it is exported.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub ty: MetricType,
    pub help: &'static str,
    pub labels: &'static [&'static str],
}

/// Buckets for durations from 50 µs to 30 s.
const DURATIONS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Buckets for inference times: language models take minutes.
const INFERENCE: &[f64] = &[
    0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0, 120.0,
];
/// Buckets for writing a file of up to hundreds of megabytes.
const COMPACTIONS: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
];
const RATIOS: &[f64] = &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0];
const COUNTS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0, 2500.0, 10_000.0, 25_000.0,
];

pub const BUILD_INFO: &str = "modelog_build_info";
pub const INGEST_EVENTS: &str = "modelog_ingest_events_total";
pub const INGEST_BACKFILLED_EVENTS: &str = "modelog_ingest_backfilled_events_total";
pub const INGEST_DUPLICATES: &str = "modelog_ingest_duplicates_total";
pub const INGEST_REJECTED: &str = "modelog_ingest_rejected_total";
pub const HTTP_REQUESTS: &str = "modelog_http_requests_total";
pub const HTTP_REQUEST_DURATION: &str = "modelog_http_request_duration_seconds";
pub const LOG_APPEND_DURATION: &str = "modelog_log_append_duration_seconds";
pub const LOG_FSYNC_DURATION: &str = "modelog_log_fsync_duration_seconds";
pub const LOG_GROUP_EVENTS: &str = "modelog_log_group_events";
pub const LOG_BACKLOG_BYTES: &str = "modelog_log_backlog_bytes";
pub const LOG_END_OFFSET: &str = "modelog_log_end_offset";
pub const LOG_SIZE_BYTES: &str = "modelog_log_size_bytes";
pub const LOG_POISONED: &str = "modelog_log_poisoned";
pub const DISK_FREE_BYTES: &str = "modelog_disk_free_bytes";
pub const DEDUPE_WINDOW_SECONDS: &str = "modelog_dedupe_window_seconds";
pub const PROJECTION_OFFSET: &str = "modelog_projection_offset";
pub const PROJECTION_LAG_EVENTS: &str = "modelog_projection_lag_events";
pub const PROJECTION_LAG_SECONDS: &str = "modelog_projection_lag_seconds";
pub const PROJECTION_ERRORS: &str = "modelog_projection_errors_total";
pub const PROJECTION_STOPPED: &str = "modelog_projection_stopped";
pub const PROJECTION_LAST_SUCCESS: &str = "modelog_projection_last_success_timestamp_seconds";
pub const BACKUP_ERRORS: &str = "modelog_backup_errors_total";
pub const BACKUP_LAST_SUCCESS: &str = "modelog_backup_last_success_timestamp_seconds";
pub const KAFKA_LAG: &str = "modelog_kafka_lag_messages";
pub const KAFKA_REBALANCES: &str = "modelog_kafka_rebalances_total";
pub const KAFKA_FETCH_ERRORS: &str = "modelog_kafka_fetch_errors_total";
pub const KAFKA_MESSAGES: &str = "modelog_kafka_messages_total";
pub const KAFKA_BYTES: &str = "modelog_kafka_bytes_total";
pub const KAFKA_TOMBSTONES: &str = "modelog_kafka_tombstones_total";
pub const KAFKA_DEAD_LETTERS: &str = "modelog_kafka_dead_letters_total";
pub const COMPACTION_DURATION: &str = "modelog_compaction_duration_seconds";
pub const COMPACTION_LAST_SUCCESS: &str = "modelog_compaction_last_success_timestamp_seconds";
pub const PREDICTIONS: &str = "modelog_predictions_total";
pub const PREDICTION_ERRORS: &str = "modelog_prediction_errors_total";
pub const PREDICTION_LABELLED: &str = "modelog_prediction_labelled_total";
pub const PREDICTION_CORRECT: &str = "modelog_prediction_correct_total";
pub const PREDICTION_INFERENCE_DURATION: &str = "modelog_prediction_inference_duration_seconds";
pub const PREDICTION_CONFIDENCE: &str = "modelog_prediction_confidence_ratio";
pub const LABEL_OVERFLOW: &str = "modelog_label_overflow_total";
pub const RUN_METRIC: &str = "modelog_run_metric";

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        ty: MetricType::Counter,
        help,
        labels,
    }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric {
        name,
        ty: MetricType::Gauge,
        help,
        labels,
    }
}

const fn histogram(
    name: &'static str,
    buckets: &'static [f64],
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        ty: MetricType::Histogram(buckets),
        help,
        labels,
    }
}

const MODEL_VERSION: &[&str] = &["model", "version"];

/// All metrics.
pub const ALL: &[Metric] = &[
    gauge(
        BUILD_INFO,
        &["version"],
        "Always 1; the label tells the version.",
    ),
    counter(
        INGEST_EVENTS,
        &["source", "kind"],
        "Events appended, durably.",
    ),
    counter(
        INGEST_BACKFILLED_EVENTS,
        &["source", "kind"],
        "Events appended that had happened more than ten minutes before.",
    ),
    counter(
        INGEST_DUPLICATES,
        &["source"],
        "Events that were in the log already.",
    ),
    counter(
        INGEST_REJECTED,
        &["source", "reason"],
        "Events that could not be taken as what they were sent for.",
    ),
    counter(HTTP_REQUESTS, &["route", "code"], "Requests answered."),
    histogram(
        HTTP_REQUEST_DURATION,
        DURATIONS,
        &["route", "code"],
        "Time from a request's headers to its answer's.",
    ),
    histogram(
        LOG_APPEND_DURATION,
        DURATIONS,
        &[],
        "Time from a call to append to its events being durable.",
    ),
    histogram(
        LOG_FSYNC_DURATION,
        DURATIONS,
        &[],
        "Time to write and sync a group.",
    ),
    histogram(
        LOG_GROUP_EVENTS,
        COUNTS,
        &[],
        "Events made durable by one sync.",
    ),
    gauge(
        LOG_BACKLOG_BYTES,
        &[],
        "Bytes admitted and not yet durable.",
    ),
    gauge(LOG_END_OFFSET, &[], "Offset after the last durable event."),
    gauge(LOG_SIZE_BYTES, &[], "Bytes of all segments."),
    gauge(
        LOG_POISONED,
        &[],
        "1 if a failed write made the log refuse events until it is opened again.",
    ),
    gauge(
        DISK_FREE_BYTES,
        &[],
        "Bytes free on the file system of the log.",
    ),
    gauge(
        DEDUPE_WINDOW_SECONDS,
        &[],
        "Age of the oldest event id by which a repeat is still recognised.",
    ),
    gauge(
        PROJECTION_OFFSET,
        &["projection"],
        "Offset after the last event applied.",
    ),
    gauge(
        PROJECTION_LAG_EVENTS,
        &["projection"],
        "Events not yet applied.",
    ),
    gauge(
        PROJECTION_LAG_SECONDS,
        &["projection"],
        "How far behind the log, in time; 0 if nothing is left to apply.",
    ),
    counter(
        PROJECTION_ERRORS,
        &["projection"],
        "Failures to apply, each tried again unless it stopped.",
    ),
    gauge(
        PROJECTION_STOPPED,
        &["projection"],
        "1 if it needs a person.",
    ),
    gauge(
        PROJECTION_LAST_SUCCESS,
        &["projection"],
        "When events were last applied.",
    ),
    counter(
        BACKUP_ERRORS,
        &[],
        "Backups that failed; those of the configuration are tried again.",
    ),
    gauge(
        BACKUP_LAST_SUCCESS,
        &[],
        "When the newest backup was complete.",
    ),
    gauge(
        KAFKA_LAG,
        &["group", "topic", "partition"],
        "Positions that can be read and are not in the log yet; 0 once the partition is another member's.",
    ),
    counter(
        KAFKA_REBALANCES,
        &["group"],
        "How often the group gave or took partitions.",
    ),
    counter(
        KAFKA_FETCH_ERRORS,
        &["group"],
        "What went wrong while reading.",
    ),
    counter(
        KAFKA_MESSAGES,
        &["group", "topic"],
        "Messages read, whatever became of them.",
    ),
    counter(
        KAFKA_BYTES,
        &["group", "topic"],
        "Bytes of keys and values read.",
    ),
    counter(
        KAFKA_TOMBSTONES,
        &["group", "topic"],
        "Messages without a value, which say nothing.",
    ),
    counter(
        KAFKA_DEAD_LETTERS,
        &["topic"],
        "Rejected messages sent to a dead letter topic.",
    ),
    histogram(
        COMPACTION_DURATION,
        COMPACTIONS,
        &[],
        "Time spent on a Parquet file: encoding, writing, reading back.",
    ),
    gauge(
        COMPACTION_LAST_SUCCESS,
        &[],
        "When a Parquet file was last finished.",
    ),
    counter(
        PREDICTIONS,
        MODEL_VERSION,
        "Predictions whose output or error arrived.",
    ),
    counter(
        PREDICTION_ERRORS,
        MODEL_VERSION,
        "Predictions that ended in an error.",
    ),
    counter(
        PREDICTION_LABELLED,
        MODEL_VERSION,
        "Feedback that says right or wrong.",
    ),
    counter(
        PREDICTION_CORRECT,
        MODEL_VERSION,
        "Feedback that says right.",
    ),
    histogram(
        PREDICTION_INFERENCE_DURATION,
        INFERENCE,
        MODEL_VERSION,
        "Inference time as logged.",
    ),
    histogram(
        PREDICTION_CONFIDENCE,
        RATIOS,
        MODEL_VERSION,
        "Confidence as logged.",
    ),
    counter(
        LABEL_OVERFLOW,
        &[],
        "Events counted under `_other`, because there were too many versions.",
    ),
    gauge(
        RUN_METRIC,
        &["run", "metric", "split"],
        "Latest value of a selected metric of an unfinished run.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_on_metrics_lists_every_one() {
        let page = include_str!("../../docs/metrics.md");
        for metric in ALL {
            let ty = match metric.ty {
                MetricType::Counter => "counter",
                MetricType::Gauge => "gauge",
                MetricType::Histogram(_) => "histogram",
            };
            let labels = metric.labels.join(", ");
            let row = format!("| `{}` | {ty} | {labels} | {} |", metric.name, metric.help);
            assert!(page.contains(&row), "docs/metrics.md lacks: {row}");
        }
    }

    #[test]
    fn names_follow_the_conventions() {
        for metric in ALL {
            assert!(metric.name.starts_with("modelog_"), "{}", metric.name);
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.ty == MetricType::Counter,
                "{}",
                metric.name
            );
            assert_eq!(
                ALL.iter().filter(|other| other.name == metric.name).count(),
                1,
                "{}",
                metric.name
            );
            if let MetricType::Histogram(buckets) = metric.ty {
                assert!(buckets.is_sorted(), "{}", metric.name);
            }
        }
    }
}
