//! Entities out of their hashes: what they are called, and what they say.

use std::sync::Arc;

use modelog_engine::Timestamp;
use modelog_engine::event::{EntityKind, EntityRef, Kind};

use super::bad::Bad;
use super::event::{Draft, Event};
use super::fields::{Fields, Taken};
use super::key::Id;
use super::names::{MODEL, Named, Names, RUN, Refers};
use super::values;

pub(super) const CREATED: &[&str] = &[
    "created_at",
    "created",
    "registered_at",
    "timestamp",
    "time",
    "date",
];
const STARTED: &[&str] = &[
    "started_at",
    "start_time",
    "created_at",
    "created",
    "timestamp",
    "time",
];

/// Fields that name an entity, and that say when it came to be.
fn naming(kind: EntityKind) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        EntityKind::Model => (&["model", "name", "model_name"], CREATED),
        EntityKind::Version => (
            &["version", "version_number", "version_name", "name"],
            CREATED,
        ),
        EntityKind::Dataset => (&["dataset", "name", "dataset_name"], CREATED),
        EntityKind::Experiment => (&["experiment", "name", "experiment_name"], CREATED),
        EntityKind::Run => (&["run", "run_id", "run_uuid", "uuid"], STARTED),
    }
}

/// What indices say of an entity whose hash does not say it.
#[derive(Clone, Debug, Default)]
pub(super) struct Indexed {
    pub(super) name: Option<String>,
    pub(super) model: Option<Id>,
}

/// What an entity is called.
pub(super) fn name(
    kind: EntityKind,
    id: &Id,
    fields: &mut Fields,
    indexed: Indexed,
    id_prefix: &str,
    names: &Names,
) -> Result<Named, Bad> {
    let model = match kind {
        EntityKind::Version => Some(model_of(fields, &indexed, names)?),
        _ => None,
    };
    let (fields_of_name, fields_of_time) = naming(kind);
    let by_id = || match (kind, id) {
        (EntityKind::Run, id) => Some(format!("{id_prefix}{id}")),
        (_, Id::Word(word)) => Some(values::name_of(word)),
        (_, Id::Number(_)) => None,
    };
    let said = fields.text(fields_of_name);
    // A run that only repeats its number has no other name.
    let said = said.filter(|said| kind != EntityKind::Run || *said != id.to_string());
    let name = said.or(indexed.name).or_else(by_id);
    let name = name.ok_or_else(|| Bad::of_key(&fields.key, "nothing says what it is called"))?;
    let version = (kind == EntityKind::Dataset).then(|| fields.text(DATASET_VERSION));
    Ok(Named {
        name: name.into(),
        model,
        version: version.flatten().map(Into::into),
        time: fields.time(fields_of_time)?,
    })
}

fn model_of(fields: &mut Fields, indexed: &Indexed, names: &Names) -> Result<Arc<str>, Bad> {
    if let Some(model) = names.of(&MODEL, fields)? {
        return Ok(model.name);
    }
    let model = indexed.model.as_ref();
    let model = model
        .ok_or_else(|| Bad::of_key(&fields.key, "nothing says of which model it is a version"))?;
    Ok(Arc::clone(
        &names.owner(EntityKind::Model, model, &fields.key)?.name,
    ))
}

pub(super) const DATASET_VERSION: &[&str] = &["version", "dataset_version"];
const DESCRIPTION: &[&str] = &["description", "desc"];

/// What a hash of an entity says.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// In order.
    pub(super) events: Vec<Event>,
    /// What follows all entities.
    pub(super) later: Vec<Later>,
    /// What could be left out of them, and was.
    pub(super) bad: Vec<Bad>,
}

/// An event that comes after those that are about what it is about.
#[derive(Debug)]
pub(super) enum Later {
    Alias(Event),
    /// How a run ended; with the digest of its start.
    End(End),
    Deleted(Event),
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) draft: Draft,
    /// The start it belongs to. A start that comes again opens the run again, so its end must come again too.
    pub(super) start: u64,
    pub(super) time: Option<Timestamp>,
}

impl End {
    pub(super) fn finish(mut self) -> Event {
        if let Some(time) = self.time {
            self.draft.time(time);
        }
        self.draft.finish_after(self.start)
    }
}

/// Puts fields into an event as they are, under the event's name for each.
pub(super) fn texts(draft: &mut Draft, fields: &mut Fields, wanted: &[(&str, &[&str])]) {
    for (name, names) in wanted {
        if let Some(text) = fields.text(names) {
            draft.text(name, &text);
        }
    }
}

pub(super) fn jsons(draft: &mut Draft, fields: &mut Fields, wanted: &[(&str, &[&str])]) {
    for (name, names) in wanted {
        if let Some(text) = fields.text(names) {
            draft.json(name, &values::to_json(&text));
        }
    }
}

/// Makes events of an entity.
///
/// # Errors
/// What the entity cannot be taken over for.
pub(super) fn entity(
    kind: EntityKind,
    id: &Id,
    mut fields: Fields,
    named: &Named,
    names: &Names,
) -> Result<Said, Bad> {
    let mut said = Said::default();
    // What was read for the name, and what only says how the database keeps it.
    fields.text(naming(kind).0);
    fields.time(naming(kind).1)?;
    fields.drop_if("id", &id.to_string());
    fields.drop_if(&format!("{kind}_id"), &id.to_string());
    fields.drop_all(&["log_offset"]);
    let deleted = fields.read(&["deleted"], "is neither true nor false", values::truth)?;
    let deleted_at = fields.time(&["deleted_at"])?;
    match kind {
        EntityKind::Model => model(&mut fields, named, names, &mut said),
        EntityKind::Version => version(&mut fields, named, names, &mut said)?,
        EntityKind::Dataset => dataset(&mut fields, named, &mut said)?,
        EntityKind::Experiment => experiment(&mut fields, named, &mut said),
        EntityKind::Run => super::runs::run(id, &mut fields, named, names, &mut said)?,
    }
    if deleted == Some(true) {
        let reference = EntityRef {
            kind,
            parent: named.model.as_deref().map(str::to_owned),
            name: named.name.to_string(),
        };
        let mut draft = Draft::new(Kind::EntityDeleted);
        draft.text("entity", &reference.to_string());
        if let Some(time) = deleted_at.or(named.time) {
            draft.time(time);
        }
        said.later.push(Later::Deleted(draft.finish()));
    }
    Ok(said)
}

