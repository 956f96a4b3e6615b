//! What the demo prints: short lines while it works, then tables made of the server's answers, then what to try.
//!
//! Nothing is wider than 80 columns but commands, which are made to be copied.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};

use super::figures::{duration, or_dash, percent, quoted, sparkline};
use super::readback::{Comparison, Difference, Findings, Interval, RunInShort, Shift};
use super::record::{MODEL, Service, Trained};
use crate::output::thousands;

/// Prints a line.
///
/// # Errors
/// If stdout cannot be written: it may have been closed.
pub(super) fn say(line: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// A heading, with air before it.
pub(super) fn heading(text: &str) -> io::Result<()> {
    say(format_args!("\n{text}"))
}

/// How a training went.
pub(super) fn trained(trained: &Trained) -> io::Result<()> {
    let candidate = trained.candidate;
    say(format_args!(
        "  {}  {:<26} {} epochs in {:<8} run {}",
        candidate.version,
        candidate.title,
        candidate.settings.epochs,
        duration(trained.took.as_secs_f64() * 1e3),
        trained.run,
    ))?;
    match &trained.made_by {
        None => Ok(()),
        Some(run) => say(format_args!(
            "      the same weights as those of run {run}: the version stays as it is"
        )),
    }
}

/// How the test images were served.
pub(super) fn served(service: &Service, images: usize) -> io::Result<()> {
    say(format_args!(
        "  {} images to each version: {} predictions and {} labels,\n  durable after {} calls and {}",
        thousands(images as u64),
        thousands(service.predictions as u64),
        thousands(service.labels as u64),
        service.calls,
        duration(service.took.as_secs_f64() * 1e3),
    ))
}

/// Everything the server said.
pub(super) fn findings(findings: &Findings) -> io::Result<()> {
    heading("Runs, newest first (GET /v1/runs, /v1/runs/{run}/metrics)")?;
    say(runs(&findings.runs))?;
    if findings.more_runs {
        say("  and older ones")?;
    }
    let comparison = &findings.comparison;
    heading("Which version is better? (GET /v1/compare)")?;
    say(versions(comparison))?;
    say(verdict(comparison))?;
    let totals = &findings.totals;
    heading("The log (GET /v1/stats)")?;
    say(format_args!(
        "  {} events: {} metric points, {} predictions, {} labels",
        thousands(totals.events),
        thousands(totals.metric_points),
        thousands(totals.predictions),
        thousands(totals.feedback),
    ))
}

fn runs(runs: &[RunInShort]) -> Table {
    let mut table = table(&[
        "run",
        "version",
        "status",
        "epochs",
        "loss\ntrain",
        "\nvalid.",
        "accuracy\ntrain",
        "\nvalid.",
        "loss by epoch\nvalid.",
    ]);
    for run in runs {
        let name: String = run.run.run.chars().rev().take(6).collect();
        let name: String = name.chars().rev().collect();
        let loss = |loss| or_dash(loss, |loss| format!("{loss:.3}"));
        table.add_row([
            format!("…{name}"),
            run.run.version.clone().unwrap_or_default(),
            run.run.status.clone().unwrap_or_default(),
            run.epochs.to_string(),
            loss(run.train.loss),
            loss(run.validation.loss),
            or_dash(run.train.accuracy, percent),
            or_dash(run.validation.accuracy, percent),
            sparkline(&run.curve, 13),
        ]);
    }
    align_right(&mut table, 3..=7);
    table
}

fn versions(comparison: &Comparison) -> Table {
    let (older, newer, difference) = (&comparison.b, &comparison.a, &comparison.difference);
    let mut table = table(&[
        "",
        &older.version,
        &newer.version,
        &format!("{} less {}", newer.version, older.version),
    ]);
    let both = |older: String, newer: String, difference: String| [older, newer, difference];
    let shift = |shift: Option<Shift>| or_dash(shift.map(|shift| shift.value), signed_duration);
    let mut row = |name: &str, cells: [String; 3]| {
        table.add_row([&[name.to_owned()], &cells[..]].concat());
    };
    row(
        "predictions",
        both(
            thousands(older.predictions),
            thousands(newer.predictions),
            String::new(),
        ),
    );
    for (name, older, newer, difference) in [
        (
            "inference time, p50",
            older.latency_ms_p50,
            newer.latency_ms_p50,
            difference.latency_ms_p50,
        ),
        (
            "p95",
            older.latency_ms_p95,
            newer.latency_ms_p95,
            difference.latency_ms_p95,
        ),
        (
            "p99",
            older.latency_ms_p99,
            newer.latency_ms_p99,
            difference.latency_ms_p99,
        ),
    ] {
        let name = format!("{name:>19}");
        row(
            &name,
            both(
                or_dash(older, duration),
                or_dash(newer, duration),
                shift(difference),
            ),
        );
    }
    row(
        "mean confidence",
        both(
            or_dash(older.confidence_mean, percent),
            or_dash(newer.confidence_mean, percent),
            points(difference.confidence_mean),
        ),
    );
    let labelled = |side: &super::readback::Side| {
        format!(
            "{} ({})",
            thousands(side.labelled),
            or_dash(side.label_coverage, |share| format!(
                "{:.0} %",
                share * 100.0
            ))
        )
    };
    row(
        "labelled",
        both(labelled(older), labelled(newer), String::new()),
    );
    row(
        "classified rightly",
        both(
            thousands(older.correct),
            thousands(newer.correct),
            String::new(),
        ),
    );
    row(
        "accuracy",
        both(
            with_interval(older.accuracy, older.accuracy_interval),
            with_interval(newer.accuracy, newer.accuracy_interval),
            points(difference.accuracy),
        ),
    );
    align_right(&mut table, 1..=3);
    table
}

fn verdict(comparison: &Comparison) -> String {
    let verdict = match comparison.winner() {
        Some(version) => format!(
            "  Winner: {version}. Chance alone does not explain the difference in accuracy."
        ),
        None => "  No winner: chance alone could explain the difference in accuracy.".into(),
    };
    let method = &comparison.method;
    format!(
        "{verdict}\n  Intervals hold at {:.0} %: {};\n  {}.",
        method.level * 100.0,
        method.share_interval,
        method.share_difference
    )
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_header(header.iter().copied());
    table
}

fn align_right(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for at in columns {
        if let Some(column) = table.column_mut(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn with_interval(share: Option<f64>, interval: Option<Interval>) -> String {
    let share = or_dash(share, percent);
    match interval {
        None => share,
        Some(Interval { lower, upper }) => {
            format!("{share} [{:.1}, {:.1}]", lower * 100.0, upper * 100.0)
        }
    }
}

/// A difference of shares, in percentage points.
fn points(difference: Option<Difference>) -> String {
    let Some(Difference { value, interval }) = difference else {
        return "–".into();
    };
    let value = format!("{:+.1} pp", value * 100.0);
    match interval {
        None => value,
        Some(Interval { lower, upper }) => {
            format!("{value} [{:+.1}, {:+.1}]", lower * 100.0, upper * 100.0)
        }
    }
}

fn signed_duration(milliseconds: f64) -> String {
    let sign = if milliseconds < 0.0 { '−' } else { '+' };
    format!("{sign}{}", duration(milliseconds.abs()))
}

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
    /// A run to look at.
    pub(super) run: &'a str,
    /// A prediction to look at.
    pub(super) version: &'a str,
}

/// What to try next: commands that run as printed.
pub(super) fn outlook(place: &Whereabouts<'_>) -> io::Result<()> {
    let program = std::env::args_os().next().map_or_else(
        || "modelog".into(),
        |program| quoted(&program.to_string_lossy()),
    );
    let data = quoted(&place.data.to_string_lossy());
    let database = quoted(&place.data.join("sqlite/modelog.db").to_string_lossy());
    let (base, run, version) = (place.base, place.run, place.version);
    heading("Try next")?;
    let mut try_out = |what: &str, command: &str| say(format_args!("\n  # {what}\n  {command}"));
    try_out(
        &format!("what {version} takes for what"),
        &format!(
            "sqlite3 -box {database} \"SELECT true_class, predicted_class, count(*) AS times \\\n    \
             FROM prediction_details WHERE version = '{version}' AND NOT correct \\\n    \
             GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 5\""
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
        (
            "which version is better",
            format!("/v1/compare?a={MODEL}@v2&b={MODEL}@v1"),
        ),
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
