//! `verify` and `log inspect`: the log's files, read without opening the log, so that they can be looked at beside a
//! running server and when the log refuses to open.

mod verify;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use indicatif::HumanBytes;
use modelog_engine::inspect::{self, FrameContent, FrameSummary, SegmentSummary};
use modelog_engine::origin::{Origin, Source};
use modelog_engine::{Offset, Timestamp};
use serde_json::{Value, json};

use crate::config::Settings;
use crate::exit::Failed;
use crate::output::{self, Rows, Shape, Tone, counted};
use crate::place;
pub(crate) use verify::{VerifyArgs, verify};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  modelog log inspect                              the segments, oldest first
  modelog log inspect 0                            the frames of segment 0
  modelog log inspect copy/00000000000000000000-000000.seg")]
pub(crate) struct InspectArgs {
    /// A segment, by its number or its file; without it, all are listed
    segment: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    format: Shape,
}

/// Lists segments, or the frames of one.
///
/// # Errors
/// If the files cannot be read, or there is no such segment.
pub(crate) fn log(settings: &Settings, args: &InspectArgs) -> Result<()> {
    match &args.segment {
        None => {
            place::must_exist(&settings.data)?;
            let segments = inspect::segments(&settings.data)?;
            list(&segments, inspect::cold_end(&settings.data)?, args.format)
        }
        Some(segment) => {
            let path = find(&settings.data, segment)?;
            let frames = inspect::frames(&path)
                .with_context(|| format!("{} cannot be looked into", path.display()))?;
            frames_of(&frames, args.format)
        }
    }
}

/// The file of a segment that was named by number, by file name or by path.
fn find(data: &Path, segment: &str) -> Result<PathBuf> {
    let direct = PathBuf::from(segment);
    if direct.exists() {
        return Ok(direct);
    }
    place::must_exist(data)?;
    let segments = inspect::segments(data)?;
    let named = |known: &&SegmentSummary| {
        segment.parse() == Ok(known.number)
            || known.path.file_name().is_some_and(|name| name == segment)
    };
    let found = segments.iter().find(named).map(|known| known.path.clone());
    found.ok_or_else(|| {
        Failed::usage(format!(
            "{segment} is neither a file nor a segment of {}: `modelog log inspect` lists them",
            data.display()
        ))
    })
}

fn list(segments: &[SegmentSummary], cold_end: Offset, shape: Shape) -> Result<()> {
    // What is in Parquet too is kept for a while, and then only there.
    let cold = |segment: &SegmentSummary| segment.end_offset.is_some_and(|end| end <= cold_end);
    let line = |segment: &SegmentSummary| {
        json!({
            "number": segment.number,
            "path": segment.path,
            "first_offset": segment.first_offset,
            "end_offset": segment.end_offset,
            "bytes": segment.bytes,
            "sealed": segment.sealed,
            "cold": cold(segment),
        })
    };
    match shape {
        Shape::Table => {
            let mut rows = Rows::new(&[
                "segment",
                "first offset",
                "end offset",
                "size",
                "state",
                "file",
            ]);
            for segment in segments {
                let end = segment.end_offset.map(|end| end.to_string());
                let state = match (segment.sealed, cold(segment)) {
                    (false, _) => "open",
                    (true, false) => "sealed",
                    (true, true) => "in Parquet",
                };
                rows.plain([
                    segment.number.to_string(),
                    segment.first_offset.to_string(),
                    end.unwrap_or_default(),
                    HumanBytes(segment.bytes).to_string(),
                    state.to_owned(),
                    segment.path.display().to_string(),
                ]);
            }
            rows.print()?;
            output::line(&format!(
                "everything before offset {cold_end} is in Parquet"
            ))?;
        }
        Shape::Json => output::json(&json!({
            "cold_end": cold_end,
            "segments": segments.iter().map(line).collect::<Vec<_>>(),
        }))?,
        Shape::Ndjson => output::ndjson(segments.iter().map(line))?,
    }
    Ok(())
}