/// The last of a creation: tags and time.
pub(super) fn created(mut draft: Draft, fields: &mut Fields, named: &Named) -> Event {
    draft.object("tags", &fields.rest());
    if let Some(time) = named.time {
        draft.time(time);
    }
    draft.finish()
}

fn model(fields: &mut Fields, named: &Named, names: &Names, said: &mut Said) {
    let mut draft = Draft::new(Kind::ModelCreated);
    draft.text("model", &named.name);
    texts(
        &mut draft,
        fields,
        &[
            ("architecture", &["architecture", "arch"]),
            ("framework", &["framework"]),
            ("task_type", &["task_type", "task"]),
            ("description", DESCRIPTION),
        ],
    );
    if let Some(taken) = fields.take(&["aliases"]) {
        match values::members(&taken.text) {
            Some(aliases) => aliases.into_iter().for_each(|(alias, version)| {
                said.later.extend(aliased(named, &alias, &version, names))
            }),
            None => fields.put_back(taken),
        }
    }
    said.events.push(created(draft, fields, named));
}

/// An alias, whose version is a number or a name.
fn aliased(model: &Named, alias: &str, version: &str, names: &Names) -> Option<Later> {
    let version = values::plain(version);
    let known = names.get(EntityKind::Version, &Id::of(&version));
    let known = known.filter(|known| known.model.as_ref() == Some(&model.name));
    let version = known.map_or(&*version, |known| &known.name);
    if values::is_absent(version) {
        return None;
    }
    let mut draft = Draft::new(Kind::ModelVersionAliased);
    draft.text("model", &model.name);
    draft.text("alias", alias);
    draft.text("version", version);
    if let Some(time) = model.time {
        draft.time(time);
    }
    Some(Later::Alias(draft.finish()))
}

fn version(fields: &mut Fields, named: &Named, names: &Names, said: &mut Said) -> Result<(), Bad> {
    let mut draft = Draft::new(Kind::ModelVersionCreated);
    let model = named.model.as_deref().unwrap_or_default();
    draft.text("model", model);
    draft.text("version", &named.name);
    // It was resolved when the name was read.
    names.of(&MODEL, fields)?;
    texts(
        &mut draft,
        fields,
        &[
            (
                "checkpoint_path",
                &[
                    "checkpoint_path",
                    "checkpoint_uri",
                    "checkpoint",
                    "path",
                    "uri",
                    "model_path",
                    "file_path",
                    "weights_path",
                    "artifact_path",
                    "artifact_uri",
                    "location",
                ],
            ),
            ("digest", &["digest", "checksum", "sha256", "hash"]),
            ("description", DESCRIPTION),
        ],
    );
    jsons(
        &mut draft,
        fields,
        &[
            ("config", &["config", "configuration"]),
            ("signature", &["signature"]),
        ],
    );
    if let Some(run) = optional(&RUN, fields, names, said) {
        draft.text("run", &run.name);
    }
    said.events.push(created(draft, fields, named));
    Ok(())
}

fn dataset(fields: &mut Fields, named: &Named, said: &mut Said) -> Result<(), Bad> {
    let mut draft = Draft::new(Kind::DatasetRegistered);
    draft.text("dataset", &named.name);
    texts(
        &mut draft,
        fields,
        &[
            ("version", DATASET_VERSION),
            (
                "uri",
                &["uri", "path", "location", "url", "source", "file_path"],
            ),
            ("digest", &["digest", "checksum", "sha256", "hash"]),
        ],
    );
    jsons(
        &mut draft,
        fields,
        &[
            ("split_info", &["split_info", "splits", "split"]),
            ("schema", &["schema"]),
        ],
    );
    let rows = &[
        "row_count",
        "rows",
        "num_rows",
        "n_rows",
        "num_samples",
        "n_samples",
        "sample_count",
    ];
    if let Some(rows) = fields.read(rows, "is no whole number", values::int)? {
        draft.json("row_count", &rows.to_string());
    }
    said.events.push(created(draft, fields, named));
    Ok(())
}

fn experiment(fields: &mut Fields, named: &Named, said: &mut Said) {
    let mut draft = Draft::new(Kind::ExperimentCreated);
    draft.text("experiment", &named.name);
    texts(&mut draft, fields, &[("description", DESCRIPTION)]);
    said.events.push(created(draft, fields, named));
}

/// What an entity can do without: where it is bad it is left out, and stays as a tag.
pub(super) fn optional(
    refers: &Refers<'_>,
    fields: &mut Fields,
    names: &Names,
    said: &mut Said,
) -> Option<Named> {
    let kept: Vec<Taken> = refers
        .ids
        .iter()
        .chain(refers.names)
        .filter_map(|name| fields.peek(name))
        .collect();
    match names.of(refers, fields) {
        Ok(found) => found,
        Err(bad) => {
            said.bad.push(bad);
            kept.into_iter().for_each(|taken| fields.put_back(taken));
            None
        }
    }
}
