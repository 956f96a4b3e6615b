//! `verify`: every byte of a data directory, segments and Parquet files, in one report.
//!
//! Nothing is opened as a log and no lock is taken. So it works beside a running server, on a backup, and on a directory
//! that refuses to open, of which it says all that is wrong and not only the first of it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use indicatif::{HumanBytes, ProgressBar};
use modelog_engine::backup::MARK;
use modelog_engine::inspect::{self, Finding, SegmentReader, Severity};
use modelog_engine::{LocalStorage, LogError, Offset, Storage};
use modelog_parquet::layout::MANIFEST;
use modelog_parquet::verify::{self, Progress};
use serde_json::{Value, json};

use crate::config::Settings;
use crate::exit::Exit;
use crate::output::{self, Rows, Shape, Tone, counted};
use crate::{place, progress};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  modelog verify
  modelog verify --data /var/backups/ml/20261122T170000Z-00000000000000041000

Exits with 65 if acknowledged events may be lost. A write that was under way when the machine went down is no damage:
opening the log sets it aside.")]
pub(crate) struct VerifyArgs {
    #[arg(long, value_enum, default_value_t)]
    format: Shape,
}

/// What was found out.
struct Report {
    /// None if the log's manifest cannot be read.
    log: Option<inspect::Verification>,
    /// None if there are no Parquet files, and there need not be any.
    parquet: Option<verify::Verification>,
    findings: Vec<Finding>,
}

/// Checks every byte.
///
/// # Errors
/// If the directory cannot be read at all; damage is what it prints.
pub(crate) fn verify(settings: &Settings, args: &VerifyArgs) -> Result<ExitCode> {
    place::must_be_restored(&settings.data)?;
    let parquet = parquet_of(settings);
    if !parquet.join(MANIFEST).exists() {
        place::must_exist(&settings.data)?;
    }
    let report = Report::of(&settings.data, &parquet)?;
    match args.format {
        Shape::Table => report.print()?,
        Shape::Json => output::json(&report.to_json())?,
        Shape::Ndjson => output::ndjson(report.findings.iter().map(finding))?,
    }
    Ok(if report.is_damaged() {
        Exit::BadData.into()
    } else {
        ExitCode::SUCCESS
    })
}

/// Where the Parquet files lie. A backup has them beside its log, whatever the configuration says of the data directory.
fn parquet_of(settings: &Settings) -> PathBuf {
    if settings.data.join(MARK).exists() {
        settings.data.join("parquet")
    } else {
        settings.parquet.path.clone()
    }
}

impl Report {
    fn of(data: &Path, parquet: &Path) -> Result<Self> {
        let mut findings = Vec::new();
        let spinner = progress::spinner("reading the log");
        let verified = inspect::verify(data);
        spinner.finish_and_clear();
        let log = match verified {
            Ok(mut log) => {
                findings.append(&mut log.findings);
                Some(log)
            }
            // A manifest that cannot be read is damage like any other; Parquet can be looked at without it.
            Err(error) => {
                findings.push(unreadable(data, error)?);
                None
            }
        };
        let storage: Arc<dyn Storage> = Arc::new(LocalStorage);
        // Segments that cannot be read were found above: nothing is compared with them.
        let segments = SegmentReader::open(Arc::clone(&storage), data).ok();
        let bar = progress::bytes(0, "reading the Parquet files");
        let verified = verify::verify(parquet, &storage, segments, &mut |at| show(&bar, at));
        bar.finish_and_clear();
        let mut verified = verified?;
        findings.append(&mut verified.findings);
        let any = verified.log.is_some() || verified.files > 0;
        Ok(Self {
            log,
            parquet: any.then_some(verified),
            findings,
        })
    }

