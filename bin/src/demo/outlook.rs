//! What to try after the demo: commands that run as they are printed. They may be wide, for they are made to be copied.

use std::io;
use std::path::Path;

use super::figures::{in_double_quotes, quoted};
use super::record::MODEL;
use super::report::{heading, say};

/// Where the program, its data and its API are, as commands name them.
#[derive(Debug)]
pub(super) struct Whereabouts<'a> {
    pub(super) data: &'a Path,
    /// Where the API is, or will be once it is served again.
    pub(super) base: &'a str,
    /// What `serve` must be told to be there.
    pub(super) listen: Option<String>,
    /// Whether the API stays up.
    pub(super) serving: bool,
    /// The comparison that was shown.
    pub(super) comparison: &'a str,
    /// A run to look at.
    pub(super) run: &'a str,
    /// A version to look at.
    pub(super) version: &'a str,
}

/// What to try next: commands that run as printed.
pub(super) fn suggest(place: &Whereabouts<'_>) -> io::Result<()> {
    let program = std::env::args_os().next().map_or_else(
        || "modelog".into(),
        |program| quoted(&program.to_string_lossy()),
    );
    let data = quoted(&place.data.to_string_lossy());
    let database = quoted(&place.data.join("sqlite/modelog.db").to_string_lossy());
    let (base, run, version) = (place.base, place.run, place.version);
    heading("Try next")?;
    let try_out = |what: &str, command: &str| say(format_args!("\n  # {what}\n  {command}"));
    try_out(
        &format!("what {version} takes for what"),
        &format!(
            "sqlite3 -box {database} \"\n    \
             SELECT true_class, predicted_class, count(*) AS times FROM prediction_details\n    \
             WHERE version = '{version}' AND NOT correct\n    \
             GROUP BY true_class, predicted_class ORDER BY times DESC LIMIT 5\""
        ),
    )?;
    let files = place.data.join("parquet/kind=PredictionLogged/*/*.parquet");
    let files = in_double_quotes(&files.to_string_lossy().replace('\'', "''"));
    try_out(
        &format!(
            "the history is Parquet, in {}: DuckDB, Polars, pandas and Spark read it",
            place.data.join("parquet").display()
        ),
        &format!(
            "duckdb -c \"\n    \
             SELECT version, count(*) AS predictions, round(avg(confidence), 3) AS confidence,\n           \
             round(quantile_cont(inference_time_ms, 0.95), 4) AS p95_ms\n    \
             FROM read_parquet('{files}', hive_partitioning = true)\n    \
             GROUP BY version ORDER BY version\""
        ),
    )?;
    try_out(
        "all predictions as a table",
        &format!(
            "{program} export --data {data} --kind PredictionLogged --format csv --out predictions.csv"
        ),
    )?;
    try_out(
        "every byte of the log is as it was written",
        &format!("{program} verify --data {data}"),
    )?;
    if !place.serving {
        let listen = place
            .listen
            .as_ref()
            .map_or_else(String::new, |listen| format!(" --listen {listen}"));
        try_out(
            "the API again; what follows needs it, in another terminal",
            &format!("{program} serve --data {data}{listen}"),
        )?;
    }
    for (what, path) in [
        ("which version is better", place.comparison.to_owned()),
        (
            "a learning curve",
            format!("/v1/runs/{run}/metrics/loss?split=val"),
        ),
        (
            "the newest predictions, with their labels",
            format!("/v1/models/{MODEL}/versions/{version}/predictions?limit=3"),
        ),
        ("what Prometheus sees", "/metrics".into()),
    ] {
        try_out(what, &format!("curl -s '{base}{path}'"))?;
    }
    Ok(())
}
