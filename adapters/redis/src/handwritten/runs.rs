//! Runs: their starts and ends, their parameters and artifacts.

use modelog_engine::Timestamp;
use modelog_engine::event::{EntityKind, Kind};
use serde_json::value::RawValue;

use super::bad::Bad;
use super::entities::{
    CREATED, DATASET_VERSION, End, Later, Said, created, jsons, optional, texts,
};
use super::event::{Draft, Event};
use super::fields::{Fields, Taken};
use super::key::Id;
use super::names::{DATASET, EXPERIMENT, MODEL, Named, Names, RUN, Refers};
use super::values;

const ENDED: &[&str] = &[
    "finished_at",
    "end_time",
    "ended_at",
    "completed_at",
    "finish_time",
    "failed_at",
    "stopped_at",
];

const START_TEXTS: [(&str, &[&str]); 3] = [
    ("name", &["name", "run_name", "display_name"]),
    (
        "started_by",
        &["started_by", "user", "username", "user_name", "created_by"],
    ),
    (
        "code",
        &[
            "code",
            "git_commit",
            "git_sha",
            "git_hash",
            "commit",
            "commit_hash",
            "code_version",
        ],
    ),
];
const PARENT: Refers<'_> = Refers {
    kind: EntityKind::Run,
    ids: &["parent_run_id", "parent_id"],
    names: &["parent", "parent_run"],
};

/// How a run began, what belongs to it, and how it ended.
///
/// # Errors
/// It has a status, or a time, that cannot be understood.
pub(super) fn run(
    id: &Id,
    fields: &mut Fields,
    named: &Named,
    names: &Names,
    said: &mut Said,
) -> Result<(), Bad> {
    let mut draft = Draft::new(Kind::RunStarted);
    draft.text("run", &named.name);
    texts(&mut draft, fields, &START_TEXTS);
    // A run that was only spoken of has not started.
    let spoken_of = fields.text(&["has_started"]).as_deref() == Some("0");
    let dataset = references(&mut draft, id, fields, names, said);
    let end = end(fields, named)?;
    let belongings = belongings(fields, named, names, dataset.as_ref());
    if !spoken_of {
        said.events.push(created(draft, fields, named));
    }
    let start = said.events.last().map_or(0, |event| event.digest);
    said.events.extend(belongings);
    if let Some((draft, time)) = end {
        said.later.push(Later::End(End { draft, start, time }));
    }
    Ok(())
}

/// What a run's start says it is part of, and uses; answers which dataset.
fn references(
    draft: &mut Draft,
    id: &Id,
    fields: &mut Fields,
    names: &Names,
    said: &mut Said,
) -> Option<Named> {
    if let Some(parent) = optional(&PARENT, fields, names, said) {
        draft.text("parent", &parent.name);
    }
    let experiment = optional(&EXPERIMENT, fields, names, said).map(|found| found.name);
    if let Some(experiment) = experiment.or_else(|| names.experiments.get(id).cloned()) {
        draft.text("experiment", &experiment);
    }
    run_of_version(draft, fields, names, said);
    let dataset = optional(&DATASET, fields, names, said)?;
    draft.text("dataset", &dataset.name);
    Some(dataset)
}

/// Events about what is in the run's own hash: parameters, datasets, artifacts.
fn belongings(
    fields: &mut Fields,
    run: &Named,
    names: &Names,
    dataset: Option<&Named>,
) -> Vec<Event> {
    let mut events = Vec::new();
    for name in ["params", "hyperparameters", "hyperparams", "parameters"] {
        let params = object(fields, name);
        events.extend(params.and_then(|params| parameters(run, &params)));
    }
    let used = list(fields, "datasets", |used| dataset_used(run, used));
    // The version of a dataset has no place in the start of a run.
    if let Some(dataset) = dataset
        && let Some(version) = &dataset.version
        && used.is_empty()
    {
        let mut draft = Draft::new(Kind::DatasetUsed);
        draft.text("run", &run.name);
        draft.text("dataset", &dataset.name);
        draft.text("version", version);
        events.push(timed(draft, run));
    }
    events.extend(used);
    events.extend(list(fields, "artifacts", |produced| {
        artifact(produced, Some(run), names).ok()
    }));
    events
}

/// The last of an event that has no time but the run's.
fn timed(mut draft: Draft, run: &Named) -> Event {
    if let Some(time) = run.time {
        draft.time(time);
    }
    draft.finish()
}

fn run_of_version(draft: &mut Draft, fields: &mut Fields, names: &Names, said: &mut Said) {
    let kept = fields.clone();
    match names.version(fields) {
        Ok(Some(found)) => {
            draft.text("model", &found.model);
            draft.text("version", &found.version);
        }
        Ok(None) => {
            if let Some(model) = optional(&MODEL, fields, names, said) {
                draft.text("model", &model.name);
            }
        }
        Err(bad) => {
            said.bad.push(bad);
            *fields = kept;
        }
    }
}

