//! `POST /v1/events`: events of any kinds, in any format, durable when it answers.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::Json;
use axum::extract::{Request, State};
use modelog_engine::event::Kind;
use modelog_engine::{AppendOptions, Channel, OnBacklog, OnConflict, OnCreate};
use modelog_formats::{Format, OnError, Options, decode};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::append::{Call, append, decoding};
use crate::body::{media_type, receive};
use crate::codes::Code;
use crate::problem::{Problem, Problems, WriteProblems};
use crate::query::Query;
use crate::retry::Retry;
use crate::state::AppState;

/// Routes that need the scope `ingest`.
pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(events))
}

/// Media types and what they are.
const FORMATS: [(&str, Format); 5] = [
    ("application/json", Format::Json),
    ("application/x-ndjson", Format::Ndjson),
    ("application/cloudevents+json", Format::CloudEvent),
    (
        "application/cloudevents-batch+json",
        Format::CloudEventBatch,
    ),
    ("application/vnd.apache.arrow.stream", Format::Arrow),
];

/// The media types, as errors list them.
static TAKEN: LazyLock<String> = LazyLock::new(|| FORMATS.map(|(name, _)| name).join(", "));

/// What became of a call.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Taken {
    /// Events that are in the log now.
    accepted: u32,
    /// Events that are in the log only as a record of having been rejected; with `?on_error=skip`.
    rejected: u32,
    /// Events that were in the log before.
    duplicates: u32,
    /// Offset of the first event appended; null if none was.
    first_offset: Option<u64>,
    /// Offset after the last event appended; null if none was.
    end_offset: Option<u64>,
    /// How often each field came that its kind does not have. They are kept in `extra`.
    unknown_fields: BTreeMap<String, u64>,
}

/// Appends events of any kinds, all or none, unless `on_error=skip`. They are durable when it answers.
#[utoipa::path(
    post,
    path = "/v1/events",
    tag = "events",
    params(
        ("on_error" = Option<String>, Query,
         description = "`refuse` (default): one bad event refuses the call. `skip`: good events are appended, bad ones recorded as `EventRejected`."),
        ("strict" = Option<bool>, Query, description = "Refuse fields that the kind does not have."),
        ("kind" = Option<String>, Query,
         description = "The kind of the events of an Arrow stream whose schema does not say it as `modelog.kind`."),
        ("Idempotency-Key" = Option<String>, Header,
         description = "Any string of up to 128 bytes: a repeat with the same key gets the first answer again."),
        ("Modelog-Producer" = Option<String>, Header,
         description = "`id;epoch;sequence`: calls are taken once and in order; a higher epoch fences older instances."),
        ("Content-Encoding" = Option<String>, Header, description = "`gzip` or `zstd`."),
    ),
    request_body(
        description = "Events; an empty body is an empty call. Bounded as sent and decompressed: 64 MiB unless configured otherwise.",
        content(
            (ref("#/components/schemas/EventOrEvents") = "application/json"),
            (String = "application/x-ndjson"),
            (Object = "application/cloudevents+json"),
            (Vec<Object> = "application/cloudevents-batch+json"),
            (ref("#/components/schemas/ArrowStream") = "application/vnd.apache.arrow.stream"),
        )
    ),
    responses(
        (status = 200, body = Taken, description = "The events are durable."),
        Problems,
        WriteProblems,
    )
)]
async fn events(State(state): State<AppState>, request: Request) -> Result<Json<Taken>, Problem> {
    let (parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query(), &["on_error", "strict", "kind"])?;
    let media_type = media_type(&parts.headers, &TAKEN)?;
    let Some((_, format)) = FORMATS.into_iter().find(|(name, _)| *name == media_type) else {
        return Err(Problem::new(
            Code::UnsupportedMediaType,
            format!("{media_type:?} is not taken here; taken: {}", *TAKEN),
        ));
    };
    let options = options(&state, &query, format)?;
    let append_options = AppendOptions {
        channel: Channel::Http,
        backlog: OnBacklog::Refuse,
        id_conflict: match options.on_error {
            OnError::Refuse => OnConflict::Refuse,
            OnError::Record => OnConflict::Record,
        },
        create: OnCreate::Merge,
    };
    let retry = Retry::of(&parts, &media_type)?;
    let call = Call {
        received: receive(&state, &parts.headers, body).await?,
        options: append_options,
        retry,
    };
    let done = append(&state, call, move |bytes| {
        Ok((decode(bytes, format, &options)?, ()))
    })
    .await?;
    let appended = done.appended;
    Ok(Json(Taken {
        accepted: appended.accepted,
        rejected: appended.rejected,
        duplicates: appended.duplicates,
        first_offset: appended.first.map(|first| first.0),
        end_offset: appended.first.map(|_| appended.end.0),
        unknown_fields: done.unknown_fields,
    }))
}

fn options(state: &AppState, query: &Query, format: Format) -> Result<Options, Problem> {
    let on_error = [("refuse", OnError::Refuse), ("skip", OnError::Record)];
    let kind = query
        .text("kind")
        .map(|kind| {
            kind.parse::<Kind>()
                .map_err(|error| Problem::bad_parameter("kind", format!("names no kind: {error}")))
        })
        .transpose()?;
    if kind.is_some() && format != Format::Arrow {
        return Err(Problem::bad_parameter(
            "kind",
            "is for Arrow streams; other events name their own",
        ));
    }
    Ok(Options {
        strict: query.flag("strict")?,
        on_error: query.word("on_error", &on_error)?.unwrap_or_default(),
        kind,
        ..decoding(state)
    })
}