fn frames_of(frames: &[FrameSummary], shape: Shape) -> Result<()> {
    match shape {
        Shape::Table => {
            let mut rows = Rows::new(&["byte", "size", "offset", "time", "content", "from"]);
            for frame in frames {
                let damaged = matches!(frame.what, FrameContent::Damaged);
                let time = append_time(frame);
                let (what, from) = describe(&frame.what);
                let tone = if damaged { Tone::Bad } else { Tone::Plain };
                rows.push([
                    (frame.position.to_string(), Tone::Plain),
                    (HumanBytes(frame.bytes).to_string(), Tone::Plain),
                    (frame.first_offset.to_string(), Tone::Plain),
                    (time.unwrap_or_default(), Tone::Plain),
                    (what, tone),
                    (from, Tone::Plain),
                ]);
            }
            rows.print()?;
        }
        Shape::Json => output::json(&frames.iter().map(frame).collect::<Vec<_>>())?,
        Shape::Ndjson => output::ndjson(frames.iter().map(frame))?,
    }
    Ok(())
}

/// A new log's first frame was written before there was any time to state.
fn append_time(frame: &FrameSummary) -> Option<String> {
    let stated = !matches!(frame.what, FrameContent::Damaged) && frame.append_time > Timestamp::MIN;
    stated.then(|| frame.append_time.to_string())
}

fn describe(content: &FrameContent) -> (String, String) {
    match content {
        FrameContent::Events {
            kinds,
            origins,
            names,
        } => {
            let mut parts: Vec<_> = kinds
                .iter()
                .map(|(kind, rows)| format!("{} {kind}", output::thousands(*rows as u64)))
                .collect();
            if *names > 0 {
                parts.push(counted(*names as u64, "new name"));
            }
            let from: Vec<_> = origins.iter().map(origin).collect();
            (parts.join(", "), from.join("; "))
        }
        FrameContent::State { sources } => (
            format!("where {} stood", counted(*sources as u64, "source")),
            String::new(),
        ),
        FrameContent::Closing => ("closed in order".into(), String::new()),
        FrameContent::Damaged => ("damaged".into(), String::new()),
    }
}

fn origin(origin: &Origin) -> String {
    match &origin.source {
        Source::Call { key, .. } => format!("key {}", shortened(key)),
        Source::Producer {
            id,
            epoch,
            sequence,
        } => format!(
            "producer {}, epoch {epoch}, sequence {sequence}",
            shortened(id)
        ),
        Source::Kafka {
            topic,
            partition,
            first,
            next,
            ..
        } => format!("{topic}/{partition} {first}..{next}"),
    }
}

/// The beginning of a name that is mostly a hash, for a table; JSON has all of it.
fn shortened(name: &str) -> String {
    const CHARACTERS_MAX: usize = 24;
    match name.char_indices().nth(CHARACTERS_MAX) {
        None => name.to_owned(),
        Some((end, _)) => format!("{}…", &name[..end]),
    }
}

fn frame(frame: &FrameSummary) -> Value {
    let (content, detail) = match &frame.what {
        FrameContent::Events {
            kinds,
            origins,
            names,
        } => {
            let kinds: serde_json::Map<_, _> = kinds
                .iter()
                .map(|(kind, rows)| (kind.name().to_owned(), json!(rows)))
                .collect();
            let origins: Vec<_> = origins.iter().map(source).collect();
            let detail = json!({"kinds": kinds, "origins": origins, "new_names": names});
            ("events", detail)
        }
        FrameContent::State { sources } => ("state", json!({"sources": sources})),
        FrameContent::Closing => ("closing", json!({})),
        FrameContent::Damaged => ("damaged", json!({})),
    };
    let damaged = matches!(frame.what, FrameContent::Damaged);
    json!({
        "position": frame.position,
        "bytes": frame.bytes,
        "first_offset": frame.first_offset,
        "append_time": append_time(frame),
        "durable_end": (!damaged).then_some(frame.durable_end),
        "content": content,
        "detail": detail,
    })
}

fn source(origin: &Origin) -> Value {
    let mut value = match &origin.source {
        Source::Call { key, .. } => json!({"source": "call", "key": &**key}),
        Source::Producer {
            id,
            epoch,
            sequence,
        } => json!({"source": "producer", "id": &**id, "epoch": epoch, "sequence": sequence}),
        Source::Kafka {
            cluster,
            topic,
            partition,
            first,
            next,
            ..
        } => json!({
            "source": "kafka", "cluster": &**cluster, "topic": &**topic, "partition": partition,
            "first": first, "next": next,
        }),
    };
    value["rows"] = json!(origin.rows);
    value["rejected"] = json!(origin.rejected);
    value["duplicates"] = json!(origin.duplicates);
    value
}