/// How the run ended, if it did.
fn end(fields: &mut Fields, named: &Named) -> Result<Option<(Draft, Option<Timestamp>)>, Bad> {
    let time = fields.time(ENDED)?;
    let status = fields.take(&["status", "state"]);
    let error = fields.text(&[
        "error",
        "error_message",
        "exception",
        "failure_reason",
        "traceback",
    ]);
    let word = match &status {
        Some(taken) => {
            status_of(&taken.text).ok_or_else(|| fields.bad(taken, "is no status of a run"))?
        }
        // What has an end has ended, and what has an error, badly.
        None if error.is_some() => Some("failed"),
        None => time.map(|_| "finished"),
    };
    let Some(word) = word else {
        // Of a run that goes on, what is known of its end stays beside it.
        let error = error.map(|text| Taken {
            name: "error".into(),
            text,
        });
        let ended = time.map(|time| Taken {
            name: "finished_at".into(),
            text: time.to_string(),
        });
        let status = status.filter(|status| !status.text.eq_ignore_ascii_case("running"));
        [status, error, ended]
            .into_iter()
            .flatten()
            .for_each(|taken| fields.put_back(taken));
        return Ok(None);
    };
    let mut draft = Draft::new(Kind::RunFinished);
    draft.text("run", &named.name);
    draft.text("status", word);
    if let Some(error) = error {
        draft.text("error", &error);
    }
    if let Some(status) = status
        && !matches!(
            &*status.text,
            "finished" | "completed" | "failed" | "killed"
        )
    {
        draft.object(
            "extra",
            &[("original_status".into(), values::quoted(&status.text))],
        );
    }
    Ok(Some((draft, time)))
}

/// The status of a run as events have it: none while it runs, nothing if the word is unknown.
fn status_of(word: &str) -> Option<Option<&'static str>> {
    Some(match word.trim().to_ascii_lowercase().as_str() {
        "finished" | "completed" | "complete" | "success" | "succeeded" | "successful" | "done"
        | "ok" | "ended" => Some("finished"),
        "failed" | "failure" | "fail" | "error" | "errored" | "crashed" | "diverged" => {
            Some("failed")
        }
        "killed" | "cancelled" | "canceled" | "aborted" | "stopped" | "interrupted"
        | "terminated" | "timeout" | "preempted" => Some("killed"),
        "running" | "started" | "active" | "in_progress" | "in progress" | "training"
        | "created" | "pending" | "queued" | "scheduled" | "initialized" | "paused" | "new"
        | "unknown" => None,
        _ => return None,
    })
}

/// A field that is an object with members; nothing else is taken.
fn object(fields: &mut Fields, name: &str) -> Option<Vec<(String, String)>> {
    let taken = fields.take(&[name])?;
    match values::members(&taken.text) {
        Some(members) => Some(members),
        None => {
            fields.put_back(taken);
            None
        }
    }
}

/// Events of a field that is a list of objects; nothing if it is something else.
fn list(fields: &mut Fields, name: &str, event: impl Fn(Fields) -> Option<Event>) -> Vec<Event> {
    let Some(taken) = fields.take(&[name]) else {
        return Vec::new();
    };
    let elements: Option<Vec<&RawValue>> = serde_json::from_str(&taken.text).ok();
    let objects = elements.unwrap_or_default().into_iter();
    let objects: Option<Vec<_>> = objects
        .map(|element| Fields::of_json(&fields.key, element.get()))
        .collect();
    let events: Option<Vec<_>> = objects.unwrap_or_default().into_iter().map(event).collect();
    let events = events.unwrap_or_default();
    if events.is_empty() && taken.text.trim() != "[]" {
        fields.put_back(taken);
    }
    events
}

fn dataset_used(run: &Named, mut used: Fields) -> Option<Event> {
    let mut draft = Draft::new(Kind::DatasetUsed);
    draft.text("run", &run.name);
    draft.text("dataset", &used.text(&["dataset", "name"])?);
    texts(
        &mut draft,
        &mut used,
        &[("version", DATASET_VERSION), ("role", &["role", "split"])],
    );
    draft.object("extra", &used.rest());
    Some(timed(draft, run))
}

/// Parameters of a run, which are merged by name.
pub(super) fn parameters(run: &Named, params: &[(String, String)]) -> Option<Event> {
    if params.is_empty() {
        return None;
    }
    let mut draft = Draft::new(Kind::HyperparametersLogged);
    draft.text("run", &run.name);
    draft.object("params", params);
    Some(timed(draft, run))
}

/// An artifact of a run, or of a version.
///
/// # Errors
/// It says of neither, or not where it lies.
pub(super) fn artifact(
    mut fields: Fields,
    of: Option<&Named>,
    names: &Names,
) -> Result<Event, Bad> {
    let mut draft = Draft::new(Kind::ArtifactLogged);
    let uri = fields.text(&["uri", "path", "location", "url", "file_path"]);
    let uri = uri.ok_or_else(|| Bad::of_key(&fields.key, "nothing says where it lies"))?;
    draft.text("uri", &uri);
    let run = match of {
        Some(run) => Some(run.clone()),
        None => names.of(&RUN, &mut fields)?,
    };
    if let Some(run) = &run {
        draft.text("run", &run.name);
    }
    if let Some(version) = names.version(&mut fields)? {
        draft.text("model", &version.model);
        draft.text("version", &version.version);
    } else if run.is_none() {
        return Err(Bad::of_key(
            &fields.key,
            "nothing says of which run or version it is",
        ));
    }
    texts(
        &mut draft,
        &mut fields,
        &[
            ("name", &["name", "artifact_name"]),
            ("media_type", &["media_type", "mime_type", "content_type"]),
            ("digest", &["digest", "checksum", "sha256", "hash"]),
        ],
    );
    let bytes = &["size_bytes", "size", "bytes"];
    if let Some(bytes) = fields.read(bytes, "is no whole number", values::int)? {
        draft.json("size_bytes", &bytes.to_string());
    }
    jsons(&mut draft, &mut fields, &[("metadata", &["metadata"])]);
    let time = fields.time(CREATED)?.or(run.and_then(|run| run.time));
    fields.drop_all(&["id"]);
    draft.object("extra", &fields.rest());
    if let Some(time) = time {
        draft.time(time);
    }
    Ok(draft.finish())
}
