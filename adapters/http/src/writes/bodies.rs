//! What bodies look like, for the API's description: made from the engine's own table of fields.

use modelog_engine::event::Kind;
use modelog_engine::event::schema::{self, FieldType, Presence};
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, KnownFormat, OneOfBuilder, Schema, SchemaFormat,
    SchemaType, Type,
};
use utoipa::openapi::{ComponentsBuilder, ObjectBuilder, OpenApi, Ref, RefOr};

/// Bodies of the unified API: name, kind, fields that the path or the server gives, and whether an array is taken.
const BODIES: &[(&str, Kind, &[&str], bool)] = &[
    ("NewModel", Kind::ModelCreated, &[], true),
    ("NewVersion", Kind::ModelVersionCreated, &["model"], true),
    ("NewDataset", Kind::DatasetRegistered, &[], true),
    ("NewExperiment", Kind::ExperimentCreated, &[], true),
    ("NewRun", Kind::RunStarted, &["run"], true),
    ("NewParams", Kind::HyperparametersLogged, &["run"], true),
    ("NewRunMetrics", Kind::MetricLogged, &["run"], true),
    (
        "NewVersionMetrics",
        Kind::MetricLogged,
        &["model", "version"],
        true,
    ),
    ("NewRunArtifacts", Kind::ArtifactLogged, &["run"], true),
    (
        "NewVersionArtifacts",
        Kind::ArtifactLogged,
        &["model", "version"],
        true,
    ),
    ("NewFinish", Kind::RunFinished, &["run"], false),
    ("NewPredictions", Kind::PredictionLogged, &[], true),
    ("NewFeedback", Kind::FeedbackLogged, &[], true),
    (
        "NewAlias",
        Kind::ModelVersionAliased,
        &["model", "alias"],
        false,
    ),
    ("NewTags", Kind::TagsSet, &["entity"], false),
];

/// Adds the schemas that requests refer to.
pub(crate) fn add_schemas(api: &mut OpenApi) {
    let mut components = ComponentsBuilder::from(api.components.take().unwrap_or_default());
    let kinds = Kind::ALL.into_iter().filter(|kind| !kind.is_internal());
    let mut any = OneOfBuilder::new().description(Some("An event of any kind."));
    for kind in kinds {
        components = components.schema(kind.name(), fields(kind, &[], true));
        any = any.item(Ref::from_schema_name(kind.name()));
    }
    components = components.schema("Event", Schema::OneOf(any.build()));
    components = components.schema("EventOrEvents", one_or_many(reference("Event")));
    for (name, kind, given, array) in BODIES {
        let one = fields(*kind, given, false);
        let schema = if *array { one_or_many(one.into()) } else { one };
        components = components.schema(*name, schema);
    }
    api.components = Some(components.build());
}

fn reference(name: &str) -> RefOr<Schema> {
    Ref::from_schema_name(name).into()
}

fn one_or_many(one: RefOr<Schema>) -> Schema {
    let many = ArrayBuilder::new().items(one.clone()).build();
    OneOfBuilder::new().item(one).item(many).build().into()
}

/// An object with the fields of a kind. Other fields are kept in `extra`.
fn fields(kind: Kind, given: &[&str], with_type: bool) -> Schema {
    let mut object = ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(AdditionalProperties::FreeForm(true)));
    if with_type {
        let name = ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some([kind.name()]));
        object = object.property("type", name).required("type");
    }
    for field in schema::fields(kind).skip(1) {
        object = object.property(field.name, value(field.ty));
        if field.presence != Presence::Optional && !given.contains(&field.name) {
            object = object.required(field.name);
        }
    }
    object.build().into()
}

fn value(ty: FieldType) -> Schema {
    let typed = |ty| ObjectBuilder::new().schema_type(ty);
    let format = |format| Some(SchemaFormat::KnownFormat(format));
    match ty {
        FieldType::Text | FieldType::Bytes => typed(Type::String).build().into(),
        FieldType::Name(max) => typed(Type::String)
            .min_length(Some(1))
            .max_length(Some(max))
            .build()
            .into(),
        FieldType::Word(words) => typed(Type::String)
            .enum_values(Some(words.iter().copied()))
            .build()
            .into(),
        FieldType::Entity => typed(Type::String)
            .description(Some("Such as `model/resnet50` or `version/resnet50@v1`."))
            .build()
            .into(),
        FieldType::Json => ObjectBuilder::new()
            .schema_type(SchemaType::AnyValue)
            .description(Some("Any JSON, kept byte for byte."))
            .build()
            .into(),
        FieldType::JsonObject => typed(Type::Object)
            .description(Some("Kept byte for byte."))
            .build()
            .into(),
        FieldType::Int | FieldType::Ord => typed(Type::Integer)
            .format(format(KnownFormat::Int64))
            .build()
            .into(),
        FieldType::Float => OneOfBuilder::new()
            .item(typed(Type::Number).format(format(KnownFormat::Double)))
            .item(typed(Type::String).enum_values(Some(["NaN", "Infinity", "-Infinity"])))
            .build()
            .into(),
        FieldType::Bool => typed(Type::Boolean).build().into(),
        FieldType::Time => OneOfBuilder::new()
            .item(typed(Type::String).format(format(KnownFormat::DateTime)))
            .item(
                typed(Type::Integer)
                    .format(format(KnownFormat::Int64))
                    .description(Some("Microseconds since 1970-01-01, UTC.")),
            )
            .build()
            .into(),
    }
}