    fn is_damaged(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.severity == Severity::Corrupt)
    }

    /// How far events go that can be read.
    fn end(&self) -> Offset {
        let log = self.log.as_ref().map(|log| log.end);
        let parquet = self.parquet.as_ref().map(|parquet| parquet.cold_end);
        log.or(parquet).unwrap_or_default()
    }

    fn print(&self) -> Result<()> {
        findings(&self.findings)?;
        let verdict = if self.is_damaged() {
            "damaged"
        } else {
            "sound"
        };
        let mut parts = Vec::new();
        if let Some(log) = &self.log {
            parts.push(format!(
                "{} in {} and {}, {}",
                counted(log.events, "event"),
                counted(log.frames, "frame"),
                counted(log.segments, "segment"),
                HumanBytes(log.bytes),
            ));
        }
        if let Some(parquet) = &self.parquet {
            parts.push(format!(
                "{} in {}, {}, with everything before offset {}",
                counted(parquet.rows, "row"),
                counted(parquet.files, "Parquet file"),
                HumanBytes(parquet.bytes),
                parquet.cold_end,
            ));
            if parquet.compared > 0 {
                parts.push(format!(
                    "{} the same in both",
                    counted(parquet.compared, "event")
                ));
            }
        }
        let parts = parts.join("; ");
        output::line(&format!("{verdict}: {parts}, up to offset {}", self.end()))?;
        Ok(())
    }

    fn to_json(&self) -> Value {
        let log = self.log.as_ref();
        let count = |what: fn(&inspect::Verification) -> u64| log.map_or(0, what);
        let parquet = self.parquet.as_ref().map(|parquet| {
            json!({
                "log": parquet.log,
                "cold_end": parquet.cold_end,
                "files": parquet.files,
                "rows": parquet.rows,
                "bytes": parquet.bytes,
                "compared": parquet.compared,
            })
        });
        json!({
            "log": log.map(|log| log.log).or(self.parquet.as_ref().and_then(|parquet| parquet.log)),
            "sound": !self.is_damaged(),
            "segments": count(|log| log.segments),
            "frames": count(|log| log.frames),
            "events": count(|log| log.events),
            "bytes": count(|log| log.bytes),
            "end_offset": self.end(),
            "cold_end": log.map(|log| log.cold_end),
            "parquet": parquet,
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
        })
    }
}

/// The finding that the log's manifest cannot be read.
fn unreadable(data: &Path, error: LogError) -> Result<Finding> {
    let (path, position, what) = match error {
        LogError::Corrupt {
            path,
            position,
            reason,
            ..
        } => (path, position, reason),
        LogError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            let what = "the log is missing, beside its Parquet files".to_owned();
            (data.join("log").join("MANIFEST"), 0, what)
        }
        error => return Err(error.into()),
    };
    Ok(Finding {
        path,
        position,
        offset: None,
        severity: Severity::Corrupt,
        what,
    })
}

fn show(bar: &ProgressBar, at: Progress) {
    let (what, position, of) = match at {
        Progress::Files { bytes, of } => ("reading the Parquet files", bytes, of),
        Progress::Places { offsets, of } => ("checking offsets", offsets, of),
        Progress::Segments { events, of } => ("comparing with the segments", events, of),
    };
    bar.set_message(what);
    bar.set_length(of);
    bar.set_position(position);
}

fn severity(severity: Severity) -> (&'static str, Tone) {
    match severity {
        Severity::Corrupt => ("corrupt", Tone::Bad),
        Severity::Torn => ("torn", Tone::Warning),
        Severity::Notice => ("notice", Tone::Plain),
    }
}

fn finding(finding: &Finding) -> Value {
    json!({
        "severity": severity(finding.severity).0,
        "path": finding.path,
        "position": finding.position,
        "offset": finding.offset,
        "what": finding.what,
    })
}

fn findings(findings: &[Finding]) -> Result<()> {
    if findings.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new(&["severity", "file", "byte", "events from", "what"]);
    for finding in findings {
        let (word, tone) = severity(finding.severity);
        let offset = finding.offset.map(|offset| offset.to_string());
        rows.push([
            (word.to_owned(), tone),
            (finding.path.display().to_string(), Tone::Plain),
            (finding.position.to_string(), Tone::Plain),
            (offset.unwrap_or_default(), Tone::Plain),
            (finding.what.clone(), Tone::Plain),
        ]);
    }
    Ok(rows.print()?)
}
